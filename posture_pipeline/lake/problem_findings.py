"""Reading the findings of problems: of some controls of some accounts, on a stored day.

Only the columns that tell why are read, and the accounts' own files where these are few. What the
findings mean stands in `model/causes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl

from posture_pipeline.lake import layout, snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import causes as why
from posture_pipeline.model.causes import CHECK, PAIR, PROBLEM, Evidence, Observed, Snapshot
from posture_pipeline.model.controls import by_resource, findings_of_report, is_evidence
from posture_pipeline.model.scoring import COLLECT_FAILING
from posture_pipeline.schemas import ACCOUNT_FINDINGS
from posture_pipeline.settings import Report

ACCOUNT_FILES_AT_MOST = 200
"""Of so many accounts the own files are opened; of more, the whole day is read in one scan."""

RESOURCE = ["account_id", "region", "resource_id"]


def observed(lake: Lake, reports: tuple[Report, ...], day: date) -> Observed:
    """The day with the controls that each report counts: enabled, or with a finding."""
    findings = snapshot.findings_of(lake, day).filter(pl.col("record_state") == "ACTIVE")
    expected = snapshot.expected_of(lake, reports, day)
    enabled = expected.filter(pl.col("enabled").fill_null(value=True))
    found = pl.collect_all(
        [
            findings_of_report(findings, report, expected)
            .select(report=pl.lit(report.name), control_id="control_id")
            .unique()
            for report in reports
        ],
        engine="streaming",
    )
    collect = snapshot.collect_mode(snapshot.findings_commit(lake, day))
    return Observed(
        day,
        expected,
        pl.concat([enabled.select("report", "control_id"), *found]).unique(),
        collect == COLLECT_FAILING,
        snapshot.unified_hub_since(lake, day),
    )


def problems_with_findings(
    lake: Lake,
    reports: tuple[Report, ...],
    day: Snapshot,
    wanted: pl.DataFrame,
    keys: list[str] = PAIR,
) -> pl.DataFrame:
    """The problems of a day that match wanted rows on the keys, from their active findings.

    Args:
        lake: The lake.
        reports: The reports.
        day: The day.
        wanted: report, account_id and the other keys.
        keys: PAIR, or PROBLEM.

    Returns:
        Columns of `model.causes.PROBLEM_SCHEMA`.
    """
    read = findings_of_accounts(lake, day.day, wanted["account_id"])
    active = why.named(read.filter(pl.col("record_state") == "ACTIVE"))
    frames = [
        why.problems(findings, name)
        for name, findings in _by_report(active, reports, day, wanted, keys)
    ]
    return _collected(frames, why.PROBLEM_SCHEMA)


def evidence(
    lake: Lake,
    reports: tuple[Report, ...],
    before: Snapshot,
    after: Snapshot,
    changed: pl.DataFrame,
) -> Evidence:
    """What is known of the problems that vanished between two days, and of those that came.

    Args:
        lake: The lake.
        reports: The reports.
        before: The earlier day.
        after: The later day.
        changed: As `model.causes.transitions` gives them.
    """
    gone = why.vanished(changed)
    archived, deleted, broken = _archived(lake, reports, before, after, gone)
    one_sided = changed.filter(
        (pl.col("state_before") == why.ABSENT) | (pl.col("state_after") == why.ABSENT)
    )["account_id"]
    wanted = gone.select(RESOURCE).unique()
    regions, resources = [], []
    for day in (before.day, after.day):
        active = pl.col("record_state") == "ACTIVE"
        findings = why.named(findings_of_accounts(lake, day, one_sided).filter(active))
        of_gone = by_resource(findings.filter(is_evidence())).join(
            wanted.lazy(), on=RESOURCE, how="semi"
        )
        here, left = pl.collect_all(
            [
                findings.select("account_id", "region").unique(),
                of_gone.group_by(RESOURCE).agg(findings=pl.len()),
            ],
            engine="streaming",
        )
        regions.append(here)
        resources.append(left)
    return Evidence(
        archived=archived,
        deleted_resources=deleted,
        regions_before=regions[0],
        regions_after=regions[1],
        resources_before=resources[0],
        resources_after=resources[1],
        broken_rules=broken,
        not_applicable=_not_applicable(lake, after, gone),
        stale_before=_stale(lake, reports, before, why.appeared(changed)),
        stale_after=_stale(lake, reports, after, gone),
    )


def _stale(
    lake: Lake, reports: tuple[Report, ...], day: Snapshot, wanted: pl.DataFrame
) -> pl.DataFrame:
    """Of wanted problems those with a stale finding on a day, PROBLEM columns."""
    active = pl.col("record_state") == "ACTIVE"
    findings = why.named(findings_of_accounts(lake, day.day, wanted["account_id"]).filter(active))
    frames = [
        rows.filter("stale").select(pl.lit(name).alias("report"), *PROBLEM[1:])
        for name, rows in _by_report(findings, reports, day, wanted, PROBLEM, keep_stale=True)
    ]
    return _collected(frames, pl.Schema(dict.fromkeys(PROBLEM, pl.String()))).unique()


def _not_applicable(lake: Lake, day: Snapshot, gone: pl.DataFrame) -> pl.DataFrame:
    """The vanished problems whose resource AWS Config no longer evaluates, PROBLEM columns."""
    active = pl.col("record_state") == "ACTIVE"
    findings = why.named(findings_of_accounts(lake, day.day, gone["account_id"]))
    said = (
        findings.filter(active, ~is_evidence())
        .select("account_id", "region", "resource_id", control_id="rule_name")
        .unique()
    )
    keys = [key for key in PROBLEM if key != "report"]
    return gone.lazy().join(said, on=keys, how="semi").collect(engine="streaming")


def days_between(lake: Lake, before: date, after: date) -> list[date]:
    """The stored days of findings after the earlier day, up to and including the later one."""
    beyond = after + timedelta(days=1)
    return sorted(lake.days_before(ACCOUNT_FINDINGS.name, beyond, after=before))


def _archived(
    lake: Lake, reports: tuple[Report, ...], before: Snapshot, after: Snapshot, gone: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The archived findings of problems that vanished, their deleted resources and broken rules.

    A snapshot brings those archived in its last days only, so the days in between are read too.
    Their control is known from the earlier day: on the later one it may be no control any more.
    """
    resources = gone.select(RESOURCE).unique().lazy()
    frames, deleted, broken = [], [], []
    for day in days_between(lake, before.day, after.day) if gone.height else ():
        archived = pl.col("record_state") == "ARCHIVED"
        findings = why.named(findings_of_accounts(lake, day, gone["account_id"]).filter(archived))
        frames += [
            rows.select(
                pl.lit(name).alias("report"),
                *(each for each in why.ARCHIVED_SCHEMA if each != "report"),
            )
            for name, rows in _by_report(findings, reports, before, gone, PROBLEM)
        ]
        lost = findings.filter(why.is_lost_evidence())
        broken += [
            rows.select(pl.lit(name).alias("report"), *CHECK[1:])
            for name, rows in _by_report(lost, reports, before, gone, CHECK)
        ]
        deleted.append(
            by_resource(why.deleted_resources(findings))
            .join(resources, on=RESOURCE, how="semi")
            .select(RESOURCE)
        )
    schema = pl.Schema(dict.fromkeys(RESOURCE, pl.String()))
    return (
        _collected(frames, why.ARCHIVED_SCHEMA),
        _collected(deleted, schema).unique(),
        _collected(broken, pl.Schema(dict.fromkeys(CHECK, pl.String()))).unique(),
    )


def _by_report(
    findings: pl.LazyFrame,
    reports: tuple[Report, ...],
    day: Snapshot,
    wanted: pl.DataFrame,
    keys: list[str],
    *,
    keep_stale: bool = False,
) -> Iterator[tuple[str, pl.LazyFrame]]:
    """The findings of each report with wanted rows: only those that match them on the keys."""
    for report in reports:
        own = wanted.filter(pl.col("report") == report.name)
        if own.height:
            on = [key for key in keys if key != "report"]
            rows = findings_of_report(findings, report, day.expected, keep_stale=keep_stale)
            yield report.name, rows.join(own.select(on).unique().lazy(), on=on, how="semi")


def _collected(frames: list[pl.LazyFrame], schema: pl.Schema) -> pl.DataFrame:
    rows = pl.collect_all(frames, engine="streaming")
    return pl.concat([pl.DataFrame(schema=schema), *(each.select(schema.names()) for each in rows)])


def findings_of_accounts(lake: Lake, day: date, accounts: pl.Series) -> pl.LazyFrame:
    """The findings of some accounts on a day, from their own files where these are few."""
    wanted = sorted(set(accounts))
    if not wanted:
        return ACCOUNT_FINDINGS.empty().lazy()
    commit = lake.commit_of(ACCOUNT_FINDINGS.name, day)
    if commit is None or len(wanted) > ACCOUNT_FILES_AT_MOST:
        return snapshot.findings_of(lake, day).filter(pl.col("account_id").is_in(wanted))
    # An account without findings has no file.
    paths = lake.files(
        ACCOUNT_FINDINGS.name, day, commit, [layout.account_part(each) for each in wanted]
    )
    if not paths:
        return ACCOUNT_FINDINGS.empty().lazy()
    return lake.scan_files(ACCOUNT_FINDINGS, paths)
