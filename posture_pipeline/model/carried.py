"""Failures whose finding AWS deleted: carried forward as failing until evidence says otherwise.

AWS deletes findings that were not updated for 90 days, and updates those of AWS Config only when
compliance changes: a rule that has failed for 91 days would silently recover. Why a finding
vanished is found in `causes`; how a carried failure counts stands in `scoring`.

Source: AWS Security Hub user guide, pages securityhub-findings and securityhub-internal-providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from posture_pipeline.model.causes import ABSENT, CARRIED, FAILING, PROBLEM, PROBLEM_SCHEMA
from posture_pipeline.schemas import CARRIED_FAILURES, FINDING_CHANGES

if TYPE_CHECKING:
    from datetime import date

_PASSING = ("PASSED", ABSENT)


def carried_problems(carried: pl.DataFrame) -> pl.DataFrame:
    """Carried failures as problems, beside those that have findings.

    Args:
        carried: Rows of `schemas.CARRIED_FAILURES`.

    Returns:
        Columns of `causes.PROBLEM_SCHEMA`, with the state CARRIED.
    """
    rows = carried.with_columns(state=pl.lit(CARRIED))
    missing = [name for name in PROBLEM_SCHEMA if name not in rows.columns]
    return rows.with_columns(pl.lit(None).alias(name) for name in missing).select(
        pl.col(name).cast(dtype) for name, dtype in PROBLEM_SCHEMA.items()
    )


def with_account_causes(causes: pl.DataFrame, accounts: pl.DataFrame) -> pl.DataFrame:
    """The causes of problems, replaced where it is the whole account that came or went.

    Args:
        causes: Columns of `causes.CAUSE_SCHEMA`.
        accounts: account_id, and scored_before, scored_after, sends_before, sends_after: whether it
            is scored, and has any active finding, on each day.
    """
    whole = (
        pl.when(~pl.col("scored_before"))
        .then(pl.lit("account_joined"))
        .when(~pl.col("scored_after"))
        .then(pl.lit("account_left"))
        .when(~pl.col("sends_after"))
        .then(pl.lit("account_silent"))
        .when(~pl.col("sends_before"))
        .then(pl.lit("account_back"))
    )
    return (
        causes.join(accounts.select("account_id", _whole=whole), on="account_id", how="left")
        .with_columns(cause=pl.coalesce("_whole", "cause"))
        .drop("_whole")
    )


def carried_forward(
    causes: pl.DataFrame,
    failing: pl.DataFrame,
    carried: pl.DataFrame,
    *,
    before: date,
    day: date,
    carry_days: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decides what is carried on a day, and words the day's changes accordingly.

    A failure that aged out is carried from that day on. One that is carried already stays so while
    nothing is known of it, for at most `carry_days` days.

    Args:
        causes: Columns of `causes.CAUSE_SCHEMA`: every problem whose state changed.
        failing: Problems of the earlier day, columns of `causes.PROBLEM_SCHEMA`.
        carried: Rows of `schemas.CARRIED_FAILURES` of the earlier day.
        before: The earlier day.
        day: The day.
        carry_days: For so many days at most; 0: nothing is carried.

    Returns:
        Rows of `schemas.FINDING_CHANGES`, and of `schemas.CARRIED_FAILURES`.
    """
    gone = pl.col("status_after") == ABSENT
    ages_out = gone & (pl.col("status_before") == "FAILED") & (pl.col("cause") == "aged_out")
    unknown = ["carried_too_long", "account_silent"]
    nothing_known = gone & (pl.col("status_before") == CARRIED) & pl.col("cause").is_in(unknown)
    begin = causes.filter(ages_out & pl.lit(carry_days > 0)).select(PROBLEM)
    stay = causes.filter(nothing_known).select(PROBLEM)
    kept = pl.concat(
        [
            carried.join(stay, on=PROBLEM, how="semi").filter(
                (pl.lit(day) - pl.col("carried_since")).dt.total_days() < carry_days
            ),
            CARRIED_FAILURES.project(
                failing.join(begin, on=PROBLEM, how="semi").with_columns(
                    date=pl.lit(day), carried_since=pl.lit(day)
                )
            ),
        ]
    )
    changes = (
        causes.join(kept.select(*PROBLEM, _kept=pl.lit(value=True)), on=PROBLEM, how="left")
        .filter(~(pl.col("_kept").fill_null(value=False) & (pl.col("status_before") == CARRIED)))
        .with_columns(
            status_after=pl.when(pl.col("_kept")).then(pl.lit(CARRIED)).otherwise("status_after"),
            date=pl.lit(day),
            compared_with=pl.lit(before),
        )
        .filter(~(pl.col("status_before").is_in(_PASSING) & pl.col("status_after").is_in(_PASSING)))
    )
    return (
        FINDING_CHANGES.project(changes).sort(PROBLEM),
        CARRIED_FAILURES.project(kept.with_columns(date=pl.lit(day))).sort(PROBLEM),
    )


def is_failing(state: str) -> pl.Expr:
    """Whether a state counts as failing: with a finding, or carried."""
    return pl.col(state).is_in(FAILING)
