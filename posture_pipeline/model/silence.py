"""Sources of findings that fell silent, and the scores that are withheld for it.

A source is one product in one region of one account. When it sends nothing any more, the failures
it told of are gone from the snapshot, and the score would rise for that alone. Such a score is
withheld: null, with the reason and the last score there was. How a score is made stands in
`scoring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from posture_pipeline.model.causes import AGED_OUT_DAYS
from posture_pipeline.model.controls import CONFIG_PRODUCT
from posture_pipeline.model.scoring import NO_FINDINGS, score, status_in_scope
from posture_pipeline.schemas import SILENT_SOURCES, Table
from posture_pipeline.settings import STANDARD_KINDS

if TYPE_CHECKING:
    from datetime import date

SOURCE = ["account_id", "region", "product"]

SILENT_AT_LEAST = 5
"""So many findings must have vanished without evidence before a source counts as silent; a few can
be a resource of which nothing was told. An account that sends nothing at all needs only one."""

WITHHELD = "withheld: "
"""How the reason of a withheld score begins."""

_VALUES = ("score", "console_score", "resource_score")


# --- which sources are silent -----------------------------------------------------------------


def sources(findings: pl.LazyFrame) -> pl.LazyFrame:
    """How many active findings of controls each source has.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS`.

    Returns:
        SOURCE columns and findings (Int64).
    """
    return _of_controls(findings).group_by(SOURCE).agg(findings=pl.len().cast(pl.Int64))


def unexplained(before: pl.LazyFrame, archived: pl.LazyFrame, day: date) -> pl.LazyFrame:
    """How many findings of the earlier day nothing explains, if they are gone now.

    An archived finding, and one that AWS deleted because it was not updated for 90 days, need no
    source to be silent.

    Args:
        before: Findings of the earlier day; only those of sources that are gone need be there.
        archived: account_id, finding_id of the findings that were archived since.
        day: The later day.

    Returns:
        SOURCE columns and unexplained (Int64).
    """
    young = pl.col("updated_at").dt.date() > day - timedelta(days=AGED_OUT_DAYS)
    return (
        _of_controls(before)
        .filter(young.fill_null(value=True))
        .join(archived, on=["account_id", "finding_id"], how="anti")
        .group_by(SOURCE)
        .agg(unexplained=pl.len().cast(pl.Int64))
    )


def _of_controls(findings: pl.LazyFrame) -> pl.LazyFrame:
    ids = ("security_control_id", "standard_control_id", "rule_name")
    named = pl.any_horizontal(pl.col(name).is_not_null() for name in ids)
    return findings.filter((pl.col("record_state") == "ACTIVE") & named).with_columns(
        pl.col("region", "product").fill_null("")
    )


def silent_sources(
    before: pl.DataFrame,
    now: pl.DataFrame,
    without_evidence: pl.DataFrame,
    silent_before: pl.DataFrame,
    scored: Sequence[str],
    *,
    compared_with: date,
    day: date,
    silent_days: int,
) -> pl.DataFrame:
    """The sources that sent findings once and send none now, nothing telling why.

    Args:
        before: `sources` of the earlier day.
        now: `sources` of the day.
        without_evidence: `unexplained` findings of the sources that are gone.
        silent_before: Rows of `schemas.SILENT_SOURCES` of the earlier day.
        scored: Ids of the accounts that are scored on the day; of others silence is no news.
        compared_with: The earlier day.
        day: The day.
        silent_days: A source that was not seen for more days is given up; 0: none is silent.

    Returns:
        Rows of `schemas.SILENT_SOURCES`.
    """
    silent_account = ~pl.col("account_id").is_in(now["account_id"].unique().implode())
    needed = pl.when(silent_account).then(1).otherwise(SILENT_AT_LEAST)
    new = (
        before.join(now, on=SOURCE, how="anti")
        .join(without_evidence, on=SOURCE, how="inner")
        .filter(pl.col("unexplained") >= needed)
        .with_columns(date=pl.lit(day), last_seen=pl.lit(compared_with))
    )
    still = silent_before.join(now, on=SOURCE, how="anti").join(new, on=SOURCE, how="anti")
    rows = pl.concat([SILENT_SOURCES.project(new), SILENT_SOURCES.project(still)])
    known = (pl.lit(day) - pl.col("last_seen")).dt.total_days() <= silent_days
    return (
        rows.filter(known, pl.col("account_id").is_in(list(scored)), pl.lit(silent_days > 0))
        .with_columns(date=pl.lit(day))
        .sort(SOURCE)
    )


# --- which scores that makes worthless --------------------------------------------------------


def silence_by_report(silent: pl.DataFrame, reports: pl.DataFrame) -> pl.DataFrame:
    """The accounts whose score of a report misses findings, with what is missing.

    AWS Config makes the scores of conformance packs and custom rules, every other product those of
    standards.

    Args:
        silent: Rows of `schemas.SILENT_SOURCES`.
        reports: report, report_kind.

    Returns:
        report, account_id, since (Date: the last snapshot with them) and what (String).
    """
    of_standard = pl.col("report_kind").is_in(STANDARD_KINDS)
    from_config = pl.col("product") == CONFIG_PRODUCT
    return (
        silent.join(reports, how="cross")
        .filter(of_standard != from_config)
        .sort("account_id", "region", "product")
        .group_by("report", "account_id")
        .agg(
            since=pl.col("last_seen").min(),
            what=pl.format("{} in {}", "product", "region")
            .unique(maintain_order=True)
            .str.join(", "),
        )
    )


def withhold_accounts(scores: pl.DataFrame, silence: pl.DataFrame) -> pl.DataFrame:
    """The scores of accounts, withheld where a source of theirs is silent.

    An account without any finding has no score anyway, and a reason that says so.

    Args:
        scores: Rows of `schemas.ACCOUNT_SCORES`.
        silence: As `silence_by_report` gives it.
    """
    why = pl.format("{}no findings of {} after {}", pl.lit(WITHHELD), "what", "since")
    reasons = silence.select("report", "account_id", _why=why)
    rows = scores.join(reasons, on=["report", "account_id"], how="left")
    sends = pl.col("reason").ne_missing(NO_FINDINGS)
    return _withheld(rows, pl.when(sends).then("_why"), scores.columns)


def withhold_workloads(
    scores: pl.DataFrame, silence: pl.DataFrame, accounts: pl.DataFrame
) -> pl.DataFrame:
    """The scores of workloads, withheld where a source of one of their accounts is silent.

    Args:
        scores: Rows of `schemas.WORKLOAD_SCORES`.
        silence: As `silence_by_report` gives it.
        accounts: account_id, account_name, workload, environment, and reason: why the account has
            no score.
    """
    keys = ["report", "workload", "environment"]
    sent_nothing = pl.col("reason").eq_missing(NO_FINDINGS)
    who = pl.concat_str(
        pl.lit("account "),
        "account_id",
        pl.format(" ({})", "account_name").fill_null(""),
        pl.lit(" sent no findings"),
        pl.when(sent_nothing).then(pl.lit("")).otherwise(pl.format(" of {}", "what")),
        pl.format(" after {}", "since"),
    )
    reasons = (
        silence.join(accounts, on="account_id", how="inner")
        .sort("account_id")
        .group_by(keys)
        .agg(_first=who.first(), _more=pl.len() - 1)
        .select(
            *keys,
            _why=pl.lit(WITHHELD)
            + pl.when(pl.col("_more") > 0)
            .then(pl.format("{}, and {} more", "_first", "_more"))
            .otherwise("_first"),
        )
    )
    rows = scores.join(reasons, on=keys, how="left")
    return _withheld(rows, pl.col("_why"), scores.columns)


def withhold_organization(
    scores: pl.DataFrame,
    control_status: pl.DataFrame,
    last_known: pl.DataFrame,
    silence: pl.DataFrame,
) -> pl.DataFrame:
    """The scores of the organization, withheld where silence changes them.

    Among hundreds of accounts one is nearly always silent. The score says something all the same
    if it would be the same with what the silent accounts last told.

    Args:
        scores: Rows of `schemas.ORGANIZATION_SCORES`.
        control_status: Rows of `schemas.CONTROL_STATUS` of the scored accounts.
        last_known: Such rows of the silent accounts and reports, of the day they were last seen on.
        silence: As `silence_by_report` gives it.
    """
    both = pl.concat([control_status, last_known])
    counted = pl.col("status").is_in(["PASSED", "FAILED", "UNKNOWN"])
    with_them = (
        status_in_scope(both.lazy(), [])
        .filter(counted)
        .group_by("report")
        .agg(
            passed=(pl.col("status") == "PASSED").sum(),
            failed=(pl.col("status") == "FAILED").sum(),
            unknown=(pl.col("status") == "UNKNOWN").sum(),
        )
        .select("report", _with_them=score())
        .collect()
    )
    silent = silence.group_by("report").agg(_silent=pl.len())
    rows = scores.join(with_them, on="report", how="left").join(silent, on="report", how="left")
    differs = pl.col("_with_them").ne_missing(pl.col("score"))
    why = pl.format(
        "{}{} silent account{}, with whose last findings it would be {}",
        pl.lit(WITHHELD),
        "_silent",
        pl.when(pl.col("_silent") == 1).then(pl.lit("")).otherwise(pl.lit("s")),
        pl.col("_with_them").round(2),
    )
    reason = pl.when(pl.col("_silent").is_not_null() & differs).then(why)
    return _withheld(rows, reason, scores.columns)


def _withheld(rows: pl.DataFrame, why: pl.Expr, columns: list[str]) -> pl.DataFrame:
    """The rows without their figures where there is a reason why."""
    return (
        rows.with_columns(_reason=why)
        .with_columns(
            *(pl.when(pl.col("_reason").is_null()).then(name).alias(name) for name in _VALUES),
            reason=pl.coalesce("_reason", "reason"),
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
