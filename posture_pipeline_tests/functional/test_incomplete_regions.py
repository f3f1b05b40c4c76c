"""Regions that cannot be asked: each reason has its message, and a setting goes on without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest

from posture_pipeline.aws.clients import (
    AwsClients,
    RegionNotEnabledError,
    ServiceControlPolicyError,
)
from posture_pipeline.aws.permissions import try_permissions
from posture_pipeline.aws.security_hub import try_region, unavailable_regions
from posture_pipeline.cli import main
from posture_pipeline.errors import CredentialsError
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    ORGANIZATION_SCORES,
    RAW_FINDING_PAGES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Aws, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import SCORED, SimulatedDays, failures, simulated_days

pytestmark = pytest.mark.functional

FIRST, SECOND, THIRD = date(2026, 11, 21), date(2026, 11, 22), date(2026, 11, 23)
HOME, LINKED = "eu-west-1", "us-east-1"
REGIONS = (HOME, LINKED)
ORGANIZATION = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
NOT_OPTED_IN = {
    "kind": "error",
    "code": "UnrecognizedClientException",
    "message": "The security token included in the request is invalid.",
    "times": None,
}
DENIED = {
    "kind": "error",
    "code": "AccessDeniedException",
    "message": "User: x is not authorized to perform: securityhub:GetFindings on resource: y with "
    "an explicit deny in a service control policy",
    "times": None,
}
SELECTION = [*SCORED, "score_changes"]


@pytest.fixture(scope="module")
def running() -> Iterator[SimulationServer]:
    with serve(ORGANIZATION) as server:
        yield server


@pytest.fixture
def hub(running: SimulationServer) -> SimulationServer:
    running.clear()
    running.set_clock(datetime(2026, 11, 23, 6, tzinfo=UTC))
    return running


@pytest.fixture
def settings(hub: SimulationServer) -> Settings:
    return Settings(aws=Aws(endpoint_url=hub.url, regions=REGIONS), incomplete_regions="continue")


@pytest.fixture
def clients(settings: Settings) -> AwsClients:
    return AwsClients(settings.aws, attempts=1)


def test_a_region_that_is_not_opted_in_is_no_matter_of_the_credentials(
    hub: SimulationServer, clients: AwsClients, settings: Settings
) -> None:
    clients.now()
    hub.inject([{**NOT_OPTED_IN, "region": LINKED}])
    with pytest.raises(RegionNotEnabledError) as caught:
        try_region(clients, settings, LINKED, THIRD)
    for part in (f"not opted in to the region {LINKED}", f"takes them in {HOME}", "aws.regions"):
        assert part in str(caught.value)


def test_credentials_that_are_good_nowhere_are_refused_credentials(
    hub: SimulationServer, clients: AwsClients, settings: Settings
) -> None:
    hub.inject([NOT_OPTED_IN])
    with pytest.raises(CredentialsError, match="does not accept the credentials"):
        try_region(clients, settings, LINKED, THIRD)


def test_a_service_control_policy_is_told_from_a_missing_permission(
    hub: SimulationServer, clients: AwsClients, settings: Settings
) -> None:
    hub.inject([{**DENIED, "region": LINKED}])
    with pytest.raises(ServiceControlPolicyError) as caught:
        try_region(clients, settings, LINKED, THIRD)
    for part in ("a service control policy of the organization denies", "securityhub:GetFindings"):
        assert part in str(caught.value)
    assert "Allow it to the role" not in str(caught.value)


@pytest.mark.parametrize("fault", [NOT_OPTED_IN, DENIED], ids=["not opted in", "denied"])
def test_only_with_continue_a_region_is_left_out(
    hub: SimulationServer, clients: AwsClients, settings: Settings, fault: dict[str, Any]
) -> None:
    clients.now()
    hub.inject([{**fault, "region": LINKED}])
    assert list(unavailable_regions(clients, settings, THIRD)) == [LINKED]
    fails = settings.model_copy(update={"incomplete_regions": "fail"})
    assert unavailable_regions(clients, fails, THIRD) == {}


def test_the_home_region_is_never_left_out(
    hub: SimulationServer, clients: AwsClients, settings: Settings
) -> None:
    hub.inject([{**DENIED, "region": HOME, "operation": "GetFindings"}])
    with pytest.raises(ServiceControlPolicyError):
        unavailable_regions(clients, settings, THIRD)


def test_a_region_that_fails_for_another_reason_is_not_left_out(
    hub: SimulationServer, clients: AwsClients, settings: Settings
) -> None:
    plain = {**DENIED, "region": LINKED, "message": "no identity-based policy allows it"}
    hub.inject([plain])
    with pytest.raises(Exception, match="is missing"):
        unavailable_regions(clients, settings, THIRD)


@pytest.mark.parametrize(("mode", "required"), [("continue", False), ("fail", True)])
def test_the_check_names_the_region_and_whether_a_run_needs_it(
    hub: SimulationServer, clients: AwsClients, settings: Settings, mode: str, required: bool
) -> None:
    hub.inject([{**NOT_OPTED_IN, "region": LINKED}])
    tried = try_permissions(clients, settings.model_copy(update={"incomplete_regions": mode}))
    of_findings = {each.needed_for: each for each in tried if "GetFindings" in each.action}
    home, linked = (of_findings[f"the findings of {region}"] for region in REGIONS)
    assert (home.ok, home.required) == (True, True)
    assert (linked.ok, linked.required) == (False, required)
    assert f"not opted in to the region {LINKED}" in linked.why


# -- Days ------------------------------------------------------------------------------------------


@dataclass
class Ran:
    days: SimulatedDays
    checks: dict[date, tuple[bool, str]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Three days; on the second the linked region is denied."""
    folder = tmp_path_factory.mktemp("regions")
    with simulated_days(folder, ORGANIZATION, incomplete_regions="continue") as days:
        aws = days.settings.aws.model_copy(update={"regions": REGIONS})
        days.settings = days.settings.model_copy(update={"aws": aws})
        checks = {}
        for day in (FIRST, SECOND, THIRD):
            days.server.clear_faults()
            if day == SECOND:
                days.server.inject([{**DENIED, "region": LINKED}])
            result = days.run(day, selection=SELECTION)
            assert result.success, failures(result)
            [check] = [
                each
                for each in result.get_asset_check_evaluations()
                if each.check_name == "every_region_is_collected"
            ]
            checks[day] = check.passed, check.description or ""
        yield Ran(days, checks)


def test_the_commit_names_the_regions_that_were_left_out(ran: Ran) -> None:
    left_out = [
        ran.days.lake.require(RAW_FINDING_PAGES, day).details["regions_left_out"]
        for day in (FIRST, SECOND, THIRD)
    ]
    assert left_out == [[], [LINKED], []]
    shards = ran.days.lake.require(RAW_FINDING_PAGES, SECOND).details["shards"]
    assert not [name for name in shards if name.startswith(LINKED)]
    assert ran.checks[FIRST][0]
    assert not ran.checks[SECOND][0]
    assert f"Region {LINKED} was not collected" in ran.checks[SECOND][1]


@pytest.mark.parametrize("table", [ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES])
def test_every_score_of_that_day_is_marked_as_incomplete(ran: Ran, table: Any) -> None:
    marks = [
        ran.days.lake.read(table, day)["incomplete"].unique().to_list()
        for day in (FIRST, SECOND, THIRD)
    ]
    assert marks == [[None], [f"region {LINKED} was not collected"], [None]]


@pytest.mark.parametrize("day", [SECOND, THIRD], ids=["when it goes", "when it comes back"])
def test_the_trend_is_not_comparable_when_a_region_goes_or_comes_back(ran: Ran, day: date) -> None:
    changes = ran.days.lake.read(SCORE_CHANGES, day)
    assert changes.height > 0
    with_scores = changes.drop_nulls(["score_before", "score_after"])
    assert set(with_scores["comparable"]) == {f"region {LINKED} was not collected on {SECOND}"}


def test_the_command_line_says_what_is_incomplete(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = ran.days.lake.root
    assert main(["scores", "--lake", lake, "--date", SECOND.isoformat()]) == 0
    assert f"incomplete: region {LINKED}" in " ".join(capsys.readouterr().out.split())
    assert main(["scores", "--lake", lake, "--date", THIRD.isoformat()]) == 0
    assert "incomplete" not in capsys.readouterr().out
