"""What the report pages show, read from the lake: scores over a year, changes, what fails, and why.

How it looks is decided in `pages.py`. The rules (status, backlog, causes) stand in `model/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from posture_pipeline.errors import InputError
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.backlog import RESOURCES_SCHEMA, resources_to_fix
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.model.scoring import status_in_scope
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Report, Settings

DAYS_SHOWN = 366
"""The longest range of the charts: a year."""

DAYS_OF_CHANGES = 14
"""So many days back the pages tell what changed."""

SCORE_HISTORY = (
    "date",
    "report",
    "score",
    "expected",
    "failed_critical",
    "failed_high",
    "failed_medium",
    "failed_low",
    "method",
    "control_set_hash",
    "settings_hash",
    "incomplete",
)
"""The columns that are read of every day; the newest day has all."""

"""Columns of `Stored.resources`, before workload and environment."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that the pages show of the newest day, and of the days before it.

    Attributes:
        day: The newest stored day.
        collected_at: When its snapshot was complete.
        reports: The reports with scores on the day, in the order of the settings.
        organization: Rows of `schemas.ORGANIZATION_SCORES` of the day.
        workloads: Rows of `schemas.WORKLOAD_SCORES` of the day.
        accounts: Rows of `schemas.ACCOUNT_SCORES` of the day.
        organization_history: `SCORE_HISTORY` columns of a year, the day among it.
        workload_history: Likewise, with workload and environment.
        changes: Rows of `schemas.SCORE_CHANGES` of the last days, of workloads and organization.
        causes: Rows of `schemas.SCORE_CHANGE_CAUSES` of the same.
        compared: The stored days of `changes` and the day that each is compared with.
        expected: Rows of `schemas.EXPECTED_CONTROLS` of the reports on the day.
        known: Likewise of the last days, each control once: also those that left a report.
        controls: The status of every control of every workload and environment, as
            `scoring.status_in_scope` gives it.
        resources: Columns of `model.backlog.RESOURCES_SCHEMA`, and report, account_name, workload
            and environment: what keeps the controls from passing.
        carried: Rows of `schemas.CARRIED_FAILURES`, with account_name, workload and environment:
            failures without a finding that still count.
        exceptions: Rows of `schemas.EXCEPTIONS`; null: the lake has none of the day.
        completeness: Rows of `schemas.SOURCE_COMPLETENESS`; null likewise.
        listed: Rows of `schemas.ORGANIZATION_ACCOUNTS` of the day.
        collected: What the commit of the findings says of them: records, duplicates, quarantined.
        names: Account names by id.
    """

    day: date
    collected_at: datetime | None
    reports: tuple[Report, ...]
    organization: pl.DataFrame
    workloads: pl.DataFrame
    accounts: pl.DataFrame
    organization_history: pl.DataFrame
    workload_history: pl.DataFrame
    changes: pl.DataFrame
    causes: pl.DataFrame
    compared: dict[date, date | None]
    expected: pl.DataFrame
    known: pl.DataFrame
    controls: pl.DataFrame
    resources: pl.DataFrame
    carried: pl.DataFrame
    exceptions: pl.DataFrame | None
    completeness: pl.DataFrame | None
    listed: pl.DataFrame
    collected: dict[str, int]
    names: dict[str, str]


def newest_day(lake: Lake) -> date:
    """The newest day with scores.

    Raises:
        InputError: There is none.
    """
    day = lake.last_day(WORKLOAD_SCORES.name)
    if day is None:
        message = (
            f"The lake {lake.root} has no scores yet. Run posture run or posture import first."
        )
        raise InputError(message)
    return day


def read(lake: Lake, settings: Settings) -> Stored:
    """Everything that the pages show, of the newest day in the lake.

    Args:
        lake: The lake.
        settings: They say which findings belong to a report.

    Raises:
        InputError: The lake has no scores.
        LakeError: The lake lacks a table of the day that the pages cannot do without.
    """
    day = newest_day(lake)
    organization = lake.read(ORGANIZATION_SCORES, day)
    reports = tuple(r for r in settings.reports if r.name in set(organization["report"]))
    wanted = pl.col("report").is_in([report.name for report in reports])
    accounts = lake.scan(ACCOUNT_SCORES, day).filter(wanted).collect()
    places = accounts.select("account_id", "account_name", "workload", "environment").unique(
        "account_id", keep="first", maintain_order=True
    )
    controls = lake.scan(CONTROL_STATUS, day).filter(wanted).join(places.lazy(), on="account_id")
    expected = snapshot.expected_of(lake, reports, day)
    recent = _days(lake, SCORE_CHANGES, day, DAYS_OF_CHANGES)
    told = pl.col("scope").is_in(["workload", "organization"]) & wanted
    collected_at = organization["collected_at"].max()
    return Stored(
        day=day,
        collected_at=collected_at if isinstance(collected_at, datetime) else None,
        reports=reports,
        organization=organization.filter(wanted),
        workloads=lake.scan(WORKLOAD_SCORES, day).filter(wanted).collect(),
        accounts=accounts,
        organization_history=_history(lake, ORGANIZATION_SCORES, SCORE_HISTORY, day, wanted),
        workload_history=_history(
            lake, WORKLOAD_SCORES, (*SCORE_HISTORY, "workload", "environment"), day, wanted
        ),
        changes=lake.scan(SCORE_CHANGES, recent).filter(told).collect(),
        causes=lake.scan(
            SCORE_CHANGE_CAUSES, [each for each in recent if _has(lake, SCORE_CHANGE_CAUSES, each)]
        )
        .filter(told)
        .collect(),
        compared={each: _compared_with(lake, each) for each in recent},
        expected=expected,
        known=lake.scan(EXPECTED_CONTROLS, _days(lake, EXPECTED_CONTROLS, day, DAYS_OF_CHANGES + 1))
        .filter(wanted)
        .sort("date")
        .unique(["report", "control_id"], keep="last", maintain_order=True)
        .collect(),
        controls=status_in_scope(controls, ["workload", "environment"]).collect(),
        resources=_resources(lake, reports, day, expected, places),
        carried=_or_empty(_optional(lake, CARRIED_FAILURES, day), CARRIED_FAILURES)
        .filter(wanted)
        .join(places, on="account_id", how="inner", maintain_order="left"),
        exceptions=_optional(lake, EXCEPTIONS, day),
        completeness=_optional(lake, SOURCE_COMPLETENESS, day),
        listed=_or_empty(_optional(lake, ORGANIZATION_ACCOUNTS, day), ORGANIZATION_ACCOUNTS),
        collected=_collected(lake, day),
        names={
            key: name for key, name in places.select("account_id", "account_name").rows() if name
        },
    )


def _resources(
    lake: Lake,
    reports: Iterable[Report],
    day: date,
    expected: pl.DataFrame,
    places: pl.DataFrame,
) -> pl.DataFrame:
    """What keeps controls from passing, of every report; one pass over the findings each."""
    findings, carried = snapshot.findings_of(lake, day), snapshot.carried_of(lake, day)
    frames = [pl.DataFrame(schema={"report": pl.String(), **RESOURCES_SCHEMA})]
    for report in reports:
        own = expected.filter(pl.col("report") == report.name)
        rows = resources_to_fix(
            findings_of_report(findings, report, expected),
            carried.filter(pl.col("report") == report.name),
        )
        # A control that the report does not expect costs it nothing.
        counted = rows.join(own.lazy(), on="control_id", how="semi")
        frames.append(
            counted.select(pl.lit(report.name).alias("report"), *RESOURCES_SCHEMA.names()).collect()
        )
    return pl.concat(frames).join(places, on="account_id", how="inner", maintain_order="left")


def _history(
    lake: Lake, table: Table, columns: Iterable[str], day: date, wanted: pl.Expr
) -> pl.DataFrame:
    days = _days(lake, table, day, DAYS_SHOWN)
    return lake.scan(table, days).filter(wanted).select(columns).sort("date").collect()


def _days(lake: Lake, table: Table, day: date, number: int) -> list[date]:
    """The stored days of a table up to a day, so many days back."""
    beyond, before = day + timedelta(days=1), day - timedelta(days=number)
    return sorted(lake.days_before(table.name, beyond, after=before))


def _has(lake: Lake, table: Table, day: date) -> bool:
    return lake.commit_of(table.name, day) is not None


def _optional(lake: Lake, table: Table, day: date) -> pl.DataFrame | None:
    return lake.read(table, day) if _has(lake, table, day) else None


def _compared_with(lake: Lake, day: date) -> date | None:
    commit = lake.commit_of(SCORE_CHANGES.name, day)
    text = commit.details.get("compared_with") if commit else None
    return date.fromisoformat(text) if isinstance(text, str) else None


def _collected(lake: Lake, day: date) -> dict[str, int]:
    commit = lake.commit_of(MERGED_FINDINGS.name, day)
    details = commit.details if commit else {}
    names = ("records", "duplicates", "quarantined")
    return {name: details[name] for name in names if isinstance(details.get(name), int)}


def _or_empty(rows: pl.DataFrame | None, table: Table) -> pl.DataFrame:
    return table.empty() if rows is None else rows
