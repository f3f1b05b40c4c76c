"""What stands in deploy/: templates, permissions, image, and the Dagster instances."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import dagster as dg
import pytest
import yaml
from cfnlint.api import lint_file
from cfnlint.decode.cfn_yaml import load as load_template
from cfripper.config.config import Config
from cfripper.config.pluggy.utils import get_all_rules
from cfripper.model.enums import RuleMode
from cfripper.model.utils import convert_json_or_yaml_to_dict
from cfripper.rule_processor import RuleProcessor
from dagster._core.code_pointer import CodePointer
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._core.test_utils import create_run_for_test
from dagster._utils.tags import TagConcurrencyLimitsCounter
from dagster_aws.s3 import S3ComputeLogManager
from pycfmodel import parse

import posture_pipeline
from posture_pipeline.assets.ingest import COLLECTION_POOL
from posture_pipeline.automation import DAILY_JOB
from posture_pipeline.aws.clients import AwsClients
from posture_pipeline.aws.permissions import try_permissions
from posture_pipeline.instances.celery_runs import WatchfulCeleryRunLauncher
from posture_pipeline.lake.permissions import KMS_ACTIONS, S3_ACTIONS
from posture_pipeline.schemas import ORGANIZATION_ACCOUNTS
from posture_pipeline.settings import Alarms, Alerts, Settings
from posture_pipeline.simulation.application import SimulationApplication
from posture_pipeline.simulation.settings import SimulationSettings
from posture_pipeline_tests.buckets import bucket_lake, make_bucket
from posture_pipeline_tests.servers import Postgres, postgres_server
from posture_pipeline_tests.simulated_days import (
    SimulatedDays,
    failures,
    materialized,
    simulated_days,
)

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEMPLATES = ("minimal.yaml", "full.yaml")
ACCOUNT = "111122223333"
DAY = date(2026, 3, 2)
SMALL = SimulationSettings(accounts=6, resources_per_account=5, rate_limit=None)

IAM_PREFIXES = {
    "CloudWatch": "cloudwatch",
    "Config Service": "config",
    "EC2": "ec2",
    "ECS": "ecs",
    "Organizations": "organizations",
    "SecurityHub": "securityhub",
    "SNS": "sns",
    "S3": "s3",
    "STS": "sts",
}
"""The IAM prefix of a service, by botocore's id of the service; another one fails a test."""
NEEDS_NOTHING = {"sts:GetCallerIdentity"}
"""Allowed to everybody (AWS: Service authorization reference, AWS Security Token Service)."""


def template(name: str) -> dict[str, Any]:
    """A template with its short functions written out (`Fn::Sub`)."""
    return load_template(str(DEPLOY / name))


def resources(name: str, kind: str | None = None) -> dict[str, Any]:
    """The resources of a template, or those of one type, with their properties."""
    found = template(name)["Resources"].items()
    return {key: each.get("Properties", {}) for key, each in found if kind in (None, each["Type"])}


def statements(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements of a role's own policies."""
    return [
        statement
        for policy in properties["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def actions(properties: dict[str, Any]) -> list[str]:
    """Every action that a role is allowed, as often as it is named."""
    return [action for each in statements(properties) for action in as_list(each["Action"])]


# --- templates --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_nothing_that_cfn_lint_objects_to(name: str) -> None:
    assert [str(match) for match in lint_file(DEPLOY / name)] == []


def policy_findings(name: str) -> set[tuple[str, str, str]]:
    """What the policy linter objects to: rule, resource, and action where it names one."""
    rules = get_all_rules()
    config = Config(rules=rules.keys(), aws_account_id=ACCOUNT)
    processor = RuleProcessor(*[rules[rule](config) for rule in config.rules])
    model = parse(convert_json_or_yaml_to_dict((DEPLOY / name).read_text()))
    model = model.resolve(extra_params={"AWS::AccountId": ACCOUNT})
    result = processor.process_cf_template(model, config)
    assert not result.exceptions
    found = set()
    for failure in result.get_failures(include_rule_modes={RuleMode.BLOCKING, RuleMode.MONITOR}):
        action = re.search(r'for "([a-z0-9-]+:\w+)"', failure.reason)
        for resource in failure.resource_ids or {""}:
            found.add((failure.rule, resource, action.group(1) if action else ""))
    return found


def test_the_policy_linter_finds_only_what_is_listed_with_a_reason() -> None:
    listed = yaml.safe_load((DEPLOY / "policy-exceptions.yaml").read_text())
    assert all(each["reason"].strip() for each in listed)
    meant = {
        (each["rule"], resource, action)
        for each in listed
        for resource in each["resources"]
        for action in each.get("actions", [""])
    }
    assert set().union(*(policy_findings(name) for name in TEMPLATES)) == meant


def test_the_policy_linter_sees_a_bucket_that_everybody_may_read(tmp_path: Path) -> None:
    text = (DEPLOY / "minimal.yaml").read_text()
    weakened = text.replace("Effect: Deny", "Effect: Allow")
    assert weakened != text
    weak = tmp_path / "weak.yaml"
    weak.write_text(weakened)
    assert policy_findings(str(weak)) > policy_findings("minimal.yaml")


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_bucket_is_private_encrypted_versioned_and_kept(name: str) -> None:
    whole = template(name)["Resources"]["Bucket"]
    bucket = whole["Properties"]
    assert whole["DeletionPolicy"] == whole["UpdateReplacePolicy"] == "Retain"
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert {each["Id"] for each in bucket["LifecycleConfiguration"]["Rules"]} >= {
        "ReplacedAndDeleted",
        "UnfinishedUploads",
    }
    [statement] = resources(name)["BucketPolicy"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == (
        "Deny",
        "*",
        "s3:*",
    )
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_names_no_account_and_every_parameter_says_what_it_is(name: str) -> None:
    assert re.search(r"\b\d{12}\b", (DEPLOY / name).read_text()) is None
    for parameter, declared in template(name)["Parameters"].items():
        assert declared.get("Description"), parameter


def test_the_two_templates_agree_on_what_both_hold() -> None:
    """A correction to one of them must reach the other."""
    less, more = (resources(name) for name in TEMPLATES)
    same = {"Key", "BucketPolicy", "LogGroup", "Cluster", "SecurityGroup", "Topic", "TopicPolicy"}
    same |= {"Subscription", "FailedTask", "LateAlarm", "SlowAlarm"}
    for resource in same:
        assert less[resource] == more[resource], resource
    shared = template(TEMPLATES[0])["Parameters"].keys() & template(TEMPLATES[1])["Parameters"]
    assert len(shared) > 10


def test_nothing_of_the_full_variant_has_a_public_address() -> None:
    for service in resources("full.yaml", "AWS::ECS::Service").values():
        network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "DISABLED"
        assert "LoadBalancers" not in service
    [database] = resources("full.yaml", "AWS::RDS::DBInstance").values()
    assert database["PubliclyAccessible"] is False
    assert database["StorageEncrypted"] is True
    groups = resources("full.yaml", "AWS::EC2::SecurityGroup").values()
    ingress = [rule for group in groups for rule in group.get("SecurityGroupIngress", [])]
    assert [rule.get("CidrIp") for rule in ingress] == [None]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_settings_that_a_template_makes_are_valid(name: str, tmp_path: Path) -> None:
    from posture_pipeline.settings import load_settings

    parameters = template(name)["Parameters"]
    defaults = {key: str(each.get("Default", "")) for key, each in parameters.items()}
    more = "reports: [{name: cis, standard: cis-aws-foundations-benchmark/v/3.0.0}]"
    known = {**defaults, "MoreSettings": more, "Bucket": "a-bucket", "AWS::Region": "eu-west-1"}
    known["Topic"] = f"arn:aws:sns:eu-west-1:{ACCOUNT}:posture"
    known["Key.Arn"] = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/a-key"
    text = resources(name)["Settings"]["Value"]["Fn::Sub"]
    path = tmp_path / "posture.yaml"
    path.write_text(re.sub(r"\$\{([\w:.]+)\}", lambda match: known[match.group(1)], text))
    settings = load_settings(path)
    assert settings.lake == "s3://a-bucket/lake"
    assert settings.s3.kms_key_arn == known["Key.Arn"]
    assert settings.metrics.namespace == defaults["MetricNamespace"]
    assert settings.alerts.to == (known["Topic"],)
    assert [report.name for report in settings.reports] == ["cis"]


# --- permissions ------------------------------------------------------------------------------


@dataclass
class Recorded:
    """The calls that botocore's clients made, as IAM actions."""

    actions: set[str] = field(default_factory=set)

    def see(self, model: Any, **_: object) -> None:
        service = str(model.service_model.service_id)
        self.actions.add(f"{IAM_PREFIXES[service]}:{model.name}")


@contextmanager
def recording() -> Iterator[Recorded]:
    """The calls of every client of botocore that is made in the block."""
    recorded = Recorded()
    create = botocore.session.Session.create_client

    def create_seen(session: Any, *arguments: Any, **options: Any) -> Any:
        client = create(session, *arguments, **options)
        client.meta.events.register("before-call", recorded.see)
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session.Session, "create_client", create_seen)
        yield recorded


DENIED = {"kind": "error", "code": "AccessDeniedException", "times": None}
FALLBACKS = ("ListSecurityControlDefinitions", "BatchGetStandardsControlAssociations")
"""Calls without which a run finds another way, with calls of its own."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedDays, Recorded]]:
    """A day that ran well with everything that can be switched on; its calls to AWS."""
    folder = tmp_path_factory.mktemp("deployment")
    told = Alerts(to=(f"arn:aws:sns:eu-west-1:{ACCOUNT}:posture",))
    with simulated_days(folder, SMALL, alarms=Alarms(enabled=True), alerts=told) as days:
        aggregated = days.settings.aws.model_copy(update={"config_aggregator": "organization"})
        days.settings = days.settings.model_copy(update={"aws": aggregated})
        with recording() as recorded:
            result = days.run(DAY)
            assert result.success, failures(result)
            for denied in FALLBACKS:
                days.server.inject([{**DENIED, "operation": denied}])
                listed = days.run(DAY, selection=["listed_controls"])
                assert listed.success, failures(listed)
                days.server.clear_faults()
        yield days, recorded


def optional_actions(settings: Settings) -> set[str]:
    """What a run uses only sometimes, such as to remove what is no longer wanted."""
    tried = try_permissions(AwsClients(settings.aws), settings)
    return {result.action for result in tried if not result.required}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_run_is_allowed_the_calls_that_it_makes_and_no_others(
    ran: tuple[SimulatedDays, Recorded], name: str
) -> None:
    days, recorded = ran
    needed = (recorded.actions | optional_actions(days.settings)) - NEEDS_NOTHING
    allowed = set(actions(resources(name)["RunRole"]))
    of_the_lake = {each for each in allowed if each.startswith(("s3:", "kms:"))}
    assert sorted(allowed - of_the_lake) == sorted(needed)
    assert of_the_lake == S3_ACTIONS.keys() | KMS_ACTIONS.keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_action_that_the_code_names_is_allowed(name: str) -> None:
    """A call names its action for the error that says it is missing: fallbacks too."""
    package = Path(posture_pipeline.__file__).parent / "aws"
    services = "|".join(("securityhub", "config", "organizations", "cloudwatch", "sns", "sts"))
    named = {
        action
        for path in package.glob("*.py")
        for action in re.findall(rf'"((?:{services}):[A-Z]\w+)"', path.read_text())
    }
    assert len(named) > 20
    # The role of the task is the one that the settings could name; it assumes no other.
    assert named - NEEDS_NOTHING - {"sts:AssumeRole"} <= set(actions(resources(name)["RunRole"]))


S3_REQUESTS = {
    ("GET", "bucket"): "s3:ListBucket",
    ("GET", "object"): "s3:GetObject",
    ("HEAD", "object"): "s3:GetObject",
    ("POST", "bucket"): "s3:DeleteObject",
    ("DELETE", "object"): "s3:DeleteObject",
    ("POST", "object"): "s3:PutObject",
    ("PUT", "object"): "s3:PutObject",
}
"""What a request of a lake needs, by method and by what it is addressed to; POST is DeleteObjects,
or the begin or end of an upload in parts (AWS: Amazon S3 API reference)."""


def test_a_lake_in_a_bucket_needs_the_actions_that_are_listed_beside_the_store(
    ran: tuple[SimulatedDays, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    days, _ = ran
    make_bucket(days.server)
    asked: set[tuple[str, str]] = set()
    answer = SimulationApplication.__call__

    def seen(application: Any, environ: Any, start_response: Any) -> Any:
        is_object = "/" in environ["PATH_INFO"].strip("/")
        asked.add((environ["REQUEST_METHOD"], "object" if is_object else "bucket"))
        return answer(application, environ, start_response)

    monkeypatch.setattr(SimulationApplication, "__call__", seen)
    lake = bucket_lake(days.server, "permissions")
    for _ in range(2):
        lake.replace(ORGANIZATION_ACCOUNTS, DAY, ORGANIZATION_ACCOUNTS.empty())
    assert lake.days(ORGANIZATION_ACCOUNTS.name) == [DAY]
    assert lake.read(ORGANIZATION_ACCOUNTS, DAY).is_empty()
    lake.put("large", bytes(12_000_000))
    needed = {S3_REQUESTS[each] for each in asked}
    assert ("POST", "object") in asked, "nothing was written in parts"
    # What a part that fails leaves behind is given up.
    assert needed | {"s3:AbortMultipartUpload"} == S3_ACTIONS.keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_run_may_use_its_own_bucket_key_and_namespace_alone(name: str) -> None:
    for statement in statements(resources(name)["RunRole"]):
        own = {each.split(":")[0] for each in as_list(statement["Action"])} & {"s3", "kms"}
        if own:
            assert "*" not in as_list(statement["Resource"]), statement["Sid"]
        if "cloudwatch:PutMetricData" in as_list(statement["Action"]):
            assert statement["Condition"] == {
                "StringEquals": {"cloudwatch:namespace": {"Ref": "MetricNamespace"}}
            }


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_is_allowed_a_whole_service_or_part_of_it(name: str) -> None:
    roles = resources(name, "AWS::IAM::Role").values()
    allowed = [action for role in roles if "Policies" in role for action in actions(role)]
    for policy in resources(name, "AWS::IAM::ManagedPolicy").values():
        allowed += [
            action
            for statement in policy["PolicyDocument"]["Statement"]
            for action in as_list(statement["Action"])
        ]
    assert {"iam:PassRole", "ecs:RunTask"} <= set(allowed)
    assert [each for each in allowed if "*" in each] == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_task_that_runs_is_the_one_that_alarms_watch_and_roles_may_start(name: str) -> None:
    found = resources(name)
    family = found["RunTask"]["Family"]["Fn::Sub"]
    [watched] = found["FailedTask"]["EventPattern"]["detail"]["taskDefinitionArn"]
    assert watched["prefix"]["Fn::Sub"].endswith(f"task-definition/{family}:")
    dimensions = {each["Name"]: each["Value"] for each in found["SlowAlarm"]["Dimensions"]}
    assert dimensions["TaskDefinitionFamily"] == found["RunTask"]["Family"]
    text = (DEPLOY / name).read_text()
    startable = re.findall(r"task-definition/(\S+):\*", text)
    assert startable == [family]
    for alarm in resources(name, "AWS::CloudWatch::Alarm").values():
        assert {"Ref": "Topic"} in alarm["AlarmActions"]


def test_a_day_that_was_published_is_what_the_alarm_on_late_runs_waits_for(
    ran: tuple[SimulatedDays, Recorded],
) -> None:
    days, _ = ran
    parameters = template("minimal.yaml")["Parameters"]
    alarm = resources("minimal.yaml")["LateAlarm"]
    cloudwatch = boto3.client(
        "cloudwatch",
        endpoint_url=days.server.url,
        region_name="eu-west-1",
        aws_access_key_id="simulated",
        aws_secret_access_key="simulated",
    )
    listed = cloudwatch.list_metrics(
        Namespace=parameters[alarm["Namespace"]["Ref"]]["Default"], MetricName=alarm["MetricName"]
    )["Metrics"]
    [dimension] = alarm["Dimensions"]
    wanted = [
        {
            "Name": dimension["Name"],
            "Value": parameters[dimension["Value"]["Ref"]]["Default"],
        }
    ]
    assert wanted in [metric["Dimensions"] for metric in listed]
    assert alarm["TreatMissingData"] == "breaching"


def test_the_alarm_on_failed_runs_waits_for_dagsters_own_words(
    capfd: pytest.CaptureFixture[str],
) -> None:
    @dg.op
    def fails() -> None:
        message = "as it should"
        raise dg.Failure(message)

    @dg.job(executor_def=dg.in_process_executor)
    def failing() -> None:
        fails()

    assert not failing.execute_in_process(raise_on_error=False).success
    [filtered] = resources("full.yaml", "AWS::Logs::MetricFilter").values()
    said = capfd.readouterr().err
    phrase = filtered["FilterPattern"].strip('"')
    lines = [line for line in said.splitlines() if phrase in line]
    assert len(lines) == 1
    assert 'Execution of run for "failing" failed' in lines[0]
    # What the daemon says when it starts for the first time.
    assert (
        phrase not in "No cursor for event type DagsterEventType.RUN_FAILURE, ignoring older events"
    )


# --- image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The instructions of the image definition, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(first, rest) for first, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    users = [rest for first, rest in instructions() if first == "USER"]
    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}


def test_the_image_holds_the_locked_versions_by_their_hashes_and_names_no_index() -> None:
    said = instructions()
    installs = [rest for first, rest in said if first == "RUN" and "pip install" in rest]
    locked, own = (shlex.split(each) for each in installs)
    assert {"--require-hashes", "--no-deps", "-r", "requirements.lock"} <= set(locked)
    assert {"--no-deps", "--no-build-isolation", "."} <= set(own)
    assert ("COPY", "deploy/requirements.lock ./") in said
    assert not re.search(r"index|://", (DEPLOY / "Dockerfile").read_text()), "no place is named"
    lock = (DEPLOY / "requirements.lock").read_text()
    assert "://" not in lock
    assert [line for line in lock.splitlines() if not LOCKED.fullmatch(line)] == []


LOCKED = re.compile(
    r"#.*|    #.*|[A-Za-z0-9._\[\]-]+==\S+(?: ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?"
)
"""A line of a lock: a comment, a pinned package, or one of its hashes; no option, no address."""


def pins(path: Path) -> dict[str, set[str]]:
    """The pinned versions of a lock file, with their hashes."""
    text = path.read_text().replace("\\\n", " ")
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if "==" in line:
            # The two locks may ask for the same version on different systems.
            pin, *hashes = re.split(r"(?:\s+;[^\\]*?)?\s+--hash=", line.strip())
            found[pin] = set(hashes)
    return found


def test_the_image_has_the_tested_versions_of_everything_that_a_run_needs() -> None:
    image, tested = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {pin: tested.get(pin) for pin in image} == image
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    wanted = parser["options"]["install_requires"] + parser["options.extras_require"]["deploy"]
    names = {
        match.group().lower().replace("_", "-")
        for line in wanted.splitlines()
        if (match := re.match(r"[\w-]+", line))
    }
    assert names <= {pin.split("==")[0] for pin in image}
    assert not {"pytest", "playwright", "mypy"} & {pin.split("==")[0] for pin in image}


def test_the_image_has_the_python_that_the_package_allows_and_the_tag_its_version() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    [python] = [rest.split("=")[1] for first, rest in instructions() if first == "ARG"]
    classifier = f"Programming Language :: Python :: {python}"
    assert classifier in parser["metadata"]["classifiers"].splitlines()
    for name in TEMPLATES:
        tag = template(name)["Parameters"]["ImageTag"]["Default"]
        assert tag == parser["metadata"]["version"]


def test_everything_that_the_image_copies_is_there_and_let_through() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for first, rest in instructions():
        if first != "COPY" or "--from" in rest:
            continue
        for source in [each for each in rest.split() if not each.startswith("--")][:-1]:
            assert list(ROOT.glob(source)), source
            assert source in let_through, source


def test_a_container_writes_its_settings_and_instance_and_becomes_its_command(
    tmp_path: Path,
) -> None:
    home = tmp_path / "state" / "dagster"
    environment = {
        "PATH": os.environ["PATH"],
        "DAGSTER_HOME": str(home),
        "POSTURE_PLACE": str(DEPLOY),
        "POSTURE_INSTANCE": "dagster-postgres.yaml",
        "POSTURE_SETTINGS": 'lake: s3://bucket/lake\nschedule: {cron: "0 6 * * *"}',
    }
    command = [str(DEPLOY / "entrypoint.sh"), "sh", "-c", 'cat "$POSTURE_CONFIG"']
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == environment["POSTURE_SETTINGS"] + "\n"
    instance = (home / "dagster.yaml").read_text()
    assert instance == (DEPLOY / "dagster-postgres.yaml").read_text()


@pytest.mark.parametrize("name", TEMPLATES)
def test_containers_keep_files_only_in_the_volumes_of_the_image(name: str) -> None:
    [volumes] = [rest for first, rest in instructions() if first == "VOLUME"]
    for task in resources(name, "AWS::ECS::TaskDefinition").values():
        [container] = task["ContainerDefinitions"]
        mounted = {mount["ContainerPath"] for mount in container["MountPoints"]}
        assert mounted == set(yaml.safe_load(volumes))
        # The agent of ECS Exec writes elsewhere, so its container is the one exception.
        assert container.get("ReadonlyRootFilesystem", False) == (container["Name"] != "webserver")


# --- the launcher of runs ---------------------------------------------------------------------


@pytest.fixture
def a_task(
    ran: tuple[SimulatedDays, Recorded], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """A task of ECS at the simulated endpoint, in which this process believes to be."""
    days, _ = ran
    for name, value in {
        "AWS_ENDPOINT_URL": days.server.url,
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    ec2, ecs = boto3.client("ec2"), boto3.client("ecs")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.describe_security_groups()["SecurityGroups"][0]
    ecs.create_cluster(clusterName="posture")
    run_task = resources("full.yaml")["RunTask"]
    family = "posture-run"
    ecs.register_task_definition(
        family=family,
        networkMode=run_task["NetworkMode"],
        requiresCompatibilities=run_task["RequiresCompatibilities"],
        cpu="1024",
        memory="4096",
        containerDefinitions=[
            {
                "name": run_task["ContainerDefinitions"][0]["Name"],
                "image": "posture",
                "memory": 4096,
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": "/posture", "awslogs-stream-prefix": "run"},
                },
            }
        ],
    )
    [task] = ecs.run_task(
        cluster="posture",
        taskDefinition=family,
        launchType="FARGATE",
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": [subnet["SubnetId"]],
                "securityGroups": [group["GroupId"]],
            }
        },
    )["tasks"]
    boto3.client("s3").create_bucket(
        Bucket="run-logs", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            said = {"Cluster": task["clusterArn"], "TaskARN": task["taskArn"]}
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as metadata:
        thread = threading.Thread(target=metadata.serve_forever)
        thread.start()
        place = f"http://127.0.0.1:{metadata.server_port}"
        monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", place)
        monkeypatch.setenv("POSTURE_RUN_TASK", family)
        monkeypatch.setenv("POSTURE_LOG_BUCKET", "run-logs")
        yield task
        metadata.shutdown()
        thread.join()


def allowed_to_dagster() -> set[str]:
    """The actions of webserver and daemon."""
    policy = resources("full.yaml")["DagsterPolicy"]["PolicyDocument"]
    return {action for each in policy["Statement"] for action in as_list(each["Action"])}


def origin_of(job: str) -> JobPythonOrigin:
    """Where a run finds a job of ours."""
    definition = files("posture_pipeline").joinpath("definitions.py")
    code = CodePointer.from_python_file(str(definition), "defs", None)
    return JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, code))


def test_webserver_and_daemon_are_allowed_what_starting_and_stopping_runs_takes(
    a_task: dict[str, Any],
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    # The tests' server has no certificate; everything else is as it is shipped.
    home = instance_folder(
        tmp_path / "home", "dagster.yaml", {"sslmode: require": "sslmode: disable"}
    )
    origin = origin_of(DAILY_JOB)
    with recording() as recorded, dg.DagsterInstance.from_config(str(home)) as instance:
        run = create_run_for_test(
            instance,
            DAILY_JOB,
            tags={"dagster/partition": DAY.isoformat()},
            job_code_origin=origin,
            status=dg.DagsterRunStatus.STARTING,
        )
        launcher = instance.run_launcher
        launcher.launch_run(LaunchRunContext(run, workspace=None))
        run = instance.get_run_by_id(run.run_id)
        assert run is not None
        started = boto3.client("ecs").describe_tasks(
            cluster=run.tags["ecs/cluster"], tasks=[run.tags["ecs/task_arn"]]
        )["tasks"][0]
        overrides = started["overrides"]
        # AWS: RunTask takes 8,192 characters of overrides.
        assert len(json.dumps(overrides)) < 8192
        [container] = overrides["containerOverrides"]
        assert "execute_run" in container["command"]
        assert started["clusterArn"] == a_task["clusterArn"]
        launcher.check_run_worker_health(run)
        assert launcher.terminate(run.run_id)
        logs = instance.compute_log_manager
        assert logs.get_log_keys_for_log_key_prefix([run.run_id], ComputeIOType.STDOUT) == []
    allowed = allowed_to_dagster()
    assert recorded.actions - {"s3:ListObjectsV2"} <= allowed
    beside = {
        "ecs:TagResource": "RunTask with tags",
        "iam:PassRole": "RunTask with roles",
        "kms:Decrypt": "objects of the bucket",
        "logs:GetLogEvents": "last lines of a failed task",
        "s3:GetObject": "logs of steps",
        "s3:ListBucket": "ListObjectsV2",
    }
    assert allowed - recorded.actions == beside.keys()


# --- Dagster instances ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


def instance_folder(folder: Path, name: str, changed: dict[str, str] | None = None) -> Path:
    """A DAGSTER_HOME with one of the instances of deploy/."""
    text = (DEPLOY / name).read_text()
    for before, after in (changed or {}).items():
        assert before in text
        text = text.replace(before, after)
    folder.mkdir()
    (folder / "dagster.yaml").write_text(text)
    return folder


SEEN = """
import json, sys
import dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    key = dg.AssetKey("organization_scores")
    [check] = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("raw_finding_pages"), "every_shard_is_complete"), limit=9
    )
    print(json.dumps({
        "run": instance.get_run_by_id(sys.argv[2]).status.value,
        "partitions": sorted(instance.get_materialized_partitions(key)),
        "check": check.status.value,
    }))
"""
"""What another process sees of an instance."""


def test_a_day_that_is_kept_in_postgresql_is_seen_by_another_process(
    ran: tuple[SimulatedDays, Recorded], postgres: Postgres, tmp_path: Path
) -> None:
    days, _ = ran
    home = instance_folder(tmp_path / "home", "dagster-postgres.yaml")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in postgres.environment.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            there = SimulatedDays(days.server, days.settings, instance)
            result = there.run(DAY)
            assert result.success, failures(result)
            assert materialized(result) >= {"raw_finding_pages", "organization_scores"}
        assert not list(home.rglob("*.db")), "runs are in files beside PostgreSQL"
        said = subprocess.run(
            [sys.executable, "-c", SEEN, str(home), result.run_id],
            capture_output=True,
            text=True,
            check=True,
        )
    assert json.loads(said.stdout) == {
        "run": "SUCCESS",
        "partitions": [DAY.isoformat()],
        "check": "SUCCEEDED",
    }


def test_only_one_run_of_all_collects_at_a_time_with_postgresql(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    home = instance_folder(tmp_path / "home", "dagster-postgres.yaml")
    with (
        dg.DagsterInstance.from_config(str(home)) as one,
        dg.DagsterInstance.from_config(str(home)) as other,
    ):
        claims = []
        for instance, run in ((one, "first"), (other, "second")):
            storage = instance.event_log_storage
            if COLLECTION_POOL not in storage.get_concurrency_keys():
                storage.initialize_concurrency_limit_to_default(COLLECTION_POOL)
            claims.append(storage.claim_concurrency_slot(COLLECTION_POOL, run, "collect"))
        assert [claim.is_claimed for claim in claims] == [True, False]
        one.event_log_storage.free_concurrency_slots_for_run("first")
        again = other.event_log_storage.claim_concurrency_slot(COLLECTION_POOL, "second", "collect")
        assert again.is_claimed


VARIANTS = (
    "dagster.yaml",
    "dagster-celery.yaml",
    "dagster-kubernetes.yaml",
    "dagster-postgres.yaml",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_instance_keeps_to_the_rules_of_a_single_machine(name: str) -> None:
    """One collection at a time, one run for a day, freed places, no telemetry: everywhere."""
    shipped = files("posture_pipeline.instances").joinpath("local.yaml").read_text()
    alone, instance = yaml.safe_load(shipped), yaml.safe_load((DEPLOY / name).read_text())
    for section in ("telemetry", "run_retries", "retention", "nux"):
        assert instance[section] == alone[section]
    for section in ("pools", "runs"):
        kept = {**alone["concurrency"][section]}
        kept.pop("max_concurrent_runs", None)
        assert kept.items() <= instance["concurrency"][section].items()
    assert alone["run_monitoring"].items() <= instance["run_monitoring"].items()
    database = instance["storage"]["postgres"]["postgres_db"]
    named = {each["env"] for each in database.values() if isinstance(each, dict) and "env" in each}
    assert named == set(Postgres(0, "").environment)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_queue_keeps_runs_of_the_same_days_apart_and_lets_others_go(name: str) -> None:
    limits = yaml.safe_load((DEPLOY / name).read_text())["concurrency"]["runs"]
    day, begin, end = (
        PARTITION_NAME_TAG,
        ASSET_PARTITION_RANGE_START_TAG,
        ASSET_PARTITION_RANGE_END_TAG,
    )

    def run(**tags: str) -> dg.DagsterRun:
        return dg.DagsterRun(DAILY_JOB, tags=tags)

    going = [run(**{day: "2026-03-02"}), run(**{begin: "2026-02-01", end: "2026-02-28"})]
    queue = TagConcurrencyLimitsCounter(limits["tag_concurrency_limits"], going)
    assert [queue.is_blocked(each) for each in going] == [True, True]
    others = [run(**{day: "2026-03-03"}), run(**{begin: "2026-01-01", end: "2026-01-31"})]
    assert [queue.is_blocked(each) for each in others] == [False, False]
    assert limits["max_concurrent_runs"] > 1


def test_the_celery_instance_asks_the_worker_of_a_run_and_keeps_what_became_of_it(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = "redis://:secret@127.0.0.1:1/0"
    more = {
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": broker,
        "POSTURE_LOG_BUCKET": "logs",
    }
    for name, value in {**postgres.environment, **more}.items():
        monkeypatch.setenv(name, value)
    home = instance_folder(tmp_path / "home", "dagster-celery.yaml")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, WatchfulCeleryRunLauncher)
        assert launcher.supports_check_run_worker_health
        assert launcher.celery.conf.broker_url == broker
        assert launcher.celery.conf.result_backend == broker
        # A task is taken out of the queue when it begins: what is lost then Dagster starts again.
        assert launcher.celery.conf.task_acks_late is False
        assert isinstance(instance.compute_log_manager, S3ComputeLogManager)
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)


def test_kubernetes_is_asked_for_a_job_that_executes_the_run_without_secrets_in_it(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_k8s", reason="dagster-k8s is not installed")
    asked: list[tuple[str, dict[str, Any]]] = []

    class Cluster(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as cluster:
        thread = threading.Thread(target=cluster.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{cluster.server_port}"
        kube = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": address}}],
            "users": [{"name": "tests", "user": {}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(kube))
        outside = f"    load_incluster_config: false\n    kubeconfig_file: {file}\n"
        home = instance_folder(
            tmp_path / "home",
            "dagster-kubernetes.yaml",
            # The tests are not in a cluster; everything else is as it is shipped.
            {"  config:\n    instance_config_map": f"  config:\n{outside}    instance_config_map"},
        )
        place = {
            "DAGSTER_HOME": "/var/lib/posture/dagster",
            "POSTURE_DB_SECRET": "posture-database",
            "POSTURE_IMAGE": "registry/posture:1",
            "POSTURE_INSTANCE_CONFIG_MAP": "posture-instance",
            "POSTURE_LOG_BUCKET": "logs",
            "POSTURE_NAMESPACE": "posture",
            "POSTURE_SERVICE_ACCOUNT": "posture-run",
            "POSTURE_SETTINGS": "lake: s3://bucket/lake",
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        for name, value in {**postgres.environment, **place}.items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            run = create_run_for_test(instance, DAILY_JOB, job_code_origin=origin_of(DAILY_JOB))
            instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        cluster.shutdown()
        thread.join()
    [(path, job)] = asked
    assert path == "/apis/batch/v1/namespaces/posture/jobs"
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "posture-run"
    [container] = pod["containers"]
    assert container["image"] == "registry/posture:1"
    assert "execute_run" in container["args"]
    assert {"secretRef": {"name": "posture-database"}} in container["envFrom"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert given["POSTURE_SETTINGS"] == place["POSTURE_SETTINGS"]
    assert postgres.environment.items() - given.items() == {
        ("POSTURE_DB_PASSWORD", postgres.password)
    }
    assert postgres.password not in json.dumps(job)


def test_organizations_with_a_database_each_know_nothing_of_each_other(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same assets, days and pools: what keeps two organizations apart is the instance."""
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    key = dg.AssetKey("organization_scores")
    seen = []
    with ExitStack() as stack:
        for organization in ("one", "other"):
            postgres.create_database(organization)
            monkeypatch.setenv("POSTURE_DB_NAME", organization)
            home = instance_folder(tmp_path / organization, "dagster-postgres.yaml")
            seen.append(stack.enter_context(dg.DagsterInstance.from_config(str(home))))
        claims = []
        for instance in seen:
            storage = instance.event_log_storage
            storage.initialize_concurrency_limit_to_default(COLLECTION_POOL)
            claims.append(storage.claim_concurrency_slot(COLLECTION_POOL, "run", "collect"))
        assert [claim.is_claimed for claim in claims] == [True, True]
        made = dg.AssetMaterialization(key, partition=DAY.isoformat())
        seen[0].report_runless_asset_event(made)
        known = [instance.get_materialized_partitions(key) for instance in seen]
        assert known == [{DAY.isoformat()}, set()]
