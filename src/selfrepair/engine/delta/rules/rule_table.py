"""The table of rules: for each operation, by its function's name, the rule for differences."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from selfrepair.engine.delta.rules.arithmetic import add, divide, multiply, negate, power, subtract, subtract_from
from selfrepair.engine.delta.rules.attention import attention, secant_rows
from selfrepair.engine.delta.rules.call import Call, Rule
from selfrepair.engine.delta.rules.normalisation import layer_norm, reciprocal_root, rms_norm
from selfrepair.engine.delta.rules.products import affine, linear, matrix_product
from selfrepair.engine.delta.rules.secant import opaque, secant, secant_elementwise
from selfrepair.engine.delta.rules.shapes import (
    as_complex,
    as_pairs,
    masked_fill,
    same,
    shaped,
    structural,
    written_part,
)


def apply(call: Call) -> tuple[Tensor, ...]:
    """The differences of an operation's results, [run, *shape] each."""
    rule = RULES.get(call.operation.name, secant)
    if call.jumps and rule not in (opaque, attention):
        rule = secant  # all others are for what moves little by little
    changes = rule(call)
    return changes if isinstance(changes, tuple) else (changes,)


_STRUCTURAL = (
    "transpose permute unsqueeze squeeze getitem chunk split tensor_split split_with_sizes unbind unflatten "
    "expand expand_as to float double type type_as mean sum narrow select index_select repeat repeat_interleave "
    "swapaxes movedim moveaxis roll stack cat concat concatenate flip cumsum t"
)

_ELEMENTWISE = "gelu silu relu relu6 tanh sigmoid exp erf sqrt leaky_relu hardtanh mish softplus log1p clamp abs"


def _rules() -> Iterator[tuple[str, Rule]]:
    yield from dict.fromkeys(_STRUCTURAL.split(), structural).items()
    yield from dict.fromkeys(_ELEMENTWISE.split(), secant_elementwise).items()
    yield from {
        **dict.fromkeys(("view", "reshape", "flatten", "view_as", "reshape_as"), shaped),
        **dict.fromkeys(("contiguous", "clone", "detach", "alias", "dropout", "feature_dropout"), same),
        **dict.fromkeys(("add", "radd"), add),
        **dict.fromkeys(("sub", "subtract"), subtract),
        **dict.fromkeys(("rsub",), subtract_from),
        **dict.fromkeys(("mul", "rmul", "multiply"), multiply),
        **dict.fromkeys(("div", "truediv", "divide"), divide),
        **dict.fromkeys(("pow", "square"), power),
        **dict.fromkeys(("neg", "negative"), negate),
        **dict.fromkeys(("matmul", "bmm", "mm"), matrix_product),
        "masked_fill": masked_fill,
        "written": written_part,
        "view_as_complex": as_complex,
        "view_as_real": as_pairs,
        "linear": linear,
        "addmm": affine,
        "layer_norm": layer_norm,
        "rms_norm": rms_norm,
        "rsqrt": reciprocal_root,
        "softmax": secant_rows,
        "scaled_dot_product_attention": attention,
        "opaque": opaque,
    }.items()


RULES: dict[str, Rule] = dict(_rules())
"""By the function's name; `secant` for all others."""
