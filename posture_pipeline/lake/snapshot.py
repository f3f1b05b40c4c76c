"""What the scores of a day are computed from, read from the lake: findings, controls, accounts.

The rules that are applied to them stand in `model/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

import polars as pl

from posture_pipeline.errors import LakeError, SettingsError
from posture_pipeline.lake.findings import account_ranges
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.collection import incomplete_because
from posture_pipeline.model.completeness import with_last_scores as add_last_scores
from posture_pipeline.model.completeness import withheld_accounts
from posture_pipeline.model.expected import (
    FROM_FINDINGS,
    KEPT,
    NOT_ASKED,
    NOT_NAMED,
    Expected,
    Listing,
    as_expected,
    controls_of_findings,
    controls_of_settings,
    joined,
    kept,
)
from posture_pipeline.model.scoring import (
    ScoreContext,
    control_status_of_reports,
    reporting_accounts,
)
from posture_pipeline.model.workloads import (
    SCORED_STATE,
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
    LISTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    SEPARATOR,
    SOURCE_COMPLETENESS,
    Table,
)
from posture_pipeline.settings import Accounts, Report, Settings

ROWS_SCORED_AT_ONCE = (200_000, 500_000)
"""Findings that are scored together, at least and at most: 0.1 to 0.3 GB."""

PASSES = 10
"""Groups of accounts that a day is scored in, as far as memory allows."""

UNIFIED_HUB_SINCE = "unified_hub_since"
"""Key of the commit of the day's accounts: see `unified_hub_since`."""

INCOMPLETE = "incomplete"
"""Key of the commit of `source_completeness`: why the whole day is withheld; null: it is not."""


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
    accounts = scored_accounts(accounts_of(lake, settings, day))
    carried = carried_of(lake, day)
    if rows_in_memory is None:
        least, most = ROWS_SCORED_AT_ONCE
        rows_in_memory = min(most, max(least, commit.rows // PASSES))
    tables: dict[str, list[pl.DataFrame]] = {report.name: [] for report in settings.reports}
    for these in ranges_of_accounts(findings, commit.rows, rows_in_memory):
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


def ranges_of_accounts(findings: pl.LazyFrame, rows: int, rows_in_memory: int) -> Iterator[pl.Expr]:
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


def listing_of(lake: Lake, day: date) -> Listing:
    """What AWS listed on a day; nothing where it was not asked."""
    commit = lake.commit_of(LISTED_CONTROLS.name, day)
    if commit is None:
        return Listing()
    return Listing.stored(lake.read(LISTED_CONTROLS, day), commit.details)


def expected_of(lake: Lake, reports: Sequence[Report], day: date) -> pl.DataFrame:
    """What the reports expect on the day: as it is stored, else found as for the table itself.

    A stored list belongs to what is scored, not to the report's name: a report whose definition
    changed since does not reuse it.

    Returns:
        `expected_controls` rows.

    Raises:
        LakeError: Nothing stored tells what a report expects.
    """
    commit = lake.commit_of(EXPECTED_CONTROLS.name, day)
    known = set(commit.details.get("definitions", ())) if commit else set()
    stored = lake.read(EXPECTED_CONTROLS, day) if commit else EXPECTED_CONTROLS.empty()
    frames = [EXPECTED_CONTROLS.empty()]
    for report in reports:
        if report.definition in known:
            of_report = stored.filter(pl.col("report") == report.name)
            own = of_report.filter(pl.col("definition") == report.definition)
            frames.append(own if own.height else _renamed(stored, report))
        else:
            frames.append(expected_on(lake, [report], day).controls)
    return pl.concat(frames)


def expected_on(lake: Lake, reports: Sequence[Report], day: date) -> Expected:
    """What the reports expect on the day, from the best there is.

    In this order: what AWS listed on the day; the settings (custom rules, rules of a pack); what
    AWS listed on the nearest other day; the findings of the day. Where AWS did not list the
    controls on the day, those of the newest earlier day are expected too: that no finding names a
    control any more is no evidence that it is gone.

    Raises:
        LakeError: Nothing stored tells what a report expects.
    """
    listing = listing_of(lake, day)
    found = [_expected(lake, listing, report, day) for report in reports]
    return Expected(
        pl.concat([EXPECTED_CONTROLS.empty(), *(rows for rows, _ in found)]),
        {
            report.name: reason
            for report, (_, reason) in zip(reports, found, strict=True)
            if reason is not None
        },
    )


def _expected(
    lake: Lake, listing: Listing, report: Report, day: date
) -> tuple[pl.DataFrame, str | None]:
    """The controls of a report, and why it has no score; null: it has."""
    unlisted = listing.unlisted.get(report.definition)
    listed = as_expected(listing.controls, report, day)
    if listed.height:
        return (_with_named(lake, listed, report, day), None)
    if unlisted is None and (rules := controls_of_settings([report], day)).height:
        return rules, None
    if unlisted is not None and unlisted.kind != "not_enabled":
        known = _known_before(lake, report, day, unlisted.reason)
        is_withheld = unlisted.kind == "failed" or known.is_empty()
        return known, unlisted.reason if is_withheld else None
    note = NOT_ASKED if unlisted is None else f"{unlisted.reason} {FROM_FINDINGS}"
    rows = _listed_nearby(lake, report, day) if unlisted is None else EXPECTED_CONTROLS.empty()
    if rows.is_empty():
        named = controls_of_findings(findings_of(lake, day), report, day)
        rows = named.with_columns(note=pl.lit(note))
    rows = joined(rows, _known_before(lake, report, day, note))
    if rows.is_empty() and unlisted is not None:
        return rows, f"{unlisted.reason} {NOT_NAMED}"
    return rows, None


def _with_named(lake: Lake, listed: pl.DataFrame, report: Report, day: date) -> pl.DataFrame:
    """Of all standards also the controls of those that are on in other accounts only."""
    if not report.all_standards:
        return listed
    known = _known_before(lake, report, day, None).filter(pl.col("source") == "findings")
    named = joined(controls_of_findings(findings_of(lake, day), report, day), known)
    mapped = listed["standard_control_ids"].drop_nulls().str.split(SEPARATOR).explode()
    return joined(listed, named.filter(~pl.col("control_id").is_in(mapped.implode())))


def _listed_nearby(lake: Lake, report: Report, day: date) -> pl.DataFrame:
    """What AWS listed on the nearest other day."""
    # Commits say what was listed: of days without it no rows are read.
    days = lake.days(LISTED_CONTROLS.name)
    commits = lake.at_once(lambda each: lake.commit_of(LISTED_CONTROLS.name, each), days)
    listed = [
        each
        for each, commit in zip(days, commits, strict=True)
        if commit is not None and report.definition in commit.details.get("listed", ())
    ]
    if not listed:
        return EXPECTED_CONTROLS.empty()
    nearest = min(listed, key=lambda each: abs(each - day))
    return as_expected(lake.read(LISTED_CONTROLS, nearest), report, day, KEPT.format(nearest))


def _known_before(lake: Lake, report: Report, day: date, note: str | None) -> pl.DataFrame:
    """What the report expected on the newest earlier day that has its definition."""
    for earlier in lake.days_before(EXPECTED_CONTROLS.name, day):
        commit = lake.commit_of(EXPECTED_CONTROLS.name, earlier)
        if commit is None or report.definition not in commit.details.get("definitions", ()):
            continue
        rows = kept(lake.read(EXPECTED_CONTROLS, earlier), report, day, note)
        if rows.height:
            return rows
    return EXPECTED_CONTROLS.empty()


def _renamed(stored: pl.DataFrame, report: Report) -> pl.DataFrame:
    """The rows of the report's definition under the name that it has now."""
    of_definition = stored.filter(pl.col("definition") == report.definition)
    return of_definition.unique("control_id", maintain_order=True).with_columns(
        report=pl.lit(report.name)
    )


def store_expected(lake: Lake, reports: Sequence[Report], day: date) -> tuple[Commit, Expected]:
    """Finds out and stores what the reports expect on the day."""
    found = expected_on(lake, reports, day)
    details = {
        "definitions": [report.definition for report in reports],
        "withheld": {
            report.definition: found.withheld[report.name]
            for report in reports
            if report.name in found.withheld
        },
    }
    return lake.replace(EXPECTED_CONTROLS, day, found.controls, details), found


def withheld_of(lake: Lake, reports: Sequence[Report], day: date) -> dict[str, str]:
    """The reports without a score on the day because their controls are not known, and why."""
    commit = lake.commit_of(EXPECTED_CONTROLS.name, day)
    reasons = commit.details.get("withheld", {}) if commit else {}
    return {
        report.name: reasons[report.definition]
        for report in reports
        if report.definition in reasons
    }


def accounts_of(lake: Lake, settings: Settings, day: date) -> pl.DataFrame:
    """Every account known on the day, with its workload, environment and owner.

    Accounts that Organizations did not list, but findings or the overrides file name, are among
    them; and those of the earlier day of which no list could say that they left, for as long as
    `silent_days`.

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
        .agg(pl.col("account_name").drop_nulls().min(), pl.col("provider").drop_nulls().first())
        .sort("account_id")
        .collect(engine="streaming")
    )
    overrides = _overrides(settings.accounts)
    accounts = complete_accounts(
        listed,
        in_findings,
        overrides,
        unlisted=settings.accounts.unlisted,
        earlier=_accounts_before(lake, day, settings.silent_days),
    )
    return resolve_workloads(accounts, settings.accounts, overrides)


def _accounts_before(lake: Lake, day: date, silent_days: int) -> pl.DataFrame | None:
    """The accounts scored on the earlier day that sent findings in the last `silent_days`."""
    before = next(lake.days_before(ACCOUNT_SCORES.name, day), None)
    if before is None:
        return None
    last_seen = completeness_of(lake, before).group_by("account_id").agg(pl.col("last_seen").max())
    seen = last_seen.filter(pl.col("last_seen") >= day - timedelta(days=silent_days))
    return (
        accounts_with_scores(lake, before)
        .join(seen, on="account_id", how="semi")
        .select("account_id", "account_name", source="account_source")
    )


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
        incomplete=incomplete_because(commit.details.get("regions_left_out", [])),
    )


def unified_hub_since(lake: Lake, day: date) -> date | None:
    """Since when the unified Security Hub is enabled, as AWS said on a day; None: not, or unknown.

    Raises:
        LakeError: The commit of the day's accounts cannot be read.
    """
    commit = lake.commit_of(ORGANIZATION_ACCOUNTS.name, day)
    text = commit.details.get(UNIFIED_HUB_SINCE) if commit else None
    return date.fromisoformat(text) if isinstance(text, str) else None


def carried_of(lake: Lake, day: date) -> pl.DataFrame:
    """The failures carried forward on a day; none where the lake has no such table for it."""
    if lake.commit_of(CARRIED_FAILURES.name, day) is None:
        return CARRIED_FAILURES.empty()
    return lake.read(CARRIED_FAILURES, day)


def completeness_of(lake: Lake, day: date) -> pl.DataFrame:
    """The completeness of the day's sources; no rows where the lake has no such table for it."""
    if lake.commit_of(SOURCE_COMPLETENESS.name, day) is None:
        return SOURCE_COMPLETENESS.empty()
    return lake.read(SOURCE_COMPLETENESS, day)


def withheld_accounts_of(lake: Lake, day: date) -> pl.DataFrame:
    """The accounts whose scores of a report lack evidence; `completeness.withheld_accounts`."""
    return withheld_accounts(completeness_of(lake, day))


def withheld_reports_of(lake: Lake, settings: Settings, day: date) -> dict[str, str]:
    """The reports that have no score for anybody on the day, and why.

    Their controls are not known, or the whole day is incomplete.
    """
    commit = lake.commit_of(SOURCE_COMPLETENESS.name, day)
    incomplete = commit.details.get(INCOMPLETE) if commit else None
    whole_day = {report.name: incomplete for report in settings.reports} if incomplete else {}
    return {**withheld_of(lake, settings.reports, day), **whole_day}


def last_known_status(lake: Lake, withheld: pl.DataFrame) -> pl.DataFrame:
    """The control status of withheld accounts, of the last day with complete findings of each."""
    wanted = withheld.select("report", "account_id", "since").unique()
    frames = [CONTROL_STATUS.empty()]
    for (since,), rows in wanted.group_by("since"):
        if isinstance(since, date) and lake.commit_of(CONTROL_STATUS.name, since) is not None:
            status = lake.scan(CONTROL_STATUS, since)
            of_withheld = status.join(rows.lazy(), on=["report", "account_id"], how="semi")
            frames.append(of_withheld.collect())
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
