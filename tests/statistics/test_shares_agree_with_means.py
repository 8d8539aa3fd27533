"""A share's interval says of zero what the intervals of the two means say that it is made of."""

import numpy as np
import pytest

from selfrepair.paper.numbers.over_documents import tally_of
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.features import FEATURES, INDEX
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.labels import LabelRule, labels
from selfrepair.statistics.reaction import reaction_p_values

HEADS = 300


def documents_of(sizes, rng):
    """Sums of tokens, self-repair and lost direct effect [document, head, feature], with means from sure to unsure."""
    sums = np.zeros((len(sizes), HEADS, len(FEATURES)))
    unsure = np.geomspace(0.05, 5, HEADS)
    lost = 1 + unsure * rng.normal(size=(len(sizes), HEADS))
    repair = 0.7 * lost + 0.5 * unsure * rng.normal(size=lost.shape)
    for name, mean in (("count", 1.0), ("lost", lost), ("self_repair", repair)):
        sums[..., INDEX[name]] = sizes[:, None] * mean
    return sums


def replicated(sizes, seed):
    sums = documents_of(sizes, np.random.default_rng(seed))
    replicates = bootstrap_all(sums, document_weights(len(sizes), 400, seed))
    cells = np.full(HEADS, len(sizes)), np.full(HEADS, float(effective_documents(sizes)))
    return Replicated(sums.sum(0), replicates, *cells)


def leaves_out(estimate, value=0.0):
    return (estimate.low > value) | (estimate.high < value)


@pytest.mark.parametrize("sizes", [np.full(10, 60.0), np.array([400.0, 150, 90, 60, 40, 20, 10, 5, 5, 5])])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_share_has_ends_where_the_loss_is_sure_and_leaves_out_zero_where_self_repair_does(sizes, seed):
    heads = replicated(sizes, seed)
    share, lost, repair = (heads.estimate(n) for n in ("repaired_fraction", "lost_direct_effect", "self_repair"))
    bounded = np.isfinite(share.low) & np.isfinite(share.high)
    assert 0.05 < bounded.mean() < 0.95
    np.testing.assert_array_equal(bounded, leaves_out(lost))
    np.testing.assert_array_equal(leaves_out(share)[bounded], leaves_out(repair)[bounded])
    assert (bounded & ~leaves_out(repair)).sum() > 0
    p = reaction_p_values(repair, lost, heads.effective, LabelRule().negligible)
    repaired = labels(lost, lost, share, p) == "repaired"
    assert repaired.any() and (share.low[repaired] > 0).all() and np.isfinite(share.high[repaired]).all()


def test_the_papers_shares_do_so_too():
    sizes = np.array([400, 150, 90, 60, 40, 20, 10, 5, 5, 5])
    document = np.repeat(np.arange(len(sizes)), sizes)
    below = np.ones(len(document)) + 0.2 * np.random.default_rng(2).normal(size=len(sizes))[document]
    tally = tally_of(document, {"above": 0.5 * below, "below": below})
    mean, share = tally.mean("below"), tally.ratio("above", "below")
    assert mean.low > 0
    np.testing.assert_allclose((share.low, share.high), 0.5)
