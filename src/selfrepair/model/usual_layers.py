"""What is written for layers of heads and one MLP refuses models that have others."""

from __future__ import annotations

from collections.abc import Callable

from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy, Block


def require_usual_layers(anatomy: Anatomy, what: str) -> None:
    """Refuses a model with layers that are not just heads and one MLP, whose tables would leave parts out.

    Args:
        anatomy: the model's parts.
        what: needs the usual layers, as in 'questions on prompts'.

    Raises:
        SelfRepairError: names the first other layer, and what it has.
    """
    require_alone(anatomy, what)
    _require_none(anatomy, _unusual, f"{what} know of heads and one MLP in each layer alone")


def require_alone(anatomy: Anatomy, what: str) -> None:
    """Refuses a model whose blocks cannot be run one by one.

    Args:
        anatomy: the model's parts.
        what: runs them so, as in 'questions on prompts'.

    Raises:
        SelfRepairError: they hand values on beside the residual stream.
    """
    if not anatomy.alone:
        raise SelfRepairError(
            f"Layers of this model share more than the residual stream, and {what} run layers one by one.",
            "Measure it with `selfrepair run`, which lets the model run all of its layers.",
        )


def require_plain_stream(anatomy: Anatomy, what: str) -> None:
    """Refuses a model whose layers share more than the residual stream, or scale its dimensions one by one.

    Args:
        anatomy: the model's parts.
        what: needs a plain stream, as in 'questions on prompts'.

    Raises:
        SelfRepairError: it has another.
    """
    require_alone(anatomy, what)
    _require_none(anatomy, _scaled, f"{what} do not know of that")


def _require_none(anatomy: Anatomy, found: Callable[[Block], str | None], reason: str) -> None:
    """Refuses a model with a layer that a function says something of."""
    for layer, block in enumerate(anatomy.blocks):
        other = found(block)
        if other is not None:
            raise SelfRepairError(
                f"Layer {layer} of this model {other}: {reason}.",
                "Measure it with `selfrepair run`, whose ledger has lines for all of its parts.",
            )


def _scaled(block: Block) -> str | None:
    return None if block.gains is None else "multiplies each dimension of the residual stream with a number of its own"


def _unusual(block: Block) -> str | None:
    if block.has_mixer:
        return "has a mixer (a state space, a convolution or the like without heads)"
    if not block.heads:
        return "has no heads"
    if len(block.mlps) != 1:
        return "has no MLP" if not block.mlps else f"has an MLP of {len(block.mlps)} parts that write side by side"
    if block.stream_multiplier != 1:
        return f"multiplies the residual stream with {block.stream_multiplier:g}"
    return _scaled(block)
