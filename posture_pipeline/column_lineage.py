"""From which columns each column of the score tables comes, back to the findings: one declaration.

Dagster's metadata and the column descriptions in its UI are made from it. A column that is not here
comes from the settings, the clock or AWS itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
    Table,
)

Source = tuple[str, str]
"""A table and a column of it."""


def _from(table: Table, *columns: str) -> tuple[Source, ...]:
    return tuple((table.name, column) for column in columns)


def _same(table: Table, columns: Iterable[str]) -> dict[str, tuple[Source, ...]]:
    return {column: _from(table, column) for column in columns}


_CONTROL = ("security_control_id", "standard_control_id", "rule_name", "standards")
"""What says to which control of which report a finding belongs."""
_VERDICT = ("compliance_status", "workflow_status", "record_state")
"""What says whether it counts, and as what."""

_SCORES = {
    **_same(
        CONTROL_STATUS,
        (
            "report",
            "report_kind",
            "failed_findings",
            "suppressed_findings",
            "stale_findings",
            "carried_findings",
            "passed_resources",
            "failed_resources",
        ),
    ),
    **dict.fromkeys(
        ("score", "console_score", "passed", "failed", "unknown", "no_data"),
        _from(CONTROL_STATUS, "status"),
    ),
    "resource_score": _from(CONTROL_STATUS, "passed_resources", "failed_resources"),
    "reason": _from(CONTROL_STATUS, "status", "basis"),
    "assumed": _from(CONTROL_STATUS, "basis"),
    "carried": _from(CONTROL_STATUS, "basis"),
    "expected": _from(CONTROL_STATUS, "control_id"),
    "controls_with_data": _from(CONTROL_STATUS, "status", "basis"),
    "regions_with_data": _from(CONTROL_STATUS, "regions"),
    "findings": _from(CONTROL_STATUS, "passed_findings", "failed_findings", "unknown_findings"),
    **dict.fromkeys(
        ("failed_critical", "failed_high", "failed_medium", "failed_low"),
        _from(CONTROL_STATUS, "failed_findings", "severity"),
    ),
    "control_set_hash": _from(EXPECTED_CONTROLS, "control_id"),
}

COLUMN_LINEAGE: Mapping[str, Mapping[str, tuple[Source, ...]]] = {
    ACCOUNT_FINDINGS.name: _same(MERGED_FINDINGS, ACCOUNT_FINDINGS.names),
    EXPECTED_CONTROLS.name: {
        **_same(LISTED_CONTROLS, (*LISTED_CONTROLS.names[1:3], *LISTED_CONTROLS.names[4:])),
        "control_id": (*_from(LISTED_CONTROLS, "control_id"), *_from(ACCOUNT_FINDINGS, *_CONTROL)),
    },
    FINDING_CHANGES.name: {
        **_same(ACCOUNT_FINDINGS, ("account_id", "region", "resource_id", "first_observed_at")),
        "report": _from(EXPECTED_CONTROLS, "report"),
        "control_id": _from(ACCOUNT_FINDINGS, *_CONTROL),
        "status_before": _from(ACCOUNT_FINDINGS, *_VERDICT),
        "status_after": _from(ACCOUNT_FINDINGS, *_VERDICT),
        "finding_id_before": _from(ACCOUNT_FINDINGS, "finding_id"),
        "finding_id_after": _from(ACCOUNT_FINDINGS, "finding_id"),
    },
    CONTROL_STATUS.name: {
        **_same(EXPECTED_CONTROLS, ("report", "report_kind", "control_id", "severity")),
        "account_id": _from(ORGANIZATION_ACCOUNTS, "account_id"),
        "status": _from(ACCOUNT_FINDINGS, *_VERDICT, *_CONTROL),
        "basis": _from(ACCOUNT_FINDINGS, *_VERDICT, *_CONTROL),
        **dict.fromkeys(
            ("passed_findings", "failed_findings", "unknown_findings", "suppressed_findings"),
            _from(ACCOUNT_FINDINGS, *_VERDICT),
        ),
        "stale_findings": _from(ACCOUNT_FINDINGS, "updated_at", "last_observed_at", "collected_at"),
        **dict.fromkeys(
            ("passed_resources", "failed_resources", "unknown_resources"),
            _from(ACCOUNT_FINDINGS, "resource_id", *_VERDICT),
        ),
        "regions": _from(ACCOUNT_FINDINGS, "region"),
    },
    ACCOUNT_SCORES.name: {
        **_same(ORGANIZATION_ACCOUNTS, ("account_id", "account_name")),
        "owner": _from(ORGANIZATION_ACCOUNTS, "tags"),
        "account_source": _from(ORGANIZATION_ACCOUNTS, "source"),
        **dict.fromkeys(
            ("workload", "environment", "workload_source"),
            _from(ORGANIZATION_ACCOUNTS, "account_name", "tags"),
        ),
        **_SCORES,
    },
    WORKLOAD_SCORES.name: {
        **_same(ACCOUNT_SCORES, ("workload", "environment")),
        "accounts": _from(ACCOUNT_SCORES, "account_id"),
        "accounts_with_data": _from(CONTROL_STATUS, "account_id"),
        **_SCORES,
    },
    ORGANIZATION_SCORES.name: {
        "accounts": _from(ACCOUNT_SCORES, "account_id"),
        "accounts_with_data": _from(CONTROL_STATUS, "account_id"),
        **_SCORES,
    },
}
"""By table and column: the columns that it is computed from."""


def sources_of(table: Table) -> Mapping[str, tuple[Source, ...]]:
    """The columns that each column of a table comes from, those of the table that have any."""
    return COLUMN_LINEAGE.get(table.name, {})
