"""The report pages of a lake: those of the newest day, with the numbers of the tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.errors import InputError
from posture_pipeline.lake.layout import page_name
from posture_pipeline.lake.store import Lake
from posture_pipeline.report import data
from posture_pipeline.report.pages import pages, write_pages
from posture_pipeline.report.view import Views
from posture_pipeline.schemas import (
    EXCEPTIONS,
    ORGANIZATION_SCORES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.saved_days import control_finding, saved_days
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

SMALL = SimulationSettings(accounts=6, resources_per_account=6, rate_limit=None)
FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=number) for number in range(2)]
ASSET = "posture_report"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    """Two days that ran well; tests must not change the tables."""
    with simulated_days(tmp_path_factory.mktemp("report"), SMALL) as made:
        for day in DAYS:
            result = made.run(day)
            assert result.success, failures(result)
        yield made


@pytest.fixture
def views(history: SimulatedDays) -> Views:
    stored = data.read(history.lake, history.settings)
    names = {each: page_name(each) for each in stored.workloads["workload"]}
    return Views(stored, history.settings.thresholds, names)


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (made,) = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(ASSET)
    ]
    return {name: value.value for name, value in made.metadata.items()}


def test_the_daily_job_writes_a_page_for_each_workload_and_the_organization(
    history: SimulatedDays,
) -> None:
    workloads = history.lake.read(WORKLOAD_SCORES, DAYS[-1])["workload"].unique()
    _, there = history.lake.names("report")
    assert set(there) == {"index.html", *(page_name(each) for each in workloads)}
    made = metadata_of(history.run_now(DAYS[-1], selection=[ASSET]))
    assert made["pages"] == len(there)
    assert made["dagster/uri"] == history.lake.uri("report/index.html")
    assert 0 < made["largest_page_mb"] < 1


def test_a_day_that_is_not_the_newest_leaves_the_pages_alone(history: SimulatedDays) -> None:
    history.lake.put("report/index.html", b"as it was")
    made = metadata_of(history.run_now(FIRST, selection=[ASSET]))
    assert made["pages"] == 0
    assert DAYS[-1].isoformat() in made["skipped"]
    assert history.lake.get("report/index.html") == b"as it was"
    write_pages(history.lake, history.settings)


def test_pages_of_workloads_that_are_gone_are_deleted_and_files_of_others_stay(
    history: SimulatedDays,
) -> None:
    kept = ["notes.html", "workload-mine.html", "workload-shop-12345678.txt"]
    gone = page_name("a workload of last year")
    for name in (*kept, gone):
        history.lake.put(f"report/{name}", b"")
    written = write_pages(history.lake, history.settings)
    _, there = history.lake.names("report")
    assert set(kept) < set(there)
    assert gone not in there
    assert len(there) == written.pages + len(kept)


def test_the_same_lake_gives_the_same_pages(history: SimulatedDays) -> None:
    first, second = (
        list(pages(data.read(history.lake, history.settings), history.settings)) for _ in range(2)
    )
    assert first == second


def test_a_report_that_has_no_scores_yet_is_left_out(history: SimulatedDays) -> None:
    added = Settings(lake=history.settings.lake, reports=[{"name": "new", "custom_rules": ["x"]}])
    assert [name for name, _ in pages(data.read(history.lake, added), added)] == ["index.html"]


def test_every_number_of_the_overview_is_the_one_of_the_tables(
    history: SimulatedDays, views: Views
) -> None:
    shown = views.organization()
    stored = history.lake.read(WORKLOAD_SCORES, DAYS[-1])
    cells = {
        (row["workload"], row["environment"], cell["report"]): cell
        for row in shown["rows"]
        for cell in row["cells"]
        if cell
    }
    assert len(cells) == stored.height > 0
    for row in stored.iter_rows(named=True):
        cell = cells[row["workload"], row["environment"], row["report"]]
        assert cell["score"] == row["score"]
        assert cell["counted"] == row["passed"] + row["failed"] + row["unknown"]
    organization = history.lake.read(ORGANIZATION_SCORES, DAYS[-1])
    assert {cell["report"]: cell["score"] for cell in shown["scores"]} == dict(
        organization.select("report", "score").iter_rows()
    )


def test_charts_hold_the_scores_of_every_day(history: SimulatedDays, views: Views) -> None:
    here = history.lake.read(WORKLOAD_SCORES, DAYS[-1])
    place = ["workload", "environment"]
    stored = history.lake.read(WORKLOAD_SCORES, DAYS).join(here, on=place, how="semi")
    compared = 0
    for name in stored["workload"].unique():
        for report, chart in zip(
            history.settings.reports, views.workload(name)["charts"][::2], strict=True
        ):
            for line in chart["lines"]:
                rows = stored.filter(
                    pl.col("workload") == name,
                    pl.col("environment") == line["name"],
                    pl.col("report") == report.name,
                )
                for day, score in rows.select("date", "score").iter_rows():
                    shown = line["values"][(day - FIRST).days]
                    assert shown == (None if score is None else pytest.approx(score, abs=0.01))
                    compared += 1
    assert compared == stored.height


def test_failing_controls_and_their_resources_are_those_that_the_score_counts(
    history: SimulatedDays, views: Views
) -> None:
    stored = history.lake.read(WORKLOAD_SCORES, DAYS[-1])
    for name in stored["workload"].unique():
        shown = views.workload(name)
        for part in shown["failing"]:
            listed = [control for group in part["groups"] for control in group["controls"]]
            of_report = [report for control in listed for report in control["reports"]]
            rows = stored.filter(
                pl.col("workload") == name, pl.col("environment") == part["environment"]
            )
            assert len(of_report) == rows["failed"].sum() + rows["unknown"].sum()
            assert all(control["number"] > 0 for control in listed)
        for each in shown["backlogs"]:
            if each["rows"]:
                assert each["rows"][0]["score_after"] > each["score"]


def test_what_changed_adds_up_to_the_change_of_the_score(
    history: SimulatedDays, views: Views
) -> None:
    changes = history.lake.read(SCORE_CHANGES, DAYS[-1]).filter(pl.col("scope") == "workload")
    told = 0
    for name in changes["workload"].unique():
        newest = views.workload(name)["changes"][0]
        assert (newest["day"], newest["before"]) == (DAYS[-1], FIRST)
        for score in newest["scores"]:
            if score["change"] is not None and not score["more"]:
                parts = sum(control["part"] for control in score["controls"])
                assert parts == pytest.approx(score["change"])
                told += 1
    assert told > 0


def test_a_lake_without_the_tables_of_later_versions_has_its_pages_too(
    history: SimulatedDays, tmp_path: Path
) -> None:
    stored = data.read(history.lake, history.settings)
    assert stored.exceptions is not None
    for table in (EXCEPTIONS, SOURCE_COMPLETENESS):
        history.lake.delete(f"{table.name}/date={DAYS[-1].isoformat()}/_current.json")
    older = data.read(history.lake, history.settings)
    assert older.exceptions is None
    assert older.completeness is None
    texts = [text for _, text in pages(older, history.settings)]
    assert any("is not stored for this day" in text for text in texts)
    history.lake.replace(EXCEPTIONS, DAYS[-1], stored.exceptions)


def test_days_without_accounts_are_days_without_a_score(tmp_path: Path) -> None:
    """The organization has rows on a day on which no workload has any."""
    first, second, last = (FIRST + timedelta(days=number) for number in range(3))
    statuses = {"S3.1": "PASSED", "S3.2": "FAILED"}
    with dg.DagsterInstance.ephemeral() as instance:
        days = saved_days(tmp_path, instance)
        days.store(first, [])
        days.store(second, [])
        days.store(last, [control_finding(each, statuses[each], on=last) for each in statuses])
    stored = data.read(days.lake, days.settings)
    names = {each: page_name(each) for each in stored.workloads["workload"]}
    views = Views(stored, days.settings.thresholds, names)
    (workload,) = names
    for view in (views.organization(), views.workload(workload)):
        assert view["data"]["first"] == first.isoformat()
        assert view["charts"][0]["lines"][0]["values"] == [None, None, 50.0]
    assert len(list(pages(stored, days.settings))) == 2


def test_a_lake_without_scores_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(InputError, match="no scores yet"):
        write_pages(lake, Settings())
