"""A lake on S3 as DuckDB reads it: the files of the bucket under their own `s3://` names.

The views and macros of the catalog are the same for a folder and a bucket. Where DuckDB has its
extension httpfs, that reads them; everywhere else a filesystem of ours does, through the store of
the lake: the same ranges of the same files, with one listing and no extension to download.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import fsspec
from fsspec.utils import glob_translate

from posture_pipeline.errors import (
    CredentialsError,
    LakeError,
    PermissionMissingError,
    PostureError,
)
from posture_pipeline.lake import layout
from posture_pipeline.lake.bucket import Bucket, told
from posture_pipeline.lake.store import Lake

PROTOCOL = "s3"

SMALL_BYTES = 65_536
"""A file up to this size is read whole, and kept until the connection ends."""


def catalog_copy(lake: Lake, version: str | None = None) -> Path | None:
    """The catalog of a bucket as a local file, downloaded only where the newest is not there yet.

    Copies lie in the cache folder of the user: queries in a row cost one small request each.

    Args:
        lake: A lake on S3.
        version: What `Lake.version_of` gave; null: the newest.

    Returns:
        The file; null where the lake has no catalog yet.
    """
    version = version or lake.version_of(layout.CATALOG)
    if version is None:
        return None
    path = _place_of_copy(lake, version)
    if path.exists():
        return path
    found = lake.get_with_version(layout.CATALOG)
    return None if found is None else keep_copy(lake, found[1], found[0])


def keep_copy(lake: Lake, version: str, data: bytes) -> Path:
    """Makes this the local copy of the catalog of a bucket; those of older versions go."""
    path = _place_of_copy(lake, version)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{uuid.uuid4().hex}")
    new.write_bytes(data)
    new.replace(path)
    for other in path.parent.glob("*.duckdb"):
        if other != path:
            # Who reads it now keeps it open.
            other.unlink(missing_ok=True)
    return path


def _place_of_copy(lake: Lake, version: str) -> Path:
    endpoint = lake.bucket.endpoint_url if lake.bucket is not None else ""
    place = hashlib.sha256(f"{endpoint} {lake.root}".encode()).hexdigest()[:16]
    name = hashlib.sha256(version.encode()).hexdigest()[:16]
    return _cache_folder() / place / f"{name}.duckdb"


def _cache_folder() -> Path:
    """Where copies are kept; where there is no home to write to, for as long as we run."""
    if _kept:
        return Path(_kept[0].name)
    folder = Path.home() / ".cache" / "posture_pipeline"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        _kept.append(tempfile.TemporaryDirectory(prefix="posture-"))
        return Path(_kept[-1].name)


_kept: list[tempfile.TemporaryDirectory[str]] = []
"""The folder of copies, where it goes when the process ends."""


def told_by_lake(error: duckdb.Error) -> PostureError | None:
    """What of the lake kept DuckDB from an answer; null where it was the question."""
    kinds = "|".join(kind.__name__ for kind in _OURS)
    found = re.search(rf"\b({kinds}): ([^\n]+)", str(error))
    if found is None:
        # What was raised while a file was read, by its range.
        return told(OSError(str(error)))
    return next(kind for kind in _OURS if kind.__name__ == found[1])(found[2])


_OURS = (LakeError, PermissionMissingError, CredentialsError)


@contextmanager
def readable(connection: duckdb.DuckDBPyConnection, lake: Lake) -> Iterator[None]:
    """Lets a connection read the files of the lake while the block lasts.

    Args:
        connection: Of the catalog.
        lake: The lake; a folder is readable as it is.
    """
    if lake.bucket is None or _has_httpfs(connection, lake.bucket):
        yield
        return
    connection.register_filesystem(LakeFiles(lake))
    try:
        yield
    finally:
        connection.unregister_filesystem(PROTOCOL)


@contextmanager
def describable(connection: duckdb.DuckDBPyConnection, lake: Lake) -> Iterator[None]:
    """Lets a connection make views over the lake while the block lasts.

    DuckDB looks at the files of a view to make it. Those of one day tell it as much as those of
    every day, which would be a listing of the whole lake.
    """
    if lake.bucket is None:
        yield
        return
    connection.register_filesystem(LakeFiles(lake, newest_day=True))
    try:
        yield
    finally:
        connection.unregister_filesystem(PROTOCOL)


def _has_httpfs(connection: duckdb.DuckDBPyConnection, bucket: Bucket) -> bool:
    """Loads httpfs, with the credentials of the lake; false where it is not installed."""
    try:
        connection.execute("LOAD httpfs")
    except duckdb.Error:
        return False
    found = bucket.credentials()
    host = bucket.endpoint_url.split("://", 1)[1].rstrip("/")
    options = {
        "KEY_ID": found.access_key,
        "SECRET": found.secret_key,
        "SESSION_TOKEN": found.token or "",
        "REGION": bucket.region,
        "ENDPOINT": host,
        "URL_STYLE": "path",
    }
    quoted = {name: value.replace("'", "''") for name, value in options.items()}
    words = ", ".join(f"{name} '{value}'" for name, value in quoted.items())
    ssl = "false" if bucket.is_plain else "true"
    connection.execute(f"CREATE OR REPLACE SECRET lake (TYPE s3, {words}, USE_SSL {ssl})")
    connection.execute(f"SET http_retries = {bucket.retries}")
    return True


class LakeFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The files of a lake, for DuckDB alone: names by pattern, and bytes by range.

    What was listed or read once holds for as long as the object lives, so that a query sees one
    state of the lake, and asks for nothing twice.

    Args:
        lake: The lake.
        newest_day: Whether `date=*` means the newest committed day only, and `month=*` none.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(self, lake: Lake, *, newest_day: bool = False) -> None:
        super().__init__()
        self.lake = lake
        self.newest_day = newest_day
        self._listed: dict[str, dict[str, int]] = {}
        self._sizes: dict[str, int] = {}
        self._small: dict[str, bytes] = {}

    def glob(self, path: str, **_: object) -> list[str]:
        """The files that match a pattern. One listing of what is below its first wildcard."""
        pattern = self._inside(path)
        if self.newest_day and "/month=*/" in pattern:
            return []
        if self.newest_day and "/date=*/" in pattern:
            day = self.lake.last_day(pattern.split("/", 1)[0])
            if day is None:
                return []
            pattern = pattern.replace("date=*", f"date={day.isoformat()}", 1)
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        if prefix not in self._listed:
            self._listed[prefix] = self.lake.sizes(prefix)
            self._sizes |= self._listed[prefix]
        matches = re.compile(glob_translate(pattern)).match
        found = sorted(name for name in self._listed[prefix] if matches(name))
        if pattern.endswith(f"/{layout.COMMIT}"):
            self.lake.at_once(self._whole, found)
        return [self.lake.uri(name) for name in found]

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """The size of a file, as DuckDB asks for it."""
        return {"name": path, "size": self._size(self._inside(path)), "type": "file"}

    def exists(self, path: str, **_: object) -> bool:
        """Whether the file is there."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def modified(self, path: str) -> datetime:  # noqa: ARG002 - of the base class
        """Nothing changes while a connection reads."""
        return datetime.fromtimestamp(0, tz=UTC)

    def open(self, path: str, mode: str = "rb", **_: object) -> Any:  # noqa: ANN401 - a file
        """A file for reading.

        Raises:
            PermissionError: It is to be written: through the catalog nothing is.
        """
        if mode != "rb":
            message = f"{path} is part of the lake, which is read only here."
            raise PermissionError(message)
        name = self._inside(path)
        size = self._size(name)
        if size <= SMALL_BYTES:
            return io.BytesIO(self._whole(name))
        return self.lake.open_reader(name, size=size)

    def _inside(self, path: str) -> str:
        root = f"{self.lake.root}/"
        if not path.startswith(root):
            message = f"{path} is outside the lake {self.lake.root}, which alone can be read here."
            raise PermissionError(message)
        return path.removeprefix(root)

    def _size(self, name: str) -> int:
        if name not in self._sizes:
            self._sizes[name] = len(self._whole(name))
        return self._sizes[name]

    def _whole(self, name: str) -> bytes:
        if name not in self._small:
            data = self.lake.get(name)
            if data is None:
                raise FileNotFoundError(name)
            self._small[name] = data
        return self._small[name]
