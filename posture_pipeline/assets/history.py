"""Assets of the group history: why scores changed, and the catalog that analysts ask.

The rules stand in `model/changes.py` and `model/causes.py`, what is read in `lake/explanation.py`.
"""

from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake import explanation
from posture_pipeline.lake.staleness import RUNS, runs_of
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit, preview
from posture_pipeline.partitions import days_of
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings

CATALOG_POOL = "catalog"
"""The catalog is one file: two runs that change it at once would lose each other's days."""


def history_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What changed since the day before, and the catalog of all days."""

    @dg.asset(
        **declared.of_table(SCORE_CHANGES, group="history", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[WORKLOAD_SCORES.name, ORGANIZATION_SCORES.name],
        description=(
            "Why each score moved since the newest earlier day: the points that each control "
            "added, which add up to the change exactly, and the cause. The causes, with their "
            "resources, are in score_change_causes."
        ),
    )
    @materialized_by_day
    def score_changes(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            before = explanation.earlier_day(lake, day)
            changes, causes = SCORE_CHANGES.empty(), SCORE_CHANGE_CAUSES.empty()
            if before is not None:
                found = explanation.explain(lake, settings.reports, before, day)
                changes, causes = found.changes, found.causes
            details = {
                "compared_with": before.isoformat() if before else None,
                RUNS: runs_of(lake, [before, day] if before else []),
            }
            stored = lake.replace(SCORE_CHANGE_CAUSES, day, causes, details)
            commit = lake.replace(SCORE_CHANGES, day, changes, details)
        movers = changes.filter(pl.col("scope") == "workload").sort(pl.col("part").abs() * -1)
        return dg.MaterializeResult(
            metadata={
                **of_commit(SCORE_CHANGES, commit, lake),
                "causes": stored.rows,
                "compared_with": details["compared_with"] or "no earlier day",
                "biggest_movers": preview(
                    movers,
                    ["report", "workload", "environment", "control_id", "part", "causes"],
                ),
            }
        )

    @dg.asset(
        **declared.plain("posture_catalog", group="history", daily=daily, kinds={"duckdb"}),
        backfill_policy=ONE_RUN,
        deps=[table.name for table in _TABLES],
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
            # One day is put into the file; for more it is quicker to build it anew, once.
            path = publish_day(lake, days[0]) if len(days) == 1 else rebuild(lake)
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": str(path),
                "size_mb": round(path.stat().st_size / 1e6, 3),
                "days": len(lake.days(ORGANIZATION_SCORES.name)),
            }
        )

    return [score_changes, posture_catalog]


_TABLES = (CONTROL_STATUS, ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES, SCORE_CHANGES)
