"""Episodes of failures: what opens one, what closes it, how long it lasted; and the median."""

from __future__ import annotations

import statistics
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model.causes import CAUSES, PROBLEM, PROBLEM_SCHEMA
from posture_pipeline.model.remediation import (
    COUNTS_ON_DAYS,
    KNOWN_DAYS,
    REMEDIED,
    Today,
    gone,
    known_episodes,
    median_time,
    remediation,
    time_to_fix,
)
from posture_pipeline.schemas import (
    CARRIED_FAILURES,
    FINDING_CHANGES,
    REMEDIATION,
    SOURCE_COMPLETENESS,
    TIME_TO_FIX,
)

ONE, TWO = "000000000001", "111122223333"
DAY = date(2026, 3, 2)
HUB, CONFIG = "aws/securityhub", "aws/config"

Row = dict[str, Any]


def at(day: date, hour: float = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def problem(name: str = "a", account: str = ONE, **more: Any) -> Row:
    return {
        "report": "fsbp",
        "account_id": account,
        "region": "eu-west-1",
        "control_id": "S3.1",
        "resource_id": name,
        "product": HUB,
        **more,
    }


def failed(name: str = "a", account: str = ONE, **more: Any) -> Row:
    return problem(name, account, state="FAILED", **more)


def change(day: date, name: str, before: str, after: str, cause: str) -> Row:
    found = problem(name, status_before=before, status_after=after, cause=cause)
    return found | {"date": day, "compared_with": day - timedelta(days=1)}


def today(
    day: date,
    *problems: Row,
    carried: list[Row] | None = None,
    silent: list[tuple[str, str]] | None = None,
    changes: list[Row] | None = None,
    accounts: tuple[str, ...] = (ONE, TWO),
    reporting: tuple[str, ...] | None = None,
    controls: tuple[str, ...] = ("S3.1",),
    reports: tuple[str, ...] = ("fsbp",),
) -> Today:
    sources = [
        {
            "report": "fsbp",
            "account_id": account,
            "region": "eu-west-1",
            "product": product,
            "reason": "no findings of it",
        }
        for account, product in silent or []
    ]
    return Today(
        day=day,
        reports=reports,
        problems=frame(problems, PROBLEM_SCHEMA),
        carried=frame(carried or [], CARRIED_FAILURES.schema),
        completeness=frame(sources, SOURCE_COMPLETENESS.schema),
        changes=frame(changes or [], FINDING_CHANGES.schema),
        accounts=pl.DataFrame(
            [(each, "payments", "production") for each in accounts],
            schema=["account_id", "workload", "environment"],
            orient="row",
        ).cast(pl.String),
        reporting=accounts if reporting is None else reporting,
        controls=pl.DataFrame(
            [("fsbp", each, "HIGH") for each in controls],
            schema={"report": pl.String, "control_id": pl.String, "severity": pl.String},
            orient="row",
        ),
    )


def frame(rows: Any, schema: pl.Schema) -> pl.DataFrame:
    full = [{name: row.get(name) for name in schema} for row in rows]
    return pl.DataFrame(full, schema=schema)


class Days:
    """Episodes day after day, each made from the day before, as the lake keeps them."""

    def __init__(self) -> None:
        self.rows = REMEDIATION.empty()
        self.closed = REMEDIATION.empty()

    def live(self, of_day: Today, passing: tuple[str, ...] = ()) -> list[Row]:
        passes = frame([problem(name) for name in passing], REMEDIATION.schema).select(PROBLEM)
        before = self.rows
        self.rows = remediation(before, self.closed, passes, of_day)
        self.closed = pl.concat([self.closed, self.rows.filter(pl.col("closed_on").is_not_null())])
        return self.rows.to_dicts()


def one(rows: list[Row]) -> Row:
    (row,) = rows
    return row


# --- opening ----------------------------------------------------------------------------------


def test_a_failure_is_open_since_it_was_first_observed() -> None:
    began = at(later(-10), 7)
    row = one(Days().live(today(DAY, failed(first_observed_at=began))))
    assert row["opened_at"] == began
    assert (row["first_seen"], row["last_seen"], row["closed_on"]) == (DAY, DAY, None)
    assert (row["openings"], row["flapping"], row["remedied"], row["carried_forward"]) == (
        1,
        *[False] * 3,
    )
    assert (row["severity"], row["workload"], row["environment"]) == (
        "HIGH", "payments", "production"
    )  # fmt: skip
    assert row["days"] == pytest.approx(11 - 7 / 24), "to the end of the day"


@pytest.mark.parametrize("observed", [None, at(later(1), 1)], ids=["unknown", "after the day"])
def test_without_a_time_that_can_be_it_is_open_since_the_day_began(
    observed: datetime | None,
) -> None:
    row = one(Days().live(today(DAY, failed(first_observed_at=observed))))
    assert row["opened_at"] == at(DAY)
    assert row["days"] == 1


def test_a_config_finding_began_to_fail_when_it_was_last_updated() -> None:
    """It keeps its FirstObservedAt for life, and is updated only when compliance changes."""
    times = {"first_observed_at": at(later(-300)), "updated_at": at(later(-4))}
    config = one(Days().live(today(DAY, failed(product=CONFIG, **times))))
    assert config["opened_at"] == at(later(-4))
    hub = one(Days().live(today(DAY, failed(**times))))
    assert hub["opened_at"] == at(later(-300))


def test_what_passed_the_day_before_was_not_failing_since_earlier() -> None:
    regression = change(DAY, "a", "PASSED", "FAILED", "regression")
    old = failed(first_observed_at=at(later(-300)))
    row = one(Days().live(today(DAY, old, changes=[regression])))
    assert row["opened_at"] == at(DAY)


def test_only_failed_problems_open_an_episode() -> None:
    others = [problem(state, state=state) for state in ("UNKNOWN", "SUPPRESSED")]
    assert Days().live(today(DAY, *others)) == []


def test_accounts_that_are_not_scored_have_no_episodes() -> None:
    assert Days().live(today(DAY, failed(account=TWO), accounts=(ONE,))) == []


def test_a_carried_failure_is_open_and_said_to_be_carried() -> None:
    old = problem(product=CONFIG, updated_at=at(later(-91)))
    row = one(Days().live(today(DAY, carried=[old])))
    assert row["carried_forward"]
    assert row["opened_at"] == at(later(-91))


def test_a_failure_with_a_finding_is_not_carried() -> None:
    row = one(Days().live(today(DAY, failed(), carried=[problem()])))
    assert not row["carried_forward"]


# --- going on ---------------------------------------------------------------------------------


def test_an_episode_that_goes_on_keeps_when_it_was_opened() -> None:
    days = Days()
    days.live(today(DAY, failed(first_observed_at=at(later(-10)))))
    row = one(days.live(today(later(3), failed(first_observed_at=at(later(1))))))
    assert row["opened_at"] == at(later(-10))
    assert (row["first_seen"], row["last_seen"], row["openings"]) == (DAY, later(3), 1)
    assert row["days"] == 14


def test_what_cannot_be_evaluated_is_not_known_to_be_fixed() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    unknown = problem(state="UNKNOWN")
    gone_unknown = change(later(1), "a", "FAILED", "UNKNOWN", "could_not_be_evaluated")
    row = one(days.live(today(later(1), unknown, changes=[gone_unknown])))
    assert row["closed_on"] is None
    assert row["last_seen"] == DAY


def test_what_passes_when_it_can_be_evaluated_again_is_fixed() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    days.live(today(later(1), problem(state="UNKNOWN")))
    again = change(later(2), "a", "UNKNOWN", "PASSED", "evaluated_again")
    row = one(days.live(today(later(2), changes=[again])))
    assert (row["closed_by"], row["remedied"], row["days"]) == ("fixed", True, 2)


@pytest.mark.parametrize("cause", ["account_silent", "no_evidence", "archived", None])
def test_silence_of_its_source_closes_nothing(cause: str | None) -> None:
    days = Days()
    days.live(today(DAY, failed("a"), failed("b", product=CONFIG)))
    changes = [] if cause is None else [change(later(1), "a", "FAILED", "ABSENT", cause)]
    fixed = change(later(1), "b", "FAILED", "PASSED", "fixed")
    rows = days.live(today(later(1), silent=[(ONE, HUB)], changes=[*changes, fixed]))
    assert {row["resource_id"]: row["closed_by"] for row in rows} == {"a": None, "b": "fixed"}


def test_silence_of_another_source_keeps_nothing_open() -> None:
    for source in ((ONE, CONFIG), (TWO, HUB)):
        days = Days()
        days.live(today(DAY, failed()))
        row = one(days.live(today(later(1), silent=[source])))
        assert row["closed_by"] == "no_evidence"


def test_an_account_without_any_finding_closes_nothing() -> None:
    days = Days()
    days.live(today(DAY, failed("a"), failed("b", TWO)))
    rows = days.live(today(later(1), failed("b", TWO), reporting=(TWO,)))
    assert [row["closed_on"] for row in rows] == [None, None]


def test_evidence_closes_even_in_a_silent_source() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    ended = change(later(1), "a", "FAILED", "ABSENT", "resource_gone")
    row = one(days.live(today(later(1), silent=[(ONE, HUB)], changes=[ended])))
    assert row["remedied"]


def test_what_passes_after_silence_is_fixed_although_no_change_says_so() -> None:
    days = Days()
    days.live(today(DAY, failed("a"), failed("b")))
    silent = today(later(1), silent=[(ONE, HUB)])
    days.live(silent)
    back = today(later(2))
    assert set(gone(days.rows, back)["resource_id"]) == {"a", "b"}
    rows = days.live(back, passing=("a",))
    assert {row["resource_id"]: row["closed_by"] for row in rows} == {
        "a": "fixed",
        "b": "no_evidence",
    }


# --- closing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", sorted(set(CAUSES) - {"account_silent", "account_left"}))
def test_only_a_repair_or_the_end_of_the_resource_is_a_remedy(cause: str) -> None:
    days = Days()
    days.live(today(DAY, failed()))
    ended = change(later(3), "a", "FAILED", "ABSENT", cause)
    row = one(days.live(today(later(3), changes=[ended])))
    assert (row["closed_on"], row["closed_by"]) == (later(3), cause)
    assert row["remedied"] == (cause in REMEDIED)
    assert row["last_seen"] == DAY
    assert row["days"] == (3 if cause in REMEDIED else 1), "censored when it was last seen"


def test_a_carried_failure_that_is_given_up_is_censored() -> None:
    days = Days()
    days.live(today(DAY, carried=[problem()]))
    ended = change(later(1), "a", "CARRIED", "ABSENT", "carried_too_long")
    row = one(days.live(today(later(1), changes=[ended])))
    assert (row["closed_by"], row["remedied"]) == ("carried_too_long", False)


def test_an_account_that_left_closes_its_failures_without_a_remedy() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    gone_too = change(later(1), "a", "FAILED", "PASSED", "fixed")
    row = one(days.live(today(later(1), accounts=(TWO,), reporting=(), changes=[gone_too])))
    assert (row["closed_by"], row["remedied"]) == ("account_left", False)
    assert row["workload"] == "payments", "as it was last known"


def test_a_control_that_is_no_control_any_more_was_removed() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    row = one(days.live(today(later(1), controls=("S3.2",))))
    assert (row["closed_by"], row["remedied"]) == ("control_removed", False)


def test_episodes_of_a_report_that_there_is_no_more_are_not_continued() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    assert days.live(today(later(1), reports=("cis",))) == []


def test_a_closed_episode_is_told_on_one_day_only() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    ended = change(later(1), "a", "FAILED", "PASSED", "fixed")
    assert len(days.live(today(later(1), changes=[ended]))) == 1
    assert days.live(today(later(2))) == []


def test_the_cause_is_found_on_a_day_between_that_has_no_episodes() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    ended = change(later(2), "a", "FAILED", "SUPPRESSED", "suppressed")
    row = one(days.live(today(later(5), problem(state="SUPPRESSED"), changes=[ended])))
    assert (row["closed_on"], row["closed_by"]) == (later(5), "suppressed")


# --- coming back ------------------------------------------------------------------------------


def break_and_fix(days: Days, day: date) -> None:
    days.live(today(day, failed(first_observed_at=at(day, 3))))
    fixed = change(day + timedelta(days=1), "a", "FAILED", "PASSED", "fixed")
    days.live(today(day + timedelta(days=1), changes=[fixed]))


def test_a_failure_that_comes_back_counts_on_and_flaps_at_the_third_time() -> None:
    days = Days()
    seen = []
    for number in range(4):
        break_and_fix(days, later(5 * number))
        seen.append((one(days.rows.to_dicts())["openings"], one(days.rows.to_dicts())["flapping"]))
    assert seen == [(1, False), (2, False), (3, True), (4, True)]
    opened = days.closed["opened_at"].to_list()
    assert opened == [at(later(5 * number), 3) for number in range(4)], "each time anew"


@pytest.mark.parametrize(("wait", "openings"), [(COUNTS_ON_DAYS, 2), (COUNTS_ON_DAYS + 1, 1)])
def test_after_a_month_of_quiet_the_count_begins_anew(wait: int, openings: int) -> None:
    days = Days()
    break_and_fix(days, later(-1))
    row = one(days.live(today(later(wait), failed())))
    assert row["openings"] == openings


def test_a_suppression_that_ended_lets_the_same_episode_go_on() -> None:
    days = Days()
    began = at(later(-50))
    days.live(today(DAY, failed(first_observed_at=began)))
    hidden = change(later(1), "a", "FAILED", "SUPPRESSED", "suppressed")
    days.live(today(later(1), problem(state="SUPPRESSED"), changes=[hidden]))
    row = one(days.live(today(later(4), failed(first_observed_at=began))))
    assert (row["opened_at"], row["first_seen"], row["openings"]) == (began, DAY, 1)
    known = known_episodes(pl.concat([days.closed, days.rows]), later(4))
    assert known["closed_on"].to_list() == [None], "counted once, as open"


def test_what_was_lost_from_sight_and_fails_anew_is_another_episode() -> None:
    days = Days()
    days.live(today(DAY, failed(first_observed_at=at(later(-50)))))
    lost = change(later(1), "a", "FAILED", "ABSENT", "no_evidence")
    days.live(today(later(1), changes=[lost]))
    row = one(days.live(today(later(4), failed(first_observed_at=at(later(3))))))
    assert (row["opened_at"], row["first_seen"], row["openings"]) == (at(later(3)), later(4), 2)


def test_what_passed_after_its_suppression_ended_fails_anew() -> None:
    days = Days()
    days.live(today(DAY, failed()))
    hidden = change(later(1), "a", "FAILED", "SUPPRESSED", "suppressed")
    days.live(today(later(1), problem(state="SUPPRESSED"), changes=[hidden]))
    days.live(today(later(2)))
    regression = change(later(3), "a", "PASSED", "FAILED", "regression")
    row = one(days.live(today(later(3), failed(), changes=[regression])))
    assert (row["opened_at"], row["openings"]) == (at(later(3)), 2)


def test_what_was_fixed_fails_anew_whatever_its_finding_says() -> None:
    days = Days()
    days.live(today(DAY, failed(first_observed_at=at(later(-50)))))
    fixed = change(later(1), "a", "FAILED", "PASSED", "fixed")
    days.live(today(later(1), changes=[fixed]))
    row = one(days.live(today(later(4), failed(first_observed_at=at(later(-50))))))
    assert (row["opened_at"], row["openings"]) == (at(later(4)), 2)


# --- any history ------------------------------------------------------------------------------

STATES = st.sampled_from(["FAILED", "UNKNOWN", "SUPPRESSED", "PASSED", "ABSENT", "CARRIED"])
HISTORIES = st.lists(
    st.tuples(
        st.lists(STATES, min_size=3, max_size=3),
        st.booleans(),
        st.integers(1, 9),
        st.none() | st.integers(-400, 60),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_episodes_of_any_history_are_whole(
    history: list[tuple[list[str], bool, int, int | None]],
) -> None:
    days, day, seen = Days(), DAY, []
    before = ["ABSENT"] * 3
    for states, silent, step, observed in history:
        compared_with, day = day, day + timedelta(days=step)
        began = None if observed is None else at(later(observed))
        names = "abc"
        changes = [
            change(day, name, was, now, "fixed" if now == "PASSED" else "no_evidence")
            | {"compared_with": compared_with}
            for name, was, now in zip(names, before, states, strict=True)
            if was != now
        ]
        open_before = days.rows.filter(pl.col("closed_on").is_null())
        rows = days.live(
            today(
                day,
                *(
                    problem(name, state=state, first_observed_at=began)
                    for name, state in zip(names, states, strict=True)
                    if state in ("FAILED", "UNKNOWN", "SUPPRESSED")
                ),
                carried=[
                    problem(name)
                    for name, state in zip(names, states, strict=True)
                    if state == "CARRIED"
                ],
                silent=[(ONE, HUB)] if silent else [],
                changes=changes,
            )
        )
        is_open = {row["resource_id"] for row in rows if row["closed_on"] is None}
        closed = {row["resource_id"] for row in rows if row["closed_on"] is not None}
        failing = {n for n, s in zip(names, states, strict=True) if s in ("FAILED", "CARRIED")}
        assert len(rows) == len(is_open) + len(closed), "one row a problem"
        assert not is_open & closed
        assert failing <= is_open
        assert is_open | closed == failing | set(open_before["resource_id"])
        assert all(row["days"] >= 0 for row in rows)
        assert all(row["first_seen"] <= row["last_seen"] <= day for row in rows)
        assert all(row["remedied"] == (row["closed_by"] in REMEDIED) for row in rows)
        assert all((row["closed_by"] is None) == (row["closed_on"] is None) for row in rows)
        assert REMEDIATION.read_as(days.rows).equals(days.rows)
        seen += [(row["resource_id"], row["closed_on"]) for row in rows if row["closed_on"]]
        before = states
    assert len(seen) == len(set(seen)), "what is closed is told once"
    known = known_episodes(pl.concat([days.closed, days.rows]), day)
    assert known.select(*PROBLEM, "opened_at").is_duplicated().sum() == 0


# --- time to fix ------------------------------------------------------------------------------


def episode(name: str, days: float, closed_by: str | None = None, **more: Any) -> Row:
    return problem(name) | {
        "date": DAY,
        "severity": "HIGH",
        "workload": "payments",
        "environment": "production",
        "opened_at": at(DAY) - timedelta(days=days),
        "closed_on": None if closed_by is None else DAY,
        "closed_by": closed_by,
        "remedied": closed_by in REMEDIED,
        "days": days,
        **more,
    }


def of(*episodes: Row) -> pl.DataFrame:
    return frame(episodes, REMEDIATION.schema)


def test_the_median_is_the_one_of_a_textbook_example_by_hand() -> None:
    """Remission times, placebo and 6-MP (Freireich and others, Blood 21, 1963): 8 and 23 weeks."""
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    assert median_time(placebo, [True] * 21)["median_days"] == 8
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    going_on = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    found = median_time([*ended, *going_on], [True] * 9 + [False] * 12)
    assert found["median_days"] == 23
    assert found["low_days"] == 13
    assert found["high_days"] is None


def test_open_failures_make_the_median_longer_than_the_fixed_ones_alone() -> None:
    """Three are fixed in a day or two, three have been failing for months: half are not fixed."""
    fixed, is_open = [1.0, 1.0, 2.0], [90.0, 120.0, 200.0]
    assert median_time(fixed, [True] * 3)["median_days"] == 1
    assert median_time([*fixed, *is_open], [True] * 3 + [False] * 3)["median_days"] == 2
    more = [*is_open, 300.0]
    assert median_time([*fixed, *more], [True] * 3 + [False] * 4)["median_days"] is None


def test_nothing_remedied_has_no_median() -> None:
    nothing = {"median_days": None, "low_days": None, "high_days": None}
    assert median_time([3.0, 5.0], [False, False]) == nothing
    assert median_time([], []) == nothing


TIMES = st.lists(st.floats(0, 500).map(lambda days: round(days, 3)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(TIMES)
def test_where_all_are_remedied_the_median_is_the_plain_one(days: list[float]) -> None:
    found = median_time(days, [True] * len(days))
    assert found["median_days"] == statistics.median_low(days)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.data())
def test_the_interval_holds_the_median_and_censoring_never_shortens_it(
    days: list[float], data: st.DataObject
) -> None:
    ended = data.draw(st.lists(st.booleans(), min_size=len(days), max_size=len(days)))
    found = median_time(days, ended)
    median, low, high = found["median_days"], found["low_days"], found["high_days"]
    if median is not None:
        assert median >= statistics.median_low(days)
        assert low is None or low <= median
    if high is not None:
        assert median is not None
        assert high >= median


def test_each_subject_is_told_by_itself_and_in_all() -> None:
    rows = time_to_fix(
        of(
            episode("a", 2, "fixed"),
            episode("b", 4, "resource_gone", severity="LOW"),
            episode("c", 9, workload="webshop"),
            episode("d", 8, "suppressed", severity=None),
        )
    )
    assert rows.schema == TIME_TO_FIX.schema
    assert not rows.select(TIME_TO_FIX.key).is_duplicated().any()
    told = {
        (row["severity"], row["workload"]): (
            row["failures"],
            row["remedied_failures"],
            row["open_failures"],
        )
        for row in rows.to_dicts()
    }
    assert told == {
        (None, None): (4, 2, 1),
        ("HIGH", None): (2, 1, 1),
        ("LOW", None): (1, 1, 0),
        (None, "payments"): (3, 2, 0),
        (None, "webshop"): (1, 0, 1),
        ("HIGH", "payments"): (1, 1, 0),
        ("LOW", "payments"): (1, 1, 0),
        ("HIGH", "webshop"): (1, 0, 1),
    }
    medians = {(row["severity"], row["workload"]): row["median_days"] for row in rows.to_dicts()}
    assert medians[None, None] == 4
    assert medians["HIGH", "webshop"] is None


def test_no_episodes_give_no_rows() -> None:
    assert time_to_fix(REMEDIATION.empty()).equals(TIME_TO_FIX.empty())


def test_what_was_closed_more_than_a_year_ago_does_not_count() -> None:
    old = [DAY - timedelta(days=days) for days in (KNOWN_DAYS, KNOWN_DAYS - 1)]
    rows = of(*(episode(str(day), 3, "fixed", closed_on=day, date=day) for day in old))
    assert known_episodes(rows, DAY)["closed_on"].to_list() == [old[1]]
