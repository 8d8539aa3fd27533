import numpy as np
import pytest
from made_sweeps import everything, sweep
from scipy.stats import t as student

import linearised
from selfrepair.statistics.accumulate import DocumentSums
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.lines import Lines

FIELDS = ("value", "standard_error", "low", "high", "documents")


def by_lines(sums, counts):
    """Mean over tokens from sums and counts per document, as component lines are estimated."""
    moments = {
        "count": counts.sum(0),
        "count_squared": (counts**2).sum(0),
        "documents": (counts > 0).sum(0),
        "x/sum": sums.sum(0),
        "x/squared": (sums**2).sum(0),
        "x/product": (sums * counts).sum(0),
    }
    return Lines({name: np.asarray(moment) for name, moment in moments.items()}, ["x"]).estimate("x")


def by_moments(sums, counts):
    """The same as a curve is estimated, but with the plain number of documents."""
    return Moments.of(sums, counts).mean(effective=False)


BOTH = pytest.mark.parametrize("mean", [by_lines, by_moments])


def corpus(rng, replicates, documents, between, within, centre=0.0):
    """Per document and replicate: sums of correlated values and their number, [document, replicate]."""
    counts = rng.integers(5, 60, (documents, replicates))
    shared = rng.normal(centre, between, (documents, replicates))
    noise = rng.normal(0, within, (documents, replicates)) * np.sqrt(counts)
    squares = within**2 * rng.chisquare(np.maximum(counts - 1, 1))  # for the token-level interval
    return shared * counts + noise, counts, squares + counts * shared**2


def coverage(estimate, truth):
    return np.mean((estimate.low <= truth) & (truth <= estimate.high))


@BOTH
def test_document_intervals_cover_and_token_intervals_do_not(mean):
    sums, counts, squares = corpus(np.random.default_rng(0), 3000, 40, 0.5, 1.0, centre=0.3)
    estimate = mean(sums, counts)
    assert 0.92 < coverage(estimate, 0.3) < 0.98
    tokens = counts.sum(0)
    naive = np.sqrt((squares.sum(0) / tokens - estimate.value**2) / tokens)
    assert np.mean(np.abs(estimate.value - 0.3) < 1.96 * naive) < 0.75


@BOTH
def test_intervals_cover_with_few_documents(mean):
    sums, counts, _ = corpus(np.random.default_rng(1), 3000, 8, 0.5, 1.0)
    assert 0.90 < coverage(mean(sums, counts), 0.0) < 0.98


def test_intervals_of_a_ratio_of_sums_cover():
    rng = np.random.default_rng(2)
    lost, counts, _ = corpus(rng, 3000, 40, 0.3, 0.5, centre=1.0)
    own, _, _ = corpus(rng, 3000, 40, 0.0, 0.5)
    estimate = Moments.of(0.4 * lost + own, lost, counts > 0).mean(effective=False)
    assert 0.92 < coverage(estimate, 0.4) < 0.98


@BOTH
def test_equal_documents_give_the_textbook_error(mean):
    values = np.array([1.0, 2.0, 4.0, 9.0])
    estimate = mean(values, np.ones(4))
    assert estimate.value == 4.0
    np.testing.assert_allclose(estimate.standard_error, values.std(ddof=1) / 2)
    np.testing.assert_allclose(estimate.high, 4 + student.ppf(0.975, 3) * values.std(ddof=1) / 2)


@BOTH
def test_documents_without_tokens_do_not_count(mean):
    estimate = mean(np.array([[1.0, 5.0], [3.0, 0.0], [0.0, 0.0]]), np.array([[1, 2], [1, 0], [0, 0]]))
    np.testing.assert_array_equal(estimate.documents, [2, 1])
    np.testing.assert_array_equal(estimate.value, [2.0, 2.5])
    np.testing.assert_allclose(estimate.standard_error, [1.0, np.nan])
    assert np.isnan(estimate.low[1])


@BOTH
def test_no_tokens_is_nan_without_warnings(mean, recwarn):
    estimate = mean(np.zeros((3, 2)), np.zeros((3, 2), int))
    assert np.isnan(estimate.value).all() and np.isnan(estimate.high).all()
    assert not recwarn.list


@BOTH
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_estimates_scale_with_their_unit(mean, scale):
    sums, counts, _ = corpus(np.random.default_rng(3), 5, 12, 0.5, 1.0, centre=0.3)
    plain, scaled = mean(sums, counts), mean(scale * sums, counts)
    np.testing.assert_allclose(scaled.standard_error, scale * plain.standard_error)
    np.testing.assert_allclose(scaled.low, scale * plain.low)


def made_sums(windows=slice(None), components="heads"):
    made = sweep(seed=3, windows=8)
    made.documents[:] = np.arange(8)[:, None] // 2  # units of work must not cut documents
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, components)
    for layer, heads, all_windows in everything(made):
        sums.add(made.chunk(layer, heads, all_windows[windows]))
    return sums


def test_lines_agree_with_the_estimate_from_all_documents():
    sums = made_sums()
    moments = {name.removeprefix("lines/"): moment for name, moment in sums.moments().items()}
    for name, lines in sums.component_sums.items():
        counts = sums.counts.reshape(sums.counts.shape + (1,) * (lines.ndim - 4))
        direct, found = linearised.mean(lines, counts), Lines(moments, [name]).estimate(name)
        for one in FIELDS:  # squares of single-precision sums: as exact as those
            np.testing.assert_allclose(getattr(found, one), getattr(direct, one), rtol=2e-5, atol=2e-6, err_msg=name)
        assert found.documents.shape == lines.shape[1:]


def test_moments_add_up_over_units():
    whole, parts = made_sums().moments(), [made_sums(slice(4)).moments(), made_sums(slice(4, 8)).moments()]
    for name, moment in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], moment, rtol=1e-10, atol=1e-12, err_msg=name)
