"""The collector: all findings the reports need, page by page as received, resumable.

What is asked (shards and their filters), how it is asked (rate, retries, what counts as a page)
and when it may be asked (today only). Where pages go is the sink's business; what is in a finding
is looked at nowhere here.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

import msgspec

from posture_pipeline.aws.clients import (
    AwsClients,
    PassingAwsError,
    aws_call,
    error_code,
    error_message,
    is_throttle,
    is_unavailable_region,
)
from posture_pipeline.aws.partitions import partition_of, regions_of_security_hub
from posture_pipeline.aws.rate import RateBudget
from posture_pipeline.errors import AwsError, CollectionError, DayIsOverError, SettingsError
from posture_pipeline.model.collection import (
    PAGES_PER_FILE,
    PageSink,
    ShardPosition,
    is_updates_shard,
    updates_shard,
)
from posture_pipeline.model.controls import CONSOLIDATED_PREFIX, RULESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from posture_pipeline.settings import Settings

PAGE_SIZE = 100
"""Findings of a page at most (AWS: GetFindings, MaxResults)."""
FILTER_VALUES = 20
"""Values of one filter attribute at most (AWS: GetFindings, Filters)."""
WORKERS = 12
"""Shards collected at once: all of one region, so that the last one is not left to run alone. A
page takes about a second to come, so three or four at once keep to the rate of a region."""
WORKERS_PER_REGION = 4
"""Shards collected at once at least for each of several regions."""
PAGE_ATTEMPTS = 5
"""Times a page is asked for, each with all of botocore's own retries, before the shard fails."""
SHARD_RESTARTS = 3
"""Times a shard starts over because AWS refuses its token, before the shard fails."""
UPDATE_PASSES = 10
"""Times a shard asks for what was updated meanwhile, at most. Each pass covers the time that the
one before took, so they get shorter: at 1,000,000 findings that are each updated twice a day, three
or four passes come to an end."""
UPDATE_MARGIN = timedelta(minutes=15)
"""How long before a shard began an update may have been made that shows later: a finding is
evaluated in one region and comes to another, and no two clocks agree."""
REPEATED_MARGIN = timedelta(seconds=5)
"""The same between one pass for updates and the next; the clock is read to the second."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
PROGRESS_SECONDS = 3.0
"""Progress is reported at most this often."""
STOP_SECONDS = 2.0
"""How long a stopped collection waits for requests under way; their answers are not used."""
GRACE = timedelta(hours=12)
"""How long after midnight a collection that began before may go on: 100,000 pages take 9 hours."""

_HOURS = int(GRACE / timedelta(hours=1))

ACTION = "securityhub:GetFindings"

STANDARD_FAMILIES = (
    "aws-foundational-security-best-practices",
    "aws-resource-tagging-standard",
    "cis-aws-foundations-benchmark",
    "nist-800-171",
    "nist-800-53",
    "pci-dss",
    "service-managed-aws-control-tower",
)
"""How the GeneratorId of a per-standard finding starts, whatever the version (AWS: Security Hub
user guide, asff-changes-consolidation). Later standards only have consolidated findings."""


class PassingCollectionError(CollectionError, PassingAwsError):
    """The collection stopped for a reason that passes by itself; a retry goes on where it was."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One stream of the collection, with a NextToken of its own.

    Attributes:
        name: Also a folder in the lake: `eu-west-1-active-3`.
        region: The region that is asked.
        filters_json: The filters as JSON text. AWS refuses a token when the filters changed, so
            the same settings and day give the same text, byte by byte.
        archived: The shard brings findings archived lately, which never score.
    """

    name: str
    region: str
    filters_json: str
    archived: bool = False

    @property
    def filters(self) -> dict[str, Any]:
        """The filters as GetFindings takes them."""
        return cast("dict[str, Any]", json.loads(self.filters_json))

    def query(self, page_size: int = PAGE_SIZE) -> str:
        """Hash of the request that a token belongs to."""
        text = f"{self.region} {page_size} {self.filters_json}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection is.

    Attributes:
        pages: Pages so far, those of an earlier try included.
        findings: Records on them.
        expected_findings: How many there may be in all, if somebody could tell.
        rate: Findings a second, of this try.
        seconds_left: By rate and expectation; null without them.
        shards_done: Shards that are complete.
        shards: Shards in all.
    """

    pages: int
    findings: int
    expected_findings: int | None
    rate: float
    seconds_left: float | None
    shards_done: int
    shards: int


@dataclass(frozen=True, slots=True)
class ShardCount:
    """What one shard brought: pages and records in all, requests and restarts of this try.

    Attributes:
        settled: Of a shard that asks for updates: nothing can have moved while it was paged.
    """

    shard: str
    archived: bool
    pages: int
    findings: int
    requests: int
    restarts: int
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Collected:
    """What a complete collection brought.

    Attributes:
        pages: Pages in the sink, those of an earlier try included.
        findings: Records on them, duplicates and unreadable ones included.
        archived_findings: Of these, records of the shards of archived findings.
        updates: Of these, records of the shards that asked what was updated in the meantime.
        unsettled: Shards in which findings still moved in the last pass for updates.
        requests: GetFindings requests of this try, retries included.
        throttled: Of these, requests that AWS refused as too many.
        started_at: When this try began, by the endpoint's clock.
        collected_at: When the last page had come, by the endpoint's clock.
        shards: The counts shard by shard.
    """

    pages: int
    findings: int
    archived_findings: int
    updates: int
    unsettled: tuple[str, ...]
    requests: int
    throttled: int
    started_at: datetime
    collected_at: datetime
    shards: tuple[ShardCount, ...]


def standard_arn(standard: str, region: str) -> str:
    """The ARN of a standard, such as `cis-aws-foundations-benchmark/v/3.0.0`, in a region."""
    partition = partition_of(region).name
    if standard in RULESETS:
        return f"arn:{partition}:securityhub:::ruleset/{standard}"
    return f"arn:{partition}:securityhub:{region}::standards/{standard}"


def generator_prefixes(settings: Settings, region: str) -> list[str]:
    """What the GeneratorId of a finding that any report needs starts with.

    Attributes of a filter are joined by AND, so "control findings or findings of AWS Config"
    must be said in one attribute. Findings of AWS Config have their rule's ARN there.

    Raises:
        SettingsError: The reports need more prefixes than a filter may hold.
    """
    partition = partition_of(region).name
    prefixes: list[str] = []
    for standard in dict.fromkeys(r.standard for r in settings.reports if r.standard):
        prefixes.append(f"{standard}/")
        if standard in RULESETS:
            prefixes.append(f"{standard_arn(standard, region)}/")
    if any(report.all_standards for report in settings.reports):
        prefixes = [f"{family}/" for family in STANDARD_FAMILIES]
        prefixes += [f"{standard_arn(standard, region)}/" for standard in sorted(RULESETS)]
    if prefixes:
        prefixes.insert(0, CONSOLIDATED_PREFIX)
    if not all(report.is_of_standards for report in settings.reports):
        prefixes.append(f"arn:{partition}:config:")
    if len(prefixes) > FILTER_VALUES:
        message = (
            f"reports name {len(prefixes) - 2} standards; one collection can filter by "
            f"{FILTER_VALUES - 2} at most. Use two settings files, each with a lake of its own."
        )
        raise SettingsError(message)
    return prefixes


def product_arns(settings: Settings, region: str) -> list[str]:
    """The ARNs under which the settings' products send findings to a region.

    An ARN names the region that a finding comes from. Where regions are named, each is asked for
    its own; otherwise the home region has the findings of all regions that are linked to it.
    GetFindings knows no filter for the end of an ARN.
    """
    partition = partition_of(region).name
    sources = (
        [region] if settings.aws.regions else sorted({region, *regions_of_security_hub(partition)})
    )
    return [
        f"arn:{partition}:securityhub:{source}:{owner if owner.isdigit() else ''}:product/{product}"
        for product in settings.products
        for owner in [product.split("/")[0]]
        for source in sources
    ]


def shards(settings: Settings, day: date) -> list[Shard]:
    """The streams of a day's collection.

    Ten a region, by the first digit of the account id: that covers everything once without
    knowing the accounts. Findings of other products and those archived lately are not split.

    Args:
        settings: Regions, reports, what to collect.
        day: The day of the snapshot, from which the bounds of the archived query are counted.

    Raises:
        SettingsError: The reports need more prefixes than a filter may hold.
    """
    found: list[Shard] = []
    for region in settings.aws.collect_regions:
        wanted: dict[str, Any] = {
            "GeneratorId": _any_of("PREFIX", generator_prefixes(settings, region)),
        }
        if settings.collect == "failing":
            wanted["ComplianceStatus"] = _any_of("EQUALS", ["FAILED", "WARNING", "NOT_AVAILABLE"])
        active = {**wanted, "RecordState": _any_of("EQUALS", ["ACTIVE"])}
        if settings.shards:
            found += [
                Shard(
                    f"{region}-active-{digit}",
                    region,
                    _text({**active, "AwsAccountId": _any_of("PREFIX", [str(digit)])}),
                )
                for digit in range(10)
            ]
        else:
            found.append(Shard(f"{region}-active-all", region, _text(active)))
        # Attributes of a filter are joined by AND, so other products need streams of their own.
        arns = product_arns(settings, region)
        for number, start in enumerate(range(0, len(arns), FILTER_VALUES)):
            of_products = {
                "ProductArn": _any_of("EQUALS", arns[start : start + FILTER_VALUES]),
                "RecordState": _any_of("EQUALS", ["ACTIVE"]),
            }
            found.append(Shard(f"{region}-products-{number}", region, _text(of_products)))
        if settings.archived_days > 0:
            # Not a DateRange: AWS would count it from the moment of each request.
            bounds = {
                "Start": _midnight(day - timedelta(days=settings.archived_days)),
                "End": _midnight(day + timedelta(days=1)),
            }
            archived = {
                **wanted,
                "RecordState": _any_of("EQUALS", ["ARCHIVED"]),
                "UpdatedAt": [bounds],
            }
            found.append(Shard(f"{region}-archived", region, _text(archived), archived=True))
    return found


def updates_of(shard: Shard, number: int, since: datetime, day: date) -> Shard:
    """The stream of what was updated while a shard was paged.

    A finding that is updated may move from pages that are still to come to pages that were read.
    Archived findings are asked for too, so that none stays as active; and whatever the compliance,
    so that none that was fixed stays as failing.

    Args:
        shard: The shard that was paged.
        number: Which time it is asked, from 1.
        since: The earliest update.
        day: The day of the snapshot. The latest update is well after it, and always the same
            time: AWS refuses a token when the filters changed.
    """
    filters = {name: each for name, each in shard.filters.items() if name != "ComplianceStatus"}
    bounds = {"Start": _moment(since), "End": _midnight(day + timedelta(days=2))}
    return Shard(
        updates_shard(shard.name, number),
        shard.region,
        _text(
            {
                **filters,
                "RecordState": _any_of("EQUALS", ["ACTIVE", "ARCHIVED"]),
                "UpdatedAt": [bounds],
            }
        ),
    )


def try_region(clients: AwsClients, settings: Settings, region: str, day: date) -> None:
    """Asks a region for a finding, with the filters of a run.

    Raises:
        AwsError: It refuses.
    """
    shard = next(each for each in shards(settings, day) if each.region == region)
    with aws_call(ACTION, place=region, aws=clients.aws):
        clients.security_hub(region).get_findings(Filters=cast("Any", shard.filters), MaxResults=1)


def unavailable_regions(clients: AwsClients, settings: Settings, day: date) -> dict[str, AwsError]:
    """The regions that a run goes on without, with what each answers.

    None unless `incomplete_regions` says `continue`. The home region is never one of them: what
    the frameworks expect is asked there.

    Raises:
        AwsError: A region refuses for another reason, or none is left.
    """
    regions = settings.aws.collect_regions
    found: dict[str, AwsError] = {}
    if settings.incomplete_regions == "fail":
        return found
    for region in regions:
        try:
            try_region(clients, settings, region, day)
        except AwsError as error:
            if not is_unavailable_region(error) or region == settings.aws.region:
                raise
            found[region] = error
    if len(found) == len(regions):
        raise next(iter(found.values()))
    return found


def ensure_day_is_today(now: datetime, day: date, *, began: bool = False) -> None:
    """Refuses to collect for another day than today: Security Hub only knows the present.

    Args:
        now: The endpoint's time.
        day: The day to collect.
        began: A collection of that day has begun on the day; it may go on for `GRACE`.

    Raises:
        DayIsOverError: The day is over, or has not begun.
    """
    now = now.astimezone(UTC)
    today = now.date()
    if day == today:
        return
    if day > today:
        message = (
            f"The day {day} has not begun: by the clock of the endpoint it is {now:%Y-%m-%d %H:%M} "
            f"UTC. Collect {today}."
        )
        raise DayIsOverError(message)
    ends = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    if began and now < ends + GRACE:
        return
    begun = (
        f" A collection of that day had begun, but the day ended more than {_HOURS} hours ago: "
        "what it would find now is another day's."
        if began
        else ""
    )
    message = (
        f"The day {day} is over: by the clock of the endpoint it is {now:%Y-%m-%d %H:%M} UTC, and "
        f"Security Hub only knows the present.{begun} If raw_finding_pages of {day} are stored, "
        "materialize the assets downstream of it; if pages were saved elsewhere, file them with "
        f"`posture import`; otherwise collect {today}."
    )
    raise DayIsOverError(message)


def collect(
    clients: AwsClients,
    settings: Settings,
    sink: PageSink,
    *,
    day: date,
    progress: Callable[[Progress], None] | None = None,
    began: bool = False,
    expected_findings: int | None = None,
    budgets: Callable[[str], RateBudget] = lambda _region: RateBudget(),
    page_size: int = PAGE_SIZE,
    pages_per_file: int = PAGES_PER_FILE,
    workers: int = WORKERS,
    sleep: Callable[[float], object] | None = None,
) -> Collected:
    """Collects all findings of a day into a sink, going on where an earlier try stopped.

    Args:
        clients: How AWS is reached.
        settings: Regions, reports, what to collect.
        sink: Where the pages go. A retry brings a new sink over the same place.
        day: The day of the snapshot; it must be today.
        progress: Told now and then how far it is.
        began: A collection of that day began before; it may go on after midnight.
        expected_findings: How many there may be, such as yesterday's, for the progress.
        budgets: Makes the rate budget of a region.
        page_size: Findings a page.
        pages_per_file: Pages after which the position is saved.
        workers: Shards collected at once.
        sleep: Waits that many seconds; without one, a wait ends as soon as a shard fails.

    Raises:
        DayIsOverError: The day is not today; nothing was asked.
        PassingCollectionError: A page could not be had; everything saved stays, and a retry goes
            on there.
        CollectionError: The endpoint refuses the query.
        CredentialsError: There are none, or they expired; everything saved stays.
        PermissionMissingError: securityhub:GetFindings is not allowed.
        NotEnabledError: Security Hub is not enabled in one of the regions.
    """
    wanted = shards(settings, day)
    started_at = clients.now()
    ensure_day_is_today(started_at, day, began=began)
    run = _Collection(
        clients=clients,
        day=day,
        shards=wanted,
        sink=_GuardedSink(sink),
        budgets={region: budgets(region) for region in settings.aws.collect_regions},
        page_size=page_size,
        pages_per_file=pages_per_file,
        sleep=sleep,
    )
    at_once = (
        max(workers, WORKERS_PER_REGION * len(run.budgets)) if len(run.budgets) > 1 else workers
    )
    run.work(min(at_once, len(wanted)), progress, expected_findings)
    counts = tuple(state.count() for shard in wanted for state in run.states_of(shard))
    return Collected(
        pages=sum(count.pages for count in counts),
        findings=sum(count.findings for count in counts),
        archived_findings=sum(count.findings for count in counts if count.archived),
        updates=sum(count.findings for count in counts if is_updates_shard(count.shard)),
        unsettled=tuple(count.shard for count in counts if not count.settled),
        requests=run.requests,
        throttled=run.throttled,
        started_at=started_at,
        collected_at=clients.last_seen() or started_at,
        shards=counts,
    )


class _Page(msgspec.Struct):
    """A reply that counts as a page: it has a list of findings, whatever is in them."""

    findings: list[msgspec.Raw] = msgspec.field(name="Findings")
    next_token: str | None = msgspec.field(name="NextToken", default=None)


_DECODER = msgspec.json.Decoder(_Page)


class _StoppedError(Exception):
    """The collection was stopped."""


class _TokenRefusedError(Exception):
    """AWS does not take the token any more."""


@dataclass(slots=True)
class _ShardState:
    shard: Shard
    pages: int = 0
    findings: int = 0
    requests: int = 0
    restarts: int = 0
    complete: bool = False
    settled: bool = True
    updates: list[_ShardState] = field(default_factory=list)

    def count(self) -> ShardCount:
        return ShardCount(
            self.shard.name,
            self.shard.archived,
            self.pages,
            self.findings,
            self.requests,
            self.restarts,
            self.settled,
        )


class _GuardedSink:
    """One call at a time, and none after the collection has ended.

    A request that was under way when another shard failed may come back any time later; the sink
    then belongs to somebody else.
    """

    def __init__(self, sink: PageSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def position(self, shard: str) -> ShardPosition | None:
        with self._lock:
            self._check()
            return self._sink.position(shard)

    def add(self, shard: str, body: bytes) -> None:
        with self._lock:
            self._check()
            self._sink.add(shard, body)

    def save(self, position: ShardPosition) -> None:
        with self._lock:
            self._check()
            self._sink.save(position)

    def restart(self, shard: str) -> None:
        with self._lock:
            self._check()
            self._sink.restart(shard)

    def _check(self) -> None:
        if self._closed:
            raise _StoppedError


@dataclass
class _Collection:
    """The threads of one collection and what they share."""

    clients: AwsClients
    day: date
    shards: list[Shard]
    sink: _GuardedSink
    budgets: dict[str, RateBudget]
    page_size: int
    pages_per_file: int
    sleep: Callable[[float], object] | None
    states: dict[str, _ShardState] = field(default_factory=dict)
    requests: int = 0
    throttled: int = 0

    def __post_init__(self) -> None:
        self.states = {shard.name: _ShardState(shard) for shard in self.shards}
        self._queue: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in _regions_in_turn(self.shards):
            self._queue.put(shard)
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._resumed = 0
        self._api = {region: self._client(region) for region in self.budgets}

    def states_of(self, shard: Shard) -> list[_ShardState]:
        """Of a shard and of those that asked for its updates."""
        state = self.states[shard.name]
        return [state, *state.updates]

    # -- The threads ------------------------------------------------------------------------------

    def work(
        self, workers: int, progress: Callable[[Progress], None] | None, expected: int | None
    ) -> None:
        """Collects all shards; raises the first error after the others were told to stop."""
        # Daemons: a request under way must not keep an interrupted program from ending.
        threads = [
            threading.Thread(target=self._work, name=f"collect-{number}", daemon=True)
            for number in range(workers)
        ]
        began = time.monotonic()
        self._running = workers
        try:
            for thread in threads:
                thread.start()
            while not self._ended.wait(PROGRESS_SECONDS):
                if progress:
                    progress(self._progress(began, expected))
        finally:
            self._stop.set()
            self.sink.close()
            deadline = time.monotonic() + STOP_SECONDS
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
        if self._error is not None:
            raise self._error
        if progress:
            progress(self._progress(began, expected))

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    shard = self._queue.get_nowait()
                except queue.Empty:
                    break
                self._collect(shard)
        except _StoppedError:
            pass
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
            self._ended.set()
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._ended.set()

    def _progress(self, began: float, expected: int | None) -> Progress:
        states = [state for shard in self.shards for state in self.states_of(shard)]
        findings = sum(state.findings for state in states)
        seconds = time.monotonic() - began
        rate = max(0, findings - self._resumed) / seconds if seconds > 0 else 0.0
        left = None
        if expected is not None and rate > 0:
            left = max(0, expected - findings) / rate
        return Progress(
            pages=sum(state.pages for state in states),
            findings=findings,
            expected_findings=expected,
            rate=rate,
            seconds_left=left,
            shards_done=sum(state.complete for state in self.states.values()),
            shards=len(self.shards),
        )

    # -- One shard --------------------------------------------------------------------------------

    def _collect(self, shard: Shard) -> None:
        state = self.states[shard.name]
        began_at = self._page_through(state)
        if not shard.archived:
            self._collect_updates(state, began_at)
        state.complete = True

    def _collect_updates(self, paged: _ShardState, began_at: datetime) -> None:
        """Asks for what was updated since the shard began, and again for what was during that.

        Nothing can move within one page, so a pass of a single page is the last one needed.
        """
        margin = UPDATE_MARGIN
        for number in range(1, UPDATE_PASSES + 1):
            updates = updates_of(paged.shard, number, began_at - margin, self.day)
            state = _ShardState(updates)
            paged.updates = [*paged.updates, state]
            began_at = self._page_through(state)
            if state.pages <= 1:
                return
            margin = REPEATED_MARGIN
        state.settled = False

    def _page_through(self, state: _ShardState) -> datetime:
        """Collects one stream to its end; returns when it began."""
        shard = state.shard
        while True:
            try:
                return self._page_from_position(shard, state)
            except _TokenRefusedError as refused:
                if state.restarts == SHARD_RESTARTS:
                    message = (
                        f"Shard {shard.name}: AWS refused the token of page {state.pages + 1} and "
                        f"{SHARD_RESTARTS} more after the shard had started over ({refused}). "
                        "Run again when Security Hub is less busy."
                    )
                    raise PassingCollectionError(message) from refused
                self.sink.restart(shard.name)
                state.pages = state.findings = 0
                state.restarts += 1

    def _page_from_position(self, shard: Shard, state: _ShardState) -> datetime:
        query = shard.query(self.page_size)
        position = self.sink.position(shard.name)
        if position is not None and (position.query != query or not position.began_at):
            # The settings changed since: what was saved answers another question.
            self.sink.restart(shard.name)
            position = None
        if position is None:
            began = (self.clients.last_seen() or self.clients.now()).isoformat(timespec="seconds")
            position = ShardPosition(shard.name, query, began_at=began)
        state.pages, state.findings = position.pages, position.findings
        with self._lock:
            self._resumed += position.findings
        token = position.next_token
        seen = {token}
        while not position.complete:
            body, page = self._page(shard, state, token)
            token = page.next_token or None
            if token is not None and token in seen:
                message = (
                    f"Shard {shard.name}, page {state.pages + 1}: the endpoint gave a token that "
                    "it had given before, which would never end. Run again."
                )
                raise PassingCollectionError(message)
            seen.add(token)
            self.sink.add(shard.name, body)
            state.pages += 1
            state.findings += len(page.findings)
            if token is None or state.pages - position.pages == self.pages_per_file:
                position = ShardPosition(
                    shard=shard.name,
                    query=query,
                    files=position.files + 1,
                    pages=state.pages,
                    findings=state.findings,
                    next_token=token,
                    complete=token is None,
                    began_at=position.began_at,
                )
                self.sink.save(position)
        return datetime.fromisoformat(position.began_at)

    # -- One page ---------------------------------------------------------------------------------

    def _page(self, shard: Shard, state: _ShardState, token: str | None) -> tuple[bytes, _Page]:
        """One page, asked for again when what came is none."""
        place = f"shard {shard.name}, page {state.pages + 1}"
        problem: Exception | None = None
        for attempt in range(PAGE_ATTEMPTS):
            if attempt:
                pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
                self._pause(min(pause, LONGEST_PAUSE_SECONDS))
            self._check()
            try:
                body = self._ask(shard, state, token, place)
                return body, _DECODER.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, PassingAwsError) as error:
                # botocore takes a 200 reply whose body is cut, or is no JSON, for an empty last
                # page: without this look at the body a short snapshot would pass as a whole one.
                problem = error
        what = (
            str(problem)
            if isinstance(problem, PassingAwsError)
            else f"the reply is no page of findings: {problem}"
        )
        message = (
            f"Collecting stopped at {place}, after {PAGE_ATTEMPTS} tries: {what} "
            "Everything saved stays; the next run goes on there."
        )
        raise PassingCollectionError(message) from problem

    def _ask(self, shard: Shard, state: _ShardState, token: str | None, place: str) -> bytes:
        request: dict[str, Any] = {"Filters": shard.filters, "MaxResults": self.page_size}
        if token is not None:
            request["NextToken"] = token
        state.requests += 1
        try:
            with aws_call(ACTION, place=place, aws=self.clients.aws):
                reply = self._api[shard.region].get_findings(**request)
        except AwsError as error:
            if error_code(error) != "InvalidInputException":
                raise
            if token is not None:
                # The same filters were taken without a token, so it is the token.
                raise _TokenRefusedError(error_message(error)) from error
            raise _query_refused(shard, error) from error
        return cast("bytes", reply["RawBody"])

    def _client(self, region: str) -> Any:  # noqa: ANN401 - the reply has a key of our own
        api = self.clients.new_security_hub(region)
        events = api.meta.events
        budget = self.budgets[region]
        # Before each request that is sent, so that botocore's own retries count as well.
        events.register("before-send.securityhub.GetFindings", partial(self._await_turn, budget))
        events.register("before-parse.securityhub.GetFindings", partial(self._keep_body, budget))
        return api

    def _await_turn(self, budget: RateBudget, **_: object) -> None:
        self._check()
        self._pause(budget.reserve())
        self._check()
        with self._lock:
            self.requests += 1

    def _keep_body(
        self,
        budget: RateBudget,
        response_dict: MutableMapping[str, Any],
        customized_response_dict: MutableMapping[str, Any],
        **_: object,
    ) -> None:
        """Takes the body past botocore's parser, which costs ten times what the rest does."""
        if response_dict["status_code"] < 300:
            customized_response_dict["RawBody"] = response_dict["body"]
            response_dict["body"] = b"{}"
        elif is_throttle(response_dict):
            budget.penalize()
            with self._lock:
                self.throttled += 1

    def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self.sleep is not None:
            self.sleep(seconds)
        elif self._stop.wait(seconds):
            raise _StoppedError

    def _check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


def _regions_in_turn(shards_: list[Shard]) -> Iterator[Shard]:
    """The shards so that each region's rate is used from the start."""
    by_region: dict[str, list[Shard]] = {}
    for shard in shards_:
        by_region.setdefault(shard.region, []).append(shard)
    for row in zip_longest(*by_region.values()):
        yield from (shard for shard in row if shard is not None)


def _query_refused(shard: Shard, error: AwsError) -> CollectionError:
    said = error_message(error)
    if "AwsAccountId" not in shard.filters:
        message = f"Shard {shard.name}: AWS refused the query of the collection: {said}."
        return CollectionError(message)
    message = (
        f"Shard {shard.name}: the endpoint refused the query: {said}. If it does not take the "
        "filter by the first digit of the account id, set `shards: false` in the settings: one "
        "stream instead of ten."
    )
    return CollectionError(message)


def _any_of(comparison: str, values: Iterable[str]) -> list[dict[str, str]]:
    return [{"Value": value, "Comparison": comparison} for value in values]


def _text(filters: dict[str, Any]) -> str:
    return json.dumps(filters, sort_keys=True, separators=(",", ":"))


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00.000Z"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"
