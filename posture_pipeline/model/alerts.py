"""Alerts: which scores somebody is told of, who is told, and the message in each channel's form.

What a message says of a score is put into words elsewhere, and sent elsewhere. Limits of the
channels: "Publish" in the SNS API reference; "Section block", "Header block", "Text object" and
"Formatting text for app surfaces" in the Slack API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import polars as pl

from posture_pipeline.model.causes import Day
from posture_pipeline.model.changes import SCOPES, TOLERANCE, compared_scores
from posture_pipeline.settings import Alerts

ITEMS_SHOWN = 10
"""Scores of one message; more of them are counted."""
SUBJECT_LENGTH = 99
"""SNS: a subject is ASCII, in one line, and less than 100 characters."""
SNS_BYTES = 200_000
"""Of a message to SNS, which takes 256 KiB."""
HEADER_LENGTH = 150
SECTION_LENGTH = 3000
"""Slack: characters of a header, and of the text of a section, after escaping."""

Scored = Literal["workload", "organization"]
SCOPES_TOLD: tuple[Scored, ...] = ("workload", "organization")
"""Whose scores are told of: those of single accounts are in the workload's causes."""


@dataclass(frozen=True, slots=True)
class ScoreAlert:
    """One score that somebody is told of.

    Attributes:
        kind: dropped, or missing: there was a score on the day before, and there is none now.
        scope: Whose score: workload or organization.
        values: The columns that name it, see `model.changes.SCOPES`.
        report: Slug of the report.
        before: The earlier score.
        since: The day of the earlier score.
        after: The score of the day; null if it is missing.
        reason: Why it is missing; null otherwise.
        owners: Owners of the workload's accounts, by name; none for the organization.
    """

    kind: Literal["dropped", "missing"]
    scope: Scored
    values: tuple[str, ...]
    report: str
    before: float
    since: date
    after: float | None
    reason: str | None
    owners: tuple[str, ...]

    @property
    def title(self) -> str:
        """Whose score, for people."""
        return " ".join(self.values) or "the organization"

    @property
    def key(self) -> str:
        """Names the change within its day: what was told of once is not told of again."""
        return " ".join((self.kind, self.report, self.scope, *self.values))


@dataclass(frozen=True, slots=True)
class Message:
    """What is told at once.

    Attributes:
        title: One line.
        paragraphs: What it is about, each some lines of plain text.
        link: Where there is more; null: nowhere.
    """

    title: str
    paragraphs: tuple[str, ...]
    link: str | None = None


# --- which, and to whom -----------------------------------------------------------------------


def score_alerts(before: Day, after: Day, settings: Alerts) -> list[ScoreAlert]:
    """The scores that dropped by more than the set points, or are missing, since the day before.

    Scores that another method or other settings made are not compared. A score that was missing on
    the day before is compared with the last one there was.

    Args:
        before: The earlier day, with all accounts.
        after: The later day, likewise.
        settings: How many points, which reports and environments.

    Returns:
        The biggest drop first, the missing scores last.
    """
    found = [
        alert
        for scope in SCOPES_TOLD
        for row in _compared(scope, before, after, settings).to_dicts()
        if (alert := _alert(scope, row, before, settings)) is not None
    ]
    return sorted(
        found,
        key=lambda each: (
            each.after is None,
            -(each.before - (each.after or 0)),
            each.report,
            each.values,
        ),
    )


def _compared(scope: Scored, before: Day, after: Day, settings: Alerts) -> pl.DataFrame:
    keys = [*SCOPES[scope]]
    rows = compared_scores(scope, before, after)
    there = after.workloads if scope == "workload" else after.organization
    # What is not there any more has no score, and that is no news of its posture.
    rows = rows.join(there.select(*keys, "report"), on=[*keys, "report"], how="semi")
    if settings.reports:
        rows = rows.filter(pl.col("report").is_in(settings.reports))
    if scope == "organization":
        return rows.with_columns(owners=pl.lit([], dtype=pl.List(pl.String())))
    if settings.environments:
        rows = rows.filter(pl.col("environment").is_in(settings.environments))
    owners = after.accounts.group_by(keys).agg(owners=pl.col("owner").drop_nulls().unique().sort())
    return rows.join(owners, on=keys, how="left")


def _alert(scope: Scored, row: Mapping[str, Any], day: Day, settings: Alerts) -> ScoreAlert | None:
    score, since = row["score_before"], day.day
    if row["score_before"] is None:
        score, since = row["last_score"], row["last_score_date"]
    after = row["score_after"]
    if score is None or since is None:
        return None
    if after is None:
        # Missing for longer: that was told of when it began.
        if row["score_before"] is None:
            return None
    elif score - after <= settings.score_drop + TOLERANCE or (
        row["score_before"] is not None and row["comparable"] is not None
    ):
        return None
    return ScoreAlert(
        kind="dropped" if after is not None else "missing",
        scope=scope,
        values=tuple(row[key] for key in SCOPES[scope]),
        report=row["report"],
        before=score,
        since=since,
        after=after,
        reason=row["comparable"] if after is None else None,
        owners=tuple(row["owners"] or ()),
    )


def by_target(alerts: Iterable[ScoreAlert], settings: Alerts) -> dict[str, list[ScoreAlert]]:
    """Who is told of which scores: each owner's own targets, else those of everybody."""
    told: dict[str, list[ScoreAlert]] = {}
    for alert in alerts:
        routes = [settings.owners.get(owner, settings.to) for owner in alert.owners]
        for target in dict.fromkeys(each for route in routes or [settings.to] for each in route):
            told.setdefault(target, []).append(alert)
    return told


def score_title(alerts: Sequence[ScoreAlert], day: date) -> str:
    """The title of a message on these scores.

    >>> score_title([], date(2026, 11, 23))
    'Security posture of 2026-11-23'
    """
    dropped = [each for each in alerts if each.kind == "dropped"]
    missing = len(alerts) - len(dropped)
    if len(alerts) == 1 and dropped:
        [only] = dropped
        assert only.after is not None
        return (
            f"Security posture of {day.isoformat()}: {printable(only.title)}, {only.report} "
            f"dropped from {only.before:.1f} to {only.after:.1f}"
        )
    said = []
    if dropped:
        said.append(f"{len(dropped)} score{'s' * (len(dropped) > 1)} dropped")
    if missing:
        said.append(f"{missing} score{'s' * (missing > 1)} missing")
    return f"Security posture of {day.isoformat()}" + (f": {', '.join(said)}" if said else "")


# --- channels ---------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Text of others without what could steer a terminal or break a line."""
    return "".join(each if each.isprintable() else "?" for each in text)


def subject(message: Message) -> str:
    """The subject of a mail from SNS.

    >>> subject(Message("café dropped", ()))
    'caf? dropped'
    """
    text = "".join(each if each.isascii() else "?" for each in printable(message.title))
    return _shortened(text.strip(), SUBJECT_LENGTH) or "Security posture"


def plain_text(message: Message) -> str:
    """The message for SNS and terminals."""
    link = [message.link] if message.link else []
    lines = "\n\n".join([message.title, *message.paragraphs, *link]).splitlines()
    text = "\n".join(printable(line) for line in lines)
    if len(text.encode()) > SNS_BYTES:
        return text.encode()[:SNS_BYTES].decode(errors="ignore") + "\n..."
    return text


def slack_payload(message: Message) -> dict[str, Any]:
    """The message for a Slack webhook: blocks, and a text where these are not shown.

    Slack takes `&`, `<` and `>` for the begin of what it interprets, a mention of everybody among
    them, so they are escaped; `verbatim` keeps it from looking for names and addresses itself.
    """
    sections = [_section(paragraph) for paragraph in message.paragraphs]
    if message.link:
        # Our own link is the one thing that is to be interpreted.
        sections.append(_of_slack(f"<{slack_escaped(message.link)}>"))
    header = _shortened(printable(message.title), HEADER_LENGTH)
    return {
        "text": slack_escaped(printable(message.title)),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": False}},
            *sections,
        ],
    }


def slack_escaped(text: str) -> str:
    """Text that Slack shows as it is.

    >>> slack_escaped("<!channel> & co")
    '&lt;!channel&gt; &amp; co'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    escaped, length = [], 0
    for each in "\n".join(printable(line) for line in text.splitlines()):
        shown = slack_escaped(each)
        if length + len(shown) > SECTION_LENGTH - 3:
            escaped.append("...")
            break
        escaped.append(shown)
        length += len(shown)
    # Slack refuses a section without text.
    return _of_slack("".join(escaped) or "-")


def _of_slack(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
