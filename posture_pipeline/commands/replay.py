"""`posture replay`: computes stored days again, and says what that did to their scores.

Which days can be, stands in `lake/replay.py`; how they are, in the assets.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from posture_pipeline.errors import InputError
from posture_pipeline.printable import printable

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.running import ReplayRun
    from posture_pipeline.settings import Settings

MOVES_SHOWN = 10

DAYS_AT_ONCE = 31
"""Later days that a run of an earlier day computes again without being asked."""


def replay(arguments: argparse.Namespace) -> int:
    """Computes the stored days of a range again, oldest first, without asking AWS."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.lake.replay import replayable
    from posture_pipeline.model.replayed import score_differences

    first, last = arguments.from_, arguments.to
    if first is not None and last is not None and first > last:
        message = f"--from {first.isoformat()} is later than --to {last.isoformat()}."
        raise InputError(message)
    settings = settings_of(arguments)
    for name in arguments.report or []:
        settings.report(name)
    lake = existing_lake(settings)
    found = replayable(lake, first, last)
    for line in _kept_sentences(found.kept):
        print(line)
    print(f"Computing {_days(found.days)} again from the stored findings. AWS is asked nothing.")
    before = _scores(lake, found.days)
    runs = _run(settings, found.stretches, arguments.days_per_run if arguments.queue else None)
    for note in (note for run in runs for note in run.warnings):
        print(f"Note: {note}")
    differences = score_differences(before, _scores(lake, found.days))
    _print_differences(differences, arguments.report)
    print(f"The catalog is built anew.\nDagster runs: {', '.join(run.run_id for run in runs)}")
    return 0


def update_later_days(settings: Settings, lake: Lake, day: date) -> list[str]:
    """Computes a day and the stored days after it again, if these compared with what was there.

    A day compares with the newest earlier one, and carries failures forward from there. One that is
    stored between two others, or computed again, leaves all later ones as they were.

    Args:
        settings: What to score.
        lake: The lake.
        day: A day that was just stored, the oldest if there are several.

    Returns:
        What was done, or which command does it, in sentences; nothing if no later day is outdated.

    Raises:
        RunFailedError: A step or a blocking check failed; the text names the day.
    """
    from posture_pipeline.lake.replay import replayable
    from posture_pipeline.lake.staleness import ends_of, outdated_comparisons

    if outdated_comparisons(lake, ends_of(lake, day)[1:]).is_empty():
        return []
    found = replayable(lake, day, None)
    later = [each for each in found.days if each > day]
    if len(later) > DAYS_AT_ONCE:
        return [
            f"{_days(later)} compared with an earlier state of the lake; run posture replay "
            f"--from {day.isoformat()} to compute them again."
        ]
    sentences = _kept_sentences(found.kept)
    if later:
        runs = _run(settings, found.stretches, None)
        sentences += [f"Note: {note}" for run in runs for note in run.warnings]
        sentences.append(
            f"Computed again, because they compared with an earlier state of the lake: "
            f"{_days(later)}."
        )
    return sentences


def _run(
    settings: Settings, stretches: Sequence[tuple[date, ...]], days_each: int | None
) -> list[ReplayRun]:
    """One run for each stretch of days that follow on each other; with `days_each` by the queue."""
    from posture_pipeline.commands.output import Progress
    from posture_pipeline.running import dagster_instance, replay_days

    with Progress() as progress, dagster_instance(settings) as instance:
        if days_each is not None:
            from posture_pipeline.replay_queue import replay_by_queue

            return replay_by_queue(
                settings, stretches, instance=instance, days_each=days_each, tell=progress
            )
        return [
            replay_days(settings, stretch, instance=instance, tell=progress)
            for stretch in stretches
        ]


def _scores(lake: Lake, days: Iterable[date]) -> pl.DataFrame:
    """The stored scores of all scopes, as `model.replayed` compares them."""
    import polars as pl

    from posture_pipeline.model.replayed import of_scope
    from posture_pipeline.schemas import SCORE_TABLES

    frames = []
    for table in SCORE_TABLES:
        stored = [day for day in days if lake.commit_of(table.name, day) is not None]
        frames.append(of_scope(table.name.removesuffix("_scores"), lake.read(table, stored)))
    return pl.concat(frames)


def _print_differences(differences: pl.DataFrame, reports: list[str] | None) -> None:
    import polars as pl

    from posture_pipeline.commands.output import print_table

    if reports:
        differences = differences.filter(pl.col("report").is_in(reports))
    counts = dict(differences["became"].value_counts().iter_rows())
    print(
        f"{differences.height:,} scores: {counts.get('same', 0):,} are the same, "
        f"{counts.get('moved', 0):,} moved, {counts.get('added', 0):,} are new, "
        f"{counts.get('gone', 0):,} are gone."
    )
    both = differences.filter(pl.col("became").is_in(["same", "moved"]))
    for before, after, rows in _by(both, "method"):
        print(
            f"Method {before} before, {after} now: {_moved(rows)}. The two do not measure the "
            f"same; posture scores --method {before!r} --date ... still shows the earlier ones."
        )
    for report in both["report"].unique().sort():
        of_report = both.filter(pl.col("report") == report)
        for _, _, rows in _by(of_report, "settings_hash"):
            print(f"The settings of {report} changed: {_moved(rows)}.")
        for _, _, rows in _by(of_report, "control_set_hash"):
            print(f"The controls that {report} expects changed: {_moved(rows)}.")
    moved = differences.filter(pl.col("became") == "moved")
    if moved.height:
        print_table(_moves(moved))


def _by(rows: pl.DataFrame, fact: str) -> list[tuple[str, str, pl.DataFrame]]:
    """The scores for which a fact is another one than before, by what it was and is."""
    import polars as pl

    was, now = f"{fact}_before", f"{fact}_after"
    changed = rows.filter(pl.col(was).ne_missing(pl.col(now)))
    return [
        (str(key[0]), str(key[1]), of_both)
        for key, of_both in changed.group_by(was, now, maintain_order=True)
    ]


def _moved(rows: pl.DataFrame) -> str:
    moved = rows.filter(rows["became"] == "moved").height
    return f"{moved:,} of {rows.height:,} scores moved"


def _moves(rows: pl.DataFrame) -> Table:
    """The biggest moves, one a row."""
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table

    shown = rows.head(MOVES_SHOWN)
    more = f", the biggest {MOVES_SHOWN} of {rows.height:,}" if rows.height > MOVES_SHOWN else ""
    columns = [("date", False), ("place", False), ("report", False)]
    numbers = [("before", True), ("now", True), ("difference", True)]
    table = new_table(f"Scores that moved{more}", [*columns, *numbers])
    for row in shown.iter_rows(named=True):
        difference = row["difference"]
        table.add_row(
            row["date"].isoformat(),
            escape(_place(row)),
            escape(row["report"]),
            cell(row["score_before"]) or "-",
            cell(row["score_after"]) or "-",
            "" if difference is None else f"{difference:+.2f}",
        )
    return table


def _place(row: Mapping[str, str | None]) -> str:
    if row["scope"] == "account":
        text = f"account {row['account_id']}"
    elif row["scope"] == "workload":
        text = f"{row['workload']} {row['environment']}"
    else:
        text = "organization"
    # Names come from AWS accounts and their tags; a terminal obeys what is not printable.
    return printable(text)


def _kept_sentences(kept: Mapping[date, str]) -> list[str]:
    """Which days stay as they are, a sentence for each reason."""
    by_reason: dict[str, list[date]] = {}
    for day, reason in kept.items():
        by_reason.setdefault(reason, []).append(day)
    return [
        f"Left as {'it is' if len(days) == 1 else 'they are'}: {_days(days)} ({reason})."
        for reason, days in by_reason.items()
    ]


def _days(days: list[date]) -> str:
    if len(days) == 1:
        return days[0].isoformat()
    return f"{len(days)} days from {days[0].isoformat()} to {days[-1].isoformat()}"
