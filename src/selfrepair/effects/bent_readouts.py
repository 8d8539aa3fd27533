"""Readouts that are not linear in the logits: log-probabilities, and how far a distribution moves (KL).

Direct effects go along the gradient on the clean run, `g = dm/dl`, which is one direction for all ablated runs; what the
total effect has beyond it is the ledger's line *curvature*. For single runs there is an exact account instead: along the
mean gradient on the way from the clean logits to the ablated ones,

    m(l') - m(l) = (l' - l) . integral_0^1 dm/dl (l + a (l' - l)) da

with which the curvature is zero up to the error of a 16-point Gauss-Legendre rule. The gradient of KL on the clean run
is zero, so only this account says anything about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.readouts import Reading
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy

Metric = Literal["log-prob", "kl"]
METRICS: tuple[Metric, ...] = ("log-prob", "kl")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
Measure = Callable[[Tensor], Tensor]
"""The value [..., window, P] from the model's logits [..., window, P, vocabulary]."""


@dataclass(frozen=True)
class BentReadout:
    """A readout whose direction depends on the run, at one position of each window.

    Attributes:
        name: `log-prob`: of the answers, several taken together; less that of the wrong ones where there are some.
            `kl`: the divergence of the ablated distribution from the clean one, `sum p (log p - log p')`.
        positions: of the stream that predict, by window.
        answers: token ids by window; of none for `kl`.
        wrong: token ids by window; none for the answers' log-probability by itself.
    """

    name: Metric
    positions: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...] = ()
    wrong: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise SelfRepairError(f"There is no metric '{self.name}'.", f"There are: {', '.join(METRICS)}.")
        if self.name == "log-prob" and not (self.answers and all(self.answers)):
            raise SelfRepairError("A log-probability needs an answer for every prompt.", "Give answers, or take kl.")

    @property
    def units(self) -> str:
        """Of its values: both are differences of logarithms."""
        return "nats"

    def reading(self, anatomy: Anatomy, final: Tensor, windows: Sequence[int]) -> Reading:
        """The readout along the gradient on the clean run.

        Args:
            anatomy: of the model.
            final: the clean final stream, [window, position, width].
            windows: their numbers among `positions`.
        """
        logits, measure = self._clean(anatomy, final, windows)
        return self._along(anatomy, final, windows, _gradient(measure, logits), measure)

    def exact_reading(self, anatomy: Anatomy, final: Tensor, ablated: Tensor, windows: Sequence[int]) -> Reading:
        """The readout along the mean gradient between the clean run and one ablated run.

        Args:
            anatomy: of the model.
            final: the clean final stream, [window, position, width].
            ablated: the ablated one.
            windows: their numbers among `positions`.
        """
        logits, measure = self._clean(anatomy, final, windows)
        change = _uncapped(anatomy, self._at(ablated, windows)) - logits
        mean = torch.zeros_like(logits)
        for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
            mean += weight / 2 * _gradient(measure, logits + (node + 1) / 2 * change)
        return self._along(anatomy, final, windows, mean, measure)

    def _clean(self, anatomy: Anatomy, final: Tensor, windows: Sequence[int]) -> tuple[Tensor, Measure]:
        """Clean logits before any cap [window, 1, vocabulary], and the measure as a function of such logits."""
        logits = _uncapped(anatomy, self._at(final, windows))
        device = logits.device
        if self.name == "kl":
            clean = _log_softmax(anatomy, logits)
            p = clean.exp()
            held = torch.where(p > 0, clean, 0)  # a masked row has no probability and no part

            def divergence(values: Tensor) -> Tensor:
                moved = torch.where(p > 0, _log_softmax(anatomy, values), 0)
                return (p * (held - moved)).sum(-1)

            return logits, divergence
        sides = [self.answers, self.wrong] if self.wrong else [self.answers]
        masks = [_mask([side[window] for window in windows], logits.shape[-1], device) for side in sides]

        def log_probability(values: Tensor) -> Tensor:
            logs = _log_softmax(anatomy, values)
            parts = [torch.logsumexp(logs.masked_fill(~mask, -torch.inf), -1) for mask in masks]
            return parts[0] if len(parts) == 1 else parts[0] - parts[1]

        return logits, log_probability

    def _along(
        self, anatomy: Anatomy, final: Tensor, windows: Sequence[int], gradient: Tensor, measure: Measure
    ) -> Reading:
        """The reading whose direction is a gradient with respect to logits before any cap."""
        readout, norm = anatomy.readout, anatomy.final_norm
        rows = gradient @ readout.weight
        beta = (rows * norm.bias).sum(-1)
        if readout.bias is not None:
            beta = beta + gradient @ readout.bias
        positions = torch.tensor([[self.positions[window]] for window in windows], device=final.device)
        targets = torch.zeros(*gradient.shape[:2], 1, dtype=torch.long, device=final.device)
        return Reading(
            positions=positions,
            targets=targets,
            weights=torch.zeros_like(gradient[..., :1]),
            u=readout.multiplier * norm.fold(rows),
            beta=readout.multiplier * beta,
            value=lambda stream: measure(_uncapped(anatomy, stream)),
        )

    def _at(self, stream: Tensor, windows: Sequence[int]) -> Tensor:
        """The stream where the answers are predicted, [window, 1, width]."""
        places = torch.tensor([self.positions[window] for window in windows], device=stream.device)
        return stream[torch.arange(len(windows), device=stream.device), places][:, None]


def _gradient(measure: Measure, logits: Tensor) -> Tensor:
    with torch.enable_grad(), torch.inference_mode(False):
        point = logits.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(measure(point).sum(), point)
    return torch.nan_to_num(gradient)


def _uncapped(anatomy: Anatomy, stream: Tensor) -> Tensor:
    """Logits before any cap [..., vocabulary], from the final stream."""
    readout = anatomy.readout
    logits = anatomy.final_norm(stream) @ readout.weight.T
    return readout.multiplier * (logits if readout.bias is None else logits + readout.bias)


def _log_softmax(anatomy: Anatomy, logits: Tensor) -> Tensor:
    """The model's own log-probabilities, from logits before any cap."""
    capped = anatomy.readout.capped(logits)
    if anatomy.readout.masked is not None:
        capped = capped.masked_fill(anatomy.readout.masked, -torch.inf)
    return torch.log_softmax(capped, -1)


def _mask(tokens: Sequence[Sequence[int]], vocabulary: int, device: torch.device) -> Tensor:
    """Which tokens are answers, bool [window, 1, vocabulary]."""
    mask = torch.zeros(len(tokens), 1, vocabulary, dtype=torch.bool)
    for window, chosen in enumerate(tokens):
        for token in chosen:
            if not 0 <= token < vocabulary:
                raise SelfRepairError(
                    f"Token {token} is no row of the vocabulary of {vocabulary}.", "Give token ids of this model."
                )
            mask[window, 0, token] = True
    return mask.to(device)
