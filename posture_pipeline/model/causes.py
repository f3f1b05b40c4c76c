"""Why the status of a control in an account is not on the later day what it was on the earlier one.

The cause of every change comes from evidence: the findings of both days, matched as the same
problem by account, region, control and resource, and what is known of a finding that vanished. A
failing finding that vanished is never called fixed for that alone. What a change is worth in points
is computed in `changes`; reading the findings does not belong here.

Sources: AWS Security Hub user guide, pages securityhub-findings (findings are deleted 90 days after
their last update), controls-findings-create-update (archiving), securityhub-internal-providers
(findings of AWS Config are updated only when compliance changes, and never archived).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

import polars as pl

from posture_pipeline.model.controls import AGED_OUT_DAYS, CONFIG_PRODUCT
from posture_pipeline.model.scoring import COLLECT_FAILING, NO_FINDINGS
from posture_pipeline.schemas import ACCOUNT_FINDINGS, SCORE_CHANGE_CAUSES, SEPARATOR, TIMESTAMP

ALWAYS_PASSED = "Config.1"
"""The control that passes in every account where the unified Security Hub is enabled too: AWS
Config then records by a service-linked recorder."""
ALWAYS_PASSED_SINCE = date(2026, 5, 27)
"""The day since which AWS passes it (user guide, Config.1)."""

CAUSES: dict[str, str] = {
    "new_failing_resource": "a resource that was not there before fails",
    "new_passing_resource": "a resource that was not there before passes",
    "regression": "the resource passed before and fails now",
    "fixed": "the resource passes now",
    "always_passed": "AWS always passes this control beside the unified Security Hub; not a fix",
    "resource_gone": "the resource is gone",
    "not_applicable": "AWS Config no longer evaluates the resource: deleted, or out of scope",
    "suppressed": "somebody suppressed the finding, so it no longer counts",
    "unsuppressed": "the finding is no longer suppressed, so it counts again",
    "control_added": "the control was added to the report",
    "control_removed": "the control was taken out of the report",
    "account_joined": "the account joined (or became active)",
    "account_left": "the account left (or is no longer active)",
    "account_moved": "the account moved between workloads",
    "could_not_be_evaluated": "the check could not be evaluated",
    "evaluated_again": "the check could be evaluated again",
    "archived": "AWS archived the finding",
    "aged_out": "AWS deleted the finding because it was not updated for 90 days; not a fix",
    "rule_broken": "AWS archived the findings because their AWS Config rule broke; not a fix",
    "check_stopped": "the check no longer runs, so its old finding does not count; not a fix",
    "carried_too_long": "carried forward as failing for as long as the settings allow; not a fix",
    "found_again": "the failure that was carried forward has a finding again",
    "account_silent": "the account sent no findings",
    "account_back": "the account sends findings again",
    "no_evidence": "nothing that was collected says why",
    "method_changed": "the scoring method changed, not the posture",
    "settings_changed": "the settings of the report changed, not the posture",
}
"""Every cause, and what it says to a person."""

LOST_EVIDENCE = frozenset(
    {
        "aged_out",
        "carried_too_long",
        "no_evidence",
        "account_silent",
        "archived",
        "rule_broken",
        "check_stopped",
    }
)
"""Causes of findings that are missing without being fixed."""

NOTHING_LEFT = "no finding of the resource is left"
"""The detail of a resource that is gone, where nothing but that says so."""

ABSENT = "ABSENT"
"""The state of a problem that has no active finding on a day."""
CARRIED = "CARRIED"
"""The state of a failure that has no finding any more and is carried forward, see `carried`."""
FAILING = ("FAILED", CARRIED)
NOT_PASSING = ("FAILED", "UNKNOWN", CARRIED)

PAIR = ["report", "account_id", "control_id"]
CHECK = ["report", "account_id", "region", "control_id"]
PROBLEM = ["report", "account_id", "region", "control_id", "resource_id"]
"""What makes findings of two days the same problem. Never their ids: those change when an
organization turns to consolidated control findings."""

BROKEN_RULE_CODES = ("CONFIG_RULE_EVALUATION_ERROR", "CONFIG_ACCESS_DENIED")
"""Reason codes of the archived finding that AWS makes when a Config rule cannot be evaluated."""

_CONSOLIDATION = "CONSOLIDATED_CONTROL_FINDINGS_UPDATE"
_REPLACED = pl.col("archival_reasons").str.contains(_CONSOLIDATION, literal=True)
_DELETED_RESOURCE = pl.col("archival_reasons").str.contains("RESOURCE", literal=True)

STAND_IN = "AWS::::Account:"
"""How the resource begins that stands for a whole account: also for one without any resource that
a control is about, with a PASSED finding that goes as soon as there is such a resource."""

_EVIDENCE_COLUMNS = (
    "finding_id",
    "updated_at",
    "created_at",
    "first_observed_at",
    "product",
    "reason_codes",
    "note_text",
    "note_updated_by",
    "note_updated_at",
)
CAUSE_SCHEMA = pl.Schema(
    {
        name: dtype
        for name, dtype in SCORE_CHANGE_CAUSES.schema.items()
        if name not in ("date", "compared_with", "scope", "workload", "environment", "decisive")
    }
)


PROBLEM_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(PROBLEM, pl.String()),
        "state": pl.String(),
        "hides": pl.String(),
        **{name: ACCOUNT_FINDINGS.schema[name] for name in _EVIDENCE_COLUMNS},
    }
)
"""What `problems` gives."""

ARCHIVED_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(PROBLEM, pl.String()),
        "finding_id": pl.String(),
        "archival_reasons": pl.String(),
        "compliance_status": pl.String(),
        "updated_at": TIMESTAMP,
    }
)
"""What is kept of an archived finding."""


class Snapshot(Protocol):
    """What the causes of a day's findings need of the day."""

    @property
    def day(self) -> date:
        """The snapshot's day."""

    @property
    def expected(self) -> pl.DataFrame:
        """Rows of `schemas.EXPECTED_CONTROLS`."""

    @property
    def controls(self) -> pl.DataFrame:
        """report, control_id of the controls that each report counts on the day."""

    @property
    def collects_failing(self) -> bool:
        """Whether PASSED findings were left out of the snapshot."""

    @property
    def unified_hub_since(self) -> date | None:
        """Day on which the unified Security Hub was enabled; None if it is not, or not known."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A day of findings, whether it has scores or not; attributes as in `Snapshot`."""

    day: date
    expected: pl.DataFrame
    controls: pl.DataFrame
    collects_failing: bool = False
    unified_hub_since: date | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """A stored day, as far as comparing needs it.

    Attributes:
        day: The snapshot's day.
        control_status: Rows of `schemas.CONTROL_STATUS`.
        accounts: Rows of `schemas.ACCOUNT_SCORES`: accounts with their workload, method, settings.
        expected: Rows of `schemas.EXPECTED_CONTROLS`.
        controls: As `controls_there` gives them, of all accounts.
        workloads: Rows of `schemas.WORKLOAD_SCORES`.
        organization: Rows of `schemas.ORGANIZATION_SCORES`.
        unified_hub_since: Day on which the unified Security Hub was enabled; None if it is not, or
            not known.
    """

    day: date
    control_status: pl.DataFrame
    accounts: pl.DataFrame
    expected: pl.DataFrame
    controls: pl.DataFrame
    workloads: pl.DataFrame
    organization: pl.DataFrame
    unified_hub_since: date | None = None

    @property
    def collects_failing(self) -> bool:
        """Whether PASSED findings were left out of the day's snapshot."""
        methods = self.accounts["method"].drop_nulls().unique()
        return any(COLLECT_FAILING in method for method in methods)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What tells why findings are gone, or why they came; see the functions that make it.

    Attributes:
        archived: Archived findings of the vanished problems, columns of ARCHIVED_SCHEMA.
        deleted_resources: account_id, region, resource_id of which an archived finding, of
            whatever control, says that the resource was deleted.
        regions_before: account_id, region with any active finding on the earlier day.
        regions_after: The same of the later day.
        resources_before: account_id, region, resource_id, findings: active findings of any
            product, for the resources of vanished problems.
        resources_after: The same of the later day.
        broken_rules: report, account_id, region, control_id of controls of which an archived
            finding says that the rule could not be evaluated, see `is_lost_evidence`.
        not_applicable: PROBLEM columns of which a finding of the later day says that AWS Config
            does not evaluate the resource.
        stale_before: PROBLEM columns that have a stale finding on the earlier day, see
            `controls.with_staleness`.
        stale_after: The same of the later day.
    """

    archived: pl.DataFrame
    deleted_resources: pl.DataFrame
    regions_before: pl.DataFrame
    regions_after: pl.DataFrame
    resources_before: pl.DataFrame
    resources_after: pl.DataFrame
    broken_rules: pl.DataFrame = field(default_factory=lambda: _no_rows(CHECK))
    not_applicable: pl.DataFrame = field(default_factory=lambda: _no_rows(PROBLEM))
    stale_before: pl.DataFrame = field(default_factory=lambda: _no_rows(PROBLEM))
    stale_after: pl.DataFrame = field(default_factory=lambda: _no_rows(PROBLEM))


def _no_rows(columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.String()))


# --- which controls of which accounts ---------------------------------------------------------


def changed_pairs(before: Day, after: Day) -> pl.DataFrame:
    """The controls whose status changed in an account, and the cause if it is the whole account.

    Returns:
        report, account_id, control_id, status_before, status_after (null: no such row that day) and
        account_cause: account_joined, account_left, account_silent, account_back, or null where the
        findings have to tell.
    """
    columns = [*PAIR, "status"]
    status = before.control_status.select(columns).join(
        after.control_status.select(columns), on=PAIR, how="full", coalesce=True, suffix="_after"
    )
    changed = status.rename({"status": "status_before"}).filter(
        status_changed("status_before", "status_after")
    )
    accounts = _accounts(before.accounts, "before").join(
        _accounts(after.accounts, "after"), on="account_id", how="full", coalesce=True
    )
    cause = (
        pl.when(pl.col("silent_before").is_null())
        .then(pl.lit("account_joined"))
        .when(pl.col("silent_after").is_null())
        .then(pl.lit("account_left"))
        .when("silent_after")
        .then(pl.lit("account_silent"))
        .when("silent_before")
        .then(pl.lit("account_back"))
    )
    return changed.join(
        accounts.select("account_id", account_cause=cause), on="account_id", how="left"
    ).select(*PAIR, "status_before", "status_after", "account_cause")


def status_changed(before: str, after: str) -> pl.Expr:
    """Whether a status is another one; a control that is not there is like one without data."""
    return pl.col(before).fill_null("NO_DATA") != pl.col(after).fill_null("NO_DATA")


def _accounts(accounts: pl.DataFrame, when: str) -> pl.DataFrame:
    """account_id, and whether it sent nothing at all: then that is why it has no score."""
    silent = pl.col("reason").eq_missing(NO_FINDINGS).any().alias(f"silent_{when}")
    return accounts.group_by("account_id").agg(silent)


# --- from findings to problems ----------------------------------------------------------------


def problems(findings: pl.LazyFrame, report: str) -> pl.LazyFrame:
    """The state of each problem on a day, from its active findings.

    Like the status of a control: FAILED before UNKNOWN before PASSED; SUPPRESSED if every finding
    of it is.

    Args:
        findings: As `controls.findings_of_report` gives them; archived ones are ignored.
        report: Name of the report.

    Returns:
        Columns of PROBLEM_SCHEMA: state, hides (the state of its suppressed findings if they
        counted; null: it has none), the note of the suppressed findings, and the other evidence of
        the findings that decide; several ids are joined by a space.
    """
    suppressed = pl.col("workflow_status").eq_missing("SUPPRESSED")
    passed = pl.col("compliance_status").eq_missing("PASSED")
    failed = pl.col("compliance_status").eq_missing("FAILED")
    state = (
        pl.when(suppressed)
        .then(pl.lit("SUPPRESSED"))
        .when(passed | failed)
        .then("compliance_status")
        .otherwise(pl.lit("UNKNOWN"))
    )
    hides = (
        pl.when(~pl.col("_any_suppressed"))
        .then(None)
        .when("_failed")
        .then(pl.lit("FAILED"))
        .when("_passed")
        .then(pl.lit("PASSED"))
        .otherwise(pl.lit("UNKNOWN"))
    )
    rank = pl.col("state").replace_strict(
        {"FAILED": 3, "UNKNOWN": 2, "PASSED": 1, "SUPPRESSED": 0}, return_dtype=pl.Int8
    )
    decides = pl.col("rank") == pl.col("rank").max()
    of = {name: pl.col(name).filter(decides) for name in _EVIDENCE_COLUMNS}
    note = {name: pl.col(name).filter("_suppressed") for name in _EVIDENCE_COLUMNS}
    joined = ("finding_id", "reason_codes")
    return (
        named(findings.filter(pl.col("record_state") == "ACTIVE"))
        .with_columns(
            report=pl.lit(report),
            state=state,
            _suppressed=suppressed,
            _failed=suppressed & failed,
            _passed=passed | ~suppressed,
        )
        .with_columns(rank=rank)
        .group_by(PROBLEM)
        .agg(
            pl.col("state").filter(decides).first(),
            pl.col("_suppressed").any().alias("_any_suppressed"),
            pl.col("_failed").any(),
            pl.col("_passed").all(),
            *(of[name].drop_nulls().unique().sort().str.join(SEPARATOR) for name in joined),
            of["updated_at"].max(),
            of["created_at"].min(),
            of["first_observed_at"].min(),
            of["product"].drop_nulls().first(),
            *(note[name].drop_nulls().first() for name in ("note_text", "note_updated_by")),
            note["note_updated_at"].max(),
        )
        .with_columns(hides=hides)
        .drop("_any_suppressed", "_failed", "_passed")
    )


def named(findings: pl.LazyFrame) -> pl.LazyFrame:
    """The findings without null regions and resources, so that they can be matched."""
    return findings.with_columns(pl.col("region", "resource_id").fill_null(""))


def transitions(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The problems whose state differs between two days.

    Args:
        before: `problems` of the earlier day.
        after: `problems` of the later day.

    Returns:
        PROBLEM columns; every other column as `..._before` and `..._after`; a state is ABSENT
        where there is no active finding.
    """
    both = before.rename(_suffixed(before, "before")).join(
        after.rename(_suffixed(after, "after")), on=PROBLEM, how="full", coalesce=True
    )
    return both.with_columns(pl.col("state_before", "state_after").fill_null(ABSENT)).filter(
        pl.col("state_before") != pl.col("state_after")
    )


def _suffixed(frame: pl.DataFrame, when: str) -> dict[str, str]:
    return {name: f"{name}_{when}" for name in frame.columns if name not in PROBLEM}


def deleted_resources(archived: pl.LazyFrame) -> pl.LazyFrame:
    """The archived findings that say of their resource that it was deleted.

    AWS: the finding of a deleted resource becomes NOT_AVAILABLE and is archived at once.
    """
    said = _DELETED_RESOURCE.fill_null(value=False)
    not_available = pl.col("compliance_status").eq_missing("NOT_AVAILABLE") & ~is_lost_evidence()
    return archived.filter(said | not_available)


def is_lost_evidence() -> pl.Expr:
    """Whether an archived finding says that the AWS Config rule of its control broke.

    AWS: when a rule cannot be evaluated, the findings of its control are archived and a new one is
    made, ARCHIVED and NOT_AVAILABLE, with one of `BROKEN_RULE_CODES`. The control has no data any
    more, so every other archived finding of that control in the account and region is no evidence
    of a fix either.

    Returns:
        Boolean, never null, over columns of `schemas.ACCOUNT_FINDINGS`.
    """
    codes = pl.col("reason_codes").fill_null("")
    broke = pl.any_horizontal(codes.str.contains(code, literal=True) for code in BROKEN_RULE_CODES)
    return broke & pl.col("compliance_status").eq_missing("NOT_AVAILABLE")


def vanished(changed: pl.DataFrame) -> pl.DataFrame:
    """The problems without an active finding on the later day; columns of PROBLEM."""
    return changed.filter(pl.col("state_after") == ABSENT).select(PROBLEM)


def appeared(changed: pl.DataFrame) -> pl.DataFrame:
    """The problems without an active finding on the earlier day; columns of PROBLEM."""
    return changed.filter(pl.col("state_before") == ABSENT).select(PROBLEM)


# --- from problems to causes ------------------------------------------------------------------


def finding_causes(
    changed: pl.DataFrame, evidence: Evidence, before: Snapshot, after: Snapshot
) -> pl.DataFrame:
    """The cause of each changed problem.

    Args:
        changed: As `transitions` gives them.
        evidence: What is known of those that vanished or came.
        before: The earlier day.
        after: The later day.

    Returns:
        Columns of CAUSE_SCHEMA.
    """
    passed_are_seen = not (before.collects_failing or after.collects_failing)
    rows = _with_evidence(changed, evidence, before, after)
    aged = pl.col("updated_at_before").dt.date() <= after.day - timedelta(days=AGED_OUT_DAYS)
    # One finding alone that vanished says nothing of its resource, and where PASSED findings are
    # not collected a resource without findings may just comply.
    no_finding_left = (
        pl.lit(passed_are_seen)
        & (pl.col("resource_findings_before") > 1)
        & (pl.col("resource_findings_after") == 0)
    )
    archived_for_resource = (
        _DELETED_RESOURCE
        | (
            (pl.col("archived_status") == "NOT_AVAILABLE")
            & (pl.col("resource_findings_after") == 0)
        )
    ).fill_null(value=False)
    was_archived = pl.col("archived_id").is_not_null()
    resource_deleted = pl.col("resource_deleted") & (pl.col("resource_findings_after") == 0)
    gone = (
        pl.when(pl.col("expected_before") & ~pl.col("expected_after"))
        .then(pl.lit("control_removed"))
        .when("stale_after")
        .then(pl.lit("check_stopped"))
        .when("rule_broken")
        .then(pl.lit("rule_broken"))
        .when("not_applicable")
        .then(pl.lit("not_applicable"))
        .when(was_archived & archived_for_resource)
        .then(pl.lit("resource_gone"))
        .when(was_archived)
        .then(pl.lit("archived"))
        .when(pl.col("stand_in_replaced") | resource_deleted)
        .then(pl.lit("resource_gone"))
        .when(pl.col("state_before") == CARRIED)
        .then(pl.lit("carried_too_long"))
        .when(aged)
        .then(pl.lit("aged_out"))
        .when(~pl.col("region_after"))
        .then(pl.lit("account_silent"))
        .when(no_finding_left)
        .then(pl.lit("resource_gone"))
        .otherwise(pl.lit("no_evidence"))
    )
    older = pl.col("created_at_after").dt.date() < before.day
    came = (
        pl.when(pl.col("expected_after") & ~pl.col("expected_before"))
        .then(pl.lit("control_added"))
        .when(~pl.col("region_before") & older)
        .then(pl.lit("account_back"))
        .when(pl.col("state_after") == "SUPPRESSED")
        .then(pl.lit("suppressed"))
        .when(pl.col("state_after") == "UNKNOWN")
        .then(pl.lit("could_not_be_evaluated"))
        .when("stale_before")
        .then(pl.lit("evaluated_again"))
        .when(pl.col("state_after").is_in(FAILING))
        .then(pl.lit("new_failing_resource"))
        # AWS Config tells of changes only: a finding from before that passes now had failed.
        .when((pl.col("product_after") == CONFIG_PRODUCT) & older)
        .then(pl.lit("fixed"))
        .otherwise(pl.lit("new_passing_resource"))
    )
    # Of a problem with several findings one may be suppressed or not, and the others decide.
    newly_hidden = (
        pl.col("state_before").is_in(["FAILED", "UNKNOWN"])
        & (pl.col("hides_after") == pl.col("state_before"))
        & pl.col("hides_before").ne_missing(pl.col("state_before"))
    ).fill_null(value=False)
    no_longer_hidden = (
        pl.col("state_after").is_in(["FAILED", "UNKNOWN"])
        & (pl.col("hides_before") == pl.col("state_after"))
        & pl.col("hides_after").ne_missing(pl.col("state_after"))
    ).fill_null(value=False)
    hub_enabled = after.unified_hub_since is not None and (
        max(after.unified_hub_since, ALWAYS_PASSED_SINCE) <= after.day
    )
    always_passed = (
        pl.lit(hub_enabled)
        & (pl.col("control_id") == ALWAYS_PASSED)
        & (pl.col("state_after") == "PASSED")
        & pl.col("state_before").is_in(NOT_PASSING)
    )
    stayed = (
        pl.when((pl.col("state_after") == "SUPPRESSED") | newly_hidden)
        .then(pl.lit("suppressed"))
        .when(always_passed)
        .then(pl.lit("always_passed"))
        .when(no_longer_hidden)
        .then(pl.lit("unsuppressed"))
        .when(pl.col("state_after") == "UNKNOWN")
        .then(pl.lit("could_not_be_evaluated"))
        .when(pl.col("state_before") == "UNKNOWN")
        .then(pl.lit("evaluated_again"))
        .when((pl.col("state_before") == "SUPPRESSED") & pl.col("state_after").is_in(FAILING))
        .then(pl.lit("unsuppressed"))
        .when((pl.col("state_before") == "SUPPRESSED") & (pl.col("hides_before") == "PASSED"))
        .then(pl.lit("unsuppressed"))
        .when(pl.col("state_after") == "PASSED")
        .then(pl.lit("fixed"))
        .when(pl.col("state_before") == CARRIED)
        .then(pl.lit("found_again"))
        .otherwise(pl.lit("regression"))
    )
    cause = (
        pl.when((pl.col("state_before") == "FAILED") & (pl.col("state_after") == CARRIED))
        .then(pl.lit("aged_out"))
        .when(pl.col("state_after") == ABSENT)
        .then(gone)
        .when(pl.col("state_before") == ABSENT)
        .then(came)
        .otherwise(stayed)
    )
    return (
        rows.with_columns(cause=cause)
        .with_columns(detail=_detail(after.unified_hub_since))
        .select(
            *PROBLEM,
            "cause",
            finding_id_before="finding_id_before",
            finding_id_after=pl.coalesce("finding_id_after", "archived_id"),
            first_observed_at=pl.coalesce("first_observed_at_after", "first_observed_at_before"),
            status_before="state_before",
            status_after="state_after",
            detail="detail",
        )
        .select(pl.col(name).cast(dtype) for name, dtype in CAUSE_SCHEMA.items())
    )


def controls_there(expected: pl.DataFrame, control_status: pl.LazyFrame) -> pl.DataFrame:
    """report, control_id of the controls that a report counts on a day.

    The enabled ones, and those that an account has findings of: what is disabled in the audit
    account may be enabled in others.

    Args:
        expected: Rows of `schemas.EXPECTED_CONTROLS`.
        control_status: Rows of `schemas.CONTROL_STATUS`, of all accounts.
    """
    keys = ["report", "control_id"]
    enabled = expected.filter(pl.col("enabled").fill_null(value=True)).select(keys)
    return pl.concat([enabled, control_status.select(keys).unique().collect()]).unique()


def _with_evidence(
    changed: pl.DataFrame, evidence: Evidence, before: Snapshot, after: Snapshot
) -> pl.DataFrame:
    """The changed problems with a column for each piece of evidence; no null booleans."""
    newest = (
        evidence.archived.filter(~_REPLACED.fill_null(value=False))
        .sort("updated_at", "finding_id")
        .unique(PROBLEM, keep="last", maintain_order=True)
        .select(
            *PROBLEM,
            "archival_reasons",
            archived_id="finding_id",
            archived_status="compliance_status",
        )
    )
    here = ["account_id", "region"]
    resource = [*here, "resource_id"]
    control = ["report", "control_id"]
    flags = (
        "expected_before",
        "expected_after",
        "region_before",
        "region_after",
        "resource_deleted",
        "rule_broken",
        "not_applicable",
        "stale_before",
        "stale_after",
    )
    a_resource_came = (pl.col("state_before") == ABSENT).any().over(*PAIR, "region")
    was_stand_in = pl.col("resource_id").str.starts_with(STAND_IN) & (
        pl.col("state_before") == "PASSED"
    )
    return (
        changed.with_columns(stand_in_replaced=was_stand_in & a_resource_came)
        .join(newest, on=PROBLEM, how="left")
        .join(_flag(before.controls, "expected_before"), on=control, how="left")
        .join(_flag(after.controls, "expected_after"), on=control, how="left")
        .join(_flag(evidence.regions_before, "region_before"), on=here, how="left")
        .join(_flag(evidence.regions_after, "region_after"), on=here, how="left")
        .join(_flag(evidence.deleted_resources, "resource_deleted"), on=resource, how="left")
        .join(_flag(evidence.broken_rules, "rule_broken"), on=CHECK, how="left")
        .join(_flag(evidence.not_applicable, "not_applicable"), on=PROBLEM, how="left")
        .join(_flag(evidence.stale_before, "stale_before"), on=PROBLEM, how="left")
        .join(_flag(evidence.stale_after, "stale_after"), on=PROBLEM, how="left")
        .join(_counted(evidence.resources_before, "before"), on=resource, how="left")
        .join(_counted(evidence.resources_after, "after"), on=resource, how="left")
        .with_columns(
            pl.col(*flags).fill_null(value=False),
            pl.col("resource_findings_before", "resource_findings_after").fill_null(0),
        )
    )


def _flag(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.unique().with_columns(pl.lit(value=True).alias(name))


def _counted(rows: pl.DataFrame, when: str) -> pl.DataFrame:
    return rows.rename({"findings": f"resource_findings_{when}"})


def _detail(unified_hub_since: date | None) -> pl.Expr:
    """The evidence in a few words; null where the statuses say it all."""
    hub = f"the unified Security Hub is enabled since {unified_hub_since}"
    by_whom = pl.concat_str(
        pl.lit("by "), pl.col("note_updated_by_after").str.split("/").list.last()
    )
    note = pl.concat_str(pl.lit('"'), pl.col("note_text_after"), pl.lit('"'))
    suppressed = pl.concat_str(by_whom, note, separator=": ", ignore_nulls=True)
    archived = pl.concat_str(
        pl.lit("archived by AWS"), "archival_reasons", separator=": ", ignore_nulls=True
    )
    last_update = pl.concat_str(
        pl.lit("last updated "), pl.col("updated_at_before").dt.date().cast(pl.String)
    )
    return (
        pl.when(pl.col("cause") == "suppressed")
        .then(suppressed.replace("", None))
        .when(pl.col("cause") == "always_passed")
        .then(pl.lit(hub))
        .when(pl.col("cause") == "could_not_be_evaluated")
        .then(pl.col("reason_codes_after").replace("", None))
        .when(
            pl.col("cause").is_in(["aged_out", "carried_too_long", "no_evidence", "check_stopped"])
        )
        .then(last_update)
        .when(pl.col("cause").is_in(["rule_broken", "not_applicable"]))
        .then(None)
        .when(pl.col("archived_id").is_not_null())
        .then(archived)
        .when((pl.col("cause") == "resource_gone") & pl.col("stand_in_replaced"))
        .then(pl.lit("it stood for no resources at all; now there is one"))
        .when((pl.col("cause") == "resource_gone") & pl.col("resource_deleted"))
        .then(pl.lit("another finding of the resource says that it was deleted"))
        .when(pl.col("cause") == "resource_gone")
        .then(pl.lit(NOTHING_LEFT))
        .when(pl.col("cause") == "account_silent")
        .then(pl.lit("no finding of the account in this region"))
    )


def wants_resources(before: Day, after: Day, pairs: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Of accounts that came, went or moved: the controls whose failing resources are to be named.

    Args:
        before: The earlier day.
        after: The later day.
        pairs: As `changed_pairs` gives them.

    Returns:
        Columns of PAIR for the earlier day (accounts that went), and for the later (that came).
    """
    moved = moved_accounts(before, after).select("account_id")
    whole = pairs.filter(pl.col("account_cause").is_not_null())
    wanted = []
    for day in (before, after):
        bad = day.control_status.filter(pl.col("status").is_in(["FAILED", "UNKNOWN"])).select(PAIR)
        both = [bad.join(whole, on=PAIR, how="semi"), bad.join(moved, on="account_id", how="semi")]
        wanted.append(pl.concat(both).unique())
    return tuple(wanted)


def moved_accounts(before: Day, after: Day) -> pl.DataFrame:
    """The accounts that are in another workload or environment than before.

    Returns:
        account_id, workload and environment, and both as `..._after`.
    """
    place = ["account_id", "workload", "environment"]
    both = (
        before.accounts.select(place)
        .unique("account_id")
        .join(after.accounts.select(place).unique("account_id"), on="account_id", suffix="_after")
    )
    return both.filter(
        pl.any_horizontal(pl.col(name) != pl.col(f"{name}_after") for name in place[1:])
    )


def with_resources(rows: pl.DataFrame, states: pl.DataFrame, when: str) -> pl.DataFrame:
    """Rows of whole controls, once for each of its resources that does not pass.

    Args:
        rows: PAIR columns and `status_before` or `status_after`.
        states: `problems` of that day.
        when: before or after: the day.

    Returns:
        The rows with region, resource_id, the finding's id and first_observed_at; a control of
        which no resource is known keeps its one row, with nulls.
    """
    bad = states.filter(pl.col("state").is_in(NOT_PASSING)).select(
        *PROBLEM,
        "first_observed_at",
        pl.col("finding_id").alias(f"finding_id_{when}"),
        _state="state",
    )
    status = f"status_{when}"
    return (
        rows.join(bad, on=PAIR, how="left")
        .with_columns(pl.coalesce("_state", status).alias(status))
        .drop("_state")
    )


def account_causes(pairs: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The causes that are the whole account's: one row a control, or a resource that fails it.

    Args:
        pairs: As `changed_pairs` gives them.
        before: `problems` of the earlier day, for accounts that went.
        after: `problems` of the later day, for accounts that came.
    """
    went = pl.col("account_cause").is_in(["account_left", "account_silent"])
    whole = pairs.filter(pl.col("account_cause").is_not_null()).with_columns(cause="account_cause")
    return pl.concat(
        [
            _complete(with_resources(whole.filter(went), before, "before")),
            _complete(with_resources(whole.filter(~went), after, "after")),
        ]
    )


def control_causes(
    pairs: pl.DataFrame, found: pl.DataFrame, before: Day, after: Day
) -> pl.DataFrame:
    """The causes of controls whose status changed although no finding of theirs did.

    They were added to or removed from the report, or are scored otherwise than before; else there
    is no evidence.

    Args:
        pairs: As `changed_pairs` gives them.
        found: The causes that findings gave.
        before: The earlier day.
        after: The later day.
    """
    rest = pairs.filter(pl.col("account_cause").is_null()).join(found, on=PAIR, how="anti")
    control = ["report", "control_id"]
    cause = (
        pl.when(pl.col("expected_before").is_null() & pl.col("expected_after").is_not_null())
        .then(pl.lit("control_added"))
        .when(pl.col("expected_before").is_not_null() & pl.col("expected_after").is_null())
        .then(pl.lit("control_removed"))
        .when(pl.col("method_before").ne_missing(pl.col("method_after")))
        .then(pl.lit("method_changed"))
        .when(pl.col("settings_hash_before").ne_missing(pl.col("settings_hash_after")))
        .then(pl.lit("settings_changed"))
        .otherwise(pl.lit("no_evidence"))
    )
    return _complete(
        rest.join(_flag(before.controls, "expected_before"), on=control, how="left")
        .join(_flag(after.controls, "expected_after"), on=control, how="left")
        .join(report_methods(before, after), on="report", how="left")
        .with_columns(cause=cause)
    )


def report_methods(before: Day, after: Day) -> pl.DataFrame:
    """report, and method and settings_hash of both days, of the reports that are on both."""
    columns = ["report", "method", "settings_hash"]
    first = before.organization.select(columns).rename(
        {name: f"{name}_before" for name in columns[1:]}
    )
    second = after.organization.select(columns).rename(
        {name: f"{name}_after" for name in columns[1:]}
    )
    return first.join(second, on="report")


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with every column of CAUSE_SCHEMA; what they lack is null."""
    missing = {
        name: pl.lit(None, dtype=TIMESTAMP if name == "first_observed_at" else pl.String)
        for name in CAUSE_SCHEMA
        if name not in rows.columns
    }
    return rows.with_columns(**missing).select(
        pl.col(name).cast(dtype) for name, dtype in CAUSE_SCHEMA.items()
    )
