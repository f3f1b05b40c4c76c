"""Control identity: names without random parts, and which findings belong to a report."""

from __future__ import annotations

import doctest
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model import controls
from posture_pipeline.model.controls import (
    canonical_rule_name,
    canonical_rule_name_expression,
    findings_of_report,
    parse_standard_control,
    standard_name,
)
from posture_pipeline.schemas import ACCOUNT_FINDINGS, EXPECTED_CONTROLS
from posture_pipeline.settings import Report

FSBP = "aws-foundational-security-best-practices/v/1.0.0"
CIS = "cis-aws-foundations-benchmark/v/1.2.0"


def findings(*rows: dict[str, Any]) -> pl.LazyFrame:
    least = {"account_id": "111122223333", "region": "eu-west-1", "record_state": "ACTIVE"}
    frame = pl.DataFrame(
        [{**least, **each} for each in rows],
        schema={
            name: dtype
            for name, dtype in ACCOUNT_FINDINGS.schema.items()
            if any(name in {**least, **each} for each in rows)
        },
    )
    return ACCOUNT_FINDINGS.read_as(frame).lazy()


def expected(*ids: str, **standard_ids: str) -> pl.DataFrame:
    rows = [
        {"report": "r", "control_id": each, "standard_control_ids": standard_ids.get(each)}
        for each in (*ids, *standard_ids)
    ]
    return EXPECTED_CONTROLS.read_as(
        pl.DataFrame(rows, schema_overrides={"standard_control_ids": pl.String})
    )


def belonging(rows: pl.LazyFrame, report: Report, controls: pl.DataFrame) -> list[str]:
    found = findings_of_report(rows, report, controls).collect()
    return sorted(found["control_id"].to_list())


def consolidated(control: str, *standards: str, **more: Any) -> dict[str, Any]:
    names = " ".join(f"standards/{each}" for each in standards)
    return {"security_control_id": control, "standards": names, "consolidated": True, **more}


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(controls).failed == 0


@pytest.mark.parametrize(
    ("deployed", "name"),
    [
        ("lz-rule-1-conformance-pack-szsm1uv0w", "lz-rule-1"),
        ("lz-rule-10-conformance-pack-szsm1uv0w", "lz-rule-10"),
        ("OrgConfigRule-lz-s3-dbgzf8ba", "lz-s3"),
        ("OrgConfigRule-lz-s3-encryption-dbgzf8ba", "lz-s3-encryption"),
        ("OrgConfigRule-lz-s3-conformance-pack-szsm1uv0w-dbgzf8ba", "lz-s3"),
        ("OrgConfigRule-lz-s3-dbgzf8ba-conformance-pack-szsm1uv0w", "lz-s3"),
    ],
)
def test_a_deployed_rule_has_its_own_name(deployed: str, name: str) -> None:
    assert canonical_rule_name(deployed) == name


@pytest.mark.parametrize(
    "name",
    [
        "lz-vpc-flow",
        "nodash",
        "lz-s3-abcdefgh",
        "conformance-pack-szsm1uv0w",
        "x-conformance-pack",
        "OrgConfigRule-abcdefgh",
        "OrgConfigRule-x-ABCDEFGH",
        "orgconfigrule-lz-s3-dbgzf8ba",
        "",
    ],
)
def test_a_name_without_random_parts_is_unharmed(name: str) -> None:
    assert canonical_rule_name(name) == name


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
PARTS = st.sampled_from(
    ["OrgConfigRule-", "-conformance-pack-szsm1uv0w", "-dbgzf8ba", "lz-s3", "-", "\n", "é", "-abc"]
)


@given(st.lists(PARTS | NAMES, max_size=5).map("".join))
def test_the_expression_says_the_same_as_the_function(name: str) -> None:
    frame = pl.DataFrame({"name": [name, None]}, schema={"name": pl.String})
    column = frame.select(canonical_rule_name_expression(pl.col("name"))).to_series()
    assert column.to_list() == [canonical_rule_name(name), None]


@given(st.from_regex(r"lz(-[a-z]{1,7}){1,3}", fullmatch=True), st.data())
def test_a_rule_gets_its_name_back_from_every_account(name: str, data: st.DataObject) -> None:
    suffix = data.draw(st.from_regex(r"[a-z0-9]{9}", fullmatch=True))
    assert canonical_rule_name(f"{name}-conformance-pack-{suffix}") == name
    assert canonical_rule_name(f"OrgConfigRule-{name}-{suffix[:8]}") == name


@pytest.mark.parametrize(
    "text",
    ["security-control/S3.1", "", "prowler-s3_bucket", "arn:aws:config:eu-west-1:1:config-rule/x"],
)
def test_other_generators_are_of_no_standard(text: str) -> None:
    assert parse_standard_control(text) is None


def test_standards_are_compared_without_their_prefix() -> None:
    assert standard_name(f"standards/{FSBP}") == FSBP
    assert standard_name(f"arn:aws:securityhub:::ruleset/{CIS}") == CIS


def test_a_consolidated_finding_counts_for_each_standard_that_it_names() -> None:
    rows = findings(consolidated("S3.1", FSBP, "pci-dss/v/3.2.1"), consolidated("S3.2", FSBP))
    assert belonging(rows, Report(name="r", standard=FSBP), expected("S3.1", "S3.2")) == [
        "S3.1",
        "S3.2",
    ]
    pci = Report(name="r", standard="pci-dss/v/3.2.1")
    assert belonging(rows, pci, expected("S3.1", "S3.2")) == ["S3.1"]


@pytest.mark.parametrize("other", ["pci-dss/v/3.2.10", "xpci-dss/v/3.2.1", "pci-dss/v/3a2.1"])
def test_a_standard_is_never_matched_by_a_part_of_its_name(other: str) -> None:
    rows = findings(consolidated("S3.1", other))
    assert belonging(rows, Report(name="r", standard="pci-dss/v/3.2.1"), expected("S3.1")) == []


def test_a_control_that_the_standard_does_not_have_never_counts() -> None:
    rows = findings(consolidated("Old.1", FSBP))
    assert belonging(rows, Report(name="r", standard=FSBP), expected("S3.1")) == []


def test_a_per_standard_rule_of_two_controls_counts_for_both() -> None:
    rows = findings(
        {"standard_control_id": "1.1", "standards": f"ruleset/{CIS}", "consolidated": False}
    )
    report = Report(name="r", standard=CIS)
    mapped = expected(**{"CloudWatch.1": "1.1 3.3", "IAM.20": "1.1", "IAM.1": "1.22"})
    assert belonging(rows, report, mapped) == ["CloudWatch.1", "IAM.20"]


def test_a_per_standard_id_that_is_not_mapped_is_the_control_itself() -> None:
    rows = findings(
        {"standard_control_id": "S3.1", "standards": f"standards/{FSBP}", "consolidated": False}
    )
    assert belonging(rows, Report(name="r", standard=FSBP), expected("S3.1")) == ["S3.1"]


def rule(name: str | None) -> dict[str, Any]:
    return {"config_rule_name": name, "rule_name": name and canonical_rule_name(name)}


def test_a_rule_belongs_by_its_whole_name() -> None:
    rows = findings(
        rule("lz-rule-10-conformance-pack-szsm1uv0w"), rule("lz-s3-encryption"), rule("lz-rule-1")
    )
    rules = Report(name="r", custom_rules=("lz-rule-1", "lz-s3"))
    assert belonging(rows, rules, expected("lz-rule-1", "lz-s3")) == ["lz-rule-1"]


def test_a_finding_that_is_not_of_config_is_of_no_rule() -> None:
    rows = findings({"title": "lz-rule-1", "rule_name": "lz-rule-1"})
    assert belonging(rows, Report(name="r", conformance_pack="p"), expected("lz-rule-1")) == []


def test_the_reports_filter_narrows_its_findings() -> None:
    rows = findings(
        consolidated("S3.1", FSBP, region="eu-west-1"),
        consolidated("S3.2", FSBP, region="us-east-1"),
    )
    report = Report(
        name="r",
        standard=FSBP,
        filter={"Region": [{"Value": "us-east-1", "Comparison": "EQUALS"}]},
    )
    assert belonging(rows, report, expected("S3.1", "S3.2")) == ["S3.2"]


@pytest.mark.parametrize(
    ("state", "count"), [("ACTIVE", 1), ("ARCHIVED", 2)], ids=["active", "archived"]
)
def test_while_aws_switches_a_check_counts_once_if_its_successor_is_active(
    state: str, count: int
) -> None:
    old = {"standard_control_id": "S3.1", "standards": f"standards/{FSBP}", "consolidated": False}
    elsewhere = consolidated("S3.1", FSBP, resource_id="other")
    rows = findings(
        {**old, "resource_id": "bucket"},
        consolidated("S3.1", FSBP, resource_id="bucket", record_state=state),
        elsewhere,
    )
    found = findings_of_report(rows, Report(name="r", standard=FSBP), expected("S3.1")).collect()
    assert found.filter(pl.col("resource_id") == "bucket").height == count
    assert found.filter(pl.col("resource_id") == "other").height == 1


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_findings_does_not_matter(order: list[int]) -> None:
    every = [consolidated(f"S3.{i}", FSBP, resource_id=f"r{i}") for i in range(4)] + [
        {"standard_control_id": f"S3.{i}", "standards": f"standards/{FSBP}", "consolidated": False}
        for i in range(2)
    ]
    report, controls = Report(name="r", standard=FSBP), expected(*(f"S3.{i}" for i in range(4)))
    shuffled = belonging(findings(*(every[i] for i in order)), report, controls)
    assert shuffled == belonging(findings(*every), report, controls)
