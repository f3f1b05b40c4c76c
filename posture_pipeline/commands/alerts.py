"""`posture alerts`: what people would be told of a day; told now; or a trial of every channel.

Which scores are told of stands in `model/alerts.py`, what is said in `alerting.py`. Arguments are
declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from posture_pipeline.errors import InputError
from posture_pipeline.explain_words import count

if TYPE_CHECKING:
    from posture_pipeline.alerting import Delivery
    from posture_pipeline.lake.alerts import Note
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings


def alerts(arguments: argparse.Namespace) -> int:
    """Shows what people would be told of a day, tells them, or tries every channel."""
    from posture_pipeline.commands.core import existing_lake, settings_of

    settings = settings_of(arguments)
    if arguments.test:
        return _try_channels(settings)
    lake = existing_lake(settings)
    newest = _newest(lake)
    day = arguments.date or newest
    if arguments.send and day != newest:
        message = f"--send tells of the newest day, {newest.isoformat()}, and of no other."
        raise InputError(message)
    return _send(lake, settings, day) if arguments.send else _show(lake, settings, day, arguments)


def _newest(lake: Lake) -> date:
    from posture_pipeline.schemas import ORGANIZATION_SCORES

    day = lake.last_day(ORGANIZATION_SCORES.name)
    if day is None:
        message = f"The lake {lake.root} has no scores yet. Run posture run or posture import."
        raise InputError(message)
    return day


def _try_channels(settings: Settings) -> int:
    from posture_pipeline.alerting import send_once, test_notes
    from posture_pipeline.resources import sender_of

    now = datetime.now(UTC)
    notes = test_notes(settings, now.date(), now)
    if not notes:
        message = (
            "alerts in the settings names nobody (to, owners, operations); see docs/alerts.md."
        )
        raise InputError(message)
    delivery = send_once(notes, sender_of(settings))
    return _told(delivery)


def _send(lake: Lake, settings: Settings, day: date) -> int:
    from posture_pipeline.alerting import deliver, deliver_again, score_notes
    from posture_pipeline.resources import sender_of

    now, send = datetime.now(UTC), sender_of(settings)
    again = deliver_again(lake, [day], send, now)
    return _told(again + deliver(lake, score_notes(lake, settings, day, now), send, now))


def _told(delivery: Delivery) -> int:
    for failed in delivery.failed:
        print(failed, file=sys.stderr)
    print(f"Messages sent: {delivery.sent}. Not taken: {len(delivery.failed)}.")
    return 1 if delivery.failed else 0


def _show(lake: Lake, settings: Settings, day: date, arguments: argparse.Namespace) -> int:
    from posture_pipeline.alerting import score_notes
    from posture_pipeline.lake.alerts import notes as notes_of

    to_send = score_notes(lake, settings, day, datetime.now(UTC))
    noted = notes_of(lake, day)
    if arguments.format == "json":
        print(json.dumps(_as_json(to_send, noted), indent=1))
        return 0
    print(f"{day.isoformat()}: {_state(settings, to_send, noted)}")
    for note in to_send:
        _print_note(note, "To be sent to")
    for note in noted:
        _print_note(note, f"Sent at {note.sent_at} to" if note.sent_at else "Not taken yet by")
        if note.error:
            print(f"\n{note.error}")
    return 0


def _state(settings: Settings, to_send: Sequence[Note], noted: Sequence[Note]) -> str:
    if not settings.alerts.to and not settings.alerts.owners:
        return "alerts in the settings names nobody; docs/alerts.md says how."
    if not to_send and not noted:
        drop = f"{settings.alerts.score_drop:g}"
        return f"no score dropped by more than {drop} points, and none is missing that was there."
    return f"{count(len(to_send), 'message')} to be sent, {len(noted):,} noted."


def _print_note(note: Note, what: str) -> None:
    from posture_pipeline.model.alerts import plain_text

    print(f"\n--- {what} {note.target}\n\n{plain_text(note.message)}")


def _as_json(to_send: Sequence[Note], noted: Sequence[Note]) -> dict[str, object]:
    from posture_pipeline.model.alerts import plain_text, slack_payload, subject

    return {
        "to_send": [
            {
                "target": note.target,
                "keys": note.keys,
                "subject": subject(note.message),
                "text": plain_text(note.message),
                "slack": slack_payload(note.message),
            }
            for note in to_send
        ],
        "noted": [asdict(note) | {"day": note.day.isoformat()} for note in noted],
    }
