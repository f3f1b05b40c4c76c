"""What the organization is checked against: standards, controls, Config rules, resource types.

Read once from `controls.csv` (ids, severities, standards and rule names are AWS's facts, the titles
are ours); the largest standards have more controls in AWS than here. Nothing here depends on an
account or a day.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from importlib import resources

FSBP = "standards/aws-foundational-security-best-practices/v/1.0.0"
CIS_1_2 = "ruleset/cis-aws-foundations-benchmark/v/1.2.0"
CIS_1_4 = "standards/cis-aws-foundations-benchmark/v/1.4.0"
CIS_3_0 = "standards/cis-aws-foundations-benchmark/v/3.0.0"
CIS_5_0 = "standards/cis-aws-foundations-benchmark/v/5.0.0"
NIST_800_53 = "standards/nist-800-53/v/5.0.0"
NIST_800_171 = "standards/nist-800-171/v/2.0.0"
PCI_4_0_1 = "standards/pci-dss/v/4.0.1"
TAGGING = "standards/aws-resource-tagging-standard/v/1.0.0"
AI = "standards/ai-security-best-practices/v/1.0.0"
CIS_AZURE = "standards/cis-azure-foundations-benchmark/v/4.0.0"
"""AWS has this standard, whose controls are not listed here; how its ARN ends is a guess."""
CONTROL_TOWER = "standards/service-managed-aws-control-tower/v/1.0.0"

STANDARDS = {
    FSBP: "AWS Foundational Security Best Practices v1.0.0",
    CIS_1_2: "CIS AWS Foundations Benchmark v1.2.0",
    CIS_1_4: "CIS AWS Foundations Benchmark v1.4.0",
    CIS_3_0: "CIS AWS Foundations Benchmark v3.0.0",
    CIS_5_0: "CIS AWS Foundations Benchmark v5.0.0",
    NIST_800_53: "NIST Special Publication 800-53 Revision 5",
    NIST_800_171: "NIST Special Publication 800-171 Revision 2",
    PCI_4_0_1: "PCI DSS v4.0.1",
    TAGGING: "AWS Resource Tagging Standard v1.0.0",
    AI: "AI Security Best Practices v1.0.0",
    CIS_AZURE: "CIS Microsoft Azure Foundations Benchmark v4.0.0",
    CONTROL_TOWER: "Service-Managed Standard: AWS Control Tower",
}
ENABLED_STANDARDS = (FSBP, CIS_1_2, CIS_1_4, CIS_3_0)
"""The standards that the hub has enabled; the others can be described, and have no findings."""

DISABLED_CONTROLS = frozenset({"IAM.6", "EC2.58"})
"""Controls that the organization's policy switched off everywhere."""
DISABLED_IN_AUDIT = frozenset({"Macie.2", "Inspector.3"})
"""Controls that are off in the audit account alone; every other account has findings."""
DISABLED_ASSOCIATIONS = frozenset({("EC2.2", CIS_1_2)})
"""Controls that are off in one standard and on in the others."""

SEVERITY_NUMBERS = {"INFORMATIONAL": 0, "LOW": 1, "MEDIUM": 40, "HIGH": 70, "CRITICAL": 90}

ACCOUNT_TYPE = "AWS::::Account"
_EVALUATED_PER_ACCOUNT = frozenset(
    {ACCOUNT_TYPE, "AWS::Logs::MetricFilter", "AWS::GuardDuty::Detector"}
)
_REGIONAL_ACCOUNT_SERVICES = ("EC2.", "GuardDuty.", "Inspector.", "Config.", "Macie.")


@dataclasses.dataclass(frozen=True, eq=False)
class Control:
    """One security control.

    Attributes:
        control_id: such as `EC2.1`.
        severity: CRITICAL, HIGH, MEDIUM or LOW.
        standards: resource parts of the ARNs of the standards that have it.
        resource_type: of AWS Config, such as `AWS::S3::Bucket`.
        title: our own short wording.
        config_rule: the Config rule behind it; empty if there is none.
        standard_rules: standard -> ids of its rules for this control (CIS numbers them itself).
    """

    control_id: str
    severity: str
    standards: tuple[str, ...]
    resource_type: str
    title: str
    config_rule: str
    standard_rules: dict[str, tuple[str, ...]]

    @property
    def per_account(self) -> bool:
        """Whether the account itself is the resource."""
        return self.resource_type in _EVALUATED_PER_ACCOUNT

    @property
    def regional(self) -> bool:
        """Whether an account-level control is evaluated in linked regions too."""
        return self.control_id.startswith(_REGIONAL_ACCOUNT_SERVICES)

    def enabled_standards(self) -> tuple[str, ...]:
        """Return the enabled standards in which the control is switched on."""
        return tuple(
            s
            for s in self.standards
            if s in ENABLED_STANDARDS and (self.control_id, s) not in DISABLED_ASSOCIATIONS
        )

    def rules_of(self, standard: str) -> tuple[str, ...]:
        """Return the ids under which a standard lists the control."""
        return self.standard_rules.get(standard, (self.control_id,))


@functools.cache
def controls() -> dict[str, Control]:
    """Return every control of the catalogue by its id, in the file's order."""
    text = (resources.files(__package__) / "controls.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        standards = tuple(row["standards"].split(";"))
        rules = {}
        for entry in filter(None, row["standard_rules"].split(";")):
            name, _, numbers = entry.partition("=")
            standard = next(s for s in standards if s.endswith(name))
            rules[standard] = tuple(numbers.split("|"))
        found[row["control_id"]] = Control(
            control_id=row["control_id"],
            severity=row["severity"],
            standards=standards,
            resource_type=row["resource_type"],
            title=row["title"],
            config_rule=row["config_rule"],
            standard_rules=rules,
        )
    return found


@functools.cache
def evaluated_controls() -> tuple[Control, ...]:
    """Return the controls that the organization evaluates: in an enabled standard and not off."""
    return tuple(
        c
        for c in controls().values()
        if c.enabled_standards() and c.control_id not in DISABLED_CONTROLS
    )


def standard_arn(standard: str, region: str) -> str:
    """Return the ARN of a standard; CIS 1.2.0 is a ruleset, whose ARN has no region."""
    scope = "" if standard.startswith("ruleset/") else region
    return f"arn:aws:securityhub:{scope}::{standard}"


def standard_path(standard: str) -> str:
    """Return the name and version of a standard: its id without the first part."""
    return standard.partition("/")[2]


CONFORMANCE_PACK = "lz-framework"
"""Name of the organization conformance pack."""
SECOND_PACK = "lz-baseline"
"""Name of the conformance pack that the setting `second_pack` adds."""


@dataclasses.dataclass(frozen=True)
class ConfigRule:
    """A Config rule by the name its owner gave it; AWS appends suffixes to that in an account.

    Attributes:
        name: as in the pack's template or the organization's rule.
        resource_type: of AWS Config.
        pack: name of the conformance pack; empty for a custom rule.
    """

    name: str
    resource_type: str
    pack: str = ""

    @property
    def key(self) -> str:
        """What tells rules of one name apart: the name, after the pack's if it is the second."""
        return f"{SECOND_PACK}/{self.name}" if self.pack == SECOND_PACK else self.name


PACK_RULES = tuple(
    ConfigRule(name, resource_type, CONFORMANCE_PACK)
    for name, resource_type in (
        ("lz-rule-1", "AWS::S3::Bucket"),
        ("lz-rule-10", "AWS::S3::Bucket"),
        ("lz-root-account-mfa", ACCOUNT_TYPE),
        ("lz-cloudtrail-enabled", ACCOUNT_TYPE),
        ("lz-ebs-encrypted", "AWS::EC2::Volume"),
        ("lz-rds-encrypted", "AWS::RDS::DBInstance"),
        ("lz-rds-backup", "AWS::RDS::DBInstance"),
        ("lz-security-group-ssh", "AWS::EC2::SecurityGroup"),
        ("lz-vpc-flow-logs", "AWS::EC2::VPC"),
        ("lz-lambda-runtime", "AWS::Lambda::Function"),
        ("lz-kms-rotation", "AWS::KMS::Key"),
        ("lz-log-retention", "AWS::Lambda::Function"),
    )
)
SECOND_PACK_RULES = tuple(
    ConfigRule(name, resource_type, SECOND_PACK)
    for name, resource_type in (
        ("lz-rule-1", "AWS::S3::Bucket"),
        ("lz-ebs-encrypted", "AWS::EC2::Volume"),
        ("lz-log-archive", ACCOUNT_TYPE),
    )
)
"""Two of them have the name of a rule of the first pack, and resources of their own."""
CUSTOM_RULES = tuple(
    ConfigRule(name, resource_type)
    for name, resource_type in (
        ("lz-s3-encryption", "AWS::S3::Bucket"),
        ("lz-s3", "AWS::S3::Bucket"),
        ("lz-required-tags", "AWS::EC2::Instance"),
        ("lz-approved-amis", "AWS::EC2::Instance"),
        ("lz-iam-boundary", "AWS::IAM::Role"),
        ("lz-secrets-rotation", "AWS::SecretsManager::Secret"),
        ("lz-queue-encryption", "AWS::SQS::Queue"),
        ("lz-backup-plan", "AWS::DynamoDB::Table"),
    )
)
CONFIG_RULES = {rule.key: rule for rule in PACK_RULES + CUSTOM_RULES + SECOND_PACK_RULES}
"""Every rule by its key; those of the second pack are deployed only where a setting says so."""
PACKS = {CONFORMANCE_PACK: PACK_RULES, SECOND_PACK: SECOND_PACK_RULES}


@dataclasses.dataclass(frozen=True)
class ResourceType:
    """How resources of a Config type look in a finding.

    Attributes:
        name: of AWS Config.
        asff: of a finding.
        arn: template of the id.
        stem: how names of such resources begin.
        weight: how common they are.
        in_home_region: whether they are only seen in the home region (global services).
    """

    name: str
    asff: str
    arn: str
    stem: str
    weight: int
    in_home_region: bool = False


_TYPES = (
    ResourceType("AWS::S3::Bucket", "AwsS3Bucket", "arn:aws:s3:::{name}", "bucket", 8),
    ResourceType(
        "AWS::EC2::SecurityGroup",
        "AwsEc2SecurityGroup",
        "arn:aws:ec2:{region}:{account}:security-group/{name}",
        "sg",
        6,
    ),
    ResourceType(
        "AWS::Lambda::Function",
        "AwsLambdaFunction",
        "arn:aws:lambda:{region}:{account}:function:{name}",
        "handler",
        6,
    ),
    ResourceType(
        "AWS::SecretsManager::Secret",
        "AwsSecretsManagerSecret",
        "arn:aws:secretsmanager:{region}:{account}:secret:{name}",
        "secret",
        3,
    ),
    ResourceType(
        "AWS::KMS::Key", "AwsKmsKey", "arn:aws:kms:{region}:{account}:key/{name}", "key", 2
    ),
    ResourceType(
        "AWS::IAM::Role", "AwsIamRole", "arn:aws:iam::{account}:role/{name}", "role", 4, True
    ),
    ResourceType(
        "AWS::IAM::User", "AwsIamUser", "arn:aws:iam::{account}:user/{name}", "user", 2, True
    ),
    ResourceType(
        "AWS::IAM::Policy",
        "AwsIamPolicy",
        "arn:aws:iam::{account}:policy/{name}",
        "policy",
        2,
        True,
    ),
    ResourceType(
        "AWS::EC2::Instance",
        "AwsEc2Instance",
        "arn:aws:ec2:{region}:{account}:instance/{name}",
        "i",
        4,
    ),
    ResourceType(
        "AWS::EC2::Volume",
        "AwsEc2Volume",
        "arn:aws:ec2:{region}:{account}:volume/{name}",
        "vol",
        4,
    ),
    ResourceType(
        "AWS::EC2::VPC", "AwsEc2Vpc", "arn:aws:ec2:{region}:{account}:vpc/{name}", "vpc", 1
    ),
    ResourceType(
        "AWS::EC2::Subnet",
        "AwsEc2Subnet",
        "arn:aws:ec2:{region}:{account}:subnet/{name}",
        "subnet",
        2,
    ),
    ResourceType(
        "AWS::EC2::NetworkAcl",
        "AwsEc2NetworkAcl",
        "arn:aws:ec2:{region}:{account}:network-acl/{name}",
        "acl",
        1,
    ),
    ResourceType(
        "AWS::EC2::LaunchTemplate",
        "AwsEc2LaunchTemplate",
        "arn:aws:ec2:{region}:{account}:launch-template/{name}",
        "lt",
        1,
    ),
    ResourceType(
        "AWS::AutoScaling::AutoScalingGroup",
        "AwsAutoScalingAutoScalingGroup",
        "arn:aws:autoscaling:{region}:{account}:autoScalingGroup:autoScalingGroupName/{name}",
        "asg",
        1,
    ),
    ResourceType(
        "AWS::RDS::DBInstance",
        "AwsRdsDbInstance",
        "arn:aws:rds:{region}:{account}:db:{name}",
        "db",
        2,
    ),
    ResourceType(
        "AWS::RDS::DBCluster",
        "AwsRdsDbCluster",
        "arn:aws:rds:{region}:{account}:cluster:{name}",
        "cluster",
        1,
    ),
    ResourceType(
        "AWS::DynamoDB::Table",
        "AwsDynamoDbTable",
        "arn:aws:dynamodb:{region}:{account}:table/{name}",
        "table",
        2,
    ),
    ResourceType(
        "AWS::SQS::Queue", "AwsSqsQueue", "arn:aws:sqs:{region}:{account}:{name}", "queue", 2
    ),
    ResourceType(
        "AWS::SNS::Topic", "AwsSnsTopic", "arn:aws:sns:{region}:{account}:{name}", "topic", 2
    ),
    ResourceType(
        "AWS::ECR::Repository",
        "AwsEcrRepository",
        "arn:aws:ecr:{region}:{account}:repository/{name}",
        "image",
        2,
    ),
    ResourceType(
        "AWS::ECS::TaskDefinition",
        "AwsEcsTaskDefinition",
        "arn:aws:ecs:{region}:{account}:task-definition/{name}:1",
        "task",
        3,
    ),
    ResourceType(
        "AWS::ECS::Service",
        "AwsEcsService",
        "arn:aws:ecs:{region}:{account}:service/{name}",
        "service",
        2,
    ),
    ResourceType(
        "AWS::ECS::Cluster",
        "AwsEcsCluster",
        "arn:aws:ecs:{region}:{account}:cluster/{name}",
        "cluster",
        1,
    ),
    ResourceType(
        "AWS::EKS::Cluster",
        "AwsEksCluster",
        "arn:aws:eks:{region}:{account}:cluster/{name}",
        "kube",
        1,
    ),
    ResourceType(
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AwsElbv2LoadBalancer",
        "arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/app/{name}",
        "alb",
        1,
    ),
    ResourceType(
        "AWS::ApiGateway::Stage",
        "AwsApiGatewayStage",
        "arn:aws:apigateway:{region}::/restapis/{name}/stages/live",
        "api",
        1,
    ),
    ResourceType(
        "AWS::CloudTrail::Trail",
        "AwsCloudTrailTrail",
        "arn:aws:cloudtrail:{region}:{account}:trail/{name}",
        "trail",
        1,
    ),
    ResourceType(
        "AWS::ACM::Certificate",
        "AwsCertificateManagerCertificate",
        "arn:aws:acm:{region}:{account}:certificate/{name}",
        "certificate",
        1,
    ),
    ResourceType(
        "AWS::EFS::FileSystem",
        "AwsEfsFileSystem",
        "arn:aws:elasticfilesystem:{region}:{account}:file-system/{name}",
        "fs",
        1,
    ),
    ResourceType(
        "AWS::ElastiCache::ReplicationGroup",
        "AwsElastiCacheReplicationGroup",
        "arn:aws:elasticache:{region}:{account}:replicationgroup:{name}",
        "cache",
        1,
    ),
    ResourceType(
        "AWS::OpenSearch::Domain",
        "AwsOpenSearchServiceDomain",
        "arn:aws:es:{region}:{account}:domain/{name}",
        "search",
        1,
    ),
    ResourceType(
        "AWS::CloudFront::Distribution",
        "AwsCloudFrontDistribution",
        "arn:aws:cloudfront::{account}:distribution/{name}",
        "cdn",
        1,
        True,
    ),
    ResourceType(
        "AWS::CodeBuild::Project",
        "AwsCodeBuildProject",
        "arn:aws:codebuild:{region}:{account}:project/{name}",
        "build",
        1,
    ),
    ResourceType(
        "AWS::Kinesis::Stream",
        "AwsKinesisStream",
        "arn:aws:kinesis:{region}:{account}:stream/{name}",
        "stream",
        1,
    ),
    ResourceType(
        "AWS::StepFunctions::StateMachine",
        "AwsStepFunctionStateMachine",
        "arn:aws:states:{region}:{account}:stateMachine:{name}",
        "flow",
        1,
    ),
)
RESOURCE_TYPES = {t.name: t for t in _TYPES}
FIRST_RESOURCES = tuple(t.name for t in _TYPES[:5])
"""The types of an account's first five resources, on which the story relies."""
