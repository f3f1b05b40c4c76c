"""Maintenance of a lake: readers see every day as it was, at every moment; nothing else is lost."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from posture_pipeline import cli
from posture_pipeline.assets.maintenance import MAINTENANCE_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.errors import DamagedError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.doctor import Doctor, Problem
from posture_pipeline.lake.maintenance import (
    COMPACTED,
    DELETED,
    GRACE,
    LEFT,
    PUT_TOGETHER,
    REMOVED,
    Done,
    Maintenance,
    by_kind,
)
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.replay import replayable
from posture_pipeline.lake.staleness import runs_of
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CONTROL_STATUS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    TABLES,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Retention, Settings

JANUARY = [date(2026, 1, day) for day in (5, 6, 7)]
FEBRUARY = [date(2026, 2, day) for day in (1, 27, 28)]
MARCH = [date(2026, 3, 1), date(2026, 3, 2)]
DAYS = [*JANUARY, *FEBRUARY, *MARCH]
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
TABLE = CONTROL_STATUS
SMALL = [*JANUARY[:2], MARCH[0]]
WRITES = 2 * (1 + 2 + 2)
"""Of two tables with two past days: the file of the month, the commits, the deletions."""
FOREVER = Retention.model_validate(
    dict.fromkeys(["raw_finding_pages", "merged_findings", "account_findings"], "36500d")
)
Rows = dict[tuple[str, date], pl.DataFrame]


def rows(table: Table, count: int, text: str = "x") -> pl.DataFrame:
    """Rows that differ from each other in every column of text."""
    values: dict[type[pl.DataType], Any] = {
        pl.String: lambda n: f"{text}{n}",
        pl.Boolean: lambda n: n % 2 == 0,
        pl.Binary: lambda n: bytes([n]),
        pl.Datetime: lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n),
        pl.Date: lambda n: date(2026, 1, 1) + timedelta(days=n),
    }
    frame = pl.DataFrame(
        {
            name: [values.get(dtype.base_type(), float)(n) for n in range(count)]
            for name, dtype in table.schema.items()
        },
        strict=False,
    )
    if "method" in table.names:
        frame = frame.with_columns(pl.lit(text).alias("method"))
    return table.read_as(frame)


def fill(lake: Lake, days: list[date] = DAYS, tables: tuple[Table, ...] = COMPACTED) -> Rows:
    """Days of tables with as many rows as the day has in its month, none on the 28th."""
    for table in tables:
        for day in days:
            lake.replace(table, day, rows(table, day.day % 28, f"{day.month}"))
    return stored(lake)


def stored(lake: Lake) -> Rows:
    return {
        (table.name, day): lake.read(table, day)
        for table in TABLES
        for day in lake.days(table.name)
    }


def assert_same(found: Rows, expected: Rows) -> None:
    assert found.keys() == expected.keys()
    for key, frame in expected.items():
        assert_frame_equal(found[key], frame)


def files(lake: Lake) -> dict[str, bytes]:
    root = Path(lake.root)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != layout.LOCK
    }


def problems(lake: Lake) -> list[Problem]:
    """What the doctor finds in the lake; most tests have no catalog."""
    found = Doctor(lake, now=after_grace()).problems()
    return [each for each in found if each.table != "catalog"]


def parquet(lake: Lake, table: Table = TABLE) -> list[str]:
    return [name for name in files(lake) if name.startswith(table.name) and "parquet" in name]


def maintenance(lake: Lake, *, now: datetime = NOW, **others: Any) -> Maintenance:
    """Without the wait for queries that are under way: few tests have any."""
    defaults = {"retention": FOREVER, "now": now, "wait": lambda _: None}
    return Maintenance(lake, **{**defaults, **others})


def after_grace(moment: datetime | None = None) -> datetime:
    """A time at which files written by this test may be deleted."""
    return max(moment or NOW, datetime.now(UTC)) + GRACE


def compacted(lake: Lake) -> list[Done]:
    """Compacts by the clock, and deletes what that made superfluous."""
    now = datetime.now(UTC)
    done = maintenance(lake, now=now).all()
    return done + maintenance(lake, now=now + GRACE + timedelta(minutes=1)).delete()


# --- compaction -------------------------------------------------------------------------------


def test_past_months_become_a_file_each_and_every_day_reads_as_before(lake: Lake) -> None:
    before = fill(lake)
    done = by_kind(compacted(lake))
    assert {(each.what, each.table) for each in done} == {
        (what, table.name) for what in (PUT_TOGETHER, DELETED) for table in COMPACTED
    }
    assert all(each.days == (*JANUARY, *FEBRUARY) for each in done)
    assert_same(stored(lake), before)
    for table in COMPACTED:
        folders = sorted(name.split("/")[1] for name in parquet(lake, table))
        assert folders == [*(f"date={day}" for day in MARCH), "month=2026-01", "month=2026-02"]


def test_days_of_several_months_are_read_together_in_the_order_asked_for(lake: Lake) -> None:
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    before = lake.read(TABLE, DAYS)
    compacted(lake)
    assert_frame_equal(lake.read(TABLE, DAYS), before)
    two = lake.read(TABLE, [MARCH[0], JANUARY[1]])
    assert two["date"].unique(maintain_order=True).to_list() == [MARCH[0], JANUARY[1]]


def test_a_day_of_a_month_is_read_without_the_rest(lake: Lake) -> None:
    """Each day is a row group of its own, whose statistics name it."""
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    compacted(lake)
    (file,) = [name for name in parquet(lake) if "month=2026-01" in name]
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(Path(lake.root, file))
    groups = [metadata.row_group(number).column(0) for number in range(metadata.num_row_groups)]
    assert [(each.statistics.min, each.statistics.max) for each in groups] == [
        (day, day) for day in JANUARY
    ]


def test_a_second_maintenance_finds_nothing_to_do(lake: Lake) -> None:
    fill(lake)
    compacted(lake)
    before = files(lake)
    assert maintenance(lake, now=after_grace()).all() == []
    assert files(lake) == before


def test_a_dry_run_says_the_same_and_changes_nothing(lake: Lake) -> None:
    fill(lake)
    before = files(lake)
    said = maintenance(lake, dry_run=True).all()
    assert files(lake) == before
    assert maintenance(lake).all() == said


def test_files_stay_until_nobody_can_be_reading_them(lake: Lake) -> None:
    """A reader that began before keeps what it began with."""
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    begun = lake.scan(TABLE, DAYS)
    now = datetime.now(UTC)
    maintenance(lake, now=now).all()
    maintenance(lake, now=now + GRACE - timedelta(minutes=1)).all()
    expected = pl.concat(before[TABLE.name, day] for day in DAYS)
    assert_frame_equal(begun.collect(), expected)
    maintenance(lake, now=now + GRACE + timedelta(minutes=1)).all()
    with pytest.raises(FileNotFoundError):
        begun.collect()
    assert_frame_equal(lake.read(TABLE, DAYS), expected)


def test_only_past_months_are_compacted_counted_from_the_newest_day(lake: Lake) -> None:
    """A clock that is wrong by years changes nothing."""
    fill(lake, days=MARCH)
    far = maintenance(lake, now=datetime(2099, 1, 1, tzinfo=UTC))
    assert far.newest_day() == MARCH[-1]
    assert far.all() == []
    assert maintenance(lake, now=datetime(2026, 2, 10, tzinfo=UTC)).newest_day() == date(
        2026, 2, 10
    )


def test_an_empty_lake_needs_no_maintenance(lake: Lake) -> None:
    assert maintenance(lake).all() == []
    assert Doctor(lake, now=NOW).problems() == []


def test_comparisons_are_not_outdated_by_compaction(lake: Lake) -> None:
    """The run of a commit is who made its rows, wherever they lie."""
    fill(lake)
    before = runs_of(lake, DAYS)
    compacted(lake)
    assert runs_of(lake, DAYS) == before


def test_a_damaged_day_leaves_its_month_as_it_is_and_says_so(lake: Lake) -> None:
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    (file,) = [name for name in parquet(lake) if f"date={JANUARY[0]}" in name]
    Path(lake.root, file).write_bytes(b"PAR1")
    done = maintenance(lake).all()
    assert [(each.what, each.table, each.days) for each in done if each.what == LEFT] == [
        (LEFT, TABLE.name, tuple(JANUARY))
    ]
    assert not [name for name in parquet(lake) if "month=2026-01" in name]
    assert [name for name in parquet(lake) if "month=2026-02" in name]
    day = FEBRUARY[1]
    assert_frame_equal(lake.read(TABLE, day), before[TABLE.name, day])


def test_a_month_whose_day_lost_rows_is_left(lake: Lake) -> None:
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    (file,) = [name for name in parquet(lake) if f"date={JANUARY[0]}" in name]
    rows(TABLE, 1).with_columns(pl.lit(JANUARY[0]).alias("date")).write_parquet(
        Path(lake.root, file)
    )
    (left,) = [each for each in maintenance(lake).all() if each.what == LEFT]
    assert f"{file} has " in left.why


# --- crashes and readers at the same time ------------------------------------------------------


@dataclass
class Watched:
    """A lake that is looked at before and after each of its writes, and dies at one of them."""

    lake: Lake
    expected: Rows
    asks_catalog: bool = True
    dies_at: int | None = None
    writes: int = 0

    def look(self) -> None:
        reader = Lake(self.lake.root)
        for (name, day), frame in self.expected.items():
            table = next(each for each in COMPACTED if each.name == name)
            assert_frame_equal(reader.read(table, day), frame)
        for day in SMALL if self.asks_catalog else ():
            asked = publish.query(reader, f"FROM control_status_on('{day}')")
            assert_frame_equal(
                asked, self.expected[TABLE.name, day], check_row_order=False, check_dtypes=False
            )

    def patch(self, patched: pytest.MonkeyPatch) -> None:
        for name in ("put", "put_if", "delete"):
            patched.setattr(Lake, name, self._watching(getattr(Lake, name)))

    def _watching(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(lake: Lake, *arguments: Any, **others: Any) -> Any:
            if self.writes == self.dies_at:
                raise KeyboardInterrupt
            self.writes += 1
            done = act(lake, *arguments, **others)
            self.look()
            return done

        return watched


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Two tables of two months."""
    lake = Lake(str(tmp_path_factory.mktemp("small") / "lake"))
    return Watched(lake, fill(lake, SMALL, (TABLE, ORGANIZATION_SCORES)))


def copy_of(small: Watched, folder: Path, **others: Any) -> Watched:
    """The same lake in a folder of its own."""
    shutil.copytree(small.lake.root, folder)
    watched = replace(small, lake=Lake(str(folder)), **others)
    if watched.asks_catalog:
        publish.rebuild(watched.lake)
    return watched


def test_readers_see_one_version_of_every_day_after_each_write(
    small: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = copy_of(small, tmp_path / "lake")
    watched.patch(monkeypatch)
    compacted(watched.lake)
    assert watched.writes >= WRITES


def test_a_maintenance_killed_at_any_write_loses_nothing_and_the_next_one_ends_it(
    small: Watched, tmp_path: Path
) -> None:
    dies_at, died = 0, True
    while died:
        watched = copy_of(small, tmp_path / str(dies_at), asks_catalog=False, dies_at=dies_at)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Watched, "look", lambda _: None)
            watched.patch(patched)
            try:
                compacted(watched.lake)
                died = False
            except KeyboardInterrupt:
                pass
        watched.look()
        if died:
            compacted(watched.lake)
            maintenance(watched.lake, now=after_grace() + timedelta(minutes=5)).all()
            watched.look()
        assert [name.split("/")[1] for name in parquet(watched.lake)] == [
            f"date={MARCH[0]}",
            "month=2026-01",
        ]
        assert problems(watched.lake) == []
        dies_at += 1
    assert dies_at > WRITES


def test_commits_name_the_file_of_a_month_only_when_queries_under_way_are_through(
    lake: Lake,
) -> None:
    """One that looked for its files before that one was there would find no row of the month."""
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    waited = []

    def wait(seconds: float) -> None:
        commits = [lake.commit_of(TABLE.name, day) for day in JANUARY]
        assert {each.month_run for each in commits if each is not None} == {None}
        assert list(Path(lake.root, TABLE.name).glob("month=*/run=*/*.parquet"))
        waited.append(seconds)

    assert maintenance(lake, wait=wait).compact()
    assert len(waited) == 1, "once for all tables"
    assert waited[0] > 0
    for day in JANUARY:
        commit = lake.commit_of(TABLE.name, day)
        assert commit is None or commit.month_run is not None
        if commit is not None:
            assert_frame_equal(lake.read(TABLE, day), before[TABLE.name, day])
    assert maintenance(lake, wait=wait).compact() == []
    assert len(waited) == 1, "nothing to do is nothing to wait for"


def test_readers_in_other_threads_never_see_a_difference(small: Watched, tmp_path: Path) -> None:
    watched = copy_of(small, tmp_path / "lake")
    over, failed, reads = threading.Event(), list[BaseException](), list[int]()

    def read() -> None:
        while not over.is_set() or not reads:
            try:
                watched.look()
            except BaseException as error:
                failed.append(error)
                return
            reads.append(1)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            assert maintenance(watched.lake, wait=time.sleep).all()
            # One day more in the month: it has to be compacted anew.
            watched.lake.replace(TABLE, JANUARY[2] + timedelta(days=number), rows(TABLE, 2))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert len(reads) >= 1


def test_a_day_that_is_computed_while_its_month_is_written_keeps_the_new_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    newer = rows(TABLE, 2, "newer")
    written = Maintenance._month_file

    def meanwhile(self: Maintenance, table: Table, commits: Any) -> bytes:
        data = written(self, table, commits)
        if table is TABLE and JANUARY[1] in commits:
            lake.replace(TABLE, JANUARY[1], newer)
        return data

    with monkeypatch.context() as patched:
        patched.setattr(Maintenance, "_month_file", meanwhile)
        maintenance(lake).all()
    found = lake.read(TABLE, JANUARY[1])
    assert found["control_id"].to_list() == newer["control_id"].to_list()
    assert_frame_equal(lake.read(TABLE, JANUARY[0]), before[TABLE.name, JANUARY[0]])
    compacted(lake)
    assert lake.read(TABLE, JANUARY[1])["control_id"].to_list() == newer["control_id"].to_list()


# --- days that are computed again --------------------------------------------------------------


def test_a_compacted_day_that_is_computed_again_joins_its_month_at_the_next_maintenance(
    lake: Lake,
) -> None:
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    compacted(lake)
    lake.replace(TABLE, JANUARY[1], rows(TABLE, 2, "again"))
    expected = before | {(TABLE.name, JANUARY[1]): lake.read(TABLE, JANUARY[1])}
    assert expected[TABLE.name, JANUARY[1]].height == 2
    doctor = Doctor(lake, now=NOW)
    doctor.problems()
    assert doctor.examined.unused_rows == 6
    maintenance(lake, now=datetime.now(UTC)).all()
    done = maintenance(lake, now=after_grace() + timedelta(minutes=1)).all()
    assert {each.why for each in done} == {
        "in the file of its month",
        "its days were compacted anew",
    }
    assert_same(stored(lake), expected)
    assert len([name for name in parquet(lake) if "month=2026-01" in name]) == 1


def test_scores_of_an_earlier_method_outlive_every_maintenance(lake: Lake) -> None:
    """Made before the compaction, or by a computation after it."""
    fill(lake, tables=(WORKLOAD_SCORES, ORGANIZATION_SCORES))
    lake.replace(WORKLOAD_SCORES, JANUARY[0], rows(WORKLOAD_SCORES, 3, "newer"))
    compacted(lake)
    lake.replace(WORKLOAD_SCORES, JANUARY[1], rows(WORKLOAD_SCORES, 3, "newer"))
    for _ in range(3):
        compacted(lake)
        for day in JANUARY[:2]:
            assert list(lake.methods(WORKLOAD_SCORES, day)) == ["newer", "1"]
            assert lake.read(WORKLOAD_SCORES, day).height == 3
            assert lake.read(WORKLOAD_SCORES, day, method="1").height == day.day
    assert problems(lake) == []


Step = tuple[str, int]


@example_settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, len(DAYS) - 1)),
            st.tuples(st.just("maintain"), st.integers(0, 30)),
        ),
        max_size=12,
    )
)
def test_whatever_is_written_and_maintained_every_day_reads_as_last_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("steps")))
    lake.replace(ORGANIZATION_SCORES, MARCH[-1], rows(ORGANIZATION_SCORES, 1))
    expected: dict[date, list[str]] = {}
    now = datetime.now(UTC)
    for number, (what, amount) in enumerate(steps):
        if what == "write":
            frame = rows(TABLE, number % 3, f"{number}-")
            lake.replace(TABLE, DAYS[amount], frame)
            expected[DAYS[amount]] = frame["control_id"].to_list()
        else:
            now += timedelta(hours=amount)
            maintenance(lake, now=now).all()
        found = {
            day: lake.read(TABLE, day)["control_id"].to_list() for day in lake.days(TABLE.name)
        }
        assert found == expected


# --- retention --------------------------------------------------------------------------------

TENTH = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEPT = Retention.model_validate(
    {"raw_finding_pages": "2d", "merged_findings": "5d", "account_findings": "36500d"}
)


def with_findings(lake: Lake, days: list[date]) -> None:
    for day in days:
        pages = RawPagesWriter(lake, day)
        pages.add("0", b'{"Findings": []}')
        pages.save(ShardPosition("0", "all", files=1, pages=1, complete=True))
        pages.commit(["0"], {"collected_at": f"{day}T06:00:00+00:00"})
        for table in (MERGED_FINDINGS, ACCOUNT_FINDINGS, FINDING_CHANGES, ORGANIZATION_SCORES):
            lake.replace(table, day, rows(table, 2))


@pytest.fixture
def kept(lake: Lake) -> Lake:
    """Ten days with findings and scores, of which retention has removed some."""
    with_findings(lake, [date(2026, 3, day) for day in range(1, 11)])
    maintenance(lake, retention=KEPT, now=TENTH).all()
    return lake


def test_findings_beyond_their_retention_are_removed_and_nothing_else(kept: Lake) -> None:
    days = [date(2026, 3, day) for day in range(1, 11)]
    assert kept.days(RAW_FINDING_PAGES) == days[8:]
    assert kept.days(MERGED_FINDINGS.name) == days[5:]
    for table in (ACCOUNT_FINDINGS, FINDING_CHANGES, ORGANIZATION_SCORES):
        assert kept.days(table.name) == days


def test_a_removed_day_says_that_it_was_removed_and_when(kept: Lake) -> None:
    said = r"no merged_findings for 2026-03-05: kept for 5 days \(settings: retention\), removed on"
    with pytest.raises(LakeError, match=said):
        kept.scan(MERGED_FINDINGS, date(2026, 3, 5))


def test_computing_a_removed_day_again_says_that_its_findings_were_removed(kept: Lake) -> None:
    short = Retention.model_validate(dict.fromkeys(Retention.model_fields, "5d"))
    maintenance(kept, retention=short, now=TENTH).all()
    day = date(2026, 3, 5)
    with pytest.raises(
        LakeError, match=r"2026-03-05: .* no longer stored: kept for 5 days .*remov"
    ):
        replayable(kept, day, day)


def test_the_two_newest_days_stay_whatever_the_settings_say(lake: Lake) -> None:
    """The next day is compared with them, however long ago they were."""
    days = [date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)]
    with_findings(lake, days)
    shortest = Retention.model_validate(dict.fromkeys(Retention.model_fields, "1d"))
    maintenance(lake, retention=shortest).all()
    assert lake.days(ACCOUNT_FINDINGS.name) == days[1:]


def test_files_of_removed_days_are_deleted_later_and_the_rest_stays(kept: Lake) -> None:
    before = files(kept)
    assert [each for each in before if "merged_findings/date=2026-03-01/run=" in each]
    days = [date(2026, 3, day) for day in range(1, 11)]
    done = maintenance(kept, retention=KEPT, now=after_grace()).all()
    assert {each.what for each in done} == {DELETED}
    gone = before.keys() - files(kept).keys()
    assert {name.rsplit("/run=", 1)[0] for name in gone} == {
        *(layout.partition(RAW_FINDING_PAGES, day) for day in days[:8]),
        *(layout.partition(MERGED_FINDINGS.name, day) for day in days[:5]),
    }
    assert problems(kept) == []
    assert maintenance(kept, retention=KEPT, now=after_grace()).all() == []


def test_a_removed_day_can_be_imported_again(kept: Lake) -> None:
    day = date(2026, 3, 5)
    kept.replace(MERGED_FINDINGS, day, rows(MERGED_FINDINGS, 3))
    assert kept.read(MERGED_FINDINGS, day).height == 3


def test_an_old_collection_that_was_never_finished_goes_by_retention_too(lake: Lake) -> None:
    with_findings(lake, [date(2026, 3, day) for day in range(5, 11)])
    day = date(2026, 3, 1)
    writer = lake.write(MERGED_FINDINGS, day)
    writer.add(rows(MERGED_FINDINGS, 1))
    maintenance(lake, retention=KEPT, now=TENTH).all()
    assert lake.names(layout.partition(MERGED_FINDINGS.name, day))[0]
    done = maintenance(lake, retention=KEPT, now=after_grace()).all()
    assert (DELETED, (day,), "never finished, kept for 5 days") in {
        (each.what, each.days, each.why) for each in done
    }
    assert not lake.names(layout.partition(MERGED_FINDINGS.name, day))[0]


def test_a_damaged_commit_keeps_its_day_and_stops_nothing(lake: Lake) -> None:
    days = [date(2026, 3, day) for day in range(1, 11)]
    with_findings(lake, days)
    lake.put(layout.commit_file(MERGED_FINDINGS.name, days[1]), b"{")
    done = maintenance(lake, retention=KEPT, now=TENTH).all()
    (left,) = {each.days for each in done if each.what == LEFT}
    assert left == (days[1],)
    removed = [each for each in done if (each.what, each.table) == (REMOVED, "merged_findings")]
    assert [each.days[0] for each in removed] == [days[0], *days[2:5]]


# --- how it is started ------------------------------------------------------------------------


def test_the_job_does_all_of_it_and_checks_the_lake(lake: Lake) -> None:
    before = fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    publish.rebuild(lake)
    settings = Settings.model_validate(
        {"lake": lake.root, "maintenance": {"cron": "30 4 * * 6", "timezone": "UTC"}}
    )
    clock = datetime.now(UTC)
    definitions = build_definitions(settings, resources={"clock": lambda: clock})
    schedule = definitions.resolve_schedule_def("maintenance_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * 6", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

    def ran() -> dg.ExecuteInProcessResult:
        job = definitions.resolve_job_def(MAINTENANCE_JOB)
        return job.execute_in_process(raise_on_error=False, run_config=quiet)

    assert ran().success
    assert_same(stored(lake), before)
    clock += 2 * GRACE
    assert ran().success
    assert len(parquet(lake)) == 4
    Path(lake.root, parquet(lake)[-1]).unlink()
    failed = ran()
    assert [event.step_key for event in failed.get_step_failure_events()] == ["lake_is_whole"]


def test_the_schedule_is_weekly_by_itself() -> None:
    schedule = build_definitions(Settings()).resolve_schedule_def("maintenance_schedule")
    assert schedule.cron_schedule == "0 3 * * 0"


@pytest.fixture
def command(lake: Lake, tmp_path: Path) -> Callable[..., int]:
    config = tmp_path / "posture.yaml"
    config.write_text(f"lake: {lake.root}\n", encoding="utf-8")
    return lambda *arguments: cli.main([*arguments, "--config", str(config)])


def test_the_command_says_what_it_would_do_and_what_it_did(
    lake: Lake, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    assert command("maintain", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "control_status" in said
    assert "Nothing was changed." in said
    assert command("maintain", "--format", "json") == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["what"], first["table"], first["days"]) == ("compacted", "control_status", 6)
    assert (first["first_day"], first["last_day"]) == ("2026-01-05", "2026-02-28")
    assert command("maintain") == 0
    assert capsys.readouterr().out == "There is nothing to do.\n"


def test_the_command_fails_where_something_is_damaged(
    lake: Lake, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    lake.put(layout.commit_file(TABLE.name, JANUARY[0]), b"{")
    assert command("maintain") == 1
    assert "posture doctor" in capsys.readouterr().out


# --- what was replaced ------------------------------------------------------------------------


def test_what_was_replaced_can_be_restored_until_the_maintenance_after_the_grace(
    lake: Lake,
) -> None:
    table = MERGED_FINDINGS
    first = lake.replace(table, DAYS[0], rows(table, 1, "first"))
    second = lake.replace(table, DAYS[0], rows(table, 2, "second"), keep_replaced=True)
    files = lake.sizes(layout.run_folder(table.name, DAYS[0], first.run))
    assert Doctor(lake, now=after_grace()).problems() == []
    assert maintenance(lake, now=datetime.now(UTC)).delete() == []
    assert list(lake.replaced(table.name, DAYS[0])) == [first.run]
    told = maintenance(lake, now=after_grace(), dry_run=True).delete()
    assert lake.sizes(layout.run_folder(table.name, DAYS[0], first.run)) == files
    (done,) = maintenance(lake, now=after_grace()).delete()
    assert [done] == told
    assert (done.table, done.days, done.files) == (table.name, (DAYS[0],), 1)
    assert lake.replaced(table.name, DAYS[0]) == {}
    assert lake.sizes(layout.run_folder(table.name, DAYS[0], first.run)) == {}
    assert lake.commit_of(table.name, DAYS[0]) == second
    assert Doctor(lake, now=after_grace()).problems() == []


# --- files that are not as they were committed ------------------------------------------------


@pytest.mark.parametrize("left", [0.5, 0.0, None], ids=["cut off", "emptied", "deleted"])
def test_a_damaged_file_of_a_month_never_reads_as_days_without_rows(
    lake: Lake, left: float | None
) -> None:
    fill(lake, tables=(TABLE, ORGANIZATION_SCORES))
    maintenance(lake).compact()
    (path,) = lake.sizes(layout.month_folder(TABLE.name, JANUARY[0]))
    if left is None:
        lake.delete(path)
    else:
        data = lake.get(path) or b""
        lake.put(path, data[: int(left * len(data))])
    for days in (JANUARY[0], JANUARY):
        with pytest.raises(DamagedError, match=f"{path}.*posture replay --from {JANUARY[0]}"):
            lake.scan(TABLE, days)
