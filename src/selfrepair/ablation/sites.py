"""Sites: the components that can be ablated or frozen. Each lies at a port of a block (`selfrepair.model.ports`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

from selfrepair.errors import SelfRepairError
from selfrepair.model.ports import Kind, Port

if TYPE_CHECKING:
    from selfrepair.model.anatomy import Anatomy

Index = tuple[int, ...]


@runtime_checkable
class Site(Protocol):
    """A part of a port's tensor; hashable, and printed as it is parsed.

    Example:
        >>> all(isinstance(site, Site) for site in (Head(0, 1), Attention(0), Mlp(1), Neuron(1, 3), At(Mlp(0), (-1,))))
        True
    """

    @property
    def port(self) -> Port:
        """The port behind which it lies."""
        ...

    @property
    def entries(self) -> Index | None:
        """Which entries of the port; None for all."""
        ...

    @property
    def positions(self) -> Index | None:
        """At which positions of a window, negative ones counted from its end; None for all."""
        ...


class Head(NamedTuple):
    """One attention head; prints as researchers write it, `L9H6`.

    Example:
        >>> str(Head(9, 6)), Head(9, 6).port
        ('L9H6', Port(layer=9, kind='heads'))

    Attributes:
        layer: layer of the block, counted from 0.
        head: number of the head in its layer, counted from 0.
    """

    layer: int
    head: int

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return Port(self.layer, "heads")

    @property
    def entries(self) -> Index:
        """See `Site.entries`."""
        return (self.head,)

    @property
    def positions(self) -> None:
        """See `Site.positions`."""
        return None

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


class _Everywhere:
    """Base of sites at all positions."""

    @property
    def positions(self) -> None:
        """See `Site.positions`."""
        return None


@dataclass(frozen=True)
class _Whole(_Everywhere):
    """All entries of one port of a layer."""

    layer: int
    _kind: ClassVar[Kind]
    _suffix: ClassVar[str]

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return Port(self.layer, self._kind)

    @property
    def entries(self) -> None:
        """See `Site.entries`."""
        return None

    def __str__(self) -> str:
        return f"L{self.layer}.{self._suffix}"


class Attention(_Whole):
    """All heads of a layer together; prints as `L9.attn`.

    Example:
        >>> str(Attention(9)), Attention(9).entries  # all heads
        ('L9.attn', None)

    Attributes:
        layer: layer of the block, counted from 0.
    """

    _kind, _suffix = "heads", "attn"


class Mlp(_Whole):
    """What a layer's MLP writes, biases included; prints as `L9.mlp`. Where several modules write, see `MlpPart`.

    Example:
        >>> str(Mlp(9)), Mlp(9).port
        ('L9.mlp', Port(layer=9, kind='mlp'))

    Attributes:
        layer: layer of the block, counted from 0.
    """

    _kind, _suffix = "mlp", "mlp"


@dataclass(frozen=True)
class MlpPart(_Everywhere):
    """What one of several modules writes that stand side by side for a layer's MLP (experts beside an MLP, inputs of
    the layer's own); prints as `L9.mlp0`.

    Example:
        >>> str(MlpPart(9, 0)), MlpPart(9, 0).port
        ('L9.mlp0', Port(layer=9, kind='mlp', part=0))

    Attributes:
        layer: layer of the block, counted from 0.
        part: which of its writes, counted from 0 in the order of `selfrepair check`.
    """

    layer: int
    part: int

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return Port(self.layer, "mlp", part=self.part)

    @property
    def entries(self) -> None:
        """See `Site.entries`."""
        return None

    def __str__(self) -> str:
        return f"L{self.layer}.mlp{self.part}"


class Mixer(_Whole):
    """What moves information between positions without heads, as a whole: a state space, a convolution, linear
    attention; prints as `L9.mixer`.

    Example:
        >>> str(Mixer(9)), Mixer(9).port
        ('L9.mixer', Port(layer=9, kind='mixer'))

    Attributes:
        layer: layer of the block, counted from 0.
    """

    _kind, _suffix = "mixer", "mixer"


@dataclass(frozen=True)
class Neuron(_Everywhere):
    """One neuron of a layer's MLP, what its last map reads; prints as `L9N123`.

    Example:
        >>> str(Neuron(9, 123)), Neuron(9, 123).entries
        ('L9N123', (123,))

    Attributes:
        layer: layer of the block, counted from 0.
        neuron: index in the last map's input.
    """

    layer: int
    neuron: int

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return Port(self.layer, "neurons")

    @property
    def entries(self) -> Index:
        """See `Site.entries`."""
        return (self.neuron,)

    def __str__(self) -> str:
        return f"L{self.layer}N{self.neuron}"


@dataclass(frozen=True)
class _Part:
    """What sites at some positions share."""

    site: Site

    @property
    def port(self) -> Port:
        """See `Site.port`."""
        return self.site.port

    @property
    def entries(self) -> Index | None:
        """See `Site.entries`."""
        return self.site.entries


@dataclass(frozen=True)
class At(_Part):
    """A site at some positions alone; prints as `L9H6@3`, `L9H6@-2,-1`.

    Example:
        >>> str(At(Head(9, 6), (-2, -1)))
        'L9H6@-2,-1'

    Attributes:
        site: the site.
        positions: positions in every window; negative ones are counted from its end.
    """

    positions: Index

    def __post_init__(self) -> None:
        if self.site.positions is not None:
            raise SelfRepairError(f"{self.site} has positions already.", "Give all positions in one At(site, (0, 3)).")
        if not self.positions:
            raise SelfRepairError(f"No positions were given for {self.site}.", "Leave At out for all positions.")

    def __str__(self) -> str:
        return f"{self.site}@{','.join(map(str, self.positions))}"


@dataclass(frozen=True)
class AtSpan(_Part):
    """A site at a named span of each prompt; prints as `L9H6@S2`. Engines take what `names.resolve` makes of it.

    Example:
        >>> str(AtSpan(Head(9, 6), "S2"))
        'L9H6@S2'

    Attributes:
        site: the site.
        span: name of the span in the prompts; `end` is where the answer is read.
    """

    span: str

    def __post_init__(self) -> None:
        if self.site.positions is not None:
            raise SelfRepairError(f"{self.site} has positions already.", "Give either positions or a span.")

    @property
    def positions(self) -> Index:
        """None yet: each prompt has its own. Engines refuse such sites."""
        return ()

    def __str__(self) -> str:
        return f"{self.site}@{self.span}"


def all_heads(anatomy: Anatomy) -> list[Head]:
    """Every head, last layer first: a run cut short then has the cheap and telling ones."""
    layers = reversed(range(anatomy.layers))
    return [Head(layer, head) for layer in layers for head in range(anatomy.blocks[layer].heads)]


def all_mixers(anatomy: Anatomy) -> list[Mixer]:
    """Every mixer, last layer first."""
    return [Mixer(layer) for layer in reversed(range(anatomy.layers)) if anatomy.blocks[layer].has_mixer]


def usual_sites(anatomy: Anatomy) -> dict[int, list[Site]]:
    """What is ablated where nothing else is asked for, by layer, lowest first: every head; in models without any, every
    mixer."""
    sites: dict[int, list[Site]] = {}
    for site in sorted(all_heads(anatomy)) or all_mixers(anatomy)[::-1]:
        sites.setdefault(site.port.layer, []).append(site)
    return sites
