"""Files of any packing, opened: what is in them as text, or one sentence that names what they are.

Compressed files are unpacked, and archives member by member, one in memory at a time. Nothing here
knows what a finding is.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from posture_pipeline.errors import InputError

_LAYERS = 4
"""Packings around each other that are undone: a gzip file in a tar file in a zip file."""

_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_TAR_AT, _TAR = 257, b"ustar"
_ENCRYPTED = 1
"""Bit of a zip member's flags."""


def _zstd(data: bytes) -> bytes:
    return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())


_COMPRESSED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\x00", lzma.decompress),
)

_NOT_READ = (
    (b"PAR1", "is a parquet file, as Security Lake writes them; parquet is not read yet"),
    (b"Obj\x01", "is an Avro file; export the findings as JSON"),
    (b"ORC", "is an ORC file; export the findings as JSON"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z file; unpack it"),
    (b"Rar!", "is a RAR file; unpack it"),
    (b"\x04\x22\x4d\x18", "is an LZ4 file; unpack it"),
    (b"\xff\x06\x00\x00sNaPpY", "is a Snappy file; unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an Office document; export the findings as JSON"),
    (b"%PDF", "is a PDF file; export the findings as JSON"),
    (b"SQLite format 3\x00", "is an SQLite database; export the findings as JSON"),
)
"""How files begin that are something else, and what they are."""

_UNMARKED = (("utf-16-le", (b"{\x00", b"[\x00")), ("utf-16-be", (b"\x00{", b"\x00[")))
"""How JSON begins in UTF-16 without its mark."""

_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


@dataclass(frozen=True, slots=True)
class Refused:
    """What a file is, where it cannot be read: the rest of a sentence that begins with its name."""

    reason: str


def contents(path: Path) -> Iterator[tuple[str, bytes | Refused]]:
    """What is in a file: the file itself, or the members of an archive, each as UTF-8.

    Args:
        path: The file.

    Yields:
        The name (of a member: the archive's and its own) and the bytes, or why they are not read.

    Raises:
        InputError: The file cannot be read, or is damaged.
    """
    try:
        yield from _unpacked(str(path), path.read_bytes(), _LAYERS)
    except _DAMAGED as error:
        message = f"{path} cannot be read: {error}. Is it complete?"
        raise InputError(message) from error


def _unpacked(name: str, data: bytes, layers: int) -> Iterator[tuple[str, bytes | Refused]]:
    for magic, unpack in _COMPRESSED:
        if data.startswith(magic) and layers:
            yield from _unpacked(name, unpack(data), layers - 1)
            return
    if data.startswith((_ZIP, _EMPTY_ZIP)) and layers:
        yield from _of_zip(name, data, layers - 1)
    elif data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR and layers:
        yield from _of_tar(name, data, layers - 1)
    else:
        refused = next((why for magic, why in _NOT_READ if data.startswith(magic)), None)
        yield name, _as_utf8(data) if refused is None else Refused(refused)


def _of_zip(name: str, data: bytes, layers: int) -> Iterator[tuple[str, bytes | Refused]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [each for each in archive.infolist() if not each.is_dir()]
        if any(each.filename == "[Content_Types].xml" for each in members):
            yield name, Refused("is an Office document; export the findings as JSON")
            return
        for member in members:
            inner = f"{name}/{member.filename}"
            if member.flag_bits & _ENCRYPTED:
                yield inner, Refused("is encrypted; unpack it with its password")
            elif not is_hidden(Path(member.filename)):
                yield from _unpacked(inner, archive.read(member), layers)


def _of_tar(name: str, data: bytes, layers: int) -> Iterator[tuple[str, bytes | Refused]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and not is_hidden(Path(member.name)):
                yield from _unpacked(f"{name}/{member.name}", file.read(), layers)


def is_hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, is one that programs keep for themselves."""
    return any(
        part.startswith((".", "__MACOSX")) and part not in {".", ".."} for part in path.parts
    )


def _as_utf8(data: bytes) -> bytes:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").encode()
    for encoding, starts in _UNMARKED:
        if data.startswith(starts):
            return data.decode(encoding, errors="replace").encode()
    return data.removeprefix(codecs.BOM_UTF8)
