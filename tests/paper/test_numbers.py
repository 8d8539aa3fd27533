"""Numbers from sums per document."""

import numpy as np
import pytest

from selfrepair.paper.numbers import Number, Tally, products, tally_of
from selfrepair.statistics.bootstrap import document_weights, effective_documents
from selfrepair.statistics.intervals import interval


@pytest.fixture
def tokens():
    rng = np.random.default_rng(0)
    document = rng.integers(0, 12, 400)
    x = rng.normal(size=400) + 0.5 * document
    return document, x, 2 * x + rng.normal(size=400)


def test_estimates_are_those_of_all_tokens_however_they_come(tokens):
    document, x, y = tokens
    tally = Tally(12)
    for part in np.array_split(np.arange(400), 7):
        columns = {"x": x[part], "y": y[part]}
        tally.add(document[part], columns | products("x", "y", columns))
    assert tally.tokens == 400 and tally.filled == 12
    assert tally.mean("x").value == pytest.approx(x.mean())
    assert tally.ratio("y", "x").value == pytest.approx(y.sum() / x.sum())
    assert tally.slope("x", "y", "s").value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert tally.correlation("x", "y", "r").value == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_intervals_are_the_packages_over_documents(tokens):
    document, x, _ = tokens
    found = tally_of(document + 5, {"x": x}).mean("x")
    weights = document_weights(12, 400)
    replicates = [x.repeat(w[document]).mean() for w in weights]
    wanted = interval(np.asarray(x.mean()), np.array(replicates), 12, effective_documents(np.bincount(document)))
    assert (found.low, found.high) == pytest.approx((float(wanted.low), float(wanted.high)))
    assert found.high - found.low > 4 * x.std() / 20  # wider than if tokens were independent: documents differ


def test_shares_stay_between_0_and_1():
    tally = tally_of(np.arange(6) % 3, {"x": np.array([1.0, 1, 1, 1, 1, 0])})
    assert tally.share("x").high == 1.0 and tally.mean("x").high > 1


def test_what_is_not_there_is_nan():
    assert np.isnan(Tally(3).mean("x").value)
    one = tally_of(np.zeros(4, int), {"x": np.ones(4)}).mean("x")
    assert one.value == 1 and np.isnan(one.low) and str(one) == "1"
    assert str(Number("x", 0.12345, 0.1, 0.2, 3, "logit")) == "0.123 (0.1 to 0.2) logit"
    assert np.isnan(tally_of(np.arange(3), {"x": np.ones(3), "z": np.zeros(3)}).ratio("x", "z").value)
