"""The lake's store: whole-partition writes behind a commit, and reads that go by it.

A write puts files into a folder of its own run and then replaces `_current.json`; only then is it
seen. The same code serves a local folder and S3. Which rows are written is not decided here.
"""

from __future__ import annotations

import glob
import io
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import obstore
import polars as pl
from obstore.store import LocalStore, from_url

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.schemas import SCHEMA_VERSION, Table


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

    def put(self, path: str, data: bytes) -> None:
        """Writes one object, all of it or nothing."""
        obstore.put(self._store, path, data)

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
        path = layout.commit_file(table, day)
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

    def scan(self, table: Table, days: date | Iterable[date]) -> pl.LazyFrame:
        """The committed rows of one or more days, with exactly the declared columns.

        Raises:
            LakeError: A day was never committed.
        """
        wanted = [days] if isinstance(days, date) else list(days)
        if not wanted:
            return table.empty().lazy()
        patterns = []
        for day in wanted:
            folder = layout.run_folder(table.name, day, self.require(table.name, day).run)
            patterns.append(f"{self.pattern_root}/{folder}/**/*.parquet")
        return pl.scan_parquet(
            patterns,
            schema=table.schema,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            storage_options=self.options or None,
        )

    def read(self, table: Table, days: date | Iterable[date]) -> pl.DataFrame:
        """`scan`, collected: for the small tables."""
        return self.scan(table, days).collect()

    def write(self, table: Table, day: date) -> PartitionWriter:
        """Begins to write a table's day; nothing is seen before `commit`."""
        return PartitionWriter(self, table, day)

    def replace(
        self, table: Table, day: date, rows: pl.DataFrame, details: Mapping[str, Any] | None = None
    ) -> Commit:
        """Writes a table's day from one frame and commits it."""
        writer = self.write(table, day)
        writer.add(rows)
        return writer.commit(details)

    def commit_run(self, table: str, day: date, commit: Commit) -> Commit:
        """Makes a run's files the content of a table's day, and deletes those of other runs."""
        self.put_json(layout.commit_file(table, day), asdict(commit))
        folders, _ = self.names(layout.partition(table, day))
        for folder in folders:
            if folder.startswith("run=") and folder != f"run={commit.run}":
                self.delete(f"{layout.partition(table, day)}/{folder}")
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


def new_run() -> str:
    """An id for a run folder that no other run has."""
    return uuid.uuid4().hex[:8]
