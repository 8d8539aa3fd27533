"""CircuitKIT's files: scores of nodes (`*_scores.json`), and `CircuitArtifact` with nodes and edges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from selfrepair.ablation.edges import Edge, edge_between
from selfrepair.ablation.name_lists import Place
from selfrepair.ablation.sites import Attention, Head, Mlp, Neuron, Site
from selfrepair.ablation.spellings import Component, End, spelled
from selfrepair.circuits.circuit_graph import some
from selfrepair.circuits.selection import Rank, best, rank_needed, top_needed
from selfrepair.circuits.source import CircuitFile, CircuitFormat, Read
from selfrepair.errors import SelfRepairError

_NEURON = re.compile(r"L(\d{1,9})\.(\d{1,9})")
_ALIASES = {"attention_head": "attn_head", "mlp": "mlp_neuron"}  # of older versions
_SAID = ("task", "model", "algorithm", "level", "model_id", "discovery_method", "dataset", "granularity", "threshold")


def _about(*parts: Mapping[str, Any]) -> dict[str, str]:
    kinds = (str, int, float)
    return {key: str(part[key])[:200] for part in parts for key in _SAID if isinstance(part.get(key), kinds)}


def _are_scores(source: CircuitFile) -> bool:
    data = source.mapping("node_scores")
    return data is not None and isinstance(data["node_scores"], dict)


def _read_scores(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    data = source.mapping("node_scores") or {}
    given: Mapping[str, Any] = data["node_scores"]
    sites = [_scored_site(name, neurons=data.get("level") == "neuron") for name in given]
    scores = np.array([_number(source, name, score) for name, score in given.items()], dtype=np.float64)
    if top is None:
        raise top_needed(len(sites), "components")
    if rank is None and np.any(scores < 0):
        raise rank_needed(len(sites), "components")
    places, notes = best(scores, top, rank or "absolute", "components")
    if rank == "signed" and not np.any(scores < 0):
        notes.append("CircuitKIT writes absolute scores: what pushes the other way ranks as high.")
    chosen = [(sites[place], float(scores[place])) for place in places]
    return Read({"": [site for site, _ in chosen]}, scores=dict(chosen), provenance=_about(data), notes=tuple(notes))


def _scored_site(name: str, neurons: bool) -> Site:
    """A node's component: `L3.42` is a neuron in their files of neurons, and a head everywhere else."""
    neuron = _NEURON.fullmatch(name)
    if neurons and neuron is not None:
        return Neuron(int(neuron[1]), int(neuron[2]))
    site = spelled(name).site
    if not isinstance(site, Site):
        raise SelfRepairError(f"'{name:.80}' is no component of a circuit.", "Write the scores again.")
    return site


def _number(source: CircuitFile, name: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise source.damaged(f"the score of '{name:.40}' is {str(given)[:40]!r}")
    return float(given)


def _is_artifact(source: CircuitFile) -> bool:
    data = source.mapping("nodes", "edges")
    if data is None or not isinstance(data["nodes"], dict) or not isinstance(data["edges"], dict):
        return False
    return all(isinstance(node, dict) and "node_type" in node for node in data["nodes"].values())


def _read_artifact(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    data = source.mapping("nodes", "edges") or {}
    about = data["metadata"] if isinstance(data.get("metadata"), dict) else data
    granularity = str(about.get("granularity"))
    nodes = {name: _component(source, name, node, granularity) for name, node in data["nodes"].items()}
    kept, notes = _kept(source, data["nodes"], about.get("threshold", 0.0), top, rank)
    sites = {name: one.site for name, one in nodes.items() if name in kept and one and isinstance(one.site, Site)}
    edges, dangling = _edges(source, data["edges"], nodes, kept)
    if dangling:
        notes.append(f"Edges to or from nodes that are not in the circuit, left out: {some(dangling)}.")
    if residual := [name for name, one in nodes.items() if one is None]:
        notes.append(f"Nodes of the residual stream, which are no components, left out: {some(residual)}.")
    if any(_whole_mlp(node, granularity) for node in data["nodes"].values()):
        notes.append("MLPs that are written as neuron 0 in a file of heads were taken whole, as CircuitKIT means them.")
    scores: dict[Place, float] = {}
    for name, site in sites.items():
        scores[site] = _number(source, name, data["nodes"][name].get("importance"))
    return Read({"": list(sites.values())}, tuple(edges), scores, _about(about), tuple(notes))


def _kept(
    source: CircuitFile, nodes: Mapping[str, Any], threshold: object, top: int | None, rank: Rank | None
) -> tuple[set[str], list[str]]:
    """Nodes of the circuit: at least as important as the file's threshold, or the best."""
    names = list(nodes)
    scores = np.array([_number(source, name, node.get("importance")) for name, node in nodes.items()], dtype=np.float64)
    if top is not None:
        places, notes = best(scores, top, rank or "absolute", "components")  # from 0 to 1, so the two ranks agree
        return {names[place] for place in places}, notes
    least = _number(source, "threshold", threshold)
    kept = {name for name, score in zip(names, scores, strict=True) if score >= least}
    left = len(names) - len(kept)
    return kept, [f"Nodes below the file's threshold of {least:g}, left out: {left}."] if left else []


def _whole_mlp(node: Mapping[str, Any], granularity: str) -> bool:
    kind = _ALIASES.get(str(node.get("node_type")), str(node.get("node_type")))
    return kind == "mlp_neuron" and granularity != "neuron" and node.get("index") == 0


def _component(source: CircuitFile, name: str, node: Mapping[str, Any], granularity: str) -> Component | None:
    """What a node stands for; None for the residual stream."""
    kind = _ALIASES.get(str(node["node_type"]), str(node["node_type"]))
    layer, index = node.get("layer_idx"), node.get("index", 0)
    whole = [one for one in (layer, index) if isinstance(one, int) and not isinstance(one, bool) and one >= 0]
    if len(whole) < 2:
        raise source.damaged(f"node '{name:.40}' has no layer and index")
    match kind:
        case "attn_head":
            return Component(Head(*whole))
        case "mlp_neuron":
            return Component(Mlp(whole[0]) if _whole_mlp(node, granularity) else Neuron(*whole))
        case "attn_layer":
            return Component(Attention(whole[0]))
        case "mlp_layer":
            return Component(Mlp(whole[0]))
        case "embedding":
            return Component(End("input"))
        case "residual":
            return None
    raise source.damaged(f"node '{name:.40}' is of an unknown type, '{kind:.40}'")


def _edges(
    source: CircuitFile, given: Mapping[str, Any], nodes: Mapping[str, Component | None], kept: set[str]
) -> tuple[list[Edge], list[str]]:
    edges, dangling = [], []
    for edge in given.values():
        ends = (str(edge.get("src_id")), str(edge.get("dst_id"))) if isinstance(edge, dict) else ("?", "?")
        first, second = (nodes.get(end) if end in kept else None for end in ends)
        if first is None or second is None:
            dangling.append("->".join(end[:40] for end in ends))
        else:
            weight = _number(source, ends[0], edge.get("weight", 0.0))
            edges.append(edge_between(first, second, "->".join(ends), weight))
    return edges, dangling


SCORES = CircuitFormat(_are_scores, _read_scores)
ARTIFACT = CircuitFormat(_is_artifact, _read_artifact)
