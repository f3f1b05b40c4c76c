"""What AWS Config itself says of the conformance packs today: scores, rules, what does not comply.

AWS answers for the calling account and one region at a time; a configuration aggregator, where one
is named, answers for all accounts in rules. Comparing it with our figures belongs in
`model.reconcile`. A role that may not read it is no error: the caller goes on and tells why.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from posture_pipeline.aws.clients import AwsClients, PassingAwsError, aws_call, is_passing
from posture_pipeline.aws.controls import (
    PACK_RULES_PAGE,
    find_pack,
    is_deployed_pack,
    required_member,
)
from posture_pipeline.errors import AwsError, CredentialsError
from posture_pipeline.model.controls import canonical_rule_name
from posture_pipeline.schemas import AWS_COMPLIANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date

    from posture_pipeline.settings import Report

SCORES_PAGE = 20
"""Scores of a page at most (AWS: ListConformancePackComplianceScores, Limit)."""
DETAILS_PAGE = 100
"""Evaluations of a page at most (AWS: GetConformancePackComplianceDetails, Limit)."""
AGGREGATE_PAGE = 100
"""Packs of a page at most (AWS: DescribeAggregateComplianceByConformancePacks, Limit)."""

SCORES_ACTION = "config:ListConformancePackComplianceScores"
RULES_ACTION = "config:DescribeConformancePackCompliance"
DETAILS_ACTION = "config:GetConformancePackComplianceDetails"
AGGREGATE_ACTION = "config:DescribeAggregateComplianceByConformancePacks"
ACCOUNT_ACTION = "sts:GetCallerIdentity"

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compliance:
    """What AWS says, and what is missing.

    Attributes:
        frame: As `schemas.AWS_COMPLIANCE`.
        reason: What could not be read and what would help; null when nothing is missing.
    """

    frame: pl.DataFrame
    reason: str | None = None


def aws_compliance(
    clients: AwsClients, reports: Iterable[Report], regions: Sequence[str], *, day: date
) -> Compliance:
    """The compliance of the reports' conformance packs, as AWS Config has it now.

    Every part that is refused is left out and said in the reason.

    Args:
        clients: How AWS is reached; its settings name the configuration aggregator.
        reports: The reports; those of other kinds are left out.
        regions: The regions whose packs are read in the calling account.
        day: The day of the snapshot.

    Raises:
        CredentialsError: There are none, or they expired.
        PassingAwsError: A call failed for a reason that passes by itself.
    """
    packs = [report for report in reports if report.conformance_pack is not None]
    missing: list[str] = []
    rows: list[Row] = []
    if packs:
        account = _try(lambda: _account(clients), missing)
        for report in packs if account else ():
            for region in regions:
                said = {"report": report.name, "account_id": account, "region": region}
                rows += [{**said, **row} for row in _of_account(clients, report, region, missing)]
        rows += _try(lambda: _aggregated(clients, packs), missing) or []
    frame = pl.DataFrame([{"date": day, **row} for row in rows], schema=AWS_COMPLIANCE.schema)
    # A permission that is missing in two regions, or for two packs, is said with its place.
    return Compliance(frame, " ".join(dict.fromkeys(missing)) or None)


def _try(read: Callable[[], T], missing: list[str]) -> T | None:
    """What was read; null, with the reason noted, where AWS refuses it for good."""
    try:
        return read()
    except CredentialsError:
        raise
    except AwsError as error:
        if is_passing(error):
            raise
        missing.append(str(error))
        return None


def _account(clients: AwsClients) -> str:
    with aws_call(ACCOUNT_ACTION, place=clients.region, aws=clients.aws):
        return clients.sts().get_caller_identity()["Account"]


def _of_account(
    clients: AwsClients, report: Report, region: str, missing: list[str]
) -> Iterator[Row]:
    """The rows of one pack of the calling account."""
    name = report.conformance_pack or ""
    pack = _try(lambda: find_pack(clients, name, region), missing)
    if pack is None:
        return
    score = _try(lambda: _score(clients, pack, region), missing)
    if score is not None:
        yield {"aws_name": pack, "source": "list_scores", **score}
    rules = _try(lambda: _rules(clients, pack, region), missing)
    evaluations = _try(lambda: _evaluations(clients, pack, region), missing)
    counts = _counts(evaluations)
    for rule, status in (rules or {}).items():
        no_resources = {"compliant": 0, "non_compliant": 0} if evaluations is not None else {}
        yield {
            "aws_name": pack,
            "control_id": canonical_rule_name(rule),
            "aws_rule_name": rule,
            "status": status,
            "source": "compliance",
            **counts.get(rule, no_resources),
        }
    for rule, resource, status, recorded in evaluations or ():
        if status == "NON_COMPLIANT":
            yield {
                "aws_name": pack,
                "control_id": canonical_rule_name(rule),
                "aws_rule_name": rule,
                "resource_id": resource,
                "status": status,
                "updated_at": recorded,
                "source": "details",
            }


def _score(clients: AwsClients, pack: str, region: str) -> Row | None:
    request = {"Filters": {"ConformancePackNames": [pack]}, "Limit": SCORES_PAGE}
    call = clients.config(region).list_conformance_pack_compliance_scores
    member = "ConformancePackComplianceScores"
    found = None
    with aws_call(SCORES_ACTION, place=f"{region}, {pack}", aws=clients.aws):
        for each in _pages(call, request, member, SCORES_ACTION):
            if each.get("ConformancePackName") == pack:
                found = each
    if found is None:
        return None
    text = str(found.get("Score"))
    return {
        "score": _percent(text),
        "score_text": text,
        "status": None if _percent(text) is not None else text,
        "updated_at": found.get("LastUpdatedTime"),
    }


def _percent(text: str) -> float | None:
    """AWS sends the percentage as text, or INSUFFICIENT_DATA."""
    with suppress(ValueError):
        return float(text.removesuffix("%"))
    return None


def _rules(clients: AwsClients, pack: str, region: str) -> dict[str, str]:
    """The status of every rule of the pack."""
    found: dict[str, str] = {}
    with aws_call(RULES_ACTION, place=f"{region}, {pack}", aws=clients.aws):
        pages = (
            clients.config(region)
            .get_paginator("describe_conformance_pack_compliance")
            .paginate(ConformancePackName=pack, PaginationConfig={"PageSize": PACK_RULES_PAGE})
        )
        for page in pages:
            for rule in required_member(page, "ConformancePackRuleComplianceList", RULES_ACTION):
                found[rule["ConfigRuleName"]] = rule["ComplianceType"]
    return found


def _evaluations(clients: AwsClients, pack: str, region: str) -> list[tuple[str, str, str, Any]]:
    """Rule, resource, status and when it was recorded, of every evaluation of the pack."""
    request = {"ConformancePackName": pack, "Limit": DETAILS_PAGE}
    call = clients.config(region).get_conformance_pack_compliance_details
    member = "ConformancePackRuleEvaluationResults"
    found = []
    with aws_call(DETAILS_ACTION, place=f"{region}, {pack}", aws=clients.aws):
        for each in _pages(call, request, member, DETAILS_ACTION):
            of = each["EvaluationResultIdentifier"]["EvaluationResultQualifier"]
            found.append(
                (
                    of["ConfigRuleName"],
                    of["ResourceId"],
                    each["ComplianceType"],
                    each.get("ResultRecordedTime"),
                )
            )
    return found


def _counts(evaluations: Iterable[tuple[str, str, str, Any]] | None) -> dict[str, Row]:
    """Resources of each rule by status, and its newest evaluation."""
    found: dict[str, Row] = {}
    for rule, _, status, recorded in evaluations or ():
        row = found.setdefault(rule, {"compliant": 0, "non_compliant": 0, "updated_at": recorded})
        if status in ("COMPLIANT", "NON_COMPLIANT"):
            row[status.lower()] += 1
        row["updated_at"] = max(filter(None, (row["updated_at"], recorded)), default=None)
    return found


def _aggregated(clients: AwsClients, reports: Sequence[Report]) -> list[Row]:
    """The packs of all accounts and regions that the aggregator has, in rules."""
    aggregator = clients.aws.config_aggregator
    if aggregator is None:
        return []
    found: list[Any] = []
    with aws_call(AGGREGATE_ACTION, place=f"{clients.region}, {aggregator}", aws=clients.aws):
        # The filter takes one whole name, and the packs of an organization have a random one in
        # each account, so the names are compared here. Empty pages are not the end (AWS: API
        # reference of the call).
        pages = (
            clients.config()
            .get_paginator("describe_aggregate_compliance_by_conformance_packs")
            .paginate(
                ConfigurationAggregatorName=aggregator,
                PaginationConfig={"PageSize": AGGREGATE_PAGE},
            )
        )
        for page in pages:
            found += required_member(
                page, "AggregateComplianceByConformancePacks", AGGREGATE_ACTION
            )
    rows: dict[tuple[str, str, str], Row] = {}
    for report in reports:
        for pack in found:
            row = _aggregated_row(report, pack)
            if row is None:
                continue
            key = (report.name, row["account_id"], row["region"])
            other = rows.get(key)
            # AWS lists deleted packs too, and does not say which they are: the one of the plain
            # name, else with the most rules, is the one that is still evaluated.
            if other is None or _rank(row, report) > _rank(other, report):
                rows[key] = row
    return list(rows.values())


def _aggregated_row(report: Report, pack: Any) -> Row | None:  # noqa: ANN401 - a TypedDict
    own, name = report.conformance_pack or "", pack["ConformancePackName"]
    if name != own and not is_deployed_pack(name, own):
        return None
    compliance = pack.get("Compliance") or {}
    return {
        "report": report.name,
        "account_id": pack["AccountId"],
        "region": pack["AwsRegion"],
        "aws_name": name,
        "status": compliance.get("ComplianceType"),
        "compliant": compliance.get("CompliantRuleCount", 0),
        "non_compliant": compliance.get("NonCompliantRuleCount", 0),
        "total": compliance.get("TotalRuleCount", 0),
        "source": "aggregator",
    }


def _rank(row: Row, report: Report) -> tuple[bool, int, str]:
    return (row["aws_name"] == report.conformance_pack, row["total"], row["aws_name"])


def _pages(call: Callable[..., Any], request: Row, member: str, action: str) -> Iterator[Any]:
    """The items of all pages of a call that botocore has no paginator for."""
    seen: set[str] = set()
    while True:
        reply = call(**request)
        yield from required_member(reply, member, action)
        token = reply.get("NextToken")
        if not token:
            return
        if token in seen:
            message = f"{action}: the same token came twice, which would never end. Run again."
            raise PassingAwsError(message)
        seen.add(token)
        request = {**request, "NextToken": token}
