"""The declared tables: what every one of them keeps to."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from posture_pipeline import schemas
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    TABLES,
    Table,
)

DAY = date(2026, 11, 23)
SMALL = Table(
    "small",
    "One row.",
    (
        schemas.Column("date", pl.Date(), "Day."),
        schemas.Column("account_id", pl.String(), "12 digits."),
        schemas.Column("rows", pl.Int32(), "Rows."),
    ),
    ("account_id",),
)

each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@each_table
def test_the_first_column_is_the_day(table: Table) -> None:
    assert (table.columns[0].name, table.columns[0].dtype) == ("date", pl.Date())


@each_table
def test_the_key_is_made_of_columns_of_the_table(table: Table) -> None:
    assert table.key
    assert set(table.key) <= set(table.names)
    assert "date" not in table.key, "a key holds within a day"


@each_table
def test_column_names_are_unique_and_can_stand_in_sql(table: Table) -> None:
    assert len(set(table.names)) == len(table.names)
    assert all(name.isidentifier() and name == name.lower() for name in table.names)


@each_table
def test_every_meaning_is_a_sentence(table: Table) -> None:
    for meaning in (table.meaning, *(column.meaning for column in table.columns)):
        assert meaning.endswith("."), meaning


@each_table
def test_account_ids_are_text(table: Table) -> None:
    for name, dtype in table.schema.items():
        if name.endswith("account_id"):
            assert dtype == pl.String()


@each_table
def test_times_are_utc_in_microseconds(table: Table) -> None:
    for dtype in table.schema.values():
        if isinstance(dtype, pl.Datetime):
            assert dtype == schemas.TIMESTAMP


@each_table
def test_no_column_is_nested_or_a_category(table: Table) -> None:
    """A List column made findings files slow and large; categories differ between files."""
    for dtype in table.schema.values():
        assert not dtype.is_nested()
        assert dtype not in (pl.Categorical, pl.Enum)


@each_table
def test_an_empty_frame_has_every_column_and_no_rows(table: Table) -> None:
    empty = table.empty()
    assert empty.schema == table.schema
    assert empty.height == 0


def test_table_names_are_unique_and_found() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    for table in TABLES:
        assert schemas.table(table.name) is table
    with pytest.raises(KeyError):
        schemas.table("nope")


def test_account_findings_are_the_merged_findings() -> None:
    assert ACCOUNT_FINDINGS.columns == MERGED_FINDINGS.columns


def test_columns_of_one_name_have_one_type_in_all_tables() -> None:
    """Joins between tables then need no cast."""
    types: dict[str, set[str]] = {}
    for table in TABLES:
        for name, dtype in table.schema.items():
            types.setdefault(name, set()).add(str(dtype))
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


# --- cast -------------------------------------------------------------------------------------


def test_cast_orders_fills_and_drops_columns() -> None:
    frame = pl.DataFrame({"more": [1], "rows": ["7"], "account_id": ["012345678901"]})
    cast = SMALL.cast(frame)
    assert cast.schema == SMALL.schema
    assert cast.row(0) == (None, "012345678901", 7)


def test_cast_of_a_lazy_frame_stays_lazy() -> None:
    frame = pl.LazyFrame({"account_id": ["012345678901"]})
    cast = SMALL.cast(frame)
    assert isinstance(cast, pl.LazyFrame)
    assert cast.collect_schema() == SMALL.schema


def test_cast_of_what_was_cast_changes_nothing() -> None:
    once = SMALL.cast(pl.DataFrame({"date": [DAY], "account_id": ["1"], "rows": [2]}))
    assert SMALL.cast(once).equals(once)


def test_a_value_that_does_not_fit_the_column_is_an_error() -> None:
    """A wrong number must never become a null on its way to the lake."""
    with pytest.raises(pl.exceptions.InvalidOperationError):
        SMALL.cast(pl.DataFrame({"rows": [2**40]}))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        SMALL.cast(pl.DataFrame({"rows": ["many"]}))


def test_cast_of_no_rows_keeps_the_columns() -> None:
    assert ORGANIZATION_ACCOUNTS.cast(pl.DataFrame()).equals(ORGANIZATION_ACCOUNTS.empty())


def test_cast_keeps_the_number_of_rows_even_if_no_column_is_known() -> None:
    assert SMALL.cast(pl.DataFrame({"other": [1, 2, 3]})).height == 3
