"""Our own JSON: `{"format": "selfrepair circuit", "roles": ..., "edges": ..., "scores": ...}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfrepair.ablation.edges import parse_edge
from selfrepair.ablation.name_lists import Place
from selfrepair.ablation.names import parse_groups, parse_names
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.source import CircuitFile, CircuitFormat, Read
from selfrepair.errors import SelfRepairError

NAME, VERSION = "selfrepair circuit", 1


def _recognises(source: CircuitFile) -> bool:
    data = source.mapping("format", "roles")
    return data is not None and data["format"] == NAME


def _read(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    data = source.mapping("format", "roles") or {}
    if top is not None or rank is not None:
        raise SelfRepairError(
            f"{source.path.name} is a whole circuit, nothing to choose from.", "Leave top and rank out."
        )
    if data.get("version") != VERSION:
        raise SelfRepairError(
            f"{source.path.name} has version {data.get('version')!r:.20} of the format; {VERSION} is read.",
            "Write it again, or update selfrepair.",
        )
    try:
        edges = tuple(parse_edge(str(name), score=_score(score)) for name, score in data.get("edges", []))
        scores = {place: float(score) for name, score in _mapping(data, "scores").items() for place in _one(name)}
    except (TypeError, ValueError, AttributeError):
        raise source.damaged("its edges or scores are none") from None
    provenance = {str(name): str(value) for name, value in _mapping(data, "provenance").items()}
    given = data.get("notes", [])
    notes = tuple(map(str, given)) if isinstance(given, list) else ()
    return Read(parse_groups(data["roles"], files=False), edges, scores, provenance, notes)


def _one(name: str) -> list[Place]:
    return parse_names([name])


def _score(given: Any) -> float | None:
    return None if given is None else float(given)


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise SelfRepairError(f"'{name}' is no mapping.", "Write the circuit again.")
    return found


OWN = CircuitFormat(_recognises, _read)
