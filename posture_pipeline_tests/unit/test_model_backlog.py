"""The order of a backlog: the fewest resources for any target, the score after each control."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from posture_pipeline.model import scoring
from posture_pipeline.model.backlog import (
    BACKLOG_SCHEMA,
    RESOURCES_SCHEMA,
    backlog,
    resources_to_fix,
)

ONE, TWO = "000000000001", "111122223333"

Control = tuple[str, int, str | None]
"""Status, resources that do not pass, severity."""


def controls_of(controls: dict[str, Control]) -> pl.DataFrame:
    rows = [(name, severity, status) for name, (status, _, severity) in controls.items()]
    schema = {"control_id": pl.String, "severity": pl.String, "status": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def resources_of(controls: dict[str, Control]) -> pl.DataFrame:
    rows = [
        {"control_id": name, "account_id": ONE, "resource_id": str(number), "status": status}
        for name, (status, count, _) in controls.items()
        for number in range(count)
    ]
    return pl.DataFrame(rows, schema=RESOURCES_SCHEMA)


def backlog_of(controls: dict[str, Control], target: float = 95) -> pl.DataFrame:
    return backlog(controls_of(controls), resources_of(controls), target)


def score_of(statuses: list[str]) -> float | None:
    counts = {name: [statuses.count(name.upper())] for name in ("passed", "failed", "unknown")}
    score: float | None = pl.DataFrame(counts).select(scoring.score()).item()
    return score


# --- the order --------------------------------------------------------------------------------

FAILING = st.tuples(
    st.sampled_from(["FAILED", "UNKNOWN"]),
    st.integers(1, 6),
    st.sampled_from(["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", None]),
)
OTHERS = st.tuples(st.sampled_from(["PASSED", "NO_DATA"]), st.just(0), st.just("LOW"))
CONTROLS = st.dictionaries(
    st.integers(1, 99).map("S3.{}".format), FAILING | OTHERS, min_size=1, max_size=8
)


@settings(max_examples=60)
@given(CONTROLS, st.floats(0, 100))
def test_no_other_controls_reach_the_target_with_fewer_resources(
    controls: dict[str, Control], target: float
) -> None:
    """Every set of controls is tried, each scored by the scoring rule itself."""
    statuses = {name: status for name, (status, _, _) in controls.items()}
    now = score_of(list(statuses.values()))
    assume(now is not None)
    assert now is not None
    failing = [name for name, status in statuses.items() if status in ("FAILED", "UNKNOWN")]
    fewest = None
    for size in range(len(failing) + 1):
        score = score_of(list((statuses | dict.fromkeys(failing[:size], "PASSED")).values()))
        assert score is not None
        if score >= target:
            # All sets of a size have the same score; of larger ones each contains one of these.
            fewest = min(sum(controls[n][1] for n in each) for each in combinations(failing, size))
            break
    rows = backlog_of(controls, target)
    reaching = rows.filter("reaches_target")
    if now >= target:
        assert reaching.is_empty()
    else:
        assert reaching["fixed_so_far"].to_list() == [fewest]


@settings(max_examples=60)
@given(CONTROLS)
def test_the_score_after_each_row_is_that_of_the_controls_fixed_so_far(
    controls: dict[str, Control],
) -> None:
    statuses = {name: status for name, (status, _, _) in controls.items()}
    rows = backlog_of(controls)
    before = score_of(list(statuses.values()))
    fixed = 0
    for row in rows.iter_rows(named=True):
        statuses[row["control_id"]] = "PASSED"
        fixed += row["to_fix"]
        assert row["score_after"] == pytest.approx(score_of(list(statuses.values())))
        assert row["points"] == pytest.approx(row["score_after"] - before)
        assert row["fixed_so_far"] == fixed
        before = row["score_after"]
    assert not {"FAILED", "UNKNOWN"} & set(statuses.values())
    if rows.height:
        assert rows["score_after"][-1] == 100


@given(CONTROLS, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_the_rows(
    controls: dict[str, Control], random: Any
) -> None:
    shuffled = dict(random.sample(sorted(controls.items()), len(controls)))
    assert_frame_equal(backlog_of(controls), backlog_of(shuffled))


def test_fewest_resources_come_first_then_failed_then_severity_then_the_id() -> None:
    rows = backlog_of(
        {
            "S3.9": ("FAILED", 2, "CRITICAL"),
            "S3.8": ("UNKNOWN", 1, "CRITICAL"),
            "S3.7": ("FAILED", 1, None),
            "S3.6": ("FAILED", 1, "LOW"),
            "S3.5": ("FAILED", 1, "HIGH"),
            "S3.4": ("FAILED", 1, "HIGH"),
            "S3.3": ("PASSED", 0, "HIGH"),
            "S3.2": ("NO_DATA", 0, "HIGH"),
        }
    )
    assert rows["control_id"].to_list() == ["S3.4", "S3.5", "S3.6", "S3.7", "S3.8", "S3.9"]
    assert rows["points"].unique().to_list() == [pytest.approx(100 / 7)]


def test_a_control_whose_resources_are_not_known_comes_last() -> None:
    rows = backlog_of({"A": ("FAILED", 0, "CRITICAL"), "B": ("FAILED", 4, "LOW")})
    assert rows.select("control_id", "to_fix").rows() == [("B", 4), ("A", None)]


def test_a_full_score_is_100_whatever_the_number_of_controls() -> None:
    """A last score of 99.99999999999999 would never reach a target of 100."""
    for passed in range(250):
        controls: dict[str, Control] = {f"P.{n}": ("PASSED", 0, "LOW") for n in range(passed)}
        rows = backlog_of(controls | {"F": ("FAILED", 1, "LOW")}, 100)
        assert rows.select("score_after", "reaches_target").row(0) == (100, True)


@pytest.mark.parametrize(
    "controls", [{}, {"A": ("PASSED", 0, "LOW")}, {"A": ("NO_DATA", 0, "LOW")}]
)
def test_nothing_to_fix_is_no_rows_with_the_declared_columns(controls: dict[str, Control]) -> None:
    rows = backlog_of(controls)
    assert rows.is_empty()
    assert rows.schema == BACKLOG_SCHEMA


# --- the resources ----------------------------------------------------------------------------


def finding(status: str | None, resource: str | None = "a", **more: str | None) -> dict[str, Any]:
    return {
        "account_id": ONE,
        "control_id": "S3.1",
        "region": "eu-west-1",
        "resource_id": resource,
        "resource_type": "AwsS3Bucket",
        "compliance_status": status,
        "workflow_status": "NEW",
        "record_state": "ACTIVE",
        "title": "Bucket",
        "remediation_url": None,
    } | more


def fixes_of(*findings: dict[str, Any]) -> list[tuple[str, ...]]:
    read = pl.LazyFrame(list(findings), infer_schema_length=None)
    rows = resources_to_fix(read.cast({"remediation_url": pl.String})).collect()
    assert rows.schema == RESOURCES_SCHEMA
    return rows.select("account_id", "resource_id", "regions", "status").rows()


def test_what_could_not_be_evaluated_has_to_be_fixed_too() -> None:
    """With the failed one alone fixed the control would be UNKNOWN, and give no point."""
    found = fixes_of(
        finding("FAILED"), finding("WARNING", "b"), finding(None, "c"), finding("PASSED", "d")
    )
    assert [each[1:] for each in found] == [
        ("a", "eu-west-1", "FAILED"),
        ("b", "eu-west-1", "UNKNOWN"),
        ("c", "eu-west-1", "UNKNOWN"),
    ]


def test_suppressed_and_archived_findings_are_nothing_to_fix() -> None:
    assert not fixes_of(
        finding("FAILED", workflow_status="SUPPRESSED"), finding("FAILED", record_state="ARCHIVED")
    )
    assert len(fixes_of(finding("FAILED", workflow_status=None))) == 1


def test_a_resource_reported_in_two_regions_is_one_and_in_two_accounts_two() -> None:
    found = fixes_of(
        finding("FAILED"),
        finding("WARNING", region="us-east-1"),
        finding("FAILED", account_id=TWO),
        finding("FAILED", None),
    )
    assert found == [
        (ONE, "", "eu-west-1", "FAILED"),
        (ONE, "a", "eu-west-1 us-east-1", "FAILED"),
        (TWO, "a", "eu-west-1", "FAILED"),
    ]
