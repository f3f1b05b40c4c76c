"""Assets of the group history: why scores changed.

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
from posture_pipeline.schemas import (
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings


def history_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What changed since the day before."""

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

    return [score_changes]
