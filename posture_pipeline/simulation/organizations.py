"""AWS Organizations as the audit account (a delegated administrator) may read it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation import page_tokens, stable_hash
from posture_pipeline.simulation.aws_errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from posture_pipeline.simulation.accounts import Account
    from posture_pipeline.simulation.clock import SimulatedClock
    from posture_pipeline.simulation.organization import SimulatedOrganization

MAX_PAGE = 20
"""Accounts or units a page (AWS: Organizations ListAccounts MaxResults)."""
_TOKEN_LIFETIME_SECONDS = 86_400
_EMPTY_PAGE_AFTER = 40
"""After so many accounts a page comes empty with a token, as AWS says can happen."""
_UNITS = {
    "Security": "",
    "Workloads": "",
    "Workloads/Production": "Workloads",
    "Workloads/NonProduction": "Workloads",
    "Sandbox": "",
    "Suspended": "",
}


class Organizations:
    """The operations; each method of `operations()` takes parameters and a region."""

    def __init__(self, organization: SimulatedOrganization, clock: SimulatedClock) -> None:
        self._organization = organization
        self._settings = organization.settings
        self._clock = clock
        self._id = f"o-{stable_hash.letters(10, self._settings.seed, 'organization')}"
        self._root = f"r-{stable_hash.letters(4, self._settings.seed, 'root')}"

    def operations(self) -> dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]:
        """Return every operation that is simulated, by its name."""
        return {
            "ListAccounts": self.list_accounts,
            "ListAccountsForParent": self.list_accounts_for_parent,
            "DescribeAccount": self.describe_account,
            "DescribeOrganization": self.describe_organization,
            "ListTagsForResource": self.list_tags,
            "ListParents": self.list_parents,
            "ListOrganizationalUnitsForParent": self.list_units,
            "ListRoots": self.list_roots,
        }

    def list_accounts(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return a page of the members; now and then an empty one with a token."""
        return self._page_of_accounts("ListAccounts", params, list(self._accounts()))

    def list_accounts_for_parent(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the members directly under a root or unit."""
        unit = self._unit_of_id(params.get("ParentId", ""))
        members = [a for a in self._accounts() if a.unit == unit]
        return self._page_of_accounts(f"ListAccountsForParent/{unit}", params, members)

    def _page_of_accounts(
        self, operation: str, params: dict[str, Any], accounts: list[Account]
    ) -> dict[str, Any]:
        size = self._size(params)
        now = self._clock.now()
        start, was_empty = self._position(params, operation, now)
        empty_pages = self._settings.empty_account_pages
        if empty_pages and start and start % _EMPTY_PAGE_AFTER == 0 and not was_empty:
            return {"Accounts": [], "NextToken": page_tokens.issue(operation, [start, 1], now)}
        end = start + size
        if empty_pages and start // _EMPTY_PAGE_AFTER != end // _EMPTY_PAGE_AFTER:
            end = min(end, (start // _EMPTY_PAGE_AFTER + 1) * _EMPTY_PAGE_AFTER)
        reply: dict[str, Any] = {"Accounts": [self._account(a) for a in accounts[start:end]]}
        if end < len(accounts):
            reply["NextToken"] = page_tokens.issue(operation, [end, 0], now)
        return reply

    def describe_account(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return one member."""
        return {"Account": self._account(self._member(params.get("AccountId", "")))}

    def describe_organization(self, _params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the organization."""
        management = self._organization.management_account_id
        return {
            "Organization": {
                "Id": self._id,
                "Arn": f"arn:aws:organizations::{management}:organization/{self._id}",
                "FeatureSet": "ALL",
                "MasterAccountArn": f"arn:aws:organizations::{management}:account/{self._id}/"
                f"{management}",
                "MasterAccountId": management,
                "MasterAccountEmail": f"aws+{management}@acme.example",
                "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
            }
        }

    def list_tags(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the tags of an account; units and the root have none."""
        resource = str(params.get("ResourceId", ""))
        if resource.startswith(("ou-", "r-")):
            return {"Tags": []}
        for account in self._accounts():
            if account.account_id == resource:
                return {"Tags": [{"Key": k, "Value": v} for k, v in account.tags]}
        message = "You specified a target that doesn't exist."
        raise ServiceError(code="TargetNotFoundException", message=message)

    def list_parents(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the unit or root that an account or unit is in."""
        child = str(params.get("ChildId", ""))
        if child.startswith("ou-"):
            unit = _UNITS[self._unit_of_id(child, "ChildNotFoundException")]
        else:
            unit = self._member(child, "ChildNotFoundException").unit
        kind = "ORGANIZATIONAL_UNIT" if unit else "ROOT"
        return {"Parents": [{"Id": self._unit_id(unit), "Type": kind}]}

    def list_units(self, params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the units directly under a root or unit."""
        parent = self._unit_of_id(params.get("ParentId", ""))
        self._size(params)
        management = self._organization.management_account_id
        return {
            "OrganizationalUnits": [
                {
                    "Id": self._unit_id(unit),
                    "Arn": f"arn:aws:organizations::{management}:ou/{self._id}/"
                    f"{self._unit_id(unit)}",
                    "Name": unit.rpartition("/")[2],
                }
                for unit, above in _UNITS.items()
                if above == parent
            ]
        }

    def list_roots(self, _params: dict[str, Any], _region: str) -> dict[str, Any]:
        """Return the root."""
        management = self._organization.management_account_id
        return {
            "Roots": [
                {
                    "Id": self._root,
                    "Arn": f"arn:aws:organizations::{management}:root/{self._id}/{self._root}",
                    "Name": "Root",
                    "PolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
                }
            ]
        }

    def _accounts(self) -> tuple[Account, ...]:
        return self._organization.accounts(self._clock.now().date())

    def _member(self, account_id: str, code: str = "AccountNotFoundException") -> Account:
        for account in self._accounts():
            if account.account_id == account_id:
                return account
        raise ServiceError(code=code, message="You specified an account that doesn't exist.")

    def _unit_id(self, unit: str) -> str:
        if not unit:
            return self._root
        return f"ou-{self._root[2:]}-{stable_hash.letters(8, self._settings.seed, unit)}"

    def _unit_of_id(self, unit_id: str, code: str = "ParentNotFoundException") -> str:
        for unit in ("", *_UNITS):
            if self._unit_id(unit) == unit_id:
                return unit
        raise ServiceError(code=code, message="You specified a root or unit that doesn't exist.")

    def _account(self, account: Account) -> dict[str, Any]:
        management = self._organization.management_account_id
        units = []
        unit = account.unit
        while unit:
            units.append(self._unit_id(unit))
            unit = _UNITS[unit]
        path = "/".join([self._id, self._root, *reversed(units), account.account_id])
        joined = dt.datetime.combine(account.joined, dt.time(), dt.UTC)
        reply = {
            "Id": account.account_id,
            "Arn": f"arn:aws:organizations::{management}:account/{self._id}/{account.account_id}",
            "Email": account.email,
            "Name": account.name,
            "State": account.state,
            "Paths": [f"{path}/"],
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": joined.timestamp(),
        }
        if self._settings.legacy_account_status:
            reply["Status"] = account.state
        return reply

    @staticmethod
    def _size(params: dict[str, Any]) -> int:
        size = params.get("MaxResults", MAX_PAGE)
        if not isinstance(size, int) or not 1 <= size <= MAX_PAGE:
            message = f"MaxResults {size!r} must be from 1 to {MAX_PAGE}"
            raise ServiceError(code="InvalidInputException", message=message)
        return size

    @staticmethod
    def _position(params: dict[str, Any], question: str, now: dt.datetime) -> tuple[int, int]:
        token = params.get("NextToken")
        if not token:
            return 0, 0
        try:
            start, was_empty = page_tokens.read(token, question, now, _TOKEN_LIFETIME_SECONDS)
        except (page_tokens.TokenError, ValueError) as error:
            message = "You provided a NextToken that is not valid."
            raise ServiceError(code="InvalidInputException", message=message) from error
        return start, was_empty
