"""Assets of the group findings: pages to rows, rows to accounts. Scores are made elsewhere."""

import dagster as dg

from posture_pipeline.assets import declared
from posture_pipeline.lake.findings import merge_pages, split_by_account
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained, of_commit
from posture_pipeline.partitions import day_of
from posture_pipeline.resources import Tell
from posture_pipeline.schemas import ACCOUNT_FINDINGS, MERGED_FINDINGS, RAW_FINDING_PAGES


def findings_assets(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The tables of findings, made from the raw pages of the day."""

    @dg.asset(
        **declared.of_table(MERGED_FINDINGS, group="findings", daily=daily),
        deps=[RAW_FINDING_PAGES],
        description=(
            "One row a finding: each raw file of 100 pages becomes one parquet file of up to "
            "10,000 rows. Duplicates are resolved to the newest; unreadable records go to the "
            "table quarantine, with the reason."
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
                **of_commit(merged.findings, lake.uri(MERGED_FINDINGS.name)),
                "records": merged.records,
                "duplicates": merged.duplicates,
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
                **of_commit(commit, lake.uri(ACCOUNT_FINDINGS.name)),
                "accounts": accounts,
            }
        )

    return [merged_findings, account_findings]
