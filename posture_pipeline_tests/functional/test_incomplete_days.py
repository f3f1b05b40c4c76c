"""Every way in which a day can be incomplete, beside everything that is published of it.

A good day is followed by one of which the truth is known; then the same day goes wrong. What is
published must be the truth or nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.model.completeness import FIGURES, WITHHELD
from posture_pipeline.model.metrics import MetricDatum
from posture_pipeline.resources import AwsSource
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    SCORE_TABLES,
    WORKLOAD_SCORES,
    Table,
)
from posture_pipeline.settings import Alerts, Exports
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.simulated_days import (
    SimulatedDays,
    failures,
    materialized,
    simulated_days,
)

SMALL = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
FIRST = date(2026, 3, 2)
SECOND = FIRST + timedelta(days=1)
TOPIC = "arn:aws:sns:eu-west-1:111122223333:scores"
SENT = {"cloudwatch_metrics", "cloudwatch_dashboards", "score_alerts"}
PUBLISHED = SENT | {"posture_catalog", "posture_report", "workload_exports", "day_summary"}

Finding = dict[str, Any]
Change = Callable[[Finding], Finding | None]


# --- what goes wrong --------------------------------------------------------------------------


def without(is_missing: Callable[[Finding], bool]) -> Change:
    """Active findings that the snapshot lacks; archived ones are still there."""
    return lambda each: None if each["RecordState"] == "ACTIVE" and is_missing(each) else each


def unreadable(is_bad: Callable[[Finding], bool]) -> Change:
    return lambda each: {**each, "Id": 5} if is_bad(each) else each


def product(each: Finding) -> str:
    return str(each["ProductArn"]).split("product/")[-1]


def parity(each: Finding) -> int:
    return sum(str(each["Id"]).encode()) % 2


def account(number: int) -> Callable[[Finding], bool]:
    return lambda each: each["AwsAccountId"] == ACCOUNTS[number]


def rare(each: Finding) -> bool:
    """Some twentieth of the findings of one account: less than 1 % of all."""
    return account(1)(each) and sum(str(each["Id"]).encode()) % 20 == 0


ACCOUNTS: list[str] = []
"""Ids of the accounts that are scored on both days; the fixture fills it."""

CHANGES: dict[str, Change] = {
    "half of the records are unreadable": unreadable(lambda each: parity(each) == 0),
    "some records of one account are unreadable": unreadable(rare),
    "all failing findings are missing": without(
        lambda each: each.get("Compliance", {}).get("Status") == "FAILED"
    ),
    "a region is missing": without(lambda each: each["Region"] == "us-east-1"),
    "a product is missing": without(lambda each: product(each) == "aws/config"),
    "an account is missing": without(account(1)),
    "half an account is missing": without(lambda each: account(1)(each) and parity(each) == 0),
    "a control is missing": without(
        lambda each: each.get("Compliance", {}).get("SecurityControlId") == "EC2.8"
    ),
}
STOPPED = {
    "half of the records are unreadable",
    "all failing findings are missing",
    "an account is missing",
}
"""What is too much for any score to be published: an account is a fifth of this organization."""

NO_PACKS = {
    "kind": "error",
    "operation": "DescribeConformancePackCompliance",
    "status": 403,
    "code": "AccessDeniedException",
    "times": None,
}


# --- what is published ------------------------------------------------------------------------


@dataclass
class Outside:
    """What left the lake in one run."""

    metrics: list[MetricDatum] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def values(self) -> set[tuple[Any, ...]]:
        return {(each.name, each.dimensions, round(each.value, 6)) for each in self.metrics}

    def moves(self) -> set[str]:
        """Scores in messages, such as 90.0 to 80.0."""
        return set(re.findall(r"\d+\.\d+ to \d+\.\d+", " ".join(self.messages)))


class Watched(AwsSource):
    """AWS, with a note of what is sent to it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.outside = Outside()

    def publish(self, data: Sequence[MetricDatum]) -> Any:
        self.outside.metrics += data
        return super().publish(data)

    def alerts(self) -> Any:
        def send(_target: str, message: Any) -> str:
            self.outside.messages.append(f"{message.title} {' '.join(message.paragraphs)}")
            return "sent"

        return send


@dataclass
class Day:
    """A day that ran, with what it published."""

    days: SimulatedDays
    result: dg.ExecuteInProcessResult
    outside: Outside

    @property
    def published(self) -> set[str]:
        return materialized(self.result) & PUBLISHED

    def rows(self, table: Table) -> pl.DataFrame:
        """The scores that are in the lake, and are those of this run."""
        if table.name not in materialized(self.result):
            return table.empty()
        return self.days.lake.read(table, SECOND)


@dataclass
class Organization:
    """The good day, kept to be copied, and the truth of the day after it."""

    days: SimulatedDays
    folder: Path
    findings: Callable[..., Iterator[Finding]]
    truth: Day | None = None

    def day_after(
        self,
        folder: Path,
        change: Change | None = None,
        faults: Iterable[Any] = (),
        damage: Callable[[Path], None] | None = None,
    ) -> Day:
        """Runs the second day on a copy of the lake of the first."""
        shutil.copytree(self.folder, folder / "lake")
        if damage is not None:
            damage(folder / "lake")
        server = self.days.server
        server.clear()
        server.clear_faults()

        def changed(*arguments: Any) -> Iterator[Finding]:
            for each in self.findings(*arguments):
                kept = each if change is None else change(each)
                if kept is not None:
                    yield kept

        server.organization.findings = changed  # type: ignore[method-assign]
        settings = self.days.settings.model_copy(update={"lake": str(folder / "lake")})
        with dg.DagsterInstance.ephemeral() as instance:
            days = SimulatedDays(server, settings, instance)
            server.inject(faults)
            source = Watched(settings, AwsClients(settings.aws))
            result = days.run(SECOND, resources={"source": source})
        server.clear_faults()
        return Day(days, result, source.outside)


@pytest.fixture(scope="module")
def organization(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organization]:
    folder = tmp_path_factory.mktemp("first")
    settings = {"alerts": Alerts(to=(TOPIC,)), "exports": Exports(workloads="all")}
    with simulated_days(folder, SMALL, **settings) as days:
        result = days.run(FIRST)
        assert result.success, failures(result)
        made = Organization(days, folder / "lake", days.server.organization.findings)
        made.truth = made.day_after(tmp_path_factory.mktemp("truth"))
        assert made.truth.result.success, failures(made.truth.result)
        scored = days.lake.read(ACCOUNT_SCORES, FIRST).filter(pl.col("score").is_not_null())
        ACCOUNTS[:] = scored["account_id"].unique().sort().to_list()
        yield made


def same_or_withheld(rows: pl.DataFrame, truth: pl.DataFrame, key: Sequence[str]) -> None:
    """Every figure is the true one, or the row is withheld and has none."""
    true = truth.select(*key, *(pl.col(name).alias(f"true_{name}") for name in FIGURES))
    both = rows.join(true, on=list(key), how="inner", nulls_equal=True)
    assert both.height == rows.height
    for row in both.iter_rows(named=True):
        if str(row["reason"]).startswith(WITHHELD):
            assert {row[name] for name in FIGURES} == {None}, row
            continue
        for name in FIGURES:
            if row[name] is not None or row["reason"] is None:
                assert row[name] == pytest.approx(row[f"true_{name}"]), (name, row)


def check_everything(day: Day, truth: Day) -> None:
    """Nothing that was published of the day is wrong."""
    assert day.outside.values() <= truth.outside.values()
    assert day.outside.moves() <= truth.outside.moves()
    for table in SCORE_TABLES:
        same_or_withheld(day.rows(table), truth.rows(table), table.key)
    if "posture_catalog" in day.published:
        for table in (WORKLOAD_SCORES, ORGANIZATION_SCORES):
            sql = f"SELECT * FROM {table.name} WHERE date = DATE '{SECOND}'"  # noqa: S608
            same_or_withheld(publish.query(day.days.lake, sql), truth.rows(table), table.key)
    else:
        sql = f"SELECT * FROM workload_scores WHERE date = DATE '{SECOND}'"  # noqa: S608
        assert publish.query(day.days.lake, sql).is_empty()
    if "workload_exports" in day.published:
        for path in Path(day.days.settings.lake).glob("exports/*/workload_scores.parquet"):
            rows = pl.read_parquet(path).filter(pl.col("date") == SECOND)
            same_or_withheld(rows, truth.rows(WORKLOAD_SCORES), WORKLOAD_SCORES.key)
    if "posture_report" in day.published:
        withheld = day.rows(WORKLOAD_SCORES)["score"].null_count()
        page = Path(day.days.settings.lake, "report", "index.html").read_text(encoding="utf-8")
        assert withheld == 0 or "no score" in page
    for event in day.result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey("day_summary"):
            shown = event.materialization.metadata
            for report, score in truth.rows(ORGANIZATION_SCORES).select("report", "score").rows():
                value = shown.get(f"score/{report}")
                assert value is None or value.value == pytest.approx(score, abs=1e-3)


# --- each kind --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHANGES)
def test_an_incomplete_day_publishes_the_truth_or_nothing(
    organization: Organization, tmp_path: Path, kind: str
) -> None:
    truth = organization.truth
    assert truth is not None
    assert truth.published == PUBLISHED
    day = organization.day_after(tmp_path, CHANGES[kind])
    check_everything(day, truth)
    if kind in STOPPED:
        assert not day.result.success
    if not day.result.success:
        assert "blocking" in " ".join(failures(day.result).values())
        assert day.published == set()
        assert (day.outside.metrics, day.outside.messages) == ([], [])
    else:
        assert day.published == PUBLISHED
        held = day.rows(ACCOUNT_SCORES).filter(pl.col("score").is_null())
        assert held.height > 0
        assert truth.rows(ACCOUNT_SCORES)["score"].null_count() < held.height


def test_a_framework_whose_controls_are_unknown_is_withheld_and_the_others_are_published(
    organization: Organization, tmp_path: Path
) -> None:
    truth = organization.truth
    assert truth is not None
    day = organization.day_after(tmp_path, faults=[NO_PACKS])
    check_everything(day, truth)
    assert day.published == PUBLISHED
    scores = dict(day.rows(ORGANIZATION_SCORES).select("report", "score").iter_rows())
    assert scores["lz-pack"] is None
    assert scores["fsbp"] is not None
    reports = {dict(each.dimensions)["Report"] for each in day.outside.metrics}
    assert "lz-pack" not in reports
    assert "fsbp" in reports


def no_report_folder(lake: Path) -> None:
    """A report folder that cannot be written, as on a full disk."""
    shutil.rmtree(lake / "report")
    (lake / "report").write_text("in the way", encoding="utf-8")


def cut_file(lake: Path) -> None:
    for table in (MERGED_FINDINGS, ACCOUNT_FINDINGS):
        for path in (lake / layout.partition(table.name, FIRST)).rglob("*.parquet"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_report_that_cannot_be_written_keeps_everything_back_that_leaves_the_lake(
    organization: Organization, tmp_path: Path
) -> None:
    truth = organization.truth
    assert truth is not None
    day = organization.day_after(tmp_path, damage=no_report_folder)
    assert "posture_report" in failures(day.result)
    assert day.published & SENT == set()
    assert (day.outside.metrics, day.outside.messages) == ([], [])
    check_everything(day, truth)


def test_a_damaged_file_of_the_day_before_publishes_nothing(
    organization: Organization, tmp_path: Path
) -> None:
    truth = organization.truth
    assert truth is not None
    day = organization.day_after(tmp_path, damage=cut_file)
    assert "finding_changes" in failures(day.result)
    assert day.published == set()
    assert (day.outside.metrics, day.outside.messages) == ([], [])
    check_everything(day, truth)
