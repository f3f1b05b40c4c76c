"""How AWS is reached: session, clients, the endpoint's clock, and its errors in our words.

What is asked of a service belongs in the module of that service; nothing here decides what to do
about an error, only whether it passes by itself.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from posture_pipeline.errors import AwsError, CredentialsError, PermissionMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    import boto3
    from botocore.exceptions import ClientError
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_config import ConfigServiceClient
    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_securityhub import SecurityHubClient
    from mypy_boto3_sts import STSClient

    from posture_pipeline.settings import Aws

logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""Tries of one request in all; botocore's default of 3 gives up within two seconds."""
READ_TIMEOUT_SECONDS = 30.0
"""Without a byte from the endpoint for so long, a request is tried again."""
CONNECT_TIMEOUT_SECONDS = 5.0
CONNECTIONS = 16
"""Open connections a client keeps, for the threads that share it."""
RetryMode = Literal["adaptive", "standard"]
ROLE_SESSION_NAME = "posture-pipeline"

THROTTLE_CODES = frozenset(
    {
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Error codes that mean "too fast" (botocore/retries/standard.py). GetFindings answers with
TooManyRequestsException, which its service model does not declare."""

_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_REFUSED_CREDENTIALS_CODES = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_UNKNOWN_CREDENTIALS_CODES = frozenset({"UnrecognizedClientException", "InvalidClientTokenId"})
"""What a region answers that the account has not opted in to, whatever the credentials."""
_SERVICE_CONTROL_POLICY = "explicit deny in a service control policy"
"""In the text of a refusal that no policy of a role can lift."""
_DENIED_CODES = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
)
_UNSUPPORTED_CODES = frozenset(
    {"404", "501", "NotImplemented", "UnknownOperation", "UnknownOperationException"}
)
_PASSING_CODES = frozenset(
    {
        "InternalError",
        "InternalException",
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
_FIRST_FAILING_STATUS = 500
_ERROR_BYTES = 2048
"""Of an error's body that is looked at for its code."""
_SECONDS_BETWEEN_NOTES = 30.0
"""Minimum time between two log lines about a call that keeps being throttled."""
_FIRST_REFUSED_STATUS = 300
_REPLIED_BY = "PostureRepliedBy"
"""Put into the reply of a refused call: its region, and another that took the credentials."""


class PassingAwsError(AwsError):
    """A call failed for a reason that passes by itself: the same run may be tried again.

    Every other `AwsError` stays until somebody does what its text says, so a retry is no use.
    """


class UnsupportedCallError(AwsError):
    """The endpoint does not know the call; another way to the same facts may work."""


class NotEnabledError(AwsError):
    """The service is not enabled in the account and region."""


class RegionNotEnabledError(NotEnabledError):
    """The account has not opted in to the region; the credentials are fine."""


class ServiceControlPolicyError(PermissionMissingError):
    """A service control policy of the organization denies the call."""


def is_unavailable_region(error: BaseException) -> bool:
    """Whether a region cannot be asked, and nothing in the credentials or the role lifts that."""
    return isinstance(error, RegionNotEnabledError | ServiceControlPolicyError)


def is_passing(error: BaseException) -> bool:
    """Whether an error passes by itself, so that trying the same run again makes sense."""
    return isinstance(error, PassingAwsError)


def is_throttle(response_dict: Mapping[str, Any]) -> bool:
    """Whether a reply, as botocore has it before it is parsed, says "too fast"."""
    if response_dict["status_code"] == 429:
        return True
    # As a header, or in the body as JSON or XML.
    said = str(response_dict["headers"].get("x-amzn-errortype", ""))
    said += bytes(response_dict["body"] or b"")[:_ERROR_BYTES].decode("utf-8", "replace")
    return any(code in said for code in THROTTLE_CODES)


def error_code(error: BaseException) -> str | None:
    """AWS's code of an error raised by `aws_call`; null when it did not come as a reply."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return None
    code = response.get("Error", {}).get("Code")
    return None if code is None else str(code)


def error_message(error: BaseException) -> str:
    """AWS's own text of an error raised by `aws_call`, or what botocore said."""
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Message") or "no message")
    return str(error.__cause__ or error)


class AwsClients:
    """Makes and keeps the clients of one set of AWS settings; safe to share between threads."""

    def __init__(
        self,
        aws: Aws,
        *,
        endpoint_url: str | None = None,
        attempts: int = ATTEMPTS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
    ) -> None:
        """Reads nothing and asks nothing: the session is made with the first client.

        Args:
            aws: How AWS is reached.
            endpoint_url: Instead of the one of the settings: where the embedded simulated
                organization listens.
            attempts: Tries of one request in all.
            read_timeout: Seconds without a byte after which a request is tried again.
            connect_timeout: Seconds a connection may take.
        """
        self.aws = aws
        self.region = aws.region
        self.endpoint_url = endpoint_url or aws.endpoint_url
        self.loopback = self.endpoint_url is not None and _is_loopback(self.endpoint_url)
        self._attempts = attempts
        self._read_timeout = read_timeout
        self._connect_timeout = connect_timeout
        # Sessions and the making of clients are not thread-safe; clients are.
        self._lock = threading.RLock()
        self._session: boto3.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._seen: tuple[datetime, float] | None = None
        self._accepted_in: dict[str, None] = {}
        self._noted: dict[tuple[str, str], float] = {}

    def security_hub(self, region: str | None = None) -> SecurityHubClient:
        """The Security Hub client of a region; without one, of the home region."""
        return cast("SecurityHubClient", self._client("securityhub", region))

    def new_security_hub(self, region: str) -> SecurityHubClient:
        """A Security Hub client of its own, for a caller that adds a rate budget to it.

        Its retries are of the mode `standard`. The mode `adaptive` has a rate limiter of its own,
        which under a budget only doubles the waiting: after some throttled replies it let 66 pages
        through in 80 seconds.
        """
        with self._lock:
            return cast("SecurityHubClient", self._make("securityhub", region, "standard"))

    def config(self, region: str | None = None) -> ConfigServiceClient:
        """The AWS Config client of a region; without one, of the home region."""
        return cast("ConfigServiceClient", self._client("config", region))

    def organizations(self) -> OrganizationsClient:
        """The Organizations client."""
        return cast("OrganizationsClient", self._client("organizations", None))

    def cloudwatch(self) -> CloudWatchClient:
        """The CloudWatch client of the home region."""
        return cast("CloudWatchClient", self._client("cloudwatch", None))

    def s3(self) -> Any:  # noqa: ANN401 - no stubs: the lake's objects go through obstore
        """The S3 client of the home region; its endpoint is what settings and environment say."""
        return self._client("s3", None)

    def credentials(self) -> tuple[str, str, str | None]:
        """Key, secret key and session token; refreshed 10 minutes before their end or earlier.

        Raises:
            CredentialsError: There are none, or they cannot be refreshed.
        """
        from botocore.exceptions import NoCredentialsError

        with self._lock, aws_call("the credentials", place=self.region, aws=self.aws):
            if self._session is None:
                self._session = self._new_session()
            found = self._session.get_credentials()
            if found is None:
                raise NoCredentialsError
            frozen = found.get_frozen_credentials()
        return str(frozen.access_key), str(frozen.secret_key), frozen.token

    def sns(self, region: str) -> Any:  # noqa: ANN401 - one call, not worth the stubs of a service
        """The SNS client of a region."""
        return self._client("sns", region)

    def sts(self) -> STSClient:
        """The STS client of the home region."""
        return cast("STSClient", self._client("sts", None))

    def now(self) -> datetime:
        """What time it is at the endpoint, UTC, to the second.

        It asks with a small call, whose answer matters less than its Date header: a reply that
        refuses the call tells the time as well. The local clock is not used, so a wrong one cannot
        file a snapshot under a wrong day.

        Raises:
            AwsError: Nothing answered, or the answer had no Date.
        """
        with self._lock:
            self._seen = None
        error: AwsError | None = None
        try:
            with aws_call("securityhub:DescribeHub", place=self.region, aws=self.aws):
                self.security_hub().describe_hub()
        except AwsError as refused:
            error = refused
        seen = self.last_seen()
        if seen is not None:
            return seen
        if error is not None:
            raise error
        message = (
            f"The replies of {self.endpoint_url or 'AWS'} have no Date header, so the day of the "
            "snapshot is unknown; a proxy in between must leave that header in."
        )
        raise AwsError(message)

    def last_seen(self) -> datetime | None:
        """The endpoint's time by the newest reply and the seconds since; null before the first."""
        with self._lock:
            if self._seen is None:
                return None
            date, at = self._seen
        return date + timedelta(seconds=int(time.monotonic() - at))

    def _client(self, service: str, region: str | None) -> Any:  # noqa: ANN401 - cast by callers
        key = (service, region or self.region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make(*key)
            return self._clients[key]

    def _make(self, service: str, region: str, mode: RetryMode = "adaptive") -> Any:  # noqa: ANN401
        from botocore.exceptions import BotoCoreError

        try:
            if self._session is None:
                self._session = self._new_session()
            client = self._from(self._session, service, region, mode)
        except (BotoCoreError, ValueError) as error:
            raise _unmade(error, self.aws, service, region) from error
        client.meta.events.register("before-parse", partial(self._see, region))
        return client

    def _from(
        self, session: boto3.Session, service: str, region: str, mode: RetryMode = "adaptive"
    ) -> Any:  # noqa: ANN401 - cast by callers
        from botocore.config import Config

        options: dict[str, Any] = {"proxies": {}} if self.loopback else {}
        config = Config(
            retries={"mode": mode, "total_max_attempts": self._attempts},
            read_timeout=self._read_timeout,
            connect_timeout=self._connect_timeout,
            max_pool_connections=CONNECTIONS,
            **options,
        )
        make = cast("Any", session).client
        return make(service, region_name=region, endpoint_url=self.endpoint_url, config=config)

    def _new_session(self) -> boto3.Session:
        import boto3
        import botocore.session
        from botocore.credentials import (
            CredentialResolver,
            DeferredRefreshableCredentials,
            create_assume_role_refresher,
        )

        if self.loopback:
            # Whoever listens on this machine never gets real credentials to see.
            base = boto3.Session(
                aws_access_key_id="simulated",
                aws_secret_access_key="simulated",  # noqa: S106 - no secret: any value is taken
                region_name=self.region,
            )
        else:
            base = boto3.Session(profile_name=self.aws.profile, region_name=self.region)
        if self.aws.role_arn is None:
            return base
        refresh = create_assume_role_refresher(
            self._from(base, "sts", self.region),
            {"RoleArn": self.aws.role_arn, "RoleSessionName": ROLE_SESSION_NAME},
        )
        assumed = DeferredRefreshableCredentials(refresh, method="sts-assume-role")
        session = botocore.session.Session()
        resolver = CredentialResolver(providers=[cast("Any", _Provider(assumed))])
        session.register_component("credential_provider", resolver)
        return boto3.Session(botocore_session=session, region_name=self.region)

    def _see(
        self,
        region: str,
        response_dict: MutableMapping[str, Any],
        customized_response_dict: MutableMapping[str, Any],
        operation_model: Any,  # noqa: ANN401 - botocore's, without stubs
        **_: object,
    ) -> None:
        """Notes the Date of a reply, and where credentials are good.

        botocore calls it for every reply, errors too.
        """
        if response_dict["status_code"] < _FIRST_REFUSED_STATUS:
            self._accepted_in[region] = None
        else:
            other = next((each for each in list(self._accepted_in) if each != region), None)
            customized_response_dict[_REPLIED_BY] = (region, other)
            if is_throttle(response_dict):
                self._note_throttle(region, operation_model)
        text = response_dict["headers"].get("date")
        if not text:
            return
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        with self._lock:
            self._seen = (date, time.monotonic())

    def _note_throttle(self, region: str, operation_model: Any) -> None:  # noqa: ANN401 - as above
        """Says why nothing seems to happen: retries wait up to 20 seconds each."""
        call = f"{operation_model.service_model.service_id}: {operation_model.name}"
        now = time.monotonic()
        with self._lock:
            if now - self._noted.get((region, call), -math.inf) < _SECONDS_BETWEEN_NOTES:
                return
            self._noted[region, call] = now
        logger.warning(
            "AWS answers %s (%s) with too many requests; it is tried again, more slowly, "
            "up to %d times.",
            call,
            region,
            self._attempts - 1,
        )


class _Provider:
    """Hands credentials that already exist to botocore's resolver."""

    METHOD = "sts-assume-role"
    CANONICAL_NAME = None

    def __init__(self, credentials: object) -> None:
        self._credentials = credentials

    def load(self) -> object:
        return self._credentials


@contextmanager
def aws_call(action: str, *, place: str, aws: Aws | None = None) -> Iterator[None]:
    """Turns what botocore raises in the block into our errors.

    Args:
        action: The IAM action of the call, such as `securityhub:GetFindings`.
        place: Where, for the text: a region, or a shard and page.
        aws: The settings, to name the role or profile that is at fault.

    Raises:
        CredentialsError: There are no credentials, they have expired or are refused.
        PermissionMissingError: The action is not allowed.
        ServiceControlPolicyError: A policy of the organization denies it.
        NotEnabledError: The service is not enabled there.
        RegionNotEnabledError: The account has not opted in to the region.
        UnsupportedCallError: The endpoint does not know the call.
        PassingAwsError: Throttled beyond the retries, a failing service, a broken connection.
        AwsError: Any other refusal.
    """
    try:
        yield
    except AwsError:
        raise
    except Exception as error:
        translated = _translated(error, action, place, aws)
        if translated is None:
            raise
        raise translated from error


def _translated(error: Exception, action: str, place: str, aws: Aws | None) -> AwsError | None:
    from botocore import exceptions as b

    call = f"{action} ({place})"
    if isinstance(error, b.ClientError):
        return _refused(error, action, place, aws)
    if isinstance(
        error,
        b.NoCredentialsError
        | b.PartialCredentialsError
        | b.CredentialRetrievalError
        | b.NoAuthTokenError
        | b.TokenRetrievalError
        | b.SSOError
        | b.ProfileNotFound
        | b.UnknownCredentialError,
    ):
        return _no_credentials(error, call, aws)
    if isinstance(error, b.SSLError):
        return AwsError(
            f"{call}: the endpoint's certificate was not accepted: {error}. Set AWS_CA_BUNDLE to "
            "the certificates of your network."
        )
    if isinstance(
        error, b.EndpointConnectionError | b.ConnectTimeoutError | b.ProxyConnectionError
    ):
        return PassingAwsError(
            f"{call}: the endpoint cannot be reached: {error} Check the network, the proxy and "
            "aws.region and aws.endpoint_url in the settings; then start the run again."
        )
    if isinstance(error, b.HTTPClientError | b.ConnectionError):
        return PassingAwsError(
            f"{call}: the connection broke, or no answer came in time: {error} Start the run again."
        )
    if isinstance(error, b.ParamValidationError):
        return None
    if isinstance(error, b.BotoCoreError):
        return PassingAwsError(f"{call}: no readable answer: {error}. Start the run again.")
    return None


_LEAVE_OUT = (
    "take it out of aws.regions; with `incomplete_regions: continue` in the settings a run goes on "
    "without it, and marks its scores as incomplete."
)


def _refused(error: ClientError, action: str, place: str, aws: Aws | None) -> AwsError:
    """The error of a reply that says no."""
    code = str(error.response.get("Error", {}).get("Code", "no code"))
    text = str(error.response.get("Error", {}).get("Message") or "no message")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if error.operation_name == "AssumeRole":
        action = "sts:AssumeRole"
        place = f"{place}, role {aws.role_arn}" if aws and aws.role_arn else place
    call = f"{action} ({place})"
    said = f"AWS said {code}: {text}"
    if code in _EXPIRED_CODES:
        return CredentialsError(
            f"{call}: the AWS credentials have expired. Renew them and start the run again; it "
            f"goes on where it stopped. ({said})"
        )
    replied_by = cast("tuple[str, str | None] | None", error.response.get(_REPLIED_BY))
    region, other = replied_by or (None, None)
    if code in _UNKNOWN_CREDENTIALS_CODES and other is not None:
        return RegionNotEnabledError(
            f"{call}: the account has not opted in to the region {region}: AWS does not know the "
            f"credentials there, and takes them in {other}. Enable the region in the account, or "
            f"{_LEAVE_OUT} ({said})"
        )
    if code in _DENIED_CODES and _SERVICE_CONTROL_POLICY in text:
        return ServiceControlPolicyError(
            f"{call}: a service control policy of the organization denies {action}; no permission "
            f"of the role or user can lift that. Have the policy leave it out, or, if it denies "
            f"the region, {_LEAVE_OUT} ({said})"
        )
    if code in _REFUSED_CREDENTIALS_CODES:
        return CredentialsError(
            f"{call}: AWS does not accept the credentials. Check that they belong to this "
            f"partition, and that this machine's clock is right. ({said})"
        )
    if code in _DENIED_CODES:
        return PermissionMissingError(
            f"The permission {action} is missing ({place}). Allow it to the role or user of the "
            f"run. ({said})"
        )
    if code == "InvalidAccessException":
        return NotEnabledError(
            f"{call}: Security Hub CSPM is not enabled in this account and region. Enable it "
            f"there, or set aws.region and aws.regions to where it is. ({said})"
        )
    if code in {"OptInRequired", "SubscriptionRequiredException"}:
        return NotEnabledError(f"{call}: the account has not opted in there. ({said})")
    if code in THROTTLE_CODES or status == 429:
        return PassingAwsError(
            f"{call}: AWS still refuses because of too many requests, after all retries. Another "
            f"consumer may use up the account's rate; start the run again later. ({said})"
        )
    if code in _UNSUPPORTED_CODES:
        return UnsupportedCallError(f"{call}: the endpoint does not know this call. ({said})")
    if code in _PASSING_CODES or status >= _FIRST_FAILING_STATUS:
        return PassingAwsError(
            f"{call}: the service failed, after all retries. Start the run again. ({said})"
        )
    return AwsError(f"{call} was refused. ({said})")


def _no_credentials(error: Exception, call: str, aws: Aws | None) -> CredentialsError:
    from botocore.exceptions import NoCredentialsError, ProfileNotFound

    if isinstance(error, ProfileNotFound):
        return CredentialsError(
            f"{call}: the AWS profile {aws.profile if aws else None!r} of the settings "
            "(aws.profile) does not exist on this machine."
        )
    if isinstance(error, NoCredentialsError):
        return CredentialsError(
            f"{call}: no AWS credentials were found. Sign in (aws sso login), set AWS_PROFILE or "
            "aws.profile, or give the machine a role; without AWS, set simulation in the settings."
        )
    return CredentialsError(
        f"{call}: the AWS credentials cannot be used: {error}. Renew them (aws sso login) and "
        "start the run again; it goes on where it stopped."
    )


def _unmade(error: Exception, aws: Aws, service: str, region: str) -> AwsError:
    """The error of a client that could not even be made."""
    from botocore.exceptions import ProfileNotFound

    if isinstance(error, ProfileNotFound):
        return _no_credentials(error, service, aws)
    return AwsError(
        f"No {service} client can be made for region {region!r}, profile {aws.profile!r} and "
        f"endpoint {aws.endpoint_url!r} (aws in the settings): {error}."
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
