"""Blocks of every kind that GGUF files hold, drawn at random, and the numbers that ggml's own package reads in them."""

from __future__ import annotations

import numpy as np

_SCALES = {  # where a block keeps its half-precision scales, in bytes
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S"), (0,)),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S"), (0,)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
    **{"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "TQ1_0": (52,), "TQ2_0": (64,)},
}
SPREAD = 0.06  # of the numbers


def blocks_of(kind: str, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [rows, bytes of a row], and the float32 matrix [rows, columns] that they stand for."""
    import gguf

    draws = np.random.default_rng(sum(map(ord, kind)) + rows)
    number = gguf.GGMLQuantizationType[kind]
    if kind in ("F16", "BF16"):
        blocks = gguf.quants.quantize(draws.normal(0, SPREAD, (rows, columns)).astype(np.float32), number)
        return blocks, gguf.quants.dequantize(blocks, number)
    numbers, size = gguf.GGML_QUANT_SIZES[number]
    blocks = draws.integers(0, 256, (rows * columns // numbers, size), np.uint8)
    dense = gguf.quants.dequantize(_scaled(kind, blocks, 0.001), number)
    blocks = _scaled(kind, blocks, 0.001 * SPREAD / float(dense.std())).reshape(rows, -1)
    return blocks, gguf.quants.dequantize(blocks, number).reshape(rows, columns)


def _scaled(kind: str, blocks: np.ndarray, scale: float) -> np.ndarray:
    """The same blocks with that scale."""
    made = blocks.copy()
    half = np.array([scale], np.float16).view(np.uint8)
    if kind == "MXFP4":
        made[:, 0] = 127 + round(np.log2(scale))
    elif kind == "IQ1_M":  # the scale's four nibbles are the highest of four words
        for word in range(4):
            nibble = (int(half.view(np.uint16)[0]) >> 4 * word) & 15
            made[:, 49 + 2 * word] = (made[:, 49 + 2 * word] & 15) | (nibble << 4)
    else:
        for place in _SCALES[kind]:
            made[:, place : place + 2] = half
    return made
