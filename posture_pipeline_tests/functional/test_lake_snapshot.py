"""The status of controls from the findings of a day in the lake."""

from __future__ import annotations

import pytest
from polars.testing import assert_frame_equal

from posture_pipeline.lake import snapshot
from posture_pipeline.schemas import CARRIED_FAILURES, CONTROL_STATUS, MERGED_FINDINGS
from posture_pipeline_tests.fortnight import DAYS, Fortnight

pytestmark = pytest.mark.functional


@pytest.mark.parametrize("rows_in_memory", [1, 100, 1_000_000])
def test_how_many_accounts_are_scored_together_changes_nothing(
    fortnight: Fortnight, rows_in_memory: int
) -> None:
    day = DAYS[-1]
    assert fortnight.read(MERGED_FINDINGS, day).height > 2 * 100, "several groups of accounts"
    status = snapshot.control_status_of(
        fortnight.lake, fortnight.run.settings, day, rows_in_memory=rows_in_memory
    )
    assert_frame_equal(status, fortnight.read(CONTROL_STATUS, day))


def test_failures_that_are_carried_forward_count_whatever_the_groups_of_accounts(
    fortnight: Fortnight,
) -> None:
    carried = {day: fortnight.read(CARRIED_FAILURES, day) for day in DAYS}
    day = max(DAYS, key=lambda each: carried[each].height)
    assert carried[day].height, "a day on which some are"
    status = snapshot.control_status_of(
        fortnight.lake, fortnight.run.settings, day, rows_in_memory=1
    )
    assert_frame_equal(status, fortnight.read(CONTROL_STATUS, day))
    assert status["carried_findings"].sum() == carried[day].height
