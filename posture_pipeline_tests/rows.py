"""Rows of the tables with values where a test says nothing of a column.

So that a test states the columns that it is about, and is written like any other rows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from posture_pipeline.schemas import Table

_PLAIN: dict[type[pl.DataType], Any] = {
    pl.String: "",
    pl.Boolean: False,
    pl.Binary: b"",
    pl.Date: date(2026, 1, 1),
    pl.Datetime: datetime(2026, 1, 1, tzinfo=UTC),
}


def complete(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with every column of the table.

    A column that they lack is null where it may be, else empty, 0, false or the first of 2026; and
    so is a null that may not be. One that the table does not declare is left out.
    """
    return table.read_as(rows).with_columns(
        pl.col(column.name).fill_null(
            pl.lit(_PLAIN.get(column.dtype.base_type(), 0), dtype=column.dtype)
        )
        for column in table.columns
        if not column.nullable
    )
