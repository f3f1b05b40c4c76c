"""How a bucket is reached: one endpoint, region and set of credentials for every reader.

obstore, Polars and DuckDB are configured from here, and what they raise becomes an error of ours.
What is stored stands in `store.py`; where credentials come from is decided by who opens the lake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import polars as pl
from obstore import exceptions
from obstore.store import S3Store

from posture_pipeline.errors import (
    CredentialsError,
    LakeError,
    PermissionMissingError,
    PostureError,
)

Answer = TypeVar("Answer")

SCHEME = "s3://"

REQUESTS_AT_ONCE = 16
"""Requests that wait for S3 side by side: many small objects cost their latency, not their size."""

RETRIES = 8
"""Further tries of a request, with growing pauses: about a minute of a failing S3 is sat out."""

RETRY_FOR = timedelta(minutes=2)
"""No further try after so long: a request is signed once, and signatures last for 15 minutes."""

ASK_AGAIN_AFTER = timedelta(minutes=10)
"""For how long handed out credentials are good. botocore refreshes them at least 10 minutes before
their end, so that asking it this often never leaves expired ones in use."""


class Credentials(NamedTuple):
    """A key pair, and the token of a role's session; null for a user's own keys."""

    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How the bucket of a lake is reached.

    Attributes:
        region: Of the bucket.
        endpoint_url: Where S3 answers.
        credentials: Gives credentials that are good for `ASK_AGAIN_AFTER`.
        kms_key_arn: The KMS key that everything is encrypted with; null: as the bucket does.
        retries: Further tries of a request.
    """

    region: str
    endpoint_url: str
    credentials: Callable[[], Credentials]
    kms_key_arn: str | None = None
    retries: int = RETRIES

    def store(self, root: str) -> S3Store:
        """The store of a lake.

        Args:
            root: `s3://bucket/prefix`.
        """
        name, _, prefix = root.removeprefix(SCHEME).partition("/")
        encryption: dict[str, Any] = {}
        if self.kms_key_arn is not None:
            # With the bucket's own key under it: a request to KMS now and then, not one an object.
            encryption = {
                "server_side_encryption": "aws:kms",
                "sse_kms_key_id": self.kms_key_arn,
                "sse_bucket_key_enabled": True,
            }
        return S3Store(
            name,
            prefix=prefix or None,
            region=self.region,
            endpoint=self.endpoint_url,
            credential_provider=self._for_obstore,
            client_options={
                "allow_http": self.is_plain,
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=30),
                # Of a whole request, the largest file included.
                "timeout": timedelta(minutes=10),
            },
            retry_config={"max_retries": self.retries, "retry_timeout": RETRY_FOR},
            **encryption,
        )

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint is reached without TLS, as the simulated one on loopback is."""
        return self.endpoint_url.startswith("http://")

    @property
    def scan_options(self) -> dict[str, Any]:
        """What `polars.scan_parquet` needs to read the same bucket in the same way."""
        return {
            "storage_options": {
                "aws_region": self.region,
                "aws_endpoint_url": self.endpoint_url,
                "aws_allow_http": str(self.is_plain).lower(),
                "max_retries": self.retries,
                "retry_timeout_ms": round(RETRY_FOR.total_seconds() * 1000),
            },
            "credential_provider": self._for_polars,
        }

    def _for_obstore(self) -> Any:  # noqa: ANN401 - obstore's S3Credential, not importable
        found = self.credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + ASK_AGAIN_AFTER,
        }

    def _for_polars(self) -> tuple[dict[str, str], int]:
        found = self.credentials()
        keys = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
        if found.token is not None:
            keys["aws_session_token"] = found.token
        return keys, round((datetime.now(UTC) + ASK_AGAIN_AFTER).timestamp())


@contextmanager
def asking(action: str, uri: str) -> Iterator[None]:
    """Turns what the store raises in the block into our errors.

    Args:
        action: The IAM action of the request, such as `s3:GetObject`.
        uri: Where.

    Raises:
        FileNotFoundError: The object is not there.
        LakeError: The bucket is not there, or S3 or the network fails beyond the retries.
        PermissionMissingError: The credentials may not do it.
        CredentialsError: There are none, or they are expired or refused.
    """
    try:
        yield
    except (exceptions.BaseError, OSError) as error:
        translated = told(error, action, uri) if uri.startswith(SCHEME) else None
        if translated is None:
            raise
        raise translated from error


def told(
    error: BaseException, action: str = "s3:GetObject", uri: str = "The lake on S3"
) -> PostureError | None:
    """An error of obstore or Polars on a bucket in our words; null for any other.

    A scan is read where its rows are wanted, so what it raises is caught at the outermost: by the
    command line, and where an asset's errors are told.

    Args:
        error: What was raised.
        action: The IAM action of the request.
        uri: Where.
    """
    text = str(error)
    code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", text)) else None
    if code == "NoSuchBucket":
        return LakeError(f"{uri}: there is no such bucket; correct `lake` in the settings.")
    if isinstance(error, _ANSWERS) or not (code or _is_of_s3(error, text)):
        return None
    if own := re.search(r"CredentialsError: (.+)", text):
        return CredentialsError(f"{uri}: {own[1]}")
    if code in _CREDENTIALS:
        return CredentialsError(
            f"{uri}: S3 answers {code}. Renew the credentials, as with `aws sso login`, and start "
            "again; what was committed stays as it is."
        )
    if code == "AccessDenied" or isinstance(error, exceptions.PermissionDeniedError):
        return PermissionMissingError(
            f"{uri}: not allowed. The credentials need {action} there, and the KMS key's "
            "kms:GenerateDataKey and kms:Decrypt where one is used."
        )
    if "incorrectly configured region" in text:
        return LakeError(f"{uri}: the bucket lies in another region; set s3.region to it.")
    said = code or _reason(text)
    return LakeError(
        f"{uri}: S3 failed ({action}: {said}), after all retries. Nothing that was committed is "
        "changed; start again."
    )


def whole(ask: Callable[[], Answer]) -> Answer:
    """The answer to a listing, asked for again where it broke off: obstore does so for objects."""
    for _ in range(RETRIES):
        try:
            return ask()
        except exceptions.GenericError as error:
            if "body error" not in str(error):
                raise
    return ask()


_ANSWERS = (FileNotFoundError, exceptions.AlreadyExistsError, exceptions.PreconditionError)
"""What a request was refused with because of what is there: an answer, and no failure."""

_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


def _is_of_s3(error: BaseException, text: str) -> bool:
    """Whether an error without a code came from a request to S3."""
    if isinstance(error, exceptions.BaseError):
        return True
    is_read = isinstance(error, (pl.exceptions.ComputeError, OSError))
    return is_read and bool(re.search(r"S3 error|Error performing (GET|HEAD|PUT)", text))


def _reason(text: str) -> str:
    """The end of a chain of errors, which says what happened."""
    line = text.splitlines()[0] if text else "no reason"
    return line.rsplit(" - ", 1)[-1].removesuffix(".")[:200]
