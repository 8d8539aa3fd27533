"""Runs of the beginnings of windows: wanted predictions are those of whole windows, all others are NaN."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from selfrepair import DeltaEngine, ReferenceEngine, ReplayEngine
from selfrepair.ablation.interventions import each
from selfrepair.ablation.sites import all_heads
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.beginnings import sweep_wanted
from selfrepair.engine.clean import clean_run, head_outputs
from support import DONORS, TOKENS, language_model, layerwise, split

FAMILIES = ("gpt2", "gpt_neox_parallel", "llama", "gemma2", "bloom", "mixtral")
TENSORS = [item.name for item in fields(Ledger) if item.name != "interventions"]


def swept(name, engine, wanted=None, told=None):
    model = language_model(name)
    chosen = each(all_heads(model.anatomy))
    with model.running():
        clean, outputs = clean_run(model, TOKENS), layerwise(head_outputs(model, DONORS))
        if wanted is None:
            return split(engine.sweep(model, clean, chosen, outputs, True))
        asked = wanted(len(chosen), *clean.reading.shape)
        ledgers = list(sweep_wanted(engine, model, clean, chosen, outputs, True, asked, told or (lambda _: None)))
        return split(ledgers), {run.replaced[0]: mask for run, mask in zip(chosen, asked, strict=True)}


def few(runs, windows, predictions):
    """A few predictions of each run, in some windows none."""
    draws = torch.Generator().manual_seed(0)
    wanted = torch.rand(runs, windows, predictions, generator=draws) < 0.15
    wanted[::3, 0] = False
    wanted[1] = False
    return wanted


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("engine", [ReplayEngine(fold=2), DeltaEngine(), ReferenceEngine()], ids=lambda e: e.name)
def test_wanted_predictions_are_those_of_whole_windows(name, engine):
    whole, (ledgers, wanted) = swept(name, engine), swept(name, engine, few)
    assert ledgers.keys() == whole.keys()
    for head, ledger in ledgers.items():
        mask = wanted[head]
        for field in TENSORS:
            now, then = getattr(ledger, field)[0], getattr(whole[head], field)[0]
            torch.testing.assert_close(now[mask], then[mask], rtol=1e-9, atol=1e-11, msg=f"{head} {field}")
        assert ledger.total_effect[0][~mask].isnan().all()


def one(runs, windows, predictions):
    wanted = torch.zeros(runs, windows, predictions, dtype=torch.bool)
    wanted[2, 1, 3] = True
    return wanted


def watched(engine, seen):
    """The engine, which notes how many runs of which windows it computes."""
    sweep = engine.sweep

    def watching(model, clean, interventions, *rest):
        seen.append((len(interventions), *clean.tokens.shape))
        yield from sweep(model, clean, interventions, *rest)

    engine.sweep = watching
    return engine


@pytest.mark.parametrize("engine", [ReplayEngine(fold=1), DeltaEngine()], ids=lambda e: e.name)
def test_texts_end_behind_the_last_wanted_prediction(engine):
    """An engine that sees more than it needs would cost what whole windows cost."""
    seen = []
    _, wanted = swept("gpt2", watched(engine, seen), one)
    assert seen == [(1, 1, 5)]  # position 3 predicts token 4
    assert sum(int(mask.sum()) for mask in wanted.values()) == 1


def test_runs_that_move_up_together_share_whole_windows():
    """Cut ones would cost them a clean half for each, and their compiled programs."""
    seen = []
    _, wanted = swept("gpt2", watched(DeltaEngine(), seen), few)
    assert seen == [(len(wanted), *TOKENS.shape)]


def test_the_work_told_is_that_of_whole_windows():
    model, told = language_model("gpt2"), []
    swept("gpt2", ReplayEngine(fold=1), few, told.append)
    heads = all_heads(model.anatomy)
    assert sum(told) == sum(model.anatomy.layers - head.layer for head in heads) * len(TOKENS)
    assert min(told) >= 0
