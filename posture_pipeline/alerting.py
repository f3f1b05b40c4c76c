"""Telling people: what a message says, and that each is told of a change once.

Which scores are told of, and the form that a channel takes, is decided in `model/alerts.py`; what
was told stands in `lake/alerts.py`; `aws/alerts.py` sends.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import polars as pl

from posture_pipeline.errors import PostureError
from posture_pipeline.explain_story import (
    Scope,
    Story,
    by_cause,
    cause_title,
    in_words,
    opening,
    story_of,
    told,
)
from posture_pipeline.explain_words import count
from posture_pipeline.lake import alerts as ledger
from posture_pipeline.lake import explanation
from posture_pipeline.lake.alerts import Note
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.alerts import (
    ITEMS_SHOWN,
    Message,
    ScoreAlert,
    by_target,
    score_alerts,
    score_title,
)
from posture_pipeline.schemas import ORGANIZATION_SCORES
from posture_pipeline.settings import Settings

Send = Callable[[str, Message], str]
"""Sends a message to a target and returns what the channel answered; raises a `PostureError`."""

CAUSES_SHOWN = 3
CONTROLS_SHOWN = 4
"""Of one score and of one cause; `posture explain` has all."""
TRIES = 24
"""After so many failed tries a message is given up: two hours, at one try in five minutes."""
TRIED_AGAIN_AFTER = timedelta(minutes=5)
"""A note that was just made is being sent by who made it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of some messages.

    Attributes:
        sent: Messages that a channel took.
        failed: Why the others were not taken; each names its target.
    """

    sent: int = 0
    failed: tuple[str, ...] = ()

    def __add__(self, other: Delivery) -> Delivery:
        """Both together."""
        return Delivery(self.sent + other.sent, self.failed + other.failed)


# --- scores -----------------------------------------------------------------------------------


def score_notes(lake: Lake, settings: Settings, day: date, now: datetime) -> list[Note]:
    """The messages on the scores of a stored day that nobody was told of yet, one for each target.

    Raises:
        LakeError: The lake has no scores of the day, or something in it is damaged.
    """
    compared_with = explanation.earlier_day(lake, day)
    if compared_with is None:
        return []
    before = explanation.read_day(lake, settings.reports, compared_with)
    after = explanation.read_day(lake, settings.reports, day)
    noted = ledger.notes(lake, day)
    open_ = {}
    for target, alerts in by_target(
        score_alerts(before, after, settings.alerts), settings.alerts
    ).items():
        known = ledger.told(noted, target)
        if left := [each for each in alerts if each.key not in known]:
            open_[target] = left
    shown = {each for alerts in open_.values() for each in alerts[:ITEMS_SHOWN]}
    paragraphs = _paragraphs(lake, settings, day, shown)
    return [
        Note(
            day=day,
            target=target,
            keys=tuple(each.key for each in alerts),
            message=_score_message(alerts, paragraphs, settings, day),
            made_at=now.isoformat(timespec="seconds"),
        )
        for target, alerts in open_.items()
    ]


def _score_message(
    alerts: Sequence[ScoreAlert],
    paragraphs: dict[ScoreAlert, str],
    settings: Settings,
    day: date,
) -> Message:
    texts = [paragraphs[each] for each in alerts[:ITEMS_SHOWN]]
    if len(alerts) > ITEMS_SHOWN:
        texts.append(f"And {count(len(alerts) - ITEMS_SHOWN, 'more score')}.")
    return Message(score_title(alerts, day), tuple(texts), settings.dashboards.report_url)


def _paragraphs(
    lake: Lake, settings: Settings, day: date, alerts: Iterable[ScoreAlert]
) -> dict[ScoreAlert, str]:
    """What is said of each score: its change, the verdict, the causes, the owner."""
    said = {}
    by_since: dict[date, list[ScoreAlert]] = {}
    for alert in alerts:
        by_since.setdefault(alert.since, []).append(alert)
    for since, group in by_since.items():
        found = _explained(lake, settings, since, day, group)
        for alert in group:
            story = None if found is None else _story(found, alert)
            said[alert] = "\n".join(_lines(alert, story, day))
    return said


def _explained(
    lake: Lake, settings: Settings, since: date, day: date, alerts: Sequence[ScoreAlert]
) -> explanation.Explanation | None:
    """The comparison with the day since which these scores changed; null where it is gone."""
    if not explanation.is_complete(lake, since):
        return None
    reports = [each for each in settings.reports if each.name in {a.report for a in alerts}]
    scopes = {each.scope for each in alerts}
    members = None if "organization" in scopes else _members(lake, since, day, alerts)
    return explanation.explain(lake, reports, since, day, accounts=members, scopes=scopes)


def _members(lake: Lake, since: date, day: date, alerts: Sequence[ScoreAlert]) -> list[str]:
    """The accounts that are in one of the workloads on one of the days."""
    from posture_pipeline.schemas import ACCOUNT_SCORES

    keys = ["workload", "environment"]
    places = pl.LazyFrame(
        [each.values for each in alerts], schema=dict.fromkeys(keys, pl.String), orient="row"
    )
    rows = lake.scan(ACCOUNT_SCORES, [since, day]).join(places, on=keys, how="semi")
    return rows.select(pl.col("account_id").unique().sort()).collect()["account_id"].to_list()


def _story(found: explanation.Explanation, alert: ScoreAlert) -> Story | None:
    """The story of a score, with the verdict on the control that cost most."""
    scope = Scope(alert.scope, alert.values, alert.title)

    def story(claim: list[str] | None) -> Story | None:
        return story_of(
            scope,
            alert.report,
            found.before,
            found.after,
            found.changes,
            found.causes,
            claim=claim,
        )

    plain = story(None)
    costs = (
        [] if plain is None else [(row["part"] or 0, row["control_id"]) for row in plain.controls]
    )
    worst = min(costs, default=(0, ""))
    return story([worst[1]]) if worst[0] < 0 else plain


def _lines(alert: ScoreAlert, story: Story | None, day: date) -> list[str]:
    if story is None:
        change = alert.reason or f"{alert.after:.2f} on {day.isoformat()}"
        since = f"{alert.before:.2f} on {alert.since.isoformat()}"
        lines = [f"{alert.report}, {alert.title}: {since}, now {change}."]
    else:
        lines = opening(story)
        if story.change is not None:
            lines += _causes(story)
    if alert.owners:
        lines.append(f"Owner: {', '.join(alert.owners)}")
    whose = (
        "--organization"
        if alert.scope == "organization"
        else shlex.join(["--workload", alert.values[0], "--environment", alert.values[1]])
    )
    days = f"--from {alert.since.isoformat()} --to {day.isoformat()}"
    lines.append(f"More: posture explain --report {alert.report} {whose} {days}")
    return lines


def _causes(story: Story) -> list[str]:
    lines = []
    causes = by_cause(story)
    for cause, rows in causes[:CAUSES_SHOWN]:
        lines.append(cause_title(cause, rows, story))
        for row in rows[:CONTROLS_SHOWN]:
            evidence = told(row)
            first = f": {in_words(evidence[0], story)}" if evidence else ""
            more = f" (and {len(evidence) - 1} more)" if len(evidence) > 1 else ""
            part = "" if row["part"] is None else f"{row['part']:+.2f} "
            lines.append(f"- {part}{row['control_id']}{first}{more}")
        if len(rows) > CONTROLS_SHOWN:
            lines.append(f"- and {count(len(rows) - CONTROLS_SHOWN, 'more control')}")
    if len(causes) > CAUSES_SHOWN:
        lines.append(f"And {count(len(causes) - CAUSES_SHOWN, 'more cause')}.")
    return lines


def why_not(lake: Lake, settings: Settings, day: date) -> str | None:
    """Why nobody is told of the scores of a day; null if somebody is."""
    if not settings.alerts.to and not any(settings.alerts.owners.values()):
        return "alerts.to and alerts.owners name nobody"
    if lake.last_day(ORGANIZATION_SCORES.name) != day:
        return "a newer day is stored, and people are told of that"
    return None


# --- operations -------------------------------------------------------------------------------


def operations_notes(
    settings: Settings, day: date, key: str, message: Message, now: datetime
) -> list[Note]:
    """A message for who is told of runs and snapshots, one for each target.

    Args:
        settings: Who is told.
        day: The day that it belongs to.
        key: Names what is told of; it is told once.
        message: What is said.
        now: When it is noted, UTC.
    """
    made_at = now.isoformat(timespec="seconds")
    targets = dict.fromkeys(settings.alerts.for_operations)
    return [Note(day, target, (key,), message, made_at) for target in targets]


def run_link(settings: Settings, run_id: str) -> str | None:
    """Where people see a run; null if the settings do not say where the UI is."""
    url = settings.alerts.dagster_url
    return None if url is None else f"{url.rstrip('/')}/runs/{run_id}"


def test_notes(settings: Settings, day: date, now: datetime) -> list[Note]:
    """A trial message for every target that the settings name."""
    message = Message(
        "Security posture: this is a test",
        (
            "If you read this, alerts of posture_pipeline reach you here: scores that drop, runs "
            "that fail, days without a snapshot.",
        ),
    )
    made_at = now.isoformat(timespec="seconds")
    return [
        Note(day, target, (f"test {made_at}",), message, made_at)
        for target in settings.alerts.targets
    ]


# --- delivering -------------------------------------------------------------------------------


def deliver(lake: Lake, notes: Iterable[Note], send: Send, now: datetime) -> Delivery:
    """Sends messages that were not sent yet, each noted before and after.

    Args:
        lake: Where it is noted.
        notes: The messages; those whose changes the target was told of are left out.
        send: Sends one.
        now: UTC.
    """
    sent, failed = 0, []
    for note in notes:
        if set(note.keys) <= ledger.told(ledger.notes(lake, note.day), note.target):
            continue
        ledger.put(lake, note)
        problem = _sent(lake, note, send, now)
        sent += problem is None
        failed += [problem] if problem else []
    return Delivery(sent, tuple(failed))


def deliver_anyway(lake: Lake, notes: Sequence[Note], send: Send, now: datetime) -> Delivery:
    """As `deliver`; without noting it where the lake cannot be used, which may be the message."""
    try:
        return deliver(lake, notes, send, now)
    except Exception:
        # Whatever is wrong with the lake, people must hear of the run.
        return send_once(notes, send)


def send_once(notes: Iterable[Note], send: Send) -> Delivery:
    """Sends messages without noting it."""
    done = Delivery()
    for note in notes:
        try:
            send(note.target, note.message)
            done += Delivery(sent=1)
        except PostureError as error:
            done += Delivery(failed=(str(error),))
    return done


def deliver_again(lake: Lake, days: Iterable[date], send: Send, now: datetime) -> Delivery:
    """Sends what was noted on these days and that no channel took.

    A note that is new and was never tried is left to who made it.
    """
    sent, failed = 0, []
    for note in (each for day in days for each in ledger.notes(lake, day)):
        made = now - datetime.fromisoformat(note.made_at)
        is_new = note.tries == 0 and made < TRIED_AGAIN_AFTER
        if note.sent_at is not None or note.tries >= TRIES or is_new:
            continue
        problem = _sent(lake, note, send, now)
        sent += problem is None
        failed += [problem] if problem else []
    return Delivery(sent, tuple(failed))


def _sent(lake: Lake, note: Note, send: Send, now: datetime) -> str | None:
    """Sends one message and notes what came of it; why it failed, or null."""
    tried = replace(note, tries=note.tries + 1)
    try:
        receipt = send(note.target, note.message)
    except PostureError as error:
        ledger.put(lake, replace(tried, error=str(error)))
        return str(error)
    sent_at = now.isoformat(timespec="seconds")
    ledger.put(lake, replace(tried, sent_at=sent_at, receipt=receipt, error=None))
    return None
