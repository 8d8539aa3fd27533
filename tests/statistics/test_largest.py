import numpy as np
import pytest
from scipy.stats import t as student

from selfrepair.statistics.largest import largest


def simulated(means, errors, freedom=8, runs=4000):
    """Share of runs whose corrected, and whose own, interval of the largest holds its true mean."""
    rng = np.random.default_rng(0)
    spread = errors * np.sqrt(rng.chisquare(freedom, (runs, len(means))) / freedom)
    values = means + errors * rng.normal(size=(runs, len(means)))
    found = largest(values, spread, np.full(runs, float(freedom)))
    truth = np.asarray(means)[found.place]
    own = np.take_along_axis(spread, found.place[:, None], 1)[:, 0] * student.ppf(0.975, freedom)
    covered = (found.low <= truth) & (truth <= found.high)
    return covered.mean(), (np.abs(found.value - truth) <= own).mean()


@pytest.mark.parametrize(
    ("means", "errors"),
    [
        (np.zeros(200), np.full(200, 1.0)),  # all alike
        (np.append(np.zeros(200), 9.0), np.append(np.full(200, 0.3), 1.0)),  # one stands out
        (np.append(np.zeros(200), [3.0, 3.2]), np.append(np.full(200, 0.5), [1.0, 1.5])),
    ],
)
def test_the_largest_covers_although_it_was_chosen(means, errors):
    covered, own = simulated(means, errors)
    assert covered >= 0.95
    if not means.any():
        assert own < 0.75, "its own interval does not"
    if means.max() == 9:
        assert covered < 0.985, "nothing is wasted where nothing was chosen from"


def test_components_with_small_errors_hardly_widen_it():
    values, errors = np.array([2.0, *np.zeros(300)]), np.array([0.5, *np.full(300, 0.01)])
    values[1:] = 0.001
    alone = largest(values[:1], errors[:1], np.array(5.0))
    among = largest(values, errors, np.array(5.0))
    assert alone.low - 0.02 < among.low <= alone.low and among.among == 301


def test_what_is_chosen_and_when_nothing_is():
    values = np.array([[0.0, 0.5, np.nan, 0.2], [0.0, -1.0, np.nan, -2.0], [0, 0, 0, 0]])
    found = largest(values, np.full((3, 4), 0.1), np.array([4.0, 4.0, np.nan]))
    assert found.place.tolist() == [1, -1, -1] and found.among.tolist() == [2, 2, 0]
    assert found.value[0] == 0.5 and np.isnan([found.value[1], found.low[1], found.high[1], found.low[2]]).all()
    unknown = largest(values[:1], np.full((1, 4), np.nan), np.array([np.nan]))
    assert unknown.value == 0.5 and np.isnan(unknown.low)


def test_the_distance_is_what_the_bound_asks_for():
    rng = np.random.default_rng(1)
    errors, freedom = rng.lognormal(size=(3, 90)), np.array([3.0, 9.5, 40.0])
    found = largest(rng.lognormal(size=(3, 90)), errors, freedom)
    distance = found.value - found.low
    beyond = student.sf(distance[:, None] / errors, freedom[:, None]).sum(1)
    assert (beyond <= 0.05).all() and (beyond > 0.045).all()
