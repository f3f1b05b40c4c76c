"""Where things lie in the lake: pure functions from a table and a day to paths.

Paths are relative to the lake's root and use `/` on every store. Nothing here reads or writes.
"""

from __future__ import annotations

import re
from datetime import date

CATALOG = "posture.duckdb"
COMMIT = "_current.json"
KEPT = "_method="
OPEN = "_open.json"
POSITION = "_position.json"
PAGES_ENDING = ".ndjson.zst"


def partition(table: str, day: date) -> str:
    """Folder of a table's day.

    >>> partition("account_scores", date(2026, 11, 23))
    'account_scores/date=2026-11-23'
    """
    return f"{table}/date={day.isoformat()}"


def run_folder(table: str, day: date, run: str) -> str:
    """Folder of one run's files in a table's day."""
    return f"{partition(table, day)}/run={run}"


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
