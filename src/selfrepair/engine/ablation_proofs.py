"""Identities of ablated runs, proved on random tokens: what `selfrepair check` adds to those proved at load."""

from __future__ import annotations

import torch
from torch import Tensor

from selfrepair.ablation.interventions import each
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs
from selfrepair.engine.contract import Engine
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.reference import ReferenceEngine
from selfrepair.engine.replay import ReplayEngine
from selfrepair.errors import Proof
from selfrepair.model.dissect import known_tokens
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.proofs import prove_at_load, random_tokens, relative_error, tolerance


def prove(model: LanguageModel) -> list[Proof]:
    """All identities, those proved at load among them, each with its error. Raises nothing on failure.

    Example:
        >>> all(proof.holds for proof in prove(model))
        True

    Args:
        model: the model.

    Returns:
        One proof for each identity: name, statement, relative error, tolerance.
    """
    tokens = random_tokens(model)
    allowed = tolerance(model.dtype)
    with model.running():
        clean = clean_run(model, tokens)
        donors = head_outputs(model, random_tokens(model, seed=1))
        heads = _sample(model)
        reference = _ledgers(ReferenceEngine(), model, clean, heads, donors)
        replay = _ledgers(ReplayEngine(fold=2), model, clean, heads, donors)
        differences = _difference_proof(model, clean, heads, donors, reference)
        unchanged = _ledgers(ReplayEngine(fold=2), model, clean, heads, clean.head_outputs)
        future = _future_error(model, tokens)
    size = torch.stack([ledger.total_effect for ledger in reference])
    logits = clean.scaled_logit.abs().max()
    return [
        *prove_at_load(model),
        Proof("causality", "later tokens do not matter to earlier logits", future, allowed),
        Proof(
            "upstream silence",
            "components below the ablated head change by exactly nothing",
            _worst([_upstream(ledger) for ledger in reference]),
            0.0,
        ),
        Proof(
            "own output",
            "a head ablated with its own clean output has no effect",
            _worst([ledger.total_effect.abs().max() / logits for ledger in unchanged]),
            allowed,
        ),
        Proof(
            "ledger closes",
            "self-repair = heads + MLPs + post-norms + norm, on every token",
            _worst([ledger.residual.abs().max() / size.abs().max() for ledger in (*reference, *replay)]),
            allowed * 10,
        ),
        Proof(
            "engines agree",
            "replayed blocks give the total effects of full forwards",
            relative_error(torch.stack([ledger.total_effect for ledger in replay]), size),
            allowed * 10,
        ),
        differences,
    ]


def _difference_proof(
    model: LanguageModel, clean: CleanRun, heads: list[Head], outputs: tuple[Tensor, ...], reference: list[Ledger]
) -> Proof:
    name, statement = "differences", "differences carried through the blocks give the total effects of full forwards"
    try:
        ledgers = _ledgers(DeltaEngine(), model, clean, heads, outputs)
    except NotTraceable as problem:
        return Proof(name, f"not carried, runs use replay: {problem.problem}", 0.0, 0.0)
    effects = {ledger.interventions: ledger.total_effect for ledger in ledgers}
    truth = torch.stack([ledger.total_effect for ledger in reference])
    error = relative_error(torch.stack([effects[ledger.interventions] for ledger in reference]), truth)
    return Proof(name, statement, error, tolerance(model.dtype) * 10)


def _sample(model: LanguageModel) -> list[Head]:
    """A head of the first, a middle and the last layer."""
    layers = sorted({0, model.anatomy.layers // 2, model.anatomy.layers - 1}, reverse=True)
    return [Head(layer, layer % model.anatomy.blocks[layer].heads) for layer in layers]


def _ledgers(
    engine: Engine, model: LanguageModel, clean: CleanRun, heads: list[Head], outputs: tuple[Tensor, ...]
) -> list[Ledger]:
    return list(engine.sweep(model, clean, each(heads), lambda port: outputs[port.layer], per_component=True))


def _worst(errors: list[Tensor]) -> float:
    """The largest error; infinite where one is not a number, which Python's `max` would drop."""
    return float(torch.stack(errors).nan_to_num(nan=torch.inf).max())


def _upstream(ledger: Ledger) -> Tensor:
    """The largest change below the ablated head's layer, and of its neighbours."""
    start = ledger.interventions[0].start
    assert ledger.by_head is not None and start is not None
    heads = ledger.by_head[..., : start + 1, :].abs().max()
    mlps = ledger.by_mlp[..., :start].abs()
    return heads + mlps.sum()


def _future_error(model: LanguageModel, tokens: Tensor) -> float:
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % known_tokens(model.network)
    counted = model.anatomy.unembedding.counted
    before, after = (model.logits(given, constants=False)[:, :-1, counted] for given in (tokens, changed))
    return relative_error(after, before)
