"""`posture explain`: why a score changed between two stored days, told to a product owner.

What is read stands in `lake/explanation.py`, the rules in `model/changes.py` and `model/causes.py`;
here are the question, the words and the formats. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from posture_pipeline.errors import InputError
from posture_pipeline.explain_words import count, moved, what_happened

if TYPE_CHECKING:
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.model.causes import Day
    from posture_pipeline.model.changes import Verdict
    from posture_pipeline.settings import Settings

RESOURCES_SHOWN = 5
"""Of one control, for people; JSON has all."""
CONTROLS_SHOWN = 12
"""Of one cause, for people; JSON has all."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose score is explained.

    Attributes:
        kind: account, workload or organization.
        values: The values of the columns that name it, see `model.changes.SCOPES`.
        title: For people.
    """

    kind: str
    values: tuple[str, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A judged sentence: "it is only lower because of these controls".

    Attributes:
        controls: The claimed controls.
        verdict: What the parts say; null when a day has no score.
        unchanged: Claimed controls whose status is the same on both days, with that status.
    """

    controls: tuple[str, ...]
    verdict: Verdict | None
    unchanged: dict[str, str]


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is told about one change, for any format.

    Attributes:
        report: Slug of the report.
        scope: Whose score.
        before: The earlier day.
        after: The later day.
        score: The row of `compared_scores`.
        like_for_like: The row of `like_for_like`; null when nothing is there on both days.
        controls: The changed controls, biggest part first; each with its title and its causes.
        claimed: The judged sentence; null when nothing was claimed.
        names: Account names by id.
    """

    report: str
    scope: Scope
    before: date
    after: date
    score: Row
    like_for_like: Row | None
    controls: list[Row]
    claimed: Claimed | None
    names: dict[str, str]

    @property
    def change(self) -> float | None:
        """The difference of the two scores; null when one is missing."""
        first, second = self.score["score_before"], self.score["score_after"]
        return None if first is None or second is None else second - first


# --- the command ------------------------------------------------------------------------------


def explain(arguments: argparse.Namespace) -> int:
    """Explains a score between two days, and judges what somebody says of it."""
    from posture_pipeline.cli_commands import existing_lake, settings_of

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
    import polars as pl

    from posture_pipeline.lake import explanation
    from posture_pipeline.model.changes import SCOPES, compared_scores, like_for_like

    report = settings.report(arguments.report)
    members = _members(lake, report.name, scope, before, after)
    found = explanation.explain(
        lake, [report], before, after, accounts=members, scopes=[scope.kind]
    )
    first, second = found.before, found.after
    keys = SCOPES[scope.kind]
    here = [pl.col(key) == value for key, value in zip(keys, scope.values, strict=True)]
    scores = compared_scores(scope.kind, first, second).filter(*here).to_dicts()
    if not scores:
        message = (
            f"The report {report.name} has no scores on both {before.isoformat()} and "
            f"{after.isoformat()}: it was added later. Materialize the scores of past days first."
        )
        raise InputError(message)
    same = like_for_like(scope.kind, first, second).filter(*here).to_dicts()
    # Of an account the scope's own column is the account of the cause too.
    causes = found.causes.filter(*here).to_dicts()
    titles = {
        row["control_id"]: row["title"]
        for day in (first, second)
        for row in day.expected.select("control_id", "title").to_dicts()
    }
    controls = [
        row
        | {
            "title": titles.get(row["control_id"]),
            "evidence": [c for c in causes if c["control_id"] == row["control_id"]],
        }
        for row in found.changes.filter(*here).to_dicts()
    ]
    controls.sort(key=lambda row: (-abs(row["part"] or 0), row["control_id"]))
    names = pl.concat([first.accounts, second.accounts]).select("account_id", "account_name")
    return Story(
        report=report.name,
        scope=scope,
        before=before,
        after=after,
        score=scores[0],
        like_for_like=same[0] if same else None,
        controls=controls,
        claimed=_claimed(arguments.claim, scope, first, second, controls, scores[0]),
        names={key: name for key, name in names.iter_rows() if name},
    )


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


def _claimed(
    claim: Sequence[str] | None,
    scope: Scope,
    before: Day,
    after: Day,
    controls: list[Row],
    score: Row,
) -> Claimed | None:
    import polars as pl

    from posture_pipeline.model.changes import SCOPES, judge, scope_status

    if not claim:
        return None
    keys = SCOPES[scope.kind]
    here = [pl.col(key) == value for key, value in zip(keys, scope.values, strict=True)]
    status: dict[str, str] = {}
    for day in (before, after):
        rows = scope_status(day, keys).filter(*here)
        status.update(rows.select("control_id", "status").iter_rows())
    known = {control.lower(): control for control in status}
    unknown = [control for control in claim if control.lower() not in known]
    if unknown:
        message = (
            f"{score['report']} has no control {', '.join(unknown)} in {scope.title} on either "
            f"day; `posture controls` lists them."
        )
        raise InputError(message)
    claimed = tuple(dict.fromkeys(known[control.lower()] for control in claim))
    parts = {row["control_id"]: row["part"] for row in controls}
    scored = score["score_before"] is not None and score["score_after"] is not None
    return Claimed(
        controls=claimed,
        verdict=judge(claimed, parts) if scored else None,
        unchanged={control: status[control] for control in claimed if control not in parts},
    )


# --- in words ---------------------------------------------------------------------------------


def _headline(story: Story) -> str:
    place = f"{story.report}, {story.scope.title}"
    first, second = story.score["score_before"], story.score["score_after"]
    if story.change is None:
        have = ""
        if first is not None:
            have = f" The last known score is {first:.2f}, of {story.before.isoformat()}."
        last, last_day = story.score["last_score"], story.score["last_score_date"]
        if first is None and last is not None:
            have = f" The last known score is {last:.2f}, of {last_day.isoformat()}."
        if second is not None:
            have += f" On {story.after.isoformat()} it is {second:.2f}."
            if last is not None:
                have += f" Compare the two with --from {last_day.isoformat()}."
        return f"{place}: {story.score['comparable']}, so there is no change to split.{have}"
    return (
        f"{place}: {first:.2f} on {story.before.isoformat()}, {second:.2f} on "
        f"{story.after.isoformat()}: {moved(story.change)}."
    )


def _summary(story: Story) -> str:
    """What pulled the score down and what up, where nobody claimed anything."""
    down = [row["part"] for row in story.controls if (row["part"] or 0) < 0]
    up = [row["part"] for row in story.controls if (row["part"] or 0) > 0]
    if not story.controls:
        return "No control changed its status."
    if story.change is None:
        return f"{count(len(story.controls), 'control')} changed status."
    pieces = []
    if down:
        pieces.append(f"{count(len(down), 'control')} pulled it down by {-sum(down):.2f} points")
    if up:
        pieces.append(f"{count(len(up), 'control')} pulled it up by {sum(up):.2f} points")
    neither = len(story.controls) - len(down) - len(up)
    if neither:
        pieces.append(f"{count(neither, 'control')} changed status without moving it")
    text = _and(pieces)
    return text[:1].upper() + text[1:] + "."


def _judged(story: Story) -> str:
    """The verdict on what was claimed, in a sentence or two."""
    from posture_pipeline.model.changes import TOLERANCE

    claimed = story.claimed
    assert claimed is not None
    names = _and(claimed.controls)
    sentence = f'"It is only lower because of {names}"'
    verdict = claimed.verdict
    if verdict is None:
        return f"{sentence} cannot be judged: {story.score['comparable']}."
    same = [f"{name} is {status} on both days" for name, status in claimed.unchanged.items()]
    aside = f" ({_and(same)})" if same else ""
    if verdict.share is None:
        how_far = "the same" if verdict.change <= TOLERANCE else moved(verdict.change)
        return f"{sentence} is false: the score is not lower but {how_far}."
    drop = f"{-verdict.change:.2f}"
    rest = [
        (row["part"], row["control_id"])
        for row in story.controls
        if row["control_id"] not in claimed.controls and (row["part"] or 0) < 0
    ]
    others = ", ".join(f"{control} ({part:+.2f})" for part, control in sorted(rest)[:5])
    others += f" and {len(rest) - 5} more" if len(rest) > 5 else ""
    if verdict.answer == "true":
        made_up = verdict.others - sum(part for part, _ in rest)
        also = f" {others} pulled it down too, made up for by {made_up:+.2f} elsewhere."
        return (
            f"{sentence} is true: {names} cost {-verdict.claimed:.2f} points{aside}, and without "
            f"that the score would not be lower.{also if rest else ''}"
        )
    if verdict.answer == "partly":
        return (
            f"{sentence} is only partly true: {names} cost {-verdict.claimed:.2f} of the {drop} "
            f"points, {100 * (verdict.share or 0):.0f}%{aside}. The rest: {others}."
        )
    nothing = (
        f"pulled it up by {verdict.claimed:.2f} points"
        if verdict.claimed >= 0.005
        else f"explains nothing of the {drop} points"
    )
    return f"{sentence} is false: {names} {nothing}{aside}. What does: {others}."


def _like_for_like(story: Story) -> str | None:
    """The same comparison without what came or went; null where there is nothing to compare."""
    row = story.like_for_like
    if row is None or row["score_before"] is None or row["score_after"] is None:
        return None
    change = row["score_after"] - row["score_before"]
    over = (
        f"Like for like, over the {count(row['accounts'], 'account')} and "
        f"{count(row['controls'], 'control')} that are there on both days"
    )
    if story.change is not None and abs(change - story.change) < 0.005:
        return f"{over}: the same, {moved(change)}."
    scores = f"{row['score_before']:.2f} to {row['score_after']:.2f}, {moved(change)}"
    why = "accounts or controls that are there on one day only"
    return f"{over}: {scores}. The rest comes from {why}."


def _careful(story: Story) -> str | None:
    """What makes two scores that exist incomparable."""
    if story.change is None or story.score["comparable"] is None:
        return None
    return f"Careful: {story.score['comparable']}, so the two scores do not measure the same."


def _lost_evidence(story: Story) -> str | None:
    """What looks like an improvement and is none."""
    from posture_pipeline.model.causes import LOST_EVIDENCE

    rows = [row for cause, rows in _by_cause(story) if cause in LOST_EVIDENCE for row in rows]
    gained = sum(row["part"] for row in rows if (row["part"] or 0) > 0)
    if gained < 0.005:
        return None
    return f"Careful: {gained:+.2f} points come from findings that are missing, not from a fix."


def _by_cause(story: Story) -> list[tuple[str, list[Row]]]:
    """The changed controls by their first cause, the cause with the biggest part first."""
    groups: dict[str, list[Row]] = {}
    for row in story.controls:
        groups.setdefault((row["causes"] or "no_evidence").split()[0], []).append(row)
    return sorted(groups.items(), key=lambda group: -abs(_total(group[1])))


def _total(rows: list[Row]) -> float:
    return float(sum(row["part"] or 0 for row in rows))


def _told(row: Row) -> list[Row]:
    """The evidence that people are shown: what decided the status, if anything did."""
    decisive = [each for each in row["evidence"] if each["decisive"]]
    return decisive or row["evidence"]


def _what_happened(cause: Row, story: Story) -> str:
    return what_happened(cause, story.names, story.after)


def _and(texts: Sequence[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _status(row: Row) -> str:
    words = [row[name] or "not there" for name in ("status_before", "status_after")]
    return f"{words[0]} to {words[1]}"


def _points(part: float | None) -> str:
    return "     " if part is None else f"{part:+.2f}"


# --- formats ----------------------------------------------------------------------------------


def _opening(story: Story) -> list[str]:
    lines = [
        _headline(story),
        _judged(story) if story.claimed else None,
        _careful(story),
        _lost_evidence(story),
        _summary(story),
        _like_for_like(story),
    ]
    return [line for line in lines if line]


def _cause_title(cause: str, rows: list[Row], story: Story) -> str:
    from posture_pipeline.model.causes import CAUSES

    points = f"{_total(rows):+.2f} points, " if story.change is not None else ""
    return f"{points}{count(len(rows), 'control')}: {CAUSES[cause]}"


def _as_text(story: Story) -> str:
    lines = _opening(story)
    for cause, rows in _by_cause(story):
        lines += ["", _cause_title(cause, rows, story)]
        if story.change is None:
            lines += [f"  - {line}" for line in _in_short(rows, story)]
            continue
        for row in rows[:CONTROLS_SHOWN]:
            facts = [row["control_id"], row["severity"], _status(row)]
            title = f"  {row['title']}" if row["title"] else ""
            lines.append(f"  {_points(row['part'])}  {', '.join(filter(None, facts))}.{title}")
            told = _told(row)
            lines += [
                f"         - {_what_happened(each, story)}" for each in told[:RESOURCES_SHOWN]
            ]
            if len(told) > RESOURCES_SHOWN:
                lines.append(f"         - and {len(told) - RESOURCES_SHOWN} more")
        lines += [f"  {text}" for text in _controls_left_out(rows, story)]
    # Names are other people's: nothing in them may steer a terminal.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _as_markdown(story: Story) -> str:
    lines = [f"## {_markdown(_headline(story))}", ""]
    lines += [f"{_markdown(line)}\n" for line in _opening(story)[1:]]
    for cause, rows in _by_cause(story):
        lines += [f"### {_markdown(_cause_title(cause, rows, story))}", ""]
        if story.change is None:
            lines += [*(f"- {_markdown(line)}" for line in _in_short(rows, story)), ""]
            continue
        for row in rows[:CONTROLS_SHOWN]:
            facts = ", ".join(filter(None, [row["severity"], _status(row), row["title"]]))
            part = f"{_points(row['part'])} " if row["part"] is not None else ""
            lines.append(f"- {part}**{_markdown(row['control_id'])}** {_markdown(facts)}")
            told = _told(row)
            lines += [
                f"  - {_markdown(_what_happened(each, story))}" for each in told[:RESOURCES_SHOWN]
            ]
            if len(told) > RESOURCES_SHOWN:
                lines.append(f"  - and {len(told) - RESOURCES_SHOWN} more")
        lines += [f"- {text}" for text in _controls_left_out(rows, story)]
        lines.append("")
    return "\n".join(lines).rstrip()


def _in_short(rows: list[Row], story: Story) -> list[str]:
    """Where nothing is split: which controls, and what happened, each once."""
    names = [row["control_id"] for row in rows]
    more = f" and {len(names) - CONTROLS_SHOWN} more" if len(names) > CONTROLS_SHOWN else ""
    said = dict.fromkeys(
        _what_happened(each | {"status_before": None, "status_after": None}, story)
        if each["resource_id"] is None
        else _what_happened(each, story)
        for row in rows
        for each in _told(row)
    )
    rest = [f"and {len(said) - RESOURCES_SHOWN} more"] if len(said) > RESOURCES_SHOWN else []
    return [", ".join(names[:CONTROLS_SHOWN]) + more, *[*said][:RESOURCES_SHOWN], *rest]


def _controls_left_out(rows: list[Row], story: Story) -> list[str]:
    rest = rows[CONTROLS_SHOWN:]
    if not rest:
        return []
    worth = f", together {_total(rest):+.2f} points" if story.change is not None else ""
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
        "sentences": _opening(story),
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
                "part": _total(rows) if story.change is not None else None,
                "controls": [row["control_id"] for row in rows],
            }
            for cause, rows in _by_cause(story)
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
