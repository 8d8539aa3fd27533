"""Ablation at one's own position only, on every family: against plain hooks, and against what must hold exactly."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from selfrepair import RefusedModel, ReplayEngine, SelfRepairError
from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.sites import At, Head, Mlp
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.engine.own_position import OwnPositionEngine
from selfrepair.engine.own_position.single_positions import require_own_positions
from selfrepair.model.ports import Port
from support import ALL_FIELDS, DONORS, TOKENS, gap, language_model, layerwise, oracle_gap, split
from zoo import families, oracle
from zoo.anatomy import ANATOMY

PAIRS = [(Head(0, 1), 9), (Head(1, 3), 4), (Head(2, 0), 10)]  # head and position; beyond every sliding window
REFUSED = {"gpt_neo": "local attention masks by its own table of positions"}
every_family = pytest.mark.parametrize("name", [name for name in families.FAMILIES if name not in REFUSED])


def swept(model, chosen, wanted=None, rows=7, runs=None, donors=DONORS):
    """Ledgers by head; chunks of 7 rows cut through layers and heads."""
    with model.running():
        clean = clean_run(model, TOKENS)
        outputs = head_outputs(model, donors)
        engine = OwnPositionEngine(rows=rows, runs=runs)
        return split(engine.sweep(model, clean, each(chosen), layerwise(outputs), True, wanted=wanted))


def oracle_gap_at(ledger, book, position):
    """`support.oracle_gap` at one prediction."""

    def cut(value):
        axis = next(place for place, size in enumerate(value.shape) if size == TOKENS.shape[1] - 1)
        return value.narrow(axis, position, 1)

    names = [field.name for field in fields(Ledger) if isinstance(getattr(ledger, field.name), torch.Tensor)]
    here = replace(ledger, **{name: cut(getattr(ledger, name)) for name in names})
    there = replace(book, **{field.name: cut(getattr(book, field.name)) for field in fields(book)})
    return oracle_gap(here, there)


@every_family
def test_equals_plain_hooks_at_one_position(name):
    """The oracle replaces one head's output at one position in a plain forward, and knows nothing of copies."""
    model, hand = language_model(name), ANATOMY[name]
    ledgers = swept(model, [unit for unit, _ in PAIRS])
    for unit, position in PAIRS:
        replacement = oracle.trace(model.network, hand, TOKENS).z[unit.layer, :, :, unit.head].clone()
        donor = oracle.trace(model.network, hand, DONORS).z[unit.layer, :, :, unit.head]
        replacement[:, position] = donor[:, position]
        book = oracle.ledger(model.network, hand, TOKENS, *unit, replacement)
        assert oracle_gap_at(ledgers[unit], book, position) < 1e-9, unit
        assert book.total_effect[:, position].abs().max() > 1e-3


def test_equals_replay_ablated_at_that_position():
    """The engines' own ablation of a site at one position, read at that position: every line, every head."""
    model = language_model("gemma2")
    heads = [Head(layer, head) for layer in range(families.LAYERS) for head in range(families.HEADS)]
    ledgers = swept(model, heads)
    assert list(ledgers) == heads  # in order of layers, whatever order they were asked for in
    with model.running():
        clean = clean_run(model, TOKENS)
        outputs = layerwise(head_outputs(model, DONORS))
        for position in (0, 7):
            chosen = [Intervention((At(head, (position,)),), name=str(head)) for head in heads]
            for truth in ReplayEngine(fold=3).sweep(model, clean, chosen, outputs, True):
                for index, intervention in enumerate(truth.interventions):
                    ours = ledgers[heads[[str(head) for head in heads].index(intervention.name)]]
                    for name in ALL_FIELDS:
                        theirs = getattr(truth, name)[index, :, position]
                        assert (getattr(ours, name)[0, :, position] - theirs).abs().max() < 1e-9, (intervention, name)


@every_family
def test_the_ledger_closes_on_every_token(name):
    for unit, ledger in swept(language_model(name), [unit for unit, _ in PAIRS]).items():
        assert ledger.residual.abs().max() < 1e-10, unit


def test_in_the_last_layer_it_is_ablation_everywhere():
    """No later attention carries what was ablated at earlier positions."""
    model, last = language_model("llama"), families.LAYERS - 1
    chosen = [Head(last, head) for head in range(families.HEADS)]
    with model.running():
        clean, outputs = clean_run(model, TOKENS), layerwise(head_outputs(model, DONORS))
        everywhere = split(ReplayEngine(fold=2).sweep(model, clean, each(chosen), outputs, True))
    ledgers = swept(model, chosen)
    assert max(gap(ledgers[head], everywhere[head]) for head in chosen) < 1e-9


def test_only_wanted_predictions_are_computed():
    model, heads = language_model("gpt2"), [Head(2, 0), Head(0, 1), Head(1, 3)]
    wanted = torch.zeros(3, *TOKENS[:, 1:].shape, dtype=torch.bool)
    wanted[0, 1, 5] = wanted[1, 0, [2, 9]] = True  # nothing of the third
    some, every = swept(model, heads, wanted), swept(model, heads)
    for number, head in enumerate(heads):
        assert torch.equal(some[head].total_effect[0].isfinite(), wanted[number])
        difference = (some[head].by_head - every[head].by_head)[0][wanted[number]]
        assert difference.numel() == 0 or difference.abs().max() < 1e-12
        assert torch.equal(some[head].direct_effect, every[head].direct_effect)


def test_does_not_depend_on_how_many_are_held():
    model, heads = language_model("llama_bias"), [Head(2, 0), Head(0, 1), Head(1, 3), Head(0, 2)]
    whole, waves = swept(model, heads, rows=512), swept(model, heads, rows=3, runs=2)
    assert set(whole) == set(waves)
    assert max(gap(whole[head], waves[head]) for head in heads) < 1e-12


@every_family
def test_own_outputs_change_nothing(name):
    model = language_model(name, dtype="float32")
    with model.running():
        require_own_positions(model, clean_run(model, TOKENS))
        for ledger in swept(model, [Head(0, 1), Head(2, 3)], donors=TOKENS).values():
            assert ledger.total_effect.abs().max() < 2e-5


@pytest.mark.parametrize("name", REFUSED)
def test_blocks_with_masks_of_their_own_are_refused(name):
    model = language_model(name)
    with model.running(), pytest.raises(RefusedModel, match=r"own positions.*attends to the same positions"):
        require_own_positions(model, clean_run(model, TOKENS))


def test_other_interventions_are_refused():
    model = language_model("gpt2")
    for sites in ((Mlp(1),), (At(Head(0, 1), (3,)),), (Head(0, 1), Head(0, 2))):
        with model.running(), pytest.raises(SelfRepairError, match="only a single head"):
            clean = clean_run(model, TOKENS, ports=[Port(1, "mlp")])
            list(OwnPositionEngine().sweep(model, clean, [Intervention(sites)], clean.outputs_at, False))
