"""A realistic organization through the real job: every status is what the simulation knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from posture_pipeline.schemas import ACCOUNT_SCORES, CONTROL_STATUS
from posture_pipeline.settings import DEMO_REPORTS, Metrics, Report
from posture_pipeline.simulation import story
from posture_pipeline.simulation.catalogue import (
    CIS_3_0,
    CIS_AZURE,
    CONFIG_RULES,
    CUSTOM_RULES,
    FSBP,
    PACK_RULES,
    SECOND_PACK_RULES,
)
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SCORED, SimulatedDays, failures, simulated_days

pytestmark = pytest.mark.functional

REALISTIC = SimulationSettings(accounts=8, resources_per_account=8, rate_limit=None).realistic()
_CYCLE = story.day_number(date(2026, 9, 2)) // story.CYCLE_DAYS * story.CYCLE_DAYS
STALE_DAY = story.date_of(_CYCLE + story.CONTROL_DISABLED.start + 1)
BROKEN_DAY = story.date_of(_CYCLE + story.BROKEN_RULE.start)
BEFORE_BROKEN = BROKEN_DAY - timedelta(days=1)
DAYS = (STALE_DAY, BEFORE_BROKEN, BROKEN_DAY)
Key = tuple[str, str, str]
REPORTS = (
    *DEMO_REPORTS,
    Report(name="baseline", conformance_pack="lz-baseline"),
    Report(name="azure", standard=CIS_AZURE.removeprefix("standards/")),
)
RULES = {
    "lz-pack": {rule.name: rule.key for rule in PACK_RULES},
    "baseline": {rule.name: rule.key for rule in SECOND_PACK_RULES},
    "lz-rules": {rule.name: rule.key for rule in CUSTOM_RULES},
}
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


def rows(days: SimulatedDays, day: date) -> dict[Key, dict[str, Any]]:
    """Return the control statuses of a day by report, account and control."""
    table = days.lake.read(CONTROL_STATUS, day)
    return {
        (row["report"], row["account_id"], row["control_id"]): row
        for row in table.iter_rows(named=True)
    }


def allowed(truth: dict[str, str], report: str, control: str) -> set[str]:
    """Return the statuses that a control may have: one, unless two packs hold the rule.

    Where the findings of an account do not tell whose a copy is, it counts for both packs.
    """
    if report in STANDARDS:
        # A control without evidence has no data.
        return {truth.get(control, "NO_DATA")}
    # A rule that AWS Config never reported has always complied.
    own = truth.get(RULES[report][control], "PASSED")
    copies = {truth.get(rule.key) for rule in CONFIG_RULES.values() if rule.name == control}
    return {own, "FAILED"} if "FAILED" in copies else {own}


@pytest.mark.parametrize("day", DAYS)
def test_every_status_is_what_the_simulation_knows(days: SimulatedDays, day: date) -> None:
    organization = days.server.organization
    found = rows(days, day)
    compared: Counter[tuple[str, str]] = Counter()
    wrong = []
    for account in organization.reporting_accounts(day):
        truth = organization.control_statuses(account, day)
        if account.state != "ACTIVE" or not truth:
            continue
        for (report, account_id, control), row in found.items():
            if account_id != account.account_id or row["carried_findings"] or report == "azure":
                continue
            wanted = allowed(truth, report, control)
            if row["status"] not in wanted:
                wrong.append((report, account.name, control, row["status"], wanted))
            compared[report, row["status"]] += 1
    assert not wrong
    for report in (*STANDARDS, *RULES):
        assert compared[report, "PASSED"], report
        assert compared[report, "FAILED"], report


def test_every_account_score_is_the_share_of_controls_that_truly_passed(
    days: SimulatedDays,
) -> None:
    organization = days.server.organization
    found = rows(days, DAYS[0])
    scores = {
        (row["report"], row["account_id"]): row["score"]
        for row in days.lake.read(ACCOUNT_SCORES, DAYS[0]).iter_rows(named=True)
    }
    compared = Counter[str]()
    for account in organization.reporting_accounts(DAYS[0]):
        truth = organization.control_statuses(account, DAYS[0])
        if account.state != "ACTIVE" or not truth:
            continue
        for name in (*STANDARDS, *RULES):
            wanted = [
                allowed(truth, report, control)
                for report, account_id, control in found
                if (report, account_id) == (name, account.account_id)
            ]
            counted = [each for each in wanted if each != {"NO_DATA"}]
            if all(len(each) == 1 for each in counted):
                score = 100 * counted.count({"PASSED"}) / len(counted)
                assert scores[name, account.account_id] == pytest.approx(score), account.name
                compared[name] += 1
    assert min(compared[report] for report in (*STANDARDS, "lz-rules")) >= 6
    assert min(compared[report] for report in RULES) >= 1


def test_an_azure_subscription_is_scored_apart_from_the_account_of_its_connector(
    days: SimulatedDays,
) -> None:
    organization = days.server.organization
    (subscription,) = {
        finding["Resources"][0]["Owner"]["Account"]["Id"]
        for finding in organization.findings(organization.accounts(DAYS[-1])[0], DAYS[-1])
        if finding["Resources"][0].get("Provider") == "Azure"
    }
    scores = days.lake.read(ACCOUNT_SCORES, DAYS[-1])
    sources = dict(scores.select("account_id", "account_source").iter_rows())
    assert sources[subscription] == "connector"
    assert sources[organization.audit_account_id] == "organizations"
    azure = scores.filter(pl.col("report") == "azure", pl.col("score").is_not_null())
    assert azure.select("account_id", "score").rows() == [(subscription, 50.0)]


def test_an_account_that_organizations_does_not_list_is_scored_and_labelled(
    days: SimulatedDays,
) -> None:
    organization = days.server.organization
    unlisted = organization.reporting_accounts(DAYS[0])[-1].account_id
    scores = days.lake.read(ACCOUNT_SCORES, DAYS[0]).filter(pl.col("report") == "fsbp")
    sources = dict(scores.select("account_id", "account_source").iter_rows())
    assert sources[unlisted] == "findings"
    assert scores.filter(pl.col("account_id") == unlisted)["score"].is_not_null().all()


def test_one_of_two_packs_fails_a_rule_that_both_have(days: SimulatedDays) -> None:
    account = days.server.organization.accounts(STALE_DAY)[1]
    found = rows(days, STALE_DAY)
    copies = [found[pack, account.account_id, "lz-rule-1"] for pack in ("lz-pack", "baseline")]
    assert [row["status"] for row in copies] == ["PASSED", "FAILED"]
    assert [row["unclear_copies"] for row in copies] == [0, 0]


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
    row = rows(days, STALE_DAY)[key]
    assert row["status"] == "NO_DATA"
    assert row["stale_findings"] >= len(failing)


def test_a_score_never_rises_for_evidence_that_a_broken_rule_lost(days: SimulatedDays) -> None:
    account = days.server.organization.accounts(BROKEN_DAY)[1]
    key = ("fsbp", account.account_id, story.BROKEN_RULE_CONTROL)
    assert rows(days, BEFORE_BROKEN)[key]["status"] == "FAILED"
    assert rows(days, BROKEN_DAY)[key]["status"] != "PASSED"


def test_a_deleted_resource_leaves_its_rule_passed(days: SimulatedDays) -> None:
    organization = days.server.organization
    found = rows(days, BROKEN_DAY)
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
                assert found[key]["status"] == "PASSED"
                deleted += 1
    assert deleted


def test_every_resource_that_a_finding_lists_is_counted(days: SimulatedDays) -> None:
    organization = days.server.organization
    found = rows(days, BEFORE_BROKEN)
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
                listed = [resource["Id"] for resource in finding["Resources"]]
                failing.setdefault(control, set()).update(listed)
                several += len(listed) > 1
        for control, resources in failing.items():
            row = found.get(("fsbp", account.account_id, control))
            if row is not None and row["status"] == "FAILED":
                assert row["failed_resources"] == len(resources), row
    assert several
