"""Where things lie in the lake: pure functions from a table and a day to paths.

Paths are relative to the lake's root and use `/` on every store. Nothing here reads or writes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import date

CATALOG = "posture.duckdb"
COMMIT = "_current.json"
LOCK = ".commit.lock"
KEPT = "_method="
REPLACED = "_replaced="
MONTH = "month="
OPEN = "_open.json"
FILES = "_files.json"
POSITION = "_position.json"
PAGES_ENDING = ".ndjson.zst"
REPORT = "report"
EXPORTS = "exports"
MANIFESTS = "athena"

SLUG_LENGTH = 48
HASH_LENGTH = 8
"""Hexadecimal digits of the workload's hash, so that names that look alike stay apart."""


def partition(table: str, day: date) -> str:
    """Folder of a table's day.

    >>> partition("account_scores", date(2026, 11, 23))
    'account_scores/date=2026-11-23'
    """
    return f"{table}/date={day.isoformat()}"


def run_folder(table: str, day: date, run: str) -> str:
    """Folder of one run's files in a table's day."""
    return f"{partition(table, day)}/run={run}"


def month_folder(table: str, day: date) -> str:
    """Folder of the compacted days of a day's month.

    >>> month_folder("account_scores", date(2026, 11, 23))
    'account_scores/month=2026-11'
    """
    return f"{table}/{MONTH}{day.isoformat()[:7]}"


def month_run_folder(table: str, day: date, run: str) -> str:
    """Folder of one run's file in the month of a table's day."""
    return f"{month_folder(table, day)}/run={run}"


def commit_file(table: str, day: date) -> str:
    """The file whose content says which run's files are the table's day."""
    return f"{partition(table, day)}/{COMMIT}"


def kept_file(table: str, day: date, method: str) -> str:
    """The file whose content says which run's files are the table's day by an earlier method.

    >>> kept_file("account_scores", date(2026, 11, 23), "1, collect=failing")
    'account_scores/date=2026-11-23/_method=1-collect-failing.json'
    """
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", method).strip("-")
    return f"{partition(table, day)}/{KEPT}{slug}.json"


def replaced_file(table: str, day: date, run: str) -> str:
    """The file whose content is a commit that was replaced and can be restored.

    >>> replaced_file("raw_finding_pages", date(2026, 11, 23), "1a2b3c4d")
    'raw_finding_pages/date=2026-11-23/_replaced=1a2b3c4d.json'
    """
    return f"{partition(table, day)}/{REPLACED}{run}.json"


def part(number: int) -> str:
    """Name of a numbered parquet file.

    >>> part(7)
    'part-00007.parquet'
    """
    return f"part-{number:05d}.parquet"


def account_part(account_id: str) -> str:
    """Name of an account's findings file, below its hive folder."""
    return f"account_id={account_id}/findings.parquet"


def shard_folder(shard: str) -> str:
    """Folder of a shard's raw files, below the run."""
    return f"shard={shard}"


def pages_file(number: int) -> str:
    """Name of a raw file of up to 100 pages.

    >>> pages_file(0)
    'pages-00000.ndjson.zst'
    """
    return f"pages-{number:05d}{PAGES_ENDING}"


def day_of(name: str) -> date | None:
    """The day of a `date=...` folder name or path; null for anything else.

    >>> day_of("account_scores/date=2026-11-23")
    datetime.date(2026, 11, 23)
    >>> day_of("account_scores/notes") is None
    True
    """
    folder = name.rstrip("/").rsplit("/", 1)[-1]
    if not folder.startswith("date="):
        return None
    try:
        return date.fromisoformat(folder.removeprefix("date="))
    except ValueError:
        return None


def workload_slug(workload: str) -> str:
    """What the files of a workload are named by: letters, digits and hyphens of any name.

    >>> workload_slug("Payments & Co")
    'payments-co-6c9fa514'
    """
    plain = unicodedata.normalize("NFKD", workload).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_LENGTH].strip("-")
    short = hashlib.sha256(workload.encode()).hexdigest()[:HASH_LENGTH]
    return f"{slug}-{short}" if slug else short


def page_name(workload: str) -> str:
    """The file of a workload's report page, below `REPORT`.

    >>> page_name("Payments & Co")
    'workload-payments-co-6c9fa514.html'
    """
    return f"workload-{workload_slug(workload)}.html"


def exports_of(workload: str) -> str:
    """Folder of what is exported of a workload.

    >>> exports_of("Payments & Co")
    'exports/payments-co-6c9fa514'
    """
    return f"{EXPORTS}/{workload_slug(workload)}"


def manifest_file(table: str, day: date) -> str:
    """The file that names the files of a table's day, one a line; Athena reads it.

    >>> manifest_file("account_scores", date(2026, 11, 23))
    'athena/account_scores/day=2026-11-23/files.txt'
    """
    return f"{MANIFESTS}/{table}/day={day.isoformat()}/files.txt"
