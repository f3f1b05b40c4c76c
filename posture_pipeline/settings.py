"""The settings: `posture.yaml` read, validated, with a default for everything.

What a value means is said on its field. Reading files happens in `load_settings` alone; the
environment is read by whoever calls it, never here.
"""

from __future__ import annotations

import hashlib
import json
import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from posture_pipeline.errors import SettingsError

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""A report's name is a folder, a metric dimension and a command-line argument at once."""

MOST_DAYS = 36_500
"""Longest retention: a hundred years, so that a day less it is always a date."""

ENVIRONMENTS = ("build", "development", "test", "acceptance", "production")


class Model(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _standard(value: str) -> str:
    """The standard without the `standards/` or `ruleset/` that AWS puts before it in ids."""
    name = value.strip().removeprefix("standards/").removeprefix("ruleset/").strip("/")
    if not re.fullmatch(r"[a-z0-9-]+/v/[0-9A-Za-z.]+", name):
        message = "must look like aws-foundational-security-best-practices/v/1.0.0"
        raise ValueError(message)
    return name


def _days(value: object) -> timedelta:
    """`14d` as a duration; a plain number is days."""
    match = re.fullmatch(r"([0-9]+)\s*d?", str(value).strip())
    if match is None or not 1 <= int(match[1]) <= MOST_DAYS:
        message = f"must be a number of days from 1 to {MOST_DAYS}, such as 14d"
        raise ValueError(message)
    return timedelta(days=int(match[1]))


def _pattern(value: str) -> str:
    try:
        compiled = re.compile(value)
    except re.error as error:
        message = f"is no regular expression: {error}"
        raise ValueError(message) from error
    if "workload" not in compiled.groupindex:
        message = "must have a group (?P<workload>...), and may have (?P<environment>...)"
        raise ValueError(message)
    return value


def _days_text(value: timedelta) -> str:
    return f"{value.days}d"


Days = Annotated[timedelta, BeforeValidator(_days), PlainSerializer(_days_text, when_used="json")]


def _hours_or_never(value: object) -> timedelta | None:
    """`36h` or `2d` as a duration; a plain number is hours; 0, never and null: not at all."""
    if isinstance(value, timedelta):
        return value or None
    text = "never" if value is None else str(value).strip()
    match = re.fullmatch(r"([0-9]+)\s*([hd]?)", text)
    if text == "never" or (match is not None and int(match[1]) == 0):
        return None
    hours = int(match[1]) * (24 if match[2] == "d" else 1) if match is not None else 0
    if not 24 <= hours <= MOST_DAYS * 24:
        message = "must be at least 24h, such as 36h or 2d, or never"
        raise ValueError(message)
    return timedelta(hours=hours)


def _hours_text(value: timedelta | None) -> str:
    return "never" if value is None else f"{value // timedelta(hours=1)}h"


HoursOrNever = Annotated[
    timedelta | None,
    BeforeValidator(_hours_or_never),
    PlainSerializer(_hours_text, when_used="json"),
]

STALE_AFTER = timedelta(hours=36)
"""Security Hub runs every check at least daily."""

RuleName = Annotated[str, Field(min_length=1, max_length=256)]
"""Name of a Config rule, with or without what a deployment adds to it."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON_FIELDS = (
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)
"""The last three fields of a cron expression: least and greatest number, and names for them."""


def _cron_values(text: str, low: int, high: int, names: Sequence[str]) -> set[int] | None:
    """The numbers that a field stands for; None where a part of it is no cron."""
    values: set[int] = set()
    for part in text.lower().split(","):
        match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9][0-9]?))?", part)
        if match is None:
            return None
        ends = [low, high]
        for at, value in enumerate((match[1], match[2])):
            if value in names:
                ends[at] = names.index(value) + (1 if names is _MONTHS else 0)
            elif value is not None and re.fullmatch("[0-9]{1,2}", value):
                ends[at] = int(value)
            elif value is not None:
                return None
        if match[1] is not None and match[2] is None and match[3] is None:
            ends[1] = ends[0]
        if not all(low <= end <= high for end in ends):
            return None
        values.update(range(ends[0], ends[1] + 1, int(match[3] or 1)))
    return values


ReportKind = Literal["standard", "all_standards", "conformance_pack", "custom_rules"]

STANDARD_KINDS: tuple[ReportKind, ...] = ("standard", "all_standards")
"""Kinds that Security Hub's own control findings decide; AWS Config's decide the others."""


class Report(Model):
    """What is scored: a standard, all standards, a conformance pack or custom rules."""

    name: str
    standard: Annotated[str, AfterValidator(_standard)] | None = None
    all_standards: Literal[True] | None = None
    """Every control of every enabled standard once: the summary score of the console."""
    conformance_pack: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    custom_rules: tuple[RuleName, ...] | None = None
    rules: tuple[RuleName, ...] | None = None
    """For a conformance pack: its rules, used where AWS cannot be asked (an import)."""
    filter: dict[str, Any] | None = None
    """AwsSecurityFindingFilters, evaluated on the stored findings."""
    stale_after: HoursOrNever = STALE_AFTER
    """For standards: instead of the `stale_after` of all reports."""

    @field_validator("name")
    @classmethod
    def _slug(cls, name: str) -> str:
        if not SLUG.fullmatch(name):
            message = "must be lower-case letters, digits, '.', '_' or '-', at most 63 of them"
            raise ValueError(message)
        return name

    @field_validator("filter")
    @classmethod
    def _supported_filter(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        from posture_pipeline.model.filters import validate_filters

        if value is not None:
            validate_filters(value)
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Report:
        kinds = (self.standard, self.all_standards, self.conformance_pack, self.custom_rules)
        if sum(kind is not None for kind in kinds) != 1:
            message = "needs exactly one of standard, all_standards, conformance_pack, custom_rules"
            raise ValueError(message)
        if self.custom_rules is not None and not self.custom_rules:
            message = "custom_rules must name at least one rule"
            raise ValueError(message)
        if self.rules is not None and self.conformance_pack is None:
            message = "rules goes with conformance_pack; for custom rules use custom_rules"
            raise ValueError(message)
        return self

    @property
    def kind(self) -> ReportKind:
        """Which of the kinds of report it is."""
        if self.standard is not None:
            return "standard"
        if self.all_standards:
            return "all_standards"
        return "conformance_pack" if self.conformance_pack is not None else "custom_rules"

    @property
    def is_of_standards(self) -> bool:
        """Whether Security Hub's control findings decide it; else AWS Config's findings do."""
        return self.kind in STANDARD_KINDS

    @property
    def definition(self) -> str:
        """A hash of what decides which controls are expected.

        Stored lists of controls belong to it, so a renamed report keeps them and a changed one does
        not. `filter` and `stale_after` decide which findings count, not which controls are
        expected; `rules` of a pack are read from the settings whenever they are needed.
        """
        scored = {"standard", "all_standards", "conformance_pack", "custom_rules"}
        return _short_hash(self.model_dump(mode="json", include=scored))

    def score_hash(self, carry_days: int) -> str:
        """Of every setting that decides this report's scores, those of all reports included."""
        own = self.model_dump(mode="json", include={"filter", "rules"})
        stale_after = self.stale_after if self.is_of_standards else None
        seconds = None if stale_after is None else stale_after.total_seconds()
        return _short_hash([self.definition, own, carry_days, seconds])


class Schedule(Model):
    """When something starts: five cron fields and a time zone."""

    cron: str = "0 6 * * *"
    timezone: str = "Europe/Amsterdam"

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            message = "is no time zone; use a name such as Europe/Amsterdam or UTC"
            raise ValueError(message) from error
        return name

    @field_validator("cron")
    @classmethod
    def _daily(cls, cron: str) -> str:
        fields = cron.split()
        if len(fields) != 5 or not all(re.fullmatch("[0-9]+", each) for each in fields[:2]):
            message = "must be five fields with a fixed minute and hour, such as '0 6 * * *'"
            raise ValueError(message)
        if int(fields[0]) > 59 or int(fields[1]) > 23:
            message = "must have a minute up to 59 and an hour up to 23"
            raise ValueError(message)
        values = []
        for text, (name, low, high, names) in zip(fields[2:], _CRON_FIELDS, strict=True):
            found = _cron_values(text, low, high, names)
            if not found:
                message = f"has the {name} {text!r}; use * or numbers from {low} to {high}"
                raise ValueError(message)
            values.append(found)
        days, months, _ = values
        # In cron a day of the week beside a day of the month is another way to match.
        if fields[4] == "*" and min(days) > max(monthrange(2024, month)[1] for month in months):
            message = "names no date of the calendar; correct the day of the month or the month"
            raise ValueError(message)
        return cron


class DailySchedule(Schedule):
    """When the daily run starts; a snapshot is of the UTC day on which that is."""

    @model_validator(mode="after")
    def _one_day_each(self) -> DailySchedule:
        # 01:30 in Amsterdam is 00:30 UTC in winter and 23:30 UTC of the day before in summer: when
        # the clocks change, one UTC day would have two runs and another none.
        minute, hour = (int(field) for field in self.cron.split()[:2])
        zone, first = ZoneInfo(self.timezone), date(2026, 1, 1)
        shifts = set()
        for days in range(_DAYS_OF_CLOCK_CHANGES):
            day = first + timedelta(days=days)
            local = datetime.combine(day, time(hour, minute), zone)
            shifts.add((local.astimezone(UTC).date() - day).days)
        if len(shifts) > 1:
            message = (
                f"{hour:02}:{minute:02} in {self.timezone} is on another UTC day in summer than in "
                "winter, so that one day a year would have no snapshot; choose another hour, or "
                "timezone: UTC"
            )
            raise ValueError(message)
        return self


_DAYS_OF_CLOCK_CHANGES = 2 * 366
"""Days that are looked at for a change of the clocks: two years, as some zones differ by year."""


class MaintenanceSchedule(Schedule):
    """When old findings are removed and past months compacted."""

    cron: str = "0 3 * * 0"


class Aws(Model):
    """How AWS is reached."""

    region: str = "eu-west-1"
    """The Security Hub home region: findings of linked regions are aggregated there."""
    regions: tuple[str, ...] = ()
    """Regions to collect from, where there is no aggregation; empty: the home region."""
    profile: str | None = None
    role_arn: str | None = None
    endpoint_url: str | None = None
    config_aggregator: Annotated[str, Field(max_length=256, pattern=r"^[\w-]+$")] | None = None
    """A configuration aggregator of AWS Config in the home region; with it the packs of all
    accounts are held against AWS, without it those of the audit account."""
    requests_per_second: Annotated[float, Field(gt=0)] | None = 3.0
    """GetFindings requests a second for each region, AWS's limit; lower it where others share
    the limit, null for an endpoint without one."""

    @property
    def collect_regions(self) -> tuple[str, ...]:
        """The regions that findings are collected from."""
        return self.regions or (self.region,)


class S3(Model):
    """How the bucket of a lake on S3 is reached; what is left out is as for AWS in all."""

    region: str | None = None
    """Of the bucket; null: `aws.region`."""
    profile: str | None = None
    """Instead of `aws.profile`, such as one that takes on a role in the account of the bucket."""
    endpoint_url: str | None = None
    """Instead of `aws.endpoint_url`."""
    kms_key_arn: (
        Annotated[str, Field(pattern=r"^arn:[a-z0-9-]+:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/\S+$")]
        | None
    ) = None
    """The KMS key that the lake is encrypted with; null: as the bucket does by itself."""


class Simulation(Model):
    """The embedded simulated organization, used instead of AWS."""

    seed: int = 7
    accounts: Annotated[int, Field(ge=5, le=10_000)] = 24
    realistic: bool = False
    """Whether it also sends what real organizations send and the story leaves out."""


class AccountTags(Model):
    """The names of the account tags that are read."""

    workload: str = "workload"
    environment: str = "environment"
    owner: str = "owner"


class Accounts(Model):
    """How an account finds its workload, environment and owner."""

    name_pattern: Annotated[str, AfterValidator(_pattern)] = (
        r"^(?P<organization>[^-]+)-(?P<workload>.+?)"
        r"(?:-(?P<environment>build|development|test|acceptance|production))?$"
    )
    default_environment: str = "production"
    tags: AccountTags = AccountTags()
    unlisted: Literal["score", "ignore"] = "score"
    """Accounts that findings or the overrides name and Organizations does not list: ignore leaves
    them out of every score. Subscriptions of other clouds, which it never lists, are scored."""
    overrides: str | None = None
    """A CSV file with the columns account_id, workload, environment, owner; relative paths start
    at the settings file."""


class Thresholds(Model):
    """Below red is red, below amber is amber, from amber on is green."""

    red: Annotated[float, Field(ge=0, le=100)] = 90
    amber: Annotated[float, Field(ge=0, le=100)] = 95

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        if self.red > self.amber:
            message = "red must not be above amber"
            raise ValueError(message)
        return self


class Metrics(Model):
    """Where the scores are published."""

    namespace: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^:]")] = (
        "SecurityPosture"
    )
    enabled: bool = True

    @field_validator("namespace")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name.startswith("AWS/"):
            message = "must not start with AWS/, which CloudWatch keeps for AWS"
            raise ValueError(message)
        return name


class Dashboards(Model):
    """The CloudWatch dashboards of the scores."""

    enabled: bool = True
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] = "posture"
    """First part of the names of dashboards and alarms; one of its own for each pipeline that
    publishes in the account."""
    report_url: Annotated[str, Field(pattern=r"^https?://[^\s()<>\[\]\\]+$")] | None = None
    """Where the report page is kept, linked from every dashboard and from the assets."""


class Alarms(Model):
    """The CloudWatch alarms of the scores."""

    enabled: bool = False
    days: Annotated[int, Field(ge=1, le=7)] = 1
    """Days in a row that a score must be red; CloudWatch looks at 7 days at most."""
    heartbeat_hours: Annotated[int, Field(ge=25, le=168)] = 26
    """Hours without data that are an alarm: more than lie between two runs."""
    environments: tuple[str, ...] = ()
    """Environments of workloads whose scores have an alarm; empty: all."""
    topics: Annotated[
        tuple[Annotated[str, Field(pattern=r"^arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:\S+$")], ...],
        Field(max_length=5),
    ] = ()
    """ARNs of the SNS topics that are told, at most 5."""


def _target(value: str) -> str:
    """Somebody who can be told: a topic, or where the address of a webhook stands."""
    if re.fullmatch(r"arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}", value):
        return value
    if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", value):
        return value
    message = (
        "must be the ARN of an SNS topic, or env:NAME or file:PATH, where the address of a webhook "
        "stands; the address itself is a secret and does not belong here"
    )
    raise ValueError(message)


def _time_of_day(value: object) -> time:
    """`12:00` as a time; YAML reads an unquoted 12:00 as 720, the minutes since midnight."""
    match = re.fullmatch("([0-9]{1,2}):([0-9]{2})(?::00)?", str(value).strip())
    if isinstance(value, int) and not isinstance(value, bool):
        hour, minute = divmod(value, 60)
    elif isinstance(value, time):
        return value
    else:
        hour, minute = (int(match[1]), int(match[2])) if match else (-1, 0)
    if not (0 <= hour <= 23 and 0 <= minute <= 59):
        message = "must be a time of the day such as 12:00"
        raise ValueError(message)
    return time(hour, minute)


def _clock_text(value: time) -> str:
    return f"{value:%H:%M}"


TimeOfDay = Annotated[
    time, BeforeValidator(_time_of_day), PlainSerializer(_clock_text, when_used="json")
]

Targets = tuple[Annotated[str, AfterValidator(_target)], ...]


class Alerts(Model):
    """Who is told when a score drops, a run fails, or a snapshot is missing."""

    to: Targets = ()
    """Topics and webhooks; empty: nobody is told of what no owner's target is told of."""
    owners: dict[str, Targets] = {}
    """Instead of `to`, by owner of a workload: who is told of its scores."""
    operations: Targets = ()
    """Who is told of failed runs and missing snapshots; empty: `to`."""
    score_drop: Annotated[float, Field(gt=0, le=100)] = 5
    """Points; a score that drops by more is told of."""
    reports: tuple[str, ...] = ()
    """Reports whose scores are told of; empty: all."""
    environments: tuple[str, ...] = ()
    """Environments of workloads whose scores are told of; empty: all."""
    snapshot_by: TimeOfDay = time(12)
    """When the day's scores must be there, in the time zone of the schedule; a time that is not
    later than the daily run's is one of the next day."""
    dagster_url: Annotated[str, Field(pattern=r"^https?://[^\s<>|]+$")] | None = None
    """Where people open the Dagster UI, for links to runs."""

    @property
    def for_operations(self) -> Targets:
        """Who is told of failed runs and missing snapshots."""
        return self.operations or self.to

    @property
    def targets(self) -> Targets:
        """Everybody who may be told of something, each once."""
        owners = [target for targets in self.owners.values() for target in targets]
        return tuple(dict.fromkeys([*self.to, *self.operations, *owners]))


class Exports(Model):
    """Whose data is exported into the lake with every day, for their teams to read."""

    workloads: Literal["none", "all"] | tuple[str, ...] = "none"
    """All workloads, none, or these."""
    format: Literal["parquet", "csv"] = "parquet"


class Retention(Model):
    """How long the large tables are kept; score tables are kept for good.

    The two newest days always stay, because the next one is compared with them.
    """

    raw_finding_pages: Days = timedelta(days=14)
    merged_findings: Days = timedelta(days=14)
    account_findings: Days = timedelta(days=400)


class Checks(Model):
    """Limits of the checks between findings and publishing."""

    quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of unreadable records above which the run fails before anything is published; the
    scores of an account with a larger share of its own are withheld."""
    unexplained_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of findings gone without evidence above which scores are withheld."""
    unexplained_share_organization: Annotated[float, Field(ge=0, le=1)] = 0.20
    """The same of the organization, above which the run fails before anything is published."""
    score_move: Annotated[float, Field(gt=0, le=100)] = 0.5
    """Points a score may move without a change in control status to explain it."""
    exception_days: Annotated[int, Field(ge=0, le=3650)] = 14
    """So many days before its agreed end an exception is told of."""


_DEFAULT_REPORTS = (
    Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0"),
    Report(name="cis-v3", standard="cis-aws-foundations-benchmark/v/3.0.0"),
)

DEMO_REPORTS = (
    *_DEFAULT_REPORTS,
    Report(name="lz-pack", conformance_pack="lz-framework"),
    Report(
        name="lz-rules",
        custom_rules=(
            "lz-s3-encryption",
            "lz-s3",
            "lz-required-tags",
            "lz-approved-amis",
            "lz-iam-boundary",
            "lz-secrets-rotation",
            "lz-queue-encryption",
            "lz-backup-plan",
        ),
    ),
)
"""Two standards, a pack and custom rules, for what the simulated organization has deployed."""


class Settings(Model):
    """Everything that can be set, as in `posture.yaml`."""

    lake: Annotated[str, Field(min_length=1)] = "./lake"
    """A folder, or s3://bucket/prefix."""
    s3: S3 = S3()
    start_date: date = date(2024, 1, 1)
    """First day that can be a partition."""
    schedule: DailySchedule = DailySchedule()
    aws: Aws = Aws()
    simulation: Simulation | None = None
    """Set: no AWS is used, but a simulated organization in this process."""
    collect: Literal["all", "failing"] = "all"
    products: tuple[Annotated[str, Field(pattern=r"^[^/\s:]+/[^/\s:]+$")], ...] = ()
    """Other products whose findings are collected too, by the ends of their ProductArns, such as
    aws/guardduty; without, those that a report needs: of Security Hub's controls, of AWS Config."""
    shards: bool = True
    """Collect in ten streams by first digit of the account id; false: one stream."""
    archived_days: Annotated[int, Field(ge=0, le=30)] = 3
    """Findings archived in this many days are collected too, as evidence; they never score."""
    carry_days: Annotated[int, Field(ge=0, le=3650)] = 90
    """A failure whose finding AWS deleted for its age is carried forward as failing for at most so
    many days; 0: not at all."""
    silent_days: Annotated[int, Field(ge=0, le=3650)] = 30
    """Scores are withheld for missing findings for at most so many days; 0: never."""
    stale_after: HoursOrNever = STALE_AFTER
    """A control finding of Security Hub that was not updated for so long, where the others of its
    account and region were, is kept and not scored; null: every finding is."""
    incomplete_regions: Literal["fail", "continue"] = "fail"
    """When one of `aws.regions` cannot be asked, because the account has not opted in to it or a
    service control policy denies it: fail, or go on without it and mark the scores."""
    reports: tuple[Report, ...] = _DEFAULT_REPORTS
    accounts: Accounts = Accounts()
    exceptions: Annotated[str, Field(min_length=1)] | None = None
    """A CSV file with the columns control, finding, account, until, owner, reason: until when
    suppressed findings are accepted; relative paths start at the settings file."""
    thresholds: Thresholds = Thresholds()
    metrics: Metrics = Metrics()
    dashboards: Dashboards = Dashboards()
    alarms: Alarms = Alarms()
    alerts: Alerts = Alerts()
    exports: Exports = Exports()
    retention: Retention = Retention()
    maintenance: MaintenanceSchedule = MaintenanceSchedule()
    checks: Checks = Checks()

    @field_validator("lake")
    @classmethod
    def _folder_or_bucket(cls, lake: str) -> str:
        # The rest of the name may be any: what is not in a prefix, AWS refuses itself.
        if "://" in lake and not re.match(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)", lake):
            message = "must be a folder, or s3://bucket/prefix"
            raise ValueError(message)
        return lake

    @field_validator("reports")
    @classmethod
    def _with_stale_after(
        cls, reports: tuple[Report, ...], info: ValidationInfo
    ) -> tuple[Report, ...]:
        inherited = {"stale_after": info.data.get("stale_after", STALE_AFTER)}
        return tuple(
            report
            if "stale_after" in report.model_fields_set
            else report.model_copy(update=inherited)
            for report in reports
        )

    @field_validator("reports")
    @classmethod
    def _unique(cls, reports: tuple[Report, ...]) -> tuple[Report, ...]:
        if not reports:
            message = "must have at least one report"
            raise ValueError(message)
        names = [report.name for report in reports]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"names {', '.join(twice)} twice; each report needs a name of its own"
            raise ValueError(message)
        return reports

    @model_validator(mode="after")
    def _alerts_name_reports(self) -> Settings:
        unknown = sorted({*self.alerts.reports} - {report.name for report in self.reports})
        if unknown:
            message = f"alerts.reports names {', '.join(unknown)}, which reports does not have"
            raise ValueError(message)
        return self

    def report(self, name: str) -> Report:
        """The report of that name.

        Raises:
            SettingsError: There is none.
        """
        for report in self.reports:
            if report.name == name:
                return report
        known = ", ".join(report.name for report in self.reports)
        message = f"There is no report {name!r} in the settings; there are: {known}."
        raise SettingsError(message)


SETTINGS_VARIABLE = "POSTURE_CONFIG"
"""Environment variable with the path of the settings file."""

LAKE_VARIABLE = "POSTURE_LAKE"
"""Environment variable that names another lake than the settings, for what Dagster loads."""

SETTINGS_PLACES = ("posture.yaml", "demo/posture.yaml")
"""Where settings are looked for when the variable does not say, from the working folder."""


def find_settings(environment: Mapping[str, str]) -> Path | None:
    """The settings file that the environment or the working folder names; null for none."""
    named = environment.get(SETTINGS_VARIABLE)
    if named:
        return Path(named)
    return next((Path(place) for place in SETTINGS_PLACES if Path(place).is_file()), None)


def load_settings(path: Path | None) -> Settings:
    """Reads and validates a settings file.

    Relative paths in it (the lake, the overrides, the exceptions) start at the file's folder.

    Args:
        path: The file; without one the defaults are used, with the simulated organization.

    Raises:
        SettingsError: The file cannot be read, is no YAML, or a value is not allowed; the text
            names every key, its value and what is allowed.
    """
    if path is None:
        return Settings(simulation=Simulation(), reports=DEMO_REPORTS)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"The settings file {path} cannot be read: {error.strerror}."
        raise SettingsError(message) from error
    except UnicodeDecodeError as error:
        message = f"The settings file {path} is no UTF-8 text: {error}."
        raise SettingsError(message) from error
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-02-30
        message = f"The settings file {path} is no valid YAML: {error}."
        raise SettingsError(message) from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        message = f"The settings file {path} must hold keys and values, such as 'lake: ./lake'."
        raise SettingsError(message)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        lines = "; ".join(_sentence(each) for each in error.errors())
        message = f"The settings file {path} is not valid: {lines}."
        raise SettingsError(message) from error
    return _resolve_paths(settings, path.resolve().parent)


def _resolve_paths(settings: Settings, folder: Path) -> Settings:
    update: dict[str, Any] = {}
    if "://" not in settings.lake:
        update["lake"] = str((folder / Path(settings.lake).expanduser()).resolve())
    overrides = settings.accounts.overrides
    if overrides is not None:
        resolved = str((folder / Path(overrides).expanduser()).resolve())
        update["accounts"] = settings.accounts.model_copy(update={"overrides": resolved})
    if any(target.startswith(_FILE) for target in settings.alerts.targets):
        update["alerts"] = _with_resolved_files(settings.alerts, folder)
    if settings.exceptions is not None:
        update["exceptions"] = str((folder / Path(settings.exceptions).expanduser()).resolve())
    return settings.model_copy(update=update)


_FILE = "file:"


def _with_resolved_files(alerts: Alerts, folder: Path) -> Alerts:
    def resolved(targets: Targets) -> Targets:
        return tuple(
            f"{_FILE}{(folder / Path(each.removeprefix(_FILE)).expanduser()).resolve()}"
            if each.startswith(_FILE)
            else each
            for each in targets
        )

    owners = {owner: resolved(targets) for owner, targets in alerts.owners.items()}
    to, operations = resolved(alerts.to), resolved(alerts.operations)
    return alerts.model_copy(update={"to": to, "operations": operations, "owners": owners})


def _sentence(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict of Any
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    text = error["msg"]
    if error["type"] == "extra_forbidden":
        return f"{place} is no known setting"
    if error["type"] == "missing":
        return f"{place} is missing"
    own = text.removeprefix("Value error, ")  # as we wrote it; it may begin with a name
    text = own if own != text else f"{text[:1].lower()}{text[1:]}"
    # The address of a webhook is a secret, also where it was written by mistake.
    is_address = place.startswith("alerts.") and "://" in str(error["input"])
    return f"{place} is {'an address' if is_address else repr(error['input'])}: {text}"


def _short_hash(value: Any) -> str:  # noqa: ANN401 - anything JSON can hold
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
