"""How the catalog keeps its widest tables small: what many rows share is kept once.

A packed table is a table of rows and, for each group of columns that repeat together, a table of
their values. Columns that follow from others are not kept at all. A view under the table's own name
puts all of it together again, so nobody who asks has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    EXPECTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    WORKLOAD_SCORES,
    Column,
    Table,
)

SCHEMA = "packed"
"""Where the tables are that nobody asks; the views stand beside them, in the main schema."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A daily table as the catalog keeps it.

    Attributes:
        table: The table; it has a column `date`.
        shared: Columns that repeat together, by the name of what they are.
        derived: Columns that follow from others of the row, as SQL.
        derived_if: Columns that do in some rows: when, and the SQL. Others keep the value.
    """

    table: Table
    shared: Mapping[str, tuple[str, ...]]
    derived: Mapping[str, str] = field(default_factory=dict)
    derived_if: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def create(self, sql_type: Callable[[Column], str]) -> Iterator[str]:
        """The statements that make its tables, and the view.

        Args:
            sql_type: The type of a column.
        """
        types = {column.name: sql_type(column) for column in self.table.columns}
        yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
        for name, columns in self.shared.items():
            of_each = ", ".join(f"{each} {types[each]}" for each in columns)
            yield f"CREATE TABLE {self._values(name)} ({name}_key INTEGER, {of_each})"
        keys = ", ".join(f"{name}_key INTEGER" for name in self.shared)
        own = "".join(f", {each} {types[each]}" for each in self._own)
        yield f"CREATE TABLE {self._rows} ({keys}{own})"
        asked = ", ".join(f"{self._asked(each)} AS {each}" for each in self.table.names)
        joins = " ".join(f"JOIN {self._values(name)} USING ({name}_key)" for name in self.shared)
        yield f"CREATE VIEW {self.table.name} AS SELECT {asked} FROM {self._rows} {joins}"  # noqa: S608

    def put(self, rows: str) -> Iterator[str]:
        """The statements that add rows.

        Args:
            rows: Name of a table or view with the table's columns.
        """
        for name, columns in self.shared.items():
            names, values = ", ".join(columns), self._values(name)
            highest = f"(SELECT coalesce(max({name}_key), 0) FROM {values})"  # noqa: S608
            new = f"(SELECT {names} FROM {rows} EXCEPT SELECT {names} FROM {values} ORDER BY ALL)"  # noqa: S608
            yield f"INSERT INTO {values} SELECT {highest} + row_number() OVER (), * FROM {new}"  # noqa: S608
        keys = ", ".join(f"{name}_values.{name}_key" for name in self.shared)
        own = "".join(f", {self._kept(each, rows)}" for each in self._own)
        joins = " ".join(
            f"JOIN {self._values(name)} AS {name}_values ON "
            + " AND ".join(f"{name}_values.{c} IS NOT DISTINCT FROM {rows}.{c}" for c in columns)
            for name, columns in self.shared.items()
        )
        yield f"INSERT INTO {self._rows} SELECT {keys}{own} FROM {rows} {joins}"  # noqa: S608

    def delete(self) -> str:
        """The statement that takes the day of its one parameter out."""
        return f"DELETE FROM {self._rows} WHERE date = ?"  # noqa: S608

    def _asked(self, column: str) -> str:
        """SQL of a column, from what is kept."""
        if column in self.derived_if:
            when, value = self.derived_if[column]
            return f"CASE WHEN {when} THEN {value} ELSE {column} END"
        return self.derived.get(column, column)

    def _kept(self, column: str, rows: str) -> str:
        """SQL of what is kept of a column, from the rows as they come."""
        kept = f"{rows}.{column}"
        if column in self.derived_if:
            return f"CASE WHEN {self.derived_if[column][0]} THEN NULL ELSE {kept} END"
        return kept

    @property
    def _own(self) -> list[str]:
        """The columns that every row has for itself."""
        shared = {each for columns in self.shared.values() for each in columns}
        return [each for each in self.table.names if each not in shared | set(self.derived)]

    @property
    def _rows(self) -> str:
        return f"{SCHEMA}.{self.table.name}_rows"

    def _values(self, name: str) -> str:
        return f"{SCHEMA}.{self.table.name}_{name}"


_OF_REPORT = (
    "report",
    "report_kind",
    "method",
    "control_set_hash",
    "settings_hash",
    "collected_at",
    "incomplete",
)
_OF_ACCOUNT = (
    "account_id",
    "account_name",
    "workload",
    "environment",
    "owner",
    "account_source",
    "workload_source",
)
_COUNTED = "(passed + failed + unknown)"
_OF_COUNTS = {
    # As in model/scoring.py; the check of the scores holds them to it before they get here.
    "score": f"CASE WHEN reason IS NULL THEN 100.0::DOUBLE * passed / {_COUNTED} END",
    "console_score": (
        f"CASE WHEN reason IS NULL THEN "
        f"CAST((200 * passed + {_COUNTED}) // (2 * {_COUNTED}) AS INTEGER) END"
    ),
    "no_data": f"expected - {_COUNTED}",
    "failed_low": "failed_findings - failed_critical - failed_high - failed_medium",
}
_PAIRS = "(passed_resources + failed_resources)"
_OF_RESOURCES = {
    # Scores of the first versions have no counts of resources.
    "resource_score": (
        f"reason IS NULL AND {_PAIRS} > 0",
        f"100.0::DOUBLE * passed_resources / {_PAIRS}",
    ),
}


def _whole(table: Table) -> tuple[str, ...]:
    return tuple(name for name in table.names if name != "date")


PACKED = {
    packed.table.name: packed
    for packed in (
        Packed(
            ACCOUNT_SCORES,
            {"report": _OF_REPORT, "account": _OF_ACCOUNT},
            _OF_COUNTS,
            _OF_RESOURCES,
        ),
        Packed(
            WORKLOAD_SCORES,
            {"report": _OF_REPORT, "workload": ("workload", "environment")},
            _OF_COUNTS,
            _OF_RESOURCES,
        ),
        # From day to day hardly anything of these changes.
        Packed(EXPECTED_CONTROLS, {"control": _whole(EXPECTED_CONTROLS)}),
        Packed(ORGANIZATION_ACCOUNTS, {"account": _whole(ORGANIZATION_ACCOUNTS)}),
    )
}
"""The daily tables that are packed, by name."""
