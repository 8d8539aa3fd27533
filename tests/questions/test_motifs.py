"""Motifs add up to the lines, token by token, and name what planted heads do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selfrepair.questions.covering.motifs import LABELS, motif_labels, motifs
from selfrepair.questions.measuring.sampling import Sampling

numbers = arrays(np.float64, (5, 3), elements=st.floats(-5, 5))


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, st.sampled_from([1.0, -1.0]))
def test_motifs_add_up_and_have_their_signs(lines, clean, sign):
    parts = motifs(lines, clean, sign)
    np.testing.assert_allclose(sum(parts), sign * lines, atol=1e-12)
    assert (parts.anti_erasure >= 0).all() and (parts.backup >= 0).all() and (parts.breakage <= 0).all()
    assert ((parts.anti_erasure == 0) | (sign * clean < 0)).all()
    assert (parts.anti_erasure <= np.abs(clean) + 1e-12).all()


def told(line, clean, spread: float = 0.01, sign: float = 1.0) -> str:
    rng = np.random.default_rng(0)
    noise = spread * rng.normal(size=(2, 40, 1))
    sampling = Sampling(np.arange(40), np.ones(40), "prompts")
    (label,) = motif_labels(np.full((40, 1), line) + noise[0], np.full((40, 1), clean) + noise[1], sign, sampling)
    assert label in LABELS
    return label


@pytest.mark.parametrize(
    ("line", "clean", "label"),
    [
        (0.5, 0.0, "backup"),
        (0.5, 0.3, "backup"),
        (0.5, -0.8, "suppressor released"),
        (1.5, -0.5, "suppressor turned"),
        (-0.4, 0.9, "breakage"),
        (-0.4, -0.9, "breakage"),
        (0.0, 0.5, "unsure"),
    ],
)
def test_labels(line, clean, label):
    assert told(line, clean) == label
    assert told(-line, -clean, sign=-1.0) == label  # the sites wrote against the answer


def test_a_clean_effect_of_either_sign_is_mixed():
    assert told(0.5, -0.1, spread=0.6) == "mixed"


def told_of_templates(lines, clean) -> str:
    """The label of a head with one line and one clean effect per template, eight prompts of each."""
    units = np.repeat(np.arange(len(lines)), 8)
    noise = 0.01 * np.random.default_rng(0).normal(size=(2, len(units), 1))
    sampling = Sampling(units, np.ones(len(units)), "groups")
    every = [np.repeat(values, 8)[:, None] for values in (lines, clean)]
    return motif_labels(every[0] + noise[0], every[1] + noise[1], 1.0, sampling)[0]


LINES = np.array([1.5, 1.4, 1.8, 1.8, 0.2, 1.4, 2.5, 1.2])
CLEAN = np.array([-0.5, -0.8, -1.2, -0.5, 1.5, -0.3, -1.2, -0.5])  # against the answer in all templates but one


def test_a_suppressor_is_one_by_the_templates_that_its_line_comes_from():
    """L24H4 of SmolLM2 on eight IOI templates: the mean of its clean effect may be zero, what it does is clear."""
    assert told_of_templates(LINES, CLEAN) == "suppressor turned"
    assert told_of_templates(LINES, -CLEAN) == "backup"
    assert told_of_templates(LINES, CLEAN * [1, 1, 1, 1, 1, -1, -1, -1]) == "mixed"  # half of the line from each side
