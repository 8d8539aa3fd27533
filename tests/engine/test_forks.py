"""Runs that begin alike share what they have in common: the same numbers, in fewer blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_interventions import HEADS, LAYERS, Measured, every_family

from selfrepair import ReferenceEngine, ReplayEngine
from selfrepair.ablation.interventions import Intervention, each, freezing, together
from selfrepair.ablation.sites import At, Attention, Head, Mlp
from selfrepair.engine.forks import families, forks, in_order

BASE = together("base", [Head(0, 0), Head(1, 1)])
ALIKE = [
    BASE,
    freezing(BASE, [Mlp(1)], "one frozen"),
    freezing(BASE, [Head(2, 0), Mlp(2)], "two frozen"),
    freezing(BASE, [At(Mlp(2), (-2,))], "frozen at a position"),
    together("one more", [*BASE.replaced, Head(2, 1)]),
    together("one less", [Head(0, 0)]),
    together("one less, another more", [Head(0, 0), Attention(2)]),
    Intervention(BASE.replaced, (Mlp(0),), "frozen where it starts"),
    together("the same", BASE.replaced),
    *each([Head(1, 1), Mlp(2)]),
]


def blocks_run(model, sweep) -> int:
    """Blocks times runs times windows that a sweep puts through the model."""
    work = []
    handles = [
        block.module.register_forward_hook(
            lambda _m, args, kwargs, _o: work.append(len(_first(args, kwargs))), with_kwargs=True
        )
        for block in model.anatomy.blocks
    ]
    try:
        sweep()
    finally:
        for handle in handles:
            handle.remove()
    return sum(work)


def _first(args, kwargs):
    return args[0] if args else kwargs["hidden_states"]


def difference(ledger, row, other, other_row) -> float:
    names = ("total_effect", "direct_effect", "ablated_direct_effect", "by_attention", "by_mixer", "by_mlp", "by_head")
    names += ("post_norms", "norm", "curvature")
    pairs = [(getattr(ledger, name)[row], getattr(other, name)[other_row]) for name in names]
    return max(float((mine - its).abs().max()) for mine, its in pairs)


@every_family
def test_what_they_share_is_computed_once_and_nothing_changes(name):
    measured = Measured(name, ALIKE)
    together_ = measured.ledgers(ReplayEngine(fold=3))
    oracle = measured.ledgers(ReferenceEngine())
    for mine, its in zip(together_, oracle, strict=True):
        assert difference(*mine, *its) < 1e-9
        assert float(mine[0].residual[mine[1]].abs().max()) < 1e-9


def test_a_sweep_of_runs_alike_takes_fewer_blocks():
    measured = Measured("llama", ALIKE)
    windows = len(measured.clean.tokens)

    def sweep(chosen):
        donors = measured.donors.__getitem__
        with measured.model.running():
            list(ReplayEngine(fold=1).sweep(measured.model, measured.clean, chosen, donors, False))

    shared = blocks_run(measured.model, lambda: sweep(ALIKE))
    alone = sum(blocks_run(measured.model, lambda run=run: sweep([run])) for run in ALIKE)
    tree = sum(LAYERS - fork.layer for fork in forks(ALIKE, LAYERS)) * windows
    assert shared == tree < alone


def site():
    layers = st.integers(0, LAYERS - 1)
    return st.one_of(st.builds(Head, layers, st.integers(0, HEADS - 1)), st.builds(Mlp, layers))


def run(number):
    some = st.frozensets(site(), max_size=3).map(lambda sites: tuple(sorted(sites, key=str)))
    return st.builds(lambda replaced, frozen: Intervention(replaced, frozen, f"run {number}"), some, some)


LISTS = st.integers(1, 8).flatmap(lambda number: st.tuples(*(run(one) for one in range(number))).map(list))


@given(LISTS)
def test_a_run_is_like_its_parent_below_the_fork_and_no_other_run_is_alike_further_up(chosen):
    found = forks(chosen, LAYERS)
    assert [fork.intervention for fork in found] == [one for one in chosen if one.start is not None]
    for place, fork in enumerate(found):
        alike = [_layers_alike(fork.intervention, earlier.intervention) for earlier in found[:place]]
        longest = max((layers for layers in alike if layers > 0), default=0)
        if fork.parent is None:
            assert fork.layer == fork.start and fork.generation == 0
            assert longest <= fork.start
        else:
            assert fork.layer == min(longest, LAYERS - 1) > fork.start or fork.layer == LAYERS - 1
            assert _layers_alike(fork.intervention, fork.parent) >= fork.layer
    order = [fork.intervention for family in families(found) for group in in_order(family) for fork in group]
    assert sorted(map(str, order)) == sorted(str(fork.intervention) for fork in found)
    for fork in found:
        assert fork.parent is None or order.index(fork.parent) < order.index(fork.intervention)


def _layers_alike(one: Intervention, other: Intervention) -> int:
    """How many layers from the lowest up two runs have in common."""
    for layer in range(LAYERS):
        if _in(one, layer) != _in(other, layer):
            return layer
    return LAYERS


def _in(chosen: Intervention, layer: int):
    frozen = [site for site in chosen.frozen if site.port.layer >= chosen.start]
    return (
        {site for site in chosen.replaced if site.port.layer == layer},
        {site for site in frozen if site.port.layer == layer},
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LISTS)
def test_any_runs_together_are_what_each_is_alone(chosen):
    measured = Measured("gpt2", chosen)
    for run_, (ledger, row) in zip(chosen, measured.ledgers(ReplayEngine(fold=2)), strict=True):
        alone = Measured("gpt2", [run_]).ledgers(ReplayEngine(fold=1))[0]
        assert difference(ledger, row, *alone) < 1e-11


@pytest.mark.parametrize("fold", [1, 2, 8])
def test_an_origin_is_not_changed_by_the_run_that_goes_on_from_it(fold):
    measured = Measured("gemma2", ALIKE)
    first = measured.ledgers(ReplayEngine(fold=fold))
    again = measured.ledgers(ReplayEngine(fold=fold))
    for mine, its in zip(first, again, strict=True):
        assert torch.equal(mine[0].total_effect[mine[1]], its[0].total_effect[its[1]])


def test_what_is_kept_for_other_runs_goes_when_their_family_is_done():
    """Each root keeps a stream for every layer in which others leave it: of all pairs that would be far too much."""
    firsts = [Head(0, head) for head in range(HEADS)]
    found = forks(
        [together(f"{first}+{later}", [first, later]) for first in firsts for later in (Mlp(1), Mlp(2))], LAYERS
    )
    assert [[fork.start for fork in family] for family in families(found)] == [[0, 0]] * HEADS
    alone = forks(each([Head(0, 0), Mlp(1), Head(2, 1)]), LAYERS)
    assert families(alone) == [alone]
