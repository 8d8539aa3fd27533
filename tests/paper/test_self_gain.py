"""Self-gain of heads, against whole forwards with one position changed."""

import numpy as np
import pytest
import torch

from selfrepair.engine.clean import clean_run
from selfrepair.errors import SelfRepairError
from selfrepair.model.taps import on_input, removing
from selfrepair.paper.experiments.self_gain import chosen_head_figures, chosen_heads, scan_figure, scan_heads
from selfrepair.paper.experiments.self_gain.scan_heads import OTHER, OWN, RANDOM, Head
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.recipe import original
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.text import Windows
from support import corpus, language_model


def new_effects(model, text, head, vectors):
    """New direct effects [window, P], at the clean and at the run's own final scale, one forward per position."""
    tokens = torch.from_numpy(text.tokens)
    block = model.anatomy.blocks[head.layer]
    with model.running():
        clean = clean_run(model, tokens)
        at_clean, at_own, ratio = (np.zeros((len(tokens), tokens.shape[1] - 1)) for _ in range(3))
        for position in range(tokens.shape[1] - 1):
            seen = {}

            def change(hidden, position=position):
                hidden = hidden.clone()
                hidden[:, position] += vectors[:, position]
                return hidden

            handles = (
                on_input(block.module, change),
                on_input(
                    block.projection, lambda value, seen=seen: seen.update(z=value.reshape(*tokens.shape, -1).clone())
                ),
                on_input(model.anatomy.final_norm_module, lambda value, seen=seen: seen.update(r=value.clone())),
            )
            with removing(*handles):
                model.run_trunk(tokens)
            z = block.heads_place.split(seen["z"])[:, position, head.head]
            effect = (z * clean.head_directions[head.layer][:, position, head.head]).sum(-1)
            scale = model.anatomy.final_norm.scale(seen["r"][:, position]) / clean.sigma[:, position]
            at_clean[:, position], at_own[:, position] = effect.numpy(), (effect / scale).numpy()
            ratio[:, position] = scale.numpy()
        return clean.direct_effects(head.layer)[..., head.head].numpy(), at_clean, at_own, ratio


def slope(x, y):
    return np.cov(x, y, bias=True)[0, 1] / np.var(x)


@pytest.mark.parametrize("name", ["gpt2", "llama", "olmo2", "bloom"])
def test_slopes_are_those_of_single_runs(name):
    """BLOOM goes position by position, OLMo 2 has a norm behind attention."""
    model, text = language_model(name), corpus()
    body, head = Corpus(model, text), Head(1, 2)
    scanned = scan_heads.scan(body, scale=3.0, layers=[1])
    with model.running():
        clean = clean_run(model, torch.from_numpy(text.tokens))
        own = scan_heads.head_writes(body, clean, 1)
    scored = text.scored(1)
    for kind in (OWN, OTHER, RANDOM):
        vectors = 3 * scan_heads.vector(body, own, np.arange(len(text)), head, kind)
        x, y, _, _ = new_effects(model, text, head, vectors)
        assert scanned.slope(head, kind).value == pytest.approx(slope(x[scored], y[scored]), rel=1e-6)
    assert scanned.fast == (name != "bloom")
    excess = scanned.slope(head).value - scanned.slope(head, RANDOM).value
    assert scanned.excess(head).value == pytest.approx(excess)


def test_the_original_scan_takes_the_runs_own_final_scale():
    """Heads are chosen by the slopes that Figure 9 shows."""
    model, text = language_model("llama"), corpus(lengths=(9,) * 6)
    body, head = Corpus(model, text, original(6)), Head(1, 2)
    scanned = scan_heads.scan(body, layers=[1])
    with model.running():
        clean = clean_run(model, torch.from_numpy(text.tokens))
        own = scan_heads.head_writes(body, clean, 1)
    x, at_clean, at_own, _ = new_effects(model, text, head, own[2])
    scored = text.scored(0)
    assert scanned.slope(head).value == pytest.approx(slope(x[scored], at_own[scored]), rel=1e-6)
    assert abs(slope(x[scored], at_own[scored]) - slope(x[scored], at_clean[scored])) > 1e-3
    shown = chosen_heads.study_scales(body, [head], scales=(1.0,)).tallies[head, OWN, 1.0]
    assert shown.slope("x", "y", "slope").value == pytest.approx(scanned.slope(head).value, rel=1e-6)
    caption = scan_figure.self_gain_by_depth(scanned).caption
    assert "own final scale" in caption and "clean final scale" not in caption
    assert (
        "at the clean final scale"
        in scan_figure.self_gain_by_depth(scan_heads.scan(Corpus(model, text), layers=[1])).caption
    )


def made_up(slopes):
    """A scan of heads with these slopes [head]: (own output, random direction, noise)."""
    rng = np.random.default_rng(0)
    scanned = scan_heads.Scan("m", 1.0, (OWN, RANDOM), shape=(1, len(slopes)))
    document = np.arange(200) % 10
    for number, (own, random, spread) in enumerate(slopes):
        x = rng.normal(size=200)
        for kind, value in ((OWN, own), (RANDOM, random)):
            columns = {"x": x, "y": value * x + spread * rng.normal(size=200)}
            tally = scanned.tallies[Head(0, number), kind] = scan_heads.Tally(10)
            tally.add(document, columns | scan_heads.products("x", "y", columns))
    return scanned


def test_only_a_head_that_reinforces_itself_is_called_so():
    small = [(1.0, 1.0, 0.01)] * 4
    heads = [(0.5, 1.0, 0.01), (1.3, 1.0, 0.01), (0.7, 0.4, 0.01), (1.6, 1.0, 6.0)]
    chosen = chosen_heads.choose_self_responding(wider(made_up(heads + small), 4))
    # L0H3 has the larger excess, not beyond its interval; L0H2 beats a random direction, and yet shrinks
    assert chosen == [(Head(0, 0), "represses itself most"), (Head(0, 1), "reinforces itself most")]


def test_where_no_head_does_the_nearest_is_called_that():
    # L0H0 beats a random direction by far, and shrinks: L0H1 is nearer to reinforcing itself
    heads = [(0.7, 0.4, 0.01), (1.005, 1.001, 0.1), (0.99, 1.0, 0.1)]
    chosen = chosen_heads.choose_self_responding(wider(made_up(heads + [(1.0, 1.0, 0.01)] * 3), 3))
    assert chosen == [
        (Head(0, 2), "closest to repressing itself: no head does, beyond its interval"),
        (Head(0, 1), "closest to reinforcing itself: no head does, beyond its interval"),
    ]


def wider(scanned, heads):
    """The same scan with ten times the direct effect in the first heads: those that are chosen from."""
    for (head, _), tally in scanned.tallies.items():
        if head.head < heads:
            for name, power in (("x", 1), ("y", 1), ("x x", 2), ("x y", 2), ("y y", 2)):
                tally._sums[name] = tally._sums[name] * 10.0**power
    return scanned


def test_shares_of_heads_beyond_a_random_direction_move_with_the_documents():
    """Shares are counted from the heads' own intervals, and their replicates by resampling documents by hand."""
    text = corpus(lengths=(9,) * 12, documents=range(12))
    scanned = scan_heads.scan(Corpus(language_model("llama"), text), scale=3.0, layers=[1, 2])
    heads = sorted({head for head, _ in scanned.tallies})
    for number, each, against in (
        (scanned.share_beyond("own", 1, -1), [scanned.slope(head) for head in heads], 1),
        (scanned.share_beyond("beyond", 0, -1, RANDOM), [scanned.excess(head) for head in heads], 0),
    ):
        assert number.value == np.mean([number.high < against for number in each])
        assert number.documents == 12 and 0 <= number.low <= number.value <= number.high <= 1
        assert number.high > number.low


def test_a_fall_in_proportion_is_told_from_one_that_is_not():
    """Slopes made up: 1 - 0.1 k falls in proportion to the scale k, 1 - 0.1 sqrt(k) falls less."""
    head, rng = Head(1, 2), np.random.default_rng(0)
    for power, wanted in ((1.0, 1.0), (0.5, 1 / np.sqrt(5))):
        made = chosen_heads.ScaleStudy("about", (head,), (1.0, 3.0, 5.0), False)
        for kind in scan_heads.KINDS:
            for scale in made.scales:
                x = rng.normal(size=400)
                slope_made = 1 - 0.1 * scale**power if kind == OWN else 0.95 if kind == RANDOM else 1.0
                columns = {"x": x, "y": slope_made * x + 0.001 * rng.normal(size=400), "ratio": np.ones(400)}
                tally = chosen_heads.Tally(20)
                tally.add(np.arange(400) % 20, columns | chosen_heads.products("x", "y", columns))
                made.tallies[head, kind, scale] = tally
        numbers = {number.name: number for number in chosen_head_figures.slopes_beside_controls(made).numbers}
        fall = numbers["L1H2: fall of the slope below 1 per unit of scale, x 5 over x 1"]
        assert fall.value == pytest.approx(wanted, rel=0.01) and fall.low < fall.value < fall.high
        beyond = numbers["L1H2: slope less the lower control's, own output x 3"]
        assert beyond.value == pytest.approx(1 - 0.1 * 3**power - 0.95, abs=1e-3) and beyond.high < 0


def test_a_heads_write_is_what_it_adds_to_the_stream():
    """Heads' writes and the constant add up to attention's write, behind a post-norm too."""
    for name in ("gpt2", "gemma2"):
        model = language_model(name)
        tokens = torch.from_numpy(corpus().tokens)
        with model.running():
            clean = clean_run(model, tokens)
            writes = scan_heads.head_writes(Corpus(model, corpus()), clean, 1)
            worth = (writes[:, :, :-1] * clean.direction).sum(-1).movedim(0, -1)
        assert (worth - clean.direct_effects(1)).abs().max() < 1e-10


def test_doses_take_the_final_scale_as_the_recipe_says():
    model, text = language_model("llama"), corpus(lengths=(9,) * 6)
    for recipe, own_scale in ((None, False), (original(3), True)):
        body = Corpus(model, text) if recipe is None else Corpus(model, text, recipe)
        study = chosen_heads.study_scales(body, [(1, 0)], scales=(1.0, 5.0))
        with model.running():
            clean = clean_run(model, torch.from_numpy(text.tokens))
            own = scan_heads.head_writes(body, clean, 1)
        x, at_clean, at_own, ratio = new_effects(model, text, Head(1, 0), 5 * own[0])
        scored = text.scored(body.recipe.first)
        tally = study.tallies[Head(1, 0), OWN, 5.0]
        wanted = slope(x[scored], (at_own if own_scale else at_clean)[scored])
        assert tally.slope("x", "y", "slope").value == pytest.approx(wanted, rel=1e-6)
        assert tally.mean("ratio").value == pytest.approx(ratio[scored].mean(), rel=1e-9)
        assert abs(slope(x[scored], at_own[scored]) - slope(x[scored], at_clean[scored])) > 1e-3


def test_controls_have_the_size_of_the_own_output():
    model, text = language_model("llama"), corpus(lengths=(9,) * 6)
    with model.running():
        clean = clean_run(model, torch.from_numpy(text.tokens))
        own = scan_heads.head_writes(Corpus(model, text), clean, 1)
    windows = np.arange(6)
    for kind in (OTHER, RANDOM):
        vectors = scan_heads.vector(Corpus(model, text), own, windows, Head(1, 2), kind)
        assert (vectors.norm(dim=-1) - own[2].norm(dim=-1)).abs().max() < 1e-10
    subset = scan_heads.vector(Corpus(model, text), own[:, 2:4], windows[2:4], Head(1, 2), RANDOM)
    assert torch.equal(subset, vectors[2:4])  # whatever batch a window is in
    theirs = Corpus(model, text, original(3))
    single = scan_heads.vector(theirs, own, windows, Head(1, 2), RANDOM)
    assert (single - single[0, 0]).abs().max() == 0  # one vector for all tokens, of the last output's norm
    assert float(single[0, 0].norm()) == pytest.approx(float(own[2][-1, -1].norm()))
    other = scan_heads.vector(theirs, own, windows, Head(1, 2), OTHER)
    assert any(torch.equal(other, own[head]) for head in (0, 1, 3))
    with pytest.raises(SelfRepairError, match="Nothing called"):
        scan_heads.vector(theirs, own, windows, Head(1, 2), "everything")


def test_the_original_recipe_takes_the_first_30_tokens_of_50_documents():
    """As `to_tokens` gives them, whatever rows the packed text was cut in (docs/methods.md 6.1)."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 60, 70)
    words = [rng.integers(3, 40, size) for size in sizes]
    stream, owner = np.concatenate(words), np.repeat(np.arange(70), sizes)
    rows = len(stream) // 39
    cut = [values[: rows * 39].reshape(rows, 39) for values in (stream, owner)]
    front = np.full((rows, 1), 1)
    text = Windows(
        np.hstack([front, cut[0]]),
        np.full(rows, 40),
        np.hstack([cut[1][:, :1], cut[1]]),
        tuple(f"d{number}" for number in range(70)),
        {"source": "test"},
    )
    part = scan_heads.for_scan(Corpus(language_model("llama"), text, original(30)), 10**6)
    assert part.windows.tokens.shape == (50, 30)
    for index, own in enumerate(words[:50]):
        size = min(30, len(own) + 1)
        assert part.windows.lengths[index] == size
        assert part.windows.tokens[index, :size].tolist() == [1, *own[: size - 1]]
        assert (part.windows.documents[index, :size] == index).all()
        assert (part.windows.documents[index, size:] == -1).all()
    assert len(part.numbers()) == 1  # all prompts at once, so that the random control has one norm
    default = scan_heads.for_scan(Corpus(language_model("llama"), text), 100)
    assert default.windows.tokens.shape == (3, 40)


def test_the_original_control_has_one_vector_for_all_prompts(monkeypatch):
    """Of the norm of the last prompt's last output, however many batches the recipe makes of the rest."""
    text = corpus(lengths=(9,) * 6, documents=range(6))
    model = language_model("llama")
    seen = []
    vector = scan_heads.vector

    def kept(corpus, own, windows, head, kind):
        added = vector(corpus, own, windows, head, kind)
        if kind == RANDOM:
            seen.append(added.norm(dim=-1))
        return added

    monkeypatch.setattr(chosen_heads, "vector", kept)
    part = scan_heads.for_scan(Corpus(model, text, original(3)), 10**6)
    chosen_heads.study_scales(part, [(1, 0)], scales=(1.0,))
    with model.running():
        own = scan_heads.head_writes(part, clean_run(model, torch.from_numpy(part.windows.tokens)), 1)
    norms = torch.cat([norm.ravel() for norm in seen])
    assert len(norms) == part.windows.tokens.size
    assert (norms - own[0, -1, -1].norm()).abs().max() < 1e-10


def test_scales_are_where_the_controls_have_their_ticks():
    dosed = chosen_heads.study_scales(Corpus(language_model("llama"), corpus()), [(1, 0)])
    picture = chosen_head_figures.slopes_beside_controls(dosed).picture
    assert [axes.get_xticks().tolist() for axes in with_matplotlib.draw(picture).axes] == [[1, 3, 5]] * 2
    drawn = with_plotly.figure_of(picture)
    assert list(drawn.layout.xaxis.tickvals) == [1, 3, 5] == list(drawn.layout.xaxis2.tickvals)
