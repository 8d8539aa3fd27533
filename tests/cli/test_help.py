"""Help that teaches."""

import re

import pytest
from typer.testing import CliRunner

from selfrepair.cli.app import app

SAID = {
    "run": (
        "default",  # the model, and that options have defaults
        "640",
        "default: 64",
        "resample",
        "all by default",
        "position 0 has no context",
        "L9H6,L10",
        "top:0.02",
        "selfrepair-runs/",
        "safetensors",
        ".jsonl, .jsonl.gz, .jsonl.zst",
        "as in the paper",
    ),
    "check": ("prove the identities", "default: float32", "exit code 1"),
    "interact": ("own effect, direct effect, line, conditional, random", "norm", "2 to the power", ".svg"),
    "recruit": ("intact runs", "all of them by default", "several prompts of each group"),
    "show": ("--json", "--sort", "default: direct_effect", "20-29"),
}


def help_of(*verb: str) -> str:
    ended = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert ended.exit_code == 0
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", ended.output).split())


@pytest.mark.parametrize("verb", SAID)
def test_each_verb_teaches(verb):
    text = help_of(verb)
    assert not [said for said in SAID[verb] if said not in text], text


def test_the_first_page_names_the_verbs_and_where_to_start():
    text = help_of()
    assert all(verb in text for verb in SAID) and "Start with selfrepair run" in text.replace("`", "")


def test_every_option_is_explained():
    import typer.main

    for verb, command in typer.main.get_command(app).commands.items():
        assert not [parameter.name for parameter in command.params if not getattr(parameter, "help", None)], verb


def test_the_choices_are_those_there_are():
    """The command line names them without loading torch."""
    from typing import get_args

    from selfrepair.ablation.operators import operator
    from selfrepair.engine import ENGINES
    from selfrepair.engine.delta.matmul import PRECISIONS
    from selfrepair.run.planning import settings
    from selfrepair.run.scheduling.executors import EXECUTORS
    from selfrepair.statistics.accumulate import Components
    from selfrepair.text.cutting import Bos, Packing

    chosen = {
        setting.name: {*setting.option.choices}
        for group in (settings.Text, *settings.GROUPS.values())
        for setting in settings.settings_of(group)
    }
    assert chosen["precision"] == {*PRECISIONS} and chosen["engine"] == {"auto", *ENGINES}
    assert chosen["executor"] == {*EXECUTORS} and chosen["components"] == {*get_args(Components)}
    assert chosen["packing"] == {*get_args(Packing)} and chosen["bos"] == {*get_args(Bos)}
    assert [operator(name, 1).name for name in settings.OPERATORS] == [*settings.OPERATORS]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--batch", "0"],
        ["--first", "-1"],
        ["--length", "1"],
        ["--tokens", "0"],
        ["--donors", "0"],
        ["--seed", "-1"],
        ["--sample", "-1"],
        ["--top", "0"],
        ["--ablation", "magic"],
        ["--engine", "warp"],
        ["--components", "atoms"],
        ["--packing", "loose"],
    ],
)
def test_values_that_make_no_sense_are_refused_before_anything_is_loaded(wrong):
    ended = CliRunner().invoke(app, ["run", "default", *wrong])
    assert ended.exit_code == 2 and wrong[0] in re.sub(r"\x1b\[[0-9;]*m", "", ended.output)
