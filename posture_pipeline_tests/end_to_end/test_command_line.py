"""The command line as people use it: processes, files, exit codes, what is printed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from posture_pipeline.cli import main
from posture_pipeline.lake.store import Lake
from posture_pipeline.schemas import (
    ACCOUNT_SCORES,
    CONTROL_STATUS,
    MERGED_FINDINGS,
    ORGANIZATION_SCORES,
    QUARANTINE,
    RAW_FINDING_PAGES,
    WORKLOAD_SCORES,
)
from posture_pipeline.simulation.organization import SimulatedOrganization
from posture_pipeline.simulation.server import SimulationServer, serve
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.commands import environment, posture

DAY = date(2026, 3, 2)
SMALL = SimulationSettings(accounts=6, resources_per_account=6, rate_limit=None)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small demo: the folder it ran in, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = posture("demo", "--days", "2", "--accounts", "6", cwd=folder)
    return folder, done.stdout


def test_the_demo_ends_with_the_scores_and_what_to_do_next(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    today = datetime.now(UTC).date()
    lake = Lake(str(folder / "demo"))
    days = lake.days(WORKLOAD_SCORES.name)
    assert len(days) == 2
    assert days[-1] in (today, today - timedelta(days=1))
    assert f"Scores by workload, {days[-1]}" in printed
    for workload in lake.read(WORKLOAD_SCORES, days[-1])["workload"].unique():
        assert workload in printed
    assert str(folder / "demo" / "posture.duckdb") in printed
    assert "make up" in printed
    assert ' query "FROM trend(' in printed
    assert " init\n" in printed


def test_a_second_demo_replaces_the_first(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = demo
    done = posture("demo", "--days", "1", "--accounts", "6", cwd=folder)
    assert "Scores by workload" in done.stdout
    assert len(Lake(str(folder / "demo")).days(WORKLOAD_SCORES.name)) == 2


def test_the_demo_leaves_a_lake_of_somebody_else_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x", encoding="utf-8")
    done = posture("demo", "--lake", "mine", cwd=tmp_path, expect=1)
    assert "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("scope", "table"),
    [
        ("account", ACCOUNT_SCORES),
        ("workload", WORKLOAD_SCORES),
        ("organization", ORGANIZATION_SCORES),
    ],
)
def test_json_and_csv_carry_every_column_of_the_score_table(
    demo: tuple[Path, str], scope: str, table: Any
) -> None:
    folder, _ = demo
    as_json = json.loads(posture("scores", "--scope", scope, "--format", "json", cwd=folder).stdout)
    text = posture("scores", "--scope", scope, "--format", "csv", cwd=folder).stdout
    as_csv = list(csv.DictReader(io.StringIO(text)))
    lake = Lake(str(folder / "demo"))
    stored = lake.read(table, lake.days(table.name)[-1])
    for rows in (as_json, as_csv):
        assert len(rows) == stored.height
        assert list(rows[0]) == table.names
    assert sorted(str(row["score"]) for row in as_json if row["score"] is not None) == sorted(
        str(score) for score in stored["score"].drop_nulls()
    )


def test_one_report_and_one_day_can_be_asked_for(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    day = Lake(str(folder / "demo")).days(WORKLOAD_SCORES.name)[0]
    rows = json.loads(
        posture(
            "scores", "--report", "fsbp", "--date", str(day), "--format", "json", cwd=folder
        ).stdout
    )
    assert {row["report"] for row in rows} == {"fsbp"}
    assert {row["date"] for row in rows} == {str(day)}
    table = posture("scores", "--report", "fsbp", cwd=folder).stdout
    assert "resource score" in table


def test_the_controls_of_an_account_and_of_a_workload_are_listed(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    lake = Lake(str(folder / "demo"))
    day = lake.days(CONTROL_STATUS.name)[-1]
    row = lake.read(ACCOUNT_SCORES, day).filter(pl.col("report") == "fsbp").row(0, named=True)
    common = ("controls", "--report", "fsbp", "--format", "json")
    of_account = json.loads(posture(*common, "--account", row["account_id"], cwd=folder).stdout)
    stored = lake.read(CONTROL_STATUS, day).filter(
        pl.col("report") == "fsbp", pl.col("account_id") == row["account_id"]
    )
    assert set(CONTROL_STATUS.names) <= set(of_account[0])
    assert {each["control_id"]: each["status"] for each in of_account} == dict(
        stored.select("control_id", "status").iter_rows()
    )
    of_workload = json.loads(
        posture(
            *common, "--workload", row["workload"], "--environment", row["environment"], cwd=folder
        ).stdout
    )
    failed = sum(each["status"] == "FAILED" for each in of_workload)
    scores = lake.read(WORKLOAD_SCORES, day).filter(
        pl.col("report") == "fsbp",
        pl.col("workload") == row["workload"],
        pl.col("environment") == row["environment"],
    )
    assert failed == scores["failed"].item()


def test_an_arn_is_printed_as_it_is(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    arn = "arn:aws:secretsmanager:eu-west-1:1:secret:key"
    assert arn in posture("query", f"SELECT '{arn}' AS arn", cwd=folder).stdout


def test_the_catalog_is_asked_in_sql_and_cannot_be_changed(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    rows = json.loads(
        posture(
            "query", "SELECT count(DISTINCT date) AS days FROM workload_scores", "--format", "json",
            cwd=folder,
        ).stdout
    )  # fmt: skip
    assert rows == [{"days": 2}]
    done = posture("query", "DROP TABLE workload_scores", cwd=folder, expect=1)
    assert "read-only" in done.stderr.lower()
    done = posture("query", "SELEC 1", cwd=folder, expect=1)
    assert "Parser Error" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["scores"], 1, "There is no lake"),
        (["scores", "--date", "yesterday"], 2, "2026-11-23"),
        (["scores", "--config", "nowhere.yaml"], 1, "nowhere.yaml"),
        (["import", "nowhere.json", "--date", "2026-03-02"], 1, "nowhere.json"),
        (["import", ".", "--date", "2026-03-02"], 1, "nothing to import"),
        (["controls", "--report", "fsbp", "--account", "1", "--workload", "x"], 1, "either"),
        (["demo", "--accounts", "3"], 2, "from 5 to"),
        (["simulate", "--port", "99999"], 2, "from 0 to 65535"),
        (["no-such-command"], 2, "--help"),
        ([], 2, "--help"),
    ],
)
def test_bad_input_is_answered_in_one_paragraph(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = posture(*arguments, cwd=tmp_path, expect=code)
    assert says in done.stderr
    assert done.stderr.startswith("posture: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_report_or_account_names_the_known_ones(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    done = posture("scores", "--report", "nope", cwd=folder, expect=1)
    assert "fsbp" in done.stderr
    done = posture("controls", "--report", "fsbp", "--account", "1", cwd=folder, expect=1)
    assert "there are" in done.stderr
    done = posture("scores", "--date", "2001-01-01", cwd=folder, expect=1)
    assert "2001-01-01" in done.stderr


def test_every_command_has_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = posture("--help", cwd=tmp_path).stdout.partition("COMMAND\n")[2]
    commands = re.findall(r"^    ([a-z-]+)", listed, re.MULTILINE)
    assert {"demo", "run", "scores", "explain", "report", "doctor", "up"} <= set(commands)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"usage: posture {command}" in capsys.readouterr().out


def test_init_writes_settings_that_are_valid_and_never_replaces_them_unasked(
    tmp_path: Path,
) -> None:
    posture("init", cwd=tmp_path)
    text = (tmp_path / "posture.yaml").read_text(encoding="utf-8")
    assert "reports:" in text
    done = posture("init", cwd=tmp_path, expect=1)
    assert "--force" in done.stderr
    posture("init", "--force", cwd=tmp_path)


@pytest.fixture
def organization() -> Iterator[SimulationServer]:
    with serve(SMALL) as server:
        server.set_clock(datetime(2026, 3, 2, 6, tzinfo=UTC))
        yield server


def _settings(folder: Path, server: SimulationServer, **more: Any) -> None:
    raw = {
        "lake": "./lake",
        "aws": {"endpoint_url": server.url, "requests_per_second": None},
        "reports": [
            {"name": "fsbp", "standard": "aws-foundational-security-best-practices/v/1.0.0"},
            {"name": "lz-pack", "conformance_pack": "lz-framework"},
        ],
        **more,
    }
    (folder / "posture.yaml").write_text(json.dumps(raw), encoding="utf-8")


def test_check_names_the_permission_that_is_missing(
    tmp_path: Path, organization: SimulationServer
) -> None:
    _settings(tmp_path, organization)
    assert "every permission" in posture("check", cwd=tmp_path).stdout
    organization.inject(
        [
            {
                "kind": "error",
                "operation": "DescribeConformancePackCompliance",
                "status": 403,
                "code": "AccessDeniedException",
                "times": None,
            }
        ]
    )
    done = posture("check", cwd=tmp_path, expect=1)
    assert "config:DescribeConformancePackCompliance" in done.stderr


def test_check_names_the_report_that_a_run_would_not_find(
    tmp_path: Path, organization: SimulationServer
) -> None:
    lost = {"name": "lost", "conformance_pack": "no-such-pack"}
    rules = {"name": "rules", "custom_rules": ["required-tags", "approved-amis"]}
    _settings(tmp_path, organization, reports=[lost, rules])
    done = posture("check", cwd=tmp_path, expect=1)
    assert "cannot be scored: lost." in done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "not found" in lines["lost"]
    assert "no-such-pack" in done.stdout
    assert "lz-framework" in done.stdout, "what there is"
    assert "ok" in lines["rules"]
    assert "2 enabled" in lines["rules"]


def test_check_says_what_is_wrong_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "posture.yaml").write_text("thresholds: {red: 99, amber: 5}\n", encoding="utf-8")
    done = posture("check", cwd=tmp_path, expect=1)
    assert "thresholds" in done.stderr


def test_a_run_without_valid_credentials_says_so_in_one_paragraph(
    tmp_path: Path, organization: SimulationServer
) -> None:
    _settings(tmp_path, organization)
    organization.inject(
        [
            {
                "kind": "error",
                "status": 403,
                "code": "ExpiredTokenException",
                "operation": "GetFindings",
                "times": None,
            }
        ]
    )
    done = posture("run", "--date", str(DAY), cwd=tmp_path, expect=1)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("posture: "))
    assert "expired" in line


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the day that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with serve(SMALL) as server:
        server.set_clock(datetime(2026, 3, 2, 6, tzinfo=UTC))
        _settings(folder, server)
        done = posture("run", "--date", str(DAY), cwd=folder)
    assert "Scores by workload, 2026-03-02" in done.stdout
    assert "findings" in done.stderr
    return folder


def _findings(folder: Path) -> pl.DataFrame:
    return (
        Lake(str(folder / "lake"))
        .scan(MERGED_FINDINGS, DAY)
        .drop("shard", "page", "collected_at")
        .sort("product_arn", "finding_id")
        .collect()
    )


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_and_started_again_ends_as_one_that_was_not(
    tmp_path: Path, whole: Path, organization: SimulationServer, end: signal.Signals
) -> None:
    _settings(tmp_path, organization)
    # Later pages come so slowly that the run is killed in the middle of the collection.
    organization.inject(
        [{"kind": "slow", "operation": "GetFindings", "after": 8, "seconds": 30, "times": None}]
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "posture_pipeline", "run", "--date", str(DAY)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(  # noqa: PLW1509 - only sets a handler
            signal.SIGINT, signal.default_int_handler
        ),
    )
    deadline = time.monotonic() + 60
    while len(organization.calls("GetFindings")) < 8:
        assert time.monotonic() < deadline, "the run never collected"
        time.sleep(0.1)
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if end == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    organization.clear_faults()
    posture("run", "--date", str(DAY), cwd=tmp_path)
    assert _findings(tmp_path).equals(_findings(whole))
    names = Lake(str(tmp_path / "lake")).names(f"{RAW_FINDING_PAGES}/date={DAY}")[1]
    assert names == ["_current.json"]


def test_saved_findings_of_every_shape_become_a_day_without_aws(tmp_path: Path) -> None:
    organization = SimulatedOrganization(SMALL)
    accounts = organization.accounts(DAY)
    folder = tmp_path / "saved"
    folder.mkdir()
    written = 0
    for number, account in enumerate(accounts):
        findings = list(organization.findings(account, DAY))
        written += len(findings)
        path = folder / f"{number}.json"
        if number % 4 == 0:
            path.write_text(json.dumps({"Findings": findings}), encoding="utf-8")
        elif number % 4 == 1:
            path.write_text(json.dumps(findings, indent=2), encoding="utf-8")
        elif number % 4 == 2:
            lines = "\n".join(json.dumps(each) for each in findings)
            (folder / f"{number}.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
        else:
            events = "\n".join(
                json.dumps({"source": "aws.securityhub", "detail": {"findings": [each]}})
                for each in findings
            )
            path.write_text(events + "\nnot json\n", encoding="utf-8")
            written += 1
    done = posture("import", "saved", "--date", str(DAY), cwd=tmp_path)
    lake = Lake(str(tmp_path / "lake"))
    merged = lake.require(MERGED_FINDINGS.name, DAY)
    assert merged.details["records"] == written
    assert merged.rows + merged.details["duplicates"] + merged.details["quarantined"] == written
    assert lake.read(QUARANTINE, DAY).height == sum(n % 4 == 3 for n in range(len(accounts)))
    assert f"{written:,} records" in done.stdout
    scores = posture("scores", "--lake", "lake", "--format", "json", cwd=tmp_path).stdout
    assert {row["report"] for row in json.loads(scores)} >= {
        "aws-foundational-security-best-practices-v1.0.0"
    }


def test_an_import_scores_what_a_run_of_the_same_findings_scores(
    tmp_path: Path, whole: Path
) -> None:
    organization = SimulatedOrganization(SMALL)
    findings = [
        finding
        for account in organization.accounts(DAY)
        if account.state == "ACTIVE"
        for finding in organization.findings(account, DAY)
    ]
    (tmp_path / "all.json").write_text(json.dumps({"Findings": findings}), encoding="utf-8")
    posture("import", "all.json", "--date", str(DAY), cwd=tmp_path)
    by_run = Lake(str(whole / "lake")).read(ACCOUNT_SCORES, DAY)
    by_import = Lake(str(tmp_path / "lake")).read(ACCOUNT_SCORES, DAY)
    keys = ["account_id", "workload", "environment", "score", "passed", "failed", "unknown"]
    wanted = by_run.filter(pl.col("report") == "fsbp").select(keys).sort("account_id")
    found = by_import.filter(pl.col("report").str.starts_with("aws-found")).select(keys)
    found = found.sort("account_id")
    wanted = wanted.join(found, on="account_id", how="semi")
    assert found.height == wanted.height > 3
    assert found.select("score", "failed").equals(wanted.select("score", "failed"))


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "posture_pipeline", "simulate", "--port", "0", "--accounts", "8",
         "--now", "2026-03-02T06:00:00Z", "--no-rate-limit"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split(" at ")[1].strip()
    try:
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def aws(url: str, *arguments: str) -> Any:
    """The unmodified AWS CLI."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "aws"), "--endpoint-url", url, "--region", "eu-west-1",
         "--output", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aws_cli_lists_accounts_pages_findings_and_reads_the_metrics_of_a_run(
    tmp_path: Path, simulator: str
) -> None:
    accounts = aws(simulator, "organizations", "list-accounts")["Accounts"]
    assert len(accounts) in (7, 8)
    filters = json.dumps(
        {
            "ComplianceStatus": [{"Value": "FAILED", "Comparison": "EQUALS"}],
            "RecordState": [{"Value": "ACTIVE", "Comparison": "EQUALS"}],
        }
    )
    found = aws(
        simulator, "securityhub", "get-findings", "--filters", filters, "--page-size", "20"
    )["Findings"]
    assert len(found) > 20
    assert {finding["Compliance"]["Status"] for finding in found} == {"FAILED"}
    assert len({finding["Id"] for finding in found}) == len(found)
    (tmp_path / "posture.yaml").write_text(
        json.dumps({"aws": {"endpoint_url": simulator, "requests_per_second": None}}),
        encoding="utf-8",
    )
    posture("run", "--date", "2026-03-02", cwd=tmp_path)
    lake = Lake(str(tmp_path / "lake"))
    row = (
        lake.read(WORKLOAD_SCORES, DAY)
        .filter(pl.col("score").is_not_null(), pl.col("report") == "fsbp")
        .row(0, named=True)
    )
    metrics = aws(simulator, "cloudwatch", "list-metrics", "--namespace", "SecurityPosture")
    assert {each["MetricName"] for each in metrics["Metrics"]} == {
        "Score", "Controls", "FailedControls", "Findings",
    }  # fmt: skip
    points = aws(
        simulator, "cloudwatch", "get-metric-statistics", "--namespace", "SecurityPosture",
        "--metric-name", "Score", "--start-time", "2026-03-02T00:00:00Z", "--end-time",
        "2026-03-03T00:00:00Z", "--period", "86400", "--statistics", "Average", "--dimensions",
        "Name=Report,Value=fsbp", f"Name=Workload,Value={row['workload']}",
        f"Name=Environment,Value={row['environment']}",
    )["Datapoints"]  # fmt: skip
    assert [point["Average"] for point in points] == [pytest.approx(row["score"])]
