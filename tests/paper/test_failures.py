"""Whatever fails: what is made is on disk, the page says what failed and why, and the command does not end well."""

import json

import pandas as pd
import pytest

from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.experiments import noise, overview
from selfrepair.paper.inputs.recipe import DEFAULT
from selfrepair.paper.page import paper_folder
from selfrepair.paper.study import EXPERIMENTS
from support import corpus, language_model

TINY = ("--tokens", 240, "--length", 24, "--scan-tokens", 48)


@pytest.fixture(scope="module")
def study():
    model, text = language_model("llama"), corpus()
    return make.Study(model, text, make.sweep(model, text, DEFAULT, progress=False), DEFAULT, scan_tokens=24)


def broken(*_arguments):
    raise ZeroDivisionError("a <b>bug</b>")


def test_exhibits_and_page_are_written_as_they_are_made(study, tmp_path, monkeypatch):
    def stopped(_runs):
        """While the third exhibit of the first experiment is being made."""
        html = (tmp_path / "index.html").read_text()
        assert 'id="figure-02-direct-against-total"' in html and "From token to token" in html.split("Not made yet")[1]
        raise KeyboardInterrupt

    monkeypatch.setattr(overview, "idealised", stopped)
    with pytest.raises(KeyboardInterrupt):
        make.make(study, ["overview", "noise"], keeper=paper_folder.Folder(tmp_path))
    made = {path.name for path in (tmp_path / "figures").glob("*.svg")}
    assert made == {"figure-01-self-repair-by-depth.svg", "figure-02-direct-against-total.svg"}
    assert json.loads((tmp_path / "paper.json").read_text())["pending"] == ["overview", "noise"]


def test_an_experiment_that_fails_leaves_the_others_and_its_own(study, tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "direct_against_total", broken)
    made = make.make(study, ["overview", "noise"], keeper=paper_folder.Folder(tmp_path))
    assert [exhibit.name for exhibit in made.exhibits] == [
        "figure-01-self-repair-by-depth",
        "figure-03-per-token",
        "section-2-3-shares",
    ]
    html = (tmp_path / "index.html").read_text()
    assert "ZeroDivisionError: a &lt;b&gt;bug&lt;/b&gt;" in html and "Not made yet" not in html
    assert "in broken" in (tmp_path / "failures.txt").read_text()
    for exhibit in made.exhibits:
        assert (tmp_path / "figures" / f"{exhibit.name}.png").exists()
    assert len(pd.read_csv(tmp_path / "numbers.csv")) == sum(len(exhibit.numbers) for exhibit in made.exhibits)


def test_a_picture_that_cannot_be_drawn_costs_its_exhibit(study, tmp_path, monkeypatch):
    draw = paper_folder.with_matplotlib.image
    monkeypatch.setattr(
        paper_folder.with_matplotlib,
        "image",
        lambda picture, title, kind: broken() if "3:" in title else draw(picture, title, kind),
    )
    made = make.make(study, ["overview", "noise"], keeper=paper_folder.Folder(tmp_path))
    assert len(made.exhibits) == 3 and list(made.failed) == ["noise"]
    assert "figure-03-per-token" not in (tmp_path / "index.html").read_text()


def test_what_cannot_be_made_fails_only_where_it_was_asked_for(study, monkeypatch):
    def cannot(_run):
        raise SelfRepairError("No such thing here.", "Take another.")

    monkeypatch.setattr(noise, "effects_by_token", cannot)
    monkeypatch.setattr(make, "EXPERIMENTS", {"noise": EXPERIMENTS["noise"]})
    assert make.make(study).left_out == {"noise": "No such thing here.\nTake another."}
    assert str(make.make(study, ["noise"]).failed["noise"]).startswith("No such thing here.")


def test_published_numbers_without_a_folder_are_refused(study, selfrepair, llama, tmp_path):
    with pytest.raises(SelfRepairError, match="needs a folder with published tables"):
        make.make(study, ["published"])
    ended = selfrepair("paper", llama, "--only", "published", "--out", tmp_path / "p")
    assert ended.code == 1 and "--reference" in ended.said and not (tmp_path / "p").exists()


def test_the_command_ends_with_the_reason(selfrepair, llama, tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "effects_by_token", broken)
    names = ("--only", "overview", "--only", "noise")
    ended = selfrepair("paper", llama, *TINY, *names, "--out", tmp_path / "p")
    assert ended.code == 1 and "Failed, noise: ZeroDivisionError" in ended.err and "failures.txt" in ended.err
    assert "Traceback" not in ended.err and f"Page: {tmp_path / 'p' / 'index.html'}" in ended.out
    assert (tmp_path / "p" / "figures" / "figure-02-direct-against-total.svg").exists()
