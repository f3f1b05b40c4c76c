"""The summary of a day as the Dagster UI shows it: what it says, its pictures, that it is safe."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import dagster as dg
import polars as pl
import pytest
from PIL import Image

from posture_pipeline.report.chart import chart, small_chart
from posture_pipeline.report.day_summary import SHOWN_AT_ONCE, markdown, summary_of
from posture_pipeline.schemas import ORGANIZATION_SCORES, SCORE_CHANGES, WORKLOAD_SCORES
from posture_pipeline.settings import Thresholds
from posture_pipeline_tests.fortnight import DAYS, Fortnight
from posture_pipeline_tests.simulated_days import failures

PICTURE = re.compile(r"!\[[^]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")
DIALOG = 1000
"""Pixels that the dialog of the UI is wide inside."""


def metadata_of(fortnight: Fortnight, number: int) -> dict[str, Any]:
    """What the asset says of a stored day; it stores nothing."""
    result = fortnight.run.run_now(DAYS[number], selection=["day_summary"])
    assert result.success, failures(result)
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


@pytest.fixture(scope="module")
def newest(fortnight: Fortnight) -> dict[str, Any]:
    return metadata_of(fortnight, -1)


def pictures(text: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in PICTURE.findall(text)]


def test_the_summary_tells_the_score_of_every_report(
    fortnight: Fortnight, newest: dict[str, Any]
) -> None:
    for row in fortnight.read(ORGANIZATION_SCORES, DAYS[-1]).iter_rows(named=True):
        line = next(each for each in newest["summary"].splitlines() if row["report"] in each)
        assert f"**{row['score']:.1f}**" in line or "no score" in line
        assert f"{row['failed']:,}\u00a0of\u00a0" in line


def test_what_moved_is_told_with_the_control_behind_most_of_it(fortnight: Fortnight) -> None:
    """Biggest first; of every day, since on some nothing moves."""
    told = 0
    for number in range(1, len(DAYS)):
        summary = summary_of(fortnight.lake, fortnight.run.settings, DAYS[number])
        now, then = (
            fortnight.read(WORKLOAD_SCORES, day).select(
                "report", "workload", "environment", "score"
            )
            for day in (DAYS[number], DAYS[number - 1])
        )
        moved = (
            now.join(then, on=["report", "workload", "environment"], suffix="_before")
            .with_columns(points=(pl.col("score") - pl.col("score_before")).abs())
            .filter(pl.col("points") >= 0.005)
            .sort("points", descending=True)
        )
        lines = [line for line in summary.whole.splitlines() if line.startswith("- **")]
        assert len(lines) == min(10, moved.height)
        if moved.is_empty():
            assert "No score of a workload moved." in summary.whole
            continue
        first = moved.row(0, named=True)
        biggest = fortnight.read(SCORE_CHANGES, DAYS[number]).filter(
            *(pl.col(name) == first[name] for name in ("report", "workload", "environment"))
        )
        if (moved["points"] == first["points"]).sum() == 1 and biggest.height == 1:
            assert markdown(first["workload"]) in lines[0]
            assert markdown(biggest["control_id"][0]) in lines[0]
            told += 1
    assert told


def test_the_chart_shows_in_the_summary_and_fits_the_dialog(newest: dict[str, Any]) -> None:
    (picture,) = pictures(newest["summary"])
    assert picture.format == "PNG"
    assert picture.width <= DIALOG


def test_scores_movers_and_a_small_chart_a_report_show_without_a_click(
    fortnight: Fortnight, newest: dict[str, Any]
) -> None:
    at_once = {name for name in newest if name in ("scores", "movers") or "trend/" in name}
    reports = fortnight.read(ORGANIZATION_SCORES, DAYS[-1])["report"].to_list()
    assert at_once == {"scores", "movers", *(f"trend/{report}" for report in reports)}
    assert all(len(newest[name]) <= SHOWN_AT_ONCE for name in at_once)
    assert all(len(pictures(newest[f"trend/{report}"])) == 1 for report in reports)


def test_the_first_day_has_a_summary_too(fortnight: Fortnight) -> None:
    assert "no earlier day to compare with" in metadata_of(fortnight, 0)["summary"]


def test_the_summary_is_the_last_step_of_a_day(fortnight: Fortnight) -> None:
    from posture_pipeline.automation import DAILY_JOB
    from posture_pipeline.definitions import build_definitions

    job = build_definitions(fortnight.run.settings).resolve_job_def(DAILY_JOB)
    priorities = {node.name: int(node.tags.get("dagster/priority", 0)) for node in job.nodes}
    assert min(priorities, key=lambda name: priorities[name]) == "day_summary"
    assert [*priorities.values()].count(priorities["day_summary"]) == 1


@pytest.mark.parametrize(
    "text", ["[a](http://x)", "![a](http://x)", "<img src=x>", "a|b", "**a**", "`a`", "a\n# b"]
)
def test_names_from_aws_lay_out_nothing(text: str) -> None:
    told = markdown(text)
    assert "\n" not in told
    assert not re.search(r"(?<!\\)[\[\]<>|*`#!]", told)


def test_a_chart_has_room_for_any_number_of_reports_and_for_none_of_the_scores() -> None:
    days = DAYS[:5]
    for number in (1, 4, 5, 9):
        series = {f"report-{each}": [None, 50.0, 51.0, None, None] for each in range(number)}
        picture = Image.open(io.BytesIO(chart(series, days, Thresholds())))
        assert picture.width <= DIALOG
        assert len(picture.getcolors() or []) > 1


def test_a_small_chart_is_as_small_as_asked_for_or_is_not_made() -> None:
    scores = [float(each * 37 % 100) for each in range(30)]
    made = small_chart(scores, Thresholds(), limit=1200)
    assert made is not None
    assert len(made) <= 1200
    assert small_chart(scores, Thresholds(), limit=50) is None


def test_it_can_be_made_again_for_a_range_of_days(fortnight: Fortnight) -> None:
    from posture_pipeline.definitions import build_definitions

    graph = build_definitions(fortnight.run.settings).resolve_asset_graph()
    policy = graph.get(dg.AssetKey("day_summary")).backfill_policy
    assert policy == dg.BackfillPolicy.single_run()
