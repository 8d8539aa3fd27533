"""What sets do together, and what the intact model shows of covering."""

from __future__ import annotations

import numpy as np
import pytest
from audit_prompts import asked_prompts

from selfrepair import Head, Intervention, Mlp, Neuron, Prompts, load
from selfrepair.bench.planted.circuits import build, draw_circuit
from selfrepair.bench.planted.planted_prompts import planted_prompts
from selfrepair.errors import SelfRepairError
from selfrepair.questions.interplay.curve_figure import curve_picture
from selfrepair.questions.interplay.interplay import interplay
from selfrepair.questions.interplay.joint_runs import JointRuns
from selfrepair.questions.interplay.knock_out import knock_out_curve
from selfrepair.questions.interplay.recruitment import recruitment
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from support import language_model

ZERO = AuditSettings(ablation="zero")


@pytest.fixture(scope="module")
def random_model():
    return Question(language_model("gpt2"), asked_prompts(groups=2), ZERO)


@pytest.fixture(scope="module")
def planted():
    circuit = draw_circuit(1)
    return circuit, Question(load(build(circuit, "gpt2", True).module), planted_prompts(10, 1)[0], ZERO)


def test_every_run_is_measured_once(random_model, monkeypatch):
    asked = []
    measure = Question.measure
    monkeypatch.setattr(
        Question,
        "measure",
        lambda self, runs, *rest: asked.extend(run.name for run in runs) or measure(self, runs, *rest),
    )
    sets = {"a": (Head(0, 1),), "b": (Head(1, 0), Head(1, 2)), "c": (Mlp(1),)}
    found = interplay(random_model, sets)
    assert sorted(asked) == sorted(found.effects.names) and len(asked) == 2**3
    assert found.shapley["value"].sum() == pytest.approx(
        float(found.effects.total_effect[found.effects.row("a and b and c")].mean()), abs=1e-9
    )


def test_interactions_are_differences_of_total_effects_with_and_without_the_norm(planted):
    circuit, question = planted
    one, other, _ = circuit.primaries
    found = interplay(question, {"one": (one,), "other": (other,)}, orders=["random"], draws=2).pairs.iloc[0]
    runs = [Intervention((one,)), Intervention((other,)), Intervention((one, other))]
    effects = question.measure(runs)
    for column, values in (("interaction", effects.total_effect), ("norm_frozen", effects.norm_frozen)):
        first, second, both = values.mean(1)
        assert found[column] == pytest.approx(both - first - second, abs=1e-12)
    assert abs(found["norm"]) > 1e-3  # the final norm is live: it makes an interaction of its own


def test_orders_do_what_they_are_called(planted):
    circuit, question = planted
    movers = [site for site, part in circuit.parts.items() if part.role == "mover"][:2]
    suppressor = next(site for site, part in circuit.parts.items() if part.role == "suppressor")
    sites = [suppressor, *movers, *circuit.primaries]
    runs = JointRuns(question, {str(site): (site,) for site in sites})
    alone = {str(site): float(runs.total(frozenset((place,))).mean()) for place, site in enumerate(sites)}
    own = knock_out_curve(runs, "own effect")["ablated"].tolist()[1:]
    assert own == sorted(alone, key=lambda name: alone[name])
    direct = knock_out_curve(runs, "direct effect")["ablated"].tolist()[1:]
    assert direct[-1] == str(suppressor) and set(direct[:3]) <= {str(site) for site in (*circuit.primaries, *movers)}
    greedy, steps = knock_out_curve(runs, "conditional"), knock_out_curve(runs, "line")
    assert greedy["readout"].iloc[1] == pytest.approx(min(alone.values()) + greedy["readout"].iloc[0])
    assert greedy["readout"].iloc[-1] == pytest.approx(steps["readout"].iloc[-1])
    lost = runs.effects.lost[runs.row(frozenset(range(len(sites))))].mean()
    assert greedy["unrepaired"].iloc[-1] == pytest.approx(runs.effects.clean.mean() - lost)


def test_the_line_order_takes_what_writes_most_once_others_are_gone(planted):
    """A backup that writes nothing clean comes before an amplifier once the primaries are gone."""
    circuit, question = planted
    backup, amplifier = (
        next(site for site, part in circuit.parts.items() if part.role == role) for role in ("backup", "amplifier")
    )
    runs = JointRuns(question, {"gone": circuit.primaries, "backup": (backup,), "amplifier": (amplifier,)})
    assert knock_out_curve(runs, "direct effect")["ablated"].tolist()[1:] == ["gone", "amplifier", "backup"]
    assert knock_out_curve(runs, "line")["ablated"].tolist()[1:] == ["gone", "backup", "amplifier"]


def test_sets_without_direct_effects_are_ordered_by_what_ablation_does(random_model):
    sets = {"a": (Neuron(1, 3),), "b": (Head(0, 1),)}
    orders = set(interplay(random_model, sets, draws=1).curves["order"])
    assert orders == {"own effect", "conditional", "random"}
    with pytest.raises(SelfRepairError, match="whole heads, attention layers and MLPs alone"):
        interplay(random_model, sets, orders=["line"])


def test_the_worst_on_a_divergence_is_what_moves_it_most(random_model):
    asked = Question(random_model.model, random_model.prompts, AuditSettings(ablation="zero", metric="kl"))
    sets = {str(site): (site,) for site in random_model.components.sites[:3]}
    found = interplay(asked, sets, draws=1)
    assert set(found.curves["order"]) == {"own effect", "conditional", "random"}
    alone = {name: float(found.effects.ablated[found.effects.row(name)].mean()) for name in sets}
    assert found.curves["ablated"][1] == max(alone, key=lambda name: alone[name])
    with pytest.raises(SelfRepairError, match="Choose the metric"):
        recruitment(asked, [Head(0, 1)])


def test_sets_that_overlap_are_refused(random_model):
    for other in (Head(0, 1), Neuron(0, 2)):
        mine = Mlp(0) if isinstance(other, Neuron) else Head(0, 1)
        with pytest.raises(SelfRepairError, match="share a site"):
            JointRuns(random_model, {"a": (mine,), "b": (other,)})


def test_shapley_values_of_many_sets_are_refused_before_anything_runs(random_model, monkeypatch):
    monkeypatch.setattr(Question, "measure", lambda *_: pytest.fail("measured"))
    sets = {str(site): (site,) for site in random_model.components.sites[:11]}
    with pytest.raises(SelfRepairError, match="11 sets"):
        interplay(random_model, sets, values=True)


def test_the_picture_has_a_line_for_each_order_and_saves(random_model, tmp_path):
    found = interplay(random_model, {"a": (Head(0, 1),), "b": (Head(1, 0),)}, draws=3)
    (panel,) = curve_picture(found.curves, found.effects.operator, found.draws, found.units).panels
    labels = [marks.label for marks in panel.marks]
    assert labels[-2:] == ["random, mean of 3", "first, if nothing reacted"]
    shown = ", ".join(labels).split(", ")
    assert {"own effect", "direct effect", "line", "conditional"} < set(shown)  # those alike share a line
    assert [text for _, _, text in panel.notes] == found.curves["ablated"].tolist()[1:3]
    found.plot_curves(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SelfRepairError, match="Cannot write"):
        found.plot_curves(tmp_path / "absent" / "curves.png")


# ------------------------------------------------------------------------------------ natural recruitment


class Measured:
    """Direct effects made up: `question.measure` returns them."""

    def __init__(self, groups, answers, primary, later):
        count = len(groups)
        made = asked_prompts((7,) * count, twins=False, groups=1, answers=False)
        from dataclasses import replace

        ids = tuple(((answer,), ()) for answer in answers)
        prompts = replace(
            made,
            groups=tuple(map(str, groups)),
            answers=tuple(one for one, _ in ids),
            wrong=tuple(other for _, other in ids),
        )
        self.question = Question(language_model("gpt2"), prompts, ZERO)
        heads = np.zeros((count, *np.shape(self.question.components.heads), 4))
        heads[:, 0, 0], heads[:, 1, 0] = primary, later
        self.heads = heads

    def recruitment(self, monkeypatch, **asked):
        from dataclasses import replace

        measure = Question.measure

        def measured(question, runs, *rest):
            return replace(measure(question, runs, *rest), direct_heads=self.heads)

        monkeypatch.setattr(Question, "measure", measured)
        return recruitment(self.question, [Head(0, 0)], [Head(1, 0)], **asked)


def test_what_follows_a_noisy_primary_is_recruited_by_its_share(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(9), 6)
    common = 3 * rng.normal(size=9)[groups]  # templates differ in both: no recruitment
    noise = rng.normal(size=54)
    made = Measured(groups, range(54), 2 + common + noise, common - 0.4 * noise)
    found = made.recruitment(monkeypatch)
    row = found.table.iloc[0]
    assert row["natural"] == pytest.approx(0.4, abs=1e-6) and row["q"] < 1e-3
    assert np.isnan(row["corrected"]) and found.items == 0 and any("Not corrected" in note for note in found.notes)


def test_noise_that_the_later_component_does_not_see_dilutes_and_is_corrected(monkeypatch):
    rng = np.random.default_rng(1)
    groups, items = np.repeat(np.arange(10), 64), np.repeat(np.arange(160), 4)
    signal, unseen = rng.normal(size=160)[items], rng.normal(size=640)
    made = Measured(groups, items % 90, 2 + signal + unseen, -0.5 * signal + 0.1 * rng.normal(size=640))
    row = made.recruitment(monkeypatch).table.iloc[0]
    assert row["natural_high"] < 0.4  # half of the variance of A is noise
    assert row["corrected_low"] <= 0.5 <= row["corrected_high"] and abs(row["corrected"] - 0.5) < 0.1


def test_a_planted_backup_that_only_ablations_wake_is_not_recruited_by_nature(planted):
    circuit, _ = planted
    question = Question(load(build(circuit, "gpt2", False).module), planted_prompts(16, 1, noise=0)[0], ZERO)
    found = recruitment(question, circuit.primaries)
    table = found.table.set_index("component")
    for site, part in circuit.parts.items():
        if part.role in ("backup", "MLP backup"):
            assert abs(table.loc[str(site), "natural"]) < 1e-9 < table.loc[str(site), "ablated"]
        if part.role == "suppressor":  # reads what primaries write, on every run: recruited by nature as by ablation
            assert table.loc[str(site), "natural"] > 0.01


def test_too_few_prompts_per_group_are_refused_or_flagged(random_model):
    pairs = asked_prompts((7,) * 4, groups=2)
    with pytest.raises(SelfRepairError, match="No group has 3 prompts"):
        recruitment(Question(random_model.model, pairs, ZERO), [Head(0, 1)])
    uneven = asked_prompts((7,) * 5, groups=2)
    notes = recruitment(Question(random_model.model, uneven, ZERO), [Head(0, 1)], [Head(1, 1)]).notes
    assert "2 prompts of groups with fewer than 3" in notes[0] and "few" in notes[1]


def test_what_cannot_be_followed_is_refused(random_model):
    with pytest.raises(SelfRepairError, match="no direct effect of its own"):
        recruitment(random_model, [Neuron(0, 1)])
    with pytest.raises(SelfRepairError, match="does not come behind"):
        recruitment(random_model, [Head(1, 1)], [Head(0, 1)])
    prompts = asked_prompts((7,) * 3, groups=1)
    same = prompts.select([0, 0, 0])
    assert isinstance(same, Prompts)
    with pytest.raises(SelfRepairError, match="does not vary within groups"):
        recruitment(Question(random_model.model, same, ZERO), [Head(0, 1)])
