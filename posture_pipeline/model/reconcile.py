"""Our scores of conformance packs beside AWS Config's own, and what the difference is made of.

Both figures are shares of pairs of a rule and a resource (or, through an aggregator, of rules), so
the difference splits exactly over rules and reasons. A reason comes from evidence: the findings of
the day, what is carried forward, and what AWS evaluates. Asking AWS and reading the lake do not
belong here, nor does wording for a terminal.

Sources: AWS Config API reference, ConformancePackComplianceScore and
AggregateConformancePackCompliance; AWS Security Hub user guide, securityhub-internal-providers
(findings of AWS Config are best effort, updated only when compliance changes, not archived with
their resource) and securityhub-findings (deleted 90 days after their last update).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import polars as pl
from polars import selectors

from posture_pipeline.model.controls import AGED_OUT_DAYS
from posture_pipeline.model.filters import filter_expression
from posture_pipeline.model.scoring import COLLECT_FAILING
from posture_pipeline.schemas import RECONCILIATION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from fractions import Fraction

    from posture_pipeline.settings import Report

CAUSES: dict[str, str] = {
    "compliant_without_finding": "compliant resources that Config sent no finding for",
    "passed_not_collected": "compliant resources whose findings are not collected "
    "(collect: failing)",
    "insufficient_data": "AWS has evaluated nothing, and without a finding a rule is assumed to "
    "pass",
    "suppressed": "suppressed in Security Hub; AWS Config knows no suppression",
    "could_not_be_evaluated": "the finding says that it could not be evaluated",
    "filtered": "left out by the filter of the report",
    "carried": "carried forward as failing because the finding aged out; Config no longer says so",
    "aged_out": "fails in AWS for so long that Security Hub has deleted the finding (90 days "
    "without an update)",
    "not_received": "fails in AWS, and no finding says so: not (yet) received, delivery is best "
    "effort",
    "no_failing_finding": "fails in AWS, and no finding says so: not (yet) received, or deleted by "
    "Security Hub after 90 days without an update",
    "not_updated": "fails in AWS, while the finding says it passes: the update is not (yet) "
    "received",
    "outlived": "the finding outlives what it is about: deleted or repaired since, and Security "
    "Hub does not archive findings of Config",
    "other_region": "in other regions, which AWS's figure leaves out",
    "rule_not_in_pack": "AWS does not have the rule in the pack",
    "rule_not_expected": "the report did not expect the rule",
    "not_itemised": "AWS's evaluations could not be read, so it is not itemised",
    "rounding": "AWS rounds its score",
    "computed_earlier": "AWS computed its score before its newest evaluations",
    "aws_disagrees": "AWS's figures do not agree with each other",
    "unexplained": "nothing that was collected says why",
}
"""Every cause of a difference, and what it says to a person."""

UNEXPLAINED = frozenset({"aws_disagrees", "unexplained"})
"""Causes that say no more than that there is a difference."""

TOLERANCE = 1e-9
"""Points that a sum of parts may be off by: floating point, not posture."""

RESOURCES_NAMED = 3
"""Resources that a reason names at most."""

PACK = ["report", "account_id", "region"]
RULE = [*PACK, "control_id"]
_RESOURCE = ["report", "account_id", "control_id", "resource_id"]

STATES_SCHEMA = pl.Schema(
    {
        **dict.fromkeys([*RULE, "resource_id"], pl.String()),
        "state": pl.String(),
    }
)
"""What `finding_states` gives: FAILED, UNKNOWN, PASSED, SUPPRESSED_FAILED, SUPPRESSED,
FILTERED or CARRIED."""

_WORST_FIRST = (
    "FAILED",
    "CARRIED",
    "UNKNOWN",
    "PASSED",
    "SUPPRESSED_FAILED",
    "SUPPRESSED",
    "FILTERED",
)

Number = TypeVar("Number", pl.Expr, "Fraction", float)


def part(passed: Number, counted: Number, p1: Number, n1: Number, p2: Number, n2: Number) -> Number:
    """Points that so many more passed and counted pairs have in a difference of two shares.

    With P passed of N counted pairs on each side, what adds dP to the passed and dN to the counted
    ones has the part

        100 x (dP x (1/N1 + 1/N2) / 2 - dN x (P1 + P2) / 2 / (N1 x N2))

    the midpoint split of P/N, as for a change of a score. The parts of all dP and dN add up to
    100 x (P2/N2 - P1/N1) exactly, whatever their order and however they are grouped.

    >>> part(-1.0, 0.0, 3.0, 4.0, 2.0, 4.0)
    -25.0
    """
    return 100 * (passed * (1 / n1 + 1 / n2) / 2 - counted * (p1 + p2) / 2 / (n1 * n2))


# --- our side ---------------------------------------------------------------------------------


def finding_states(findings: pl.LazyFrame, report: Report) -> pl.LazyFrame:
    """What the active findings of a report say of each resource, in each region.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS` and `control_id`, before the filter of the
            report.
        report: The report.

    Returns:
        Columns of STATES_SCHEMA; of several findings the worst that counts.
    """
    kept = pl.lit(value=True)
    if report.filter is not None:
        kept = filter_expression(report.filter).fill_null(value=False)
    failed = pl.col("compliance_status").eq_missing("FAILED")
    passed = pl.col("compliance_status").eq_missing("PASSED")
    suppressed = pl.col("workflow_status").eq_missing("SUPPRESSED")
    state = (
        pl.when(~kept)
        .then(pl.lit("FILTERED"))
        .when(suppressed & failed)
        .then(pl.lit("SUPPRESSED_FAILED"))
        .when(suppressed)
        .then(pl.lit("SUPPRESSED"))
        .when(failed)
        .then(pl.lit("FAILED"))
        .when(passed)
        .then(pl.lit("PASSED"))
        .otherwise(pl.lit("UNKNOWN"))
    )
    return _worst(
        findings.filter(pl.col("record_state") == "ACTIVE").select(
            pl.lit(report.name).alias("report"),
            "account_id",
            pl.col("region").fill_null(""),
            "control_id",
            pl.col("resource_id").fill_null(""),
            state=state,
        ),
        [*RULE, "resource_id"],
    )


def carried_states(carried: pl.DataFrame) -> pl.DataFrame:
    """The failures that are carried forward, as `finding_states` rows.

    Args:
        carried: Columns of `schemas.CARRIED_FAILURES`.
    """
    return carried.select(
        *(pl.col(name).fill_null("") for name in (*RULE, "resource_id")),
        state=pl.lit("CARRIED"),
    ).unique()


def _worst(rows: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    rank = {state: place for place, state in enumerate(_WORST_FIRST)}
    place = pl.col("state").replace_strict(rank, return_dtype=pl.UInt8)
    worst = place.min().replace_strict(
        {place: state for state, place in rank.items()}, return_dtype=pl.String
    )
    return rows.group_by(keys).agg(state=worst)


# --- both sides -------------------------------------------------------------------------------


def reconciliation(
    aws: pl.DataFrame,
    scores: pl.DataFrame,
    control_status: pl.DataFrame,
    states: pl.DataFrame,
    *,
    day: date,
    collect: str = "all",
) -> pl.DataFrame:
    """Every figure that AWS gave beside ours, with the parts of the difference.

    Args:
        aws: Rows of `schemas.AWS_COMPLIANCE`.
        scores: Rows of `schemas.ACCOUNT_SCORES`.
        control_status: Rows of `schemas.CONTROL_STATUS`.
        states: As `finding_states` and `carried_states` give them, of the accounts in `aws`.
        day: The day of the snapshot.
        collect: Which findings were collected.

    Returns:
        Rows of `schemas.RECONCILIATION`: for each figure one row without a cause, and for each of
        its rules a row for each cause, or one without. The parts of a figure add up to its
        difference.
    """
    ours = control_status.select(
        "report",
        "account_id",
        "control_id",
        "basis",
        our_status="status",
        ours_passed="passed_resources",
        ours_failed="failed_resources",
    )
    figures = scores.select("report", "account_id", "score", "resource_score", "reason")
    rows = pl.concat(
        [
            _by_resources(aws, figures, ours, states, day=day, collect=collect),
            _by_rules(aws, figures, ours, states),
        ],
        how="diagonal",
    ).with_columns(date=pl.lit(day), reason=pl.coalesce("reason", _words()))
    return RECONCILIATION.project(rows).sort(RECONCILIATION.key, nulls_last=False)


def _by_resources(
    aws: pl.DataFrame,
    figures: pl.DataFrame,
    ours: pl.DataFrame,
    states: pl.DataFrame,
    *,
    day: date,
    collect: str,
) -> pl.DataFrame:
    """The packs of which AWS gave a score or rules, in pairs of a rule and a resource."""
    own = aws.filter(pl.col("source").is_in(["list_scores", "compliance", "details"]))
    packs = own.group_by(PACK).agg(
        pl.col("aws_name").first(),
        pl.col("score", "score_text", "updated_at")
        .filter(pl.col("source") == "list_scores")
        .first(),
        has_score=(pl.col("source") == "list_scores").any(),
        newest=pl.col("updated_at").filter(pl.col("source") != "list_scores").max(),
    )
    counts = _rule_counts(own, packs, ours, states, day=day)
    parts = _parts(counts, _resource_causes(collect))
    totals = counts.group_by(PACK).agg(
        p1=pl.col("aws_passed").sum(),
        n1=(pl.col("aws_passed") + pl.col("aws_failed")).sum(),
        p2=pl.col("ours_passed").sum(),
        n2=(pl.col("ours_passed") + pl.col("ours_failed")).sum(),
        itemised=pl.col("itemised").all(),
    )
    n1, p1 = pl.col("n1"), pl.col("p1")
    exact = pl.when(pl.col("itemised") & (n1 > 0)).then(100 * p1 / n1)
    both = (
        packs.join(totals, on=PACK, how="left")
        .join(figures, on=["report", "account_id"], how="left")
        .with_columns(exact=exact, our_value=pl.col("resource_score"))
        .with_columns(aws_value=pl.coalesce("score", pl.when(~pl.col("has_score")).then("exact")))
    )
    return pl.concat(
        [_figure_rows(both), _own_difference(both), _rule_rows(counts, parts, both)],
        how="diagonal",
    ).with_columns(unit=pl.lit("resources"))


def _figure_rows(packs: pl.DataFrame) -> pl.DataFrame:
    """A row for each figure; the reason says why nothing can be compared, or what AWS's is."""
    return packs.select(
        *PACK,
        "aws_name",
        "aws_value",
        "our_value",
        difference=pl.col("our_value") - pl.col("aws_value"),
        aws_updated_at="updated_at",
        reason=pl.when(pl.col("our_value").is_null())
        .then(pl.format("no score of ours: {}", pl.col("reason").fill_null("no pair is counted")))
        .when(pl.col("aws_value").is_null())
        .then(pl.lit("no score of AWS: it has evaluated nothing (INSUFFICIENT_DATA)"))
        .when(~pl.col("itemised").fill_null(value=False))
        .then(pl.lit(CAUSES["not_itemised"]))
        .when(~pl.col("has_score"))
        .then(pl.lit("AWS's score could not be read; this one is of its evaluations")),
    )


def _own_difference(packs: pl.DataFrame) -> pl.DataFrame:
    """What lies between AWS's score and the evaluations that AWS lists."""
    decimals = pl.col("score_text").str.extract(r"\.(\d+)").str.len_bytes().fill_null(0)
    between = pl.col("exact") - pl.col("aws_value")
    half = 0.5 / pl.lit(10.0).pow(decimals)
    return packs.filter(between.abs() > TOLERANCE).select(
        *PACK,
        "aws_name",
        cause=pl.when(between.abs() <= half + TOLERANCE)
        .then(pl.lit("rounding"))
        .when(pl.col("newest") > pl.col("updated_at"))
        .then(pl.lit("computed_earlier"))
        .otherwise(pl.lit("aws_disagrees")),
        part=pl.when(pl.col("our_value").is_not_null()).then(between),
        aws_updated_at="updated_at",
    )


def _rule_rows(counts: pl.DataFrame, parts: pl.DataFrame, packs: pl.DataFrame) -> pl.DataFrame:
    """A row for each rule and cause; one without a cause where AWS and we agree."""
    p1, n1, p2, n2 = (pl.col(name) for name in ("p1", "n1", "p2", "n2"))
    comparable = (n1 > 0) & (n2 > 0) & pl.col("our_value").is_not_null() & pl.col("itemised")
    passed = pl.col("passed").fill_null(0).cast(pl.Float64)
    failed = pl.col("failed").fill_null(0).cast(pl.Float64)
    return (
        counts.join(parts, on=RULE, how="left")
        .join(packs.select(*PACK, "p1", "n1", "p2", "n2", "our_value"), on=PACK, how="left")
        .with_columns(cause=pl.coalesce("cause", _cause_of_status()))
        .select(
            *RULE,
            "cause",
            "aws_status",
            "our_status",
            "names",
            aws_name="aws_rule_name",
            passed=pl.when("itemised").then(pl.col("passed").fill_null(0)),
            failed=pl.when("itemised").then(pl.col("failed").fill_null(0)),
            part=pl.when(comparable).then(part(passed, passed + failed, p1, n1, p2, n2)),
            aws_updated_at="updated_at",
        )
    )


def _rule_counts(
    aws: pl.DataFrame,
    packs: pl.DataFrame,
    ours: pl.DataFrame,
    states: pl.DataFrame,
    *,
    day: date,
) -> pl.DataFrame:
    """Everything that is counted of each rule, on both sides."""
    rules = (
        aws.filter(pl.col("source") == "compliance")
        .group_by(RULE)
        .agg(
            pl.col("aws_rule_name").min(),
            pl.col("updated_at").max(),
            aws_status=pl.col("status").sort().last(),
            aws_passed=pl.col("compliant").sum(),
            aws_failed=pl.col("non_compliant").sum(),
            itemised=pl.col("compliant").is_not_null().all(),
        )
    )
    with_rules = packs.select(PACK).join(rules, on=PACK, how="semi")
    expected = with_rules.join(ours, on=["report", "account_id"], how="inner")
    numbers = selectors.integer()
    return (
        rules.join(expected, on=RULE, how="full", coalesce=True)
        .join(_in_region(states, with_rules), on=RULE, how="left")
        .join(_in_all_regions(states), on=["report", "account_id", "control_id"], how="left")
        .join(_matched(aws, states, day=day), on=RULE, how="left")
        .with_columns(numbers.fill_null(0), pl.col("itemised").fill_null(value=True))
    )


def _in_region(states: pl.DataFrame, packs: pl.DataFrame) -> pl.DataFrame:
    """Resources of each rule by state, in the region of the pack."""
    return (
        states.join(packs, on=PACK, how="semi")
        .group_by(RULE)
        .agg(
            (pl.col("state") == state).sum().cast(pl.Int64).alias(f"here_{state}")
            for state in _WORST_FIRST
        )
    )


def _in_all_regions(states: pl.DataFrame) -> pl.DataFrame:
    """Resources of each rule that pass and fail over all regions, as the control status counts."""
    found = _worst(states.filter(pl.col("state") != "CARRIED").lazy(), _RESOURCE).collect()
    carried = states.filter(pl.col("state") == "CARRIED").unique(_RESOURCE)
    return (
        pl.concat([found, carried.select(found.columns)])
        .group_by("report", "account_id", "control_id")
        .agg(
            all_passed=(pl.col("state") == "PASSED").sum().cast(pl.Int64),
            all_failed=pl.col("state").is_in(["FAILED", "CARRIED"]).sum().cast(pl.Int64),
        )
    )


def _matched(aws: pl.DataFrame, states: pl.DataFrame, *, day: date) -> pl.DataFrame:
    """Of the resources that do not comply in AWS: how many we know, in which state, and names.

    Config names a resource by its own id (`sg-1`), a finding by its ARN; the last part of both is
    compared. Each resource of AWS takes one of ours at most, failing ones first.
    """
    key = [*RULE, "_key", "_number"]
    last = pl.col("resource_id").str.extract(r"([^:/]*)$")
    rank = pl.col("state").replace_strict(
        {state: place for place, state in enumerate(_WORST_FIRST)}, return_dtype=pl.UInt8
    )
    number = pl.int_range(pl.len()).over(*RULE, "_key").alias("_number")
    known = states.with_columns(_key=last).sort(*RULE, "_key", rank).with_columns(number)
    failing = (
        aws.filter((pl.col("source") == "details") & (pl.col("status") == "NON_COMPLIANT"))
        .with_columns(_key=last)
        .sort(*RULE, "resource_id")
        .with_columns(number)
        .join(known.select(*key, "state"), on=key, how="left")
    )
    old = pl.col("updated_at").dt.date() <= day - pl.duration(days=AGED_OUT_DAYS)
    state = pl.coalesce("state", pl.when(old).then(pl.lit("OLD")).otherwise(pl.lit("NEW")))
    failing = failing.with_columns(state=state)
    found = (*_WORST_FIRST, "OLD", "NEW")
    counts = [(pl.col("state") == each).sum().cast(pl.Int64).alias(f"as_{each}") for each in found]
    names = [
        pl.col("resource_id")
        .filter(pl.col("state") == each)
        .head(RESOURCES_NAMED)
        .str.join(", ")
        .alias(f"names_{each}")
        for each in found
    ]
    return failing.group_by(RULE).agg(*counts, *names)


# --- the causes -------------------------------------------------------------------------------


def _resource_causes(collect: str) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """For each cause what it adds to the passed and failed pairs of a rule: ours less AWS's.

    Together they are the whole difference, whatever the counts are.
    """
    nothing = pl.lit(0)
    aws_passed, aws_failed = pl.col("aws_passed"), pl.col("aws_failed")
    ours_passed, ours_failed = pl.col("ours_passed"), pl.col("ours_failed")

    def left(state: str) -> pl.Expr:
        """Resources of ours in the region that are none of those that fail in AWS."""
        return pl.col(f"here_{state}") - pl.col(f"as_{state}")

    # What fails in AWS: one that we know by another name is the same one, then suppressed ones.
    unknown_to_us = pl.col("as_OLD") + pl.col("as_NEW")
    missing = unknown_to_us - _least(unknown_to_us, left("FAILED"))
    renamed = unknown_to_us - missing
    suppressed = _least(missing, left("SUPPRESSED_FAILED"))
    aged_out = _least(missing - suppressed, pl.col("as_OLD"))
    # What complies in AWS, and passes here.
    short = _at_least_0(aws_passed - left("PASSED"))
    hidden = _least(short, left("SUPPRESSED") + left("SUPPRESSED_FAILED") - suppressed)
    filtered = _least(short - hidden, left("FILTERED"))
    unknown = _least(short - hidden - filtered, left("UNKNOWN"))
    no_finding = short - hidden - filtered - unknown
    failing_as = {state: pl.col(f"as_{state}") for state in _WORST_FIRST}
    compliant = (
        "passed_not_collected" if collect == COLLECT_FAILING else "compliant_without_finding"
    )
    here_passed, here_failed = (
        pl.col("here_PASSED"),
        pl.col("here_FAILED") + pl.col("here_CARRIED"),
    )
    in_both = {
        compliant: (-no_finding, nothing),
        "suppressed": (
            -hidden,
            -failing_as["SUPPRESSED"] - failing_as["SUPPRESSED_FAILED"] - suppressed,
        ),
        "could_not_be_evaluated": (-unknown, -failing_as["UNKNOWN"]),
        "filtered": (-filtered, -failing_as["FILTERED"]),
        "carried": (nothing, left("CARRIED")),
        "aged_out": (nothing, -aged_out),
        "not_received": (nothing, suppressed + aged_out - missing),
        "not_updated": (failing_as["PASSED"], -failing_as["PASSED"]),
        "outlived": (_at_least_0(left("PASSED") - aws_passed), left("FAILED") - renamed),
        "other_region": (
            pl.col("all_passed") - here_passed,
            pl.col("all_failed") - here_failed,
        ),
        "unexplained": (
            ours_passed - pl.col("all_passed"),
            ours_failed - pl.col("all_failed"),
        ),
    }
    has_both = pl.col("aws_rule_name").is_not_null() & pl.col("our_status").is_not_null()
    causes = {
        cause: (_where(has_both, passed), _where(has_both, failed))
        for cause, (passed, failed) in in_both.items()
    }
    only_ours = pl.col("aws_rule_name").is_null()
    causes["rule_not_in_pack"] = (_where(only_ours, ours_passed), _where(only_ours, ours_failed))
    only_aws = pl.col("our_status").is_null()
    causes["rule_not_expected"] = (_where(only_aws, -aws_passed), _where(only_aws, -aws_failed))
    return causes


_NAMES = {
    "suppressed": ("names_SUPPRESSED_FAILED", "names_SUPPRESSED"),
    "not_updated": ("names_PASSED",),
    "could_not_be_evaluated": ("names_UNKNOWN",),
    "filtered": ("names_FILTERED",),
    "aged_out": ("names_OLD",),
    "not_received": ("names_NEW",),
}
"""Causes that are about resources that fail in AWS, and the columns that name these."""


def _parts(counts: pl.DataFrame, causes: Mapping[str, tuple[pl.Expr, pl.Expr]]) -> pl.DataFrame:
    """A row for each rule and cause that adds anything: passed, failed and names of resources."""
    itemised = counts.filter("itemised")
    rows = []
    for cause, (passed, failed) in causes.items():
        names = [pl.col(name) for name in _NAMES.get(cause, ())] or [pl.lit(None, pl.String)]
        rows.append(
            itemised.select(
                *RULE,
                pl.lit(cause).alias("cause"),
                passed=passed.cast(pl.Int64),
                failed=failed.cast(pl.Int64),
                names=pl.coalesce(*(pl.when(each != "").then(each) for each in names)),
            ).filter((pl.col("passed") != 0) | (pl.col("failed") != 0))
        )
    return pl.concat(rows)


def _cause_of_status() -> pl.Expr:
    """Why the status of a rule differs although its resources do not; null: it does not."""
    aws, ours = pl.col("aws_status"), pl.col("our_status")
    same = pl.concat_str(aws, pl.lit(" "), ours).is_in(
        ["COMPLIANT PASSED", "NON_COMPLIANT FAILED", "INSUFFICIENT_DATA NO_DATA"]
    )
    own_counts = (
        pl.when(aws == "COMPLIANT")
        .then((pl.col("aws_failed") == 0) & (pl.col("aws_passed") > 0))
        .when(aws == "NON_COMPLIANT")
        .then(pl.col("aws_failed") > 0)
        .otherwise(pl.col("aws_failed") + pl.col("aws_passed") == 0)
    )
    return (
        pl.when(aws.is_null())
        .then(pl.lit("rule_not_in_pack"))
        .when(ours.is_null())
        .then(pl.lit("rule_not_expected"))
        .when(same)
        .then(None)
        .when(~pl.col("itemised"))
        .then(pl.lit("not_itemised"))
        .when((aws == "INSUFFICIENT_DATA") & (pl.col("basis") == "assumed"))
        .then(pl.lit("insufficient_data"))
        .when(~own_counts)
        .then(pl.lit("aws_disagrees"))
        .when(ours == "UNKNOWN")
        .then(pl.lit("could_not_be_evaluated"))
        .otherwise(pl.lit("unexplained"))
    )


def _words() -> pl.Expr:
    """The cause in words, with the resources it is about."""
    said = pl.col("cause").replace_strict(CAUSES, default=None, return_dtype=pl.String)
    return (
        pl.when(pl.col("names").is_null())
        .then(said)
        .otherwise(pl.format("{}: {}", said, pl.col("names")))
    )


def _least(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    return _at_least_0(pl.min_horizontal(one, other))


def _at_least_0(number: pl.Expr) -> pl.Expr:
    return pl.max_horizontal(number, pl.lit(0, pl.Int64))


def _where(condition: pl.Expr, number: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(number).otherwise(pl.lit(0, pl.Int64))


# --- in rules, from an aggregator -------------------------------------------------------------


def _by_rules(
    aws: pl.DataFrame, figures: pl.DataFrame, ours: pl.DataFrame, states: pl.DataFrame
) -> pl.DataFrame:
    """The packs of all accounts that an aggregator has, in rules.

    AWS gives only how many rules comply and do not, so which rules differ is inferred from ours.
    """
    compliant, counted = pl.col("compliant"), pl.col("compliant") + pl.col("non_compliant")
    packs = (
        aws.filter(pl.col("source") == "aggregator")
        .select(*PACK, "aws_name", "status", "compliant", "non_compliant", "total")
        .join(_rules_of_accounts(ours), on=["report", "account_id"], how="left")
        .join(_rules_in_region(aws, ours, states), on=PACK, how="left")
        .join(figures, on=["report", "account_id"], how="left")
        .with_columns(selectors.integer().fill_null(0))
        .with_columns(
            counted=counted, aws_value=pl.when(counted > 0).then(100 * compliant / counted)
        )
    )
    whole = packs.select(
        *PACK,
        "aws_name",
        "aws_value",
        our_value="score",
        aws_status="status",
        difference=pl.col("score") - pl.col("aws_value"),
        reason=pl.when(pl.col("score").is_null())
        .then(pl.format("no score of ours: {}", pl.col("reason").fill_null("it is not scored")))
        .when(pl.col("aws_value").is_null())
        .then(pl.lit("no figure of AWS: it has evaluated nothing (INSUFFICIENT_DATA)")),
    )
    p1, n1 = compliant, pl.col("counted")
    p2, n2 = pl.col("passed_rules"), pl.col("counted_rules")
    comparable = packs.filter((n1 > 0) & (n2 > 0), pl.col("score").is_not_null())
    rows = []
    for cause, (passed, failed) in _rule_causes().items():
        points = part(passed.cast(pl.Float64), (passed + failed).cast(pl.Float64), p1, n1, p2, n2)
        rows.append(
            comparable.select(
                *PACK,
                "aws_name",
                pl.lit(cause).alias("cause"),
                passed=passed.cast(pl.Int64),
                failed=failed.cast(pl.Int64),
                part=points,
            ).filter((pl.col("passed") != 0) | (pl.col("failed") != 0))
        )
    return pl.concat([whole, *rows], how="diagonal").with_columns(unit=pl.lit("rules"))


def _rules_of_accounts(ours: pl.DataFrame) -> pl.DataFrame:
    status = pl.col("our_status")
    return ours.group_by("report", "account_id").agg(
        rules=pl.len().cast(pl.Int64),
        passed_rules=(status == "PASSED").sum().cast(pl.Int64),
        counted_rules=(status != "NO_DATA").sum().cast(pl.Int64),
        without_data=(status == "NO_DATA").sum().cast(pl.Int64),
        unknown_rules=(status == "UNKNOWN").sum().cast(pl.Int64),
    )


def _rules_in_region(aws: pl.DataFrame, ours: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Rules of each aggregated pack by what fails or is suppressed in its region."""
    packs = aws.filter(pl.col("source") == "aggregator").select(PACK).unique()
    rules = (
        packs.join(ours, on=["report", "account_id"], how="inner")
        .join(_in_region(states, packs), on=RULE, how="left")
        .with_columns(selectors.starts_with("here_").fill_null(0))
    )
    found = pl.col("here_FAILED") > 0
    carried = (pl.col("here_CARRIED") > 0) & ~found
    failed = pl.col("our_status") == "FAILED"
    suppressed = (pl.col("here_SUPPRESSED_FAILED") > 0) & ~found & ~carried
    no_data = pl.col("our_status") == "NO_DATA"
    return rules.group_by(PACK).agg(
        failed_here=(failed & (found | carried)).sum().cast(pl.Int64),
        failed_elsewhere=(failed & ~(found | carried)).sum().cast(pl.Int64),
        carried_here=(failed & carried).sum().cast(pl.Int64),
        suppressed_no_data=(suppressed & no_data).sum().cast(pl.Int64),
        suppressed_passed=(suppressed & (pl.col("our_status") == "PASSED")).sum().cast(pl.Int64),
    )


def _rule_causes() -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """For each cause what it adds to the passed and not passed rules: ours less AWS's."""
    nothing = pl.lit(0, pl.Int64)
    here, aws_failed = pl.col("failed_here"), pl.col("non_compliant")
    more = _at_least_0(aws_failed - here)
    fewer = _at_least_0(here - aws_failed)
    no_data = _least(more, pl.col("suppressed_no_data"))
    passed = _least(more - no_data, pl.col("suppressed_passed"))
    missing = more - no_data - passed
    carried = _least(fewer, pl.col("carried_here"))
    outlived = fewer - carried
    elsewhere, unknown = pl.col("failed_elsewhere"), pl.col("unknown_rules")
    return {
        "other_region": (-elsewhere, elsewhere),
        "suppressed": (
            passed - (pl.col("without_data") - no_data),
            -passed - no_data,
        ),
        "no_failing_finding": (missing, -missing),
        "carried": (-carried, carried),
        "outlived": (-outlived, outlived),
        "could_not_be_evaluated": (-unknown, unknown),
        "insufficient_data": (
            pl.col("total") - pl.col("compliant") - pl.col("non_compliant"),
            nothing,
        ),
        "rule_not_in_pack": (_at_least_0(pl.col("rules") - pl.col("total")), nothing),
        "rule_not_expected": (-_at_least_0(pl.col("total") - pl.col("rules")), nothing),
    }


# --- the check --------------------------------------------------------------------------------


def differences_without_reason(rows: pl.DataFrame) -> pl.DataFrame:
    """The figures whose parts do not add up to the difference, and causes that explain nothing.

    Args:
        rows: Columns of `schemas.RECONCILIATION`.

    Returns:
        report, account_id, region, unit, control_id, difference, parts (their sum), reason.
    """
    figure = [*PACK, "unit"]
    is_figure = pl.col("control_id").is_null() & pl.col("cause").is_null()
    parts = rows.filter(~is_figure).group_by(figure).agg(parts=pl.col("part").sum())
    wrong = (
        rows.filter(is_figure & pl.col("difference").is_not_null())
        .join(parts, on=figure, how="left")
        .with_columns(pl.col("parts").fill_null(0.0))
        .filter((pl.col("parts") - pl.col("difference")).abs() > TOLERANCE)
        .filter(pl.col("reason").ne_missing(CAUSES["not_itemised"]))
    )
    vague = rows.filter(pl.col("cause").is_in(sorted(UNEXPLAINED))).with_columns(parts="part")
    columns = [*figure, "control_id", "difference", "parts", "reason"]
    return pl.concat([wrong.select(columns), vague.select(columns)])
