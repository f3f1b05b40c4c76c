"""How the command line prints: tables for people, JSON and CSV with every column, progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from posture_pipeline.printable import printable
from posture_pipeline.settings import Thresholds

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console, RenderableType
    from rich.table import Table

SECONDS_BETWEEN_LINES = 5.0
"""Between two lines of progress where the terminal cannot overwrite one."""

NARROW = 100
"""Columns of a table where no terminal says how wide it is."""


LONG_WORD = 20
"""Letters that a table breaks no word below."""


def print_rows(
    rows: pl.DataFrame,
    format_: str,
    tables: Callable[[pl.DataFrame], Table | Sequence[Table]],
    *,
    first_to_go: Sequence[str] = (),
) -> None:
    """Prints rows in the format asked for.

    Args:
        rows: Every column of the table, as JSON and CSV show them.
        format_: table, json or csv.
        tables: Makes the table for people, or several as `print_table` takes them.
        first_to_go: As there.
    """
    if format_ == "csv":
        sys.stdout.write(_texts(rows).write_csv())
    elif format_ == "json":
        print(json.dumps([_plain(row) for row in rows.iter_rows(named=True)], indent=1))
    else:
        made = tables(rows)
        print_table(*(made if isinstance(made, Sequence) else [made]), first_to_go=first_to_go)


def print_table(*tables: Table, first_to_go: Sequence[str] = ()) -> None:
    """Prints a table, with colours only where a terminal shows them.

    Words are never broken to make a table fit the terminal: cells are wrapped between words, and
    where that is not enough columns are left out, with a line that names them.

    Args:
        tables: The same table, with the most in it first: the first that fits is printed, and
            where there is no terminal the last.
        first_to_go: Headers of the columns that are left out before others, which go from the
            right; the first column always stays.
    """
    from rich.console import Console

    # No emoji: `:secret:` in an ARN is no picture.
    console = Console(emoji=False)
    table = tables[-1]
    if not console.is_terminal:
        # Nothing is cut for a reader that has no width.
        console = Console(width=10_000, emoji=False)
        table.expand = False
        console.print(table)
        return
    table = next((each for each in tables if _width(each, console) <= console.width), table)
    left_out = _fit(table, console, first_to_go)
    console.print(table)
    if left_out:
        console.print(
            f"Left out for want of room: {', '.join(left_out)}.", style="dim", highlight=False
        )


def _width(table: Table, console: Console) -> int:
    """Columns of the terminal that a table takes with nothing wrapped."""
    from rich.measure import Measurement

    wide = console.options.update(width=10_000)
    return Measurement.get(console, wide, table).maximum


def _fit(table: Table, console: Console, first_to_go: Sequence[str]) -> list[str]:
    """Makes a table fit a terminal, and says which columns that took."""
    left_out: list[str] = []
    if _width(table, console) <= console.width:
        return left_out
    least, most = {}, {}
    for column in table.columns:
        texts = [_text(each) for each in (column.header, *column.cells)]
        pieces = texts if column.no_wrap else [word for text in texts for word in text.split()]
        # What is longer than a word, such as an ARN, must be broken somewhere.
        longest = max(map(len, pieces), default=0)
        least[id(column)] = min(longest, max(LONG_WORD, console.width // 4))
        most[id(column)] = max(map(len, texts))

    def room() -> int:
        # A space on both sides of a cell, a line between cells and at both ends.
        between = 3 * len(table.columns) + 1
        return console.width - between - sum(least[id(column)] for column in table.columns)

    while len(table.columns) > 1 and room() < 0:
        headers = [str(column.header) for column in table.columns]
        name = next((each for each in first_to_go if each in headers[1:]), headers[-1])
        del table.columns[len(headers) - 1 - headers[::-1].index(name)]
        left_out.append(name)
    spare = max(room(), 0)
    for column in table.columns:
        more = min(spare, most[id(column)] - least[id(column)])
        column.width = least[id(column)] + more
        spare -= more
    return left_out


def _text(content: RenderableType) -> str:
    from rich.text import Text

    return Text.from_markup(content).plain if isinstance(content, str) else str(content)


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
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


def score_cell(score: float | None, thresholds: Thresholds) -> str:
    """A score with one decimal, in the colour of its band; a dash where there is none."""
    if score is None:
        return "[dim]-[/dim]"
    colour = "red" if score < thresholds.red else "yellow" if score < thresholds.amber else "green"
    return f"[{colour}]{score:.1f}[/{colour}]"


def shows_blocks() -> bool:
    """Whether the output is a terminal that can show the characters of a sparkline."""
    from rich.console import Console

    console = Console()
    can = console.is_terminal and not console.is_dumb_terminal
    return can and "utf" in (sys.stdout.encoding or "").lower()


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
