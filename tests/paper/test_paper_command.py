"""`selfrepair paper`: ends well, and says what is wrong before the sweep rather than after."""

import json

import pandas as pd
import pytest

from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.inputs.recipe import DEFAULT
from support import corpus, language_model

TINY = ("--tokens", 240, "--length", 24, "--scan-tokens", 48)


def test_one_experiment_from_the_command_line(selfrepair, llama, tmp_path):
    ended = selfrepair("paper", llama, *TINY, "--only", "overview", "--out", tmp_path / "p")
    assert ended.code == 0, ended.err
    assert "undecided here" in ended.out or "hold here" in ended.out or "holds here" in ended.out
    assert f"Page: {tmp_path / 'p' / 'index.html'}" in ended.out
    names = {path.name for path in (tmp_path / "p").iterdir()}
    assert names == {"run", "figures", "index.html", "claims.csv", "numbers.csv", "paper.json"}
    again = selfrepair("paper", llama, "--run", tmp_path / "p" / "run", "--only", "noise", "--out", tmp_path / "q")
    assert again.code == 0, again.err
    assert (tmp_path / "q" / "figures" / "figure-03-per-token.svg").exists()
    assert not (tmp_path / "q" / "run").exists()


def test_no_sweep_is_made_for_what_does_not_read_it(selfrepair, llama, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "sweep", None)  # whoever calls it fails
    ended = selfrepair("paper", llama, *TINY, "--only", "iterative", "--only", "ioi", "--out", tmp_path / "p")
    assert ended.code == 1 and "Failed, ioi: Only 0 of 70 common names" in ended.err
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "figures",
        "failures.txt",
        "index.html",
        "claims.csv",
        "numbers.csv",
        "paper.json",
    }
    html = (tmp_path / "p" / "index.html").read_text()
    assert "nothing that was asked for reads it" in html and "figure-09-self-repression" in html
    facts = json.loads((tmp_path / "p" / "paper.json").read_text())
    assert facts["ablation"] is None and facts["sweep_seconds"] is None
    assert facts["text"]["source"] == "builtin" and facts["model"]["layers"] == 3


def test_an_experiment_that_reads_the_sweep_says_so():
    text = corpus()
    study = make.Study(language_model("llama"), text, None, DEFAULT)
    made = make.make(study, ["noise"])
    assert isinstance(made.failed["noise"], SelfRepairError) and "reads the sweep" in str(made.failed["noise"])
    assert make.needs_sweep(()) and make.needs_sweep(["ioi", "noise"]) and not make.needs_sweep(["ioi", "iterative"])


def test_the_original_recipe_from_the_command_line(selfrepair, saved, tmp_path):
    words = "a short text about nothing much, told again and again for want of a better one; "
    lines = (json.dumps({"text": f"{number}: {words * 3}"}) + "\n" for number in range(120))
    (tmp_path / "text.jsonl").write_text("".join(lines))
    ended = selfrepair(
        "paper",
        saved("gpt2"),
        *TINY,
        "--text",
        tmp_path / "text.jsonl",
        "--recipe",
        "original",
        "--only",
        "layernorm",
        "--only",
        "iterative",
        "--out",
        tmp_path / "p",
    )
    assert ended.code == 0, ended.err
    html = (tmp_path / "p" / "index.html").read_text()
    assert "original recipe" in html and "recipe: original" in html and "position 0 counted" in html
    rows = pd.read_csv(tmp_path / "p" / "figures" / "figure-05-one-head.csv")
    assert (rows["position"] == 0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "everything"), "No experiment is called 'everything'"),
        (("--reference", "nowhere"), "has no heads.csv"),
        (("--run", "nowhere"), "There is no results folder"),
        (("--text", "short.txt", "--tokens", "100000000"), "were asked for"),
    ],
)
def test_what_is_wrong_is_reported(selfrepair, llama, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("too little for any paper " * 50)
    ended = selfrepair("paper", llama, *arguments, "--out", tmp_path / "p")
    assert ended.code == 1 and message in ended.said and "Traceback" not in ended.err


def test_missing_packages_are_named_before_anything_is_done(selfrepair, llama, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "plotly" else find(name, *rest)
    )
    ended = selfrepair("paper", llama, "--out", tmp_path / "p")
    assert ended.code == 1 and "The figures need plotly" in ended.said and "selfrepair[paper]" in ended.said
    assert not (tmp_path / "p").exists()


def test_a_folder_that_holds_something_is_left_alone(selfrepair, llama, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    ended = selfrepair("paper", llama, *TINY, "--out", tmp_path)
    assert ended.code == 1 and "not empty" in ended.said
