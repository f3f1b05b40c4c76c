"""What computing days again did to their scores.

How it is computed again, and what people read of it, stands elsewhere.
"""

from __future__ import annotations

import polars as pl

from posture_pipeline.model.changes import TOLERANCE

KEY = ["date", "scope", "account_id", "workload", "environment", "report"]
"""One score of one day."""

FACTS = ["score", "method", "settings_hash", "control_set_hash"]
"""What is compared of a score: how much, by which rules, of which controls."""


def of_scope(scope: str, scores: pl.DataFrame) -> pl.DataFrame:
    """Scores with the same columns for every scope.

    Args:
        scope: account, workload or organization.
        scores: Rows of the score table of that scope.

    Returns:
        KEY and FACTS.
    """
    missing = [
        pl.lit(None, dtype=pl.String()).alias(name)
        for name in KEY
        if name not in (*scores.columns, "scope")
    ]
    return scores.with_columns(*missing, pl.lit(scope).alias("scope")).select(*KEY, *FACTS)


def score_differences(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Each score as it was and as it is now, the biggest move first.

    Args:
        before: KEY and FACTS, of the days as they were.
        after: Of the days as they are.

    Returns:
        KEY, the FACTS as `..._before` and `..._after`, and what became of the score: added, gone,
        moved (difference points, or no score on one side), or same.
    """
    there = pl.lit(value=True)
    both = (
        before.rename({name: f"{name}_before" for name in FACTS})
        .with_columns(was=there)
        .join(
            after.rename({name: f"{name}_after" for name in FACTS}).with_columns(is_now=there),
            on=KEY,
            how="full",
            coalesce=True,
            nulls_equal=True,
        )
    )
    was, now = pl.col("score_before"), pl.col("score_after")
    difference = now - was
    return (
        both.with_columns(
            difference=difference,
            became=pl.when(pl.col("was").is_null())
            .then(pl.lit("added"))
            .when(pl.col("is_now").is_null())
            .then(pl.lit("gone"))
            .when((was.is_null() != now.is_null()) | (difference.abs() > TOLERANCE))
            .then(pl.lit("moved"))
            .otherwise(pl.lit("same")),
        )
        .drop("was", "is_now")
        .sort(pl.col("difference").abs().fill_null(0) * -1, *KEY)
    )
