"""Assets and checks of a day, run over a range of days in one run: what Dagster makes of them.

(No `from __future__ import annotations`: Dagster reads the annotations as they stand.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
import pytest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from posture_pipeline.assets.day_by_day import ONE_RUN, checked_by_day, materialized_by_day
from posture_pipeline.partitions import daily_snapshots
from posture_pipeline_tests.simulated_days import QUIET, failures, materialized

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]

FIRST, SECOND, THIRD = (date(2026, 3, day) for day in (2, 3, 4))


@dataclass
class Wanted:
    """Where the small graph fails, and what it was asked for."""

    failing: date | None = None
    wrong: date | None = None
    withheld: date | None = None
    made: list[date] = field(default_factory=list)


@dataclass
class Graph:
    """Three assets in a row and two checks between them, each about one day."""

    wanted: Wanted
    job: dg.JobDefinition
    instance: dg.DagsterInstance
    said: list[str]

    def run(self, first: date, last: date | None = None) -> dg.ExecuteInProcessResult:
        range_ = {
            ASSET_PARTITION_RANGE_START_TAG: first.isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: (last or first).isoformat(),
        }
        return self.job.execute_in_process(
            instance=self.instance,
            partition_key=None if last else first.isoformat(),
            tags=range_ if last else {},
            raise_on_error=False,
            run_config=QUIET,
        )


@pytest.fixture
def graph() -> Iterator[Graph]:
    wanted, said = Wanted(), list[str]()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(wanted, _job(wanted, said), instance, said)


def _job(wanted: Wanted, said: list[str]) -> dg.JobDefinition:
    daily = daily_snapshots(FIRST)

    @dg.asset(partitions_def=daily, backfill_policy=ONE_RUN)
    @materialized_by_day
    def scores(day: date, unit: dg.ResourceParam[str]) -> dg.MaterializeResult:
        if day == wanted.failing:
            message = "no such luck"
            raise ValueError(message)
        wanted.made.append(day)
        return dg.MaterializeResult(metadata={"day": f"{day.day} {unit}"})

    @dg.asset(partitions_def=daily, backfill_policy=ONE_RUN, deps=[scores])
    @materialized_by_day
    def changes(day: date) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"day": day.day})

    @dg.asset_check(asset=scores, partitions_def=daily, blocking=True)
    @checked_by_day
    def scores_are_sane(day: date, unit: dg.ResourceParam[str]) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=day != wanted.wrong, metadata={"unit": unit})

    @dg.asset_check(asset=scores, partitions_def=daily)
    @checked_by_day
    def few_are_missing(day: date) -> dg.AssetCheckResult:
        warn = dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=day != wanted.wrong, severity=warn)

    @dg.asset_check(asset=scores, partitions_def=daily, blocking=True)
    @checked_by_day(withholds=True)
    def day_is_complete(day: date) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=day != wanted.withheld)

    job = dg.define_asset_job("days", executor_def=dg.in_process_executor)
    return dg.Definitions(
        assets=[scores, changes],
        asset_checks=[scores_are_sane, few_are_missing, day_is_complete],
        jobs=[job],
        resources={
            "unit": "points",
            "tell": dg.ResourceDefinition.hardcoded_resource(said.append),
        },
    ).resolve_job_def("days")


def evaluations(result: dg.ExecuteInProcessResult) -> list[tuple[str, str | None, bool]]:
    return sorted(
        (e.check_name, e.partition, e.passed) for e in result.get_asset_check_evaluations()
    )


def metadata_of(result: dg.ExecuteInProcessResult, name: str) -> dict[str | None, object]:
    return {
        event.partition: event.materialization.metadata["day"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(name)
    }


def test_each_day_of_a_range_is_materialized_with_its_own_metadata(graph: Graph) -> None:
    result = graph.run(FIRST, THIRD)
    assert result.success, failures(result)
    assert graph.wanted.made == [FIRST, SECOND, THIRD]
    assert metadata_of(result, "scores") == {
        "2026-03-02": "2 points",
        "2026-03-03": "3 points",
        "2026-03-04": "4 points",
    }
    assert metadata_of(result, "changes") == {"2026-03-02": 2, "2026-03-03": 3, "2026-03-04": 4}
    assert "scores: 2026-03-03, day 2 of 3" in graph.said


def test_each_day_of_a_range_is_checked_and_nothing_is_left_open(graph: Graph) -> None:
    result = graph.run(FIRST, THIRD)
    assert evaluations(result) == [
        (name, day.isoformat(), True)
        for name in ("day_is_complete", "few_are_missing", "scores_are_sane")
        for day in (FIRST, SECOND, THIRD)
    ]
    for evaluation in result.get_asset_check_evaluations():
        target = evaluation.target_materialization_data
        assert target is not None
        assert target.run_id == result.run_id
    key = dg.AssetCheckKey(dg.AssetKey("scores"), "scores_are_sane")
    records = graph.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert {(record.partition, record.status.value) for record in records} == {
        (day.isoformat(), "SUCCEEDED") for day in (FIRST, SECOND, THIRD)
    }


def test_a_blocking_check_that_fails_on_one_day_stops_what_follows(graph: Graph) -> None:
    graph.wanted.wrong = SECOND
    result = graph.run(FIRST, THIRD)
    assert not result.success
    assert materialized(result) == {"scores"}
    failed = [(name, day) for name, day, passed in evaluations(result) if not passed]
    assert failed == [("few_are_missing", "2026-03-03"), ("scores_are_sane", "2026-03-03")]


def test_a_day_whose_scores_are_withheld_stops_itself_alone(graph: Graph) -> None:
    """A bad day of the past must not keep the others from being computed again."""
    graph.wanted.withheld = SECOND
    over_days = graph.run(FIRST, THIRD)
    assert over_days.success, failures(over_days)
    assert materialized(over_days) == {"scores", "changes"}
    failed = [(name, day) for name, day, passed in evaluations(over_days) if not passed]
    assert failed == [("day_is_complete", "2026-03-03")]
    alone = graph.run(SECOND)
    assert not alone.success
    assert materialized(alone) == {"scores"}


def test_the_first_day_that_fails_is_named_and_ends_the_step(graph: Graph) -> None:
    graph.wanted.failing = SECOND
    result = graph.run(FIRST, THIRD)
    assert failures(result) == {"scores": "2026-03-03: ValueError: no such luck"}
    assert graph.wanted.made == [FIRST]
    assert materialized(result) == set()


@pytest.mark.parametrize("last", [None, SECOND])
def test_one_day_is_a_run_like_any_other_also_as_a_range(graph: Graph, last: date | None) -> None:
    result = graph.run(SECOND, last)
    assert result.success, failures(result)
    assert metadata_of(result, "scores") == {"2026-03-03": "3 points"}
    assert evaluations(result) == [
        ("day_is_complete", "2026-03-03", True),
        ("few_are_missing", "2026-03-03", True),
        ("scores_are_sane", "2026-03-03", True),
    ]
    assert graph.said == []
