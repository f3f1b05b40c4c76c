"""How an observation looks as a finding: records in the AWS Security Finding Format.

Shapes only. What is found, and when, comes from `checks.py`.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation import stable_hash, story
from posture_pipeline.simulation.catalogue import (
    ACCOUNT_TYPE,
    CIS_AZURE,
    CONFIG_RULES,
    CONFORMANCE_PACK,
    FSBP,
    NIST_800_53,
    RESOURCE_TYPES,
    SEVERITY_NUMBERS,
    Control,
    controls,
    standard_arn,
    standard_path,
)
from posture_pipeline.simulation.checks import RULE_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posture_pipeline.simulation.accounts import Account
    from posture_pipeline.simulation.checks import Observation
    from posture_pipeline.simulation.settings import SimulationSettings

Finding = dict[str, Any]

_REASONS = {
    "WARNING": (
        "CONFIG_EVALUATIONS_EMPTY",
        "The recorder did not record this type of resource, so nothing could be evaluated.",
    ),
    "NOT_AVAILABLE": (
        "CONFIG_RETURNS_NOT_APPLICABLE",
        "The resource is not one that the rule applies to, or it no longer exists.",
    ),
    RULE_ERROR: (
        RULE_ERROR,
        "The rule of AWS Config behind the control could not be evaluated.",
    ),
}
_ARCHIVAL_TEXTS = {
    "CONTROL_REMOVED": "The finding is archived because the control was taken out of the standard.",
    "CONTROL_DISABLED": "The finding is archived because the control was switched off.",
    "RESOURCE_DELETED": "The finding is archived because the resource no longer exists.",
    "CONSOLIDATED_CONTROL_FINDINGS_UPDATE": (
        "The finding is archived because control findings were consolidated."
    ),
}
SECOND_RESOURCE = "-replica"
"""End of the id of the second resource of a finding that has two."""
_TAG_ENVIRONMENTS = ("production", "acceptance", "test", "development", "build")


@functools.lru_cache(maxsize=4096)
def _midnight(day: int) -> str:
    return story.date_of(day).isoformat()


def _moment(day: int, h: int) -> str:
    """Return a time in the twelve hours before the day began, so that it is never in the future."""
    second = 43_200 + h % 43_200
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_midnight(day - 1)}T{hour:02d}:{minute:02d}:{second:02d}.{h % 997:03d}Z"


def timestamp(day: int, *parts: object) -> str:
    """Return the time at which something was seen for a day: always before the day began."""
    return _moment(day, stable_hash.number(*parts))


def config_rule_name(rule: str, account_id: str, region: str, seed: int) -> str:
    """Return the name that AWS Config gives a rule, by its key, in an account and region."""
    name, pack = CONFIG_RULES[rule].name, CONFIG_RULES[rule].pack
    if pack:
        return f"{name}-{conformance_pack_id(pack, account_id, region, seed)}"
    return f"OrgConfigRule-{name}-{stable_hash.letters(8, seed, account_id, region, name)}"


def config_rule_arn(rule: str, account_id: str, region: str, seed: int) -> str:
    """Return the ARN of a Config rule in an account and region: it names the service behind it."""
    suffix = stable_hash.letters(6, seed, account_id, region, rule, "arn")
    service = "config-conforms" if CONFIG_RULES[rule].pack else "config-multiaccountsetup"
    return (
        f"arn:aws:config:{region}:{account_id}:config-rule/aws-service-rule/"
        f"{service}.amazonaws.com/config-rule-{suffix}"
    )


def conformance_pack_id(pack: str, account_id: str, region: str, seed: int) -> str:
    """Return the id of a conformance pack in an account and region, which its rules end with."""
    salt = "pack" if pack == CONFORMANCE_PACK else pack
    return f"conformance-pack-{stable_hash.letters(9, seed, account_id, region, salt)}"


def conformance_pack_name(pack: str, account_id: str, region: str, seed: int) -> str:
    """Return the name that a conformance pack of the organization has in an account."""
    salt = "conforms" if pack == CONFORMANCE_PACK else pack
    return f"OrgConformsPack-{pack}-{stable_hash.letters(8, seed, account_id, region, salt)}"


@functools.lru_cache(maxsize=1024)
def _control_constants(control_id: str) -> dict[str, Any]:
    control = controls()[control_id]
    enabled = control.enabled_standards()
    related = []
    for standard in enabled:
        if standard != FSBP:
            title = standard_path(standard).replace("/v/", " v")
            related += [f"{title}/{rule}" for rule in control.rules_of(standard)]
    if NIST_800_53 in control.standards:
        number = stable_hash.number(control_id)
        related += [f"NIST.800-53.r5 {['AC', 'CM', 'SC', 'SI'][number % 4]}-{number % 17 + 1}"]
    url = f"https://docs.aws.amazon.com/console/securityhub/{control_id}/remediation"
    return {
        "standards": [{"StandardsId": s} for s in enabled],
        "related": related,
        "description": (
            f"This simulated control looks at every {control.resource_type} and asks: "
            f"{control.title}. It fails for a resource that does not meet this, and passes for an "
            "account that has no such resource."
        ),
        "remediation": {
            "Recommendation": {
                "Text": "For how to repair this, see the documentation of the control.",
                "Url": url,
            }
        },
        "related_name": f"securityhub-{control.config_rule or control_id.lower()}",
    }


def _severity(label: str, original: str) -> dict[str, Any]:
    number = SEVERITY_NUMBERS[label]
    return {"Label": label, "Normalized": number, "Product": number, "Original": original}


_CONFIG_TYPES = {
    "PASSED": "COMPLIANT",
    "FAILED": "NON_COMPLIANT",
    "NOT_AVAILABLE": "NOT_APPLICABLE",
}
"""What AWS Config calls the statuses of its findings; what was deleted is not applicable."""
_DETAILS: dict[str, tuple[str, ...]] = {
    "AwsS3Bucket": ("OwnerName", "CreatedAt"),
    "AwsLambdaFunction": ("FunctionName", "LastModified"),
    "AwsIamUser": ("UserName", "CreateDate"),
    "AwsIamRole": ("RoleName", "CreateDate"),
    "AwsIamPolicy": ("PolicyName", "CreateDate"),
    "AwsRdsDbInstance": ("DBInstanceIdentifier", "InstanceCreateTime"),
    "AwsRdsDbCluster": ("DbClusterIdentifier", "ClusterCreateTime"),
    "AwsSecretsManagerSecret": ("Name", ""),
    "AwsKmsKey": ("KeyId", ""),
    "AwsEc2SecurityGroup": ("GroupName", ""),
    "AwsSqsQueue": ("QueueName", ""),
    "AwsSnsTopic": ("TopicName", ""),
    "AwsDynamoDbTable": ("TableName", "CreationDateTime"),
    "AwsEcrRepository": ("RepositoryName", ""),
    "AwsEksCluster": ("Name", ""),
    "AwsEcsCluster": ("ClusterName", ""),
    "AwsCodeBuildProject": ("Name", ""),
    "AwsKinesisStream": ("Name", ""),
}


class AccountRenderer:
    """Renders the findings of one account on one day.

    Args:
        settings: of the organization.
        account: as it is on the day.
        day: absolute day number.
    """

    def __init__(self, settings: SimulationSettings, account: Account, day: int) -> None:
        self._settings = settings
        self._account = account
        self._day = day
        self._id = account.account_id
        renamed = settings.renamed_on is not None and day >= story.day_number(settings.renamed_on)
        self._hub_name = "Security Hub CSPM" if renamed else "Security Hub"
        # A finding holds at most 50 characters of the account's name (AWS: AwsAccountName).
        self._name = account.name[:50]
        workload, environment = account.origin
        self._tags = {"workload": workload, "managed-by": "terraform"}
        if environment in _TAG_ENVIRONMENTS:
            self._tags["environment"] = environment

    def control_finding(self, seen: Observation, *, archival: str = "") -> Finding:
        """Return the consolidated finding of a control."""
        control = controls()[seen.subject]
        constant = _control_constants(seen.subject)
        identity = f"{self._id}/{seen.region}/{seen.subject}/{seen.resource_id}"
        arn = (
            f"arn:aws:securityhub:{seen.region}:{self._id}:security-control/{seen.subject}"
            f"/finding/{stable_hash.uuid_text(identity)}"
        )
        return self._finding(
            seen,
            control,
            constant,
            arn=arn,
            generator=f"security-control/{seen.subject}",
            title=control.title,
            standards=constant["standards"],
            related=constant["related"],
            kind="Software and Configuration Checks/Industry and Regulatory Standards",
            fields={},
            archival=archival,
        )

    def standard_findings(self, seen: Observation, *, archival: str = "") -> Iterator[Finding]:
        """Yield the findings that the check has without consolidation: one a standard and rule."""
        control = controls()[seen.subject]
        constant = _control_constants(seen.subject)
        for standard in control.enabled_standards():
            for rule in control.rules_of(standard):
                yield self._standard_finding(seen, control, constant, standard, rule, archival)

    def _standard_finding(
        self,
        seen: Observation,
        control: Control,
        constant: dict[str, Any],
        standard: str,
        rule: str,
        archival: str,
    ) -> Finding:
        path = standard_path(standard)
        region = seen.region
        hub = f"arn:aws:securityhub:{region}:{self._id}"
        identity = f"{self._id}/{region}/{standard}/{rule}/{seen.subject}/{seen.resource_id}"
        if standard.startswith("ruleset/"):
            generator = f"{standard_arn(standard, region)}/rule/{rule}"
            fields = {
                "StandardsGuideArn": standard_arn(standard, region),
                "StandardsGuideSubscriptionArn": f"{hub}:subscription/{path}",
                "RuleId": rule,
            }
        else:
            generator = f"{path}/{rule}"
            fields = {
                "StandardsArn": standard_arn(standard, region),
                "StandardsSubscriptionArn": f"{hub}:subscription/{path}",
                "ControlId": rule,
            }
        fields["RecommendationUrl"] = constant["remediation"]["Recommendation"]["Url"]
        fields["StandardsControlArn"] = f"{hub}:control/{path}/{rule}"
        name = path.partition("/")[0]
        return self._finding(
            seen,
            control,
            constant,
            arn=f"{hub}:subscription/{path}/{rule}/finding/{stable_hash.uuid_text(identity)}",
            generator=generator,
            title=f"{rule} {control.title}",
            standards=[{"StandardsId": standard}],
            related=[] if standard == FSBP else [f"{path.replace('/v/', ' v')}/{rule}"],
            kind=f"Software and Configuration Checks/Industry and Regulatory Standards/{name}",
            fields=fields,
            archival=archival,
        )

    def _finding(
        self,
        seen: Observation,
        control: Control,
        constant: dict[str, Any],
        *,
        arn: str,
        generator: str,
        title: str,
        standards: list[dict[str, str]],
        related: list[str],
        kind: str,
        fields: dict[str, str],
        archival: str,
    ) -> Finding:
        region = seen.region
        h = int(arn[-12:], 16)
        archived_on, why = seen.archived_on, archival or seen.archival
        if archival and archived_on is None:
            archived_on = self._day
        if seen.updated is not None:
            # Soon after noon, so that it is older than a day and a half in the second morning.
            last_seen = _moment(seen.updated, h % 3600)
        else:
            last_seen = _moment(self._day if archived_on is None else archived_on, h)
        since = _moment(seen.since, h)
        created = _moment(seen.created, h)
        product = f"arn:aws:securityhub:{region}::product/aws/securityhub"
        passed = seen.status == "PASSED"
        label = control.severity if seen.status == "FAILED" else "INFORMATIONAL"
        product_fields = {
            **fields,
            "RelatedAWSResources:0/name": f"{constant['related_name']}-{h % 16**8:08x}",
            "RelatedAWSResources:0/type": "AWS::Config::ConfigRule",
            "aws/securityhub/ProductName": self._hub_name,
            "aws/securityhub/CompanyName": "AWS",
            "aws/securityhub/annotation": "",
            "Resources:0/Id": seen.resource_id,
            "aws/securityhub/FindingId": f"{product}/{arn}",
        }
        if not fields:
            del product_fields["aws/securityhub/annotation"]
        if seen.previous is not None:
            product_fields["PreviousComplianceStatus"] = seen.previous
        if why:
            product_fields["ArchivalReasons:0/Description"] = _ARCHIVAL_TEXTS[why]
            product_fields["ArchivalReasons:0/ReasonCode"] = why
        if self._settings.standard_arns and h % 5 == 0:
            standards = [{"StandardsId": standard_arn(s["StandardsId"], region)} for s in standards]
        compliance: dict[str, Any] = {
            "Status": seen.status,
            "SecurityControlId": seen.subject,
            "AssociatedStandards": standards,
        }
        if related:
            compliance["RelatedRequirements"] = related
        if seen.status in _REASONS:
            code, text = _REASONS[seen.reason or seen.status]
            compliance["StatusReasons"] = [{"ReasonCode": code, "Description": text}]
        suppressed = seen.suppressed_since is not None
        workflow = "SUPPRESSED" if suppressed else "RESOLVED" if passed else "NEW"
        if workflow == "NEW" and h % 5 == 0:
            workflow = "NOTIFIED"
        finding: Finding = {
            "SchemaVersion": "2018-10-08",
            "Id": arn,
            "ProductArn": product,
            "ProductName": self._hub_name,
            "CompanyName": "AWS",
            "Region": region,
            "GeneratorId": generator,
            "AwsAccountId": self._id,
            "AwsAccountName": self._name,
            "Types": [kind],
            "FirstObservedAt": since,
            "LastObservedAt": last_seen,
            "CreatedAt": created,
            "UpdatedAt": last_seen,
            "Severity": _severity(label, label),
            "Title": title,
            "Description": constant["description"],
            "Remediation": constant["remediation"],
            "ProductFields": product_fields,
            "Resources": self._resources(seen, h),
            "Compliance": compliance,
            "WorkflowState": "NEW",
            "Workflow": {"Status": workflow},
            "RecordState": "ACTIVE" if archived_on is None else "ARCHIVED",
            "FindingProviderFields": {
                "Severity": {"Label": label, "Original": label},
                "Types": [kind],
            },
            "ProcessedAt": last_seen,
        }
        if suppressed and seen.suppressed_since is not None:
            finding["Note"] = {
                "Text": f"Accepted by the owner, ticket SEC-{1000 + h % 9000}",
                "UpdatedBy": f"arn:aws:sts::{self._id}:assumed-role/security-review/reviewer",
                "UpdatedAt": _moment(seen.suppressed_since, h + 3),
            }
        return finding

    def _resources(self, seen: Observation, h: int) -> list[dict[str, Any]]:
        resource = self._resource(seen)
        if not self._settings.several_resources or seen.type_name == ACCOUNT_TYPE or h % 4:
            return [resource]
        return [resource, {**resource, "Id": f"{seen.resource_id}{SECOND_RESOURCE}"}]

    def _resource(self, seen: Observation) -> dict[str, Any]:
        if seen.type_name == ACCOUNT_TYPE:
            return {
                "Type": "AwsAccount",
                "Id": seen.resource_id,
                "Partition": "aws",
                "Region": seen.region,
            }
        kind = RESOURCE_TYPES[seen.type_name]
        resource: dict[str, Any] = {
            "Type": kind.asff,
            "Id": seen.resource_id,
            "Partition": "aws",
            "Region": seen.region,
            "Tags": self._tags,
        }
        members = _DETAILS.get(kind.asff)
        if members:
            details = {members[0]: seen.resource_id.rpartition("/")[2].rpartition(":")[2]}
            if members[1]:
                details[members[1]] = f"{_midnight(seen.created)}T00:00:00.000Z"
            resource["Details"] = {kind.asff: details}
        return resource

    def config_finding(self, seen: Observation) -> Finding:
        """Return the finding that AWS Config sends for a rule and a resource."""
        region, seed = seen.region, self._settings.seed
        name = config_rule_name(seen.subject, self._id, region, seed)
        rule_arn = config_rule_arn(seen.subject, self._id, region, seed)
        digest = stable_hash.uuid_text(f"{rule_arn}/{seen.resource_id}").replace("-", "")
        arn = f"{rule_arn}/finding/{digest}"
        h = int(digest[-12:], 16)
        # Config sends something when compliance changes, and never again until the next change.
        changed = _moment(seen.since, h)
        created = _moment(seen.created, h)
        product = f"arn:aws:securityhub:{region}::product/aws/config"
        passed = seen.status == "PASSED"
        label = "MEDIUM" if seen.status == "FAILED" else "INFORMATIONAL"
        return {
            "SchemaVersion": "2018-10-08",
            "Id": arn,
            "ProductArn": product,
            "ProductName": "Config",
            "CompanyName": "AWS",
            "Region": region,
            "GeneratorId": rule_arn,
            "AwsAccountId": self._id,
            "AwsAccountName": self._name,
            "Types": ["Software and Configuration Checks"],
            "CreatedAt": created,
            "UpdatedAt": changed,
            "FirstObservedAt": created,
            "Severity": _severity(label, str(SEVERITY_NUMBERS[label])),
            "Title": name,
            "Description": (
                f"This finding is created for a resource compliance change for config rule: {name}"
            ),
            "ProductFields": {
                "aws/config/ConfigRuleArn": rule_arn,
                "aws/config/ConfigRuleName": name,
                "aws/config/ConfigComplianceType": _CONFIG_TYPES[seen.status],
                "aws/securityhub/ProductName": "Config",
                "aws/securityhub/CompanyName": "AWS",
                "aws/securityhub/FindingId": f"{product}/{arn}",
            },
            "Resources": [self._resource(seen)],
            "Compliance": {"Status": seen.status},
            "WorkflowState": "NEW",
            "Workflow": {"Status": "RESOLVED" if passed else "NEW"},
            "RecordState": "ACTIVE",
            "FindingProviderFields": {
                "Severity": {"Label": label},
                "Types": ["Software and Configuration Checks"],
            },
            "ProcessedAt": changed,
        }

    def azure_findings(self) -> Iterator[Finding]:
        """Yield the findings of an Azure subscription, which a connector of the account brings."""
        seed, region = self._settings.seed, self._settings.home_region
        subscription = stable_hash.uuid_text(f"{seed}/azure subscription")
        tenant = stable_hash.uuid_text(f"{seed}/azure tenant")
        product = f"arn:aws:securityhub:{region}::product/aws/securityhub"
        if self._day < AZURE_SINCE:
            return
        for control, kind, severity in AZURE_CONTROLS:
            for number in range(2):
                identity = f"{subscription}/{control}/{number}"
                h = stable_hash.number(identity)
                failed = number == 0 and control == AZURE_CONTROLS[0][0]
                label = severity if failed else "INFORMATIONAL"
                arn = (
                    f"arn:aws:securityhub:{region}:{self._id}:security-control/{control}/finding/"
                    f"{stable_hash.uuid_text(identity)}"
                )
                yield {
                    "SchemaVersion": "2018-10-08",
                    "Id": arn,
                    "ProductArn": product,
                    "ProductName": self._hub_name,
                    "CompanyName": "AWS",
                    "Region": region,
                    "GeneratorId": f"security-control/{control}",
                    "AwsAccountId": self._id,
                    "AwsAccountName": self._name,
                    "Types": ["Software and Configuration Checks"],
                    "FirstObservedAt": _moment(AZURE_SINCE, h),
                    "LastObservedAt": _moment(self._day, h),
                    "CreatedAt": _moment(AZURE_SINCE, h),
                    "UpdatedAt": _moment(self._day, h),
                    "Severity": _severity(label, label),
                    "Title": f"A simulated control of Azure: {control}",
                    "Description": "A simulated control looks at a resource of Azure.",
                    "ProductFields": {
                        "aws/securityhub/ProductName": self._hub_name,
                        "aws/securityhub/FindingId": f"{product}/{arn}",
                    },
                    "Resources": [
                        {
                            "Type": kind,
                            "Id": f"/subscriptions/{subscription}/resourceGroups/shop-{number}",
                            "Region": "westeurope",
                            "Provider": "Azure",
                            "Owner": {"Account": {"Id": subscription}, "Org": {"Id": tenant}},
                        }
                    ],
                    "Compliance": {
                        "Status": "FAILED" if failed else "PASSED",
                        "SecurityControlId": control,
                        "AssociatedStandards": [{"StandardsId": CIS_AZURE}],
                    },
                    "WorkflowState": "NEW",
                    "Workflow": {"Status": "NEW" if failed else "RESOLVED"},
                    "RecordState": "ACTIVE",
                    "FindingProviderFields": {"Severity": {"Label": label, "Original": label}},
                    "ProcessedAt": _moment(self._day, h),
                }

    def other_findings(self) -> Iterator[Finding]:
        """Yield findings of products that check no compliance: they belong to no control."""
        seed, region = self._settings.seed, self._settings.home_region
        for product, title, resource, label in _OTHER_PRODUCTS:
            for number in range(2):
                h = stable_hash.number(seed, self._id, product, number)
                period = 20 + h % 60
                position = (self._day + h // 64) % period
                if position >= period // 2:
                    continue
                started = self._day - position
                identity = f"{self._id}/{product}/{number}/{started}"
                digest = stable_hash.uuid_text(identity)
                product_arn = f"arn:aws:securityhub:{region}::product/aws/{product}"
                arn = f"arn:aws:{product}:{region}:{self._id}:finding/{digest}"
                yield {
                    "SchemaVersion": "2018-10-08",
                    "Id": arn,
                    "ProductArn": product_arn,
                    "ProductName": title.split(":", maxsplit=1)[0],
                    "CompanyName": "Amazon",
                    "Region": region,
                    "GeneratorId": f"arn:aws:{product}:{region}:{self._id}:detector/{digest[:8]}",
                    "AwsAccountId": self._id,
                    "AwsAccountName": self._name,
                    "Types": [f"TTPs/{title}"],
                    "CreatedAt": _moment(started, h),
                    "UpdatedAt": _moment(started, h + 5),
                    "Severity": _severity(label, label),
                    "Title": f"{title} in {self._id}",
                    "Description": "A simulated finding of a product that checks no compliance.",
                    "ProductFields": {"aws/securityhub/FindingId": f"{product_arn}/{arn}"},
                    "Resources": [
                        {
                            "Type": resource,
                            "Id": f"arn:aws:ec2:{region}:{self._id}:instance/i-{digest[:8]}",
                            "Partition": "aws",
                            "Region": region,
                        }
                    ],
                    "WorkflowState": "NEW",
                    "Workflow": {"Status": "NEW"},
                    "RecordState": "ACTIVE",
                    "FindingProviderFields": {"Severity": {"Label": label}},
                    "ProcessedAt": _moment(started, h + 5),
                }


AZURE_SINCE = dt.date(2026, 7, 1).toordinal()
"""The first day that the connector brought findings of."""
AZURE_CONTROLS = (
    ("Azure.Storage.1", "AzureStorageAccount", "HIGH"),
    ("Azure.KeyVault.1", "AzureKeyVault", "MEDIUM"),
)
"""Controls of Azure: id, type of resource, severity. The first fails."""
_OTHER_PRODUCTS = (
    ("guardduty", "GuardDuty: unusual calls from a new place", "AwsEc2Instance", "MEDIUM"),
    ("inspector", "Inspector: package with a known weakness", "AwsEc2Instance", "HIGH"),
    ("macie", "Macie: personal data in an object", "AwsS3Bucket", "HIGH"),
)


def parse_time(value: str) -> dt.datetime | None:
    """Return a finding's timestamp as a datetime in UTC; None if it is not one."""
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
