"""The catalog: the lake's history in one file, whatever the order in which days came."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import DamagedError, InputError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.catalog.publish import (
    DAILY_TABLES,
    LAKE_MACROS,
    LAKE_VIEWS,
    open_catalog,
    publish_day,
    query,
    rebuild,
)
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EARLIER_SCORES,
    EXCEPTIONS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    SCORE_TABLES,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline_tests.rows import complete

pytestmark = pytest.mark.functional

FIRST = date(2026, 11, 20)
DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)
ONE, TWO = "012345678901", "000000000001"
STATUS_COLUMNS = [
    "date",
    "report",
    "report_kind",
    "account_id",
    "control_id",
    "severity",
    "status",
    "basis",
]

Status = dict[tuple[str, str], tuple[str, str, str, str | None]]
"""(account, control) -> (report kind, status, basis, severity)."""


def status_rows(day: date, statuses: Status) -> pl.DataFrame:
    rows = [
        {
            "date": day,
            "report": "fsbp",
            "report_kind": kind,
            "account_id": account,
            "control_id": control,
            "severity": severity,
            "status": status,
            "basis": basis,
        }
        for (account, control), (kind, status, basis, severity) in statuses.items()
    ]
    return complete(CONTROL_STATUS, pl.DataFrame(rows, infer_schema_length=None))


def put_day(lake: Lake, day: date, statuses: Status, score: int = 50) -> None:
    """A day as the daily job leaves it, small."""
    lake.replace(CONTROL_STATUS, day, status_rows(day, statuses))
    counts = {"passed": [score], "failed": [100 - score], "unknown": [0], "expected": [100]}
    scope: dict[str, list[Any]] = {"report": ["fsbp"], "score": [float(score)], **counts}
    workload: dict[str, list[Any]] = {"workload": ["shop"], "environment": ["production"]}
    rows = pl.DataFrame(scope | workload | {"account_id": [ONE]})
    for table in SCORE_TABLES:
        lake.replace(table, day, complete(table, rows))


def put_findings(lake: Lake, day: date, ids: dict[str, list[str]], *, commit: bool = True) -> str:
    """Account findings of a day; without a commit they are what a killed run leaves."""
    writer = lake.write(ACCOUNT_FINDINGS, day)
    for account, findings in ids.items():
        writer.add(
            complete(
                ACCOUNT_FINDINGS,
                pl.DataFrame({"finding_id": findings}).with_columns(account_id=pl.lit(account)),
            ),
            layout.account_part(account),
        )
    if commit:
        writer.commit()
    return writer.run


def failed(control: str = "S3.1", account: str = ONE) -> Status:
    return {(account, control): ("standard", "FAILED", "findings", "HIGH")}


def in_view(lake: Lake) -> pl.DataFrame:
    columns = ", ".join(STATUS_COLUMNS)
    return query(lake, f"SELECT {columns} FROM control_status ORDER BY ALL")  # noqa: S608


def all_tables(lake: Lake) -> dict[str, pl.DataFrame]:
    """Everything in the catalog, each table in the order of its columns."""
    names = [table.name for table in DAILY_TABLES]
    names += ["control_status", "control_status_periods", "control_days", "observed_days"]
    names += ["accounts"]
    with open_catalog(lake) as connection:
        return {name: connection.sql(f"FROM {name} ORDER BY ALL").pl() for name in names}


def ids(rows: pl.DataFrame) -> list[str]:
    return sorted(rows["finding_id"].to_list())


@pytest.fixture
def published(lake: Lake) -> Lake:
    """A lake with one published day."""
    put_day(lake, DAY, failed())
    put_findings(lake, DAY, {ONE: ["a", "b"], TWO: ["c"]})
    publish_day(lake, DAY)
    return lake


# --- history ----------------------------------------------------------------------------------

STATUSES = st.dictionaries(
    st.tuples(st.sampled_from([ONE, TWO]), st.sampled_from(["S3.1", "S3.2"])),
    st.tuples(
        st.sampled_from(["standard"] * 5 + ["conformance_pack"]),
        st.sampled_from(["PASSED", "FAILED"]),
        st.sampled_from(["findings"] * 3 + ["assumed"]),
        st.sampled_from(["HIGH"] * 5 + [None]),
    ),
)


@settings(max_examples=8)
@given(st.lists(st.tuples(st.integers(0, 5), STATUSES), min_size=1, max_size=7))
def test_days_published_in_any_order_and_again_give_exactly_their_rows(
    tmp_path_factory: pytest.TempPathFactory, published: list[tuple[int, Status]]
) -> None:
    """Periods are an encoding: the view must give back every day, as a rebuild does."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    days: dict[date, Status] = {}
    for offset, statuses in published:
        day = FIRST + timedelta(days=offset)
        days[day] = statuses
        put_day(lake, day, statuses, score=offset)
        publish_day(lake, day)
    expected = (
        pl.concat(status_rows(day, statuses) for day, statuses in days.items())
        .select(STATUS_COLUMNS)
        .sort(STATUS_COLUMNS, nulls_last=True)
    )
    before = all_tables(lake)
    assert before["control_status"].select(STATUS_COLUMNS).equals(expected)
    assert before["observed_days"]["date"].to_list() == sorted(days)
    rebuild(lake)
    for name, rows in all_tables(lake).items():
        assert rows.equals(before[name]), name


def test_a_catalog_with_many_holes_is_written_anew_with_the_same_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for offset in range(4):
        day = FIRST + timedelta(days=offset)
        put_day(lake, day, failed(f"S3.{9 - offset}") | failed(account=TWO))
        publish_day(lake, day)
    before = all_tables(lake)
    monkeypatch.setattr(publish, "COMPACTED_FROM_BYTES", 0)
    monkeypatch.setattr(publish, "UNUSED_AT_MOST", -1.0)
    publish_day(lake, FIRST)
    for name, rows in all_tables(lake).items():
        assert rows.equals(before[name]), name
    stored = query(lake, "SELECT account_id, control_id FROM control_status_periods").rows()
    assert stored == sorted(stored), "as they are asked for"
    assert len(stored) == 4 + 1
    assert catalog_files(lake) == [layout.CATALOG]


def test_a_status_that_stays_is_one_period(lake: Lake) -> None:
    for offset in (0, 2, 1, 3):
        day = FIRST + timedelta(days=offset)
        put_day(lake, day, failed())
        publish_day(lake, day)
    rows = query(lake, "SELECT valid_from, valid_to FROM control_status_periods")
    assert rows.rows() == [(FIRST, None)]


def test_a_day_that_was_not_observed_is_no_day_of_a_period(lake: Lake) -> None:
    """Nobody looked on the days between; the view does not claim that somebody did."""
    for offset in (0, 3):
        put_day(lake, FIRST + timedelta(days=offset), failed())
        publish_day(lake, FIRST + timedelta(days=offset))
    assert in_view(lake)["date"].to_list() == [FIRST, FIRST + timedelta(days=3)]


def test_tables_have_the_declared_columns_with_their_meanings(published: Lake) -> None:
    for table in DAILY_TABLES:
        columns = query(
            published,
            "SELECT column_name, comment FROM duckdb_columns() "  # noqa: S608
            f"WHERE table_name = '{table.name}' ORDER BY column_index",
        )
        assert columns.rows() == [(column.name, column.meaning) for column in table.columns]
        rows = query(published, f"FROM {table.name}")
        assert rows.schema == table.schema


def test_leading_zeros_of_account_ids_survive(published: Lake) -> None:
    assert query(published, "SELECT account_id FROM accounts")["account_id"].to_list() == [ONE]
    assert in_view(published)["account_id"].to_list() == [ONE]
    for source in (f"findings_on('{DAY}')", "findings"):
        found = query(published, f"SELECT DISTINCT account_id FROM {source} ORDER BY ALL")  # noqa: S608
        assert found["account_id"].to_list() == [TWO, ONE]


def test_the_questions_people_ask_are_macros(published: Lake) -> None:
    assert query(published, f"FROM scores_on('{DAY}')")["score"].to_list() == [50.0]
    assert query(published, "FROM trend('shop', 'production')").height == 1
    worst = query(published, f"FROM worst_controls('{DAY}')")
    assert worst.select("control_id", "failing_accounts", "accounts").rows() == [("S3.1", 1, 1)]
    counted = query(published, f"FROM control_status_on('{DAY}')")
    assert counted.schema == CONTROL_STATUS.schema


def elsewhere(lake: Lake, *sql: str) -> list[int]:
    """How many rows plain DuckDB gives for each query, in a process of its own."""
    program = (
        "import duckdb, json, sys\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "print(json.dumps([len(c.sql(q).fetchall()) for q in sys.argv[2:]]))\n"
    )
    catalog = str(Path(lake.root, layout.CATALOG))
    done = subprocess.run(
        [sys.executable, "-c", program, catalog, *sql], capture_output=True, text=True, check=True
    )
    rows: list[int] = json.loads(done.stdout)
    return rows


# --- publishing -------------------------------------------------------------------------------


def test_a_reader_keeps_its_snapshot_while_new_readers_see_the_new_file(published: Lake) -> None:
    with open_catalog(published) as old:
        assert old.sql("FROM control_status").fetchall()
        put_day(published, NEXT, failed("S3.2"))
        publish_day(published, NEXT)
        count = old.execute("SELECT count(*), max(date) FROM control_status").fetchone()
        assert count == (1, DAY)
        # A new reader is another process: one process opens a file once.
        assert elsewhere(published, "FROM observed_days") == [2]
    assert in_view(published)["date"].to_list() == [DAY, NEXT]


READER = """\
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as catalog:
    for question in sys.stdin:
        print(catalog.execute(question).fetchall(), flush=True)
"""


def test_several_people_ask_while_days_are_published_under_them(
    published: Lake, tmp_path: Path
) -> None:
    """Each in a process and a directory of his own; all have the file open all the time."""
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(Path(published.root, layout.CATALOG))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for _ in range(2)
    ]

    def answers(question: str) -> list[str]:
        said = []
        for reader in readers:
            assert reader.stdin is not None
            assert reader.stdout is not None
            print(question, file=reader.stdin, flush=True)
            said.append(reader.stdout.readline().strip())
        return said

    days = "SELECT count(*) FROM observed_days"
    scores = f"SELECT score FROM scores_on('{DAY}')"  # noqa: S608
    try:
        assert answers(days) == ["[(1,)]"] * 2
        for day in (NEXT, DAY):
            put_day(published, day, failed("S3.2"), score=75)
            publish_day(published, day)
            assert answers(days) == ["[(1,)]"] * 2
            assert answers(scores) == ["[(50.0,)]"] * 2
        assert query(published, days).item() == 2
        assert query(published, scores).item() == 75.0
    finally:
        for reader in readers:
            reader.communicate()


def test_a_failed_publishing_leaves_the_old_catalog_and_no_litter(published: Lake) -> None:
    before = in_view(published)
    put_day(published, NEXT, failed("S3.2"))
    lake_file = next(Path(published.root, CONTROL_STATUS.name, f"date={NEXT}").rglob("*.parquet"))
    lake_file.write_bytes(b"no parquet")
    with pytest.raises(DamagedError, match="10 bytes"):
        publish_day(published, NEXT)
    assert in_view(published).equals(before)
    assert catalog_files(published) == ["posture.duckdb"]


def catalog_files(lake: Lake) -> list[str]:
    """The files of the lake's folder itself, the lock of its commits aside."""
    files = {path.name for path in Path(lake.root).iterdir() if path.is_file()}
    return sorted(files - {layout.LOCK})


def test_what_a_killed_publishing_left_is_not_taken_for_the_catalog(lake: Lake) -> None:
    """In a container every process has the same id, so the file of the killed one is met again."""
    for day, control in ((DAY, "S3.1"), (NEXT, "S3.2")):
        put_day(lake, day, failed(control))
    publish_day(lake, NEXT)
    stale = Path(lake.root, f".posture.duckdb.{os.getpid()}.new")
    Path(lake.root, layout.CATALOG).rename(stale)
    with duckdb.connect(str(stale)) as connection:
        connection.execute("DELETE FROM control_status_periods")
    stale.with_name(stale.name + ".wal").write_bytes(b"half a log")
    publish_day(lake, NEXT)
    assert in_view(lake)["control_id"].to_list() == ["S3.1", "S3.2"]
    assert catalog_files(lake) == ["posture.duckdb"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE catalog_version SET version = version - 1",
        "UPDATE catalog_version SET version = version + 1",
        "DROP TABLE catalog_version",
        "DELETE FROM catalog_version",
    ],
)
def test_a_catalog_of_another_version_is_rebuilt_from_every_day(
    published: Lake, change: str
) -> None:
    put_day(published, NEXT, failed("S3.2"))
    publish_day(published, NEXT)
    expected = in_view(published)
    with duckdb.connect(str(Path(published.root, layout.CATALOG))) as connection:
        connection.execute(change)
        connection.execute("DROP VIEW control_status; DELETE FROM control_status_periods")
    publish_day(published, NEXT)
    assert in_view(published).equals(expected)


def test_a_damaged_catalog_is_named_and_built_anew_by_the_next_day(published: Lake) -> None:
    Path(published.root, layout.CATALOG).write_bytes(b"no database at all" * 1000)
    with pytest.raises(LakeError, match=r"posture\.duckdb cannot be opened .* Run any day again"):
        in_view(published)
    put_day(published, NEXT, failed())
    publish_day(published, NEXT)
    assert in_view(published)["date"].to_list() == [DAY, NEXT]


def test_a_rebuild_serves_the_old_catalog_until_the_new_one_is_whole(published: Lake) -> None:
    lake_file = next(Path(published.root, CONTROL_STATUS.name).rglob("*.parquet"))
    lake_file.write_bytes(b"no parquet")
    with pytest.raises(DamagedError, match="10 bytes"):
        rebuild(published)
    assert in_view(published).height == 1


def test_without_a_catalog_the_error_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"no catalog in the lake .* yet\. Run a day first"):
        query(lake, "SELECT 1")


# --- SQL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO observed_days VALUES ('2020-01-01')",
        "UPDATE organization_scores SET score = 100",
        "DELETE FROM control_status_periods",
        "DROP VIEW account_scores",
        "CREATE TABLE own AS SELECT 1",
        "CREATE OR REPLACE VIEW control_status AS SELECT 1",
    ],
)
def test_sql_cannot_change_the_catalog(published: Lake, sql: str) -> None:
    before = Path(published.root, layout.CATALOG).read_bytes()
    with pytest.raises(InputError, match="read-only"):
        query(published, sql)
    assert Path(published.root, layout.CATALOG).read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("FROM scores", "Table with name scores does not exist"),
        ("SELECT nope FROM account_scores", 'Referenced column "nope" not found'),
        ("SELECT 'x'::INT", "Could not convert string 'x' to INT32"),
        ("SELECT INTERVAL 1 DAY", "cast it to VARCHAR"),
    ],
)
def test_an_error_of_sql_is_told_in_duckdbs_words(published: Lake, sql: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        query(published, sql)
    assert text in str(error.value)


def test_sql_without_a_result_gives_no_rows(published: Lake) -> None:
    assert query(published, "").is_empty()
    assert query(published, "-- a remark").is_empty()


# --- findings ---------------------------------------------------------------------------------


def test_findings_go_by_the_commit(published: Lake) -> None:
    """A run that was killed while it wrote is not read, though its files lie there."""
    put_findings(published, DAY, {ONE: ["orphan"], "999999999999": ["orphan"]}, commit=False)
    on_day = f"findings_on('{DAY}')"
    assert ids(query(published, f"FROM {on_day}")) == ["a", "b", "c"]
    assert ids(query(published, f"FROM account_findings_on('{ONE}', '{DAY}')")) == ["a", "b"]
    assert ids(query(published, "FROM findings")) == ["a", "b", "c"]
    other = query(published, f"FROM account_findings_on('999999999999', '{DAY}')")
    assert other.is_empty()


def test_findings_have_the_declared_columns(published: Lake) -> None:
    for source in (f"findings_on('{DAY}')", "findings", f"account_findings_on('{ONE}', '{DAY}')"):
        assert query(published, f"FROM {source}").schema == ACCOUNT_FINDINGS.schema


def test_findings_of_a_day_written_again_are_read_without_publishing(published: Lake) -> None:
    put_findings(published, DAY, {ONE: ["new"]})
    assert ids(query(published, f"FROM findings_on('{DAY}')")) == ["new"]


def test_findings_can_be_joined_with_scores(published: Lake) -> None:
    rows = query(
        published,
        f"SELECT workload, finding_id FROM findings_on('{DAY}') "  # noqa: S608
        "JOIN account_scores USING (date, account_id) ORDER BY ALL",
    )
    assert rows.rows() == [("shop", "a"), ("shop", "b")]


def test_a_day_may_be_given_as_text_or_date(published: Lake) -> None:
    assert query(published, f"FROM findings_on(DATE '{DAY}')").height == 3
    assert query(published, f"FROM findings WHERE date = DATE '{DAY}'").height == 3
    assert query(published, f"FROM findings WHERE date = '{DAY}'").height == 3


def test_a_day_without_any_finding_does_not_break_the_view(published: Lake) -> None:
    put_day(published, NEXT, {})
    put_findings(published, NEXT, {"none": []})
    publish_day(published, NEXT)
    assert query(published, f"FROM findings_on('{NEXT}')").is_empty()
    assert query(published, "FROM findings").height == 3


def test_the_file_can_be_opened_with_plain_duckdb_from_another_folder(
    published: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sql = ["FROM control_status", f"FROM findings_on('{DAY}')", "FROM findings", "FROM accounts"]
    assert elsewhere(published, *sql) == [1, 3, 3, 1]


@pytest.fixture(params=["it's here", "la[k]e*", "100% ü", "date=2020-01-01/run=old"])
def odd_lake(tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    return Lake(str(tmp_path / request.param))


def test_the_lakes_folder_may_have_any_name(odd_lake: Lake) -> None:
    put_day(odd_lake, DAY, failed())
    put_findings(odd_lake, DAY, {ONE: ["a"]})
    publish_day(odd_lake, DAY)
    found: list[Any] = [
        query(odd_lake, f"FROM {source}").height
        for source in (f"findings_on('{DAY}')", "findings", f"control_status_on('{DAY}')")
    ]
    assert found == [1, 1, 1]
    assert query(odd_lake, "SELECT date FROM findings").item() == DAY
    assert query(odd_lake, "SELECT lake_root() AS root")["root"].to_list() == [odd_lake.root]


# --- tables that stay in the lake -------------------------------------------------------------


def test_a_lake_without_the_younger_tables_is_published_and_they_are_empty(published: Lake) -> None:
    for view, table in LAKE_VIEWS.items():
        if published.last_day(table.name) is None:
            assert query(published, f"FROM {view}").equals(table.empty()), view
            assert query(published, f"FROM {view} WHERE date = '{DAY}'").is_empty()


def test_the_first_rows_of_a_table_are_seen_without_publishing(published: Lake) -> None:
    """What a run writes after it published must not seem not to be there until the next day."""
    assert query(published, "FROM exceptions").is_empty()
    orphan, counted = (
        complete(EXCEPTIONS, pl.DataFrame({"control_id": [control], "open": [True]}))
        for control in ("orphan", "S3.1")
    )
    published.write(EXCEPTIONS, DAY).add(orphan)
    assert query(published, "FROM exceptions").is_empty()
    published.replace(EXCEPTIONS, DAY, counted)
    for where in ("", f"WHERE date = '{DAY}'"):
        found = query(published, f"FROM exceptions {where}")
        assert found.schema == EXCEPTIONS.schema
        assert found.select("date", "control_id").rows() == [(DAY, "S3.1")]
    on_day = query(published, f"FROM exceptions_on('{DAY}')")
    assert on_day["control_id"].to_list() == ["S3.1"]


@pytest.mark.parametrize("table", LAKE_MACROS, ids=lambda table: table.name)
def test_a_day_that_the_lake_does_not_have_is_an_error_and_not_an_empty_answer(
    published: Lake, table: Table
) -> None:
    with pytest.raises(InputError, match="No files found"):
        query(published, f"FROM {table.name}_on('2020-01-01')")


def test_files_from_before_a_column_give_null_for_it(published: Lake) -> None:
    """Columns are only ever added; the files of older days are not written again."""
    columns = tuple(
        c for c in MERGED_FINDINGS.columns if c.name in ("date", "finding_id", "account_id")
    )
    older = dataclasses.replace(MERGED_FINDINGS, columns=columns)
    published.replace(
        older, DAY, complete(older, pl.DataFrame({"finding_id": ["a"], "account_id": [ONE]}))
    )
    rows = pl.DataFrame({"finding_id": ["b"], "account_id": [TWO], "title": ["T"]})
    published.replace(MERGED_FINDINGS, NEXT, complete(MERGED_FINDINGS, rows))
    publish_day(published, DAY)
    found = query(published, "FROM merged_findings ORDER BY date")
    assert found.schema == MERGED_FINDINGS.schema
    assert found.select("date", "finding_id", "title").rows() == [
        (DAY, "a", None),
        (NEXT, "b", "T"),
    ]
    for day, account in ((DAY, ONE), (NEXT, TWO)):
        on_day = query(published, f"FROM merged_findings_on('{day}')")
        assert on_day.schema == MERGED_FINDINGS.schema
        assert on_day["account_id"].to_list() == [account]


def test_views_of_the_lake_go_by_the_commit(published: Lake) -> None:
    counted, orphan = (
        complete(FINDING_CHANGES, pl.DataFrame({"control_id": [control]}))
        for control in ("S3.1", "orphan")
    )
    published.replace(FINDING_CHANGES, DAY, counted)
    publish_day(published, DAY)
    published.write(FINDING_CHANGES, DAY).add(orphan)
    for source in ("finding_changes", f"finding_changes_on('{DAY}')"):
        assert query(published, f"FROM {source}")["control_id"].to_list() == ["S3.1"]


def test_scores_of_an_earlier_method_are_in_the_catalog(published: Lake) -> None:
    for method, score in (("1", 40.0), ("2", 60.0)):
        rows = pl.DataFrame({"report": ["fsbp"], "score": [score], "method": [method]})
        published.replace(ORGANIZATION_SCORES, DAY, complete(ORGANIZATION_SCORES, rows))
    publish_day(published, DAY)
    found = query(published, "FROM earlier_scores")
    assert found.schema == EARLIER_SCORES.schema
    assert found.select("date", "scope", "method", "score").rows() == [
        (DAY, "organization", "1", 40.0)
    ]
    assert query(published, "SELECT score FROM organization_scores").item() == 60.0


@pytest.mark.parametrize("table", [ACCOUNT_SCORES, WORKLOAD_SCORES])
def test_the_share_of_resources_is_as_in_the_lake_with_its_counts_and_without(
    published: Lake, table: Table
) -> None:
    """Scores of the first versions have no counts of resources, withheld ones no share."""
    names = ["counted", "withheld", "none", "old"]
    rows = pl.DataFrame(
        {
            "report": names,
            "reason": [None, "silent", None, None],
            "passed_resources": [1, 1, 0, None],
            "failed_resources": [2, 2, 0, None],
            "resource_score": [100 / 3, None, None, 200 / 3],
        }
    )
    published.replace(table, DAY, complete(table, rows))
    publish_day(published, DAY)
    asked = f"SELECT report, resource_score FROM {table.name} ORDER BY report"  # noqa: S608
    found = dict(query(published, asked).rows())
    assert found == dict(rows.select("report", "resource_score").rows())
