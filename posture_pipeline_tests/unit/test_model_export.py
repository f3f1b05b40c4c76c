"""Which rows are a workload's own, and text that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model.export import failing, own_rows, spreadsheet_csv
from posture_pipeline.schemas import ACCOUNT_FINDINGS, ACCOUNT_SCORES, TABLES, Table

FIRST = date(2026, 3, 2)
WORKLOADS = ["payments", "Payments", "shop", "*", ""]
ACCOUNTS = ["000000000001", "000000000002", "000000000003"]
OF_SOMEBODY = [each for each in TABLES if {"workload", "account_id"} & set(each.names)]

days = st.integers(0, 2).map(lambda number: FIRST + timedelta(days=number))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "date": days,
            "workload": st.sampled_from([*WORKLOADS, None]),
            "account_id": st.sampled_from([*ACCOUNTS, None]),
            "scope": st.sampled_from(["account", "workload", "organization"]),
        }
    ),
    max_size=12,
)
places = st.dictionaries(st.tuples(days, st.sampled_from(ACCOUNTS)), st.sampled_from(WORKLOADS))


def frame(table: Table, values: list[dict[str, Any]]) -> pl.LazyFrame:
    return table.read_as(pl.DataFrame(values, schema_overrides={"account_id": pl.String})).lazy()


def accounts_of(workload: str, where: dict[tuple[date, str], str]) -> pl.LazyFrame:
    own = [key for key, name in where.items() if name == workload]
    schema = {"date": pl.Date(), "account_id": pl.String()}
    return pl.LazyFrame(own, schema=schema, orient="row")


@pytest.mark.parametrize("table", OF_SOMEBODY, ids=lambda table: table.name)
@settings(max_examples=20)
@given(values=rows, where=places, workload=st.sampled_from(WORKLOADS))
def test_every_row_of_another_team_is_left_out_and_every_own_row_is_kept(
    table: Table,
    values: list[dict[str, Any]],
    where: dict[tuple[date, str], str],
    workload: str,
) -> None:
    def is_own(row: dict[str, Any]) -> bool:
        of_account = where.get((row["date"], row["account_id"])) == workload
        if "scope" in table.names:
            of_workload = row["scope"] == "workload" and row["workload"] == workload
            return of_workload or (row["scope"] == "account" and of_account)
        return row["workload"] == workload if "workload" in table.names else of_account

    given_rows = frame(table, values) if values else table.empty().lazy()
    found = own_rows(table, given_rows, workload, accounts_of(workload, where)).collect()
    assert found.schema == table.schema
    names = [each for each in ("date", "workload", "account_id", "scope") if each in table.names]
    expected = [tuple(row[name] for name in names) for row in values if is_own(row)]
    assert sorted(map(str, found.select(names).rows())) == sorted(map(str, expected))


@pytest.mark.parametrize(
    "table", [each for each in TABLES if each not in OF_SOMEBODY], ids=lambda table: table.name
)
def test_a_table_of_the_whole_organization_has_no_rows_of_a_team(table: Table) -> None:
    with pytest.raises(ValueError, match=table.name):
        own_rows(table, table.empty().lazy(), "payments", accounts_of("payments", {}))


def test_failing_are_active_failures_that_nobody_suppressed() -> None:
    values: list[dict[str, str | None]] = [
        {"finding_id": "fails", "record_state": "ACTIVE", "compliance_status": "FAILED"},
        {"finding_id": "new", "workflow_status": "NEW"},
        {"finding_id": "suppressed", "workflow_status": "SUPPRESSED"},
        {"finding_id": "archived", "record_state": "ARCHIVED"},
        {"finding_id": "passes", "compliance_status": "PASSED"},
        {"finding_id": "no control", "compliance_status": None},
    ]
    base: dict[str, str | None] = {
        "record_state": "ACTIVE",
        "compliance_status": "FAILED",
        "workflow_status": None,
    }
    findings = ACCOUNT_FINDINGS.read_as(pl.LazyFrame([base | each for each in values]))
    assert failing(findings).collect()["finding_id"].to_list() == ["fails", "new"]


# --- spreadsheets -----------------------------------------------------------------------------

TRIGGERS = "=+-@\uff1d\uff0b\uff0d\uff20"
texts = st.text(st.sampled_from(f"{TRIGGERS}';, \"\t\r\nab"), max_size=8) | st.text(max_size=8)


def as_read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def without_marks(text: str) -> str:
    """The text as it was: a `'` less where a formula, or the text, would begin."""
    text = re.sub(rf"([;\t\r\n])'( *['{re.escape(TRIGGERS)}])", r"\1\2", text)
    return re.sub(rf"^'(\s*['{re.escape(TRIGGERS)}]|[\t\r\n])", r"\1", text)


@given(st.lists(texts.filter(lambda text: "\x00" not in text), min_size=1, max_size=4))
def test_no_cell_begins_a_formula_however_cells_are_parted_and_the_text_can_be_had_back(
    values: list[str],
) -> None:
    _, *read = as_read(
        spreadsheet_csv(pl.DataFrame({"number": range(len(values)), "text": values}))
    )
    cells = [row[1] for row in read]
    for cell in cells:
        assert not re.match(rf"\s*[{re.escape(TRIGGERS)}]|[\t\r\n]", cell)
        for part in re.split(r"[;\t\r\n]", cell):
            assert not re.match(rf" *[{re.escape(TRIGGERS)}]", part)
    assert [without_marks(cell) for cell in cells] == values


def test_numbers_stay_numbers_and_nothing_stays_nothing() -> None:
    data = spreadsheet_csv(pl.DataFrame({"part": [-1.5, None], "title": [None, "-1.5"]}))
    assert as_read(data) == [["part", "title"], ["-1.5", ""], ["", "'-1.5"]]


def test_times_are_iso_8601_and_letters_survive() -> None:
    scores = pl.DataFrame(
        {"workload": ["B\u00fcro"], "collected_at": [date(2026, 3, 2)]},
    ).with_columns(pl.col("collected_at").cast(pl.Datetime("us", "UTC")))
    names, row = as_read(spreadsheet_csv(ACCOUNT_SCORES.read_as(scores)))
    cells = dict(zip(names, row, strict=True))
    assert cells["workload"] == "B\u00fcro"
    assert datetime.fromisoformat(cells["collected_at"]) == datetime(2026, 3, 2, tzinfo=UTC)
