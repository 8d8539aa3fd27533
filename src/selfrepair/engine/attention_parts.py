"""What heads read at one position of each window: attention weights, and the values of every source.

    z = sum_s a_s v_s

per head, where z is what the output projection reads and both z and the values v are without the value constant. It is
proven for every head and window against the projection's own input; nothing is normalised. Where it does not hold
(outputs that are gated or normalised, sinks without a value), what such a head reads cannot be attributed to its
sources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from selfrepair.engine.attention_products import Fed, Product, Products, fused_weights, repeated
from selfrepair.engine.watched import eager_attention
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Block
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Arguments, on_call, on_input, removing

_READABLE = (None, "eager", "sdpa")


@dataclass(frozen=True)
class Scores:
    """The product that attention scores are made of.

    Attributes:
        number: number of the product in its block.
        queries: its first factor, as the module has it.
        keys: its second factor.
    """

    number: int
    queries: Tensor
    keys: Tensor

    def fed(self, queries: bool, keys: bool) -> Fed:
        """This run's queries or keys, or both, for the same product of another run."""
        return Fed(self.number, self.queries if queries else None, self.keys if keys else None)


@dataclass(frozen=True)
class HeadReads:
    """What a layer's heads read at one position of each window.

    Attributes:
        weights: [window, head, source].
        values: values of all sources, without the value constant, [window, head, source, size].
        outputs: heads' outputs, as the projection reads them, without the value constant, [window, head, size].
        scores: what the weights are made of; None where that was not found.
    """

    weights: Tensor
    values: Tensor
    outputs: Tensor
    scores: Scores | None

    @property
    def error(self) -> Tensor:
        """How far the weighted values are from the outputs, relative to the largest of either, [window, head]."""
        sums = torch.einsum("whs,whse->whe", self.weights, self.values)
        terms = self.weights.abs() * self.values.abs().amax(-1)
        size = torch.maximum(self.outputs.abs().amax(-1), terms.amax(-1)).clamp_min(1e-30)
        return ((sums - self.outputs).abs().amax(-1) / size).nan_to_num(nan=torch.inf)


@contextmanager
def readable_attention(model: LanguageModel) -> Iterator[None]:
    """The model's own attention where its products are PyTorch's, as in `sdpa`; plain attention in place of other
    kernels. It is not changed without need: a model's two ways need not compute the same (Falcon with ALiBi)."""
    if model.network.config._attn_implementation in _READABLE:
        yield
        return
    with eager_attention(model):
        yield


@contextmanager
def watched_reads(
    model: LanguageModel, layers: Collection[int], positions: Tensor, fed: Mapping[int, Fed] | None = None
) -> Iterator[dict[int, HeadReads]]:
    """A forward of the trunk in here leaves what heads read, by layer. Call under `readable_attention`.

    Outputs are those that attention has computed, before hooks that were registered later replace them.

    Args:
        model: the model.
        layers: layers to watch.
        positions: one of each window [window].
        fed: queries or keys that some layers use in place of their own.

    Raises:
        SelfRepairError: in a layer nothing was seen that weights every source's value.
    """
    products, seen = Products(fed or {}), dict[int, HeadReads]()

    def enter(layer: int, _arguments: Arguments) -> None:
        products.enter(layer)

    def finish(layer: int, projected: Tensor) -> None:
        block = model.anatomy.blocks[layer]
        seen[layer] = _reads(layer, block, products.leave(layer), projected.detach(), positions)

    taps = []
    for layer in layers:
        block = model.anatomy.blocks[layer]
        taps.append(on_call(block.module, partial(enter, layer)))
        taps.append(on_input(block.projection, partial(finish, layer)))
    with removing(*taps), products:
        yield seen


def _reads(layer: int, block: Block, products: list[Product], projected: Tensor, positions: Tensor) -> HeadReads:
    """What the heads of one layer read, from the product whose result the projection reads."""
    windows = torch.arange(len(positions), device=positions.device)
    length = projected[..., 0].numel() // len(positions)
    outputs = block.heads_place.split(projected.reshape(len(positions), length, -1)[windows, positions])
    best: HeadReads | None = None
    for product in reversed(products):
        parts = _weights_and_values(product, block, length, positions)
        if parts is None:
            continue
        weights, values = parts
        scores = _scores(products, product, (len(positions), block.heads, length))
        reads = HeadReads(weights, values - block.value_constant[:, None], outputs, scores)
        if best is None or float(reads.error.max()) < float(best.error.max()):
            best = reads
    if best is None:
        kind = type(block.module).__name__
        raise SelfRepairError(
            f"What heads of layer {layer} read cannot be split by source: {kind} computes no product of attention "
            f"weights [window, head, position, source] with values on its way to the output projection.",
            "Attention that is not a weighted mean of values of this text's tokens (linear attention, state spaces, "
            "cached prefixes, einsum) has lines, but no split.",
        )
    return best


def _weights_and_values(product: Product, block: Block, length: int, positions: Tensor) -> tuple[Tensor, Tensor] | None:
    """A product's factors, if they have the shapes of weights and values, at the positions."""
    number, heads = len(positions), block.heads
    values = product.operands[-1]
    if values.shape[-2:] != (length, block.head_dim):
        return None
    groups, rest = divmod(values[..., 0, 0].numel(), number)
    if rest or not groups or heads % groups:
        return None
    values = repeated(values.reshape(number, -1, length, block.head_dim), heads)
    windows = torch.arange(number, device=positions.device)
    if product.options is not None:
        if product.operands[0].shape[:-1] != (number, heads, length):
            return None
        return fused_weights(product, positions).to(values.dtype), values.clone()
    weights = product.operands[0]
    if weights.shape[-2:] != (length, length) or weights.numel() != number * heads * length * length:
        return None
    return weights.reshape(number, heads, length, length)[windows, :, positions].to(values.dtype), values.clone()


def _scores(products: list[Product], weighting: Product, shape: tuple[int, int, int]) -> Scores | None:
    """The product that scores are made of: the last before the weighting that has one entry for each weight."""
    if weighting.options is not None:
        return Scores(weighting.number, weighting.operands[0].clone(), weighting.operands[1].clone())
    windows, heads, length = shape
    for product in reversed(products[: weighting.number]):
        whole = product.result.numel() == windows * heads * length * length
        if product.options is None and whole and product.result[-2:] == (length, length):
            return Scores(product.number, product.operands[0].clone(), product.operands[1].clone())
    return None
