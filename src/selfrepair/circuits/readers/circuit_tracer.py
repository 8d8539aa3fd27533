"""Attribution graphs of circuit-tracer and Neuronpedia: latents of transcoders, which describe MLPs at positions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from selfrepair.ablation.sites import At, Mlp
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.source import CircuitFile, CircuitFormat, Read
from selfrepair.errors import SelfRepairError

_ID = re.compile(r"(\d{1,4})_(\d{1,9})_(\d{1,6})")  # layer, latent, position
_LATENT = "cross layer transcoder"
_FROZEN = (
    "The graph was made with attention patterns frozen, so no head is in it: what heads do by attending elsewhere, "
    "their self-repair included, it cannot show."
)


def _recognises(source: CircuitFile) -> bool:
    data = source.mapping("nodes", "links")
    return data is not None and isinstance(data["nodes"], list) and isinstance(data["links"], list)


def _read(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    data = source.mapping("nodes", "links") or {}
    if top is not None or rank is not None:
        raise SelfRepairError(
            f"{source.path.name} was pruned when it was made; its influences are sums along the ranking, no scores.",
            "Leave top and rank out, and prune with circuit-tracer.",
        )
    nodes = [node for node in data["nodes"] if isinstance(node, dict)]
    latents = dict(_latent(source, node) for node in nodes if node.get("feature_type") == _LATENT)
    if not latents:
        raise SelfRepairError(f"{source.path.name} has no latents of transcoders.", "Give a graph of circuit-tracer.")
    roles = _roles(data, latents)
    errors = sum(node.get("feature_type") == "mlp reconstruction error" for node in nodes)
    notes = [_FROZEN, f"Latents, taken as the MLPs that they describe at their positions: {len(latents)}."]
    if errors:
        notes.append(f"Nodes for what the transcoders do not explain, left out: {errors}.")
    about = data["metadata"] if isinstance(data.get("metadata"), dict) else {}
    said = {key: str(about[key])[:500] for key in ("slug", "scan", "prompt", "schema_version") if key in about}
    return Read(roles, provenance=said, notes=tuple(notes))


def _latent(source: CircuitFile, node: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """A latent's name, layer and position, from `node_id`: `feature` joins layer and latent in one number."""
    name = node.get("node_id")
    parts = _ID.fullmatch(name) if isinstance(name, str) else None
    said = None if parts is None else (str(node.get("layer", parts[1])), str(node.get("ctx_idx", parts[3])))
    if parts is None or said != (parts[1], parts[3]):
        raise source.damaged(f"{str(name)[:60]!r} names no latent with layer and position")
    return parts[0], (int(parts[1]), int(parts[3]))


def _roles(data: Mapping[str, Any], latents: Mapping[str, tuple[int, int]]) -> dict[str, list[At]]:
    """Supernodes by their labels, other latents without a role."""
    about = data.get("qParams")
    supernodes = about.get("supernodes") if isinstance(about, dict) else None
    roles: dict[str, list[At]] = {}
    grouped: set[str] = set()
    for supernode in supernodes if isinstance(supernodes, list) else []:
        label, *members = map(str, supernode) if isinstance(supernode, list) and supernode else [""]
        inside = [name for name in members if name in latents]
        if inside:
            roles[label] = _sites(latents[name] for name in inside)
            grouped.update(inside)
    rest = [place for name, place in latents.items() if name not in grouped]
    if rest:
        roles[""] = _sites(rest)
    return roles


def _sites(places: Iterable[tuple[int, int]]) -> list[At]:
    by_layer: dict[int, set[int]] = {}
    for layer, position in places:
        by_layer.setdefault(layer, set()).add(position)
    return [At(Mlp(layer), tuple(sorted(by_layer[layer]))) for layer in sorted(by_layer)]


CIRCUIT_TRACER = CircuitFormat(_recognises, _read)
