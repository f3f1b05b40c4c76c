"""Tries the permissions a run needs, one by one, before the run does.

Each with the smallest call that AWS authorizes; nothing is written anywhere. What a missing one
means for a run is said with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posture_pipeline.aws import (
    alerts,
    cloudwatch,
    compliance,
    dashboards,
    organizations,
    security_hub,
    unified_hub,
)
from posture_pipeline.aws.clients import AwsClients, NotEnabledError, aws_call, error_code
from posture_pipeline.aws.security_hub import standard_arn
from posture_pipeline.errors import AwsError, CredentialsError, PermissionMissingError

if TYPE_CHECKING:
    from posture_pipeline.settings import Settings


ANY_STANDARD = "aws-foundational-security-best-practices/v/1.0.0"
"""What the calls are tried with where the reports name no standard."""


@dataclass(frozen=True, slots=True)
class PermissionResult:
    """What trying one permission showed.

    Attributes:
        action: The IAM action.
        ok: Allowed, or not; null when it could not be told.
        why: What showed it, or what to do.
        needed_for: What a run needs it for.
        required: A run fails without it; otherwise it goes on with less.
    """

    action: str
    ok: bool | None
    why: str
    needed_for: str
    required: bool = True


Try = Callable[[], str]
"""Makes the call; returns what it showed, or raises."""


class _CannotTellError(Exception):
    """The call cannot be tried here."""


def try_permissions(clients: AwsClients, settings: Settings) -> list[PermissionResult]:
    """Tries every permission that a run with these settings needs.

    Raises:
        CredentialsError: There are no credentials, or they are refused: nothing else can be tried.
    """
    results = [
        _tried(
            security_hub.ACTION,
            f"the findings of {region}",
            lambda region=region: _get_findings(clients, settings, region),  # type: ignore[misc]
            required=settings.incomplete_regions == "fail" or region == settings.aws.region,
        )
        for region in settings.aws.collect_regions
    ]
    standards = [report.standard for report in settings.reports if report.standard]
    packs = [r.conformance_pack for r in settings.reports if r.conformance_pack]
    if any(report.is_of_standards for report in settings.reports):
        results += _control_calls(clients, standards[0] if standards else ANY_STANDARD)
        results.append(
            _tried(
                unified_hub.ACTION,
                "telling that Config.1 passes because of the unified Security Hub",
                lambda: _describe_unified_hub(clients),
                required=False,
            )
        )
    if packs:
        results += [
            _tried(
                "config:DescribeConformancePacks",
                "finding the conformance packs of the reports",
                lambda: _describe_packs(clients),
            ),
            _tried(
                "config:DescribeConformancePackCompliance",
                "the rules of the conformance packs",
                lambda: _describe_pack_rules(clients, packs[0]),
            ),
            *_compliance_calls(clients, packs[0]),
        ]
    results += [
        _tried(
            organizations.LIST_ACTION,
            "the accounts, their names and states; without it they come from findings",
            lambda: _list_accounts(clients),
            required=False,
        ),
        _tried(
            organizations.TAGS_ACTION,
            "workload, environment and owner from account tags",
            lambda: _list_tags(clients),
            required=False,
        ),
    ]
    if settings.metrics.enabled:
        results += [
            _tried(
                cloudwatch.ACTION,
                "publishing the scores",
                lambda: _put_metric_data(clients, settings.metrics.namespace),
            ),
        ]
    if settings.dashboards.enabled:
        results += _dashboard_calls(clients, settings.dashboards.prefix)
    if settings.alarms.enabled:
        results += _alarm_calls(clients, settings.dashboards.prefix)
    topics = [target for target in settings.alerts.targets if target.startswith("arn:")]
    return results + [_publish(clients, topic) for topic in topics]


def _tried(action: str, needed_for: str, call: Try, *, required: bool = True) -> PermissionResult:
    try:
        why = call()
    except CredentialsError:
        raise
    except _CannotTellError as reason:
        return PermissionResult(action, None, str(reason), needed_for, required)
    except PermissionMissingError as error:
        return PermissionResult(action, False, str(error), needed_for, required)
    except NotEnabledError as error:
        return PermissionResult(action, False, str(error), needed_for, required)
    except AwsError as error:
        why = f"The call failed for another reason: {error}"
        return PermissionResult(action, None, why, needed_for, required)
    return PermissionResult(action, True, why, needed_for, required)


def _get_findings(clients: AwsClients, settings: Settings, region: str) -> str:
    # With the filters of a run, so that an endpoint that refuses them shows it here.
    security_hub.try_region(clients, settings, region, clients.now().date())
    return "Findings can be read with the filters of a run."


def _describe_unified_hub(clients: AwsClients) -> str:
    try:
        with aws_call(unified_hub.ACTION, place=clients.region, aws=clients.aws):
            clients.security_hub().describe_security_hub_v2()
    except AwsError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return "The unified Security Hub is not enabled."
    return "The unified Security Hub is enabled."


def _control_calls(clients: AwsClients, standard: str) -> list[PermissionResult]:
    """The calls of the first way, and, only if one of them is denied, of the second."""
    arn = standard_arn(standard, clients.region)
    api = clients.security_hub()

    def definitions() -> str:
        action = "securityhub:ListSecurityControlDefinitions"
        with aws_call(action, place=clients.region, aws=clients.aws):
            api.list_security_control_definitions(StandardsArn=arn, MaxResults=1)
        return "The controls of a standard can be listed."

    def associations() -> str:
        action = "securityhub:BatchGetStandardsControlAssociations"
        with aws_call(action, place=clients.region, aws=clients.aws):
            api.batch_get_standards_control_associations(
                StandardsControlAssociationIds=[{"SecurityControlId": "IAM.4", "StandardsArn": arn}]
            )
        return "It can be asked which controls are enabled."

    def subscriptions() -> str:
        with aws_call("securityhub:GetEnabledStandards", place=clients.region, aws=clients.aws):
            api.get_enabled_standards(MaxResults=1)
        return "The enabled standards can be listed."

    def controls() -> str:
        action = "securityhub:DescribeStandardsControls"
        with aws_call(action, place=clients.region, aws=clients.aws):
            reply = api.get_enabled_standards(MaxResults=1)
            found = reply.get("StandardsSubscriptions") or []
            if not found:
                message = "No standard is enabled here, so there is nothing to try it with."
                raise _CannotTellError(message)
            api.describe_standards_controls(
                StandardsSubscriptionArn=found[0]["StandardsSubscriptionArn"], MaxResults=1
            )
        return "The controls of an enabled standard can be listed."

    purpose = "the controls of the standards"
    first = [
        _tried("securityhub:ListSecurityControlDefinitions", purpose, definitions),
        _tried("securityhub:BatchGetStandardsControlAssociations", purpose, associations),
    ]
    if all(result.ok is not False for result in first):
        status = "telling a standard that is off from one that is not ready, and all standards"
        enabled = _tried("securityhub:GetEnabledStandards", status, subscriptions, required=False)
        return [*first, enabled]
    instead = f"{purpose}, where the two calls above are not allowed"
    second = [
        _tried("securityhub:GetEnabledStandards", instead, subscriptions),
        _tried("securityhub:DescribeStandardsControls", instead, controls),
    ]
    if all(result.ok for result in second):
        first = [
            PermissionResult(r.action, r.ok, r.why, r.needed_for, required=False) for r in first
        ]
    return first + second


def _describe_packs(clients: AwsClients) -> str:
    with aws_call("config:DescribeConformancePacks", place=clients.region, aws=clients.aws):
        clients.config().describe_conformance_packs(Limit=1)
    return "The conformance packs can be listed."


def _describe_pack_rules(clients: AwsClients, pack: str) -> str:
    # The plain name need not exist; AWS tells a caller without the permission so before it looks.
    action = "config:DescribeConformancePackCompliance"
    return _refused_for_content(
        action,
        clients,
        {"NoSuchConformancePackException"},
        lambda: clients.config().describe_conformance_pack_compliance(
            ConformancePackName=pack, Limit=1
        ),
    )


def _compliance_calls(clients: AwsClients, pack: str) -> list[PermissionResult]:
    """What `posture reconcile` holds our figures against; a run goes on without."""
    api = clients.config()
    aggregator = clients.aws.config_aggregator

    def scores() -> str:
        with aws_call(compliance.SCORES_ACTION, place=clients.region, aws=clients.aws):
            api.list_conformance_pack_compliance_scores(Limit=1)
        return "AWS's own scores of the conformance packs can be read."

    def details() -> str:
        # As above: the plain name need not exist.
        return _refused_for_content(
            compliance.DETAILS_ACTION,
            clients,
            {"NoSuchConformancePackException"},
            lambda: api.get_conformance_pack_compliance_details(ConformancePackName=pack, Limit=1),
        )

    def aggregated() -> str:
        with aws_call(compliance.AGGREGATE_ACTION, place=clients.region, aws=clients.aws):
            api.describe_aggregate_compliance_by_conformance_packs(
                ConfigurationAggregatorName=aggregator or "", Limit=1
            )
        return "The packs of all accounts can be read through the aggregator."

    results = [
        _tried(
            compliance.SCORES_ACTION,
            "AWS's own scores of the packs, for posture reconcile",
            scores,
            required=False,
        ),
        _tried(
            compliance.DETAILS_ACTION,
            "what AWS evaluates in the packs, for posture reconcile",
            details,
            required=False,
        ),
    ]
    if aggregator is not None:
        results.append(
            _tried(
                compliance.AGGREGATE_ACTION,
                "the packs of all accounts, for posture reconcile",
                aggregated,
                required=False,
            )
        )
    return results


def _list_accounts(clients: AwsClients) -> str:
    with aws_call(organizations.LIST_ACTION, place=clients.region, aws=clients.aws):
        clients.organizations().list_accounts(MaxResults=1)
    return "The accounts can be listed."


def _list_tags(clients: AwsClients) -> str:
    try:
        with aws_call(organizations.LIST_ACTION, place=clients.region, aws=clients.aws):
            pages = clients.organizations().get_paginator("list_accounts").paginate()
            account = next((each["Id"] for page in pages for each in page["Accounts"]), None)
    except CredentialsError:
        raise
    except AwsError as error:
        message = "It needs an account to be tried with, and the accounts cannot be listed."
        raise _CannotTellError(message) from error
    if account is None:
        message = "The organization lists no account to try it with."
        raise _CannotTellError(message)
    with aws_call(organizations.TAGS_ACTION, place=f"account {account}", aws=clients.aws):
        clients.organizations().list_tags_for_resource(ResourceId=account)
    return "The tags of an account can be read."


_CLOUDWATCH_CONTENT_CODES = {
    "DashboardInvalidInputError",
    "DashboardNotFoundError",
    "InvalidParameterCombination",
    "InvalidParameterCombinationException",
    "InvalidParameterInput",
    "InvalidParameterValue",
    "InvalidParameterValueException",
    "MissingParameter",
    "MissingRequiredParameterException",
    "ResourceNotFound",
    "ValidationError",
}


def _dashboard_calls(clients: AwsClients, prefix: str) -> list[PermissionResult]:
    """The calls that dashboards need; a run without them publishes the scores all the same."""
    name = f"{prefix}-permission-trial"
    api = clients.cloudwatch()
    calls: list[tuple[str, Callable[[], object]]] = [
        (dashboards.LIST, lambda: api.list_dashboards(DashboardNamePrefix=name)),
        (dashboards.GET, lambda: api.get_dashboard(DashboardName=name)),
        (
            dashboards.PUT,
            lambda: api.put_dashboard(DashboardName=name, DashboardBody="no dashboard"),
        ),
        (dashboards.DELETE, lambda: api.delete_dashboards(DashboardNames=[])),
    ]
    return _optional_calls(clients, calls, "the dashboards (dashboards.enabled)")


def _alarm_calls(clients: AwsClients, prefix: str) -> list[PermissionResult]:
    """The calls that alarms need; likewise."""
    name = f"{prefix}-permission-trial"
    api = clients.cloudwatch()
    # An alarm on no metric is refused.
    alarm: Any = {
        "AlarmName": name,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "LessThanThreshold",
    }
    calls: list[tuple[str, Callable[[], object]]] = [
        (dashboards.DESCRIBE_ALARMS, lambda: api.describe_alarms(AlarmNamePrefix=name)),
        (dashboards.PUT_ALARM, lambda: api.put_metric_alarm(**alarm)),
        (dashboards.DELETE_ALARMS, lambda: api.delete_alarms(AlarmNames=[])),
    ]
    return _optional_calls(clients, calls, "the alarms (alarms.enabled)")


def _optional_calls(
    clients: AwsClients, calls: list[tuple[str, Callable[[], object]]], needed_for: str
) -> list[PermissionResult]:
    def trial(action: str, call: Callable[[], object]) -> Try:
        return lambda: _refused_for_content(action, clients, _CLOUDWATCH_CONTENT_CODES, call)

    return [
        _tried(action, needed_for, trial(action, call), required=False) for action, call in calls
    ]


def _publish(clients: AwsClients, topic: str) -> PermissionResult:
    """A message without text is refused; a run goes on without what it would tell."""
    refusals = {"InvalidParameter", "InvalidParameterException", "ValidationError"}
    return _tried(
        alerts.ACTION,
        f"alerts to {topic}",
        lambda: _refused_for_content(
            alerts.ACTION,
            clients,
            refusals,
            lambda: clients.sns(topic.split(":")[3]).publish(TopicArn=topic, Message=""),
        ),
        required=False,
    )


def _put_metric_data(clients: AwsClients, namespace: str) -> str:
    return _refused_for_content(
        cloudwatch.ACTION,
        clients,
        _CLOUDWATCH_CONTENT_CODES,
        lambda: clients.cloudwatch().put_metric_data(Namespace=namespace, MetricData=[]),
    )


def _refused_for_content(
    action: str, clients: AwsClients, codes: set[str], call: Callable[[], object]
) -> str:
    """Tries a call whose content cannot be taken, so that nothing is written.

    AWS checks the permission before the content; AWS does not promise that order, so the text says
    what was seen.
    """
    try:
        with aws_call(action, place=clients.region, aws=clients.aws):
            call()
    except AwsError as error:
        code = error_code(error)
        if code in codes:
            return (
                f"Tried with a request without content: AWS refused that ({code}), and not the "
                "permission."
            )
        raise
    return "Tried with a request that has nothing to write: AWS took it."
