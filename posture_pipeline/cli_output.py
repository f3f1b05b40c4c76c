"""How the command line prints: tables for people, JSON and CSV with every column, progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from posture_pipeline.settings import Thresholds

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

SECONDS_BETWEEN_LINES = 5.0
"""Between two lines of progress where the terminal cannot overwrite one."""

NARROW = 100
"""Columns of a table where no terminal says how wide it is."""


def print_rows(rows: pl.DataFrame, format_: str, table: Callable[[pl.DataFrame], Table]) -> None:
    """Prints rows in the format asked for.

    Args:
        rows: Every column of the table, as JSON and CSV show them.
        format_: table, json or csv.
        table: Makes the table for people.
    """
    if format_ == "csv":
        sys.stdout.write(_texts(rows).write_csv())
    elif format_ == "json":
        print(json.dumps([_plain(row) for row in rows.iter_rows(named=True)], indent=1))
    else:
        print_table(table(rows))


def print_table(table: Table) -> None:
    """Prints a table, with colours only where a terminal shows them."""
    from rich.console import Console

    # No emoji: `:secret:` in an ARN is no picture.
    console = Console(emoji=False)
    if not console.is_terminal:
        # Nothing is cut for a reader that has no width.
        console = Console(width=10_000, emoji=False)
        table.expand = False
    console.print(table)


def new_table(title: str | None, columns: Sequence[tuple[str, bool]]) -> Table:
    """A table for people.

    Args:
        title: Above it.
        columns: Name, and whether it holds numbers.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name, numeric in columns:
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    return table


def plain_table(rows: pl.DataFrame) -> Table:
    """Every column of a frame, as it is."""
    from rich.markup import escape

    table = new_table(None, [(name, dtype.is_numeric()) for name, dtype in rows.schema.items()])
    for row in rows.iter_rows():
        table.add_row(*(escape(cell(value)) for value in row))
    return table


def cell(value: object) -> str:
    """A value in a table: nothing for null, two decimals for a fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def score_cell(score: float | None, thresholds: Thresholds) -> str:
    """A score with one decimal, in the colour of its band; a dash where there is none."""
    if score is None:
        return "[dim]-[/dim]"
    colour = "red" if score < thresholds.red else "yellow" if score < thresholds.amber else "green"
    return f"[{colour}]{score:.1f}[/{colour}]"


SPARKS = "▁▂▃▄▅▆▇█"
SPARK_POINTS = 4.0
"""Points that the height of a sparkline spans at least: less would make noise look like news."""


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


def shows_blocks() -> bool:
    """Whether the output is a terminal that can show the characters of a sparkline."""
    from rich.console import Console

    return Console().is_terminal and "utf" in (sys.stdout.encoding or "").lower()


class Progress:
    """Tells on stderr how far long work has come: one line that changes, or a line now and then."""

    def __init__(self) -> None:
        self.prefix = ""
        self._overwrites = sys.stderr.isatty()
        self._last = 0.0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def __call__(self, line: str) -> None:
        """Takes a line of progress."""
        text = f"{self.prefix}{line}"
        if self._overwrites:
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            print(text, file=sys.stderr, flush=True)
            self._last = time.monotonic()

    def clear(self) -> None:
        """Takes the changing line away."""
        if self._overwrites and self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        if value is None or isinstance(value, (bool, int, float, str))
        else value.hex()
        if isinstance(value, bytes)
        else value.isoformat()
        if hasattr(value, "isoformat")
        else str(value)
        for name, value in row.items()
    }


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl
    from polars import selectors

    times = selectors.datetime()
    return rows.with_columns(
        times.dt.to_string("iso"),
        selectors.binary().bin.encode("hex"),
        (selectors.nested()).map_elements(str, return_dtype=pl.String),
    )
