"""Exceptions: problems that somebody suppressed, since when, until when, and their worth in points.

A suppressed finding does not count, so a score can rise without anything being repaired. Here is
the ledger of a day, what the scores would be without it, and the agreed ends of the exceptions
file. What a suppressed finding hides is found in `causes`; reading files does not belong here.

Sources: AWS Security Hub user guide, pages finding-workflow-status and controls-overall-status.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from posture_pipeline.model import scoring
from posture_pipeline.model.causes import ABSENT, PROBLEM, problems
from posture_pipeline.model.hand_kept import HandKeptFile, HandKeptLine
from posture_pipeline.schemas import EXCEPTIONS, SEPARATOR

SUPPRESSED = "SUPPRESSED"
"""The workflow status of a finding that is an exception."""

WORKLOAD = ["workload", "environment"]

_STATUSES = ("NO_DATA", "PASSED", "UNKNOWN", "FAILED")
"""From the status that gives way to every other one to the one that none covers."""

ENTRY_COLUMNS = ("control", "finding", "account", "until", "owner", "reason")
"""Columns of the exceptions file; control or finding, and until, are needed."""

ENTRIES_SCHEMA = pl.Schema(
    {
        "line": pl.Int32(),
        "control_id": pl.String(),
        "finding_id": pl.String(),
        "account_id": pl.String(),
        "until": pl.Date(),
        "owner": pl.String(),
        "reason": pl.String(),
    }
)
"""What `parse_entries` gives."""

_AGREED = ("until", "owner", "reason")
_WORTH = ("score", "score_without", "points")


@dataclass(frozen=True, slots=True)
class ScoredDay:
    """What exceptions need of the scores of a day.

    Attributes:
        day: The snapshot's day.
        control_status: Rows of `schemas.CONTROL_STATUS`.
        accounts: Rows of `schemas.ACCOUNT_SCORES`.
        workloads: Rows of `schemas.WORKLOAD_SCORES`.
    """

    day: date
    control_status: pl.DataFrame
    accounts: pl.DataFrame
    workloads: pl.DataFrame


# --- the ledger of a day ----------------------------------------------------------------------


def suppressed_problems(findings: pl.LazyFrame, report: str) -> pl.LazyFrame:
    """The problems with a suppressed finding, whatever their other findings say.

    A suppressed failure beside a passing finding of the same resource is an exception too: its
    control would fail if it counted.

    Args:
        findings: As `controls.findings_of_report` gives them.
        report: Name of the report.

    Returns:
        Columns of `causes.PROBLEM_SCHEMA`, all of the suppressed findings alone.
    """
    suppressed = pl.col("workflow_status").eq_missing(SUPPRESSED)
    return problems(findings.filter(suppressed), report)


def exceptions(
    suppressed: pl.DataFrame,
    scored: ScoredDay,
    changes: pl.DataFrame,
    previous: pl.DataFrame,
    entries: pl.DataFrame,
) -> pl.DataFrame:
    """The exceptions that are open on a day, and those that ended since the ledger before.

    Args:
        suppressed: As `suppressed_problems` gives them; only those of accounts that are scored
            count.
        scored: The day.
        changes: Rows of `schemas.FINDING_CHANGES` of the day, and of the days since the ledger
            before.
        previous: The ledger before; rows of `schemas.EXCEPTIONS`.
        entries: As `parse_entries` gives them.

    Returns:
        Columns of `schemas.EXCEPTIONS`, sorted by its key. An exception that ended has no worth.
    """
    place = scored.accounts.select("account_id", *WORKLOAD).unique("account_id")
    severity = scored.control_status.select("report", "account_id", "control_id", "severity")
    is_open = (
        suppressed.join(place, on="account_id", how="inner")
        .join(severity.unique(), on=["report", "account_id", "control_id"], how="left")
        .with_columns(
            date=pl.lit(scored.day),
            suppressed_by="note_updated_by",
            note="note_text",
            open=pl.lit(value=True),
            ended_by=None,
            **dict.fromkeys([*_AGREED, *_WORTH]),
        )
    )
    was_open = previous.filter("open")
    now = EXCEPTIONS.project(_with_since(is_open, was_open, changes, scored.day))
    ended = _ended(was_open, now, changes, scored.accounts)
    rows = pl.concat([with_worth(now, scored), EXCEPTIONS.project(ended)])
    return EXCEPTIONS.project(
        with_agreed(rows.drop(_AGREED), entries).with_columns(date=pl.lit(scored.day))
    ).sort(EXCEPTIONS.key)


def _with_since(
    is_open: pl.DataFrame, was_open: pl.DataFrame, changes: pl.DataFrame, day: date
) -> pl.DataFrame:
    """Adds since when it is suppressed: as the ledger before says, else by the note, else today.

    A suppression can be older than the first snapshot, and then the note tells of it. But a note
    from before a day on which the problem still counted tells of something else; on that day itself
    it may have been suppressed after the snapshot.
    """
    counted_on = changes.filter(
        ((pl.col("status_after") == SUPPRESSED) | (pl.col("cause") == "suppressed"))
        & (pl.col("status_before") != ABSENT)
    )
    counted_on = counted_on.group_by(PROBLEM).agg(_counted_on=pl.col("compared_with").max())
    noted = pl.col("note_updated_at").dt.date()
    tells = noted.is_between(pl.col("_counted_on").fill_null(date.min), day)
    return (
        is_open.join(was_open.select(*PROBLEM, _since="since"), on=PROBLEM, how="left")
        .join(counted_on, on=PROBLEM, how="left")
        .with_columns(
            since=pl.coalesce("_since", pl.when(tells).then(noted), pl.lit(day, dtype=pl.Date))
        )
        .drop("_since", "_counted_on")
    )


def _ended(
    was_open: pl.DataFrame, now: pl.DataFrame, changes: pl.DataFrame, accounts: pl.DataFrame
) -> pl.DataFrame:
    """The exceptions of the ledger before that are open no more, with why.

    Those of a report that is not scored any more have not ended: nothing is known of them.
    """
    causes = (
        changes.filter(
            (pl.col("status_before") == SUPPRESSED) | (pl.col("cause") == "unsuppressed")
        )
        .sort("date")
        .unique(PROBLEM, keep="last", maintain_order=True)
        .select(*PROBLEM, "cause")
    )
    left = ~pl.col("account_id").is_in(accounts["account_id"].unique().implode())
    return (
        was_open.filter(pl.col("report").is_in(accounts["report"].unique().implode()))
        .join(now, on=PROBLEM, how="anti")
        .join(causes, on=PROBLEM, how="left")
        .with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in _WORTH)
        .with_columns(
            open=pl.lit(value=False),
            ended_by=pl.coalesce(
                "cause",
                pl.when(left).then(pl.lit("account_left")),
                pl.lit("no_evidence"),
            ),
        )
    )


# --- what they are worth ----------------------------------------------------------------------


def with_worth(open_exceptions: pl.DataFrame, scored: ScoredDay) -> pl.DataFrame:
    """The open exceptions with the points that those of the same control are worth together.

    A control passes or not as a whole, so the exceptions of one control in one workload and
    environment are worth their points together: it would have the worst status of what counts and
    what is suppressed (FAILED before UNKNOWN before PASSED), and a control that has NO_DATA because
    everything is suppressed would count again.

    Args:
        open_exceptions: Rows of `schemas.EXCEPTIONS` that are open, of accounts that are scored.
        scored: The day.

    Returns:
        Columns of `schemas.EXCEPTIONS`; score, score_without and points are null where there is no
        score.
    """
    status = _status_without(open_exceptions, scored, WORKLOAD)
    control = [*WORKLOAD, "report", "control_id"]
    changes = status.select(*control, *_count_changes())
    worth = _scores_without(changes, scored.workloads, WORKLOAD).select(*control, *_WORTH)
    return EXCEPTIONS.project(
        open_exceptions.drop(_WORTH, strict=False).join(worth, on=control, how="left")
    )


def scores_without_exceptions(
    open_exceptions: pl.DataFrame, scored: ScoredDay, scores: pl.DataFrame, keys: list[str]
) -> pl.DataFrame:
    """The scores if no exception at all counted: if every suppressed problem did.

    Args:
        open_exceptions: Rows of `schemas.EXCEPTIONS` that are open.
        scored: The day.
        scores: The day's rows of the score table that the keys name.
        keys: workload and environment, account_id, or nothing for the organization.

    Returns:
        The keys, report, exceptions (how many problems are suppressed), score, score_without and
        points (their difference), a row for each row of `scores`; null where there is no score.

    >>> day = date(2026, 11, 23)
    >>> of = {"report": "fsbp", "account_id": "111122223333"}
    >>> place = {"workload": "shop", "environment": "test"}
    >>> status = [
    ...     {**of, "control_id": "S3.1", "status": "PASSED", "basis": "findings"},
    ...     {**of, "control_id": "S3.9", "status": "NO_DATA", "basis": "none"},
    ... ]
    >>> from posture_pipeline.schemas import ACCOUNT_SCORES, CONTROL_STATUS, WORKLOAD_SCORES
    >>> counts = {"report": "fsbp", "passed": 1, "failed": 0, "unknown": 0, "score": 100.0}
    >>> scored = ScoredDay(
    ...     day,
    ...     CONTROL_STATUS.read_as(pl.DataFrame(status)),
    ...     ACCOUNT_SCORES.read_as(pl.DataFrame([{**of, **place}])),
    ...     WORKLOAD_SCORES.read_as(pl.DataFrame([{**place, **counts}])),
    ... )
    >>> hidden = {"control_id": "S3.9", "resource_id": "bucket", "hides": "FAILED", "open": True}
    >>> rows = EXCEPTIONS.read_as(pl.DataFrame([{**of, **place, **hidden}]))
    >>> without = scores_without_exceptions(rows, scored, scored.workloads, WORKLOAD)
    >>> without.select("score", "score_without", "points").rows()
    [(100.0, 50.0, 50.0)]
    """
    status = _status_without(open_exceptions, scored, keys)
    scope = [*keys, "report"]
    changes = status.select(*scope, *_count_changes()).group_by(scope).agg(pl.all().sum())
    number = open_exceptions.group_by(scope).agg(exceptions=pl.len().cast(pl.Int64))
    without = _scores_without(changes, scores, keys).select(*scope, *_WORTH)
    own = pl.col("score")
    return (
        scores.select(*scope, "score")
        .join(without.drop("score"), on=scope, how="left")
        .join(number, on=scope, how="left")
        .with_columns(
            pl.col("exceptions").fill_null(0),
            pl.col("score_without").fill_null(own),
            pl.col("points").fill_null(pl.when(own.is_not_null()).then(0.0)),
        )
        .select(*scope, "exceptions", *_WORTH)
        .sort(scope)
    )


def _status_without(
    open_exceptions: pl.DataFrame, scored: ScoredDay, keys: list[str]
) -> pl.DataFrame:
    """keys, report, control_id, status, and status_without, of every control with exceptions."""
    control = [*keys, "report", "control_id"]
    place = scored.accounts.select("account_id", *WORKLOAD).unique("account_id")
    hidden = open_exceptions.group_by(control).agg(_hidden=_rank(pl.col("hides")).max())
    status = (
        scoring.status_in_scope(
            scored.control_status.lazy().join(place.lazy(), on="account_id"), keys
        )
        .select(*control, "status")
        .collect()
    )
    worst = pl.max_horizontal(_rank(pl.col("status")), "_hidden")
    return (
        hidden.join(status, on=control, how="inner")
        .with_columns(
            status_without=worst.replace_strict(dict(enumerate(_STATUSES)), return_dtype=pl.String)
        )
        .drop("_hidden")
    )


def _rank(status: pl.Expr) -> pl.Expr:
    return status.replace_strict(
        {status: rank for rank, status in enumerate(_STATUSES)}, return_dtype=pl.Int8
    )


def _count_changes() -> list[pl.Expr]:
    """How the counts of a score change with the status of a control: passed, failed, unknown."""

    def change(status: str) -> pl.Expr:
        after, before = (pl.col(each) == status for each in ("status_without", "status"))
        return (after.cast(pl.Int32) - before.cast(pl.Int32)).alias(f"_{status.lower()}")

    return [change(status) for status in _STATUSES[1:]]


def _scores_without(changes: pl.DataFrame, scores: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The changes with the score, the score with the counts so changed, and the difference."""
    counts = [status.lower() for status in _STATUSES[1:]]
    return (
        changes.join(scores.select(*keys, "report", "score", *counts), on=[*keys, "report"])
        .with_columns(pl.col(name) + pl.col(f"_{name}") for name in counts)
        # A score that is withheld promises no points, whatever its controls say.
        .with_columns(score_without=pl.when(pl.col("score").is_not_null()).then(scoring.score()))
        .with_columns(points=pl.col("score") - pl.col("score_without"))
    )


# --- agreed ends: the exceptions file ---------------------------------------------------------


def with_agreed(rows: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """The exceptions with until, owner and reason of the entry that fits best.

    An entry for a finding goes before one for a control, and of each the one that names the account
    before the one that does not. Where several findings of one problem have entries of their own,
    the earliest end holds.

    Args:
        rows: Exceptions: PROBLEM columns and finding_id.
        entries: As `parse_entries` gives them.
    """
    best = (
        _matches(rows, entries)
        .sort("_rank", "until", "line", nulls_last=True)
        .unique(PROBLEM, keep="first", maintain_order=True)
    )
    return rows.join(best.select(*PROBLEM, *_AGREED), on=PROBLEM, how="left")


def unused_entries(rows: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """The entries that fit no exception that is open.

    Args:
        rows: Rows of `schemas.EXCEPTIONS`.
        entries: As `parse_entries` gives them.
    """
    used = _matches(rows.filter("open"), entries)
    return entries.join(used, on="line", how="anti")


def _matches(rows: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """Each exception with each entry that fits it, and how well: 0 is best."""
    wanted = rows.select(*PROBLEM, "finding_id")
    own = entries.rename({"account_id": "_account"})
    of_finding = wanted.with_columns(pl.col("finding_id").str.split(SEPARATOR)).explode(
        "finding_id"
    )
    by_finding = of_finding.join(own.drop("control_id"), on="finding_id")
    by_control = wanted.join(own.drop("finding_id"), on="control_id")
    columns = [*PROBLEM, "line", "_account", *_AGREED]
    return (
        pl.concat(
            [
                by_finding.select(*columns, _rank=pl.lit(0)),
                by_control.select(*columns, _rank=pl.lit(2)),
            ]
        )
        .filter(pl.col("_account").is_null() | (pl.col("_account") == pl.col("account_id")))
        .with_columns(pl.col("_rank") + pl.col("_account").is_null().cast(pl.Int32))
    )


def out_of_date(rows: pl.DataFrame, day: date, *, days: int) -> pl.DataFrame:
    """The open exceptions whose agreed end has passed, or comes within so many days.

    The last day of an exception is the day that it is agreed until.

    Args:
        rows: Rows of `schemas.EXCEPTIONS`.
        day: The day to judge from.
        days: How soon is soon.

    Returns:
        The rows with `expired` (Boolean), those that ended first before the others.
    """
    return (
        rows.filter("open", pl.col("until") <= day + timedelta(days=days))
        .with_columns(expired=is_expired(day))
        .sort("until", *EXCEPTIONS.key)
    )


def is_expired(day: date) -> pl.Expr:
    """Whether the agreed end of an exception has passed on a day."""
    return (pl.col("until") < day).fill_null(value=False)


def parse_entries(text: str, path: str) -> pl.DataFrame:
    """Reads the exceptions file: CSV with a header, separated by commas or semicolons.

    Args:
        text: The file's text.
        path: Its path, for messages.

    Returns:
        Columns of ENTRIES_SCHEMA; blank values are null.

    Raises:
        SettingsError: A column is unknown or missing, or a line names no control or finding, or
            both, has a wrong account id or day, repeats another, or has another number of values;
            the text names the line, the column, the value and what is allowed.
    """
    file = HandKeptFile("exceptions file", path, ENTRY_COLUMNS)
    rows: list[_Entry] = []
    lines: dict[tuple[str | None, ...], int] = {}
    for line in file.lines(text, missing=_missing_column):
        row = _entry(line)
        about = row[1:4]
        if about in lines:
            what = " in account ".join(str(each) for each in about if each is not None)
            line.refuse(f"{what} is on line {lines[about]} already", "keep one of them")
        lines[about] = line.number
        rows.append(row)
    return pl.DataFrame(rows, schema=ENTRIES_SCHEMA, orient="row")


_Entry = tuple[int, str | None, str | None, str | None, date | None, str | None, str | None]


def _missing_column(columns: Sequence[str]) -> str | None:
    if not {"control", "finding"} & set(columns):
        return "'control' or 'finding'"
    return None if "until" in columns else "'until'"


def _entry(line: HandKeptLine) -> _Entry:
    control, finding = line["control"], line["finding"]
    if control is None and finding is None:
        line.refuse("it names no control and no finding", "give the id of one of them")
    if control is not None and finding is not None:
        problem = f"it names the control {control!r} and the finding {finding!r}"
        line.refuse(problem, "give one of them, and leave the other empty")
    account = line.account_id("account")
    return line.number, control, finding, account, _until(line), line["owner"], line["reason"]


def _until(line: HandKeptLine) -> date | None:
    value = line["until"]
    if value is None:
        return None
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    fix = "write it as 2026-11-23, or leave it empty where no end is agreed"
    return line.refuse(f"until {value!r} is no day", fix)
