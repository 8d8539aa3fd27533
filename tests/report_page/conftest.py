"""One browser for all tests of the page, and the runs that it shows."""

from __future__ import annotations

import pytest
from hostile import small_run, with_texts

from browsing import opening_pages
from selfrepair import load_run
from selfrepair.report.page import write_page


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


@pytest.fixture
def open_page(browser, page_path):
    """Opens a page; at the end of the test nothing may have gone wrong in it."""
    with opening_pages(browser) as opening:
        yield lambda width=1440, scheme="light", path=page_path: opening(path, width, scheme)
