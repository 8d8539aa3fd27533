"""Captures the arguments that blocks get in a real forward: masks, rotary tables, ALiBi and the like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor

from selfrepair.errors import RefusedModel
from selfrepair.model.anatomy import Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Arguments, main_input


class _AllSeen(Exception):
    """Ends the trunk's forward at its last block."""


def block_arguments(model: LanguageModel, tokens: Tensor) -> list[Arguments]:
    """Per layer, the arguments of the block for exactly these texts; their hidden states are placeholders.

    A mask made here would be a trap (under eager attention a missing mask is not causal), and which axis of a
    tensor counts windows is not certain (ALiBi counts windows times heads). So the model's own trunk makes
    the arguments, with blocks that hand their input on. They are made for every batch and every use: some are made
    of the token ids (experts chosen by token, per-layer embeddings, masks of padding), and blocks may change what
    they are given (caches). No weight of a block is touched, so this costs little more than the embeddings.

    Args:
        model: the model. Call under `model.running()`.
        tokens: [window, position], repeated where several runs of the same windows share a batch.

    Raises:
        RefusedModel: the trunk leaves out a block.
    """
    captured: list[Arguments] = []
    with _handing_on(model.anatomy.blocks, captured), suppress(_AllSeen):
        model.run_trunk(tokens)
    if len(captured) != model.anatomy.layers:
        raise RefusedModel(
            "blocks",
            f"on some text {len(captured)} of {model.anatomy.layers} blocks are called.",
            "Models that skip blocks (LayerSkip, mixture of depths) are not supported: load the plain model.",
        )
    return captured


@contextmanager
def _handing_on(blocks: tuple[Block, ...], captured: list[Arguments]) -> Iterator[None]:
    """Blocks that keep their arguments and return their input, for as long as this lasts.

    Their hooks rest: they act on the arguments when the block is really called, and are not to do so twice; those of
    offloaded weights would read every block from disk.
    """
    with ExitStack() as stack:
        for block in blocks:
            own = vars(block.module)
            call = {
                "forward": partial(_hand_on, captured, block.returns, len(blocks)),
                "_forward_pre_hooks": OrderedDict(),
                "_forward_hooks": OrderedDict(),
                "_compiled_call_impl": None,
            }
            stack.callback(_restore, own, {name: own[name] for name in call if name in own}, set(call))
            own.update(call)
        yield


def _hand_on(
    captured: list[Arguments], returns: int, blocks: int, *args: Any, **kwargs: Any
) -> Tensor | tuple[Tensor | None, ...]:
    captured.append((args, kwargs))
    if len(captured) == blocks:
        raise _AllSeen
    hidden = main_input((args, kwargs))
    return (hidden, *[None] * (returns - 1)) if returns else hidden


def _restore(own: dict[str, Any], before: dict[str, Any], changed: set[str]) -> None:
    for name in changed - set(before):
        del own[name]  # the class's is used again
    own.update(before)
