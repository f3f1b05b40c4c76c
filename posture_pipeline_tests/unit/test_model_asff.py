"""Pages of findings become rows; what cannot be read is set aside, counted and explained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model.asff import ParsedPages, parse_pages, parse_timestamps
from posture_pipeline.schemas import MERGED_FINDINGS, QUARANTINE

DAY = date(2026, 11, 23)
HUB = "arn:aws:securityhub:eu-west-1::product/aws/securityhub"
CONFIG = "arn:aws:securityhub:eu-west-1::product/aws/config"
LEAST = {"Id": "finding-1", "AwsAccountId": "012345678901"}


def parse(*records: Any, **page: Any) -> ParsedPages:
    body = json.dumps({"Findings": list(records), **page}).encode()
    return parse_pages([(7, body)], day=DAY, shard="0")


def row(**members: Any) -> dict[str, Any]:
    parsed = parse({**LEAST, **members})
    assert parsed.findings.height == 1, parsed.quarantine.to_dicts()
    return parsed.findings.row(0, named=True)


def reason(record: Any) -> str:
    parsed = parse(record)
    assert (parsed.findings.height, parsed.records) == (0, 1)
    return str(parsed.quarantine["reason"][0])


def test_a_consolidated_finding_fills_its_columns() -> None:
    finding = row(
        ProductArn=HUB,
        ProductName="Security Hub",
        AwsAccountName="xebia-shop-test",
        Region="eu-west-1",
        GeneratorId="security-control/S3.1",
        Title="S3 blocks public access",
        Types=["a", "b"],
        Compliance={
            "Status": "FAILED",
            "SecurityControlId": "S3.1",
            "AssociatedStandards": [{"StandardsId": "standards/x/v/1"}, {"StandardsId": "s/2"}],
            "StatusReasons": [{"ReasonCode": "A"}, {"ReasonCode": "B"}],
        },
        Workflow={"Status": "NOTIFIED"},
        RecordState="ARCHIVED",
        Severity={"Label": "HIGH", "Original": "8.1", "Normalized": 1},
        Resources=[{"Id": "r1", "Type": "AwsS3Bucket"}, {"Id": "r2"}],
        CreatedAt="2026-01-02T03:04:05.678Z",
        Note={"Text": "accepted", "UpdatedBy": "me", "UpdatedAt": "2026-01-02T03:04:05Z"},
        Remediation={"Recommendation": {"Url": "https://example.com"}},
        ProductFields={
            "PreviousComplianceStatus": "PASSED",
            "ArchivalReasons:0/ReasonCode": "X",
            "ArchivalReasons:1/ReasonCode": "Y",
        },
        Unknown={"Deep": [1, {"x": None}]},
    )
    expected = {
        "date": DAY,
        "account_id": "012345678901",
        "types": "a | b",
        "security_control_id": "S3.1",
        "standard_control_id": None,
        "standards": "standards/x/v/1 s/2",
        "consolidated": True,
        "compliance_status": "FAILED",
        "reason_codes": "A B",
        "workflow_status": "NOTIFIED",
        "record_state": "ARCHIVED",
        "severity_label": "HIGH",
        "resource_id": "r1",
        "resource_count": 2,
        "created_at": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
        "previous_compliance_status": "PASSED",
        "archival_reasons": "X Y",
        "note_text": "accepted",
        "remediation_url": "https://example.com",
        "shard": "0",
        "page": 7,
    }
    assert {name: finding[name] for name in expected} == expected


@pytest.mark.parametrize(
    "parsed", [parse(), parse(LEAST), parse(5), parse_pages([], day=DAY, shard="0")]
)
def test_the_columns_are_always_those_of_the_tables(parsed: ParsedPages) -> None:
    assert parsed.findings.schema == MERGED_FINDINGS.schema
    assert ["file", *parsed.quarantine.columns] == sorted(
        QUARANTINE.names, key=lambda name: (name != "file", QUARANTINE.names.index(name))
    )


def test_a_finding_of_nothing_but_an_id_and_an_account_is_readable() -> None:
    finding = row()
    assert finding["record_state"] == "ACTIVE"
    assert finding["resource_count"] == 0
    assert finding["consolidated"] is None


def test_every_member_may_be_null() -> None:
    members = (
        "ProductArn ProductName Region GeneratorId Title Types Compliance Workflow RecordState "
        "Severity Resources CreatedAt Note Remediation ProductFields AwsAccountName"
    )
    assert row(**dict.fromkeys(members.split()))["record_state"] == "ACTIVE"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (5, "is a number, not an object"),
        ("x", "is text, not an object"),
        (None, "is null, not an object"),
        ([], "is a list, not an object"),
        ({"AwsAccountId": "111122223333"}, "Id is missing"),
        ({"AwsAccountId": "111122223333", "Id": ""}, "Id is missing"),
        ({"AwsAccountId": "111122223333", "Id": 5}, "Id is a number, not text"),
        ({"Id": "a"}, "AwsAccountId is missing"),
        ({"Id": "a", "AwsAccountId": "12345"}, "AwsAccountId is '12345', not 12 digits"),
        ({"Id": "a", "AwsAccountId": ["1"]}, "AwsAccountId is a list, not text"),
        ({"class_uid": 2003, "metadata": {}}, "is an OCSF finding, not ASFF"),
    ],
)
def test_what_is_no_finding_is_set_aside_with_the_reason(record: Any, expected: str) -> None:
    assert reason(record) == expected


@pytest.mark.parametrize("compliance", [5, "PASSED", [], {"Status": ["FAILED"]}])
def test_a_wrong_type_that_would_change_the_score_makes_a_record_unreadable(
    compliance: Any,
) -> None:
    assert "$.Compliance" in reason({**LEAST, "Compliance": compliance})


@pytest.mark.parametrize(
    "members",
    [
        {"Note": {"Text": 5}},
        {"Note": "text"},
        {"Title": {"a": 1}},
        {"Types": [1, None, "a"]},
        {"Types": "a"},
        {"Severity": {"Normalized": "40"}},
        {"Severity": 7},
        {"CreatedAt": 1700000000},
        {"Remediation": {"Recommendation": {"Url": ["a"]}}},
        {"Resources": [{"Id": 5}]},
        {"ProductFields": {"ControlId": 1.1}},
        {"Compliance": {"Status": "PASSED", "StatusReasons": "none"}},
    ],
)
def test_a_wrong_type_in_an_unimportant_member_keeps_the_finding(members: dict[str, Any]) -> None:
    assert row(**members)["finding_id"] == "finding-1"


def test_an_unreadable_record_keeps_the_account_that_it_names() -> None:
    other = {"Resources": [{"AwsAccountId": "444455556666"}]}
    named = [
        {"AwsAccountId": "111122223333"},
        {"AwsAccountId": "111122223333", **other},
        {"Id": "a", "AwsAccountId": "1234"},
    ]
    parsed = parse(*named)
    assert parsed.findings.is_empty()
    assert parsed.quarantine["account_id"].to_list() == ["111122223333", None, None]


def test_an_unreadable_record_takes_nothing_with_it() -> None:
    parsed = parse({**LEAST, "Id": "a"}, 5, {**LEAST, "Id": "b"}, Source="export.json")
    assert parsed.findings["finding_id"].to_list() == ["a", "b"]
    assert parsed.quarantine.row(0, named=True) == {
        "date": DAY,
        "line": 7,
        "position": 1,
        "source": "export.json",
        "account_id": None,
        "reason": "is a number, not an object",
        "record": b"5",
    }
    assert parsed.records == 3


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"<html>", b'{"Findings":null}', b"\xff", b"[" * 100_000]
)
def test_an_unreadable_page_is_one_record(body: bytes) -> None:
    parsed = parse_pages([(0, body)], day=DAY, shard="0")
    assert parsed.records == parsed.quarantine.height == 1
    assert parsed.quarantine["position"].to_list() == [None]
    assert parsed.quarantine["record"].to_list() == [body]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (rb"half \ud83d character", "half \ufffd character"),
        (rb"escaped \\ud83d", "escaped \\ud83d"),
        (rb"whole \ud83d\ude00", "whole \U0001f600"),
        (rb"nul \u0000 inside", "nul \x00 inside"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_broken_text_is_mended(title: bytes, expected: str) -> None:
    body = b'{"Findings":[{"Id":"a","AwsAccountId":"111122223333","Title":"' + title + b'"}]}'
    findings = parse_pages([(0, body)], day=DAY, shard="0").findings
    assert findings["title"].to_list() == [expected]


def test_a_number_that_is_none_is_passed_over() -> None:
    body = b'{"Findings":[{"Id":"a","AwsAccountId":111122223333,"X":NaN}]}'
    assert parse_pages([(0, body)], day=DAY, shard="0").findings.height == 1


@pytest.mark.parametrize("lost", [12345678901, 12345678901.0, "12345678901"])
@pytest.mark.parametrize(
    "evidence",
    [
        {"Id": "arn:aws:securityhub:eu-west-1:012345678901:security-control/S3.1/finding/1"},
        {"ProductArn": "arn:aws:securityhub:eu-west-1:012345678901:product/012345678901/default"},
        {"Resources": [{"Id": "arn:aws:s3:::bucket"}, {"Id": "AWS::::Account:012345678901"}]},
    ],
)
def test_an_account_id_gets_its_leading_zeros_back_if_an_arn_of_the_finding_has_them(
    lost: Any, evidence: dict[str, Any]
) -> None:
    assert row(AwsAccountId=lost, **evidence)["account_id"] == "012345678901"


@pytest.mark.parametrize("lost", [12345678901, "12345678901", 1])
def test_a_short_account_id_without_evidence_is_set_aside(lost: Any) -> None:
    """It cannot be told from one that was cut at the end."""
    longer = {"Id": "arn:aws:s3:::a", "Resources": [{"Id": "arn:x:1012345678901:y"}]}
    assert "not 12 digits" in reason({**LEAST, **longer, "AwsAccountId": lost})


def test_a_whole_account_id_may_be_a_number() -> None:
    assert row(AwsAccountId=111122223333)["account_id"] == "111122223333"


@pytest.mark.parametrize("spelled", [str.lower, lambda name: re.sub("(?<!^)([A-Z])", r"_\1", name)])
def test_members_are_known_in_lower_case_and_with_underscores(
    spelled: Callable[[str], str],
) -> None:
    def respelled(value: Any) -> Any:
        if isinstance(value, list):
            return [respelled(each) for each in value]
        if isinstance(value, dict):
            return {spelled(name): respelled(each) for name, each in value.items()}
        return value

    members = {
        **LEAST,
        "ProductArn": HUB,
        "GeneratorId": "security-control/S3.1",
        "UpdatedAt": "2026-01-02T03:04:05Z",
        "Compliance": {
            "Status": "FAILED",
            "SecurityControlId": "S3.1",
            "AssociatedStandards": [{"StandardsId": "standards/x/v/1"}],
        },
        "Workflow": {"Status": "SUPPRESSED"},
        "Severity": {"Label": "HIGH"},
        "Resources": [{"Id": "r1", "Type": "AwsS3Bucket"}],
        "ProductFields": {"aws/config/ConfigRuleName": "rule"},
    }
    assert parse(respelled(members)).findings.equals(parse(members).findings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T01:02:03Z", datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)),
        ("2026-11-23T01:02:03.004Z", datetime(2026, 11, 23, 1, 2, 3, 4_000, tzinfo=UTC)),
        ("2026-11-23T01:02:03.000004Z", datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=UTC)),
        ("2026-11-23T01:02:03.123456789Z", datetime(2026, 11, 23, 1, 2, 3, 123_456, tzinfo=UTC)),
        ("2026-11-23T01:02:03+00:00", datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)),
        ("2026-11-23T01:02:03.5+02:00", datetime(2026, 11, 22, 23, 2, 3, 500_000, tzinfo=UTC)),
        ("2026-11-23T01:02:03-0530", datetime(2026, 11, 23, 6, 32, 3, tzinfo=UTC)),
        ("2026-11-23 01:02:03.123Z", datetime(2026, 11, 23, 1, 2, 3, 123_000, tzinfo=UTC)),
        ("2026-11-23T01:02:03", datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)),
        ("1795395723", datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)),
        ("1795395723.25", datetime(2026, 11, 23, 1, 2, 3, 250_000, tzinfo=UTC)),
        ("1795395723004", datetime(2026, 11, 23, 1, 2, 3, 4_000, tzinfo=UTC)),
        ("20261123", None),
        ("2026-02-30T01:02:03Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_timestamps_are_read_in_every_form(text: str | None, expected: datetime | None) -> None:
    alone = parse_timestamps(pl.Series([text], dtype=pl.String))
    among_others = parse_timestamps(pl.Series(["2026-11-23T01:02:03.004Z", text]))
    assert alone.to_list() == among_others.to_list()[1:] == [expected]


@pytest.mark.parametrize(
    ("normalized", "label"),
    [
        (0, "INFORMATIONAL"),
        (1, "LOW"),
        (39, "LOW"),
        (40, "MEDIUM"),
        (69, "MEDIUM"),
        (70, "HIGH"),
        (89, "HIGH"),
        (90, "CRITICAL"),
        (100, "CRITICAL"),
        (101, None),
        (None, None),
    ],
)
def test_a_missing_severity_label_comes_from_the_number(normalized: Any, label: Any) -> None:
    assert row(Severity={"Normalized": normalized})["severity_label"] == label


@pytest.mark.parametrize(
    ("severity", "label"),
    [
        ({"Label": "Critical"}, "CRITICAL"),
        ({"Label": " high "}, "HIGH"),
        ({"Label": "informational", "Normalized": 90}, "INFORMATIONAL"),
        ({"Label": "Severe", "Normalized": 70}, "HIGH"),
        ({"Label": "Severe"}, "SEVERE"),
        ({"Label": "", "Product": 8.0}, "HIGH"),
        ({"Product": 2}, "LOW"),
        ({"Product": 0}, "INFORMATIONAL"),
        ({"Product": 90}, "CRITICAL"),
        ({"Product": 90, "Normalized": 40}, "MEDIUM"),
        ({"Product": -1}, None),
    ],
)
def test_severity_labels_are_normalised(severity: dict[str, Any], label: str | None) -> None:
    assert row(Severity=severity)["severity_label"] == label


@pytest.mark.parametrize("moment", [1795395723, 1795395723000, 1795395723.0])
def test_times_may_be_numbers_since_1970(moment: float) -> None:
    assert row(UpdatedAt=moment)["updated_at"] == datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)


def test_a_missing_region_comes_from_the_product_arn() -> None:
    assert row(ProductArn=HUB)["region"] == "eu-west-1"
    assert row(ProductArn="odd")["region"] is None


def test_the_legacy_workflow_state_counts_only_where_it_is_clear() -> None:
    assert row(WorkflowState="RESOLVED")["workflow_status"] == "RESOLVED"
    assert row(WorkflowState="DEFERRED")["workflow_status"] is None
    assert row(WorkflowState="NEW", Workflow={"Status": "SUPPRESSED"})["workflow_status"] == (
        "SUPPRESSED"
    )


CIS = "arn:{}:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/2.5"


@pytest.mark.parametrize(
    ("generator", "standard", "control"),
    [
        (CIS.format("aws"), "ruleset/cis-aws-foundations-benchmark/v/1.2.0", "2.5"),
        (CIS.format("aws-us-gov"), "ruleset/cis-aws-foundations-benchmark/v/1.2.0", "2.5"),
        (
            "aws-foundational-security-best-practices/v/1.0.0/Config.1",
            "standards/aws-foundational-security-best-practices/v/1.0.0",
            "Config.1",
        ),
        ("pci-dss/v/3.2.1/PCI.IAM.5", "standards/pci-dss/v/3.2.1", "PCI.IAM.5"),
    ],
)
def test_a_per_standard_finding_counts_for_the_standard_of_its_generator(
    generator: str, standard: str, control: str
) -> None:
    finding = row(
        GeneratorId=generator,
        ProductArn=HUB,
        Compliance={"AssociatedStandards": [{"StandardsId": "standards/other/v/1"}]},
    )
    assert (finding["consolidated"], finding["standards"], finding["standard_control_id"]) == (
        False,
        standard,
        control,
    )


def test_a_per_standard_finding_is_known_by_its_product_fields_too() -> None:
    finding = row(
        ProductArn=HUB,
        GeneratorId="something else",
        ProductFields={
            "StandardsArn": "arn:aws:securityhub:eu-west-1::standards/pci-dss/v/3.2.1",
            "ControlId": "PCI.IAM.5",
        },
    )
    assert finding["standards"] == "standards/pci-dss/v/3.2.1"
    assert finding["standard_control_id"] == "PCI.IAM.5"


def test_another_products_look_alike_generator_is_no_per_standard_finding() -> None:
    finding = row(
        GeneratorId="tool/v/2/check",
        ProductArn="arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default",
        Compliance={"AssociatedStandards": [{"StandardsId": "CIS-1.4"}]},
    )
    assert (finding["consolidated"], finding["standards"]) == (None, "CIS-1.4")


def test_a_config_rule_is_known_by_its_product_field_or_its_title() -> None:
    by_field = row(
        ProductArn=CONFIG,
        Title="other",
        ProductFields={"aws/config/ConfigRuleName": "lz-s3-conformance-pack-szsm1uv0w"},
    )
    by_title = row(ProductArn=CONFIG, Title="OrgConfigRule-lz-s3-dbgzf8ba")
    assert by_field["rule_name"] == by_title["rule_name"] == "lz-s3"
    assert by_field["config_rule_name"] == "lz-s3-conformance-pack-szsm1uv0w"
    assert row(Title="lz-s3")["rule_name"] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Id", "AwsAccountId", "Compliance", "Status", "Types", "Note", "Text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FINDING = st.fixed_dictionaries(
    {"Id": st.just("a") | JSON, "AwsAccountId": st.just("111122223333") | JSON},
    optional=dict.fromkeys(
        ("Compliance", "Workflow", "Types", "Note", "Resources", "Severity", "Title"), JSON
    ),
)


@given(st.lists(st.lists(FINDING | JSON, max_size=4), max_size=4))
@settings(max_examples=150, deadline=None)
def test_every_record_in_is_a_row_out_or_in_the_quarantine(pages: list[list[Any]]) -> None:
    bodies = [json.dumps({"Findings": page}).encode() for page in pages]
    parsed = parse_pages(enumerate(bodies), day=DAY, shard="0")
    assert parsed.records == sum(map(len, pages))
    assert parsed.findings.height + parsed.quarantine.height == parsed.records
    assert parsed.findings["account_id"].str.contains(r"^\d{12}$").all()


@given(st.lists(st.binary(max_size=60), max_size=4))
@settings(max_examples=100, deadline=None)
def test_no_bytes_raise_an_error(bodies: list[bytes]) -> None:
    parsed = parse_pages(enumerate(bodies), day=DAY, shard="0")
    assert parsed.records == parsed.findings.height + parsed.quarantine.height


@pytest.mark.parametrize(
    ("arn", "product"),
    [
        (HUB, "aws/securityhub"),
        (CONFIG, "aws/config"),
        ("arn:aws-cn:securityhub:cn-north-1::product/aws/securityhub", "aws/securityhub"),
        ("arn:aws:securityhub:eu-west-1::productv2/aws/securityhub", "aws/securityhub"),
        ("arn:aws:securityhub:eu-west-1::product/prowler/prowler", "prowler/prowler"),
        (
            "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default",
            "111122223333/default",
        ),
        ("arn:aws:securityhub:eu-west-1:111122223333:subproduct/x/y", None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_a_product_is_what_follows_product_in_its_arn(arn: str | None, product: Any) -> None:
    assert row(ProductArn=arn, ProductName="Any name")["product"] == product


@pytest.mark.parametrize(
    ("resources", "provider"),
    [
        ([{"Id": "r", "Provider": "Azure"}], "AZURE"),
        ([{"Id": "r", "Provider": "AWS"}], "AWS"),
        ([{"Id": "r"}], "AWS"),
        ([], "AWS"),
    ],
)
def test_the_provider_is_aws_unless_the_finding_says_otherwise(
    resources: list[Any], provider: str
) -> None:
    assert row(Resources=resources)["provider"] == provider


RULE_ARN = "arn:aws:config:eu-west-1:111122223333:config-rule/config-rule-abc123"
PACK_RULE_ARN = (
    "arn:aws:config:eu-west-1:111122223333:config-rule/aws-service-rule/"
    "config-conforms.amazonaws.com/config-rule-abc123"
)


@pytest.mark.parametrize(
    ("members", "arn"),
    [
        ({"ProductFields": {"aws/config/ConfigRuleArn": RULE_ARN}, "GeneratorId": "x"}, RULE_ARN),
        ({"GeneratorId": PACK_RULE_ARN}, PACK_RULE_ARN),
        ({"GeneratorId": RULE_ARN}, None),
        ({"GeneratorId": "security-control/S3.1"}, None),
        ({}, None),
    ],
)
def test_a_config_rules_arn_is_its_product_field_or_the_generator_that_aws_made(
    members: dict[str, Any], arn: str | None
) -> None:
    assert row(**members)["config_rule_arn"] == arn


def test_a_config_findings_own_compliance_type_is_kept() -> None:
    fields = {"aws/config/ConfigComplianceType": "NOT_APPLICABLE"}
    assert row(ProductFields=fields)["config_compliance_type"] == "NOT_APPLICABLE"
    assert row()["config_compliance_type"] is None


def test_standards_named_by_arn_count_like_those_named_by_id() -> None:
    ids = ["standards/x/v/1.0.0", "ruleset/cis/v/1.2.0"]
    arns = ["arn:aws:securityhub:eu-west-1::standards/x/v/1.0.0", "arn:aws:securityhub:::" + ids[1]]
    for named in (ids, arns, [*ids, *arns]):
        associated = [{"StandardsId": each} for each in named]
        found = row(Compliance={"AssociatedStandards": associated})
        assert found["standards"] == "standards/x/v/1.0.0 ruleset/cis/v/1.2.0"


def test_the_other_resources_of_a_finding_are_kept_each_once() -> None:
    resources = [{"Id": each} for each in ("a", "b 1", "a", "c", "b 1", None)]
    found = row(Resources=resources)
    assert (found["resource_id"], found["more_resource_ids"]) == ("a", "b 1\nc")
    for few in ([{"Id": "a"}], [{"Id": "a"}, {"Id": "a"}], []):
        assert row(Resources=few)["more_resource_ids"] is None


def test_every_finding_says_when_its_snapshot_was_complete() -> None:
    body = json.dumps({"Findings": [LEAST]}).encode()
    moment = datetime(2026, 11, 23, 6, tzinfo=UTC)
    parsed = parse_pages([(0, body)], day=DAY, shard="0", collected_at=moment)
    assert parsed.findings["collected_at"].to_list() == [moment]


PACKS = (
    "arn:aws:config:r:1:config-rule/aws-service-rule/config-conforms.amazonaws.com/config-rule-a"
)
ORGANIZATIONS = PACKS.replace("config-conforms", "config-multiaccountsetup")


@pytest.mark.parametrize(
    ("arn", "name", "rule", "suffix"),
    [
        (PACKS, "lz-s3-conformance-pack-szsm1uv0w", "lz-s3", "szsm1uv0w"),
        (RULE_ARN, "x-conformance-pack-abcdef", "x-conformance-pack-abcdef", None),
        (RULE_ARN, "OrgConfigRule-x-dbgzf8ba", "OrgConfigRule-x-dbgzf8ba", None),
        (ORGANIZATIONS, "OrgConfigRule-x-dbgzf8ba", "x", None),
        (
            ORGANIZATIONS,
            "OrgConfigRule-x-conformance-pack-abcdef-dbgzf8ba",
            "x-conformance-pack-abcdef",
            None,
        ),
        (PACKS, "OrgConfigRule-x-conformance-pack-abcdef", "OrgConfigRule-x", "abcdef"),
        (PACKS.replace("arn:aws:", "arn:aws-cn:"), "x-conformance-pack-abcdef", "x", "abcdef"),
        ("nonsense", "x-conformance-pack-abcdef", "x", "abcdef"),
        (None, "x-conformance-pack-abcdef", "x", "abcdef"),
        (None, "OrgConfigRule-x-dbgzf8ba", "x", None),
    ],
)
def test_what_aws_adds_to_a_rules_name_is_cut_only_where_its_arn_says_that_aws_did(
    arn: str | None, name: str, rule: str, suffix: str | None
) -> None:
    fields = {"aws/config/ConfigRuleName": name, "aws/config/ConfigRuleArn": arn}
    found = row(ProductArn=CONFIG, GeneratorId="x", ProductFields=fields)
    assert (found["rule_name"], found["pack_suffix"]) == (rule, suffix)


SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"


def of_cloud(provider: str | None, owner: Any) -> dict[str, Any]:
    account = {"Account": {"Id": owner}} if isinstance(owner, str) else owner
    return row(
        AwsAccountName="the connector's",
        Resources=[{"Id": "vm", "Provider": provider, "Owner": account}],
    )


@pytest.mark.parametrize(
    ("provider", "owner", "scope"),
    [
        ("Azure", SUBSCRIPTION, SUBSCRIPTION),
        ("AZURE", SUBSCRIPTION.upper(), SUBSCRIPTION),
        ("Azure", f"/subscriptions/{SUBSCRIPTION}", SUBSCRIPTION),
        ("GCP", "my-project-1", "my-project-1"),
        ("Azure", None, "azure-012345678901"),
        ("Azure", {"Account": None}, "azure-012345678901"),
        ("Azure", "../other", "other"),
        ("Azure", "a b", "azure-012345678901"),
        ("Azure", "999988887777", "azure-999988887777"),
    ],
)
def test_a_subscription_is_a_scope_of_its_own_and_never_the_connectors_account(
    provider: str, owner: Any, scope: str
) -> None:
    found = of_cloud(provider, owner)
    columns = ("account_id", "connector_account_id", "account_name", "provider")
    assert tuple(found[name] for name in columns) == (
        scope,
        "012345678901",
        None,
        provider.upper(),
    )


@pytest.mark.parametrize("provider", ["AWS", None])
def test_the_owner_of_a_resource_of_aws_changes_no_account(provider: str | None) -> None:
    found = of_cloud(provider, "999988887777")
    assert (found["account_id"], found["connector_account_id"]) == ("012345678901", None)
    assert found["account_name"] == "the connector's"
