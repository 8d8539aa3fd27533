"""A run is judged by everything that it measures about itself: floor, read-out and engine as well as the residual."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from selfrepair import ChecksFail, LanguageModel, NumbersAreInexact, Operator, ReplayEngine, load, measure
from selfrepair.engine import DeltaEngine, ReferenceEngine
from selfrepair.report import captions
from selfrepair.report.page.run_facts import facts, limits
from selfrepair.report.run_tables import print_heads
from selfrepair.results.proven import Damaged
from selfrepair.run import measure as measuring
from selfrepair.run.gathering import judgement
from selfrepair.run.gathering.engine_bias import biases
from selfrepair.run.gathering.judgement import LIMIT, judge_accuracy
from selfrepair.run.unit.exactness import Accuracy
from support import corpus, language_model
from zoo import families

WINDOWS = corpus(lengths=(9,) * 5, documents=range(5))


class Changed(ReplayEngine):
    """Replay with its total effects changed, and the norm's line with them: every ledger closes."""

    exact = False

    def __init__(self, change, unchanged_too: bool = True) -> None:
        super().__init__(fold=2)
        self.change, self.unchanged_too = change, unchanged_too

    def sweep(self, model, clean, units, replacement, per_head, advance=lambda _: None):
        for ledger in super().sweep(model, clean, units, replacement, per_head, advance):
            own = ledger.ablated_direct_effect == ledger.direct_effect
            if own.all() and not self.unchanged_too:
                yield ledger
                continue
            moved = self.change(ledger.total_effect)
            yield replace(ledger, total_effect=moved, norm=ledger.norm + (moved - ledger.total_effect))


class Exact(Changed):
    """The same, and says that it is exact."""

    exact = True


def noise(share: float):
    """Errors of about that share of every effect."""

    def add(effect: torch.Tensor) -> torch.Tensor:
        draws = torch.randn(effect.shape, generator=torch.Generator().manual_seed(0), dtype=effect.dtype)
        return effect * (1 + share * draws)

    return add


def run(engine, windows=WINDOWS, **options):
    """The run and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = measure(
            options.pop("model", None) or language_model("gpt2", dtype="float32"),
            windows,
            engine=engine,
            replicates=10,
            progress=False,
            **options,
        )
    kinds = {kind for kind in (ChecksFail, NumbersAreInexact) for w in caught if issubclass(w.category, kind)}
    return found, kinds, " ".join(str(w.message) for w in caught)


@pytest.mark.parametrize("engine", [ReplayEngine(), ReferenceEngine(), DeltaEngine()], ids=lambda engine: engine.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_good_runs_have_nothing_to_say(engine, dtype):
    found, categories, _ = run(engine, model=language_model("gpt2", dtype=dtype))
    assert not categories and found.outcome["status"] == "complete"
    assert found.outcome["failed_checks"] == [] == found.outcome["warnings"]


def test_which_engines_are_exact():
    assert ReplayEngine().exact and ReferenceEngine().exact
    assert not DeltaEngine().exact and not DeltaEngine("int8").exact


@pytest.mark.parametrize("floor", [2.0, 0.05, float("nan")])
@pytest.mark.parametrize("kind", [Changed, Exact])
def test_a_numerical_floor_above_rounding_fails_the_run(kind, floor):
    found, categories, said = run(kind(lambda effect: effect + floor))
    assert ChecksFail in categories and found.outcome["status"] == "failed its checks"
    assert "Do not use these numbers" in said
    if floor == floor:
        assert found.outcome["ledger_closes"] and "numerical floor is" in found.outcome["failed_checks"][0]
        assert found.outcome["numerical_floor"] == pytest.approx(floor, rel=0.01)


def test_a_floor_that_is_no_number_is_none_that_holds():
    """Of the floor alone: every ledger of the sweep closes."""

    class NotANumber(Exact):
        def sweep(self, model, clean, units, *rest):
            for ledger in super().sweep(model, clean, units, *rest):
                own = (ledger.ablated_direct_effect == ledger.direct_effect).all()
                yield replace(ledger, total_effect=ledger.total_effect * torch.nan) if own else ledger

    found, categories, _ = run(NotANumber(lambda effect: effect))
    assert ChecksFail in categories and found.outcome["ledger_closes"]
    assert found.outcome["numerical_floor"] == float("inf")


def test_an_engine_that_leaves_heads_out_of_the_floor_fails():
    class Silent(Exact):
        def sweep(self, model, clean, units, *rest):
            kept = [one for one in units if one.start] if len(units) < 10 else units
            yield from super().sweep(model, clean, kept, *rest)

    found, categories, _ = run(Silent(lambda effect: effect))
    assert ChecksFail in categories and found.outcome["numerical_floor"] == float("inf")


@pytest.mark.parametrize(("share", "expected"), [(0.001, None), (0.05, NumbersAreInexact), (0.5, ChecksFail)])
def test_the_error_of_an_engine_that_is_not_exact_is_a_limit(share, expected):
    found, categories, said = run(Changed(noise(share), unchanged_too=False))
    assert found.outcome["relative_error"] == pytest.approx(share, rel=0.5)
    assert (expected in categories) if expected else not categories
    assert (found.outcome["status"] == "complete") == (expected is not ChecksFail)
    if expected:
        assert "against replay" in said and "Bias of the mean" in said and "SE" in said


def test_an_engine_that_does_not_say_is_not_exact():
    class Quiet(Changed):
        @property
        def exact(self):
            raise AttributeError

    found, categories, _ = run(Quiet(noise(0.05), unchanged_too=False))
    assert found.plan["engine_exact"] is False and categories == {NumbersAreInexact}


def test_a_full_precision_engine_has_no_excuse():
    """Half a percent off is within the limit, and far above rounding."""
    engine = Changed(noise(0.008), unchanged_too=False)
    engine.__class__ = type("Full", (Changed,), {"settings": {"precision": "full"}})
    found, categories, _ = run(engine, model=language_model("gpt2"))
    assert categories >= {ChecksFail} and "what rounding explains" in found.outcome["failed_checks"][0]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_forced_precision_says_what_it_costs(precision):
    found, categories, said = run("delta", precision=precision, seed=1)
    error = found.outcome["relative_error"]
    assert found.outcome["numerical_floor"] == 0 and found.outcome["ledger_closes"]
    assert (NumbersAreInexact in categories) == (error > LIMIT)
    assert f"engine's error per token {100 * error:.2g}%" in captions.floor(found)
    shown = dict(facts(found))
    assert shown["engine's error per token"].startswith(f"{100 * error:.2g}%")
    assert "engine's error" in repr(found)
    assert ("Bias of the mean" in said) == (error > LIMIT)


def test_the_bias_of_a_mean_is_the_engines_less_replays(monkeypatch):
    monkeypatch.setattr(judgement, "LIMIT", 1e-3)
    rounded, _, _ = run("delta", precision="int8")
    exact, _, _ = run("replay")
    assert len(rounded.outcome["engine_bias"]) == 12
    label = rounded.outcome["engine_bias"][0]["filter"]
    assert label == "top 2%"
    for one in rounded.outcome["engine_bias"]:
        place = dict(zip(("layer", "head"), map(int, one["head"][1:].split("H")), strict=True))
        means = [found.heads["self_repair"].sel(filter=label, **place) for found in (rounded, exact)]
        assert one["bias"] == pytest.approx(float(means[0] - means[1]), abs=2e-6)
        own = float(rounded.heads["self_repair_standard_error"].sel(filter=label, **place))
        np.testing.assert_equal(one["standard_error"], own)
    assert max(abs(one["bias"]) for one in rounded.outcome["engine_bias"]) > 1e-5


def test_tables_and_pages_say_it(tmp_path):
    from rich.console import Console

    found, _, _ = run(Changed(noise(0.05), unchanged_too=False))
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    print_heads(console, found)
    assert "Bias of the mean" in console.export_text() and any("limit is 1%" in said for said in limits(found))
    wrong, _, _ = run(Changed(lambda effect: effect + 2))
    assert "numerical floor" in captions.status_warning(wrong) and "Do not use" in limits(wrong)[0]


OFF = 3e-4  # logits: more than rounding explains, less than what refuses the model


def test_a_read_out_that_is_off_on_this_text_fails_the_run(monkeypatch):
    own = LanguageModel.logits

    def off(self, tokens, constants=True):
        logits = own(self, tokens, constants)
        logits[..., ::2] += OFF
        return logits

    model = language_model("gpt2", dtype="float32")
    monkeypatch.setattr(LanguageModel, "logits", off)
    found, categories, _ = run("replay", model=model)
    assert ChecksFail in categories and "read-out is off" in found.outcome["failed_checks"][0]


def scaled(factor: float, constant: float):
    """A model whose logits are larger by a factor, with a constant at every row of the unembedding."""
    network = families.build("llama")
    head = nn.Linear(families.WIDTH, families.VOCAB)
    head.weight.data.copy_(factor * network.lm_head.weight.data)
    head.bias.data.fill_(constant)
    network.set_output_embeddings(head)
    return load(network)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("constant", [0.0, 1e6])
def test_no_tolerance_grows_with_a_constant_nor_hides_small_logits(factor, constant):
    """The same share of the effects is too much whatever the logits' size, and whatever is added to them."""
    model = scaled(factor, constant)
    good, categories, _ = run("replay", model=model)
    assert not categories and good.outcome["status"] == "complete"
    moved = 1e-3 * factor
    found, categories, _ = run(Exact(lambda effect: effect + moved), model=model)
    assert categories >= {ChecksFail} and "numerical floor" in found.outcome["failed_checks"][0]


def test_an_open_ledger_is_seen_beside_a_constant(monkeypatch):
    class Open(ReplayEngine):
        def sweep(self, *args):
            for ledger in super().sweep(*args):
                yield replace(ledger, norm=ledger.norm + 1e-3)

    found, _, _ = run(Open(fold=2), model=scaled(1.0, 1e6))
    assert not found.outcome["ledger_closes"] and found.outcome["status"] == "failed its checks"


def test_effects_that_drown_in_rounding_are_said():
    """A stream so large that single precision keeps few digits of what heads write to it."""
    network = copy.deepcopy(families.build("llama"))
    network.model.embed_tokens.weight.data[:, 0] += 3e4
    found, categories, said = run("replay", model=load(network))
    assert NumbersAreInexact in categories and "Rounding is large beside the effects" in said
    assert found.outcome["status"] == "complete"
    _, categories, _ = run("replay", model=load(network.double()))
    assert not categories


class Nothing(Operator):
    """Heads are replaced by what they are: there is no effect for an error to be a share of."""

    name = "nothing"

    def replacement(self, layer, clean, source, draw):
        return clean


@pytest.mark.parametrize("engine", [ReplayEngine(fold=4), DeltaEngine()], ids=lambda engine: engine.name)
def test_an_operator_without_effects_is_no_error_of_the_engine(engine):
    found, categories, _ = run(engine, ablation=Nothing())
    assert ChecksFail not in categories and not any("engine" in said for said in found.outcome["warnings"])


def accuracy(**measured) -> Accuracy:
    return Accuracy(**{"residual": 1e-6, "excess": 0.1, "floor": 0.0, "floor_excess": 0.0} | measured)


def sampled(relative: float, effects_over_rounding: float) -> dict[str, float]:
    """Mean squares of a sample, for effects of RMS 0.1."""
    size = 0.01
    return {"error": relative**2 * size, "size": size, "rounding": size / effects_over_rounding**2}


@pytest.mark.parametrize(
    ("relative", "effects", "full", "failed", "warned"),
    [
        (0.009, 100.0, False, False, False),
        (0.011, 100.0, False, False, True),
        (0.011, 0.5, False, False, True),  # deep models: rounding may leave more than effects are
        (0.09, 100.0, False, False, True),
        (0.11, 100.0, False, True, False),
        (float("inf"), 100.0, False, True, False),
        (0.005, 100.0, True, False, False),
        (0.04, 100.0, True, True, False),  # four times what rounding may leave
        (1.0, 1e-3, False, False, False),
    ],
)
def test_limits_of_the_engines_error(relative, effects, full, failed, warned):
    found = judge_accuracy(accuracy(**sampled(relative, effects)), (0.0, 0.0), full)
    assert (bool(found.failed), bool(found.warnings)) == (failed, warned)
    assert found.engine_inexact == (failed or warned)


@pytest.mark.parametrize(
    ("measured", "readout", "word"),
    [
        ({"excess": 1.1}, 0.0, "ledger"),
        ({"floor": 2.0, "floor_excess": 3.1}, 0.0, "floor"),
        ({}, 3.1, "read-out"),
        ({}, float("inf"), "read-out"),
    ],
)
def test_every_check_fails_by_itself(measured, readout, word):
    found = judge_accuracy(accuracy(**measured), (1.0, readout), False)
    assert len(found.failed) == 1 and word in found.failed[0]
    assert judge_accuracy(accuracy(), (1.0, 2.9), False).failed == ()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("size", [0.0, 1e-20, float("nan")])
def test_an_error_where_there_are_no_effects_fails_the_run(full, size):
    """The error is no share of such effects, but it is still an error."""
    wrong = judge_accuracy(Accuracy(error=1.0, size=size, rounding=1e-12), (0.0, 0.0), full)
    assert wrong.engine_inexact and "where replay has next to none" in wrong.failed[0]
    unmeasured = judge_accuracy(Accuracy(error=float("inf"), size=size, rounding=1e-12), (0.0, 0.0), full)
    assert unmeasured.failed
    assert not judge_accuracy(Accuracy(error=1e-14, size=0.0, rounding=1e-12), (0.0, 0.0), full).failed


def test_an_engine_that_is_wrong_about_heads_without_effects_fails():
    """Heads put in their own place have no effect; this engine has one, and only in the sweep."""

    class Late(Changed):
        calls = 0

        def sweep(self, model, clean, units, *rest):
            self.calls += 1  # the floor comes first
            changed = super().sweep if self.calls > 1 else ReplayEngine(fold=2).sweep
            yield from changed(model, clean, units, *rest)

    found, categories, said = run(Late(lambda effect: effect + 0.5), ablation="unchanged")
    assert found.outcome["numerical_floor"] < 1e-4
    assert ChecksFail in categories and "what rounding explains where replay has next to none" in said


def test_damage_that_the_bias_comes_upon_is_not_only_a_remark(monkeypatch):
    """The numbers rest on the same files: they are merged again."""
    damaged, tries = Damaged(Path("tokens.parquet"), "tokens.parquet is damaged."), []

    def once(*given):
        tries.append(given)
        if len(tries) == 1:
            raise damaged
        return biases(*given)

    monkeypatch.setattr(measuring, "biases", once)
    found, categories, _ = run(Changed(noise(0.05), unchanged_too=False))
    assert len(tries) == 2 and categories == {NumbersAreInexact}
    assert found.outcome["engine_bias"] and not any("could not be measured" in one for one in found.outcome["warnings"])
