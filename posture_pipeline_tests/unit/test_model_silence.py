"""Sources that fell silent, and the scores that are withheld for it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from posture_pipeline.model import silence
from posture_pipeline.model.scoring import NO_FINDINGS
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    ORGANIZATION_SCORES,
    SILENT_SOURCES,
    WORKLOAD_SCORES,
    Table,
)

BEFORE, DAY = date(2026, 3, 1), date(2026, 3, 2)
ONE, TWO = "111122223333", "444455556666"
HUB, CONFIG = "aws/securityhub", "aws/config"


def finding(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "finding_id": f"f{number}",
        "account_id": ONE,
        "region": "eu-west-1",
        "product": HUB,
        "security_control_id": "S3.1",
        "record_state": "ACTIVE",
        "updated_at": datetime(2026, 3, 1, tzinfo=UTC),
        **changes,
    }


def findings(*rows: dict[str, Any]) -> pl.LazyFrame:
    frame = pl.DataFrame(rows) if rows else ACCOUNT_FINDINGS.empty()
    return ACCOUNT_FINDINGS.read_as(frame).lazy()


def archived(*ids: str) -> pl.LazyFrame:
    return pl.LazyFrame(
        {"account_id": [ONE] * len(ids), "finding_id": list(ids)},
        schema={"account_id": pl.String, "finding_id": pl.String},
    )


def silent(
    before: list[dict[str, Any]],
    now: list[dict[str, Any]],
    *,
    archived_ids: tuple[str, ...] = (),
    silent_before: pl.DataFrame | None = None,
    scored: tuple[str, ...] = (ONE, TWO),
    day: date = DAY,
    silent_days: int = 30,
) -> pl.DataFrame:
    was, is_now = (silence.sources(findings(*rows)).collect() for rows in (before, now))
    gone = was.join(is_now, on=silence.SOURCE, how="anti")
    of_gone = findings(*before).join(gone.lazy(), on=silence.SOURCE, how="semi")
    return silence.silent_sources(
        was,
        is_now,
        silence.unexplained(of_gone, archived(*archived_ids), day).collect(),
        SILENT_SOURCES.empty() if silent_before is None else silent_before,
        scored,
        compared_with=BEFORE,
        day=day,
        silent_days=silent_days,
    )


SIX = [finding(number) for number in range(6)]
ELSEWHERE = finding(99, region="us-east-1")
FROM_CONFIG = {
    "product": CONFIG,
    "security_control_id": None,
    "config_rule_name": "lz-s3",
    "rule_name": "lz-s3",
}


def test_a_region_that_sends_nothing_any_more_is_silent() -> None:
    rows = silent([*SIX, ELSEWHERE], [ELSEWHERE])
    assert rows.select("account_id", "region", "product", "last_seen", "findings").rows() == [
        (ONE, "eu-west-1", HUB, BEFORE, 6)
    ]


def test_a_product_that_sends_nothing_any_more_is_silent() -> None:
    of_config = [finding(10 + number, **FROM_CONFIG) for number in range(5)]
    rows = silent([*SIX, *of_config], SIX)
    assert rows["product"].to_list() == [CONFIG]


def test_a_few_findings_that_vanish_are_no_silence() -> None:
    few = [finding(10 + number, **FROM_CONFIG) for number in range(4)]
    assert silent([*SIX, *few], SIX).is_empty()


def test_an_account_that_sends_nothing_at_all_is_silent_however_little_it_sent() -> None:
    assert silent([finding()], [])["account_id"].to_list() == [ONE]
    assert silent([finding()], [finding(account_id=TWO)])["account_id"].to_list() == [ONE]


def test_what_was_archived_or_aged_out_needs_no_silence() -> None:
    assert silent(SIX, [], archived_ids=tuple(f"f{number}" for number in range(6))).is_empty()
    old = datetime(2025, 11, 1, tzinfo=UTC)
    assert silent([{**each, "updated_at": old} for each in SIX], []).is_empty()


def test_findings_of_no_control_are_no_source() -> None:
    of_guard_duty = {**finding(), "product": "aws/guardduty", "security_control_id": None}
    assert silent([of_guard_duty] * 6, []).is_empty()


def test_an_archived_finding_is_not_sent() -> None:
    rows = silent(SIX, [{**each, "record_state": "ARCHIVED"} for each in SIX])
    assert rows.height == 1


def test_a_source_stays_silent_until_it_sends_again() -> None:
    first = silent(SIX, [])
    second = silent([], [], silent_before=first, day=DAY + timedelta(days=1))
    assert second["last_seen"].to_list() == [BEFORE]
    assert second["date"].to_list() == [DAY + timedelta(days=1)]
    assert silent([], [finding()], silent_before=first).is_empty()


def test_it_is_given_up_after_the_days_of_the_settings() -> None:
    first = silent(SIX, [])
    for days, left in ((29, 1), (30, 0)):
        later = DAY + timedelta(days=days)
        assert silent([], [], silent_before=first, day=later).height == left
    assert silent(SIX, [], silent_days=0).is_empty()


def test_an_account_that_is_not_scored_may_be_silent() -> None:
    assert silent(SIX, [], scored=(TWO,)).is_empty()


# --- what is withheld -------------------------------------------------------------------------

REPORTS = pl.DataFrame(
    {
        "report": ["fsbp", "pack", "rules"],
        "report_kind": ["standard", "conformance_pack", "custom_rules"],
    }
)


def silent_source(product: str = HUB, account: str = ONE) -> pl.DataFrame:
    row = {"account_id": account, "region": "eu-west-1", "product": product}
    return SILENT_SOURCES.read_as(pl.DataFrame({**row, "last_seen": BEFORE}))


def score_rows(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    counts = {"score": 80.0, "console_score": 80, "resource_score": 90.0, "passed": 8, "failed": 2}
    return table.read_as(
        pl.DataFrame([{"date": DAY, "report": "fsbp", **counts, **r} for r in rows])
    )


@pytest.mark.parametrize(("product", "reports"), [(HUB, ["fsbp"]), (CONFIG, ["pack", "rules"])])
def test_a_product_makes_the_scores_of_its_own_reports(product: str, reports: list[str]) -> None:
    told = silence.silence_by_report(silent_source(product), REPORTS)
    assert sorted(told["report"]) == reports
    assert set(told["what"]) == {f"{product} in eu-west-1"}


def test_the_score_of_the_account_is_withheld_with_the_reason_and_keeps_its_counts() -> None:
    rows = score_rows(ACCOUNT_SCORES, {"account_id": ONE}, {"account_id": TWO})
    told = silence.silence_by_report(silent_source(), REPORTS)
    one, two = silence.withhold_accounts(rows, told).sort("account_id").to_dicts()
    assert (one["score"], one["console_score"], one["resource_score"]) == (None, None, None)
    assert one["reason"] == "withheld: no findings of aws/securityhub in eu-west-1 after 2026-03-01"
    assert (one["passed"], one["failed"]) == (8, 2)
    assert (two["score"], two["reason"]) == (80.0, None)


def test_an_account_without_any_finding_keeps_its_own_reason() -> None:
    rows = score_rows(ACCOUNT_SCORES, {"account_id": ONE, "score": None, "reason": NO_FINDINGS})
    told = silence.silence_by_report(silent_source(), REPORTS)
    assert silence.withhold_accounts(rows, told)["reason"].to_list() == [NO_FINDINGS]


def test_a_workload_is_withheld_for_one_silent_account_of_it() -> None:
    accounts = pl.DataFrame(
        {
            "account_id": [ONE, TWO],
            "account_name": ["acme-pay", None],
            "workload": ["pay", "shop"],
            "environment": ["test", "test"],
            "reason": [NO_FINDINGS, None],
        }
    )
    rows = score_rows(
        WORKLOAD_SCORES,
        {"workload": "pay", "environment": "test"},
        {"workload": "shop", "environment": "test"},
    )
    told = silence.silence_by_report(silent_source(), REPORTS)
    held = silence.withhold_workloads(rows, told, accounts)
    assert held.select("workload", "score", "reason").rows() == [
        ("pay", None, f"withheld: account {ONE} (acme-pay) sent no findings after 2026-03-01"),
        ("shop", 80.0, None),
    ]
    both = pl.concat([silent_source(), silent_source(account=TWO)])
    one_workload = accounts.with_columns(workload=pl.lit("pay"))
    told = silence.silence_by_report(both, REPORTS)
    reason = silence.withhold_workloads(rows, told, one_workload)["reason"][0]
    assert reason.endswith("after 2026-03-01, and 1 more")


def test_the_organization_is_withheld_only_if_silence_changes_its_score() -> None:
    def status(account: str, control: str, value: str) -> dict[str, Any]:
        return {
            "date": DAY,
            "report": "fsbp",
            "account_id": account,
            "control_id": control,
            "status": value,
            "basis": "findings",
        }

    present = CONTROL_STATUS.read_as(
        pl.DataFrame([status(TWO, "S3.1", "FAILED"), status(TWO, "S3.2", "PASSED")])
    )
    rows = score_rows(ORGANIZATION_SCORES, {"score": 50.0})
    told = silence.silence_by_report(silent_source(), REPORTS)
    for last, withheld in (("S3.1", False), ("S3.2", True)):
        known = CONTROL_STATUS.read_as(pl.DataFrame([status(ONE, last, "FAILED")]))
        (row,) = silence.withhold_organization(rows, present, known, told).to_dicts()
        assert (row["score"] is None) is withheld
        if withheld:
            assert row["reason"].startswith("withheld: 1 silent account, ")
            assert row["reason"].endswith("it would be 0.0")
    nobody = told.clear()
    assert silence.withhold_organization(rows, present, present.clear(), nobody).equals(rows)


def test_a_missing_score_names_the_last_one_there_was() -> None:
    earlier = score_rows(ORGANIZATION_SCORES, {"date": BEFORE, "score": 50.0})
    gone = score_rows(ORGANIZATION_SCORES, {"score": None})
    first = silence.with_last_scores(ORGANIZATION_SCORES, gone, earlier)
    assert first.select("last_score", "last_score_date").row(0) == (50.0, BEFORE)
    later = silence.with_last_scores(ORGANIZATION_SCORES, gone, first)
    assert later.select("last_score", "last_score_date").row(0) == (50.0, BEFORE)
    there = score_rows(ORGANIZATION_SCORES, {})
    row = silence.with_last_scores(ORGANIZATION_SCORES, there, earlier)
    assert row.select("last_score", "last_score_date").row(0) == (None, None)
