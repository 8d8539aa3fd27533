"""Operators: what replaces an ablated site's output."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from selfrepair import choices
from selfrepair.ablation.donors import draw_donors
from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Port
from selfrepair.registry import Registry
from selfrepair.text import Windows

POSITION_MEANS = "position means"
STATISTICS = frozenset({POSITION_MEANS})
"""Statistics that an operator can ask the survey to collect (`Operator.needs`)."""


class Source(Protocol):
    """What an operator may draw on besides the clean outputs. Shapes as in `Operator.replacement`.

    Example:
        >>> class TwiceTheMean(Operator):
        ...     name = "twice the mean"
        ...     def replacement(self, port, clean, source, draw):
        ...         return 2 * source.mean(port).to(clean).expand_as(clean)
    """

    def mean(self, port: Port) -> Tensor:
        """Mean output over the whole corpus, [entry, size]."""
        ...

    def position_mean(self, port: Port) -> Tensor:
        """Mean output at each position over the whole corpus, [position, entry, size].

        Only for operators that have `POSITION_MEANS` among their `needs`: these means are large.
        """
        ...

    def donor(self, port: Port, draw: int) -> Tensor:
        """Outputs on the windows' donors, texts from other documents, [window, position, entry, size]."""
        ...


@runtime_checkable
class Operator(Protocol):
    """An ablation: how a site's output is replaced.

    Write your own as a class derived from this one, with a name and a replacement; the rest has defaults.
    docs/extending.md shows how another package offers one by name.

    Example:
        >>> class Halved(Operator):
        ...     name = "halved"
        ...     def replacement(self, port, clean, source, draw):
        ...         return clean / 2
    """

    name: str
    """Name in results."""

    @property
    def draws(self) -> int:
        """How many replacements there are; effects, not activations, are averaged over them."""
        return 1

    @property
    def donors(self) -> int:
        """How many donor windows every window needs."""
        return 0

    @property
    def needs(self) -> frozenset[str]:
        """Statistics (of `STATISTICS`) that the survey has to collect for it, besides the means."""
        return frozenset()

    def draw_donors(self, windows: Windows, seed: int) -> np.ndarray:
        """Chooses the donors; by default windows of other documents at random, see `ablation.donors`.

        Args:
            windows: the corpus.
            seed: seed of the run.

        Returns:
            Window indices, int [window, donor], with `donors` columns.
        """
        return draw_donors(windows, self.donors, seed)

    @abstractmethod
    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """The replacement for everything at a port; each site's part is used in the ablated runs of that site.

        Args:
            port: the layer and kind, see `selfrepair.model.ports.Port`.
            clean: clean outputs [window, position, entry, size]; of heads before W_O, [window, position, head,
                head_dim], value constants left out.
            source: corpus means and donors.
            draw: number of the draw, below `draws`.

        Returns:
            A tensor of the shape of `clean`.
        """
        ...


@dataclass(frozen=True)
class Zero(Operator):
    """The site writes nothing. The constant that value biases add stays (docs/methods.md 1.1).

    Example:
        >>> outputs = clean.outputs_at(Port(0, "heads"))
        >>> bool((Zero().replacement(Port(0, "heads"), outputs, None, 0) == 0).all())
        True
    """

    name: str = "zero"

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        return torch.zeros_like(clean)


@dataclass(frozen=True)
class Mean(Operator):
    """The site's mean output over the corpus: over all its tokens, not over those of a batch.

    Example:
        >>> measure(model, text, ablation=Mean(), heads="L1H0", progress=False).plan["ablation"]["operator"]
        'mean'
    """

    name: str = "mean"

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        return source.mean(port).to(clean).expand_as(clean)


@dataclass(frozen=True)
class PositionMean(Operator):
    """The site's mean output over the corpus at the same position of the window.

    Example:
        >>> PositionMean().name, PositionMean().donors
        ('position-mean', 0)
    """

    name: str = "position-mean"
    needs: ClassVar[frozenset[str]] = frozenset({POSITION_MEANS})

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        return source.position_mean(port).to(clean).expand_as(clean)


@dataclass(frozen=True)
class Resample(Operator):
    """The site's output at the same position of another document; K donors, one draw each.

    Example:
        >>> Resample(donors=4).draws
        4

    Attributes:
        donors: windows of other documents that each window draws on; effects are averaged over them.
    """

    donors: int = 1
    name: str = "resample"

    @property
    def draws(self) -> int:
        """One per donor."""
        return self.donors

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        return source.donor(port, draw)


@dataclass(frozen=True)
class Unchanged(Operator):
    """The site's own clean output: any effect that it has is the numerical floor.

    Example:
        >>> outputs = clean.outputs_at(Port(0, "heads"))
        >>> Unchanged().replacement(Port(0, "heads"), outputs, None, 0) is outputs
        True
    """

    name: str = "unchanged"

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """See `Operator.replacement`."""
        return clean


def require_operator(given: object) -> Operator:
    """Refuses what does not keep the contract, before anything is measured with it.

    Raises:
        SelfRepairError: names what it lacks.
    """
    fix = "Derive its class from `selfrepair.Operator`, which has all but `name` and `replacement`."
    if not isinstance(given, Operator):
        lacking = [name for name in (*_MEMBERS, "name") if not hasattr(given, name)]
        raise SelfRepairError(f"{type(given).__name__} is not an operator: it lacks {', '.join(lacking)}.", fix)
    counts = {"draws": (given.draws, 1), "donors": (given.donors, 0)}
    for name, (count, least) in counts.items():
        if not isinstance(count, int) or count < least:
            raise SelfRepairError(
                f"The operator '{given.name}' has {name} = {count!r}; at least {least} was expected.", fix
            )
    unknown = sorted(map(str, frozenset(given.needs) - STATISTICS))
    if unknown:
        raise SelfRepairError(
            f"The operator '{given.name}' needs '{unknown[0]}', which the survey cannot collect.",
            f"It can collect: {', '.join(sorted(STATISTICS))}.",
        )
    return given


_MEMBERS = ("draws", "donors", "needs", "draw_donors", "replacement")
OPERATORS: Registry[Callable[..., Operator]] = choices.OPERATORS
"""Makers of operators. A maker with a parameter `donors` gets the number that was asked for."""


def operator(name: str, donors: int = 1) -> Operator:
    """The operator of that name, built in or from another package's entry point in `selfrepair.operators`.

    Args:
        name: one of `OPERATORS`.
        donors: donors per window, for operators that take their number, such as `resample`.

    Raises:
        SelfRepairError: unknown name, impossible number of donors, or a package that fails.
    """
    maker = OPERATORS[name]
    takes_donors = "donors" in inspect.signature(maker).parameters
    if takes_donors and donors < 1:
        raise SelfRepairError(f"{name} needs at least one donor, got {donors}.", "Give --donors 1 or more.")
    if not takes_donors and donors != 1:
        raise SelfRepairError(
            f"{donors} donors were asked for; '{name}' draws on none.",
            "Leave --donors out, or give --ablation resample.",
        )
    try:
        made = maker(donors) if takes_donors else maker()
        own_name = made.name
    except Exception as problem:  # whatever another package does
        raise SelfRepairError(
            f"The ablation operator '{name}' ({OPERATORS.origin(name)}) cannot be made: "
            f"{type(problem).__name__}: {problem}",
            "Its maker is called without arguments, or with the number of donors if it has a parameter `donors`.",
        ) from problem
    if own_name != name:
        raise SelfRepairError(
            f"The ablation operator '{name}' ({OPERATORS.origin(name)}) calls itself '{own_name}'.",
            "Give its entry point and its attribute `name` the same name: workers and `resume` find it by that.",
        )
    return require_operator(made)


def made_by_name(given: Operator) -> bool:
    """Whether name and number of donors alone make this operator again, in another process: the same class with the
    same settings, from this package or an entry point."""
    if given.name not in OPERATORS:
        return False
    maker: Callable[..., Operator] = OPERATORS[given.name]
    own_class: object = type(given)
    if own_class is not maker:
        return False
    again = maker(given.donors) if "donors" in inspect.signature(maker).parameters else maker()
    return bool(vars(again) == vars(given)) if hasattr(given, "__dict__") else bool(again == given)
