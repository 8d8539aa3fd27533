"""First-order effects on every family, against ablated runs by plain hooks that change next to nothing."""

from __future__ import annotations

import pytest
import torch

from selfrepair import ReplayEngine, SelfRepairError
from selfrepair.ablation.interventions import each
from selfrepair.ablation.sites import Head, Mlp
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.engine.first_order import first_order_sums
from support import DONORS, TOKENS, language_model, layerwise
from zoo import families, oracle
from zoo.anatomy import ANATOMY

HEADS = [Head(0, 1), Head(1, 3), Head(2, 0)]
STEP = 1e-5  # of the change; the oracle's differences of both signs leave its square


def groups():
    """Two groups that share no prediction, so that sums over the wrong ones show."""
    chosen = torch.zeros(2, len(TOKENS), TOKENS.shape[1] - 1, dtype=torch.bool)
    chosen[0, :, :5], chosen[1, :, 6:] = True, True
    return chosen


def by_hooks(model, hand, head, outputs):
    """Lines of the ledger per unit of the change, from two forwards."""
    books = []
    for sign in (1, -1):
        own = oracle.trace(model.network, hand, TOKENS).z[head.layer, :, :, head.head]
        there = outputs[head.layer][:, :, head.head]
        changed = own + sign * STEP * (there - own)
        books.append(oracle.ledger(model.network, hand, TOKENS, *head, changed))
    plus, minus = books

    def slope(name):
        values = [getattr(book, name) for book in (plus, minus)]
        values = [value.sum(0) if name in ("mlps", "post_norms") else value for value in values]
        return (values[0] - values[1]) / (2 * STEP)

    return {name: slope(name) for name in ("total_effect", "mlps", "norm", "post_norms")}


@pytest.mark.parametrize("name", families.FAMILIES)
def test_equals_the_slope_of_ablations_by_plain_hooks(name):
    model, hand = language_model(name), ANATOMY[name]
    with model.running():
        clean = clean_run(model, TOKENS)
        outputs = head_outputs(model, DONORS)
        sums = first_order_sums(model, clean, each(HEADS), layerwise(outputs), groups())
    donors = oracle.trace(model.network, hand, DONORS).z
    for number, head in enumerate(HEADS):
        truth = by_hooks(model, hand, head, donors)
        for line, slopes in truth.items():
            for group, mask in enumerate(groups()):
                wanted = (slopes * mask).sum(-1)
                got = sums[line][number, group] if line in sums else torch.zeros_like(wanted)
                scale = truth["total_effect"].abs().sum(-1).max()
                assert (got - wanted).abs().max() < 2e-6 * scale, (head, line)
        assert truth["total_effect"].abs().max() > 1e-3


def test_small_changes_have_first_order_effects_alone():
    model = language_model("gpt2")
    with model.running():
        clean, outputs = clean_run(model, TOKENS), head_outputs(model, DONORS)

        def nearby(port):
            return clean.outputs_at(port) + 1e-6 * (outputs[port.layer] - clean.outputs_at(port))

        ledgers = ReplayEngine(fold=1).sweep(model, clean, each(HEADS), nearby, False)
        truth = {run: ledger.total_effect[0].sum(-1) for ledger in ledgers for run in ledger.interventions}
        every = torch.ones(1, *clean.reading.shape, dtype=torch.bool)
        sums = first_order_sums(model, clean, each(HEADS), nearby, every)["total_effect"]
    for number, run in enumerate(each(HEADS)):
        torch.testing.assert_close(sums[number, 0], truth[run], rtol=1e-4, atol=1e-10)


def test_other_sites_are_refused():
    model = language_model("gpt2")
    with model.running():
        clean = clean_run(model, TOKENS)
        with pytest.raises(SelfRepairError, match="single head"):
            first_order_sums(model, clean, each([Mlp(0)]), clean.outputs_at, groups())
