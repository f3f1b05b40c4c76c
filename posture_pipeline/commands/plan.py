"""`posture plan`: what the next run will take, told before it, from the newest stored day.

The arithmetic stands in `model/plan.py`; here are the stored counts, the words and the formats.
Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.model.plan import CollectionPlan, DiskPlan
    from posture_pipeline.settings import Settings


NO_GROWTH = 0.0005
"""Change of the number of findings that would read 0.0 %."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is told before a run.

    Attributes:
        day: The stored day that it is told from.
        growth: Findings of that day over those of the day before; null without one.
        collection: With the settings as they are.
        disk: The same.
        failing: With `collect: failing`; null where the settings say so already.
        failing_disk: The same.
        complete: Whether the stored day has all findings: one collected with `collect: failing`
            does not tell how many passed.
        free: Bytes free where the lake is; null for a bucket.
    """

    day: date
    growth: float | None
    collection: CollectionPlan
    disk: DiskPlan
    failing: CollectionPlan | None
    failing_disk: DiskPlan | None
    complete: bool
    free: int | None


def plan(arguments: argparse.Namespace) -> int:
    """Tells how many pages, how long and how much disk the next run takes."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import print_table

    settings = settings_of(arguments)
    made = read_plan(existing_lake(settings), settings)
    if arguments.format == "json":
        print(json.dumps(as_json(made), indent=1))
        return 0
    print(f"The next run, if it finds what {made.day.isoformat()} found{_growth(made)}:")
    print_table(_comparison(made))
    for sentence in _remarks(made, settings):
        print(sentence)
    return 0


def read_plan(lake: Lake, settings: Settings) -> Plan:
    """The plan, from what the lake has of its newest day with findings.

    Args:
        lake: The lake.
        settings: How the next run collects.

    Raises:
        InputError: The lake has no such day.
    """
    from posture_pipeline.lake import snapshot
    from posture_pipeline.model import plan as rules
    from posture_pipeline.schemas import (
        ACCOUNT_FINDINGS,
        MERGED_FINDINGS,
        RAW_FINDING_PAGES,
        TABLES,
    )

    stored = {*lake.days(MERGED_FINDINGS.name), *lake.days(ACCOUNT_FINDINGS.name)}
    if not stored:
        message = (
            f"The lake {lake.root} has no findings of any day, and AWS tells nobody how many there "
            f"are: run one day first (posture run), or import saved findings (posture import). For "
            f"a guess: {rules.PAGE_SIZE} findings are a page, and AWS allows three pages a second "
            f"in a region, so a million findings take about an hour."
        )
        raise InputError(message)
    day = max(stored)
    counts = rules.counts_by_shard(snapshot.findings_of(lake, day), settings.aws.region)
    found = int(counts["findings"].sum())
    names = [RAW_FINDING_PAGES, *(each.name for each in TABLES)]
    commits = {name: lake.commit_of(name, day) for name in dict.fromkeys(names)}
    bytes_of = {name: commit.bytes for name, commit in commits.items() if commit is not None}
    retention = {
        RAW_FINDING_PAGES: settings.retention.raw_finding_pages,
        MERGED_FINDINGS.name: settings.retention.merged_findings,
        ACCOUNT_FINDINGS.name: settings.retention.account_findings,
    }

    def planned(collect: str) -> tuple[CollectionPlan, DiskPlan]:
        collection = rules.collection_plan(counts, settings, collect)
        share = collection.findings / found if found else 1.0
        return collection, rules.disk_plan(bytes_of, retention, share)

    collection, disk = planned(settings.collect)
    failing = planned("failing") if settings.collect != "failing" else (None, None)
    before = max((each for each in stored if each < day), default=None)
    earlier = snapshot.findings_commit(lake, before).rows if before is not None else 0
    return Plan(
        day=day,
        growth=found / earlier if earlier else None,
        collection=collection,
        disk=disk,
        failing=failing[0],
        failing_disk=failing[1],
        complete=snapshot.collect_mode(snapshot.findings_commit(lake, day)) == "all",
        free=shutil.disk_usage(lake.root).free if lake.is_local else None,
    )


def as_json(made: Plan) -> dict[str, Any]:
    """Everything of a plan."""

    def both(collection: CollectionPlan, disk: DiskPlan) -> dict[str, Any]:
        return {
            "collect": collection.collect,
            "findings": collection.findings,
            "pages": collection.pages,
            "seconds": collection.seconds,
            "regions": [asdict(each) for each in collection.regions],
            "bytes_a_day": dict(disk.a_day),
            "bytes_after_a_year": dict(disk.kept),
        }

    return {
        "from_day": made.day.isoformat(),
        "growth": made.growth,
        "all_findings_known": made.complete,
        "free_bytes": made.free,
        "plan": both(made.collection, made.disk),
        "with_collect_failing": None
        if made.failing is None or made.failing_disk is None
        else both(made.failing, made.failing_disk),
    }


def _growth(made: Plan) -> str:
    if made.growth is None:
        return ""
    change = made.growth - 1
    if abs(change) < NO_GROWTH:
        return " (as many as the stored day before)"
    return f" ({abs(change):.1%} {'more' if change > 0 else 'fewer'} than the stored day before)"


def _comparison(made: Plan) -> Table:
    """What it takes, beside what it would with `collect: failing`."""
    from posture_pipeline.commands.output import new_table

    plans = [(made.collection, made.disk)]
    if made.failing is not None and made.failing_disk is not None:
        plans.append((made.failing, made.failing_disk))
    columns = [f"collect: {collection.collect}" for collection, _ in plans]
    table = new_table(None, [("", False), *((name, True) for name in columns)])
    table.add_row("findings", *(f"{each.findings:,}" for each, _ in plans))
    table.add_row("pages (GetFindings requests)", *(f"{each.pages:,}" for each, _ in plans))
    table.add_row("time to collect them", *(_time(each.seconds) for each, _ in plans))
    table.add_row("disk, this run", *(_size(disk.day) for _, disk in plans))
    table.add_row("disk, after a year", *(_size(disk.year) for _, disk in plans))
    return table


def _remarks(made: Plan, settings: Settings) -> list[str]:
    """What the numbers rest on, and what to mind."""
    rate = settings.aws.requests_per_second
    limited = rate is not None and settings.simulation is None
    said = [
        f"At {rate:g} requests a second for each region, which is AWS's limit unless the settings "
        f"lower it; {len(made.collection.regions)} at the same time."
        if limited
        else "The settings set no rate limit, so the time depends on the endpoint."
    ]
    for region in made.collection.regions:
        if region.seconds * (rate or 0) > region.pages + 1 and limited:
            said.append(
                f"{region.region}: {region.longest:,} of {region.pages:,} pages are in one stream, "
                f"each of which takes about a second, so the rate limit is not what it waits for."
            )
    if not made.complete:
        said.append(
            f"{made.day.isoformat()} was collected with collect: failing, so how many findings "
            f"passed is not known, and only the failing ones are counted here."
        )
    if made.failing is not None:
        said.append(
            "With collect: failing controls without a finding count as passed; scores name that in "
            "their method and are not compared with the others."
        )
    if made.free is not None and made.free < made.disk.day:
        said.append(f"The disk has {_size(made.free)} free: too little for this run.")
    elif made.free is not None and made.free < made.disk.year:
        said.append(f"The disk has {_size(made.free)} free: too little for a year.")
    return said


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds else "no limit"


def _size(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1e3:,.0f} kB"
