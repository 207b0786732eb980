"""A real Chromium for the tests.

Without it they are skipped, or fail where BERTLIB_BROWSER=required (as in .ci/run).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
    "google-chrome")
HINT = ("there is no Chromium for the browser tests; on Debian or Ubuntu: "
        "apt-get install chromium fonts-dejavu-core")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]
OURS = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
SLOW = 180_000  # milliseconds that a busy machine may take
expect.set_options(timeout=SLOW)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM and os.environ.get("BERTLIB_BROWSER") != "required", reason=HINT)


@contextmanager
def launched() -> Iterator[Browser]:
    """A Chromium of one's own."""
    assert CHROMIUM, HINT
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, timeout=SLOW)
        yield chromium
        chromium.close()


def new_page(browser: Browser) -> Page:
    """A tab that lists its errors, and what it asks for that is not `OURS`."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(SLOW)
    page.errors, page.outside = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
    page.on("request", lambda request: request.url.startswith(OURS)
            or page.outside.append(request.url))
    return page
