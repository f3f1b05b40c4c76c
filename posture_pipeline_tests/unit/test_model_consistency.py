"""The rules behind the checks: what no set of findings could give is found, and nothing else."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.completeness import FIGURES
from posture_pipeline.model.consistency import (
    inconsistent_scores,
    missing_or_double_accounts,
    unexplained_moves,
)
from posture_pipeline.model.scoring import NO_FINDINGS
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)

BEFORE, DAY = date(2026, 11, 22), date(2026, 11, 23)
ONE, TWO = "012345678901", "111122223333"


def score(**more: Any) -> dict[str, Any]:
    """A sound row: 3 of 4 controls passed, one of them assumed; one more without data."""
    return {
        "date": DAY,
        "report": "fsbp",
        "score": 75.0,
        "passed": 3,
        "failed": 1,
        "unknown": 0,
        "no_data": 1,
        "assumed": 1,
        "expected": 5,
        "findings": 9,
    } | more


def scores(*rows: dict[str, Any]) -> pl.DataFrame:
    return ORGANIZATION_SCORES.read_as(pl.DataFrame(rows, infer_schema_length=None))


# --- inconsistent_scores ----------------------------------------------------------------------


@given(
    passed=st.integers(0, 500),
    failed=st.integers(0, 500),
    unknown=st.integers(0, 500),
    no_data=st.integers(0, 500),
)
def test_what_the_method_gives_is_consistent(
    passed: int, failed: int, unknown: int, no_data: int
) -> None:
    counted = passed + failed + unknown
    row = score(
        score=100 * passed / counted if counted else None,
        reason=None if counted else "no control has data",
        passed=passed,
        failed=failed,
        unknown=unknown,
        no_data=no_data,
        assumed=passed // 2,
        expected=counted + no_data,
    )
    assert inconsistent_scores(scores(row)).is_empty()


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": 75.1},
        {"score": 0.0},
        {"score": -1.0},
        {"score": 100.1},
        {"score": float("nan")},
        {"score": None},
        {"reason": "there is a score all the same"},
        {"failed": 2},
        {"passed": 4},
        {"unknown": 1},
        {"no_data": 0},
        {"no_data": -1, "expected": 3},
        {"expected": 4},
        {"expected": None},
        {"assumed": 4},
        {"assumed": None},
        {"findings": -1},
        {"findings": None},
        {"passed": None},
        {"passed": 0, "failed": 0, "no_data": 5, "assumed": 0},
    ],
    ids=str,
)
def test_a_row_that_no_findings_could_give_is_found(wrong: dict[str, Any]) -> None:
    found = inconsistent_scores(scores(score(), score(report="other", **wrong)))
    assert found["report"].to_list() == ["other"]


@pytest.mark.parametrize("reason", ["withheld: half an account is missing", NO_FINDINGS])
def test_a_score_without_evidence_has_no_figure_at_all(reason: str) -> None:
    without = dict.fromkeys(each for each in FIGURES if each in score())
    assert inconsistent_scores(scores(score(**without, reason=reason))).is_empty()
    with_count = {**without, "failed": 0}
    assert inconsistent_scores(scores(score(**with_count, reason=reason))).height == 1


def test_of_no_rows_none_is_wrong() -> None:
    assert inconsistent_scores(ORGANIZATION_SCORES.empty()).is_empty()


# --- missing_or_double_accounts ---------------------------------------------------------------


def standing(*pairs: tuple[str, str]) -> pl.DataFrame:
    rows = [{"date": DAY, "report": report, "account_id": account} for report, account in pairs]
    return ACCOUNT_SCORES.read_as(pl.DataFrame(rows)) if rows else ACCOUNT_SCORES.empty()


ACCOUNTS = pl.DataFrame({"account_id": [ONE, TWO]})
EVERYWHERE = [(report, account) for report in ("cis", "fsbp") for account in (ONE, TWO)]


def test_every_account_once_in_each_report_is_right() -> None:
    wrong = missing_or_double_accounts(standing(*EVERYWHERE), ACCOUNTS, ["fsbp", "cis"])
    assert wrong.is_empty()


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (EVERYWHERE[1:], ("cis", ONE, 0)),
        ([*EVERYWHERE, EVERYWHERE[0]], ("cis", ONE, 2)),
        ([*EVERYWHERE, ("cis", "999999999999")], ("cis", "999999999999", 1)),
        ([*EVERYWHERE, ("gone", ONE)], ("gone", ONE, 1)),
    ],
    ids=["missing", "twice", "not an account", "not a report"],
)
def test_an_account_that_does_not_stand_once_is_named(
    there: list[tuple[str, str]], found: tuple[str, str, int]
) -> None:
    wrong = missing_or_double_accounts(standing(*there), ACCOUNTS, ["fsbp", "cis"])
    assert wrong.rows() == [found]


def test_without_any_score_every_account_is_missing_from_every_report() -> None:
    wrong = missing_or_double_accounts(standing(), ACCOUNTS, ["fsbp", "cis"])
    assert wrong.rows() == [(*pair, 0) for pair in EVERYWHERE]


# --- unexplained_moves ------------------------------------------------------------------------


def moves(
    before: float | None = 90.0,
    now: float | None = 80.0,
    *,
    status: tuple[str | None, str | None] = ("PASSED", "PASSED"),
    accounts: tuple[str, str] = (ONE, ONE),
    workloads: tuple[str, str] = ("shop", "shop"),
    methods: tuple[str, str] = ("2", "2"),
    points: float = 0.5,
) -> pl.DataFrame:
    """Two days of one workload with one account and one control."""
    days = (BEFORE, DAY)
    place = {"report": "fsbp", "environment": "production"}
    workload_rows = [
        place | {"date": day, "workload": "shop", "score": value, "method": method}
        for day, value, method in zip(days, (before, now), methods, strict=True)
    ]
    account_rows = [
        place | {"date": day, "workload": workload, "account_id": account}
        for day, workload, account in zip(days, workloads, accounts, strict=True)
    ]
    status_rows = [
        {
            "date": day,
            "report": "fsbp",
            "account_id": account,
            "control_id": "S3.1",
            "status": value,
        }
        for day, account, value in zip(days, accounts, status, strict=True)
        if value is not None
    ]
    return unexplained_moves(
        WORKLOAD_SCORES.read_as(pl.DataFrame(workload_rows)),
        CONTROL_STATUS.read_as(pl.DataFrame(status_rows)),
        ACCOUNT_SCORES.read_as(pl.DataFrame(account_rows)),
        points=points,
    )


def test_a_move_without_any_change_of_a_control_is_unexplained() -> None:
    assert moves().rows() == [("fsbp", "shop", "production", 90.0, 80.0)]
    assert moves(80.0, 90.0).height == 1, "upwards too"


def test_a_move_of_no_more_than_the_limit_is_left_alone() -> None:
    assert moves(90.0, 89.5).is_empty()
    assert moves(90.0, 89.4).height == 1
    assert moves(points=10).is_empty()


@pytest.mark.parametrize("value", ["FAILED", "UNKNOWN", "NO_DATA"])
def test_a_changed_control_explains_a_move(value: str) -> None:
    assert moves(status=("PASSED", value)).is_empty()


def test_a_control_added_or_removed_explains_a_move() -> None:
    assert moves(status=("PASSED", None)).is_empty()
    assert moves(status=(None, "PASSED")).is_empty()


def test_an_account_that_joins_leaves_or_moves_explains_a_move() -> None:
    assert moves(accounts=(ONE, TWO)).is_empty()
    assert moves(workloads=("other", "shop")).is_empty()


def test_another_method_explains_a_move() -> None:
    assert moves(methods=("1", "2")).is_empty()
    assert moves(methods=("2", "2")).height == 1


def test_a_score_that_comes_or_goes_is_no_move() -> None:
    assert moves(before=None).is_empty()
    assert moves(now=None).is_empty()
