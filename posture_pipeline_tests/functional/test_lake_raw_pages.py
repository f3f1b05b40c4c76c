"""Raw pages: a kill at any point loses at most the open file, and never a committed page."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.raw_pages import READ_BYTES, RawPagesWriter, raw_files, read_pages
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.collection import PAGES_PER_FILE, ShardPosition
from posture_pipeline.schemas import RAW_FINDING_PAGES

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 23)


def at(files: int, *, shard: str = "0", complete: bool = False) -> ShardPosition:
    """The position after so many files of two pages each."""
    return ShardPosition(
        shard=shard,
        query="q",
        files=files,
        pages=2 * files,
        findings=200 * files,
        next_token=None if complete else f"token-{files}",
        complete=complete,
    )


def add_file(
    writer: RawPagesWriter, number: int, *, shard: str = "0", complete: bool = False
) -> None:
    """Two pages, saved as the file of that number."""
    for page in (2 * number, 2 * number + 1):
        writer.add(shard, f"{shard}-{page}".encode())
    writer.save(at(number + 1, shard=shard, complete=complete))


def committed(lake: Lake, day: date = DAY) -> list[str]:
    return [
        page.decode() for _, path, _ in raw_files(lake, day) for page in read_pages(lake, day, path)
    ]


def marker(lake: Lake) -> Path:
    return Path(lake.root, layout.partition(RAW_FINDING_PAGES, DAY), layout.OPEN)


# --- kills ------------------------------------------------------------------------------------


def test_a_new_day_begins_without_anything(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    assert not writer.began
    assert writer.position("0") is None


def test_a_kill_before_the_first_file_loses_nothing_but_the_open_pages(lake: Lake) -> None:
    killed = RawPagesWriter(lake, DAY)
    killed.add("0", b"lost")
    again = RawPagesWriter(lake, DAY)
    assert again.began
    assert again.run == killed.run
    assert again.position("0") is None


def test_a_killed_run_goes_on_behind_its_last_saved_file(lake: Lake) -> None:
    killed = RawPagesWriter(lake, DAY)
    add_file(killed, 0)
    killed.add("0", b"0-2, never saved")
    again = RawPagesWriter(lake, DAY)
    assert again.position("0") == at(1)
    add_file(again, 1, complete=True)
    again.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1", "0-2", "0-3"]


def test_a_kill_between_a_file_and_its_position_repeats_the_file(lake: Lake) -> None:
    """The file is written first: a position never speaks of pages that are not there."""
    killed = RawPagesWriter(lake, DAY)
    add_file(killed, 0)
    position = Path(lake.root, killed._folder("0"), layout.POSITION)
    before = position.read_bytes()
    add_file(killed, 1)
    position.write_bytes(before)
    again = RawPagesWriter(lake, DAY)
    assert again.position("0") == at(1)
    add_file(again, 1, complete=True)
    again.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1", "0-2", "0-3"]


def test_a_position_is_never_saved_without_its_file(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    add_file(writer, 0)
    add_file(writer, 1)
    position = RawPagesWriter(lake, DAY).position("0")
    assert position is not None
    names = {path.name for path in Path(lake.root).rglob("*.zst")}
    assert names == {layout.pages_file(number) for number in range(position.files)}


def test_a_kill_before_the_commit_leaves_everything_to_commit(lake: Lake) -> None:
    killed = RawPagesWriter(lake, DAY)
    add_file(killed, 0, complete=True)
    with pytest.raises(LakeError):
        committed(lake)
    again = RawPagesWriter(lake, DAY)
    assert again.position("0") == at(1, complete=True)
    again.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1"]


def test_a_kill_right_after_the_commit_does_not_reopen_it(lake: Lake) -> None:
    """A finished run whose marker is still there must not be written into, or emptied."""
    writer = RawPagesWriter(lake, DAY)
    add_file(writer, 0, complete=True)
    left = marker(lake).read_bytes()
    writer.commit(["0"], {})
    marker(lake).write_bytes(left)
    again = RawPagesWriter(lake, DAY)
    assert not again.began
    assert again.run != writer.run
    again.restart("0")
    assert committed(lake) == ["0-0", "0-1"]
    again.abandon()
    assert committed(lake) == ["0-0", "0-1"]


def test_a_position_of_another_version_begins_the_shard_anew(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    add_file(writer, 0)
    lake.put_json(f"{writer._folder('0')}/{layout.POSITION}", {"shard": "0", "cursor": "x"})
    again = RawPagesWriter(lake, DAY)
    assert again.position("0") is None
    add_file(again, 0, complete=True)
    again.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1"]


@settings(max_examples=30)
@given(
    kills=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["nothing", "open pages", "file"])), max_size=5
    ),
    files=st.integers(1, 6),
)
def test_kills_at_any_point_give_the_same_pages_as_none(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[int, str]], files: int
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for until, last in kills:
        writer = RawPagesWriter(lake, DAY)
        position = writer.position("0") or at(0)
        for number in range(position.files, min(until, files)):
            add_file(writer, number)
        if last != "nothing":
            writer.add("0", b"never saved")
        if last == "file":
            done = (writer.position("0") or at(0)).files
            lake.put(f"{writer._folder('0')}/{layout.pages_file(done)}", b"half a fi")
    writer = RawPagesWriter(lake, DAY)
    for number in range((writer.position("0") or at(0)).files, files):
        add_file(writer, number)
    writer.save(replace(writer.position("0") or at(0), complete=True, next_token=None))
    commit = writer.commit(["0"], {})
    assert committed(lake) == [f"0-{page}" for page in range(2 * files)]
    assert (commit.files, commit.rows) == (files, 200 * files)


# --- two runs of one day ----------------------------------------------------------------------


def test_of_two_runs_of_a_day_the_later_one_goes_on_and_the_earlier_one_stops(lake: Lake) -> None:
    """It may hang on another machine, where nobody can reach it."""
    earlier = RawPagesWriter(lake, DAY)
    add_file(earlier, 0)
    later = RawPagesWriter(lake, DAY)
    earlier.add("0", b"not from where the later one is")
    with pytest.raises(LakeError, match="Another run collects 2026-11-23 since"):
        earlier.save(at(2))
    assert later.position("0") == at(1)
    add_file(later, 1, complete=True)
    later.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1", "0-2", "0-3"]


@pytest.mark.parametrize("committed_by_the_later", [False, True])
def test_the_earlier_of_two_runs_deletes_and_commits_nothing(
    lake: Lake, *, committed_by_the_later: bool
) -> None:
    earlier = RawPagesWriter(lake, DAY)
    later = RawPagesWriter(lake, DAY)
    add_file(later, 0, complete=True)
    if committed_by_the_later:
        later.commit(["0"], {})
    for act in (
        earlier.abandon,
        lambda: earlier.restart("0"),
        lambda: earlier.commit(["0"], {}),
    ):
        with pytest.raises(LakeError, match="Another run collects"):
            act()
    if not committed_by_the_later:
        later.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1"]


@settings(max_examples=50)
@given(turns=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30))
def test_however_runs_of_a_day_meet_none_goes_back_behind_another(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, bool]]
) -> None:
    """Three machines; in a turn one saves a file, or somebody starts its run again."""
    files = 4
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    runs = [RawPagesWriter(lake, DAY) for _ in range(3)]
    saved, furthest = [0, 0, 0], 0
    for machine, starts_again in turns:
        if starts_again:
            runs[machine] = RawPagesWriter(lake, DAY)
            saved[machine] = (runs[machine].position("0") or at(0)).files
            assert saved[machine] == furthest
        elif saved[machine] < files:
            with suppress(LakeError):
                add_file(runs[machine], saved[machine])
                saved[machine] += 1
            furthest = max(furthest, saved[machine])
    last = RawPagesWriter(lake, DAY)
    assert (last.position("0") or at(0)).files == furthest
    for number in range(furthest, files):
        add_file(last, number)
    last.commit(["0"], {})
    assert committed(lake) == [f"0-{page}" for page in range(2 * files)]


# --- commits ----------------------------------------------------------------------------------


def test_a_commit_ends_the_open_run_and_counts_what_it_holds(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    add_file(writer, 0, shard="0")
    add_file(writer, 1, shard="0", complete=True)
    add_file(writer, 0, shard="1", complete=True)
    commit = writer.commit(["0", "1", "2"], {"source": "aws"})
    assert not marker(lake).exists()
    assert not RawPagesWriter(lake, DAY).began
    assert (commit.rows, commit.files) == (600, 3)
    assert commit.bytes == sum(path.stat().st_size for path in Path(lake.root).rglob("*.zst"))
    assert commit.details == {
        "source": "aws",
        "shards": {
            "0": {"files": 2, "pages": 4, "findings": 400, "complete": True},
            "1": {"files": 1, "pages": 2, "findings": 200, "complete": True},
        },
    }


def test_the_day_collected_again_replaces_the_one_before(lake: Lake) -> None:
    first = RawPagesWriter(lake, DAY)
    add_file(first, 0, complete=True)
    first.commit(["0"], {})
    second = RawPagesWriter(lake, DAY)
    second.add("0", b"again")
    second.save(at(1, complete=True))
    assert committed(lake) == ["0-0", "0-1"], "the old pages serve until the commit"
    second.commit(["0"], {})
    assert committed(lake) == ["again"]
    folders, _ = lake.names(layout.partition(RAW_FINDING_PAGES, DAY))
    assert folders == [f"run={second.run}"]


def test_shards_of_another_collection_are_not_read(lake: Lake) -> None:
    """The setting `shards` was changed between a killed run and the next."""
    killed = RawPagesWriter(lake, DAY)
    add_file(killed, 0, shard="all")
    again = RawPagesWriter(lake, DAY)
    add_file(again, 0, shard="1", complete=True)
    again.commit(["1"], {})
    assert committed(lake) == ["1-0", "1-1"]


def test_restarting_a_shard_forgets_it_alone(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    for shard in ("0", "1"):
        add_file(writer, 0, shard=shard)
        writer.add(shard, b"open")
    writer.restart("0")
    assert writer.position("0") is None
    assert writer.position("1") == at(1, shard="1")
    add_file(writer, 0, shard="0", complete=True)
    writer.commit(["0"], {})
    assert committed(lake) == ["0-0", "0-1"]


def test_abandoning_a_day_forgets_all_that_was_not_committed(lake: Lake) -> None:
    first = RawPagesWriter(lake, DAY)
    add_file(first, 0, complete=True)
    first.commit(["0"], {})
    second = RawPagesWriter(lake, DAY)
    add_file(second, 0, shard="1")
    second.abandon()
    third = RawPagesWriter(lake, DAY)
    assert not third.began
    assert third.position("1") is None
    assert committed(lake) == ["0-0", "0-1"]


def test_days_do_not_meet(lake: Lake) -> None:
    other = date(2026, 11, 24)
    one, two = RawPagesWriter(lake, DAY), RawPagesWriter(lake, other)
    add_file(one, 0, complete=True)
    assert two.position("0") is None
    one.commit(["0"], {})
    assert RawPagesWriter(lake, other).began


def test_a_collection_without_findings_is_a_day_with_no_pages(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    writer.save(at(0, complete=True))
    commit = writer.commit(["0"], {})
    assert (commit.rows, commit.files, commit.bytes) == (0, 0, 0)
    assert committed(lake) == []


# --- pages ------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_pages_come_back_byte_for_byte_but_for_line_breaks(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    writer = RawPagesWriter(lake, DAY)
    for body in bodies:
        writer.add("0", body)
    writer.save(at(1, complete=True))
    writer.commit(["0"], {})
    ((_, path, _),) = raw_files(lake, DAY)
    expected = [body.replace(b"\n", b" ").replace(b"\r", b" ") for body in bodies]
    assert list(read_pages(lake, DAY, path)) == expected


@pytest.mark.parametrize("length", [READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 5 * READ_BYTES])
def test_pages_come_back_however_they_lie_in_what_is_read_at_once(lake: Lake, length: int) -> None:
    bodies = [b"a", b"b" * length, b"", b"c" * 10, b"d" * length, b"e" * (length // 2)]
    writer = RawPagesWriter(lake, DAY)
    for body in bodies:
        writer.add("0", body)
    writer.save(at(1, complete=True))
    writer.commit(["0"], {})
    ((_, path, _),) = raw_files(lake, DAY)
    found = list(read_pages(lake, DAY, path))
    assert [len(page) for page in found] == [len(body) for body in bodies]
    assert found == bodies


def test_files_say_how_many_pages_of_their_shard_stand_before_them(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    for number in range(3):
        add_file(writer, number, complete=number == 2)
    writer.commit(["0"], {})
    files = list(raw_files(lake, DAY))
    assert [shard for shard, _, _ in files] == ["0"] * 3
    assert [first for _, _, first in files] == [0, PAGES_PER_FILE, 2 * PAGES_PER_FILE]
    assert PAGES_PER_FILE == 100, "10,000 findings a file"


def test_pages_that_vanished_behind_the_commit_are_named(lake: Lake) -> None:
    writer = RawPagesWriter(lake, DAY)
    add_file(writer, 0, complete=True)
    writer.commit(["0"], {})
    for path in Path(lake.root).rglob("*.zst"):
        path.unlink()
    with pytest.raises(LakeError, match=r"pages-00000\.ndjson\.zst is gone"):
        committed(lake)


def test_a_day_that_was_never_collected_has_no_files(lake: Lake) -> None:
    RawPagesWriter(lake, DAY)
    with pytest.raises(LakeError, match="has no raw_finding_pages for 2026-11-23"):
        list(raw_files(lake, DAY))
