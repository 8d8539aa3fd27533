"""Who covers, what a circuit misses and does not need, in planted models where that is known."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import Intervention, Zero, load
from selfrepair.bench.planted.circuits import LABELS, REPAIRERS, build, draw_circuit
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.engine.replay import ReplayEngine
from selfrepair.errors import SelfRepairError
from selfrepair.questions.circuit.audit import audit
from selfrepair.questions.covering.who import who
from selfrepair.questions.importance import importance_card
from selfrepair.questions.interplay.interactions import interactions
from selfrepair.questions.interplay.joint_runs import JointRuns
from selfrepair.questions.interplay.knock_out import knock_out_curve
from selfrepair.questions.interplay.shapley import shapley
from selfrepair.questions.measuring.placebo import Placebo
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import KNOCK_OUT_ORDERS, AuditSettings

SETTINGS = AuditSettings(
    ablation="zero", least_share=0.005, operators=("mean",), controls=12, engine=ReplayEngine(fold=8)
)


@pytest.fixture(scope="module")
def planted():
    """A circuit, and the question that its model and prompts put."""
    circuit = draw_circuit(1)
    model = load(build(circuit, "gpt2", False).module)
    prompts, _ = planted_prompts(20, 1)
    return circuit, Question(model, prompts, SETTINGS)


@pytest.fixture(scope="module")
def covering(planted):
    circuit, question = planted
    return who(question, circuit.primaries)


def names(circuit, *roles):
    return {str(site) for site, part in circuit.parts.items() if part.role in roles}


def test_who_covers_lists_all_repairers_by_their_motif(planted, covering):
    circuit, _ = planted
    table = covering.table.set_index("component")
    repairs = set(table.index[table["line"] > 1e-6])
    assert repairs == names(circuit, *REPAIRERS)
    for site, part in circuit.parts.items():
        if part.role in LABELS:
            label = table.loc[str(site), "label"]
            turned = part.role == "re-aimer" and label in ("suppressor turned", "suppressor re-aimed")
            assert turned or label == LABELS[part.role], (site, part.role, label)
    assert covering.effects.residual < 1e-9
    parts = covering.motif_sums()
    total = sum(float(one.value) for one in parts.values())
    assert total == pytest.approx(float(covering.total("self_repair").value), abs=1e-9)


def test_freezing_takes_away_what_a_component_covers(planted, covering):
    circuit, _ = planted
    tested = covering.table.dropna(subset=["freeze"]).set_index("component")
    for name in set(tested.index) & names(circuit, "backup"):
        assert tested.loc[name, "freeze"] > 0
    for name in set(tested.index) & names(circuit, "hit responder"):
        assert abs(tested.loc[name, "freeze"]) < 1e-9  # it responds, with something else
    for name in set(tested.index) & names(circuit, "inert"):
        assert tested.loc[name, "freeze"] == 0  # bit for bit
    assert (tested["control_high"].dropna() <= 1e-9).all()


def test_what_covers_for_one_where_others_are_gone_is_the_difference(planted):
    circuit, question = planted
    one, other, third = circuit.primaries
    both = who(question, [one, other])
    conditional = who(question, [one], [other])
    alone = question.measure(conditional.effects.interventions[1:2])
    lines = both.lines - question.components.lines(alone, 0)
    np.testing.assert_allclose(conditional.lines, lines, atol=1e-9)
    assert names(circuit, "backup") & set(conditional.table["component"][conditional.table["line"] > 1e-6])
    first = who(question, [third])  # one primary alone wakes nobody: sets have to be ablated
    assert not names(circuit, "backup") & set(first.table["component"][first.table["line"] > 1e-6])


@pytest.mark.parametrize("left_out", [0, 2, 5])
def test_the_missing_list_is_what_was_left_out_of_the_circuit(planted, left_out):
    circuit, question = planted
    repairers = sorted((site for site in circuit.parts if circuit.parts[site].role in REPAIRERS), key=str)
    inside = repairers[left_out:]
    found = audit(question, {"primaries": circuit.primaries, "repairers": inside})
    assert set(found.missing["component"]) == {str(site) for site in repairers[:left_out]}
    assert found.verdict.word == ("covered" if left_out else "complete")
    assert found.effects.residual < 1e-9
    if left_out:
        assert set(map(str, found.completed["missing"])) == {str(site) for site in repairers[:left_out]}
        assert bool(found.completion["enough"].iloc[-1])
        assert float(found.together.recovered.value) > max(found.together.controls)
        assert len(found.together.controls) >= 10 and found.together.p <= 1 / 11


def test_faithfulness_names_who_works_against_the_answer_and_superfluous_members(planted):
    circuit, question = planted
    idle = next(site for site, part in circuit.parts.items() if part.role == "inert" and site.port.kind == "heads")
    found = audit(question, {"primaries": circuit.primaries, "idle": (idle,)})
    against = names(circuit, "suppressor", "re-aimer")
    assert set(found.faithfulness.against["component"]) <= against
    assert list(found.superfluous["component"]) == [str(idle)]
    kept = found.effects.total_effect[found.effects.row(found.runs.kept().name)]
    nothing = found.effects.total_effect[found.effects.row(found.runs.nothing_kept.name)]
    ratio = (kept - nothing).sum() / (-nothing).sum()
    assert float(found.faithfulness.faithfulness.value) == pytest.approx(ratio, abs=1e-12)


def test_a_circuit_of_all_heads_has_necessity_and_faithfulness_one(planted):
    _, question = planted
    heads = tuple(site for site in question.components.sites if site.port.kind == "heads")
    found = audit(question, {"all": heads[:-1]})
    assert 0 < float(found.faithfulness.necessity.value) <= 1 + 1e-9


def test_pairs_of_primaries_and_a_threshold_backup_do_not_interact_but_two_primaries_with_it_do(planted):
    circuit, question = planted
    one, other, _ = circuit.primaries
    backup = next(site for site, part in circuit.parts.items() if part.role == "backup")
    table = interactions(JointRuns(question, {"one": [one], "backup": [backup]}))
    assert table["interaction"].abs().max() < 1e-6
    table = interactions(JointRuns(question, {"both": [one, other], "backup": [backup]}))
    effects = question.measure(who(question, [one, other]).effects.interventions[:1])
    line = question.components.lines(effects, 0)[:, question.components.index[backup]]
    assert float(table["interaction"].iloc[0]) <= -float(line.mean()) * 0.5 < 0
    assert float(table["norm"].iloc[0]) == pytest.approx(0, abs=1e-9)  # the norm is fixed
    with pytest.raises(SelfRepairError, match="share a site"):
        JointRuns(question, {"one": [one], "both": [one, other]})


def test_shapley_values_add_up_to_the_joint_effect(planted):
    circuit, question = planted
    table = shapley(runs_of(question, circuit.primaries))
    joint = question.measure([who_run(circuit)])
    assert table["value"].sum() == pytest.approx(float(joint.total_effect[0].mean()), abs=1e-9)


def runs_of(question, sites):
    return JointRuns(question, {str(site): (site,) for site in sites})


def who_run(circuit):
    return Intervention(circuit.primaries, name="all")


@pytest.mark.parametrize("order", KNOCK_OUT_ORDERS)
def test_knock_out_curves_start_clean_and_end_with_all_gone(planted, order):
    circuit, question = planted
    curve = knock_out_curve(runs_of(question, circuit.primaries), order, draws=4)
    assert list(curve["step"]) == [0, 1, 2, 3]
    effects = question.measure([who_run(circuit)])
    assert curve["readout"].iloc[0] == pytest.approx(float(effects.clean.mean()))
    assert curve["readout"].iloc[-1] == pytest.approx(float(effects.ablated[0].mean()))


def test_cards_unmask_what_is_repaired(planted):
    circuit, question = planted
    card = importance_card(question, circuit.primaries).table.set_index("component")
    for site in circuit.primaries:
        row = card.loc[str(site)]
        assert row["all_frozen"] == pytest.approx(-row["lost"], abs=1e-9)  # no norm, nobody else
        assert row["self_repair"] == pytest.approx(row["total_effect"] + row["lost"], abs=1e-9)
    assert list(card["rank_unmasked"]) == list((-card["direct_effect"]).rank().astype(int))


def test_a_placebo_wakes_no_backup(planted):
    circuit, question = planted
    settings = AuditSettings(ablation="placebo", controls=0, engine=ReplayEngine(fold=8))
    asked = Question(question.model, question.prompts, settings)
    effects = asked.measure([who_run(circuit)])
    backups = [question.components.index[site] for site in circuit.parts if circuit.parts[site].role == "backup"]
    real = question.components.lines(question.measure([who_run(circuit)]), 0)[:, backups]
    placebo = question.components.lines(effects, 0)[:, backups]
    assert np.abs(placebo.mean(0)).max() < 0.5 * real.mean(0).min()


def test_cards_tell_a_response_to_being_hit_from_one_to_what_is_lost(planted):
    circuit, question = planted
    primaries = circuit.primaries
    card = importance_card(question, primaries).table
    runs = [Intervention((site,)) for site in primaries]
    placebo = question.measure(runs, "Placebos", Placebo(Zero(), question.model))
    np.testing.assert_allclose(card["placebo_effect"], placebo.total_effect.mean(1), atol=1e-12)
    np.testing.assert_allclose(card["specific_repair"], card["self_repair"] - card["placebo_repair"], atol=1e-12)
    alone = question.measure(runs)
    np.testing.assert_allclose(card["detectable"], 2.8 * question.sampling.mean(alone.total_effect).standard_error)


def test_the_placebo_of_a_card_is_as_large_as_its_own_ablation(planted):
    """Not as the default one: zero here takes away more than another prompt's output would."""
    _, question = planted
    assert question.placebo.base.name == "zero"
    asked = Question(question.model, question.prompts, AuditSettings(ablation="placebo", engine=ReplayEngine(fold=8)))
    none = importance_card(asked, question.components.sites[:1]).table
    assert none[["placebo_effect", "placebo_repair", "specific_repair"]].isna().all().all()
