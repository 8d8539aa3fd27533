import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.statistics import bootstrap
from selfrepair.statistics.bootstrap import (
    bootstrap_all,
    bootstrap_filtered,
    document_weights,
    effective_documents,
)
from selfrepair.statistics.filters import Filter


def head(seed, documents, tokens, levels=None):
    """Effects, rows and documents of one head; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    document = np.sort(rng.integers(0, documents, tokens))
    effect = rng.normal(size=tokens) if levels is None else rng.integers(0, levels, tokens) / 7.0
    rows = np.stack([np.ones(tokens), effect, rng.normal(size=tokens)], axis=1)
    return effect, rows, document, np.bincount(document, minlength=documents)


def resampled(effect, rows, document, weights, one):
    """The filter applied to the corpus in which each document stands as often as it was drawn."""
    copies = np.repeat(np.arange(len(effect)), weights[document])
    if len(copies) == 0:
        return np.zeros(rows.shape[1])
    limit = one.thresholds(effect[copies][None, None])[0]
    passes = one.mask(effect[copies][None, None], limit, np.ones((1, len(copies)), bool))[0, 0]
    return rows[copies][passes].sum(0)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 80),
    st.sampled_from([0.02, 0.1, 0.35, 1.0]),
    st.sampled_from(["top", "bottom"]),
    st.sampled_from([None, 2, 9]),
    st.sampled_from([3, 64]),
)
def test_each_replicate_is_the_filter_on_the_resampled_corpus(seed, documents, tokens, fraction, tail, levels, coarse):
    effect, rows, document, scored = head(seed, documents, tokens, levels)
    weights = document_weights(documents, 7, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "COARSE", coarse)
        patch.setattr(bootstrap, "BLOCK_CELLS", 2 * tokens)
        found = bootstrap_filtered(Filter(tail).score(effect), rows, document, scored, fraction, weights)
    one = Filter(tail, fraction)
    expected = [resampled(effect, rows, document, weight, one) for weight in weights]
    np.testing.assert_allclose(found.sums, expected, rtol=1e-9, atol=1e-9)
    empty = [not weight[document].any() for weight in weights]
    assert found.short == np.mean(empty) and found.exact == (not any(empty))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["top", "bottom"]))
def test_kept_tokens_are_enough(seed, tail):
    effect, rows, document, scored = head(seed, 15, 400)
    weights = document_weights(15, 20, seed)
    scores = Filter(tail).score(effect)
    whole = bootstrap_filtered(scores, rows, document, scored, 0.05, weights)
    kept = np.argsort(-effect if tail == "top" else effect)[:120]
    part = bootstrap_filtered(scores[kept], rows[kept], document[kept], scored, 0.05, weights)
    assert whole.exact
    if part.exact:
        np.testing.assert_allclose(part.sums, whole.sums)
    assert (part.documents, part.effective) == (whole.documents, whole.effective)


def test_weights_of_one_give_the_filter_itself_with_its_ties():
    effect, rows, document, scored = head(3, 6, 200, levels=12)
    for tail in ("top", "bottom"):
        one = Filter(tail, 0.1)
        found = bootstrap_filtered(one.score(effect), rows, document, scored, 0.1, np.ones((1, 6), np.int64))
        passes = one.mask(effect[None, None], one.thresholds(effect[None, None])[0], np.ones((1, 200), bool))[0, 0]
        np.testing.assert_allclose(found.sums[0], rows[passes].sum(0))
        assert found.documents == len(np.unique(document[passes]))
        inside = np.bincount(document[passes])
        assert found.effective == inside.sum() ** 2 / (inside**2).sum()


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 5]))
def test_the_order_of_tokens_does_not_matter(seed, levels):
    effect, rows, document, scored = head(seed, 8, 120, levels)
    weights = document_weights(8, 9, 1)
    shuffled = np.random.default_rng(seed).permutation(120)
    first = bootstrap_filtered(effect, rows, document, scored, 0.1, weights)
    second = bootstrap_filtered(effect[shuffled], rows[shuffled], document[shuffled], scored, 0.1, weights)
    np.testing.assert_allclose(first.sums, second.sums, atol=1e-12)


def test_running_out_of_kept_tokens_is_said():
    effect, rows, document, scored = head(0, 10, 500)
    kept = np.argsort(-effect)[:50]
    weights = document_weights(10, 200, 0)
    found = bootstrap_filtered(effect[kept], rows[kept], document[kept], scored, 0.1, weights)
    drawn, wanted = weights[:, document[kept]].sum(1), (0.1 * (weights @ scored)).astype(int)
    assert 0 < found.short < 1 and not found.exact
    assert found.short == np.mean(drawn < wanted)
    np.testing.assert_array_equal(found.sums[drawn < wanted, 0], drawn[drawn < wanted])
    none = bootstrap_filtered(effect[:0], rows[:0], document[:0], scored, 0.1, weights)
    assert none.short == 1 and not none.sums.any() and none.documents == 0 and none.effective == 0


def test_weights_are_draws_with_replacement_and_stay_the_same():
    weights = document_weights(50, 400, seed=3)
    np.testing.assert_array_equal(weights.sum(1), 50)
    assert abs(weights.var() - 0.98) < 0.05 and abs(weights.mean(0) - 1).max() < 0.25
    np.testing.assert_array_equal(weights[:20], document_weights(50, 20, seed=3))
    assert (weights != document_weights(50, 400, seed=4)).any()
    assert weights[0, :12].tolist() == document_weights(50, 1, seed=3)[0, :12].tolist()


def test_bootstrap_all_weighs_documents():
    rng = np.random.default_rng(0)
    sums, weights = rng.normal(size=(6, 2, 3, 4)), document_weights(6, 5, 0)
    expected = np.einsum("rd,dlhf->rlhf", weights, sums)
    np.testing.assert_allclose(bootstrap_all(sums, weights), expected)
    np.testing.assert_allclose(
        bootstrap_all(sums[:2], weights[:, :2]) + bootstrap_all(sums[2:], weights[:, 2:]), expected
    )


def test_one_column_of_unknowns_spoils_no_other():
    sums = np.ones((4, 2))
    sums[:, 1] = np.nan
    assert np.isfinite(bootstrap_all(sums, document_weights(4, 3))[:, 0]).all()
    effect, rows, document, scored = head(0, 5, 60)
    rows[:, 1] = np.nan
    found = bootstrap_filtered(effect, rows, document, scored, 0.2, document_weights(5, 9))
    assert np.isfinite(found.sums[:, [0, 2]]).all() and np.isnan(found.sums[:, 1]).all()


def test_effective_documents():
    np.testing.assert_allclose(effective_documents(np.array([[5, 9, 0], [5, 0, 0], [5, 1, 0]])), [3, 100 / 82, 0])
