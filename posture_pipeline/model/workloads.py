"""Accounts: their workload, environment and owner, from the overrides, tags and names.

Key is the account id; names change. Reading the overrides file and asking AWS for accounts and tags
do not belong here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from posture_pipeline.model.controls import AWS_PROVIDER
from posture_pipeline.model.hand_kept import HandKeptFile, HandKeptLine
from posture_pipeline.schemas import ORGANIZATION_ACCOUNTS
from posture_pipeline.settings import ENVIRONMENTS

if TYPE_CHECKING:
    from posture_pipeline.settings import Accounts

SCORED_STATE = "ACTIVE"
"""Accounts in any other state are listed and not scored."""

NOT_LISTED = "NOT_LISTED"
"""State of an account that Organizations does not list and that the settings leave out."""

EARLIER_DAY = "earlier_day"
"""Source of an account that an earlier day had, and that nothing of the day names."""

UNKNOWN_ENVIRONMENT = "unknown"
"""Environment of an account whose workload nothing resolved."""

OVERRIDE_COLUMNS = ("account_id", "workload", "environment", "owner")
"""Columns of the overrides file; the last two may be left out."""

OVERRIDES_SCHEMA = pl.Schema(dict.fromkeys(OVERRIDE_COLUMNS, pl.String()))

WORKLOAD_SCHEMA = pl.Schema(
    dict.fromkeys(("workload", "environment", "owner", "workload_source"), pl.String())
)


@dataclass(frozen=True, slots=True)
class _Named:
    """What one source says of an account; null: nothing."""

    workload: str | None = None
    environment: str | None = None
    owner: str | None = None


def resolve_workloads(
    accounts: pl.DataFrame, settings: Accounts, overrides: pl.DataFrame | None
) -> pl.DataFrame:
    """Gives every account a workload, environment and owner.

    The workload is the first of: the overrides, the account's tags, its name by the pattern. The
    environment is what that source says, else what a later source says, else the default. The owner
    is of the overrides, else of the tags. What nothing resolves has the account's name (or id) as
    workload and the environment `unknown`.

    Args:
        accounts: Columns of `schemas.ORGANIZATION_ACCOUNTS`.
        settings: The settings of accounts.
        overrides: As `parse_overrides` gives them.

    Returns:
        The accounts with workload, environment, owner and workload_source (String: overrides, tags,
        name or account_name).
    """
    overridden = _by_account(overrides)
    pattern = re.compile(settings.name_pattern, re.IGNORECASE)
    rows = [
        _resolve(
            overridden.get(account_id, _Named()),
            _from_tags(tags, settings),
            _from_name(name, pattern),
            fallback=_text(name) or account_id,
            default_environment=settings.default_environment,
        )
        for account_id, name, tags in accounts.select(
            "account_id", "account_name", "tags"
        ).iter_rows()
    ]
    resolved = pl.DataFrame(rows, schema=WORKLOAD_SCHEMA, orient="row")
    return pl.concat(
        [accounts.drop(WORKLOAD_SCHEMA.names(), strict=False), resolved], how="horizontal"
    )


def complete_accounts(
    listed: pl.DataFrame,
    in_findings: pl.DataFrame,
    overrides: pl.DataFrame | None,
    *,
    unlisted: Literal["score", "ignore"] = "score",
    earlier: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Adds the accounts that the organization did not list.

    Args:
        listed: Columns of `schemas.ORGANIZATION_ACCOUNTS`, as the organization listed them.
        in_findings: account_id, account_name (String) as findings name them, and provider if there
            are other clouds than AWS; repeats are allowed.
        overrides: As `parse_overrides` gives them.
        unlisted: ignore: those that a list lacks get the state NOT_LISTED, which is not scored.
        earlier: account_id, account_name (String) and source of the accounts that were scored on
            the earlier day. Where today nobody lists such an account, nothing says that it left:
            it is there, without findings.

    Returns:
        Columns of `schemas.ORGANIZATION_ACCOUNTS`, sorted by account id: the listed accounts (a
        missing name taken from the findings), then those of findings and overrides alone, as
        ACTIVE. `date` is the listed accounts' one. The source of a subscription of another cloud is
        connector; no organization lists these, so they are ACTIVE always.
    """
    if "provider" not in in_findings.columns:
        in_findings = in_findings.with_columns(provider=pl.lit(AWS_PROVIDER))
    names = (
        in_findings.select("account_id", "provider", pl.col("account_name").cast(pl.String))
        .filter(pl.col("account_id").is_not_null())
        .group_by("account_id")
        .agg(
            _name=pl.col("account_name").drop_nulls().min(),
            _foreign=(pl.col("provider") != AWS_PROVIDER).fill_null(value=False).all(),
        )
    )
    day = listed["date"].drop_nulls().first() if listed.height else None
    found = names.select(
        "account_id",
        account_name="_name",
        source=pl.when("_foreign").then(pl.lit("connector")).otherwise(pl.lit("findings")),
        state=pl.lit(SCORED_STATE),
    )
    named = (overrides if overrides is not None else pl.DataFrame(schema=OVERRIDES_SCHEMA)).select(
        "account_id", source=pl.lit("overrides"), state=pl.lit(SCORED_STATE)
    )
    known_before = [] if earlier is None else [_still_there(earlier, listed)]
    added = pl.concat([found, named, *known_before], how="diagonal").unique(
        "account_id", keep="first", maintain_order=True
    )
    added = added.join(listed, on="account_id", how="anti").with_columns(
        date=pl.lit(day, dtype=pl.Date), tags=None, joined_at=None
    )
    if unlisted == "ignore" and listed.height:
        is_known = pl.col("source").is_in(["connector", EARLIER_DAY])
        added = added.with_columns(
            state=pl.when(is_known).then("state").otherwise(pl.lit(NOT_LISTED))
        )
    known = listed.join(names, on="account_id", how="left").with_columns(
        account_name=pl.coalesce("account_name", "_name")
    )
    return pl.concat(
        [ORGANIZATION_ACCOUNTS.project(known), ORGANIZATION_ACCOUNTS.project(added)]
    ).sort("account_id")


def _still_there(earlier: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """The accounts of the earlier day that no list of today could name."""
    of_connector = pl.col("source") == "connector"
    return earlier.filter(pl.lit(value=listed.is_empty()) | of_connector).select(
        "account_id",
        "account_name",
        # No list ever names a subscription, so the next day must know it as one too.
        source=pl.when(of_connector).then("source").otherwise(pl.lit(EARLIER_DAY)),
        state=pl.lit(SCORED_STATE),
    )


def parse_overrides(text: str, path: str) -> pl.DataFrame:
    """Reads the overrides: CSV with a header, separated by commas or semicolons.

    Args:
        text: The file's text.
        path: Its path, for messages.

    Returns:
        account_id, workload, environment, owner (String); blank values are null.

    Raises:
        SettingsError: A column is unknown or missing, or a line has a wrong account id, a repeated
            one, an environment without a workload, or another number of values; the text names the
            line and the fix.
    """
    file = HandKeptFile("overrides file", path, OVERRIDE_COLUMNS)
    rows: list[list[str | None]] = []
    lines: dict[str, int] = {}
    for line in file.lines(text, missing=_missing_column):
        row = _override(line)
        account_id = str(row[0])
        if account_id in lines:
            problem = f"account {account_id} is on line {lines[account_id]} already"
            line.refuse(problem, "keep one of them")
        lines[account_id] = line.number
        rows.append(row)
    return pl.DataFrame(rows, schema=OVERRIDES_SCHEMA, orient="row")


def _resolve(
    overrides: _Named,
    tags: _Named,
    name: _Named,
    *,
    fallback: str,
    default_environment: str,
) -> tuple[str, str, str | None, str]:
    owner = overrides.owner or tags.owner
    sources = {"overrides": overrides, "tags": tags, "name": name}
    for source, named in sources.items():
        if named.workload is not None:
            others = (each.environment for each in sources.values())
            environment = named.environment or next(filter(None, others), default_environment)
            return named.workload, environment, owner, source
    return fallback, UNKNOWN_ENVIRONMENT, owner, "account_name"


def _by_account(overrides: pl.DataFrame | None) -> dict[str, _Named]:
    if overrides is None:
        return {}
    return {
        account_id: _Named(_text(workload), _environment(environment), _text(owner))
        for account_id, workload, environment, owner in overrides.select(
            OVERRIDE_COLUMNS
        ).iter_rows()
    }


def _from_tags(tags: str | None, settings: Accounts) -> _Named:
    try:
        values = json.loads(tags or "{}")
    except ValueError:
        return _Named()
    if not isinstance(values, Mapping):
        return _Named()
    names = settings.tags
    return _Named(
        _text(values.get(names.workload)),
        _environment(values.get(names.environment)),
        _text(values.get(names.owner)),
    )


def _from_name(name: str | None, pattern: re.Pattern[str]) -> _Named:
    """By the pattern; a name that has an environment where the workload should be names neither."""
    match = pattern.search(_text(name) or "")
    if match is None:
        return _Named()
    groups = match.groupdict()
    workload = _text(groups["workload"])
    environment = _environment(groups.get("environment"))
    if workload is None or (environment is None and workload.lower() in ENVIRONMENTS):
        return _Named()
    return _Named(workload, environment)


def _environment(value: object) -> str | None:
    text = _text(value)
    return text.lower() if text is not None else None


def _text(value: object) -> str | None:
    """Text without blanks around it; null if nothing is left."""
    return (value.strip() or None) if isinstance(value, str) else None


def _missing_column(columns: Sequence[str]) -> str | None:
    return next((repr(name) for name in OVERRIDE_COLUMNS[:2] if name not in columns), None)


def _override(line: HandKeptLine) -> list[str | None]:
    account_id = line.account_id("account_id")
    if account_id is None:
        line.refuse("it names no account", "give the account id")
    workload, environment = line["workload"], line["environment"]
    if environment is not None and workload is None:
        problem = f"account {account_id} has an environment without a workload"
        line.refuse(problem, "give both, or neither")
    return [account_id, workload, environment, line["owner"]]
