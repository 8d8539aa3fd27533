"""Figure 3's heads, by what is plotted; its numbers, from its points."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.experiments import noise
from selfrepair.paper.inputs.recipe import DEFAULT
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.pictures.picture import CELLS, DENSITY_LABEL, SPARSE, scatter
from selfrepair.results.intervention_axis import cells_of_heads, flat
from selfrepair.results.runs import Run
from support import corpus, language_model

TOKENS, DOCUMENTS = 600, 12
LABEL = "top 2%"


@pytest.fixture(scope="module")
def run():
    text = corpus(lengths=(9,) * 12, documents=range(12))
    return make.sweep(language_model("llama"), text, DEFAULT, progress=False)


def made_up(direct, total, lost, repaired, over_the_top):
    """A run of one early and several late heads, from [head, token] effects and per-head numbers of the top filter."""
    direct, total = (np.asarray(values, float) for values in (direct, total))
    heads = len(direct)
    rows = pd.DataFrame(
        {
            "layer": 1,
            "head": np.repeat(np.arange(heads), TOKENS),
            "document": pd.Categorical(np.tile(np.arange(TOKENS) % DOCUMENTS, heads).astype(str)),
            "direct_effect": direct.ravel(),
            "total_effect": total.ravel(),
            "ablated_direct_effect": 0.0,
            "self_repair": (total + direct).ravel(),
            "in_sample": True,
        }
    )
    rows["kept_as"] = "sample"
    limit = 100.0  # tokens of the filter: apart from the others, with just these means
    filtered = pd.DataFrame(
        {
            "layer": 1,
            "head": np.repeat(np.arange(heads), DOCUMENTS),
            "document": np.tile(np.arange(DOCUMENTS), heads).astype(str),
            "direct_effect": limit,
            "ablated_direct_effect": limit - np.repeat(np.asarray(lost, float), DOCUMENTS),
            "self_repair": np.repeat(np.asarray(repaired, float) * lost, DOCUMENTS),
            "total_effect": 0.0,
            "in_sample": False,
            "kept_as": "top",
        }
    )
    rows = pd.concat([rows.assign(document=rows["document"].astype(str)), filtered], ignore_index=True)
    rows["document"] = pd.Categorical(rows["document"])
    early = rows[rows["head"] == 0].assign(layer=0)
    numbers = {"lost_direct_effect": lost, "repaired_fraction": repaired, "direct_effect": over_the_top}
    grid = {
        name: (("filter", "layer", "head"), np.array([[[9.0] * heads, values]])) for name, values in numbers.items()
    }
    grid["threshold"] = (("filter", "layer", "head"), np.full((1, 2, heads), limit))
    grid["count"] = (("filter", "layer", "head"), np.full((1, 2, heads), 12))
    frame = pd.concat([early, rows], ignore_index=True)
    dataset = xr.Dataset(grid, {"filter": [LABEL]}, {"model": "m", "operator": "resample", "tokens": TOKENS})
    return Run({}, {}, flat(dataset, cells_of_heads([heads] * 2)), pa.Table.from_pandas(frame), pa.table({}))


def six_heads(quiet=0.01, follows=0.0):
    """Two repaired heads, one that writes the same everywhere, a quiet one, one whose effect goes its own way, and one
    that is not repaired at all."""
    rng = np.random.default_rng(0)
    noise_of = rng.normal(size=(6, TOKENS))
    direct = rng.normal(size=(6, TOKENS))
    direct[2], direct[3] = -0.5 + 0.05 * direct[2], quiet * direct[3]
    total = -direct + 0.3 * noise_of
    total[0], total[1] = (-0.4 * direct[head] + 0.3 * noise_of[head] for head in (0, 1))
    total[4] = -follows * direct[4] + noise_of[4]
    # over the top tokens the constant head's direct effect nearly vanishes, though not over those that are plotted
    top = [2.0, 1.8, 0.001, 0.02, 1.5, 2.5]
    return made_up(direct, total, [2.0, 1.8, 0.001, 0.02, 1.5, 2.5], [0.6, 0.5, 0.1, 0.0, 0.1, 0.0], top)


def test_heads_are_chosen_by_what_is_plotted():
    chosen = noise.choose_examples(six_heads())
    assert [(str(example.head), example.why) for example in chosen] == [
        ("L1H0", "repaired on average"),
        ("L1H1", "repaired on average"),
        ("L1H3", "hardly any direct effect"),
        ("L1H4", "direct effect, no clear correlation"),
    ]
    assert [example.note for example in chosen[:3]] == [""] * 3
    assert "cannot be distinguished from zero: r = " in chosen[3].note


def test_a_model_without_such_heads_is_said_to_have_none():
    run = six_heads(quiet=0.4, follows=0.6)
    quiet, follower = noise.choose_examples(run)[2:]
    frame = run.tokens_frame()
    effects = dict(iter(frame[frame["layer"] == 1].groupby("head")))
    assert quiet.head == (1, 3) and quiet.why == "least direct effect: no head is without"
    effects = {head: table[table["in_sample"]] for head, table in effects.items()}
    # half of the documents
    effects = {head: table[table["document"].cat.codes % 2 == 0] for head, table in effects.items()}
    size = effects[3]["direct_effect"].abs().mean()
    assert f"L1H3 has the least, mean |DE| {size:.2g} logit" in quiet.note
    assert follower.head == (1, 4) and follower.why == "direct effect, weakest correlation: no head is without"
    r = np.corrcoef(effects[4]["direct_effect"], effects[4]["total_effect"])[0, 1]
    assert -0.6 < r < -0.4 and f"L1H4 has the weakest, r = {r:.2f} (" in follower.note
    exhibit = noise.effects_by_token(run)
    assert quiet.note in exhibit.caption and follower.note in exhibit.caption
    assert "weakest correlation: no head is without" in exhibit.picture.panels[3].title


def test_heads_that_are_not_repaired_are_not_called_so():
    rng = np.random.default_rng(1)
    direct = rng.normal(size=(4, TOKENS))
    run = made_up(direct, -direct, [2.0, 1.5, 1.0, 0.5], [0.0, 0.5, 0.1, -0.2], [1.0] * 4)
    first, second = noise.choose_examples(run)[:2]
    assert (first.head, first.why) == ((1, 1), "repaired on average")
    assert (second.head, second.why) == ((1, 2), "nearest to repaired on average")
    assert "L1H2 is nearest" in second.note


def test_numbers_of_figure_3_are_those_of_its_points(run):
    exhibit = noise.effects_by_token(run, [(1, 2), (2, 0)])
    frame = run.tokens_frame()
    for index, head in enumerate(((1, 2), (2, 0))):
        part = frame[(frame["layer"] == head[0]) & (frame["head"] == head[1]) & frame["in_sample"]]
        x, y = (part[name].to_numpy(float) for name in ("direct_effect", "total_effect"))
        assert len(part) == 12 * 7  # all tokens but the first of each window
        marks = exhibit.picture.panels[index].marks[0]
        assert np.array_equal(marks.x, x) and np.array_equal(marks.y, y)
        name = f"L{head[0]}H{head[1]}"
        assert exhibit.number(f"{name}: correlation of DE and TE").value == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert exhibit.number(f"{name}: slope of TE on DE").value == pytest.approx(np.polyfit(x, y, 1)[0])
        lost = (part["direct_effect"] - part["ablated_direct_effect"]).to_numpy(float)
        fraction = part["self_repair"].to_numpy(float).sum() / lost.sum()
        assert exhibit.number(f"{name}: repaired fraction").value == pytest.approx(fraction)
        assert "chosen by the user" in exhibit.picture.panels[index].title
    assert len(exhibit.table) == 2 * 12 * 7
    with pytest.raises(SelfRepairError, match="no tokens of L9H0"):
        noise.effects_by_token(run, [(9, 0)])


def test_many_points_are_counted_in_both_kinds_of_picture():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2000))
    picture = noise.effects_by_token(six_heads(), [(1, 0)]).picture
    panel = picture.panels[0]
    limits = (-3.0, 3.0)
    dense = replace(picture, panels=(replace(panel, marks=scatter(x, y), x_range=limits, y_range=limits),))
    figure = with_matplotlib.draw(dense)
    assert DENSITY_LABEL in [axes.get_ylabel() for axes in figure.axes]
    drawn = with_plotly.figure_of(dense)
    counts, _, _ = np.histogram2d(x, y, CELLS, [limits, limits])
    cells = next(trace for trace in drawn.data if trace.type == "heatmap")
    shown = np.nan_to_num(np.asarray(cells.customdata, float))
    assert np.array_equal(shown.T, np.where(counts >= SPARSE, counts, 0)) and shown.any()
    assert np.allclose(10 ** np.asarray(cells.z)[shown > 0], shown[shown > 0])
    points = next(trace for trace in drawn.data if trace.type == "scattergl")
    assert len(points.x) + shown.sum() == 2000
    assert drawn.layout.coloraxis2.colorbar.title.text == DENSITY_LABEL
