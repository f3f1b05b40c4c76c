"""Whether stored comparisons of days still compare what is stored.

A day compares with the newest earlier one, and notes the runs that it read. When one of the two is
computed again, or a day between them is stored later, the comparison stays as it was until its day
is computed again too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import polars as pl

from posture_pipeline.lake.explanation import earlier_day
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.schemas import CONTROL_STATUS, FINDING_CHANGES, SCORE_CHANGES, SCORE_TABLES

BEFORE = "compared_with"
"""Key of a comparison's commit: the earlier day; None: there was none."""
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


def outdated_comparisons(lake: Lake, days: Iterable[date]) -> pl.DataFrame:
    """The comparisons of these days that do not compare what is stored now.

    Either one of the two days was computed again since, or a day between them was stored since.

    Returns:
        date (of the comparison), compared_with (may be null), since: what happened since. A row for
        each day at most.
    """
    rows = []
    for day in days:
        commits = [
            commit
            for table in (SCORE_CHANGES, FINDING_CHANGES)
            if (commit := lake.commit_of(table.name, day)) is not None
        ]
        if not commits:
            continue
        # A commit that does not name the earlier day cannot be judged.
        known = [each.details[BEFORE] for each in commits if BEFORE in each.details]
        since = _stored_between(lake, day, known) or _computed_again(lake, commits[0])
        if since:
            rows.append((day, commits[0].details.get(BEFORE), since))
    schema = {"date": pl.Date, "compared_with": pl.String, "since": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def ends_of(lake: Lake, day: date) -> list[date]:
    """The days whose comparisons have an end on this day: itself, and the next stored one."""
    later = list(lake.days_before(SCORE_CHANGES.name, after=day))
    return [day, *later[-1:]]


def _stored_between(lake: Lake, day: date, compared_with: Iterable[str | None]) -> str | None:
    newest = earlier_day(lake, day)
    if newest is None or all((name or "") >= newest.isoformat() for name in compared_with):
        # What it was compared with may have lost its findings to retention.
        return None
    return f"{newest.isoformat()} was stored"


def _computed_again(lake: Lake, commit: Commit) -> str | None:
    noted: dict[str, dict[str, str]] = commit.details.get(RUNS, {})
    now = runs_of(lake, [date.fromisoformat(name) for name in noted])
    again = [name for name in sorted(noted) if noted[name] != now[name]]
    return f"{', '.join(again)} computed again" if again else None
