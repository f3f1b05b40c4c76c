"""Athena's definitions, held against the declarations of the tables."""

from __future__ import annotations

import re
from datetime import date

import pytest

from posture_pipeline.errors import InputError
from posture_pipeline.model.athena import TYPES, statements
from posture_pipeline.schemas import TABLES, Table

PLACE = "s3://the-bucket/the/lake/athena"
START = date(2024, 1, 1)


def made(table: Table) -> tuple[str, str]:
    """The statements of a table and its view."""
    _, of_table, of_view = statements(PLACE, START, database="posture", tables=[table])
    return of_table, of_view


def columns_of(statement: str) -> list[tuple[str, str]]:
    """Names and types between the parentheses of a CREATE TABLE."""
    match = re.search(r"`\w+`\.`\w+` \(\n(?P<columns>.*?)\n\)\n", statement, re.DOTALL)
    assert match is not None
    lines = match["columns"].split(",\n")
    found = [re.fullmatch(r"  `(\w+)` (\w+)", line) for line in lines]
    assert all(found), lines
    return [(each[1], each[2]) for each in found if each]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_of_every_table_is_defined_with_its_type_in_order(table: Table) -> None:
    defined = columns_of(made(table)[0])
    assert [name for name, _ in defined] == table.names
    assert [type_ for _, type_ in defined] == [TYPES[c.dtype.base_type()] for c in table.columns]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_days_are_projected_onto_the_manifests(table: Table) -> None:
    statement, _ = made(table)
    properties = dict(re.findall(r"^  '([\w.]+)' = '(.*)',?$", statement, re.MULTILINE))
    assert properties["projection.enabled"] == "true"
    assert properties["projection.day.type"] == "date"
    assert properties["projection.day.range"] == "2024-01-01,NOW"
    assert properties["projection.day.format"] == "yyyy-MM-dd"
    folder = f"{PLACE}/{table.name}"
    assert properties["storage.location.template"] == f"{folder}/day=${{day}}/"
    assert f"LOCATION '{folder}/'" in statement
    assert "PARTITIONED BY (`day` string)" in statement
    assert "day" not in table.names


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_view_has_the_name_and_columns_of_its_table_and_the_rows_of_its_day(
    table: Table,
) -> None:
    _, view = made(table)
    assert view.startswith(f'CREATE OR REPLACE VIEW "posture"."{table.name}" AS')
    (selected,) = re.findall(r"^SELECT (.*)$", view, re.MULTILINE)
    assert selected == ", ".join(f'"{name}"' for name in [*table.names, "day"])
    assert view.endswith('WHERE "date" = CAST("day" AS date)')


def test_the_database_is_made_first_and_every_table_before_its_view() -> None:
    found = statements(PLACE, START)
    assert found[0] == "CREATE DATABASE IF NOT EXISTS `security_posture`"
    assert [each.split()[1] for each in found[1:]] == ["EXTERNAL", "OR"] * len(TABLES)
    assert not any(";" in each for each in found)


@pytest.mark.parametrize(
    "place", ["lake", "s3://b", "s3://bucket/it's", "s3://bucket/a;b", "s3://bucket/$x"]
)
def test_a_place_that_does_not_fit_into_a_statement_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="cannot be the place"):
        statements(place, START)


@pytest.mark.parametrize("database", ["", "a-b", "x` --", "Posture"])
def test_a_name_that_is_none_of_a_database_is_refused(database: str) -> None:
    with pytest.raises(InputError, match="no name of a database"):
        statements(PLACE, START, database=database)
