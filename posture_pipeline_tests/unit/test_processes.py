"""Work shared among processes and threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posture_pipeline.errors import PostureError
from posture_pipeline.lake.processes import (
    WORKERS_AT_MOST,
    in_order,
    in_order_by_threads,
    usable_cores,
    usable_processes,
)

Shared = Callable[[Callable[[int], Any], Iterable[int], int], Iterator[Any]]

JOBS = 40
SECONDS_UNTIL_IT_HANGS = 120


def process_of(job: int) -> tuple[int, int]:
    return job, os.getpid()


def fails_on_three(job: int) -> int:
    if job == 3:
        message = "three"
        raise ValueError(message)
    return job


def is_killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    found = list(in_order(process_of, range(JOBS), workers))
    assert [job for job, _ in found] == list(range(JOBS))
    elsewhere = {process for _, process in found} - {os.getpid()}
    assert len(elsewhere) <= workers
    assert bool(elsewhere) == (workers > 1), "one worker needs no other process"


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_are_of_this_process_and_keep_the_order_too(workers: int) -> None:
    found = list(in_order_by_threads(process_of, range(JOBS), workers))
    assert found == [(job, os.getpid()) for job in range(JOBS)]


def test_threads_work_side_by_side() -> None:
    """Each of two jobs waits for the other one."""
    both = threading.Barrier(2, timeout=SECONDS_UNTIL_IT_HANGS)
    assert sorted(in_order_by_threads(lambda _: both.wait(), range(2), 2)) == [0, 1]


@pytest.mark.parametrize("shared", [in_order, in_order_by_threads])
@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_taken_as_they_are_needed(workers: int, shared: Shared) -> None:
    """So that few of them are in memory."""
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(JOBS):
            taken.append(job)
            yield job

    results = shared(process_of, jobs(), workers)
    next(results)
    assert len(taken) < JOBS / 2
    assert len(list(results)) == JOBS - 1


@pytest.mark.parametrize("shared", [in_order, in_order_by_threads])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_the_error_here(workers: int, shared: Shared) -> None:
    with pytest.raises(ValueError, match="three"):
        list(shared(fails_on_three, range(JOBS), workers))


def test_a_worker_that_is_killed_is_said_so() -> None:
    with pytest.raises(PostureError, match="memory ran out"):
        list(in_order(is_killed, range(2), 2))


def test_there_are_some_workers_and_not_too_many() -> None:
    assert 1 <= usable_processes() <= usable_cores() <= WORKERS_AT_MOST


PARENT = """
import os, signal
from posture_pipeline.lake.processes import in_order
from posture_pipeline_tests.unit.test_processes import process_of
if __name__ == "__main__":
    results = in_order(process_of, range(40), 2)
    print(next(results)[1], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_their_parent_was_killed(tmp_path: Path) -> None:
    """Standard output is theirs too: it is at its end when the last of them has ended."""
    program = tmp_path / "parent.py"
    program.write_text(PARENT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        said, _ = parent.communicate(timeout=SECONDS_UNTIL_IT_HANGS)
    assert parent.returncode == -signal.SIGKILL
    assert int(said) != parent.pid, "a worker had begun"
