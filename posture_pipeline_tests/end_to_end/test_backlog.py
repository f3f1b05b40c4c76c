"""`posture backlog` as people use it: a process, a lake, what is printed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import WORKLOAD_SCORES
from posture_pipeline_tests.commands import posture


@pytest.fixture(scope="module")
def worst(history: Path) -> dict[str, Any]:
    """The lowest score of a workload on the demo's day."""
    lake = Lake(str(history / "lake"))
    rows = lake.read(WORKLOAD_SCORES, lake.days(WORKLOAD_SCORES.name)[-1])
    return rows.sort("score", nulls_last=True).row(0, named=True)


def _question(worst: dict[str, Any], *more: str) -> list[str]:
    return [
        "backlog", "--report", worst["report"], "--workload", worst["workload"],
        "--environment", worst["environment"], *more,
    ]  # fmt: skip


def test_the_path_to_a_target_is_told_with_what_to_fix(
    history: Path, worst: dict[str, Any]
) -> None:
    printed = posture(*_question(worst), cwd=history).stdout
    told = json.loads(posture(*_question(worst, "--format", "json"), cwd=history).stdout)
    assert printed.splitlines()[:2] == told["said"]
    assert f"{worst['score']:.2f} of 100" in printed
    assert printed.count("95 reached") == 1
    for row in told["controls"]:
        assert row["control_id"] in printed
        assert len(row["resources"]) == row["to_fix"]
        assert all(each["account_id"] and each["regions"] for each in row["resources"])
        assert row["resources"][0]["resource_id"] in printed
    reaching = told["controls"][told["controls_to_target"] - 1]
    assert reaching["reaches_target"]
    assert reaching["fixed_so_far"] == told["resources_to_target"]
    assert told["controls"][-1]["score_after"] == 100


def test_csv_has_a_row_for_each_control_and_says_the_rest_on_stderr(
    history: Path, worst: dict[str, Any]
) -> None:
    done = posture(*_question(worst, "--format", "csv"), cwd=history)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == worst["failed"] + worst["unknown"]
    assert {row["workload"] for row in rows} == {worst["workload"]}
    assert [len(row["resource_ids"].split()) for row in rows] == [int(r["to_fix"]) for r in rows]
    assert "The target 95 is reached with" in done.stderr


def test_a_target_that_is_reached_already_is_said_plainly(
    history: Path, worst: dict[str, Any]
) -> None:
    printed = posture(*_question(worst, "--target", "1"), cwd=history).stdout
    assert "The target 1 is reached already. What still costs points:" in printed
    account = json.loads(
        posture("scores", "--scope", "account", "--format", "json", cwd=history).stdout
    )[0]["account_id"]
    of_account = posture("backlog", "--report", "fsbp", "--account", account, cwd=history).stdout
    assert f"fsbp, account {account}, " in of_account


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--workload", "payments"], 1, "Name either"),
        (["--account", "1"], 1, "there are: "),
        (["--account", "1", "--target", "nan"], 2, "from 0 to 100"),
    ],
)
def test_bad_input_is_answered_in_one_paragraph(
    history: Path, arguments: list[str], code: int, said: str
) -> None:
    done = posture("backlog", "--report", "fsbp", *arguments, cwd=history, expect=code)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
