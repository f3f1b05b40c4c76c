"""Building and querying the catalog file. Which rows it holds is decided by the score tables."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from pathlib import Path

import duckdb
import polars as pl

from posture_pipeline.errors import InputError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
    Table,
)

CATALOG_VERSION = 1
"""Raised when the catalog's own tables change; an older file is then rebuilt from the lake."""

DAILY_TABLES = (
    ACCOUNT_SCORES,
    WORKLOAD_SCORES,
    ORGANIZATION_SCORES,
    ORGANIZATION_ACCOUNTS,
    EXPECTED_CONTROLS,
)
"""Kept in the catalog as they are, every day of them."""

_SQL_TYPES: dict[type[pl.DataType], str] = {
    pl.String: "VARCHAR",
    pl.Date: "DATE",
    pl.Datetime: "TIMESTAMP WITH TIME ZONE",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.Binary: "BLOB",
}


def publish_day(lake: Lake, day: date) -> Path:
    """Brings one day of the lake into the catalog, replacing what the catalog had of that day.

    The file is built beside the old one and swapped in by one rename: readers are never locked
    out and never see half. Where there is no catalog yet, or one of another version, it is
    built anew from every day of the lake.

    Returns:
        The path of the catalog, for a lake on S3 of the local copy that was uploaded.
    """
    with _new_file(lake) as path, duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if _version(connection) == CATALOG_VERSION:
            _put_day(connection, lake, day)
        else:
            _create(connection)
            for each in lake.days(ORGANIZATION_SCORES.name):
                _put_day(connection, lake, each)
        _create_views(connection, lake)
    return Path(lake.root, layout.CATALOG) if lake.is_local else path


def rebuild(lake: Lake) -> None:
    """Builds the catalog anew from every day of the lake."""
    lake.delete(layout.CATALOG)
    days = lake.days(ORGANIZATION_SCORES.name)
    if days:
        publish_day(lake, days[-1])


@contextmanager
def open_catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the catalog.

    Raises:
        LakeError: There is no catalog yet.
    """
    path = Path(lake.root, layout.CATALOG) if lake.is_local else None
    if path is None:
        data = lake.get(layout.CATALOG)
        if data is not None:
            path = Path(tempfile.mkdtemp(), layout.CATALOG)
            path.write_bytes(data)
    if path is None or not path.exists():
        message = (
            f"There is no catalog in the lake {lake.root} yet. "
            f"Run a day first (posture run, posture import or posture demo)."
        )
        raise LakeError(message)
    connection = duckdb.connect(str(path), read_only=True)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def query(lake: Lake, sql: str) -> pl.DataFrame:
    """Answers one SQL question over the catalog, read-only.

    Raises:
        LakeError: There is no catalog yet.
        InputError: DuckDB refuses the SQL; the text is DuckDB's.
    """
    with open_catalog(lake) as connection:
        try:
            relation = connection.sql(sql)
            rows: pl.DataFrame = pl.DataFrame() if relation is None else relation.pl()
        except duckdb.Error as error:
            message = f"The query was refused: {error}"
            raise InputError(message) from error
    return rows


@contextmanager
def _new_file(lake: Lake) -> Iterator[Path]:
    """A copy of the catalog to change; it becomes the catalog when the block ends well."""
    folder = Path(lake.root) if lake.is_local else Path(tempfile.mkdtemp())
    path = folder / f".{layout.CATALOG}.{os.getpid()}.new"
    try:
        if lake.is_local:
            current = folder / layout.CATALOG
            if current.exists():
                shutil.copyfile(current, path)
        elif (data := lake.get(layout.CATALOG)) is not None:
            path.write_bytes(data)
        yield path
        if lake.is_local:
            path.replace(folder / layout.CATALOG)
        else:
            lake.put(layout.CATALOG, path.read_bytes())
    finally:
        if lake.is_local:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".wal").unlink(missing_ok=True)


def _version(connection: duckdb.DuckDBPyConnection) -> int | None:
    try:
        row = connection.execute("SELECT version FROM catalog_version").fetchone()
    except duckdb.Error:
        return None
    return None if row is None else int(row[0])


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for kind, name in connection.execute(
        "SELECT CASE table_type WHEN 'VIEW' THEN 'VIEW' ELSE 'TABLE' END, table_name "
        "FROM information_schema.tables ORDER BY 1 DESC"
    ).fetchall():
        connection.execute(f'DROP {kind} "{name}"')
    for table in DAILY_TABLES:
        connection.execute(f"CREATE TABLE {table.name} ({_columns(table)})")
        for column in table.columns:
            comment = column.meaning.replace("'", "''")
            connection.execute(f"COMMENT ON COLUMN {table.name}.{column.name} IS '{comment}'")
    connection.execute(
        "CREATE TABLE control_status_periods (report VARCHAR, report_kind VARCHAR, "
        "account_id VARCHAR, control_id VARCHAR, severity VARCHAR, status VARCHAR, "
        "basis VARCHAR, valid_from DATE, valid_to DATE)"
    )
    connection.execute("CREATE TABLE observed_days (date DATE)")
    connection.execute(f"CREATE TABLE catalog_version AS SELECT {CATALOG_VERSION} AS version")


def _columns(table: Table) -> str:
    return ", ".join(f"{c.name} {_SQL_TYPES[c.dtype.base_type()]}" for c in table.columns)


def _put_day(connection: duckdb.DuckDBPyConnection, lake: Lake, day: date) -> None:
    for table in DAILY_TABLES:
        connection.execute(f"DELETE FROM {table.name} WHERE date = ?", [day])  # noqa: S608
        if lake.commit_of(table.name, day) is not None:
            connection.register("day_rows", lake.read(table, day).to_arrow())
            connection.execute(f"INSERT INTO {table.name} BY NAME FROM day_rows")
            connection.unregister("day_rows")
    if lake.commit_of(CONTROL_STATUS.name, day) is None:
        return
    rows = lake.scan(CONTROL_STATUS, day).select(
        "report", "report_kind", "account_id", "control_id", "severity", "status", "basis"
    )
    connection.register("new_rows", rows.collect().to_arrow())
    connection.execute(f"SET VARIABLE day = DATE '{day.isoformat()}'")
    last = connection.execute("SELECT max(date) FROM observed_days").fetchone()
    later = last is None or last[0] is None or last[0] < day
    connection.execute(_sql("append_periods.sql" if later else "periods.sql"))
    connection.unregister("new_rows")


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    connection.execute(_sql("views.sql"))
    if lake.is_local and lake.last_day(ACCOUNT_FINDINGS.name) is not None:
        root = lake.root.replace("'", "''")
        connection.execute(_sql("lake_views.sql").replace("{root}", root))


def _sql(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
