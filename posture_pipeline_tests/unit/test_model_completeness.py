"""How complete the findings of a day are, and the scores that are withheld."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model import completeness as rules
from posture_pipeline.model.causes import CAUSE_SCHEMA, LOST_EVIDENCE, NOTHING_LEFT
from posture_pipeline.model.scoring import NO_FINDINGS
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
    Table,
)

BEFORE, DAY = date(2026, 3, 1), date(2026, 3, 2)
ONE, TWO = "111122223333", "444455556666"
HUB, CONFIG = "aws/securityhub", "aws/config"
NOBODY = pl.DataFrame(schema={"account_id": pl.String, "rejected": pl.Int64, "records": pl.Int64})


def check(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "report": "fsbp",
        "account_id": ONE,
        "region": "eu-west-1",
        "control_id": f"S3.{number % 7}",
        "resource_id": f"bucket-{number}",
        "product": HUB,
        "failed": False,
        **changes,
    }


def checks(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=rules.CHECK_SCHEMA, orient="row")


def judged(
    before: list[dict[str, Any]],
    now: list[dict[str, Any]],
    *,
    why: str = "no_evidence",
    detail: str | None = None,
    share: float | None = 0.05,
    earlier: pl.DataFrame | None = None,
    rejected: pl.DataFrame = NOBODY,
    archiving: tuple[str, ...] = (),
    passed_are_seen: bool = True,
) -> pl.DataFrame:
    """The completeness of a day whose missing findings are all gone for one cause."""
    was, is_now = checks(*before).with_columns(compared_with=pl.lit(BEFORE)), checks(*now)
    counts = rules.counted(was, is_now)
    gone = rules.gone(was, is_now).drop("compared_with")
    causes = pl.DataFrame(
        {**row, "cause": why, "detail": detail}
        for row in gone.select(*rules.PROBLEM).iter_rows(named=True)
    )
    missing = [name for name in CAUSE_SCHEMA if name not in causes.columns]
    causes = causes.with_columns(pl.lit(None).alias(name) for name in missing)
    causes = causes.select(pl.col(name).cast(dtype) for name, dtype in CAUSE_SCHEMA.items())
    resources = was.group_by("report", "account_id", "region").agg(
        resources=pl.col("resource_id").n_unique()
    )
    explained = rules.with_explanations(
        gone, causes, counts, resources, archiving=archiving, passed_are_seen=passed_are_seen
    )
    return rules.source_completeness(
        counts,
        explained,
        SOURCE_COMPLETENESS.empty() if earlier is None else earlier,
        rejected,
        day=DAY,
        share=share,
    )


def incomplete(rows: pl.DataFrame) -> list[tuple[str, str, str]]:
    held = rows.filter(pl.col("reason").is_not_null())
    return held.select("account_id", "region", "product").rows()


HUNDRED = [check(number) for number in range(100)]


# --- what is incomplete -----------------------------------------------------------------------


def test_a_source_is_incomplete_above_the_share_and_not_at_it() -> None:
    assert incomplete(judged(HUNDRED, HUNDRED[5:])) == []
    rows = judged(HUNDRED, HUNDRED[6:])
    assert incomplete(rows) == [(ONE, "eu-west-1", HUB)]
    assert rows.select("findings_before", "findings", "gone", "unexplained", "share").rows() == [
        (100, 94, 6, 6, 0.06)
    ]
    assert rows["reason"].to_list() == [
        "6 of 100 findings of aws/securityhub in eu-west-1 are gone since 2026-03-01 without "
        "evidence"
    ]


def test_fewer_than_three_findings_are_never_too_many() -> None:
    ten = [check(number, control_id="S3.1") for number in range(10)]
    assert incomplete(judged(ten, ten[2:])) == []
    assert incomplete(judged(ten, ten[3:])) == [(ONE, "eu-west-1", HUB)]


@pytest.mark.parametrize("why", sorted(LOST_EVIDENCE - {"archived", "aged_out", "check_stopped"}))
def test_evidence_that_is_lost_explains_nothing(why: str) -> None:
    assert incomplete(judged(HUNDRED, HUNDRED[50:], why=why)) == [(ONE, "eu-west-1", HUB)]


def test_stale_findings_are_explained_where_the_whole_control_stopped() -> None:
    """So it is when a control is disabled; a check that runs for some resources runs for all."""
    fifty = [check(number, control_id="S3.1") for number in range(50)]
    others = [check(number, control_id="S3.2") for number in range(50, 100)]
    assert incomplete(judged([*fifty, *others], others, why="check_stopped")) == []
    some = judged([*fifty, *others], [*fifty[:25], *others], why="check_stopped")
    assert incomplete(some) == [(ONE, "eu-west-1", HUB)]


@pytest.mark.parametrize("why", ["archived", "aged_out", "resource_gone", "control_removed"])
def test_findings_that_are_gone_for_a_known_cause_are_not_missed(why: str) -> None:
    rows = judged(HUNDRED, HUNDRED[50:], why=why)
    assert incomplete(rows) == []
    assert rows.select("gone", "explained", "unexplained").rows() == [(50, 50, 0)]


def test_all_failed_findings_missing_is_seen_however_small_their_share() -> None:
    failed = [check(100 + number, failed=True) for number in range(3)]
    rows = judged([*HUNDRED, *failed], HUNDRED)
    assert rows["share"][0] < 0.05
    assert incomplete(rows) == [(ONE, "eu-west-1", HUB)]
    assert rules.unexplained_share(rows) == 1.0


def test_a_product_that_stops_everywhere_counts_however_little_each_account_had() -> None:
    accounts = [f"{number:012d}" for number in range(4)]
    hub = [check(number, account_id=account) for account in accounts for number in range(50)]
    config = [
        check(report="pack", account_id=account, product=CONFIG, control_id="lz-1")
        for account in accounts
    ]
    rows = judged([*hub, *config], hub)
    assert incomplete(rows) == [(account, "eu-west-1", CONFIG) for account in accounts]
    assert set(rows.filter(pl.col("reason").is_not_null())["not_reporting"]) == {True}
    assert rows.filter(pl.col("reason").is_not_null())["reason"][0] == (
        "no findings of aws/config in eu-west-1 after 2026-03-01"
    )


def test_a_product_that_stops_in_a_region_counts_however_little_each_account_had() -> None:
    accounts = [f"{number:012d}" for number in range(3)]
    here = [check(number, account_id=account) for account in accounts for number in range(50)]
    there = [check(99, account_id=account, region="us-east-1") for account in accounts]
    assert incomplete(judged([*here, *there], here)) == [
        (account, "us-east-1", HUB) for account in accounts
    ]


@pytest.mark.parametrize("place", [{"region": "us-east-1"}, {"product": CONFIG}])
def test_one_finding_is_enough_of_a_region_or_product_that_stops_altogether(
    place: dict[str, str],
) -> None:
    rest = [check(number) for number in range(50)]
    alone = check(99, report="lz-rules", control_id="lz-1", **place)
    rows = judged([*rest, alone], rest)
    assert rows.filter(pl.col("reason").is_not_null())["report"].to_list() == ["lz-rules"]


def test_a_control_without_any_finding_left_counts_across_the_organization() -> None:
    accounts = [f"{number:012d}" for number in range(3)]
    others = [check(number, account_id=account) for account in accounts for number in range(100)]
    of_iam = [check(1, account_id=account, control_id="IAM.1") for account in accounts]
    rows = judged([*others, *of_iam], others)
    assert rows["share"].max() < 0.05
    assert len(incomplete(rows)) == 3
    left = [*others, of_iam[0]]
    assert incomplete(judged([*others, *of_iam], left)) == []


def test_an_account_that_sends_nothing_at_all_is_incomplete_however_little_it_sent() -> None:
    assert incomplete(judged([check()], [])) == [(ONE, "eu-west-1", HUB)]
    other = check(account_id=TWO)
    assert incomplete(judged([check(), other], [other])) == [(ONE, "eu-west-1", HUB)]


def test_a_new_source_has_nothing_to_be_compared_with() -> None:
    rows = judged([], HUNDRED)
    assert rows.select("compared_with", "findings_before", "share", "reason").rows() == [
        (None, 0, None, None)
    ]
    assert rules.unexplained_share(rows) is None


def test_the_same_check_under_another_finding_id_is_not_gone() -> None:
    assert judged(HUNDRED, HUNDRED)["gone"].to_list() == [0]


def test_an_account_with_too_many_unreadable_records_is_incomplete() -> None:
    rejected = pl.DataFrame({"account_id": [ONE], "rejected": [4], "records": [104]})
    rows = judged([], HUNDRED, rejected=rejected)
    assert rows["reason"].to_list() == ["4 of 104 records could not be read"]
    assert incomplete(rows) == [(ONE, "eu-west-1", HUB)]


def test_no_share_withholds_nothing() -> None:
    assert incomplete(judged(HUNDRED, [], share=None)) == []


def test_the_last_day_with_findings_is_kept_while_a_source_does_not_report() -> None:
    first = judged(HUNDRED, [])
    assert first["last_seen"].to_list() == [BEFORE]
    again = judged(HUNDRED, [], earlier=first.with_columns(last_seen=BEFORE - timedelta(days=3)))
    assert again["last_seen"].to_list() == [BEFORE - timedelta(days=3)]
    assert judged(HUNDRED, HUNDRED, earlier=first)["last_seen"].to_list() == [DAY]


# --- what is evidence -------------------------------------------------------------------------


def test_a_few_resources_without_any_finding_count_as_deleted_and_many_do_not() -> None:
    of_each = [check(number, resource_id=f"r{number % 10}") for number in range(60)]

    def left(gone: int) -> list[dict[str, Any]]:
        return [row for row in of_each if int(row["resource_id"][1:]) >= gone]

    for gone, held in ((2, False), (3, True)):
        rows = judged(of_each, left(gone), why="resource_gone", detail=NOTHING_LEFT)
        assert bool(incomplete(rows)) is held, gone
        known = judged(of_each, left(gone), why="resource_gone", detail="archived by AWS")
        assert incomplete(known) == []


def test_where_deleted_resources_are_archived_an_empty_one_is_no_evidence() -> None:
    of_each = [check(number, resource_id=f"r{number % 10}") for number in range(60)]
    left = [row for row in of_each if row["resource_id"] != "r0"]
    seen = {"why": "resource_gone", "detail": NOTHING_LEFT}
    assert incomplete(judged(of_each, left, **seen)) == []
    assert incomplete(judged(of_each, left, **seen, archiving=(HUB,))) != []
    assert incomplete(judged(of_each, left, **seen, archiving=(CONFIG,))) == []


def test_where_passed_findings_are_not_collected_a_failure_that_is_gone_may_be_fixed() -> None:
    failed = [check(number, failed=True) for number in range(20)]
    assert incomplete(judged(failed, failed[10:], passed_are_seen=False)) == []
    assert incomplete(judged(failed, [], passed_are_seen=False)) == [(ONE, "eu-west-1", HUB)]


@given(st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_counts_add_up_whatever_is_gone(before: set[int], now: set[int]) -> None:
    accounts = (ONE, TWO)

    def rows_of(numbers: set[int]) -> list[dict[str, Any]]:
        return [check(number, account_id=accounts[number % 2]) for number in sorted(numbers)]

    rows = judged(rows_of(before), rows_of(now))
    assert rows["findings_before"].sum() == len(before)
    assert rows["findings"].sum() == len(now)
    assert rows["gone"].sum() == len(before - now)
    assert (rows["explained"] + rows["unexplained"] == rows["gone"]).all()
    if before and not now:
        assert rows["reason"].null_count() == 0
    if before <= now:
        assert rows["reason"].null_count() == rows.height


# --- what is withheld -------------------------------------------------------------------------


def source(reason: str | None = "no findings of it", **changes: Any) -> dict[str, Any]:
    return {
        "date": DAY,
        "report": "fsbp",
        "account_id": ONE,
        "region": "eu-west-1",
        "product": HUB,
        "compared_with": BEFORE,
        "reason": reason,
        **changes,
    }


def withheld(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = SOURCE_COMPLETENESS.schema
    frame = pl.DataFrame(
        [{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row"
    )
    return rules.withheld_accounts(frame)


def score_rows(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    counts = {"score": 80.0, "console_score": 80, "resource_score": 90.0, "passed": 8, "failed": 2}
    filled = [{"date": DAY, "report": "fsbp", **counts, **row} for row in rows]
    return pl.DataFrame(
        [{name: row.get(name) for name in table.names} for row in filled],
        schema=table.schema,
        orient="row",
    )


def test_an_account_is_withheld_for_the_reports_whose_findings_are_missing() -> None:
    rows = withheld(source(), source(report="pack", reason=None), source(account_id=TWO))
    assert rows.sort("account_id").select("report", "account_id", "since", "why").rows() == [
        ("fsbp", ONE, BEFORE, "no findings of it"),
        ("fsbp", TWO, BEFORE, "no findings of it"),
    ]


def test_a_withheld_score_says_why_and_none_of_its_figures() -> None:
    rows = score_rows(ACCOUNT_SCORES, {"account_id": ONE}, {"account_id": TWO})
    one, two = rules.withhold_accounts(rows, withheld(source()), {}).sort("account_id").to_dicts()
    assert {one[name] for name in rules.FIGURES} == {None}
    assert one["reason"] == "withheld: no findings of it"
    assert (two["score"], two["failed"], two["reason"]) == (80.0, 2, None)


def test_an_account_without_any_finding_keeps_its_own_reason_and_says_no_counts() -> None:
    rows = score_rows(ACCOUNT_SCORES, {"account_id": ONE, "score": None, "reason": NO_FINDINGS})
    (row,) = rules.withhold_accounts(rows, withheld(source()), {}).to_dicts()
    assert (row["reason"], row["failed"], row["passed"]) == (NO_FINDINGS, None, None)


def test_a_report_that_is_withheld_for_everybody_has_no_score_anywhere() -> None:
    reports = {"fsbp": "half of the records could not be read"}
    rows = score_rows(ACCOUNT_SCORES, {"account_id": ONE}, {"account_id": TWO, "report": "pack"})
    held = rules.withhold_accounts(rows, withheld(), reports).sort("account_id")
    assert held.select("score", "reason").rows() == [
        (None, "withheld: half of the records could not be read"),
        (80.0, None),
    ]


ACCOUNTS = pl.DataFrame(
    {
        "account_id": [ONE, TWO],
        "account_name": ["acme-pay", None],
        "workload": ["pay", "shop"],
        "environment": ["test", "test"],
        "reason": [NO_FINDINGS, None],
    }
)


def test_a_workload_is_withheld_for_one_of_its_accounts() -> None:
    rows = score_rows(
        WORKLOAD_SCORES,
        {"workload": "pay", "environment": "test"},
        {"workload": "shop", "environment": "test"},
    )
    held = rules.withhold_workloads(rows, withheld(source()), ACCOUNTS, {})
    assert held.select("workload", "score", "failed", "reason").rows() == [
        (
            "pay",
            None,
            None,
            f"withheld: account {ONE} (acme-pay) sent no findings after 2026-03-01",
        ),
        ("shop", 80.0, 2, None),
    ]
    both = withheld(source(), source("10 of 20 are gone", account_id=TWO))
    one_workload = ACCOUNTS.with_columns(workload=pl.lit("pay"))
    reason = rules.withhold_workloads(rows, both, one_workload, {})["reason"][0]
    assert reason.endswith("after 2026-03-01, and 1 more")
    alone = withheld(source("10 of 20 are gone", account_id=TWO))
    reason = rules.withhold_workloads(rows, alone, ACCOUNTS, {})["reason"][1]
    assert reason == f"withheld: account {TWO}: 10 of 20 are gone"


def test_the_organization_is_withheld_for_one_account_and_estimates_its_score() -> None:
    def status(account: str, control: str, value: str) -> dict[str, Any]:
        return {
            "date": DAY,
            "report": "fsbp",
            "account_id": account,
            "control_id": control,
            "status": value,
            "basis": "findings",
        }

    def statuses(*rows: dict[str, Any]) -> pl.DataFrame:
        schema = CONTROL_STATUS.schema
        return pl.DataFrame(
            [{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row"
        )

    present = statuses(status(TWO, "S3.1", "FAILED"), status(TWO, "S3.2", "PASSED"))
    known = statuses(status(ONE, "S3.2", "FAILED"))
    rows = score_rows(ORGANIZATION_SCORES, {"score": 50.0})
    (row,) = rules.withhold_organization(rows, present, known, withheld(source()), {}).to_dicts()
    assert {row[name] for name in rules.FIGURES} == {None}
    assert row["reason"] == (
        f"withheld: the findings of 1 account are incomplete ({ONE}: no findings of it); with the "
        f"last complete ones it would be 0.0"
    )
    nobody = withheld()
    assert rules.withhold_organization(rows, present, known.clear(), nobody, {}).equals(rows)


def test_a_missing_score_names_the_last_one_there_was() -> None:
    earlier = score_rows(ORGANIZATION_SCORES, {"date": BEFORE, "score": 50.0})
    gone = score_rows(ORGANIZATION_SCORES, {"score": None})
    first = rules.with_last_scores(ORGANIZATION_SCORES, gone, earlier)
    assert first.select("last_score", "last_score_date").row(0) == (50.0, BEFORE)
    later = rules.with_last_scores(ORGANIZATION_SCORES, gone, first)
    assert later.select("last_score", "last_score_date").row(0) == (50.0, BEFORE)
    there = score_rows(ORGANIZATION_SCORES, {})
    row = rules.with_last_scores(ORGANIZATION_SCORES, there, earlier)
    assert row.select("last_score", "last_score_date").row(0) == (None, None)
