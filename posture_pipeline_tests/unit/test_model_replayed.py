"""What computing days again did to their scores: every score is told once, as what became of it."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.replayed import FACTS, KEY, of_scope, score_differences
from posture_pipeline.schemas import ACCOUNT_SCORES, ORGANIZATION_SCORES, SCORE_TABLES, Table

DAY = date(2026, 11, 23)


def scores(table: Table = ORGANIZATION_SCORES, **columns: object) -> pl.DataFrame:
    rows = table.read_as(
        pl.DataFrame({"date": [DAY], "report": ["fsbp"], "method": ["2"], **columns})
    )
    return of_scope(table.name.removesuffix("_scores"), rows)


@pytest.mark.parametrize("table", SCORE_TABLES, ids=lambda table: table.name)
def test_every_scope_has_the_same_columns(table: Table) -> None:
    assert scores(table).columns == [*KEY, *FACTS]
    assert scores(table)["scope"].to_list() == [table.name.removesuffix("_scores")]


@pytest.mark.parametrize(
    ("before", "after", "became", "difference"),
    [
        (90.0, 90.0, "same", 0.0),
        (90.0, 80.0, "moved", -10.0),
        (None, 80.0, "moved", None),
        (90.0, None, "moved", None),
        (None, None, "same", None),
    ],
)
def test_a_score_moved_when_it_is_another_one_or_no_longer_one(
    before: float | None, after: float | None, became: str, difference: float | None
) -> None:
    row = score_differences(scores(score=[before]), scores(score=[after])).row(0, named=True)
    assert (row["became"], row["difference"]) == (became, difference)


def test_a_score_of_one_side_only_is_added_or_gone() -> None:
    one, none = scores(ACCOUNT_SCORES, account_id=["111122223333"], score=[50.0]), scores().clear()
    assert score_differences(none, one)["became"].to_list() == ["added"]
    assert score_differences(one, none)["became"].to_list() == ["gone"]
    assert score_differences(none, none).is_empty()


def test_what_the_score_was_made_by_stands_on_both_sides() -> None:
    row = score_differences(scores(method=["1"]), scores(method=["2"])).row(0, named=True)
    assert (row["method_before"], row["method_after"]) == ("1", "2")


SCORE = st.one_of(st.none(), st.floats(0, 100))


@given(st.dictionaries(st.integers(0, 9), SCORE), st.dictionaries(st.integers(0, 9), SCORE))
def test_the_biggest_move_stands_first_and_no_score_is_lost(
    before: dict[int, float | None], after: dict[int, float | None]
) -> None:
    def rows(values: dict[int, float | None]) -> pl.DataFrame:
        frames = [
            scores(ACCOUNT_SCORES, account_id=[f"{number:012d}"], score=[score])
            for number, score in values.items()
        ]
        return pl.concat([scores().clear(), *frames])

    found = score_differences(rows(before), rows(after))
    assert set(found["account_id"]) == {f"{number:012d}" for number in before | after}
    sizes = found["difference"].abs().fill_null(0).to_list()
    assert sizes == sorted(sizes, reverse=True)
