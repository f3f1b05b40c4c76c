"""`posture exceptions`: what is suppressed, until when, and the points that the scores owe to it.

The ledger is made by `model/exceptions.py`; here are the question, what is read of the lake for it,
the words and the formats. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError
from posture_pipeline.printable import printable

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings

NAMES_SHOWN = 20
"""Of the workloads or accounts there are, when the one asked for is not among them."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose exceptions.

    Attributes:
        name: account, workload or organization.
        columns: The columns that name it, with their values.
        title: For people.
    """

    name: str
    columns: dict[str, str]
    title: str


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Everything that is told about the exceptions of a scope, for any format.

    Attributes:
        scope: Whose.
        day: Day of the snapshot.
        scores: A row a report: score, score_without any exception, points, and how many exceptions.
        rows: Columns of `schemas.EXCEPTIONS`, `account_name`, `title` and `expired`; those worth
            most first, and those that ended last.
    """

    scope: Scope
    day: date
    scores: pl.DataFrame
    rows: pl.DataFrame


# --- the command ------------------------------------------------------------------------------


def exceptions(arguments: argparse.Namespace) -> int:
    """Shows the exceptions of a day and what they are worth."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import plain_table, print_rows, print_table

    scope = _scope(arguments)
    settings = settings_of(arguments)
    found = read_exceptions(
        existing_lake(settings),
        settings,
        scope,
        report=arguments.report,
        day=arguments.date,
        ended_too=arguments.all,
    )
    if arguments.format == "json":
        print(json.dumps(_as_json(found), indent=1))
        return 0
    said = "\n".join(_one_line(line) for line in _said(found))
    if arguments.format == "csv":
        print_rows(found.rows, "csv", plain_table)
        print(said, file=sys.stderr)
        return 0
    print(said)
    if found.rows.height:
        print_table(
            _table_of(found, ended_too=arguments.all),
            first_to_go=("severity", "by", "since", "note", "account", "environment", "resource"),
        )
        print("\n".join(_remarks(found)))
    return 0


def _scope(arguments: argparse.Namespace) -> Scope:
    of_workload = arguments.workload is not None and arguments.environment is not None
    half = (arguments.workload is None) != (arguments.environment is None)
    if half or (of_workload and arguments.account is not None):
        message = "Name --workload W and --environment E, or --account ID, or none of them."
        raise InputError(message)
    if of_workload:
        columns = {"workload": arguments.workload, "environment": arguments.environment}
        return Scope("workload", columns, f"{arguments.workload} {arguments.environment}")
    if arguments.account is not None:
        columns = {"account_id": arguments.account}
        return Scope("account", columns, f"account {arguments.account}")
    return Scope("organization", {}, "organization")


# --- what is read -----------------------------------------------------------------------------


def read_exceptions(
    lake: Lake,
    settings: Settings,
    scope: Scope,
    *,
    report: str | None = None,
    day: date | None = None,
    ended_too: bool = False,
) -> Exceptions:
    """The exceptions of a scope on a stored day, with its scores.

    Args:
        lake: The lake.
        settings: They say which reports there are.
        scope: Whose exceptions.
        report: Slug of the report; null: all.
        day: The day; null: the newest.
        ended_too: Also those that ended on the day.

    Raises:
        InputError: There is no such report, workload or account on the day.
        LakeError: The lake has no exceptions or scores of the day.
    """
    import polars as pl

    from posture_pipeline.lake.exceptions import scores_without_exceptions
    from posture_pipeline.model.exceptions import is_expired
    from posture_pipeline.schemas import EXCEPTIONS

    day = day or lake.last_day(EXCEPTIONS.name)
    if day is None:
        message = (
            f"The lake {lake.root} has no exceptions yet. Run posture run or posture import first."
        )
        raise InputError(message)
    of_report = pl.lit(value=True)
    if report is not None:
        of_report = pl.col("report") == settings.report(report).name
    here = [pl.col(name) == value for name, value in scope.columns.items()]
    lake.require(EXCEPTIONS.name, day)
    scores = scores_without_exceptions(lake, day, scope.name).filter(of_report)
    _ensure_there(scores, scope, day)
    rows = lake.read(EXCEPTIONS, day).filter(of_report, *here, pl.col("open") | ended_too)
    order = ["control_id", "report", "workload", "environment", "account_id", "resource_id"]
    return Exceptions(
        scope,
        day,
        scores.filter(*here),
        _with_words(lake, rows, day)
        .with_columns(expired=pl.col("open") & is_expired(day))
        .sort(~pl.col("open"), -pl.col("points"), *order, "region", nulls_last=True),
    )


def _ensure_there(scores: pl.DataFrame, scope: Scope, day: date) -> None:
    import polars as pl

    if scores.filter(*(pl.col(name) == value for name, value in scope.columns.items())).height:
        return
    if scores.is_empty():
        message = f"There are no scores of that report on {day.isoformat()}."
        raise InputError(message)
    known = sorted({" ".join(row) for row in scores.select(list(scope.columns)).iter_rows()})
    shown = ", ".join(known[:NAMES_SHOWN]) + (", ..." if len(known) > NAMES_SHOWN else "")
    kind = "account" if scope.name == "account" else "workload and environment"
    asked = " ".join(scope.columns.values())
    message = f"On {day.isoformat()} there is no {kind} {asked!r}; there are: {shown}."
    raise InputError(message)


def _with_words(lake: Lake, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Adds the name of the account, and the title of the control where the lake has it."""
    import polars as pl

    from posture_pipeline.schemas import ACCOUNT_SCORES, EXPECTED_CONTROLS

    names = lake.scan(ACCOUNT_SCORES, day).select("account_id", "account_name").collect()
    listed = (
        lake.read(EXPECTED_CONTROLS, day)
        if lake.commit_of(EXPECTED_CONTROLS.name, day)
        else EXPECTED_CONTROLS.empty()
    )
    titles = listed.group_by("report", "control_id").agg(pl.col("title").drop_nulls().min())
    return rows.join(names.unique("account_id"), on="account_id", how="left").join(
        titles, on=["report", "control_id"], how="left"
    )


# --- in words ---------------------------------------------------------------------------------


def _said(found: Exceptions) -> list[str]:
    """What the scores are, and would be without any exception."""
    lines = []
    for row in found.scores.iter_rows(named=True):
        place = f"{row['report']}, {found.scope.title}, {found.day.isoformat()}"
        number = f"{row['exceptions']:,} exception{'' if row['exceptions'] == 1 else 's'}"
        if row["score"] is None:
            lines.append(f"{place}: no score; {number}.")
        elif row["exceptions"] == 0:
            lines.append(f"{place}: {row['score']:.2f} of 100; no exceptions.")
        else:
            lines.append(
                f"{place}: {row['score']:.2f} of 100; {row['score_without']:.2f} without its "
                f"{number}."
            )
    expired = found.rows.filter("expired").height
    if expired:
        are = "exception is" if expired == 1 else "exceptions are"
        lines.append(f"{expired:,} {are} past the agreed end.")
    return lines


def _remarks(found: Exceptions) -> list[str]:
    """How to read the table."""
    whose = "" if found.scope.name == "workload" else " of the workload and environment"
    return [
        f"Points are what all exceptions of a control are worth together in the score{whose}; they "
        "stand on each of its rows, and are not to be added up."
    ]


def _table_of(found: Exceptions, *, ended_too: bool) -> Table:
    from rich.text import Text

    from posture_pipeline.commands.output import cell, new_table

    several = found.rows["report"].n_unique() > 1
    columns = ["control", "severity", "workload", "environment", "account", "resource", "since"]
    columns += ["until", "by", "note"]
    table = new_table(
        None,
        [
            *([("report", False)] if several else []),
            *((name, False) for name in columns),
            ("points", True),
            *([("ended", False)] if ended_too else []),
        ],
    )
    for row in found.rows.iter_rows(named=True):
        until = Text(cell(row["until"]))
        if row["expired"]:
            until.append(" expired", style="bold red")
        texts = [
            *([row["report"]] if several else []),
            row["control_id"],
            row["severity"],
            row["workload"],
            row["environment"],
            row["account_id"],
            _short(row["resource_id"]),
            row["since"],
        ]
        points = "" if row["points"] is None else f"{row['points']:.2f}"
        table.add_row(
            *(Text(_one_line(cell(text))) for text in texts),
            until,
            Text(_one_line(_short(row["suppressed_by"] or ""))),
            Text(_one_line(row["note"] or "")),
            points,
            *([row["ended_by"] or ""] if ended_too else []),
        )
    return table


def _short(name: str) -> str:
    """What tells things of a kind apart: of an ARN the part after region and account."""
    return name.split(":", 5)[5] if name.startswith("arn:") and name.count(":") > 4 else name


def _one_line(text: str) -> str:
    """The text, which is other people's, in one line."""
    return printable(" ".join(text.split()))


# --- for programs -----------------------------------------------------------------------------


def _as_json(found: Exceptions) -> Row:
    return {
        "date": found.day.isoformat(),
        "scope": found.scope.name,
        **found.scope.columns,
        "said": _said(found),
        "scores": [_plain(row) for row in found.scores.iter_rows(named=True)],
        "exceptions": [_plain(row) for row in found.rows.iter_rows(named=True)],
    }


def _plain(row: Row) -> Row:
    return {
        name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()
    }
