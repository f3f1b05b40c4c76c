"""Running a step in a process of its own on given cores, and measuring all of that process.

Only the standard library: what this process has in memory would count for those it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_LOOKS = 0.02
"""How often memory is looked at while a process runs."""


class StepFailedError(Exception):
    """A step ended with an error; the text is what it said last."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step cost, from the start of its process to its end.

    Attributes:
        step: Its name.
        cores: On how many cores.
        wall: Seconds.
        cpu: Seconds of all its processes, in user and system mode.
        megabytes: The most memory that it and its children had at once.
        result: What it says itself: `seconds` of the work alone, `findings`, parts.
    """

    step: str
    cores: int
    wall: float
    cpu: float
    megabytes: float
    result: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self)


def measured(step: str, arguments: Sequence[str], cores: int) -> Measured:
    """Runs a step and measures it.

    Raises:
        StepFailedError: It failed.
    """
    command = [sys.executable, "-m", "bench.steps", step, *arguments, "--cores", str(cores)]
    return measured_command(step, command, cores)


def measured_command(step: str, command: Sequence[str], cores: int) -> Measured:
    """Runs any command and measures it; its last line of output may be JSON.

    Raises:
        StepFailedError: It failed.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    environment = {
        # Where it is set, Python compiles every module anew at each start.
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "POLARS_MAX_THREADS": str(cores),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONWARNINGS": "ignore",
    }
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own commands
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),  # noqa: PLW1509 - one thread so far
    )
    peak = _Peak(process.pid)
    output, errors = b"", b""
    readers = []
    assert process.stdout is not None
    assert process.stderr is not None
    said: dict[str, bytes] = {}
    for name, stream in (("output", process.stdout), ("errors", process.stderr)):
        reader = threading.Thread(target=lambda n=name, s=stream: said.update({n: s.read()}))
        reader.start()
        readers.append(reader)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join()
    output, errors = said["output"], said["errors"]
    bytes_at_once = peak.stop()
    if process.returncode:
        message = f"{step} on {cores} cores failed:\n{errors.decode(errors='replace')[-3000:]}"
        raise StepFailedError(message)
    result = {}
    with contextlib.suppress(ValueError, IndexError):
        last = json.loads(output.decode().strip().splitlines()[-1])
        result = last if isinstance(last, dict) else {}
    return Measured(
        step=step,
        cores=cores,
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        megabytes=max(usage.ru_maxrss * 1024, bytes_at_once) / 1e6,
        result=result,
    )


class _Peak:
    """Looks at the memory of a process and its children until told to stop.

    The system's own figure (`ru_maxrss`) is of the largest one process only.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes at once."""
        self._stop.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            self._most = max(self._most, sum(map(_resident, _family(self._pid))))


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError, ValueError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
    return 0
