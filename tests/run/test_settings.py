"""Every setting is one field: an option of `run` with help, a keyword of its function, and in the plan."""

from __future__ import annotations

import ast
import inspect
import json
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import typer.main
from typer.testing import CliRunner

import selfrepair
from loading.fixtures import saved as saved
from selfrepair import SelfRepairError, load, measure, windows
from selfrepair.cli.app import app
from selfrepair.run.planning.setting_fields import settings_of
from selfrepair.run.planning.settings import GROUPS, Keywords, Loading, Settings, Statistics, Text
from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter
from support import corpus, language_model

MEASURED = [setting for group in GROUPS.values() for setting in settings_of(group)]
ALL = [*settings_of(Text), *settings_of(Loading), *MEASURED]
MOST_PARAMETERS = 10


@pytest.mark.parametrize("setting", ALL, ids=lambda one: one.name)
def test_each_is_an_option_of_run(setting):
    params = {param.name: param for param in typer.main.get_command(app).commands["run"].params}
    param = params[setting.name]
    assert param.help == setting.option.help and param.rich_help_panel == setting.option.panel
    assert param.opts == [setting.option.flag or "--" + setting.name.replace("_", "-")]
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    assert param.default == default


def test_run_has_no_options_of_settings_beside_the_fields():
    params = {param.name for param in typer.main.get_command(app).commands["run"].params}
    own = {"model", "out", "top", "plots", "page", "quiet", "help"}
    assert params - own == {setting.name for setting in ALL}


def test_each_is_a_keyword_of_measure():
    taken = inspect.signature(measure).parameters
    others = {"model", "windows", "interventions", "out", "progress"}
    assert {setting.name: setting.default for setting in MEASURED} == {
        name: taken[name].default for name in taken if name not in others
    }
    for setting in MEASURED:
        assert f"{setting.name}: {setting.option.help}" in " ".join(measure.__doc__.split())


def test_type_checkers_see_the_same_keywords():
    declared = {name: getattr(kind, "__forward_arg__", kind) for name, kind in Keywords.__annotations__.items()}
    assert declared == {setting.name: setting.type for setting in MEASURED}


def test_text_and_loading_are_keywords_of_what_they_are_for():
    cut, loaded = inspect.signature(windows).parameters, inspect.signature(load).parameters
    names = {"text": "source"}
    for setting in settings_of(Text):
        assert setting.name == "tokens" or cut[names.get(setting.name, setting.name)].default == setting.default
    assert all(loaded[setting.name].default == setting.default for setting in settings_of(Loading))
    assert set(get_type_hints(Text)) == {setting.name for setting in settings_of(Text)}


def test_the_default_filters():
    assert tuple(map(Filter.parse, Statistics().filters)) == DEFAULT_FILTERS


GIVEN = {
    "field": "body",
    "tokens": 360,
    "length": 24,
    "packing": "packed",
    "bos": "never",
    "dtype": "float64",
    "device": "cpu",
    "donors": 2,
    "heads": "L2H1",
    "filters": "top:0.5",
    "components": "layers",
    "first": 2,
    "seed": 3,
    "replicates": 20,
    "sample": 5,
    "engine": "delta",
    "precision": "full",
    "batch": 8,
    "memory": 1.5,
    "until_se": 1e-6,
    "until": "heads",
    "threads": 1,
}
ASIDE = (
    {"positions": "own"},
    {"surrogate": "own", "exact_share": 0.5},
    {"minutes": 2.0},
)  # do not go with some of the others
RESOLVED = {"heads": [[2, 1]], "filters": ["top 50%"], "exact_share": 3}  # of 6 documents
HELD_ELSEWHERE = {"text", "ablation", "revision", "offload", "memory"}  # `text` is a path, `memory` gives an estimate
NO_NUMBER_DEPENDS_ON = {"workers", "executor"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory, saved):
    """The plan of a run by the command line with all options in `GIVEN`, or with some others."""
    place = tmp_path_factory.mktemp("settings")
    text = "".join(json.dumps({"body": f"Document {n}: {'the quick brown fox; ' * 3}{n}"}) + "\n" for n in range(8))
    (place / "text.jsonl").write_text(text)
    flags = {setting.name: setting.option.flag or "--" + setting.name.replace("_", "-") for setting in ALL}

    @cache
    def of(setting):
        aside = next((given for given in ASIDE if setting in given), None)
        if aside is None and setting != "model":
            return of("model")
        given = GIVEN if aside is None else {**aside, "field": "body", "tokens": 360, "length": 24, "heads": "L2H1"}
        return asked(given, place / setting)

    def asked(given, out):
        threads = torch.get_num_threads()
        options = [str(part) for name, value in given.items() for part in (flags[name], value)]
        rest = ["--text", str(place / "text.jsonl"), "--out", str(out), "--no-plots", "--no-page", "-q"]
        try:
            ended = CliRunner().invoke(app, ["run", str(saved("llama")), *options, *rest])
        finally:
            torch.set_num_threads(threads)
        assert ended.exit_code == 0, ended.output
        return json.loads((out / "plan.json").read_text())

    return of


@pytest.mark.parametrize("setting", ALL, ids=lambda one: one.name)
def test_each_is_in_the_plan(plan, setting):
    path = setting.name if setting.option.plan is None else setting.option.plan
    if setting.name in NO_NUMBER_DEPENDS_ON:
        assert path == ""
        return
    value = plan(setting.name)
    for part in path.split("."):
        value = value[part]
    every = GIVEN | {name: given for some in ASIDE for name, given in some.items()}
    assert setting.name in {*every, *HELD_ELSEWHERE}, "give the new setting a value above, not its default"
    if setting.name in every.keys() - HELD_ELSEWHERE:
        assert every[setting.name] != setting.default
        assert value == RESOLVED.get(setting.name, every[setting.name])


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("replicate", "replicates"), ("filter", "filters"), ("donor", "donors")]
)
def test_an_unknown_keyword_is_refused_with_the_nearest(wrong, nearest):
    with pytest.raises(SelfRepairError) as refused:
        measure(language_model("gpt2"), corpus(), **{wrong: 1})
    assert f"no setting '{wrong}'" in str(refused.value) and f"Did you mean '{nearest}'?" in str(refused.value)


def test_an_unknown_keyword_like_no_other_is_refused_with_those_there_are():
    with pytest.raises(SelfRepairError) as refused:
        Settings.of(quux=1)
    assert "Settings are: ablation, donors" in str(refused.value) and "Did you mean" not in str(refused.value)


def test_no_function_has_more_parameters_than_one_can_read():
    long = []
    for file in Path(selfrepair.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                count = len([*given.posonlyargs, *given.args, *given.kwonlyargs])
                if count > MOST_PARAMETERS:
                    long.append(f"{file.name}:{node.lineno} {node.name} has {count}")
    assert not long
