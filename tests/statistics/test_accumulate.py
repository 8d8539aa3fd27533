import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sweeps import everything, obvious_sums, sweep

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.accumulate import DocumentSums, check_size


def summed(made, chunks, components="heads"):
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, components)
    for chunk in chunks:
        sums.add(made.chunk(*chunk))
    return sums


def assert_same(one, other, documents=None):
    order = slice(None) if documents is None else documents
    np.testing.assert_array_equal(one.counts[order], other.counts)
    for name, lines in one.component_sums.items():
        np.testing.assert_allclose(lines[order], other.component_sums[name], rtol=1e-5, atol=1e-5)


@st.composite
def cuts(draw):
    """A made-up sweep and its chunks, cut and shuffled at random."""
    made = sweep(seed=draw(st.integers(0, 99)), windows=draw(st.integers(1, 5)))
    layers, heads = made.shape
    chunks = []
    for layer in range(layers):
        for head_part in partition(draw, range(heads)):
            for window_part in partition(draw, range(len(made.scored))):
                chunks.append((layer, head_part, window_part))
    return made, draw(st.permutations(chunks))


def partition(draw, items):
    items = draw(st.permutations(list(items)))
    at = sorted(draw(st.sets(st.integers(1, len(items)), max_size=2)) | {len(items)})
    return [items[a:b] for a, b in zip([0, *at[:-1]], at, strict=True)]


@settings(max_examples=25)
@given(cuts())
def test_cut_and_order_do_not_matter(case):
    made, chunks = case
    assert_same(summed(made, chunks), summed(made, everything(made)))


@settings(max_examples=10)
@given(cuts(), st.integers(0, 30))
def test_equals_the_obvious_loop_also_on_partial_data(case, dropped):
    made, chunks = case
    chunks = chunks[: max(1, len(chunks) - dropped)]
    counts, lines = obvious_sums(made, chunks)
    sums = summed(made, chunks)
    assert sums.counts.sum() == sum(counts.values())
    for (document, *cell), count in counts.items():
        place = (list(sums.document_ids).index(document), *cell)
        assert sums.counts[place] == count
        mine = lines[(document, *cell)]
        np.testing.assert_allclose(sums.component_sums["repair_by_head"][place], mine, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            sums.component_sums["repair_by_attention"][place], mine.sum(-1), rtol=1e-4, atol=1e-5
        )


@settings(max_examples=20)
@given(st.integers(0, 99), st.permutations(list(range(4))))
def test_names_of_documents_do_not_matter(seed, names):
    made, other = sweep(seed), sweep(seed)
    other.documents = 10 * np.asarray(names)[made.documents]
    one, two = summed(made, everything(made)), summed(other, everything(other))
    back = [list(one.document_ids).index(names.index(document // 10)) for document in two.document_ids]
    assert_same(one, two, documents=back)


def test_a_chunk_added_twice_is_refused():
    made = sweep()
    sums = summed(made, everything(made))
    with pytest.raises(ValueError, match="added before"):
        sums.add(made.chunk(1, [2], [0]))
    with pytest.raises(ValueError, match="twice"):
        summed(made, [(0, [1, 1], [0])])


def test_missing_component_lines_are_named():
    made = sweep()
    sums = DocumentSums(made.filters, made.thresholds, made.scored, made.documents, made.shape, "heads")
    chunk = made.chunk(0, [0], [0])
    object.__setattr__(chunk, "by_head", None)
    with pytest.raises(ValueError, match="repair_by_head"):
        sums.add(chunk)
    assert not sums.counts.any()
    sums.add(made.chunk(0, [0], [0]))  # what was refused does not count as added


def test_size_is_planned_up_front():
    assert check_size(80, 3, (30, 9), "heads") < 2e8
    with pytest.raises(SelfRepairError, match=r"2 GB") as caught:
        check_size(500, 3, (48, 25), "heads")
    assert "--components layers" in caught.value.fix
    with pytest.raises(SelfRepairError) as caught:
        check_size(5000, 3, (80, 64), "layers")
    assert "--components none" in caught.value.fix or "fewer tokens" in caught.value.fix


def test_planned_size_is_the_real_size():
    made = sweep()
    for components in ("none", "layers", "heads"):
        sums = summed(made, [], components)
        arrays = [sums.counts, sums.scored_counts, *sums.component_sums.values(), *sums.edges.values()]
        planned = check_size(len(sums.document_ids), len(made.filters), made.shape, components)
        assert sum(one.nbytes for one in arrays) == planned


def test_nothing_scored_is_refused():
    made = sweep()
    with pytest.raises(SelfRepairError, match="no scored tokens"):
        DocumentSums(made.filters, made.thresholds, made.scored & False, made.documents, made.shape)
