"""Finds where heads begin in the input of an output projection.

A head mixes one value vector per position with one weight per position. Two ways show it on random weights:

* plain means: with two positions each entry is `v0 + p (v1 - v0)`, with one `p` per head: where `p` jumps, a head
  begins;
* everything else that is linear in the values (attention sinks, gated outputs, a norm over all heads): texts are made
  of `x`, `-x` and one fixed last position, so that a head's outputs lie in a space of few dimensions, whatever its
  weights, gates and sinks do. Entries of two heads together need more: where the rank jumps, a head begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HeadInputs = Callable[[Tensor], Tensor]
"""From a block's input [1, position, width] to what the projection reads at all its positions [position, entry]."""

_FIT = 1e-7  # relative; random float64 weights leave rounding far below it and nothing else near it
_PAIRS = 8  # pairs of positions by which heads are distinguished; clipped values (OLMo) blind a single pair
_TEXTS = 14  # made of few vectors, by which ranks are found
_MOST = 4  # dimensions of a head's outputs on these texts: of `x`, `-x` and the last position, and one to spare
_RANK = 1e-8  # relative to the largest singular value


@dataclass(frozen=True)
class HeadLayout:
    """Heads side by side.

    Attributes:
        heads: how many there are.
        head_dim: width of each.
        plain_means: whether each head's output is a mean of values, with weights that sum to one.
    """

    heads: int
    head_dim: int
    plain_means: bool


def head_layout(inputs: HeadInputs, longest: int, width: int) -> HeadLayout | None:
    """How heads lie in the projection's input; None where there are no heads.

    Args:
        inputs: runs a block with random weights.
        longest: positions that it can be run on, beside 1 and 2.
        width: width of the stream.
    """
    sizes = _sizes_of_means(inputs, width)
    if sizes is not None:
        return HeadLayout(len(sizes), sizes[0], True)
    sizes = _sizes_by_rank(inputs, longest, width)
    return None if sizes is None else HeadLayout(len(sizes), sizes[0], False)


def _sizes_of_means(inputs: HeadInputs, width: int) -> list[int] | None:
    """Widths of heads from the mixing weight `p`, which is one number per head."""
    shares = torch.stack([_mixing_shares(inputs, width) for _ in range(_PAIRS)])
    change = shares.diff(dim=1).abs().nan_to_num(0).amax(0)
    starts = (change > 1e-6).nonzero().flatten() + 1
    sizes = torch.tensor([0, *starts.tolist(), shares.shape[1]]).diff()
    means = ((shares > 0) & (shares < 1) | shares.isnan()).all() and (shares.nan_to_num(0).std(0) > 1e-6).all()
    return sizes.tolist() if means and sizes[0] > 1 and (sizes == sizes[0]).all() else None


def _mixing_shares(inputs: HeadInputs, width: int) -> Tensor:
    """`p` in `v0 + p (v1 - v0)` for every entry of the projection's input; NaN where clipping made v1 = v0."""
    hidden = torch.randn(1, 2, width, dtype=torch.float64)
    first, mixed = inputs(hidden)
    moved = inputs(hidden[:, 1:])[0] - first
    return torch.where(moved.abs() > _FIT, (mixed - first) / moved, torch.nan)


def _sizes_by_rank(inputs: HeadInputs, longest: int, width: int) -> list[int] | None:
    """Widths of heads from the ranks of neighbouring entries at the last position of texts made of few vectors."""
    vector, last = torch.randn(2, width, dtype=torch.float64)
    texts = [last[None], torch.stack([vector, last]), torch.stack([-vector, last])]
    while len(texts) < _TEXTS:
        signs = torch.randn(longest - 1, 1, dtype=torch.float64).sign()
        others = torch.rand(longest - 1, 1, dtype=torch.float64) < 0.3
        texts.append(torch.cat([signs * torch.where(others, last, vector), last[None]]))
    outputs = torch.stack([inputs(text[None])[-1] for text in texts])
    outputs = outputs / outputs.norm(dim=0).clamp_min(1e-300)
    entries, most = outputs.shape[1], _rank(outputs[:, : _MOST + 1])
    if most > _MOST:
        return None
    starts = [0]
    for entry in range(1, entries):
        if entry - starts[-1] >= most and _rank(outputs[:, starts[-1] : entry + 1]) > most:
            starts.append(entry)
    sizes = torch.tensor([*starts, entries]).diff()
    return sizes.tolist() if sizes[0] > 1 and (sizes == sizes[0]).all() else None


def _rank(columns: Tensor) -> int:
    values = torch.linalg.svdvals(columns)
    return int((values > _RANK * values[0]).sum())
