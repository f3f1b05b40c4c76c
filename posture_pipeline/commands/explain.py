"""`posture explain`: why a score changed between two stored days, told to a product owner.

What is read stands in `lake/explanation.py`, the rules in `model/changes.py` and `model/causes.py`,
the sentences in `explain_story.py`; here are the question and the formats. Arguments are declared
in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError
from posture_pipeline.explain_story import (
    Scope,
    Story,
    by_cause,
    cause_title,
    headline,
    in_words,
    opening,
    story_of,
    told,
    total,
)
from posture_pipeline.explain_words import count

if TYPE_CHECKING:
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings

RESOURCES_SHOWN = 5
"""Of one control, for people; JSON has all."""
CONTROLS_SHOWN = 12
"""Of one cause, for people; JSON has all."""

Row = dict[str, Any]


# --- the command ------------------------------------------------------------------------------


def explain(arguments: argparse.Namespace) -> int:
    """Explains a score between two days, and judges what somebody says of it."""
    from posture_pipeline.commands.core import existing_lake, settings_of

    scope = _scope(arguments)
    settings = settings_of(arguments)
    lake = existing_lake(settings)
    before, after = _days(lake, arguments)
    story = _story(lake, settings, scope, before, after, arguments)
    formats = {"text": _as_text, "markdown": _as_markdown, "json": _as_json}
    print(formats[arguments.format](story))
    return 0


def _scope(arguments: argparse.Namespace) -> Scope:
    of_workload = arguments.workload is not None and arguments.environment is not None
    half = (arguments.workload is None) != (arguments.environment is None)
    named = [of_workload, arguments.account is not None, arguments.organization]
    if half or sum(named) != 1:
        message = "Name one of --workload W with --environment E, --account ID, or --organization."
        raise InputError(message)
    if of_workload:
        values = (arguments.workload, arguments.environment)
        return Scope("workload", values, " ".join(values))
    if arguments.account is not None:
        return Scope("account", (arguments.account,), f"account {arguments.account}")
    return Scope("organization", (), "the organization")


def _days(lake: Lake, arguments: argparse.Namespace) -> tuple[date, date]:
    from posture_pipeline.lake import explanation
    from posture_pipeline.schemas import ORGANIZATION_SCORES

    after = arguments.to or lake.last_day(ORGANIZATION_SCORES.name)
    if after is None:
        message = f"The lake {lake.root} has no scores yet. Run posture run or posture import."
        raise InputError(message)
    lake.require(ORGANIZATION_SCORES.name, after)
    before = arguments.from_ or explanation.earlier_day(lake, after)
    if before is None:
        message = f"{after.isoformat()} is the first stored day: there is none to compare it with."
        raise InputError(message)
    lake.require(ORGANIZATION_SCORES.name, before)
    if before >= after:
        message = (
            f"--from {before.isoformat()} is not earlier than --to {after.isoformat()}; "
            f"give an earlier day."
        )
        raise InputError(message)
    return before, after


def _story(
    lake: Lake,
    settings: Settings,
    scope: Scope,
    before: date,
    after: date,
    arguments: argparse.Namespace,
) -> Story:
    from posture_pipeline.lake import explanation

    report = settings.report(arguments.report)
    members = _members(lake, report.name, scope, before, after)
    found = explanation.explain(
        lake, [report], before, after, accounts=members, scopes=[scope.kind]
    )
    story = story_of(
        scope,
        report.name,
        found.before,
        found.after,
        found.changes,
        found.causes,
        claim=arguments.claim,
    )
    if story is None:
        message = (
            f"The report {report.name} has no scores on both {before.isoformat()} and "
            f"{after.isoformat()}: it was added later. Materialize the scores of past days first."
        )
        raise InputError(message)
    return story


def _members(lake: Lake, report: str, scope: Scope, before: date, after: date) -> list[str] | None:
    """The accounts that are in the scope on one of the days; null: all."""
    import polars as pl

    from posture_pipeline.model.changes import SCOPES
    from posture_pipeline.schemas import ACCOUNT_SCORES

    keys = SCOPES[scope.kind]
    if not keys:
        return None
    rows = lake.scan(ACCOUNT_SCORES, [before, after]).filter(pl.col("report") == report)
    places = rows.select("account_id", *(key for key in keys if key != "account_id")).unique()
    known = places.collect()
    if known.is_empty():
        message = f"There are no scores of {report} on {before.isoformat()} or {after.isoformat()}."
        raise InputError(message)
    here = [pl.col(key) == value for key, value in zip(keys, scope.values, strict=True)]
    members = known.filter(*here)
    if members.is_empty():
        others = sorted(" ".join(row) for row in known.select(keys).unique().iter_rows())
        shown = ", ".join(others[:20]) + (", ..." if len(others) > 20 else "")
        message = (
            f"On {before.isoformat()} and {after.isoformat()} there is no {scope.kind} "
            f"{' '.join(scope.values)!r}; there are: {shown}."
        )
        raise InputError(message)
    return members["account_id"].unique().sort().to_list()


# --- formats ----------------------------------------------------------------------------------


def _status(row: Row) -> str:
    words = [row[name] or "not there" for name in ("status_before", "status_after")]
    return f"{words[0]} to {words[1]}"


def _points(part: float | None) -> str:
    return "     " if part is None else f"{part:+.2f}"


def _as_text(story: Story) -> str:
    lines = opening(story)
    for cause, rows in by_cause(story):
        lines += ["", cause_title(cause, rows, story)]
        if story.change is None:
            lines += [f"  - {line}" for line in _in_short(rows, story)]
            continue
        for row in rows[:CONTROLS_SHOWN]:
            facts = [row["control_id"], row["severity"], _status(row)]
            title = f"  {row['title']}" if row["title"] else ""
            lines.append(f"  {_points(row['part'])}  {', '.join(filter(None, facts))}.{title}")
            shown = told(row)
            lines += [f"         - {in_words(each, story)}" for each in shown[:RESOURCES_SHOWN]]
            if len(shown) > RESOURCES_SHOWN:
                lines.append(f"         - and {len(shown) - RESOURCES_SHOWN} more")
        lines += [f"  {text}" for text in _controls_left_out(rows, story)]
    # Names are other people's: nothing in them may steer a terminal.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _as_markdown(story: Story) -> str:
    lines = [f"## {_markdown(headline(story))}", ""]
    lines += [f"{_markdown(line)}\n" for line in opening(story)[1:]]
    for cause, rows in by_cause(story):
        lines += [f"### {_markdown(cause_title(cause, rows, story))}", ""]
        if story.change is None:
            lines += [*(f"- {_markdown(line)}" for line in _in_short(rows, story)), ""]
            continue
        for row in rows[:CONTROLS_SHOWN]:
            facts = ", ".join(filter(None, [row["severity"], _status(row), row["title"]]))
            part = f"{_points(row['part'])} " if row["part"] is not None else ""
            lines.append(f"- {part}**{_markdown(row['control_id'])}** {_markdown(facts)}")
            shown = told(row)
            lines += [f"  - {_markdown(in_words(each, story))}" for each in shown[:RESOURCES_SHOWN]]
            if len(shown) > RESOURCES_SHOWN:
                lines.append(f"  - and {len(shown) - RESOURCES_SHOWN} more")
        lines += [f"- {text}" for text in _controls_left_out(rows, story)]
        lines.append("")
    return "\n".join(lines).rstrip()


def _in_short(rows: list[Row], story: Story) -> list[str]:
    """Where nothing is split: which controls, and what happened, each once."""
    names = [row["control_id"] for row in rows]
    more = f" and {len(names) - CONTROLS_SHOWN} more" if len(names) > CONTROLS_SHOWN else ""
    said = dict.fromkeys(
        in_words(each | {"status_before": None, "status_after": None}, story)
        if each["resource_id"] is None
        else in_words(each, story)
        for row in rows
        for each in told(row)
    )
    rest = [f"and {len(said) - RESOURCES_SHOWN} more"] if len(said) > RESOURCES_SHOWN else []
    return [", ".join(names[:CONTROLS_SHOWN]) + more, *[*said][:RESOURCES_SHOWN], *rest]


def _controls_left_out(rows: list[Row], story: Story) -> list[str]:
    rest = rows[CONTROLS_SHOWN:]
    if not rest:
        return []
    worth = f", together {total(rest):+.2f} points" if story.change is not None else ""
    return [f"and {count(len(rest), 'more control')}{worth}"]


def _markdown(text: str) -> str:
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def _as_json(story: Story) -> str:
    from dataclasses import asdict

    value = {
        "report": story.report,
        "scope": story.scope.kind,
        **_named_scope(story.scope),
        "from": story.before,
        "to": story.after,
        "score_before": story.score["score_before"],
        "score_after": story.score["score_after"],
        "change": story.change,
        "comparable": story.score["comparable"],
        "sentences": opening(story),
        "claim": None
        if story.claimed is None
        else {
            "controls": story.claimed.controls,
            "unchanged": story.claimed.unchanged,
            **(asdict(story.claimed.verdict) if story.claimed.verdict else {"answer": None}),
        },
        "like_for_like": story.like_for_like
        and {
            name: story.like_for_like[name]
            for name in ("score_before", "score_after", "accounts", "controls")
        },
        "causes": [
            {
                "cause": cause,
                "part": total(rows) if story.change is not None else None,
                "controls": [row["control_id"] for row in rows],
            }
            for cause, rows in by_cause(story)
        ],
        "controls": [
            {name: row[name] for name in _CONTROL_FIELDS}
            | {
                "causes": (row["causes"] or "").split(),
                "evidence": [
                    {name: each[name] for name in _EVIDENCE_FIELDS}
                    | {"account_name": story.names.get(each["account_id"])}
                    for each in row["evidence"]
                ],
            }
            for row in story.controls
        ],
    }
    return json.dumps(value, indent=1, default=lambda each: each.isoformat())


def _named_scope(scope: Scope) -> dict[str, str]:
    from posture_pipeline.model.changes import SCOPES

    return dict(zip(SCOPES[scope.kind], scope.values, strict=True))


_CONTROL_FIELDS = (
    "control_id",
    "title",
    "severity",
    "status_before",
    "status_after",
    "part",
    "failing_resources_before",
    "failing_resources_after",
)
_EVIDENCE_FIELDS = (
    "cause",
    "decisive",
    "account_id",
    "region",
    "resource_id",
    "status_before",
    "status_after",
    "finding_id_before",
    "finding_id_after",
    "first_observed_at",
    "detail",
)
