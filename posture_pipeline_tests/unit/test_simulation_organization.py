"""The simulated organization without a network: deterministic, plausible, true to its own story."""

from __future__ import annotations

import collections
import datetime as dt
import json
import subprocess
import sys
from typing import Any

import pytest

from posture_pipeline.simulation import story
from posture_pipeline.simulation.accounts import HOSTILE_NAME
from posture_pipeline.simulation.catalogue import FSBP, controls
from posture_pipeline.simulation.organization import (
    ABSENT,
    STORY_CAUSES,
    SimulatedOrganization,
)
from posture_pipeline.simulation.settings import (
    RateLimit,
    SimulationSettings,
    SimulationSettingsError,
)

DAY = dt.date(2026, 11, 23)


def organization(**settings: Any) -> SimulatedOrganization:
    return SimulatedOrganization(SimulationSettings(**settings))


def all_findings(org: SimulatedOrganization, day: dt.date) -> list[dict]:
    return [f for account in org.accounts(day) for f in org.findings(account, day)]


def effective_status(finding: dict) -> str:
    if finding["Workflow"]["Status"] == "SUPPRESSED":
        return "SUPPRESSED"
    return finding["Compliance"]["Status"]


def effective_statuses(org: SimulatedOrganization, day: dt.date) -> dict[str, str]:
    return {
        f["Id"]: effective_status(f)
        for account in org.accounts(day)
        if account.state == "ACTIVE"
        for f in org.findings(account, day)
        if f["RecordState"] == "ACTIVE" and "Compliance" in f
    }


def scores(org: SimulatedOrganization, day: dt.date) -> dict[str, float]:
    """Return each account's score of the foundational standard, by AWS's rules."""
    seen: dict = collections.defaultdict(lambda: collections.defaultdict(set))
    for finding in all_findings(org, day):
        compliance = finding.get("Compliance", {})
        standards = {s["StandardsId"] for s in compliance.get("AssociatedStandards", ())}
        if finding["RecordState"] == "ACTIVE" and FSBP in standards:
            status = effective_status(finding)
            if status != "SUPPRESSED":
                control = compliance["SecurityControlId"]
                seen[finding["AwsAccountId"]][control].add(status)
    return {
        account: 100 * sum(s == {"PASSED"} for s in found.values()) / len(found)
        for account, found in seen.items()
    }


def test_the_same_settings_give_the_same_findings_in_another_process_and_order() -> None:
    script = (
        "import datetime as dt, hashlib, json\n"
        "from posture_pipeline.simulation.organization import SimulatedOrganization\n"
        "from posture_pipeline.simulation.settings import SimulationSettings\n"
        "o = SimulatedOrganization(SimulationSettings(accounts=6))\n"
        "d = dt.date(2026, 11, 23)\n"
        "list(o.findings(o.accounts(d - dt.timedelta(5))[2], d - dt.timedelta(5)))\n"
        "f = [x for a in reversed(o.accounts(d)) for x in o.findings(a, d)]\n"
        "f.sort(key=lambda x: x['Id'])\n"
        "print(hashlib.sha256(json.dumps(f, sort_keys=True).encode()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_is_another_organization() -> None:
    one, two = organization(seed=1), organization(seed=2)
    assert {a.account_id for a in one.accounts(DAY)}.isdisjoint(
        a.account_id for a in two.accounts(DAY)
    )


@pytest.mark.parametrize("count", [5, 8, 24, 1000])
def test_an_organization_has_as_many_accounts_as_asked_for_while_the_visitor_is_there(
    count: int,
) -> None:
    org = organization(accounts=count)
    sizes = {len(org.accounts(DAY + dt.timedelta(n))) for n in range(12)}
    assert sizes == {count - 1, count}
    ids = [a.account_id for a in org.accounts(DAY + dt.timedelta(1))]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 12 and i.isdigit() for i in ids)


def test_account_ids_spread_over_all_first_digits() -> None:
    digits = {a.account_id[0] for a in organization().accounts(DAY)}
    assert digits == set("0123456789")


def test_accounts_carry_the_names_that_trip_pipelines() -> None:
    accounts = organization(accounts=30).accounts(DAY)
    names = [a.name for a in accounts]
    assert {"Sandbox Jane", "ACME-REPORTING-PRODUCTION", "acme-log-archive"} <= set(names)
    assert HOSTILE_NAME in names
    assert sum(a.state == "SUSPENDED" for a in accounts) == 1
    homes = collections.Counter((a.workload, a.environment) for a in accounts)
    assert homes[("payments", "production")] == 2
    hub = next(a for a in accounts if a.name == "IdentityHub")
    assert {"workload", "environment", "owner"} <= dict(hub.tags).keys()
    assert HOSTILE_NAME not in [
        a.name for a in organization(accounts=30, hostile_names=False).accounts(DAY)
    ]


@pytest.mark.parametrize("seed", [1, 7, 99])
@pytest.mark.parametrize("offset", [0, 5, 11])
def test_any_fourteen_days_hold_every_cause_of_the_story(seed: int, offset: int) -> None:
    org = organization(seed=seed, accounts=16, resources_per_account=10)
    first = dt.date(2026, 3, 1) + dt.timedelta(offset)
    found = set()
    for number in range(13):
        day = first + dt.timedelta(number)
        found |= {c.cause for c in org.changes_between(day, day + dt.timedelta(1))}
    assert set(STORY_CAUSES) <= found


@pytest.mark.parametrize("accounts", [5, 6])
def test_the_smallest_organizations_tell_the_whole_story_too(accounts: int) -> None:
    org = organization(accounts=accounts, resources_per_account=5)
    found = set()
    for number in range(13):
        day = DAY + dt.timedelta(number)
        found |= {c.cause for c in org.changes_between(day, day + dt.timedelta(1))}
    assert set(STORY_CAUSES) <= found


@pytest.mark.parametrize("days_apart", [1, 3, 30])
@pytest.mark.parametrize("generator", ["SECURITY_CONTROL", "STANDARD_CONTROL"])
def test_the_truth_names_exactly_the_findings_that_differ(days_apart: int, generator: str) -> None:
    org = organization(accounts=9, resources_per_account=15, control_finding_generator=generator)
    for offset in (0, 4, 9):
        day1 = DAY + dt.timedelta(offset)
        day2 = day1 + dt.timedelta(days_apart)
        before, after = effective_statuses(org, day1), effective_statuses(org, day2)
        differ = {
            i: (before.get(i, ABSENT), after.get(i, ABSENT))
            for i in before.keys() | after.keys()
            if before.get(i) != after.get(i)
        }
        told = {
            c.finding_id: (c.before, c.after)
            for c in org.changes_between(day1, day2)
            if c.finding_id
        }
        if generator == "SECURITY_CONTROL":
            assert told == differ
        else:
            # The truth names the first of the findings that one check has without consolidation.
            assert told.items() <= differ.items()


def test_a_cause_fits_the_two_statuses_it_explains() -> None:
    org = organization(accounts=16)
    fits = {
        "new_failing_resource": {(ABSENT, "FAILED")},
        "new_passing_resource": {(ABSENT, "PASSED")},
        "regression": {("PASSED", "FAILED")},
        "fixed": {("FAILED", "PASSED"), ("SUPPRESSED", "PASSED"), (ABSENT, "PASSED")},
        "suppressed": {("FAILED", "SUPPRESSED"), ("PASSED", "SUPPRESSED"), (ABSENT, "SUPPRESSED")},
        "unsuppressed": {("SUPPRESSED", "FAILED")},
        "aged_out": {("FAILED", ABSENT), ("PASSED", ABSENT)},
    }
    for number in range(12):
        day = DAY + dt.timedelta(number)
        for change in org.changes_between(day, day + dt.timedelta(1)):
            if change.cause in fits:
                assert (change.before, change.after) in fits[change.cause], change
            if change.cause in ("account_joined", "account_back", "control_added"):
                assert change.before == ABSENT
            if change.cause in ("account_left", "account_silent", "control_removed"):
                assert change.after == ABSENT
            if change.cause == "unknown":
                assert change.after in ("WARNING", "NOT_AVAILABLE")


def test_a_day_compared_with_itself_has_no_changes() -> None:
    assert not list(organization().changes_between(DAY, DAY))


def test_the_burst_takes_one_control_down_in_every_account_of_a_workload() -> None:
    org = organization()
    day = next(
        d
        for n in range(12)
        if story.BURST.position(story.day_number(d := DAY + dt.timedelta(n))) == story.BURST.start
    )
    payments = {a.account_id for a in org.accounts(day) if a.workload == story.BURST_WORKLOAD}
    regressions = [
        c
        for c in org.changes_between(day - dt.timedelta(1), day)
        if c.cause == "regression" and c.account_id in payments
    ]
    by_control = collections.Counter(c.control_id for c in regressions)
    burst = {c.account_id for c in regressions if c.control_id == story.BURST_CONTROL}
    assert payments <= burst
    assert by_control.most_common(1)[0][0] == story.BURST_CONTROL
    assert set(story.BURST_SIDE_CONTROLS) <= set(by_control)


def test_an_aged_out_failure_was_not_updated_for_ninety_days() -> None:
    org = organization()
    aged = 0
    for number in (2, 9):
        day = DAY + dt.timedelta(number)
        changes = org.changes_between(day - dt.timedelta(1), day)
        gone = {c.finding_id for c in changes if c.cause == "aged_out" and c.before == "FAILED"}
        for finding in all_findings(org, day - dt.timedelta(1)):
            if finding["Id"] in gone:
                updated = dt.datetime.fromisoformat(finding["UpdatedAt"]).date()
                assert (day - updated).days >= 90
                aged += 1
    assert aged


def test_findings_follow_the_rules_of_aws() -> None:
    for finding in all_findings(organization(), DAY):
        compliance = finding.get("Compliance")
        if finding["ProductArn"].endswith("aws/securityhub"):
            assert finding["GeneratorId"] == f"security-control/{compliance['SecurityControlId']}"
            if compliance["Status"] != "FAILED":
                assert finding["Severity"]["Label"] == "INFORMATIONAL"
            else:
                severity = controls()[compliance["SecurityControlId"]].severity
                assert finding["Severity"]["Label"] == severity
        if compliance and compliance["Status"] == "PASSED":
            assert finding["Workflow"]["Status"] in ("RESOLVED", "SUPPRESSED")
        if finding["Workflow"]["Status"] == "SUPPRESSED":
            assert finding["Note"]["Text"]
        if finding["RecordState"] == "ARCHIVED":
            assert finding["ProductFields"]["ArchivalReasons:0/ReasonCode"]
        assert finding["CreatedAt"] <= finding["UpdatedAt"]
        assert finding["CreatedAt"] <= finding.get("FirstObservedAt", finding["UpdatedAt"])
        assert finding["UpdatedAt"] < f"{DAY.isoformat()}T00:00:00"


def test_every_kind_of_finding_that_pipelines_meet_is_there() -> None:
    findings = all_findings(organization(accounts=40), DAY)
    states = {(f["RecordState"], f["Workflow"]["Status"]) for f in findings}
    assert {("ARCHIVED", "NEW"), ("ACTIVE", "SUPPRESSED"), ("ACTIVE", "NOTIFIED")} <= states
    statuses = {f.get("Compliance", {}).get("Status") for f in findings}
    assert statuses == {"PASSED", "FAILED", "WARNING", "NOT_AVAILABLE", None}
    products = {f["ProductArn"].rpartition("/")[2] for f in findings}
    assert products == {"securityhub", "config", "guardduty", "inspector", "macie"}
    assert {f["Region"] for f in findings} == {"eu-west-1", "us-east-1"}
    names = {f["Title"] for f in findings if f["ProductName"] == "Config"}
    assert any(n.startswith("lz-rule-1-conformance-pack-") for n in names)
    assert any(n.startswith("lz-rule-10-conformance-pack-") for n in names)
    assert any(n.startswith("OrgConfigRule-lz-s3-") for n in names)


def test_finding_ids_are_unique_within_a_day() -> None:
    for generator in ("SECURITY_CONTROL", "STANDARD_CONTROL"):
        findings = all_findings(organization(control_finding_generator=generator), DAY)
        keys = [(f["ProductArn"], f["Id"]) for f in findings]
        assert len(set(keys)) == len(keys)


def test_on_the_day_of_consolidation_both_kinds_of_findings_exist() -> None:
    org = organization(accounts=6, consolidated_from=DAY)

    def kinds(day: dt.date) -> set[bool]:
        return {
            f["GeneratorId"].startswith("security-control/")
            for f in all_findings(org, day)
            if f["ProductArn"].endswith("aws/securityhub") and f["RecordState"] == "ACTIVE"
        }

    assert kinds(DAY - dt.timedelta(1)) == {False}
    assert kinds(DAY) == {False, True}
    assert kinds(DAY + dt.timedelta(1)) == {True}
    reasons = {
        f["ProductFields"].get("ArchivalReasons:0/ReasonCode")
        for f in all_findings(org, DAY + dt.timedelta(1))
    }
    assert "CONSOLIDATED_CONTROL_FINDINGS_UPDATE" in reasons


def test_scores_are_plausible_and_move_little() -> None:
    org = organization()
    day = DAY
    names = {a.account_id: a for a in org.accounts(day)}
    today = scores(org, day)
    production = [s for i, s in today.items() if names[i].environment == "production"]
    lower = [s for i, s in today.items() if names[i].environment in ("test", "development")]
    assert min(production) >= 85
    assert max(production) <= 100
    assert sum(lower) / len(lower) < sum(production) / len(production)
    # The day after next has no event that touches most accounts.
    quiet = [
        d for n in range(12) if story.day_number(d := DAY + dt.timedelta(n)) % 12 in (4, 7, 9, 11)
    ]
    for later in quiet:
        before, after = scores(org, later - dt.timedelta(1)), scores(org, later)
        moves = sorted(abs(after[i] - before[i]) for i in before.keys() & after.keys())
        assert moves[len(moves) * 3 // 4] < 2


def test_days_can_be_asked_for_in_any_order() -> None:
    org = organization(accounts=5, resources_per_account=5)
    days = [dt.date(2024, 2, 29), DAY, dt.date(2031, 7, 1), DAY - dt.timedelta(400)]
    first = {d: json.dumps(all_findings(org, d)) for d in days}
    days.reverse()
    again = organization(accounts=5, resources_per_account=5)
    assert {d: json.dumps(all_findings(again, d)) for d in days} == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"accounts": 4},
        {"accounts": 10_001},
        {"resources_per_account": 0},
        {"regions": ()},
        {"regions": ("europe",)},
        {"control_finding_generator": "BOTH"},
        {"token_lifetime_seconds": 0},
        {"control_finding_generator": "STANDARD_CONTROL", "consolidated_from": DAY},
    ],
)
def test_settings_outside_their_range_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(SimulationSettingsError) as error:
        SimulationSettings(**wrong)
    assert any(name in str(error.value) for name in wrong)


def test_a_rate_limit_of_nothing_is_refused() -> None:
    with pytest.raises(SimulationSettingsError, match="rate_limit"):
        RateLimit(requests_per_second=0)


def test_importing_the_model_loads_no_web_server() -> None:
    script = (
        "import sys, posture_pipeline.simulation.organization, posture_pipeline.simulation.server\n"
        "print([m for m in ('moto', 'flask', 'werkzeug', 'boto3') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
