"""The gate before everything that leaves the lake.

Dagster's blocking checks stop only what depends on the asset that they check. What is published
depends on this asset, and this asset on every table, so nothing is published until every table is
complete and every blocking check has passed. Nothing is computed here.
"""

from datetime import date

import dagster as dg

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.schemas import SCORE_TABLES

NAME = "ready_to_publish"

IN_THE_LAKE = ("posture_catalog", "posture_report", "workload_exports", "athena_manifests")
"""What is published in the lake or on disk. It can fail, and can be written again."""


def gate_assets(
    daily: dg.PartitionsDefinition[str], tables: list[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The gate.

    Args:
        daily: Its partitions.
        tables: The assets of every table; the gate waits for all of them and their checks.
    """

    @dg.asset(
        **declared.plain(NAME, group="publish", daily=daily, kinds={"gate"}),
        deps=[key for asset in tables for key in asset.keys],
        backfill_policy=ONE_RUN,
        description=(
            "Waits for every table and every blocking check of the day. Whatever leaves the lake "
            "depends on it, so a day that fails publishes nothing."
        ),
    )
    @materialized_by_day
    def ready_to_publish(day: date, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        with explained():
            rows = [lake.scan(table, day).select("score").collect() for table in SCORE_TABLES]
        return dg.MaterializeResult(
            metadata={
                "scores": sum(each.height for each in rows),
                "without_score": sum(each["score"].null_count() for each in rows),
            }
        )

    return [ready_to_publish]
