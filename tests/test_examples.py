"""Examples of the public surface run: docstrings as doctests, and the scripts in `examples/`."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import runpy
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import selfrepair
from loading import tiny_models
from selfrepair import LanguageModel, Run, Windows, clean_run, load, measure, port_outputs, windows
from selfrepair.questions.asked import Asked
from selfrepair.run.planning.settings import Keywords

SENTENCES = [
    "The head writes the name that comes next.",
    "Another document, about nothing at all, is a donor.",
    "When one part fails, a later part often compensates.",
]
ROOT = Path(__file__).parents[1]


def network() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64, vocab_size=len(tiny_models.VOCABULARY))
    made = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5.0)  # as drawn, heads of so small a model do next to nothing
    return made


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict[str, object]:
    """What examples use without making it, as docs/api.md tells their readers."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("examples")
    os.chdir(folder)
    made, tokenizer = network(), tiny_models.tokenizer()
    model = load(made, tokenizer)
    text = windows(tokenizer, SENTENCES, length=16)
    settings = {"filters": ["all", "top 2%", "bottom 2%"], "replicates": 50, "progress": False}
    run = measure(model, text, ablation="resample", out="runs/resample", **settings)
    measure(model, text, ablation="mean", out="runs/mean", **settings)
    tokens = torch.arange(4, 28).reshape(2, 12)
    ports = [selfrepair.Port(layer, kind) for layer in range(2) for kind in ("heads", "mlp")]
    with model.running():
        clean, donors = clean_run(model, tokens, ports=ports), port_outputs(model, tokens.flip(0), ports)
    prompts = selfrepair.Prompts.of(
        [selfrepair.Prompt(text, ("w",), ("t",)) for text in ("The head writes a ", "The name that comes ")], model
    )
    public = {name: getattr(selfrepair, name) for name in selfrepair.__all__}
    yield public | {
        **{"network": made, "tokenizer": tokenizer, "model": model, "text": text, "run": run},
        **{"tokens": tokens, "clean": clean, "donors": donors, "prompts": prompts},
    }
    os.chdir(before)


def test_the_shared_names_are_what_they_are_called(names):
    for name, kind in {"model": LanguageModel, "text": Windows, "run": Run, "network": torch.nn.Module}.items():
        assert isinstance(names[name], kind)


@pytest.mark.parametrize("name", selfrepair.__all__)
def test_every_public_name_has_an_example_that_runs(name, names):
    shown = getattr(selfrepair, name)
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(shown) or "", dict(names), name, None, 0)
    assert test.examples, f"{name} has no example"
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert not result.failed, "".join(told)


@pytest.mark.parametrize("name", selfrepair.__all__)
def test_docstrings_name_every_argument_with_its_type(name):
    """What a function takes, and what a class holds; names and units of things explain themselves."""
    shown = getattr(selfrepair, name)
    told = inspect.getdoc(shown) or ""
    if inspect.isfunction(shown):
        arguments, typed = list(inspect.signature(shown).parameters), typing.get_type_hints(shown)
        if "settings" in typed:  # spelled out as keywords
            typed |= dict.fromkeys(
                [*Keywords.__annotations__, *Asked.__annotations__], object
            )  # their types need imports for checkers alone
        assert {*arguments, "return"} <= set(typed)
    else:
        arguments = [field for field in getattr(shown, "__dataclass_fields__", ()) if not field.startswith("_")]
        kinds = {field: str(getattr(shown, "__annotations__", {}).get(field)) for field in arguments}
        arguments = [field for field in arguments if field not in ("name", "units") and "ClassVar" not in kinds[field]]
    assert [argument for argument in arguments if not re.search(rf"^\s+{argument}: \S", told, re.MULTILINE)] == []


def test_the_papers_example_runs(names):
    from selfrepair import paper

    assert set(paper.__all__) <= set(dir(paper))
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(paper) or "", dict(names), "paper", None, 0)
    told: list[str] = []
    assert not doctest.DocTestRunner().run(test, out=told.append).failed, "".join(told)


def module(path: Path):
    """A script, or a tool, as a module; what it does when it is called is left out."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_of_public_names_is_up_to_date():
    api = module(ROOT / "tools/api.py")
    assert api.PAGE.read_text("utf-8") == api.page(), "run python tools/api.py"


def test_an_operator_of_ones_own(names):
    half, zero = module(ROOT / "examples/own_operator.py").repair_of_halves(
        names["model"], names["text"], heads="L1", filters=["all"], replicates=50, progress=False
    )
    assert half.plan["ablation"]["operator"] == "halved"
    lost = [run.heads["lost_direct_effect"].sel(filter="all", layer=1) for run in (half, zero)]
    np.testing.assert_allclose(2 * lost[0], lost[1], rtol=1e-3)


def test_a_readout_of_ones_own(names):
    found = module(ROOT / "examples/own_readout.py").repair(
        names["model"], names["tokens"], (5, 6), [selfrepair.Head(0, 0), selfrepair.Head(0, 1)]
    )
    assert list(found) == ["L0H0", "L0H1", "all of them", "all of them, MLPs frozen", "last attention, last position"]
    lost = {name: values[0] for name, values in found.items()}
    assert lost["all of them"] == pytest.approx(lost["L0H0"] + lost["L0H1"], rel=1e-4)
    assert found["all of them"][1] != pytest.approx(found["all of them, MLPs frozen"][1], rel=1e-3)


def test_a_run_is_read(names, capsys):
    path = ROOT / "examples/read_a_run.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(path), "runs/resample"])
        runpy.run_path(str(path), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.startswith("complete resample logit") and "self_repair" in shown
