"""What a team may read and takes away: its own, all of it, and nothing of another team."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from posture_pipeline.cli import main
from posture_pipeline.errors import InputError
from posture_pipeline.lake import layout
from posture_pipeline.lake.access import (
    FOLDERS,
    Team,
    ensure_own_files,
    grants_of,
    team_of,
    workloads_on,
)
from posture_pipeline.lake.export import (
    FAILING_FINDINGS,
    FILES,
    HISTORY,
    export_into_lake,
    export_workload,
)
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.access import Place, read_policies
from posture_pipeline.report.pages import write_pages
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    SCORE_CHANGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import Exports
from posture_pipeline_tests.fortnight import DAYS, Fortnight
from posture_pipeline_tests.iam import allows

PLACE = Place("the-bucket", "lake/")
NEWEST = DAYS[-1]


@dataclass
class Shared:
    """Thirteen days with their pages, and what was exported of every workload of the newest."""

    days: Fortnight
    scored: pl.DataFrame
    """Columns date, account_id and workload: of every score."""
    teams: dict[str, Team]
    """Of every workload of the newest day."""

    @property
    def lake(self) -> Lake:
        return self.days.lake

    @property
    def workloads(self) -> list[str]:
        return list(self.teams)

    def own(self, workload: str) -> pl.DataFrame:
        """On which days which accounts were scored under a workload."""
        return self.scored.filter(pl.col("workload") == workload).drop("workload")

    def exported(self, workload: str, name: str) -> pl.DataFrame:
        data = self.lake.get(f"{layout.exports_of(workload)}/{name}.parquet")
        assert data is not None, name
        return pl.read_parquet(io.BytesIO(data))

    def policies(self, workload: str) -> list[dict[str, Any]]:
        return read_policies(PLACE, grants_of(self.teams[workload]), folders=FOLDERS)


@pytest.fixture(scope="module")
def shared(fortnight: Fortnight, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One copy for all tests here; they must not change the tables."""
    days = fortnight.copied(tmp_path_factory.mktemp("shared"))
    write_pages(days.lake, days.run.settings)
    columns = ["date", "account_id", "workload"]
    scored = days.lake.scan(ACCOUNT_SCORES, DAYS).select(columns).unique().collect()
    workloads = workloads_on(days.lake, NEWEST)
    made = Shared(days, scored, {each: team_of(days.lake, each) for each in workloads})
    for workload in workloads:
        export_into_lake(days.lake, workload, "parquet")
    return made


# --- what may be read -------------------------------------------------------------------------


def owner_of(shared: Shared, path: str) -> str | None:
    """The workload whose team may read an object of the lake; null: no team may."""
    parts = path.split("/")
    for workload in shared.workloads:
        team = {f"account_id={each}" for each in shared.teams[workload].accounts}
        if parts[0] == ACCOUNT_FINDINGS.name and team & set(parts):
            return workload
        if path == f"report/{layout.page_name(workload)}":
            return workload
        if path.startswith(f"{layout.exports_of(workload)}/"):
            return workload
    return None


def test_of_every_object_of_the_lake_a_team_reads_its_own_and_no_other(shared: Shared) -> None:
    paths = list(shared.lake.sizes(""))
    owners = {path: owner_of(shared, path) for path in paths}
    assert set(owners.values()) == {None, *shared.workloads}
    for workload in shared.workloads:
        policies = shared.policies(workload)
        readable = {
            path for path in paths if allows(policies, "s3:GetObject", f"{PLACE.arn}/lake/{path}")
        }
        assert readable == {path for path, owner in owners.items() if owner == workload}


def test_a_listing_shows_a_team_days_and_runs_and_its_own_objects_alone(shared: Shared) -> None:
    paths = list(shared.lake.sizes(""))
    prefixes = {f"{'/'.join(path.split('/')[:n])}/" for path in paths for n in range(1, 6)}
    prefixes |= {path[:length] for path in paths[:50] for length in range(len(path))}
    for workload in shared.workloads:
        policies = shared.policies(workload)
        for prefix in prefixes:
            below = [path for path in paths if path.startswith(prefix)]
            key = f"lake/{prefix}"
            if allows(policies, "s3:ListBucket", PLACE.arn, prefix=key):
                assert {owner_of(shared, path) for path in below} <= {workload}
            if allows(policies, "s3:ListBucket", PLACE.arn, prefix=key, delimiter="/"):
                shown = {path.removeprefix(prefix).split("/")[0] for path in below}
                others = {name for name in shown if name.startswith(("account_id=", "workload-"))}
                assert not others


def test_a_team_finds_its_way_from_the_days_to_the_findings_of_its_account(shared: Shared) -> None:
    workload = shared.workloads[0]
    policies = shared.policies(workload)
    account = shared.teams[workload].accounts[0]
    run = shared.lake.require(ACCOUNT_FINDINGS.name, NEWEST).run
    folder = layout.run_folder(ACCOUNT_FINDINGS.name, NEWEST, run)
    steps = [
        f"{ACCOUNT_FINDINGS.name}/",
        f"{layout.partition(ACCOUNT_FINDINGS.name, NEWEST)}/",
        f"{folder}/account_id={account}/",
        f"{layout.exports_of(workload)}/",
    ]
    for step in steps:
        assert allows(policies, "s3:ListBucket", PLACE.arn, prefix=f"lake/{step}", delimiter="/"), (
            step
        )


def test_workloads_whose_files_would_have_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ensure_own_files("pay ments", ["pay ments", "pay-ments"], "now")
    monkeypatch.setattr(layout, "HASH_LENGTH", 0)
    with pytest.raises(InputError, match="would share the files"):
        ensure_own_files("pay ments", ["pay ments", "pay-ments"], "now")


# --- what is exported -------------------------------------------------------------------------


def test_the_exports_of_all_teams_are_the_tables_each_row_once(shared: Shared) -> None:
    of_all = pl.col("workload").is_in(shared.workloads)
    for table in (WORKLOAD_SCORES, ACCOUNT_SCORES):
        together = pl.concat(shared.exported(each, table.name) for each in shared.workloads)
        stored = shared.lake.read(table, DAYS).filter(of_all)
        assert_frame_equal(together, stored, check_row_order=False)
    together = pl.concat(shared.exported(each, CONTROL_STATUS.name) for each in shared.workloads)
    assert_frame_equal(together, shared.lake.read(CONTROL_STATUS, NEWEST), check_row_order=False)


def test_no_row_of_any_file_is_of_another_account_or_workload_or_the_organization(
    shared: Shared,
) -> None:
    seen = 0
    for workload in shared.workloads:
        own = shared.own(workload)
        for name in FILES:
            if not shared.lake.get(f"{layout.exports_of(workload)}/{name}.parquet"):
                continue
            rows = shared.exported(workload, name)
            seen += rows.height
            if "scope" in rows.columns:
                assert set(rows["scope"]) <= {"account", "workload"}
            if "workload" in rows.columns:
                assert set(rows["workload"].drop_nulls()) <= {workload}
            if "account_id" in rows.columns:
                assert set(rows["account_id"].drop_nulls()) <= set(own["account_id"])
    assert seen > 0


def test_failing_findings_are_as_many_as_the_score_counts(shared: Shared) -> None:
    for workload in shared.workloads:
        accounts = shared.teams[workload].accounts
        stored = shared.lake.read(ACCOUNT_FINDINGS, NEWEST).filter(
            pl.col("account_id").is_in(accounts),
            pl.col("record_state") == "ACTIVE",
            pl.col("compliance_status") == "FAILED",
            pl.col("workflow_status") != "SUPPRESSED",
        )
        assert shared.exported(workload, FAILING_FINDINGS).height == stored.height


def test_an_account_that_moved_is_in_each_export_for_the_days_it_was_there(
    shared: Shared,
) -> None:
    moved = (
        shared.scored.group_by("account_id")
        .agg(pl.col("workload").n_unique().alias("workloads"))
        .filter(pl.col("workloads") > 1)["account_id"]
    )
    assert moved.len() > 0
    for account in moved:
        for workload in shared.workloads:
            on = shared.own(workload).filter(pl.col("account_id") == account)["date"]
            exported = shared.exported(workload, ACCOUNT_SCORES.name)
            found = exported.filter(pl.col("account_id") == account)["date"]
            assert set(found) == set(on)


def test_a_page_names_no_account_that_was_never_the_teams(shared: Shared) -> None:
    for workload in shared.workloads:
        page = shared.lake.get(f"report/{layout.page_name(workload)}")
        assert page is not None
        others = set(shared.scored["account_id"]) - set(shared.own(workload)["account_id"])
        text = page.decode()
        assert not [each for each in others if each in text]


def test_a_range_of_days_ends_where_it_was_asked_to(shared: Shared) -> None:
    files: dict[str, bytes] = {}
    workload = shared.workloads[0]
    exported = export_workload(
        shared.lake, workload, "csv", files.__setitem__, since=DAYS[2], until=DAYS[4]
    )
    assert (exported.first, exported.last) == (DAYS[2], DAYS[4])
    for table in HISTORY:
        dates = set(pl.read_csv(files[f"{table.name}.csv"])["date"])
        assert dates <= {each.isoformat() for each in DAYS[2:5]}
    status = pl.read_csv(files[f"{CONTROL_STATUS.name}.csv"])
    assert set(status["date"]) == {DAYS[4].isoformat()}


def test_a_table_that_is_not_stored_has_no_file_and_is_named(
    shared: Shared, tmp_path: Path
) -> None:
    lake = shared.days.copied(tmp_path).lake
    workload = shared.workloads[0]
    folder = layout.exports_of(workload)
    lake.put(f"{folder}/{FAILING_FINDINGS}.parquet", b"of an earlier day")
    shutil.rmtree(Path(lake.root, layout.partition(ACCOUNT_FINDINGS.name, NEWEST)))
    exported = export_into_lake(lake, workload, "parquet")
    assert FAILING_FINDINGS in exported.missing
    assert FAILING_FINDINGS not in exported.rows
    assert lake.get(f"{folder}/{FAILING_FINDINGS}.parquet") is None


# --- with every day ---------------------------------------------------------------------------


def materialized(shared: Shared, day: date, **exports: Any) -> dict[str, Any]:
    settings = shared.days.run.settings.model_copy(update={"exports": Exports(**exports)})
    result = shared.days.run.run_now(day, settings=settings, selection=["workload_exports"])
    (event,) = result.get_asset_materialization_events()
    made = event.materialization
    assert made.asset_key == dg.AssetKey("workload_exports")
    return {name: value.value for name, value in made.metadata.items()}


def test_the_daily_run_exports_the_workloads_of_the_settings(shared: Shared) -> None:
    wanted = shared.workloads[1]
    path = f"{layout.exports_of(wanted)}/{SCORE_CHANGES.name}.csv"
    made = materialized(shared, NEWEST, workloads=(wanted, "gone"), format="csv")
    assert made["workloads"] == 1
    assert made["not_there"] == ["gone"]
    assert shared.lake.get(path)


@pytest.mark.parametrize(
    ("day", "workloads", "why"),
    [(NEWEST, "none", "exports.workloads is none"), (DAYS[0], "all", NEWEST.isoformat())],
)
def test_nothing_is_exported_unasked_or_of_a_day_that_is_not_the_newest(
    shared: Shared, day: date, workloads: str, why: str
) -> None:
    made = materialized(shared, day, workloads=workloads)
    assert made["workloads"] == 0
    assert why in made["skipped"]


# --- commands ---------------------------------------------------------------------------------


def test_the_command_prints_a_policy_for_where_the_lake_will_be(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = shared.workloads[0]
    command = ["access", "--lake", shared.lake.root, "--workload", workload]
    assert main([*command, "--bucket", "s3://the-bucket/lake"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(printed.out)] == shared.policies(workload)
    assert NEWEST.isoformat() in printed.err
    assert main([*command, "--bucket", "s3://the-bucket/lake", "--split"]) == 0
    assert json.loads(capsys.readouterr().out) == shared.policies(workload)
    assert main(command) == 1
    assert "--bucket s3://bucket/prefix" in capsys.readouterr().err


def test_an_unknown_workload_is_answered_with_those_there_are(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["access", "--bucket", "s3://the-bucket"], ["export"]):
        assert main([*command, "--lake", shared.lake.root, "--workload", "paymentz"]) == 1
        assert repr(shared.workloads[0]) in capsys.readouterr().err


@pytest.mark.parametrize("format_", ["parquet", "csv", "html"])
def test_the_command_writes_into_a_folder_or_where_the_team_may_read(
    shared: Shared, format_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = shared.workloads[0]
    command = ["export", "--lake", shared.lake.root, "--workload", workload, "--format", format_]
    folder = tmp_path / "of the team"
    assert main([*command, "--output", str(folder)]) == 0
    written = {each.name for each in folder.iterdir()}
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == shared.lake.uri(layout.exports_of(workload))
    _, there = shared.lake.names(layout.exports_of(workload))
    assert written <= set(there)
    if format_ == "html":
        assert written == {layout.page_name(workload)}
        page = (folder / layout.page_name(workload)).read_bytes()
        assert page == shared.lake.get(f"report/{layout.page_name(workload)}")
    else:
        assert f"{WORKLOAD_SCORES.name}.{format_}" in written
        assert all(name.endswith(f".{format_}") for name in written)


def test_a_page_is_of_the_newest_day_and_takes_no_range(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = shared.workloads[0]
    command = ["export", "--lake", shared.lake.root, "--workload", workload, "--format", "html"]
    assert main([*command, "--to", NEWEST.isoformat()]) == 1
    assert "--from and --to" in capsys.readouterr().err
