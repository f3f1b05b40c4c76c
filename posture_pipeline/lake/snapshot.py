"""What the scores of a day are computed from, read from the lake: findings, controls, accounts.

The rules that are applied to them stand in `model/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import chain, pairwise
from pathlib import Path

import polars as pl

from posture_pipeline.errors import LakeError, SettingsError
from posture_pipeline.lake.findings import account_ranges
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.expected import controls_of_findings, controls_of_settings
from posture_pipeline.model.scoring import (
    ScoreContext,
    control_status_of_reports,
    reporting_accounts,
)
from posture_pipeline.model.silence import silence_by_report
from posture_pipeline.model.silence import with_last_scores as add_last_scores
from posture_pipeline.model.workloads import (
    complete_accounts,
    parse_overrides,
    resolve_workloads,
)
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    SILENT_SOURCES,
    Table,
)
from posture_pipeline.settings import Accounts, Report, Settings

ROWS_SCORED_AT_ONCE = (200_000, 500_000)
"""Findings that are scored together, at least and at most: 0.1 to 0.3 GB."""

PASSES = 10
"""Groups of accounts that a day is scored in, as far as memory allows."""

SCORED_STATE = "ACTIVE"
"""Accounts in any other state are listed and not scored."""


def findings_commit(lake: Lake, day: date) -> Commit:
    """The commit that says when and how the day's findings were collected.

    Raises:
        LakeError: The lake has no findings of the day.
    """
    commit = lake.commit_of(MERGED_FINDINGS.name, day)
    return commit or lake.require(ACCOUNT_FINDINGS.name, day)


def findings_of(lake: Lake, day: date) -> pl.LazyFrame:
    """All findings of the day: the merged files while they are kept, else the account files.

    Raises:
        LakeError: The lake has no findings of the day.
    """
    if lake.commit_of(MERGED_FINDINGS.name, day) is not None:
        return lake.scan(MERGED_FINDINGS, day)
    return lake.scan(ACCOUNT_FINDINGS, day)


def control_status_of(
    lake: Lake, settings: Settings, day: date, *, rows_in_memory: int | None = None
) -> pl.DataFrame:
    """The status of every expected control in every account, from the findings of the day.

    Neighbouring accounts are computed together, as many as memory allows; what comes out does not
    depend on how many.

    Args:
        lake: Where the findings are.
        settings: The reports, and how accounts get their workloads.
        day: The snapshot's day.
        rows_in_memory: Findings looked at at once, unless one account has more; null: see
            `ROWS_SCORED_AT_ONCE`.

    Returns:
        Columns of `schemas.CONTROL_STATUS`; the reports in the order of the settings, each sorted
        by account and control.

    Raises:
        LakeError: The lake has no findings of the day, or nothing tells what a report expects.
    """
    findings = findings_of(lake, day)
    commit = findings_commit(lake, day)
    expected = expected_of(lake, settings.reports, day)
    accounts = scored_accounts(accounts_of(lake, settings.accounts, day))
    carried = carried_of(lake, day)
    if rows_in_memory is None:
        least, most = ROWS_SCORED_AT_ONCE
        rows_in_memory = min(most, max(least, commit.rows // PASSES))
    tables: dict[str, list[pl.DataFrame]] = {report.name: [] for report in settings.reports}
    for these in _ranges_of_accounts(findings, commit.rows, rows_in_memory):
        rows = control_status_of_reports(
            findings.filter(these),
            expected,
            settings.reports,
            accounts.filter(these),
            day=day,
            collect=collect_mode(commit),
            carried=carried.filter(these),
        )
        first = 0
        for height, report in rows["report"].rle().struct.unnest().iter_rows():
            tables[report].append(rows.slice(first, height))
            first += height
    # Put in order by the piece: to sort the rows would hold all of them twice.
    return pl.concat([CONTROL_STATUS.empty(), *chain.from_iterable(tables.values())])


def _ranges_of_accounts(
    findings: pl.LazyFrame, rows: int, rows_in_memory: int
) -> Iterator[pl.Expr]:
    """Conditions that every account meets one of, accounts without findings too."""
    if rows <= rows_in_memory:
        yield pl.lit(value=True)
        return
    account = pl.col("account_id")
    counts = findings.group_by("account_id").len().sort("account_id").collect(engine="streaming")
    lasts = [last for _, last in account_ranges(counts, rows_in_memory)][:-1]
    for before, last in pairwise([None, *lasts, None]):
        above = pl.lit(value=True) if before is None else account > pl.lit(before)
        yield above if last is None else above & (account <= pl.lit(last))


def expected_of(lake: Lake, reports: Sequence[Report], day: date) -> pl.DataFrame:
    """What the reports expect on the day, one report at a time from the best there is.

    In this order: what was stored on the day; the settings (custom rules); the nearest other day
    that has the report (it was added to the settings later); the findings of the day.

    Returns:
        `expected_controls` rows; `as_of` says which day a list was read.

    Raises:
        LakeError: Nothing tells what a report expects.
    """
    stored = (
        lake.read(EXPECTED_CONTROLS, day)
        if lake.commit_of(EXPECTED_CONTROLS.name, day)
        else EXPECTED_CONTROLS.empty()
    )
    return pl.concat(_expected(lake, stored, report, day) for report in reports)


def _expected(lake: Lake, stored: pl.DataFrame, report: Report, day: date) -> pl.DataFrame:
    own = stored.filter(pl.col("report") == report.name)
    if own.height:
        return own
    from_settings = controls_of_settings([report], day)
    if from_settings.height:
        return from_settings
    for other in sorted(lake.days(EXPECTED_CONTROLS.name), key=lambda each: abs(each - day)):
        rows = lake.read(EXPECTED_CONTROLS, other).filter(pl.col("report") == report.name)
        if rows.height:
            return rows.with_columns(pl.lit(day).alias("date"))
    return controls_of_findings(findings_of(lake, day), report, day)


def accounts_of(lake: Lake, settings: Accounts, day: date) -> pl.DataFrame:
    """Every account known on the day, with its workload, environment and owner.

    Accounts that Organizations did not list, but findings or the overrides file name, are among
    them.

    Returns:
        `organization_accounts` columns and workload, environment, owner, workload_source.

    Raises:
        LakeError: The lake has no findings or no account list of the day.
        SettingsError: The overrides file cannot be used.
    """
    listed = lake.read(ORGANIZATION_ACCOUNTS, day)
    in_findings = (
        findings_of(lake, day)
        .group_by("account_id")
        .agg(pl.col("account_name").drop_nulls().min())
        .sort("account_id")
        .collect(engine="streaming")
    )
    overrides = _overrides(settings)
    return resolve_workloads(complete_accounts(listed, in_findings, overrides), settings, overrides)


def scored_accounts(accounts: pl.DataFrame) -> pl.DataFrame:
    """Of the accounts of a day those that get a score."""
    return accounts.filter(pl.col("state") == SCORED_STATE)


def accounts_with_scores(lake: Lake, day: date) -> pl.DataFrame:
    """The accounts that have scores on the day, with the workload they were scored under."""
    return lake.read(ACCOUNT_SCORES, day).unique("account_id", keep="first", maintain_order=True)


def score_context(lake: Lake, settings: Settings, day: date) -> ScoreContext:
    """What the scores of the day have in common.

    Raises:
        LakeError: The lake has no findings of the day, or does not say when they were collected.
    """
    reporting = reporting_accounts(findings_of(lake, day)).collect(engine="streaming")
    commit = findings_commit(lake, day)
    return ScoreContext(
        day=day,
        collected_at=collected_at(commit),
        reports=settings.reports,
        collect=collect_mode(commit),
        reporting=frozenset(reporting["account_id"]),
        carry_days=settings.carry_days,
    )


def carried_of(lake: Lake, day: date) -> pl.DataFrame:
    """The failures carried forward on a day; none where the lake has no such table for it."""
    if lake.commit_of(CARRIED_FAILURES.name, day) is None:
        return CARRIED_FAILURES.empty()
    return lake.read(CARRIED_FAILURES, day)


def silent_of(lake: Lake, settings: Settings, day: date) -> pl.DataFrame:
    """The accounts whose scores of a report miss findings; `model.silence.silence_by_report`."""
    stored = lake.commit_of(SILENT_SOURCES.name, day) is not None
    silent = lake.read(SILENT_SOURCES, day) if stored else SILENT_SOURCES.empty()
    reports = pl.DataFrame(
        [(report.name, report.kind) for report in settings.reports],
        schema=["report", "report_kind"],
        orient="row",
    )
    return silence_by_report(silent, reports)


def last_known_status(lake: Lake, silence: pl.DataFrame) -> pl.DataFrame:
    """The control status of silent accounts, of the day on which each was last seen."""
    wanted = silence.select("report", "account_id", "since").unique()
    frames = [CONTROL_STATUS.empty()]
    for (since,), rows in wanted.group_by("since"):
        if isinstance(since, date) and lake.commit_of(CONTROL_STATUS.name, since) is not None:
            status = lake.scan(CONTROL_STATUS, since)
            of_silent = status.join(rows.lazy(), on=["report", "account_id"], how="semi")
            frames.append(of_silent.collect())
    return pl.concat(frames)


def with_last_scores(lake: Lake, table: Table, day: date, scores: pl.DataFrame) -> pl.DataFrame:
    """The scores of a day; a missing one with the last one there was before."""
    earlier = next(lake.days_before(table.name, day), None)
    if earlier is None:
        return scores
    return add_last_scores(table, scores, lake.read(table, earlier))


def collected_at(commit: Commit) -> datetime:
    """When the snapshot was complete.

    Raises:
        LakeError: The commit does not say.
    """
    try:
        return datetime.fromisoformat(commit.details["collected_at"])
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"The commit of run {commit.run} does not say when the findings were collected; "
            f"run the day again."
        )
        raise LakeError(message) from error


def collect_mode(commit: Commit) -> str:
    """Whether PASSED findings were collected too: all, or failing."""
    return str(commit.details.get("collect", "all"))


def _overrides(settings: Accounts) -> pl.DataFrame | None:
    if settings.overrides is None:
        return None
    path = Path(settings.overrides)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"accounts.overrides: {path} cannot be read: {error}."
        raise SettingsError(message) from error
    return parse_overrides(text, str(path))
