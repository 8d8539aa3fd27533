"""The component that repairs most, with an interval that accounts for the choice.

The largest of many estimates is likely to be one whose error is large and upward, so its own interval covers too
rarely. Its lower end here is `x - c`, with one distance c for all components, such that the chance that any of them is
overestimated by more than c is at most 5%: `sum_j P(t > c / se_j) = 0.05` over all components of that head, Student's t
as for each of them. Components with small errors hardly add to c, so it is no multiple of how many there are. For the
upper end nothing has to be corrected, since what was chosen for being large is rarely underestimated: it is that of its
own interval. Where one component stands out, the lower end almost never fails, and the interval covers 97.5%; where all
are alike, the upper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from selfrepair.statistics.estimates import LEVEL
from selfrepair.statistics.features import Array

_SINGLE = 48  # components with the largest errors, treated one by one; the others count as the last of these
_STEPS = 16  # of the search for c, which is exact to 1 in 10,000 then


class Largest(NamedTuple):
    """The largest component of each head, [...].

    Args:
        place: its index on the axis of components; -1 where none is above zero.
        value: its mean; NaN for none.
        low: lower end of its 95% interval, corrected for the choosing.
        high: upper end.
        among: how many components it is chosen from.
    """

    place: npt.NDArray[np.int64]
    value: Array
    low: Array
    high: Array
    among: npt.NDArray[np.int64]


def largest(values: np.ndarray, errors: np.ndarray, freedom: np.ndarray, level: float = LEVEL) -> Largest:
    """The component with the largest mean.

    Args:
        values: [..., component], means; NaN for what was not measured. Those that are 0, upstream, do not compete.
        errors: [..., component], their standard errors.
        freedom: [...], degrees of freedom of each head's errors; NaN where there are none.
        level: coverage of the interval.
    """
    competes = np.nan_to_num(values) != 0
    known = np.where(competes, values, -np.inf)
    index = known.argmax(-1)
    value, error = (np.take_along_axis(table, index[..., None], -1)[..., 0] for table in (known, errors))
    helped = value > 0
    distance = _simultaneous(np.where(competes, np.nan_to_num(errors), 0.0), freedom, 1 - level)
    value = np.where(helped, value, np.nan)
    upper = error * stdtrit(freedom, (1 + level) / 2)
    return Largest(np.where(helped, index, -1), value, value - distance, value + upper, competes.sum(-1))


def _simultaneous(errors: Array, freedom: np.ndarray, tail: float) -> Array:
    """c with `sum_j P(t > c / se_j) = tail`, [...]; a little more, never less."""
    number = min(_SINGLE, errors.shape[-1])
    largest_first = -np.partition(-errors, number - 1, axis=-1)[..., :number]
    rest = np.maximum((errors > 0).sum(-1) - number, 0)
    top = largest_first.max(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = top[..., None] / largest_first  # infinite for what does not compete
        last = top / largest_first.min(-1)
        low = stdtrit(freedom, 1 - tail)
        high = stdtrit(freedom, 1 - tail / np.maximum((errors > 0).sum(-1), 1))
        for _ in range(_STEPS):
            middle = np.sqrt(low * high)
            beyond = stdtr(freedom[..., None], -middle[..., None] * inverse).sum(-1)
            beyond += rest * np.where(rest > 0, stdtr(freedom, -middle * np.where(rest > 0, last, 1.0)), 0.0)
            low, high = np.where(beyond > tail, middle, low), np.where(beyond > tail, high, middle)
    return np.asarray(np.where(top > 0, high * top, np.where(np.isnan(freedom), np.nan, 0.0)))
