"""When a replay by the queue is refused or given up; its runs: end_to_end/test_two_workers.py."""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import pytest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.test_utils import create_run_for_test

from posture_pipeline import replay_queue
from posture_pipeline.automation import DAILY_JOB, REPLAY_JOB
from posture_pipeline.errors import InputError, SettingsError
from posture_pipeline.replay_queue import replay_by_queue
from posture_pipeline.running import RunFailedError
from posture_pipeline.settings import Settings

DAYS = (date(2026, 3, 2), date(2026, 3, 3))


def ask(instance: dg.DagsterInstance, settings: Settings | None = None) -> None:
    replay_by_queue(
        settings or Settings(), [DAYS], instance=instance, days_each=1, tell=lambda _: None
    )


@pytest.mark.parametrize(
    ("job", "tags"),
    [
        (DAILY_JOB, {PARTITION_NAME_TAG: DAYS[1].isoformat()}),
        (REPLAY_JOB, {ASSET_PARTITION_RANGE_START_TAG: "2026-01-01"}),
    ],
)
def test_a_replay_by_the_queue_is_refused_while_a_run_works_on_its_days(
    job: str, tags: dict[str, str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = create_run_for_test(instance, job, tags=tags, status=dg.DagsterRunStatus.STARTED)
        with pytest.raises(InputError, match=run.run_id):
            ask(instance)
        assert instance.get_runs_count() == 1


def test_days_before_the_first_partition_of_the_machines_are_refused() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(SettingsError, match="start_date"):
            ask(instance, Settings(start_date=DAYS[1]))
        assert instance.get_runs_count() == 0


def test_a_failed_run_is_waited_for_until_it_is_known_whether_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster notes the failure first and the retry a moment later."""
    asked: list[str] = []
    looks = 0
    with dg.DagsterInstance.ephemeral(settings={"run_retries": {"enabled": True}}) as instance:

        def fails_at_once(run_id: str, _: None) -> None:
            asked.append(run_id)
            failure = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, REPLAY_JOB)
            instance.run_storage.handle_run_event(run_id, failure, datetime.now(UTC))

        def a_moment_passes(_: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                for run_id in asked:
                    instance.add_run_tags(run_id, {WILL_RETRY_TAG: "false"})

        monkeypatch.setattr(instance, "submit_run", fails_at_once)
        monkeypatch.setattr(replay_queue.time, "sleep", a_moment_passes)
        with pytest.raises(RunFailedError, match=r"ended with FAILURE"):
            ask(instance)
    assert looks == 3
