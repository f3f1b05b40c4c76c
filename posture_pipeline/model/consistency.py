"""What must hold of score tables whatever the findings say: the rules behind the checks."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from posture_pipeline.model.completeness import FIGURES, WITHHELD
from posture_pipeline.model.scoring import NO_FINDINGS


def inconsistent_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """Rows of a score table that no set of findings could give.

    A score is within 0 and 100 and follows from its counts; passed, failed, unknown and no_data
    add up to expected; a missing score has a reason, and only a missing one. A score that is
    withheld has no figure at all.
    """
    withheld = pl.col("reason").str.starts_with(WITHHELD).fill_null(value=False) | pl.col(
        "reason"
    ).eq_missing(NO_FINDINGS)
    counted = pl.col("passed") + pl.col("failed") + pl.col("unknown")
    sane = [
        pl.col("score").is_null() | pl.col("score").is_between(0, 100),
        pl.col("score").is_null() == pl.col("reason").is_not_null(),
        (pl.col("score") - 100 * pl.col("passed") / counted).abs().fill_null(0) < 1e-9,
        pl.col("failed") <= pl.col("expected"),
        counted + pl.col("no_data") == pl.col("expected"),
        pl.col("assumed") <= pl.col("passed"),
        *(pl.col(name) >= 0 for name in ("passed", "failed", "unknown", "no_data", "findings")),
    ]
    figures = [name for name in FIGURES if name in scores.columns]
    silent = pl.all_horizontal(pl.col(name).is_null() for name in figures)
    is_sane = pl.all_horizontal(check.fill_null(value=False) for check in sane)
    return scores.filter(~pl.when(withheld).then(silent).otherwise(is_sane))


def missing_or_double_accounts(
    account_scores: pl.DataFrame, accounts: pl.DataFrame, reports: Sequence[str]
) -> pl.DataFrame:
    """Accounts that do not stand exactly once in each report.

    Args:
        account_scores: The day's `account_scores`.
        accounts: `account_id` of every account that gets a score.
        reports: Names of the reports.

    Returns:
        report, account_id, rows (how often it stands there: 0, or 2 and more).
    """
    wanted = accounts.select("account_id").join(
        pl.DataFrame({"report": list(reports)}), how="cross"
    )
    found = account_scores.group_by("report", "account_id").len("rows")
    return (
        wanted.join(found, on=["report", "account_id"], how="full", coalesce=True)
        .with_columns(pl.col("rows").fill_null(0))
        .join(wanted.with_columns(wanted=True), on=["report", "account_id"], how="left")
        .filter((pl.col("rows") != 1) | pl.col("wanted").is_null())
        .select("report", "account_id", "rows")
        .sort("report", "account_id")
    )


def unexplained_moves(
    workload_scores: pl.DataFrame,
    control_status: pl.DataFrame,
    account_scores: pl.DataFrame,
    *,
    points: float,
) -> pl.DataFrame:
    """Workload scores that moved between two days while no control of theirs changed status.

    Scores of two methods are left alone: the method explains their move.

    Args:
        workload_scores: Rows of exactly two days.
        control_status: Rows of the same two days.
        account_scores: Rows of the same two days, for the accounts of each workload.
        points: Moves up to this many points are left alone.

    Returns:
        report, workload, environment, score_before, score.
    """
    key = ["report", "workload", "environment"]
    of_last = pl.col("date") == pl.col("date").max()
    now = workload_scores.filter(of_last).select(*key, "score", "method")
    before = workload_scores.filter(~of_last).select(
        *key, pl.col("score").alias("score_before"), pl.col("method").alias("method_before")
    )
    places = account_scores.select("date", *key, "account_id")
    changed = (
        control_status.join(places, on=["date", "report", "account_id"])
        .group_by(*key, "account_id", "control_id")
        .agg(pl.len().alias("days"), pl.col("status").n_unique().alias("statuses"))
        .filter((pl.col("days") != 2) | (pl.col("statuses") != 1))
        .select(key)
        .unique()
    )
    moved = (pl.col("score") - pl.col("score_before")).abs() > points
    same_method = pl.col("method").eq_missing(pl.col("method_before"))
    unexplained = (
        now.join(before, on=key).filter(moved, same_method).join(changed, on=key, how="anti")
    )
    return unexplained.select(*key, "score_before", "score").sort(key)
