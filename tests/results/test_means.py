"""A run's numbers against the slow obvious way, from all tokens."""

import numpy as np
import pytest
from made_runs import made_effects, run_of
from scipy.stats import t as student

from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.bootstrap import effective_documents
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.intervals import interval

FILTERS = (Filter("all"), Filter("top", 0.1), Filter("bottom", 0.2))
LAYERS, HEADS = 2, 3
RATIOS = ("repaired_fraction", "fraction_norm")


@pytest.fixture(scope="module")
def made():
    return made_effects(LAYERS, HEADS, windows=12, positions=15, filters=FILTERS)


@pytest.fixture(scope="module")
def heads(made):
    return run_of(made).heads


def tokens(made, layer, head, one, weights=None):
    """Quantities of the tokens that pass, and their documents, in the corpus with these copies of its documents."""
    chunk = made.chunks[layer]
    values = {name: chunk.quantities[name][head][made.scored].astype(float) for name in QUANTITIES}
    documents = made.documents[made.scored]
    if weights is not None:
        copies = np.repeat(np.arange(len(documents)), weights[documents])
        values, documents = {name: each[copies] for name, each in values.items()}, documents[copies]
    effect = values["direct_effect"]
    k = max(1, int(one.fraction * len(effect)))
    limit = {"all": -np.inf, "top": np.sort(effect)[-k], "bottom": np.sort(effect)[k - 1]}[one.kind]
    passes = effect <= limit if one.kind == "bottom" else effect >= limit
    return {name: each[passes] for name, each in values.items()}, documents[passes]


def numbers(values):
    """Some of the numbers that are reported, from tokens."""
    lost = (values["direct_effect"] - values["ablated_direct_effect"]).sum()
    found = {name: values[name].mean() for name in QUANTITIES}
    return found | {
        "lost_direct_effect": lost / len(values["direct_effect"]),
        "repaired_fraction": values["self_repair"].sum() / lost,
        "fraction_norm": values["repair_norm"].sum() / lost,
    }


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.kind)
@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("head", range(HEADS))
def test_means_and_fractions_are_those_of_the_tokens(made, heads, layer, head, one):
    values, documents = tokens(made, layer, head, one)
    cell = heads.sel(filter=one.label, layer=layer, head=head)
    assert int(cell["count"]) == len(documents) and int(cell["documents"]) == len(set(documents))
    counts = np.bincount(documents, minlength=len(made.scored))
    np.testing.assert_allclose(cell["effective_documents"], effective_documents(counts))
    for name, expected in numbers(values).items():
        np.testing.assert_allclose(cell[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.kind)
def test_errors_are_the_bootstraps_with_the_filter_applied_anew(made, heads, one):
    layer, head = 1, 2
    values, documents = tokens(made, layer, head, one)
    drawn = [numbers(tokens(made, layer, head, one, weights)[0]) for weights in made.weights[1:]]
    effective = effective_documents(np.bincount(documents))
    cell = heads.sel(filter=one.label, layer=layer, head=head)
    for name, value in numbers(values).items():
        if name in RATIOS:
            continue
        replicates = np.array([each[name] for each in drawn])
        expected = interval(value, replicates, len(set(documents)), effective)
        np.testing.assert_allclose(cell[f"{name}_standard_error"], expected.standard_error, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(cell[f"{name}_low"], expected.low, rtol=1e-6, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(cell[f"{name}_high"], expected.high, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.kind)
@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("head", range(HEADS))
def test_a_ratio_is_in_its_interval_unless_its_difference_is_surely_not_zero(made, heads, layer, head, one):
    """Fieller's interval by trying ratios: r is in it if the interval of `mean SR - r mean L` holds 0."""
    values, documents = tokens(made, layer, head, one)
    drawn = np.array([per_token(tokens(made, layer, head, one, weights)[0]) for weights in made.weights[1:]])
    several = max(float(effective_documents(np.bincount(documents))), 2)
    limit = student.ppf(0.975, several - 1) * np.sqrt(several / (several - 1))
    cell = heads.sel(filter=one.label, layer=layer, head=head)

    def holds(name, ratio):
        place = 1 + RATIOS.index(name)
        found, replicates = (both[..., place] - ratio * both[..., 0] for both in (per_token(values), drawn))
        return abs(found) <= limit * replicates.std(ddof=1)

    for name in RATIOS:
        low, high = float(cell[f"{name}_low"]), float(cell[f"{name}_high"])
        assert low <= float(cell[name]) <= high
        if np.isinf(low):
            assert np.isinf(high) and (holds(name, 1e9) or holds(name, -1e9)), "no end was found at infinity"
            continue
        for end, outward in ((low, -1), (high, 1)):
            step = 0.02 * (high - low)  # some replicates lack a token or two that were not kept
            assert holds(name, end - outward * step) and not holds(name, end + outward * step), (name, end)


def per_token(values):
    """Means of the same over tokens."""
    return totals(values) / len(values["direct_effect"])


def totals(values):
    """Sums of lost direct effect and of the numerators of `RATIOS`."""
    lost = (values["direct_effect"] - values["ablated_direct_effect"]).sum()
    return np.array([lost, values["self_repair"].sum(), values["repair_norm"].sum()])


def pooled(made, one, layers):
    """Quantities of the tokens that pass, heads of these layers one after the other."""
    parts = [tokens(made, layer, head, one)[0] for layer in layers for head in range(HEADS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in QUANTITIES}


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.kind)
def test_pooled_totals_are_ratios_of_sums_over_heads(made, heads, one):
    cells = {"pooled": (range(LAYERS), heads.sel(filter=one.label))}
    cells |= {f"layer {layer}": ([layer], heads.sel(filter=one.label, layer=layer)) for layer in range(LAYERS)}
    for which, (layers, cell) in cells.items():
        expected = numbers(pooled(made, one, layers))
        for name in ("lost_direct_effect", "self_repair", "repaired_fraction", "fraction_norm"):
            found = cell[f"{which.split()[0]}_{name}"]
            np.testing.assert_allclose(found, expected[name], rtol=1e-9, err_msg=f"{which} {name}")
            assert np.isfinite(cell[f"{which.split()[0]}_{name}_standard_error"])
    assert heads["pooled_fraction_norm_standard_error"].shape == (len(FILTERS),)
