"""`posture access` and `posture export`: what a team may read, and its data alone.

Which objects and rows are a team's is decided in `lake/access.py` and `model/export.py`. Arguments
are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from posture_pipeline.errors import InputError

if TYPE_CHECKING:
    from posture_pipeline.lake.store import Lake
    from posture_pipeline.settings import Settings


def access(arguments: argparse.Namespace) -> int:
    """Prints the least IAM policy of a workload's team, or several that make it up."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.lake.access import FOLDERS, grants_of, team_of
    from posture_pipeline.model.access import (
        POLICIES_OF_A_ROLE,
        POLICY_CHARACTERS,
        place_of,
        read_policies,
        size_of,
    )

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    place = place_of(_uri(lake, arguments.bucket), settings.s3.region or settings.aws.region)
    team = team_of(lake, arguments.workload)
    key = arguments.kms_key or settings.s3.kms_key_arn
    policies = read_policies(place, grants_of(team), folders=FOLDERS, key_arn=key)
    number = len(team.accounts)
    if len(policies) > 1 and not arguments.split:
        message = (
            f"The {number} accounts of {team.workload!r} need {len(policies)} policies: one holds "
            f"{POLICY_CHARACTERS:,} characters. With --split they are printed as a list."
        )
        raise InputError(message)
    print(json.dumps(policies if arguments.split else policies[0], indent=2))
    sizes = " and ".join(f"{size_of(each):,}" for each in policies)
    print(
        f"{team.workload!r}: {number} account{'' if number == 1 else 's'} as of "
        f"{team.day.isoformat()}; {sizes} of {POLICY_CHARACTERS:,} characters. Print it again when "
        f"accounts come, go or move.",
        file=sys.stderr,
    )
    if key is None:
        print("Without --kms-key nothing of a KMS key is allowed.", file=sys.stderr)
    if len(policies) > POLICIES_OF_A_ROLE:
        print(
            f"A role has at most {POLICIES_OF_A_ROLE} managed policies, unless AWS raises it: "
            f"export the data instead, or give the team several roles.",
            file=sys.stderr,
        )
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Writes the data of a workload's team alone, into the lake or into a folder."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.lake.access import team_of

    if arguments.format == "html" and (arguments.from_ or arguments.to):
        message = "A page shows the newest day: leave out --from and --to, or take csv or parquet."
        raise InputError(message)
    settings = settings_of(arguments)
    lake = existing_lake(settings)
    put, where = _destination(lake, arguments)
    if arguments.format == "html":
        team = team_of(lake, arguments.workload)
        name, page = _page(lake, settings, team.workload)
        put(name, page.encode())
        print(f"The report page of {team.workload!r} as of {team.day.isoformat()}.")
    else:
        _export_rows(lake, arguments, put)
    print(where)
    return 0


def _export_rows(
    lake: Lake, arguments: argparse.Namespace, put: Callable[[str, bytes], None]
) -> None:
    from posture_pipeline.lake.export import export_workload

    exported = export_workload(
        lake,
        arguments.workload,
        arguments.format,
        put,
        since=arguments.from_,
        until=arguments.to,
    )
    for name, rows in exported.rows.items():
        print(f"{name}.{arguments.format}: {rows:,} row{'' if rows == 1 else 's'}")
    print(
        f"{arguments.workload!r} from {exported.first.isoformat()} to {exported.last.isoformat()}."
    )
    for name in exported.missing:
        print(
            f"There is no {name}: the lake has none of {exported.last.isoformat()}.",
            file=sys.stderr,
        )


def _page(lake: Lake, settings: Settings, workload: str) -> tuple[str, str]:
    from posture_pipeline.lake.layout import page_name
    from posture_pipeline.report import data
    from posture_pipeline.report.pages import page_of

    return page_name(workload), page_of(data.read(lake, settings), settings, workload)


def _destination(
    lake: Lake, arguments: argparse.Namespace
) -> tuple[Callable[[str, bytes], None], str]:
    """What writes a file by its name, and where it does."""
    from posture_pipeline.lake.layout import exports_of

    folder: Path | None = arguments.output
    if folder is None:
        prefix = exports_of(arguments.workload)
        return lambda name, data: lake.put(f"{prefix}/{name}", data), lake.uri(prefix)

    def write(name: str, data: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return write, str(folder)


def _uri(lake: Lake, named: str | None) -> str:
    if named is not None:
        return named
    if lake.is_local:
        message = (
            f"The lake {lake.root} is a folder, and an IAM policy is for a bucket. Name the place "
            f"where it will be with --bucket s3://bucket/prefix."
        )
        raise InputError(message)
    return lake.root
