"""Control status and scores, as AWS Security Hub defines them.

From the day's findings to the status of every expected control in every account, and from there to
the scores of accounts, workloads and the organization. Which findings belong to a report is decided
in `controls`; comparing days does not belong here.

Sources: AWS Security Hub user guide, pages controls-overall-status and standards-security-score;
for the resource score AWS Config developer guide, page conformance-pack-dashboard.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.model.filters import filter_expression
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from posture_pipeline.settings import Report

METHOD_VERSION = "3"
"""Raised when the same findings would give another score. 2: failures that aged out of Security Hub
are carried forward; scores of which findings are missing are withheld. 3: NOT_APPLICABLE
and stale findings are no evidence; every resource of a finding counts."""

COLLECT_FAILING = "failing"
"""The collect mode that leaves PASSED findings out; the other one is `all`."""

ACCOUNTS_AT_ONCE = 250
"""Accounts whose workloads are scored together, unless one workload has more: some 0.1 GB."""

NO_CONTROLS = "the report expects no controls"
NO_FINDINGS = "no findings in the snapshot"
NO_CONTROL_HAS_DATA = "no control has data"

_PASSED, _FAILED, _UNKNOWN, _NO_DATA = (
    pl.lit(status) for status in ("PASSED", "FAILED", "UNKNOWN", "NO_DATA")
)
_FINDINGS, _CARRIED, _ASSUMED, _NONE = (
    pl.lit(basis) for basis in ("findings", "carried", "assumed", "none")
)

_ACCOUNT_COLUMNS = (
    "account_id",
    "account_name",
    "workload",
    "environment",
    "owner",
    "workload_source",
)

_SCORED_BY = (
    "account_id",
    "region",
    "standards",
    "consolidated",
    "security_control_id",
    "standard_control_id",
    "config_compliance_type",
    "config_rule_name",
    "rule_name",
    "pack_suffix",
    "record_state",
    "workflow_status",
    "compliance_status",
    "resource_id",
    "more_resource_ids",
    "product",
    "updated_at",
    "last_observed_at",
    "collected_at",
)
"""Columns of findings that decide the status of a control, whatever the report's filter."""

_COUNTS = (
    "passed_findings",
    "failed_findings",
    "unknown_findings",
    "suppressed_findings",
    "stale_findings",
    "passed_resources",
    "failed_resources",
    "unknown_resources",
    "carried_findings",
)


@dataclass(frozen=True, slots=True)
class ScoreContext:
    """What the scores of a day have in common.

    Attributes:
        day: The snapshot's day.
        collected_at: When the snapshot was complete; with a time zone.
        reports: The reports to score; each has a row for every scope.
        collect: Which findings were collected.
        reporting: Accounts with any active finding in the snapshot, see `reporting_accounts`;
            null: the accounts that the control status shows to report.
        carry_days: For how many days failures that aged out are carried.
        incomplete: What the snapshot lacks by intention; null: nothing.
    """

    day: date
    collected_at: datetime
    reports: tuple[Report, ...]
    collect: str = "all"
    reporting: frozenset[str] | None = None
    carry_days: int = 0
    incomplete: str | None = None

    @property
    def method(self) -> str:
        """The method as the scores name it."""
        return METHOD_VERSION + (", collect=failing" if self.collect == COLLECT_FAILING else "")

    def settings_hash(self, report: Report) -> str:
        """Of the settings that decide the report's scores."""
        return report.score_hash(self.carry_days)


# --- from findings to the status of a control in an account -----------------------------------


def control_status(
    findings: pl.LazyFrame,
    expected: pl.DataFrame,
    report: Report,
    accounts: pl.DataFrame,
    *,
    day: date,
    collect: str = "all",
    carried: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The status of every expected control of a report in every account.

    Findings that are ARCHIVED are ignored, SUPPRESSED ones are counted as such only. Then:

    1. any FAILED, or a failure that is carried forward: FAILED
    2. else any WARNING, NOT_AVAILABLE, absent status, or one we do not know: UNKNOWN
    3. else at least one finding: PASSED
    4. else NO_DATA

    A rule of a conformance pack, or a custom one, without any finding counts as PASSED with the
    basis `assumed` if the account has any active finding that day: AWS Config need not send one for
    a resource that always complied. A rule whose findings are all suppressed does have findings, so
    it stays NO_DATA. With `collect="failing"` the PASSED findings were left out, so every expected
    control without a counted finding is assumed in that way, those of standards too.

    Args:
        findings: All findings of the day, columns of `schemas.ACCOUNT_FINDINGS`.
        expected: Columns of `schemas.EXPECTED_CONTROLS`; rows of other reports are ignored.
        report: The report.
        accounts: `account_id` (String) of the accounts to score; findings of others are ignored.
        day: The snapshot's day.
        collect: Which findings were collected.
        carried: Rows of `schemas.CARRIED_FAILURES` of the day; null: none.

    Returns:
        Columns of `schemas.CONTROL_STATUS`. One row for each account and control that is enabled
        or has a finding, sorted by its key.
    """
    return control_status_of_reports(
        findings, expected, [report], accounts, day=day, collect=collect, carried=carried
    )


def control_status_of_reports(
    findings: pl.LazyFrame,
    expected: pl.DataFrame,
    reports: Sequence[Report],
    accounts: pl.DataFrame,
    *,
    day: date,
    collect: str = "all",
    carried: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The control status of several reports.

    Arguments and columns as for `control_status`; the reports follow each other as given.
    """
    filters = [filter_expression(report.filter) for report in reports if report.filter is not None]
    columns = {*_SCORED_BY, *(name for each in filters for name in each.meta.root_names())}
    # Read once for all reports.
    active = findings.filter(pl.col("record_state") == "ACTIVE").select(sorted(columns))
    findings = active.collect(engine="streaming").lazy()
    reporting = reporting_accounts(findings).collect(engine="streaming")
    scored = accounts.select(
        pl.col("account_id").unique(maintain_order=True),
    ).with_columns(_reports=pl.col("account_id").is_in(reporting["account_id"].implode()))
    carried = CARRIED_FAILURES.empty() if carried is None else carried
    tables = []
    for report in reports:
        controls = expected.filter(pl.col("report") == report.name)
        counts = control_counts(
            findings_of_report(findings, report, expected, keep_stale=True),
            carried.filter(pl.col("report") == report.name),
        ).collect(engine="streaming")
        tables.append(_status_rows(report, controls, counts, scored, day=day, collect=collect))
    return pl.concat(tables) if tables else CONTROL_STATUS.empty()


def _status_rows(
    report: Report,
    expected: pl.DataFrame,
    counts: pl.DataFrame,
    accounts: pl.DataFrame,
    *,
    day: date,
    collect: str,
) -> pl.DataFrame:
    """A row for each account and control, from the counts of those that have findings."""
    controls = expected.select(
        "control_id", "severity", enabled=pl.col("enabled").fill_null(value=True)
    ).unique("control_id")
    rows = (
        accounts.sort("account_id")
        .join(controls.sort("control_id"), how="cross", maintain_order="left_right")
        .join(counts, on=["account_id", "control_id"], how="left", maintain_order="left")
        .filter(pl.col("enabled") | pl.col("suppressed_findings").is_not_null())
        .with_columns(pl.col(*_COUNTS, "regions", "unclear_copies").fill_null(0))
        .with_columns(
            unclear_copies=pl.col("unclear_copies") * int(report.conformance_pack is not None),
            date=pl.lit(day),
            report=pl.lit(report.name),
            report_kind=pl.lit(report.kind),
            _may_be_assumed=may_be_assumed(report, collect),
        )
        .with_columns(status=status(), basis=basis())
    )
    return CONTROL_STATUS.project(rows)


def control_counts(findings: pl.LazyFrame, carried: pl.DataFrame) -> pl.LazyFrame:
    """Counts the findings of each control in each account; archived ones are ignored.

    Suppressed findings, and stale ones, are counted as such only.

    A resource counts once in an account, whatever its regions: as failed if a finding of it failed
    or a failure of it is carried, else as unknown if one could not be evaluated, else as passed.

    Args:
        findings: As `controls.findings_of_report` gives them, the stale ones too.
        carried: Rows of `schemas.CARRIED_FAILURES` of the same report.

    Returns:
        account_id, control_id and the counts of `schemas.CONTROL_STATUS`, for every control with an
        active finding or a carried failure in an account.
    """
    first, stale = pl.col("first_resource"), pl.col("stale")
    suppressed = pl.col("workflow_status").eq_missing("SUPPRESSED") & ~stale
    passed = pl.col("compliance_status").eq_missing("PASSED")
    failed = pl.col("compliance_status").eq_missing("FAILED")
    counts = ~suppressed & ~stale
    of_copy = counts & pl.col("pack_suffix").is_not_null()
    # Hashes are counted twice as fast as texts.
    region = pl.col("region")
    resource = pl.col("resource_id").fill_null("").hash()
    active = findings.filter(pl.col("record_state") == "ACTIVE").select(
        "account_id",
        "control_id",
        _region=pl.when(counts & region.is_not_null()).then(region.hash()),
        _copy=pl.when(of_copy).then(pl.struct("region", "pack_suffix").hash()),
        _copy_region=pl.when(of_copy).then(region.hash()),
        _suppressed=suppressed & first,
        _stale=stale & first,
        _passed=passed & counts & first,
        _failed=failed & counts & first,
        _unknown=~passed & ~failed & counts & first,
        _resource=pl.when(counts).then(resource),
        _not_passed=pl.when(~passed & counts).then(resource),
        _failing=pl.when(failed & counts).then(resource),
        _carried=pl.lit(value=False),
    )
    none, no, yes = pl.lit(None, pl.UInt64), pl.lit(value=False), pl.lit(value=True)
    of_carried = carried.lazy().select(
        "account_id",
        "control_id",
        _region=none,
        _copy=none,
        _copy_region=none,
        _suppressed=no,
        _stale=no,
        _passed=no,
        _failed=no,
        _unknown=no,
        _resource=resource,
        _not_passed=resource,
        _failing=resource,
        _carried=yes,
    )
    counted = pl.concat([active, of_carried])
    return counted.group_by("account_id", "control_id").agg(
        passed_findings=pl.col("_passed").sum().cast(pl.Int64),
        failed_findings=pl.col("_failed").sum().cast(pl.Int64),
        unknown_findings=pl.col("_unknown").sum().cast(pl.Int64),
        suppressed_findings=pl.col("_suppressed").sum().cast(pl.Int64),
        stale_findings=pl.col("_stale").sum().cast(pl.Int64),
        regions=_distinct("_region").cast(pl.Int32),
        unclear_copies=(_distinct("_copy") - _distinct("_copy_region")).cast(pl.Int32),
        failed_resources=_distinct("_failing"),
        passed_resources=_distinct("_resource") - _distinct("_not_passed"),
        unknown_resources=_distinct("_not_passed") - _distinct("_failing"),
        carried_findings=pl.col("_carried").sum().cast(pl.Int64),
    )


def _distinct(name: str) -> pl.Expr:
    """How many values there are, null not among them; filtering each group first takes longer."""
    values = pl.col(name)
    return values.n_unique().cast(pl.Int64) - (values.null_count() > 0).cast(pl.Int64)


def reporting_accounts(findings: pl.LazyFrame) -> pl.LazyFrame:
    """The accounts that report at all: those with any active finding, of whatever product.

    Returns:
        account_id (String), each once.
    """
    return findings.filter(pl.col("record_state") == "ACTIVE").select("account_id").unique()


def may_be_assumed(report: Report, collect: str) -> pl.Expr:
    """Whether a control without a counted finding passes, if the account reports."""
    if collect == COLLECT_FAILING:
        # A stale failure proves that the control did not pass when it was last checked.
        return pl.col("stale_findings") == 0
    if report.is_of_standards:
        return pl.lit(value=False)
    return pl.col("suppressed_findings") == 0


def status() -> pl.Expr:
    """The status of a control, from the counts of its findings."""
    return (
        pl.when((pl.col("failed_findings") > 0) | (pl.col("carried_findings") > 0))
        .then(_FAILED)
        .when(pl.col("unknown_findings") > 0)
        .then(_UNKNOWN)
        .when((pl.col("passed_findings") > 0) | _assumed())
        .then(_PASSED)
        .otherwise(_NO_DATA)
    )


def basis() -> pl.Expr:
    """What the status of a control rests on."""
    has_findings = pl.sum_horizontal("passed_findings", "failed_findings", "unknown_findings") > 0
    return (
        pl.when(has_findings)
        .then(_FINDINGS)
        .when(pl.col("carried_findings") > 0)
        .then(_CARRIED)
        .when(_assumed())
        .then(_ASSUMED)
        .otherwise(_NONE)
    )


def _assumed() -> pl.Expr:
    return pl.col("enabled") & pl.col("_reports") & pl.col("_may_be_assumed")


# --- from the status of controls to scores ----------------------------------------------------


def account_scores(
    control_status: pl.DataFrame,
    expected: pl.DataFrame,
    accounts: pl.DataFrame,
    context: ScoreContext,
) -> pl.DataFrame:
    """The score of every account on every report.

    Args:
        control_status: Columns of `schemas.CONTROL_STATUS`, all reports.
        expected: Columns of `schemas.EXPECTED_CONTROLS`.
        accounts: The accounts to score: account_id, account_name, workload, environment, owner,
            workload_source (String), and source, each account once.
        context: What the scores of the day have in common.

    Returns:
        Columns of `schemas.ACCOUNT_SCORES`: every account exactly once a report, with a null score
        and a reason where nothing can be said.
    """
    accounts = accounts.select(
        *_ACCOUNT_COLUMNS,
        account_source=pl.col("source")
        if "source" in accounts.columns
        else pl.lit(None, pl.String),
    ).unique("account_id")
    scopes = _with_coverage(accounts, ["account_id"], control_status, context).join(
        accounts, on="account_id", how="left"
    )
    return _scores(ACCOUNT_SCORES, ["account_id"], scopes, control_status.lazy(), expected, context)


def workload_scores(
    control_status: pl.DataFrame,
    expected: pl.DataFrame,
    accounts: pl.DataFrame,
    context: ScoreContext,
) -> pl.DataFrame:
    """The score of every workload and environment on every report: the union of its accounts.

    A control that fails in one of them fails. Arguments as for `account_scores`.

    Returns:
        Columns of `schemas.WORKLOAD_SCORES`.
    """
    keys = ["workload", "environment"]
    accounts = accounts.select("account_id", *keys).unique("account_id")
    scopes = _with_coverage(accounts, keys, control_status, context)
    of_group = (
        scopes.group_by("workload")
        .agg(pl.col("accounts").sum())
        .sort("workload")
        .with_columns(group=pl.col("accounts").cum_sum() // ACCOUNTS_AT_ONCE)
        .partition_by("group")
    )
    tables = [WORKLOAD_SCORES.empty()]
    for group in of_group:
        named = pl.col("workload").is_in(group["workload"].implode(), nulls_equal=True)
        in_scope = control_status.lazy().join(
            accounts.filter(named).lazy(), on="account_id", how="inner"
        )
        tables.append(
            _scores(WORKLOAD_SCORES, keys, scopes.filter(named), in_scope, expected, context)
        )
    return pl.concat(tables).sort(WORKLOAD_SCORES.key)


def organization_scores(
    control_status: pl.DataFrame,
    expected: pl.DataFrame,
    accounts: pl.DataFrame,
    context: ScoreContext,
) -> pl.DataFrame:
    """The score of the organization on every report: the union of all accounts, not their mean.

    Arguments as for `account_scores`.

    Returns:
        Columns of `schemas.ORGANIZATION_SCORES`: one row a report, also without any account.
    """
    accounts = accounts.select("account_id").unique()
    reporting = _reporting(control_status, context)
    scopes = accounts.select(
        accounts=pl.len().cast(pl.Int32),
        accounts_with_data=pl.col("account_id").is_in(reporting.implode()).sum().cast(pl.Int32),
    )
    in_scope = control_status.lazy().join(accounts.lazy(), on="account_id", how="semi")
    return _scores(ORGANIZATION_SCORES, [], scopes, in_scope, expected, context)


def status_in_scope(control_status: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """The status of a control over several accounts: the worst that its findings say.

    FAILED in one account is FAILED; then UNKNOWN; then PASSED. It is assumed only if no account has
    a finding for it and one of them reports.

    Args:
        control_status: Columns of `schemas.CONTROL_STATUS`, and the keys.
        keys: Columns that name the scope.

    Returns:
        The keys, report, control_id, severity, status, basis, the summed counts and unclear
        copies, and the most regions that the control has data in.
    """
    found = pl.col("basis") == "findings"
    return (
        control_status.group_by(*keys, "report", "control_id")
        .agg(
            pl.col("severity").drop_nulls().first(),
            pl.col(*_COUNTS, "unclear_copies").sum(),
            pl.col("regions").max(),
            _failed=(pl.col("status") == "FAILED").any(),
            _unknown=(pl.col("status") == "UNKNOWN").any(),
            _passed=(found & (pl.col("status") == "PASSED")).any(),
            _found=found.any(),
            _carried=(pl.col("basis") == "carried").any(),
            _assumed=(pl.col("basis") == "assumed").any(),
        )
        .with_columns(
            status=pl.when("_failed")
            .then(_FAILED)
            .when("_unknown")
            .then(_UNKNOWN)
            .when(pl.col("_passed") | pl.col("_assumed"))
            .then(_PASSED)
            .otherwise(_NO_DATA),
            basis=pl.when("_found")
            .then(_FINDINGS)
            .when("_carried")
            .then(_CARRIED)
            .when("_assumed")
            .then(_ASSUMED)
            .otherwise(_NONE),
        )
        .drop("_failed", "_unknown", "_passed", "_found", "_carried", "_assumed")
    )


def score() -> pl.Expr:
    """100 x passed / (passed + failed + unknown), null when nothing is counted.

    AWS: "Security Hub calculates a score as the proportion of Passed controls to enabled controls",
    where controls with no data are not counted.
    """
    return pl.when(_denominator() > 0).then(100 * pl.col("passed") / _denominator())


def console_score() -> pl.Expr:
    """The score to the nearest whole number, half up; in whole numbers, so that 0.5 is exact."""
    passed, denominator = pl.col("passed"), _denominator()
    return pl.when(denominator > 0).then((200 * passed + denominator) // (2 * denominator))


def resource_score() -> pl.Expr:
    """100 x passed / (passed + failed) over pairs of a control and a resource.

    The unit of AWS Config's conformance pack score: compliant rule-resource combinations.
    """
    pairs = pl.col("passed_resources") + pl.col("failed_resources")
    return pl.when(pairs > 0).then(100 * pl.col("passed_resources") / pairs)


def reason() -> pl.Expr:
    """Why there is no score; null when there is one."""
    return (
        pl.when(_denominator() > 0)
        .then(None)
        .when(pl.col("accounts_with_data") == 0)
        .then(pl.lit(NO_FINDINGS))
        .when(pl.col("expected") == 0)
        .then(pl.lit(NO_CONTROLS))
        .otherwise(pl.lit(NO_CONTROL_HAS_DATA))
    )


def control_set_hash(expected: pl.DataFrame, report: str) -> str:
    """A hash of the controls that a report expects: enabled ones, whatever their order."""
    enabled = expected.filter(
        (pl.col("report") == report) & pl.col("enabled").fill_null(value=True)
    )
    ids = enabled["control_id"].unique().sort().to_list()
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]


def _denominator() -> pl.Expr:
    return pl.col("passed") + pl.col("failed") + pl.col("unknown")


def _reporting(control_status: pl.DataFrame, context: ScoreContext) -> pl.Series:
    if context.reporting is not None:
        return pl.Series("account_id", sorted(context.reporting), dtype=pl.String)
    shows_data = pl.col("basis").is_in(["findings", "assumed"]) | (
        pl.col("suppressed_findings") > 0
    )
    return control_status.filter(shows_data)["account_id"].unique()


def _with_coverage(
    accounts: pl.DataFrame,
    keys: list[str],
    control_status: pl.DataFrame,
    context: ScoreContext,
) -> pl.DataFrame:
    """The scopes, with their accounts and how many of these report."""
    reporting = _reporting(control_status, context)
    return accounts.group_by(keys).agg(
        accounts=pl.len().cast(pl.Int32),
        accounts_with_data=pl.col("account_id").is_in(reporting.implode()).sum().cast(pl.Int32),
    )


def _scores(
    table: Table,
    keys: list[str],
    scopes: pl.DataFrame,
    controls: pl.LazyFrame,
    expected: pl.DataFrame,
    context: ScoreContext,
) -> pl.DataFrame:
    """The table's rows: each scope with each report, whether there are findings or not."""
    if keys != ["account_id"]:
        # An account has one row a control as it is.
        controls = status_in_scope(controls, keys)
    totals = _totals(controls, keys).collect(engine="streaming")
    rows = (
        scopes.join(_reports(expected, context), how="cross")
        .join(totals, on=[*keys, "report"], how="left", nulls_equal=True)
        .with_columns(pl.col(*SCORE_COUNTS).fill_null(0))
        .with_columns(
            score=score(),
            console_score=console_score(),
            resource_score=resource_score(),
            reason=reason(),
            # They are known once the day before is.
            last_score=None,
            last_score_date=None,
        )
    )
    return table.project(rows).sort(table.key)


SCORE_COUNTS = (
    "passed",
    "failed",
    "unknown",
    "no_data",
    "assumed",
    "expected",
    "findings",
    "failed_findings",
    "failed_critical",
    "failed_high",
    "failed_medium",
    "failed_low",
    "suppressed_findings",
    "stale_findings",
    "passed_resources",
    "failed_resources",
    "controls_with_data",
    "regions_with_data",
    "carried",
    "carried_findings",
)
"""The counts that go with a score."""


def _totals(controls: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """The counts that go with a score."""

    def of_status(name: str) -> pl.Expr:
        return (pl.col("status") == name).sum().cast(pl.Int32)

    def failed_where(severity: pl.Expr) -> pl.Expr:
        return pl.col("failed_findings").filter(severity).sum()

    severity = pl.col("severity").str.to_uppercase()
    rated = ("CRITICAL", "HIGH", "MEDIUM")
    findings = pl.sum_horizontal("passed_findings", "failed_findings", "unknown_findings")
    return controls.group_by(*keys, "report").agg(
        passed=of_status("PASSED"),
        failed=of_status("FAILED"),
        unknown=of_status("UNKNOWN"),
        no_data=of_status("NO_DATA"),
        assumed=(pl.col("basis") == "assumed").sum().cast(pl.Int32),
        expected=pl.len().cast(pl.Int32),
        findings=findings.sum(),
        failed_findings=pl.col("failed_findings").sum(),
        failed_critical=failed_where(severity == "CRITICAL"),
        failed_high=failed_where(severity == "HIGH"),
        failed_medium=failed_where(severity == "MEDIUM"),
        failed_low=failed_where(severity.is_in(rated).fill_null(value=False).not_()),
        suppressed_findings=pl.col("suppressed_findings").sum(),
        stale_findings=pl.col("stale_findings").sum(),
        passed_resources=pl.col("passed_resources").sum(),
        failed_resources=pl.col("failed_resources").sum(),
        controls_with_data=(pl.col("basis") == "findings").sum().cast(pl.Int32),
        regions_with_data=pl.col("regions").max(),
        carried=((pl.col("carried_findings") > 0) & (pl.col("failed_findings") == 0))
        .sum()
        .cast(pl.Int32),
        carried_findings=pl.col("carried_findings").sum(),
    )


def _reports(expected: pl.DataFrame, context: ScoreContext) -> pl.DataFrame:
    """What each report's scores have in common."""
    return pl.DataFrame(
        {
            "date": [context.day] * len(context.reports),
            "report": [report.name for report in context.reports],
            "report_kind": [report.kind for report in context.reports],
            "method": [context.method] * len(context.reports),
            "control_set_hash": [
                control_set_hash(expected, report.name) for report in context.reports
            ],
            "settings_hash": [context.settings_hash(report) for report in context.reports],
            "collected_at": [context.collected_at] * len(context.reports),
            "incomplete": [context.incomplete] * len(context.reports),
        },
        schema_overrides={
            "report": pl.String,
            "report_kind": pl.String,
            "incomplete": pl.String,
        },
    )
