"""Policies of teams, judged as IAM does: what is allowed, of which keys and listings."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posture_pipeline.errors import InputError
from posture_pipeline.model.access import (
    POLICY_CHARACTERS,
    Grant,
    Place,
    escaped,
    place_of,
    read_policies,
    size_of,
)
from posture_pipeline_tests.iam import allows, matches

PLACE = Place("the-bucket", "the/lake/")
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab"

hostile = st.text(st.sampled_from("*?${}/ab"), max_size=8)
prefixes = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=12)


def account_grant(account: str) -> Grant:
    pattern = f"findings/date=*/run=*/account_id={escaped(account)}/*"
    return Grant((pattern,), (pattern,))


def documents(number: int) -> list[dict[str, Any]]:
    grants = [account_grant(f"{each:012d}") for each in range(number)]
    return read_policies(PLACE, grants, folders=("findings/",), key_arn=KEY)


# --- special characters -----------------------------------------------------------------------


@given(hostile, hostile)
@example("${aws:username}", "me")
@example("*", "anything")
@example("?", "a")
@example("$", "")
@example("${*}", "*")
def test_an_escaped_name_matches_itself_and_no_other(name: str, other: str) -> None:
    assert matches(escaped(name), name)
    assert matches(escaped(name), other) == (name == other)


@given(prefixes, st.text(max_size=12))
def test_a_prefix_of_any_characters_stands_for_itself(prefix: str, other: str) -> None:
    place = place_of(f"s3://the-bucket/{prefix}", "eu-west-1")
    policies = read_policies(place, [Grant(("page.html",))])
    assert allows(policies, "s3:GetObject", f"arn:aws:s3:::the-bucket/{place.prefix}page.html")
    there = f"arn:aws:s3:::the-bucket/{other}page.html"
    assert allows(policies, "s3:GetObject", there) == (other == place.prefix)


def test_a_prefix_that_no_policy_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot hold every character"):
        place_of("s3://the-bucket/\u4e2d", "eu-west-1")


@pytest.mark.parametrize("uri", ["/srv/lake", "s3://", "s3://B", "https://bucket/lake"])
def test_a_place_that_is_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"s3://bucket/prefix"):
        place_of(uri, "eu-west-1")


@pytest.mark.parametrize(
    ("region", "start"),
    [
        ("eu-west-1", "arn:aws:s3:::"),
        ("cn-north-1", "arn:aws-cn:s3:::"),
        ("us-gov-east-1", "arn:aws-us-gov:s3:::"),
        ("eusc-de-east-1", "arn:aws-eusc:s3:::"),
        ("us-isob-east-1", "arn:aws-iso-b:s3:::"),
    ],
)
def test_arns_are_of_the_partition_of_the_region(region: str, start: str) -> None:
    (document,) = read_policies(place_of("s3://bucket/lake", region), [Grant(("page.html",))])
    assert document["Statement"][0]["Resource"] == [f"{start}bucket/lake/page.html"]


@pytest.mark.parametrize(
    ("key", "service"),
    [
        ("arn:aws-cn:kms:cn-north-1:111122223333:key/k", "s3.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/k", "s3.eusc-de-east-1.amazonaws.eu"),
        ("arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/k", "s3.us-gov-west-1.amazonaws.com"),
    ],
)
def test_a_key_is_used_through_the_service_of_its_partition(key: str, service: str) -> None:
    (document,) = read_policies(PLACE, [Grant(("page.html",))], key_arn=key)
    condition = document["Statement"][-1]["Condition"]
    assert condition == {"StringEquals": {"kms:ViaService": service}}


# --- what is allowed --------------------------------------------------------------------------


@given(
    st.lists(st.from_regex(r"[0-9]{12}", fullmatch=True), min_size=1, max_size=5, unique=True),
    st.from_regex(r"[0-9]{12}", fullmatch=True),
)
def test_an_account_is_read_if_it_is_granted(accounts: list[str], other: str) -> None:
    policies = read_policies(PLACE, [account_grant(each) for each in accounts])
    for account in {*accounts, other}:
        folder = f"the/lake/findings/date=2026-11-23/run=1a2b3c4d/account_id={account}/"
        granted = account in accounts
        assert allows(policies, "s3:GetObject", f"{PLACE.arn}/{folder}a.parquet") == granted
        assert allows(policies, "s3:ListBucket", PLACE.arn, prefix=folder) == granted


def test_folders_are_listed_by_their_names_alone() -> None:
    policies = read_policies(PLACE, [account_grant("1" * 12)], folders=("findings/",))
    inside = "the/lake/findings/"
    assert allows(policies, "s3:ListBucket", PLACE.arn, prefix=inside, delimiter="/")
    assert not allows(policies, "s3:ListBucket", PLACE.arn, prefix=inside)
    assert not allows(policies, "s3:ListBucket", PLACE.arn, prefix="the/lake/", delimiter="/")
    assert not allows(policies, "s3:ListBucket", PLACE.arn, delimiter="/")
    assert not allows(policies, "s3:ListBucket", PLACE.arn)


def test_a_key_is_used_for_decrypting_through_s3_alone() -> None:
    policies = documents(1)
    of_s3 = {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}
    assert allows(policies, "kms:Decrypt", KEY, context=of_s3)
    assert not allows(policies, "kms:Decrypt", KEY)
    assert not allows(policies, "kms:Encrypt", KEY, context=of_s3)
    assert not allows(policies, "kms:Decrypt", f"{KEY}5", context=of_s3)
    without = read_policies(PLACE, [account_grant("1" * 12)])
    assert not allows(without, "kms:Decrypt", KEY, context=of_s3)


@pytest.mark.parametrize(
    "arn", ["alias/lake", "arn:aws:kms:eu-west-1:111122223333:alias/lake", "arn:aws:s3:::bucket"]
)
def test_a_key_that_a_policy_cannot_name_is_refused(arn: str) -> None:
    with pytest.raises(InputError, match=r"no ARN of a KMS key"):
        read_policies(PLACE, [account_grant("1" * 12)], key_arn=arn)


def test_a_policy_allows_reading_and_nothing_that_writes() -> None:
    said = {each["Action"] for document in documents(3) for each in document["Statement"]}
    assert said == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}


# --- AWS's limits -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 20, 100])
def test_every_policy_is_within_aws_limit_and_together_they_allow_every_account(
    number: int,
) -> None:
    policies = documents(number)
    assert all(size_of(each) <= POLICY_CHARACTERS for each in policies)
    for account in {0, number // 2, number - 1, number}:
        key = f"the/lake/findings/date=2026-11-23/run=1a/account_id={account:012d}/a.parquet"
        assert allows(policies, "s3:GetObject", f"{PLACE.arn}/{key}") == (account < number)


def test_a_hundred_accounts_need_several_policies_and_no_more_than_must_be() -> None:
    policies = documents(100)
    assert len(policies) > 1
    for document, after in pairwise(policies):
        first = after["Statement"][0]["Resource"][0]
        listed = after["Statement"][1]["Condition"]["StringLike"]["s3:prefix"][0]
        assert size_of(document) + len(first) + len(listed) + len('"",' * 2) > POLICY_CHARACTERS


def test_the_size_is_that_of_the_document_without_white_space_between_its_parts() -> None:
    (document,) = documents(2)
    assert size_of(document) == len(re.sub(r"\s", "", json.dumps(document, indent=4)))


def test_a_prefix_too_long_for_any_policy_is_refused() -> None:
    with pytest.raises(InputError, match=r"too long"):
        read_policies(Place("bucket", "x" * POLICY_CHARACTERS), [account_grant("1" * 12)])
