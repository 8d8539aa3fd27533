"""Intervals over groups of prompts: what they cover, and what is given where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair import Prompt, Prompts
from selfrepair.questions.measuring.sampling import Sampling, smallest_detectable, units_to_decide


def asked(groups) -> Prompts:
    return Prompts.of([Prompt((5, 6, 7), ((8,),), group=str(group)) for group in groups], None)


def sample(rng, groups: int, size: int, within: float = 0.5):
    """Values of prompts that share their group's part."""
    units = np.repeat(np.arange(groups), size)
    return units, rng.normal(size=groups)[units] + within * rng.normal(size=groups * size)


def test_groups_are_the_units_from_eight_on():
    rng = np.random.default_rng(0)
    held = naive = 0
    for _ in range(800):
        units, values = sample(rng, 10, 6)
        mean = Sampling(units, np.ones(60), "groups").mean(values)
        held += mean.low <= 0 <= mean.high
        alone = Sampling(np.arange(60), np.ones(60), "prompts").mean(values)
        naive += alone.low <= 0 <= alone.high
    assert 0.93 <= held / 800 <= 0.97
    assert naive / 800 < 0.75  # prompts are not independent: the check can fail


def test_groups_of_unequal_size_and_weight_are_covered_too():
    rng = np.random.default_rng(1)
    sizes = np.array([2, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10, 12])
    units = np.repeat(np.arange(12), sizes)
    weights = rng.uniform(0.5, 1.5, len(units))
    sampling, held = Sampling(units, weights, "groups"), 0
    for _ in range(800):
        mean = sampling.mean(rng.normal(size=12)[units] + rng.normal(size=len(units)))
        held += mean.low <= 0 <= mean.high
    assert 0.92 <= held / 800 <= 0.985


def test_ratios_are_covered_and_unbounded_where_the_denominator_may_be_zero():
    rng = np.random.default_rng(2)
    units = np.repeat(np.arange(12), 4)
    sampling, held = Sampling(units, np.ones(48), "groups"), 0
    for _ in range(600):
        below = 2 + sample(rng, 12, 4)[1]
        above = 0.5 * below + sample(rng, 12, 4)[1]
        ratio = sampling.ratio(above, below)
        held += ratio.low <= 0.5 <= ratio.high
    assert 0.93 <= held / 600 <= 0.98
    about_zero = rng.normal(size=48)
    noise = sampling.ratio(rng.normal(size=48), about_zero - 0.9 * about_zero.mean())
    assert noise.low == -np.inf and noise.high == np.inf


def test_one_sided_p_values_are_uniform_without_an_effect():
    rng = np.random.default_rng(3)
    values = np.stack([sample(rng, 12, 3)[1] for _ in range(2000)])
    p = Sampling(np.repeat(np.arange(12), 3), np.ones(36), "groups").p_value(values)
    assert abs((p < 0.05).mean() - 0.05) < 0.015


@pytest.mark.parametrize(
    ("groups", "kind", "words"),
    [
        (range(8), "groups", "95% intervals over 8 groups"),
        ([0, 0, 1, 1, 2], "range", "ranges over 3 groups, too few"),
        ([0] * 5, "prompts", "this template alone"),
        ([0], "none", "no intervals"),
    ],
)
def test_what_intervals_are_over_is_reported(groups, kind, words):
    sampling = Sampling.of(asked(groups))
    assert sampling.kind == kind and words in sampling.in_words


def test_few_groups_give_a_range_and_no_error():
    mean = Sampling.of(asked([0, 0, 1, 1, 2])).mean(np.array([1.0, 3.0, 4.0, 6.0, 0.0]))
    assert (mean.low, mean.high) == (0.0, 5.0) and np.isnan(mean.standard_error)
    assert mean.value == pytest.approx(2.8)


def test_one_prompt_has_neither():
    mean = Sampling.of(asked([0])).mean(np.array([[1.5]]))
    assert mean.value[0] == 1.5 and np.isnan(mean.low[0]) and np.isnan(mean.standard_error[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=9, max_size=30), st.floats(0.1, 10), st.integers(0, 2**31))
def test_means_scale_and_do_not_depend_on_the_order(values, scale, seed):
    values = np.array(values)
    units = np.arange(len(values)) % 9
    order = np.random.default_rng(seed).permutation(len(values))
    mean = Sampling(units, np.ones(len(values)), "groups").mean(values)
    other = Sampling(units[order], np.ones(len(values)), "groups").mean(scale * values[order])
    assert other.value == pytest.approx(scale * mean.value, abs=1e-6)
    assert other.low == pytest.approx(scale * mean.low, abs=1e-6)


def test_power_figures():
    assert smallest_detectable(0.1) == pytest.approx(0.28)
    assert units_to_decide(12, 0.1, 0.05) == pytest.approx(12 * (1.96 * 2) ** 2)


def test_with_few_groups_tests_are_over_prompts_and_every_group_has_to_agree():
    rng = np.random.default_rng(5)
    units = np.repeat(np.arange(4), 8)
    sampling = Sampling(units, np.ones(32), "range")
    agreed = 1 + 0.3 * rng.normal(size=32)
    against = agreed.copy()
    against[units == 3] -= 1.5  # the mean is still above zero
    p = sampling.p_value(np.stack([agreed, against]))
    assert against.mean() > 0 and p[0] < 1e-6 and p[1] == 1
    assert (sampling.p_value(rng.normal(size=(2000, 32))) < 0.05).mean() < 0.05  # no effect in any of these groups
