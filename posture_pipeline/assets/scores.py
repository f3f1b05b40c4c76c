"""Assets of the group scores: control status, and the scores of accounts, workloads, everything.

The rules stand in `model/scoring.py`; what they are applied to is read by `lake/snapshot.py`.
"""

from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets import declared
from posture_pipeline.assets.day_by_day import ONE_RUN, materialized_by_day
from posture_pipeline.lake import snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import (
    explained,
    of_commit,
    preview,
    scores_by_report,
    spread_by_report,
)
from posture_pipeline.model import completeness, scoring
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Settings


def scores_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The score tables, all reports inside; they can be made again for any stored day."""

    @dg.asset(
        **declared.of_table(CONTROL_STATUS, group="scores", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[
            ACCOUNT_FINDINGS.name,
            ORGANIZATION_ACCOUNTS.name,
            EXPECTED_CONTROLS.name,
            FINDING_CHANGES.name,
        ],
        description=(
            "Whether each control of each report passes in each account: FAILED if one resource "
            "fails, UNKNOWN if one could not be evaluated, else PASSED; NO_DATA without findings. "
            "Every score is counted from this."
        ),
    )
    @materialized_by_day
    def control_status(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            rows = snapshot.control_status_of(lake, settings, day)
            commit = lake.replace(CONTROL_STATUS, day, rows)
        return dg.MaterializeResult(
            metadata={
                **of_commit(CONTROL_STATUS, commit, lake),
                **{
                    f"controls/{status.lower()}": int((rows["status"] == status).sum())
                    for status in ("PASSED", "FAILED", "UNKNOWN", "NO_DATA")
                },
                "rules_of_unclear_packs": int((rows["unclear_copies"] > 0).sum()),
            }
        )

    @dg.asset(
        **declared.of_table(ACCOUNT_SCORES, group="scores", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[control_status],
        description=(
            "The score of every active account on every report, 0 to 100: the share of its "
            "controls that pass. Beside it stands what was counted, and why a score is missing."
        ),
    )
    @materialized_by_day
    def account_scores(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            accounts = snapshot.accounts_of(lake, settings, day)
            rows = scoring.account_scores(
                lake.read(CONTROL_STATUS, day),
                snapshot.expected_of(lake, settings.reports, day),
                snapshot.scored_accounts(accounts),
                snapshot.score_context(lake, settings, day),
            )
            rows = completeness.withhold_accounts(
                rows,
                snapshot.withheld_accounts_of(lake, day),
                snapshot.withheld_reports_of(lake, settings, day),
            )
            rows = snapshot.with_last_scores(lake, ACCOUNT_SCORES, day, rows)
            commit = lake.replace(ACCOUNT_SCORES, day, rows)
        lowest = rows.filter(pl.col("score").is_not_null()).sort("score")
        return dg.MaterializeResult(
            metadata={
                **of_commit(ACCOUNT_SCORES, commit, lake),
                "accounts": rows["account_id"].n_unique(),
                "accounts_not_listed": int(
                    accounts["source"].is_in(["findings", "overrides"]).sum()
                ),
                "accounts_not_scored": accounts.height - rows["account_id"].n_unique(),
                "without_score": rows.height - lowest.height,
                **spread_by_report(rows, settings.thresholds),
                "lowest_scores": preview(lowest, ["report", "account_name", "score", "failed"]),
            }
        )

    @dg.asset(
        **declared.of_table(WORKLOAD_SCORES, group="scores", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[account_scores],
        description=(
            "The score of every workload in every environment on every report, 0 to 100: the "
            "share of controls that pass in all its accounts, so a control that fails in one "
            "account fails. The numbers to plot are the mean, the lowest, and how many are red."
        ),
    )
    @materialized_by_day
    def workload_scores(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            accounts = snapshot.accounts_with_scores(lake, day)
            rows = scoring.workload_scores(
                lake.read(CONTROL_STATUS, day),
                snapshot.expected_of(lake, settings.reports, day),
                accounts,
                snapshot.score_context(lake, settings, day),
            )
            rows = completeness.withhold_workloads(
                rows,
                snapshot.withheld_accounts_of(lake, day),
                accounts,
                snapshot.withheld_reports_of(lake, settings, day),
            )
            rows = snapshot.with_last_scores(lake, WORKLOAD_SCORES, day, rows)
            commit = lake.replace(WORKLOAD_SCORES, day, rows)
        lowest = rows.filter(pl.col("score").is_not_null()).sort("score")
        return dg.MaterializeResult(
            metadata={
                **of_commit(WORKLOAD_SCORES, commit, lake),
                "workloads": rows["workload"].n_unique(),
                "without_score": rows.height - lowest.height,
                **spread_by_report(rows, settings.thresholds),
                "lowest_scores": preview(
                    lowest, ["report", "workload", "environment", "score", "failed"]
                ),
            }
        )

    @dg.asset(
        **declared.of_table(ORGANIZATION_SCORES, group="scores", daily=daily),
        backfill_policy=ONE_RUN,
        deps=[account_scores],
        description=(
            "The score of the whole organization on every report, 0 to 100, as Security Hub "
            "shows it to the administrator: a control that fails in any account fails, so it is "
            "lower than most accounts' and not their mean."
        ),
    )
    @materialized_by_day
    def organization_scores(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with explained():
            status = lake.read(CONTROL_STATUS, day)
            rows = scoring.organization_scores(
                status,
                snapshot.expected_of(lake, settings.reports, day),
                snapshot.accounts_with_scores(lake, day),
                snapshot.score_context(lake, settings, day),
            )
            withheld = snapshot.withheld_accounts_of(lake, day)
            rows = completeness.withhold_organization(
                rows,
                status,
                snapshot.last_known_status(lake, withheld),
                withheld,
                snapshot.withheld_reports_of(lake, settings, day),
            )
            rows = snapshot.with_last_scores(lake, ORGANIZATION_SCORES, day, rows)
            commit = lake.replace(ORGANIZATION_SCORES, day, rows)
        return dg.MaterializeResult(
            metadata={
                **of_commit(ORGANIZATION_SCORES, commit, lake),
                **scores_by_report(rows),
                **{
                    f"{name}/{row['report']}": row[name]
                    for name in ("failed", "failed_findings")
                    for row in rows.iter_rows(named=True)
                },
                "incomplete": next(iter(rows["incomplete"]), None) or "no",
                "scores": preview(
                    rows, ["report", "score", "resource_score", "passed", "failed", "unknown"]
                ),
            }
        )

    return [control_status, account_scores, workload_scores, organization_scores]
