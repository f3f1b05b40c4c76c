"""Assets of the group findings: pages to rows, rows to accounts, and what became of them.

Scores are made elsewhere.
"""

from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.completeness import completeness
from posture_pipeline.lake.explanation import earlier_day
from posture_pipeline.lake.finding_history import FindingHistory, finding_history
from posture_pipeline.lake.findings import merge_pages, split_by_account
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit, preview
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import Tell
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    CARRIED_FAILURES,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    RAW_FINDING_PAGES,
    SOURCE_COMPLETENESS,
)
from posture_pipeline.settings import Settings


def findings_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The tables of findings, made from the raw pages of the day."""

    @dg.asset(
        **declared.of_table(MERGED_FINDINGS, group="findings", daily=daily),
        deps=[RAW_FINDING_PAGES],
        description=(
            "The raw pages as a table, one row a finding: one check of one resource. Duplicates "
            "are resolved to the newest; records that cannot be read go to the table quarantine, "
            "with the reason, and stop nothing."
        ),
    )
    def merged_findings(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        tell: dg.ResourceParam[Tell],
    ) -> dg.MaterializeResult:
        with explained():
            merged = merge_pages(
                lake, day_of(context), progress=lambda n: tell(f"{n:,} records merged")
            )
        return dg.MaterializeResult(
            metadata={
                **of_commit(MERGED_FINDINGS, merged.findings, lake),
                "records": merged.records,
                "duplicates": merged.duplicates,
                "moved": merged.moved,
                "quarantined": merged.quarantined,
                "quarantine_reasons": dict(
                    sorted(merged.reasons.items(), key=lambda item: -item[1])[:10]
                ),
            }
        )

    @dg.asset(
        **declared.of_table(ACCOUNT_FINDINGS, group="findings", daily=daily),
        deps=[merged_findings],
        description=(
            "The same findings, one parquet file an account, so that a team can be given read "
            "access to its own accounts and nothing else."
        ),
    )
    def account_findings(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.MaterializeResult:
        with explained():
            commit, accounts = split_by_account(lake, day_of(context))
        return dg.MaterializeResult(
            metadata={
                **of_commit(ACCOUNT_FINDINGS, commit, lake),
                "accounts": accounts,
            }
        )

    @dg.asset(
        **declared.of_table(EXPECTED_CONTROLS, group="findings", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[account_findings, LISTED_CONTROLS.name],
        description=(
            "The controls that each report expects on the day. A report is what is scored: "
            "Security Hub standards, an AWS Config conformance pack, or rules named in the "
            "settings; a control is one of its rules, such as S3.1. They are those that AWS "
            "listed; where it did not, the column note says where they are from."
        ),
    )
    @materialized_by_day
    def expected_controls(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            commit, found = snapshot.store_expected(lake, settings.reports, day)
        by_report = found.controls.group_by("report", "report_kind", "source", "as_of", "note")
        shown = by_report.len("controls").sort("report", "source", "as_of")
        return dg.MaterializeResult(
            metadata={
                **of_commit(EXPECTED_CONTROLS, commit, lake),
                "preview": preview(
                    shown, ["report", "report_kind", "controls", "source", "as_of", "note"]
                ),
                **{f"withheld/{report}": reason for report, reason in found.withheld.items()},
            }
        )

    @dg.asset(
        **declared.of_table(FINDING_CHANGES, group="findings", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[account_findings, ORGANIZATION_ACCOUNTS.name, expected_controls],
        description=(
            "What became of each problem since the newest earlier day: fixed, new, suppressed, "
            "resource gone, and so on, with the evidence. With it go carried_failures, whose "
            "findings AWS deleted for their age and which still count, and source_completeness: "
            "which findings are gone without evidence, so that scores are withheld."
        ),
    )
    @materialized_by_day
    def finding_changes(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            before = earlier_day(lake, day)
            found = NOTHING if before is None else finding_history(lake, settings, before, day)
            details = {"compared_with": before.isoformat() if before else None}
            lake.replace(CARRIED_FAILURES, day, found.carried, details)
            complete = completeness(lake, settings, before, day)
            verdict = {
                snapshot.INCOMPLETE: complete.incomplete,
                "unexplained_share": complete.unexplained_share,
            }
            lake.replace(SOURCE_COMPLETENESS, day, complete.rows, {**details, **verdict})
            commit = lake.replace(FINDING_CHANGES, day, found.changes, details)
        causes = found.changes["cause"].value_counts(sort=True)
        incomplete = complete.rows.filter(pl.col("reason").is_not_null())
        return dg.MaterializeResult(
            metadata={
                **of_commit(FINDING_CHANGES, commit, lake),
                "compared_with": details["compared_with"] or "no earlier day",
                "causes": dict(causes.iter_rows()),
                "carried_failures": found.carried.height,
                "unexplained_share": (
                    NOT_COMPARED
                    if complete.unexplained_share is None
                    else complete.unexplained_share
                ),
                "incomplete_sources": incomplete.height,
                "incomplete": preview(incomplete, ["report", "account_id", "reason"]),
            }
        )

    return [merged_findings, account_findings, expected_controls, finding_changes]


NOTHING = FindingHistory(FINDING_CHANGES.empty(), CARRIED_FAILURES.empty())
"""What is known on the first day."""

NOT_COMPARED = "the first day: there is nothing to compare it with"
