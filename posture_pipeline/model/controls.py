"""Which control a finding is about, and which findings belong to a report.

Names of Config rules without their random parts, per-standard generator ids, and
`findings_of_report`. What a control's findings add up to belongs in `scoring`; reading JSON belongs
in `asff`.

Sources: AWS Security Hub user guide, pages asff-changes-consolidation (consolidated and
per-standard findings) and securityhub-internal-providers (findings sent by AWS Config).
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from posture_pipeline.model.filters import filter_expression
from posture_pipeline.model.packs import of_pack, pack_copies
from posture_pipeline.schemas import RESOURCE_SEPARATOR, SEPARATOR

if TYPE_CHECKING:
    from posture_pipeline.settings import Report

AWS_PROVIDER = "AWS"
"""The cloud that a resource belongs to, unless its finding says otherwise."""

SECURITY_HUB_PRODUCT = "aws/securityhub"
"""Product of Security Hub's own control findings. Display names change, products do not."""

CONFIG_PRODUCT = "aws/config"
"""Product of the findings sent by AWS Config."""

CONSOLIDATED_PREFIX = "security-control/"
"""How GeneratorId starts when consolidated control findings are on."""

NOT_APPLICABLE = "NOT_APPLICABLE"
"""What AWS Config says of a resource that a rule does not evaluate: deleted, or out of scope."""

RULESETS = frozenset({"cis-aws-foundations-benchmark/v/1.2.0"})
"""Standards whose id starts with `ruleset/`; all others start with `standards/`."""

AGED_OUT_DAYS = 85
"""A finding deleted after 90 days without an update was last seen some days before that."""

_MOST_OLD = 0.5
"""Share of old findings up to which an account and region counts as one where checks run."""

_PACK_SUFFIX = r"-conformance-pack-[a-z0-9]{6,}"
NAMED_PACK_SUFFIX = r"-conformance-pack-([a-z0-9]{6,})$"
"""How the name of a conformance pack's rule ends."""

_PACKS_ARN = ":config-rule/aws-service-rule/config-conforms.amazonaws.com/"
_ORGANIZATIONS_ARN = ":config-rule/aws-service-rule/config-multiaccountsetup.amazonaws.com/"
"""How the ARNs go on of the rules that AWS makes for conformance packs and for organization rules
(AWS managed policies ConfigConformsServiceRolePolicy and AWSConfigMultiAccountSetupPolicy)."""

CONFIG_RULE_ARN = r"^arn:[^:]*:config:[^:]*:[^:]*:config-rule/"
SERVICE_RULE_ARN = CONFIG_RULE_ARN + "aws-service-rule/"
"""The ARN of a rule that AWS made."""
_ORGANIZATION_RULE = r"^OrgConfigRule-(.+)-[a-z0-9]{8}"
_PYTHON_PACK_SUFFIX = re.compile(_PACK_SUFFIX + r"\Z")
_PYTHON_ORGANIZATION_RULE = re.compile("(?s)" + _ORGANIZATION_RULE + r"\Z")

_STANDARD_CONTROL = re.compile(
    r"(?:arn:[^:]*:securityhub:[^:]*:[^:]*:)?"
    r"(?:(?P<kind>standards|ruleset|control|subscription)/)?"
    r"(?P<standard>[a-z0-9-]+/v/[0-9A-Za-z.]+)"
    r"(?:/(?:rule/)?(?P<control>[^/\s]+))?"
)


_SECURITY_CONTROL = r"^[A-Za-z][A-Za-z0-9]*\.[0-9]+$"
"""How a security control id looks, such as S3.1: CIS's 1.1 and PCI's PCI.S3.1 are none."""


class StandardControl(NamedTuple):
    """A control as a per-standard finding names it.

    Attributes:
        standard: AWS's id of the standard, such as `standards/pci-dss/v/3.2.1`.
        control: The standard's own id of the control, such as `PCI.IAM.5`; null if not said.
    """

    standard: str
    control: str | None


def canonical_rule_name(name: str) -> str:
    """The Config rule's own name, without what a deployment adds to it.

    A rule of a conformance pack is deployed as `<name>-conformance-pack-<random>`, a rule of an
    organization as `OrgConfigRule-<name>-<8 random>`; the random parts differ per account and
    region. Nothing else is ever cut off, so that names are compared whole.

    >>> canonical_rule_name("lz-s3-conformance-pack-szsm1uv0w")
    'lz-s3'
    >>> canonical_rule_name("OrgConfigRule-s3-bucket-versioning-enabled-dbgzf8ba")
    's3-bucket-versioning-enabled'
    >>> canonical_rule_name("OrgConfigRule-lz-s3-conformance-pack-szsm1uv0w-dbgzf8ba")
    'lz-s3'
    >>> canonical_rule_name("lz-vpc-flow")
    'lz-vpc-flow'
    """
    name = _PYTHON_PACK_SUFFIX.sub("", name)
    name = _PYTHON_ORGANIZATION_RULE.sub(r"\1", name)
    return _PYTHON_PACK_SUFFIX.sub("", name)


def canonical_rule_name_expression(name: pl.Expr) -> pl.Expr:
    """The same as `canonical_rule_name`, for a column of text."""
    return (
        name.str.replace(_PACK_SUFFIX + r"\z", "")
        .str.replace("(?s)" + _ORGANIZATION_RULE + r"\z", "${1}")
        .str.replace(_PACK_SUFFIX + r"\z", "")
    )


def with_rule_names(findings: pl.DataFrame) -> pl.DataFrame:
    """Adds `rule_name` and `pack_suffix`, found once for each of the few names there are.

    What a deployment adds to a name is cut off only where the rule's ARN says who made the rule: a
    rule of one's own keeps its name, whatever that looks like. Without an ARN the name decides.

    Args:
        findings: config_rule_name, config_rule_arn.

    Returns:
        The findings, rule_name (null where config_rule_name is), and pack_suffix: the random part
        that tells the copies of a conformance pack apart, null if the rule is not a pack's.
    """
    name, arn = pl.col("config_rule_name"), pl.col("config_rule_arn")
    maker = (
        pl.when(arn.str.contains(_PACKS_ARN, literal=True))
        .then(pl.lit("pack"))
        .when(arn.str.contains(_ORGANIZATIONS_ARN, literal=True))
        .then(pl.lit("organization"))
        .when(arn.str.contains(CONFIG_RULE_ARN))
        .then(pl.lit("own"))
        .otherwise(pl.lit("unknown"))
    )
    key = ["config_rule_name", "_maker"]
    findings = findings.with_columns(_maker=maker)
    of_organization = name.str.replace("(?s)" + _ORGANIZATION_RULE + r"\z", "${1}")
    names = (
        findings.select(key)
        .unique()
        .filter(name.is_not_null())
        .with_columns(
            rule_name=pl.when(pl.col("_maker") == "own")
            .then(name)
            .when(pl.col("_maker") == "organization")
            .then(of_organization)
            .when(pl.col("_maker") == "pack")
            .then(name.str.replace(_PACK_SUFFIX + r"\z", ""))
            .otherwise(canonical_rule_name_expression(name)),
            pack_suffix=pl.when(pl.col("_maker") == "pack")
            .then(name.str.extract(NAMED_PACK_SUFFIX))
            .when(pl.col("_maker") == "unknown")
            .then(of_organization.str.extract(NAMED_PACK_SUFFIX)),
        )
    )
    return findings.join(names, on=key, how="left", maintain_order="left").drop("_maker")


def standard_name(standard_id: str) -> str:
    """A standard's id as `Report.standard` is written: without ARN, `standards/` or `ruleset/`.

    >>> standard_name("ruleset/cis-aws-foundations-benchmark/v/1.2.0")
    'cis-aws-foundations-benchmark/v/1.2.0'
    """
    name = standard_id.rpartition(":")[2]
    return name.removeprefix("standards/").removeprefix("ruleset/").strip("/")


def own_control_id(standard: str, control: str) -> str:
    """A standard's own id of a control, so that no other standard's is the same.

    >>> own_control_id("cis-aws-foundations-benchmark/v/1.2.0", "1.1")
    'cis-aws-foundations-benchmark/v/1.2.0/1.1'
    >>> own_control_id("aws-foundational-security-best-practices/v/1.0.0", "S3.1")
    'S3.1'
    """
    return control if re.match(_SECURITY_CONTROL, control) else f"{standard}/{control}"


def own_control_id_expression() -> pl.Expr:
    """The same as `own_control_id`, for the columns of findings."""
    control = pl.col("standard_control_id")
    standard = pl.col("standards").str.replace("^(?:.*:)?(?:standards|ruleset)/", "")
    return (
        pl.when(control.str.contains(_SECURITY_CONTROL))
        .then(control)
        .otherwise(pl.concat_str(standard, pl.lit("/"), control))
    )


def parse_standard_control(text: str) -> StandardControl | None:
    """Reads a per-standard GeneratorId, StandardsArn or StandardsControlArn; null: it is none.

    >>> parse_standard_control("pci-dss/v/3.2.1/PCI.IAM.5")
    StandardControl(standard='standards/pci-dss/v/3.2.1', control='PCI.IAM.5')
    >>> parse_standard_control(
    ...     "arn:aws:securityhub:::ruleset/cis-aws-foundations-benchmark/v/1.2.0/rule/2.5"
    ... )
    StandardControl(standard='ruleset/cis-aws-foundations-benchmark/v/1.2.0', control='2.5')
    >>> parse_standard_control("security-control/S3.1") is None
    True
    """
    match = _STANDARD_CONTROL.fullmatch(text)
    if match is None:
        return None
    standard = match["standard"]
    kind = "ruleset" if match["kind"] == "ruleset" or standard in RULESETS else "standards"
    return StandardControl(f"{kind}/{standard}", match["control"])


def findings_of_report(
    findings: pl.LazyFrame, report: Report, expected: pl.DataFrame, *, keep_stale: bool = False
) -> pl.LazyFrame:
    """The findings that belong to a report, a row for each control and resource they count for.

    Findings that are no evidence are left out: NOT_APPLICABLE ones, see `is_evidence`, and stale
    ones, see `with_staleness`. Compliance, record state and workflow are not looked at otherwise:
    archived and suppressed findings are among the rows.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS`: every active finding of the accounts, since
            the others tell which are stale.
        report: The report.
        expected: Rows of `schemas.EXPECTED_CONTROLS`: its controls. With the rows of the other
            conformance packs, copies of packs that share rules are told apart better.
        keep_stale: Keeps the stale findings, so that they can be counted as such.

    Returns:
        The findings' columns, `control_id` (String), `stale` and `first_resource` (Boolean: false
        in the rows that a finding has for its second and further resources). A finding of a
        per-standard rule that maps to two controls is there twice.
    """
    own = expected.filter(pl.col("report") == report.name)
    several = _name_several_resources(findings)
    if report.conformance_pack is not None:
        copies = pack_copies(findings, expected).filter(pl.col("report") == report.name)
        findings = of_pack(findings, copies)
    findings = with_staleness(findings.filter(is_evidence()), report)
    if not keep_stale:
        findings = findings.filter(~pl.col("stale"))
    if report.filter is not None:
        findings = findings.filter(filter_expression(report.filter))
    if not report.is_of_standards:
        return _by_resource(_rule_findings(findings, own), several=several)
    kinds = _kinds(findings, report)
    of_standard = findings.filter(pl.col("standards").is_in(kinds["standards"].implode()))
    own_id = pl.col("standard_control_id") if report.standard else own_control_id_expression()
    with_control = _by_resource(_with_control_id(of_standard, own_id, own), several=several)
    if kinds["consolidated"].any() and kinds["per_standard"].any():
        return _without_superseded(with_control)
    return with_control


def with_staleness(findings: pl.LazyFrame, report: Report) -> pl.LazyFrame:
    """Marks the findings of checks that no longer run.

    Security Hub runs every check at least daily, and judges a control by the findings of the
    previous 24 hours (user guide, controls-overall-status). A control finding of a standard is
    stale if it was not updated for `stale_after` before the snapshot was complete, while at least
    half of Security Hub's control findings in its account and region were: there the checks run.
    Where most are old, no check runs, which says nothing of any one control. AWS Config updates its
    findings only when compliance changes, so these are never stale.

    AWS archives the findings of a disabled control after 3 to 5 days (user guide,
    disable-controls-overview). One that is ACTIVE until AWS is about to delete it for its age is no
    such finding: it counts, and is carried forward once it is deleted.

    Args:
        findings: Columns of `schemas.ACCOUNT_FINDINGS`: every active finding of the accounts.
        report: The report, with its `stale_after`.

    Returns:
        The findings and `stale` (Boolean, never null).
    """
    if not report.is_of_standards or report.stale_after is None:
        return findings.with_columns(stale=pl.lit(value=False))
    own = (pl.col("product") == SECURITY_HUB_PRODUCT) & (pl.col("record_state") == "ACTIVE")
    seen = pl.max_horizontal("updated_at", "last_observed_at")
    age = pl.col("collected_at") - seen
    old = (age > report.stale_after).fill_null(value=False)
    stale = own & old & (age < timedelta(days=AGED_OUT_DAYS)) & pl.col("_checks_run")
    place = ["account_id", "region"]
    running = (
        findings.filter(own)
        .group_by(place)
        .agg(_old=old.mean())
        .select(*place, _checks_run=pl.col("_old") <= _MOST_OLD)
    )
    return (
        findings.join(running, on=place, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(stale=stale.fill_null(value=False))
        .drop("_checks_run")
    )


def by_resource(findings: pl.LazyFrame) -> pl.LazyFrame:
    """A row for each resource that a finding names: most findings name one.

    Returns:
        The findings with `first_resource`; `resource_id` is the resource of the row.
    """
    return _by_resource(findings, several=_name_several_resources(findings))


def _name_several_resources(findings: pl.LazyFrame) -> bool:
    """Whether any does. Hardly any control finding: days without them pay for one narrow column."""
    several = pl.col("more_resource_ids").is_not_null().any()
    return bool(findings.select(several).collect(engine="streaming").item())


def _by_resource(findings: pl.LazyFrame, *, several: bool) -> pl.LazyFrame:
    rows = findings.with_columns(first_resource=pl.lit(value=True))
    if not several:
        return rows
    more = (
        findings.filter(pl.col("more_resource_ids").is_not_null())
        .with_columns(
            resource_id=pl.col("more_resource_ids").str.split(RESOURCE_SEPARATOR),
            first_resource=pl.lit(value=False),
        )
        .explode("resource_id")
    )
    return pl.concat([rows, more.select(rows.collect_schema().names())])


def is_evidence() -> pl.Expr:
    """Whether a finding says anything for or against its control.

    A rule of AWS Config is COMPLIANT if every evaluated resource complies, and NOT_APPLICABLE means
    that there is no evaluated resource (AWS Config API reference, DescribeComplianceByConfigRule).
    Such a finding stays ACTIVE, since Security Hub does not archive the findings of AWS Config.
    """
    return pl.col("config_compliance_type").ne_missing(NOT_APPLICABLE)


def names_standard(report: Report) -> pl.Expr:
    """Whether a finding's `standards` names the report's standard, or any if it is of them all."""
    if report.standard is None:
        return pl.col("standards").fill_null("").str.len_bytes() > 0
    return counts_for_standard(report.standard)


def counts_for_standard(standard: str) -> pl.Expr:
    """Whether a finding's `standards` names the standard (written as `Report.standard` is)."""
    name = re.escape(standard_name(standard)).replace("/", r"\/")
    return pl.col("standards").str.contains(rf"(?:^|[ :/]){name}(?: |$)").fill_null(value=False)


def _rule_findings(findings: pl.LazyFrame, expected: pl.DataFrame) -> pl.LazyFrame:
    """Config findings whose rule name is an expected one: equal, never a prefix.

    The name as the settings have it is one too: a rule of one's own may be called as if AWS had
    added something to it.
    """
    names = pl.concat(
        [
            expected.select(rule_name="control_id", control_id="control_id"),
            expected.filter(pl.col("source") == "settings").select(
                rule_name="title", control_id="control_id"
            ),
        ]
    ).drop_nulls()
    return findings.filter(pl.col("config_rule_name").is_not_null()).join(
        names.unique("rule_name", keep="first", maintain_order=True).lazy(),
        on="rule_name",
        how="inner",
        maintain_order="left",
    )


def _with_control_id(
    findings: pl.LazyFrame, own_id: pl.Expr, expected: pl.DataFrame
) -> pl.LazyFrame:
    """Adds the expected control of each finding; findings of other controls go."""
    own = pl.concat_str(pl.lit("="), own_id)
    return (
        findings.with_columns(_control_key=pl.coalesce("security_control_id", own))
        .join(_control_keys(expected).lazy(), on="_control_key", how="inner")
        .drop("_control_key")
    )


def _control_keys(expected: pl.DataFrame) -> pl.DataFrame:
    """From a finding's id of its control (`=` before a standard's own id) to `control_id`.

    A standard's own id that `expected` does not map is the control's id itself, as in AWS
    Foundational Security Best Practices.
    """
    controls = expected.select(pl.col("control_id").cast(pl.String)).unique()
    mapped = (
        expected.select(
            _control_key=pl.col("standard_control_ids").cast(pl.String).str.split(SEPARATOR),
            control_id=pl.col("control_id").cast(pl.String),
        )
        .explode("_control_key")
        .filter(pl.col("_control_key").fill_null("") != "")
        .unique()
    )
    unmapped = controls.join(
        mapped, left_on="control_id", right_on="_control_key", how="anti"
    ).with_columns(_control_key=pl.col("control_id"))
    own = pl.concat([mapped, unmapped.select(mapped.columns)]).with_columns(
        _control_key="=" + pl.col("_control_key")
    )
    by_security_control = controls.select(_control_key="control_id", control_id="control_id")
    return pl.concat([own, by_security_control])


def _kinds(findings: pl.LazyFrame, report: Report) -> pl.DataFrame:
    """The lists of standards that findings have and that name the report's: a few dozen at most.

    Active consolidated and per-standard findings exist side by side for a day when AWS switches
    from one kind to the other. It reads three narrow columns, so that every other day pays for
    nothing more.

    Returns:
        `standards`, and whether active consolidated and active `per_standard` findings have it.
    """
    active = pl.col("record_state") == "ACTIVE"
    return (
        findings.select("standards", active=pl.when(active).then("consolidated"))
        .group_by("standards")
        .agg(
            consolidated=pl.col("active").max().fill_null(value=False),
            per_standard=pl.col("active").min().not_().fill_null(value=False),
        )
        .collect(engine="streaming")
        .filter(names_standard(report))
    )


def _without_superseded(findings: pl.LazyFrame) -> pl.LazyFrame:
    """Leaves out per-standard findings of a check that has an active consolidated finding.

    The consolidated one is kept because the per-standard twin is about to be archived, and
    because suppressions are not carried over to it.
    """
    check = ["account_id", "region", "control_id", "resource_id"]
    consolidated = pl.col("consolidated").fill_null(value=False)
    successors = findings.filter(consolidated & (pl.col("record_state") == "ACTIVE"))
    per_standard = pl.col("consolidated").fill_null(value=True).not_()
    kept = findings.filter(per_standard).join(
        successors.select(check).unique(), on=check, how="anti", nulls_equal=True
    )
    return pl.concat([findings.filter(per_standard.not_()), kept])
