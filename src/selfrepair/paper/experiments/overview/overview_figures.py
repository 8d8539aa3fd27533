"""The paper's Figures 1, 2 and 20 to 24, of one run or of several together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.overview.overview_numbers import between_numbers, repair_numbers
from selfrepair.paper.experiments.overview.overview_panels import effect_panels, idealised_panels
from selfrepair.paper.experiments.overview.runs_beside import (
    about_all,
    heads_of_all,
    names_of_runs,
    numbers_of_all,
    prefixes,
)
from selfrepair.pictures.picture import Picture
from selfrepair.report.panels import depth_panel
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run

SECTION = "overview"


def repair_by_depth(runs: Sequence[Run], filter: str | None = None) -> Exhibit:
    """Self-repair of every head over relative depth, a panel for each run (Figure 1).

    Args:
        runs: runs of one or several models; numbers of all but the first carry the run's name.
        filter: the filter of tokens; each run's top filter by default.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    panels = tuple(
        depth_panel(run, label, "self_repair", "self-repair (logit)", name)
        for run, label, name in zip(runs, labels, names_of_runs(runs), strict=True)
    )
    caption = (
        "Mean self-repair of every head, TE − (DE′ − DE), against the head's relative depth; thin bars are 95% "
        "intervals over documents (a dot without one comes from too few), the line is the mean over a layer's heads. "
        "The frame is set by the dots: longer intervals are cut at its edge, and counted under the panel. "
        + about_all(runs, labels)
    )
    return Exhibit(
        "figure-01-self-repair-by-depth",
        "Figure 1",
        SECTION,
        "Self-repair of every head by depth",
        caption,
        heads_of_all(runs, labels),
        numbers_of_all(runs, labels, repair_numbers),
        Picture(panels, columns=min(3, len(panels))),
    )


def direct_against_total(runs: Sequence[Run], filter: str = "all") -> Exhibit:
    """Mean direct effect against mean change of the logit, with the no-repair line (Figures 2 and 20 to 22).

    The second panel of each run has the measured change in direct effect across, which the paper takes for the direct
    effect itself: a head that writes a constant lies above the line of the first panel without any repair.

    Args:
        runs: a row of panels for each.
        filter: the filter of tokens.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    panels = [
        panel
        for run, label, name in zip(runs, labels, prefixes(runs), strict=True)
        for panel in effect_panels(run, label, name, _shades(run, runs))
    ]
    caption = (
        "Mean over tokens for every head; between the dashed line and the x axis a head is repaired. The paper draws "
        "the left panel and assumes that DE′ is zero; the right panel measures it. Bars are 95% intervals over "
        "documents, cut at the frame. " + about_all(runs, labels)
    )
    return Exhibit(
        "figure-02-direct-against-total",
        "Figures 2, 20–22",
        SECTION,
        "Direct effect against the change of the logit",
        caption,
        heads_of_all(runs, labels),
        numbers_of_all(runs, labels, between_numbers),
        Picture(tuple(panels), columns=2, shade_label=_shade_label(runs)),
    )


def idealised(runs: Sequence[Run], filter: str = "all") -> Exhibit:
    """Figure 2 as it would look with perfect repair and with none (Figures 23 and 24), for these models' heads.

    Args:
        runs: a row of panels for each.
        filter: the filter of tokens.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    table = heads_of_all(runs, labels)[["run", "model", "name", "layer", "head", "direct_effect"]].copy()
    table["perfect_repair"], table["no_repair"] = 0.0, -table["direct_effect"]
    panels = [
        panel
        for run, name, (_, part) in zip(runs, prefixes(runs), table.groupby("run"), strict=True)
        for panel in idealised_panels(part, name, _shades(run, runs))
    ]
    caption = (
        "Not measured: where the heads of Figure 2 would lie if every direct effect were made up for (left), and if "
        "none were (right). " + about_all(runs, labels)
    )
    return Exhibit(
        "figure-23-idealised",
        "Figures 23, 24",
        SECTION,
        "Perfect self-repair and none, idealised",
        caption,
        table,
        (),
        Picture(tuple(panels), columns=2, shade_label=_shade_label(runs)),
    )


def _shades(run: Run, runs: Sequence[Run]) -> np.ndarray:
    """[head], the layer; the relative depth if several models share the colour scale."""
    layers, heads = run.heads.sizes["layer"], run.heads.sizes["head"]
    return np.repeat(np.arange(layers) / (1 if len(runs) == 1 else layers), heads)


def _shade_label(runs: Sequence[Run]) -> str:
    return "layer" if len(runs) == 1 else "relative depth (layer / layers)"
