"""Dashboards and alarms: valid for CloudWatch whatever a workload is called, and never one for two.

`invalid_parts` and `check_request` of the simulation hold what AWS documents of bodies and alarms.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import InputError
from posture_pipeline.model.cloudformation import (
    MAX_RESOURCES,
    only_workloads,
    template,
    template_text,
)
from posture_pipeline.model.dashboards import (
    CLOUDFORMATION,
    COLUMNS,
    LOWEST_SHOWN,
    Owner,
    Wanted,
    dashboard_names,
    enabled,
    owner_of,
    wanted,
)
from posture_pipeline.model.metrics import metric_data
from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES
from posture_pipeline.settings import Alarms, Dashboards, Metrics, Settings, Thresholds
from posture_pipeline.simulation.aws_errors import ServiceError
from posture_pipeline.simulation.cloudwatch_dashboards import check_request, invalid_parts

COLLECTED_AT = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
HOSTILE = (
    "a | b](javascript:alert(1)) <script>x</script> ${MAX} \\ `code` *b* #h",
    "Müller & Söhne «日本»",
    "quote \" and ' and \n newline \x1b[31m",
    "." * 3,
    "x" * 200,
    "é" * 200,
    "shop",
    "Shop",
    "shop ",
)
DEFAULTS = Settings()


def scores(*keys: tuple[str, str, str], score: float | None = 75.0) -> pl.DataFrame:
    """Workload scores by report, workload and environment; each lower than the one before."""
    rows = [
        {
            "report": report,
            "workload": workload,
            "environment": environment,
            "score": None if score is None else score - number / 100,
            "passed": 3,
            "failed": 1,
            "unknown": 0,
            "failed_findings": 7,
            "collected_at": COLLECTED_AT,
        }
        for number, (report, workload, environment) in enumerate(keys)
    ]
    return WORKLOAD_SCORES.read_as(pl.DataFrame(rows)) if rows else WORKLOAD_SCORES.empty()


def organization_of(workloads: pl.DataFrame) -> pl.DataFrame:
    """Scores of the organization, on the same reports."""
    one_each = workloads.unique("report", maintain_order=True)
    return ORGANIZATION_SCORES.read_as(one_each.select(ORGANIZATION_SCORES.names))


def made(workloads: pl.DataFrame, own: Settings = DEFAULTS, **more: Any) -> Wanted:
    return wanted(workloads, organization_of(workloads), own, **more)


SHOP = scores(("fsbp", "shop", "test"), ("fsbp", "shop", "production"), ("cis-v3", "shop", "test"))


def bodies(found: Wanted) -> list[dict[str, Any]]:
    assert found.dashboards is not None
    return [each.body for each in found.dashboards]


def widgets(body: dict[str, Any], view: str) -> list[dict[str, Any]]:
    own = [each["properties"] for each in body["widgets"] if each["type"] == "metric"]
    return [each for each in own if each["view"] == view]


def texts(body: dict[str, Any]) -> list[str]:
    return [e["properties"]["markdown"] for e in body["widgets"] if e["type"] == "text"]


def metrics_of(body: dict[str, Any]) -> set[tuple[str, ...]]:
    """Namespace, name and dimensions of every metric that a body draws."""
    return {
        tuple(line[:-1])
        for widget in body["widgets"]
        for line in widget["properties"].get("metrics", ())
        if len(line) > 1
    }


# -- Which there are -------------------------------------------------------------------------------


def test_there_is_one_for_the_organization_and_one_for_each_workload() -> None:
    found = made(scores(("fsbp", "shop", "test"), ("fsbp", "audit", "production")))
    assert found.dashboards is not None
    assert [(each.name, each.workload) for each in found.dashboards] == [
        ("posture-organization", None),
        ("posture-workload-audit", "audit"),
        ("posture-workload-shop", "shop"),
    ]


def test_a_gauge_stands_for_each_report_and_environment_that_exist_and_no_other() -> None:
    own = [("fsbp", "shop", "test"), ("fsbp", "shop", "canary"), ("cis-v3", "shop", "test")]
    body = bodies(made(scores(*own)))[1]
    titles = [each["title"] for each in widgets(body, "gauge")]
    assert titles == ["cis-v3: test", "fsbp: test", "fsbp: canary"]


def test_every_metric_that_is_drawn_is_one_that_is_published() -> None:
    """Also for names that are published under another form."""
    keys = [("fsbp", name, environment) for name in HOSTILE for environment in ("test", "Größe")]
    workloads = scores(*keys)
    published = {
        (
            DEFAULTS.metrics.namespace,
            each.name,
            *(text for pair in each.dimensions for text in pair),
        )
        for each in metric_data(workloads, organization_of(workloads)).data
    }
    for body in bodies(made(workloads)):
        drawn = metrics_of(body)
        assert drawn
        assert drawn <= published


def test_each_workload_has_trends_of_score_findings_and_failed_controls_by_environment() -> None:
    trends = widgets(bodies(made(SHOP))[1], "timeSeries")
    names = Counter((line[1], line[-1]["label"]) for each in trends for line in each["metrics"])
    assert names == {
        (name, environment): 2 if environment == "test" else 1
        for name in ("Score", "Findings", "FailedControls")
        for environment in ("test", "production")
    }


def test_the_organization_shows_its_lowest_workloads_lowest_first() -> None:
    keys = [("fsbp", f"w{number:03}", "test") for number in range(LOWEST_SHOWN + 5)]
    (bar,) = widgets(bodies(made(scores(*keys)))[0], "bar")
    labels = [line[0]["label"] for line in bar["metrics"] if len(line) == 1]
    assert labels == [f"w{number:03} test" for number in range(LOWEST_SHOWN + 4, 4, -1)]


def test_workloads_without_a_score_are_not_the_lowest() -> None:
    assert widgets(bodies(made(scores(("fsbp", "shop", "test"), score=None)))[0], "bar") == []


def test_the_thresholds_are_bands_of_a_gauge_and_lines_of_a_trend() -> None:
    own = Settings(thresholds=Thresholds(red=70, amber=85))
    body = bodies(made(SHOP, own))[1]
    for gauge in widgets(body, "gauge"):
        edges = [
            (low["label"], low["value"], high["value"])
            for low, high in gauge["annotations"]["horizontal"]
        ]
        assert edges == [("red", 0, 70), ("amber", 70, 85), ("green", 85, 100)]
    lines = [
        [(line["label"], line["value"]) for line in each["annotations"]["horizontal"]]
        for each in widgets(body, "timeSeries")
        if "annotations" in each
    ]
    assert lines == [[("red under", 70), ("amber under", 85)]] * 2


@pytest.mark.parametrize(
    ("red", "amber", "bands"),
    [(0, 100, ["amber"]), (90, 90, ["red", "green"]), (100, 100, ["red"]), (0, 0, ["green"])],
)
def test_a_band_without_height_is_left_out(red: float, amber: float, bands: list[str]) -> None:
    body = bodies(made(SHOP, Settings(thresholds=Thresholds(red=red, amber=amber))))[1]
    assert invalid_parts(body) == []
    for gauge in widgets(body, "gauge"):
        assert [low["label"] for low, _ in gauge["annotations"]["horizontal"]] == bands


def test_a_gauge_keeps_the_newest_score_until_the_run_of_the_day() -> None:
    """It shows the newest period, which has no data yet, so that is filled with the one before."""
    for gauge in widgets(bodies(made(SHOP))[1], "gauge"):
        expression, hidden = gauge["metrics"]
        assert expression[0]["expression"] == f"FILL({hidden[-1]['id']}, REPEAT)"
        assert hidden[-1]["visible"] is False
        assert gauge["period"] == 86_400
        assert gauge["setPeriodToTimeRange"] is False
        assert gauge["liveData"] is True
        assert gauge["start"] == "-P3D"


def test_a_link_to_the_report_is_there_only_when_the_settings_have_one() -> None:
    url = "https://reports.example.com/posture/index.html"
    with_link = made(SHOP, Settings(dashboards=Dashboards(report_url=url)))
    for body in bodies(with_link):
        assert f"[Report]({url})" in texts(body)[0]
    for body in bodies(made(SHOP)):
        assert "[Report]" not in texts(body)[0]


def test_nothing_of_the_day_is_in_a_workloads_body() -> None:
    """Else every dashboard would be put again every day."""
    other_day = SHOP.with_columns(pl.col("score") - 30, pl.lit(3).alias("failed").cast(pl.Int32))
    assert bodies(made(SHOP))[1] == bodies(made(other_day))[1]


def test_no_scores_leave_an_empty_dashboard_of_the_organization() -> None:
    found = made(scores())
    (body,) = bodies(found)
    assert invalid_parts(body) == []
    assert found.alarms == ()


# -- Valid for CloudWatch --------------------------------------------------------------------------


def overlaps(body: dict[str, Any]) -> int:
    """Cells of the grid that more than one widget covers."""
    covered = Counter(
        (x, y)
        for each in body["widgets"]
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    )
    return sum(count > 1 for count in covered.values())


def assert_valid(found: Wanted) -> None:
    assert found.dashboards is not None
    assert found.alarms is not None
    for each in found.dashboards:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,255}", each.name)
        assert invalid_parts(json.loads(json.dumps(each.body))) == []
        assert overlaps(each.body) == 0
        assert all(e["x"] + e["width"] <= COLUMNS for e in each.body["widgets"])
    for alarm in found.alarms:
        check_request("PutMetricAlarm", alarm.properties)
    names = [each.name.lower() for each in (*found.dashboards, *found.alarms)]
    assert len(set(names)) == len(names)


NAMES = st.text(max_size=40) | st.sampled_from(HOSTILE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sets(st.tuples(st.sampled_from(["fsbp", "lz.rules_1"]), NAMES, NAMES), max_size=6),
    st.sampled_from([Thresholds(), Thresholds(red=0, amber=0), Thresholds(red=50.5, amber=100)]),
)
def test_whatever_a_workload_is_called_its_dashboard_and_alarms_are_valid(
    keys: set[tuple[str, str, str]], thresholds: Thresholds
) -> None:
    workloads = scores(*sorted(keys))
    found = made(workloads, Settings(thresholds=thresholds))
    assert_valid(found)
    assert found.dashboards is not None
    assert {e.workload for e in found.dashboards} == {None, *(name for _, name, _ in keys)}


def test_a_thousand_workloads_leave_the_organizations_dashboard_small() -> None:
    keys = [("fsbp", f"workload-{number}", "production") for number in range(1000)]
    found = made(scores(*keys))
    assert found.dashboards is not None
    assert len(found.dashboards) == 1001
    assert invalid_parts(found.dashboards[0].body) == []
    assert len(json.dumps(found.dashboards[0].body)) < 20_000


def test_more_than_fits_on_a_dashboard_is_left_out_and_said() -> None:
    keys = [(f"report-{r:02}", "shop", f"environment-{e:02}") for r in range(22) for e in range(23)]
    found = made(scores(*keys))
    assert_valid(found)
    organization, shop = bodies(found)
    assert len(widgets(shop, "gauge")) == 400
    assert f"{22 * 23 - 400} more scores do not fit here" in texts(shop)[0]
    assert "2 more scores do not fit here" in texts(organization)[0]


def test_a_name_is_only_ever_a_text() -> None:
    name = HOSTILE[0]
    (markdown,) = texts(bodies(made(scores(("fsbp", name, "test"))))[1])
    heading = next(line for line in markdown.splitlines() if line.startswith("## "))
    assert "<script>" not in heading
    assert re.search(r"(?<!\\)[\[\]`*|$]", heading) is None
    for body in bodies(made(scores(("fsbp", "x", name)))):
        drawn = [each["properties"] for each in body["widgets"] if each["type"] == "metric"]
        labels = [line[-1]["label"] for e in drawn for line in e["metrics"] if "label" in line[-1]]
        assert labels
        assert not any("${" in text for text in (*labels, *(e["title"] for e in drawn)))


# -- Names -----------------------------------------------------------------------------------------

OWNER = Owner("posture", "mark")


def test_a_plain_name_is_kept_and_any_other_gets_a_hash_of_it() -> None:
    names = dashboard_names(OWNER, ["my-workload", "Café", ""])
    assert names["my-workload"] == "posture-workload-my-workload"
    assert re.fullmatch(r"posture-workload-cafe-[0-9a-f]{10}", names["Café"])
    assert re.fullmatch(r"posture-workload-unnamed-[0-9a-f]{10}", names[""])


def test_a_workload_called_as_another_ones_dashboard_does_not_share_it() -> None:
    first = dashboard_names(OWNER, ["Shop"])["Shop"].removeprefix(OWNER.workloads)
    both = dashboard_names(OWNER, ["Shop", first])
    assert len(set(both.values())) == 2


@given(st.sets(NAMES, max_size=8))
def test_two_workloads_never_share_a_dashboard(workloads: set[str]) -> None:
    names = dashboard_names(OWNER, workloads)
    assert len({name.lower() for name in names.values()}) == len(workloads)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,255}", name) for name in names.values())
    assert all(OWNER.may_have_made(name) for name in names.values())
    assert OWNER.organization not in names.values()


@given(NAMES, st.sets(NAMES, max_size=5))
def test_a_name_does_not_depend_on_the_other_workloads(one: str, others: set[str]) -> None:
    assert dashboard_names(OWNER, [one])[one] == dashboard_names(OWNER, [one, *others])[one]


# -- Whose -----------------------------------------------------------------------------------------


def test_what_is_made_is_known_as_ours_by_its_text() -> None:
    owner = owner_of(DEFAULTS)
    for body in bodies(made(SHOP)):
        assert owner.made(json.loads(json.dumps(body)))


@pytest.mark.parametrize(
    "other",
    [
        Settings(dashboards=Dashboards(prefix="posture-2")),
        Settings(aws=DEFAULTS.aws.model_copy(update={"region": "eu-central-1"})),
    ],
    ids=["prefix", "region"],
)
def test_another_pipelines_dashboards_are_not_ours(other: Settings) -> None:
    assert not any(owner_of(DEFAULTS).made(body) for body in bodies(made(SHOP, other)))


def test_what_cloudformation_deploys_is_not_the_pipelines() -> None:
    for body in bodies(made(SHOP, made_by=CLOUDFORMATION)):
        assert not owner_of(DEFAULTS).made(body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        {},
        {"widgets": None},
        {"widgets": [7, {"type": "text"}]},
        {"widgets": [{"type": "text", "properties": {"markdown": 7}}]},
        {"widgets": [{"type": "text", "properties": {"markdown": "Somebody's own"}}]},
    ],
)
def test_a_body_that_does_not_say_so_is_not_ours(body: object) -> None:
    assert not owner_of(DEFAULTS).made(body)


def test_the_settings_choose_which_kinds_are_looked_after() -> None:
    found = made(SHOP)
    both = Settings(alarms=Alarms(enabled=True))
    neither = Settings(dashboards=Dashboards(enabled=False))
    assert enabled(found, both) == found
    assert enabled(found, DEFAULTS).alarms is None
    assert enabled(found, neither) == Wanted(found.owner, None, None)


# -- Alarms ----------------------------------------------------------------------------------------


def alarms(own: Settings = DEFAULTS) -> dict[str, dict[str, Any]]:
    return {each.name: each.properties for each in made(SHOP, own).alarms or ()}


def test_every_score_has_an_alarm_and_every_report_a_heartbeat() -> None:
    heartbeats = {name for name in alarms() if "-heartbeat-" in name}
    assert heartbeats == {"posture-heartbeat-fsbp", "posture-heartbeat-cis-v3"}
    low = [each for name, each in alarms().items() if name not in heartbeats]
    dimensions = sorted([d["Value"] for d in each["Dimensions"]] for each in low)
    assert dimensions == [
        ["cis-v3"],
        ["cis-v3", "shop", "test"],
        ["fsbp"],
        ["fsbp", "shop", "production"],
        ["fsbp", "shop", "test"],
    ]


def test_a_score_under_the_red_threshold_for_so_many_days_is_an_alarm() -> None:
    own = Settings(
        thresholds=Thresholds(red=80.5),
        alarms=Alarms(days=7, topics=("arn:aws:sns:eu-west-1:111122223333:posture",)),
        metrics=Metrics(namespace="Other"),
    )
    for name, alarm in alarms(own).items():
        check_request("PutMetricAlarm", alarm)
        assert alarm["Namespace"] == "Other"
        assert alarm["AlarmActions"] == alarm["OKActions"] == list(own.alarms.topics)
        if "-score-" in name:
            assert (alarm["MetricName"], alarm["ComparisonOperator"]) == (
                "Score",
                "LessThanThreshold",
            )
            assert (alarm["Threshold"], alarm["Period"], alarm["EvaluationPeriods"]) == (
                80.5,
                86_400,
                7,
            )


@pytest.mark.parametrize("hours", [25, 168])
def test_a_day_without_data_is_an_alarm_within_what_cloudwatch_looks_back(hours: int) -> None:
    alarm = alarms(Settings(alarms=Alarms(heartbeat_hours=hours)))["posture-heartbeat-fsbp"]
    check_request("PutMetricAlarm", alarm)
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["EvaluationPeriods"] == alarm["DatapointsToAlarm"] == hours
    assert alarm["Period"] == 3600
    assert alarm["MetricName"] == "Controls"


def test_alarms_of_workloads_can_be_kept_to_some_environments() -> None:
    chosen = alarms(Settings(alarms=Alarms(environments=("production",))))
    of_workloads = [each for name, each in chosen.items() if "-workload-score-" in name]
    assert [each["Dimensions"][-1]["Value"] for each in of_workloads] == ["production"]


def test_workload_and_environment_that_join_to_the_same_text_have_two_alarms() -> None:
    found = made(scores(("fsbp", "a-b", "c"), ("fsbp", "a", "b-c")))
    assert_valid(found)
    assert len(found.alarms or ()) == 4


# -- CloudFormation --------------------------------------------------------------------------------


def test_the_template_has_every_dashboard_and_alarm_with_the_same_body() -> None:
    keys = [("fsbp", name, "test") for name in HOSTILE]
    found = made(scores(*keys), made_by=CLOUDFORMATION)
    resources = template(found)["Resources"]
    assert all(re.fullmatch("[A-Za-z0-9]{1,255}", name) for name in resources)
    put = {
        each["Properties"]["DashboardName"]: json.loads(each["Properties"]["DashboardBody"])
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Dashboard"
    }
    assert put == {each.name: each.body for each in found.dashboards or ()}
    names = {
        each["Properties"]["AlarmName"]
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert names == {each.name for each in found.alarms or ()}


def complaints(text: str) -> list[str]:
    """Errors and warnings of CloudFormation's linter; hints on style are not counted."""
    from cfnlint.api import lint_all  # it takes seconds to import

    return [str(each) for each in lint_all(text) if each.rule.severity != "informational"]


def test_the_template_is_one_that_cloudformation_takes() -> None:
    topics = ("arn:aws:sns:eu-west-1:111122223333:posture",)
    keys = [("fsbp", name, "test") for name in HOSTILE[:3]]
    found = made(scores(*keys), Settings(alarms=Alarms(topics=topics)), made_by=CLOUDFORMATION)
    text = template_text(template(found))
    assert complaints(text) == []
    assert complaints(text.replace('"Threshold"', '"Treshold"'))


def test_a_template_that_is_too_large_says_how_to_split_it() -> None:
    keys = [("fsbp", f"workload-{number}", "test") for number in range(MAX_RESOURCES)]
    found = made(scores(*keys), made_by=CLOUDFORMATION)
    with pytest.raises(InputError, match="--workload"):
        template(found)
    some = only_workloads(found, ["workload-1", "workload-7"], organization=False)
    assert {each.workload for each in some.dashboards or ()} == {"workload-1", "workload-7"}
    assert len(template(some)["Resources"]) == 4
    rest = only_workloads(found, [], organization=True)
    assert len(template(rest)["Resources"]) == 3


def test_a_workload_that_is_not_there_cannot_be_chosen() -> None:
    with pytest.raises(InputError, match="'nobody'"):
        only_workloads(made(SHOP), ["nobody"], organization=False)


# -- What the checker refuses ----------------------------------------------------------------------


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """The body of a workload with one value replaced."""
    body = copy.deepcopy(bodies(made(SHOP))[1])
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return body


GAUGE = ("widgets", 1, "properties")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("widgets",), {}),
        (("widgets",), [{"type": "text", "properties": {"markdown": "x"}}] * 501),
        (("start",), "yesterday"),
        (("other",), 1),
        (("periodOverride",), "never"),
        (("widgets", 0, "type"), "picture"),
        (("widgets", 0, "properties", "markdown"), 7),
        (("widgets", 1, "x"), 24),
        (("widgets", 1, "width"), 25),
        (("widgets", 1, "height"), 0),
        (("widgets", 1, "y"), -1),
        ((*GAUGE, "view"), "speedometer"),
        ((*GAUGE, "region"), ""),
        ((*GAUGE, "period"), 90),
        ((*GAUGE, "metrics"), []),
        ((*GAUGE, "metrics"), [["NS", "Score", "Report", "fsbp", {}]] * 501),
        ((*GAUGE, "metrics"), [["NS", "Score", "Report"]]),
        ((*GAUGE, "metrics"), [["NS", "Score", "Report", "..."]]),
        ((*GAUGE, "metrics"), [[{"expression": "FILL(m9, REPEAT)", "id": "e1"}]]),
        ((*GAUGE, "metrics", 0, 0, "id"), "M1"),
        ((*GAUGE, "metrics", 0, 0, "id"), "m1"),
        ((*GAUGE, "yAxis"), {"left": {"min": 0}}),
        ((*GAUGE, "yAxis"), {"left": {"min": 100, "max": 0}}),
        ((*GAUGE, "annotations"), {"horizontal": [{"value": "90"}]}),
        ((*GAUGE, "annotations"), {"horizontal": [{"value": 90, "fill": "inside"}]}),
        ((*GAUGE, "annotations"), {"horizontal": [{"value": 90, "color": "red"}]}),
        ((*GAUGE, "annotations"), {"alarms": ["arn:aws:cloudwatch:eu-west-1:1:alarm:a"]}),
        ((*GAUGE, "liveData"), "yes"),
        ((*GAUGE, "colour"), "red"),
    ],
)
def test_what_aws_does_not_document_is_refused(path: tuple[str | int, ...], value: object) -> None:
    body = changed(path, value)
    assert invalid_parts(body)
    with pytest.raises(ServiceError) as refused:
        check_request(
            "PutDashboard", {"DashboardName": "posture-x", "DashboardBody": json.dumps(body)}
        )
    assert refused.value.code == "InvalidParameterInput"


@pytest.mark.parametrize(
    "wrong",
    [
        {"AlarmName": ""},
        {"AlarmName": "a\nb"},
        {"AlarmDescription": "x" * 1025},
        {"AlarmActions": ["arn:aws:sns:eu-west-1:111122223333:t"] * 6},
        {"AlarmActions": ["topic"]},
        {"Period": 45},
        {"Period": 86_400, "EvaluationPeriods": 8, "DatapointsToAlarm": 8},
        {"Period": 60, "EvaluationPeriods": 1441, "DatapointsToAlarm": 1441},
        {"EvaluationPeriods": 2, "DatapointsToAlarm": 3},
        {"TreatMissingData": "guess"},
        {"ComparisonOperator": "Less"},
        {"Statistic": "Median"},
        {"Threshold": None},
        {"MetricName": None},
        {"Dimensions": [{"Name": "Report", "Value": "Müller"}]},
    ],
    ids=str,
)
def test_an_alarm_that_aws_would_refuse_is_refused(wrong: dict[str, Any]) -> None:
    alarm = alarms()["posture-heartbeat-fsbp"]
    check_request("PutMetricAlarm", alarm)
    with pytest.raises(ServiceError):
        check_request("PutMetricAlarm", {**alarm, **wrong})


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("PutDashboard", {"DashboardName": "with space", "DashboardBody": '{"widgets": []}'}),
        ("PutDashboard", {"DashboardName": "x" * 256, "DashboardBody": '{"widgets": []}'}),
        ("PutDashboard", {"DashboardName": "x", "DashboardBody": "{"}),
        ("ListDashboards", {"DashboardNamePrefix": "a b"}),
        ("DeleteDashboards", {"DashboardNames": ["x"] * 101}),
        ("DeleteAlarms", {"AlarmNames": ["x"] * 101}),
        ("DescribeAlarms", {"AlarmNames": ["x"], "AlarmNamePrefix": "x"}),
        ("DescribeAlarms", {"MaxRecords": 101}),
    ],
)
def test_a_request_that_aws_would_refuse_is_refused(operation: str, params: dict[str, Any]) -> None:
    with pytest.raises(ServiceError):
        check_request(operation, params)
