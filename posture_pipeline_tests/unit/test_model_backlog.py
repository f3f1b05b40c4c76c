"""The order of a backlog: the fewest resources for any target, the score after each control."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import combinations
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from posture_pipeline.model import scoring
from posture_pipeline.model.backlog import (
    BACKLOG_SCHEMA,
    RESOURCES_SCHEMA,
    backlog,
    resources_to_fix,
)
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.schemas import ACCOUNT_FINDINGS, CARRIED_FAILURES, EXPECTED_CONTROLS
from posture_pipeline.settings import Report

ONE, TWO = "000000000001", "111122223333"

Control = tuple[str, int, str | None]
"""Status, resources that do not pass, severity."""


def controls_of(controls: dict[str, Control]) -> pl.DataFrame:
    rows = [(name, severity, status) for name, (status, _, severity) in controls.items()]
    schema = {"control_id": pl.String, "severity": pl.String, "status": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def resources_of(controls: dict[str, Control]) -> pl.DataFrame:
    rows = [
        {"control_id": name, "account_id": ONE, "resource_id": str(number), "status": status}
        for name, (status, count, _) in controls.items()
        for number in range(count)
    ]
    return pl.DataFrame(rows, schema=RESOURCES_SCHEMA)


def backlog_of(controls: dict[str, Control], target: float = 95) -> pl.DataFrame:
    return backlog(controls_of(controls), resources_of(controls), target)


def score_of(statuses: list[str]) -> float | None:
    counts = {name: [statuses.count(name.upper())] for name in ("passed", "failed", "unknown")}
    score: float | None = pl.DataFrame(counts).select(scoring.score()).item()
    return score


# --- the order --------------------------------------------------------------------------------

FAILING = st.tuples(
    st.sampled_from(["FAILED", "UNKNOWN"]),
    st.integers(1, 6),
    st.sampled_from(["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", None]),
)
OTHERS = st.tuples(st.sampled_from(["PASSED", "NO_DATA"]), st.just(0), st.just("LOW"))
CONTROLS = st.dictionaries(
    st.integers(1, 99).map("S3.{}".format), FAILING | OTHERS, min_size=1, max_size=8
)


@settings(max_examples=60)
@given(CONTROLS, st.floats(0, 100))
def test_no_other_controls_reach_the_target_with_fewer_resources(
    controls: dict[str, Control], target: float
) -> None:
    """Every set of controls is tried, each scored by the scoring rule itself."""
    statuses = {name: status for name, (status, _, _) in controls.items()}
    now = score_of(list(statuses.values()))
    assume(now is not None)
    assert now is not None
    failing = [name for name, status in statuses.items() if status in ("FAILED", "UNKNOWN")]
    fewest = None
    for size in range(len(failing) + 1):
        score = score_of(list((statuses | dict.fromkeys(failing[:size], "PASSED")).values()))
        assert score is not None
        if score >= target:
            # All sets of a size have the same score; of larger ones each contains one of these.
            fewest = min(sum(controls[n][1] for n in each) for each in combinations(failing, size))
            break
    rows = backlog_of(controls, target)
    reaching = rows.filter("reaches_target")
    if now >= target:
        assert reaching.is_empty()
    else:
        assert reaching["fixed_so_far"].to_list() == [fewest]


@settings(max_examples=60)
@given(CONTROLS)
def test_the_score_after_each_row_is_that_of_the_controls_fixed_so_far(
    controls: dict[str, Control],
) -> None:
    statuses = {name: status for name, (status, _, _) in controls.items()}
    rows = backlog_of(controls)
    before = score_of(list(statuses.values()))
    fixed = 0
    for row in rows.iter_rows(named=True):
        statuses[row["control_id"]] = "PASSED"
        fixed += row["to_fix"]
        assert row["score_after"] == pytest.approx(score_of(list(statuses.values())))
        assert row["points"] == pytest.approx(row["score_after"] - before)
        assert row["fixed_so_far"] == fixed
        before = row["score_after"]
    assert not {"FAILED", "UNKNOWN"} & set(statuses.values())
    if rows.height:
        assert rows["score_after"][-1] == 100


@given(CONTROLS, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_the_rows(
    controls: dict[str, Control], random: Any
) -> None:
    shuffled = dict(random.sample(sorted(controls.items()), len(controls)))
    assert_frame_equal(backlog_of(controls), backlog_of(shuffled))


def test_fewest_resources_come_first_then_failed_then_severity_then_the_id() -> None:
    rows = backlog_of(
        {
            "S3.9": ("FAILED", 2, "CRITICAL"),
            "S3.8": ("UNKNOWN", 1, "CRITICAL"),
            "S3.7": ("FAILED", 1, None),
            "S3.6": ("FAILED", 1, "LOW"),
            "S3.5": ("FAILED", 1, "HIGH"),
            "S3.4": ("FAILED", 1, "HIGH"),
            "S3.3": ("PASSED", 0, "HIGH"),
            "S3.2": ("NO_DATA", 0, "HIGH"),
        }
    )
    assert rows["control_id"].to_list() == ["S3.4", "S3.5", "S3.6", "S3.7", "S3.8", "S3.9"]
    assert rows["points"].unique().to_list() == [pytest.approx(100 / 7)]


def test_a_control_whose_resources_are_not_known_comes_last() -> None:
    rows = backlog_of({"A": ("FAILED", 0, "CRITICAL"), "B": ("FAILED", 4, "LOW")})
    assert rows.select("control_id", "to_fix").rows() == [("B", 4), ("A", None)]


def test_a_full_score_is_100_whatever_the_number_of_controls() -> None:
    """A last score of 99.99999999999999 would never reach a target of 100."""
    for passed in range(250):
        controls: dict[str, Control] = {f"P.{n}": ("PASSED", 0, "LOW") for n in range(passed)}
        rows = backlog_of(controls | {"F": ("FAILED", 1, "LOW")}, 100)
        assert rows.select("score_after", "reaches_target").row(0) == (100, True)


@pytest.mark.parametrize(
    "controls", [{}, {"A": ("PASSED", 0, "LOW")}, {"A": ("NO_DATA", 0, "LOW")}]
)
def test_nothing_to_fix_is_no_rows_with_the_declared_columns(controls: dict[str, Control]) -> None:
    rows = backlog_of(controls)
    assert rows.is_empty()
    assert rows.schema == BACKLOG_SCHEMA


# --- the resources ----------------------------------------------------------------------------


def finding(status: str | None, resource: str | None = "a", **more: str | None) -> dict[str, Any]:
    return {
        "account_id": ONE,
        "control_id": "S3.1",
        "region": "eu-west-1",
        "resource_id": resource,
        "resource_type": "AwsS3Bucket",
        "compliance_status": status,
        "workflow_status": "NEW",
        "record_state": "ACTIVE",
        "title": "Bucket",
        "remediation_url": None,
    } | more


def fixes_of(
    *findings: dict[str, Any], carried: pl.DataFrame | None = None
) -> list[tuple[str, ...]]:
    read = pl.LazyFrame(list(findings), infer_schema_length=None)
    carried = CARRIED_FAILURES.empty() if carried is None else carried
    rows = resources_to_fix(read.cast({"remediation_url": pl.String}), carried).collect()
    assert rows.schema == RESOURCES_SCHEMA
    return rows.select("account_id", "resource_id", "regions", "status").rows()


def test_what_could_not_be_evaluated_has_to_be_fixed_too() -> None:
    """With the failed one alone fixed the control would be UNKNOWN, and give no point."""
    found = fixes_of(
        finding("FAILED"), finding("WARNING", "b"), finding(None, "c"), finding("PASSED", "d")
    )
    assert [each[1:] for each in found] == [
        ("a", "eu-west-1", "FAILED"),
        ("b", "eu-west-1", "UNKNOWN"),
        ("c", "eu-west-1", "UNKNOWN"),
    ]


def test_suppressed_and_archived_findings_are_nothing_to_fix() -> None:
    assert not fixes_of(
        finding("FAILED", workflow_status="SUPPRESSED"), finding("FAILED", record_state="ARCHIVED")
    )
    assert len(fixes_of(finding("FAILED", workflow_status=None))) == 1


def test_a_resource_reported_in_two_regions_is_one_and_in_two_accounts_two() -> None:
    found = fixes_of(
        finding("FAILED"),
        finding("WARNING", region="us-east-1"),
        finding("FAILED", account_id=TWO),
        finding("FAILED", None),
    )
    assert found == [
        (ONE, "", "eu-west-1", "FAILED"),
        (ONE, "a", "eu-west-1 us-east-1", "FAILED"),
        (TWO, "a", "eu-west-1", "FAILED"),
    ]


def carried_failure(resource: str, **more: Any) -> pl.DataFrame:
    row = {
        "report": "fsbp",
        "account_id": ONE,
        "region": "eu-west-1",
        "control_id": "S3.1",
        "resource_id": resource,
    }
    return CARRIED_FAILURES.empty().vstack(
        pl.DataFrame([row | more], schema=CARRIED_FAILURES.schema)
    )


def test_a_failure_without_a_finding_is_to_be_fixed_too() -> None:
    """It counts as failing until something is known of it, so it keeps its control from passing."""
    found = fixes_of(finding("WARNING", "b"), finding("FAILED"), carried=carried_failure("c"))
    assert [each[1:] for each in found] == [
        ("a", "eu-west-1", "FAILED"),
        ("c", "eu-west-1", "CARRIED"),
        ("b", "eu-west-1", "UNKNOWN"),
    ]


@pytest.mark.parametrize(
    ("status", "expected"), [("FAILED", "FAILED"), ("WARNING", "CARRIED"), ("PASSED", "CARRIED")]
)
def test_a_resource_that_is_carried_in_one_region_and_found_in_another_is_one(
    status: str, expected: str
) -> None:
    found = fixes_of(finding(status), carried=carried_failure("a", region="us-east-1"))
    regions = "us-east-1" if status == "PASSED" else "eu-west-1 us-east-1"
    assert found == [(ONE, "a", regions, expected)]


# --- the promise ------------------------------------------------------------------------------

DAY = date(2026, 11, 23)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STANDARD = Report(name="fsbp", standard="aws-foundational-security-best-practices/v/1.0.0")
PACK = Report(name="pack", conformance_pack="lz-framework")
RULES = Report(name="rules", custom_rules=["C.1", "C.2", "C.3"])
EXPECTED = ["C.1", "C.2", "C.3"]

Check = tuple[str, str, str, str]
"""Account, control, resource, region."""

CHECKS = st.tuples(
    st.sampled_from([ONE, TWO]),
    st.sampled_from([*EXPECTED, "C.4"]),
    st.sampled_from(["a", "b", ""]),
    st.sampled_from(["eu-west-1", "us-east-1"]),
)
OUTCOMES = st.tuples(
    st.sampled_from(["PASSED", "FAILED", "FAILED", "WARNING", "NOT_AVAILABLE", None]),
    st.sampled_from(["NEW", "NEW", "NEW", "SUPPRESSED", "RESOLVED", None]),
    st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "ARCHIVED"]),
)
FINDINGS = st.lists(st.tuples(CHECKS, OUTCOMES), max_size=12)


def read_findings(report: Report, found: list[tuple[Check, Any]]) -> pl.LazyFrame:
    standard = report.kind == "standard"
    rows = [
        {
            "date": DAY,
            "finding_id": f"{number}",
            "account_id": account,
            "region": region,
            "resource_id": resource or None,
            "compliance_status": status,
            "workflow_status": workflow,
            "record_state": state,
            "updated_at": NOON,
            "consolidated": True if standard else None,
            "security_control_id": control if standard else None,
            "standards": f"standards/{report.standard}" if standard else None,
            "config_rule_name": None if standard else control,
            "rule_name": None if standard else control,
        }
        for number, ((account, control, resource, region), (status, workflow, state)) in enumerate(
            found
        )
    ]
    # Of another product: both accounts send findings, so rules without any are assumed to pass.
    rows += [
        {"date": DAY, "finding_id": each, "account_id": each, "record_state": "ACTIVE"}
        for each in (ONE, TWO)
    ]
    return pl.DataFrame(rows, schema=ACCOUNT_FINDINGS.schema).lazy()


def read_carried(report: Report, checks: list[Check]) -> pl.DataFrame:
    rows = [
        {
            "date": DAY,
            "report": report.name,
            "account_id": account,
            "region": region,
            "control_id": control,
            "resource_id": resource,
            "carried_since": DAY,
        }
        for account, control, resource, region in checks
    ]
    return pl.DataFrame(rows, schema=CARRIED_FAILURES.schema)


class Workload:
    """The findings and carried failures of two accounts, scored by the scoring rules."""

    def __init__(self, report: Report, findings: pl.LazyFrame, carried: pl.DataFrame) -> None:
        self.report, self.findings, self.carried = report, findings, carried
        rows = [{"report": report.name, "control_id": each, "enabled": True} for each in EXPECTED]
        self.expected = pl.DataFrame(rows, schema=EXPECTED_CONTROLS.schema)
        place = {"workload": "shop", "environment": "test"}
        names = ["account_name", "owner", "workload_source"]
        self.accounts = pl.DataFrame(
            [{"account_id": each, **place} for each in (ONE, TWO)],
            schema_overrides=dict.fromkeys(names, pl.String),
        )
        self.status = scoring.control_status(
            findings, self.expected, report, self.accounts, day=DAY, carried=carried
        )

    def score(self) -> float | None:
        context = scoring.ScoreContext(DAY, NOON, (self.report,))
        rows = scoring.workload_scores(self.status, self.expected, self.accounts, context)
        score: float | None = rows["score"].item()
        return score

    def controls(self) -> pl.DataFrame:
        return scoring.status_in_scope(self.status.lazy(), []).collect()

    def resources(self) -> pl.DataFrame:
        rows = findings_of_report(self.findings, self.report, self.expected)
        return (
            resources_to_fix(rows, self.carried)
            .filter(pl.col("control_id").is_in(EXPECTED))
            .collect()
        )

    def fixed(self, resources: pl.DataFrame) -> Workload:
        """The workload once these resources pass their controls, in every region."""
        keys = ["account_id", "control_id", "resource_id"]
        control = "security_control_id" if self.report.kind == "standard" else "rule_name"
        done = resources.select(keys).unique().with_columns(_fixed=True)
        findings = (
            self.findings.with_columns(
                control_id=pl.col(control), _resource=pl.col("resource_id").fill_null("")
            )
            .join(
                done.rename({"resource_id": "_resource"}).lazy(),
                on=["account_id", "control_id", "_resource"],
                how="left",
            )
            .with_columns(
                compliance_status=pl.when(pl.col("_fixed") & (pl.col("record_state") == "ACTIVE"))
                .then(pl.lit("PASSED"))
                .otherwise("compliance_status")
            )
            .select(ACCOUNT_FINDINGS.names)
        )
        # A failure without a finding ends when a finding of its resource passes.
        ended = self.carried.join(done, on=keys, how="semi")
        checks = ended.select("account_id", "control_id", "resource_id", "region").rows()
        seen = read_findings(self.report, [(each, ("PASSED", "NEW", "ACTIVE")) for each in checks])
        carried = self.carried.join(done, on=keys, how="anti")
        return Workload(self.report, pl.concat([findings, seen]), carried)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([STANDARD, PACK, RULES]),
    FINDINGS,
    st.lists(CHECKS, max_size=4, unique=True),
    st.floats(1, 100),
)
def test_the_listed_fixes_and_no_fewer_reach_the_promised_score(
    report: Report, found: list[tuple[Check, Any]], carried: list[Check], target: float
) -> None:
    seen = {check for check, (_, _, state) in found if state == "ACTIVE"}
    workload = Workload(
        report,
        read_findings(report, found),
        read_carried(report, [check for check in carried if check not in seen]),
    )
    now = workload.score()
    assume(now is not None)
    resources = workload.resources()
    rows = backlog(workload.controls(), resources, target)
    before, done = now, resources.clear()
    for row in rows.iter_rows(named=True):
        own = resources.filter(pl.col("control_id") == row["control_id"])
        assert own.height == row["to_fix"] == row["failed_resources"] + row["unknown_resources"]
        almost = workload.fixed(pl.concat([done, own.slice(1)])).score()
        assert almost == pytest.approx(before)
        done = pl.concat([done, own])
        assert done.height == row["fixed_so_far"]
        before = workload.fixed(done).score()
        assert row["score_after"] == pytest.approx(before)
    assert before == pytest.approx(100)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([STANDARD, PACK, RULES]), FINDINGS, st.lists(CHECKS, max_size=4, unique=True)
)
def test_the_control_status_counts_the_resources_that_the_backlog_lists(
    report: Report, found: list[tuple[Check, Any]], carried: list[Check]
) -> None:
    """So that the list in SQL, which has only the counts, is the same."""
    workload = Workload(report, read_findings(report, found), read_carried(report, carried))
    keys = ["account_id", "control_id"]
    listed = (
        workload.resources()
        .group_by(keys)
        .agg(
            failed_resources=pl.col("status").is_in(["FAILED", "CARRIED"]).sum().cast(pl.Int64),
            unknown_resources=(pl.col("status") == "UNKNOWN").sum().cast(pl.Int64),
        )
    )
    counted = workload.status.select(listed.columns).filter(
        pl.col("failed_resources") + pl.col("unknown_resources") > 0
    )
    assert_frame_equal(listed, counted, check_row_order=False)
