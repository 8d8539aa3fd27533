"""What the final norm and the unembedding add whatever they read: no effect may depend on it, however large it is."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from selfrepair import ReferenceEngine, RefusedModel, ReplayEngine, SelfRepairError, load, measure, prove
from selfrepair.ablation.sites import Head
from selfrepair.cli.check import _parts
from selfrepair.effects.readouts import LogitDifference
from selfrepair.engine import DeltaEngine
from selfrepair.engine.ablation_proofs import _future_error
from selfrepair.engine.clean import clean_run
from selfrepair.model.proofs import prove_at_load
from selfrepair.model.taps import on_input, removing
from selfrepair.paper.experiments.norm.terms import scaled_logits
from selfrepair.report.captions import centring_note
from selfrepair.run.planning.run_plan import how
from support import LINES, TOKENS, corpus, sweep
from zoo import families

UNITS = [Head(0, 1), Head(1, 3), Head(2, 0)]
ENGINES = {"reference": ReferenceEngine, "replay": lambda: ReplayEngine(fold=2), "delta": lambda: DeltaEngine(fold=2)}
PADDED, USED = slice(-7, None), int(TOKENS[0, 3])
every_engine = pytest.mark.parametrize("engine", ENGINES)


def unembedding(network) -> nn.Linear:
    """The model's own unembedding with a bias of zero."""
    head = network.get_output_embeddings()
    own = nn.Linear(head.in_features, head.out_features, dtype=head.weight.dtype)
    own.weight.data.copy_(head.weight.data)
    own.bias.data.zero_()
    network.set_output_embeddings(own)
    return own


def padded(value: float, name: str = "llama"):
    network = families.build(name)
    unembedding(network).bias.data[PADDED] = value
    return network


def used(value: float, name: str = "llama"):
    network = families.build(name)
    unembedding(network).bias.data[USED] = value
    return network


def everywhere(value: float, name: str = "llama"):
    network = families.build(name)
    unembedding(network).bias.data.fill_(value)
    return network


def normed(value: float):
    network = families.build("gpt2")
    bias = network.transformer.ln_f.bias.data
    bias.copy_(value * torch.randn(bias.shape, generator=torch.Generator().manual_seed(0)))
    return network


CONSTANTS = {
    "padded rows far down": (lambda: padded(-1e9), lambda: padded(0.0)),
    "padded rows at the lowest number": (lambda: padded(torch.finfo(torch.float32).min), lambda: padded(0.0)),
    "padded rows far up": (lambda: padded(1e9), lambda: padded(0.0)),
    "padded rows of a capped model": (lambda: padded(-1e9, "gemma2"), lambda: padded(0.0, "gemma2")),
    "a row that the text uses": (lambda: used(-1e9), lambda: used(0.0)),
    "all rows": (lambda: everywhere(1e7), lambda: everywhere(0.0)),
    "the final norm's bias": (lambda: normed(1e4), lambda: normed(0.0)),
}
every_constant = pytest.mark.parametrize("which", CONSTANTS)


@cache
def without(which: str):
    """Effects of the same model without the constant: float64, full forwards."""
    return sweep(ReferenceEngine(), load(CONSTANTS[which][1]().double()), "resample", UNITS)


@every_constant
@every_engine
@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-5), ("float64", 1e-10)])
def test_no_effect_depends_on_a_constant(which, engine, dtype, allowed):
    network = CONSTANTS[which][0]()
    model = load(network.double() if dtype == "float64" else network)
    ledgers = sweep(ENGINES[engine](), model, "resample", UNITS)
    for unit, ledger in ledgers.items():
        truth = without(which)[unit]
        for line in LINES:
            assert (getattr(ledger, line) - getattr(truth, line)).abs().max() < allowed, (unit, line)
        assert ledger.residual.abs().max() < allowed


def plain_effect(network, unit: Head, tokens) -> torch.Tensor:
    """Total effects of zeroing a head, from two plain float64 forwards, the difference centred; [window, P]."""
    network = copy.deepcopy(network).double()
    projection, width = network.model.layers[unit.layer].self_attn.o_proj, families.HEAD_DIM
    own = slice(unit.head * width, (unit.head + 1) * width)

    def zeroed(_module, args):
        z = args[0].clone()
        z[..., own] = 0
        return (z,)

    with torch.no_grad():
        clean = network(tokens).logits
        handle = projection.register_forward_pre_hook(zeroed)
        ablated = network(tokens).logits
        handle.remove()
    rows = torch.isfinite(clean).all(1).all(0)
    change = ablated - clean
    change = change - change[..., rows].mean(-1, keepdim=True)
    return change[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


@pytest.mark.parametrize("value", [-100.0, -1e9, float("-inf")])
@every_engine
def test_effects_are_those_of_two_plain_forwards(value, engine):
    """Rows at minus infinity are masked: they have no logit, so they are left out of the mean."""
    network = padded(value)
    tokens = TOKENS.clamp(max=TOKENS.max() - 7)
    truth = plain_effect(network, UNITS[1], tokens)
    ledger = sweep(ENGINES[engine](), load(network), "zero", [UNITS[1]], tokens=tokens)[UNITS[1]]
    assert truth.abs().max() > 0.01
    assert (ledger.total_effect[0] - truth).abs().max() < 2e-5
    assert ledger.residual.abs().max() < 1e-5


def masked_windows():
    windows = corpus()
    windows.tokens[windows.tokens >= 90] = 89
    return windows


@pytest.mark.parametrize("value", [-1e9, float("-inf"), 1e4])
def test_a_run_with_rows_that_are_switched_off(value):
    run = measure(load(padded(value)), masked_windows(), replicates=4, progress=False)
    plan = run.plan["model"]["vocabulary"]
    assert plan["rows"] == 97 and plan["masked"] == (7 if value == float("-inf") else 0)
    assert plan["centred_over"] == 97 - plan["masked"]
    expected = measure(load(padded(-100.0)), masked_windows(), replicates=4, progress=False)
    if value != float("-inf"):
        np.testing.assert_allclose(run.heads["total_effect"], expected.heads["total_effect"], atol=2e-5)
    assert run.outcome["loss_nats_per_token"] < 20 or value > 0
    assert run.outcome["readout_error"] < 1e-4


def test_a_text_that_holds_a_masked_row_is_refused():
    windows = masked_windows()
    windows.tokens[0, 2] = 95
    with pytest.raises(SelfRepairError, match=r"token id 95.*masked"):
        measure(load(padded(float("-inf"))), windows, progress=False)


def test_rows_that_the_models_own_code_masks():
    """Chameleon writes the lowest number there is over the logits of its image tokens."""
    network = families.build("llama")
    forward = type(network).forward

    class Masking(type(network)):
        def forward(self, *args, **kwargs):
            output = forward(self, *args, **kwargs)
            output.logits[..., PADDED] = torch.finfo(output.logits.dtype).min
            return output

    network.__class__ = Masking
    readout = load(network).anatomy.unembedding
    assert readout.masked is not None and readout.masked.nonzero().flatten().tolist() == list(range(90, 97))


def test_other_weights_may_not_be_infinite():
    network = families.build("llama")
    network.model.norm.weight.data[3] = float("-inf")
    with pytest.raises(SelfRepairError, match="not finite"):
        load(network)
    with pytest.raises(SelfRepairError, match="not finite"):
        load(padded(float("nan")))


@every_constant
def test_proofs_hold_with_a_constant(which):
    proofs = prove(load(CONSTANTS[which][0]().double()))
    assert all(proof.holds for proof in proofs), [proof for proof in proofs if not proof.holds]


def test_a_wrong_read_out_is_refused_however_large_a_constant_is():
    """The tolerance may not grow with the constant, else nothing would be proved."""
    network = padded(-1e9)
    forward = type(network).forward

    class Doubled(type(network)):
        """Half the logits come from elsewhere; no constant hides that."""

        def forward(self, *args, **kwargs):
            output = forward(self, *args, **kwargs)
            output.logits = output.logits + torch.linspace(-3, 3, 97).sin() * output.logits[..., :1]
            return output

    network.__class__ = Doubled
    with pytest.raises(RefusedModel) as refusal:
        load(network)
    assert refusal.value.identity == "read-out"


def test_causality_is_proved_however_large_a_constant_is():
    """A model whose logits leak one of the next token's embedding entries, beside rows at minus a billion."""
    network = padded(-1e9)
    forward = type(network).forward

    class Leaking(type(network)):
        def forward(self, input_ids, **kwargs):
            output = forward(self, input_ids, **kwargs)
            output.logits[:, :-1] += (input_ids[:, 1:, None] % 2) * torch.linspace(-1, 1, 97)
            return output

    model = load(network)
    network.__class__ = Leaking
    with model.running():
        assert _future_error(model, TOKENS) > 0.01


def test_the_residual_sum_is_proved_however_large_the_stream_is():
    """A huge constant in every embedding is no excuse for writes that are booked at another size."""
    network = families.build("gpt2")
    network.transformer.wpe.weight.data += 300
    model = load(network)
    blocks = tuple(replace(block, mlp_multiplier=1.02) for block in model.anatomy.blocks)
    with pytest.raises(RefusedModel) as refusal:
        prove_at_load(replace(model, anatomy=replace(model.anatomy, blocks=blocks)))
    assert refusal.value.identity == "residual sum"


class Known:
    """A tokenizer of so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return self.tokens

    def decode(self, tokens, **_options) -> str:
        return " ".join(map(str, tokens))

    def convert_ids_to_tokens(self, token: int) -> str:
        return str(token)


@pytest.mark.parametrize(
    ("bias", "said"),
    [
        (0.0, r"centred over 97 rows of the unembedding, padded rows .* included \(7 of 97\)"),
        (float("-inf"), "centred over 90 rows of the unembedding, padded.*7 masked rows"),
    ],
)
def test_the_plan_says_whether_padded_rows_enter_the_mean(bias, said):
    model = load(padded(bias), Known(90))
    assert model.vocabulary["padded"] == 7
    run = measure(model, masked_windows(), heads=[(2, 0)], replicates=4, progress=False)
    assert run.plan["model"]["vocabulary"] == model.vocabulary
    for words in (how(run.plan), centring_note(run), _parts(model)):
        assert re.search(said, words), words


def test_where_every_row_is_a_token_nothing_is_said():
    run = measure(load(padded(0.0), Known(97)), masked_windows(), heads=[(2, 0)], replicates=4, progress=False)
    assert centring_note(run) == "" and "centred over" not in how(run.plan)


@every_constant
def test_the_papers_norm_study_takes_effects_without_constants(which):
    model = load(CONSTANTS[which][0]())
    final = []
    with model.running(), removing(on_input(model.anatomy.final_norm_module, lambda x: final.append(x.clone()))):
        clean = clean_run(model, TOKENS)
        assert (scaled_logits(model.anatomy, TOKENS, final[0]) - clean.scaled_logit).abs().max() < 2e-5


def test_a_difference_of_logits_holds_nothing_of_the_vocabularys_mean():
    """Padded rows at minus a billion put the mean at minus a hundred million, of which float32 keeps no units."""
    network = padded(-1e9)
    network.lm_head.bias.data[:-7] = torch.randn(90, generator=torch.Generator().manual_seed(0))
    readout = LogitDifference((-1, 3), ((5, 8, 11), (6, 7, 9)), ((20,), (21,)))
    model = load(network)
    with model.running(), torch.no_grad():
        clean = clean_run(model, TOKENS[:2], readout.reading(model.anatomy, TOKENS[:2]))
        logits = copy.deepcopy(network).double()(TOKENS[:2]).logits
    for window, position in enumerate((-1, 3)):
        right, wrong = (logits[window, position, list(side[window])] for side in (readout.answers, readout.against))
        assert abs(float(clean.logit[window, 0] - (right.mean() - wrong.mean()))) < 1e-4
