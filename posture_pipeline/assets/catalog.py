"""The asset of the catalog that analysts ask, posture.duckdb."""

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.assets.day_by_day import ONE_RUN
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.partitions import days_of
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)

CATALOG_POOL = "catalog"
"""The catalog is one file: two runs that change it at once would lose each other's days."""


def catalog_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The catalog of all days."""

    @dg.asset(
        **declared.plain("posture_catalog", group="publish", daily=daily, kinds={"duckdb"}),
        backfill_policy=ONE_RUN,
        deps=[gate.NAME, *(table.name for table in _TABLES)],
        pool=CATALOG_POOL,
        description=(
            "posture.duckdb, for questions in SQL: every day's scores and control status in one "
            "small file, and views over the rest of the lake. It is swapped in whole, so readers "
            "are never locked out."
        ),
    )
    def posture_catalog(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.MaterializeResult:
        from posture_pipeline.lake.catalog.publish import publish_day, rebuild

        days = days_of(context)
        with explained():
            # One day is added to the file; for several it is quicker to rebuild it once.
            path = publish_day(lake, days[0]) if len(days) == 1 else rebuild(lake)
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": str(path),
                "size_mb": round(path.stat().st_size / 1e6, 3),
                "days": len(lake.days(ORGANIZATION_SCORES.name)),
            }
        )

    return [posture_catalog]


_TABLES = (CONTROL_STATUS, ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES, SCORE_CHANGES)
