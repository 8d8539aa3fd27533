"""`selfrepair report` and `selfrepair show --open`."""

from __future__ import annotations

import shutil
import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfrepair.cli.app import app


@pytest.fixture
def folder(folders, tmp_path):
    return Path(shutil.copytree(folders[0], tmp_path / "run"))


def test_report_writes_a_page(folder, tmp_path):
    done = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0 and "page.html" in done.output
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_report_stands_in_the_folder_by_default(folder):
    assert CliRunner().invoke(app, ["report", str(folder)]).exit_code == 0
    assert (folder / "report.html").is_file()


def test_show_opens_the_page_and_writes_it_if_need_be(folder, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert CliRunner().invoke(app, ["show", str(folder), "--open"]).exit_code == 0
    assert opened == [(folder / "report.html").resolve().as_uri()]
