"""Assets of the group ingest: what AWS says today, kept as it is. No interpretation here."""

import dagster as dg

from posture_pipeline.assets import declared
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import SnapshotSource, Tell
from posture_pipeline.schemas import (
    LISTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    RAW_FINDING_PAGES,
)
from posture_pipeline.settings import Settings

COLLECTION_POOL = "securityhub"
"""GetFindings is limited for the whole account and region, so two runs never collect at once."""

RETRIES = dg.RetryPolicy(
    max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
)
"""For what passes by itself. A retried collection goes on where the failed one stopped."""


def ingest_assets(
    daily: dg.PartitionsDefinition[str], freshness: dg.FreshnessPolicy | None
) -> list[dg.AssetsDefinition]:
    """The assets that ask AWS; the only ones that cannot be made again for a day that is over.

    Args:
        daily: Their partitions.
        freshness: When a snapshot must be there; null: the UI does not say.
    """

    @dg.asset(
        **declared.of_table(ORGANIZATION_ACCOUNTS, group="ingest", daily=daily),
        description=(
            "The accounts that AWS Organizations lists on the day, with state and tags: who is to "
            "be scored, and to which workload and environment each account belongs."
        ),
    )
    def organization_accounts(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
    ) -> dg.MaterializeResult:
        day, table = day_of(context), ORGANIZATION_ACCOUNTS
        with explained(RETRIES, attempt=context.retry_number):
            commit = lake.commit_of(table.name, day)
            if commit is None or not source.is_over(day):
                listed = source.accounts(day)
                details = {"incomplete": listed.incomplete} if listed.incomplete else {}
                if listed.unified_hub_since is not None:
                    details[snapshot.UNIFIED_HUB_SINCE] = listed.unified_hub_since.isoformat()
                commit = lake.replace(table, day, listed.accounts, details)
        rows = lake.read(table, day)
        return dg.MaterializeResult(
            metadata={
                **of_commit(table, commit, lake),
                "accounts_by_state": dict(rows["state"].value_counts().rows()),
                "incomplete": commit.details.get("incomplete", "no"),
            }
        )

    @dg.asset(
        **declared.of_table(LISTED_CONTROLS, group="ingest", daily=daily),
        description=(
            "The controls of standards and conformance packs, with title and severity, as AWS "
            "lists them on the day. What it cannot list withholds the reports of that standard or "
            "pack, and no others."
        ),
    )
    def listed_controls(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        day, table = day_of(context), LISTED_CONTROLS
        last_try = context.retry_number >= RETRIES.max_retries
        with explained(RETRIES, attempt=context.retry_number):
            commit = lake.commit_of(table.name, day)
            if commit is None or not source.is_over(day):
                found = source.controls(settings.reports, day, last_try=last_try)
                found = found.completed(snapshot.listing_of(lake, day))
                commit = lake.replace(table, day, found.controls, found.details())
        unlisted = snapshot.listing_of(lake, day).unlisted
        return dg.MaterializeResult(
            metadata={
                **of_commit(table, commit, lake),
                **{
                    f"unlisted/{report.name}": unlisted[report.definition].reason
                    for report in settings.reports
                    if report.definition in unlisted
                },
            }
        )

    @dg.asset(
        **declared.plain(RAW_FINDING_PAGES, group="ingest", daily=daily, kinds={"aws", "json"}),
        pool=COLLECTION_POOL,
        freshness_policy=freshness,
        description=(
            "Every Security Hub finding of the organization, as the pages that GetFindings "
            "returned: bytes as received, one page a line, 100 pages a file. Everything else is "
            "computed from these; a day that is over keeps its pages."
        ),
    )
    def raw_finding_pages(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        tell: dg.ResourceParam[Tell],
    ) -> dg.MaterializeResult:
        day = day_of(context)

        def report(line: str) -> None:
            context.log.info(line)
            tell(line)

        with explained(RETRIES, attempt=context.retry_number):
            commit = lake.commit_of(RAW_FINDING_PAGES, day)
            reused = commit is not None and source.is_over(day)
            if commit is None or not reused:
                commit = source.collect(lake, day, report)
        shards = commit.details["shards"].values()
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": lake.uri(RAW_FINDING_PAGES),
                "findings": commit.rows,
                "pages": sum(shard["pages"] for shard in shards),
                "files": commit.files,
                "collected_at": commit.details["collected_at"],
                "regions_left_out": commit.details.get("regions_left_out", []),
                "updates": commit.details.get("updates", 0),
                "unsettled_shards": commit.details.get("unsettled_shards", []),
                "requests": commit.details.get("requests", 0),
                "throttled": commit.details.get("throttled", 0),
                "reused": reused,
            }
        )

    return [organization_accounts, listed_controls, raw_finding_pages]
