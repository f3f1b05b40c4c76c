"""Lakes that earlier versions wrote: everything reads, computes and goes on; columns only grow.

The lakes lie in `fixtures/`, one of every schema version; `make_old_lake.py` makes them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import yaml
from polars.testing import assert_frame_equal

from posture_pipeline import cli, schemas
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.doctor import Doctor, repair
from posture_pipeline.lake.maintenance import PUT_TOGETHER, Maintenance
from posture_pipeline.lake.raw_pages import raw_files, read_pages
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.scoring import METHOD_VERSION
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXCEPTIONS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    REMEDIATION,
    SCHEMA_VERSION,
    SCORE_CHANGES,
    TABLES,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Retention
from posture_pipeline_tests.make_old_lake import DAYS, REPORTS, SMALLEST
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

FIXTURES = Path(__file__).parents[1] / "fixtures"
VERSIONS = [1, 2]
NEXT = DAYS[-1] + timedelta(days=1)
WORKLOAD = ["--report", "cis-v3", "--workload", "payments", "--environment", "production"]


def unpacked(version: int, folder: Path) -> Lake:
    """The lake that a version wrote, below a folder."""
    data = (FIXTURES / f"lake_v{version}.tar.zst").read_bytes()
    raw = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(folder / "lake", filter="data")
    return Lake(str(folder / "lake"))


@dataclass
class OldLake:
    """A lake as an earlier version left it, before anything is done with it.

    Attributes:
        version: The schema version.
        days: The lake, and the organization that it is of.
        config: A settings file that names the lake.
    """

    version: int
    days: SimulatedDays
    config: Path

    @property
    def lake(self) -> Lake:
        return self.days.lake

    def posture(self, *arguments: str) -> str:
        with redirect_stdout(io.StringIO()) as said:
            assert cli.main([*arguments, "--config", str(self.config)]) == 0
        return said.getvalue()


@pytest.fixture(scope="module", params=VERSIONS)
def old(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OldLake]:
    """Only read: the tests that change it make their own."""
    yield from opened(request.param, tmp_path_factory.mktemp(f"v{request.param}"))


def opened(version: int, folder: Path) -> Iterator[OldLake]:
    unpacked(version, folder)
    config = folder / "posture.yaml"
    with simulated_days(folder, SMALLEST, reports=REPORTS) as days:
        reports = [each.model_dump(mode="json", exclude_none=True) for each in REPORTS]
        text = {"lake": days.settings.lake, "reports": reports}
        config.write_text(yaml.safe_dump(text), encoding="utf-8")
        yield OldLake(version, days, config)


# --- columns ----------------------------------------------------------------------------------


def recorded(version: int) -> dict[str, dict[str, str]]:
    """The columns of every table and their dtypes, as a schema version had them."""
    path = FIXTURES / f"columns_v{version}.json"
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def present() -> dict[str, dict[str, str]]:
    return {
        table.name: {column.name: str(column.dtype) for column in table.columns} for table in TABLES
    }


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_tables_only_gain_columns(version: int) -> None:
    now = present()
    for table, columns in recorded(version).items():
        assert columns.items() <= now[table].items(), (
            f"{table} lost or changed columns that version {version} wrote"
        )


def test_columns_are_gained_with_a_new_schema_version_only() -> None:
    assert present() == recorded(SCHEMA_VERSION), (
        "Raise schemas.SCHEMA_VERSION and record its columns: "
        "python -m posture_pipeline_tests.make_old_lake --columns"
    )


def test_a_lake_of_every_earlier_schema_version_is_kept() -> None:
    kept = {path.name.split(".")[0] for path in FIXTURES.glob("lake_v*.tar.zst")}
    assert {f"lake_v{version}" for version in range(1, SCHEMA_VERSION)} <= kept


# --- reading ----------------------------------------------------------------------------------


def test_every_table_reads_with_the_columns_of_today(old: OldLake) -> None:
    columns = recorded(old.version)
    read = 0
    for table in TABLES:
        for day in old.lake.days(table.name):
            commit = old.lake.require(table.name, day)
            rows = old.lake.read(table, day)
            assert rows.schema == table.schema
            assert rows.height == commit.rows
            assert commit.schema_version == old.version
            missing = [name for name in table.names if name not in columns[table.name]]
            assert all(rows[name].null_count() == rows.height for name in missing)
            read += rows.height
    assert read > 1_000


def test_the_pages_as_received_read(old: OldLake) -> None:
    day = DAYS[-1]
    pages = [
        page for _, path, _ in raw_files(old.lake, day) for page in read_pages(old.lake, day, path)
    ]
    assert sum(len(json.loads(page)["Findings"]) for page in pages) == (
        old.lake.require(RAW_FINDING_PAGES, day).rows
    )


def test_scores_and_controls_are_shown(old: OldLake) -> None:
    for day in DAYS:
        assert "payments" in old.posture("scores", "--date", str(day))
    assert "PASSED" in old.posture("controls", *WORKLOAD)


def test_the_change_between_two_old_days_is_explained(old: OldLake) -> None:
    told = json.loads(old.posture("explain", *WORKLOAD, "--format", "json"))
    assert (told["from"], told["to"]) == tuple(map(str, DAYS))


def test_the_backlog_of_an_old_day_is_shown(old: OldLake) -> None:
    assert old.posture("backlog", *WORKLOAD)


def test_the_doctor_finds_every_file_as_it_was_committed(old: OldLake) -> None:
    doctor = Doctor(old.lake, now=datetime.now(UTC) + timedelta(days=2))
    assert {each.table for each in doctor.problems()} <= {"catalog"}
    assert doctor.examined.files > 20


# --- going on ---------------------------------------------------------------------------------


@dataclass
class GoneOn:
    """The oldest lake after a new day and the computation of its old ones by today's rules.

    Attributes:
        old: The lake.
        first: Its workload scores as they were.
        said: What the computation said.
    """

    old: OldLake
    first: dict[date, pl.DataFrame]
    said: str

    @property
    def lake(self) -> Lake:
        return self.old.lake


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoneOn]:
    folder = tmp_path_factory.mktemp("gone_on")
    for old in opened(VERSIONS[0], folder):
        first = {day: old.lake.read(WORKLOAD_SCORES, day) for day in DAYS}
        result = old.days.run(NEXT)
        assert result.success, failures(result)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("DAGSTER_HOME", str(folder / "home"))
            said = old.posture("replay", "--to", str(DAYS[-1]))
        yield GoneOn(old, first, said)


def test_a_new_day_follows_the_old_ones(gone_on: GoneOn) -> None:
    assert gone_on.lake.days(WORKLOAD_SCORES.name) == [*DAYS, NEXT]
    changes = gone_on.lake.require(SCORE_CHANGES.name, NEXT)
    assert changes.details["compared_with"] == str(DAYS[-1])
    index = Path(gone_on.lake.root, "report", "index.html")
    assert str(NEXT) in index.read_text(encoding="utf-8")


def test_the_catalog_of_another_version_is_built_anew_with_all_days(gone_on: GoneOn) -> None:
    scores = publish.query(gone_on.lake, "SELECT DISTINCT date FROM workload_scores ORDER BY date")
    assert scores["date"].to_list() == [*DAYS, NEXT]
    for view in ("findings", "merged_findings", "control_status", "exceptions", "remediation"):
        assert publish.query(gone_on.lake, f"FROM {view} LIMIT 1").height == 1, view
    for day in DAYS:
        asked = publish.query(gone_on.lake, f"FROM control_status_on('{day}')")
        assert asked.height == gone_on.lake.require(CONTROL_STATUS.name, day).rows
    later = datetime.now(UTC) + timedelta(days=2)
    assert Doctor(gone_on.lake, now=later).problems() == []


def test_old_days_are_computed_again_with_what_is_new_since(gone_on: GoneOn) -> None:
    assert f"2 days from {DAYS[0]} to {DAYS[1]}" in gone_on.said
    for table in (CARRIED_FAILURES, EXCEPTIONS, REMEDIATION, TIME_TO_FIX):
        assert gone_on.lake.days(table.name) == [*DAYS, NEXT]


def test_scores_of_the_old_method_stay_readable(gone_on: GoneOn) -> None:
    for day, before in gone_on.first.items():
        (made_by,) = before["method"].unique()
        assert list(gone_on.lake.methods(WORKLOAD_SCORES, day)) == [METHOD_VERSION, made_by]
        assert_frame_equal(gone_on.lake.read(WORKLOAD_SCORES, day, method=made_by), before)


@pytest.fixture(params=VERSIONS)
def mine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldLake]:
    """To be changed."""
    yield from opened(request.param, tmp_path)


def test_an_old_day_is_merged_again_from_its_pages(mine: OldLake) -> None:
    before = mine.lake.read(MERGED_FINDINGS, DAYS[-1])
    mine.days.server.set_clock(datetime(2026, 3, 20, tzinfo=UTC))
    result = mine.days.run_now(
        DAYS[-1], selection=["raw_finding_pages", "merged_findings", "account_findings"]
    )
    assert result.success, failures(result)
    after = mine.lake.read(MERGED_FINDINGS, DAYS[-1])
    assert_frame_equal(after.sort(pl.all()), before.sort(pl.all()))
    assert mine.lake.require(ACCOUNT_FINDINGS.name, DAYS[-1]).rows == before.height


def test_an_old_lake_is_compacted_and_reads_as_before(mine: OldLake) -> None:
    lake = mine.lake
    lake.replace(ORGANIZATION_SCORES, date(2026, 4, 2), ORGANIZATION_SCORES.empty())
    before = {
        (table.name, day): lake.read(table, day)
        for table in TABLES
        for day in lake.days(table.name)
    }
    now = datetime.now(UTC)
    done = Maintenance(lake, Retention(), now).compact()
    assert {each.what for each in done} == {PUT_TOGETHER}
    Maintenance(lake, Retention(), now + timedelta(days=2)).delete()
    for (name, day), rows in before.items():
        assert_frame_equal(lake.read(schemas.table(name), day), rows)
        assert lake.require(name, day).schema_version in (mine.version, SCHEMA_VERSION)
    problems = Doctor(lake, now=now + timedelta(days=2)).problems()
    assert {each.place for each in problems} <= {layout.CATALOG}
    assert repair(lake, problems) == problems
