"""A report's `filter`: Security Hub's AwsSecurityFindingFilters evaluated on stored findings.

The JSON is the one people use with GetFindings. What cannot be answered from the stored columns is
refused when the settings are loaded, never ignored. Filters of a collection, which AWS evaluates,
do not belong here.

Source: botocore's model of Security Hub, shapes AwsSecurityFindingFilters, StringFilter,
DateFilter, DateRange and MapFilter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import and_, or_
from typing import Any

import polars as pl

from posture_pipeline.schemas import RESOURCE_SEPARATOR, SEPARATOR, TIMESTAMP

MAX_ATTRIBUTES = 10
"""Attributes in one filter (GetFindings, Filters)."""

MAX_VALUES = 20
"""Values for one attribute (GetFindings, Filters)."""

TEXT_COLUMNS = {
    "AwsAccountId": "account_id",
    "AwsAccountName": "account_name",
    "ComplianceSecurityControlId": "security_control_id",
    "ComplianceStatus": "compliance_status",
    "GeneratorId": "generator_id",
    "Id": "finding_id",
    "NoteText": "note_text",
    "NoteUpdatedBy": "note_updated_by",
    "ProductArn": "product_arn",
    "ProductName": "product_name",
    "RecordState": "record_state",
    "Region": "region",
    "ResourceType": "resource_type",
    "SeverityLabel": "severity_label",
    "Title": "title",
    "WorkflowStatus": "workflow_status",
}
"""Attributes of one text, and their columns. Of several resources the first's type is stored."""

LIST_COLUMNS = {
    "ComplianceAssociatedStandardsId": (("standards", SEPARATOR),),
    "ResourceId": (("resource_id", None), ("more_resource_ids", RESOURCE_SEPARATOR)),
    "Type": (("types", " | "),),
}
"""Attributes of several texts: their columns, and what joins the texts in each."""

DATE_COLUMNS = {
    "CreatedAt": "created_at",
    "FirstObservedAt": "first_observed_at",
    "LastObservedAt": "last_observed_at",
    "NoteUpdatedAt": "note_updated_at",
    "UpdatedAt": "updated_at",
}

MAP_COLUMNS = {("ProductFields", "aws/config/ConfigRuleName"): "config_rule_name"}
"""Keys of map attributes that are stored, and their columns."""

_Test = Callable[[pl.Expr, str], pl.Expr]

_POSITIVE: Mapping[str, _Test] = {
    "EQUALS": lambda text, value: text == value,
    "PREFIX": lambda text, value: text.str.starts_with(value),
    "CONTAINS": lambda text, value: text.str.contains(value, literal=True),
}
"""Comparisons of which one must hold."""

_NEGATIVE: Mapping[str, str] = {
    "NOT_EQUALS": "EQUALS",
    "PREFIX_NOT_EQUALS": "PREFIX",
    "NOT_CONTAINS": "CONTAINS",
}
"""Comparisons that must all hold, each with the one it denies."""

_COMPARISONS = (*_POSITIVE, *_NEGATIVE)
_MAP_COMPARISONS = ("EQUALS", "NOT_EQUALS", "CONTAINS", "NOT_CONTAINS")


def validate_filters(filters: Mapping[str, Any]) -> None:
    """Checks that a filter can be evaluated on stored findings.

    Raises:
        ValueError: It cannot; the text names the attribute or comparison and what is supported.
    """
    if len(filters) > MAX_ATTRIBUTES:
        message = f"has {len(filters)} attributes; Security Hub allows {MAX_ATTRIBUTES}"
        raise ValueError(message)
    for attribute, conditions in filters.items():
        _validate_conditions(attribute, conditions)


def filter_expression(filters: Mapping[str, Any]) -> pl.Expr:
    """Whether a finding matches, as Security Hub would decide it.

    Attributes are joined by AND. Of one attribute, EQUALS, PREFIX and CONTAINS are joined by OR,
    NOT_EQUALS, PREFIX_NOT_EQUALS and NOT_CONTAINS by AND. A finding without the attribute matches
    no positive condition and every negative one. A DateRange counts back from the end of the
    snapshot's day.

    Args:
        filters: AwsSecurityFindingFilters; see `validate_filters`.

    Returns:
        A Boolean expression, never null, over columns of `schemas.ACCOUNT_FINDINGS`.

    Raises:
        ValueError: The filter cannot be evaluated on stored findings.
    """
    validate_filters(filters)
    each = [
        _attribute_matches(attribute, conditions)
        for attribute, conditions in filters.items()
        if conditions
    ]
    return reduce(and_, each) if each else pl.lit(value=True)


def _attribute_matches(attribute: str, conditions: Sequence[Mapping[str, Any]]) -> pl.Expr:
    if attribute in DATE_COLUMNS:
        column = pl.col(DATE_COLUMNS[attribute])
        return reduce(or_, [_date_matches(column, each) for each in conditions])
    positive = [_positive(attribute, each) for each in conditions if not _negates(each)]
    negative = [_positive(attribute, each).not_() for each in conditions if _negates(each)]
    every = [reduce(or_, positive), *negative] if positive else negative
    return reduce(and_, every)


def _negates(condition: Mapping[str, Any]) -> bool:
    return condition["Comparison"] in _NEGATIVE


def _positive(attribute: str, condition: Mapping[str, Any]) -> pl.Expr:
    """Whether the value holds by the comparison, or by the one that the comparison denies."""
    comparison = condition["Comparison"]
    holds = _POSITIVE[_NEGATIVE.get(comparison, comparison)]
    value = condition["Value"]
    if attribute in LIST_COLUMNS:
        return reduce(
            or_,
            [
                _any_holds(pl.col(name), joined_by, lambda text: holds(text, value))
                for name, joined_by in LIST_COLUMNS[attribute]
            ],
        )
    name = (
        MAP_COLUMNS[attribute, condition["Key"]] if "Key" in condition else TEXT_COLUMNS[attribute]
    )
    # AwsAccountId of a finding of another cloud is the account of its connector.
    text = pl.coalesce("connector_account_id", name) if name == "account_id" else pl.col(name)
    return holds(text, value).fill_null(value=False)


def _any_holds(
    column: pl.Expr, joined_by: str | None, holds: Callable[[pl.Expr], pl.Expr]
) -> pl.Expr:
    if joined_by is None:
        return holds(column).fill_null(value=False)
    return (
        column.str.split(joined_by).list.eval(holds(pl.element())).list.any().fill_null(value=False)
    )


def _date_matches(column: pl.Expr, condition: Mapping[str, Any]) -> pl.Expr:
    if "DateRange" in condition:
        span = condition["DateRange"]
        end_of_day = (
            pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").dt.offset_by("1d")
        )
        since = end_of_day.dt.offset_by(f"-{span['Value']}d")
        within = column >= since
        older = span.get("Comparison", "WITHIN") == "OLDER_THAN"
        return ((column < since) if older else within).fill_null(value=False)
    bounds = []
    if "Start" in condition:
        bounds.append(column >= pl.lit(_moment(condition["Start"]), dtype=TIMESTAMP))
    if "End" in condition:
        bounds.append(column <= pl.lit(_moment(condition["End"]), dtype=TIMESTAMP))
    return reduce(and_, bounds).fill_null(value=False)


def _moment(text: object) -> datetime:
    """An ISO 8601 date and time; without an offset it is UTC."""
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _validate_conditions(attribute: str, conditions: object) -> None:
    maps = {name for name, _ in MAP_COLUMNS}
    supported = sorted({*TEXT_COLUMNS, *LIST_COLUMNS, *DATE_COLUMNS, *maps})
    if attribute not in supported:
        message = f"{attribute} is not supported in a filter; use {', '.join(supported)}"
        raise ValueError(message)
    if not isinstance(conditions, list | tuple) or not all(
        isinstance(each, Mapping) for each in conditions
    ):
        message = f"{attribute} must be a list of objects, such as {_example(attribute)}"
        raise ValueError(message)
    if len(conditions) > MAX_VALUES:
        message = f"{attribute} has {len(conditions)} values; Security Hub allows {MAX_VALUES}"
        raise ValueError(message)
    for each in conditions:
        if attribute in DATE_COLUMNS:
            _validate_date(attribute, each)
        elif attribute in maps:
            _validate_map(attribute, each)
        else:
            _validate_text(attribute, each, _COMPARISONS, {"Value", "Comparison"})
    comparisons = {each.get("Comparison") for each in conditions}
    if "EQUALS" in comparisons and comparisons & set(_NEGATIVE):
        message = f"{attribute} mixes EQUALS with a negative comparison, which Security Hub refuses"
        raise ValueError(message)


def _validate_text(
    attribute: str, condition: Mapping[str, Any], comparisons: Sequence[str], keys: set[str]
) -> None:
    if set(condition) != keys or not isinstance(condition.get("Value"), str):
        message = (
            f"{attribute} has {dict(condition)!r}; each value must be an object like "
            f"{_example(attribute)}, with a text as Value"
        )
        raise ValueError(message)
    if condition["Comparison"] not in comparisons:
        message = (
            f"{attribute} has the comparison {condition['Comparison']!r}; "
            f"use {', '.join(comparisons)}"
        )
        raise ValueError(message)


def _validate_map(attribute: str, condition: Mapping[str, Any]) -> None:
    _validate_text(attribute, condition, _MAP_COMPARISONS, {"Key", "Value", "Comparison"})
    if (attribute, condition["Key"]) not in MAP_COLUMNS:
        known = ", ".join(key for name, key in MAP_COLUMNS if name == attribute)
        message = f"{attribute} has the key {condition['Key']!r}; only {known} is stored"
        raise ValueError(message)


def _validate_date(attribute: str, condition: Mapping[str, Any]) -> None:
    if set(condition) == {"DateRange"}:
        _validate_date_range(attribute, condition["DateRange"])
        return
    if not condition or not set(condition) <= {"Start", "End"}:
        message = f"{attribute} has {dict(condition)!r}; use Start, End, or DateRange"
        raise ValueError(message)
    for name, value in condition.items():
        try:
            _moment(value)
        except ValueError as error:
            message = (
                f"{attribute} has {name} {value!r}; use a date and time such as "
                "2026-11-23T00:00:00Z"
            )
            raise ValueError(message) from error


def _validate_date_range(attribute: str, span: object) -> None:
    valid = (
        isinstance(span, Mapping)
        and set(span) <= {"Value", "Unit", "Comparison"}
        and isinstance(span.get("Value"), int)
        and not isinstance(span["Value"], bool)
        and 0 < span["Value"] <= 36_500
        and span.get("Unit") == "DAYS"
        and span.get("Comparison", "WITHIN") in {"WITHIN", "OLDER_THAN"}
    )
    if not valid:
        message = (
            f"{attribute} has the DateRange {span!r}; use {{Value: 7, Unit: DAYS}}, "
            "with Comparison WITHIN or OLDER_THAN"
        )
        raise ValueError(message)


def _example(attribute: str) -> str:
    if attribute in DATE_COLUMNS:
        return "[{Start: 2026-11-23T00:00:00Z}]"
    if any(name == attribute for name, _ in MAP_COLUMNS):
        return "[{Key: aws/config/ConfigRuleName, Value: ..., Comparison: EQUALS}]"
    return "[{Value: ..., Comparison: EQUALS}]"
