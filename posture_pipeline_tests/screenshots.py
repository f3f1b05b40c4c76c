"""Makes the pictures of the report pages in docs/images, from a demo of its own: make screenshots.

They change only when the pages do, or the demo's days: the organization is the same each time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from posture_pipeline.report.pages import FOLDER, INDEX, page_name
from posture_pipeline_tests.browser import CHROMIUM, launch
from posture_pipeline_tests.commands import posture

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WORKLOAD = "payments"
PICTURES = {
    "report-organization.png": (INDEX, 1330),
    "report-workload.png": (page_name(WORKLOAD), 1500),
}
"""The page of each picture, and the height in pixels that it shows."""
WIDTH = 1200
DAYS = 14


def main() -> int:
    """Writes the pictures; the exit code is 1 where there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, help="a lake with a demo, instead of a new one")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder (default: docs/images)")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        print("Chromium is not installed (Debian: apt-get install chromium).", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        lake = arguments.lake
        if lake is None:
            lake = Path(folder, "demo")
            posture("demo", "--lake", "demo", "--days", str(DAYS), cwd=Path(folder))
        posture("report", "--lake", str(lake.resolve()), cwd=Path(folder))
        take(lake.resolve() / FOLDER, arguments.to)
    return 0


def take(pages: Path, to: Path) -> None:
    """Takes the pictures of the pages in a folder."""
    to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name, (page, height) in PICTURES.items():
            opened = browser.new_page(viewport={"width": WIDTH, "height": height})
            opened.goto((pages / page).as_uri())
            opened.screenshot(path=to / name)
            print(f"{to / name}: {(to / name).stat().st_size / 1e3:,.0f} kB")
        browser.close()


if __name__ == "__main__":
    raise SystemExit(main())
