"""Expected controls where AWS cannot be asked: from the settings, and from the findings.

How AWS is asked stands in `aws/controls.py`; which findings belong to a control in `controls.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from posture_pipeline.model.controls import canonical_rule_name
from posture_pipeline.schemas import EXPECTED_CONTROLS, SEPARATOR
from posture_pipeline.settings import Report

_SEVERITIES = ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")


def controls_of_settings(reports: Sequence[Report], day: date) -> pl.DataFrame:
    """The rules that the settings themselves list.

    Returns:
        `expected_controls` rows, source `settings`, of custom rules and of conformance packs
        with `rules`; a standard's controls are in no settings.
    """
    rows = [
        {
            "date": day,
            "report": report.name,
            "report_kind": report.kind,
            "control_id": control_id,
            "title": rule,
            "enabled": True,
            "source": "settings",
            "as_of": day,
        }
        for report in reports
        for control_id, rule in _rules(report).items()
    ]
    return EXPECTED_CONTROLS.cast(pl.DataFrame(rows)) if rows else EXPECTED_CONTROLS.empty()


def _rules(report: Report) -> dict[str, str]:
    """A report's rules by canonical name: two spellings of one rule are one control."""
    rules: dict[str, str] = {}
    for rule in report.custom_rules or report.rules or ():
        rules.setdefault(canonical_rule_name(rule), rule)
    return rules


def controls_of_findings(findings: pl.LazyFrame, report: Report, day: date) -> pl.DataFrame:
    """The controls of a report that the day's findings tell of.

    For a standard these are the controls that have data, which are all that its score counts.
    For a conformance pack they are the pack rules with findings (of any pack: a rule's name does
    not say which), so rules without findings are missing.

    Args:
        findings: The snapshot, with the columns of `merged_findings`.
        report: A standard or a conformance pack.
        day: The partition.

    Returns:
        `expected_controls` rows, source `findings`.
    """
    if report.standard is not None:
        ids = [f"{kind}/{report.standard}" for kind in ("standards", "ruleset")]
        standards = pl.col("standards").str.split(SEPARATOR)
        belongs = pl.any_horizontal(standards.list.contains(each) for each in ids)
        control = pl.coalesce("security_control_id", "standard_control_id")
    else:
        belongs = pl.col("config_rule_name").str.contains("-conformance-pack-", literal=True)
        control = pl.col("rule_name")
    severity = pl.col("severity_label").replace_strict(
        {label: rank for rank, label in enumerate(_SEVERITIES)}, default=None, return_dtype=pl.Int8
    )
    rows = (
        findings.filter(belongs.fill_null(value=False), control.is_not_null())
        .group_by(control.alias("control_id"))
        .agg(pl.col("title").min(), pl.col("remediation_url").min(), severity.max().alias("rank"))
        .sort("control_id")
        .collect(engine="streaming")
    )
    ratings = {rank: label for rank, label in enumerate(_SEVERITIES) if label != "INFORMATIONAL"}
    return EXPECTED_CONTROLS.cast(
        rows.with_columns(
            pl.lit(day).alias("date"),
            pl.lit(report.name).alias("report"),
            pl.lit(report.kind).alias("report_kind"),
            pl.col("rank")
            .replace_strict(ratings, default=None, return_dtype=pl.String)
            .alias("severity"),
            pl.lit(value=True).alias("enabled"),
            pl.lit("findings").alias("source"),
            pl.lit(day).alias("as_of"),
        )
    )
