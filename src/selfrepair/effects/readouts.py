"""Readouts: what is measured, and at which positions of the final residual stream it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.directions import target_directions


@dataclass(frozen=True)
class Reading:
    """A readout of one batch of windows: weighted sums of centred logits. P predictions per window.

    Example:
        >>> reading = LogitDifference((-1, 3), ((5,), (6,)), ((7,), (8,))).reading(model.anatomy, tokens)
        >>> reading.shape, reading.positions.tolist()
        (torch.Size([2, 1]), [[11], [3]])

    Attributes:
        positions: position of the stream that each prediction reads [window, P]; None for all but the last,
            which predict the next token.
        targets: tokens [window, P, token] whose centred logits are added up.
        weights: factor of each target, [window, P, token].
        u: the direction of the sum, final norm's gain folded in, [window, P, width]: its value is
            `u . stream / sigma + beta`.
        beta: the part of it that no scale divides [window, P].
        value: for a readout that is not linear in the stream, its value [...] from the final stream [..., width] at the
            predictions; `u` is then its gradient on the clean run.
    """

    positions: Tensor | None
    targets: Tensor
    weights: Tensor
    u: Tensor
    beta: Tensor
    value: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, anatomy: Anatomy, positions: Tensor | None, targets: Tensor, weights: Tensor) -> Reading:
        """A reading from targets and weights, see the attributes."""
        directions = target_directions(anatomy, targets, weights)
        return cls(positions, targets, weights.to(directions.beta), directions.u, directions.beta)

    @property
    def shape(self) -> torch.Size:
        """(windows, predictions)."""
        return self.beta.shape

    def at(self, values: Tensor, trailing: int = 1) -> Tensor:
        """Values at the positions that are read: the one place that knows which these are.

        Args:
            values: [..., window, position, *trailing axes]; the window axis may have length 1.
            trailing: how many axes follow that of positions.

        Returns:
            [..., window, P, *trailing axes].
        """
        if self.positions is None:
            return values.narrow(-1 - trailing, 0, values.shape[-1 - trailing] - 1)
        windows = torch.arange(len(self.positions), device=values.device)[:, None]
        if values.shape[-2 - trailing] == 1:
            windows = torch.zeros_like(windows)
        moved = values.flatten(values.ndim - trailing) if trailing else values.unsqueeze(-1)
        read = moved[..., windows, self.positions, :]
        return read.reshape(*read.shape[:-1], *values.shape[values.ndim - trailing :])

    def curvature(self, clean: Tensor, ablated: Tensor, effect: Tensor) -> Tensor:
        """What the total effect has beyond its linear part [run, window, P]; zero for readouts that are linear.

        Args:
            clean: the clean final stream, [window, position, width].
            ablated: the ablated one at the predictions, [run, window, P, width].
            effect: the linear part of the total effect.
        """
        if self.value is None:
            return torch.zeros_like(effect)
        return self.value(ablated) - self.value(self.at(clean)) - effect

    def from_logits(self, centred: Tensor) -> Tensor:
        """The measured sum [window, P], from centred logits [window, position, vocabulary]."""
        return (self.at(centred).gather(-1, self.targets) * self.weights).sum(-1)


class Readout(Protocol):
    """What is measured of a model's logits.

    Example:
        >>> readouts = [NextToken(), LogitDifference((-1, -1), ((5,), (6,)))]
        >>> [(readout.name, readout.units) for readout in readouts]
        [('next-token', 'logits'), ('logit-difference', 'logits')]
    """

    @property
    def name(self) -> str:
        """Name in results."""
        ...

    @property
    def units(self) -> str:
        """Units of its values."""
        ...

    def reading(self, anatomy: Anatomy, tokens: Tensor, windows: Sequence[int] | None = None) -> Reading:
        """The readout of a batch of windows.

        Args:
            anatomy: the model's anatomy.
            tokens: [window, position].
            windows: their numbers in the text; in order from 0 where not given.
        """
        ...


@dataclass(frozen=True)
class NextToken:
    """The centred logit of the text's own next token, at every position but the last (the paper's metric).

    Example:
        >>> NextToken().reading(model.anatomy, tokens).shape  # 2 windows, all positions but the last
        torch.Size([2, 11])
    """

    name: str = "next-token"
    units: str = "logits"

    def reading(self, anatomy: Anatomy, tokens: Tensor, windows: Sequence[int] | None = None) -> Reading:
        """See `Readout.reading`."""
        targets = tokens[:, 1:].unsqueeze(-1)
        return Reading.of(anatomy, None, targets, torch.ones_like(targets))


@dataclass(frozen=True)
class LogitDifference:
    """Mean logit of some answers, less that of others, at one position of each window.

    Example:
        >>> readout = LogitDifference(positions=(14, 12), answers=((5335,), (1757,)), against=((1757,), (5335,)))
        >>> readout.units
        'logits'

    Attributes:
        positions: position that predicts the answer, by window; negative ones count from the window's end.
        answers: token ids of right answers, by window.
        against: token ids of wrong answers, by window; empty for the answers' centred logit.
    """

    positions: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    against: tuple[tuple[int, ...], ...] = ()
    name: str = "logit-difference"
    units: str = "logits"

    def __post_init__(self) -> None:
        sides = [self.answers, self.against] if self.against else [self.answers]
        if any(len(side) != len(self.positions) for side in sides) or not all(all(side) for side in sides):
            raise SelfRepairError(
                "A logit difference needs a position, and at least one answer on each side, for every window; got "
                f"{len(self.positions)} positions and answers for {', '.join(str(len(side)) for side in sides)}.",
                "Give tuples of equal length; leave `against` out for the answers' centred logit.",
            )

    def reading(self, anatomy: Anatomy, tokens: Tensor, windows: Sequence[int] | None = None) -> Reading:
        """See `Readout.reading`.

        Raises:
            SelfRepairError: a position or an answer that the windows or the vocabulary do not have.
        """
        chosen = list(range(len(tokens)) if windows is None else windows)
        length, vocabulary = tokens.shape[1], len(anatomy.unembedding.weight)
        positions = [self._position(window, length) for window in chosen]
        targets, weights = zip(*(self._weighted(window, vocabulary) for window in chosen), strict=True)
        most = max(map(len, targets))
        padded = torch.tensor([[*row, *[0] * (most - len(row))] for row in targets], device=tokens.device)
        scaled = torch.tensor([[*row, *[0.0] * (most - len(row))] for row in weights], dtype=torch.float64)
        return Reading.of(
            anatomy,
            torch.tensor(positions, device=tokens.device)[:, None],
            padded[:, None],
            scaled[:, None].to(tokens.device),
        )

    def _position(self, window: int, length: int) -> int:
        position = self.positions[window]
        if not -length <= position < length:
            raise SelfRepairError(
                f"Window {window} has {length} positions; its answer was to be read at position {position}.",
                "Positions are counted from 0, negative ones from the end of the window.",
            )
        return position % length

    def _weighted(self, window: int, vocabulary: int) -> tuple[list[int], list[float]]:
        right, wrong = self.answers[window], self.against[window] if self.against else ()
        for token in (*right, *wrong):
            if not 0 <= token < vocabulary:
                raise SelfRepairError(
                    f"Token {token} is not a row of the vocabulary of {vocabulary}.", "Give token ids of this model."
                )
        weights = [1 / len(right)] * len(right) + [-1 / len(wrong) for _ in wrong]
        return [*right, *wrong], weights
