"""`posture backlog`: the shortest path of a workload or account to a target score.

The order and the points stand in `model/backlog.py`; here are the question, what is read of the
lake for it, the words and the formats. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings

RESOURCES_SHOWN = 3
"""Of one control, for people; JSON and CSV have all."""

NAMES_SHOWN = 20
"""Of the workloads or accounts there are, when the one asked for is not among them."""

NO_RESOURCE = "(the finding names no resource)"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose score.

    Attributes:
        columns: The columns that name it, with their values.
        title: For people.
    """

    columns: dict[str, str]
    title: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """Everything that is told about the path to a target, for any format.

    Attributes:
        report: Slug of the report.
        scope: Whose score.
        day: Day of the snapshot.
        target: The score to reach.
        score: The score of the day; null when there is none.
        reason: Why there is no score; null when there is one.
        counted: The controls that the score counts: N.
        stale: Whether the settings of the report have changed since the score was computed.
        rows: Columns of `model.backlog.BACKLOG_SCHEMA`, `title` and `remediation_url`.
        resources: Columns of `model.backlog.RESOURCES_SCHEMA`, and `account_name`.
    """

    report: str
    scope: Scope
    day: date
    target: float
    score: float | None
    reason: str | None
    counted: int
    stale: bool
    rows: pl.DataFrame
    resources: pl.DataFrame

    @property
    def reaching(self) -> Row | None:
        """The row that reaches the target; null when there is none to reach."""
        found = self.rows.filter("reaches_target").to_dicts()
        return found[0] if found else None


# --- the command ------------------------------------------------------------------------------


def backlog(arguments: argparse.Namespace) -> int:
    """Shows which controls to fix, in which order, to reach a target score."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.commands.output import plain_table, print_rows, print_table

    scope = _scope(arguments)
    settings = settings_of(arguments)
    lake = existing_lake(settings)
    found = read_backlog(
        lake, settings, arguments.report, scope, target=arguments.target, day=arguments.date
    )
    if arguments.format == "json":
        print(json.dumps(_as_json(found), indent=1))
        return 0
    if arguments.format == "csv":
        print_rows(_flat(found), "csv", plain_table)
        print(" ".join(_said(found)), file=sys.stderr)
        return 0
    print("\n".join(_said(found)))
    if found.rows.height:
        print_table(_table_of(found), first_to_go=("status", "severity", "score"))
        print("\n".join(_remarks(found)))
    return 0


def _scope(arguments: argparse.Namespace) -> Scope:
    from posture_pipeline.commands.core import is_workload

    if is_workload(arguments):
        columns = {"workload": arguments.workload, "environment": arguments.environment}
        return Scope(columns, f"{arguments.workload} {arguments.environment}")
    return Scope({"account_id": arguments.account}, f"account {arguments.account}")


# --- what is read -----------------------------------------------------------------------------


def read_backlog(
    lake: Lake,
    settings: Settings,
    report: str,
    scope: Scope,
    *,
    target: float,
    day: date | None = None,
) -> Backlog:
    """The backlog of a workload or an account on a stored day.

    Args:
        lake: The lake.
        settings: They say which findings belong to the report.
        report: Slug of the report.
        scope: Whose score.
        target: The score to reach, 0 to 100.
        day: The day; null: the newest.

    Raises:
        InputError: There is no such report, workload or account on the day.
        LakeError: The lake has no scores or findings of the day.
    """
    import polars as pl

    from posture_pipeline.lake import snapshot
    from posture_pipeline.model.backlog import backlog as in_order
    from posture_pipeline.model.backlog import resources_to_fix
    from posture_pipeline.model.controls import findings_of_report
    from posture_pipeline.model.scoring import status_in_scope
    from posture_pipeline.schemas import ACCOUNT_SCORES, CONTROL_STATUS, WORKLOAD_SCORES

    own = settings.report(report)
    table = ACCOUNT_SCORES if "account_id" in scope.columns else WORKLOAD_SCORES
    day = day or lake.last_day(table.name)
    if day is None:
        message = (
            f"The lake {lake.root} has no scores yet. Run posture run or posture import first."
        )
        raise InputError(message)
    of_report = pl.col("report") == own.name
    here = [pl.col(name) == value for name, value in scope.columns.items()]
    score = _one_score(lake.scan(table, day).filter(of_report).collect(), scope, own.name, day)
    accounts = lake.scan(ACCOUNT_SCORES, day).filter(of_report, *here)
    names = accounts.select("account_id", "account_name").unique("account_id").collect()
    members = pl.col("account_id").is_in(names["account_id"].implode())
    status = status_in_scope(lake.scan(CONTROL_STATUS, day).filter(of_report, members), [])
    controls = status.filter(pl.col("status") != "NO_DATA").collect()
    # A score that is withheld promises no points, whatever its controls say.
    wanted = controls if score["score"] is not None else controls.clear()
    of_reports = snapshot.expected_of(lake, settings.reports, day)
    expected = of_reports.filter(pl.col("report") == own.name)
    findings = snapshot.findings_of(lake, day).filter(members)
    carried = snapshot.carried_of(lake, day).filter(of_report, members)
    resources = (
        resources_to_fix(findings_of_report(findings, own, of_reports), carried)
        .join(wanted.lazy(), on="control_id", how="semi")
        .collect()
    )
    rows = in_order(wanted, resources, target)
    return Backlog(
        report=own.name,
        scope=scope,
        day=day,
        target=target,
        score=score["score"],
        reason=score["reason"],
        counted=controls.height,
        stale=score["settings_hash"] != own.score_hash(settings.carry_days),
        rows=_with_words(rows, resources, expected),
        resources=resources.join(names, on="account_id", how="left", maintain_order="left"),
    )


def _one_score(rows: pl.DataFrame, scope: Scope, report: str, day: date) -> Row:
    import polars as pl

    found = rows.filter(*(pl.col(name) == value for name, value in scope.columns.items()))
    if found.height:
        return found.row(0, named=True)
    if rows.is_empty():
        message = f"There are no scores of {report} on {day.isoformat()}."
        raise InputError(message)
    known = sorted(" ".join(row) for row in rows.select(list(scope.columns)).iter_rows())
    shown = ", ".join(known[:NAMES_SHOWN]) + (", ..." if len(known) > NAMES_SHOWN else "")
    kind = "account" if "account_id" in scope.columns else "workload and environment"
    asked = " ".join(scope.columns.values())
    message = f"On {day.isoformat()} there is no {kind} {asked!r}; there are: {shown}."
    raise InputError(message)


def _with_words(
    rows: pl.DataFrame, resources: pl.DataFrame, expected: pl.DataFrame
) -> pl.DataFrame:
    """Adds title and remediation link: of the report's list of controls, else of a finding."""
    import polars as pl

    words = ("title", "remediation_url")
    listed = expected.select("control_id", *words).unique("control_id")
    in_findings = resources.group_by("control_id").agg(pl.col(*words).drop_nulls().min())
    return (
        rows.join(listed, on="control_id", how="left", maintain_order="left")
        .join(in_findings, on="control_id", how="left", suffix="_of_finding", maintain_order="left")
        .with_columns(pl.coalesce(word, f"{word}_of_finding").alias(word) for word in words)
        .select(*rows.columns, *words)
    )


# --- in words ---------------------------------------------------------------------------------


def _said(found: Backlog) -> list[str]:
    """The score, and how far the target is."""
    place = f"{found.report}, {found.scope.title}, {found.day.isoformat()}"
    if found.score is None:
        return [f"{place}: no score ({found.reason}), so there is no path to a target."]
    lines = [f"{place}: {found.score:.2f} of 100."]
    reaching, target = found.reaching, f"{found.target:g}"
    if reaching is not None:
        controls = _count(reaching["position"], "control")
        if reaching["fixed_so_far"] is None:
            fixes = "resources that the findings do not name"
        else:
            fixes = _count(reaching["fixed_so_far"], "resource")
        lines.append(
            f"The target {target} is reached with {controls}, {fixes} to fix: "
            f"{reaching['score_after']:.2f}."
        )
    elif found.rows.height:
        lines.append(f"The target {target} is reached already. What still costs points:")
    else:
        lines.append(f"The target {target} is reached already, and every counted control passes.")
    if found.stale:
        lines.append(
            "The settings of this report have changed since this score was computed; "
            "run the day again for a list that fits."
        )
    return lines


def _remarks(found: Backlog) -> list[str]:
    """How to read the table."""
    lines = [
        f"Every control is worth the same, {100 / found.counted:.2f} points (100 / "
        f"{found.counted}), and gives them when the last of its resources is fixed; a resource "
        f"counts once for each control."
    ]
    if (found.resources["status"] == "CARRIED").any():
        lines.append(
            "CARRIED ones have no finding any more: AWS deleted it for age while it failed. They "
            "are fixed when a finding of theirs passes, or the resource is known to be deleted."
        )
    if found.rows["unknown_resources"].sum():
        lines.append(
            "UNKNOWN ones could not be evaluated. They cost points too, and are fixed by making "
            "them evaluable (and passing); of equal cost they come after FAILED ones."
        )
    return lines


def _table_of(found: Backlog) -> Table:
    from rich.markup import escape
    from rich.text import Text

    from posture_pipeline.commands.output import cell, new_table

    table = new_table(
        None,
        [
            ("#", True),
            ("control", False),
            ("severity", False),
            ("status", False),
            ("to fix", True),
            ("points", True),
            ("score", True),
            ("target", False),
            ("what to fix", False),
        ],
    )
    resources = _resources_by_control(found)
    for row in found.rows.iter_rows(named=True):
        colour = "red" if row["status"] == "FAILED" else "yellow"
        reached = f"[green]{found.target:g} reached[/green]" if row["reaches_target"] else ""
        table.add_row(
            cell(row["position"]),
            escape(row["control_id"]),
            cell(row["severity"]),
            f"[{colour}]{row['status']}[/{colour}]",
            "?" if row["to_fix"] is None else cell(row["to_fix"]),
            f"+{row['points']:.2f}",
            cell(row["score_after"]),
            reached,
            # As text: in markup the :secret: of an ARN would become a picture.
            Text("\n".join(_what_to_fix(row, resources.get(row["control_id"], [])))),
            end_section=row["reaches_target"],
        )
    return table


def _what_to_fix(row: Row, resources: list[Row]) -> list[str]:
    """Title, link and first resources of a control, a line each."""
    lines = [text for text in (row["title"], row["remediation_url"]) if text]
    for each in resources[:RESOURCES_SHOWN]:
        regions = ", ".join(each["regions"])
        # Where a control fails, resources without a failed finding have to be recognizable.
        other = f", {each['status']}" if each["status"] != row["status"] else ""
        where = f"{each['account_id']}{', ' if regions else ''}{regions}{other}"
        lines.append(f"- {each['resource_id'] or NO_RESOURCE} ({where})")
    more = len(resources) - RESOURCES_SHOWN
    if more > 0:
        lines.append(f"- and {more:,} more")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- for programs -----------------------------------------------------------------------------


def _resources_by_control(found: Backlog) -> dict[str, list[Row]]:
    by_control: dict[str, list[Row]] = {}
    for row in found.resources.drop("title", "remediation_url").iter_rows(named=True):
        control = row.pop("control_id")
        row["regions"] = row["regions"].split()
        by_control.setdefault(control, []).append(row)
    return by_control


def _as_json(found: Backlog) -> Row:
    reaching = found.reaching
    resources = _resources_by_control(found)
    return {
        "report": found.report,
        "date": found.day.isoformat(),
        **found.scope.columns,
        "score": found.score,
        "reason": found.reason,
        "target": found.target,
        "target_reached": found.score is not None and found.score >= found.target,
        "counted_controls": found.counted,
        "controls_to_target": None if reaching is None else reaching["position"],
        "resources_to_target": None if reaching is None else reaching["fixed_so_far"],
        "said": _said(found),
        "controls": [
            row | {"resources": resources.get(row["control_id"], [])}
            for row in found.rows.iter_rows(named=True)
        ],
    }


def _flat(found: Backlog) -> pl.DataFrame:
    """A row for each control, with its resources, accounts and regions joined by spaces."""
    import polars as pl

    from posture_pipeline.schemas import SEPARATOR

    joined = found.resources.group_by("control_id", maintain_order=True).agg(
        resource_ids=pl.col("resource_id").str.join(SEPARATOR),
        account_ids=pl.col("account_id").unique(maintain_order=True).str.join(SEPARATOR),
        regions=pl.col("regions").str.split(SEPARATOR).explode().unique().sort()
        .str.join(SEPARATOR),
    )  # fmt: skip
    place = [
        pl.lit(found.day).alias("date"),
        pl.lit(found.report).alias("report"),
        *(pl.lit(value).alias(name) for name, value in found.scope.columns.items()),
    ]
    return found.rows.join(joined, on="control_id", how="left", maintain_order="left").select(
        *place, pl.all()
    )
