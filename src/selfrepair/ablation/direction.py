"""A direction of the residual stream as a site: what the stream holds along one vector is ablated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import STREAM, Port

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_BARE = re.compile(r"L\d{1,9}\.d:[^@\s]+(?:@.*)?", re.IGNORECASE | re.DOTALL)
_UNIT = 1e-14  # a vector this close to length 1 is kept as it is, so that a direction made from another is equal to it


@dataclass(frozen=True, order=True, init=False)
class Direction:
    """A direction of the residual stream after a block; prints as `L9.d:name`.

    Ablating it replaces the stream `r` by `r + (m - r . d) d`, with `m` what the operator puts there: 0, the mean of
    `r . d`, or `r . d` on another text. Its direct effect is what `(r . d) d` is worth (docs/methods.md 2.11).

    Example:
        >>> refusal = Direction(1, "refusal", [3.0] + [0.0] * 14 + [4.0])  # as long as the stream is wide
        >>> str(refusal), refusal.vector[0], refusal.vector[-1]
        ('L1.d:refusal', 0.6, 0.8)
        >>> chosen = [Intervention((refusal,))]
        >>> with model.running():
        ...     clean = clean_run(model, tokens, ports=ports_of(chosen))
        ...     donors = port_outputs(model, tokens.flip(0), ports_of(chosen))
        ...     (ledger,) = ReplayEngine(fold=1).sweep(model, clean, chosen, donors.__getitem__, per_component=False)
        >>> bool(ledger.residual.abs().max() < 1e-4)
        True

    Attributes:
        layer: after which block, counted from 0.
        name: how results call it: letters, digits, `_`, `-` and `.`.
        vector: of length 1, as many numbers as the stream is wide.
    """

    layer: int
    name: str
    vector: tuple[float, ...] = field(repr=False)

    def __init__(self, layer: int, name: str, vector: Iterable[SupportsFloat]) -> None:
        """A direction.

        Args:
            layer: after which block.
            name: how results call it.
            vector: a list, an array or a tensor of one axis, of any length but zero; it is normalised.

        Raises:
            SelfRepairError: a name that could not be read back, or a vector without a direction.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SelfRepairError(
                f"{name!r:.100} cannot name a direction.", "Use letters, digits, '_', '-' and '.', as in 'refusal'."
            )
        for attribute, value in (("layer", layer), ("name", name), ("vector", _normalised(name, vector))):
            object.__setattr__(self, attribute, value)

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return Port(self.layer, STREAM, self.vector)

    @property
    def entries(self) -> None:
        """See `Site.entries`."""
        return None

    @property
    def positions(self) -> None:
        """See `Site.positions`."""
        return None

    def __str__(self) -> str:
        return f"L{self.layer}.d:{self.name}"


def _normalised(name: str, vector: Iterable[SupportsFloat]) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, vector))
    except (TypeError, ValueError, RuntimeError) as problem:
        raise SelfRepairError(
            f"The vector of the direction '{name}' is no list of numbers: {problem}.",
            "Give one axis of numbers, as many as the stream is wide.",
        ) from None
    length = math.hypot(*numbers)
    if not 0 < length < math.inf:
        raise SelfRepairError(
            f"The vector of the direction '{name}' has length {length:g}, and so no direction.",
            "Give finite numbers that are not all zero.",
        )
    return numbers if abs(length - 1) < _UNIT else tuple(number / length for number in numbers)


def is_direction(site: Site) -> bool:
    """Whether a site, with or without positions, is a direction of the stream."""
    return site.port.kind == STREAM


def refused_bare(text: str) -> SelfRepairError | None:
    """What to say of a name such as `L9.d:refusal`, which does not tell the vector; None for other names."""
    if not _BARE.fullmatch(text.strip()):
        return None
    return SelfRepairError(
        f"'{text.strip()[:80]}' names a direction of the stream without its vector.",
        "Give the vector in Python: Direction(9, 'refusal', vector), in the place of the name.",
    )


def require_components(places: Iterable[Site]) -> None:
    """Refuses directions among the components of a circuit.

    Raises:
        SelfRepairError: naming the first.
    """
    for place in filter(is_direction, places):
        raise SelfRepairError(
            f"{place} is a direction of the stream, which several components write, and no component of a circuit.",
            "Name the components; ablate the direction with selfrepair.ablate or who.",
        )


def require_bookable(replaced: Sequence[Site], frozen: Sequence[Site]) -> None:
    """Refuses what the ledger has no line for: erasing, with a direction, what something below it changed.

    Raises:
        SelfRepairError: a direction that is frozen, or that is replaced after something else.
    """
    for site in filter(is_direction, frozen):
        raise SelfRepairError(
            f"{site} cannot be frozen: what it would hold back was written by components below, and no line says so.",
            "Freeze the components that write it.",
        )
    for site in filter(is_direction, replaced):
        port = site.port
        below = next((other for other in replaced if other.port != port and other.port.layer <= port.layer), None)
        if below is not None:
            raise SelfRepairError(
                f"{site} would also erase what changes because {below} is replaced, and no line says so.",
                "Replace only sites of later layers together with a direction, and one direction in a run.",
            )
