"""What the change of a score between two days is made of: the part of every control, and a verdict.

The split is exact, whatever the order of the controls. Why a control's status changed is found in
`causes`; reading the two days does not belong here, nor does wording for people.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from posture_pipeline.model.causes import (
    CARRIED,
    PAIR,
    Day,
    moved_accounts,
    report_methods,
    status_changed,
    with_resources,
)
from posture_pipeline.model.scoring import NO_FINDINGS, status_in_scope
from posture_pipeline.schemas import SCORE_CHANGE_CAUSES, SCORE_CHANGES, SEPARATOR

TOLERANCE = 1e-9
"""Points that a sum of parts may be off by: floating point, not posture."""

SCOPES: dict[str, tuple[str, ...]] = {
    "account": ("account_id",),
    "workload": ("workload", "environment"),
    "organization": (),
}
"""Each scope with the columns that name it."""

_NOT_THERE = {
    "account": "the account is not among the scored ones",
    "workload": "the workload has no accounts",
    "organization": "the organization has no accounts",
}
_COUNTED = ("PASSED", "FAILED", "UNKNOWN")
_RANK = {"FAILED": 3, CARRIED: 3, "UNKNOWN": 2, "PASSED": 1}


# --- the exact split --------------------------------------------------------------------------


def control_parts(before: pl.DataFrame, after: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The part of each control in the change of its scope's score.

    With P passed of N counted controls on each day, dP and dN what one control adds to them (-1, 0
    or 1), its part is

        100 x (dP x (1/N1 + 1/N2) / 2 - dN x (P1 + P2) / 2 / (N1 x N2))

    which is the midpoint split of P/N: the parts add up to the difference of the scores exactly.

    >>> day = lambda *statuses: pl.DataFrame(
    ...     {"report": "fsbp", "control_id": ["S3.1", "S3.5"], "status": statuses}
    ... )
    >>> parts = control_parts(day("PASSED", "PASSED"), day("FAILED", "PASSED"), [])
    >>> parts.sort("control_id")["part"].to_list()
    [-50.0, 0.0]

    Args:
        before: The keys, report, control_id and status, each control once a scope.
        after: The same of the later day.
        keys: Columns that name the scope; none: there is one.

    Returns:
        Every control of either day: the keys, report, control_id, the columns of both days as
        `..._before` and `..._after`, and part: null where a day has nothing counted, so no score.
    """
    on = [*keys, "report", "control_id"]
    both = before.rename({c: f"{c}_before" for c in before.columns if c not in on}).join(
        after.rename({c: f"{c}_after" for c in after.columns if c not in on}),
        on=on,
        how="full",
        coalesce=True,
    )
    scope = [*keys, "report"]
    flags = {}
    for when in ("before", "after"):
        status = pl.col(f"status_{when}")
        flags[f"_p_{when}"] = status.eq_missing("PASSED").cast(pl.Float64)
        flags[f"_n_{when}"] = status.is_in(_COUNTED).fill_null(value=False).cast(pl.Float64)
    sums = {f"{name}_all": pl.col(name).sum().over(scope) for name in flags}
    p1, p2 = pl.col("_p_before_all"), pl.col("_p_after_all")
    n1, n2 = pl.col("_n_before_all"), pl.col("_n_after_all")
    passed = pl.col("_p_after") - pl.col("_p_before")
    counted = pl.col("_n_after") - pl.col("_n_before")
    part = 100 * (passed * (1 / n1 + 1 / n2) / 2 - counted * (p1 + p2) / 2 / (n1 * n2))
    return (
        both.with_columns(**flags)
        .with_columns(**sums)
        .with_columns(part=pl.when((n1 > 0) & (n2 > 0)).then(part))
        .drop(*flags, *sums)
    )


# --- all scopes of two days -------------------------------------------------------------------


def score_changes(
    before: Day,
    after: Day,
    causes: pl.DataFrame,
    states: Mapping[str, pl.DataFrame],
    *,
    scopes: Collection[str] = tuple(SCOPES),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The changed controls of every scope with their parts, and their causes.

    Reports that only one of the days has are left out: there is nothing to compare.

    Args:
        before: The earlier day.
        after: The later day.
        causes: Causes of the changes in accounts, columns of `causes.CAUSE_SCHEMA`.
        states: `problems` of accounts that moved, by `before` and `after`.
        scopes: Which of SCOPES.

    Returns:
        Rows of `schemas.SCORE_CHANGES`, and of `schemas.SCORE_CHANGE_CAUSES`.
    """
    changes, reasons = [SCORE_CHANGES.empty()], [SCORE_CHANGE_CAUSES.empty()]
    for scope in scopes:
        rows, of_rows = _changes_of_scope(scope, before, after, causes, states)
        changes.append(rows)
        reasons.append(of_rows)
    return pl.concat(changes), pl.concat(reasons)


def _changes_of_scope(
    scope: str,
    before: Day,
    after: Day,
    causes: pl.DataFrame,
    states: Mapping[str, pl.DataFrame],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    keys = SCOPES[scope]
    on = [*keys, "report", "control_id"]
    of_day = (
        pl.lit(after.day).alias("date"),
        pl.lit(before.day).alias("compared_with"),
        pl.lit(scope).alias("scope"),
    )
    no_scope = {name: None for name in ("workload", "environment") if name not in keys}
    changed = (
        control_parts(scope_status(before, keys), scope_status(after, keys), keys)
        .filter(status_changed("status_before", "status_after"))
        .join(compared_scores(scope, before, after), on=[*keys, "report"], how="inner")
        .with_columns(
            *of_day,
            # A score may be withheld although there is something to count.
            part=pl.when(
                pl.col("score_before").is_not_null() & pl.col("score_after").is_not_null()
            ).then("part"),
            severity=pl.coalesce("severity_after", "severity_before"),
            failing_resources_before=pl.col("failing_before").fill_null(0),
            failing_resources_after=pl.col("failing_after").fill_null(0),
            **no_scope,
            **({} if "account_id" in keys else {"account_id": None}),
        )
    )
    if scope == "workload":
        causes = _causes_in_workloads(causes, states, before, after)
    statuses = changed.select(*on, was="status_before", now="status_after")
    reasons = causes.join(statuses, on=on, how="inner").with_columns(
        *of_day, decisive=_decisive(), **no_scope
    )
    changed = changed.join(_causes_of_controls(reasons, on), on=on, how="left")
    place = ["account_id", "region", "resource_id"]
    return (
        SCORE_CHANGES.project(changed.sort("report", *keys, "part", "control_id", nulls_last=True)),
        SCORE_CHANGE_CAUSES.project(
            reasons.sort(*on, ~pl.col("decisive"), "cause", *place, nulls_last=True)
        ),
    )


def scope_status(day: Day, keys: Sequence[str]) -> pl.DataFrame:
    """The status of each control in each scope, with its severity and failing resources."""
    accounts = day.accounts.select("account_id", *_besides_account(keys)).unique("account_id")
    rows = day.control_status.join(accounts, on="account_id", how="inner").with_columns(
        failed_resources=pl.coalesce("failed_resources", "failed_findings")
    )
    return (
        status_in_scope(rows.lazy(), keys)
        .select(*keys, "report", "control_id", "severity", "status", failing="failed_resources")
        .collect()
    )


def _besides_account(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if key != "account_id"]


def compared_scores(scope: str, before: Day, after: Day) -> pl.DataFrame:
    """The scores of both days of every scope, and whether they can be compared.

    Returns:
        The scope's columns, report, report_kind, score_before, score_after, and comparable: why
        the two cannot be compared, null if they can; last_score and last_score_date of a day that
        has none. Only reports that both days have.
    """
    keys = [*SCOPES[scope], "report"]
    first, second = (
        _scores_of(scope, day).select(
            *keys,
            "report_kind",
            "score",
            "reason",
            "incomplete",
            "last_score",
            "last_score_date",
            there=True,
        )
        for day in (before, after)
    )
    both = first.join(second, on=keys, how="full", coalesce=True, suffix="_after").rename(
        {"score": "score_before"}
    )
    return both.join(report_methods(before, after), on="report", how="inner").select(
        *keys,
        "score_before",
        "score_after",
        report_kind=pl.coalesce("report_kind_after", "report_kind"),
        last_score=pl.coalesce("last_score_after", "last_score"),
        last_score_date=pl.coalesce("last_score_date_after", "last_score_date"),
        comparable=pl.when(pl.col("score_before").is_null())
        .then(_no_score(scope, before, "there", "reason"))
        .when(pl.col("score_after").is_null())
        .then(_no_score(scope, after, "there_after", "reason_after"))
        .when(pl.col("method_before").ne_missing(pl.col("method_after")))
        .then(
            pl.format(
                "the scoring method changed from {} to {}",
                pl.col("method_before").fill_null("?"),
                pl.col("method_after").fill_null("?"),
            )
        )
        .when(pl.col("settings_hash_before").ne_missing(pl.col("settings_hash_after")))
        .then(pl.lit("the settings of the report changed"))
        .when(pl.col("incomplete").ne_missing(pl.col("incomplete_after")))
        .then(
            pl.concat_str(
                pl.format("{} on {}", "incomplete_after", pl.lit(after.day.isoformat())),
                pl.format("{} on {}", "incomplete", pl.lit(before.day.isoformat())),
                separator="; ",
                ignore_nulls=True,
            )
        ),
    )


def _scores_of(scope: str, day: Day) -> pl.DataFrame:
    tables = {
        "account": day.accounts,
        "workload": day.workloads,
        "organization": day.organization,
    }
    return tables[scope].with_columns(there=pl.lit(value=True))


def _no_score(scope: str, day: Day, there: str, reason: str) -> pl.Expr:
    why = pl.when(pl.col(there).is_null()).then(pl.lit(_NOT_THERE[scope])).otherwise(reason)
    return pl.format("no score on {}: {}", pl.lit(day.day.isoformat()), why.fill_null("unknown"))


def _causes_in_workloads(
    causes: pl.DataFrame, states: Mapping[str, pl.DataFrame], before: Day, after: Day
) -> pl.DataFrame:
    """The causes with the workload and environment they count for.

    What happens in an account counts where the account is. For one that moved only that counts: it
    took its controls, as they were, out of one workload, and brought them, as they are, to another.
    """
    keys = ["workload", "environment"]
    moved = moved_accounts(before, after)
    stayed = (
        pl.concat([_places(after), _places(before)])
        .unique("account_id", keep="first", maintain_order=True)
        .join(moved, on="account_id", how="anti")
    )
    route = pl.format(
        "from {} {} to {} {}", "workload", "environment", "workload_after", "environment_after"
    )
    counted = [causes.join(stayed, on="account_id", how="inner")]
    for day, when, suffix in ((before, "before", ""), (after, "after", "_after")):
        here = moved.select(
            "account_id", *(pl.col(f"{key}{suffix}").alias(key) for key in keys), detail=route
        )
        rows = (
            day.control_status.filter(pl.col("status") != "NO_DATA")
            .join(here, on="account_id")
            .select(
                *PAIR,
                *keys,
                "detail",
                pl.col("status").alias(f"status_{when}"),
                pl.lit("account_moved").alias("cause"),
            )
        )
        counted.append(with_resources(rows, states[when], when))
    return pl.concat(counted, how="diagonal")


def _places(day: Day) -> pl.DataFrame:
    return day.accounts.select("account_id", "workload", "environment").unique("account_id")


def _decisive() -> pl.Expr:
    """Whether a cause shows the status that the control got worse to, or got better from."""

    def rank(name: str) -> pl.Expr:
        return pl.col(name).replace_strict(_RANK, default=0, return_dtype=pl.Int8)

    return (
        pl.when(rank("now") > rank("was"))
        .then(rank("status_after") == rank("now"))
        .otherwise(rank("status_before") == rank("was"))
    )


def _causes_of_controls(reasons: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """The causes of each control in one text, the most frequent first; the decisive ones if any."""
    counts = reasons.group_by(*on, "cause").agg(pl.col("decisive").sum(), rows=pl.len())
    kept = counts.filter((pl.col("decisive") > 0) | (pl.col("decisive").max().over(on) == 0))
    return (
        kept.sort(-pl.col("decisive").cast(pl.Int64), -pl.col("rows").cast(pl.Int64), "cause")
        .group_by(on, maintain_order=True)
        .agg(causes=pl.col("cause").str.join(SEPARATOR))
    )


# --- like for like ----------------------------------------------------------------------------


def like_for_like(scope: str, before: Day, after: Day) -> pl.DataFrame:
    """The scores over the accounts and controls that are there on both days only.

    So that a growing organization, or controls that AWS adds, do not look like decay. An account is
    there if it is in the scope and sends findings; a control if the report counts it.

    Returns:
        The scope's columns, report, score_before, score_after (null: nothing to compare),
        accounts and controls: how many are compared.
    """
    keys = SCOPES[scope]
    accounts = _there(before, keys).join(
        _there(after, keys), on=["account_id", *_besides_account(keys)], how="inner"
    )
    controls = before.controls.join(after.controls, on=["report", "control_id"], how="inner")
    scope_keys = [*keys, "report"]
    scores = []
    for day in (before, after):
        rows = day.control_status.join(accounts, on="account_id", how="inner").join(
            controls, on=["report", "control_id"], how="semi"
        )
        counted = pl.col("status").is_in(_COUNTED)
        scores.append(
            status_in_scope(rows.lazy(), keys)
            .group_by(scope_keys)
            .agg(
                score=pl.when(counted.any()).then(
                    100 * (pl.col("status") == "PASSED").sum() / counted.sum()
                )
            )
            .collect()
        )
    names = accounts.select("account_id", *_besides_account(keys)).unique()
    members = (
        names.group_by(keys).agg(accounts=pl.len()) if keys else names.select(accounts=pl.len())
    )
    sizes = members.join(controls.group_by("report").agg(controls=pl.len()), how="cross")
    return (
        sizes.join(scores[0].rename({"score": "score_before"}), on=scope_keys, how="left")
        .join(scores[1].rename({"score": "score_after"}), on=scope_keys, how="left")
        .select(*scope_keys, "score_before", "score_after", "accounts", "controls")
    )


def _there(day: Day, keys: Sequence[str]) -> pl.DataFrame:
    """The accounts that send findings, with the scope they are in."""
    sends = day.accounts.filter(pl.col("reason").ne_missing(NO_FINDINGS))
    return sends.select("account_id", *_besides_account(keys)).unique()


# --- the verdict ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a score is only lower because of some controls.

    Attributes:
        answer: true, partly or false.
        change: The change of the score, in points.
        claimed: What the claimed controls add to it.
        others: What all other controls add to it.
        share: Part of the drop that the claimed controls explain; null without a drop.
    """

    answer: Literal["true", "partly", "false"]
    change: float
    claimed: float
    others: float
    share: float | None


def judge(claim: Collection[str], parts: Mapping[str, float]) -> Verdict:
    """Judges "it is only lower because of these controls".

    - true: the score dropped, and without the claimed controls it would not have: the parts of all
      others add up to zero or more.
    - partly: the claimed controls pulled it down, and so did the others taken together.
    - false: the score did not drop, or the claimed controls taken together pulled nothing down.

    >>> judge(["S3.1"], {"S3.1": -2.0, "EC2.2": -5.0}).answer
    'partly'
    >>> judge(["S3.1"], {"S3.1": -2.0, "EC2.2": 0.5}).answer
    'true'

    Args:
        claim: Ids of the claimed controls.
        parts: The part of each control whose part is not zero, as `control_parts` gives them.
    """
    claimed = sum(part for control, part in parts.items() if control in claim)
    others = sum(part for control, part in parts.items() if control not in claim)
    change = claimed + others
    if change >= -TOLERANCE:
        return Verdict("false", change, claimed, others, None)
    share = claimed / change
    if claimed >= -TOLERANCE:
        return Verdict("false", change, claimed, others, share)
    return Verdict("true" if others >= -TOLERANCE else "partly", change, claimed, others, share)


# --- what must hold ---------------------------------------------------------------------------


def parts_that_do_not_add_up(changes: pl.DataFrame, before: Day, after: Day) -> pl.DataFrame:
    """Scopes whose stored parts do not add up to the change of their stored scores.

    A score that did not change may have parts that cancel out, or none; where one of the two days
    has no score there must be none.

    Args:
        changes: Rows of `schemas.SCORE_CHANGES`.
        before: The day they are compared with.
        after: Their day.

    Returns:
        scope, account_id, workload, environment, report, score_before, score_after, parts.
    """
    wrong = []
    for scope, keys in SCOPES.items():
        on = [*keys, "report"]
        parts = (
            changes.filter(pl.col("scope") == scope, pl.col("part").is_not_null())
            .group_by(on)
            .agg(parts=pl.col("part").sum())
        )
        rows = compared_scores(scope, before, after).join(parts, on=on, how="left")
        difference = pl.col("score_after") - pl.col("score_before")
        off = (
            pl.when(difference.is_null())
            .then(pl.col("parts").is_not_null())
            .otherwise((difference - pl.col("parts").fill_null(0)).abs() > TOLERANCE)
        )
        columns = ("account_id", "workload", "environment")
        wrong.append(
            rows.filter(off).select(
                pl.lit(scope).alias("scope"),
                *(
                    pl.col(name) if name in keys else pl.lit(None, dtype=pl.String).alias(name)
                    for name in columns
                ),
                "report",
                "score_before",
                "score_after",
                "parts",
            )
        )
    return pl.concat(wrong).sort("scope", "report", *columns)
