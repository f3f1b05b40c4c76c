"""An organization made up for the report pages: hostile names, a year of days, everything in it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from posture_pipeline.model.backlog import RESOURCES_SCHEMA
from posture_pipeline.report.data import SCORE_HISTORY, Stored
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXCEPTIONS,
    EXPECTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import DEMO_REPORTS

DAY = date(2026, 11, 23)
SCRIPT = "</script><script>document.title='owned'</script>"
IMAGE = "\"'><img src=x onerror=\"document.title='owned'\">"
BRACES = "{{ 7 * 7 }}${7*7}"
TURNED = "pay\u202enoitcudorp"
"""With a character that turns the direction of what follows."""
WORKLOAD = f"shop {SCRIPT}"
ENVIRONMENTS = ("production", "acceptance", "test", "development", "build")
REPORTS = [report.name for report in DEMO_REPORTS]
SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")


def table(of: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table of the lake; columns that they lack are null."""
    schema = {name: dtype for name, dtype in of.schema.items() if rows and name in rows[0]}
    return of.read_as(pl.DataFrame(rows, schema=schema)) if rows else of.empty()


def score_row(day: date, report: str, score: float | None, **more: Any) -> dict[str, Any]:
    """A score with everything that goes with it."""
    return {
        "date": day,
        "report": report,
        "accounts": 1,
        "accounts_with_data": 1,
        "score": score,
        "resource_score": None if score is None else 99.5,
        "reason": None if score is not None else f"silent {IMAGE}",
        "passed": 90,
        "failed": 10,
        "unknown": 0,
        "no_data": 3,
        "expected": 100 if day < DAY - timedelta(days=20) else 103,
        "findings": 400,
        "failed_findings": 44,
        "failed_critical": 4,
        "failed_high": 10,
        "failed_medium": 20,
        "failed_low": 10,
        "suppressed_findings": 1,
        "method": "1",
        "control_set_hash": "a" if day < DAY - timedelta(days=20) else "b",
        "settings_hash": "s",
        "incomplete": None,
        "controls_with_data": 97,
        "regions_with_data": 2,
        "last_score": 81.25 if score is None else None,
        "last_score_date": date(2026, 11, 1) if score is None else None,
        **more,
    }


def score_of(day: date, report: str, environment: str) -> float | None:
    """A score that moves, another for each report and environment; one is missing on the day."""
    if (report, environment, day) == (REPORTS[-1], ENVIRONMENTS[-1], DAY):
        return None
    step = 7 * REPORTS.index(report) + 3 * ENVIRONMENTS.index(environment)
    return 85 + (step + (DAY - day).days // 5) % 15 + 1 / 3


def stored(*, days: int = 12, controls: int = 6, resources: int = 3) -> Stored:
    """The organization, with a workload in every environment.

    Args:
        days: Days of history.
        controls: Failing controls of each report in each environment.
        resources: Resources that fail each.
    """
    places = [(report, each) for report in REPORTS for each in ENVIRONMENTS]
    all_days = [DAY - timedelta(days=back) for back in reversed(range(days))]
    history = table(
        WORKLOAD_SCORES,
        [
            score_row(day, report, score_of(day, report, each), workload=WORKLOAD, environment=each)
            for day in all_days
            for report, each in places
        ],
    )
    organization = table(
        ORGANIZATION_SCORES,
        [score_row(day, report, 50.0) for day in all_days for report in REPORTS],
    )
    accounts = {each: f"{number:012d}" for number, each in enumerate(ENVIRONMENTS, 1)}
    names = [f"C{number}.{BRACES}" if number == 0 else f"C.{number}" for number in range(controls)]
    status = [
        {
            "report": report,
            "workload": WORKLOAD,
            "environment": each,
            "control_id": name,
            "severity": SEVERITIES[number % 4],
            "status": "FAILED",
        }
        for report, each in places
        for number, name in enumerate(names)
    ]
    passed = [row | {"control_id": f"P.{row['control_id']}", "status": "PASSED"} for row in status]
    keeping = [
        {
            "report": row["report"],
            "account_id": accounts[row["environment"]],
            "control_id": row["control_id"],
            "resource_id": f"arn:aws:s3:eu-west-1:{accounts[row['environment']]}:{IMAGE}/"
            f"a-name-of-some-length-{row['control_id']}-{number:05d}",
            "resource_type": "AwsS3Bucket",
            "regions": "eu-west-1 us-east-1",
            "status": "FAILED",
            "title": None,
            "remediation_url": "javascript:document.title='owned'",
            "account_name": f"{IMAGE}{row['environment']}",
            "workload": WORKLOAD,
            "environment": row["environment"],
        }
        for row in status
        for number in range(resources)
    ]
    place = {"account_name": pl.String(), "workload": pl.String(), "environment": pl.String()}
    words = {"workload": pl.String(), "environment": pl.String()}
    return Stored(
        day=DAY,
        collected_at=datetime(2026, 11, 23, 6, tzinfo=UTC),
        reports=DEMO_REPORTS,
        organization=organization.filter(pl.col("date") == DAY),
        workloads=history.filter(pl.col("date") == DAY),
        accounts=table(
            ACCOUNT_SCORES,
            [
                score_row(
                    DAY,
                    report,
                    90.0,
                    account_id=accounts[each],
                    account_name=f"{IMAGE}{each}",
                    workload=WORKLOAD,
                    environment=each,
                    owner=TURNED,
                    account_source="organizations" if each == "production" else "findings",
                    workload_source="account_name",
                )
                for report, each in places
            ],
        ),
        organization_history=organization.select(SCORE_HISTORY),
        workload_history=history.select(*SCORE_HISTORY, "workload", "environment"),
        changes=_changes(),
        causes=_causes(accounts["production"]),
        compared={DAY: DAY - timedelta(days=1)},
        expected=table(
            EXPECTED_CONTROLS,
            [
                {
                    "date": DAY,
                    "report": report,
                    "control_id": name,
                    "title": f"A title of some length that says what is wrong {SCRIPT}",
                    "severity": SEVERITIES[number % 4],
                    "remediation_url": f"https://docs.aws.amazon.com/console/{number}",
                }
                for report in REPORTS
                for number, name in enumerate(names)
            ],
        ),
        known=table(
            EXPECTED_CONTROLS,
            [{"report": "fsbp", "control_id": "Gone.1", "title": "A control that left the report"}],
        ),
        controls=pl.DataFrame(
            status + passed, schema={**words, **_some(CONTROL_STATUS, *status[0])}
        ),
        resources=pl.DataFrame(
            keeping, schema={"report": pl.String(), **RESOURCES_SCHEMA, **place}
        ),
        carried=pl.DataFrame(schema={**CARRIED_FAILURES.schema, **place}),
        exceptions=_exceptions(accounts["production"]),
        completeness=table(
            SOURCE_COMPLETENESS,
            [
                {
                    "date": DAY,
                    "report": "fsbp",
                    "account_id": accounts["test"],
                    "region": "eu-west-1",
                    "product": f"aws/config {SCRIPT}",
                    "last_seen": date(2026, 11, 20),
                    "findings": 0,
                    "unexplained": 12,
                    "reason": f"no findings of aws/config {SCRIPT} after 2026-11-20",
                }
            ],
        ),
        listed=table(
            ORGANIZATION_ACCOUNTS,
            [{"account_id": "000000000009", "account_name": SCRIPT, "state": "SUSPENDED"}],
        ),
        collected={"records": 1234, "duplicates": 5, "quarantined": 6},
        names={account: f"{IMAGE}{each}" for each, account in accounts.items()},
    )


def _some(of: Table, *names: str) -> dict[str, Any]:
    return {name: dtype for name, dtype in of.schema.items() if name in names}


def _changes() -> pl.DataFrame:
    before = score_of(DAY - timedelta(days=1), "fsbp", "production")
    after = score_of(DAY, "fsbp", "production")
    row = {
        "date": DAY,
        "compared_with": DAY - timedelta(days=1),
        "scope": "workload",
        "workload": WORKLOAD,
        "environment": "production",
        "report": "fsbp",
        "control_id": "C.1",
        "severity": "HIGH",
        "status_before": "PASSED",
        "status_after": "FAILED",
        "part": -1.25,
        "causes": "regression",
        "score_before": before,
        "score_after": after,
    }
    left = {"control_id": "Gone.1", "status_after": None, "part": 0.25, "causes": "control_removed"}
    return table(
        SCORE_CHANGES, [row, row | left, row | {"scope": "organization", "workload": None}]
    )


def _causes(account: str) -> pl.DataFrame:
    return table(
        SCORE_CHANGE_CAUSES,
        [
            {
                "date": DAY,
                "compared_with": DAY - timedelta(days=1),
                "scope": "workload",
                "workload": WORKLOAD,
                "environment": "production",
                "report": "fsbp",
                "control_id": "C.1",
                "account_id": account,
                "region": "eu-west-1",
                "resource_id": f"arn:aws:s3:::{IMAGE}{number}",
                "cause": "regression",
                "decisive": True,
                "status_before": "PASSED",
                "status_after": "FAILED",
                "first_observed_at": datetime(2026, 11, 22, 10, tzinfo=UTC),
            }
            for number in range(9)
        ],
    )


def _exceptions(account: str) -> pl.DataFrame:
    ends = [DAY - timedelta(days=2), DAY + timedelta(days=3), DAY + timedelta(days=300), None]
    return table(
        EXCEPTIONS,
        [
            {
                "date": DAY,
                "report": report,
                "account_id": account,
                "region": "eu-west-1",
                "control_id": f"E.{number}",
                "resource_id": f"arn:aws:s3:::kept-{number}",
                "severity": "LOW",
                "workload": WORKLOAD,
                "environment": "production",
                "hides": "FAILED",
                "open": True,
                "since": date(2026, 5, 1),
                "note": f"Accepted {SCRIPT}",
                "until": until,
                "points": 0.5,
            }
            for number, until in enumerate(ends)
            for report in ("fsbp", "cis-v3")
        ],
    )
