"""One spelling of heads and layers, on the command line and in Python."""

import numpy as np
import pytest

from selfrepair import SelfRepairError
from selfrepair.ablation.names import existing_heads, named_heads, named_layers, parse_names
from selfrepair.ablation.sites import Head

HEADS = [4, 4, 4]
WHOLE = [(1, head) for head in range(4)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("L1H1", [(1, 1)]),
        (["L1H1"], [(1, 1)]),
        ([(1, 1)], [(1, 1)]),
        ([Head(1, 1)], [(1, 1)]),
        (np.array([[1, 1]]), [(1, 1)]),
        ([[np.int64(1), 1]], [(1, 1)]),
        ("1.1, l2h0", [(1, 1), (2, 0)]),
        (["1.1", (2, 0)], [(1, 1), (2, 0)]),
        ("L1", WHOLE),
        (["L1"], WHOLE),
        ([1], WHOLE),
        ([(1,)], WHOLE),
        ("L1-L2", [*WHOLE, *[(2, head) for head in range(4)]]),
        ("1-2", [*WHOLE, *[(2, head) for head in range(4)]]),
        ("L1H1,L1H1", [(1, 1)]),
    ],
)
def test_spellings_of_heads(given, expected):
    assert existing_heads(named_heads(given), HEADS) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("L3", "no heads L3"),
        ("L1H4", "no heads L1H4"),
        ([(1, 4)], "no heads L1H4"),
        ("L2-L1", "no heads L2-L1"),
        ("L0-L999999999", "no heads L0-L999999999"),
        ([], "No heads were given"),
        ("", "No heads were given"),
        ("ninth", "'ninth' is not a head"),
        (["ninth"], "'ninth' is not a head"),
        ([(1, -1)], "is not a head"),
        ([-1], "is not a head"),
        ([True], "is not a head"),
        ([1.5], "1.5 is a number"),
        ([(1, 1, 1)], "is not a head"),
        ([None], "is not a head"),
        (7, "is not a set of heads"),
        (b"L1", "is not a set of heads"),
    ],
)
def test_what_is_not_a_head_is_refused(given, said):
    with pytest.raises(SelfRepairError, match=said):
        existing_heads(named_heads(given), HEADS)


def test_layers_may_have_different_numbers_of_heads():
    assert existing_heads(named_heads("L0,L1"), [2, 1]) == [(0, 0), (0, 1), (1, 0)]
    with pytest.raises(SelfRepairError, match="no heads L1H1"):
        existing_heads(named_heads("L0H1,L1H1"), [2, 1])


@pytest.mark.parametrize("given", ["1,2", "L1-L2", "1-2", "l2, L1", ["L1", 2], [1, 2], ["1-2"], np.array([2, 1])])
def test_spellings_of_layers(given):
    assert named_layers(given, range(4)) == [1, 2]


@pytest.mark.parametrize("given", ["L1H2", "2-1", "few", "", [], ["few"], [-1], [True], 3, [1.5]])
def test_what_is_not_a_layer_is_refused(given):
    with pytest.raises(SelfRepairError, match="is not a set of layers"):
        named_layers(given, range(4))


@pytest.mark.parametrize("given", ["4", "0-999999999", [4]])
def test_layers_that_are_not_there_are_refused(given):
    with pytest.raises(SelfRepairError, match="There is no layer"):
        named_layers(given, range(4))


@pytest.mark.parametrize(
    "name",
    [
        *("L5E3", "l5e3", "L5E3@end", "L5.expert3", "L5.mlp.expert3", "model.layers.5.mlp.experts.3"),
        *("model.layers.5.block_sparse_moe.experts.3.w2", "blocks.5.mlp.experts.3.hook_out"),
    ],
)
def test_experts_are_refused_with_what_can_be_ablated_instead(name):
    with pytest.raises(SelfRepairError, match="single experts cannot be ablated") as refused:
        parse_names(name)
    assert "L5.mlp" in refused.value.fix


@pytest.mark.parametrize("name", ["L5X3", "5e3", "layers.5.feed3", "L5.mlpe"])
def test_other_names_that_are_nothing_are_not_taken_for_experts(name):
    with pytest.raises(SelfRepairError) as refused:
        parse_names(name)
    assert "expert" not in str(refused.value)
