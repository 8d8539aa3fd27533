from itertools import product

import numpy as np
import pytest
from made_sweeps import everything, sweep
from scipy.stats import t as student

from selfrepair.statistics.accumulate import DocumentSums
from selfrepair.statistics.bootstrap import effective_documents
from selfrepair.statistics.component_lines import Lines, TextLines
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.filters import scores_of
from selfrepair.statistics.keep_limits import keep_thresholds, near_limits


def by_lines(sums, counts, scored=None, edges=None, threshold=-np.inf):
    """Mean over tokens from sums and counts per document, [document, ...], as component lines are estimated.

    `scored` [document, ...] are all tokens; `edges` are direct effects and lines of the tokens on both sides of the
    threshold: (sum of effects inside, tokens near, their effects, their lines), each [...].
    """
    scored = counts if scored is None else scored
    nothing = np.zeros(np.shape(counts)[1:])
    inside, near, effect, line = (nothing,) * 4 if edges is None else edges
    moments = {
        "count": counts.sum(0),
        "count_squared": (counts**2).sum(0),
        "documents": (counts > 0).sum(0),
        "scored": scored.sum(0),
        "scored_squared": (scored**2).sum(0),
        "count_scored": (counts * scored).sum(0),
        "x/sum": sums.sum(0),
        "x/squared": (sums**2).sum(0),
        "x/product": (sums * counts).sum(0),
        "x/scored": (sums * scored).sum(0),
        "inside_score": inside,
        "near_count": near,
        "near_score": effect,
        "x/near": line,
    }
    text = TextLines({name: np.asarray(moment) for name, moment in moments.items()}, np.asarray(threshold))
    return Lines([text], ["x"]).estimate("x")


def by_moments(sums, counts):
    """The same as a curve is estimated."""
    return Moments.of(sums, counts).mean()


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


def made_sweep():
    made = sweep(seed=3, windows=8)
    made.documents[:] = np.arange(8)[:, None] // 2  # units of work must not cut documents
    return made


def made_sums(windows=slice(None), components="heads"):
    made = made_sweep()
    kept = keep_thresholds(made.filters, made.survey, made.documents[made.scored])
    near = near_limits(made.filters, kept, made.shape)
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, components, near)
    for layer, heads, all_windows in everything(made):
        sums.add(made.chunk(layer, heads, all_windows[windows]))
    return sums


def lines_of(made_sums, made, name):
    moments = {key.removeprefix("lines/"): moment for key, moment in made_sums.moments().items()}
    return Lines([TextLines(moments, scores_of(made.filters, made.thresholds))], [name])


def test_lines_agree_with_the_slow_obvious_way_from_all_documents():
    """Psi of every document, with the threshold's mean from the tokens around it one by one."""
    made, sums = made_sweep(), made_sums()
    effect, scored = made.quantities["direct_effect"], made.scored
    tokens = np.bincount(made.documents[scored], minlength=4)
    kept = near_limits(made.filters, keep_thresholds(made.filters, made.survey, made.documents[scored]), made.shape)
    for (place, one), layer, head in product(enumerate(made.filters), range(2), range(3)):
        own = effect[layer, head][scored]
        document, line = made.documents[scored], made.by_mlp[layer, head][scored][:, 1].astype(float)
        limit = made.thresholds[place, layer, head]
        inside = own <= limit if one.kind == "bottom" else own >= limit
        limits = kept[place, layer, head]
        near = ~inside & (own <= limits if one.kind == "bottom" else own >= limits)
        mean, at_threshold = line[inside].mean(), line[inside].mean()
        if one.kind != "all":
            sides = own[near].mean(), own[inside].mean()
            at_threshold = np.interp(
                limit, *zip(*sorted(zip(sides, (line[near].mean(), mean), strict=True)), strict=True)
            )
        counts = np.bincount(document, inside, 4)
        psi = np.bincount(document, line * inside, 4) - at_threshold * counts
        psi -= (mean - at_threshold) * counts.sum() / tokens.sum() * tokens
        several = effective_documents(counts)
        expected = np.sqrt(several / (several - 1) * (psi**2).sum()) / counts.sum()
        found = lines_of(sums, made, "repair_by_mlp").estimate("repair_by_mlp")
        cell = place, layer, head, 1
        np.testing.assert_allclose(found.value[cell], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.standard_error[cell], expected, rtol=1e-4)
        half = expected * student.ppf(0.975, several - 1)
        np.testing.assert_allclose(found.high[cell] - found.value[cell], half, rtol=1e-4)


def test_moments_add_up_over_units():
    whole, parts = made_sums().moments(), [made_sums(slice(4)).moments(), made_sums(slice(4, 8)).moments()]
    for name, moment in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], moment, rtol=1e-10, atol=1e-12, err_msg=name)
