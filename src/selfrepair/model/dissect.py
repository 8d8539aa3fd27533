"""Finds and reads the `Anatomy` of a Hugging Face causal language model: blocks, heads, norms, unembedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import RefusedModel
from selfrepair.model.anatomy import Anatomy, Block, Unembedding
from selfrepair.model.block_reading import read_block
from selfrepair.model.configuration import setting
from selfrepair.model.faults import finding
from selfrepair.model.gains import without_gains
from selfrepair.model.given_objects import inner_models
from selfrepair.model.norms import REFUSED, read_norm
from selfrepair.model.precision import running
from selfrepair.model.scales import scaled_unembedding
from selfrepair.model.structure import Structure, find_structure, signature
from selfrepair.model.taps import (
    Arguments,
    keeping,
    main_argument,
    main_input,
    on_call,
    on_output,
    removing,
)

_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # configurations' names of the cap
_POSITIONS = 6  # of the longest forward from which a block's arguments are captured


def dissect(model: Any, each_layer: bool = False) -> Anatomy:
    """Finds and reads all parts of `model`.

    Args:
        model: a `transformers.PreTrainedModel` with a language-modelling head, in eval mode.
        each_layer: whether each layer is studied by itself, not one of each kind.

    Raises:
        RefusedModel: where a part cannot be found or does not do what the ledger needs.
    """
    with finding("the unembedding"):
        trunk, head, plain = model.base_model, *_unembedding(model)
    dtype, device = plain.weight.dtype, plain.weight.device
    most = longest(model, _POSITIONS)
    with finding("token ids that it knows"):
        tokens = {n: probe_tokens(model, n) for n in sorted({1, 2, most}, reverse=True)}
    with running(dtype):
        with finding("the blocks"):
            modules = find_blocks(trunk, tokens[most])
        with finding("the blocks' arguments"):
            captured = {n: capture(trunk, modules, given) for n, given in tokens.items()}
            width = _stream_width(captured, tokens)
    structures: dict[object, Structure] = {}
    blocks = []
    for layer, module in enumerate(modules):
        with finding(f"the parts of layer {layer}"):
            arguments = {n: captured[n][layer] for n in tokens}
            key: object = layer if each_layer else signature(module)
            if key not in structures:
                structures[key] = find_structure(module, arguments, width)
            with running(dtype):
                blocks.append(read_block(module, structures[key], arguments[most], width, dtype, device))
    if not any(block.heads or block.has_mixer for block in blocks):
        raise RefusedModel(
            "attention",
            "no layer has attention heads, or a mixer in their place.",
            "What moves information between positions has to write into the residual stream.",
        )
    with running(dtype), finding("the final norm"):
        final_module = _module_after(trunk, modules[-1], tokens[most])
        final_norm = read_norm(final_module, width, dtype, device)
    if final_norm is None:
        raise RefusedModel(
            "final norm", f"{type(final_module).__name__} computes neither LayerNorm nor RMSNorm.", REFUSED
        )
    with running(dtype), finding("the read-out"):
        unembedding = scaled_unembedding(model, final_module, head, plain, tokens[most])
    return Anatomy(trunk, tuple(_scaled(blocks))[::-1], final_norm, final_module, unembedding)


def longest(model: Any, wanted: int) -> int:
    """As many positions as wanted, or as the model can read."""
    most = setting(model, "max_position_embeddings")
    return min(wanted, most) if isinstance(most, int) and most > 0 else wanted  # XLNet writes -1 for no limit


def probe_tokens(model: Any, length: int, windows: int = 1, seed: int = 0) -> Tensor:
    """Random token ids [windows, length] that the model can read and predict."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, known_tokens(model), (windows, length), generator=generator)
    return tokens.to(model.get_input_embeddings().weight.device)


def known_tokens(model: Any) -> int:
    """How many token ids, from 0 on, have both a row in the embedding and one in the unembedding."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(int(table.weight.shape[0]) for table in tables)


def find_blocks(trunk: nn.Module, tokens: Tensor) -> list[nn.Module]:
    """The decoder blocks: the longest list of modules that are each called once in a forward, in order."""
    lists = [m for m in trunk.modules() if isinstance(m, nn.ModuleList) and len(m)]
    called: list[nn.Module] = []
    handles = [entry.register_forward_pre_hook(lambda m, _: called.append(m)) for group in lists for entry in group]
    with removing(*handles):
        trunk(tokens, use_cache=False)
    complete = [list(m) for m in lists if [entry for entry in called if entry in set(m)] == list(m)]
    inner = {module for entries in complete for entry in entries for module in entry.modules() if module is not entry}
    outermost = [entries for entries in complete if entries[0] not in inner]
    if not outermost:
        raise RefusedModel(
            "blocks",
            "no list of decoder blocks is called one after the other.",
            "Every block of an `nn.ModuleList` has to be called once, in order; blocks that are shared, skipped or "
            "called otherwise are not supported.",
        )
    return max(outermost, key=len)


def capture(trunk: nn.Module, blocks: list[nn.Module], tokens: Tensor) -> list[Arguments]:
    """Every block's arguments in a real forward of the trunk on `tokens`."""
    captured: dict[nn.Module, Arguments] = {}
    handles = [on_call(block, partial(captured.__setitem__, block)) for block in blocks]
    with removing(*handles):
        trunk(tokens, use_cache=False)
    return [captured[block] for block in blocks]


def _module_after(trunk: nn.Module, last_block: nn.Module, tokens: Tensor) -> nn.Module:
    """The first module called after the last block: the final norm. It must read the block's very output."""
    left: dict[str, Tensor] = {}
    after: list[tuple[nn.Module, Tensor]] = []

    def read(module: nn.Module, arguments: Arguments) -> None:
        value = main_argument(arguments)
        if left and isinstance(value, Tensor):  # Pegasus's position embeddings are called with a shape
            after.append((module, value))

    inside = set(last_block.modules())
    handles = [
        on_call(module, partial(read, module))
        for module in trunk.modules()
        if module not in inside and not list(module.children())
    ]
    with removing(*handles, on_output(last_block, keeping(left, "output"))):
        trunk(tokens, use_cache=False)
    if not after or not torch.equal(after[0][1], left["output"]):
        raise RefusedModel("final norm", "the last block's output is not what a final norm reads.", REFUSED)
    return after[0][0]


def _unembedding(model: Any) -> tuple[nn.Module, Unembedding]:
    """The unembedding, and what it computes by itself."""
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None:
        inner = next(inner_models(model), None)
        lacks = "no unembedding" if head is None else f"an unembedding without a weight ({type(head).__name__})"
        raise RefusedModel(
            "read-out",
            f"{type(model).__name__} has {lacks}.",
            "Give a model with a language-modelling head" + ("." if inner is None else f": {inner}."),
        )
    bias = getattr(head, "bias", None)
    softcap = next((cap for name in _SOFTCAPS if (cap := setting(model, name)) is not None), None)
    return head, Unembedding(weight.detach(), None if bias is None else bias.detach(), 1.0, softcap)


def _stream_width(captured: dict[int, list[Arguments]], tokens: dict[int, Tensor]) -> int:
    """Width of the residual stream: one vector for every token, in every block.

    Raises:
        RefusedModel: several streams (hyper-connections, AltUp), or positions without a token.
    """
    width = main_input(captured[min(tokens)][0]).shape[-1]
    for length, given in tokens.items():
        for layer, arguments in enumerate(captured[length]):
            shape = tuple(main_input(arguments).shape)
            if shape != (*given.shape, width):
                raise RefusedModel(
                    "one residual stream",
                    f"on {length} tokens layer {layer} reads hidden states of shape {shape}, not "
                    f"{(*given.shape, width)} for [window, position, width].",
                    "Several residual streams (hyper-connections, AltUp, n-gram streams) and positions without a "
                    "token of the text (prompts of the model's own) are not supported.",
                )
    return width


def _scaled(blocks: list[Block]) -> Iterator[Block]:
    """Blocks, last first, with multipliers as their writes arrive in the final stream."""
    later, gain = 1.0, None
    for block in reversed(blocks):
        gains = block.gains
        if gain is not None or any(other.gains is not None for other in blocks):
            gains = gains or without_gains(len(block.mlps), block.output_weight)
            gain = torch.ones_like(gains.later) if gain is None else gain
            gains, gain = replace(gains, later=gain), gain * gains.stream
        yield replace(block.scaled(later), gains=gains)
        later *= block.stream_multiplier
