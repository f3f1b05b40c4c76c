"""CloudWatch's limits of PutMetricData, held in front of a store that would take anything.

Checks only; keeping and returning metrics is left to the store.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import math
import urllib.parse
from typing import Any

from posture_pipeline.simulation.aws_errors import ServiceError

MAX_METRICS = 1000
"""Metrics of one request (AWS: PutMetricData)."""
MAX_REQUEST_BYTES = 1024 * 1024
"""Size of one request, as sent (AWS: PutMetricData)."""
MAX_DIMENSIONS = 30
"""Dimensions of one metric (AWS: MetricDatum)."""
MAX_NAME = 255
"""Characters of names of metrics, dimensions and namespaces (AWS: MetricDatum, Dimension)."""
MAX_DIMENSION_VALUE = 1024
"""Characters of a dimension's value (AWS: Dimension)."""
MAX_VALUES = 150
"""Unique values of one metric (AWS: MetricDatum)."""
OLDEST = dt.timedelta(days=14)
"""How far back a timestamp may lie (AWS: PutMetricData)."""
NEWEST = dt.timedelta(hours=2)
"""How far ahead a timestamp may lie (AWS: PutMetricData)."""
LARGEST = 2.0**360
"""Greatest magnitude of a value (AWS: MetricDatum)."""


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValue", message)


def check_put_metric_data(params: dict[str, Any], now: dt.datetime) -> None:
    """Refuse what CloudWatch would refuse.

    Args:
        params: of the request, with timestamps as seconds, text or datetimes.
        now: the moment that the limits on timestamps count from.

    Raises:
        ServiceError: with the code that the service documents.
    """
    namespace = params.get("Namespace")
    if not namespace:
        raise ServiceError(code="MissingParameter", message="The parameter Namespace is required.")
    if namespace.startswith(("AWS/", ":")) or len(namespace) > MAX_NAME:
        raise _invalid(
            message=f"The value {namespace} for parameter Namespace is invalid: it must not begin "
            f"with AWS/ or a colon, nor be longer than {MAX_NAME} characters."
        )
    data = params.get("MetricData") or []
    if not data and not params.get("EntityMetricData"):
        raise ServiceError(code="MissingParameter", message="The parameter MetricData is required.")
    if params.get("EntityMetricData"):
        raise ServiceError(
            code="NotSimulatedException", message="EntityMetricData is not simulated", status=501
        )
    if len(data) > MAX_METRICS:
        raise _invalid(
            message=f"The collection MetricData must not have a size greater than {MAX_METRICS}."
        )
    for number, datum in enumerate(data, start=1):
        _check_datum(datum, f"MetricData.member.{number}", now)


def _check_datum(datum: dict[str, Any], where: str, now: dt.datetime) -> None:
    name = datum.get("MetricName")
    if not name:
        raise ServiceError(
            code="MissingParameter", message=f"The parameter {where}.MetricName is required."
        )
    if not 1 <= len(name) <= MAX_NAME or name.startswith(":"):
        raise _invalid(
            message=f"The parameter {where}.MetricName must have 1 to {MAX_NAME} characters."
        )
    dimensions = datum.get("Dimensions") or []
    if len(dimensions) > MAX_DIMENSIONS:
        raise _invalid(
            message=f"The collection {where}.Dimensions must not be larger than {MAX_DIMENSIONS}."
        )
    for position, dimension in enumerate(dimensions, start=1):
        _check_dimension(dimension, f"{where}.Dimensions.member.{position}")
    _check_values(datum, where)
    moment = _moment(datum.get("Timestamp"), where)
    if moment is not None and not now - OLDEST <= moment <= now + NEWEST:
        raise _invalid(
            message=f"The parameter {where}.Timestamp must specify a time within the past two "
            "weeks and no more than two hours in the future."
        )


def _check_dimension(dimension: dict[str, Any], where: str) -> None:
    name, value = dimension.get("Name", ""), dimension.get("Value", "")
    if not 1 <= len(name) <= MAX_NAME or name.startswith(":") or not _printable(name):
        raise _invalid(
            message=f"The parameter {where}.Name must be ASCII text of 1 to {MAX_NAME} characters "
            "that is not blank and does not begin with a colon."
        )
    if not 1 <= len(value) <= MAX_DIMENSION_VALUE or not _printable(value):
        raise _invalid(
            message=f"The parameter {where}.Value must be ASCII text of 1 to {MAX_DIMENSION_VALUE} "
            "characters that is not blank."
        )


def _printable(text: str) -> bool:
    return bool(text.strip()) and all(" " <= ch <= "~" for ch in text)


def _check_values(datum: dict[str, Any], where: str) -> None:
    ways = [m for m in ("Value", "StatisticValues", "Values") if datum.get(m) is not None]
    if len(ways) != 1:
        code = "InvalidParameterCombination" if ways else "MissingParameter"
        raise ServiceError(
            code=code,
            message=f"{where} must have exactly one of Value, Values and StatisticValues.",
        )
    numbers = {
        "Value": lambda: [datum["Value"]],
        "Values": lambda: list(datum["Values"]) + list(datum.get("Counts") or []),
        "StatisticValues": lambda: list(datum["StatisticValues"].values()),
    }[ways[0]]()
    if len(datum.get("Values") or []) > MAX_VALUES:
        raise _invalid(
            message=f"The collection {where}.Values must not be longer than {MAX_VALUES}."
        )
    for number in numbers:
        try:
            value = float(number)
        except (TypeError, ValueError):
            raise _invalid(message=f"The value {number!r} for {where} is not a number.") from None
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise _invalid(message=f"The value {number} for parameter {where}.Value is invalid.")


def _moment(value: object, where: str) -> dt.datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, (int, float)):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise _invalid(
            message=f"The value {value} for parameter {where}.Timestamp is invalid."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def request_params(body: bytes, content_type: str, content_encoding: str) -> dict[str, Any]:
    """Return the parameters of a CloudWatch request, in either form that clients send.

    Raises:
        ServiceError: the body is too large, or in a form that is not simulated.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise ServiceError(
            code="RequestEntityTooLarge", message="The request is larger than 1 MB.", status=413
        )
    if "gzip" in content_encoding:
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError) as error:
            raise ServiceError(
                code="SerializationException", message="The body is no gzip data."
            ) from error
    if "json" in content_type:
        try:
            params = json.loads(body)
        except ValueError as error:
            raise ServiceError(
                code="SerializationException", message="The body is no JSON."
            ) from error
        if isinstance(params, dict):
            return params
        raise ServiceError(code="SerializationException", message="The body is no structure.")
    if "x-www-form-urlencoded" in content_type:
        return _query_params(body)
    raise ServiceError(
        code="NotSimulatedException", message=f"{content_type} is not simulated", status=501
    )


def _query_params(body: bytes) -> dict[str, Any]:
    pairs = urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    tree: dict[str, Any] = {}
    for path, value in pairs:
        node = tree
        steps = path.split(".")
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = value
    listed = _lists(tree)
    assert isinstance(listed, dict)
    return listed


def _lists(node: object) -> object:
    if not isinstance(node, dict):
        return node
    members = node.get("member")
    if set(node) == {"member"} and isinstance(members, dict):
        return [_lists(members[key]) for key in sorted(members, key=int)]
    return {key: _lists(value) for key, value in node.items()}
