import numpy as np
import pytest

from selfrepair.statistics.donor_variance import VarianceSplit, donors_needed, variance_split


def nested(rng, sizes, document, token, donor, donors, cells=1):
    """Sums per document of nested data with these standard deviations, each [document, cell]."""
    shape = (len(sizes), cells)
    sums, squares, within = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for place, size in enumerate(sizes):
        level = rng.normal(0.5, document, (1, 1, cells)) + rng.normal(0, token, (size, 1, cells))
        x = level + rng.normal(0, donor, (size, donors, cells))
        sums[place], squares[place] = x.mean(1).sum(0), (x.mean(1) ** 2).sum(0)
        within[place] = x.var(1, ddof=1).sum(0) if donors > 1 else np.nan
    return np.broadcast_to(np.asarray(sizes)[:, None], shape), sums, squares, within


def mean_variance(split, tokens, donors):
    """Variance of the mean over all tokens [document], from its definition."""
    each = tokens / tokens.sum()
    return split.document * (each**2).sum() + (split.token + split.donor / donors) / tokens.sum()


def test_parts_are_found_again_on_average():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 60, 40)
    split = variance_split(*nested(rng, sizes, 0.4, 1.0, 2.0, 3, cells=400), 3)
    np.testing.assert_allclose(split.document.mean(), 0.16, rtol=0.05)
    np.testing.assert_allclose(split.token.mean(), 1.0, rtol=0.02)
    np.testing.assert_allclose(split.donor.mean(), 4.0, rtol=0.02)


def test_the_variance_of_the_mean_is_the_one_seen_over_corpora():
    rng = np.random.default_rng(1)
    sizes = np.array([5, 10, 40, 80, 20])
    tokens, sums, _, _ = nested(rng, sizes, 0.3, 1.0, 1.5, 2, cells=4000)
    seen = (sums.sum(0) / sizes.sum()).var()
    split = VarianceSplit(np.array(0.09), np.array(1.0), np.array(2.25))
    np.testing.assert_allclose(mean_variance(split, sizes, 2), seen, rtol=0.05)
    assert mean_variance(split, sizes, 8) < mean_variance(split, sizes, 4) < mean_variance(split, sizes, 2)
    assert tokens.shape == sums.shape


def test_parts_are_never_negative_and_unknown_with_one_donor():
    rng = np.random.default_rng(2)
    split = variance_split(*nested(rng, [4, 7, 9], 0.0, 0.0, 1.0, 2, cells=50), 2)
    assert (split.document >= 0).all() and (split.token >= 0).all()
    split = variance_split(*nested(rng, [4, 7, 9], 0.5, 1.0, 1.0, 1), 1)
    assert np.isnan(split.donor).all() and np.isnan(split.token).all() and np.isfinite(split.document).all()
    assert np.isnan(donors_needed(split, np.array([4, 7, 9]))).all()


def test_one_document_or_none_tells_nothing(recwarn):
    tokens = np.array([[5, 0], [0, 0]])
    split = variance_split(tokens, tokens * 1.0, tokens * 1.0, tokens * 0.1, 2)
    assert np.isnan(split.document).all() and not recwarn.list


def test_donors_needed_is_the_smallest_number():
    sizes = np.array([30, 50, 20, 100])
    split = VarianceSplit(np.array([0.02, 0.0, 0.0]), np.array([1.0, 1.0, 0.5]), np.array([4.0, 1.0, 0.0]))
    needed = donors_needed(split, sizes)
    for cell, number in enumerate(needed.astype(int)):
        part = VarianceSplit(*(getattr(split, name)[cell] for name in ("document", "token", "donor")))
        share = [
            1 - mean_variance(part, sizes, np.inf) / mean_variance(part, sizes, k) for k in (number, number - 0.999)
        ]
        assert share[0] <= 0.1 + 1e-9
        assert number == 1 or 1 - mean_variance(part, sizes, np.inf) / mean_variance(part, sizes, number - 1) > 0.1
    assert needed.tolist()[1:] == [9, 1]


def test_donors_needed_for_a_standard_error():
    sizes = np.full(20, 10)
    split = VarianceSplit(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([4.0, 4.0]))
    needed = donors_needed(split, sizes, target=0.08)
    assert needed[1] == np.inf  # the documents alone scatter more
    assert mean_variance(split, sizes, needed[0])[0] <= 0.08**2 < mean_variance(split, sizes, needed[0] - 1)[0]


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1}, {"target": 0.0}])
def test_questions_without_an_answer_are_refused(wrong):
    with pytest.raises(ValueError, match="share"):
        donors_needed(VarianceSplit(np.ones(1), np.ones(1), np.ones(1)), np.ones(3), **wrong)
