"""The rate budget: never more than AWS allows, in whatever order threads ask."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.aws.rate import GET_FINDINGS_BURST, GET_FINDINGS_RATE, RateBudget


class FakeTime:
    """A clock that only moves when told to, or by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def budget_of(time: FakeTime, rate: float = 3.0, burst: int = 6, **more: float) -> RateBudget:
    return RateBudget(rate, burst, clock=time.clock, sleep=time.sleep, **more)


def refused_by_aws(sent: list[float], rate: float, burst: int) -> int:
    """How many of the requests AWS's own bucket would refuse."""
    tokens, at, refused = float(burst), sent[0], 0
    for moment in sent:
        tokens = min(burst, tokens + (moment - at) * rate)
        at = moment
        if tokens >= 1 - 1e-9:
            tokens -= 1
        else:
            refused += 1
    return refused


@given(
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=80),
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 40),
)
def test_no_request_is_refused_by_a_bucket_like_aws_has(
    gaps: list[float], rate: float, burst: int
) -> None:
    """Threads come at any time; what is sent fits AWS's bucket of the same rate and burst."""
    time = FakeTime()
    budget = budget_of(time, rate, burst)
    sent = []
    for gap in gaps:
        time.now += gap
        sent.append(time.now + budget.reserve())
    assert refused_by_aws(sorted(sent), rate, burst) == 0


@given(
    gaps=st.lists(st.floats(0, 3), min_size=2, max_size=60),
    rate=st.floats(0.5, 20),
    burst=st.integers(1, 20),
)
def test_in_any_stretch_of_time_at_most_half_the_burst_and_the_rate_are_sent(
    gaps: list[float], rate: float, burst: int
) -> None:
    time = FakeTime()
    budget = budget_of(time, rate, burst)
    sent = []
    for gap in gaps:
        time.now += gap
        sent.append(time.now + budget.reserve())
    allowed = max(1.0, burst / 2)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            count = last - first + 1
            assert count <= allowed + rate * (sent[last] - sent[first]) + 1e-6


@given(gaps=st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_places_in_the_queue_are_given_in_order(gaps: list[float]) -> None:
    time = FakeTime()
    budget = budget_of(time)
    sent = []
    for gap in gaps:
        time.now += gap
        sent.append(time.now + budget.reserve())
    assert sent == sorted(sent)


def test_700_pages_take_within_3_percent_of_the_ideal_time_without_a_refusal() -> None:
    time = FakeTime()
    budget = budget_of(time)
    sent = []
    for _ in range(700):
        budget.acquire()
        sent.append(time.now)
    ideal = (700 - GET_FINDINGS_BURST) / GET_FINDINGS_RATE
    assert sent[-1] - sent[0] <= 1.03 * ideal
    assert refused_by_aws(sent, GET_FINDINGS_RATE, GET_FINDINGS_BURST) == 0


def test_requests_that_arrive_up_to_half_a_second_late_are_not_refused() -> None:
    """What AWS counts is arrival; the half of the burst that is never used is room for that."""
    time = FakeTime()
    budget = budget_of(time)
    arrived = []
    for number in range(300):
        budget.acquire()
        arrived.append(time.now + 0.5 * ((number * 7919) % 100) / 100)
    assert refused_by_aws(sorted(arrived), GET_FINDINGS_RATE, GET_FINDINGS_BURST) == 0


def test_it_starts_with_one_request_not_with_a_burst() -> None:
    time = FakeTime()
    budget = budget_of(time)
    assert budget.reserve() == 0
    assert budget.reserve() == pytest.approx(1 / 3)


def test_after_idling_it_saves_no_more_than_half_the_burst() -> None:
    time = FakeTime()
    budget = budget_of(time)
    time.now += 3600
    assert [budget.reserve() for _ in range(3)] == [0, 0, 0]
    assert budget.reserve() > 0


def test_a_throttled_reply_slows_down_and_the_rate_comes_back() -> None:
    time = FakeTime()
    budget = budget_of(time)
    budget.penalize()
    assert budget.current_rate == pytest.approx(3.0 * 0.7)
    time.now += 60
    assert budget.current_rate == pytest.approx(3.0)


def test_throttled_replies_that_come_together_count_once() -> None:
    time = FakeTime()
    budget = budget_of(time)
    for _ in range(10):
        budget.penalize()
    assert budget.current_rate == pytest.approx(3.0 * 0.7)


def test_it_never_slows_down_to_nothing() -> None:
    time = FakeTime()
    budget = budget_of(time)
    for _ in range(100):
        time.now += 1.1
        budget.penalize()
    assert 0.25 < budget.current_rate < 1
    assert math.isfinite(budget.reserve())


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    time = FakeTime()
    budget = budget_of(time)
    budget.reserve()
    time.now -= 100
    assert budget.reserve() > 0


def test_an_unlimited_budget_never_waits() -> None:
    budget = RateBudget.unlimited()
    budget.penalize()
    assert sum(budget.acquire() for _ in range(1000)) == 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 6), (-1, 6), (3, 0)])
def test_a_rate_or_burst_that_is_not_positive_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        RateBudget(rate, burst)


def test_threads_share_one_budget() -> None:
    time = FakeTime()
    budget = budget_of(time)
    waits: list[float] = []

    def ask() -> None:
        for _ in range(50):
            waits.append(budget.reserve())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([number / 3 for number in range(400)])
