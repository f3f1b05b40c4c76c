"""The accounts of the simulated organization: ids, names, tags, states, organizational units.

A pure function of the settings and the day. Findings do not belong here.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import TYPE_CHECKING

from posture_pipeline.simulation import stable_hash, story

if TYPE_CHECKING:
    from posture_pipeline.simulation.settings import SimulationSettings

ENVIRONMENTS = ("production", "acceptance", "test", "development", "build")
ORGANIZATION_NAME = "acme"
HOSTILE_NAME = "<script>alert(1)</script>"
AUDIT_INDEX = 0
"""The account that administers Security Hub and is asked for findings."""
MOVED_TO_WORKLOAD = "data-platform"
SUSPENDED_ON = dt.date(2026, 1, 12)
"""The day on which the suspended account's findings froze."""

HUB_ENABLED = dt.date(2018, 12, 3)
"""No finding is older than Security Hub in the organization."""
_FOUNDED = dt.date(2014, 3, 1)
"""The organization's accounts joined in the five years after this day."""
_FIRST_DIGITS = "4079231685"
_WORKLOADS = [
    "payments",
    "webshop",
    "data-platform",
    "loyalty",
    "identity",
    "claims",
    "reporting",
    "mobile-app",
    "customer-portal",
    "pricing",
    "search",
    "fraud-detection",
    "warehouse",
    "logistics",
    "invoicing",
    "ledger",
    "notifications",
    "recommendations",
    "inventory",
    "returns",
    "billing",
    "crm",
    "marketing",
    "analytics",
    "partner-api",
    "document-store",
    "scheduling",
    "onboarding",
    "treasury",
    "procurement",
    "catalogue",
    "subscriptions",
    "call-center",
    "fleet",
    "telemetry",
    "store-locator",
    "gift-cards",
    "tax",
    "settlements",
    "hr-portal",
]
_OWNERS = ("team-atlas", "team-birch", "team-comet", "team-delta", "team-ember", "team-fjord")


@dataclasses.dataclass(frozen=True)
class Account:
    """One AWS account on one day.

    Attributes:
        index: its place in the organization; stable over the days.
        account_id: twelve digits, as text.
        name: as Organizations has it that day.
        workload: the true workload, which the name or the tags may or may not give away.
        environment: the true environment.
        tags: of the account in Organizations.
        state: ACTIVE or SUSPENDED.
        joined: the day it joined.
        unit: path of its organizational unit, such as `Workloads/Production`.
        origin: workload and environment that it has of its own, whatever it is called that day.
    """

    index: int
    account_id: str
    name: str
    workload: str
    environment: str
    tags: tuple[tuple[str, str], ...]
    state: str
    joined: dt.date
    unit: str
    origin: tuple[str, str]

    @property
    def email(self) -> str:
        """The address of the account's root user."""
        return f"aws+{self.account_id}@{ORGANIZATION_NAME}.example"


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which account (by index) plays which part in the story."""

    production: int
    second: int
    silent: int
    moved: int
    visitor: int
    aging: int

    @staticmethod
    def of(settings: SimulationSettings) -> Roles:
        """Return the parts for an organization of this size."""
        count = settings.accounts
        return Roles(
            production=1,
            second=2,
            silent=6 if count >= 8 else 3,
            moved=13 if count >= 15 else 2,
            visitor=count - 1,
            aging=min(5, count - 2),
        )


_FIXED: tuple[tuple[str, str, str], ...] = (
    # name, workload, environment
    ("acme-audit", "audit", "production"),
    ("acme-payments-production", "payments", "production"),
    ("acme-webshop-production", "webshop", "production"),
    ("acme-payments-acceptance", "payments", "acceptance"),
    ("acme-log-archive", "log-archive", "production"),
    ("acme-management", "management", "production"),
    ("acme-webshop-test", "webshop", "test"),
    ("acme-data-platform-production", "data-platform", "production"),
    ("acme-payments-production", "payments", "production"),
    ("Sandbox Jane", "Sandbox Jane", "unknown"),
    ("ACME-REPORTING-PRODUCTION", "reporting", "production"),
    ("IdentityHub", "identity", "production"),
    ("acme-intranet-test", "intranet", "test"),
)
_MANAGEMENT_INDEX = 5
_SANDBOX_INDEX = 9
_TAGGED_INDEX = 11
_SUSPENDED_INDEX = 12
_HOSTILE_INDEX = 18
_UNTAGGED = frozenset({_SANDBOX_INDEX, _HOSTILE_INDEX})


def _account_id(settings: SimulationSettings, index: int) -> str:
    middle = stable_hash.number(settings.seed, "account", index) % 1_000_000
    offset = stable_hash.number(settings.seed, "account ids") % 100_000
    # 7,919 shares no factor with 100,000, so the last five digits differ between accounts.
    return f"{_FIRST_DIGITS[index % 10]}{middle:06d}{(index * 7919 + offset) % 100_000:05d}"


def management_account_id(settings: SimulationSettings) -> str:
    """Return the id of the organization's management account."""
    return _account_id(settings, min(_MANAGEMENT_INDEX, settings.accounts - 2))


def audit_account_id(settings: SimulationSettings) -> str:
    """Return the id of the account that administers Security Hub."""
    return _account_id(settings, AUDIT_INDEX)


def _unit(name: str, environment: str, state: str) -> str:
    if state != "ACTIVE":
        return "Suspended"
    if name in ("acme-audit", "acme-log-archive"):
        return "Security"
    if name == "acme-management":
        return ""
    if environment == "unknown":
        return "Sandbox"
    return "Workloads/Production" if environment == "production" else "Workloads/NonProduction"


def _tags(
    settings: SimulationSettings, index: int, workload: str, environment: str
) -> tuple[tuple[str, str], ...]:
    if index in _UNTAGGED:
        return ()
    draw = stable_hash.share(settings.seed, "tags", index)
    owner = _OWNERS[stable_hash.number(settings.seed, "owner", workload) % len(_OWNERS)]
    if index == _TAGGED_INDEX:
        return (("workload", workload), ("environment", environment), ("owner", owner))
    if draw < 0.75:
        return (("owner", owner), ("cost-center", f"{1000 + len(workload) * 37}"))
    return ()


@functools.lru_cache(maxsize=4)
def _permanent(settings: SimulationSettings) -> tuple[Account, ...]:
    found = []
    for index in range(settings.accounts - 1):
        if index < len(_FIXED):
            name, workload, environment = _FIXED[index]
        elif index == _HOSTILE_INDEX and settings.hostile_names and settings.accounts >= 20:
            name, workload, environment = HOSTILE_NAME, HOSTILE_NAME, "unknown"
        else:
            place = index - len(_FIXED)
            group, part = divmod(place, len(ENVIRONMENTS))
            # The first three workloads are largely there already.
            lap, number = divmod(group + 3, len(_WORKLOADS))
            workload = _WORKLOADS[number] + (f"-{lap + 1}" if lap else "")
            environment = ENVIRONMENTS[part]
            name = f"{ORGANIZATION_NAME}-{workload}-{environment}"
        state = "SUSPENDED" if index == _SUSPENDED_INDEX else "ACTIVE"
        age = stable_hash.number(settings.seed, "joined", index) % 1500
        found.append(
            Account(
                index=index,
                account_id=_account_id(settings, index),
                name=name,
                workload=workload,
                environment=environment,
                tags=_tags(settings, index, workload, environment),
                state=state,
                joined=_FOUNDED + dt.timedelta(days=age),
                unit=_unit(name, environment, state),
                origin=(workload, environment),
            )
        )
    return tuple(found)


@functools.lru_cache(maxsize=64)
def accounts_on(settings: SimulationSettings, day: int) -> tuple[Account, ...]:
    """Return the accounts of the organization on an absolute day number, suspended ones included.

    Their order is the order of their indexes, on every day.
    """
    roles = Roles.of(settings)
    accounts = list(_permanent(settings))
    if story.ACCOUNT_MOVED.holds(day):
        moved = accounts[roles.moved]
        accounts[roles.moved] = dataclasses.replace(
            moved,
            name=f"{ORGANIZATION_NAME}-{MOVED_TO_WORKLOAD}-{moved.environment}",
            workload=MOVED_TO_WORKLOAD,
        )
    if story.VISITOR_MEMBER.holds(day):
        accounts.append(_visitor(settings, roles.visitor, story.cycle(day)))
    return tuple(accounts)


def _visitor(settings: SimulationSettings, index: int, cycle: int) -> Account:
    """Return the account that joins in a cycle and leaves in it: a new one every time."""
    workload = _WORKLOADS[3 + cycle % 5]
    environment = ENVIRONMENTS[1 + cycle % 3]
    name = f"{ORGANIZATION_NAME}-{workload}-{environment}"
    return Account(
        index=index,
        account_id=_account_id(settings, MAX_INDEX + cycle % 80_000),
        name=name,
        workload=workload,
        environment=environment,
        tags=(("owner", _OWNERS[cycle % len(_OWNERS)]),),
        state="ACTIVE",
        joined=story.date_of(cycle * story.CYCLE_DAYS + story.VISITOR_MEMBER.start),
        unit=_unit(name, environment, "ACTIVE"),
        origin=(workload, environment),
    )


def unlisted_account(settings: SimulationSettings) -> Account:
    """Return the account that Security Hub has as a member and Organizations does not list."""
    index = settings.accounts
    return Account(
        index=index,
        account_id=_account_id(settings, 2 * MAX_INDEX + 80_000),
        name="Acquired Outdoor Ltd",
        workload="Acquired Outdoor Ltd",
        environment="unknown",
        tags=(),
        state="ACTIVE",
        joined=_FOUNDED,
        unit="",
        origin=("Acquired Outdoor Ltd", "unknown"),
    )


MAX_INDEX = 10_000
"""Indexes from here on are visitors', so that no two accounts ever have one id."""


def is_silent(settings: SimulationSettings, account: Account, day: int) -> bool:
    """Return whether an account sends no findings on the day."""
    return account.index == Roles.of(settings).silent and story.ACCOUNT_SILENT.holds(day)
