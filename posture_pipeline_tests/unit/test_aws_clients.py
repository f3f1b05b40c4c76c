"""Errors of AWS in our words: what to do about them, and whether they pass by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as b

from posture_pipeline.aws.clients import (
    AwsClients,
    NotEnabledError,
    PassingAwsError,
    UnsupportedCallError,
    aws_call,
    error_code,
    error_message,
    is_passing,
)
from posture_pipeline.errors import AwsError, CredentialsError, PermissionMissingError
from posture_pipeline.settings import Aws

ACTION = "securityhub:GetFindings"
PLACE = "eu-west-1"
AWS = Aws(role_arn="arn:aws:iam::111122223333:role/posture", profile="audit")


def refusal(code: str, status: int = 400, operation: str = "GetFindings") -> b.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "the text of AWS"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return b.ClientError(response, operation)


def translated(error: Exception) -> AwsError:
    with pytest.raises(AwsError) as caught, aws_call(ACTION, place=PLACE, aws=AWS):
        raise error
    assert PLACE in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (refusal("ExpiredTokenException", 403), CredentialsError, "Renew them"),
        (refusal("ExpiredToken", 403), CredentialsError, "goes on where it stopped"),
        (refusal("UnrecognizedClientException", 403), CredentialsError, "does not accept"),
        (refusal("SignatureDoesNotMatch", 403), CredentialsError, "clock"),
        (b.NoCredentialsError(), CredentialsError, "no AWS credentials were found"),
        (b.ProfileNotFound(profile="audit"), CredentialsError, "'audit'"),
        (
            b.UnauthorizedSSOTokenError(),
            CredentialsError,
            "aws sso login",
        ),
        (refusal("AccessDeniedException", 403), PermissionMissingError, ACTION),
        (refusal("AccessDenied", 403), PermissionMissingError, ACTION),
        (refusal("InvalidAccessException", 401), NotEnabledError, "not enabled"),
        (refusal("OptInRequired", 403), NotEnabledError, "opted in"),
        (refusal("UnknownOperationException", 404), UnsupportedCallError, "does not know"),
        (refusal("501", 501), UnsupportedCallError, "does not know"),
        (refusal("InvalidInputException"), AwsError, "the text of AWS"),
        (b.SSLError(endpoint_url="https://x", error="self-signed"), AwsError, "AWS_CA_BUNDLE"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:60],
)
def test_an_error_that_stays_says_what_to_do(
    error: Exception, kind: type[AwsError], text: str
) -> None:
    found = translated(error)
    assert type(found) is kind
    assert text in str(found)
    assert not is_passing(found)


@pytest.mark.parametrize(
    "error",
    [
        refusal("ThrottlingException"),
        refusal("TooManyRequestsException", 429),
        refusal("anything", 429),
        refusal("InternalException", 500),
        refusal("InternalServerError", 400),
        refusal("502", 502),
        refusal("503", 503),
        b.EndpointConnectionError(endpoint_url="http://127.0.0.1:1", error="refused"),
        b.ConnectTimeoutError(endpoint_url="http://127.0.0.1:1", error="late"),
        b.ReadTimeoutError(endpoint_url="http://127.0.0.1:1", error="late"),
        b.ConnectionClosedError(endpoint_url="http://127.0.0.1:1"),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'response', '')}"[:70],
)
def test_an_error_that_passes_is_told_apart(error: Exception) -> None:
    found = translated(error)
    assert type(found) is PassingAwsError
    assert is_passing(found)
    assert ACTION in str(found)


def test_a_role_that_cannot_be_assumed_is_named_not_the_call_that_needed_it() -> None:
    found = translated(refusal("AccessDenied", 403, "AssumeRole"))
    assert "sts:AssumeRole" in str(found)
    assert str(AWS.role_arn) in str(found)
    assert ACTION not in str(found)


def test_the_code_and_text_of_aws_stay_readable() -> None:
    found = translated(refusal("InvalidInputException"))
    assert error_code(found) == "InvalidInputException"
    assert error_message(found) == "the text of AWS"
    assert error_code(translated(b.NoCredentialsError())) is None


def test_mistakes_of_the_program_are_not_translated() -> None:
    with pytest.raises(KeyError), aws_call(ACTION, place=PLACE):
        {}["Findings"]
    with pytest.raises(b.ParamValidationError), aws_call(ACTION, place=PLACE):
        raise b.ParamValidationError(report="Unknown parameter")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:5000", True),
        ("http://[::1]:5000", True),
        ("http://aws.localhost:1", True),
        ("https://vpce-1.securityhub.eu-west-1.vpce.amazonaws.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1", False),
        (None, False),
    ],
)
def test_a_loopback_endpoint_is_recognized(url: str | None, loopback: bool) -> None:
    assert AwsClients(Aws(endpoint_url=url)).loopback is loopback


def test_a_loopback_endpoint_never_sees_real_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    clients = AwsClients(Aws(endpoint_url="http://127.0.0.1:9", profile="not-there"))
    client: Any = clients.security_hub()
    credentials = client._request_signer._credentials
    assert credentials.access_key == "simulated"
    assert credentials.token is None


def test_a_profile_that_does_not_exist_is_named() -> None:
    with pytest.raises(CredentialsError, match="'no-such-profile'"):
        AwsClients(Aws(profile="no-such-profile")).security_hub()


def test_each_region_has_one_client_that_is_kept() -> None:
    clients = AwsClients(Aws(endpoint_url="http://127.0.0.1:9"))
    assert clients.security_hub() is clients.security_hub("eu-west-1")
    assert clients.security_hub("us-east-1").meta.region_name == "us-east-1"
    assert clients.security_hub() is not clients.new_security_hub("eu-west-1")


def test_an_embedded_endpoint_goes_before_the_one_of_the_settings() -> None:
    clients = AwsClients(Aws(endpoint_url="http://10.0.0.1"), endpoint_url="http://127.0.0.1:9")
    assert clients.endpoint_url == "http://127.0.0.1:9"
    assert clients.loopback
