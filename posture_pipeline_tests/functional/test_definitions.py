"""What Dagster loads: the graph, its schedule, and that it loads wherever it is installed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml

from posture_pipeline.automation import DAILY_JOB
from posture_pipeline.column_lineage import COLUMN_LINEAGE
from posture_pipeline.definitions import build_definitions
from posture_pipeline.schemas import MERGED_FINDINGS, SCORE_TABLES, TABLES, WORKLOAD_SCORES
from posture_pipeline.settings import Settings

ROOT = Path(__file__).parents[2]

TABLES_OF_THE_JOB = {
    "organization_accounts",
    "listed_controls",
    "expected_controls",
    "aws_compliance",
    "raw_finding_pages",
    "merged_findings",
    "account_findings",
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
}
IN_THE_LAKE = {
    "ready_to_publish",
    "posture_catalog",
    "posture_report",
    "workload_exports",
    "athena_manifests",
}

GRAPH = {
    "organization_accounts": (set(), "ingest"),
    "listed_controls": (set(), "ingest"),
    "expected_controls": ({"account_findings", "listed_controls"}, "findings"),
    "aws_compliance": (set(), "ingest"),
    "raw_finding_pages": (set(), "ingest"),
    "merged_findings": ({"raw_finding_pages"}, "findings"),
    "account_findings": ({"merged_findings"}, "findings"),
    "finding_changes": (
        {"account_findings", "organization_accounts", "expected_controls"},
        "findings",
    ),
    "control_status": (
        {"account_findings", "organization_accounts", "expected_controls", "finding_changes"},
        "scores",
    ),
    "account_scores": ({"control_status"}, "scores"),
    "workload_scores": ({"account_scores"}, "scores"),
    "organization_scores": ({"account_scores"}, "scores"),
    "score_changes": ({"workload_scores", "organization_scores"}, "history"),
    "exceptions": ({"workload_scores", "finding_changes"}, "history"),
    "remediation": ({"account_scores", "finding_changes"}, "history"),
    "time_to_fix": ({"remediation"}, "history"),
    "reconciliation": ({"control_status", "account_scores", "aws_compliance"}, "history"),
    "ready_to_publish": (TABLES_OF_THE_JOB, "publish"),
    "posture_catalog": (
        {
            "ready_to_publish",
            "control_status",
            "account_scores",
            "workload_scores",
            "organization_scores",
            "score_changes",
        },
        "publish",
    ),
    "cloudwatch_metrics": (
        IN_THE_LAKE | {"workload_scores", "organization_scores", "score_changes"},
        "publish",
    ),
    "cloudwatch_dashboards": (IN_THE_LAKE | {"workload_scores", "organization_scores"}, "publish"),
    "score_alerts": (
        IN_THE_LAKE | {"workload_scores", "organization_scores", "score_changes"},
        "publish",
    ),
    "posture_report": (
        {
            "ready_to_publish",
            "workload_scores",
            "organization_scores",
            "score_changes",
            "exceptions",
        },
        "publish",
    ),
    "day_summary": (
        {
            "ready_to_publish",
            "workload_scores",
            "organization_scores",
            "score_changes",
            "exceptions",
        },
        "publish",
    ),
    "workload_exports": (
        {
            "ready_to_publish",
            "workload_scores",
            "account_scores",
            "score_changes",
            "exceptions",
            "remediation",
            "time_to_fix",
        },
        "publish",
    ),
    "athena_manifests": (
        {
            "ready_to_publish",
            "score_changes",
            "exceptions",
            "time_to_fix",
            "organization_scores",
            "aws_compliance",
            "reconciliation",
        },
        "publish",
    ),
}

BLOCKING = {
    "every_shard_is_complete",
    "few_records_are_quarantined",
    "snapshot_is_complete",
    "every_record_is_accounted_for",
    "account_files_hold_every_finding",
    "every_account_is_scored_once",
    "account_scores_are_sane",
    "workload_scores_are_sane",
    "organization_scores_are_sane",
    "score_moves_have_a_control_behind_them",
    "parts_add_up_to_the_change",
}

WARNING = {
    "every_region_is_collected",
    "every_report_knows_its_controls",
    "no_failure_vanished_without_evidence",
    "accounts_could_be_listed",
    "accounts_have_a_workload",
    "no_account_is_silent",
    "every_source_is_complete",
    "exceptions_are_in_date",
    "config_figures_could_be_read",
    "our_pack_scores_agree_with_config",
    "dashboards_are_up_to_date",
    "alerts_were_delivered",
    "compared_with_what_is_stored",
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(Settings())


def test_the_graph_is_the_one_that_was_designed(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
            graph.get(key).group_name,
        )
        for key in graph.materializable_asset_keys
    }
    assert found == GRAPH


def test_whatever_is_published_waits_for_every_table_and_every_blocking_check(
    definitions: dg.Definitions,
) -> None:
    """A blocking check stops only what depends on the asset that it checks."""
    graph = definitions.resolve_asset_graph()
    gate = dg.AssetKey("ready_to_publish")
    published = {
        key
        for key in graph.materializable_asset_keys
        if graph.get(key).group_name == "publish" and key != gate
    }
    assert published
    for key in published:
        assert gate in graph.get(key).parent_keys, key
    tables = graph.materializable_asset_keys - published - {gate}
    assert tables == graph.get(gate).parent_keys
    checked = {spec.asset_key for spec in _check_specs(definitions) if spec.blocking}
    assert checked
    assert checked <= tables


def _check_specs(definitions: dg.Definitions) -> list[dg.AssetCheckSpec]:
    graph = definitions.resolve_asset_graph()
    return [graph.get_check_spec(key) for key in graph.asset_check_keys]


def test_every_asset_is_daily_described_owned_and_kinded(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition), key
        assert node.description, key
        assert node.owners == ["team:cloud-security"], key
        assert node.kinds, key


def test_every_asset_says_that_it_returns_only_metadata(definitions: dg.Definitions) -> None:
    """Without the annotation Dagster's own IO manager would store a pickle of what it returns."""
    for asset in definitions.assets or []:
        assert isinstance(asset, dg.AssetsDefinition)
        function = asset.op.compute_fn.decorated_fn  # type: ignore[union-attr]
        returned = inspect.signature(function).return_annotation
        assert returned is dg.MaterializeResult, asset.key


def test_columns_come_from_columns_that_exist_in_assets_upstream(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    tables = {table.name: table for table in TABLES}
    assert set(COLUMN_LINEAGE) >= {table.name for table in SCORE_TABLES}
    for name, columns in COLUMN_LINEAGE.items():
        upstream = {
            key.to_user_string() for key in graph.get_ancestor_asset_keys(dg.AssetKey(name))
        }
        assert set(columns) <= set(tables[name].names)
        for source, column in {each for sources in columns.values() for each in sources}:
            assert source in upstream - {name}, (name, source)
            assert column in tables[source].names, (name, source, column)


def test_a_score_is_traced_back_to_the_findings() -> None:
    seen, open_ = set(), {(WORKLOAD_SCORES.name, "score")}
    while open_:
        table, column = open_.pop()
        seen.add((table, column))
        open_ |= {*COLUMN_LINEAGE.get(table, {}).get(column, ())} - seen
    assert (MERGED_FINDINGS.name, "compliance_status") in seen


def test_score_assets_link_to_the_report_page_and_the_dashboard(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    for table in SCORE_TABLES:
        metadata = graph.get(dg.AssetKey(table.name)).metadata
        assert {"report_page", "cloudwatch_dashboard"} <= set(metadata)


def test_runs_that_the_ui_starts_work_in_one_process_too(definitions: dg.Definitions) -> None:
    jobs = definitions.get_repository_def().get_all_jobs()
    assert {job.executor_def.name for job in jobs} == {"in_process"}


def test_checks_block_where_a_wrong_number_would_go_out(definitions: dg.Definitions) -> None:
    specs = [
        spec
        # An asset can carry checks of its own too.
        for checks in (*(definitions.asset_checks or []), *(definitions.assets or []))
        if isinstance(checks, dg.AssetsDefinition)
        for spec in checks.check_specs
    ]
    assert {spec.name for spec in specs if spec.blocking} == BLOCKING
    assert {spec.name for spec in specs if not spec.blocking} == WARNING
    assert all(spec.description for spec in specs)


def test_two_runs_never_collect_or_change_the_catalog_at_once(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def(DAILY_JOB)
    pools = {node.name: node.definition.pool for node in job.nodes}  # type: ignore[attr-defined]
    assert {name: pool for name, pool in pools.items() if pool} == {
        "raw_finding_pages": "securityhub",
        "posture_catalog": "catalog",
    }


@pytest.mark.parametrize(
    ("timezone", "tick", "day"),
    [
        ("Europe/Amsterdam", datetime(2026, 11, 23, 5, tzinfo=UTC), "2026-11-23"),
        ("Asia/Tokyo", datetime(2026, 11, 22, 21, tzinfo=UTC), "2026-11-22"),
    ],
)
def test_the_schedule_asks_once_for_the_day_on_which_it_ticks(
    timezone: str, tick: datetime, day: str
) -> None:
    settings = Settings.model_validate({"schedule": {"cron": "0 6 * * *", "timezone": timezone}})
    definitions = build_definitions(settings)
    schedule = definitions.resolve_schedule_def("daily_posture_schedule")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.execution_timezone == timezone
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=tick,
            repository_def=definitions.get_repository_def(),
            resources={"clock": lambda: tick},
        )
        requests = schedule.evaluate_tick(context).run_requests
    assert requests is not None
    assert [request.partition_key for request in requests] == [day]


def test_today_is_a_partition_today() -> None:
    daily = build_definitions(Settings(start_date=date(2026, 11, 1))).resolve_job_def(DAILY_JOB)
    assert daily.partitions_def is not None
    keys = daily.partitions_def.get_partition_keys(datetime(2026, 11, 23, 0, 1, tzinfo=UTC))
    assert (keys[0], keys[-1]) == ("2026-11-01", "2026-11-23")


def test_loading_reads_no_network_and_makes_no_folder(tmp_path: Path) -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import posture_pipeline.definitions as loaded\n"
        "loaded.defs.resolve_asset_graph()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::dagster.PreviewWarning", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "DAGSTER_HOME": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_graph_loads_from_an_installed_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import posture_pipeline, posture_pipeline.definitions as loaded\n"
        "print(posture_pipeline.__file__)\n"
        "print(len(loaded.defs.resolve_asset_graph().materializable_asset_keys))\n"
        "from posture_pipeline.lake.catalog.publish import _sql\n"
        "from posture_pipeline.simulation.catalogue import controls\n"
        "assert controls() and _sql('views.sql')\n"
    )
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    place, count = done.stdout.split()
    assert place.startswith(str(tmp_path / "site"))
    assert int(count) == len(GRAPH)


def test_workspace_yaml_alone_names_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    (location,) = workspace["load_from"]
    assert location["python_module"]["module_name"] == "posture_pipeline.definitions"
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "dagster" not in pyproject["tool"]


def test_the_shipped_instance_loads_and_sends_no_telemetry(tmp_path: Path) -> None:
    shipped = (ROOT / "posture_pipeline/instances/local.yaml").read_text(encoding="utf-8")
    (tmp_path / "dagster.yaml").write_text(shipped, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
