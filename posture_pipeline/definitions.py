"""What Dagster loads: the graph, put together by one function; the only reader of the environment.

Nothing here reads the network or a file other than the settings.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from posture_pipeline.assets.alerts import alerts_assets
from posture_pipeline.assets.athena import athena_assets
from posture_pipeline.assets.catalog import catalog_assets
from posture_pipeline.assets.dashboards import dashboards_assets
from posture_pipeline.assets.day_summary import day_summary_assets
from posture_pipeline.assets.declared import with_links
from posture_pipeline.assets.exceptions import exceptions_assets
from posture_pipeline.assets.exports import exports_assets
from posture_pipeline.assets.findings import findings_assets
from posture_pipeline.assets.gate import gate_assets
from posture_pipeline.assets.history import history_assets
from posture_pipeline.assets.ingest import ingest_assets
from posture_pipeline.assets.maintenance import maintenance_job
from posture_pipeline.assets.publish import publish_assets
from posture_pipeline.assets.reconcile import reconcile_assets
from posture_pipeline.assets.remediation import remediation_assets
from posture_pipeline.assets.report import report_assets
from posture_pipeline.assets.scores import scores_assets
from posture_pipeline.automation import (
    daily_job,
    daily_schedule,
    maintenance_schedule,
    replay_job,
    snapshot_freshness,
)
from posture_pipeline.checks import asset_checks
from posture_pipeline.links import links_of
from posture_pipeline.opening import open_lake
from posture_pipeline.partitions import daily_snapshots
from posture_pipeline.resources import source_of
from posture_pipeline.sensors import all_sensors
from posture_pipeline.settings import LAKE_VARIABLE, Settings, find_settings, load_settings


def build_definitions(
    settings: Settings, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Puts the whole graph together.

    Args:
        settings: What to collect, score and publish.
        resources: Replaces resources by key: `lake`, `settings`, `source` (a `SnapshotSource`),
            `tell` (takes lines of progress), `clock` (says what time it is, UTC).

    Returns:
        Assets, checks, the daily job with its schedule and sensors, the job that computes days
        again, and the one that maintains the lake.
    """
    with warnings.catch_warnings():
        # Backfill policies are a beta of Dagster, and the daily job holds assets with and without
        # one (it then runs a day at a time): both are meant.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.filterwarnings("ignore", "Asset job .* varying BackfillPolicies")
        definitions = _definitions(settings, resources or {})
        # Jobs are put together when they are first asked for; here nobody hears the warnings.
        definitions.get_repository_def().get_all_jobs()
    return definitions


def _definitions(settings: Settings, resources: Mapping[str, Any]) -> dg.Definitions:
    daily = daily_snapshots(settings.start_date)
    job, maintenance = daily_job(daily), maintenance_job()

    @dg.resource
    def source(_: dg.InitResourceContext):  # type: ignore[no-untyped-def]  # noqa: ANN202
        with source_of(settings) as made:
            yield made

    tables = [
        *ingest_assets(daily, snapshot_freshness(settings)),
        *findings_assets(daily),
        *scores_assets(daily),
        *exceptions_assets(daily),
        *remediation_assets(daily),
        *history_assets(daily),
        *reconcile_assets(daily),
    ]
    assets = [
        *tables,
        *gate_assets(daily, tables),
        *catalog_assets(daily),
        *publish_assets(daily),
        *dashboards_assets(daily),
        *alerts_assets(daily),
        *report_assets(daily),
        *exports_assets(daily),
        *athena_assets(daily),
        *day_summary_assets(daily),
    ]
    assets = with_links(assets, links_of(settings))
    return dg.Definitions(
        assets=assets,
        asset_checks=asset_checks(daily),
        jobs=[job, replay_job(assets), maintenance],
        schedules=[daily_schedule(job, settings), maintenance_schedule(maintenance, settings)],
        sensors=all_sensors(job),
        # Also of what the UI starts by itself: a step in a process of its own costs seconds.
        executor=dg.in_process_executor,
        resources={
            "lake": dg.ResourceDefinition(lambda _: open_lake(settings)),
            "settings": dg.ResourceDefinition.hardcoded_resource(settings),
            "source": source,
            "tell": dg.ResourceDefinition(lambda _: lambda _line: None),
            "clock": dg.ResourceDefinition(lambda _: lambda: datetime.now(UTC)),
            **{
                key: dg.ResourceDefinition.hardcoded_resource(value)
                for key, value in resources.items()
            },
        },
    )


def _settings() -> Settings:
    settings = load_settings(find_settings(os.environ))
    lake = os.environ.get(LAKE_VARIABLE)
    return settings.model_copy(update={"lake": lake}) if lake else settings


defs = build_definitions(_settings())
