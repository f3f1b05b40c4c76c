"""The results as tables in markdown, and the targets: ratios in one run, held against a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

BEGIN = "<!-- results of make bench: begin -->"
END = "<!-- results of make bench: end -->"

PAGE_SIZE = 100
REQUESTS_PER_SECOND = 3
"""GetFindings: findings of a page, and requests that AWS allows (botocore's service model)."""

Results = dict[str, Any]


def judged(results: Results) -> list[dict[str, Any]]:
    """Each target with what was measured; those whose sizes were not run are left out."""
    by_size = {size["findings"]: size for size in results["sizes"]}
    found: list[dict[str, Any]] = []

    def add(name: str, value: float | None, limit: float, *, least: bool = False) -> None:
        if value is not None:
            held = value >= limit if least else value <= limit
            found.append({"target": name, "measured": value, "limit": limit, "held": held})

    for findings, size in by_size.items():
        cores = max((run["cores"] for run in size["runs"]), default=1)
        whole, floor = (_wall(size, step, cores) for step in ("whole", "floor"))
        label = f"{findings:,} findings, {cores} cores"
        limit = _inner(size, "floor", cores)
        add(
            f"{label}: pages to scores / DuckDB script",
            _over(whole, _wall(size, "duckdb", cores)),
            1,
        )
        cpu = _over(_middle(size, "whole", "cpu", cores), _middle(size, "duckdb", "cpu", cores))
        add(f"{label}: the same, CPU time", cpu, 1)
        add(
            f"{label}: boto3 loop / pages to scores",
            _over(_wall(size, "boto3", cores), whole),
            10,
            least=True,
        )
        if floor is not None:
            add(f"{label}: pages to scores / typed limit", _over(whole, limit), 2.5)
        add(
            f"{label}: account files / the same rows in 100 files",
            _over(_part(size, "account_findings", cores), _inner(size, "hundred files", cores)),
            1.3,
        )
        scoring = _inner(size, "scoring", cores)
        add(
            f"{label}: scoring alone, findings a second",
            scoring and findings / scoring,
            5_000_000,
            least=True,
        )
        memory = {1_000_000: 600, 10_000_000: 1500}.get(findings)
        if memory:
            add(f"{label}: memory, MB", _most(size, "whole", "megabytes", cores), memory)
    if {1_000_000, 10_000_000} <= by_size.keys():
        small, large = by_size[1_000_000], by_size[10_000_000]
        cores = max(run["cores"] for run in large["runs"])
        a_finding = [
            (_wall(size, "whole", cores) or 0) / size["findings"] for size in (large, small)
        ]
        add("cost of a finding at 10 million / at 1 million", _over(*a_finding), 1.1)
    once = {run["step"]: run for run in results["once"]}
    for name in ("posture --help", "posture scores"):
        walls = [run["wall"] for run in results["once"] if run["step"] == name]
        add(f"{name}, seconds", median(walls) if walls else None, 0.5)
    if (run := once.get("collect")) is not None:
        said = run["result"]
        fast = 40 * PAGE_SIZE * REQUESTS_PER_SECOND
        add("collecting, findings a second", said["findings"] / said["seconds"], fast, least=True)
        add(
            "collecting, findings a second of its own CPU time",
            said["findings"] / said["cpu"],
            fast,
            least=True,
        )
        twice = once.get("collect twice as much")
        if twice is not None:
            more = twice["result"]["megabytes"] / said["megabytes"]
            add("collecting, memory for twice the pages / for the pages", more, 1.1)
    if (run := once.get("collect at the limit")) is not None:
        said = run["result"]
        ideal = (said["pages"] - 1) / REQUESTS_PER_SECOND
        add("collecting at the rate limit, time / ideal time", said["seconds"] / ideal, 1.03)
        add("collecting at the rate limit, requests refused", said["throttled"], 0)
    return found


def tables(results: Results) -> str:
    """The results for people, in markdown."""
    machine = results["machine"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("polars", "duckdb", "msgspec", "boto3", "pyarrow")
    )
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; Python "
        f"{machine['python']}, {versions}. {results['date']}, `{results['command']}`. Medians.",
        "",
    ]
    for size in results["sizes"]:
        lines += [
            f"**{size['findings']:,} findings of {size['accounts']:,} accounts** "
            f"({size['bytes_of_pages'] / 1e6:,.0f} MB of compressed pages; "
            f"{size['scores_compared']:,} scores equal to those of: "
            f"{', '.join(size['scores_equal_to'])})",
            "",
            "| step | cores | wall s | CPU s | findings/s | work alone s | peak MB |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for step, cores in dict.fromkeys((run["step"], run["cores"]) for run in size["runs"]):
            wall = _wall(size, step, cores) or 0.0
            cpu = _middle(size, step, "cpu", cores) or 0.0
            inner = _inner(size, step, cores) or 0.0
            most = _most(size, step, "megabytes", cores) or 0.0
            lines.append(
                f"| {_NAMES.get(step, step)} | {cores} | {wall:,.2f} | {cpu:,.2f} | "
                f"{size['findings'] / wall:,.0f} | {inner:,.2f} | {most:,.0f} |"
            )
        lines.append("")
        for step, title in (("whole", "Of pages to scores"), ("floor", "Of the typed limit")):
            for cores in dict.fromkeys(run["cores"] for run in size["runs"]):
                parts = _parts(size, step, cores)
                if parts:
                    said = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
                    lines.append(f"{title}, seconds on {cores} cores: {said}.")
        lines.append("")
    lines += ["| once | wall s | CPU s | peak MB |", "|---|--:|--:|--:|"]
    for name in dict.fromkeys(run["step"] for run in results["once"]):
        runs = [run for run in results["once"] if run["step"] == name]
        wall, cpu, most = (median(run[key] for run in runs) for key in ("wall", "cpu", "megabytes"))
        lines.append(f"| {name} | {wall:,.2f} | {cpu:,.2f} | {most:,.0f} |")
    lines += ["", "| target | measured | limit | held |", "|---|--:|--:|---|"]
    for each in results["targets"]:
        lines.append(
            f"| {each['target']} | {each['measured']:,.2f} | {each['limit']:,} | "
            f"{'yes' if each['held'] else 'no'} |"
        )
    return "\n".join(lines)


_NAMES = {
    "whole": "**pages to scores**, all assets",
    "second day": "pages to scores, with an earlier day",
    "duckdb": "rival: DuckDB script",
    "boto3": "rival: boto3 and a Python loop",
    "floor": "typed limit",
    "hundred files": "yardstick: the same rows in 100 files",
    "scoring": "scoring alone (three times)",
}


def written_into(path: Path, text: str) -> None:
    """Replaces what stands between the markers of a file.

    Raises:
        ValueError: The file lacks them.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"{path} lacks the line {BEGIN} or {END}"
        raise ValueError(message)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _values(
    size: Results, step: str, cores: int, value: Callable[[Results], float | None]
) -> list[float]:
    found = (value(run) for run in size["runs"] if run["step"] == step and run["cores"] == cores)
    return [each for each in found if each is not None]


def _middle(size: Results, step: str, name: str, cores: int) -> float | None:
    values = _values(size, step, cores, lambda run: run[name])
    return median(values) if values else None


def _most(size: Results, step: str, name: str, cores: int) -> float | None:
    return max(_values(size, step, cores, lambda run: run[name]), default=None)


def _wall(size: Results, step: str, cores: int) -> float | None:
    return _middle(size, step, "wall", cores)


def _inner(size: Results, step: str, cores: int) -> float | None:
    values = _values(size, step, cores, lambda run: run["result"].get("seconds"))
    return median(values) if values else None


def _part(size: Results, step: str, cores: int) -> float | None:
    """Seconds of an asset, without Dagster's own."""
    values = _values(size, step, cores, lambda run: run["result"].get("steps", {}).get(step))
    return median(values) if values else None


def _parts(size: Results, step: str, cores: int) -> dict[str, float]:
    """Median seconds of each part of a step, the longest first."""
    runs = [
        run["result"].get("steps", {})
        for run in size["runs"]
        if run["step"] == step and run["cores"] == cores
    ]
    parts = {name: median(run[name] for run in runs) for name in (runs[0] if runs else {})}
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def _over(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None
