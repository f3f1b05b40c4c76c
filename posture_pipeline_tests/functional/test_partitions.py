"""Every partition of AWS gives the same scores: nothing is lost to a wrong prefix of an ARN."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from posture_pipeline.schemas import CONTROL_STATUS, MERGED_FINDINGS, WORKLOAD_SCORES
from posture_pipeline.settings import Aws
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SCORED, failures, simulated_days

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 23)
STATUS = ("report", "account_id", "control_id", "status", "basis", "failed_findings")
SCORE = ("report", "workload", "environment", "score", "passed", "failed")


def scored_in(region: str, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Control status, workload scores, and the beginnings of the ARNs of findings."""
    organization = SimulationSettings(
        accounts=5, resources_per_account=5, regions=(region,), rate_limit=None
    )
    with simulated_days(folder, organization) as days:
        aws = Aws(region=region, endpoint_url=days.server.url, requests_per_second=None)
        days.settings = days.settings.model_copy(update={"aws": aws})
        result = days.run(DAY, selection=SCORED)
        assert result.success, failures(result)
        arns = days.lake.scan(MERGED_FINDINGS, DAY).select(
            pl.col("finding_id").str.extract("^arn:([a-z-]+):").unique()
        )
        return (
            days.lake.read(CONTROL_STATUS, DAY).select(STATUS),
            days.lake.read(WORKLOAD_SCORES, DAY).select(SCORE),
            arns.collect()["finding_id"].to_list(),
        )


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eusc-de-east-1", "aws-eusc"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-isob-east-1", "aws-iso-b"),
    ],
)
def test_a_packs_failing_rules_fail_in_every_partition(
    region: str, partition: str, tmp_path: Path
) -> None:
    status, scores, arns = scored_in(region, tmp_path)
    assert arns == [partition]
    for report in ("lz-pack", "lz-rules", "fsbp", "cis-v3"):
        own = status.filter(pl.col("report") == report)
        assert own.filter(pl.col("basis") == "findings").height > 0, report
        failed = own.filter(pl.col("status") == "FAILED")
        assert failed.height > 0, report
        assert failed["failed_findings"].min() > 0
        lowest = scores.filter(pl.col("report") == report)["score"].min()
        assert lowest is not None
        assert lowest < 100, report
