"""Assets of the group history: the ledger of exceptions, and what they are worth.

The rules stand in `model/exceptions.py`, what is read in `lake/exceptions.py`.
"""

from datetime import date

import dagster as dg

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake.exceptions import ledger_of
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit, preview
from posture_pipeline.schemas import EXCEPTIONS, FINDING_CHANGES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings


def exceptions_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What was suppressed, by whom, until when, and how many points of the scores hang on it."""

    @dg.asset(
        **declared.of_table(EXCEPTIONS, group="history", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[WORKLOAD_SCORES.name, FINDING_CHANGES.name],
        description=(
            "Every suppressed problem that is open, and those that ended since the newest earlier "
            "day: since when, by whom, until when, and the points that the score would lose if the "
            "exceptions of its control in the workload ended."
        ),
    )
    @materialized_by_day
    def exceptions(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            ledger = ledger_of(lake, settings, day)
            details = {
                "compared_with": ledger.compared_with and ledger.compared_with.isoformat(),
                "entries": ledger.entries,
                "unused_entries": ledger.unused["line"].to_list(),
            }
            commit = lake.replace(EXCEPTIONS, day, ledger.rows, details)
        is_open = ledger.rows.filter("open").sort("points", descending=True, nulls_last=True)
        return dg.MaterializeResult(
            metadata={
                **of_commit(EXCEPTIONS, commit, lake),
                "open": is_open.height,
                "ended": ledger.rows.height - is_open.height,
                "without_agreed_end": is_open["until"].null_count(),
                "most_points": preview(
                    is_open.unique(
                        ["report", "workload", "environment", "control_id"], maintain_order=True
                    ),
                    ["report", "workload", "environment", "control_id", "points", "since", "until"],
                ),
            }
        )

    return [exceptions]
