"""Running days of a simulated organization through the real job, for tests of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from posture_pipeline.automation import DAILY_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.lake.store import Lake
from posture_pipeline.opening import open_lake
from posture_pipeline.settings import DEMO_REPORTS, Aws, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings

SCORED = [
    "organization_accounts",
    "listed_controls",
    "raw_finding_pages",
    "merged_findings",
    "account_findings",
    "expected_controls",
    "finding_changes",
    "control_status",
    "account_scores",
    "workload_scores",
    "organization_scores",
]
"""The assets from a day's findings to its scores."""

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class SimulatedDays:
    """A simulated organization, a lake, and the job between them."""

    server: SimulationServer
    settings: Settings
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)

    def run(
        self,
        day: date,
        *,
        at: time = time(6),
        settings: Settings | None = None,
        resources: dict[str, Any] | None = None,
        selection: list[str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Runs the daily job of a day, with the organization's clock on that day."""
        self.server.set_clock(datetime.combine(day, at, tzinfo=UTC))
        return self.run_now(day, settings=settings, resources=resources, selection=selection)

    def run_now(
        self,
        day: date,
        *,
        settings: Settings | None = None,
        resources: dict[str, Any] | None = None,
        selection: list[str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Runs the daily job of a day, whatever the organization's clock says."""
        settings = settings or self.settings
        job = _job(settings.model_dump_json()) if resources is None else _built(settings, resources)
        return job.execute_in_process(
            instance=self.instance,
            partition_key=day.isoformat(),
            raise_on_error=False,
            run_config=QUIET,
            asset_selection=(
                None if selection is None else [dg.AssetKey(name) for name in selection]
            ),
        )


@lru_cache(maxsize=2)
def _job(settings: str) -> dg.JobDefinition:
    """The daily job, put together once for all days with these settings: that takes 0.6 s."""
    return _built(Settings.model_validate_json(settings), None)


def _built(settings: Settings, resources: dict[str, Any] | None) -> dg.JobDefinition:
    return build_definitions(settings, resources=resources).resolve_job_def(DAILY_JOB)


@contextmanager
def simulated_days(
    folder: Path, simulation: SimulationSettings, **settings: Any
) -> Iterator[SimulatedDays]:
    """A simulated organization at an endpoint, with an empty lake in the folder."""
    with serve(simulation) as server, dg.DagsterInstance.ephemeral() as instance:
        yield SimulatedDays(
            server,
            Settings(
                **{
                    "lake": str(folder / "lake"),
                    "aws": Aws(endpoint_url=server.url, requests_per_second=None),
                    "reports": DEMO_REPORTS,
                    **settings,
                }
            ),
            instance,
        )


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The failed steps of a run with what they say."""
    said = {}
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.step_failure_data
            user = data.user_failure_data
            said[str(event.step_key)] = str(
                user.description if user and user.description else data.error
            )
    return said


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    """The names of the assets that a run materialized."""
    return {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
