"""Scores become metrics that CloudWatch accepts, two workloads never one."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model import metrics
from posture_pipeline.model.metrics import (
    MAX_DIMENSION_VALUE,
    UNNAMED,
    acceptable_values,
    metric_data,
)
from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES

COLLECTED_AT = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def scores(*rows: dict[str, Any]) -> pl.DataFrame:
    least = {
        "report": "fsbp",
        "workload": "shop",
        "environment": "test",
        "score": 75.5,
        "passed": 3,
        "failed": 1,
        "unknown": 2,
        "no_data": 9,
        "failed_findings": 7,
        "collected_at": COLLECTED_AT,
    }
    return WORKLOAD_SCORES.read_as(pl.DataFrame([{**least, **row} for row in rows]))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(metrics).failed == 0


def test_a_score_becomes_four_metrics_at_the_time_of_the_snapshot() -> None:
    published = metric_data(scores({}))
    assert [(each.name, each.value, each.unit) for each in published.data] == [
        ("Score", 75.5, "Percent"),
        ("Controls", 6.0, "Count"),
        ("FailedControls", 1.0, "Count"),
        ("Findings", 7.0, "Count"),
    ]
    for each in published.data:
        assert each.timestamp == COLLECTED_AT
        assert each.dimensions == (
            ("Report", "fsbp"),
            ("Workload", "shop"),
            ("Environment", "test"),
        )
    assert published.notes == ()


def test_no_score_is_no_datum_and_not_a_zero() -> None:
    names = [each.name for each in metric_data(scores({"score": None})).data]
    assert names == ["Controls", "FailedControls", "Findings"]


def test_a_withheld_score_publishes_none_of_its_metrics() -> None:
    figures = ("score", "passed", "failed", "unknown", "no_data", "failed_findings")
    assert metric_data(scores(dict.fromkeys(figures))).data == ()


def test_nothing_to_publish_is_no_error() -> None:
    assert metric_data(WORKLOAD_SCORES.empty()) == metrics.PublishedMetrics((), ())


@pytest.mark.parametrize(
    "value", ["caf\u00e9", "", "  ", "a\nb", " a", "x" * 1025, "\u65e5\u672c", None]
)
def test_a_value_that_cloudwatch_would_refuse_is_changed_and_noted(value: str | None) -> None:
    published = metric_data(scores({"workload": value}))
    name = dict(published.data[0].dimensions)["Workload"]
    assert 0 < len(name) <= MAX_DIMENSION_VALUE
    assert name.isascii()
    assert name.isprintable()
    assert len(published.notes) == 1
    assert name in published.notes[0]


def test_a_value_of_which_nothing_is_left_is_called_unnamed() -> None:
    assert acceptable_values(["\u65e5\u672c"])["\u65e5\u672c"].startswith(UNNAMED)


def test_a_changed_value_never_meets_one_that_is_called_so_already() -> None:
    changed = acceptable_values(["caf\u00e9"])["caf\u00e9"]
    both = acceptable_values(["caf\u00e9", changed])
    assert both[changed] == changed
    assert both["caf\u00e9"] != changed


@given(st.sets(st.none() | st.text(max_size=6) | st.sampled_from(["a", "\u00e1", "a ", "A"])))
def test_two_values_are_never_published_as_one(values: set[str | None]) -> None:
    published = acceptable_values(values)
    assert published.keys() == values
    assert len(set(published.values())) == len(values)
    for name in published.values():
        assert 0 < len(name) <= MAX_DIMENSION_VALUE
        assert name.isascii()
        assert name.strip() == name


def organization_scores(*rows: dict[str, Any]) -> pl.DataFrame:
    least = {
        "report": "fsbp",
        "score": 60.0,
        "passed": 6,
        "failed": 3,
        "unknown": 1,
        "failed_findings": 11,
        "collected_at": COLLECTED_AT,
    }
    return ORGANIZATION_SCORES.read_as(pl.DataFrame([{**least, **row} for row in rows]))


def test_the_organization_has_the_same_metrics_by_report_alone() -> None:
    published = metric_data(scores({}), organization_scores({}))
    own = [each for each in published.data if each.dimensions == (("Report", "fsbp"),)]
    assert [(each.name, each.value) for each in own] == [
        ("Score", 60.0),
        ("Controls", 10.0),
        ("FailedControls", 3.0),
        ("Findings", 11.0),
    ]
    assert published.data == metric_data(scores({})).data + tuple(own)


def test_no_score_of_the_organization_is_no_datum() -> None:
    published = metric_data(WORKLOAD_SCORES.empty(), organization_scores({"score": None}))
    assert [each.name for each in published.data] == ["Controls", "FailedControls", "Findings"]


@given(st.text(max_size=8), st.text(max_size=8))
def test_no_workload_has_the_metrics_of_the_organization(workload: str, environment: str) -> None:
    published = metric_data(
        scores({"workload": workload, "environment": environment}), organization_scores({})
    )
    identities = [(each.name, each.dimensions) for each in published.data]
    assert len(set(identities)) == len(identities) == 8


def test_a_name_of_dots_is_changed_since_a_dashboard_takes_it_for_the_line_above() -> None:
    names = acceptable_values([".", "...", "a.b"])
    assert names["a.b"] == "a.b"
    assert not {".", "..."} & set(names.values())
