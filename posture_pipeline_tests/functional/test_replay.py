"""Computing stored days again: all in one run, without AWS, and the old scores stay readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import date, timedelta
from io import StringIO
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml

from posture_pipeline import cli
from posture_pipeline.automation import REPLAY_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.earlier_scores import superseded_scores
from posture_pipeline.lake.replay import replayable
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model import scoring
from posture_pipeline.running import replay_days
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    AWS_COMPLIANCE,
    CONTROL_STATUS,
    FINDING_CHANGES,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    QUARANTINE,
    RAW_FINDING_PAGES,
    RECONCILIATION,
    SCORE_CHANGES,
    SCORE_TABLES,
    TABLES,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import DEMO_REPORTS, Report, Settings
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

SMALL = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
DAYS = [date(2026, 3, 2) + timedelta(days=number) for number in range(3)]
COLLECTED = {
    RAW_FINDING_PAGES,
    MERGED_FINDINGS.name,
    QUARANTINE.name,
    ACCOUNT_FINDINGS.name,
    ORGANIZATION_ACCOUNTS.name,
    LISTED_CONTROLS.name,
    AWS_COMPLIANCE.name,
}
NEW_REPORT = Report(
    name="new-rules",
    custom_rules=next(each.custom_rules for each in DEMO_REPORTS if each.custom_rules)[:2],
)
Tables = dict[tuple[str, date], pl.DataFrame]
Commits = dict[tuple[str, date], Commit | None]


@dataclass
class History:
    """Three days as they ran, computed again, and computed again by other rules.

    Attributes:
        days: The organization, whose requests are counted from the first day that was over.
        first: The tables as they ran.
        again: The tables when nothing had changed.
        changed: The tables of another method and with one report more, from the second day on.
        collected: The commits of what was collected, before and after.
        catalog: What the catalog said of control status as they ran, and computed again.
        said: What the command printed.
    """

    days: SimulatedDays
    first: Tables
    again: Tables
    changed: Tables
    collected: tuple[Commits, Commits]
    catalog: tuple[pl.DataFrame, pl.DataFrame]
    said: str

    @property
    def lake(self) -> Lake:
        return self.days.lake


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    folder = tmp_path_factory.mktemp("history")
    with simulated_days(folder, SMALL) as days, pytest.MonkeyPatch.context() as patched:
        for day in DAYS:
            result = days.run(day)
            assert result.success, failures(result)
        days.server.clear()
        first, collected, catalog = computed(days.lake), commits(days.lake), statuses(days.lake)
        replay_days(days.settings, DAYS, instance=days.instance, tell=lambda _: None)
        again, catalog_again = computed(days.lake), statuses(days.lake)
        patched.setenv("DAGSTER_HOME", str(folder / "home"))
        patched.setattr(scoring, "METHOD_VERSION", "99")
        with redirect_stdout(StringIO()) as said:
            assert cli.main(["replay", *options(days, folder), "--from", str(DAYS[1])]) == 0
        yield History(
            days=days,
            first=first,
            again=again,
            changed=computed(days.lake),
            collected=(collected, commits(days.lake)),
            catalog=(catalog, catalog_again),
            said=said.getvalue(),
        )


def options(days: SimulatedDays, folder: Path) -> list[str]:
    """What names the lake, with one report more, on the command line."""
    reports = [*DEMO_REPORTS, NEW_REPORT]
    raw = {
        "lake": days.settings.lake,
        "start_date": DAYS[0],
        "reports": [report.model_dump(mode="json", exclude_none=True) for report in reports],
    }
    config = folder / "posture.yaml"
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return ["--config", str(config)]


def computed(lake: Lake) -> Tables:
    """Every table that follows from the findings, of every day."""
    names = [table for table in TABLES if table.name not in COLLECTED]
    return {(table.name, day): lake.read(table, day) for table in names for day in DAYS}


def commits(lake: Lake) -> Commits:
    return {(name, day): lake.commit_of(name, day) for name in COLLECTED for day in DAYS}


def statuses(lake: Lake) -> pl.DataFrame:
    return publish.query(lake, "FROM control_status ORDER BY ALL")


def test_computing_days_again_changes_nothing_where_no_rule_changed(history: History) -> None:
    assert len(history.first) >= len(DAYS) * (len(SCORE_TABLES) + 2)
    changed = [name for name, rows in history.again.items() if not rows.equals(history.first[name])]
    assert changed == []
    assert history.catalog[0].height > 0
    assert history.catalog[1].equals(history.catalog[0])


def test_aws_is_asked_nothing_and_what_was_collected_stays(history: History) -> None:
    assert history.days.server.calls() == []
    assert history.collected[0] == history.collected[1]


def test_a_range_is_one_run_that_materializes_and_checks_each_day(history: History) -> None:
    (run,) = history.days.instance.get_runs(dg.RunsFilter(job_name=REPLAY_JOB))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    events = [each.dagster_event for each in history.days.instance.all_logs(run.run_id)]
    made = {
        (event.asset_key.to_user_string(), event.partition)
        for event in events
        if event and event.event_type_value == "ASSET_MATERIALIZATION" and event.asset_key
    }
    checked = {
        (event.event_specific_data.check_name, event.event_specific_data.partition)  # type: ignore[union-attr]
        for event in events
        if event and event.event_type_value == "ASSET_CHECK_EVALUATION"
    }
    for wanted, found in ((WORKLOAD_SCORES.name, made), ("workload_scores_are_sane", checked)):
        assert wanted in {name for name, _ in found}
        names = {name for name, _ in found}
        assert found == {(name, day.isoformat()) for name in names for day in DAYS}


def test_what_takes_a_range_of_days_is_what_follows_from_the_findings() -> None:
    """Of what is published only what tells of one day, inside the lake and Dagster."""
    definitions = build_definitions(Settings())
    job = definitions.resolve_job_def(REPLAY_JOB)
    assert job.backfill_policy == dg.BackfillPolicy.single_run()
    graph = definitions.resolve_asset_graph()
    findings = dg.AssetKey(ACCOUNT_FINDINGS.name)
    names = ("ready_to_publish", "posture_catalog", "athena_manifests", "day_summary")
    of_a_day = {dg.AssetKey(name) for name in names}
    assert set(job.asset_layer.executable_asset_keys) == {
        key
        for key in graph.materializable_asset_keys
        if findings in graph.get_ancestor_asset_keys(key)
        and (graph.get(key).group_name != "publish" or key in of_a_day)
    }


def test_scores_of_the_earlier_method_stay_readable(history: History) -> None:
    for table in SCORE_TABLES:
        for day in DAYS[1:]:
            before = history.first[table.name, day]
            (was,) = before["method"].unique()
            assert history.changed[table.name, day]["method"].unique().to_list() == ["99"]
            assert history.lake.read(table, day, method=was).equals(before)
    superseded = pl.concat(superseded_scores(history.lake, day) for day in DAYS)
    assert superseded.height == sum(
        history.first[table.name, day].height for table in SCORE_TABLES for day in DAYS[1:]
    )
    assert superseded_scores(history.lake, DAYS[0]).is_empty()


def test_comparing_scores_of_two_methods_says_so(history: History) -> None:
    (was,) = history.first[WORKLOAD_SCORES.name, DAYS[0]]["method"].unique()
    of_both = pl.col("score_before").is_not_null() & pl.col("score_after").is_not_null()
    said = {
        day: history.changed[SCORE_CHANGES.name, day].filter(of_both)["comparable"].unique()
        for day in DAYS[1:]
    }
    assert said[DAYS[1]].to_list() == [f"the scoring method changed from {was} to 99"]
    assert not any("method" in text for text in said[DAYS[2]].drop_nulls())


def test_a_new_report_gets_its_history(history: History) -> None:
    of_new = pl.col("report") == NEW_REPORT.name
    for day in DAYS[1:]:
        scores = history.changed[ORGANIZATION_SCORES.name, day].filter(of_new)
        assert scores["score"].null_count() == 0
        assert scores.height == 1
        assert history.first[ORGANIZATION_SCORES.name, day].filter(of_new).is_empty()
    question = f"FROM organization_scores WHERE report = '{NEW_REPORT.name}' ORDER BY date"
    assert publish.query(history.lake, question)["date"].to_list() == DAYS[1:]


def test_the_command_says_which_days_and_what_became_of_the_scores(history: History) -> None:
    assert f"Computing 2 days from {DAYS[1]} to {DAYS[2]} again" in history.said
    old = sum(history.first[t.name, day].height for t in SCORE_TABLES for day in DAYS[1:])
    new = sum(history.changed[t.name, day].height for t in SCORE_TABLES for day in DAYS[1:]) - old
    assert f"{old + new:,} scores: {old:,} are the same, 0 moved, {new:,} are new" in history.said
    assert f"before, 99 now: 0 of {old:,} scores moved" in history.said


def test_the_command_shows_scores_of_an_earlier_method(
    history: History, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (was,) = history.first[WORKLOAD_SCORES.name, DAYS[1]]["method"].unique()
    shown = ["scores", *options(history.days, tmp_path), "--date", str(DAYS[1]), "--format", "json"]
    assert cli.main([*shown, "--method", was]) == 0
    assert {row["method"] for row in json.loads(capsys.readouterr().out)} == {was}
    assert cli.main([*shown, "--method", "7"]) == 1
    assert f"by method 7; there are: 99; {was}." in capsys.readouterr().err


def test_a_past_day_that_ran_alone_makes_the_next_comparison_a_stale_one(
    history: History,
) -> None:
    selection = [table.name for table in (CONTROL_STATUS, *SCORE_TABLES, SCORE_CHANGES)]
    result = history.days.run_now(DAYS[0], selection=selection)
    assert result.success, failures(result)
    (stale,) = (each for each in result.get_asset_check_evaluations() if not each.passed)
    assert stale.check_name == "compared_with_what_is_stored"
    assert stale.severity == dg.AssetCheckSeverity.WARN
    assert f"| {DAYS[1]} | {DAYS[0]} | {DAYS[0]} computed again |" in str(
        stale.metadata["rows"].value
    )
    made_again = history.days.run_now(DAYS[1], selection=[SCORE_CHANGES.name])
    assert all(each.passed for each in made_again.get_asset_check_evaluations())


def test_a_pack_that_left_the_settings_does_not_stop_the_day(history: History) -> None:
    """What AWS said of it is still stored."""
    standards = [report for report in DEMO_REPORTS if report.standard]
    settings = history.days.settings.model_copy(update={"reports": tuple(standards)})
    assert history.lake.read(AWS_COMPLIANCE, DAYS[2]).height > 0
    result = history.days.run_now(DAYS[2], settings=settings, selection=[RECONCILIATION.name])
    assert result.success, failures(result)
    assert history.lake.read(RECONCILIATION, DAYS[2]).is_empty()


# --- which days -------------------------------------------------------------------------------


def day_stored(lake: Lake, day: date, *tables: Table) -> None:
    for table in tables:
        lake.replace(table, day, table.empty())


@pytest.fixture
def stored(lake: Lake) -> Lake:
    """Three days with everything that computing them again takes."""
    for day in DAYS:
        day_stored(lake, day, ACCOUNT_FINDINGS, ORGANIZATION_ACCOUNTS, CONTROL_STATUS)
        day_stored(lake, day, *SCORE_TABLES)
    return lake


def test_all_stored_days_are_computed_in_one_stretch(stored: Lake) -> None:
    assert replayable(stored, None, None).stretches == (tuple(DAYS),)
    assert replayable(stored, DAYS[1], DAYS[2]).stretches == ((DAYS[1], DAYS[2]),)


def test_a_day_without_findings_is_named_and_keeps_its_scores(stored: Lake) -> None:
    stored.delete(layout.partition(ACCOUNT_FINDINGS.name, DAYS[1]))
    found = replayable(stored, None, None)
    assert found.stretches == ((DAYS[0],), (DAYS[2],))
    assert found.kept == {DAYS[1]: "its findings are no longer stored"}


def test_a_day_that_compares_with_lost_findings_is_kept_with_what_it_carries(
    stored: Lake,
) -> None:
    details = {"compared_with": DAYS[0].isoformat()}
    stored.replace(FINDING_CHANGES, DAYS[1], FINDING_CHANGES.empty(), details)
    stored.delete(layout.partition(ACCOUNT_FINDINGS.name, DAYS[0]))
    found = replayable(stored, None, None)
    assert found.stretches == ((DAYS[2],),)
    assert str(DAYS[0]) in found.kept[DAYS[1]]


def test_a_day_without_scores_ends_its_stretch_because_the_next_compares_with_it(
    stored: Lake,
) -> None:
    stored.delete(layout.partition(WORKLOAD_SCORES.name, DAYS[1]))
    assert replayable(stored, None, None).stretches == ((DAYS[0], DAYS[1]), (DAYS[2],))


def test_a_range_without_findings_is_refused(stored: Lake) -> None:
    with pytest.raises(LakeError, match="no findings of any day"):
        replayable(stored, DAYS[-1] + timedelta(days=1), None)
