"""The summary of a day in Markdown: scores, what moved most and why, and what to look at.

It is read in the Dagster UI. Names from AWS are somebody else's text: they are escaped, so that
they can neither link, load nor lay out anything. Which causes there are is decided in
`model/causes.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from posture_pipeline.explain_words import count, what_happened
from posture_pipeline.lake import control_notes
from posture_pipeline.lake.explanation import earlier_day
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import exceptions as exception_rules
from posture_pipeline.report.chart import band, chart, small_chart
from posture_pipeline.report.moves import (
    MOVED_AT_LEAST,
    Move,
    Row,
    first_cause,
    incomparable,
    moves,
)
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    EXCEPTIONS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    SOURCE_COMPLETENESS,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Settings

DAYS_CHARTED = 30
MOVERS = 10
NAMES_SHOWN = 5
NO_BREAK = "\u00a0"
"""A space at which no line ends: the columns of the UI are narrow."""

SHOWN_AT_ONCE = 999
"""Characters: Dagster's UI puts longer Markdown behind a click (ui-core, MetadataEntry.tsx)."""


@dataclass(frozen=True, slots=True)
class DaySummary:
    """A day, told in Markdown.

    Attributes:
        whole: Everything, with the chart.
        scores: The scores alone, as a table.
        movers: What moved most, alone: as much of it as is shown at once.
        trends: A small chart for each report, with its score.
    """

    whole: str
    scores: str
    movers: str
    trends: Mapping[str, str]


def summary_of(lake: Lake, settings: Settings, day: date) -> DaySummary:
    """The summary of a stored day.

    Raises:
        LakeError: The lake lacks the scores of the day.
    """
    before = earlier_day(lake, day)
    now = {row["report"]: row for row in _of(lake, ORGANIZATION_SCORES, day)}
    reports = [report.name for report in settings.reports if report.name in now]
    then = {row["report"]: row for row in _of(lake, ORGANIZATION_SCORES, before)}
    days = [day - timedelta(days=back) for back in reversed(range(DAYS_CHARTED))]
    history = _history(lake, reports, days)
    first = next(
        (
            place
            for place, _ in enumerate(days)
            if any(line[place] is not None for line in history.values())
        ),
        len(days) - 1,
    )
    charted, days = {name: line[first:] for name, line in history.items()}, days[first:]
    scores = _scores([now[name] for name in reports], then, settings)
    told = _movers(lake, before, day)
    since = f"since {before.isoformat()}" if before else "no earlier day to compare with"
    parts = [
        f"# Security posture on {day.isoformat()}",
        f"Scores of the organization, {since}.",
        _picture("Scores over time", chart(charted, days, settings.thresholds)) if charted else "",
        scores,
        f"## What moved most\n\n{_list(told[:MOVERS], 'No score of a workload moved.')}",
        _more(len(told) - MOVERS, "more"),
        f"## What to look at\n\n{_list(_careful(lake, settings, day), 'Nothing is out of order.')}",
    ]
    return DaySummary(
        "\n\n".join(part for part in parts if part),
        scores,
        _fitting(told, "No score of a workload moved."),
        {name: _trend(now[name], then.get(name), line, settings) for name, line in charted.items()},
    )


def markdown(text: object) -> str:
    r"""Somebody else's text as plain text in Markdown, on one line.

    >>> print(markdown("[a](http://b) <i>|"))
    \[a\](http://b) \<i\>\|
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return "".join(f"\\{c}" if c in "\\`*_<>|[]!#~&" else c for c in line)


# --- scores -----------------------------------------------------------------------------------


def _scores(
    rows: Sequence[Row],
    before: Mapping[str, Row],
    settings: Settings,
) -> str:
    lines = [
        "| report | score | change | failed controls | failing findings |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = (
            markdown(row["report"]),
            f"{_score(row)}{NO_BREAK}{_word(row, settings)}",
            _change(row, before.get(row["report"])),
            _failed(row),
            "" if row["failed_findings"] is None else f"{row['failed_findings']:,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _failed(row: Row) -> str:
    """How many controls fail; nothing where the score is withheld."""
    if row["failed"] is None:
        return ""
    counted = row["passed"] + row["failed"] + row["unknown"]
    return f"{row['failed']:,}{NO_BREAK}of{NO_BREAK}{counted:,}"


def _score(row: Row) -> str:
    return "no score" if row["score"] is None else f"**{row['score']:.1f}**"


def _word(row: Row, settings: Settings) -> str:
    """The colour as a word, or why there is no score."""
    if row["score"] is None:
        return f"({markdown(row['reason'])})"
    return band(row["score"], settings.thresholds)


def _change(now: Row, before: Row | None) -> str:
    if before is None or None in (now["score"], before["score"]):
        return ""
    careful = "; ".join(incomparable(before, now))
    points = _points(now["score"] - before["score"])
    return f"{points} ({markdown(careful)})" if careful else points


def _points(change: float) -> str:
    """A change in points, with a second decimal where the first says nothing."""
    if abs(change) < MOVED_AT_LEAST:
        return "0.0"
    return f"{change:+.1f}" if abs(change) >= 0.05 else f"{change:+.2f}"


def _history(
    lake: Lake, reports: Sequence[str], days: Sequence[date]
) -> dict[str, list[float | None]]:
    """The scores of each report, one for each of the days, also those that are not stored."""
    beyond, first = days[-1] + timedelta(days=1), days[0] - timedelta(days=1)
    stored = sorted(lake.days_before(ORGANIZATION_SCORES.name, beyond, after=first))
    rows = lake.scan(ORGANIZATION_SCORES, stored).select("date", "report", "score").collect()
    known = {(when, report): score for when, report, score in rows.iter_rows()}
    return {report: [known.get((each, report)) for each in days] for report in reports}


def _trend(now: Row, before: Row | None, scores: Sequence[float | None], settings: Settings) -> str:
    change = _change(now, before)
    words = f"{_score(now)} {_word(now, settings)}{f', {change}' if change else ''}"
    room = SHOWN_AT_ONCE - len(words) - len(_picture("Score over time", b"")) - 2
    image = small_chart(scores, settings.thresholds, limit=room * 3 // 4 - 2)
    return f"{words}\n\n{_picture('Score over time', image)}" if image else words


def _picture(words: str, png: bytes) -> str:
    return f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})"


# --- what moved -------------------------------------------------------------------------------


def _movers(lake: Lake, before: date | None, day: date) -> list[str]:
    """A sentence for each score of a workload that moved, the biggest move first."""
    then = {_place(row): row for row in _of(lake, WORKLOAD_SCORES, before)}
    moved = moves(_of(lake, WORKLOAD_SCORES, day), then)
    changes, causes = (
        lake.scan(table, day).filter(pl.col("scope") == "workload").collect()
        if moved and lake.commit_of(table.name, day) is not None
        else table.empty()
        for table in (SCORE_CHANGES, SCORE_CHANGE_CAUSES)
    )
    accounts = lake.scan(ACCOUNT_SCORES, day).select("account_id", "account_name").unique()
    names = {key: name for key, name in accounts.collect().iter_rows() if name}
    said = [_mover(move, changes, causes, names, day) for move in moved[:MOVERS]]
    return said + [""] * (len(moved) - len(said))


def _mover(
    move: Move,
    changes: pl.DataFrame,
    causes: pl.DataFrame,
    names: Mapping[str, str],
    day: date,
) -> str:
    now = move.now
    here = [pl.col(name) == now[name] for name in ("report", "workload", "environment")]
    careful = "; ".join(incomparable(move.before, now))
    words = (
        f"**{markdown(now['workload'])} {markdown(now['environment'])}**, "
        f"{markdown(now['report'])} {now['score']:.1f} ({_points(move.points)})"
    )
    own = changes.filter(*here, pl.col("part") != 0).sort(pl.col("part").abs() * -1, "control_id")
    for change in own.head(1).iter_rows(named=True):
        evidence = causes.filter(*here, pl.col("control_id") == change["control_id"]).sort(
            pl.col("decisive").fill_null(value=False), descending=True, maintain_order=True
        )
        told = [what_happened(each, names, day) for each in evidence.head(1).iter_rows(named=True)]
        why = told[0] if told else first_cause(change)
        more = f"; {count(own.height - 1, 'more control')}" if own.height > 1 else ""
        words += f": {markdown(change['control_id'])}, {markdown(why)}{more}"
    return f"{words} ({markdown(careful)})" if careful else words


def _place(row: Row) -> tuple[str, str, str]:
    return row["report"], row["workload"], row["environment"]


# --- what to look at --------------------------------------------------------------------------


def _careful(lake: Lake, settings: Settings, day: date) -> Iterable[str]:
    """What is missing, silent, of another day, about to end or unreadable."""
    withheld = [row for row in _of(lake, WORKLOAD_SCORES, day) if row["score"] is None]
    if withheld:
        named = [f"{row['workload']} {row['environment']} {row['report']}" for row in withheld]
        yield f"{count(len(withheld), 'score')} of workloads missing: {_named(named)}"
    accounts = lake.read(ACCOUNT_SCORES, day)
    for incomplete in accounts["incomplete"].drop_nulls().unique().sort():
        yield f"the snapshot is incomplete: {markdown(incomplete)}"
    by_account = accounts.group_by("account_id").agg(
        pl.col("account_name").first(),
        pl.col("workload_source").first(),
        scored=pl.col("score").is_not_null().any(),
    )
    for rows, what in (
        (by_account.filter(~pl.col("scored")), "without any score"),
        (by_account.filter(pl.col("workload_source") == "account_name"), "without a workload"),
    ):
        if rows.height:
            named = [f"{row[0]} {row[1] or ''}" for row in rows.sort("account_id").iter_rows()]
            yield f"{count(rows.height, 'account')} {what}: {_named(named)}"
    for report, note in control_notes.notes_of(lake, day).items():
        yield f"{report}: {note}".rstrip(".")
    incomplete = sorted(
        {
            f"{row['product']} in {row['account_id']} {row['region']}".rstrip()
            for row in _of(lake, SOURCE_COMPLETENESS, day)
            if row["reason"]
        }
    )
    if incomplete:
        yield f"{count(len(incomplete), 'source')} of findings incomplete: {_named(incomplete)}"
    if lake.commit_of(EXCEPTIONS.name, day) is not None:
        soon = settings.checks.exception_days
        due = exception_rules.out_of_date(lake.read(EXCEPTIONS, day), day, days=soon)
        over = due.filter("expired").height
        if over:
            yield f"{count(over, 'exception')} past the agreed end"
        if due.height > over:
            yield f"{count(due.height - over, 'exception')} ending within {count(soon, 'day')}"
    merged = lake.commit_of(MERGED_FINDINGS.name, day)
    quarantined = merged.details.get("quarantined") if merged else None
    if quarantined:
        yield f"{count(quarantined, 'record')} could not be read and counts for nothing"


def _of(lake: Lake, table: Table, day: date | None) -> list[Row]:
    """The rows of a day; none where there is no such day."""
    if day is None or lake.commit_of(table.name, day) is None:
        return []
    return lake.read(table, day).rows(named=True)


def _named(names: Sequence[str]) -> str:
    more = _more(len(names) - NAMES_SHOWN, "more").rstrip(".")
    return ", ".join([*(markdown(name) for name in names[:NAMES_SHOWN]), *([more] if more else [])])


def _list(lines: Iterable[str], nothing: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or nothing


def _more(number: int, what: str) -> str:
    return f"{number:,} {what}." if number > 0 else ""


def _fitting(lines: Sequence[str], nothing: str) -> str:
    """As many lines as the UI shows at once, and how many more there are."""
    room = SHOWN_AT_ONCE - len(_more(len(lines), "more; see summary")) - 2
    shown: list[str] = []
    for line in lines:
        if not line or sum(len(each) + 3 for each in (*shown, line)) > room:
            break
        shown.append(line)
    more = _more(len(lines) - len(shown), "more; see summary")
    return f"{_list(shown, '' if lines else nothing)}\n\n{more}".strip()
