"""The exported files of a workload: that team's data alone, as parquet or CSV.

Which rows are its own is decided in `model/export.py`; who may read the files in `access.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

from posture_pipeline.lake import layout
from posture_pipeline.lake.access import ensure_own_files
from posture_pipeline.lake.problem_findings import findings_of_accounts
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.export import failing, own_rows, spreadsheet_csv
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXCEPTIONS,
    REMEDIATION,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
    Table,
)

Format = Literal["parquet", "csv"]

HISTORY = (WORKLOAD_SCORES, ACCOUNT_SCORES, SCORE_CHANGES, SCORE_CHANGE_CAUSES)
"""Exported of every day."""

NEWEST = (CONTROL_STATUS, EXCEPTIONS, TIME_TO_FIX, CARRIED_FAILURES, SOURCE_COMPLETENESS)
"""Exported of the last day."""

FAILING_FINDINGS = "failing_findings"
"""The file of the findings that fail on the last day; columns of `schemas.ACCOUNT_FINDINGS`."""

FILES = (*(table.name for table in (*HISTORY, *NEWEST, REMEDIATION)), FAILING_FINDINGS)
"""Every exported file, without its ending; all but the last are named after their table."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        first: The first stored day with scores of the workload in the range.
        last: The last one.
        rows: Of each file, by its name.
        missing: Names of files that cannot be: the lake has, or keeps, no such table of that day.
    """

    first: date
    last: date
    rows: dict[str, int]
    missing: tuple[str, ...]


def export_workload(
    lake: Lake,
    workload: str,
    format_: Format,
    write: Callable[[str, bytes], None],
    *,
    since: date | None = None,
    until: date | None = None,
) -> Exported:
    """Writes a workload's own rows, a file for each table.

    Args:
        lake: The lake.
        workload: The workload, all its environments.
        format_: Of the files.
        write: Takes the name and the content of each file.
        since: First day; null: the oldest.
        until: Last day; null: the newest.

    Raises:
        InputError: There is no such workload in the range, or another one's files would have the
            same names.
    """
    days = [
        day
        for day in lake.days(ACCOUNT_SCORES.name)
        if (since is None or since <= day) and (until is None or day <= until)
    ]
    accounts = _accounts(lake, workload, days)
    own_days = accounts["date"].unique().sort().to_list()
    first, last = own_days[0], own_days[-1]
    rows: dict[str, int] = {}
    for name, frame in _frames(lake, workload, accounts, days, last):
        write(f"{name}.{format_}", _bytes(frame, format_))
        rows[name] = frame.height
    return Exported(first, last, rows, tuple(name for name in FILES if name not in rows))


def export_into_lake(lake: Lake, workload: str, format_: Format) -> Exported:
    """Writes a workload's own rows of all days where its team may read them.

    Raises:
        InputError: As `export_workload`.
    """
    folder = layout.exports_of(workload)
    exported = export_workload(
        lake, workload, format_, lambda name, data: lake.put(f"{folder}/{name}", data)
    )
    for name in exported.missing:
        # Of an earlier export: it would be taken for one of the day.
        lake.delete(f"{folder}/{name}.{format_}")
    return exported


def _accounts(lake: Lake, workload: str, days: list[date]) -> pl.DataFrame:
    """On which days (date) which accounts (account_id) were scored under a workload."""
    scored = lake.scan(ACCOUNT_SCORES, days).select("date", "account_id", "workload").unique()
    found = scored.collect(engine="streaming")
    when = f"from {days[0]} to {days[-1]}" if days else "on the days that were asked for"
    ensure_own_files(workload, found["workload"], when)
    return found.filter(pl.col("workload") == workload).select("date", "account_id")


def _frames(
    lake: Lake, workload: str, accounts: pl.DataFrame, days: list[date], last: date
) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of every file that can be, by its name."""

    def own(table: Table, on: list[date]) -> pl.DataFrame:
        stored = lake.scan(table, [day for day in on if lake.commit_of(table.name, day)])
        rows = own_rows(table, stored, workload, accounts.lazy())
        return rows.sort("date", *table.key, nulls_last=True).collect(engine="streaming")

    for table in HISTORY:
        yield table.name, own(table, days)
    there = [table for table in NEWEST if lake.commit_of(table.name, last)]
    for table in there:
        yield table.name, own(table, [last])
    if lake.commit_of(REMEDIATION.name, last):
        # Every failure once: as of the day on which it ended, or open on the last day.
        ended = pl.col("closed_on").is_not_null() | (pl.col("date") == last)
        failures = own(REMEDIATION, days).filter(ended)
        yield REMEDIATION.name, failures.unique(REMEDIATION.key, keep="last", maintain_order=True)
    if lake.commit_of(ACCOUNT_FINDINGS.name, last):
        of_last = accounts.filter(pl.col("date") == last)["account_id"]
        findings = failing(findings_of_accounts(lake, last, of_last)).sort(ACCOUNT_FINDINGS.key)
        yield FAILING_FINDINGS, findings.collect(engine="streaming")


def _bytes(frame: pl.DataFrame, format_: Format) -> bytes:
    if format_ == "csv":
        return spreadsheet_csv(frame)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
