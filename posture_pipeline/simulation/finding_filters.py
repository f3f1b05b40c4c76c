"""Filters of GetFindings: AwsSecurityFindingFilters turned into a predicate over findings.

As strict as AWS where AWS says so, and stricter where it is silent: what is not simulated is
refused, never ignored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from posture_pipeline.simulation.aws_errors import invalid_input
from posture_pipeline.simulation.rendering import Finding, parse_time

Predicate = Callable[[Finding], bool]

MAX_ATTRIBUTES = 10
"""Attributes of one request (AWS: GetFindings)."""
MAX_VALUES = 20
"""Filter values of one attribute (AWS: GetFindings)."""

_TEXTS: dict[str, tuple[str, ...]] = {
    "Id": ("Id",),
    "ProductArn": ("ProductArn",),
    "ProductName": ("ProductName",),
    "CompanyName": ("CompanyName",),
    "AwsAccountId": ("AwsAccountId",),
    "AwsAccountName": ("AwsAccountName",),
    "Region": ("Region",),
    "GeneratorId": ("GeneratorId",),
    "Title": ("Title",),
    "Description": ("Description",),
    "Type": ("Types", "[]"),
    "RecordState": ("RecordState",),
    "WorkflowState": ("WorkflowState",),
    "WorkflowStatus": ("Workflow", "Status"),
    "ComplianceStatus": ("Compliance", "Status"),
    "ComplianceSecurityControlId": ("Compliance", "SecurityControlId"),
    "ComplianceAssociatedStandardsId": (
        "Compliance",
        "AssociatedStandards",
        "[]",
        "StandardsId",
    ),
    "SeverityLabel": ("Severity", "Label"),
    "ResourceType": ("Resources", "[]", "Type"),
    "ResourceId": ("Resources", "[]", "Id"),
    "ResourceRegion": ("Resources", "[]", "Region"),
    "ResourcePartition": ("Resources", "[]", "Partition"),
    "NoteText": ("Note", "Text"),
    "NoteUpdatedBy": ("Note", "UpdatedBy"),
    "VerificationState": ("VerificationState",),
    "FindingProviderFieldsSeverityLabel": ("FindingProviderFields", "Severity", "Label"),
    "FindingProviderFieldsTypes": ("FindingProviderFields", "Types", "[]"),
}
_DATES = {
    "CreatedAt": ("CreatedAt",),
    "UpdatedAt": ("UpdatedAt",),
    "FirstObservedAt": ("FirstObservedAt",),
    "LastObservedAt": ("LastObservedAt",),
    "NoteUpdatedAt": ("Note", "UpdatedAt"),
}
_NUMBERS = {"SeverityNormalized": ("Severity", "Normalized")}
_MAPS: dict[str, tuple[str, ...]] = {
    "ProductFields": ("ProductFields",),
    "UserDefinedFields": ("UserDefinedFields",),
    "ResourceTags": ("Resources", "[]", "Tags"),
}


_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


class CompiledFilter(NamedTuple):
    """A filter that can be asked.

    Attributes:
        account: whether findings of an account id can match at all.
        finding: whether a finding matches.
        updated_from: no finding that was updated earlier matches.
    """

    account: Callable[[str], bool]
    finding: Predicate
    updated_from: dt.datetime = _EARLIEST


def compile_filters(filters: dict[str, Any], now: dt.datetime) -> CompiledFilter:
    """Return the predicate that a request's filters stand for.

    Args:
        filters: AwsSecurityFindingFilters; an empty one matches everything.
        now: the moment that relative date ranges count from.

    Raises:
        ServiceError: InvalidInputException with what is wrong, or what is not simulated.
    """
    if not isinstance(filters, dict):
        raise invalid_input(message="Filters must be a structure")
    if len(filters) > MAX_ATTRIBUTES:
        raise invalid_input(
            message=f"Filters holds {len(filters)} attributes; at most {MAX_ATTRIBUTES} are allowed"
        )
    predicates: list[Predicate] = []
    account: Callable[[str], bool] = _anything
    for name, conditions in filters.items():
        if not isinstance(conditions, list) or not all(isinstance(c, dict) for c in conditions):
            raise invalid_input(message=f"Filters.{name} must be a list of filters")
        if not conditions:
            continue
        if len(conditions) > MAX_VALUES:
            raise invalid_input(
                message=f"Filters.{name} holds {len(conditions)} values, more than {MAX_VALUES}"
            )
        if name in _TEXTS:
            test = _text_test(name, conditions)
            if name == "AwsAccountId":
                account = _one_value(test)
            predicates.append(_on_path(_TEXTS[name], test))
        elif name in _DATES:
            predicates.append(_on_path(_DATES[name], _date_test(name, conditions, now)))
        elif name in _NUMBERS:
            predicates.append(_on_path(_NUMBERS[name], _number_test(name, conditions)))
        elif name in _MAPS:
            predicates.append(_on_path(_MAPS[name], _map_test(name, conditions)))
        else:
            raise invalid_input(
                message=f"Filters.{name} is not simulated or no attribute of findings"
            )

    def matches(finding: Finding) -> bool:
        return all(predicate(finding) for predicate in predicates)

    return CompiledFilter(account, matches, _updated_from(filters.get("UpdatedAt") or []))


def _updated_from(conditions: list[dict[str, Any]]) -> dt.datetime:
    starts = [parse_time(str(each.get("Start", ""))) or _EARLIEST for each in conditions]
    return min(starts, default=_EARLIEST)


class SortField(NamedTuple):
    """A member of findings that they are sorted by."""

    path: tuple[str, ...]
    descending: bool


def compile_order(criteria: object) -> list[SortField]:
    """Return what SortCriteria ask for, the first the most important; nothing for none.

    Raises:
        ServiceError: InvalidInputException with what is wrong, or what is not simulated.
    """
    if not isinstance(criteria, list) or not all(isinstance(c, dict) for c in criteria):
        raise invalid_input(message="SortCriteria must be a list of criteria")
    fields = {**_TEXTS, **_DATES, **_NUMBERS}
    order = []
    for criterion in criteria:
        name, direction = criterion.get("Field"), criterion.get("SortOrder", "asc")
        if name not in fields:
            raise invalid_input(message=f"SortCriteria: Field {name!r} cannot be sorted by")
        if direction not in ("asc", "desc"):
            raise invalid_input(message=f"SortCriteria: SortOrder {direction!r} is unknown")
        order.append(SortField(fields[name], direction == "desc"))
    return order


def sort_value(finding: Finding, field: SortField) -> tuple[bool, Any]:
    """Return what a finding is sorted by: its least value, and one without any is the least."""
    values = _values(finding, field.path)
    return (bool(values), min(values, default=0))


ValuesTest = Callable[[list[Any]], bool]


def _anything(_: str) -> bool:
    return True


def _one_value(test: ValuesTest) -> Callable[[str], bool]:
    return lambda value: test([value])


def _on_path(path: tuple[str, ...], test: ValuesTest) -> Predicate:
    if len(path) == 1:
        key = path[0]

        def direct(finding: Finding) -> bool:
            value = finding.get(key)
            return test([] if value is None else [value])

        return direct
    return lambda finding: test(_values(finding, path))


def _values(finding: object, path: Iterable[str]) -> list[Any]:
    found: list[Any] = [finding]
    for step in path:
        if step == "[]":
            found = [item for value in found if isinstance(value, list) for item in value]
        else:
            found = [v[step] for v in found if isinstance(v, dict) and v.get(step) is not None]
    return found


def _known_members(name: str, condition: dict[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(condition) - allowed)
    if unknown:
        raise invalid_input(message=f"Filters.{name} has the unknown member {unknown[0]}")


def _text_test(name: str, conditions: list[dict[str, Any]]) -> ValuesTest:
    equals: set[str] = set()
    prefixes: list[str] = []
    not_equals: set[str] = set()
    not_prefixes: list[str] = []
    for condition in conditions:
        _known_members(name, condition, {"Value", "Comparison"})
        value, comparison = condition.get("Value"), condition.get("Comparison")
        if not isinstance(value, str) or not value.strip():
            raise invalid_input(message=f"Filters.{name}: Value must be text that is not blank")
        if comparison == "EQUALS":
            equals.add(value)
        elif comparison == "PREFIX":
            prefixes.append(value)
        elif comparison == "NOT_EQUALS":
            not_equals.add(value)
        elif comparison == "PREFIX_NOT_EQUALS":
            not_prefixes.append(value)
        elif comparison in ("CONTAINS", "NOT_CONTAINS", "CONTAINS_WORD"):
            raise invalid_input(
                message=f"Filters.{name}: {comparison} is not supported by GetFindings"
            )
        else:
            raise invalid_input(message=f"Filters.{name}: Comparison {comparison!r} is unknown")
    if equals and (not_equals or not_prefixes):
        raise invalid_input(
            message=f"Filters.{name}: EQUALS cannot be combined with a negative comparison"
        )
    positive = bool(equals or prefixes)
    starts, starts_not = tuple(prefixes), tuple(not_prefixes)

    def test(values: list[Any]) -> bool:
        if positive and not any(v in equals or v.startswith(starts) for v in values):
            return False
        return not any(v in not_equals or v.startswith(starts_not) for v in values)

    if not starts and not not_equals and not starts_not:
        return lambda values: any(v in equals for v in values)
    return test


def _date_test(name: str, conditions: list[dict[str, Any]], now: dt.datetime) -> ValuesTest:
    ranges: list[tuple[dt.datetime, dt.datetime]] = []
    earliest = dt.datetime.min.replace(tzinfo=dt.UTC)
    latest = dt.datetime.max.replace(tzinfo=dt.UTC)
    for condition in conditions:
        _known_members(name, condition, {"Start", "End", "DateRange"})
        span = condition.get("DateRange")
        if span is not None:
            if "Start" in condition or "End" in condition:
                raise invalid_input(message=f"Filters.{name}: DateRange excludes Start and End")
            _known_members(name, span, {"Value", "Unit", "Comparison"})
            days = span.get("Value")
            if span.get("Unit") != "DAYS" or not isinstance(days, int) or days < 0:
                raise invalid_input(message=f"Filters.{name}: DateRange needs a Value in DAYS")
            edge = now - dt.timedelta(days=days)
            comparison = span.get("Comparison", "WITHIN")
            if comparison not in ("WITHIN", "OLDER_THAN"):
                raise invalid_input(message=f"Filters.{name}: Comparison {comparison!r} is unknown")
            ranges.append((edge, latest) if comparison == "WITHIN" else (earliest, edge))
            continue
        if "Start" not in condition and "End" not in condition:
            raise invalid_input(message=f"Filters.{name}: Start, End or DateRange is needed")
        bounds = []
        for member, default in (("Start", earliest), ("End", latest)):
            text = condition.get(member)
            moment = default if text is None else parse_time(str(text))
            if moment is None:
                raise invalid_input(message=f"Filters.{name}: {member} {text!r} is not a timestamp")
            bounds.append(moment)
        ranges.append((bounds[0], bounds[1]))

    def test(values: list[Any]) -> bool:
        for value in values:
            moment = parse_time(str(value))
            if moment and any(start <= moment <= end for start, end in ranges):
                return True
        return False

    return test


def _number_test(name: str, conditions: list[dict[str, Any]]) -> ValuesTest:
    for condition in conditions:
        _known_members(name, condition, {"Gte", "Lte", "Eq"})

    def one(value: float, condition: dict[str, float]) -> bool:
        return (
            value >= condition.get("Gte", value)
            and value <= condition.get("Lte", value)
            and value == condition.get("Eq", value)
        )

    return lambda values: any(one(v, c) for v in values for c in conditions)


def _map_test(name: str, conditions: list[dict[str, Any]]) -> ValuesTest:
    wanted: list[tuple[str, str]] = []
    refused: list[tuple[str, str]] = []
    for condition in conditions:
        _known_members(name, condition, {"Key", "Value", "Comparison"})
        key, value = condition.get("Key"), condition.get("Value")
        comparison = condition.get("Comparison")
        if not isinstance(key, str) or not isinstance(value, str):
            raise invalid_input(message=f"Filters.{name}: Key and Value must be text")
        if comparison == "EQUALS":
            wanted.append((key, value))
        elif comparison == "NOT_EQUALS":
            refused.append((key, value))
        elif comparison in ("CONTAINS", "NOT_CONTAINS"):
            raise invalid_input(
                message=f"Filters.{name}: {comparison} is not supported by GetFindings"
            )
        else:
            raise invalid_input(message=f"Filters.{name}: Comparison {comparison!r} is unknown")
    if wanted and refused:
        raise invalid_input(message=f"Filters.{name}: EQUALS cannot be combined with NOT_EQUALS")

    def test(values: list[Any]) -> bool:
        if wanted:
            return any(m.get(k) == v for m in values for k, v in wanted)
        return not any(m.get(k) == v for m in values for k, v in refused)

    return test
