"""Running the daily job from the command line, through Dagster, so that the UI shows the run.

What a run does stands in the assets; what is printed of it in `cli.py`.
"""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import PostureError, SettingsError

if TYPE_CHECKING:
    import dagster as dg

    from posture_pipeline.resources import SnapshotSource, Tell
    from posture_pipeline.settings import Settings

HOME_VARIABLE = "DAGSTER_HOME"

PROCESS_TAG = "posture/process"
"""Tag of runs of the command line: the process that they run in."""


class RunFailedError(PostureError):
    """A run of the daily job failed; the text says which steps and checks, and why."""


@dataclass(frozen=True, slots=True)
class DayRun:
    """A successful run of the daily job.

    Attributes:
        run_id: Dagster's id of the run.
        day: The partition.
        warnings: Checks that failed without stopping the run, each as a sentence.
    """

    run_id: str
    day: date
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """A successful run over days that were computed again.

    Attributes:
        run_id: Dagster's id of the run.
        warnings: Checks that failed without stopping the run, each as a sentence.
    """

    run_id: str
    warnings: tuple[str, ...]


def dagster_home(settings: Settings) -> Path:
    """Where runs and events are kept: DAGSTER_HOME, else `.dagster` in a local lake."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    if "://" in settings.lake:
        return Path(".dagster").resolve()
    return Path(settings.lake).expanduser().resolve() / ".dagster"


def prepare_home(settings: Settings) -> Path:
    """Makes the Dagster home, with our instance settings if it has none."""
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    instance_settings = home / "dagster.yaml"
    if not instance_settings.exists():
        shipped = files("posture_pipeline.instances").joinpath("local.yaml")
        instance_settings.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    return home


@contextmanager
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that the UI on the same home shows, for runs in this process.

    Runs that an earlier process of the command line left unfinished when it was killed are ended
    first: they would keep their place in a pool, and this process would wait for it for good.
    """
    from filelock import FileLock

    home = prepare_home(settings)
    locks = home / "command_line"
    locks.mkdir(exist_ok=True)
    with _kept_for_good():
        import dagster as dg

        import posture_pipeline.definitions  # noqa: F401 - what runs are made of

        opened = dg.DagsterInstance.from_config(str(home))
    with opened as instance:
        # The system lets go of the lock when the process ends, however it ends.
        with FileLock(locks / _process_token()):
            _end_dead_runs(instance, locks)
            yield instance
        (locks / _process_token()).unlink(missing_ok=True)


@contextmanager
def _kept_for_good() -> Iterator[None]:
    """What is imported and made within is never looked through for garbage, at the first time.

    It stays until the process ends: to look through it while it grows, again and again, and once
    more at the end, costs every run half a second.
    """
    if gc.get_freeze_count() or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        if "duckdb" not in sys.modules:
            # Its bindings print what they find left at the end.
            gc.freeze()
    finally:
        gc.enable()


@cache
def _process_token() -> str:
    """A name for this process that no other process had or has."""
    return uuid.uuid4().hex


def _end_dead_runs(instance: dg.DagsterInstance, locks: Path) -> None:
    """Records runs of killed processes as failed, and frees their places in pools."""
    import dagster as dg
    from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
    from filelock import FileLock, Timeout

    for run in instance.get_runs(filters=dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES)):
        token = run.tags.get(PROCESS_TAG)
        if token is None or token == _process_token():
            continue
        try:
            with FileLock(locks / token, blocking=False):
                pass
        except Timeout:
            continue
        instance.report_run_failed(run, "The process of this run was killed.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        (locks / token).unlink(missing_ok=True)


def _blocked_by(instance: dg.DagsterInstance) -> str | None:
    """The run that has the place in the collection's pool, if one has."""
    from posture_pipeline.assets.ingest import COLLECTION_POOL

    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return None
    claimed = storage.get_concurrency_info(COLLECTION_POOL).claimed_slots
    return claimed[0].run_id if claimed else None


def run_day(
    settings: Settings,
    day: date,
    *,
    instance: dg.DagsterInstance,
    tell: Tell,
    source: SnapshotSource | None = None,
) -> DayRun:
    """Materializes every asset of one day.

    Args:
        settings: What to collect, score and publish.
        day: The partition.
        instance: Where the run is recorded.
        tell: Takes lines of progress.
        source: Where the facts come from, instead of what the settings name.

    Raises:
        SettingsError: The day lies before `start_date`.
        RunFailedError: A step or a blocking check failed.
        KeyboardInterrupt: Ctrl-C; what was collected so far is kept for the next run.
    """
    from posture_pipeline.automation import DAILY_JOB
    from posture_pipeline.definitions import build_definitions

    if day < settings.start_date:
        message = (
            f"{day.isoformat()} lies before start_date ({settings.start_date.isoformat()}); "
            f"set start_date in the settings to that day or an earlier one."
        )
        raise SettingsError(message)
    resources: dict[str, Any] = {"tell": tell}
    if source is not None:
        resources["source"] = source
    job = build_definitions(settings, resources=resources).resolve_job_def(DAILY_JOB)
    if other := _blocked_by(instance):
        tell(f"waiting until run {other} has collected")
    result = job.execute_in_process(
        instance=instance,
        partition_key=day.isoformat(),
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={PROCESS_TAG: _process_token()},
    )
    if any(_was_interrupted(event) for event in result.all_events):
        raise KeyboardInterrupt
    evaluations = result.get_asset_check_evaluations()
    failed = [each for each in evaluations if not each.passed]
    if not result.success:
        raise RunFailedError(_failure_text(result, failed, day.isoformat()))
    return DayRun(result.run_id, day, tuple(check_sentence(each) for each in failed))


def replay_days(
    settings: Settings, days: Sequence[date], *, instance: dg.DagsterInstance, tell: Tell
) -> ReplayRun:
    """Computes days that follow on each other again from their stored findings, in one run.

    Args:
        settings: What to score.
        days: The partitions, oldest first.
        instance: Where the run is recorded.
        tell: Takes lines of progress.

    Raises:
        RunFailedError: A step or a blocking check failed; the text names the day.
        KeyboardInterrupt: Ctrl-C.
    """
    from dagster._core.storage.tags import (
        ASSET_PARTITION_RANGE_END_TAG,
        ASSET_PARTITION_RANGE_START_TAG,
    )

    from posture_pipeline.automation import REPLAY_JOB
    from posture_pipeline.definitions import build_definitions

    first, last = days[0].isoformat(), days[-1].isoformat()
    start = min(settings.start_date, days[0])
    definitions = build_definitions(
        settings.model_copy(update={"start_date": start}), resources={"tell": tell}
    )
    result = definitions.resolve_job_def(REPLAY_JOB).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            PROCESS_TAG: _process_token(),
            ASSET_PARTITION_RANGE_START_TAG: first,
            ASSET_PARTITION_RANGE_END_TAG: last,
        },
    )
    if any(_was_interrupted(event) for event in result.all_events):
        raise KeyboardInterrupt
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    if not result.success:
        raise RunFailedError(_failure_text(result, failed, f"{first} to {last}"))
    return ReplayRun(result.run_id, tuple(check_sentence(each) for each in failed))


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    from dagster._core.execution.plan.objects import ErrorSource

    return (
        event.event_type_value == "STEP_FAILURE"
        and event.step_failure_data.error_source == ErrorSource.INTERRUPT
    )


def _failure_text(
    result: dg.ExecuteInProcessResult, failed: list[dg.AssetCheckEvaluation], days: str
) -> str:
    from posture_pipeline.metadata import cause_of_failure

    parts = []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            parts.append(f"{event.step_key}: {cause_of_failure(event.step_failure_data)}")
    parts += [check_sentence(each) for each in failed]
    # A blocking check fails its step too; the check's own sentence says more.
    checks = {each.check_name for each in failed}
    kept = [part for part in parts if "blocking" not in part or not any(c in part for c in checks)]
    return f"The run of {days} failed. {' '.join(kept or parts)}"


def check_sentence(evaluation: dg.AssetCheckEvaluation) -> str:
    """What a failed check said, for a person."""
    facts = "; ".join(
        f"{name}: {_fact(value)}" for name, value in sorted(evaluation.metadata.items())
    )
    said = f": {evaluation.description}" if evaluation.description else "."
    return f"Check {evaluation.check_name} failed{said} ({facts})"


def _fact(value: Any) -> str:  # noqa: ANN401 - any Dagster MetadataValue
    text = str(value.value)
    return " / ".join(line for line in text.splitlines() if not set(line) <= set("|-"))
