"""Figures of the norm against whole forwards in float64; the check of the closed form fails where it should."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from selfrepair import measure
from selfrepair.engine.reference import ReferenceEngine
from selfrepair.paper.experiments import norm
from selfrepair.paper.experiments.norm import appendices, norm_study, scale_figures
from selfrepair.paper.experiments.norm.all_heads import repair_by_norm
from selfrepair.paper.inputs.corpus import OPERATORS, Corpus
from selfrepair.paper.inputs.recorded_replay import Replayer
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.results.windows_file import windows_of
from support import corpus, language_model, sweep
from zoo import oracle
from zoo.anatomy import ANATOMY, value_constants

NAMES = ("gpt2", "gpt_neox_parallel", "llama", "gemma2")
FRACTION = 0.3


@dataclass
class Whole:
    """One ablation by whole forwards: its ledger, both final streams, tokens that count and the head's top ones."""

    book: oracle.Ledger
    clean: torch.Tensor
    ablated: torch.Tensor
    scored: np.ndarray
    top: np.ndarray

    def sum(self, line, chosen):
        return float(line.numpy()[chosen].sum())

    @property
    def lost(self):
        return self.book.direct_effect - self.book.ablated_direct_effect


def whole(name, body, head, operator):
    model, hand, text = body.model.network, ANATOMY[name], body.windows
    tokens = torch.from_numpy(text.tokens)
    in_place = value_constants(model, hand)[head]
    clean = oracle.trace(model, hand, tokens)
    if operator == "resample":
        in_place = oracle.trace(model, hand, tokens[torch.from_numpy(body.donors)]).z[head[0], :, :, head[1]]
    elif operator == "mean":
        in_place = clean.z[head[0], :, 1:, head[1]].mean((0, 1))  # windows are full; position 0 is left out
    book, scored = oracle.ledger(model, hand, tokens, *head, in_place), text.scored(1)
    effect = book.direct_effect.numpy()
    top = scored & (effect >= np.sort(effect[scored])[::-1][int(FRACTION * scored.sum()) - 1])
    return Whole(book, clean.residual, oracle.trace(model, hand, tokens, *head, in_place).residual, scored, top)


@pytest.fixture(scope="module", params=NAMES)
def studied(request):
    """A head of the last layer and one below it, under all operators."""
    name = request.param
    body = Corpus(language_model(name), corpus(lengths=(9,) * 6))
    heads = [(body.model.anatomy.layers - 1, 1), (0, 1)]
    study = norm.study_norm(body, heads, fraction=FRACTION)
    return (
        name,
        study,
        {(head, operator): whole(name, body, tuple(head), operator) for head in study.heads for operator in OPERATORS},
    )


def values_of(exhibit):
    return {number.name: number.value for number in exhibit.numbers}


def test_figure_5_against_whole_forwards(studied):
    _, study, runs = studied
    head = study.heads[0]
    exhibit = norm.one_head(study, head)
    values = values_of(exhibit)
    for operator in OPERATORS:
        run = runs[head, operator]
        effect, total = run.book.direct_effect.numpy()[run.scored], run.book.total_effect.numpy()[run.scored]
        name = f"{head}: share of helped tokens whose logit rises, {operator}"
        assert values[name] == pytest.approx((total[effect > 0] > 0).mean())
        repair = run.sum(run.book.self_repair, run.scored)
        of_lost = repair / run.sum(run.lost, run.scored)
        assert values[f"{head}: repaired fraction, all tokens, {operator}"] == pytest.approx(of_lost)
        by_norm = run.sum(run.book.norm, run.scored) / repair
        assert values[f"{head}: norm's share of self-repair, all tokens, {operator}"] == pytest.approx(by_norm)
        points = exhibit.table[exhibit.table["operator"] == operator]
        at = points["window"].to_numpy(), points["position"].to_numpy()
        assert len(points) == run.scored.sum()
        np.testing.assert_allclose(points["direct_effect"], run.book.direct_effect.numpy()[at], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(points["total"], run.book.total_effect.numpy()[at], rtol=1e-5, atol=1e-6)
    assert "top" not in exhibit.caption and f"{run.scored.sum()} tokens" in exhibit.caption


def test_figure_16_against_whole_forwards(studied):
    name, study, runs = studied
    head = study.heads[0]
    exhibit = norm.stream_lengths(study, head)
    values, centred = values_of(exhibit), name in ("gpt2", "gpt_neox_parallel")
    for operator in OPERATORS:
        terms = runs[head, operator]
        streams = (
            stream - stream.mean(-1, keepdim=True) if centred else stream for stream in (terms.ablated, terms.clean)
        )
        after, before = (stream.norm(dim=-1)[:, 1:].numpy().ravel() for stream in streams)
        ratio = after / before
        assert values[f"{head}: share of streams shorter, {operator}"] == pytest.approx((ratio < 1).mean())
        median = values[f"{head}: median length, ablated / clean, {operator}"]
        assert np.quantile(ratio, 0.4) - 5e-4 <= median <= np.quantile(ratio, 0.6) + 5e-4
        table = exhibit.table[exhibit.table["operator"] == operator]
        wanted, _ = np.histogram(ratio, norm_study.LENGTH_EDGES)
        assert table["count"].to_numpy().tolist() == wanted.tolist()
    assert "top" not in exhibit.caption and f"{len(ratio)} positions" in exhibit.caption


def test_accounts_against_whole_forwards(studied):
    """The norm's line, and self-repair of runs with the norm or with everything else frozen."""
    name, study, runs = studied
    exhibit = norm.accounts(study)
    values = exhibit.table.set_index(["head", "part"])["fraction of lost DE"]
    for head in study.heads:
        run = runs[head, "resample"]
        book, lost = run.book, run.sum(run.lost, run.top)

        def share(line, terms=run, lost=lost):
            return terms.sum(line, terms.top) / lost

        k = book.sigma_ratio - 1
        parts = [values[str(head), part] for part in norm_study.SPLITS.values()]
        assert sum(parts) == pytest.approx(share(book.norm))
        assert parts[1] == pytest.approx(-share(k * run.lost))
        assert parts[2] == pytest.approx(share(k * (book.self_repair - book.norm)), abs=1e-9)
        movers = [values[str(head), part] for part in norm_study.MOVERS.values()]
        assert sum(movers) == pytest.approx(share(book.norm))
        live, norm_alone, rest_alone = (values[str(head), part] for part in appendices.FROZEN.values())
        assert live == pytest.approx(share(book.self_repair))
        assert rest_alone == pytest.approx(share(book.self_repair - book.norm), abs=1e-9)
        if head.layer and name == "gpt_neox_parallel":  # nothing lies downstream but the norm
            assert norm_alone == pytest.approx(live) and rest_alone == pytest.approx(0, abs=1e-9)
    drawn = {marks.label for panel in exhibit.picture.panels for marks in panel.marks}
    assert set(appendices.FROZEN.values()) <= drawn
    caption, tokens = exhibit.caption, int(run.top.sum())
    assert f"{tokens} tokens per head" in caption and f"of {run.scored.sum()} tokens from 3 documents" in caption


def test_the_norms_frozen_runs_by_the_models_own_norm():
    """Norm live, rest frozen: the model's own norm and unembedding on the clean stream plus the head's change. Norm
    frozen, rest live: its scale is the clean one."""
    body = Corpus(language_model("llama"), corpus(lengths=(9,) * 6))
    head = (1, 2)
    study = norm.study_norm(body, [head], ["resample"], fraction=FRACTION)
    run = whole("llama", body, head, "resample")
    network, tokens = body.model.network, torch.from_numpy(body.windows.tokens)
    weight = network.lm_head.weight - network.lm_head.weight.mean(0)
    rows = weight[tokens[:, 1:]]
    hand, block = ANATOMY["llama"], network.model.layers[1]
    z = [oracle.trace(network, hand, part).z[1, :, :, 2] for part in (tokens, tokens[torch.from_numpy(body.donors)])]
    size = z[0].shape[-1]
    change = (z[1] - z[0]) @ block.self_attn.o_proj.weight[:, 2 * size : 3 * size].T
    with oracle.in_float64():
        clean, norm_live = (network.model.norm(stream)[:, :-1] for stream in (run.clean, run.clean + change))
        scale = (run.clean.square().mean(-1, keepdim=True) + network.model.norm.variance_epsilon).sqrt()
        norm_frozen = (network.model.norm.weight * run.ablated / scale)[:, :-1]
        effects = [((stream - clean) * rows).sum(-1) for stream in (norm_live, norm_frozen)]
    values = norm.accounts(study).table.set_index("part")["fraction of lost DE"]
    lost = run.sum(run.lost, run.top)
    for frozen_part, effect in zip(list(appendices.FROZEN.values())[1:], effects, strict=True):
        assert values[frozen_part] == pytest.approx(run.sum(effect.detach() + run.lost, run.top) / lost)


# ------------------------------------------------------------------------------------------- the closed form's check


def along(wanted, other):
    """The part of one vector at each token that the other does not see."""
    return wanted - (wanted * other).sum(-1, keepdim=True) / other.square().sum(-1, keepdim=True) * other


def noise(_clean, _before, after, _norm):
    generator = torch.Generator().manual_seed(0)
    return replace(after, final=torch.randn(after.final.shape, generator=generator, dtype=after.final.dtype))


def write_that_moves_no_norm(clean, before, after, norm):
    return with_write(after, along(clean.direction, norm.centre(before.final + after.final)[:, :-1]))


def write_that_is_worth_nothing(clean, before, after, norm):
    return with_write(after, along(norm.centre(before.final + after.final)[:, :-1], clean.direction))


def with_write(after, write):
    """What the last MLP is said to have written, with some more that is not in the stream."""
    last = max(after.mlp)
    padded = torch.nn.functional.pad(write, (0, 0, 0, 1))
    return replace(after, mlp={**after.mlp, last: after.mlp[last] + padded})


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox_parallel"])
@pytest.mark.parametrize(
    ("broken", "closure", "movers"),
    [
        (None, False, False),
        (noise, True, True),
        (write_that_moves_no_norm, True, False),
        (write_that_is_worth_nothing, False, True),
    ],
)
def test_the_checks_of_the_norm_term_can_fail_each_by_itself(monkeypatch, name, broken, closure, movers):
    body = Corpus(language_model(name), corpus(lengths=(9,) * 6))
    run, kept = Replayer.run, []

    def breaking(self, clean, layer, in_place=None, *rest):
        replayed = run(self, clean, layer, in_place, *rest)
        if in_place is None or broken is None:
            kept.append(replayed)
            return replayed
        return broken(clean, kept[-1], replayed, body.model.anatomy.final_norm)

    monkeypatch.setattr(Replayer, "run", breaking)
    study = norm.study_norm(body, [(0, 1)], ["resample"], fraction=FRACTION)
    assert (study.closure > 1e-3) == closure and (study.movers > 1e-3) == movers
    for error, fails in ((study.closure, closure), (study.movers, movers)):
        assert fails or error < 1e-9
    values = values_of(norm.accounts(study))
    assert values["largest error of the closed form of Appendix B"] == study.closure


# ------------------------------------------------------------------------------------------- the rest


def test_appendix_g_is_drawn_with_its_numbers(studied):
    _, study, runs = studied
    exhibit = norm.significance(study)
    values = values_of(exhibit)
    assert values["the paper's example: ratio 1.02, 10 logits"] == pytest.approx(0.2)
    for (head, operator), run in runs.items():
        wanted = (run.book.sigma_ratio.numpy()[run.top].mean() - 1) * 10
        assert values[f"{head}: repair per 10 logits, {operator}"] == pytest.approx(wanted)
    drawn = {marks.label: marks for marks in exhibit.picture.panels[0].marks}
    assert set(drawn) == set(OPERATORS)
    for operator, marks in drawn.items():
        shown = [values[f"{head}: repair per 10 logits, {operator}"] for head in study.heads]
        np.testing.assert_allclose(marks.y, shown)


def test_filtered_captions_give_both_counts(studied):
    _, study, runs = studied
    run = next(iter(runs.values()))
    for exhibit in (norm.ratios(study, study.heads[:1]), norm.significance(study)):
        assert f": {run.top.sum()} tokens" in exhibit.caption
        assert f"documents, of {run.scored.sum()} tokens from 3 documents" in exhibit.caption


def test_filtered_points_are_a_uniform_sample(monkeypatch):
    """Of the tokens that pass, not those that come first."""
    body = Corpus(language_model("llama"), corpus(lengths=(9,) * 12, documents=range(12)))
    every = norm.study_norm(body, [(1, 0)], ["zero"], fraction=0.8).chosen
    for module in (norm_study, scale_figures):
        monkeypatch.setattr(module, "MOST_CHOSEN", 20)
    body.__dict__["size"] = 2
    sampled = norm.study_norm(body, [(1, 0)], ["zero"], fraction=0.8).chosen
    first = every.head(20)
    assert len(sampled) == 20 and len(sampled.merge(every, on=["window", "position"])) == 20
    assert len(sampled.merge(first, on=["window", "position"])) < 20
    assert "a uniform sample of 20" in norm.ratios(norm.study_norm(body, [(1, 0)], ["zero"], fraction=0.8)).caption


def test_outlines_that_lie_over_each_other_are_not_filled(studied):
    _, study, _ = studied
    several = norm.ratios(study, study.heads[:1]).picture
    alone = norm.ratios(replace(study, operators=("zero",)), study.heads[:1]).picture
    for picture, fills in ((several, 0), (alone, 1)):
        (axes,) = with_matplotlib.draw(picture).axes
        assert sum(bool(patch.get_fill()) for patch in axes.patches) == fills
        assert sum(trace.fill == "tozeroy" for trace in with_plotly.figure_of(picture).data) == fills


def test_legends_lie_above_outlines(studied):
    _, study, _ = studied
    figure = with_matplotlib.draw(norm.ratios(study).picture)
    figure.canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        tops = [axes.transData.transform(patch.get_path().vertices)[:, 1].max() for patch in axes.patches]
        assert len(tops) == 3 and max(tops) < legend.y0


def test_legends_lie_above_error_bars(studied):
    _, study, _ = studied
    figure = with_matplotlib.draw(norm.accounts(study).picture)
    figure.canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        bars = [
            axes.transData.transform(path.vertices)
            for collection in axes.collections
            for path in collection.get_paths()
        ]
        segments = [ends for ends in bars if len(ends) == 2]
        assert segments and not any(legend.contains(*end) for ends in segments for end in ends)


@pytest.fixture(scope="module")
def run():
    return measure(
        language_model("llama"), corpus(), filters=["all", "top:0.3"], components="none", sample=999, progress=False
    )


def test_figure_6_against_the_reference_engine(run):
    windows, donors = windows_of(run.windows)
    tokens, others = (torch.from_numpy(windows.tokens[which]) for which in (slice(None), donors[:, 0]))
    ledgers = sweep(ReferenceEngine(), language_model("llama"), "resample", None, tokens, others)
    scored = windows.scored(1)
    sums = {}
    for head, ledger in ledgers.items():
        effect = ledger.direct_effect[0].numpy()
        top = scored & (effect >= np.sort(effect[scored])[::-1][int(0.3 * scored.sum()) - 1])
        change = (ledger.ablated_direct_effect - ledger.direct_effect)[0].numpy()[top]
        norm, repair = ledger.norm[0].numpy()[top], ledger.self_repair[0].numpy()[top]
        k = ledger.sigma_ratio[0].numpy()[top] - 1
        lines = (norm, -change, effect[top], repair, k * change, k * (repair - norm), np.ones(top.sum()))
        sums[head] = [line.sum() for line in lines]
    exhibit = repair_by_norm(run)
    values = values_of(exhibit)
    for where, first in (("all layers", 0), ("last quarter of layers", 2)):
        norm, lost, effect, repair, damage, response, count = np.sum(
            [tally for head, tally in sums.items() if head.layer >= first], 0
        )
        wanted = {
            f"norm's self-repair, {where}": norm / count,
            f"norm / lost direct effect, {where}": norm / lost,
            f"norm / direct effect, {where}": norm / effect,
            f"norm / self-repair, {where}": norm / repair,
            f"amplifies what was there / lost, {where}": (norm - damage - response) / lost,
            f"rescales the damage / lost, {where}": damage / lost,
            f"rescales the response / lost, {where}": response / lost,
        }
        for name, value in wanted.items():
            assert values[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    table = exhibit.table.set_index(["layer", "head"])
    for head, (*_, damage, response, count) in sums.items():
        assert table.loc[tuple(head), "on_damage"] == pytest.approx(damage / count, rel=1e-4, abs=1e-6)
        assert table.loc[tuple(head), "on_response"] == pytest.approx(response / count, rel=1e-4, abs=1e-6)


def test_heads_are_chosen_by_what_is_lost_on_their_top_tokens(run):
    lost = run.heads["lost_direct_effect"].sel(filter="top 30%").values
    layers, heads = lost.shape
    last = sorted(range(heads), key=lambda head: -lost[-1, head])
    assert [tuple(head) for head in norm.choose_last_layer(run, 3)] == [(layers - 1, head) for head in last[:3]]
    middle = [(layer, head) for layer in range(layers // 2, layers - 1) for head in range(heads)]
    wanted = sorted(middle, key=lambda cell: -lost[cell])[:2]
    assert [tuple(head) for head in norm.choose_earlier(run)] == wanted
