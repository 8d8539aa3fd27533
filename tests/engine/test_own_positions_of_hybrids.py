"""Own positions where layers have mixers, no heads, or MLPs of several parts: against plain hooks and replay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from census.forwards import logits, plainly, texts
from plain_hybrids import hybrid
from selfrepair import RefusedModel, ReplayEngine, measure
from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.sites import At, Head
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.engine.own_position import OwnPositionEngine, climb
from selfrepair.engine.own_position.single_positions import require_own_positions
from support import corpus, layerwise, split

HYBRIDS = ("lfm2", "falcon_h1", "granitemoehybrid", "nemotron_h", "gemma4_text", "jamba")
FIELDS = ("total_effect", "by_attention", "by_mixer", "by_mlp", "by_mlp_write", "by_head", "norm", "post_norms")
every_hybrid = pytest.mark.parametrize("entry", HYBRIDS)


def chosen_heads(model):
    """One of the first layer with heads and one of the last."""
    layers = model.anatomy.layers_with_heads
    return [Head(layer, 1) for layer in dict.fromkeys((layers[0], layers[-1]))]


def swept(model, heads, rows=512, donors=None):
    tokens, others = texts()
    with model.running():
        outputs = layerwise(head_outputs(model, others if donors is None else donors))
        clean = clean_run(model, tokens)
        return split(OwnPositionEngine(rows=rows).sweep(model, clean, each(heads), outputs, True)), clean, outputs


def plainly_at(model, head, position):
    """The change of every window's next-token logit at a position where a head gets its output on another text."""
    tokens, donors = texts()
    block, kept = model.anatomy.blocks[head.layer], {}
    part = slice(head.head * block.head_dim, (head.head + 1) * block.head_dim)

    def target():
        values = logits(model.network, tokens)[:, position]
        return (values - values.mean(-1, keepdim=True)).gather(-1, tokens[:, position + 1, None])[:, 0]

    def keep(_module, args):
        kept["out"] = args[0].clone()

    def swap(_module, args):
        value = args[0].clone()
        value[:, position, part] = kept["out"][:, position, part]
        return (value, *args[1:])

    with plainly():
        handle = block.projection.register_forward_pre_hook(keep)
        logits(model.network, donors)
        handle.remove()
        before = target()
        handle = block.projection.register_forward_pre_hook(swap)
        after = target()
        handle.remove()
    return after - before


@every_hybrid
def test_equals_plain_hooks_and_replay_at_one_position(entry, monkeypatch):
    model = hybrid(entry)
    heads = chosen_heads(model)
    monkeypatch.setattr(climb, "_MOST_POSITIONS", 30)  # two windows at a time: chunks cut through layers
    ledgers, clean, outputs = swept(model, heads, rows=7)
    assert max(ledger.residual.abs().max() for ledger in ledgers.values()) < 1e-9
    for position in (0, 6):
        runs = [Intervention((At(head, (position,)),), name=str(head)) for head in heads]
        with model.running():
            sweep = list(ReplayEngine(fold=1).sweep(model, clean, runs, outputs, True))
        truth = {ledger.interventions[0].replaced[0].site: ledger for ledger in sweep}
        for head, replayed in truth.items():
            ours = ledgers[head]
            wanted = plainly_at(model, head, position)
            assert (ours.total_effect[0, :, position] - wanted).abs().max() < 1e-9, (head, position)
            assert wanted.abs().max() > 1e-6
            for name in FIELDS:
                gap = getattr(ours, name)[0, :, position] - getattr(replayed, name)[0, :, position]
                assert gap.abs().max() < 1e-9, (head, position, name)
    if model.anatomy.has_mixers and heads[0].layer < max(_with_mixer(model)):
        assert ledgers[heads[0]].by_mixer.abs().max() > 1e-6


def _with_mixer(model):
    return [layer for layer, block in enumerate(model.anatomy.blocks) if block.has_mixer]


@every_hybrid
def test_rows_of_unchanged_positions_end_where_the_model_does(entry):
    model = hybrid(entry)
    with model.running():
        require_own_positions(model, clean_run(model, texts()[0]))


def test_rows_in_another_window_are_refused():
    model = hybrid("lfm2")
    with model.running():
        clean = clean_run(model, texts()[0])
        other = torch.roll(clean.residuals[0], 1, 1)
        with pytest.raises(RefusedModel, match="own positions"):
            require_own_positions(model, replace(clean, residuals=(other, *clean.residuals[1:])))


@pytest.mark.parametrize("entry", ["lfm2", "granitemoehybrid", "gemma4_text"])
def test_a_run_at_own_positions_closes(entry):
    model = hybrid(entry)
    run = measure(model, corpus(), heads=chosen_heads(model), positions="own", progress=False, replicates=10)
    assert run.outcome["status"] == "complete" and run.outcome["ledger_closes"]
    lines = sum(run.heads[f"repair_{name}"] for name in ("heads", "mlps", "mixers", "post_norms", "norm"))
    assert float(abs(lines - run.heads.self_repair).max()) < 1e-9 < float(abs(run.heads.self_repair).max())
