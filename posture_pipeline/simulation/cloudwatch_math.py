"""Metric math of CloudWatch's GetMetricData: expressions over the metrics of the same request.

The store answers plain metrics only. Arithmetic and the functions here are those that people use
on scores; SEARCH and the others are refused, never ignored (AWS: CloudWatch user guide, using
metric math).
"""

from __future__ import annotations

import ast
import json
import math
import operator
from collections.abc import Callable
from typing import Any

from posture_pipeline.simulation.aws_errors import ServiceError

Series = dict[float, float]
"""Values by timestamp."""
_Value = Series | float | list[Series]

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


_STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "AVG": _mean,
    "MIN": min,
    "MAX": max,
    "SUM": math.fsum,
}
"""Of one series: a number. Of a list of series: a series, time by time."""


def has_expressions(params: dict[str, Any]) -> bool:
    """Return whether a request needs more than the store can answer."""
    return any("Expression" in query for query in params.get("MetricDataQueries") or [])


def without_expressions(params: dict[str, Any]) -> dict[str, Any]:
    """Return the request for the metrics that the expressions are over, hidden ones included.

    Raises:
        ServiceError: ValidationError, an id is missing or used twice.
    """
    queries = params["MetricDataQueries"]
    ids = [query.get("Id") for query in queries]
    if None in ids or len(set(ids)) < len(ids):
        raise _refused(message=f"the ids of the queries must all be there and differ: {ids}")
    metrics = [{**q, "ReturnData": True} for q in queries if "MetricStat" in q]
    if not metrics:
        raise _refused(
            message="an expression needs a metric of the same request; SEARCH is not simulated"
        )
    return {**params, "MetricDataQueries": metrics}


def answer(params: dict[str, Any], body: bytes) -> bytes:
    """Return the reply to a request with expressions.

    Args:
        params: of the request.
        body: what the store answers to the request without its expressions, as JSON.

    Raises:
        ServiceError: ValidationError, an expression is wrong or not simulated.
    """
    stored = {each["Id"]: each for each in json.loads(body)["MetricDataResults"]}
    series = {
        name: dict(zip(each["Timestamps"], each["Values"], strict=True))
        for name, each in stored.items()
    }
    queries = {query["Id"]: query for query in params["MetricDataQueries"]}
    descending = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    results = []
    for name, query in queries.items():
        if not query.get("ReturnData", True):
            continue
        if "MetricStat" in query:
            results.append(stored[name])
            continue
        found = _Evaluation(queries, series).series(name)
        times = sorted(found, reverse=descending)
        results.append(
            {
                "Id": name,
                "Label": query.get("Label") or name,
                "Timestamps": times,
                "Values": [found[time] for time in times],
                "StatusCode": "Complete",
            }
        )
    return json.dumps({"MetricDataResults": results}).encode()


class _Evaluation:
    """Evaluates the expressions of one request; they may refer to each other."""

    def __init__(self, queries: dict[str, Any], series: dict[str, Series]) -> None:
        self._queries = queries
        self._series = series
        self._open: list[str] = []

    def series(self, name: str) -> Series:
        """Return the values of a query by its id.

        Raises:
            ServiceError: ValidationError, the expression is wrong or not simulated.
        """
        if name in self._series:
            return self._series[name]
        if name not in self._queries or name in self._open:
            raise _refused(message=f"{name} is no other query of the request")
        self._open.append(name)
        text = self._queries[name]["Expression"]
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise _refused(message=f"{text!r} is no expression") from error
        value = self._value(tree)
        self._open.pop()
        if isinstance(value, list):
            raise _refused(message=f"{text!r} is a list of series, and one is expected")
        if isinstance(value, float):
            times = {time for each in self._series.values() for time in each}
            value = dict.fromkeys(times, value)
        self._series[name] = value
        return value

    def _value(self, node: ast.expr) -> _Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Name):
            return self.series(node.id)
        if isinstance(node, ast.List):
            return [self._one(each) for each in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _combined(operator.sub, 0.0, self._value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            how = _OPERATORS[type(node.op)]
            return _combined(how, self._value(node.left), self._value(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            test = _COMPARISONS.get(type(node.ops[0]))
            if test is not None:
                return _combined(test, self._value(node.left), self._value(node.comparators[0]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._called(node.func.id.upper(), node.args)
        raise _refused(message=f"{ast.unparse(node)!r} is not simulated")

    def _one(self, node: ast.expr) -> Series:
        value = self._value(node)
        if not isinstance(value, dict):
            raise _refused(message=f"{ast.unparse(node)!r} is not one series")
        return value

    def _called(self, name: str, arguments: list[ast.expr]) -> _Value:
        if name == "METRICS" and not arguments:
            metrics = [n for n, query in self._queries.items() if "MetricStat" in query]
            return [self._series[each] for each in metrics]
        if name in _STATISTICS and len(arguments) == 1:
            value = self._value(arguments[0])
            if isinstance(value, float):
                return value
            if isinstance(value, dict):
                return _STATISTICS[name](list(value.values())) if value else {}
            times = {time for each in value for time in each}
            return {
                time: _STATISTICS[name]([each[time] for each in value if time in each])
                for time in times
            }
        if name == "FILL" and len(arguments) == 2:
            return self._filled(self._one(arguments[0]), arguments[1])
        if name == "IF" and len(arguments) == 3:
            test = self._one(arguments[0])
            yes, no = (self._value(each) for each in arguments[1:])
            chosen = {time: yes if holds else no for time, holds in test.items()}
            return {
                time: value if isinstance(value, float) else value[time]
                for time, value in chosen.items()
                if isinstance(value, float) or (isinstance(value, dict) and time in value)
            }
        raise _refused(message=f"{name} with {len(arguments)} arguments is not simulated")

    def _filled(self, series: Series, by: ast.expr) -> Series:
        """Return a series with a value at every time that the request knows."""
        times = sorted({time for each in self._series.values() for time in each})
        if isinstance(by, ast.Name) and by.id.upper() == "REPEAT":
            found: Series = {}
            last: float | None = None
            for time in times:
                last = series.get(time, last)
                if last is not None:
                    found[time] = last
            return found
        filling = self._value(by)
        if not isinstance(filling, float):
            raise _refused(message="FILL needs REPEAT or a number")
        return {time: series.get(time, filling) for time in times}


def _combined(how: Callable[[float, float], float], left: _Value, right: _Value) -> _Value:
    """Return two values combined time by time; times that one of them lacks are left out."""
    if isinstance(left, list) or isinstance(right, list):
        raise _refused(message="a list of series cannot be calculated with here")
    if isinstance(left, float) and isinstance(right, float):
        return _calculated(how, left, right) or 0.0
    times = (
        left.keys() if isinstance(left, dict) else right.keys() if isinstance(right, dict) else ()
    )
    found: Series = {}
    for time in times:
        one = left.get(time) if isinstance(left, dict) else left
        two = right.get(time) if isinstance(right, dict) else right
        value = None if one is None or two is None else _calculated(how, one, two)
        if value is not None:
            found[time] = value
    return found


def _calculated(how: Callable[[float, float], float], one: float, two: float) -> float | None:
    """Return a number; None for a division by zero, which CloudWatch leaves out."""
    try:
        value = float(how(one, two))
    except (ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _refused(message: str) -> ServiceError:
    return ServiceError("ValidationError", f"Error in expression: {message}")
