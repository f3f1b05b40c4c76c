"""Asset checks: between findings and publishing, blocking where a wrong number would go out.

Every check compares what is stored with what was stored before it; none repeats how a table is
made. (No `from __future__ import annotations`: Dagster reads the annotation of `context`.)
"""

import warnings
from datetime import date

import dagster as dg
import polars as pl

from posture_pipeline.assets.day_by_day import checked_by_day
from posture_pipeline.lake import explanation, snapshot
from posture_pipeline.lake.staleness import ends_of, outdated_comparisons
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import preview
from posture_pipeline.model import exceptions as exception_rules
from posture_pipeline.model.changes import parts_that_do_not_add_up
from posture_pipeline.model.collection import incomplete_because
from posture_pipeline.model.consistency import (
    inconsistent_scores,
    missing_or_double_accounts,
    unexplained_moves,
)
from posture_pipeline.model.expected import KEPT_UNTIL_READY
from posture_pipeline.model.reconcile import differences_without_reason
from posture_pipeline.partitions import day_of
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CONTROL_STATUS,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    RECONCILIATION,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Settings

NAMES_SHOWN = 10


def asset_checks(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """All checks of the daily job."""
    with warnings.catch_warnings():
        # Partitioned checks are a preview in Dagster; a test holds what we need of them.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return _asset_checks(daily)


def _asset_checks(daily: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:

    @dg.asset_check(
        asset=RAW_FINDING_PAGES,
        blocking=True,
        partitions_def=daily,
        description="Every shard of the collection ended on a page without a next token.",
    )
    def every_shard_is_complete(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        shards = lake.require(RAW_FINDING_PAGES, day_of(context)).details["shards"]
        open_shards = [name for name, counts in shards.items() if not counts["complete"]]
        return dg.AssetCheckResult(
            passed=bool(shards) and not open_shards,
            description=f"{len(open_shards):,} of {len(shards):,} shards are not complete.",
            metadata={
                "shards": len(shards),
                "wrong": len(open_shards),
                "incomplete": open_shards[:NAMES_SHOWN],
            },
        )

    @dg.asset_check(
        asset=RAW_FINDING_PAGES,
        partitions_def=daily,
        description="No region was left out (incomplete_regions of the settings).",
    )
    def every_region_is_collected(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        details = lake.require(RAW_FINDING_PAGES, day_of(context)).details
        left_out = details.get("regions_left_out", [])
        incomplete = incomplete_because(left_out)
        return dg.AssetCheckResult(
            passed=not left_out,
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                "Every region was collected."
                if incomplete is None
                else f"{incomplete[0].upper()}{incomplete[1:]}: the scores are incomplete, and not "
                "compared with those of days that have it."
            ),
            metadata={"regions_left_out": left_out},
        )

    @dg.asset_check(
        asset=MERGED_FINDINGS.name,
        blocking=True,
        partitions_def=daily,
        description="Records collected = findings + duplicates + quarantined records.",
    )
    def every_record_is_accounted_for(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        day = day_of(context)
        collected = lake.require(RAW_FINDING_PAGES, day).rows
        merged = lake.require(MERGED_FINDINGS.name, day)
        stored = lake.scan(MERGED_FINDINGS, day).select(pl.len()).collect().item()
        counts = merged.details
        passed = (
            collected == counts["records"]
            and counts["records"] == stored + counts["duplicates"] + counts["quarantined"]
            and stored == merged.rows
        )
        return dg.AssetCheckResult(
            passed=passed,
            description=(
                f"{collected:,} records were collected, {counts['records']:,} were read: "
                f"{stored:,} findings, {counts['duplicates']:,} duplicates and "
                f"{counts['quarantined']:,} quarantined."
            ),
            metadata={
                "collected": collected,
                "records": counts["records"],
                "findings": stored,
                "duplicates": counts["duplicates"],
                "quarantined": counts["quarantined"],
            },
        )

    @dg.asset_check(
        asset=MERGED_FINDINGS.name,
        blocking=True,
        partitions_def=daily,
        description="Few records were unreadable (checks.quarantine_share of the settings).",
    )
    def few_records_are_quarantined(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        counts = lake.require(MERGED_FINDINGS.name, day_of(context)).details
        share = counts["quarantined"] / counts["records"] if counts["records"] else 0.0
        return dg.AssetCheckResult(
            passed=share <= settings.checks.quarantine_share,
            description=(
                f"{counts['quarantined']:,} of {counts['records']:,} records could not be read "
                f"({share:.2%}; the limit is {settings.checks.quarantine_share:.2%})."
            ),
            metadata={
                "quarantined": counts["quarantined"],
                "records": counts["records"],
                "share": share,
                "limit": settings.checks.quarantine_share,
            },
        )

    @dg.asset_check(
        asset=ACCOUNT_FINDINGS.name,
        blocking=True,
        partitions_def=daily,
        description="The account files hold exactly the merged findings.",
    )
    def account_files_hold_every_finding(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        day = day_of(context)
        merged = lake.require(MERGED_FINDINGS.name, day)
        split = lake.require(ACCOUNT_FINDINGS.name, day)
        stored = lake.scan(ACCOUNT_FINDINGS, day).select(pl.len()).collect().item()
        return dg.AssetCheckResult(
            passed=merged.rows == stored == split.rows,
            description=f"The account files hold {stored:,} of {merged.rows:,} merged findings.",
            metadata={"merged": merged.rows, "account_findings": stored},
        )

    @dg.asset_check(
        asset=ORGANIZATION_ACCOUNTS.name,
        partitions_def=daily,
        description="Organizations could list all accounts, with their tags.",
    )
    def accounts_could_be_listed(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        return _nothing_left_out(lake, ORGANIZATION_ACCOUNTS, day_of(context), "accounts")

    @dg.asset_check(
        asset=EXPECTED_CONTROLS.name,
        partitions_def=daily,
        description="AWS could list the controls of every report.",
    )
    @checked_by_day
    def every_report_knows_its_controls(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        withheld = snapshot.withheld_of(lake, settings.reports, day)
        unlisted = snapshot.listing_of(lake, day).unlisted
        not_ready = {
            report.name: f"{unlisted[report.definition].reason} {KEPT_UNTIL_READY}"
            for report in settings.reports
            if report.name not in withheld
            and report.definition in unlisted
            and unlisted[report.definition].kind == "not_ready"
        }
        wrong = {**withheld, **not_ready}
        return dg.AssetCheckResult(
            passed=not wrong,
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(
                f"{name} ({'no score today' if name in withheld else 'scored'}): {reason}"
                for name, reason in wrong.items()
            )
            or "The controls of every report are known.",
            metadata={"wrong": len(wrong), "withheld": sorted(withheld)},
        )

    @dg.asset_check(
        asset=FINDING_CHANGES.name,
        partitions_def=daily,
        description="No failure vanished without evidence of why.",
    )
    @checked_by_day
    def no_failure_vanished_without_evidence(
        day: date, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        gone = (pl.col("status_before") == "FAILED") & (pl.col("cause") == "no_evidence")
        return _none_wrong(
            lake.read(FINDING_CHANGES, day).filter(gone),
            ["report", "account_id", "region", "control_id", "resource_id"],
            what="failures are gone, and nothing that was collected says why",
            severity=dg.AssetCheckSeverity.WARN,
        )

    @dg.asset_check(
        asset=ACCOUNT_SCORES.name,
        blocking=True,
        partitions_def=daily,
        description="Every active account stands exactly once in each report.",
    )
    @checked_by_day
    def every_account_is_scored_once(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        accounts = snapshot.scored_accounts(snapshot.accounts_of(lake, settings, day))
        wrong = missing_or_double_accounts(
            lake.read(ACCOUNT_SCORES, day), accounts, [report.name for report in settings.reports]
        )
        return _none_wrong(
            wrong,
            ["report", "account_id", "rows"],
            of=accounts.height * len(settings.reports),
            what="pairs of an active account and a report do not stand there exactly once",
        )

    @dg.asset_check(
        asset=ACCOUNT_SCORES.name,
        partitions_def=daily,
        description="Every account resolves to a workload and an environment.",
    )
    @checked_by_day
    def accounts_have_a_workload(day: date, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        accounts = lake.read(ACCOUNT_SCORES, day).unique("account_id").sort("account_id")
        return _none_wrong(
            accounts.filter(pl.col("workload_source") == "account_name"),
            ["account_id", "account_name"],
            of=accounts.height,
            what="active accounts resolve to no workload; each is a workload of its own name",
            severity=dg.AssetCheckSeverity.WARN,
        )

    @dg.asset_check(
        asset=ACCOUNT_SCORES.name,
        partitions_def=daily,
        description="Every active account has findings; a silent one has no score.",
    )
    @checked_by_day
    def no_account_is_silent(day: date, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        with_findings = snapshot.findings_of(lake, day).select("account_id").unique().collect()
        accounts = lake.read(ACCOUNT_SCORES, day).unique("account_id").sort("account_id")
        return _none_wrong(
            accounts.join(with_findings, on="account_id", how="anti", maintain_order="left"),
            ["account_id", "account_name"],
            of=accounts.height,
            what="active accounts have no findings, so no score",
            severity=dg.AssetCheckSeverity.WARN,
        )

    @dg.asset_check(
        asset=FINDING_CHANGES.name,
        partitions_def=daily,
        description=(
            "Every source has the findings that it had before, or there is evidence of why not; "
            "scores that lack evidence are withheld."
        ),
    )
    @checked_by_day
    def every_source_is_complete(day: date, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        rows = lake.read(SOURCE_COMPLETENESS, day)
        return _none_wrong(
            rows.filter(pl.col("reason").is_not_null()),
            ["report", "account_id", "region", "product", "compared_with", "reason"],
            of=rows.height,
            what="sources are incomplete, and the scores that they belong to are withheld",
            severity=dg.AssetCheckSeverity.WARN,
        )

    @dg.asset_check(
        asset=FINDING_CHANGES.name,
        blocking=True,
        partitions_def=daily,
        description=(
            "Few findings of the organization are gone without evidence "
            "(checks.unexplained_share_organization)."
        ),
    )
    @checked_by_day(withholds=True)
    def snapshot_is_complete(day: date, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        details = lake.require(SOURCE_COMPLETENESS.name, day).details
        incomplete = details[snapshot.INCOMPLETE]
        compared_with = details["compared_with"] or "no earlier day"
        return dg.AssetCheckResult(
            passed=incomplete is None,
            description=(
                f"{incomplete}, compared with {compared_with}."
                if incomplete
                else f"Compared with {compared_with}."
            ),
            metadata={
                "compared_with": compared_with,
                "unexplained_share": details["unexplained_share"] or 0.0,
            },
        )

    def scores_are_sane(table_name: str) -> dg.AssetChecksDefinition:
        tables = {
            each.name: each for each in (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)
        }
        table = tables[table_name]

        @dg.asset_check(
            name=f"{table_name}_are_sane",
            asset=table_name,
            blocking=True,
            partitions_def=daily,
            description="Scores are within 0 and 100, failed within expected, counts add up.",
        )
        @checked_by_day
        def sane(day: date, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
            rows = lake.read(table, day)
            return _none_wrong(
                inconsistent_scores(rows),
                [*table.key, "score", "passed", "failed", "expected"],
                of=rows.height,
                what="scores are outside 0 to 100, or do not follow from their counts",
            )

        return sane

    @dg.asset_check(
        asset=WORKLOAD_SCORES.name,
        blocking=True,
        partitions_def=daily,
        additional_deps=[CONTROL_STATUS.name],
        description=(
            "No score moved by more than checks.score_move points since the newest earlier day "
            "without a control whose status changed."
        ),
    )
    @checked_by_day
    def score_moves_have_a_control_behind_them(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        before = next(lake.days_before(WORKLOAD_SCORES.name, day), None)
        if before is None or lake.commit_of(CONTROL_STATUS.name, before) is None:
            return dg.AssetCheckResult(passed=True, metadata={"compared_with": "no earlier day"})
        rows = lake.read(WORKLOAD_SCORES, [before, day])
        wrong = unexplained_moves(
            rows,
            lake.read(CONTROL_STATUS, [before, day]),
            lake.read(ACCOUNT_SCORES, [before, day]),
            points=settings.checks.score_move,
        )
        return _none_wrong(
            wrong,
            ["report", "workload", "environment", "score_before", "score"],
            of=rows.filter(pl.col("date") == day).height,
            what=(
                f"scores moved by more than {settings.checks.score_move:g} points since "
                f"{before.isoformat()} while no control of theirs changed status"
            ),
            compared_with=before.isoformat(),
            limit=settings.checks.score_move,
        )

    @dg.asset_check(
        asset=SCORE_CHANGES.name,
        blocking=True,
        partitions_def=daily,
        description="The parts of every score add up to its change since the day compared with.",
    )
    @checked_by_day
    def parts_add_up_to_the_change(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        compared_with = lake.require(SCORE_CHANGES.name, day).details["compared_with"]
        if compared_with is None:
            return dg.AssetCheckResult(passed=True, metadata={"compared_with": "no earlier day"})
        before = date.fromisoformat(compared_with)
        changes = lake.read(SCORE_CHANGES, day)
        wrong = parts_that_do_not_add_up(
            changes,
            explanation.read_day(lake, settings.reports, before),
            explanation.read_day(lake, settings.reports, day),
        )
        return _none_wrong(
            wrong,
            ["scope", "report", "account_id", "workload", "score_before", "score_after", "parts"],
            what=(
                f"scores moved since {compared_with} by something else than the sum of their parts"
            ),
            compared_with=compared_with,
            parts=changes.height,
        )

    @dg.asset_check(
        asset=EXCEPTIONS.name,
        partitions_def=daily,
        description=(
            "No open exception is past its agreed end, or within checks.exception_days of it; the "
            "ends are in the exceptions file of the settings."
        ),
    )
    @checked_by_day
    def exceptions_are_in_date(
        day: date,
        lake: dg.ResourceParam[Lake],
        settings: dg.ResourceParam[Settings],
    ) -> dg.AssetCheckResult:
        unused = lake.require(EXCEPTIONS.name, day).details["unused_entries"]
        ledger = lake.read(EXCEPTIONS, day)
        rows = exception_rules.out_of_date(ledger, day, days=settings.checks.exception_days)
        return _none_wrong(
            rows,
            ["until", "expired", "control_id", "account_id", "resource_id", "owner", "points"],
            of=ledger.filter("open").height,
            what=(
                f"open exceptions are past their agreed end, or within "
                f"{settings.checks.exception_days} days of it"
            ),
            severity=dg.AssetCheckSeverity.WARN,
            expired=rows.filter("expired").height,
            lines_without_open_exception=len(unused),
            first_of_these_lines=unused[:NAMES_SHOWN],
        )

    @dg.asset_check(
        asset=SCORE_CHANGES.name,
        partitions_def=daily,
        description=(
            "The changes of the day, and of the next stored one, compare what is stored: since "
            "then no day was computed again, and none was stored between the two. `posture "
            "replay --from` the day computes them again."
        ),
    )
    @checked_by_day
    def compared_with_what_is_stored(
        day: date, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        return _none_wrong(
            outdated_comparisons(lake, ends_of(lake, day)),
            ["date", "compared_with", "since"],
            what=(
                "comparisons are older than the days that they compare; posture replay --from "
                f"{day.isoformat()} computes them again"
            ),
            severity=dg.AssetCheckSeverity.WARN,
        )

    @dg.asset_check(
        asset=AWS_COMPLIANCE.name,
        partitions_def=daily,
        description="AWS Config could be asked for its own figures of the conformance packs.",
    )
    def config_figures_could_be_read(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        return _nothing_left_out(lake, AWS_COMPLIANCE, day_of(context), "figures")

    @dg.asset_check(
        asset=RECONCILIATION.name,
        partitions_def=daily,
        description=(
            "The parts of every difference from AWS Config's own figure add up to it, and each has "
            "a reason."
        ),
    )
    @checked_by_day
    def our_pack_scores_agree_with_config(
        day: date, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        rows = lake.read(RECONCILIATION, day)
        figures = rows.filter(pl.col("control_id").is_null() & pl.col("cause").is_null())
        return _none_wrong(
            differences_without_reason(rows),
            ["report", "account_id", "region", "unit", "control_id", "difference", "parts"],
            of=figures.height,
            what="figures differ from AWS Config's own by more than the reasons found",
            severity=dg.AssetCheckSeverity.WARN,
        )

    return [
        every_shard_is_complete,
        every_region_is_collected,
        every_record_is_accounted_for,
        few_records_are_quarantined,
        account_files_hold_every_finding,
        accounts_could_be_listed,
        every_report_knows_its_controls,
        no_failure_vanished_without_evidence,
        every_account_is_scored_once,
        accounts_have_a_workload,
        no_account_is_silent,
        every_source_is_complete,
        snapshot_is_complete,
        *(
            scores_are_sane(table.name)
            for table in (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)
        ),
        score_moves_have_a_control_behind_them,
        parts_add_up_to_the_change,
        compared_with_what_is_stored,
        exceptions_are_in_date,
        config_figures_could_be_read,
        our_pack_scores_agree_with_config,
    ]


def _none_wrong(
    rows: pl.DataFrame,
    columns: list[str],
    *,
    what: str,
    of: int | None = None,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    **facts: str | float | list[int],
) -> dg.AssetCheckResult:
    """Passed when there are no rows; otherwise the first of them are shown.

    Args:
        rows: What is wrong.
        columns: Of these rows, the ones that are shown.
        what: The things, and what is wrong with them; it follows their number.
        of: How many there are in all, where that is known.
        severity: How bad it is.
        facts: Limits and other numbers behind the result.
    """
    number = f"{rows.height:,}" if of is None else f"{rows.height:,} of {of:,}"
    checked = {} if of is None else {"checked": of}
    shown = {"rows": preview(rows, columns)} if rows.height else {}
    return dg.AssetCheckResult(
        passed=rows.is_empty(),
        severity=severity,
        description=f"{number} {what}.",
        metadata={"wrong": rows.height, **checked, **facts, **shown},
    )


def _nothing_left_out(lake: Lake, table: Table, day: date, what: str) -> dg.AssetCheckResult:
    """Passed when AWS answered everything that was asked for a table."""
    commit = lake.require(table.name, day)
    reason = commit.details.get("incomplete")
    return dg.AssetCheckResult(
        passed=reason is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{commit.rows:,} {what} were read; left out: {reason or 'nothing.'}",
        metadata={what: commit.rows, "left_out": reason or "nothing"},
    )
