"""`selfrepair paper`: ends well, and says what is wrong before the sweep rather than after."""

import pandas as pd
import pytest

TINY = ("--tokens", 240, "--length", 24, "--scan-tokens", 48)


def test_one_experiment_from_the_command_line(selfrepair, llama, tmp_path):
    ended = selfrepair("paper", llama, *TINY, "--only", "overview", "--out", tmp_path / "p")
    assert ended.code == 0, ended.err
    assert "holds here" in ended.out or "hold" in ended.out
    assert f"Page: {tmp_path / 'p' / 'index.html'}" in ended.out
    names = {path.name for path in (tmp_path / "p").iterdir()}
    assert names == {"run", "figures", "index.html", "claims.csv", "numbers.csv", "paper.json"}
    again = selfrepair("paper", llama, "--run", tmp_path / "p" / "run", "--only", "noise", "--out", tmp_path / "q")
    assert again.code == 0, again.err
    assert (tmp_path / "q" / "figures" / "figure-03-per-token.svg").exists()
    assert not (tmp_path / "q" / "run").exists()


def test_the_original_recipe_from_the_command_line(selfrepair, saved, tmp_path):
    ended = selfrepair(
        "paper",
        saved("gpt2"),
        *TINY,
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
    ("arguments", "said"),
    [
        (("--only", "everything"), "There is no experiment 'everything'"),
        (("--reference", "nowhere"), "has no heads.csv"),
        (("--run", "nowhere"), "There is no results folder"),
        (("--tokens", "100000000"), "were asked for"),
    ],
)
def test_what_is_wrong_is_said(selfrepair, llama, tmp_path, arguments, said):
    ended = selfrepair("paper", llama, *arguments, "--out", tmp_path / "p")
    assert ended.code == 1 and said in ended.said and "Traceback" not in ended.err


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
