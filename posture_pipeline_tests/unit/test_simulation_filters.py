"""Filters, tokens, rate limit and CloudWatch's limits of the simulation, without a network."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from posture_pipeline.simulation import page_tokens
from posture_pipeline.simulation.aws_errors import ServiceError
from posture_pipeline.simulation.cloudwatch_limits import (
    check_put_metric_data,
    request_params,
)
from posture_pipeline.simulation.finding_filters import compile_filters
from posture_pipeline.simulation.settings import RateLimit
from posture_pipeline.simulation.throttle import TokenBucket

NOW = dt.datetime(2026, 11, 23, 6, tzinfo=dt.UTC)
FINDING = {
    "Id": "one",
    "AwsAccountId": "012345678901",
    "UpdatedAt": "2026-11-22T20:00:00.000Z",
    "Compliance": {
        "Status": "FAILED",
        "AssociatedStandards": [{"StandardsId": "standards/a"}, {"StandardsId": "standards/b"}],
    },
    "Workflow": {"Status": "NEW"},
    "Resources": [{"Type": "AwsS3Bucket", "Id": "r1"}, {"Type": "AwsKmsKey", "Id": "r2"}],
    "ProductFields": {"aws/config/ConfigRuleName": "lz-rule-1"},
}


def text(value: str, comparison: str = "EQUALS") -> dict:
    return {"Value": value, "Comparison": comparison}


def matches(filters: dict) -> bool:
    return compile_filters(filters, NOW).finding(FINDING)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"ComplianceStatus": [text("FAILED")]}, True),
        ({"ComplianceStatus": [text("failed")]}, False),
        ({"ComplianceStatus": [text("PASSED"), text("FAILED")]}, True),
        ({"ComplianceStatus": [text("PASSED"), text("FAIL", "PREFIX")]}, True),
        ({"ComplianceStatus": [text("FAILED")], "WorkflowStatus": [text("RESOLVED")]}, False),
        ({"WorkflowStatus": [text("RESOLVED", "NOT_EQUALS"), text("X", "NOT_EQUALS")]}, True),
        ({"WorkflowStatus": [text("RESOLVED", "NOT_EQUALS"), text("NEW", "NOT_EQUALS")]}, False),
        ({"AwsAccountId": [text("0", "PREFIX")]}, True),
        ({"AwsAccountId": [text("1", "PREFIX")]}, False),
        ({"AwsAccountId": [text("0", "PREFIX_NOT_EQUALS")]}, False),
        ({"AwsAccountId": [text("0", "PREFIX"), text("012345678901", "NOT_EQUALS")]}, False),
        ({"ComplianceAssociatedStandardsId": [text("standards/b")]}, True),
        ({"ComplianceAssociatedStandardsId": [text("standards/b", "NOT_EQUALS")]}, False),
        ({"ResourceType": [text("AwsKmsKey")]}, True),
        ({"ComplianceSecurityControlId": [text("EC2.1")]}, False),
        ({"ComplianceSecurityControlId": [text("EC2.1", "NOT_EQUALS")]}, True),
        ({"ProductFields": [{"Key": "aws/config/ConfigRuleName", **text("lz-rule-1")}]}, True),
        ({"ProductFields": [{"Key": "aws/config/ConfigRuleName", **text("lz-rule-10")}]}, False),
        ({"ProductFields": [{"Key": "x", **text("y", "NOT_EQUALS")}]}, True),
        ({"UpdatedAt": [{"Start": "2026-11-22T00:00:00Z", "End": "2026-11-23T00:00:00Z"}]}, True),
        ({"UpdatedAt": [{"Start": "2026-11-23T00:00:00Z"}]}, False),
        ({"UpdatedAt": [{"DateRange": {"Value": 1, "Unit": "DAYS"}}]}, True),
        ({"UpdatedAt": [{"DateRange": {"Value": 0, "Unit": "DAYS"}}]}, False),
        (
            {
                "UpdatedAt": [
                    {"DateRange": {"Value": 1, "Unit": "DAYS", "Comparison": "OLDER_THAN"}}
                ]
            },
            False,
        ),
    ],
)
def test_filters_join_values_by_or_and_attributes_and_negations_by_and(
    filters: dict, expected: bool
) -> None:
    assert matches(filters) is expected


@pytest.mark.parametrize(
    "filters",
    [
        {"NoSuchAttribute": [text("x")]},
        {"RelatedFindingsId": [text("x")]},
        {"Keyword": [{"Value": "x"}]},
        {"Title": [text("x", "CONTAINS")]},
        {"Title": [text("x", "NOT_CONTAINS")]},
        {"Title": [text("x", "CONTAINS_WORD")]},
        {"Title": [text("x", "LIKE")]},
        {"Title": [{"Value": "x"}]},
        {"Title": [text(" ")]},
        {"Title": [text("a"), text("b", "NOT_EQUALS")]},
        {"Title": text("a")},
        {"Title": [text(str(n)) for n in range(21)]},
        {"ProductFields": [{"Key": "a", "Value": "b", "Comparison": "PREFIX"}]},
        {"ProductFields": [{"Key": "a", "Value": "b", "Comparison": "CONTAINS"}]},
        {"UpdatedAt": [{"Start": "yesterday"}]},
        {"UpdatedAt": [{}]},
        {"UpdatedAt": [{"DateRange": {"Value": 1, "Unit": "WEEKS"}}]},
        {
            name: [text("x")]
            for name in [
                "Id",
                "Title",
                "Region",
                "GeneratorId",
                "ProductArn",
                "ProductName",
                "CompanyName",
                "RecordState",
                "WorkflowStatus",
                "ComplianceStatus",
                "ResourceId",
            ]
        },
    ],
)
def test_what_is_not_simulated_or_not_allowed_is_refused_and_never_ignored(filters: dict) -> None:
    with pytest.raises(ServiceError) as error:
        compile_filters(filters, NOW)
    assert error.value.code == "InvalidInputException"


def test_a_token_gives_back_its_position_and_shows_nothing_of_it() -> None:
    token = page_tokens.issue("question", [3, 1400], NOW)
    assert page_tokens.read(token, "question", NOW, 60) == [3, 1400]
    assert "1400" not in token


def test_a_token_is_refused_for_another_question_when_old_and_when_damaged() -> None:
    token = page_tokens.issue("question", [1, 2], NOW)
    with pytest.raises(page_tokens.TokenError, match="Input Query has changed"):
        page_tokens.read(token, "another", NOW, 60)
    with pytest.raises(page_tokens.TokenError, match="expired"):
        page_tokens.read(token, "question", NOW + dt.timedelta(seconds=61), 60)
    for damaged in ("", "x", "é", token[:-6], token[:10] + "A" + token[11:]):
        with pytest.raises(page_tokens.TokenError):
            page_tokens.read(damaged, "question", NOW, 60)


def test_the_bucket_allows_a_burst_and_then_the_rate() -> None:
    seconds = [0.0]
    bucket = TokenBucket(RateLimit(3, 6), clock=lambda: seconds[0])
    assert [bucket.take("a") for _ in range(7)] == [True] * 6 + [False]
    assert bucket.take("b")
    seconds[0] = 1.0
    assert [bucket.take("a") for _ in range(4)] == [True] * 3 + [False]


def datum(**members: object) -> dict:
    return {"MetricName": "Score", "Value": 91.5, "Timestamp": NOW.timestamp(), **members}


@pytest.mark.parametrize(
    ("namespace", "data"),
    [
        ("AWS/Posture", [datum()]),
        (":Posture", [datum()]),
        ("Posture", [datum()] * 1001),
        ("Posture", [datum(Dimensions=[{"Name": str(n), "Value": "x"} for n in range(31)])]),
        ("Posture", [datum(Dimensions=[{"Name": "Workload", "Value": "zahlungsverkehr-ü"}])]),
        ("Posture", [datum(Dimensions=[{"Name": "Workload", "Value": " "}])]),
        ("Posture", [datum(Dimensions=[{"Name": "Workload", "Value": ""}])]),
        ("Posture", [datum(Dimensions=[{"Name": "Workload", "Value": "x" * 1025}])]),
        ("Posture", [datum(Dimensions=[{"Name": ":Workload", "Value": "x"}])]),
        ("Posture", [datum(MetricName="x" * 256)]),
        ("Posture", [datum(Timestamp=(NOW - dt.timedelta(days=14, seconds=1)).timestamp())]),
        ("Posture", [datum(Timestamp=(NOW + dt.timedelta(hours=2, seconds=1)).isoformat())]),
        ("Posture", [datum(Value=math.nan)]),
        ("Posture", [datum(Value="NaN")]),
        ("Posture", [datum(Value=math.inf)]),
        ("Posture", [datum(Value=2.0**361)]),
        ("Posture", []),
        ("", [datum()]),
        ("Posture", [{"MetricName": "Score"}]),
    ],
)
def test_cloudwatch_refuses_what_the_real_one_refuses(namespace: str, data: list) -> None:
    with pytest.raises(ServiceError) as error:
        check_put_metric_data({"Namespace": namespace, "MetricData": data}, NOW)
    assert error.value.code.startswith(("InvalidParameter", "MissingParameter"))


def test_cloudwatch_takes_what_is_just_within_its_limits() -> None:
    data = [
        datum(
            Dimensions=[{"Name": f"d{n}", "Value": "x" * 1024} for n in range(30)],
            Timestamp=(NOW - dt.timedelta(days=14)).timestamp(),
        )
    ] * 1000
    check_put_metric_data({"Namespace": "Posture", "MetricData": data}, NOW)


def test_the_query_protocol_of_older_clients_is_read_too() -> None:
    body = (
        b"Action=PutMetricData&Namespace=N&MetricData.member.1.MetricName=Score"
        b"&MetricData.member.1.Value=91.5&MetricData.member.1.Dimensions.member.1.Name=A"
        b"&MetricData.member.1.Dimensions.member.1.Value=b"
    )
    params = request_params(body, "application/x-www-form-urlencoded; charset=utf-8", "")
    assert params["MetricData"] == [
        {"MetricName": "Score", "Value": "91.5", "Dimensions": [{"Name": "A", "Value": "b"}]}
    ]
    check_put_metric_data(params, NOW)
