"""Circuits as values: made from names, changed, written and read back; and what components are called elsewhere."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from typer.testing import CliRunner

from circuits.made_graphs import CONFIG, eap_graph, written
from selfrepair import At, AtSpan, Attention, Circuit, Edge, End, Head, Mlp, Neuron, SelfRepairError, parse_names
from selfrepair.ablation.shape import Shape
from selfrepair.circuits.elsewhere import elsewhere
from selfrepair.cli.app import app
from support import language_model

TINY = Shape((2, 2), key_heads=2, width=8)
EDGES = (Edge(End("input"), Head(0, 1), "v", 0.5), Edge(Head(0, 1), Mlp(1), score=-0.25), Edge(Mlp(1), End("logits")))


def made() -> Circuit:
    return Circuit(
        {"movers": "0.1", 'say "=hi"\n': "MLP 1, L1N3@-1"},
        EDGES,
        {Head(0, 1): 0.75, Mlp(1): -0.5},
        {"task": "ioi", "model": "tiny"},
        ["a note"],
    )


def test_names_in_any_spelling_make_a_circuit():
    circuit = Circuit("movers=9.9,a9.h6 suppressors=L10H7@S2 MLP 5")
    assert circuit.roles == {"movers": (Head(9, 9), Head(9, 6)), "suppressors": (AtSpan(Head(10, 7), "S2"), Mlp(5))}
    assert circuit.heads == (Head(9, 9), Head(9, 6), Head(10, 7)) and circuit.mlps == (Mlp(5),)
    assert len(circuit) == 4 and Head(9, 9) in circuit and circuit.role_of(Head(9, 6)) == "movers"
    assert Circuit([(9, 9), "9.6"]).roles == {"circuit": (Head(9, 9), Head(9, 6))}
    assert str(circuit) == "movers: L9H9, L9H6; suppressors: L10H7@S2, L5.mlp"
    for nothing in ("", [], {"movers": []}):
        with pytest.raises(SelfRepairError, match="no components"):
            Circuit(nothing)
    with pytest.raises(SelfRepairError, match="is a number"):
        Circuit({"movers": [9.1]})


def test_a_circuit_is_given_as_names_or_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "graph.json", eap_graph())
    written(tmp_path, "9.9", "10.0")
    assert Circuit.given("9.9, 9.6").heads == (Head(9, 9), Head(9, 6))
    assert Circuit.given("@9.9").heads == (Head(10, 0),)
    assert len(Circuit.given("graph.json", 6, "signed", [2, 2])) == 3
    with pytest.raises(SelfRepairError, match=r"nowhere\.json cannot be read"):
        Circuit.given("nowhere.json")
    with pytest.raises(SelfRepairError, match="'ninth' is not a component"):
        Circuit.given("ninth")
    with pytest.raises(SelfRepairError, match="a list without scores"):
        Circuit.given("9.9", top=3)
    with pytest.raises(SelfRepairError, match="no heads L9H9"):
        Circuit.given("9.9", model=[2, 2])


def test_components_come_and_go_with_their_edges():
    circuit = made()
    more = circuit.with_role("covering", "1.1").with_role("movers", [Head(1, 0)])
    assert more.roles["covering"] == (Head(1, 1),) and more.roles["movers"] == (Head(0, 1), Head(1, 0))
    assert more.edges == EDGES and len(circuit) == 3
    less = circuit.without("MLP 1")
    assert Mlp(1) not in less and less.edges == EDGES[:1] and list(less.scores) == [Head(0, 1)]
    with pytest.raises(SelfRepairError, match="no components"):
        Circuit("9.9").without("9.9")


def test_positions_move_with_tokens_put_in_front():
    circuit = Circuit("9.9@3 9.6@-1 10.0@S2 MLP 5", scores={At(Head(9, 9), (3,)): 1.0})
    moved = circuit.rebased(1)
    assert [str(site) for site in moved.sites] == ["L9H9@4", "L9H6@-1", "L10H0@S2", "L5.mlp"]
    assert moved.scores == {At(Head(9, 9), (4,)): 1.0} and moved.rebased(-1) == circuit
    with pytest.raises(SelfRepairError, match="before the first token"):
        circuit.rebased(-4)


def test_circuits_are_values():
    assert made() == made() and hash(made()) == hash(made()) and made() != made().without("0.1")
    with pytest.raises(AttributeError):
        made().roles = {}


def test_our_json_is_read_back_whole(tmp_path):
    circuit = made()
    circuit.write(tmp_path / "c.json")
    read = Circuit.read(tmp_path / "c.json", model=[2, 2])
    assert read.roles == circuit.roles and read.edges == circuit.edges and read.scores == circuit.scores
    assert [edge.score for edge in read.edges] == [0.5, -0.25, None] and read.notes == ("a note",)
    assert read.provenance == {"format": "selfrepair", "file": "c.json", "task": "ioi", "model": "tiny"}
    damaged = json.loads(circuit.text())
    for wrong in ({"version": 9}, {"edges": [["0.1"]]}, {"scores": {"0.1": "much"}}, {"roles": "@/etc/hostname"}):
        with pytest.raises(SelfRepairError):
            Circuit.read(written(tmp_path, "c.json", damaged | wrong))


def test_graphs_of_eap_are_written_and_read_back(tmp_path):
    circuit = Circuit("0.1, MLP 1", EDGES, {Head(0, 1): 0.75})
    with pytest.raises(SelfRepairError, match="says which model"):
        circuit.text("eap")
    circuit.write(tmp_path / "graph.json", "eap", model=TINY)
    graph = json.loads((tmp_path / "graph.json").read_text("utf-8"))
    assert graph["cfg"] == CONFIG
    assert graph["nodes"]["a0.h1"] == {"in_graph": True, "score": 0.75} and graph["nodes"]["m1"] == {"in_graph": True}
    assert graph["edges"]["a0.h1->m1"] == {"score": -0.25, "in_graph": True}
    read = Circuit.read(tmp_path / "graph.json", model=TINY)
    assert read.sites == circuit.sites and read.edges == EDGES and read.notes == ()
    for other in ("L0N3", "0.1@3"):
        with pytest.raises(SelfRepairError, match="have no node for"):
            Circuit(other).text("eap", TINY)


def test_a_circuit_without_edges_has_all_among_its_components():
    graph = json.loads(Circuit("L0, 1.0, MLP 1").text("eap", TINY))
    assert set(graph["nodes"]) == {"input", "logits", "a0.h0", "a0.h1", "a1.h0", "m1"}
    assert set(graph["edges"]) == {
        *(f"input->{end}" for end in ("a0.h0<q>", "a0.h0<k>", "a0.h0<v>", "a0.h1<q>", "a0.h1<k>", "a0.h1<v>")),
        *(f"{start}->a1.h0<{via}>" for start in ("input", "a0.h0", "a0.h1") for via in "qkv"),
        *(f"{start}->m1" for start in ("input", "a0.h0", "a0.h1", "a1.h0")),
        *(f"{start}->logits" for start in ("input", "a0.h0", "a0.h1", "a1.h0", "m1")),
    }
    parallel = json.loads(Circuit("1.0, MLP 1").text("eap", Shape((2, 2), width=8, parallel=True)))
    assert "a1.h0->m1" not in parallel["edges"] and parallel["cfg"]["parallel_attn_mlp"] is True


def test_circuitkits_scores_are_written_and_read_back(tmp_path):
    circuit = Circuit("0.1, MLP 1", scores={Head(0, 1): 0.75, Mlp(1): -0.5}, provenance={"task": "ioi"})
    circuit.write(tmp_path / "s.json", "circuitkit")
    read = Circuit.read(tmp_path / "s.json", top=2)
    assert read.sites == circuit.sites and read.scores == {Head(0, 1): 0.75, Mlp(1): 0.5}
    with pytest.raises(SelfRepairError, match="L0H1 has none"):
        Circuit("0.1").text("circuitkit")
    with pytest.raises(SelfRepairError, match="no name for L0N3"):
        Circuit("L0N3", scores={Neuron(0, 3): 1.0}).text("circuitkit")


def test_pictures_and_tables_escape_what_roles_are_called():
    picture = made().text("dot")
    assert r'label="say \"=hi\" ";' in picture and '"L0H1" -> "L1.mlp" [' in picture and "dashed" in picture
    assert picture.count("{") == picture.count("}")
    rows = list(csv.DictReader(io.StringIO(Circuit({"=1+1": "0.1"}, EDGES, {Head(0, 1): 0.75}).text("csv"))))
    assert rows[0] == {"kind": "head", "name": "L0H1", "role": "'=1+1", "layer": "0", "score": "0.75"}
    assert [row["name"] for row in rows[1:]] == ["input->L0H1.v", "L0H1->L1.mlp", "L1.mlp->logits"]
    with pytest.raises(SelfRepairError, match="No circuit format to write is called 'svg'"):
        made().text("svg")


def test_hooks_set_to_zero_what_they_name():
    names: dict = {}
    exec(Circuit("0.1, MLP 1@2, L1N3, L0").hooks(), names)  # what the user would paste
    values = {"hook_z": torch.ones(1, 4, 2, 3), "hook_mlp_out": torch.ones(1, 4, 5), "hook_post": torch.ones(1, 4, 6)}
    zeros = []
    for name, hook in names["hooks"]:
        value = hook(values[name.rpartition(".")[2]].clone(), hook=None)
        zeros.append((name, (value == 0).nonzero()[:, 1:].unique(dim=0).shape[0], int((value == 0).sum())))
    assert zeros == [
        ("blocks.0.attn.hook_z", 12, 12),
        ("blocks.1.hook_mlp_out", 5, 5),
        ("blocks.1.mlp.hook_post", 4, 4),
        ("blocks.0.attn.hook_z", 24, 24),
    ]
    with pytest.raises(SelfRepairError, match="names a span"):
        Circuit("0.1@S2").hooks()
    with pytest.raises(SelfRepairError, match="no code for 'jax'"):
        Circuit("0.1").hooks("jax")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neo", "opt", "bloom", "gemma2"])
def test_what_a_component_is_called_elsewhere_names_it(family):
    model = language_model(family)
    for site in (Head(1, 1), Mlp(1), Attention(1), Neuron(1, 3), At(Head(1, 1), (-1,)), AtSpan(Head(1, 1), "S2")):
        called = elsewhere(site, model)
        for tool, name in called.items():
            if tool != "nnsight" and not name.endswith("norm"):  # through which Gemma 2 writes
                assert parse_names([name], model) == [site], (tool, name)
    head = elsewhere(Head(1, 1), model)
    size = model.anatomy.blocks[1].head_dim
    assert head["nnsight"].endswith(f".input[:, :, {size}:{2 * size}]") and "[1]." in head["nnsight"]
    module = model.network.get_submodule(head["Hugging Face"].partition("[")[0])
    assert module is model.anatomy.blocks[1].projection
    with pytest.raises(SelfRepairError, match="no heads L9H9"):
        elsewhere(Head(9, 9), model)


def command(*arguments: str):
    return CliRunner().invoke(app, ["names", *arguments], env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})


def test_the_command_translates():
    shown = command("blocks.9.attn.hook_z[:, :, 6]", "MLP", "5")
    assert shown.exit_code == 0 and "a9.h6" in shown.output and "MLP 5" in shown.output
    told = json.loads(command("9.6", "--json").output)
    assert told["L9H6"]["TransformerLens"] == "blocks.9.attn.hook_z[:, :, 6]"
    assert '("blocks.9.attn.hook_z", zero(every, every, 6)),' in command("9.6", "--hooks").output


def test_the_command_refuses_what_names_nothing():
    ended = command("ninth")
    assert isinstance(ended.exception, SelfRepairError) and "is not a component" in str(ended.exception)
