"""The verdict on one entry of the census: proven, refused or not built. Anything else raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from census.forwards import Part, effects, logits, plainly, texts
from census.small import NotBuilt, build
from selfrepair import DeltaEngine, Head, Mixer, ReferenceEngine, RefusedModel, ReplayEngine, each, load
from selfrepair.ablation.interventions import ports_of
from selfrepair.ablation.sites import Site
from selfrepair.engine.clean import clean_run, port_outputs
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
    """Holds all engines to plain forwards on a head and the mixer of every layer that has any."""
    parts: dict[Site, Part] = {}
    for layer, block in enumerate(loaded.anatomy.blocks):
        if block.heads:
            head = (3 * layer + 1) % block.heads
            parts[Head(layer, head)] = Part(block.projection, head, block.heads, is_input=True)
        if block.has_mixer:
            parts[Mixer(layer)] = Part(block.mixer_write)
    truth = dict(zip(parts, effects(loaded.network, list(parts.values())), strict=True))
    chosen, (tokens, donors) = each(parts), texts()
    found: Verdict = {"engines": []}
    with loaded.running():
        clean = clean_run(loaded, tokens, ports=ports_of(chosen))
        outputs = port_outputs(loaded, donors, ports_of(chosen))
        for engine in (ReferenceEngine(), ReplayEngine(fold=2), DeltaEngine()):
            try:
                ledgers = list(engine.sweep(loaded, clean, chosen, outputs.__getitem__, True))
            except NotTraceable as problem:
                found["no_delta"] = problem.problem
                continue
            _require_right(engine.name, ledgers, truth)
            found["engines"].append(engine.name)
    return found


def _require_right(engine: str, ledgers: Iterable[Any], truth: dict[Site, torch.Tensor]) -> None:
    size = torch.stack(list(truth.values())).abs().max()
    seen = set()
    for ledger in ledgers:
        if not ledger.residual.abs().max() <= _TOLERANCE * size:
            raise WrongNumber(f"{engine}: the ledger is open by {float(ledger.residual.abs().max() / size):.1e}")
        for row, intervention in enumerate(ledger.interventions):
            site = intervention.replaced[0]
            error = (ledger.total_effect[row] - truth[site]).abs().max() / size
            if not error <= _TOLERANCE:
                raise WrongNumber(f"{engine}: {site} is off by {float(error):.1e}")
            seen.add(site)
    if seen != set(truth):
        raise WrongNumber(f"{engine} leaves out {sorted(map(str, set(truth) - seen))}")
