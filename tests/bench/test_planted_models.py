"""Planted models do what their truth tables say, and the benchmark finds who covers in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from selfrepair import load
from selfrepair.ablation.interventions import Intervention, pairs
from selfrepair.ablation.operators import Zero
from selfrepair.bench.evidence import EVERY, SCORES
from selfrepair.bench.planted import benchmark
from selfrepair.bench.planted.benchmark import VARIANTS, Case, Variant, planted_benchmark
from selfrepair.bench.planted.circuits import BACKUPS, LABELS, REPAIRERS, PlantedCircuit, build, draw_circuit
from selfrepair.bench.planted.networks import NETWORKS
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.cli.app import app
from selfrepair.engine.replay import ReplayEngine
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects

SEEDS = range(3)


@pytest.fixture(scope="module")
def cases():
    """Every variant and seed, measured once."""
    chosen = [*((variant, 0) for variant in VARIANTS), (VARIANTS[0], 1), (VARIANTS[1], 1)]
    return {(variant.name, seed): Case.of(variant, seed) for variant, seed in chosen}


def score(case: Case, name: str) -> np.ndarray:
    return next(score for score in SCORES if score.name == name).of(case.evidence, EVERY)


def measured(circuit, architecture, interventions, number=10):
    model = load(build(circuit, architecture, False).module)
    prompts, contents = planted_prompts(number, 0)
    effects = prompt_effects(model, prompts, interventions, Zero(), engine=ReplayEngine(fold=1))
    return Components.of(model.anatomy), effects, contents


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_lines_are_those_of_the_truth_table(architecture, seed):
    circuit = draw_circuit(seed)
    components, effects, contents = measured(circuit, architecture, [Intervention(circuit.primaries, name="all")])
    primaries = np.isin(circuit.roles(components.sites), "primary")
    truth = circuit.lines(components.sites, contents)
    np.testing.assert_allclose(components.lines(effects, 0)[:, ~primaries], truth[:, ~primaries], atol=1e-9)
    clean = circuit.direct_effects(components.sites, contents)
    np.testing.assert_allclose(components.direct_effects(effects), clean, atol=1e-9)
    np.testing.assert_allclose(effects.clean, clean.sum(1), atol=1e-9)
    np.testing.assert_allclose(effects.lost[0], -truth[:, primaries].sum(1), atol=1e-9)
    np.testing.assert_allclose(effects.total_effect[0], truth.sum(1), atol=1e-9)
    assert (contents == 0).sum() == 1 and not truth[contents == 0].any()


@pytest.mark.parametrize("seed", range(20))
def test_roles_have_the_lines_of_their_motif(seed):
    """Whatever is drawn: all repairers cover, amplifiers break, and nobody else moves."""
    circuit = draw_circuit(seed)
    sites = tuple(circuit.parts)
    lines, roles = circuit.lines(sites, np.array([0.9, 1.0, 1.15])), circuit.roles(sites)
    assert (lines[:, np.isin(roles, REPAIRERS)] > 0.003).all()
    assert (lines[:, [LABELS.get(role) == "breakage" for role in roles]] < 0).all()
    assert not lines[:, ~np.isin(roles, [*LABELS, "primary"])].any()
    assert (lines.sum(1) < 0).all()


def test_one_primary_wakes_nobody_and_two_wake_everybody():
    """A group effect: single ablations show no backup, and no pair of a primary and a backup interacts."""
    circuit = draw_circuit(0)
    one = [Intervention((site,)) for site in circuit.primaries]
    components, effects, contents = measured(circuit, "gpt2", [*one, *pairs(circuit.primaries)])
    backups = np.isin(circuit.roles(components.sites), "backup")
    truth = circuit.lines(components.sites, contents)[:, backups]
    for row in range(3):
        assert np.abs(components.lines(effects, row)[:, backups]).max() < 1e-4
        awake = components.lines(effects, 3 + row)[:, backups]
        np.testing.assert_allclose(awake, truth, atol=1e-4)


def test_one_pass_ranks_all_repairers_first_and_names_their_motifs(cases):
    for case in cases.values():
        ranks = {row["score"]: row for row in case.ranks()}
        assert ranks["line"]["auc_repairers"] >= 0.99
        assert ranks["labelled backup"]["auc_backups"] == 1
        right = case.motifs()
        assert right["truth_error"] < 1e-9
        assert right["labels_right"] >= 0.95 and right["unmoved_right"] >= 0.95 and right["residual"] < 1e-9


def test_growth_of_an_unsigned_energy_misses_suppressors(cases):
    for case in cases.values():
        ranks = {row["score"]: row for row in case.ranks()}
        assert ranks["CoAx growth"]["auc_repairers"] < 0.75 and ranks["single ablation"]["auc_repairers"] < 0.75
        assert ranks["freeze test"]["auc_repairers"] == 1
        if not case.live_norm:
            assert ranks["CoAx growth"]["auc_backups"] > 0.9  # what it was made for
            suppressors = np.isin(case.roles, ["suppressor", "MLP suppressor"])
            assert (score(case, "CoAx growth")[suppressors] < 0).all() and (score(case, "line")[suppressors] > 0).all()


def test_a_live_norm_lets_effects_of_movers_grow_although_they_do_not_respond(cases):
    for case in cases.values():
        movers = case.roles == "mover"
        assert np.abs(score(case, "line")[movers]).max() < 1e-9
        assert np.abs(score(case, "freeze test")[movers]).max() < 1e-9
        assert np.abs(score(case, "growth, fixed norm")[movers]).max() < 1e-9
        growth = score(case, "effect growth")[movers]
        assert growth.min() > 0.005 if case.live_norm else np.abs(growth).max() < 1e-9


def test_who_responds_with_something_else_grows_for_every_unsigned_score(cases):
    for case in cases.values():
        responders, inert = case.roles == "hit responder", case.roles == "inert"
        assert score(case, "CoAx growth")[responders].min() > 10 * np.abs(score(case, "CoAx growth")[inert]).max()
        assert np.abs(score(case, "line")[responders]).max() < 1e-9


def test_architectures_with_the_same_circuit_have_the_same_figures(cases):
    live = [case for (name, seed), case in cases.items() if seed == 0 and "live" in name]
    assert len(live) == 3
    for case in live[1:]:
        np.testing.assert_allclose(score(case, "freeze test"), score(live[0], "freeze test"), atol=2e-6)
        for row, other in zip(case.ranks(), live[0].ranks(), strict=True):
            assert row == pytest.approx(other, abs=1e-9)  # ties, too: what rounding leaves does not rank


def test_the_benchmark_can_fail(cases):
    """With the truth table's roles moved to other components, the line no longer finds them."""
    case = cases[VARIANTS[0].name, 0]
    sites = list(case.circuit.parts)
    moved = dict(zip(sites, [case.circuit.parts[site] for site in (*sites[9:], *sites[:9])], strict=True))
    wrong = Case(PlantedCircuit(moved), case.prompts, case.contents, case.evidence, case.lost, case.residual, False)
    ranks = {row["score"]: row for row in wrong.ranks()}
    assert ranks["line"]["auc_repairers"] < 0.9 and wrong.motifs()["labels_right"] < 0.9
    assert wrong.motifs()["truth_error"] > 0.01


def test_summaries_are_means_over_seeds():
    found = planted_benchmark(2, (Variant("fixed", "gpt2", False),), 6)
    rows = found.ranks[found.ranks["score"] == "CoAx growth"]
    summary = found.summary().set_index("score").loc["CoAx growth"]
    assert summary["auc_backups"] == pytest.approx(rows["auc_backups"].mean())
    assert rows["auc_backups"].min() <= summary["auc_backups_low"] <= summary["auc_backups_high"]
    assert found.candidates == 40 + 6 and len(found.labelled()) == 1
    assert set(BACKUPS) <= set(found.roles["role"])


def test_the_command_prints_tables_and_json(monkeypatch):
    def small(seeds, advance):
        return planted_benchmark(seeds, VARIANTS[:1], 6, advance)

    monkeypatch.setattr(benchmark, "planted_benchmark", small)
    shown = CliRunner().invoke(
        app, ["bench", "planted", "--seeds", "1", "--audits", "0", "--quiet"], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0, shown.output
    assert "labelled backup" in shown.output and "CoAx growth" in shown.output and "suppressor" in shown.output
    ended = CliRunner().invoke(app, ["bench", "planted", "--seeds", "1", "--audits", "0", "--json", "--quiet"])
    found = json.loads(ended.stdout)
    lines = [row for row in found["ranks"] if row["score"] == "line"]
    assert lines and all(row["auc_repairers"] >= 0.99 for row in lines) and found["candidates"] == 46
