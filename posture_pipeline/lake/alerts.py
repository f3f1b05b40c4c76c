"""What was told to whom: one small file for each message and target, so that nothing is told twice.

A message is noted before it is sent and again when it was taken. What was noted and not taken is
tried again; a process that ends between the two sends a message again, and never loses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date

from posture_pipeline.errors import LakeError
from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.alerts import Message

FOLDER = "alerts"
_ENDING = ".json"


@dataclass(frozen=True, slots=True)
class Note:
    """A message to one target.

    Attributes:
        day: The day that it belongs to.
        target: Who is told, as the settings have it; never the address of a webhook.
        keys: The changes that it tells of.
        message: What it says.
        made_at: When it was noted, ISO 8601, UTC.
        tries: How often it was sent.
        sent_at: When it was taken; null: not yet.
        receipt: What the channel answered, such as a message id.
        error: Why the last try failed; null: it did not.
    """

    day: date
    target: str
    keys: tuple[str, ...]
    message: Message
    made_at: str
    tries: int = 0
    sent_at: str | None = None
    receipt: str | None = None
    error: str | None = None

    @property
    def path(self) -> str:
        """Where it is kept: one file for the same changes and the same target."""
        named = "\n".join([self.target, *sorted(self.keys)])
        name = hashlib.sha256(named.encode()).hexdigest()[:16]
        return f"{layout.partition(FOLDER, self.day)}/{name}{_ENDING}"


def put(lake: Lake, note: Note) -> None:
    """Keeps a note; it replaces the one of the same changes and target."""
    lake.put_json(note.path, asdict(note) | {"day": note.day.isoformat()})


def notes(lake: Lake, day: date) -> list[Note]:
    """The notes of a day.

    Raises:
        LakeError: One of them is damaged.
    """
    folder = layout.partition(FOLDER, day)
    _, names = lake.names(folder)
    found = []
    for name in names:
        place = f"{folder}/{name}"
        value = lake.get_json(place) if name.endswith(_ENDING) else None
        if value is None:
            continue
        try:
            message = Message(**value["message"])
            message = replace(message, paragraphs=tuple(message.paragraphs))
            known = value | {"day": day, "keys": tuple(value["keys"]), "message": message}
            found.append(Note(**known))
        except (KeyError, TypeError) as error:
            text = f"{lake.uri(place)} is damaged ({error}); remove it: the alert is sent again."
            raise LakeError(text) from error
    return found


def told(noted: Iterable[Note], target: str) -> set[str]:
    """The changes that a target was told of, or will be."""
    return {key for note in noted if note.target == target for key in note.keys}
