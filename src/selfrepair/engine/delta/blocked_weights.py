"""Weights in bfloat16 in the order in which the processor's library (oneDNN) multiplies them.

torch has this for models whose weights are constants of a compiled graph. Here weights are inputs, so that one graph
serves all layers; an operation of our own keeps the compiler from looking inside.
"""

from __future__ import annotations

import torch
from torch import Tensor


def takes_blocks(weight: Tensor) -> bool:
    """Whether a weight's products can be made in blocks on this machine.

    Args:
        weight: [inputs, outputs].
    """
    return weight.device.type == "cpu" and weight.ndim == 2 and _supported()


def blocked(weight: Tensor) -> Tensor:
    """A weight in the library's own order; torch calls its layout `torch._mkldnn`.

    Args:
        weight: [inputs, outputs], bfloat16.
    """
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous())
    return packed


@torch.library.custom_op("selfrepair::product_in_blocks", mutates_args=())
def product_in_blocks(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight`, bfloat16.

    Args:
        rows: [..., inputs].
        weight: what `blocked` gives.

    Returns:
        [..., outputs].
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
    return product


@product_in_blocks.register_fake
def _(rows: Tensor, weight: Tensor) -> Tensor:
    return rows.new_empty(*rows.shape[:-1], weight.shape[0])


def _supported() -> bool:
    library = torch.ops.mkldnn
    has = all(hasattr(library, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    return has and bool(library._is_mkldnn_bf16_supported())
