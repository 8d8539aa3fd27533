"""Ablated runs that replace several things at once, by plain forwards with hooks: the oracle of interventions.

A patch is a mask and values: where the mask is true, what a module reads or writes is overwritten. Nothing here knows
of sites, ports or engines.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from . import oracle
from .anatomy import Anatomy, value_constants


@dataclass
class Patches:
    """What one run overwrites, by layer.

    Attributes:
        heads: masks [position, head] and values [window, position, head, head_dim], constants included.
        mlps: masks [position] and values [window, position, width], as the module puts them out.
        neurons: the map, masks [position, neuron] and values [window, position, neuron].
        directions: unit vectors [width], masks [position] and values [window, position]: what the block's output is to
            hold along the vector.
    """

    heads: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    mlps: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    neurons: dict[int, tuple[nn.Module, Tensor, Tensor]] = field(default_factory=dict)
    directions: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)


def mlp_module(model: PreTrainedModel, anatomy: Anatomy, layer: int) -> nn.Module:
    return anatomy.part(model, layer, "post_mlp_norm" if anatomy.post_mlp_norm else "mlp")


def trace(model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, patches: Patches) -> oracle.Trace:
    """A forward under patches, recorded."""

    def overwrite(mask: Tensor, values: Tensor):
        def on_input(_module, args):
            given = args[0]
            shaped = given.reshape(values.shape)
            return (torch.where(mask, values, shaped).reshape(given.shape).contiguous(), *args[1:])

        return on_input

    def overwrite_output(mask: Tensor, values: Tensor):
        def on_output(_module, _args, out):
            return torch.where(mask, values, out.reshape(values.shape)).reshape(out.shape).contiguous()

        return on_output

    def along(vector: Tensor, mask: Tensor, values: Tensor):
        def on_output(_module, _args, out):
            stream = out[0] if isinstance(out, tuple) else out
            rows = stream.reshape(*values.shape, -1)
            # r - (r - m).d d, written out as a matrix product
            erased = rows @ (torch.eye(len(vector), dtype=rows.dtype) - torch.outer(vector, vector))
            moved = torch.where(mask[:, None], erased + values[..., None] * vector, rows).reshape(stream.shape)
            return (moved, *out[1:]) if isinstance(out, tuple) else moved

        return on_output

    with ExitStack() as stack:
        for layer, (vector, mask, values) in patches.directions.items():
            block = anatomy.block(model, layer)
            stack.callback(block.register_forward_hook(along(vector, mask, values)).remove)
        for layer, (mask, values) in patches.heads.items():
            projection = anatomy.part(model, layer, "o_proj")
            hook = overwrite(mask[..., None], values)
            stack.callback(projection.register_forward_pre_hook(hook).remove)
        for module, mask, values in patches.neurons.values():
            stack.callback(module.register_forward_pre_hook(overwrite(mask, values)).remove)
        for layer, (mask, values) in patches.mlps.items():
            module = mlp_module(model, anatomy, layer)
            stack.callback(module.register_forward_hook(overwrite_output(mask[..., None], values)).remove)
        return oracle.trace(model, anatomy, tokens)


@dataclass
class Change:
    """What a run changed, per prediction [window, P], in centred logits; lines are by component.

    Attributes:
        total_effect: from the model's own logits.
        heads: changes of all heads' direct effects by position read, [layer, head, window, P].
        mlps: the same of MLPs [layer, window, P].
        post_norms: [window, P].
        norm: [window, P].
    """

    total_effect: Tensor
    heads: Tensor
    mlps: Tensor
    post_norms: Tensor
    norm: Tensor


def change(model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, patches: Patches) -> Change:
    """Two runs, clean and patched, and what lies between them."""
    clean, ablated = oracle.trace(model, anatomy, tokens), trace(model, anatomy, tokens, patches)
    targets = torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1)  # the last position's is a filler, cut off below
    u, beta = oracle.directions(model, anatomy, targets)
    final = model.get_submodule(anatomy.final_norm)
    sigma, sigma_ablated = anatomy.scale(final, clean.residual), anatomy.scale(final, ablated.residual)
    constants = value_constants(model, anatomy)
    before, after = (oracle._head_lines(model, anatomy, run.z, constants, clean, u, sigma) for run in (clean, ablated))
    heads = after - before
    mlps = (u * (ablated.mlps - clean.mlps)).sum(-1) / sigma
    post_norms = torch.zeros_like(sigma)
    if anatomy.post_attention_norm is not None:
        for layer in range(anatomy.layers(model)):
            norm = anatomy.part(model, layer, "post_attention_norm")
            moved = anatomy.apply(norm, ablated.attention[layer]) - anatomy.apply(norm, clean.attention[layer])
            post_norms += anatomy.residual_multiplier * (u * moved).sum(-1) / sigma - heads[layer].sum(0)
    logits = [oracle.centred_target(run.logits, tokens, anatomy.soft_cap) for run in (clean, ablated)]
    norm_line = (1 - sigma_ablated / sigma)[:, :-1] * (logits[1] - beta[:, :-1])
    return Change(logits[1] - logits[0], heads[..., :-1], mlps[..., :-1], post_norms[:, :-1], norm_line)
