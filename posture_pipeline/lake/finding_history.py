"""What happened to findings between two stored days, read from the lake.

Which problems changed and why, and which failures are carried forward. The rules stand in
`model/causes.py` and `model/carried.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from posture_pipeline.lake import problem_findings, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import causes as why
from posture_pipeline.model.carried import (
    carried_forward,
    carried_problems,
    with_account_causes,
)
from posture_pipeline.model.causes import PROBLEM, Observed
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.settings import Report, Settings


@dataclass(frozen=True, slots=True)
class FindingHistory:
    """What is new on a day.

    Attributes:
        changes: Rows of `schemas.FINDING_CHANGES`.
        carried: Rows of `schemas.CARRIED_FAILURES`.
    """

    changes: pl.DataFrame
    carried: pl.DataFrame


def problems_on(lake: Lake, reports: Iterable[Report], day: date) -> pl.DataFrame:
    """The problems of a day that do not pass, from its active findings.

    Carried failures have no finding and are not among them.

    Args:
        lake: The lake.
        reports: The reports.
        day: The day.

    Returns:
        Columns of `model.causes.PROBLEM_SCHEMA`; the state is FAILED, UNKNOWN or SUPPRESSED.

    Raises:
        LakeError: The lake has no findings of the day.
    """
    active = why.named(snapshot.findings_of(lake, day).filter(pl.col("record_state") == "ACTIVE"))
    suppressed = pl.col("workflow_status").eq_missing("SUPPRESSED")
    passes = pl.col("compliance_status").eq_missing("PASSED") & ~suppressed
    frames = [pl.DataFrame(schema=why.PROBLEM_SCHEMA)]
    reports = tuple(reports)
    expected = snapshot.expected_of(lake, reports, day)
    for report in reports:
        rows = findings_of_report(active, report, expected)
        found = why.problems(rows.filter(~passes), report.name).collect(engine="streaming")
        # What is suppressed does not count at all, so a passing finding beside it decides.
        hidden = found.filter(pl.col("state") == "SUPPRESSED").select(PROBLEM[1:])
        decided = (
            rows.filter(passes)
            .select(PROBLEM[1:])
            .join(hidden.lazy(), on=PROBLEM[1:], how="semi")
            .unique()
            .collect(engine="streaming")
        )
        frames.append(
            found.filter(pl.col("state") != "SUPPRESSED").select(why.PROBLEM_SCHEMA.names())
        )
        frames.append(
            found.filter(pl.col("state") == "SUPPRESSED")
            .join(decided, on=PROBLEM[1:], how="anti")
            .select(why.PROBLEM_SCHEMA.names())
        )
    return pl.concat(frames).sort(PROBLEM)


def finding_history(lake: Lake, settings: Settings, before: date, day: date) -> FindingHistory:
    """What happened between two days, and what follows for the later one.

    Args:
        lake: The lake.
        settings: The reports, and for how long failures are carried.
        before: The earlier day; it has scores.
        day: The later day; it has findings.

    Raises:
        LakeError: The lake lacks the findings or account list of one of them.
    """
    reports = settings.reports
    accounts = _accounts(lake, settings, before, day)
    first, second = (problem_findings.observed(lake, reports, each) for each in (before, day))
    carried_before = snapshot.carried_of(lake, before)
    bad_before, bad_after = (
        problems_on(lake, reports, each).join(accounts, on="account_id", how="semi")
        for each in (before, day)
    )
    carried = carried_problems(carried_before).join(bad_before, on=PROBLEM, how="anti")
    bad_before = pl.concat([bad_before, carried])
    wanted = _differing(bad_before, bad_after)
    was, now = (
        _completed(lake, reports, each, wanted, bad)
        for each, bad in ((first, bad_before), (second, bad_after))
    )
    changed = why.transitions(was, now)
    evidence = problem_findings.evidence(lake, reports, first, second, changed)
    causes = with_account_causes(why.finding_causes(changed, evidence, first, second), accounts)
    carry_days = 0 if second.collects_failing else settings.carry_days
    changes, carried_now = carried_forward(
        causes, bad_before, carried_before, before=before, day=day, carry_days=carry_days
    )
    return FindingHistory(changes, carried_now)


def _accounts(lake: Lake, settings: Settings, before: date, day: date) -> pl.DataFrame:
    """account_id, and whether it is scored and sends findings on either day."""
    scored_before = snapshot.accounts_with_scores(lake, before).select("account_id")
    scored_after = snapshot.scored_accounts(snapshot.accounts_of(lake, settings, day)).select(
        "account_id"
    )
    rows = pl.concat([scored_before, scored_after]).unique()
    flags = {"scored_before": scored_before, "scored_after": scored_after}
    for name, each in (("sends_before", before), ("sends_after", day)):
        active = snapshot.findings_of(lake, each).filter(pl.col("record_state") == "ACTIVE")
        flags[name] = active.select("account_id").unique().collect(engine="streaming")
    for name, there in flags.items():
        flag = there.unique().with_columns(pl.lit(value=True).alias(name))
        rows = rows.join(flag, on="account_id", how="left")
    return rows.with_columns(pl.col(*flags).fill_null(value=False))


def _differing(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """PROBLEM columns of what does not pass on one of the days and is not the same on the other."""
    states = before.select(*PROBLEM, "state").join(
        after.select(*PROBLEM, "state"), on=PROBLEM, how="full", coalesce=True, suffix="_after"
    )
    return states.filter(pl.col("state").ne_missing(pl.col("state_after"))).select(PROBLEM)


def _completed(
    lake: Lake, reports: tuple[Report, ...], day: Observed, wanted: pl.DataFrame, bad: pl.DataFrame
) -> pl.DataFrame:
    """The wanted problems of a day, the passing ones among them; absent ones are left out."""
    rows = bad.join(wanted, on=PROBLEM, how="semi")
    rest = wanted.join(rows, on=PROBLEM, how="anti")
    return pl.concat(
        [rows, problem_findings.problems_with_findings(lake, reports, day, rest, PROBLEM)]
    )
