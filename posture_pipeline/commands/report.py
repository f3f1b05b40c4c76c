"""`posture report`: writes the report pages into the lake, and opens them.

What stands on the pages and how they are made is in `report/`. Arguments are declared in `cli.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from posture_pipeline.lake import layout
from posture_pipeline.lake.store import Lake


def report(arguments: argparse.Namespace) -> int:
    """Writes the pages of the newest day and says where they are."""
    from posture_pipeline.commands.core import existing_lake, settings_of
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
        _open(Path(written.index) if lake.is_local else _copied(lake))
    return 0


def _open(index: Path) -> None:
    import webbrowser

    if not webbrowser.open(index.as_uri()):
        print("No browser was found; open the file yourself.", file=sys.stderr)


def _copied(lake: Lake) -> Path:
    """The pages of a bucket in a folder here, which the system clears some day; the first page."""
    folder = Path(tempfile.mkdtemp(prefix="posture-report-"))
    for name in lake.names(layout.REPORT)[1]:
        (folder / name).write_bytes(lake.get(f"{layout.REPORT}/{name}") or b"")
    print(f"Copied to {folder}, to be opened.")
    return folder / "index.html"
