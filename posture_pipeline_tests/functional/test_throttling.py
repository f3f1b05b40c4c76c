"""Every call that a run makes may be throttled: it goes on, and says what it waits for."""

from __future__ import annotations

import logging
from datetime import date, timedelta
from pathlib import Path

import pytest

from posture_pipeline.settings import Alarms
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import failures, simulated_days

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 22)
ORGANIZATION = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
ASKING = [
    "organization_accounts",
    "listed_controls",
    "raw_finding_pages",
    "merged_findings",
    "account_findings",
]
"""The assets that ask AWS before scores are computed, and what they need."""


def test_a_run_survives_the_throttling_of_every_call_that_it_makes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with simulated_days(tmp_path, ORGANIZATION, alarms=Alarms(enabled=True)) as days:
        assert days.run(DAY, selection=ASKING).success
        calls = {(call["service"], call["operation"]) for call in days.server.calls()}
        others = sorted(each for each in calls if each[1] not in {"GetFindings", "DescribeHub"})
        assert len(others) >= 6
        days.server.inject(
            {
                "kind": "throttle",
                "service": service,
                "operation": operation,
                "code": "TooManyRequestsException",
                "times": 2,
            }
            for service, operation in others
        )
        with caplog.at_level(logging.WARNING, "posture_pipeline.aws.clients"):
            result = days.run(DAY + timedelta(days=1), selection=ASKING)
        assert result.success, failures(result)
        assert days.server.application.faults.remaining() == 0
        for _, operation in others:
            said = [each.message for each in caplog.records if f": {operation} (" in each.message]
            assert len(said) == 1, operation
            assert "too many requests; it is tried again" in said[0]
