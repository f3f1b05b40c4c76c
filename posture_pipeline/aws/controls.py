"""The controls of standards and conformance packs, as AWS lists them today.

An error here is never an empty list: with no controls every score would be 100. What is expected
where AWS lists nothing is decided in `model.expected`, what a finding is matched by in
`model.controls`.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import polars as pl

from posture_pipeline.aws.clients import (
    AwsClients,
    PassingAwsError,
    UnsupportedCallError,
    aws_call,
    error_code,
    error_message,
)
from posture_pipeline.aws.security_hub import standard_arn
from posture_pipeline.errors import AwsError, CredentialsError, PermissionMissingError
from posture_pipeline.model.controls import (
    NAMED_PACK_SUFFIX,
    canonical_rule_name,
    own_control_id,
    standard_name,
)
from posture_pipeline.model.expected import RULE_SEVERITY, Listing, Unlisted, UnlistedKind
from posture_pipeline.schemas import LISTED_CONTROLS, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from mypy_boto3_config.type_defs import ConformancePackDetailTypeDef
    from mypy_boto3_securityhub.type_defs import StandardsSubscriptionTypeDef

    from posture_pipeline.settings import Report

DEFINITIONS_PAGE = 100
"""Controls of a page at most (AWS: ListSecurityControlDefinitions, DescribeStandardsControls)."""
ASSOCIATIONS_BATCH = 100
"""Controls of one request at most (AWS: API reference of BatchGetStandardsControlAssociations; the
service model has no number)."""
PACKS_PAGE = 20
"""Packs of a page at most (AWS: DescribeConformancePacks, Limit)."""
PACK_RULES_PAGE = 1000
"""Rules of a page at most (AWS: DescribeConformancePackCompliance, Limit)."""

_SECURITY_CONTROL_URL = re.compile(r"/securityhub/([A-Za-z0-9]+\.[0-9]+)/remediation")

Row = dict[str, Any]


class StandardOffError(AwsError):
    """A standard is not enabled in the audit account; it may be in other accounts."""


class NotReadyError(PassingAwsError):
    """AWS is still enabling, or changing, what is asked for."""


def listed_controls(
    clients: AwsClients, reports: Sequence[Report], *, day: date, last_try: bool = True
) -> Listing:
    """What AWS lists for the reports, and why it lists nothing for some of them.

    Asked in the home region of the calling account, whose standards and packs they are. What keeps
    one report from being listed does not keep the others.

    Args:
        clients: How AWS is reached.
        reports: The reports; custom rules are in the settings and are not asked for.
        day: The day of the snapshot.
        last_try: Whether a retryable error is the report's outcome; else it is raised, so that the
            caller tries again.

    Raises:
        CredentialsError: Nothing can be asked.
        PassingAwsError: A retryable error, unless it is the last try.
        AwsError: No report at all has controls; the text says why for each.
    """
    rows: list[Row] = []
    unlisted: dict[str, Unlisted] = {}
    failed: dict[str, AwsError] = {}
    by_definition = {report.definition: report for report in reports}
    for definition, report in by_definition.items():
        try:
            found = _controls_of(clients, report)
        except CredentialsError:
            raise
        except StandardOffError as error:
            unlisted[definition] = Unlisted("not_enabled", str(error))
        except AwsError as error:
            if isinstance(error, PassingAwsError) and not last_try:
                raise
            not_ready = isinstance(error, NotReadyError)
            kind: UnlistedKind = "not_ready" if not_ready else "failed"
            unlisted[definition] = Unlisted(kind, str(error))
            if kind == "failed":
                failed[report.name] = error
        else:
            known = {"date": day, "definition": definition, "report_kind": report.kind}
            rows += [{**known, **row} for row in _one_a_control(found)]
    if failed and len(failed) == len(by_definition):
        (first, *others) = failed.values()
        if all(str(other) == str(first) for other in others):
            raise first
        reasons = " ".join(f"{name}: {error}" for name, error in failed.items())
        message = f"The controls of no report could be listed. {reasons}"
        raise AwsError(message) from first
    return Listing(pl.DataFrame(rows, schema=LISTED_CONTROLS.schema), unlisted)


def _controls_of(clients: AwsClients, report: Report) -> list[Row]:
    if report.standard is not None:
        return _standard_controls(clients, report.standard)
    if report.all_standards:
        return _all_controls(clients)
    if report.conformance_pack is not None:
        return _pack_rules(clients, report.conformance_pack)
    return []


def find_pack(clients: AwsClients, name: str, region: str | None = None) -> str:
    """The name under which a conformance pack is deployed in the calling account.

    A pack of an organization is deployed as `OrgConformsPack-<name>-<random>`. When several are
    there, which happens when one was replaced, the one touched last is meant.

    Args:
        clients: How AWS is reached.
        name: The pack's own name.
        region: Where; without one in the home region.

    Raises:
        PermissionMissingError: config:DescribeConformancePacks is not allowed.
        AwsError: There is no such pack; the text names those that exist.
    """
    action = "config:DescribeConformancePacks"
    region = region or clients.region
    packs: list[ConformancePackDetailTypeDef] = []
    with aws_call(action, place=region, aws=clients.aws):
        paginator = clients.config(region).get_paginator("describe_conformance_packs")
        for page in paginator.paginate(PaginationConfig={"PageSize": PACKS_PAGE}):
            packs += required_member(page, "ConformancePackDetails", action)
    names = {pack["ConformancePackName"] for pack in packs}
    if name in names:
        return name
    found = [pack for pack in packs if is_deployed_pack(pack["ConformancePackName"], name)]
    if not found:
        there = ", ".join(sorted(names)) or "none at all"
        message = (
            f"There is no conformance pack {name!r} in {region} of this account, and none "
            f"deployed from the organization under that name (OrgConformsPack-{name}-...). There "
            f"are: {there}. Correct conformance_pack in the settings, or deploy it there."
        )
        raise AwsError(message)
    found.sort(key=lambda p: (str(p.get("LastUpdateRequestedTime", "")), p["ConformancePackName"]))
    return found[-1]["ConformancePackName"]


def is_deployed_pack(deployed: str, name: str) -> bool:
    """Whether this is the name that a pack of the organization has in an account."""
    return re.fullmatch(rf"OrgConformsPack-{re.escape(name)}-[A-Za-z0-9]+", deployed) is not None


def _standard_controls(clients: AwsClients, standard: str) -> list[Row]:
    try:
        rows = _by_definitions(clients, standard)
    except (PermissionMissingError, UnsupportedCallError) as refused:
        try:
            rows = _by_subscription(clients, standard)
        except (PermissionMissingError, UnsupportedCallError) as also:
            message = (
                f"The controls of {standard} cannot be listed in {clients.region}. {refused} "
                f"Asked the other way: {also} One of the two ways is enough."
            )
            raise type(refused)(message) from also
    except AwsError as error:
        if error_code(error) not in {"InvalidInputException", "ResourceNotFoundException"}:
            raise
        message = (
            f"AWS knows no standard {standard} in {clients.region}: {error_message(error)}. "
            "Correct the report's standard in the settings."
        )
        raise AwsError(message) from error
    return rows


def _all_controls(clients: AwsClients) -> list[Row]:
    """The controls of every standard that is enabled in the audit account.

    Standards number their controls each by itself, so their own ids have the standard before them.
    """
    rows: list[Row] = []
    for subscription in _subscriptions(clients):
        standard = standard_name(subscription["StandardsArn"])
        try:
            found = _standard_controls(clients, standard)
        except StandardOffError:
            continue
        rows += [
            {
                **row,
                "standard_control_ids": SEPARATOR.join(
                    own_control_id(standard, each)
                    for each in (row["standard_control_ids"] or "").split(SEPARATOR)
                    if each
                )
                or None,
            }
            for row in found
        ]
    if not rows:
        message = f"No standard is enabled in {clients.region} of the audit account."
        raise StandardOffError(message)
    return rows


def _by_definitions(clients: AwsClients, standard: str) -> list[Row]:
    """By security control id, as consolidated findings have it."""
    arn = standard_arn(standard, clients.region)
    api = clients.security_hub()
    action = "securityhub:ListSecurityControlDefinitions"
    definitions: list[Any] = []
    with aws_call(action, place=f"{clients.region}, {standard}", aws=clients.aws):
        paginator = api.get_paginator("list_security_control_definitions")
        pages = paginator.paginate(
            StandardsArn=arn, PaginationConfig={"PageSize": DEFINITIONS_PAGE}
        )
        for page in pages:
            definitions += required_member(page, "SecurityControlDefinitions", action)
    by_id = {definition["SecurityControlId"]: definition for definition in definitions}
    associations, is_whole = _associations(clients, standard, arn, list(by_id))
    if not is_whole or not any(enabled for enabled, _ in associations.values()):
        _require_ready(clients, standard, is_whole=is_whole)
    return [
        {
            "control_id": control,
            "title": definition["Title"],
            "severity": definition["SeverityRating"],
            "enabled": associations.get(control, (False, ""))[0],
            "standard_control_ids": associations.get(control, (False, ""))[1] or None,
            "remediation_url": definition.get("RemediationUrl"),
            "source": "security_hub",
        }
        for control, definition in by_id.items()
    ]


def _associations(
    clients: AwsClients, standard: str, arn: str, controls: list[str]
) -> tuple[dict[str, tuple[bool, str]], bool]:
    """For each control whether the standard has it enabled, and the standard's own ids of it.

    Returns:
        That, and whether AWS gave it for every control. It gives none for a standard that is off,
        and not all while it is enabling or changing the standard.
    """
    action = "securityhub:BatchGetStandardsControlAssociations"
    place = f"{clients.region}, {standard}"
    found: dict[str, tuple[bool, str]] = {}
    for batch in _batches(controls, ASSOCIATIONS_BATCH):
        with aws_call(action, place=place, aws=clients.aws):
            reply = clients.security_hub().batch_get_standards_control_associations(
                StandardsControlAssociationIds=[
                    {"SecurityControlId": control, "StandardsArn": arn} for control in batch
                ]
            )
        for each in required_member(reply, "StandardsControlAssociationDetails", action):
            ids = sorted({arn.rpartition("/")[2] for arn in each.get("StandardsControlArns", ())})
            enabled = each["AssociationStatus"] == "ENABLED"
            found[each["SecurityControlId"]] = (enabled, SEPARATOR.join(ids))
        for each in reply.get("UnprocessedAssociations", ()):
            _check_unprocessed(each, action, place)
    return found, found.keys() >= set(controls)


def _check_unprocessed(each: Any, action: str, place: str) -> None:  # noqa: ANN401 - a TypedDict
    """Raises what AWS said of an association, unless it is only that there is none."""
    code = str(each["ErrorCode"])
    if code in {"NOT_FOUND", "RESOURCE_NOT_FOUND"}:
        return
    control = each["StandardsControlAssociationId"]["SecurityControlId"]
    said = f"AWS said {code} for {control}: {each.get('ErrorReason') or 'no reason'}"
    if code == "ACCESS_DENIED":
        message = f"The permission {action} is missing ({place}). ({said})"
        raise PermissionMissingError(message)
    if code == "LIMIT_EXCEEDED":
        message = f"{action} ({place}): AWS refused a part of the request. Run again. ({said})"
        raise PassingAwsError(message)
    message = f"{action} ({place}): AWS refused a part of the request. ({said})"
    raise AwsError(message)


def _require_ready(clients: AwsClients, standard: str, *, is_whole: bool) -> None:
    """Raises unless a standard that lacks associations is enabled, with all its controls there.

    Args:
        clients: How AWS is reached.
        standard: The standard.
        is_whole: Whether AWS gave the association of every control.

    Raises:
        StandardOffError: It is not enabled, or no control of it is.
        NotReadyError: AWS is enabling it or adding controls.
    """
    try:
        _subscription_of(clients, standard)
    except (PermissionMissingError, UnsupportedCallError):
        # Without the status, controls that AWS knows nothing of cannot be told from pending ones.
        if not is_whole:
            raise
    if is_whole:
        message = (
            f"No control of the standard {standard} is enabled in {clients.region} of the audit "
            "account."
        )
        raise StandardOffError(message)


def _subscriptions(clients: AwsClients) -> list[StandardsSubscriptionTypeDef]:
    """The standards that are enabled, or about to be, in the audit account."""
    action = "securityhub:GetEnabledStandards"
    found: list[StandardsSubscriptionTypeDef] = []
    with aws_call(action, place=clients.region, aws=clients.aws):
        for page in clients.security_hub().get_paginator("get_enabled_standards").paginate():
            found += required_member(page, "StandardsSubscriptions", action)
    return [each for each in found if each.get("StandardsStatus") != "DELETING"]


def _subscription_of(clients: AwsClients, standard: str) -> str:
    """The ARN of the subscription to a standard that is ready.

    Raises:
        StandardOffError: There is none.
        NotReadyError: AWS is enabling it or adding controls.
    """
    arn = standard_arn(standard, clients.region)
    for each in _subscriptions(clients):
        if each["StandardsArn"] != arn:
            continue
        status = each.get("StandardsStatus")
        updatable = each.get("StandardsControlsUpdatable", "READY_FOR_UPDATES")
        if status == "PENDING" or updatable != "READY_FOR_UPDATES":
            message = (
                f"The standard {standard} is not ready in {clients.region}: AWS is enabling it or "
                f"adding controls (StandardsStatus {status}, {updatable}). Run again later."
            )
            raise NotReadyError(message)
        return each["StandardsSubscriptionArn"]
    message = f"The standard {standard} is not enabled in {clients.region} of the audit account."
    raise StandardOffError(message)


def _by_subscription(clients: AwsClients, standard: str) -> list[Row]:
    """By the standard's own ids: the older calls, which more roles are allowed to use."""
    place = f"{clients.region}, {standard}"
    api = clients.security_hub()
    subscription = _subscription_of(clients, standard)
    action = "securityhub:DescribeStandardsControls"
    rows: list[Row] = []
    with aws_call(action, place=place, aws=clients.aws):
        pages = api.get_paginator("describe_standards_controls").paginate(
            StandardsSubscriptionArn=subscription, PaginationConfig={"PageSize": DEFINITIONS_PAGE}
        )
        for described in pages:
            for control in required_member(described, "Controls", action):
                url = control.get("RemediationUrl")
                # Consolidated findings only have the security control id, which this call does not
                # give; the address of the remediation page usually has it.
                match = _SECURITY_CONTROL_URL.search(url or "")
                rows.append(
                    {
                        "control_id": match[1] if match else control["ControlId"],
                        "title": control["Title"],
                        "severity": control["SeverityRating"],
                        "enabled": control["ControlStatus"] == "ENABLED",
                        "standard_control_ids": control["ControlId"],
                        "remediation_url": url,
                        "source": "security_hub",
                    }
                )
    if not any(row["enabled"] for row in rows):
        message = (
            f"No control of the standard {standard} is enabled in {clients.region} of the audit "
            "account."
        )
        raise StandardOffError(message)
    return rows


def _pack_rules(clients: AwsClients, pack: str) -> list[Row]:
    deployed = find_pack(clients, pack)
    action = "config:DescribeConformancePackCompliance"
    rows: list[Row] = []
    with aws_call(action, place=f"{clients.region}, {deployed}", aws=clients.aws):
        pages = (
            clients.config()
            .get_paginator("describe_conformance_pack_compliance")
            .paginate(ConformancePackName=deployed, PaginationConfig={"PageSize": PACK_RULES_PAGE})
        )
        for page in pages:
            for rule in required_member(page, "ConformancePackRuleComplianceList", action):
                rows.append(_rule(rule["ConfigRuleName"]))
    if not rows:
        message = (
            f"The conformance pack {deployed} in {clients.region} has no rules: it may still be "
            "deploying, or its deployment failed. Look at its status in AWS Config."
        )
        raise NotReadyError(message)
    return rows


def _rule(name: str) -> Row:
    canonical = canonical_rule_name(name)
    suffix = re.search(NAMED_PACK_SUFFIX, name)
    return {
        "control_id": canonical,
        "title": canonical,
        "pack_suffix": suffix[1] if suffix is not None else None,
        "severity": RULE_SEVERITY,
        "enabled": True,
        "standard_control_ids": None,
        "remediation_url": None,
        "source": "config",
    }


def _one_a_control(rows: list[Row]) -> list[Row]:
    """Puts rows of one control together: two rules of a standard may be the same control."""
    merged: dict[str, Row] = {}
    for row in rows:
        first = merged.setdefault(row["control_id"], row)
        if first is row:
            continue
        ids = {
            each
            for ids in (first["standard_control_ids"], row["standard_control_ids"])
            for each in (ids or "").split(SEPARATOR)
            if each
        }
        merged[row["control_id"]] = {
            **first,
            "enabled": first["enabled"] or row["enabled"],
            "standard_control_ids": SEPARATOR.join(sorted(ids)) or None,
        }
    return list(merged.values())


def required_member(reply: Any, name: str, action: str) -> list[Any]:  # noqa: ANN401 - a TypedDict
    """A list that a reply must have: botocore takes a cut body for a reply without members."""
    if name not in reply:
        message = f"{action}: the reply is incomplete, it has no {name}. Start the run again."
        raise PassingAwsError(message)
    value: list[Any] = reply[name]
    return value


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
