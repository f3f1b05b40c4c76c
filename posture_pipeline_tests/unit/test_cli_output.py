"""What the command line draws of a series."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.cli_output import SPARKS, sparkline


def test_a_sparkline_runs_from_the_lowest_to_the_highest_score_with_gaps() -> None:
    assert sparkline([80.0, None, 90.0]) == f"{SPARKS[0]} {SPARKS[-1]}"


def test_small_moves_do_not_look_like_big_ones() -> None:
    assert set(sparkline([90.0, 90.1, 90.0])) == {SPARKS[0]}


def test_without_any_score_there_is_no_line() -> None:
    assert sparkline([None, None]) == ""


@given(st.lists(st.none() | st.floats(0, 100), max_size=20))
def test_every_day_has_one_character(values: list[float | None]) -> None:
    known = [each for each in values if each is not None]
    assert len(sparkline(values)) == (len(values) if known else 0)
