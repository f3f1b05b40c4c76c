"""What is said first of a change: nothing that is not known."""

from __future__ import annotations

from datetime import date

import pytest

from posture_pipeline.explain_story import Scope, Story, opening

BEFORE, DAY = date(2026, 11, 22), date(2026, 11, 23)


@pytest.mark.parametrize(
    ("score_after", "says_unchanged"), [(90.0, True), (None, False)], ids=["scored", "withheld"]
)
def test_controls_are_called_unchanged_only_where_both_days_have_a_score(
    score_after: float | None, says_unchanged: bool
) -> None:
    withheld = "no score on 2026-11-23: withheld: 3 of 9 findings are gone"
    score = {
        "score_before": 90.0,
        "score_after": score_after,
        "comparable": None if score_after else withheld,
        "last_score": None if score_after else 90.0,
        "last_score_date": None if score_after else BEFORE,
    }
    scope = Scope("organization", (), "the organization")
    story = Story("fsbp", scope, BEFORE, DAY, score, None, [], None, {})
    said = " ".join(opening(story))
    assert ("No control changed its status." in said) == says_unchanged
    assert ("not known" in said) != says_unchanged
