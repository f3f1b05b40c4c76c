"""The simulated organization over HTTP, as unmodified boto3 sees it."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import email.utils
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError
from botocore.validate import ParamValidator

from posture_pipeline.simulation.aws_config import AGGREGATOR
from posture_pipeline.simulation.catalogue import FSBP
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import (
    RateLimit,
    SimulationSettings,
    SimulationSettingsError,
)

pytestmark = pytest.mark.functional

NOW = dt.datetime(2026, 11, 24, 6, tzinfo=dt.UTC)
ACTIVE = {"RecordState": [{"Value": "ACTIVE", "Comparison": "EQUALS"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[SimulationServer]:
    settings = SimulationSettings(accounts=24, resources_per_account=8, rate_limit=None)
    with serve(settings) as server:
        yield server


@pytest.fixture
def server(running: SimulationServer) -> SimulationServer:
    running.clear()
    running.set_clock(NOW)
    running.set_rate_limit(None)
    return running


def client(server: SimulationServer, service: str, region: str = "eu-west-1", **config: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name=region,
        aws_access_key_id="simulated",
        aws_secret_access_key="simulated",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def collect(hub: Any, filters: dict, size: int = 100) -> list[dict]:
    pages = hub.get_paginator("get_findings").paginate(
        Filters=filters, PaginationConfig={"PageSize": size}
    )
    return [f for page in pages for f in page["Findings"]]


def where(name: str, value: str, comparison: str = "EQUALS") -> dict:
    return {name: [{"Value": value, "Comparison": comparison}]}


def error_code(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**params)
    return error.value.response["Error"]["Code"]


# Findings


def test_paging_brings_every_finding_exactly_once(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    found = collect(hub, {})
    day = NOW.date()
    accounts = server.organization.accounts(day)
    expected = [f["Id"] for a in accounts for f in server.organization.findings(a, day)]
    assert [f["Id"] for f in found] == expected
    odd = collect(hub, ACTIVE, size=97)
    assert (
        len({f["Id"] for f in odd}) == len(odd) == sum(f["RecordState"] == "ACTIVE" for f in found)
    )


def test_ten_shards_by_first_digit_cover_everything_even_side_by_side(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        shards = list(
            pool.map(
                lambda d: collect(hub, ACTIVE | where("AwsAccountId", d, "PREFIX")), "0123456789"
            )
        )
    assert all(shards)
    together = [f["Id"] for shard in shards for f in shard]
    assert sorted(together) == sorted(f["Id"] for f in collect(hub, ACTIVE))


def test_a_filter_on_the_server_keeps_what_the_same_filter_keeps_in_memory(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    everything = collect(hub, {})
    filters = (
        where("ComplianceStatus", "FAILED")
        | where("ComplianceAssociatedStandardsId", FSBP)
        | where("WorkflowStatus", "SUPPRESSED", "NOT_EQUALS")
        | where("SeverityLabel", "H", "PREFIX")
    )
    found = {f["Id"] for f in collect(hub, filters)}
    assert found
    assert found == {
        f["Id"]
        for f in everything
        if f.get("Compliance", {}).get("Status") == "FAILED"
        and {"StandardsId": FSBP} in f["Compliance"].get("AssociatedStandards", [])
        and f["Workflow"]["Status"] != "SUPPRESSED"
        and f["Severity"]["Label"] == "HIGH"
    }


def test_an_unknown_filter_or_a_page_too_large_is_refused(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    assert error_code(hub.get_findings, Filters={"Keyword": [{"Value": "x"}]}) == (
        "InvalidInputException"
    )
    assert error_code(hub.get_findings, Filters=where("Title", "x", "CONTAINS")) == (
        "InvalidInputException"
    )
    for sort in ({"Field": "Keyword", "SortOrder": "asc"}, {"Field": "Id", "SortOrder": "up"}):
        assert error_code(hub.get_findings, SortCriteria=[sort]) == "InvalidInputException"
    body = json.dumps({"MaxResults": 101}).encode()
    request = urllib.request.Request(f"{server.url}/findings", body, method="POST")
    scope = "x/20261124/eu-west-1/securityhub/aws4_request"
    request.add_header("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, Signature=x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400


def test_findings_come_in_the_order_that_is_asked_for(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    wanted = ACTIVE | where("AwsAccountId", "4", "PREFIX")
    plain = collect(hub, wanted)
    sort = [
        {"Field": "SeverityLabel", "SortOrder": "desc"},
        {"Field": "UpdatedAt", "SortOrder": "asc"},
    ]
    pages = hub.get_paginator("get_findings").paginate(
        Filters=wanted, SortCriteria=sort, PaginationConfig={"PageSize": 37}
    )
    found = [f for page in pages for f in page["Findings"]]
    assert len(found) == len(plain) > 100
    expected = sorted(plain, key=lambda f: f["UpdatedAt"])
    expected.sort(key=lambda f: f["Severity"]["Label"], reverse=True)
    assert [f["Id"] for f in found] == [f["Id"] for f in expected]
    token = hub.get_findings(Filters=wanted, SortCriteria=sort)["NextToken"]
    with pytest.raises(ClientError, match="Input Query has changed"):
        hub.get_findings(Filters=wanted, NextToken=token)


def test_a_token_is_refused_with_another_filter_when_aged_and_when_made_up(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    token = hub.get_findings(Filters=ACTIVE)["NextToken"]
    with pytest.raises(ClientError, match="Input Query has changed") as error:
        hub.get_findings(Filters=where("RecordState", "ARCHIVED"), NextToken=token)
    assert error.value.response["Error"]["Code"] == "InvalidInputException"
    assert hub.get_findings(Filters=ACTIVE, NextToken=token)["Findings"]
    assert error_code(hub.get_findings, Filters=ACTIVE, NextToken="made-up") == (
        "InvalidInputException"
    )
    server.set_clock(NOW + dt.timedelta(hours=2))
    with pytest.raises(ClientError, match="expired"):
        hub.get_findings(Filters=ACTIVE, NextToken=token)


def test_the_linked_region_has_only_its_own_findings(server: SimulationServer) -> None:
    found = collect(client(server, "securityhub", "us-east-1"), {})
    assert {f["Region"] for f in found} == {"us-east-1"}


def test_more_than_the_rate_is_refused_as_aws_does(server: SimulationServer) -> None:
    server.set_rate_limit(RateLimit(3, 6))
    hub = client(server, "securityhub")
    codes = []
    for _ in range(12):
        try:
            hub.get_findings(MaxResults=1)
            codes.append("ok")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            codes.append(f"{error.response['Error']['Code']} {status}")
    assert codes[:6] == ["ok"] * 6
    assert "TooManyRequestsException 429" in codes
    assert hub.describe_hub()["HubArn"]


def test_every_other_call_of_security_hub_has_a_rate_of_its_own(server: SimulationServer) -> None:
    server.set_rate_limit(RateLimit(3, 6))
    hub = client(server, "securityhub", max_pool_connections=50)

    def described(_: int) -> str:
        try:
            return str(hub.describe_hub()["HubArn"])
        except ClientError as error:
            return str(error.response["Error"]["Code"])

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(described, range(400)))
    assert answers.count("TooManyRequestsException") > 0
    assert len(answers) - answers.count("TooManyRequestsException") >= 30
    assert hub.get_enabled_standards()["StandardsSubscriptions"]
    server.set_rate_limit(None)
    assert described(0).startswith("arn:")


def test_another_day_on_the_clock_is_another_day_of_findings_and_in_the_date_header(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    for moment in (NOW, NOW - dt.timedelta(days=200), NOW + dt.timedelta(days=3)):
        server.set_clock(moment)
        reply = hub.get_findings(Filters=ACTIVE)
        date = reply["ResponseMetadata"]["HTTPHeaders"]["date"]
        assert abs(email.utils.parsedate_to_datetime(date) - moment) < dt.timedelta(seconds=30)
        newest = max(f["UpdatedAt"] for f in reply["Findings"])
        assert newest[:10] == (moment.date() - dt.timedelta(1)).isoformat()
    buckets = client(server, "s3").list_buckets()
    date = email.utils.parsedate_to_datetime(buckets["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert date.date() == (NOW + dt.timedelta(days=3)).date()


SCANNER = "arn:aws:securityhub:eu-west-1::product/acme/scanner"
AUDIT = SimulatedOrganization(SimulationSettings()).audit_account_id


def finding_to_import(number: int = 1, **members: Any) -> dict:
    return {
        "SchemaVersion": "2018-10-08",
        "Id": f"sent/{number}",
        "ProductArn": SCANNER,
        "GeneratorId": "scanner/1",
        "AwsAccountId": AUDIT,
        "Types": ["Software and Configuration Checks"],
        "CreatedAt": "2026-11-24T05:00:00Z",
        "UpdatedAt": "2026-11-24T05:00:00Z",
        "Severity": {"Label": "HIGH"},
        "Title": "Something was sent",
        "Description": "By a tool that sends findings.",
        "Resources": [{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::sent"}],
        "Compliance": {"Status": "FAILED"},
        **members,
    }


def test_what_a_tool_sends_comes_back_and_a_later_version_replaces_it(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    product = SCANNER
    arn = hub.enable_import_findings_for_product(ProductArn=product)["ProductSubscriptionArn"]
    assert arn in hub.list_enabled_products_for_import()["ProductSubscriptions"]
    assert error_code(hub.enable_import_findings_for_product, ProductArn=product) == (
        "ResourceConflictException"
    )
    sent = [finding_to_import(n) for n in range(100)]
    reply = hub.batch_import_findings(Findings=sent)
    assert (reply["SuccessCount"], reply["FailedCount"]) == (100, 0)
    mine = where("ProductArn", product)
    assert len(collect(hub, mine, size=30)) == 100
    hub.batch_update_findings(
        FindingIdentifiers=[{"Id": "sent/1", "ProductArn": product}],
        Workflow={"Status": "SUPPRESSED"},
        Note={"Text": "Known", "UpdatedBy": "me"},
    )
    hub.batch_import_findings(Findings=[finding_to_import(1, Title="Changed")])
    (one,) = collect(hub, mine | where("Id", "sent/1"))
    assert (one["Title"], one["Workflow"]["Status"]) == ("Changed", "SUPPRESSED")
    assert one["Note"]["Text"] == "Known"


def test_findings_that_are_not_in_the_format_are_refused_one_by_one(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    hub.enable_import_findings_for_product(ProductArn=SCANNER)
    good, bad = finding_to_import(1), finding_to_import(2, AwsAccountId="12")
    also_bad = finding_to_import(3, CreatedAt="yesterday")
    reply = hub.batch_import_findings(Findings=[good, bad, also_bad])
    assert (reply["SuccessCount"], reply["FailedCount"]) == (1, 2)
    assert {f["Id"] for f in reply["FailedFindings"]} == {"sent/2", "sent/3"}
    too_many = [finding_to_import(n) for n in range(101)]
    with pytest.raises(ClientError) as error:
        hub.batch_import_findings(Findings=too_many)
    assert error.value.response["Error"]["Code"] == "InvalidInputException"


def test_findings_that_a_caller_may_not_send_are_refused_as_a_whole(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    send = hub.batch_import_findings
    arn = "arn:aws:securityhub:eu-west-1:"
    refused: list[list[dict]] = [
        # A product that is not enabled.
        [finding_to_import()],
        # Services of AWS send by themselves.
        [finding_to_import(ProductArn=f"{arn}:product/aws/securityhub")],
        [finding_to_import(ProductArn=f"{arn}:product/aws/config")],
        # The default product of another account.
        [finding_to_import(ProductArn=f"{arn}111122223333:product/111122223333/default")],
    ]
    for findings in refused:
        assert error_code(send, Findings=findings) == "AccessDeniedException"
    own = finding_to_import(2, ProductArn=f"{arn}{AUDIT}:product/{AUDIT}/default")
    assert send(Findings=[own])["SuccessCount"] == 1
    hub.enable_import_findings_for_product(ProductArn=SCANNER)
    assert send(Findings=[finding_to_import()])["SuccessCount"] == 1
    other = finding_to_import(3, AwsAccountId="111122223333")
    # Another account's findings, alone and beside those of the caller.
    for findings in ([other], [finding_to_import(4), other]):
        assert error_code(send, Findings=findings) == "AccessDeniedException"
    sent = {f["Id"] for f in collect(hub, where("Id", "sent/", "PREFIX"))}
    assert sent == {"sent/1", "sent/2"}
    for product in ("aws/securityhub", "aws/guardduty"):
        enable = hub.enable_import_findings_for_product
        code = error_code(enable, ProductArn=f"{arn}:product/{product}")
        assert code == "InvalidInputException"


def test_a_role_of_a_member_account_sends_findings_of_that_account(
    server: SimulationServer,
) -> None:
    member = server.organization.accounts(NOW.date())[3].account_id
    role = client(server, "sts").assume_role(
        RoleArn=f"arn:aws:iam::{member}:role/scanner", RoleSessionName="scan"
    )["Credentials"]
    hub = boto3.client(
        "securityhub",
        endpoint_url=server.url,
        region_name="eu-west-1",
        aws_access_key_id=role["AccessKeyId"],
        aws_secret_access_key=role["SecretAccessKey"],
        aws_session_token=role["SessionToken"],
    )
    finding = finding_to_import(AwsAccountId=member)
    assert error_code(hub.batch_import_findings, Findings=[finding]) == "AccessDeniedException"
    enabled = hub.enable_import_findings_for_product(ProductArn=SCANNER)["ProductSubscriptionArn"]
    assert f":{member}:product-subscription/" in enabled
    assert hub.batch_import_findings(Findings=[finding])["SuccessCount"] == 1
    audit = client(server, "securityhub")
    assert error_code(audit.batch_import_findings, Findings=[finding]) == "AccessDeniedException"
    assert enabled not in audit.list_enabled_products_for_import()["ProductSubscriptions"]
    assert [f["AwsAccountId"] for f in collect(audit, where("Id", "sent/1"))] == [member]


def test_a_finding_without_a_required_member_is_refused_by_name(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    hub.enable_import_findings_for_product(ProductArn=SCANNER)
    without = {k: v for k, v in finding_to_import().items() if k != "Severity"}
    reply = hub.batch_import_findings(Findings=[without])
    (failed,) = reply["FailedFindings"]
    assert (failed["Id"], failed["ErrorCode"]) == ("sent/1", "InvalidInput")
    assert "should have required property 'Severity'" in failed["ErrorMessage"]


def test_a_suppression_leaves_the_time_of_the_last_update(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    before = hub.get_findings(Filters=ACTIVE | where("WorkflowStatus", "NEW"), MaxResults=1)
    finding = before["Findings"][0]
    identifier = {"Id": finding["Id"], "ProductArn": finding["ProductArn"]}
    hub.batch_update_findings(FindingIdentifiers=[identifier], Workflow={"Status": "SUPPRESSED"})
    (after,) = hub.get_findings(Filters=where("Id", finding["Id"]))["Findings"]
    assert after["Workflow"]["Status"] == "SUPPRESSED"
    assert after["UpdatedAt"] == finding["UpdatedAt"]


def test_a_simulated_finding_can_be_suppressed_by_hand(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    failing = ACTIVE | where("ComplianceStatus", "FAILED") | where("WorkflowStatus", "NEW")
    finding = hub.get_findings(Filters=failing, MaxResults=1)["Findings"][0]
    identifier = {"Id": finding["Id"], "ProductArn": finding["ProductArn"]}
    missing = {"Id": "none", "ProductArn": finding["ProductArn"]}
    reply = hub.batch_update_findings(
        FindingIdentifiers=[identifier, missing], Workflow={"Status": "SUPPRESSED"}
    )
    assert reply["ProcessedFindings"] == [identifier]
    assert reply["UnprocessedFindings"][0]["FindingIdentifier"] == missing
    (again,) = hub.get_findings(Filters=where("Id", finding["Id"]))["Findings"]
    assert again["Workflow"]["Status"] == "SUPPRESSED"


# Standards, controls, Config, Organizations


def test_the_controls_of_a_standard_change_on_the_day_of_the_story(
    server: SimulationServer,
) -> None:
    hub = client(server, "securityhub")
    arn = f"arn:aws:securityhub:eu-west-1::{FSBP}"

    def listed() -> set[str]:
        pages = hub.get_paginator("list_security_control_definitions").paginate(StandardsArn=arn)
        return {
            d["SecurityControlId"] for page in pages for d in page["SecurityControlDefinitions"]
        }

    sets = set()
    for number in range(12):
        server.set_clock(NOW + dt.timedelta(days=number))
        sets.add(frozenset(listed()))
    assert len(sets) > 2


def test_associations_say_what_is_enabled_in_the_audit_account(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    arn = f"arn:aws:securityhub:eu-west-1::{FSBP}"
    names = ["EC2.2", "IAM.6", "Macie.2", "No.1"]
    reply = hub.batch_get_standards_control_associations(
        StandardsControlAssociationIds=[
            {"SecurityControlId": n, "StandardsArn": arn} for n in names
        ]
    )
    details = {
        d["SecurityControlId"]: d["AssociationStatus"]
        for d in reply["StandardsControlAssociationDetails"]
    }
    assert details == {"EC2.2": "ENABLED", "IAM.6": "DISABLED", "Macie.2": "DISABLED"}
    assert len(reply["UnprocessedAssociations"]) == 1
    too_many = [{"SecurityControlId": "EC2.2", "StandardsArn": arn}] * 101
    assert (
        error_code(
            hub.batch_get_standards_control_associations, StandardsControlAssociationIds=too_many
        )
        == "InvalidInputException"
    )
    ruleset = "arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0"
    pages = hub.get_paginator("list_security_control_definitions").paginate(StandardsArn=ruleset)
    assert len([d for p in pages for d in p["SecurityControlDefinitions"]]) == 42


@pytest.mark.parametrize(
    ("standard", "count", "example"),
    [
        ("cis-aws-foundations-benchmark/v/5.0.0", 40, "RDS.15"),
        ("pci-dss/v/4.0.1", 82, "EC2.13"),
        ("nist-800-171/v/2.0.0", 44, "GuardDuty.1"),
        ("aws-resource-tagging-standard/v/1.0.0", 18, "EC2.33"),
        ("ai-security-best-practices/v/1.0.0", 4, "BedrockAgentCore.1"),
        ("service-managed-aws-control-tower/v/1.0.0", 114, "CodeBuild.1"),
    ],
)
def test_todays_standards_can_be_described_and_are_not_enabled(
    server: SimulationServer, standard: str, count: int, example: str
) -> None:
    server.set_clock(NOW + dt.timedelta(days=5))
    hub = client(server, "securityhub")
    arn = f"arn:aws:securityhub:eu-west-1::standards/{standard}"
    described = [
        s for page in hub.get_paginator("describe_standards").paginate() for s in page["Standards"]
    ]
    (found,) = [s for s in described if s["StandardsArn"] == arn]
    managed = found.get("StandardsManagedBy", {}).get("Product")
    assert managed == ("Control Tower" if "control-tower" in standard else None)
    enabled = hub.get_enabled_standards()["StandardsSubscriptions"]
    assert arn not in {s["StandardsArn"] for s in enabled}
    pages = hub.get_paginator("list_security_control_definitions").paginate(StandardsArn=arn)
    listed = [d["SecurityControlId"] for p in pages for d in p["SecurityControlDefinitions"]]
    assert example in listed
    assert len(listed) == count
    pair = {"SecurityControlId": example, "StandardsArn": arn}
    reply = hub.batch_get_standards_control_associations(StandardsControlAssociationIds=[pair])
    assert reply["StandardsControlAssociationDetails"] == []
    (left,) = reply["UnprocessedAssociations"]
    assert left["ErrorCode"] == "RESOURCE_NOT_FOUND"


def test_the_rules_of_a_standard_come_under_its_own_numbers(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    subscriptions = hub.get_enabled_standards()["StandardsSubscriptions"]
    arn = next(s["StandardsSubscriptionArn"] for s in subscriptions if "1.2.0" in s["StandardsArn"])
    pages = hub.get_paginator("describe_standards_controls").paginate(StandardsSubscriptionArn=arn)
    numbers = {c["ControlId"] for page in pages for c in page["Controls"]}
    assert {"1.1", "3.3", "1.22"} <= numbers


def test_the_pack_lists_every_rule_under_its_suffixed_name(server: SimulationServer) -> None:
    config = client(server, "config")
    pack = config.describe_conformance_packs()["ConformancePackDetails"][0]["ConformancePackName"]
    assert pack.startswith("OrgConformsPack-lz-framework-")
    pages = config.get_paginator("describe_conformance_pack_compliance").paginate(
        ConformancePackName=pack
    )
    rows = [r for page in pages for r in page["ConformancePackRuleComplianceList"]]
    assert len(rows) == 12
    assert {r["ComplianceType"] for r in rows} == {
        "COMPLIANT",
        "NON_COMPLIANT",
        "INSUFFICIENT_DATA",
    }
    assert all("-conformance-pack-" in r["ConfigRuleName"] for r in rows)
    assert (
        error_code(config.describe_conformance_pack_compliance, ConformancePackName="lz-framework")
        == "NoSuchConformancePackException"
    )
    assert (
        error_code(
            config.describe_conformance_pack_compliance, ConformancePackName=pack, NextToken="x"
        )
        == "InvalidNextTokenException"
    )


def test_the_score_of_the_pack_is_that_of_its_evaluations(server: SimulationServer) -> None:
    config = client(server, "config")
    told = config.list_conformance_pack_compliance_scores()["ConformancePackComplianceScores"][0]
    rows: list[Any] = []
    request = {"ConformancePackName": told["ConformancePackName"], "Limit": 7}
    while True:
        page = config.get_conformance_pack_compliance_details(**request)
        rows += page["ConformancePackRuleEvaluationResults"]
        if "NextToken" not in page:
            break
        request["NextToken"] = page["NextToken"]
    good = sum(row["ComplianceType"] == "COMPLIANT" for row in rows)
    assert told["Score"] == f"{100 * good / len(rows):.2f}"
    ids = [row["EvaluationResultIdentifier"]["EvaluationResultQualifier"] for row in rows]
    assert not any(each["ResourceId"].startswith("arn:") for each in ids)


def test_the_aggregator_has_the_pack_of_every_account_and_region_with_empty_pages_on_the_way(
    server: SimulationServer,
) -> None:
    config = client(server, "config")
    pages = list(
        config.get_paginator("describe_aggregate_compliance_by_conformance_packs").paginate(
            ConfigurationAggregatorName=AGGREGATOR, PaginationConfig={"PageSize": 9}
        )
    )
    packs = [pack for page in pages for pack in page["AggregateComplianceByConformancePacks"]]
    sizes = {len(page["AggregateComplianceByConformancePacks"]) for page in pages}
    assert {0, 9} <= sizes
    today = server.organization.accounts(NOW.date())
    assert {(pack["AccountId"], pack["AwsRegion"]) for pack in packs} == {
        (account.account_id, region)
        for account in today
        for region in server.organization.settings.regions
    }
    for pack in packs:
        counts = pack["Compliance"]
        assert counts["TotalRuleCount"] == 12
        failing = counts["NonCompliantRuleCount"]
        assert (counts["ComplianceType"] == "NON_COMPLIANT") == (failing > 0)
    one = config.describe_aggregate_compliance_by_conformance_packs(
        ConfigurationAggregatorName=AGGREGATOR,
        Filters={"ConformancePackName": packs[0]["ConformancePackName"]},
    )
    assert one["AggregateComplianceByConformancePacks"] == packs[:1]
    assert (
        error_code(
            config.describe_aggregate_compliance_by_conformance_packs,
            ConfigurationAggregatorName="another",
        )
        == "NoSuchConfigurationAggregatorException"
    )


def test_members_are_found_by_their_ids(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    listed = [m for page in hub.get_paginator("list_members").paginate() for m in page["Members"]]
    asked = [listed[1]["AccountId"], "111122223333"]
    reply = hub.get_members(AccountIds=asked)
    assert reply["Members"] == [listed[1]]
    assert [u["AccountId"] for u in reply["UnprocessedAccounts"]] == ["111122223333"]


def test_the_answers_about_a_pack_and_its_rules_agree(server: SimulationServer) -> None:
    config = client(server, "config")
    pack = config.describe_conformance_packs()["ConformancePackDetails"][0]["ConformancePackName"]
    rows = config.describe_conformance_pack_compliance(ConformancePackName=pack, Limit=100)[
        "ConformancePackRuleComplianceList"
    ]
    (summary,) = config.get_conformance_pack_compliance_summary(ConformancePackNames=[pack])[
        "ConformancePackComplianceSummaryList"
    ]
    assert summary["ConformancePackComplianceStatus"] == "NON_COMPLIANT"
    assert "NON_COMPLIANT" in {row["ComplianceType"] for row in rows}
    for row in rows:
        details = config.get_compliance_details_by_config_rule(
            ConfigRuleName=row["ConfigRuleName"], Limit=100
        )["EvaluationResults"]
        found = {each["ComplianceType"] for each in details}
        assert ("NON_COMPLIANT" in found) == (row["ComplianceType"] == "NON_COMPLIANT")
        assert (not found) == (row["ComplianceType"] == "INSUFFICIENT_DATA")
        failing = config.get_compliance_details_by_config_rule(
            ConfigRuleName=row["ConfigRuleName"], ComplianceTypes=["NON_COMPLIANT"], Limit=100
        )["EvaluationResults"]
        assert failing == [d for d in details if d["ComplianceType"] == "NON_COMPLIANT"]
    unknown = {"ConfigRuleName": "no-such-rule"}
    assert error_code(config.get_compliance_details_by_config_rule, **unknown) == (
        "NoSuchConfigRuleException"
    )
    summarize = config.get_conformance_pack_compliance_summary
    assert error_code(summarize, ConformancePackNames=["lz-framework"]) == (
        "NoSuchConformancePackException"
    )


def test_the_aggregator_is_in_the_home_region_alone(server: SimulationServer) -> None:
    home = client(server, "config").describe_configuration_aggregators()
    assert [a["ConfigurationAggregatorName"] for a in home["ConfigurationAggregators"]] == [
        AGGREGATOR
    ]
    linked = client(server, "config", "us-east-1")
    assert linked.describe_configuration_aggregators()["ConfigurationAggregators"] == []
    describe = linked.describe_configuration_aggregators
    assert error_code(describe, ConfigurationAggregatorNames=[AGGREGATOR]) == (
        "NoSuchConfigurationAggregatorException"
    )


def test_two_packs_are_described_each_with_its_own_rules() -> None:
    settings = SimulationSettings(accounts=6, rate_limit=None, second_pack=True)
    with serve(settings) as server:
        server.set_clock(NOW)
        config = client(server, "config")
        details = config.describe_conformance_packs()["ConformancePackDetails"]
        rules = {}
        for detail in details:
            name = detail["ConformancePackName"]
            rows = config.describe_conformance_pack_compliance(ConformancePackName=name, Limit=100)
            names = [r["ConfigRuleName"] for r in rows["ConformancePackRuleComplianceList"]]
            # A pack's rules end with the pack's id.
            assert all(n.endswith(f"-{detail['ConformancePackId']}") for n in names)
            rules[name.split("-")[2]] = {n.partition("-conformance-pack-")[0] for n in names}
        assert rules["framework"] & rules["baseline"] == {"lz-rule-1", "lz-ebs-encrypted"}
        described = config.get_paginator("describe_config_rules").paginate()
        all_rules = [r for page in described for r in page["ConfigRules"]]
        assert len({r["ConfigRuleArn"] for r in all_rules}) == len(all_rules) == 23


def test_accounts_come_twenty_a_page_with_an_empty_page_on_the_way() -> None:
    settings = SimulationSettings(accounts=95, resources_per_account=5, rate_limit=None)
    with serve(settings) as server:
        server.set_clock(NOW)
        organizations = client(server, "organizations")
        pages = list(organizations.get_paginator("list_accounts").paginate())
        sizes = [len(p["Accounts"]) for p in pages]
        assert max(sizes) == 20
        assert 0 in sizes
        ids = [a["Id"] for p in pages for a in p["Accounts"]]
        assert ids == [a.account_id for a in server.organization.accounts(NOW.date())]
        assert {a["State"] for p in pages for a in p["Accounts"]} == {"ACTIVE", "SUSPENDED"}
        assert error_code(organizations.list_accounts, NextToken="x") == "InvalidInputException"
        request = json.dumps({"MaxResults": 21}).encode()
        assert b"InvalidInputException" in raw_call(
            server, "organizations", "ListAccounts", request
        )


def raw_call(server: SimulationServer, service: str, operation: str, body: bytes) -> bytes:
    request = urllib.request.Request(server.url, body, method="POST")
    scope = f"x/20261124/eu-west-1/{service}/aws4_request"
    request.add_header("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, Signature=x")
    request.add_header("X-Amz-Target", f"Any.{operation}")
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        return error.read()


def test_tags_and_parents_lead_from_an_account_to_its_owner_and_unit(
    server: SimulationServer,
) -> None:
    organizations = client(server, "organizations")
    pages = organizations.get_paginator("list_accounts").paginate()
    accounts = {a["Name"]: a for p in pages for a in p["Accounts"]}
    hub = accounts["IdentityHub"]["Id"]
    tags = organizations.list_tags_for_resource(ResourceId=hub)["Tags"]
    assert {t["Key"] for t in tags} == {"workload", "environment", "owner"}
    parent = organizations.list_parents(ChildId=hub)["Parents"][0]
    assert parent["Type"] == "ORGANIZATIONAL_UNIT"
    assert parent["Id"] in accounts["IdentityHub"]["Paths"][0]
    members = organizations.list_accounts_for_parent(ParentId=parent["Id"])["Accounts"]
    assert hub in [a["Id"] for a in members]
    assert error_code(organizations.describe_account, AccountId="000000000000") == (
        "AccountNotFoundException"
    )


def test_without_the_legacy_option_accounts_have_only_a_state() -> None:
    with serve(SimulationSettings(accounts=5, legacy_account_status=False)) as server:
        account = client(server, "organizations").list_accounts()["Accounts"][0]
        assert "Status" not in account
        assert account["State"] == "ACTIVE"


def test_every_reply_validates_against_the_service_model(server: SimulationServer) -> None:
    hub, config = client(server, "securityhub"), client(server, "config")
    organizations = client(server, "organizations")
    account = organizations.list_accounts()["Accounts"][0]["Id"]
    root = organizations.list_roots()["Roots"][0]["Id"]
    pack = config.describe_conformance_packs()["ConformancePackDetails"][0]["ConformancePackName"]
    arn = f"arn:aws:securityhub:eu-west-1::{FSBP}"
    subscription = hub.get_enabled_standards()["StandardsSubscriptions"][0]
    aggregator = hub.list_finding_aggregators()["FindingAggregators"][0]["FindingAggregatorArn"]
    association = {"SecurityControlId": "S3.1", "StandardsArn": arn}
    rule = config.describe_config_rules()["ConfigRules"][0]["ConfigRuleName"]
    calls: list[tuple[Any, str, dict]] = [
        (hub, "GetFindings", {}),
        (hub, "DescribeHub", {}),
        (hub, "GetEnabledStandards", {}),
        (hub, "DescribeStandards", {}),
        (hub, "ListSecurityControlDefinitions", {"StandardsArn": arn, "MaxResults": 100}),
        (hub, "GetSecurityControlDefinition", {"SecurityControlId": "S3.1"}),
        (
            hub,
            "BatchGetStandardsControlAssociations",
            {"StandardsControlAssociationIds": [association]},
        ),
        (hub, "ListStandardsControlAssociations", {"SecurityControlId": "S3.1"}),
        (
            hub,
            "DescribeStandardsControls",
            {"StandardsSubscriptionArn": subscription["StandardsSubscriptionArn"]},
        ),
        (hub, "BatchGetSecurityControls", {"SecurityControlIds": ["S3.1", "No.1"]}),
        (hub, "EnableImportFindingsForProduct", {"ProductArn": SCANNER}),
        (hub, "BatchImportFindings", {"Findings": [finding_to_import()]}),
        (hub, "ListEnabledProductsForImport", {}),
        (hub, "ListMembers", {}),
        (hub, "GetMembers", {"AccountIds": [account, "111122223333"]}),
        (hub, "DescribeOrganizationConfiguration", {}),
        (hub, "GetAdministratorAccount", {}),
        (hub, "ListFindingAggregators", {}),
        (hub, "GetFindingAggregator", {"FindingAggregatorArn": aggregator}),
        (config, "DescribeConformancePacks", {}),
        (config, "DescribeConformancePackStatus", {}),
        (config, "DescribeOrganizationConformancePacks", {}),
        (config, "DescribeOrganizationConfigRules", {}),
        (config, "DescribeConformancePackCompliance", {"ConformancePackName": pack}),
        (config, "GetConformancePackComplianceDetails", {"ConformancePackName": pack}),
        (config, "ListConformancePackComplianceScores", {}),
        (
            config,
            "DescribeAggregateComplianceByConformancePacks",
            {"ConfigurationAggregatorName": AGGREGATOR},
        ),
        (config, "GetConformancePackComplianceSummary", {"ConformancePackNames": [pack]}),
        (config, "DescribeConfigurationAggregators", {}),
        (config, "GetComplianceDetailsByConfigRule", {"ConfigRuleName": rule}),
        (config, "DescribeConfigRules", {}),
        (config, "DescribeComplianceByConfigRule", {}),
        (organizations, "ListAccounts", {}),
        (organizations, "ListAccountsForParent", {"ParentId": root}),
        (organizations, "DescribeAccount", {"AccountId": account}),
        (organizations, "DescribeOrganization", {}),
        (organizations, "ListTagsForResource", {"ResourceId": account}),
        (organizations, "ListParents", {"ChildId": account}),
        (organizations, "ListOrganizationalUnitsForParent", {"ParentId": root}),
        (organizations, "ListRoots", {}),
    ]
    sent: list[bytes] = []
    for service in (hub, config, organizations):
        service.meta.events.register(
            "before-parse", lambda response_dict, **_: sent.append(response_dict["body"])
        )
    for service, operation, params in calls:
        shape = service.meta.service_model.operation_model(operation).output_shape
        method = next(
            m for m, name in service.meta.method_to_api_mapping.items() if name == operation
        )
        reply = getattr(service, method)(**params)
        parsed = {k: v for k, v in reply.items() if k != "ResponseMetadata"}
        report = ParamValidator().validate(parsed, shape)
        assert not report.has_errors(), f"{operation}: {report.generate_report()}"
        if sent:
            # What the parser dropped would not show: no member may be unknown to the model.
            assert not _unknown(json.loads(sent[-1]), shape), operation


def _unknown(value: Any, shape: Any, path: str = "") -> list[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        names = {m.serialization.get("name", n): m for n, m in shape.members.items()}
        found = [f"{path}.{k}" for k in value if k not in names]
        return found + [
            x for k, v in value.items() if k in names for x in _unknown(v, names[k], f"{path}.{k}")
        ]
    if shape.type_name == "list" and isinstance(value, list):
        return [x for v in value for x in _unknown(v, shape.member, f"{path}[]")]
    return []


def test_an_operation_that_is_not_simulated_says_so(server: SimulationServer) -> None:
    for service, method in (("securityhub", "get_insights"), ("organizations", "list_policies")):
        call = getattr(client(server, service), method)
        params = {"Filter": "SERVICE_CONTROL_POLICY"} if method == "list_policies" else {}
        with pytest.raises(ClientError, match="not simulated") as error:
            call(**params)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


# Faults


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_throttling_comes_under_either_code_after_the_calls_that_go_well(
    server: SimulationServer, code: str
) -> None:
    hub = client(server, "securityhub")
    server.inject([{"kind": "throttle", "operation": "GetFindings", "code": code, "after": 1}])
    assert hub.get_findings(MaxResults=1)["Findings"]
    assert error_code(hub.get_findings, MaxResults=1) == code
    assert hub.get_findings(MaxResults=1)["Findings"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ExpiredTokenException", 403),
        ("AccessDeniedException", 403),
        ("InternalException", 500),
        ("InvalidAccessException", 401),
    ],
)
def test_any_error_can_be_put_on_any_service(
    server: SimulationServer, code: str, status: int
) -> None:
    server.inject([{"kind": "error", "code": code, "times": 2}])
    for service, method in (("securityhub", "get_findings"), ("organizations", "list_accounts")):
        with pytest.raises(ClientError) as error:
            getattr(client(server, service), method)()
        assert error.value.response["Error"]["Code"] == code
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_errors_of_cloudwatch_and_s3_are_read_as_such(server: SimulationServer) -> None:
    cloudwatch, s3 = client(server, "cloudwatch"), client(server, "s3")
    server.inject(
        [
            {"kind": "throttle", "service": "monitoring", "code": "Throttling", "status": 400},
            {"kind": "error", "service": "s3", "code": "SlowDown", "status": 503},
        ]
    )
    data = [{"MetricName": "Score", "Value": 91.5, "Timestamp": NOW}]
    assert error_code(cloudwatch.put_metric_data, Namespace="N", MetricData=data) == "Throttling"
    assert error_code(s3.list_buckets) == "SlowDown"


@pytest.mark.parametrize("kind", ["truncate", "garbage", "empty", "json_without_findings"])
def test_a_spoilt_body_is_swallowed_by_the_client_without_an_error(
    server: SimulationServer, kind: str
) -> None:
    hub = client(server, "securityhub")
    server.inject([{"kind": kind, "operation": "GetFindings"}])
    reply = hub.get_findings()
    assert "Findings" not in reply
    assert "NextToken" not in reply
    assert len(hub.get_findings()["Findings"]) == 100


def test_a_cut_body_has_the_length_of_the_whole_one(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    # Of one finding, because a token names the moment and is not always as long.
    one = hub.get_findings(MaxResults=1)["Findings"][0]["Id"]
    question = {"Filters": {"Id": [{"Value": one, "Comparison": "EQUALS"}]}}
    whole = hub.get_findings(**question)
    assert len(whole["Findings"]) == 1
    server.inject([{"kind": "truncate", "operation": "GetFindings"}])
    cut = hub.get_findings(**question)
    lengths = [each["ResponseMetadata"]["HTTPHeaders"]["content-length"] for each in (whole, cut)]
    assert lengths[0] == lengths[1]


def test_a_reset_reaches_the_client_as_a_closed_connection(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    server.inject([{"kind": "reset", "operation": "GetFindings"}])
    with pytest.raises(HTTPClientError):
        hub.get_findings()
    assert hub.get_findings()["Findings"]


def test_a_slow_reply_runs_into_the_read_timeout(server: SimulationServer) -> None:
    hub = client(server, "securityhub", read_timeout=0.3)
    server.inject([{"kind": "slow", "seconds": 0.6, "operation": "GetFindings"}])
    with pytest.raises(ReadTimeoutError):
        hub.get_findings()


def test_a_finding_of_the_page_before_comes_again(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    server.inject([{"kind": "duplicate", "operation": "GetFindings", "after": 1}])
    found = collect(hub, ACTIVE)
    ids = [(f["ProductArn"], f["Id"]) for f in found]
    assert len(ids) == len(set(ids)) + 1


def test_a_token_expires_on_demand_and_only_where_there_is_one(server: SimulationServer) -> None:
    hub = client(server, "securityhub")
    server.inject([{"kind": "expire_token", "operation": "GetFindings"}])
    token = hub.get_findings()["NextToken"]
    assert error_code(hub.get_findings, NextToken=token) == "InvalidInputException"
    assert hub.get_findings(NextToken=token)["Findings"]


def test_a_page_can_have_records_that_are_no_findings(server: SimulationServer) -> None:
    server.inject([{"kind": "malformed_record", "operation": "GetFindings"}])
    request = urllib.request.Request(f"{server.url}/findings", b"{}", method="POST")
    scope = "x/20261124/eu-west-1/securityhub/aws4_request"
    request.add_header("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, Signature=x")
    with urllib.request.urlopen(request) as reply:
        records = json.load(reply)["Findings"]
    assert len(records) == 104
    assert any(isinstance(r, int) for r in records)
    assert any(isinstance(r, str) for r in records)
    assert any(isinstance(r, dict) and "Id" not in r for r in records)


def test_headers_of_a_fault_reach_the_client(server: SimulationServer) -> None:
    fault = {"kind": "throttle", "headers": {"x-amz-retry-after": "3000"}}
    server.inject([fault])
    with pytest.raises(ClientError) as error:
        client(server, "securityhub").describe_hub()
    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-retry-after"] == "3000"


@pytest.mark.parametrize("rule", [{}, {"kind": "explode"}, {"kind": "slow", "oops": 1}])
def test_a_fault_that_cannot_be_is_refused(server: SimulationServer, rule: dict) -> None:
    with pytest.raises(SimulationSettingsError):
        server.inject([rule])
    assert control(server, "POST", "faults", [rule])[0] == 400


# The control path


def control(server: SimulationServer, method: str, name: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/_sim/{name}", data, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_clock_faults_and_calls_can_be_reached_over_http(server: SimulationServer) -> None:
    assert control(server, "POST", "clock", {"now": "2026-12-01T06:00:00Z"})[0] == 200
    assert server.now().date() == dt.date(2026, 12, 1)
    rule = {"kind": "error", "code": "AccessDeniedException", "operation": "DescribeHub"}
    assert control(server, "POST", "faults", [rule])[1] == {"rules": 1}
    hub = client(server, "securityhub")
    assert error_code(hub.describe_hub) == "AccessDeniedException"
    assert control(server, "DELETE", "faults")[1] == {"rules": 0}
    hub.get_findings(Filters=where("AwsAccountId", "0", "PREFIX"), MaxResults=7)
    calls = control(server, "GET", "calls")[1]["calls"]
    assert [(c["operation"], c["status"]) for c in calls] == [
        ("DescribeHub", 403),
        ("GetFindings", 200),
    ]
    assert calls[1]["accounts"] == ["PREFIX 0"]
    assert calls[1]["MaxResults"] == 7
    assert control(server, "DELETE", "calls")[1] == {"calls": []}
    assert control(server, "POST", "clock", {"now": "noon"})[0] == 400
    assert control(server, "GET", "nothing")[0] == 404


# Services that are passed on


def test_metrics_within_the_limits_are_kept_and_others_refused(server: SimulationServer) -> None:
    server.set_clock(dt.datetime.now(dt.UTC))
    cloudwatch = client(server, "cloudwatch")
    datum = {
        "MetricName": "Score",
        "Value": 91.5,
        "Timestamp": server.now(),
        "Dimensions": [{"Name": "Workload", "Value": "payments"}],
    }
    many = [{**datum, "Value": float(n % 100)} for n in range(1000)]
    cloudwatch.put_metric_data(Namespace="Posture", MetricData=many)
    assert server.calls("PutMetricData")[-1]["metrics"] == 1000
    (metric,) = cloudwatch.list_metrics(Namespace="Posture")["Metrics"]
    assert metric["Dimensions"] == datum["Dimensions"]
    old = {**datum, "Timestamp": server.now() - dt.timedelta(days=15)}
    for wrong in ([*many, datum], [old]):
        code = error_code(cloudwatch.put_metric_data, Namespace="Posture", MetricData=wrong)
        assert code == "InvalidParameterValue"
    assert error_code(cloudwatch.put_metric_data, Namespace="AWS/X", MetricData=[datum]) == (
        "InvalidParameterValue"
    )


def test_expressions_over_metrics_are_calculated(server: SimulationServer) -> None:
    server.set_clock(dt.datetime.now(dt.UTC))
    cloudwatch = client(server, "cloudwatch")
    today = server.now().replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - dt.timedelta(days=back) for back in (3, 2, 1)]
    for name, values in (("a", (80.0, 90.0, None)), ("b", (40.0, 0.0, 20.0))):
        cloudwatch.put_metric_data(
            Namespace="Math",
            MetricData=[
                {"MetricName": name, "Value": value, "Timestamp": day}
                for day, value in zip(days, values, strict=True)
                if value is not None
            ],
        )

    def metric(name: str) -> dict:
        stat = {"Metric": {"Namespace": "Math", "MetricName": name}, "Period": 86_400}
        return {"Id": name, "MetricStat": {**stat, "Stat": "Average"}, "ReturnData": False}

    def calculated(expression: str) -> dict[dt.datetime, float]:
        (result,) = cloudwatch.get_metric_data(
            MetricDataQueries=[metric("a"), metric("b"), {"Id": "e", "Expression": expression}],
            StartTime=days[0],
            EndTime=today,
            ScanBy="TimestampAscending",
        )["MetricDataResults"]
        assert result["Id"] == "e"
        return dict(zip(result["Timestamps"], result["Values"], strict=True))

    one, two, three = days
    assert calculated("a - b") == {one: 40.0, two: 90.0}
    assert calculated("100 * a / b") == {one: 200.0}
    assert calculated("FILL(a, REPEAT)") == {one: 80.0, two: 90.0, three: 90.0}
    assert calculated("FILL(a, 0) + b") == {one: 120.0, two: 90.0, three: 20.0}
    assert calculated("AVG([a, b])") == {one: 60.0, two: 45.0, three: 20.0}
    assert calculated("MAX(METRICS())") == {one: 80.0, two: 90.0, three: 20.0}
    assert calculated("IF(b > 10, a, 1)") == {one: 80.0, two: 1.0}
    assert calculated("SUM(a)") == dict.fromkeys(days, 170.0)
    for wrong in ("a +", "c", "SEARCH('{Math} a', 'Average')", "[a, b]", "e"):
        with pytest.raises(ClientError, match="Error in expression"):
            calculated(wrong)


def test_the_lake_and_the_caller_live_in_the_audit_account(server: SimulationServer) -> None:
    s3 = client(server, "s3")
    s3.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="lake", Key="a/b", Body=b"x" * 300_000)
    assert s3.head_object(Bucket="lake", Key="a/b")["ContentLength"] == 300_000
    assert s3.get_object(Bucket="lake", Key="a/b")["Body"].read() == b"x" * 300_000
    s3.delete_object(Bucket="lake", Key="a/b")
    s3.delete_bucket(Bucket="lake")
    identity = client(server, "sts").get_caller_identity()
    assert identity["Account"] == server.organization.audit_account_id


# Running


TWO_SERVERS = """
import boto3
from posture_pipeline.simulation.server import serve
from posture_pipeline.simulation.settings import SimulationSettings

def buckets(server, name):
    s3 = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="simulated",
        aws_secret_access_key="simulated",
    )
    s3.create_bucket(Bucket=name)
    return [each["Name"] for each in s3.list_buckets()["Buckets"]]

def organization():
    return serve(SimulationSettings(accounts=5))

with organization() as one:
    print(*buckets(one, "logs"))
with organization() as other:
    print(*buckets(other, "others"))
"""


def test_what_was_stored_in_an_endpoint_is_gone_with_it() -> None:
    """In a process of its own: other tests of this one may have an endpoint running."""
    ended = subprocess.run(
        [sys.executable, "-c", TWO_SERVERS], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["logs", "others"]


def test_connections_stay_open_between_requests(server: SimulationServer) -> None:
    import http.client

    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    connection.request("GET", "/_sim/health")
    connection.getresponse().read()
    kept = connection.sock
    connection.request("GET", "/_sim/health")
    assert connection.getresponse().status == 200
    assert connection.sock is kept
    connection.close()


def test_a_port_in_use_is_an_error_that_names_it(server: SimulationServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(SimulationSettingsError, match=str(port)), serve(port=port):
        pass


def test_in_the_foreground_it_says_how_to_reach_it_and_stops_on_a_signal() -> None:
    script = (
        "from posture_pipeline.simulation.server import run_forever\n"
        "from posture_pipeline.simulation.settings import SimulationSettings\n"
        "run_forever(SimulationSettings(accounts=5), echo=lambda s: print(s, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        assert "http://127.0.0.1:" in first
        while "Ctrl-C" not in run.stdout.readline():
            pass
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait(timeout=60) == 0
