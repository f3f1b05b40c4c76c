"""A replay by two workers of Celery, with PostgreSQL and S3; one is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, AUTO_RETRY_RUN_ID_TAG

from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.opening import open_lake
from posture_pipeline.schemas import (
    CONTROL_STATUS,
    RAW_FINDING_PAGES,
    SCORE_TABLES,
    TABLES,
    WORKLOAD_SCORES,
)
from posture_pipeline.settings import DEMO_REPORTS, Report, load_settings
from posture_pipeline.simulation.application import SimulationApplication
from posture_pipeline.simulation.server import serve
from posture_pipeline_tests.commands import environment, posture
from posture_pipeline_tests.fortnight import DAYS as STORED
from posture_pipeline_tests.fortnight import ORGANIZATION, Fortnight
from posture_pipeline_tests.servers import postgres_server, redis_server

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DAYS = STORED[3:5]
"""The days that are computed again, one in a run; those before are there to be compared with."""
NEW_REPORT = Report(
    name="new-rules",
    custom_rules=next(each.custom_rules for each in DEMO_REPORTS if each.custom_rules)[:2],
)
LOGS = "posture-logs"
LONGEST_SECONDS = 240
QUICKLY = {
    "free_slots_after_run_end_seconds: 60": "free_slots_after_run_end_seconds: 1\n"
    "  poll_interval_seconds: 1",
    "run_launcher:": "run_coordinator:\n  module: dagster\n  class: QueuedRunCoordinator\n"
    "  config:\n    dequeue_interval_seconds: 1\n\nrun_launcher:",
}
"""What differs from the instance as it is shipped: how often its daemon looks."""
WORKER = [
    *("--app", "dagster_celery.app", "worker", "--queues", "dagster", "--pool", "prefork"),
    *("--concurrency", "1", "--disable-prefetch", "--loglevel", "WARNING"),
]
"""As documented, but for a process of its own for each run, which takes seconds."""

Rows = dict[tuple[str, date], pl.DataFrame]
Runs = dict[tuple[str, date], str]


def until(happened: Callable[[], bool], what: str) -> None:
    """Waits for something that other processes do."""
    end = time.monotonic() + LONGEST_SECONDS
    while not happened():
        assert time.monotonic() < end, f"waited in vain for {what}"
        threading.Event().wait(0.1)


@dataclass
class Gate:
    """Holds the requests that write an object until somebody opens; those are lost."""

    path: str
    arrived: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def application(self, answer: Any) -> Any:
        """A WSGI application with the gate before it."""

        def guarded(application: Any, environ: Any, start_response: Any) -> Any:
            path = unquote(environ["PATH_INFO"])
            writes = environ["REQUEST_METHOD"] == "PUT" and path.endswith(self.path)
            if not writes or self.opened.is_set():
                return answer(application, environ, start_response)
            self.arrived.set()
            self.opened.wait(LONGEST_SECONDS)
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]

        return guarded


@dataclass
class Machines:
    """Programs that have a working folder, home and DAGSTER_HOME of their own each."""

    folder: Path
    environment: dict[str, str]
    instance: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def home(self, name: str) -> dict[str, str]:
        """The environment of one of them, with its folders."""
        place = self.folder / name
        place.mkdir()
        (place / "dagster.yaml").write_text(self.instance)
        return {**self.environment, "HOME": str(place), "DAGSTER_HOME": str(place)}

    def start(self, name: str, program: str, *arguments: str) -> None:
        own = self.home(name)
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [str(BIN / program), *arguments],
                cwd=self.folder / name,
                env=own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def of_process(self, pid: int) -> str:
        """The machine to which a process belongs."""
        group = os.getpgid(pid)
        return next(name for name, each in self.running.items() if each.pid == group)

    def kill(self, name: str) -> None:
        """Ends all processes of a machine at once, as when its power fails."""
        with suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, signal.SIGKILL)
        self.running.pop(name).wait()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def machines(folder: Path, env: dict[str, str], instance: str) -> Iterator[Machines]:
    made = Machines(folder, env, instance)
    try:
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)


@dataclass
class Replayed:
    """What became of the days.

    Attributes:
        stored: The runs of the tables' commits before, by table and day.
        one: The tables as one process makes them.
        many: The tables as the workers made them.
        runs_of_many: The runs of the tables' commits then.
        half: The runs of the tables' commits when the worker was killed.
        meanwhile: Runs of another day that had begun while the killed worker was in its run.
        killed: The run that was killed.
        again: The run that was started in its place.
        failure: What Dagster said of the killed run.
        logs: Keys of the objects in the bucket of logs.
        said: What the command printed.
        files: Names of what the killed worker had in its folder.
    """

    stored: Runs
    one: Rows
    many: Rows
    runs_of_many: Runs
    half: Runs
    meanwhile: list[str]
    killed: dg.DagsterRun
    again: dg.DagsterRun
    failure: str
    logs: list[str]
    said: str
    files: set[str]
    instance_runs: list[dg.DagsterRun]


def commits(lake: Lake) -> Runs:
    found: dict[tuple[str, date], Commit | None] = {
        (table.name, day): lake.commit_of(table.name, day) for table in TABLES for day in DAYS
    }
    return {place: commit.run for place, commit in found.items() if commit is not None}


def rows(lake: Lake) -> Rows:
    tables = {table.name: table for table in TABLES}
    return {(name, day): lake.read(tables[name], day) for name, day in commits(lake)}


def copy(source: Lake, target: Lake) -> None:
    """Copies the days up to the last one, but for the pages as they were received."""
    wanted = [
        path
        for path in source.sizes("")
        if (day := re.search(r"/date=(\S{10})/", path))
        and day.group(1) <= DAYS[-1].isoformat()
        and not path.startswith(RAW_FINDING_PAGES)
    ]
    target.at_once(lambda path: target.put(path, source.get(path) or b""), wanted)


def settings_file(path: Path, lake: str, endpoint: str) -> Path:
    reports = [*DEMO_REPORTS, NEW_REPORT]
    settings = {
        "lake": lake,
        "start_date": STORED[0],
        "reports": [report.model_dump(mode="json", exclude_none=True) for report in reports],
        "aws": {"endpoint_url": endpoint},
        "schedule": {"cron": "0 0 29 2 *"},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory, fortnight: Fortnight) -> Iterator[Replayed]:
    folder = tmp_path_factory.mktemp("machines")
    gate = Gate(f"/{layout.commit_file(WORKLOAD_SCORES.name, DAYS[0])}")
    text = (ROOT / "deploy" / "dagster-celery.yaml").read_text()
    for before, after in QUICKLY.items():
        assert before in text
        text = text.replace(before, after)
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        broker = stack.enter_context(redis_server())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        endpoint = stack.enter_context(serve(ORGANIZATION)).url
        env = {
            **database.environment,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": endpoint,
            "CELERY_BROKER_URL": broker,
            "CELERY_RESULT_BACKEND": broker,
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
            "POSTURE_LOG_BUCKET": LOGS,
        }
        config = settings_file(folder / "many.yaml", "s3://two-workers/lake", endpoint)
        env["POSTURE_CONFIG"] = str(config)
        for name, value in env.items():
            patch.setenv(name, value)
        s3 = boto3.client("s3")
        for bucket in ("two-workers", LOGS):
            s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
        one_file = settings_file(folder / "one.yaml", str(folder / "one"), endpoint)
        one, many = (open_lake(load_settings(path)) for path in (one_file, config))
        for lake in (one, many):
            copy(fortnight.lake, lake)
        stored = commits(many)
        assert commits(one) == stored
        guarded = gate.application(SimulationApplication.__call__)
        patch.setattr(SimulationApplication, "__call__", guarded)
        span = ["--from", DAYS[0].isoformat(), "--to", DAYS[-1].isoformat()]
        made = stack.enter_context(machines(folder, environment(env), text))
        own = made.home("watching")["DAGSTER_HOME"]
        # The first to come makes the tables of the database.
        instance = stack.enter_context(dg.DagsterInstance.from_config(own))
        made.start("daemon", "dagster-daemon", "run", "-w", str(ROOT / "workspace.yaml"))
        for name in ("first", "second"):
            made.start(name, "celery", *WORKER, "--hostname", f"{name}@%h")
        made.start("command", "posture", "replay", *span, "--queue", "--days-per-run", "1")
        posture("replay", "--config", str(one_file), *span, cwd=folder)

        def runs_of(day: date, asset: str) -> list[dg.DagsterRun]:
            tags = {ASSET_PARTITION_RANGE_START_TAG: day.isoformat()}
            found = instance.get_runs(dg.RunsFilter(tags=tags))
            key = dg.AssetKey(asset)
            return [run for run in found if key in (run.asset_selection or ())]

        def ended() -> bool:
            return made.running["command"].poll() is not None

        until(lambda: gate.arrived.is_set() or ended(), "the commit of a day")
        assert gate.arrived.is_set(), made.said("command")

        def other_day() -> list[dg.DagsterRun]:
            begun = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS]
            return [run for run in runs_of(DAYS[1], "finding_changes") if run.status in begun]

        until(lambda: other_day() != [] or ended(), "the other worker")
        half = commits(many)
        [killed] = runs_of(DAYS[0], "control_status")
        meanwhile = [run.run_id for run in other_day()]
        said = " ".join(event.message for event in instance.all_logs(killed.run_id))
        process = re.search(r"Started process for run \(pid: (\d+)\)", said)
        assert process is not None
        lost = made.of_process(int(process.group(1)))
        files = {path.name for path in (folder / lost).rglob("*") if path.is_file()}
        made.kill(lost)
        gate.opened.set()
        until(ended, "the command")
        assert made.running["command"].returncode == 0, made.said("command")
        killed = instance.get_run_by_id(killed.run_id) or killed
        again = instance.get_run_by_id(killed.tags[AUTO_RETRY_RUN_ID_TAG])
        assert again is not None
        listed = s3.list_objects_v2(Bucket=LOGS, Prefix="dagster-logs/").get("Contents", [])
        yield Replayed(
            stored=stored,
            one=rows(one),
            many=rows(many),
            runs_of_many=commits(many),
            half=half,
            meanwhile=meanwhile,
            killed=killed,
            again=again,
            failure=" ".join(event.message for event in instance.all_logs(killed.run_id)),
            logs=[each["Key"] for each in listed],
            said=made.said("command"),
            files=files,
            instance_runs=list(instance.get_runs()),
        )


def test_two_workers_make_the_tables_that_one_process_makes(replayed: Replayed) -> None:
    scores = {(table.name, day) for table in SCORE_TABLES for day in DAYS}
    assert replayed.many.keys() == replayed.one.keys() >= scores
    different = [
        place for place, made in replayed.many.items() if not made.equals(replayed.one[place])
    ]
    assert different == []
    reports = replayed.many["organization_scores", DAYS[-1]]["report"].to_list()
    assert NEW_REPORT.name in reports


def test_the_workers_made_the_tables_and_did_not_leave_what_was_there(replayed: Replayed) -> None:
    made = {(table.name, day) for table in (*SCORE_TABLES, CONTROL_STATUS) for day in DAYS}
    same = {place for place in made if replayed.runs_of_many[place] == replayed.stored[place]}
    assert same == set()


def test_two_runs_of_different_days_go_at_once(replayed: Replayed) -> None:
    """One was held by the gate when the other one had begun."""
    [other] = replayed.meanwhile
    assert other != replayed.killed.run_id
    [run] = [each for each in replayed.instance_runs if each.run_id == other]
    assert run.is_success


def test_a_killed_worker_leaves_whole_tables_and_its_run_is_done_by_another(
    replayed: Replayed,
) -> None:
    done, begun = (CONTROL_STATUS.name, DAYS[0]), (WORKLOAD_SCORES.name, DAYS[0])
    assert replayed.half[done] != replayed.stored[done]
    assert replayed.half[begun] == replayed.stored[begun]
    assert replayed.killed.status == dg.DagsterRunStatus.FAILURE
    assert "does not answer" in replayed.failure
    assert replayed.again.status == dg.DagsterRunStatus.SUCCESS
    assert replayed.again.parent_run_id == replayed.killed.run_id
    assert replayed.runs_of_many[begun] != replayed.stored[begun]
    assert replayed.runs_of_many[done] == replayed.half[done], "what was done is not done again"


def test_runs_are_in_postgresql_logs_in_the_bucket_and_nothing_in_folders_of_workers(
    replayed: Replayed,
) -> None:
    well = [run.run_id for run in replayed.instance_runs if run.is_success]
    assert len(well) == len(replayed.instance_runs) - 1
    for run_id in well:
        assert any(run_id in key for key in replayed.logs), run_id
    assert not {name for name in replayed.files if name.endswith((".db", ".parquet", ".duckdb"))}
