"""The lake's store: whole-partition writes behind a commit, and reads that go by it.

A write puts files into a folder of its own run and then replaces `_current.json`; only then is it
seen. Scores that another method made stay readable beside it: `_method=....json` names their run.
The same code serves a local folder and S3. Which rows are written is not decided here.
"""

from __future__ import annotations

import glob
import io
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import obstore
import polars as pl
from obstore.store import LocalStore, from_url

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.schemas import SCHEMA_VERSION, SCORE_TABLES, Table


@dataclass(frozen=True, slots=True)
class Commit:
    """What a partition is: the run whose files count, and what they hold.

    Attributes:
        run: Id of the run folder.
        rows: Rows in all files.
        files: Number of files.
        bytes: Size of all files.
        schema_version: `schemas.SCHEMA_VERSION` at the time of writing.
        written_at: When it was committed, ISO 8601, UTC.
        details: Small facts about the content, such as `collected_at`.
    """

    run: str
    rows: int
    files: int
    bytes: int
    schema_version: int = SCHEMA_VERSION
    written_at: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Lake:
    """A folder or bucket prefix that holds every parquet file."""

    def __init__(self, uri: str, *, options: Mapping[str, Any] | None = None) -> None:
        self.is_local = "://" not in uri
        self.options = dict(options or {})
        if self.is_local:
            self.root = str(Path(uri).expanduser().resolve())
            Path(self.root).mkdir(parents=True, exist_ok=True)
            self._store: Any = LocalStore(self.root)
        else:
            self.root = uri.rstrip("/")
            self._store = from_url(self.root, **self.options)

    # --- objects ---------------------------------------------------------------------------

    def put(self, path: str, data: bytes, *, content_type: str | None = None) -> None:
        """Writes one object, all of it or nothing.

        Args:
            path: Where, below the root.
            data: The bytes.
            content_type: What a bucket tells a browser that they are; a folder knows no such thing.
        """
        attributes = {"Content-Type": content_type} if content_type and not self.is_local else None
        obstore.put(self._store, path, data, attributes=attributes)

    def get(self, path: str) -> bytes | None:
        """The bytes of an object, or null when it is not there."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None

    def put_json(self, path: str, value: object) -> None:
        """Writes a small JSON object."""
        self.put(path, json.dumps(value, indent=1, sort_keys=True).encode())

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
        listing = obstore.list_with_delimiter(self._store, prefix)
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
        paths = [str(o["path"]) for chunk in obstore.list(self._store, prefix) for o in chunk]
        obstore.delete(self._store, paths or [prefix])

    def size(self, prefix: str, *, ending: str = "") -> int:
        """Bytes of all objects below a prefix whose names end so."""
        listed = (each for chunk in obstore.list(self._store, prefix) for each in chunk)
        return sum(each["size"] for each in listed if str(each["path"]).endswith(ending))

    @property
    def pattern_root(self) -> str:
        """The root as the start of a glob pattern: a folder's name may hold `[` or `*`."""
        return glob.escape(self.root) if self.is_local else self.root

    def uri(self, path: str) -> str:
        """The full path or URI of something in the lake."""
        return f"{self.root}/{path}"

    # --- partitions ------------------------------------------------------------------------

    def commit_of(self, table: str, day: date) -> Commit | None:
        """The commit of a table's day, or null when the day was never committed.

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
        """The committed days of a table, oldest first."""
        folders, _ = self.names(table)
        days = (layout.day_of(folder) for folder in folders)
        return [day for day in days if day and self.commit_of(table, day)]

    def last_day(self, table: str) -> date | None:
        """The newest committed day of a table."""
        folders, _ = self.names(table)
        for folder in reversed(folders):
            day = layout.day_of(folder)
            if day and self.commit_of(table, day):
                return day
        return None

    def require(self, table: str, day: date) -> Commit:
        """The commit of a table's day.

        Raises:
            LakeError: There is none; the text says which days there are.
        """
        commit = self.commit_of(table, day)
        if commit is not None:
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
        patterns = []
        for day in wanted:
            commit = self.require(table.name, day)
            if method is not None:
                commit = self._made_by(table, day, method)
            patterns.append(self._files_of(table, day, commit))
        return self._scan_files(table, patterns)

    def _files_of(self, table: Table, day: date, commit: Commit) -> str:
        return f"{self.pattern_root}/{layout.run_folder(table.name, day, commit.run)}/**/*.parquet"

    def _scan_files(self, table: Table, patterns: list[str]) -> pl.LazyFrame:
        return pl.scan_parquet(
            patterns,
            schema=table.schema,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            storage_options=self.options or None,
        )

    def read(
        self, table: Table, days: date | Iterable[date], *, method: str | None = None
    ) -> pl.DataFrame:
        """`scan`, collected: for the small tables."""
        return self.scan(table, days, method=method).collect()

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
        return _method_in(self._scan_files(table, [self._files_of(table, day, commit)]).collect())

    def _kept(self, table: str, day: date, objects: Iterable[str]) -> dict[str, Commit]:
        """The kept commits among the objects of a partition, by method."""
        names = [name for name in objects if name.startswith(layout.KEPT)]
        found = (self._commit_in(f"{layout.partition(table, day)}/{name}") for name in names)
        return {str(each.details.get("method")): each for each in found if each is not None}

    def write(self, table: Table, day: date) -> PartitionWriter:
        """Begins to write a table's day; nothing is seen before `commit`."""
        return PartitionWriter(self, table, day)

    def replace(
        self, table: Table, day: date, rows: pl.DataFrame, details: Mapping[str, Any] | None = None
    ) -> Commit:
        """Writes a table's day from one frame and commits it.

        Scores that another method made are kept beside the new ones; those of the same method are
        replaced.
        """
        writer = self.write(table, day)
        writer.add(rows)
        details = dict(details or {})
        if table in SCORE_TABLES and (method := _method_in(rows)) is not None:
            details["method"] = method
            self._keep_other_method(table, day, method)
        return writer.commit(details)

    def _keep_other_method(self, table: Table, day: date, method: str) -> None:
        """Notes the present commit as the one of its method, before another one replaces it."""
        current = self.commit_of(table.name, day)
        made_by = None if current is None else self._method_of(table, day, current)
        if current is not None and made_by is not None and made_by != method:
            kept = replace(current, details={**current.details, "method": made_by})
            self.put_json(layout.kept_file(table.name, day, made_by), asdict(kept))

    def commit_run(self, table: str, day: date, commit: Commit) -> Commit:
        """Makes a run's files the content of a table's day, and deletes those of other runs.

        Those of scores that an earlier method made stay.
        """
        self.put_json(layout.commit_file(table, day), asdict(commit))
        partition = layout.partition(table, day)
        folders, objects = self.names(partition)
        kept = self._kept(table, day, objects)
        if (method := commit.details.get("method")) in kept:
            del kept[method]
            self.delete(layout.kept_file(table, day, method))
        runs = {commit.run, *(each.run for each in kept.values())}
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
        self.rows = 0
        self._sizes: dict[str, int] = {}

    @property
    def files(self) -> int:
        """Files written so far."""
        return len(self._sizes)

    @property
    def folder(self) -> str:
        """The run folder, relative to the lake."""
        return layout.run_folder(self.table.name, self.day, self.run)

    def add(self, rows: pl.DataFrame, name: str | None = None) -> str:
        """Writes a file with these rows, cast to the table's columns; returns its name."""
        name = name or layout.part(self.files)
        self._write(name, rows)
        self.rows += rows.height
        return name

    def rewrite(self, name: str, rows: pl.DataFrame, *, dropped: int) -> None:
        """Replaces a file of this run by fewer rows."""
        self._write(name, rows)
        self.rows -= dropped

    def read(self, name: str) -> pl.DataFrame:
        """Reads back a file of this run."""
        data = self.lake.get(f"{self.folder}/{name}")
        if data is None:
            message = f"{self.lake.uri(self.folder)}/{name} vanished while it was being written."
            raise LakeError(message)
        return pl.read_parquet(io.BytesIO(data))

    def commit(self, details: Mapping[str, Any] | None = None) -> Commit:
        """Makes what was written the content of the table's day."""
        if self.files == 0:
            self.add(self.table.empty())
        return self.lake.commit_run(
            self.table.name,
            self.day,
            Commit(
                run=self.run,
                rows=self.rows,
                files=self.files,
                bytes=sum(self._sizes.values()),
                written_at=datetime.now(UTC).isoformat(timespec="seconds"),
                details=dict(details or {}),
            ),
        )

    def _write(self, name: str, rows: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        frame = self.table.cast(rows)
        if "date" in self.table.names:
            frame = frame.with_columns(pl.lit(self.day, dtype=pl.Date()).alias("date"))
        frame.write_parquet(buffer, compression="zstd")
        data = buffer.getvalue()
        self.lake.put(f"{self.folder}/{name}", data)
        self._sizes[name] = len(data)


def _method_in(rows: pl.DataFrame) -> str | None:
    """The method that made these scores; of several their names, joined."""
    found = sorted(rows["method"].drop_nulls().unique()) if "method" in rows.columns else []
    return " / ".join(found) or None


def new_run() -> str:
    """An id for a run folder that no other run has."""
    return uuid.uuid4().hex[:8]
