"""A made-up organization of any size as GetFindings pages in a lake: the same bytes every time.

Findings have the members and the size that AWS's have (some 4 KB each): consolidated control
findings of two standards, and findings of AWS Config rules. Accounts have unequal shares, as they
do. What is measured on the pages belongs in `steps` and `rivals`.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from posture_pipeline.lake.raw_pages import RawPagesWriter
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.model.collection import PAGES_PER_FILE, ShardPosition
from posture_pipeline.schemas import LISTED_CONTROLS, ORGANIZATION_ACCOUNTS
from posture_pipeline.settings import Report, Settings

FIRST_DAY = date(2026, 11, 22)
SECOND_DAY = FIRST_DAY + timedelta(days=1)
PAGE_SIZE = 100
REGIONS = ("eu-west-1", "us-east-1", "eu-central-1")
CONTROLS = 354
RULES = 40
SHARE_OF_RULES = 0.1
"""Of the findings those that AWS Config sends."""
SHARE_CHANGED = 0.006
"""Of the findings those whose status moves from one day to the next."""
SHARE_SUPPRESSED = 0.02

FSBP = "aws-foundational-security-best-practices/v/1.0.0"
CIS = "cis-aws-foundations-benchmark/v/3.0.0"
RULE_NAMES = tuple(f"bench-rule-{number}" for number in range(RULES))
REPORTS = (
    Report(name="fsbp", standard=FSBP),
    Report(name="cis-v3", standard=CIS),
    Report(name="rules", custom_rules=RULE_NAMES),
)
"""Every control is FSBP's; each fifth is CIS's too."""

_SERVICES = (
    ("S3", "AwsS3Bucket", "arn:aws:s3:::bucket-%(key)s"),
    ("EC2", "AwsEc2Instance", "arn:aws:ec2:%(region)s:%(account)s:instance/i-%(key)s"),
    ("IAM", "AwsIamRole", "arn:aws:iam::%(account)s:role/%(key)s"),
    ("RDS", "AwsRdsDbInstance", "arn:aws:rds:%(region)s:%(account)s:db:%(key)s"),
    ("Lambda", "AwsLambdaFunction", "arn:aws:lambda:%(region)s:%(account)s:function:%(key)s"),
    ("KMS", "AwsKmsKey", "arn:aws:kms:%(region)s:%(account)s:key/%(key)s"),
)
_ENVIRONMENTS = ("development", "test", "acceptance", "production")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the organization is.

    Attributes:
        findings: Findings in all.
        accounts: Accounts that have them.
    """

    findings: int
    accounts: int

    @property
    def name(self) -> str:
        """Also a folder: `1000000x1000`."""
        return f"{self.findings}x{self.accounts}"


def settings_of(folder: str) -> Settings:
    """The settings of a lake with this organization."""
    return Settings(lake=folder, start_date=FIRST_DAY, reports=REPORTS)


def account_ids(size: Size) -> list[str]:
    """Different ids of 12 digits, spread over the whole range as AWS's are."""
    return sorted(f"{number * 618_033_988_749 % 10**12:012d}" for number in range(size.accounts))


def make(lake: Lake, size: Size, day: date) -> Commit:
    """Files the organization's account list, controls and finding pages of a day.

    The second day is the first one with a few changes.

    Args:
        lake: Where to.
        size: How large the organization is.
        day: `FIRST_DAY` or `SECOND_DAY`.

    Returns:
        The commit of the pages.
    """
    accounts = account_ids(size)
    names = {each: _account_name(number) for number, each in enumerate(accounts)}
    lake.replace(
        ORGANIZATION_ACCOUNTS,
        day,
        ORGANIZATION_ACCOUNTS.read_as(
            pl.DataFrame(
                {
                    "account_id": accounts,
                    "account_name": [names[each] for each in accounts],
                    "state": ["ACTIVE"] * len(accounts),
                    "tags": ["{}"] * len(accounts),
                    "source": ["organizations"] * len(accounts),
                }
            )
        ),
    )
    lake.replace(LISTED_CONTROLS, day, _listed(day))
    kinds = _kinds(day)
    writer = RawPagesWriter(lake, day)
    names_of_shards = []
    for digit in range(10):
        own = [each for each in accounts if each.startswith(str(digit))]
        before = sum(each < str(digit) for each in accounts)
        share = _share(size.findings, before, before + len(own), size.accounts)
        shard = f"{REGIONS[0]}-active-{digit}"
        names_of_shards.append(shard)
        _write_shard(writer, shard, [(each, names[each]) for each in own], share, kinds, day)
    at = datetime(day.year, day.month, day.day, 6, tzinfo=UTC).isoformat()
    return writer.commit(names_of_shards, {"source": "aws", "collect": "all", "collected_at": at})


def _share(total: int, start: int, end: int, of: int) -> int:
    return total * end // of - total * start // of


def _account_name(number: int) -> str:
    return f"acme-team-{number // len(_ENVIRONMENTS)}-{_ENVIRONMENTS[number % len(_ENVIRONMENTS)]}"


def _listed(day: date) -> pl.DataFrame:
    rows = [
        {
            "date": day,
            "definition": report.definition,
            "report_kind": report.kind,
            "control_id": control,
            "title": f"Control {control}",
            "severity": _severity(number)[0],
            "enabled": True,
            "source": "security_hub",
        }
        for report in REPORTS
        if report.standard
        for number, control in enumerate(_CONTROL_IDS)
        if report.standard == FSBP or number % 5 == 0
    ]
    return LISTED_CONTROLS.read_as(pl.DataFrame(rows))


_CONTROL_IDS = tuple(
    f"{_SERVICES[number % len(_SERVICES)][0]}.{number // len(_SERVICES) + 1}"
    for number in range(CONTROLS)
)


def _severity(number: int) -> tuple[str, int]:
    return (("LOW", 1), ("MEDIUM", 40), ("HIGH", 70), ("CRITICAL", 90))[number * 7 % 4]


# --- findings ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """A control or rule: its findings but for what differs, and how many of them fail."""

    template: str
    fails: float


def _write_shard(
    writer: RawPagesWriter,
    shard: str,
    accounts: list[tuple[str, str]],
    findings: int,
    kinds: tuple[list[_Kind], list[_Kind]],
    day: date,
) -> None:
    dice = random.Random(f"{shard} {len(accounts)} {findings}")
    moves = random.Random(f"moves {shard} {findings}") if day == SECOND_DAY else None
    pages = -(-findings // PAGE_SIZE)
    position = ShardPosition(shard, "bench")
    for page in range(max(pages, 1)):
        count = min(PAGE_SIZE, findings - page * PAGE_SIZE)
        records = [_finding(dice, moves, accounts, kinds) for _ in range(count)]
        last = page + 1 >= pages
        token = "" if last else f',"NextToken":"{dice.getrandbits(512):0128x}"'
        writer.add(shard, f'{{"Findings":[{",".join(records)}]{token}}}'.encode())
        if last or (page + 1) % PAGES_PER_FILE == 0:
            position = ShardPosition(
                shard=shard,
                query="bench",
                files=position.files + 1,
                pages=page + 1,
                findings=page * PAGE_SIZE + count,
                next_token=None if last else "next",
                complete=last,
            )
            writer.save(position)


def _finding(
    dice: random.Random,
    moves: random.Random | None,
    accounts: list[tuple[str, str]],
    kinds: tuple[list[_Kind], list[_Kind]],
) -> str:
    # Squared: a tenth of the accounts has a third of the findings.
    account, name = accounts[int(len(accounts) * dice.random() ** 2)]
    of_rules = dice.random() < SHARE_OF_RULES
    kind = dice.choice(kinds[of_rules])
    number = dice.getrandbits(128)
    chance = dice.random()
    if moves is not None and moves.random() < SHARE_CHANGED:
        chance = moves.random()
    status = "FAILED" if chance < kind.fails else "PASSED"
    if chance > 0.99:
        status = "WARNING" if chance > 0.995 else "NOT_AVAILABLE"
    suppressed = dice.random() < SHARE_SUPPRESSED
    workflow = "SUPPRESSED" if suppressed else "RESOLVED" if status == "PASSED" else "NEW"
    key = f"{number:032x}"
    since = dice.randrange(86_400_000)
    return kind.template % {
        "account": account,
        "name": name,
        "region": REGIONS[number % len(REGIONS)],
        "id": f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}",
        "key": key[:17],
        "moment": _time(since),
        "earlier": _time(since * 7919 % 86_400_000),
        "month": number % 9 + 1,
        "status": status,
        "workflow": workflow,
        "reasons": _REASONS if status == "WARNING" else "",
        "note": _NOTE if suppressed else "",
    }


_REASONS = (
    ',"StatusReasons":[{"ReasonCode":"CONFIG_EVALUATIONS_EMPTY","Description":"AWS Config has not '
    'evaluated the resource, or the rule gave no result in the last period."}]'
)
_NOTE = (
    ',"Note":{"Text":"Accepted until the platform team has moved the workload","UpdatedBy":'
    '"arn:aws:sts::111122223333:assumed-role/security/jane","UpdatedAt":"2026-10-01T09:00:00.000Z"}'
)


def _time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}Z"


def _kinds(day: date) -> tuple[list[_Kind], list[_Kind]]:
    """The controls and the rules."""
    dice = random.Random("kinds")
    controls = [
        _Kind(_template(number, day), _share_of_failures(dice)) for number in range(CONTROLS)
    ]
    rules = [
        _Kind(_template(number, day, rule=rule), _share_of_failures(dice))
        for number, rule in enumerate(RULE_NAMES)
    ]
    return controls, rules


def _share_of_failures(dice: random.Random) -> float:
    """Half of the controls fail nowhere, a quarter hardly ever, the others up to a third."""
    return dice.choice((0.0, 0.0, 0.01, 0.3)) * dice.random()


def _template(number: int, day: date, *, rule: str | None = None) -> str:
    """The finding of a control or rule as JSON, with a place for each value that differs."""
    _, kind, resource = _SERVICES[number % len(_SERVICES)]
    label, normalized = _severity(number)
    control = rule or _CONTROL_IDS[number]
    product = "config" if rule else "securityhub"
    title = rule or f"{control}: {kind} should be set up as the standard asks for"
    finding_id = (
        f"arn:aws:config:%(region)s:%(account)s:config-rule/config-rule-{number}/finding/%(id)s"
        if rule
        else f"arn:aws:securityhub:%(region)s:%(account)s:security-control/{control}/finding/%(id)s"
    )
    standards = [f"standards/{FSBP}", *([f"standards/{CIS}"] if number % 5 == 0 else [])]
    compliance = {"Status": "%(status)s"} | (
        {}
        if rule
        else {
            "SecurityControlId": control,
            "RelatedRequirements": [
                f"NIST.800-53.r5 {family}-{number % 17 + 1}({step})"
                for family in ("AC", "AU", "CA", "CM", "CP", "SC", "SI")
                for step in range(1, 5)
            ],
            "AssociatedStandards": [{"StandardsId": each} for each in standards],
            "SecurityControlParameters": [
                {"Name": "minRetentionDays", "Value": [str(number % 7 + 30)]}
            ],
        }
    )
    types = ["Software and Configuration Checks/Industry and Regulatory Standards"]
    value = {
        "SchemaVersion": "2018-10-08",
        "Id": finding_id,
        "ProductArn": f"arn:aws:securityhub:%(region)s::product/aws/{product}",
        "ProductName": "Config" if rule else "Security Hub",
        "CompanyName": "AWS",
        "Region": "%(region)s",
        "GeneratorId": f"arn:aws:config:%(region)s:%(account)s:config-rule/config-rule-{number}"
        if rule
        else f"security-control/{control}",
        "AwsAccountId": "%(account)s",
        "AwsAccountName": "%(name)s",
        "Types": types,
        "FirstObservedAt": "2025-0%(month)s-17T%(earlier)s",
        "LastObservedAt": f"{day.isoformat()}T%(moment)s",
        "CreatedAt": "2025-0%(month)s-12T%(earlier)s",
        "UpdatedAt": f"{day.isoformat()}T%(moment)s",
        "Severity": {
            "Label": label,
            "Normalized": normalized,
            "Product": normalized,
            "Original": label,
        },
        "Title": title,
        "Description": f"This control checks whether {kind} in the account meets {title}. " * 3,
        "Remediation": {
            "Recommendation": {
                "Text": "For information on how to correct this issue, consult the AWS Security "
                "Hub controls documentation.",
                "Url": f"https://docs.aws.amazon.com/console/securityhub/{control}/remediation",
            }
        },
        "ProductFields": {
            **(
                {
                    "aws/config/ConfigRuleArn": f"arn:aws:config:%(region)s:%(account)s:{number}",
                    "aws/config/ConfigRuleName": rule,
                    "aws/config/ConfigComplianceType": "%(status)s",
                }
                if rule
                else {
                    "RelatedAWSResources:0/name": f"securityhub-{control.lower()}-%(key)s",
                    "RelatedAWSResources:0/type": "AWS::Config::ConfigRule",
                }
            ),
            "aws/securityhub/ProductName": "Security Hub",
            "aws/securityhub/CompanyName": "AWS",
            "Resources:0/Id": resource,
            "aws/securityhub/FindingId": "arn:aws:securityhub:%(region)s::product/aws/"
            f"{product}/{finding_id}",
        },
        "Resources": [
            {
                "Type": kind,
                "Id": resource,
                "Partition": "aws",
                "Region": "%(region)s",
                "Tags": {
                    "cost-center": f"{number % 90 + 1000}",
                    "managed-by": "terraform",
                    "repository": "https://git.example.com/platform/%(name)s.git",
                    "owner": "%(name)s@example.com",
                    "stack": "%(key)s",
                },
                "Details": {
                    kind: {
                        "Name": "%(key)s",
                        "OwnerId": "%(account)s",
                        "CreatedAt": "2025-0%(month)s-11T%(earlier)s",
                        "VpcConfig": {
                            "SubnetIds": [f"subnet-0{each}%(key)s" for each in range(3)],
                            "SecurityGroupIds": ["sg-0%(key)s", "sg-1%(key)s"],
                        },
                        "Encryption": {
                            "Enabled": True,
                            "KmsKeyId": "arn:aws:kms:%(region)s:%(account)s:key/%(id)s",
                        },
                        "Policy": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
                        '"Principal":{"AWS":"arn:aws:iam::%(account)s:root"}}]}',
                    }
                },
            }
        ],
        "Compliance": compliance,
        "WorkflowState": "NEW",
        "Workflow": {"Status": "%(workflow)s"},
        "RecordState": "ACTIVE",
        "FindingProviderFields": {
            "Severity": {"Label": label, "Original": label},
            "Types": types,
        },
        "ProcessedAt": f"{day.isoformat()}T%(moment)s",
    }
    text = json.dumps(value, separators=(",", ":"))
    text = text.replace('"Status":"%(status)s"', '"Status":"%(status)s"%(reasons)s', 1)
    return f"{text[:-1]}%(note)s}}"
