"""What the command line draws of a series, and how its tables fit terminals of every width."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from posture_pipeline.commands.output import new_table, print_table, score_cell, shows_blocks
from posture_pipeline.settings import Thresholds
from posture_pipeline.sparkline import SPARKS, sparkline

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
WORDS = ["Sandbox", "Jane", "data-platform", "acceptance", "production", "findings"]

Terminal = Callable[[int, Callable[[], object]], str]


def test_a_sparkline_runs_from_the_lowest_to_the_highest_score_with_gaps() -> None:
    assert sparkline([80.0, None, 90.0]) == f"{SPARKS[0]} {SPARKS[-1]}"


def test_small_moves_do_not_look_like_big_ones() -> None:
    assert set(sparkline([90.0, 90.1, 90.0])) == {SPARKS[0]}


def test_without_any_score_there_is_no_line() -> None:
    assert sparkline([None, None]) == ""


@given(st.lists(st.none() | st.floats(0, 100), max_size=20))
def test_every_day_has_one_character(values: list[float | None]) -> None:
    known = [each for each in values if each is not None]
    assert len(sparkline(values)) == (len(values) if known else 0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs something with a real terminal of some width as its output; gives what it wrote."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def run(width: int, print_: Callable[[], object]) -> str:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        with os.fdopen(theirs, "w", encoding="utf-8") as output:
            # Rich asks the standard streams by their numbers how wide the terminal is.
            kept = [(number, os.dup(number)) for number in (0, 1, 2)]
            try:
                for number, _ in kept:
                    os.dup2(output.fileno(), number)
                monkeypatch.setattr(sys, "stdout", output)
                print_()
                output.flush()
            finally:
                for number, copy in kept:
                    os.dup2(copy, number)
                    os.close(copy)
                monkeypatch.undo()
            os.set_blocking(ours, False)
            text = b""
            while True:
                try:
                    text += os.read(ours, 65_536)
                except BlockingIOError:
                    break
        os.close(ours)
        return text.decode().replace("\r\n", "\n")

    return run


def scores() -> Table:
    table = new_table(
        "Scores",
        [("workload", False), ("environment", False), ("score", True), ("14 days", False),
         ("resource score", True), ("failed findings", True)],
    )  # fmt: skip
    for place in (("Sandbox Jane", "acceptance"), ("data-platform", "production")):
        table.add_row(*place, score_cell(89.4, Thresholds()), SPARKS[0] * 14, "91.3", "1,022")
    return table


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_a_table_fits_the_terminal_and_breaks_no_word(terminal: Terminal, width: int) -> None:
    text = ESCAPE.sub("", terminal(width, lambda: print_table(scores(), first_to_go=["14 days"])))
    assert max(map(len, text.splitlines())) <= width
    if width >= 40:
        shown = set(re.findall(r"[A-Za-z-]{4,}", text))
        assert {"Sandbox", "data-platform"} <= shown
        assert not {each for each in shown if each not in WORDS} & {
            word[:end] for word in WORDS for end in range(4, len(word))
        }


def test_columns_that_matter_least_go_first_and_are_named(terminal: Terminal) -> None:
    text = ESCAPE.sub("", terminal(64, lambda: print_table(scores(), first_to_go=["14 days"])))
    assert SPARKS[0] not in text
    assert "89.4" in text
    assert "Left out for want of room: 14 days" in text


def test_the_first_table_that_fits_is_printed(terminal: Terminal) -> None:
    def print_() -> None:
        narrow = new_table(None, [("plain", False)])
        print_table(scores(), narrow)

    assert "data-platform" in terminal(200, print_)
    assert "plain" in terminal(40, print_)


def test_scores_have_the_colour_of_their_band(terminal: Terminal) -> None:
    assert "\x1b[31m89.4" in terminal(200, lambda: print_table(scores()))


def test_colours_are_left_out_where_they_are_not_wanted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[31m" not in terminal(200, lambda: print_table(scores()))


def test_what_is_piped_has_no_escape_codes_and_every_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table(scores(), first_to_go=["14 days"])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "failed findings" in text
    assert "Left out" not in text


def test_blocks_are_drawn_in_terminals_that_have_them_only(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "True" in terminal(80, lambda: print(shows_blocks()))
    monkeypatch.setenv("TERM", "dumb")
    assert "False" in terminal(80, lambda: print(shows_blocks()))
    assert not shows_blocks()
