"""Makes the pictures in docs/images, from a demo of its own: make screenshots.

Report pages, Dagster's UI on the demo's lake, and the command line in a terminal.

They change only when the pages do, or the demo's days: the organization is the same each time.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import dagster as dg
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from posture_pipeline.lake.layout import REPORT, page_name
from posture_pipeline.report.pages import INDEX
from posture_pipeline_tests.browser import CHROMIUM, launch
from posture_pipeline_tests.commands import environment, posture

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WORKLOAD = "payments"
PICTURES = {
    "report-organization.png": (INDEX, 1330),
    "report-workload.png": (page_name(WORKLOAD), 1500),
}
"""The page of each picture, and the height in pixels that it shows."""
WIDTH = 1200
DAYS = 14

UI_PICTURES = {
    "dagster-day-summary.png": ("/assets/day_summary?view=events", 1080, "trend/lz-rules"),
    "dagster-plots.png": ("/assets/day_summary?view=overview", 1000, "Description"),
    "dagster-check.png": (
        "/assets/account_scores?view=checks&checkDetail=accounts_have_a_workload",
        640,
        "Latest execution",
    ),
    "dagster-run.png": ("/runs/{run}", 900, "RUN_SUCCESS"),
}
"""The page of each picture of Dagster's UI, its height, and a text that shows that it is there."""
UI_WIDTH = 1400
UI_CLICKS = {"dagster-plots.png": ("Plots",)}
"""What is clicked before a picture is taken."""
DIALOG_PICTURE = "dagster-day-summary-whole.png"

MILLISECONDS_FOR_A_PAGE = 180_000
MOST_LOOKS = 20
MILLISECONDS_BETWEEN_LOOKS = 2000

TERMINAL_PICTURE = "terminal-scores.png"
TERMINAL_COLUMNS = 132


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
        arguments.to.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = launch(playwright)
            take_pages(browser, lake.resolve() / REPORT, arguments.to)
            take_terminal(browser, lake.resolve(), arguments.to)
            with dagster_ui(lake.resolve(), Path(folder)) as address:
                take_ui(browser, address, lake.resolve(), arguments.to)
            browser.close()
    return 0


def take_pages(browser: Browser, pages: Path, to: Path) -> None:
    """Takes the pictures of the report pages in a folder."""
    for name, (page, height) in PICTURES.items():
        opened = browser.new_page(viewport={"width": WIDTH, "height": height})
        opened.goto((pages / page).as_uri())
        _save(opened, to / name)


def take_ui(browser: Browser, address: str, lake: Path, to: Path) -> None:
    """Takes the pictures of Dagster's UI."""
    with dg.DagsterInstance.from_config(str(lake / ".dagster")) as instance:
        run = next(r for r in instance.get_runs() if r.job_name == "daily_posture")
    for name, (page, height, there) in UI_PICTURES.items():
        opened = browser.new_page(viewport={"width": UI_WIDTH, "height": height})
        opened.set_default_timeout(MILLISECONDS_FOR_A_PAGE)
        opened.goto(address + page.format(run=run.run_id))
        opened.get_by_text(there, exact=True).first.wait_for()
        for click in UI_CLICKS.get(name, ()):
            opened.get_by_text(click, exact=True).first.click()
        _save(opened, to / name)
    opened = browser.new_page(viewport={"width": UI_WIDTH, "height": 1080})
    opened.set_default_timeout(MILLISECONDS_FOR_A_PAGE)
    opened.goto(f"{address}/assets/day_summary?view=overview")
    opened.get_by_text("[Show Markdown]").first.click()
    opened.get_by_text("What moved most").wait_for()
    _save(opened, to / DIALOG_PICTURE)


def take_terminal(browser: Browser, lake: Path, to: Path) -> None:
    """Takes a picture of what a terminal shows of `posture scores`."""
    shown = in_terminal("scores", "--lake", str(lake))
    console = Console(record=True, width=TERMINAL_COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(f"$ posture scores\n{shown}"))
    page = browser.new_page(viewport={"width": 1200, "height": 100})
    page.set_content(console.export_html(inline_styles=True))
    _save(page, to / TERMINAL_PICTURE, whole=True)


def in_terminal(*arguments: str) -> str:
    """What `posture` writes into a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, TERMINAL_COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "posture_pipeline", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"TERM": "xterm-256color"}),
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # so a terminal says that nobody writes to it any more
            break
        written += part
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


@contextmanager
def dagster_ui(lake: Path, folder: Path) -> Iterator[str]:
    """Dagster's UI on a lake, as `posture up` starts it; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "posture_pipeline", "up", "--lake", str(lake), "--port", str(port)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            assert process.poll() is None, "the UI ended by itself"
            try:
                with urlopen(f"{address}/server_info") as answer:
                    assert answer.status == 200
                break
            except (URLError, ConnectionError):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _save(page: Page, path: Path, *, whole: bool = False) -> None:
    """Writes the picture of a page once it looks the same twice: it loads, and it moves."""
    before, picture = b"", page.screenshot(full_page=whole)
    for _ in range(MOST_LOOKS):
        if picture == before:
            break
        page.wait_for_timeout(MILLISECONDS_BETWEEN_LOOKS)
        before, picture = picture, page.screenshot(full_page=whole)
    path.write_bytes(picture)
    print(f"{path}: {len(picture) / 1e3:,.0f} kB")


if __name__ == "__main__":
    raise SystemExit(main())
