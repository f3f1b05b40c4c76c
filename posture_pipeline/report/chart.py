"""The chart of the day's summary, drawn by Matplotlib: the organization's scores, a panel a report.

It comes as the bytes of an image. Matplotlib is imported only when a chart is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from posture_pipeline.settings import Thresholds
from posture_pipeline.sparkline import SPARK_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Sequence[float | None]]
"""The scores of each report, one a day; null where there is none."""

PANELS_A_ROW = 4
PANELS = 8
"""Reports that are drawn at most."""

DOTS_AN_INCH = 96
"""Dagster's UI makes no picture smaller: of a larger one the right end would be cut off."""

COLOURS = {"red": "#b42318", "amber": "#b54708", "green": "#067647", "none": "#667085"}
INK, FAINT = "#344054", "#d0d5dd"


def chart(series: Series, days: Sequence[date], thresholds: Thresholds) -> bytes:
    """The scores over time, as a PNG.

    Args:
        series: The scores; one report at least.
        days: The days of the scores, oldest first.
        thresholds: They choose the colour, by the newest score.
    """
    shown = list(series.items())[:PANELS]
    rows = -(-len(shown) // PANELS_A_ROW)
    figure = _figure(9.6, 1.9 * rows)
    columns = min(len(shown), PANELS_A_ROW)
    for number, (report, scores) in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, number)
        colour = _line(axes, scores, thresholds)
        for limit in (thresholds.red, thresholds.amber):
            axes.axhline(limit, color=FAINT, linewidth=0.9, linestyle="--")
        axes.set_title(f"{report}  {_text(scores[-1])}", loc="left", fontsize=9.5, color=colour)
        axes.set_xlim(-0.5, len(days) - 0.5)
        ends = sorted({0, len(days) - 1})
        axes.set_xticks(ends, [f"{days[place]:%d %b}" for place in ends])
        if len(ends) > 1:
            first, last = axes.get_xticklabels()
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")
        axes.tick_params(labelsize=7.5, colors=INK, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
    figure.subplots_adjust(0.04, 0.24 / rows, 0.99, 1 - 0.2 / rows, wspace=0.22, hspace=0.5)
    return _image(figure, dots_an_inch=DOTS_AN_INCH, colours=32)


def small_chart(
    scores: Sequence[float | None], thresholds: Thresholds, *, limit: int
) -> bytes | None:
    """The scores of one report as a line, in a PNG of so many bytes at most.

    Args:
        scores: One a day, oldest first.
        thresholds: They choose the colour, by the newest score.
        limit: Bytes; there are fewer colours where it would be larger.

    Returns:
        The image; null: none is as small as that.
    """
    figure = _figure(3.2, 0.6)
    axes = figure.add_axes((0.0, 0.04, 1.0, 0.92))
    _line(axes, scores, thresholds)
    axes.set_xlim(-0.5, len(scores) - 0.5)
    axes.set_axis_off()
    for colours in (12, 6, 3, 2):
        image = _image(figure, dots_an_inch=100, colours=colours)
        if len(image) <= limit:
            return image
    return None


def band(score: float | None, thresholds: Thresholds) -> str:
    """red, amber, green, or none where there is no score."""
    if score is None:
        return "none"
    if score < thresholds.red:
        return "red"
    return "amber" if score < thresholds.amber else "green"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    # Not through pyplot: that keeps every figure, and belongs to one thread.
    return Figure(figsize=(width, height))


def _line(axes: Axes, scores: Sequence[float | None], thresholds: Thresholds) -> str:
    """Draws the scores, with a gap where there is none, and says their colour."""
    colour = COLOURS[band(scores[-1], thresholds)]
    values = [float("nan") if each is None else each for each in scores]
    low, high = _span(scores)
    axes.plot(values, color=colour, linewidth=1.8, clip_on=False)
    axes.plot(len(values) - 1, values[-1], "o", color=colour, markersize=4, clip_on=False)
    axes.set_ylim(low, high)
    return colour


def _span(scores: Sequence[float | None]) -> tuple[float, float]:
    """The bottom and top of a panel: what the scores span, not so little that noise is news."""
    known = [each for each in scores if each is not None] or [0.0]
    middle = (min(known) + max(known)) / 2
    half = max(max(known) - min(known), SPARK_POINTS) / 2 * 1.25
    return max(middle - half, 0.0), min(middle + half, 100.0)


def _text(score: float | None) -> str:
    return "no score" if score is None else f"{score:.1f}"


def _image(figure: Figure, *, dots_an_inch: int, colours: int) -> bytes:
    """The figure in few colours: pictures go into Dagster's event log, some every day."""
    from PIL import Image

    drawn, written = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_an_inch)
    few = Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(written, "png", optimize=True)
    return written.getvalue()
