"""`make bench-history`: what a year of history costs, in bytes and in milliseconds.

A year of days of a made-up organization is put into a lake and into the catalog; then the questions
that analysts ask are asked again and again, of one connection and of new ones.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from bench import year
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog.publish import open_catalog, publish_day, rebuild
from posture_pipeline.lake.maintenance import GRACE, Maintenance
from posture_pipeline.lake.store import Lake
from posture_pipeline.settings import Retention

TIMES = 25
"""How often each question is asked, each time about something else."""
CONNECTIONS = 5
"""New connections of which each question is the first one."""
PUBLISHED = "last-day-published.json"
"""In the lake: how many seconds it took to bring the last day into the catalog."""
AGO = timedelta(days=30)
"""How far apart two days are that are compared."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of analysts, and how long the answer may take.

    Attributes:
        name: In words.
        sql: The question about something that is drawn.
        target: Milliseconds, warm; the first one of a connection may take twice that.
    """

    name: str
    sql: Callable[[random.Random], str]
    target: float


def questions(size: year.Size) -> list[Question]:
    """The questions to a history of that size."""
    dates = size.dates
    report = year.reports_of(size)[0].name

    def account(dice: random.Random) -> str:
        return year.account_id(dice.randrange(size.accounts))

    def workload(dice: random.Random) -> str:
        name, environment = year.workload_of(dice.randrange(size.accounts))
        return f"'{name}', '{environment}'"

    def day(dice: random.Random) -> date:
        return dice.choice(dates)

    def two_days(dice: random.Random) -> str:
        later = dice.choice(dates[AGO.days :] or dates[-1:])
        return f"'{max(later - AGO, dates[0])}', '{later}'"

    def quarter(dice: random.Random) -> str:
        later = dice.choice(dates[90:] or dates[-1:])
        return f"'{max(later - timedelta(days=89), dates[0])}', '{later}'"

    return [
        Question(
            "the trend of one workload over all days",
            lambda dice: f"FROM trend({workload(dice)})",
            20,
        ),
        Question(
            "the scores of all accounts on a day",
            lambda dice: f"FROM account_scores WHERE date = '{day(dice)}'",
            20,
        ),
        Question(
            "which controls changed in a month in one account",
            lambda dice: (
                f"FROM changed_controls('{report}', {two_days(dice)}) "
                f"WHERE account_id = '{account(dice)}'"
            ),
            20,
        ),
        Question(
            "which controls changed in a month in the organization",
            lambda dice: (
                f"SELECT control_id, status_before, status_after, count(*) "  # noqa: S608
                f"FROM changed_controls('{report}', {two_days(dice)}) GROUP BY ALL"
            ),
            20,
        ),
        Question(
            "why the score of one account changed in a month",
            lambda dice: f"FROM explain_account('{report}', '{account(dice)}', {two_days(dice)})",
            20,
        ),
        Question(
            "why the score of the organization changed in a month",
            lambda dice: f"FROM explain_organization('{report}', {two_days(dice)})",
            20,
        ),
        Question(
            "the worst controls over 90 days",
            lambda dice: f"FROM worst_controls({quarter(dice)})",
            100,
        ),
        Question(
            "one control of one account, every day",
            lambda dice: (
                f"FROM control_status WHERE report = '{report}' "
                f"AND account_id = '{account(dice)}' "
                f"AND control_id = '{year.control_id(dice.randrange(size.controls))}'"
            ),
            20,
        ),
        Question(
            "the findings of one account on one day",
            lambda dice: f"FROM account_findings_on('{account(dice)}', '{dates[-1]}')",
            20,
        ),
    ]


def measured(lake: Lake, size: year.Size) -> dict[str, Any]:
    """Sizes, and milliseconds of each question, of a lake that holds the history."""
    rows = []
    for question in questions(size):
        dice = random.Random(question.name)
        first = []
        for _ in range(CONNECTIONS):
            with open_catalog(lake) as connection:
                first.append(_milliseconds(connection, question.sql(dice))[0])
        with open_catalog(lake) as connection:
            _milliseconds(connection, question.sql(dice))
            asked = [_milliseconds(connection, question.sql(dice)) for _ in range(TIMES)]
        times = [milliseconds for milliseconds, _ in asked]
        rows.append(
            {
                "question": question.name,
                "target": question.target,
                "median": statistics.median(times),
                "worst": max(times),
                "first": statistics.median(first),
                "rows": round(statistics.mean(height for _, height in asked)),
            }
        )
    return {
        "size": size.name,
        "catalog_mb": Path(lake.root, layout.CATALOG).stat().st_size / 1e6,
        "lake_mb": lake.size("", ending=".parquet") / 1e6,
        "one_more_day_seconds": json.loads(Path(lake.root, PUBLISHED).read_text(encoding="utf-8")),
        "questions": rows,
    }


def made(lake: Lake, size: year.Size) -> None:
    """Makes the days and the catalog where they are not there yet; times the last day."""
    if Path(lake.root, PUBLISHED).exists():
        return
    for day in year.make(lake, size):
        print(f"{day.isoformat()} of {size.days} days", file=sys.stderr)
        if day == size.dates[-2]:
            rebuild(lake)
            maintained(lake)
        if day == size.dates[-1]:
            began = time.perf_counter()
            publish_day(lake, day)
            seconds = time.perf_counter() - began
            Path(lake.root, PUBLISHED).write_text(json.dumps(seconds), encoding="utf-8")


def maintained(lake: Lake) -> None:
    """Puts past months together, and deletes at once what nobody needs any more."""
    for later in (timedelta(), 2 * GRACE):
        Maintenance(lake, Retention(), datetime.now(UTC) + later).all()


def _milliseconds(connection: Any, sql: str) -> tuple[float, int]:  # noqa: ANN401 - of DuckDB
    began = time.perf_counter()
    answer = connection.sql(sql).pl()
    return 1000 * (time.perf_counter() - began), answer.height


def table(found: dict[str, Any]) -> str:
    """The figures as markdown."""
    lines = [
        f"Days x accounts x controls x reports: {found['size']}. Catalog: "
        f"{found['catalog_mb']:.1f} MB. Lake: {found['lake_mb']:.0f} MB. One more day in the "
        f"catalog: {found['one_more_day_seconds']:.1f} s.",
        "",
        "| question | rows | median ms | worst ms | first of a connection, ms | target ms |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['question']} | {row['rows']:,} | {row['median']:.1f} | {row['worst']:.1f} | "
        f"{row['first']:.1f} | {row['target']:g} |"
        for row in found["questions"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Makes the history where it is not there yet, and asks."""
    parser = argparse.ArgumentParser(prog="bench.history", description=__doc__)
    default = Path(tempfile.gettempdir(), "posture-bench")
    parser.add_argument("--folder", type=Path, default=default, help="where the lake is made")
    parser.add_argument("--days", type=int, default=year.Size().days)
    parser.add_argument("--accounts", type=int, default=year.Size().accounts)
    parser.add_argument("--json", type=Path, help="writes the figures here too")
    arguments = parser.parse_args()
    size = year.Size(days=arguments.days, accounts=arguments.accounts)
    lake = Lake(str(arguments.folder / "history" / size.name))
    made(lake, size)
    found = measured(lake, size)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
