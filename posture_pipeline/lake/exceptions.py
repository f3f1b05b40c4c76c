"""Exceptions of a day: what is read for the ledger, and for the scores without it.

The rules stand in `model/exceptions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from posture_pipeline.errors import SettingsError
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import exceptions as rules
from posture_pipeline.model.causes import PROBLEM_SCHEMA
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.model.exceptions import ScoredDay
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXCEPTIONS,
    FINDING_CHANGES,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Report, Settings

SCOPES: dict[str, tuple[Table, list[str]]] = {
    "account": (ACCOUNT_SCORES, ["account_id"]),
    "workload": (WORKLOAD_SCORES, rules.WORKLOAD),
    "organization": (ORGANIZATION_SCORES, []),
}
"""Whose score: its table, and the columns that name it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The exceptions of a day.

    Attributes:
        rows: Rows of `schemas.EXCEPTIONS`.
        compared_with: Day of the ledger before; null: there is none.
        entries: Lines of the exceptions file.
        unused: Of these, the ones that fit no exception that is open.
    """

    rows: pl.DataFrame
    compared_with: date | None
    entries: int
    unused: pl.DataFrame


def ledger_of(lake: Lake, settings: Settings, day: date) -> Ledger:
    """The ledger of a day, made from its problems, scores and changes and the ledger before.

    Raises:
        LakeError: The lake has not the scores, findings or finding changes of the day.
        SettingsError: The exceptions file cannot be used.
    """
    before = _earlier_day(lake, day)
    previous = EXCEPTIONS.empty() if before is None else lake.read(EXCEPTIONS, before)
    entries = entries_of(settings)
    rows = rules.exceptions(
        _suppressed_on(lake, settings.reports, day),
        scored_day(lake, day),
        _changes(lake, before, day),
        previous,
        entries,
    )
    return Ledger(rows, before, entries.height, rules.unused_entries(rows, entries))


def _suppressed_on(lake: Lake, reports: Iterable[Report], day: date) -> pl.DataFrame:
    """The problems of a day with a suppressed finding, of every report."""
    frames = [pl.DataFrame(schema=PROBLEM_SCHEMA)]
    for report in reports:
        findings = findings_of_report(
            snapshot.findings_of(lake, day), report, snapshot.expected_of(lake, [report], day)
        )
        found = rules.suppressed_problems(findings, report.name).collect(engine="streaming")
        frames.append(found.select(PROBLEM_SCHEMA.names()))
    return pl.concat(frames)


def scored_day(lake: Lake, day: date) -> ScoredDay:
    """What exceptions need of the scores of a day.

    Raises:
        LakeError: The lake has no scores of the day.
    """
    return ScoredDay(
        day=day,
        control_status=lake.read(CONTROL_STATUS, day),
        accounts=lake.read(ACCOUNT_SCORES, day),
        workloads=lake.read(WORKLOAD_SCORES, day),
    )


def scores_without_exceptions(lake: Lake, day: date, scope: str) -> pl.DataFrame:
    """The scores of a day if no exception at all counted.

    Args:
        lake: The lake.
        day: The day.
        scope: One of `SCOPES`.

    Returns:
        As `model.exceptions.scores_without_exceptions` gives it, of all reports.

    Raises:
        LakeError: The lake has no scores or exceptions of the day.
    """
    table, keys = SCOPES[scope]
    is_open = lake.scan(EXCEPTIONS, day).filter("open").collect()
    scores = lake.read(table, day)
    return rules.scores_without_exceptions(is_open, scored_day(lake, day), scores, keys)


def entries_of(settings: Settings) -> pl.DataFrame:
    """The lines of the exceptions file, as `parse_entries` gives them; none without a file.

    Raises:
        SettingsError: The file cannot be read or used.
    """
    if settings.exceptions is None:
        return pl.DataFrame(schema=rules.ENTRIES_SCHEMA)
    path = Path(settings.exceptions)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"exceptions: {path} cannot be read: {error}."
        raise SettingsError(message) from error
    return rules.parse_entries(text, str(path))


def _earlier_day(lake: Lake, day: date) -> date | None:
    """The newest day before this one that has a ledger."""
    return next(lake.days_before(EXCEPTIONS.name, day), None)


def _changes(lake: Lake, before: date | None, day: date) -> pl.DataFrame:
    """The finding changes of the day, and of the days since the ledger before."""
    lake.require(FINDING_CHANGES.name, day)
    earlier = lake.days_before(FINDING_CHANGES.name, day, after=before or day)
    return lake.read(FINDING_CHANGES, [*earlier, day])
