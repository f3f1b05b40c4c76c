"""Raw finding pages: saved file by file with the position of each shard, so a kill loses little.

Bodies are kept exactly as received, one a line, 100 a zstd file. What they say is read elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from posture_pipeline.errors import DamagedError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.mending import mend_of
from posture_pipeline.lake.store import Commit, Lake, hash_of_files, new_run, unlike_stated
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.schemas import RAW_FINDING_PAGES

READ_BYTES = 2 << 20
"""Of a raw file, decompressed, taken at once; more if a page is larger."""


class RawPagesWriter:
    """Writes the raw pages of a day; goes on where an earlier, unfinished run stopped.

    It is a `model.collection.PageSink`. Each shard is written by one thread at a time. Should the
    earlier run be at work still, on another machine, it is the one that stops: it may hang, and a
    run that somebody started in its place must not wait for it.
    """

    def __init__(self, lake: Lake, day: date) -> None:
        self.lake = lake
        self.day = day
        self._open = f"{layout.partition(RAW_FINDING_PAGES, day)}/{layout.OPEN}"
        self._began_from = lake.commit_version(RAW_FINDING_PAGES, day)
        state = lake.get_json(self._open)
        committed = lake.commit_of(RAW_FINDING_PAGES, day)
        if state is not None and committed is not None and state.get("run") == committed.run:
            # Killed between the commit and the end of its marker: the run is finished, and
            # nothing may be changed in it any more.
            state = None
        self.began = state is not None
        """An earlier run of the day saved something that this one goes on from."""
        if state is None:
            state = {"run": new_run(), "began_at": datetime.now(UTC).isoformat()}
        self.run = str(state["run"])
        self._writer = new_run()
        lake.put_json(self._open, {**state, "writer": self._writer})
        self._buffers: dict[str, _PageBuffer] = {}
        self._hashes: dict[str, str] = {}
        """Of the files that this process wrote, by their path below the run."""

    def position(self, shard: str) -> ShardPosition | None:
        """The saved position of a shard; null when nothing of it was saved."""
        value = self.lake.get_json(f"{self._folder(shard)}/{layout.POSITION}")
        try:
            return None if value is None else ShardPosition(**value)
        except TypeError:
            # Of another version of the program: the shard begins anew, over the same files.
            return None

    def add(self, shard: str, body: bytes) -> None:
        """Takes a page into the shard's open file, compressed as it comes."""
        self._buffers.setdefault(shard, _PageBuffer()).add(body)

    def save(self, position: ShardPosition) -> None:
        """Writes the shard's open file, then its position: in this order a kill is harmless.

        Raises:
            LakeError: Another run goes on with the day; nothing was written.
        """
        self._ensure_nobody_else_writes()
        folder = self._folder(position.shard)
        buffer = self._buffers.pop(position.shard, None)
        if buffer is not None:
            data, name = buffer.finish(), layout.pages_file(position.files - 1)
            self.lake.put(f"{folder}/{name}", data)
            self._hashes[f"{layout.shard_folder(position.shard)}/{name}"] = _hash(data)
        self.lake.put_json(f"{folder}/{layout.POSITION}", asdict(position))

    def restart(self, shard: str) -> None:
        """Forgets everything of a shard.

        Raises:
            LakeError: Another run goes on with the day; nothing was deleted.
        """
        self._ensure_nobody_else_writes()
        self._buffers.pop(shard, None)
        self.lake.delete(self._folder(shard))

    def abandon(self) -> None:
        """Forgets everything of the day that was not committed.

        Raises:
            LakeError: Another run goes on with the day; nothing was deleted.
        """
        self._ensure_nobody_else_writes()
        self.lake.delete(layout.run_folder(RAW_FINDING_PAGES, self.day, self.run))
        self.lake.delete(self._open)

    def commit(
        self, shards: list[str], details: Mapping[str, Any], *, keep_replaced: bool = False
    ) -> Commit:
        """Makes the saved pages the day's raw pages.

        Args:
            shards: The shards of the collection; folders of others are not read.
            details: Facts to keep with the commit; `shards` is added to them.
            keep_replaced: Whether the pages that these replace can be restored, see
                `Lake.commit_run`.

        Raises:
            LakeError: Another run goes on with the day, or committed it.
        """
        self._ensure_nobody_else_writes()
        positions = [position for shard in shards if (position := self.position(shard))]
        run = layout.run_folder(RAW_FINDING_PAGES, self.day, self.run)
        sizes = {
            path.removeprefix(f"{run}/"): size
            for path, size in self.lake.sizes(run).items()
            if path.endswith(layout.PAGES_ENDING)
        }
        self.lake.put_json(f"{run}/{layout.FILES}", sizes)
        commit = self.lake.commit_run(
            RAW_FINDING_PAGES,
            self.day,
            Commit(
                run=self.run,
                rows=sum(position.findings for position in positions),
                files=sum(position.files for position in positions),
                bytes=sum(sizes.values()),
                written_at=datetime.now(UTC).isoformat(timespec="seconds"),
                sha256=self._hash_of(positions),
                details={
                    **details,
                    "shards": {
                        position.shard: {
                            "files": position.files,
                            "pages": position.pages,
                            "findings": position.findings,
                            "complete": position.complete,
                        }
                        for position in positions
                    },
                },
            ),
            self._began_from,
            keep_replaced=keep_replaced,
        )
        self.lake.delete(self._open)
        return commit

    def _ensure_nobody_else_writes(self) -> None:
        """Two that write the same files would leave pages of both, and neither's others.

        Raises:
            LakeError: Another run of the day began after this one.
        """
        state = self.lake.get_json(self._open)
        if state is None or state.get("writer") != self._writer:
            message = (
                f"Another run collects {self.day.isoformat()} since, and went on where this one "
                f"was ({self.lake.uri(self._open)}). This one stops here; nothing is lost."
            )
            raise LakeError(message)

    def _hash_of(self, positions: list[ShardPosition]) -> str:
        """Of all files of the run; those of a process that was killed are read once more."""
        run = layout.run_folder(RAW_FINDING_PAGES, self.day, self.run)
        hashes = {}
        for position in positions:
            for number in range(position.files):
                name = f"{layout.shard_folder(position.shard)}/{layout.pages_file(number)}"
                known = self._hashes.get(name)
                hashes[name] = known or _hash(self.lake.get(f"{run}/{name}") or b"")
        return hash_of_files(hashes)

    def _folder(self, shard: str) -> str:
        run = layout.run_folder(RAW_FINDING_PAGES, self.day, self.run)
        return f"{run}/{layout.shard_folder(shard)}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _PageBuffer:
    """Pages of one raw file, compressed as they come, so that ten open files stay small."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._stream = pa.CompressedOutputStream(self._sink, "zstd")

    def add(self, body: bytes) -> None:
        # A line break in JSON can only stand between tokens, where a blank says the same.
        self._stream.write(body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")

    def finish(self) -> bytes:
        self._stream.close()
        return bytes(self._sink.getvalue())


def raw_files(lake: Lake, day: date) -> Iterator[tuple[str, str, int]]:
    """The committed raw files of a day: (shard, path below the partition, pages before it).

    Raises:
        LakeError: The day was never collected.
        DamagedError: A file is not as it was committed.
    """
    from posture_pipeline.model.collection import PAGES_PER_FILE

    commit = lake.require(RAW_FINDING_PAGES, day)
    _ensure_as_committed(lake, day, commit)
    for shard, counts in commit.details["shards"].items():
        for number in range(counts["files"]):
            path = f"run={commit.run}/{layout.shard_folder(shard)}/{layout.pages_file(number)}"
            yield shard, path, number * PAGES_PER_FILE


def _ensure_as_committed(lake: Lake, day: date, commit: Commit) -> None:
    """A raw file that was cut off would give fewer findings, and no error.

    Raises:
        DamagedError: A file is not as it was committed.
    """
    run = layout.run_folder(RAW_FINDING_PAGES, day, commit.run)
    stated = lake.get_json(f"{run}/{layout.FILES}")
    found = {
        path.removeprefix(f"{run}/"): size
        for path, size in lake.sizes(run).items()
        if path.endswith(layout.PAGES_ENDING)
    }
    wrong = [f"{layout.FILES} is gone"] if stated is None else unlike_stated(found, stated)
    if wrong:
        message = f"{lake.uri(run)}/{wrong[0]}. To repair it: {mend_of(RAW_FINDING_PAGES, day)}."
        raise DamagedError(message)


def read_pages(lake: Lake, day: date, path: str) -> Iterator[bytes]:
    """The pages of one raw file, in order, a few in memory at a time.

    Raises:
        LakeError: The file is not there.
    """
    return map(bytes, views_of_pages(read_file(lake, day, path)))


def read_file(lake: Lake, day: date, path: str) -> bytes:
    """One raw file as it is stored, by its path as `raw_files` gives it.

    Raises:
        LakeError: The file is not there.
    """
    full = f"{layout.partition(RAW_FINDING_PAGES, day)}/{path}"
    data = lake.get(full)
    if data is None:
        message = f"{lake.uri(full)} is gone, though the day's commit names it; collect the day."
        raise LakeError(message)
    return data


def views_of_pages(data: bytes) -> Iterator[memoryview]:
    """The pages in a raw file, in order, each good until the next one is asked for.

    Each is decompressed into the place of the ones before it: fresh memory for every page takes a
    third longer than to decompress it.
    """
    stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
    buffer = bytearray(READ_BYTES)
    filled = 0
    while read := stream.readinto(memoryview(buffer)[filled:]):
        begin, look_from, filled = 0, filled, filled + read
        while (end := buffer.find(b"\n", look_from, filled)) >= 0:
            yield memoryview(buffer)[begin:end]
            begin = look_from = end + 1
        rest = buffer[begin:filled]
        filled = len(rest)
        if filled == len(buffer):
            buffer = bytearray(2 * filled)
        buffer[:filled] = rest
