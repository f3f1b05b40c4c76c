"""Pages of findings as AWS sends them (ASFF), read into the rows of `merged_findings`.

A page is decoded by types that name only the wanted members, straight into column lists, and one
frame is made of many pages: a dict per finding would cost ten times as much. A page that does not
fit the types is read record by record; what cannot be read as a finding is set aside with the
reason, never dropped. Every record in is a row out or in the quarantine.

Which control a finding is about is decided in `controls`; reading files belongs in the lake.

Source: AWS Security Hub user guide, page securityhub-findings-format; botocore's shape
AwsSecurityFinding.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from posture_pipeline.model.controls import (
    AWS_PROVIDER,
    CONFIG_PRODUCT,
    CONSOLIDATED_PREFIX,
    SECURITY_HUB_PRODUCT,
    SERVICE_RULE_ARN,
    parse_standard_control,
    with_rule_names,
)
from posture_pipeline.schemas import (
    MERGED_FINDINGS,
    QUARANTINE,
    RESOURCE_SEPARATOR,
    SEPARATOR,
    TIMESTAMP,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date, datetime

UNREADABLE = Table(
    QUARANTINE.name,
    QUARANTINE.meaning,
    tuple(column for column in QUARANTINE.columns if column.name != "file"),
)
"""The quarantine's columns that are known before the record's file is."""


@dataclass(frozen=True, slots=True)
class ParsedPages:
    """What some pages hold.

    Attributes:
        findings: Columns of `schemas.MERGED_FINDINGS`, in the order received, with duplicates.
        quarantine: Columns of `schemas.QUARANTINE` without `file`; `line` is the page as it
            was numbered.
        records: Records read: the heights of the two together. An unreadable page is one record.
    """

    findings: pl.DataFrame
    quarantine: pl.DataFrame
    records: int


class _Associated(msgspec.Struct, gc=False, rename="pascal"):
    standards_id: str | None = None


class _Reason(msgspec.Struct, gc=False, rename="pascal"):
    reason_code: str | None = None


class _Compliance(msgspec.Struct, gc=False, rename="pascal"):
    status: str | None = None
    security_control_id: str | None = None
    associated_standards: list[_Associated] | None = None
    status_reasons: list[_Reason] | None = None


class _Severity(msgspec.Struct, gc=False, rename="pascal"):
    label: str | None = None
    original: str | None = None
    normalized: int | float | None = None
    product: int | float | None = None


class _Workflow(msgspec.Struct, gc=False, rename="pascal"):
    status: str | None = None


class _OwnerAccount(msgspec.Struct, gc=False, rename="pascal"):
    id: str | None = None


class _Owner(msgspec.Struct, gc=False, rename="pascal"):
    account: _OwnerAccount | None = None


class _Resource(msgspec.Struct, gc=False, rename="pascal"):
    id: str | None = None
    type: str | None = None
    provider: str | None = None
    owner: _Owner | None = None


class _Note(msgspec.Struct, gc=False, rename="pascal"):
    text: str | None = None
    updated_by: str | None = None
    updated_at: str | None = None


class _Recommendation(msgspec.Struct, gc=False, rename="pascal"):
    url: str | None = None


class _Remediation(msgspec.Struct, gc=False, rename="pascal"):
    recommendation: _Recommendation | None = None


class _ProductFields(msgspec.Struct, gc=False, rename="pascal"):
    control_id: str | None = None
    rule_id: str | None = None
    standards_arn: str | None = None
    standards_guide_arn: str | None = None
    standards_control_arn: str | None = None
    previous_compliance_status: str | None = None
    config_rule_name: str | None = msgspec.field(name="aws/config/ConfigRuleName", default=None)
    config_rule_arn: str | None = msgspec.field(name="aws/config/ConfigRuleArn", default=None)
    config_compliance_type: str | None = msgspec.field(
        name="aws/config/ConfigComplianceType", default=None
    )
    archival_reason_0: str | None = msgspec.field(name="ArchivalReasons:0/ReasonCode", default=None)
    archival_reason_1: str | None = msgspec.field(name="ArchivalReasons:1/ReasonCode", default=None)
    archival_reason_2: str | None = msgspec.field(name="ArchivalReasons:2/ReasonCode", default=None)


class _Finding(msgspec.Struct, gc=False, rename="pascal"):
    """The members of a finding that are kept; AWS may leave out or null most of them."""

    id: str | None = None
    aws_account_id: str | int | None = None
    product_arn: str | None = None
    product_name: str | None = None
    aws_account_name: str | None = None
    region: str | None = None
    generator_id: str | None = None
    title: str | None = None
    types: list[str] | None = None
    compliance: _Compliance | None = None
    workflow: _Workflow | None = None
    workflow_state: str | None = None
    record_state: str | None = None
    severity: _Severity | None = None
    resources: list[_Resource] | None = None
    created_at: str | None = None
    updated_at: str | None = None
    first_observed_at: str | None = None
    last_observed_at: str | None = None
    note: _Note | None = None
    remediation: _Remediation | None = None
    product_fields: _ProductFields | None = None


class Page(msgspec.Struct, gc=False, rename="pascal"):
    """What is kept of a page."""

    findings: list[_Finding]


class _RawPage(msgspec.Struct, gc=False, rename="pascal"):
    findings: list[msgspec.Raw]
    source: str | None = None


_PAGE = msgspec.json.Decoder(Page)
_RAW_PAGE = msgspec.json.Decoder(_RawPage)
_FINDING = msgspec.json.Decoder(_Finding)

_NO_COMPLIANCE = _Compliance()
_NO_SEVERITY = _Severity()
_NO_RESOURCES = (_Resource(),)
_NO_NOTE = _Note()
_NO_RECOMMENDATION = _Recommendation()
_NO_REMEDIATION = _Remediation()
_NO_FIELDS = _ProductFields()

_NAMED_ACCOUNT = re.compile(rb'"AwsAccountId"\s*:\s*"?([0-9]{12})\b')
"""The account of a record whatever else is wrong with it."""
_ACCOUNT_ID = re.compile("[0-9]{12}")
_DIGITS_12 = r"\A[0-9]{12}\z"
_SCOPE_ID = r"\A[a-z0-9][a-z0-9._-]{0,127}\z"
"""Ids of subscriptions and projects of other clouds that can be the name of a folder."""
_SHORT_ACCOUNT_ID = re.compile("[0-9]{1,11}")

_ASFF_NAMES = {
    member.encode_name.lower(): member.encode_name
    for struct in (
        _Finding,
        _Compliance,
        _Associated,
        _Reason,
        _Severity,
        _Workflow,
        _Resource,
        _Note,
        _Remediation,
        _Recommendation,
        _ProductFields,
    )
    for member in msgspec.structs.fields(struct)
}
"""The members that are kept, by their names in lower case, as Athena and Firehose write them."""

_DEEPEST_MEMBER = 5
"""Objects and lists around a member that is kept, at most."""

_DECIDES_SCORE = frozenset(
    {"Id", "AwsAccountId", "Compliance", "Workflow", "RecordState", "GeneratorId", "ProductFields"}
)
"""Members that are never left out to make a finding readable: a score would change unseen."""

_EVIDENCE = frozenset(
    {
        "StatusReasons",
        "PreviousComplianceStatus",
        "ArchivalReasons:0/ReasonCode",
        "ArchivalReasons:1/ReasonCode",
        "ArchivalReasons:2/ReasonCode",
    }
)
"""Members of these that may be left out all the same."""

_ROWS_AT_ONCE = 2_000
"""Rows that become a frame together: the strings of so many are still in the processor's cache."""

_OLDEST = pl.CompatLevel.oldest()
"""The Arrow types that pyarrow can cast to moments."""

_MOST_REPAIRS = 200
"""Repairs of one record, after which it counts as unreadable."""

_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\)((?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")

_SEVERITY_LABELS = frozenset({"CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL"})

_SEVERITY_FLOORS = ((90, "CRITICAL"), (70, "HIGH"), (40, "MEDIUM"), (1, "LOW"))
"""Least Severity.Normalized of each label; 0 is INFORMATIONAL (ASFF, Severity)."""

_WORKFLOW_OF_STATE = {"NEW": "NEW", "RESOLVED": "RESOLVED"}
"""The retired WorkflowState where it means one Workflow.Status; the others mean several."""


def parse_pages(
    pages: Iterable[tuple[int, bytes | memoryview]],
    *,
    day: date,
    shard: str,
    collected_at: datetime | None = None,
) -> ParsedPages:
    """Reads pages into rows.

    A record is readable if it is an object with a non-empty `Id` and a 12-digit `AwsAccountId`.
    A member of the wrong type that decides no score (a note, a title) is left out; one that does
    makes the record unreadable.

    Args:
        pages: The number of each page in its shard, and its bytes: a GetFindings response body. The
            pages of one raw file; other members than Findings and Source are ignored. Nothing of
            a page is held on to when the next one is asked for.
        day: The snapshot's day.
        shard: Name of the shard the pages are from.
        collected_at: When the snapshot was complete; null: it is not known.

    Returns:
        The findings, the unreadable records, and how many records there were. Nothing in the pages
        raises an error.
    """
    columns = _Columns()
    unreadable: list[_Unreadable] = []
    for page, body in pages:
        columns.add(page, _findings_of_page(page, body, columns.accounts, unreadable))
    findings = _frame(columns, day=day, shard=shard, collected_at=collected_at)
    return ParsedPages(findings, _quarantine(unreadable, day), findings.height + len(unreadable))


def parse_timestamps(text: pl.Series) -> pl.Series:
    """Reads moments as they occur in findings.

    ISO 8601 with any fraction, any offset, `T` or a space; seconds or milliseconds since 1970.

    Args:
        text: String.

    Returns:
        `schemas.TIMESTAMP` (UTC); null where the text is no moment. Without an offset it is UTC.
    """
    length = text.str.len_bytes()
    usual = (
        text.str.ends_with("Z")
        & ((length == 20) | ((length == 24) & (text.str.slice(19, 1) == ".")))
    ).fill_null(value=False)
    if (usual | text.is_null()).all():
        with suppress(pa.ArrowInvalid):
            # Eight times as fast as Polars' way, but it gives up at the first that is no moment.
            moments = pc.cast(text.to_arrow(compat_level=_OLDEST), pa.timestamp("us", "UTC"))
            return pl.Series(text.name, moments)
    seconds = text.str.slice(0, 19).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False
    )
    fraction = text.str.slice(20, 3).str.to_integer(strict=False, dtype=pl.Int64)
    usual &= seconds.is_not_null() & (fraction.is_not_null() | (length == 20))
    moments = (seconds.to_physical() + fraction.fill_null(0) * 1_000).zip_with(
        usual, pl.Series([None], dtype=pl.Int64)
    )
    others = (~usual & text.is_not_null()).arg_true()
    if len(others):
        moments = moments.scatter(others, _parse_unusual_timestamps(text[others]).to_physical())
    return moments.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _parse_unusual_timestamps(text: pl.Series) -> pl.Series:
    """The same for any form, at ten times the cost."""
    pattern = (
        r"^\s*(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:[.,](\d+))?"
        r"\s*(?:[Zz]|UTC|([+-])(\d{2}):?(\d{2})?)?\s*$"
    )
    parts = pl.col("text").str.extract_groups(pattern).struct
    fields = pl.DataFrame({"text": text}).select(
        moment=(parts.field("1") + "T" + parts.field("2")).str.to_datetime(
            "%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False
        ),
        fraction=parts.field("3").fill_null("").str.pad_end(6, "0").str.slice(0, 6),
        sign=pl.when(parts.field("4") == "-").then(-1).otherwise(1),
        hours=parts.field("5").fill_null("0").cast(pl.Int64, strict=False),
        minutes=parts.field("6").fill_null("0").cast(pl.Int64, strict=False),
    )
    offset = pl.duration(hours="hours", minutes="minutes") * pl.col("sign")
    fraction = pl.duration(microseconds=pl.col("fraction").cast(pl.Int64, strict=False))
    epoch = text.str.extract(r"^\s*(\d{9,10}(?:\.\d+)?|\d{12,13}(?:\.0*)?)\s*$").cast(pl.Float64)
    seconds = pl.when(epoch >= 1e11).then(epoch / 1e3).otherwise(epoch)
    moments = fields.select(
        pl.coalesce(
            (pl.col("moment") + fraction - offset).cast(pl.Datetime("us")),
            (seconds * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us")),
        )
    )
    return moments.to_series()


# --- from bytes to typed findings ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unreadable:
    page: int
    position: int | None
    source: str | None
    reason: str
    record: bytes


def _findings_of_page(
    page: int, body: bytes | memoryview, known: set[str | int | None], unreadable: list[_Unreadable]
) -> list[_Finding]:
    """The readable findings of a page.

    Args:
        page: Its number.
        body: Its bytes.
        known: Account ids that were found sound; grows.
        unreadable: The records set aside; grows.
    """
    try:
        findings = _PAGE.decode(body).findings
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return list(_findings_one_by_one(page, bytes(body), unreadable))
    new = {each.aws_account_id for each in findings} - known
    if not all(map(_is_account_id, new)) or not all(each.id for each in findings):
        return list(_findings_one_by_one(page, bytes(body), unreadable))
    known |= new
    return findings


def _is_account_id(account: str | int | None) -> bool:
    return isinstance(account, str) and _ACCOUNT_ID.fullmatch(account) is not None


def _findings_one_by_one(
    page: int, body: bytes, unreadable: list[_Unreadable]
) -> Iterator[_Finding]:
    try:
        records = _split_page(body)
    except (ValueError, RecursionError) as error:
        unreadable.append(_Unreadable(page, None, None, _page_reason(error), body))
        return
    for position, raw in enumerate(records.findings):
        record = bytes(raw)
        finding = _read_record(record)
        if isinstance(finding, str):
            unreadable.append(_Unreadable(page, position, records.source, finding, record))
        else:
            yield finding


def _split_page(body: bytes) -> _RawPage:
    """The records of a page, unread.

    Raises:
        ValueError: It is no page (msgspec's errors are of this kind).
        RecursionError: It is nested deeper than can be read.
    """
    try:
        return _RAW_PAGE.decode(body)
    except msgspec.ValidationError as error:
        if "Source" not in str(error):
            raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    page = tolerant_json(body)
    if isinstance(page, dict):
        source = page.get("Source")
        page = {
            "Findings": page.get("Findings"),
            "Source": source if isinstance(source, str) else None,
        }
    return _RAW_PAGE.decode(msgspec.json.encode(page))


def tolerant_json(record: bytes) -> Any:  # noqa: ANN401 - anything JSON can hold
    """JSON with what some writers let through: half characters, invalid UTF-8, NaN."""
    repaired = _LONE_SURROGATE.sub(_keep_pairs, record)
    return json.loads(repaired.decode("utf-8", errors="replace"))


def _keep_pairs(match: re.Match[bytes]) -> bytes:
    return match[0] if match[2] else (match[3] or b"") + rb"\ufffd"


def _read_record(record: bytes) -> _Finding | str:
    """The finding, or the reason why the record is none."""
    try:
        finding = _FINDING.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(record)
    sound = bool(finding.id) and _is_account_id(finding.aws_account_id)
    return finding if sound else _read_leniently(record)


def _read_leniently(record: bytes) -> _Finding | str:
    try:
        members = tolerant_json(record)
    except (ValueError, RecursionError) as error:
        return _record_reason(error)
    if not isinstance(members, dict):
        return f"is {_kind(members)}, not an object"
    if "AwsAccountId" not in members:
        members = _with_asff_names(members)
    if not members.get("AwsAccountId") and ("class_uid" in members or "metadata" in members):
        return "is an OCSF finding, not ASFF"
    reason = _identify(members)
    return reason if reason is not None else _convert(members)


def _identify(members: dict[str, Any]) -> str | None:
    """Puts the account id in its stored form; the reason if the record names no finding."""
    identity = members.get("Id")
    if identity is None or identity == "":
        return "Id is missing"
    if not isinstance(identity, str):
        return f"Id is {_kind(identity)}, not text"
    account = members.get("AwsAccountId")
    if account is None or account == "":
        return "AwsAccountId is missing"
    if isinstance(account, int | float) and not isinstance(account, bool):
        account = f"{account:.0f}"
    if not isinstance(account, str):
        return f"AwsAccountId is {_kind(account)}, not text"
    if _SHORT_ACCOUNT_ID.fullmatch(account) and _names_account(members, account.zfill(12)):
        account = account.zfill(12)
    if _ACCOUNT_ID.fullmatch(account.strip()) is None:
        return f"AwsAccountId is {account[:40]!r}, not 12 digits"
    members["AwsAccountId"] = account.strip()
    return None


def _names_account(members: dict[str, Any], account: str) -> bool:
    """Whether the ARNs of a finding name the account: an id may have lost its leading zeros.

    A short number alone cannot be told from one that was cut.
    """
    resources = members.get("Resources")
    named = [members.get("Id"), members.get("ProductArn"), members.get("GeneratorId")]
    if isinstance(resources, list):
        named += [each.get("Id") for each in resources if isinstance(each, dict)]
    found = re.compile(f"(?<![0-9]){account}(?![0-9])")
    return any(isinstance(text, str) and found.search(text) for text in named)


def _with_asff_names(value: Any, depth: int = _DEEPEST_MEMBER) -> Any:  # noqa: ANN401 - any JSON
    """The members that are kept by their ASFF names: `awsaccountid` and `aws_account_id` too."""
    if isinstance(value, list) and depth:
        return [_with_asff_names(each, depth - 1) for each in value]
    if not isinstance(value, dict) or not depth:
        return value
    return {
        _ASFF_NAMES.get(name.replace("_", "").lower(), name): _with_asff_names(each, depth - 1)
        for name, each in value.items()
    }


def _convert(members: dict[str, Any]) -> _Finding | str:
    """The finding, less the members that have a wrong type and decide no score."""
    first_reason = ""
    for _ in range(_MOST_REPAIRS):
        try:
            return msgspec.convert(members, _Finding, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error)
        first_reason = first_reason or reason
        path = _PATH.search(reason)
        if path is None or not _repair(members, re.findall(r"[^.\[\]]+", path[1])):
            break
    return first_reason


def _repair(members: dict[str, Any], steps: Sequence[str]) -> bool:
    """Turns a number at the path into text and leaves out any other value, if that is allowed."""
    holder: Any = members
    for step in steps[:-1]:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    last: Any = int(steps[-1]) if isinstance(holder, list) else steps[-1]
    value = holder[last]
    if isinstance(value, int | float) and not isinstance(value, bool):
        holder[last] = str(value)
    elif _decides_score(steps):
        return False
    elif isinstance(holder, list):
        del holder[last]
    else:
        holder[last] = None
    return True


def _decides_score(steps: Sequence[str]) -> bool:
    return steps[0] in _DECIDES_SCORE and not (len(steps) > 1 and steps[1] in _EVIDENCE)


def _page_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply to be read"
    return f"is no page of findings: {error}"


def _record_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply to be read"
    return f"is not valid JSON: {error}"


def _kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


# --- from typed findings to columns ----------------------------------------------------------


class _Columns:
    """The findings of the pages so far: the last ones as a list a column, the others as frames."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {name: [] for name in _COLLECTED}
        self.frames: list[pl.DataFrame] = []
        self.accounts: set[str | int | None] = set()

    def frame(self) -> pl.DataFrame:
        """All of them, columns as in `_COLLECTED`."""
        self._turn_lists_into_frame()
        return pl.concat(self.frames, rechunk=True)

    def _turn_lists_into_frame(self) -> None:
        self.frames.append(
            pl.DataFrame(
                [
                    pl.Series(name, values, dtype=_COLLECTED[name])
                    for name, values in self.lists.items()
                ]
            )
        )
        self.lists = {name: [] for name in _COLLECTED}

    def add(self, page: int, findings: Sequence[_Finding]) -> None:
        """Appends the findings of a page."""
        if not findings:
            return
        compliances = [each.compliance or _NO_COMPLIANCE for each in findings]
        severities = [each.severity or _NO_SEVERITY for each in findings]
        resources = [each.resources or _NO_RESOURCES for each in findings]
        remediations = [each.remediation or _NO_REMEDIATION for each in findings]
        fields = [each.product_fields or _NO_FIELDS for each in findings]
        to = self.lists
        for name, member in _PLAIN.items():
            to[name].extend(map(member, findings))
        to["types"].extend([" | ".join(each.types) if each.types else None for each in findings])
        to["workflow_status"].extend(
            [
                each.workflow.status if each.workflow is not None else _legacy_workflow(each)
                for each in findings
            ]
        )
        to["remediation_url"].extend(
            [(each.recommendation or _NO_RECOMMENDATION).url for each in remediations]
        )
        to["compliance_status"].extend([each.status for each in compliances])
        to["security_control_id"].extend([each.security_control_id for each in compliances])
        to["standards"].extend(
            [
                _standards(each.associated_standards) if each.associated_standards else None
                for each in compliances
            ]
        )
        to["reason_codes"].extend(
            [_reasons(each.status_reasons) if each.status_reasons else None for each in compliances]
        )
        to["severity_label"].extend(
            [
                each.label if each.label in _SEVERITY_LABELS else _severity(each)
                for each in severities
            ]
        )
        to["severity_original"].extend([each.original for each in severities])
        to["resource_id"].extend([each[0].id for each in resources])
        to["resource_type"].extend([each[0].type for each in resources])
        to["more_resource_ids"].extend(
            [_more_resources(each) if len(each) > 1 else None for each in resources]
        )
        to["provider"].extend([each[0].provider for each in resources])
        to["_owner"].extend(
            [_owner(each[0]) if each[0].provider is not None else None for each in resources]
        )
        to["resource_count"].extend([len(each.resources or ()) for each in findings])
        self._add_notes([each.note for each in findings])
        to["config_rule_name"].extend([each.config_rule_name for each in fields])
        to["config_rule_arn"].extend([each.config_rule_arn for each in fields])
        to["config_compliance_type"].extend([each.config_compliance_type for each in fields])
        to["previous_compliance_status"].extend(
            [each.previous_compliance_status for each in fields]
        )
        to["archival_reasons"].extend(
            [_archival_reasons(each) if each.archival_reason_0 else None for each in fields]
        )
        to["_control"].extend([each.control_id or each.rule_id for each in fields])
        to["_standard"].extend(
            [
                each.standards_arn or each.standards_guide_arn or each.standards_control_arn
                for each in fields
            ]
        )
        to["page"].extend(repeat(page, len(findings)))
        if len(to["page"]) >= _ROWS_AT_ONCE:
            self._turn_lists_into_frame()

    def _add_notes(self, notes: list[_Note | None]) -> None:
        """Most pages have none, which is cheaper than looking into each."""
        to = self.lists
        if not any(notes):
            for name in ("note_text", "note_updated_by", "note_updated_at"):
                to[name].extend(repeat(None, len(notes)))
            return
        present = [each or _NO_NOTE for each in notes]
        to["note_text"].extend([each.text for each in present])
        to["note_updated_by"].extend([each.updated_by for each in present])
        to["note_updated_at"].extend([each.updated_at for each in present])


_PLAIN = {
    "finding_id": attrgetter("id"),
    "product_arn": attrgetter("product_arn"),
    "product_name": attrgetter("product_name"),
    "account_id": attrgetter("aws_account_id"),
    "account_name": attrgetter("aws_account_name"),
    "region": attrgetter("region"),
    "generator_id": attrgetter("generator_id"),
    "title": attrgetter("title"),
    "record_state": attrgetter("record_state"),
    "created_at": attrgetter("created_at"),
    "updated_at": attrgetter("updated_at"),
    "first_observed_at": attrgetter("first_observed_at"),
    "last_observed_at": attrgetter("last_observed_at"),
}
"""Columns that are a member of the finding as it is."""

_DERIVED = frozenset(
    {
        "date",
        "shard",
        "collected_at",
        "product",
        "rule_name",
        "pack_suffix",
        "connector_account_id",
        "consolidated",
        "standard_control_id",
    }
)
"""Columns made from others when the frame is."""

_TIMESTAMPS = tuple(
    column.name
    for column in MERGED_FINDINGS.columns
    if column.dtype == TIMESTAMP and column.name not in _DERIVED
)
_COLLECTED: dict[str, pl.DataType | type[pl.DataType]] = {
    **{
        column.name: pl.String() if column.name in _TIMESTAMPS else column.dtype
        for column in MERGED_FINDINGS.columns
        if column.name not in _DERIVED
    },
    "_owner": pl.String(),
    "_control": pl.String(),
    "_standard": pl.String(),
}
"""Columns that are collected from the findings; moments are still text."""


def _standards(associated: list[_Associated]) -> str | None:
    """Ids such as standards/..., each once; AWS gives some of them as ARNs."""
    ids = [each.standards_id.rpartition(":")[2] for each in associated if each.standards_id]
    return SEPARATOR.join(dict.fromkeys(filter(None, ids))) or None


def _owner(resource: _Resource) -> str | None:
    owner = resource.owner.account if resource.owner is not None else None
    return owner.id if owner is not None else None


def _more_resources(resources: Sequence[_Resource]) -> str | None:
    """The ids after the first, each once."""
    ids = dict.fromkeys(each.id for each in resources)
    others = [each for each in ids if each and each != resources[0].id]
    return RESOURCE_SEPARATOR.join(others) or None


def _reasons(reasons: list[_Reason]) -> str | None:
    return SEPARATOR.join([each.reason_code for each in reasons if each.reason_code]) or None


def _archival_reasons(fields: _ProductFields) -> str:
    codes = (fields.archival_reason_0, fields.archival_reason_1, fields.archival_reason_2)
    return SEPARATOR.join([code for code in codes if code])


def _legacy_workflow(finding: _Finding) -> str | None:
    return _WORKFLOW_OF_STATE.get(finding.workflow_state or "")


def _severity(severity: _Severity) -> str | None:
    """The label in capitals; without a known one that of the number, else what was given.

    The retired Product is on a scale to 10 or to 100: AWS multiplies the former by 10.
    """
    label = (severity.label or "").strip().upper()
    if label in _SEVERITY_LABELS:
        return label
    number = severity.normalized
    if number is None and severity.product is not None:
        number = severity.product * 10 if severity.product <= 10 else severity.product
    if number is None or not 0 <= number <= 100:
        return label or None
    return next((name for floor, name in _SEVERITY_FLOORS if number >= floor), "INFORMATIONAL")


def _frame(
    columns: _Columns, *, day: date, shard: str, collected_at: datetime | None
) -> pl.DataFrame:
    """The rows of `merged_findings`."""
    collected = _with_products(columns.frame())
    of_config = pl.col("product") == CONFIG_PRODUCT
    # Findings that people shortened keep any rule's ARN there, beside the name of a pack's rule.
    of_service_rule = pl.col("generator_id").str.contains(SERVICE_RULE_ARN)
    frame = collected.with_columns(
        *(parse_timestamps(collected[name]) for name in _TIMESTAMPS),
        date=pl.lit(day),
        shard=pl.lit(shard),
        collected_at=pl.lit(collected_at, dtype=TIMESTAMP),
        record_state=pl.col("record_state").fill_null("ACTIVE"),
        provider=pl.col("provider").str.to_uppercase().fill_null(AWS_PROVIDER),
        config_rule_name=pl.coalesce("config_rule_name", pl.when(of_config).then("title")),
        config_rule_arn=pl.coalesce(
            "config_rule_arn", pl.when(of_service_rule).then("generator_id")
        ),
    )
    if frame["region"].null_count():
        frame = frame.with_columns(region=pl.coalesce("region", _region_of_product()))
    return MERGED_FINDINGS.project(_with_control_identity(with_rule_names(_with_scopes(frame))))


def _with_scopes(findings: pl.DataFrame) -> pl.DataFrame:
    """Makes the subscription the account of findings of another cloud, which a connector brings.

    Their AwsAccountId is the connector's account, which has findings of its own. What names no
    owner, or one that reads like an AWS account, is a scope of the connector and the cloud.
    """
    foreign = pl.col("provider") != AWS_PROVIDER
    if not findings.select(foreign.any()).item():
        return findings.with_columns(connector_account_id=pl.lit(None, pl.String))
    owner = pl.col("_owner").str.strip_chars().str.to_lowercase().str.split("/").list.last()
    cloud = pl.col("provider").str.to_lowercase()
    scope = (
        pl.when(owner.str.contains(_DIGITS_12))
        .then(pl.concat_str(cloud, pl.lit("-"), owner))
        .when(owner.str.contains(_SCOPE_ID))
        .then(owner)
        .otherwise(pl.concat_str(cloud, pl.lit("-"), "account_id"))
    )
    return findings.with_columns(
        account_id=pl.when(foreign).then(scope).otherwise("account_id"),
        account_name=pl.when(~foreign).then("account_name"),
        connector_account_id=pl.when(foreign).then("account_id"),
    )


def _region_of_product() -> pl.Expr:
    region = pl.col("product_arn").str.split(":").list.get(3, null_on_oob=True)
    return pl.when(region != "").then(region)


def _with_products(findings: pl.DataFrame) -> pl.DataFrame:
    """Adds `product`, found once for each of the few product ARNs there are."""
    arns = findings.select(pl.col("product_arn").drop_nulls().unique()).with_columns(
        product=pl.col("product_arn").str.extract(r"(?:^|[:/])product(?:v2)?/(.+)\z")
    )
    return findings.with_columns(
        product=pl.col("product_arn").replace_strict(
            arns["product_arn"], arns["product"], default=None, return_dtype=pl.String
        )
    )


def _with_control_identity(findings: pl.DataFrame) -> pl.DataFrame:
    """Adds `consolidated` and `standard_control_id`; a per-standard finding gets its standard.

    Per-standard findings are Security Hub's own: another product's GeneratorId may look alike.
    """
    consolidated = pl.col("generator_id").str.starts_with(CONSOLIDATED_PREFIX)
    own = pl.col("product_arn").is_null() | (pl.col("product") == SECURITY_HUB_PRODUCT)
    findings = findings.with_columns(
        _other=own & consolidated.fill_null(value=False).not_(),
        consolidated=pl.when(consolidated).then(True),
    )
    if not findings["_other"].any():
        return findings.with_columns(standard_control_id=pl.lit(None, dtype=pl.String))
    source = ["generator_id", "_standard", "_control"]
    named = [
        (*key, *_standard_control(*key))
        for key in findings.filter("_other").select(source).unique().iter_rows()
    ]
    known = pl.DataFrame(
        [row for row in named if row[3] is not None],
        schema=dict.fromkeys((*source, "_named", "standard_control_id"), pl.String),
        orient="row",
    ).with_columns(_other=pl.lit(value=True))
    return findings.join(
        known, on=[*source, "_other"], how="left", nulls_equal=True, maintain_order="left"
    ).with_columns(
        consolidated=pl.when(pl.col("_named").is_not_null()).then(False).otherwise("consolidated"),
        standards=pl.coalesce("_named", "standards"),
    )


def _standard_control(
    generator_id: str | None, standard_arn: str | None, control_id: str | None
) -> tuple[str | None, str | None]:
    """Standard and control of a per-standard finding; nulls if it is none."""
    generator = parse_standard_control(generator_id or "")
    if generator is not None and generator.control is not None:
        return generator.standard, control_id or generator.control
    fields = parse_standard_control(standard_arn or "")
    control = control_id or (fields.control if fields is not None else None)
    return (None, None) if fields is None or control is None else (fields.standard, control)


def _quarantine(unreadable: Sequence[_Unreadable], day: date) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "date": [day] * len(unreadable),
            "line": [each.page for each in unreadable],
            "position": [each.position for each in unreadable],
            "source": [each.source for each in unreadable],
            "account_id": [_account_of(each) for each in unreadable],
            "reason": [each.reason for each in unreadable],
            "record": [each.record for each in unreadable],
        },
        schema=UNREADABLE.schema,
    )


def _account_of(unreadable: _Unreadable) -> str | None:
    """The account that an unreadable record names; null: none, or several."""
    if unreadable.position is None:
        return None
    named = {match[1] for match in _NAMED_ACCOUNT.finditer(unreadable.record)}
    return named.pop().decode() if len(named) == 1 else None
