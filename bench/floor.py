"""The typed limit: reading the pages, typed parsing, writing the rows twice, scoring.

Each part alone and at its best on the given cores: in memory where it can be, without starting an
interpreter, checking anything, or naming a file by its content. No program does all of it so fast.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pyarrow as pa

from posture_pipeline.model import asff

if TYPE_CHECKING:
    from bench.steps import Place

ROUNDS = 3
"""Each part is done so often; the best counts."""


def measured(files: list[Path], place: Place) -> dict[str, float]:
    """Seconds of each part.

    Args:
        files: The raw files.
        place: Where the merged findings are, and how many cores there are.
    """
    with ProcessPoolExecutor(place.cores, mp_context=get_context("spawn")) as pool:
        shares = [files[first :: place.cores] for first in range(place.cores)]
        list(pool.map(_nothing, range(place.cores)))
        read = min(max(pool.map(_read, shares)) for _ in range(ROUNDS))
        both = min(max(pool.map(_read_and_parse, shares)) for _ in range(ROUNDS))
    return {
        "read": read,
        "parse": max(0.0, both - read),
        "write twice": 2 * _written(place),
        "score": _scored(place),
    }


def _nothing(number: int) -> int:
    """Starts a worker, so that nobody's start is measured."""
    time.sleep(0.2)
    return number


def _pages(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        stream = pa.CompressedInputStream(pa.BufferReader(path.read_bytes()), "zstd")
        yield from io.BufferedReader(stream, 1 << 20)


def _read(files: list[Path]) -> float:
    return _timed(lambda: sum(len(page) for page in _pages(files)))


def _read_and_parse(files: list[Path]) -> float:
    decoder = msgspec.json.Decoder(asff.Page)
    return _timed(lambda: sum(len(decoder.decode(page).findings) for page in _pages(files)))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _written(place: Place) -> float:
    """Seconds to write all merged rows once, 10,000 a file, from memory to memory."""
    from bench.organization import FIRST_DAY
    from posture_pipeline.lake.store import ZSTD_LEVEL, Lake
    from posture_pipeline.schemas import MERGED_FINDINGS

    lake = Lake(place.settings.lake)
    run = lake.require(MERGED_FINDINGS.name, FIRST_DAY).run
    files = sorted(
        Path(lake.root, "merged_findings", f"date={FIRST_DAY}", f"run={run}").glob("*.parquet")
    )
    seconds = 0.0

    def write(frame: pl.DataFrame) -> None:
        frame.write_parquet(io.BytesIO(), compression="zstd", compression_level=ZSTD_LEVEL)

    with ThreadPoolExecutor(place.cores) as pool:
        for first in range(0, len(files), 20):
            frames = [pl.read_parquet(path) for path in files[first : first + 20]]
            seconds += min(
                _timed(lambda frames=frames: list(pool.map(write, frames)))  # type: ignore[misc]
                for _ in range(ROUNDS)
            )
    return seconds


def _scored(place: Place) -> float:
    """Seconds from the merged files to passed and failed controls of every account."""
    from bench.organization import FIRST_DAY
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.schemas import MERGED_FINDINGS

    findings = Lake(place.settings.lake).scan(MERGED_FINDINGS, FIRST_DAY)
    counted = (pl.col("record_state") == "ACTIVE") & (pl.col("workflow_status") != "SUPPRESSED")
    query = (
        findings.filter(counted)
        .group_by("account_id", "generator_id")
        .agg(failed=(pl.col("compliance_status") != "PASSED").any())
        .group_by("account_id")
        .agg(pl.len(), pl.col("failed").sum())
    )
    return min(_timed(lambda: query.collect(engine="streaming")) for _ in range(ROUNDS))
