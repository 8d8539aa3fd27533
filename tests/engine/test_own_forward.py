"""What is measured is what the model itself computes: refused at load or in the run where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfrepair import RefusedModel, load, measure
from selfrepair.engine.clean import clean_run
from selfrepair.model import own_forward, proofs
from selfrepair.model.own_forward import (
    likely_causes,
    logit_errors,
    require_own_stream,
    special_ids,
    stream_errors,
    telling_window,
)
from selfrepair.model.proofs import prove_at_load, random_tokens
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.run.unit import survey, sweep
from support import corpus, fresh_model, language_model
from zoo import families, wrapped

ENGINES = ("replay", "delta", "reference")
LONG = {"lengths": (14, 14, 14, 11, 14, 14), "length": 14}


def with_rare(windows, window: int = 4):
    """The same text with the rare id in the middle of a window."""
    tokens = windows.tokens.copy()
    tokens[:, 1:][tokens[:, 1:] == wrapped.RARE] = 3
    tokens[window, 3] = wrapped.RARE
    return replace(windows, tokens=tokens)


def run(model, windows, engine="replay", **options):
    return measure(model, windows, heads=[(1, 1), (0, 2)], engine=engine, replicates=2, progress=False, **options)


@pytest.mark.parametrize("name", wrapped.REFUSED_AT_LOAD)
def test_refused_at_load(name):
    build, identity, cause = wrapped.REFUSED_AT_LOAD[name]
    with pytest.raises(RefusedModel) as refusal:
        load(build())
    assert refusal.value.identity == identity
    assert cause in str(refusal.value)


def test_a_block_that_runs_twice_is_refused():
    with pytest.raises(RefusedModel):
        load(wrapped.llama(wrapped.OwnLayers))


def test_all_logits_are_compared_at_load(monkeypatch):
    """The read-out is proved for some ids only."""
    monkeypatch.setattr(proofs, "_readout_error", lambda *_: 0.0)
    with pytest.raises(RefusedModel, match="own logits"):
        load(wrapped.llama(wrapped.Suppressing))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", wrapped.REFUSED_IN_A_RUN)
def test_refused_in_a_run(name, engine):
    build, identity, cause = wrapped.REFUSED_IN_A_RUN[name]
    model = load(build())
    with pytest.raises(RefusedModel) as refusal:
        run(model, with_rare(corpus(**LONG)), engine)
    assert refusal.value.identity == identity
    assert cause in str(refusal.value)


@pytest.mark.parametrize("stage", [survey, sweep])
def test_both_stages_see_it(stage, monkeypatch):
    """A run that goes on in another process may have its survey behind it."""
    model = load(wrapped.masking(wrapped.RARE)())
    if stage is sweep:
        monkeypatch.setattr(survey._Tally, "_compare_with_own_forward", lambda *_: None)
    else:
        monkeypatch.setattr(sweep, "require_own_forward", None)
    monkeypatch.setattr(own_forward, "special_ids", lambda _: [wrapped.RARE])  # else one window a unit might miss it
    with pytest.raises(RefusedModel, match="own forward"):
        run(model, with_rare(corpus(**LONG)))


def test_the_papers_batches_are_held_to_it(monkeypatch):
    model = load(wrapped.masking(wrapped.RARE)())
    monkeypatch.setattr(own_forward, "special_ids", lambda _: [wrapped.RARE])
    with model.running(), pytest.raises(RefusedModel, match="own forward"):
        list(Corpus(model, with_rare(corpus(**LONG))).batches())


def test_padding_behind_the_text_may_be_masked():
    """It changes nothing that counts."""
    model = load(wrapped.llama())
    bare = run(model, corpus())
    wrapped.mask_padding(model.network, pad=0)
    np.testing.assert_allclose(run(model, corpus()).heads["total_effect"], bare.heads["total_effect"], atol=1e-9)


def test_a_token_that_rounding_sends_elsewhere_is_no_reason():
    """Alone a window may be rounded otherwise than in its batch, by which a router may choose another expert."""
    model, tokens = language_model("llama"), families.tokens()
    real = torch.ones_like(tokens, dtype=torch.bool)
    with model.running():
        final = clean_run(model, tokens).final
        require_own_stream(model, tokens, final, {0: final[0] + 1e-3}, real, allowed=1e-10)
        with pytest.raises(RefusedModel, match="own forward"):
            require_own_stream(model, tokens, final + 1e-3, {0: final[0]}, real, allowed=1e-10)


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_family_is_its_own_trunk(name, dtype):
    model = language_model(name, dtype=dtype)
    proofs = {proof.identity: proof for proof in prove_at_load(model)}
    for identity in ("own forward", "own logits", "blocks replay"):
        assert proofs[identity].error <= (1e-11 if dtype == "float64" else 1e-5), proofs[identity]


def test_embeddings_may_pass_the_final_norm_too():
    model, tokens = load(wrapped.nanochat()), families.tokens()
    with model.running():
        torch.testing.assert_close(
            own_forward.own_stream(model, tokens), clean_run(model, tokens).final, rtol=0, atol=1e-12
        )


def test_a_huge_bias_hides_nothing():
    """Rows that are masked by a bias of -1e9 would swamp centred logits."""
    model, tokens = fresh_model("phi", dtype="float32"), families.tokens()  # it has an unembedding bias
    with model.running():
        model.network.lm_head.bias[-9:] = -1e9
        own = own_forward.own_forward(model, tokens)
        assert logit_errors(model, own.stream, own.logits).max() < 1e-5
        moved = own.logits.clone()
        moved[0, 3, 7] += 0.01
        assert logit_errors(model, own.stream, moved)[0, 3] > 5e-4


def test_errors_are_by_position():
    """A first position of enormous size, as trained models have it, hides nothing at the others."""
    wanted = torch.ones(1, 4, 5)
    wanted[0, 0] = 1e5
    stream = wanted.clone()
    stream[0, 2, 1] += 0.01
    assert stream_errors(stream, wanted)[0].tolist() == pytest.approx([0, 0, 0.01, 0], abs=1e-6)
    stream[0, 1, 1] = torch.nan
    assert stream_errors(stream, wanted)[0, 1] == torch.inf
    assert (stream_errors(stream[:, :3], wanted) == torch.inf).all()


def test_probes_hold_special_tokens():
    model = language_model("llama")
    assert set(special_ids(model)) == {0, 1, 2}
    tokens = random_tokens(model)
    assert {0, 1, 2} <= set(tokens[2:, 1:].flatten().tolist())
    texts = families.tokens(batch=4)
    texts[2, 5:7] = torch.tensor([0, 2])
    texts[3, 5:7] = 0
    assert telling_window(model, texts) == 2


def test_nothing_is_found_of_an_ordinary_model():
    model = language_model("llama")
    with model.running():
        assert likely_causes(model, families.tokens()) == []
