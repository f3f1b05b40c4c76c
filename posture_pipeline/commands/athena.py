"""`posture athena-ddl`: definitions of the lake's tables for Amazon Athena.

They are made by `model/athena.py`. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import json
import sys

from posture_pipeline.errors import InputError


def athena_ddl(arguments: argparse.Namespace) -> int:
    """Prints the statements; with `--manifests` writes what the tables read before."""
    from posture_pipeline.commands.core import existing_lake, settings_of
    from posture_pipeline.lake.layout import MANIFESTS
    from posture_pipeline.model.athena import statements

    settings = settings_of(arguments)
    if "://" not in settings.lake:
        message = (
            f"The lake {settings.lake} is a folder, and Athena reads buckets. Name one with --lake "
            f"s3://bucket/prefix."
        )
        raise InputError(message)
    made = statements(
        f"{settings.lake.rstrip('/')}/{MANIFESTS}", settings.start_date, database=arguments.database
    )
    if arguments.manifests:
        from posture_pipeline.lake.athena import write_all_manifests

        print(f"{write_all_manifests(existing_lake(settings)):,} manifests.", file=sys.stderr)
    if arguments.format == "json":
        print(json.dumps(made, indent=1))
    else:
        print("\n\n".join(f"{each};" for each in made))
    return 0
