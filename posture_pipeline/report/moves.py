"""Scores of workloads that moved between two days, and the words for why, for every report.

Nothing here reads the lake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from posture_pipeline.model.causes import CAUSES

MOVED_AT_LEAST = 0.005
"""Points below which a score did not move."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """A score that moved.

    Attributes:
        now: Its row of the later day.
        before: Its row of the earlier day.
        points: By how much.
    """

    now: Row
    before: Row
    points: float


def moves(now: Iterable[Row], before: Mapping[tuple[str, str, str], Row]) -> list[Move]:
    """The scores that moved, the biggest move first.

    Args:
        now: Rows of `schemas.WORKLOAD_SCORES` of the later day.
        before: Those of the earlier day by report, workload and environment.
    """
    found = []
    for row in now:
        then = before.get((row["report"], row["workload"], row["environment"]))
        if then is None or then["score"] is None or row["score"] is None:
            continue
        points = row["score"] - then["score"]
        if abs(points) >= MOVED_AT_LEAST:
            found.append(Move(row, then, points))
    found.sort(
        key=lambda each: (
            -abs(each.points),
            each.now["workload"],
            each.now["report"],
            each.now["environment"],
        )
    )
    return found


def incomparable(before: Row, after: Row) -> Iterable[str]:
    """What makes the scores of two days measure something else."""

    def differ(name: str) -> bool:
        return None not in (before[name], after[name]) and before[name] != after[name]

    if differ("control_set_hash"):
        numbers = f"{before['expected']} to {after['expected']} controls"
        same = before["expected"] == after["expected"]
        yield "control set changed" if same else f"control set changed, {numbers}"
    if differ("method"):
        yield f"scoring method changed, {before['method']} to {after['method']}"
    if differ("settings_hash"):
        yield "settings of the report changed"
    if before["incomplete"] != after["incomplete"]:
        for row in (after, before):
            if row["incomplete"] is not None:
                yield f"{row['incomplete']} on {row['date']}"


def first_cause(change: Row) -> str:
    """Why a control changed, in short: its most frequent cause."""
    name = (change["causes"] or "no_evidence").split()[0]
    return CAUSES.get(name, name)
