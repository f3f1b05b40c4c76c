"""Records of findings in text of many shapes: replies, events, messages, logs, lines, cut files.

A wrapper is not a record: only what is inside counts. What cannot be read is given as it is, so
that the merge sets it aside with its reason. What a finding means is decided in `model/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from posture_pipeline.model.asff import tolerant_json

_WRAPPERS = (
    "Findings",
    "findings",
    "detail",
    "Records",
    "Messages",
    "Message",
    "Body",
    "body",
    "Sns",
    "events",
    "logEvents",
    "message",
    "hits",
    "_source",
    "_raw",
    "results",
    "result",
    "value",
)
"""Members that hold findings, or other wrappers, as JSON or as a text of JSON: replies of
GetFindings, EventBridge events, SNS and SQS messages, Lambda and CloudWatch Logs events, OpenSearch
hits, Splunk results, lists of PowerShell."""

_LAYERS = 12
"""Wrappers around each other that are taken off."""

_ACCOUNT = "awsaccountid"
"""The member that tells an ASFF finding from anything else, as `_plain` gives it."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, no UTF-8, or nested too deeply."""

_BLANKS = " \t\r\n,\ufeff"
_CLOSERS = "]}"
_VALUE_START = re.compile(r"\{|\[\s*[\[{]")
_MENTIONS_ACCOUNT = re.compile(rb"aws_?account_?id", re.IGNORECASE)

OCSF = (
    "holds findings in OCSF, which are not read yet; export them in ASFF (aws securityhub "
    "get-findings)"
)
_CONSOLE_CSV = (
    "is the CSV download of the Security Hub console, which has neither the id nor the control of "
    "a finding; export JSON (aws securityhub get-findings)"
)
_MANAGER_CSV = (
    "is a CSV of CSV Manager for Security Hub, which does not say for which standards a finding "
    "counts; export JSON (aws securityhub get-findings)"
)


class NoFindingsError(Exception):
    """A text holds no findings; the error says what it is, to follow its name in a sentence."""


class Record(NamedTuple):
    """A record as it was found.

    Attributes:
        data: Its bytes.
        is_json: It is one JSON value; otherwise it can only be set aside.
        is_finding: It looks like a finding: it names an account.
        is_ocsf: It is a finding in OCSF.
    """

    data: bytes
    is_json: bool = True
    is_finding: bool = False
    is_ocsf: bool = False


def records(data: bytes) -> Iterator[Record]:
    """The records of a text, those that cannot be read among them.

    Args:
        data: UTF-8, or nearly.

    Raises:
        NoFindingsError: Nothing in it looks like a finding; nothing was given. An empty reply or
            list is no error.
    """
    if not data.strip():
        message = "is empty"
        raise NoFindingsError(message)
    held: list[Record] = []
    found = False
    for record in _all_records(data):
        if found:
            yield record
        elif record.is_finding:
            found = True
            yield from held
            held.clear()
            yield record
        else:
            held.append(record)
    if held:
        raise NoFindingsError(_what_it_is(data, held))


def _what_it_is(data: bytes, held: list[Record]) -> str:
    start = data.lstrip()[:1]
    head = data[:1000].split(b"\n", 1)[0].decode(errors="replace")
    columns = {each.strip().strip('"') for each in head.split(",")}
    if any(record.is_ocsf for record in held):
        return OCSF
    if start in (b"{", b"["):
        if held[0].is_json:
            return "is JSON without findings of Security Hub (ASFF)"
        return "is damaged JSON without one readable finding; is it complete?"
    if {"Account Id", "Title", "Compliance Status"} <= columns:
        return _CONSOLE_CSV
    if {"Id", "ProductArn", "ComplianceStatus"} <= columns:
        return _MANAGER_CSV
    if start == b"<":
        return "is HTML or XML, not JSON"
    if b"\x00" in data[:1000]:
        return "is a binary file, not JSON"
    return "is text or CSV without findings, not JSON"


def _all_records(data: bytes) -> Iterator[Record]:
    for value in _values(data):
        yield from _unwrap(value.data) if value.is_json else (value,)


def _set_aside(data: bytes) -> Record:
    """A record that is no JSON; a finding that was cut off is one all the same."""
    return Record(data, is_json=False, is_finding=bool(_MENTIONS_ACCOUNT.search(data)))


# --- what is inside a JSON value ---------------------------------------------------------------


class _Identified(msgspec.Struct):
    AwsAccountId: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_as_raw = msgspec.json.Decoder(msgspec.Raw)
_as_identified = msgspec.json.Decoder(_Identified)
_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_as_list = msgspec.json.Decoder(list[msgspec.Raw])
_as_text = msgspec.json.Decoder(str)


def _unwrap(data: bytes, layers: int = _LAYERS) -> Iterator[Record]:
    """The records inside a JSON value: of a list, of a wrapper, or the value itself."""
    try:
        inner = _open(data, layers)
    except _UNREADABLE:
        # NaN, half characters: a finding can be read around these, here and in the merge.
        inner = _open_repaired(data, layers)
    if isinstance(inner, Record):
        yield inner
        return
    for each in inner:
        yield from _unwrap(bytes(each), layers - 1)


def _open_repaired(data: bytes, layers: int) -> Record | Sequence[bytes | msgspec.Raw]:
    try:
        inner = _open(msgspec.json.encode(tolerant_json(data)), layers)
    except (ValueError, OverflowError, RecursionError):
        return _set_aside(data)
    return inner._replace(data=data) if isinstance(inner, Record) else inner


def _open(data: bytes, layers: int) -> Record | Sequence[bytes | msgspec.Raw]:
    """The values in a list or a wrapper; a record if it is neither."""
    _as_raw.decode(data)
    start = data.lstrip()[:1]
    if start == b"[" and layers:
        return _as_list.decode(data)
    if start != b"{":
        return Record(data)
    if _as_identified.decode(data).AwsAccountId is not msgspec.UNSET:
        return Record(data, is_finding=True)
    members = _as_object.decode(data)
    if any(_plain(name) == _ACCOUNT for name in members):
        return Record(data, is_finding=True)
    if "class_uid" in members:
        return Record(data, is_ocsf=True)
    inner = _inside(members) if layers else None
    return Record(data) if inner is None else [inner]


def _inside(members: dict[str, msgspec.Raw]) -> bytes | None:
    """What a wrapper holds; null for any other object."""
    for name in _WRAPPERS:
        if name not in members:
            continue
        inner = bytes(members[name]).lstrip()
        if inner.startswith(b'"'):
            inner = _as_text.decode(inner).strip().encode()
            try:
                _as_raw.decode(inner)
            except _UNREADABLE:
                continue
        if inner[:1] in (b"{", b"["):
            return inner
    return None


def _plain(name: str) -> str:
    """The name of a member as no tool writes it differently: AwsAccountId, aws_account_id."""
    return name.replace("_", "").lower()


# --- JSON values in a text ---------------------------------------------------------------------


def _values(data: bytes) -> Iterator[Record]:
    """The JSON values of a text: one, a line each, or one after the other."""
    try:
        _as_raw.decode(data)
    except _UNREADABLE:
        yield from _values_of_lines(data)
    else:
        yield Record(data)


def _values_of_lines(data: bytes) -> Iterator[Record]:
    """A value a line, as far as that goes; from the first other line on as `_values_of_text`."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end].strip()
        if line:
            try:
                _as_raw.decode(line)
            except _UNREADABLE:
                text = data[at:].decode("utf-8", errors="surrogateescape")
                yield from _values_of_text(text)
                return
            yield Record(line)
        at = end + 1


def _values_of_text(text: str) -> Iterator[Record]:
    """Values over several lines, without line ends, after a time, or cut off.

    What cannot be read is one record, from where it begins to the next line that begins a value
    at most as far to the right.
    """
    at, blanks = 0, _BLANKS
    while (at := _skip(text, at, blanks)) < len(text):
        if text[at] in "{[":
            after = _end_of_value(text, at)
            if after is not None:
                yield Record(_bytes(text[at:after]))
            else:
                found, fault = _whole_parts(text, at)
                yield from found
                after = _next_value(text, fault)
                broken = text[fault if found else at : after].rstrip() or text[at]
                yield _set_aside(_bytes(broken))
                blanks = _BLANKS + _CLOSERS
            at = after
            continue
        first, at = at, _end_of_line(text, at)
        begin = _VALUE_START.search(text, first, at)
        line = text[first:at].strip()
        if begin is not None and (after := _end_of_value(text, begin.start())) is not None:
            # A log line: a time or a name stands before the value.
            yield Record(_bytes(text[begin.start() : after]))
            at = after
        elif _end_of_value(line, 0) == len(line):
            yield Record(_bytes(line))
        else:
            at = _end_of_junk(text, at)
            yield _set_aside(_bytes(text[first:at].rstrip()))


_decoder = json.JSONDecoder()


def _end_of_value(text: str, at: int) -> int | None:
    """Where the JSON value that begins here ends; null if there is none."""
    try:
        return _decoder.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return None


def _whole_parts(text: str, at: int) -> tuple[list[Record], int]:
    """Of a list or wrapper that cannot be read as a whole: its whole parts, and where it breaks."""
    found: list[Record] = []
    for _ in range(_LAYERS):
        walk = _walk_list if text[at] == "[" else _walk_members
        at, opens = walk(text, at, found)
        if not opens:
            break
    return found, at


def _walk_list(text: str, at: int, found: list[Record]) -> tuple[int, bool]:
    """Takes the whole elements of a list.

    Returns:
        Where it breaks, and whether that is the beginning of a list or object.
    """
    at += 1
    while (inner := _skip(text, at, _BLANKS)) < len(text) and text[inner] in "{[":
        after = _end_of_value(text, inner)
        if after is None:
            return inner, True
        found.append(Record(_bytes(text[inner:after])))
        at = after
    return at, False


def _walk_members(text: str, at: int, found: list[Record]) -> tuple[int, bool]:
    """Takes what the whole members of a wrapper hold; returns as `_walk_list`.

    An object that is no wrapper breaks where it begins.
    """
    broken, inner = at, at + 1
    while (inner := _skip(text, inner, _BLANKS)) < len(text) and text[inner] == '"':
        after = _end_of_value(text, inner)
        if after is None:
            break
        name = text[inner + 1 : after - 1]
        inner = _skip(text, after, _BLANKS + ":")
        if inner == len(text):
            break
        wraps = name in _WRAPPERS and text[inner] in "{["
        after = _end_of_value(text, inner)
        if after is None:
            return (inner, True) if wraps else (broken, False)
        if wraps:
            found.append(Record(_bytes(text[inner:after])))
            broken = after
        inner = after
    return broken, False


def _next_value(text: str, at: int) -> int:
    """Where the next line begins a value no further to the right than the line of this one."""
    line = text[text.rfind("\n", 0, at) + 1 :][:200]
    indent = min(len(line) - len(line.lstrip(" \t")), 100)
    following = re.compile(rf"^[ \t]{{0,{indent}}}(?=[{{\[])", re.MULTILINE)
    found = following.search(text, _end_of_line(text, at))
    return len(text) if found is None else found.start()


def _end_of_junk(text: str, at: int) -> int:
    """The end of the lines from here on in which no value begins."""
    found = re.compile(r"^.*[{\[]", re.MULTILINE).search(text, at)
    return len(text) if found is None else max(found.start(), at)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _skip(text: str, at: int, blanks: str) -> int:
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")
