"""The controls that a report expects on a day: what AWS listed, and what holds where it did not.

How AWS is asked stands in `aws/controls.py`; which findings belong to a control in `controls.py`;
what is read of the lake for it in `lake/snapshot.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Literal

import polars as pl

from posture_pipeline.model.controls import (
    canonical_rule_name,
    names_standard,
    own_control_id_expression,
)
from posture_pipeline.schemas import EXPECTED_CONTROLS, LISTED_CONTROLS
from posture_pipeline.settings import Report

_SEVERITIES = ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")

NOT_ASKED = "AWS was not asked for the controls of the day; they are those that findings name."
FROM_FINDINGS = "Its score is over the controls that findings of other accounts name."
NOT_NAMED = (
    "No finding names a control of it either. Enable it in Security Hub, or take the report out of "
    "the settings."
)

KEPT_UNTIL_READY = "The controls of the newest earlier day are expected until then."

RULE_SEVERITY = "MEDIUM"
"""Rules of AWS Config have no severity of their own; their findings are all MEDIUM (AWS: Security
Hub user guide, securityhub-internal-providers)."""

KEPT = "AWS was not asked for the controls of the day; they are those that it listed on {}."

UnlistedKind = Literal["not_enabled", "not_ready", "failed"]

# --- what AWS listed --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Why AWS listed no controls of a report.

    Attributes:
        kind: not_enabled (in the audit account: other accounts may have it), not_ready (AWS is
            enabling or changing it), or failed (AWS could not be asked, or knows no such thing).
        reason: What AWS said, for a person.
    """

    kind: UnlistedKind
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What AWS listed on a day.

    Attributes:
        controls: Rows of `schemas.LISTED_CONTROLS`.
        unlisted: Of what it listed nothing, and why, by the definition of the report. A definition
            in neither was not asked for.
    """

    controls: pl.DataFrame = field(default_factory=LISTED_CONTROLS.empty)
    unlisted: Mapping[str, Unlisted] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        """What the commit of `listed_controls` says beside the rows."""
        return {
            "listed": self.controls["definition"].unique().sort().to_list(),
            "unlisted": {key: asdict(each) for key, each in self.unlisted.items()},
        }

    @classmethod
    def stored(cls, controls: pl.DataFrame, details: Mapping[str, Any]) -> Listing:
        """The listing that a commit holds."""
        unlisted = details.get("unlisted", {})
        return cls(controls, {key: Unlisted(**each) for key, each in unlisted.items()})

    def completed(self, before: Listing) -> Listing:
        """With what an earlier run of the same day listed and this one could not."""
        lost = [key for key, each in self.unlisted.items() if each.kind != "not_enabled"]
        again = before.controls.filter(pl.col("definition").is_in(lost))
        found = set(again["definition"])
        return Listing(
            pl.concat([self.controls, again]),
            {key: each for key, each in self.unlisted.items() if key not in found},
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reports expect on a day.

    Attributes:
        controls: Rows of `schemas.EXPECTED_CONTROLS`.
        withheld: Why a report has no score on the day, by its name. It has rows all the same, where
            its controls are known of an earlier day.
    """

    controls: pl.DataFrame
    withheld: Mapping[str, str]


def as_expected(
    listed: pl.DataFrame, report: Report, day: date, note: str | None = None
) -> pl.DataFrame:
    """Listed controls as the controls of a report.

    Args:
        listed: Rows of `schemas.LISTED_CONTROLS`, of one day.
        report: The report.
        day: The day that they hold for.
        note: Why they are not those of the day itself.
    """
    rows = listed.filter(pl.col("definition") == report.definition)
    return _of_report(rows.with_columns(as_of="date"), report, day, note)


def kept(earlier: pl.DataFrame, report: Report, day: date, note: str | None) -> pl.DataFrame:
    """The controls of an earlier day as those of another, with the day they were listed.

    Args:
        earlier: Rows of `schemas.EXPECTED_CONTROLS` of one day.
        report: The report; the rows of the same definition are kept, whatever its name was.
        day: The day that they hold for.
        note: Why they are kept.
    """
    rows = earlier.filter(pl.col("definition") == report.definition).unique(
        "control_id", maintain_order=True
    )
    return _of_report(rows, report, day, note)


def joined(controls: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The controls, and those of the others that are not among them."""
    rest = others.join(controls, on="control_id", how="anti")
    return pl.concat([controls, rest])


def _of_report(rows: pl.DataFrame, report: Report, day: date, note: str | None) -> pl.DataFrame:
    return EXPECTED_CONTROLS.project(
        rows.with_columns(
            date=pl.lit(day),
            report=pl.lit(report.name),
            report_kind=pl.lit(report.kind),
            definition=pl.lit(report.definition),
            note=pl.lit(note, dtype=pl.String),
        )
    )


# --- where AWS listed nothing -----------------------------------------------------------------


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
            "definition": report.definition,
            "control_id": control_id,
            "title": rule,
            "severity": RULE_SEVERITY,
            "enabled": True,
            "standard_control_ids": None,
            "remediation_url": None,
            "pack_suffix": None,
            "source": "settings",
            "as_of": day,
            "note": None,
        }
        for report in reports
        for control_id, rule in _rules(report).items()
    ]
    return pl.DataFrame(rows, schema=EXPECTED_CONTROLS.schema)


def _rules(report: Report) -> dict[str, str]:
    """A report's rules by canonical name: two spellings of one rule are one control."""
    rules: dict[str, str] = {}
    for rule in report.custom_rules or report.rules or ():
        rules.setdefault(canonical_rule_name(rule), rule)
    return rules


def controls_of_findings(findings: pl.LazyFrame, report: Report, day: date) -> pl.DataFrame:
    """The controls of a report that the day's findings name.

    For standards these are the controls that have data, which are all that their score counts.
    For a conformance pack they are the pack rules with findings (of any pack: a rule's name does
    not say which), so rules without findings are missing.

    Args:
        findings: The snapshot, with the columns of `merged_findings`.
        report: Of standards, or a conformance pack.
        day: The partition.

    Returns:
        `expected_controls` rows, source `findings`.
    """
    if report.is_of_standards:
        belongs = names_standard(report)
        own = pl.col("standard_control_id") if report.standard else own_control_id_expression()
        control = pl.coalesce("security_control_id", own)
    else:
        deployed, own_name = (
            pl.col(name).str.contains("-conformance-pack-", literal=True)
            for name in ("config_rule_name", "rule_name")
        )
        belongs = deployed & ~own_name
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
    return EXPECTED_CONTROLS.project(
        rows.with_columns(
            pl.lit(day).alias("date"),
            pl.lit(report.name).alias("report"),
            pl.lit(report.kind).alias("report_kind"),
            pl.lit(report.definition).alias("definition"),
            pl.col("rank")
            .replace_strict(ratings, default=None, return_dtype=pl.String)
            .alias("severity"),
            pl.lit(value=True).alias("enabled"),
            pl.lit(None).alias("standard_control_ids"),
            pl.lit(None).alias("pack_suffix"),
            pl.lit(None).alias("note"),
            pl.lit("findings").alias("source"),
            pl.lit(day).alias("as_of"),
        )
    )
