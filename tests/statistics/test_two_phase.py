"""Sums estimated in two phases: unbiased whatever the surrogate, and with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.bootstrap import bootstrap_all, bootstrap_filtered, document_weights
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import FEATURES, INDEX, features
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.two_phase import (
    PART,
    Phase,
    TwoPhaseFeatures,
    effective_together,
    estimated,
    estimated_over_all,
    estimated_sums,
    joined_phases,
)

SHARE = 0.1  # of the tokens, that the filter takes
NAMES = ("self_repair", "repaired_fraction", "slope_through_origin", "share_repaired")


def table(effect, lost, repair):
    quantities = dict.fromkeys(QUANTITIES, np.zeros_like(effect))
    quantities |= {"direct_effect": effect, "ablated_direct_effect": effect - lost, "self_repair": repair}
    return features(quantities | {"total_effect": repair - lost})


def corpus(rng, documents, surrogate):
    """Tokens of documents of unequal length, bursty direct effects, and repair that varies by document too."""
    document = np.repeat(np.arange(documents), rng.integers(20, 60, documents))
    tokens = len(document)
    effect = np.abs(rng.normal(1, 0.5, tokens) + rng.normal(0, 0.3, documents)[document])
    lost = effect * rng.normal(0.9, 0.1, tokens)
    predictable = 0.5 * effect + rng.normal(0, 0.3, tokens) + rng.normal(0, 0.2, documents)[document]
    repair = predictable + rng.normal(0, 0.1, tokens) + rng.normal(0, 0.05, documents)[document]
    cheap = {"good": 0.9 * predictable - 0.2, "noise": rng.normal(1, 2, tokens), "exact": repair}[surrogate]
    return document, effect, table(effect, lost, repair), table(effect, lost, cheap)


def measured(rng, documents, exact, surrogate, replicates=150):
    document, effect, truth, cheap = corpus(rng, documents, surrogate)
    in_part = np.isin(np.arange(documents), rng.permutation(documents)[:exact])
    match = np.where(in_part[document], np.arange(len(document)), -1)
    weights = document_weights(documents, replicates, int(rng.integers(2**31)))
    weights = np.concatenate([np.ones((1, documents), weights.dtype), weights])
    counted = np.bincount(document, minlength=documents)
    both = TwoPhaseFeatures(cheap, truth, match)
    found = estimated(bootstrap_filtered(effect, both, document, counted, SHARE, weights), in_part)
    cells = np.array(found.documents), np.array(found.effective), np.array(found.effective_of_known)
    return Replicated(found.sums[0], found.sums[1:], *cells)


def passing(effect):
    return effect >= np.sort(effect)[-int(SHARE * len(effect))]


@pytest.fixture(scope="module")
def truth():
    _, effect, exact, _ = corpus(np.random.default_rng(1), 20_000, "exact")
    sums = exact[passing(effect)].sum(0)
    return {name: float(ESTIMATORS[name](sums)) for name in NAMES}


def test_an_estimate_is_the_surrogates_mean_and_the_mean_difference_on_the_part():
    rng = np.random.default_rng(0)
    document, effect, exact, cheap = corpus(rng, 30, "good")
    in_part = np.arange(30) % 3 == 0
    match = np.where(in_part[document], np.arange(len(document)), -1)
    counted = np.bincount(document)
    both = TwoPhaseFeatures(cheap, exact, match)
    found = estimated(bootstrap_filtered(effect, both, document, counted, SHARE, np.ones((2, 30), int)), in_part)
    inside, part = passing(effect), passing(effect) & in_part[document]
    expected = cheap[inside].mean(0) + (exact - cheap)[part].mean(0)
    for name in ("self_repair", "total_effect", "lost", "lost_times_total_effect", "direct_effect"):
        assert found.sums[0, INDEX[name]] / inside.sum() == pytest.approx(expected[INDEX[name]], rel=1e-12)
    assert found.sums[0, INDEX["count"]] == inside.sum()


def test_a_whole_part_is_exact_whatever_the_surrogate():
    document, effect, exact, cheap = corpus(np.random.default_rng(3), 12, "noise")
    weights, counted = document_weights(12, 20), np.bincount(document)
    plain = bootstrap_filtered(effect, exact, document, counted, SHARE, weights)
    both = TwoPhaseFeatures(cheap, exact, np.arange(len(document)))
    found = estimated(bootstrap_filtered(effect, both, document, counted, SHARE, weights), np.ones(12, bool))
    known = [place for name, place in INDEX.items() if not name.startswith("donor_variance")]
    assert np.allclose(found.sums[:, known], plain.sums[:, known], rtol=1e-9, atol=1e-9)
    assert found.documents == plain.documents


@pytest.mark.parametrize(("surrogate", "exact"), [("good", 12), ("noise", 24), ("exact", 12)])
def test_intervals_hold(truth, surrogate, exact):
    """Of 150 corpora: a poor surrogate makes them wide, not wrong."""
    rng, held, widths = np.random.default_rng(7), {name: [] for name in NAMES}, []
    for _ in range(150):
        replicated = measured(rng, 60, exact, surrogate)
        for name in NAMES:
            estimate = replicated.estimate(name)
            held[name].append(estimate.low <= truth[name] <= estimate.high)
        widths.append(float(replicated.estimate("self_repair").high - replicated.estimate("self_repair").low))
    shares = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert all(share >= 0.9 for share in shares.values()), shares
    assert (np.median(widths) < 0.5) == (surrogate != "noise"), np.median(widths)


def test_a_part_with_one_document_gives_no_interval():
    replicated = measured(np.random.default_rng(2), 30, 1, "good")
    estimate = replicated.estimate("self_repair")
    assert np.isfinite(estimate.value) and np.isnan(estimate.low) and np.isnan(estimate.standard_error)
    assert estimate.documents > 1  # as many as it stands for
    share = replicated.estimate("repaired_fraction")
    assert np.isfinite(share.value) and not np.isfinite(share.high - share.low)


def test_estimated_sums_are_possible_ones():
    """On the corpus itself: no negative sizes, no more tokens than there are, no squared correlation above 1."""
    both = np.zeros((2, PART + 1))
    both[:, INDEX["count"]], both[:, PART] = 10, 2
    for name, cheap, difference in (
        ("repaired", 8, 2),
        ("made_worse", 1, -1),
        ("self_repair_squared", 1, -2),
        ("lost_squared", 10, 0),
        ("lost_times_total_effect", -9, 0),
        ("total_effect_squared", 9, -1),
    ):
        both[:, INDEX[name]], both[:, len(FEATURES) + INDEX[name]] = cheap, difference
    sums = estimated_sums(both)
    assert [sums[0, INDEX[name]] for name in ("repaired", "made_worse", "self_repair_squared")] == [10, 0, 0]
    assert float(ESTIMATORS["r_squared"](sums[0])) == pytest.approx(1)
    assert sums[1, INDEX["repaired"]] == 18  # replicates keep their spread


def test_effective_documents_of_two_phases():
    assert effective_together(Phase(30, 1.0), Phase(5, 0.0)) == pytest.approx(30)
    assert effective_together(Phase(30, 0.0), Phase(5, 1.0)) == pytest.approx(5)
    assert 5 < effective_together(Phase(30, 1.0), Phase(5, 1.0)) < 30
    assert effective_together(Phase(30, 0.0), Phase(5, 0.0)) == 30


@pytest.mark.parametrize(("missed", "few"), [("self_repair", True), ("total_effect", True), (None, False)])
def test_documents_count_by_what_the_surrogate_misses_most(missed, few):
    rng, documents = np.random.default_rng(0), 60
    cheap = np.zeros((documents, len(FEATURES)))
    cheap[:, INDEX["count"]] = 10
    for name in ("self_repair", "total_effect"):
        cheap[:, INDEX[name]] = rng.normal(0, 0.1, documents)
    exact = cheap.copy()
    if missed:
        exact[:, INDEX[missed]] += rng.normal(0, 1, documents)
    exact[6:] = 0
    tokens = cheap[:, INDEX["count"]]
    weights = np.concatenate([np.ones((1, documents), int), document_weights(documents, 200)])
    both = bootstrap_all(joined_phases(cheap, exact), weights)
    _, effective, known = estimated_over_all(both, tokens, exact[:, INDEX["count"]])
    assert effective < 8 if few else effective > 50
    assert known > 50
