"""Means and ratios over prompts, with intervals over what was sampled: groups (templates), or prompts.

Prompts of one template are not independent, so templates are the units that vary. With eight groups or more, intervals
are over groups; with two to seven there is no interval, and the range over groups is reported instead (tests are then
over prompts, and pass only where every group agrees); with one group they are over prompts, and hold for this template
alone. Errors are linearised: a mean `m = sum w y / sum w` has the
variance `E / (E - 1) sum_g r_g^2 / (sum w)^2` with `r_g = sum_{i in g} w_i (y_i - m)`, E the number of groups that
unequal weights amount to, and Student's quantile with E - 1 degrees of freedom. Ratios of sums have Fieller's interval
(`selfrepair.statistics.fieller`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.stats import t as student

from selfrepair.prompts.prompts import Prompts
from selfrepair.statistics.estimates import LEVEL, Array, Estimate
from selfrepair.statistics.fieller import Variances, fieller

ENOUGH_GROUPS = 8
Unit = Literal["groups", "prompts", "range", "none"]


@dataclass(frozen=True, eq=False)
class Sampling:
    """What varies from sample to sample, and how much each prompt counts.

    Attributes:
        units: int [prompt], which unit each prompt belongs to.
        weights: [prompt].
        kind: `groups` or `prompts`, over which intervals are; `range` where groups are too few for an interval and
            their range is given; `none` for a single prompt.
    """

    units: np.ndarray
    weights: Array
    kind: Unit

    @classmethod
    def of(cls, prompts: Prompts) -> Sampling:
        """By the number of groups, as said at the head of this module."""
        groups, units = np.unique(np.asarray(prompts.groups), return_inverse=True)
        kind: Unit = "groups" if len(groups) >= ENOUGH_GROUPS else "range"
        if len(groups) == 1:
            units, kind = np.arange(len(prompts)), "prompts" if len(prompts) > 1 else "none"
        return cls(units, np.asarray(prompts.weights, np.float64), kind)

    @cached_property
    def _members(self) -> Array:
        """Weight of each prompt in each unit, [unit, prompt]."""
        return np.asarray(np.eye(self.units.max(initial=-1) + 1)[:, self.units] * self.weights)

    @cached_property
    def effective(self) -> float:
        """How many units their weights amount to."""
        sizes = self._members.sum(1)
        return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0

    @property
    def number(self) -> int:
        """How many units there are."""
        return len(self._members)

    @property
    def quantile(self) -> float:
        """Of the intervals, in standard errors; NaN where there are none."""
        return float(student.ppf((1 + LEVEL) / 2, self.effective - 1)) if self.effective > 1 else math.nan

    def mean(self, values: np.ndarray) -> Estimate:
        """Of values [..., prompt]."""
        values = np.asarray(values, np.float64)
        total = self.weights.sum()
        mean = values @ self.weights / total
        if self.kind == "range":
            low, high = self._range(values)
            return self._estimate(mean, np.full(mean.shape, np.nan), low, high)
        error = np.sqrt(self._variance(values - mean[..., None], values - mean[..., None])) / total
        return self._estimate(mean, error, mean - self.quantile * error, mean + self.quantile * error)

    def ratio(self, above: np.ndarray, below: np.ndarray) -> Estimate:
        """The ratio of two sums, of values [..., prompt]; ends are infinite where the denominator may be zero."""
        above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
        total = self.weights.sum()
        n, d = above @ self.weights / total, below @ self.weights / total
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = n / d
        if self.kind == "range":
            with np.errstate(divide="ignore", invalid="ignore"):
                each = (above @ self._members.T) / (below @ self._members.T)
            return self._estimate(ratio, np.full(ratio.shape, np.nan), each.min(-1), each.max(-1))
        over, under = above - n[..., None], below - d[..., None]
        pairs = ((over, over), (over, under), (under, under))
        variances = Variances(*(self._variance(*pair) / total**2 for pair in pairs))
        low, high = fieller(n, d, variances, np.asarray(self.quantile))
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(variances.of_difference(ratio)) / np.abs(d)
        return self._estimate(ratio, error, low, high)

    def p_value(self, values: np.ndarray) -> Array:
        """One-sided: of a mean this far above zero or further if there were none; NaN without an error.

        With too few groups for intervals, over prompts, and 1 unless the mean is above zero in every group: what passes
        then holds for these groups, and says little of others.
        """
        if self.kind == "range":
            over_prompts = Sampling(np.arange(len(self.units)), self.weights, "prompts").p_value(values)
            return np.where(self._range(np.asarray(values, np.float64))[0] > 0, over_prompts, 1.0)
        estimate = self.mean(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = estimate.value / estimate.standard_error
        return np.asarray(student.sf(t, self.effective - 1) if self.effective > 1 else np.full(np.shape(t), np.nan))

    def _variance(self, first: np.ndarray, second: np.ndarray) -> Array:
        """Of a weighted sum of residuals [..., prompt], or the covariance of two."""
        if self.effective <= 1:
            return np.full(first.shape[:-1], np.nan)
        sums = (first @ self._members.T) * (second @ self._members.T)
        return np.asarray(sums.sum(-1) * self.effective / (self.effective - 1))

    def _range(self, values: np.ndarray) -> tuple[Array, Array]:
        by_unit = (values @ self._members.T) / self._members.sum(1)
        return by_unit.min(-1), by_unit.max(-1)

    def _estimate(self, value: Array, error: Array, low: Array, high: Array) -> Estimate:
        return Estimate(value, error, low, high, np.full(np.shape(value), self.number))

    @property
    def in_words(self) -> str:
        """What intervals are over, for the foot of a table."""
        return {
            "groups": f"95% intervals over {self.number} groups",
            "range": f"ranges over {self.number} groups, too few for intervals ({ENOUGH_GROUPS} are needed); tests are "
            "over prompts, ask every group to agree, and hold for these groups alone",
            "prompts": f"95% intervals over {self.number} prompts of one group: they hold for this template alone",
            "none": "one prompt: no intervals",
        }[self.kind]


def smallest_detectable(standard_error: float) -> float:
    """The effect that a test at 5% finds in 80% of samples of this size: 2.8 standard errors."""
    return 2.8 * standard_error


def units_to_decide(units: int, standard_error: float, distance: float) -> float:
    """About how many units would tell a mean from a bound that far away."""
    return math.inf if distance == 0 else units * (1.96 * standard_error / abs(distance)) ** 2
