"""The declared tables: what every one of them keeps to."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from posture_pipeline import schemas
from posture_pipeline.errors import SchemaError
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
        schemas.Column("note", pl.String(), "A note.", nullable=True),
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


# --- rows that are written --------------------------------------------------------------------

WHOLE = pl.DataFrame({"date": [DAY], "account_id": ["012345678901"], "rows": [7], "note": ["x"]})


def test_rows_are_written_in_the_order_and_dtypes_of_the_table() -> None:
    conformed = SMALL.conform(WHOLE.select("note", "rows", "account_id", "date"))
    assert conformed.schema == SMALL.schema
    assert conformed.row(0) == (DAY, "012345678901", 7, "x")


def test_rows_without_a_declared_column_are_refused() -> None:
    with pytest.raises(SchemaError, match="small: the rows have no column account_id, note"):
        SMALL.conform(WHOLE.drop("note", "account_id"))
    with pytest.raises(SchemaError, match="small: the rows have no column rows"):
        SMALL.project(WHOLE.lazy().drop("rows"))


def test_rows_with_a_column_that_is_not_declared_are_refused() -> None:
    with pytest.raises(SchemaError, match="small: the rows have a column more, which the table"):
        SMALL.conform(WHOLE.with_columns(more=1))


def test_a_null_where_none_may_be_is_refused_with_the_rows_that_have_it() -> None:
    rows = pl.DataFrame(
        {
            "date": [DAY] * 6,
            "account_id": list("abcdef"),
            "rows": [None, 1, None, None, None, 2],
            "note": None,
        }
    )
    with pytest.raises(SchemaError) as raised:
        SMALL.conform(rows)
    assert str(raised.value) == (
        "small: rows must not be null, and is in 4 of 6 rows: account_id=a; account_id=c; "
        "account_id=d and 1 more. Nothing was written."
    )


@each_table
def test_what_identifies_a_row_is_known_or_says_that_it_is_not_of_one(table: Table) -> None:
    """A null in a key has a meaning of its own (all, not of one), which the column states."""
    of_all = {"account_id", "workload", "environment", "severity", "region", "resource_id"}
    for column in table.columns:
        if column.nullable and column.name in table.key:
            assert column.name in of_all | {"control_id", "cause", "position", "product_arn"}


@each_table
def test_a_column_that_says_when_it_is_null_may_be_null(table: Table) -> None:
    for column in table.columns:
        if "null" in column.meaning.lower():
            assert column.nullable, column.name


def test_rules_leave_out_what_they_computed_on_the_way() -> None:
    assert SMALL.project(WHOLE.with_columns(_kept=True)).columns == SMALL.names
    projected = SMALL.project(WHOLE.lazy().with_columns(_kept=True))
    assert isinstance(projected, pl.LazyFrame)
    assert projected.collect_schema() == SMALL.schema


def test_what_was_conformed_is_not_changed_again() -> None:
    once = SMALL.conform(WHOLE)
    assert SMALL.conform(once).equals(once)


def test_a_value_that_does_not_fit_the_column_is_an_error() -> None:
    """A wrong number must never become a null on its way to the lake."""
    for wrong in (2**40, "many"):
        with pytest.raises(pl.exceptions.InvalidOperationError):
            SMALL.conform(WHOLE.with_columns(rows=pl.lit(wrong)))


# --- rows that are read -----------------------------------------------------------------------


def test_older_rows_are_read_with_null_for_a_column_they_lack() -> None:
    frame = pl.DataFrame({"more": [1], "rows": ["7"], "account_id": ["012345678901"]})
    read = SMALL.read_as(frame)
    assert read.schema == SMALL.schema
    assert read.row(0) == (None, "012345678901", 7, None)


def test_no_rows_are_read_with_every_column() -> None:
    assert ORGANIZATION_ACCOUNTS.read_as(pl.DataFrame()).equals(ORGANIZATION_ACCOUNTS.empty())


def test_reading_keeps_the_number_of_rows_even_if_no_column_is_known() -> None:
    assert SMALL.read_as(pl.DataFrame({"other": [1, 2, 3]})).height == 3
