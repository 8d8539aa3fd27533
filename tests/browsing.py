"""One browser for tests of pages, and a page that notes everything it should not have done."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def browser():
    """Chromium from the system's packages."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need pip install playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("browser tests need Chromium from the system's packages (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


class Opened:
    """A page in the browser, and everything it should not have done."""

    def __init__(self, tab, path):
        self.tab, self.address, self.wrong = tab, path.resolve().as_uri(), []
        tab.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        tab.on("request", self._asked)

    def _asked(self, request):
        if not request.url.startswith(("data:", "blob:")) and request.url.split("#")[0] != self.address:
            self.wrong.append(f"request to {request.url}")

    def at(self, place):
        """Goes to a place in the page, and waits until it is drawn."""
        self.tab.goto(f"{self.address}#{place}")
        return self.drawn(place)

    def drawn(self, place):
        self.tab.wait_for_selector(f'#view[data-ready="#{place}"]', timeout=30_000)
        return self.tab

    def number(self, name):
        """The first number of that name, as exactly as the page has it."""
        return float(self.tab.locator(f'#view data[data-name="{name}"]').first.get_attribute("value"))


@contextmanager
def opening_pages(browser):
    """A function that opens a page; at the end nothing may have gone wrong in any of them."""
    opened = []

    def opening(path, width=1440, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.append((context, Opened(context.new_page(), path)))
        return opened[-1][1]

    yield opening
    for context, page in opened:
        context.close()
        assert page.wrong == []
