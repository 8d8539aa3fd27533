"""Small numbers that share words of memory, and scales that blocks of numbers share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # FP4: one bit of sign, two of exponent, one of mantissa


def unpacked(words: Tensor, bits: int, dim: int) -> Tensor:
    """Unsigned numbers out of int32 words along a dimension, the lowest bits first.

    Args:
        words: int32, any shape.
        bits: of a number: 1, 2, 4 or 8.
        dim: the dimension that gets `32 / bits` times as long.

    Returns:
        int32 numbers from 0 to `2 ** bits - 1`.

    Raises:
        ValueError: `bits` is no such number.
    """
    if bits not in (1, 2, 4, 8):
        raise ValueError(f"numbers of {bits} bits do not lie side by side in a word")
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    numbers: Tensor = (words.movedim(dim, -1).unsqueeze(-1) >> shifts) & (2**bits - 1)
    return numbers.flatten(-2).movedim(-1, dim)


def fp4_pairs(packed: Tensor) -> Tensor:
    """FP4 numbers (E2M1) out of bytes, two in each, the low one first: [..., n] -> float32 [..., 2 n]."""
    table = torch.tensor([*_E2M1, *(-value for value in _E2M1)])
    packed = packed.contiguous().view(torch.uint8)
    return torch.stack([table[(packed & 15).long()], table[(packed >> 4).long()]], -1).flatten(-2)


def powers_of_two(exponents: Tensor) -> Tensor:
    """Scales that are stored as exponents with a bias of 127 (E8M0) -> float32."""
    return torch.exp2(exponents.contiguous().view(torch.uint8).float() - 127)


def in_blocks(scales: Tensor, block: int, numbers: int) -> Tensor:
    """Each scale once for every number of its block; the last block may lack some: [blocks] -> [numbers].

    Raises:
        ValueError: scales for another number of blocks.
    """
    if block < 1 or -(-numbers // block) != scales.numel():
        raise ValueError(f"{scales.numel()} scales for {numbers} numbers in blocks of {block}")
    return scales.repeat_interleave(block)[:numbers]


def spread(scales: Tensor, shape: Sequence[int], block: Sequence[int] | None = None) -> Tensor:
    """Scales of the blocks of matrices, as they multiply them.

    Args:
        scales: one for all; or [rows] or [..., rows, columns] of blocks.
        shape: of the matrices, [..., rows, columns].
        block: rows and columns of a block, of which the last ones may lack some; where there are none, or scales for
            another number of blocks (experts may have smaller ones), as many as divide a matrix evenly.

    Returns:
        float32 of that shape, or of one that broadcasts to it.

    Raises:
        ValueError: scales for another number of blocks.
    """
    scales = scales.float()
    if scales.numel() == 1:
        return scales.reshape(1, 1)
    scales = scales.reshape(-1, 1) if scales.ndim == 1 else scales
    for dim in (-2, -1):
        size, blocks = shape[dim], scales.shape[dim]
        of = next((of for of in (block and int(block[dim]), size // blocks) if of and -(-size // of) == blocks), 0)
        if not of:
            raise ValueError(f"{blocks} scales along a dimension of {size} numbers")
        scales = scales if blocks == 1 else scales.repeat_interleave(of, dim).narrow(dim, 0, size)
    return scales
