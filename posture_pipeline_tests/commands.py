"""Running `posture` as people do: in a process of its own, with nothing of this environment's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LONGEST_SECONDS = 240


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without what steers AWS clients, Dagster or the pipeline."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "POSTURE_", "DAGSTER_"))
    }
    return {**kept, **(more or {})}


def posture(*arguments: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command and checks its exit code, and that no library complains to its user."""
    done = subprocess.run(
        [sys.executable, "-m", "posture_pipeline", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode == expect, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr
    return done
