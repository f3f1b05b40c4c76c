"""The backlog of one score: which controls to fix first, and the score after each.

Control-based scoring is a step function: a control gives its point when the last of its resources
passes, and nothing before that. What a control's status is, and the score, is decided in `scoring`;
reading the lake and printing do not belong here.
"""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from posture_pipeline.schemas import SEPARATOR

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
"""Worst first; a control without one of these comes after them."""

RESOURCES_SCHEMA = pl.Schema(
    {
        "account_id": pl.String(),
        "control_id": pl.String(),
        "resource_id": pl.String(),
        "resource_type": pl.String(),
        "regions": pl.String(),
        "status": pl.String(),
        "title": pl.String(),
        "remediation_url": pl.String(),
    }
)
"""What `resources_to_fix` returns."""

BACKLOG_SCHEMA = pl.Schema(
    {
        "position": pl.Int32(),
        "control_id": pl.String(),
        "severity": pl.String(),
        "status": pl.String(),
        "to_fix": pl.Int64(),
        "failed_resources": pl.Int64(),
        "unknown_resources": pl.Int64(),
        "points": pl.Float64(),
        "score_after": pl.Float64(),
        "fixed_so_far": pl.Int64(),
        "reaches_target": pl.Boolean(),
    }
)
"""What `backlog` returns."""


def resources_to_fix(findings: pl.LazyFrame, carried: pl.DataFrame) -> pl.LazyFrame:
    """The resources that keep a control from passing in an account.

    These are all with a counted finding that did not pass, and all with a failure that is carried
    forward: a control that fails on one resource and cannot be evaluated on another is UNKNOWN, not
    PASSED, once the first is fixed. ARCHIVED and SUPPRESSED findings count for nothing. A resource
    that is reported in several regions is one, as in the resources of the control status.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS` and `control_id`, as
            `controls.findings_of_report` gives them.
        carried: Rows of `schemas.CARRIED_FAILURES` of the same report.

    Returns:
        Columns of `RESOURCES_SCHEMA`, a row for each account, control and resource. `regions` are
        joined by a space; `status` is FAILED, CARRIED if a failure is carried and no finding of the
        resource failed, or UNKNOWN; `title` and `remediation_url` are those of a finding of the
        resource. A finding that names no resource counts as a resource with an empty id.
    """
    counted = (pl.col("record_state") == "ACTIVE") & pl.col("workflow_status").ne_missing(
        "SUPPRESSED"
    )
    not_passed = pl.col("compliance_status").ne_missing("PASSED")
    no_finding = pl.lit(None, dtype=pl.String)
    of_carried = carried.lazy().select(
        "account_id",
        "control_id",
        "region",
        "resource_id",
        resource_type=no_finding,
        title=no_finding,
        remediation_url=no_finding,
        _status=pl.lit("CARRIED"),
    )
    failed = pl.col("compliance_status").eq_missing("FAILED")
    of_findings = findings.filter(counted & not_passed).select(
        *(name for name in of_carried.collect_schema() if name != "_status"),
        _status=pl.when(failed).then(pl.lit("FAILED")).otherwise(pl.lit("UNKNOWN")),
    )

    def any_is(status: str) -> pl.Expr:
        return (pl.col("_status") == status).any()

    # A carried failure without a region has an empty one.
    regions = pl.col("region").replace("", None)

    def first(name: str) -> pl.Expr:
        return pl.col(name).drop_nulls().min()

    return (
        pl.concat([of_findings, of_carried])
        .group_by("account_id", "control_id", pl.col("resource_id").fill_null(""))
        .agg(
            first("resource_type"),
            regions.drop_nulls().unique().sort().str.join(SEPARATOR).alias("regions"),
            pl.when(any_is("FAILED"))
            .then(pl.lit("FAILED"))
            .when(any_is("CARRIED"))
            .then(pl.lit("CARRIED"))
            .otherwise(pl.lit("UNKNOWN"))
            .alias("status"),
            first("title"),
            first("remediation_url"),
        )
        .select(RESOURCES_SCHEMA.names())
        .sort("control_id", _place_of_status(), "account_id", "resource_id")
    )


def _place_of_status() -> pl.Expr:
    """What fails for certain comes first, what could not be evaluated last."""
    places = {"FAILED": 0, "CARRIED": 1, "UNKNOWN": 2}
    return pl.col("status").replace_strict(places, return_dtype=pl.Int8)


def backlog(controls: pl.DataFrame, resources: pl.DataFrame, target: float) -> pl.DataFrame:
    """The controls that cost a score its points, in the order in which to fix them.

    Every control that is counted is worth the same, 100 / N points with N counted ones (PASSED,
    FAILED or UNKNOWN), so a target asks for a number of controls, whichever they are. The ones with
    the fewest resources therefore reach any target with the fewest resources there can be: to
    exchange one for a later one never lowers the sum. A resource counts once for each control that
    it keeps from passing, as each is a fix of its own.

    Of equal cost FAILED comes before UNKNOWN, then the worse severity, then the control id. A
    control whose resources are not known (the settings changed since it was scored) comes last.

    Args:
        controls: `control_id`, `severity`, `status` of the controls of one scope, each once, as
            `scoring.status_in_scope` gives them; PASSED and NO_DATA ones too.
        resources: Columns of `RESOURCES_SCHEMA`, of the scope's accounts.
        target: The score to reach, 0 to 100.

    Returns:
        Columns of `BACKLOG_SCHEMA`, a row for each FAILED or UNKNOWN control. `to_fix` resources
        are its failed and unknown ones, null where these are not known; `fixed_so_far` and
        `score_after` are what has been fixed and the score with it and all rows before it;
        `reaches_target` is true in one row at most, none if the target is reached already. Carried
        failures are among `failed_resources`.

    >>> controls = pl.DataFrame(
    ...     {
    ...         "control_id": ["EC2.7", "IAM.1", "S3.1", "S3.9"],
    ...         "severity": ["HIGH", "LOW", "MEDIUM", "LOW"],
    ...         "status": ["FAILED", "PASSED", "FAILED", "NO_DATA"],
    ...     }
    ... )
    >>> resources = pl.DataFrame(
    ...     {
    ...         "account_id": ["111122223333"] * 3,
    ...         "control_id": ["EC2.7", "EC2.7", "S3.1"],
    ...         "resource_id": ["a", "b", "c"],
    ...         "status": ["FAILED"] * 3,
    ...     }
    ... )
    >>> rows = backlog(controls, resources, 60)
    >>> rows.select("control_id", "to_fix", pl.col("score_after").round(1)).rows()
    [('S3.1', 1, 66.7), ('EC2.7', 2, 100.0)]
    """
    counts = resources.group_by("control_id").agg(
        to_fix=pl.len().cast(pl.Int64),
        failed_resources=pl.col("status").is_in(["FAILED", "CARRIED"]).sum().cast(pl.Int64),
        unknown_resources=(pl.col("status") == "UNKNOWN").sum().cast(pl.Int64),
    )
    passed = controls.filter(pl.col("status") == "PASSED").height
    to_fix = controls.filter(pl.col("status").is_in(["FAILED", "UNKNOWN"]))
    counted = passed + to_fix.height
    rows = to_fix.join(counts, on="control_id", how="left").sort(
        "to_fix", pl.col("status") == "UNKNOWN", severity_place(), "control_id", nulls_last=True
    )
    # Plain numbers: Polars divides a column by a number with a last digit of its own.
    passing = range(passed, counted + 1) if counted else ()
    scores = [100 * number / counted for number in passing]
    return rows.with_columns(
        position=pl.int_range(1, pl.len() + 1),
        points=pl.lit(100 / counted if counted else None),
        score_after=pl.Series(scores[1:], dtype=pl.Float64),
        fixed_so_far=pl.col("to_fix").cum_sum(),
        reaches_target=pl.Series(
            [before < target <= after for before, after in pairwise(scores)], dtype=pl.Boolean
        ),
    ).select(pl.col(name).cast(dtype) for name, dtype in BACKLOG_SCHEMA.items())


def severity_place() -> pl.Expr:
    """The place of a control's severity among `SEVERITIES`: 0 is the worst."""
    places = {severity: place for place, severity in enumerate(SEVERITIES)}
    return (
        pl.col("severity")
        .str.to_uppercase()
        .replace_strict(places, default=len(SEVERITIES), return_dtype=pl.Int32)
    )
