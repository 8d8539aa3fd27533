"""Every number that Figures 1, 2 and 20 to 24 plot, against effects of every token from an independent oracle."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from selfrepair import measure
from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.experiments import overview
from selfrepair.paper.inputs.recipe import original
from selfrepair.paper.pictures.exhibit_captions import about_run
from selfrepair.pictures import with_matplotlib, with_plotly
from selfrepair.pictures.picture import Marks, Panel, Picture
from support import Head, corpus, language_model, oracle_ledger, with_heads

LAYERS, HEADS, SHARE = 3, 4, 0.2
NAMES = tuple(f"L{layer}H{head}" for layer in range(LAYERS) for head in range(HEADS))
TEXT = corpus(lengths=(9,) * 10, documents=(0, 0, 1, 1, 2, 2, 3, 3, 4, 4))
DOCUMENT = np.repeat(np.arange(5), 14)  # of every scored token: two windows of seven, position 0 left out


@pytest.fixture(scope="module")
def run():
    settings = {"filters": ["all", f"top:{SHARE}"], "components": "none", "sample": len(DOCUMENT), "progress": False}
    return measure(language_model("llama"), TEXT, **settings)


@pytest.fixture(scope="module")
def effects(run):
    """DE, DE′ and TE of every token by the oracle, [head, token] each."""
    donors = torch.from_numpy(TEXT.tokens[[row[0] for row in run.windows["donors"].to_pylist()]])
    tokens, model = torch.from_numpy(TEXT.tokens), language_model("llama")
    books = [
        oracle_ledger("llama", model, "resample", Head(layer, head), tokens, donors)
        for layer in range(LAYERS)
        for head in range(HEADS)
    ]
    parts = ("direct_effect", "ablated_direct_effect", "total_effect")
    return [np.stack([getattr(book, name)[:, 1:].reshape(-1).numpy() for book in books]) for name in parts]


def bars(values):
    """[2, row]: half-widths of the classical t interval of each row's mean over five documents of equal size, to which
    the bootstrap's tends with many replicates."""
    means = np.stack([values[:, d == DOCUMENT].mean(1) for d in range(5)])
    return np.stack([student.ppf(0.975, 4) * means.std(0, ddof=1) / np.sqrt(5)] * 2)


def alike(measured, wanted):
    np.testing.assert_allclose(measured, wanted, rtol=0.15)  # 400 replicates: 3.5% of a standard error, 24 of them


def close(measured, wanted):
    np.testing.assert_allclose(measured, wanted, rtol=1e-6, atol=1e-9)


def test_figure_1(run, effects):
    direct, ablated, total = effects
    repair = total - (ablated - direct)
    (panel,) = overview.repair_by_depth([run]).picture.panels
    points, line = panel.marks
    top = direct >= np.sort(direct)[:, -int(SHARE * len(DOCUMENT)) :][:, :1]
    means = np.array([repaired[chosen].mean() for repaired, chosen in zip(repair, top, strict=True)])
    close(points.y, means)
    nudge = np.tile([-0.28, -0.28 / 3, 0.28 / 3, 0.28], LAYERS)
    close(points.x, (np.repeat(np.arange(LAYERS), HEADS) + nudge) / LAYERS)
    assert tuple(points.names) == NAMES
    close(line.x, np.arange(LAYERS) / LAYERS)
    close(line.y, means.reshape(LAYERS, HEADS).mean(1))
    (panel,) = overview.repair_by_depth([run], "all").picture.panels
    close(panel.marks[0].y, repair.mean(1))
    alike(panel.marks[0].y_error, bars(repair))


def test_figures_2_and_20_to_22(run, effects):
    direct, ablated, total = effects
    exhibit = overview.direct_against_total([run])
    for panel, across in zip(exhibit.picture.panels, (direct, direct - ablated), strict=True):
        (points,) = panel.marks
        close(points.x, across.mean(1))
        close(points.y, total.mean(1))
        alike(points.x_error, bars(across))
        alike(points.y_error, bars(total))
        assert tuple(points.names) == NAMES and points.shade.tolist() == np.repeat(np.arange(LAYERS), HEADS).tolist()
        assert [(rule.slope, rule.at) for rule in panel.rules] == [(-1, 0.0), (0, 0.0)]
        for x, y, name in panel.notes:
            index = NAMES.index(name)
            close([x, y], [across.mean(1)[index], total.mean(1)[index]])
    last = slice((LAYERS - 1) * HEADS, None)
    apparent, true = (total + direct)[last].mean(), (total + direct - ablated)[last].mean()
    assert exhibit.number("apparent self-repair of the last layer, TE + DE").value == pytest.approx(apparent, rel=1e-5)
    assert exhibit.number("self-repair of the last layer").value == pytest.approx(true, rel=1e-5)


def test_figures_23_and_24(run, effects):
    perfect, none = overview.idealised([run]).picture.panels
    close(perfect.marks[0].x, effects[0].mean(1))
    assert (perfect.marks[0].y == 0).all()
    close(none.marks[0].x, effects[0].mean(1))
    close(none.marks[0].y, -effects[0].mean(1))
    assert (np.abs(none.marks[0].y) < none.y_range[1]).all()


# ------------------------------------------------------------------------------------------------ several runs


@pytest.fixture(scope="module")
def others():
    mean = measure(language_model("llama"), TEXT, ablation="mean", filters=["all"], components="none", progress=False)
    return mean, make.sweep(language_model("gpt2"), TEXT, original(5), progress=False)


def test_every_run_has_its_panels_and_its_caption(run, others):
    runs = [run, *others]
    first, second, ideal = overview.repair_by_depth(runs), overview.direct_against_total(runs), overview.idealised(runs)
    assert [len(exhibit.picture.panels) for exhibit in (first, second, ideal)] == [3, 6, 6]
    for exhibit in (first, second, ideal):
        for number, (shown, title) in enumerate(
            zip(runs, ("resample", "mean", "resample, next batch"), strict=True), 1
        ):
            label = "all" if exhibit is not first or number == 2 else shown.filters[1]
            model = shown.heads.attrs["model"]
            assert about_run(shown, label) in exhibit.caption
            per = len(exhibit.picture.panels) // 3
            for panel in exhibit.picture.panels[(number - 1) * per : number * per]:
                assert panel.title.startswith(f"{model}, {title} ablation")
                wanted = shown.heads["self_repair" if exhibit is first else "direct_effect"].sel(filter=label)
                if exhibit is first:
                    close(panel.marks[0].y, wanted.values.ravel())
                elif "against what was lost" not in panel.title:
                    close(panel.marks[0].x, wanted.values.ravel())
    assert second.table["run"].tolist() == [1] * 12 + [2] * 12 + [3] * 12
    assert second.picture.shade_label.startswith("relative depth")
    assert "not alike in the ablation operator" in second.caption and "of the original recipe" in second.caption
    assert "the filter" not in second.caption and "the filter (top 20%; all; top 2%)" in first.caption
    assert "the positions counted (position 0 left out; no position left out)" in second.caption
    named = f"{runs[1].heads.attrs['model']}, mean ablation: self-repair of the last layer"
    assert second.number(named).value != second.number("self-repair of the last layer").value


def test_runs_alike_are_numbered_and_one_run_is_not_named(run):
    assert overview.names_of_runs([run, run]) == ["LlamaForCausalLM, run 1", "LlamaForCausalLM, run 2"]
    assert "not alike" not in overview.repair_by_depth([run, run]).caption
    assert overview.direct_against_total([run]).picture.panels[0].title == "as in the paper: against DE"


def test_runs_that_cannot_stand_beside_are_refused(run, monkeypatch):
    runs = {
        "whole": run,
        "part": replace(run, outcome=run.outcome | {"status": "interrupted"}),
        "top": with_heads(run, run.heads.isel(filter=[1])),
    }
    monkeypatch.setattr("selfrepair.results.run_folder.load_run", runs.get)
    assert overview.read_beside(["whole"]) == (run,)
    with pytest.raises(SelfRepairError, match="part is interrupted"):
        overview.read_beside(["whole", "part"])
    with pytest.raises(SelfRepairError, match="top has no filter 'all'"):
        overview.read_beside(["top"])


# ------------------------------------------------------------------------------------------------ what frames hide


def hiding():
    x, y = np.array([0.0, 0.5, 3.0, np.nan]), np.array([0.1, 0.2, 0.3, 0.4])
    cut = Marks(x, y, label="points", y_error=np.array([[0, 0, 0, 9.0], [0, 5, 5, 0.0]]))
    line = Marks(np.arange(9.0), np.arange(9.0), "line")
    return Panel("t", "across", "y", (cut, line), x_range=(-1, 1), y_range=(-1, 1))


def test_what_lies_outside_the_frame_is_counted_under_it():
    panel = hiding()
    hidden = "(1 of 3 points outside the frame; 1 of 2 intervals cut at the frame)"
    assert panel.unseen() == hidden
    assert replace(panel, x_range=None, y_range=None).unseen() == ""
    figure = with_matplotlib.draw(Picture((panel,)))
    assert figure.axes[0].get_xlabel() == f"across\n{hidden}"
    assert hidden in with_plotly.figure_of(Picture((panel,))).layout.xaxis.title.text


def test_legends_do_not_cover_error_bars_nor_reach_beyond_their_panel(run):
    panel = hiding()
    long = tuple(replace(panel.marks[0], label=name * 5) for name in ("amplify ", "rescale ", "damage "))
    three = Picture((replace(panel, marks=long), panel, panel), columns=3)
    for picture in (Picture((panel,)), three, overview.repair_by_depth([run]).picture):
        figure = with_matplotlib.draw(picture)
        figure.canvas.draw()
        axes = figure.axes[0]
        legend, frame = axes.get_legend().get_window_extent(), axes.get_window_extent()
        assert legend.y1 <= axes.xaxis.get_tightbbox().y0 <= frame.y0 and legend.y0 >= 0
        assert legend.x1 <= frame.x1
