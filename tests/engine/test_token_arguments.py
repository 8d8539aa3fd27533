"""Blocks that are handed something made of the token ids: measured rightly on every engine, or refused at load."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from selfrepair import LanguageModel, ReferenceEngine, RefusedModel, ReplayEngine, load, prove
from selfrepair.ablation.sites import Head
from selfrepair.engine import DeltaEngine, replay
from selfrepair.engine.clean import clean_run
from selfrepair.engine.delta import engine as delta
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.watched import WatchedReplay, eager_attention
from selfrepair.model.arguments import block_arguments
from selfrepair.model.block_run import BlockRun
from selfrepair.model.taps import removing
from selfrepair.paper.experiments.self_gain.add_vector import Adder
from selfrepair.paper.inputs.recorded_replay import Replayer
from support import each, language_model, split
from zoo import families, token_made

UNITS = [Head(0, 1), Head(1, 0), Head(1, 1), Head(1, 3), Head(2, 2)]
ENGINES = {
    "replay": lambda: ReplayEngine(fold=1),
    "replay, folded": lambda: ReplayEngine(fold=3),
    "delta": lambda: DeltaEngine(fold=2),
    "reference": ReferenceEngine,
}


@cache
def model_of(name: str) -> LanguageModel:
    return load(token_made.build(*(token_made.MEASURED | token_made.BY_TRUNK)[name]))


def texts(windows: int = 3) -> torch.Tensor:
    """With padding in places, and unlike each other."""
    tokens = families.tokens(batch=windows)
    tokens[0, 2:4] = tokens[-1, 5:8] = token_made.PAD
    return tokens


def true_effect(model: LanguageModel, unit: Head, tokens: torch.Tensor) -> torch.Tensor:
    """Total effect [window, prediction] of a head's output moved on by one position, by two plain forwards."""
    network, start = model.network, unit.head * families.HEAD_DIM
    mine = slice(start, start + families.HEAD_DIM)

    def moved(_module, args):
        changed = args[0].clone()
        changed[..., mine] = changed[..., mine].roll(1, 1)
        return (changed,)

    with model.running():
        before = network(tokens, use_cache=False).logits
        with removing(network.model.layers[unit.layer].self_attn.o_proj.register_forward_pre_hook(moved)):
            change = network(tokens, use_cache=False).logits - before
    change = change - change.mean(-1, keepdim=True)
    return change[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)


def found_effects(engine, model: LanguageModel, tokens: torch.Tensor) -> dict[Head, torch.Tensor]:
    with model.running():
        clean = clean_run(model, tokens)
        ledgers = split(engine.sweep(model, clean, each(UNITS), lambda port: clean.outputs_at(port).roll(1, 1), True))
    assert all(ledger.residual.abs().max() < 1e-9 for ledger in ledgers.values())
    return {head: ledger.total_effect[0] for head, ledger in ledgers.items()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", token_made.MEASURED)
def test_measured_as_plain_forwards_have_it(name, engine):
    model, used = model_of(name), ENGINES[engine]()
    for tokens in (texts(), texts().flip(0, 1), texts(windows=1)):  # one engine, several batches of the same shape
        effects = found_effects(used, model, tokens)
        for unit in UNITS:
            wanted = true_effect(model, unit, tokens)
            assert wanted.abs().max() > 1e-2
            torch.testing.assert_close(effects[unit], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("engine", ["replay", "replay, folded", "reference"])
@pytest.mark.parametrize("name", token_made.BY_TRUNK)
def test_measured_by_the_trunk_where_blocks_need_more(name, engine):
    model, tokens = model_of(name), texts()
    assert not model.anatomy.alone
    effects = found_effects(ENGINES[engine](), model, tokens)
    for unit in UNITS:
        torch.testing.assert_close(effects[unit], true_effect(model, unit, tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", token_made.BY_TRUNK)
def test_delta_declines_what_is_handed_on_beside_the_stream(name):
    with pytest.raises(NotTraceable, match="beside the stream"):
        found_effects(DeltaEngine(), model_of(name), texts())


@pytest.mark.parametrize("name", [*token_made.MEASURED, *token_made.BY_TRUNK])
def test_check_finds_nothing(name):
    failing = [proof for proof in prove(model_of(name)) if not proof.holds]
    assert not failing


@pytest.mark.parametrize("name", token_made.REFUSED)
def test_refused(name):
    with pytest.raises(RefusedModel) as refusal:
        load(token_made.build(*token_made.REFUSED[name]))
    assert refusal.value.identity in ("blocks replay", "attention")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hook_on_a_blocks_arguments_acts_once(engine):
    def halved(_module, args, kwargs):
        return args, kwargs | {"position_embeddings": tuple(0.5 * table for table in kwargs["position_embeddings"])}

    network = families.build("llama").double()
    network.model.layers[1].register_forward_pre_hook(halved, with_kwargs=True)
    model, tokens = load(network), texts()
    effects = found_effects(ENGINES[engine](), model, tokens)
    for unit in UNITS:
        torch.testing.assert_close(effects[unit], true_effect(model, unit, tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", token_made.MEASURED)
def test_close_ups_replay_the_text_itself(name):
    model, tokens = model_of(name), texts(windows=1)
    with model.running(), eager_attention(model):
        clean = clean_run(model, tokens)
        in_place = clean.head_outputs[1].roll(1, 1)
        effects = (
            WatchedReplay(model, clean, 1, each([Head(1, 0), Head(1, 3)]), lambda _: in_place, [2, 5])
            .ledger()
            .total_effect
        )
    for row, head in enumerate((0, 3)):
        torch.testing.assert_close(effects[row], true_effect(model, Head(1, head), tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", token_made.MEASURED)
def test_the_papers_runs_replay_the_text_itself(name):
    model, tokens = model_of(name), texts()
    with model.running():
        clean = clean_run(model, tokens)
        for _ in range(2):
            torch.testing.assert_close(Replayer(model).run(clean, 1).final, clean.final, rtol=0, atol=1e-9)
        nothing = torch.zeros_like(clean.residuals[1]).expand(2, -1, -1, -1)
        for single in (True, False):
            added = Adder(model, single).add(clean, 1, nothing, to_the_end=True)
            outputs = clean.head_outputs[1].expand(2, -1, -1, -1, -1)
            torch.testing.assert_close(added.outputs, outputs, rtol=0, atol=1e-9)
            assert added.sigma is not None
            torch.testing.assert_close(added.sigma[..., :-1], clean.sigma.expand(2, -1, -1), rtol=0, atol=1e-9)


def test_delta_refuses_a_recording_of_another_text(monkeypatch):
    """Its floor is zero whatever it recorded, so it holds every recorded block to the clean run."""
    model, made = model_of("experts by token id"), block_arguments
    monkeypatch.setattr(delta, "block_arguments", lambda model, tokens: made(model, torch.zeros_like(tokens)))
    with pytest.raises(RefusedModel, match="blocks replay"):
        found_effects(DeltaEngine(), model, texts())


def test_arguments_of_another_text_are_seen_by_check(monkeypatch):
    model = model_of("experts by token id")
    monkeypatch.setattr(replay, "BlockRun", lambda model, tokens: BlockRun(model, torch.zeros_like(tokens)))
    failing = {proof.identity for proof in prove(model) if not proof.holds}
    assert {"own output", "engines agree"} <= failing


def test_making_arguments_leaves_blocks_as_they_were():
    """Hooks rest meanwhile: those of offloaded weights would read every block."""
    model, calls = language_model("llama"), []
    block = model.network.model.layers[1]
    before = dict(vars(block))
    with removing(block.register_forward_pre_hook(lambda *_: calls.append(1))), model.running():
        arguments = block_arguments(model, families.tokens())
        assert not calls and len(arguments) == families.LAYERS
        model.run_trunk(families.tokens())
        assert calls
    assert vars(block) == before
