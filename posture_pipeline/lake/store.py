"""The lake's store: whole-partition writes behind a commit, and reads that go by it.

A write puts files into a folder of its own run and then replaces `_current.json`; only then is it
seen. It is replaced only if it is still the one that the writer began from, so of two writers of a
day one wins and the other is told. Scores that another method made stay readable beside it:
`_method=....json` names their run. The same code serves a local folder and S3. Which rows are
written is not decided here.

On S3 everything costs requests: a read one, a listing one for every thousand objects below its
prefix. Methods that cost more say so.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import obstore
import polars as pl
from obstore import exceptions
from obstore.store import LocalStore

from posture_pipeline.errors import DamagedError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.bucket import REQUESTS_AT_ONCE, SCHEME, Bucket, asking, whole
from posture_pipeline.lake.mending import mend_of
from posture_pipeline.schemas import SCHEMA_VERSION, SCORE_TABLES, Table

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

RANGE_BYTES = 1_048_576
"""Bytes of a file that are read at once where a part of it is asked for."""

ZSTD_LEVEL = 2
"""Of parquet files: as small as at the default level, in a tenth less time."""

CONFLICTS_AT_MOST = 5
"""Tries of a conditional write that S3 leaves undecided, because another request was under way."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a partition is: the run whose files count, and what they hold.

    Attributes:
        run: Id of the run that made the rows, and of its folder while it has one.
        rows: Rows in all files.
        files: Number of files.
        bytes: Size of all files; of a compacted day that of the file of its month.
        schema_version: `schemas.SCHEMA_VERSION` at the time of writing.
        written_at: When it was committed, ISO 8601, UTC.
        details: Small facts about the content, such as `collected_at`.
        sha256: `hash_of_files` of the files; null: it was not recorded.
        month_run: Run folder of the table's month that has the rows since the day was compacted;
            the day's own run folder is then superfluous. Null: it was not compacted.
        compacted_at: When it was compacted, ISO 8601, UTC.
        removed_at: When retention removed the rows, ISO 8601, UTC: the day then counts as not
            there. Null: it was not removed.
    """

    run: str
    rows: int
    files: int
    bytes: int
    schema_version: int = SCHEMA_VERSION
    written_at: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    month_run: str | None = None
    compacted_at: str | None = None
    removed_at: str | None = None


class Stored(NamedTuple):
    """An object as it is listed."""

    bytes: int
    modified: datetime


class Lake:
    """A folder or bucket prefix that holds every parquet file."""

    def __init__(self, uri: str, bucket: Bucket | None = None) -> None:
        """Opens the lake; of a bucket nothing is asked yet.

        Args:
            uri: A folder, or `s3://bucket/prefix`.
            bucket: How that bucket is reached.

        Raises:
            LakeError: The URI names neither, or a bucket without saying how it is reached.
        """
        self.is_local = "://" not in uri
        self.bucket = bucket
        if self.is_local:
            self.root = str(Path(uri).expanduser().resolve())
            Path(self.root).mkdir(parents=True, exist_ok=True)
            self._store: Any = LocalStore(self.root)
        elif uri.startswith(SCHEME) and bucket is not None:
            self.root = uri.rstrip("/")
            self._store = bucket.store(self.root)
        else:
            message = f"The lake {uri} cannot be opened; name a folder, or s3://bucket/prefix."
            raise LakeError(message)

    # --- objects ---------------------------------------------------------------------------

    def put(self, path: str, data: bytes, *, content_type: str | None = None) -> None:
        """Writes one object, all of it or nothing.

        Args:
            path: Where, below the root.
            data: The bytes.
            content_type: What a bucket tells a browser that they are; a folder knows no such thing.
        """
        attributes = {"Content-Type": content_type} if content_type and not self.is_local else None
        with asking("s3:PutObject", self.uri(path)):
            obstore.put(self._store, path, data, attributes=attributes)

    def get(self, path: str) -> bytes | None:
        """The bytes of an object, or null when it is not there."""
        found = self._get(path)
        return None if found is None else found[0]

    def get_with_version(self, path: str) -> tuple[bytes, str] | None:
        """The bytes of an object and their version, or null when it is not there."""
        found = self._get(path)
        if found is None:
            return None
        data, tag = found
        return data, hashlib.sha256(data).hexdigest() if self.is_local else str(tag)

    def _get(self, path: str) -> tuple[bytes, str | None] | None:
        """The bytes of an object and what the store calls them."""
        try:
            with asking("s3:GetObject", self.uri(path)):
                found = obstore.get(self._store, path)
                return bytes(found.bytes()), found.meta["e_tag"]
        except FileNotFoundError:
            return None

    def version_of(self, path: str) -> str | None:
        """What tells this content of an object from any other; null when it is not there."""
        if self.is_local:
            whole_of_it = self.get_with_version(path)
            return None if whole_of_it is None else whole_of_it[1]
        try:
            with asking("s3:GetObject", self.uri(path)):
                # Its first byte: the answer to HEAD does not say why it is a refusal.
                found = obstore.get(self._store, path, options={"range": (0, 1)})
                return str(found.meta["e_tag"])
        except FileNotFoundError:
            return None

    def put_if(self, path: str, data: bytes, version: str | None) -> str | None:
        """Writes one object in one request, if what is there is still of that version.

        The content must be one that nobody else writes: should the answer to the request be lost,
        the object itself tells who wrote it.

        Args:
            path: Where, below the root.
            data: The bytes.
            version: What `version_of` gave; null: only if nothing is there.

        Returns:
            The version that was written; null: another writer was first and nothing is changed.

        Raises:
            LakeError: S3 leaves it undecided, or fails beyond the retries.
        """
        if self.is_local:
            from filelock import FileLock

            # For whoever may write to the folder; what that is, its owner's umask says.
            with FileLock(Path(self.root, layout.LOCK), mode=0o666):
                if self.version_of(path) != version:
                    return None
                self._put_durably(Path(self.root, path), data)
                return self.version_of(path)
        mode: Any = "create" if version is None else {"e_tag": version}
        for attempt in range(CONFLICTS_AT_MOST):
            failed: LakeError | None = None
            try:
                with asking("s3:PutObject", self.uri(path)):
                    put = obstore.put(self._store, path, data, mode=mode, use_multipart=False)
                    return str(put["e_tag"])
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                pass
            except LakeError as error:
                failed = error
            # A try whose answer was lost may have written it, and the next was refused for that.
            found = self.get_with_version(path)
            if found is not None and found[0] == data:
                return found[1]
            if (None if found is None else found[1]) != version:
                return None
            # Once more: obstore leaves it to us where a connection broke. S3 refuses too while
            # another request on the object is under way, which may yet fail.
            if failed is not None and attempt > 0:
                raise failed
        message = f"{self.uri(path)}: S3 answers again and again that others write it; start again."
        raise LakeError(message)

    @staticmethod
    def _put_durably(path: Path, data: bytes) -> None:
        """Replaces a file by one that is on disk, whole, before anybody sees it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(f"{path.name}#{os.getpid()}-{new_run()}")
        begun.write_bytes(data)
        _sync(begun)
        begun.replace(path)
        _sync(path.parent)

    def put_json(self, path: str, value: object) -> None:
        """Writes a small JSON object."""
        self.put(path, _json(value))

    def get_json(self, path: str) -> dict[str, Any] | None:
        """Reads a small JSON object; null when it is not there.

        Raises:
            LakeError: It is there and no JSON object.
        """
        data = self.get(path)
        if data is None:
            return None
        try:
            value = json.loads(data)
        except ValueError as error:
            message = f"{self.uri(path)} is damaged ({error}); remove it and run the day again."
            raise LakeError(message) from error
        if not isinstance(value, dict):
            message = f"{self.uri(path)} is damaged (no object); remove it and run the day again."
            raise LakeError(message)
        return value

    def names(self, prefix: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the objects directly below a prefix."""
        with asking("s3:ListBucket", self.uri(prefix)):
            listing = whole(lambda: obstore.list_with_delimiter(self._store, prefix))
        folders = [str(each).rsplit("/", 1)[-1] for each in listing["common_prefixes"]]
        objects = [str(each["path"]).rsplit("/", 1)[-1] for each in listing["objects"]]
        return sorted(folders), sorted(objects)

    def delete(self, prefix: str) -> None:
        """Deletes every object below a prefix, or the one object of that path."""
        if self.is_local:
            place = Path(self.root, prefix)
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
            return
        paths = list(self.sizes(prefix))
        with asking("s3:DeleteObject", self.uri(prefix)):
            obstore.delete(self._store, paths or [prefix])

    def objects(self, prefix: str) -> dict[str, Stored]:
        """Every object below a prefix, however deep."""
        with asking("s3:ListBucket", self.uri(prefix)):
            chunks = whole(lambda: list(obstore.list(self._store, prefix)))
        return {
            str(each["path"]): Stored(int(each["size"]), each["last_modified"])
            for chunk in chunks
            for each in chunk
        }

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every object below a prefix, however deep, with its bytes."""
        return {path: each.bytes for path, each in self.objects(prefix).items()}

    def size(self, prefix: str, *, ending: str = "") -> int:
        """Bytes of all objects below a prefix whose names end so."""
        return sum(size for path, size in self.sizes(prefix).items() if path.endswith(ending))

    def open_reader(self, path: str, *, size: int) -> Any:  # noqa: ANN401 - obstore.ReadableFile
        """An object as a file, read by ranges.

        Args:
            path: Where, below the root.
            size: Its bytes, for the number of them that is read at once.
        """
        with asking("s3:GetObject", self.uri(path)):
            return obstore.open_reader(self._store, path, buffer_size=min(size, RANGE_BYTES))

    def at_once(self, ask: Callable[[Asked], Answer], of: Iterable[Asked]) -> list[Answer]:
        """The answers in the order of the questions, of a bucket asked side by side.

        A folder is asked one by one: it has no latency to hide.
        """
        if self.is_local:
            return [ask(each) for each in of]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return list(pool.map(ask, of))

    @property
    def pattern_root(self) -> str:
        """The root as the start of a glob pattern: a folder's name may hold `[` or `*`."""
        return glob.escape(self.root) if self.is_local else self.root

    def uri(self, path: str) -> str:
        """The full path or URI of something in the lake."""
        return f"{self.root}/{path}"

    # --- partitions ------------------------------------------------------------------------

    def commit_of(self, table: str, day: date) -> Commit | None:
        """The commit of a table's day; null when there is none, or retention removed its rows.

        Raises:
            LakeError: It is damaged.
        """
        commit = self.last_commit_of(table, day)
        return None if commit is None or commit.removed_at else commit

    def last_commit_of(self, table: str, day: date) -> Commit | None:
        """`commit_of`, but the commit too of a day whose rows retention removed.

        Raises:
            LakeError: It is damaged.
        """
        return self._commit_in(layout.commit_file(table, day))

    def _commit_in(self, path: str) -> Commit | None:
        value = self.get_json(path)
        if value is None:
            return None
        known = {each.name for each in fields(Commit)}
        try:
            return Commit(**{name: value[name] for name in value.keys() & known})
        except TypeError as error:
            message = f"{self.uri(path)} is damaged ({error}); remove it and run the day again."
            raise LakeError(message) from error

    def days(self, table: str) -> list[date]:
        """The committed days of a table, oldest first.

        It reads the commit of every day, of a bucket side by side: `days_before` is for whoever
        wants some of them.
        """
        days = self._folders_of_days(table)
        commits = self.at_once(lambda day: self.commit_of(table, day), days)
        return [day for day, commit in zip(days, commits, strict=True) if commit is not None]

    def days_before(
        self, table: str, before: date = date.max, *, after: date = date.min
    ) -> Iterator[date]:
        """The committed days of a table between two days, without these, newest first.

        Commits are read as the days are asked for: the newest costs one listing of the days and
        one read. The more are asked for, the more are read at once.
        """
        days = [day for day in reversed(self._folders_of_days(table)) if after < day < before]
        size = 1
        while days:
            block, days = days[:size], days[size:]
            commits = self.at_once(lambda day: self.commit_of(table, day), block)
            yield from (day for day, each in zip(block, commits, strict=True) if each is not None)
            size = 1 if self.is_local else min(2 * size, REQUESTS_AT_ONCE)

    def last_day(self, table: str) -> date | None:
        """The newest committed day of a table."""
        return next(self.days_before(table), None)

    def _folders_of_days(self, table: str) -> list[date]:
        """The days of a table that somebody began to write, oldest first."""
        return sorted(day for folder in self.names(table)[0] if (day := layout.day_of(folder)))

    def require(self, table: str, day: date) -> Commit:
        """The commit of a table's day.

        Raises:
            LakeError: There is none; the text says which days there are, or that it was removed.
        """
        commit = self.last_commit_of(table, day)
        if commit is not None:
            if reason := removal_of(commit):
                message = f"The lake {self.root} has no {table} for {day.isoformat()}: {reason}."
                raise LakeError(message)
            return commit
        last = self.last_day(table)
        have = f"the newest is {last.isoformat()}" if last else "there is no day at all yet"
        message = (
            f"The lake {self.root} has no {table} for {day.isoformat()}; {have}. "
            f"Run the day (posture run, posture import or posture demo) or ask for another."
        )
        raise LakeError(message)

    def scan(
        self, table: Table, days: date | Iterable[date], *, method: str | None = None
    ) -> pl.LazyFrame:
        """The committed rows of one or more days, with exactly the declared columns.

        Args:
            table: The table.
            days: The days.
            method: Of the score tables: the scores that this method made (see `methods`).

        Raises:
            LakeError: A day was never committed, or never by that method.
        """
        wanted = [days] if isinstance(days, date) else list(days)
        if not wanted:
            return table.empty().lazy()
        return self._scan(table, wanted, method)[0]

    def _scan(
        self, table: Table, days: list[date], method: str | None
    ) -> tuple[pl.LazyFrame, list[tuple[date, Commit]]]:
        """The rows of days, and the commits that they are of."""
        commits = self._commits(table, days, method)
        try:
            return self._rows_of(table, commits), commits
        except DamagedError:
            # A day that was replaced after its commit was read has lost those files.
            again = self._commits(table, days, method)
            if again == commits:
                raise
            return self._rows_of(table, again), again

    def _commits(
        self, table: Table, days: list[date], method: str | None
    ) -> list[tuple[date, Commit]]:
        commits = self.at_once(lambda day: self.require(table.name, day), days)
        if method is not None:
            commits = [self._made_by(table, day, method) for day in days]
        return list(zip(days, commits, strict=True))

    def _rows_of(self, table: Table, commits: Iterable[tuple[date, Commit]]) -> pl.LazyFrame:
        frames = []
        for month_run, found in groupby(commits, lambda each: each[1].month_run):
            of_run = list(found)
            days = [day for day, _ in of_run]
            if month_run is None:
                files = self.at_once(lambda each: self._patterns(table.name, *each), of_run)
                frames.append(self.scan_files(table, [file for each in files for file in each]))
            else:
                rows = self.scan_files(table, self._patterns(table.name, *of_run[0]))
                frames.append(rows.filter(pl.col("date").is_in(days)))
        return frames[0] if len(frames) == 1 else pl.concat(frames)

    def files(
        self, table: str, day: date, commit: Commit, names: Iterable[str] | None = None
    ) -> list[str]:
        """The full paths of the parquet files of a commit, whose sizes are as it says.

        It lists them, so that a file that was cut off, emptied, replaced or deleted is an error
        and never reads as fewer rows. Hashes are for the doctor: they take reading every file.

        Args:
            table: The table.
            day: The day.
            commit: A commit of the day.
            names: Only these files below the run folder, those of them that the commit has.

        Raises:
            DamagedError: A file is not as it was committed; the text names it and the repair.
        """
        folder = _folder_of(table, day, commit)
        stated = None if commit.files == 1 else self.get_json(f"{folder}/{layout.FILES}")
        wanted = None if names is None else set(names)
        folders = [folder]
        if stated is not None and wanted is not None:
            stated = {name: size for name, size in stated.items() if name in wanted}
            folders = sorted({f"{folder}/{name}".rpartition("/")[0] for name in stated})
        found = {
            path.removeprefix(f"{folder}/"): size
            for sizes in self.at_once(self.sizes, folders)
            for path, size in sizes.items()
            if path.endswith(".parquet")
        }
        if stated is None:
            wrong = _unlike_the_commit(found, commit)
        else:
            wrong = unlike_stated(found, stated)
        if wrong:
            more = f" ({len(wrong) - 1:,} more files are damaged)" if len(wrong) > 1 else ""
            message = (
                f"{self.uri(folder)}/{wrong[0]}{more}. Nothing is read from it; to repair it: "
                f"{mend_of(table, day)}. posture doctor looks for more."
            )
            raise DamagedError(message)
        there = sorted(found if wanted is None else found.keys() & wanted)
        return [f"{self.pattern_root}/{folder}/{name}" for name in there]

    def _patterns(self, table: str, day: date, commit: Commit) -> list[str]:
        """What a scan of all files of a commit opens, after they were held against it."""
        files = self.files(table, day, commit)
        if self.is_local:
            return files
        # By a pattern Polars lists, and the answer says why S3 refuses; that to HEAD does not.
        return [f"{self.pattern_root}/{_folder_of(table, day, commit)}/**/*.parquet"]

    def sync(self, prefix: str) -> None:
        """Has a folder on disk with all that is below it, and its way from the root.

        So that a crash of the machine leaves no commit whose files are empty. A bucket's objects
        are durable when they are written.
        """
        if not self.is_local:
            return
        top = Path(self.root, prefix)
        # A writer whose folder is gone lost to another one, and its commit will be refused.
        with suppress(FileNotFoundError), ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            places = [top, *top.rglob("*")]
            list(pool.map(_sync, places))
            for parent in top.parents:
                _sync(parent)
                if parent == Path(self.root):
                    break

    def scan_files(
        self, table: Table, patterns: list[str], *, file: str | None = None
    ) -> pl.LazyFrame:
        """The rows of parquet files by their full paths or patterns, with the declared columns.

        Args:
            table: The table.
            patterns: The files.
            file: Name of a column to have with the path of each row's file; null: none.
        """
        return pl.scan_parquet(
            patterns,
            schema=table.schema,
            include_file_paths=file,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            **({} if self.bucket is None else self.bucket.scan_options),
        )

    def read(
        self, table: Table, days: date | Iterable[date], *, method: str | None = None
    ) -> pl.DataFrame:
        """`scan`, collected: for the small tables."""
        wanted = [days] if isinstance(days, date) else list(days)
        if not wanted:
            return table.empty()
        with asking("s3:GetObject", self.uri(table.name)):
            scan, commits = self._scan(table, wanted, method)
            rows = scan.collect()
        committed = sum(commit.rows for _, commit in commits)
        if rows.height != committed:
            first, last = min(wanted).isoformat(), max(wanted).isoformat()
            message = (
                f"{self.uri(table.name)} from {first} to {last}: {rows.height:,} rows are there, "
                f"of {committed:,} committed. To repair it: {mend_of(table.name, *wanted)}. "
                "posture doctor names the day."
            )
            raise DamagedError(message)
        return rows

    # --- scores by method ------------------------------------------------------------------

    def methods(self, table: Table, day: date) -> dict[str, Commit]:
        """The methods whose scores of the day can be read, the current one first."""
        current = self.require(table.name, day)
        own = self._method_of(table, day, current)
        found = {} if own is None else {own: current}
        _, objects = self.names(layout.partition(table.name, day))
        for made_by, kept in sorted(self._kept(table.name, day, objects).items()):
            # Of a run that ended between its two writes both name the same files.
            if kept.run != current.run:
                found.setdefault(made_by, kept)
        return found

    def _made_by(self, table: Table, day: date, method: str) -> Commit:
        found = self.methods(table, day)
        if method not in found:
            there = "; ".join(found) or "none"
            message = (
                f"The lake {self.root} has no {table.name} for {day.isoformat()} by method "
                f"{method}; there are: {there}."
            )
            raise LakeError(message)
        return found[method]

    def _method_of(self, table: Table, day: date, commit: Commit) -> str | None:
        """The method of a commit's rows; null when it has none, so nothing to tell apart."""
        if table not in SCORE_TABLES:
            return None
        if "method" in commit.details:
            return str(commit.details["method"])
        # Commits did not always say it.
        return _method_in(self._rows_of(table, [(day, commit)]).collect())

    def kept_commits(self, table: str, day: date) -> dict[str, Commit]:
        """The commits that are kept beside the present one of a day, by method.

        Raises:
            LakeError: One of them is damaged.
        """
        return self._kept(table, day, self.names(layout.partition(table, day))[1])

    def _kept(self, table: str, day: date, objects: Iterable[str]) -> dict[str, Commit]:
        """The kept commits among the objects of a partition, by method."""
        names = [name for name in objects if name.startswith(layout.KEPT)]
        found = (self._commit_in(f"{layout.partition(table, day)}/{name}") for name in names)
        return {str(each.details.get("method")): each for each in found if each is not None}

    def write(self, table: Table, day: date) -> PartitionWriter:
        """Begins to write a table's day; nothing is seen before `commit`."""
        return PartitionWriter(self, table, day)

    def replace(
        self,
        table: Table,
        day: date,
        rows: pl.DataFrame,
        details: Mapping[str, Any] | None = None,
        *,
        keep_replaced: bool = False,
    ) -> Commit:
        """Writes a table's day from one frame and commits it.

        Scores that another method made are kept beside the new ones; those of the same method are
        replaced. With `keep_replaced` what they replace can be restored, see `commit_run`.
        """
        writer = self.write(table, day)
        writer.add(rows)
        details = dict(details or {})
        if table in SCORE_TABLES and (method := _method_in(rows)) is not None:
            details["method"] = method
            self._keep_other_method(table, day, method)
        return writer.commit(details, keep_replaced=keep_replaced)

    def _keep_other_method(self, table: Table, day: date, method: str) -> None:
        """Notes the present commit as the one of its method, before another one replaces it."""
        current = self.commit_of(table.name, day)
        made_by = None if current is None else self._method_of(table, day, current)
        if current is not None and made_by is not None and made_by != method:
            kept = replace(current, details={**current.details, "method": made_by})
            self.put_json(layout.kept_file(table.name, day, made_by), asdict(kept))

    def recommit(self, table: str, day: date, change: Callable[[Commit], Commit | None]) -> bool:
        """Replaces the commit of a day by another one of the same rows; deletes nothing.

        Args:
            table: The table.
            day: The day.
            change: Makes the new commit of the present one; null: it is to stay.

        Returns:
            Whether it was replaced; not if there is none, or somebody commits the day meanwhile.
        """
        version = self.commit_version(table, day)
        commit = self.commit_of(table, day)
        changed = None if commit is None else change(commit)
        if changed is None:
            return False
        data = _json(asdict(changed))
        return self.put_if(layout.commit_file(table, day), data, version) is not None

    def commit_version(self, table: str, day: date) -> str | None:
        """What a writer notes when it begins, for `commit_run` to see whether it still holds."""
        return self.version_of(layout.commit_file(table, day))

    def replaced(self, table: str, day: date) -> dict[str, Commit]:
        """The replaced commits of a day that can be restored, by run, the newest first.

        Raises:
            LakeError: One of them is damaged.
        """
        objects = self.names(layout.partition(table, day))[1]
        present = self.last_commit_of(table, day)
        found = self._replaced(table, day, objects)
        return {each.run: each for each in found if present is None or each.run != present.run}

    def _replaced(self, table: str, day: date, objects: Iterable[str]) -> list[Commit]:
        """The replaced commits among the objects of a partition, the newest first."""
        names = [name for name in objects if name.startswith(layout.REPLACED)]
        found = (self._commit_in(f"{layout.partition(table, day)}/{name}") for name in names)
        commits = [each for each in found if each is not None]
        return sorted(commits, key=lambda each: str(each.details["replaced_at"]), reverse=True)

    def restore(self, table: str, day: date, run: str) -> Commit:
        """Makes a replaced commit the one of the day again; the present one is kept as replaced.

        Args:
            table: The table.
            day: The day.
            run: One of `replaced`.

        Raises:
            LakeError: There is no such replaced run, or another run commits the day meanwhile.
        """
        version = self.commit_version(table, day)
        found = self.replaced(table, day)
        if run not in found:
            there = ", ".join(found) or "none"
            message = (
                f"The lake {self.root} has no replaced run {run} of {table} for "
                f"{day.isoformat()}; there are: {there}. Maintenance deletes them after a day."
            )
            raise LakeError(message)
        details = {key: each for key, each in found[run].details.items() if key != "replaced_at"}
        commit = replace(found[run], details=details)
        self.commit_run(table, day, commit, version, keep_replaced=True)
        self.delete(layout.replaced_file(table, day, run))
        return commit

    def keep(self, table: str, day: date) -> None:
        """Notes the present commit of a day, so that it can be restored once it is replaced."""
        self._keep_replaced(table, day, run="")

    def _keep_replaced(self, table: str, day: date, run: str) -> None:
        """Notes the present commit as one that can be restored, before another replaces it."""
        current = self.last_commit_of(table, day)
        if current is None or current.removed_at or current.run == run:
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        kept = replace(current, details={**current.details, "replaced_at": now})
        self.put_json(layout.replaced_file(table, day, current.run), asdict(kept))

    def commit_run(
        self,
        table: str,
        day: date,
        commit: Commit,
        began_from: str | None,
        *,
        keep_replaced: bool = False,
    ) -> Commit:
        """Makes a run's files the content of a table's day, and deletes those of other runs.

        Those of scores that an earlier method made stay, and those of a commit that can be
        restored.

        Args:
            table: The table.
            day: The day.
            commit: The run, and what its files hold.
            began_from: What `commit_version` gave when the writer began.
            keep_replaced: Keep the commit that is replaced, and its files, until the maintenance
                after a day of grace: `replaced` lists it, `restore` brings it back.

        Raises:
            LakeError: Another run committed the day meanwhile; that one stays, this one's files
                are deleted.
        """
        partition = layout.partition(table, day)
        self.sync(layout.run_folder(table, day, commit.run))
        if keep_replaced:
            self._keep_replaced(table, day, commit.run)
        # Before the commit: a run that begins after it builds on it, and must keep its files.
        folders, objects = self.names(partition)
        path = layout.commit_file(table, day)
        if self.put_if(path, _json(asdict(commit)), began_from) is None:
            winner = self.commit_of(table, day)
            restored = commit.run in {each.run for each in self._replaced(table, day, objects)}
            if not restored and (winner is None or winner.run != commit.run):
                self.delete(layout.run_folder(table, day, commit.run))
            message = (
                f"Another run committed {table} of {day.isoformat()} meanwhile "
                f"({self.uri(path)}): it stays, and nothing of this run was kept. Run the day "
                "again, one run of a day at a time."
            )
            raise LakeError(message)
        kept = self._kept(table, day, objects)
        if (method := commit.details.get("method")) in kept:
            del kept[method]
            self.delete(layout.kept_file(table, day, method))
        can_be_restored = self._replaced(table, day, objects)
        runs = {commit.run, *(each.run for each in [*kept.values(), *can_be_restored])}
        for folder in folders:
            if folder.startswith("run=") and folder.removeprefix("run=") not in runs:
                self.delete(f"{partition}/{folder}")
        return commit


class PartitionWriter:
    """Writes the parquet files of one table's day into a run folder of its own."""

    def __init__(self, lake: Lake, table: Table, day: date) -> None:
        self.lake = lake
        self.table = table
        self.day = day
        self.run = new_run()
        self.began_from = lake.commit_version(table.name, day)
        self.rows = 0
        self._files: dict[str, tuple[int, str]] = {}

    @property
    def files(self) -> int:
        """Files written so far."""
        return len(self._files)

    @property
    def folder(self) -> str:
        """The run folder, relative to the lake."""
        return layout.run_folder(self.table.name, self.day, self.run)

    def add(self, rows: pl.DataFrame, name: str | None = None) -> str:
        """Writes a file with these rows; returns its name.

        Raises:
            SchemaError: They do not fit the table.
        """
        return self.add_parquet(as_parquet(self.table, self.day, rows), rows.height, name)

    def add_parquet(self, data: bytes, rows: int, name: str | None = None) -> str:
        """Writes a file that `as_parquet` made of so many rows; returns its name."""
        name = name or layout.part(self.files)
        self._files[name] = self._put(name, data)
        self.rows += rows
        return name

    def add_all_parquet(self, files: Mapping[str, bytes], rows: int) -> None:
        """Writes files by their names, to a bucket several at once.

        Args:
            files: What `as_parquet` made, by name.
            rows: How many are in them together.
        """
        written = self.lake.at_once(lambda file: self._put(*file), files.items())
        self._files |= dict(zip(files, written, strict=True))
        self.rows += rows

    def rewrite(self, name: str, rows: pl.DataFrame, *, dropped: int) -> None:
        """Replaces a file of this run by fewer rows."""
        self._files[name] = self._put(name, as_parquet(self.table, self.day, rows))
        self.rows -= dropped

    def read(self, name: str) -> pl.DataFrame:
        """Reads back a file of this run."""
        data = self.lake.get(f"{self.folder}/{name}")
        if data is None:
            message = f"{self.lake.uri(self.folder)}/{name} vanished while it was being written."
            raise LakeError(message)
        return pl.read_parquet(io.BytesIO(data))

    def commit(
        self, details: Mapping[str, Any] | None = None, *, keep_replaced: bool = False
    ) -> Commit:
        """Makes what was written the content of the table's day; see `Lake.commit_run`."""
        if self.files == 0:
            self.add(self.table.empty())
        if self.files > 1:
            sizes = {name: size for name, (size, _) in self._files.items()}
            self.lake.put_json(f"{self.folder}/{layout.FILES}", sizes)
        return self.lake.commit_run(
            self.table.name,
            self.day,
            Commit(
                run=self.run,
                rows=self.rows,
                files=self.files,
                bytes=sum(size for size, _ in self._files.values()),
                sha256=hash_of_files({name: digest for name, (_, digest) in self._files.items()}),
                written_at=datetime.now(UTC).isoformat(timespec="seconds"),
                details=dict(details or {}),
            ),
            self.began_from,
            keep_replaced=keep_replaced,
        )

    def _put(self, name: str, data: bytes) -> tuple[int, str]:
        """Writes a file; returns its bytes and its SHA-256."""
        self.lake.put(f"{self.folder}/{name}", data)
        return len(data), hashlib.sha256(data).hexdigest()


def as_parquet(table: Table, day: date, rows: pl.DataFrame) -> bytes:
    """Rows of a table's day as the bytes of a parquet file, with the declared columns.

    Raises:
        SchemaError: The rows do not fit the table.
    """
    buffer = io.BytesIO()
    frame = table.conform(rows.with_columns(pl.lit(day, dtype=pl.Date()).alias("date")))
    frame.write_parquet(buffer, compression="zstd", compression_level=ZSTD_LEVEL)
    return buffer.getvalue()


def _folder_of(table: str, day: date, commit: Commit) -> str:
    """Where the files of a commit are."""
    if commit.month_run is None:
        return layout.run_folder(table, day, commit.run)
    return layout.month_run_folder(table, day, commit.month_run)


def unlike_stated(found: Mapping[str, int], stated: Mapping[str, int]) -> list[str]:
    """What is wrong with files, each by its name, of which the sizes are known.

    >>> unlike_stated({"a": 0, "c": 5}, {"a": 7, "b": 8})
    ['a has 0 bytes, of 7 committed', 'b is gone', 'c is not of the commit']
    """
    wrong = [
        f"{name} has {found[name]:,} bytes, of {size:,} committed"
        if name in found
        else f"{name} is gone"
        for name, size in sorted(stated.items())
        if found.get(name) != size
    ]
    return [*wrong, *(f"{name} is not of the commit" for name in sorted(found.keys() - stated))]


def _unlike_the_commit(found: Mapping[str, int], commit: Commit) -> list[str]:
    """The same, of which the commit alone is known: of one file all that there is to know."""
    if (len(found), sum(found.values())) == (commit.files, commit.bytes):
        return []
    if commit.files == 1:
        own = next((name for name, size in found.items() if size == commit.bytes), None)
        return unlike_stated(found, {own or min(found, default=layout.part(0)): commit.bytes})
    return [
        f"*: {len(found):,} files of {sum(found.values()):,} bytes are there, of "
        f"{commit.files:,} of {commit.bytes:,} committed"
    ]


def _sync(place: Path) -> None:
    """Has a file or folder on disk."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def removal_of(commit: Commit) -> str | None:
    """Since when retention has removed the rows of a commit, for a person; null: it has not.

    >>> removal_of(Commit("1a2b", 0, 0, 0, removed_at="2026-11-22T04:00:00", details={"kept": 14}))
    'kept for 14 days (settings: retention), removed on 2026-11-22'
    """
    if commit.removed_at is None:
        return None
    kept, removed_on = commit.details.get("kept", "?"), commit.removed_at[:10]
    return f"kept for {kept} days (settings: retention), removed on {removed_on}"


def hash_of_files(hashes: Mapping[str, str]) -> str:
    """One hash for the files of a run, from the SHA-256 of each by its name below the run folder.

    It is that of the lines that `sha256sum` prints of the files, in the order of their names.

    >>> hash_of_files({"part-00000.parquet": "0" * 64})[:12]
    'c25d1bfde6a2'
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _method_in(rows: pl.DataFrame) -> str | None:
    """The method that made these scores; of several their names, joined."""
    found = sorted(rows["method"].drop_nulls().unique()) if "method" in rows.columns else []
    return " / ".join(found) or None


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def new_run() -> str:
    """An id for a run folder that no other run has."""
    return uuid.uuid4().hex[:8]
