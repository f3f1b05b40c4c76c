"""`posture plan` held against what days of a simulated organization really cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from posture_pipeline.cli import main
from posture_pipeline.commands.plan import Plan, read_plan
from posture_pipeline.errors import InputError
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.schemas import RAW_FINDING_PAGES
from posture_pipeline.settings import Settings
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import simulated_days

FIRST, SECOND, THIRD = date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 22)
COLLECT = [RAW_FINDING_PAGES, "merged_findings"]


@dataclass
class Planned:
    """Three collected days, the last one with `collect: failing`, and the plan before each."""

    lake: Lake
    settings: Settings
    after_first: Plan
    after_second: Plan

    def collected(self, day: date) -> Commit:
        return self.lake.require(RAW_FINDING_PAGES, day)


def pages(commit: Commit) -> int:
    return sum(shard["pages"] for shard in commit.details["shards"].values())


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    simulation = SimulationSettings(accounts=8, resources_per_account=20, rate_limit=None)
    with simulated_days(tmp_path_factory.mktemp("plan"), simulation) as days:
        assert days.run(FIRST, selection=COLLECT).success
        after_first = read_plan(days.lake, days.settings)
        assert days.run(SECOND, selection=COLLECT).success
        after_second = read_plan(days.lake, days.settings)
        failing = days.settings.model_copy(update={"collect": "failing"})
        assert days.run(THIRD, settings=failing, selection=COLLECT).success
        yield Planned(days.lake, days.settings, after_first, after_second)


def test_a_day_like_the_stored_one_takes_the_planned_pages(planned: Planned) -> None:
    plan, commit = planned.after_first, planned.collected(FIRST)
    assert plan.day == FIRST
    assert plan.collection.findings == commit.rows
    assert plan.collection.pages == pages(commit) == commit.details["requests"]
    assert plan.disk.a_day[RAW_FINDING_PAGES] == commit.bytes


def test_the_next_day_takes_the_planned_pages_but_for_its_growth(planned: Planned) -> None:
    plan, commit = planned.after_first, planned.collected(SECOND)
    growth = abs(commit.rows - plan.collection.findings)
    shards = len(commit.details["shards"])
    assert abs(pages(commit) - plan.collection.pages) <= growth / 100 + shards
    assert planned.after_second.growth == pytest.approx(commit.rows / plan.collection.findings)


def test_failing_takes_what_was_planned_for_it(planned: Planned) -> None:
    plan, commit = planned.after_second.failing, planned.collected(THIRD)
    assert plan is not None
    assert plan.findings < planned.after_second.collection.findings / 2
    assert commit.rows == pytest.approx(plan.findings, rel=0.15)
    assert abs(pages(commit) - plan.pages) <= len(commit.details["shards"])


def test_a_day_without_passed_findings_says_so(planned: Planned) -> None:
    plan = read_plan(planned.lake, planned.settings)
    assert (plan.day, plan.complete) == (THIRD, False)


def test_the_command_tells_it_in_words_and_as_json(
    planned: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--lake", planned.lake.root]) == 0
    said = capsys.readouterr().out
    assert "if it finds what 2026-11-22 found (" in said
    assert "% fewer than the stored day before):" in said
    assert "pages (GetFindings requests)" in said
    assert "only the failing ones are counted" in said
    assert main(["plan", "--lake", planned.lake.root, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["pages"] == read_plan(planned.lake, planned.settings).collection.pages
    assert told["with_collect_failing"]["collect"] == "failing"


def test_without_any_day_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run one day first"):
        read_plan(Lake(str(tmp_path)), Settings(lake=str(tmp_path)))
