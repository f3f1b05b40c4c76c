"""`posture reconcile`: our scores beside the figures AWS itself shows, and why they differ.

The comparison is made by `model/reconcile.py`; here are the question, what is read of the lake for
it, the words and the formats. Arguments are declared in `cli.py`.
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

RULES_SHOWN = 3
"""Of one cause, for people; JSON and CSV have all."""
FIGURES_SHOWN = 20
"""Of an aggregator's, for people, those that differ most; JSON and CSV have all."""

PAIRS = (
    "passed and failed are pairs of a rule and a resource: those here less those in AWS. The "
    "points add up to the difference."
)

CONSOLE = (
    "AWS has no call for the score of a standard. Hold console_score against Security Hub CSPM > "
    "Security standards in the console: signed in to the administrator account it shows the score "
    "of the organization, in a member account the score of that account. AWS computes it once in "
    "24 hours."
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Everything that is told of a day, for any format.

    Attributes:
        day: Day of the snapshot.
        rows: Columns of `schemas.RECONCILIATION`.
        standards: report, scope, account_id, score, console_score of the standards: those of the
            organization, and of the accounts that were asked for or that AWS was asked in.
        missing: What AWS could not be asked for, and why; null: nothing.
    """

    day: date
    rows: pl.DataFrame
    standards: pl.DataFrame
    missing: str | None

    @property
    def figures(self) -> pl.DataFrame:
        """The rows that are a figure, and not a part of a difference."""
        import polars as pl

        return self.rows.filter(pl.col("control_id").is_null() & pl.col("cause").is_null())

    @property
    def parts(self) -> pl.DataFrame:
        """The rows that are a part of a difference."""
        import polars as pl

        return self.rows.filter(pl.col("cause").is_not_null())


# --- the command ------------------------------------------------------------------------------


def reconcile(arguments: argparse.Namespace) -> int:
    """Shows our scores beside AWS's own, and what each difference is made of."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import plain_table, print_rows

    settings = settings_of(arguments)
    found = read_reconciled(
        existing_lake(settings),
        settings,
        report=arguments.report,
        account=arguments.account,
        day=arguments.date,
    )
    if arguments.format == "json":
        print(json.dumps(_as_json(found), indent=1))
        return 0
    if arguments.format == "csv":
        print_rows(found.rows, "csv", plain_table)
        if found.missing:
            print(printable(found.missing), file=sys.stderr)
        return 0
    _show(found)
    return 0


# --- what is read -----------------------------------------------------------------------------


def read_reconciled(
    lake: Lake,
    settings: Settings,
    *,
    report: str | None = None,
    account: str | None = None,
    day: date | None = None,
) -> Reconciled:
    """Our figures beside AWS's of a stored day.

    Args:
        lake: The lake.
        settings: They name the reports.
        report: Slug of a report; null: all.
        account: An account id; null: all that AWS said something of.
        day: The day; null: the newest.

    Raises:
        InputError: There is no reconciliation, or nothing of the account.
        SettingsError: There is no such report.
        LakeError: The lake has no reconciliation of the day.
    """
    import polars as pl

    from posture_pipeline.schemas import ACCOUNT_SCORES, AWS_COMPLIANCE, RECONCILIATION

    day = day or lake.last_day(RECONCILIATION.name)
    if day is None:
        message = f"The lake {lake.root} has no reconciliation yet. Run posture run first."
        raise InputError(message)
    reports = [settings.report(report)] if report else list(settings.reports)
    named = pl.col("report").is_in([each.name for each in reports])
    every = lake.read(RECONCILIATION, day)
    rows = every.filter(named)
    asked = every.filter(pl.col("unit") == "resources")["account_id"].unique().to_list()
    if account is not None:
        rows = rows.filter(pl.col("account_id") == account)
        known = lake.scan(ACCOUNT_SCORES, day).filter(pl.col("account_id") == account)
        if rows.is_empty() and known.collect().is_empty():
            message = f"On {day.isoformat()} there is no account {account!r}."
            raise InputError(message)
        asked = [account]
    commit = lake.commit_of(AWS_COMPLIANCE.name, day)
    missing = commit.details.get("incomplete") if commit else None
    wants_packs = any(each.conformance_pack is not None for each in reports)
    return Reconciled(
        day, rows, _standards(lake, named, asked, day), missing if wants_packs else None
    )


def _standards(lake: Lake, named: pl.Expr, accounts: list[str], day: date) -> pl.DataFrame:
    import polars as pl

    from posture_pipeline.schemas import ACCOUNT_SCORES, ORGANIZATION_SCORES
    from posture_pipeline.settings import STANDARD_KINDS

    standard = named & pl.col("report_kind").is_in(STANDARD_KINDS)
    columns = ["report", "scope", "account_id", "score", "console_score"]
    organization = lake.scan(ORGANIZATION_SCORES, day).with_columns(
        scope=pl.lit("organization"), account_id=pl.lit(None, pl.String)
    )
    of_accounts = (
        lake.scan(ACCOUNT_SCORES, day)
        .filter(pl.col("account_id").is_in(accounts))
        .with_columns(scope=pl.lit("account"))
    )
    found = [each.filter(standard).select(columns) for each in (organization, of_accounts)]
    return pl.concat(found).sort("report", "scope", "account_id").collect()


# --- for people -------------------------------------------------------------------------------


def _show(found: Reconciled) -> None:
    import polars as pl

    from posture_pipeline.commands.output import print_table

    figures = found.figures
    for figure in figures.filter(pl.col("unit") == "resources").iter_rows(named=True):
        print("\n".join(printable(line) for line in _said(figure, found.day)))
        parts = _parts_of(found, figure)
        if parts:
            print_table(_parts_table(parts))
            print(PAIRS)
    aggregated = figures.filter(pl.col("unit") == "rules")
    if aggregated.height:
        print(
            "Score of each account beside the share of rules that comply in AWS Config (from the "
            "aggregator; AWS tells how many, so which rules differ is inferred):"
        )
        print_table(_aggregated_table(found, aggregated))
        if aggregated.height > FIGURES_SHOWN:
            more = aggregated.height - FIGURES_SHOWN
            print(f"{more:,} more that differ less; --format csv has all.")
    if found.standards.height:
        print_table(_standards_table(found.standards))
        print(CONSOLE)
    if found.missing:
        print(f"Not everything could be compared: {printable(found.missing)}")
    elif figures.is_empty() and found.standards.is_empty():
        print(f"{found.day.isoformat()}: AWS gives no figure to compare these reports with.")


def _said(figure: Row, day: date) -> list[str]:
    """What both figures are."""
    place = f"{figure['report']}, account {figure['account_id']}, {figure['region']}"
    computed = figure["aws_updated_at"]
    when = f", computed {computed:%Y-%m-%d %H:%M} UTC" if computed else ""
    lines = [
        f"{place}, {day.isoformat()}: {_points(figure['our_value'])} here (resource_score), "
        f"{_points(figure['aws_value'])} in AWS Config ({figure['aws_name']}{when})."
    ]
    if figure["difference"] is not None:
        lines[0] += f" Difference {figure['difference']:+.2f}."
    if figure["reason"]:
        lines.append(f"{figure['reason']}.")
    return lines


def _parts_of(found: Reconciled, figure: Row) -> list[Row]:
    """What a difference is made of: a row for each cause with its rules, the biggest first."""
    import polars as pl

    from posture_pipeline.model.reconcile import CAUSES

    own = found.parts.filter(
        *(pl.col(name) == figure[name] for name in ("report", "account_id", "region", "unit"))
    ).sort(-pl.col("part").abs(), "control_id", nulls_last=True)
    causes: dict[str, Row] = {}
    for row in own.iter_rows(named=True):
        cause = causes.setdefault(
            row["cause"],
            {
                "cause": row["cause"],
                "reason": row["reason"],
                "part": None,
                "passed": 0,
                "failed": 0,
                "rules": [],
            },
        )
        if row["reason"] != cause["reason"]:
            # Of several rules, each with resources of its own: what they have in common.
            cause["reason"] = CAUSES[row["cause"]]
        if row["part"] is not None:
            cause["part"] = (cause["part"] or 0.0) + row["part"]
        cause["passed"] += row["passed"] or 0
        cause["failed"] += row["failed"] or 0
        if row["control_id"] is not None:
            cause["rules"].append(" ".join(filter(None, (row["control_id"], _signed(row["part"])))))
    return sorted(causes.values(), key=lambda cause: -abs(cause["part"] or 0.0))


def _parts_table(parts: list[Row]) -> Table:
    from rich.text import Text

    from posture_pipeline.commands.output import new_table

    table = new_table(
        None,
        [("points", True), ("passed", True), ("failed", True), ("why", False), ("rules", False)],
    )
    for row in parts:
        shown = ", ".join(row["rules"][:RULES_SHOWN])
        more = len(row["rules"]) - RULES_SHOWN
        # As text: in markup the :secret: of an ARN would become a picture.
        table.add_row(
            _signed(row["part"]),
            f"{row['passed']:+d}" if row["passed"] else "",
            f"{row['failed']:+d}" if row["failed"] else "",
            Text(printable(row["reason"])),
            Text(printable(shown + (f" and {more} more" if more > 0 else ""))),
        )
    return table


def _aggregated_table(found: Reconciled, figures: pl.DataFrame) -> Table:
    import polars as pl
    from rich.text import Text

    from posture_pipeline.commands.output import cell, new_table

    table = new_table(
        None,
        [
            ("report", False),
            ("account", False),
            ("region", False),
            ("here", True),
            ("AWS", True),
            ("difference", True),
            ("made of", False),
        ],
    )
    shown = figures.sort(-pl.col("difference").abs(), "account_id", nulls_last=True)
    for figure in shown.head(FIGURES_SHOWN).iter_rows(named=True):
        made_of = [f"{_signed(row['part'])} {row['cause']}" for row in _parts_of(found, figure)]
        table.add_row(
            figure["report"],
            figure["account_id"],
            figure["region"],
            cell(figure["our_value"]),
            cell(figure["aws_value"]),
            _signed(figure["difference"]),
            Text(printable(figure["reason"] or ", ".join(made_of))),
        )
    return table


def _standards_table(standards: pl.DataFrame) -> Table:
    from posture_pipeline.commands.output import cell, new_table

    table = new_table(
        None,
        [("standard", False), ("of", False), ("console_score", True), ("score", True)],
    )
    for row in standards.iter_rows(named=True):
        of = row["scope"] if row["account_id"] is None else f"account {row['account_id']}"
        table.add_row(row["report"], of, cell(row["console_score"]), cell(row["score"]))
    return table


def _points(value: float | None) -> str:
    return "no score" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    """Points with their sign; a part that rounds to nothing is no -0.00."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


# --- for programs -----------------------------------------------------------------------------


def _as_json(found: Reconciled) -> Row:
    keys = ("report", "account_id", "region", "unit")
    parts: dict[tuple[str, ...], list[Row]] = {}
    for row in found.rows.iter_rows(named=True):
        if row["control_id"] is not None or row["cause"] is not None:
            own = {name: value for name, value in row.items() if name not in (*keys, "date")}
            parts.setdefault(tuple(row[key] for key in keys), []).append(_plain(own))
    return {
        "date": found.day.isoformat(),
        "missing": found.missing,
        "figures": [
            _plain(
                {
                    name: figure[name]
                    for name in (
                        *keys,
                        "aws_name",
                        "aws_value",
                        "our_value",
                        "difference",
                        "aws_status",
                        "reason",
                        "aws_updated_at",
                    )
                }
            )
            | {"parts": parts.get(tuple(figure[key] for key in keys), [])}
            for figure in found.figures.iter_rows(named=True)
        ],
        "standards": found.standards.to_dicts(),
        "where_aws_shows_standards": CONSOLE,
    }


def _plain(row: Row) -> Row:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
    }
