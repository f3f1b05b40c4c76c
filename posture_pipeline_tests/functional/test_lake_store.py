"""The lake's store: a day is seen whole or not at all, and is read as it was declared."""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from posture_pipeline.errors import DamagedError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.earlier_scores import superseded_scores
from posture_pipeline.lake.problem_findings import findings_of_accounts
from posture_pipeline.lake.store import Commit, Lake, PartitionWriter, as_parquet
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    EARLIER_SCORES,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    QUARANTINE,
    SCHEMA_VERSION,
    TABLES,
    Table,
)
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.buckets import bucket_lake, make_bucket
from posture_pipeline_tests.rows import complete

pytestmark = pytest.mark.functional

SMALL = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
DAY, NEXT, LATER = date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)
TABLE = ORGANIZATION_ACCOUNTS


@pytest.fixture(scope="module")
def server() -> Iterator[SimulationServer]:
    """A simulated S3 with the bucket."""
    with serve(SMALL) as running:
        make_bucket(running)
        yield running


@pytest.fixture(params=["folder", "bucket"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake of either kind: the same code, so the same behaviour."""
    if request.param == "folder":
        return Lake(str(tmp_path / "lake"))
    return bucket_lake(request.getfixturevalue("server"), uuid.uuid4().hex)


def accounts(*ids: str) -> pl.DataFrame:
    ids_only = pl.DataFrame({"account_id": list(ids)}, schema={"account_id": pl.String})
    return complete(TABLE, ids_only)


def stored(lake: Lake, *days: date) -> list[str]:
    return lake.read(TABLE, days or DAY)["account_id"].to_list()


def run_folders(lake: Lake, day: date = DAY) -> list[str]:
    return lake.names(layout.partition(TABLE.name, day))[0]


COMMIT = layout.commit_file(TABLE.name, DAY)


def files_of(lake: Lake, prefix: str) -> list[str]:
    return [path for path in lake.sizes(prefix) if path.endswith(".parquet")]


def change_file(lake: Lake, change: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Makes the one file of the day another one, as another version may have written it."""
    (path,) = files_of(lake, layout.partition(TABLE.name, DAY))
    rows = change(pl.read_parquet(io.BytesIO(lake.get(path) or b"")))
    data = io.BytesIO()
    rows.write_parquet(data)
    lake.put(path, data.getvalue())
    commit = lake.get_json(COMMIT) or {}
    lake.put_json(COMMIT, commit | {"bytes": len(data.getvalue())})
    return rows


# --- commits ----------------------------------------------------------------------------------


def test_nothing_is_seen_before_the_commit(lake: Lake) -> None:
    writer = lake.write(TABLE, DAY)
    writer.add(accounts("1"))
    assert lake.commit_of(TABLE.name, DAY) is None
    assert lake.days(TABLE.name) == []
    assert lake.last_day(TABLE.name) is None
    with pytest.raises(LakeError):
        lake.scan(TABLE, DAY)
    writer.commit()
    assert stored(lake) == ["1"]
    assert lake.days(TABLE.name) == [DAY]


def test_half_a_write_cannot_be_read_as_a_short_one(lake: Lake) -> None:
    """While a day is written again, its readers see the day before the rewrite."""
    lake.replace(TABLE, DAY, accounts("1", "2"))
    writer = lake.write(TABLE, DAY)
    writer.add(accounts("3"))
    assert stored(lake) == ["1", "2"]
    writer.add(accounts("4", "5"))
    assert stored(lake) == ["1", "2"]
    writer.commit()
    assert stored(lake) == ["3", "4", "5"]


def test_a_second_write_replaces_the_first_and_deletes_its_files(lake: Lake) -> None:
    first = lake.replace(TABLE, DAY, accounts("1"))
    second = lake.replace(TABLE, DAY, accounts("2"))
    assert stored(lake) == ["2"]
    assert first.run != second.run
    assert run_folders(lake) == [f"run={second.run}"]


def test_a_killed_writers_folder_is_invisible_and_goes_with_the_next_commit(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    killed = lake.write(TABLE, DAY)
    killed.add(accounts("2"))
    assert len(run_folders(lake)) == 2
    assert stored(lake) == ["1"]
    assert lake.require(TABLE.name, DAY).rows == 1
    last = lake.replace(TABLE, DAY, accounts("3"))
    assert stored(lake) == ["3"]
    assert run_folders(lake) == [f"run={last.run}"]


def test_other_days_and_tables_are_left_alone(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    lake.replace(TABLE, NEXT, accounts("2"))
    lake.replace(ORGANIZATION_SCORES, DAY, scores("1", 10.0))
    lake.replace(TABLE, DAY, accounts("3"))
    assert stored(lake, DAY, NEXT) == ["3", "2"]
    assert lake.read(ORGANIZATION_SCORES, DAY)["report"].to_list() == ["fsbp"]


def test_a_commit_says_what_was_written(lake: Lake) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    writer = lake.write(TABLE, DAY)
    writer.add(accounts("1", "2"))
    name = writer.add(accounts("3", "4", "5"))
    writer.rewrite(name, accounts("3"), dropped=2)
    commit = writer.commit({"collected_at": "2026-11-23T06:00:00+00:00"})
    files = files_of(lake, writer.folder)
    assert (commit.rows, commit.files) == (3, len(files)) == (lake.read(TABLE, DAY).height, 2)
    assert commit.bytes == lake.size(writer.folder, ending=".parquet")
    assert commit.schema_version == SCHEMA_VERSION
    assert before <= datetime.fromisoformat(commit.written_at) <= datetime.now(UTC)
    assert commit.details == {"collected_at": "2026-11-23T06:00:00+00:00"}
    assert lake.commit_of(TABLE.name, DAY) == commit


def test_a_day_without_rows_can_be_committed_and_read(lake: Lake) -> None:
    commit = lake.write(TABLE, DAY).commit()
    assert (commit.rows, commit.files) == (0, 1)
    assert lake.read(TABLE, DAY).equals(TABLE.empty())


# --- two writers ------------------------------------------------------------------------------


def test_a_writer_that_lost_to_another_one_cannot_replace_its_commit(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    slow, quick = lake.write(TABLE, DAY), lake.write(TABLE, DAY)
    slow.add(accounts("1"))
    quick.add(accounts("2"))
    won = quick.commit()
    says = "Another run committed organization_accounts of 2026-11-23 meanwhile"
    with pytest.raises(LakeError, match=says) as error:
        slow.commit()
    assert lake.uri(COMMIT) in str(error.value)
    assert stored(lake) == ["2"]
    assert run_folders(lake) == [f"run={won.run}"]


def test_of_two_writers_of_a_new_day_the_first_to_commit_wins(lake: Lake) -> None:
    slow, quick = lake.write(TABLE, DAY), lake.write(TABLE, DAY)
    quick.commit()
    slow.add(accounts("1"))
    with pytest.raises(LakeError, match="nothing of this run was kept"):
        slow.commit()
    assert stored(lake) == []


def test_a_writer_that_began_after_the_other_one_committed_replaces_it(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    later = lake.write(TABLE, DAY)
    later.add(accounts("2"))
    later.commit()
    assert stored(lake) == ["2"]


def test_the_end_of_a_commit_leaves_the_files_of_who_began_after_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would build on this commit and win, with rows missing."""
    lake.replace(TABLE, DAY, accounts("0"))
    first = lake.write(TABLE, DAY)
    first.add(accounts("1"))
    began: list[PartitionWriter] = []
    put_if = Lake.put_if

    def put_and_begin(self: Lake, path: str, data: bytes, version: str | None) -> str | None:
        written = put_if(self, path, data, version)
        if not began:
            began.append(lake.write(TABLE, DAY))
            began[0].add(accounts("2"))
        return written

    monkeypatch.setattr(Lake, "put_if", put_and_begin)
    first.commit()
    began[0].commit()
    assert stored(lake) == ["2"]


def test_an_object_is_written_only_over_the_version_that_is_meant(lake: Lake) -> None:
    first = lake.put_if("a", b"1", None)
    assert lake.put_if("a", b"2", None) is None
    second = lake.put_if("a", b"2", first)
    assert lake.put_if("a", b"3", first) is None
    assert lake.put_if("b", b"3", first) is None
    assert lake.get_with_version("a") == (b"2", second)
    assert lake.version_of("a") == second != first
    assert lake.version_of("b") is None


# --- days -------------------------------------------------------------------------------------


def test_days_are_listed_oldest_first_whatever_else_lies_there(lake: Lake) -> None:
    for day in (LATER, DAY, NEXT):
        lake.replace(TABLE, day, accounts("1"))
    lake.write(TABLE, date(2026, 12, 1)).add(accounts("never committed"))
    for stray in ("notes/x", "date=tomorrow/x", "date=2026-13-01/_current.json", "x"):
        lake.put(f"{TABLE.name}/{stray}", b"{}")
    assert lake.days(TABLE.name) == [DAY, NEXT, LATER]
    assert lake.last_day(TABLE.name) == LATER


def test_several_days_are_read_in_the_order_asked_for(lake: Lake) -> None:
    for number, day in enumerate((DAY, NEXT, LATER)):
        lake.replace(TABLE, day, accounts(str(number)))
    assert stored(lake, LATER, DAY) == ["2", "0"]
    assert lake.read(TABLE, [LATER, DAY])["date"].to_list() == [LATER, DAY]
    assert lake.read(TABLE, iter([NEXT]))["date"].to_list() == [NEXT]
    assert lake.read(TABLE, []).equals(TABLE.empty())


def test_rows_carry_the_day_of_their_partition_whatever_they_said(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("1").with_columns(date=pl.lit(LATER)))
    assert lake.read(TABLE, DAY)["date"].to_list() == [DAY]


def test_a_missing_day_is_answered_with_what_there_is_and_what_to_do(lake: Lake) -> None:
    says = "has no organization_accounts for 2026-11-23; there is no day at all yet. Run the day"
    with pytest.raises(LakeError, match=says) as error:
        lake.require(TABLE.name, DAY)
    assert lake.root in str(error.value)
    lake.replace(TABLE, NEXT, accounts("1"))
    with pytest.raises(LakeError, match="for 2026-11-23; the newest is 2026-11-24"):
        lake.scan(TABLE, [NEXT, DAY])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"run": "1a2b3c4d", "ro', "Unterminated"),
        (b"[]", "no object"),
        (b"{}", "missing 4 required"),
        (b'{"run": "1a2b3c4d"}', "missing 3 required"),
        (b"\x80abc", "can't decode"),
    ],
)
def test_a_damaged_commit_is_named_with_what_to_do(lake: Lake, content: bytes, reason: str) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    lake.put(COMMIT, content)
    with pytest.raises(LakeError, match=reason) as error:
        lake.read(TABLE, DAY)
    assert lake.uri(COMMIT) in str(error.value)
    assert "remove it and run the day again" in str(error.value)


def test_a_commit_of_a_newer_version_can_be_read(lake: Lake) -> None:
    """Versions that only add facts to a commit do not lock older ones out."""
    lake.replace(TABLE, DAY, accounts("1"))
    value = json.loads(lake.get(COMMIT) or b"")
    lake.put_json(COMMIT, value | {"rows_by_account": {}, "schema_version": 9})
    assert stored(lake) == ["1"]
    assert lake.require(TABLE.name, DAY).schema_version == 9


# --- columns ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_is_read_back_with_its_declared_columns(lake: Lake, table: Table) -> None:
    lake.replace(table, DAY, complete(table, pl.DataFrame({"of_no_table": [1, 2]})))
    rows = lake.read(table, DAY)
    assert rows.schema == table.schema
    assert rows.height == 2


def test_leading_zeros_survive(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("000000000001", "012345678901"))
    assert stored(lake) == ["000000000001", "012345678901"]


def test_hive_folders_do_not_change_account_ids(lake: Lake) -> None:
    writer = lake.write(MERGED_FINDINGS, DAY)
    rows = pl.DataFrame({"account_id": ["012345678901"]})
    writer.add(complete(MERGED_FINDINGS, rows), layout.account_part("012345678901"))
    writer.commit()
    assert lake.read(MERGED_FINDINGS, DAY)["account_id"].to_list() == ["012345678901"]


def test_bytes_are_kept_as_they_were(lake: Lake) -> None:
    record = bytes(range(256)) * 3
    rows = pl.DataFrame({"record": [record, b""], "reason": ["a", "b\n\x00"]})
    lake.replace(QUARANTINE, DAY, complete(QUARANTINE, rows))
    back = lake.read(QUARANTINE, DAY)
    assert back["record"].to_list() == [record, b""]
    assert back["reason"].to_list() == ["a", "b\n\x00"]


def test_times_are_kept_to_the_microsecond(lake: Lake) -> None:
    moment = datetime(2026, 11, 23, 6, 0, 0, 123456, tzinfo=UTC)
    lake.replace(TABLE, DAY, complete(TABLE, pl.DataFrame({"joined_at": [moment]})))
    assert lake.read(TABLE, DAY)["joined_at"].to_list() == [moment]


def without(name: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.drop(name)


@pytest.mark.parametrize(
    "older",
    [without("source"), without("date"), lambda rows: rows.with_columns(gone=pl.lit("x"))],
    ids=["lacks a new column", "lacks the first column", "has a column no longer declared"],
)
def test_files_of_other_versions_are_read_with_todays_columns(
    lake: Lake, older: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    """Columns are only ever added: an older file gives nulls for them."""
    lake.replace(TABLE, DAY, accounts("1").with_columns(source=pl.lit("organizations")))
    lake.replace(TABLE, NEXT, accounts("2").with_columns(source=pl.lit("organizations")))
    rows = change_file(lake, older)
    back = lake.read(TABLE, [DAY, NEXT])
    assert back.schema == TABLE.schema
    assert back["account_id"].to_list() == ["1", "2"]
    expected = "organizations" if "source" in rows.columns else None
    assert back["source"].to_list() == [expected, "organizations"]


def test_a_file_with_another_type_in_a_column_is_refused(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    change_file(lake, lambda rows: rows.with_columns(account_id=pl.lit(1)))
    with pytest.raises(pl.exceptions.SchemaError):
        lake.read(TABLE, DAY)


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain", "with blank", "la[k]e", "100%20", "it's é", "star*?", "date=2026-01-01"]
)
def test_the_lakes_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake(str(tmp_path / name))
    lake.replace(TABLE, DAY, accounts("1"))
    lake.replace(TABLE, NEXT, accounts("2"))
    assert stored(lake, DAY, NEXT) == ["1", "2"]
    assert lake.days(TABLE.name) == [DAY, NEXT]


@pytest.mark.parametrize("uri", ["gs://bucket/lake", "file:///srv/lake", "s3://bucket/lake"])
def test_what_is_no_folder_and_no_bucket_that_can_be_reached_is_refused(uri: str) -> None:
    with pytest.raises(LakeError, match="name a folder, or s3://bucket/prefix"):
        Lake(uri)


def test_objects_are_put_listed_and_deleted(lake: Lake) -> None:
    values: dict[str, Any] = {"run": "x", "n": 1}
    lake.put_json("a/b/c.json", values)
    lake.put("a/d", b"12345")
    assert lake.get_json("a/b/c.json") == values
    assert lake.names("a") == (["b"], ["d"])
    assert lake.size("a", ending="d") == 5
    lake.delete("a/d")
    lake.delete("a/never-there")
    assert lake.get("a/d") is None
    lake.delete("a")
    assert lake.names("a") == ([], [])
    assert lake.get_json("a/b/c.json") is None


def test_a_file_that_vanishes_while_a_day_is_written_is_named(lake: Lake) -> None:
    writer = lake.write(TABLE, DAY)
    name = writer.add(accounts("1"))
    assert writer.read(name)["account_id"].to_list() == ["1"]
    lake.delete(f"{writer.folder}/{name}")
    with pytest.raises(LakeError, match=r"part-00000\.parquet vanished"):
        writer.read(name)


def test_a_commit_needs_only_what_it_holds() -> None:
    assert Commit(run="x", rows=0, files=0, bytes=0).details == {}


# --- scores of earlier methods ----------------------------------------------------------------


def scores(method: str, score: float) -> pl.DataFrame:
    rows = pl.DataFrame({"report": ["fsbp"], "score": [score], "method": [method]})
    return complete(ORGANIZATION_SCORES, rows)


def score_by(lake: Lake, method: str | None = None) -> list[float]:
    return lake.read(ORGANIZATION_SCORES, DAY, method=method)["score"].to_list()


def score_runs(lake: Lake) -> set[str]:
    return {
        name.removeprefix("run=")
        for name in lake.names(layout.partition(ORGANIZATION_SCORES.name, DAY))[0]
    }


def test_scores_of_an_earlier_method_stay_readable_when_another_replaces_them(lake: Lake) -> None:
    for number, method in enumerate(("1", "1, collect=failing", "2")):
        lake.replace(ORGANIZATION_SCORES, DAY, scores(method, number * 10.0))
    assert score_by(lake) == [20.0]
    assert [*lake.methods(ORGANIZATION_SCORES, DAY)] == ["2", "1", "1, collect=failing"]
    assert [score_by(lake, method) for method in ("1", "1, collect=failing", "2")] == [
        [0.0],
        [10.0],
        [20.0],
    ]
    earlier = superseded_scores(lake, DAY)
    assert earlier.schema == EARLIER_SCORES.schema
    assert earlier.select("date", "scope", "method", "score").rows() == [
        (DAY, "organization", "1", 0.0),
        (DAY, "organization", "1, collect=failing", 10.0),
    ]


def test_scores_of_the_same_method_are_replaced_and_the_kept_ones_stay(lake: Lake) -> None:
    for method, score in (("1", 10.0), ("2", 20.0), ("2", 21.0)):
        lake.replace(ORGANIZATION_SCORES, DAY, scores(method, score))
    assert (score_by(lake), score_by(lake, "1")) == ([21.0], [10.0])
    assert len(score_runs(lake)) == 2


def test_a_method_that_comes_back_replaces_its_own_kept_scores(lake: Lake) -> None:
    for method, score in (("1", 10.0), ("2", 20.0), ("1", 11.0)):
        lake.replace(ORGANIZATION_SCORES, DAY, scores(method, score))
    assert (score_by(lake, "1"), score_by(lake, "2")) == ([11.0], [20.0])
    assert [*lake.methods(ORGANIZATION_SCORES, DAY)] == ["1", "2"]
    assert len(score_runs(lake)) == 2


def test_commits_that_do_not_say_their_method_are_kept_under_that_of_their_rows(
    lake: Lake,
) -> None:
    writer = lake.write(ORGANIZATION_SCORES, DAY)
    writer.add(scores("1", 10.0))
    writer.commit()
    assert [*lake.methods(ORGANIZATION_SCORES, DAY)] == ["1"]
    lake.replace(ORGANIZATION_SCORES, DAY, scores("2", 20.0))
    assert score_by(lake, "1") == [10.0]


def test_a_method_that_the_day_does_not_have_is_refused_with_those_it_has(lake: Lake) -> None:
    lake.replace(ORGANIZATION_SCORES, DAY, scores("2", 20.0))
    with pytest.raises(LakeError, match=r"by method 1; there are: 2\."):
        lake.read(ORGANIZATION_SCORES, DAY, method="1")
    assert superseded_scores(lake, DAY).is_empty()
    assert superseded_scores(lake, NEXT).is_empty()


@pytest.mark.parametrize("writes", [1, 2])
def test_a_writer_killed_between_its_two_writes_loses_neither_method(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    lake.replace(ORGANIZATION_SCORES, DAY, scores("1", 10.0))
    puts: dict[str, Callable[..., object]] = {"put_json": Lake.put_json, "put_if": Lake.put_if}
    done: list[str] = []

    def killed_after(name: str) -> Callable[..., object]:
        def put(*arguments: Any) -> object:
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(name)
            result = puts[name](*arguments)
            if len(done) == writes == 2:
                raise KeyboardInterrupt
            return result

        return put

    with monkeypatch.context() as patched:
        for name in puts:
            patched.setattr(Lake, name, killed_after(name))
        with pytest.raises(KeyboardInterrupt):
            lake.replace(ORGANIZATION_SCORES, DAY, scores("2", 20.0))
    assert score_by(lake) == ([10.0] if writes == 1 else [20.0])
    assert score_by(lake, "1") == [10.0]
    earlier = superseded_scores(lake, DAY)["score"].to_list()
    assert earlier == ([] if writes == 1 else [10.0])
    lake.replace(ORGANIZATION_SCORES, DAY, scores("2", 21.0))
    assert (score_by(lake), score_by(lake, "1")) == ([21.0], [10.0])
    assert len(score_runs(lake)) == 2


# --- what was replaced ------------------------------------------------------------------------


def test_what_was_replaced_can_be_restored_when_that_was_asked_for(lake: Lake) -> None:
    first = lake.replace(TABLE, DAY, accounts("1"), {"source": "aws"})
    second = lake.replace(TABLE, DAY, accounts("2"), keep_replaced=True)
    assert stored(lake) == ["2"]
    assert list(lake.replaced(TABLE.name, DAY)) == [first.run]
    assert lake.restore(TABLE.name, DAY, first.run) == first
    assert lake.commit_of(TABLE.name, DAY) == first
    assert stored(lake) == ["1"]
    assert list(lake.replaced(TABLE.name, DAY)) == [second.run]


def test_what_can_be_restored_outlives_later_writes(lake: Lake) -> None:
    first = lake.replace(TABLE, DAY, accounts("1"))
    lake.replace(TABLE, DAY, accounts("2"), keep_replaced=True)
    lake.replace(TABLE, DAY, accounts("3"))
    assert len(run_folders(lake)) == 2
    lake.restore(TABLE.name, DAY, first.run)
    assert stored(lake) == ["1"]


def test_nothing_can_be_restored_unless_it_was_asked_for(lake: Lake) -> None:
    first = lake.replace(TABLE, DAY, accounts("1"))
    lake.replace(TABLE, DAY, accounts("2"))
    assert lake.replaced(TABLE.name, DAY) == {}
    with pytest.raises(LakeError, match=f"no replaced run {first.run} .* there are: none"):
        lake.restore(TABLE.name, DAY, first.run)


def test_a_writer_that_was_late_replaces_nothing(lake: Lake) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    late = lake.write(TABLE, DAY)
    late.add(accounts("1"))
    lake.replace(TABLE, DAY, accounts("2"))
    with pytest.raises(LakeError, match="Another run committed"):
        late.commit(keep_replaced=True)
    assert lake.replaced(TABLE.name, DAY) == {}
    assert stored(lake) == ["2"]


# --- files that are not as they were committed ------------------------------------------------


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def of_no_rows(data: bytes) -> bytes:
    return as_parquet(MERGED_FINDINGS, DAY, pl.read_parquet(io.BytesIO(data)).clear())


def of_fewer_rows(data: bytes) -> bytes:
    return as_parquet(MERGED_FINDINGS, DAY, pl.read_parquet(io.BytesIO(data)).head(1))


def damage(lake: Lake, path: str, how: Callable[[bytes], bytes] | None) -> None:
    """Changes a file behind the lake's back; null: deletes it."""
    if how is None:
        lake.delete(path)
    else:
        lake.put(path, how(lake.get(path) or b""))


DAMAGES = [truncated, emptied, of_no_rows, of_fewer_rows, None]
TWO_ACCOUNTS = ["000000000001", "000000000002"]


def findings(account: str, count: int = 3) -> pl.DataFrame:
    rows = pl.DataFrame({"finding_id": [str(n) for n in range(count)]})
    return complete(ACCOUNT_FINDINGS, rows.with_columns(account_id=pl.lit(account)))


def put_findings(lake: Lake, table: Table, accounts: list[str]) -> None:
    writer = lake.write(table, DAY)
    for account in accounts:
        writer.add(findings(account), layout.account_part(account))
    writer.commit()


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("accounts", [TWO_ACCOUNTS[:1], TWO_ACCOUNTS], ids=["one file", "two"])
@pytest.mark.parametrize("table", [MERGED_FINDINGS, ACCOUNT_FINDINGS], ids=lambda each: each.name)
def test_a_damaged_file_never_reads_as_fewer_rows(
    lake: Lake, table: Table, accounts: list[str], how: Callable[[bytes], bytes] | None
) -> None:
    put_findings(lake, table, accounts)
    path = files_of(lake, layout.partition(table.name, DAY))[-1]
    damage(lake, path, how)
    for read in (lambda: lake.scan(table, DAY).collect(), lambda: lake.read(table, DAY)):
        with pytest.raises(DamagedError) as raised:
            read()
        assert (lake.uri(path) if how or accounts[1:] else "/part-") in str(raised.value)
        assert "posture run --date 2026-" in str(raised.value)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_of_an_account_never_reads_as_no_findings(
    lake: Lake, how: Callable[[bytes], bytes] | None
) -> None:
    """The backlog of an emptied file said that every control passes."""
    put_findings(lake, ACCOUNT_FINDINGS, TWO_ACCOUNTS)
    (path,) = [each for each in files_of(lake, ACCOUNT_FINDINGS.name) if TWO_ACCOUNTS[0] in each]
    damage(lake, path, how)
    whole = findings_of_accounts(lake, DAY, pl.Series([TWO_ACCOUNTS[1], "none of it"]))
    assert whole.collect().height == 3
    with pytest.raises(DamagedError, match=layout.account_part(TWO_ACCOUNTS[0])):
        findings_of_accounts(lake, DAY, pl.Series(TWO_ACCOUNTS[:1])).collect()


@pytest.mark.parametrize("accounts", [TWO_ACCOUNTS[:1], TWO_ACCOUNTS], ids=["one file", "two"])
def test_a_file_beside_those_of_the_commit_is_not_read(lake: Lake, accounts: list[str]) -> None:
    put_findings(lake, ACCOUNT_FINDINGS, accounts)
    folder = files_of(lake, ACCOUNT_FINDINGS.name)[0].rsplit("/", 2)[0]
    beside = f"{folder}/{layout.account_part('999999999999')}"
    lake.put(beside, as_parquet(ACCOUNT_FINDINGS, DAY, findings("999999999999", 1)))
    with pytest.raises(DamagedError, match=f"{layout.account_part('9' * 12)} is not of the commit"):
        lake.scan(ACCOUNT_FINDINGS, DAY)


@pytest.mark.parametrize("how", [truncated, emptied, None])
def test_a_damaged_table_of_scores_names_its_file_and_the_repair(
    lake: Lake, how: Callable[[bytes], bytes] | None
) -> None:
    lake.replace(ORGANIZATION_SCORES, DAY, scores("1", 10.0))
    (path,) = files_of(lake, ORGANIZATION_SCORES.name)
    damage(lake, path, how)
    day = DAY.isoformat()
    with pytest.raises(DamagedError, match=f"{path}.*posture replay --from {day} --to {day}"):
        lake.read(ORGANIZATION_SCORES, DAY)


def test_rows_that_a_commit_does_not_count_are_not_read(lake: Lake) -> None:
    """Of the same size, so that only the rows tell."""
    lake.replace(ORGANIZATION_SCORES, DAY, scores("1", 10.0))
    path = layout.commit_file(ORGANIZATION_SCORES.name, DAY)
    lake.put_json(path, (lake.get_json(path) or {}) | {"rows": 2})
    with pytest.raises(DamagedError, match="1 rows are there, of 2 committed"):
        lake.read(ORGANIZATION_SCORES, DAY)


def test_a_day_that_is_replaced_while_it_is_opened_is_read_as_it_is_now(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    require, later = Lake.require, [accounts("2")]

    def replaced_after(self: Lake, table: str, day: date) -> Commit:
        commit = require(self, table, day)
        if later:
            self.replace(TABLE, DAY, later.pop())
        return commit

    monkeypatch.setattr(Lake, "require", replaced_after)
    assert stored(lake) == ["2"]


def test_files_and_folders_are_on_disk_before_their_commit_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path))
    synced: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        sync(handle)
        place = Path(f"/proc/self/fd/{handle}").readlink()
        seen = "seen" if (tmp_path / COMMIT).exists() else "unseen"
        synced.append(f"{seen} {place.relative_to(tmp_path).as_posix()}")

    monkeypatch.setattr(os, "fsync", noted)
    commit = lake.replace(TABLE, DAY, accounts("1"))
    run = layout.run_folder(TABLE.name, DAY, commit.run)
    partition = layout.partition(TABLE.name, DAY)
    before = {each.removeprefix("unseen ") for each in synced if each.startswith("unseen")}
    assert {f"{run}/part-00000.parquet", run, partition, TABLE.name, "."} <= before
    assert any(each.startswith(f"{COMMIT}#") for each in before), "the commit is complete when seen"
    assert f"seen {partition}" in synced
