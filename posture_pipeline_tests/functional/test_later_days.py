"""Days that are stored before others: the later ones compare with them, in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from polars.testing import assert_frame_equal

from posture_pipeline.cli import main
from posture_pipeline.commands import replay
from posture_pipeline.lake.doctor import Doctor
from posture_pipeline.lake.staleness import outdated_comparisons
from posture_pipeline.schemas import (
    CARRIED_FAILURES,
    EXCEPTIONS,
    FINDING_CHANGES,
    ORGANIZATION_SCORES,
    REMEDIATION,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Report, load_settings
from posture_pipeline_tests.saved_days import rule_finding, saved_days
from posture_pipeline_tests.simulated_days import SCORED

FIRST, SECOND, THIRD = (date(2026, 11, day) for day in (20, 21, 22))
HISTORY = (
    FINDING_CHANGES,
    CARRIED_FAILURES,
    SCORE_CHANGES,
    SCORE_CHANGE_CAUSES,
    EXCEPTIONS,
    REMEDIATION,
)
SUPPRESSED: dict[str, Any] = {
    "Workflow": {"Status": "SUPPRESSED"},
    "Note": {"Text": "accepted", "UpdatedBy": "me", "UpdatedAt": "2026-11-21T01:00:00Z"},
}
OLD = {"UpdatedAt": "2026-08-24T00:00:00Z"}
FINDINGS = {
    FIRST: [
        rule_finding("lz-a", "FAILED", "ages-out", **OLD),
        rule_finding("lz-a", "FAILED", "is-suppressed"),
        rule_finding("lz-b", "PASSED"),
    ],
    SECOND: [
        rule_finding("lz-a", "FAILED", "is-suppressed", **SUPPRESSED),
        rule_finding("lz-b", "FAILED"),
    ],
    THIRD: [
        rule_finding("lz-a", "FAILED", "is-suppressed", **SUPPRESSED),
        rule_finding("lz-b", "PASSED"),
    ],
}
SETTINGS = {
    "start_date": FIRST.isoformat(),
    "reports": [{"name": "rules", "custom_rules": ["lz-a", "lz-b"]}],
    "metrics": {"enabled": False},
}
SELECTION = [
    *SCORED,
    *(table.name for table in (SCORE_CHANGES, EXCEPTIONS, REMEDIATION)),
]
RULES = Report(name="rules", custom_rules=("lz-a", "lz-b"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_a_day_that_is_imported_between_two_is_what_the_later_one_compares_with(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In which order days are stored makes no difference in the end."""
    lakes = []
    for name, order in (("ordered", (FIRST, SECOND, THIRD)), ("gap", (FIRST, THIRD))):
        (tmp_path / name).mkdir()
        days = saved_days(tmp_path / name, instance, RULES, start_date=FIRST)
        for day in order:
            days.store(day, FINDINGS[day], selection=SELECTION)
        lakes.append(days.lake)
    wanted, lake = lakes
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps({"Findings": FINDINGS[SECOND]}), encoding="utf-8")
    config = tmp_path / "posture.yaml"
    config.write_text(json.dumps({**SETTINGS, "lake": str(lake.root)}), encoding="utf-8")

    # More later days than are computed again unasked: the command is named, in every place.
    monkeypatch.setattr(replay, "DAYS_AT_ONCE", 0)
    command = ["import", str(saved), "--date", SECOND.isoformat(), "--config", str(config)]
    assert main(command) == 0
    said = capsys.readouterr().out
    repair = f"posture replay --from {SECOND.isoformat()}"
    assert f"run {repair} to compute them again" in said
    assert f"older than the days that they compare; {repair} computes them again" in said
    since = f"{SECOND.isoformat()} was stored"
    assert outdated_comparisons(lake, [SECOND, THIRD]).rows() == [(THIRD, FIRST.isoformat(), since)]
    (problem,) = (
        each
        for each in Doctor(lake, now=datetime.now(UTC)).problems()
        if each.table == SCORE_CHANGES.name
    )
    assert (problem.day, problem.mend) == (THIRD, f"posture replay --from {THIRD.isoformat()}")
    assert problem.problem.endswith(f"since then {since}")

    # And few enough: they are computed again.
    monkeypatch.setattr(replay, "DAYS_AT_ONCE", 1)
    sentences = replay.update_later_days(load_settings(config), lake, SECOND)
    assert f"earlier state of the lake: {THIRD.isoformat()}." in sentences[-1]
    assert lake.read(CARRIED_FAILURES, THIRD)["carried_since"].to_list() == [SECOND]
    for day in (SECOND, THIRD):
        for table in HISTORY:
            assert_frame_equal(lake.read(table, day), wanted.read(table, day))
        for table in (WORKLOAD_SCORES, ORGANIZATION_SCORES):
            got, right = (each.read(table, day).drop("collected_at") for each in (lake, wanted))
            assert_frame_equal(got, right)
    assert outdated_comparisons(lake, [FIRST, SECOND, THIRD]).is_empty()
    assert replay.update_later_days(load_settings(config), lake, SECOND) == []
