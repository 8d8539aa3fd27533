"""Circuit files of every tool are read, and each trap of theirs is met."""

from __future__ import annotations

import json
import pickle
import time
import zipfile

import pytest
import torch

from circuits.made_graphs import (
    CONFIG,
    NAN,
    SENDERS,
    artifact,
    eap_graph,
    eap_tensors,
    edges,
    tracer_graph,
    written,
)
from selfrepair import At, Attention, Circuit, Head, Mlp, Neuron, SelfRepairError

HEADS = [2, 2]
PATH = ("input->a0.h1<v>", "a0.h1->a1.h0<q>", "a1.h0->logits")


def names(circuit: Circuit) -> list[str]:
    return [str(site) for site in circuit.sites]


ROLES = {"movers": (Head(9, 9), Head(9, 6)), "suppressors": (Head(10, 7),)}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("c.txt", "movers = 9.9, 9.6   # Wang et al.\nsuppressors = 10.7\n"),
        ("c.json", {"movers": ["9.9", [9, 6]], "suppressors": ["a10.h7"]}),
        ("c.json", {"movers": [[9, 9], [9, 6]], "suppressors": [[10, 7]]}),
        ("c.yaml", 'movers: ["9.9", [9, 6]]\nsuppressors:\n- L10H7\n'),
        ("c.yaml", "movers: [a9.h9, '9:6']\nsuppressors: A10.7\n"),
    ],
)
def test_lists_keep_their_roles(tmp_path, file, content):
    circuit = Circuit.read(written(tmp_path, file, content))
    assert circuit.roles == ROLES and len(circuit) == 3
    assert circuit.provenance == {"format": "roles", "file": file}
    assert circuit.heads == (Head(9, 9), Head(9, 6), Head(10, 7))


@pytest.mark.parametrize(
    "content", ["9.9 9.6 10.7", "[9, 9] [9, 6] (10, 7)", '["9.9", "9.6", "10.7"]', "L9H9\nL9H6\nL10H7"]
)
def test_lists_without_roles(tmp_path, content):
    assert Circuit.read(written(tmp_path, "c.txt", content)).roles == {"circuit": (Head(9, 9), Head(9, 6), Head(10, 7))}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("c.yaml", "movers: [9.10]", r"9\.10 is a number; did you mean '9\.10' or '9\.1'\? Quote it"),
        ("c.json", '{"movers": [9.10]}', r"9\.10 is a number; did you mean '9\.10' or '9\.1'\? Quote it"),
        ("c.json", "[9.6, 9.9]", r"9\.6 is a number"),
        ("c.yaml", "movers: [9:6]", "9:6 is a number to YAML, of base 60"),
        ("c.yaml", "a: &a [L9H9]\nb: *a\n", "refers to parts of itself"),
        ("c.yaml", "a: [L9H9]\na: [L9H6]\n", "'a' is in it twice"),
        ("c.yaml", "a: !!python/object/apply:os.system ['true']", "no YAML that can be read"),
        ("c.yaml", "[" * 3000, "no YAML that can be read"),
        ("c.json", '{"a": ["9.9"], "a": ["9.6"]}', "'a' is in it twice"),
        ("c.json", "[" * 3000, "no JSON that can be read"),
        ("c.json", '{"a": ["9.9"', "no JSON that can be read"),
        ("c.json", '{"prompts": []}', "has prompts, not a circuit"),
        ("c.txt", "", "No components|no components"),
    ],
)
def test_lists_that_say_something_else_are_refused(tmp_path, file, content, said):
    with pytest.raises(SelfRepairError, match=said):
        Circuit.read(written(tmp_path, file, content))


OWN = '{{"format": "selfrepair circuit", "version": 1, "roles": "@{}"}}'


@pytest.mark.parametrize("form", ["@{}", '["@{}"]', '{{"movers": "@{}"}}', OWN])
def test_names_in_a_file_open_no_other_file(tmp_path, form):
    inner = written(tmp_path, "inner.txt", "9.9")
    assert Circuit.read(inner).heads == (Head(9, 9),)
    with pytest.raises(SelfRepairError):
        Circuit.read(written(tmp_path, "c.txt", form.format(inner)))


def test_a_list_has_nothing_to_choose_from(tmp_path):
    with pytest.raises(SelfRepairError, match="a list without scores"):
        Circuit.read(written(tmp_path, "c.txt", "9.9"), top=1, rank="signed")


def graphs(folder, **about):
    """The same graph as JSON and as tensors."""
    path = folder / "graph.pt"
    torch.save(eap_tensors(**about), path)
    return [written(folder, "graph.json", eap_graph(**about)), path]


def test_scores_are_ranked_with_or_without_signs_and_never_by_default(tmp_path):
    for path in graphs(tmp_path):
        with pytest.raises(SelfRepairError) as refused:
            Circuit.read(path, top=6)
        assert "whether signs count" in refused.value.problem and "signed" in refused.value.fix
        with pytest.raises(SelfRepairError, match="does not say which are in the circuit"):
            Circuit.read(path)
        with pytest.raises(SelfRepairError, match="There is no rank 'largest'"):
            Circuit.read(path, top=6, rank="largest")  # type: ignore[arg-type]
        with pytest.raises(SelfRepairError, match="Give both, or neither"):
            Circuit.read(path, rank="signed")
        with pytest.raises(SelfRepairError, match=f"top from 1 to {len(edges())}"):
            Circuit.read(path, top=500, rank="signed")
        signed, absolute = (Circuit.read(path, top=6, rank=rank) for rank in ("signed", "absolute"))
        assert names(signed) == ["L0H1", "L0.mlp", "L1H0"]
        assert names(absolute) == ["L0H1", "L0.mlp", "L1H0", "L1H1"]
        assert {str(edge): round(edge.score, 4) for edge in absolute.edges} == {
            "input->L0H1.v": 0.9,
            "L0H1->L1H0.q": 0.8,
            "L1H0->logits": 0.7,
            "input->L0.mlp": 0.6,
            "L1H1->logits": -2.0,
            "L0.mlp->L1H1.k": -1.5,
        }
        assert signed.notes[0] == f"6 of {len(edges())} edges were taken, by signed score."


def test_edges_that_lead_nowhere_are_left_out_and_counted(tmp_path):
    for path in graphs(tmp_path):
        circuit = Circuit.read(path, top=8, rank="absolute")
        assert Mlp(1) not in circuit and "left out as by EAP-IG: 1 (L0H0->L1.mlp)" in " ".join(circuit.notes)
        with pytest.raises(SelfRepairError, match="None of the best 1 edges"):
            Circuit.read(path, top=1, rank="absolute")


def test_flags_of_the_file_are_the_circuit(tmp_path):
    for path in graphs(tmp_path, inside=(*PATH, "m0->a1.h0<v>"), nodes=("input", "a0.h1", "a1.h0", "a1.h1")):
        circuit = Circuit.read(path)
        assert names(circuit) == ["L0H1", "L1H0", "L1H1"] and len(circuit.edges) == 4
        assert circuit.notes == (
            "Edges in the graph to or from components that are not in it: 1 (L0.mlp->L1H0.v).",
            "Components in the graph none of whose edges is: 1 (L1H1).",
        )
        assert circuit.provenance["layers"] == "2"


def test_nodes_may_be_flags_or_mappings(tmp_path):
    graph = eap_graph(inside=PATH)
    graph["nodes"] = {name: name in ("input", "a0.h1", "a1.h0") for name in SENDERS}
    assert names(Circuit.read(written(tmp_path, "graph.json", graph))) == ["L0H1", "L1H0"]
    graph["nodes"]["a0.h1"] = {"in_graph": "yes"}
    with pytest.raises(SelfRepairError, match=r"whether 'a0\.h1' is in the graph is 'yes'"):
        Circuit.read(written(tmp_path, "graph.json", graph))


def test_graphs_that_score_components_alone(tmp_path):
    graph = eap_graph()
    for number, name in enumerate(SENDERS):
        graph["nodes"][name]["score"] = NAN if name == "m1" else 0.1 * number * (-1) ** number
    for edge in graph["edges"].values():
        edge["score"] = 0.0
    path = written(tmp_path, "graph.json", graph)
    assert names(Circuit.read(path, top=2, rank="signed")) == ["L0H1", "L1H0"]
    absolute = Circuit.read(path, top=2, rank="absolute")
    assert names(absolute) == ["L1H0", "L1H1"] and absolute.scores[Head(1, 1)] == pytest.approx(-0.5)
    assert "by their own absolute scores" in absolute.notes[0]


def test_a_graph_of_another_model_is_refused(tmp_path):
    for path in graphs(tmp_path):
        assert len(Circuit.read(path, top=6, rank="signed", model=HEADS)) == 3
        with pytest.raises(SelfRepairError) as refused:
            Circuit.read(path, top=6, rank="signed", model=[9] * 30)
        assert "one of 2 layers of 2 heads; this model has 30 layers of 9 heads" in refused.value.problem
    with pytest.raises(SelfRepairError, match="There are no heads L9H9"):
        Circuit.read(written(tmp_path, "c.txt", "9.9"), model=HEADS)


@pytest.mark.parametrize("config", [{}, {"n_layers": "2", "n_heads": 2}, {"n_layers": 10**9, "n_heads": 2}, [], None])
def test_sizes_in_files_are_not_believed(tmp_path, config):
    graph = eap_graph(inside=PATH) | {"cfg": config}
    tensors = tmp_path / "graph.pt"
    torch.save(eap_tensors() | {"cfg": config}, tensors)
    for path in (written(tmp_path, "graph.json", graph), tensors):
        with pytest.raises(SelfRepairError, match="says that its model has"):
            Circuit.read(path, top=1, rank="signed")


def test_tensors_of_other_sizes_are_refused(tmp_path):
    path = tmp_path / "graph.pt"
    for wrong in (
        {"edges_scores": torch.zeros(3, 3)},
        {"edges_scores": torch.zeros(1).expand(7, 15 * 10**9)},
        {"src_nodes": SENDERS[::-1]},
        {"edges_scores": [1.0]},
    ):
        torch.save(eap_tensors() | wrong, path)
        with pytest.raises(SelfRepairError, match="cannot be used"):
            Circuit.read(path, top=3, rank="signed")


class Runs:
    def __reduce__(self):
        return (print, ("a pickle ran",))


def test_pickles_are_refused_and_never_opened(tmp_path, capsys):
    said = {}
    for name in ("edges.pkl", "scores.pickle", "circuit.json"):
        (tmp_path / name).write_bytes(pickle.dumps(Runs()))
        with pytest.raises(SelfRepairError, match="a pickle, which runs code") as refused:
            Circuit.read(tmp_path / name)
        said[name] = refused.value.fix
    for name, content in {
        "circuit.pt": [Runs()],
        "prune.pt": {"blocks.0.attn": torch.zeros(2)},
        "list.pt": ["A0.1"],
        "bad.pt": eap_tensors() | {"cfg": Runs()},
    }.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(SelfRepairError, match="a pickle, which runs code") as refused:
            Circuit.read(tmp_path / name)
        said[name] = refused.value.fix
    assert "ACDC, write its edges as text" in said["edges.pkl"]
    assert "lists what was pruned" in said["circuit.pt"] and "A9.9->A10.0.Q" in said["prune.pt"]
    assert "a pickle ran" not in capsys.readouterr().out


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    path = tmp_path / "graph.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph/data/0", bytes(200 * 2**20))
    with pytest.raises(SelfRepairError, match="unpacks to more"):
        Circuit.read(path)


def scores(**about):
    given = {"A0.1": 0.83, "A1.0": 0.7, "MLP 1": 0.61, "A0.0": 0.05}
    return {"task": "ioi", "model": "tiny", "algorithm": "eap", "level": "node", "node_scores": given} | about


def test_circuitkit_scores(tmp_path):
    circuit = Circuit.read(written(tmp_path, "ioi_scores.json", scores()), top=3)
    assert names(circuit) == ["L0H1", "L1H0", "L1.mlp"] and circuit.scores[Mlp(1)] == 0.61
    assert circuit.provenance["algorithm"] == "eap" and circuit.provenance["format"] == "circuitkit-scores"
    bare = written(tmp_path, "bare.json", {"node_scores": {"A0.1": 0.8, "A1.0": 0.7}})
    assert names(Circuit.read(bare, top=1)) == ["L0H1"]
    assert "absolute scores" in Circuit.read(bare, top=1, rank="signed").notes[-1]
    with pytest.raises(SelfRepairError, match="does not say which are in the circuit"):
        Circuit.read(bare)
    signed = written(tmp_path, "signed.json", {"node_scores": {"A0.1": 0.8, "A1.0": -0.9}})
    with pytest.raises(SelfRepairError, match="whether signs count"):
        Circuit.read(signed, top=1)


def test_neurons_of_circuitkit_are_not_heads(tmp_path):
    """`L3.42` is neuron 42 in their files of neurons, and head 42 everywhere else."""
    path = written(tmp_path, "s.json", scores(level="neuron", node_scores={"L1.42": 0.9, "A0.1": 0.8}))
    assert Circuit.read(path, top=2).sites == (Neuron(1, 42), Head(0, 1))
    path = written(tmp_path, "s.json", scores(node_scores={"L1.42": 0.9}))
    assert Circuit.read(path, top=1).sites == (Head(1, 42),)


def test_circuitkit_artifacts(tmp_path):
    path = written(tmp_path, "artifact.json", artifact())
    circuit = Circuit.read(path, model=HEADS)
    assert circuit.sites == (Head(0, 1), Head(1, 0), Mlp(0), Mlp(1), Attention(0))
    assert [str(edge) for edge in circuit.edges] == ["L0H1->L1H0", "input->L0H1"]
    notes = " ".join(circuit.notes)
    assert "below the file's threshold of 0.5, left out: 1." in notes and "L0H1->L1H1" in notes
    assert "residual stream" in notes and "neuron 0 in a file of heads were taken whole" in notes
    assert circuit.provenance["discovery_method"] == "eap_ig"
    neurons = Circuit.read(written(tmp_path, "artifact.json", artifact(granularity="neuron")))
    assert Neuron(0, 0) in neurons and Mlp(0) not in neurons
    damaged = artifact()
    damaged["nodes"]["L0H1"]["layer_idx"] = -1
    with pytest.raises(SelfRepairError, match="'L0H1' has no layer and index"):
        Circuit.read(written(tmp_path, "artifact.json", damaged))


ACDC = """\
(('blocks.1.hook_q_input', TorchIndex([None, None, 0])), ('blocks.0.attn.hook_z', TorchIndex([None, None, 1])), 0.5)
(('blocks.0.hook_v_input', TorchIndex([None, None, 1])), ('hook_embed', TorchIndex([None])), -0.25)
(('blocks.1.hook_resid_post', TorchIndex([None])), ('blocks.1.attn.hook_result', TorchIndex([None, None, 0])), 1)
(('blocks.1.attn.hook_q', TorchIndex([None, None, 0])), ('blocks.1.hook_q_input', TorchIndex([None, None, 0])), None)
"""


@pytest.mark.parametrize(
    "text",
    [
        "a0.h1->a1.h0<q>\ninput->a0.h1<v>\na1.h0->logits\n",
        "A0.1->A1.0.Q\nResid Start->A0.1.V\nA1.0->Resid End",
        "blocks.1.hook_q_input[:, :, 0]blocks.0.attn.hook_result[:, :, 1]\n"
        "blocks.0.hook_v_input[:, :, 1]blocks.0.hook_resid_pre[:]\n"
        "blocks.1.hook_resid_post[:]blocks.1.attn.hook_result[:, :, 0]\n",
        ACDC,
        '["a0.h1->a1.h0<q>", "input->a0.h1<v>", "a1.h0->logits"]',
        '[["a0.h1->a1.h0<q>", 0.5], ["input->a0.h1<v>", -0.25], ["a1.h0->logits", 1]]',
    ],
)
def test_edges_as_text(tmp_path, text):
    circuit = Circuit.read(written(tmp_path, "edges.txt", text))
    assert {str(edge) for edge in circuit.edges} == {"L0H1->L1H0.q", "input->L0H1.v", "L1H0->logits"}
    assert circuit.sites == (Head(0, 1), Head(1, 0)) and circuit.provenance["format"] == "edges"
    scored = {str(edge): edge.score for edge in circuit.edges}
    if "0.25" in text:
        assert scored == {"L0H1->L1H0.q": 0.5, "input->L0H1.v": -0.25, "L1H0->logits": 1.0}
        assert len(Circuit.read(tmp_path / "edges.txt", top=2, rank="signed").edges) == 2
    if "hook_q'" in text:
        assert circuit.notes[0] == "Edges between parts of one component, left out: 1."


def test_attribution_graphs_stand_for_mlps_at_positions(tmp_path):
    path = written(tmp_path, "graph.json", tracer_graph())
    circuit = Circuit.read(path, model=HEADS)
    assert circuit.roles == {"say Hi": (At(Mlp(0), (3,)), At(Mlp(1), (3,))), "circuit": (At(Mlp(1), (4,)),)}
    assert "attention patterns frozen" in circuit.notes[0] and "do not explain, left out: 1." in circuit.notes[2]
    assert circuit.provenance["prompt"] == "<bos>Hi <b>" and circuit.heads == ()
    assert circuit.rebased(-1).roles["say Hi"] == (At(Mlp(0), (2,)), At(Mlp(1), (2,)))
    with pytest.raises(SelfRepairError, match="Leave top and rank out"):
        Circuit.read(path, top=3, rank="absolute")
    wrong = tracer_graph()
    wrong["nodes"][1]["layer"] = "1"
    with pytest.raises(SelfRepairError, match="names no latent with layer and position"):
        Circuit.read(written(tmp_path, "graph.json", wrong))


def test_files_that_are_not_there_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(SelfRepairError, match="cannot be read"):
        Circuit.read(tmp_path / "nowhere.json")
    with pytest.raises(SelfRepairError, match="a folder"):
        Circuit.read(tmp_path)
    monkeypatch.setattr("selfrepair.circuits.source.MOST_BYTES", 10)
    with pytest.raises(SelfRepairError, match="larger than"):
        Circuit.read(written(tmp_path, "c.txt", "9.9 " * 10))


SPACE = " " * 200_000


@pytest.mark.parametrize("content", [SPACE, f"9.9{SPACE}x y", f"a->b{SPACE}x", "mlp " * 50_000])
def test_long_files_of_nothing_take_no_time(tmp_path, content):
    """Patterns that try every run of white space from every place would take minutes."""
    started = time.process_time()
    with pytest.raises(SelfRepairError):
        Circuit.read(written(tmp_path, "c.txt", content))
    assert time.process_time() - started < 5


def test_a_format_can_be_named(tmp_path):
    path = written(tmp_path, "c.json", {"nodes": ["9.9"], "edges": ["9.6"]})
    assert Circuit.read(path, format="roles").roles["edges"] == (Head(9, 6),)
    with pytest.raises(SelfRepairError, match="No circuit format is called 'mib'"):
        Circuit.read(path, format="mib")


def test_json_has_the_config_that_is_checked():
    assert json.loads(json.dumps(eap_graph()))["cfg"] == CONFIG


def test_lists_are_the_last_that_files_are_held_against(monkeypatch):
    """Otherwise no format of another package would ever be asked: lists take any file."""
    from selfrepair.circuits import circuit

    circuit._formats.cache_clear()
    with monkeypatch.context() as patch:
        others = {name: circuit.CIRCUIT_FORMATS[name] for name in circuit.CIRCUIT_FORMATS} | {"theirs": object()}
        patch.setattr(circuit, "CIRCUIT_FORMATS", others)
        assert list(circuit._formats())[-2:] == ["theirs", "roles"]
    circuit._formats.cache_clear()
