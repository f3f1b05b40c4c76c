"""The simulated organization: its accounts, its findings and what truly changed, on any day.

A pure function of (settings, day). No HTTP, no clock, no state beside caches.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from posture_pipeline.simulation import accounts as membership
from posture_pipeline.simulation import checks, story
from posture_pipeline.simulation.catalogue import CONFIG_RULES, Control, controls
from posture_pipeline.simulation.rendering import AccountRenderer, Finding

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from posture_pipeline.simulation.accounts import Account
    from posture_pipeline.simulation.checks import Observation
    from posture_pipeline.simulation.settings import SimulationSettings

Cause = Literal[
    "new_failing_resource",
    "new_passing_resource",
    "regression",
    "fixed",
    "resource_gone",
    "suppressed",
    "unsuppressed",
    "control_added",
    "control_removed",
    "account_joined",
    "account_left",
    "account_moved",
    "account_silent",
    "account_back",
    "unknown",
    "known_again",
    "aged_out",
    "evidence_lost",
    "control_disabled",
]
STORY_CAUSES: tuple[Cause, ...] = (
    "new_failing_resource",
    "regression",
    "fixed",
    "resource_gone",
    "suppressed",
    "unsuppressed",
    "control_added",
    "control_removed",
    "account_joined",
    "account_left",
    "account_moved",
    "account_silent",
    "account_back",
    "unknown",
    "aged_out",
)
"""The causes of which any fourteen days in a row hold each at least once."""

ABSENT = "ABSENT"
CONSOLIDATION_TWINS_DAYS = 3
"""For so many days after consolidation the archived per-standard findings can still be seen."""


@dataclasses.dataclass(frozen=True)
class Change:
    """Why a finding is not on the later day what it was on the earlier one.

    Attributes:
        cause: the true one.
        account_id: of the account.
        region: of the finding; empty for a change of the account itself.
        control_id: the control, or the Config rule by its key; empty as above.
        resource_id: of the resource; empty as above.
        finding_id: of the finding (with per-standard findings the first of them); empty as above.
        before: PASSED, FAILED, WARNING, NOT_AVAILABLE, SUPPRESSED or ABSENT.
        after: likewise.
    """

    cause: Cause
    account_id: str
    region: str
    control_id: str
    resource_id: str
    finding_id: str
    before: str
    after: str


class SimulatedOrganization:
    """A deterministic organization: the same settings and day always give the same answers."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings

    @property
    def audit_account_id(self) -> str:
        """The account that administers Security Hub for the organization."""
        return membership.audit_account_id(self.settings)

    @property
    def management_account_id(self) -> str:
        """The organization's management account."""
        return membership.management_account_id(self.settings)

    def accounts(self, day: dt.date) -> tuple[Account, ...]:
        """Return the members of the organization on a day, in an order that never changes."""
        return membership.accounts_on(self.settings, story.day_number(day))

    def reporting_accounts(self, day: dt.date) -> tuple[Account, ...]:
        """Return the accounts that may send findings: the members, and one Organizations omits."""
        members = self.accounts(day)
        if not self.settings.unlisted_account:
            return members
        return (*members, membership.unlisted_account(self.settings))

    def live_controls(self, day: dt.date) -> tuple[Control, ...]:
        """Return the controls that AWS offers on a day, disabled ones included."""
        number = story.day_number(day)
        return tuple(c for c in controls().values() if story.control_is_live(c.control_id, number))

    def finding_generators(self, day: dt.date) -> frozenset[str]:
        """Return which kinds of control findings exist on a day; both when they are switched."""
        since = self.settings.consolidated_from
        if since is None:
            return frozenset({self.settings.control_finding_generator})
        if day < since:
            return frozenset({"STANDARD_CONTROL"})
        if day == since:
            return frozenset({"STANDARD_CONTROL", "SECURITY_CONTROL"})
        return frozenset({"SECURITY_CONTROL"})

    def observations(self, account: Account, day: dt.date) -> Iterator[Observation]:
        """Yield what the account's checks find on a day; nothing from a silent account."""
        number = story.day_number(day)
        if membership.is_silent(self.settings, account, number):
            return
        yield from checks.observations(self.settings, account, _evaluated_on(account, number))

    def control_statuses(self, account: Account, day: dt.date) -> dict[str, str]:
        """Return what the account's controls and Config rules truly are on a day, by AWS's rules.

        From the checks themselves, and not from findings: PASSED, FAILED or UNKNOWN for each that
        has evidence; one without any is left out. A check that no longer runs, a suppressed one and
        a deleted resource are no evidence.
        """
        number = _evaluated_on(account, story.day_number(day))
        seen_of: dict[str, set[str]] = {}
        for seen in self.observations(account, day):
            stale = seen.updated is not None and seen.updated < number
            deleted = seen.subject in _RULE_NAMES and seen.status == "NOT_AVAILABLE"
            if not stale and not deleted and seen.suppressed_since is None:
                seen_of.setdefault(seen.subject, set()).add(seen.status)
        return {
            subject: "FAILED"
            if "FAILED" in found
            else "PASSED"
            if found == {"PASSED"}
            else "UNKNOWN"
            for subject, found in seen_of.items()
        }

    def rule_states(self, account: Account, day: dt.date) -> Iterator[Observation]:
        """Yield what AWS Config says in an account, whether its findings arrive or not."""
        number = story.day_number(day)
        yield from checks.rule_states(self.settings, account, _evaluated_on(account, number))

    def findings(self, account: Account, day: dt.date) -> Iterator[Finding]:
        """Yield the findings of an account on a day, archived ones included.

        Args:
            account: as `accounts` returned it for the same day.
            day: the UTC date.
        """
        number = story.day_number(day)
        if membership.is_silent(self.settings, account, number):
            return
        evaluated = _evaluated_on(account, number)
        renderer = AccountRenderer(self.settings, account, evaluated)
        generators = self.finding_generators(day)
        consolidated = "SECURITY_CONTROL" in generators
        per_standard = "STANDARD_CONTROL" in generators
        catalogue = controls()
        for seen in checks.observations(self.settings, account, evaluated):
            if seen.subject not in catalogue:
                yield renderer.config_finding(seen)
                continue
            if consolidated:
                yield renderer.control_finding(seen)
            if per_standard:
                yield from renderer.standard_findings(seen)
        yield from renderer.other_findings()
        if self.settings.azure and account.account_id == self.audit_account_id:
            yield from renderer.azure_findings()
        for seen in checks.archived_observations(self.settings, account, evaluated):
            if consolidated:
                yield renderer.control_finding(seen)
            if per_standard:
                yield from renderer.standard_findings(seen)
        yield from self._archived_twins(account, day)

    def _archived_twins(self, account: Account, day: dt.date) -> Iterator[Finding]:
        since = self.settings.consolidated_from
        if since is None or not 0 < (day - since).days <= CONSOLIDATION_TWINS_DAYS:
            return
        number = story.day_number(since)
        renderer = AccountRenderer(self.settings, account, number)
        for seen in checks.observations(self.settings, account, number):
            if seen.subject in controls():
                archival = "CONSOLIDATED_CONTROL_FINDINGS_UPDATE"
                yield from renderer.standard_findings(seen, archival=archival)

    def finding_id(self, account: Account, seen: Observation, day: dt.date) -> str:
        """Return the id of the finding of an observation."""
        renderer = AccountRenderer(self.settings, account, story.day_number(day))
        if seen.subject not in controls():
            return str(renderer.config_finding(seen)["Id"])
        if "SECURITY_CONTROL" in self.finding_generators(day):
            return str(renderer.control_finding(seen)["Id"])
        return str(next(renderer.standard_findings(seen))["Id"])

    def changes_between(self, day1: dt.date, day2: dt.date) -> Iterator[Change]:
        """Yield the true cause of every difference between two days.

        A finding counts with the status that scoring sees (suppressed ones are SUPPRESSED, missing
        ones ABSENT); accounts whose state is not ACTIVE are left out. `account_moved` is a change
        of the account alone and comes once, without a control.

        Args:
            day1: the earlier day.
            day2: the later day.
        """
        before = {a.account_id: a for a in self.reporting_accounts(day1) if a.state == "ACTIVE"}
        after = {a.account_id: a for a in self.reporting_accounts(day2) if a.state == "ACTIVE"}
        for account_id in (*before, *(a for a in after if a not in before)):
            yield from self._account_changes(
                before.get(account_id), after.get(account_id), day1, day2
            )

    def _account_changes(
        self, first: Account | None, second: Account | None, day1: dt.date, day2: dt.date
    ) -> Iterator[Change]:
        account = first or second
        assert account is not None
        if first and second and (first.name, first.workload) != (second.name, second.workload):
            yield Change("account_moved", first.account_id, "", "", "", "", "", "")
        seen1 = {o.key: o for o in self.observations(first, day1)} if first else {}
        seen2 = {o.key: o for o in self.observations(second, day2)} if second else {}
        whole = self._cause_of_account(first, second, day1, day2)
        for key in (*seen1, *(k for k in seen2 if k not in seen1)):
            one, two = seen1.get(key), seen2.get(key)
            state1 = one.effective if one else ABSENT
            state2 = two.effective if two else ABSENT
            if state1 == state2:
                continue
            seen = two or one
            assert seen is not None
            yield Change(
                whole
                or self._cause_of_check(
                    account, one, two, story.day_number(day1), story.day_number(day2)
                ),
                account.account_id,
                seen.region,
                seen.subject,
                seen.resource_id,
                self.finding_id(account, seen, day2 if two else day1),
                state1,
                state2,
            )

    def _cause_of_check(
        self,
        account: Account,
        one: Observation | None,
        two: Observation | None,
        day1: int,
        day2: int,
    ) -> Cause:
        if one is None or two is None:
            seen, day = (one, day2) if one else (two, day1)
            assert seen is not None
            where = (self.settings, account, seen.subject, day)
            lost = checks.broken_since(*where) is not None
            if lost or checks.disabled_since(*where) is not None:
                return "known_again" if two else "evidence_lost" if lost else "control_disabled"
        return _cause(one, two, day1, day2)

    def _cause_of_account(
        self, first: Account | None, second: Account | None, day1: dt.date, day2: dt.date
    ) -> Cause | None:
        if first is None:
            return "account_joined"
        if second is None:
            return "account_left"
        silent1 = membership.is_silent(self.settings, first, story.day_number(day1))
        silent2 = membership.is_silent(self.settings, second, story.day_number(day2))
        if silent1 and not silent2:
            return "account_back"
        return "account_silent" if silent2 else None


def _evaluated_on(account: Account, day: int) -> int:
    """Return the day an account's findings are of: those of a suspended account are frozen."""
    if account.state == "ACTIVE":
        return day
    return min(day, story.day_number(membership.SUSPENDED_ON))


def _cause(one: Observation | None, two: Observation | None, day1: int, day2: int) -> Cause:
    """Return why a check of an account that reports on both days is not what it was."""
    if two is None:
        assert one is not None
        return _cause_of_end(one, day2)
    if one is None:
        return _cause_of_beginning(two, day1)
    before, after = one.effective, two.effective
    if after == "SUPPRESSED":
        return "suppressed"
    if after == "NOT_AVAILABLE" and two.subject in _RULE_NAMES:
        return "resource_gone"
    if after in ("WARNING", "NOT_AVAILABLE"):
        return "unknown"
    if before in ("WARNING", "NOT_AVAILABLE"):
        return "known_again"
    if after == "PASSED":
        return "fixed"
    return "unsuppressed" if before == "SUPPRESSED" else "regression"


def _cause_of_end(one: Observation, day2: int) -> Cause:
    if one.subject not in _RULE_NAMES:
        return "resource_gone" if story.control_is_live(one.subject, day2) else "control_removed"
    old = day2 - one.since >= checks.CONFIG_RETENTION_DAYS
    return "aged_out" if old else "resource_gone"


def _cause_of_beginning(two: Observation, day1: int) -> Cause:
    if two.subject not in _RULE_NAMES and not story.control_is_live(two.subject, day1):
        return "control_added"
    if two.subject in _RULE_NAMES and two.status == "PASSED":
        # The failure had aged out; now the repair is reported.
        return "fixed"
    after = two.effective
    if after == "FAILED":
        return "new_failing_resource"
    if after == "NOT_AVAILABLE" and two.subject in _RULE_NAMES:
        return "resource_gone"
    if after == "PASSED":
        return "new_passing_resource"
    return "suppressed" if after == "SUPPRESSED" else "unknown"


_RULE_NAMES = frozenset(CONFIG_RULES)
