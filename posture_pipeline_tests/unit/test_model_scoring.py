"""Control status and scores: the examples of the method, its truth table and its properties."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from posture_pipeline.model import scoring
from posture_pipeline.model.asff import parse_pages
from posture_pipeline.model.scoring import ScoreContext
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    ORGANIZATION_SCORES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Report

DAY = date(2026, 11, 23)
COLLECTED_AT = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
STANDARD = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
PACK = Report(name="pack", conformance_pack="lz-framework")
ONE, TWO = "111122223333", "444455556666"


def finding(control: str, status: str | None = "PASSED", **more: Any) -> dict[str, Any]:
    """An active finding of the standard."""
    return {
        "account_id": ONE,
        "region": "eu-west-1",
        "record_state": "ACTIVE",
        "workflow_status": "NEW",
        "security_control_id": control,
        "standards": f"standards/{STANDARD.standard}",
        "consolidated": True,
        "resource_id": "bucket",
        "compliance_status": status,
    } | more


def rule(name: str, status: str = "FAILED", **more: Any) -> dict[str, Any]:
    """An active finding of AWS Config."""
    return (
        finding(
            "",
            status,
            security_control_id=None,
            standards=None,
            consolidated=None,
            config_rule_name=name,
            rule_name=name,
        )
        | more
    )


GUARDDUTY = finding(
    "", None, security_control_id=None, standards=None, consolidated=None, product="aws/guardduty"
)


def frame(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    schema = ACCOUNT_FINDINGS.schema
    columns = {
        name: pl.Series(name, [each.get(name) for each in rows], dtype=dtype)
        for name, dtype in schema.items()
    }
    return pl.DataFrame(columns).lazy()


def controls(*ids: str, report: Report = STANDARD, **more: Any) -> pl.DataFrame:
    rows = [{"report": report.name, "control_id": each, "enabled": True, **more} for each in ids]
    return EXPECTED_CONTROLS.read_as(pl.DataFrame(rows)) if rows else EXPECTED_CONTROLS.empty()


def accounts(*ids: str, workload: str = "shop") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "account_id": each,
                "account_name": None,
                "workload": workload,
                "environment": "test",
                "owner": None,
                "workload_source": "tags",
            }
            for each in ids
        ],
        schema=dict.fromkeys(scoring._ACCOUNT_COLUMNS, pl.String),
    )


def statuses(
    rows: list[dict[str, Any]],
    expected: pl.DataFrame,
    report: Report = STANDARD,
    known: pl.DataFrame | None = None,
    **more: Any,
) -> pl.DataFrame:
    known = accounts(ONE) if known is None else known
    return scoring.control_status(frame(rows), expected, report, known, day=DAY, **more)


def status_of(*rows: dict[str, Any], **more: Any) -> str:
    return str(statuses(list(rows), controls("S3.1"), **more)["status"][0])


def score_of(
    rows: list[dict[str, Any]],
    expected: pl.DataFrame,
    report: Report = STANDARD,
    collect: str = "all",
) -> dict[str, Any]:
    """The score of the one account."""
    found = statuses(rows, expected, report, collect=collect)
    context = ScoreContext(DAY, COLLECTED_AT, (report,), collect)
    return scoring.account_scores(found, expected, accounts(ONE), context).row(0, named=True)


# --- the examples that must hold --------------------------------------------------------------


def test_one_failing_resource_of_a_hundred_fails_its_control() -> None:
    rows = [finding(f"C.{i}") for i in range(1, 10)]
    rows += [
        finding("C.0", "FAILED" if i == 0 else "PASSED", resource_id=f"r{i}") for i in range(100)
    ]
    score = score_of(rows, controls(*(f"C.{i}" for i in range(10))))
    assert score["score"] == 90.0
    assert score["resource_score"] == pytest.approx(100 * 108 / 109)


def test_168_passed_of_190_with_data_and_30_without_is_88() -> None:
    rows = [finding(f"C.{i}", "PASSED" if i < 168 else "FAILED") for i in range(190)]
    score = score_of(rows, controls(*(f"C.{i}" for i in range(220))))
    assert score["score"] == pytest.approx(88.42105263)
    assert (score["console_score"], score["no_data"], score["expected"]) == (88, 30, 220)


def test_a_control_with_every_finding_suppressed_has_no_data() -> None:
    rows = [finding("S3.1", "FAILED", workflow_status="SUPPRESSED"), finding("S3.2")]
    score = score_of(rows, controls("S3.1", "S3.2"))
    assert status_of(rows[0]) == "NO_DATA"
    assert (score["score"], score["no_data"], score["suppressed_findings"]) == (100.0, 1, 1)


def test_one_failing_finding_suppressed_and_the_others_passed_is_passed() -> None:
    suppressed = finding("S3.1", "FAILED", workflow_status="SUPPRESSED", resource_id="other")
    assert status_of(suppressed, finding("S3.1")) == "PASSED"


def test_passed_and_warning_is_unknown_and_in_the_denominator() -> None:
    rows = [finding("S3.1"), finding("S3.1", "WARNING"), finding("S3.2")]
    assert status_of(*rows) == "UNKNOWN"
    assert score_of(rows, controls("S3.1", "S3.2"))["score"] == 50.0


def test_a_failed_finding_that_somebody_set_to_resolved_is_failed() -> None:
    assert status_of(finding("S3.1", "FAILED", workflow_status="RESOLVED")) == "FAILED"


def test_an_archived_finding_is_ignored() -> None:
    assert status_of(finding("S3.1", "FAILED", record_state="ARCHIVED")) == "NO_DATA"
    assert (
        status_of(finding("S3.1", "FAILED", record_state="ARCHIVED"), finding("S3.1")) == "PASSED"
    )


def test_a_pack_of_four_rules_with_one_failing_is_75_with_three_assumed() -> None:
    rules = controls("a", "b", "c", "d", report=PACK)
    score = score_of([rule("a")], rules, PACK)
    assert (score["score"], score["assumed"], score["controls_with_data"]) == (75.0, 3, 1)


NOT_APPLICABLE = {
    "compliance_status": "NOT_AVAILABLE",
    "config_compliance_type": "NOT_APPLICABLE",
    "resource_id": "deleted bucket",
}


def test_a_rule_with_three_passed_and_one_not_applicable_passes() -> None:
    rows = [rule("a", "PASSED", resource_id=f"bucket {n}") for n in range(3)]
    score = score_of([*rows, rule("a") | NOT_APPLICABLE], controls("a", report=PACK), PACK)
    assert (score["score"], score["unknown"], score["assumed"]) == (100.0, 0, 0)
    assert (score["findings"], score["passed_resources"], score["failed_resources"]) == (3, 3, 0)


@pytest.mark.parametrize("workflow", ["NEW", "SUPPRESSED"])
def test_a_rule_whose_only_finding_is_not_applicable_is_one_without_findings(workflow: str) -> None:
    only = rule("a", workflow_status=workflow) | NOT_APPLICABLE
    found = statuses([only], controls("a", report=PACK), PACK)
    assert found.select("status", "basis", "suppressed_findings").row(0) == ("PASSED", "assumed", 0)


def test_a_rule_that_could_not_be_evaluated_is_unknown_all_the_same() -> None:
    for kind in ("COMPLIANT", "NON_COMPLIANT", "INSUFFICIENT_DATA", None):
        row = rule("a", "NOT_AVAILABLE", config_compliance_type=kind)
        assert statuses([row], controls("a", report=PACK), PACK)["status"][0] == "UNKNOWN"


OTHER_PACK = Report(name="other", conformance_pack="other")
BOTH_PACKS = (("pack", ("a", "b")), ("other", ("a", "c")))


def copy_of(suffix: str, name: str, status: str = "PASSED", **more: Any) -> dict[str, Any]:
    """A finding of a conformance pack's rule."""
    return rule(name, status, pack_suffix=suffix, resource_id=f"{suffix} {name}", **more)


def of_packs(
    rows: list[dict[str, Any]],
    packs: Any = BOTH_PACKS,
    *,
    listed: dict[str, str] | None = None,
) -> dict[tuple[str, str], tuple[str, int]]:
    """Status and unclear copies of each rule of some packs in the one account."""
    reports = [Report(name=name, conformance_pack=name) for name, _ in packs]
    expected = pl.concat(
        controls(
            *rules,
            report=report,
            report_kind="conformance_pack",
            pack_suffix=(listed or {}).get(report.name),
        )
        for report, (_, rules) in zip(reports, packs, strict=True)
    )
    found = scoring.control_status_of_reports(
        frame(rows), expected, reports, accounts(ONE), day=DAY
    )
    columns = ("report", "control_id", "status", "unclear_copies")
    return {(r, c): (status, unclear) for r, c, status, unclear in found.select(columns).rows()}


def test_a_rule_of_two_packs_fails_in_the_one_whose_copy_fails() -> None:
    rows = [
        copy_of("s1", "a", "FAILED"),
        copy_of("s1", "b"),
        copy_of("s2", "a"),
        copy_of("s2", "c"),
    ]
    found = of_packs(rows)
    assert found["pack", "a"] == ("FAILED", 0)
    assert found["other", "a"] == ("PASSED", 0)
    for packs in (BOTH_PACKS[:1], BOTH_PACKS[1:]):
        assert of_packs(rows, packs).items() <= found.items()


def test_a_copy_that_may_be_of_either_pack_is_of_the_one_without_a_copy() -> None:
    found = of_packs([copy_of("s1", "a", "FAILED"), copy_of("s2", "a"), copy_of("s2", "c")])
    assert (found["pack", "a"], found["other", "a"]) == (("FAILED", 0), ("PASSED", 0))


def test_the_status_of_a_workload_has_every_column_of_that_of_its_accounts() -> None:
    rows = [finding("S3.1", account_id=each) for each in (ONE, TWO)]
    of_accounts = statuses(rows, controls("S3.1"), known=accounts(ONE, TWO)).with_columns(
        unclear_copies=pl.lit(2, pl.Int32)
    )
    of_both = scoring.status_in_scope(of_accounts.lazy(), ["date", "report_kind"]).collect()
    assert {*of_accounts.columns} - {*of_both.columns} == {"account_id"}
    assert of_both["unclear_copies"].to_list() == [4]


def test_where_nothing_tells_whose_copy_it_is_the_worst_counts_and_it_says_so() -> None:
    found = of_packs([copy_of("s1", "a", "FAILED"), copy_of("s2", "a")])
    assert found["pack", "a"] == found["other", "a"] == ("FAILED", 1)


def test_the_audit_accounts_own_list_tells_its_copy() -> None:
    rows = [copy_of("s1", "a", "FAILED"), copy_of("s2", "a")]
    found = of_packs(rows, listed={"other": "s2", "pack": "s1"})
    assert (found["pack", "a"], found["other", "a"]) == (("FAILED", 0), ("PASSED", 0))
    # The same in an account that the list is not of: it says nothing there.
    elsewhere = [copy_of("s3", "a", "FAILED"), copy_of("s4", "a")]
    assert of_packs(elsewhere, listed={"other": "s2"})["other", "a"] == ("FAILED", 1)


def test_a_copy_with_rules_that_the_pack_no_longer_has_still_counts() -> None:
    """Findings of AWS Config outlive their rules, and the only copy there is must not be lost."""
    rows = [copy_of("s1", "a", "FAILED"), copy_of("s1", "old 1"), copy_of("s1", "old 2")]
    assert of_packs(rows, BOTH_PACKS[:1])["pack", "a"] == ("FAILED", 0)


def test_copies_are_told_apart_within_an_account_and_region() -> None:
    there = {"region": "us-east-1"}
    rows = [
        copy_of("s1", "a"),
        copy_of("s1", "b"),
        copy_of("s2", "a", "FAILED", **there),
        copy_of("s2", "b", **there),
    ]
    assert of_packs(rows, BOTH_PACKS[:1])["pack", "a"] == ("FAILED", 0)


@given(st.lists(st.tuples(st.sampled_from("12"), st.sampled_from("abc"), st.booleans())))
def test_no_failure_of_the_rule_that_two_packs_share_is_lost(
    found: list[tuple[str, str, bool]],
) -> None:
    """Whichever copies there are, what fails in one of them fails in one of the packs."""
    rows = [copy_of(f"s{suffix}", name, "PASSED" if ok else "FAILED") for suffix, name, ok in found]
    statuses_of = of_packs(rows)
    fails = any(name == "a" and not ok for _, name, ok in found)
    in_packs = {statuses_of[report, "a"][0] for report in ("pack", "other")}
    assert ("FAILED" in in_packs) == fails


def updated(hours: float, control: str = "S3.1", status: str = "FAILED", **more: Any) -> Any:
    """A control finding that was updated so many hours before the snapshot was complete."""
    times = {"updated_at": COLLECTED_AT - timedelta(hours=hours), "collected_at": COLLECTED_AT}
    return finding(control, status, product="aws/securityhub", **times) | more


FRESH = updated(5, "S3.2", "PASSED")


def test_a_stale_finding_beside_fresh_ones_is_kept_and_not_scored() -> None:
    score = score_of([updated(72), FRESH], controls("S3.1", "S3.2"))
    assert (score["score"], score["no_data"], score["stale_findings"]) == (100.0, 1, 1)
    assert (score["findings"], score["failed_findings"], score["failed_resources"]) == (1, 0, 0)
    both = [updated(72), updated(5, resource_id="other"), FRESH]
    assert score_of(both, controls("S3.1", "S3.2"))["score"] == 50.0


@pytest.mark.parametrize(
    ("row", "others"),
    [
        (updated(36), [FRESH]),
        (updated(72), [FRESH | {"region": "us-east-1"}]),
        (updated(72), [FRESH | {"account_id": TWO}]),
        (updated(72), [FRESH, updated(72, resource_id="b"), updated(72, resource_id="c")]),
        (updated(72) | {"last_observed_at": COLLECTED_AT}, [FRESH]),
        (updated(72) | {"updated_at": None}, [FRESH]),
        (updated(72) | {"product": "prowler/prowler"}, [FRESH]),
        (updated(72), [FRESH | {"product": "aws/config"}]),
        (updated(85 * 24), [FRESH]),
    ],
    ids=[
        "not older than that",
        "the fresh one is in another region",
        "the fresh one is of another account",
        "most are old, so no check runs",
        "it was observed since",
        "nobody knows how old it is",
        "another product need not check daily",
        "only another product is fresh",
        "AWS is about to delete it for its age",
    ],
)
def test_an_old_finding_is_scored_unless_the_checks_beside_it_run(
    row: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    found = statuses([row, *others], controls("S3.1"), known=accounts(ONE, TWO))
    of_row = found.filter(pl.col("account_id") == ONE).row(0, named=True)
    assert (of_row["status"], of_row["stale_findings"]) == ("FAILED", 0)


def test_findings_of_config_are_never_stale() -> None:
    row = rule("a", updated_at=COLLECTED_AT - timedelta(days=80), collected_at=COLLECTED_AT)
    rows = [row | {"product": "aws/config"}, FRESH]
    assert statuses(rows, controls("a", report=PACK), PACK)["status"].to_list() == ["FAILED"]


def test_when_a_finding_is_stale_is_a_setting_and_changes_the_hash_of_standards_alone() -> None:
    for hours, status in ((24, "NO_DATA"), (71, "NO_DATA"), (73, "FAILED"), (None, "FAILED")):
        after = None if hours is None else timedelta(hours=hours)
        report = STANDARD.model_copy(update={"stale_after": after})
        found = statuses([updated(72), FRESH], controls("S3.1", report=report), report)
        assert found["status"].to_list() == [status]
        assert report.score_hash(90) != STANDARD.score_hash(90)
        assert report.definition == STANDARD.definition
    pack = PACK.model_copy(update={"stale_after": None})
    assert pack.score_hash(90) == PACK.score_hash(90)


def test_a_stale_failure_is_not_assumed_to_pass_where_passed_findings_are_not_collected() -> None:
    found = statuses([updated(72), FRESH], controls("S3.1"), collect="failing")
    assert found["status"].to_list() == ["NO_DATA"]


def test_every_resource_of_a_finding_counts_and_the_finding_once() -> None:
    failing = finding("S3.1", "FAILED", more_resource_ids="b 1\nb 2")
    passing = finding("S3.2", more_resource_ids="b 1")
    score = score_of([failing, passing], controls("S3.1", "S3.2"))
    assert (score["findings"], score["failed_findings"]) == (2, 1)
    assert (score["failed_resources"], score["passed_resources"]) == (3, 2)
    assert score["resource_score"] == 40.0


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=4), st.randoms())
def test_resources_count_the_same_in_one_finding_as_in_several(
    groups: list[set[str]], random: Any
) -> None:
    """But for the number of findings."""
    joined, alone = [], []
    for group in groups:
        first, *others = sorted(group)
        status = random.choice(["PASSED", "FAILED", "WARNING"])
        joined.append(
            finding("S3.1", status, resource_id=first)
            | {"more_resource_ids": "\n".join(others) or None}
        )
        alone += [finding("S3.1", status, resource_id=each) for each in group]
    one, other = (
        statuses(rows, controls("S3.1")).select("status", pl.col("^.*_resources$"))
        for rows in (joined, alone)
    )
    assert_frame_equal(one, other)


def test_a_failing_rule_that_is_not_in_the_pack_does_not_change_the_score() -> None:
    rules = controls("a", "b", report=PACK)
    others = [rule(f"other-{i}") for i in range(9)]
    assert score_of([rule("a"), *others], rules, PACK)["score"] == 50.0
    assert score_of(others, rules, PACK)["score"] == 100.0


def test_an_account_with_no_findings_at_all_has_no_score_but_a_reason() -> None:
    for report in (STANDARD, PACK):
        score = score_of([], controls("a", "b", report=report), report)
        assert (score["score"], score["console_score"], score["resource_score"]) == (None,) * 3
        assert score["reason"] == scoring.NO_FINDINGS


def test_findings_without_compliance_are_in_no_control() -> None:
    assert status_of(GUARDDUTY) == "NO_DATA"
    assert score_of([GUARDDUTY, finding("S3.1")], controls("S3.1"))["findings"] == 1


def test_a_control_that_fails_in_one_of_two_regions_is_failed() -> None:
    rows = [finding("S3.1"), finding("S3.1", "FAILED", region="us-east-1")]
    assert status_of(*rows) == "FAILED"
    assert statuses(rows, controls("S3.1"))["regions"].to_list() == [2]


def test_a_finding_that_names_no_region_or_is_suppressed_counts_for_no_region() -> None:
    rows = [
        finding("S3.1"),
        finding("S3.1", region=None),
        finding("S3.1", region="us-east-1", workflow_status="SUPPRESSED"),
    ]
    assert statuses(rows, controls("S3.1"))["regions"].to_list() == [1]
    assert statuses(rows[1:], controls("S3.1"))["regions"].to_list() == [0]


def test_the_rows_come_in_the_order_of_their_key() -> None:
    rows = [finding("b", account_id=TWO), finding("c", account_id=ONE), finding("a")]
    found = statuses(rows, controls("c", "a", "b"), known=accounts(TWO, ONE))
    assert found.select(CONTROL_STATUS.key).rows() == [
        (STANDARD.name, account, control) for account in (ONE, TWO) for control in "abc"
    ]


# --- the truth table ---------------------------------------------------------------------------


def oracle(kinds: tuple[str | None, ...]) -> str:
    if not kinds:
        return "NO_DATA"
    if "FAILED" in kinds:
        return "FAILED"
    return "PASSED" if all(kind == "PASSED" for kind in kinds) else "UNKNOWN"


KINDS = ("PASSED", "FAILED", "WARNING", "NOT_AVAILABLE", "SOMETHING_NEW", None)


def test_the_status_of_every_combination_of_findings() -> None:
    cases = [c for size in range(4) for c in itertools.combinations_with_replacement(KINDS, size)]
    rows = [finding(f"C.{i}", kind) for i, case in enumerate(cases) for kind in case]
    found = statuses(rows, controls(*(f"C.{i}" for i in range(len(cases)))))
    by_control = dict(found.select("control_id", "status").iter_rows())
    assert by_control == {f"C.{i}": oracle(case) for i, case in enumerate(cases)}


@pytest.mark.parametrize("workflow", ["NEW", "NOTIFIED", "RESOLVED", None, "ANYTHING"])
@pytest.mark.parametrize("kind", ["PASSED", "FAILED", "WARNING"])
def test_only_suppressed_changes_what_a_finding_counts(workflow: str | None, kind: str) -> None:
    assert status_of(finding("S3.1", kind, workflow_status=workflow)) == oracle((kind,))


# --- what is expected --------------------------------------------------------------------------


def test_a_disabled_control_counts_only_where_it_has_findings() -> None:
    expected = pl.concat([controls("S3.1"), controls("S3.2", "S3.3", enabled=False)])
    found = statuses([finding("S3.2", "FAILED")], expected)
    assert found["control_id"].to_list() == ["S3.1", "S3.2"]


def test_no_data_of_a_standard_is_never_assumed_to_pass() -> None:
    score = score_of([GUARDDUTY], controls("S3.1"))
    assert (score["score"], score["assumed"]) == (None, 0)


def test_a_rule_is_assumed_to_pass_in_an_account_that_reports_anything() -> None:
    assert score_of([GUARDDUTY], controls("a", report=PACK), PACK)["score"] == 100.0
    archived = GUARDDUTY | {"record_state": "ARCHIVED"}
    assert score_of([archived], controls("a", report=PACK), PACK)["score"] is None


def test_a_rule_with_every_finding_suppressed_is_not_assumed_to_pass() -> None:
    rows = [rule("a", workflow_status="SUPPRESSED"), rule("b", "PASSED")]
    score = score_of(rows, controls("a", "b", report=PACK), PACK)
    assert (score["no_data"], score["assumed"], score["score"]) == (1, 0, 100.0)


def test_collecting_only_what_fails_assumes_that_the_rest_passes_and_says_so() -> None:
    rows = [finding("S3.1", "FAILED"), finding("S3.2", "WARNING")]
    score = score_of(rows, controls("S3.1", "S3.2", "S3.3", "S3.4"), collect="failing")
    assert (score["score"], score["assumed"]) == (50.0, 2)
    assert score["method"] == f"{scoring.METHOD_VERSION}, collect=failing"


def test_a_report_without_controls_has_a_row_with_the_reason() -> None:
    context = ScoreContext(DAY, COLLECTED_AT, (STANDARD,), reporting=frozenset({ONE}))
    none = controls()
    rows = scoring.account_scores(CONTROL_STATUS.empty(), none, accounts(ONE), context)
    assert rows["reason"].to_list() == [scoring.NO_CONTROLS]


def test_a_reason_tells_no_findings_from_no_control_findings() -> None:
    context = ScoreContext(DAY, COLLECTED_AT, (STANDARD,), reporting=frozenset({ONE}))
    found = statuses([GUARDDUTY], controls("S3.1"), known=accounts(ONE, TWO))
    rows = scoring.account_scores(found, controls("S3.1"), accounts(ONE, TWO), context)
    assert rows["reason"].to_list() == [scoring.NO_CONTROL_HAS_DATA, scoring.NO_FINDINGS]


@pytest.mark.parametrize(
    ("passed", "counted", "console"),
    [
        (168, 190, 88),
        (8, 37, 22),
        (6, 41, 15),
        (159, 215, 74),
        (28, 45, 62),
        (1, 8, 13),
        (1, 200, 1),
    ],
)
def test_the_console_score_is_the_nearest_whole_number_half_up(
    passed: int, counted: int, console: int
) -> None:
    counts = pl.DataFrame({"passed": [passed], "failed": [counted - passed], "unknown": [0]})
    assert counts.select(scoring.console_score()).item() == console


def test_failing_findings_are_counted_by_the_severity_of_their_control() -> None:
    expected = pl.concat(
        [
            controls("a", severity="CRITICAL"),
            controls("b", severity="HIGH"),
            controls("c", severity="MEDIUM"),
            controls("d", severity="LOW"),
            controls("e"),
        ],
        how="diagonal",
    )
    score = score_of([finding(each, "FAILED") for each in "abcde"], expected)
    by_severity = [score[f"failed_{each}"] for each in ("critical", "high", "medium", "low")]
    assert by_severity == [1, 1, 1, 2]
    assert score["failed_findings"] == 5


def test_a_resource_with_two_findings_of_a_control_is_one_pair() -> None:
    rows = [
        finding("S3.1", "FAILED", region="us-east-1"),
        finding("S3.1"),
        finding("S3.1", resource_id="other"),
        finding("S3.1", "WARNING", resource_id="third"),
    ]
    score = score_of(rows, controls("S3.1"))
    assert score["resource_score"] == 50.0
    assert (score["passed_resources"], score["failed_resources"]) == (1, 1)


def test_the_control_set_hash_is_of_the_enabled_controls_in_any_order() -> None:
    one = scoring.control_set_hash(controls("a", "b"), STANDARD.name)
    assert one == scoring.control_set_hash(
        pl.concat([controls("b", "a"), controls("c", enabled=False)]), STANDARD.name
    )
    assert one != scoring.control_set_hash(controls("a"), STANDARD.name)


# --- workloads and the organization ------------------------------------------------------------


def all_scores(
    rows: list[dict[str, Any]], expected: pl.DataFrame, known: pl.DataFrame, report: Report
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    found = statuses(rows, expected, report, known)
    context = ScoreContext(DAY, COLLECTED_AT, (report,))
    return (
        scoring.account_scores(found, expected, known, context),
        scoring.workload_scores(found, expected, known, context),
        scoring.organization_scores(found, expected, known, context),
    )


def test_the_tables_have_their_declared_columns() -> None:
    tables = all_scores([finding("S3.1")], controls("S3.1"), accounts(ONE), STANDARD)
    declared = (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)
    for table, each in zip(tables, declared, strict=True):
        assert table.schema == each.schema
        assert table["collected_at"].to_list() == [COLLECTED_AT]
        assert table["settings_hash"].to_list() == [
            ScoreContext(DAY, COLLECTED_AT, (STANDARD,)).settings_hash(STANDARD)
        ]
    found = statuses([finding("S3.1")], controls("S3.1"))
    assert CONTROL_STATUS.read_as(found).schema == CONTROL_STATUS.schema


def test_a_workload_is_the_union_of_its_accounts_and_not_their_mean() -> None:
    rows = [
        finding("a", "FAILED"),
        finding("a", account_id=TWO),
        finding("b"),
        finding("b", "FAILED", account_id=TWO),
        finding("c"),
    ]
    by_account, workload, organization = all_scores(
        rows, controls("a", "b", "c"), accounts(ONE, TWO), STANDARD
    )
    assert by_account["score"].to_list() == [pytest.approx(200 / 3), 50.0]
    for union in (workload, organization):
        assert union["score"].to_list() == [pytest.approx(100 / 3)]
        assert union["accounts"].to_list() == union["accounts_with_data"].to_list() == [2]


def test_a_rule_is_assumed_in_a_workload_only_if_no_account_has_findings_for_it() -> None:
    rows = [rule("a", "PASSED"), rule("b", "PASSED", account_id=TWO)]
    _, workload, _ = all_scores(
        rows, controls("a", "b", "c", report=PACK), accounts(ONE, TWO), PACK
    )
    assert workload.select("score", "assumed", "passed").row(0) == (100.0, 1, 3)


def test_every_account_is_there_once_a_report_even_without_any_finding() -> None:
    by_account, workload, organization = all_scores([], controls("a"), accounts(ONE, TWO), STANDARD)
    assert by_account["account_id"].to_list() == [ONE, TWO]
    for table in (by_account, workload, organization):
        assert table["score"].null_count() == table.height
        assert set(table["reason"]) == {scoring.NO_FINDINGS}


def test_the_organization_has_a_row_without_any_account() -> None:
    tables = all_scores([finding("a")], controls("a"), accounts(), STANDARD)
    assert [table.height for table in tables] == [0, 0, 1]


def test_findings_of_accounts_that_are_not_scored_change_nothing() -> None:
    rows = [finding("a"), finding("a", "FAILED", account_id=TWO)]
    assert all_scores(rows, controls("a"), accounts(ONE), STANDARD)[2]["score"].to_list() == [100.0]


def test_scoring_all_reports_at_once_is_the_same_as_one_by_one() -> None:
    rows = [finding("a", "FAILED"), rule("x"), GUARDDUTY | {"account_id": TWO}]
    expected = pl.concat([controls("a"), controls("x", "y", report=PACK)])
    known = accounts(ONE, TWO)
    together = scoring.control_status_of_reports(
        frame(rows), expected, (STANDARD, PACK), known, day=DAY
    )
    alone = [statuses(rows, expected, report, known) for report in (STANDARD, PACK)]
    assert together.equals(pl.concat(alone))


def test_the_filter_of_a_report_may_ask_for_what_decides_no_status() -> None:
    rows = [finding("a", title="kept"), finding("a", "FAILED", title="left out", resource_id="r2")]
    title = {"Title": [{"Value": "kept", "Comparison": "EQUALS"}]}
    only_kept = Report(name="kept", standard=STANDARD.standard, filter=title)
    expected = pl.concat([controls("a"), controls("a", report=only_kept)])
    found = scoring.control_status_of_reports(
        frame(rows), expected, (STANDARD, only_kept), accounts(ONE), day=DAY
    )
    assert found.select("report", "status").rows() == [("fsbp", "FAILED"), ("kept", "PASSED")]


# --- properties --------------------------------------------------------------------------------

CONTROLS = ("a", "b", "c", "d")
ROWS = st.lists(
    st.builds(
        lambda control, kind, account, workflow, state, resource: finding(
            control,
            kind,
            account_id=account,
            workflow_status=workflow,
            record_state=state,
            resource_id=resource,
        ),
        st.sampled_from((*CONTROLS, "not-expected")),
        st.sampled_from(KINDS),
        st.sampled_from((ONE, TWO)),
        st.sampled_from(("NEW", "RESOLVED", "SUPPRESSED")),
        st.sampled_from(("ACTIVE", "ACTIVE", "ARCHIVED")),
        st.sampled_from(("r1", "r2")),
    ),
    max_size=12,
)


@given(ROWS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_scores_stay_within_bounds_and_the_workload_is_the_union(
    rows: list[dict[str, Any]], of_pack: bool
) -> None:
    report = PACK if of_pack else STANDARD
    if of_pack:
        rows = [
            each
            | {
                "config_rule_name": each["security_control_id"],
                "rule_name": each["security_control_id"],
            }
            for each in rows
        ]
    by_account, workload, organization = all_scores(
        rows, controls(*CONTROLS, report=report), accounts(ONE, TWO), report
    )
    for table in (by_account, workload, organization):
        for row in table.iter_rows(named=True):
            counted = row["passed"] + row["failed"] + row["unknown"]
            assert counted + row["no_data"] == row["expected"] == len(CONTROLS)
            assert (row["score"] is None) == (counted == 0) == (row["reason"] is not None)
            for name in ("score", "console_score", "resource_score"):
                assert row[name] is None or 0 <= row[name] <= 100
            assert row["assumed"] <= row["passed"]
    failing = {
        each["security_control_id"]
        for each in rows
        if each["compliance_status"] == "FAILED"
        and each["record_state"] == "ACTIVE"
        and each["workflow_status"] != "SUPPRESSED"
    }
    assert workload["failed"].to_list() == [len(failing & set(CONTROLS))]
    assert organization["failed"].to_list() == workload["failed"].to_list()


PLACES = st.tuples(st.sampled_from(("shop", "bank", "depot")), st.sampled_from(("test", "live")))


@given(st.lists(PLACES, max_size=9), st.integers(1, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_how_many_accounts_are_scored_together_changes_no_workload(
    places: list[tuple[str, str]], together: int, data: st.DataObject
) -> None:
    ids = [f"{number:012d}" for number in range(len(places))]
    known = accounts(*ids).with_columns(
        workload=pl.Series([workload for workload, _ in places], dtype=pl.String),
        environment=pl.Series([environment for _, environment in places], dtype=pl.String),
    )
    rows = [
        finding(control, data.draw(st.sampled_from(KINDS)), account_id=account)
        for account in ids
        for control in CONTROLS
    ]
    expected = controls(*CONTROLS, report=STANDARD)
    _, whole, _ = all_scores(rows, expected, known, STANDARD)
    assert set(whole.select("workload", "environment").rows()) == set(places)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "ACCOUNTS_AT_ONCE", together)
        _, parts, _ = all_scores(rows, expected, known, STANDARD)
    assert_frame_equal(parts, whole)


def asff(row: dict[str, Any], number: int, *, consolidated: bool) -> dict[str, Any]:
    """A finding as AWS sends it, consolidated or per standard."""
    control = row["security_control_id"]
    generator = "security-control" if consolidated else STANDARD.standard
    return {
        "Id": f"{number}",
        "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/securityhub",
        "AwsAccountId": row["account_id"],
        "GeneratorId": f"{generator}/{control}",
        "Compliance": {"Status": row["compliance_status"]}
        | (
            {
                "SecurityControlId": control,
                "AssociatedStandards": [{"StandardsId": row["standards"]}],
            }
            if consolidated
            else {}
        ),
        "Workflow": {"Status": row["workflow_status"]},
        "RecordState": row["record_state"],
        "Resources": [{"Id": row["resource_id"]}],
    }


def scores_of_pages(records: list[dict[str, Any]], page_size: int) -> list[dict[str, Any]]:
    pages = [
        json.dumps({"Findings": records[start : start + page_size]}).encode()
        for start in range(0, len(records), page_size)
    ]
    parsed = [
        parse_pages([(number, page)], day=DAY, shard="0").findings
        for number, page in enumerate(pages)
    ]
    findings = pl.concat([ACCOUNT_FINDINGS.empty(), *parsed]).unique(["product_arn", "finding_id"])
    expected, known = controls(*CONTROLS), accounts(ONE, TWO)
    status = scoring.control_status(findings.lazy(), expected, STANDARD, known, day=DAY)
    context = ScoreContext(DAY, COLLECTED_AT, (STANDARD,))
    return scoring.account_scores(status, expected, known, context).to_dicts()


@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_order_page_size_and_duplicates_do_not_change_a_score(
    rows: list[dict[str, Any]], random: Any, page_size: int
) -> None:
    records = [asff(row, number, consolidated=True) for number, row in enumerate(rows)]
    shuffled = records + records[:3]
    random.shuffle(shuffled)
    assert scores_of_pages(shuffled, page_size) == scores_of_pages(records, 100)


@given(ROWS)
@settings(max_examples=25, deadline=None)
def test_consolidated_and_per_standard_findings_give_the_same_score(
    rows: list[dict[str, Any]],
) -> None:
    new = [asff(row, number, consolidated=True) for number, row in enumerate(rows)]
    old = [asff(row, number + 100, consolidated=False) for number, row in enumerate(rows)]
    assert scores_of_pages(new, 100) == scores_of_pages(old, 100)


def test_while_aws_switches_both_kinds_give_the_same_score_as_one() -> None:
    rows = [finding("a", "FAILED"), finding("b"), finding("c", account_id=TWO)]
    new = [asff(row, number, consolidated=True) for number, row in enumerate(rows)]
    old = [asff(row, number + 100, consolidated=False) for number, row in enumerate(rows)]
    assert scores_of_pages(new + old, 100) == scores_of_pages(new, 100)


# --- carried failures in a score --------------------------------------------------------------


def carried_failure(control: str, resource: str) -> pl.DataFrame:
    row = {"report": "fsbp", "account_id": ONE, "control_id": control, "resource_id": resource}
    return pl.DataFrame([row], schema=CARRIED_FAILURES.schema)


def test_controls_that_fail_for_nothing_but_carried_failures_are_counted() -> None:
    rows = [finding("A", "FAILED"), finding("B"), finding("C"), finding("D", "WARNING")]
    carried = pl.concat(
        [carried_failure(each, "gone") for each in ("A", "C", "D", "E")]
        + [carried_failure("E", "gone too")]
    )
    found = statuses(rows, controls(*"ABCDE"), carried=carried)
    shown = found.sort("control_id").select("status", "basis", "carried_findings").rows()
    assert shown == [
        ("FAILED", "findings", 1),
        ("PASSED", "findings", 0),
        ("FAILED", "findings", 1),
        ("FAILED", "findings", 1),
        ("FAILED", "carried", 2),
    ]
    context = ScoreContext(DAY, COLLECTED_AT, (STANDARD,))
    (score,) = scoring.account_scores(found, controls(*"ABCDE"), accounts(ONE), context).to_dicts()
    # A fails by a finding of its own too.
    assert (score["carried"], score["carried_findings"]) == (3, 5)
    assert (score["passed"], score["failed"], score["score"]) == (1, 4, 20.0)
