"""One measured step, in a process of its own: `python -m bench.steps STEP ...`.

Prints what it did as JSON. `seconds` is the work alone; the whole process is measured by who
starts it (`measure`). The steps of the pipeline are its real assets, run by Dagster.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.organization import FIRST_DAY, REPORTS, SECOND_DAY, Size, make, settings_of

if TYPE_CHECKING:
    from posture_pipeline.aws.clients import AwsClients

Result = dict[str, Any]

ACCOUNTS, ACCOUNTS_AT_THE_LIMIT = 120, 15
"""Of the simulated organization that is collected from; an account has some ten pages."""

TWO_DAYS_AT_MOST = 1_000_000
"""Findings of an organization that has a second day."""

SCORES = ("control_status", "account_scores", "workload_scores", "organization_scores")
PAGES_TO_SCORES = ("merged_findings", "account_findings", "finding_changes", *SCORES)


def main() -> None:
    """Runs one step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--findings", type=int, required=True)
    parser.add_argument("--accounts", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    arguments = parser.parse_args()
    place = Place(arguments.folder, Size(arguments.findings, arguments.accounts), arguments.cores)
    print(json.dumps(STEPS[arguments.step](place)))


class Place:
    """Where a size's data are, and on how many cores it is worked on."""

    def __init__(self, folder: Path, size: Size, cores: int) -> None:
        self.folder = folder / size.name
        self.size = size
        self.cores = cores
        self.settings = settings_of(str(self.folder / "lake"))

    @property
    def controls(self) -> Path:
        """JSON file of what the reports expect."""
        return self.folder / "controls.json"

    def scores(self, whose: str) -> Path:
        """CSV file of a rival's scores."""
        return self.folder / f"scores-{whose}.csv"

    def raw_files(self, day: date = FIRST_DAY) -> dict[str, list[Path]]:
        """The raw files of each shard."""
        from posture_pipeline.lake import raw_pages
        from posture_pipeline.lake.store import Lake

        found: dict[str, list[Path]] = {}
        root = Path(self.settings.lake, "raw_finding_pages", f"date={day.isoformat()}")
        for shard, path, _ in raw_pages.raw_files(Lake(self.settings.lake), day):
            found.setdefault(shard, []).append(root / path)
        return found


def _make(place: Place) -> Result:
    """The data of a size, where they are not there yet."""
    from posture_pipeline.lake import snapshot
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.schemas import RAW_FINDING_PAGES

    lake = Lake(place.settings.lake)
    began = time.perf_counter()
    days = (FIRST_DAY, SECOND_DAY) if place.size.findings <= TWO_DAYS_AT_MOST else (FIRST_DAY,)
    for day in days:
        if lake.commit_of(RAW_FINDING_PAGES, day) is None:
            make(lake, place.size, day)
    expected = snapshot.expected_on(lake, REPORTS, FIRST_DAY).controls
    controls = [
        {
            "report": report.name,
            "standard": report.standard and f"standards/{report.standard}",
            "controls": expected.filter(expected["report"] == report.name)["control_id"].to_list(),
        }
        for report in REPORTS
    ]
    place.controls.write_text(json.dumps(controls), encoding="utf-8")
    commit = lake.require(RAW_FINDING_PAGES, FIRST_DAY)
    return {
        "seconds": time.perf_counter() - began,
        "findings": commit.rows,
        "bytes": commit.bytes,
    }


# --- the pipeline -----------------------------------------------------------------------------


def _materialize(place: Place, day: date, assets: tuple[str, ...]) -> Result:
    """Some assets of the daily job, in one process, recorded as any run is."""
    from posture_pipeline.running import dagster_instance

    with dagster_instance(place.settings) as instance:
        import dagster as dg

        from posture_pipeline.automation import DAILY_JOB
        from posture_pipeline.definitions import build_definitions

        job = build_definitions(place.settings).resolve_job_def(DAILY_JOB)
        began = time.perf_counter()
        result = job.execute_in_process(
            instance=instance,
            partition_key=day.isoformat(),
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        seconds = time.perf_counter() - began
    times: dict[str, float] = {}
    for event in result.all_node_events:
        if event.event_type_value == "STEP_SUCCESS":
            times[str(event.step_key)] = event.step_success_data.duration_ms / 1000
    return {"seconds": seconds, "findings": place.size.findings, "steps": times}


def _whole(place: Place) -> Result:
    """Pages to scores, on a lake without an earlier day."""
    return _materialize(place, FIRST_DAY, PAGES_TO_SCORES)


def _second_day(place: Place) -> Result:
    """Pages to scores where there is an earlier day: with what became of every finding."""
    return _materialize(place, SECOND_DAY, PAGES_TO_SCORES)


def _scoring(place: Place) -> Result:
    """The rules alone: merged findings on disk to the scores of every scope, nothing written."""
    from posture_pipeline.lake import snapshot
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.model import scoring

    lake, settings = Lake(place.settings.lake), place.settings
    expected = snapshot.expected_of(lake, settings.reports, FIRST_DAY)
    accounts = snapshot.scored_accounts(snapshot.accounts_of(lake, settings, FIRST_DAY))
    context = snapshot.score_context(lake, settings, FIRST_DAY)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        status = snapshot.control_status_of(lake, settings, FIRST_DAY)
        times.append(time.perf_counter() - began)
        scoring.account_scores(status, expected, accounts, context)
        scoring.workload_scores(status, expected, accounts, context)
        scoring.organization_scores(status, expected, accounts, context)
        times[-1] = time.perf_counter() - began
    return {"seconds": min(times), "findings": place.size.findings}


# --- collecting -------------------------------------------------------------------------------

_SERVER = """
import sys
from posture_pipeline.simulation import finding_store
from posture_pipeline.simulation.server import serve
from posture_pipeline.simulation.settings import RateLimit, SimulationSettings
finding_store.CACHE_BYTES = 1 << 30
accounts, resources, limited = (int(each) for each in sys.argv[1:])
settings = SimulationSettings(
    accounts=accounts,
    resources_per_account=resources,
    rate_limit=RateLimit() if limited else None,
)
with serve(settings) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def _collect(place: Place, accounts: int, *, limited: bool = False) -> Result:
    """The collector at the simulated organization, which answers from a process of its own.

    Without a rate limit it has all pages made beforehand, by a first collection: making them takes
    it longer than the collector needs for them.
    """
    from posture_pipeline.aws.clients import AwsClients
    from posture_pipeline.settings import Aws

    command = [sys.executable, "-c", _SERVER, str(accounts), "200", str(int(limited))]
    with subprocess.Popen(  # noqa: S603 - our own server
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        clients = AwsClients(Aws(endpoint_url=server.stdout.readline().strip()))
        if not limited:
            _collected(place.folder / "collected", clients, limited=False)
        result = _collected(place.folder / "collected", clients, limited=limited)
        server.terminate()
    return result


def _collected(folder: Path, clients: AwsClients, *, limited: bool) -> Result:
    import math

    from posture_pipeline.aws.rate import RateBudget
    from posture_pipeline.aws.security_hub import collect
    from posture_pipeline.lake.raw_pages import RawPagesWriter
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import DEMO_REPORTS, Settings

    shutil.rmtree(folder, ignore_errors=True)
    day = clients.now().date()
    began, cpu = time.perf_counter(), time.process_time()
    collected = collect(
        clients,
        Settings(lake=str(folder), reports=DEMO_REPORTS),
        RawPagesWriter(Lake(str(folder)), day),
        day=day,
        budgets=lambda _: RateBudget() if limited else RateBudget(math.inf),
    )
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    shutil.rmtree(folder)
    return {
        "seconds": seconds,
        "cpu": cpu,
        "findings": collected.findings,
        "pages": collected.pages,
        "throttled": collected.throttled,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


# --- what the file system and parquet cost ----------------------------------------------------


def _hundred_files(place: Place) -> Result:
    """The yardstick of the account files: the same rows as 100 files, and 1,000 creations."""
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.schemas import MERGED_FINDINGS

    lake = Lake(place.settings.lake)
    scratch = place.folder / "hundred-files"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    commit = lake.require(MERGED_FINDINGS.name, FIRST_DAY)
    began = time.perf_counter()
    merged = Path(lake.root, "merged_findings", f"date={FIRST_DAY}", f"run={commit.run}")
    _write_again(sorted(merged.glob("*.parquet")), scratch, place.cores)
    for number in range(place.size.accounts):
        (scratch / f"account-{number}").mkdir()
        (scratch / f"account-{number}" / "file").touch()
    seconds = time.perf_counter() - began
    shutil.rmtree(scratch)
    return {"seconds": seconds, "findings": place.size.findings}


def _write_again(files: list[Path], to: Path, threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import polars as pl

    from posture_pipeline.lake.store import ZSTD_LEVEL

    def again(path: Path) -> None:
        rows = pl.read_parquet(path)
        rows.write_parquet(to / path.name, compression="zstd", compression_level=ZSTD_LEVEL)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(again, files))


def _floor(place: Place) -> Result:
    """The typed limit: each part of the work at its measured best on these cores, nothing else."""
    from bench.floor import measured

    parts = measured([each for files in place.raw_files().values() for each in files], place)
    return {
        "seconds": sum(parts.values()),
        "findings": place.size.findings,
        "steps": parts,
    }


# --- the rivals -------------------------------------------------------------------------------


def _duckdb(place: Place) -> Result:
    from bench.rivals import duckdb_script

    root = place.settings.lake
    pages = f"{root}/raw_finding_pages/date={FIRST_DAY}/run=*/shard=*/pages-*.ndjson.zst"
    began = time.perf_counter()
    duckdb_script(pages, place.controls, place.scores("duckdb"), cores=place.cores)
    return {"seconds": time.perf_counter() - began, "findings": place.size.findings}


def _boto3(place: Place) -> Result:
    from bench.rivals import boto3_loop

    files = list(place.raw_files().values())
    began = time.perf_counter()
    findings = boto3_loop(files, place.controls, place.scores("boto3"))
    return {"seconds": time.perf_counter() - began, "findings": findings}


def _compare(place: Place) -> Result:
    """Whether the rivals that ran have the pipeline's scores; an error if not."""
    import polars as pl
    from polars.testing import assert_frame_equal

    from bench.rivals import SCORES as COMPARED
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.schemas import ACCOUNT_SCORES

    schema = {name: ACCOUNT_SCORES.schema[name] for name in COMPARED}
    ours = Lake(place.settings.lake).read(ACCOUNT_SCORES, FIRST_DAY).select(COMPARED)
    ours = ours.filter(pl.col("score").is_not_null()).sort("report", "account_id")
    compared = []
    for whose in ("duckdb", "boto3"):
        if not place.scores(whose).exists():
            continue
        theirs = pl.read_csv(place.scores(whose), schema_overrides=schema).select(COMPARED)
        theirs = theirs.filter(pl.col("score").is_not_null()).sort("report", "account_id")
        assert_frame_equal(ours, theirs, abs_tol=1e-9)
        compared.append(whose)
    return {"seconds": 0.0, "scores": ours.height, "equal": compared}


STEPS: dict[str, Callable[[Place], Result]] = {
    "make": _make,
    "whole": _whole,
    "second day": _second_day,
    "scoring": _scoring,
    "hundred files": _hundred_files,
    "floor": _floor,
    "duckdb": _duckdb,
    "boto3": _boto3,
    "compare": _compare,
    "collect": lambda place: _collect(place, ACCOUNTS),
    "collect twice as much": lambda place: _collect(place, 2 * ACCOUNTS),
    "collect at the limit": lambda place: _collect(place, ACCOUNTS_AT_THE_LIMIT, limited=True),
    **{name: partial(_materialize, day=FIRST_DAY, assets=(name,)) for name in PAGES_TO_SCORES},
}

if __name__ == "__main__":
    main()
