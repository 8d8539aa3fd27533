"""Delta arithmetic by itself: whatever a block computes, differences come out as two whole runs subtracted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from selfrepair.engine.delta.matmul import PRECISIONS, Weights
from selfrepair.engine.delta.probes import STREAM, Probe
from selfrepair.engine.delta.program import Program, TapeValues
from selfrepair.engine.delta.tape import DiscreteStep, Recorder

WINDOWS, POSITIONS, WIDTH, RUNS = 2, 3, 4, 3


def passed(function: Callable[[Tensor], Tensor], clean: Tensor, differences: Tensor) -> Tensor:
    """The differences of a function's result, [run, ...]."""
    recorder = Recorder(clean.clone())
    with recorder:
        result = function(recorder.tape.values[0])
    program = Program.between(recorder.tape, 0, [Probe("out", recorder.number(result), STREAM)])
    values = TapeValues(recorder.tape, Weights(PRECISIONS["full"]), {}, reading=None, shape=torch.Size())
    return program.run(values, differences)["out"]


def subtracted(function: Callable[[Tensor], Tensor], clean: Tensor, differences: Tensor) -> Tensor:
    """The same by definition."""
    return torch.stack([function(clean + difference) for difference in differences]) - function(clean)


class Odd(nn.Module):
    """Writes in place, transposes, and calls functions that no rule knows."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y += x
        y = torch.cat([y[..., :2], torch.ones_like(x)[..., :1], y[..., 3:]], -1)
        y = torch.logcumsumexp(y.transpose(0, 1), 0).transpose(0, 1)
        y.mul_(x.sigmoid())
        return y.masked_fill(torch.eye(4, dtype=torch.bool), 7.0) - x.square().mean(-1, keepdim=True).rsqrt()


def test_rules_compose():
    torch.manual_seed(0)
    x, d = torch.randn(3, 4, 4).double(), torch.randn(5, 3, 4, 4).double()
    odd = Odd()
    assert (passed(odd, x, d) - subtracted(odd, x, d)).abs().max() < 1e-13
    assert not passed(odd, x, d * 0).any()


@pytest.mark.parametrize("width", [3, 4, 5])
def test_an_unknown_function_may_round_otherwise_in_a_larger_batch(width):
    torch.manual_seed(0)
    x, d = torch.randn(2, 3, width).double(), torch.randn(3, 2, 3, width).double()
    d[1] = 0
    assert not passed(lambda x: torch.logaddexp(x, 2 * x), x, d)[1].any()


def test_a_change_through_another_tensor_is_not_followed():
    recorder = Recorder(torch.randn(2, 3))
    with recorder, pytest.raises(DiscreteStep, match="changed through another"):
        y = recorder.tape.values[0] * 2
        y[:, 0].mul_(3)
        y + 1


# any function put together from the steps that blocks are made of


@dataclass(frozen=True)
class Step:
    """Two earlier values [window, position, width] to a new one; `weight` [width, width] and `bias` stand still."""

    name: str
    call: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _attend(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    query, key, value = ((z @ weight).unflatten(-1, (2, 2)).transpose(1, 2) for z in (x, y, x + y))
    return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)


def _attend_eagerly(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    scores = torch.matmul(x, y.transpose(-1, -2)) / 2
    late = torch.triu(torch.ones(POSITIONS, POSITIONS, dtype=torch.bool), 1)
    return torch.matmul(scores.masked_fill(late, float("-inf")).softmax(-1), x @ weight)


STEPS = [
    Step("add", lambda x, y, w, b: x + y),
    Step("add a multiple", lambda x, y, w, b: torch.add(x, y, alpha=-1.5)),
    Step("subtract", lambda x, y, w, b: x - 0.4 * y),
    Step("from a constant", lambda x, y, w, b: 1 - x),
    Step("multiply", lambda x, y, w, b: x * y),
    Step("scale", lambda x, y, w, b: 0.7 * x * b),
    Step("divide", lambda x, y, w, b: x / (2 + y.abs())),
    Step("divide by a constant", lambda x, y, w, b: x / 3),
    Step("negate", lambda x, y, w, b: -x),
    Step("square", lambda x, y, w, b: x.pow(2)),
    Step("cube", lambda x, y, w, b: torch.tanh(x) ** 3),
    Step("linear", lambda x, y, w, b: F.linear(x, w, b)),
    Step("Conv1D", lambda x, y, w, b: torch.addmm(b, x.reshape(-1, WIDTH), w).view(x.shape)),
    Step("matmul", lambda x, y, w, b: torch.matmul(x, w)),
    Step("einsum", lambda x, y, w, b: torch.einsum("bpi,ij->bpj", x, w)),
    Step("LayerNorm", lambda x, y, w, b: F.layer_norm(x, (WIDTH,), w[0], b, 1e-3)),
    Step("RMSNorm", lambda x, y, w, b: F.rms_norm(x, (WIDTH,), w[0], 1e-3)),
    Step("RMSNorm by hand", lambda x, y, w, b: w[0] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3))),
    Step("gelu", lambda x, y, w, b: F.gelu(x)),
    Step("gated", lambda x, y, w, b: F.silu(x) * y),
    Step("soft cap", lambda x, y, w, b: 5 * torch.tanh(x / 5)),
    Step("clamp", lambda x, y, w, b: x.clamp(-1, 1)),
    Step("masked", lambda x, y, w, b: x.masked_fill(b > 0, 2.0)),
    Step("softmax", lambda x, y, w, b: x.softmax(-1)),
    Step("rotary", lambda x, y, w, b: x * w[0].cos() + torch.cat([-x[..., 2:], x[..., :2]], -1) * w[0].sin()),
    Step("heads", lambda x, y, w, b: x.view(*x.shape[:2], 2, 2).transpose(1, 2).transpose(1, 2).reshape(x.shape)),
    Step("repeated heads", lambda x, y, w, b: x[..., :2].repeat_interleave(2, -1)),
    Step("split", lambda x, y, w, b: torch.cat(y.chunk(2, -1)[::-1], -1)),
    Step("attention", _attend),
    Step("eager attention", _attend_eagerly),
    Step("unknown function", lambda x, y, w, b: torch.logaddexp(x, y)),
]


@dataclass(frozen=True)
class Composed:
    """Steps one after another, each on two of the values before it; the last value and all others added up."""

    steps: tuple[tuple[Step, int, int], ...]
    weight: Tensor
    bias: Tensor
    bounded: bool = False  # so that powers of powers stay numbers

    def __call__(self, x: Tensor) -> Tensor:
        values = [x]
        for step, first, second in self.steps:
            new = step.call(values[first % len(values)], values[second % len(values)], self.weight, self.bias)
            values.append(9 * torch.tanh(new / 9) if self.bounded else new)
        return sum(values[1:], values[-1])

    def __repr__(self) -> str:
        return " | ".join(f"{step.name}({first}, {second})" for step, first, second in self.steps)


@st.composite
def functions(draw) -> Composed:
    steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 9))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    chosen = draw(st.lists(steps, min_size=1, max_size=8))
    weight = nn.Parameter(torch.randn(WIDTH, WIDTH, dtype=torch.float64), requires_grad=False)
    return Composed(tuple(chosen), weight, torch.randn(WIDTH, dtype=torch.float64), bounded=True)


@given(functions(), st.sampled_from([1.0, 1e-2]), st.lists(st.booleans(), min_size=RUNS, max_size=RUNS))
def test_differences_come_out_as_two_runs_subtracted(function, size, still):
    """... and runs without a difference at the start have exactly none at the end, whatever the others do."""
    clean = torch.randn(WINDOWS, POSITIONS, WIDTH, dtype=torch.float64)
    differences = size * torch.randn(RUNS, WINDOWS, POSITIONS, WIDTH, dtype=torch.float64)
    differences[torch.tensor(still)] = 0
    truth = subtracted(function, clean, differences)
    change = passed(function, clean, differences)
    assert change.shape == truth.shape
    scale = 1 + truth.abs().max() + function(clean).abs().max()
    assert (change - truth).abs().max() < 1e-9 * scale
    assert not change[torch.tensor(still)].any()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_by_itself(step):
    torch.manual_seed(1)
    weight, bias = torch.randn(WIDTH, WIDTH, dtype=torch.float64), torch.randn(WIDTH, dtype=torch.float64)
    function = Composed(((step, 0, 0),), nn.Parameter(weight, requires_grad=False), bias)
    clean = torch.randn(WINDOWS, POSITIONS, WIDTH, dtype=torch.float64)
    differences = torch.randn(RUNS, WINDOWS, POSITIONS, WIDTH, dtype=torch.float64)
    truth = subtracted(function, clean, differences)
    assert truth.abs().max() > 1e-3
    assert (passed(function, clean, differences) - truth).abs().max() < 1e-12


@given(st.floats(1e-9, 1e-3))
def test_small_differences_do_not_drown(size):
    """In single precision a difference of a billionth keeps its digits through norms and products with weights."""
    torch.manual_seed(2)
    weight, bias = torch.randn(WIDTH, WIDTH), torch.randn(WIDTH)
    steps = [step for step in STEPS if step.name in ("linear", "RMSNorm", "LayerNorm", "multiply", "add")]
    function = Composed(tuple((step, i, i) for i, step in enumerate(steps)), nn.Parameter(weight, False), bias)
    exact = Composed(function.steps, weight.double(), bias.double())
    clean, direction = torch.randn(1, POSITIONS, WIDTH), torch.randn(1, 1, POSITIONS, WIDTH)
    truth = subtracted(exact, clean.double(), (size * direction).double())
    change = passed(function, clean, size * direction)
    assert (change - truth).abs().max() < max(1e-4, 2e-13 / size) * truth.abs().max()  # float64 subtracted drowns first


class Chooses(nn.Module):
    """An indexer: which entries of a row are largest."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * x).topk(2, dim=-1).indices.to(torch.int32)


class Sparse(nn.Module):
    """Mixes the chosen entries of each row alone, as sparse attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.chooser = Chooses()

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.chooser(x)
        left_out = chosen.new_ones(x.shape, dtype=torch.bool).scatter(-1, chosen.long(), False)
        shares = torch.softmax(x.masked_fill(left_out, -1e30), -1)
        entries = x[:, None, :, None]
        kept = (~left_out)[:, None, None, :].expand(-1, -1, WIDTH, -1)
        attended = F.scaled_dot_product_attention(entries, entries, entries, attn_mask=kept)
        return shares * x + attended[:, 0, :, 0]


def sparse_tape(block: Sparse, clean: Tensor) -> tuple[Recorder, Tensor]:
    recorder = Recorder(clean.clone(), [block.chooser])
    with recorder.watching(block), recorder:
        return recorder, block(recorder.tape.values[0])


def test_choices_of_a_module_are_those_of_the_ablated_run():
    torch.manual_seed(0)
    block = Sparse()
    clean, differences = torch.randn(6, WIDTH).double(), torch.randn(RUNS, 6, WIDTH).double()
    differences[1] = 0
    assert (block.chooser(clean + differences[0]) != block.chooser(clean)).any()
    recorder, result = sparse_tape(block, clean)
    program = Program.between(recorder.tape, 0, [Probe("out", recorder.number(result), STREAM)])
    values = TapeValues(recorder.tape, Weights(PRECISIONS["full"]), {}, reading=None, shape=torch.Size())
    found = program.run(values, differences)["out"]
    assert (found - subtracted(block, clean, differences)).abs().max() < 1e-13
    assert not found[1].any() and not program.run(values, differences * 0)["out"].any()
