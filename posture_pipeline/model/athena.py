"""Athena's definitions of the lake's tables: SQL text made from their declarations.

Athena reads whatever lies below a table's place, and knows no commits. So a table's place is a
folder with a manifest for each day, which names the files that the day's commit counts; partition
projection says where they are. What writes the manifests is `lake/athena.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

import polars as pl

from posture_pipeline.errors import InputError
from posture_pipeline.schemas import TABLES, Table

DATABASE = "security_posture"

FILES = "_files"
"""Ending of the tables below the views. A file may hold several days: a view keeps to its own."""

TYPES: dict[type[pl.DataType], str] = {
    pl.String: "string",
    pl.Date: "date",
    pl.Datetime: "timestamp",
    pl.Int32: "int",
    pl.Int64: "bigint",
    pl.Float64: "double",
    pl.Boolean: "boolean",
    pl.Binary: "binary",
}
"""Types of Athena's CREATE TABLE. Source: Athena user guide, data types in Amazon Athena."""


def statements(
    place: str, start: date, *, database: str = DATABASE, tables: Iterable[Table] = TABLES
) -> list[str]:
    """What makes the database, and a table and a view for each table of the lake.

    Athena takes them one at a time, in this order. Made again, they replace the views and leave
    tables as they are.

    Args:
        place: Folder of the manifests, `s3://bucket/prefix/...`.
        start: First day that can be there.
        database: Name of Athena's database.
        tables: Which tables.

    Raises:
        InputError: The place is none of S3 or has characters, or the database a name, that cannot
            be written into a statement.
    """
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=-]+)*", place, re.ASCII):
        message = (
            f"{place!r} cannot be the place of a table of Athena: write it as s3://bucket/prefix, "
            f"with letters, digits and the characters . _ = - alone."
        )
        raise InputError(message)
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,127}", database):
        message = f"{database!r} is no name of a database: use a-z, 0-9 and _."
        raise InputError(message)
    made = [f"CREATE DATABASE IF NOT EXISTS `{database}`"]
    for table in tables:
        made += [_table(table, place, start, database), _view(table, database)]
    return made


def _table(table: Table, place: str, start: date, database: str) -> str:
    columns = ",\n".join(
        f"  `{each.name}` {TYPES[each.dtype.base_type()]}" for each in table.columns
    )
    location = f"{place}/{table.name}"
    properties = {
        "projection.enabled": "true",
        "projection.day.type": "date",
        "projection.day.format": "yyyy-MM-dd",
        "projection.day.range": f"{start.isoformat()},NOW",
        "projection.day.interval": "1",
        "projection.day.interval.unit": "DAYS",
        "storage.location.template": f"{location}/day=${{day}}/",
    }
    listed = ",\n".join(f"  '{name}' = '{value}'" for name, value in properties.items())
    # As AWS has it for S3 Inventory, whose lists are parquet files behind such manifests too.
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{table.name}{FILES}` (\n{columns}\n)\n"
        f"PARTITIONED BY (`day` string)\n"
        f"ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'\n"
        f"STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'\n"
        f"OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'\n"
        f"LOCATION '{location}/'\n"
        f"TBLPROPERTIES (\n{listed}\n)"
    )


def _view(table: Table, database: str) -> str:
    columns = ", ".join(f'"{name}"' for name in [*table.names, "day"])
    return (
        f'CREATE OR REPLACE VIEW "{database}"."{table.name}" AS\n'
        f"SELECT {columns}\n"
        f'FROM "{database}"."{table.name}{FILES}"\n'
        f'WHERE "date" = CAST("day" AS date)'
    )
