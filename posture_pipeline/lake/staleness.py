"""Whether stored comparisons of days are still of what is stored of these days.

A comparison notes the runs that it read. When one of its days is computed again, it stays as it was
until it is made again too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import polars as pl

from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import CONTROL_STATUS, SCORE_CHANGES, SCORE_TABLES

RUNS = "runs"
"""Key of a comparison's commit: the runs that it read."""

_COMPARED = (CONTROL_STATUS, *SCORE_TABLES)


def runs_of(lake: Lake, days: Iterable[date]) -> dict[str, dict[str, str]]:
    """The runs of the tables that a comparison of these days reads, by day and table."""
    return {
        day.isoformat(): {
            table.name: commit.run
            for table in _COMPARED
            if (commit := lake.commit_of(table.name, day)) is not None
        }
        for day in days
    }


def outdated_comparisons(lake: Lake, day: date) -> pl.DataFrame:
    """The comparisons with an end on this day whose days were computed again since.

    These are the `score_changes` of the day and of the next stored one. One that does not say what
    it read (it was made by an earlier version) cannot be judged and is left out.

    Returns:
        date (of the comparison), compared_with, computed_again: the days, joined by a comma.
    """
    later = list(lake.days_before(SCORE_CHANGES.name, after=day))
    own = [day] if lake.commit_of(SCORE_CHANGES.name, day) is not None else []
    rows = []
    for each in own + later[-1:]:
        details = lake.require(SCORE_CHANGES.name, each).details
        noted: dict[str, dict[str, str]] = details.get(RUNS, {})
        now = runs_of(lake, [date.fromisoformat(name) for name in noted])
        again = [name for name in sorted(noted) if noted[name] != now[name]]
        if again:
            rows.append((each, details.get("compared_with"), ", ".join(again)))
    return pl.DataFrame(
        rows,
        schema={
            "date": pl.Date,
            "compared_with": pl.String,
            "computed_again": pl.String,
        },
        orient="row",
    )
