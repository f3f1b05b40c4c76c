"""The tables of the lake: one declaration each of columns, dtypes and meaning.

Writers conform to these, readers read older files as these; the documentation, Dagster's column
schemas and empty frames are made from them. Columns are only ever added. No I/O and no rules
belong here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl

from posture_pipeline.errors import SchemaError

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SCHEMA_VERSION = 1
"""Stored with every commit. Raised when a released table gains columns."""

SEPARATOR = " "
"""Joins several values in one text column: List columns make findings files slow and large."""

RESOURCE_SEPARATOR = "\n"
"""Joins ids of resources, which may have spaces."""

TIMESTAMP = pl.Datetime("us", "UTC")

ROWS_SHOWN = 3
"""Rows that an error names."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name.
        dtype: Its Polars dtype.
        meaning: What a value says, with its unit.
        nullable: Whether a value may be missing; of any other column a null is refused on write.
    """

    name: str
    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    nullable: bool = False


def optional(name: str, dtype: pl.DataType | type[pl.DataType], meaning: str) -> Column:
    """A column whose value may be missing."""
    return Column(name, dtype, meaning, nullable=True)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the lake.

    Attributes:
        name: Also the folder in the lake and the name of the DuckDB view.
        meaning: What one row is.
        columns: In the order in which they are written.
        key: The columns that identify a row within a day.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = field(default=())

    @property
    def schema(self) -> pl.Schema:
        """The columns and their Polars dtypes, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def names(self) -> list[str]:
        """The column names, in order."""
        return [column.name for column in self.columns]

    def empty(self) -> pl.DataFrame:
        """A frame with every column and no rows."""
        return pl.DataFrame(schema=self.schema)

    def project(self, frame: Frame) -> Frame:
        """The declared columns of a frame, in order and with their dtypes; others are left out.

        Rules end with this: what they compute on the way goes no further.

        Raises:
            SchemaError: The frame lacks a declared column.
        """
        schema = frame.collect_schema()
        if list(schema.items()) == list(self.schema.items()):
            return frame
        if missing := [name for name in self.names if name not in schema]:
            message = f"{self.name}: the rows have no column {', '.join(missing)}."
            raise SchemaError(message)
        return frame.select(pl.col(column.name).cast(column.dtype) for column in self.columns)

    def conform(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows as they may be written: exactly the declared columns, null only where allowed.

        Raises:
            SchemaError: A column is missing or not declared, or has a null where none may be.
        """
        if undeclared := [name for name in rows.columns if name not in self.names]:
            message = (
                f"{self.name}: the rows have a column {', '.join(undeclared)}, which the table "
                "does not declare."
            )
            raise SchemaError(message)
        rows = self.project(rows)
        for column in self.columns:
            if not column.nullable and rows[column.name].null_count():
                raise SchemaError(self._nulls(column.name, rows))
        return rows

    def read_as(self, frame: Frame) -> Frame:
        """A frame of an older or wider table as this one.

        A column that the frame lacks is null; one that the table does not declare is left out.
        """
        present = frame.collect_schema().names()
        # Added before they are selected: literals alone would make one row of any number of rows.
        return self.project(
            frame.with_columns(
                pl.lit(None).alias(name) for name in self.names if name not in present
            )
        )

    def _nulls(self, column: str, rows: pl.DataFrame) -> str:
        """Which rows have no value in a column that needs one."""
        wrong = rows.filter(pl.col(column).is_null())
        key = self.key or tuple(self.names[:1])
        shown = "; ".join(
            ", ".join(f"{name}={row[name]}" for name in key)
            for row in wrong.head(ROWS_SHOWN).select(key).iter_rows(named=True)
        )
        more = f" and {wrong.height - ROWS_SHOWN:,} more" if wrong.height > ROWS_SHOWN else ""
        return (
            f"{self.name}: {column} must not be null, and is in {wrong.height:,} of "
            f"{rows.height:,} rows: {shown}{more}. Nothing was written."
        )


_KINDS = "standard, all_standards, conformance_pack or custom_rules."

_DATE = Column("date", pl.Date(), "Day of the snapshot (UTC); the partition.")

_FINDING_COLUMNS = (
    _DATE,
    Column("finding_id", pl.String(), "ASFF Id."),
    optional(
        "product_arn", pl.String(), "ASFF ProductArn; with finding_id it identifies a finding."
    ),
    optional(
        "product",
        pl.String(),
        "What follows product/ in ProductArn, such as aws/securityhub or aws/config: the "
        "product's identity. Null if the ARN has no such part.",
    ),
    optional("product_name", pl.String(), "ASFF ProductName: a display name, which AWS changes."),
    Column(
        "provider",
        pl.String(),
        "Cloud of the first resource in upper case: AWS unless the finding says otherwise.",
    ),
    Column(
        "account_id",
        pl.String(),
        "AwsAccountId, 12 digits, leading zeros kept; of a resource of another cloud the "
        "subscription that owns it.",
    ),
    optional(
        "connector_account_id",
        pl.String(),
        "Of a resource of another cloud AwsAccountId, the account of the connector; else null.",
    ),
    optional("account_name", pl.String(), "AwsAccountName as the finding gives it; may be null."),
    optional("region", pl.String(), "ASFF Region, else the region of the product ARN."),
    optional("generator_id", pl.String(), "ASFF GeneratorId."),
    optional("title", pl.String(), "ASFF Title; for Config findings the rule name."),
    optional("types", pl.String(), "ASFF Types, joined by ' | '."),
    optional("security_control_id", pl.String(), "Compliance.SecurityControlId, such as S3.1."),
    optional(
        "standard_control_id",
        pl.String(),
        "For per-standard findings the standard's own id of the control (PCI.IAM.5, 1.1): "
        "ProductFields ControlId or RuleId, else the tail of GeneratorId. Null if consolidated.",
    ),
    optional(
        "standards",
        pl.String(),
        "Standards the finding counts for, as standards/... or ruleset/... ids joined by a space: "
        "Compliance.AssociatedStandards; for a per-standard finding the one of its GeneratorId.",
    ),
    optional(
        "consolidated",
        pl.Boolean(),
        "True for a consolidated control finding (GeneratorId security-control/...), false for a "
        "per-standard one, null for every other finding.",
    ),
    optional(
        "config_rule_name", pl.String(), "Config rule name as deployed, with random suffixes."
    ),
    optional(
        "rule_name",
        pl.String(),
        "Canonical Config rule name: without the -conformance-pack-<random> or OrgConfigRule-... "
        "that AWS added, as the rule's ARN says.",
    ),
    optional(
        "pack_suffix",
        pl.String(),
        "Of a conformance pack's rule the random end of its name: the same for all rules of the "
        "pack in an account and region. Null for every other rule.",
    ),
    optional(
        "config_rule_arn",
        pl.String(),
        "ARN of the Config rule: ProductFields aws/config/ConfigRuleArn, else a GeneratorId that "
        "is the ARN of a rule that AWS made.",
    ),
    optional(
        "config_compliance_type",
        pl.String(),
        "ProductFields aws/config/ConfigComplianceType: COMPLIANT, NON_COMPLIANT or "
        "NOT_APPLICABLE; null for other findings.",
    ),
    optional(
        "compliance_status", pl.String(), "PASSED, FAILED, WARNING, NOT_AVAILABLE; may be null."
    ),
    optional("reason_codes", pl.String(), "Compliance.StatusReasons codes, joined by a space."),
    optional("workflow_status", pl.String(), "NEW, NOTIFIED, RESOLVED or SUPPRESSED; may be null."),
    Column(
        "record_state", pl.String(), "ACTIVE or ARCHIVED; ACTIVE when the finding says nothing."
    ),
    optional("severity_label", pl.String(), "INFORMATIONAL, LOW, MEDIUM, HIGH or CRITICAL."),
    optional(
        "severity_original", pl.String(), "Severity.Original, the finding provider's own value."
    ),
    optional("resource_id", pl.String(), "Id of the first resource."),
    optional("resource_type", pl.String(), "Type of the first resource."),
    optional(
        "more_resource_ids",
        pl.String(),
        "Ids of its other resources, joined by a newline; null if it names one. All of them count.",
    ),
    Column("resource_count", pl.Int32(), "How many resources the finding names."),
    optional("created_at", TIMESTAMP, "CreatedAt, UTC."),
    optional("updated_at", TIMESTAMP, "UpdatedAt, UTC."),
    optional(
        "first_observed_at", TIMESTAMP, "FirstObservedAt, UTC: the last change of compliance."
    ),
    optional("last_observed_at", TIMESTAMP, "LastObservedAt, UTC: the most recent check."),
    optional("previous_compliance_status", pl.String(), "ProductFields PreviousComplianceStatus."),
    optional(
        "archival_reasons", pl.String(), "ProductFields ArchivalReasons codes, joined by a space."
    ),
    optional("note_text", pl.String(), "Note.Text: why it was suppressed, by custom."),
    optional("note_updated_by", pl.String(), "Note.UpdatedBy."),
    optional("note_updated_at", TIMESTAMP, "Note.UpdatedAt, UTC."),
    optional("remediation_url", pl.String(), "Remediation.Recommendation.Url."),
    optional("collected_at", TIMESTAMP, "When the snapshot was complete, UTC."),
    Column("shard", pl.String(), "Shard of the collection the row came from."),
    Column("page", pl.Int32(), "Page (line of the shard's raw files, from 0) it came from."),
)

MERGED_FINDINGS = Table(
    "merged_findings",
    "One finding of the snapshot, as collected, duplicates resolved to the newest.",
    _FINDING_COLUMNS,
    ("product_arn", "finding_id"),
)

ACCOUNT_FINDINGS = Table(
    "account_findings",
    "One finding of the snapshot: the rows of merged_findings, one file an account.",
    _FINDING_COLUMNS,
    ("product_arn", "finding_id"),
)

QUARANTINE = Table(
    "quarantine",
    "One record that could not be read as a finding, with the reason.",
    (
        _DATE,
        Column("file", pl.String(), "Raw file in the lake, below the partition."),
        Column("line", pl.Int32(), "Line of that file, from 0: the page."),
        optional(
            "position", pl.Int32(), "Place of the record on the page, from 0; null: the page."
        ),
        optional("source", pl.String(), "For imported findings the file they came from."),
        optional("account_id", pl.String(), "The account that it names; null: none can be read."),
        Column("reason", pl.String(), "What made it unreadable."),
        Column("record", pl.Binary(), "The bytes as received."),
    ),
    ("file", "line", "position"),
)

ORGANIZATION_ACCOUNTS = Table(
    "organization_accounts",
    "One account known on the day, with what the organization says of it.",
    (
        _DATE,
        Column("account_id", pl.String(), "12 digits, leading zeros kept."),
        optional("account_name", pl.String(), "Name in the organization; may be null."),
        optional("state", pl.String(), "ACTIVE, SUSPENDED, PENDING_CLOSURE, CLOSED, ..."),
        optional("tags", pl.String(), "The account's tags as a JSON object of text."),
        optional("joined_at", TIMESTAMP, "When it joined the organization, UTC."),
        Column(
            "source",
            pl.String(),
            "organizations, overrides, findings, connector or earlier_day: who named it.",
        ),
    ),
    ("account_id",),
)

_DEFINITION = Column(
    "definition",
    pl.String(),
    "Hash of what is scored (standard, pack, rules), whatever the report's name: a list of "
    "controls belongs to it.",
)
_LISTED_COLUMNS = (
    Column("control_id", pl.String(), "Security control id, or canonical Config rule name."),
    optional("title", pl.String(), "Title of the control."),
    optional("severity", pl.String(), "Severity rating: CRITICAL, HIGH, MEDIUM or LOW."),
    Column("enabled", pl.Boolean(), "Enabled in the audit account and region."),
    optional(
        "standard_control_ids",
        pl.String(),
        "The standard's own ids of the control (CIS 1.2: 1.1), joined by a space; of all "
        "standards together each with its standard before it.",
    ),
    optional("remediation_url", pl.String(), "Where AWS says how to fix it; may be null."),
    optional(
        "pack_suffix",
        pl.String(),
        "Of a conformance pack the random end of its rules' names in the audit account.",
    ),
)

LISTED_CONTROLS = Table(
    "listed_controls",
    "One control of a standard or conformance pack, as AWS listed it on the day.",
    (
        _DATE,
        _DEFINITION,
        Column("report_kind", pl.String(), "standard, all_standards or conformance_pack."),
        *_LISTED_COLUMNS,
        Column("source", pl.String(), "security_hub or config: who listed it."),
    ),
    ("definition", "control_id"),
)

EXPECTED_CONTROLS = Table(
    "expected_controls",
    "One control that a report expects on the day.",
    (
        _DATE,
        Column("report", pl.String(), "Slug of the report."),
        Column("report_kind", pl.String(), _KINDS),
        _DEFINITION,
        *_LISTED_COLUMNS,
        Column("source", pl.String(), "security_hub, config, settings or findings."),
        Column(
            "as_of",
            pl.Date(),
            "Day on which it was listed, or findings named it; not date: it was kept from there.",
        ),
        optional(
            "note",
            pl.String(),
            "Why the report's controls are not those that AWS listed on the day; null: they are.",
        ),
    ),
    ("report", "control_id"),
)

CONTROL_STATUS = Table(
    "control_status",
    "The status of one control of one report in one account on the day.",
    (
        _DATE,
        Column("report", pl.String(), "Slug of the report."),
        Column("report_kind", pl.String(), _KINDS),
        Column("account_id", pl.String(), "12 digits."),
        Column("control_id", pl.String(), "Security control id, or canonical Config rule name."),
        optional("severity", pl.String(), "Severity rating of the control; may be null."),
        Column("status", pl.String(), "PASSED, FAILED, UNKNOWN or NO_DATA."),
        Column(
            "basis",
            pl.String(),
            "findings, carried (only failures carried forward), assumed (no finding, so "
            "compliant), or none.",
        ),
        Column("passed_findings", pl.Int64(), "Counted findings that passed."),
        Column("failed_findings", pl.Int64(), "Counted findings that failed."),
        Column("unknown_findings", pl.Int64(), "Counted findings that could not be evaluated."),
        Column("suppressed_findings", pl.Int64(), "ACTIVE findings left out as SUPPRESSED."),
        Column(
            "stale_findings",
            pl.Int64(),
            "ACTIVE findings left out because their check no longer runs, see stale_after.",
        ),
        Column("passed_resources", pl.Int64(), "Distinct resources whose counted findings passed."),
        Column(
            "failed_resources",
            pl.Int64(),
            "Distinct resources with a failed finding, carried failures among them.",
        ),
        Column(
            "unknown_resources",
            pl.Int64(),
            "Distinct resources that could not be evaluated, and did not fail.",
        ),
        Column("regions", pl.Int32(), "Regions with a counted finding."),
        Column(
            "unclear_copies",
            pl.Int32(),
            "Further copies of the rule that may be of another conformance pack and count because "
            "the findings do not tell; 0: it is clear.",
        ),
        Column(
            "carried_findings",
            pl.Int64(),
            "Failures that aged out of Security Hub and are carried forward as failing.",
        ),
    ),
    ("report", "account_id", "control_id"),
)

_SCORE_COLUMNS = (
    optional(
        "score", pl.Float64(), "100 x passed / (passed + failed + unknown); null: see reason."
    ),
    optional("console_score", pl.Int32(), "score to the nearest whole number, half up."),
    optional(
        "resource_score",
        pl.Float64(),
        "100 x passed_resources / (passed_resources + failed_resources).",
    ),
    optional("reason", pl.String(), "Why there is no score; null when there is one."),
    optional(
        "passed",
        pl.Int32(),
        "Controls PASSED, the assumed ones among them. Null, as every count: withheld.",
    ),
    optional("failed", pl.Int32(), "Controls FAILED."),
    optional("unknown", pl.Int32(), "Controls UNKNOWN."),
    optional("no_data", pl.Int32(), "Expected controls with NO_DATA, out of the score."),
    optional("assumed", pl.Int32(), "Rules counted as PASSED because they have no finding."),
    optional("expected", pl.Int32(), "Controls that the report expects in this scope."),
    optional("findings", pl.Int64(), "Counted findings (ACTIVE, not SUPPRESSED)."),
    optional("failed_findings", pl.Int64(), "Counted findings that failed."),
    optional("failed_critical", pl.Int64(), "Of these, on controls rated CRITICAL."),
    optional("failed_high", pl.Int64(), "Of these, on controls rated HIGH."),
    optional("failed_medium", pl.Int64(), "Of these, on controls rated MEDIUM."),
    optional("failed_low", pl.Int64(), "Of these, on controls rated LOW or not rated."),
    optional("suppressed_findings", pl.Int64(), "ACTIVE findings left out as SUPPRESSED."),
    optional(
        "stale_findings",
        pl.Int64(),
        "ACTIVE findings left out because their check no longer runs, see stale_after.",
    ),
    Column("method", pl.String(), "Version of the scoring method, and how it was collected."),
    Column(
        "control_set_hash", pl.String(), "Of the expected control ids: the same set, comparable."
    ),
    Column("settings_hash", pl.String(), "Of the settings that decide the report's score."),
    Column("collected_at", TIMESTAMP, "When the snapshot was complete, UTC."),
    optional(
        "incomplete",
        pl.String(),
        "What the snapshot lacks by intention, such as a region; null: nothing.",
    ),
    optional("controls_with_data", pl.Int32(), "Coverage: controls with a counted finding."),
    optional(
        "regions_with_data", pl.Int32(), "Coverage: the most regions that one control has data in."
    ),
    optional("carried", pl.Int32(), "Controls FAILED for nothing but carried failures."),
    optional("carried_findings", pl.Int64(), "Carried failures; not among failed_findings."),
    optional("last_score", pl.Float64(), "Where there is no score: the last one there was."),
    optional("last_score_date", pl.Date(), "The day of last_score."),
    optional("passed_resources", pl.Int64(), "(control, resource) pairs that passed."),
    optional("failed_resources", pl.Int64(), "(control, resource) pairs that failed."),
)

_REPORT = Column("report", pl.String(), "Slug of the report.")
_REPORT_KIND = Column("report_kind", pl.String(), _KINDS)
_WORKLOAD = Column("workload", pl.String(), "Workload of the account(s).")
_ENVIRONMENT = Column("environment", pl.String(), "Environment of the account(s), or unknown.")

ACCOUNT_SCORES = Table(
    "account_scores",
    "The score of one account on one report on the day.",
    (
        _DATE,
        _REPORT,
        _REPORT_KIND,
        Column("account_id", pl.String(), "12 digits."),
        optional("account_name", pl.String(), "Name of the account; may be null."),
        _WORKLOAD,
        _ENVIRONMENT,
        optional("owner", pl.String(), "Owner from the overrides or tags; may be null."),
        optional(
            "account_source",
            pl.String(),
            "Who named the account: organizations; findings or overrides if Organizations does not "
            "list it; connector if it is a subscription of another cloud; earlier_day if only an "
            "earlier day names it.",
        ),
        Column(
            "workload_source",
            pl.String(),
            "overrides, tags, name, or account_name when nothing resolved it.",
        ),
        *_SCORE_COLUMNS,
    ),
    ("report", "account_id"),
)

WORKLOAD_SCORES = Table(
    "workload_scores",
    "The score of one workload in one environment on one report on the day.",
    (
        _DATE,
        _REPORT,
        _REPORT_KIND,
        _WORKLOAD,
        _ENVIRONMENT,
        Column("accounts", pl.Int32(), "Scored accounts of the workload and environment."),
        Column("accounts_with_data", pl.Int32(), "Of these, accounts with any finding that day."),
        *_SCORE_COLUMNS,
    ),
    ("report", "workload", "environment"),
)

ORGANIZATION_SCORES = Table(
    "organization_scores",
    "The score of the whole organization on one report on the day.",
    (
        _DATE,
        _REPORT,
        _REPORT_KIND,
        Column("accounts", pl.Int32(), "Scored accounts of the organization."),
        Column("accounts_with_data", pl.Int32(), "Of these, accounts with any finding that day."),
        *_SCORE_COLUMNS,
    ),
    ("report",),
)

_COMPARED_WITH = Column("compared_with", pl.Date(), "The earlier day it is compared with.")
_SCOPE = Column("scope", pl.String(), "account, workload (with its environment) or organization.")

SCORE_CHANGES = Table(
    "score_changes",
    "The part of one control in the change of one score since the newest earlier day. Only "
    "controls whose status changed have a row; the parts of a score add up to its change.",
    (
        _DATE,
        _COMPARED_WITH,
        _SCOPE,
        optional("account_id", pl.String(), "12 digits; null unless the scope is an account."),
        optional("workload", pl.String(), "Null unless the scope is a workload."),
        optional("environment", pl.String(), "Null unless the scope is a workload."),
        _REPORT,
        _REPORT_KIND,
        Column("control_id", pl.String(), "Security control id, or canonical Config rule name."),
        optional("severity", pl.String(), "Severity rating of the control; may be null."),
        optional(
            "status_before",
            pl.String(),
            "Status on the earlier day; null: not in the report, or no account then.",
        ),
        optional("status_after", pl.String(), "Status on the day; null likewise."),
        optional("part", pl.Float64(), "Points of the change; null where one day has no score."),
        optional("causes", pl.String(), "Why, the most frequent first, joined by a space."),
        Column("failing_resources_before", pl.Int64(), "Resources that failed the control."),
        Column("failing_resources_after", pl.Int64(), "Resources that fail it on the day."),
        optional("score_before", pl.Float64(), "The score on the earlier day; may be null."),
        optional("score_after", pl.Float64(), "The score on the day; may be null."),
        optional(
            "comparable", pl.String(), "Why the two scores cannot be compared; null: they can."
        ),
    ),
    ("scope", "account_id", "workload", "environment", "report", "control_id"),
)

SCORE_CHANGE_CAUSES = Table(
    "score_change_causes",
    "One cause of a row of score_changes, with its evidence: mostly one resource of one account.",
    (
        _DATE,
        _COMPARED_WITH,
        _SCOPE,
        optional("workload", pl.String(), "Null unless the scope is a workload."),
        optional("environment", pl.String(), "Null unless the scope is a workload."),
        _REPORT,
        Column("control_id", pl.String(), "Security control id, or canonical Config rule name."),
        Column("account_id", pl.String(), "Account in which it happened, whatever the scope."),
        optional("region", pl.String(), "Region; null when it is the whole account or control."),
        optional("resource_id", pl.String(), "Resource; null when it is the whole account."),
        Column("cause", pl.String(), "What happened; docs/explaining.md lists the causes."),
        Column(
            "decisive",
            pl.Boolean(),
            "Whether it shows the status that the control went to (or, improved, came from).",
        ),
        optional("status_before", pl.String(), "PASSED, FAILED, UNKNOWN, SUPPRESSED or ABSENT."),
        optional("status_after", pl.String(), "Likewise; of a whole account the control's status."),
        optional(
            "finding_id_before", pl.String(), "Findings of the earlier day, joined by a space."
        ),
        optional(
            "finding_id_after", pl.String(), "Findings of the day; the archived one, if gone."
        ),
        optional("first_observed_at", TIMESTAMP, "FirstObservedAt of the finding, UTC."),
        optional("detail", pl.String(), "The evidence in a few words; may be null."),
    ),
    ("scope", "workload", "environment", "report", "control_id", "account_id", "region"),
)

_PROBLEM_COLUMNS = (
    _REPORT,
    Column("account_id", pl.String(), "12 digits."),
    Column("region", pl.String(), "Region of the finding."),
    Column("control_id", pl.String(), "Security control id, or canonical Config rule name."),
    Column("resource_id", pl.String(), "The resource."),
)
_PROBLEM_KEY = ("report", "account_id", "region", "control_id", "resource_id")

FINDING_CHANGES = Table(
    "finding_changes",
    "One problem (a control on a resource) whose state is not what it was on the newest earlier "
    "day, with why. Changes between passing and not being there are left out.",
    (
        _DATE,
        _COMPARED_WITH,
        *_PROBLEM_COLUMNS,
        Column(
            "status_before",
            pl.String(),
            "PASSED, FAILED, UNKNOWN, SUPPRESSED, CARRIED (no finding any more, carried forward "
            "as failing) or ABSENT.",
        ),
        Column("status_after", pl.String(), "Likewise, on the day."),
        Column("cause", pl.String(), "What happened; docs/explaining.md lists the causes."),
        optional(
            "finding_id_before", pl.String(), "Findings of the earlier day, joined by a space."
        ),
        optional(
            "finding_id_after", pl.String(), "Findings of the day; the archived one, if gone."
        ),
        optional("first_observed_at", TIMESTAMP, "FirstObservedAt of the finding, UTC."),
        optional("detail", pl.String(), "The evidence in a few words; may be null."),
    ),
    _PROBLEM_KEY,
)

CARRIED_FAILURES = Table(
    "carried_failures",
    "One failure whose finding AWS deleted because it was not updated for 90 days: it is carried "
    "forward as failing until evidence says otherwise.",
    (
        _DATE,
        *_PROBLEM_COLUMNS,
        Column("carried_since", pl.Date(), "First day without the finding."),
        Column("finding_id", pl.String(), "The deleted findings, joined by a space."),
        optional("product", pl.String(), "Product of the finding, such as aws/config."),
        optional("created_at", TIMESTAMP, "CreatedAt of the finding, UTC."),
        optional("updated_at", TIMESTAMP, "Last UpdatedAt of the finding, UTC."),
        optional("first_observed_at", TIMESTAMP, "FirstObservedAt of the finding, UTC."),
    ),
    _PROBLEM_KEY,
)

SOURCE_COMPLETENESS = Table(
    "source_completeness",
    "How complete the findings are that a report has from one product in one region of one "
    "account, compared with the newest earlier day on which they were complete.",
    (
        _DATE,
        _REPORT,
        Column("account_id", pl.String(), "12 digits."),
        Column("region", pl.String(), "Region of the findings; may be empty."),
        Column("product", pl.String(), "The product, such as aws/securityhub or aws/config."),
        optional("compared_with", pl.Date(), "The earlier day; null: there is none with findings."),
        Column("last_seen", pl.Date(), "The last snapshot with findings of it."),
        Column("findings_before", pl.Int64(), "Active findings on the earlier day."),
        Column("findings", pl.Int64(), "Active findings on the day."),
        Column("gone", pl.Int64(), "Of findings_before: the check has no active finding now."),
        Column("explained", pl.Int64(), "Of these, with evidence of why they are gone."),
        Column("unexplained", pl.Int64(), "Of these, without."),
        Column("failed_before", pl.Int64(), "Of findings_before: FAILED."),
        Column("failed_unexplained", pl.Int64(), "Of unexplained: FAILED on the earlier day."),
        optional("share", pl.Float64(), "unexplained / findings_before; null: no earlier day."),
        Column("not_reporting", pl.Boolean(), "It sent findings and now sends none."),
        optional("reason", pl.String(), "Why it is incomplete; null: it is complete."),
    ),
    ("report", "account_id", "region", "product"),
)

EXCEPTIONS = Table(
    "exceptions",
    "One control on a resource with a suppressed finding that is open on the day, or ended since "
    "the newest earlier day; with what it is worth.",
    (
        _DATE,
        *_PROBLEM_COLUMNS,
        optional("severity", pl.String(), "Severity rating of the control; may be null."),
        _WORKLOAD,
        _ENVIRONMENT,
        Column("hides", pl.String(), "What it hides: FAILED, PASSED or UNKNOWN."),
        Column("open", pl.Boolean(), "Still suppressed on the day."),
        Column("since", pl.Date(), "First day on which it was suppressed, as far as is known."),
        optional("ended_by", pl.String(), "The cause that ended it; null while it is open."),
        optional("suppressed_by", pl.String(), "Note.UpdatedBy; may be null."),
        optional("note", pl.String(), "Note.Text; may be null."),
        Column("finding_id", pl.String(), "The suppressed findings, joined by a space."),
        optional("until", pl.Date(), "Agreed end, from the exceptions file; null: none is given."),
        optional("owner", pl.String(), "Who answers for it, from the exceptions file."),
        optional("reason", pl.String(), "Why it is accepted, from the exceptions file."),
        optional("score", pl.Float64(), "Score of its workload and environment; may be null."),
        optional(
            "score_without",
            pl.Float64(),
            "That score if this control's exceptions in the workload and environment ended.",
        ),
        optional("points", pl.Float64(), "score - score_without: what the exceptions are worth."),
    ),
    _PROBLEM_KEY,
)

REMEDIATION = Table(
    "remediation",
    "One failure of a control on a resource, from its beginning to its end: open on the day, or "
    "closed since the newest earlier day.",
    (
        _DATE,
        *_PROBLEM_COLUMNS,
        optional("product", pl.String(), "Product of the finding, such as aws/config."),
        optional("severity", pl.String(), "Severity rating of the control; may be null."),
        _WORKLOAD,
        _ENVIRONMENT,
        Column(
            "opened_at",
            TIMESTAMP,
            "When it began to fail, UTC: FirstObservedAt (of Config findings UpdatedAt); midnight "
            "of the first day where that is not known.",
        ),
        Column("first_seen", pl.Date(), "First snapshot in which it fails."),
        Column("last_seen", pl.Date(), "Last snapshot in which it fails or is carried."),
        optional(
            "closed_on", pl.Date(), "First day on which it no longer fails; null: it is open."
        ),
        optional("closed_by", pl.String(), "The cause that closed it; null while it is open."),
        Column(
            "remedied",
            pl.Boolean(),
            "Closed because it was repaired or the resource is gone; false: open, or no longer "
            "observed for another reason (censored).",
        ),
        Column(
            "days",
            pl.Float64(),
            "From opened_at to closed_on if it was remedied, to the end of the day if it is open, "
            "else to the end of last_seen.",
        ),
        Column(
            "openings",
            pl.Int32(),
            "How often it has begun to fail, this time included; 30 days without it end the count.",
        ),
        Column("flapping", pl.Boolean(), "It keeps coming back: three openings or more."),
        Column(
            "carried_forward",
            pl.Boolean(),
            "Its finding aged out; it is carried forward as failing.",
        ),
    ),
    (*_PROBLEM_KEY, "opened_at"),
)

TIME_TO_FIX = Table(
    "time_to_fix",
    "How long failures of a report last until they are remedied, as of the day: Kaplan-Meier, with "
    "open ones counted as censored.",
    (
        _DATE,
        _REPORT,
        optional("severity", pl.String(), "Severity rating; null: all."),
        optional("workload", pl.String(), "Null: all."),
        optional("environment", pl.String(), "Null: all."),
        Column("failures", pl.Int64(), "Failures known so far."),
        Column("remedied_failures", pl.Int64(), "Of these, repaired or gone."),
        Column("open_failures", pl.Int64(), "Of these, still failing."),
        optional(
            "median_days", pl.Float64(), "Half are remedied after so long; null: not yet half."
        ),
        optional(
            "low_days", pl.Float64(), "Lower end of the 95 % confidence interval; may be null."
        ),
        optional("high_days", pl.Float64(), "Upper end; null: cannot be told yet."),
    ),
    ("report", "severity", "workload", "environment"),
)

AWS_COMPLIANCE = Table(
    "aws_compliance",
    "What AWS Config itself says of a conformance pack: a row for the pack's score, for each of "
    "its rules, and for each resource that does not comply with one.",
    (
        _DATE,
        _REPORT,
        Column("account_id", pl.String(), "12 digits; the calling account, or an aggregated one."),
        Column("region", pl.String(), "Region of the pack."),
        Column("aws_name", pl.String(), "Name of the pack as deployed, with random suffixes."),
        optional("control_id", pl.String(), "Canonical Config rule name; null: the pack."),
        optional("aws_rule_name", pl.String(), "Name of the rule as deployed; null: the pack."),
        optional(
            "resource_id", pl.String(), "A resource that does not comply; null: the rule or pack."
        ),
        optional("status", pl.String(), "COMPLIANT, NON_COMPLIANT or INSUFFICIENT_DATA; or null."),
        optional(
            "score",
            pl.Float64(),
            "Of the pack: percent of rule and resource combinations that comply; may be null.",
        ),
        optional(
            "score_text",
            pl.String(),
            "The score as AWS wrote it; its decimals say how exact it is.",
        ),
        optional("compliant", pl.Int64(), "Of a rule: resources that comply. Aggregated: rules."),
        optional("non_compliant", pl.Int64(), "Likewise those that do not comply."),
        optional("total", pl.Int64(), "Aggregated: all rules, those without data among them."),
        optional(
            "updated_at",
            TIMESTAMP,
            "Of the pack: when AWS computed the score. Of a rule: its newest evaluation. UTC.",
        ),
        Column("source", pl.String(), "list_scores, compliance, details or aggregator."),
    ),
    ("report", "account_id", "region", "source", "control_id", "resource_id"),
)

RECONCILIATION = Table(
    "reconciliation",
    "A figure of ours beside AWS's own, and what the difference is made of: a row for each figure, "
    "and rows with the parts of its rules that add up to the difference.",
    (
        _DATE,
        _REPORT,
        Column("account_id", pl.String(), "12 digits."),
        Column("region", pl.String(), "Region of the pack in AWS."),
        Column(
            "unit",
            pl.String(),
            "resources: resource_score beside AWS's score, both of rule and resource pairs; rules: "
            "score beside the share of rules that comply, from an aggregator.",
        ),
        optional("control_id", pl.String(), "Canonical Config rule name; null: not of one rule."),
        optional(
            "aws_name", pl.String(), "The pack or the rule as deployed, with random suffixes."
        ),
        optional("aws_value", pl.Float64(), "AWS's figure, percent; null in parts."),
        optional("our_value", pl.Float64(), "Our figure of the same unit; may be null."),
        optional("difference", pl.Float64(), "our_value - aws_value, points; may be null."),
        optional("aws_status", pl.String(), "COMPLIANT, NON_COMPLIANT or INSUFFICIENT_DATA."),
        optional("our_status", pl.String(), "Of a rule: PASSED, FAILED, UNKNOWN or NO_DATA."),
        optional(
            "cause",
            pl.String(),
            "Why the two differ; docs/reconciliation.md lists the causes. Null: no difference.",
        ),
        optional("passed", pl.Int32(), "What it adds to what passes: ours less AWS's."),
        optional("failed", pl.Int32(), "What it adds to what fails: ours less AWS's."),
        optional("part", pl.Float64(), "Points of the difference; null in the row of a figure."),
        optional("reason", pl.String(), "The same in words; null: no difference."),
        optional("aws_updated_at", TIMESTAMP, "When AWS last computed it, UTC; may be null."),
    ),
    ("report", "account_id", "region", "unit", "control_id", "cause"),
)

SCORE_TABLES: tuple[Table, ...] = (ACCOUNT_SCORES, WORKLOAD_SCORES, ORGANIZATION_SCORES)
"""Scores, with the method they were made by: those of an earlier method are kept beside them."""

EARLIER_SCORES = Table(
    "earlier_scores",
    "One score of the day as it was before a method with another version replaced it.",
    (
        _DATE,
        Column("scope", pl.String(), "account, workload or organization."),
        optional("account_id", pl.String(), "12 digits; null for the other scopes."),
        optional("workload", pl.String(), "Workload; null for the organization."),
        optional("environment", pl.String(), "Environment; null for the organization."),
        _REPORT,
        *(
            column
            for column in _SCORE_COLUMNS
            if column.name
            in {
                "score",
                "console_score",
                "resource_score",
                "passed",
                "failed",
                "unknown",
                "method",
                "control_set_hash",
                "settings_hash",
            }
        ),
    ),
    ("scope", "account_id", "workload", "environment", "report", "method"),
)
"""No table of the lake: what `lake.earlier_scores` reads of the kept commits of the day."""

TABLES: tuple[Table, ...] = (
    MERGED_FINDINGS,
    QUARANTINE,
    ACCOUNT_FINDINGS,
    ORGANIZATION_ACCOUNTS,
    LISTED_CONTROLS,
    EXPECTED_CONTROLS,
    FINDING_CHANGES,
    CARRIED_FAILURES,
    SOURCE_COMPLETENESS,
    CONTROL_STATUS,
    ACCOUNT_SCORES,
    WORKLOAD_SCORES,
    ORGANIZATION_SCORES,
    SCORE_CHANGES,
    SCORE_CHANGE_CAUSES,
    EXCEPTIONS,
    REMEDIATION,
    TIME_TO_FIX,
    AWS_COMPLIANCE,
    RECONCILIATION,
)
"""Every parquet table of the lake, in the order of the data flow."""

RAW_FINDING_PAGES = "raw_finding_pages"
"""Name of the one dataset of the lake that is no table: pages as received, one a line."""


def table(name: str) -> Table:
    """The table of that name.

    Raises:
        KeyError: There is none.
    """
    return {each.name: each for each in TABLES}[name]
