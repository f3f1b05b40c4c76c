"""The doctor: what is not as a commit says is found and named; only what is safe is repaired."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from posture_pipeline import cli
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.doctor import DELETE, REBUILD, Doctor, Problem, repair
from posture_pipeline.lake.maintenance import GRACE, Maintenance
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Retention
from posture_pipeline_tests.rows import complete

PAST, DAY = date(2026, 1, 31), date(2026, 2, 1)
LATER = datetime.now(UTC) + 2 * GRACE
TABLES = (MERGED_FINDINGS, ACCOUNT_FINDINGS, CONTROL_STATUS, ORGANIZATION_SCORES, TIME_TO_FIX)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two days of some tables, the raw pages of one, and a catalog."""
    lake = Lake(str(tmp_path_factory.mktemp("made") / "lake"))
    for day in (PAST, DAY):
        for table in TABLES:
            writer = lake.write(table, day)
            for name in ("a", "b") if table is ACCOUNT_FINDINGS else ("a",):
                writer.add(rows(table, name), f"account_id={name}/findings.parquet")
            writer.commit({"collected_at": f"{day}T06:00:00+00:00"})
    lake.replace(EXPECTED_CONTROLS, PAST, rows(EXPECTED_CONTROLS, "a"))
    pages = RawPagesWriter(lake, DAY)
    pages.add("0", b'{"Findings": []}')
    pages.save(ShardPosition("0", "all", files=1, pages=1, complete=True))
    pages.commit(["0"], {"collected_at": f"{DAY}T06:00:00+00:00"})
    publish.rebuild(lake)
    return lake


@pytest.fixture
def whole(made: Lake, tmp_path: Path) -> Lake:
    """The same lake in a folder of its own, as it is."""
    shutil.copytree(made.root, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


def rows(table: Table, text: str) -> pl.DataFrame:
    """One row with a text in each column of text."""
    texts = [name for name, dtype in table.schema.items() if dtype == pl.String]
    return complete(table, pl.DataFrame({name: [text] for name in texts}))


def examined(lake: Lake, *, now: datetime = LATER, fast: bool = False) -> list[Problem]:
    return Doctor(lake, now=now, fast=fast).problems()


def folder_of(lake: Lake, table: str, day: date = DAY) -> Path:
    commit = lake.last_commit_of(table, day)
    assert commit is not None
    return Path(lake.root, layout.run_folder(table, day, commit.run))


def file_of(lake: Lake, table: str = CONTROL_STATUS.name, day: date = DAY) -> Path:
    files = (path for path in folder_of(lake, table, day).rglob("*") if path.is_file())
    return min(path for path in files if path.name != layout.FILES)


def make_old(path: Path) -> None:
    """As if it had been written a week ago."""
    old = (datetime.now(UTC) - timedelta(days=7)).timestamp()
    for each in (path, *path.rglob("*")):
        os.utime(each, (old, old))


def compact(lake: Lake) -> None:
    assert Maintenance(lake, Retention(), datetime.now(UTC)).compact()


# --- whole lakes ------------------------------------------------------------------------------


def test_a_whole_lake_has_no_problem(whole: Lake) -> None:
    doctor = Doctor(whole, now=LATER)
    assert doctor.problems() == []
    assert doctor.examined.commits == 2 * len(TABLES) + 2
    assert doctor.examined.files == doctor.examined.commits + 2
    assert doctor.examined.without_hash == 0


def test_every_file_of_a_run_is_in_the_hash_of_its_commit(whole: Lake) -> None:
    """As `sha256sum` prints them, so that nobody needs this program to verify a day."""
    import hashlib

    folder = folder_of(whole, ACCOUNT_FINDINGS.name)
    lines = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*.parquet"))
    )
    commit = whole.require(ACCOUNT_FINDINGS.name, DAY)
    assert commit.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_raw_pages_of_a_collection_that_was_resumed_are_hashed_too(lake: Lake) -> None:
    first = RawPagesWriter(lake, DAY)
    first.add("0", b'{"Findings": []}')
    first.save(ShardPosition("0", "all", files=1, pages=1, next_token="more"))
    second = RawPagesWriter(lake, DAY)
    second.add("0", b'{"Findings": [ ]}')
    second.save(ShardPosition("0", "all", files=2, pages=2, complete=True))
    second.commit(["0"], {})
    assert examined(lake) == []
    path = file_of(lake, RAW_FINDING_PAGES)
    path = path.with_name("pages-00000.ndjson.zst")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = examined(lake)
    assert "another hash" in problem.problem


def test_commits_without_a_hash_are_told_of_and_are_no_problem(whole: Lake) -> None:
    """Earlier versions wrote none."""
    path = Path(whole.root, layout.commit_file(CONTROL_STATUS.name, DAY))
    commit = json.loads(path.read_text())
    known = {"run", "rows", "files", "bytes", "schema_version", "written_at", "details"}
    path.write_text(json.dumps({name: commit[name] for name in known}))
    doctor = Doctor(whole, now=LATER)
    assert doctor.problems() == []
    assert doctor.examined.without_hash == 1


def test_days_that_retention_removed_are_no_damage(whole: Lake) -> None:
    for day in (date(2026, 2, 10), date(2026, 2, 11)):
        for table in (MERGED_FINDINGS, ORGANIZATION_SCORES):
            whole.replace(table, day, rows(table, "a"))
    now = datetime(2026, 2, 28, tzinfo=UTC)
    shortest = Retention.model_validate({"merged_findings": "1d"})
    assert Maintenance(whole, shortest, now).remove()
    doctor = Doctor(whole, now=LATER, first=PAST, last=DAY)
    assert doctor.problems() == []
    assert doctor.examined.removed == 2
    assert doctor.examined.waiting == 2


def test_what_is_written_at_this_moment_is_no_orphan(whole: Lake) -> None:
    whole.write(CONTROL_STATUS, DAY).add(rows(CONTROL_STATUS, "b"))
    whole.write(CONTROL_STATUS, date(2026, 2, 2)).add(rows(CONTROL_STATUS, "b"))
    assert examined(whole, now=datetime.now(UTC)) == []


# --- damage -----------------------------------------------------------------------------------


def cut(lake: Lake) -> None:
    path = file_of(lake)
    path.write_bytes(path.read_bytes()[:-10])


def flip(lake: Lake) -> None:
    path = file_of(lake)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))


def lose_file(lake: Lake) -> None:
    file_of(lake, ACCOUNT_FINDINGS.name).unlink()


def lose_all_files(lake: Lake) -> None:
    shutil.rmtree(folder_of(lake, CONTROL_STATUS.name))


def lose_raw_pages(lake: Lake) -> None:
    next(folder_of(lake, RAW_FINDING_PAGES).rglob("*.zst")).unlink()


def damage_commit(lake: Lake) -> None:
    lake.put(layout.commit_file(CONTROL_STATUS.name, DAY), b'{"run": ')


def another_count(lake: Lake) -> None:
    path = Path(lake.root, layout.commit_file(CONTROL_STATUS.name, DAY))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": 7}))


def rewritten(lake: Lake, change: pl.Expr, table: Table = CONTROL_STATUS) -> None:
    """A file with other content, and a commit that fits it in all but that."""
    writer = lake.write(table, DAY)
    path = Path(lake.root, writer.folder, writer.add(rows(table, "a"), "account_id=a/x.parquet"))
    pl.read_parquet(path).with_columns(change).write_parquet(path)
    writer.commit()
    text = Path(lake.root, layout.commit_file(table.name, DAY))
    commit = json.loads(text.read_text())
    text.write_text(json.dumps(commit | {"bytes": path.stat().st_size, "sha256": None}))


def retyped(lake: Lake) -> None:
    rewritten(lake, pl.lit(12).alias("account_id"))


def other_day(lake: Lake) -> None:
    rewritten(lake, pl.lit(PAST).alias("date"))


DAMAGES: list[tuple[Callable[[Lake], None], str, str, bool]] = [
    (cut, "the commit says 1 of", "posture replay --from 2026-02-01 --to 2026-02-01", True),
    (flip, "", "posture replay --from 2026-02-01", False),
    (lose_file, "1 files of", "posture run --date 2026-02-01", True),
    (lose_all_files, "its files are gone", "posture replay", True),
    (lose_raw_pages, "its files are gone", "backup", True),
    (damage_commit, "is damaged", "remove the file that is named; then posture replay", True),
    (another_count, "1 rows are there, of 7 committed", "posture replay", True),
    (retyped, "account_id is Int32, not String", "posture replay", False),
    (other_day, "there are rows of 2026-01-31", "posture replay", True),
]


@pytest.mark.parametrize(("damage", "says", "mend", "fast_too"), DAMAGES)
def test_damage_is_found_and_what_mends_it_is_said(
    whole: Lake, damage: Callable[[Lake], None], says: str, mend: str, *, fast_too: bool
) -> None:
    damage(whole)
    found = [each for each in examined(whole) if each.table != "catalog"]
    assert found
    assert {each.day for each in found} == {DAY}
    assert any(says in each.problem for each in found), found
    assert all(mend in each.mend for each in found), found
    assert all(each.repair is None for each in found)
    if fast_too:
        assert [each for each in examined(whole, fast=True) if each.table != "catalog"]


def test_a_flipped_bit_is_found_wherever_it_is(whole: Lake) -> None:
    path = file_of(whole)
    data = path.read_bytes()
    for at in range(0, len(data), len(data) // 6):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert examined(whole), f"byte {at}"
    path.write_bytes(data)
    assert examined(whole) == []


def test_only_the_asked_days_are_looked_at(whole: Lake) -> None:
    cut(whole)
    assert Doctor(whole, now=LATER, first=PAST, last=PAST).problems() == []
    assert Doctor(whole, now=LATER, first=DAY).problems()


def test_a_damaged_file_of_a_month_is_found_with_all_its_days(whole: Lake) -> None:
    compact(whole)
    assert examined(whole) == []
    (month,) = Path(whole.root, CONTROL_STATUS.name).glob("month=*/run=*/*.parquet")
    month.write_bytes(month.read_bytes()[:-10])
    (problem,) = examined(whole, fast=True)
    assert problem.place.startswith("control_status/month=2026-01/run=")
    assert problem.mend == "posture replay --from 2026-01-31 --to 2026-01-31"
    month.unlink()
    assert [each.problem for each in examined(whole)] == ["its files are gone"]


def test_the_file_of_a_month_whose_commits_are_lost_is_told_of_and_kept(whole: Lake) -> None:
    """Its rows may be the only ones."""
    compact(whole)
    Maintenance(whole, Retention(), LATER).delete()
    Path(whole.root, layout.commit_file(EXPECTED_CONTROLS.name, PAST)).unlink()
    (problem,) = [each for each in examined(whole) if each.table != "catalog"]
    assert (problem.table, problem.repair) == (EXPECTED_CONTROLS.name, None)
    assert "no commit names" in problem.problem
    Maintenance(whole, Retention(), LATER).all()
    assert Path(whole.root, problem.place).is_dir()


def test_kept_scores_of_an_earlier_method_are_examined_too(whole: Lake) -> None:
    for method in ("1", "2"):
        one = rows(WORKLOAD_SCORES, "a").with_columns(pl.lit(method).alias("method"))
        whole.replace(WORKLOAD_SCORES, DAY, one)
    publish.rebuild(whole)
    assert examined(whole) == []
    earlier = whole.methods(WORKLOAD_SCORES, DAY)["1"].run
    shutil.rmtree(Path(whole.root, layout.run_folder(WORKLOAD_SCORES.name, DAY, earlier)))
    (problem,) = examined(whole)
    assert (problem.place[-8:], problem.problem) == (earlier, "its files are gone")


# --- what nobody names, and repairs ------------------------------------------------------------


def test_a_run_that_no_commit_names_is_deleted_once_it_is_old(whole: Lake) -> None:
    writer = whole.write(CONTROL_STATUS, DAY)
    writer.add(rows(CONTROL_STATUS, "b"))
    make_old(Path(whole.root, writer.folder))
    (problem,) = found = examined(whole, now=datetime.now(UTC))
    assert (problem.place, problem.repair) == (writer.folder, DELETE)
    assert repair(whole, found) == found
    assert examined(whole) == []
    assert whole.read(CONTROL_STATUS, DAY).height == 1


def test_files_of_a_day_without_a_commit_are_told_of_and_never_deleted(whole: Lake) -> None:
    Path(whole.root, layout.commit_file(TIME_TO_FIX.name, DAY)).unlink()
    pages = RawPagesWriter(whole, date(2026, 1, 30))
    pages.add("0", b'{"Findings": []}')
    pages.save(ShardPosition("0", "all", files=1, pages=1))
    found = examined(whole)
    assert [(each.table, each.problem) for each in found] == [
        (RAW_FINDING_PAGES, "a collection was begun and not finished"),
        (TIME_TO_FIX.name, "there are files and no commit"),
    ]
    before = set(Path(whole.root).rglob("*.parquet"))
    assert repair(whole, found) == []
    assert set(Path(whole.root).rglob("*.parquet")) == before
    assert examined(whole) == found


def test_what_killed_processes_left_is_deleted(whole: Lake) -> None:
    root = Path(whole.root)
    halves = [
        root / f".{layout.CATALOG}.17.new",
        root / f".{layout.CATALOG}.17.new.wal",
        folder_of(whole, CONTROL_STATUS.name) / "part-00001.parquet#1",
    ]
    for path in halves:
        path.write_bytes(b"half")
    assert examined(whole, now=datetime.now(UTC)) == []
    found = examined(whole)
    assert {each.place for each in found} == {path.relative_to(root).as_posix() for path in halves}
    assert repair(whole, found) == found
    assert not any(path.exists() for path in halves)
    assert examined(whole) == []


def no_catalog(lake: Lake) -> None:
    Path(lake.root, layout.CATALOG).unlink()


def no_database(lake: Lake) -> None:
    Path(lake.root, layout.CATALOG).write_bytes(b"no database")


def old_version(lake: Lake) -> None:
    with duckdb.connect(str(Path(lake.root, layout.CATALOG))) as connection:
        connection.execute("UPDATE catalog_version SET version = 1")


def lost_rows(lake: Lake) -> None:
    with duckdb.connect(str(Path(lake.root, layout.CATALOG))) as connection:
        connection.execute("DELETE FROM organization_scores")


def lost_days_of_status(lake: Lake) -> None:
    with duckdb.connect(str(Path(lake.root, layout.CATALOG))) as connection:
        connection.execute("DELETE FROM observed_days WHERE date = DATE '2026-02-01'")


def day_of_no_lake(lake: Lake) -> None:
    with duckdb.connect(str(Path(lake.root, layout.CATALOG))) as connection:
        connection.execute("INSERT INTO source_completeness (date) VALUES (DATE '2020-01-01')")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_catalog, "There is no catalog"),
        (no_database, "cannot be opened"),
        (old_version, "it is of version 1"),
        (lost_rows, "it has not the rows that the lake has of 2026-01-31, 2026-02-01"),
        (lost_days_of_status, "2026-02-01"),
        (day_of_no_lake, "2020-01-01"),
    ],
)
def test_a_catalog_that_is_not_of_the_lake_is_built_anew(
    whole: Lake, damage: Callable[[Lake], None], says: str
) -> None:
    damage(whole)
    (problem,) = found = examined(whole)
    assert (problem.place, problem.repair) == (layout.CATALOG, REBUILD)
    assert says in problem.problem
    assert repair(whole, found) == found
    assert examined(whole) == []


def test_a_catalog_of_damaged_days_stays_unrepaired_and_the_days_are_named(whole: Lake) -> None:
    no_catalog(whole)
    file_of(whole).write_bytes(b"PAR1")
    found = examined(whole)
    assert [each.table for each in found] == [CONTROL_STATUS.name, "catalog"]
    assert repair(whole, found) == []


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def command(whole: Lake, tmp_path: Path) -> Callable[..., int]:
    config = tmp_path / "posture.yaml"
    config.write_text(f"lake: {whole.root}\n", encoding="utf-8")
    return lambda *arguments: cli.main(["doctor", *arguments, "--config", str(config)])


def test_the_command_succeeds_only_where_the_lake_is_whole(
    whole: Lake, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    assert "12 commits, 14 files: sizes, rows and hashes were read" in capsys.readouterr().out
    no_catalog(whole)
    flip(whole)
    assert command("--repair") == 1
    assert "repaired" in capsys.readouterr().out
    assert command("--format", "json") == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["table"], problem["date"]) == ("control_status", "2026-02-01")
    assert problem["repaired"] is False
    assert command("--day", "2026-01-31") == 0


def test_the_command_repairs_and_is_then_content(
    whole: Lake, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    no_catalog(whole)
    assert command("--repair", "--fast") == 0
    assert command() == 0
    assert "The lake is whole." in capsys.readouterr().out


def test_days_that_contradict_each_other_are_refused(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--day", "2026-02-01", "--to", "2026-02-02") == 1
    assert "--day goes without" in capsys.readouterr().err
    assert command("--from", "2026-02-02", "--to", "2026-02-01") == 1
    assert "is later than" in capsys.readouterr().err
