"""Neurons: found in every family, valued as the definitions say, counted as the figures do, planted ones read back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from selfrepair import load
from selfrepair.engine.clean import clean_run
from selfrepair.engine.reference import ReferenceEngine
from selfrepair.errors import SelfRepairError
from selfrepair.paper.experiments.neurons import neuron_figures
from selfrepair.paper.experiments.neurons import neuron_study as neurons
from selfrepair.paper.experiments.neurons.neuron_sums import NeuronSums
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.recipe import original
from selfrepair.paper.inputs.recorded_replay import Replayer
from selfrepair.pictures import with_matplotlib, with_plotly
from support import TOKENS, corpus, language_model, planted_windows, roomy, sweep
from zoo import families
from zoo.planted import POSITION, erasure

SINGLE = [name for name in families.FAMILIES if name not in families.MIXTURES]


@pytest.mark.parametrize("name", SINGLE)
def test_neurons_add_up_to_what_the_mlp_writes(name):
    model = language_model(name)
    part = model.neurons(1)
    with model.running():
        clean = clean_run(model, TOKENS)
        seen = Replayer(model).run(clean, 1, None, {1: part.module})
        chosen = torch.ones_like(clean.sigma, dtype=torch.bool)
        output = part.output(seen.neurons[1])
        each = part.worth(clean.direction[chosen], output[:, :-1][chosen]) * seen.neurons[1][:, :-1][chosen]
        bias = getattr(part.module, "bias", None)
        constant = torch.zeros(model.anatomy.width).double() if bias is None else bias
        if part.norm is None:
            rest = part.multiplier * clean.direction[chosen] @ constant
        else:
            inward = part.norm.fold(part.multiplier * clean.direction[chosen])
            rest = (inward @ constant) / part.norm.scale(output[:, :-1][chosen])
            rest = rest + part.multiplier * clean.direction[chosen] @ part.norm.bias
    assert (each.sum(-1) + rest - clean.mlps[1][chosen]).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_a_mixture_of_experts_is_refused(name):
    with pytest.raises(SelfRepairError, match="mixture of experts"):
        language_model(name).neurons(2 if name == "mixtral" else 1)


def naive(model, text, donors, head, layer, fraction):
    """Every neuron's clean effect and change on the head's top tokens, with loops and the reference engine."""
    part = model.neurons(layer)
    tokens = torch.from_numpy(text.tokens)
    with model.running():
        clean = clean_run(model, tokens)
        other = clean_run(model, tokens[torch.from_numpy(donors)])
        in_place = other.head_outputs[head[0]][:, :, head[1]]
        seen = [
            Replayer(model).run(clean, head[0], change, {layer: part.module}).neurons[layer]
            for change in (None, {head: in_place})
        ]
        effect = clean.direct_effects(head[0])[..., head[1]].numpy()
    scored = text.scored(1)
    kept = int(fraction * scored.sum())
    limit = np.sort(effect[scored])[::-1][kept - 1]
    rows = []
    for window, position in zip(*np.nonzero(scored), strict=True):
        if effect[window, position] < limit:
            continue
        worth = (part.weight @ clean.direction[window, position]).numpy() * part.multiplier
        before, after = (values[window, position].numpy() for values in seen)
        rows.append((effect[window, position], worth * before, worth * (after - before)))
    return rows


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox_parallel"])
def test_a_study_counts_what_loops_count(name):
    model, text = language_model(name), corpus()
    body = Corpus(model, text)
    study = neurons.study_neurons(body, [(0, 2)], fraction=0.4)
    sums = study.sums[(0, 2), 2, neurons.EFFECT]
    rows = naive(model, text, body.donors, (0, 2), 2, 0.4)
    assert sums.tally.tokens == len(rows) > 5
    for row, share in enumerate(sums.shares):
        for rank in (1, 3, 10):
            wanted = np.mean([np.sort(d)[::-1][rank - 1] > share * effect for effect, _, d in rows])
            assert sums.exceeding()[row, rank - 1] == pytest.approx(wanted)
    curves = [np.cumsum(np.abs(np.sort(d)[::-1])) / np.abs(d).sum() for _, _, d in rows]
    np.testing.assert_allclose(sums.curve(), np.mean(curves, 0), atol=1e-9)
    medians = np.median([clean[np.argsort(-d, kind="stable")] for _, clean, d in rows], 0)
    np.testing.assert_allclose(sums.medians(), medians, atol=1e-5)
    numbers = {number.name.split(": ")[1]: number.value for number in sums.numbers("x")}
    tops = [np.argsort(-d)[:10] for _, _, d in rows]
    counts = np.bincount(np.concatenate(tops), minlength=sums.neurons)
    assert numbers["most frequent neuron in a token's top ten, share of tokens"] == counts.max() / len(rows)
    best = [clean[np.argmax(d)] for _, clean, d in rows]
    assert numbers["top repairing neuron erases (clean DE < 0)"] == pytest.approx(np.mean(np.array(best) < 0))
    effective = [np.abs(d).sum() ** 2 / (d**2).sum() for _, _, d in rows]
    assert numbers["effective number of neurons"] == pytest.approx(np.mean(effective))
    whole = abs(sum(d.sum() for _, _, d in rows)) / sum(np.abs(d).sum() for _, _, d in rows)
    assert numbers["cancellation, |sum d| / sum |d|"] == pytest.approx(whole)


def reference_ledger(body, unit):
    """The ledger of a head on a study's own text and donors."""
    text, donors = (torch.from_numpy(body.windows.tokens[which]) for which in (slice(None), body.donors))
    return sweep(ReferenceEngine(), body.model, "resample", [unit], text, donors)[unit]


def test_any_downstream_mlp_can_be_shown():
    """Figures 7, 8 and 12 of a lower MLP: Figure 7's tokens are those that this MLP repairs most."""
    body = Corpus(language_model("llama"), corpus())
    study = neurons.study_neurons(body, [(0, 1), (1, 0)], fraction=0.2, mlps=[1])
    ledger, scored = reference_ledger(body, (0, 1)), body.windows.scored(1)
    repair = ledger.by_mlp[0, ..., 1].numpy()
    kept = int(0.2 * scored.sum())
    shown = neuron_figures.top_neurons(study, layer=1)
    got = repair[shown.table["window"], shown.table["position"]]
    np.testing.assert_allclose(np.sort(got), np.sort(repair[scored])[-kept:], atol=1e-6)
    assert neuron_figures.top_neurons(study).table.equals(shown.table)  # the last MLP studied
    for show in (neuron_figures.rank_curves, neuron_figures.cumulative_change):
        assert set(show(study, layer=1).table["layer"]) == {1}
        assert len(show(study).picture.panels) == 2
    by_default = neurons.study_neurons(body, [(0, 1), (1, 0)], fraction=0.2)
    assert set(neuron_figures.rank_curves(by_default, layer=1).table["head"]) == {"L0H1"}
    assert set(neuron_figures.rank_curves(by_default).table["layer"]) == {2}


def test_an_mlp_that_is_not_downstream_or_was_not_studied_is_refused_in_words():
    body = Corpus(language_model("llama"), corpus())
    with pytest.raises(SelfRepairError, match="downstream of L1H0, layers 1 to 2, got 0, 5"):
        neurons.study_neurons(body, [(1, 0)], mlps=[0, 2, 5])
    with pytest.raises(SelfRepairError, match="got none"):
        neurons.study_neurons(body, [(1, 0)], mlps=[])
    with pytest.raises(SelfRepairError, match="layers 1 to 2, got 0"):  # a parallel block's own MLP reads no head of it
        neurons.study_neurons(Corpus(language_model("gpt_neox_parallel"), corpus()), [(0, 0)], mlps=[0])
    study = neurons.study_neurons(body, [(1, 0)], fraction=0.3, mlps=[1])
    for show in (neuron_figures.top_neurons, neuron_figures.rank_curves, neuron_figures.cumulative_change):
        with pytest.raises(SelfRepairError, match=r"1 for L1H0.*got that of layer 2"):
            show(study, layer=2)


@pytest.mark.parametrize("name", ["llama", "gpt_neox_parallel"])
def test_repair_by_layer_is_that_of_the_ledger(name):
    model, text = language_model(name), corpus()
    body = Corpus(model, text)
    table = neuron_figures.by_layer(neurons.study_neurons(body, [(0, 1)], fraction=0.3)).table
    ledger, scored = reference_ledger(body, (0, 1)), text.scored(1)
    effect = ledger.direct_effect[0].numpy()
    top = scored & (effect >= np.sort(effect[scored])[::-1][int(0.3 * scored.sum()) - 1])
    layers = [1, 2] if name == "gpt_neox_parallel" else [0, 1, 2]
    assert sorted(table["layer"].unique()) == layers
    for layer in layers:
        values = dict(table[table["layer"] == layer][["quantity", "value"]].to_numpy())
        rows = naive(model, text, body.donors, (0, 1), layer, 0.3)
        repaired = ledger.by_mlp[0, ..., layer].numpy()[top].sum() / effect[top].sum()
        assert values["MLP's repair / direct effect of the head"] == pytest.approx(repaired)
        gross = sum(np.abs(d).sum() for _, _, d in rows) / effect[top].sum()
        assert values["gross change Σ|d| / direct effect"] == pytest.approx(gross)
        effective = np.mean([np.abs(d).sum() ** 2 / (d**2).sum() for _, _, d in rows])
        assert values["effective number of neurons"] == pytest.approx(effective)


@pytest.mark.parametrize(("name", "layers"), [("gpt_neox_parallel", [1]), ("llama", [1, 2])])
def test_heads_are_chosen_by_what_mlps_repair_and_what_is_lost(name, layers):
    """The first: most repair by MLPs on its top tokens, of the last third of layers (two at least) that have an MLP
    downstream; then those that lose most direct effect. By made-up numbers."""
    body, rng = Corpus(language_model(name), corpus()), np.random.default_rng(7)
    coordinates = {"filter": ["all", "top 2%"]}
    axes = ("filter", "layer", "head")
    lost, repair = rng.normal(size=(2, 2, 3, 4))
    heads = xr.Dataset({"lost_direct_effect": (axes, lost), "repair_mlps": (axes, repair)}, coordinates)
    places = [(layer, head) for layer in layers for head in range(4)]
    first = max(places, key=lambda cell: repair[1][cell])
    others = sorted((cell for cell in places if cell != first), key=lambda cell: -lost[1][cell])
    assert first != max(places, key=lambda cell: lost[1][cell])
    run = SimpleNamespace(filters=("all", "top 2%"), heads=heads)
    assert [tuple(head) for head in neurons.choose_repaired(run, body, most=3)] == [first, *others][:3]


def test_figure_7_has_its_marginal_above():
    study = neurons.study_neurons(Corpus(language_model("llama"), corpus()), [(0, 1)], fraction=0.4, mlps=[2])
    exhibit = neuron_figures.top_neurons(study)
    above, panel = exhibit.picture.panels
    (spread,), (points,) = above.marks, panel.marks
    assert above.x_range == panel.x_range
    assert spread.y.sum() == pytest.approx(1)
    shares, _ = np.histogram(np.clip(points.x, *panel.x_range), spread.x)
    np.testing.assert_allclose(spread.y, shares / len(points.x))
    top, bottom, *_ = with_matplotlib.draw(exhibit.picture).axes
    for axes in (top, bottom):
        axes.figure.canvas.draw()
    assert 0.2 < top.get_position().height / bottom.get_position().height < 0.4
    rows = with_plotly.figure_of(exhibit.picture).layout
    assert np.ptp(rows.yaxis.domain) / np.ptp(rows.yaxis2.domain) == pytest.approx(0.3)


def test_captions_say_how_many_tokens_pass_and_out_of_which():
    body = Corpus(language_model("llama"), corpus())
    study = neurons.study_neurons(body, [(0, 1), (1, 0)], fraction=0.2)
    scored, passing = int(body.windows.scored(1).sum()), int(0.2 * body.windows.scored(1).sum())
    for show in (
        neuron_figures.top_neurons,
        neuron_figures.rank_curves,
        neuron_figures.cumulative_change,
        neuron_figures.by_layer,
    ):
        caption = show(study).caption
        assert f": {passing} tokens" in caption and f"documents, of {scored} tokens from 3 documents" in caption


def test_changes_of_neurons_add_up_to_the_ledger_line():
    model, text = language_model("llama"), corpus()
    body = Corpus(model, text)
    study = neurons.study_neurons(body, [(0, 1)], fraction=1.0)
    ledger = reference_ledger(body, (0, 1))
    scored = torch.from_numpy(text.scored(1))
    for layer in (0, 1, 2):
        wanted = float(ledger.by_mlp[0, ..., layer][scored].sum())
        assert study.sums[(0, 1), layer, neurons.EFFECT].tally.total("repair") == pytest.approx(wanted, abs=1e-9)


def test_overlap_of_top_tens_is_that_of_pairs():
    sums, rng = NeuronSums(30, (0.5,), 3), np.random.default_rng(0)
    document, change = rng.integers(0, 3, 25), rng.normal(size=(25, 30))
    where = {"window": document, "position": np.arange(25), "document": document}
    sums.add(rng.normal(size=(25, 30)), change, np.ones(25), np.ones(25), where)
    tops = [set(top.tolist()) for top in np.argsort(-change, axis=1)[:, :10]]
    pairs = [(i, j, len(tops[i] & tops[j]) / 10) for i in range(25) for j in range(25) if i != j]
    numbers = {number.name.split(": ")[1]: number.value for number in sums.numbers("x")}
    within, between = (numbers[f"top tens' overlap {where}"] for where in ("within a document", "between documents"))
    assert within == pytest.approx(np.mean([o for i, j, o in pairs if document[i] == document[j]]))
    assert between == pytest.approx(np.mean([o for i, j, o in pairs if document[i] != document[j]]))


def test_the_planted_erasure_neuron_is_the_one_that_repairs():
    case = erasure(0.3)
    study = neurons.study_neurons(Corpus(load(roomy(case.model)), planted_windows()), [(0, 0)], fraction=0.2)
    points = study.sums[(0, 0), 1, neurons.EFFECT].points
    point = points[points["position"] == POSITION].iloc[0]
    assert (point["neuron"], point["window"]) == (0, 0)
    assert point["clean"] == pytest.approx(-0.3) and point["ablated"] == pytest.approx(0.0, abs=1e-9)
    assert point["head_effect"] == pytest.approx(1.0)


def test_the_original_recipe_counts_k_with_all_positions_and_2_5_percent():
    """docs/methods.md 6.5: k = int(0.02 N S) for the curves, a threshold of 2.5%, tokens by all MLPs."""
    model, text = language_model("llama"), corpus(lengths=(9,) * 6, documents=range(6))
    body = Corpus(model, text, original(3))
    study = neurons.study_neurons(body, [(0, 0)], fraction=0.15)
    assert study.sums[(0, 0), 2, neurons.EFFECT].tally.tokens == int(0.15 * 6 * 8)
    assert study.sums[(0, 0), 2, neurons.COUNTED].tally.tokens == int(0.15 * 6 * 9)
    assert study.sums[(0, 0), 2, neurons.EFFECT].shares == (0.5, 0.1, 0.05, 0.025, 0.01)
    ledger = reference_ledger(body, (0, 0))
    repair = ledger.by_mlp[0].sum(-1).numpy()
    best = {tuple(cell) for cell in np.argwhere(repair >= np.sort(repair.ravel())[::-1][int(0.15 * 48) - 1])}
    points = study.sums[(0, 0), 2, neurons.REPAIR].points
    assert set(zip(points["window"], points["position"], strict=True)) == best
