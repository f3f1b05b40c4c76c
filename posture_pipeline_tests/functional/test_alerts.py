"""Alerts end to end: real topics and webhooks over HTTP, the asset, the sensors, the command."""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from posture_pipeline import alerting
from posture_pipeline.automation import DAILY_JOB, SCHEDULE, deadline, last_tick
from posture_pipeline.aws.alerts import LONGEST_WAIT_SECONDS, Sender, WebhookError
from posture_pipeline.cli import main
from posture_pipeline.definitions import build_definitions
from posture_pipeline.errors import SettingsError
from posture_pipeline.lake import layout
from posture_pipeline.lake.alerts import FOLDER, notes
from posture_pipeline.lake.store import Lake
from posture_pipeline.model.alerts import Message
from posture_pipeline.resources import SavedFindings
from posture_pipeline.schemas import ORGANIZATION_SCORES
from posture_pipeline.settings import Alerts, DailySchedule, Schedule, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline_tests.fortnight import DAYS, ORGANIZATION, Fortnight
from posture_pipeline_tests.simulated_days import QUIET, SimulatedDays, failures

DAY = DAYS[5]
"""Scores drop on this day: of payments, whose owner has a target, and of others."""
OWNER = "team-delta"
HOOK = "env:POSTURE_TEST_WEBHOOK"
KEY = "not-to-be-seen"
SECRET = f"T0000/B0000/{KEY}"
MESSAGE = Message("A title", ("A paragraph.",))


@dataclass
class Webhook:
    """A webhook that remembers what it took, and refuses when it is told to."""

    url: str = ""
    taken: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    found = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = found.refusals.pop(0) if found.refusals else (200, {})
            if status == 200:
                found.taken.append(json.loads(body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            # A page of an error often repeats the path.
            self.wfile.write(b"ok" if status == 200 else f"no {self.path}".encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
        monkeypatch.setenv(HOOK.removeprefix("env:"), found.url)
        yield found
        server.shutdown()
        thread.join()


@dataclass
class Topic:
    """A topic, and a queue that takes what is published to it."""

    arn: str
    queue: str
    sqs: Any

    def taken(self) -> list[dict[str, str]]:
        """The messages since they were last asked for."""
        found = []
        while got := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for each in got:
                found.append(json.loads(each["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=each["ReceiptHandle"])
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[SimulationServer]:
    with serve(ORGANIZATION) as running:
        yield running


@pytest.fixture
def topic(server: SimulationServer) -> Topic:
    options: dict[str, Any] = {
        "endpoint_url": server.url,
        "region_name": "eu-west-1",
        "aws_access_key_id": "simulated",
        "aws_secret_access_key": "simulated",
    }
    sns, sqs = boto3.client("sns", **options), boto3.client("sqs", **options)
    arn = sns.create_topic(Name="posture")["TopicArn"]
    queue = sqs.create_queue(QueueName="posture")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
    found = Topic(arn, queue, sqs)
    found.taken()
    return found


@pytest.fixture
def days(fortnight: Fortnight, server: SimulationServer, tmp_path: Path) -> Iterator[SimulatedDays]:
    """The stored days up to DAY, in a lake of the test's own."""

    def later(_: str, names: list[str]) -> list[str]:
        return [name for name in names if (day := layout.day_of(name)) and day > DAY]

    lake = tmp_path / "lake"
    shutil.copytree(fortnight.lake.root, lake, ignore=later)
    aws = fortnight.run.settings.aws.model_copy(update={"endpoint_url": server.url})
    settings = fortnight.run.settings.model_copy(update={"lake": str(lake), "aws": aws})
    with dg.DagsterInstance.ephemeral() as instance:
        yield SimulatedDays(server, settings, instance)


def with_alerts(days: SimulatedDays, **alerts: Any) -> SimulatedDays:
    settings = days.settings.model_copy(update={"alerts": Alerts(**{"score_drop": 1, **alerts})})
    return replace(days, settings=settings)


def tell(days: SimulatedDays, day: date = DAY, **options: Any) -> dg.ExecuteInProcessResult:
    """Runs the asset alone; it must not fail, whatever the channels do."""
    result = days.run(day, selection=["score_alerts"], **options)
    assert result.success, failures(result)
    return result


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def is_delivered(result: dg.ExecuteInProcessResult) -> bool:
    [check] = result.get_asset_check_evaluations()
    assert check.check_name == "alerts_were_delivered"
    return check.passed


# --- scores -----------------------------------------------------------------------------------


def test_owners_are_told_of_their_own_scores_with_verdict_and_causes(
    days: SimulatedDays, webhook: Webhook, topic: Topic
) -> None:
    days = with_alerts(days, to=(topic.arn,), owners={OWNER: (HOOK,)})
    result = tell(days)
    assert is_delivered(result)
    assert metadata_of(result)["messages"] == 2

    [mail] = topic.taken()
    assert mail["Subject"].startswith(f"Security posture of {DAY.isoformat()}: ")
    assert "webshop production" in mail["Message"]
    assert "payments production" not in mail["Message"]

    [slack] = webhook.taken
    text = "\n".join(block["text"]["text"] for block in slack["blocks"])
    assert "payments production" in text
    assert "webshop" not in text
    assert '"It is only lower because of ' in text, "the verdict"
    assert "pulled it down by" in text
    assert f"Owner: {OWNER}" in text
    assert "passed before, fails" in text or "was not there before, fails" in text
    assert (
        f"posture explain --report lz-rules --workload payments --environment production --from "
        f"{DAYS[4].isoformat()} --to {DAY.isoformat()}" in text
    )


def test_a_change_is_told_of_once_however_often_the_day_runs(
    days: SimulatedDays, webhook: Webhook
) -> None:
    days = with_alerts(days, to=(HOOK,))
    tell(days)
    tell(days)
    assert len(webhook.taken) == 1
    # More of it is news: a limit that was lowered finds scores that nobody was told of.
    told = {key for note in notes(days.lake, DAY) for key in note.keys}
    tell(with_alerts(days, to=(HOOK,), score_drop=0.1))
    assert len(webhook.taken) == 2
    [more] = [note for note in notes(days.lake, DAY) if not set(note.keys) <= told]
    assert not set(more.keys) & told


def test_a_channel_that_was_down_is_tried_again_and_the_other_one_not(
    days: SimulatedDays, webhook: Webhook, topic: Topic
) -> None:
    webhook.refusals = [(404, {})]
    days = with_alerts(days, to=(topic.arn, HOOK))
    failed = tell(days)
    assert not is_delivered(failed)
    assert (len(topic.taken()), len(webhook.taken)) == (1, 0)
    assert is_delivered(tell(days))
    assert (len(topic.taken()), len(webhook.taken)) == (0, 1)


def test_the_address_of_a_webhook_is_nowhere_to_be_seen(
    days: SimulatedDays, webhook: Webhook, capfd: pytest.CaptureFixture[str]
) -> None:
    webhook.refusals = [(404, {})]
    result = tell(with_alerts(days, to=(HOOK,)))
    seen = [str(event) for event in days.instance.all_logs(result.run_id)]
    seen += [path.read_text() for path in Path(days.settings.lake, FOLDER).rglob("*.json")]
    seen += [*capfd.readouterr(), str(metadata_of(result))]
    assert any("status 404" in each for each in seen), "the failure is told"
    assert not [each for each in seen if KEY in each]


def test_a_day_that_is_not_the_newest_and_one_that_is_long_over_tell_nobody(
    days: SimulatedDays, webhook: Webhook
) -> None:
    days = with_alerts(days, to=(HOOK,))
    assert "a newer day is stored" in metadata_of(tell(days, DAYS[4]))["skipped"]
    days.server.set_clock(datetime.combine(DAY + timedelta(days=2), datetime.min.time(), UTC))
    late = days.run_now(DAY, selection=["score_alerts"])
    assert "the day is over" in metadata_of(late)["skipped"]
    imported = tell(days, resources={"source": SavedFindings([])})
    assert "imported" in metadata_of(imported)["skipped"]
    assert webhook.asked == 0


def test_without_targets_nobody_is_told_and_nothing_is_noted(days: SimulatedDays) -> None:
    assert "name nobody" in metadata_of(tell(days))["skipped"]
    assert notes(days.lake, DAY) == []


def test_a_replay_tells_nobody() -> None:
    definitions = build_definitions(Settings())
    again = definitions.resolve_job_def("replay_posture")
    assert not [node.name for node in again.nodes if node.name == "score_alerts"]


# --- channels ---------------------------------------------------------------------------------


def test_a_webhook_that_is_busy_is_asked_again_when_it_says(webhook: Webhook) -> None:
    webhook.refusals = [(429, {"Retry-After": "3"}), (503, {})]
    waits: list[float] = []
    assert Sender(None, pause=waits.append)(HOOK, MESSAGE) == "status 200, ok"
    assert waits[0] == 3
    assert len(waits) == 2
    assert len(webhook.taken) == 1


def test_a_webhook_that_says_come_back_tomorrow_is_not_waited_for(webhook: Webhook) -> None:
    webhook.refusals = [(429, {"Retry-After": "86400"})] * 9
    waits: list[float] = []
    with pytest.raises(WebhookError, match="status 429"):
        Sender(None, pause=waits.append)(HOOK, MESSAGE)
    assert max(waits) <= LONGEST_WAIT_SECONDS


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410])
def test_a_webhook_that_refuses_for_good_is_asked_once(webhook: Webhook, status: int) -> None:
    webhook.refusals = [(status, {"Location": webhook.url})]
    with pytest.raises(WebhookError, match=f"{HOOK} did not take the message: status {status}"):
        Sender(None)(HOOK, MESSAGE)
    assert webhook.asked == 1


def test_a_webhook_that_does_not_answer_is_named_and_its_address_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(HOOK.removeprefix("env:"), f"http://127.0.0.1:1/{SECRET}")
    with pytest.raises(WebhookError, match="no answer") as error:
        Sender(None, pause=lambda _: None)(HOOK, MESSAGE)
    assert SECRET not in str(error.value)


def test_an_address_may_stand_in_a_file(webhook: Webhook, tmp_path: Path) -> None:
    place = tmp_path / "hook"
    place.write_text(f"{webhook.url}\n")
    Sender(None)(f"file:{place}", MESSAGE)
    assert len(webhook.taken) == 1


@pytest.mark.parametrize("content", ["", "not an address", f"ftp://host/{SECRET}"])
def test_what_is_no_address_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    place = tmp_path / "hook"
    place.write_text(content)
    with pytest.raises(SettingsError) as error:
        Sender(None)(f"file:{place}", MESSAGE)
    assert not content or content not in str(error.value)


# --- failed runs ------------------------------------------------------------------------------


def evaluated(definitions: dg.Definitions, name: str, **context: Any) -> Any:
    """A tick of a sensor, as the daemon evaluates it."""
    sensor = definitions.resolve_sensor_def(name)
    there = definitions.get_repository_def().get_top_level_resources()
    needed = {key: there[key] for key in sensor.required_resource_keys}
    return sensor.evaluate_tick(
        dg.build_sensor_context(definitions=definitions, resources=needed, **context)
    )


Watch = Callable[[Settings, datetime], AbstractContextManager[tuple[dg.DagsterInstance, Any]]]


@pytest.fixture(scope="module")
def shipped_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The instance of one machine, as it is shipped, with its databases made."""
    home = tmp_path_factory.mktemp("home")
    shipped = files("posture_pipeline.instances").joinpath("local.yaml")
    (home / "dagster.yaml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.all_instigator_state() == []
    return home


@pytest.fixture
def watched(shipped_home: Path, tmp_path: Path) -> Watch:
    """Gives an instance, and a function that evaluates a sensor at a moment, with its cursor."""

    @contextmanager
    def watch(settings: Settings, now: datetime) -> Iterator[tuple[dg.DagsterInstance, Any]]:
        moments = [now]
        cursors: dict[str, str | None] = {}
        definitions = build_definitions(settings, resources={"clock": lambda: moments[-1]})
        home = shutil.copytree(shipped_home, tmp_path / uuid.uuid4().hex)
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def tick(name: str, moment: datetime) -> Any:
                moments.append(moment)
                seen = evaluated(definitions, name, instance=instance, cursor=cursors.get(name))
                cursors[name] = seen.cursor
                return seen

            yield instance, tick

    return watch


def at(hour: int, minute: int = 0, *, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def failing_run(
    instance: dg.DagsterInstance, reason: RunFailureReason, *, said: str = "it broke"
) -> dg.DagsterRun:
    """A daily run that failed for a reason, as Dagster records it."""
    run = create_run_for_test(
        instance,
        DAILY_JOB,
        tags={"dagster/partition": DAY.isoformat()},
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.report_run_failed(
        run, said, job_failure_data=JobFailureData(error=None, failure_reason=reason)
    )
    failed = instance.get_run_by_id(run.run_id)
    assert failed is not None
    return failed


def operated(lake: Path, **alerts: Any) -> Settings:
    return Settings(
        lake=str(lake),
        start_date=DAYS[0],
        schedule=DailySchedule(cron="0 6 * * *", timezone="UTC"),
        alerts=Alerts(to=(HOOK,), dagster_url="https://dagster.example.com/", **alerts),
    )


def test_a_failed_run_is_told_of_once_with_day_step_fix_and_link(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    settings = operated(tmp_path / "lake")
    with watched(settings, at(6)) as (instance, tick):
        tick("run_failed", at(6))
        failed = (
            build_definitions(settings)
            .resolve_job_def(DAILY_JOB)
            .execute_in_process(
                instance=instance,
                partition_key=DAY.isoformat(),
                asset_selection=[dg.AssetKey("merged_findings")],
                raise_on_error=False,
                run_config=QUIET,
            )
        )
        assert not failed.success
        tick("run_failed", at(6, 5))
        tick("run_failed", at(6, 10))
    [said] = webhook.taken
    text = "\n".join(block["text"]["text"] for block in said["blocks"])
    assert f"the run of {DAY.isoformat()} failed" in said["text"]
    assert f"merged_findings: The lake {settings.lake} has no raw_finding_pages" in text
    assert f"https://dagster.example.com/runs/{failed.run_id}" in text


@pytest.mark.parametrize(
    ("reason", "tried_again"),
    [
        (RunFailureReason.STEP_FAILURE, False),
        (RunFailureReason.RUN_EXCEPTION, True),
        (RunFailureReason.START_TIMEOUT, True),
        (RunFailureReason.UNEXPECTED_TERMINATION, True),
    ],
)
def test_a_run_whose_process_died_is_tried_again_and_one_that_was_refused_is_not(
    watched: Watch, webhook: Webhook, tmp_path: Path, reason: RunFailureReason, *, tried_again: bool
) -> None:
    """A blocking check, a day that is over and a missing permission fail a step."""
    with watched(operated(tmp_path / "lake"), at(6)) as (instance, tick):
        tick("run_failed", at(6))
        failed = failing_run(instance, reason)
        assert failed.tags["dagster/will_retry"] == str(tried_again).lower()
        tick("run_failed", at(6, 5))
        assert len(webhook.taken) == (0 if tried_again else 1)


def test_a_failed_run_is_told_of_even_if_the_lake_cannot_be_written(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    with watched(operated(lake), at(6)) as (instance, tick):
        tick("run_failed", at(6))
        lake.mkdir(exist_ok=True)
        (lake / FOLDER).write_text("a file where a folder must be")
        failing_run(instance, RunFailureReason.STEP_FAILURE)
        tick("run_failed", at(6, 5))
    assert len(webhook.taken) == 1


# --- missed ticks and missing snapshots -------------------------------------------------------


def test_a_missed_tick_is_made_up_for_on_the_same_day_only(watched: Watch, tmp_path: Path) -> None:
    with watched(operated(tmp_path / "lake"), at(5)) as (_, tick):
        assert tick("missed_daily_run", at(5)).run_requests == []
        assert tick("missed_daily_run", at(6, 15)).run_requests == [], "it may still come"
        [request] = tick("missed_daily_run", at(9)).run_requests
        assert (request.partition_key, request.run_key) == (DAY.isoformat(), DAY.isoformat())
        tomorrow = DAY + timedelta(days=1)
        assert tick("missed_daily_run", at(0, 5, day=tomorrow)).run_requests == []


def switch_off_the_schedule(instance: dg.DagsterInstance) -> None:
    """As somebody does it in the UI."""
    definitions = build_definitions(Settings())
    schedule = definitions.resolve_schedule_def(SCHEDULE)
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(
            ManagedGrpcPythonEnvCodeLocationOrigin(
                LoadableTargetOrigin(module_name="posture_pipeline.definitions"), "posture"
            ),
            "__repository__",
        ),
        schedule.name,
    )
    data = ScheduleInstigatorData(schedule.cron_schedule, start_timestamp=None)
    instance.add_instigator_state(
        InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, data)
    )


def test_a_day_with_a_run_or_with_scores_or_without_its_schedule_is_left_alone(
    watched: Watch,
    tmp_path: Path,
) -> None:
    settings = operated(tmp_path / "lake")
    with watched(settings, at(5)) as (instance, tick):
        tick("missed_daily_run", at(5))
        create_run_for_test(instance, DAILY_JOB, tags={"dagster/partition": DAY.isoformat()})
        assert tick("missed_daily_run", at(9)).run_requests == []
    with watched(settings, at(5)) as (_, tick):
        tick("missed_daily_run", at(5))
        stored = Lake(settings.lake).replace(ORGANIZATION_SCORES, DAY, ORGANIZATION_SCORES.empty())
        assert stored.rows == 0
        assert tick("missed_daily_run", at(9)).run_requests == []
        Lake(settings.lake).delete(ORGANIZATION_SCORES.name)
    with watched(settings, at(5)) as (instance, tick):
        tick("missed_daily_run", at(5))
        switch_off_the_schedule(instance)
        said = tick("missed_daily_run", at(9))
        assert (said.run_requests, said.skip_message) == ([], f"{SCHEDULE} is switched off.")


def test_a_new_installation_does_not_start_the_run_of_a_tick_before_it(
    watched: Watch, tmp_path: Path
) -> None:
    with watched(operated(tmp_path / "lake"), at(9)) as (_, tick):
        assert tick("missed_daily_run", at(9)).run_requests == []
        assert tick("missed_daily_run", at(10)).run_requests == []


def test_a_day_without_scores_at_noon_is_told_of_once_and_says_how_far_it_is(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    with watched(operated(tmp_path / "lake"), at(5)) as (instance, tick):
        tick("snapshot_is_due", at(5))
        create_run_for_test(
            instance,
            DAILY_JOB,
            tags={"dagster/partition": DAY.isoformat()},
            status=dg.DagsterRunStatus.STARTED,
        )
        tick("snapshot_is_due", at(11, 59))
        assert webhook.taken == []
        tick("snapshot_is_due", at(12, 1))
        tick("snapshot_is_due", at(12, 6))
    [said] = webhook.taken
    text = "\n".join(block["text"]["text"] for block in said["blocks"])
    assert f"no snapshot of {DAY.isoformat()} by 12:00 UTC" in said["text"]
    assert "is started" in text
    assert "Nothing of the day is stored." in text


def test_a_day_that_has_its_scores_is_not_told_of(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    settings = operated(tmp_path / "lake")
    with watched(settings, at(5)) as (_, tick):
        tick("snapshot_is_due", at(5))
        Lake(settings.lake).replace(ORGANIZATION_SCORES, DAY, ORGANIZATION_SCORES.empty())
        tick("snapshot_is_due", at(12, 1))
    assert webhook.asked == 0


def test_what_a_channel_did_not_take_is_sent_by_a_later_tick(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    webhook.refusals = [(404, {})]
    with watched(operated(tmp_path / "lake"), at(5)) as (_, tick):
        tick("snapshot_is_due", at(5))
        assert "status 404" in tick("snapshot_is_due", at(12, 1)).skip_message
        tick("snapshot_is_due", at(12, 6))
        tick("snapshot_is_due", at(12, 11))
    assert len(webhook.taken) == 1


def test_a_message_that_nobody_takes_is_given_up(
    watched: Watch, webhook: Webhook, tmp_path: Path
) -> None:
    webhook.refusals = [(404, {})] * 100
    with watched(operated(tmp_path / "lake"), at(5)) as (_, tick):
        tick("snapshot_is_due", at(5))
        for number in range(30):
            tick("snapshot_is_due", at(12, 1) + timedelta(minutes=5 * number))
    assert webhook.asked == alerting.TRIES


# --- times ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "timezone", "now", "tick"),
    [
        # Summer time begins: 02:30 is not there, and the run comes when the clock is put forward.
        ("30 2 * * *", "Europe/Amsterdam", "2026-03-29T12:00Z", "2026-03-29T01:00Z"),
        # It ends: 02:30 is there twice, and one run is enough.
        ("30 2 * * *", "Europe/Amsterdam", "2026-10-25T12:00Z", "2026-10-25T01:30Z"),
        ("30 0 * * *", "Europe/Amsterdam", "2026-11-23T12:00Z", "2026-11-22T23:30Z"),
        ("0 6 * * 1-5", "UTC", "2026-11-22T12:00Z", "2026-11-20T06:00Z"),
    ],
)
def test_the_newest_tick_is_the_one_that_dagster_counts(
    cron: str, timezone: str, now: str, tick: str
) -> None:
    found = last_tick(Schedule(cron=cron, timezone=timezone), datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(tick)
    before = last_tick(Schedule(cron=cron, timezone=timezone), found - timedelta(minutes=1))
    assert found - before > timedelta(hours=20), "a day has one tick"


@pytest.mark.parametrize(
    ("cron", "by", "due"),
    [
        ("0 6 * * *", "12:00", "2026-11-23T11:00Z"),
        ("0 6 * * *", "06:00", "2026-11-24T05:00Z"),
        ("0 6 * * *", "02:00", "2026-11-24T01:00Z"),
    ],
)
def test_a_deadline_that_is_not_later_than_the_run_is_on_the_next_day(
    cron: str, by: str, due: str
) -> None:
    settings = Settings.model_validate({"schedule": {"cron": cron}, "alerts": {"snapshot_by": by}})
    tick = last_tick(settings.schedule, datetime.fromisoformat("2026-11-23T10:00Z"))
    assert deadline(settings, tick) == datetime.fromisoformat(due)


@pytest.mark.parametrize(
    ("now", "asks"),
    [
        ("2026-11-23T05:00:20Z", True),
        ("2026-11-23T09:00Z", False),
        ("2026-11-24T04:00Z", False),
    ],
)
def test_the_schedule_starts_nothing_for_a_tick_that_was_missed(now: str, *, asks: bool) -> None:
    """The daemon asks for the newest missed tick when it is back, however old that is."""
    definitions = build_definitions(Settings())
    schedule = definitions.resolve_schedule_def(SCHEDULE)
    with dg.DagsterInstance.ephemeral() as instance:
        seen = schedule.evaluate_tick(
            dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=datetime.fromisoformat("2026-11-23T05:00Z"),
                repository_def=definitions.get_repository_def(),
                resources={"clock": lambda: datetime.fromisoformat(now)},
            )
        )
    assert bool(seen.run_requests) == asks


@pytest.mark.parametrize(
    ("cron", "by", "expected"),
    [
        ("0 6 * * 1-5", "12:00", "0 12 * * 1-5"),
        ("0 6 * * *", "05:30", "30 5 * * *"),
        ("0 6 * * 1-5", "05:30", None),
    ],
)
def test_the_snapshot_has_the_freshness_policy_of_its_deadline(
    cron: str, by: str, expected: str | None
) -> None:
    settings = Settings.model_validate({"schedule": {"cron": cron}, "alerts": {"snapshot_by": by}})
    graph = build_definitions(settings).resolve_asset_graph()
    policy = graph.get(dg.AssetKey("raw_finding_pages")).freshness_policy
    assert getattr(policy, "deadline_cron", None) == expected


# --- the command ------------------------------------------------------------------------------


def settings_file(days: SimulatedDays, folder: Path, **alerts: Any) -> list[str]:
    path = folder / "posture.yaml"
    said = days.settings.model_dump(mode="json", include={"lake", "aws", "reports", "start_date"})
    path.write_text(yaml.safe_dump({**said, "alerts": {"score_drop": 1, **alerts}}))
    return ["--config", str(path)]


def test_an_engineer_sees_what_would_be_told_and_tells_it(
    days: SimulatedDays, webhook: Webhook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = settings_file(days, tmp_path, to=[HOOK])
    assert main(["alerts", *options]) == 0
    assert f"To be sent to {HOOK}" in capsys.readouterr().out
    assert webhook.asked == 0
    assert main(["alerts", *options, "--send"]) == 0
    assert main(["alerts", *options, "--send"]) == 0
    assert len(webhook.taken) == 1
    capsys.readouterr()
    assert main(["alerts", *options, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["to_send"], len(shown["noted"])) == ([], 1)


def test_an_engineer_tries_every_channel_before_the_night(
    days: SimulatedDays,
    webhook: Webhook,
    topic: Topic,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = settings_file(days, tmp_path, to=[topic.arn], owners={OWNER: [HOOK]})
    assert main(["alerts", *options, "--test"]) == 0
    assert "Messages sent: 2." in capsys.readouterr().out
    assert [each["Subject"] for each in topic.taken()] == ["Security posture: this is a test"]
    webhook.refusals = [(404, {})]
    assert main(["alerts", *options, "--test"]) == 1
    said = capsys.readouterr()
    assert f"{HOOK} did not take the message: status 404" in said.err
    assert SECRET not in said.err + said.out
