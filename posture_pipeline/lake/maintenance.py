"""Maintenance of a lake: old findings are removed, the score tables of past months put together.

Readers never wait. What is no longer needed is first taken out of the commits; its files are
deleted by a later maintenance, when nobody can be reading them any more. Nothing is deleted that
retention or a commit does not name: a removed day names the run that it had, a compacted one that
its rows now lie in the file of its month, a replaced one can be restored until then.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.athena import write_manifests
from posture_pipeline.lake.store import Commit, Lake, Stored, hash_of_files, new_run
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SCORE_TABLES,
    SOURCE_COMPLETENESS,
    TABLES,
    Table,
)
from posture_pipeline.settings import Retention

COMPACTED: tuple[Table, ...] = (
    CONTROL_STATUS,
    *SCORE_TABLES,
    SCORE_CHANGES,
    SCORE_CHANGE_CAUSES,
    SOURCE_COMPLETENESS,
    ORGANIZATION_ACCOUNTS,
    EXPECTED_CONTROLS,
)
"""Tables whose past months become a file each: those that the catalog holds for every day, so that
nobody but `Lake` and one macro looks for their files. The others have views that go by day."""

GRACE = timedelta(days=1)
"""Files that no commit needs any more stay for so long: a run, which may have begun to read them,
is ended after twenty hours."""

NEEDED_DAYS = 2
"""Newest days whose findings always stay: the next day is compared with them."""

SECONDS_OF_A_QUERY = 2.0
"""More than a query takes from looking for its files to reading the commits."""

_REPLACED = f"/{layout.REPLACED}"

REMOVED, PUT_TOGETHER, DELETED, LEFT = "removed", "compacted", "deleted", "left"

UNREADABLE = (LakeError, OSError, pl.exceptions.PolarsError)
"""What reading damaged files raises."""


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that maintenance did, or would do.

    Attributes:
        what: removed (by retention; the files go later), compacted, deleted (files that no commit
            needs any more), or left (something is damaged).
        table: The table.
        days: The days that it is about, oldest first.
        files: Files of these days that are removed, put together, or deleted.
        bytes: Size of these files.
        why: For a person.
    """

    what: str
    table: str
    days: tuple[date, ...]
    files: int
    bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class _Month:
    """A file of a month that was written: of which days, and what their commits shall say."""

    table: Table
    commits: dict[date, Commit]
    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One maintenance of a lake.

    Attributes:
        lake: The lake.
        retention: How long the large tables are kept.
        now: The time; it decides what is old.
        dry_run: Only tell what would be done.
        tell: Takes lines of progress.
        wait: Waits for so many seconds.
    """

    lake: Lake
    retention: Retention
    now: datetime
    dry_run: bool = False
    tell: Callable[[str], None] = lambda _: None
    wait: Callable[[float], None] = time.sleep

    def all(self) -> list[Done]:
        """Everything, in order."""
        return [*self.remove(), *self.compact(), *self.delete()]

    def newest_day(self) -> date | None:
        """The day from which age counts back: the newest with scores, or today if that is earlier.

        Where a pipeline stands still, and where a clock is wrong, nothing more is removed so.
        """
        newest = self.lake.last_day(ORGANIZATION_SCORES.name)
        return None if newest is None else min(newest, self.now.astimezone(UTC).date())

    # --- retention -------------------------------------------------------------------------

    def remove(self) -> list[Done]:
        """Takes days beyond their retention out of the lake; their files are deleted later."""
        newest = self.newest_day()
        kept = {
            RAW_FINDING_PAGES: self.retention.raw_finding_pages,
            MERGED_FINDINGS.name: self.retention.merged_findings,
            ACCOUNT_FINDINGS.name: self.retention.account_findings,
        }
        if newest is None:
            return []
        return [
            done
            for table, time in kept.items()
            for done in self._removed(table, newest - time, time.days)
        ]

    def _removed(self, table: str, last: date, kept: int) -> Iterator[Done]:
        """Removes the days up to the last one that is too old; the two newest stay in any case."""
        why = f"kept for {kept} days"
        stored = {day: runs for day, runs in _runs_by_day(self.lake, table).items() if runs}
        for day in [day for day in sorted(stored)[:-NEEDED_DAYS] if day <= last]:
            try:
                commit = self.lake.last_commit_of(table, day)
                if commit is None:
                    yield from self._delete_old_runs(
                        table, day, stored[day], f"never finished, {why}"
                    )
                elif commit.removed_at is None and (
                    self.dry_run
                    or self.lake.recommit(table, day, partial(self._removal, kept=kept))
                ):
                    yield Done(REMOVED, table, (day,), commit.files, commit.bytes, why)
            except LakeError as error:
                yield Done(LEFT, table, (day,), 0, 0, str(error))

    def _removal(self, commit: Commit, *, kept: int) -> Commit:
        return replace(
            commit, removed_at=_seconds(self.now), details={**commit.details, "kept": kept}
        )

    # --- compaction ------------------------------------------------------------------------

    def compact(self) -> list[Done]:
        """Puts the days of each past month into one file, table by table.

        The file is there, whole, before the first day is read from it. Each day then changes over
        by its commit: until then it is read from its own file, from then on from that of its month.
        """
        newest = self.newest_day()
        if newest is None:
            return []
        written: list[_Month] = []
        done = [each for table in COMPACTED for each in self._compacted(table, newest, written)]
        if written:
            # A query finds its files and then reads the commits: those must not name a file that
            # was not there yet when it looked.
            self.wait(SECONDS_OF_A_QUERY)
        for month in written:
            for day, commit in month.commits.items():
                change = partial(_changed, was=commit, changes=month.changes)
                self.lake.recommit(month.table.name, day, change)
        return done

    def _compacted(self, table: Table, newest: date, written: list[_Month]) -> Iterator[Done]:
        runs = _runs_by_day(self.lake, table.name)
        months: dict[str, list[date]] = {}
        for day in sorted(runs):
            if (day.year, day.month) < (newest.year, newest.month):
                months.setdefault(layout.month_folder(table.name, day), []).append(day)
        for month, days in months.items():
            if not any(runs[day] for day in days) and len(self.lake.names(month)[0]) == 1:
                continue
            try:
                found = self.lake.at_once(lambda day: self.lake.commit_of(table.name, day), days)
                commits = {day: each for day, each in zip(days, found, strict=True) if each}
                of_runs = {commit.month_run for commit in commits.values()}
                if not commits or (len(of_runs) == 1 and None not in of_runs):
                    continue
                yield self._compacted_month(table, commits, written)
            except UNREADABLE as error:
                why = f"{error} See posture doctor."
                yield Done(LEFT, table.name, tuple(days), 0, 0, why)

    def _compacted_month(
        self, table: Table, commits: dict[date, Commit], written: list[_Month]
    ) -> Done:
        """Writes the file of a month, which nobody reads yet."""
        done = Done(
            PUT_TOGETHER,
            table.name,
            tuple(commits),
            sum(commit.files for commit in commits.values() if commit.month_run is None),
            sum(commit.bytes for commit in commits.values() if commit.month_run is None),
            "into one file of the month",
        )
        if self.dry_run:
            return done
        self.tell(f"{table.name} of {min(commits):%B %Y}: {len(commits)} days")
        run = new_run()
        data = self._month_file(table, commits)
        path = f"{layout.month_run_folder(table.name, min(commits), run)}/{layout.part(0)}"
        self.lake.put(path, data)
        self.lake.sync(layout.month_run_folder(table.name, min(commits), run))
        changes: dict[str, Any] = {
            "month_run": run,
            "compacted_at": _seconds(self.now),
            "files": 1,
            "bytes": len(data),
            "sha256": hash_of_files({layout.part(0): hashlib.sha256(data).hexdigest()}),
        }
        written.append(_Month(table, commits, changes))
        return done

    def _month_file(self, table: Table, commits: dict[date, Commit]) -> bytes:
        """The rows of the days, each in a part of its own, so that a day's are read alone.

        Raises:
            LakeError: A day has not the rows that its commit says, or rows of other days.
        """
        schema = table.empty().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
            for day in commits:
                rows = self.lake.read(table, day)
                if set(rows["date"]) - {day}:
                    message = f"{table.name} of {day.isoformat()} has rows of other days."
                    raise LakeError(message)
                if rows.height:
                    part = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
                    writer.write_table(part, row_group_size=rows.height)
        return buffer.getvalue()

    # --- deletion --------------------------------------------------------------------------

    def delete(self) -> list[Done]:
        """Deletes the files that an earlier maintenance took out of the commits."""
        tables = [RAW_FINDING_PAGES, *(table.name for table in TABLES)]
        done = [each for table in tables for each in self._deleted_days(table)]
        return done + [each for table in COMPACTED for each in self._deleted_months(table)]

    def _deleted_days(self, table: str) -> Iterator[Done]:
        objects = self.lake.objects(table)
        restorable = {
            layout.day_of(path.rpartition("/")[0]) for path in objects if _REPLACED in path
        }
        for day, runs in sorted(_runs_in(table, objects).items()):
            if day in restorable:
                yield from self._deleted_replaced(table, day, runs)
            if not runs:
                continue
            try:
                superfluous = superfluous_runs(self.lake, table, day, runs)
            except LakeError as error:
                yield Done(LEFT, table, (day,), 0, 0, str(error))
                continue
            if superfluous is not None and self._is_over(superfluous.since):
                of_day = {run: runs[run] for run in superfluous.runs}
                yield from self._delete_old_runs(table, day, of_day, superfluous.why)

    def _deleted_replaced(
        self, table: str, day: date, runs: dict[str, dict[str, Stored]]
    ) -> Iterator[Done]:
        """Deletes what was replaced on a day and could be restored until now."""
        try:
            replaced = self.lake.replaced(table, day)
            kept = {each.run for each in self.lake.kept_commits(table, day).values()}
        except LakeError as error:
            yield Done(LEFT, table, (day,), 0, 0, str(error))
            return
        for run, commit in replaced.items():
            if self._is_over(datetime.fromisoformat(commit.details["replaced_at"])):
                objects = {} if run in kept else runs.pop(run, {})
                folder = layout.run_folder(table, day, run)
                yield self._delete(table, (day,), folder, objects, "replaced, and not restored")
                if not self.dry_run:
                    self.lake.delete(layout.replaced_file(table, day, run))

    def _deleted_months(self, table: Table) -> Iterator[Done]:
        for folder in self.lake.names(table.name)[0]:
            if not folder.startswith(layout.MONTH):
                continue
            month = f"{table.name}/{folder}"
            try:
                yield from self._deleted_month_runs(table, month)
            except UNREADABLE as error:
                yield Done(LEFT, table.name, (), 0, 0, f"{self.lake.uri(month)}: {error}")

    def _deleted_month_runs(self, table: Table, month: str) -> Iterator[Done]:
        runs = runs_below(self.lake, month)
        if len(runs) < 2:
            return
        name = table.name
        days = [day for day in days_of(self.lake, name) if layout.month_folder(name, day) == month]
        needed = {commit.month_run for _, commit in commits_in_months(self.lake, name, days)}
        for run, objects in runs.items():
            if run in needed or not self._is_over(newest_of(objects)):
                continue
            rows = self.lake.scan_files(
                table, [f"{self.lake.pattern_root}/{month}/run={run}/*.parquet"]
            )
            of_run = sorted(rows.select("date").unique().collect()["date"])
            # Of a day whose commit is lost these may be the only rows.
            if all(self.lake.last_commit_of(name, day) is not None for day in of_run):
                why = "its days were compacted anew"
                yield self._delete(name, tuple(of_run), f"{month}/run={run}", objects, why)

    def _is_over(self, since: datetime) -> bool:
        return self.now - since >= GRACE

    def _delete_old_runs(
        self, table: str, day: date, runs: dict[str, dict[str, Stored]], why: str
    ) -> Iterator[Done]:
        """Deletes run folders of a day; one that somebody may be writing stays."""
        for run, objects in runs.items():
            if self._is_over(newest_of(objects)):
                folder = layout.run_folder(table, day, run)
                yield self._delete(table, (day,), folder, objects, why)

    def _delete(
        self, table: str, days: tuple[date, ...], folder: str, objects: dict[str, Stored], why: str
    ) -> Done:
        if not self.dry_run:
            if not self.lake.is_local:
                # Athena fails on files that a manifest names and that are gone.
                write_manifests(
                    self.lake, days, tables=[each for each in TABLES if each.name == table]
                )
            if objects:
                self.lake.delete(folder)
        size = sum(each.bytes for each in objects.values())
        return Done(DELETED, table, days, len(objects), size, why)


@dataclass(frozen=True, slots=True)
class Superfluous:
    """Run folders of a day that its commit does not need any more.

    Attributes:
        runs: The runs.
        since: Since when, by the commit.
        why: For a person.
    """

    runs: tuple[str, ...]
    since: datetime
    why: str


def superfluous_runs(lake: Lake, table: str, day: date, runs: Iterable[str]) -> Superfluous | None:
    """Of the run folders of a day those that its commit gave up; null: there are none.

    A removed day gives up every run; a compacted one its own.

    Raises:
        LakeError: A commit of the day is damaged.
    """
    commit = lake.last_commit_of(table, day)
    if commit is None:
        return None
    if commit.removed_at is not None:
        return Superfluous(tuple(runs), datetime.fromisoformat(commit.removed_at), "removed before")
    if commit.month_run is None or commit.compacted_at is None or commit.run not in runs:
        return None
    kept = [*lake.kept_commits(table, day).values(), *lake.replaced(table, day).values()]
    if any(each.run == commit.run and each.month_run is None for each in kept):
        return None
    since = datetime.fromisoformat(commit.compacted_at)
    return Superfluous((commit.run,), since, "in the file of its month")


def newest_of(objects: dict[str, Stored]) -> datetime:
    """When the newest of these was written."""
    return max(each.modified for each in objects.values())


def commits_in_months(lake: Lake, table: str, days: Iterable[date]) -> list[tuple[date, Commit]]:
    """The commits of days, present and kept ones, whose rows lie in the file of a month.

    Raises:
        LakeError: A commit is damaged, so that what it needs is not known.
    """
    return [
        (day, commit)
        for day in days
        for commit in (
            lake.commit_of(table, day),
            *lake.kept_commits(table, day).values(),
            *lake.replaced(table, day).values(),
        )
        if commit is not None and commit.month_run is not None
    ]


def days_of(lake: Lake, table: str) -> list[date]:
    """The days that have a folder, committed or not, oldest first."""
    return sorted(day for name in lake.names(table)[0] if (day := layout.day_of(name)))


def runs_below(lake: Lake, folder: str) -> dict[str, dict[str, Stored]]:
    """The run folders directly below a folder, with their objects by path below the run."""
    runs: dict[str, dict[str, Stored]] = {}
    for path, stored in lake.objects(folder).items():
        run, _, name = path.removeprefix(f"{folder}/").partition("/")
        if run.startswith("run=") and name:
            runs.setdefault(run.removeprefix("run="), {})[name] = stored
    return runs


def _runs_by_day(lake: Lake, table: str) -> dict[date, dict[str, dict[str, Stored]]]:
    """The run folders of every day of a table, in one listing."""
    return _runs_in(table, lake.objects(table))


def _runs_in(table: str, objects: dict[str, Stored]) -> dict[date, dict[str, dict[str, Stored]]]:
    """The run folders of every day among the objects of a table."""
    days: dict[date, dict[str, dict[str, Stored]]] = {}
    for path, stored in objects.items():
        folder, _, rest = path.removeprefix(f"{table}/").partition("/")
        day = layout.day_of(folder)
        if day is None:
            continue
        runs = days.setdefault(day, {})
        run, _, name = rest.partition("/")
        if run.startswith("run=") and name:
            runs.setdefault(run.removeprefix("run="), {})[name] = stored
    return days


def by_kind(done: Iterable[Done]) -> list[Done]:
    """The same with the days of a kind, table and reason in one."""
    joined: dict[tuple[str, str, str], Done] = {}
    for each in done:
        key = (each.what, each.table, each.why)
        before = joined.get(key)
        joined[key] = each if before is None else _sum(before, each)
    return list(joined.values())


def _sum(first: Done, second: Done) -> Done:
    return replace(
        first,
        days=tuple(sorted({*first.days, *second.days})),
        files=first.files + second.files,
        bytes=first.bytes + second.bytes,
    )


def _changed(commit: Commit, *, was: Commit, changes: dict[str, Any]) -> Commit | None:
    """The commit with changes; null if it is another one than it was: the day was made again."""
    return replace(commit, **changes) if commit == was else None


def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
