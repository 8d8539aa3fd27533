"""Donors: of other documents and other text, long enough, all different, balanced, repeatable."""

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


@settings(max_examples=60, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=9),
    donors=st.integers(1, 3),
    seed=st.integers(0, 10),
)
def test_every_window_serves_equally_often_where_that_is_possible(sizes, donors, seed):
    """It is where no document has more than half of the windows, and there are others enough for all draws."""
    documents = np.repeat(np.arange(len(sizes)), sizes)
    drawn_from = len(documents) - max(sizes)
    if max(sizes) > drawn_from or donors > drawn_from - max(sizes) + 1:
        return
    drawn = draw_donors(corpus(lengths=[9] * len(documents), documents=documents), donors, seed)
    for draw in drawn.T:
        assert sorted(draw) == list(range(len(documents))), "a derangement"
    assert (documents[drawn] != documents[:, None]).all()
    assert all(len(set(row)) == donors for row in drawn.tolist()), "no pair twice"


@pytest.mark.parametrize("seed", range(5))
def test_all_other_documents_serve_each_window_once(seed):
    """Nine draws over ten documents use up every pair: no draw may leave the next without a way."""
    drawn = draw_donors(corpus(lengths=[9] * 10, documents=range(10)), 9, seed)
    assert [sorted(row) for row in drawn.tolist()] == [[j for j in range(10) if j != i] for i in range(10)]


def test_short_windows_and_a_large_document_are_served_evenly():
    lengths = [9] * 12 + [5, 6, 7, 8]
    documents = [0] * 8 + [1, 2, 3, 4, 5, 6, 7, 8]
    served = np.bincount(draw_donors(corpus(lengths, documents), 1, 0)[:, 0], minlength=16)
    assert (served[8:12] == 2).all(), "the large document's eight windows share the four others of their length"
    assert served.max() == 2


def test_windows_of_the_same_text_do_not_serve_each_other():
    made = corpus(lengths=[9] * 6, documents=range(6))
    made.tokens[3] = made.tokens[0]
    for seed in range(40):
        drawn = draw_donors(made, 4, seed)
        assert 3 not in drawn[0] and 0 not in drawn[3]
    with pytest.raises(SelfRepairError, match="there are 4"):
        draw_donors(made, 5, 0)


def test_packed_windows_draw_on_no_document_of_their_own():
    made = corpus(lengths=[9] * 12, documents=[0] * 12)
    made.documents[:] = (np.arange(12 * 9) // 12).reshape(12, 9)  # documents of 12 tokens cross windows of 9
    sets = made.document_sets()
    drawn = draw_donors(made, 3, 0)
    assert all(not sets[window] & sets[donor] for window, row in enumerate(drawn) for donor in row)
    assert (np.bincount(drawn.ravel(), minlength=12) == 3).all()
