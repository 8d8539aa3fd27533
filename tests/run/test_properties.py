"""What must not matter to `measure`, on corpora that hypothesis makes up."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from comparing import assert_same_heads, assert_same_tokens, rows
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from selfrepair import Filter, LanguageModel, Operator, ReplayEngine, Resample, Run, load, measure
from support import corpus, fresh_model, language_model
from zoo import families

UNITS = [(2, 1), (1, 0), (1, 3), (0, 2)]
ALL = [Filter("all"), Filter("top", 0.2), Filter("bottom", 0.1)]
few = settings(
    max_examples=3,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)


def measured(model: LanguageModel, windows, ablation="resample", **options) -> Run:
    options = {
        "heads": UNITS,
        "filters": ALL,
        "sample": 10**6,
        "replicates": 10,
        "engine": ReplayEngine(fold=2),
        **options,
    }
    return measure(model, windows, ablation=ablation, progress=False, **options)


@cache
def expected(name: str, ablation: str) -> Run:
    return measured(language_model(name), corpus(), ablation, batch=6)


every_operator = pytest.mark.parametrize("ablation", ["zero", "mean", "position-mean", "resample"])
names = st.sampled_from(["gpt2", "mistral", "gemma2"])


@every_operator
@few
@given(name=names, batch=st.integers(1, 7), fold=st.integers(1, 5))
def test_batch_and_fold(name, ablation, batch, fold):
    """The mean, too, is over the corpus whatever the batch is."""
    found = measured(language_model(name), corpus(), ablation, batch=batch, engine=ReplayEngine(fold=fold))
    assert_same_heads(found, expected(name, ablation))
    assert_same_tokens(found, expected(name, ablation))


@every_operator
@few
@given(name=names, order=st.permutations(UNITS), engine=st.sampled_from(["replay", "reference"]))
def test_order_of_units_and_engine(name, ablation, order, engine):
    found = measured(language_model(name), corpus(), ablation, heads=order, engine=engine)
    assert_same_heads(found, expected(name, ablation), names=["total_effect", "self_repair", "count"])
    assert_same_tokens(found, expected(name, ablation))


@every_operator
@few
@given(name=names, extra=st.integers(1, 6), token=st.integers(0, 96))
def test_padding(name, ablation, extra, token):
    """The same windows, longer on the right, with any token there."""
    found = measured(language_model(name), corpus(length=9 + extra, padding=token), ablation)
    assert_same_heads(found, expected(name, ablation))
    assert_same_tokens(found, expected(name, ablation))


@every_operator
@few
@given(name=names, order=st.permutations(range(6)))
def test_order_of_windows(name, ablation, order):
    """Donors are drawn by what windows say, so they stay the same."""
    found = measured(language_model(name), corpus().select(order), ablation, batch=4)
    known = expected(name, ablation)
    assert_same_heads(found, known)
    for unit in UNITS:
        ours, theirs = rows(found, unit), rows(known, unit)
        moved = ours.reset_index()
        moved["window"] = np.array(order)[moved["window"]]
        moved = moved.set_index(["window", "position"]).sort_index()
        np.testing.assert_allclose(moved["self_repair"], theirs["self_repair"], atol=1e-6)


@every_operator
@few
@given(name=names, order=st.permutations(range(3)))
def test_order_and_names_of_documents(name, ablation, order):
    windows = corpus()
    places = np.append(order, -1)  # padding stays padding
    renamed = replace(windows, documents=places[windows.documents], names=("c", "a", "b"))
    assert_same_heads(measured(language_model(name), renamed, ablation), expected(name, ablation))


@few
@given(
    name=st.sampled_from(["llama", "qwen2", "mixtral"]),
    scale=st.floats(0.1, 10.0),
    ablation=st.sampled_from(["zero", "resample"]),
)
def test_scale_of_the_residual_stream(name, scale, ablation):
    """Embeddings and all writes times c, epsilons times c squared: an RMSNorm model computes the same."""
    network = families.build(name).double()
    with torch.no_grad():
        network.model.embed_tokens.weight.mul_(scale)
        for path, parameter in network.named_parameters():
            if path.endswith(("o_proj.weight", "o_proj.bias", "down_proj.weight", "experts.down_proj")):
                parameter.mul_(scale)
        for module in network.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon *= scale**2
    found = measured(load(network), corpus(), ablation)
    assert_same_heads(found, expected(name, ablation), names=["total_effect", "self_repair", "repair_norm", "count"])
    assert_same_tokens(found, expected(name, ablation))


@few
@given(name=st.sampled_from(["gpt2_wide", "phi", "olmo2"]), seed=st.integers(0, 99), constant=st.floats(-5.0, 5.0))
def test_constants_in_the_unembedding(name, seed, constant):
    """One vector added to every row, one number to every bias: all logits move together."""
    model = fresh_model(name)
    head = model.network.get_output_embeddings()
    vector = torch.randn(head.weight.shape[1], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.add_(constant * vector)
        if head.bias is not None:
            head.bias.add_(constant)
    found = measured(load(model.network), corpus())
    assert_same_heads(found, expected(name, "resample"), names=["total_effect", "direct_effect", "repair_norm"])
    assert_same_tokens(found, expected(name, "resample"))


class OneDonor(Operator):
    """The k-th of K donors, alone."""

    donors = 0

    def __init__(self, which: int, donors: int):
        self.name, self.which, self.donors = f"donor {which}", which, donors

    def replacement(self, layer, clean, source, draw):
        return source.donor(layer, self.which)


@few
@given(name=names, donors=st.integers(2, 4), seed=st.integers(0, 5))
def test_effects_are_averaged_over_donors(name, donors, seed):
    """Effects, not activations: the mean over K donors is the mean of K runs with one donor each."""
    model = language_model(name)
    windows, options = corpus(lengths=(9,) * 6, documents=range(6)), {"seed": seed, "filters": ["all"]}
    together = measured(model, windows, Resample(donors), **options)
    apart = [measured(model, windows, OneDonor(k, donors), **options) for k in range(donors)]
    assert all(run.windows.equals(together.windows) for run in apart)
    for name in ("total_effect", "self_repair", "repair_norm", "sigma_ratio", "repair_by_head"):
        mean = np.mean([run.heads[name].values for run in apart], axis=0)
        np.testing.assert_allclose(together.heads[name].values, mean, atol=1e-6, err_msg=name)
    for unit in UNITS:
        mean = np.mean([rows(run, unit)["total_effect"] for run in apart], axis=0)
        np.testing.assert_allclose(rows(together, unit)["total_effect"], mean, atol=1e-6)


@few
@given(seed=st.integers(0, 1000), donors=st.integers(1, 3))
def test_donors_are_of_other_documents_and_recorded(seed, donors):
    windows = corpus(lengths=(9, 9, 5, 9, 9, 7, 9, 9), documents=(0, 0, 1, 1, 2, 2, 3, 3))
    run = measured(language_model("gpt2"), windows, Resample(donors), seed=seed, heads=[(2, 0)])
    documents = windows.document_sets()
    for window, drawn in enumerate(run.windows["donors"].to_pylist()):
        assert len(set(drawn)) == len(drawn) == donors
        for donor in drawn:
            assert not documents[window] & documents[donor]
            assert windows.lengths[donor] >= windows.lengths[window]


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_seeds_matter_and_repeat(name):
    model = language_model(name)
    first, again, other = (measured(model, corpus(), seed=seed) for seed in (0, 0, 3))
    assert first.windows.equals(again.windows) and first.heads.equals(again.heads.assign_attrs(first.heads.attrs))
    assert not first.windows.equals(other.windows)
