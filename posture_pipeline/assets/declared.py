"""What every asset of the pipeline has in common, said once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from posture_pipeline import metadata
from posture_pipeline.links import Links
from posture_pipeline.schemas import Table

OWNERS = ["team:cloud-security"]

LINKED_GROUPS = {"scores", "history", "publish"}
"""Groups whose assets link to what people open: the report page and the dashboard."""


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


def with_links(assets: Sequence[dg.AssetsDefinition], links: Links) -> list[dg.AssetsDefinition]:
    """The assets, with links where people look for them; on the asset itself, so never outdated."""
    shown: dict[str, dg.MetadataValue[Any]] = {}
    if links.report is not None:
        shown["report_page"] = dg.MetadataValue.url(links.report)
    if links.file is not None:
        shown["report_page"] = dg.MetadataValue.path(links.file)
    if links.dashboard is not None:
        shown["cloudwatch_dashboard"] = dg.MetadataValue.url(links.dashboard)

    def linked(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.group_name not in LINKED_GROUPS:
            return spec
        return spec.merge_attributes(metadata=shown)

    return [asset.map_asset_specs(linked) for asset in assets]
