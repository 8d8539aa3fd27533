"""One browser for all tests of the page, and the runs that it shows."""

from __future__ import annotations

import os
import shutil

import pytest
from hostile import small_run, with_texts

from selfrepair import load_run
from selfrepair.report.page import write_page

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Two results folders: resample and zero ablation of the same model on the same text."""
    places = [tmp_path_factory.mktemp("runs") / name for name in ("resample", "zero")]
    for place in places:
        small_run(place.name, place)
    return places


@pytest.fixture(scope="session")
def run(folders):
    return with_texts(load_run(folders[0]))


@pytest.fixture(scope="session")
def page_path(run, tmp_path_factory):
    return write_page([run], tmp_path_factory.mktemp("page") / "report.html")


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


@pytest.fixture
def open_page(browser, page_path):
    """Opens a page; at the end of the test nothing may have gone wrong in it."""
    opened = []

    def opening(width=1440, scheme="light", path=page_path):
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
