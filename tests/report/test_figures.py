import sys

import numpy as np
import pytest
from made_runs import made_run

from selfrepair.errors import SelfRepairError
from selfrepair.report.run_figures import direct_effects_figure, overview_figure

pytest.importorskip("matplotlib")
from support import with_heads


@pytest.fixture(scope="module")
def run():
    return made_run(6, 5, windows=8)


def words(figure):
    import matplotlib.text

    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text)).replace("\n", " ")


@pytest.mark.parametrize("count", [0, 7, 30])
def test_overview_shows_every_head_at_its_depth_and_fills_those_that_are_repaired(run, count):
    from matplotlib.collections import PathCollection

    heads = run.heads.copy(deep=True)
    heads["label"][:] = np.array(["repaired"] * count + ["uncertain"] * (30 - count), object).reshape(6, 5)
    run = with_heads(run, heads)
    axes = overview_figure(run).axes[0]
    series = [dots for dots in axes.collections if isinstance(dots, PathCollection)]
    filled = [dots for dots in series if dots.get_facecolor()[0][:3].min() < 1]
    assert [dots.get_label() for dots in filled] == [f"repaired heads: {count} of 30 tested"]
    assert len(filled[0].get_offsets()) == count and sum(len(dots.get_offsets()) for dots in series) == 30
    every = np.concatenate([dots.get_offsets().data for dots in series])
    every = every[np.argsort(every[:, 0], kind="stable")]
    np.testing.assert_array_equal(every[:, 1], run.heads["self_repair"].sel(filter="top 2%").values.ravel())
    np.testing.assert_allclose(every[:, 0].reshape(6, 5).mean(1), np.arange(6) / 6, atol=1e-12)
    means = next(line for line in axes.lines if line.get_label() == "mean of the layer's heads")
    expected = run.heads["self_repair"].sel(filter="top 2%").mean("head")
    np.testing.assert_allclose(means.get_ydata(), expected)


def test_direct_effects_shows_every_head_and_the_lines(run):
    axes = direct_effects_figure(run).axes[0]
    points = axes.collections[-1].get_offsets()
    cell = run.heads.sel(filter="all")
    np.testing.assert_array_equal(points[:, 0], cell["direct_effect"].values.ravel())
    np.testing.assert_array_equal(points[:, 1], cell["total_effect"].values.ravel())
    assert "no repair: y = −x" in words(axes.figure) and "full repair" in words(axes.figure)


@pytest.mark.parametrize("draw", [overview_figure, direct_effects_figure])
def test_captions_name_what_the_numbers_rest_on(run, draw):
    said = words(draw(run, "bottom 2%"))
    for part in (
        "SmolLM2-135M-Instruct",
        "resample ablation",
        "bottom 2% of tokens",
        "documents",
        "position 0 left",
    ):
        assert part in said


def test_labels_do_not_overlap(run):
    figure = direct_effects_figure(made_run(30, 9, windows=3, components="none"))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 4
    for place, box in enumerate(boxes):
        assert box.count_overlaps(boxes[place + 1 :]) == 0
        assert axes.get_window_extent().count_overlaps([box]) == 1


@pytest.mark.parametrize("draw", [overview_figure, direct_effects_figure])
@pytest.mark.parametrize("what", ["one layer gone", "all gone", "one head", "long names"])
def test_odd_runs_draw_without_warnings(draw, what, tmp_path, recwarn):
    everything = {(layer, head) for layer in range(3) for head in range(4)}
    made = {
        "one layer gone": lambda: made_run(skip={(1, head) for head in range(4)}, status="interrupted"),
        "all gone": lambda: made_run(skip=everything, status="interrupted"),
        "one head": lambda: made_run(1, 1),
        "long names": lambda: made_run(model="m$_^$" + "model/" * 40, text="some text " * 40, donors="d" * 300),
    }[what]()
    figure = draw(made, path=tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert not [str(one.message) for one in recwarn.list]


def test_without_matplotlib_the_fix_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(SelfRepairError) as caught:
        overview_figure(run)
    assert "selfrepair[plots]" in caught.value.fix


def test_pyplot_is_left_alone(run):
    sys.modules.pop("matplotlib.pyplot", None)
    overview_figure(run)
    assert "matplotlib.pyplot" not in sys.modules


def test_a_figure_that_cannot_be_saved_is_an_error_with_a_fix(run, tmp_path):
    for name in ("nowhere/x.png", "x.nonsense"):
        with pytest.raises(SelfRepairError, match="Cannot write the figure"):
            overview_figure(run, path=tmp_path / name)
