import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import linearised
from selfrepair.statistics.bootstrap import document_weights
from selfrepair.statistics.curves import CurveMoments, Moments, bin_edges

FIELDS = ("value", "standard_error", "low", "high", "documents")


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(7, 60))
def test_bins_are_equally_full(seed, bins, tokens):
    effects = np.random.default_rng(seed).permutation(2 * 3 * tokens).reshape(2, 3, tokens) / 10.0
    edges = bin_edges(effects, bins)
    assert edges.shape == (2, 3, bins - 1)
    for layer in range(2):
        for head in range(3):
            places = np.searchsorted(edges[layer, head], effects[layer, head], side="right")
            counts = np.bincount(places, minlength=bins)
            assert len(counts) == bins and counts.max() - counts.min() <= 1
            assert (np.diff(places[np.argsort(effects[layer, head])]) >= 0).all()


def test_more_bins_than_tokens_are_refused():
    with pytest.raises(ValueError, match="cannot fill"):
        bin_edges(np.zeros((1, 1, 3)), 4)


def test_a_curve_takes_the_edges_error_into_account():
    """Against resampling documents and cutting bins again in each replicate."""
    rng, documents = np.random.default_rng(4), 60
    document = np.repeat(np.arange(documents), rng.integers(20, 120, documents))
    effect = rng.normal(size=documents)[document] + rng.normal(size=len(document))
    value = effect + 0.3 * rng.normal(size=len(document))

    def cut(copies):
        edges = bin_edges(effect[copies][None, None], 12)[0, 0]
        return np.searchsorted(edges, effect[copies], side="right")

    bins = cut(np.arange(len(document)))
    table = np.zeros((2, documents, 12))
    np.add.at(table[0], (document, bins), value)
    np.add.at(table[1], (document, bins), 1)
    curve, fixed = CurveMoments.of(*table).mean(), Moments.of(*table).mean()
    replicates = []
    for drawn in document_weights(documents, 300):
        copies = np.repeat(np.arange(len(document)), drawn[document])
        replicates.append([value[copies][cut(copies) == one].mean() for one in range(12)])
    expected = np.std(replicates, axis=0)
    np.testing.assert_allclose(curve.value, fixed.value)
    inner = slice(2, 10)
    np.testing.assert_allclose(curve.standard_error[inner], expected[inner], rtol=0.15)
    assert (fixed.standard_error[inner] < 0.6 * expected[inner]).all(), "the case says something"
    halves = CurveMoments.of(table[0, :25], table[1, :25]) + CurveMoments.of(table[0, 25:], table[1, 25:])
    np.testing.assert_allclose(halves.mean().standard_error, curve.standard_error)


def test_a_curve_without_tokens_is_nan_without_warnings(recwarn):
    empty = CurveMoments.of(np.zeros((3, 4, 2)), np.zeros((3, 4, 2))).mean()
    assert np.isnan(empty.value).all() and np.isnan(empty.low).all() and not recwarn.list


def sums(seed=0, documents=9):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (documents, 2, 4))
    values = rng.normal(0.4, 1, (documents, 2, 4)) * counts
    counts[:, 0, 0], values[:, 0, 0] = 0, 0.0  # no tokens
    counts[1:, 0, 1], values[1:, 0, 1] = 0, 0.0  # one document
    counts[0, 0, 1] = 3
    return values, counts


def test_moments_give_the_linearised_estimate():
    values, counts = sums()
    found, expected = Moments.of(values, counts).mean(effective=False), linearised.mean(values, counts)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, err_msg=name)
    lost = values * 0.5 + counts
    found = Moments.of(values, lost, counts > 0).mean(effective=False)
    expected = linearised.ratio(values, lost, counts > 0)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, err_msg=name)


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_moments_add_up_over_documents(cut, seed):
    values, counts = sums(seed)
    order = np.random.default_rng(seed).permutation(len(values))
    parts = [Moments.of(values[order][part], counts[order][part]) for part in (slice(cut), slice(cut, None))]
    for left, right in (parts, parts[::-1]):
        both, whole = (left + right).mean(), Moments.of(values, counts).mean()
        for name in FIELDS:
            np.testing.assert_allclose(getattr(both, name), getattr(whole, name), rtol=1e-8, atol=1e-10)


def test_crowded_tokens_widen_the_interval():
    values, counts = np.array([9.0, 0.5, 0.1, -0.2]), np.array([12, 1, 1, 1])
    moments = Moments.of(values, counts)
    assert moments.effective == pytest.approx(15**2 / 147)
    crowded, plain = moments.mean(), moments.mean(effective=False)
    assert crowded.high - crowded.low > plain.high - plain.low
    equal = Moments.of(values, np.full(4, 3))
    np.testing.assert_allclose(equal.mean().low, equal.mean(effective=False).low)


def test_lines_that_share_counts_broadcast():
    values, counts = sums()
    lines = np.stack([values, 2 * values], axis=-1)
    found = Moments.of(lines, counts[..., None]).mean()
    np.testing.assert_allclose(found.standard_error[..., 1], 2 * found.standard_error[..., 0])
