"""A report's filter decides about stored findings as Security Hub would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.model.filters import filter_expression, validate_filters
from posture_pipeline.schemas import ACCOUNT_FINDINGS
from posture_pipeline.settings import Report

DAY = date(2026, 11, 23)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def equals(value: str, comparison: str = "EQUALS") -> dict[str, str]:
    return {"Value": value, "Comparison": comparison}


def matches(filters: dict[str, Any], **columns: Any) -> bool:
    row = ACCOUNT_FINDINGS.read_as(pl.DataFrame([{"date": DAY, **columns}]))
    return bool(row.select(filter_expression(filters)).item())


def test_an_empty_filter_matches_everything() -> None:
    assert matches({})
    assert matches({"Region": []})


def test_attributes_must_all_match() -> None:
    both = {"Region": [equals("a")], "Title": [equals("t")]}
    assert matches(both, region="a", title="t")
    assert not matches(both, region="a", title="u")


def test_of_positive_values_one_must_match() -> None:
    filters = {"Region": [equals("a"), equals("eu-", "PREFIX")]}
    assert matches(filters, region="a")
    assert matches(filters, region="eu-west-1")
    assert not matches(filters, region="us-east-1")


def test_of_negative_values_all_must_hold() -> None:
    filters = {"Region": [equals("a", "NOT_EQUALS"), equals("eu-", "PREFIX_NOT_EQUALS")]}
    assert matches(filters, region="us-east-1")
    assert not matches(filters, region="a")
    assert not matches(filters, region="eu-west-1")


def test_values_are_case_sensitive_and_no_patterns() -> None:
    assert not matches({"Title": [equals("ABC")]}, title="abc")
    assert not matches({"Title": [equals("a.c", "CONTAINS")]}, title="abc")


def test_a_finding_without_the_attribute_matches_only_negative_values() -> None:
    assert not matches({"NoteText": [equals("a", "CONTAINS")]})
    assert matches({"NoteText": [equals("a", "NOT_CONTAINS")]})


def test_a_standard_is_one_of_several() -> None:
    standards = "standards/a/v/1 standards/a/v/10"
    filters = {"ComplianceAssociatedStandardsId": [equals("standards/a/v/1")]}
    assert matches(filters, standards=standards)
    assert not matches(filters, standards="standards/a/v/10")
    assert not matches(filters)
    negative = {"ComplianceAssociatedStandardsId": [equals("standards/a/v/1", "NOT_EQUALS")]}
    assert not matches(negative, standards=standards)
    assert matches(negative)


def test_a_config_rule_is_chosen_by_its_product_field() -> None:
    condition = {"Key": "aws/config/ConfigRuleName", **equals("lz-s3")}
    assert matches({"ProductFields": [condition]}, config_rule_name="lz-s3")
    assert not matches({"ProductFields": [condition]}, config_rule_name="lz-s3-x")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"Start": "2026-11-23T12:00:00Z"}, True),
        ({"Start": "2026-11-23T12:00:01Z"}, False),
        ({"End": "2026-11-23T13:00:00+01:00"}, True),
        ({"Start": "2026-11-01", "End": "2026-11-22"}, False),
        ({"DateRange": {"Value": 1, "Unit": "DAYS"}}, True),
        ({"DateRange": {"Value": 1, "Unit": "DAYS", "Comparison": "OLDER_THAN"}}, False),
    ],
)
def test_dates_are_compared_as_moments(condition: dict[str, Any], expected: bool) -> None:
    assert matches({"UpdatedAt": [condition]}, updated_at=NOON) is expected
    assert not matches({"UpdatedAt": [condition]})


def test_a_date_range_counts_back_from_the_end_of_the_snapshots_day() -> None:
    within = {"UpdatedAt": [{"DateRange": {"Value": 2, "Unit": "DAYS", "Comparison": "WITHIN"}}]}
    assert matches(within, updated_at=datetime(2026, 11, 22, tzinfo=UTC))
    assert not matches(within, updated_at=datetime(2026, 11, 22, tzinfo=UTC) - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"Keyword": [{"Value": "a"}]}, "Keyword is not supported"),
        ({"Region": "a"}, "Region must be a list"),
        ({"Region": [equals("a", "LIKE")]}, "comparison 'LIKE'; use EQUALS"),
        ({"Region": [{"Value": 5, "Comparison": "EQUALS"}]}, "with a text as Value"),
        ({"Region": [{"Value": "a"}]}, "Region has"),
        ({"Region": [equals("a"), equals("b", "NOT_EQUALS")]}, "mixes EQUALS"),
        ({"Region": [equals("a")] * 21}, "21 values"),
        ({f"A{i}": [] for i in range(11)}, "11 attributes"),
        ({"UpdatedAt": [{"Since": "x"}]}, "use Start, End, or DateRange"),
        ({"UpdatedAt": [{"Start": "noon"}]}, "Start 'noon'"),
        ({"UpdatedAt": [{"DateRange": {"Value": 0, "Unit": "DAYS"}}]}, "DateRange"),
        ({"ProductFields": [{"Key": "x", **equals("a")}]}, "only aws/config/ConfigRuleName"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_name(filters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        validate_filters(filters)


def test_a_report_with_an_unsupported_filter_is_refused_when_loaded() -> None:
    with pytest.raises(ValueError, match="AwsAccountId, AwsAccountName"):
        Report(name="r", custom_rules=("a",), filter={"MalwareName": []})


TEXT = st.sampled_from(["", "a", "ab", "abc", "b", "A"])
HOLDS: dict[str, Callable[[str, str], bool]] = {
    "EQUALS": lambda text, value: text == value,
    "PREFIX": lambda text, value: text.startswith(value),
    "CONTAINS": lambda text, value: value in text,
}
DENIES = {"NOT_EQUALS": "EQUALS", "PREFIX_NOT_EQUALS": "PREFIX", "NOT_CONTAINS": "CONTAINS"}


def oracle(conditions: list[dict[str, str]], text: str | None) -> bool:
    def holds(comparison: str, value: str) -> bool:
        return text is not None and HOLDS[comparison](text, value)

    pairs = [(each["Comparison"], each["Value"]) for each in conditions]
    positive = [holds(comparison, value) for comparison, value in pairs if comparison in HOLDS]
    negative = [not holds(DENIES[each], value) for each, value in pairs if each in DENIES]
    return all(negative) and (not positive or any(positive))


CONDITIONS = st.lists(
    st.builds(equals, TEXT, st.sampled_from([*HOLDS, *DENIES])), min_size=1, max_size=4
).filter(
    lambda each: (
        not (
            {"EQUALS"} & {c["Comparison"] for c in each}
            and DENIES.keys() & {c["Comparison"] for c in each}
        )
    )
)


@given(
    st.dictionaries(st.sampled_from(["Title", "Region", "NoteText"]), CONDITIONS, max_size=3),
    st.lists(st.tuples(*(st.none() | TEXT for _ in range(3))), min_size=1, max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_the_expression_decides_as_the_rules_written_out(
    filters: dict[str, Any], rows: list[tuple[str | None, ...]]
) -> None:
    columns = {"Title": "title", "Region": "region", "NoteText": "note_text"}
    schema = dict.fromkeys(columns.values(), pl.String())
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    found = frame.select(matches=filter_expression(filters)).to_series()
    expected = [
        all(
            oracle(conditions, dict(zip(columns, row, strict=True))[attribute])
            for attribute, conditions in filters.items()
        )
        for row in rows
    ]
    assert (found.to_list() * len(rows))[: len(rows)] == expected
