"""The AWS folder against the simulated organization: real boto3, real HTTP, faults on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from posture_pipeline.aws import cloudwatch
from posture_pipeline.aws.clients import AwsClients, PassingAwsError, is_passing
from posture_pipeline.aws.cloudwatch import publish
from posture_pipeline.aws.controls import NotReadyError, find_pack, listed_controls
from posture_pipeline.aws.organizations import organization_accounts
from posture_pipeline.aws.permissions import PermissionResult, try_permissions
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.aws.security_hub import Collected, PassingCollectionError, collect
from posture_pipeline.aws.unified_hub import unified_hub_since
from posture_pipeline.errors import (
    AwsError,
    CredentialsError,
    DayIsOverError,
    PermissionMissingError,
)
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.schemas import LISTED_CONTROLS, ORGANIZATION_ACCOUNTS
from posture_pipeline.settings import Accounts, Alarms, Aws, Report, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import RateLimit, SimulationSettings

pytestmark = pytest.mark.functional

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
DAY = NOW.date()
FSBP = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
CIS_3 = Report(name="cis-v3", standard="cis-aws-foundations-benchmark/v/3.0.0")
CIS_1 = Report(name="cis-v1", standard="cis-aws-foundations-benchmark/v/1.2.0")
PACK = Report(name="lz-pack", conformance_pack="lz-framework")
RULES = Report(name="lz-rules", custom_rules=("lz-s3", "lz-s3-encryption"))
REPORTS = (FSBP, CIS_3, PACK, RULES)
PAGE = 25


@pytest.fixture(scope="module")
def running() -> Iterator[SimulationServer]:
    settings = SimulationSettings(
        accounts=6, resources_per_account=5, rate_limit=None, unified_hub_since=DAY
    )
    with serve(settings) as server:
        yield server


@pytest.fixture(scope="module")
def shared(running: SimulationServer) -> AwsClients:
    aws = Aws(endpoint_url=running.url)
    return AwsClients(aws, attempts=1, read_timeout=5, connect_timeout=2)


@pytest.fixture
def hub(running: SimulationServer) -> SimulationServer:
    running.clear()
    running.set_rate_limit(None)
    running.set_clock(NOW)
    return running


@pytest.fixture
def clients(shared: AwsClients, hub: SimulationServer) -> AwsClients:
    return shared


class MemorySink:
    def __init__(self) -> None:
        self.pages: dict[str, list[bytes]] = {}
        self.positions: dict[str, ShardPosition] = {}
        self.restarts: list[str] = []

    def position(self, shard: str) -> ShardPosition | None:
        return self.positions.get(shard)

    def add(self, shard: str, body: bytes) -> None:
        self.pages.setdefault(shard, []).append(body)

    def save(self, position: ShardPosition) -> None:
        self.positions[position.shard] = position

    def restart(self, shard: str) -> None:
        self.restarts.append(shard)
        self.pages.pop(shard, None)
        self.positions.pop(shard, None)

    @property
    def records(self) -> list[Any]:
        return [
            record
            for pages in self.pages.values()
            for page in pages
            for record in json.loads(page)["Findings"]
        ]

    @property
    def ids(self) -> set[tuple[str, str]]:
        return {(f["ProductArn"], f["Id"]) for f in self.records}


def run(clients: AwsClients, sink: MemorySink, **more: Any) -> Collected:
    settings = more.pop("settings", Settings(reports=REPORTS))
    options: dict[str, Any] = {
        "day": DAY,
        "budgets": lambda _region: RateBudget.unlimited(),
        "page_size": PAGE,
        "sleep": lambda _seconds: None,
    }
    return collect(clients, settings, sink, **{**options, **more})


@pytest.fixture(scope="module")
def everything(shared: AwsClients, running: SimulationServer) -> set[tuple[str, str]]:
    """What a collection without any fault brings."""
    running.clear()
    running.set_clock(NOW)
    sink = MemorySink()
    collected = run(shared, sink)
    assert collected.findings == len(sink.ids) > 300
    return sink.ids


# -- Findings --------------------------------------------------------------------------------------


def test_findings_of_another_product_are_collected_if_the_settings_name_it(
    clients: AwsClients,
) -> None:
    scanner = "arn:aws:securityhub:eu-west-1::product/acme/scanner"
    hub = clients.security_hub()
    hub.enable_import_findings_for_product(ProductArn=scanner)
    sent: Any = {
        "SchemaVersion": "2018-10-08",
        "Id": "sent/1",
        "ProductArn": scanner,
        "GeneratorId": "scanner/1",
        "AwsAccountId": clients.sts().get_caller_identity()["Account"],
        "Types": ["Software and Configuration Checks"],
        "CreatedAt": "2026-11-23T05:00:00Z",
        "UpdatedAt": "2026-11-23T05:00:00Z",
        "Severity": {"Label": "HIGH"},
        "Title": "Something was sent",
        "Description": "By a tool that sends findings.",
        "Resources": [{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::sent"}],
    }
    assert hub.batch_import_findings(Findings=[sent])["SuccessCount"] == 1
    for products, expected in (((), False), (("acme/scanner",), True)):
        sink = MemorySink()
        run(clients, sink, settings=Settings(reports=(RULES,), products=products))
        assert ((scanner, "sent/1") in sink.ids) is expected


def wanted_by_reports(finding: dict[str, Any]) -> bool:
    generator = finding["GeneratorId"]
    config = finding["ProductName"] == "Config"
    return config or generator.startswith(
        ("security-control/", f"{FSBP.standard}/", f"{CIS_3.standard}/")
    )


def test_the_collection_is_what_the_reports_need_and_nothing_else(
    hub: SimulationServer, everything: set[tuple[str, str]]
) -> None:
    """Control findings and those of AWS Config; not GuardDuty and the like."""
    from_model = [
        finding
        for account in hub.organization.accounts(DAY)
        for finding in hub.organization.findings(account, DAY)
    ]
    active = {
        (f["ProductArn"], f["Id"])
        for f in from_model
        if wanted_by_reports(f) and f["RecordState"] == "ACTIVE"
    }
    others = {(f["ProductArn"], f["Id"]) for f in from_model if not wanted_by_reports(f)}
    assert active <= everything
    assert others
    assert not others & everything


@pytest.mark.parametrize(
    "settings",
    [Settings(reports=REPORTS, shards=False), Settings(reports=REPORTS)],
    ids=["one stream", "ten shards"],
)
def test_shards_and_page_sizes_do_not_change_the_set(
    clients: AwsClients, everything: set[tuple[str, str]], settings: Settings
) -> None:
    sink = MemorySink()
    run(clients, sink, settings=settings, page_size=100)
    assert sink.ids == everything


def test_archived_findings_are_in_their_own_shard_alone(clients: AwsClients) -> None:
    sink = MemorySink()
    collected = run(clients, sink)
    archived = sum(f["RecordState"] == "ARCHIVED" for f in sink.records)
    assert collected.archived_findings == archived
    assert all(
        f["RecordState"] == "ARCHIVED"
        for page in sink.pages["eu-west-1-archived"]
        for f in json.loads(page)["Findings"]
    )


def test_collecting_failures_leaves_passed_findings_at_aws(clients: AwsClients) -> None:
    sink = MemorySink()
    run(clients, sink, settings=Settings(reports=REPORTS, collect="failing"))
    statuses = {f["Compliance"]["Status"] for f in sink.records}
    assert "FAILED" in statuses
    assert "PASSED" not in statuses


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "throttle"},
        {"kind": "throttle", "code": "TooManyRequestsException"},
        {"kind": "error", "code": "InternalException"},
        {"kind": "error", "status": 503, "code": "ServiceUnavailable"},
        {"kind": "truncate"},
        {"kind": "garbage"},
        {"kind": "empty"},
        {"kind": "json_without_findings"},
        {"kind": "reset"},
    ],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
def test_passing_faults_cost_no_finding(
    clients: AwsClients,
    hub: SimulationServer,
    everything: set[tuple[str, str]],
    fault: dict[str, Any],
) -> None:
    hub.inject(
        [{"operation": "GetFindings", "after": n, "times": 1, **fault} for n in (0, 5, 6, 9)]
    )
    sink = MemorySink()
    collected = run(clients, sink)
    assert sink.ids == everything
    assert collected.requests == collected.pages + 4 == len(hub.calls("GetFindings"))


def test_a_fault_that_stays_fails_the_collection(
    clients: AwsClients, hub: SimulationServer
) -> None:
    hub.inject([{"kind": "truncate", "operation": "GetFindings", "after": 12, "times": None}])
    with pytest.raises(PassingCollectionError, match="no page of findings"):
        run(clients, MemorySink())


def test_a_slow_reply_is_asked_for_again(
    hub: SimulationServer, everything: set[tuple[str, str]]
) -> None:
    clients = AwsClients(Aws(endpoint_url=hub.url), attempts=1, read_timeout=0.5)
    hub.inject([{"kind": "slow", "seconds": 1.0, "operation": "GetFindings", "after": 3}])
    sink = MemorySink()
    assert run(clients, sink).requests > run(clients, MemorySink()).requests
    assert sink.ids == everything


def test_a_token_that_expired_restarts_one_shard(
    clients: AwsClients, hub: SimulationServer, everything: set[tuple[str, str]]
) -> None:
    hub.inject([{"kind": "expire_token", "operation": "GetFindings", "after": 3}])
    sink = MemorySink()
    run(clients, sink)
    assert len(sink.restarts) == 1
    assert sink.ids == everything


def test_duplicates_and_malformed_records_are_kept_as_received(
    clients: AwsClients, hub: SimulationServer, everything: set[tuple[str, str]]
) -> None:
    hub.inject([{"kind": "duplicate", "operation": "GetFindings", "after": 2}])
    hub.inject([{"kind": "malformed_record", "operation": "GetFindings", "after": 4}])
    sink = MemorySink()
    collected = run(clients, sink)
    findings = [r for r in sink.records if isinstance(r, dict) and "Id" in r]
    assert collected.findings == len(sink.records) > len(everything)
    assert len(findings) < len(sink.records)
    assert everything <= {(f["ProductArn"], f["Id"]) for f in findings}


def test_expired_credentials_are_told_from_passing_faults(
    clients: AwsClients, hub: SimulationServer
) -> None:
    hub.inject(
        [
            {
                "kind": "error",
                "code": "ExpiredTokenException",
                "operation": "GetFindings",
                "after": 6,
                "times": None,
            }
        ]
    )
    with pytest.raises(CredentialsError, match="goes on where it stopped") as caught:
        run(clients, MemorySink())
    assert not is_passing(caught.value)


def test_the_rate_limit_of_the_endpoint_is_kept(
    clients: AwsClients, hub: SimulationServer, everything: set[tuple[str, str]]
) -> None:
    """Ten times AWS's rate, with its burst."""
    hub.set_rate_limit(RateLimit(30, 6))
    sink = MemorySink()
    collected = run(clients, sink, sleep=None, budgets=lambda _region: RateBudget(30, 6))
    assert sink.ids == everything
    assert collected.throttled <= 2


def test_the_day_is_the_endpoints_and_another_is_refused(
    clients: AwsClients, hub: SimulationServer
) -> None:
    hub.set_clock(NOW + timedelta(days=1))
    assert clients.now().date() == DAY + timedelta(days=1)
    with pytest.raises(DayIsOverError):
        run(clients, MemorySink())
    assert hub.calls("GetFindings") == []


# -- Controls --------------------------------------------------------------------------------------


def rows_of(frame: pl.DataFrame, report: Report) -> pl.DataFrame:
    return frame.filter(pl.col("definition") == report.definition)


def listed(clients: AwsClients, *reports: Report) -> pl.DataFrame:
    listing = listed_controls(clients, reports, day=DAY, last_try=False)
    assert listing.unlisted == {}
    return listing.controls


def test_controls_are_listed_for_every_kind_of_report_that_aws_knows(clients: AwsClients) -> None:
    frame = listed(clients, *REPORTS, CIS_1)
    assert frame.schema == LISTED_CONTROLS.schema
    assert frame.select("definition", "control_id").is_unique().all()
    assert frame["date"].unique().to_list() == [DAY]
    for report in (FSBP, CIS_3, CIS_1):
        rows = rows_of(frame, report)
        assert rows.height > 10
        assert rows["severity"].is_in(["CRITICAL", "HIGH", "MEDIUM", "LOW"]).all()
        assert rows["title"].null_count() == 0
        assert set(rows["source"]) == {"security_hub"}
    assert not rows_of(frame, FSBP)["enabled"].all()
    assert rows_of(frame, RULES).is_empty(), "custom rules are in the settings"


def test_a_standards_own_ids_are_mapped_to_security_controls(clients: AwsClients) -> None:
    """CIS 1.2 numbers its rules; one number may be two controls, one control two numbers."""
    rows = rows_of(listed(clients, CIS_1), CIS_1)
    own = {each for ids in rows["standard_control_ids"].drop_nulls() for each in ids.split()}
    assert "1.1" in own
    assert all("." in control and control[0].isalpha() for control in rows["control_id"])


def test_a_pack_is_found_by_its_plain_name_and_lists_rules_without_findings(
    clients: AwsClients,
) -> None:
    deployed = find_pack(clients, "lz-framework")
    assert deployed.startswith("OrgConformsPack-lz-framework-")
    assert find_pack(clients, deployed) == deployed
    rows = rows_of(listed(clients, PACK), PACK)
    assert {"lz-rule-1", "lz-rule-10", "lz-rds-backup"} <= set(rows["control_id"])
    assert not rows["control_id"].str.contains("conformance-pack").any()


@pytest.mark.parametrize("name", ["lz-frame", "lz", "framework", "lz-framework-x"])
def test_a_pack_of_another_name_is_not_taken_and_those_that_exist_are_named(
    clients: AwsClients, name: str
) -> None:
    with pytest.raises(AwsError, match="There are: OrgConformsPack-lz-framework-") as caught:
        find_pack(clients, name)
    assert not is_passing(caught.value)


def test_a_standard_that_is_not_enabled_lists_nothing_and_says_so(clients: AwsClients) -> None:
    report = Report(name="nist", standard="nist-800-53/v/5.0.0")
    listing = listed_controls(clients, [FSBP, report], day=DAY)
    assert set(listing.controls["definition"]) == {FSBP.definition}
    (unlisted,) = listing.unlisted.values()
    assert unlisted.kind == "not_enabled"
    assert "nist-800-53/v/5.0.0 is not enabled in eu-west-1" in unlisted.reason


@pytest.mark.parametrize("denied", [(), ("BatchGetStandardsControlAssociations",)])
@pytest.mark.parametrize("kind", ["standards_off", "standards_pending"])
def test_a_standard_that_is_off_is_told_from_one_that_is_not_ready(
    denied: tuple[str, ...], kind: str
) -> None:
    simulation = SimulationSettings(
        accounts=5, rate_limit=None, pending_on=(DAY,), **{kind: (CIS_3.standard,)}
    )
    with serve(simulation) as hub:
        hub.set_clock(NOW)
        deny(hub, *denied)
        clients = AwsClients(Aws(endpoint_url=hub.url))
        listing = listed_controls(clients, [FSBP, CIS_3], day=DAY)
        assert set(listing.controls["definition"]) == {FSBP.definition}
        (unlisted,) = listing.unlisted.values()
        if kind == "standards_off":
            assert unlisted.kind == "not_enabled"
        else:
            assert unlisted.kind == "not_ready"
            assert "StandardsStatus PENDING, NOT_READY_FOR_UPDATES" in unlisted.reason
            with pytest.raises(NotReadyError) as caught:
                listed_controls(clients, [FSBP, CIS_3], day=DAY, last_try=False)
            assert is_passing(caught.value), "worth another try"


def test_pending_controls_are_never_taken_for_disabled_ones_without_the_status(
    clients: AwsClients, hub: SimulationServer
) -> None:
    """Without the permission to read the status nobody knows which of the two it is."""
    report = Report(name="nist", standard="nist-800-53/v/5.0.0")
    deny(hub, "GetEnabledStandards")
    (unlisted,) = listed_controls(clients, [FSBP, report], day=DAY).unlisted.values()
    assert unlisted.kind == "failed"
    assert "securityhub:GetEnabledStandards" in unlisted.reason


def test_the_controls_of_all_standards_are_those_of_each_once(clients: AwsClients) -> None:
    every = Report(name="all", all_standards=True)
    whole = listed(clients, every)
    single = listed(clients, FSBP, CIS_3, CIS_1)
    assert set(single["control_id"]) <= set(whole["control_id"])
    assert whole["control_id"].is_unique().all()
    own = {each for ids in whole["standard_control_ids"].drop_nulls() for each in ids.split()}
    assert f"{CIS_1.standard}/1.1" in own, "CIS 1.4 has another 1.1"
    assert "1.1" not in own
    enabled = single.filter("enabled")["control_id"].unique().sort()
    also = whole.filter("enabled", pl.col("control_id").is_in(enabled.implode()))
    assert also["control_id"].sort().to_list() == enabled.to_list()


def test_one_reports_failure_does_not_keep_the_others_from_being_listed(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "DescribeConformancePackCompliance")
    made_up = Report(name="made-up", standard="made-up/v/9.9.9")
    listing = listed_controls(clients, [FSBP, made_up, PACK, RULES], day=DAY)
    assert set(listing.controls["definition"]) == {FSBP.definition}
    assert {key: each.kind for key, each in listing.unlisted.items()} == {
        made_up.definition: "failed",
        PACK.definition: "failed",
    }
    assert "config:DescribeConformancePackCompliance" in listing.unlisted[PACK.definition].reason
    assert "knows no standard" in listing.unlisted[made_up.definition].reason


def test_where_no_report_can_be_listed_the_error_says_why_for_each(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "DescribeConformancePackCompliance")
    made_up = Report(name="made-up", standard="made-up/v/9.9.9")
    with pytest.raises(AwsError, match=r"made-up: .* lz-pack: .*DescribeConformancePackCompl"):
        listed_controls(clients, [made_up, PACK], day=DAY)


def test_credentials_that_expired_stop_everything(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "DescribeConformancePackCompliance", code="ExpiredTokenException")
    with pytest.raises(CredentialsError, match="expired"):
        listed_controls(clients, [FSBP, PACK], day=DAY)


def test_a_standard_that_aws_does_not_know_is_named(clients: AwsClients) -> None:
    report = Report(name="made-up", standard="made-up/v/9.9.9")
    with pytest.raises(AwsError, match=r"knows no standard made-up/v/9\.9\.9 .* Correct"):
        listed(clients, report)


def test_without_the_newer_permissions_the_older_calls_give_the_same_controls(
    clients: AwsClients, hub: SimulationServer
) -> None:
    whole = listed(clients, FSBP, CIS_3, CIS_1)
    deny(hub, "ListSecurityControlDefinitions")
    fallback = listed(clients, FSBP, CIS_3, CIS_1)
    assert hub.calls("DescribeStandardsControls")
    for report in (FSBP, CIS_3, CIS_1):
        first, second = rows_of(whole, report), rows_of(fallback, report)
        # Which rules AWS retired or disabled everywhere the two calls may tell differently.
        enabled = set(first.filter(pl.col("enabled"))["control_id"])
        also = set(second.filter(pl.col("enabled"))["control_id"])
        assert enabled == also


def test_without_either_permission_the_error_names_both(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "BatchGetStandardsControlAssociations", "DescribeStandardsControls")
    with pytest.raises(PermissionMissingError) as caught:
        listed(clients, FSBP)
    assert "securityhub:BatchGetStandardsControlAssociations" in str(caught.value)
    assert "securityhub:DescribeStandardsControls" in str(caught.value)


@pytest.mark.parametrize("kind", ["truncate", "garbage", "empty", "json_without_findings"])
@pytest.mark.parametrize(
    "operation",
    [
        "ListSecurityControlDefinitions",
        "BatchGetStandardsControlAssociations",
        "DescribeConformancePacks",
        "DescribeConformancePackCompliance",
    ],
)
def test_a_broken_reply_never_becomes_a_short_list_of_controls(
    clients: AwsClients, hub: SimulationServer, operation: str, kind: str
) -> None:
    hub.inject([{"kind": kind, "operation": operation}])
    with pytest.raises(PassingAwsError, match=operation):
        listed(clients, *REPORTS)


# -- Accounts --------------------------------------------------------------------------------------


def deny(hub: SimulationServer, *operations: str, code: str = "AccessDeniedException") -> None:
    status = 400 if code != "AccessDeniedException" else 403
    hub.inject(
        [
            {"kind": "error", "code": code, "status": status, "operation": name, "times": None}
            for name in operations
        ]
    )


def test_every_account_is_listed_once_over_pages_and_empty_pages() -> None:
    settings = SimulationSettings(accounts=95, resources_per_account=5)
    with serve(settings) as hub:
        hub.set_clock(NOW)
        clients = AwsClients(Aws(endpoint_url=hub.url))
        listed = organization_accounts(clients, Accounts(), day=DAY)
        members = hub.organization.accounts(DAY)
        calls = hub.calls("ListAccounts")
    assert listed.reason is None
    assert listed.frame.schema == ORGANIZATION_ACCOUNTS.schema
    assert listed.frame["account_id"].to_list() == sorted(a.account_id for a in members)
    assert len(calls) > len(members) / 20
    by_id = {row["account_id"]: row for row in listed.frame.to_dicts()}
    for member in members:
        row = by_id[member.account_id]
        assert (row["account_name"], row["state"]) == (member.name, member.state)
        expected = dict(member.tags) if member.state == "ACTIVE" else {}
        assert json.loads(row["tags"]) == expected
        assert row["joined_at"].date() == member.joined


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("AccessDeniedException", "organizations:ListAccounts"),
        ("AWSOrganizationsNotInUseException", "in no organization"),
    ],
)
def test_a_role_that_may_not_list_accounts_gets_an_empty_table_and_the_reason(
    clients: AwsClients, hub: SimulationServer, code: str, text: str
) -> None:
    deny(hub, "ListAccounts", code=code)
    listed = organization_accounts(clients, Accounts(), day=DAY)
    assert listed.frame.is_empty()
    assert listed.frame.schema == ORGANIZATION_ACCOUNTS.schema
    assert listed.reason is not None
    assert text in listed.reason


def test_without_the_permission_for_tags_the_accounts_come_without_and_it_is_tried_once(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "ListTagsForResource")
    listed = organization_accounts(clients, Accounts(), day=DAY)
    assert listed.frame.height == len(hub.organization.accounts(DAY))
    assert set(listed.frame["tags"]) == {"{}"}
    assert listed.reason is not None
    assert "organizations:ListTagsForResource" in listed.reason
    assert len(hub.calls("ListTagsForResource")) == 1


def test_since_when_the_unified_hub_is_enabled_is_known_where_aws_says_so(
    clients: AwsClients, hub: SimulationServer
) -> None:
    assert unified_hub_since(clients) == DAY
    hub.set_clock(NOW - timedelta(days=1))
    assert unified_hub_since(clients) is None
    assert [call["status"] for call in hub.calls("DescribeSecurityHubV2")] == [200, 404]


@pytest.mark.parametrize("kind", ["truncate", "empty", "throttle", "error"])
def test_without_an_answer_on_the_unified_hub_the_run_goes_on(
    clients: AwsClients, hub: SimulationServer, kind: str
) -> None:
    hub.inject([{"kind": kind, "operation": "DescribeSecurityHubV2", "times": None}])
    assert unified_hub_since(clients) is None


def test_a_role_that_may_not_ask_for_the_unified_hub_changes_nothing(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "DescribeSecurityHubV2")
    assert unified_hub_since(clients) is None
    result = results(clients)["securityhub:DescribeSecurityHubV2"]
    assert (result.ok, result.required) == (False, False)


@pytest.mark.parametrize("operation", ["ListAccounts", "ListTagsForResource"])
@pytest.mark.parametrize("kind", ["truncate", "empty", "throttle", "error"])
def test_a_failing_organizations_is_an_error_not_a_short_list(
    clients: AwsClients, hub: SimulationServer, operation: str, kind: str
) -> None:
    hub.inject([{"kind": kind, "operation": operation, "times": None}])
    with pytest.raises(PassingAwsError, match=f"organizations:{operation}"):
        organization_accounts(clients, Accounts(), day=DAY)


# -- CloudWatch ------------------------------------------------------------------------------------


def point(number: int = 0, at: datetime = NOW, value: float = 90.0) -> dict[str, Any]:
    return {
        "MetricName": "Score",
        "Dimensions": [{"Name": "Report", "Value": "fsbp"}, {"Name": "N", "Value": str(number)}],
        "Timestamp": at,
        "Value": value,
        "Unit": "Percent",
    }


def statistics(clients: AwsClients, namespace: str, number: int) -> list[Any]:
    return clients.cloudwatch().get_metric_statistics(
        Namespace=namespace,
        MetricName="Score",
        Dimensions=point(number)["Dimensions"],
        StartTime=NOW - timedelta(days=1),
        EndTime=NOW + timedelta(days=1),
        Period=86400,
        Statistics=["Average", "Maximum", "SampleCount"],
    )["Datapoints"]


def test_metrics_go_out_in_batches_of_at_most_a_thousand(
    clients: AwsClients, hub: SimulationServer
) -> None:
    published = publish(clients, "Batches", map(point, range(2500)), now=NOW)
    assert (published.sent, published.requests, published.note) == (2500, 3, None)
    sizes = [call["metrics"] for call in hub.calls("PutMetricData")]
    assert sorted(sizes) == [500, 1000, 1000]


def test_a_batch_stays_under_the_size_limit(
    clients: AwsClients, hub: SimulationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudwatch, "BYTES_PER_REQUEST", 2000)
    published = publish(clients, "Small", map(point, range(40)), now=NOW)
    assert published.sent == 40
    assert published.requests > 3
    assert sum(call["metrics"] for call in hub.calls("PutMetricData")) == 40


def test_publishing_the_same_point_twice_leaves_its_value(clients: AwsClients) -> None:
    for _ in range(2):
        publish(clients, "Twice", [point(1, value=88.5)], now=NOW)
    (found,) = statistics(clients, "Twice", 1)
    assert found["Average"] == found["Maximum"] == 88.5


def test_points_that_cloudwatch_would_refuse_are_left_out_with_the_reason(
    clients: AwsClients,
) -> None:
    """One of them would fail its whole batch."""
    bad_value = {**point(3), "Value": float("nan")}
    too_many = {**point(4), "Dimensions": [{"Name": f"d{n}", "Value": "x"} for n in range(31)]}
    not_ascii = {**point(5), "Dimensions": [{"Name": "Workload", "Value": "Müller"}]}
    data = [
        point(1),
        point(2, at=NOW - timedelta(days=14, minutes=1)),
        point(2, at=NOW - timedelta(days=13)),
        point(2, at=NOW + timedelta(hours=3)),
        bad_value,
        too_many,
        not_ascii,
    ]
    published = publish(clients, "Unfit", data, now=NOW)
    assert published.sent == 2
    assert sum(published.skipped.values()) == 5
    assert published.note is not None
    for text in ("two weeks", "two hours", "finite", "30 dimensions", "ASCII"):
        assert text in published.note


def test_nothing_to_publish_asks_nothing(clients: AwsClients, hub: SimulationServer) -> None:
    assert publish(clients, "Empty", [], now=NOW).requests == 0
    assert hub.calls("PutMetricData") == []


def test_a_missing_permission_to_publish_is_named(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "PutMetricData", code="AccessDenied")
    with pytest.raises(PermissionMissingError, match="cloudwatch:PutMetricData"):
        publish(clients, "Denied", [point()], now=NOW)


# -- Permissions -----------------------------------------------------------------------------------


def results(clients: AwsClients) -> dict[str, PermissionResult]:
    own = Settings(aws=clients.aws, reports=REPORTS, alarms=Alarms(enabled=True))
    found = try_permissions(clients, own)
    return {result.action: result for result in found}


def test_every_permission_of_a_run_is_tried_and_nothing_is_written(
    clients: AwsClients, hub: SimulationServer
) -> None:
    found = results(clients)
    assert set(found) == {
        "securityhub:GetFindings",
        "securityhub:ListSecurityControlDefinitions",
        "securityhub:BatchGetStandardsControlAssociations",
        "securityhub:GetEnabledStandards",
        "securityhub:DescribeSecurityHubV2",
        "config:DescribeConformancePacks",
        "config:DescribeConformancePackCompliance",
        "config:ListConformancePackComplianceScores",
        "config:GetConformancePackComplianceDetails",
        "organizations:ListAccounts",
        "organizations:ListTagsForResource",
        "cloudwatch:PutMetricData",
        "cloudwatch:ListDashboards",
        "cloudwatch:GetDashboard",
        "cloudwatch:PutDashboard",
        "cloudwatch:DeleteDashboards",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:PutMetricAlarm",
        "cloudwatch:DeleteAlarms",
    }
    assert {result.ok for result in found.values()} == {True}
    for operation in ("PutMetricData", "PutDashboard", "DeleteDashboards", "PutMetricAlarm"):
        assert all(call["status"] == 400 for call in hub.calls(operation)), operation


@pytest.mark.parametrize(
    "action",
    [
        "securityhub:GetFindings",
        "securityhub:ListSecurityControlDefinitions",
        "securityhub:GetEnabledStandards",
        "config:DescribeConformancePacks",
        "config:DescribeConformancePackCompliance",
        "config:ListConformancePackComplianceScores",
        "config:GetConformancePackComplianceDetails",
        "organizations:ListAccounts",
        "organizations:ListTagsForResource",
        "cloudwatch:PutMetricData",
        "cloudwatch:PutDashboard",
        "cloudwatch:PutMetricAlarm",
    ],
)
def test_a_missing_permission_is_named_with_what_it_is_needed_for(
    clients: AwsClients, hub: SimulationServer, action: str
) -> None:
    deny(hub, action.partition(":")[2])
    result = results(clients)[action]
    assert result.ok is False
    assert action in result.why
    assert result.needed_for


def test_where_the_older_calls_are_allowed_the_newer_ones_are_not_required(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "BatchGetStandardsControlAssociations")
    found = results(clients)
    assert found["securityhub:BatchGetStandardsControlAssociations"].ok is False
    assert not found["securityhub:BatchGetStandardsControlAssociations"].required
    assert found["securityhub:DescribeStandardsControls"].ok


def test_what_cannot_be_tried_is_neither_yes_nor_no(
    clients: AwsClients, hub: SimulationServer
) -> None:
    deny(hub, "ListAccounts")
    assert results(clients)["organizations:ListTagsForResource"].ok is None


def test_expired_credentials_end_the_trying(clients: AwsClients, hub: SimulationServer) -> None:
    deny(hub, "GetFindings", code="ExpiredTokenException")
    with pytest.raises(CredentialsError):
        results(clients)


# -- Roles -----------------------------------------------------------------------------------------


def test_a_role_is_assumed_before_anything_is_asked(hub: SimulationServer) -> None:
    role = "arn:aws:iam::111122223333:role/posture"
    clients = AwsClients(Aws(endpoint_url=hub.url, role_arn=role))
    listed = organization_accounts(clients, Accounts(), day=DAY)
    assert not listed.frame.is_empty()
    assert len(hub.calls("AssumeRole")) == 1


def test_a_role_that_may_not_be_assumed_is_named(hub: SimulationServer) -> None:
    deny(hub, "AssumeRole", code="AccessDenied")
    role = "arn:aws:iam::111122223333:role/posture"
    clients = AwsClients(Aws(endpoint_url=hub.url, role_arn=role), attempts=1)
    with pytest.raises(PermissionMissingError, match="sts:AssumeRole") as caught:
        organization_accounts(clients, Accounts(), day=DAY)
    assert role in str(caught.value)
