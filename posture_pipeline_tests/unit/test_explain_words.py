"""What is said of a cause: true sentences only."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from posture_pipeline.explain_words import sentence
from posture_pipeline.model.causes import CAUSES
from posture_pipeline.schemas import SCORE_CHANGE_CAUSES

DAY, BEFORE = date(2026, 11, 23), date(2026, 11, 22)


def cause(name: str, observed: datetime) -> dict[str, Any]:
    row = dict.fromkeys(SCORE_CHANGE_CAUSES.names)
    return row | {
        "date": DAY,
        "compared_with": BEFORE,
        "cause": name,
        "resource_id": "bucket",
        "status_before": "PASSED" if name == "regression" else "FAILED",
        "status_after": "FAILED" if name == "regression" else "PASSED",
        "first_observed_at": observed,
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("regression", "passed before, fails"), ("fixed", "failed before, passes")],
)
def test_since_when_is_said_only_if_it_can_be_true(name: str, said: str) -> None:
    """Findings of AWS Config keep the time at which they were created, whatever becomes of them."""
    seen = datetime(2026, 11, 22, 15, tzinfo=UTC)
    assert sentence(cause(name, seen), DAY) == f"{said} since 2026-11-22 15:00 UTC"
    created = datetime(2026, 10, 23, 22, tzinfo=UTC)
    assert sentence(cause(name, created), DAY) == said


@pytest.mark.parametrize("name", CAUSES)
def test_every_cause_has_a_sentence(name: str) -> None:
    said = sentence(cause(name, datetime(2026, 11, 22, 15, tzinfo=UTC)), DAY)
    assert len(said.split()) >= 3


def test_a_control_that_aws_always_passes_is_not_called_fixed() -> None:
    row = cause("always_passed", datetime(2026, 11, 22, 15, tzinfo=UTC))
    row["detail"] = "the unified Security Hub is enabled since 2026-11-23"
    assert sentence(row, DAY) == (
        "failed before, passes: AWS always passes this control beside the unified Security Hub "
        "(the unified Security Hub is enabled since 2026-11-23); this is no fix"
    )
