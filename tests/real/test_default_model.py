"""The default model: as good at English as it should be, and measured exactly."""

import json
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch

from selfrepair import ReferenceEngine, ReplayEngine, measure, prove, windows

pytestmark = [pytest.mark.real, pytest.mark.long]  # beside each other: one process loads the model

PROSE = ("integers", "customization", "context-managers", "compound", "strings", "types", "execmodel", "import")
HEADS = [(29, 3), (28, 0), (22, 5)]
QUANTITIES = ("direct_effect", "total_effect", "self_repair", "repair_heads", "repair_mlps", "repair_norm")


def test_its_loss_on_english_prose_is_that_of_a_good_model(default, tmp_path):
    file = tmp_path / "prose.jsonl"
    file.write_text("".join(json.dumps({"text": topics[name]}) + "\n" for name in PROSE if name in topics))
    text = windows(default.tokenizer, str(file), tokens=4 * 128, length=128)
    tokens = torch.from_numpy(text.tokens)
    with torch.no_grad():
        log_probabilities = default.logits(tokens)[:, :-1].log_softmax(-1)
    nats = -log_probabilities.gather(-1, tokens[:, 1:, None])[..., 0].numpy()[text.scored()]
    assert 2.5 < nats.mean() < 3.5


def test_every_identity_holds(default):
    assert not [proof for proof in prove(default) if not proof.holds]


def test_its_ledger_closes_and_the_engines_agree(default):
    text = windows(default.tokenizer, tokens=2 * 48, length=48)
    engines = ReplayEngine(fold=1), ReferenceEngine()  # no probe: it takes longer than this sweep
    options = {"heads": HEADS, "components": "layers", "progress": False}
    runs = {engine.name: measure(default, text, engine=engine, **options) for engine in engines}
    for run in runs.values():
        assert run.outcome["ledger_closes"] and run.outcome["ledger_residual"] < 1e-3
        assert run.outcome["readout_error"] < 1e-3 and run.outcome["numerical_floor"] < 1e-3
        assert 2 < run.outcome["loss_nats_per_token"] < 4
    replay, reference = (run.heads.sel(filter="all") for run in runs.values())
    for name in QUANTITIES:
        np.testing.assert_allclose(replay[name], reference[name], atol=1e-4)
    effects = np.array([float(abs(replay["total_effect"][head])) for head in HEADS])
    assert (effects > 10 * runs["replay"].outcome["numerical_floor"]).all()
