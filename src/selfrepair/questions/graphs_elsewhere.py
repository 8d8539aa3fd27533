"""Edges in formats of other programs: GraphML, and attribution graphs of Neuronpedia and circuit-tracer.

Neuronpedia's schema has nodes at one position with a layer; ours are heads and MLPs at the position where the answer is
read, and one node for what the metric measures. A node's `feature` numbers it within its layer, heads first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pandas as pd

from selfrepair.ablation.sites import Site
from selfrepair.questions.graph import PARTS, EdgeGraph

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_NUMBERS = (*PARTS, *(f"{part}{end}" for part in PARTS for end in ("_low", "_high")))
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # no XML may have these
_READOUT = "readout"


def edges_as_graphml(table: pd.DataFrame, facts: Mapping[str, object]) -> str:
    """All edges as GraphML, which networkx, Gephi, yEd and igraph read.

    Args:
        table: see `EdgeGraph.table`.
        facts: what the numbers are, kept as attributes of the graph.
    """
    said = {f"about_{name}": str(value) for name, value in facts.items()}
    keys = [(name, "edge", "double") for name in _NUMBERS] + [("via", "edge", "string")]
    keys += [(name, "graph", "string") for name in said]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<graphml xmlns={quoteattr(_NAMESPACE)}>"]
    for name, owner, kind in keys:
        lines.append(f'  <key id={_attribute(name)} for="{owner}" attr.name={_attribute(name)} attr.type="{kind}"/>')
    lines.append('  <graph id="edges" edgedefault="directed">')
    lines += [f"    {_data(name, value)}" for name, value in said.items()]
    names = dict.fromkeys([*table["source"], *table["target"]])
    lines += [f"    <node id={_attribute(name)}/>" for name in names]
    for edge in table.to_dict("records"):
        known = [name for name in _NUMBERS if edge[name] == edge[name]]  # no interval is no number
        data = "".join(_data(name, repr(float(edge[name]))) for name in known) + _data("via", str(edge["via"]))
        lines.append(f"    <edge source={_attribute(edge['source'])} target={_attribute(edge['target'])}>{data}</edge>")
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def _data(name: str, text: str) -> str:
    return f"<data key={_attribute(name)}>{escape(_FORBIDDEN.sub('�', text))}</data>"


def _attribute(text: object) -> str:
    return quoteattr(_FORBIDDEN.sub("�", str(text)))


def neuronpedia_record(found: EdgeGraph, facts: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """All edges as an attribution graph; links to the readout are clean direct effects of senders and receivers.

    Args:
        found: the edges; means over prompts, at the answer's position of the first prompt.
        facts: what the numbers are.
        tokens: of the first prompt, as text.
    """
    prompts, table = found.effects.prompts, found.table()
    position = int(prompts.positions[0])
    names = list(dict.fromkeys([*table["source"], *table["target"]]))
    sites = {str(site): site for site in found.components.sites}
    ids = {name: _node_id(sites[name], found, position) for name in names}
    direct = found.sampling.mean(found.components.direct_effects(found.effects).T).value
    worth = {name: float(direct[found.components.index[sites[name]]]) for name in names}
    nodes = [_node(name, sites[name], ids[name], found, position) | {"activation": worth[name]} for name in names]
    nodes.append(_readout_node(found, facts, position))
    end = nodes[-1]["node_id"]
    links = [
        {"source": ids[edge["source"]], "target": ids[edge["target"]], "weight": float(edge["direct"])}
        for edge in table.to_dict("records")
    ]
    links += [{"source": ids[name], "target": end, "weight": worth[name]} for name in names]
    model = facts.get("model")
    return {
        "metadata": {
            "slug": "selfrepair-edges",
            "scan": str(model.get("name") if isinstance(model, Mapping) else model),
            "prompt": prompts.texts[0],
            "prompt_tokens": list(tokens),
            "info": {"generator": {"name": "selfrepair"}, "description": _description(facts)},
            "generation_settings": {name: str(value) for name, value in facts.items()},
        },
        "qParams": {"pinnedIds": [ids[name] for name in found.senders], "supernodes": [], "linkType": "both"},
        "nodes": nodes,
        "links": links,
    }


def _description(facts: Mapping[str, Any]) -> str:
    number = facts["prompts"]["number"]
    return (
        f"Heads and MLPs instead of latents. Links between them: change of what the target writes when the source is "
        f"ablated ({facts['ablation']}), the part that comes straight from the source's write, norms live; links to "
        f"the readout: clean direct effects. Means over {number} prompts, of which the first is shown."
    )


def _node_id(site: Site, found: EdgeGraph, position: int) -> str:
    return f"{site.port.layer}_{_number(site, found)}_{position}"


def _number(site: Site, found: EdgeGraph) -> int:
    """Of a component within its layer: heads, then a mixer, then the MLP or its parts."""
    return [other for other in found.components.sites if other.port.layer == site.port.layer].index(site)


def _node(name: str, site: Site, node: str, found: EdgeGraph, position: int) -> dict[str, Any]:
    return {
        "node_id": node,
        "feature": _number(site, found),
        "layer": str(site.port.layer),
        "ctx_idx": position,
        "feature_type": "attention head" if site.port.kind == "heads" else site.port.kind,
        "jsNodeId": f"{node}-0",
        "clerp": name,
        "influence": None,
    }


def _readout_node(found: EdgeGraph, facts: Mapping[str, Any], position: int) -> dict[str, Any]:
    layer = len(found.components.heads)
    return {
        "node_id": f"{layer}_0_{position}",
        "feature": 0,
        "layer": str(layer),
        "ctx_idx": position,
        "feature_type": "logit",
        "jsNodeId": f"{layer}_0-0",
        "clerp": f"{_READOUT}: {facts['metric']}",
        "influence": None,
        "activation": None,
        "is_target_logit": True,
    }
