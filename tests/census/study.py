"""The verdict on one entry of the census: proven, refused or not built. Anything else raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from census.forwards import effects, logits, plainly, texts
from census.small import NotBuilt, build
from selfrepair import DeltaEngine, Head, ReferenceEngine, RefusedModel, ReplayEngine, each, load
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.model.language_model import LanguageModel

Verdict = dict[str, Any]
PROVEN, REFUSED, NOT_BUILT = "proven", "refused", "not built"
_TOLERANCE = 1e-9  # of the largest effect; everything is float64


class WrongNumber(AssertionError):
    """An engine's effect that is not that of plain forwards, or a ledger that does not close."""


def verdict(entry: str) -> Verdict:
    """What the census finds of an entry.

    Returns:
        `verdict`, and of proven ones `engines` (with `delta` where it runs, else `no_delta`, the reason), `layers` by
        what they have; of refused ones the `identity`; of others the `reason`.

    Raises:
        WrongNumber: an accepted model whose numbers are wrong.
        Exception: whatever was raised that is no refusal.
    """
    try:
        model = build(entry)
        _require_forward(model)
    except NotBuilt as reason:
        return {"verdict": NOT_BUILT, "reason": str(reason)}
    try:
        loaded = load(model)
    except RefusedModel as refused:
        return {"verdict": REFUSED, "identity": refused.identity}
    found = _measured(loaded)
    return {"verdict": PROVEN, **found, "layers": sorted({_parts(block) for block in loaded.anatomy.blocks})}


def _require_forward(model: Any) -> None:
    """Refuses what does not give logits for token ids alone."""
    tokens, _ = texts()
    try:
        with plainly():
            given = logits(model, tokens)
    except Exception as error:
        raise NotBuilt(f"no forward on token ids: {type(error).__name__}: {str(error)[:150]}") from error
    if given.shape[:2] != tokens.shape or given.isnan().any():
        raise NotBuilt(f"a forward on token ids gives logits {tuple(given.shape)}")


def _parts(block: Any) -> str:
    """What a layer has, as in 'heads + mlp'."""
    names = [*(["heads"] if block.heads else []), *(["mixer"] if block.has_mixer else []), *["mlp"] * len(block.mlps)]
    scaled = "" if block.stream_multiplier == 1 else ", scaled as a whole"
    gated = "" if block.plain_means else ", no plain means"
    return " + ".join(names) + gated + scaled


def _measured(loaded: LanguageModel) -> Verdict:
    """Holds all engines to plain forwards on a head of every layer that has any."""
    blocks = loaded.anatomy.blocks
    projections = {layer: (block.projection, block.heads) for layer, block in enumerate(blocks) if block.heads}
    heads = [(layer, (3 * layer + 1) % number) for layer, (_, number) in projections.items()]
    truth = effects(loaded.network, projections, heads)
    tokens, donors = texts()
    found: Verdict = {"engines": []}
    with loaded.running():
        clean = clean_run(loaded, tokens)
        outputs = head_outputs(loaded, donors)
        for engine in (ReferenceEngine(), ReplayEngine(fold=2), DeltaEngine()):
            chosen = each(Head(*head) for head in heads)
            try:
                ledgers = list(engine.sweep(loaded, clean, chosen, lambda port: outputs[port.layer], True))
            except NotTraceable as problem:
                found["no_delta"] = problem.problem
                continue
            _require_right(engine.name, ledgers, truth)
            found["engines"].append(engine.name)
    return found


def _require_right(engine: str, ledgers: Iterable[Any], truth: dict[tuple[int, int], torch.Tensor]) -> None:
    size = torch.stack(list(truth.values())).abs().max()
    seen = set()
    for ledger in ledgers:
        if not ledger.residual.abs().max() <= _TOLERANCE * size:
            raise WrongNumber(f"{engine}: the ledger is open by {float(ledger.residual.abs().max() / size):.1e}")
        for row, intervention in enumerate(ledger.interventions):
            head = tuple(intervention.replaced[0])
            error = (ledger.total_effect[row] - truth[head]).abs().max() / size
            if not error <= _TOLERANCE:
                raise WrongNumber(f"{engine}: L{head[0]}H{head[1]} is off by {float(error):.1e}")
            seen.add(head)
    if seen != set(truth):
        raise WrongNumber(f"{engine} leaves out {sorted(set(truth) - seen)}")
