"""Thirteen simulated days, made once for all tests that look at a history."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from filelock import FileLock

from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import Table
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import (
    SCORED,
    SimulatedDays,
    failures,
    simulated_days,
)

ORGANIZATION = SimulationSettings(accounts=8, resources_per_account=6, rate_limit=None)
FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=number) for number in range(13)]
ASSETS = [*SCORED, "score_changes", "remediation", "time_to_fix"]


@dataclasses.dataclass
class Fortnight:
    """Thirteen days that ran well, and the organization that lived them."""

    run: SimulatedDays

    @property
    def lake(self) -> Lake:
        return self.run.lake

    @property
    def organization(self) -> SimulatedOrganization:
        return self.run.server.organization

    def read(self, table: Table, day: date) -> pl.DataFrame:
        return self.lake.read(table, day)

    def copied(self, folder: Path) -> Fortnight:
        """The same days in a lake of their own, to do something to."""
        lake = folder / "lake"
        shutil.copytree(self.lake.root, lake)
        settings = self.run.settings.model_copy(update={"lake": str(lake)})
        return Fortnight(dataclasses.replace(self.run, settings=settings))


@contextmanager
def fortnight(folder: Path) -> Iterator[Fortnight]:
    """The days, in a lake in the folder; several processes may ask for the same folder."""
    complete = folder / "complete"
    with simulated_days(folder, ORGANIZATION) as days:
        with FileLock(f"{folder}.lock"):
            if not complete.exists():
                for day in DAYS:
                    result = days.run(day, selection=ASSETS)
                    assert result.success, failures(result)
                publish.publish_day(days.lake, DAYS[-1])
                complete.touch()
        yield Fortnight(days)
