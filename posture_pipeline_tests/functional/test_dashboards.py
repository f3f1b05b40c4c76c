"""Dashboards and alarms in CloudWatch: put once, left alone, removed; and what is not ours stays.

Scores are made here; CloudWatch is the simulated one, over HTTP, as strict as AWS documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.assets.dashboards import CHECK, NAME
from posture_pipeline.aws import dashboards as aws_dashboards
from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.aws.dashboards import Changes, Updated, update
from posture_pipeline.cli import main
from posture_pipeline.errors import AwsError, PermissionMissingError
from posture_pipeline.model.dashboards import CLOUDFORMATION, Wanted, enabled, wanted
from posture_pipeline.resources import SavedFindings
from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES
from posture_pipeline.settings import Alarms, Aws, Dashboards, Settings
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.rows import complete
from posture_pipeline_tests.simulated_days import SimulatedDays, failures, simulated_days

pytestmark = pytest.mark.functional

FIRST, SECOND = date(2026, 11, 22), date(2026, 11, 23)
FOREIGN = {"widgets": [{"type": "text", "properties": {"markdown": "Made by hand"}}]}
ALARMS = Alarms(enabled=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    simulation = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
    with simulated_days(tmp_path_factory.mktemp("dashboards"), simulation) as days:
        yield days


@pytest.fixture(scope="module")
def shared(running: SimulatedDays) -> AwsClients:
    return AwsClients(Aws(endpoint_url=running.server.url), attempts=1)


@pytest.fixture
def clients(running: SimulatedDays, shared: AwsClients) -> AwsClients:
    """An empty CloudWatch, without faults, and with an empty log of calls."""
    api = shared.cloudwatch()
    running.server.clear_faults()
    for name in names(shared):
        api.delete_dashboards(DashboardNames=[name])
    for name in alarm_names(shared):
        api.delete_alarms(AlarmNames=[name])
    running.server.clear()
    return shared


def names(clients: AwsClients) -> list[str]:
    entries = clients.cloudwatch().list_dashboards()["DashboardEntries"]
    return sorted(each["DashboardName"] for each in entries)


def alarm_names(clients: AwsClients) -> list[str]:
    return sorted(a["AlarmName"] for a in clients.cloudwatch().describe_alarms()["MetricAlarms"])


def body_of(clients: AwsClients, name: str) -> Any:
    return json.loads(clients.cloudwatch().get_dashboard(DashboardName=name)["DashboardBody"])


def put_foreign(clients: AwsClients, name: str) -> None:
    clients.cloudwatch().put_dashboard(DashboardName=name, DashboardBody=json.dumps(FOREIGN))


def scores(day: date, *workloads: str, score: float = 75.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Scores of workloads and of the organization."""
    row = {
        "date": day,
        "report": "fsbp",
        "environment": "test",
        "score": score,
        "passed": 3,
        "failed": 1,
        "unknown": 0,
        "failed_findings": 7,
        "collected_at": datetime(day.year, day.month, day.day, 6, tzinfo=UTC),
    }
    rows = [{**row, "workload": workload} for workload in workloads]
    return (
        WORKLOAD_SCORES.read_as(pl.DataFrame(rows)) if rows else WORKLOAD_SCORES.empty(),
        ORGANIZATION_SCORES.read_as(pl.DataFrame([row])),
    )


def of(*workloads: str, settings: Settings | None = None, made_by: str | None = None) -> Wanted:
    settings = settings or Settings(alarms=ALARMS)
    more = {} if made_by is None else {"made_by": made_by}
    return enabled(wanted(*scores(SECOND, *workloads), settings, **more), settings)


def dashboards_of(updated: Updated) -> Changes:
    assert updated.dashboards is not None
    return updated.dashboards


def alarms_of(updated: Updated) -> Changes:
    assert updated.alarms is not None
    return updated.alarms


# -- Dashboards ------------------------------------------------------------------------------------


def test_dashboards_are_put_once_and_then_left_alone(
    clients: AwsClients, running: SimulatedDays
) -> None:
    found = of("shop", "audit")
    first = update(clients, found)
    assert names(clients) == [
        "posture-organization",
        "posture-workload-audit",
        "posture-workload-shop",
    ]
    assert len(dashboards_of(first).put) == 3
    assert first.note is None
    for each in found.dashboards or ():
        assert body_of(clients, each.name) == each.body
    running.server.clear()
    second = update(clients, found)
    assert second.counts["dashboards_unchanged"] == 3
    assert second.counts["dashboards_put"] == 0
    assert running.server.calls("PutDashboard") == running.server.calls("PutMetricAlarm") == []


def test_only_the_dashboard_that_changed_is_put_again(clients: AwsClients) -> None:
    update(clients, of("shop", "audit"))
    clients.cloudwatch().put_dashboard(
        DashboardName="posture-workload-shop",
        DashboardBody=json.dumps(edited(body_of(clients, "posture-workload-shop"))),
    )
    assert dashboards_of(update(clients, of("shop", "audit"))).put == ("posture-workload-shop",)


def edited(body: dict[str, Any]) -> dict[str, Any]:
    """As somebody changes one in the console."""
    return {**body, "widgets": body["widgets"][:-1]}


def test_spaces_and_the_order_of_keys_are_no_change(clients: AwsClients) -> None:
    update(clients, of("shop"))
    body = body_of(clients, "posture-workload-shop")
    text = json.dumps(dict(reversed(body.items())), indent=4)
    clients.cloudwatch().put_dashboard(DashboardName="posture-workload-shop", DashboardBody=text)
    assert dashboards_of(update(clients, of("shop"))).put == ()


def test_the_dashboard_and_alarms_of_a_workload_that_is_gone_are_removed(
    clients: AwsClients,
) -> None:
    update(clients, of("shop", "audit"))
    updated = update(clients, of("audit"))
    assert dashboards_of(updated).deleted == ("posture-workload-shop",)
    assert names(clients) == ["posture-organization", "posture-workload-audit"]
    assert len(alarms_of(updated).deleted) == 1
    assert not any("-shop-" in name for name in alarm_names(clients))


def test_a_dashboard_that_somebody_made_under_our_prefix_stays(clients: AwsClients) -> None:
    foreign = ["posture-workload-handmade", "posture-overview", "posture", "others"]
    for name in foreign:
        put_foreign(clients, name)
    updated = update(clients, of("shop"))
    assert dashboards_of(updated).foreign == ("posture-workload-handmade",)
    assert dashboards_of(updated).deleted == ()
    assert updated.note is None
    for name in foreign:
        assert body_of(clients, name) == FOREIGN


def test_a_dashboard_that_somebody_made_under_a_name_of_ours_is_not_replaced(
    clients: AwsClients,
) -> None:
    put_foreign(clients, "posture-workload-shop")
    updated = update(clients, of("shop", "audit"))
    assert dashboards_of(updated).in_the_way == ("posture-workload-shop",)
    assert body_of(clients, "posture-workload-shop") == FOREIGN
    assert "posture-workload-audit" in names(clients)
    assert updated.note is not None
    assert "posture-workload-shop" in updated.note


def test_dashboards_that_cloudformation_made_are_left_to_it(clients: AwsClients) -> None:
    deployed = of("shop", made_by=CLOUDFORMATION)
    for each in deployed.dashboards or ():
        clients.cloudwatch().put_dashboard(
            DashboardName=each.name, DashboardBody=json.dumps(each.body)
        )
    updated = update(clients, of("audit"))
    assert dashboards_of(updated).deleted == ()
    assert dashboards_of(updated).in_the_way == ("posture-organization",)
    assert dashboards_of(updated).foreign == ("posture-workload-shop",)


def test_another_pipelines_dashboards_are_not_touched(clients: AwsClients) -> None:
    other = Settings(dashboards=Dashboards(prefix="posture-workload"), alarms=ALARMS)
    update(clients, of("shop", settings=other))
    before = {name: body_of(clients, name) for name in names(clients)}
    update(clients, of("audit"))
    assert before.items() <= {name: body_of(clients, name) for name in names(clients)}.items()
    assert any("shop" in name for name in alarm_names(clients))


def test_many_are_removed_in_batches_that_cloudwatch_takes(
    clients: AwsClients, running: SimulatedDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_dashboards, "DELETED_AT_ONCE", 2)
    update(clients, of("a", "b", "c", "d", "e"))
    updated = update(clients, of("a"))
    assert updated.counts["dashboards_deleted"] == updated.counts["alarms_deleted"] == 4
    assert len(running.server.calls("DeleteDashboards")) == 2
    assert len(running.server.calls("DeleteAlarms")) == 2


def test_a_batch_is_as_large_as_cloudwatch_takes_and_no_larger(clients: AwsClients) -> None:
    api = clients.cloudwatch()
    assert aws_dashboards.DELETED_AT_ONCE == 100
    with pytest.raises(api.exceptions.ClientError, match="1 to 100"):
        api.delete_dashboards(DashboardNames=["x"] * (aws_dashboards.DELETED_AT_ONCE + 1))


def test_a_body_that_cloudwatch_refuses_does_not_stop_the_others(clients: AwsClients) -> None:
    owner = of("shop").owner
    good = {each.name: each.body for each in of("shop").dashboards or ()}
    bad = {**good, "posture-workload-bad": {"widgets": [{"type": "picture", "properties": {}}]}}
    changes = aws_dashboards.update_dashboards(clients, owner, bad)
    assert set(changes.put) == set(good)
    assert changes.note is not None
    assert "posture-workload-bad" in changes.note


def test_names_from_anywhere_are_accepted(clients: AwsClients) -> None:
    hostile = ("Müller & «日本»", "a/b c", "SHOP", "shop", "x" * 300, "...", "")
    updated = update(clients, of(*hostile))
    assert updated.counts["dashboards_put"] == len(hostile) + 1
    assert updated.note is None
    again = update(clients, of(*hostile))
    assert (again.counts["dashboards_put"], again.counts["alarms_put"]) == (0, 0)


# -- Alarms ----------------------------------------------------------------------------------------


def test_alarms_are_put_only_when_the_settings_enable_them(
    clients: AwsClients, running: SimulatedDays
) -> None:
    updated = update(clients, of("shop", settings=Settings()))
    assert updated.alarms is None
    assert running.server.calls("DescribeAlarms") == []
    update(clients, of("shop"))
    assert len(alarm_names(clients)) == 3


def test_an_alarm_whose_threshold_changed_is_put_again(clients: AwsClients) -> None:
    update(clients, of("shop"))
    lower = Settings(alarms=ALARMS, thresholds={"red": 0, "amber": 95})
    assert len(alarms_of(update(clients, of("shop", settings=lower))).put) == 2
    assert alarms_of(update(clients, of("shop", settings=lower))).put == ()


def test_an_alarm_that_somebody_made_stays(clients: AwsClients) -> None:
    by_hand: Any = {
        "AlarmDescription": "by hand",
        "Namespace": "Other",
        "MetricName": "Score",
        "Statistic": "Average",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "LessThanThreshold",
    }
    for name in ("posture-own", "posture-heartbeat-fsbp"):
        clients.cloudwatch().put_metric_alarm(AlarmName=name, **by_hand)
    updated = update(clients, of("shop"))
    assert alarms_of(updated).in_the_way == ("posture-heartbeat-fsbp",)
    assert alarms_of(updated).foreign == ("posture-own",)
    assert updated.note is not None
    found = clients.cloudwatch().describe_alarms(AlarmNames=["posture-heartbeat-fsbp"])
    assert found["MetricAlarms"][0]["AlarmDescription"] == "by hand"


@pytest.mark.parametrize("operation", ["ListDashboards", "PutDashboard", "DescribeAlarms"])
def test_a_missing_permission_is_named(
    clients: AwsClients, running: SimulatedDays, operation: str
) -> None:
    deny(running, operation)
    with pytest.raises(PermissionMissingError, match=f"cloudwatch:{operation}"):
        update(clients, of("shop"))


def deny(running: SimulatedDays, operation: str) -> None:
    fault = {"operation": operation, "kind": "error", "code": "AccessDenied", "status": 403}
    running.server.inject([{**fault, "times": None}])


# -- In the daily run ------------------------------------------------------------------------------


@pytest.fixture
def days(running: SimulatedDays, clients: AwsClients) -> SimulatedDays:
    """Two stored days: a workload of the first is gone on the second."""
    del clients
    store(running, FIRST, "shop", "audit")
    store(running, SECOND, "audit")
    return running


def store(days: SimulatedDays, day: date, *workloads: str) -> None:
    of_workloads, of_organization = scores(day, *workloads)
    days.lake.replace(WORKLOAD_SCORES, day, complete(WORKLOAD_SCORES, of_workloads))
    days.lake.replace(ORGANIZATION_SCORES, day, complete(ORGANIZATION_SCORES, of_organization))


def shown(days: SimulatedDays, result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the asset, once the run is known to have succeeded."""
    assert result.success, failures(result)
    (event,) = result.asset_materializations_for_node(NAME)
    return {key: value.value for key, value in event.metadata.items()}


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == CHECK]
    return found


def test_the_run_of_the_newest_day_puts_its_dashboards(
    days: SimulatedDays, clients: AwsClients
) -> None:
    result = days.run(SECOND, selection=[NAME])
    assert shown(days, result)["dashboards_put"] == 2
    assert names(clients) == ["posture-organization", "posture-workload-audit"]
    assert check_of(result).passed


def test_an_old_day_that_is_run_again_brings_no_old_dashboard_back(
    days: SimulatedDays, clients: AwsClients
) -> None:
    result = days.run(FIRST, selection=[NAME])
    assert "newer day" in shown(days, result)["skipped"]
    assert names(clients) == []


def test_a_missing_permission_warns_and_fails_no_run(
    days: SimulatedDays, clients: AwsClients
) -> None:
    deny(days, "PutDashboard")
    result = days.run(SECOND, selection=[NAME])
    assert "cloudwatch:PutDashboard" in shown(days, result)["skipped"]
    check = check_of(result)
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN


def test_something_in_the_way_warns(days: SimulatedDays, clients: AwsClients) -> None:
    put_foreign(clients, "posture-organization")
    result = days.run(SECOND, selection=[NAME])
    assert "posture-organization" in shown(days, result)["note"]
    assert not check_of(result).passed


def test_imported_findings_put_nothing(days: SimulatedDays, clients: AwsClients) -> None:
    result = days.run(SECOND, selection=[NAME], resources={"source": SavedFindings([])})
    assert "imported" in shown(days, result)["skipped"]
    assert names(clients) == []


def test_what_is_switched_off_asks_cloudwatch_nothing(
    days: SimulatedDays, clients: AwsClients
) -> None:
    off = days.settings.model_copy(update={"dashboards": Dashboards(enabled=False)})
    result = days.run(SECOND, settings=off, selection=[NAME])
    assert "off" in shown(days, result)["skipped"]
    assert days.server.calls("ListDashboards") == []


def test_a_day_without_workloads_removes_nothing(days: SimulatedDays, clients: AwsClients) -> None:
    update(clients, of("audit"))
    store(days, SECOND)
    result = days.run(SECOND, selection=[NAME])
    assert "no workloads" in shown(days, result)["skipped"]
    assert "posture-workload-audit" in names(clients)


# -- On the command line ---------------------------------------------------------------------------


@pytest.fixture
def config(days: SimulatedDays, tmp_path: Path) -> Path:
    path = tmp_path / "posture.yaml"
    path.write_text(
        f"lake: {days.settings.lake}\naws: {{endpoint_url: '{days.server.url}'}}\n",
        encoding="utf-8",
    )
    return path


def posture(config: Path, *arguments: str) -> int:
    return main(["dashboards", "--config", str(config), *arguments])


def test_the_names_of_all_are_shown_without_asking_aws(
    config: Path, days: SimulatedDays, capsys: pytest.CaptureFixture[str]
) -> None:
    assert posture(config) == 0
    said = capsys.readouterr().out
    for text in ("posture-organization", "posture-workload-audit", "posture-heartbeat-fsbp"):
        assert text in said
    assert "posture-workload-shop" not in said
    assert days.server.calls() == []


def test_a_day_can_be_chosen(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert posture(config, "--date", FIRST.isoformat(), "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["workload"] for each in found["dashboards"]] == [None, "audit", "shop"]
    assert all(each["body"]["widgets"] for each in found["dashboards"])
    assert {each["properties"]["AlarmName"] for each in found["alarms"]}


def test_the_template_of_some_workloads_holds_these_alone(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = FIRST.isoformat()
    assert posture(config, "--date", day, "--format", "cloudformation", "--workload", "shop") == 0
    resources = json.loads(capsys.readouterr().out)["Resources"].values()
    assert [each["Type"] for each in resources] == [
        "AWS::CloudWatch::Dashboard",
        "AWS::CloudWatch::Alarm",
    ]
    assert CLOUDFORMATION in next(iter(resources))["Properties"]["DashboardBody"]


def test_put_brings_cloudwatch_to_the_newest_day(
    config: Path, clients: AwsClients, capsys: pytest.CaptureFixture[str]
) -> None:
    update(clients, of("shop", settings=Settings()))
    assert posture(config, "--put") == 0
    said = capsys.readouterr().out
    assert "dashboards put: 1" in said or "dashboards put: 2" in said
    assert "dashboards deleted: 1" in said
    assert names(clients) == ["posture-organization", "posture-workload-audit"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--put", "--workload", "audit"),
        ("--put", "--organization"),
        ("--put", "--format", "json"),
        ("--put", "--date", FIRST.isoformat()),
        ("--workload", "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_and_puts_nothing(
    config: Path, clients: AwsClients, arguments: tuple[str, ...]
) -> None:
    assert posture(config, *arguments) == 1
    assert names(clients) == []


def test_other_refusals_of_cloudwatch_fail_loudly(
    clients: AwsClients, running: SimulatedDays
) -> None:
    fault = {"operation": "ListDashboards", "kind": "error", "code": "Conflict", "status": 409}
    running.server.inject([{**fault, "times": None}])
    with pytest.raises(AwsError, match="cloudwatch:ListDashboards"):
        update(clients, of("shop"))
