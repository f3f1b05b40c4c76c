"""Publishing to CloudWatch: metric data in batches within its limits.

Which metrics there are is decided elsewhere; here they are only sent.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from posture_pipeline.aws.clients import AwsClients, aws_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DATA_PER_REQUEST = 1000
"""Metric data of one request at most (AWS: PutMetricData)."""
BYTES_PER_REQUEST = 1_000_000
"""Size of one request at most, a little under AWS's 1 MB, counted before compression (same)."""
OLDEST = timedelta(days=14)
"""How old a point may be (AWS: PutMetricData, MetricDatum Timestamp: two weeks)."""
NEWEST = timedelta(hours=2)
"""How far in the future a point may be (same)."""
DIMENSIONS = 30
"""Dimensions of a metric at most (AWS: MetricDatum)."""
DIMENSION_NAME_LENGTH = 255
DIMENSION_VALUE_LENGTH = 1024
"""Lengths of a dimension's name and value at most; both ASCII (AWS: Dimension)."""
LARGEST = 2.0**360
"""Largest value, either side of 0 (AWS: MetricDatum Value)."""
_DATUM_OVERHEAD = 64
ACTION = "cloudwatch:PutMetricData"


@dataclass(frozen=True, slots=True)
class PublishedMetrics:
    """What was published.

    Attributes:
        sent: Points that CloudWatch took.
        requests: Requests they took.
        skipped: Points left out, by the reason.
    """

    sent: int
    requests: int
    skipped: Mapping[str, int]

    @property
    def note(self) -> str | None:
        """What was left out and why, as a sentence; null when nothing was."""
        if not self.skipped:
            return None
        parts = [f"{count} {reason}" for reason, count in sorted(self.skipped.items())]
        return f"Not published: {'; '.join(parts)}."


def publish(
    clients: AwsClients,
    namespace: str,
    data: Iterable[Mapping[str, Any]],
    *,
    now: datetime,
) -> PublishedMetrics:
    """Publishes metric data.

    A point sent twice adds a sample to the same point: Average, Maximum and Minimum stay, Sum and
    SampleCount do not. So a repeated run does no harm to charts of the first three.

    Args:
        clients: How AWS is reached.
        namespace: The CloudWatch namespace.
        data: Points as PutMetricData takes them, each with a Value and a Timestamp with time zone.
        now: The endpoint's time, against which a point is too old.

    Raises:
        PermissionMissingError: cloudwatch:PutMetricData is not allowed.
        AwsError: CloudWatch refused or failed.
    """
    skipped: Counter[str] = Counter()
    wanted: list[Mapping[str, Any]] = []
    for datum in data:
        reason = _unfit(datum, now)
        if reason is None:
            wanted.append(datum)
        else:
            skipped[reason] += 1
    requests = 0
    for batch in _batches(wanted):
        with aws_call(ACTION, place=f"{clients.region}, {namespace}", aws=clients.aws):
            clients.cloudwatch().put_metric_data(Namespace=namespace, MetricData=cast("Any", batch))
        requests += 1
    return PublishedMetrics(len(wanted), requests, dict(skipped))


def _unfit(datum: Mapping[str, Any], now: datetime) -> str | None:
    """Why CloudWatch would refuse a point, and with it its whole batch; null when it would not."""
    at: datetime = datum["Timestamp"]
    if at < now - OLDEST:
        return "older than two weeks, which CloudWatch does not take"
    if at > now + NEWEST:
        return "more than two hours in the future, which CloudWatch does not take"
    value = float(datum["Value"])
    if not math.isfinite(value) or abs(value) > LARGEST:
        return "without a finite value"
    dimensions = datum.get("Dimensions", ())
    if len(dimensions) > DIMENSIONS:
        return f"with more than {DIMENSIONS} dimensions"
    if not all(_fits(dimension) for dimension in dimensions):
        return "with a dimension that is blank, too long or not ASCII"
    return None


def _fits(dimension: Mapping[str, str]) -> bool:
    name, value = dimension["Name"], dimension["Value"]
    return (
        0 < len(name) <= DIMENSION_NAME_LENGTH
        and 0 < len(value) <= DIMENSION_VALUE_LENGTH
        and not name.startswith(":")
        and all(text.isascii() and text.isprintable() and text.strip() for text in (name, value))
    )


def _batches(data: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    size = 0
    for datum in data:
        # JSON as botocore writes it, timestamps as numbers; the rest is room for the envelope.
        length = len(json.dumps(datum, default=_seconds)) + _DATUM_OVERHEAD
        if batch and (len(batch) == DATA_PER_REQUEST or size + length > BYTES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(datum)
        size += length
    if batch:
        yield batch


def _seconds(value: object) -> float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).timestamp()
    message = f"{value!r} cannot be published"
    raise TypeError(message)
