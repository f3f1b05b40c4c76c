"""Computing stored days again on several machines: which runs, in which order, by Dagster's queue.

A replay is a grid of runs: stages of assets by parts of the days. A run begins when its own stage
is done for the days before, and the stage before it for its own days. So each table is written in
the order in which one process writes it, and about as many runs go at once as there are stages.
What a run does stands in the assets, and who carries it out in the instance's dagster.yaml.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from posture_pipeline.automation import REPLAY_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.errors import InputError, SettingsError
from posture_pipeline.resources import Tell
from posture_pipeline.running import ReplayRun, RunFailedError, check_sentence
from posture_pipeline.settings import Settings

STAGES = (
    frozenset({"expected_controls", "finding_changes"}),
    frozenset({"control_status", "account_scores", "workload_scores", "organization_scores"}),
    frozenset({"score_changes", "reconciliation"}),
    frozenset({"exceptions", "remediation", "time_to_fix"}),
)
"""The assets of the first stages; the last one has those that are not named. They take about as
long as each other, since the slowest stage is the pace of all."""
AT_THE_END = frozenset({"posture_catalog"})
"""What is made once, of all days."""

REPLAY_TAG = "posture/replay"
"""Tag of the runs of one replay."""
CODE_LOCATION = "posture_pipeline"
"""The name of the code location in workspace.yaml."""
LOOK_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """A run of a replay.

    Attributes:
        assets: What it makes.
        days: For which days, that follow on each other.
        after: The places in the list of those that it waits for; all are before its own.
    """

    assets: frozenset[str]
    days: tuple[date, ...]
    after: frozenset[int]


def parts_of(
    stretches: Sequence[tuple[date, ...]], assets: Collection[str], days_each: int
) -> list[Part]:
    """The runs of a replay, in an order in which one machine could do them.

    Args:
        stretches: The days, as `lake.replay.replayable` gives them: each stretch waits for all of
            the one before.
        assets: What is computed again.
        days_each: Days of one run, at most.
    """
    rest = frozenset(assets) - AT_THE_END - frozenset().union(*STAGES)
    stages = [each & frozenset(assets) for each in (*STAGES, rest) if each & frozenset(assets)]
    parts: list[Part] = []
    row: list[int] = []
    for stretch in stretches:
        for first in range(0, len(stretch), days_each):
            days = stretch[first : first + days_each]
            before, row = row, []
            for stage, made in enumerate(stages):
                after = {row[-1]} if row else set()
                if first:
                    after.add(before[stage])
                elif before:
                    after.add(before[-1])
                parts.append(Part(made, days, frozenset(after)))
                row.append(len(parts) - 1)
        if last := AT_THE_END & frozenset(assets):
            parts.append(Part(last, stretch, frozenset({row[-1]})))
    return parts


def replay_by_queue(
    settings: Settings,
    stretches: Sequence[tuple[date, ...]],
    *,
    instance: dg.DagsterInstance,
    days_each: int,
    tell: Tell,
) -> list[ReplayRun]:
    """Computes days again by runs that the instance's daemon starts, and waits for them.

    Args:
        settings: What to score; the machines that carry out the runs must have the same.
        stretches: The days, as `lake.replay.replayable` gives them.
        instance: The instance; its daemon must be running.
        days_each: Days of one run, at most.
        tell: Takes lines of progress.

    Raises:
        SettingsError: A day lies before `start_date`, which the machines would not know.
        InputError: Another run works on these days.
        RunFailedError: A run failed for good; those that wait for it were not asked for.
    """
    days = [day for stretch in stretches for day in stretch]
    if days[0] < settings.start_date:
        message = (
            f"{days[0].isoformat()} lies before start_date ({settings.start_date.isoformat()}); "
            f"set start_date in the settings, here and on the machines that compute, or use --from."
        )
        raise SettingsError(message)
    _ensure_nobody_else(instance, days)
    runs = _Runs(settings, instance)
    parts = parts_of(stretches, runs.assets, days_each)
    going: dict[int, str] = {}
    done: dict[int, ReplayRun] = {}
    starts = "the daemon of the Dagster instance starts them"
    if not instance.get_daemon_heartbeats():
        starts = "they wait for a daemon of the Dagster instance, and there was none yet"
    tell(f"{len(parts)} runs in the queue: {starts}")
    while len(done) < len(parts):
        for number, part in enumerate(parts):
            if number not in going and number not in done and part.after <= done.keys():
                going[number] = runs.ask_for(part)
        time.sleep(LOOK_EVERY_SECONDS)
        for number, run_id in list(going.items()):
            going[number], status = runs.look(run_id)
            if status is dg.DagsterRunStatus.SUCCESS:
                done[number] = runs.ended(going.pop(number))
                tell(f"{_said(parts[number])} done, {len(done)} of {len(parts)} runs")
            elif status is not None:
                message = (
                    f"The run of {_said(parts[number])} ended with {status.value} (run "
                    f"{going[number]}). Look at it in the user interface, and replay again."
                )
                raise RunFailedError(message)
    return list(done.values())


class _Runs:
    """The runs of one replay on an instance."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.job = build_definitions(settings).resolve_job_def(REPLAY_JOB)
        self.keys = self.job.asset_layer.executable_asset_keys
        self.tags = {**self.job.tags, REPLAY_TAG: uuid.uuid4().hex}

    @property
    def assets(self) -> set[str]:
        return {key.path[-1] for key in self.keys}

    def ask_for(self, part: Part) -> str:
        """Puts a run into the queue; gives its id."""
        run = self.instance.create_run_for_job(
            self.job,
            asset_selection={key for key in self.keys if key.path[-1] in part.assets},
            tags={
                **self.tags,
                ASSET_PARTITION_RANGE_START_TAG: part.days[0].isoformat(),
                ASSET_PARTITION_RANGE_END_TAG: part.days[-1].isoformat(),
            },
            remote_job_origin=_remote_origin(),
            job_code_origin=_code_origin(),
        )
        # A queue only notes the run; the daemon has a workspace.
        self.instance.submit_run(run.run_id, None)  # type: ignore[arg-type]
        return run.run_id

    def look(self, run_id: str) -> tuple[str, dg.DagsterRunStatus | None]:
        """The run, or the one in its place; how it ended, null while it did not."""
        run = self.instance.get_run_by_id(run_id)
        if run is None:
            message = f"Run {run_id} was deleted while it was waited for; replay again."
            raise RunFailedError(message)
        if not run.is_finished:
            return run_id, None
        if again := run.tags.get(AUTO_RETRY_RUN_ID_TAG):
            return self.look(again)
        failed = run.status is dg.DagsterRunStatus.FAILURE
        if failed and self.instance.run_retries_enabled and WILL_RETRY_TAG not in run.tags:
            # Dagster notes that it failed, and whether it is tried again a moment later.
            return run_id, None
        will_be_retried = run.tags.get(WILL_RETRY_TAG) == "true"
        return run_id, None if will_be_retried else run.status

    def ended(self, run_id: str) -> ReplayRun:
        """A run that ended well, with the checks that failed in it."""
        events = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        evaluations = [
            event.dagster_event.asset_check_evaluation_data
            for event in events
            if event.dagster_event is not None
        ]
        return ReplayRun(
            run_id, tuple(check_sentence(each) for each in evaluations if not each.passed)
        )


def _ensure_nobody_else(instance: dg.DagsterInstance, days: Collection[date]) -> None:
    """The queue keeps apart runs of the same days, but not of days that overlap."""
    unfinished = dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)
    names = {day.isoformat() for day in days}
    for run in instance.get_runs(filters=unfinished):
        ranged = ASSET_PARTITION_RANGE_START_TAG in run.tags
        if ranged or run.tags.get(PARTITION_NAME_TAG) in names:
            message = (
                f"Run {run.run_id} ({run.job_name}) works on stored days and has not ended; wait "
                f"for it, or end it in the user interface."
            )
            raise InputError(message)


def _remote_origin() -> RemoteJobOrigin:
    """How the daemon finds the job, to start a run that was lost once more."""
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="posture_pipeline.definitions"
    )
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, CODE_LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), REPLAY_JOB)


def _code_origin() -> JobPythonOrigin:
    """How a machine finds the job: by its module, with the settings that the machine has."""
    pointer = ModuleCodePointer("posture_pipeline.definitions", "defs")
    return JobPythonOrigin(REPLAY_JOB, RepositoryPythonOrigin(sys.executable, pointer))


def _said(part: Part) -> str:
    days = sorted({part.days[0].isoformat(), part.days[-1].isoformat()})
    return f"{', '.join(sorted(part.assets))} of {' to '.join(days)}"
