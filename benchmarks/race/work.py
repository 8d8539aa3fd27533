"""How many floating-point operations the task needs, whoever does it and however much else it does.

Ablating a head of layer `l` changes nothing below the head's output. What has to be computed again, for each of
the `t` tokens, is

* in block `l`, the head's own slice of the output projection (`head_dim x width` weights) and, where the MLP comes
  after attention, the MLP; queries, keys, values and the other heads are what they were;
* every block above, whole: two operations (multiply, add) for each weight, and the attention products. A query at
  position `i` meets `i` keys and as many values, `(n + 1) / 2` on average over a window of `n`; each meeting costs
  `2 x head_dim` operations for the score and as many for the weighted sum, in each head.

So with `A` attention and `M` MLP weights in a block of `H` heads, `c` the block whole, `o` the ablated block,

    c = 2 t (A + M) + 4 t (n + 1) / 2 * H * head_dim
    o = 2 t head_dim * width + (0 if parallel else 2 t M)
    sweep = sum over heads (l, h) of  o + (layers - 1 - l) c

Left out, though every engine has to do them: norms, nonlinearities and softmax (a few operations for each number
the products make), the clean run (once for all heads), and the target's logit (one dot product; the unembedding as
a whole is not needed). Counting masked attention scores and the ablated block whole would flatter an
engine, by 7 % on GPT-2 small and 20 % on Pythia-160M; they are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from race.shapes import Shape


def block_operations(shape: Shape, windows: int, length: int) -> float:
    """Operations of one whole block on one ablated run of all windows."""
    tokens = windows * length
    products = 4 * tokens * (length + 1) / 2 * shape.heads * shape.head_dim
    return 2 * tokens * (shape.attention_parameters + shape.mlp_parameters) + products


def ablated_block_operations(shape: Shape, windows: int, length: int) -> float:
    """Operations in the block whose head is ablated."""
    tokens = windows * length
    mlp = 0 if shape.parallel else 2 * tokens * shape.mlp_parameters
    return 2 * tokens * shape.head_dim * shape.width + mlp


def sweep_operations(shape: Shape, layers: Iterable[int], windows: int, length: int) -> float:
    """Operations that ablating heads needs, one head of each of the given layers."""
    whole = block_operations(shape, windows, length)
    ablated = ablated_block_operations(shape, windows, length)
    return sum(ablated + (shape.layers - 1 - layer) * whole for layer in layers)
