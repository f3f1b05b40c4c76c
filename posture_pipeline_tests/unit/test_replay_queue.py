"""Which runs a replay on several machines is, and in which order they can be done."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.automation import REPLAY_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.replay_queue import AT_THE_END, STAGES, Part, parts_of
from posture_pipeline.settings import Settings

FIRST = date(2026, 3, 2)
JOB = build_definitions(Settings()).resolve_job_def(REPLAY_JOB)
ASSETS = {key.path[-1] for key in JOB.asset_layer.executable_asset_keys}
UPSTREAM = {
    node.key.path[-1]: {key.path[-1] for key in node.parent_keys} & ASSETS
    for node in JOB.asset_layer.asset_graph.asset_nodes
    if node.key.path[-1] in ASSETS
}


@st.composite
def stretches(draw: st.DrawFn) -> list[tuple[date, ...]]:
    """Stretches of days that follow on each other, with days or nothing between them."""
    found, day = [], FIRST
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 9))
        found.append(tuple(day + timedelta(days=number) for number in range(length)))
        day = found[-1][-1] + timedelta(days=draw(st.integers(1, 3)))
    return found


def done_before(parts: list[Part]) -> list[set[int]]:
    """For every part the parts that are done when it begins."""
    found: list[set[int]] = []
    for part in parts:
        found.append(set(part.after).union(*(found[each] for each in part.after)))
    return found


@given(stretches(), st.integers(1, 4))
def test_a_replay_by_parts_makes_every_asset_of_every_day_once_in_the_order_of_one_process(
    days: list[tuple[date, ...]], days_each: int
) -> None:
    parts = parts_of(days, ASSETS, days_each)
    made = [(asset, day) for part in parts for asset in part.assets for day in part.days]
    assert sorted(made) == sorted((asset, day) for asset in ASSETS for each in days for day in each)
    where = {
        (asset, day): number
        for number, part in enumerate(parts)
        for asset in part.assets
        for day in part.days
    }
    in_order = [day for stretch in days for day in stretch]
    for number in range(len(parts)):
        assert all(each < number for each in parts[number].after)
    before = done_before(parts)
    for (asset, day), number in where.items():
        done = before[number] | {number}
        assert {where[upstream, day] for upstream in UPSTREAM[asset]} <= done
    for earlier, day in pairwise(in_order):
        for asset in ASSETS - AT_THE_END:
            number = where[asset, day]
            assert where[asset, earlier] in before[number] | {number}


@given(stretches())
def test_a_stretch_waits_for_all_of_the_one_before(days: list[tuple[date, ...]]) -> None:
    """A day without scores can be compared with only when it has all of them."""
    parts = parts_of(days, ASSETS, 2)
    for before, after in pairwise(days):
        needed = {
            number
            for number, part in enumerate(parts)
            if set(part.days) <= set(before) and not part.assets <= AT_THE_END
        }
        for number, part in enumerate(parts):
            if set(part.days) <= set(after):
                assert needed <= done_before(parts)[number]


def test_days_further_on_do_not_wait_for_the_last_stage_of_the_days_before() -> None:
    days = (tuple(FIRST + timedelta(days=number) for number in range(4)),)
    parts = parts_of(days, ASSETS, 2)
    [first_stage] = [
        number
        for number, part in enumerate(parts)
        if part.assets == STAGES[0] and part.days == days[0][2:]
    ]
    assert done_before(parts)[first_stage] == {
        number
        for number, part in enumerate(parts)
        if part.assets == STAGES[0] and part.days == days[0][:2]
    }


def test_every_stage_names_assets_that_there_are() -> None:
    named = [asset for stage in (*STAGES, AT_THE_END) for asset in stage]
    assert set(named) <= ASSETS
    assert len(named) == len(set(named))
