"""When a replay by the queue is refused; what it makes stands in end_to_end/test_two_workers.py."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG
from dagster._core.test_utils import create_run_for_test

from posture_pipeline.automation import DAILY_JOB, REPLAY_JOB
from posture_pipeline.errors import InputError, SettingsError
from posture_pipeline.replay_queue import replay_by_queue
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
