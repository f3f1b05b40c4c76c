"""The benchmark on a small organization: it runs, and rivals have our scores. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posture_pipeline_tests.commands import environment

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 900
FINDINGS, ACCOUNTS, REPORTS = 2_000, 20, 3
MARKERS = (
    "Speed\n<!-- results of make bench: begin -->\nstale figures\n"
    "<!-- results of make bench: end -->\nEnd\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's own folder, its results, and a page that it wrote its tables into."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "page.md").write_text(MARKERS, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--sizes", f"{FINDINGS}x{ACCOUNTS}"),
            *("--cores", "1", "--repetitions", "1", "--steps", "boto3,scoring"),
            *("--folder", str(folder), "--json", str(folder / "results.json")),
            *("--docs", str(folder / "page.md")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_all_rivals_have_the_scores_of_the_pipeline(results: dict[str, Any]) -> None:
    (size,) = results["sizes"]
    assert size["scores_equal_to"] == ["duckdb", "boto3"]
    assert size["scores_compared"] == ACCOUNTS * REPORTS


def test_every_step_says_what_it_cost(results: dict[str, Any]) -> None:
    (size,) = results["sizes"]
    assert size["findings"] == FINDINGS
    runs = {run["step"]: run for run in size["runs"]}
    assert runs.keys() == {"whole", "duckdb", "floor", "boto3", "scoring"}
    for run in runs.values():
        assert run["result"]["findings"] == FINDINGS
        assert min(run["wall"], run["cpu"], run["megabytes"]) > 0
    assert {"merged_findings", "account_findings", "organization_scores"} <= runs["whole"][
        "result"
    ]["steps"].keys()
    assert runs["floor"]["result"]["steps"].keys() == {"read", "parse", "write twice", "score"}


def test_targets_and_tables_are_written(folder: Path, results: dict[str, Any]) -> None:
    targets = {each["target"] for each in results["targets"]}
    assert any("DuckDB script" in target for target in targets)
    assert any("posture --help" in target for target in targets)
    page = (folder / "page.md").read_text(encoding="utf-8")
    assert page.startswith("Speed\n")
    assert page.endswith("\nEnd\n")
    assert "stale figures" not in page
    assert all(target in page for target in targets)
