"""NextTokens: opaque, bound to the question they continue, and refused once they are old."""

from __future__ import annotations

import base64
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import datetime as dt


class TokenError(Exception):
    """A token cannot be used; the text is what AWS would say."""


def question_hash(*parts: object) -> str:
    """Return a digest of what a token continues: the operation, its filters, its order."""
    return blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=9).hexdigest()


def issue(question: str, position: list[int], now: dt.datetime) -> str:
    """Return a token for a position in the answer to a question."""
    payload = msgspec.json.encode([question, position, now.timestamp()])
    # Compressed data carries a checksum of its own, so a damaged token is found out.
    return base64.urlsafe_b64encode(zlib.compress(payload)).decode()


def read(token: str, question: str, now: dt.datetime, lifetime_seconds: float) -> list[int]:
    """Return the position that a token stands for.

    Raises:
        TokenError: it is no token of ours, belongs to another question, or is too old.
    """
    try:
        payload = zlib.decompress(base64.urlsafe_b64decode(token.encode()))
        asked, position, issued = msgspec.json.decode(payload, type=tuple[str, list[int], float])
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        message = "Invalid NextToken: the token is malformed"
        raise TokenError(message) from error
    if asked != question:
        message = "Invalid NextToken: Input Query has changed"
        raise TokenError(message)
    if not -lifetime_seconds <= now.timestamp() - issued <= lifetime_seconds:
        message = "Invalid NextToken: the token has expired"
        raise TokenError(message)
    return position
