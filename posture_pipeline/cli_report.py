"""`posture report`: writes the report pages into the lake, and opens them.

What stands on the pages and how they are made is in `report/`. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def report(arguments: argparse.Namespace) -> int:
    """Writes the pages of the newest day and says where they are."""
    from posture_pipeline.cli_commands import existing_lake, settings_of
    from posture_pipeline.explain_words import count
    from posture_pipeline.report.pages import write_pages

    settings = settings_of(arguments)
    lake = existing_lake(settings)
    written = write_pages(lake, settings)
    print(
        f"{count(written.pages, 'page')} of {written.day.isoformat()}, "
        f"{written.bytes / 1e6:.1f} MB, the largest {written.largest / 1e3:,.0f} kB."
    )
    print(written.index)
    if arguments.open:
        _open(written.index, is_local=lake.is_local)
    return 0


def _open(index: str, *, is_local: bool) -> None:
    import webbrowser

    if not is_local:
        print("The pages are in a bucket: copy the folder to open them.", file=sys.stderr)
    elif not webbrowser.open(Path(index).as_uri()):
        print("No browser was found; open the file yourself.", file=sys.stderr)
