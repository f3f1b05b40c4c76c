"""The launcher of deploy/dagster-celery.yaml: Dagster's own, which also sees that a worker is gone.

Nothing else of Celery is here; workers run the application of `dagster_celery.app`.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

ANSWER_SECONDS = 5.0
"""How long a worker may take to say what it works on; its main process does nothing else."""
ASKED = 3
"""A worker is gone when it left so many questions unanswered."""


class WatchfulCeleryRunLauncher(CeleryRunLauncher):
    """Starts runs as tasks of Celery, and asks the worker of a run whether it still has it.

    The result backend says STARTED of a task for good when its machine was lost, and Dagster's
    launcher takes that for a running worker: the run would go on until `dagster/max_runtime`, and
    nothing would start it again.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What the backend says, unless the worker does not know of it."""
        said = super().check_run_worker_health(run)
        if said.status is not WorkerStatus.RUNNING:
            return said
        task = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
        started = task.info
        if not isinstance(started, dict) or "hostname" not in started:
            return said  # it ended just now
        worker = started["hostname"]
        for _ in range(ASKED):
            asked = self.celery.control.inspect(destination=[worker], timeout=ANSWER_SECONDS)
            answer = asked.query_task(task.id)
            if answer and task.id in answer.get(worker, {}):
                return said
            if answer:
                return CheckRunHealthResult(
                    WorkerStatus.FAILED, f"Worker {worker} was started again and has no such task."
                )
        return CheckRunHealthResult(WorkerStatus.FAILED, f"Worker {worker} does not answer.")
