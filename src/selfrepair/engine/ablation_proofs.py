"""Identities of ablated runs, proved on random tokens: a few at load, all of them in `selfrepair check`."""

from __future__ import annotations

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, each, ports_of, together
from selfrepair.ablation.sites import Site, usual_sites
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun, clean_run, port_outputs
from selfrepair.engine.contract import Engine, Replacement
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.reference import ReferenceEngine
from selfrepair.engine.replay import ReplayEngine
from selfrepair.errors import Proof, RefusedModel
from selfrepair.model.dissect import known_tokens
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.proofs import prove_at_load, random_tokens, relative_error, require, tolerance

_ROUNDINGS = 8  # of the logits, that effects as differences of two forwards may be off by
_DIFFERENCES = "differences", "differences carried through the blocks give the total effects of full forwards"


def require_ablations(model: LanguageModel) -> None:
    """Proves at load what no engine could be right without: causality, and that replayed blocks give what the model's
    own forward gives, with ledgers that close. Two short windows, two ablated runs: one from the first layer on, one
    from the middle, where blocks below that are not called again must not matter.

    Raises:
        RefusedModel: naming the first identity that fails.
    """
    tokens = random_tokens(model)[[0, -1]]
    sites = _sample(model)
    runs = [together("first and last", dict.fromkeys([sites[0], sites[-1]])), *each(sites[1:-1])]
    with model.running():
        clean = clean_run(model, tokens, ports=ports_of(runs))

        def donors(port: Port) -> Tensor:
            return clean.outputs_at(port).flip(0)

        reference = _ledgers(ReferenceEngine(), model, clean, runs, donors)
        model.run_trunk(tokens.flip(1))  # whatever blocks remember of it must not reach the replay
        replay = _ledgers(ReplayEngine(fold=1), model, clean, runs, donors)
        future = _future_error(model, tokens)
    require([_causality(model, future), *_agreement(model, clean, reference, replay)])


def require_differences(model: LanguageModel, error: float, allowed: float) -> None:
    """Refuses the delta engine where its effects are not replay's.

    Args:
        model: the model.
        error: relative error of the engine's total effects at full precision, in a trial.
        allowed: how large it may be.

    Raises:
        RefusedModel: it is larger.
    """
    proof = Proof(*_DIFFERENCES, error, allowed)
    if not proof.holds:
        raise RefusedModel(
            proof.identity,
            f"differences carried through the blocks of {type(model.anatomy.blocks[0].module).__name__} are off by "
            f"{error:.1e} of the effects, {allowed:.0e} is allowed.",
            "Its blocks compute in a way that the delta engine cannot follow: take --engine replay, or auto.",
            [proof],
        )


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
        runs = each(_sample(model))
        clean = clean_run(model, tokens, ports=ports_of(runs))
        donors = port_outputs(model, random_tokens(model, seed=1), ports_of(runs)).__getitem__
        reference = _ledgers(ReferenceEngine(), model, clean, runs, donors)
        replay = _ledgers(ReplayEngine(fold=2), model, clean, runs, donors)
        differences = _difference_proof(model, clean, runs, donors, reference)
        unchanged = _ledgers(ReplayEngine(fold=2), model, clean, runs, clean.outputs_at)
        future = _future_error(model, tokens)
    logits = clean.scaled_logit.abs().max()
    return [
        *prove_at_load(model),
        _causality(model, future),
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
        *_agreement(model, clean, reference, replay),
        differences,
    ]


def _causality(model: LanguageModel, error: float) -> Proof:
    return Proof("causality", "later tokens do not matter to earlier logits", error, tolerance(model.dtype))


def _agreement(
    model: LanguageModel, clean: CleanRun, reference: list[Ledger], replay: list[Ledger]
) -> tuple[Proof, Proof]:
    """That ledgers close, and that those of both engines have the same total effects."""
    allowed = 10 * tolerance(model.dtype)
    truth, effects = (torch.stack([ledger.total_effect for ledger in ledgers]) for ledgers in (reference, replay))
    rounding = _ROUNDINGS * torch.finfo(model.dtype).eps / allowed * clean.scaled_logit.abs().max()
    size = truth.abs().max() + rounding
    residuals = [ledger.residual.abs().max() / size for ledger in (*reference, *replay)]
    closes = "self-repair = heads + MLPs (+ mixers) + post-norms + norm, on every token"
    agree = "replayed blocks give the total effects of full forwards"
    return (
        Proof("ledger closes", closes, _worst(residuals), allowed),
        Proof("engines agree", agree, relative_error(effects, truth, size), allowed),
    )


def _difference_proof(
    model: LanguageModel, clean: CleanRun, runs: list[Intervention], donors: Replacement, reference: list[Ledger]
) -> Proof:
    name, statement = _DIFFERENCES
    try:
        ledgers = _ledgers(DeltaEngine(), model, clean, runs, donors)
    except NotTraceable as problem:
        return Proof(name, f"not carried, runs use replay: {problem.problem}", 0.0, 0.0)
    effects = {ledger.interventions: ledger.total_effect for ledger in ledgers}
    truth = torch.stack([ledger.total_effect for ledger in reference])
    error = relative_error(torch.stack([effects[ledger.interventions] for ledger in reference]), truth)
    return Proof(name, statement, error, tolerance(model.dtype) * 10)


def _sample(model: LanguageModel) -> list[Site]:
    """A head, or a mixer of models without heads, in the first, a middle and the last layer that has any."""
    sites = usual_sites(model.anatomy)
    having = list(sites)
    layers = sorted({having[0], having[len(having) // 2], having[-1]})
    return [sites[layer][layer % len(sites[layer])] for layer in layers]


def _ledgers(
    engine: Engine, model: LanguageModel, clean: CleanRun, runs: list[Intervention], donors: Replacement
) -> list[Ledger]:
    ledgers = list(engine.sweep(model, clean, runs, donors, per_component=True))
    return sorted(ledgers, key=lambda ledger: runs.index(ledger.interventions[0]))


def _worst(errors: list[Tensor]) -> float:
    """The largest error; infinite where one is not a number, which Python's `max` would drop."""
    return float(torch.stack(errors).nan_to_num(nan=torch.inf).max())


def _upstream(ledger: Ledger) -> Tensor:
    """The largest change below the ablated head's layer, and of its neighbours."""
    start = ledger.interventions[0].start
    assert ledger.by_head is not None and start is not None
    heads = ledger.by_head[..., : start + 1, :].abs().sum()
    others = ledger.by_mlp[..., :start].abs().sum() + ledger.by_mixer[..., :start].abs().sum()
    return heads + others


def _future_error(model: LanguageModel, tokens: Tensor) -> float:
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % known_tokens(model.network)
    counted = model.anatomy.unembedding.counted
    before, after = (model.logits(given, constants=False)[:, :-1, counted] for given in (tokens, changed))
    return relative_error(after, before)
