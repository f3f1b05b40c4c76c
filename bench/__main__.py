"""`make bench`: measures the pipeline, its rivals and its floor; prints a table, writes JSON.

Every step runs in a process of its own, in turn with the others, so that a slow minute of the
machine meets all of them: the figures that count are ratios in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Measured, StepFailedError, measured, measured_command
from bench.report import judged, tables, written_into

Sizes = list[tuple[int, int]]

ONE_BY_ONE = (
    "merged_findings",
    "account_findings",
    "hundred files",
    "finding_changes",
    "control_status",
    "account_scores",
    "workload_scores",
    "organization_scores",
    "scoring",
)
WHOLE = ("whole", "duckdb", "floor")
ONCE = ("boto3", "second day")
COLLECTING = ("collect", "collect twice as much", "collect at the limit")
ONCE_ABOVE = 1_000_000  # as steps.TWO_DAYS_AT_MOST, which loads too much to be had here
"""Findings above which steps are run once, and neither the boto3 loop, which takes minutes for a
million in any case, nor a second day."""
BYTES_A_FINDING = 2_000
"""Of disk, for two days of pages and every table, the large ones several times."""
ASIDE = "aside"
MADE = ("raw_finding_pages", "organization_accounts", "listed_controls")
"""Tables that the step `make` writes: all others are made from them."""


def main() -> int:
    """Runs the benchmark; 1 when a step failed or the scores are not equal."""
    arguments = _arguments()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    needed = max(findings for findings, _ in arguments.sizes) * BYTES_A_FINDING
    if shutil.disk_usage(folder).free < needed:
        print(f"bench: {folder} needs {needed / 1e9:.0f} GB of free disk.", file=sys.stderr)
        return 1
    runs = []
    try:
        for findings, accounts in arguments.sizes:
            runs.append(_size(arguments, folder, findings, accounts))
        once = _once(folder, arguments)
    except StepFailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    results = {
        "machine": _machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": _command(arguments),
        "sizes": runs,
        "once": once,
    }
    results["targets"] = judged(results)
    file = arguments.json or folder / "results.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = tables(results)
    print(text)
    if arguments.docs is not None:
        written_into(arguments.docs, text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=_sizes("100000x1000,1000000x1000,10000000x5000"),
        metavar="FxA,...",
        help="findings x accounts (default: 100000x1000,1000000x1000,10000000x5000)",
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--cores",
        type=lambda text: [int(each) for each in text.split(",")],
        default=sorted({1, min(2, cores)}),
        metavar="N,...",
        help="cores (default: 1 and 2)",
    )
    parser.add_argument(
        "--repetitions", type=int, default=3, help="of each step, in turn (default: 3)"
    )
    chosen = (*ONE_BY_ONE, *ONCE, *COLLECTING)
    parser.add_argument(
        "--steps",
        type=lambda text: text.split(","),
        default=chosen,
        metavar="STEP,...",
        help=f"beside {', '.join(WHOLE)} (default: {','.join(chosen)})",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir(), "posture-bench"),
        help="for the data, which are kept for the next time",
    )
    parser.add_argument(
        "--json", type=Path, help="file of the results (default: results.json in the folder)"
    )
    parser.add_argument(
        "--docs", type=Path, help="write the tables into this file, between its markers"
    )
    return parser.parse_args()


def _sizes(text: str) -> Sizes:
    try:
        pairs = [each.split("x") for each in text.split(",")]
        return [(int(findings), int(accounts)) for findings, accounts in pairs]
    except ValueError as error:
        message = f"{text!r} is no list such as 100000x1000,1000000x1000"
        raise argparse.ArgumentTypeError(message) from error


def _size(
    arguments: argparse.Namespace, folder: Path, findings: int, accounts: int
) -> dict[str, object]:
    """Every step of a size, interleaved."""
    options = _options(folder, findings, accounts)
    cores: list[int] = arguments.cores
    most = max(cores)
    place = folder / f"{findings}x{accounts}"
    shutil.rmtree(place / ASIDE, ignore_errors=True)
    made = _told(findings, "make", options, most)
    for old in place.glob("scores-*.csv"):
        old.unlink()
    small = findings <= ONCE_ABOVE
    found: list[Measured] = []
    for repetition in range(arguments.repetitions):
        for on in cores:
            steps = [*WHOLE, *(ONE_BY_ONE if repetition == 0 or small else ())]
            if repetition == 0 and on == most and small:
                steps += ONCE
            for step in steps:
                if step in WHOLE or step in arguments.steps:
                    _put_aside(place, step)
                    found.append(_told(findings, step, options, on))
    shutil.rmtree(place / ASIDE, ignore_errors=True)
    equal = measured("compare", options, most).result
    return {
        "findings": findings,
        "accounts": accounts,
        "bytes_of_pages": made.result["bytes"],
        "scores_equal_to": equal["equal"],
        "scores_compared": equal["scores"],
        "runs": [each.as_json() for each in found],
    }


def _put_aside(place: Path, step: str) -> None:
    """Takes what an earlier step of the same kind wrote out of the lake: a day is made once.

    Else the step would delete it, a thousand folders. Nor is that done before it: some file systems
    look for a free place much longer where much was deleted in the last minutes.
    """
    lake, aside = place / "lake", place / ASIDE
    aside.mkdir(exist_ok=True)
    tables = [each for each in lake.iterdir() if each.is_dir() and not each.name.startswith(".")]
    for table in tables:
        if table.name == step or (step == "whole" and table.name not in MADE):
            table.rename(aside / str(len(list(aside.iterdir()))))


def _once(folder: Path, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """What does not depend on the size: collecting, and what a command costs before it works."""
    findings, accounts = min(arguments.sizes)
    options = _options(folder, findings, accounts)
    most = max(arguments.cores)
    found = [_told(0, step, options, most) for step in COLLECTING if step in arguments.steps]
    lake = str(folder / f"{findings}x{accounts}" / "lake")
    posture = [sys.executable, "-m", "posture_pipeline"]
    commands = {
        "posture --help": [*posture, "--help"],
        "posture scores": [*posture, "scores", "--lake", lake, "--scope", "organization"],
    }
    found += [
        measured_command(name, command, most)
        for _ in range(arguments.repetitions)
        for name, command in commands.items()
    ]
    return [each.as_json() for each in found]


def _options(folder: Path, findings: int, accounts: int) -> list[str]:
    return ["--folder", str(folder), "--findings", str(findings), "--accounts", str(accounts)]


def _told(findings: int, step: str, options: Sequence[str], cores: int) -> Measured:
    done = measured(step, options, cores)
    print(
        f"{findings:>12,} findings  {cores} cores  {step:<20} {done.wall:8.2f} s wall "
        f"{done.cpu:8.2f} s CPU {done.megabytes:8.0f} MB",
        file=sys.stderr,
        flush=True,
    )
    return done


def _command(arguments: argparse.Namespace) -> str:
    """How to get the same figures again, without the places of this machine."""
    sizes = ",".join(f"{findings}x{accounts}" for findings, accounts in arguments.sizes)
    cores = ",".join(map(str, arguments.cores))
    command = f"python -m bench --sizes {sizes} --cores {cores}"
    command += f" --repetitions {arguments.repetitions}"
    if tuple(arguments.steps) != (*ONE_BY_ONE, *ONCE, *COLLECTING):
        command += f" --steps '{','.join(arguments.steps)}'"
    return command


def _machine() -> dict[str, object]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = subprocess.run(
        [
            sys.executable,
            "-c",
            "import polars, duckdb, msgspec, boto3, pyarrow\n"
            "for each in (polars, duckdb, msgspec, boto3, pyarrow):\n"
            "    print(each.__name__, each.__version__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "python": platform.python_version(),
        **dict(line.split() for line in versions.stdout.splitlines()),
    }


if __name__ == "__main__":
    raise SystemExit(main())
