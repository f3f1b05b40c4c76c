"""Pages of findings: the organization's, then the imported ones, with what was updated on top.

Holds the only state of the simulated Security Hub: imported findings and updates. Requests and
replies are in `security_hub.py`.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from posture_pipeline.simulation.aws_errors import invalid_input
from posture_pipeline.simulation.finding_filters import SortField, sort_value

if TYPE_CHECKING:
    import datetime as dt

    from posture_pipeline.simulation.accounts import Account
    from posture_pipeline.simulation.finding_filters import CompiledFilter
    from posture_pipeline.simulation.organization import SimulatedOrganization

CACHE_BYTES = 96 * 1024 * 1024
"""Encoded findings kept for the pages that come next: some ten accounts at 2,000 findings each."""
RENDERED_PER_PAGE = 20_000
"""Findings looked through for a page; after so many AWS too returns what it has, with a token."""

MAX_SORTED = 200_000
"""Matches that are sorted for a request: their sort values are held in memory at once."""

FindingKey = tuple[str, str]
_Keyed = tuple[list[tuple[bool, Any]], tuple[int, int]]
"""Values that a match is sorted by, and its account index and offset."""
_CUSTOMER_MEMBERS: tuple[str, ...] = ("Workflow", "Note", "UserDefinedFields")


class Page(NamedTuple):
    """Some findings as JSON, and where the next page begins (None: there is none)."""

    findings: list[bytes]
    next_position: list[int] | None


class FindingStore:
    """Findings of the organization by page, plus those imported and changed by requests."""

    def __init__(self, organization: SimulatedOrganization) -> None:
        self._organization = organization
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[Any, ...], list[bytes]] = OrderedDict()
        self._cached_bytes = 0
        self._imported: dict[FindingKey, dict[str, Any]] = {}
        self._updates: dict[FindingKey, dict[str, Any]] = {}
        self._version = 0
        self._sorted: tuple[tuple[Any, ...], list[tuple[int, int]]] | None = None

    def page(
        self,
        compiled: CompiledFilter,
        question: str,
        day: dt.date,
        position: list[int],
        size: int,
    ) -> Page:
        """Return up to `size` findings from a position: [account index, offset in its matches]."""
        accounts = self._organization.reporting_accounts(day)
        index, offset = position
        found: list[bytes] = []
        rendered = 0
        while index <= len(accounts):
            if index == len(accounts):
                matches = self._imported_matches(compiled)
            elif compiled.account(accounts[index].account_id):
                matches, count = self._matches(accounts[index], day, compiled, question)
                rendered += count
            else:
                matches = []
            taken = matches[offset : offset + size - len(found)]
            found += taken
            offset += len(taken)
            if offset < len(matches):
                return Page(found, [index, offset])
            index, offset = index + 1, 0
            if len(found) == size or rendered >= RENDERED_PER_PAGE:
                break
        more = self._has_more(compiled, accounts, index)
        return Page(found, [index, offset] if more else None)

    def sorted_page(
        self,
        compiled: CompiledFilter,
        question: str,
        day: dt.date,
        position: list[int],
        size: int,
        order: list[SortField],
    ) -> Page:
        """Return up to `size` findings from a place in an order: [0, place]."""
        accounts = self._organization.reporting_accounts(day)
        places = self._order(compiled, question, day, order)
        start = position[1]
        found = []
        for index, offset in places[start : start + size]:
            if index == len(accounts):
                matches = self._imported_matches(compiled)
            else:
                matches, _ = self._matches(accounts[index], day, compiled, question)
            found.append(matches[offset])
        more = start + size < len(places)
        return Page(found, [0, start + size] if more else None)

    def _order(
        self, compiled: CompiledFilter, question: str, day: dt.date, order: list[SortField]
    ) -> list[tuple[int, int]]:
        """Return account index and offset of every match, sorted; the last order is kept."""
        key = (question, day, self._version)
        with self._lock:
            if self._sorted is not None and self._sorted[0] == key:
                return self._sorted[1]
        accounts = self._organization.reporting_accounts(day)
        keyed: list[_Keyed] = []
        for index in range(len(accounts) + 1):
            if index == len(accounts):
                matches = self._imported_matches(compiled)
            elif compiled.account(accounts[index].account_id):
                matches, _ = self._matches(accounts[index], day, compiled, question)
            else:
                continue
            if len(keyed) + len(matches) > MAX_SORTED:
                raise invalid_input(message=f"More than {MAX_SORTED} findings are not sorted here")
            for offset, match in enumerate(matches):
                finding = msgspec.json.decode(match)
                values = [sort_value(finding, field) for field in order]
                keyed.append((values, (index, offset)))
        for number, field in reversed(list(enumerate(order))):
            keyed.sort(key=lambda each: each[0][number], reverse=field.descending)
        places = [place for _, place in keyed]
        with self._lock:
            self._sorted = (key, places)
        return places

    def _has_more(
        self, compiled: CompiledFilter, accounts: tuple[Account, ...], index: int
    ) -> bool:
        if any(compiled.account(a.account_id) for a in accounts[index:]):
            return True
        return index <= len(accounts) and bool(self._imported_matches(compiled))

    def _matches(
        self, account: Account, day: dt.date, compiled: CompiledFilter, question: str
    ) -> tuple[list[bytes], int]:
        """Return the account's matching findings as JSON, and how many had to be rendered."""
        if compiled.updated_from.date() >= day:
            # Every finding of a day was last seen before the day began (rendering.timestamp).
            return [], 0
        key = (account.account_id, day, question, self._version)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached, 0
        encode = msgspec.json.encode
        matches, count = [], 0
        for finding in self._organization.findings(account, day):
            count += 1
            current = self._with_updates(finding) if self._updates else finding
            if compiled.finding(current):
                matches.append(encode(current))
        with self._lock:
            if key not in self._cache:
                self._cache[key] = matches
                self._cached_bytes += sum(map(len, matches))
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                _, dropped = self._cache.popitem(last=False)
                self._cached_bytes -= sum(map(len, dropped))
        return matches, count

    def _with_updates(self, finding: dict[str, Any]) -> dict[str, Any]:
        update = self._updates.get((finding["ProductArn"], finding["Id"]))
        return {**finding, **update} if update else finding

    def _imported_matches(self, compiled: CompiledFilter) -> list[bytes]:
        with self._lock:
            imported = list(self._imported.values())
        return [msgspec.json.encode(f) for f in imported if compiled.finding(f)]

    def add(self, finding: dict[str, Any], now: str) -> None:
        """Keep a finding that somebody sent; the same product and id replaces the one before.

        What the customer set (workflow, note, user-defined fields) survives, as it does in AWS.
        """
        key = (finding["ProductArn"], finding["Id"])
        with self._lock:
            old = self._imported.get(key, {})
            kept = {m: old[m] for m in _CUSTOMER_MEMBERS if m in old}
            stored = copy.deepcopy(finding)
            stored.setdefault("RecordState", "ACTIVE")
            stored.setdefault("Workflow", {"Status": "NEW"})
            stored.setdefault("WorkflowState", "NEW")
            stored.update(kept)
            stored["ProcessedAt"] = now
            self._imported[key] = stored
            self._sorted = None

    def update(self, key: FindingKey, members: dict[str, Any], day: dt.date) -> bool:
        """Change members of a finding; return whether it exists."""
        with self._lock:
            if key in self._imported:
                self._imported[key] = {**self._imported[key], **members}
                self._sorted = None
                return True
        account_id = key[1].split(":")[4] if key[1].count(":") >= 5 else ""
        for account in self._organization.reporting_accounts(day):
            if account.account_id != account_id:
                continue
            for finding in self._organization.findings(account, day):
                if (finding["ProductArn"], finding["Id"]) == key:
                    with self._lock:
                        self._updates[key] = {**self._updates.get(key, {}), **members}
                        self._version += 1
                    return True
        return False

    def clear(self) -> None:
        """Forget what was imported and updated."""
        with self._lock:
            self._imported.clear()
            self._updates.clear()
            self._cache.clear()
            self._cached_bytes = 0
            self._version += 1


def _nth_value(
    number: int, keyed: tuple[list[tuple[bool, Any]], tuple[int, int]]
) -> tuple[bool, Any]:
    return keyed[0][number]
