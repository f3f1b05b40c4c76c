"""`posture dashboards`: CloudWatch dashboards and alarms of a day: shown, put, or as a template.

Which there are stands in `model/dashboards.py` and `model/cloudformation.py`; here are the
question, the words and the formats. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from posture_pipeline.errors import InputError
from posture_pipeline.printable import printable

if TYPE_CHECKING:
    from datetime import date

    from rich.table import Table

    from posture_pipeline.lake.store import Lake
    from posture_pipeline.model.dashboards import Alarm, Dashboard, Wanted
    from posture_pipeline.settings import Settings

ORGANIZATION = "(organization)"


def dashboards(arguments: argparse.Namespace) -> int:
    """Shows the dashboards and alarms of a day, puts them, or writes the template of them."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.model.dashboards import CLOUDFORMATION, PIPELINE

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    if arguments.put:
        return _put(arguments, lake, settings)
    as_template = arguments.format == "cloudformation"
    found = _chosen(
        read_wanted(
            lake, settings, arguments.date, made_by=CLOUDFORMATION if as_template else PIPELINE
        ),
        arguments,
    )
    if as_template:
        from posture_pipeline.model.cloudformation import template, template_text

        print(template_text(template(found)))
    elif arguments.format == "json":
        print(json.dumps(_as_json(found), indent=1))
    else:
        _show(found, settings)
    return 0


def read_wanted(
    lake: Lake, settings: Settings, day: date | None, *, made_by: str | None = None
) -> Wanted:
    """The dashboards and alarms of a stored day.

    Args:
        lake: The lake.
        settings: Thresholds, names, what the alarms wait for.
        day: The day; null: the newest.
        made_by: Who will keep them up to date; null: this pipeline.

    Raises:
        InputError: The lake has no scores at all.
        LakeError: It has none of the day.
    """
    from posture_pipeline.model.dashboards import PIPELINE, wanted
    from posture_pipeline.schemas import ORGANIZATION_SCORES, WORKLOAD_SCORES

    day = day or lake.last_day(WORKLOAD_SCORES.name)
    if day is None:
        message = (
            f"The lake {lake.root} has no scores yet. Run posture run or posture import first."
        )
        raise InputError(message)
    return wanted(
        lake.read(WORKLOAD_SCORES, day),
        lake.read(ORGANIZATION_SCORES, day),
        settings,
        made_by=made_by or PIPELINE,
    )


def _chosen(found: Wanted, arguments: argparse.Namespace) -> Wanted:
    from posture_pipeline.model.cloudformation import only_workloads

    if not arguments.workload and not arguments.organization:
        return found
    return only_workloads(found, arguments.workload or [], organization=arguments.organization)


def _put(arguments: argparse.Namespace, lake: Lake, settings: Settings) -> int:
    from posture_pipeline.model.dashboards import enabled
    from posture_pipeline.resources import source_of
    from posture_pipeline.schemas import WORKLOAD_SCORES

    if arguments.workload or arguments.organization or arguments.format != "text":
        message = "--put puts all of them; leave out --workload, --organization and --format."
        raise InputError(message)
    newest = lake.last_day(WORKLOAD_SCORES.name)
    if arguments.date not in (None, newest):
        message = f"--put shows the newest day, {newest}; dashboards show no single older day."
        raise InputError(message)
    found = read_wanted(lake, settings, newest)
    if not any(each.workload is not None for each in found.dashboards or ()):
        message = "The newest day has no workloads; nothing is put, and nothing removed."
        raise InputError(message)
    wanted = enabled(found, settings)
    if wanted.dashboards is None and wanted.alarms is None:
        message = "dashboards.enabled and alarms.enabled are both off in the settings."
        raise InputError(message)
    with source_of(settings) as source:
        updated = source.dashboards(wanted)
    if updated is None:
        message = "There is nowhere to put dashboards."
        raise InputError(message)
    for name, count in updated.counts.items():
        print(f"{name.replace('_', ' ')}: {count:,}")
    if updated.note:
        print(updated.note)
    return 0


# --- in words ---------------------------------------------------------------------------------


def _show(found: Wanted, settings: Settings) -> None:
    from posture_pipeline.commands.output import print_table

    dashboards, alarms = found.dashboards or (), found.alarms or ()
    state = "on" if settings.dashboards.enabled else "off (dashboards.enabled)"
    print(f"{len(dashboards):,} dashboards, which the daily run puts: {state}.")
    print_table(_table("dashboard", dashboards))
    state = "on" if settings.alarms.enabled else "off (alarms.enabled)"
    print(f"{len(alarms):,} alarms, which the daily run puts: {state}.")
    if alarms:
        print_table(_table("alarm", alarms))
    print("CloudWatch charges for dashboards and for alarms; see docs/dashboards.md.")


def _table(kind: str, things: tuple[Dashboard, ...] | tuple[Alarm, ...]) -> Table:
    from rich.markup import escape

    from posture_pipeline.commands.output import new_table

    table = new_table(None, [(kind, False), ("of workload", False)])
    for each in things:
        whose = ORGANIZATION if each.workload is None else printable(each.workload)
        table.add_row(escape(each.name), escape(whose))
    return table


def _as_json(found: Wanted) -> dict[str, object]:
    return {
        "dashboards": [
            {"name": each.name, "workload": each.workload, "body": each.body}
            for each in found.dashboards or ()
        ],
        "alarms": [
            {"name": each.name, "workload": each.workload, "properties": each.properties}
            for each in found.alarms or ()
        ],
    }
