"""Findings that are missing for days: what they are compared with, and what is withheld."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    ORGANIZATION_SCORES,
    QUARANTINE,
    SOURCE_COMPLETENESS,
)
from posture_pipeline.settings import Checks
from posture_pipeline_tests.saved_days import SavedDays, control_finding, saved_days

pytestmark = pytest.mark.functional

FIRST, SECOND, THIRD, FOURTH = (date(2026, 11, 20) + timedelta(days=n) for n in range(4))
ACCOUNTS = [f"11112222333{number}" for number in range(5)]
BROKEN = ACCOUNTS[0]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def snapshot_of(day: date, *, broken: int = 10) -> list[dict[str, Any]]:
    """Ten findings of each account, of which one account has as many as said."""
    return [
        control_finding(
            f"S3.{number}",
            "FAILED" if number == 9 else "PASSED",
            f"bucket-{number}",
            on=day,
            AwsAccountId=account,
        )
        for account in ACCOUNTS
        for number in range(broken if account == BROKEN else 10)
    ]


def held(days: SavedDays, day: date) -> list[str]:
    """The accounts without a score."""
    rows = days.read(ACCOUNT_SCORES, day).filter(pl.col("score").is_null())
    return rows["account_id"].sort().to_list()


def compared(days: SavedDays, day: date) -> dict[str, date | None]:
    rows = days.read(SOURCE_COMPLETENESS, day)
    return dict(rows.select("account_id", "compared_with").iter_rows())


def test_an_outage_of_two_days_is_compared_with_the_last_complete_day_until_it_ends(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance)
    days.store(FIRST, snapshot_of(FIRST))
    assert held(days, FIRST) == []
    assert set(compared(days, FIRST).values()) == {None}
    for day in (SECOND, THIRD):
        days.store(day, snapshot_of(day, broken=5))
        assert held(days, day) == [BROKEN]
        assert compared(days, day)[BROKEN] == FIRST
        assert days.score(day, "fsbp") is None
        row = days.read(ORGANIZATION_SCORES, day).row(0, named=True)
        assert (row["last_score"], row["last_score_date"]) == (90.0, FIRST)
        assert row["reason"].endswith("with the last complete ones it would be 90.0")
    assert compared(days, THIRD)[ACCOUNTS[1]] == SECOND
    days.store(FOURTH, snapshot_of(FOURTH))
    assert held(days, FOURTH) == []
    assert days.score(FOURTH, "fsbp") == 90.0


def test_after_the_days_of_the_settings_what_is_left_becomes_the_measure(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance, silent_days=1)
    days.store(FIRST, snapshot_of(FIRST))
    days.store(SECOND, snapshot_of(SECOND, broken=5))
    assert held(days, SECOND) == [BROKEN]
    days.store(THIRD, snapshot_of(THIRD, broken=5))
    assert held(days, THIRD) == []
    assert compared(days, THIRD)[BROKEN] == SECOND


def test_an_account_with_unreadable_records_is_withheld_on_the_first_day_too(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = saved_days(tmp_path, instance, checks=Checks(quarantine_share=0.05))
    bad = {**snapshot_of(FIRST)[0], "Id": 5}
    days.store(FIRST, [*snapshot_of(FIRST), bad])
    assert days.read(QUARANTINE, FIRST)["account_id"].to_list() == [BROKEN]
    assert held(days, FIRST) == [BROKEN]
    rows = days.read(SOURCE_COMPLETENESS, FIRST).filter(pl.col("reason").is_not_null())
    assert rows["reason"].to_list() == ["1 of 11 records could not be read"]
