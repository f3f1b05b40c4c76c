"""Whether a lake is whole: what its commits say against what is there, and what would mend it.

Files are read one at a time. A repair deletes only run folders of days that have a commit which
names others, and builds the catalog anew; for everything else it says which command mends it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import polars as pl

from posture_pipeline.errors import InputError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.maintenance import (
    COMPACTED,
    GRACE,
    UNREADABLE,
    commits_in_months,
    days_of,
    newest_of,
    runs_below,
    superfluous_runs,
)
from posture_pipeline.lake.mending import mend_of
from posture_pipeline.lake.staleness import outdated_comparisons
from posture_pipeline.lake.store import Commit, Lake, Stored, hash_of_files
from posture_pipeline.schemas import (
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    SCORE_CHANGES,
    TABLES,
    Table,
)

DELETE, REBUILD = "delete", "rebuild the catalog"
"""Repairs that the doctor makes itself."""

_WHOLE = tuple(each for each in publish.DAILY_TABLES if each in TABLES)
"""Tables of the lake that are in the catalog as they are."""

DAYS_SHOWN = 5

Runs = dict[str, dict[str, Stored]]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as a commit says, or that no commit names.

    Attributes:
        table: The table, or the file of the catalog.
        day: The day; null where it is not of one day.
        place: Path below the lake.
        problem: What is wrong.
        mend: What would mend it, for a person.
        repair: What the doctor can do about it itself: `DELETE` the place, or `REBUILD`; null:
            nothing.
    """

    table: str
    day: date | None
    place: str
    problem: str
    mend: str
    repair: str | None = None


@dataclass(slots=True)
class Examined:
    """What was looked at, for the sentence at the end.

    Attributes:
        commits: Commits that were held against their files.
        files: Their files.
        without_hash: Commits that record no hash; earlier versions wrote none.
        removed: Days of a table that retention has removed.
        waiting: Run folders that the next maintenance deletes.
        unused_rows: Rows in files of months that no day is read from: it was computed again.
    """

    commits: int = 0
    files: int = 0
    without_hash: int = 0
    removed: int = 0
    waiting: int = 0
    unused_rows: int = 0


@dataclass(slots=True)
class _Content:
    """What was read of the files of a run.

    Attributes:
        rows: Rows by the day that they carry; of raw pages none.
        hashes: SHA-256 of each file; null: the files were not read whole.
        wrong: What is wrong with them.
    """

    rows: dict[date, int] = field(default_factory=dict)
    hashes: dict[str, str] | None = None
    wrong: list[str] = field(default_factory=list)


class Doctor:
    """An examination of a lake."""

    def __init__(
        self,
        lake: Lake,
        *,
        now: datetime,
        first: date | None = None,
        last: date | None = None,
        fast: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begins an examination; nothing is read yet.

        Args:
            lake: The lake.
            now: The time; it decides what is old enough to be deleted.
            first: First day to look at; null: the oldest.
            last: Last day to look at; null: the newest.
            fast: Read no hashes, only the ends of parquet files.
            tell: Takes lines of progress.
        """
        self.lake = lake
        self.now = now.astimezone(UTC)
        self.first = first or date.min
        self.last = last or date.max
        self.fast = fast
        self.tell = tell
        self.examined = Examined()

    def problems(self) -> list[Problem]:
        """Everything that is wrong, in the order of the tables and days."""
        found: list[Problem] = []
        for name in (RAW_FINDING_PAGES, *(table.name for table in TABLES)):
            days = [day for day in days_of(self.lake, name) if self.first <= day <= self.last]
            self.tell(f"reading {name}")
            for problems in self.lake.at_once(partial(self._day, name), days):
                found += problems
        for table in COMPACTED:
            for folder in self.lake.names(table.name)[0]:
                if folder.startswith(layout.MONTH):
                    found += self._month(table, f"{table.name}/{folder}")
        return [*found, *self._comparisons(), *self._catalog(), *self._leftovers()]

    # --- days ------------------------------------------------------------------------------

    def _day(self, table: str, day: date) -> list[Problem]:
        partition = layout.partition(table, day)
        runs = runs_below(self.lake, partition)
        try:
            commit = self.lake.last_commit_of(table, day)
            kept = list(self.lake.kept_commits(table, day).values())
            kept += self.lake.replaced(table, day).values()
        except LakeError as error:
            mend = f"remove the file that is named; then {mend_of(table, day)}"
            return [Problem(table, day, partition, str(error), mend)]
        if commit is None:
            return self._uncommitted(table, day, runs)
        if commit.removed_at is not None:
            self.examined.removed += 1
            self.examined.waiting += len(runs)
            return []
        superfluous = superfluous_runs(self.lake, table, day, runs)
        waiting = set(superfluous.runs) if superfluous else set()
        self.examined.waiting += len(waiting)
        read = {each.run: each for each in [*kept, commit] if each.month_run is None}
        found = [
            problem
            for each in read.values()
            for problem in self._run(table, day, each, runs.get(each.run, {}))
        ]
        orphans = {run: runs[run] for run in runs if run not in read and run not in waiting}
        return found + self._orphans(table, day, orphans)

    def _uncommitted(self, table: str, day: date, runs: Runs) -> list[Problem]:
        """A day that was begun and never committed; nothing names its files, so they stay."""
        partition = layout.partition(table, day)
        if not runs:
            return []
        if self._is_recent(runs):
            return []
        if table == RAW_FINDING_PAGES and self.lake.get(f"{partition}/{layout.OPEN}") is not None:
            return [
                Problem(
                    table,
                    day,
                    partition,
                    "a collection was begun and not finished",
                    "nothing reads it; retention removes it, or remove the folder yourself",
                )
            ]
        mend = f"{mend_of(table, day)}; or remove the folder yourself"
        return [Problem(table, day, partition, "there are files and no commit", mend)]

    def _orphans(self, table: str, day: date, runs: Runs) -> list[Problem]:
        """Run folders that the commit of their day does not name; one may be written just now."""
        return [
            Problem(
                table,
                day,
                layout.run_folder(table, day, run),
                f"no commit names this run ({len(objects)} files): it was killed, or replaced",
                "posture doctor --repair deletes it",
                DELETE,
            )
            for run, objects in runs.items()
            if not self._is_recent({run: objects})
        ]

    def _is_recent(self, runs: Runs) -> bool:
        """Whether somebody may still be writing one of these."""
        return any(self.now - newest_of(objects) < GRACE for objects in runs.values())

    def _comparisons(self) -> list[Problem]:
        """Days whose changes do not compare what is stored now."""
        try:
            days = [
                day for day in self.lake.days(SCORE_CHANGES.name) if self.first <= day <= self.last
            ]
            rows = outdated_comparisons(self.lake, days).to_dicts()
        except LakeError:
            # A commit that cannot be read has its own line.
            return []
        return [
            Problem(
                SCORE_CHANGES.name,
                row["date"],
                layout.partition(SCORE_CHANGES.name, row["date"]),
                f"it compares with {row['compared_with'] or 'no earlier day'}; since then "
                f"{row['since']}",
                f"posture replay --from {row['date'].isoformat()}",
            )
            for row in rows
        ]

    # --- files of a run --------------------------------------------------------------------

    def _run(
        self, table: str, day: date, commit: Commit, objects: Mapping[str, Stored]
    ) -> Iterator[Problem]:
        """The files of a commit's run against the commit."""
        folder = layout.run_folder(table, day, commit.run)
        files = {name: each for name, each in objects.items() if name.endswith(".parquet")}
        if table == RAW_FINDING_PAGES:
            # What was collected by another cut into shards is not read.
            shards = {layout.shard_folder(shard) for shard in commit.details.get("shards", {})}
            files = {
                name: each
                for name, each in objects.items()
                if name.endswith(layout.PAGES_ENDING) and name.split("/")[0] in shards
            }
        self._count([commit], files)
        content = self._content(table, folder, files)
        wrong = _wrong_files(files, commit) or content.wrong or _wrong_hash(content, commit)
        if not wrong and table != RAW_FINDING_PAGES:
            wrong = _wrong_rows(content, commit, day)
            others = sorted(each for each in content.rows if each != day)
            wrong += [f"there are rows of {each.isoformat()}" for each in others]
        for text in wrong:
            yield Problem(table, day, folder, text, mend_of(table, day))

    def _month_run(
        self,
        table: Table,
        folder: str,
        objects: Mapping[str, Stored],
        commits: list[tuple[date, Commit]],
    ) -> Iterator[Problem]:
        """The file of a month against the commits of its days."""
        files = {name: each for name, each in objects.items() if name.endswith(".parquet")}
        self._count([commit for _, commit in commits], files)
        content = self._content(table.name, folder, files)
        one = commits[0][1]  # Of the file all say the same.
        for text in _wrong_files(files, one) or content.wrong or _wrong_hash(content, one):
            mend = mend_of(table.name, *(day for day, _ in commits))
            yield Problem(table.name, None, folder, text, mend)
            return
        for day, commit in commits:
            for text in _wrong_rows(content, commit, day):
                yield Problem(table.name, day, folder, text, mend_of(table.name, day))
        read = {day for day, _ in commits}
        self.examined.unused_rows += sum(n for day, n in content.rows.items() if day not in read)

    def _count(self, commits: list[Commit], files: Mapping[str, Stored]) -> None:
        self.examined.commits += len(commits)
        self.examined.files += len(files)
        self.examined.without_hash += sum(commit.sha256 is None for commit in commits)

    def _content(self, table: str, folder: str, files: Iterable[str]) -> _Content:
        """Reads the files of a run; only the ends of parquet files if it must be fast."""
        if self.fast and table == RAW_FINDING_PAGES:
            return _Content()
        if self.fast:
            scan = self.lake.scan_files(
                _declared(table), [f"{self.lake.pattern_root}/{folder}/**/*.parquet"]
            )
            try:
                rows = scan.group_by("date").len().collect().iter_rows()
            except UNREADABLE as error:
                return _Content(wrong=[f"cannot be read: {_line(error)}"])
            return _Content(rows=dict(rows))
        hashes: dict[str, str] = {}
        content = _Content(hashes=hashes)
        for name in sorted(files):
            data = self.lake.get(f"{folder}/{name}")
            if data is None:
                content.wrong.append(f"{name} is gone")
                continue
            hashes[name] = hashlib.sha256(data).hexdigest()
            if table != RAW_FINDING_PAGES:
                self._read(_declared(table), name, data, content)
        return content

    def _read(self, table: Table, name: str, data: bytes, content: _Content) -> None:
        """One parquet file: whether it can be read, has the declared columns, and of which days."""
        try:
            # All columns: a file may be damaged in one of them alone.
            rows = pl.read_parquet(io.BytesIO(data))
        except UNREADABLE as error:
            content.wrong.append(f"{name} cannot be read: {_line(error)}")
            return
        declared = table.schema
        other = [
            f"{column} is {dtype}, not {declared[column]}"
            for column, dtype in rows.schema.items()
            if column in declared and dtype != declared[column]
        ]
        if other or "date" not in rows.columns:
            content.wrong.append(f"{name}: {', '.join(other) or 'it has no column date'}")
            return
        for day, count in rows.group_by("date").len().iter_rows():
            content.rows[day] = content.rows.get(day, 0) + count

    # --- months ----------------------------------------------------------------------------

    def _month(self, table: Table, month: str) -> list[Problem]:
        """The files of a month against the commits of its days."""
        name = table.name
        days = [day for day in days_of(self.lake, name) if layout.month_folder(name, day) == month]
        if days and not any(self.first <= day <= self.last for day in days):
            return []
        runs = runs_below(self.lake, month)
        try:
            read = commits_in_months(self.lake, name, days)
        except LakeError:
            return []  # The day has said it.
        needed = {commit.month_run for _, commit in read if commit.month_run is not None}
        if not needed:
            text = "no commit names this file of a month"
            mend = "restore the commits of its days from a backup; it is not deleted"
            return [Problem(name, None, f"{month}/run={run}", text, mend) for run in runs]
        self.examined.waiting += len(runs.keys() - needed)
        return [
            problem
            for run in sorted(needed)
            for problem in self._month_run(
                table,
                f"{month}/run={run}",
                runs.get(run, {}),
                [(day, commit) for day, commit in read if commit.month_run == run],
            )
        ]

    # --- the catalog, and what killed processes left ----------------------------------------

    def _catalog(self) -> list[Problem]:
        """Whether the catalog has the days and rows that the lake has."""

        def problem(text: str) -> list[Problem]:
            mend = "posture doctor --repair builds it anew"
            return [Problem("catalog", None, layout.CATALOG, text, mend, REBUILD)]

        try:
            stored, recent = self._stored_counts()
        except LakeError:
            return []  # A commit is damaged; its day has said it.
        if not stored:
            return []
        try:
            (version,) = publish.query(self.lake, "SELECT version FROM catalog_version").row(0)
            if version != publish.CATALOG_VERSION:
                return problem(f"it is of version {version}, not {publish.CATALOG_VERSION}")
            other = self._differing(stored, recent)
        except (InputError, LakeError) as error:
            return problem(_line(error))
        if not other:
            return []
        shown = ", ".join(day.isoformat() for day in other[:DAYS_SHOWN])
        more = f" and {len(other) - DAYS_SHOWN} more" if len(other) > DAYS_SHOWN else ""
        return problem(f"it has not the rows that the lake has of {shown}{more}")

    def _stored_counts(self) -> tuple[dict[tuple[str, date], int], set[date]]:
        """The rows by table and day that the catalog should have, and the days written just now.

        Of control status, which it holds as periods, a day counts as one row.
        """
        # The catalog takes in the days that have scores of the organization.
        scored = set(self.lake.days(ORGANIZATION_SCORES.name))
        recent: set[date] = set()
        stored: dict[tuple[str, date], int] = {}
        for table in (*_WHOLE, CONTROL_STATUS):
            days = [day for day in days_of(self.lake, table.name) if day in scored]
            commits = self.lake.at_once(partial(self.lake.commit_of, table.name), days)
            for day, commit in zip(days, commits, strict=True):
                if commit is not None:
                    recent |= {day} if self._is_recent_commit(commit) else set()
                    stored[table.name, day] = 1 if table is CONTROL_STATUS else commit.rows
        return stored, recent

    def _differing(self, stored: dict[tuple[str, date], int], recent: set[date]) -> list[date]:
        """The days of which the catalog has not as many rows of some table as the lake.

        A day that was written just now may be on its way into the catalog.
        """
        counts = [
            f"'{each.name}', date, count(*) FROM {each.name} GROUP BY date" for each in _WHOLE
        ]
        days = f"'{CONTROL_STATUS.name}', date, 1 FROM observed_days"
        sql = " UNION ALL ".join(f"SELECT {each}" for each in [*counts, days])
        there = {(name, day): rows for name, day, rows in publish.query(self.lake, sql).iter_rows()}
        return sorted(
            {
                day
                for name, day in {*stored, *there}
                if self.first <= day <= self.last
                and day not in recent
                and stored.get((name, day), 0) != there.get((name, day), 0)
            }
        )

    def _is_recent_commit(self, commit: Commit) -> bool:
        try:
            return self.now - datetime.fromisoformat(commit.written_at) < GRACE
        except ValueError:
            return False

    def _leftovers(self) -> Iterator[Problem]:
        """Files of a folder that were being written when their process was killed."""
        if not self.lake.is_local:
            return
        root = Path(self.lake.root)
        begun = [*root.glob(f".{layout.CATALOG}.*"), *root.glob("*/*=*/**/*#[0-9]*")]
        for path in sorted(begun):
            try:
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            except FileNotFoundError:
                continue
            if self.now - written >= GRACE:
                place = path.relative_to(root).as_posix()
                text = "half a file, of a process that was killed"
                mend = "posture doctor --repair deletes it"
                yield Problem(place.split("/")[0], None, place, text, mend, DELETE)


def repair(lake: Lake, problems: Iterable[Problem]) -> list[Problem]:
    """Does what the doctor can do itself; returns the problems that it mended."""
    mended = []
    for problem in problems:
        if problem.repair == DELETE:
            lake.delete(problem.place)
            mended.append(problem)
        elif problem.repair == REBUILD:
            # It is built from days that may be damaged themselves, and are then among the problems.
            with suppress(*UNREADABLE):
                publish.rebuild(lake)
                mended.append(problem)
    return mended


def _wrong_files(files: Mapping[str, Stored], commit: Commit) -> list[str]:
    if not files and commit.files:
        return ["its files are gone"]
    size = sum(each.bytes for each in files.values())
    if (len(files), size) == (commit.files, commit.bytes):
        return []
    return [
        f"{len(files):,} files of {size:,} bytes are there; the commit says {commit.files:,} of "
        f"{commit.bytes:,}"
    ]


def _wrong_hash(content: _Content, commit: Commit) -> list[str]:
    if content.hashes is None or commit.sha256 is None:
        return []
    same = hash_of_files(content.hashes) == commit.sha256
    return [] if same else ["the files are not those that were committed: another hash"]


def _wrong_rows(content: _Content, commit: Commit, day: date) -> list[str]:
    rows = content.rows.get(day, 0)
    return [] if rows == commit.rows else [f"{rows:,} rows are there, of {commit.rows:,} committed"]


def _declared(name: str) -> Table:
    return {each.name: each for each in TABLES}[name]


def _line(error: Exception) -> str:
    """What an error says, without the lines that a library adds for its users."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
