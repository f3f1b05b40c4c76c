"""AWS Config as the audit account sees it: its own packs and rules, and the aggregator's view."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from posture_pipeline.simulation import page_tokens, stable_hash
from posture_pipeline.simulation.aws_errors import ServiceError
from posture_pipeline.simulation.catalogue import (
    CUSTOM_RULES,
    PACKS,
    RESOURCE_TYPES,
    ConfigRule,
)
from posture_pipeline.simulation.checks import deployed_packs
from posture_pipeline.simulation.rendering import (
    config_rule_arn,
    config_rule_name,
    conformance_pack_id,
    conformance_pack_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from posture_pipeline.simulation.accounts import Account
    from posture_pipeline.simulation.checks import Observation
    from posture_pipeline.simulation.clock import SimulatedClock
    from posture_pipeline.simulation.organization import SimulatedOrganization

MAX_COMPLIANCE_PAGE = 1000
"""Rules a page (AWS: DescribeConformancePackCompliance Limit)."""
MAX_DETAILS_PAGE = 100
"""Evaluations a page (AWS: GetConformancePackComplianceDetails Limit)."""
AGGREGATOR = "organization-aggregator"
"""Name of the configuration aggregator in the home region, over all accounts and regions."""
MAX_AGGREGATE_PAGE = 100
"""Packs a page (AWS: DescribeAggregateComplianceByConformancePacks Limit)."""
MAX_SCORE_NAMES = 25
"""Packs of one request (AWS: ConformancePackComplianceScoresFilters)."""
MAX_SUMMARY_NAMES = 5
"""Packs of one request (AWS: GetConformancePackComplianceSummary)."""
MAX_PACKS_PAGE = 20
"""Packs a page (AWS: DescribeConformancePacks Limit)."""
_RULES_PAGE = 25
_TOKEN_LIFETIME_SECONDS = 86_400
_NEVER_EVALUATED = frozenset({"lz-rds-backup", "lz-backup-plan"})
"""Rules that have a resource only where one was reported; elsewhere INSUFFICIENT_DATA."""
_COMPLIANT_RESOURCES = 3
_UPDATED = dt.datetime(2026, 1, 15, 9, 30, tzinfo=dt.UTC).timestamp()


class Config:
    """The operations; each method of `operations()` takes parameters and a region."""

    def __init__(self, organization: SimulatedOrganization, clock: SimulatedClock) -> None:
        self._organization = organization
        self._seed = organization.settings.seed
        self._clock = clock

    def operations(self) -> dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]:
        """Return every operation that is simulated, by its name."""
        return {
            "DescribeConformancePacks": self.describe_packs,
            "DescribeConformancePackStatus": self.describe_pack_status,
            "DescribeOrganizationConformancePacks": self.describe_organization_packs,
            "DescribeOrganizationConfigRules": self.describe_organization_rules,
            "DescribeConformancePackCompliance": self.describe_pack_compliance,
            "GetConformancePackComplianceDetails": self.get_pack_details,
            "ListConformancePackComplianceScores": self.list_pack_scores,
            "GetConformancePackComplianceSummary": self.get_pack_summary,
            "DescribeAggregateComplianceByConformancePacks": self.describe_aggregate_packs,
            "DescribeConfigurationAggregators": self.describe_aggregators,
            "DescribeConfigRules": self.describe_rules,
            "DescribeComplianceByConfigRule": self.describe_compliance_by_rule,
            "GetComplianceDetailsByConfigRule": self.get_rule_details,
        }

    # Packs

    def describe_packs(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the packs of the audit account: those of the organization."""
        details: list[dict[str, Any]] = [
            {
                **self._pack_identity(pack, region),
                "ConformancePackInputParameters": [],
                "LastUpdateRequestedTime": _UPDATED,
                "CreatedBy": "config-multiaccountsetup.amazonaws.com",
            }
            for pack in self._asked_packs(params, region)
        ]
        return self._page("DescribeConformancePacks", params, details, "ConformancePackDetails")

    def describe_pack_status(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return whether the packs are deployed."""
        details: list[dict[str, Any]] = [
            {
                **self._pack_identity(pack, region),
                "ConformancePackState": "CREATE_COMPLETE",
                "LastUpdateRequestedTime": _UPDATED,
                "LastUpdateCompletedTime": _UPDATED + 90,
            }
            for pack in self._asked_packs(params, region)
        ]
        return self._page(
            "DescribeConformancePackStatus", params, details, "ConformancePackStatusDetails"
        )

    def describe_organization_packs(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the packs that were deployed to the organization."""
        asked = params.get("OrganizationConformancePackNames") or self._packs
        if not set(asked) <= set(self._packs):
            raise ServiceError(
                code="NoSuchOrganizationConformancePackException",
                message="No such conformance pack",
            )
        details: list[dict[str, Any]] = [
            {
                "OrganizationConformancePackName": pack,
                "OrganizationConformancePackArn": (
                    f"arn:aws:config:{region}:{self._audit}:organization-conformance-pack/"
                    f"{pack}-{stable_hash.letters(8, self._seed, region, pack)}"
                ),
                "ConformancePackInputParameters": [],
                "ExcludedAccounts": [],
                "LastUpdateTime": _UPDATED,
            }
            for pack in asked
        ]
        return self._page(
            "DescribeOrganizationConformancePacks",
            params,
            details,
            "OrganizationConformancePacks",
        )

    def describe_organization_rules(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the custom rules that were deployed to the organization."""
        names = {rule.name for rule in CUSTOM_RULES}
        asked = params.get("OrganizationConfigRuleNames") or sorted(names)
        if not set(asked) <= names:
            raise ServiceError(code="NoSuchOrganizationConfigRuleException", message="No such rule")
        items = [
            {
                "OrganizationConfigRuleName": name,
                "OrganizationConfigRuleArn": (
                    f"arn:aws:config:{region}:{self._audit}:organization-config-rule/{name}-"
                    f"{stable_hash.letters(8, self._seed, region, name)}"
                ),
                "ExcludedAccounts": [],
                "LastUpdateTime": _UPDATED,
            }
            for name in asked
        ]
        return self._page(
            "DescribeOrganizationConfigRules", params, items, "OrganizationConfigRules"
        )

    def describe_pack_compliance(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return one row a rule of the pack, rules that were never evaluated included."""
        pack = self._asked_pack(params, region)
        wanted = self._wanted_rules(params, region, pack)
        kind = (params.get("Filters") or {}).get("ComplianceType")
        rows = []
        for rule in PACKS[pack]:
            name, compliance = self._name(rule, region), self._compliance(rule, region)
            if (wanted and name not in wanted) or (kind and compliance != kind):
                continue
            rows.append({"ConfigRuleName": name, "ComplianceType": compliance, "Controls": []})
        reply = self._page(
            "DescribeConformancePackCompliance",
            params,
            rows,
            "ConformancePackRuleComplianceList",
            maximum=MAX_COMPLIANCE_PAGE,
            default=5,
        )
        return {"ConformancePackName": self._deployed(pack, region), **reply}

    def get_pack_details(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return one row an evaluation; rules without resources do not appear."""
        pack = self._asked_pack(params, region)
        wanted = self._wanted_rules(params, region, pack)
        filters = params.get("Filters") or {}
        rows = [
            row
            for rule in PACKS[pack]
            if not wanted or self._name(rule, region) in wanted
            for row in self._evaluations(rule, region)
            if row["ComplianceType"] == filters.get("ComplianceType", row["ComplianceType"])
        ]
        reply = self._page(
            "GetConformancePackComplianceDetails",
            params,
            rows,
            "ConformancePackRuleEvaluationResults",
            maximum=MAX_DETAILS_PAGE,
            default=10,
        )
        return {"ConformancePackName": self._deployed(pack, region), **reply}

    def list_pack_scores(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return Config's own score: the share of compliant rule and resource combinations."""
        names = (params.get("Filters") or {}).get("ConformancePackNames")
        if names is not None and not 1 <= len(names) <= MAX_SCORE_NAMES:
            message = f"ConformancePackNames must have 1 to {MAX_SCORE_NAMES} names"
            raise ServiceError(code="InvalidParameterValueException", message=message)
        scores = []
        for pack in self._packs:
            rows = [row for rule in PACKS[pack] for row in self._evaluations(rule, region)]
            good = sum(row["ComplianceType"] == "COMPLIANT" for row in rows)
            score = {
                "Score": f"{100 * good / len(rows):.2f}" if rows else "INSUFFICIENT_DATA",
                "ConformancePackName": self._deployed(pack, region),
                "LastUpdatedTime": self._midnight(),
            }
            if not names or score["ConformancePackName"] in names:
                scores.append(score)
        return self._page(
            "ListConformancePackComplianceScores", params, scores, "ConformancePackComplianceScores"
        )

    def get_pack_summary(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the compliance of the packs that a request names."""
        names = params.get("ConformancePackNames")
        if not isinstance(names, list) or not 1 <= len(names) <= MAX_SUMMARY_NAMES:
            message = f"ConformancePackNames must have 1 to {MAX_SUMMARY_NAMES} names"
            raise ServiceError(code="ValidationException", message=message)
        items = [
            {
                "ConformancePackName": self._deployed(pack, region),
                "ConformancePackComplianceStatus": _overall(
                    [self._compliance(rule, region) for rule in PACKS[pack]]
                ),
            }
            for pack in self._asked_packs(params, region)
        ]
        return self._page(
            "GetConformancePackComplianceSummary",
            params,
            items,
            "ConformancePackComplianceSummaryList",
        )

    def describe_aggregators(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the aggregator of the home region; other regions have none."""
        home = region == self._organization.settings.home_region
        names = [AGGREGATOR] if home else []
        asked = params.get("ConfigurationAggregatorNames") or names
        unknown = [name for name in asked if name not in names]
        if unknown:
            raise ServiceError(
                code="NoSuchConfigurationAggregatorException",
                message=f"The configuration aggregator '{unknown[0]}' does not exist.",
            )
        suffix = stable_hash.letters(8, self._seed, region, AGGREGATOR)
        items = [
            {
                "ConfigurationAggregatorName": name,
                "ConfigurationAggregatorArn": f"arn:aws:config:{region}:{self._audit}:"
                f"config-aggregator/config-aggregator-{suffix}",
                "OrganizationAggregationSource": {
                    "RoleArn": f"arn:aws:iam::{self._audit}:role/config-aggregator",
                    "AllAwsRegions": True,
                },
                "CreationTime": _UPDATED,
                "LastUpdatedTime": _UPDATED,
            }
            for name in asked
        ]
        return self._page(
            "DescribeConfigurationAggregators",
            params,
            items,
            "ConfigurationAggregators",
            maximum=MAX_AGGREGATE_PAGE,
        )

    def describe_aggregate_packs(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the pack of every account and region, in rules; an empty page now and then."""
        name = params.get("ConfigurationAggregatorName")
        if name != AGGREGATOR or region != self._organization.settings.home_region:
            raise ServiceError(
                code="NoSuchConfigurationAggregatorException",
                message=f"The configuration aggregator '{name}' does not exist.",
            )
        filters = params.get("Filters") or {}
        unknown = set(filters) - {"ConformancePackName", "ComplianceType", "AccountId", "AwsRegion"}
        if unknown:
            message = f"Filters.{sorted(unknown)[0]} is no filter of this call"
            raise ServiceError(code="ValidationException", message=message)
        today = self._clock.now().date()
        rows = [
            row
            for account in self._organization.accounts(today)
            for place in self._organization.settings.regions
            if filters.get("AccountId", account.account_id) == account.account_id
            and filters.get("AwsRegion", place) == place
            for row in self._aggregates(account, place)
            if filters.get("ConformancePackName", row["ConformancePackName"])
            == row["ConformancePackName"]
            and filters.get("ComplianceType", row["Compliance"]["ComplianceType"])
            == row["Compliance"]["ComplianceType"]
        ]
        return self._aggregate_page(params, rows)

    def _aggregates(self, account: Account, region: str) -> Iterator[dict[str, Any]]:
        states = self._states(account)
        for pack in self._packs:
            found = [self._compliance(rule, region, account, states) for rule in PACKS[pack]]
            yield {
                "ConformancePackName": conformance_pack_name(
                    pack, account.account_id, region, self._seed
                ),
                "Compliance": {
                    "ComplianceType": _overall(found),
                    "CompliantRuleCount": found.count("COMPLIANT"),
                    "NonCompliantRuleCount": found.count("NON_COMPLIANT"),
                    "TotalRuleCount": len(found),
                },
                "AccountId": account.account_id,
                "AwsRegion": region,
            }

    def _aggregate_page(self, params: dict[str, Any], rows: list[Any]) -> dict[str, Any]:
        """Return a page; between two pages lies an empty one with a token, as AWS may send."""
        member = "AggregateComplianceByConformancePacks"
        size = params.get("Limit") or MAX_AGGREGATE_PAGE
        if not isinstance(size, int) or not 1 <= size <= MAX_AGGREGATE_PAGE:
            message = f"Limit {size!r} must be from 1 to {MAX_AGGREGATE_PAGE}"
            raise ServiceError(code="InvalidLimitException", message=message)
        asked = {k: v for k, v in params.items() if k not in ("NextToken", "Limit")}
        question = page_tokens.question_hash("DescribeAggregateComplianceByPacks", asked)
        now = self._clock.now()
        start, was_empty = 0, 1
        if params.get("NextToken"):
            try:
                start, was_empty = page_tokens.read(
                    params["NextToken"], question, now, _TOKEN_LIFETIME_SECONDS
                )
            except (page_tokens.TokenError, ValueError) as error:
                raise ServiceError(code="InvalidNextTokenException", message=str(error)) from error
        if not was_empty:
            return {member: [], "NextToken": page_tokens.issue(question, [start, 1], now)}
        reply: dict[str, Any] = {member: rows[start : start + size]}
        if start + size < len(rows):
            reply["NextToken"] = page_tokens.issue(question, [start + size, 0], now)
        return reply

    # Rules

    def describe_rules(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the rules of the audit account, a pack's among them."""
        items = [
            {
                "ConfigRuleName": self._name(rule, region),
                "ConfigRuleArn": config_rule_arn(rule.key, self._audit, region, self._seed),
                "ConfigRuleId": config_rule_arn(
                    rule.key, self._audit, region, self._seed
                ).rpartition("/")[2],
                "Description": f"Looks at {rule.resource_type}.",
                "Scope": {"ComplianceResourceTypes": [rule.resource_type]},
                "Source": {
                    "Owner": "CUSTOM_LAMBDA",
                    "SourceIdentifier": f"arn:aws:lambda:{region}:{self._audit}:function:"
                    f"{rule.name}",
                },
                "ConfigRuleState": "ACTIVE",
                "EvaluationModes": [{"Mode": "DETECTIVE"}],
            }
            for rule in self._asked_rules(params, region)
        ]
        return self._page(
            "DescribeConfigRules", params, items, "ConfigRules", default=_RULES_PAGE, limited=False
        )

    def describe_compliance_by_rule(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return the compliance of each rule of the audit account."""
        kinds = params.get("ComplianceTypes")
        items = []
        for rule in self._asked_rules(params, region):
            compliance: dict[str, Any] = {"ComplianceType": self._compliance(rule, region)}
            if kinds and compliance["ComplianceType"] not in kinds:
                continue
            failing = sum(
                row["ComplianceType"] == "NON_COMPLIANT" for row in self._evaluations(rule, region)
            )
            if failing:
                compliance["ComplianceContributorCount"] = {
                    "CappedCount": failing,
                    "CapExceeded": False,
                }
            items.append({"ConfigRuleName": self._name(rule, region), "Compliance": compliance})
        return self._page(
            "DescribeComplianceByConfigRule",
            params,
            items,
            "ComplianceByConfigRules",
            default=_RULES_PAGE,
            limited=False,
        )

    def get_rule_details(self, params: dict[str, Any], region: str) -> dict[str, Any]:
        """Return one row an evaluation of a rule of the audit account."""
        name, kinds = params.get("ConfigRuleName"), params.get("ComplianceTypes")
        (rule,) = self._asked_rules({"ConfigRuleNames": [name]}, region)
        rows = [
            row
            for row in self._evaluations(rule, region)
            if not kinds or row["ComplianceType"] in kinds
        ]
        return self._page(
            "GetComplianceDetailsByConfigRule",
            params,
            rows,
            "EvaluationResults",
            maximum=MAX_DETAILS_PAGE,
            default=10,
        )

    # Shared by several operations

    @property
    def _audit(self) -> str:
        return self._organization.audit_account_id

    def _audit_account(self) -> Account:
        return self._organization.accounts(self._clock.now().date())[0]

    def _midnight(self) -> float:
        day = self._clock.now().date()
        return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()

    @property
    def _packs(self) -> list[str]:
        return deployed_packs(self._organization.settings)

    @property
    def _rules(self) -> list[ConfigRule]:
        return [*(rule for pack in self._packs for rule in PACKS[pack]), *CUSTOM_RULES]

    def _deployed(self, pack: str, region: str) -> str:
        """Return the name of a pack in the audit account."""
        return conformance_pack_name(pack, self._audit, region, self._seed)

    def _pack_identity(self, pack: str, region: str) -> dict[str, Any]:
        name = self._deployed(pack, region)
        pack_id = conformance_pack_id(pack, self._audit, region, self._seed)
        return {
            "ConformancePackName": name,
            "ConformancePackArn": (
                f"arn:aws:config:{region}:{self._audit}:conformance-pack/{name}/{pack_id}"
            ),
            "ConformancePackId": pack_id,
        }

    def _name(self, rule: ConfigRule, region: str) -> str:
        return config_rule_name(rule.key, self._audit, region, self._seed)

    def _states(self, account: Account) -> list[Observation]:
        return list(self._organization.rule_states(account, self._clock.now().date()))

    def _evaluations(
        self,
        rule: ConfigRule,
        region: str,
        account: Account | None = None,
        states: list[Observation] | None = None,
    ) -> list[dict[str, Any]]:
        """Return a row a resource: those that were ever reported, and others that always complied.

        Without an account it is the audit account.
        """
        account = account or self._audit_account()
        found = [
            (
                "NON_COMPLIANT" if seen.status == "FAILED" else "COMPLIANT",
                seen.type_name,
                _resource_id(seen.resource_id),
                dt.datetime.combine(dt.date.fromordinal(seen.since), dt.time(), dt.UTC).timestamp(),
            )
            for seen in (self._states(account) if states is None else states)
            if seen.subject == rule.key and seen.region == region
        ]
        kind = RESOURCE_TYPES.get(rule.resource_type)
        evaluated = rule.name not in _NEVER_EVALUATED
        if kind and evaluated:
            for number in range(_COMPLIANT_RESOURCES):
                name = f"{kind.stem}-{rule.name}-{number}"
                found.append(("COMPLIANT", kind.name, name, self._midnight() - 3400))
        elif not found and evaluated:
            found.append(
                ("COMPLIANT", "AWS::::Account", account.account_id, self._midnight() - 3400)
            )
        return [
            {
                "ComplianceType": compliance,
                "EvaluationResultIdentifier": {
                    "EvaluationResultQualifier": {
                        "ConfigRuleName": config_rule_name(
                            rule.key, account.account_id, region, self._seed
                        ),
                        "ResourceType": type_name,
                        "ResourceId": resource_id,
                        "EvaluationMode": "DETECTIVE",
                    },
                    "OrderingTimestamp": recorded - 200,
                },
                "ConfigRuleInvokedTime": recorded - 100,
                "ResultRecordedTime": recorded,
            }
            for compliance, type_name, resource_id, recorded in found
        ]

    def _compliance(
        self,
        rule: ConfigRule,
        region: str,
        account: Account | None = None,
        states: list[Observation] | None = None,
    ) -> str:
        rows = self._evaluations(rule, region, account, states)
        return _overall([row["ComplianceType"] for row in rows])

    def _asked_packs(self, params: dict[str, Any], region: str) -> list[str]:
        """Return the packs that a request names, or all."""
        by_name = {self._deployed(pack, region): pack for pack in self._packs}
        asked = params.get("ConformancePackNames") or list(by_name)
        unknown = [name for name in asked if name not in by_name]
        if unknown:
            raise ServiceError(
                code="NoSuchConformancePackException",
                message=f"The ConformancePack '{unknown[0]}' does not exist",
            )
        return [by_name[name] for name in asked]

    def _asked_pack(self, params: dict[str, Any], region: str) -> str:
        name = params.get("ConformancePackName")
        return self._asked_packs({"ConformancePackNames": [name]}, region)[0]

    def _wanted_rules(self, params: dict[str, Any], region: str, pack: str) -> set[str]:
        filters = params.get("Filters") or {}
        unknown = set(filters) - {"ConfigRuleNames", "ComplianceType"}
        if unknown:
            message = f"Filters.{sorted(unknown)[0]} is not simulated"
            raise ServiceError(code="InvalidParameterValueException", message=message)
        wanted = set(filters.get("ConfigRuleNames") or ())
        if not wanted <= {self._name(rule, region) for rule in PACKS[pack]}:
            raise ServiceError(
                code="NoSuchConfigRuleInConformancePackException",
                message="No such rule in the pack",
            )
        return wanted

    def _asked_rules(self, params: dict[str, Any], region: str) -> list[ConfigRule]:
        by_name = {self._name(rule, region): rule for rule in self._rules}
        asked = params.get("ConfigRuleNames") or list(by_name)
        unknown = [name for name in asked if name not in by_name]
        if unknown:
            raise ServiceError(
                code="NoSuchConfigRuleException",
                message=f"The ConfigRule '{unknown[0]}' does not exist.",
            )
        return [by_name[name] for name in asked]

    def _page(
        self,
        operation: str,
        params: dict[str, Any],
        items: list[Any],
        member: str,
        *,
        maximum: int = MAX_PACKS_PAGE,
        default: int = MAX_PACKS_PAGE,
        limited: bool = True,
    ) -> dict[str, Any]:
        size = (params.get("Limit") or default) if limited else default
        if not isinstance(size, int) or (not 1 <= size <= maximum and limited):
            message = f"Limit {size!r} must be from 1 to {maximum}"
            raise ServiceError(code="InvalidLimitException", message=message)
        asked = {k: v for k, v in params.items() if k not in ("NextToken", "Limit")}
        question = page_tokens.question_hash(operation, asked)
        now = self._clock.now()
        start = 0
        if params.get("NextToken"):
            try:
                (start,) = page_tokens.read(
                    params["NextToken"], question, now, _TOKEN_LIFETIME_SECONDS
                )
            except (page_tokens.TokenError, ValueError) as error:
                raise ServiceError(code="InvalidNextTokenException", message=str(error)) from error
        reply: dict[str, Any] = {member: items[start : start + size]}
        if start + size < len(items):
            reply["NextToken"] = page_tokens.issue(question, [start + size], now)
        return reply


def _overall(found: list[str]) -> str:
    """Return the compliance of what consists of these: evaluations of a rule, rules of a pack."""
    if "NON_COMPLIANT" in found:
        return "NON_COMPLIANT"
    return "COMPLIANT" if "COMPLIANT" in found else "INSUFFICIENT_DATA"


def _resource_id(arn: str) -> str:
    """Return the id under which Config knows a resource: its own, and not the ARN of a finding."""
    return re.split("[:/]", arn)[-1]
