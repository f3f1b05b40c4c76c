"""What each check of an account finds on a day: the one state function of the organization.

Rendered findings, Config's compliance replies and the true cause of every change all come from
`observations`; nothing keeps a second account of what happened. How a finding looks is in
`rendering.py`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import TYPE_CHECKING, Literal, NamedTuple

from posture_pipeline.simulation import stable_hash, story
from posture_pipeline.simulation.accounts import AUDIT_INDEX, HUB_ENABLED, Account, Roles
from posture_pipeline.simulation.catalogue import (
    ACCOUNT_TYPE,
    CONFORMANCE_PACK,
    CUSTOM_RULES,
    DISABLED_IN_AUDIT,
    FIRST_RESOURCES,
    PACK_RULES,
    PACKS,
    RESOURCE_TYPES,
    SECOND_PACK,
    ConfigRule,
    Control,
    evaluated_controls,
)
from posture_pipeline.simulation.story import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posture_pipeline.simulation.settings import SimulationSettings

ALWAYS_PASSED_SINCE = dt.date(2026, 5, 27)
"""Since then Config.1 passes wherever the unified Security Hub is enabled too (AWS: user guide)."""
Status = Literal["PASSED", "FAILED", "WARNING", "NOT_AVAILABLE"]

CONFIG_RETENTION_DAYS = 90
"""A Config finding that is not updated for so long is deleted (AWS: Security Hub user guide)."""
RULE_ERROR = "CONFIG_RULE_EVALUATION_ERROR"
"""Reason code of a control whose Config rule is broken (AWS: Security Hub user guide)."""
STALE_DAYS = (3, 5)
"""Findings of a disabled control are archived after so many days (AWS: user guide)."""
FORGOTTEN_DAYS = 24
"""So long a resource whose failure aged out stays broken, until it is deleted."""
ARCHIVED_RETENTION_DAYS = 30
"""Archived findings are deleted after so many days (AWS: Security Hub user guide, June 2025)."""

_WEAK_SHARE = {
    "production": 0.055,
    "acceptance": 0.08,
    "test": 0.11,
    "build": 0.12,
    "development": 0.14,
    "unknown": 0.2,
}
"""Share of controls that keep failing in an account of an environment."""
_REPORTING_RULES = 2.5
"""Config rules that have findings at all, for each control that keeps failing: most rules always
complied, and AWS Config says nothing of these."""
_EPISODE_SHARE = 0.12
"""Share of the other controls that fail for some days now and then."""
_UNKNOWN_SHARE = 0.006
_NO_DATA_SHARE = 0.02
_ADDED_CONTROL_WEAK_SHARE = 0.6
"""New controls find more that is wrong than old ones."""
_SUPPRESSED_SHARE = 0.07
_CHURNING_SHARE = 0.2
"""Share of resources that are replaced by new ones now and then."""
_LINKED_REGION_SHARE = 0.25
_EVER = 0
"""Day number of what was always so; the finding's first day takes its place."""


class Resource(NamedTuple):
    """A place for a resource; who occupies it can change over the days."""

    slot: str
    type_name: str
    region: str
    name: str
    life: Window | None

    def occupant(self, day: int) -> int | None:
        """Return the number of the resource that is there on a day; None if there is none."""
        if self.life is None:
            return 0
        if not self.life.holds(day):
            return None
        return (day + self.life.phase) // self.life.period

    def resource_id(self, account_id: str, occupant: int) -> str:
        """Return the ARN of an occupant."""
        if self.type_name == ACCOUNT_TYPE:
            return f"AWS::::Account:{account_id}"
        name = self.name if not occupant else f"{self.name}-{occupant % 100_000}"
        template = RESOURCE_TYPES[self.type_name].arn
        return template.format(name=name, region=self.region, account=account_id)


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The part of an account that its checks depend on: nothing that changes over the days."""

    account_id: str
    index: int
    workload: str
    environment: str


class Check(NamedTuple):
    """A control or rule on a resource: when it is bad, how, and when that is suppressed."""

    subject: str
    resource: Resource
    bad: Window | None
    always_bad: bool
    bad_status: Status
    suppressed: Window | None
    ages_out: bool


class Observation(NamedTuple):
    """What a check finds on one day. Days are absolute day numbers.

    Attributes:
        subject: a control id, or the key of a Config rule.
        region: the finding's region.
        type_name: Config's type of the resource.
        resource_id: ARN of the resource, or `AWS::::Account:<id>`.
        status: of the check.
        previous: status before the present stretch; None if there was none.
        since: first day of the present stretch of this status.
        created: day of the finding's first record.
        suppressed_since: day on which somebody suppressed it; None if nobody did.
        archived_on: day on which it was archived; None if it is active.
        archival: why it was archived; empty if it is active, or nothing says why.
        updated: day of the last check, where that is not the day asked for.
        reason: reason code of the status, where it is not the usual one.
    """

    subject: str
    region: str
    type_name: str
    resource_id: str
    status: Status
    previous: Status | None
    since: int
    created: int
    suppressed_since: int | None
    archived_on: int | None = None
    archival: str = ""
    updated: int | None = None
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same finding on two days, within an account."""
        return (self.subject, self.region, self.resource_id)

    @property
    def effective(self) -> str:
        """The status as scoring sees it: SUPPRESSED when somebody suppressed it."""
        return "SUPPRESSED" if self.suppressed_since is not None else self.status


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything about an account's checks that does not depend on the day."""

    controls: tuple[tuple[Control, tuple[Check, ...], tuple[str, ...]], ...]
    """A control, its checks of resources, and the regions that need an answer without any."""
    rules: tuple[Check, ...]


def _resources(settings: SimulationSettings, account_id: str, stem: str) -> list[Resource]:
    pool = [name for name, t in RESOURCE_TYPES.items() for _ in range(t.weight)]
    home = settings.home_region
    found = []
    for index in range(settings.resources_per_account):
        h = stable_hash.number(settings.seed, account_id, "resource", index)
        first = index < len(FIRST_RESOURCES)
        type_name = FIRST_RESOURCES[index] if first else pool[h % len(pool)]
        kind = RESOURCE_TYPES[type_name]
        h //= len(pool)
        region = home
        linked = settings.regions[1:]
        movable = bool(linked) and not first and not kind.in_home_region
        if movable and (h % 1000) / 1000 < _LINKED_REGION_SHARE:
            region = linked[(h // 1000) % len(linked)]
        h //= 10_000
        life = None
        if not first and (h % 1000) / 1000 < _CHURNING_SHARE:
            period = 40 + (h // 1000) % 400
            life = Window(0, period - (h // 7) % 5, period, h % period)
        found.append(
            Resource(str(index), type_name, region, f"{kind.stem}-{stem}-{h % 16**6:06x}", life)
        )
    return found


def _control_checks(
    settings: SimulationSettings,
    account: _Subject,
    control: Control,
    resources: list[Resource],
    level: float,
) -> Iterator[Check]:
    """Yield the checks of one control on its resources, as they go without the story."""
    who = (settings.seed, account.account_id, control.control_id)
    draw = stable_hash.share(*who, "weak")
    weak_share = _WEAK_SHARE[account.environment] * level
    if control.control_id in story.ADDED_CONTROLS:
        weak_share = _ADDED_CONTROL_WEAK_SHARE
    h = stable_hash.number(*who, "window")
    chosen = h % len(resources) if resources else 0
    h //= 1_000_003
    if draw < weak_share:
        period = 150 + h % 350
        for position, resource in enumerate(resources):
            r = stable_hash.number(*who, resource.slot)
            if position != chosen and r % 100 >= 25:
                yield Check(control.control_id, resource, None, False, "FAILED", None, False)
                continue
            always = r % 7 == 0
            delay = (r // 128) % 12
            bad = None if always else Window(delay, period * 3 // 4 + delay, period, h % period)
            suppressed = None
            if (r // 2048 % 1000) / 1000 < _SUPPRESSED_SHARE:
                span = 25 + r // 4096 % 60
                suppressed = Window(4, span, span + 8, r % span)
            yield Check(control.control_id, resource, bad, always, "FAILED", suppressed, False)
    elif draw < weak_share + _UNKNOWN_SHARE:
        status: Status = "WARNING" if h % 3 else "NOT_AVAILABLE"
        for resource in resources:
            yield Check(control.control_id, resource, None, True, status, None, False)
    else:
        episodes = draw > 1 - _EPISODE_SHARE
        period = 40 + h % 140
        window = Window(0, 1 + h // 140 % 7, period, h // 977 % period)
        for position, resource in enumerate(resources):
            bad = window if episodes and position == chosen else None
            yield Check(control.control_id, resource, bad, False, "FAILED", None, False)


def _told(check: Check, window: Window | None, *, status: Status = "FAILED") -> Check:
    return check._replace(
        bad=window, always_bad=False, bad_status=status, suppressed=None, ages_out=False
    )


def _with_story(
    settings: SimulationSettings, account: _Subject, control: Control, checks: list[Check]
) -> list[Check]:
    """Put the story's events in place of what a control would find by itself."""
    roles = Roles.of(settings)
    name = control.control_id
    first = dict(zip(FIRST_RESOURCES, map(str, range(len(FIRST_RESOURCES))), strict=True))
    slot = first.get(control.resource_type)
    if account.index == roles.production:
        if name in story.BURST_SIDE_CONTROLS:
            return [_told(c, story.BURST if c.resource.slot == slot else None) for c in checks]
        if name == story.REGRESSION_CONTROL:
            return [_told(c, story.REGRESSION if c.resource.slot == slot else None) for c in checks]
        if name == story.SUPPRESSED_CONTROL:
            return [
                _told(c, None)._replace(always_bad=True, suppressed=story.SUPPRESSED)
                if c.resource.slot == slot
                else _told(c, None)
                for c in checks
            ]
    if (
        (settings.broken_rule and account.index == roles.production)
        and name == story.BROKEN_RULE_CONTROL
    ) or (
        (settings.disabled_control and account.index == roles.second)
        and name == story.DISABLED_CONTROL
    ):
        return [_told(c, None)._replace(always_bad=c.resource.slot == slot) for c in checks]
    if account.index == roles.second:
        if name == story.UNKNOWN_CONTROL:
            return [_told(c, story.UNKNOWN, status="WARNING") for c in checks]
        if name == story.FAILING_RESOURCE_CONTROL:
            return [_told(c, None)._replace(always_bad=c.resource.slot == "story") for c in checks]
    if account.workload == story.BURST_WORKLOAD and name == story.BURST_CONTROL:
        return [_told(c, story.BURST) for c in checks]
    if any(c.resource.slot == "story" for c in checks):
        return [_told(c, None) if c.resource.slot == "story" else c for c in checks]
    return checks


def _rule_checks(
    settings: SimulationSettings, account: _Subject, rule: ConfigRule, stem: str
) -> Iterator[Check]:
    """Yield what AWS Config reports for a rule; most compliant rules never report anything."""
    roles = Roles.of(settings)
    tells_aging = account.index in range(1, 1 + roles.aging)
    if tells_aging and rule.pack == CONFORMANCE_PACK:
        return
    who = (settings.seed, account.account_id, rule.key)
    reporting = _REPORTING_RULES * _WEAK_SHARE[account.environment]
    # Where every rule of the second pack reports, its copy can be told from the first pack's.
    told = rule.pack == SECOND_PACK and account.index == roles.production
    if stable_hash.share(*who, "reports") > reporting and not told:
        return
    for number in range(1 + stable_hash.number(*who, "count") % 3):
        h = stable_hash.number(*who, number)
        failing = 5 + h % 125
        # A repaired resource fails again before its PASSED finding is too old to be kept.
        period = failing + 10 + h // 125 % 70
        region = settings.home_region
        movable = len(settings.regions) > 1 and rule.resource_type != ACCOUNT_TYPE and not told
        if movable and h % 5 == 0:
            region = settings.regions[1 + h // 5 % (len(settings.regions) - 1)]
        if rule.resource_type == ACCOUNT_TYPE:
            resource = Resource("account", ACCOUNT_TYPE, region, "", None)
        else:
            kind = RESOURCE_TYPES[rule.resource_type]
            if kind.in_home_region:
                region = settings.home_region
            name = f"{kind.stem}-{stem}-{h % 16**6:06x}"
            resource = Resource(f"rule-{number}", rule.resource_type, region, name, None)
        bad = Window(0, failing, period, h // 9973 % period)
        if rule.key == story.SECOND_PACK_RULE and told:
            bad = story.SECOND_PACK_RULE_FAILS
        yield Check(rule.key, resource, bad, False, "FAILED", None, True)
        if rule.resource_type == ACCOUNT_TYPE or told:
            return


def deployed_packs(settings: SimulationSettings) -> list[str]:
    """Return the names of the organization's conformance packs."""
    return [pack for pack in PACKS if pack == CONFORMANCE_PACK or settings.second_pack]


@functools.lru_cache(maxsize=96)
def plan_of(
    settings: SimulationSettings, account_id: str, index: int, origin: tuple[str, str]
) -> Plan:
    """Return the checks of an account; `origin` is its own workload and environment."""
    account = _Subject(account_id, index, *origin)
    stem = f"{account.workload}-{account_id[-4:]}".lower().replace(" ", "-")
    stem = "".join(ch for ch in stem if ch.isalnum() or ch == "-")
    home = settings.home_region
    resources = _resources(settings, account_id, stem)
    roles = Roles.of(settings)
    if index == roles.second:
        live = story.FAILING_RESOURCE_LIVE
        resources.append(
            Resource("story", "AWS::Lambda::Function", home, f"handler-{stem}-legacy", live)
        )
    by_type: dict[str, list[Resource]] = {}
    for resource in resources:
        by_type.setdefault(resource.type_name, []).append(resource)
    level = 0.5 + stable_hash.share(settings.seed, account_id, "level")
    planned = []
    for control in evaluated_controls():
        name = control.control_id
        if index == AUDIT_INDEX and name in DISABLED_IN_AUDIT:
            continue
        told = name in _STORY_CONTROLS
        if not told and stable_hash.share(settings.seed, account_id, name, "n") < _NO_DATA_SHARE:
            continue
        if control.per_account:
            regions = settings.regions if control.regional else (home,)
            subjects = [Resource(f"account-{r}", ACCOUNT_TYPE, r, "", None) for r in regions]
            regions_without: tuple[str, ...] = ()
        else:
            subjects = by_type.get(control.resource_type, [])
            regions_without = (home,)
        checks = list(_control_checks(settings, account, control, subjects, level))
        checks = _with_story(settings, account, control, checks)
        planned.append((control, tuple(checks), regions_without))
    deployed = [*(rule for pack in deployed_packs(settings) for rule in PACKS[pack]), *CUSTOM_RULES]
    rules = [c for rule in deployed for c in _rule_checks(settings, account, rule, stem)]
    return Plan(tuple(planned), tuple(rules))


_STORY_CONTROLS = frozenset(
    {
        *story.ADDED_CONTROLS,
        *story.REMOVED_CONTROLS,
        *story.BURST_SIDE_CONTROLS,
        story.BURST_CONTROL,
        story.SUPPRESSED_CONTROL,
        story.REGRESSION_CONTROL,
        story.FAILING_RESOURCE_CONTROL,
        story.UNKNOWN_CONTROL,
    }
)


def _aging_checks(
    settings: SimulationSettings, account: Account, day: int, forgotten_days: int = 0
) -> Iterator[Check]:
    """Yield the Config failures that will age out, still broken: one begins in every cycle.

    With `forgotten_days` also those whose finding aged out so many days ago at most.
    """
    roles = Roles.of(settings)
    if not 1 <= account.index <= roles.aging:
        return
    now = story.cycle(day)
    first = now - -(-forgotten_days // story.CYCLE_DAYS)
    for cycle in range(first, now + CONFIG_RETENTION_DAYS // story.CYCLE_DAYS + 2):
        ends = cycle * story.CYCLE_DAYS + story.AGES_OUT_ON
        broke = ends - CONFIG_RETENTION_DAYS
        if 1 + cycle % roles.aging != account.index or not broke <= day < ends + forgotten_days:
            continue
        rule = PACK_RULES[cycle % len(PACK_RULES)]
        kind_name = rule.resource_type if rule.resource_type != ACCOUNT_TYPE else "AWS::S3::Bucket"
        stem = f"{RESOURCE_TYPES[kind_name].stem}-forgotten-{account.account_id[-4:]}-{cycle}"
        resource = Resource("aging", kind_name, settings.home_region, stem, None)
        # A period longer than any lifetime: it breaks once, on its first day.
        bad = Window(0, 1_000_000, 10_000_000, -broke % 10_000_000)
        yield Check(rule.name, resource, bad, False, "FAILED", None, True)


def _deleted_checks(settings: SimulationSettings, account: Account, day: int) -> Iterator[Check]:
    """Yield the rules whose resource failed and was deleted: in every third account and cycle."""
    if not settings.deleted_resources or account.index % 3 != 1:
        return
    fails = story.DELETED_RESOURCE_FAILS
    now = story.cycle(day)
    for cycle in range(now - CONFIG_RETENTION_DAYS // story.CYCLE_DAYS - 1, now + 1):
        begins = cycle * story.CYCLE_DAYS + fails.start
        if begins > day:
            continue
        rule = CUSTOM_RULES[(cycle + account.index) % len(CUSTOM_RULES)]
        stem = f"{RESOURCE_TYPES[rule.resource_type].stem}-gone-{account.account_id[-4:]}-{cycle}"
        resource = Resource("deleted", rule.resource_type, settings.home_region, stem, None)
        bad = Window(0, fails.end - fails.start, 10_000_000, -begins % 10_000_000)
        yield Check(rule.key, resource, bad, False, "FAILED", None, True)


def disabled_since(
    settings: SimulationSettings, account: Account, control_id: str, day: int
) -> int | None:
    """Return the day on which a control was switched off in an account; None if it is on."""
    if (
        settings.disabled_control
        and control_id == story.DISABLED_CONTROL
        and account.index == Roles.of(settings).second
        and story.CONTROL_DISABLED.holds(day)
    ):
        return story.CONTROL_DISABLED.since(day)
    return None


def archived_when_disabled(account: Account, since: int) -> int:
    """Return the day on which the findings of a control switched off are archived."""
    shortest, longest = STALE_DAYS
    draw = stable_hash.number(account.account_id, since)
    return since + shortest + draw % (longest - shortest + 1)


def broken_since(
    settings: SimulationSettings, account: Account, control_id: str, day: int
) -> int | None:
    """Return the day since which a control cannot be evaluated in an account; None if it can."""
    if (
        settings.broken_rule
        and control_id == story.BROKEN_RULE_CONTROL
        and account.index == Roles.of(settings).production
        and story.BROKEN_RULE.holds(day)
    ):
        return story.BROKEN_RULE.since(day)
    return None


def _state(check: Check, day: int) -> tuple[Status, Status | None, int]:
    """Return the status, the one before it, and the day since which it is so."""
    if check.always_bad:
        return check.bad_status, None, _EVER
    if check.bad is None:
        return "PASSED", None, _EVER
    since = check.bad.since(day)
    if check.bad.holds(day):
        return check.bad_status, "PASSED", since
    return "PASSED", check.bad_status, since


def _birth(resource: Resource, day: int, joined: int) -> int:
    return joined if resource.life is None else max(joined, resource.life.since(day))


def _control_observations(
    account: Account,
    name: str,
    checks: tuple[Check, ...],
    regions_without: tuple[str, ...],
    day: int,
) -> Iterator[Observation]:
    """Yield what the checks of a control that is on find in an account on a day."""
    account_id = account.account_id
    joined = max(account.joined, HUB_ENABLED).toordinal()
    control_since = story.control_since(name, day)
    floor = joined if control_since is None else max(joined, control_since)
    missing = set(regions_without)
    for check in checks:
        resource = check.resource
        occupant = resource.occupant(day)
        if occupant is None:
            continue
        missing.discard(resource.region)
        status, previous, since = _state(check, day)
        created = max(floor, _birth(resource, day, joined))
        if since <= created:
            since, previous = created, None
        suppressed = None
        if check.suppressed is not None and status == "FAILED" and check.suppressed.holds(day):
            suppressed = max(since, check.suppressed.since(day))
        yield Observation(
            name,
            resource.region,
            resource.type_name,
            resource.resource_id(account_id, occupant),
            status,
            previous,
            since,
            created,
            suppressed,
        )
    for region in sorted(missing):
        yield _of_account(account, name, region, "PASSED", floor)


def _of_account(
    account: Account, name: str, region: str, status: Status, since: int
) -> Observation:
    """Return what a control says of the account itself."""
    resource_id = f"AWS::::Account:{account.account_id}"
    return Observation(name, region, ACCOUNT_TYPE, resource_id, status, None, since, since, None)


def observations(settings: SimulationSettings, account: Account, day: int) -> Iterator[Observation]:
    """Yield what an account's checks find on a day; one that is not a member has no findings.

    Args:
        settings: of the organization.
        account: as it is on the day.
        day: absolute day number.
    """
    plan = plan_of(settings, account.account_id, account.index, account.origin)
    joined = max(account.joined, HUB_ENABLED).toordinal()
    account_id = account.account_id
    for control, checks, regions_without in plan.controls:
        name = control.control_id
        if not story.control_is_live(name, day):
            continue
        if broken_since(settings, account, name, day) is not None:
            continue
        off = disabled_since(settings, account, name, day)
        if off is not None and day >= archived_when_disabled(account, off):
            continue
        evaluated = day if off is None else off
        for seen in _control_observations(account, name, checks, regions_without, evaluated):
            found = _with_unified_hub(settings, seen, day)
            yield found if off is None else found._replace(updated=off)
    told = (*_aging_checks(settings, account, day), *_deleted_checks(settings, account, day))
    for check in (*plan.rules, *told):
        status, previous, since = _state(check, day)
        if check.resource.slot == "deleted" and status == "PASSED":
            status = "NOT_AVAILABLE"
        since = max(since, joined)
        if day - since >= CONFIG_RETENTION_DAYS:
            continue
        # Config sends something only when compliance changes: PASSED means it failed before.
        if status == "PASSED" and previous is None:
            continue
        if check.resource.slot == "deleted":
            fails = story.DELETED_RESOURCE_FAILS
            created = since if status == "FAILED" else since - (fails.end - fails.start)
        elif check.resource.slot == "aging":
            previous, created = None, since
        else:
            created = max(joined, since - 30)
        yield Observation(
            check.subject,
            check.resource.region,
            check.resource.type_name,
            check.resource.resource_id(account_id, 0),
            status,
            previous,
            since,
            created,
            None,
        )


def _with_unified_hub(settings: SimulationSettings, seen: Observation, day: int) -> Observation:
    """Return an observation as it is once the unified hub is enabled: Config.1 always passes."""
    since = settings.unified_hub_since
    if seen.subject != "Config.1" or seen.status == "PASSED" or since is None:
        return seen
    enabled = max(since, ALWAYS_PASSED_SINCE).toordinal()
    if day < enabled:
        return seen
    return seen._replace(
        status="PASSED",
        previous=seen.status,
        since=max(enabled, seen.created),
        suppressed_since=None,
    )


def rule_states(settings: SimulationSettings, account: Account, day: int) -> Iterator[Observation]:
    """Yield what AWS Config itself says of the resources that its rules ever reported.

    Other than `observations` it does not depend on findings: what Security Hub deleted after 90
    days is still there, until the resource is deleted too.
    """
    plan = plan_of(settings, account.account_id, account.index, account.origin)
    joined = max(account.joined, HUB_ENABLED).toordinal()
    told = (
        *_aging_checks(settings, account, day, FORGOTTEN_DAYS),
        *_deleted_checks(settings, account, day),
    )
    for check in (*plan.rules, *told):
        status, previous, since = _state(check, day)
        if check.resource.slot == "deleted" and status == "PASSED":
            continue
        yield Observation(
            check.subject,
            check.resource.region,
            check.resource.type_name,
            check.resource.resource_id(account.account_id, 0),
            status,
            previous,
            max(since, joined),
            max(since, joined),
            None,
        )


def archived_observations(
    settings: SimulationSettings, account: Account, day: int
) -> Iterator[Observation]:
    """Yield what was archived in the last weeks: the evidence of why a finding is gone."""
    plan = plan_of(settings, account.account_id, account.index, account.origin)
    joined = max(account.joined, HUB_ENABLED).toordinal()
    account_id = account.account_id
    for control, checks, regions_without in plan.controls:
        name = control.control_id
        broken = broken_since(settings, account, name, day)
        if broken is not None:
            for seen in _control_observations(account, name, checks, regions_without, broken - 1):
                yield seen._replace(archived_on=broken)
            lost = _of_account(account, name, settings.home_region, "NOT_AVAILABLE", broken)
            yield lost._replace(archived_on=broken, reason=RULE_ERROR)
            continue
        off = disabled_since(settings, account, name, day)
        if off is not None:
            gone = archived_when_disabled(account, off)
            if day >= gone:
                for seen in _control_observations(account, name, checks, regions_without, off):
                    yield seen._replace(archived_on=gone, archival="CONTROL_DISABLED", updated=off)
            continue
        live = story.control_is_live(name, day)
        control_since = story.control_since(name, day)
        removed_on = None if live else control_since
        if removed_on is not None and removed_on <= joined:
            continue
        for check in checks:
            resource = check.resource
            if removed_on is not None:
                last, archived_on, why = removed_on - 1, removed_on, "CONTROL_REMOVED"
            elif resource.life is None:
                continue
            else:
                # The last occupant before the present one, or before the present gap.
                holds = resource.life.holds(day)
                start = resource.life.since(day)
                archived_on = start - (resource.life.period - resource.life.end) if holds else start
                last, why = archived_on - 1, "RESOURCE_DELETED"
                if control_since is not None and last < control_since:
                    continue
            if last <= joined or day - archived_on >= ARCHIVED_RETENTION_DAYS:
                continue
            occupant = resource.occupant(last)
            if occupant is None:
                continue
            status, previous, since = _state(check, last)
            created = _birth(resource, last, joined)
            yield Observation(
                name,
                resource.region,
                resource.type_name,
                resource.resource_id(account_id, occupant),
                status if why == "CONTROL_REMOVED" else "NOT_AVAILABLE",
                status if why != "CONTROL_REMOVED" else previous,
                max(since, created),
                created,
                None,
                archived_on,
                why,
            )
