"""What the next collection takes, from counts alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model.plan import (
    SECONDS_A_PAGE,
    CollectionPlan,
    collection_plan,
    counts_by_shard,
    disk_plan,
)
from posture_pipeline.settings import Aws, Settings, Simulation

REGION = "eu-west-1"


def settings(**changes: Any) -> Settings:
    return Settings(**{"aws": Aws(region=REGION), **changes})


def findings(*rows: tuple[str, str, str | None, str]) -> pl.LazyFrame:
    return pl.DataFrame(
        rows,
        schema=["account_id", "shard", "compliance_status", "record_state"],
        orient="row",
    ).lazy()


def of_digits(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame(
        [(REGION, False, str(digit), False, number) for digit, number in enumerate(numbers)],
        schema={
            "region": pl.String,
            "archived": pl.Boolean,
            "digit": pl.String,
            "failing": pl.Boolean,
            "findings": pl.Int64,
        },
        orient="row",
    )


def planned(counts: pl.DataFrame, **changes: Any) -> CollectionPlan:
    made = settings(**changes)
    return collection_plan(counts, made, made.collect)


def test_findings_are_counted_by_region_first_digit_and_what_failing_asks_for() -> None:
    counts = counts_by_shard(
        findings(
            ("012345678901", f"{REGION}-active-0", "PASSED", "ACTIVE"),
            ("012345678901", f"{REGION}-active-0", "FAILED", "ACTIVE"),
            ("112345678901", "us-gov-west-1-active-all", "WARNING", "ACTIVE"),
            ("112345678901", f"{REGION}-archived", None, "ARCHIVED"),
            ("912345678901", "imported", None, "ACTIVE"),
        ),
        REGION,
    )
    assert counts.rows() == [
        (REGION, False, "0", False, 1),
        (REGION, False, "0", True, 1),
        (REGION, False, "9", False, 1),
        (REGION, True, "1", False, 1),
        ("us-gov-west-1", False, "1", True, 1),
    ]


def test_findings_of_another_cloud_are_collected_with_the_account_of_their_connector() -> None:
    rows = findings(("azure-1", f"{REGION}-active-3", "PASSED", "ACTIVE"))
    of_cloud = rows.with_columns(connector_account_id=pl.lit("312345678901"))
    assert counts_by_shard(of_cloud, REGION)["digit"].to_list() == ["3"]


@pytest.mark.parametrize(
    "shard",
    ["active-1", "active-1-updates-2", "active-all", "products-0", "products-0-updates-1"],
)
def test_findings_of_every_kind_of_stream_count_for_the_region_that_was_asked(shard: str) -> None:
    row = ("112345678901", f"us-gov-west-1-{shard}", "PASSED", "ACTIVE")
    assert counts_by_shard(findings(row), REGION)["region"].to_list() == ["us-gov-west-1"]


def test_a_stream_without_findings_is_a_page_too_and_so_is_what_was_updated_meanwhile() -> None:
    plan = planned(of_digits(0, 1, 100, 101))
    assert plan.pages == (1 + 1 + 1 + 2 + 6) + 10 + 1
    assert planned(of_digits(), archived_days=0).pages == 10 + 10


def test_pages_of_updates_grow_with_the_time_a_collection_takes() -> None:
    """Each finding is updated twice a day: of 300,000 in 1,000 and 900 seconds some 13,000."""
    plan = planned(of_digits(*[30_000] * 10), archived_days=0)
    assert plan.pages == 3_000 + 10 * 14
    slow = planned(
        of_digits(*[30_000] * 10), archived_days=0, aws=Aws(region=REGION, requests_per_second=0.01)
    )
    assert slow.pages == 3_000 + 3_000


def test_without_shards_the_pages_of_a_region_are_one_stream() -> None:
    plan = planned(of_digits(50, 50, 50), shards=False, archived_days=0)
    assert (plan.pages, plan.regions[0].shards) == (2 + 1, 1)


def test_regions_are_asked_at_the_same_time_at_a_rate_each() -> None:
    counts = of_digits(*[30_000] * 10)
    both = pl.concat([counts, counts.with_columns(region=pl.lit("us-east-1"))])
    one = planned(counts)
    two = planned(both, aws=Aws(region=REGION, regions=(REGION, "us-east-1")))
    assert two.pages == 2 * one.pages
    assert two.seconds == pytest.approx(one.seconds) == pytest.approx(one.pages / 3)


def test_a_stream_that_has_most_findings_decides_the_time() -> None:
    plan = planned(of_digits(1_000_000))
    assert plan.regions[0].longest > 10_000
    assert plan.seconds == plan.regions[0].longest * SECONDS_A_PAGE > plan.pages / 3


def test_without_a_rate_limit_no_time_is_told() -> None:
    assert planned(of_digits(1_000), simulation=Simulation()).seconds == 0
    no_limit = Aws(region=REGION, requests_per_second=None)
    assert planned(of_digits(1_000), aws=no_limit).seconds == 0


def test_failing_leaves_the_others_out() -> None:
    counts = pl.concat([of_digits(900), of_digits(300).with_columns(failing=pl.lit(value=True))])
    assert (planned(counts).findings, planned(counts, collect="failing").findings) == (1200, 300)


@given(st.lists(st.integers(0, 10**7), min_size=10, max_size=10))
def test_pages_hold_all_findings_and_hardly_more(numbers: list[int]) -> None:
    plan = planned(of_digits(*numbers))
    assert plan.findings == sum(numbers)
    assert plan.findings <= 100 * plan.pages < 2 * plan.findings + 100 * (11 + 10 + 1)


def test_disk_counts_what_is_kept() -> None:
    sizes = {"raw_finding_pages": 1_000, "account_findings": 100, "account_scores": 10}
    kept = {"raw_finding_pages": timedelta(days=14), "account_findings": timedelta(days=400)}
    plan = disk_plan(sizes, kept, share_of_findings=0.5)
    assert plan.a_day == {"raw_finding_pages": 500, "account_findings": 50, "account_scores": 10}
    assert plan.year == 500 * 14 + 50 * 365 + 10 * 365
