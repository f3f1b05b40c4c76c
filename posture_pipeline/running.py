"""Running the daily job from the command line, through Dagster, so that the UI shows the run.

What a run does stands in the assets; what is printed of it in `cli.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import PostureError, SettingsError

if TYPE_CHECKING:
    import dagster as dg

    from posture_pipeline.resources import SnapshotSource, Tell
    from posture_pipeline.settings import Settings

HOME_VARIABLE = "DAGSTER_HOME"


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
    """The Dagster instance that the UI on the same home shows."""
    import dagster as dg

    home = prepare_home(settings)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


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
    definitions = build_definitions(settings, resources=resources)
    result = definitions.resolve_job_def(DAILY_JOB).execute_in_process(
        instance=instance,
        partition_key=day.isoformat(),
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={"posture/started_by": "command line"},
    )
    evaluations = result.get_asset_check_evaluations()
    failed = [each for each in evaluations if not each.passed]
    if not result.success:
        raise RunFailedError(_failure_text(result, failed, day))
    return DayRun(result.run_id, day, tuple(_check_sentence(each) for each in failed))


def _failure_text(
    result: dg.ExecuteInProcessResult, failed: list[dg.AssetCheckEvaluation], day: date
) -> str:
    parts = []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            parts.append(f"{event.step_key}: {_cause(event.step_failure_data)}")
    parts += [_check_sentence(each) for each in failed]
    # A blocking check fails its step too; the check's own sentence says more.
    checks = {each.check_name for each in failed}
    kept = [part for part in parts if "blocking" not in part or not any(c in part for c in checks)]
    return f"The run of {day.isoformat()} failed. {' '.join(kept or parts)}"


def _cause(data: Any) -> str:  # noqa: ANN401 - Dagster's StepFailureData
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message).strip() if error is not None else "no reason was recorded."


def _check_sentence(evaluation: dg.AssetCheckEvaluation) -> str:
    facts = "; ".join(
        f"{name}: {_fact(value)}" for name, value in sorted(evaluation.metadata.items())
    )
    return f"Check {evaluation.check_name} failed ({facts})."


def _fact(value: Any) -> str:  # noqa: ANN401 - any Dagster MetadataValue
    text = str(value.value)
    return " / ".join(line for line in text.splitlines() if not set(line) <= set("|-"))
