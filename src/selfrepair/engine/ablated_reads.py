"""What heads read in an ablated run, and what they would read if only their queries or only their keys had changed.

Weights under mixed queries and keys are the model's own: the ablated run is done again with the clean run's queries or
keys in the product that scores are made of, and the projection's input as it was, so that nothing else changes. Scales,
caps, masks and biases need not be known. With the clean run's queries and keys together the weights have to be the
clean run's; where they are not, scores are made of something else too, and the two sides cannot be separated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.effects.readouts import Reading
from selfrepair.engine.ablated_outputs import patched
from selfrepair.engine.attention_parts import HeadReads, watched_reads
from selfrepair.engine.attention_products import Fed
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.contract import Replacement
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.proofs import tolerance
from selfrepair.model.taps import keeping, on_input, removing


@dataclass(frozen=True)
class MixedWeights:
    """Attention weights with the queries of one run and the keys of another, by layer [window, head, source].

    Attributes:
        clean_queries: clean queries, keys of the ablated run.
        clean_keys: queries of the ablated run, clean keys.
    """

    clean_queries: Mapping[int, Tensor]
    clean_keys: Mapping[int, Tensor]


@dataclass(frozen=True)
class AblatedReads:
    """What some layers' heads read in an ablated run.

    Attributes:
        reads: what heads read, by layer.
        mixed: mixed weights of the layers whose queries and keys can be separated.
    """

    reads: Mapping[int, HeadReads]
    mixed: MixedWeights


def clean_reads(
    model: LanguageModel, tokens: Tensor, reading: Reading, ports: Collection[Port], layers: Collection[int]
) -> tuple[CleanRun, dict[int, HeadReads]]:
    """The clean run of a batch, and what heads read at the one position of each window that is measured.

    Call under `model.running()` and `readable_attention`.

    Args:
        model: the model.
        tokens: [window, position].
        reading: what is measured, at one position of each window.
        ports: at which outputs are kept.
        layers: layers whose heads are watched.
    """
    with watched_reads(model, layers, answer_positions(reading)) as reads:
        clean = clean_run(model, tokens, reading, ports)
    return clean, reads


def ablated_reads(
    model: LanguageModel,
    clean: CleanRun,
    before: Mapping[int, HeadReads],
    intervention: Intervention,
    replacement: Replacement,
    sides: bool,
) -> AblatedReads:
    """What heads read in an ablated run. Call under `model.running()` and `readable_attention`.

    Args:
        model: the model.
        clean: the clean run, with the outputs at all ports of the intervention.
        before: what heads read in the clean run.
        intervention: the ablated run.
        replacement: what goes in the place of replaced outputs.
        sides: whether queries and keys are separated, for three more forwards.
    """
    replaced = {port: replacement(port) for port in sorted(ports_of([intervention]))}
    projected: dict[int, Tensor] = {}

    def forward(fed: Mapping[int, Fed] | None = None) -> dict[int, HeadReads]:
        with ExitStack() as stack:  # reads first: they are of what attention computes, not of what is put there
            reads = stack.enter_context(watched_reads(model, before, answer_positions(clean.reading), fed))
            stack.enter_context(patched(model, clean, intervention, replaced.__getitem__))
            for layer in before:
                projection = model.anatomy.blocks[layer].projection
                read = keeping(projected, layer) if fed is None else lambda _value, layer=layer: projected[layer]
                stack.enter_context(removing(on_input(projection, read)))
            model.run_trunk(clean.tokens)
        return reads

    reads = forward()
    layers = [layer for layer, state in before.items() if sides and state.scores is not None]
    if not layers:
        return AblatedReads(reads, MixedWeights({}, {}))

    def mixed(queries: bool, keys: bool) -> dict[int, Tensor]:
        ablated = forward({layer: _scores(before, layer, queries, keys) for layer in layers})
        return {layer: ablated[layer].weights for layer in layers}

    clean_again, allowed = mixed(True, True), tolerance(model.dtype)
    proven = [layer for layer in layers if bool(_apart(clean_again[layer], before[layer].weights) <= allowed)]
    queries, keys = mixed(True, False), mixed(False, True)
    return AblatedReads(
        reads, MixedWeights({layer: queries[layer] for layer in proven}, {layer: keys[layer] for layer in proven})
    )


def answer_positions(reading: Reading) -> Tensor:
    """The position of each window that is measured [window]; there has to be one."""
    if reading.positions is None or reading.positions.shape[1] != 1:
        raise ValueError("what heads read is watched at one position of each window")
    return reading.positions[:, 0]


def _scores(before: Mapping[int, HeadReads], layer: int, queries: bool, keys: bool) -> Fed:
    scores = before[layer].scores
    assert scores is not None
    return scores.fed(queries, keys)


def _apart(computed: Tensor, wanted: Tensor) -> Tensor:
    return (computed - wanted).abs().max().nan_to_num(nan=torch.inf)
