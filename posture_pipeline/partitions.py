"""The daily partition that every asset has. Nothing about accounts: these are folders, not keys."""

from __future__ import annotations

from datetime import date

import dagster as dg


def daily_snapshots(start: date) -> dg.DailyPartitionsDefinition:
    """One partition a day (UTC), from the start date up to and including today.

    `end_offset=1` makes today a partition today: the snapshot of a day is taken on that day.
    """
    return dg.DailyPartitionsDefinition(start.isoformat(), timezone="UTC", end_offset=1)


def day_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    """The day of the snapshot that a step works on."""
    return date.fromisoformat(context.partition_key)


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The days that a step works on, oldest first: one, or all of a run over a range."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)
