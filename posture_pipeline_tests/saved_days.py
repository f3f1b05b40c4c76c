"""Days of saved findings through the real job, with findings as AWS really sends them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from posture_pipeline.automation import DAILY_JOB
from posture_pipeline.definitions import build_definitions
from posture_pipeline.lake.store import Lake
from posture_pipeline.opening import open_lake
from posture_pipeline.resources import SavedFindings
from posture_pipeline.schemas import ORGANIZATION_SCORES, Table
from posture_pipeline.settings import Report, Settings
from posture_pipeline_tests.simulated_days import QUIET, SCORED, failures

ACCOUNT = "111122223333"
REGION = "eu-west-1"
FSBP = "aws-foundational-security-best-practices/v/1.0.0"
STANDARD = Report(name="fsbp", standard=FSBP)

Record = dict[str, Any]


def _record(product: str, check: str, status: str, resource: str, **members: Any) -> Record:
    account, region = members.get("AwsAccountId", ACCOUNT), members.get("Region", REGION)
    return {
        "SchemaVersion": "2018-10-08",
        "Id": f"{product}/{account}/{region}/{check}/{resource}",
        "ProductArn": f"arn:aws:securityhub:{region}::product/{product}",
        "AwsAccountId": account,
        "AwsAccountName": "acme-web-production",
        "Region": region,
        "Title": check,
        "CreatedAt": "2026-08-01T00:00:00Z",
        "Severity": {"Label": "HIGH"},
        "Resources": [{"Type": "AwsS3Bucket", "Id": resource}],
        "Workflow": {"Status": "NEW"},
        "RecordState": "ACTIVE",
        **members,
    }


def control_finding(
    control: str, status: str, resource: str = "bucket", *, on: date, **members: Any
) -> Record:
    """A consolidated finding of Security Hub, updated in the night before a day."""
    return _record(
        "aws/securityhub",
        control,
        status,
        resource,
        **{
            "ProductName": "Security Hub",
            "GeneratorId": f"security-control/{control}",
            "UpdatedAt": f"{on.isoformat()}T02:00:00Z",
            "Compliance": {
                "Status": status,
                "SecurityControlId": control,
                "AssociatedStandards": [{"StandardsId": f"standards/{FSBP}"}],
            },
            **members,
        },
    )


def rule_finding(
    rule: str,
    status: str,
    resource: str = "bucket",
    *,
    kind: str | None = None,
    arn: str | None = None,
    **members: Any,
) -> Record:
    """A finding of AWS Config, which is updated when compliance changes only."""
    account, region = members.get("AwsAccountId", ACCOUNT), members.get("Region", REGION)
    arn = arn or f"arn:aws:config:{region}:{account}:config-rule/config-rule-{rule[:6]}"
    kinds = {"PASSED": "COMPLIANT", "FAILED": "NON_COMPLIANT"}
    return _record(
        "aws/config",
        rule,
        status,
        resource,
        **{
            "ProductName": "Config",
            "GeneratorId": arn,
            "UpdatedAt": "2026-11-10T00:00:00Z",
            "Compliance": {"Status": status},
            "ProductFields": {
                "aws/config/ConfigRuleArn": arn,
                "aws/config/ConfigRuleName": rule,
                "aws/config/ConfigComplianceType": kind or kinds.get(status),
            },
            **members,
        },
    )


@dataclass
class SavedDays:
    """A lake that saved findings are imported into."""

    folder: Path
    settings: Settings
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)

    def store(
        self, day: date, records: list[Record], *, selection: list[str] | None = None
    ) -> None:
        """Imports the findings of a day and computes its scores."""
        path = self.folder / f"{day.isoformat()}.json"
        path.write_text(json.dumps({"Findings": records}), encoding="utf-8")
        definitions = build_definitions(self.settings, resources={"source": SavedFindings([path])})
        result = definitions.resolve_job_def(DAILY_JOB).execute_in_process(
            instance=self.instance,
            partition_key=day.isoformat(),
            raise_on_error=False,
            run_config=QUIET,
            asset_selection=[dg.AssetKey(name) for name in selection or SCORED],
        )
        assert result.success, failures(result)

    def read(self, table: Table, day: date) -> pl.DataFrame:
        return self.lake.read(table, day)

    def score(self, day: date, report: str) -> float | None:
        """The organization's score."""
        rows = self.read(ORGANIZATION_SCORES, day).filter(pl.col("report") == report)
        score: float | None = rows["score"].item()
        return score


def saved_days(
    folder: Path, instance: dg.DagsterInstance, *reports: Report, **more: Any
) -> SavedDays:
    """An empty lake in the folder."""
    settings = Settings(lake=str(folder / "lake"), reports=reports or (STANDARD,), **more)
    return SavedDays(folder, settings, instance)
