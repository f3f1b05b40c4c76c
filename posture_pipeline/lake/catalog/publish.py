"""Building and querying the catalog file. Which rows it holds is decided by the score tables."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from pathlib import Path

import duckdb
import polars as pl

from posture_pipeline.errors import InputError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog.bucket_files import (
    catalog_copy,
    describable,
    keep_copy,
    readable,
    told_by_lake,
)
from posture_pipeline.lake.catalog.packed import PACKED
from posture_pipeline.lake.earlier_scores import superseded_scores
from posture_pipeline.lake.maintenance import COMPACTED
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EARLIER_SCORES,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    QUARANTINE,
    RECONCILIATION,
    REMEDIATION,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
    Column,
    Table,
)

CATALOG_VERSION = 5
"""Raised when the catalog's own tables change; an older file is then rebuilt from the lake."""

UNUSED_AT_MOST = 0.1
"""Share of the catalog's file that changes may leave empty before it is written anew."""

NEW_FILES: dict[str, str | bool | int | float | list[str]] = {"default_block_size": "131072"}
"""How a catalog file is made: in blocks of half of DuckDB's usual size, because every column of
every table ends in one that is not full. With a quarter, dictionaries of text do not fit in one."""

COMPACTED_FROM_BYTES = 20_000_000
"""Of a smaller catalog nobody minds the holes."""

PUBLISHED_AT_MOST = 5
"""Times that a day is put into the catalog of a bucket because another run was first."""

DAILY_TABLES = (
    ACCOUNT_SCORES,
    WORKLOAD_SCORES,
    ORGANIZATION_SCORES,
    ORGANIZATION_ACCOUNTS,
    EXPECTED_CONTROLS,
    SOURCE_COMPLETENESS,
    EARLIER_SCORES,
)
"""Kept in the catalog, every day of them; some of them packed."""

LAKE_VIEWS = {
    "findings": ACCOUNT_FINDINGS,
    MERGED_FINDINGS.name: MERGED_FINDINGS,
    QUARANTINE.name: QUARANTINE,
    FINDING_CHANGES.name: FINDING_CHANGES,
    CARRIED_FAILURES.name: CARRIED_FAILURES,
    EXCEPTIONS.name: EXCEPTIONS,
    "remediation_days": REMEDIATION,
    TIME_TO_FIX.name: TIME_TO_FIX,
    LISTED_CONTROLS.name: LISTED_CONTROLS,
    AWS_COMPLIANCE.name: AWS_COMPLIANCE,
    RECONCILIATION.name: RECONCILIATION,
    SCORE_CHANGES.name: SCORE_CHANGES,
    SCORE_CHANGE_CAUSES.name: SCORE_CHANGE_CAUSES,
}
"""Tables with a row a finding, a problem, a rule of an account, or a change: too many a year for
one small file, so they stay in the lake behind views of these names."""

LAKE_MACROS = (
    MERGED_FINDINGS,
    QUARANTINE,
    CONTROL_STATUS,
    FINDING_CHANGES,
    CARRIED_FAILURES,
    REMEDIATION,
    TIME_TO_FIX,
    AWS_COMPLIANCE,
    RECONCILIATION,
    SCORE_CHANGES,
    SCORE_CHANGE_CAUSES,
)
"""Tables of the lake whose rows of one day a macro `<table>_on(day)` gives."""

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

    Raises:
        LakeError: A commit is damaged; of a bucket also that other runs kept replacing the catalog.
    """

    def put(path: Path) -> None:
        days = [day]
        if _version(path) != CATALOG_VERSION:
            path.unlink(missing_ok=True)
            days = lake.days(ORGANIZATION_SCORES.name)
        _put_days(path, lake, days)
        if _share_unused(path) > UNUSED_AT_MOST:
            _compact(path, lake)

    return _publish(lake, put)


def rebuild(lake: Lake) -> Path:
    """Builds the catalog anew from every day of the lake; the old one serves until then.

    Returns:
        The path of the catalog, as `publish_day` has it.
    """

    def put(path: Path) -> None:
        path.unlink(missing_ok=True)
        _put_days(path, lake, lake.days(ORGANIZATION_SCORES.name))
        _compact(path, lake)

    return _publish(lake, put)


@contextmanager
def open_catalog(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the catalog.

    Raises:
        LakeError: There is no catalog yet, or it is damaged.
    """
    path = Path(lake.root, layout.CATALOG) if lake.is_local else catalog_copy(lake)
    if path is None or not path.exists():
        message = (
            f"There is no catalog in the lake {lake.root} yet. "
            f"Run a day first (posture run, posture import or posture demo)."
        )
        raise LakeError(message)
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        message = (
            f"The catalog {lake.uri(layout.CATALOG)} cannot be opened ({error}). "
            f"Run any day again: it is then built anew from the lake."
        )
        raise LakeError(message) from error
    try:
        connection.execute("SET TimeZone = 'UTC'")
        with readable(connection, lake):
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
            if (said := told_by_lake(error)) is not None:
                raise said from error
            message = f"The query was refused: {error}"
            raise InputError(message) from error
        except pl.exceptions.PolarsError as error:  # an INTERVAL, for one
            message = f"A column of the result cannot be shown; cast it to VARCHAR: {error}"
            raise InputError(message) from error
    return rows


def _publish(lake: Lake, change: Callable[[Path], None]) -> Path:
    """Changes a copy of the catalog and makes it the catalog.

    Of a bucket the copy replaces only the catalog that it was made from. Where another run was
    first, the change is made once more, to what that one wrote.
    """
    if lake.is_local:
        with _new_file(Path(lake.root)) as path:
            change(path)
        return Path(lake.root, layout.CATALOG)
    for _ in range(PUBLISHED_AT_MOST):
        with tempfile.TemporaryDirectory(prefix="posture-") as folder:
            path = Path(folder, layout.CATALOG)
            version = lake.version_of(layout.CATALOG)
            if version is not None and (copy := catalog_copy(lake, version)):
                shutil.copyfile(copy, path)
            change(path)
            written = lake.put_if(layout.CATALOG, path.read_bytes(), version)
            if written is not None:
                return keep_copy(lake, written, path.read_bytes())
    message = (
        f"Other runs replaced the catalog {lake.uri(layout.CATALOG)} again and again; "
        "materialize posture_catalog when they are through."
    )
    raise LakeError(message)


@contextmanager
def _new_file(folder: Path) -> Iterator[Path]:
    """A copy of the catalog to change; it becomes the catalog when the block ends well."""
    path = folder / f".{layout.CATALOG}.{os.getpid()}.new"
    write_ahead = path.with_name(path.name + ".wal")
    # In a container every process has the same id: a killed one may have left these.
    path.unlink(missing_ok=True)
    write_ahead.unlink(missing_ok=True)
    try:
        current = folder / layout.CATALOG
        if current.exists():
            shutil.copyfile(current, path)
        yield path
        path.replace(current)
    finally:
        path.unlink(missing_ok=True)
        write_ahead.unlink(missing_ok=True)


def _version(path: Path) -> int | None:
    """The version of a catalog file; null when it is not there, damaged or no catalog."""
    if not path.exists():
        return None
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            row = connection.execute("SELECT version FROM catalog_version").fetchone()
    except duckdb.Error:
        return None
    return None if row is None else int(row[0])


def _put_days(path: Path, lake: Lake, days: Iterable[date]) -> None:
    """Writes days of the lake into the catalog file, and the views anew."""
    is_new = not path.exists()
    with duckdb.connect(str(path), config=NEW_FILES) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # A transaction a day: one a statement would wait for the disk a hundred times, and one of
        # all days would have a year of them in memory.
        with _transaction(connection):
            if is_new:
                _create(connection)
        for day in days:
            with _transaction(connection):
                _put_day(connection, lake, day)
        with _transaction(connection):
            _create_views(connection, lake)


def _share_unused(path: Path) -> float:
    """How much of a catalog file holds nothing any more, 0 to 1; a small file always says 0."""
    if path.stat().st_size < COMPACTED_FROM_BYTES:
        return 0.0
    with duckdb.connect(str(path), read_only=True) as connection:
        row = connection.execute(
            "SELECT free_blocks / greatest(total_blocks, 1) FROM pragma_database_size()"
        ).fetchone()
    return 0.0 if row is None else float(row[0])


def _compact(path: Path, lake: Lake) -> None:
    """Writes a catalog file anew, without the holes that changes left.

    The periods are put in the order in which they are asked for, so that those of an account lie
    together.
    """
    compact = path.with_name(path.name + ".compact")
    compact.unlink(missing_ok=True)
    try:
        with duckdb.connect(str(compact), config=NEW_FILES) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            with _transaction(connection):
                _create(connection)
            connection.execute(f"ATTACH '{_quoted(str(path))}' AS loose (READ_ONLY)")
            tables = connection.execute(
                "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
                "WHERE database_name = 'loose' AND table_name <> 'catalog_version'"
            ).fetchall()
            with _transaction(connection):
                for (table,) in tables:
                    order = (
                        "ORDER BY report, account_id, control_id, valid_from"
                        if table == "main.control_status_periods"
                        else ""
                    )
                    connection.execute(f"INSERT INTO {table} FROM loose.{table} {order}")
            connection.execute("DETACH loose")
            with _transaction(connection):
                _create_views(connection, lake)
        compact.replace(path)
    finally:
        compact.unlink(missing_ok=True)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    yield
    connection.commit()


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for table in DAILY_TABLES:
        if (packed := PACKED.get(table.name)) is None:
            connection.execute(f"CREATE TABLE {table.name} ({_columns(table)})")
        else:
            _execute(connection, packed.create(_sql_type))
        for column in table.columns:
            comment = _quoted(column.meaning)
            connection.execute(f"COMMENT ON COLUMN {table.name}.{column.name} IS '{comment}'")
    connection.execute(
        "CREATE TABLE control_status_periods (report VARCHAR, report_kind VARCHAR, "
        "account_id VARCHAR, control_id VARCHAR, severity VARCHAR, status VARCHAR, "
        "basis VARCHAR, valid_from DATE, valid_to DATE)"
    )
    connection.execute(
        "CREATE TABLE control_days (date DATE, report VARCHAR, control_id VARCHAR, "
        "severity VARCHAR, failing_accounts BIGINT, accounts BIGINT)"
    )
    connection.execute("CREATE TABLE observed_days (date DATE)")
    connection.execute(f"CREATE TABLE catalog_version AS SELECT {CATALOG_VERSION} AS version")


def _execute(connection: duckdb.DuckDBPyConnection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _columns(table: Table) -> str:
    return ", ".join(f"{c.name} {_sql_type(c)}" for c in table.columns)


def _put_day(connection: duckdb.DuckDBPyConnection, lake: Lake, day: date) -> None:
    for table in DAILY_TABLES:
        packed = PACKED.get(table.name)
        delete = f"DELETE FROM {table.name} WHERE date = ?" if packed is None else packed.delete()  # noqa: S608
        connection.execute(delete, [day])
        rows = _rows_of(lake, table, day)
        if not rows.is_empty():
            insert = [f"INSERT INTO {table.name} BY NAME FROM day_rows"]
            connection.register("day_rows", rows.to_arrow())
            _execute(connection, insert if packed is None else packed.put("day_rows"))
            connection.unregister("day_rows")
    if lake.commit_of(CONTROL_STATUS.name, day) is None:
        return
    statuses = lake.scan(CONTROL_STATUS, day).select(
        "report", "report_kind", "account_id", "control_id", "severity", "status", "basis"
    )
    connection.register("new_rows", statuses.collect().to_arrow())
    connection.execute(f"SET VARIABLE day = DATE '{day.isoformat()}'")
    connection.execute(_sql("control_days.sql"))
    last = connection.execute("SELECT max(date) FROM observed_days").fetchone()
    later = last is None or last[0] is None or last[0] < day
    connection.execute(_sql("append_periods.sql" if later else "periods.sql"))
    connection.unregister("new_rows")


def _rows_of(lake: Lake, table: Table, day: date) -> pl.DataFrame:
    if table is EARLIER_SCORES:
        return superseded_scores(lake, day)
    return table.empty() if lake.commit_of(table.name, day) is None else lake.read(table, day)


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    with describable(connection, lake):
        _create_lake_views(connection, lake)
        connection.execute(_sql("views.sql"))


def _create_lake_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    for view, table in LAKE_VIEWS.items():
        replaced = _BY_ACCOUNT if table is ACCOUNT_FINDINGS else ""
        by_day = table not in COMPACTED and lake.last_day(table.name) is not None
        name = "lake_days.sql" if by_day else "lake_months.sql"
        connection.execute(_lake_sql(name, lake, table, view=view, replaced=replaced))
        if table in COMPACTED:
            connection.execute(_lake_sql("lake_between.sql", lake, table))
    for table in LAKE_MACROS:
        if table in COMPACTED:
            connection.execute(_lake_sql("lake_month_day.sql", lake, table))
        else:
            connection.execute(_lake_day(lake, table, f"{table.name}_on"))
    # With an account id in the WHERE only that account's file is opened.
    connection.execute(_lake_day(lake, ACCOUNT_FINDINGS, "findings_on", replaced=_BY_ACCOUNT))
    connection.execute(
        _lake_day(
            lake,
            ACCOUNT_FINDINGS,
            "account_findings_on",
            arguments="account, day",
            below="account_id=' || account || '",
        )
    )
    connection.execute(_lake_sql("lake_views.sql", lake, ACCOUNT_FINDINGS))


_BY_ACCOUNT = "REPLACE (split_part(split_part(filename, '/account_id=', -1), '/', 1) AS account_id)"


def _lake_day(
    lake: Lake,
    table: Table,
    macro: str,
    *,
    arguments: str = "day",
    below: str = "**",
    replaced: str = "",
) -> str:
    return _lake_sql(
        "lake_day.sql",
        lake,
        table,
        macro=macro,
        arguments=arguments,
        below=below,
        replaced=replaced,
    )


def _lake_sql(name: str, lake: Lake, table: Table, **words: str) -> str:
    """A file of SQL over a table of the lake, with its words in braces filled in."""
    # By these and not by what the first file has: files do not all have the younger columns.
    columns = [_column_of_files(c) for c in table.columns if c.name != "date"]
    dated = [_column_of_files(c) for c in table.columns]
    text = _sql(name)
    words |= {"table": table.name, "columns": f"MAP {{{', '.join(columns)}}}"}
    words |= {"dated_columns": f"MAP {{{', '.join(dated)}}}"}
    words |= {"names": ", ".join(table.names), "no_rows": _each_column(table, "NULL")}
    words |= {"root": _quoted(lake.root), "pattern": _quoted(lake.pattern_root)}
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return text


def _column_of_files(c: Column) -> str:
    return f"'{c.name}': {{'name': '{c.name}', 'type': '{_sql_type(c)}', 'default_value': NULL}}"


def _each_column(table: Table, value: str) -> str:
    return ", ".join(f"CAST({value} AS {_sql_type(c)}) AS {c.name}" for c in table.columns)


def _sql_type(column: Column) -> str:
    return _SQL_TYPES[column.dtype.base_type()]


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _sql(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
