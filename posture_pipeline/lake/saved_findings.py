"""Saved findings as the raw pages of a day: looked through first, so that an import loses nothing.

Files are opened in `saved_files`, their records found in `saved_records`. A file that holds no
findings is left out and named; a record that cannot be read goes on as it is, so that the merge
sets it aside with its reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path

import polars as pl

from posture_pipeline.errors import InputError
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.saved_files import Refused, contents, is_hidden
from posture_pipeline.lake.saved_records import NoFindingsError, records
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.asff import parse_pages
from posture_pipeline.model.collection import PAGES_PER_FILE, ShardPosition
from posture_pipeline.schemas import ACCOUNT_FINDINGS, MERGED_FINDINGS, RAW_FINDING_PAGES

FINDINGS_PER_PAGE = 100

SHARD = "import"

LEAST_SHARE = 0.5
"""An import with fewer findings than this share of the stored day's counts as far fewer."""


_DATE = re.compile(r"(?<!\d)(?:year=)?(20\d\d)[-_./]?(?:month=)?(\d\d)[-_./]?(?:day=)?(\d\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file of findings that was looked through.

    Attributes:
        path: Where it is.
        records: Its records: findings, and what cannot be read as one.
        unreadable: Records that cannot be read.
        reason: Why the first of these cannot.
        keys: Hashes of the findings' identities, so that copies in several files count once.
        newest: The last time at which one of the findings was updated; null: none says.
        standards: Standards that findings count for, as the settings name them.
    """

    path: Path
    records: int
    unreadable: int
    reason: str | None
    keys: pl.Series
    newest: datetime | None
    standards: frozenset[str]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in the files and folders of an import.

    Attributes:
        files: The files that hold findings, or an empty reply.
        left_out: The other files, and members of archives, each with what it is.
    """

    files: tuple[SavedFile, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def paths(self) -> list[Path]:
        """The files to import."""
        return [file.path for file in self.files]

    @property
    def standards(self) -> list[str]:
        """The standards that the findings count for, as the settings name them, sorted."""
        return sorted(frozenset[str]().union(*(file.standards for file in self.files)))


def look_through(paths: Sequence[Path], *, without: Path | None = None) -> Survey:
    """Reads files, and every file in folders, and says what is in them.

    Hidden files and folders are not looked at.

    Args:
        paths: Files and folders.
        without: A folder that is passed over where it lies in one of these: the lake.

    Raises:
        InputError: A path is not there, a file is damaged, a file that was named holds no
            findings, or there is nothing to import.
    """
    files: list[SavedFile] = []
    left_out: list[tuple[str, str]] = []
    for path in paths:
        if path.is_dir():
            found = _files_in(path, without)
        elif path.is_file():
            found = [path]
        else:
            message = f"There is no file or folder {path} to import."
            raise InputError(message)
        for each in found:
            refused: list[tuple[str, str]] = []
            file = _look_into(each, refused)
            if file is not None:
                files.append(file)
            elif not path.is_dir():
                name, reason = refused[0] if refused else (str(each), "is empty")
                message = f"{name} {reason}."
                raise InputError(message)
            left_out += refused
    if not files:
        why = "; ".join(f"{name} {reason}" for name, reason in left_out[:5])
        names = ", ".join(map(str, paths))
        message = f"There is nothing to import in {names}: {why or 'it holds no files'}."
        raise InputError(message)
    return Survey(tuple(files), tuple(left_out))


def _files_in(folder: Path, without: Path | None) -> list[Path]:
    inside = None if without is None else without.resolve()
    return sorted(
        each
        for each in folder.rglob("*")
        if each.is_file()
        and not is_hidden(each.relative_to(folder))
        and (inside is None or not each.resolve().is_relative_to(inside))
    )


def _look_into(path: Path, refused: list[tuple[str, str]]) -> SavedFile | None:
    """What is in a file; null if it has to be left out, for the reasons that are then known."""
    before = len(refused)
    pages = _pages([path], refused)
    numbered = enumerate(page for _, page in pages)
    standards: set[str] = set()
    keys = [pl.Series(dtype=pl.UInt64)]
    newest: list[datetime] = []
    count, reason, read = 0, None, 0
    while some := list(islice(numbered, PAGES_PER_FILE)):
        parsed = parse_pages(some, day=date.min, shard=SHARD)
        findings = parsed.findings
        count += parsed.records
        read += findings.height
        if reason is None and parsed.quarantine.height:
            reason = str(parsed.quarantine["reason"][0])
        for joined in findings["standards"].drop_nulls().unique():
            standards.update(each.split("/", 1)[1] for each in joined.split() if "/" in each)
        identity = pl.struct(pl.col("product_arn").fill_null(""), "finding_id")
        keys.append(findings.select(identity.hash(seed=0)).to_series().unique())
        if isinstance(updated := findings["updated_at"].max(), datetime):
            newest.append(updated)
    if not count and len(refused) > before:
        return None
    return SavedFile(
        path=path,
        records=count,
        unreadable=count - read,
        reason=reason,
        keys=pl.concat(keys).unique(),
        newest=max(newest, default=None),
        standards=frozenset(standards),
    )


def by_day(survey: Survey) -> dict[date, tuple[SavedFile, ...]]:
    """The files of a survey by the day whose snapshot they are, oldest first.

    A file is an export of one moment, and never split: a finding that was last updated weeks ago
    is as much a part of it as one of the same day. Its day is the last date in its path; where
    there is none, the UTC day on which the newest of its findings was updated.

    Raises:
        InputError: A file has neither.
    """
    days: dict[date, list[SavedFile]] = {}
    for file in survey.files:
        day = date_in_path(file.path) or (file.newest.date() if file.newest else None)
        if day is None:
            message = (
                f"{file.path} does not say of which day it is: its path has no date, and its "
                "findings no time. Put it into a folder such as 2026-11-20, or use --date."
            )
            raise InputError(message)
        days.setdefault(day, []).append(file)
    return {day: tuple(days[day]) for day in sorted(days)}


def date_in_path(path: Path) -> date | None:
    """The last date in a path, as exports and Firehose write it.

    >>> date_in_path(Path("exports/2026-11-20/findings.json"))
    datetime.date(2026, 11, 20)
    >>> date_in_path(Path("year=2026/month=11/day=20/x.gz"))
    datetime.date(2026, 11, 20)
    >>> date_in_path(Path("findings-20261120.json")) == date_in_path(Path("2026/11/20/05/a"))
    True
    >>> date_in_path(Path("111122223333/findings.json")) is None
    True
    """
    for found in reversed(list(_DATE.finditer(path.as_posix()))):
        year, month, day = map(int, found.groups())
        with suppress(ValueError):
            return date(year, month, day)
    return None


def ensure_enough_is_readable(files: Sequence[SavedFile], limit: float) -> None:
    """Refuses an import that the run would stop at, before it takes the place of anything.

    Args:
        files: What would be imported as one day.
        limit: The share of records that may be unreadable.

    Raises:
        InputError: More cannot be read.
    """
    count = sum(file.records for file in files)
    unreadable = sum(file.unreadable for file in files)
    if unreadable <= limit * count:
        return
    worst = max(files, key=lambda file: file.unreadable)
    message = (
        f"{unreadable:,} of {count:,} records cannot be read as a finding, most of them in "
        f"{worst.path} (the first {worst.reason}), so nothing was imported. Repair the file, or "
        f"allow more than {limit:.1%} (settings: checks.quarantine_share)."
    )
    raise InputError(message)


def ensure_nothing_is_lost(lake: Lake, day: date, files: Sequence[SavedFile]) -> None:
    """Refuses an import that would replace a better day, or has nothing that can be read.

    Args:
        lake: Where the day may be.
        day: The day.
        files: What would be imported.

    Raises:
        InputError: None of the records can be read; or the stored day was collected from AWS; or
            it has far more findings.
    """
    count = sum(file.records for file in files)
    if count and count == sum(file.unreadable for file in files):
        reason = next(file.reason for file in files if file.reason)
        message = (
            f"None of the {count:,} records can be read as a finding (the first one {reason}), so "
            "nothing was imported. With --replace they are imported all the same."
        )
        raise InputError(message)
    tables = (MERGED_FINDINGS.name, ACCOUNT_FINDINGS.name, RAW_FINDING_PAGES)
    commits = [commit for each in tables if (commit := lake.last_commit_of(each, day))]
    if not commits:
        return
    if any(commit.details.get("source") == "aws" for commit in commits):
        message = (
            f"The lake {lake.root} has findings of {day.isoformat()} that were collected from AWS, "
            "so nothing was imported. With --replace the import takes their place."
        )
        raise InputError(message)
    stored = commits[0].rows
    found = pl.concat([pl.Series(dtype=pl.UInt64), *(file.keys for file in files)]).n_unique()
    if found < LEAST_SHARE * stored:
        message = (
            f"The files hold {found:,} findings, and the lake {lake.root} has {stored:,} of "
            f"{day.isoformat()}, so nothing was imported. With --replace the import takes their "
            "place."
        )
        raise InputError(message)


def import_files(lake: Lake, day: date, files: Sequence[Path], *, collected_at: str) -> Commit:
    """Makes saved findings the raw pages of a day.

    Args:
        lake: Where the pages go.
        day: The day whose snapshot they are.
        files: The `paths` of a survey.
        collected_at: ISO 8601 time that the snapshot is true of.

    Raises:
        InputError: A file cannot be read; the day is as it was.
    """
    writer = RawPagesWriter(lake, day)
    try:
        writer.restart(SHARD)
        position = ShardPosition(shard=SHARD, query="import")
        for number, (count, page) in enumerate(_pages(files, [])):
            if number % PAGES_PER_FILE == 0 and number:
                writer.save(position)
            writer.add(SHARD, page)
            position = replace(
                position,
                files=number // PAGES_PER_FILE + 1,
                pages=number + 1,
                findings=position.findings + count,
            )
        writer.save(replace(position, complete=True))
    except InputError:
        if not writer.began:
            writer.abandon()
        raise
    return writer.commit(
        [SHARD],
        {
            "collected_at": collected_at,
            "collect": "all",
            "source": "import",
            "imported": len(files),
            "files_hash": hash_of(files),
        },
    )


def hash_of(files: Sequence[Path]) -> str:
    """One hash for what is in some files, whatever their names and order."""
    hashes = []
    for path in files:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _pages(files: Sequence[Path], refused: list[tuple[str, str]]) -> Iterator[tuple[int, bytes]]:
    """Pages of up to 100 records of one file, each with its number of records.

    Args:
        files: The files.
        refused: What holds no findings, with what it is; grows.
    """
    for path in files:
        for name, content in contents(path):
            if isinstance(content, Refused):
                refused.append((name, content.reason))
                continue
            try:
                yield from _pages_of(name, content)
            except NoFindingsError as error:
                refused.append((name, str(error)))


def _pages_of(name: str, content: bytes) -> Iterator[tuple[int, bytes]]:
    source = json.dumps(name).encode()
    page: list[bytes] = []
    for record in records(content):
        if not record.is_json:
            yield 1, record.data
            continue
        page.append(record.data)
        if len(page) == FINDINGS_PER_PAGE:
            yield len(page), _page(page, source)
            page = []
    if page:
        yield len(page), _page(page, source)


def _page(page: list[bytes], source: bytes) -> bytes:
    return b'{"Source":' + source + b',"Findings":[' + b",".join(page) + b"]}"
