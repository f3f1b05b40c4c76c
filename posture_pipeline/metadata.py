"""What the Dagster UI shows of a table: columns, rows, a preview. Never finding bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import polars as pl

from posture_pipeline.aws.clients import is_passing
from posture_pipeline.errors import PostureError
from posture_pipeline.lake.store import Commit
from posture_pipeline.schemas import Table

PREVIEW_ROWS = 10


def column_schema(table: Table) -> dg.TableSchema:
    """A table's declared columns, as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, str(column.dtype), column.meaning)
            for column in table.columns
        ]
    )


def of_commit(commit: Commit, uri: str) -> dict[str, Any]:
    """Rows, files, size and place of what was written."""
    return {
        "dagster/row_count": commit.rows,
        "dagster/uri": uri,
        "files": commit.files,
        "size_mb": round(commit.bytes / 1e6, 3),
    }


def preview(rows: pl.DataFrame, columns: list[str]) -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a table."""
    head = rows.select(columns).head(PREVIEW_ROWS)
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in head.iter_rows()]
    if rows.height > PREVIEW_ROWS:
        lines.append(f"\n{rows.height - PREVIEW_ROWS} more rows.")
    return dg.MetadataValue.md("\n".join(lines))


def scores_by_report(rows: pl.DataFrame) -> Mapping[str, float]:
    """A plottable number a report: `score/fsbp` and so on, where there is a score."""
    return {
        f"score/{report}": round(score, 4)
        for report, score in rows.select("report", "score").drop_nulls().iter_rows()
    }


@contextmanager
def explained(retries: dg.RetryPolicy | None = None, *, attempt: int = 0) -> Iterator[None]:
    """Turns our errors into failures that carry their text, tried again only if that can help.

    The policy is not given to Dagster: it would try again what somebody interrupted, and errors
    that no retry mends.

    Args:
        retries: How often, and after what wait, a step is tried again.
        attempt: Tries of the step before this one.

    Raises:
        RetryRequested: The error passes by itself, and there are retries left.
        Failure: Any other error of ours.
    """
    try:
        yield
    except PostureError as error:
        if retries is not None and is_passing(error) and attempt < retries.max_retries:
            wait = retries.calculate_delay(attempt + 1)
            raise dg.RetryRequested(retries.max_retries, seconds_to_wait=wait) from error
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    for mark, escaped in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(mark, escaped)
    return text
