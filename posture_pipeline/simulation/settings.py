"""What a simulated organization is made of: its settings and their limits. No behaviour here."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from typing import Any, Literal

from posture_pipeline.errors import PostureError

ControlFindingGenerator = Literal["SECURITY_CONTROL", "STANDARD_CONTROL"]

MIN_ACCOUNTS = 5
"""Fewer accounts could not carry the events of the story."""
MAX_ACCOUNTS = 10_000
"""Members a Security Hub administrator can have (AWS: Security Hub quotas)."""
MIN_RESOURCES = 5
"""The first five resources of an account are the ones that the story is told with."""
MAX_RESOURCES = 100_000
GET_FINDINGS_RATE = 3.0
"""GetFindings requests a second, per account and region (AWS: Security Hub service model)."""
GET_FINDINGS_BURST = 6
OTHER_RATE = 10.0
"""Requests a second of every other call, each by itself (AWS: same)."""
OTHER_BURST = 30
RENAMED_ON = dt.date(2025, 10, 1)
"""Security Hub's findings bear the name Security Hub CSPM since about then (AWS: user guide)."""
REALISTIC = (
    "second_pack",
    "deleted_resources",
    "broken_rule",
    "disabled_control",
    "several_resources",
    "standard_arns",
    "unlisted_account",
    "azure",
)
"""Switches that are off by default: what they add is true of AWS, and not part of the story."""
_REGION = re.compile(r"^[a-z]{2,4}(-[a-z]+)+-\d$")


class SimulationSettingsError(PostureError, ValueError):
    """A setting of the simulated organization is outside what it can play."""


@dataclasses.dataclass(frozen=True)
class RateLimit:
    """A token bucket: `requests_per_second` on average, `burst` at once."""

    requests_per_second: float = GET_FINDINGS_RATE
    burst: int = GET_FINDINGS_BURST

    def __post_init__(self) -> None:
        if self.requests_per_second <= 0 or self.burst < 1:
            msg = (
                f"rate_limit: {self.requests_per_second} requests a second with a burst of "
                f"{self.burst}; both must be positive (None switches the limit off)"
            )
            raise SimulationSettingsError(msg)


@dataclasses.dataclass(frozen=True)
class Movement:
    """Findings that change while they are paged.

    Attributes:
        seed: chooses the findings and what happens to them.
        changes: how many, before each page.
        seconds: by which each page moves the simulated time on.
        kinds: what may happen to a finding.
        tokens: what a NextToken stands for: the last finding of the page (`key`) or how many came
            before (`position`).
    """

    seed: int = 0
    changes: int = 3
    seconds: int = 10
    kinds: tuple[Literal["updated", "created", "archived", "deleted"], ...] = (
        "updated",
        "created",
        "archived",
        "deleted",
    )
    tokens: Literal["key", "position"] = "key"


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """Everything that decides what the simulated organization looks like.

    The same settings give the same accounts and findings on every machine, on every day asked for,
    in any order.

    Attributes:
        seed: chooses one of many organizations of the same size.
        accounts: accounts of the organization, the one that joins and leaves included.
        resources_per_account: resources the controls look at; a resource has about three findings,
            and an account some 200 beside that.
        regions: the home region first, then the linked ones, all of one partition.
        control_finding_generator: SECURITY_CONTROL is one finding a check (consolidated),
            STANDARD_CONTROL one a check and standard.
        consolidated_from: the day on which an organization that had per-standard findings turned
            to consolidated ones; on that day both are there, before it only the per-standard ones.
        rate_limit: of GetFindings; None switches it off, and that of the other calls too.
        token_lifetime_seconds: of a NextToken of Security Hub, in simulated seconds.
        movement: findings change while they are paged; None: they stay as they are all day. With
            it, findings cannot be imported or updated.
        hostile_names: whether an organization of 20 accounts or more has one whose name is markup.
        legacy_account_status: whether Organizations still sends `Status` beside `State`.
        standards_off: standards that the members have and the audit account has not, by name and
            version, such as `cis-aws-foundations-benchmark/v/3.0.0`.
        standards_pending: standards that AWS is enabling in the audit account.
        pending_on: the days on which it is; on every other day they are ready.
        empty_account_pages: whether ListAccounts returns an empty page with a token now and then.
        renamed_on: the day since which Security Hub's findings have ProductName `Security Hub
            CSPM`, and before it `Security Hub`; None keeps the old name.
        second_pack: whether a second conformance pack is deployed, with rules of the same name.
        deleted_resources: whether resources that a Config rule reported are deleted, after which
            Config's finding stays active as NOT_APPLICABLE.
        broken_rule: whether the Config rule behind a control cannot be evaluated for some days.
        disabled_control: whether a control is switched off in one account for some days, where its
            findings stay active for three to five days without being updated.
        several_resources: whether some control findings list a second resource.
        standard_arns: whether some findings name their standards by full ARNs.
        unlisted_account: whether an account sends findings that Organizations does not list.
        unified_hub_since: the day on which the unified Security Hub was enabled beside Security Hub
            CSPM, after which Config.1 always passes; None: it is not.
        azure: whether a connector brings findings of an Azure subscription.

    Raises:
        SimulationSettingsError: a value is outside its range; the text names it.
    """

    seed: int = 7
    accounts: int = 24
    resources_per_account: int = 40
    regions: tuple[str, ...] = ("eu-west-1", "us-east-1")
    control_finding_generator: ControlFindingGenerator = "SECURITY_CONTROL"
    consolidated_from: dt.date | None = None
    rate_limit: RateLimit | None = dataclasses.field(default_factory=RateLimit)
    token_lifetime_seconds: int = 3600
    movement: Movement | None = None
    hostile_names: bool = True
    legacy_account_status: bool = True
    standards_off: tuple[str, ...] = ()
    standards_pending: tuple[str, ...] = ()
    pending_on: tuple[dt.date, ...] = ()
    empty_account_pages: bool = True
    renamed_on: dt.date | None = RENAMED_ON
    second_pack: bool = False
    deleted_resources: bool = False
    broken_rule: bool = False
    disabled_control: bool = False
    several_resources: bool = False
    standard_arns: bool = False
    unlisted_account: bool = False
    unified_hub_since: dt.date | None = None
    azure: bool = False

    def __post_init__(self) -> None:
        self._within("accounts", self.accounts, MIN_ACCOUNTS, MAX_ACCOUNTS)
        self._within(
            "resources_per_account", self.resources_per_account, MIN_RESOURCES, MAX_RESOURCES
        )
        self._within("token_lifetime_seconds", self.token_lifetime_seconds, 1, 7 * 86_400)
        object.__setattr__(self, "regions", tuple(self.regions))
        if not self.regions or len(set(self.regions)) != len(self.regions):
            msg = f"regions: {self.regions!r}; expected one or more different regions"
            raise SimulationSettingsError(msg)
        for region in self.regions:
            if not _REGION.match(region):
                msg = f"regions: {region!r} is not the name of a region, such as 'eu-west-1'"
                raise SimulationSettingsError(msg)
        if self.control_finding_generator not in ("SECURITY_CONTROL", "STANDARD_CONTROL"):
            msg = (
                f"control_finding_generator: {self.control_finding_generator!r}; "
                "expected SECURITY_CONTROL or STANDARD_CONTROL"
            )
            raise SimulationSettingsError(msg)
        if self.consolidated_from and self.control_finding_generator == "STANDARD_CONTROL":
            msg = "consolidated_from: only means something with SECURITY_CONTROL"
            raise SimulationSettingsError(msg)

    def realistic(self) -> SimulationSettings:
        """Return these settings with everything on that a real organization sends."""
        switches: dict[str, Any] = dict.fromkeys(REALISTIC, True)
        return dataclasses.replace(self, **switches)

    @staticmethod
    def _within(name: str, value: int, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            msg = f"{name}: {value!r}; expected a whole number from {low} to {high}"
            raise SimulationSettingsError(msg)

    @property
    def home_region(self) -> str:
        """The region that findings of all linked regions are aggregated in."""
        return self.regions[0]
