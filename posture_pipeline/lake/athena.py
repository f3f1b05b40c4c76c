"""The manifests that Athena reads the lake by: for each table's day the files that count.

The tables that are defined over them stand in `model/athena.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import TABLES, Table


def write_manifests(lake: Lake, days: Iterable[date], *, tables: Sequence[Table] = TABLES) -> int:
    """Writes the manifests of tables for some days; of a day that is not there none stays.

    To be called whenever the commits of these days have changed, before the files that they counted
    before are deleted: Athena fails on a file that a manifest names and that is gone.

    Returns:
        How many manifests there are of these days.
    """
    wanted = [(table, day) for day in days for table in tables]
    return sum(lake.at_once(lambda each: _write_manifest(lake, *each), wanted))


def write_all_manifests(lake: Lake) -> int:
    """Writes the manifests of every stored day; returns how many there are."""
    folders = [name for table in TABLES for name in lake.names(table.name)[0]]
    return write_manifests(lake, sorted({day for each in folders if (day := layout.day_of(each))}))


def files_of(lake: Lake, table: Table, day: date) -> list[str]:
    """The full paths of the files that a table's day is read from; none if it is not there."""
    commit = lake.commit_of(table.name, day)
    if commit is None:
        return []
    folder = (
        layout.run_folder(table.name, day, commit.run)
        if commit.month_run is None
        else layout.month_run_folder(table.name, day, commit.month_run)
    )
    return [lake.uri(path) for path in sorted(lake.sizes(folder)) if path.endswith(".parquet")]


def _write_manifest(lake: Lake, table: Table, day: date) -> bool:
    path = layout.manifest_file(table.name, day)
    files = files_of(lake, table, day)
    if files:
        lake.put(path, "".join(f"{each}\n" for each in files).encode())
    else:
        lake.delete(path)
    return bool(files)
