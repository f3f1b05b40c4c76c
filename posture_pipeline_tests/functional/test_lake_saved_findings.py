"""Findings that people saved: every record of every accepted shape is a finding or set aside."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import InputError
from posture_pipeline.lake.findings import merge_pages
from posture_pipeline.lake.saved_findings import (
    by_day,
    ensure_enough_is_readable,
    ensure_nothing_is_lost,
    import_files,
    look_through,
)
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import MERGED_FINDINGS, QUARANTINE

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 23)
COLLECTED_AT = "2026-11-23T06:00:00+00:00"


def finding(identity: str, **more: Any) -> dict[str, Any]:
    return {"Id": identity, "AwsAccountId": "012345678901", "ProductArn": "arn:p"} | more


THREE = [finding("a"), finding("b", Title='{[,]}\n \\ "'), finding("c", Title="Größe 測試")]


@dataclass
class Imported:
    """What an import and the merge after it made of some files."""

    collected: int
    records: int
    ids: list[str]
    set_aside: list[bytes]
    reasons: list[str]
    duplicates: int


def imported(lake: Lake, *paths: Path) -> Imported:
    survey = look_through(paths)
    commit = import_files(lake, DAY, survey.paths, collected_at=COLLECTED_AT)
    merged = merge_pages(lake, DAY)
    findings, quarantine = lake.read(MERGED_FINDINGS, DAY), lake.read(QUARANTINE, DAY)
    assert commit.rows == merged.records, "what was taken in is what the merge found"
    assert merged.records == sum(file.records for file in survey.files)
    assert quarantine.height == sum(file.unreadable for file in survey.files)
    assert merged.records == findings.height + merged.duplicates + quarantine.height
    return Imported(
        commit.rows,
        merged.records,
        findings["finding_id"].to_list(),
        quarantine["record"].to_list(),
        quarantine["reason"].to_list(),
        merged.duplicates,
    )


def read(lake: Lake, folder: Path, data: bytes, name: str = "findings.json") -> Imported:
    path = folder / name
    path.write_bytes(data)
    return imported(lake, path)


def text(value: Any, **options: Any) -> bytes:
    return json.dumps(value, **options).encode()


def lines(values: list[Any]) -> bytes:
    return b"\n".join(text(value) for value in values)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def event(findings: list[Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "detail-type": "Security Hub Findings - Imported",
        "resources": ["arn:aws:securityhub:eu-west-1::product/p/x"],
        "detail": {"findings": findings},
    }


SHAPES: dict[str, bytes] = {
    "output of get-findings": text({"Findings": THREE, "NextToken": "t"}, indent=4),
    "output of get-findings, in one line": text({"Findings": THREE}),
    "array": text(THREE),
    "array, pretty": text(THREE, indent=2, ensure_ascii=False),
    "one finding and its neighbours, a line each": lines(THREE),
    "lines, with Windows line ends and empty lines": b"\r\n\r\n".join(map(text, THREE)) + b"\r\n",
    "lines, the last without an end": lines(THREE) + b"\n",
    "findings after each other, pretty": b"\n".join(text(each, indent=2) for each in THREE),
    "findings after each other, without any blank": b"".join(map(text, THREE)),
    "replies after each other": text({"Findings": THREE[:2]}) + text({"Findings": THREE[2:]}),
    "reply and empty reply": lines([{"Findings": THREE}, {"Findings": []}]),
    "array of replies": text([{"Findings": THREE[:1]}, {"Findings": THREE[1:]}]),
    "array of arrays": text([THREE[:1], [], THREE[1:]]),
    "two arrays after each other": text(THREE[:1]) + text(THREE[1:]),
    "event": text(event(THREE)),
    "events, a line each": lines([event(THREE[:2]), event(THREE[2:])]),
    "array of events": text([event([each]) for each in THREE]),
    "mixture": lines([event(THREE[:1]), {"Findings": THREE[1:2]}, THREE[2:]]),
    "detail of an event": text({"findings": THREE}),
    "details of events, a line each": lines([{"findings": [each]} for each in THREE]),
    "one finding a reply, as PowerShell unrolls lists": lines([{"Findings": e} for e in THREE]),
    "custom action": text(event(THREE) | {"detail-type": "Security Hub Findings - Custom Action"}),
    "message of SNS": text({"Type": "Notification", "Message": json.dumps(event(THREE))}),
    "messages of SQS": text({"Messages": [{"Body": json.dumps(event([e]))} for e in THREE]}),
    "SNS in SQS": text({"Messages": [{"Body": json.dumps({"Message": json.dumps(event(THREE))})}]}),
    "SQS event of Lambda": text(
        {"Records": [{"messageId": "1", "body": json.dumps(event([e]))} for e in THREE]}
    ),
    "SNS event of Lambda": text(
        {"Records": [{"Sns": {"Message": json.dumps(event([e]))}} for e in THREE]}
    ),
    "events of CloudWatch Logs": text(
        {"events": [{"timestamp": 1, "message": json.dumps(event([e]))} for e in THREE]}
    ),
    "subscription of CloudWatch Logs": text(
        {"logGroup": "g", "logEvents": [{"id": "1", "message": json.dumps(e)} for e in THREE]}
    ),
    "log with a time before each line": b"\n".join(
        b"2026-11-23T06:00:00.000Z " + text(event([each])) for each in THREE
    ),
    "hits of OpenSearch": text({"hits": {"hits": [{"_id": "1", "_source": e} for e in THREE]}}),
    "dump of OpenSearch": lines([{"_index": "i", "_source": each} for each in THREE]),
    "results of Splunk": lines([{"result": {"_raw": json.dumps(each)}} for each in THREE]),
    "list of PowerShell": text({"value": THREE, "Count": 3}),
    "objects with commas between": b",\n".join(map(text, THREE)),
    "objects with commas between, pretty": b",\n".join(text(each, indent=1) for each in THREE),
    "names in lower case, as Athena has them": lines(
        [{name.lower(): value for name, value in each.items()} for each in THREE]
    ),
    "names with underscores": text(
        [
            {re.sub("(?<!^)([A-Z])", r"_\1", name).lower(): value for name, value in each.items()}
            for each in THREE
        ]
    ),
}


def as_zip(data: bytes, name: str = "deep/findings.json") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("deep/", b"")
        archive.writestr(name, data)
    return buffer.getvalue()


def as_tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("deep/findings.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in two members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zstd": zstd,
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "gzip, with a byte order mark": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
    "UTF-16 of Windows PowerShell": lambda data: data.decode().encode("utf-16"),
    "UTF-16, big end first": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": as_zip,
    "tar.gz": lambda data: gzip.compress(as_tar(data)),
    "gzip in zip": lambda data: as_zip(gzip.compress(data)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_accepted_shape_gives_its_findings(lake: Lake, tmp_path: Path, shape: str) -> None:
    result = read(lake, tmp_path, SHAPES[shape])
    assert sorted(result.ids) == ["a", "b", "c"]
    assert (result.collected, result.set_aside) == (3, [])


@pytest.mark.parametrize("shape", ["output of get-findings", "events, a line each"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_is_undone(lake: Lake, tmp_path: Path, shape: str, packing: str) -> None:
    result = read(lake, tmp_path, PACKINGS[packing](SHAPES[shape]), "findings")
    assert sorted(result.ids) == ["a", "b", "c"]
    assert (result.collected, result.set_aside) == (3, [])


def test_texts_come_through_as_they_were_written(lake: Lake, tmp_path: Path) -> None:
    read(lake, tmp_path, text(THREE))
    assert lake.read(MERGED_FINDINGS, DAY)["title"].to_list() == [
        each.get("Title") for each in THREE
    ]


@pytest.mark.parametrize(
    "data", [b"[]", b'{"Findings": []}', b"[[]]", b'{"detail": {"findings": []}}']
)
def test_a_file_without_records_gives_none(lake: Lake, tmp_path: Path, data: bytes) -> None:
    result = read(lake, tmp_path, data)
    assert (result.collected, result.ids, result.set_aside) == (0, [], [])


def test_more_than_one_raw_file_is_filled(lake: Lake, tmp_path: Path) -> None:
    """100 findings a page and 100 pages a file, as a collection makes them."""
    many = [finding(f"{number}") for number in range(10_150)]
    commit = import_files(
        lake, DAY, [write(tmp_path / "x.json", text(many))], collected_at=COLLECTED_AT
    )
    assert commit.details["shards"]["import"] == {
        "files": 2,
        "pages": 102,
        "findings": 10_150,
        "complete": True,
    }
    assert merge_pages(lake, DAY).findings.rows == 10_150


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- what cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoilt",
    [
        b'{"Id": "b", "AwsAccountId": "012345678901", "X": NaN}',
        b'{"Id": "b", "AwsAccountId": "012345678901", "Title": "\\ud800"}',
        b'{"Id": "b", "AwsAccountId": "012345678901", "Title": "caf\xe9"}',
    ],
    ids=["NaN", "half a character", "not UTF-8"],
)
@pytest.mark.parametrize(
    "around",
    [b"%b\n%b", b"[%b, %b]", b'{"Findings": [%b, %b]}', b'{"detail": {"findings": [%b, %b]}}'],
    ids=["lines", "array", "reply", "event"],
)
def test_a_spoilt_value_spoils_no_finding(
    lake: Lake, tmp_path: Path, spoilt: bytes, around: bytes
) -> None:
    """Some writers let through what JSON does not allow; the findings can be read all the same."""
    result = read(lake, tmp_path, around % (spoilt, text(finding("a"))))
    assert sorted(result.ids) == ["a", "b"]
    assert result.set_aside == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"Id": "x"}', "AwsAccountId is missing"),
        (b'{"Findings": null}', "Id is missing"),
        (b'{"detail": "text"}', "Id is missing"),
        (b"7", "a number"),
        (b'"text"', "text"),
        (b"null", "null"),
        (b"Error: expired token", "no page of findings"),
        (b"<html><body>Sign in</body></html>", "no page of findings"),
        (b"{'Id': 'x', 'AwsAccountId': '012345678901'}", "no page of findings"),
        (b"\x00\x01\x02", "no page of findings"),
    ],
)
def test_a_line_that_is_no_finding_is_set_aside_as_it_is(
    lake: Lake, tmp_path: Path, record: bytes, reason: str
) -> None:
    result = read(lake, tmp_path, b"\n".join([text(THREE[0]), record, text(THREE[1])]))
    assert sorted(result.ids) == ["a", "b"]
    assert result.set_aside == [record]
    assert reason in result.reasons[0]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("shape", ["reply", "array", "lines", "event"])
def test_a_file_cut_anywhere_keeps_what_it_holds(
    tmp_path: Path, shape: str, indent: int | None
) -> None:
    """The whole findings before the cut are read, and the rest is one record that is set aside."""
    whole = {
        "reply": text({"Findings": THREE}, indent=indent),
        "array": text(THREE, indent=indent),
        "lines": b"\n".join(text(each, indent=indent) for each in THREE),
        "event": text(event(THREE), indent=indent),
    }[shape]
    ends = [whole.index(b'"Id": "' + name) for name in (b"b", b"c")]
    for cut in range(whole.index(b"AwsAccountId") + 12, len(whole) - 1, 37):
        result = read(Lake(str(tmp_path / f"lake-{cut}")), tmp_path, whole[:cut])
        complete = sum(cut > end for end in ends)
        assert result.ids[:complete] == ["a", "b"][:complete]
        assert set(result.ids) <= {"a", "b", "c"}
        between = shape == "lines" and whole[:cut].rstrip().endswith(b"}")
        assert between or len(result.set_aside) == 1


def test_findings_after_a_broken_one_are_read(lake: Lake, tmp_path: Path) -> None:
    """In a pretty file the next finding begins on a line of its own."""
    broken = text(THREE, indent=2).replace(b'"Id": "b",', b'"Id": b,')
    result = read(lake, tmp_path, broken)
    assert result.ids == ["a", "c"]
    assert len(result.set_aside) == 1


@settings(max_examples=35)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([text(each) for each in THREE]),
            st.text('[]{}",:\\n \n', max_size=20).map(str.encode),
            st.sampled_from(list(SHAPES.values())),
        ),
        max_size=6,
    ),
    st.sampled_from([b"", b"\n", b",", b"\x00"]),
)
def test_whatever_a_file_holds_every_record_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], between: bytes
) -> None:
    folder = tmp_path_factory.mktemp("import")
    data = between.join([text(THREE[0]), *parts])
    result = read(Lake(str(folder / "lake")), folder, data)
    assert result.records == len(result.ids) + result.duplicates + len(result.set_aside)
    assert "a" in result.ids


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000],
    ids=["opened", "array", "object"],
)
def test_what_is_nested_too_deeply_is_set_aside(lake: Lake, tmp_path: Path, data: bytes) -> None:
    result = read(lake, tmp_path, data + b"\n" + text(finding("a")))
    assert result.ids == ["a"]
    assert b"".join(result.set_aside) == data


def test_ocsf_among_findings_is_set_aside(lake: Lake, tmp_path: Path) -> None:
    result = read(lake, tmp_path, text([THREE[0], {"class_uid": 2003, "metadata": {}}]))
    assert result.reasons == ["is an OCSF finding, not ASFF"]


CONSOLE_CSV = (
    b"Severity,Workflow status,Record State,Region,Account Id,Company,Product,Title,Resource,"
    b"Compliance Status,Updated at\nHIGH,NEW,ACTIVE,eu-west-1,111122223333,AWS,Security Hub,t,r,"
    b"FAILED,2024-07-24T19:05:04.979Z\n"
)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (as_zip(b"hello", "a.txt"), "a.txt is text or CSV without findings"),
        (as_zip(b"", "[Content_Types].xml"), "is an Office document"),
        (b"PAR1" + b"\0" * 9, "is a parquet file"),
        (b"7z\xbc\xaf\x27\x1c\0", "is a 7z file; unpack it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is a binary file"),
        (b"<html><body>Sign in</body></html>", "is HTML or XML"),
        (b"An error occurred (AccessDenied)\nTry again\n", "is text or CSV without findings"),
        (CONSOLE_CSV, "is the CSV download of the Security Hub console"),
        (b'"Id","ProductArn","ComplianceStatus"\n', "is a CSV of CSV Manager"),
        (text({"a": 1}), "is JSON without findings"),
        (text([{"Id": "x"}]), "is JSON without findings"),
        (b'{"Findings": [', "is damaged JSON"),
        (text({"detail": {"findings": [{"class_uid": 2003}]}}), "holds findings in OCSF"),
    ],
)
def test_a_file_without_findings_is_refused_with_a_sentence_that_names_what_it_is(
    lake: Lake, tmp_path: Path, data: bytes, what: str
) -> None:
    with pytest.raises(InputError, match=re.escape(what)) as error:
        read(lake, tmp_path, data)
    assert str(tmp_path / "findings.json") in str(error.value)
    assert lake.commit_of("raw_finding_pages", DAY) is None


def test_quarantined_records_name_the_file_they_came_from(lake: Lake, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / 'ba"d é.json'
    imported(lake, write(good, text(THREE)), write(bad, text([{"AwsAccountId": "x"}])))
    assert lake.read(QUARANTINE, DAY)["source"].to_list() == [str(bad)]


# --- files ------------------------------------------------------------------------------------


def test_a_folder_gives_every_file_with_findings_and_lists_the_others(tmp_path: Path) -> None:
    wanted = ["a.json", "b.NDJSON", "deep/er/c", "d.json.gz", "firehose-2026-11-23-06-00-00-1f"]
    for name in wanted:
        write(tmp_path / name, text(THREE))
    write(tmp_path / "readme.md", b"# Findings")
    write(tmp_path / "both.zip", as_zip(b"hello", "notes.txt"))
    write(tmp_path / ".git/config", text(THREE))
    write(tmp_path / "lake/part", text(THREE))
    survey = look_through([tmp_path], without=tmp_path / "lake")
    assert survey.paths == sorted(tmp_path / name for name in wanted)
    assert dict(survey.left_out) == {
        str(tmp_path / "readme.md"): "is text or CSV without findings, not JSON",
        f"{tmp_path / 'both.zip'}/notes.txt": "is text or CSV without findings, not JSON",
    }


def test_a_named_file_may_have_any_name(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "findings.txt", text(THREE))
    assert len(imported(lake, path).ids) == 3


def test_what_is_in_two_files_counts_once(lake: Lake, tmp_path: Path) -> None:
    result = imported(
        lake, write(tmp_path / "a.json", text(THREE)), write(tmp_path / "b.json", lines(THREE))
    )
    assert (result.collected, len(result.ids), result.duplicates) == (6, 3, 3)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder .*nowhere to import"):
        look_through([tmp_path, tmp_path / "nowhere"])


def test_a_folder_without_findings_is_named_with_what_is_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "readme.md", b"")
    with pytest.raises(InputError, match=r"nothing to import in .*readme\.md is empty") as error:
        look_through([tmp_path])
    assert str(tmp_path) in str(error.value)


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF, data[at + 1] ^ 0xFF]) + data[at + 2 :]


MANY = lines(
    [
        finding(f"{number}", Title=hashlib.sha256(b"%d" % number).hexdigest())
        for number in range(100)
    ]
)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(MANY)[:-300],
        gzip.compress(MANY)[:-8] + b"\0" * 8,
        damaged(gzip.compress(MANY), 20),
        damaged(gzip.compress(MANY), 1_000),
        gzip.compress(MANY)[:5],
        zstd(MANY)[:-300],
        damaged(zstd(MANY), 5),
    ],
    ids=["cut", "wrong sum", "damaged head", "damaged", "only a head", "cut zstd", "damaged zstd"],
)
def test_a_damaged_archive_is_an_error_that_names_it(
    lake: Lake, tmp_path: Path, data: bytes
) -> None:
    """Of an archive that ends too early nobody knows what is missing: nothing is imported."""
    with pytest.raises(InputError, match=r"findings\.json cannot be read: .* Is it complete\?"):
        read(lake, tmp_path, data)
    assert lake.commit_of("raw_finding_pages", DAY) is None


def test_a_failed_import_leaves_the_day_as_it_was(lake: Lake, tmp_path: Path) -> None:
    read(lake, tmp_path, text(THREE))
    with pytest.raises(InputError):
        read(lake, tmp_path, gzip.compress(MANY)[:-300])
    assert merge_pages(lake, DAY).findings.rows == 3
    assert read(lake, tmp_path, text(THREE[:1])).ids == ["a"]


def test_an_import_says_what_it_is(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", text(THREE))
    commit = import_files(lake, DAY, [path], collected_at=COLLECTED_AT)
    assert commit.details["source"] == "import"
    assert commit.details["collected_at"] == COLLECTED_AT
    assert commit.details["imported"] == 1


def test_the_standards_of_saved_findings_are_told_as_the_settings_name_them(tmp_path: Path) -> None:
    standards = [
        "standards/aws-foundational-security-best-practices/v/1.0.0",
        "ruleset/cis-aws-foundations-benchmark/v/1.2.0",
    ]
    findings = [
        finding(f"{number}", Compliance={"AssociatedStandards": [{"StandardsId": standard}]})
        for number, standard in enumerate([*standards, standards[0]])
    ]
    path = write(tmp_path / "x.json", text([*findings, {"no": "finding"}]))
    survey = look_through([path])
    assert survey.standards == sorted(each.split("/", 1)[1] for each in standards)
    assert look_through([write(tmp_path / "y.json", text(THREE))]).standards == []


# --- what would be lost -----------------------------------------------------------------------


def store(lake: Lake, folder: Path, number: int, source: str = "import") -> None:
    """A stored day with so many findings."""
    path = write(folder / "stored.json", text([finding(f"{each}") for each in range(number)]))
    import_files(lake, DAY, [path], collected_at=COLLECTED_AT)
    lake.recommit(
        "raw_finding_pages",
        DAY,
        lambda commit: replace(commit, details={**commit.details, "source": source}),
    )
    merge_pages(lake, DAY)


def refusal(lake: Lake, path: Path) -> str | None:
    try:
        ensure_nothing_is_lost(lake, DAY, look_through([path]).files)
    except InputError as error:
        return str(error)
    return None


def test_an_import_without_one_readable_record_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", text([{"AwsAccountId": "1"}, {"AwsAccountId": "2"}]))
    said = refusal(lake, path)
    assert said is not None
    assert "None of the 2 records" in said
    assert "Id is missing" in said
    assert "--replace" in said


@pytest.mark.parametrize(("limit", "refused"), [(0.2, True), (0.25, False)])
def test_an_import_with_too_many_unreadable_records_is_refused(
    tmp_path: Path, limit: float, refused: bool
) -> None:
    write(tmp_path / "in" / "good.json", text(THREE[:2]))
    write(tmp_path / "in" / "bad.json", text([THREE[2], {"AwsAccountId": "1"}]))
    files = look_through([tmp_path / "in"]).files
    if not refused:
        ensure_enough_is_readable(files, limit)
        return
    with pytest.raises(InputError, match=r"1 of 4 records .* in .*bad\.json .*Id is missing"):
        ensure_enough_is_readable(files, limit)


def test_a_day_collected_from_aws_is_not_replaced(lake: Lake, tmp_path: Path) -> None:
    store(lake, tmp_path, 3, source="aws")
    same = write(tmp_path / "x.json", text([finding(f"{each}") for each in range(3)]))
    said = refusal(lake, same)
    assert said is not None
    assert "collected from AWS" in said
    assert "--replace" in said


@pytest.mark.parametrize(("number", "refused"), [(0, True), (4, True), (5, False), (30, False)])
def test_an_import_with_far_fewer_findings_than_the_stored_day_is_refused(
    lake: Lake, tmp_path: Path, number: int, refused: bool
) -> None:
    """Copies of a finding do not count."""
    store(lake, tmp_path, 10)
    few = [finding(f"{each}") for each in range(number)] * 3
    said = refusal(lake, write(tmp_path / "x.json", text(few)))
    assert (said is not None) is refused
    if said:
        assert f"hold {number} findings" in said
        assert "has 10" in said


def test_a_day_that_is_not_stored_takes_any_findings(lake: Lake, tmp_path: Path) -> None:
    assert refusal(lake, write(tmp_path / "x.json", b'{"Findings": []}')) is None


# --- several days -----------------------------------------------------------------------------


def test_each_file_is_of_the_day_in_its_path_or_of_its_newest_finding(tmp_path: Path) -> None:
    old = finding("a", UpdatedAt="2026-01-02T03:04:05Z")
    new = finding("b", UpdatedAt="2026-11-22T23:59:59-01:00")
    for name in ("2026-11-20/1", "2026-11-20/2", "year=2026/month=11/day=21/x", "newest.json"):
        write(tmp_path / "in" / name, text([old, new]))
    days = by_day(look_through([tmp_path / "in"]))
    assert {day.isoformat(): len(files) for day, files in days.items()} == {
        "2026-11-20": 2,
        "2026-11-21": 1,
        "2026-11-23": 1,
    }
    assert list(days) == sorted(days)


def test_a_file_that_says_no_day_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", text([finding("a")]))
    with pytest.raises(InputError, match=r"x\.json does not say of which day it is"):
        by_day(look_through([path]))
