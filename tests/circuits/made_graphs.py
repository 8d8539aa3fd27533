"""Small graphs as other tools write them, of a model with 2 layers of 2 heads; made here, not taken from anybody."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

SENDERS = ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1"]
RECEIVERS = [
    *("a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>", "m0"),
    *("a1.h0<q>", "a1.h1<q>", "a1.h0<k>", "a1.h1<k>", "a1.h0<v>", "a1.h1<v>", "m1", "logits"),
]
DEPTH = {"input": -1, "a0": 0, "m0": 1, "a1": 2, "m1": 3, "logits": 4}
CONFIG = {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
SCORES = {
    "input->a0.h1<v>": 0.9,
    "a0.h1->a1.h0<q>": 0.8,
    "a1.h0->logits": 0.7,
    "input->m0": 0.6,
    "a1.h1->logits": -2.0,  # a suppressor: the largest, and the last if signs count
    "m0->a1.h1<k>": -1.5,
    "m0->a1.h0<v>": 0.5,
    "a0.h0->m1": 0.4,  # leads nowhere unless m1->logits is taken too
}


def depth(node: str) -> int:
    return DEPTH[node.partition(".")[0]]


def edges() -> dict[str, float]:
    """All 31 edges with their scores, those that are not named above with little ones."""
    every = [f"{a}->{b}" for a in SENDERS for b in RECEIVERS if depth(a) < depth(b)]
    return {name: SCORES.get(name, 0.001 * (1 + place)) for place, name in enumerate(every)}


def eap_graph(inside: tuple[str, ...] = (), nodes: tuple[str, ...] = (), **about: Any) -> dict[str, Any]:
    made_nodes: dict[str, Any] = {name: {"in_graph": name in nodes} for name in SENDERS}
    made_nodes["logits"] = {"in_graph": True}
    made = {name: {"score": score, "in_graph": name in inside} for name, score in edges().items()}
    return {"cfg": CONFIG, "nodes": made_nodes, "edges": made} | about


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def eap_tensors(inside: tuple[str, ...] = (), nodes: tuple[str, ...] = (), **about: Any) -> dict[str, Any]:
    scores = torch.zeros(len(SENDERS), len(RECEIVERS))
    flags = torch.zeros(scores.shape, dtype=torch.bool)
    for name, score in edges().items():
        sender, receiver = name.split("->")
        place = SENDERS.index(sender), RECEIVERS.index(receiver)
        scores[place], flags[place] = score, name in inside
    return {
        "cfg": CONFIG,
        "src_nodes": SENDERS,
        "dst_nodes": RECEIVERS,
        "edges_scores": scores,
        "edges_in_graph": flags,
        "nodes_in_graph": torch.tensor([name in nodes for name in SENDERS]),
    } | about


def artifact(**about: Any) -> dict[str, Any]:
    def node(layer: int, kind: str, index: int, importance: float) -> dict[str, Any]:
        return {"layer_idx": layer, "node_type": kind, "index": index, "importance": importance, "name": None}

    nodes = {
        "L0H1": node(0, "attn_head", 1, 0.9),
        "L1H0": node(1, "attention_head", 0, 0.8),
        "L1H1": node(1, "attn_head", 1, 0.1),
        "L0M0": node(0, "mlp_neuron", 0, 0.7),
        "L1M": node(1, "mlp_layer", 0, 0.6),
        "L0A": node(0, "attn_layer", 0, 0.55),
        "emb": node(0, "embedding", 0, 1.0),
        "res": node(1, "residual", 0, 1.0),
    }
    links = {
        "E0": {"src_id": "L0H1", "dst_id": "L1H0", "weight": 0.5, "attribution": "direct"},
        "E1": {"src_id": "emb", "dst_id": "L0H1", "weight": 0.25, "attribution": "direct"},
        "E2": {"src_id": "L0H1", "dst_id": "L1H1", "weight": 0.4, "attribution": "direct"},
    }
    metadata = {"model_id": "tiny", "discovery_method": "eap_ig", "task": "ioi", "dataset": "ioi"}
    metadata |= {"granularity": "head", "threshold": 0.5, "timestamp": "2026-01-01", "algorithm_params": {}}
    return {"version": "1.0", "metadata": metadata | about, "nodes": nodes, "edges": links}


def tracer_graph() -> dict[str, Any]:
    def node(name: str, layer: str, place: int, kind: str, feature: int) -> dict[str, Any]:
        return {
            "node_id": name,
            "layer": layer,
            "ctx_idx": place,
            "feature_type": kind,
            "feature": feature,
            "clerp": "",
        }

    latent, error = "cross layer transcoder", "mlp reconstruction error"
    nodes = [
        node("E_5_0", "E", 0, "embedding", 0),
        node("0_63905_3", "0", 3, latent, 2042001770),  # `feature` joins layer and latent in one number
        node("1_7_3", "1", 3, latent, 43),
        node("1_9_4", "1", 4, latent, 64),
        node("0_1_3", "1", 3, error, -1),  # its id looks like a latent of layer 0
        node("3_11_4", "3", 4, "logit", 11),
    ]
    links = [{"source": "0_63905_3", "target": "1_7_3", "weight": 2.0}]
    about = {
        "slug": "a",
        "scan": "tiny",
        "prompt": "<bos>Hi <b>",
        "prompt_tokens": ["<bos>", "Hi"],
        "schema_version": 1,
    }
    pins = {"pinnedIds": [], "supernodes": [["say Hi", "0_63905_3", "1_7_3"]], "linkType": "both", "clickedId": ""}
    return {"metadata": about, "qParams": pins, "nodes": nodes, "links": links}


NAN = math.nan
