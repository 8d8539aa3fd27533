"""Guards of the guards: deliberately broken variants, and which of the package's own checks catches them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from selfrepair import (
    LanguageModel,
    LedgerDoesNotClose,
    ReferenceEngine,
    RefusedModel,
    ReplayEngine,
    SelfRepairError,
    load,
    measure,
    prove,
)
from selfrepair.engine import reference, replay
from selfrepair.engine.accounts import Patch
from selfrepair.model import block_run
from selfrepair.model.anatomy import Block
from selfrepair.model.proofs import prove_at_load
from support import DONORS, TOKENS, Head, corpus, language_model, oracle_ledger, sweep
from zoo import families

UNIT = Head(1, 1)


def with_anatomy(name: str, **changes) -> LanguageModel:
    model = language_model(name)
    return replace(model, anatomy=replace(model.anatomy, **changes))


def with_blocks(name: str, change: Callable[[Block], Block]) -> LanguageModel:
    blocks = language_model(name).anatomy.blocks
    return with_anatomy(name, blocks=tuple(change(block) for block in blocks))


def with_readout(name: str, **changes) -> LanguageModel:
    return with_anatomy(name, unembedding=replace(language_model(name).anatomy.unembedding, **changes))


def with_final_norm(name: str, **changes) -> LanguageModel:
    return with_anatomy(name, final_norm=replace(language_model(name).anatomy.final_norm, **changes))


def failing(model: LanguageModel) -> set[str]:
    return {proof.identity for proof in prove(model) if not proof.holds}


def caught_by_a_run(model: LanguageModel) -> bool:
    """Whether `measure` says by itself that its numbers must not be used."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run = measure(model, corpus(), heads=[UNIT, (2, 0), (0, 2)], progress=False)
        except SelfRepairError:
            return True
    warned = any(issubclass(w.category, LedgerDoesNotClose) for w in caught)
    assert warned == (not run.outcome["ledger_closes"])
    return warned


def caught_by_the_oracle(name: str, model: LanguageModel, ablation: str = "resample") -> bool:
    """Whether the tests of this folder would see it."""
    book = oracle_ledger(name, language_model(name), ablation, UNIT, TOKENS, DONORS)
    ledger = sweep(ReplayEngine(fold=1), model, ablation, [UNIT])[UNIT]
    return (ledger.total_effect[0] - book.total_effect).abs().max() > 1e-3


@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_unbroken_are_not_caught(name):
    proofs = prove(language_model(name))
    assert all(proof.holds for proof in proofs), [proof for proof in proofs if not proof.holds]
    assert len(proofs) == 16


def transposed(block: Block) -> Block:
    square = block.output_weight.flatten(0, 1)
    assert square.shape[0] == square.shape[1]
    return replace(block, output_weight=square.T.reshape(block.output_weight.shape))


BROKEN_AT_LOAD: dict[str, tuple[Callable[[], LanguageModel], str]] = {
    "transposed square W_O, gpt2": (lambda: with_blocks("gpt2", transposed), "heads sum"),
    "transposed square W_O, llama": (lambda: with_blocks("llama", transposed), "heads sum"),
    "heads read from the projection's output": (
        lambda: with_blocks("gpt2", lambda b: replace(b, projection=b.module.attn.resid_dropout)),
        "heads sum",
    ),
    "heads in another order": (
        lambda: with_blocks("mistral", lambda b: replace(b, output_weight=b.output_weight.flip(0))),
        "heads sum",
    ),
    "residual multiplier forgotten": (
        lambda: with_blocks("granite", lambda b: replace(b, attention_multiplier=1.0, mlp_multiplier=1.0)),
        "residual sum",
    ),
    "logit multiplier forgotten": (lambda: with_readout("granite", multiplier=1.0), "read-out"),
    "cap on logits ignored": (lambda: with_readout("gemma2", softcap=None), "read-out"),
    "unembedding bias forgotten": (lambda: with_readout("phi", bias=None), "read-out"),
    "post-norms taken for nothing": (
        lambda: with_blocks("gemma2", lambda b: replace(b, attention_norm=None, attention_write=b.projection)),
        "residual sum",
    ),
    "gain of a post-norm without its one": (
        lambda: with_blocks(
            "gemma3", lambda b: replace(b, attention_norm=replace(b.attention_norm, gain=b.attention_norm.gain - 1))
        ),
        "post-norms",
    ),
    "MLP before its post-norm": (
        lambda: with_blocks("gemma2", lambda b: replace(b, mlp_write=b.module.mlp)),
        "residual sum",
    ),
    "MLP that adds the residual itself": (
        lambda: with_blocks("bloom", lambda b: replace(b, mlp_write=b.module.mlp)),
        "residual sum",
    ),
    "final norm of the other kind": (lambda: with_final_norm("gpt2", centred=False), "read-out"),
    "final norm without its bias": (
        lambda: with_final_norm("gpt2", bias=torch.zeros(families.WIDTH, dtype=torch.float64)),
        "read-out",
    ),
    "final norm with a wrong epsilon": (lambda: with_final_norm("llama", eps=1e-3), "read-out"),
    "last block forgotten": (
        lambda: with_anatomy("llama", blocks=language_model("llama").anatomy.blocks[:-1]),
        "blocks chain",
    ),
    "final norm's place taken by another": (
        lambda: with_anatomy(
            "llama", final_norm_module=language_model("llama").network.model.layers[1].input_layernorm
        ),
        "blocks chain",
    ),
}


@pytest.mark.parametrize("broken", BROKEN_AT_LOAD)
def test_refused_at_load(broken):
    make, identity = BROKEN_AT_LOAD[broken]
    with pytest.raises(RefusedModel) as refusal:
        prove_at_load(make())
    assert refusal.value.identity == identity


BROKEN_AND_OPEN: dict[str, Callable[[], LanguageModel]] = {
    "post-norm's scale ignored": lambda: with_blocks("gemma2", lambda b: replace(b, attention_norm=None)),
    "MLP that is not parallel": lambda: with_blocks("gpt2", lambda b: replace(b, parallel=True)),
}


@pytest.mark.parametrize("broken", BROKEN_AND_OPEN)
def test_ledger_does_not_close(broken):
    model = BROKEN_AND_OPEN[broken]()
    assert "ledger closes" in failing(model)
    assert caught_by_a_run(model)


def test_norm_line_dropped(monkeypatch):
    """A final norm taken for frozen, that was not."""
    for engine in (reference, replay):
        monkeypatch.setattr(engine, "norm_repair", lambda ratio, logit: torch.zeros_like(logit))
    assert "ledger closes" in failing(language_model("llama"))
    assert caught_by_a_run(language_model("llama"))


def test_norm_frozen_in_ablated_runs(monkeypatch):
    """Every line and the total effect with the clean scale: consistent in itself, and wrong."""
    ledger_of = replay.Replay.ledger

    def frozen(self):
        ledger = ledger_of(self)
        zero = torch.zeros_like(ledger.norm)
        frozen_effect = ledger.total_effect - ledger.norm
        return replace(ledger, norm=zero, sigma_ratio=zero + 1, total_effect=frozen_effect)

    monkeypatch.setattr(replay.Replay, "ledger", frozen)
    assert failing(language_model("llama")) == {"engines agree"}
    assert caught_by_the_oracle("llama", language_model("llama"))


def without_masks(monkeypatch):
    made = block_run.block_arguments

    def unmasked(*given):
        return [
            (args, {name: None if "mask" in name else value for name, value in kwargs.items()})
            for args, kwargs in made(*given)
        ]

    monkeypatch.setattr(block_run, "block_arguments", unmasked)


def test_replay_without_masks(monkeypatch):
    """Under eager attention a missing mask is no causal mask."""
    model = language_model("llama", "eager")
    without_masks(monkeypatch)
    with pytest.raises(RefusedModel, match="blocks replay"):
        failing(model)
    assert not load(families.build("llama", "eager").double()).anatomy.alone  # the trunk runs its blocks


def test_a_run_says_that_its_replay_is_not_the_model(monkeypatch):
    """The ablated head's neighbours change too, which no line books: the ledger opens."""
    model = language_model("llama", "eager")
    without_masks(monkeypatch)
    assert caught_by_a_run(model)


def test_wrong_head_ablated(monkeypatch):
    patch = replay.Replay._patch

    def next_head(self, port, value):
        place, right, replaced = self._changes[port]
        self._changes[port] = replay._Change(place, Patch(right.put.roll(1, -1), right.held), replaced)
        try:
            return patch(self, port, value)
        finally:
            self._changes[port] = replay._Change(place, right, replaced)

    monkeypatch.setattr(replay.Replay, "_patch", next_head)
    assert "engines agree" in failing(language_model("llama"))
    assert caught_by_the_oracle("llama", language_model("llama"))


def test_downstream_line_forgotten(monkeypatch):
    model = language_model("gpt2")  # loaded before: a load under this patch is refused
    monkeypatch.setattr(replay.Replay, "_book_mlp", lambda self, port, value: None)
    assert "ledger closes" in failing(model)
    assert caught_by_a_run(model)


def test_upstream_that_changes(monkeypatch):
    """A hook that stays: the second run's clean side is no longer the first's."""
    make = reference._Valuation.ledger

    def shifted(*args):
        ledger = make(*args)
        if ledger.interventions[0].start > 0:
            ledger.by_mlp[..., 0] += 1e-13
        return ledger

    monkeypatch.setattr(reference._Valuation, "ledger", shifted)
    assert failing(language_model("gpt2")) == {"upstream silence"}


def halved(block: Block) -> Block:
    """Half as many heads, twice as wide."""
    shape = (block.heads // 2, block.head_dim * 2)
    return replace(
        block,
        output_weight=block.output_weight.reshape(*shape, -1),
        value_constant=block.value_constant.reshape(shape),
    )


def without_constant(block: Block) -> Block:
    return replace(block, value_constant=torch.zeros_like(block.value_constant))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_wrong_number_of_heads(name):
    model = with_blocks(name, halved)
    assert caught_by_the_oracle(name, model)
    with pytest.raises(RefusedModel, match="head count"):
        prove_at_load(model)


def test_value_constant_forgotten():
    model = with_blocks("gpt2", without_constant)
    assert caught_by_the_oracle("gpt2", model, "zero")
    with pytest.raises(RefusedModel, match="value constant"):
        prove_at_load(model)


def none_at(monkeypatch, engine, call: int) -> list[int]:
    """Makes an engine's norm line not a number in one of its calls; returns the list of calls."""
    repair = engine.norm_repair
    calls = []

    def sometimes_nan(*args):
        calls.append(1)
        return repair(*args) * (float("nan") if len(calls) == call else 1.0)

    monkeypatch.setattr(engine, "norm_repair", sometimes_nan)
    return calls


def test_proofs_see_numbers_that_are_none(monkeypatch):
    none_at(monkeypatch, reference, call=2)
    assert "ledger closes" in failing(language_model("llama"))


def test_a_run_sees_numbers_that_are_none(monkeypatch):
    calls = none_at(monkeypatch, replay, call=8)
    with pytest.warns(LedgerDoesNotClose):
        run = measure(language_model("llama"), corpus(), engine=ReplayEngine(fold=1), progress=False)
    assert len(calls) > 8 and not run.outcome["ledger_closes"]


def test_reference_is_held_to_the_model_itself():
    """The reference takes total effects from the model's own logits, so a wrong read-out cannot fool it."""
    model = with_readout("granite", multiplier=1.0)
    ledger = sweep(ReferenceEngine(), model, "resample", [UNIT])[UNIT]
    assert ledger.residual.abs().max() > 1e-3
