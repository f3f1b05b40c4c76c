"""Which controls a report expects on a day: imports, recomputed days, and what AWS cannot list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.assets import ingest
from posture_pipeline.lake import control_notes, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.metrics import metric_data
from posture_pipeline.report.day_summary import summary_of
from posture_pipeline.running import replay_days
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_TABLES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import DEMO_REPORTS, Report
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.saved_days import (
    ACCOUNT,
    REGION,
    Record,
    control_finding,
    rule_finding,
    saved_days,
)
from posture_pipeline_tests.saved_days import STANDARD as FSBP
from posture_pipeline_tests.simulated_days import (
    SCORED,
    SimulatedDays,
    failures,
    materialized,
    simulated_days,
)

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 20)
NEXT = DAY + timedelta(days=1)
THIRD = DAY + timedelta(days=2)
FRESH, AGED = "2026-11-19", "2026-08-24"
"""When a finding was updated: the day before, and so long ago that AWS deletes it."""


def check(control: str, status: str = "PASSED", updated: str = FRESH) -> Record:
    """A consolidated finding of a control, on a resource of its own."""
    at = f"{updated}T00:00:00Z"
    return control_finding(control, status, f"of-{control}", on=DAY, UpdatedAt=at)


def rule(
    name: str, status: str = "PASSED", updated: str = FRESH, *, of_pack: bool = True
) -> Record:
    """A finding of a Config rule, of a conformance pack unless said otherwise."""
    place = f"arn:aws:config:{REGION}:{ACCOUNT}:config-rule"
    service = "aws-service-rule/config-conforms.amazonaws.com/" if of_pack else ""
    return rule_finding(
        f"{name}-conformance-pack-a1b2c3d4e" if of_pack else name,
        status,
        f"of-{name}",
        arn=f"{place}/{service}config-rule-{name}",
        UpdatedAt=f"{updated}T00:00:00Z",
    )


@dataclass
class Imports:
    """A lake of its own, filled from saved findings."""

    folder: Path
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return saved_days(self.folder, self.instance).lake

    def add(self, day: date, findings: list[Record], *reports: Report) -> None:
        """Imports a day and scores it."""
        days = saved_days(self.folder, self.instance, *reports)
        days.store(day, findings, selection=[*SCORED, "score_changes"])

    def replay(self, days: list[date], *reports: Report) -> None:
        settings = saved_days(self.folder, self.instance, *reports).settings
        replay_days(settings, days, instance=self.instance, tell=lambda _: None)

    def scores(self, report: str = "fsbp") -> dict[date, float | None]:
        of_report = pl.col("report") == report
        return {
            day: self.lake.read(ACCOUNT_SCORES, day).filter(of_report)["score"].item()
            for day in self.lake.days(ACCOUNT_SCORES.name)
        }

    def expected(self, day: date, report: str = "fsbp") -> list[str]:
        rows = self.lake.read(EXPECTED_CONTROLS, day).filter(pl.col("report") == report)
        return rows["control_id"].sort().to_list()

    def causes(self, day: date) -> set[str]:
        """Why anything changed on a day, of a finding or of a score."""
        tables = (FINDING_CHANGES, SCORE_CHANGE_CAUSES)
        return {cause for table in tables for cause in self.lake.read(table, day)["cause"]}


@pytest.fixture
def imports(tmp_path: Path) -> Iterator[Imports]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Imports(tmp_path, instance)


# --- recomputed days --------------------------------------------------------------------------


def test_a_recomputed_day_ends_equal_to_a_fresh_lake_when_the_report_changed(
    imports: Imports, tmp_path: Path
) -> None:
    findings = [rule("lz-a", of_pack=False), rule("lz-b", "FAILED", of_pack=False), check("S3.1")]
    old, new = (Report(name="lz", custom_rules=rules) for rules in (("lz-a",), ("lz-a", "lz-b")))
    imports.add(DAY, findings, old)
    imports.add(NEXT, findings, old)
    assert imports.scores("lz") == {DAY: 100.0, NEXT: 100.0}
    imports.replay([DAY, NEXT], new)
    (tmp_path / "fresh").mkdir()
    fresh = Imports(tmp_path / "fresh", imports.instance)
    for day in (DAY, NEXT):
        fresh.add(day, findings, new)
    assert imports.scores("lz") == fresh.scores("lz") == {DAY: 50.0, NEXT: 50.0}
    for table in (EXPECTED_CONTROLS, CONTROL_STATUS, FINDING_CHANGES, *SCORE_TABLES):
        for day in (DAY, NEXT):
            assert imports.lake.read(table, day).equals(fresh.lake.read(table, day)), table.name


def test_a_changed_definition_never_reuses_stored_controls_and_a_renamed_report_does(
    imports: Imports,
) -> None:
    imports.add(DAY, [check("S3.1", "FAILED"), check("EC2.2")], FSBP)
    renamed = Report(name="best-practices", standard=FSBP.standard)
    other = Report(name="fsbp", standard="pci-dss/v/4.0.1")
    stored = snapshot.expected_of(imports.lake, [renamed], DAY)
    assert stored["control_id"].to_list() == ["EC2.2", "S3.1"]
    assert set(stored["report"]) == {"best-practices"}
    assert snapshot.expected_of(imports.lake, [other], DAY).is_empty()
    # The next day keeps what the standard had before, under whichever name; not the other's.
    imports.add(NEXT, [check("EC2.2")], renamed, other)
    assert imports.expected(NEXT, "best-practices") == ["EC2.2", "S3.1"]
    assert imports.expected(NEXT, "fsbp") == []


# --- controls that only findings name ---------------------------------------------------------


@pytest.mark.parametrize("name", ["pack", "pack-with-rules"])
def test_a_failing_pack_rule_whose_finding_aged_out_still_fails(
    imports: Imports, name: str
) -> None:
    rules = ("lz-s3", "lz-vpc") if name == "pack-with-rules" else None
    pack = Report(name="pk", conformance_pack="lz-framework", rules=rules)
    imports.add(DAY, [rule("lz-s3", "FAILED", AGED), rule("lz-vpc")], pack)
    imports.add(NEXT, [rule("lz-vpc")], pack)
    imports.add(THIRD, [rule("lz-vpc")], pack)
    assert imports.scores("pk") == {DAY: 50.0, NEXT: 50.0, THIRD: 50.0}
    assert imports.lake.read(CARRIED_FAILURES, THIRD)["control_id"].to_list() == ["lz-s3"]
    assert imports.causes(NEXT) == {"aged_out"}
    assert imports.causes(THIRD) == set()


def test_a_control_whose_aged_finding_vanished_is_carried_and_not_removed(
    imports: Imports,
) -> None:
    rest = [check("EC2.2"), check("IAM.3")]
    imports.add(DAY, [check("S3.1", "FAILED", AGED), *rest], FSBP)
    imports.add(NEXT, rest, FSBP)
    assert imports.scores() == {DAY: pytest.approx(200 / 3), NEXT: pytest.approx(200 / 3)}
    assert imports.causes(NEXT) == {"aged_out"}
    assert imports.expected(NEXT) == ["EC2.2", "IAM.3", "S3.1"]


def test_a_control_whose_last_finding_vanished_is_lost_evidence_and_not_removed(
    imports: Imports,
) -> None:
    rest = [check("EC2.2"), check("IAM.3")]
    imports.add(DAY, [check("S3.1", "FAILED"), *rest], FSBP)
    imports.add(NEXT, rest, FSBP)
    assert imports.causes(NEXT) == {"no_evidence"}
    assert imports.expected(NEXT) == ["EC2.2", "IAM.3", "S3.1"]
    kept = imports.lake.read(EXPECTED_CONTROLS, NEXT).filter(pl.col("control_id") == "S3.1")
    assert kept["as_of"].to_list() == [DAY], "the day on which a finding last named it"
    imports.add(THIRD, [check("S3.1", "FAILED"), *rest], FSBP)
    assert imports.scores()[THIRD] == pytest.approx(200 / 3)
    assert imports.causes(THIRD) == {"new_failing_resource"}, "the control was never away"


# --- what AWS cannot list ---------------------------------------------------------------------

SMALL = SimulationSettings(accounts=6, resources_per_account=5, rate_limit=None)
FIRST = date(2026, 3, 2)
SECOND = FIRST + timedelta(days=1)
CIS = next(each for each in DEMO_REPORTS if each.name == "cis-v3")


def denied(operation: str, status: int = 403, code: str = "AccessDeniedException") -> list[Any]:
    error = {"kind": "error", "operation": operation, "status": status, "code": code}
    return [{**error, "times": None}]


def scores_on(days: SimulatedDays, day: date) -> dict[str, float | None]:
    rows = days.lake.read(ORGANIZATION_SCORES, day)
    return dict(rows.select("report", "score").iter_rows())


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        each.check_name: str(each.description)
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }


def test_a_report_whose_controls_cannot_be_listed_is_withheld_and_the_others_are_published(
    tmp_path: Path,
) -> None:
    with simulated_days(tmp_path, SMALL) as days:
        result = days.run(FIRST)
        assert result.success, (failures(result), failed_checks(result))
        before = scores_on(days, FIRST)
        days.server.inject(denied("DescribeConformancePackCompliance"))
        result = days.run(SECOND)
        assert result.success, (failures(result), failed_checks(result))
        after = days.lake.read(ORGANIZATION_SCORES, SECOND)
        assert set(after.filter(pl.col("score").is_null())["report"]) == {"lz-pack"}
        (row,) = after.filter(pl.col("report") == "lz-pack").iter_rows(named=True)
        assert row["reason"].startswith("withheld: ")
        assert "config:DescribeConformancePackCompliance is missing" in row["reason"]
        assert row["last_score"] == before["lz-pack"]
        assert row["last_score_date"] == FIRST
        for table in SCORE_TABLES:
            of_pack = days.lake.read(table, SECOND).filter(pl.col("report") == "lz-pack")
            assert of_pack.height > 0
            assert of_pack["score"].null_count() == of_pack["failed"].null_count() == of_pack.height
        published = metric_data(
            days.lake.read(WORKLOAD_SCORES, SECOND), days.lake.read(ORGANIZATION_SCORES, SECOND)
        ).data
        of_reports = {value for each in published for _, value in each.dimensions}
        assert {"fsbp", "cis-v3", "lz-rules"} <= of_reports
        assert "lz-pack" not in of_reports
        assert "lz-pack" in failed_checks(result)["every_report_knows_its_controls"]
        assert {"cloudwatch_metrics", "posture_report"} <= materialized(result)
        # The controls are still there, so that no failure counts as gone and what is carried stays.
        removed = {"control_removed", "control_added"}
        assert not removed & set(days.lake.read(FINDING_CHANGES, SECOND)["cause"])
        days.server.clear()
        third = SECOND + timedelta(days=1)
        assert days.run(third).success
        assert None not in scores_on(days, third).values()
        assert not removed & set(days.lake.read(FINDING_CHANGES, third)["cause"])


def test_where_no_report_can_be_listed_the_run_fails(tmp_path: Path) -> None:
    with simulated_days(tmp_path, SMALL, reports=DEMO_REPORTS[:1]) as days:
        days.server.inject(
            [*denied("ListSecurityControlDefinitions"), *denied("GetEnabledStandards")]
        )
        result = days.run(FIRST, selection=SCORED)
        assert not result.success
        assert "securityhub:GetEnabledStandards" in failures(result)["listed_controls"]
        assert days.lake.commit_of(ACCOUNT_SCORES.name, FIRST) is None


def test_a_standard_that_is_off_in_the_audit_account_scores_as_if_it_were_on(
    tmp_path: Path,
) -> None:
    found: dict[str, pl.DataFrame] = {}
    for name, off in (("on", ()), ("off", (CIS.standard,))):
        simulation = SimulationSettings(
            accounts=6, resources_per_account=5, rate_limit=None, standards_off=off
        )
        (tmp_path / name).mkdir()
        with simulated_days(tmp_path / name, simulation) as days:
            result = days.run(FIRST, selection=SCORED)
            assert result.success, failures(result)
            found[name] = days.lake.read(ORGANIZATION_SCORES, FIRST)
            controls = days.lake.read(EXPECTED_CONTROLS, FIRST)
            notes = control_notes.notes_of(days.lake, FIRST)
            summary = summary_of(days.lake, days.settings, FIRST).whole
    figures = ["report", "score", "passed", "failed", "failed_findings", "reason"]
    assert found["on"].select(figures).equals(found["off"].select(figures))
    assert set(controls.filter(pl.col("report") == "cis-v3")["source"]) == {"findings"}
    assert set(notes) == {"cis-v3"}
    assert "is not enabled in eu-west-1 of the audit account" in notes["cis-v3"]
    assert "cis-v3: The standard" in summary


def test_a_standard_that_no_account_has_is_withheld_with_the_reason(tmp_path: Path) -> None:
    nobody = Report(name="nist", standard="nist-800-53/v/5.0.0")
    with simulated_days(tmp_path, SMALL, reports=(*DEMO_REPORTS[:1], nobody)) as days:
        result = days.run(FIRST, selection=SCORED)
        assert result.success, failures(result)
        rows = days.lake.read(ORGANIZATION_SCORES, FIRST)
        (row,) = rows.filter(pl.col("report") == "nist").iter_rows(named=True)
        assert row["score"] is None
        assert "No finding names a control of it either" in row["reason"]


def test_a_standard_that_is_not_ready_keeps_yesterdays_controls_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "RETRIES", dg.RetryPolicy(max_retries=1, delay=0.01))
    simulation = SimulationSettings(
        accounts=6,
        resources_per_account=5,
        rate_limit=None,
        standards_pending=(CIS.standard,),
        pending_on=(SECOND,),
    )
    with simulated_days(tmp_path, simulation) as days:
        for day in (FIRST, SECOND):
            result = days.run(day, selection=SCORED)
            assert result.success, failures(result)
        asked = len(days.server.calls("GetEnabledStandards"))
        assert asked == 2, "once, and once again before the earlier controls are taken"
        rows = days.lake.read(EXPECTED_CONTROLS, SECOND).filter(pl.col("report") == "cis-v3")
        yesterday = days.lake.read(EXPECTED_CONTROLS, FIRST).filter(pl.col("report") == "cis-v3")
        assert rows["control_id"].equals(yesterday["control_id"])
        assert set(rows["as_of"]) == {FIRST}
        assert set(rows["source"]) == {"security_hub"}
        assert "is not ready" in control_notes.notes_of(days.lake, SECOND)["cis-v3"]
        assert scores_on(days, SECOND)["cis-v3"] is not None
        assert "cis-v3" in failed_checks(result)["every_report_knows_its_controls"]


def test_a_standard_that_is_not_ready_on_the_first_day_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "RETRIES", dg.RetryPolicy(max_retries=0))
    simulation = SimulationSettings(
        accounts=6,
        resources_per_account=5,
        rate_limit=None,
        standards_pending=(CIS.standard,),
        pending_on=(FIRST,),
    )
    with simulated_days(tmp_path, simulation) as days:
        assert days.run(FIRST, selection=SCORED).success
        rows = days.lake.read(ACCOUNT_SCORES, FIRST)
        of_cis = rows.filter(pl.col("report") == "cis-v3")
        assert of_cis["score"].null_count() == of_cis.height > 0
        assert of_cis["reason"].str.contains("is not ready").all()


def test_what_an_earlier_run_of_the_day_listed_is_not_lost_by_a_later_one(tmp_path: Path) -> None:
    with simulated_days(tmp_path, SMALL) as days:
        assert days.run(FIRST, selection=SCORED).success
        before = scores_on(days, FIRST)
        days.server.inject(denied("DescribeConformancePackCompliance"))
        assert days.run(FIRST, selection=SCORED).success
        assert scores_on(days, FIRST) == before


def test_all_standards_score_every_control_once(tmp_path: Path) -> None:
    every = Report(name="all", all_standards=True)
    with simulated_days(tmp_path, SMALL, reports=(*DEMO_REPORTS[:2], every)) as days:
        result = days.run(FIRST, selection=SCORED)
        assert result.success, failures(result)
        status = days.lake.read(CONTROL_STATUS, FIRST)
    columns = ["account_id", "control_id", "status", "failed_findings", "passed_findings"]
    of_all = status.filter(pl.col("report") == "all").select(columns)
    single = status.filter(pl.col("report") != "all").select(columns)
    assert of_all.select("account_id", "control_id").is_unique().all()
    # A control of a standard is the same control in all of them, with the same findings.
    assert single.unique().join(of_all, on=columns, how="anti").is_empty()
    assert of_all.filter(pl.col("status") == "FAILED").height > 0
