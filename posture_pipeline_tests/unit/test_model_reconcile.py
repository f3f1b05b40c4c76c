"""Our pack scores beside AWS Config's: every part has its true reason, and the parts add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model.reconcile import (
    CAUSES,
    STATES_SCHEMA,
    carried_states,
    differences_without_reason,
    finding_states,
    part,
    reconciliation,
)
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    RECONCILIATION,
)
from posture_pipeline.settings import Report

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)
ACCOUNT = "012345678901"
HOME, OTHER = "eu-west-1", "us-east-1"
PACK = {"date": DAY, "report": "lz-pack", "account_id": ACCOUNT}
REPORT = Report(name="lz-pack", conformance_pack="lz")


class Evaluated(NamedTuple):
    """A rule as AWS has it: how many resources comply, and which do not, recorded when."""

    compliant: int = 0
    failing: tuple[str, ...] = ()
    recorded: datetime = NOW
    status: str | None = None


class State(NamedTuple):
    """What we know of a resource of a rule."""

    rule: str
    resource: str
    state: str
    region: str = HOME


def aws_rows(
    rules: dict[str, Evaluated], *, score: str | None = None, counts: bool = True
) -> list[dict[str, Any]]:
    """What the calls for a pack in the home region give; the score as AWS would write it."""
    place = {**PACK, "region": HOME, "aws_name": "OrgConformsPack-lz-abcdefgh"}
    rows = []
    passed = sum(each.compliant for each in rules.values())
    counted = passed + sum(len(each.failing) for each in rules.values())
    if score is None:
        score = f"{100 * passed / counted:.2f}" if counted else "INSUFFICIENT_DATA"
    number = None if score == "INSUFFICIENT_DATA" else float(score)
    rows.append(
        {**place, "score": number, "score_text": score, "updated_at": NOW, "source": "list_scores"}
    )
    for name, each in rules.items():
        status = "NON_COMPLIANT" if each.failing else "COMPLIANT"
        if not each.failing and not each.compliant:
            status = "INSUFFICIENT_DATA"
        rule = {**place, "control_id": name, "aws_rule_name": f"{name}-conformance-pack-x12345678"}
        numbers = {"compliant": each.compliant, "non_compliant": len(each.failing)}
        rows.append(
            {
                **rule,
                **(numbers if counts else {}),
                "status": each.status or status,
                "updated_at": each.recorded,
                "source": "compliance",
            }
        )
        rows += [
            {
                **rule,
                "resource_id": resource,
                "status": "NON_COMPLIANT",
                "updated_at": each.recorded,
                "source": "details",
            }
            for resource in each.failing
            if counts
        ]
    return rows


def aggregated(compliant: int, non_compliant: int, total: int) -> dict[str, Any]:
    return {
        **PACK,
        "region": HOME,
        "aws_name": "OrgConformsPack-lz-abcdefgh",
        "compliant": compliant,
        "non_compliant": non_compliant,
        "total": total,
        "status": "NON_COMPLIANT" if non_compliant else "COMPLIANT",
        "source": "aggregator",
    }


def status_of(rules: Iterable[str], states: list[State]) -> pl.DataFrame:
    """The control status that these states give, by the definition of docs/scoring.md."""
    rows = []
    for rule in rules:
        resources: dict[str, set[str]] = defaultdict(set)
        for each in states:
            if each.rule == rule and each.state in ("FAILED", "UNKNOWN", "PASSED"):
                resources[each.resource].add(each.state)
        carried = {e.resource for e in states if e.rule == rule and e.state == "CARRIED"}
        suppressed = [e for e in states if e.rule == rule and e.state.startswith("SUPPRESSED")]
        failed = sum("FAILED" in each for each in resources.values()) + len(carried)
        passed = sum(each == {"PASSED"} for each in resources.values())
        if failed:
            status = "FAILED"
        elif len(resources) > passed:
            status = "UNKNOWN"
        else:
            status = "PASSED" if passed or not suppressed else "NO_DATA"
        rows.append(
            {
                **PACK,
                "control_id": rule,
                "status": status,
                "basis": "findings" if resources else "none" if suppressed else "assumed",
                "passed_resources": passed,
                "failed_resources": failed,
            }
        )
    return CONTROL_STATUS.read_as(pl.DataFrame(rows, schema_overrides=CONTROL_STATUS.schema))


def reconciled(
    aws: list[dict[str, Any]],
    rules: Iterable[str],
    states: list[State],
    *,
    withheld: str | None = None,
    collect: str = "all",
) -> pl.DataFrame:
    status = status_of(rules, states)
    passed, failed = int(status["passed_resources"].sum()), int(status["failed_resources"].sum())
    counted = status.filter(pl.col("status") != "NO_DATA")
    of_rules = (counted["status"] == "PASSED").sum() / counted.height if counted.height else None
    score = {
        **PACK,
        "score": None if withheld or of_rules is None else 100 * of_rules,
        "resource_score": None
        if withheld or not passed + failed
        else 100 * passed / (passed + failed),
        "reason": withheld,
    }
    rows = reconciliation(
        AWS_COMPLIANCE.read_as(pl.DataFrame(aws, schema_overrides=AWS_COMPLIANCE.schema)),
        ACCOUNT_SCORES.read_as(pl.DataFrame([score], schema_overrides=ACCOUNT_SCORES.schema)),
        status,
        pl.DataFrame(
            [("lz-pack", ACCOUNT, e.region, e.rule, e.resource, e.state) for e in states],
            schema=STATES_SCHEMA,
            orient="row",
        ),
        day=DAY,
        collect=collect,
    )
    assert rows.schema == RECONCILIATION.schema
    return rows


def causes(rows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Every cause of rules with what it adds to passed and failed pairs."""
    found = rows.filter(pl.col("cause").is_not_null() & (pl.col("cause") != "rounding"))
    return {row["cause"]: (row["passed"], row["failed"]) for row in found.iter_rows(named=True)}


def figure(rows: pl.DataFrame) -> dict[str, Any]:
    found = rows.filter(pl.col("control_id").is_null() & pl.col("cause").is_null())
    return found.row(0, named=True)


OLD = NOW - timedelta(days=120)
ARN = "arn:aws:ec2:eu-west-1:012345678901:security-group/"

CASES: dict[str, tuple[Evaluated, list[State], dict[str, tuple[int, int]]]] = {
    "the same on both sides, Config's own id here and an ARN there": (
        Evaluated(1, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "FAILED"), State("r", f"{ARN}sg-2", "PASSED")],
        {},
    ),
    "the same on both sides, under names that have nothing in common": (
        Evaluated(0, ("AROA123",)),
        [State("r", "arn:aws:iam::012345678901:role/admin", "FAILED")],
        {},
    ),
    "two resources whose ids end alike, of which one fails": (
        Evaluated(1, ("live",)),
        [State("r", "restapis/a/stages/live", "PASSED"), State("r", "restapis/b/live", "FAILED")],
        {},
    ),
    "a rule without any finding": (
        Evaluated(3),
        [],
        {"compliant_without_finding": (-3, 0)},
    ),
    "a rule that AWS never evaluated": (
        Evaluated(),
        [],
        {"insufficient_data": (0, 0)},
    ),
    "a suppressed failure": (
        Evaluated(0, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "SUPPRESSED_FAILED")],
        {"suppressed": (0, -1)},
    ),
    "a suppressed failure under another name": (
        Evaluated(0, ("AROA123",)),
        [State("r", "arn:aws:iam::012345678901:role/admin", "SUPPRESSED_FAILED")],
        {"suppressed": (0, -1)},
    ),
    "a suppressed finding of a resource that complies": (
        Evaluated(2),
        [State("r", f"{ARN}sg-1", "SUPPRESSED"), State("r", f"{ARN}sg-2", "PASSED")],
        {"suppressed": (-1, 0)},
    ),
    "a carried failure that still fails in AWS": (
        Evaluated(0, ("sg-1",), OLD),
        [State("r", f"{ARN}sg-1", "CARRIED")],
        {},
    ),
    "a carried failure that AWS no longer knows": (
        Evaluated(1),
        [State("r", f"{ARN}sg-1", "CARRIED"), State("r", f"{ARN}sg-2", "PASSED")],
        {"carried": (0, 1)},
    ),
    "a failure from before the first snapshot, whose finding is deleted": (
        Evaluated(0, ("sg-1",), OLD),
        [],
        {"aged_out": (0, -1)},
    ),
    "a failure whose finding did not arrive": (
        Evaluated(0, ("sg-1",)),
        [],
        {"not_received": (0, -1)},
    ),
    "a failure while the finding still says it passes": (
        Evaluated(0, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "PASSED")],
        {"not_updated": (1, -1)},
    ),
    "a deleted resource whose finding stays": (
        Evaluated(0, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "FAILED"), State("r", f"{ARN}sg-2", "FAILED")],
        {"outlived": (0, 1)},
    ),
    "a deleted resource whose finding passed": (
        Evaluated(0, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "FAILED"), State("r", f"{ARN}sg-2", "PASSED")],
        {"outlived": (1, 0)},
    ),
    "a resource in another region": (
        Evaluated(1),
        [State("r", f"{ARN}sg-1", "PASSED"), State("r", f"{ARN}sg-2", "FAILED", OTHER)],
        {"other_region": (0, 1)},
    ),
    "the same resource id fails in another region": (
        Evaluated(1),
        [State("r", "bucket", "PASSED"), State("r", "bucket", "FAILED", OTHER)],
        {"other_region": (-1, 1)},
    ),
    "a finding that could not be evaluated": (
        Evaluated(1),
        [State("r", f"{ARN}sg-1", "UNKNOWN")],
        {"could_not_be_evaluated": (-1, 0)},
    ),
    "a failure that the report's filter leaves out": (
        Evaluated(0, ("sg-1",)),
        [State("r", f"{ARN}sg-1", "FILTERED")],
        {"filtered": (0, -1)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_difference_has_its_own_cause(case: str) -> None:
    evaluated, states, expected = CASES[case]
    rules = {"r": evaluated, "steady": Evaluated(1)}
    states = [*states, State("steady", "same", "PASSED")]
    rows = reconciled(aws_rows(rules), rules, states)
    assert causes(rows) == expected
    assert differences_without_reason(rows).is_empty()
    whole = figure(rows)
    assert rows["part"].sum() == pytest.approx(whole["difference"], abs=1e-9)


def test_a_reason_names_the_resources_that_fail_without_a_finding() -> None:
    rows = reconciled(aws_rows({"r": Evaluated(1, ("sg-1", "sg-2"))}), ["r"], [])
    reason = rows.filter(pl.col("cause") == "not_received")["reason"].item()
    assert reason == f"{CAUSES['not_received']}: sg-1, sg-2"


def test_a_rule_that_agrees_has_one_row_and_no_reason() -> None:
    states = [State("r", "sg-1", "FAILED"), State("r", "sg-2", "PASSED")]
    rows = reconciled(aws_rows({"r": Evaluated(1, ("sg-1",))}), ["r"], states)
    rule = rows.filter(pl.col("control_id") == "r").row(0, named=True)
    assert (rule["aws_status"], rule["our_status"]) == ("NON_COMPLIANT", "FAILED")
    assert (rule["cause"], rule["reason"], rule["part"]) == (None, None, 0)
    assert figure(rows)["difference"] == 0


def test_rules_of_one_side_only_are_said_to_be_so() -> None:
    states = [State("ours", "sg-1", "FAILED"), State("both", "sg-2", "PASSED")]
    rows = reconciled(
        aws_rows({"aws": Evaluated(2), "both": Evaluated(1)}), ["ours", "both"], states
    )
    assert causes(rows) == {"rule_not_in_pack": (0, 1), "rule_not_expected": (-2, 0)}
    assert differences_without_reason(rows).is_empty()


def test_where_only_failing_findings_are_collected_that_is_the_reason() -> None:
    states = [State("r", "sg-1", "FAILED")]
    rows = reconciled(aws_rows({"r": Evaluated(3, ("sg-1",))}), ["r"], states, collect="failing")
    assert causes(rows) == {"passed_not_collected": (-3, 0)}


# --- AWS's own figures ------------------------------------------------------------------------


def one_third(score: str, **changes: Any) -> pl.DataFrame:
    states = [State("r", name, "FAILED") for name in ("a", "b")] + [State("r", "c", "PASSED")]
    aws = aws_rows({"r": Evaluated(1, ("a", "b"), **changes)}, score=score)
    return reconciled(aws, ["r"], states)


@pytest.mark.parametrize("score", ["33.33", "33.3", "33"])
def test_what_aws_rounds_off_is_a_part_of_its_own(score: str) -> None:
    rows = one_third(score)
    row = rows.filter(pl.col("cause").is_not_null()).row(0, named=True)
    assert row["cause"] == "rounding"
    assert row["part"] == pytest.approx(100 / 3 - float(score))
    assert differences_without_reason(rows).is_empty()


def test_a_score_older_than_the_evaluations_is_said_to_be_older() -> None:
    rows = one_third("50.00", recorded=NOW + timedelta(hours=1))
    assert set(rows["cause"].drop_nulls()) == {"computed_earlier"}
    assert differences_without_reason(rows).is_empty()


def test_a_score_that_aws_contradicts_itself_is_no_explanation() -> None:
    rows = one_third("50.00")
    assert differences_without_reason(rows)["reason"].to_list() == [CAUSES["aws_disagrees"]]


def test_a_status_that_contradicts_the_evaluations_is_no_explanation() -> None:
    rows = reconciled(
        aws_rows({"r": Evaluated(1, status="NON_COMPLIANT")}), ["r"], [State("r", "a", "PASSED")]
    )
    assert set(rows["cause"].drop_nulls()) == {"aws_disagrees"}


def test_insufficient_data_is_compared_with_nothing() -> None:
    rows = reconciled(aws_rows({"r": Evaluated()}), ["r"], [State("r", "a", "PASSED")])
    whole = figure(rows)
    assert whole["aws_value"] is None
    assert whole["difference"] is None
    assert "INSUFFICIENT_DATA" in whole["reason"]
    assert rows["part"].null_count() == rows.height
    assert causes(rows) == {"outlived": (1, 0)}


def test_a_score_of_ours_that_is_withheld_says_why() -> None:
    rows = reconciled(aws_rows({"r": Evaluated(1)}), ["r"], [], withheld="findings are missing")
    assert figure(rows)["reason"] == "no score of ours: findings are missing"
    assert differences_without_reason(rows).is_empty()


def test_without_the_evaluations_only_statuses_are_compared() -> None:
    aws = aws_rows({"r": Evaluated(0, ("a",)), "s": Evaluated(1)}, counts=False)
    rows = reconciled(aws, ["r", "s"], [State("s", "b", "PASSED")])
    assert figure(rows)["reason"] == CAUSES["not_itemised"]
    assert rows.filter(pl.col("control_id") == "r")["cause"].item() == "not_itemised"
    assert rows.filter(pl.col("control_id") == "s")["cause"].item() is None
    assert differences_without_reason(rows).is_empty()


def test_without_the_score_the_evaluations_give_it() -> None:
    aws = [row for row in aws_rows({"r": Evaluated(1, ("a",))}) if row["source"] != "list_scores"]
    states = [State("r", "a", "FAILED"), State("r", "b", "PASSED")]
    whole = figure(reconciled(aws, ["r"], states))
    assert whole["aws_value"] == whole["our_value"] == 50
    assert "could not be read" in whole["reason"]


def test_a_pair_count_that_the_findings_do_not_give_is_unexplained() -> None:
    aws = aws_rows({"r": Evaluated(1)})
    status = status_of(["r"], [State("r", "a", "PASSED"), State("r", "b", "PASSED")])
    rows = reconciliation(
        AWS_COMPLIANCE.read_as(pl.DataFrame(aws, schema_overrides=AWS_COMPLIANCE.schema)),
        ACCOUNT_SCORES.read_as(pl.DataFrame([{**PACK, "resource_score": 100.0}])),
        status,
        pl.DataFrame([("lz-pack", ACCOUNT, HOME, "r", "a", "PASSED")], STATES_SCHEMA, orient="row"),
        day=DAY,
    )
    assert differences_without_reason(rows)["control_id"].to_list() == ["r"]


def test_nothing_from_aws_gives_nothing() -> None:
    rows = reconciled([], ["r"], [State("r", "a", "PASSED")])
    assert rows.is_empty()
    assert differences_without_reason(rows).is_empty()


# --- the sums ---------------------------------------------------------------------------------

SMALL = st.integers(0, 12)


@given(
    p1=SMALL,
    f1=SMALL,
    groups=st.lists(st.tuples(st.integers(-6, 12), st.integers(-6, 12)), min_size=1, max_size=8),
)
def test_the_parts_of_any_grouping_are_exactly_the_difference(
    p1: int, f1: int, groups: list[tuple[int, int]]
) -> None:
    """With P of N pairs on one side, and whatever the groups add on the other."""
    n1 = p1 + f1
    p2 = p1 + sum(passed for passed, _ in groups)
    n2 = n1 + sum(passed + failed for passed, failed in groups)
    if n1 == 0 or n2 == 0:
        return
    sides = [Fraction(each) for each in (p1, n1, p2, n2)]
    parts = [part(Fraction(p), Fraction(p + f), *sides) for p, f in groups]
    assert sum(parts) == 100 * (Fraction(p2, n2) - Fraction(p1, n1))


RULES = ("r", "s", "t")
NAMES = [f"sg-{number}" for number in range(4)]
STATE = st.sampled_from(
    ["FAILED", "UNKNOWN", "PASSED", "SUPPRESSED_FAILED", "SUPPRESSED", "FILTERED", "CARRIED"]
)
OURS = st.lists(
    st.builds(
        State, st.sampled_from(RULES), st.sampled_from(NAMES), STATE, st.sampled_from([HOME, OTHER])
    ),
    max_size=14,
    unique_by=lambda state: (state.rule, state.resource, state.region),
)
AWS = st.dictionaries(
    st.sampled_from(RULES),
    st.builds(
        Evaluated,
        st.integers(0, 4),
        st.lists(st.sampled_from([*NAMES, "AROA1"]), max_size=4, unique=True).map(tuple),
        st.sampled_from([NOW, OLD]),
        st.none(),
    ),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(AWS, OURS, st.sets(st.sampled_from(RULES), min_size=1))
def test_whatever_both_sides_say_every_pair_is_accounted_for(
    rules: dict[str, Evaluated], states: list[State], expected: set[str]
) -> None:
    states = [state for state in states if state.rule in expected]
    rows = reconciled(aws_rows(rules), expected, states)
    status = status_of(expected, states)
    parts = rows.filter(pl.col("control_id").is_not_null())
    aws_passed = sum(each.compliant for each in rules.values())
    aws_failed = sum(len(each.failing) for each in rules.values())
    assert parts["passed"].sum() == status["passed_resources"].sum() - aws_passed
    assert parts["failed"].sum() == status["failed_resources"].sum() - aws_failed
    whole = figure(rows)
    if whole["difference"] is not None:
        assert rows["part"].sum() == pytest.approx(whole["difference"], abs=1e-9)
    assert "unexplained" not in rows["cause"].to_list()
    assert differences_without_reason(rows).is_empty()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), OURS)
def test_in_rules_the_parts_add_up_too(
    compliant: int, non_compliant: int, without_data: int, states: list[State]
) -> None:
    aws = [aggregated(compliant, non_compliant, compliant + non_compliant + without_data)]
    rows = reconciled(aws, RULES, states)
    whole = figure(rows)
    assert whole["unit"] == "rules"
    if whole["difference"] is not None:
        assert rows["part"].sum() == pytest.approx(whole["difference"], abs=1e-9)
    assert differences_without_reason(rows).is_empty()


def test_in_rules_the_causes_are_inferred_from_what_fails_here() -> None:
    states = [
        State("r", "a", "FAILED"),
        State("s", "b", "FAILED", OTHER),
        State("t", "c", "SUPPRESSED_FAILED"),
        State("t", "d", "PASSED"),
    ]
    rows = reconciled([aggregated(1, 2, 4)], ["r", "s", "t", "u"], states)
    assert causes(rows) == {
        "insufficient_data": (1, 0),
        "other_region": (-1, 1),
        "suppressed": (1, -1),
    }


# --- our side ---------------------------------------------------------------------------------


def finding(resource: str | None, status: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "account_id": ACCOUNT,
        "region": HOME,
        "resource_id": resource,
        "compliance_status": status,
        "workflow_status": "NEW",
        "record_state": "ACTIVE",
        "severity_label": "MEDIUM",
        "control_id": "r",
        **changes,
    }


def states_of(findings: list[dict[str, Any]], report: Report) -> dict[str, str]:
    frame = pl.DataFrame(findings, schema_overrides=ACCOUNT_FINDINGS.schema).lazy()
    rows = finding_states(frame, report).collect()
    return dict(rows.select("resource_id", "state").iter_rows())


def test_the_state_of_a_resource_is_its_worst_finding_that_counts() -> None:
    suppressed = {"workflow_status": "SUPPRESSED"}
    findings = [
        finding("failed", "FAILED"),
        finding("failed", "PASSED"),
        finding("half", "PASSED"),
        finding("half", "FAILED", **suppressed),
        finding("hidden", "FAILED", **suppressed),
        finding("hidden good", "PASSED", **suppressed),
        finding("warned", "WARNING"),
        finding("silent", None),
        finding("gone", "FAILED", record_state="ARCHIVED"),
        finding(None, "PASSED"),
    ]
    assert states_of(findings, REPORT) == {
        "failed": "FAILED",
        "half": "PASSED",
        "hidden": "SUPPRESSED_FAILED",
        "hidden good": "SUPPRESSED",
        "warned": "UNKNOWN",
        "silent": "UNKNOWN",
        "": "PASSED",
    }


def test_what_the_filter_of_a_report_leaves_out_is_known_as_such() -> None:
    only_high = {"SeverityLabel": [{"Value": "HIGH", "Comparison": "EQUALS"}]}
    report = REPORT.model_copy(update={"filter": only_high})
    findings = [finding("a", "FAILED"), finding("b", "FAILED", severity_label="HIGH")]
    assert states_of(findings, report) == {"a": "FILTERED", "b": "FAILED"}


def test_carried_failures_are_states_of_their_own() -> None:
    carried = CARRIED_FAILURES.read_as(
        pl.DataFrame([{**PACK, "region": HOME, "control_id": "r", "resource_id": "a"}])
    )
    rows = carried_states(carried)
    assert set(rows.columns) == set(STATES_SCHEMA)
    assert rows["state"].to_list() == ["CARRIED"]
