"""Which command computes a damaged day of a table again: one place for every message."""

from __future__ import annotations

from datetime import date

from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    AWS_COMPLIANCE,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    QUARANTINE,
    RAW_FINDING_PAGES,
)

_ASKED = {each.name for each in (ORGANIZATION_ACCOUNTS, LISTED_CONTROLS, AWS_COMPLIANCE)} | {
    RAW_FINDING_PAGES
}
"""Made of what AWS said on the day."""

_FROM_PAGES = {each.name for each in (MERGED_FINDINGS, QUARANTINE, ACCOUNT_FINDINGS)}


def mend_of(table: str, *days: date) -> str:
    """The command, or the advice, that recomputes days of a table, as text for a person."""
    first, last = min(days).isoformat(), max(days).isoformat()
    if table in _ASKED:
        return "restore it from a backup: AWS says nothing of a day that is over"
    if table in _FROM_PAGES:
        return f"posture run --date {first}, while its raw pages are kept; else a backup"
    return f"posture replay --from {first} --to {last}"
