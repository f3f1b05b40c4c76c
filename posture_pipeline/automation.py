"""When the pipeline runs by itself: the daily job and its schedule.

(No `from __future__ import annotations`: Dagster reads the annotation of `context`.)
"""

from collections.abc import Sequence
from datetime import UTC

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from posture_pipeline.settings import Settings

DAILY_JOB = "daily_posture"
REPLAY_JOB = "replay_posture"
LONGEST_RUN_SECONDS = 20 * 3600
"""A run still going after this long hangs; a million findings take one hour."""


def daily_job(daily: dg.PartitionsDefinition[str]) -> UnresolvedAssetJobDefinition:
    """The job that makes every asset of one day, in one process."""
    return dg.define_asset_job(
        DAILY_JOB,
        selection=dg.AssetSelection.all(),
        partitions_def=daily,
        # A step in a process of its own costs seconds; Polars uses the cores inside a step.
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(LONGEST_RUN_SECONDS)},
        description="Collects, scores and publishes the posture of one day.",
    )


def replay_job(assets: Sequence[dg.AssetsDefinition]) -> UnresolvedAssetJobDefinition:
    """The job that computes stored days again, a range of them in one run.

    It holds the assets that take a range of days; what collects and publishes takes one day.
    """
    again = [key for asset in assets for key in asset.keys if asset.backfill_policy is not None]
    return dg.define_asset_job(
        REPLAY_JOB,
        selection=dg.AssetSelection.assets(*again),
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(LONGEST_RUN_SECONDS)},
        description=(
            "Computes everything again that follows from the stored findings, for a range of days "
            "in one run. It asks AWS nothing and publishes nothing."
        ),
    )


def daily_schedule(job: UnresolvedAssetJobDefinition, settings: Settings) -> dg.ScheduleDefinition:
    """Asks for the snapshot of today (UTC) at the hour of the settings."""

    @dg.schedule(
        name="daily_posture_schedule",
        job=job,
        cron_schedule=settings.schedule.cron,
        execution_timezone=settings.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="One run a day, for the snapshot of the day (UTC) on which it starts.",
    )
    def daily_posture_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = context.scheduled_execution_time.astimezone(UTC).date().isoformat()
        return dg.RunRequest(run_key=day, partition_key=day)

    return daily_posture_schedule
