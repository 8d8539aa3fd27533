"""Models with layers that are not heads and one MLP: mixers, several writes, a scale of the whole block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from census.forwards import logits, plainly, texts
from plain_hybrids import hybrid
from selfrepair import (
    DeltaEngine,
    ReferenceEngine,
    ReplayEngine,
    SelfRepairError,
    clean_run,
    each,
    measure,
    write_report,
)
from selfrepair.ablation.names import parse_names
from selfrepair.ablation.sites import Mixer
from selfrepair.cli.check import _parts
from selfrepair.engine.ablation_proofs import prove
from selfrepair.model.ports import Port
from selfrepair.model.usual_layers import require_usual_layers
from support import corpus

HYBRIDS = ["lfm2", "falcon_h1", "granitemoehybrid", "qwen3_next", "nemotron_h"]


@pytest.fixture(scope="module")
def model_of():
    return hybrid


@pytest.mark.parametrize("entry", ["lfm2", "gemma4_text", "granitemoehybrid", "beam"])
def test_a_run_closes_and_names_what_it_has(entry, model_of, tmp_path):
    model = model_of(entry)
    run = measure(model, corpus(), engine="replay", out=tmp_path / "run", progress=False)
    assert run.outcome["status"] == "complete" and run.outcome["ledger_closes"]
    heads = run.heads
    lines = ("repair_heads", "repair_mlps", "repair_mixers", "repair_post_norms", "repair_norm")
    np.testing.assert_allclose(sum(heads[line] for line in lines), heads.self_repair, atol=1e-9)
    assert bool((np.nan_to_num(heads.repair_mixers) != 0).any()) == model.anatomy.has_mixers
    without = [layer for layer, block in enumerate(model.anatomy.blocks) if not block.heads]
    assert np.isnan(heads.total_effect[:, without]).all() and np.isfinite(heads.total_effect[0, 1]).all()
    write_report([run], tmp_path / "report.html")
    assert "repair_mixers" in (tmp_path / "report.html").read_text() or not model.anatomy.has_mixers


@pytest.mark.parametrize("entry", HYBRIDS)
def test_a_mixer_can_be_replaced(entry, model_of):
    """Total effects against plain forwards in which the mixer's output is that on another text."""
    model, (tokens, donors) = model_of(entry), texts()
    layer, block = next((layer, block) for layer, block in enumerate(model.anatomy.blocks) if block.has_mixer)
    port, kept = Port(layer, "mixer"), {}
    first = torch.arange(len(tokens))[:, None], torch.arange(tokens.shape[1] - 1), tokens[:, 1:]

    def target():
        values = logits(model.network, tokens)
        return (values - values.mean(-1, keepdim=True))[first]

    with plainly():
        handle = block.mixer_write.register_forward_hook(lambda _m, _a, out: kept.update(out=out))
        logits(model.network, donors)
        handle.remove()
        before = target()
        handle = block.mixer_write.register_forward_hook(lambda _m, _a, _out: kept["out"])
        wanted = target() - before
        handle.remove()
    replaced = kept["out"][0] if isinstance(kept["out"], tuple) else kept["out"]
    replaced = replaced.reshape(*tokens.shape, 1, -1)
    with model.running():
        clean = clean_run(model, tokens, ports=[port])
        for engine in (ReferenceEngine(), ReplayEngine(fold=1), DeltaEngine()):
            (ledger,) = engine.sweep(model, clean, each([Mixer(layer)]), lambda _port: replaced, True)
            assert (ledger.total_effect[0] - wanted).abs().max() < 1e-9, engine.name
            assert ledger.residual.abs().max() < 1e-9, engine.name
            assert not ledger.by_mixer[..., layer].any(), "what is replaced does not respond"


@pytest.mark.parametrize("entry", HYBRIDS)
def test_all_identities_hold(entry, model_of):
    assert not [proof for proof in prove(model_of(entry)) if not proof.holds]


def test_a_multiplier_that_is_forgotten_is_refused(model_of):
    """Proofs see a block's scale, a further MLP's and a mixer's multiplier."""
    from dataclasses import replace

    from selfrepair import RefusedModel
    from selfrepair.model.proofs import prove_at_load

    for entry, change in (
        ("gemma4_text", {"stream_multiplier": 1.0}),
        ("granitemoehybrid", {"more_mlps": ()}),
        ("lfm2", {"mixer_multiplier": 1.1}),
    ):
        model = model_of(entry)
        blocks = tuple(replace(block, **change) for block in model.anatomy.blocks)
        with pytest.raises(RefusedModel) as refusal:
            prove_at_load(replace(model, anatomy=replace(model.anatomy, blocks=blocks)))
        assert refusal.value.identity == "residual sum"


def test_what_knows_of_heads_and_mlps_alone_refuses(model_of):
    for entry in HYBRIDS:
        with pytest.raises(SelfRepairError, match="heads and one MLP"):
            require_usual_layers(model_of(entry).anatomy, "the paper's experiments")
    require_usual_layers(model_of("llama").anatomy, "the paper's experiments")


def test_an_mlp_of_several_parts_is_not_replaced(model_of):
    with pytest.raises(SelfRepairError, match="write side by side"):
        measure(model_of("granitemoehybrid"), corpus(), interventions=parse_names("L1.mlp"), progress=False)


def test_check_names_the_parts(model_of):
    said = _parts(model_of("granitemoehybrid"))
    assert "layer 0: model.layers.0.mamba" in said and said.count("MLP writes") == 2
    assert "blocks multiply the stream" in _parts(model_of("gemma4_text"))
    assert "no plain means" in _parts(model_of("gpt_oss"))
    assert "no plain means" not in said
