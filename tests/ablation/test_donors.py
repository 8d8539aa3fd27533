"""Donors: of other documents, long enough, all different, repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair import SelfRepairError
from selfrepair.ablation.donors import draw_donors
from support import corpus


@settings(max_examples=50, derandomize=True)
@given(
    made=st.lists(st.tuples(st.integers(2, 9), st.integers(0, 5)), min_size=2, max_size=14),
    donors=st.integers(0, 3),
    seed=st.integers(0, 10),
)
def test_donors_fit_or_are_refused(made, donors, seed):
    windows = corpus(*zip(*made, strict=True))
    documents, lengths = windows.document_sets(), windows.lengths

    def eligible(window):
        others = range(len(windows))
        return [d for d in others if lengths[d] >= lengths[window] and not documents[d] & documents[window]]

    enough = all(len(eligible(window)) >= donors for window in range(len(windows)))
    if not enough:
        with pytest.raises(SelfRepairError, match="donor windows from other documents"):
            draw_donors(windows, donors, seed)
        return
    drawn = draw_donors(windows, donors, seed)
    assert drawn.shape == (len(windows), donors) and drawn.dtype == np.int64
    for window, chosen in enumerate(drawn.tolist()):
        assert len(set(chosen)) == donors and set(chosen) <= set(eligible(window))
    assert np.array_equal(drawn, draw_donors(windows, donors, seed))


def test_every_donor_that_fits_is_drawn_about_as_often():
    windows = corpus(lengths=[9] * 6, documents=range(6))
    drawn = [draw_donors(windows, 1, seed)[0, 0] for seed in range(600)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[0] == 0 and (np.abs(counts[1:] - 120) < 50).all()


def test_rare_donors_are_found():
    """One window in three hundred fits."""
    windows = corpus(lengths=[9] * 300, documents=[0] * 299 + [1])
    with pytest.raises(SelfRepairError, match="there are 1"):
        draw_donors(windows, 2, 0)
    assert (draw_donors(windows, 1, 0)[:-1] == 299).all()


@settings(max_examples=50)
@given(order=st.permutations(range(8)), donors=st.integers(1, 3), seed=st.integers(0, 10), extra=st.integers(0, 3))
def test_order_and_padding_do_not_matter(order, donors, seed, extra):
    lengths, documents = (9, 9, 5, 9, 8, 7, 9, 9), (0, 0, 1, 1, 2, 2, 3, 3)
    windows = corpus(lengths, documents)
    known = draw_donors(windows, donors, seed)
    moved = draw_donors(corpus(lengths, documents, length=9 + extra).select(order), donors, seed)
    assert [[order[donor] for donor in drawn] for drawn in moved] == known[order].tolist()


def test_windows_draw_apart():
    drawn = draw_donors(corpus(lengths=[9] * 40, documents=range(40)), 1, 0)[:, 0]
    assert len(set((drawn - np.arange(40)).tolist())) > 15
