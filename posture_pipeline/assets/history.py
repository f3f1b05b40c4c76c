"""Assets of the group history: the catalog that analysts ask."""

import dagster as dg

from posture_pipeline.assets import declared
from posture_pipeline.lake.catalog.publish import publish_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.partitions import day_of
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)

CATALOG_POOL = "catalog"
"""The catalog is one file: two runs that change it at once would lose each other's days."""


def history_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The catalog; other history is made from the score tables by its own assets."""

    @dg.asset(
        **declared.plain("posture_catalog", group="history", daily=daily, kinds={"duckdb"}),
        deps=[table.name for table in _TABLES],
        pool=CATALOG_POOL,
        description=(
            "posture.duckdb: every day's scores, and control status as periods, in one small "
            "file. It is swapped in whole, so readers are never locked out."
        ),
    )
    def posture_catalog(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.MaterializeResult:
        with explained():
            path = publish_day(lake, day_of(context))
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": str(path),
                "size_mb": round(path.stat().st_size / 1e6, 3),
                "days": len(lake.days(ORGANIZATION_SCORES.name)),
            }
        )

    return [posture_catalog]


_TABLES = (CONTROL_STATUS, ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)
