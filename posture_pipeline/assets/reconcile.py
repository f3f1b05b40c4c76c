"""Assets that hold our figures of conformance packs against AWS Config's own.

What AWS says stands in `aws/compliance.py`, the rules in `model/reconcile.py`.
"""

from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.assets.ingest import RETRIES
from posture_pipeline.lake.reconciliation import reconcile_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit, preview
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import SnapshotSource
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CONTROL_STATUS,
    RECONCILIATION,
)
from posture_pipeline.settings import Settings

DAY_IS_OVER: str | None = (
    "The day was over before AWS Config was asked for its own figures, and it only knows the "
    "present."
)


def reconcile_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """What AWS Config says of the conformance packs, and how our figures differ from it."""

    @dg.asset(
        **declared.of_table(AWS_COMPLIANCE, group="ingest", daily=daily),
        description=(
            "What AWS Config itself says of the conformance packs: scores, rules, and resources "
            "that do not comply. Empty, with the reason, where AWS cannot be asked."
        ),
    )
    def aws_compliance(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        source: dg.ResourceParam[SnapshotSource],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        day, table = day_of(context), AWS_COMPLIANCE
        with explained(RETRIES, attempt=context.retry_number):
            commit = lake.commit_of(table.name, day)
            over = source.is_over(day)
            if commit is None or not over:
                rows, reason = table.empty(), DAY_IS_OVER
                if not over:
                    said = source.compliance(settings.reports, day)
                    rows, reason = said.frame, said.reason
                commit = lake.replace(table, day, rows, {"incomplete": reason} if reason else {})
        rows = lake.read(table, day)
        return dg.MaterializeResult(
            metadata={
                **of_commit(table, commit, lake),
                "packs": rows.select("account_id", "region", "aws_name").n_unique(),
                "incomplete": commit.details.get("incomplete", "no"),
            }
        )

    @dg.asset(
        **declared.of_table(RECONCILIATION, group="history", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[aws_compliance, ACCOUNT_SCORES.name, CONTROL_STATUS.name],
        description=(
            "The scores of conformance packs beside AWS Config's own figures, with the reasons of "
            "each difference and what each is worth: proof that the scores can be trusted."
        ),
    )
    @materialized_by_day
    def reconciliation(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            rows = reconcile_day(lake, settings.reports, day)
            commit = lake.replace(RECONCILIATION, day, rows)
        figures = rows.filter(pl.col("control_id").is_null() & pl.col("cause").is_null())
        return dg.MaterializeResult(
            metadata={
                **of_commit(RECONCILIATION, commit, lake),
                "figures": figures.height,
                "preview": preview(
                    figures.sort(pl.col("difference").abs() * -1, nulls_last=True),
                    ["report", "account_id", "region", "unit", "our_value", "aws_value"],
                ),
            }
        )

    return [aws_compliance, reconciliation]
