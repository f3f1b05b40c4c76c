"""CloudWatch's rules of dashboards and alarms, held in front of a store that would take anything.

Checks only; keeping and returning them is left to the store. A body is checked against what AWS
documents of text and metric widgets; other kinds of widgets are taken as they are.

Sources: "Dashboard Body Structure and Syntax", PutDashboard, ListDashboards, DeleteDashboards,
PutMetricAlarm, DescribeAlarms and DeleteAlarms (CloudWatch API reference); "CloudWatch service
quotas" and "CloudWatch search expression syntax" (CloudWatch user guide).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from posture_pipeline.simulation.aws_errors import ServiceError

MAX_WIDGETS = 500
"""Widgets of a dashboard (Dashboard Body Structure)."""
MAX_WIDGET_METRICS = 500
"""Metrics of a widget, hidden ones too (CloudWatch service quotas)."""
MAX_DASHBOARD_METRICS = 2500
"""Metrics of a dashboard, hidden ones too (same)."""
COLUMNS = 24
MAX_HEIGHT = 1000
"""Columns of the grid and height of a widget (Dashboard Body Structure)."""
MAX_DIMENSIONS = 30
"""Dimensions of a metric (MetricDatum)."""
MAX_SEARCH = 1024
"""Characters of a search expression (CloudWatch search expression syntax)."""
MAX_AT_ONCE = 100
"""Names of one request (DeleteDashboards, DeleteAlarms, DescribeAlarms)."""
MAX_ACTIONS = 5
"""Actions of an alarm for one state (PutMetricAlarm)."""
WEEK_SECONDS = 604_800
DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
"""An alarm may look at a week, or at a day if its period is under an hour (PutMetricAlarm)."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,255}")
_VIEWS = frozenset({"timeSeries", "singleValue", "gauge", "bar", "pie", "table"})
_TYPES = frozenset({"metric", "text", "log", "alarm", "explorer", "custom"})
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_RELATIVE = re.compile(r"-P(?:[0-9]+[MWD]|T[0-9]+[MH])")
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_METRIC_PROPERTIES = frozenset(
    {
        "accountId",
        "annotations",
        "end",
        "labels",
        "legend",
        "liveData",
        "metrics",
        "period",
        "region",
        "setPeriodToTimeRange",
        "singleValueFullPrecision",
        "sparkline",
        "stacked",
        "start",
        "stat",
        "table",
        "timezone",
        "title",
        "trend",
        "view",
        "yAxis",
    }
)
_RENDERING = frozenset(
    {
        "accountId",
        "color",
        "expression",
        "id",
        "label",
        "period",
        "region",
        "stat",
        "visible",
        "yAxis",
    }
)
_OPERATORS = frozenset(
    {
        "GreaterThanOrEqualToThreshold",
        "GreaterThanThreshold",
        "LessThanThreshold",
        "LessThanOrEqualToThreshold",
    }
)
_STATISTICS = frozenset({"SampleCount", "Average", "Sum", "Minimum", "Maximum"})
_MISSING_DATA = frozenset({"breaching", "notBreaching", "ignore", "missing"})

Params = dict[str, Any]


def check_request(operation: str, params: Params) -> None:
    """Refuse what CloudWatch would refuse.

    Raises:
        ServiceError: with the code that the service documents.
    """
    check = _CHECKS.get(operation)
    if check is not None:
        check(params)


def invalid_parts(body: object) -> list[str]:
    """Return what is wrong with a dashboard's body, with its place; nothing for a valid one."""
    return list(_of_body(body))


# Requests


def _put_dashboard(params: Params) -> None:
    name = params.get("DashboardName") or ""
    if not _NAME.fullmatch(name):
        raise ServiceError(
            code="InvalidParameterInput",
            message=f"The value {name} for field DashboardName is invalid: it must be 1 to 255 of "
            "A-Z, a-z, 0-9, - and _.",
        )
    try:
        body = json.loads(params.get("DashboardBody") or "")
    except ValueError:
        raise ServiceError(
            code="InvalidParameterInput",
            message="The field DashboardBody must be a valid JSON object",
        ) from None
    wrong = invalid_parts(body)
    if wrong:
        raise ServiceError(
            code="InvalidParameterInput",
            message=f"The dashboard body is invalid, there are {len(wrong)} validation errors: "
            f"{wrong[:20]}",
        )


def _list_dashboards(params: Params) -> None:
    if not _PREFIX.fullmatch(params.get("DashboardNamePrefix") or ""):
        raise ServiceError(
            code="InvalidParameterValue", message="DashboardNamePrefix has invalid characters."
        )


def _delete_dashboards(params: Params) -> None:
    if not 1 <= len(params.get("DashboardNames") or []) <= MAX_AT_ONCE:
        raise ServiceError(
            code="InvalidParameterValue", message=f"DashboardNames must be 1 to {MAX_AT_ONCE}."
        )


def _delete_alarms(params: Params) -> None:
    if not 1 <= len(params.get("AlarmNames") or []) <= MAX_AT_ONCE:
        raise ServiceError(
            code="ValidationError", message=f"AlarmNames must be 1 to {MAX_AT_ONCE}."
        )


def _describe_alarms(params: Params) -> None:
    names, prefix = params.get("AlarmNames"), params.get("AlarmNamePrefix")
    if names and prefix:
        raise ServiceError(
            code="ValidationError", message="AlarmNames and AlarmNamePrefix exclude each other."
        )
    if len(names or []) > MAX_AT_ONCE:
        raise ServiceError(
            code="ValidationError", message=f"AlarmNames must be at most {MAX_AT_ONCE}."
        )
    if params.get("MaxRecords") is not None and not 1 <= int(params["MaxRecords"]) <= MAX_AT_ONCE:
        raise ServiceError(
            code="ValidationError", message=f"MaxRecords must be 1 to {MAX_AT_ONCE}."
        )


def _put_metric_alarm(params: Params) -> None:
    wrong = list(_of_alarm(params))
    if wrong:
        raise ServiceError(code="ValidationError", message="; ".join(wrong))


def _of_alarm(params: Params) -> Iterator[str]:
    name = params.get("AlarmName") or ""
    if not 1 <= len(name) <= 255 or any(ord(ch) < 32 or ord(ch) == 127 for ch in name):
        yield "AlarmName must be 1 to 255 characters without control characters"
    if len(params.get("AlarmDescription") or "") > 1024:
        yield "AlarmDescription must be at most 1024 characters"
    for actions in ("AlarmActions", "OKActions", "InsufficientDataActions"):
        given = params.get(actions) or []
        if len(given) > MAX_ACTIONS or not all(str(each).startswith("arn:") for each in given):
            yield f"{actions} must be at most {MAX_ACTIONS} ARNs"
    if params.get("TreatMissingData") not in (None, *_MISSING_DATA):
        yield "TreatMissingData is none of its values"
    if params.get("ComparisonOperator") not in _OPERATORS:
        yield "ComparisonOperator is none of those for a threshold"
    periods = _number(params.get("EvaluationPeriods"))
    if periods is None or periods < 1:
        yield "EvaluationPeriods must be at least 1"
    to_alarm = _number(params.get("DatapointsToAlarm"))
    if to_alarm is not None and periods is not None and not 1 <= to_alarm <= periods:
        yield "DatapointsToAlarm must be 1 to EvaluationPeriods"
    if params.get("Metrics"):
        return
    if _number(params.get("Threshold")) is None:
        yield "Threshold is required"
    if not params.get("MetricName") or not params.get("Namespace"):
        yield "MetricName and Namespace are required"
    if params.get("Statistic") not in _STATISTICS:
        yield "Statistic is none of its values"
    if len(params.get("Dimensions") or []) > MAX_DIMENSIONS:
        yield f"Dimensions must be at most {MAX_DIMENSIONS}"
    for dimension in params.get("Dimensions") or []:
        value = str(dimension.get("Value") or "")
        if not 1 <= len(value) <= 1024 or not value.isascii() or not value.isprintable():
            yield "Dimensions have a value that is blank, too long or not ASCII"
    yield from _of_period(_number(params.get("Period")), periods)


def _of_period(period: float | None, periods: float | None) -> Iterator[str]:
    if period is None or (period not in (10, 20, 30) and (period < 60 or period % 60)):
        yield "Period must be 10, 20, 30 or a multiple of 60"
    elif periods is not None:
        longest = WEEK_SECONDS if period >= HOUR_SECONDS else DAY_SECONDS
        if period * periods > longest:
            yield f"Metrics cannot be checked across more than {longest} seconds"


def _number(value: object) -> float | None:
    """A number, which the query protocol sends as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


_CHECKS: dict[str, Callable[[Params], None]] = {
    "PutDashboard": _put_dashboard,
    "ListDashboards": _list_dashboards,
    "DeleteDashboards": _delete_dashboards,
    "PutMetricAlarm": _put_metric_alarm,
    "DescribeAlarms": _describe_alarms,
    "DeleteAlarms": _delete_alarms,
}


# Bodies


def _of_body(body: object) -> Iterator[str]:
    if not isinstance(body, dict):
        yield "/: Should be object"
        return
    unknown = sorted(set(body) - {"widgets", "start", "end", "periodOverride", "variables"})
    if unknown:
        yield f"/: Should not have {unknown}"
    if "start" in body and not _is_text(body["start"], _RELATIVE):
        yield "/start: Should be relative, such as -P3M"
    if body.get("periodOverride", "auto") not in ("auto", "inherit"):
        yield "/periodOverride: Should be auto or inherit"
    widgets = body.get("widgets")
    if not isinstance(widgets, list) or len(widgets) > MAX_WIDGETS:
        yield f"/widgets: Should be an array of at most {MAX_WIDGETS}"
        return
    total = 0
    for number, widget in enumerate(widgets):
        where = f"/widgets/{number}"
        if not isinstance(widget, dict) or widget.get("type") not in _TYPES:
            yield f"{where}: Should be a widget of a known type"
            continue
        properties = widget.get("properties")
        yield from _of_place(widget, where)
        if not isinstance(properties, dict):
            yield f"{where}/properties: Should be object"
        elif widget["type"] == "text":
            yield from _of_text(properties, f"{where}/properties")
        elif widget["type"] == "metric":
            total += len(properties.get("metrics") or [])
            yield from _of_metric_widget(properties, f"{where}/properties")
    if total > MAX_DASHBOARD_METRICS:
        yield f"/widgets: Should have at most {MAX_DASHBOARD_METRICS} metrics"


def _of_place(widget: Params, where: str) -> Iterator[str]:
    unknown = sorted(set(widget) - {"type", "x", "y", "width", "height", "properties"})
    if unknown:
        yield f"{where}: Should not have {unknown}"
    limits = {
        "x": (0, COLUMNS - 1),
        "y": (0, None),
        "width": (1, COLUMNS),
        "height": (1, MAX_HEIGHT),
    }
    for name, (low, high) in limits.items():
        value = widget.get(name, low)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            yield f"{where}/{name}: Should be {low} to {high}"
    if ("x" in widget) != ("y" in widget):
        yield f"{where}: Should have both x and y, or neither"


def _of_text(properties: Params, where: str) -> Iterator[str]:
    if not isinstance(properties.get("markdown"), str):
        yield f"{where}/markdown: Should be text"
    if set(properties) - {"markdown", "background"}:
        yield f"{where}: Should have markdown alone"


def _of_metric_widget(properties: Params, where: str) -> Iterator[str]:
    unknown = sorted(set(properties) - _METRIC_PROPERTIES)
    if unknown:
        yield f"{where}: Should not have {unknown}"
    view = properties.get("view", "timeSeries")
    if view not in _VIEWS:
        yield f"{where}/view: Should be one of {sorted(_VIEWS)}"
    if not isinstance(properties.get("region"), str) or not properties["region"]:
        yield f"{where}/region: Is required"
    period = properties.get("period", 300)
    if not isinstance(period, int) or (
        period not in (1, 5, 10, 30) and (period < 60 or period % 60)
    ):
        yield f"{where}/period: Should be a multiple of 60"
    for name in ("liveData", "setPeriodToTimeRange", "stacked", "sparkline", "trend"):
        if not isinstance(properties.get(name, False), bool):
            yield f"{where}/{name}: Should be boolean"
    if not isinstance(properties.get("title", ""), str):
        yield f"{where}/title: Should be text"
    if "start" in properties and not _is_text(properties["start"], _RELATIVE):
        yield f"{where}/start: Should be relative, such as -P3D"
    annotations = properties.get("annotations") or {}
    metrics = properties.get("metrics")
    if annotations.get("alarms") and metrics:
        yield f"{where}: Should have metrics or an alarm, not both"
    if not annotations.get("alarms") and not metrics:
        yield f"{where}/metrics: Is required"
    yield from _of_axis(properties, where, needed=view == "gauge")
    yield from _of_annotations(annotations, f"{where}/annotations")
    yield from _of_metrics(metrics or [], f"{where}/metrics")


def _of_axis(properties: Params, where: str, *, needed: bool) -> Iterator[str]:
    axis = properties.get("yAxis") or {}
    if set(axis) - {"left", "right"}:
        yield f"{where}/yAxis: Should have left and right alone"
    for side, values in axis.items():
        if set(values) - {"min", "max", "label", "showUnits"}:
            yield f"{where}/yAxis/{side}: Should have min, max, label and showUnits alone"
        low, high = values.get("min"), values.get("max")
        if low is not None and high is not None and not low < high:
            yield f"{where}/yAxis/{side}: Should have min under max"
    left = axis.get("left") or {}
    if needed and not {"min", "max"} <= set(left):
        yield f"{where}/yAxis/left: Should have min and max, for a gauge"


def _of_annotations(annotations: Params, where: str) -> Iterator[str]:
    if set(annotations) - {"horizontal", "vertical", "alarms"}:
        yield f"{where}: Should have horizontal, vertical or alarms"
    for number, each in enumerate(annotations.get("horizontal") or []):
        here = f"{where}/horizontal/{number}"
        band = each if isinstance(each, list) else [each]
        if not 1 <= len(band) <= 2 or not all(isinstance(edge, dict) for edge in band):
            yield f"{here}: Should be a line, or a band of two"
            continue
        for edge in band:
            if isinstance(edge.get("value"), bool) or not isinstance(
                edge.get("value"), (int, float)
            ):
                yield f"{here}/value: Should be a number"
            if edge.get("fill", "none") not in ("above", "below", "none"):
                yield f"{here}/fill: Should be above, below or none"
            if "color" in edge and not _is_text(edge["color"], _COLOR):
                yield f"{here}/color: Should be a color, such as #d62728"
            if set(edge) - {"value", "label", "color", "fill", "visible", "yAxis"}:
                yield f"{here}: Has an unknown property"


def _of_metrics(metrics: object, where: str) -> Iterator[str]:
    if not isinstance(metrics, list) or len(metrics) > MAX_WIDGET_METRICS:
        yield f"{where}: Should be an array of at most {MAX_WIDGET_METRICS}"
        return
    ids: set[str] = set()
    expressions = []
    for number, line in enumerate(metrics):
        here = f"{where}/{number}"
        if not isinstance(line, list) or not line:
            yield f"{here}: Should be array"
            continue
        rendering = line[-1] if isinstance(line[-1], dict) else {}
        names = line[:-1] if rendering or line[-1] == {} else line
        yield from _of_rendering(rendering, here)
        if "id" in rendering:
            if rendering["id"] in ids:
                yield f"{here}/id: Is used twice"
            ids.add(rendering["id"])
        if "expression" in rendering:
            expressions.append((here, rendering["expression"]))
            if names:
                yield f"{here}: Should be an expression alone"
        elif not all(isinstance(name, str) and name for name in names):
            yield f"{here}: Should be texts"
        elif len(names) < 2 or len(names) % 2 or len(names) > 2 + 2 * MAX_DIMENSIONS:
            yield f"{here}: Should be namespace, name, and pairs of dimension and value"
        elif any(set(name) == {"."} for name in names):
            yield f"{here}: Repeats the line above, which is not simulated"
    for here, expression in expressions:
        yield from _of_expression(expression, ids, here)


def _of_rendering(rendering: Params, where: str) -> Iterator[str]:
    unknown = sorted(set(rendering) - _RENDERING)
    if unknown:
        yield f"{where}: Should not have {unknown}"
    if "id" in rendering and not _is_text(rendering["id"], _ID):
        yield f"{where}/id: Should begin with a lower-case letter"
    if not isinstance(rendering.get("label", ""), str):
        yield f"{where}/label: Should be text"
    if "color" in rendering and not _is_text(rendering["color"], _COLOR):
        yield f"{where}/color: Should be a color"


def _of_expression(expression: object, ids: set[str], where: str) -> Iterator[str]:
    if not isinstance(expression, str) or not expression:
        yield f"{where}/expression: Should be text"
        return
    if "SEARCH(" in expression:
        if len(expression) > MAX_SEARCH:
            yield f"{where}/expression: Should be at most {MAX_SEARCH} characters"
        return
    unknown = sorted(set(re.findall(r"\b[a-z][A-Za-z0-9_]*\b", expression)) - ids)
    if unknown:
        yield f"{where}/expression: Names {unknown}, which are no ids"


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
