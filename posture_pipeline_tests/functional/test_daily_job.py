"""The whole daily job, in process, against the simulated organization over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import boto3
import dagster as dg
import polars as pl
import pytest

from posture_pipeline.lake import layout
from posture_pipeline.lake.catalog import publish
from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.model.collection import ShardPosition
from posture_pipeline.resources import AwsSource
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    EXPECTED_CONTROLS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    QUARANTINE,
    RAW_FINDING_PAGES,
    TABLES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Metrics, Report
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.oracle import standard_score
from posture_pipeline_tests.simulated_days import (
    SimulatedDays,
    failures,
    materialized,
    simulated_days,
)

SMALL = SimulationSettings(accounts=8, resources_per_account=6, rate_limit=None)
FIRST = date(2026, 3, 2)
SECOND = FIRST + timedelta(days=1)
THIRD = FIRST + timedelta(days=2)

ASSETS = {
    "organization_accounts",
    "listed_controls",
    "expected_controls",
    "raw_finding_pages",
    "merged_findings",
    "account_findings",
    "aws_compliance",
    "finding_changes",
    "control_status",
    "account_scores",
    "workload_scores",
    "organization_scores",
    "score_changes",
    "exceptions",
    "remediation",
    "time_to_fix",
    "reconciliation",
    "ready_to_publish",
    "posture_catalog",
    "cloudwatch_metrics",
    "cloudwatch_dashboards",
    "score_alerts",
    "posture_report",
    "workload_exports",
    "athena_manifests",
}


NAMESPACE = "TwoDays"


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedDays]:
    """Two days that ran well; tests must not change them.

    The metrics of all organizations that a process simulates are in one place, hence the namespace.
    """
    folder = tmp_path_factory.mktemp("two_days")
    with simulated_days(folder, SMALL, metrics=Metrics(namespace=NAMESPACE)) as days:
        for day in (FIRST, SECOND):
            result = days.run(day)
            assert result.success, failures(result)
        yield days


@pytest.fixture
def days(tmp_path: Any) -> Iterator[SimulatedDays]:
    """A lake of the test's own."""
    with simulated_days(tmp_path, SMALL) as made:
        yield made


def test_a_day_materializes_every_asset_for_its_partition(two_days: SimulatedDays) -> None:
    for name in ASSETS:
        partitions = two_days.instance.get_materialized_partitions(dg.AssetKey(name))
        assert partitions == {FIRST.isoformat(), SECOND.isoformat()}, name


def test_every_table_of_a_day_is_committed_with_exactly_the_declared_columns(
    two_days: SimulatedDays,
) -> None:
    for table in TABLES:
        rows = two_days.lake.scan(table, FIRST)
        assert rows.collect_schema() == table.schema, table.name
    assert two_days.lake.read(WORKLOAD_SCORES, FIRST)["date"].unique().to_list() == [FIRST]


def test_account_scores_are_what_a_plain_loop_over_the_findings_gives(
    two_days: SimulatedDays,
) -> None:
    organization = two_days.server.organization
    expected = two_days.lake.read(EXPECTED_CONTROLS, SECOND)
    scores = two_days.lake.read(ACCOUNT_SCORES, SECOND)
    compared = 0
    for report, standard in (
        ("fsbp", "standards/aws-foundational-security-best-practices/v/1.0.0"),
        ("cis-v3", "standards/cis-aws-foundations-benchmark/v/3.0.0"),
    ):
        controls = set(expected.filter(pl.col("report") == report)["control_id"])
        for account in organization.accounts(SECOND):
            row = scores.filter(
                (pl.col("report") == report) & (pl.col("account_id") == account.account_id)
            )
            if account.state != "ACTIVE":
                assert row.is_empty()
                continue
            wanted = standard_score(organization.findings(account, SECOND), standard, controls)
            assert row["score"].to_list() == [pytest.approx(wanted)]
            compared += 1
    assert compared >= 12


def test_a_workload_fails_what_one_of_its_accounts_fails(two_days: SimulatedDays) -> None:
    status = two_days.lake.read(CONTROL_STATUS, FIRST)
    accounts = two_days.lake.read(ACCOUNT_SCORES, FIRST)
    failed = (
        status.filter(pl.col("status") == "FAILED")
        .join(accounts, on=["report", "account_id"])
        .group_by("report", "workload", "environment")
        .agg(pl.col("control_id").n_unique().cast(pl.Int32).alias("wanted"))
    )
    scores = two_days.lake.read(WORKLOAD_SCORES, FIRST).join(
        failed, on=["report", "workload", "environment"], how="left"
    )
    assert scores["failed"].to_list() == scores["wanted"].fill_null(0).to_list()


def test_the_catalog_answers_what_was_true_on_each_day(two_days: SimulatedDays) -> None:
    for day in (FIRST, SECOND):
        question = f"SELECT * FROM control_status WHERE date = '{day}'"  # noqa: S608 - our own day
        status = publish.query(two_days.lake, question)
        stored = two_days.lake.read(CONTROL_STATUS, day)
        assert status.height == stored.height
        keys = ["report", "account_id", "control_id", "status"]
        assert set(status.select(keys).rows()) == set(stored.select(keys).rows())
    scores = publish.query(two_days.lake, "SELECT count(*) AS n FROM workload_scores")
    assert scores["n"].item() == two_days.lake.read(WORKLOAD_SCORES, [FIRST, SECOND]).height


def test_the_published_metrics_are_the_scores_of_the_table(two_days: SimulatedDays) -> None:
    client = boto3.client(
        "cloudwatch",
        endpoint_url=two_days.server.url,
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    scores = two_days.lake.read(WORKLOAD_SCORES, SECOND)
    for row in scores.filter(pl.col("report") == "fsbp").iter_rows(named=True):
        reply = client.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName="Score",
            Dimensions=[
                {"Name": "Report", "Value": "fsbp"},
                {"Name": "Workload", "Value": row["workload"]},
                {"Name": "Environment", "Value": row["environment"]},
            ],
            StartTime=row["collected_at"] - timedelta(minutes=1),
            EndTime=row["collected_at"] + timedelta(minutes=1),
            Period=60,
            Statistics=["Average"],
            Unit="Percent",
        )
        averages = [point["Average"] for point in reply["Datapoints"]]
        assert averages == ([] if row["score"] is None else [pytest.approx(row["score"])])


def test_what_was_published_is_on_the_asset(two_days: SimulatedDays) -> None:
    event = two_days.instance.get_latest_materialization_event(dg.AssetKey("cloudwatch_metrics"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    scores = two_days.lake.read(WORKLOAD_SCORES, SECOND)
    own = two_days.lake.read(ORGANIZATION_SCORES, SECOND)
    assert metadata["sent"].value == _values_of(scores) + _values_of(own)
    assert metadata["namespace"].value == NAMESPACE


def test_the_score_of_the_day_can_be_plotted(two_days: SimulatedDays) -> None:
    event = two_days.instance.get_latest_materialization_event(dg.AssetKey("organization_scores"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    rows = two_days.lake.read(ORGANIZATION_SCORES, SECOND)
    for report, score in rows.select("report", "score").iter_rows():
        assert metadata[f"score/{report}"].value == pytest.approx(score, abs=1e-3)
    assert metadata["dagster/row_count"].value == rows.height
    assert "cis-v3" in str(metadata["scores"].value)


def test_scores_of_many_are_plotted_as_the_same_few_numbers_every_day(
    two_days: SimulatedDays,
) -> None:
    numbers = {}
    for table in (ACCOUNT_SCORES, WORKLOAD_SCORES):
        of_table = dg.AssetRecordsFilter(dg.AssetKey(table.name))
        for record in two_days.instance.fetch_materializations(of_table, limit=2).records:
            assert record.asset_materialization is not None
            metadata = record.asset_materialization.metadata
            numbers[table.name, record.partition_key] = {name for name in metadata if "/" in name}
        rows = two_days.lake.read(table, SECOND).filter(pl.col("report") == "fsbp")
        latest = two_days.instance.get_latest_materialization_event(dg.AssetKey(table.name))
        assert latest is not None
        assert latest.asset_materialization is not None
        value = latest.asset_materialization.metadata["lowest/fsbp"].value
        assert value == pytest.approx(rows["score"].min(), abs=0.01)
    for table in (ACCOUNT_SCORES, WORKLOAD_SCORES):
        first, second = (numbers[table.name, day.isoformat()] for day in (FIRST, SECOND))
        assert first == second
        assert len(first) < 25


def test_every_materialization_says_from_which_columns_a_score_comes(
    two_days: SimulatedDays,
) -> None:
    event = two_days.instance.get_latest_materialization_event(dg.AssetKey("workload_scores"))
    assert event is not None
    assert event.asset_materialization is not None
    lineage = event.asset_materialization.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    (source,) = lineage.deps_by_column["score"]
    assert source == dg.TableColumnDep(dg.AssetKey("control_status"), "status")


def test_running_a_day_again_replaces_it_and_changes_nothing(days: SimulatedDays) -> None:
    assert days.run(FIRST).success
    before = days.lake.read(ACCOUNT_SCORES, FIRST).drop("collected_at")
    assert days.run(FIRST).success
    assert days.lake.read(ACCOUNT_SCORES, FIRST).drop("collected_at").equals(before)
    folders, _ = days.lake.names(layout.partition(ACCOUNT_FINDINGS.name, FIRST))
    assert len(folders) == 1


def test_consolidated_and_per_standard_findings_give_the_same_scores(tmp_path: Any) -> None:
    scores = []
    for generator in ("SECURITY_CONTROL", "STANDARD_CONTROL"):
        simulation = SimulationSettings(
            accounts=6,
            resources_per_account=6,
            rate_limit=None,
            control_finding_generator=generator,  # type: ignore[arg-type]
        )
        with simulated_days(tmp_path / generator, simulation) as days:
            result = days.run(FIRST)
            assert result.success, failures(result)
            scores.append(
                days.lake.read(ACCOUNT_SCORES, FIRST)
                .filter(pl.col("report_kind") == "standard")
                .select("report", "account_id", "score", "passed", "failed", "unknown", "no_data")
                .sort("report", "account_id")
            )
    assert scores[0].height > 0
    assert scores[0].equals(scores[1])


def test_a_day_that_is_over_is_refused_with_what_can_be_done(days: SimulatedDays) -> None:
    days.server.set_clock(datetime(2026, 3, 3, 6, tzinfo=UTC))
    result = days.run_now(FIRST)
    assert not result.success
    said = failures(result)["raw_finding_pages"]
    assert "2026-03-02" in said
    assert "posture import" in said
    assert "merged_findings" not in materialized(result)


def test_a_day_that_is_over_is_computed_again_from_its_stored_pages(days: SimulatedDays) -> None:
    assert days.run(FIRST).success
    before = days.lake.read(ACCOUNT_SCORES, FIRST)
    pages = days.lake.require(RAW_FINDING_PAGES, FIRST)
    days.server.set_clock(datetime(2026, 4, 1, 6, tzinfo=UTC))
    days.server.clear()
    result = days.run_now(FIRST)
    assert result.success, failures(result)
    assert days.server.calls("GetFindings") == []
    assert days.lake.require(RAW_FINDING_PAGES, FIRST).run == pages.run
    assert days.lake.read(ACCOUNT_SCORES, FIRST).equals(before)


def test_a_report_added_later_gets_its_history_from_stored_findings(days: SimulatedDays) -> None:
    assert days.run(FIRST).success
    assert days.run(SECOND).success
    cis = Report(name="cis-v1.4", standard="cis-aws-foundations-benchmark/v/1.4.0")
    more = days.settings.model_copy(update={"reports": (*days.settings.reports, cis)})
    assert days.run(SECOND, settings=more).success
    result = days.run_now(
        FIRST,
        settings=more,
        selection=["control_status", "account_scores", "workload_scores", "organization_scores"],
    )
    assert result.success, failures(result)
    rows = days.lake.read(ORGANIZATION_SCORES, FIRST).filter(pl.col("report") == "cis-v1.4")
    assert rows["score"].null_count() == 0
    assert rows["expected"].item() > 20


def test_scores_can_be_made_again_when_only_the_account_files_are_kept(days: SimulatedDays) -> None:
    assert days.run(FIRST).success
    before = days.lake.read(ACCOUNT_SCORES, FIRST)
    for name in (RAW_FINDING_PAGES, MERGED_FINDINGS.name):
        days.lake.delete(layout.partition(name, FIRST))
    result = days.run_now(FIRST, selection=["control_status", "account_scores"])
    assert result.success, failures(result)
    assert days.lake.read(ACCOUNT_SCORES, FIRST).equals(before)


def test_unreadable_records_are_set_aside_and_the_run_goes_on(days: SimulatedDays) -> None:
    days.server.inject([{"kind": "malformed_record", "operation": "GetFindings", "times": 2}])
    result = days.run(FIRST)
    assert result.success, failures(result)
    quarantine = days.lake.read(QUARANTINE, FIRST)
    assert quarantine.height > 0
    assert quarantine["reason"].null_count() == 0
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert checks["every_record_is_accounted_for"].passed
    assert checks["few_records_are_quarantined"].metadata["quarantined"].value == quarantine.height


def test_expired_credentials_stop_the_run_at_once_and_publish_nothing(days: SimulatedDays) -> None:
    days.server.inject(
        [
            {
                "kind": "error",
                "operation": "GetFindings",
                "status": 403,
                "code": "ExpiredTokenException",
                "times": None,
            }
        ]
    )
    result = days.run(FIRST)
    assert not result.success
    assert "expired" in failures(result)["raw_finding_pages"]
    assert days.lake.commit_of(RAW_FINDING_PAGES, FIRST) is None
    assert "cloudwatch_metrics" not in materialized(result)


def test_accounts_come_from_the_findings_where_they_cannot_be_listed(days: SimulatedDays) -> None:
    days.server.inject(
        [
            {
                "kind": "error",
                "service": "organizations",
                "operation": "ListAccounts",
                "status": 400,
                "code": "AccessDeniedException",
                "times": None,
            }
        ]
    )
    result = days.run(FIRST)
    assert result.success, failures(result)
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not checks["accounts_could_be_listed"].passed
    assert "organizations:ListAccounts" in str(
        checks["accounts_could_be_listed"].metadata["left_out"].value
    )
    in_findings = days.lake.scan(ACCOUNT_FINDINGS, FIRST).select("account_id").unique().collect()
    scored = days.lake.read(ACCOUNT_SCORES, FIRST)["account_id"].unique()
    assert set(scored) == set(in_findings["account_id"])


def test_a_run_that_began_before_midnight_still_belongs_to_its_day(days: SimulatedDays) -> None:
    days.server.inject(
        [
            {
                "kind": "error",
                "operation": "GetFindings",
                "status": 403,
                "code": "ExpiredTokenException",
                "after": 6,
                "times": None,
            }
        ]
    )
    assert not days.run(FIRST, at=time(23, 50)).success
    days.server.clear_faults()
    days.server.set_clock(datetime.combine(SECOND, time(0, 10), tzinfo=UTC))
    result = days.run_now(FIRST)
    assert result.success, failures(result)
    assert (
        days.lake.require(RAW_FINDING_PAGES, FIRST)
        .details["collected_at"]
        .startswith(SECOND.isoformat())
    )


class _IncompleteSource(AwsSource):
    """Commits a collection with a shard that never ended."""

    def collect(self, lake: Any, day: date, tell: Any) -> Any:
        del tell
        writer = RawPagesWriter(lake, day)
        writer.add("eu-west-1-active-0", b'{"Findings":[],"NextToken":"more"}')
        writer.save(ShardPosition("eu-west-1-active-0", "q", files=1, pages=1, next_token="more"))
        return writer.commit(["eu-west-1-active-0"], {"collected_at": f"{day}T06:00:00+00:00"})


def test_half_a_collection_is_stopped_by_its_check_before_anything_is_made_of_it(
    days: SimulatedDays,
) -> None:
    from posture_pipeline.aws.clients import AwsClients

    source = _IncompleteSource(days.settings, AwsClients(days.settings.aws))
    result = days.run(FIRST, resources={"source": source})
    assert not result.success
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not checks["every_shard_is_complete"].passed
    assert "merged_findings" not in materialized(result)
    assert "cloudwatch_metrics" not in materialized(result)


def test_a_score_that_moved_without_a_control_behind_it_is_not_published(
    days: SimulatedDays,
) -> None:
    assert days.run(FIRST).success
    before = days.lake.read(WORKLOAD_SCORES, FIRST)
    days.lake.replace(WORKLOAD_SCORES, FIRST, before.with_columns(pl.col("score") - pl.lit(30.0)))
    result = days.run(SECOND)
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    moved = checks["score_moves_have_a_control_behind_them"]
    unmoved = days.lake.read(CONTROL_STATUS, [FIRST, SECOND]).join(
        days.lake.read(ACCOUNT_SCORES, [FIRST, SECOND]), on=["date", "report", "account_id"]
    )
    still = (
        unmoved.group_by("report", "workload", "environment", "account_id", "control_id")
        .agg(pl.len(), pl.col("status").n_unique().alias("statuses"))
        .group_by("report", "workload", "environment")
        .agg(((pl.col("len") != 2) | (pl.col("statuses") != 1)).any().alias("changed"))
        .filter(~pl.col("changed"))
    )
    assert still.height > 0, "the organization moved everywhere; choose other days"
    assert not moved.passed
    assert "cloudwatch_metrics" not in materialized(result)
    assert not result.success


def _day_with_a_silent_account(days: SimulatedDays) -> date:
    organization = days.server.organization
    for back in range(12):
        day = FIRST + timedelta(days=back)
        for account in organization.accounts(day):
            if account.state == "ACTIVE" and not any(organization.findings(account, day)):
                return day
    message = "no account is silent on any day of the cycle"
    raise AssertionError(message)


def test_a_silent_account_has_no_score_a_reason_and_no_metric(days: SimulatedDays) -> None:
    day = _day_with_a_silent_account(days)
    result = days.run(day)
    assert result.success, failures(result)
    accounts = days.lake.read(ACCOUNT_SCORES, day)
    silent = accounts.filter(pl.col("findings").is_null(), pl.col("report") == "fsbp")
    assert silent["score"].to_list() == [None]
    assert silent["failed"].to_list() == [None]
    assert silent["reason"].to_list() == ["no findings in the snapshot"]
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not checks["no_account_is_silent"].passed
    number = accounts["account_id"].n_unique()
    said = f"1 of {number} active accounts have no findings, so no score."
    assert checks["no_account_is_silent"].description == said
    numbers = {name: each.value for name, each in checks["no_account_is_silent"].metadata.items()}
    assert (numbers["wrong"], numbers["checked"]) == (1, number)
    assert silent["account_id"][0] in str(numbers["rows"])
    rows = days.lake.read(WORKLOAD_SCORES, day)
    assert rows["score"].null_count() > 0
    event = days.instance.get_latest_materialization_event(dg.AssetKey("cloudwatch_metrics"))
    assert event is not None
    assert event.asset_materialization is not None
    own = days.lake.read(ORGANIZATION_SCORES, day)
    sent = event.asset_materialization.metadata["sent"].value
    assert sent == _values_of(rows) + _values_of(own)


def _values_of(scores: pl.DataFrame) -> int:
    """How many metrics a table of scores has: a withheld score has none of the four."""
    return scores["score"].count() + 3 * scores["failed"].count()


def test_progress_of_the_collection_is_told_as_it_comes(days: SimulatedDays) -> None:
    lines: list[str] = []
    result = days.run(FIRST, resources={"tell": lines.append})
    assert result.success
    assert any("pages" in line and "findings" in line for line in lines)
    logged = [
        event.message
        for event in days.instance.all_logs(result.run_id)
        if "pages" in (event.user_message or "")
    ]
    assert logged
