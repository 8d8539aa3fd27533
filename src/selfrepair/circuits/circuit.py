"""A circuit: components with the roles they were given, edges between them, and where all that comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfrepair.ablation.direction import require_components
from selfrepair.ablation.edges import Edge
from selfrepair.ablation.name_lists import Given, Place
from selfrepair.ablation.names import parse_groups
from selfrepair.ablation.shape import Shaped, require_existing, shape_of
from selfrepair.ablation.sites import At, AtSpan, Head, Mlp, Site
from selfrepair.choices import CIRCUIT_FORMATS, CIRCUIT_WRITERS
from selfrepair.circuits.elsewhere import transformer_lens_hooks
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.source import CircuitFormat, open_source
from selfrepair.errors import SelfRepairError

_ANY = "roles"  # the format of lists
UNNAMED = "circuit"  # the role of components that were given none


@dataclass(frozen=True, init=False)
class Circuit:
    """Components of a model that are said to do something together.

    Example:
        >>> circuit = Circuit({"movers": "0.0 0.1", "MLPs": "MLP 1"})
        >>> len(circuit), circuit.roles["movers"], circuit.mlps
        (3, (Head(layer=0, head=0), Head(layer=0, head=1)), (Mlp(layer=1),))
        >>> circuit.write("circuit.json")
        >>> Circuit.read("circuit.json", model=model).roles == circuit.roles
        True

    Attributes:
        roles: components by role, in the order given; those without a role under `circuit`.
        edges: between components, and from the input or to the logits; none where the source has none.
        scores: what a method gave components, in its own units.
        provenance: format, file, model, method, ... as the source tells them; text that is shown and never used.
        notes: what was left out or decided while reading, one sentence each.
    """

    roles: Mapping[str, tuple[Place, ...]]
    edges: tuple[Edge, ...]
    scores: Mapping[Place, float]
    provenance: Mapping[str, str]
    notes: tuple[str, ...]

    def __init__(
        self,
        roles: Given,
        edges: Iterable[Edge] = (),
        scores: Mapping[Place, float] | None = None,
        provenance: Mapping[str, str] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        """A circuit from names in any spelling (`parse_names`), or sites.

        Args:
            roles: a mapping from roles to names; or names alone, with groups as in `movers=9.9,9.6`.
            edges: see the attributes, as all that follow.
            scores: of components.
            provenance: where it comes from.
            notes: for readers of the circuit.

        Raises:
            SelfRepairError: a name that is none, or no components at all.
        """
        grouped = parse_groups(roles)
        require_components(place for places in grouped.values() for place in places)
        named: dict[str, tuple[Place, ...]] = {}
        for role, places in grouped.items():
            named[role or UNNAMED] = tuple(dict.fromkeys((*named.get(role or UNNAMED, ()), *places)))
        if not any(named.values()):
            raise SelfRepairError("A circuit of no components was given.", "Name its heads: Circuit('9.9, 9.6, 10.0').")
        object.__setattr__(self, "roles", named)
        object.__setattr__(self, "edges", tuple(edges))
        object.__setattr__(self, "scores", dict(scores or {}))
        object.__setattr__(self, "provenance", dict(provenance or {}))
        object.__setattr__(self, "notes", tuple(notes))

    @classmethod
    def read(
        cls,
        path: str | Path,
        top: int | None = None,
        rank: Rank | None = None,
        model: Shaped | None = None,
        format: str | None = None,
    ) -> Circuit:
        """A circuit from a file: text, JSON or YAML lists, graphs of EAP-IG and MIB, CircuitKIT, ACDC, circuit-tracer.

        Args:
            path: the file.
            top: how many edges (or components, in formats that score those) to take, best first; None for what the
                file itself says is in the circuit.
            rank: how `top` counts scores: `signed`, the most positive first, or `absolute`, the largest first. There is
                no default, because the two give different circuits.
            model: a model, its anatomy or shape; the circuit has to be of such a model.
            format: see `choices.CIRCUIT_FORMATS`; recognised by what is in the file if None.

        Raises:
            SelfRepairError: the file cannot be read, is a pickle, is of another model, or needs `top` and `rank`.
        """
        source = open_source(Path(path), None if model is None else shape_of(model))
        readers = _formats() if format is None else {format: CIRCUIT_FORMATS[format]}
        for name, reader in readers.items():
            if format is not None or reader.recognises(source):
                read = reader.read(source, top, rank)
                provenance = {"format": name, "file": Path(path).name, **read.provenance}
                found = cls(read.roles, read.edges, read.scores, provenance, read.notes)
                return found if model is None else found.checked(model)
        raise SelfRepairError(f"{path} is no circuit in a known format.", f"There are: {', '.join(CIRCUIT_FORMATS)}.")

    @classmethod
    def given(cls, text: str, top: int | None = None, rank: Rank | None = None, model: Shaped | None = None) -> Circuit:
        """A circuit as a command takes it: names, or a file of any format.

        Args:
            text: `9.9,9.6,10.0`, `movers=9.9,9.6`, `graph.json`, or `@graph.json` where a file has the name of a head.
            top: as for `read`.
            rank: as for `read`.
            model: as for `read`.

        Raises:
            SelfRepairError: as for `read`; or it is neither, or names with `top` or `rank`.
        """
        text = text.strip()
        if text.startswith("@"):
            return cls.read(text[1:], top, rank, model)
        try:
            found = cls(text)
        except SelfRepairError:
            if not Path(text).is_file() and not re.search(r"\.[a-z]{2,6}$", text, re.IGNORECASE):
                raise
            return cls.read(text, top, rank, model)
        if top is not None or rank is not None:
            raise SelfRepairError(f"'{text[:80]}' is a list without scores to choose by.", "Leave top and rank out.")
        return found if model is None else found.checked(model)

    @property
    def sites(self) -> tuple[Place, ...]:
        """All components, each once."""
        return tuple(dict.fromkeys(place for places in self.roles.values() for place in places))

    @property
    def heads(self) -> tuple[Head, ...]:
        """Its heads, wherever they are ablated."""
        return tuple(dict.fromkeys(bare for bare in map(_bare, self.sites) if isinstance(bare, Head)))

    @property
    def mlps(self) -> tuple[Mlp, ...]:
        """Its whole MLPs, wherever they are ablated."""
        return tuple(dict.fromkeys(bare for bare in map(_bare, self.sites) if isinstance(bare, Mlp)))

    def __len__(self) -> int:
        return len(self.sites)

    def __contains__(self, place: object) -> bool:
        return place in self.sites

    def __hash__(self) -> int:
        return hash((*self.roles.items(), *self.edges))

    def __str__(self) -> str:
        return "; ".join(f"{role}: {', '.join(map(str, places))}" for role, places in self.roles.items())

    def role_of(self, place: Place) -> str | None:
        """The first role that a component has; None if it is not in the circuit."""
        return next((role for role, places in self.roles.items() if place in places), None)

    def checked(self, model: Shaped) -> Circuit:
        """The circuit itself, if a model has all its components.

        Args:
            model: a model, its anatomy or shape.

        Raises:
            SelfRepairError: it lacks some.
        """
        shape = shape_of(model)
        require_existing([*self.sites, *(site for edge in self.edges for site in edge.sites)], shape)
        return self

    def with_role(self, role: str, names: Given) -> Circuit:
        """The circuit with more components in a role.

        Args:
            role: a new one, or one that it has.
            names: in any spelling, or sites.
        """
        more = tuple(place for places in parse_groups(names).values() for place in places)
        roles = {**self.roles, role: tuple(dict.fromkeys((*self.roles.get(role, ()), *more)))}
        return Circuit(roles, self.edges, self.scores, self.provenance, self.notes)

    def without(self, names: Given) -> Circuit:
        """The circuit with components taken out, and their edges with them.

        Args:
            names: in any spelling, or sites.

        Raises:
            SelfRepairError: nothing would be left.
        """
        gone = {place for places in parse_groups(names).values() for place in places}
        roles = {role: tuple(place for place in places if place not in gone) for role, places in self.roles.items()}
        edges = [edge for edge in self.edges if not gone & {*edge.sites}]
        scores = {place: score for place, score in self.scores.items() if place not in gone}
        return Circuit({role: left for role, left in roles.items() if left}, edges, scores, self.provenance, self.notes)

    def rebased(self, by: int) -> Circuit:
        """The circuit with its positions moved, as when tokens are put in front of the prompts (BOS).

        Args:
            by: how many tokens more there are at the start; negative for fewer. Positions that are counted from the
                end, and spans, stay.

        Raises:
            SelfRepairError: a position would lie before the start.
        """
        roles = {role: tuple(_moved(place, by) for place in places) for role, places in self.roles.items()}
        scores = {_moved(place, by): score for place, score in self.scores.items()}
        return Circuit(roles, self.edges, scores, self.provenance, self.notes)

    def text(self, format: str = "selfrepair", model: Shaped | None = None) -> str:
        """The circuit in a format of files.

        Args:
            format: see `choices.CIRCUIT_WRITERS`.
            model: a model, its anatomy or shape; graphs of EAP-IG say which one they are of.

        Raises:
            SelfRepairError: the format cannot say what the circuit has, or there is none of this name.
        """
        written: str = CIRCUIT_WRITERS[format](self, None if model is None else shape_of(model))
        return written

    def hooks(self, library: str = "transformer_lens") -> str:
        """Python code that ablates the circuit by zero elsewhere.

        Args:
            library: `transformer_lens`.

        Raises:
            SelfRepairError: another library, or a component whose place differs between prompts.
        """
        if library != "transformer_lens":
            raise SelfRepairError(f"There is no code for '{library}'.", "There is: transformer_lens.")
        return transformer_lens_hooks(self.sites)

    def write(self, path: str | Path, format: str = "selfrepair", model: Shaped | None = None) -> None:
        """Writes the circuit to a file.

        Args:
            path: the file.
            format: as for `text`.
            model: as for `text`.

        Raises:
            SelfRepairError: as for `text`.
        """
        Path(path).write_text(self.text(format, model), encoding="utf-8")


@cache
def _formats() -> dict[str, CircuitFormat]:
    """All of them, the one that reads any names last; which packages offer some takes milliseconds to look up."""
    return {name: CIRCUIT_FORMATS[name] for name in sorted(CIRCUIT_FORMATS, key=lambda name: name == _ANY)}


def _bare(place: Place) -> Site:
    return place.site if isinstance(place, At | AtSpan) else place


def _moved(place: Place, by: int) -> Place:
    if not isinstance(place, At):
        return place
    moved = tuple(one + by if one >= 0 else one for one in place.positions)
    if any(new < 0 <= old for new, old in zip(moved, place.positions, strict=True)):
        raise SelfRepairError(f"{place} would lie before the first token.", "Move its positions by less.")
    return At(place.site, moved)
