"""The manifests of a lake, read as Athena's tables say: by another engine, from them alone."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from posture_pipeline.automation import DAILY_JOB
from posture_pipeline.cli import main
from posture_pipeline.definitions import build_definitions
from posture_pipeline.lake import layout
from posture_pipeline.lake.athena import write_all_manifests, write_manifests
from posture_pipeline.lake.maintenance import Maintenance
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.athena import statements
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    TABLES,
    Table,
)
from posture_pipeline.settings import Retention, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.buckets import bucket_lake, make_bucket
from posture_pipeline_tests.rows import complete

DAY = date(2026, 3, 31)
NEXT_MONTH = DAY + timedelta(days=1)

STORED_AS = {
    "string": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "binary": "BLOB",
}
"""What DuckDB calls the parquet types that Athena reads as these. Its timestamps are UTC."""

AS_STORED = "hive_partitioning = false"
"""Columns come from the files alone, and not from the names of folders."""


def manifest(lake: Lake, table: Table, day: date) -> list[str]:
    text = lake.get(layout.manifest_file(table.name, day))
    return [] if text is None else text.decode().splitlines()


def read_as_view(lake: Lake, table: Table, days: list[date]) -> pl.DataFrame:
    """The rows of days as the view of a table gives them: of each day's files those of the day."""
    frames = [table.empty()]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for day in days:
            if files := manifest(lake, table, day):
                sql = f"FROM read_parquet($files, {AS_STORED}) WHERE date = $day"
                rows = connection.sql(sql, params={"files": files, "day": day}).pl()
                frames.append(table.read_as(rows))
    return pl.concat(frames)


def scores(day: date, *values: float) -> pl.DataFrame:
    rows = [{"date": day, "account_id": f"{n:012d}", "score": v} for n, v in enumerate(values)]
    return complete(ACCOUNT_SCORES, pl.DataFrame(rows))


@pytest.fixture
def months(lake: Lake) -> Lake:
    """The last days of a month, and the first of the next."""
    for back in range(3):
        day = DAY - timedelta(days=back)
        lake.replace(ACCOUNT_SCORES, day, scores(day, 90.0, 80.0 + back))
    for day in (DAY, NEXT_MONTH):
        lake.replace(ORGANIZATION_SCORES, day, ORGANIZATION_SCORES.empty())
    lake.replace(ACCOUNT_SCORES, NEXT_MONTH, scores(NEXT_MONTH, 70.0))
    return lake


DAYS = [DAY - timedelta(days=2), DAY - timedelta(days=1), DAY, NEXT_MONTH]


def compact(lake: Lake) -> None:
    now = datetime(2026, 4, 1, 12, tzinfo=UTC)
    assert Maintenance(lake, Retention(), now).compact()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_stored_as_the_type_that_is_defined(table: Table, lake: Lake) -> None:
    lake.replace(table, DAY, table.empty())
    assert write_manifests(lake, [DAY]) == 1
    _, statement, _ = statements("s3://bucket/athena", DAY, tables=[table])
    defined = re.findall(r"^  `(\w+)` (\w+),?$", statement, re.MULTILINE)
    with duckdb.connect() as connection:
        sql = f"DESCRIBE FROM read_parquet($files, {AS_STORED})"
        stored = connection.execute(sql, {"files": manifest(lake, table, DAY)}).fetchall()
    assert [(name, type_) for name, type_, *_ in stored] == [
        (name, STORED_AS[type_]) for name, type_ in defined
    ]


def test_a_manifest_names_the_committed_files_alone(months: Lake) -> None:
    uncommitted = months.write(ACCOUNT_SCORES, DAY)
    uncommitted.add(scores(DAY, 1.0))
    write_all_manifests(months)
    commit = months.require(ACCOUNT_SCORES.name, DAY)
    assert manifest(months, ACCOUNT_SCORES, DAY) == [
        months.uri(f"{layout.run_folder(ACCOUNT_SCORES.name, DAY, commit.run)}/part-00000.parquet")
    ]
    assert_frame_equal(
        read_as_view(months, ACCOUNT_SCORES, DAYS), months.read(ACCOUNT_SCORES, DAYS)
    )


def test_scores_of_an_earlier_method_that_are_kept_are_not_read(months: Lake) -> None:
    for method in ("1", "2"):
        rows = scores(DAY, 50.0).with_columns(method=pl.lit(method))
        months.replace(ACCOUNT_SCORES, DAY, rows)
    write_manifests(months, [DAY])
    assert set(months.methods(ACCOUNT_SCORES, DAY)) == {"1", "2"}
    assert read_as_view(months, ACCOUNT_SCORES, [DAY])["method"].to_list() == ["2"]


def test_days_of_a_compacted_month_are_read_once_each(months: Lake) -> None:
    before = months.read(ACCOUNT_SCORES, DAYS)
    compact(months)
    write_all_manifests(months)
    assert (
        len({*manifest(months, ACCOUNT_SCORES, DAYS[0]), *manifest(months, ACCOUNT_SCORES, DAY)})
        == 1
    )
    assert_frame_equal(read_as_view(months, ACCOUNT_SCORES, DAYS), before)


def test_a_day_that_was_computed_again_after_its_month_was_compacted_is_read_anew(
    months: Lake,
) -> None:
    compact(months)
    months.replace(ACCOUNT_SCORES, DAY, scores(DAY, 10.0))
    write_all_manifests(months)
    found = read_as_view(months, ACCOUNT_SCORES, DAYS)
    assert found.filter(pl.col("date") == DAY)["score"].to_list() == [10.0]
    assert_frame_equal(found, months.read(ACCOUNT_SCORES, DAYS))


def test_a_day_that_retention_removed_has_no_manifest_any_more(lake: Lake) -> None:
    days = [DAY - timedelta(days=back) for back in (30, 1, 0)]
    for day in days:
        lake.replace(MERGED_FINDINGS, day, MERGED_FINDINGS.empty())
        lake.replace(ORGANIZATION_SCORES, day, ORGANIZATION_SCORES.empty())
    write_all_manifests(lake)
    assert manifest(lake, MERGED_FINDINGS, days[0])
    Maintenance(lake, Retention(), datetime(2026, 3, 31, 12, tzinfo=UTC)).remove()
    write_all_manifests(lake)
    assert manifest(lake, MERGED_FINDINGS, days[0]) == []
    assert manifest(lake, MERGED_FINDINGS, DAY)


# --- in a bucket ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[SimulationServer]:
    with serve(SimulationSettings(accounts=5, rate_limit=None)) as running:
        make_bucket(running)
        yield running


def manifests_of_run(lake: Lake) -> object:
    """How many manifests the asset of the day says it wrote."""
    job = build_definitions(Settings(), resources={"lake": lake}).resolve_job_def(DAILY_JOB)
    result = job.execute_in_process(
        partition_key=DAY.isoformat(), asset_selection=[dg.AssetKey("athena_manifests")]
    )
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata["manifests"].value


def test_in_a_bucket_a_run_writes_the_manifests_of_its_day(server: SimulationServer) -> None:
    lake = bucket_lake(server, uuid.uuid4().hex)
    lake.replace(ACCOUNT_SCORES, DAY, scores(DAY, 90.0))
    assert manifests_of_run(lake) == 1
    (named,) = manifest(lake, ACCOUNT_SCORES, DAY)
    assert named.startswith("s3://")
    assert named.removeprefix(f"{lake.root}/") in lake.sizes("")


def test_maintenance_deletes_no_file_that_a_manifest_names(server: SimulationServer) -> None:
    lake = bucket_lake(server, uuid.uuid4().hex)
    for day in DAYS:
        lake.replace(ACCOUNT_SCORES, day, scores(day, 90.0))
        lake.replace(ORGANIZATION_SCORES, day, ORGANIZATION_SCORES.empty())
    write_all_manifests(lake)
    compact(lake)
    later = datetime.now(UTC) + timedelta(days=2)
    assert Maintenance(lake, Retention(), later).delete()
    named = {path for day in DAYS for path in manifest(lake, ACCOUNT_SCORES, day)}
    assert named <= {lake.uri(path) for path in lake.sizes("")}
    assert any("/month=2026-03/" in path for path in named)


def test_a_lake_in_a_folder_has_no_manifests(lake: Lake) -> None:
    lake.replace(ACCOUNT_SCORES, DAY, scores(DAY, 90.0))
    assert manifests_of_run(lake) == 0
    assert layout.MANIFESTS not in lake.names("")[0]


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_sql_and_a_list_of_the_same_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTURE_CONFIG", raising=False)
    command = ["athena-ddl", "--lake", "s3://the-bucket/lake", "--database", "history"]
    assert main(command) == 0
    sql = capsys.readouterr().out
    assert main([*command, "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [each.strip() for each in sql.split(";") if each.strip()]
    assert (
        listed[1:]
        == statements("s3://the-bucket/lake/athena", date(2024, 1, 1), database="history")[1:]
    )


def test_a_lake_in_a_folder_is_told_that_athena_reads_buckets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["athena-ddl", "--lake", str(tmp_path)]) == 1
    assert "--lake s3://bucket/prefix" in capsys.readouterr().err
