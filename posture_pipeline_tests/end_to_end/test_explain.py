"""`posture explain` as people use it: a process, a lake, what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import ORGANIZATION_SCORES, SCORE_CHANGES, WORKLOAD_SCORES
from posture_pipeline_tests.commands import posture


@pytest.fixture(scope="module")
def moved(history: Path) -> dict[str, Any]:
    """A row of a workload whose score changed on one of the days."""
    lake = Lake(str(history / "lake"))
    days = lake.days(SCORE_CHANGES.name)[1:]
    rows = lake.read(SCORE_CHANGES, days).filter(
        pl.col("scope") == "workload", pl.col("part").abs() > 0.1
    )
    return rows.sort("part").row(0, named=True)


def _question(row: dict[str, Any], *more: str) -> list[str]:
    return [
        "explain", "--report", row["report"], "--workload", row["workload"],
        "--environment", row["environment"], "--from", str(row["compared_with"]),
        "--to", str(row["date"]), *more,
    ]  # fmt: skip


def test_a_change_is_told_with_its_scores_controls_and_resources(
    history: Path, moved: dict[str, Any]
) -> None:
    printed = posture(*_question(moved), cwd=history).stdout
    first = printed.splitlines()[0]
    assert first.startswith(f"{moved['report']}, {moved['workload']} {moved['environment']}: ")
    assert f"{moved['score_before']:.2f} on {moved['compared_with']}" in first
    assert f"{moved['score_after']:.2f} on {moved['date']}" in first
    assert f"{moved['part']:+.2f}  {moved['control_id']}" in printed
    assert "Like for like" in printed


def test_json_has_every_part_and_they_add_up(history: Path, moved: dict[str, Any]) -> None:
    told = json.loads(posture(*_question(moved, "--format", "json"), cwd=history).stdout)
    assert told["change"] == pytest.approx(moved["score_after"] - moved["score_before"])
    assert sum(row["part"] for row in told["controls"]) == pytest.approx(told["change"], abs=1e-9)
    assert sum(each["part"] for each in told["causes"]) == pytest.approx(told["change"], abs=1e-9)
    assert all(row["causes"] and row["evidence"] for row in told["controls"])
    assert told["claim"] is None


def test_a_claim_is_judged_in_a_sentence(history: Path, moved: dict[str, Any]) -> None:
    claim = moved["control_id"]
    asked = _question(moved, "--claim", claim.lower())
    sentence = posture(*asked, cwd=history).stdout.splitlines()[1]
    told = json.loads(posture(*asked, "--format", "json", cwd=history).stdout)
    assert sentence.startswith(f'"It is only lower because of {claim}" is ')
    words = {"true": "is true", "partly": "is only partly true", "false": "is false"}
    assert words[told["claim"]["answer"]] in sentence
    refused = posture(*_question(moved, "--claim", "Nothing.1"), cwd=history, expect=1)
    assert "Nothing.1" in refused.stderr


def test_without_days_the_newest_is_compared_with_the_one_before(history: Path) -> None:
    days = Lake(str(history / "lake")).days(ORGANIZATION_SCORES.name)
    asked = ("explain", "--report", "fsbp", "--organization", "--format", "json")
    told = json.loads(posture(*asked, cwd=history).stdout)
    assert (told["from"], told["to"]) == (str(days[-2]), str(days[-1]))


def test_markdown_escapes_what_other_people_named(history: Path, moved: dict[str, Any]) -> None:
    printed = posture(*_question(moved, "--format", "markdown"), cwd=history).stdout
    assert printed.startswith(f"## {moved['report']}, ")
    assert f"**{moved['control_id']}**" in printed.replace("\\", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--report", "fsbp"], "--organization"),
        (["--report", "fsbp", "--workload", "payments"], "--environment"),
        (["--report", "fsbp", "--workload", "none", "--environment", "test"], "there are: "),
        (["--report", "fsbp", "--account", "1"], "there are: "),
        (["--report", "none", "--organization"], "fsbp"),
        (["--report", "fsbp", "--organization", "--to", "2001-01-01"], "2001-01-01"),
        (["--report", "fsbp", "--organization", "--from", "2001-01-01"], "2001-01-01"),
    ],
)
def test_a_question_that_has_no_answer_is_refused_with_what_can_be_asked(
    history: Path, arguments: list[str], said: str
) -> None:
    assert said in posture("explain", *arguments, cwd=history, expect=1).stderr


def test_the_first_day_has_nothing_to_be_compared_with(history: Path) -> None:
    first = Lake(str(history / "lake")).days(WORKLOAD_SCORES.name)[0]
    asked = ("explain", "--report", "fsbp", "--organization", "--to", str(first))
    assert "first stored day" in posture(*asked, cwd=history, expect=1).stderr


def test_explaining_does_not_load_dagster(history: Path, moved: dict[str, Any]) -> None:
    program = (
        "import sys\n"
        "from posture_pipeline.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert 'dagster' not in sys.modules and 'boto3' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *_question(moved)],
        cwd=history,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
