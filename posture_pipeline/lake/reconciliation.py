"""What reconciling a stored day with AWS's own figures reads of the lake.

The rules stand in `model/reconcile.py`. Findings are read only of the accounts that AWS said
something of, and only those of conformance packs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import polars as pl

from posture_pipeline.lake import snapshot
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import reconcile
from posture_pipeline.model.controls import findings_of_report
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    AWS_COMPLIANCE,
    CARRIED_FAILURES,
    CONTROL_STATUS,
    RECONCILIATION,
)
from posture_pipeline.settings import Report


def reconcile_day(lake: Lake, reports: Iterable[Report], day: date) -> pl.DataFrame:
    """The reconciliation of a stored day.

    Returns:
        Rows of `schemas.RECONCILIATION`; none where AWS said nothing of the reports, or was never
        asked.

    Raises:
        LakeError: The lake has not the findings or the scores of the day.
    """
    if lake.commit_of(AWS_COMPLIANCE.name, day) is None:
        return RECONCILIATION.empty()
    aws = lake.read(AWS_COMPLIANCE, day)
    names = set(aws["report"])
    packs = [report for report in reports if report.name in names]
    if not packs:
        return RECONCILIATION.empty()
    aws = aws.filter(pl.col("report").is_in([report.name for report in packs]))
    of_packs = pl.col("report").is_in([report.name for report in packs])
    accounts = pl.col("account_id").is_in(aws["account_id"].unique().implode())
    return reconcile.reconciliation(
        aws,
        lake.scan(ACCOUNT_SCORES, day).filter(of_packs, accounts).collect(),
        lake.scan(CONTROL_STATUS, day).filter(of_packs, accounts).collect(),
        _states(lake, packs, aws["account_id"].unique(), day),
        day=day,
        collect=snapshot.collect_mode(snapshot.findings_commit(lake, day)),
    )


def _states(lake: Lake, packs: list[Report], accounts: pl.Series, day: date) -> pl.DataFrame:
    """What our findings, and failures carried forward, say of the resources of those accounts."""
    here = pl.col("account_id").is_in(accounts.implode())
    findings = snapshot.findings_of(lake, day).filter(here)
    expected = snapshot.expected_of(lake, packs, day)
    frames = [pl.LazyFrame(schema=reconcile.STATES_SCHEMA)]
    for report in packs:
        # Before the filter of the report: what that leaves out is a reason of its own.
        unfiltered = report.model_copy(update={"filter": None})
        of_report = findings_of_report(findings, unfiltered, expected)
        frames.append(reconcile.finding_states(of_report, report))
    columns = reconcile.STATES_SCHEMA.names()
    found = pl.concat([frame.select(columns) for frame in frames]).collect(engine="streaming")
    if lake.commit_of(CARRIED_FAILURES.name, day) is None:
        return found
    of_packs = pl.col("report").is_in([report.name for report in packs])
    carried = lake.scan(CARRIED_FAILURES, day).filter(here, of_packs).collect()
    return pl.concat([found, reconcile.carried_states(carried).select(columns)])
