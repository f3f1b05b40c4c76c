"""Backlogs of a simulated day: fixing what they name gives the score that they promise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from posture_pipeline.commands.backlog import Backlog, Scope, read_backlog
from posture_pipeline.errors import InputError, LakeError
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.scoring import control_status, workload_scores
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

SMALL = SimulationSettings(accounts=6, resources_per_account=6, rate_limit=None)
DAY = date(2026, 3, 2)
REPORTS = ["fsbp", "lz-pack"]
LOW = {"Value": "LOW", "Comparison": "EQUALS"}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    """One day that ran well; tests must not change it."""
    with simulated_days(tmp_path_factory.mktemp("backlog"), SMALL) as made:
        result = made.run(DAY)
        assert result.success, failures(result)
        yield made


def workloads(lake: Lake, report: str) -> list[dict[str, str]]:
    rows = lake.read(WORKLOAD_SCORES, DAY).filter(pl.col("report") == report)
    return rows.select("workload", "environment").to_dicts()


def backlogs(run: SimulatedDays, report: str, target: float = 95) -> list[Backlog]:
    return [
        read_backlog(run.lake, run.settings, report, Scope(place, "a workload"), target=target)
        for place in workloads(run.lake, report)
    ]


@pytest.mark.parametrize("report", REPORTS)
def test_the_list_starts_at_the_stored_score_and_ends_at_100(
    day: SimulatedDays, report: str
) -> None:
    for found in backlogs(day, report):
        stored = day.lake.read(WORKLOAD_SCORES, DAY).filter(
            pl.col("report") == report,
            *(pl.col(name) == value for name, value in found.scope.columns.items()),
        )
        row = stored.row(0, named=True)
        assert found.score == row["score"]
        assert found.rows.height == row["failed"] + row["unknown"]
        assert found.rows["failed_resources"].sum() <= row["failed_findings"]
        assert found.counted == row["passed"] + row["failed"] + row["unknown"]
        if found.rows.height:
            first = found.rows.row(0, named=True)
            assert first["score_after"] - first["points"] == pytest.approx(found.score)
            assert found.rows["score_after"][-1] == 100
            assert found.rows.select("to_fix", "title").null_count().sum_horizontal().item() == 0
    assert sum(found.rows.height for found in backlogs(day, report)) >= 5


def scored_again(run: SimulatedDays, found: Backlog, fixed: pl.DataFrame) -> float | None:
    """The score when the findings of these resources pass: the pipeline's own rules, once more."""
    lake, report = run.lake, run.settings.report(found.report)
    keys = ["account_id", "control_id", "resource_id"]
    expected = snapshot.expected_of(lake, [report], DAY)
    # In this organization every standard's control has its own id in the finding.
    control = "rule_name" if report.standard is None else "security_control_id"
    findings = (
        snapshot.findings_of(lake, DAY)
        .with_columns(control_id=pl.col(control))
        .join(fixed.select(*keys, _fixed=True).lazy(), on=keys, how="left")
        .with_columns(
            compliance_status=pl.when("_fixed")
            .then(pl.lit("PASSED"))
            .otherwise("compliance_status")
        )
        .select(ACCOUNT_FINDINGS.names)
    )
    accounts = snapshot.accounts_with_scores(lake, DAY)
    status = control_status(findings, expected, report, accounts, day=DAY)
    context = snapshot.score_context(
        lake, run.settings.model_copy(update={"reports": (report,)}), DAY
    )
    rows = workload_scores(status, expected, accounts, context)
    here = (pl.col(name) == value for name, value in found.scope.columns.items())
    score: float | None = rows.filter(*here)["score"].item()
    return score


@pytest.mark.parametrize("report", REPORTS)
def test_fixing_the_first_controls_gives_the_claimed_score_and_one_resource_less_does_not(
    day: SimulatedDays, report: str
) -> None:
    """A step function: without its last resource a control gives nothing."""
    found = max(backlogs(day, report), key=lambda each: each.rows.height)
    assert scored_again(day, found, found.resources.clear()) == pytest.approx(found.score)
    for number in {1, found.rows.height // 2, found.rows.height}:
        done = found.rows.head(number)
        last = done.row(-1, named=True)
        fixed = found.resources.filter(pl.col("control_id").is_in(done["control_id"].implode()))
        assert fixed.height == last["fixed_so_far"]
        assert scored_again(day, found, fixed) == pytest.approx(last["score_after"])
        of_last = fixed.filter(pl.col("control_id") == last["control_id"])
        almost = pl.concat(
            [fixed.filter(pl.col("control_id") != last["control_id"]), of_last.slice(1)]
        )
        before = last["score_after"] - last["points"]
        assert scored_again(day, found, almost) == pytest.approx(before)


def test_an_account_has_the_failed_resources_of_its_control_status(day: SimulatedDays) -> None:
    account = day.lake.read(ACCOUNT_SCORES, DAY)["account_id"].max()
    found = read_backlog(
        day.lake, day.settings, "fsbp", Scope({"account_id": account}, "an account"), target=100
    )
    stored = day.lake.read(CONTROL_STATUS, DAY).filter(
        pl.col("report") == "fsbp",
        pl.col("account_id") == account,
        pl.col("status").is_in(["FAILED", "UNKNOWN"]),
    )
    columns = ["control_id", "status", "failed_resources"]
    assert set(found.rows.select(columns).rows()) == set(stored.select(columns).rows())
    assert set(found.resources["account_id"]) == {account}
    assert found.reaching is not None
    assert found.reaching["position"] == found.rows.height


@pytest.mark.parametrize("report", REPORTS)
def test_the_macro_of_the_catalog_gives_the_same_list(day: SimulatedDays, report: str) -> None:
    for found in backlogs(day, report):
        assert_macro_agrees(day.lake, found)


COLUMNS = [
    "position",
    "control_id",
    "severity",
    "status",
    "to_fix",
    "failed_resources",
    "unknown_resources",
    "points",
    "score_after",
    "fixed_so_far",
]


def assert_macro_agrees(lake: Lake, found: Backlog) -> None:
    place = "', '".join(found.scope.columns.values())
    rows = publish.query(lake, f"FROM backlog('{found.report}', '{place}', '{DAY}')")
    assert found.rows["title"].to_list() == rows["title"].to_list()
    assert [[each[name] for name in COLUMNS] for each in rows.to_dicts()] == [
        pytest.approx([each[name] for name in COLUMNS]) for each in found.rows.to_dicts()
    ]


@pytest.mark.parametrize("report", REPORTS)
def test_failures_that_are_carried_forward_are_on_both_lists(
    day: SimulatedDays, tmp_path: Path, report: str
) -> None:
    """One beside a failing resource of a control, one alone on a control that passes otherwise."""
    found = max(backlogs(day, report), key=lambda each: each.rows.height)
    account = day.lake.read(ACCOUNT_SCORES, DAY).filter(
        *(pl.col(name) == value for name, value in found.scope.columns.items())
    )["account_id"][0]
    statuses = day.lake.read(CONTROL_STATUS, DAY)
    passing = statuses.filter(
        pl.col("report") == report,
        pl.col("account_id") == account,
        pl.col("status") == "PASSED",
        ~pl.col("control_id").is_in(found.rows["control_id"].implode()),
    )["control_id"][0]
    carried = pl.DataFrame(
        [
            {
                "date": DAY,
                "report": report,
                "account_id": account,
                "region": "eu-west-1",
                "control_id": control,
                "resource_id": "a-bucket-without-findings",
                "carried_since": DAY,
                "finding_id": "deleted",
            }
            for control in (passing, found.rows["control_id"][0])
        ],
        schema=CARRIED_FAILURES.schema,
    )
    lake = Lake(str(tmp_path / "lake"))
    for table in (EXPECTED_CONTROLS, ORGANIZATION_ACCOUNTS, ACCOUNT_SCORES, ORGANIZATION_SCORES):
        details = day.lake.require(table.name, DAY).details
        lake.replace(table, DAY, day.lake.read(table, DAY), details)
    details = snapshot.findings_commit(day.lake, DAY).details
    findings = snapshot.findings_of(day.lake, DAY).collect()
    lake.replace(ACCOUNT_FINDINGS, DAY, findings, details=details)
    lake.replace(CARRIED_FAILURES, DAY, carried)
    status = snapshot.control_status_of(lake, day.settings, DAY)
    lake.replace(CONTROL_STATUS, DAY, status)
    scores = workload_scores(
        status,
        snapshot.expected_of(lake, day.settings.reports, DAY),
        snapshot.accounts_with_scores(lake, DAY),
        snapshot.score_context(lake, day.settings, DAY),
    )
    lake.replace(WORKLOAD_SCORES, DAY, scores)
    publish.publish_day(lake, DAY)
    with_carried = read_backlog(lake, day.settings, report, found.scope, target=100)
    assert with_carried.rows.height == found.rows.height + 1
    assert with_carried.rows["to_fix"].sum() == found.rows["to_fix"].sum() + 2
    assert with_carried.resources.filter(pl.col("status") == "CARRIED").height == 2
    assert with_carried.rows["score_after"][-1] == 100
    assert_macro_agrees(lake, with_carried)


def test_the_macro_knows_nothing_of_a_workload_that_is_not_there(day: SimulatedDays) -> None:
    rows = publish.query(day.lake, f"FROM backlog('fsbp', 'none', 'production', '{DAY}')")
    assert rows.is_empty()


def test_a_score_that_is_null_has_no_path_and_says_why(day: SimulatedDays, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for table in (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES):
        rows = day.lake.read(table, DAY)
        nothing = pl.lit(None, dtype=pl.Float64)
        lake.replace(table, DAY, rows.with_columns(score=nothing, reason=pl.lit("withheld")))
    lake.replace(CONTROL_STATUS, DAY, day.lake.read(CONTROL_STATUS, DAY))
    lake.replace(ACCOUNT_FINDINGS, DAY, snapshot.findings_of(day.lake, DAY).collect())
    (place, *_) = workloads(lake, "fsbp")
    found = read_backlog(lake, day.settings, "fsbp", Scope(place, "a workload"), target=95)
    assert (found.score, found.reason, found.reaching) == (None, "withheld", None)
    assert found.rows.is_empty()
    assert found.resources.is_empty()
    publish.publish_day(lake, DAY)
    asked = "', '".join(place.values())
    assert publish.query(lake, f"FROM backlog('fsbp', '{asked}', '{DAY}')").is_empty()


def test_settings_that_changed_since_the_score_are_told(day: SimulatedDays) -> None:
    (place, *_) = workloads(day.lake, "fsbp")
    own = day.settings.report("fsbp")
    other = own.model_copy(update={"filter": {"SeverityLabel": [LOW]}})
    changed = day.settings.model_copy(update={"reports": (other,)})
    scope = Scope(place, "a workload")
    assert not read_backlog(day.lake, day.settings, "fsbp", scope, target=95).stale
    found = read_backlog(day.lake, changed, "fsbp", scope, target=95)
    assert found.stale
    assert found.rows["to_fix"].null_count() > 0


def test_what_is_not_there_is_answered_with_what_is(day: SimulatedDays, tmp_path: Path) -> None:
    nowhere = Scope({"workload": "none", "environment": "test"}, "none test")
    with pytest.raises(InputError, match="there are: "):
        read_backlog(day.lake, day.settings, "fsbp", nowhere, target=95)
    with pytest.raises(LakeError, match="2001-01-01"):
        read_backlog(day.lake, day.settings, "fsbp", nowhere, target=95, day=date(2001, 1, 1))
    empty = Lake(str(tmp_path))
    with pytest.raises(InputError, match="no scores yet"):
        read_backlog(empty, Settings(), "fsbp", nowhere, target=95)
