"""Files of circuits, changed at random: refused in words, or read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from circuits.made_graphs import artifact, eap_graph, eap_tensors, tracer_graph, written
from fuzz.conftest import MORE, outcome
from fuzz.mutations import mutated, mutated_json
from selfrepair import Circuit

TIMES = 100 * MORE
PATH = ("input->a0.h1<v>", "a0.h1->a1.h0<q>", "a1.h0->logits")
OWN = Circuit({"movers": "0.1 1.0@3", "MLPs": "MLP 1"}, scores={}).text()
EDGES = "a0.h1->a1.h0<q> 0.5\ninput->a0.h1<v>\nblocks.1.hook_resid_post[:]blocks.1.attn.hook_z[:, :, 0]"
SCORES = {"task": "ioi", "level": "node", "node_scores": {"A0.1": 0.8, "A1.0": 0.7, "MLP 1": 0.6}}
FILES = {
    "own.json": (OWN, None, mutated_json),
    "graph.json": (eap_graph(inside=PATH, nodes=("input", "a0.h1", "a1.h0")), None, mutated_json),
    "ranked.json": (eap_graph(), 6, mutated_json),
    "artifact.json": (artifact(), None, mutated_json),
    "scores.json": (SCORES, 2, mutated_json),
    "tracer.json": (tracer_graph(), None, mutated_json),
    "roles.json": ({"movers": ["0.1", [1, 0]], "MLPs": "m1"}, None, mutated_json),
    "edges.txt": (
        "a0.h1->a1.h0<q> 0.5\ninput->a0.h1<v>\nblocks.1.hook_resid_post[:]blocks.1.attn.hook_z[:, :, 0]",
        None,
        mutated,
    ),
    "roles.txt": ("movers=0.1,1.0@3 MLP 1 blocks.1.attn.hook_z[:, :, 0]", None, mutated),
    "roles.yaml": ('movers: ["0.1", [1, 0]]\nMLPs: [m1, "9:6"]\n', None, mutated),
}


def try_mutations(path: Path, top: int | None, change) -> None:
    content = path.read_bytes()

    def read() -> Circuit:
        circuit = Circuit.read(path, top, None if top is None else "absolute")
        assert all(map(str, circuit.sites)) and circuit.text("csv") and circuit.text("dot")
        return circuit

    assert outcome(read)[0] == "read"
    kinds = set()
    for seed in range(TIMES):
        path.write_bytes(change(content, random.Random(f"{path.name} {seed}")))
        try:
            kinds.add(outcome(read)[0])
        except BaseException as problem:
            raise AssertionError(f"{path.name}, seed {seed}: {type(problem).__name__}: {problem}") from problem
    assert len(kinds) == 2, kinds


@pytest.mark.parametrize("name", FILES)
def test_changed_files(tmp_path, name):
    content, top, change = FILES[name]
    try_mutations(written(tmp_path, name, content), top, change)


def test_changed_tensors(tmp_path):
    path = tmp_path / "graph.pt"
    torch.save(eap_tensors(), path)
    try_mutations(path, 6, mutated)
