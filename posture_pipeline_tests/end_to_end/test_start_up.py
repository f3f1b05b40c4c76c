"""What commands load before they do anything. Libraries by name; no time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import ORGANIZATION_SCORES
from posture_pipeline_tests.commands import environment

HEAVY = {
    *("asyncio", "boto3", "botocore", "dagster", "duckdb", "flask", "jinja2", "moto", "numpy"),
    *("obstore", "polars", "pyarrow", "pydantic", "rich", "scipy", "sqlalchemy", "yaml"),
}
"""Libraries that take a tenth of a second or more to load, or bring such."""

SHOWS_SCORES = {"obstore", "polars", "pydantic", "rich", "yaml"}
"""Settings, the lake and a table cannot do without these."""

PROGRAM = """
import json, sys
from posture_pipeline.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print(json.dumps([code or 0, sorted(sys.modules)]))
"""


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """The heavy libraries that a successful command has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stdout
    return {name.partition(".")[0] for name in modules} & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["scores", "--help"], ["plan", "--help"]])
def test_help_loads_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    assert not loaded(*arguments, cwd=tmp_path)


def test_scores_loads_what_a_table_needs_and_nothing_more(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "report": ["fsbp"],
            "report_kind": ["standard"],
            "score": [90.0],
            "collected_at": [datetime(2026, 11, 22, 6, tzinfo=UTC)],
        }
    )
    Lake(str(tmp_path)).replace(ORGANIZATION_SCORES, date(2026, 11, 22), rows)
    command = ["scores", "--lake", str(tmp_path), "--scope", "organization"]
    assert loaded(*command, cwd=tmp_path) <= SHOWS_SCORES
