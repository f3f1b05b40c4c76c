"""The scoring rule once more, as plain loops over ASFF dictionaries: what tests compare with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Finding = Mapping[str, Any]


def standard_score(
    findings: Iterable[Finding], standard_id: str, controls: set[str]
) -> float | None:
    """The score of the findings on a standard, by AWS's rule."""
    statuses: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        compliance = finding.get("Compliance") or {}
        control = compliance.get("SecurityControlId")
        standards = [each["StandardsId"] for each in compliance.get("AssociatedStandards") or []]
        if control not in controls or standard_id not in standards:
            continue
        if finding.get("RecordState") != "ACTIVE":
            continue
        if finding.get("Workflow", {}).get("Status") == "SUPPRESSED":
            continue
        statuses[control].append(compliance.get("Status"))
    passed = sum(all(status == "PASSED" for status in each) for each in statuses.values())
    return 100 * passed / len(statuses) if statuses else None
