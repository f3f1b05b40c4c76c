"""Notes on the controls of a day, which commands show beside scores.

Apart from `snapshot`: to load what computes scores takes longer than to print them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from posture_pipeline.schemas import EXPECTED_CONTROLS

if TYPE_CHECKING:
    from datetime import date

    from posture_pipeline.lake.store import Lake


def notes_of(lake: Lake, day: date) -> dict[str, str]:
    """By report why its controls are not those that AWS listed on the day."""
    if lake.commit_of(EXPECTED_CONTROLS.name, day) is None:
        return {}
    rows = lake.scan(EXPECTED_CONTROLS, day).select("report", "note").drop_nulls().unique()
    return dict(rows.sort("report", "note").collect().iter_rows())
