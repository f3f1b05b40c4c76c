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
from posture_pipeline_tests.rows import complete

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


BEGINS_A_RUN = """
import gc, json, sys
from posture_pipeline.running import dagster_instance
from posture_pipeline.settings import Settings
with dagster_instance(Settings(lake=sys.argv[1])):
    # Frozen, looked through, collecting, loaded.
    facts = gc.get_freeze_count(), len(gc.get_objects()), gc.isenabled(), sorted(sys.modules)
print(json.dumps(facts))
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
    Lake(str(tmp_path)).replace(
        ORGANIZATION_SCORES, date(2026, 11, 22), complete(ORGANIZATION_SCORES, rows)
    )
    command = ["scores", "--lake", str(tmp_path), "--scope", "organization"]
    assert loaded(*command, cwd=tmp_path) <= SHOWS_SCORES


def test_a_run_keeps_what_it_is_made_of_out_of_the_garbage_collectors_sight(tmp_path: Path) -> None:
    """Except for DuckDB, whose bindings print complaints at the end when that is done to them."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINS_A_RUN, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    frozen, looked_through, collects, modules = json.loads(done.stdout)
    assert frozen > 10 * looked_through
    assert collects
    assert "duckdb" not in modules
    assert done.stderr == ""
