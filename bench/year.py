"""A year of days of a made-up organization in a lake: every table that history queries read.

The control status of each day is that of the day before with a few moves; everything else follows
from it by the project's own rules. The findings behind a move are made up with it: one resource in
one region. Findings themselves are there for the newest day only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake
from posture_pipeline.model import scoring
from posture_pipeline.model.causes import CAUSE_SCHEMA, PROBLEM_SCHEMA, Day
from posture_pipeline.model.changes import score_changes
from posture_pipeline.model.scoring import ScoreContext
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    SCORE_CHANGE_CAUSES,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Report

FIRST_DAY = date(2025, 1, 1)
SHARE_MOVED = 0.006
"""Of the statuses those that move from one day to the next."""
ENVIRONMENTS = ("development", "test", "acceptance", "production")
SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
REGION = "eu-west-1"


@dataclass(frozen=True, slots=True)
class Size:
    """How much history there is.

    Attributes:
        days: Days in a row.
        accounts: Accounts of the organization, each day the same.
        controls: Controls of each report.
        reports: Reports.
        findings: Findings of each account on the newest day.
    """

    days: int = 365
    accounts: int = 1000
    controls: int = 300
    reports: int = 3
    findings: int = 1000

    @property
    def name(self) -> str:
        """Also a folder: `365x1000x300x3`."""
        return f"{self.days}x{self.accounts}x{self.controls}x{self.reports}"

    @property
    def dates(self) -> list[date]:
        """The days, oldest first."""
        return [FIRST_DAY + timedelta(days=number) for number in range(self.days)]


def account_id(number: int) -> str:
    """Ids of 12 digits, spread over the whole range as AWS's are."""
    return f"{(number + 1) * 618_033_988_749 % 10**12:012d}"


def workload_of(number: int) -> tuple[str, str]:
    """The workload and environment of an account: four accounts are a workload."""
    return f"workload-{number // len(ENVIRONMENTS):03d}", ENVIRONMENTS[number % len(ENVIRONMENTS)]


def reports_of(size: Size) -> tuple[Report, ...]:
    """The reports, as settings have them."""
    rules = [control_id(number) for number in range(size.controls)]
    return tuple(
        Report(name=f"report-{number}", custom_rules=rules) for number in range(size.reports)
    )


def control_id(number: int) -> str:
    """The id of a control."""
    return f"service{number % 40}.{number // 40 + 1}"


def make(lake: Lake, size: Size) -> Iterator[date]:
    """Writes the days into the lake one by one, as if they had been collected.

    Days that are there from an earlier time, cut off, are not written again.

    Args:
        lake: Where to.
        size: How much history.

    Yields:
        Each day when all of it is written.
    """
    accounts = _accounts(size)
    expected = _expected(size)
    before: Day | None = None
    stored = set(lake.days(SCORE_CHANGE_CAUSES.name))
    for day, status, moved in _statuses(size, expected):
        if {day, day + timedelta(days=1)} <= stored:
            yield day
            continue
        now = _day(size, day, status, accounts, expected)
        lake.replace(ORGANIZATION_ACCOUNTS, day, accounts)
        definitions = {"definitions": [each.definition for each in reports_of(size)]}
        lake.replace(EXPECTED_CONTROLS, day, expected, definitions)
        lake.replace(CONTROL_STATUS, day, now.control_status)
        lake.replace(ACCOUNT_SCORES, day, now.accounts)
        lake.replace(WORKLOAD_SCORES, day, now.workloads)
        lake.replace(ORGANIZATION_SCORES, day, now.organization)
        changes, causes = SCORE_CHANGES.empty(), SCORE_CHANGE_CAUSES.empty()
        if before is not None:
            nobody = pl.DataFrame(schema=PROBLEM_SCHEMA)
            of_moves = _causes(moved, day)
            changes, causes = score_changes(
                before, now, of_moves, {"before": nobody, "after": nobody}
            )
        lake.replace(SCORE_CHANGES, day, changes)
        lake.replace(SCORE_CHANGE_CAUSES, day, causes)
        before = now
        if day == size.dates[-1]:
            _put_findings(lake, size, day)
        yield day


def _accounts(size: Size) -> pl.DataFrame:
    places = [workload_of(number) for number in range(size.accounts)]
    return pl.DataFrame(
        {
            "account_id": [account_id(number) for number in range(size.accounts)],
            "account_name": [f"{workload}-{environment}" for workload, environment in places],
            "state": "ACTIVE",
            "tags": "{}",
            "source": "organizations",
            "workload": [workload for workload, _ in places],
            "environment": [environment for _, environment in places],
            "owner": [f"team-{number // 40}" for number in range(size.accounts)],
            "workload_source": "tags",
        }
    )


def _expected(size: Size) -> pl.DataFrame:
    controls = pl.DataFrame(
        {
            "control_id": [control_id(number) for number in range(size.controls)],
            "severity": [SEVERITIES[number % 4] for number in range(size.controls)],
            "title": [f"What control {number} demands" for number in range(size.controls)],
        }
    )
    reports = pl.DataFrame(
        {
            "report": [each.name for each in reports_of(size)],
            "report_kind": "custom_rules",
            "definition": [each.definition for each in reports_of(size)],
        }
    )
    missing = {
        column.name: pl.lit(None, dtype=column.dtype)
        for column in EXPECTED_CONTROLS.columns
        if column.name not in ("date", *controls.columns, *reports.columns)
    }
    return reports.join(controls, how="cross").with_columns(**missing)


def _statuses(
    size: Size, expected: pl.DataFrame
) -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
    """Each day's control status, and the rows of it that are not as they were."""
    accounts = pl.DataFrame({"account_id": sorted(map(account_id, range(size.accounts)))})
    rows = (
        expected.select("report", "report_kind", "control_id", "severity")
        .join(accounts, how="cross")
        .sort("report", "account_id", "control_id")
    )
    dice = random.Random(size.name)
    # Some controls fail in most accounts, most in few.
    share = {name: dice.betavariate(0.5, 2.0) for name in expected["control_id"].unique().sort()}
    shares = rows["control_id"].replace_strict(share, return_dtype=pl.Float64)
    throws = pl.Series([dice.random() for _ in range(rows.height)])
    failing = (throws < shares).to_list()
    resources = [1 + int(dice.paretovariate(1.2)) % 40 for _ in range(rows.height)]
    moved: set[int] = set()
    for number, day in enumerate(size.dates):
        if number > 0:
            moved = set()
            while len(moved) < rows.height * SHARE_MOVED:
                at = dice.randrange(rows.height)
                # As often to worse as to better for a control, so that its share stays.
                if at not in moved and failing[at] != (dice.random() < shares[at]):
                    failing[at] = not failing[at]
                    moved.add(at)
        yield day, *_status_rows(rows, failing, resources, sorted(moved))


def _status_rows(
    rows: pl.DataFrame, failing: list[bool], resources: list[int], moved: list[int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    fails = pl.Series("fails", failing)
    of = pl.Series("resources", resources, dtype=pl.Int64)
    status = rows.with_columns(
        fails,
        of,
        status=pl.when(fails).then(pl.lit("FAILED")).otherwise(pl.lit("PASSED")),
        basis=pl.lit("findings"),
    ).with_columns(
        failed_findings=pl.when("fails").then((pl.col("resources") + 2) // 3).otherwise(0),
    )
    status = status.with_columns(
        passed_findings=pl.col("resources") - pl.col("failed_findings"),
        unknown_findings=0,
        suppressed_findings=0,
        failed_resources=pl.col("failed_findings"),
        passed_resources=pl.col("resources") - pl.col("failed_findings"),
        unknown_resources=0,
        regions=1,
        carried_findings=0,
    )
    return status, status[moved]


def _day(
    size: Size, day: date, status: pl.DataFrame, accounts: pl.DataFrame, expected: pl.DataFrame
) -> Day:
    rows = CONTROL_STATUS.read_as(status.with_columns(date=pl.lit(day)))
    controls = EXPECTED_CONTROLS.read_as(expected.with_columns(date=pl.lit(day)))
    collected = datetime.combine(day, time(4, 30), tzinfo=UTC)
    context = ScoreContext(day, collected, reports_of(size))
    return Day(
        day=day,
        control_status=rows,
        accounts=scoring.account_scores(rows, controls, accounts, context),
        expected=controls,
        controls=controls.select("report", "control_id"),
        workloads=scoring.workload_scores(rows, controls, accounts, context),
        organization=scoring.organization_scores(rows, controls, accounts, context),
    )


def _causes(moved: pl.DataFrame, day: date) -> pl.DataFrame:
    """A cause of each move, of one resource, as findings would have told it."""
    fails = pl.col("fails")
    place = pl.format(
        "arn:aws:service:{}:{}:thing/{}", pl.lit(REGION), "account_id", pl.col("control_id").hash(1)
    )
    finding = pl.format(
        "arn:aws:securityhub:{}:{}:security-control/{}/finding/{}",
        pl.lit(REGION),
        "account_id",
        "control_id",
        pl.struct("account_id", "control_id").hash(2),
    )
    told = moved.with_columns(
        region=pl.lit(REGION),
        resource_id=place,
        cause=pl.when(fails).then(pl.lit("regression")).otherwise(pl.lit("fixed")),
        status_before=pl.when(fails).then(pl.lit("PASSED")).otherwise(pl.lit("FAILED")),
        status_after="status",
        finding_id_before=finding,
        finding_id_after=finding,
        first_observed_at=pl.lit(datetime.combine(day, time(), tzinfo=UTC) - timedelta(hours=3)),
        detail=pl.lit(None, dtype=pl.String),
    )
    return told.select(pl.col(name).cast(dtype) for name, dtype in CAUSE_SCHEMA.items())


def _put_findings(lake: Lake, size: Size, day: date) -> None:
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in ACCOUNT_FINDINGS.schema.items()}
    writer = lake.write(ACCOUNT_FINDINGS, day)
    for number in range(size.accounts):
        account = account_id(number)
        rows = pl.select(number=pl.int_range(size.findings)).with_columns(
            **missing
            | {
                "account_id": pl.lit(account),
                "region": pl.lit(REGION),
                "finding_id": pl.format(
                    "arn:aws:securityhub:{}:{}:finding/{}",
                    pl.lit(REGION),
                    pl.lit(account),
                    pl.col("number").hash(number),
                ),
                "resource_id": pl.format("thing-{}", pl.col("number") % 200),
                "security_control_id": pl.format("service{}.1", pl.col("number") % 40),
                "compliance_status": pl.when(pl.col("number") % 5 == 0)
                .then(pl.lit("FAILED"))
                .otherwise(pl.lit("PASSED")),
                "record_state": pl.lit("ACTIVE"),
                "resource_count": pl.lit(1),
                "shard": pl.lit("0"),
                "page": pl.lit(0),
                "workflow_status": pl.lit("NEW"),
            }
        )
        writer.add(rows.drop("number"), layout.account_part(account))
    writer.commit()
