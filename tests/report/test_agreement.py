"""The terminal, figures and comparisons say the same of one run, on terminals of any width."""

from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import made_run
from rich.console import Console

from selfrepair.report.captions import discoveries
from selfrepair.report.comparison_table import print_comparison
from selfrepair.report.run_tables import print_summary
from selfrepair.results.intervention_axis import cells_of_heads
from selfrepair.statistics.estimates import Estimate
from support import with_heads


def console(width):
    return Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: PTH123


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_title_of_the_summary_is_whole_at_every_width(width):
    terminal, run = console(width), made_run(3, 2)
    print_summary(terminal, run)
    said = " ".join(terminal.export_text().replace("│", " ").replace("─", " ").split())
    assert "how much of what heads lose is repaired" in said


def test_the_figure_counts_the_heads_that_the_terminal_counts():
    pytest.importorskip("matplotlib")
    from selfrepair.report.run_figures import overview_figure

    run = made_run(3, 2)
    heads = run.heads.copy(deep=True)
    heads["q_value"].loc[{"filter": "top 2%", "layer": 1}] = np.nan  # tokens from one document: no test
    run = with_heads(run, heads)
    labels = overview_figure(run).axes[0].get_legend_handles_labels()[1]
    (label,) = [label for label in labels if "repaired" in label]
    tested = discoveries(run, "top 2%")
    assert label.endswith(" of 4 tested") and " of 4 (2 more" in tested


def test_heads_whose_difference_is_none_or_undetermined_do_not_differ_most():
    value, low, high = np.array([0.4, 0.0, 9.0]), np.array([0.1, -1.0, -np.inf]), np.array([0.7, 1.0, np.inf])
    heads = Estimate(value, np.ones(3), low, high, np.full(3, 9))
    whole = Estimate(*(np.array(one) for one in (0.5, 0.1, 0.3, 0.7)), np.array(9))
    found = SimpleNamespace(
        estimator="repaired_fraction", filter="all", paired=True, names=("a", "b"), each=(whole, whole), change=whole,
        of_heads=True, unrelated="", cells=cells_of_heads([3]), differences=heads,
    )  # fmt: skip
    terminal = console(90)
    print_comparison(terminal, found, top=10)
    said = terminal.export_text()
    assert "L0H0" in said and "L0H1" not in said and "L0H2" not in said
