"""docs/tables.md, made from the schemas: `python -m posture_pipeline.table_docs` prints it.

What a table or a column means stands in `schemas`; here is only how it is shown, and the head.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from posture_pipeline.schemas import TABLES, Table

HEAD = """\
# Tables

Made by `make docs` from the declarations in `posture_pipeline/schemas.py`; change them there.

## The lake

```
<lake>/<table>/date=2026-11-23/run=1a2b3c4d/part-00000.parquet
<lake>/<table>/date=2026-11-23/_current.json
<lake>/<table>/month=2026-10/run=5e6f7a8b/part-00000.parquet
<lake>/account_findings/date=2026-11-23/run=1a2b3c4d/account_id=111122223333/findings.parquet
<lake>/raw_finding_pages/date=2026-11-23/run=1a2b3c4d/shard=0/pages-00000.ndjson.zst
<lake>/posture.duckdb
```

The partition is the day of the snapshot, in UTC. The files of a day lie in the folder of the run
that wrote them, and `_current.json`, the commit, says which run counts: its `run`, and `rows`,
`files`, `bytes`, `sha256`, `schema_version`, `written_at` and `details`. A write replaces the
commit last and then deletes the older runs. So go by the commit when you read with something else
than the catalog: a folder that it does not name is half a write or an old one, and a day without a
commit was never written. Of several files, `_files.json` in the run folder has the bytes of each.
A `_replaced=<run>.json` is a commit that was replaced and can be restored, until maintenance
deletes it with its files.

Score tables of past months are compacted: with a `month_run` in its commit, the rows of a day are
those of its `date` in that run folder of the month, and its own run folder is there for at most a
while. With a `removed_at` the rows were removed by retention.

`raw_finding_pages` is no table: it holds the replies of GetFindings as received, one page a
line, 100 pages a file.

Account ids are text everywhere (a guessed type loses the leading zero), times are UTC in
microseconds, several values in one column are joined by a blank. Columns are only ever added; an
older file gives null for a newer column. The column `null` below says where a value may be missing;
a write refuses rows with a null anywhere else, with a column missing, or with one more.

## The catalog

`posture.duckdb` holds the whole history of scores in one small file, which any DuckDB of the same
major version can open read-only, or `posture query`. It is replaced as a whole; a reader keeps what
it opened. It can be built anew from the lake at any time. [queries.md](queries.md) shows how to ask
it, with an example of everything.

In the file:

| name | what it is |
|---|---|
| account_scores, workload_scores, organization_scores, organization_accounts, \
expected_controls, source_completeness | the tables below, every day of them; some are views over \
packed tables |
| earlier_scores | table: scores of a day as earlier versions of the method made them |
| control_status_periods | table: a status of a control in an account from `valid_from` to \
`valid_to`, both observed days; null: until the newest |
| control_days | table: in how many accounts a control failed on a day, and in how many it had \
data |
| observed_days | table: the days that were scored |
| catalog_version | table: the version of these tables |
| control_status | view: control_status_periods as a row a day, without the counts of findings |
| accounts | view: every scored account with its workload, environment and owner, a row a day |
| scores_on(day) | macro: the workload scores of a day |
| trend(workload, environment) | macro: a workload's scores over time |
| worst_controls(day), worst_controls(from, to) | macro: the controls that fail in most accounts |
| changed_controls(report, from, to) | macro: the controls with another status in an account on the\
 second day |
| explain(report, workload, environment, day), explain(..., from, to) | macro: why a workload's \
score changed, by cause |
| explain_account(report, account, ...) | macro: the same of an account |
| explain_organization(report, ...) | macro: the same of everything |
| explain_day(...) | macro: what the three are made of, for one day |
| explain_days(...) | macro: likewise, for two days |
| periods_on(report, day) | macro: the control status of a report on a day, of the periods |

In the lake, read from its files:

| name | what it is |
|---|---|
| merged_findings, quarantine, finding_changes, carried_failures, exceptions, time_to_fix, \
listed_controls, aws_compliance, reconciliation, score_changes, score_change_causes | view: the \
tables below, every day of them; give a date, or all are read |
| findings | view: the findings of every day, by account; account_findings is the same |
| account_findings | view: findings |
| remediation | view: every failure once, as it is known last; the open ones as of the newest day |
| remediation_days | view: the table remediation, as every day knew it |
| control_status_on(day) | macro: the table control_status of a day, with its counts |
| merged_findings_on(day), quarantine_on(day), finding_changes_on(day), carried_failures_on(day), \
remediation_on(day), time_to_fix_on(day), listed_controls_on(day), \
aws_compliance_on(day), reconciliation_on(day), score_changes_on(day), score_change_causes_on(day) \
| macro: the rows of one day; an error if there is no such day |
| score_changes_between(from, to), score_change_causes_between(from, to) | macro: the rows of \
a range of days, looking for no others |
| findings_on(day) | macro: the findings of a day |
| account_findings_on(account, day) | macro: the findings of one account on a day; an error if \
the account has no file that day |
| new_failures(day) | macro: what fails on a day and did not before |
| backlog(report, workload, environment, day) | macro: what to fix first, and the score after |
| slowest_fixes(report) | macro: the failures that are open, the oldest first |
| exceptions_on(day) | macro: what is suppressed on a day, and what it is worth |
| scores_without_exceptions(day) | macro: the scores of a day if nothing were suppressed |
| lake_root() | macro: the lake that is read |
"""

_TYPES = {
    "String": "text",
    "Boolean": "true or false",
    "Binary": "bytes",
    "Date": "date",
}


def tables_page() -> str:
    """The whole of docs/tables.md."""
    return "\n".join([HEAD, *("\n".join(_section(table)) for table in TABLES)])


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.name}\n"
    yield table.meaning
    yield f"Key within a day: {', '.join(table.key)}.\n"
    yield "| column | type | null | meaning |"
    yield "|---|---|---|---|"
    for column in table.columns:
        meaning = column.meaning.replace("|", "\\|")
        null = "yes" if column.nullable else ""
        yield f"| {column.name} | {_type(column.dtype)} | {null} | {meaning} |"
    yield ""


def _type(dtype: pl.DataType | type[pl.DataType]) -> str:
    if isinstance(dtype, pl.Datetime):
        return "timestamp (UTC)"
    return _TYPES.get(str(dtype), str(dtype))


if __name__ == "__main__":
    print(tables_page(), end="")
