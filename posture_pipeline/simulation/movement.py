"""Findings that change while they are paged: the switch `movement` of the settings.

Pages come newest first, so that a finding that is updated moves to pages that were read already.
What the findings are at first comes from the organization; requests and replies are in
`security_hub.py`.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from posture_pipeline.simulation.finding_store import FindingKey, Page
from posture_pipeline.simulation.rendering import parse_time

if TYPE_CHECKING:
    from posture_pipeline.simulation.clock import SimulatedClock
    from posture_pipeline.simulation.finding_filters import CompiledFilter
    from posture_pipeline.simulation.organization import SimulatedOrganization
    from posture_pipeline.simulation.settings import Movement

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class _Moving(msgspec.Struct):
    """A finding, when it was updated (milliseconds), and its number in the order of equal times."""

    number: int
    updated: int
    finding: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        return -self.updated, self.number


class MovingFindings:
    """The organization's findings of the first day asked for, changed before every page.

    A request changes only findings of the accounts that its filter asks for.
    """

    def __init__(
        self, organization: SimulatedOrganization, clock: SimulatedClock, movement: Movement
    ) -> None:
        self._organization = organization
        self._clock = clock
        self._movement = movement
        self._random = random.Random(movement.seed)  # noqa: S311 - chooses changes, no secret
        self._lock = threading.Lock()
        self._findings: list[_Moving] = []
        self._created = 0
        self._changed_at = 0
        self.original: frozenset[FindingKey] = frozenset()
        """What was there before the first page."""

    def now(self) -> dict[FindingKey, dict[str, Any]]:
        """Every finding as it is after the last page."""
        with self._lock:
            return {_key(each.finding): each.finding for each in self._findings}

    def page(self, compiled: CompiledFilter, position: list[int], size: int) -> Page:
        """Return up to `size` findings from a position: a place in the order, or an offset."""
        with self._lock:
            now = self._clock.now()
            if not self._findings:
                self._begin(now)
            self._change(compiled, now)
            self._clock.set(now + dt.timedelta(seconds=self._movement.seconds))
            found = [each for each in self._findings if compiled.finding(each.finding)]
            found.sort(key=lambda each: each.place)
            if self._movement.tokens == "position":
                begin = position[1]
            elif position == [0, 0]:
                begin = 0
            else:
                last = (position[0], position[1])
                begin = sum(each.place <= last for each in found)
            taken = found[begin : begin + size]
            bodies = [msgspec.json.encode(each.finding) for each in taken]
            if begin + size >= len(found):
                return Page(bodies, None)
            if self._movement.tokens == "position":
                return Page(bodies, [0, begin + size])
            return Page(bodies, list(taken[-1].place))

    def _begin(self, now: dt.datetime) -> None:
        day = now.date()
        for account in self._organization.reporting_accounts(day):
            for finding in self._organization.findings(account, day):
                self._add(finding, _milliseconds(parse_time(finding["UpdatedAt"]) or now))
        self.original = frozenset(_key(each.finding) for each in self._findings)

    def _add(self, finding: dict[str, Any], updated: int) -> None:
        self._created += 1
        self._findings.append(_Moving(self._created, updated, finding))

    def _change(self, compiled: CompiledFilter, now: dt.datetime) -> None:
        ours = [each for each in self._findings if compiled.account(each.finding["AwsAccountId"])]
        for _ in range(self._movement.changes if ours else 0):
            # No two changes have the same time, so that the newest can be told.
            self._changed_at = max(self._changed_at + 1, _milliseconds(now))
            moving = self._random.choice(ours)
            self._change_one(moving, self._random.choice(self._movement.kinds))

    def _change_one(self, moving: _Moving, kind: str) -> None:
        if kind == "deleted":
            self._findings = [each for each in self._findings if each is not moving]
            return
        at = _EPOCH + dt.timedelta(milliseconds=self._changed_at)
        text = f"{at:%Y-%m-%dT%H:%M:%S}.{self._changed_at % 1000:03d}Z"
        changed = {**moving.finding, "UpdatedAt": text}
        if kind == "created":
            changed["Id"] = f"{changed['Id']}/{self._changed_at}"
            changed["CreatedAt"] = text
            self._add(changed, self._changed_at)
            return
        if kind == "archived":
            changed["RecordState"] = "ARCHIVED"
        elif "Compliance" in changed:
            passed = changed["Compliance"].get("Status") == "PASSED"
            status = "FAILED" if passed else "PASSED"
            changed["Compliance"] = {**changed["Compliance"], "Status": status}
        moving.finding, moving.updated = changed, self._changed_at


def _key(finding: dict[str, Any]) -> FindingKey:
    return finding["ProductArn"], finding["Id"]


def _milliseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)
