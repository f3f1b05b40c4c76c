"""The asset of the manifests that Athena reads the lake by."""

from datetime import date

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake.athena import write_manifests
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.schemas import (
    AWS_COMPLIANCE,
    EXCEPTIONS,
    ORGANIZATION_SCORES,
    RECONCILIATION,
    SCORE_CHANGES,
    TIME_TO_FIX,
)


def athena_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What other engines read the lake by; nothing here is read again by the pipeline."""

    @dg.asset(
        **declared.plain("athena_manifests", group="publish", daily=daily, kinds={"athena"}),
        deps=[gate.NAME, *(table.name for table in _LAST_TABLES)],
        backfill_policy=ONE_RUN,
        description=(
            "athena/ in a lake on S3: for each table's day the files that count, where the tables "
            "of posture athena-ddl look for them."
        ),
    )
    @materialized_by_day
    def athena_manifests(day: date, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        if lake.is_local:
            skipped = "Athena reads buckets, and the lake is a folder"
            return dg.MaterializeResult(metadata={"manifests": 0, "skipped": skipped})
        with explained():
            return dg.MaterializeResult(metadata={"manifests": write_manifests(lake, [day])})

    return [athena_manifests]


_LAST_TABLES = (
    SCORE_CHANGES,
    EXCEPTIONS,
    TIME_TO_FIX,
    ORGANIZATION_SCORES,
    AWS_COMPLIANCE,
    RECONCILIATION,
)
"""Every other table is made before one of these."""
