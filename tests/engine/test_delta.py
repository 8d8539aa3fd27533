"""The delta engine: its books, its compiled programs, and how it is chosen."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from selfrepair import ReferenceEngine, SelfRepairError, load
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine import DeltaEngine, choice, trial
from selfrepair.engine.delta import rules
from selfrepair.engine.delta.blocked_weights import blocked, product_in_blocks, takes_blocks
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.delta.compiled import _DECOMPOSED, CompiledProgram
from selfrepair.engine.delta.matmul import PRECISIONS
from selfrepair.engine.delta.program import Program
from selfrepair.engine.delta.rules.shapes import same
from selfrepair.engine.relative_error import RelativeError
from selfrepair.engine.trial import RunSize, Trial
from support import EAGER_ONLY, LINES, TOKENS, gap, language_model, sweep
from zoo import families

every_family = pytest.mark.parametrize("name", families.FAMILIES)
COMPARED = [Head(0, 1), Head(1, 3), Head(2, 0)]


@cache
def reference(name: str, ablation: str):
    return sweep(ReferenceEngine(), language_model(name), ablation, COMPARED)


@every_family
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_delta_equals_reference(name, ablation):
    ledgers = sweep(DeltaEngine(fold=2), language_model(name), ablation, COMPARED)
    assert max(gap(ledgers[unit], reference(name, ablation)[unit]) for unit in COMPARED) < 1e-9
    assert max(ledger.residual.abs().max() for ledger in ledgers.values()) < 1e-10
    for unit, ledger in ledgers.items():
        assert not ledger.by_head[..., : unit.layer + 1, :].any() and not ledger.by_mlp[..., : unit.layer].any()


@every_family
def test_delta_equals_reference_in_single_precision(name):
    ledgers = sweep(DeltaEngine(), language_model(name, dtype="float32"), "resample", COMPARED)
    assert max(gap(ledgers[unit], reference(name, "resample")[unit]) for unit in COMPARED) < 2e-5


@every_family
@pytest.mark.parametrize("precision", PRECISIONS)
def test_own_output_does_exactly_nothing(name, precision):
    model = language_model(name, dtype="float32")
    for ledger in sweep(DeltaEngine(precision), model, "unchanged", COMPARED).values():
        assert not any(getattr(ledger, line).any() for line in (*LINES[2:], "by_attention", "by_mlp", "by_head"))
        assert (ledger.sigma_ratio == 1).all()


@pytest.mark.parametrize("name", sorted(set(families.FAMILIES) - set(EAGER_ONLY))[::5])
def test_delta_of_eager_attention(name):
    """Explicit matrix products and softmaxes instead of the fused kernel."""
    eager = language_model(name, attention="eager")
    ledgers = sweep(DeltaEngine(), eager, "resample", COMPARED)
    assert max(gap(ledgers[unit], reference(name, "resample")[unit]) for unit in COMPARED) < 1e-9


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize(("precision", "error"), [("full", 1e-6), ("bfloat16", 1e-3), ("int8", 5e-3)])
def test_products_with_weights(precision, error, scale):
    """Whatever the size of single tokens and outputs; a token without a difference has none afterwards."""
    torch.manual_seed(0)
    sizes = 10 ** torch.linspace(-3, 3, 64)
    rows, weight = scale * torch.randn(2, 64, 256) * sizes[:, None], torch.randn(256, 48) * sizes[:48]
    rows[0, 5] = 0
    made = PRECISIONS[precision]
    product = made.product(rows, made.prepare(weight))
    truth = rows.double() @ weight.double()
    typical = rows.double().norm(dim=-1, keepdim=True) * weight.double().norm(dim=0)
    assert product.shape == truth.shape
    assert ((product - truth).abs() <= error * typical).all()
    assert not product[0, 5].any()


def test_fold_and_order_do_not_matter():
    model = language_model("gpt2")
    units = all_heads(model.anatomy)
    whole = sweep(DeltaEngine(fold=64), model, "resample", units)
    for engine, chosen in (
        (DeltaEngine(fold=1), units[::-1]),
        (DeltaEngine(fold=5), units[1::2]),
        (DeltaEngine(runs=3), units),
    ):
        ledgers = sweep(engine, model, "resample", chosen)
        assert max(gap(ledgers[unit], whole[unit]) for unit in chosen) < 1e-12


@pytest.mark.parametrize(("precision", "least", "allowed"), [("bfloat16", 1e-4, 0.01), ("int8", 1e-3, 0.03)])
def test_low_precision_costs_a_share_of_the_effect(precision, least, allowed):
    """Rounding differences loses a share of the effect; rounding activations would lose a share of the logits."""
    model, exact = language_model("llama", dtype="float32"), reference("llama", "resample")
    ledgers = sweep(DeltaEngine(precision), model, "resample", COMPARED)
    stack = [torch.stack([measured[unit].total_effect for unit in COMPARED]) for measured in (ledgers, exact)]
    error = RelativeError.between(*stack, planned=1e3)
    assert least < error.per_token < allowed
    assert max(ledger.residual.abs().max() for ledger in ledgers.values()) < 1e-5  # the books close all the same


def test_of_fewer_windows_more_runs_pass_together(monkeypatch):
    seen, run = set(), Program.run
    monkeypatch.setattr(Program, "run", lambda *given: seen.add(len(given[2])) or run(*given))
    model, engine = language_model("gpt2"), DeltaEngine(fold=2, batch=len(TOKENS))
    sweep(engine, model, "resample", COMPARED)
    assert max(seen) == 2
    sweep(engine, model, "resample", None, tokens=TOKENS[:1], donors=TOKENS[1:2])
    assert max(seen) == 2 * len(TOKENS) and engine.fold == 2


@pytest.mark.parametrize("runs", [None, 2])
def test_runs_that_start_in_the_first_layers_keep_full_precision(runs):
    model = language_model("gpt2", dtype="float32")
    full, low, mixed = (
        sweep(DeltaEngine(fold=1, runs=runs, **settings), model, "resample", [*COMPARED, Head(0, 0)])
        for settings in ({}, {"precision": "int8"}, {"precision": "int8", "full_below": 1})
    )
    for unit, ledger in mixed.items():
        wanted, other = (full, low) if unit.layer == 0 else (low, full)
        assert gap(ledger, wanted[unit]) == 0 < gap(ledger, other[unit])


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "precision", "full_below"), [("gpt2", "int8", 1), ("gpt2", "bfloat16", 0), ("gemma2", "full", 0)]
)
def test_compiled_equals_eager(name, precision, full_below, monkeypatch, compiler):
    made = []
    init = CompiledProgram.__init__

    def counting(self, *args):
        made.append(self)
        init(self, *args)

    monkeypatch.setattr(CompiledProgram, "__init__", counting)
    model, windows = language_model(name, dtype="float32"), len(TOKENS)
    eager = sweep(DeltaEngine(precision, fold=3, full_below=full_below), model, "resample", None)
    engine = DeltaEngine(precision, fold=3, compiled=True, batch=windows, full_below=full_below)
    compiled = sweep(engine, model, "resample", None)
    assert len(made) < model.anatomy.layers * 2  # layers of one shape share their graph
    allowed = 1e-5 if precision == "full" else 2e-3  # a last bit may tip an integer
    assert max(gap(compiled[unit], eager[unit]) for unit in eager) < allowed
    before = len(made)
    other = sweep(engine, model, "unchanged", None)
    assert len(made) == before and not any(ledger.total_effect.any() for ledger in other.values())
    sweep(engine, model, "resample", COMPARED, tokens=TOKENS[:1], donors=TOKENS[1:2])
    assert len(made) == before  # a smaller batch is not worth compiling for


@pytest.mark.parametrize("compiled", [False, True])
def test_memory_that_ends_makes_chunks_smaller(compiled, monkeypatch):
    """Also those that a program was compiled for: it may not fill a smaller chunk up again."""
    tried = []

    class Limited(CompiledProgram):
        """Stands in for the compiler, which takes its time."""

        def __init__(self, program, values, difference):
            self.runs, self.program = len(difference), program

        def run(self, values, difference):
            filled = torch.cat([difference, difference.new_zeros(self.runs - len(difference), *difference.shape[1:])])
            return {name: values_[: len(difference)] for name, values_ in self.program.run(values, filled).items()}

    def limited(self, values, difference):
        tried.append(len(difference))
        if len(difference) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return run(self, values, difference)

    model = language_model("gpt2")
    whole = sweep(DeltaEngine(), model, "resample", None)
    run = Program.run
    monkeypatch.setattr("selfrepair.engine.delta.engine.CompiledProgram", Limited)
    monkeypatch.setattr(Program, "run", limited)
    engine = DeltaEngine(fold=4, compiled=compiled, batch=len(TOKENS))
    ledgers = sweep(engine, model, "resample", None)
    assert engine.fold == 2 and tried.count(4) == 1  # what failed once is not tried again
    assert max(gap(ledgers[unit], whole[unit]) for unit in whole) < 1e-12
    monkeypatch.setattr(Program, "run", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(SelfRepairError, match=r"Memory ran out(.|\n)*--batch"):
        sweep(engine, model, "resample", None)


def test_what_compiled_programs_are_made_of_is_the_functions_themselves():
    values = torch.cat([torch.linspace(-60, 60, 4001), torch.tensor([0.0, -torch.inf, torch.inf])])
    made = _DECOMPOSED[torch.ops.aten.tanh.default](values)
    assert (made - values.double().tanh()).abs().max() < 2e-7
    finite = values[:-2]
    gelu = _DECOMPOSED[torch.ops.aten.gelu.default](finite, approximate="tanh")
    truth = F.gelu(finite.double(), approximate="tanh")
    assert ((gelu - truth).abs() < 1e-6 * (0.1 + truth.abs())).all()
    assert _DECOMPOSED[torch.ops.aten.gelu.default](finite) is NotImplemented  # the exact one has no tanh
    cubed = _DECOMPOSED[torch.ops.aten.pow.Tensor_Scalar](finite, 3.0)
    assert torch.allclose(cubed, finite.pow(3), rtol=3e-7, atol=0)
    assert _DECOMPOSED[torch.ops.aten.pow.Tensor_Scalar](finite, 2.5) is NotImplemented


@pytest.mark.skipif(not takes_blocks(torch.ones(2, 2)), reason="weights are not multiplied in blocks on this machine")
def test_products_in_blocks_are_those_of_the_rounded_factors():
    torch.manual_seed(0)
    rows, weight = torch.randn(2, 3, 5, 33).bfloat16(), torch.randn(33, 17).bfloat16()
    ready = blocked(weight)
    truth = rows.double() @ weight.double()
    assert (product_in_blocks(rows, ready).double() - truth).abs().max() < 2**-8 * truth.abs().max()


# the choice


def chosen(model, work=1e12, predictions=1e3):
    with model.running():
        return choice.choose(model, TOKENS, all_heads(model.anatomy), RunSize(work, predictions))


def test_much_work_is_compiled_and_little_is_replayed(monkeypatch):
    monkeypatch.setattr(choice, "_has_compiler", lambda _model: True)
    monkeypatch.setattr(Trial, "seconds_of_replay", lambda _self: 1e-3)
    model = language_model("gpt2", dtype="float32")
    assert chosen(model).engine.settings["compiled"] is True
    assert chosen(model, work=10).engine.name == "replay"
    with model.running():  # of which replay alone computes half
        size = RunSize(1e12, 1e3, positions=0.5)
        of_beginnings = choice.choose(model, TOKENS, all_heads(model.anatomy), size)
    assert of_beginnings.engine.name == "replay" and "than filters need" in of_beginnings.reason
    moe = chosen(language_model("mixtral", dtype="float32"))
    assert moe.engine.name == "replay" or not moe.engine.settings["compiled"]


def test_a_wrong_rule_is_found_out(monkeypatch):
    """The guard of the engine: its first trial is against replay."""
    monkeypatch.setitem(rules.RULES, "layer_norm", same)
    choice = chosen(language_model("gpt2", dtype="float32"))
    assert choice.engine.name == "replay" and "off by" in choice.reason


def test_low_precision_that_is_not_right_is_refused(monkeypatch, products):
    products.take(full=9.0, int8=1.0, bfloat16=2.0)
    model = language_model("gpt2", dtype="float32")
    monkeypatch.setattr(trial, "MOST_BIAS", float("inf"))
    monkeypatch.setattr(trial, "TOLERANCE", 1e-9)
    strict = chosen(model)
    assert strict.engine.settings["precision"] == "full" and "int8 would be 9.0 times as fast" in strict.reason
    monkeypatch.setattr(trial, "TOLERANCE", 1.0)
    assert chosen(model).engine.settings["precision"] == "int8"


def test_blocks_that_cannot_be_followed_are_replayed(monkeypatch):
    def discrete(*_args):
        raise NotTraceable("GPT2Block calls topk itself.")

    monkeypatch.setattr("selfrepair.engine.delta.engine.BlockRecorder.record", discrete)
    choice = chosen(language_model("gpt2", dtype="float32"))
    assert choice.engine.name == "replay" and "topk" in choice.reason


def test_relative_error_by_hand():
    truth = torch.tensor([[3.0, -1.0], [1.0, 1.0]])
    error = RelativeError.between(truth + torch.tensor([[0.1, -0.1], [0.1, 0.1]]), truth, planned=100)
    assert error.per_token == pytest.approx(0.1 / 3**0.5)
    assert error.bias == 0  # of means: 0 and 0.1, which errors of 0.1 without a bias would show as well
    steady = RelativeError.between(truth + 0.1, truth, planned=100)
    assert steady.bias == pytest.approx(0.1 / 0.2)
    assert RelativeError.between(truth + 0.1, truth, planned=400).bias == pytest.approx(2 * steady.bias)
    wrong = RelativeError.between(truth * torch.nan, truth, planned=100)
    assert wrong.per_token == wrong.bias == float("inf")


def test_an_error_without_a_bias_is_no_bias_and_a_bias_is_found_among_errors():
    torch.manual_seed(0)
    truth = torch.randn(6, 400)
    noise = 0.005 * torch.randn(6, 400)
    assert RelativeError.between(truth + noise, truth, planned=2e4).bias < 0.04
    assert RelativeError.between(truth + noise + 0.001, truth, planned=2e4).bias == pytest.approx(0.1414, abs=0.04)


def test_means_near_zero_do_not_turn_down_products_that_are_right(products):
    """Means of random weights are near zero, so any error is a large share of them, and none of their errors."""
    products.take(full=9.0, int8=9.0, bfloat16=2.0)
    model = language_model("gpt2", dtype="float32")
    assert chosen(model).engine.settings["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("positions", "times", "compiled", "taken"),
    [
        (1.0, 2.0, False, True),
        (0.6, 2.0, True, True),
        (0.6, 2.0, False, False),
        (0.3, 2.0, True, False),
        (0.3, 8.0, True, True),
        (0.05, 8.0, True, False),
    ],
)
def test_whole_windows_have_to_be_faster_than_a_replay_of_beginnings(
    positions, times, compiled, taken, products, monkeypatch
):
    products.take(full=times, int8=9.0, bfloat16=1.0)
    monkeypatch.setattr(choice, "_is_long", lambda _trial: compiled)
    monkeypatch.setattr(choice, "_has_compiler", lambda _model: True)
    model, size = language_model("gpt2", dtype="float32"), RunSize(1e12, 1e3, positions)
    with model.running():
        found = choice.choose(model, TOKENS, all_heads(model.anatomy), size).engine
    assert (found.settings.get("precision") == "bfloat16") is taken and (found.name == "delta") is taken


def test_differences_that_were_asked_for_are_not_held_against_replay(products):
    products.take(full=2.0, int8=9.0, bfloat16=1.0)
    model, size = language_model("gpt2", dtype="float32"), RunSize(1e12, 1e3, positions=0.05)
    with model.running():
        asked = choice.delta(model, TOKENS, all_heads(model.anatomy), size, None)
        chosen = choice.choose(model, TOKENS, all_heads(model.anatomy), size)
    assert asked.engine.settings["precision"] == "bfloat16" and chosen.engine.name == "replay"


@pytest.mark.parametrize("wrong_below", [1, 2])
def test_what_is_wrong_in_the_first_layers_alone_is_left_out(wrong_below, products, monkeypatch):
    products.take(full=9.0, int8=9.0, bfloat16=1.0)
    honest = Trial._effects

    def wrong(self, engine, sites):
        found, low = honest(self, engine, sites), engine.name == "delta" and engine.precision != "full"
        return {site: effects * (2 if low and site.port.layer < wrong_below else 1) for site, effects in found.items()}

    monkeypatch.setattr(Trial, "_effects", wrong)
    found = chosen(language_model("gpt2", dtype="float32"))
    if wrong_below == 1:
        assert found.engine.settings["precision"] == "bfloat16" and found.engine.settings["full_below"] == 1
        assert "below layer 1" in found.reason
    else:  # five of six blocks would be computed twice as slowly as hoped
        assert found.engine.settings["precision"] == "full" and "off by" in found.reason


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 3))
def test_the_layer_from_which_on_products_are_right(layers, wrong_below, most, lowest):
    """Sparse tries find what trying every layer would, if nothing above is wrong; or nothing that is worth it."""
    lowest = min(lowest, layers - 1)
    sites = [Head(layer, head) for layer in range(lowest, layers) for head in range(2)]
    made = Trial(SimpleNamespace(anatomy=SimpleNamespace(layers=layers)), TOKENS, sites, RunSize(1e9, 1e3))
    truth = torch.linspace(-1, 1, 50)

    def effects(engine, asked):
        low = engine == "low"
        return {site: truth * (1 + 0.5 * (low and site.port.layer < wrong_below)) for site in asked}

    made._effects = effects
    found = made.right_from("low", lambda layer: layer <= most)
    all_right = wrong_below <= lowest
    within = wrong_below < layers and (all_right or wrong_below <= most)
    assert found.layer == ((0 if all_right else wrong_below) if within else None)
    assert (found.error.per_token == 0) is within


def test_a_long_run_has_small_errors_beside_which_the_same_bias_is_too_large(products, monkeypatch):
    products.take(full=9.0, int8=9.0, bfloat16=2.0)
    model, shift = language_model("gpt2", dtype="float32"), 3e-3
    honest = Trial._effects

    def biased(self, engine, sites):
        found = honest(self, engine, sites)
        size = shift * torch.stack(list(found.values())).std()
        low = engine.name == "delta" and engine.precision != "full"
        return {site: effects + size for site, effects in found.items()} if low else found

    monkeypatch.setattr(Trial, "_effects", biased)
    assert chosen(model, predictions=1e2).engine.settings["precision"] == "bfloat16"
    long = chosen(model, predictions=1e5)
    assert long.engine.settings["precision"] == "full" and "of the run's standard errors" in long.reason


def test_nothing_is_left_on_the_model():
    model = load(families.build("gpt2"))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules()]
    sweep(DeltaEngine(), model, "resample", COMPARED)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules()]
