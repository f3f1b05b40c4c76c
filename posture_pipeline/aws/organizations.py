"""The accounts of the organization, with their names, states and tags.

Which workload an account belongs to is decided elsewhere. A role that may not list accounts is no
error: the caller goes on with what findings and overrides say, and tells people why.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from posture_pipeline.aws.clients import AwsClients, PassingAwsError, aws_call, error_code
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.errors import AwsError, PermissionMissingError
from posture_pipeline.schemas import ORGANIZATION_ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from posture_pipeline.settings import Accounts

ACCOUNTS_PAGE = 20
"""Accounts of a page at most (AWS: ListAccounts, MaxResults)."""
TAGS_RATE = 10.0
"""ListTagsForResource requests a second (AWS: Organizations user guide, orgs_reference_limits)."""
TAGS_BURST = 15
"""ListTagsForResource requests at once (same source)."""
TAGS_AT_ONCE = 4
"""A reply takes some 0.2 seconds: so many at once are needed to keep to the rate."""
LIST_ACTION = "organizations:ListAccounts"
TAGS_ACTION = "organizations:ListTagsForResource"


@dataclass(frozen=True, slots=True)
class Listed:
    """The accounts, and what is missing.

    Attributes:
        frame: As `schemas.ORGANIZATION_ACCOUNTS`; empty when accounts may not be listed.
        reason: What could not be read and what would help; null when nothing is missing.
    """

    frame: pl.DataFrame
    reason: str | None = None


def organization_accounts(
    clients: AwsClients,
    accounts: Accounts,
    *,
    day: date,
    budget: RateBudget | None = None,
) -> Listed:
    """The accounts of the organization on the day.

    Tags are read for ACTIVE accounts only; the others are listed and not scored.

    Args:
        clients: How AWS is reached.
        accounts: The settings of accounts: without any tag name, no tags are read.
        day: The day of the snapshot.
        budget: Of ListTagsForResource; without one, AWS's limit.

    Raises:
        CredentialsError: There are none, or they expired.
        AwsError: AWS failed otherwise.
    """
    try:
        found = _list(clients)
    except AwsError as error:
        if not _may_go_without(error):
            raise
        return Listed(ORGANIZATION_ACCOUNTS.empty(), _reason(error))
    active = [each["Id"] for each in found if _state(each) == "ACTIVE"]
    tags: dict[str, dict[str, str]] = {}
    reason = None
    if any(accounts.tags.model_dump().values()):
        try:
            tags = _tags(clients, active, budget or _budget(clients))
        except PermissionMissingError as error:
            reason = (
                f"Account tags could not be read, so workloads, environments and owners come from "
                f"overrides and names alone: {error}"
            )
    rows = [
        {
            "date": day,
            "account_id": each["Id"],
            "account_name": each.get("Name"),
            "state": _state(each),
            "tags": json.dumps(tags.get(each["Id"], {}), sort_keys=True, ensure_ascii=False),
            "joined_at": each.get("JoinedTimestamp"),
            "source": "organizations",
        }
        for each in found
    ]
    rows.sort(key=lambda row: str(row["account_id"]))
    frame = pl.DataFrame(rows, schema=ORGANIZATION_ACCOUNTS.schema)
    return Listed(frame, reason)


def _list(clients: AwsClients) -> list[Any]:
    found: dict[str, Any] = {}
    token: str | None = None
    seen: set[str] = set()
    while True:
        request: dict[str, Any] = {"MaxResults": ACCOUNTS_PAGE}
        if token:
            request["NextToken"] = token
        with aws_call(LIST_ACTION, place=clients.region, aws=clients.aws):
            reply = clients.organizations().list_accounts(**request)
        if "Accounts" not in reply:
            message = f"{LIST_ACTION}: the reply is incomplete. Start the run again."
            raise PassingAwsError(message)
        # An empty page with a token is not the end (AWS: API reference of ListAccounts).
        found.update((account["Id"], account) for account in reply["Accounts"])
        token = reply.get("NextToken")
        if not token:
            return list(found.values())
        if token in seen:
            message = f"{LIST_ACTION}: the same token came twice, which would never end. Run again."
            raise PassingAwsError(message)
        seen.add(token)


def _tags(
    clients: AwsClients, accounts: Iterable[str], budget: RateBudget
) -> dict[str, dict[str, str]]:
    api = clients.organizations()

    def of(account: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        request = {"ResourceId": account}
        while True:
            budget.acquire()
            with aws_call(TAGS_ACTION, place=f"account {account}", aws=clients.aws):
                reply = api.list_tags_for_resource(**request)
            if "Tags" not in reply:
                message = f"{TAGS_ACTION} (account {account}): the reply is incomplete. Run again."
                raise PassingAwsError(message)
            tags.update((tag["Key"], tag["Value"]) for tag in reply["Tags"])
            token = reply.get("NextToken")
            if not token:
                return tags
            request = {"ResourceId": account, "NextToken": token}

    names = list(accounts)
    if not names:
        return {}
    # The first one alone: a role without the permission is told so once, not once an account.
    found = {names[0]: of(names[0])}
    with ThreadPoolExecutor(TAGS_AT_ONCE, thread_name_prefix="tags") as pool:
        futures = {name: pool.submit(of, name) for name in names[1:]}
        try:
            found.update((name, future.result()) for name, future in futures.items())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _budget(clients: AwsClients) -> RateBudget:
    if clients.loopback:
        return RateBudget.unlimited()
    return RateBudget(TAGS_RATE, TAGS_BURST, start=TAGS_BURST / 2)


def _state(account: Any) -> str | None:  # noqa: ANN401 - a TypedDict
    """`State`; `Status`, which AWS retires, where an endpoint does not send it yet."""
    value = account.get("State") or account.get("Status")
    return None if value is None else str(value)


def _may_go_without(error: AwsError) -> bool:
    if isinstance(error, PermissionMissingError):
        # A role that cannot be assumed is no question of listing accounts.
        return LIST_ACTION in str(error)
    return error_code(error) == "AWSOrganizationsNotInUseException"


def _reason(error: AwsError) -> str:
    if isinstance(error, PermissionMissingError):
        return (
            f"The accounts of the organization could not be listed: {error} AWS allows it only to "
            "the management account and to delegated administrators. Accounts come from findings "
            "and overrides, so an account without findings is not seen."
        )
    return (
        "The account is in no organization, so accounts come from findings and overrides; an "
        "account without findings is not seen."
    )
