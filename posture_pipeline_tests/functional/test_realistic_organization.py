"""A realistic organization through the real job: every status is what the simulation knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl
import pytest

from posture_pipeline.schemas import ACCOUNT_SCORES, CONTROL_STATUS
from posture_pipeline.settings import DEMO_REPORTS, Metrics, Report
from posture_pipeline.simulation import story
from posture_pipeline.simulation.catalogue import (
    CIS_3_0,
    CUSTOM_RULES,
    FSBP,
    PACK_RULES,
    SECOND_PACK_RULES,
    controls,
)
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SCORED, SimulatedDays, failures, simulated_days

pytestmark = pytest.mark.functional

REALISTIC = SimulationSettings(accounts=8, resources_per_account=8, rate_limit=None).realistic()
_CYCLE = story.day_number(date(2026, 3, 2)) // story.CYCLE_DAYS * story.CYCLE_DAYS
STALE_DAY = story.date_of(_CYCLE + story.CONTROL_DISABLED.start + 1)
BROKEN_DAY = story.date_of(_CYCLE + story.BROKEN_RULE.start)
BEFORE_BROKEN = BROKEN_DAY - timedelta(days=1)
DAYS = (STALE_DAY, BEFORE_BROKEN, BROKEN_DAY)
REPORTS = (*DEMO_REPORTS, Report(name="baseline", conformance_pack="lz-baseline"))
RULES = {
    "lz-pack": {rule.name: rule.key for rule in PACK_RULES},
    "baseline": {rule.name: rule.key for rule in SECOND_PACK_RULES},
    "lz-rules": {rule.name: rule.key for rule in CUSTOM_RULES},
}
COPIES = {rule.name for rule in PACK_RULES} & {rule.name for rule in SECOND_PACK_RULES}
STANDARDS = {"fsbp": FSBP, "cis-v3": CIS_3_0}


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    folder = tmp_path_factory.mktemp("realistic")
    metrics = Metrics(namespace="Realistic")
    with simulated_days(folder, REALISTIC, reports=REPORTS, metrics=metrics) as made:
        for day in DAYS:
            # Nothing is withheld on a first day: everything that leaves the lake leaves it.
            result = made.run(day, selection=None if day == DAYS[0] else SCORED)
            assert result.success, failures(result)
        yield made


def statuses(days: SimulatedDays, day: date) -> dict[tuple[str, str, str], tuple[str, bool]]:
    """Return status, and whether it was carried, by report, account and control."""
    return {
        (row["report"], row["account_id"], row["control_id"]): (
            row["status"],
            row["carried_findings"] > 0,
        )
        for row in days.lake.read(CONTROL_STATUS, day).iter_rows(named=True)
    }


@pytest.mark.parametrize("day", DAYS)
def test_every_status_is_what_the_simulation_knows(days: SimulatedDays, day: date) -> None:
    organization = days.server.organization
    found = statuses(days, day)
    compared: Counter[tuple[str, str]] = Counter()
    wrong = []
    for account in organization.accounts(day):
        truth = organization.control_statuses(account, day)
        if account.state != "ACTIVE" or not truth:
            continue
        for (report, account_id, control), (status, carried) in found.items():
            if account_id != account.account_id or carried:
                continue
            if report in STANDARDS:
                # A control without evidence has no data.
                assert STANDARDS[report] in controls()[control].standards
                wanted = truth.get(control, "NO_DATA")
            else:
                # A rule that AWS Config never reported has always complied.
                wanted = truth.get(RULES[report][control], "PASSED")
            if status != wanted and control not in COPIES:
                wrong.append((report, account.name, control, status, wanted))
            compared[report, status] += 1
    assert not wrong
    for report in (*STANDARDS, *RULES):
        assert compared[report, "PASSED"], report
        assert compared[report, "FAILED"], report


def test_every_account_score_is_the_share_of_controls_that_truly_passed(
    days: SimulatedDays,
) -> None:
    organization = days.server.organization
    controls_of: dict[tuple[str, str], set[str]] = {}
    for report, account_id, control in statuses(days, DAYS[0]):
        controls_of.setdefault((report, account_id), set()).add(control)
    scores = {
        (row["report"], row["account_id"]): row["score"]
        for row in days.lake.read(ACCOUNT_SCORES, DAYS[0]).iter_rows(named=True)
    }
    compared = Counter[str]()
    for account in organization.accounts(DAYS[0]):
        truth = organization.control_statuses(account, DAYS[0])
        for report in (*STANDARDS, *RULES):
            controls_here = controls_of.get((report, account.account_id), set())
            if account.state != "ACTIVE" or not truth or controls_here & COPIES:
                continue
            if report in STANDARDS:
                found = [truth[control] for control in controls_here if control in truth]
            else:
                keys = (RULES[report][control] for control in controls_here)
                found = [truth.get(key, "PASSED") for key in keys]
            wanted = 100 * found.count("PASSED") / len(found)
            assert scores[report, account.account_id] == pytest.approx(wanted), account.name
            compared[report] += 1
    assert min(compared[report] for report in ("fsbp", "cis-v3", "lz-rules")) >= 6


def test_a_stale_failure_is_not_scored(days: SimulatedDays) -> None:
    organization = days.server.organization
    account = organization.accounts(STALE_DAY)[2]
    failing = [
        f
        for f in organization.findings(account, STALE_DAY)
        if f["GeneratorId"] == f"security-control/{story.DISABLED_CONTROL}"
        and f["Compliance"]["Status"] == "FAILED"
    ]
    assert {f["RecordState"] for f in failing} == {"ACTIVE"}
    key = ("fsbp", account.account_id, story.DISABLED_CONTROL)
    assert statuses(days, STALE_DAY)[key] == ("NO_DATA", False)


def test_a_score_never_rises_for_evidence_that_a_broken_rule_lost(days: SimulatedDays) -> None:
    account = days.server.organization.accounts(BROKEN_DAY)[1]
    key = ("fsbp", account.account_id, story.BROKEN_RULE_CONTROL)
    assert statuses(days, BEFORE_BROKEN)[key][0] == "FAILED"
    assert statuses(days, BROKEN_DAY)[key][0] != "PASSED"


def test_a_deleted_resource_leaves_its_rule_passed(days: SimulatedDays) -> None:
    organization = days.server.organization
    deleted = 0
    for account in organization.accounts(BROKEN_DAY):
        rules: dict[str, set[str]] = {}
        for finding in organization.findings(account, BROKEN_DAY):
            kind = finding["ProductFields"].get("aws/config/ConfigComplianceType")
            if kind and finding["RecordState"] == "ACTIVE":
                name = finding["Title"].removeprefix("OrgConfigRule-").rpartition("-")[0]
                rules.setdefault(name, set()).add(kind)
        for name, kinds in rules.items():
            key = ("lz-rules", account.account_id, name)
            if "NOT_APPLICABLE" in kinds and "NON_COMPLIANT" not in kinds:
                assert statuses(days, BROKEN_DAY)[key] == ("PASSED", False)
                deleted += 1
    assert deleted


def test_every_resource_that_a_finding_lists_is_counted(days: SimulatedDays) -> None:
    organization = days.server.organization
    rows = days.lake.read(CONTROL_STATUS, BEFORE_BROKEN).filter(pl.col("report") == "fsbp")
    several = 0
    for account in organization.accounts(BEFORE_BROKEN):
        failing: dict[str, set[str]] = {}
        for finding in organization.findings(account, BEFORE_BROKEN):
            if (
                finding["ProductArn"].endswith("aws/securityhub")
                and finding["RecordState"] == "ACTIVE"
                and finding["Compliance"]["Status"] == "FAILED"
                and finding["Workflow"]["Status"] != "SUPPRESSED"
            ):
                control = finding["Compliance"]["SecurityControlId"]
                resources = [resource["Id"] for resource in finding["Resources"]]
                failing.setdefault(control, set()).update(resources)
                several += len(resources) > 1
        for row in rows.filter(pl.col("account_id") == account.account_id).to_dicts():
            if row["control_id"] in failing and row["status"] == "FAILED":
                assert row["failed_resources"] == len(failing[row["control_id"]]), row
    assert several
