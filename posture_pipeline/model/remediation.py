"""How long failures last: one episode for each time a control fails on a resource, and the median.

An episode goes on until evidence says that it was remedied; one that is only no longer observed
(suppressed, archived, the account left) is censored: it lasted at least so long. Why a failure is
gone is found in `causes` and `carried`; reading the lake does not belong here.

A snapshot stands for its whole day: what fails in it lasts at least until the midnight after, UTC.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from posture_pipeline.model.causes import LOST_EVIDENCE, NOT_PASSING, PROBLEM
from posture_pipeline.model.controls import CONFIG_PRODUCT
from posture_pipeline.schemas import REMEDIATION, TIME_TO_FIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date


REMEDIED = ("fixed", "resource_gone", "not_applicable")
"""Causes that end a failure. Every other one ends only what is known of it."""

COUNTS_ON_DAYS = 30
"""A failure that comes back within so many days after it was closed counts on."""

FLAPPING_OPENINGS = 3
"""What begins to fail so often keeps coming back."""

KNOWN_DAYS = 365
"""The time to fix is that of the failures that are open, or were closed in so many days."""

CONFIDENCE = 0.95
"""Of the interval of the median."""

SUBJECTS: tuple[tuple[str, ...], ...] = (
    (),
    ("severity",),
    ("workload", "environment"),
    ("severity", "workload", "environment"),
)
"""What the time to fix is told by, within a report."""

_SOURCE = ["report", "account_id", "region", "product"]
_PLACE = ("severity", "workload", "environment")
_EPISODE = [*PROBLEM, "opened_at"]


@dataclass(frozen=True, slots=True)
class Today:
    """What is known of the problems on a day.

    Attributes:
        day: The day.
        reports: Slugs of the reports in the settings.
        problems: Those that are FAILED, UNKNOWN or SUPPRESSED: columns of `causes.PROBLEM_SCHEMA`.
        carried: Rows of `schemas.CARRIED_FAILURES`.
        completeness: Rows of `schemas.SOURCE_COMPLETENESS`.
        changes: Rows of `schemas.FINDING_CHANGES`, of the day and of every day since the newest
            earlier day of episodes.
        accounts: account_id, workload, environment of the scored accounts.
        reporting: Ids of the accounts with any active finding.
        controls: report, control_id, severity of the controls of the day.
    """

    day: date
    reports: Sequence[str]
    problems: pl.DataFrame
    carried: pl.DataFrame
    completeness: pl.DataFrame
    changes: pl.DataFrame
    accounts: pl.DataFrame
    reporting: Sequence[str]
    controls: pl.DataFrame


# --- episodes ---------------------------------------------------------------------------------


def remediation(
    before: pl.DataFrame, closed: pl.DataFrame, passing: pl.DataFrame, today: Today
) -> pl.DataFrame:
    """The episodes that are open on a day, and those that it closes.

    Open is what fails or is carried forward on the day, and what was open before and cannot be
    evaluated now, or lies in a source that is incomplete: silence is no fix. Everything else that
    was open is closed. So the episodes follow from the state of the day, and a day that went wrong
    does not stay wrong.

    An episode that goes on keeps when it was opened, whatever its finding says now. One that comes
    back within `COUNTS_ON_DAYS` days is a new one that counts the openings on; but what was closed
    without a remedy, and was failing all the while (the suppression ended, the account came back),
    goes on as the episode that it was.

    Args:
        before: Rows of `schemas.REMEDIATION` of the newest earlier day; only open ones count.
        closed: Rows of `schemas.REMEDIATION` that were closed on earlier days.
        passing: PROBLEM columns of the problems among `gone` that pass on the day.
        today: What is known of the day.

    Returns:
        Rows of `schemas.REMEDIATION`; the closed ones come first, so that who reads only these can
        skip the rest of the file.
    """
    before = _open_before(before, today)
    ended = gone(before, today)
    stays = before.join(ended, on=PROBLEM, how="anti")
    now = _failing(today)
    begins = _beginning(now.join(before, on=PROBLEM, how="anti"), closed, today)
    is_open = pl.concat([_going_on(stays, now, today), begins]).with_columns(
        closed_on=None,
        closed_by=None,
        remedied=pl.lit(value=False),
        days=_days_until(pl.lit(today.day + timedelta(days=1))),
    )
    rows = [
        REMEDIATION.project(each.with_columns(flapping=pl.col("openings") >= FLAPPING_OPENINGS))
        for each in (_closed(ended, passing, today), _placed(is_open, today))
    ]
    return (
        pl.concat(rows)
        .with_columns(date=pl.lit(today.day))
        .sort("closed_on", *PROBLEM, nulls_last=True)
    )


def gone(before: pl.DataFrame, today: Today) -> pl.DataFrame:
    """The episodes that were open before and are not any more: the day closes them.

    Args:
        before: Rows of `schemas.REMEDIATION` of the newest earlier day; only open ones count.
        today: What is known of the day.

    Returns:
        Those rows of it.
    """
    before = _open_before(before, today)
    unknown = today.problems.filter(pl.col("state") == "UNKNOWN").select(PROBLEM)
    still = pl.concat([_failing(today).select(PROBLEM), unknown]).unique()
    lost = before.join(still, on=PROBLEM, how="anti")
    unknown_end = _without_evidence(lost, today).select(PROBLEM)
    kept = pl.concat([still, unknown_end]).filter(_scored(today))
    return before.join(kept, on=PROBLEM, how="anti")


def _open_before(before: pl.DataFrame, today: Today) -> pl.DataFrame:
    """The open episodes of the reports that there still are."""
    return before.filter(pl.col("closed_on").is_null(), pl.col("report").is_in(list(today.reports)))


def _scored(today: Today) -> pl.Expr:
    return pl.col("account_id").is_in(today.accounts["account_id"].implode())


def _failing(today: Today) -> pl.DataFrame:
    """What fails or is carried forward: PROBLEM, product, carried_forward, and began_at.

    `began_at` is FirstObservedAt, the last change of compliance (Security Hub user guide, page
    controls-findings-create-update). A finding of AWS Config keeps there when it was created, but
    is updated only when compliance changes (page securityhub-internal-providers).
    """
    columns = [*PROBLEM, "product", "first_observed_at", "updated_at"]
    failed = today.problems.filter(pl.col("state") == "FAILED").select(columns)
    carried = today.carried.select(columns).join(failed, on=PROBLEM, how="anti")
    config = pl.col("product").eq_missing(CONFIG_PRODUCT)
    began_at = pl.when(config).then(pl.coalesce("updated_at", "first_observed_at"))
    return (
        pl.concat(
            [
                failed.with_columns(carried_forward=pl.lit(value=False)),
                carried.with_columns(carried_forward=pl.lit(value=True)),
            ]
        )
        .filter(_scored(today), pl.col("report").is_in(list(today.reports)))
        .with_columns(began_at=began_at.otherwise("first_observed_at"))
        .drop("first_observed_at", "updated_at")
    )


def _without_evidence(lost: pl.DataFrame, today: Today) -> pl.DataFrame:
    """Of the episodes whose findings are gone, those that lie in a source that is incomplete."""
    incomplete = today.completeness.filter(pl.col("reason").is_not_null()).select(
        *_SOURCE, pl.lit(value=True).alias("_incomplete")
    )
    silent_account = ~pl.col("account_id").is_in(list(today.reporting))
    no_evidence = pl.col("cause").is_null() | pl.col("cause").is_in(sorted(LOST_EVIDENCE))
    return (
        lost.join(incomplete, on=_SOURCE, how="left", nulls_equal=True)
        .join(_endings(today), on=PROBLEM, how="left")
        .filter(pl.col("_incomplete").fill_null(value=False) | silent_account, no_evidence)
    )


def _endings(today: Today) -> pl.DataFrame:
    """PROBLEM, cause and status_after of the last change that ended a failure."""
    ends = pl.col("status_before").is_in(NOT_PASSING) & ~pl.col("status_after").is_in(NOT_PASSING)
    return (
        today.changes.filter(ends)
        .sort("date")
        .unique(PROBLEM, keep="last", maintain_order=True)
        .select(*PROBLEM, "cause", "status_after")
    )


def _going_on(stays: pl.DataFrame, now: pl.DataFrame, today: Today) -> pl.DataFrame:
    fresh = now.select(*PROBLEM, _carried="carried_forward", _product="product")
    seen = pl.col("_carried").is_not_null()
    return REMEDIATION.project(
        stays.join(fresh, on=PROBLEM, how="left").with_columns(
            last_seen=pl.when(seen).then(pl.lit(today.day)).otherwise("last_seen"),
            carried_forward=pl.coalesce("_carried", pl.lit(value=False)),
            product=pl.coalesce("_product", "product"),
        )
    )


def _beginning(new: pl.DataFrame, closed: pl.DataFrame, today: Today) -> pl.DataFrame:
    """The episodes that open on the day, or go on after they had been closed."""
    recent = (
        closed.filter(pl.col("closed_on") >= today.day - timedelta(days=COUNTS_ON_DAYS))
        .sort("closed_on", "opened_at")
        .unique(PROBLEM, keep="last", maintain_order=True)
    )
    earlier = ("opened_at", "first_seen", "closed_on", "remedied", "openings")
    passed = (
        today.changes.filter(
            pl.col("status_before") == "PASSED", pl.col("status_after") == "FAILED"
        )
        .group_by(PROBLEM)
        .agg(_passed_on=pl.col("compared_with").max())
    )
    next_day = pl.lit(today.day + timedelta(days=1))
    began = pl.when(pl.col("began_at") < _midnight(next_day)).then("began_at")
    again = pl.col("_closed_on").is_not_null()
    same = (
        again
        & ~pl.col("_remedied")
        & pl.col("_passed_on").is_null()
        & (pl.col("_began").is_null() | (pl.col("_began") < _midnight(pl.col("_closed_on"))))
    )
    # What passed in a snapshot had not been failing since before it, whatever its finding says.
    passed_on = pl.max_horizontal(pl.when("_remedied").then("_closed_on"), "_passed_on")
    can_be = (pl.col("_began") >= _midnight(passed_on)).fill_null(value=True)
    opened_at = (
        pl.when("_same")
        .then("_opened_at")
        .when(can_be)
        .then(pl.coalesce("_began", _midnight(pl.lit(today.day))))
        .otherwise(_midnight(pl.lit(today.day)))
    )
    return REMEDIATION.project(
        new.join(
            recent.select(*PROBLEM, *(pl.col(name).alias(f"_{name}") for name in earlier)),
            on=PROBLEM,
            how="left",
        )
        .join(passed, on=PROBLEM, how="left")
        .with_columns(_began=began)
        .with_columns(_same=same.fill_null(value=False))
        .with_columns(
            opened_at=opened_at,
            first_seen=pl.when("_same").then("_first_seen").otherwise(pl.lit(today.day)),
            last_seen=pl.lit(today.day),
            openings=pl.when("_same")
            .then("_openings")
            .otherwise(pl.col("_openings").fill_null(0) + 1),
            **dict.fromkeys(_LATER),
        )
    )


_LATER = ("date", *_PLACE, "closed_on", "closed_by", "remedied", "days", "flapping")
"""Columns that are computed for every episode alike, after it is known which there are."""


def _closed(ended: pl.DataFrame, passing: pl.DataFrame, today: Today) -> pl.DataFrame:
    """Says of the episodes that the day closes why, and how long they lasted."""
    controls = today.controls.select("report", "control_id", _there=pl.lit(value=True)).unique()
    passes = pl.col("_passes").fill_null(value=False) | pl.col("status_after").eq_missing("PASSED")
    closed_by = (
        pl.when(~_scored(today))
        .then(pl.lit("account_left"))
        # Also where the cause of the change is that it can be evaluated again.
        .when(passes)
        .then(pl.lit("fixed"))
        .when(pl.col("cause").is_not_null())
        .then("cause")
        .when(pl.col("_there").is_null())
        .then(pl.lit("control_removed"))
        .otherwise(pl.lit("no_evidence"))
    )
    until = pl.when("remedied").then("closed_on").otherwise(pl.col("last_seen").dt.offset_by("1d"))
    return (
        ended.join(_endings(today), on=PROBLEM, how="left")
        .join(passing.select(*PROBLEM, _passes=pl.lit(value=True)), on=PROBLEM, how="left")
        .join(controls, on=["report", "control_id"], how="left")
        .with_columns(closed_on=pl.lit(today.day), closed_by=closed_by)
        .with_columns(remedied=pl.col("closed_by").is_in(REMEDIED))
        .with_columns(days=_days_until(until))
    )


def _placed(rows: pl.DataFrame, today: Today) -> pl.DataFrame:
    """The rows with the severity, workload and environment of the day, where these are known."""
    severity = (
        today.controls.select("report", "control_id", _severity="severity")
        .drop_nulls("_severity")
        .unique(["report", "control_id"])
    )
    accounts = today.accounts.select(
        "account_id", _workload="workload", _environment="environment"
    ).unique("account_id")
    return (
        rows.join(severity, on=["report", "control_id"], how="left")
        .join(accounts, on="account_id", how="left")
        .with_columns(pl.coalesce(f"_{name}", name).alias(name) for name in _PLACE)
    )


def _midnight(day: pl.Expr) -> pl.Expr:
    """The beginning of a day, UTC."""
    return day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _days_until(day: pl.Expr) -> pl.Expr:
    return (_midnight(day) - pl.col("opened_at")) / pl.duration(days=1)


# --- time to fix ------------------------------------------------------------------------------


def known_episodes(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """The episodes that tell the time to fix as of a day, each once.

    An episode that was closed without a remedy and went on later is in the table twice; what is
    known last counts.

    Args:
        rows: Rows of `schemas.REMEDIATION`: open ones of the day, closed ones of any day.
        day: The day.
    """
    since = day - timedelta(days=KNOWN_DAYS)
    return (
        rows.filter(pl.col("closed_on").is_null() | (pl.col("closed_on") > since))
        .sort("date")
        .unique(_EPISODE, keep="last", maintain_order=True)
    )


def time_to_fix(episodes: pl.DataFrame) -> pl.DataFrame:
    """How long failures last, by report, severity, and workload with environment.

    Args:
        episodes: As `known_episodes` gives them.

    Returns:
        Rows of `schemas.TIME_TO_FIX`, a row for each of `SUBJECTS` that has an episode. Failures
        of controls without severity are in the rows for all severities only.
    """
    found = [TIME_TO_FIX.empty()]
    no_subject: dict[str, object] = dict.fromkeys(["date", *TIME_TO_FIX.key])
    for subject in SUBJECTS:
        known = episodes.drop_nulls(list(subject)) if subject else episodes
        groups = known.group_by("report", *subject).agg(
            pl.col("days"), pl.col("remedied"), open_failures=pl.col("closed_on").is_null().sum()
        )
        rows = [
            {
                **no_subject,
                **row,
                **median_time(row["days"], row["remedied"]),
                **_counts(row["remedied"]),
            }
            for row in groups.iter_rows(named=True)
        ]
        if rows:
            found.append(TIME_TO_FIX.project(pl.DataFrame(rows, infer_schema_length=None)))
    return pl.concat(found).sort("report", *_PLACE, nulls_last=False)


def _counts(remedied: Sequence[bool]) -> dict[str, int]:
    return {"failures": len(remedied), "remedied_failures": sum(remedied)}


def median_time(days: Sequence[float], remedied: Sequence[bool]) -> dict[str, float | None]:
    """The time after which half of the failures are remedied, by Kaplan and Meier.

    A failure that is not remedied is censored: it counts among those that lasted longer, as long
    as it was observed. To leave such failures out would count only the quick ones.

    The interval holds the times at which the log-log ("exponential Greenwood") interval of the
    share that is left holds one half (Brookmeyer and Crowley, A confidence interval for the median
    survival time, Biometrics 38, 1982).

    Args:
        days: How long each failure lasted, or was observed so far.
        remedied: Whether it was remedied then.

    Returns:
        median_days, low_days, high_days; null where too few are remedied to tell.

    >>> median_time([1, 2, 4, 9], [True, True, True, True])["median_days"]
    2.0
    >>> median_time([1, 2, 4, 9], [True, False, True, False])["median_days"]
    4.0
    >>> median_time([1, 2, 4, 9], [True, False, False, False])["median_days"] is None
    True
    """
    if not any(remedied):
        return {"median_days": None, "low_days": None, "high_days": None}
    # Slow to import.
    from scipy.stats import CensoredData, ecdf

    sample = CensoredData.right_censored(list(days), [not each for each in remedied])
    left = ecdf(sample).sf
    with warnings.catch_warnings():
        # While all are left and when none is, the formula gives nothing.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = left.confidence_interval(CONFIDENCE, method="log-log")
    return {
        "median_days": _first_half(left.quantiles, left.probabilities),
        "low_days": _first_half(left.quantiles, interval.low.probabilities),
        "high_days": _first_half(left.quantiles, interval.high.probabilities),
    }


def _first_half(times: Sequence[float], shares: Sequence[float]) -> float | None:
    """The first time at which half are left at most; a share that is not a number says nothing."""
    return next((float(t) for t, s in zip(times, shares, strict=True) if s <= _HALF), None)


_HALF = 0.5 + 1e-9
"""A product of fractions misses one half by its last digits."""
