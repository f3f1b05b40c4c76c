"""The asset of the report pages: people read the newest day, so only that day makes them."""

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.partitions import day_of
from posture_pipeline.report.data import newest_day
from posture_pipeline.report.pages import write_pages
from posture_pipeline.schemas import (
    EXCEPTIONS,
    ORGANIZATION_SCORES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings


def report_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The pages that people open; nothing here is read again by the pipeline."""

    @dg.asset(
        **declared.plain("posture_report", group="publish", daily=daily, kinds={"html"}),
        deps=[gate.NAME, *(table.name for table in _TABLES)],
        description=(
            "report/index.html and a page for each workload, in the lake: scores, trends, what "
            "changed and why, what to fix first. Each is one file that needs no network."
        ),
    )
    def posture_report(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            newest = newest_day(lake)
            if day_of(context) != newest:
                skipped = f"the pages show the newest day, {newest.isoformat()}"
                return dg.MaterializeResult(metadata={"pages": 0, "skipped": skipped})
            written = write_pages(lake, settings)
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": written.index,
                "pages": written.pages,
                "size_mb": round(written.bytes / 1e6, 3),
                "largest_page_mb": round(written.largest / 1e6, 3),
            }
        )

    return [posture_report]


_TABLES = (WORKLOAD_SCORES, ORGANIZATION_SCORES, SCORE_CHANGES, EXCEPTIONS)
