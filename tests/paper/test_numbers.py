"""Numbers from sums per document."""

import numpy as np
import pytest

from selfrepair.paper.numbers.over_documents import (
    Number,
    Tally,
    join_tallies,
    products,
    quantiles_apart,
    slope_of,
    tally_of,
)
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
    number = tally_of(document + 5, {"x": x}).mean("x")
    weights = document_weights(12, 400)
    replicates = [x.repeat(w[document]).mean() for w in weights]
    wanted = interval(np.asarray(x.mean()), np.array(replicates), 12, effective_documents(np.bincount(document)))
    assert (number.low, number.high) == pytest.approx((float(wanted.low), float(wanted.high)))
    assert number.high - number.low > 4 * x.std() / 20  # wider than if tokens were independent: documents differ


def test_shares_stay_between_0_and_1():
    tally = tally_of(np.arange(6) % 3, {"x": np.array([1.0, 1, 1, 1, 1, 0])})
    number = tally.share("x")
    assert 0 < number.low < number.value < number.high < 1 < tally.mean("x").high


@pytest.mark.parametrize("documents", [2, 5, 40])
def test_a_share_of_all_or_nothing_knows_how_many_documents_there_were(documents):
    """Wilson's interval with a trial for each document, though each has ten tokens."""
    document = np.repeat(np.arange(documents), 10)
    columns = {"all": np.ones(len(document)), "none": np.zeros(len(document)), "half": np.arange(len(document)) % 2}
    tally, bound = tally_of(document, columns), documents / (documents + 1.959964**2)
    every, none, half = (tally.share(name) for name in columns)
    assert (every.value, every.high) == (1, 1) and every.low == pytest.approx(bound)
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(1 - bound)
    wanted = 1.959964 * 0.5 / np.sqrt(documents + 1.959964**2)
    assert (half.high - half.value, half.value - half.low) == pytest.approx((wanted, wanted))
    assert np.isnan(tally_of(np.zeros(9), {"all": np.ones(9)}).share("all").low)  # one document


def test_a_share_of_a_part_of_the_tokens_counts_the_documents_of_that_part():
    document = np.repeat(np.arange(20), 5)
    helped = (document < 3).astype(float)
    number = tally_of(document, {"x": helped, "helped": helped}).share("x", below="helped")
    assert number.value == 1 and number.documents == 3 and number.low == pytest.approx(3 / (3 + 1.959964**2))


def test_intervals_of_shares_hold_the_true_share():
    """Documents' own shares vary around 0.9, seven tokens each: 95% of intervals over 30 documents hold it."""
    rng = np.random.default_rng(0)
    document, held = np.repeat(np.arange(30), 7), 0
    for _ in range(200):
        own = rng.beta(9, 1, 30)
        number = tally_of(document, {"x": (rng.random(210) < own[document]).astype(float)}).share("x")
        held += number.low <= 0.9 <= number.high
    assert 0.92 <= held / 200 <= 0.99


def test_intervals_of_correlations_lie_within_minus_1_and_1():
    rng = np.random.default_rng(1)
    x = rng.normal(size=12)
    for y in (x + 0.1 * rng.normal(size=12), -x, rng.normal(size=12)):
        columns = {"x": x, "y": y}
        number = tally_of(np.arange(12) % 3, columns | products("x", "y", columns)).correlation("x", "y", "r")
        assert -1 <= number.low <= number.high <= 1 and number.low - 1e-9 <= number.value <= number.high + 1e-9


def test_an_interval_of_a_correlation_is_symmetric_in_fishers_z(tokens):
    document, x, y = tokens
    columns = {"x": x, "y": y}
    number = tally_of(document, columns | products("x", "y", columns)).correlation("x", "y", "r")
    weights = document_weights(12, 400)
    replicates = [np.corrcoef(x.repeat(w[document]), y.repeat(w[document]))[0, 1] for w in weights]
    counts = np.bincount(document)
    wanted = interval(np.arctanh(number.value), np.arctanh(replicates), 12, effective_documents(counts))
    assert np.arctanh([number.low, number.high]) == pytest.approx([float(wanted.low), float(wanted.high)])


def test_several_tallies_are_compared_document_by_document():
    """Documents differ a lot, the two columns in them hardly: their difference is sure, each of them is not."""
    rng = np.random.default_rng(2)
    document = np.repeat(np.arange(20), 10)
    x = 10 * rng.normal(size=20)[document] + rng.normal(size=200)
    first, other = (tally_of(document, {"x": values}) for values in (x, x + 1))
    number = join_tallies({"a": first, "b": other}).number("d", lambda s: (s["b/x"] - s["a/x"]) / s["count"])
    assert (
        number.value == pytest.approx(1)
        and number.high - number.low < 1e-9 < first.mean("x").high - first.mean("x").low
    )


def test_the_slope_of_one_label_is_that_of_its_tally(tokens):
    document, x, y = tokens
    columns = {"x": x, "y": y}
    tally = tally_of(document, columns | products("x", "y", columns))
    again = join_tallies({"a": tally}).number("s", lambda sums: slope_of(sums, "x", "y", "a"))
    assert again == tally.slope("x", "y", "s")


def test_quantiles_and_their_distance_with_intervals(tokens):
    document, x, _ = tokens
    number = quantiles_apart("q", x, document, (0.95, 0.05), "logit")
    assert number.value == pytest.approx(np.quantile(x, 0.95) - np.quantile(x, 0.05)) and number.documents == 12
    weights = document_weights(12, 400)
    replicates = [
        np.subtract(*np.quantile(x.repeat(w[document]), [0.95, 0.05], method="inverted_cdf")) for w in weights
    ]
    counts = np.bincount(document)
    wanted = interval(np.asarray(number.value), np.array(replicates), 12, effective_documents(counts))
    assert (number.low, number.high) == pytest.approx((float(wanted.low), float(wanted.high)))
    assert quantiles_apart("q", x, document, (0.5, None)).value == pytest.approx(np.median(x))
    assert np.isnan(quantiles_apart("q", x[:0], document[:0], (0.5, None)).value)


def test_what_is_not_there_is_nan():
    assert np.isnan(Tally(3).mean("x").value)
    number = tally_of(np.zeros(4, int), {"x": np.ones(4)}).mean("x")
    assert number.value == 1 and np.isnan(number.low) and str(number) == "1"
    assert str(Number("x", 0.2, exact=True)) == "0.2, exact"
    assert str(Number("x", 0.12345, 0.1, 0.2, 3, "logit")) == "0.123 (0.1 to 0.2) logit"
    assert np.isnan(tally_of(np.arange(3), {"x": np.ones(3), "z": np.zeros(3)}).ratio("x", "z").value)
