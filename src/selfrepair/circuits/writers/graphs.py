"""Circuits as graphs of EAP-IG and MIB, and as scores of CircuitKIT."""

from __future__ import annotations

import json

from selfrepair.ablation.edges import Edge, edge_between
from selfrepair.ablation.name_lists import Place
from selfrepair.ablation.shape import Shape
from selfrepair.ablation.sites import Attention, Head, Mlp, Neuron, Site
from selfrepair.ablation.spellings import Component, End, Via
from selfrepair.circuits.circuit import Circuit
from selfrepair.errors import SelfRepairError

_QKV: tuple[Via, ...] = ("q", "k", "v")


def eap_json(circuit: Circuit, shape: Shape | None) -> str:
    """A graph that `Graph.from_json` of EAP-IG reads: its nodes and edges, all in the graph.

    Without edges, all edges among its components, the input and the logits are in the graph, with score 0.

    Raises:
        SelfRepairError: no model was given, or the circuit has what such graphs cannot say.
    """
    if shape is None or shape.width is None or len(set(shape.heads)) > 1:
        raise SelfRepairError(
            "A graph of EAP-IG says which model it is of: layers, heads of each and width.",
            "Give the model: circuit.write('graph.json', 'eap', model=model).",
        )
    sites = [site for place in circuit.sites for site in _nodes(place, shape)]
    edges = circuit.edges or tuple(_among(sites, shape))
    named = {_end(site): site for site in sites}
    nodes: dict[str, dict[str, object]] = {"input": {"in_graph": True}, "logits": {"in_graph": True}}
    for name, site in named.items():
        score = circuit.scores.get(site)
        nodes[name] = {"in_graph": True} if score is None else {"in_graph": True, "score": score}
    written = {name: {"score": edge.score or 0.0, "in_graph": True} for edge in edges for name in _edge_names(edge)}
    config: dict[str, object] = {"n_layers": shape.layers, "n_heads": shape.heads[0], "d_model": shape.width}
    config["parallel_attn_mlp"] = shape.parallel
    return json.dumps({"cfg": config, "nodes": nodes, "edges": written}, indent=1)


def circuitkit_scores(circuit: Circuit, shape: Shape | None) -> str:
    """Scores of nodes as CircuitKIT writes them: absolute, under `A9.9` and `MLP 5`.

    Raises:
        SelfRepairError: some components have no score, or are neither heads nor MLPs.
    """
    missing = [str(place) for place in circuit.sites if place not in circuit.scores]
    if missing:
        raise SelfRepairError(
            f"CircuitKIT's files are scores of components, and {missing[0]} has none.",
            "Give them: Circuit(roles, scores={Head(9, 9): 0.8, ...}), or write another format.",
        )
    names = {}
    for place in circuit.sites:
        if not isinstance(place, Head | Mlp):
            raise SelfRepairError(f"CircuitKIT's scores of nodes have no name for {place}.", "Write another format.")
        name = f"A{place.layer}.{place.head}" if isinstance(place, Head) else f"MLP {place.layer}"
        names[name] = abs(circuit.scores[place])
    about = {key: circuit.provenance[key] for key in ("task", "model", "algorithm") if key in circuit.provenance}
    written = {"task": "", "model": "", "algorithm": "eap", **about, "level": "node", "node_scores": names}
    return json.dumps({**written, "timestamp": "", "version": "1.0", "discovery_cfg": {}}, indent=2)


def _nodes(place: Place, shape: Shape) -> list[Site]:
    if isinstance(place, Attention):
        return [Head(place.layer, head) for head in range(shape.heads[place.layer])]
    if isinstance(place, Neuron) or not isinstance(place, Head | Mlp):
        raise SelfRepairError(f"Graphs of EAP-IG have no node for {place}.", "Write another format.")
    return [place]


def _among(sites: list[Site], shape: Shape) -> list[Edge]:
    """All edges among components that the model has."""
    ends = [Component(End("input")), *map(Component, sites), Component(End("logits"))]
    found = []
    for place, first in enumerate(ends):
        for second in ends[place + 1 :]:
            same = [end.site.port.layer for end in (first, second) if isinstance(end.site, Site)]
            kinds = {end.site.port.kind for end in (first, second) if isinstance(end.site, Site)}
            if len(same) == 2 and same[0] == same[1] and (shape.parallel or len(kinds) == 1):
                continue  # neither reads the other
            found.append(edge_between(first, second))
    return found


def _edge_names(edge: Edge) -> list[str]:
    """Names of an edge; one for each input of a head where it says none."""
    sender, receiver = _end(edge.sender), _end(edge.receiver)
    if not isinstance(edge.receiver, Head):
        return [f"{sender}->{receiver}"]
    return [f"{sender}->{receiver}<{via}>" for via in ((edge.via,) if edge.via else _QKV)]


def _end(end: Site | End) -> str:
    if isinstance(end, End):
        return end.name
    if isinstance(end, Head):
        return f"a{end.layer}.h{end.head}"
    if isinstance(end, Mlp):
        return f"m{end.layer}"
    raise SelfRepairError(f"Graphs of EAP-IG have no node for {end}.", "Write another format.")
