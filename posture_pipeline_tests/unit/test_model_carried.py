"""Failures whose finding AWS deleted, and how long they are carried forward."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from posture_pipeline.model import causes as why
from posture_pipeline.model.carried import carried_forward, carried_problems, with_account_causes
from posture_pipeline.model.causes import CARRIED, PROBLEM
from posture_pipeline.model.scoring import control_status
from posture_pipeline.schemas import ACCOUNT_FINDINGS, CARRIED_FAILURES, EXPECTED_CONTROLS
from posture_pipeline.settings import Report

BEFORE, DAY = date(2026, 3, 1), date(2026, 3, 2)
ACCOUNT = "111122223333"
PACK = Report(name="pack", conformance_pack="lz")
SEEN = datetime(2025, 12, 1, tzinfo=UTC)


def key(resource: str = "bucket", control: str = "lz-s3") -> dict[str, str]:
    return dict(zip(PROBLEM, ("pack", ACCOUNT, "eu-west-1", control, resource), strict=True))


def caused(cause: str, was: str, now: str, **where: str) -> dict[str, Any]:
    row = {**key(**where), "cause": cause, "status_before": was, "status_after": now}
    return {**dict.fromkeys(why.CAUSE_SCHEMA), **row}


def frame(schema: pl.Schema, *rows: dict[str, Any]) -> pl.DataFrame:
    full = [{name: row.get(name) for name in schema} for row in rows]
    return pl.DataFrame(full, schema=schema)


def failing(**where: str) -> pl.DataFrame:
    row = {**key(**where), "state": "FAILED", "finding_id": "f1", "updated_at": SEEN}
    return frame(why.PROBLEM_SCHEMA, row)


def carried_since(since: date, **where: str) -> pl.DataFrame:
    row = {**key(**where), "carried_since": since, "finding_id": "f1", "updated_at": SEEN}
    return frame(CARRIED_FAILURES.schema, row)


def forward(
    *causes: dict[str, Any],
    bad: pl.DataFrame | None = None,
    carried: pl.DataFrame | None = None,
    carry_days: int = 90,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return carried_forward(
        frame(why.CAUSE_SCHEMA, *causes),
        failing() if bad is None else bad,
        CARRIED_FAILURES.empty() if carried is None else carried,
        before=BEFORE,
        day=DAY,
        carry_days=carry_days,
    )


def test_a_failure_that_aged_out_is_carried_from_that_day_on() -> None:
    changes, carried = forward(caused("aged_out", "FAILED", "ABSENT"))
    assert carried.select("carried_since", "finding_id", "updated_at").row(0) == (DAY, "f1", SEEN)
    told = changes.select("status_before", "status_after", "cause", "date", "compared_with")
    assert told.rows() == [("FAILED", CARRIED, "aged_out", DAY, BEFORE)]


@pytest.mark.parametrize("cause", ["resource_gone", "archived", "no_evidence", "account_left"])
def test_a_failure_that_vanished_otherwise_is_not_carried(cause: str) -> None:
    changes, carried = forward(caused(cause, "FAILED", "ABSENT"))
    assert carried.is_empty()
    assert changes["status_after"].to_list() == ["ABSENT"]


def test_a_passing_or_suppressed_finding_that_aged_out_is_not_carried() -> None:
    for was in ("PASSED", "SUPPRESSED", "UNKNOWN"):
        _, carried = forward(caused("aged_out", was, "ABSENT"))
        assert carried.is_empty()


def test_what_nothing_is_known_of_stays_carried_and_is_no_change() -> None:
    for cause in ("carried_too_long", "account_silent"):
        changes, carried = forward(
            caused(cause, CARRIED, "ABSENT"), carried=carried_since(date(2026, 2, 1))
        )
        assert carried["carried_since"].to_list() == [date(2026, 2, 1)]
        assert carried["date"].to_list() == [DAY]
        assert changes.is_empty()


def test_after_the_days_of_the_settings_it_is_carried_no_longer_and_that_is_said() -> None:
    since = date(2026, 2, 20)  # ten days before the day
    gone = caused("carried_too_long", CARRIED, "ABSENT")
    changes, carried = forward(gone, carried=carried_since(since), carry_days=11)
    assert carried.height == 1
    assert changes.is_empty()
    changes, carried = forward(gone, carried=carried_since(since), carry_days=10)
    assert carried.is_empty()
    assert changes.select("cause", "status_after").rows() == [("carried_too_long", "ABSENT")]


@pytest.mark.parametrize(
    ("cause", "now"),
    [
        ("fixed", "PASSED"),
        ("found_again", "FAILED"),
        ("suppressed", "SUPPRESSED"),
        ("resource_gone", "ABSENT"),
        ("control_removed", "ABSENT"),
        ("account_left", "ABSENT"),
    ],
)
def test_evidence_ends_it(cause: str, now: str) -> None:
    changes, carried = forward(caused(cause, CARRIED, now), carried=carried_since(date(2026, 2, 1)))
    assert carried.is_empty()
    assert changes.select("cause", "status_before", "status_after").rows() == [
        (cause, CARRIED, now)
    ]


def test_with_no_days_nothing_is_carried() -> None:
    changes, carried = forward(caused("aged_out", "FAILED", "ABSENT"), carry_days=0)
    assert carried.is_empty()
    assert changes["status_after"].to_list() == ["ABSENT"]


def test_with_one_day_a_failure_is_carried_on_the_first_day_without_its_finding() -> None:
    changes, carried = forward(caused("aged_out", "FAILED", "ABSENT"), carry_days=1)
    assert carried["carried_since"].to_list() == [DAY]
    assert changes["status_after"].to_list() == ["CARRIED"]


def test_changes_between_passing_and_absent_are_left_out() -> None:
    changes, _ = forward(
        caused("new_passing_resource", "ABSENT", "PASSED"),
        caused("resource_gone", "PASSED", "ABSENT", resource="other"),
        caused("regression", "PASSED", "FAILED", resource="third"),
    )
    assert changes["resource_id"].to_list() == ["third"]


def test_the_whole_account_goes_before_the_finding() -> None:
    causes = frame(why.CAUSE_SCHEMA, caused("no_evidence", "FAILED", "ABSENT"))
    flags = ("scored_before", "scored_after", "sends_before", "sends_after")
    for values, cause in (
        ((True, True, True, True), "no_evidence"),
        ((True, True, True, False), "account_silent"),
        ((True, True, False, True), "account_back"),
        ((True, False, True, True), "account_left"),
        ((False, True, False, True), "account_joined"),
    ):
        account = pl.DataFrame({"account_id": [ACCOUNT], **dict(zip(flags, values, strict=True))})
        told = with_account_causes(causes, account)
        assert told["cause"].to_list() == [cause]
        assert told.schema == why.CAUSE_SCHEMA
    # Of an account that nothing is known of the finding has to tell.
    assert with_account_causes(causes, account.clear())["cause"].to_list() == ["no_evidence"]


# --- how it counts ----------------------------------------------------------------------------


def finding(rule: str, resource: str, status: str) -> dict[str, Any]:
    return {
        "account_id": ACCOUNT,
        "region": "eu-west-1",
        "product": "aws/config",
        "config_rule_name": rule,
        "rule_name": rule,
        "resource_id": resource,
        "compliance_status": status,
        "record_state": "ACTIVE",
    }


def status_of(carried: pl.DataFrame, *findings: dict[str, Any]) -> dict[str, Any]:
    expected = EXPECTED_CONTROLS.read_as(
        pl.DataFrame({"report": ["pack"], "control_id": ["lz-s3"], "enabled": [True]})
    )
    rows = control_status(
        ACCOUNT_FINDINGS.read_as(pl.DataFrame(findings)).lazy(),
        expected,
        PACK,
        pl.DataFrame({"account_id": [ACCOUNT]}),
        day=DAY,
        carried=carried,
    )
    return rows.row(0, named=True)


def test_a_carried_failure_fails_its_control_and_is_counted_apart() -> None:
    row = status_of(carried_since(BEFORE), finding("other", "x", "PASSED"))
    assert (row["status"], row["basis"]) == ("FAILED", "carried")
    assert (row["failed_findings"], row["carried_findings"], row["failed_resources"]) == (0, 1, 1)


def test_beside_findings_the_basis_is_the_findings() -> None:
    row = status_of(carried_since(BEFORE), finding("lz-s3", "x", "PASSED"))
    assert (row["status"], row["basis"]) == ("FAILED", "findings")
    assert (row["passed_resources"], row["failed_resources"]) == (1, 1)


def test_without_it_the_rule_would_count_as_passed() -> None:
    row = status_of(CARRIED_FAILURES.empty(), finding("other", "x", "PASSED"))
    assert (row["status"], row["basis"]) == ("PASSED", "assumed")


def test_a_carried_failure_of_another_control_changes_nothing() -> None:
    row = status_of(carried_since(BEFORE, control="lz-s30"), finding("lz-s3", "x", "PASSED"))
    assert (row["status"], row["carried_findings"]) == ("PASSED", 0)


def test_carried_failures_are_problems_with_a_state_of_their_own() -> None:
    problems = carried_problems(carried_since(BEFORE))
    assert problems.schema == why.PROBLEM_SCHEMA
    assert problems.select("state", "finding_id", "updated_at").row(0) == (CARRIED, "f1", SEEN)
