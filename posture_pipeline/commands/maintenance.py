"""`posture maintain` and `posture doctor`: what is old or damaged in the lake, and what is done.

What is removed, put together and deleted is decided in `lake/maintenance.py`, what counts as damage
in `lake/doctor.py`. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline.lake.doctor import Doctor, Problem
    from posture_pipeline.lake.maintenance import Done


def maintain(arguments: argparse.Namespace) -> int:
    """Removes what is beyond its retention and compacts past months, or says what it would do."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import Progress, print_rows
    from posture_pipeline.lake.maintenance import LEFT, Maintenance, by_kind

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    with Progress() as progress:
        done = Maintenance(
            lake,
            settings.retention,
            datetime.now(UTC),
            dry_run=arguments.dry_run,
            tell=progress,
        ).all()
    kinds = by_kind(done)
    for_people = arguments.format == "table"
    if kinds or not for_people:
        print_rows(_rows_of_done(kinds), arguments.format, _table_of_done)
    if for_people:
        print(_sentence(kinds, dry_run=arguments.dry_run))
    return 1 if any(each.what == LEFT for each in kinds) else 0


def doctor(arguments: argparse.Namespace) -> int:
    """Says what is not as the commits of the lake say, and mends what it safely can."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import Progress, print_rows
    from posture_pipeline.lake.doctor import Doctor, repair

    first, last = arguments.from_, arguments.to
    if arguments.day is not None:
        if first is not None or last is not None:
            message = "--day goes without --from and --to."
            raise InputError(message)
        first = last = arguments.day
    if first is not None and last is not None and first > last:
        message = f"--from {first.isoformat()} is later than --to {last.isoformat()}."
        raise InputError(message)
    lake = existing_lake(settings_of(arguments))
    with Progress() as progress:
        examination = Doctor(
            lake,
            now=datetime.now(UTC),
            first=first,
            last=last,
            fast=arguments.fast,
            tell=progress,
        )
        problems = examination.problems()
        mended = repair(lake, problems) if arguments.repair else []
    for_people = arguments.format == "table"
    if problems or not for_people:
        print_rows(_rows_of_problems(problems, mended), arguments.format, _table_of_problems)
    if for_people:
        print(_diagnosis(examination, problems, mended))
    return 1 if len(mended) < len(problems) else 0


def _rows_of_done(done: Iterable[Done]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [
            (
                each.what,
                each.table,
                min(each.days, default=None),
                max(each.days, default=None),
                len(each.days),
                each.files,
                each.bytes,
                each.why,
            )
            for each in done
        ],
        schema={
            "what": pl.String,
            "table": pl.String,
            "first_day": pl.Date,
            "last_day": pl.Date,
            "days": pl.Int64,
            "files": pl.Int64,
            "bytes": pl.Int64,
            "why": pl.String,
        },
        orient="row",
    )


def _table_of_done(rows: pl.DataFrame) -> Table:
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table
    from posture_pipeline.printable import printable

    columns = [("what", False), ("table", False), ("from", False), ("to", False)]
    numbers = [("days", True), ("files", True), ("MB", True)]
    table = new_table(None, [*columns, *numbers, ("why", False)])
    for row in rows.iter_rows(named=True):
        table.add_row(
            row["what"],
            row["table"],
            *(cell(row[name]) for name in ("first_day", "last_day", "days", "files")),
            cell(row["bytes"] / 1e6),
            escape(printable(row["why"])),
        )
    return table


def _sentence(done: Collection[Done], *, dry_run: bool) -> str:
    from posture_pipeline.lake.maintenance import DELETED, LEFT, PUT_TOGETHER, REMOVED

    if not done:
        return "There is nothing to do."
    sentences = ["Nothing was changed."] if dry_run else []
    if not dry_run and any(each.what in {REMOVED, PUT_TOGETHER} for each in done):
        sentences.append(
            "The files that are needed no more are deleted by the first maintenance that is a "
            "day later, when nobody can be reading them."
        )
    freed = sum(each.bytes for each in done if each.what == DELETED)
    if freed:
        sentences.append(f"{freed / 1e6:,.1f} MB {'would be' if dry_run else 'are'} free.")
    if any(each.what == LEFT for each in done):
        sentences.append("What is left is damaged: posture doctor.")
    return " ".join(sentences) or "Done."


def _rows_of_problems(problems: Iterable[Problem], mended: Collection[Problem]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [
            (each.table, each.day, each.place, each.problem, each.mend, each in mended)
            for each in problems
        ],
        schema={
            "table": pl.String,
            "date": pl.Date,
            "place": pl.String,
            "problem": pl.String,
            "mend": pl.String,
            "repaired": pl.Boolean,
        },
        orient="row",
    )


def _table_of_problems(rows: pl.DataFrame) -> Table:
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table
    from posture_pipeline.printable import printable

    table = new_table(None, [(name, False) for name in ("date", "place", "problem", "mend")])
    for row in rows.iter_rows(named=True):
        mend = "repaired" if row["repaired"] else row["mend"]
        texts = (row["place"], row["problem"], mend)
        table.add_row(cell(row["date"]), *(escape(printable(text)) for text in texts))
    return table


def _diagnosis(
    examination: Doctor, problems: Collection[Problem], mended: Collection[Problem]
) -> str:
    found = examination.examined
    how = "sizes and rows" if examination.fast else "sizes, rows and hashes"
    sentences = [f"{found.commits:,} commits, {found.files:,} files: {how} were read."]
    if found.without_hash and not examination.fast:
        sentences.append(
            f"{found.without_hash:,} commits record no hash, as earlier versions wrote them."
        )
    if found.removed:
        sentences.append(f"{found.removed:,} days of findings were removed by retention.")
    if found.waiting:
        sentences.append(f"{found.waiting:,} run folders wait for posture maintain to delete them.")
    if found.unused_rows:
        sentences.append(
            f"{found.unused_rows:,} rows of compacted months are of days that were computed again; "
            "posture maintain leaves them out."
        )
    if not problems:
        sentences.append("The lake is whole.")
    else:
        number = f"{len(problems):,} problem{'' if len(problems) == 1 else 's'}"
        sentences.append(f"{number}, {len(mended):,} repaired." if mended else f"{number}.")
    return " ".join(sentences)
