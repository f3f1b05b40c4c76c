"""What happened to a control, in plain words: one cause of a change, said to a product owner.

The command line and the report pages say it with these words. Which cause a change has is decided
in `model/causes.py`; nothing here reads the lake.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

Row = Mapping[str, Any]


def what_happened(cause: Row, names: Mapping[str, str], day: date) -> str:
    """One cause in plain words: who, where, what.

    Args:
        cause: A row of `schemas.SCORE_CHANGE_CAUSES`.
        names: Account names by id.
        day: The later of the two days.
    """
    account = cause["account_id"]
    name = names.get(account)
    owner = f"{account} ({name})" if name else account
    said = sentence(cause, day)
    if cause["resource_id"] is None:
        # The whole account, or the whole control in it.
        region = f", {cause['region']}" if cause["region"] else ""
        return f"account {owner}{region}: {said}"
    resource = short_resource(cause["resource_id"], account)
    return f"{resource} in {owner}, {cause['region']}: {said}"


def sentence(cause: Row, day: date) -> str:
    """What happened, without who and where."""
    from posture_pipeline.model.causes import ABSENT

    observed, compared_with = cause["first_observed_at"], cause.get("compared_with")
    # A Config finding keeps the time of its creation: it may be from before the state it had then.
    is_new = compared_with is None or (observed and observed.date() >= compared_with)
    since = f" since {observed:%Y-%m-%d %H:%M} UTC" if observed and is_new else ""
    detail = f" ({cause['detail']})" if cause["detail"] else ""
    was = _STATES.get(cause["status_before"] or "", "was not there")
    now = _STATES_NOW.get(cause["status_after"] or "", "is not there")
    there = ""
    thing = "the control" if cause["resource_id"] is None else "this resource"
    if cause["status_after"] not in (None, ABSENT, "NO_DATA"):
        there = f", {thing} {now} there"
    elif cause["status_before"] not in (None, ABSENT, "NO_DATA"):
        there = f", {thing} {was} there before"
    whose = "" if cause["resource_id"] is None else "the account "
    sent = whose and f"{whose}sent "
    sentences = {
        "new_failing_resource": f"was not there before, fails{since}",
        "new_passing_resource": "was not there before, passes",
        "regression": f"passed before, fails{since}",
        "fixed": f"{was} before, passes{since}",
        "always_passed": (
            f"{was} before, passes: AWS always passes this control beside the unified Security "
            f"Hub{detail}; this is no fix"
        ),
        "resource_gone": f"{was} before, the resource is gone{detail}",
        "not_applicable": f"{was} before, AWS Config no longer evaluates the resource",
        "suppressed": f"{was} before, suppressed{detail}",
        "unsuppressed": f"is no longer suppressed, {now}",
        "control_added": f"the control is new in the report, {now}",
        "control_removed": f"the control is no longer in the report, {was} before",
        "account_joined": f"{whose}joined{there}",
        "account_left": f"{whose}left{there}",
        "account_moved": f"{whose}moved {cause['detail'] or ''}{there}",
        "could_not_be_evaluated": f"{was} before, could not be evaluated{detail}",
        "evaluated_again": f"{_evaluated_again(cause)}, {now}",
        "archived": f"{was} before, finding{detail or ' archived'}",
        "aged_out": (
            f"{was} before, now without a finding: AWS deletes findings after 90 days without an "
            f"update{detail}; this is no fix"
        ),
        "rule_broken": (
            f"{was} before, now without a finding: AWS could not evaluate the AWS Config rule; "
            f"this is no fix"
        ),
        "check_stopped": (
            f"{was} before, now its check no longer runs, so the old finding does not "
            f"count{detail}; this is no fix"
        ),
        "carried_too_long": (
            f"{was} before, carried forward as failing for as long as the settings allow{detail}; "
            f"this is no fix"
        ),
        "found_again": f"{was} before, has a finding again, {now}",
        "account_silent": f"{sent}no findings on {day.isoformat()}{there}",
        "account_back": f"{whose}sends findings again{there}",
        "no_evidence": f"{was} before, {now}, and nothing collected says why{detail}",
        "method_changed": f"{was} before, {now}: counted by another method, not changed",
        "settings_changed": f"{was} before, {now}: counted by other settings, not changed",
    }
    return " ".join(sentences[cause["cause"]].split())


def _evaluated_again(cause: Row) -> str:
    from posture_pipeline.model.causes import ABSENT

    if cause["status_before"] == ABSENT:
        return "its check did not run before"
    return "could not be evaluated before"


def short_resource(resource: str, account: str) -> str:
    """A resource without the part of its ARN that is said anyway."""
    if resource.startswith("AWS::::Account:"):
        return "the account itself"
    return resource.split(":", 5)[-1] if resource.startswith("arn:") else resource or account


def moved(change: float) -> str:
    """How far a score moved, in points."""
    if abs(change) < 0.005:
        return "no change" if abs(change) < 1e-9 else "less than 0.01 points apart"
    return f"{abs(change):.2f} points {'lower' if change < 0 else 'higher'}"


def count(number: int, noun: str) -> str:
    """A number of things, with the plural where it is due."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_STATES = {
    "PASSED": "passed",
    "FAILED": "failed",
    "UNKNOWN": "could not be evaluated",
    "SUPPRESSED": "was suppressed",
    "CARRIED": "was carried forward as failing",
    "ABSENT": "was not there",
    "NO_DATA": "had no data",
}
_STATES_NOW = {
    "PASSED": "passes",
    "FAILED": "fails",
    "UNKNOWN": "cannot be evaluated",
    "SUPPRESSED": "is suppressed",
    "CARRIED": "is carried forward as failing",
    "ABSENT": "is not there",
    "NO_DATA": "has no data",
}
