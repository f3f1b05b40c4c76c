"""Which deployed copies of conformance packs are whose, where packs hold rules of the same name.

How a rule's name is read belongs in `controls`; what its findings add up to, in `scoring`.
"""

from __future__ import annotations

import polars as pl

PLACE = ["account_id", "region"]
COPY = [*PLACE, "pack_suffix"]


def pack_copies(findings: pl.LazyFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """The copies of conformance packs in each account and region, with the reports they belong to.

    The rules of one deployed pack have the same suffix. A suffix that the audit account lists for a
    pack is that pack's, and no other copy is there. Otherwise the rules with findings tell: a copy
    belongs to the report that expects most of them. It is doubtful where half of its rules or fewer
    are expected, or where another report that fits equally has no copy of its own. A doubtful copy
    is left out beside a better one that has all of its expected rules, and more. What still cannot
    be told belongs to every report that it may belong to, so that the worst counts.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS`, of whole accounts.
        expected: Rows of `schemas.EXPECTED_CONTROLS`; only those of conformance packs are used.

    Returns:
        report, account_id, region, pack_suffix.
    """
    packs = expected.filter(pl.col("report_kind") == "conformance_pack")
    rules = (
        findings.filter(pl.col("pack_suffix").is_not_null())
        .select(*COPY, "rule_name")
        .unique()
        .collect(engine="streaming")
    )
    of_copy = rules.group_by(COPY).agg(_rules=pl.len().cast(pl.Int64))
    listed = packs.select("pack_suffix", _listed="report").drop_nulls().unique("pack_suffix")
    shared = rules.join(packs.select("report", rule_name="control_id").unique(), on="rule_name")
    in_report = ["report", *PLACE]
    other_report = ~pl.col("_alone") & pl.col("_served") & ~pl.col("_served").all().over(COPY)
    candidates = (
        shared.group_by(*COPY, "report")
        .agg(_shared=pl.len().cast(pl.Int64))
        .join(of_copy, on=COPY, nulls_equal=True)
        .join(listed, on="pack_suffix", how="left")
        .filter(pl.col("_listed").is_null() | (pl.col("_listed") == pl.col("report")))
        # Rules that the report expects, less those it does not.
        .with_columns(_fit=2 * pl.col("_shared") - pl.col("_rules"))
        .filter(pl.col("_fit") == pl.col("_fit").max().over(COPY))
        .filter(pl.col("_listed").is_not_null() | pl.col("_listed").is_null().all().over(in_report))
        .with_columns(_alone=pl.len().over(COPY) == 1)
        .with_columns(_served=pl.col("_alone").any().over(in_report))
        .with_columns(_doubtful=(pl.col("_fit") <= 0) | other_report)
    )
    return (
        candidates.join(
            _covered(candidates, shared), on=["report", *COPY], how="anti", nulls_equal=True
        )
        .select("report", *COPY)
        .sort("report", *COPY)
    )


def _covered(candidates: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    """The doubtful copies beside a better one that has all of their expected rules, and more."""
    copy = ["report", *COPY]
    rows = candidates.select(*copy, "_doubtful", "_shared").join(shared, on=copy, nulls_equal=True)
    better = rows.filter(~pl.col("_doubtful"))
    return (
        rows.filter("_doubtful")
        .join(better, on=["report", *PLACE, "rule_name"], suffix="_better", nulls_equal=True)
        .group_by(*copy, "pack_suffix_better", "_shared", "_shared_better")
        .agg(_common=pl.len())
        .filter(
            pl.col("_common") == pl.col("_shared"), pl.col("_shared_better") > pl.col("_shared")
        )
        .select(copy)
        .unique()
    )


def of_pack(findings: pl.LazyFrame, copies: pl.DataFrame) -> pl.LazyFrame:
    """The findings without those of other packs' copies.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS`.
        copies: Columns of COPY: the pack's own.
    """
    own = copies.select(COPY).unique().with_columns(_own=pl.lit(value=True)).lazy()
    return (
        findings.join(own, on=COPY, how="left", nulls_equal=True, maintain_order="left")
        .filter(pl.col("pack_suffix").is_null() | pl.col("_own"))
        .drop("_own")
    )
