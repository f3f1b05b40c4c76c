"""Findings that people saved: every record of every accepted shape is a finding or set aside."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posture_pipeline.errors import InputError
from posture_pipeline.lake.findings import merge_pages
from posture_pipeline.lake.saved_findings import find_files, import_files, standards_in
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
    commit = import_files(lake, DAY, find_files(paths), collected_at=COLLECTED_AT)
    merged = merge_pages(lake, DAY)
    findings, quarantine = lake.read(MERGED_FINDINGS, DAY), lake.read(QUARANTINE, DAY)
    assert commit.rows == merged.records, "what was taken in is what the merge found"
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
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in two members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zstd": zstd,
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "gzip, with a byte order mark": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
    "UTF-16 of Windows PowerShell": lambda data: data.decode().encode("utf-16"),
    "UTF-16, big end first": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_accepted_shape_gives_its_findings(
    lake: Lake, tmp_path: Path, shape: str, packing: str
) -> None:
    result = read(lake, tmp_path, PACKINGS[packing](SHAPES[shape]))
    assert sorted(result.ids) == ["a", "b", "c"]
    assert (result.collected, result.set_aside) == (3, [])


def test_texts_come_through_as_they_were_written(lake: Lake, tmp_path: Path) -> None:
    read(lake, tmp_path, text(THREE))
    assert lake.read(MERGED_FINDINGS, DAY)["title"].to_list() == [
        each.get("Title") for each in THREE
    ]


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"\xef\xbb\xbf", b"[]", b'{"Findings": []}', b"[[]]"]
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
        (b'{"Findings": {"Id": "x"}}', "Id is missing"),
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
@pytest.mark.parametrize("shape", ["reply", "array", "lines"])
def test_a_file_cut_anywhere_keeps_what_it_holds(
    tmp_path: Path, shape: str, indent: int | None
) -> None:
    """The rest is set aside, so that the check of the quarantine tells of it."""
    whole = {
        "reply": text({"Findings": THREE}, indent=indent),
        "array": text(THREE, indent=indent),
        "lines": b"\n".join(text(each, indent=indent) for each in THREE),
    }[shape]
    for cut in range(1, len(whole) - 1, 23):
        lake = Lake(str(tmp_path / f"lake-{cut}"))
        result = read(lake, tmp_path, whole[:cut])
        assert set(result.ids) <= {"a", "b", "c"}
        if len(result.ids) < 3:
            assert result.set_aside or whole[:cut].rstrip().endswith(b"}")
        if shape == "lines" and not indent:
            assert len(result.ids) >= whole[:cut].count(b"\n")


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
    data = between.join(parts)
    if data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        data = b" " + data
    folder = tmp_path_factory.mktemp("import")
    result = read(Lake(str(folder / "lake")), folder, data)
    assert result.records == len(result.ids) + result.duplicates + len(result.set_aside)


def test_binary_junk_is_set_aside(lake: Lake, tmp_path: Path) -> None:
    result = read(lake, tmp_path, b"\x89PNG\r\n\x1a\n" + zstd(MANY))
    assert result.ids == []
    assert result.set_aside


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000],
    ids=["opened", "array", "object"],
)
def test_what_is_nested_too_deeply_is_set_aside(lake: Lake, tmp_path: Path, data: bytes) -> None:
    result = read(lake, tmp_path, data + b"\n" + text(finding("a")))
    assert result.ids == ["a"]
    assert b"".join(result.set_aside) == data


def test_ocsf_is_told_apart(lake: Lake, tmp_path: Path) -> None:
    result = read(lake, tmp_path, text([{"class_uid": 2003, "metadata": {}}]))
    assert result.reasons == ["is an OCSF finding, not ASFF"]


def test_quarantined_records_name_the_file_they_came_from(lake: Lake, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / 'ba"d é.json'
    imported(lake, write(good, text(THREE)), write(bad, text([{"Id": "x"}])))
    assert lake.read(QUARANTINE, DAY)["source"].to_list() == [str(bad)]


# --- files ------------------------------------------------------------------------------------


def test_a_folder_gives_every_file_that_looks_like_json(tmp_path: Path) -> None:
    wanted = ["a.json", "b.NDJSON", "deep/er/c.jsonl", "d.json.gz", "e.ndjson.zst", "f.JSON.GZ"]
    for name in [*wanted, "readme.md", "g.csv", "h.gz", "i.json.bak", "j.ocsf.csv"]:
        write(tmp_path / name, b"")
    assert find_files([tmp_path]) == sorted(tmp_path / name for name in wanted)


def test_a_named_file_may_have_any_name(lake: Lake, tmp_path: Path) -> None:
    path = write(tmp_path / "findings.txt", text(THREE))
    assert find_files([path]) == [path]
    assert len(imported(lake, path).ids) == 3


def test_what_is_in_two_files_counts_once(lake: Lake, tmp_path: Path) -> None:
    result = imported(
        lake, write(tmp_path / "a.json", text(THREE)), write(tmp_path / "b.json", lines(THREE))
    )
    assert (result.collected, len(result.ids), result.duplicates) == (6, 3, 3)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder .*nowhere to import"):
        find_files([tmp_path, tmp_path / "nowhere"])


def test_a_folder_without_findings_is_named_with_what_is_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "readme.md", b"")
    with pytest.raises(InputError, match=r"nothing to import in .*no file ends in \.json") as error:
        find_files([tmp_path])
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
    assert standards_in([path]) == sorted(each.split("/", 1)[1] for each in standards)
    assert standards_in([write(tmp_path / "y.json", text(THREE))]) == []
