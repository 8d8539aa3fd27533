"""What heads attend to and read, by the model's `output_attentions` and hand-written values: the oracle of splits."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import oracle
from .anatomy import Anatomy, value_constants


@dataclass
class Reads:
    """One forward, at all positions.

    Attributes:
        weights: [layer, window, head, query, source].
        values: without the value constant, [layer, window, source, head, head_dim].
    """

    weights: Tensor
    values: Tensor


def reads(model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, ablated: tuple[int, int] | None = None) -> Reads:
    """A forward of a model with eager attention, in float64; the ablated head puts out its constant alone."""
    layers, read = range(anatomy.layers(model)), {}
    constants = value_constants(model, anatomy)
    with ExitStack() as stack:
        if ablated is not None:
            layer, head = ablated
            replacing = oracle._replacing(
                anatomy.part(model, layer, "o_proj"), head, anatomy.head_dim, constants[layer, head]
            )
            stack.enter_context(replacing)
        for layer in layers:
            block = anatomy.block(model, layer)
            if anatomy.attention_norm is None:
                handle = block.register_forward_pre_hook(
                    lambda _m, args, at=layer: read.__setitem__(at, args[0].clone())
                )
            else:
                norm = anatomy.part(model, layer, "attention_norm")
                handle = norm.register_forward_hook(lambda _m, _a, out, at=layer: read.__setitem__(at, out.clone()))
            stack.callback(handle.remove)
        with oracle.in_float64():
            weights = model(tokens, use_cache=False, output_attentions=True).attentions
            values = [anatomy.values(anatomy.part(model, at, "attention"), read[at]) - constants[at] for at in layers]
    return Reads(torch.stack([one.reshape(len(tokens), -1, *one.shape[-2:]) for one in weights]), torch.stack(values))


@dataclass
class Split:
    """Lines of all heads at one position of each window, [layer, window, head, source] each."""

    qk: Tensor
    ov: Tensor


def split(
    model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, positions: Tensor, u: Tensor, ablated: tuple[int, int]
) -> Split:
    """The split of all heads' lines along u [window, width], source by source."""
    windows = torch.arange(len(tokens))
    clean, after = reads(model, anatomy, tokens), reads(model, anatomy, tokens, ablated)
    trace = oracle.trace(model, anatomy, tokens)
    sigma = anatomy.scale(model.get_submodule(anatomy.final_norm), trace.residual)[windows, positions]
    qk, ov = torch.zeros_like(clean.weights[:, :, :, 0]), torch.zeros_like(clean.weights[:, :, :, 0])
    for layer, _, head, source in torch.cartesian_prod(
        *(torch.arange(n) for n in (len(qk), 1, *qk.shape[2:]))
    ).tolist():
        into_stream = oracle._into_stream(model, anatomy, layer, trace.attention[layer][windows, positions])
        weights = [run.weights[layer, windows, head, positions, source] for run in (clean, after)]
        worths = [
            (u * into_stream(run.values[layer, :, source, head] @ anatomy.w_o(model, layer, head))).sum(-1) / sigma
            for run in (clean, after)
        ]
        qk[layer, :, head, source] = (weights[1] - weights[0]) * (worths[0] + worths[1]) / 2
        ov[layer, :, head, source] = (weights[0] + weights[1]) / 2 * (worths[1] - worths[0])
    return Split(qk, ov)
