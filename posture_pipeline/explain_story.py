"""The story of one change: what moved a score between two days, as facts and as sentences.

`posture explain` prints it, alerts carry it. How a change is split and judged is decided in
`model/changes.py`, one cause is put into words by `explain_words.py`; nothing here reads the lake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from posture_pipeline.errors import InputError
from posture_pipeline.explain_words import count, moved, what_happened
from posture_pipeline.model.causes import CAUSES, LOST_EVIDENCE, Day
from posture_pipeline.model.changes import (
    SCOPES,
    TOLERANCE,
    Verdict,
    compared_scores,
    judge,
    like_for_like,
    scope_status,
)

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
        like_for_like: The row of `like_for_like`; null when nothing is there on both days, or one
            of them has no score.
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


def story_of(
    scope: Scope,
    report: str,
    before: Day,
    after: Day,
    changes: pl.DataFrame,
    causes: pl.DataFrame,
    *,
    claim: Sequence[str] | None = None,
) -> Story | None:
    """The story of one score between two days.

    Args:
        scope: Whose score.
        report: Slug of the report.
        before: The earlier day, with all accounts of the scope.
        after: The later day, likewise.
        changes: Rows of `schemas.SCORE_CHANGES` between the two.
        causes: Rows of `schemas.SCORE_CHANGE_CAUSES`.
        claim: The controls of a sentence to judge.

    Returns:
        Null where the report has no scores on both days.

    Raises:
        InputError: A claimed control is not there on either day.
    """
    keys = SCOPES[scope.kind]
    here = [pl.col(key) == value for key, value in zip(keys, scope.values, strict=True)]
    here.append(pl.col("report") == report)
    scores = compared_scores(scope.kind, before, after).filter(*here).to_dicts()
    if not scores:
        return None
    # A score that is withheld lacks evidence, and so does what would be counted for this.
    has_both = None not in (scores[0]["score_before"], scores[0]["score_after"])
    same = like_for_like(scope.kind, before, after).filter(*here).to_dicts() if has_both else []
    # Of an account the scope's own column is the account of the cause too.
    of_scope = [pl.col("scope") == scope.kind, *here]
    evidence = causes.filter(*of_scope).to_dicts()
    titles = {
        row["control_id"]: row["title"]
        for day in (before, after)
        for row in day.expected.filter(pl.col("report") == report).to_dicts()
    }
    controls = [
        row
        | {
            "title": titles.get(row["control_id"]),
            "evidence": [c for c in evidence if c["control_id"] == row["control_id"]],
        }
        for row in changes.filter(*of_scope).to_dicts()
    ]
    controls.sort(key=lambda row: (-abs(row["part"] or 0), row["control_id"]))
    names = pl.concat([before.accounts, after.accounts]).select("account_id", "account_name")
    return Story(
        report=report,
        scope=scope,
        before=before.day,
        after=after.day,
        score=scores[0],
        like_for_like=same[0] if same else None,
        controls=controls,
        claimed=_claimed(claim, scope, before, after, controls, scores[0]),
        names={key: name for key, name in names.iter_rows() if name},
    )


def _claimed(
    claim: Sequence[str] | None,
    scope: Scope,
    before: Day,
    after: Day,
    controls: list[Row],
    score: Row,
) -> Claimed | None:
    if not claim:
        return None
    keys = SCOPES[scope.kind]
    here = [pl.col(key) == value for key, value in zip(keys, scope.values, strict=True)]
    here.append(pl.col("report") == score["report"])
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


def headline(story: Story) -> str:
    """Whose score, what it was and is, and how far it moved."""
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
    if not story.controls and story.change is None:
        return "Which of its controls changed is not known."
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
    rows = [row for cause, rows in by_cause(story) if cause in LOST_EVIDENCE for row in rows]
    gained = sum(row["part"] for row in rows if (row["part"] or 0) > 0)
    if gained < 0.005:
        return None
    return f"Careful: {gained:+.2f} points come from findings that are missing, not from a fix."


def by_cause(story: Story) -> list[tuple[str, list[Row]]]:
    """The changed controls by their first cause, the cause with the biggest part first."""
    groups: dict[str, list[Row]] = {}
    for row in story.controls:
        groups.setdefault((row["causes"] or "no_evidence").split()[0], []).append(row)
    return sorted(groups.items(), key=lambda group: -abs(total(group[1])))


def total(rows: list[Row]) -> float:
    """The points of some controls together."""
    return float(sum(row["part"] or 0 for row in rows))


def told(row: Row) -> list[Row]:
    """The evidence that people are shown: what decided the status, if anything did."""
    decisive = [each for each in row["evidence"] if each["decisive"]]
    return decisive or row["evidence"]


def in_words(cause: Row, story: Story) -> str:
    """One cause in plain words."""
    return what_happened(cause, story.names, story.after)


def _and(texts: Sequence[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def opening(story: Story) -> list[str]:
    """The sentences that say how it stands: the change, the verdict, what to be careful with."""
    lines = [
        headline(story),
        _judged(story) if story.claimed else None,
        _careful(story),
        _lost_evidence(story),
        _summary(story),
        _like_for_like(story),
    ]
    return [line for line in lines if line]


def cause_title(cause: str, rows: list[Row], story: Story) -> str:
    """What the controls of one cause add up to, and what the cause is."""
    points = f"{total(rows):+.2f} points, " if story.change is not None else ""
    return f"{points}{count(len(rows), 'control')}: {CAUSES[cause]}"
