"""What the tests of the command line share: a history that several files of tests read."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from posture_pipeline.settings import DEMO_REPORTS
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import failures, simulated_days

FIRST = date(2026, 3, 2)
DAYS = 4


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings and a lake of four days of a small organization; only to be read."""
    folder = tmp_path_factory.mktemp("history")
    reports = [report.model_dump(mode="json", exclude_none=True) for report in DEMO_REPORTS]
    settings = {"lake": "./lake", "reports": reports}
    (folder / "posture.yaml").write_text(json.dumps(settings), encoding="utf-8")
    simulation = SimulationSettings(accounts=8, resources_per_account=20, rate_limit=None)
    with simulated_days(folder, simulation) as days:
        for number in range(DAYS):
            result = days.run(FIRST + timedelta(days=number))
            assert result.success, failures(result)
    return folder
