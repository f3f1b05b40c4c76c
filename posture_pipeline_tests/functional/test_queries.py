"""The questions of docs/queries.md: answered as printed, true, and reading only what they need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl
import pytest

from posture_pipeline.lake import explanation, finding_history, layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.catalog.publish import open_catalog, publish_day, query
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.causes import PROBLEM
from posture_pipeline.model.changes import SCOPES, TOLERANCE
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EARLIER_SCORES,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    REMEDIATION,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SCORE_TABLES,
    TABLES,
)
from posture_pipeline_tests import query_examples
from posture_pipeline_tests.rows import complete
from posture_pipeline_tests.simulated_days import SimulatedDays

DAYS = query_examples.DAYS
PAGE = query_examples.PAGE.read_text(encoding="utf-8")
EXAMPLES = query_examples.examples(PAGE)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    """The lake of the page; tests must not change it."""
    with query_examples.example_days(tmp_path_factory.mktemp("examples")) as made:
        yield made


# --- the page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.sql.split("\n")[0][:60])
def test_the_page_prints_what_the_lake_answers(
    days: SimulatedDays, example: query_examples.Example
) -> None:
    """After a change of a macro or of the simulated organization: make docs."""
    assert example.answer == query_examples.answer(days.lake, example.sql)


def test_no_example_of_the_page_is_left_without_an_answer() -> None:
    assert len(EXAMPLES) == PAGE.count("```sql\n") > 0
    assert all(len(example.answer.splitlines()) > 2 for example in EXAMPLES)


def test_the_page_has_every_view_and_an_example_of_every_macro(days: SimulatedDays) -> None:
    asked = "\n".join(example.sql for example in EXAMPLES)
    with open_catalog(days.lake) as connection:
        macros = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type IN ('macro', 'table_macro') AND NOT internal"
        ).fetchall()
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        tables = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'"
        )
        names = [*views.fetchall(), *tables.fetchall()]
    missing = {name for (name,) in macros if f"{name}(" not in asked and f"`{name}(" not in PAGE}
    assert missing == set()
    assert {name for (name,) in names if f"`{name}`" not in PAGE} == set()


# --- tables -----------------------------------------------------------------------------------


def test_every_table_of_the_lake_has_a_view_with_its_columns(days: SimulatedDays) -> None:
    for table in (*TABLES, EARLIER_SCORES):
        schema = query(days.lake, f"FROM {table.name} LIMIT 0").schema
        if table is CONTROL_STATUS:
            # Kept as periods, without the counts that change every day.
            assert set(schema) < set(table.names)
        else:
            assert schema == table.schema, table.name


@pytest.mark.parametrize("table", publish.LAKE_MACROS, ids=lambda table: table.name)
def test_the_rows_of_a_day_are_those_of_the_lake(days: SimulatedDays, table: Any) -> None:
    rows = query(days.lake, f"FROM {table.name}_on('{DAYS[-1]}')")
    expected = days.lake.read(table, DAYS[-1])
    assert rows.schema == table.schema
    assert rows.sort(table.names).equals(expected.sort(table.names))


def test_a_failure_is_in_remediation_once_as_it_is_known_last(days: SimulatedDays) -> None:
    rows = query(days.lake, "FROM remediation")
    episode = [*PROBLEM, "opened_at"]
    known = pl.concat(days.lake.read(REMEDIATION, day) for day in DAYS)
    newest = pl.col("date") == DAYS[-1]
    expected = known.filter(pl.col("closed_on").is_not_null() | newest)
    assert rows.height == expected.select(episode).n_unique() > 0
    assert rows.select(episode).is_unique().all()
    assert set(rows.filter(pl.col("closed_on").is_null())["date"]) == {DAYS[-1]}
    assert rows.filter(pl.col("closed_on").is_not_null()).height > 0
    assert rows.join(expected, on=REMEDIATION.names, nulls_equal=True).height == rows.height


# --- why a score changed ----------------------------------------------------------------------

NAMES = {"account": ["account_id"], "workload": ["workload", "environment"], "organization": []}
MACROS = {
    "account": "explain_account",
    "workload": "explain",
    "organization": "explain_organization",
}
COMPARED = [
    "control_id",
    "severity",
    "status_before",
    "status_after",
    "part",
    "score_before",
    "score_after",
    "comparable",
]
"""What both tell of a control."""


def call(scope: str, row: dict[str, Any], *days: date) -> str:
    """A call of the macro that explains the scope of a row."""
    words = [row["report"], *(row[name] for name in NAMES[scope]), *days]
    return f"{MACROS[scope]}({', '.join(repr(str(word)) for word in words)})"


def scopes_of(lake: Lake, scope: str, *days: date) -> list[dict[str, Any]]:
    """Every score of a scope that one of the days has."""
    table = {table.name: table for table in SCORE_TABLES}[f"{scope}_scores"]
    rows = lake.scan(table, days).select("report", *NAMES[scope]).unique().collect()
    return rows.sort(pl.all()).to_dicts()


def asked(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    rows: pl.DataFrame = connection.sql(f"FROM {sql}").pl()
    return rows


@pytest.mark.parametrize("scope", SCOPES)
def test_the_parts_between_any_two_days_are_those_of_the_explanation(
    days: SimulatedDays, scope: str
) -> None:
    """The SQL computes from periods what the rules compute from the stored tables."""
    compared = withheld = 0
    for before, after in ((DAYS[0], DAYS[2]), (DAYS[1], DAYS[3]), (DAYS[0], DAYS[-1])):
        told = explanation.explain(days.lake, days.settings.reports, before, after, scopes=[scope])
        with open_catalog(days.lake) as connection:
            for row in scopes_of(days.lake, scope, before, after):
                found = asked(connection, call(scope, row, before, after))
                controls = found.select(COMPARED).unique().sort("control_id")
                expected = told.changes.filter(pl.col(k).eq_missing(v) for k, v in row.items())
                expected = expected.select(COMPARED).sort("control_id")
                assert controls.drop("part").equals(expected.drop("part")), row
                assert controls["part"].is_null().equals(expected["part"].is_null()), row
                parts = controls["part"].drop_nulls().to_list()
                assert parts == pytest.approx(
                    expected["part"].drop_nulls().to_list(), abs=TOLERANCE, rel=0
                )
                withheld += controls.height - len(parts)
                if parts:
                    change = controls["score_after"][0] - controls["score_before"][0]
                    assert sum(parts) == pytest.approx(change, abs=TOLERANCE, rel=0)
                    compared += 1
    assert compared > 0
    # An account falls silent, another one joins: there is no score to split.
    assert withheld > 0


@pytest.mark.parametrize("after", [DAYS[2], DAYS[5]])
def test_between_neighbouring_days_both_forms_tell_the_same(
    days: SimulatedDays, after: date
) -> None:
    before, rows = after - timedelta(days=1), 0
    with open_catalog(days.lake) as connection:
        for scope in ("workload", "organization"):
            for row in scopes_of(days.lake, scope, after):
                stored = asked(connection, call(scope, row, after))
                computed = asked(connection, call(scope, row, before, after))
                assert set(computed["changed_on"]) <= {after}
                assert computed.drop("changed_on", "part").equals(stored.drop("part")), row
                rows += stored.height
    assert rows > 10


def test_the_causes_are_those_of_the_last_day_on_which_the_control_changed(
    days: SimulatedDays,
) -> None:
    first, second = DAYS[0], DAYS[-1]
    stored = days.lake.read(SCORE_CHANGES, DAYS[1:]).filter(pl.col("scope") == "workload")
    causes = days.lake.read(SCORE_CHANGE_CAUSES, DAYS[1:]).filter(pl.col("scope") == "workload")
    earlier = 0
    for row in scopes_of(days.lake, "workload", first, second):
        found = query(days.lake, f"FROM {call('workload', row, first, second)}")
        of_score = [pl.col(key) == value for key, value in row.items()]
        for control, changed_on in found.select("control_id", "changed_on").unique().iter_rows():
            of_control = [*of_score, pl.col("control_id") == control]
            assert changed_on == stored.filter(of_control)["date"].max()
            here = found.filter(pl.col("control_id") == control)["cause"].drop_nulls()
            there = causes.filter(*of_control, pl.col("date") == changed_on)["cause"]
            assert sorted(here) == sorted(there)
            earlier += changed_on < second
    assert earlier > 0


# --- what is new, what is worst ---------------------------------------------------------------


def test_new_failures_fail_on_the_day_and_did_not_before(days: SimulatedDays) -> None:
    """Held against the problems of both days, not against the table that the macro reads."""
    lake, reports = days.lake, days.settings.reports
    seen = 0
    for before, after in pairwise(DAYS):
        failing = [
            set(
                finding_history.problems_on(lake, reports, day)
                .filter(pl.col("state") == "FAILED")
                .select(PROBLEM)
                .iter_rows()
            )
            for day in (before, after)
        ]
        carried = set(lake.read(CARRIED_FAILURES, before).select(PROBLEM).iter_rows())
        rows = query(lake, f"FROM new_failures('{after}')")
        assert set(rows.select(PROBLEM).iter_rows()) == failing[1] - failing[0] - carried
        assert rows.select(PROBLEM).is_unique().all()
        assert rows.filter(pl.col("workload").is_null() | pl.col("title").is_null()).is_empty()
        seen += rows.height
    assert seen > 5


def test_account_days_of_a_range_are_the_sum_of_its_days(days: SimulatedDays) -> None:
    lake = days.lake
    found = query(lake, f"FROM worst_controls('{DAYS[1]}', '{DAYS[3]}')")
    single = pl.concat(query(lake, f"FROM worst_controls('{day}')") for day in DAYS[1:4])
    expected = single.group_by("report", "control_id").agg(
        failing_account_days=pl.col("failing_accounts").sum()
    )
    columns = ["report", "control_id", "failing_account_days"]
    assert (
        found.select(columns)
        .sort(columns)
        .equals(expected.select(columns).sort(columns), null_equal=True)
    )
    assert found["failing_account_days"].is_sorted(descending=True)
    assert (found["failing_accounts"] <= found["failing_account_days"]).all()
    assert (found["failing_account_days"] <= found["account_days"]).all()


def test_failing_accounts_of_a_range_failed_on_one_of_its_days(days: SimulatedDays) -> None:
    lake = days.lake
    found = query(lake, f"FROM worst_controls('{DAYS[1]}', '{DAYS[3]}')")
    failed = pl.concat(
        lake.read(CONTROL_STATUS, day).filter(pl.col("status") == "FAILED") for day in DAYS[1:4]
    )
    expected = failed.group_by("report", "control_id").agg(
        failing_accounts=pl.col("account_id").n_unique()
    )
    columns = ["report", "control_id", "failing_accounts"]
    assert found.select(columns).sort(columns).rows() == expected.sort(columns).rows()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 3), (1, 2), (2, 3), (1, 1)])
def test_changed_controls_are_those_whose_status_differs_between_the_two_days(
    days: SimulatedDays, first: int, last: int
) -> None:
    lake, key = days.lake, ["account_id", "control_id"]
    seen = 0
    for report in days.settings.reports:
        before, after = (
            lake.read(CONTROL_STATUS, DAYS[number])
            .filter(pl.col("report") == report.name)
            .select(*key, pl.col("status").cast(pl.String))
            for number in (first, last)
        )
        differs = pl.col("status").ne_missing(pl.col("status_after"))
        expected = before.join(
            after.rename({"status": "status_after"}), on=key, how="full", coalesce=True
        ).filter(differs)
        found = query(
            lake, f"FROM changed_controls('{report.name}', '{DAYS[first]}', '{DAYS[last]}')"
        )
        columns = [*key, "status_before", "status_after"]
        assert found.select(columns).sort(key).rows() == expected.sort(key).rows()
        seen += found.height
    assert (seen > 0) == (first != last)


# --- only what is asked for is read -----------------------------------------------------------

LONG = [date(2025, 11, 1) + timedelta(days=number) for number in range(40)]
ACCOUNTS = [f"{number:012d}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Forty days of five accounts: tiny files, but as many as there would be."""
    lake = Lake(str(tmp_path_factory.mktemp("long")))
    for day in LONG:
        writer = lake.write(ACCOUNT_FINDINGS, day)
        for account in ACCOUNTS:
            findings = pl.DataFrame({"finding_id": [f"{day}/{account}"], "account_id": [account]})
            writer.add(complete(ACCOUNT_FINDINGS, findings), layout.account_part(account))
        writer.commit()
        for table in (MERGED_FINDINGS, FINDING_CHANGES, CONTROL_STATUS):
            key = pl.DataFrame({"account_id": ACCOUNTS, "control_id": "S3.1", "report": "fsbp"})
            lake.replace(table, day, complete(table, key))
    scores = pl.DataFrame({"report": ["fsbp"], "score": [1.0]})
    lake.replace(ORGANIZATION_SCORES, LONG[-1], complete(ORGANIZATION_SCORES, scores))
    lake.replace(EXPECTED_CONTROLS, LONG[-1], EXPECTED_CONTROLS.empty())
    publish_day(lake, LONG[-1])
    return lake


@dataclass(frozen=True)
class Read:
    """What a query read of the lake's parquet files."""

    files: int
    columns: set[str]
    rows: int


def read_by(lake: Lake, sql: str) -> Read:
    """Counted by DuckDB itself while it answers."""
    with open_catalog(lake) as connection:
        rows = len(connection.execute(sql).fetchall())
        plan = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()[0][1]
    scans = [
        node["extra_info"]
        for node in _nodes(json.loads(plan)["operator"])
        if node["extra_info"].get("Function") == "READ_PARQUET"
    ]
    names: set[str] = set()
    for scan in scans:
        projected = scan.get("Projections", [])
        names |= {projected} if isinstance(projected, str) else set(projected)
    files = sum(int(scan["Total Files Read"]) for scan in scans)
    return Read(files, names - {"filename", ""}, rows)


def _nodes(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _nodes(node.get("children", []))


DAY = LONG[20]
ONE_DAY = f"date = '{DAY}'"
ONE_ACCOUNT = f"account_id = '{ACCOUNTS[2]}'"


@pytest.mark.parametrize(
    ("source", "files", "rows"),
    [
        (f"findings_on('{DAY}')", 5, 5),
        (f"findings_on('{DAY}') WHERE {ONE_ACCOUNT}", 1, 1),
        (f"account_findings_on('{ACCOUNTS[2]}', '{DAY}')", 1, 1),
        (f"findings WHERE {ONE_DAY}", 5, 5),
        (f"findings WHERE {ONE_DAY} AND {ONE_ACCOUNT}", 1, 1),
        (f"findings WHERE date BETWEEN '{DAY}' AND '{DAY + timedelta(days=6)}'", 35, 35),
        (f"findings WHERE date >= '{LONG[-2]}' AND {ONE_ACCOUNT}", 2, 2),
        (f"account_findings WHERE {ONE_DAY}", 5, 5),
        ("findings", 200, 200),
        (f"merged_findings_on('{DAY}')", 1, 5),
        (f"merged_findings WHERE {ONE_DAY}", 1, 5),
        (f"control_status_on('{DAY}')", 1, 5),
        (f"finding_changes_on('{DAY}')", 1, 5),
        (f"finding_changes WHERE date > '{LONG[-4]}'", 3, 15),
    ],
)
def test_only_the_files_of_the_asked_days_and_accounts_are_read(
    long: Lake, source: str, files: int, rows: int
) -> None:
    read = read_by(long, f"SELECT account_id FROM {source}")  # noqa: S608
    assert (read.files, read.rows) == (files, rows)


@pytest.mark.parametrize(
    "source", [f"merged_findings_on('{DAY}')", f"merged_findings WHERE {ONE_DAY}"]
)
def test_only_the_asked_columns_are_read(long: Lake, source: str) -> None:
    read = read_by(long, f"SELECT account_id, title FROM {source}")  # noqa: S608
    assert read.columns == {"account_id", "title"}
    assert read_by(long, f"FROM {source}").columns >= set(MERGED_FINDINGS.names) - {"date"}


def test_what_new_failures_reads_does_not_grow_with_the_history(long: Lake) -> None:
    assert read_by(long, f"FROM new_failures('{DAY}')").files == 1
