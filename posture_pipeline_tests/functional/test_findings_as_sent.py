"""Findings as AWS really sends them, from the saved file to the scores and the causes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    FINDING_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Accounts, Report
from posture_pipeline_tests.saved_days import ACCOUNT, control_finding, rule_finding, saved_days

pytestmark = pytest.mark.functional

FIRST, SECOND, THIRD = date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 22)
RULES = Report(name="lz", custom_rules=("lz-a", "lz-b"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_a_product_that_gets_another_display_name_keeps_its_score(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance)
    for day in (FIRST, SECOND, THIRD):
        name = {"ProductName": "Security Hub" if day == FIRST else "Security Hub CSPM"}
        controls = [
            control_finding(f"S3.{n}", "FAILED" if n == 1 else "PASSED", on=day, **name)
            for n in range(1, 11)
        ]
        days.store(day, controls)
        assert days.score(day, "fsbp") == 90.0
        assert days.read(FINDING_CHANGES, day).is_empty()


def test_a_deleted_resource_that_config_calls_not_applicable_fails_no_more(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance, RULES)
    good = [
        *(rule_finding("lz-a", "PASSED", f"b{n}") for n in range(3)),
        rule_finding("lz-b", "PASSED", "c"),
    ]
    days.store(FIRST, [*good, rule_finding("lz-a", "FAILED", "gone")])
    days.store(
        SECOND, [*good, rule_finding("lz-a", "NOT_AVAILABLE", "gone", kind="NOT_APPLICABLE")]
    )
    assert (days.score(FIRST, "lz"), days.score(SECOND, "lz")) == (50.0, 100.0)
    changes = days.read(FINDING_CHANGES, SECOND)
    assert changes.select("resource_id", "status_after", "cause").rows() == [
        ("gone", "ABSENT", "not_applicable")
    ]


def test_findings_archived_for_a_broken_rule_are_not_fixed(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance)
    good = [control_finding("S3.2", "PASSED", f"b{n}", on=FIRST) for n in range(60)]
    days.store(FIRST, [*good, control_finding("S3.1", "FAILED", on=FIRST)])
    lost = control_finding("S3.1", "NOT_AVAILABLE", on=SECOND, RecordState="ARCHIVED", Id="new")
    lost["Compliance"]["StatusReasons"] = [{"ReasonCode": "CONFIG_RULE_EVALUATION_ERROR"}]
    gone = control_finding("S3.1", "FAILED", on=SECOND, RecordState="ARCHIVED")
    days.store(SECOND, [*good, gone, lost])
    changes = days.read(FINDING_CHANGES, SECOND)
    assert changes.select("control_id", "cause").rows() == [("S3.1", "rule_broken")]


def test_standards_named_by_arn_count(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    days = saved_days(tmp_path, instance)
    records = [
        control_finding("S3.1", "FAILED", on=FIRST),
        control_finding("S3.2", "FAILED", on=FIRST),
        control_finding("S3.3", "PASSED", on=FIRST),
    ]
    for record in records[:2]:
        standard = record["Compliance"]["AssociatedStandards"][0]
        standard["StandardsId"] = f"arn:aws:securityhub:eu-west-1::{standard['StandardsId']}"
    days.store(FIRST, records)
    assert days.score(FIRST, "fsbp") == pytest.approx(100 / 3)
    status = days.read(CONTROL_STATUS, FIRST)
    assert set(status.filter(pl.col("status") == "FAILED")["control_id"]) == {"S3.1", "S3.2"}


def test_the_finding_of_a_check_that_stopped_is_shown_and_not_called_fixed(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance)
    for day in (FIRST, THIRD):
        fresh = [
            control_finding("S3.2", "PASSED", more, on=day, Resources=[{"Id": more}, {"Id": "x"}])
            for more in ("b1", "b2")
        ]
        days.store(day, [*fresh, control_finding("S3.1", "FAILED", on=FIRST)])
    assert (days.score(FIRST, "fsbp"), days.score(THIRD, "fsbp")) == (50.0, 100.0)
    status = days.read(CONTROL_STATUS, THIRD).sort("control_id")
    columns = ("control_id", "status", "stale_findings", "passed_findings", "passed_resources")
    assert status.select(columns).rows() == [
        ("S3.1", "NO_DATA", 1, 0, 0),
        ("S3.2", "PASSED", 0, 2, 3),
    ]
    changes = days.read(FINDING_CHANGES, THIRD)
    assert changes.select("control_id", "cause").rows() == [("S3.1", "check_stopped")]


def test_an_azure_subscription_is_scored_apart_from_its_connectors_account(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    subscription = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
    overrides = tmp_path / "accounts.csv"
    overrides.write_text(f"account_id,workload,environment\n{subscription},shop,test\n")
    days = saved_days(tmp_path, instance, accounts=Accounts(overrides=str(overrides)))
    azure = {
        "Resources": [{"Id": "vm", "Provider": "Azure", "Owner": {"Account": {"Id": subscription}}}]
    }
    days.store(
        FIRST,
        [
            control_finding("S3.1", "PASSED", on=FIRST),
            control_finding("S3.2", "PASSED", on=FIRST),
            control_finding("S3.1", "FAILED", "vm", on=FIRST, **azure),
        ],
    )
    columns = ("account_id", "account_name", "workload", "environment", "account_source", "score")
    assert days.read(ACCOUNT_SCORES, FIRST).select(columns).rows() == [
        (subscription, None, "shop", "test", "connector", 0.0),
        (ACCOUNT, "acme-web-production", "web", "production", "findings", 100.0),
    ]
    assert days.read(WORKLOAD_SCORES, FIRST).height == 2


OTHER = "444455556666"


def test_an_account_that_nobody_lists_is_missed_when_its_findings_are_gone(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Without an account list nothing says that an account left: it may have sent nothing."""
    days = saved_days(tmp_path, instance)
    for day, has_failing in ((FIRST, True), (SECOND, False), (THIRD, True)):
        rows = [control_finding(f"S3.{n}", "PASSED", on=day) for n in range(1, 5)]
        failing = control_finding("S3.1", "FAILED", "b", on=day, AwsAccountId=OTHER)
        days.store(day, [*rows, *([failing] if has_failing else [])])
    assert [days.score(day, "fsbp") for day in (FIRST, SECOND, THIRD)] == [75.0, None, 75.0]
    workload = days.read(WORKLOAD_SCORES, SECOND).row(0, named=True)
    assert (workload["score"], workload["failed"], workload["last_score"]) == (None, None, 75.0)
    assert f"account {OTHER}" in workload["reason"]
    accounts = days.read(ACCOUNT_SCORES, SECOND)
    assert dict(accounts.select("account_id", "score").iter_rows()) == {ACCOUNT: 100.0, OTHER: None}
    assert accounts.filter(account_id=OTHER)["account_source"].item() == "earlier_day"


def test_an_account_that_nobody_lists_is_given_up_after_silent_days(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance, silent_days=1)
    for day in (FIRST, SECOND, THIRD):
        rows = [control_finding(f"S3.{n}", "PASSED", on=day) for n in range(1, 5)]
        gone = control_finding("S3.1", "FAILED", "b", on=day, AwsAccountId=OTHER)
        days.store(day, [*rows, *([gone] if day == FIRST else [])])
    assert [days.score(day, "fsbp") for day in (FIRST, SECOND, THIRD)] == [75.0, None, 100.0]
    assert days.read(ACCOUNT_SCORES, THIRD)["account_id"].to_list() == [ACCOUNT]


def test_a_day_without_any_finding_after_a_full_one_stops_the_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance)
    days.store(FIRST, [control_finding(f"S3.{n}", "FAILED", on=FIRST) for n in range(1, 5)])
    with pytest.raises(AssertionError, match="snapshot_is_complete"):
        days.store(SECOND, [])
