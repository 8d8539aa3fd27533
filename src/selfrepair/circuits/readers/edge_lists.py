"""Edges as text, one a line or in a JSON list: of ACDC as `receiver, sender, effect`, of AutoCircuit and EAP-IG."""

from __future__ import annotations

import re

import numpy as np

from selfrepair.ablation.edges import LONGEST, Edge, edge_between, ends_of
from selfrepair.ablation.name_lists import uncommented
from selfrepair.circuits.circuit_graph import components_of
from selfrepair.circuits.selection import Rank, best, rank_needed
from selfrepair.circuits.source import CircuitFile, CircuitFormat, Read
from selfrepair.errors import SelfRepairError

_ARROW = re.compile(r"->|→|<-|←")
_HOOKS = re.compile(r"hook_\w+")
_EFFECT = re.compile(r"[\s,:=]+(-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan)|None)[\s)]*$", re.IGNORECASE)
_TUPLE = re.compile(r"['\"]([\w.]+)['\"]\s*,\s*\[([^\[\]]*)\]")  # ('blocks.9.attn.hook_result', [None, None, 9])
_TORCH_INDEX = re.compile(r"TorchIndex\(\s*\[([^\[\]]*)\]\s*\)")


def _recognises(source: CircuitFile) -> bool:
    return not source.is_torch and any(_is_edge(line) for line in _lines(source)[:1])


def _lines(source: CircuitFile) -> list[str]:
    data = source.data
    if data is None:
        return [line for line in uncommented(source.text).splitlines() if line.strip()]
    if not isinstance(data, list):
        return []
    lines = [entry if isinstance(entry, list) else [entry] for entry in data]
    return [" ".join(map(str, line)) for line in lines]


def _is_edge(line: str) -> bool:
    return bool(_ARROW.search(line)) or len(_HOOKS.findall(line)) >= 2


def _read(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    heads = None if source.shape is None else source.shape.heads
    edges, inside = [], 0
    for line in _lines(source):
        if len(line) > LONGEST:
            raise source.damaged(f"'{line[:40]}…' is too long for an edge")
        text, score = _scored(line.strip().strip("()"))
        first, second = ends_of(_TUPLE.sub(r"\1[\2]", _TORCH_INDEX.sub(r"[\1]", text)), heads)
        if first.site == second.site:
            inside += 1  # a head's input and its output are two nodes of ACDC's graphs
        else:
            edges.append(edge_between(first, second, text, score))
    chosen, notes = _chosen(edges, top, rank)
    if inside:
        notes.append(f"Edges between parts of one component, left out: {inside}.")
    return Read({"": components_of(chosen)}, tuple(chosen), notes=tuple(notes))


def _chosen(edges: list[Edge], top: int | None, rank: Rank | None) -> tuple[list[Edge], list[str]]:
    edges = list(dict.fromkeys(edges))
    if top is None:
        if rank is not None:
            raise SelfRepairError("A rank needs top, how many edges to take.", "Give both, or neither.")
        return edges, []
    scores = np.array([np.nan if edge.score is None else edge.score for edge in edges])
    if rank is None:
        raise rank_needed(len(edges), "edges")
    places, notes = best(scores, top, rank, "edges")
    return [edges[place] for place in places], notes


def _scored(line: str) -> tuple[str, float | None]:
    """An edge's text, and the number that follows it."""
    effect = _EFFECT.search(line)
    if effect is None:
        return line.strip(" ,;"), None
    before = line[: effect.start()]
    if not _is_edge(before) or before.count("[") != before.count("]"):
        return line, None
    return before, None if effect[1].lower() == "none" else float(effect[1])


EDGES = CircuitFormat(_recognises, _read)
