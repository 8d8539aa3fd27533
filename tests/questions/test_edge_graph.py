"""Edges from several senders: each as if asked for alone, in tables, files and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from audit_prompts import asked_prompts

from selfrepair import Head, Intervention, Mlp, SelfRepairError, parse_names
from selfrepair.questions.graph import PARTS, edge_graph, strongest
from selfrepair.questions.graph_files import edges_as_dot, graph_record, save_graph
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.paths.direct_edges import direct_edges
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from selfrepair.questions.tables.graph_table import print_graph
from selfrepair.terminal import Console
from support import language_model
from zoo import families

SENDERS = (Head(0, 1), Mlp(1), Head(1, 2))


@pytest.fixture(scope="module")
def question():
    return Question(language_model("gpt2"), asked_prompts(groups=1), AuditSettings(ablation="zero"))


@pytest.fixture(scope="module")
def found(question):
    return edge_graph(question, SENDERS)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_every_sender_has_the_edges_it_has_alone_and_totals_are_lines(name):
    asked = Question(language_model(name), asked_prompts(groups=1), AuditSettings(ablation="zero"))
    graph = edge_graph(asked, SENDERS)
    table = graph.table().set_index(["source", "target"])
    for sender in SENDERS:
        alone = direct_edges(asked.model, asked.prompts, Intervention((sender,)), "zero")
        ledger = prompt_effects(asked.model, asked.prompts, [Intervention((sender,))], "zero")
        for site in alone.components.downstream(alone.senders):
            place, row = alone.components.index[site], table.loc[str(sender), str(site)]
            line = alone.components.lines(ledger, 0)[:, place]
            assert row["total"] == pytest.approx(line.mean(), abs=1e-9)
            assert row["direct"] == pytest.approx(alone.direct[:, place].mean(), abs=1e-9)
            assert row["direct"] + row["mediated"] == pytest.approx(row["total"], abs=1e-9)
            error = line.std(ddof=1) / np.sqrt(len(line))
            assert row["total_se"] == pytest.approx(error, abs=1e-9)
            assert row["total_low"] < row["total"] < row["total_high"] or error < 1e-9
    assert graph.residual < 1e-9 and table["total"].abs().max() > 1e-4


def test_the_next_reader_has_nothing_between_it_and_its_sender(found):
    table = found.table()
    last = families.LAYERS - 1
    next_reader = table[(table["source"] == "L1H2") & (table["target"] == "L1.mlp")]
    assert len(next_reader) == 1 and abs(next_reader["mediated"].item()) < 1e-12 < abs(next_reader["direct"].item())
    further = table[(table["source"] == "L0H1") & (table["target"] == f"L{last}.mlp")]
    assert abs(further["mediated"].item()) > 1e-6
    assert not set(table["target"][table["source"] == "L1H2"]) & {"L0H1", "L1H0", "L1H2", "L0.mlp"}
    assert set(table["via"]) == {"all"}


def test_edges_on_every_prompt(found):
    data, table = found.dataset(), found.table().set_index(["source", "target"])
    assert dict(data.sizes) == {"source": 3, "target": len(found.components.sites), "prompt": 6}
    one = data.sel(source="L0H1", target="L2H3")
    assert float(one["direct"].mean()) == pytest.approx(table.loc[("L0H1", "L2H3"), "direct"])
    assert np.isnan(data["total"].sel(source="L1H2", target="L0H0")).all()
    assert int(np.isfinite(data["total"][..., 0]).sum()) == len(table)


def test_files_hold_all_edges_and_a_drawing_the_largest(found, question, tmp_path):
    for name in ("edges.json", "edges.parquet", "edges.dot"):
        save_graph(found, question, 1e-12, tmp_path / "new" / name)
    table = found.table()
    told = json.loads((tmp_path / "new/edges.json").read_text())
    assert len(told["edges"]) == len(table) and told["edges"][0]["total"] == table["total"][0]
    assert told["ablation"] == "zero" and told["numerical_floor"] == 1e-12 and told["ledger_residual"] < 1e-9
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new/edges.parquet"), table)
    drawn = (tmp_path / "new/edges.dot").read_text()
    assert drawn.count(" -> ") == sum(min(8, size) for size in table.groupby("source").size())
    with pytest.raises(SelfRepairError, match="does not say how") as told_off:
        save_graph(found, question, None, tmp_path / "edges.csv")
    assert ".parquet" in told_off.value.fix


def test_a_drawing_says_sign_size_and_what_is_mediated(found):
    table = found.table().head(2).assign(total=[2.0, -1.0], direct=[1.5, 0.0], mediated=[0.5, -1.0])
    first, second = [line for line in edges_as_dot(table).splitlines() if " -> " in line]
    assert "penwidth=5.00" in first and "style=solid" in first and "+2.00 (+1.50 direct)" in first
    assert "penwidth=2.75" in second and "style=dashed" in second
    assert first.split("color=")[1][:9] != second.split("color=")[1][:9]


def test_senders_at_named_positions_and_placebos_have_edges_whose_totals_are_lines():
    sites = parse_names("L0H1@S2, L1.mlp@end, L1H0@S2")
    for ablation in ("zero", "placebo"):
        asked = Question(language_model("gpt2"), asked_prompts(groups=1), AuditSettings(ablation=ablation))
        graph = edge_graph(asked, sites)
        assert graph.residual < 1e-9 < np.abs(graph.table()["direct"]).max()
        assert graph.senders == ["L0H1@S2", "L1.mlp@end", "L1H0@S2"]


def test_a_sender_with_nothing_behind_it_has_no_edges(question, tmp_path):
    graph = edge_graph(question, [Mlp(families.LAYERS - 1)])
    assert graph.table().empty and list(graph.table().columns[:3]) == ["source", "target", "via"]
    for name in ("edges.json", "edges.parquet", "edges.dot"):
        save_graph(graph, question, None, tmp_path / name)
    assert " -> " not in (tmp_path / "edges.dot").read_text()
    assert json.loads((tmp_path / "edges.json").read_text())["edges"] == []
    print_graph(Console(width=100), question, graph, None, 8)
    both = edge_graph(question, [Mlp(families.LAYERS - 1), Head(0, 1)])
    assert set(both.table()["source"]) == {"L0H1"}


def test_one_prompt_has_edges_and_no_errors():
    asked = Question(language_model("gpt2"), asked_prompts().select([0]), AuditSettings(ablation="zero"))
    graph = edge_graph(asked, [Head(0, 1)])
    told = graph_record(asked, graph, None)
    json.dumps(told, allow_nan=False, default=str)
    assert told["edges"][0]["total_se"] is None and told["edges"][0]["total"] != 0


def test_the_strongest_heads_are_those_with_the_largest_direct_effects(question):
    effects = prompt_effects(question.model, question.prompts, [Intervention((Head(0, 0),))], "zero")
    sizes = np.abs(effects.direct_heads.mean(0))
    chosen = strongest(question, 4)
    wanted = [Head(*np.unravel_index(place, sizes.shape)) for place in np.argsort(-sizes, axis=None)[:4]]
    assert chosen == wanted


def test_what_cannot_be_asked(question):
    with pytest.raises(SelfRepairError, match="No sender"):
        edge_graph(question, [])
    other = Question(question.model, question.prompts, AuditSettings(ablation="zero", metric="log-prob"))
    with pytest.raises(SelfRepairError, match="not of log-prob"):
        edge_graph(other, SENDERS)
    assert {f"{part}_se" for part in PARTS} == {"total_se", "direct_se", "mediated_se"}
