"""The simulated organization sends what real organizations send: each oddity of AWS by itself."""

from __future__ import annotations

import datetime as dt
from typing import Any

from posture_pipeline.simulation import story
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.settings import SimulationSettings

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
