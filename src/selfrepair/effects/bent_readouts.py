"""Readouts that are not linear in the logits: probabilities, their logarithms, and how far a distribution moves (KL).

Direct effects go along the gradient on the clean run, `g = dm/dl`, which is one direction for all ablated runs; what
the total effect has beyond it is the ledger's line *curvature*. For single runs there is an exact account instead:
along the mean gradient on the way from the clean logits to the ablated ones,

    m(l') - m(l) = (l' - l) . integral_0^1 dm/dl (l + a (l' - l)) da

with which the curvature is zero up to the error of a 16-point Gauss-Legendre rule. The gradient of KL on the clean run
is zero, so only this account describes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from selfrepair.effects.readouts import Reading
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy

Metric = Literal["log-prob", "prob-diff", "kl"]
METRICS: tuple[Metric, ...] = ("log-prob", "prob-diff", "kl")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class BentReadout:
    """A readout whose direction depends on the run, at one position of each window.

    Attributes:
        name: `log-prob`: of the answers, several taken together; less that of the wrong ones where there are some.
            `prob-diff`: the same of probabilities, as greater-than is measured: years after against years before.
            `kl`: the divergence of the ablated distribution from the clean one, `sum p (log p - log p')`.
        positions: position that predicts the answer, by window.
        answers: token ids by window; of none for `kl`.
        wrong: token ids by window; none for the answers' (log-)probability by itself.
    """

    name: Metric
    positions: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...] = ()
    wrong: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise SelfRepairError(f"There is no metric '{self.name}'.", f"There are: {', '.join(METRICS)}.")
        if self.name != "kl" and not (self.answers and all(self.answers)):
            raise SelfRepairError("A probability needs an answer for every prompt.", "Give answers, or take kl.")

    @property
    def units(self) -> str:
        """Units of its values; logarithms and differences of them are in nats."""
        return "probability" if self.name == "prob-diff" else "nats"

    def reading(self, anatomy: Anatomy, final: Tensor, windows: Sequence[int]) -> Reading:
        """The readout along the gradient on the clean run.

        Args:
            anatomy: the model's anatomy.
            final: the clean final stream, [window, position, width].
            windows: their numbers among `positions`.
        """
        measured = self._measured(anatomy, final, windows)
        return self._along(measured, windows, measured.gradient(measured.clean))

    def exact_reading(self, anatomy: Anatomy, final: Tensor, ablated: Tensor, windows: Sequence[int]) -> Reading:
        """The readout along the mean gradient between the clean run and one ablated run.

        Args:
            anatomy: the model's anatomy.
            final: the clean final stream, [window, position, width].
            ablated: the ablated one.
            windows: their numbers among `positions`.
        """
        measured = self._measured(anatomy, final, windows)
        change = _uncapped(anatomy, self._at(ablated, windows)) - measured.clean
        mean = torch.zeros_like(measured.clean)
        for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
            mean += weight / 2 * measured.gradient(measured.clean + (node + 1) / 2 * change)
        return self._along(measured, windows, mean)

    def _measured(self, anatomy: Anatomy, final: Tensor, windows: Sequence[int]) -> _Measured:
        """The clean logits, and the measure as a function of logits, of some windows."""
        logits = _uncapped(anatomy, self._at(final, windows))
        if self.name == "kl":
            return _Divergence(anatomy, logits)
        sides = [self.answers, self.wrong] if self.wrong else [self.answers]
        masks = [_mask([side[window] for window in windows], logits.shape[-1], logits.device) for side in sides]
        return (_Probability if self.name == "prob-diff" else _LogProbability)(anatomy, logits, masks)

    def _along(self, measured: _Measured, windows: Sequence[int], gradient: Tensor) -> Reading:
        """The reading whose direction is a gradient with respect to logits before any cap."""
        anatomy = measured.anatomy
        readout, norm = anatomy.unembedding, anatomy.final_norm
        rows = gradient @ readout.weight
        beta = (rows * norm.bias).sum(-1)
        if readout.bias is not None:
            beta = beta + gradient @ readout.bias
        positions = torch.tensor([[self.positions[window]] for window in windows], device=gradient.device)
        targets = torch.zeros(*gradient.shape[:2], 1, dtype=torch.long, device=gradient.device)
        return Reading(
            positions=positions,
            targets=targets,
            weights=torch.zeros_like(gradient[..., :1]),
            u=readout.multiplier * norm.fold(rows),
            beta=readout.multiplier * beta,
            value=lambda stream: measured.value(_uncapped(anatomy, stream)),
        )

    def _at(self, stream: Tensor, windows: Sequence[int]) -> Tensor:
        """The stream where the answers are predicted, [window, 1, width]."""
        places = torch.tensor([self.positions[window] for window in windows], device=stream.device)
        return stream[torch.arange(len(windows), device=stream.device), places][:, None]


class _Measured:
    """A function of the logits at some predictions, with its gradient; logits are before any cap."""

    def __init__(self, anatomy: Anatomy, clean: Tensor) -> None:
        self.anatomy, self.clean = anatomy, clean

    def value(self, logits: Tensor) -> Tensor:
        """The value [..., window, 1] at logits [..., window, 1, vocabulary]."""
        raise NotImplementedError

    def slope(self, logs: Tensor) -> Tensor:
        """The gradient with respect to the model's logits, from its log-probabilities."""
        raise NotImplementedError

    def gradient(self, logits: Tensor) -> Tensor:
        """The gradient with respect to logits before any cap."""
        slope, cap = self.slope(self.log_softmax(logits)), self.anatomy.unembedding.softcap
        return slope if cap is None else slope * (1 - torch.tanh(logits / cap) ** 2)

    def log_softmax(self, logits: Tensor) -> Tensor:
        """The model's own log-probabilities."""
        return torch.log_softmax(self.anatomy.unembedding.own(logits), -1)


class _Divergence(_Measured):
    """KL of a distribution from the clean one."""

    def __init__(self, anatomy: Anatomy, clean: Tensor) -> None:
        super().__init__(anatomy, clean)
        self._clean_logs = self.log_softmax(clean)
        self._p = self._clean_logs.exp()

    def value(self, logits: Tensor) -> Tensor:
        """See `_Measured.value`."""
        apart = torch.where(self._p > 0, self._clean_logs - self.log_softmax(logits), 0)  # masked rows have no part
        return (self._p * apart).sum(-1)

    def slope(self, logs: Tensor) -> Tensor:
        """See `_Measured.slope`."""
        return logs.exp() - self._p


class _OfAnswers(_Measured):
    """A function of the logits that knows which tokens are answers, and which wrong ones."""

    def __init__(self, anatomy: Anatomy, clean: Tensor, masks: Sequence[Tensor]) -> None:
        super().__init__(anatomy, clean)
        self._masks = masks


class _Probability(_OfAnswers):
    """Probability of the answers together, less that of wrong ones if there are any."""

    def value(self, logits: Tensor) -> Tensor:
        """See `_Measured.value`."""
        return (self._signs * self.log_softmax(logits).exp()).sum(-1)

    def slope(self, logs: Tensor) -> Tensor:
        """See `_Measured.slope`."""
        parts = self._signs * logs.exp()
        return parts - parts.sum(-1, keepdim=True) * logs.exp()

    @property
    def _signs(self) -> Tensor:
        """1 for answers, -1 for wrong ones, [window, 1, vocabulary]."""
        right, *wrong = (mask.to(self.clean.dtype) for mask in self._masks)
        return right - sum(wrong, torch.zeros_like(right))


class _LogProbability(_OfAnswers):
    """Log-probability of the answers together, less that of wrong ones if there are any."""

    def value(self, logits: Tensor) -> Tensor:
        """See `_Measured.value`."""
        logs = self.log_softmax(logits)
        parts = [torch.logsumexp(logs.masked_fill(~mask, -torch.inf), -1) for mask in self._masks]
        return parts[0] if len(parts) == 1 else parts[0] - parts[1]

    def slope(self, logs: Tensor) -> Tensor:
        """See `_Measured.slope`: the answers' shares among themselves, less all probabilities."""
        shares = [torch.softmax(logs.masked_fill(~mask, -torch.inf), -1) for mask in self._masks]
        return shares[0] - (logs.exp() if len(shares) == 1 else shares[1])


def _uncapped(anatomy: Anatomy, stream: Tensor) -> Tensor:
    """Logits before any cap [..., vocabulary], from the final stream."""
    return anatomy.unembedding.logits(anatomy.final_norm(stream))


def _mask(tokens: Sequence[Sequence[int]], vocabulary: int, device: torch.device) -> Tensor:
    """Which tokens are answers, bool [window, 1, vocabulary]."""
    mask = torch.zeros(len(tokens), 1, vocabulary, dtype=torch.bool)
    for window, chosen in enumerate(tokens):
        for token in chosen:
            if not 0 <= token < vocabulary:
                raise SelfRepairError(
                    f"Token {token} is not a row of the vocabulary of {vocabulary}.", "Give token ids of this model."
                )
            mask[window, 0, token] = True
    return mask.to(device)
