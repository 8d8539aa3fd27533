import numpy as np
import pytest
from made_sweeps import everything, sweep
from scipy.stats import t as student

from selfrepair.statistics import estimates
from selfrepair.statistics.accumulate import DocumentSums


def corpus(rng, replicates, documents, between, within, centre=0.0):
    """Per document and replicate: sums of correlated values and their number, [document, replicate]."""
    counts = rng.integers(5, 60, (documents, replicates))
    shared = rng.normal(centre, between, (documents, replicates))
    noise = rng.normal(0, within, (documents, replicates)) * np.sqrt(counts)
    squares = within**2 * rng.chisquare(np.maximum(counts - 1, 1))  # for the token-level interval
    return shared * counts + noise, counts, squares + counts * shared**2


def coverage(estimate, truth):
    return np.mean((estimate.low <= truth) & (truth <= estimate.high))


def test_document_intervals_cover_and_token_intervals_do_not():
    sums, counts, squares = corpus(np.random.default_rng(0), 3000, 40, 0.5, 1.0, centre=0.3)
    estimate = estimates.mean(sums, counts)
    assert 0.92 < coverage(estimate, 0.3) < 0.98
    tokens = counts.sum(0)
    naive = np.sqrt((squares.sum(0) / tokens - estimate.value**2) / tokens)
    assert np.mean(np.abs(estimate.value - 0.3) < 1.96 * naive) < 0.75


def test_intervals_cover_with_few_documents():
    sums, counts, _ = corpus(np.random.default_rng(1), 3000, 8, 0.5, 1.0)
    assert 0.90 < coverage(estimates.mean(sums, counts), 0.0) < 0.98


def test_intervals_of_a_ratio_of_sums_cover():
    rng = np.random.default_rng(2)
    lost, counts, _ = corpus(rng, 3000, 40, 0.3, 0.5, centre=1.0)
    own, _, _ = corpus(rng, 3000, 40, 0.0, 0.5)
    estimate = estimates.ratio(0.4 * lost + own, lost, counts > 0)
    assert 0.92 < coverage(estimate, 0.4) < 0.98


def test_equal_documents_give_the_textbook_error():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    estimate = estimates.mean(values, np.ones(4))
    assert estimate.value == 4.0
    np.testing.assert_allclose(estimate.standard_error, values.std(ddof=1) / 2)
    np.testing.assert_allclose(estimate.high, 4 + student.ppf(0.975, 3) * values.std(ddof=1) / 2)


def test_documents_without_tokens_do_not_count():
    estimate = estimates.mean(np.array([[1.0, 5.0], [3.0, 0.0], [0.0, 0.0]]), np.array([[1, 2], [1, 0], [0, 0]]))
    np.testing.assert_array_equal(estimate.documents, [2, 1])
    np.testing.assert_array_equal(estimate.value, [2.0, 2.5])
    np.testing.assert_allclose(estimate.standard_error, [1.0, np.nan])
    assert np.isnan(estimate.low[1])


def test_no_tokens_is_nan_without_warnings(recwarn):
    estimate = estimates.mean(np.zeros((3, 2)), np.zeros((3, 2), int))
    assert np.isnan(estimate.value).all() and np.isnan(estimate.high).all()
    assert not recwarn.list


def made_sums(components="heads"):
    made = sweep(seed=3, windows=8)
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, components)
    for chunk in everything(made):
        sums.add(made.chunk(*chunk))
    return made, sums


def test_mean_and_fraction_over_all_tokens_are_the_plain_ones():
    made, sums = made_sums()
    scored = {name: values[:, :, made.scored].astype(float) for name, values in made.quantities.items()}
    mean = estimates.mean(sums.sums["self_repair"], sums.counts).value[0]
    np.testing.assert_allclose(mean, scored["self_repair"].mean(-1), rtol=1e-6)
    lost = (scored["direct_effect"] - scored["ablated_direct_effect"]).sum(-1)
    np.testing.assert_allclose(estimates.repaired_fraction(sums).value[0], scored["self_repair"].sum(-1) / lost)
    np.testing.assert_allclose(estimates.lost_direct_effect(sums).value[0], lost / made.scored.sum())


def test_components_agree_with_the_direct_estimate():
    _, sums = made_sums()
    for name, lines in sums.component_sums.items():
        counts = sums.counts.reshape(sums.counts.shape + (1,) * (lines.ndim - 4))
        direct, by_layer = estimates.mean(lines, counts), estimates.components(sums, name)
        np.testing.assert_allclose(by_layer.value, direct.value)
        np.testing.assert_allclose(by_layer.standard_error, direct.standard_error)
        assert by_layer.documents.shape == lines.shape[1:]


def test_pooled_totals_are_ratios_of_sums_over_heads():
    _, sums = made_sums()
    totals = estimates.pooled(sums)
    repaired = sums.sums["self_repair"].sum(axis=(0, 2, 3))
    lost = (sums.sums["direct_effect"] - sums.sums["ablated_direct_effect"]).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(totals["repaired_fraction"].value, repaired / lost)
    np.testing.assert_allclose(totals["self_repair"].value, repaired / sums.counts.sum(axis=(0, 2, 3)))
    assert totals["fraction_norm"].standard_error.shape == (3,)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_estimates_scale_with_their_unit(scale):
    _, sums = made_sums()
    plain = estimates.mean(sums.sums["total_effect"], sums.counts)
    scaled = estimates.mean(scale * sums.sums["total_effect"], sums.counts)
    np.testing.assert_allclose(scaled.standard_error, scale * plain.standard_error)
    np.testing.assert_allclose(scaled.low, scale * plain.low)
