"""Comparing two stored days of the lake: what is read of them, in which order, and how much.

The rules stand in `model/causes.py` (why) and `model/changes.py` (how many points). Findings are
read only of the accounts in which a control changed, and only the columns that tell why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from posture_pipeline.lake import problem_findings, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import causes as why
from posture_pipeline.model.carried import carried_problems
from posture_pipeline.model.causes import PAIR, PROBLEM, Day
from posture_pipeline.model.changes import SCOPES, score_changes
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Report

_NEEDED = (CONTROL_STATUS, ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Two compared days.

    Attributes:
        before: The earlier day.
        after: The later day.
        changes: Rows of `schemas.SCORE_CHANGES`.
        causes: Rows of `schemas.SCORE_CHANGE_CAUSES`.
    """

    before: Day
    after: Day
    changes: pl.DataFrame
    causes: pl.DataFrame


def earlier_day(lake: Lake, day: date) -> date | None:
    """The newest day before this one that has scores and findings to compare with."""
    days = lake.days_before(ORGANIZATION_SCORES.name, day)
    return next((each for each in days if is_complete(lake, each)), None)


def is_complete(lake: Lake, day: date) -> bool:
    """Whether a day has the scores and findings that comparing with it takes."""
    has_scores = all(lake.commit_of(table.name, day) is not None for table in _NEEDED)
    return has_scores and any(
        lake.commit_of(table.name, day) is not None for table in (ACCOUNT_FINDINGS, MERGED_FINDINGS)
    )


def read_day(
    lake: Lake, reports: Iterable[Report], day: date, accounts: Collection[str] | None = None
) -> Day:
    """What comparing needs of a day, beside its findings.

    Args:
        lake: The lake.
        reports: The reports to compare.
        day: The day.
        accounts: Only these accounts; null: all. Scores of workloads and the organization are
            those of all their accounts.

    Raises:
        LakeError: The lake has no scores of the day.
    """
    reports = tuple(reports)
    of_report = pl.col("report").is_in([report.name for report in reports])
    of_account = (
        pl.lit(value=True) if accounts is None else pl.col("account_id").is_in(sorted(accounts))
    )
    expected = snapshot.expected_of(lake, reports, day)
    status = lake.scan(CONTROL_STATUS, day).filter(of_report)
    return Day(
        day=day,
        control_status=status.filter(of_account).collect(),
        accounts=lake.scan(ACCOUNT_SCORES, day).filter(of_report, of_account).collect(),
        expected=expected,
        controls=why.controls_there(expected, status),
        workloads=lake.scan(WORKLOAD_SCORES, day).filter(of_report).collect(),
        organization=lake.scan(ORGANIZATION_SCORES, day).filter(of_report).collect(),
        unified_hub_since=snapshot.unified_hub_since(lake, day),
    )


def explain(
    lake: Lake,
    reports: Iterable[Report],
    before: date,
    after: date,
    *,
    accounts: Collection[str] | None = None,
    scopes: Collection[str] = tuple(SCOPES),
) -> Explanation:
    """What changed the scores between two stored days, and why.

    Args:
        lake: The lake.
        reports: The reports to explain.
        before: The earlier day.
        after: The later day.
        accounts: Only these accounts; they must be all of the scopes that are asked for.
        scopes: Which scopes, of `model.changes.SCOPES`.

    Raises:
        LakeError: The lake has not the scores or findings of both days.
    """
    reports = tuple(reports)
    first = read_day(lake, reports, before, accounts)
    second = read_day(lake, reports, after, accounts)
    pairs = why.changed_pairs(first, second).join(
        why.report_methods(first, second), on="report", how="semi"
    )
    wanted = zip((first, second), why.wants_resources(first, second, pairs), strict=True)
    was, now = (problems_that_count(lake, reports, day, each) for day, each in wanted)
    found = _causes_from_findings(lake, reports, first, second, pairs)
    whole = why.account_causes(pairs, was, now)
    rest = why.control_causes(pairs, found, first, second)
    changes, reasons = score_changes(
        first,
        second,
        pl.concat([found, whole, rest]),
        {"before": was, "after": now},
        scopes=scopes,
    )
    return Explanation(first, second, changes, reasons)


def _causes_from_findings(
    lake: Lake, reports: tuple[Report, ...], before: Day, after: Day, pairs: pl.DataFrame
) -> pl.DataFrame:
    """The causes that the findings of both days tell, where it is not the whole account."""
    to_read = pairs.filter(pl.col("account_cause").is_null())
    changed = why.transitions(
        problems_that_count(lake, reports, before, to_read),
        problems_that_count(lake, reports, after, to_read),
    )
    evidence = problem_findings.evidence(lake, reports, before, after, changed)
    return why.finding_causes(changed, evidence, before, after)


def problems_that_count(
    lake: Lake, reports: tuple[Report, ...], day: Day, pairs: pl.DataFrame
) -> pl.DataFrame:
    """The problems of some controls on a day: those with findings, and those carried forward."""
    carried = carried_problems(snapshot.carried_of(lake, day.day)).join(pairs, on=PAIR, how="semi")
    found = problem_findings.problems_with_findings(lake, reports, day, pairs)
    return pl.concat([found, carried.join(found, on=PROBLEM, how="anti")])
