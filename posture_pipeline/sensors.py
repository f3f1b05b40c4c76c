"""What is watched beside the schedule: failed runs, missed ticks, days without a snapshot.

(No `from __future__ import annotations`: Dagster reads the annotations.) What is said stands in
`alerting.py`; the times in `automation.py`.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)

from posture_pipeline import alerting
from posture_pipeline.automation import (
    DAILY_JOB,
    MISSED_AFTER,
    SCHEDULE,
    day_of_tick,
    deadline,
    last_tick,
)
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import cause_of_failure
from posture_pipeline.model.alerts import Message
from posture_pipeline.resources import Clock, sender_of
from posture_pipeline.schemas import ORGANIZATION_SCORES, RAW_FINDING_PAGES, TABLES
from posture_pipeline.settings import Settings

SECONDS_BETWEEN = 300
STEPS_SHOWN = 5
ERROR_LENGTH = 1000
"""Characters that are told of an error; the run's page has all."""


def all_sensors(job: UnresolvedAssetJobDefinition) -> list[dg.SensorDefinition]:
    """Every sensor of the pipeline; all of them are on."""
    return [_run_failed(), _missed_daily_run(job), _snapshot_is_due()]


def _run_failed() -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_failed",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells alerts.operations of every run that failed and is not tried again.",
    )
    def run_failed(
        context: dg.RunFailureSensorContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SkipReason:
        run = context.dagster_run
        if not settings.alerts.for_operations:
            return dg.SkipReason("alerts.operations and alerts.to name nobody")
        if run.tags.get(WILL_RETRY_TAG) == "true":
            return dg.SkipReason(f"Run {run.run_id} is tried again.")
        now = clock()
        message = Message(
            f"Security posture: the run of {_days_of(run)} failed",
            (
                f"Job {run.job_name}, run {run.run_id}.",
                *_failures(context),
                "What each failure means and what to do: docs/operations.md.",
            ),
            alerting.run_link(settings, run.run_id),
        )
        key = f"run {run.run_id} failed"
        notes = alerting.operations_notes(settings, now.date(), key, message, now)
        return _skip(alerting.deliver_anyway(lake, notes, sender_of(settings), now))

    return run_failed


def _missed_daily_run(job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    @dg.sensor(
        name="missed_daily_run",
        job=job,
        minimum_interval_seconds=SECONDS_BETWEEN,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Starts the daily run when its tick was missed and it is still the same day (UTC): "
            "nothing can be collected for a day that is over."
        ),
    )
    def missed_daily_run(
        context: dg.SensorEvaluationContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SkipReason | dg.RunRequest:
        now = clock()
        since = _watched_since(context, now)
        tick = last_tick(settings.schedule, now)
        day = day_of_tick(tick)
        if tick < since:
            return dg.SkipReason("There was no tick since this sensor was switched on.")
        if day != now.date():
            return dg.SkipReason("The day of the last tick is over.")
        if now - tick < MISSED_AFTER:
            return dg.SkipReason("The schedule's own run may still come.")
        if _schedule_is_off(context.instance):
            return dg.SkipReason(f"{SCHEDULE} is switched off.")
        if _runs_of(context.instance, day) or lake.commit_of(ORGANIZATION_SCORES.name, day):
            return dg.SkipReason(f"{day.isoformat()} has its run.")
        return dg.RunRequest(run_key=day.isoformat(), partition_key=day.isoformat())

    return missed_daily_run


def _snapshot_is_due() -> dg.SensorDefinition:
    @dg.sensor(
        name="snapshot_is_due",
        minimum_interval_seconds=SECONDS_BETWEEN,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells alerts.operations when a day has no scores at alerts.snapshot_by, and sends "
            "alerts again that no channel took."
        ),
    )
    def snapshot_is_due(
        context: dg.SensorEvaluationContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SkipReason:
        now = clock()
        since = _watched_since(context, now)
        tick = last_tick(settings.schedule, now)
        due = deadline(settings, tick)
        if now < due:
            # Of the day before it may be due only now: the next run may have ticked already.
            tick = last_tick(settings.schedule, tick - timedelta(minutes=1))
            due = deadline(settings, tick)
        day, send = day_of_tick(tick), sender_of(settings)
        notes = []
        is_due = since <= tick and due <= now
        if is_due and lake.commit_of(ORGANIZATION_SCORES.name, day) is None:
            message = _missing_snapshot(context.instance, lake, settings, day)
            key = f"no snapshot of {day.isoformat()}"
            notes = alerting.operations_notes(settings, day, key, message, now)
        again = alerting.deliver_again(
            lake, [now.date() - timedelta(days=1), now.date()], send, now
        )
        return _skip(again + alerting.deliver(lake, notes, send, now))

    return snapshot_is_due


# --- in words ---------------------------------------------------------------------------------


def _skip(delivery: alerting.Delivery) -> dg.SkipReason:
    """What the tick of a sensor says that asks for no run."""
    said = [f"Messages sent: {delivery.sent}."]
    return dg.SkipReason(" ".join([*said, *delivery.failed]))


def _failures(context: dg.RunFailureSensorContext) -> Sequence[str]:
    """Which steps failed and why; of a run without such a step what Dagster says."""
    events = context.get_step_failure_events()
    if not events:
        return [_first(context.failure_event.message or "Dagster says no reason.")]
    said = [
        f"{event.step_key}: {_first(cause_of_failure(event.step_failure_data))}"
        for event in events[:STEPS_SHOWN]
    ]
    more = len(events) - STEPS_SHOWN
    return [*said, *([f"And {more} more steps."] if more > 0 else [])]


def _first(text: str) -> str:
    """The first line of an error; ours have one, which says place and fix."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= ERROR_LENGTH else f"{line[:ERROR_LENGTH]}..."


def _days_of(run: dg.DagsterRun) -> str:
    if PARTITION_NAME_TAG in run.tags:
        return run.tags[PARTITION_NAME_TAG]
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    return f"{first} to {last}" if first and last else run.job_name


def _missing_snapshot(
    instance: dg.DagsterInstance, lake: Lake, settings: Settings, day: date
) -> Message:
    by = f"{settings.alerts.snapshot_by:%H:%M} {settings.schedule.timezone}"
    runs = _runs_of(instance, day)
    if runs:
        state = f"Its last run, {runs[0].run_id}, is {runs[0].status.value.lower()}."
    elif _schedule_is_off(instance):
        state = f"No run was started: {SCHEDULE} is switched off."
    else:
        state = "No run was started. Does the daemon run, and does it reach the code?"
    names = [RAW_FINDING_PAGES, *(table.name for table in TABLES)]
    stored = [name for name in names if lake.commit_of(name, day) is not None]
    return Message(
        f"Security posture: no snapshot of {day.isoformat()} by {by}",
        (
            state,
            f"Stored so far: {', '.join(stored)}." if stored else "Nothing of the day is stored.",
            f"Nothing can be collected after the end of {day.isoformat()} (UTC). Start the job "
            f"{DAILY_JOB} for it, or: posture run --date {day.isoformat()}",
        ),
        alerting.run_link(settings, runs[0].run_id) if runs else None,
    )


# --- what Dagster knows -----------------------------------------------------------------------


def _watched_since(context: dg.SensorEvaluationContext, now: datetime) -> datetime:
    """When this sensor was first evaluated: ticks before that are not its business."""
    if context.cursor is None:
        context.update_cursor(now.isoformat())
        return now
    return datetime.fromisoformat(context.cursor).astimezone(UTC)


def _runs_of(instance: dg.DagsterInstance, day: date) -> Sequence[dg.DagsterRun]:
    """The daily runs of a day, the newest first."""
    tags = {PARTITION_NAME_TAG: day.isoformat()}
    return instance.get_runs(filters=dg.RunsFilter(job_name=DAILY_JOB, tags=tags))


def _schedule_is_off(instance: dg.DagsterInstance) -> bool:
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    return any(
        state.instigator_name == SCHEDULE and state.status == InstigatorStatus.STOPPED
        for state in states
    )
