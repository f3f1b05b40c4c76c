"""The story the organization plays: what happens on which day of a cycle of twelve.

The cycle runs by the absolute day number, so any 13 transitions in a row hold every event. Only
the days are here; what an event does to accounts and resources is in `accounts.py`, `checks.py`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

CYCLE_DAYS = 12


@dataclasses.dataclass(frozen=True)
class Window:
    """The days of a repeating period on which something holds: `start` <= position < `end`.

    The position of a day is (day number + `phase`) modulo `period`.
    """

    start: int
    end: int
    period: int = CYCLE_DAYS
    phase: int = 0

    def position(self, day: int) -> int:
        """Return where in the period the day is."""
        return (day + self.phase) % self.period

    def holds(self, day: int) -> bool:
        """Return whether the day is inside."""
        return self.start <= self.position(day) < self.end

    def since(self, day: int) -> int:
        """Return the first day of the stretch (inside or outside) that the day belongs to."""
        position = self.position(day)
        if position < self.start:
            return day - position - (self.period - self.end)
        if position < self.end:
            return day - (position - self.start)
        return day - (position - self.end)


VISITOR_MEMBER = Window(1, 10)
"""An account joins, and leaves."""
CONTROLS_ADDED_LIVE = Window(2, 12)
"""Controls that AWS adds on day 2 and takes back at the end of the cycle."""
CONTROLS_REMOVED_LIVE = Window(0, 8)
"""Controls that AWS takes out of the standard on day 8."""
ACCOUNT_SILENT = Window(3, 5)
"""An account sends nothing for two days."""
ACCOUNT_MOVED = Window(4, 9)
"""An account bears the name of another workload."""
BURST = Window(5, 7)
"""One control fails on every resource of a workload, and two more on a resource each."""
SUPPRESSED = Window(6, 10)
"""A failing finding is suppressed, and unsuppressed later."""
FAILING_RESOURCE_LIVE = Window(0, 7)
"""A resource that fails from its first day, until it is deleted."""
REGRESSION = Window(8, 11)
"""A resource that passed fails, and is fixed."""
AGES_OUT_ON = 9
"""The position on which a Config failure of 90 days before disappears, still broken."""
UNKNOWN = Window(10, 12)
"""A control cannot be evaluated."""

ADDED_CONTROLS = ("Lambda.5", "S3.13", "SecretsManager.4")
REMOVED_CONTROLS = ("EC2.17", "SQS.3")
BURST_WORKLOAD = "payments"
BURST_CONTROL = "EC2.2"
BURST_SIDE_CONTROLS = ("S3.5", "KMS.4")
SUPPRESSED_CONTROL = "S3.9"
REGRESSION_CONTROL = "SecretsManager.1"
FAILING_RESOURCE_CONTROL = "Lambda.1"
UNKNOWN_CONTROL = "KMS.5"

SECOND_PACK_RULE = "lz-baseline/lz-rule-1"
"""The rule of the second pack whose namesake in the first pack has other resources."""
SECOND_PACK_RULE_FAILS = Window(2, 8)

DELETED_RESOURCE_FAILS = Window(2, 5)
"""A resource that fails a Config rule, until it is deleted: one in every cycle."""
BROKEN_RULE = Window(7, 10)
"""The Config rule behind a control cannot be evaluated."""
BROKEN_RULE_CONTROL = "S3.8"
CONTROL_DISABLED = Window(1, 10)
"""A control is off in one account; the day it starts on still sees the findings updated."""
DISABLED_CONTROL = "S3.2"


def control_is_live(control_id: str, day: int) -> bool:
    """Return whether AWS offers the control on the day."""
    if control_id in ADDED_CONTROLS:
        return CONTROLS_ADDED_LIVE.holds(day)
    if control_id in REMOVED_CONTROLS:
        return CONTROLS_REMOVED_LIVE.holds(day)
    return True


def control_since(control_id: str, day: int) -> int | None:
    """Return the day number since which a control is as it is; None for one that never changes."""
    if control_id in ADDED_CONTROLS:
        return CONTROLS_ADDED_LIVE.since(day)
    if control_id in REMOVED_CONTROLS:
        return CONTROLS_REMOVED_LIVE.since(day)
    return None


def cycle(day: int) -> int:
    """Return the number of the cycle that a day belongs to."""
    return day // CYCLE_DAYS


def day_number(day: dt.date) -> int:
    """Return the absolute number of a date."""
    return day.toordinal()


def date_of(day: int) -> dt.date:
    """Return the date of an absolute day number."""
    return dt.date.fromordinal(day)
