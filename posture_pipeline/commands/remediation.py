"""`posture remediation`: how long failures last, which ones are open longest, what comes back.

What an episode is and how long it lasts stand in `model/remediation.py`; here are the question,
the words and the formats. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from posture_pipeline.commands.backlog import NO_RESOURCE, Scope
from posture_pipeline.errors import InputError
from posture_pipeline.printable import printable

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Report, Settings

SHOWN = 10
"""Failures of a list, for people; JSON has all."""

EVERYTHING = Scope({}, "the whole organization")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remediation:
    """Everything that is told about the time to fix, for any format.

    Attributes:
        report: Slug of the report.
        scope: Whose failures.
        day: Day of the snapshot.
        times: Rows of `schemas.TIME_TO_FIX`: a severity each, and all of them in the last.
        open: Rows of `schemas.REMEDIATION` with `account_name` and `title`: the open failures,
            oldest first.
        coming_back: The same of those that keep coming back, most openings first; some are closed.
    """

    report: str
    scope: Scope
    day: date
    times: pl.DataFrame
    open: pl.DataFrame
    coming_back: pl.DataFrame


# --- the command ------------------------------------------------------------------------------


def remediation(arguments: argparse.Namespace) -> int:
    """Shows the median time to fix, the oldest open failures, and what keeps coming back."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import plain_table, print_rows, print_table

    scope = _scope(arguments)
    settings = settings_of(arguments)
    lake = existing_lake(settings)
    found = read_remediation(lake, settings, arguments.report, scope, day=arguments.date)
    if arguments.format == "json":
        print(json.dumps(_as_json(found), indent=1, default=lambda value: value.isoformat()))
        return 0
    if arguments.format == "csv":
        print_rows(found.open, "csv", plain_table)
        print(_said(found), file=sys.stderr)
        return 0
    print(_said(found))
    if found.times.height:
        print_table(_times(found))
        print(_remark(found))
    if found.open.height:
        print_table(_failures(_some("Open longest", found.open), found.open, found.day))
    if found.coming_back.height:
        title = _some("Keeps coming back", found.coming_back)
        print_table(_failures(title, found.coming_back, found.day))
    return 0


def _scope(arguments: argparse.Namespace) -> Scope:
    half = (arguments.workload is None) != (arguments.environment is None)
    if half or (arguments.workload is not None and arguments.account is not None):
        message = "Name --account ID, or --workload W and --environment E, or none of them."
        raise InputError(message)
    if arguments.workload is not None:
        columns = {"workload": arguments.workload, "environment": arguments.environment}
        return Scope(columns, f"{arguments.workload} {arguments.environment}")
    if arguments.account is not None:
        return Scope({"account_id": arguments.account}, f"account {arguments.account}")
    return EVERYTHING


# --- what is read -----------------------------------------------------------------------------


def read_remediation(
    lake: Lake, settings: Settings, report: str, scope: Scope, *, day: date | None = None
) -> Remediation:
    """The time to fix and the failures of a scope on a stored day.

    Args:
        lake: The lake.
        settings: They say which reports there are.
        report: Slug of the report.
        scope: Whose failures.
        day: The day; null: the newest.

    Raises:
        InputError: There is no such report, workload or account on the day.
        LakeError: The lake has no time to fix of the day.
    """
    import polars as pl

    from posture_pipeline.lake import remediation as stored
    from posture_pipeline.lake import snapshot
    from posture_pipeline.schemas import ACCOUNT_SCORES, REMEDIATION, TIME_TO_FIX

    own = settings.report(report)
    day = day or lake.last_day(TIME_TO_FIX.name)
    if day is None:
        message = f"The lake {lake.root} has no time to fix yet. Run a day first (posture run)."
        raise InputError(message)
    lake.require(TIME_TO_FIX.name, day)
    accounts = lake.scan(ACCOUNT_SCORES, day).filter(pl.col("report") == own.name)
    here = [pl.col("report") == own.name]
    here += [pl.col(name) == value for name, value in scope.columns.items()]
    _known(accounts.collect(), scope, day)
    titles = snapshot.expected_of(lake, [own], day).select("control_id", "title")
    names = accounts.select("account_id", "account_name").unique("account_id").collect()

    def with_words(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(names, on="account_id", how="left", maintain_order="left").join(
            titles.unique("control_id"), on="control_id", how="left", maintain_order="left"
        )

    is_open = lake.scan(REMEDIATION, day).filter(pl.col("closed_on").is_null(), *here)
    coming_back = stored.coming_back(lake, day).filter(*here)
    order = ["opened_at", "control_id", "account_id", "resource_id"]
    return Remediation(
        report=own.name,
        scope=scope,
        day=day,
        times=_times_of(lake, own, scope, day),
        open=with_words(is_open.collect().sort(order)),
        coming_back=with_words(
            coming_back.collect().sort("openings", *order, descending=[True, *[False] * 4])
        ),
    )


def _known(accounts: pl.DataFrame, scope: Scope, day: date) -> None:
    import polars as pl

    found = accounts.filter(*(pl.col(name) == value for name, value in scope.columns.items()))
    if found.is_empty():
        message = (
            f"On {day.isoformat()} there is no {scope.title!r} in this report. "
            f"posture scores --scope {'account' if 'account_id' in scope.columns else 'workload'} "
            f"shows what there is."
        )
        raise InputError(message)


def _times_of(lake: Lake, report: Report, scope: Scope, day: date) -> pl.DataFrame:
    """The stored figures; of an account, which has none stored, they are made."""
    import polars as pl

    from posture_pipeline.lake.remediation import known_episodes
    from posture_pipeline.model.backlog import severity_place
    from posture_pipeline.model.remediation import time_to_fix
    from posture_pipeline.schemas import TIME_TO_FIX

    of_report = pl.col("report") == report.name
    place = dict.fromkeys(("workload", "environment"))
    if "account_id" in scope.columns:
        known = known_episodes(lake, [report], day, accounts=[scope.columns["account_id"]])
        rows = time_to_fix(known).with_columns(date=pl.lit(day))
    else:
        rows = lake.read(TIME_TO_FIX, day)
        place |= scope.columns
    return rows.filter(
        of_report, *(pl.col(name).eq_missing(pl.lit(value)) for name, value in place.items())
    ).sort(pl.col("severity").is_null(), severity_place(), "severity")


# --- in words ---------------------------------------------------------------------------------


def _said(found: Remediation) -> str:
    from posture_pipeline.model.remediation import KNOWN_DAYS

    place = f"{found.report}, {found.scope.title}, {found.day.isoformat()}"
    remedied = 0 if found.times.is_empty() else found.times["remedied_failures"][-1]
    text = (
        f"{place}: {_count(found.open.height, 'failure')} open, {remedied:,} remedied in "
        f"{KNOWN_DAYS} days."
    )
    return printable(text)


def _remark(found: Remediation) -> str:
    open_too = "Days until half of the failures are remedied; those still open count as well."
    if found.times["median_days"].null_count():
        return f"{open_too} Not yet half: more than half have lasted as long as anybody could see."
    return open_too


def _some(title: str, rows: pl.DataFrame) -> str:
    return f"{title} ({SHOWN} of {rows.height:,})" if rows.height > SHOWN else title


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _times(found: Remediation) -> Table:
    from rich.markup import escape

    from posture_pipeline.commands.output import cell, new_table

    table = new_table(
        "Time to fix",
        [
            ("severity", False),
            ("remedied", True),
            ("open", True),
            ("ended otherwise", True),
            ("median days", True),
            ("95 % interval", False),
        ],
    )
    for row in found.times.iter_rows(named=True):
        table.add_row(
            escape(printable(row["severity"] or "all")),
            cell(row["remedied_failures"]),
            cell(row["open_failures"]),
            cell(row["failures"] - row["remedied_failures"] - row["open_failures"]),
            "not yet half" if row["median_days"] is None else f"{row['median_days']:.1f}",
            _interval(row),
        )
    return table


def _interval(row: Row) -> str:
    low, high = row["low_days"], row["high_days"]
    if low is None:
        return "cannot be told yet"
    return f"more than {low:.1f}" if high is None else f"{low:.1f} to {high:.1f}"


def _failures(title: str, rows: pl.DataFrame, day: date) -> Table:
    from rich.markup import escape
    from rich.text import Text

    from posture_pipeline.commands.output import cell, new_table

    table = new_table(
        title,
        [
            ("days", True),
            ("since", False),
            ("severity", False),
            ("control", False),
            ("account", False),
            ("resource", False),
            ("", False),
        ],
    )
    for row in rows.head(SHOWN).iter_rows(named=True):
        account = " ".join(text for text in (row["account_id"], row["account_name"]) if text)
        table.add_row(
            f"{row['days']:.0f}",
            f"{row['opened_at']:%Y-%m-%d}",
            escape(printable(cell(row["severity"]))),
            escape(
                "\n".join(printable(row[name]) for name in ("control_id", "title") if row[name])
            ),
            escape(printable(account)),
            # As text: in markup the :secret: of an ARN would become a picture.
            Text(printable(row["resource_id"] or NO_RESOURCE)),
            ", ".join(_remarks(row, day)),
        )
    return table


def _remarks(row: Row, day: date) -> list[str]:
    """What else is to be known of a failure."""
    said = []
    if row["openings"] > 1:
        said.append(f"{row['openings']} times")
    if row["closed_on"] is not None:
        said.append(f"closed on {row['closed_on'].isoformat()}: {row['closed_by']}")
    elif row["carried_forward"]:
        said.append("finding aged out, carried forward")
    elif row["last_seen"] != day:
        said.append(f"last seen {row['last_seen'].isoformat()}")
    return said


# --- for programs -----------------------------------------------------------------------------


def _as_json(found: Remediation) -> Row:
    return {
        "report": found.report,
        "date": found.day,
        **found.scope.columns,
        "said": _said(found),
        "time_to_fix": found.times.drop("date", "report", "workload", "environment").to_dicts(),
        "open": found.open.drop("date", "report").to_dicts(),
        "coming_back": found.coming_back.drop("date", "report").to_dicts(),
    }
