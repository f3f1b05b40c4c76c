"""What Dagster loads: the graph, put together by one function; the only reader of the environment.

Nothing here reads the network or a file other than the settings.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from posture_pipeline.assets.dashboards import dashboards_assets
from posture_pipeline.assets.exceptions import exceptions_assets
from posture_pipeline.assets.findings import findings_assets
from posture_pipeline.assets.history import history_assets
from posture_pipeline.assets.ingest import ingest_assets
from posture_pipeline.assets.publish import publish_assets
from posture_pipeline.assets.reconcile import reconcile_assets
from posture_pipeline.assets.remediation import remediation_assets
from posture_pipeline.assets.report import report_assets
from posture_pipeline.assets.scores import scores_assets
from posture_pipeline.automation import daily_job, daily_schedule, replay_job
from posture_pipeline.checks import asset_checks
from posture_pipeline.lake.store import Lake
from posture_pipeline.partitions import daily_snapshots
from posture_pipeline.resources import source_of
from posture_pipeline.settings import Settings, find_settings, load_settings


def build_definitions(
    settings: Settings, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Puts the whole graph together.

    Args:
        settings: What to collect, score and publish.
        resources: Replaces resources by key: `lake`, `settings`, `source` (a `SnapshotSource`),
            `tell` (takes lines of progress).

    Returns:
        Assets, checks, the daily job with its schedule, and the job that computes days again.
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
    job = daily_job(daily)

    @dg.resource
    def source(_: dg.InitResourceContext):  # type: ignore[no-untyped-def]  # noqa: ANN202
        with source_of(settings) as made:
            yield made

    assets = [
        *ingest_assets(daily),
        *findings_assets(daily),
        *scores_assets(daily),
        *exceptions_assets(daily),
        *remediation_assets(daily),
        *history_assets(daily),
        *reconcile_assets(daily),
        *publish_assets(daily),
        *dashboards_assets(daily),
        *report_assets(daily),
    ]
    return dg.Definitions(
        assets=assets,
        asset_checks=asset_checks(daily),
        jobs=[job, replay_job(assets)],
        schedules=[daily_schedule(job, settings)],
        resources={
            "lake": dg.ResourceDefinition(lambda _: Lake(settings.lake)),
            "settings": dg.ResourceDefinition.hardcoded_resource(settings),
            "source": source,
            "tell": dg.ResourceDefinition(lambda _: lambda _line: None),
            **{
                key: dg.ResourceDefinition.hardcoded_resource(value)
                for key, value in resources.items()
            },
        },
    )


defs = build_definitions(load_settings(find_settings(os.environ)))
