"""The large tables of findings: raw pages merged into parquet, then split into account files.

Memory stays flat whatever the number of findings: one raw file, or one group of accounts, at a
time. What a record means is decided in `model/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from posture_pipeline.lake import layout
from posture_pipeline.lake.processes import (
    in_order,
    in_order_by_threads,
    usable_cores,
    usable_processes,
)
from posture_pipeline.lake.raw_pages import raw_files, read_file, views_of_pages
from posture_pipeline.lake.store import Commit, Lake, PartitionWriter, as_parquet
from posture_pipeline.model.asff import parse_pages
from posture_pipeline.model.collection import UPDATES_OF_SHARD, is_updates_shard
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    MERGED_FINDINGS,
    QUARANTINE,
    RAW_FINDING_PAGES,
)

FINDINGS_FOR_PROCESSES = 200_000
"""Findings from which on raw files are shared among processes: starting one takes as long as
merging 40,000, and 0.2 GB of memory, so that fewer gain little."""

ROWS_IN_MEMORY = (50_000, 400_000)
"""Findings held at once while splitting by account: by a worker at least, by all of them at most.
0.1 to 0.8 GB."""

PASSES = 40
"""Groups of accounts that a day is split in, as far as memory allows: each reads anew."""

NO_ACCOUNT = "none"
"""Folder of the one file of a day without findings, which has no rows."""

CARRIED = ("collected_at", "collect", "source", "archived_findings", "regions_left_out")
"""Facts of the collection that every later commit of the day keeps."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging made of the records of a day.

    `records == findings + duplicates + quarantined` always holds.

    Attributes:
        moved: Findings that changed, or came, while the pages were collected: only what was asked
            afterwards, for updates, brought them or their newest state.
    """

    findings: Commit
    quarantine: Commit
    records: int
    duplicates: int
    quarantined: int
    moved: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _RawFile:
    """One raw file: where it is, and what is in it."""

    day: date
    shard: str
    path: str
    first_page: int
    data: bytes
    collected_at: datetime | None


@dataclass(frozen=True, slots=True)
class _MergedFile:
    """What one raw file becomes.

    Attributes:
        parquet: A file with its findings; empty if it has none.
        rows: How many these are.
        keys: The hash of the key of each.
        quarantine: Its records that were set aside.
        records: All its records.
    """

    parquet: bytes
    rows: int
    keys: pl.Series
    quarantine: pl.DataFrame
    records: int


@dataclass(frozen=True, slots=True)
class _WrittenFile:
    """A file of merged findings: the hash of each key, and whether updates were asked for."""

    name: str
    keys: pl.Series
    updates: bool


def merge_pages(
    lake: Lake,
    day: date,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Merged:
    """Merges each raw file of a day into one parquet file of findings; bad records set aside.

    A finding that was collected more than once (the set moved while paging) is kept once, by its
    newest UpdatedAt.

    Args:
        lake: Where the pages are, and where the tables go.
        day: The partition.
        workers: Processes that share the files; null: one for each core, if there are
            `FINDINGS_FOR_PROCESSES`.
        progress: Told the number of records read so far, after each file.

    Raises:
        LakeError: The day was never collected.
        PostureError: A process was killed.
    """
    raw = lake.require(RAW_FINDING_PAGES, day)
    files = list(raw_files(lake, day))
    if workers is None:
        workers = usable_processes() if raw.rows >= FINDINGS_FOR_PROCESSES else 1
    collected_at = raw.details.get("collected_at")
    complete = None if collected_at is None else datetime.fromisoformat(collected_at)
    jobs = (
        _RawFile(day, shard, path, first_page, read_file(lake, day, path), complete)
        for shard, path, first_page in files
    )
    of_updates = [is_updates_shard(shard) for shard, _, _ in files]
    findings = lake.write(MERGED_FINDINGS, day)
    quarantine = lake.write(QUARANTINE, day)
    written: list[_WrittenFile] = []
    reasons: dict[str, int] = {}
    records = 0
    for merged, updates in zip(in_order(_merge_file, jobs, workers), of_updates, strict=True):
        records += merged.records
        if merged.rows:
            name = findings.add_parquet(merged.parquet, merged.rows)
            written.append(_WrittenFile(name, merged.keys, updates))
        if merged.quarantine.height:
            quarantine.add(merged.quarantine)
            for reason, count in merged.quarantine["reason"].value_counts().iter_rows():
                reasons[reason] = reasons.get(reason, 0) + count
        progress(records)
    duplicates, moved = _drop_duplicates(findings, written)
    carried = {name: raw.details[name] for name in CARRIED if name in raw.details}
    quarantined = quarantine.rows
    details: dict[str, Any] = {
        **carried,
        "records": records,
        "duplicates": duplicates,
        "quarantined": quarantined,
        "moved": moved,
        "raw_run": raw.run,
    }
    return Merged(
        quarantine=quarantine.commit(details),
        findings=findings.commit(details),
        records=records,
        duplicates=duplicates,
        quarantined=quarantined,
        moved=moved,
        reasons=reasons,
    )


def _merge_file(file: _RawFile) -> _MergedFile:
    """Merges one raw file; in memory alone, so that it can be done in any process."""
    pages = enumerate(views_of_pages(file.data), file.first_page)
    parsed = parse_pages(pages, day=file.day, shard=file.shard, collected_at=file.collected_at)
    findings = parsed.findings
    return _MergedFile(
        parquet=as_parquet(MERGED_FINDINGS, file.day, findings) if findings.height else b"",
        rows=findings.height,
        keys=_key_hash(findings),
        quarantine=parsed.quarantine.with_columns(
            pl.lit(file.path).alias("file"), pl.col("line") - file.first_page
        ),
        records=parsed.records,
    )


def split_by_account(
    lake: Lake, day: date, *, rows_in_memory: int | None = None, workers: int | None = None
) -> tuple[Commit, int]:
    """Writes the findings of a day once more, one parquet file an account.

    Args:
        lake: Where both tables are.
        day: The partition.
        rows_in_memory: Findings that a worker holds at once, unless one account has more; null:
            see `ROWS_IN_MEMORY`.
        workers: Threads that share the accounts; null: one for each core.

    Returns:
        The commit and the number of accounts.

    Raises:
        LakeError: The day was never merged.
    """
    merged = lake.require(MERGED_FINDINGS.name, day)
    scan = lake.scan(MERGED_FINDINGS, day)
    counts = scan.group_by("account_id").len().sort("account_id").collect(engine="streaming")
    writer = lake.write(ACCOUNT_FINDINGS, day)
    if counts.is_empty():
        # In a folder like every other file: DuckDB wants the same partitions in all paths.
        writer.add(ACCOUNT_FINDINGS.empty(), layout.account_part(NO_ACCOUNT))
    workers = usable_cores() if workers is None else workers
    if rows_in_memory is None:
        least, most = ROWS_IN_MEMORY
        rows_in_memory = min(most // workers, max(least, merged.rows // PASSES))

    spans = _spans_of_files(lake, day, merged)

    def files_of(accounts: tuple[str, str]) -> tuple[dict[str, bytes], int]:
        first, last = accounts
        near = [path for path, lowest, highest in spans if lowest <= last and highest >= first]
        findings = lake.scan_files(MERGED_FINDINGS, near).filter(
            pl.col("account_id").is_between(pl.lit(first), pl.lit(last))
        )
        rows = findings.collect(engine="streaming")
        by_account = rows.partition_by("account_id", maintain_order=True, as_dict=True)
        return {
            layout.account_part(str(account)): as_parquet(ACCOUNT_FINDINGS, day, of_account)
            for (account,), of_account in by_account.items()
        }, rows.height

    ranges = account_ranges(counts, rows_in_memory)
    for files, rows in in_order_by_threads(files_of, ranges, workers):
        writer.add_all_parquet(files, rows)
    carried = {name: merged.details[name] for name in CARRIED if name in merged.details}
    commit = writer.commit({**carried, "accounts": counts.height, "merged_run": merged.run})
    return commit, counts.height


def _spans_of_files(lake: Lake, day: date, merged: Commit) -> list[tuple[str, str, str]]:
    """Each file of the merged findings with the first and the last account that it has.

    So that a range of accounts opens only the files that have some of them: to look into the
    others, as a filter does, takes longer than to read the rows when there are a thousand files.
    """
    files = lake.files(MERGED_FINDINGS.name, day, merged)
    account = pl.col("account_id")
    spans = (
        lake.scan_files(MERGED_FINDINGS, files, file="file")
        .group_by("file")
        .agg(first=account.min(), last=account.max())
        .collect(engine="streaming")
    )
    by_name = {path.rpartition("/")[2]: span for path, *span in spans.iter_rows()}
    return [
        (file, *by_name[name]) for file in files if (name := file.rpartition("/")[2]) in by_name
    ]


def account_ranges(counts: pl.DataFrame, rows_in_memory: int) -> Iterator[tuple[str, str]]:
    """First and last of neighbouring account ids that hold at most so many rows together.

    An account with more rows than that is a range of its own. Ranges rather than sets: the files
    of a shard have neighbouring ids, so that the others are skipped by their statistics.

    Args:
        counts: account_id and number of rows, sorted by account_id.
        rows_in_memory: The most rows of a range of several accounts.
    """
    first = last = None
    rows = 0
    for account_id, count in counts.iter_rows():
        if first is not None and last is not None and rows + count > rows_in_memory:
            yield first, last
            first, rows = None, 0
        first = first or account_id
        last = account_id
        rows += count
    if first is not None and last is not None:
        yield first, last


def _key_hash(findings: pl.DataFrame) -> pl.Series:
    return findings.select(pl.struct(*_KEY).hash(seed=0)).to_series()


def _drop_duplicates(writer: PartitionWriter, files: list[_WrittenFile]) -> tuple[int, int]:
    """Removes all but the newest of findings with the same key.

    Hashes find the candidates without holding the snapshot; the real keys decide.

    Returns:
        How many went, and how many findings moved while they were collected: see `Merged`.
    """
    if not files:
        return 0, 0
    hashes = pl.concat([file.keys for file in files])
    twice = hashes.filter(hashes.is_duplicated()).unique()
    once = sum(int((~file.keys.is_in(twice.implode())).sum()) for file in files if file.updates)
    if twice.is_empty():
        return 0, once
    candidates = []
    for file in files:
        if not file.keys.is_in(twice.implode()).any():
            continue
        rows = writer.read(file.name)
        candidates.append(
            rows.with_row_index("row")
            .filter(_key_hash(rows).is_in(twice.implode()))
            .with_columns(pl.lit(file.name).alias("file"))
        )
    ranked = _newest_first(pl.concat(candidates))
    losers = ranked.filter(pl.col("n") > 0).select("file", "row")
    for (name,), rows in losers.group_by("file"):
        kept = writer.read(str(name)).with_row_index("row").join(rows, on="row", how="anti")
        writer.rewrite(str(name), kept.drop("row"), dropped=rows.height)
    return losers.height, once + _moved(ranked)


_KEY = (pl.col("product_arn").fill_null(""), pl.col("finding_id"))


def _newest_first(candidates: pl.DataFrame) -> pl.DataFrame:
    """Rows numbered from 0 (`n`) within their key: a newer row replaces all behind it.

    Of equal times the one that was asked for later is newer, since a change of the workflow leaves
    UpdatedAt as it is. What else is equal is decided by content alone, a failure first, so that
    the order in which the pages came does not matter.
    """
    content = pl.struct(pl.exclude("file", "row", "shard", "page")).hash(seed=0)
    return (
        candidates.with_columns(
            content.alias("content"),
            (pl.col("compliance_status") == "FAILED").fill_null(value=False).alias("failed"),
            pl.col("shard")
            .str.extract(UPDATES_OF_SHARD)
            .cast(pl.Int32)
            .fill_null(0)
            .alias("updates_pass"),
        )
        .sort(
            ["updated_at", "updates_pass", "failed", "content", "file", "row"],
            descending=[True, True, True, False, False, False],
            nulls_last=True,
        )
        .with_columns(pl.int_range(pl.len()).over(*_KEY).alias("n"))
    )


def _moved(ranked: pl.DataFrame) -> int:
    """Findings whose newest time only a pass for updates brought."""
    paged = pl.col("updates_pass") == 0
    return (
        ranked.group_by(*_KEY)
        .agg(
            newest=pl.col("updated_at").max(),
            paged=pl.col("updated_at").filter(paged).max(),
            of_updates=(~paged).any(),
        )
        .filter("of_updates", pl.col("newest").ne_missing(pl.col("paged")))
        .height
    )
