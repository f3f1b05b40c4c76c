"""How complete the findings of a day are, and the scores that are withheld where they are not.

A source is one product in one region of one account, seen by one report. Its findings are compared
with the newest earlier day on which it was complete: what is gone without evidence is unexplained,
and above a share the scores that it would change are withheld, with the reason and the last known
score. Why a single finding is gone is decided in `causes`; how a score is made in `scoring`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from posture_pipeline.model.causes import LOST_EVIDENCE, NOTHING_LEFT, PROBLEM
from posture_pipeline.model.scoring import NO_FINDINGS, SCORE_COUNTS, score, status_in_scope
from posture_pipeline.schemas import SOURCE_COMPLETENESS, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

SOURCE = ["report", "account_id", "region", "product"]
CELL = [*SOURCE, "control_id"]
"""The findings of one control from one source."""

UNEXPLAINED_AT_LEAST = 3
"""So many findings must be gone without evidence before a share of them is looked at; of an
account, or a product or region of the organization, that sends nothing at all one is enough."""

GONE_RESOURCES_AT_LEAST = 2
GONE_RESOURCES_SHARE = 0.2
"""A resource of which no finding is left counts as deleted if no archived finding says so, as long
as no more than two, or this share, of the resources of its region and account went like that."""

EXPLAINED_ANYWAY = frozenset({"aged_out", "archived"})
"""Causes that lose the evidence of a single failure and still say where its finding went: failures
that aged out are carried forward, and AWS archives the findings of a control that is disabled."""

WITHHELD = "withheld: "
"""How the reason of a withheld score begins."""

CHECK_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(PROBLEM, pl.String()),
        "product": pl.String(),
        "failed": pl.Boolean(),
    }
)
"""What `checks` gives."""

GONE_SCHEMA = pl.Schema({**CHECK_SCHEMA, "explained": pl.Boolean()})

COUNT_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(CELL, pl.String()),
        "compared_with": pl.Date(),
        "before": pl.Int64(),
        "failed_before": pl.Int64(),
        "now": pl.Int64(),
    }
)
"""How many findings each control of each source had on the day compared with, and has now."""

FIGURES = ("score", "console_score", "resource_score", *SCORE_COUNTS)
"""What a row of a score does not say where evidence is missing: small counts look like a fix."""


# --- which findings are gone without evidence -------------------------------------------------


def checks(findings: pl.LazyFrame, report: str) -> pl.LazyFrame:
    """The checks of a report that a day has active findings of.

    Args:
        findings: As `controls.findings_of_report` gives them.
        report: Name of the report.

    Returns:
        Columns of CHECK_SCHEMA, a row for each finding.
    """
    suppressed = pl.col("workflow_status").eq_missing("SUPPRESSED")
    return findings.filter(pl.col("record_state") == "ACTIVE").select(
        pl.lit(report).alias("report"),
        "account_id",
        pl.col("region").fill_null(""),
        "control_id",
        pl.col("resource_id").fill_null(""),
        pl.col("product").fill_null(""),
        failed=pl.col("compliance_status").eq_missing("FAILED") & ~suppressed,
    )


def counted(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """The findings of each control of each source on two days.

    Args:
        before: `checks` of the earlier day, and compared_with: which day that is.
        now: `checks` of the day.

    Returns:
        Columns of COUNT_SCHEMA; compared_with is null for a source that the earlier day lacks.
    """
    was = before.group_by(CELL).agg(
        before=pl.len().cast(pl.Int64),
        failed_before=pl.col("failed").sum().cast(pl.Int64),
    )
    days = before.group_by(SOURCE).agg(pl.col("compared_with").first())
    return (
        was.join(
            now.group_by(CELL).agg(now=pl.len().cast(pl.Int64)), on=CELL, how="full", coalesce=True
        )
        .join(days, on=SOURCE, how="left")
        .with_columns(pl.col("before", "failed_before", "now").fill_null(0))
        .select(COUNT_SCHEMA.names())
    )


def gone(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """The findings of the earlier day whose check has no active finding now.

    Checks are matched by control and resource, so it does not matter that AWS gives another id to
    a finding.
    """
    return before.join(now, on=PROBLEM, how="anti")


def with_explanations(
    gone: pl.DataFrame,
    causes: pl.DataFrame,
    counts: pl.DataFrame,
    resources: pl.DataFrame,
    *,
    archiving: Collection[str],
    passed_are_seen: bool,
) -> pl.DataFrame:
    """The findings that are gone, with whether there is evidence for it.

    Args:
        gone: As `gone` gives them.
        causes: Columns of `causes.CAUSE_SCHEMA`: why each of them is gone.
        counts: Columns of COUNT_SCHEMA.
        resources: report, account_id, region, resources: distinct resources on the earlier day.
        archiving: Products of which the day has archived findings. Where a deleted resource leaves
            such a finding, a resource without any finding is no evidence.
        passed_are_seen: Whether PASSED findings are collected. Where they are not, a failure that
            is gone may be fixed, so only a source that sends nothing at all says something.

    Returns:
        Columns of GONE_SCHEMA.
    """
    place = ["report", "account_id", "region"]
    cause = causes.select(*PROBLEM, "cause", "detail").unique(PROBLEM)
    checked = counts.select(*CELL, _checked="now")
    rows = (
        gone.join(cause, on=PROBLEM, how="left")
        .join(resources, on=place, how="left")
        .join(checked, on=CELL, how="left")
    )
    weak = (pl.col("detail") == NOTHING_LEFT).fill_null(value=False)
    vanished = pl.col("resource_id").filter(weak).n_unique().over(place)
    few = (vanished <= GONE_RESOURCES_AT_LEAST) | (
        vanished <= GONE_RESOURCES_SHARE * pl.col("resources")
    )
    lost = pl.col("cause").is_null() | pl.col("cause").is_in(
        sorted(LOST_EVIDENCE - EXPLAINED_ANYWAY)
    )
    # All findings of a control that is disabled are stale at once, until AWS archives them. Where
    # some of them are checked, its check runs, and what is not updated is lost.
    disabled = (pl.col("cause") == "check_stopped").fill_null(value=False) & (
        pl.col("_checked") == 0
    )
    deleted = ~pl.col("product").is_in(sorted(archiving)) & few
    explained = disabled | (~lost & (~weak | deleted))
    if not passed_are_seen:
        sends = counts.group_by(SOURCE).agg(_now=pl.col("now").sum())
        rows = rows.join(sends, on=SOURCE, how="left")
        explained = explained | (pl.col("_now") > 0)
    return rows.with_columns(explained=explained).select(GONE_SCHEMA.names())


# --- which sources are complete ---------------------------------------------------------------


def source_completeness(
    counts: pl.DataFrame,
    gone: pl.DataFrame,
    earlier: pl.DataFrame,
    rejected: pl.DataFrame,
    *,
    day: date,
    share: float | None,
) -> pl.DataFrame:
    """How complete each source is, judged alone and across the organization.

    A source is incomplete if it lost findings without evidence and one of these lost more than a
    share of its findings, or of its failing ones, that way: the source itself, its product in the
    region, its product. Or if a control has no finding left at all, in the account, the region or
    the organization. So a product or region that stops counts however few findings each account
    had. An account with too many records that could not be read is incomplete too.

    Args:
        counts: Columns of COUNT_SCHEMA, of every account that is scored.
        gone: Columns of GONE_SCHEMA.
        earlier: Rows of `schemas.SOURCE_COMPLETENESS` of the earlier day.
        rejected: account_id, rejected, records: accounts of which a larger share of the records
            could not be read than the settings allow.
        day: The day.
        share: Above this share of findings that are gone without evidence a source is incomplete;
            null: none is for that.

    Returns:
        Rows of `schemas.SOURCE_COMPLETENESS`.
    """
    lost = gone.group_by(CELL).agg(
        gone=pl.len().cast(pl.Int64),
        unexplained=(~pl.col("explained")).sum().cast(pl.Int64),
        failed_unexplained=(~pl.col("explained") & pl.col("failed")).sum().cast(pl.Int64),
    )
    cells = counts.join(lost, on=CELL, how="left").with_columns(
        pl.col("gone", "unexplained", "failed_unexplained").fill_null(0)
    )
    cells = cells.with_columns(_incomplete=(pl.col("unexplained") > 0) & _stopped(share))
    last_seen = earlier.select(*SOURCE, _last_seen="last_seen")
    rows = (
        cells.group_by(SOURCE)
        .agg(
            pl.col("compared_with").first(),
            findings_before=pl.col("before").sum(),
            findings=pl.col("now").sum(),
            gone=pl.col("gone").sum(),
            explained=(pl.col("gone") - pl.col("unexplained")).sum(),
            unexplained=pl.col("unexplained").sum(),
            failed_before=pl.col("failed_before").sum(),
            failed_unexplained=pl.col("failed_unexplained").sum(),
            _incomplete=pl.col("_incomplete").any(),
        )
        .join(last_seen, on=SOURCE, how="left")
        .join(rejected, on="account_id", how="left")
        .with_columns(
            date=pl.lit(day),
            share=pl.when(pl.col("findings_before") > 0).then(
                pl.col("unexplained") / pl.col("findings_before")
            ),
            last_seen=pl.when(pl.col("findings") > 0)
            .then(pl.lit(day))
            .otherwise(pl.coalesce("_last_seen", "compared_with")),
            not_reporting=(pl.col("findings") == 0) & pl.col("_incomplete"),
        )
        .with_columns(reason=_reason())
    )
    return SOURCE_COMPLETENESS.project(rows).sort(SOURCE)


def _stopped(share: float | None) -> pl.Expr:
    """Whether a cell belongs to anything that lost too much of its findings without evidence."""
    if share is None:
        return pl.lit(value=False)

    def above(part: str, whole: str, keys: list[str]) -> pl.Expr:
        lost, had = (pl.col(name).sum().over(keys) for name in (part, whole))
        return (lost >= UNEXPLAINED_AT_LEAST) & (lost > share * had)

    sources = (
        SOURCE,
        SOURCE[1:],
        ["report", "region", "product"],
        ["report", "product"],
    )
    controls = (
        ["report", "account_id", "control_id"],
        ["report", "region", "control_id"],
        ["report", "control_id"],
    )
    # Whatever they had before: they send nothing at all any more.
    places = (["account_id"], ["region"], ["product"], ["region", "product"])
    return pl.any_horizontal(
        *(pl.col("now").sum().over(keys) == 0 for keys in places),
        *(above("unexplained", "before", keys) for keys in sources),
        *(above("failed_unexplained", "failed_before", keys) for keys in sources),
        *(
            above("unexplained", "before", keys) & (pl.col("now").sum().over(keys) == 0)
            for keys in controls
        ),
    )


def _reason() -> pl.Expr:
    """Why a source is incomplete; null where it is complete."""
    where = pl.concat_str(
        "product",
        pl.when(pl.col("region") != "").then(pl.format(" in {}", "region")),
        ignore_nulls=True,
    )
    return (
        pl.when(pl.col("rejected").is_not_null())
        .then(pl.format("{} of {} records could not be read", "rejected", "records"))
        .when(pl.col("not_reporting"))
        .then(pl.format("no findings of {} after {}", where, "last_seen"))
        .when(pl.col("_incomplete"))
        .then(
            pl.format(
                "{} of {} findings of {} are gone since {} without evidence",
                "unexplained",
                "findings_before",
                where,
                "compared_with",
            )
        )
    )


def unexplained_share(completeness: pl.DataFrame) -> float | None:
    """The share of the organization's findings, or of its failing ones, gone without evidence.

    Args:
        completeness: Rows of `schemas.SOURCE_COMPLETENESS`.

    Returns:
        The larger of the two; null where there is nothing to compare with.
    """
    totals = completeness.select(
        pl.col("findings_before", "unexplained", "failed_before", "failed_unexplained").sum()
    ).row(0, named=True)
    pairs = [
        (totals["unexplained"], totals["findings_before"]),
        (totals["failed_unexplained"], totals["failed_before"]),
    ]
    shares = [lost / had if lost >= UNEXPLAINED_AT_LEAST else 0.0 for lost, had in pairs if had]
    return max(shares, default=None)


# --- which scores are withheld ----------------------------------------------------------------


def withheld_accounts(completeness: pl.DataFrame) -> pl.DataFrame:
    """The accounts whose score of a report lacks evidence, with what is missing.

    Args:
        completeness: Rows of `schemas.SOURCE_COMPLETENESS`.

    Returns:
        report, account_id, since (Date: the last day with complete findings; may be null) and why.
    """
    return (
        completeness.filter(pl.col("reason").is_not_null())
        .sort(SOURCE)
        .group_by("report", "account_id")
        .agg(
            since=pl.col("compared_with").min(),
            why=pl.col("reason").unique(maintain_order=True).str.join(", "),
        )
    )


def withhold_accounts(
    scores: pl.DataFrame, accounts: pl.DataFrame, reports: Mapping[str, str]
) -> pl.DataFrame:
    """The scores of accounts, withheld where evidence is missing.

    An account without any finding has no score anyway, and a reason that says so.

    Args:
        scores: Rows of `schemas.ACCOUNT_SCORES`.
        accounts: As `withheld_accounts` gives them.
        reports: Reports that have no score for anybody on the day, and why.
    """
    why = accounts.select("report", "account_id", _why=pl.concat_str(pl.lit(WITHHELD), "why"))
    rows = scores.join(why, on=["report", "account_id"], how="left")
    sends = pl.col("reason").ne_missing(NO_FINDINGS)
    return _withheld(rows, pl.when(sends).then("_why"), reports, scores.columns)


def withhold_workloads(
    scores: pl.DataFrame,
    withheld: pl.DataFrame,
    accounts: pl.DataFrame,
    reports: Mapping[str, str],
) -> pl.DataFrame:
    """The scores of workloads, withheld where evidence of one of their accounts is missing.

    Args:
        scores: Rows of `schemas.WORKLOAD_SCORES`.
        withheld: As `withheld_accounts` gives them.
        accounts: account_id, account_name, workload, environment, and reason: why the account has
            no score.
        reports: Reports that have no score for anybody on the day, and why.
    """
    keys = ["report", "workload", "environment"]
    who = pl.concat_str(
        pl.lit("account "), "account_id", pl.format(" ({})", "account_name"), ignore_nulls=True
    )
    sent_nothing = pl.col("reason").eq_missing(NO_FINDINGS)
    said = (
        pl.when(sent_nothing & pl.col("since").is_not_null())
        .then(pl.format("{} sent no findings after {}", who, "since"))
        .otherwise(pl.format("{}: {}", who, "why"))
    )
    reasons = (
        withheld.join(accounts, on="account_id", how="inner")
        .sort("account_id")
        .group_by(keys)
        .agg(_first=said.first(), _more=pl.len() - 1)
        .select(*keys, _why=_first_and_more())
    )
    rows = scores.join(reasons, on=keys, how="left")
    return _withheld(rows, pl.col("_why"), reports, scores.columns)


def _first_and_more() -> pl.Expr:
    more = pl.when(pl.col("_more") > 0).then(pl.format(", and {} more", "_more"))
    return pl.concat_str(pl.lit(WITHHELD), "_first", more, ignore_nulls=True)


def withhold_organization(
    scores: pl.DataFrame,
    control_status: pl.DataFrame,
    last_known: pl.DataFrame,
    withheld: pl.DataFrame,
    reports: Mapping[str, str],
) -> pl.DataFrame:
    """The scores of the organization, withheld where evidence of one of its accounts is missing.

    The reason has an estimate: the score with what these accounts last sent.

    Args:
        scores: Rows of `schemas.ORGANIZATION_SCORES`.
        control_status: Rows of `schemas.CONTROL_STATUS` of the scored accounts.
        last_known: Such rows of the withheld accounts, of the last day with complete findings.
        withheld: As `withheld_accounts` gives them.
        reports: Reports that have no score for anybody on the day, and why.
    """
    both = pl.concat([control_status, last_known])
    in_score = pl.col("status").is_in(["PASSED", "FAILED", "UNKNOWN"])
    with_them = (
        status_in_scope(both.lazy(), [])
        .filter(in_score)
        .group_by("report")
        .agg(
            passed=(pl.col("status") == "PASSED").sum(),
            failed=(pl.col("status") == "FAILED").sum(),
            unknown=(pl.col("status") == "UNKNOWN").sum(),
        )
        .select("report", _with_them=score())
        .collect()
    )
    missing = (
        withheld.sort("account_id")
        .group_by("report")
        .agg(_accounts=pl.len(), _first=pl.format("{}: {}", "account_id", "why").first())
    )
    rows = scores.join(with_them, on="report", how="left").join(missing, on="report", how="left")
    why = pl.concat_str(
        pl.lit(WITHHELD),
        pl.format(
            "the findings of {} account{} are incomplete ({})",
            "_accounts",
            pl.when(pl.col("_accounts") == 1).then(pl.lit("")).otherwise(pl.lit("s")),
            "_first",
        ),
        pl.format("; with the last complete ones it would be {}", pl.col("_with_them").round(2)),
        ignore_nulls=True,
    )
    reason = pl.when(pl.col("_accounts").is_not_null()).then(why)
    return _withheld(rows, reason, reports, scores.columns)


def _withheld(
    rows: pl.DataFrame, reason: pl.Expr, reports: Mapping[str, str], columns: list[str]
) -> pl.DataFrame:
    """The rows without their figures where there is a reason why, or no finding at all."""
    of_report = pl.col("report").replace_strict(
        list(reports),
        [f"{WITHHELD}{why}" for why in reports.values()],
        default=None,
        return_dtype=pl.String,
    )
    return (
        rows.with_columns(_reason=pl.coalesce(of_report, reason))
        .with_columns(reason=pl.coalesce("_reason", "reason"))
        .with_columns(
            pl.when(pl.col("_reason").is_null() & pl.col("reason").ne_missing(NO_FINDINGS))
            .then(pl.col(name))
            .alias(name)
            for name in FIGURES
        )
        .select(columns)
    )


def with_last_scores(table: Table, scores: pl.DataFrame, earlier: pl.DataFrame) -> pl.DataFrame:
    """The scores of a day; where there is none, with the last one there was, and of which day.

    Args:
        table: One of the tables of scores.
        scores: Its rows of the day.
        earlier: Its rows of the newest earlier day.
    """
    last = earlier.select(
        *table.key,
        _last=pl.coalesce("score", "last_score"),
        _day=pl.when(pl.col("score").is_not_null()).then("date").otherwise("last_score_date"),
    )
    missing = pl.col("score").is_null()
    return (
        scores.join(last, on=list(table.key), how="left", nulls_equal=True)
        .with_columns(
            last_score=pl.when(missing).then("_last"),
            last_score_date=pl.when(missing).then("_day"),
        )
        .select(table.names)
    )
