"""Reading episodes of failures, and what closes them, from the lake.

The rules stand in `model/remediation.py`. Past days are read by filter: of their files only the
rows that were closed on the day itself, which come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from posture_pipeline.lake import finding_history, problem_findings, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import remediation as rules
from posture_pipeline.model.causes import PROBLEM, Observed
from posture_pipeline.model.scoring import reporting_accounts
from posture_pipeline.schemas import (
    CARRIED_FAILURES,
    CONTROL_STATUS,
    FINDING_CHANGES,
    REMEDIATION,
    SOURCE_COMPLETENESS,
)
from posture_pipeline.settings import Report


def episodes_of(lake: Lake, reports: Sequence[Report], day: date) -> pl.DataFrame:
    """The episodes that are open on a day, and those that it closes, from what is stored.

    What was closed earlier is not kept in a state of its own: the last days are asked for it.

    Args:
        lake: The lake.
        reports: The reports to tell of; episodes of others are not continued.
        day: The day.

    Returns:
        Rows of `schemas.REMEDIATION`.

    Raises:
        LakeError: The lake has no findings, changes or scores of the day.
    """
    newest = next(lake.days_before(REMEDIATION.name, day), None)
    before = REMEDIATION.empty() if newest is None else lake.read(REMEDIATION, newest)
    closed = _closed_before(lake, day, rules.COUNTS_ON_DAYS).collect()
    today = today_of(lake, reports, day, newest or day)
    ended = rules.gone(before, today)
    passing = _passing(lake, reports, day, ended)
    return rules.remediation(before, closed, passing, today)


def today_of(lake: Lake, reports: Sequence[Report], day: date, since: date) -> rules.Today:
    """What is known of the problems on a day.

    Args:
        lake: The lake.
        reports: The reports to tell of.
        day: The day.
        since: The newest earlier day of episodes; changes are those after it.

    Raises:
        LakeError: The lake has no findings, changes or scores of the day.
    """
    between = lake.days_before(FINDING_CHANGES.name, day, after=since)
    reporting = reporting_accounts(snapshot.findings_of(lake, day))
    controls = ["report", "control_id", "severity"]
    return rules.Today(
        day=day,
        reports=[report.name for report in reports],
        problems=finding_history.problems_on(lake, reports, day),
        carried=lake.read(CARRIED_FAILURES, day),
        completeness=lake.read(SOURCE_COMPLETENESS, day),
        changes=lake.read(FINDING_CHANGES, [*between, day]),
        accounts=snapshot.accounts_with_scores(lake, day),
        reporting=reporting.collect(engine="streaming")["account_id"].to_list(),
        controls=lake.scan(CONTROL_STATUS, day).select(controls).unique().collect(),
    )


def known_episodes(
    lake: Lake, reports: Sequence[Report], day: date, *, accounts: Sequence[str] | None = None
) -> pl.DataFrame:
    """The episodes that tell the time to fix as of a day, each once.

    Args:
        lake: The lake.
        reports: The reports to tell of.
        day: The day; what was closed later is not known yet.
        accounts: Only these accounts; null: all.

    Raises:
        LakeError: The lake has no episodes of the day.
    """
    of_day = lake.scan(REMEDIATION, day)
    earlier = _closed_before(lake, day, rules.KNOWN_DAYS)
    columns = [
        *("date", *PROBLEM, "severity", "workload", "environment", "opened_at", "closed_on"),
        *("remedied", "days"),
    ]
    of_report = pl.col("report").is_in([report.name for report in reports])
    rows = [
        each.filter(of_report, _of_accounts(accounts)).select(columns).collect(engine="streaming")
        for each in (earlier, of_day)
    ]
    return rules.known_episodes(pl.concat(rows), day)


def coming_back(lake: Lake, day: date) -> pl.LazyFrame:
    """The episodes that keep coming back: open on the day, or closed in the last days.

    Returns:
        Rows of `schemas.REMEDIATION`, the last of each problem.

    Raises:
        LakeError: The lake has no episodes of the day.
    """
    earlier = _closed_before(lake, day, rules.COUNTS_ON_DAYS)
    return (
        pl.concat([earlier, lake.scan(REMEDIATION, day)])
        .sort("date", pl.col("closed_on").is_null())
        .unique(PROBLEM, keep="last", maintain_order=True)
        .filter("flapping")
    )


def _of_accounts(accounts: Sequence[str] | None) -> pl.Expr:
    return pl.lit(value=True) if accounts is None else pl.col("account_id").is_in(list(accounts))


def _closed_before(lake: Lake, day: date, days: int) -> pl.LazyFrame:
    """The episodes that the stored days among the last ones before this day closed."""
    since = day - timedelta(days=days + 1)
    stored = lake.days_before(REMEDIATION.name, day, after=since)
    return lake.scan(REMEDIATION, stored).filter(pl.col("closed_on").is_not_null())


def _passing(lake: Lake, reports: Sequence[Report], day: date, ended: pl.DataFrame) -> pl.DataFrame:
    """PROBLEM columns of those that pass on the day.

    Changes tell it too, but not where nothing was there on the day before, as after silence.
    """
    expected = snapshot.expected_of(lake, reports, day)
    observed = Observed(day, expected, expected.select("report", "control_id"))
    found = problem_findings.problems_with_findings(lake, tuple(reports), observed, ended, PROBLEM)
    return found.filter(pl.col("state") == "PASSED").select(PROBLEM)
