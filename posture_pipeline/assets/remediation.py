"""Assets of the group history: how long failures last, one by one and in the median.

The rules stand in `model/remediation.py`, what is read in `lake/remediation.py`.
"""

from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake.remediation import episodes_of, known_episodes
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit, preview
from posture_pipeline.model import remediation as rules
from posture_pipeline.schemas import ACCOUNT_SCORES, FINDING_CHANGES, REMEDIATION, TIME_TO_FIX
from posture_pipeline.settings import Settings


def remediation_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The failures that are open, the ones that were closed, and the time between."""

    @dg.asset(
        **declared.of_table(REMEDIATION, group="history", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[FINDING_CHANGES.name, ACCOUNT_SCORES.name],
        description=(
            "Every failure of a control on a resource that is open, and those closed since the "
            "newest earlier day: since when, why it was closed, and whether that was a remedy. "
            "What is silent or only suppressed is not taken for fixed."
        ),
    )
    @materialized_by_day
    def remediation(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            rows = episodes_of(lake, settings.reports, day)
            commit = lake.replace(REMEDIATION, day, rows)
        is_open = rows.filter(pl.col("closed_on").is_null()).sort("opened_at")
        return dg.MaterializeResult(
            metadata={
                **of_commit(REMEDIATION, commit, lake),
                "open": is_open.height,
                "closed": rows.height - is_open.height,
                "remedied": int(rows["remedied"].sum()),
                "flapping": int(is_open["flapping"].sum()),
                "oldest": preview(
                    is_open, ["report", "workload", "environment", "control_id", "severity", "days"]
                ),
            }
        )

    @dg.asset(
        **declared.of_table(TIME_TO_FIX, group="history", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[remediation],
        description=(
            "The median time from the beginning of a failure to its remedy, with its 95 % "
            "confidence interval, by report, severity, workload and environment. Failures that "
            "are still open count (Kaplan-Meier); without them only the quick ones would."
        ),
    )
    @materialized_by_day
    def time_to_fix(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            rows = rules.time_to_fix(known_episodes(lake, settings.reports, day))
            commit = lake.replace(TIME_TO_FIX, day, rows)
        overall = rows.filter(pl.col("workload").is_null())
        return dg.MaterializeResult(
            metadata={
                **of_commit(TIME_TO_FIX, commit, lake),
                "median_days": preview(
                    overall,
                    [
                        "report",
                        "severity",
                        "failures",
                        "remedied_failures",
                        "open_failures",
                        "median_days",
                    ],
                ),
            }
        )

    return [remediation, time_to_fix]
