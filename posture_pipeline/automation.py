"""When the pipeline runs by itself: the daily job and its schedule.

(No `from __future__ import annotations`: Dagster reads the annotation of `context`.)
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._utils.schedules import get_latest_completed_cron_tick

from posture_pipeline.resources import Clock
from posture_pipeline.settings import Schedule, Settings

DAILY_JOB = "daily_posture"
REPLAY_JOB = "replay_posture"
SCHEDULE = "daily_posture_schedule"
LONGEST_RUN_SECONDS = 20 * 3600
"""A run still going after this long hangs; a million findings take one hour."""
ON_TIME = timedelta(minutes=10)
"""A tick that is evaluated later than this was missed."""
MISSED_AFTER = timedelta(minutes=20)
"""After so long without a run a tick was missed; longer than `ON_TIME`, so that no day has two."""
LONGEST_FRESHNESS = timedelta(hours=22)


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
        name=SCHEDULE,
        job=job,
        cron_schedule=settings.schedule.cron,
        execution_timezone=settings.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "One run a day, for the snapshot of the day (UTC) on which it starts. A missed tick is "
            "made up for by the sensor missed_daily_run, on the same day only."
        ),
    )
    def daily_posture_schedule(
        context: dg.ScheduleEvaluationContext, clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time
        # A daemon that was down asks for the newest missed tick, however old it is.
        if clock() - tick > ON_TIME or clock().date() != day_of_tick(tick):
            return dg.SkipReason("The tick was missed; missed_daily_run sees to its day.")
        day = day_of_tick(tick).isoformat()
        return dg.RunRequest(run_key=day, partition_key=day)

    return daily_posture_schedule


def maintenance_schedule(job: dg.JobDefinition, settings: Settings) -> dg.ScheduleDefinition:
    """Maintains the lake, weekly if the settings say nothing else."""
    return dg.ScheduleDefinition(
        name="maintenance_schedule",
        job=job,
        cron_schedule=settings.maintenance.cron,
        execution_timezone=settings.maintenance.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Retention of findings, compaction of past months, and a check of the lake.",
    )


# --- times ------------------------------------------------------------------------------------


def last_tick(schedule: Schedule, now: datetime) -> datetime:
    """The newest tick of the schedule up to now, as Dagster counts them."""
    tick = get_latest_completed_cron_tick(schedule.cron, now, schedule.timezone)
    # Times in an hour that is there twice are equal to nothing in another zone.
    return tick.astimezone(UTC)


def day_of_tick(tick: datetime) -> date:
    """The day of the snapshot that a tick asks for: the UTC day on which it falls."""
    return tick.astimezone(UTC).date()


def deadline(settings: Settings, tick: datetime) -> datetime:
    """When the scores that a tick asks for must be there."""
    local = tick.astimezone(ZoneInfo(settings.schedule.timezone))
    later = settings.alerts.snapshot_by > local.time()
    day = local.date() + timedelta(days=0 if later else 1)
    due = datetime.combine(day, settings.alerts.snapshot_by, tzinfo=local.tzinfo)
    return due.astimezone(UTC)


def snapshot_freshness(settings: Settings) -> dg.FreshnessPolicy | None:
    """What the UI shows of a snapshot that is not there in time.

    Null where a cron expression cannot say it: the deadline is on the next day, and not every day
    has a run. Dagster shows it and tells nobody; the sensor snapshot_is_due does.
    """
    minute, hour, *days = settings.schedule.cron.split()
    by = settings.alerts.snapshot_by
    minutes = (by.hour - int(hour)) * 60 + by.minute - int(minute)
    if minutes <= 0:
        if days != ["*"] * len(days):
            return None
        minutes += 24 * 60
    return dg.FreshnessPolicy.cron(
        deadline_cron=" ".join([str(by.minute), str(by.hour), *days]),
        # An hour more for a clock that is put forward or back; Dagster takes less than a day.
        lower_bound_delta=min(timedelta(minutes=minutes + 60), LONGEST_FRESHNESS),
        timezone=settings.schedule.timezone,
    )
