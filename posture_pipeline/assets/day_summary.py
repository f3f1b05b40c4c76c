"""The asset that tells the day: what people read first in the Dagster UI.

What it says stands in `report/day_summary.py`, its chart in `report/chart.py`.
"""

from datetime import date

import dagster as dg

from posture_pipeline.assets import declared, gate
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, scores_by_report
from posture_pipeline.report.day_summary import summary_of
from posture_pipeline.schemas import (
    EXCEPTIONS,
    ORGANIZATION_SCORES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings

NAME = "day_summary"

AFTER_THE_OTHERS = {"dagster/priority": "-1"}
"""The last step of a run: among steps that can start it starts last. It depends on no publishing,
because what AWS refuses must not hide the day's scores."""


def day_summary_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The summary of each day."""

    @dg.asset(
        **declared.plain(NAME, group="publish", daily=daily, kinds={"markdown"}),
        backfill_policy=ONE_RUN,
        op_tags=AFTER_THE_OTHERS,
        deps=[gate.NAME, *(table.name for table in _TABLES)],
        description=(
            "The day on one page: the score of the organization on every report with its chart, "
            "the workloads that moved most and why, and what to look at. Start here. It stores "
            "nothing; open `summary` in the metadata for all of it."
        ),
    )
    @materialized_by_day
    def day_summary(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            summary = summary_of(lake, settings, day)
            rows = lake.read(ORGANIZATION_SCORES, day)
        return dg.MaterializeResult(
            metadata={
                "summary": dg.MetadataValue.md(summary.whole),
                "scores": dg.MetadataValue.md(summary.scores),
                **{
                    f"trend/{report}": dg.MetadataValue.md(text)
                    for report, text in summary.trends.items()
                },
                "movers": dg.MetadataValue.md(summary.movers),
                **scores_by_report(rows),
            }
        )

    return [day_summary]


_TABLES = (WORKLOAD_SCORES, ORGANIZATION_SCORES, SCORE_CHANGES, EXCEPTIONS)
