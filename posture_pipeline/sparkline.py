"""A series of scores in one line of text, for the terminal and for tables of text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_POINTS = 4.0
"""Points that the height of a line spans at least: less would make noise look like news."""


def sparkline(values: Sequence[float | None]) -> str:
    """A series in one line of blocks, from its lowest to its highest value; a gap for null.

    >>> sparkline([80.0, None, 90.0])
    '▁ █'
    >>> sparkline([90.0, 90.0])
    '▁▁'
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low = min(known)
    step = max(max(known) - low, SPARK_POINTS) / (len(SPARKS) - 1)
    return "".join(" " if each is None else SPARKS[round((each - low) / step)] for each in values)
