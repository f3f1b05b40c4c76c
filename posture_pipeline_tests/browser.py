"""A real browser for the report pages: the machine's own Chromium, without a window."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
"""Where it is; null: it is not installed."""

FLAGS = (
    # Its sandbox needs what containers and root do not have; it opens our own files only.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def launch(playwright: Playwright) -> Browser:
    """Starts Chromium with a profile of its own, which goes when it is closed."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
