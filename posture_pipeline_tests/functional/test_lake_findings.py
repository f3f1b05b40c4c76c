"""The tables of findings: every record is accounted for, and nothing depends on its place."""

from __future__ import annotations

import itertools
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from posture_pipeline.errors import DamagedError, LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.findings import (
    Merged,
    account_ranges,
    merge_pages,
    split_by_account,
)
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.collection import PAGES_PER_FILE, ShardPosition
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    MERGED_FINDINGS,
    QUARANTINE,
    RAW_FINDING_PAGES,
    Table,
)

pytestmark = pytest.mark.functional

DAY = date(2026, 11, 23)
HUB = "arn:aws:securityhub:eu-west-1::product/aws/securityhub"
ONE, TWO = "012345678901", "111122223333"
PLACES = ("date", "shard", "page")


def finding(identity: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "Id": identity,
        "ProductArn": HUB,
        "AwsAccountId": ONE,
        "UpdatedAt": "2026-11-23T01:00:00Z",
        "Compliance": {"Status": "PASSED", "SecurityControlId": "S3.1"},
    } | more


def collect(lake: Lake, shards: dict[str, list[list[list[Any]]]]) -> None:
    """Puts raw pages into the lake: of each shard the files, of each file the pages."""
    writer = RawPagesWriter(lake, DAY)
    for shard, files in shards.items():
        position = ShardPosition(shard=shard, query="q", complete=True)
        for number, pages in enumerate(files):
            for page in pages:
                body = page if isinstance(page, bytes) else json.dumps({"Findings": page}).encode()
                writer.add(shard, body)
            position = ShardPosition(
                shard=shard,
                query="q",
                files=number + 1,
                pages=number * PAGES_PER_FILE + len(pages),
                complete=True,
            )
            writer.save(position)
        writer.save(position)
    details = {"collected_at": "2026-11-23T06:00:00+00:00", "collect": "all", "requests": 7}
    writer.commit(list(shards), details)


def merged(lake: Lake, *files: list[list[Any]]) -> Merged:
    """Collects files of pages of records in one shard, and merges them."""
    collect(lake, {"0": list(files)})
    return merge_pages(lake, DAY)


def new_lake(factory: pytest.TempPathFactory) -> Lake:
    return Lake(str(factory.mktemp("lake")))


def content(lake: Lake) -> pl.DataFrame:
    """The merged findings without the place they were found at."""
    return lake.read(MERGED_FINDINGS, DAY).drop(PLACES).sort("product_arn", "finding_id")


# --- accounting -------------------------------------------------------------------------------

RECORDS = st.one_of(
    st.builds(
        finding,
        st.sampled_from("abcd"),
        UpdatedAt=st.sampled_from(["2026-11-23T01:00:00Z", "2026-11-23T02:00:00Z", None]),
        ProductArn=st.sampled_from([HUB, "arn:other", None]),
        AwsAccountId=st.sampled_from([ONE, TWO]),
        Title=st.sampled_from(["one", "two"]),
    ),
    st.sampled_from(
        [{"Id": "no account"}, {}, None, 7, "text", finding(AwsAccountId="12"), finding(Id=None)]
    ),
)
PAGES = st.one_of(
    st.lists(RECORDS, max_size=6), st.sampled_from([b"", b"<html>", b'{"Findings": 3}', b"{"])
)


@settings(max_examples=35)
@given(st.lists(st.lists(PAGES, min_size=1, max_size=3), max_size=3))
def test_every_record_is_a_finding_a_duplicate_or_in_the_quarantine(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Any]]
) -> None:
    lake = new_lake(tmp_path_factory)
    result = merged(lake, *files)
    records = sum(1 if isinstance(page, bytes) else len(page) for pages in files for page in pages)
    findings, quarantine = lake.read(MERGED_FINDINGS, DAY), lake.read(QUARANTINE, DAY)
    assert result.records == records
    assert records == findings.height + result.duplicates + quarantine.height
    assert (result.findings.rows, result.quarantine.rows) == (findings.height, quarantine.height)
    assert result.quarantined == quarantine.height == sum(result.reasons.values())
    key = findings.select(pl.col("product_arn").fill_null(""), "finding_id")
    assert key.is_unique().all()


def test_processes_that_share_the_files_make_the_same_rows(lake: Lake) -> None:
    files = [
        [
            [finding(f"{number}-{page}-{row}", Title=str(row)) for row in range(5)]
            + [finding("everywhere", UpdatedAt=f"2026-11-23T0{number}:00:00Z"), 7]
            for page in range(3)
        ]
        for number in range(6)
    ]
    collect(lake, {"0": files[:4], "1": files[4:], "empty": [[[]]]})
    one = merge_pages(lake, DAY, workers=1)
    alone = [lake.read(table, DAY) for table in (MERGED_FINDINGS, QUARANTINE)]
    two = merge_pages(lake, DAY, workers=2)
    shared = [lake.read(table, DAY) for table in (MERGED_FINDINGS, QUARANTINE)]
    for mine, theirs in zip(alone, shared, strict=True):
        assert_frame_equal(theirs, mine)
    assert (one.records, one.duplicates, one.quarantined) == (126, 17, 18)
    assert (two.records, two.duplicates, two.reasons) == (126, 17, one.reasons)
    assert two.findings.sha256 == one.findings.sha256


def test_a_day_without_findings_is_merged_to_no_rows(lake: Lake) -> None:
    result = merged(lake)
    assert (result.records, result.duplicates, result.quarantined) == (0, 0, 0)
    assert lake.read(MERGED_FINDINGS, DAY).is_empty()
    assert lake.read(QUARANTINE, DAY).is_empty()


def test_a_day_that_was_never_collected_cannot_be_merged(lake: Lake) -> None:
    with pytest.raises(LakeError, match="has no raw_finding_pages for 2026-11-23"):
        merge_pages(lake, DAY)
    with pytest.raises(LakeError, match="has no merged_findings for 2026-11-23"):
        split_by_account(lake, DAY)


def test_rows_say_where_they_were_found(lake: Lake) -> None:
    full = [[finding(f"{number}")] for number in range(PAGES_PER_FILE)]
    collect(lake, {"0": [full, [[finding("x")]]], "1": [[[finding("y")]]]})
    merge_pages(lake, DAY)
    rows = lake.read(MERGED_FINDINGS, DAY).select("finding_id", "shard", "page")
    places = {name: (shard, page) for name, shard, page in rows.iter_rows()}
    assert places["0"] == ("0", 0)
    assert places["99"] == ("0", 99)
    assert places["x"] == ("0", PAGES_PER_FILE)
    assert places["y"] == ("1", 0)


def test_quarantined_records_can_be_found_again(lake: Lake) -> None:
    """The file, the line in it and the place on the page lead to the bytes as received."""
    full = [[finding(f"{number}")] for number in range(PAGES_PER_FILE)]
    result = merged(lake, full, [[finding("x")], [finding("y"), {"Id": "z"}], b"<html>"])
    rows = lake.read(QUARANTINE, DAY)
    assert rows["line"].to_list() == [1, 2]
    assert rows["position"].to_list() == [1, None]
    assert rows["record"].to_list() == [b'{"Id": "z"}', b"<html>"]
    (path,) = rows["file"].unique()
    assert Path(lake.root, "raw_finding_pages", f"date={DAY}", path).is_file()
    assert path.endswith("shard=0/pages-00001.ndjson.zst")
    assert set(result.reasons) == set(rows["reason"])


def test_commits_carry_the_facts_of_the_collection(lake: Lake) -> None:
    result = merged(lake, [[finding(), finding(), {"Id": "z"}]])
    for commit in (result.findings, result.quarantine):
        assert commit.details["collected_at"] == "2026-11-23T06:00:00+00:00"
        assert commit.details["collect"] == "all"
        assert "requests" not in commit.details
        assert (commit.details["records"], commit.details["duplicates"]) == (3, 1)
    split, _ = split_by_account(lake, DAY)
    assert split.details["collected_at"] == "2026-11-23T06:00:00+00:00"
    assert split.details["merged_run"] == result.findings.run


def test_progress_is_told_after_each_file(lake: Lake) -> None:
    collect(lake, {"0": [[[finding("a"), finding("b")]], [[finding("c")]]]})
    told: list[int] = []
    merge_pages(lake, DAY, progress=told.append)
    assert told == [2, 3]


def test_merging_again_gives_the_same(lake: Lake) -> None:
    merged(lake, [[finding("a"), finding("b")], [finding("a", Title="t")]])
    before = lake.read(MERGED_FINDINGS, DAY)
    merge_pages(lake, DAY)
    assert lake.read(MERGED_FINDINGS, DAY).equals(before)


# --- duplicates -------------------------------------------------------------------------------

VERSIONS = [
    finding(UpdatedAt=f"2026-11-23T0{hour}:00:00Z", Title=f"version {hour}") for hour in range(3)
]
NEIGHBOURS = [finding("b"), finding("c", AwsAccountId=TWO)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("kind", ["same page", "pages", "files", "shards"])
def test_the_newest_version_wins_wherever_it_stands(
    lake: Lake, order: tuple[int, ...], kind: str
) -> None:
    records = [VERSIONS[number] for number in order]
    apart = [[record, *NEIGHBOURS[:1]] for record in records]
    if kind == "same page":
        collect(lake, {"0": [[[*records, *NEIGHBOURS]]]})
    elif kind == "pages":
        collect(lake, {"0": [apart]})
    elif kind == "files":
        collect(lake, {"0": [[page] for page in apart]})
    else:
        collect(lake, {str(number): [[page]] for number, page in enumerate(apart)})
    result = merge_pages(lake, DAY)
    rows = lake.read(MERGED_FINDINGS, DAY).filter(pl.col("finding_id") == "a")
    assert rows["title"].to_list() == ["version 2"]
    assert result.records == result.findings.rows + result.duplicates


def test_a_version_without_a_time_is_the_oldest(lake: Lake) -> None:
    merged(lake, [[finding(UpdatedAt=None, Title="no time")], [finding(Title="a time")]])
    assert lake.read(MERGED_FINDINGS, DAY)["title"].to_list() == ["a time"]


def test_the_same_id_of_another_product_is_another_finding(lake: Lake) -> None:
    result = merged(lake, [[finding(), finding(ProductArn="arn:other"), finding(ProductArn=None)]])
    assert (result.findings.rows, result.duplicates) == (3, 0)


@settings(max_examples=20)
@given(
    records=st.lists(
        st.builds(
            finding,
            st.sampled_from("ab"),
            Title=st.sampled_from(["one", "two", None]),
            Compliance=st.sampled_from([{"Status": "PASSED"}, {"Status": "FAILED"}, {}, None]),
        ),
        min_size=2,
        max_size=6,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_of_equal_times_the_content_decides_and_not_the_order(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], seed: Any
) -> None:
    one, other = new_lake(tmp_path_factory), new_lake(tmp_path_factory)
    merged(one, [records])
    shuffled = seed.sample(records, len(records))
    cut = seed.randint(0, len(records))
    merged(other, [shuffled[:cut]], [shuffled[cut:]])
    assert content(one).equals(content(other))


def test_of_equal_times_a_failure_wins(lake: Lake) -> None:
    """Between two truths of one moment the worse is kept: a failure is never lost."""
    failed = finding(Compliance={"Status": "FAILED"})
    merged(lake, [[finding(), failed, finding(Compliance=None)]])
    assert lake.read(MERGED_FINDINGS, DAY)["compliance_status"].to_list() == ["FAILED"]


def test_a_file_of_nothing_but_duplicates_may_end_up_empty(lake: Lake) -> None:
    newest = finding(UpdatedAt="2026-11-23T09:00:00Z")
    result = merged(lake, [[finding(), finding()]], [[newest]])
    assert (result.findings.rows, result.duplicates) == (1, 2)
    files = list(Path(lake.root, MERGED_FINDINGS.name).rglob("*.parquet"))
    assert len(files) == result.findings.files == 2
    assert result.findings.bytes == sum(path.stat().st_size for path in files)


# --- splitting --------------------------------------------------------------------------------


def many_accounts(lake: Lake, counts: dict[str, int]) -> None:
    """Findings of several accounts, mixed over pages and files."""
    numbers = range(max(counts.values(), default=0))
    records = [
        finding(f"{account}-{number}", AwsAccountId=account)
        for number in numbers
        for account, count in counts.items()
        if number < count
    ]
    merged(lake, *([records[at : at + 3]] for at in range(0, len(records), 3)))


COUNTS = {"012345678901": 5, "000000000001": 2, "111122223333": 9, "999999999999": 1}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows_in_memory", [1, 2, 5, 7, 10_000])
def test_the_account_files_hold_the_same_rows_one_file_an_account(
    lake: Lake, rows_in_memory: int, workers: int
) -> None:
    many_accounts(lake, COUNTS)
    commit, accounts = split_by_account(lake, DAY, rows_in_memory=rows_in_memory, workers=workers)
    assert (commit.rows, commit.files, accounts) == (sum(COUNTS.values()), 4, 4)
    key = list(MERGED_FINDINGS.key)
    assert (
        lake.read(ACCOUNT_FINDINGS, DAY).sort(key).equals(lake.read(MERGED_FINDINGS, DAY).sort(key))
    )
    for account, count in COUNTS.items():
        folder = Path(lake.root, ACCOUNT_FINDINGS.name, f"date={DAY}", f"run={commit.run}")
        rows = pl.read_parquet(
            folder / f"account_id={account}" / "findings.parquet", hive_partitioning=False
        )
        assert rows["account_id"].to_list() == [account] * count


def test_a_range_of_accounts_opens_only_the_files_that_have_some_of_them(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thousand files, looking into all for every range takes longer than reading."""
    merged(lake, *([[finding(account, AwsAccountId=account)]] for account in COUNTS))
    opened: list[list[str]] = []
    scan_files = Lake.scan_files

    def noted(self: Lake, table: Table, patterns: list[str], **more: Any) -> pl.LazyFrame:
        opened.append(patterns)
        return scan_files(self, table, patterns, **more)

    monkeypatch.setattr(Lake, "scan_files", noted)
    split_by_account(lake, DAY, rows_in_memory=1, workers=1)
    # All files are looked through to count the rows of accounts, and to see which file has whom.
    of_ranges = opened[2:]
    assert [len(patterns) for patterns in of_ranges] == [1] * len(COUNTS)
    assert len({path for patterns in of_ranges for path in patterns}) == len(COUNTS)


def test_a_day_without_findings_is_split_into_one_file_without_rows(lake: Lake) -> None:
    merged(lake)
    commit, accounts = split_by_account(lake, DAY)
    assert (commit.rows, commit.files, accounts) == (0, 1, 0)
    assert lake.read(ACCOUNT_FINDINGS, DAY).is_empty()
    (path,) = Path(lake.root, ACCOUNT_FINDINGS.name).rglob("*.parquet")
    assert path.parent.name.startswith("account_id="), "as DuckDB expects of all paths alike"


@given(
    counts=st.lists(st.integers(1, 50), max_size=30),
    rows_in_memory=st.integers(1, 80),
)
def test_ranges_of_accounts_cover_all_and_stay_within_the_bound(
    counts: list[int], rows_in_memory: int
) -> None:
    accounts = [f"{number:012d}" for number in range(len(counts))]
    frame = pl.DataFrame(
        {"account_id": accounts, "len": counts}, schema={"account_id": pl.String, "len": pl.Int64}
    )
    covered: list[str] = []
    sizes: list[int] = []
    for first, last in account_ranges(frame, rows_in_memory):
        rows = frame.filter(pl.col("account_id").is_between(pl.lit(first), pl.lit(last)))
        covered += rows["account_id"].to_list()
        sizes.append(rows["len"].sum())
        assert rows.height == 1 or sizes[-1] <= rows_in_memory
    assert covered == accounts


# --- raw files that are not as they were committed --------------------------------------------


@pytest.mark.parametrize("left", [0.5, 0.0, None], ids=["cut off", "emptied", "deleted"])
def test_a_raw_file_that_is_not_as_committed_is_an_error_and_no_snapshot_without_it(
    tmp_path: Path, left: float | None
) -> None:
    lake = Lake(str(tmp_path))
    pages = [[finding(f"{file}-{number}") for number in range(40)] for file in range(2)]
    collect(lake, {"0": [[page] for page in pages]})
    (_, path) = sorted(
        each for each in lake.sizes(RAW_FINDING_PAGES) if layout.PAGES_ENDING in each
    )
    data = lake.get(path) or b""
    if left is None:
        lake.delete(path)
    else:
        lake.put(path, data[: int(left * len(data))])
    with pytest.raises(DamagedError, match=f"{path}.*restore it from a backup"):
        merge_pages(lake, DAY)
    assert lake.commit_of(MERGED_FINDINGS.name, DAY) is None
    lake.put(path, data)
    assert merge_pages(lake, DAY).findings.rows == 80
