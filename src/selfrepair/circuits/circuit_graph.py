"""Graphs whose edges have scores: which edges and components of them are the circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selfrepair.ablation.edges import Edge, parse_edge
from selfrepair.ablation.name_lists import Place
from selfrepair.ablation.sites import Site
from selfrepair.ablation.spellings import End, spelled
from selfrepair.circuits.selection import Rank, best, top_needed
from selfrepair.circuits.source import Read
from selfrepair.errors import SelfRepairError


@dataclass(frozen=True)
class ScoredGraph:
    """A graph as files have it.

    Attributes:
        nodes: by name, whether they are in the graph.
        node_scores: by name; NaN where a node has none.
        edge_name: the name of an edge by its number.
        edge_scores: [edge].
        edges_in: [edge], whether they are in the graph.
        provenance: what the file says about itself.
        notes: what the reader left out.
    """

    nodes: Mapping[str, bool]
    node_scores: Mapping[str, float]
    edge_name: Callable[[int], str]
    edge_scores: NDArray[np.float64]
    edges_in: NDArray[np.bool_]
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def circuit(self, top: int | None, rank: Rank | None) -> Read:
        """The circuit: what the file flags, or the best edges (nodes, where only these have scores).

        Raises:
            SelfRepairError: nothing is flagged and `top` is None, or scores need a rank.
        """
        if top is None:
            if rank is not None:
                raise SelfRepairError("A rank needs top, how many edges to take.", "Give both, or neither.")
            return self._flagged()
        by_nodes = not np.any(self.edge_scores[np.isfinite(self.edge_scores)])
        return self._best_nodes(top, rank) if by_nodes and self.node_scores else self._best_edges(top, rank)

    def _flagged(self) -> Read:
        edges = self._edges(np.flatnonzero(self.edges_in))
        inside = {site: None for name, flag in self.nodes.items() if flag for site in [_site(name)] if site is not None}
        if not inside and not edges:
            raise top_needed(*self._scored())
        known = {site for name in self.nodes for site in [_site(name)] if site is not None}
        if not inside:  # graphs that flag edges alone
            return self._read(components_of(edges), edges, [])
        at_ends = components_of(edges)
        loose = [edge for edge in edges if any(site in known and site not in inside for site in edge.sites)]
        alone = [site for site in inside if site not in at_ends]
        notes = []
        if loose:
            notes.append(f"Edges in the graph to or from components that are not in it: {some(loose)}.")
        if alone and edges:
            notes.append(f"Components in the graph none of whose edges is: {some(alone)}.")
        return self._read(list(inside), edges, notes)

    def _best_edges(self, top: int, rank: Rank | None) -> Read:
        places, notes = best(self.edge_scores, top, rank, "edges")
        edges = self._edges(places)
        joined = connected(edges)
        loose = [edge for edge in edges if edge not in {*joined}]
        if loose:
            notes.append(f"Edges on no path from the input to the logits, left out as by EAP-IG: {some(loose)}.")
        if not joined:
            raise SelfRepairError(
                f"None of the best {top} edges of {len(self.edge_scores):,} lies on a path from input to logits.",
                "Take more edges.",
            )
        notes.insert(0, f"{top:,} of {len(self.edge_scores):,} edges were taken, by {rank} score.")
        return self._read(components_of(joined), joined, notes)

    def _best_nodes(self, top: int, rank: Rank | None) -> Read:
        names = [name for name in self.nodes if _site(name) is not None]
        scores = np.array([self.node_scores.get(name, np.nan) for name in names], dtype=np.float64)
        places, notes = best(scores, top, rank, "components")
        notes.insert(0, f"Components were taken by their own {rank} scores: edges have none.")
        return self._read([site for place in places for site in [_site(names[place])] if site is not None], [], notes)

    def _scored(self) -> tuple[int, str]:
        edges = int(np.isfinite(self.edge_scores).sum())
        return (edges, "edges") if edges else (len(self.node_scores), "components")

    def _edges(self, places: Iterable[int]) -> list[Edge]:
        return [parse_edge(self.edge_name(int(place)), score=float(self.edge_scores[place])) for place in places]

    def _read(self, sites: Sequence[Site], edges: Sequence[Edge], notes: Iterable[str]) -> Read:
        inside = {*sites}
        scores: dict[Place, float] = {
            site: score
            for name, score in self.node_scores.items()
            if (site := _site(name)) is not None and site in inside and np.isfinite(score)
        }
        return Read({"": tuple(sites)}, tuple(edges), scores, self.provenance, (*self.notes, *notes))


def components_of(edges: Iterable[Edge]) -> list[Site]:
    """The components at the ends of edges, by depth."""
    found = dict.fromkeys(site for edge in edges for site in edge.sites)
    return sorted(found, key=lambda site: (site.port.layer, site.port.kind != "heads", site.entries or ()))


def connected(edges: Sequence[Edge]) -> list[Edge]:
    """The edges that lie on a path from the input to the logits."""
    left = list(edges)
    while True:
        sent, received = {edge.sender for edge in left}, {edge.receiver for edge in left}
        kept = [
            edge
            for edge in left
            if (edge.sender in received or isinstance(edge.sender, End))
            and (edge.receiver in sent or isinstance(edge.receiver, End))
        ]
        if len(kept) == len(left):
            return kept
        left = kept


def some(things: Sequence[object], most: int = 5) -> str:
    """How many there are, and the first of them: `7 (a, b, c, d, e, ...)`."""
    more = ", ..." if len(things) > most else ""
    return f"{len(things)} ({', '.join(map(str, things[:most]))}{more})"


def _site(name: str) -> Site | None:
    """A node's component; None for the input and the logits."""
    site = spelled(name).site
    return site if isinstance(site, Site) else None
