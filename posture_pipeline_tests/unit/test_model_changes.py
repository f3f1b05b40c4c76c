"""The split of a change, the causes of each control, and the verdict on what somebody claims."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture_pipeline.model import causes as why
from posture_pipeline.model.causes import (
    ABSENT,
    ARCHIVED_SCHEMA,
    CAUSES,
    PROBLEM,
    Day,
    Evidence,
    account_causes,
    changed_pairs,
    control_causes,
    controls_there,
    finding_causes,
    problems,
    transitions,
)
from posture_pipeline.model.changes import (
    SCOPES,
    TOLERANCE,
    compared_scores,
    control_parts,
    judge,
    like_for_like,
    parts_that_do_not_add_up,
    score_changes,
)
from posture_pipeline.model.controls import findings_of_report, is_evidence
from posture_pipeline.model.scoring import (
    METHOD_VERSION,
    ScoreContext,
    account_scores,
    control_status,
    organization_scores,
    reporting_accounts,
    workload_scores,
)
from posture_pipeline.schemas import ACCOUNT_FINDINGS, EXPECTED_CONTROLS
from posture_pipeline.settings import Report

BEFORE = date(2026, 11, 22)
AFTER = date(2026, 11, 23)
STANDARD = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
PACK = Report(name="pack", conformance_pack="lz-framework")
ONE, TWO = "111122223333", "444455556666"
HOME = "eu-west-1"
PLACES = {ONE: ("payments", "production"), TWO: ("payments", "production")}


# --- small days -------------------------------------------------------------------------------


def finding(control: str, status: str = "PASSED", **more: Any) -> dict[str, Any]:
    """An active finding of the standard."""
    row = {
        "account_id": ONE,
        "region": HOME,
        "record_state": "ACTIVE",
        "workflow_status": "NEW",
        "product": "aws/securityhub",
        "security_control_id": control,
        "standards": f"standards/{STANDARD.standard}",
        "consolidated": True,
        "resource_id": "bucket",
        "compliance_status": status,
        "created_at": datetime(2026, 1, 5, tzinfo=UTC),
        "updated_at": datetime(2026, 11, 22, tzinfo=UTC),
        "first_observed_at": datetime(2026, 11, 20, tzinfo=UTC),
    } | more
    return row | {
        "finding_id": more.get(
            "finding_id", f"{row['account_id']}/{control}/{row['region']}/{row['resource_id']}"
        )
    }


def rule(name: str, status: str = "FAILED", **more: Any) -> dict[str, Any]:
    """An active finding of AWS Config."""
    return finding(
        name,
        status,
        **{
            "security_control_id": None,
            "standards": None,
            "consolidated": None,
            "product": "aws/config",
            "config_rule_name": name,
            "rule_name": name,
        }
        | more,
    )


OTHER = [finding("Other.1", resource_id="elsewhere"), finding("Other.2", account_id=TWO)]
"""What keeps both accounts reporting."""


def day_of(
    when: date,
    findings: list[dict[str, Any]],
    *,
    controls: tuple[str, ...] = ("S3.1", "S3.5", "Other.1", "Other.2"),
    places: dict[str, tuple[str, str]] = PLACES,
    report: Report = STANDARD,
    **context: Any,
) -> tuple[Day, pl.LazyFrame]:
    """A day scored from its findings, and the findings."""
    lazy = ACCOUNT_FINDINGS.read_as(pl.DataFrame(findings, infer_schema_length=None)).lazy()
    expected = EXPECTED_CONTROLS.read_as(
        pl.DataFrame(
            {
                "date": [when] * len(controls),
                "report": [report.name] * len(controls),
                "report_kind": [report.kind] * len(controls),
                "control_id": list(controls),
                "enabled": [True] * len(controls),
            }
        )
    )
    accounts = pl.DataFrame(
        {
            "account_id": list(places),
            "account_name": [f"name of {each}" for each in places],
            "workload": [place[0] for place in places.values()],
            "environment": [place[1] for place in places.values()],
            "owner": [None] * len(places),
            "workload_source": ["name"] * len(places),
        },
        schema_overrides={"owner": pl.String},
    )
    collect = context.pop("collect", "all")
    scoring = ScoreContext(
        day=when,
        collected_at=datetime(2026, 11, 23, 6, tzinfo=UTC),
        reports=(report,),
        collect=collect,
        reporting=frozenset(reporting_accounts(lazy).collect()["account_id"]),
    )
    status = control_status(lazy, expected, report, accounts, day=when, collect=collect)
    tables = [
        make(status, expected, accounts, scoring).with_columns(
            **{name: pl.lit(value) for name, value in context.items()}
        )
        for make in (account_scores, workload_scores, organization_scores)
    ]
    there = controls_there(expected, status.lazy())
    return Day(when, status, tables[0], expected, there, tables[1], tables[2]), lazy


def compared(
    before: tuple[Day, pl.LazyFrame],
    after: tuple[Day, pl.LazyFrame],
    report: Report = STANDARD,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """score_changes and score_change_causes of two days, from all of their findings."""
    states, here, resources = [], [], []
    for day, findings in (before, after):
        rows = findings_of_report(findings, report, day.expected)
        states.append(problems(rows, report.name).collect())
        active = why.named(findings.filter(pl.col("record_state") == "ACTIVE"))
        here.append(active.select("account_id", "region").unique().collect())
        keys = ["account_id", "region", "resource_id"]
        resources.append(active.group_by(keys).agg(findings=pl.len()).collect())
    pairs = changed_pairs(before[0], after[0])
    to_read = pairs.filter(pl.col("account_cause").is_null())
    changed = transitions(
        *(each.join(to_read, on=why.PAIR, how="semi").select(states[0].columns) for each in states)
    )
    archived = findings_of_report(
        after[1].filter(pl.col("record_state") == "ARCHIVED"), report, before[0].expected
    ).with_columns(report=pl.lit(report.name))
    broken = archived.filter(why.is_lost_evidence())
    gone = why.deleted_resources(why.named(after[1].filter(pl.col("record_state") == "ARCHIVED")))
    evidence = Evidence(
        archived=archived.select(ARCHIVED_SCHEMA.names()).collect(),
        deleted_resources=gone.select("account_id", "region", "resource_id").unique().collect(),
        regions_before=here[0],
        regions_after=here[1],
        resources_before=resources[0],
        resources_after=resources[1],
        broken_rules=broken.select(why.CHECK).unique().collect(),
        not_applicable=why.named(after[1].filter(~is_evidence()))
        .select(
            "account_id",
            "region",
            "resource_id",
            report=pl.lit(report.name),
            control_id="rule_name",
        )
        .collect(),
    )
    found = finding_causes(changed, evidence, before[0], after[0])
    causes = pl.concat(
        [
            found,
            account_causes(pairs, *states),
            control_causes(pairs, found, before[0], after[0]),
        ]
    )
    by_day = {"before": states[0], "after": states[1]}
    changes, reasons = score_changes(before[0], after[0], causes, by_day)
    assert parts_that_do_not_add_up(changes, before[0], after[0]).is_empty()
    assert set(reasons["cause"]) <= set(CAUSES)
    return changes, reasons


def causes_of(
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    *,
    control: str = "S3.1",
    report: Report = STANDARD,
    controls: tuple[str, ...] = ("S3.1", "S3.5", "Other.1", "Other.2"),
) -> list[tuple[str, str | None]]:
    """The causes of a control in the first account, each with its resource."""
    first = day_of(BEFORE, [*before, *OTHER], report=report, controls=controls)
    second = day_of(AFTER, [*after, *OTHER], report=report, controls=controls)
    _, reasons = compared(first, second, report)
    rows = reasons.filter(
        pl.col("scope") == "account", pl.col("account_id") == ONE, pl.col("control_id") == control
    )
    return list(rows.select("cause", "resource_id").iter_rows())


# --- the split --------------------------------------------------------------------------------

STATUSES = st.sampled_from(["PASSED", "FAILED", "UNKNOWN", "NO_DATA", None])


def _score(statuses: list[str | None]) -> float | None:
    counted = [each for each in statuses if each in ("PASSED", "FAILED", "UNKNOWN")]
    return 100 * counted.count("PASSED") / len(counted) if counted else None


def _frame(statuses: list[str | None]) -> pl.DataFrame:
    rows = [("r", f"C.{n}", status) for n, status in enumerate(statuses) if status is not None]
    return pl.DataFrame(rows, schema=["report", "control_id", "status"], orient="row").cast(
        pl.String
    )


@given(st.lists(st.tuples(STATUSES, STATUSES), min_size=1, max_size=60))
def test_the_parts_add_up_to_the_change_for_any_two_sets_of_statuses(
    statuses: list[tuple[str | None, str | None]],
) -> None:
    first, second = ([each[n] for each in statuses] for n in (0, 1))
    parts = control_parts(_frame(first), _frame(second), [])
    before, after = _score(first), _score(second)
    if before is None or after is None:
        assert parts["part"].null_count() == parts.height
        return
    assert parts["part"].null_count() == 0
    assert parts["part"].sum() == pytest.approx(after - before, abs=1e-9)
    unchanged = parts.filter(pl.col("status_before") == pl.col("status_after"))
    assert set(unchanged["part"]) <= {0.0}


@given(st.lists(st.tuples(STATUSES, STATUSES), min_size=1, max_size=20), st.randoms())
def test_the_split_does_not_depend_on_the_order_of_the_controls(
    statuses: list[tuple[str | None, str | None]], random: Any
) -> None:
    first, second = (_frame([each[n] for each in statuses]) for n in (0, 1))
    plain = control_parts(first, second, []).sort("control_id")
    shuffled = control_parts(
        first.sample(fraction=1, shuffle=True, seed=random.randrange(100)), second.reverse(), []
    ).sort("control_id")
    for one, other in zip(plain["part"], shuffled["part"], strict=True):
        assert one == other or one == pytest.approx(other, abs=1e-12)


def test_scopes_are_split_apart_from_each_other() -> None:
    before = pl.DataFrame(
        {
            "account_id": ["a", "a", "b"],
            "report": ["r"] * 3,
            "control_id": ["X", "Y", "X"],
            "status": ["PASSED", "PASSED", "FAILED"],
        }
    )
    after = before.with_columns(status=pl.Series(["FAILED", "PASSED", "PASSED"]))
    parts = control_parts(before, after, ["account_id"]).sort("account_id", "control_id")
    assert parts["part"].to_list() == [-50.0, 0.0, 100.0]


# --- causes from findings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (finding("S3.1"), finding("S3.1", "FAILED"), "regression"),
        (finding("S3.1", "FAILED"), finding("S3.1"), "fixed"),
        (finding("S3.1"), finding("S3.1", "WARNING"), "could_not_be_evaluated"),
        (finding("S3.1", "WARNING"), finding("S3.1"), "evaluated_again"),
        (finding("S3.1", "NOT_AVAILABLE"), finding("S3.1", "FAILED"), "evaluated_again"),
        (
            finding("S3.1", "FAILED"),
            finding("S3.1", "FAILED", workflow_status="SUPPRESSED"),
            "suppressed",
        ),
        (
            finding("S3.1", "FAILED", workflow_status="SUPPRESSED"),
            finding("S3.1", "FAILED"),
            "unsuppressed",
        ),
        (finding("S3.1", "FAILED", workflow_status="SUPPRESSED"), finding("S3.1"), "fixed"),
        (finding("S3.1", workflow_status="SUPPRESSED"), finding("S3.1"), "unsuppressed"),
        (None, finding("S3.1", "FAILED"), "new_failing_resource"),
        (None, finding("S3.1"), "new_passing_resource"),
        (None, finding("S3.1", "WARNING"), "could_not_be_evaluated"),
    ],
)
def test_what_the_findings_of_both_days_say(
    before: dict[str, Any] | None, after: dict[str, Any], cause: str
) -> None:
    assert causes_of([before] if before else [], [after]) == [(cause, "bucket")]


@pytest.mark.parametrize(
    ("status", "before", "after", "cause"),
    [
        ("FAILED", "NEW", "SUPPRESSED", "suppressed"),
        ("FAILED", "SUPPRESSED", "NEW", "unsuppressed"),
        ("WARNING", "NEW", "SUPPRESSED", "suppressed"),
        ("WARNING", "SUPPRESSED", "NEW", "unsuppressed"),
    ],
)
def test_suppressing_one_of_two_findings_of_a_resource_fixes_nothing(
    status: str, before: str, after: str, cause: str
) -> None:
    passes = finding("S3.1", finding_id="second")
    first, second = (
        [passes, finding("S3.1", status, workflow_status=each, note_text="ok")]
        for each in (before, after)
    )
    assert causes_of(first, second) == [(cause, "bucket")]


def test_a_repair_is_a_repair_whatever_is_suppressed_beside_it() -> None:
    hidden = finding("S3.1", "FAILED", finding_id="second", workflow_status="SUPPRESSED")
    for before, after, cause in (("FAILED", "PASSED", "fixed"), ("PASSED", "FAILED", "regression")):
        first, second = ([hidden, finding("S3.1", each)] for each in (before, after))
        assert causes_of(first, second) == [(cause, "bucket")]


def hub_causes(
    before: str, *, since: date | None, control: str = "Config.1", day: date = AFTER
) -> list[tuple[str, str | None]]:
    """Cause and detail of a control that passes after an earlier day, beside the unified hub."""
    found = [
        day_of(when, [finding(control, status), *OTHER], controls=(control, "Other.1", "Other.2"))
        for when, status in ((BEFORE - (AFTER - day), before), (day, "PASSED"))
    ]
    days = [
        (Day(**{**_fields(each), "unified_hub_since": since}), findings) for each, findings in found
    ]
    _, reasons = compared(days[0], days[1])
    rows = reasons.filter(pl.col("scope") == "account", pl.col("control_id") == control)
    return list(rows.select("cause", "detail").iter_rows())


@pytest.mark.parametrize("before", ["FAILED", "WARNING"])
def test_a_control_that_aws_always_passes_beside_the_unified_hub_was_not_fixed(before: str) -> None:
    detail = "the unified Security Hub is enabled since 2026-11-23"
    assert hub_causes(before, since=AFTER) == [("always_passed", detail)]
    assert hub_causes(before, since=date(2026, 1, 9))[0][0] == "always_passed"


def test_without_the_unified_hub_the_control_was_fixed() -> None:
    assert hub_causes("FAILED", since=None) == [("fixed", None)]
    assert hub_causes("FAILED", since=AFTER + timedelta(days=1)) == [("fixed", None)]
    assert hub_causes("FAILED", since=AFTER, control="Config.2") == [("fixed", None)]
    # Before 2026-05-27 the control was checked beside the unified hub too.
    began = date(2026, 5, 27)
    early = date(2026, 1, 9)
    assert hub_causes("FAILED", since=early, day=began)[0][0] == "always_passed"
    assert hub_causes("FAILED", since=early, day=began - timedelta(days=1))[0][0] == "fixed"


def test_a_failing_finding_that_vanished_is_never_fixed_by_default() -> None:
    assert causes_of([finding("S3.1", "FAILED")], []) == [("no_evidence", "bucket")]


def test_a_vanished_finding_whose_last_update_was_90_days_ago_aged_out() -> None:
    for days, cause in ((84, "no_evidence"), (85, "aged_out"), (90, "aged_out")):
        updated = datetime(2026, 11, 23, 6, tzinfo=UTC) - timedelta(days=days)
        old = rule("lz-s3", updated_at=updated)
        found = causes_of([old], [], control="lz-s3", report=PACK, controls=("lz-s3",))
        assert found == [(cause, "bucket")], days


def test_an_archived_finding_says_that_the_resource_is_gone() -> None:
    gone = finding(
        "S3.1", "NOT_AVAILABLE", record_state="ARCHIVED", archival_reasons="RESOURCE_DELETED"
    )
    assert causes_of([finding("S3.1", "FAILED")], [gone]) == [("resource_gone", "bucket")]


def test_archived_for_another_reason_is_no_sign_that_the_resource_is_gone() -> None:
    archived = finding("S3.1", "FAILED", record_state="ARCHIVED", archival_reasons="SOMETHING")
    assert causes_of([finding("S3.1", "FAILED")], [archived]) == [("archived", "bucket")]
    not_applicable = finding("S3.1", "NOT_AVAILABLE", record_state="ARCHIVED")
    still_there = finding("S3.5")
    assert causes_of([finding("S3.1", "FAILED"), still_there], [not_applicable, still_there]) == [
        ("archived", "bucket")
    ]


@pytest.mark.parametrize("code", why.BROKEN_RULE_CODES)
def test_findings_archived_because_the_rule_broke_are_lost_evidence(code: str) -> None:
    """AWS archives the findings, and makes an archived one that says why, of the whole account."""
    archived = finding("S3.1", "FAILED", record_state="ARCHIVED")
    why_archived = finding(
        "S3.1",
        "NOT_AVAILABLE",
        record_state="ARCHIVED",
        reason_codes=code,
        resource_id=f"AWS::::Account:{ONE}",
        finding_id="new",
    )
    of_resource = why_archived | {"resource_id": "bucket"}
    for evidence in (why_archived, of_resource):
        found = causes_of([finding("S3.1", "FAILED")], [archived, evidence])
        assert found == [("rule_broken", "bucket")]
    elsewhere = why_archived | {"region": "us-east-1"}
    assert causes_of([finding("S3.1", "FAILED")], [archived, elsewhere]) == [("archived", "bucket")]
    assert "rule_broken" in why.LOST_EVIDENCE


def test_a_broken_rule_does_not_say_that_its_resource_was_deleted() -> None:
    broken = finding("S3.1", "NOT_AVAILABLE", record_state="ARCHIVED")
    for codes, deleted in (
        ("CONFIG_ACCESS_DENIED", 0),
        ("X CONFIG_RULE_EVALUATION_ERROR", 0),
        (None, 1),
        ("CONFIG_RETURNS_NOT_APPLICABLE", 1),
    ):
        row = ACCOUNT_FINDINGS.read_as(pl.DataFrame([broken | {"reason_codes": codes}])).lazy()
        assert why.deleted_resources(row).collect().height == deleted, codes


def test_a_rule_that_no_longer_applies_to_the_resource_is_a_remedy_of_its_own() -> None:
    not_applicable = rule("lz-s3", "NOT_AVAILABLE", config_compliance_type="NOT_APPLICABLE")
    found = causes_of(
        [rule("lz-s3")], [not_applicable], control="lz-s3", report=PACK, controls=("lz-s3",)
    )
    assert found == [("not_applicable", "bucket")]
    assert "not_applicable" not in why.LOST_EVIDENCE


def test_a_resource_whose_findings_are_all_gone_is_gone() -> None:
    both = [finding("S3.1", "FAILED"), finding("S3.5")]
    assert causes_of(both, []) == [("resource_gone", "bucket")]
    assert causes_of(both, [finding("S3.5")]) == [("no_evidence", "bucket")]


def test_the_stand_in_for_no_resources_goes_when_a_resource_comes() -> None:
    stand_in = finding("S3.1", resource_id=f"AWS::::Account:{ONE}")
    found = causes_of([stand_in], [finding("S3.1", "FAILED")])
    assert sorted(found) == [
        ("new_failing_resource", "bucket"),
        ("resource_gone", f"AWS::::Account:{ONE}"),
    ]
    assert causes_of([stand_in], []) == [("no_evidence", f"AWS::::Account:{ONE}")]


@pytest.mark.parametrize(
    ("gone", "came"),
    [
        # It failed, so it was the account's own finding.
        ({"resource_id": f"AWS::::Account:{ONE}", "compliance_status": "FAILED"}, {}),
        # A resource is not gone because another one came.
        ({"resource_id": "other"}, {}),
        # Another region has findings of its own, and another control too.
        ({"resource_id": f"AWS::::Account:{ONE}"}, {"region": "us-east-1"}),
        ({"resource_id": f"AWS::::Account:{ONE}"}, {"security_control_id": "S3.5"}),
    ],
)
def test_only_the_passing_finding_of_the_account_itself_goes_when_a_resource_comes(
    gone: dict[str, Any], came: dict[str, Any]
) -> None:
    before = [finding("S3.1", **gone), finding("S3.1", "FAILED", resource_id="stays")]
    after = [finding("S3.1", resource_id="stays"), finding("S3.1", **came)]
    found = {resource: cause for cause, resource in causes_of(before, after)}
    assert found[gone["resource_id"]] == "no_evidence"


@pytest.mark.parametrize(
    ("status", "reasons", "deleted"),
    [
        ("NOT_AVAILABLE", None, True),
        ("NOT_AVAILABLE", "SOMETHING", True),
        ("FAILED", "RESOURCE_DELETED", True),
        ("FAILED", "SOMETHING", False),
        ("PASSED", None, False),
        ("WARNING", None, False),
    ],
)
def test_an_archived_finding_tells_of_a_deleted_resource_by_reason_or_status(
    status: str, reasons: str | None, deleted: bool
) -> None:
    archived = finding("S3.1", status, record_state="ARCHIVED", archival_reasons=reasons)
    rows = ACCOUNT_FINDINGS.read_as(pl.DataFrame([archived])).lazy()
    assert why.deleted_resources(rows).collect().height == deleted


def test_where_passed_findings_are_not_collected_a_missing_one_proves_nothing() -> None:
    before = [finding("S3.1", "FAILED"), finding("S3.5", "FAILED"), *OTHER]
    days = [
        day_of(when, rows, collect="failing") for when, rows in ((BEFORE, before), (AFTER, OTHER))
    ]
    _, reasons = compared(days[0], days[1])
    assert set(reasons["cause"]) == {"no_evidence"}


def test_the_switch_to_consolidated_findings_is_neither_a_fix_nor_a_new_problem() -> None:
    standard = finding(
        "S3.1",
        "FAILED",
        finding_id="per-standard",
        consolidated=False,
        security_control_id=None,
        standard_control_id="S3.1",
    )
    twin = standard | {
        "record_state": "ARCHIVED",
        "archival_reasons": "CONSOLIDATED_CONTROL_FINDINGS_UPDATE",
    }
    consolidated = finding("S3.1", "FAILED", finding_id="consolidated")
    assert causes_of([standard], [twin, consolidated]) == []
    # Another resource broke on the day of the switch: only that one is a cause.
    passing = standard | {"compliance_status": "PASSED"}
    new = finding("S3.1", "FAILED", finding_id="new", resource_id="other bucket")
    kept = finding("S3.1", finding_id="consolidated")
    assert causes_of([passing], [twin, kept, new]) == [("new_failing_resource", "other bucket")]


def test_suppressions_that_the_switch_loses_are_told() -> None:
    standard = finding(
        "S3.1", "FAILED", finding_id="old", consolidated=False, workflow_status="SUPPRESSED"
    )
    assert causes_of([standard], [finding("S3.1", "FAILED", finding_id="new")]) == [
        ("unsuppressed", "bucket")
    ]


def test_a_region_that_went_silent_is_not_fixed_and_comes_back() -> None:
    there = finding("S3.1", "FAILED", region="us-east-1")
    first = day_of(BEFORE, [there, finding("S3.1"), *OTHER])
    second = day_of(AFTER, [finding("S3.1"), *OTHER])
    _, reasons = compared(first, second)
    assert set(reasons["cause"]) == {"account_silent"}
    assert set(reasons["region"]) == {"us-east-1"}
    back = (Day(**{**_fields(first[0]), "day": AFTER}), first[1])
    silent = (Day(**{**_fields(second[0]), "day": BEFORE}), second[1])
    _, reasons = compared(silent, back)
    assert set(reasons["cause"]) == {"account_back"}


def _fields(day: Day) -> dict[str, Any]:
    return {name: getattr(day, name) for name in Day.__dataclass_fields__}


def test_config_that_tells_of_a_repair_after_the_failure_aged_out_tells_of_a_fix() -> None:
    failing = rule("lz-s3", resource_id="other")
    repaired = rule("lz-s3", "PASSED")
    found = causes_of(
        [failing], [repaired, failing | {"compliance_status": "PASSED"}],
        control="lz-s3", report=PACK, controls=("lz-s3",),
    )  # fmt: skip
    assert sorted(found) == [("fixed", "bucket"), ("fixed", "other")]


def test_a_control_can_have_several_causes_and_the_decisive_ones_come_first() -> None:
    before = [finding("S3.1", resource_id=each) for each in "abc"]
    after = [
        finding("S3.1", "FAILED", resource_id="a"),
        finding("S3.1", "FAILED", resource_id="b"),
        finding("S3.1", "WARNING", resource_id="c"),
        finding("S3.1", "FAILED", resource_id="d"),
    ]
    changes, reasons = compared(day_of(BEFORE, [*before, *OTHER]), day_of(AFTER, [*after, *OTHER]))
    row = changes.filter(pl.col("scope") == "organization").row(0, named=True)
    assert row["causes"] == "regression new_failing_resource"
    assert (row["failing_resources_before"], row["failing_resources_after"]) == (0, 3)
    rows = reasons.filter(pl.col("scope") == "organization")
    assert dict(rows.select("resource_id", "decisive").iter_rows()) == {
        "a": True, "b": True, "c": False, "d": True,
    }  # fmt: skip


def decisive_causes(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> set[tuple[str, str]]:
    _, reasons = compared(day_of(BEFORE, [*before, *OTHER]), day_of(AFTER, [*after, *OTHER]))
    rows = reasons.filter((pl.col("scope") == "organization") & pl.col("decisive"))
    return set(rows.select("cause", "resource_id").iter_rows())


def test_what_failed_decides_before_what_could_not_be_evaluated() -> None:
    """A control that was UNKNOWN got worse by the failure, and got better by its repair."""
    unknown = [finding("S3.1", "WARNING", resource_id="a"), finding("S3.1", resource_id="b")]
    failed = [
        finding("S3.1", resource_id="a"),
        finding("S3.1", "FAILED", resource_id="b"),
        finding("S3.1", "WARNING", resource_id="c"),
    ]
    assert decisive_causes(unknown, failed) == {("regression", "b")}
    assert decisive_causes(failed, unknown) == {("fixed", "b")}


def test_what_decides_shows_the_status_that_the_control_went_to() -> None:
    """UNKNOWN is worse than PASSED, and PASSED is more than no data; suppressions show neither."""
    hidden = finding("S3.1", "FAILED", workflow_status="SUPPRESSED")
    passes = finding("S3.1", resource_id="other")
    unknown = finding("S3.1", "WARNING", resource_id="other")
    assert decisive_causes([finding("S3.1")], [hidden, unknown]) == {
        ("could_not_be_evaluated", "other")
    }
    assert decisive_causes([], [hidden, passes]) == {("new_passing_resource", "other")}


def test_a_carried_failure_decides_as_a_failure_does() -> None:
    cause = {
        "report": "fsbp",
        "account_id": ONE,
        "region": HOME,
        "control_id": "S3.1",
        "resource_id": "bucket",
        "cause": "carried_too_long",
        "status_before": "CARRIED",
        "status_after": ABSENT,
    }
    first, _ = day_of(BEFORE, [finding("S3.1", "FAILED"), finding("S3.5"), *OTHER])
    second, _ = day_of(AFTER, [finding("S3.5"), *OTHER])
    causes = pl.DataFrame([cause], schema=why.CAUSE_SCHEMA)
    none = pl.DataFrame(schema=why.PROBLEM_SCHEMA)
    _, reasons = score_changes(first, second, causes, {"before": none, "after": none})
    assert reasons["decisive"].to_list() == [True] * len(SCOPES)


def test_the_evidence_in_words_is_that_of_the_cause() -> None:
    """Nothing that another cause would say is said."""
    noted = {"note_text": "ok", "note_updated_by": "arn:aws:sts::1:assumed-role/ops/ann"}
    codes = {"reason_codes": "CONFIG_EVALUATIONS_EMPTY"}
    archived = {"record_state": "ARCHIVED"}
    cases: list[tuple[dict[str, Any], list[dict[str, Any]], str, str | None]] = [
        (finding("S3.1"), [finding("S3.1", "FAILED", **noted, **codes)], "regression", None),
        (finding("S3.1", "FAILED"), [finding("S3.1", **noted, **codes)], "fixed", None),
        (
            finding("S3.1", "FAILED"),
            [finding("S3.1", "FAILED", workflow_status="SUPPRESSED", **noted, **codes)],
            "suppressed",
            'by ann: "ok"',
        ),
        (
            finding("S3.1", "FAILED"),
            [finding("S3.1", "FAILED", workflow_status="SUPPRESSED")],
            "suppressed",
            None,
        ),
        (
            finding("S3.1"),
            [finding("S3.1", "WARNING", **noted, **codes)],
            "could_not_be_evaluated",
            "CONFIG_EVALUATIONS_EMPTY",
        ),
        (finding("S3.1"), [finding("S3.1", "WARNING")], "could_not_be_evaluated", None),
        (finding("S3.1", "FAILED"), [], "no_evidence", "last updated 2026-11-22"),
        (
            finding("S3.1", "FAILED"),
            [finding("S3.1", "FAILED", archival_reasons="SOMETHING", **archived)],
            "archived",
            "archived by AWS: SOMETHING",
        ),
        (
            finding("S3.1", "FAILED"),
            [finding("S3.1", "FAILED", **archived)],
            "archived",
            "archived by AWS",
        ),
    ]
    for before, after, cause, detail in cases:
        _, reasons = compared(
            day_of(BEFORE, [before, finding("S3.5"), *OTHER]),
            day_of(AFTER, [*after, finding("S3.5"), *OTHER]),
        )
        found = reasons.filter(pl.col("scope") == "account").select("cause", "detail").rows()
        assert found == [(cause, detail)]


def test_why_a_resource_is_taken_for_gone_is_said() -> None:
    stand_in = finding("S3.1", resource_id=f"AWS::::Account:{ONE}")
    failing = [finding("S3.1", "FAILED"), finding("S3.5", "FAILED")]
    deleted = finding("S3.5", "NOT_AVAILABLE", record_state="ARCHIVED")
    cases = [
        ([stand_in], [finding("S3.1", "FAILED")], "it stood for no resources at all; now"),
        (failing, [], "no finding of the resource is left"),
        (failing, [deleted], "another finding of the resource says that it was deleted"),
    ]
    for before, after, detail in cases:
        _, reasons = compared(day_of(BEFORE, [*before, *OTHER]), day_of(AFTER, [*after, *OTHER]))
        rows = reasons.filter(
            pl.col("scope") == "account",
            pl.col("control_id") == "S3.1",
            pl.col("cause") == "resource_gone",
        )
        (found,) = rows["detail"]
        assert found.startswith(detail)


def test_a_control_that_is_not_there_has_no_failing_resources() -> None:
    """None of them, and not an unknown number."""
    first = day_of(BEFORE, [finding("S3.1", "FAILED"), *OTHER], controls=("S3.1", "Other.1"))
    second = day_of(AFTER, [finding("S3.5", "FAILED"), *OTHER], controls=("S3.5", "Other.1"))
    changes, _ = compared(first, second)
    columns = ["control_id", "failing_resources_before", "failing_resources_after"]
    rows = changes.filter(pl.col("scope") == "organization").select(columns).sort("control_id")
    assert rows.rows() == [("S3.1", 1, 0), ("S3.5", 0, 1)]


def test_changes_are_stored_by_report_and_scope_the_worst_first() -> None:
    """What has no part comes after what has one; equal parts by the control's id."""
    controls = ("S3.1", "S3.2", "S3.3", "S3.4", "Other.1", "Other.2")
    states = {"S3.1": "PASSED", "S3.3": "FAILED", "S3.2": "FAILED"}
    turned = {"PASSED": "FAILED", "FAILED": "PASSED"}
    quiet = finding("Other.2", account_id=TWO, workflow_status="SUPPRESSED")
    before = [finding(each, states[each]) for each in states]
    after = [finding(each, turned[states[each]]) for each in states]
    places = {ONE: ("b", "production"), TWO: ("a", "production")}
    changes, reasons = compared(
        day_of(BEFORE, [*before, OTHER[0], quiet], controls=controls, places=places),
        day_of(
            AFTER,
            [*after, OTHER[0], finding("Other.2", "FAILED", account_id=TWO)],
            controls=controls,
            places=places,
        ),
    )
    rows = changes.select("scope", "account_id", "workload", "control_id", "part").rows()
    accounts = [(each[1], each[3]) for each in rows if each[0] == "account"]
    mine = [(ONE, each) for each in ("S3.1", "S3.2", "S3.3")]
    assert accounts == [*mine, (TWO, "Other.2")]
    workloads = [(each[2], each[3]) for each in rows if each[0] == "workload"]
    assert workloads == [("a", "Other.2"), ("b", "S3.1"), ("b", "S3.2"), ("b", "S3.3")]
    whole = [each[3] for each in rows if each[0] == "organization"]
    assert whole[0] in ("S3.1", "Other.2")
    parts = [each[4] for each in rows if each[0] == "organization"]
    assert parts == sorted(parts)
    named = reasons.filter(pl.col("scope") == "account").select("account_id", "control_id").rows()
    assert named == accounts


def test_a_cause_names_its_findings_and_when_they_were_first_seen() -> None:
    seen = datetime(2026, 11, 23, 4, tzinfo=UTC)
    _, reasons = compared(
        day_of(BEFORE, [finding("S3.1", finding_id="old id"), *OTHER]),
        day_of(AFTER, [finding("S3.1", "FAILED", first_observed_at=seen), *OTHER]),
    )
    row = reasons.filter(pl.col("scope") == "account").row(0, named=True)
    assert row["finding_id_before"] == "old id"
    assert row["finding_id_after"] == f"{ONE}/S3.1/{HOME}/bucket"
    assert (row["status_before"], row["status_after"]) == ("PASSED", "FAILED")
    assert row["first_observed_at"] == seen
    assert (row["account_id"], row["region"]) == (ONE, HOME)


# --- causes of controls and accounts ----------------------------------------------------------


def test_controls_added_to_and_removed_from_a_report() -> None:
    first = day_of(BEFORE, [finding("S3.1", "FAILED"), *OTHER], controls=("S3.1", "Other.1"))
    second = day_of(AFTER, [finding("S3.5", "FAILED"), *OTHER], controls=("S3.5", "Other.1"))
    _, reasons = compared(first, second)
    found = reasons.filter(pl.col("scope") == "organization").select("control_id", "cause")
    assert sorted(found.iter_rows()) == [("S3.1", "control_removed"), ("S3.5", "control_added")]


def test_a_rule_without_findings_that_joins_a_pack_is_a_control_added() -> None:
    first = day_of(BEFORE, OTHER, report=PACK, controls=("lz-a",))
    second = day_of(AFTER, OTHER, report=PACK, controls=("lz-a", "lz-b"))
    _, reasons = compared(first, second, PACK)
    assert set(reasons.select("control_id", "cause").iter_rows()) == {("lz-b", "control_added")}


def _accounts_changed(
    before: tuple[Day, pl.LazyFrame], after: tuple[Day, pl.LazyFrame]
) -> dict[tuple[str, str | None], set[str]]:
    _, reasons = compared(before, after)
    found: dict[tuple[str, str | None], set[str]] = {}
    for scope, workload, cause in reasons.select("scope", "workload", "cause").iter_rows():
        found.setdefault((scope, workload), set()).add(cause)
    return found


def test_accounts_that_join_leave_fall_silent_and_come_back() -> None:
    failing = [finding("S3.1", "FAILED", account_id=TWO), *OTHER]
    both = day_of(BEFORE, failing)
    both_later = day_of(AFTER, failing)
    alone = {ONE: PLACES[ONE]}
    without = [each for each in failing if each["account_id"] == ONE]
    cases = {
        "account_left": (both, day_of(AFTER, failing, places=alone)),
        "account_joined": (day_of(BEFORE, failing, places=alone), both_later),
        "account_silent": (both, day_of(AFTER, without)),
        "account_back": (day_of(BEFORE, without), both_later),
    }
    for cause, (before, after) in cases.items():
        found = _accounts_changed(before, after)
        assert found[("organization", None)] == {cause}
        assert found[("workload", "payments")] == {cause}


def test_an_account_that_comes_or_goes_names_the_resources_that_fail() -> None:
    failing = [
        finding("S3.1", "FAILED", account_id=TWO, resource_id="bad"),
        finding("S3.1", account_id=TWO, resource_id="good"),
        finding("S3.1"),
        *OTHER,
    ]
    alone = {ONE: PLACES[ONE]}
    _, joined = compared(day_of(BEFORE, failing, places=alone), day_of(AFTER, failing))
    _, left = compared(day_of(BEFORE, failing), day_of(AFTER, failing, places=alone))
    for reasons, id_column in ((joined, "finding_id_after"), (left, "finding_id_before")):
        rows = reasons.filter(pl.col("scope") == "workload", pl.col("control_id") == "S3.1")
        assert rows["resource_id"].to_list() == ["bad"]
        assert rows[id_column].to_list() == [f"{TWO}/S3.1/{HOME}/bad"]
        assert rows["decisive"].to_list() == [True]


def test_an_account_that_moved_takes_its_controls_from_one_workload_to_another() -> None:
    failing = [
        finding("S3.1", "FAILED", account_id=TWO), finding("S3.1"), finding("S3.5"), *OTHER,
    ]  # fmt: skip
    places = {ONE: ("payments", "production"), TWO: ("payments", "production")}
    moved = {ONE: ("payments", "production"), TWO: ("ledger", "test")}
    found = _accounts_changed(
        day_of(BEFORE, failing, places=places), day_of(AFTER, failing, places=moved)
    )
    # The new workload had no score before: nothing is split, but what came is named.
    assert found == {
        ("workload", "payments"): {"account_moved"},
        ("workload", "ledger"): {"account_moved"},
    }
    changes, reasons = compared(
        day_of(BEFORE, failing, places=places), day_of(AFTER, failing, places=moved)
    )
    part = changes.filter(pl.col("workload") == "payments", pl.col("control_id") == "S3.1")
    assert part["part"].item() > 0
    assert "from payments production to ledger test" in set(reasons["detail"])
    new = changes.filter(pl.col("workload") == "ledger")
    assert new["part"].null_count() == new.height
    assert set(new["comparable"]) == {"no score on 2026-11-22: the workload has no accounts"}


def test_a_day_without_a_score_is_not_split_and_says_why() -> None:
    first = day_of(BEFORE, [finding("S3.1"), *OTHER])
    second = day_of(AFTER, [OTHER[1]])
    changes, _ = compared(first, second)
    silent = changes.filter(pl.col("account_id") == ONE)
    assert silent.height > 0
    assert silent["part"].null_count() == silent.height
    assert set(silent["comparable"]) == {"no score on 2026-11-23: no findings in the snapshot"}
    assert set(silent["causes"]) == {"account_silent"}


def test_another_method_or_settings_are_told_and_are_not_posture() -> None:
    before = day_of(BEFORE, [finding("S3.1", "FAILED"), *OTHER])
    status = before[0].control_status.with_columns(
        status=pl.when(pl.col("control_id") == "S3.1")
        .then(pl.lit("PASSED"))
        .otherwise(pl.col("status"))
    )
    for column, cause, text in (
        ("method", "method_changed", f"the scoring method changed from {METHOD_VERSION} to other"),
        ("settings_hash", "settings_changed", "the settings of the report changed"),
    ):
        after = day_of(AFTER, [finding("S3.1", "FAILED"), *OTHER], **{column: "other"})
        later = Day(**{**_fields(after[0]), "control_status": status})
        pairs = changed_pairs(before[0], later)
        nothing = pl.DataFrame(schema=why.CAUSE_SCHEMA)
        found = control_causes(pairs, nothing, before[0], later)
        assert set(found["cause"]) == {cause}
        for scope in SCOPES:
            assert set(compared_scores(scope, before[0], later)["comparable"]) == {text}


def test_every_problem_is_matched_by_what_it_is_and_not_by_its_id() -> None:
    assert "finding_id" not in PROBLEM
    rows = transitions(
        problems(_of_report([finding("S3.1", finding_id="a")]), "fsbp").collect(),
        problems(_of_report([finding("S3.1", "FAILED", finding_id="b")]), "fsbp").collect(),
    )
    assert rows.select("state_before", "state_after").row(0) == ("PASSED", "FAILED")
    assert ABSENT not in rows["state_before"]


def _of_report(findings: list[dict[str, Any]]) -> pl.LazyFrame:
    frame = ACCOUNT_FINDINGS.read_as(pl.DataFrame(findings)).lazy()
    return frame.with_columns(control_id=pl.col("security_control_id"))


# --- like for like ----------------------------------------------------------------------------


def test_growth_does_not_look_like_decay_when_compared_like_for_like() -> None:
    before = day_of(
        BEFORE,
        [finding("S3.1"), finding("Other.1")],
        places={ONE: PLACES[ONE]},
        controls=("S3.1", "Other.1"),
    )
    after = day_of(
        AFTER,
        [finding("S3.1"), finding("Other.1"), finding("S3.5", "FAILED"),
         finding("S3.1", "FAILED", account_id=TWO)],
        controls=("S3.1", "S3.5", "Other.1"),
    )  # fmt: skip
    plain = compared_scores("organization", before[0], after[0]).row(0, named=True)
    assert (plain["score_before"], round(plain["score_after"], 1)) == (100.0, 33.3)
    same = like_for_like("organization", before[0], after[0]).row(0, named=True)
    assert (same["score_before"], same["score_after"]) == (100.0, 100.0)
    assert (same["accounts"], same["controls"]) == (1, 2)


# --- the verdict ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "parts", "answer", "share"),
    [
        (["A"], {"A": -2.0}, "true", 1.0),
        (["A"], {"A": -2.0, "B": 0.5}, "true", 2 / 1.5),
        (["A", "B"], {"A": -2.0, "B": -1.0, "C": 0.1}, "true", 3 / 2.9),
        (["A"], {"A": -2.0, "B": -5.0}, "partly", 2 / 7),
        (["A"], {"A": -2.0, "B": -5.0, "C": 4.5}, "partly", 2 / 2.5),
        (["A"], {"A": -2.0, "B": -5.0, "C": 6.0}, "true", 2.0),
        (["A"], {"B": -5.0}, "false", 0.0),
        (["A"], {"A": 1.0, "B": -5.0}, "false", -0.25),
        (["A"], {"A": -2.0, "B": 3.0}, "false", None),
        (["A"], {"A": -2.0, "B": 2.0}, "false", None),
        (["A"], {}, "false", None),
        ([], {"B": -5.0}, "false", 0.0),
    ],
)
def test_judging_a_claim(
    claim: list[str], parts: dict[str, float], answer: str, share: float | None
) -> None:
    verdict = judge(claim, parts)
    assert verdict.answer == answer
    assert verdict.share == (None if share is None else pytest.approx(share))
    assert verdict.change == pytest.approx(sum(parts.values()))


@given(
    st.dictionaries(st.sampled_from("ABCDEFG"), st.floats(-10, 10), max_size=7),
    st.sets(st.sampled_from("ABCDEFG")),
)
def test_a_claim_is_true_exactly_if_without_it_there_would_be_no_drop(
    parts: dict[str, float], claim: set[str]
) -> None:
    verdict = judge(claim, parts)
    dropped = verdict.change < -TOLERANCE
    if verdict.answer == "true":
        assert dropped
        assert verdict.others >= -TOLERANCE
    elif verdict.answer == "partly":
        assert dropped
        assert max(verdict.claimed, verdict.others) < 0
        assert verdict.share is not None
        assert 0 < verdict.share < 1
    else:
        assert not dropped or verdict.claimed >= -TOLERANCE
