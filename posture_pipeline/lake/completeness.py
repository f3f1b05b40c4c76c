"""How complete the findings of a day are, read from the lake.

The rules stand in `model/completeness.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import polars as pl

from posture_pipeline.lake import problem_findings, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import causes as why
from posture_pipeline.model import completeness as rules
from posture_pipeline.model.causes import PROBLEM
from posture_pipeline.model.completeness import SOURCE
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    QUARANTINE,
    SOURCE_COMPLETENESS,
)
from posture_pipeline.settings import Settings

ROWS_AT_ONCE = 500_000
"""Findings of a day that are compared at once: some 0.2 GB."""

REGIONS_LEFT_OUT = "regions_left_out"
"""Key of the findings' commit: the regions that were left out on purpose."""

PLACE = ["report", "account_id", "region"]


@dataclass(frozen=True, slots=True)
class Completeness:
    """How complete a day is.

    Attributes:
        rows: Rows of `schemas.SOURCE_COMPLETENESS`.
        incomplete: Why no score of the day can be trusted; null: they can, but for those that the
            rows withhold.
        unexplained_share: Of the organization's findings; null: there is nothing to compare with.
    """

    rows: pl.DataFrame
    incomplete: str | None
    unexplained_share: float | None


def completeness(lake: Lake, settings: Settings, before: date | None, day: date) -> Completeness:
    """How complete the findings of a day are.

    Args:
        lake: The lake.
        settings: The reports, and the limits.
        before: The newest earlier day; null: there is none.
        day: The day.

    Raises:
        LakeError: The lake lacks the findings or account list of one of them.
    """
    earlier = (
        SOURCE_COMPLETENESS.empty() if before is None else snapshot.completeness_of(lake, before)
    )
    comparisons = _comparisons(lake, settings, earlier, before, day)
    _compare(lake, settings, comparisons, day)
    counts = [
        pl.DataFrame(schema=rules.COUNT_SCHEMA),
        *(rows for c in comparisons for rows in c.counts),
    ]
    gone = [_explained(lake, settings, each, day) for each in comparisons]
    rejected, share_rejected = _rejected(lake, settings, day)
    rows = rules.source_completeness(
        pl.concat(counts),
        pl.concat([pl.DataFrame(schema=rules.GONE_SCHEMA), *gone]),
        earlier,
        rejected,
        day=day,
        share=settings.checks.unexplained_share if settings.silent_days else None,
    )
    unexplained = rules.unexplained_share(rows)
    limit = settings.checks.unexplained_share_organization
    if share_rejected > settings.checks.quarantine_share:
        incomplete = f"{share_rejected:.1%} of the day's records could not be read"
    elif unexplained is not None and unexplained > limit:
        incomplete = (
            f"{unexplained:.1%} of the organization's findings, or of its failing ones, are gone "
            f"without evidence"
        )
    else:
        incomplete = None
    return Completeness(rows, incomplete, unexplained)


@dataclass(slots=True)
class _Comparison:
    """The day beside an earlier one, for some sources.

    Attributes:
        day: The earlier day; null: there is none.
        sources: SOURCE columns.
        only: Whether these sources are compared, or all others.
        counts: Columns of `completeness.COUNT_SCHEMA`, of some accounts each.
        gone: Columns of `completeness.CHECK_SCHEMA`, likewise.
        resources: PLACE columns and resources, likewise.
    """

    day: date | None
    sources: pl.DataFrame
    only: bool
    counts: list[pl.DataFrame] = field(default_factory=list)
    gone: list[pl.DataFrame] = field(default_factory=list)
    resources: list[pl.DataFrame] = field(default_factory=list)


def _comparisons(
    lake: Lake, settings: Settings, earlier: pl.DataFrame, before: date | None, day: date
) -> list[_Comparison]:
    """With which day each source is compared: the newest on which it was complete.

    A day on which it was not is no measure: what was missing then would be forgotten. After
    `silent_days` it is, because the source may never come back.
    """
    oldest = day - timedelta(days=settings.silent_days)
    still = earlier.filter(pl.col("reason").is_not_null(), pl.col("compared_with") >= oldest)
    comparisons = []
    for (since,), rows in still.group_by("compared_with", maintain_order=True):
        if isinstance(since, date) and lake.commit_of(ACCOUNT_FINDINGS.name, since) is not None:
            comparisons.append(_Comparison(since, rows.select(SOURCE), only=True))
    elsewhere = pl.concat([earlier.select(SOURCE).clear(), *(each.sources for each in comparisons)])
    return [_Comparison(before, elsewhere, only=False), *comparisons]


def _compare(lake: Lake, settings: Settings, comparisons: list[_Comparison], day: date) -> None:
    """Fills the comparisons, for as many accounts at once as memory allows."""
    scored = snapshot.scored_accounts(snapshot.accounts_of(lake, settings, day))
    is_scored = pl.col("account_id").is_in(scored["account_id"].implode())
    commit = snapshot.findings_commit(lake, day)
    collected = ~pl.col("region").is_in(commit.details.get(REGIONS_LEFT_OUT, []))
    # On both days, so that a control that is expected no more is not missed.
    expected = snapshot.expected_of(lake, settings.reports, day)
    findings = snapshot.findings_of(lake, day)
    for these in snapshot.ranges_of_accounts(findings, commit.rows, ROWS_AT_ONCE):
        now = _checks(lake, settings, day, expected, these & is_scored)
        for each in comparisons:
            how: Literal["semi", "anti"] = "semi" if each.only else "anti"
            was = (
                now.clear()
                if each.day is None
                else _checks(lake, settings, each.day, expected, these & is_scored)
                .filter(collected)
                .join(each.sources, on=SOURCE, how=how)
            )
            was = was.with_columns(compared_with=pl.lit(each.day, dtype=pl.Date))
            each.counts.append(rules.counted(was, now.join(each.sources, on=SOURCE, how=how)))
            each.gone.append(rules.gone(was, now).drop("compared_with"))
            each.resources.append(
                was.group_by(PLACE).agg(resources=pl.col("resource_id").n_unique())
            )


def _checks(
    lake: Lake, settings: Settings, day: date, expected: pl.DataFrame, these: pl.Expr
) -> pl.DataFrame:
    """`completeness.checks` of some accounts on a day, of the controls that are expected."""
    findings = snapshot.findings_of(lake, day).filter(these)
    # A check that no longer runs is not scored, but its finding is not missing.
    frames = [
        rules.checks(findings_of_report(findings, report, expected, keep_stale=True), report.name)
        for report in settings.reports
    ]
    rows = pl.collect_all(frames, engine="streaming")
    return pl.concat([pl.DataFrame(schema=rules.CHECK_SCHEMA), *rows])


def _explained(lake: Lake, settings: Settings, comparison: _Comparison, day: date) -> pl.DataFrame:
    """The findings that are gone since a day, with whether there is evidence for it."""
    gone = pl.concat([pl.DataFrame(schema=rules.CHECK_SCHEMA), *comparison.gone])
    if gone.is_empty() or comparison.day is None:
        return pl.DataFrame(schema=rules.GONE_SCHEMA)
    reports = settings.reports
    first, second = (
        problem_findings.observed(lake, reports, each) for each in (comparison.day, day)
    )
    was = problem_findings.problems_with_findings(
        lake, reports, first, gone.select(PROBLEM).unique(), PROBLEM
    )
    changed = why.transitions(was, was.clear())
    evidence = problem_findings.evidence(lake, reports, first, second, changed)
    archived = pl.col("record_state") == "ARCHIVED"
    archiving = (
        snapshot.findings_of(lake, day).filter(archived).select("product").unique().collect()
    )
    return rules.with_explanations(
        gone,
        why.finding_causes(changed, evidence, first, second),
        pl.concat(comparison.counts),
        pl.concat(comparison.resources),
        archiving=archiving["product"].drop_nulls().to_list(),
        passed_are_seen=not (first.collects_failing or second.collects_failing),
    )


def _rejected(lake: Lake, settings: Settings, day: date) -> tuple[pl.DataFrame, float]:
    """Accounts with too many records that could not be read; and the share of all records."""
    limit = settings.checks.quarantine_share
    schema = {"account_id": pl.String, "rejected": pl.Int64, "records": pl.Int64}
    commit = lake.commit_of(QUARANTINE.name, day)
    if commit is None or not commit.rows:
        return pl.DataFrame(schema=schema), 0.0
    counted = (
        lake.scan(QUARANTINE, day)
        .filter(pl.col("account_id").is_not_null())
        .group_by("account_id")
        .agg(rejected=pl.len().cast(pl.Int64))
    )
    read = snapshot.findings_of(lake, day).group_by("account_id").agg(read=pl.len().cast(pl.Int64))
    accounts = (
        counted.join(read, on="account_id", how="left")
        .with_columns(records=pl.col("rejected") + pl.col("read").fill_null(0))
        .filter(pl.col("rejected") > limit * pl.col("records"))
        .select(list(schema))
        .collect()
    )
    return accounts, commit.details["quarantined"] / commit.details["records"]
