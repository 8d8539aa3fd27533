"""Planted circuits: which component plays which part, and what it must be seen to do.

Three primaries in layer 0 write the answer, and a third of a flag DONE each. Without two of them or more, backups wake
up. On every prompt with a source of content c, with all three primaries ablated:

    part             writes on the clean run     with primaries ablated    line
    backup           0                           r c                       r c
    MLP backup       0                           r c                       r c
    suppressor       -k ANSWER                   -k ANSWER'                k (ANSWER - ANSWER')
    re-aimer         -a c                        +a                        a (1 + c)
    amplifier        +k ANSWER                   +k ANSWER'                k (ANSWER' - ANSWER)
    mover            r c                         r c                       0
    hit responder    0                           r c of something else     0
    relay, inert     0                           0                         0

ANSWER is what the stream holds where the component reads it. On noise prompts, without a source, all lines are zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from selfrepair.ablation.sites import Head, Mlp, Site
from selfrepair.bench.planted.networks import HEADS, NETWORKS, Network
from selfrepair.bench.planted.stream_features import SHARP, reading_vector, writing_vector
from selfrepair.statistics.estimates import Array

LAYERS, PRIMARIES = 6, 3
LABELS = {
    "backup": "backup",
    "MLP backup": "backup",
    "suppressor": "suppressor released",
    "MLP suppressor": "suppressor released",
    "re-aimer": "suppressor turned",  # by lines alone; attention tells that it re-aims
    "amplifier": "breakage",
    "MLP amplifier": "breakage",
}
"""What a motif has to be called, by role; others have no line."""

BACKUPS = ("backup", "MLP backup")
REPAIRERS = (*BACKUPS, "suppressor", "MLP suppressor", "re-aimer")
_HEADS = {
    "backup": (8, 0.05, 0.18),
    "mover": (6, 0.05, 0.6),
    "suppressor": (4, 0.03, 0.12),
    "re-aimer": (2, 0.06, 0.14),
    "amplifier": (4, 0.03, 0.12),
    "hit responder": (4, 0.1, 0.6),
}  # how many, and the range of strengths; all that cover together fall short of what the primaries wrote
_MLPS = {"MLP backup": (2, 0.04, 0.1), "MLP suppressor": (1, 0.03, 0.12), "MLP amplifier": (1, 0.03, 0.12)}


@dataclass(frozen=True)
class Part:
    """What a component does.

    Attributes:
        role: which part it plays.
        strength: how much it writes.
    """

    role: str
    strength: float = 0.0


@dataclass(frozen=True, eq=False)
class PlantedCircuit:
    """A truth table.

    Attributes:
        parts: of every component.
    """

    parts: Mapping[Site, Part]

    @property
    def primaries(self) -> tuple[Site, ...]:
        """What is ablated."""
        return tuple(site for site, part in self.parts.items() if part.role == "primary")

    def roles(self, sites: tuple[Site, ...]) -> np.ndarray:
        """Roles of some components, [component]."""
        return np.array([self.parts[site].role for site in sites])

    def lines(self, sites: tuple[Site, ...], contents: Array) -> Array:
        """What each component's line must be with all primaries ablated and no live norm, [prompt, component].

        Args:
            sites: the components.
            contents: of each prompt's source; 0 for noise, [prompt].
        """
        clean, ablated = (self.direct_effects(sites, contents, gone) for gone in (False, True))
        return ablated - clean

    def direct_effects(self, sites: tuple[Site, ...], contents: Array, gone: bool = False) -> Array:
        """What each component writes to ANSWER, [prompt, component].

        Args:
            sites: the components.
            contents: of each prompt's source; 0 for noise, [prompt].
            gone: whether the primaries are.
        """
        writes, zero = self._writes(gone, contents), np.zeros(len(contents))
        return np.stack([writes.get(site, zero) for site in sites], 1)

    def _writes(self, gone: bool, contents: Array) -> dict[Site, Array]:
        """What each component that writes to ANSWER writes there, [prompt]."""
        awake = (contents > 0) & gone
        held, writes = np.zeros(len(contents)), {}
        for group in self._in_order():
            found = {site: self._write(self.parts[site], gone, awake, contents, held) for site in group}
            writes.update(found)
            held = held + sum(found.values(), np.zeros(len(contents)))
        return writes

    def _in_order(self) -> Iterator[list[Site]]:
        """Components that read the same stream, from the bottom up."""
        for layer in range(LAYERS):
            for kind in (Head, Mlp):
                yield [site for site in self.parts if site.port.layer == layer and isinstance(site, kind)]

    @staticmethod
    def _write(part: Part, gone: bool, awake: np.ndarray, contents: Array, held: Array) -> Array:
        role, strength = part.role.removeprefix("MLP "), part.strength
        if role == "primary":
            return np.asarray(strength * contents * (not gone))
        if role == "backup":
            return np.asarray(strength * contents * awake)
        if role == "re-aimer":
            return np.asarray(strength * np.where(awake | (contents == 0), 1.0, -contents))
        by_answer = {"suppressor": -strength, "amplifier": strength}
        return np.asarray(strength * contents if role == "mover" else by_answer.get(role, 0.0) * held)


def draw_circuit(seed: int) -> PlantedCircuit:
    """A circuit with parts at random places and of random strengths.

    Args:
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    parts: dict[Site, Part] = {
        Head(0, head): Part("primary", float(rng.uniform(0.8, 1.4))) for head in range(PRIMARIES)
    }
    parts[Head(0, PRIMARIES)] = Part("relay", 1.0)
    heads = [Head(layer, head) for layer in range(1, LAYERS) for head in range(HEADS)]
    mlps = [Mlp(layer) for layer in range(1, LAYERS)]
    for places, wanted in ((heads, _HEADS), (mlps, _MLPS)):
        order = iter(rng.permutation(len(places)).tolist())
        for role, (number, low, high) in wanted.items():
            for _ in range(number):
                parts[places[next(order)]] = Part(role, float(rng.uniform(low, high)))
    every: list[Site] = [Head(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    every += map(Mlp, range(LAYERS))
    return PlantedCircuit({site: parts.get(site, Part("inert")) for site in every})


def build(circuit: PlantedCircuit, architecture: str, live_norm: bool) -> Network:
    """A network that has a circuit.

    Args:
        circuit: the truth.
        architecture: a name in `NETWORKS`.
        live_norm: whether the final norm divides by the stream's size.
    """
    network = NETWORKS[architecture](LAYERS)
    for site, part in circuit.parts.items():
        if isinstance(site, Mlp):
            _set_mlp(network, site.layer, part)
        elif isinstance(site, Head):
            _set_head(network, site, part)
    if live_norm:
        network.set_live_final_norm()
    return network


def _set_head(network: Network, site: Head, part: Part) -> None:
    home = reading_vector(task=SHARP / 2)
    always = {"source": reading_vector(task=SHARP), "start": home}
    waking = {"source": reading_vector(task=SHARP, done=-SHARP), "start": home}
    itself = {"task": reading_vector(task=SHARP)}
    strength = part.strength
    looks, makes = {
        "primary": (always, {"content": writing_vector(answer=strength), "source": writing_vector(done=1 / PRIMARIES)}),
        "relay": (always, {"content": writing_vector(carried=strength)}),
        "mover": (always, {"content": writing_vector(answer=strength)}),
        "backup": (waking, {"content": writing_vector(answer=strength)}),
        "hit responder": (waking, {"content": writing_vector(unrelated=strength)}),
        "suppressor": (itself, {"answer": writing_vector(answer=-strength)}),
        "amplifier": (itself, {"answer": writing_vector(answer=strength)}),
        "re-aimer": (
            {"source": reading_vector(done=SHARP), "start": home},
            {"content": writing_vector(answer=-strength), "start": writing_vector(answer=strength)},
        ),
        "inert": ({}, {}),
    }[part.role]
    network.set_head(site.layer, site.head, looks, makes)  # type: ignore[arg-type]


def _set_mlp(network: Network, layer: int, part: Part) -> None:
    answer = reading_vector(answer=1)
    reads, writes = {
        "MLP backup": (
            reading_vector(carried=1, done=-2),
            writing_vector(answer=part.strength),
        ),  # asleep while two primaries are left
        "MLP suppressor": (answer, writing_vector(answer=-part.strength)),
        "MLP amplifier": (answer, writing_vector(answer=part.strength)),
        "inert": (reading_vector(), writing_vector()),
    }[part.role]
    network.set_neuron(layer, 0, reads, writes)
