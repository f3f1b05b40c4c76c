"""Which stored days can be computed again, and which of them in one go.

What is computed again, and how, stands in the assets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.explanation import is_complete
from posture_pipeline.lake.store import Lake, removal_of
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
)

REASONS_SHOWN = 3
"""Of days that cannot be computed again, where there is no other."""


@dataclass(frozen=True, slots=True)
class Replayable:
    """What can be computed again of a range of days.

    Attributes:
        stretches: The days, oldest first; those of a stretch follow on each other.
        kept: Days that stay as they are, with the reason.
    """

    stretches: tuple[tuple[date, ...], ...]
    kept: dict[date, str]

    @property
    def days(self) -> list[date]:
        """All days of all stretches."""
        return [day for stretch in self.stretches for day in stretch]


def replayable(lake: Lake, first: date | None, last: date | None) -> Replayable:
    """The stored days of a range that can be computed again.

    A stretch ends after a day that has no scores yet: the day after it compares with it, which it
    can only once these are there.

    Args:
        lake: The lake.
        first: First day; null: the oldest stored one.
        last: Last day; null: the newest stored one.

    Raises:
        LakeError: No day of the range has stored findings.
    """
    names = {
        folder
        for table in (ORGANIZATION_SCORES, ACCOUNT_FINDINGS, MERGED_FINDINGS)
        for folder in lake.names(table.name)[0]
    }
    stored = sorted(day for name in names if (day := layout.day_of(name)))
    stretches: list[list[date]] = []
    kept: dict[date, str] = {}
    follows: date | None = None
    for day in stored:
        if (first and day < first) or (last and day > last):
            continue
        if reason := _reason_to_keep(lake, day):
            kept[day] = reason
            continue
        if follows == day:
            stretches[-1].append(day)
        else:
            stretches.append([day])
        follows = day + timedelta(days=1) if is_complete(lake, day) else None
    if not stretches:
        reasons = [f"{day.isoformat()}: {reason}." for day, reason in kept.items()]
        first_run = ["Run a day first (posture run, posture import or posture demo)."]
        message = (
            f"The lake {lake.root} has no findings of any day in that range, so nothing can be "
            f"computed again. {' '.join(reasons[:REASONS_SHOWN] or first_run)}"
        )
        raise LakeError(message)
    return Replayable(tuple(map(tuple, stretches)), kept)


def _reason_to_keep(lake: Lake, day: date) -> str | None:
    """Why a day cannot be computed again; null: it can."""
    if not _has_findings(lake, day):
        return f"its findings are no longer stored{_removed(lake, day)}"
    if lake.commit_of(ORGANIZATION_ACCOUNTS.name, day) is None:
        return "its list of accounts is not stored"
    changes = lake.commit_of(FINDING_CHANGES.name, day)
    before = changes.details.get("compared_with") if changes else None
    if before is not None and not _has_findings(lake, date.fromisoformat(before)):
        # What is carried forward from there would be lost.
        removed = _removed(lake, date.fromisoformat(before))
        return f"it compares with {before}, whose findings are no longer stored{removed}"
    return None


def _has_findings(lake: Lake, day: date) -> bool:
    return any(lake.commit_of(table.name, day) is not None for table in _FINDINGS)


def _removed(lake: Lake, day: date) -> str:
    """That retention removed the findings of a day, if it did."""
    commits = (lake.last_commit_of(table.name, day) for table in _FINDINGS)
    reasons = (removal_of(commit) for commit in commits if commit is not None)
    return next((f": {reason}" for reason in reasons if reason), "")


_FINDINGS = (ACCOUNT_FINDINGS, MERGED_FINDINGS)
