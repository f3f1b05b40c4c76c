"""The asset of the exported files of workloads: their teams read the newest day."""

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.lake.access import workloads_on
from posture_pipeline.lake.export import export_into_lake
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.partitions import day_of
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    EXCEPTIONS,
    REMEDIATION,
    SCORE_CHANGES,
    TIME_TO_FIX,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings


def exports_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What teams take away; nothing here is read again by the pipeline."""

    @dg.asset(
        **declared.plain("workload_exports", group="publish", daily=daily, kinds={"parquet"}),
        deps=[gate.NAME, *(table.name for table in _TABLES)],
        description=(
            "exports/<workload>/ in the lake: the data of one team alone, of the workloads that "
            "the settings name (exports.workloads)."
        ),
    )
    def workload_exports(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        wanted = settings.exports.workloads
        if wanted == "none":
            skipped = "exports.workloads is none"
            return dg.MaterializeResult(metadata={"workloads": 0, "skipped": skipped})
        with explained():
            day = day_of(context)
            newest = lake.last_day(ACCOUNT_SCORES.name)
            if newest is not None and day != newest:
                skipped = f"exports end with the newest day, {newest.isoformat()}"
                return dg.MaterializeResult(metadata={"workloads": 0, "skipped": skipped})
            there = workloads_on(lake, day)
            named = there if wanted == "all" else [each for each in wanted if each in there]
            files = [export_into_lake(lake, each, settings.exports.format) for each in named]
        return dg.MaterializeResult(
            metadata={
                "workloads": len(named),
                "rows": sum(sum(each.rows.values()) for each in files),
                "not_there": [] if wanted == "all" else sorted(set(wanted) - set(there)),
            }
        )

    return [workload_exports]


_TABLES = (WORKLOAD_SCORES, ACCOUNT_SCORES, SCORE_CHANGES, EXCEPTIONS, REMEDIATION, TIME_TO_FIX)
