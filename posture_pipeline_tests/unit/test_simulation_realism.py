"""The simulated organization sends what real organizations send: each oddity of AWS by itself."""

from __future__ import annotations

import datetime as dt
from typing import Any

from posture_pipeline.simulation import story
from posture_pipeline.simulation.organization import ABSENT, SimulatedOrganization
from posture_pipeline.simulation.settings import REALISTIC, SimulationSettings

DAY = dt.date(2026, 11, 23)


def organization(**settings: Any) -> SimulatedOrganization:
    return SimulatedOrganization(
        SimulationSettings(**{"accounts": 8, "resources_per_account": 8, **settings})
    )


def all_findings(org: SimulatedOrganization, day: dt.date = DAY) -> list[dict[str, Any]]:
    return [f for account in org.accounts(day) for f in org.findings(account, day)]


def day_at(position: int) -> dt.date:
    """Return a day at a position of the story's cycle, in the cycle of `DAY`."""
    number = story.day_number(DAY)
    return story.date_of(number - number % story.CYCLE_DAYS + position)


def of_product(findings: list[dict[str, Any]], product: str) -> list[dict[str, Any]]:
    return [f for f in findings if f["ProductArn"].endswith(f"product/aws/{product}")]


# Names


def test_security_hub_changes_its_display_name_on_a_day_and_keeps_its_product_arn() -> None:
    org = organization(renamed_on=DAY)

    def names(day: dt.date) -> set[tuple[str, str]]:
        return {
            (f["ProductName"], f["ProductFields"]["aws/securityhub/ProductName"])
            for f in of_product(all_findings(org, day), "securityhub")
            if f["RecordState"] == "ACTIVE"
        }

    assert names(DAY - dt.timedelta(1)) == {("Security Hub", "Security Hub")}
    assert names(DAY) == {("Security Hub CSPM", "Security Hub CSPM")}
    both = [
        of_product(all_findings(organization(renamed_on=day), DAY), "securityhub")
        for day in (DAY, None)
    ]
    assert [f["Id"] for f in both[0]] == [f["Id"] for f in both[1]]


def test_the_name_has_been_the_new_one_since_october_2025_unless_asked_otherwise() -> None:
    for day, name in (
        (dt.date(2025, 9, 30), "Security Hub"),
        (dt.date(2025, 10, 1), "Security Hub CSPM"),
    ):
        found = of_product(all_findings(organization(), day), "securityhub")
        assert {f["ProductName"] for f in found} == {name}


# Packs


def test_the_arn_of_a_rule_names_the_service_that_deployed_it() -> None:
    found = of_product(all_findings(organization(accounts=24)), "config")
    services = {"-conformance-pack-" in f["Title"]: f["GeneratorId"].split("/")[-2] for f in found}
    assert services == {
        True: "config-conforms.amazonaws.com",
        False: "config-multiaccountsetup.amazonaws.com",
    }
    for finding in found:
        arn = finding["GeneratorId"]
        assert ":config-rule/aws-service-rule/" in arn
        assert arn == finding["ProductFields"]["aws/config/ConfigRuleArn"]
        assert finding["Id"].startswith(f"{arn}/finding/")


def test_two_packs_can_hold_a_rule_of_one_name_which_fails_in_one_of_them_only() -> None:
    org = organization(accounts=24, second_pack=True)
    day = day_at(story.SECOND_PACK_RULE_FAILS.start)
    packs: dict[tuple[str, str], dict[str, set[str]]] = {}
    for finding in of_product(all_findings(org, day), "config"):
        name, mark, suffix = finding["Title"].partition("-conformance-pack-")
        if mark and name == "lz-rule-1":
            place = packs.setdefault((finding["AwsAccountId"], finding["Region"]), {})
            place.setdefault(suffix, set()).add(finding["Compliance"]["Status"])
    assert any(len(place) == 2 for place in packs.values())
    assert any(
        {"FAILED"} in place.values() and {"PASSED"} in place.values() for place in packs.values()
    )
    assert not any(
        f["Title"].startswith("lz-log-archive")
        for f in of_product(all_findings(organization(accounts=24), day), "config")
    )


# AWS Config


def test_a_deleted_resource_leaves_an_active_finding_that_says_not_applicable_for_ninety_days() -> (
    None
):
    org = organization(accounts=7, deleted_resources=True)
    fails, deleted = (story.DELETED_RESOURCE_FAILS.start, story.DELETED_RESOURCE_FAILS.end)

    def named(day: dt.date) -> dict[str, dict[str, Any]]:
        return {
            f["Id"]: f
            for f in of_product(all_findings(org, day), "config")
            if "-gone-" in f["Resources"][0]["Id"]
        }

    failing = {
        i: f
        for i, f in named(day_at(fails)).items()
        if f["Compliance"]["Status"] != "NOT_AVAILABLE"
    }
    assert failing
    for finding in failing.values():
        assert finding["Compliance"]["Status"] == "FAILED"
        assert finding["ProductFields"]["aws/config/ConfigComplianceType"] == "NON_COMPLIANT"
    for offset, there in ((0, True), (89, True), (90, False)):
        later = named(day_at(deleted) + dt.timedelta(offset))
        assert (failing.keys() <= later.keys()) == there
        for finding_id in failing.keys() & later.keys():
            finding = later[finding_id]
            assert finding["RecordState"] == "ACTIVE"
            assert finding["Compliance"]["Status"] == "NOT_AVAILABLE"
            assert finding["ProductFields"]["aws/config/ConfigComplianceType"] == "NOT_APPLICABLE"
            assert finding["Severity"]["Label"] == "INFORMATIONAL"
            assert finding["FirstObservedAt"] == failing[finding_id]["FirstObservedAt"]
            assert finding["UpdatedAt"] > failing[finding_id]["UpdatedAt"]
    causes = {
        c.cause
        for c in org.changes_between(day_at(deleted - 1), day_at(deleted))
        if c.finding_id in failing
    }
    assert causes == {"resource_gone"}


# Security Hub's own checks


def test_a_broken_config_rule_takes_the_active_findings_of_its_control_away() -> None:
    org = organization(broken_rule=True)
    start, end = story.BROKEN_RULE.start, story.BROKEN_RULE.end

    def of_control(day: dt.date) -> list[dict[str, Any]]:
        account = org.accounts(day)[1]
        return [
            f
            for f in org.findings(account, day)
            if f["GeneratorId"] == f"security-control/{story.BROKEN_RULE_CONTROL}"
        ]

    before = {f["Id"]: f for f in of_control(day_at(start - 1)) if f["RecordState"] == "ACTIVE"}
    assert "FAILED" in {f["Compliance"]["Status"] for f in before.values()}
    during = of_control(day_at(start))
    assert {f["RecordState"] for f in during} == {"ARCHIVED"}
    lost = [f for f in during if f["Id"] not in before]
    assert [f["Compliance"]["Status"] for f in lost] == ["NOT_AVAILABLE"]
    assert [r["ReasonCode"] for r in lost[0]["Compliance"]["StatusReasons"]] == [
        "CONFIG_RULE_EVALUATION_ERROR"
    ]
    assert before.keys() == {f["Id"] for f in during} - {lost[0]["Id"]}
    after = {f["Id"] for f in of_control(day_at(end)) if f["RecordState"] == "ACTIVE"}
    assert after == before.keys()
    causes = [
        {c.cause for c in org.changes_between(day_at(p - 1), day_at(p)) if c.finding_id in before}
        for p in (start, end)
    ]
    assert causes == [{"evidence_lost"}, {"known_again"}]


def test_findings_of_a_disabled_control_go_stale_for_three_to_five_days_and_are_archived() -> None:
    org = organization(disabled_control=True)
    start = story.CONTROL_DISABLED.start
    states = []
    for number in range(7):
        day = day_at(start) + dt.timedelta(number)
        account = org.accounts(day)[2]
        hub = of_product(list(org.findings(account, day)), "securityhub")
        found = [f for f in hub if f["GeneratorId"] == f"security-control/{story.DISABLED_CONTROL}"]
        others = [f for f in hub if f not in found and f["RecordState"] == "ACTIVE"]
        morning = dt.datetime.combine(day, dt.time(6), dt.UTC)
        ages = {
            (morning - dt.datetime.fromisoformat(f["UpdatedAt"])) // dt.timedelta(hours=36)
            for f in found
        }
        assert all(
            morning - dt.datetime.fromisoformat(f["UpdatedAt"]) < dt.timedelta(hours=36)
            for f in others
        )
        assert "FAILED" in {f["Compliance"]["Status"] for f in found}
        states.append(({f["RecordState"] for f in found}, 0 in ages))
    assert states[0] == ({"ACTIVE"}, True)
    stale = states[1:].index(({"ARCHIVED"}, False))
    assert 2 <= stale <= 4
    assert states[1 : 1 + stale] == [({"ACTIVE"}, False)] * stale


def test_a_finding_is_updated_in_place_and_its_first_observation_is_the_last_change() -> None:
    org = organization(accounts=24, resources_per_account=20)
    before = {f["Id"]: f for f in of_product(all_findings(org, DAY), "securityhub")}
    compared = 0
    for finding in of_product(all_findings(org, DAY + dt.timedelta(1)), "securityhub"):
        earlier = before.get(finding["Id"])
        if earlier is None or "ARCHIVED" in (finding["RecordState"], earlier["RecordState"]):
            continue
        changed = finding["Compliance"]["Status"] != earlier["Compliance"]["Status"]
        assert (finding["FirstObservedAt"] != earlier["FirstObservedAt"]) == changed
        assert finding["CreatedAt"] == earlier["CreatedAt"]
        compared += changed
    assert compared


# Shapes of findings


def test_some_findings_list_a_second_resource() -> None:
    plain = of_product(all_findings(organization()), "securityhub")
    found = of_product(all_findings(organization(several_resources=True)), "securityhub")
    assert [f["Id"] for f in plain] == [f["Id"] for f in found]
    counts = {len(f["Resources"]) for f in found}
    assert counts == {1, 2}
    assert {len(f["Resources"]) for f in plain} == {1}
    for finding in found:
        assert len({r["Id"] for r in finding["Resources"]}) == len(finding["Resources"])


def test_some_findings_name_their_standards_by_full_arns() -> None:
    plain = of_product(all_findings(organization()), "securityhub")
    found = of_product(all_findings(organization(standard_arns=True)), "securityhub")
    kinds = set()
    for one, two in zip(plain, found, strict=True):
        before = [s["StandardsId"] for s in one["Compliance"]["AssociatedStandards"]]
        after = [s["StandardsId"] for s in two["Compliance"]["AssociatedStandards"]]
        full = {s.startswith("arn:aws:securityhub:") for s in after}
        assert len(full) == 1
        kinds |= full
        assert all(a.endswith(b) for a, b in zip(after, before, strict=True))
    assert kinds == {False, True}


def test_an_account_that_organizations_does_not_list_sends_findings() -> None:
    org = organization(unlisted_account=True)
    listed = {a.account_id for a in org.accounts(DAY)}
    (unlisted,) = [a for a in org.reporting_accounts(DAY) if a.account_id not in listed]
    assert {f["AwsAccountId"] for f in org.findings(unlisted, DAY)} == {unlisted.account_id}
    assert len(organization().reporting_accounts(DAY)) == len(listed)


def test_a_connector_brings_findings_of_an_azure_subscription() -> None:
    org = organization(azure=True)
    found = [f for f in all_findings(org) if f["Resources"][0].get("Provider", "AWS") == "Azure"]
    assert {f["AwsAccountId"] for f in found} == {org.audit_account_id}
    owners = {f["Resources"][0]["Owner"]["Account"]["Id"] for f in found}
    assert len(owners) == 1
    assert {f["Compliance"]["Status"] for f in found} == {"FAILED", "PASSED"}
    assert {f["Compliance"]["SecurityControlId"] for f in found} == {
        "Azure.Storage.1",
        "Azure.KeyVault.1",
    }


# All of it


def test_every_switch_is_off_in_the_default_and_on_in_the_realistic_organization() -> None:
    default, realistic = SimulationSettings(), SimulationSettings(accounts=8).realistic()
    for name in REALISTIC:
        assert (getattr(default, name), getattr(realistic, name)) == (False, True)
    assert realistic.accounts == 8


def test_the_truth_names_exactly_the_findings_that_differ_in_a_realistic_organization() -> None:
    org = SimulatedOrganization(SimulationSettings(accounts=9, resources_per_account=9).realistic())

    def statuses(day: dt.date) -> dict[str, str]:
        return {
            f["Id"]: "SUPPRESSED"
            if f["Workflow"]["Status"] == "SUPPRESSED"
            else f["Compliance"]["Status"]
            for account in org.reporting_accounts(day)
            if account.state == "ACTIVE"
            for f in org.findings(account, day)
            if f["RecordState"] == "ACTIVE" and "Compliance" in f
        }

    for position in range(story.CYCLE_DAYS):
        day1, day2 = day_at(position), day_at(position + 1)
        before, after = statuses(day1), statuses(day2)
        differ = {
            i: (before.get(i, ABSENT), after.get(i, ABSENT))
            for i in before.keys() | after.keys()
            if before.get(i) != after.get(i)
        }
        changes = {
            c.finding_id: (c.before, c.after)
            for c in org.changes_between(day1, day2)
            if c.finding_id
        }
        assert changes == differ


# The unified hub


def test_config_1_always_passes_once_the_unified_hub_is_enabled() -> None:
    plain, enabled = organization(accounts=24), organization(accounts=24, unified_hub_since=DAY)

    def statuses(org: SimulatedOrganization, day: dt.date) -> dict[str, str]:
        return {
            f["Id"]: f["Compliance"]["Status"]
            for f in of_product(all_findings(org, day), "securityhub")
            if f["RecordState"] == "ACTIVE" and f["Compliance"]["SecurityControlId"] == "Config.1"
        }

    day_before = DAY - dt.timedelta(1)
    assert statuses(enabled, day_before) == statuses(plain, day_before)
    assert set(statuses(plain, DAY).values()) > {"PASSED"}
    assert set(statuses(enabled, DAY).values()) == {"PASSED"}
    assert statuses(enabled, DAY).keys() == statuses(plain, DAY).keys()
