"""Findings that people saved: files of several shapes read into pages, nothing lost.

Accepted are the output of `aws securityhub get-findings`, a bare JSON array, NDJSON, and
EventBridge events that wrap findings in `detail.findings`; plain, gzip or zstd; UTF-8, or UTF-16
with its mark as Windows PowerShell saves it. What cannot be taken apart goes on as a page as it is,
so that the merge sets it aside with its reason.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from posture_pipeline.errors import InputError
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.asff import parse_pages
from posture_pipeline.model.collection import PAGES_PER_FILE, ShardPosition

FINDINGS_PER_PAGE = 100

SHARD = "import"

_ENDINGS = (".json", ".ndjson", ".jsonl", ".json.gz", ".ndjson.gz", ".jsonl.gz", ".json.zst",
            ".ndjson.zst", ".jsonl.zst")  # fmt: skip

_UNREADABLE = b"\x00"

_NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, no UTF-8, or nested too deeply."""


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files to import: those named, and in folders every file that looks like JSON.

    Raises:
        InputError: A path is not there, or there is nothing to import.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                each
                for each in path.rglob("*")
                if each.is_file() and each.name.lower().endswith(_ENDINGS)
            )
        elif path.is_file():
            found.append(path)
        else:
            message = f"There is no file or folder {path} to import."
            raise InputError(message)
    if not found:
        names = ", ".join(str(path) for path in paths)
        message = f"There is nothing to import in {names}: no file ends in .json, .ndjson or .jsonl"
        raise InputError(message + " (or these with .gz or .zst).")
    return found


def import_files(lake: Lake, day: date, files: Sequence[Path], *, collected_at: str) -> Commit:
    """Makes saved findings the raw pages of a day.

    Args:
        lake: Where the pages go.
        day: The day whose snapshot they are.
        files: What `find_files` gave.
        collected_at: ISO 8601 time that the snapshot is true of.

    Raises:
        InputError: A file cannot be read.
    """
    writer = RawPagesWriter(lake, day)
    writer.restart(SHARD)
    position = ShardPosition(shard=SHARD, query="import")
    for number, (records, page) in enumerate(_pages(files)):
        if number % PAGES_PER_FILE == 0 and number:
            writer.save(position)
        writer.add(SHARD, page)
        position = replace(
            position,
            files=number // PAGES_PER_FILE + 1,
            pages=number + 1,
            findings=position.findings + records,
        )
    writer.save(replace(position, complete=True))
    return writer.commit(
        [SHARD],
        {
            "collected_at": collected_at,
            "collect": "all",
            "source": "import",
            "imported": len(files),
        },
    )


def standards_in(files: Sequence[Path]) -> list[str]:
    """The standards that saved findings count for, as the settings name them, sorted.

    Raises:
        InputError: A file cannot be read.
    """
    standards: set[str] = set()
    numbered = enumerate(page for _, page in _pages(files))
    while pages := list(islice(numbered, PAGES_PER_FILE)):
        parsed = parse_pages(pages, day=date.min, shard=SHARD)
        for joined in parsed.findings["standards"].drop_nulls().unique():
            standards.update(each.split("/", 1)[1] for each in joined.split() if "/" in each)
    return sorted(standards)


def _pages(files: Sequence[Path]) -> Iterator[tuple[int, bytes]]:
    """Pages of up to 100 records of one file, each with its number of records."""
    for path in files:
        source = json.dumps(str(path)).encode()
        page: list[bytes] = []
        for record in _records(path):
            if record.startswith(_UNREADABLE):
                yield 1, record[1:]
                continue
            page.append(record)
            if len(page) == FINDINGS_PER_PAGE:
                yield len(page), _page(page, source)
                page = []
        if page:
            yield len(page), _page(page, source)


def _page(records: list[bytes], source: bytes) -> bytes:
    return b'{"Source":' + source + b',"Findings":[' + b",".join(records) + b"]}"


def _records(path: Path) -> Iterator[bytes]:
    """The records of a file as JSON bytes; what is no JSON comes marked, as it is."""
    data = _read(path)
    if not data.strip():
        return
    try:
        _as_anything.decode(data)
    except _NO_JSON:
        yield from _several_values(data)
    else:
        yield from _unwrap(data)


def _several_values(data: bytes) -> Iterator[bytes]:
    """NDJSON, and files in which JSON values follow each other over several lines."""
    decoder = json.JSONDecoder()
    text = data.decode("utf-8", errors="surrogateescape")
    at, end = 0, len(text)
    while at < end:
        while at < end and text[at] in " \t\r\n,\ufeff":
            at += 1
        if at == end:
            return
        try:
            value, after = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            # Nothing readable starts here: this line is set aside, the next may be readable.
            after = text.find("\n", at)
            after = end if after < 0 else after
            yield _UNREADABLE + text[at:after].encode("utf-8", errors="surrogateescape")
        else:
            yield from _records_of_value(
                value, text[at:after].encode("utf-8", errors="surrogateescape")
            )
        at = after


def _records_of_value(value: Any, data: bytes) -> Iterator[bytes]:  # noqa: ANN401 - any JSON
    """The records inside a value that Python's parser read from these bytes."""
    try:
        _as_anything.decode(data)
    except RecursionError:
        yield _UNREADABLE + data
        return
    except _NO_JSON:
        pass
    else:
        yield from _unwrap(data)
        return
    # NaN, half characters, invalid UTF-8: the merge can read a finding around these.
    try:
        inner = _unwrap_read(value)
        records = [data] if inner is None else [json.dumps(each).encode() for each in inner]
    except RecursionError:
        records = [_UNREADABLE + data]
    yield from records


def _unwrap_read(value: Any) -> list[Any] | None:  # noqa: ANN401 - any JSON
    """`_unwrap` for a value that has been read; null when it is itself the record."""
    if isinstance(value, list):
        records = []
        for each in value:
            inner = _unwrap_read(each)
            records += [each] if inner is None else inner
        return records
    if isinstance(value, dict):
        detail = value.get("detail")
        in_detail = detail.get("findings") if isinstance(detail, dict) else None
        for findings in (value.get("Findings"), in_detail):
            if isinstance(findings, list):
                return findings
    return None


class _Detail(msgspec.Struct):
    findings: list[msgspec.Raw] | None = None


class _Wrapped(msgspec.Struct):
    Findings: list[msgspec.Raw] | None = None
    detail: _Detail | None = None


_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_wrapped = msgspec.json.Decoder(_Wrapped)
_as_anything = msgspec.json.Decoder()


def _unwrap(value: bytes) -> Iterator[bytes]:
    """The records inside a JSON value: a list, a reply, an event, or the value itself."""
    waiting = [msgspec.Raw(value)]
    while waiting:
        data = bytes(waiting.pop())
        start = data.lstrip()[:1]
        if start == b"[":
            waiting.extend(reversed(_as_list.decode(data)))
            continue
        inner = _wrapped_findings(data) if start == b"{" else None
        if inner is None:
            yield data
        else:
            yield from map(bytes, inner)


def _wrapped_findings(data: bytes) -> list[msgspec.Raw] | None:
    """The findings inside a reply or an event; null for any other object."""
    try:
        wrapped = _as_wrapped.decode(data)
    except msgspec.ValidationError:
        return None
    if wrapped.Findings is None and wrapped.detail is not None:
        return wrapped.detail.findings
    return wrapped.Findings


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        elif data.startswith(b"\x28\xb5\x2f\xfd"):
            data = bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())
    except (OSError, EOFError, zlib.error) as error:
        message = f"{path} cannot be read: {error}. Is it complete?"
        raise InputError(message) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").encode()
    return data.removeprefix(codecs.BOM_UTF8)
