"""Our pack scores beside AWS Config's, through the daily job: every difference has its reason.

The reasons are held against the simulated organization itself, which knows what AWS Config
evaluates, and which findings Security Hub has deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from posture_pipeline.aws import compliance
from posture_pipeline.aws.clients import AwsClients, PassingAwsError
from posture_pipeline.cli import main
from posture_pipeline.errors import CredentialsError
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.reconcile import differences_without_reason
from posture_pipeline.resources import SavedFindings
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    RECONCILIATION,
)
from posture_pipeline.settings import Report
from posture_pipeline.simulation.aws_config import AGGREGATOR
from posture_pipeline.simulation.catalogue import PACK_RULES
from posture_pipeline.simulation.checks import CONFIG_RETENTION_DAYS
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

pytestmark = pytest.mark.functional

SMALL = SimulationSettings(seed=2, accounts=6, resources_per_account=6, rate_limit=None)
FIRST = date(2026, 2, 22)
"""A failure of the audit account has aged out before this day, and another does the day after."""
SECOND = FIRST + timedelta(days=1)
HOME = "eu-west-1"
PACK = Report(name="lz-pack", conformance_pack="lz-framework")
REPORTS = (Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0"), PACK)
NEEDED = [
    *("organization_accounts", "listed_controls", "aws_compliance"),
    *("raw_finding_pages", "merged_findings", "account_findings", "finding_changes"),
    *("control_status", "account_scores", "workload_scores", "organization_scores"),
    "reconciliation",
]
"""What a reconciliation is made from; the rest of the daily job has tests of its own."""
COMPLIANT_RESOURCES = 3
"""Of each rule that has resources, beside those that it ever reported."""


@dataclass
class Truth:
    """What the simulated organization knows of the audit account's pack in the home region."""

    compliant: int
    failing: int
    aged_out: set[str]


def with_aggregator(run: SimulatedDays, name: str = AGGREGATOR) -> None:
    aws = run.settings.aws.model_copy(update={"config_aggregator": name})
    run.settings = run.settings.model_copy(update={"aws": aws})


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    """Two days that ran well, with an aggregator; tests must not change their lake."""
    folder = tmp_path_factory.mktemp("reconcile")
    with simulated_days(folder, SMALL, reports=REPORTS) as made:
        with_aggregator(made)
        for day in (FIRST, SECOND):
            result = made.run(day, selection=NEEDED)
            assert result.success, failures(result)
        reports = [report.model_dump(mode="json", exclude_none=True) for report in REPORTS]
        (folder / "posture.yaml").write_text(
            json.dumps({"lake": made.settings.lake, "reports": reports})
        )
        yield made


def audit_account(run: SimulatedDays) -> str:
    return run.server.organization.audit_account_id


def truth(run: SimulatedDays, day: date) -> Truth:
    organization = run.server.organization
    account = organization.accounts(day)[0]
    rules = {rule.name for rule in PACK_RULES}
    states = [
        seen
        for seen in organization.rule_states(account, day)
        if seen.subject in rules and seen.region == HOME
    ]
    failing = [seen for seen in states if seen.status == "FAILED"]
    old = {
        seen.resource_id.rpartition(":")[2].rpartition("/")[2]
        for seen in failing
        if day.toordinal() - seen.since >= CONFIG_RETENTION_DAYS
    }
    return Truth(len(states) - len(failing), len(failing), old)


def own_rows(run: SimulatedDays, day: date) -> pl.DataFrame:
    """The reconciliation of the pack of the calling account."""
    return run.lake.read(RECONCILIATION, day).filter(pl.col("unit") == "resources")


def figure(rows: pl.DataFrame) -> dict[str, Any]:
    found = rows.filter(pl.col("control_id").is_null() & pl.col("cause").is_null())
    return found.row(0, named=True)


def parts(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("cause").is_not_null())


def totals(rows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    sums = parts(rows).group_by("cause").agg(pl.col("passed", "failed").sum())
    return {cause: (passed, failed) for cause, passed, failed in sums.iter_rows()}


# -- What AWS says ---------------------------------------------------------------------------------


def test_the_score_is_awss_own_and_ours_stands_beside_it(days: SimulatedDays) -> None:
    for day in (FIRST, SECOND):
        said = days.lake.read(AWS_COMPLIANCE, day).filter(pl.col("source") == "list_scores")
        ours = days.lake.read(ACCOUNT_SCORES, day).filter(
            pl.col("report") == PACK.name, pl.col("account_id") == audit_account(days)
        )
        row = figure(own_rows(days, day))
        assert row["account_id"] == audit_account(days)
        assert row["region"] == HOME
        assert row["aws_value"] == said["score"].item()
        assert row["our_value"] == ours["resource_score"].item()
        assert row["difference"] == row["our_value"] - row["aws_value"]


def test_rules_carry_what_aws_evaluated_of_them(days: SimulatedDays) -> None:
    known = truth(days, FIRST)
    rules = days.lake.read(AWS_COMPLIANCE, FIRST).filter(pl.col("source") == "compliance")
    assert set(rules["control_id"]) == {rule.name for rule in PACK_RULES}
    assert rules["aws_rule_name"].str.contains("-conformance-pack-").all()
    assert rules["non_compliant"].sum() == known.failing
    named = days.lake.read(AWS_COMPLIANCE, FIRST).filter(pl.col("source") == "details")
    assert named.height == known.failing
    assert known.aged_out <= set(named["resource_id"])


# -- Why the two differ ----------------------------------------------------------------------------


def test_every_difference_has_a_reason_and_the_parts_add_up(days: SimulatedDays) -> None:
    for day in (FIRST, SECOND):
        rows = days.lake.read(RECONCILIATION, day)
        assert differences_without_reason(rows).is_empty()
        whole = figure(own_rows(days, day))
        assert own_rows(days, day)["part"].sum() == pytest.approx(whole["difference"], abs=1e-9)
        assert parts(rows)["reason"].null_count() == 0


def test_compliant_resources_without_a_finding_are_the_ones_that_never_failed(
    days: SimulatedDays,
) -> None:
    """AWS Config sends a finding when compliance changes, so only for what once failed."""
    known = truth(days, FIRST)
    rules = days.lake.read(AWS_COMPLIANCE, FIRST).filter(pl.col("source") == "compliance")
    of_aws = int(rules["compliant"].sum())
    missing, failed = totals(own_rows(days, FIRST))["compliant_without_finding"]
    assert (missing, failed) == (known.compliant - of_aws, 0)
    assert missing < -COMPLIANT_RESOURCES


def test_a_failure_whose_finding_was_deleted_before_the_first_day_is_named(
    days: SimulatedDays,
) -> None:
    known = truth(days, FIRST)
    row = own_rows(days, FIRST).filter(pl.col("cause") == "aged_out").row(0, named=True)
    assert row["failed"] == -len(known.aged_out) == -1
    assert row["part"] > 0
    assert row["reason"].endswith(f": {known.aged_out.pop()}")
    assert (row["aws_status"], row["our_status"]) == ("NON_COMPLIANT", "PASSED")


def test_a_failure_that_ages_out_under_our_eyes_is_carried_and_agrees_with_aws(
    days: SimulatedDays,
) -> None:
    """That carrying it forward is right, is what AWS Config says."""
    gone = truth(days, SECOND).aged_out - truth(days, FIRST).aged_out
    assert len(gone) == 1
    status = days.lake.read(CONTROL_STATUS, SECOND).filter(
        pl.col("report") == PACK.name, pl.col("account_id") == audit_account(days)
    )
    carried = status.filter(pl.col("carried_findings") > 0).row(0, named=True)
    rule = own_rows(days, SECOND).filter(pl.col("control_id") == carried["control_id"])
    assert set(rule["aws_status"]) == {"NON_COMPLIANT"}
    assert set(rule["our_status"]) == {"FAILED"}
    assert rule["failed"].sum() == 0
    assert totals(own_rows(days, SECOND))["aged_out"] == (0, -1)


def test_an_aggregator_brings_every_account_and_region_in_rules(days: SimulatedDays) -> None:
    rows = days.lake.read(RECONCILIATION, FIRST).filter(pl.col("unit") == "rules")
    figures = rows.filter(pl.col("cause").is_null())
    accounts = days.server.organization.accounts(FIRST)
    assert figures.height == len(accounts) * len(SMALL.regions)
    compared = figures.filter(pl.col("difference").is_not_null())
    assert compared.height == sum(a.state == "ACTIVE" for a in accounts) * len(SMALL.regions)
    scores = days.lake.read(ACCOUNT_SCORES, FIRST).filter(pl.col("report") == PACK.name)
    assert dict(compared.select("account_id", "our_value").iter_rows()) == dict(
        scores.select("account_id", "score").iter_rows()
    )
    assert rows.filter(pl.col("cause") == "other_region")["region"].unique().to_list() == [
        "us-east-1"
    ]


# -- What cannot be asked --------------------------------------------------------------------------


def deny(run: SimulatedDays, operation: str, code: str = "AccessDeniedException") -> None:
    run.server.inject(
        [{"kind": "error", "operation": operation, "status": 403, "code": code, "times": None}]
    )


def asked(run: SimulatedDays, day: date = FIRST) -> compliance.Compliance:
    run.server.set_clock(datetime.combine(day, time(6), tzinfo=UTC))
    clients = AwsClients(run.settings.aws, attempts=1)
    return compliance.aws_compliance(clients, REPORTS, [HOME], day=day)


@pytest.fixture
def server(days: SimulatedDays) -> Iterator[SimulatedDays]:
    """The same organization, for tests that make it misbehave."""
    yield days
    days.server.clear()


@pytest.mark.parametrize(
    ("operation", "lost"),
    [
        ("ListConformancePackComplianceScores", {"list_scores"}),
        ("GetConformancePackComplianceDetails", {"details"}),
        ("DescribeConformancePackCompliance", {"compliance"}),
        ("DescribeAggregateComplianceByConformancePacks", {"aggregator"}),
        ("DescribeConformancePacks", {"list_scores", "details", "compliance"}),
    ],
)
def test_a_missing_permission_leaves_out_its_part_and_is_named(
    server: SimulatedDays, operation: str, lost: set[str]
) -> None:
    deny(server, operation)
    said = asked(server)
    assert (
        set(said.frame["source"]) == {"list_scores", "details", "compliance", "aggregator"} - lost
    )
    assert said.reason is not None
    assert f"config:{operation}" in said.reason


def test_an_aggregator_that_does_not_exist_is_named(server: SimulatedDays) -> None:
    before = server.settings
    with_aggregator(server, "no-such-aggregator")
    try:
        said = asked(server)
    finally:
        server.settings = before
    assert said.reason is not None
    assert "no-such-aggregator" in said.reason
    assert "aggregator" not in set(said.frame["source"])


def test_what_passes_by_itself_is_no_missing_permission(server: SimulatedDays) -> None:
    deny(server, "GetConformancePackComplianceDetails", code="ThrottlingException")
    with pytest.raises(PassingAwsError):
        asked(server)


def test_expired_credentials_are_no_missing_permission(server: SimulatedDays) -> None:
    deny(server, "ListConformancePackComplianceScores", code="ExpiredTokenException")
    with pytest.raises(CredentialsError):
        asked(server)


@pytest.mark.parametrize(
    "operation", ["ListConformancePackComplianceScores", "GetConformancePackComplianceDetails"]
)
def test_a_reply_that_is_cut_is_not_taken_for_an_empty_one(
    server: SimulatedDays, operation: str
) -> None:
    server.server.inject([{"kind": "truncate", "operation": operation, "times": None}])
    with pytest.raises(PassingAwsError):
        asked(server)


def test_all_pages_are_read(server: SimulatedDays, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = asked(server).frame
    monkeypatch.setattr(compliance, "DETAILS_PAGE", 7)
    monkeypatch.setattr(compliance, "AGGREGATE_PAGE", 5)
    server.server.clear()
    assert asked(server).frame.equals(whole)
    pages = server.server.calls("DescribeAggregateComplianceByConformancePacks")
    assert len(pages) > whole.filter(pl.col("source") == "aggregator").height / 5


def test_a_run_without_the_permissions_succeeds_and_a_check_says_so(
    server: SimulatedDays, tmp_path: Path
) -> None:
    for operation in (
        "ListConformancePackComplianceScores",
        "GetConformancePackComplianceDetails",
        "DescribeAggregateComplianceByConformancePacks",
    ):
        deny(server, operation)
    kept = server.settings
    server.settings = kept.model_copy(update={"lake": str(tmp_path)})
    try:
        result = server.run(SECOND, selection=NEEDED)
    finally:
        server.settings = kept
    assert result.success, failures(result)
    lake = Lake(str(tmp_path))
    assert lake.require(AWS_COMPLIANCE.name, SECOND).details["incomplete"]
    checks = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    assert checks["config_figures_could_be_read"] is False
    assert checks["our_pack_scores_agree_with_config"] is True
    rows = lake.read(RECONCILIATION, SECOND)
    assert figure(rows)["difference"] is None
    assert set(rows["cause"].drop_nulls()) <= {"not_itemised"}

    # The day after, AWS knows nothing of it any more: what is stored stays.
    server.server.clear()
    server.settings = kept.model_copy(update={"lake": str(tmp_path)})
    stored = lake.require(AWS_COMPLIANCE.name, SECOND)
    server.server.set_clock(datetime.combine(SECOND + timedelta(days=1), time(6), tzinfo=UTC))
    try:
        again = server.run_now(SECOND, selection=["aws_compliance", "reconciliation"])
        never = server.run_now(FIRST, selection=["aws_compliance"])
    finally:
        server.settings = kept
    assert again.success, failures(again)
    assert lake.require(AWS_COMPLIANCE.name, SECOND) == stored
    assert never.success, failures(never)
    assert lake.require(AWS_COMPLIANCE.name, FIRST).rows == 0
    assert (
        "only knows the present" in lake.require(AWS_COMPLIANCE.name, FIRST).details["incomplete"]
    )


def test_imported_findings_come_without_awss_figures() -> None:
    said = SavedFindings([]).compliance(REPORTS, FIRST)
    assert said.frame.is_empty()
    assert said.reason is not None
    assert SavedFindings([]).compliance(REPORTS[:1], FIRST).reason is None


# -- The command -----------------------------------------------------------------------------------


def command(run: SimulatedDays, *arguments: str) -> int:
    config = str(Path(run.settings.lake).parent / "posture.yaml")
    return main(["reconcile", "--config", config, *arguments])


def test_the_command_shows_both_figures_and_what_lies_between(
    days: SimulatedDays, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(days, "--date", FIRST.isoformat()) == 0
    shown = capsys.readouterr().out
    row = figure(own_rows(days, FIRST))
    assert f"{row['our_value']:.2f} here" in shown
    assert f"{row['aws_value']:.2f} in AWS Config" in shown
    assert f"Difference {row['difference']:+.2f}" in shown
    assert "compliant resources that Config sent no finding for" in shown
    assert "console_score" in shown
    organization = days.lake.read(ORGANIZATION_SCORES, FIRST).filter(pl.col("report") == "fsbp")
    lines = [line.split() for line in shown.splitlines()]
    assert [
        "fsbp",
        "organization",
        str(organization["console_score"].item()),
        f"{organization['score'].item():.2f}",
    ] in lines


def test_the_json_of_the_command_has_parts_that_add_up(
    days: SimulatedDays, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(days, "--report", PACK.name, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["date"] == SECOND.isoformat()
    assert told["standards"] == []
    assert len(told["figures"]) > len(SMALL.regions)
    for each in told["figures"]:
        if each["difference"] is not None:
            total = sum(part["part"] or 0 for part in each["parts"])
            assert total == pytest.approx(each["difference"], abs=1e-9)


def test_the_csv_of_the_command_has_every_row_of_an_account(
    days: SimulatedDays, capsys: pytest.CaptureFixture[str]
) -> None:
    account = audit_account(days)
    assert command(days, "--account", account, "--format", "csv") == 0
    lines = capsys.readouterr().out.splitlines()
    stored = days.lake.read(RECONCILIATION, SECOND).filter(pl.col("account_id") == account)
    assert lines[0].split(",") == RECONCILIATION.names
    assert len(lines) == 1 + stored.height


def test_an_account_that_is_not_there_is_an_error(
    days: SimulatedDays, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(days, "--account", "000000000000") == 1
    assert "there is no account" in capsys.readouterr().err
