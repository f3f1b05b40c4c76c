"""A workload's own rows of any table, and text that a spreadsheet takes for text.

Which tables are exported and where to stands in `lake/export.py`.
"""

from __future__ import annotations

import polars as pl
from polars import selectors

from posture_pipeline.schemas import Table

_FORMULA = "['=+\\-@\uff1d\uff0b\uff0d\uff20]"
"""Begins a formula in a spreadsheet, the last four in full width; and the mark put before them.

Source: OWASP, CSV injection.
"""

_AT_THE_START = rf"^(\s*{_FORMULA}|[\t\r\n])"
_IN_A_PART = rf"([;\t\r\n])( *{_FORMULA})"
"""Where a cell would begin for a reader that parts cells otherwise, such as by semicolons."""


def own_rows(
    table: Table, rows: pl.LazyFrame, workload: str, accounts: pl.LazyFrame
) -> pl.LazyFrame:
    """The rows of a table that are a workload's own.

    Those of its accounts count while they were its own: an account that moved here brings no rows
    of the days before, and one that moved away leaves its earlier ones.

    Args:
        table: The table.
        rows: Its rows, of any days.
        workload: The workload.
        accounts: date and account_id: which accounts were scored under it on which days.

    Raises:
        ValueError: The rows of the table are nobody's own.
    """
    of_account = rows.join(accounts, on=["date", "account_id"], how="semi", maintain_order="left")
    if "scope" in table.names:
        of_workload = rows.filter(pl.col("scope") == "workload", pl.col("workload") == workload)
        return pl.concat([of_workload, of_account.filter(pl.col("scope") == "account")])
    if "workload" in table.names:
        return rows.filter(pl.col("workload") == workload)
    if "account_id" in table.names:
        return of_account
    message = f"{table.name} has no rows of a workload or account."
    raise ValueError(message)


def failing(findings: pl.LazyFrame) -> pl.LazyFrame:
    """The findings that fail and count: active, and not suppressed."""
    return findings.filter(
        pl.col("record_state") == "ACTIVE",
        pl.col("compliance_status") == "FAILED",
        pl.col("workflow_status").ne_missing("SUPPRESSED"),
    )


def spreadsheet_csv(rows: pl.DataFrame) -> bytes:
    """Rows as CSV that a spreadsheet can open: UTF-8 with its mark, times in ISO 8601.

    Text that would be a formula gets a `'` before it. So does text with a `'` there already: taking
    one away from each such place gives the text as it was.
    """
    texts = rows.with_columns(
        selectors.string()
        .str.replace(_AT_THE_START, "'${1}")
        .str.replace_all(_IN_A_PART, "${1}'${2}"),
        selectors.datetime().dt.to_string("iso"),
        selectors.binary().bin.encode("hex"),
    )
    return texts.write_csv(include_bom=True).encode()
