"""A lake on S3: what a folder does too, what it costs, and what happens when S3 misbehaves.

What holds for folders and buckets alike is tested for both in test_lake_store.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest
import yaml

from posture_pipeline import cli
from posture_pipeline.errors import (
    CredentialsError,
    InputError,
    LakeError,
    PermissionMissingError,
    PostureError,
)
from posture_pipeline.lake import layout, permissions
from posture_pipeline.lake.bucket import Credentials, told
from posture_pipeline.lake.catalog import bucket_files, publish
from posture_pipeline.lake.store import Lake
from posture_pipeline.metadata import explained
from posture_pipeline.opening import open_lake
from posture_pipeline.schemas import (
    ACCOUNT_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    ORGANIZATION_SCORES,
    TABLES,
)
from posture_pipeline.settings import LAKE_VARIABLE, S3, Aws, Settings
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.buckets import (
    BUCKET,
    bucket_lake,
    counted,
    make_bucket,
    requests,
    upload,
)
from posture_pipeline_tests.fortnight import ASSETS, DAYS, Fortnight
from posture_pipeline_tests.rows import complete
from posture_pipeline_tests.simulated_days import failures, materialized

pytestmark = pytest.mark.functional

SMALL = SimulationSettings(accounts=5, resources_per_account=5, rate_limit=None)
DAY, NEXT = date(2026, 11, 23), date(2026, 11, 24)
TABLE = ORGANIZATION_ACCOUNTS
COMMIT = layout.commit_file(TABLE.name, DAY)
GROWN = uuid.uuid4().hex
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of their own, where copies of catalogs are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def running() -> Iterator[SimulationServer]:
    with serve(SMALL) as server:
        make_bucket(server)
        yield server


@pytest.fixture
def server(running: SimulationServer) -> Iterator[SimulationServer]:
    """A simulated S3 with the bucket, that misbehaves in no way yet."""
    running.clear()
    yield running
    running.clear()


@pytest.fixture
def lake(server: SimulationServer) -> Lake:
    """An empty lake in the bucket."""
    return bucket_lake(server, uuid.uuid4().hex)


ONE_SCORE = complete(ORGANIZATION_SCORES, pl.DataFrame({"report": ["fsbp"]}))


def accounts(*ids: str) -> pl.DataFrame:
    ids_only = pl.DataFrame({"account_id": list(ids)}, schema={"account_id": pl.String})
    return complete(TABLE, ids_only)


def stored(lake: Lake) -> list[str]:
    return lake.read(TABLE, DAY)["account_id"].to_list()


def fault(server: SimulationServer, kind: str, operation: str = "*", **rule: Any) -> None:
    server.inject([{"kind": kind, "service": "s3", "operation": operation, **rule}])


# --- encryption and credentials ---------------------------------------------------------------


def test_everything_is_encrypted_with_the_key_of_the_settings(server: SimulationServer) -> None:
    lake = bucket_lake(server, uuid.uuid4().hex, kms_key_arn=KEY)
    lake.replace(TABLE, DAY, accounts("1"))
    lake.put("large", bytes(12_000_000))
    begun = requests(server, "PutObject") + requests(server, "CreateMultipartUpload")
    assert len(begun) == 3
    assert {(each["encryption"], each["kms_key"]) for each in begun} == {("aws:kms", KEY)}
    assert stored(lake) == ["1"]


def test_without_a_key_the_bucket_encrypts_as_it_is_set(
    server: SimulationServer, lake: Lake
) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    assert [each.get("encryption") for each in requests(server, "PutObject")] == [None, None]


def test_the_lake_is_reached_as_the_settings_say(server: SimulationServer) -> None:
    settings = Settings(
        lake=f"s3://{BUCKET}/{uuid.uuid4().hex}",
        aws=Aws(role_arn="arn:aws:iam::111122223333:role/audit"),
        s3=S3(region="eu-central-1", endpoint_url=server.url, kms_key_arn=KEY),
    )
    lake = open_lake(settings)
    lake.replace(TABLE, DAY, accounts("1"))
    assert stored(lake) == ["1"]
    assert {each["region"] for each in requests(server)} == {"eu-central-1"}
    # The role of the audit account is for reading findings; the lake is the pipeline's own.
    assert {each["service"] for each in server.calls()} == {"s3"}


def test_credentials_are_those_of_boto3_for_every_reader(
    server: SimulationServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile of the AWS configuration file, which obstore and Polars alone would not read."""
    config = tmp_path / "config"
    config.write_text(
        "[profile lake]\nregion = eu-west-1\naws_access_key_id = AKIAPROFILE\n"
        f"aws_secret_access_key = secret\nendpoint_url = {server.url}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    signed: set[str] = set()
    answer = type(server.application).__call__

    def seen(application: Any, environ: Any, start_response: Any) -> Any:
        signed.add(environ["HTTP_AUTHORIZATION"].split("Credential=")[1].split("/")[0])
        return answer(application, environ, start_response)

    monkeypatch.setattr(type(server.application), "__call__", seen)
    lake = open_lake(Settings(lake=f"s3://{BUCKET}/{uuid.uuid4().hex}", s3=S3(profile="lake")))
    lake.replace(TABLE, DAY, accounts("1"))
    assert stored(lake) == ["1"]
    assert signed == {"AKIAPROFILE"}


def test_a_session_token_goes_with_every_request(server: SimulationServer) -> None:
    asked: list[None] = []

    def session() -> Credentials:
        asked.append(None)
        return Credentials("ASIASIMULATED", "secret", "a token")

    lake = bucket_lake(server, uuid.uuid4().hex, credentials=session)
    lake.put("a", b"1")
    assert lake.bucket is not None
    assert lake.bucket.scan_options["credential_provider"]()[0]["aws_session_token"] == "a token"
    assert asked == [None, None]


def test_credentials_that_cannot_be_had_are_the_error_whoever_needs_them(
    server: SimulationServer,
) -> None:
    def none() -> Credentials:
        message = "no AWS credentials were found. Sign in."
        raise CredentialsError(message)

    lake = bucket_lake(server, "any", credentials=none)
    with pytest.raises(CredentialsError, match=r"no AWS credentials were found\. Sign in\."):
        lake.get("a")
    with pytest.raises(CredentialsError, match="no AWS credentials were found"):
        lake.scan_files(TABLE, [lake.uri("a.parquet")]).collect()


# --- faults -----------------------------------------------------------------------------------

PASSING: list[dict[str, Any]] = [
    {"kind": "error", "code": "SlowDown"},
    {"kind": "error", "code": "InternalError", "status": 500},
    {"kind": "reset"},
]
name_of: Callable[[dict[str, Any]], str] = lambda rule: rule.get("code", rule["kind"])  # noqa: E731


@pytest.mark.parametrize("rule", PASSING, ids=name_of)
@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "ListObjectsV2"])
def test_a_fault_that_passes_is_sat_out(
    server: SimulationServer, lake: Lake, rule: dict[str, Any], operation: str
) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    fault(server, operation=operation, **rule)
    lake.replace(TABLE, DAY, accounts("1"))
    assert stored(lake) == ["1"]
    assert server.application.faults.remaining() == 0


@pytest.mark.parametrize("operation", ["GetObject", "ListObjectsV2"])
def test_an_answer_that_broke_off_is_asked_for_again(
    server: SimulationServer, lake: Lake, operation: str
) -> None:
    """Half a commit, or half a listing, must not be taken for a whole one."""
    lake.replace(TABLE, DAY, accounts("1"))
    for _ in range(2):
        fault(server, "truncate", operation)
        assert lake.days(TABLE.name) == [DAY]
        assert stored(lake) == ["1"]
    assert server.application.faults.remaining() == 0


LASTING: list[tuple[dict[str, Any], type[PostureError], str]] = [
    ({"kind": "error", "code": "SlowDown"}, LakeError, "SlowDown.*after all retries"),
    ({"kind": "error", "code": "InternalError", "status": 500}, LakeError, "InternalError"),
    ({"kind": "reset"}, LakeError, "error sending request"),
    ({"kind": "error", "code": "AccessDenied"}, PermissionMissingError, "credentials need s3:"),
    ({"kind": "error", "code": "NoSuchBucket"}, LakeError, "no such bucket; correct `lake`"),
    ({"kind": "error", "code": "ExpiredToken"}, CredentialsError, "ExpiredToken. Renew"),
    ({"kind": "error", "code": "InvalidAccessKeyId"}, CredentialsError, "Renew the credentials"),
    (
        {"kind": "error", "code": "PermanentRedirect", "status": 301},
        LakeError,
        "another region; set s3.region",
    ),
]


@pytest.mark.parametrize(("rule", "kind", "says"), LASTING, ids=[name_of(e[0]) for e in LASTING])
def test_a_fault_that_stays_is_told_in_our_words_and_changes_nothing(
    server: SimulationServer, lake: Lake, rule: dict[str, Any], kind: type[PostureError], says: str
) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    commit = lake.require(TABLE.name, DAY)
    writer = lake.write(TABLE, DAY)
    writer.add(accounts("1"))
    fault(server, times=None, **rule)
    asked: list[Callable[[], object]] = [
        lambda: lake.get(COMMIT),
        lambda: lake.put("a", b"1"),
        lambda: lake.names(TABLE.name),
        lambda: lake.delete("a"),
        writer.commit,
        lambda: lake.replace(TABLE, NEXT, accounts("1")),
    ]
    for ask in asked:
        with pytest.raises(kind, match=says) as error:
            ask()
        assert f"s3://{BUCKET}/" in str(error.value)
    server.clear_faults()
    assert stored(lake) == ["0"]
    assert lake.require(TABLE.name, DAY) == commit
    assert lake.days(TABLE.name) == [DAY]


@pytest.mark.parametrize(("rule", "kind", "says"), LASTING, ids=[name_of(e[0]) for e in LASTING])
def test_a_scan_that_fails_is_told_in_the_same_words(
    server: SimulationServer, lake: Lake, rule: dict[str, Any], kind: type[PostureError], says: str
) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    scan = lake.scan(TABLE, DAY)
    fault(server, times=None, **rule)
    with pytest.raises(OSError, match="S3 error") as error:
        scan.collect()
    said = told(error.value)
    assert isinstance(said, kind)
    assert re.search(says, str(said))


def test_a_step_that_cannot_read_the_bucket_fails_with_our_words(
    server: SimulationServer, lake: Lake
) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    scan = lake.scan(TABLE, DAY)
    fault(server, "error", code="AccessDenied", times=None)
    with pytest.raises(dg.Failure) as failure, explained():
        scan.collect()
    assert "The credentials need s3:GetObject" in str(failure.value.description)


def test_errors_that_are_not_of_a_bucket_stay_what_they_are() -> None:
    assert told(FileNotFoundError("a")) is None
    assert told(OSError(28, "No space left on device")) is None
    assert told(ValueError("<no code>")) is None


# --- two writers, lost answers ----------------------------------------------------------------


@pytest.mark.parametrize("there", [(), ("0",)], ids=["a new day", "a day that is there"])
def test_a_commit_whose_answer_was_lost_is_no_lost_one(
    server: SimulationServer, lake: Lake, there: tuple[str, ...]
) -> None:
    if there:
        lake.replace(TABLE, DAY, accounts(*there))
    writer = lake.write(TABLE, DAY)
    writer.add(accounts("1"))
    fault(server, "lose_answer", "PutObject")
    server.application.clear_calls()
    writer.commit()
    # That the commit which is there is ours, its content tells.
    assert [each["status"] for each in requests(server, "PutObject")] == [0]
    assert stored(lake) == ["1"]


def test_a_commit_that_did_not_arrive_is_sent_again(server: SimulationServer, lake: Lake) -> None:
    fault(server, "reset", "PutObject", after=1)
    lake.replace(TABLE, DAY, accounts("1"))
    assert [each["status"] for each in requests(server, "PutObject")] == [200, 0, 200]
    assert stored(lake) == ["1"]


def test_a_conflict_that_nobody_won_is_tried_again(server: SimulationServer, lake: Lake) -> None:
    """S3 answers 409 while another request on the object is under way, which may yet fail."""
    fault(server, "error", "PutObject", code="ConditionalRequestConflict", after=1)
    lake.replace(TABLE, DAY, accounts("1"))
    assert [each["status"] for each in requests(server, "PutObject")] == [200, 409, 200]
    assert stored(lake) == ["1"]


def test_a_conflict_without_end_is_told(server: SimulationServer, lake: Lake) -> None:
    fault(server, "error", "PutObject", code="ConditionalRequestConflict", after=1, times=None)
    with pytest.raises(LakeError, match="again and again that others write it"):
        lake.replace(TABLE, DAY, accounts("1"))
    server.clear_faults()
    assert lake.commit_of(TABLE.name, DAY) is None


def test_a_commit_goes_out_with_the_condition_that_nothing_changed(
    server: SimulationServer, lake: Lake
) -> None:
    lake.replace(TABLE, DAY, accounts("0"))
    version = lake.commit_version(TABLE.name, DAY)
    lake.replace(TABLE, DAY, accounts("1"))
    conditions = [
        (each.get("if_none_match"), each.get("if_match"))
        for each in requests(server, "PutObject")
        if each["key"].endswith(layout.COMMIT)
    ]
    assert conditions == [("*", None), (None, version)]


# --- what it costs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year(running: SimulationServer) -> Lake:
    """A table of scores with many days."""
    lake = bucket_lake(running, uuid.uuid4().hex)
    for back in range(60):
        lake.replace(ORGANIZATION_SCORES, DAY - timedelta(days=back), ORGANIZATION_SCORES.empty())
    return lake


def test_the_newest_day_costs_one_listing_and_one_read_however_many_days_there_are(
    server: SimulationServer, year: Lake
) -> None:
    assert year.last_day(ORGANIZATION_SCORES.name) == DAY
    assert counted(server) == {"ListObjectsV2": 1, "GetObject": 1}


def test_every_day_costs_one_listing_and_a_read_a_day(server: SimulationServer, year: Lake) -> None:
    assert len(year.days(ORGANIZATION_SCORES.name)) == 60
    assert counted(server) == {"ListObjectsV2": 1, "GetObject": 60}


def test_some_days_cost_their_own_reads(server: SimulationServer, year: Lake) -> None:
    since = DAY - timedelta(days=6)
    days = list(year.days_before(ORGANIZATION_SCORES.name, after=since))
    assert days == [DAY - timedelta(days=back) for back in range(6)]
    assert counted(server) == {"ListObjectsV2": 1, "GetObject": 6}


def test_reading_a_day_costs_the_same_however_many_days_there_are(
    server: SimulationServer, year: Lake
) -> None:
    year.read(ORGANIZATION_SCORES, DAY)
    asked = requests(server)
    assert {each["operation"] for each in asked} == {"GetObject", "ListObjectsV2"}
    assert len(asked) <= 4
    day = layout.partition(ORGANIZATION_SCORES.name, DAY)
    assert all(day in (each.get("key") or each["prefix"]) for each in asked)


def test_a_write_costs_two_writes_and_lists_only_its_own_day(
    server: SimulationServer, year: Lake
) -> None:
    year.replace(ORGANIZATION_SCORES, DAY, ORGANIZATION_SCORES.empty())
    asked = counted(server)
    assert asked["PutObject"] == 2
    assert sum(asked.values()) <= 8
    listed = [each["prefix"] for each in requests(server, "ListObjectsV2")]
    assert all(layout.partition(ORGANIZATION_SCORES.name, DAY) in each for each in listed)


# --- a day, and every command -----------------------------------------------------------------


@pytest.fixture(scope="module")
def grown(fortnight: Fortnight) -> Settings:
    """Settings of a lake in a bucket that holds the history of the fortnight, moved there."""
    make_bucket(fortnight.run.server)
    settings = fortnight.run.settings.model_copy(update={"lake": f"s3://{BUCKET}/{GROWN}"})
    lake = open_lake(settings)
    upload(Path(fortnight.lake.root), lake)
    publish.rebuild(lake)
    return settings


SAID_OF_RUN = ("collected_at", "computed_at", "as_of", "file")
"""Columns that tell of the run and not of the findings."""


def test_a_day_in_a_bucket_gives_the_tables_that_it_gives_in_a_folder(
    fortnight: Fortnight, tmp_path: Path
) -> None:
    make_bucket(fortnight.run.server)
    settings = fortnight.run.settings.model_copy(
        update={"lake": f"s3://{BUCKET}/{uuid.uuid4().hex}"}
    )
    lake = open_lake(settings)
    folder = Path(fortnight.lake.root)
    for path in folder.glob(f"*/date={DAYS[0]}/**/*"):
        if path.is_file():
            lake.put(path.relative_to(folder).as_posix(), path.read_bytes())
    result = fortnight.run.run(DAYS[1], settings=settings, selection=[*ASSETS, "posture_catalog"])
    assert result.success, failures(result)
    assert materialized(result) >= {*ASSETS, "posture_catalog"}
    compared = 0
    for table in TABLES:
        if fortnight.lake.commit_of(table.name, DAYS[1]) is None:
            continue
        here, there = (
            each.read(table, DAYS[1]).drop(SAID_OF_RUN, strict=False)
            for each in (lake, fortnight.lake)
        )
        assert here.sort(here.columns).equals(there.sort(there.columns)), table.name
        compared += here.height
    assert compared > 100
    answer = publish.query(lake, "SELECT DISTINCT date FROM organization_scores ORDER BY 1")
    assert answer["date"].to_list() == DAYS[:2]


def said(settings: Settings, folder: Path, *arguments: str, capsys: Any) -> str:
    """What a command prints, its lake aside."""
    folder.mkdir(exist_ok=True)
    path = folder / "posture.yaml"
    raw = {
        "lake": settings.lake,
        "aws": {"endpoint_url": settings.aws.endpoint_url},
        "reports": [each.model_dump(mode="json", exclude_none=True) for each in settings.reports],
    }
    path.write_text(yaml.safe_dump(raw))
    assert cli.main([*arguments, "--config", str(path)]) == 0, capsys.readouterr().err
    return str(capsys.readouterr().out).replace(settings.lake, "LAKE").replace(str(path), "FILE")


LAST = DAYS[-1].isoformat()
COMMANDS = [
    ["scores"],
    ["scores", "--report", "fsbp", "--scope", "account", "--format", "csv"],
    ["controls", "--report", "fsbp", "--workload", "payments", "--environment", "production"],
    ["explain", "--report", "fsbp", "--organization"],
    ["backlog", "--report", "fsbp", "--workload", "payments", "--environment", "production"],
    ["remediation", "--report", "fsbp"],
    ["query", "FROM trend('payments', 'production')"],
    ["query", f"SELECT count(*) FROM findings WHERE date = '{LAST}'"],  # noqa: S608
    ["query", f"SELECT * FROM new_failures('{LAST}')"],  # noqa: S608
    ["query", "SELECT count(*), min(opened_at), max(closed_on) FROM remediation"],
    ["query", f"SELECT account_id, count(*) FROM findings_on('{LAST}') GROUP BY 1 ORDER BY 1"],  # noqa: S608
    ["report"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_the_same_of_a_bucket_as_of_a_folder(
    fortnight: Fortnight,
    grown: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    in_folder = fortnight.copied(tmp_path).run.settings if command == ["report"] else None
    folder = said(in_folder or fortnight.run.settings, tmp_path / "a", *command, capsys=capsys)
    fortnight.run.server.application.clear_calls()
    assert said(grown, tmp_path / "b", *command, capsys=capsys) == folder
    listed = {each["prefix"] for each in requests(fortnight.run.server, "ListObjectsV2")}
    assert not listed & {GROWN, f"{GROWN}/", None}, "a command listed the whole lake"


def test_the_pages_of_a_bucket_are_copied_to_be_opened(
    grown: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    said(grown, tmp_path, "report", "--open", capsys=capsys)
    [url] = opened
    index = Path(url.removeprefix("file://"))
    assert index.read_bytes() == open_lake(grown).get("report/index.html")
    assert len(list(index.parent.glob("workload-*.html"))) > 1


def test_a_bucket_that_is_not_there_is_told_by_every_command(
    grown: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "posture.yaml"
    raw = {"lake": "s3://never-made/lake", "aws": {"endpoint_url": grown.aws.endpoint_url}}
    path.write_text(yaml.safe_dump(raw))
    for command in (["scores"], ["query", "SELECT 1"], ["report"]):
        assert cli.main([*command, "--config", str(path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("posture: ")
        assert "s3://never-made/lake" in error


# --- the catalog ------------------------------------------------------------------------------


def test_queries_in_a_row_download_the_catalog_once(fortnight: Fortnight, grown: Settings) -> None:
    lake, server = open_lake(grown), fortnight.run.server
    publish.query(lake, "SELECT 1")
    server.application.clear_calls()
    assert publish.query(lake, "SELECT count(*) FROM account_scores").item() > 0
    assert counted(server) == {"GetObject": 1}


def test_a_newer_catalog_is_downloaded_and_the_older_copy_goes(
    server: SimulationServer, lake: Lake
) -> None:
    for count, day in enumerate((DAY, NEXT), 1):
        lake.replace(
            ORGANIZATION_SCORES,
            day,
            ONE_SCORE,
        )
        copy = publish.publish_day(lake, day)
        assert copy.exists()
        assert [*copy.parent.glob("*.duckdb")] == [copy]
        answer = publish.query(lake, "SELECT count(*) FROM organization_scores")
        assert answer.item() == count


def test_a_day_that_another_run_published_meanwhile_stays_in_the_catalog(
    server: SimulationServer, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (DAY, NEXT):
        lake.replace(
            ORGANIZATION_SCORES,
            day,
            ONE_SCORE,
        )
    publish.publish_day(lake, DAY)
    later = NEXT + timedelta(days=1)
    lake.replace(
        ORGANIZATION_SCORES,
        later,
        ONE_SCORE,
    )
    put_if = Lake.put_if
    others = [later]

    def put_after_another(self: Lake, path: str, data: bytes, version: str | None) -> str | None:
        if others:
            publish.publish_day(lake, others.pop())
        return put_if(self, path, data, version)

    monkeypatch.setattr(Lake, "put_if", put_after_another)
    publish.publish_day(lake, NEXT)
    answer = publish.query(lake, "SELECT date FROM organization_scores ORDER BY 1")
    assert answer["date"].to_list() == [DAY, NEXT, later]


@pytest.mark.parametrize(
    ("sql", "opened"),
    [
        (f"FROM findings_on('{LAST}') WHERE account_id = '{{account}}'", 1),
        (f"FROM account_findings_on('{{account}}', '{LAST}')", 1),
        (f"SELECT title FROM findings WHERE date = '{LAST}' AND account_id = '{{account}}'", 1),  # noqa: S608
    ],
)
def test_a_query_opens_the_files_of_its_day_and_account_alone(
    fortnight: Fortnight, grown: Settings, sql: str, opened: int
) -> None:
    lake, server = open_lake(grown), fortnight.run.server
    account = lake.read(ACCOUNT_FINDINGS, DAYS[-1])["account_id"].sort()[0]
    publish.query(lake, "SELECT 1")
    server.application.clear_calls()
    rows = publish.query(lake, sql.format(account=account))
    assert rows.height > 0
    read = {each["key"] for each in requests(server, "GetObject") if "parquet" in each["key"]}
    assert len(read) == opened
    assert all(f"date={LAST}" in each and f"account_id={account}" in each for each in read)


def test_publishing_a_day_does_not_list_what_views_are_made_over(
    fortnight: Fortnight, grown: Settings
) -> None:
    lake, server = open_lake(grown), fortnight.run.server
    server.application.clear_calls()
    publish.publish_day(lake, DAYS[-1])
    tables = {f"{GROWN}/{table.name}/" for table in publish.LAKE_VIEWS.values()}
    listed = requests(server, "ListObjectsV2")
    # By day folders, or below one day: never every object of a table.
    assert not [each for each in listed if each["prefix"] in tables and not each.get("delimiter")]


def test_a_failure_of_s3_is_not_blamed_on_the_question(
    fortnight: Fortnight, grown: Settings
) -> None:
    lake, server = open_lake(grown), fortnight.run.server
    publish.query(lake, "SELECT 1")
    try:
        server.inject([{"kind": "error", "code": "AccessDenied", "service": "s3", "after": 1}])
        with pytest.raises(PermissionMissingError, match="credentials need s3:"):
            publish.query(lake, f"FROM findings_on('{LAST}')")
    finally:
        server.clear_faults()


def test_a_query_can_neither_write_to_the_bucket_nor_read_beside_the_lake(
    grown: Settings,
) -> None:
    lake = open_lake(grown)
    for sql in (f"COPY (SELECT 1) TO '{lake.uri('own.csv')}'", "FROM 's3://elsewhere/a.csv'"):
        with pytest.raises(InputError):
            publish.query(lake, sql)
    assert lake.get("own.csv") is None


def test_httpfs_is_given_the_lakes_own_endpoint_and_credentials(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the extension is there; loading it is left out here."""
    done: list[str] = []

    class Connection:
        def execute(self, sql: str) -> None:
            done.append(sql)

    connection: Any = Connection()
    with bucket_files.readable(connection, lake):
        pass
    assert done[0] == "LOAD httpfs"
    assert lake.bucket is not None
    assert lake.bucket.endpoint_url.removeprefix("http://") in done[1]
    assert "USE_SSL false" in done[1]


def test_where_there_is_no_home_to_write_to_the_copy_lasts_as_long_as_the_process(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    lake.replace(ORGANIZATION_SCORES, DAY, ONE_SCORE)
    copy = publish.publish_day(lake, DAY)
    assert not copy.is_relative_to(tmp_path)
    assert publish.query(lake, "SELECT count(*) FROM organization_scores").item() == 1


def test_a_catalog_in_a_bucket_that_is_damaged_is_named(lake: Lake) -> None:
    lake.put(layout.CATALOG, b"no database")
    with pytest.raises(LakeError, match=r"posture\.duckdb cannot be opened") as error:
        publish.query(lake, "SELECT 1")
    assert isinstance(error.value.__cause__, duckdb.Error)


# --- permissions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("ListObjectsV2", "s3:ListBucket"),
        ("GetObject", "s3:GetObject"),
        ("PutObject", "s3:PutObject"),
    ],
)
def test_a_check_tells_what_the_lake_lacks_and_writes_nothing(
    server: SimulationServer, lake: Lake, operation: str, action: str
) -> None:
    assert [missing for _, missing in permissions.tried(lake)] == [None, None, None]
    fault(server, "error", operation, code="AccessDenied", times=None)
    missing = dict(permissions.tried(lake))
    server.clear_faults()
    assert action in str(missing[action])
    assert lake.names("") == ([], [])


# --- commands that make a lake ----------------------------------------------------------------


def test_the_user_interface_is_started_on_the_bucket_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda *arguments: started.append(arguments[2]))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.chdir(tmp_path)
    cli.main(["up", "--lake", f"s3://{BUCKET}/lake"])
    assert started[0][LAKE_VARIABLE] == f"s3://{BUCKET}/lake"


def test_an_import_into_a_bucket_asks_for_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else they would be guessed anew by every later command."""
    (tmp_path / "findings.json").write_text('{"Findings": []}')
    monkeypatch.chdir(tmp_path)
    command = ["import", "findings.json", "--date", DAY.isoformat(), "--lake", "s3://bucket/lake"]
    assert cli.main(command) == 1
    assert "needs a posture.yaml (posture init)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["findings.json"]


def test_a_demo_never_writes_over_another_lake(
    server: SimulationServer,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake.replace(TABLE, DAY, accounts("1"))
    path = tmp_path / "posture.yaml"
    path.write_text(yaml.safe_dump({"s3": {"endpoint_url": server.url}}))
    monkeypatch.setenv("POSTURE_CONFIG", str(path))
    assert cli.main(["demo", "--lake", lake.root, "--days", "1"]) == 1
    assert "holds another lake; choose another prefix" in capsys.readouterr().err
    assert lake.names("") == ([TABLE.name], [])
