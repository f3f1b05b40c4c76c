"""Faults on demand: which request goes wrong, how, and how often.

The rules and what they do to a reply that is ready. Reading requests and sending replies is in
`application.py`.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation.settings import SimulationSettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KINDS = (
    "throttle",
    "error",
    "slow",
    "truncate",
    "garbage",
    "empty",
    "json_without_findings",
    "reset",
    "lose_answer",
    "duplicate",
    "expire_token",
    "malformed_record",
)
_ERROR_STATUSES = {
    "ThrottlingException": 400,
    "TooManyRequestsException": 429,
    "UnrecognizedClientException": 403,
    "LimitExceededException": 429,
    "ExpiredTokenException": 403,
    "AccessDeniedException": 403,
    "InvalidAccessException": 401,
    "InvalidInputException": 400,
    # Of S3 (AWS: Amazon S3 API reference, error responses).
    "AccessDenied": 403,
    "ConditionalRequestConflict": 409,
    "ExpiredToken": 400,
    "InvalidAccessKeyId": 403,
    "NoSuchBucket": 404,
    "PreconditionFailed": 412,
    "SlowDown": 503,
}
_MAX_SECONDS = 600.0


@dataclasses.dataclass
class Fault:
    """One rule.

    Attributes:
        kind: one of `KINDS`.
        operation: its name, such as `GetFindings`; `*` means any.
        region: as in the signature of the request; None means any.
        service: as in its endpoint's signature, such as `securityhub`; None means any.
        times: requests it spoils; None means every one.
        after: requests of that operation that go well first.
        status: of HTTP, for `error` and `throttle`; by default what belongs to the code.
        code: AWS's error code, for `error` and `throttle`.
        seconds: how long `slow` waits.
        headers: sent along with the reply.
        message: sent with the error.

    Raises:
        SimulationSettingsError: a value that no fault can have.
    """

    kind: str
    operation: str = "*"
    region: str | None = None
    service: str | None = None
    times: int | None = 1
    after: int = 0
    status: int | None = None
    code: str | None = None
    seconds: float = 0.0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    message: str = "Injected by the simulated organization"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"fault kind {self.kind!r}; expected one of {', '.join(KINDS)}"
            raise SimulationSettingsError(msg)
        if self.times is not None and (not isinstance(self.times, int) or self.times < 1):
            msg = f"fault times {self.times!r}; expected 1 or more, or null for always"
            raise SimulationSettingsError(msg)
        if not isinstance(self.after, int) or self.after < 0:
            msg = f"fault after {self.after!r}; expected 0 or more"
            raise SimulationSettingsError(msg)
        if not 0 <= self.seconds <= _MAX_SECONDS:
            msg = f"fault seconds {self.seconds!r}; expected 0 to {_MAX_SECONDS:.0f}"
            raise SimulationSettingsError(msg)

    @classmethod
    def from_mapping(cls, rule: Mapping[str, Any]) -> Fault:
        """Return the fault that a JSON object describes.

        Raises:
            SimulationSettingsError: it has a member or a value that no fault can have.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(rule) - known)
        if unknown or "kind" not in rule:
            what = f"unknown member {unknown[0]!r}" if unknown else "no kind"
            msg = f"fault with {what}; known are {', '.join(sorted(known))}"
            raise SimulationSettingsError(msg)
        return cls(**rule)

    @property
    def error(self) -> tuple[str, int]:
        """Code and status of the error that this fault answers with."""
        if self.kind == "throttle":
            code = self.code or "ThrottlingException"
        elif self.kind == "expire_token":
            code = "InvalidInputException"
        else:
            code = self.code or "InternalException"
        return code, self.status or _ERROR_STATUSES.get(code, 500)


class FaultPlan:
    """The rules in force, and how often each has been met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[Fault, list[int]]] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Put rules behind those in force; the first that matches a request spoils it."""
        with self._lock:
            self._rules += [(fault, [0, 0]) for fault in faults]

    def clear(self) -> None:
        """Take back every rule."""
        with self._lock:
            self._rules.clear()

    def remaining(self) -> int:
        """Return how many rules can still spoil a request."""
        with self._lock:
            return sum(f.times is None or done < f.times for f, (_, done) in self._rules)

    def next_for(
        self, service: str, operation: str, region: str, *, with_token: bool
    ) -> Fault | None:
        """Return the fault of this request, and count the request for every rule it meets."""
        chosen = None
        with self._lock:
            for fault, counts in self._rules:
                if fault.region not in (None, region) or fault.service not in (None, service):
                    continue
                if fault.operation not in ("*", operation):
                    continue
                if fault.kind == "expire_token" and not with_token:
                    continue
                counts[0] += 1
                if counts[0] <= fault.after or chosen is not None:
                    continue
                if fault.times is not None and counts[1] >= fault.times:
                    continue
                counts[1] += 1
                chosen = fault
        return chosen


HTML = b"<html><head><title>Service Unavailable</title></head><body>Try again</body></html>"


def spoil(fault: Fault, body: bytes, repeated: bytes | None) -> bytes:
    """Return what a reply's body becomes.

    Args:
        fault: of the kinds that change the body.
        body: as it was going to be sent.
        repeated: a finding of an earlier page, as JSON, for `duplicate`.
    """
    if fault.kind == "garbage":
        return HTML
    if fault.kind == "empty":
        return b""
    if fault.kind == "json_without_findings":
        return b"{}"
    if fault.kind == "truncate":
        return body[: len(body) // 2]
    if fault.kind == "duplicate":
        return _with_duplicate(body, repeated)
    if fault.kind == "malformed_record":
        return _with_malformed(body)
    return body


def _with_duplicate(body: bytes, repeated: bytes | None) -> bytes:
    page = json.loads(body)
    findings = page.get("Findings")
    if not findings:
        return body
    # On the first page nothing has been sent yet: the page then repeats a finding of its own.
    findings.append(json.loads(repeated) if repeated else findings[0])
    return json.dumps(page, separators=(",", ":")).encode()


def _with_malformed(body: bytes) -> bytes:
    page = json.loads(body)
    if "Findings" not in page:
        return body
    records = page["Findings"]
    broken: list[Any] = [42, "a text where a finding should be"]
    if records:
        without_id = {k: v for k, v in records[0].items() if k != "Id"}
        wrong_types = {**records[0], "Id": records[0]["Id"] + "/wrong", "Resources": "none"}
        wrong_types["AwsAccountId"] = 123
        broken += [without_id, wrong_types]
    middle = len(records) // 2
    page["Findings"] = [*records[:middle], *broken, *records[middle:]]
    return json.dumps(page, separators=(",", ":")).encode()
