"""What the Dagster UI shows of a table, and of a failed step. Never finding bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
import polars as pl

from posture_pipeline.aws.clients import is_passing
from posture_pipeline.column_lineage import Source, sources_of
from posture_pipeline.errors import PostureError
from posture_pipeline.lake.bucket import told
from posture_pipeline.lake.store import Commit, Lake
from posture_pipeline.schemas import Table
from posture_pipeline.settings import Thresholds

PREVIEW_ROWS = 10


def column_schema(table: Table) -> dg.TableSchema:
    """A table's declared columns with what they come from, as the UI shows them."""
    sources = sources_of(table)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                str(column.dtype),
                column.meaning + _comes_from(sources, column.name),
                dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def _comes_from(sources: Mapping[str, Sequence[Source]], column: str) -> str:
    """What the UI of Dagster+ draws as lineage, in words for every other UI."""
    by_table: dict[str, list[str]] = {}
    for upstream, name in sources.get(column, ()):
        by_table.setdefault(upstream, []).append(f"`{name}`")
    said = "; ".join(f"{upstream} {', '.join(names)}" for upstream, names in by_table.items())
    return f" *From {said}.*" if said else ""


def of_commit(table: Table, commit: Commit, lake: Lake) -> dict[str, Any]:
    """Rows, files, size and place of what was written, and what its columns come from."""
    sources = sources_of(table)
    lineage = dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(upstream), name) for upstream, name in of]
            for column, of in sources.items()
        }
    )
    return {
        "dagster/row_count": commit.rows,
        "dagster/uri": lake.uri(table.name),
        "files": commit.files,
        "size_mb": round(commit.bytes / 1e6, 3),
        **({"dagster/column_lineage": lineage} if sources else {}),
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


def spread_by_report(rows: pl.DataFrame, thresholds: Thresholds) -> dict[str, float]:
    """Plottable numbers of many scores, a few for each report whatever their number.

    `mean/fsbp` and `lowest/fsbp` of the scores there are, `red/fsbp` how many are below the red
    threshold, `without_score/fsbp` how many there are not.
    """
    score = pl.col("score")
    spread = rows.group_by("report", maintain_order=True).agg(
        score.mean().round(2).alias("mean"),
        score.min().round(2).alias("lowest"),
        (score < thresholds.red).sum().alias("red"),
        score.null_count().alias("without_score"),
    )
    return {
        f"{name}/{row['report']}": row[name]
        for name in spread.columns[1:]
        for row in spread.iter_rows(named=True)
        if row[name] is not None
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
    except OSError as error:
        if (said := told(error)) is None:
            raise
        raise dg.Failure(description=str(said), allow_retries=False) from error


def cause_of_failure(data: Any) -> str:  # noqa: ANN401 - Dagster's StepFailureData
    """Why a step failed: our own sentence, or the innermost error."""
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message).strip() if error is not None else "no reason was recorded."


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    for mark, escaped in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(mark, escaped)
    return text
