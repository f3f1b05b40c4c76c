"""What the next collection will ask of AWS and of the disk, from the counts of a stored day.

Only the arithmetic. Which requests a collection makes stands in `aws/security_hub.py`; where counts
and sizes are stored, in the lake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from posture_pipeline.settings import Settings

PAGE_SIZE = 100
"""Findings of a page at most (AWS: GetFindings, MaxResults)."""
SECONDS_A_PAGE = 1.0
"""How long a page takes to come. The pages of a shard are asked for one after the other, because
each names the next, so a shard gets one page in this time at most."""
UPDATES_A_DAY = 2
"""Times a finding is updated a day: a check runs every 12 or 24 hours (AWS: Security Hub user
guide, schedule for running security checks), and when its resource changes."""
UPDATES_MARGIN_SECONDS = 900
"""How long before a stream began its updates are asked for again; see `aws/security_hub.py`."""
FAILING = ("FAILED", "WARNING", "NOT_AVAILABLE")
"""The compliance that `collect: failing` asks for."""
DAYS_A_YEAR = 365

_OF_SHARD = r"^(.+)-(?:(?:active|products)-[\w-]+|archived)$"
"""A shard's region in its name."""


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """What one region is asked for.

    Attributes:
        region: The region; it has a rate limit of its own.
        shards: Streams of pages.
        findings: Findings on the pages.
        pages: Pages, each at least one request; a stream without findings has one too. Those that
            ask what was updated in the meantime are among them.
        longest: Pages of the largest stream.
        seconds: How long they take, by the rate limit or by the largest stream.
    """

    region: str
    shards: int
    findings: int
    pages: int
    longest: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What a whole collection is expected to take; regions are asked at the same time.

    Attributes:
        collect: Which findings: all, or failing.
        regions: Each region.
    """

    collect: str
    regions: tuple[RegionPlan, ...]

    @property
    def findings(self) -> int:
        """Findings of all regions."""
        return sum(each.findings for each in self.regions)

    @property
    def pages(self) -> int:
        """Pages of all regions."""
        return sum(each.pages for each in self.regions)

    @property
    def seconds(self) -> float:
        """The slowest region."""
        return max((each.seconds for each in self.regions), default=0.0)


def counts_by_shard(findings: pl.LazyFrame, home_region: str) -> pl.DataFrame:
    """How many findings of a day each possible shard has.

    Args:
        findings: Columns of `schemas.MERGED_FINDINGS`.
        home_region: Of findings that were imported, which no shard collected.

    Returns:
        region, archived, digit (the first of the account id), failing (whether `collect: failing`
        asks for them), findings.
    """
    return (
        findings.group_by(
            region=pl.col("shard").str.extract(_OF_SHARD).fill_null(home_region),
            archived=pl.col("record_state") == "ARCHIVED",
            digit=pl.coalesce("^connector_account_id$", "account_id").str.slice(0, 1),
            failing=pl.col("compliance_status").is_in(FAILING).fill_null(value=False),
        )
        .agg(findings=pl.len().cast(pl.Int64))
        .sort("region", "archived", "digit", "failing")
        .collect(engine="streaming")
    )


def collection_plan(counts: pl.DataFrame, settings: Settings, collect: str) -> CollectionPlan:
    """The collection that the settings make of these counts.

    Args:
        counts: See `counts_by_shard`.
        settings: Regions, shards, rate.
        collect: all or failing.
    """
    if collect == "failing":
        counts = counts.filter("failing")
    return CollectionPlan(
        collect,
        tuple(
            _region_plan(counts.filter(pl.col("region") == region), settings, region)
            for region in settings.aws.collect_regions
        ),
    )


def _region_plan(counts: pl.DataFrame, settings: Settings, region: str) -> RegionPlan:
    active = dict(
        counts.filter(~pl.col("archived")).group_by("digit").agg(pl.col("findings").sum()).rows()
    )
    digits = [active.get(str(digit), 0) for digit in range(10)]
    streams = digits if settings.shards else [sum(digits)]
    rate = math.inf if settings.simulation is not None else settings.aws.requests_per_second
    a_second = math.inf if rate is None else rate
    paged = sum(map(_pages, streams)) / a_second
    seconds = paged + UPDATES_MARGIN_SECONDS
    updated = min(1.0, seconds * UPDATES_A_DAY / timedelta(days=1).total_seconds())
    pages = [_pages(findings) + _pages(findings * updated) for findings in streams]
    archived = int(counts.filter("archived")["findings"].sum())
    if settings.archived_days > 0:
        pages.append(_pages(archived))
    at_the_limit = sum(pages) / a_second
    return RegionPlan(
        region=region,
        shards=len(pages),
        findings=sum(streams) + (archived if settings.archived_days > 0 else 0),
        pages=sum(pages),
        longest=max(pages),
        seconds=max(at_the_limit, max(pages) * SECONDS_A_PAGE if at_the_limit else 0.0),
    )


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """What the lake grows by.

    Attributes:
        a_day: Bytes of a day's run, by table.
        kept: Bytes of what is kept once the lake is a year old, by table.
    """

    a_day: Mapping[str, int]
    kept: Mapping[str, int]

    @property
    def day(self) -> int:
        """Bytes of a day's run."""
        return sum(self.a_day.values())

    @property
    def year(self) -> int:
        """Bytes of the lake after a year."""
        return sum(self.kept.values())


def disk_plan(
    bytes_of: Mapping[str, int],
    retention: Mapping[str, timedelta],
    share_of_findings: float = 1.0,
) -> DiskPlan:
    """What days like the stored one take.

    Args:
        bytes_of: Bytes of the stored day, by table.
        retention: For how long tables are kept; those that are not named are kept for good.
        share_of_findings: Findings of the plan over those of the stored day; tables with a row a
            finding take that share of their bytes.
    """
    a_day = {
        table: round(size * share_of_findings) if table in retention else size
        for table, size in bytes_of.items()
    }
    days = {table: min(kept.days, DAYS_A_YEAR) for table, kept in retention.items()}
    return DiskPlan(
        a_day, {table: size * days.get(table, DAYS_A_YEAR) for table, size in a_day.items()}
    )


def _pages(findings: float) -> int:
    return max(1, math.ceil(findings / PAGE_SIZE))
