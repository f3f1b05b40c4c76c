"""Comparing two stored days of the lake: what is read of them, in which order, and how much.

The rules stand in `model/causes.py` (why) and `model/changes.py` (how many points). Findings are
read only of the accounts in which a control changed, and only the columns that tell why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from posture_pipeline.lake import layout, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import causes as why
from posture_pipeline.model.causes import PAIR, PROBLEM, Day, Evidence
from posture_pipeline.model.changes import SCOPES, score_changes
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Report

ACCOUNT_FILES_AT_MOST = 200
"""Of so many accounts the own files are opened; of more, the whole day is read in one scan."""

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
    folders, _ = lake.names(ORGANIZATION_SCORES.name)
    days = sorted((each for name in folders if (each := layout.day_of(name))), reverse=True)
    return next((each for each in days if each < day and _is_complete(lake, each)), None)


def _is_complete(lake: Lake, day: date) -> bool:
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
    was, now = (_problems(lake, reports, day, each) for day, each in wanted)
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
        _problems(lake, reports, before, to_read), _problems(lake, reports, after, to_read)
    )
    evidence = _evidence(lake, reports, before, after, changed)
    return why.finding_causes(changed, evidence, before, after)


def _problems(
    lake: Lake, reports: tuple[Report, ...], day: Day, pairs: pl.DataFrame
) -> pl.DataFrame:
    """The problems of the changed controls on a day."""
    read = _findings(lake, day.day, pairs["account_id"])
    active = read.filter(pl.col("record_state") == "ACTIVE")
    frames = [
        why.problems(findings, name)
        for name, findings in _by_report(active, reports, day, pairs, PAIR)
    ]
    return _collected(frames, why.PROBLEM_SCHEMA)


def _evidence(
    lake: Lake, reports: tuple[Report, ...], before: Day, after: Day, changed: pl.DataFrame
) -> Evidence:
    """What is known of the problems that vanished, and of those that came."""
    gone = why.vanished(changed)
    one_sided = changed.filter(
        (pl.col("state_before") == why.ABSENT) | (pl.col("state_after") == why.ABSENT)
    )["account_id"]
    resource = ["account_id", "region", "resource_id"]
    wanted = gone.select(resource).unique()
    regions, resources = [], []
    for day in (before.day, after.day):
        active = pl.col("record_state") == "ACTIVE"
        findings = why.named(_findings(lake, day, one_sided).filter(active))
        of_gone = findings.join(wanted.lazy(), on=resource, how="semi")
        here, left = pl.collect_all(
            [
                findings.select("account_id", "region").unique(),
                of_gone.group_by(resource).agg(findings=pl.len()),
            ],
            engine="streaming",
        )
        regions.append(here)
        resources.append(left)
    return Evidence(
        archived=_archived(lake, reports, before, after, gone),
        regions_before=regions[0],
        regions_after=regions[1],
        resources_before=resources[0],
        resources_after=resources[1],
    )


def _archived(
    lake: Lake, reports: tuple[Report, ...], before: Day, after: Day, gone: pl.DataFrame
) -> pl.DataFrame:
    """The archived findings of problems that vanished.

    A snapshot brings those archived in its last days only, so the days in between are read too.
    Their control is known from the earlier day: on the later one it may be no control any more.
    """
    folders, _ = lake.names(ACCOUNT_FINDINGS.name)
    days = [each for name in folders if (each := layout.day_of(name))]
    frames = []
    for day in days if gone.height else ():
        if before.day < day <= after.day and lake.commit_of(ACCOUNT_FINDINGS.name, day):
            archived = pl.col("record_state") == "ARCHIVED"
            findings = why.named(_findings(lake, day, gone["account_id"]).filter(archived))
            frames += [
                rows.select(
                    pl.lit(name).alias("report"),
                    *(each for each in why.ARCHIVED_SCHEMA if each != "report"),
                )
                for name, rows in _by_report(findings, reports, before, gone, PROBLEM)
            ]
    return _collected(frames, why.ARCHIVED_SCHEMA)


def _by_report(
    findings: pl.LazyFrame,
    reports: tuple[Report, ...],
    day: Day,
    wanted: pl.DataFrame,
    keys: list[str],
) -> Iterator[tuple[str, pl.LazyFrame]]:
    """The findings of each report with wanted rows: only those that match them on the keys."""
    for report in reports:
        own = wanted.filter(pl.col("report") == report.name)
        if own.height:
            expected = day.expected.filter(pl.col("report") == report.name)
            on = [key for key in keys if key != "report"]
            rows = findings_of_report(findings, report, expected)
            yield report.name, rows.join(own.select(on).unique().lazy(), on=on, how="semi")


def _collected(frames: list[pl.LazyFrame], schema: pl.Schema) -> pl.DataFrame:
    rows = pl.collect_all(frames, engine="streaming")
    return pl.concat([pl.DataFrame(schema=schema), *(each.select(schema.names()) for each in rows)])


def _findings(lake: Lake, day: date, accounts: pl.Series) -> pl.LazyFrame:
    """The findings of some accounts on a day, from their own files where these are few."""
    wanted = sorted(set(accounts))
    if not wanted:
        return ACCOUNT_FINDINGS.empty().lazy()
    commit = lake.commit_of(ACCOUNT_FINDINGS.name, day)
    if commit is None or len(wanted) > ACCOUNT_FILES_AT_MOST:
        return snapshot.findings_of(lake, day).filter(pl.col("account_id").is_in(wanted))
    folder = layout.run_folder(ACCOUNT_FINDINGS.name, day, commit.run)
    there = set(lake.names(folder)[0])
    parts = [layout.account_part(each) for each in wanted]
    paths = [
        f"{lake.pattern_root}/{folder}/{part}" for part in parts if part.split("/")[0] in there
    ]
    if not paths:
        return ACCOUNT_FINDINGS.empty().lazy()
    return pl.scan_parquet(
        paths,
        schema=ACCOUNT_FINDINGS.schema,
        missing_columns="insert",
        extra_columns="ignore",
        hive_partitioning=False,
        storage_options=lake.options or None,
    )
