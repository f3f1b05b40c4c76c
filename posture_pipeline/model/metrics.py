"""Scores as CloudWatch metrics: which data, with which dimensions.

Values that CloudWatch would refuse are made acceptable here, two workloads never becoming one.
Calling CloudWatch belongs elsewhere.

Source of the limits: botocore's model of CloudWatch, shapes PutMetricData, Dimension, MetricDatum.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import polars as pl

MAX_DIMENSION_VALUE = 1024
"""Characters of a dimension's value (Dimension.Value)."""

DIMENSIONS = ("Report", "Workload", "Environment")
"""The dimensions of a workload's metrics; a dashboard's SEARCH must name exactly these."""

ORGANIZATION_DIMENSIONS = ("Report",)
"""The dimensions of the organization's metrics. A metric is its name and all its dimensions, so
none of a workload's is ever one of these (AWS: CloudWatch concepts, Dimensions)."""

UNNAMED = "unnamed"
"""Stands for a value of which nothing is left that CloudWatch accepts."""

_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class MetricDatum:
    """One value of one metric.

    Attributes:
        name: Score, Controls, FailedControls or Findings.
        value: Finite.
        unit: Percent or Count.
        dimensions: Name and value, in the order of `DIMENSIONS` or `ORGANIZATION_DIMENSIONS`.
        timestamp: When the snapshot was complete.
    """

    name: str
    value: float
    unit: str
    dimensions: tuple[tuple[str, str], ...]
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class PublishedMetrics:
    """What goes to CloudWatch.

    Attributes:
        data: In the order of the scores, the organization's last.
        notes: A sentence for every value that had to be changed.
    """

    data: tuple[MetricDatum, ...]
    notes: tuple[str, ...]


def metric_data(
    workload_scores: pl.DataFrame, organization_scores: pl.DataFrame | None = None
) -> PublishedMetrics:
    """The metrics of workload scores, and of the organization's.

    Score is left out where there is none, so that an alarm sees missing data and no number. A score
    that is withheld has none of the four: a small count would look like a clean-up.
    Controls are those in the score's denominator, Findings those that failed.

    Args:
        workload_scores: Columns of `schemas.WORKLOAD_SCORES`.
        organization_scores: Columns of `schemas.ORGANIZATION_SCORES`; null publishes none.

    Returns:
        The data, and what was changed in names.
    """
    names = published_names(workload_scores)
    data = _data_of(workload_scores, DIMENSIONS, names)
    if organization_scores is not None:
        reports = acceptable_values(organization_scores["report"].unique().to_list())
        data += _data_of(organization_scores, ORGANIZATION_DIMENSIONS, {"Report": reports})
    notes = [
        f"{dimension} {original!r} is published as {changed!r}: CloudWatch accepts 1 to "
        f"{MAX_DIMENSION_VALUE} ASCII characters without control characters."
        for dimension, values in names.items()
        for original, changed in values.items()
        if original != changed
    ]
    return PublishedMetrics(tuple(data), tuple(notes))


def published_names(workload_scores: pl.DataFrame) -> dict[str, dict[str | None, str]]:
    """What each value of each dimension is published as, by the dimension."""
    return {
        dimension: acceptable_values(workload_scores[dimension.lower()].unique().to_list())
        for dimension in DIMENSIONS
    }


def acceptable_values(values: Iterable[str | None]) -> dict[str | None, str]:
    """What each value is published as: itself, or something like it with a hash of it.

    >>> acceptable_values(["my-workload"])
    {'my-workload': 'my-workload'}
    >>> acceptable_values(["café"])
    {'café': 'cafe-850f7dc4'}
    """
    originals = sorted(set(values), key=lambda value: (value is not None, value or ""))
    accepted = {each: each for each in originals if each is not None and _is_acceptable(each)}
    result: dict[str | None, str] = {}
    taken = set(accepted)
    for each in originals:
        published = accepted[each] if each in accepted else _unlike(each or "", taken)
        taken.add(published)
        result[each] = published
    return result


def _is_acceptable(value: str) -> bool:
    return (
        0 < len(value) <= MAX_DIMENSION_VALUE
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
        # In a dashboard's list of metrics dots alone mean "as in the line above".
        and set(value) != {"."}
    )


def _unlike(value: str, taken: set[str]) -> str:
    """An acceptable form of the value that no other value has."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^\x20-\x7e]+", " ", plain).strip() or UNNAMED
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    for digits in range(_HASH_DIGITS, len(digest) + 1):
        suffix = f"-{digest[:digits]}"
        published = plain[: MAX_DIMENSION_VALUE - len(suffix)] + suffix
        if published not in taken:
            break
    return published


def _data_of(
    scores: pl.DataFrame,
    dimensions: tuple[str, ...],
    names: dict[str, dict[str | None, str]],
) -> list[MetricDatum]:
    return [
        MetricDatum(name, value, unit, _dimensions(row, dimensions, names), row["collected_at"])
        for row in scores.iter_rows(named=True)
        for name, value, unit in _values(row)
        if value is not None and math.isfinite(value)
    ]


def _values(row: dict[str, object]) -> list[tuple[str, float | None, str]]:
    def number(name: str) -> float | None:
        value = row[name]
        return float(value) if isinstance(value, int | float) else None

    counts = [number(name) for name in ("passed", "failed", "unknown")]
    controls = None if None in counts else sum(each or 0.0 for each in counts)
    return [
        ("Score", number("score"), "Percent"),
        ("Controls", controls, "Count"),
        ("FailedControls", number("failed"), "Count"),
        ("Findings", number("failed_findings"), "Count"),
    ]


def _dimensions(
    row: dict[str, object],
    dimensions: tuple[str, ...],
    names: dict[str, dict[str | None, str]],
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (dimension, names[dimension][_optional_text(row[dimension.lower()])])
        for dimension in dimensions
    )


def _optional_text(value: object) -> str | None:
    return value if isinstance(value, str) else None
