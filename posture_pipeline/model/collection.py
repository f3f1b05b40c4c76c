"""What a collection is made of: its shards, filters, positions. No I/O and no AWS client here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PAGES_PER_FILE = 100
"""Pages of 100 findings in one raw file, so that it becomes one parquet file of 10,000 rows."""


_UPDATES = "updates"
UPDATES_OF_SHARD = rf"-{_UPDATES}-([0-9]+)$"
"""In the name of a shard that asks what was updated while another was paged: which pass it is."""


def updates_shard(shard: str, number: int) -> str:
    """Name of the shard that asks for the updates of another, for the n-th time from 1."""
    return f"{shard}-{_UPDATES}-{number}"


def is_updates_shard(shard: str) -> bool:
    """Whether a shard asked what was updated while another was paged."""
    return re.search(UPDATES_OF_SHARD, shard) is not None


@dataclass(frozen=True, slots=True)
class ShardPosition:
    """How far a shard has come: what a retry needs to go on there.

    Attributes:
        shard: Name of the shard, such as `eu-west-1-0` or `all`.
        query: Hash of the request (filters, region) that the token belongs to.
        files: Raw files saved so far.
        pages: Pages in these files.
        findings: Records on these pages.
        next_token: Where the next page starts; null at the start and when complete.
        complete: The last page had no token.
        began_at: When its first page was asked for, by the endpoint's clock; ISO 8601.
    """

    shard: str
    query: str
    files: int = 0
    pages: int = 0
    findings: int = 0
    next_token: str | None = None
    complete: bool = False
    began_at: str = ""


def incomplete_because(regions_left_out: Sequence[str]) -> str | None:
    """What scores without these regions are marked with; null where none was left out.

    >>> incomplete_because(["eu-north-1"])
    'region eu-north-1 was not collected'
    """
    if not regions_left_out:
        return None
    if len(regions_left_out) == 1:
        return f"region {regions_left_out[0]} was not collected"
    *others, last = sorted(regions_left_out)
    return f"regions {', '.join(others)} and {last} were not collected"


class PageSink(Protocol):
    """Where collected pages go. The lake's implementation survives a kill at any moment."""

    def position(self, shard: str) -> ShardPosition | None:
        """The saved position of a shard; null when nothing of it was saved."""
        ...

    def add(self, shard: str, body: bytes) -> None:
        """Takes a page, a response body as received, into the shard's open file."""
        ...

    def save(self, position: ShardPosition) -> None:
        """Closes the shard's open file (number `position.files - 1`), then saves the position."""
        ...

    def restart(self, shard: str) -> None:
        """Forgets everything of a shard: its open file, saved files and position."""
        ...
