"""The asset that keeps CloudWatch dashboards and alarms up to date.

Which there should be stands in `model/dashboards.py`, what is done about it in `aws/dashboards.py`.
"""

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.errors import PermissionMissingError
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.model.dashboards import enabled, wanted
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import SnapshotSource
from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings

NAME = "cloudwatch_dashboards"
CHECK = "dashboards_are_up_to_date"

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For what passes by itself; what was put stays put."""


def dashboards_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The dashboards and alarms of the newest day."""

    @dg.asset(
        **declared.plain(NAME, group="publish", daily=daily, kinds={"cloudwatch"}),
        deps=[gate.NAME, *gate.IN_THE_LAKE, WORKLOAD_SCORES.name, ORGANIZATION_SCORES.name],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=NAME,
                description="CloudWatch has every dashboard and alarm as it should be.",
            )
        ],
        description=(
            "A CloudWatch dashboard for the organization and for each workload, and, where the "
            "settings enable them, alarms. Only those that changed are put, and only those that "
            "this pipeline made are removed. Days other than the newest change nothing."
        ),
    )
    def cloudwatch_dashboards(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        day = day_of(context)
        if not settings.dashboards.enabled and not settings.alarms.enabled:
            return _skipped("dashboards.enabled and alarms.enabled are off")
        if lake.last_day(WORKLOAD_SCORES.name) != day:
            return _skipped("a newer day is stored, and the dashboards are of that")
        with explained(RETRIES, attempt=context.retry_number):
            workloads = lake.read(WORKLOAD_SCORES, day)
            if workloads.is_empty():
                # Nor is anything removed: no day without workloads is a reason for that.
                return _skipped("the day has no workloads")
            found = wanted(workloads, lake.read(ORGANIZATION_SCORES, day), settings)
            try:
                updated = source.dashboards(enabled(found, settings))
            except PermissionMissingError as error:
                # The scores are out already: a permission for what shows them fails no run.
                return _skipped(str(error), passed=False)
        if updated is None:
            return _skipped("imported findings are not published")
        note = updated.note
        return dg.MaterializeResult(
            metadata={**updated.counts, "note": note or "nothing"},
            check_results=[_checked(note or "nothing", passed=note is None)],
        )

    return [cloudwatch_dashboards]


def _skipped(why: str, *, passed: bool = True) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"skipped": why}, check_results=[_checked(why, passed=passed)]
    )


def _checked(note: str, *, passed: bool) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"note": note},
    )
