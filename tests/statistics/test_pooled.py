import numpy as np
import pytest
from made_corpora import quantities

from selfrepair.statistics.between_runs import difference, same_documents
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights
from selfrepair.statistics.features import features
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.pooled import CARD, FRACTIONS, pooled_card


def run(effects, seed=0, replicates=400):
    """Replicated sums [layer, head] of tokens with these effects, [document, layer, head, token]."""
    sums = features(effects).sum(3)
    documents = len(sums)
    cells = sums.shape[1:-1]
    replicated = bootstrap_all(sums, document_weights(documents, replicates, seed))
    return Replicated(sums.sum(0), replicated, np.full(cells, documents), np.full(cells, float(documents)))


def effects(seed, documents=40, repaired=0.5, noise=0.3):
    rng = np.random.default_rng(seed)
    made = {name: values.astype(float) for name, values in quantities(rng, documents, 2, 3, 8).items()}
    level = rng.normal(repaired, 0.2, (documents, 1, 1, 1))
    made["direct_effect"] = rng.gamma(2, 1, (documents, 2, 3, 8))
    made["ablated_direct_effect"] = np.zeros_like(made["direct_effect"])
    for line, share in (("heads", 0.6), ("mlps", 0.3), ("mixers", 0.0), ("post_norms", 0.0), ("norm", 0.1)):
        made[f"repair_{line}"] = share * level * made["direct_effect"] + noise * made[f"repair_{line}"]
    made["self_repair"] = sum(made[f"repair_{line}"] for line in ("heads", "mlps", "mixers", "post_norms", "norm"))
    made["total_effect"] = made["self_repair"] - made["direct_effect"]
    return made


def test_the_card_pools_sums_and_its_lines_add_up():
    made = effects(0)
    found = pooled_card(run(made).pooled(1))
    assert set(found.model) == set(found.layers) == set(CARD)
    whole = made["self_repair"].sum() / made["direct_effect"].sum()
    np.testing.assert_allclose(found.model["repaired_fraction"].value, whole)
    np.testing.assert_allclose(sum(found.model[name].value for name in FRACTIONS[1:]), whole)
    layers = made["self_repair"].sum((0, 2, 3)) / made["direct_effect"].sum((0, 2, 3))
    np.testing.assert_allclose(found.layers["repaired_fraction"].value, layers)
    one = found.model["repaired_fraction"]
    assert one.low < 0.5 < one.high and one.documents == 40


def test_heads_that_were_not_measured_do_not_matter():
    made = effects(1)
    heads = run(made)
    sums, replicates = heads.sums.copy(), heads.replicates.copy()
    sums[0, 0], replicates[:, 0, 0] = 0, 0
    documents = np.where(np.arange(6).reshape(2, 3) == 0, 0, 40)
    found = pooled_card(Replicated(sums, replicates, documents, documents.astype(float)).pooled(1))
    rest = {name: values.reshape(40, 1, 6, 8)[:, :, 1:] for name, values in made.items()}
    expected = pooled_card(run(rest).pooled(1)).model["repaired_fraction"]
    for name in ("value", "standard_error", "low", "high"):
        np.testing.assert_allclose(getattr(found.model["repaired_fraction"], name), getattr(expected, name))


def test_pairing_takes_out_what_the_documents_share():
    made = effects(2)
    more = {name: values.copy() for name, values in made.items()}
    for name in ("repair_heads", "self_repair", "total_effect"):
        more[name] = more[name] + 0.1 * made["direct_effect"]
    first, second = run(made).pooled(), run(more).pooled()
    paired = difference(first, second, "repaired_fraction", paired=True)
    unpaired = difference(first, second, "repaired_fraction", paired=False)
    np.testing.assert_allclose([paired.value, unpaired.value], 0.1)
    assert paired.standard_error < 1e-9 < 0.02 < unpaired.standard_error


@pytest.mark.parametrize("paired", [True, False])
def test_differences_cover(paired):
    hits = []
    for seed in range(250):
        shared = np.random.default_rng(10_000 + seed).normal(0, 0.2, (25, 1))
        rngs = [np.random.default_rng((seed, side)) for side in range(2)]
        found = []
        for rng, repaired in zip(rngs, (0.2, 0.35), strict=True):
            level = repaired + (shared if paired else rng.normal(0, 0.2, (25, 1)))
            made = {name: values.astype(float) for name, values in quantities(rng, 25, 20).items()}
            made["ablated_direct_effect"] = 0 * made["direct_effect"]
            made["direct_effect"] = rng.gamma(2, 1, (25, 20))
            made["self_repair"] = level * made["direct_effect"] + rng.normal(size=(25, 20))
            sums = features(made).sum(1)
            weights = document_weights(25, 200, seed if paired else seed + 7919 * len(found))
            whole = np.asarray(25)
            found.append(Replicated(sums.sum(0), bootstrap_all(sums, weights), whole, whole.astype(float)))
        one = difference(*found, "repaired_fraction", paired=paired)
        hits.append(one.low <= 0.15 <= one.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_differences_are_second_minus_first_and_turn_with_the_order():
    first, second = run(effects(3, repaired=0.2)), run(effects(4, documents=30, repaired=0.6))
    there, back = (difference(*pair, "slope", paired=False) for pair in ((first, second), (second, first)))
    np.testing.assert_allclose(there.value, -back.value)
    np.testing.assert_allclose(there.low, -back.high)
    assert there.value.shape == (2, 3) and (there.documents == 30).all()
    model = difference(first.pooled(), second.pooled(), "repaired_fraction", paired=False)
    assert model.low > 0


def test_only_equal_numbers_of_replicates_pair():
    with pytest.raises(ValueError, match="paired"):
        difference(run(effects(0)), run(effects(0), replicates=10), "self_repair", paired=True)
    assert same_documents(["a", "b"], ("a", "b")) and not same_documents(["a", "b"], ["b", "a"])
