"""Graphs of EAP-IG and MIB: `graph.json`, and `.pt` through torch's reader of weights alone."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from selfrepair.circuits.circuit_graph import ScoredGraph
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.source import MOST_BYTES, CircuitFile, CircuitFormat, Read, refused_pickle
from selfrepair.errors import SelfRepairError

_PT_KEYS = ("cfg", "src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph")
_NEURONS = (
    "The graph also chooses among the entries of what components write (its `neurons`); components are taken whole."
)


def _recognises(source: CircuitFile) -> bool:
    data = source.mapping("cfg", "nodes", "edges")
    return source.is_torch or (data is not None and isinstance(data["nodes"], dict) and isinstance(data["edges"], dict))


def _read(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    graph = _of_tensors(source) if source.is_torch else _of_json(source, source.mapping("cfg", "nodes", "edges") or {})
    return graph.circuit(top, rank)


def _config(source: CircuitFile, config: object) -> tuple[int, int, dict[str, str]]:
    """Layers, heads, and what to remember."""
    given = config if isinstance(config, Mapping) else {}
    layers, heads = source.require_shape(given.get("n_layers"), given.get("n_heads"))
    return layers, heads, {"layers": str(layers), "heads": str(heads)}


def _of_json(source: CircuitFile, data: Mapping[str, Any]) -> ScoredGraph:
    _, _, provenance = _config(source, data["cfg"])
    inside, scores, partial = {}, {}, False
    for name, node in data["nodes"].items():  # upstream documents flags and writes mappings
        about = node if isinstance(node, dict) else {"in_graph": node}
        inside[name] = _flag(source, name, about.get("in_graph", False))
        if about.get("score") is not None:
            scores[name] = _number(source, name, about["score"])
        partial = partial or not all(about.get("neurons") or [True])
    names = list(data["edges"])
    about_edges = [edge if isinstance(edge, dict) else {"in_graph": edge} for edge in data["edges"].values()]
    edge_scores = [_number(source, name, edge.get("score")) for name, edge in zip(names, about_edges, strict=True)]
    flags = [_flag(source, name, edge.get("in_graph", False)) for name, edge in zip(names, about_edges, strict=True)]
    return ScoredGraph(
        nodes=inside,
        node_scores=scores,
        edge_name=names.__getitem__,
        edge_scores=np.array(edge_scores, dtype=np.float64),
        edges_in=np.array(flags, dtype=bool),
        provenance=provenance,
        notes=(_NEURONS,) if partial else (),
    )


def _flag(source: CircuitFile, name: str, given: object) -> bool:
    if given not in (0, 1, True, False):
        raise source.damaged(f"whether '{name:.40}' is in the graph is {str(given)[:40]!r}")
    return bool(given)


def _number(source: CircuitFile, name: str, given: object) -> float:
    if given is None:
        return float("nan")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise source.damaged(f"the score of '{name:.40}' is {str(given)[:40]!r}")
    return float(given)


def _of_tensors(source: CircuitFile) -> ScoredGraph:
    data = _loaded(source)
    layers, heads, provenance = _config(source, data["cfg"])
    senders, receivers = _senders(layers, heads), _receivers(layers, heads)
    if data["src_nodes"] != senders or data["dst_nodes"] != receivers:
        raise source.damaged("its nodes are in another order than EAP-IG's")
    shape = (len(senders), len(receivers))
    scores = _tensor(source, data, "edges_scores", shape)
    real = _real(layers, heads, bool(data["cfg"].get("parallel_attn_mlp")))
    places = np.flatnonzero(real)
    flags = _tensor(source, data, "nodes_in_graph", shape[:1])
    node_scores = _tensor(source, data, "nodes_scores", shape[:1]) if "nodes_scores" in data else None

    def name(number: int) -> str:
        sender, receiver = divmod(int(places[number]), len(receivers))
        return f"{senders[sender]}->{receivers[receiver]}"

    return ScoredGraph(
        nodes={node: bool(flag) for node, flag in zip(senders, flags, strict=True)},
        node_scores={} if node_scores is None else dict(zip(senders, map(float, node_scores), strict=True)),
        edge_name=name,
        edge_scores=scores.reshape(-1)[places],
        edges_in=_tensor(source, data, "edges_in_graph", shape).reshape(-1)[places].astype(bool),
        provenance=provenance,
        notes=(_NEURONS,) if "neurons_in_graph" in data else (),
    )


def _loaded(source: CircuitFile) -> Mapping[str, Any]:
    """What `torch.save` wrote, read without running any code.

    Raises:
        SelfRepairError: it holds more than tensors and plain values, unpacks to more than it is, or is no graph.
    """
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(source.content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise source.damaged("it unpacks to more than a graph can be")
        data = torch.load(io.BytesIO(source.content), map_location="cpu", weights_only=True)
    except SelfRepairError:
        raise
    except Exception:  # torch has many kinds for damaged files and for what it does not unpickle
        raise refused_pickle(source.path) from None
    if not isinstance(data, dict) or not all(key in data for key in _PT_KEYS):
        raise refused_pickle(source.path)
    return data


def _tensor(source: CircuitFile, data: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> Any:
    import torch

    value = data[key]
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape or value.layout != torch.strided:
        raise source.damaged(f"'{key}' is no tensor of shape {shape}")
    return value.detach().to(torch.float64).numpy()


def _senders(layers: int, heads: int) -> list[str]:
    nodes = ["input"]
    for layer in range(layers):
        nodes += [f"a{layer}.h{head}" for head in range(heads)]
        nodes.append(f"m{layer}")
    return nodes


def _receivers(layers: int, heads: int) -> list[str]:
    nodes = []
    for layer in range(layers):
        nodes += [f"a{layer}.h{head}<{letter}>" for letter in "qkv" for head in range(heads)]
        nodes.append(f"m{layer}")
    return [*nodes, "logits"]


def _real(layers: int, heads: int, parallel: bool) -> Any:
    """Which pairs are edges, [sender, receiver]: the matrix has room for those that point backwards too."""
    attention = 2.0 * np.arange(layers)  # depth of what a layer's heads read and write; its MLP is half a layer deeper
    mlp = attention if parallel else attention + 1
    sent, read = [np.array([-1.0])], []
    for layer in range(layers):
        sent += [np.full(heads, attention[layer]), mlp[layer : layer + 1]]
        read += [np.full(3 * heads, attention[layer]), mlp[layer : layer + 1]]
    read.append(np.array([2.0 * layers]))
    return np.concatenate(sent)[:, None] < np.concatenate(read)[None, :]


EAP = CircuitFormat(_recognises, _read)
