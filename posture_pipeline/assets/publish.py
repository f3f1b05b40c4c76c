"""Assets of the group publish: what leaves the lake."""

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.model.metrics import metric_data
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import SnapshotSource
from posture_pipeline.schemas import ORGANIZATION_SCORES, SCORE_CHANGES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings

NOTES_SHOWN = 20

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For what passes by itself; publishing again is the same points."""


def publish_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What is published; nothing here is read again by the pipeline."""

    @dg.asset(
        **declared.plain("cloudwatch_metrics", group="publish", daily=daily, kinds={"cloudwatch"}),
        deps=[
            gate.NAME,
            *gate.IN_THE_LAKE,
            WORKLOAD_SCORES.name,
            ORGANIZATION_SCORES.name,
            SCORE_CHANGES.name,
        ],
        description=(
            "CloudWatch metrics Score, Controls, FailedControls and Findings by Report, Workload "
            "and Environment, and of the organization by Report, at the time the snapshot was "
            "collected."
        ),
    )
    def cloudwatch_metrics(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        if not settings.metrics.enabled:
            return dg.MaterializeResult(metadata={"sent": 0, "skipped": "metrics.enabled is off"})
        with explained(RETRIES, attempt=context.retry_number):
            day = day_of(context)
            prepared = metric_data(
                lake.read(WORKLOAD_SCORES, day), lake.read(ORGANIZATION_SCORES, day)
            )
            published = source.publish(prepared.data)
        if published is None:
            return dg.MaterializeResult(
                metadata={"sent": 0, "skipped": "imported findings are not published"}
            )
        return dg.MaterializeResult(
            metadata={
                "namespace": settings.metrics.namespace,
                "sent": published.sent,
                "requests": published.requests,
                "skipped": published.note or "nothing",
                "notes": list(prepared.notes[:NOTES_SHOWN]),
                "notes_in_all": len(prepared.notes),
            }
        )

    return [cloudwatch_metrics]
