"""Work shared among processes or threads, results in the order of the work.

Processes for work that holds the interpreter's lock, such as turning JSON into columns; threads for
work that does not, such as writing parquet. What the work is, is not decided here.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from typing import TypeVar

from posture_pipeline.errors import PostureError

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKERS_AT_MOST = 4
"""Workers at most: more would wait for the disk, and a process takes some 0.1 GB of memory."""

JOBS_OF_A_PROCESS = 2
"""Jobs that a process has at a time: the one it works on, and the next."""


def usable_cores() -> int:
    """How many workers are worth having."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, WORKERS_AT_MOST)


def usable_processes() -> int:
    """How many processes are worth having; 1 where this process may not start any."""
    return 1 if current_process().daemon else usable_cores()


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """The result of each job, in the order of the jobs.

    This process is one of the workers, which saves the start and the memory of another one: alone
    it does a job when its result is asked for, beside others whenever these have enough to do. Only
    a few jobs and results are in memory at a time.

    Args:
        work: A function of a module; it, the jobs and the results can be pickled.
        jobs: Taken one by one, as workers become free.
        workers: How many processes, this one among them.

    Raises:
        PostureError: A process was killed, most likely for its memory.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    # Not forked: threads of Polars and of the AWS client would be copied in the middle of anything.
    others = workers - 1
    pool = ProcessPoolExecutor(others, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield from _beside_others(pool, work, jobs, others * JOBS_OF_A_PROCESS)
    except BrokenProcessPool as error:
        message = (
            f"One of {workers} processes that work side by side was killed, most likely because "
            "memory ran out. Run the day again on a machine with more; with one core there are no "
            "such processes."
        )
        raise PostureError(message) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_order_by_threads(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[Result]:
    """The same, by threads of this process."""
    if workers == 1:
        yield from map(work, jobs)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from _in_order(pool, work, jobs, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: Executor, work: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        if len(waiting) > ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, job))
    while waiting:
        yield waiting.popleft().result()


def _beside_others(
    pool: Executor, work: Callable[[Job], Result], jobs: Iterable[Job], enough: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        if sum(not each.done() for each in waiting) < enough:
            waiting.append(pool.submit(work, job))
        else:
            waiting.append(Future())
            waiting[-1].set_result(work(job))
        while waiting and (waiting[0].done() or len(waiting) > 2 * enough):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin() -> None:
    """Makes a worker end with its parent, and leaves Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for its next job for good.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
