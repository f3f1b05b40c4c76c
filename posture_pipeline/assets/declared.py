"""What every asset of the pipeline has in common, said once."""

from __future__ import annotations

from typing import Any

import dagster as dg

from posture_pipeline import metadata
from posture_pipeline.schemas import Table

OWNERS = ["team:cloud-security"]


def of_table(table: Table, *, group: str, daily: dg.PartitionsDefinition[str]) -> dict[str, Any]:
    """Arguments of an asset that writes a table of the lake."""
    return {
        "name": table.name,
        "group_name": group,
        "partitions_def": daily,
        "owners": OWNERS,
        "kinds": {"polars", "parquet"},
        "metadata": {"dagster/column_schema": metadata.column_schema(table)},
    }


def plain(
    name: str, *, group: str, daily: dg.PartitionsDefinition[str], kinds: set[str]
) -> dict[str, Any]:
    """Arguments of an asset that is no table of the lake."""
    return {
        "name": name,
        "group_name": group,
        "partitions_def": daily,
        "owners": OWNERS,
        "kinds": kinds,
    }
