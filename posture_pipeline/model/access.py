"""IAM policies that allow reading some objects of a bucket, and nothing else.

Which objects are a team's is decided in `lake/access.py`. A policy allows; it denies nothing, so it
holds only where nothing else that a role has allows more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posture_pipeline.aws.partitions import partition_of
from posture_pipeline.errors import InputError

VERSION = "2012-10-17"
"""Of the policy language; the first that knows `${*}`."""

POLICY_CHARACTERS = 6_144
"""A managed policy is at most so long; white space does not count.

Source: AWS IAM user guide, IAM and AWS STS quotas. An inline policy of a role has 10,240.
"""

POLICIES_OF_A_ROLE = 10
"""Managed policies that a role has, at most; AWS raises it to 20 when asked. Source: as above."""

Document = dict[str, Any]

_SPECIAL = re.compile(r"[*?$]")
_KEY_ARN = re.compile(r"arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Grant:
    """Objects that may be read, and below which prefixes objects may be listed.

    Patterns are relative to the lake. `*` stands for any text, `?` for any character; names in them
    are `escaped`.

    Attributes:
        objects: Patterns of keys.
        listed: Patterns of prefixes, below which everything may be listed.
    """

    objects: tuple[str, ...]
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lake is.

    Attributes:
        name: Of the bucket.
        prefix: Of the lake in it, with a `/` at its end; or empty.
        partition: As ARNs have it.
    """

    name: str
    prefix: str
    partition: str = "aws"

    @property
    def arn(self) -> str:
        """The ARN of the bucket."""
        return f"arn:{self.partition}:s3:::{self.name}"

    def key(self, pattern: str) -> str:
        """A pattern below the lake as one of the bucket's keys."""
        return f"{escaped(self.prefix)}{pattern}"


def place_of(uri: str, region: str) -> Place:
    """The bucket and prefix of a lake's URI.

    Raises:
        InputError: It is none of a lake in S3, or has characters that a policy cannot hold.
    """
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", uri, re.DOTALL)
    if match is None:
        message = f"{uri!r} is no bucket with a prefix; write it as s3://bucket/prefix."
        raise InputError(message)
    prefix = (match[2] or "").strip("/")
    if not all("\u0020" <= each <= "\u00ff" for each in prefix):
        message = f"An IAM policy cannot hold every character of {uri!r}: only U+0020 to U+00FF."
        raise InputError(message)
    return Place(match[1], f"{prefix}/" if prefix else "", partition_of(region).name)


def escaped(text: str) -> str:
    """A text that stands for itself in a pattern.

    Source: AWS IAM user guide, policy variables, special characters.

    >>> escaped("what? $5 * 2")
    'what${?} ${$}5 ${*} 2'
    """
    return _SPECIAL.sub(lambda match: f"${{{match[0]}}}", text)


def read_policies(
    place: Place,
    grants: Sequence[Grant],
    *,
    folders: Sequence[str] = (),
    key_arn: str | None = None,
) -> list[Document]:
    """The fewest policies that allow these grants, in their order, each within AWS's limit.

    Args:
        place: Where the lake is.
        grants: What may be read; each is wholly in one policy.
        folders: Patterns of prefixes directly below which names may be listed, but nothing deeper.
        key_arn: The KMS key that the objects are encrypted with; null: none of KMS.

    Raises:
        InputError: `key_arn` is none of a key, or a grant alone is too long for a policy.
    """
    documents: list[Document] = []
    fixed = [*_finding(place, folders), *_decrypting(key_arn)]
    taken: list[Grant] = []
    for grant in grants:
        if taken and size_of(_document(place, [*taken, grant], fixed)) > POLICY_CHARACTERS:
            documents.append(_document(place, taken, fixed))
            taken, fixed = [], []
        taken.append(grant)
    documents.append(_document(place, taken, fixed))
    if any(size_of(each) > POLICY_CHARACTERS for each in documents):
        message = (
            f"The prefix of the lake is too long: what one account needs does not fit into a "
            f"policy of {POLICY_CHARACTERS:,} characters."
        )
        raise InputError(message)
    return documents


def size_of(document: Document) -> int:
    """Characters of a policy as AWS counts them, at most: without white space around its parts."""
    return len(json.dumps(document, separators=(",", ":"), ensure_ascii=False))


def _document(place: Place, grants: Sequence[Grant], fixed: Sequence[dict[str, Any]]) -> Document:
    objects = [each for grant in grants for each in grant.objects]
    listed = [each for grant in grants for each in grant.listed]
    statements: list[dict[str, Any]] = [
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": [f"{place.arn}/{place.key(each)}" for each in objects],
        }
    ]
    if listed:
        statements.append(
            _listing(place, "List", {"StringLike": {"s3:prefix": list(map(place.key, listed))}})
        )
    return {"Version": VERSION, "Statement": [*statements, *fixed]}


def _finding(place: Place, folders: Sequence[str]) -> list[dict[str, Any]]:
    """With the delimiter AWS tells the names directly below a prefix, and no key further down."""
    if not folders:
        return []
    condition = {
        "StringLike": {"s3:prefix": list(map(place.key, folders))},
        "StringEquals": {"s3:delimiter": "/"},
    }
    return [_listing(place, "FindDaysAndRuns", condition)]


def _listing(place: Place, sid: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": place.arn,
        "Condition": condition,
    }


def _decrypting(key_arn: str | None) -> list[dict[str, Any]]:
    if key_arn is None:
        return []
    match = _KEY_ARN.fullmatch(key_arn)
    if match is None:
        message = (
            f"{key_arn!r} is no ARN of a KMS key, such as "
            f"arn:aws:kms:eu-west-1:111122223333:key/...; a policy cannot name an alias."
        )
        raise InputError(message)
    # Only what is read through S3, in the key's region.
    domain = partition_of(match[2]).dns_suffix
    return [
        {
            "Sid": "Decrypt",
            "Effect": "Allow",
            "Action": "kms:Decrypt",
            "Resource": key_arn,
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{match[2]}.{domain}"}},
        }
    ]
