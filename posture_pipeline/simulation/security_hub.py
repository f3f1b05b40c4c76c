"""Security Hub as the audit account sees it: the operations that collectors and senders use.

Requests arrive as parameters by name, replies leave as plain structures or encoded JSON; HTTP is in
`application.py`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation import page_tokens, stable_hash
from posture_pipeline.simulation.accounts import HUB_ENABLED
from posture_pipeline.simulation.aws_errors import ServiceError, invalid_input
from posture_pipeline.simulation.catalogue import (
    CONTROL_TOWER,
    DISABLED_ASSOCIATIONS,
    DISABLED_CONTROLS,
    DISABLED_IN_AUDIT,
    ENABLED_STANDARDS,
    FSBP,
    STANDARDS,
    Control,
    standard_arn,
    standard_path,
)
from posture_pipeline.simulation.finding_filters import (
    CompiledFilter,
    compile_filters,
    compile_order,
)
from posture_pipeline.simulation.finding_store import FindingStore
from posture_pipeline.simulation.movement import MovingFindings
from posture_pipeline.simulation.rendering import parse_time
from posture_pipeline.simulation.settings import OTHER_BURST, OTHER_RATE, RateLimit
from posture_pipeline.simulation.throttle import TokenBucket

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from posture_pipeline.simulation.clock import SimulatedClock
    from posture_pipeline.simulation.organization import SimulatedOrganization
    from posture_pipeline.simulation.settings import Movement

Reply = dict[str, Any] | bytes

MAX_PAGE = 100
"""Findings a page (AWS: GetFindings MaxResults)."""
MAX_IMPORT = 100
"""Findings of one BatchImportFindings (AWS: API reference)."""
MAX_UPDATE = 100
"""Findings of one BatchUpdateFindings (AWS: API reference)."""
MAX_ASSOCIATIONS = 100
"""Associations of one BatchGetStandardsControlAssociations (AWS: API reference)."""
_DEFAULT_PAGE = 25
_MAX_FINDING_BYTES = 240 * 1024
_WORKFLOW_STATUSES = ("NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED")
_REQUIRED = (
    "SchemaVersion",
    "Id",
    "ProductArn",
    "GeneratorId",
    "AwsAccountId",
    "CreatedAt",
    "UpdatedAt",
    "Title",
    "Description",
    "Resources",
)
"""What a finding must have (AWS: AwsSecurityFinding); Severity and Types have other ways in."""
_MISSING_MEMBER = (
    "Finding does not adhere to Amazon Finding Format. data should have required property '{}'."
)
_SUBSCRIBED = f"{HUB_ENABLED.isoformat()}T09:12:44.101Z"


class SecurityHub:
    """The operations; each method of `operations()` takes parameters and a region."""

    def __init__(self, organization: SimulatedOrganization, clock: SimulatedClock) -> None:
        self._organization = organization
        self._settings = organization.settings
        self._clock = clock
        self._lock = threading.Lock()
        self._subscriptions: list[str] = []
        self._compiled: dict[tuple[str, dt.date], CompiledFilter] = {}
        self.store = FindingStore(organization)
        self._findings_bucket = TokenBucket(None)
        self._other_bucket = TokenBucket(None)
        self.set_rate_limit(self._settings.rate_limit)
        self._moving: MovingFindings | None = None
        self.set_movement(self._settings.movement)

    def set_rate_limit(self, limit: RateLimit | None) -> None:
        """Change the rate of GetFindings; every other call keeps AWS's, and None frees them all."""
        self._findings_bucket.limit = limit
        self._other_bucket.limit = None if limit is None else RateLimit(OTHER_RATE, OTHER_BURST)
        self._findings_bucket.refill()
        self._other_bucket.refill()

    def take(self, operation: str, region: str) -> None:
        """Count a request.

        Raises:
            ServiceError: TooManyRequestsException, if there were too many of the operation.
        """
        bucket = self._findings_bucket if operation == "GetFindings" else self._other_bucket
        if not bucket.take(f"{operation}/{region}"):
            raise ServiceError(
                code="TooManyRequestsException", message="Too Many Requests", status=429
            )

    def sending_operations(self) -> dict[str, Callable[[dict[str, Any], str, str], Reply]]:
        """Return the operations that depend on the account that asks, their third argument."""
        return {
            "BatchImportFindings": self.batch_import,
            "EnableImportFindingsForProduct": self.enable_import,
            "ListEnabledProductsForImport": self.list_enabled_products,
        }

    def operations(self) -> dict[str, Callable[[dict[str, Any], str], Reply]]:
        """Return every other operation that is simulated, by its name."""
        return {
            "GetFindings": self.get_findings,
            "DescribeHub": self.describe_hub,
            "DescribeSecurityHubV2": self.describe_unified_hub,
            "EnableSecurityHub": self.enable_security_hub,
            "GetEnabledStandards": self.get_enabled_standards,
            "DescribeStandards": self.describe_standards,
            "ListSecurityControlDefinitions": self.list_definitions,
            "GetSecurityControlDefinition": self.get_definition,
            "BatchGetStandardsControlAssociations": self.batch_get_associations,
            "ListStandardsControlAssociations": self.list_associations,
            "DescribeStandardsControls": self.describe_standards_controls,
            "BatchGetSecurityControls": self.batch_get_controls,
            "BatchUpdateFindings": self.batch_update,
            "ListMembers": self.list_members,
            "GetMembers": self.get_members,
            "DescribeOrganizationConfiguration": self.describe_organization_configuration,
            "GetAdministratorAccount": self.get_administrator,
            "ListFindingAggregators": self.list_aggregators,
            "GetFindingAggregator": self.get_aggregator,
        }

    def set_movement(self, movement: Movement | None) -> MovingFindings | None:
        """Let findings change while they are paged; None: no more."""
        self._moving = (
            MovingFindings(self._organization, self._clock, movement) if movement else None
        )
        return self._moving

    def clear(self) -> None:
        """Forget everything that requests have left behind."""
        self.store.clear()
        self._findings_bucket.refill()
        self._other_bucket.refill()
        with self._lock:
            self._subscriptions.clear()

    # Findings

    def get_findings(self, params: dict[str, Any], region: str) -> Reply:
        """Return a page of findings; the home region has those of all linked regions."""
        self._known(params, {"Filters", "SortCriteria", "NextToken", "MaxResults"})
        order = compile_order(params.get("SortCriteria") or [])
        size = self._page_size(params, MAX_PAGE, default=MAX_PAGE)
        filters = params.get("Filters") or {}
        now = self._clock.now()
        sort = params.get("SortCriteria") or []
        question = page_tokens.question_hash("GetFindings", region, filters, sort)
        compiled = compile_filters(filters, now)
        if region != self._settings.home_region:
            compiled = _in_region(compiled, region)
        position = self._position(params, question, now, [0, 0])
        day = now.date()
        # A relative date range means something else later on, so its matches are not kept.
        relative = "DateRange" in repr(filters)
        cache_key = f"{question}/{now:%H%M}" if relative else question
        if self._moving is not None:
            page = self._moving.page(compiled, position, size)
        elif order:
            page = self.store.sorted_page(compiled, cache_key, day, position, size, order)
        else:
            page = self.store.page(compiled, cache_key, day, position, size)
        body = [b'{"Findings":[', b",".join(page.findings), b"]"]
        if page.next_position is not None:
            token = page_tokens.issue(question, page.next_position, now)
            body.append(f',"NextToken":"{token}"'.encode())
        body.append(b"}")
        return b"".join(body)

    def batch_import(self, params: dict[str, Any], region: str, caller: str) -> Reply:
        """Take in findings; each is judged by itself, and the key is product and id.

        What the caller may not send at all is refused as a whole, with AccessDeniedException:
        findings of a service of AWS, of another account, of a product that is not enabled.
        """
        findings = params.get("Findings")
        if not isinstance(findings, list) or not 1 <= len(findings) <= MAX_IMPORT:
            raise invalid_input(message=f"Findings must hold 1 to {MAX_IMPORT} findings")
        for finding in findings:
            self._check_sender(finding, region, caller)
        now = _text_time(self._clock.now())
        failed = []
        for finding in findings:
            problem = _import_problem(finding, region)
            if problem:
                name = str(finding.get("Id", "")) if isinstance(finding, dict) else ""
                failed.append({"Id": name, "ErrorCode": "InvalidInput", "ErrorMessage": problem})
            else:
                defaults = {"Region": region, "ProductName": _product_name(finding["ProductArn"])}
                self.store.add({**defaults, **finding}, now)
        return {
            "FailedCount": len(failed),
            "SuccessCount": len(findings) - len(failed),
            "FailedFindings": failed,
        }

    def batch_update(self, params: dict[str, Any], _region: str) -> Reply:
        """Set workflow, note, severity and the like on findings, imported or not."""
        allowed = {
            "FindingIdentifiers",
            "Note",
            "Severity",
            "Workflow",
            "UserDefinedFields",
            "VerificationState",
            "Confidence",
            "Criticality",
            "Types",
        }
        self._known(params, allowed)
        identifiers = params.get("FindingIdentifiers")
        if not isinstance(identifiers, list) or not 1 <= len(identifiers) <= MAX_UPDATE:
            raise invalid_input(
                message=f"FindingIdentifiers must hold 1 to {MAX_UPDATE} identifiers"
            )
        members = {k: v for k, v in params.items() if k != "FindingIdentifiers"}
        workflow = members.get("Workflow", {}).get("Status", "NEW")
        if workflow not in _WORKFLOW_STATUSES:
            raise invalid_input(message=f"Workflow.Status {workflow!r} is unknown")
        now = self._clock.now()
        if "Note" in members:
            members["Note"] = {**members["Note"], "UpdatedAt": _text_time(now)}
        processed, unprocessed = [], []
        for identifier in identifiers:
            key = (identifier.get("ProductArn", ""), identifier.get("Id", ""))
            if self.store.update(key, members, now.date()):
                processed.append({"Id": key[1], "ProductArn": key[0]})
            else:
                unprocessed.append(
                    {
                        "FindingIdentifier": {"Id": key[1], "ProductArn": key[0]},
                        "ErrorCode": "FindingNotFound",
                        "ErrorMessage": "Finding does not exist",
                    }
                )
        return {"ProcessedFindings": processed, "UnprocessedFindings": unprocessed}

    # The hub

    def describe_hub(self, _params: dict[str, Any], region: str) -> Reply:
        """Return the hub of the audit account in a region."""
        generators = self._organization.finding_generators(self._clock.now().date())
        consolidated = "SECURITY_CONTROL" in generators
        return {
            "HubArn": f"arn:aws:securityhub:{region}:{self._audit}:hub/default",
            "SubscribedAt": _SUBSCRIBED,
            "AutoEnableControls": True,
            "ControlFindingGenerator": "SECURITY_CONTROL" if consolidated else "STANDARD_CONTROL",
        }

    def describe_unified_hub(self, _params: dict[str, Any], region: str) -> Reply:
        """Return the unified hub of the audit account, if it is enabled."""
        since = self._settings.unified_hub_since
        if since is None or self._clock.now().date() < since:
            raise ServiceError(
                code="ResourceNotFoundException",
                message="Account is not subscribed to Security Hub",
                status=404,
            )
        return {
            "HubV2Arn": f"arn:aws:securityhub:{region}:{self._audit}:hubv2/default",
            "SubscribedAt": f"{since.isoformat()}T09:00:00.000Z",
        }

    def enable_security_hub(self, _params: dict[str, Any], _region: str) -> Reply:
        """Refuse: the hub is enabled."""
        raise ServiceError(
            code="ResourceConflictException",
            message="Account is already subscribed to Security Hub",
            status=409,
        )

    def _check_sender(self, finding: object, region: str, caller: str) -> None:
        if not isinstance(finding, dict) or not isinstance(finding.get("ProductArn"), str):
            return
        product = finding["ProductArn"]
        name = product.partition(":product/")[2]
        account = finding.get("AwsAccountId")
        if name == f"{caller}/default":
            enabled = product.split(":")[4] == caller
        else:
            with self._lock:
                enabled = _subscription_arn(name, region, caller) in self._subscriptions
        # One that is not in the format is refused by itself, with what is wrong.
        other = _is_account_id(account) and account != caller
        if not name or (enabled and not other):
            return
        raise ServiceError(
            code="AccessDeniedException",
            message=f"User: arn:aws:iam::{caller}:root is not authorized to perform: "
            f"securityhub:BatchImportFindings on resource: {product}",
            status=403,
        )

    def enable_import(self, params: dict[str, Any], region: str, caller: str) -> Reply:
        """Let a product send findings of the account that asks."""
        product = str(params.get("ProductArn", ""))
        if ":product/" not in product:
            raise invalid_input(message=f"ProductArn {product!r} is not the ARN of a product")
        name = product.partition(":product/")[2]
        if name.startswith("aws/"):
            raise invalid_input(message=f"{name} is a service of AWS, which needs no subscription")
        arn = _subscription_arn(name, region, caller)
        with self._lock:
            if arn in self._subscriptions:
                raise ServiceError(
                    code="ResourceConflictException",
                    message="Product subscription already exists",
                    status=409,
                )
            self._subscriptions.append(arn)
        return {"ProductSubscriptionArn": arn}

    def list_enabled_products(self, params: dict[str, Any], region: str, caller: str) -> Reply:
        """Return the products whose findings of the account that asks are taken in."""
        prefix = _subscription_arn("", region, caller)
        with self._lock:
            sent = [arn for arn in self._subscriptions if arn.startswith(prefix)]
        arns = [prefix + "aws/securityhub", prefix + "aws/config", *sent]
        return self._paged("ListEnabledProducts", params, arns, "ProductSubscriptions")

    def list_members(self, params: dict[str, Any], _region: str) -> Reply:
        """Return the organization's other accounts."""
        return self._paged("ListMembers", params, self._members(), "Members", maximum=50)

    def get_members(self, params: dict[str, Any], _region: str) -> Reply:
        """Return the members that a request names."""
        asked = params.get("AccountIds")
        if not isinstance(asked, list) or not asked:
            raise invalid_input(message="AccountIds must be a list of account ids")
        known = {member["AccountId"]: member for member in self._members()}
        return {
            "Members": [known[name] for name in asked if name in known],
            "UnprocessedAccounts": [
                {
                    "AccountId": name,
                    "ProcessingResult": "The account is not a member of this administrator",
                }
                for name in asked
                if name not in known
            ],
        }

    def describe_organization_configuration(self, _params: dict[str, Any], _region: str) -> Reply:
        """Return that the organization is configured centrally."""
        return {
            "AutoEnable": False,
            "AutoEnableStandards": "NONE",
            "MemberAccountLimitReached": False,
            "OrganizationConfiguration": {"ConfigurationType": "CENTRAL", "Status": "ENABLED"},
        }

    def _members(self) -> list[dict[str, Any]]:
        return [
            {
                "AccountId": a.account_id,
                "Email": a.email,
                "MasterId": self._audit,
                "AdministratorId": self._audit,
                "MemberStatus": "Enabled" if a.state == "ACTIVE" else "AccountSuspended",
                "InvitedAt": f"{a.joined.isoformat()}T00:00:00Z",
                "UpdatedAt": f"{a.joined.isoformat()}T00:00:00Z",
            }
            for a in self._organization.reporting_accounts(self._clock.now().date())
            if a.account_id != self._audit
        ]

    def get_administrator(self, _params: dict[str, Any], _region: str) -> Reply:
        """Return nothing: the audit account is the administrator itself."""
        return {}

    def list_aggregators(self, _params: dict[str, Any], _region: str) -> Reply:
        """Return the one aggregator, of the home region."""
        return {"FindingAggregators": [{"FindingAggregatorArn": self._aggregator_arn}]}

    def get_aggregator(self, params: dict[str, Any], _region: str) -> Reply:
        """Return which regions are linked."""
        if params.get("FindingAggregatorArn") != self._aggregator_arn:
            raise ServiceError(
                code="ResourceNotFoundException", message="No such finding aggregator", status=404
            )
        return {
            "FindingAggregatorArn": self._aggregator_arn,
            "FindingAggregationRegion": self._settings.home_region,
            "RegionLinkingMode": "SPECIFIED_REGIONS",
            "Regions": list(self._settings.regions[1:]),
        }

    # Standards and controls

    def get_enabled_standards(self, params: dict[str, Any], region: str) -> Reply:
        """Return the subscriptions of the audit account."""
        wanted = params.get("StandardsSubscriptionArns")
        items: list[dict[str, Any]] = [
            {
                "StandardsSubscriptionArn": self._subscription_arn(standard, region),
                "StandardsArn": standard_arn(standard, region),
                "StandardsInput": {},
                "StandardsStatus": "PENDING" if self._is_pending(standard) else "READY",
                "StandardsControlsUpdatable": (
                    "NOT_READY_FOR_UPDATES" if self._is_pending(standard) else "READY_FOR_UPDATES"
                ),
            }
            for standard in self._enabled()
            if not wanted or self._subscription_arn(standard, region) in wanted
        ]
        return self._paged("GetEnabledStandards", params, items, "StandardsSubscriptions")

    def describe_standards(self, params: dict[str, Any], region: str) -> Reply:
        """Return every standard there is, enabled or not."""
        items = [
            {
                "StandardsArn": standard_arn(standard, region),
                "Name": name,
                "Description": f"Controls of {name}, simulated.",
                "EnabledByDefault": standard == FSBP,
                **_managed_by(standard),
            }
            for standard, name in STANDARDS.items()
        ]
        return self._paged("DescribeStandards", params, items, "Standards")

    def list_definitions(self, params: dict[str, Any], region: str) -> Reply:
        """Return the controls that AWS offers today, all or those of a standard."""
        self._known(params, {"StandardsArn", "NextToken", "MaxResults", "Providers"})
        controls = self._live()
        arn = params.get("StandardsArn")
        if arn:
            standard = self._standard_of_arn(arn, region)
            controls = [c for c in controls if standard in c.standards]
        items = [self._definition(c) for c in controls]
        return self._paged(
            "ListSecurityControlDefinitions", params, items, "SecurityControlDefinitions", arn=arn
        )

    def get_definition(self, params: dict[str, Any], _region: str) -> Reply:
        """Return one control."""
        control = self._by_id().get(str(params.get("SecurityControlId")))
        if control is None:
            raise ServiceError(
                code="ResourceNotFoundException", message="No such security control", status=404
            )
        return {"SecurityControlDefinition": self._definition(control)}

    def batch_get_associations(self, params: dict[str, Any], region: str) -> Reply:
        """Return whether controls are enabled in standards, in the audit account."""
        asked = params.get("StandardsControlAssociationIds")
        if not isinstance(asked, list) or not 1 <= len(asked) <= MAX_ASSOCIATIONS:
            raise invalid_input(
                message=f"StandardsControlAssociationIds must hold 1 to {MAX_ASSOCIATIONS} of them"
            )
        known = self._by_id()
        details, unprocessed = [], []
        for pair in asked:
            control = known.get(pair.get("SecurityControlId", ""))
            standard = _standard_or_none(pair.get("StandardsArn", ""), region)
            not_there = standard not in self._enabled() or self._is_pending(standard)
            if control is None or standard not in control.standards or not_there:
                unprocessed.append(
                    {
                        "StandardsControlAssociationId": pair,
                        "ErrorCode": "RESOURCE_NOT_FOUND",
                        "ErrorReason": "The control is not part of a standard that is ready",
                    }
                )
                continue
            association = self._association(control, standard, region)
            association["StandardsControlArns"] = [
                f"arn:aws:securityhub:{region}:{self._audit}:control/"
                f"{standard_path(standard)}/{rule}"
                for rule in control.rules_of(standard)
            ]
            details.append(association)
        return {
            "StandardsControlAssociationDetails": details,
            "UnprocessedAssociations": unprocessed,
        }

    def list_associations(self, params: dict[str, Any], region: str) -> Reply:
        """Return the enabled standards that have a control."""
        name = params.get("SecurityControlId")
        control = self._by_id().get(str(name))
        if control is None:
            raise invalid_input(message=f"SecurityControlId {name!r} is unknown")
        items = [
            self._association(control, standard, region)
            for standard in control.standards
            if standard in ENABLED_STANDARDS
        ]
        return self._paged(
            "ListStandardsControlAssociations",
            params,
            items,
            "StandardsControlAssociationSummaries",
            control=name,
        )

    def describe_standards_controls(self, params: dict[str, Any], region: str) -> Reply:
        """Return the rules of an enabled standard, by the standard's own numbers."""
        arn = params.get("StandardsSubscriptionArn", "")
        found = [s for s in self._enabled() if self._subscription_arn(s, region) == arn]
        if not found:
            raise ServiceError(
                code="ResourceNotFoundException", message=f"{arn} is not subscribed", status=404
            )
        standard = found[0]
        items = []
        for control in self._live():
            if standard not in control.standards:
                continue
            association = self._association(control, standard, region)
            for rule in control.rules_of(standard):
                definition = self._definition(control)
                items.append(
                    {
                        "StandardsControlArn": (
                            f"arn:aws:securityhub:{region}:{self._audit}:control/"
                            f"{standard_path(standard)}/{rule}"
                        ),
                        "ControlStatus": association["AssociationStatus"],
                        "ControlStatusUpdatedAt": association["UpdatedAt"],
                        "ControlId": rule,
                        "Title": control.title,
                        "Description": definition["Description"],
                        "RemediationUrl": definition["RemediationUrl"],
                        "SeverityRating": control.severity,
                        "RelatedRequirements": [],
                    }
                )
                if association["AssociationStatus"] == "DISABLED":
                    items[-1]["DisabledReason"] = association["UpdatedReason"]
        return self._paged(
            "DescribeStandardsControls", params, items, "Controls", default=MAX_PAGE, arn=arn
        )

    def batch_get_controls(self, params: dict[str, Any], region: str) -> Reply:
        """Return controls with their status in the audit account."""
        asked = params.get("SecurityControlIds")
        if not isinstance(asked, list) or not 1 <= len(asked) <= MAX_ASSOCIATIONS:
            raise invalid_input(message=f"SecurityControlIds must hold 1 to {MAX_ASSOCIATIONS} ids")
        known = self._by_id()
        found, unprocessed = [], []
        for name in asked:
            control = known.get(str(name).rpartition("/")[2])
            if control is None:
                unprocessed.append(
                    {
                        "SecurityControlId": name,
                        "ErrorCode": "NOT_FOUND",
                        "ErrorReason": "No such security control",
                    }
                )
                continue
            definition = self._definition(control)
            del definition["CurrentRegionAvailability"]
            del definition["CustomizableProperties"]
            enabled = any(
                self._association(control, s, region)["AssociationStatus"] == "ENABLED"
                for s in control.standards
            )
            found.append(
                {
                    **definition,
                    "SecurityControlArn": self._control_arn(control, region),
                    "SecurityControlStatus": "ENABLED" if enabled else "DISABLED",
                    "UpdateStatus": "READY",
                    "Parameters": {},
                }
            )
        return {"SecurityControls": found, "UnprocessedIds": unprocessed}

    # Shared by several operations

    @property
    def _audit(self) -> str:
        return self._organization.audit_account_id

    @property
    def _aggregator_arn(self) -> str:
        home = self._settings.home_region
        name = stable_hash.uuid_text(f"{self._settings.seed}/aggregator")
        return f"arn:aws:securityhub:{home}:{self._audit}:finding-aggregator/{name}"

    def _live(self) -> list[Control]:
        return list(self._organization.live_controls(self._clock.now().date()))

    def _by_id(self) -> dict[str, Control]:
        return {c.control_id: c for c in self._live()}

    def _control_arn(self, control: Control, region: str) -> str:
        return f"arn:aws:securityhub:{region}:{self._audit}:security-control/{control.control_id}"

    def _enabled(self) -> list[str]:
        """The standards that are on in the audit account."""
        off = self._settings.standards_off
        return [each for each in ENABLED_STANDARDS if standard_path(each) not in off]

    def _is_pending(self, standard: str) -> bool:
        """Whether AWS is still enabling a standard in the audit account today."""
        is_day = self._clock.now().date() in self._settings.pending_on
        return is_day and standard_path(standard) in self._settings.standards_pending

    def _subscription_arn(self, standard: str, region: str) -> str:
        path = standard_path(standard)
        return f"arn:aws:securityhub:{region}:{self._audit}:subscription/{path}"

    def _standard_of_arn(self, arn: str, region: str) -> str:
        standard = _standard_or_none(arn, region)
        if standard is None:
            raise invalid_input(message=f"StandardsArn {arn!r} is unknown")
        return standard

    def _definition(self, control: Control) -> dict[str, Any]:
        name = control.control_id
        return {
            "SecurityControlId": name,
            "Title": control.title,
            "Description": f"Looks at every {control.resource_type}: {control.title}.",
            "RemediationUrl": f"https://docs.aws.amazon.com/console/securityhub/{name}/remediation",
            "SeverityRating": control.severity,
            "CurrentRegionAvailability": "AVAILABLE",
            "CustomizableProperties": [],
        }

    def _association(self, control: Control, standard: str, region: str) -> dict[str, Any]:
        name = control.control_id
        off = (
            standard not in self._enabled()
            or name in DISABLED_CONTROLS
            or name in DISABLED_IN_AUDIT
            or (name, standard) in DISABLED_ASSOCIATIONS
        )
        association: dict[str, Any] = {
            "StandardsArn": standard_arn(standard, region),
            "SecurityControlId": name,
            "SecurityControlArn": self._control_arn(control, region),
            "AssociationStatus": "DISABLED" if off else "ENABLED",
            "RelatedRequirements": [
                f"{standard_path(standard).replace('/v/', ' v')}/{rule}"
                for rule in control.standard_rules.get(standard, ())
            ],
            "UpdatedAt": "2024-02-01T08:00:00.000Z",
            "StandardsControlTitle": control.title,
            "StandardsControlDescription": f"Looks at every {control.resource_type}.",
        }
        if off:
            association["UpdatedReason"] = "Switched off by the organization's policy"
        return association

    def _known(self, params: dict[str, Any], allowed: set[str]) -> None:
        unknown = sorted(set(params) - allowed)
        if unknown:
            raise invalid_input(
                message=f"{unknown[0]} is not simulated or no parameter of this operation"
            )

    def _page_size(self, params: dict[str, Any], maximum: int, default: int) -> int:
        value = params.get("MaxResults", default)
        try:
            size = int(value)
        except (TypeError, ValueError):
            size = 0
        if not 1 <= size <= maximum:
            raise invalid_input(message=f"MaxResults {value!r} must be from 1 to {maximum}")
        return size

    def _position(
        self, params: dict[str, Any], question: str, now: dt.datetime, start: list[int]
    ) -> list[int]:
        token = params.get("NextToken")
        if not token:
            return start
        try:
            lifetime = self._settings.token_lifetime_seconds
            position = page_tokens.read(token, question, now, lifetime)
        except page_tokens.TokenError as error:
            raise invalid_input(message=str(error)) from error
        if len(position) != len(start):
            raise invalid_input(message="Invalid NextToken: the token is malformed")
        return position

    def _paged(
        self,
        operation: str,
        params: dict[str, Any],
        items: list[Any],
        member: str,
        *,
        maximum: int = MAX_PAGE,
        default: int = _DEFAULT_PAGE,
        **asked: object,
    ) -> dict[str, Any]:
        now = self._clock.now()
        size = self._page_size(params, maximum, default)
        question = page_tokens.question_hash(operation, asked)
        (start,) = self._position(params, question, now, [0])
        reply: dict[str, Any] = {member: items[start : start + size]}
        if start + size < len(items):
            reply["NextToken"] = page_tokens.issue(question, [start + size], now)
        return reply


def _in_region(compiled: CompiledFilter, region: str) -> CompiledFilter:
    inner = compiled.finding
    return compiled._replace(finding=lambda f: f.get("Region") == region and inner(f))


def _standard_or_none(arn: str, region: str) -> str | None:
    return next((s for s in STANDARDS if standard_arn(s, region) == arn), None)


def _managed_by(standard: str) -> dict[str, Any]:
    """Return who manages a standard, if it is a service."""
    if standard != CONTROL_TOWER:
        return {}
    return {"StandardsManagedBy": {"Company": "AWS", "Product": "Control Tower"}}


def _product_name(product_arn: str) -> str:
    return product_arn.rpartition("/")[2]


def _text_time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _subscription_arn(product: str, region: str, account: str) -> str:
    return f"arn:aws:securityhub:{region}:{account}:product-subscription/{product}"


def _is_account_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 12 and value.isdigit()


def _import_problem(finding: object, region: str) -> str | None:
    """Return what keeps a finding from being taken in; None if nothing does."""
    import msgspec

    if not isinstance(finding, dict):
        return "Finding is not a structure"
    missing = [m for m in _REQUIRED if not finding.get(m)]
    if missing:
        return _MISSING_MEMBER.format(missing[0])
    if finding["SchemaVersion"] != "2018-10-08":
        return "Finding does not adhere to Amazon Finding Format. SchemaVersion must be 2018-10-08."
    if not _is_account_id(finding["AwsAccountId"]):
        return "AwsAccountId must be twelve digits"
    arn = finding["ProductArn"]
    if not isinstance(arn, str) or ":product/" not in arn:
        return "ProductArn is not the ARN of a product"
    if arn.split(":")[3] not in ("", region):
        return f"ProductArn belongs to another region than {region}"
    if "Severity" not in finding and "FindingProviderFields" not in finding:
        return _MISSING_MEMBER.format("Severity")
    for member in ("CreatedAt", "UpdatedAt"):
        moment = finding[member]
        if not isinstance(moment, str) or parse_time(moment) is None:
            return f"{member} is not a timestamp"
    for resource in finding["Resources"]:
        if not isinstance(resource, dict) or not resource.get("Type") or not resource.get("Id"):
            return "Resources need a Type and an Id"
    if len(msgspec.json.encode(finding)) > _MAX_FINDING_BYTES:
        return "Finding is larger than 240 KB"
    return None
