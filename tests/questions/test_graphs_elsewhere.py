"""Edges as GraphML and as attribution graphs: every edge with its numbers, and text from data as text."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from audit_prompts import asked_prompts

from selfrepair import Head, Mlp
from selfrepair.questions.graph import PARTS, edge_graph
from selfrepair.questions.graph_files import save_graph
from selfrepair.questions.graphs_elsewhere import edges_as_graphml
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from support import language_model

SPACE = {"g": "http://graphml.graphdrawing.org/xmlns"}
REQUIRED = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}  # of Neuronpedia's schema


@pytest.fixture(scope="module")
def question():
    prompts = asked_prompts(groups=1)
    named = replace(prompts, texts=("<b>first</b> & \x00prompt", *prompts.texts[1:]))
    return Question(language_model("gpt2"), named, AuditSettings(ablation="zero"))


@pytest.fixture(scope="module")
def found(question):
    return edge_graph(question, (Head(0, 1), Mlp(1)))


def written(found, question, folder, name):
    save_graph(found, question, 1e-12, folder / name)
    return (folder / name).read_text("utf-8")


def test_graphml_has_every_edge_with_its_numbers(found, question, tmp_path):
    root = ElementTree.fromstring(written(found, question, tmp_path, "edges.graphml"))
    kinds = {key.get("id"): key.get("attr.type") for key in root.findall("g:key", SPACE)}
    (graph,) = root.findall("g:graph", SPACE)
    edges, table = graph.findall("g:edge", SPACE), found.table()
    assert len(edges) == len(table) and graph.get("edgedefault") == "directed"
    nodes = {node.get("id") for node in graph.findall("g:node", SPACE)}
    for edge, row in zip(edges, table.to_dict("records"), strict=True):
        assert (edge.get("source"), edge.get("target")) == (row["source"], row["target"]) and edge.get(
            "target"
        ) in nodes
        values = {data.get("key"): data.text for data in edge.findall("g:data", SPACE)}
        assert {name: float(values[name]) for name in PARTS} == {name: row[name] for name in PARTS}
        assert (
            set(values) <= set(kinds) and kinds["total"] == "double" and float(values["total_low"]) == row["total_low"]
        )
    about = {data.get("key"): data.text for data in graph.findall("g:data", SPACE)}
    assert about["about_ablation"] == "zero" and set(about) <= set(kinds)


def test_missing_intervals_are_left_out_and_text_is_no_markup(found):
    table = found.table().assign(total_low=np.nan)
    text = edges_as_graphml(table, {"model": "</graph><x> & \x00\ud800"})
    root = ElementTree.fromstring(text.encode())
    assert root.find(".//x") is None and not root.findall(".//g:edge/g:data[@key='total_low']", SPACE)
    (about,) = root.findall(".//g:graph/g:data", SPACE)
    assert about.text == "</graph><x> & \ufffd\ufffd"


def test_an_attribution_graph_has_what_the_schema_requires_and_our_numbers(found, question, tmp_path):
    told = json.loads(written(found, question, tmp_path, "edges.neuronpedia.json"))
    assert {"slug", "scan", "prompt_tokens", "prompt"} <= set(told["metadata"]) and "qParams" in told
    assert len(told["metadata"]["prompt_tokens"]) == int(question.prompts.lengths[0])
    by_name = {node["clerp"]: node for node in told["nodes"]}
    assert all(set(node) >= REQUIRED and isinstance(node["feature"], int) for node in told["nodes"])
    assert len({node["node_id"] for node in told["nodes"]}) == len(told["nodes"])
    weights = {(link["source"], link["target"]): link["weight"] for link in told["links"]}
    assert len(weights) == len(told["links"])
    table = found.table()
    for row in table.to_dict("records"):
        assert weights[by_name[row["source"]]["node_id"], by_name[row["target"]]["node_id"]] == row["direct"]
    (end,) = [node for node in told["nodes"] if node["feature_type"] == "logit"]
    direct = found.components.direct_effects(found.effects).mean(0)
    for name, node in by_name.items():
        if node is not end:
            place = [str(site) for site in found.components.sites].index(name)
            assert weights[node["node_id"], end["node_id"]] == pytest.approx(direct[place], abs=1e-12)
    assert told["qParams"]["pinnedIds"] == [by_name[name]["node_id"] for name in ("L0H1", "L1.mlp")]
