"""The collector against an endpoint of exact bytes: what counts as a page, resuming, stopping.

The endpoint is scripted here because these tests count single requests and send replies that no
sound server sends. The same collector against the simulated organization is in
`test_aws_simulation.py`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from posture_pipeline.aws import security_hub
from posture_pipeline.aws.clients import (
    AwsClients,
    NotEnabledError,
    PassingAwsError,
    is_passing,
)
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.aws.security_hub import (
    PAGE_ATTEMPTS,
    SHARD_RESTARTS,
    Collected,
    PassingCollectionError,
    Progress,
    collect,
    shards,
)
from posture_pipeline.errors import (
    CollectionError,
    CredentialsError,
    DayIsOverError,
    PermissionMissingError,
)
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.settings import Aws, Settings

pytestmark = pytest.mark.functional

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = NOON.date()
PAGE = 5
PAGES_PER_FILE = 4
SETTINGS = Settings()


# -- The endpoint ----------------------------------------------------------------------------------


@dataclass
class Reply:
    """What the endpoint sends instead of a page."""

    status: int = 200
    body: bytes = b""
    code: str | None = None
    cut: bool = False
    no_length: bool = False
    reset: bool = False
    seconds: float = 0.0

    @classmethod
    def error(cls, status: int, code: str, message: str = "as scripted") -> Reply:
        return cls(status, json.dumps({"Code": code, "Message": message}).encode(), code)


@dataclass
class Endpoint:
    """A Security Hub of some accounts' findings, which answers as it is told."""

    findings: list[dict[str, Any]]
    now: datetime = NOON
    fault: Callable[[dict[str, Any], int], Reply | None] = lambda _request, _number: None
    """Given a request and how many of its kind (shard and token) came before: the reply."""
    change_page: Callable[[dict[str, Any], dict[str, Any]], None] = lambda _request, _page: None
    requests: list[dict[str, Any]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: Counter[tuple[str, str]] = Counter()

    def answer(self, request: dict[str, Any]) -> Reply:
        with self.lock:
            key = (shard_of(request), request.get("NextToken", ""))
            number = self.seen[key]
            self.seen[key] += 1
            self.requests.append(request)
        fault = self.fault(request, number)
        page = self.page(request)
        if fault is not None:
            if fault.status == 200 and not fault.body and (fault.cut or fault.seconds):
                return replace(fault, body=page)
            return fault
        with self.lock:
            self.sent.append(page)
        return Reply(body=page)

    def page(self, request: dict[str, Any]) -> bytes:
        filters = request["Filters"]
        states = [each["Value"] for each in filters["RecordState"]]
        prefix = filters.get("AwsAccountId", [{"Value": ""}])[0]["Value"]
        found = [
            f
            for f in self.findings
            if f["RecordState"] in states
            and f["AwsAccountId"].startswith(prefix)
            and (not asks_for_updates(request) or is_updated(f, filters["UpdatedAt"][0]))
        ]
        start = int(request.get("NextToken", "t0")[1:])
        end = start + request["MaxResults"]
        page: dict[str, Any] = {"Findings": found[start:end]}
        if end < len(found):
            page["NextToken"] = f"t{end}"
        self.change_page(request, page)
        # Blanks and an odd order of members, so that bytes that were parsed and written again show.
        return json.dumps(page, indent=1).encode()


def shard_of(request: dict[str, Any]) -> str:
    filters = request["Filters"]
    if filters["RecordState"][0]["Value"] == "ARCHIVED":
        return "eu-west-1-archived"
    prefix = filters.get("AwsAccountId", [{"Value": "all"}])[0]["Value"]
    return f"eu-west-1-active-{prefix}{'-updates' if asks_for_updates(request) else ''}"


def asks_for_updates(request: dict[str, Any]) -> bool:
    return len(request["Filters"]["RecordState"]) == 2


def is_updated(found: dict[str, Any], bounds: dict[str, str]) -> bool:
    return bounds["Start"] <= found.get("UpdatedAt", "") <= bounds["End"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    endpoint: Endpoint

    def log_message(self, *_: object) -> None: ...

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.endpoint.now, usegmt=True)

    def do_GET(self) -> None:
        """DescribeHub, which only tells the time."""
        self._send(Reply(body=b'{"HubArn": "arn:aws:securityhub:eu-west-1:1:hub/default"}'))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._send(self.endpoint.answer(json.loads(self.rfile.read(length))))

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.seconds)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True
            return
        with suppress(OSError):
            self.send_response(reply.status)
            if reply.code:
                self.send_header("x-amzn-ErrorType", reply.code)
            if reply.no_length:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            self.close_connection = reply.cut or reply.no_length or self.close_connection


def finding(account: str, number: int, state: str = "ACTIVE") -> dict[str, Any]:
    return {
        "Id": f"{account}/{state}/{number}",
        "AwsAccountId": account,
        "RecordState": state,
        "Title": "Zugriff für äußere Konten ☂",
    }


FINDINGS = [
    finding(f"{digit}1122223333{digit}", number)
    for digit in range(10)
    for number in range(3 + 7 * digit)
] + [finding("011122223333", number, "ARCHIVED") for number in range(7)]


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    # With the default of 5 a collection's threads wait a second to connect, all at once.
    request_queue_size = 64


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    """One server for all tests, so that its clients, which are slow to make, are made once."""
    server = Listener(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(server: ThreadingHTTPServer) -> Endpoint:
    Handler.endpoint = Endpoint(FINDINGS, url=f"http://127.0.0.1:{server.server_port}")
    return Handler.endpoint


@cache
def clients_of(url: str, attempts: int, read_timeout: float) -> AwsClients:
    aws = Aws(endpoint_url=url)
    return AwsClients(aws, attempts=attempts, read_timeout=read_timeout, connect_timeout=2)


# -- The sink --------------------------------------------------------------------------------------


@dataclass
class Saved:
    """What survives a kill: files and positions, shard by shard."""

    files: dict[str, list[list[bytes]]] = field(default_factory=dict)
    positions: dict[str, ShardPosition] = field(default_factory=dict)

    @property
    def pages(self) -> list[bytes]:
        return [page for files in self.files.values() for file in files for page in file]

    @property
    def ids(self) -> list[str]:
        return [f["Id"] for page in self.pages for f in json.loads(page)["Findings"]]


class MemorySink:
    """A sink like the lake's: what is not saved is lost with it."""

    def __init__(self, saved: Saved) -> None:
        self.saved = saved
        self.open: dict[str, list[bytes]] = {}
        self.restarts: list[str] = []
        self.calls = 0

    def position(self, shard: str) -> ShardPosition | None:
        self.calls += 1
        return self.saved.positions.get(shard)

    def add(self, shard: str, body: bytes) -> None:
        self.calls += 1
        self.open.setdefault(shard, []).append(body)

    def save(self, position: ShardPosition) -> None:
        self.calls += 1
        files = self.saved.files.setdefault(position.shard, [])
        # A file whose position was not saved is written again under the same number.
        files[position.files - 1 :] = [self.open.pop(position.shard)]
        self.saved.positions[position.shard] = position

    def restart(self, shard: str) -> None:
        self.calls += 1
        self.restarts.append(shard)
        self.open.pop(shard, None)
        self.saved.files.pop(shard, None)
        self.saved.positions.pop(shard, None)


class Killed(BaseException):
    """The process ends here."""


class DyingSink(MemorySink):
    """Ends the process at the n-th call of a kind, before or after it has done its work."""

    def __init__(self, saved: Saved, kind: str, number: int, *, after: bool) -> None:
        super().__init__(saved)
        self.kind, self.left, self.after = kind, number, after

    def _at(self, kind: str, work: Callable[[], None]) -> None:
        if kind == self.kind:
            self.left -= 1
        dies = kind == self.kind and self.left == 0
        if dies and not self.after:
            raise Killed
        work()
        if dies:
            raise Killed

    def add(self, shard: str, body: bytes) -> None:
        self._at("add", lambda: MemorySink.add(self, shard, body))

    def save(self, position: ShardPosition) -> None:
        self._at("save", lambda: MemorySink.save(self, position))


def run(
    hub: Endpoint,
    sink: MemorySink | None = None,
    settings: Settings = SETTINGS,
    *,
    day: date = DAY,
    attempts: int = 1,
    read_timeout: float = 5.0,
    slept: list[float] | None = None,
    **more: Any,
) -> Collected:
    """Collects without waiting; with `attempts=1` botocore itself does not retry."""
    clients = clients_of(hub.url, attempts, read_timeout)
    waits = slept if slept is not None else []
    options: dict[str, Any] = {
        "budgets": lambda _region: RateBudget.unlimited(),
        "page_size": PAGE,
        "pages_per_file": PAGES_PER_FILE,
        "sleep": waits.append,
    }
    return collect(clients, settings, sink or MemorySink(Saved()), day=day, **{**options, **more})


IDS = sorted(f["Id"] for f in FINDINGS)
PAGES = sum(
    max(1, -(-sum(f["Id"].startswith(p) and s in f["Id"] for f in FINDINGS) // PAGE))
    for p, s in [*((str(d), "ACTIVE") for d in range(10)), ("", "ARCHIVED")]
) + len("0123456789")
"""Of each stream of active findings, the page of what was updated meanwhile is one too."""


# -- A collection ----------------------------------------------------------------------------------


def test_ten_shards_bring_every_finding_exactly_once(hub: Endpoint) -> None:
    saved = Saved()
    collected = run(hub, MemorySink(saved))
    assert sorted(saved.ids) == IDS
    assert collected.findings == len(IDS)
    assert collected.archived_findings == 7
    assert collected.pages == collected.requests == len(hub.requests) == PAGES
    assert collected.throttled == 0
    assert sum(count.pages for count in collected.shards) == PAGES
    assert sum("updates" not in count.shard for count in collected.shards) == 11
    assert collected.updates == 0
    assert collected.unsettled == ()


def test_one_stream_brings_the_same(hub: Endpoint) -> None:
    saved = Saved()
    collected = run(hub, MemorySink(saved), Settings(shards=False, archived_days=0))
    assert sorted(saved.ids) == [each for each in IDS if "ARCHIVED" not in each]
    assert [count.shard for count in collected.shards] == [
        "eu-west-1-active-all",
        "eu-west-1-active-all-updates-1",
    ]


def test_pages_are_kept_byte_for_byte_as_received(hub: Endpoint) -> None:
    saved = Saved()
    run(hub, MemorySink(saved))
    assert sorted(saved.pages) == sorted(hub.sent)


def test_files_hold_the_set_number_of_pages_and_every_shard_ends_without_a_token(
    hub: Endpoint,
) -> None:
    saved = Saved()
    run(hub, MemorySink(saved))
    paged = {name for name in saved.positions if "updates" not in name}
    assert paged == {shard.name for shard in shards(SETTINGS, DAY)}
    for name, position in saved.positions.items():
        files = saved.files[name]
        assert position.complete
        assert position.next_token is None
        assert position.files == len(files)
        assert position.pages == sum(len(file) for file in files)
        assert all(len(file) == PAGES_PER_FILE for file in files[:-1])


def test_the_filters_of_a_shard_are_the_same_bytes_on_every_page(hub: Endpoint) -> None:
    run(hub)
    by_shard: dict[str, set[str]] = {}
    for request in hub.requests:
        by_shard.setdefault(shard_of(request), set()).add(json.dumps(request["Filters"]))
    assert len(by_shard) == 11 + 10
    assert all(len(texts) == 1 for texts in by_shard.values())


def test_the_times_are_of_the_endpoint_not_of_this_machine(hub: Endpoint) -> None:
    hub.now = NOON - timedelta(days=400)
    collected = run(hub, day=hub.now.date())
    assert collected.started_at == hub.now
    assert hub.now <= collected.collected_at < hub.now + timedelta(seconds=30)


def test_an_empty_page_with_a_token_is_not_the_end(hub: Endpoint) -> None:
    def empty_first(request: dict[str, Any], page: dict[str, Any]) -> None:
        if "NextToken" not in request:
            page.update(Findings=[], NextToken="t0")

    hub.change_page = empty_first
    saved = Saved()
    run(hub, MemorySink(saved))
    assert sorted(saved.ids) == IDS


def test_an_empty_token_is_the_end(hub: Endpoint) -> None:
    hub.change_page = lambda _request, page: page.setdefault("NextToken", "")
    saved = Saved()
    run(hub, MemorySink(saved))
    assert sorted(saved.ids) == IDS


def test_records_that_are_no_findings_are_kept_as_received(hub: Endpoint) -> None:
    """Whether a record can be read is not the collector's question; it goes to quarantine later."""

    def spoil(_request: dict[str, Any], page: dict[str, Any]) -> None:
        page["Findings"] += [None, "text", {"Id": 7}, [], {"Resources": {"a": [1.5e300]}}]

    hub.change_page = spoil
    saved = Saved()
    collected = run(hub, MemorySink(saved))
    assert sorted(saved.pages) == sorted(hub.sent)
    assert collected.findings == len(IDS) + 5 * PAGES


def test_a_finding_on_two_pages_is_kept_twice(hub: Endpoint) -> None:
    """The set moves while paging; which copy is the newest is decided when pages are merged."""

    def again(request: dict[str, Any], page: dict[str, Any]) -> None:
        if "NextToken" in request:
            page["Findings"].insert(0, hub.findings[0])

    hub.change_page = again
    collected = run(hub)
    assert collected.findings > len(IDS)


# -- Faults ----------------------------------------------------------------------------------------

FAULTS = {
    "throttled as GetFindings does": Reply.error(429, "TooManyRequestsException"),
    "throttled as others do": Reply.error(400, "ThrottlingException"),
    "limit exceeded": Reply.error(429, "LimitExceededException"),
    "500 of the service": Reply.error(500, "InternalException"),
    "503 without a body": Reply(503),
    "502 of a proxy": Reply(502, b"<html><body>Bad gateway</body></html>"),
    "cut, length right, closed": Reply(cut=True),
    "cut, no length, closed": Reply(cut=True, no_length=True),
    "HTML with 200": Reply(body=b"<html><body>Please sign in</body></html>"),
    "empty with 200": Reply(),
    "empty object": Reply(body=b"{}"),
    "token without findings": Reply(body=b'{"NextToken": "t5"}'),
    "findings that are no list": Reply(body=b'{"Findings": {"Id": "1"}}'),
    "findings that are null": Reply(body=b'{"Findings": null}'),
    "a list": Reply(body=b"[]"),
    "null": Reply(body=b"null"),
    "two documents": Reply(body=b'{"Findings": []}{"Findings": []}'),
    "no UTF-8": Reply(body=b'{"Findings": [], "NextToken": "\xff\xfe"}'),
    "reset before the answer": Reply(reset=True),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_page_that_failed_twice_is_asked_for_again_and_nothing_is_missing(
    hub: Endpoint, fault: Reply
) -> None:
    """Of each shard the first and the second page; botocore itself takes some for a last page."""
    hub.fault = lambda request, number: (
        fault if number < 2 and request.get("NextToken", "t5") == "t5" else None
    )
    saved, slept = Saved(), list[float]()
    collected = run(hub, MemorySink(saved), slept=slept)
    assert sorted(saved.ids) == IDS
    assert collected.pages == PAGES
    assert collected.requests == len(hub.requests) > PAGES
    assert set(slept) == {1.0, 2.0}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_page_that_never_comes_fails_the_collection_loudly(hub: Endpoint, fault: Reply) -> None:
    broken = "eu-west-1-active-7"
    hub.fault = lambda request, _: (
        fault if shard_of(request) == broken and request.get("NextToken") == "t10" else None
    )
    saved = Saved()
    with pytest.raises(PassingCollectionError) as caught:
        run(hub, MemorySink(saved))
    assert f"shard {broken}, page 3" in str(caught.value)
    assert is_passing(caught.value)
    assert broken not in saved.positions
    assert hub.seen[(broken, "t10")] == PAGE_ATTEMPTS


def test_a_reply_that_does_not_come_in_time_is_asked_for_again(hub: Endpoint) -> None:
    hub.fault = lambda request, number: (
        Reply(seconds=0.6) if number == 0 and request.get("NextToken") == "t5" else None
    )
    saved = Saved()
    collected = run(hub, MemorySink(saved), read_timeout=0.25)
    assert sorted(saved.ids) == IDS
    assert collected.requests > PAGES


def test_botocores_own_retries_count_in_the_budget_and_in_the_requests(hub: Endpoint) -> None:
    hub.fault = lambda request, number: (
        Reply.error(500, "InternalException")
        if number == 0 and shard_of(request) == "eu-west-1-active-3"
        else None
    )
    places: list[int] = []

    class Counting(RateBudget):
        def reserve(self) -> float:
            places.append(1)
            return 0.0

    collected = run(hub, attempts=3, budgets=lambda _region: Counting())
    assert collected.requests == len(places) == len(hub.requests) > PAGES


def test_a_throttled_reply_slows_the_budget_of_its_region_down(hub: Endpoint) -> None:
    hub.fault = lambda request, number: (
        Reply.error(429, "TooManyRequestsException")
        if number == 0 and shard_of(request) == "eu-west-1-active-0"
        else None
    )
    budgets: list[RateBudget] = []

    def make(_region: str) -> RateBudget:
        budgets.append(RateBudget(1000, 1000, sleep=lambda _seconds: None))
        return budgets[-1]

    collected = run(hub, budgets=make)
    assert collected.throttled == 1
    assert [budget.current_rate < 1000 for budget in budgets] == [True]


PERMANENT = {
    "expired": (Reply.error(403, "ExpiredTokenException"), CredentialsError, "where it stopped"),
    "unknown key": (
        Reply.error(403, "UnrecognizedClientException"),
        CredentialsError,
        "does not accept",
    ),
    "wrong signature": (
        Reply.error(403, "InvalidSignatureException", "Signature expired"),
        CredentialsError,
        "clock",
    ),
    "denied": (
        Reply.error(403, "AccessDeniedException"),
        PermissionMissingError,
        "securityhub:GetFindings",
    ),
    "not enabled": (Reply.error(401, "InvalidAccessException"), NotEnabledError, "not enabled"),
}


@pytest.mark.parametrize(("fault", "error", "text"), PERMANENT.values(), ids=PERMANENT.keys())
def test_an_error_that_stays_is_not_tried_again_and_says_what_to_do(
    hub: Endpoint, fault: Reply, error: type[Exception], text: str
) -> None:
    hub.fault = lambda request, _: (
        fault if shard_of(request) == "eu-west-1-active-9" and "NextToken" in request else None
    )
    slept: list[float] = []
    with pytest.raises(error, match=text) as caught:
        run(hub, slept=slept)
    assert "shard eu-west-1-active-9, page 2" in str(caught.value)
    assert not is_passing(caught.value)
    assert slept == []
    assert hub.seen[("eu-west-1-active-9", "t5")] == 1


def test_after_credentials_expired_the_next_run_goes_on_where_it_stopped(hub: Endpoint) -> None:
    expired = Reply.error(403, "ExpiredTokenException")
    hub.fault = lambda _request, _: expired if len(hub.requests) > 30 else None
    saved = Saved()
    with pytest.raises(CredentialsError):
        run(hub, MemorySink(saved), workers=1)
    already = sum(position.pages for position in saved.positions.values())
    assert already > 0
    hub.fault = lambda _request, _: None
    hub.requests.clear()
    collected = run(hub, MemorySink(saved), began=True)
    assert sorted(saved.ids) == IDS
    assert collected.pages == PAGES
    assert len(hub.requests) == PAGES - already


def test_an_endpoint_that_cannot_be_reached_is_named_and_passes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(PassingAwsError, match="cannot be reached") as caught:
        run(Endpoint([], url=url))
    assert "127.0.0.1" in str(caught.value)


# -- Kill and resume -------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["add", "save"])
def test_a_run_killed_at_any_moment_resumes_with_the_same_findings(
    hub: Endpoint, kind: str, after: bool
) -> None:
    """Whenever it dies, at most one file's pages a shard, less one, are asked for again."""
    sizes = range(1, 12)
    hub.findings = [finding(f"{d}1111111111{d}", n) for d in range(2) for n in range(21 + 20 * d)]
    ids = sorted(f["Id"] for f in hub.findings)
    died = 0
    for number in sizes:
        saved = Saved()
        hub.requests.clear()
        try:
            run(hub, DyingSink(saved, kind, number, after=after), workers=1)
        except Killed:
            died += 1
        first = Counter(map(page_of, hub.requests))
        hub.requests.clear()
        run(hub, MemorySink(saved), began=True)
        again = Counter(map(page_of, hub.requests)) & first
        assert sorted(saved.ids) == ids
        assert all(position.complete for position in saved.positions.values())
        by_shard = Counter(shard for shard, _ in again.elements())
        assert all(count <= PAGES_PER_FILE for count in by_shard.values())
        if kind == "save" and after:
            assert all(count < PAGES_PER_FILE for count in by_shard.values())
    assert died == len(sizes)


def page_of(request: dict[str, Any]) -> tuple[str, str]:
    return shard_of(request), request.get("NextToken", "")


def test_a_run_killed_again_and_again_ends_with_the_whole_set(hub: Endpoint) -> None:
    saved, tries = Saved(), 0
    while True:
        tries += 1
        assert tries < 60
        try:
            run(hub, DyingSink(saved, "save", 2, after=True), workers=1, began=True)
            break
        except Killed:
            continue
    assert tries > 5
    assert sorted(saved.ids) == IDS


def test_a_complete_collection_asks_for_nothing_again(hub: Endpoint) -> None:
    saved = Saved()
    first = run(hub, MemorySink(saved))
    hub.requests.clear()
    again = run(hub, MemorySink(saved), began=True)
    assert hub.requests == []
    assert (again.pages, again.findings, again.requests) == (first.pages, first.findings, 0)


def test_after_a_change_of_settings_what_was_saved_is_not_mixed_in(hub: Endpoint) -> None:
    saved = Saved()
    run(hub, MemorySink(saved))
    sink = MemorySink(saved)
    run(hub, sink, Settings(collect="failing"))
    assert len(sink.restarts) == 11
    assert sorted(saved.ids) == IDS


# -- Tokens ----------------------------------------------------------------------------------------

REFUSED = Reply.error(400, "InvalidInputException", "Invalid NextToken: Input Query has changed")


def test_a_refused_token_restarts_that_shard_alone(hub: Endpoint) -> None:
    refused = "eu-west-1-active-8"
    hub.fault = lambda request, number: (
        REFUSED
        if shard_of(request) == refused and request.get("NextToken") == "t25" and number == 0
        else None
    )
    saved = Saved()
    sink = MemorySink(saved)
    collected = run(hub, sink)
    assert sink.restarts == [refused]
    assert sorted(saved.ids) == IDS
    assert {c.shard: c.restarts for c in collected.shards if c.restarts} == {refused: 1}
    others = Counter(page_of(r) for r in hub.requests if shard_of(r) != refused)
    assert set(others.values()) == {1}


def test_a_saved_token_that_aged_restarts_that_shard_alone(hub: Endpoint) -> None:
    saved = Saved()
    with suppress(Killed):
        run(hub, DyingSink(saved, "save", 20, after=True), workers=1)
    stale = next(p for p in saved.positions.values() if not p.complete)
    kept = {name for name, p in saved.positions.items() if p.complete}
    hub.fault = lambda request, number: (
        REFUSED if page_of(request) == (stale.shard, stale.next_token) and number <= 1 else None
    )
    hub.requests.clear()
    sink = MemorySink(saved)
    run(hub, sink, began=True)
    assert sink.restarts
    assert set(sink.restarts) == {stale.shard}
    assert sorted(saved.ids) == IDS
    assert not kept & {shard_of(request) for request in hub.requests}


def test_a_token_that_is_refused_again_and_again_fails_the_shard(hub: Endpoint) -> None:
    refused = "eu-west-1-active-4"
    hub.fault = lambda request, _: (
        REFUSED if shard_of(request) == refused and "NextToken" in request else None
    )
    with pytest.raises(PassingCollectionError, match=f"Shard {refused}: AWS refused the token"):
        run(hub)
    assert hub.seen[(refused, "")] == 1 + SHARD_RESTARTS


def test_a_token_that_comes_twice_is_an_error_not_an_endless_loop(hub: Endpoint) -> None:
    hub.change_page = lambda request, page: (
        page.update(NextToken="t5") if shard_of(request) == "eu-west-1-active-6" else None
    )
    with pytest.raises(CollectionError, match=r"eu-west-1-active-6.*never end"):
        run(hub)


def test_tokens_that_go_round_in_a_circle_are_an_error(hub: Endpoint) -> None:
    hub.change_page = lambda request, page: (
        page.update(NextToken="t5" if request.get("NextToken") == "t10" else "t10")
        if shard_of(request) == "eu-west-1-active-6" and "NextToken" in page
        else None
    )
    with pytest.raises(CollectionError, match="never end"):
        run(hub)


def test_an_endpoint_that_refuses_the_prefix_filter_is_told_which_setting_helps(
    hub: Endpoint,
) -> None:
    refusal = Reply.error(400, "InvalidInputException", "PREFIX is not supported for AwsAccountId")
    hub.fault = lambda request, _: refusal if "AwsAccountId" in request["Filters"] else None
    with pytest.raises(CollectionError, match="shards: false") as caught:
        run(hub)
    assert "PREFIX is not supported" in str(caught.value)
    assert not is_passing(caught.value)
    assert run(hub, settings=Settings(shards=False)).findings == len(IDS)


# -- The day ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [-1, 1])
def test_another_day_than_today_is_refused_before_anything_is_asked(
    hub: Endpoint, days: int
) -> None:
    sink = MemorySink(Saved())
    with pytest.raises(DayIsOverError):
        run(hub, sink, day=DAY + timedelta(days=days))
    assert hub.requests == []
    assert sink.calls == 0


def test_a_run_that_crosses_midnight_belongs_to_its_day(hub: Endpoint) -> None:
    hub.now = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)

    def midnight(_request: dict[str, Any], _page: dict[str, Any]) -> None:
        hub.now = datetime(2026, 11, 24, 0, 0, 1, tzinfo=UTC)

    hub.change_page = midnight
    saved = Saved()
    with pytest.raises(Killed):
        run(hub, DyingSink(saved, "save", 3, after=True))
    collected = run(hub, MemorySink(saved), began=True)
    assert sorted(saved.ids) == IDS
    assert collected.collected_at.date() == DAY + timedelta(days=1)
    with pytest.raises(DayIsOverError):
        run(hub, MemorySink(Saved()))


# -- Stopping and progress -------------------------------------------------------------------------


def test_when_a_shard_fails_the_others_stop_and_the_sink_is_left_alone(hub: Endpoint) -> None:
    """Replies under way when it stopped come later, when the sink may belong to a retry."""
    hub.fault = lambda request, _: (
        Reply.error(403, "AccessDeniedException")
        if shard_of(request) == "eu-west-1-active-0"
        else Reply(seconds=0.3)
    )
    sink = MemorySink(Saved())
    with pytest.raises(PermissionMissingError):
        run(hub, sink)
    calls, requests = sink.calls, len(hub.requests)
    time.sleep(0.5)
    assert (sink.calls, len(hub.requests)) == (calls, requests)


def test_waits_end_at_once_when_another_shard_fails(hub: Endpoint) -> None:
    refused = threading.Event()

    def fault(request: dict[str, Any], _number: int) -> Reply | None:
        if shard_of(request) == "eu-west-1-active-9":
            refused.set()
            return Reply.error(403, "AccessDeniedException")
        # No other shard goes on to a second page, and so to a wait, before one has failed.
        refused.wait(30)
        return None

    hub.fault = fault
    with pytest.raises(PermissionMissingError):
        # At this rate the other shards would then wait for longer than any test may take.
        run(hub, sleep=None, budgets=lambda _region: RateBudget(0.0001, 40, start=15))


def test_an_interrupt_stops_the_collection_and_what_was_saved_stays(
    hub: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security_hub, "PROGRESS_SECONDS", 0.2)
    hub.fault = lambda _request, _: Reply(seconds=0.02)

    def interrupt(progress: Progress) -> None:
        if progress.pages > 30:
            raise KeyboardInterrupt

    saved = Saved()
    with pytest.raises(KeyboardInterrupt):
        run(hub, MemorySink(saved), progress=interrupt, workers=2)
    assert saved.positions
    hub.fault = lambda _request, _: None
    run(hub, MemorySink(saved), began=True)
    assert sorted(saved.ids) == IDS


def test_a_failing_sink_fails_the_collection(hub: Endpoint) -> None:
    class Full(MemorySink):
        def save(self, position: ShardPosition) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(hub, Full(Saved()))


def test_progress_ends_with_everything_and_is_rare(hub: Endpoint) -> None:
    told: list[Progress] = []
    run(hub, progress=told.append, expected_findings=len(IDS))
    assert len(told) <= 2
    assert told[-1].findings == told[-1].expected_findings == len(IDS)
    assert told[-1].pages == PAGES
    assert told[-1].shards_done == told[-1].shards == 11
    assert told[-1].seconds_left == 0
    assert told[-1].rate > 0


# -- The rate --------------------------------------------------------------------------------------


def test_at_the_rate_limit_nothing_is_lost_and_few_requests_are_refused(hub: Endpoint) -> None:
    """The endpoint has a bucket like AWS's, thirty times as fast."""
    rate, burst = 90.0, 6
    state = {"tokens": float(burst), "at": time.monotonic()}
    lock = threading.Lock()

    def limit(_request: dict[str, Any], _number: int) -> Reply | None:
        with lock:
            now = time.monotonic()
            state["tokens"] = min(burst, state["tokens"] + (now - state["at"]) * rate)
            state["at"] = now
            if state["tokens"] < 1:
                return Reply.error(429, "TooManyRequestsException")
            state["tokens"] -= 1
            return None

    hub.fault = limit
    collected = run(hub, sleep=None, budgets=lambda _region: RateBudget(rate, burst))
    # On a busy machine a few requests bunch up: that must stay rare, and cost no finding.
    assert collected.findings == len(IDS)
    assert collected.throttled <= 3


def test_each_region_has_a_budget_of_its_own(hub: Endpoint) -> None:
    regions = ("eu-west-1", "us-east-1")
    made: list[str] = []

    def make(region: str) -> RateBudget:
        made.append(region)
        return RateBudget.unlimited()

    saved = Saved()
    collected = run(hub, MemorySink(saved), Settings(aws=Aws(regions=regions)), budgets=make)
    assert made == list(regions)
    assert collected.findings == 2 * len(IDS)
