"""What assets are given: the lake, the settings, and the source of a snapshot.

Resources are thin: they hand out plain objects that know nothing of Dagster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import polars as pl

from posture_pipeline.aws.alerts import Sender, sender
from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.aws.cloudwatch import PublishedMetrics, publish
from posture_pipeline.aws.compliance import Compliance, aws_compliance
from posture_pipeline.aws.controls import listed_controls
from posture_pipeline.aws.dashboards import Updated
from posture_pipeline.aws.dashboards import update as update_dashboards
from posture_pipeline.aws.organizations import organization_accounts
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.aws.security_hub import (
    Progress,
    collect,
    ensure_day_is_today,
    unavailable_regions,
)
from posture_pipeline.aws.unified_hub import unified_hub_since
from posture_pipeline.lake import layout
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.saved_findings import import_files
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.expected import Listing
from posture_pipeline.schemas import AWS_COMPLIANCE, ORGANIZATION_ACCOUNTS, RAW_FINDING_PAGES
from posture_pipeline.settings import Report, Settings

if TYPE_CHECKING:
    from posture_pipeline.model.dashboards import Wanted
    from posture_pipeline.model.metrics import MetricDatum

Tell = Callable[[str], None]
"""Takes a line that says how far long work has come."""

Clock = Callable[[], datetime]
"""What time it is on this machine, UTC."""


@dataclass(frozen=True, slots=True)
class AccountList:
    """The accounts a source could name.

    Attributes:
        accounts: Rows of `schemas.ORGANIZATION_ACCOUNTS`.
        incomplete: What kept the source from naming all; None if nothing did.
        unified_hub_since: Day on which the audit account enabled the unified Security Hub; None if
            it is not enabled or not known.
    """

    accounts: pl.DataFrame
    incomplete: str | None = None
    unified_hub_since: date | None = None


class SnapshotSource(Protocol):
    """Where a day's facts come from: AWS (or the simulated organization), or saved findings."""

    def is_over(self, day: date) -> bool:
        """Whether nothing can be learned of the day any more."""
        ...

    def accounts(self, day: date) -> AccountList:
        """The accounts of the organization, as `organization_accounts` rows."""
        ...

    def controls(self, reports: Sequence[Report], day: date, *, last_try: bool) -> Listing:
        """What AWS lists of the reports' standards and packs.

        Without `last_try` an error that may go away by itself is raised.
        """
        ...

    def compliance(self, reports: Sequence[Report], day: date) -> Compliance:
        """What AWS Config itself says of the reports' packs, as `aws_compliance` rows."""
        ...

    def collect(self, lake: Lake, day: date, tell: Tell) -> Commit:
        """Puts the day's finding pages into the lake."""
        ...

    def publish(self, data: Sequence[MetricDatum]) -> PublishedMetrics | None:
        """Publishes metrics; null where there is nowhere to publish to."""
        ...

    def dashboards(self, wanted: Wanted) -> Updated | None:
        """Brings dashboards and alarms to what is wanted; null where there is nowhere to."""
        ...

    def alerts(self) -> Sender | None:
        """What sends alerts on the scores; null where nobody is told."""
        ...


class AwsSource:
    """AWS, or whatever answers at the settings' endpoint."""

    def __init__(self, settings: Settings, clients: AwsClients) -> None:
        self.settings = settings
        self.clients = clients

    def is_over(self, day: date) -> bool:
        """Whether the endpoint's clock has passed the day: AWS then knows nothing of it."""
        return self.clients.now().date() > day

    def accounts(self, day: date) -> AccountList:
        """The accounts that Organizations lists."""
        listed = organization_accounts(self.clients, self.settings.accounts, day=day)
        return AccountList(listed.frame, listed.reason, unified_hub_since(self.clients))

    def controls(self, reports: Sequence[Report], day: date, *, last_try: bool) -> Listing:
        """The controls as Security Hub and Config define them today."""
        return listed_controls(self.clients, reports, day=day, last_try=last_try)

    def compliance(self, reports: Sequence[Report], day: date) -> Compliance:
        """The compliance as AWS Config has it now, in every region that is collected from."""
        regions = self.settings.aws.collect_regions
        return aws_compliance(self.clients, reports, regions, day=day)

    def collect(self, lake: Lake, day: date, tell: Tell) -> Commit:
        """Collects from GetFindings; goes on where an unfinished run of the day stopped."""
        began = unfinished(lake, day)
        ensure_day_is_today(self.clients.now(), day, began=began)
        left_out = unavailable_regions(self.clients, self.settings, day)
        for error in left_out.values():
            tell(f"Left out: {error}")
        sink = RawPagesWriter(lake, day)
        rate = self.settings.aws.requests_per_second
        if self.settings.simulation is not None or rate is None:
            rate = math.inf
        collected = collect(
            self.clients,
            _without_regions(self.settings, left_out),
            sink,
            day=day,
            began=began,
            progress=lambda progress: tell(progress_line(progress)),
            expected_findings=_yesterdays_findings(lake, day),
            budgets=lambda _region: RateBudget(rate),
        )
        return sink.commit(
            [count.shard for count in collected.shards],
            {
                "source": "aws",
                "collect": self.settings.collect,
                "regions_left_out": sorted(left_out),
                "started_at": collected.started_at.isoformat(),
                "collected_at": collected.collected_at.isoformat(),
                "archived_findings": collected.archived_findings,
                "updates": collected.updates,
                "unsettled_shards": list(collected.unsettled),
                "requests": collected.requests,
                "throttled": collected.throttled,
            },
        )

    def publish(self, data: Sequence[MetricDatum]) -> PublishedMetrics | None:
        """Puts the metrics to CloudWatch."""
        points = [
            {
                "MetricName": datum.name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in datum.dimensions],
                "Timestamp": datum.timestamp,
                "Value": datum.value,
                "Unit": datum.unit,
            }
            for datum in data
        ]
        namespace = self.settings.metrics.namespace
        return publish(self.clients, namespace, points, now=self.clients.now())

    def dashboards(self, wanted: Wanted) -> Updated | None:
        """Puts, leaves and removes CloudWatch dashboards and alarms."""
        return update_dashboards(self.clients, wanted)

    def alerts(self) -> Sender | None:
        """Topics at the same endpoint, and webhooks."""
        return sender(self.clients.aws, endpoint_url=self.clients.endpoint_url)


class SavedFindings:
    """Findings saved in files: the snapshot of a day with no AWS access at all."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def is_over(self, day: date) -> bool:  # noqa: ARG002 - files know no time
        """Saved findings can be imported for any day."""
        return False

    def accounts(self, day: date) -> AccountList:
        """No listing: the accounts come from the findings and the overrides."""
        del day
        return AccountList(
            ORGANIZATION_ACCOUNTS.empty(),
            "The findings were imported, so only accounts that have findings, or stand in the "
            "overrides file, are known.",
        )

    def controls(self, reports: Sequence[Report], day: date, *, last_try: bool) -> Listing:
        """Nothing: settings, findings and other days say what is expected."""
        del reports, day, last_try
        return Listing()

    def compliance(self, reports: Sequence[Report], day: date) -> Compliance:
        """Nothing: files hold findings, and not what AWS Config made of them."""
        del day
        packs = any(report.conformance_pack for report in reports)
        said = "The findings were imported, so AWS Config was not asked for its own figures."
        return Compliance(AWS_COMPLIANCE.empty(), said if packs else None)

    def collect(self, lake: Lake, day: date, tell: Tell) -> Commit:
        """Puts the files' records into pages."""
        noon = datetime.combine(day, time(12), tzinfo=UTC)
        collected_at = min(datetime.now(UTC), noon) if day <= datetime.now(UTC).date() else noon
        commit = import_files(lake, day, self.files, collected_at=collected_at.isoformat())
        tell(f"{commit.rows:,} records from {len(self.files):,} files")
        return commit

    def publish(self, data: Sequence[MetricDatum]) -> PublishedMetrics | None:
        """There is nowhere to publish to."""
        del data
        return None

    def dashboards(self, wanted: Wanted) -> Updated | None:
        """Nor anywhere to put a dashboard."""
        del wanted
        return None

    def alerts(self) -> Sender | None:
        """An imported day is no news."""
        return None


def sender_of(settings: Settings) -> Sender:
    """What sends alerts outside a run, where no simulated organization is at hand."""
    return sender(None if settings.simulation is not None else settings.aws)


@contextmanager
def source_of(settings: Settings) -> Iterator[SnapshotSource]:
    """The source that the settings name: AWS, an endpoint, or the embedded organization.

    The embedded organization is started on loopback and lives as long as the block.
    """
    if settings.simulation is None:
        yield AwsSource(settings, AwsClients(settings.aws))
        return
    from posture_pipeline.simulation.server import serve
    from posture_pipeline.simulation.settings import SimulationSettings

    simulation = SimulationSettings(
        seed=settings.simulation.seed, accounts=settings.simulation.accounts, rate_limit=None
    )
    if settings.simulation.realistic:
        simulation = simulation.realistic()
    with serve(simulation) as server:
        yield AwsSource(settings, AwsClients(settings.aws, endpoint_url=server.url))


def unfinished(lake: Lake, day: date) -> bool:
    """Whether a collection of the day began and was not committed."""
    folder = layout.partition(RAW_FINDING_PAGES, day)
    return lake.get_json(f"{folder}/{layout.OPEN}") is not None


def progress_line(progress: Progress) -> str:
    """How far a collection is, for a person."""
    line = (
        f"{progress.pages:,} pages, {progress.findings:,} findings, {progress.rate:,.0f} a second, "
        f"{progress.shards_done} of {progress.shards} shards done"
    )
    if progress.seconds_left is not None:
        line += f", about {timedelta(seconds=round(progress.seconds_left))} left"
    return line


def _without_regions(settings: Settings, left_out: Collection[str]) -> Settings:
    if not left_out:
        return settings
    regions = tuple(each for each in settings.aws.collect_regions if each not in left_out)
    aws = settings.aws.model_copy(update={"regions": regions})
    return settings.model_copy(update={"aws": aws})


def _yesterdays_findings(lake: Lake, day: date) -> int | None:
    before = next(lake.days_before(RAW_FINDING_PAGES, day), None)
    commit = lake.commit_of(RAW_FINDING_PAGES, before) if before else None
    return commit.rows if commit else None
