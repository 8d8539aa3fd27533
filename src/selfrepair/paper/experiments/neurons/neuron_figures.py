"""Figures of the study of erasure neurons: the paper's Figures 7, 8 and 12 to 15, for any downstream MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.neurons.neuron_study import COUNTED, EFFECT, REPAIR, NeuronStudy
from selfrepair.paper.experiments.neurons.neuron_sums import CARRIED, SORTED_TOKENS, NeuronSums
from selfrepair.paper.experiments.neurons.stability import CHANGE
from selfrepair.paper.numbers.over_documents import Number, Tally, whiskers
from selfrepair.paper.pictures.exhibit_captions import FIXED
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, histogram, symmetric

SECTION = "neurons"


def top_neurons(study: NeuronStudy, layer: int | None = None) -> Exhibit:
    """The neuron of an MLP that repairs most, token by token: clean against ablated (Figure 7).

    Args:
        study: the study of neurons; its first head is shown.
        layer: the MLP's layer; by default the last that was studied.

    Raises:
        SelfRepairError: the MLP was not studied for that head.
    """
    head = study.heads[0]
    layer, by_head = study.of(REPAIR, layer, [head])
    sums = by_head[head]
    table = sums.points
    x, y = (table[name].to_numpy() for name in ("clean", "ablated"))
    limits = symmetric([x, y])
    names = tuple(f"neuron {neuron}" for neuron in table["neuron"])
    marks = Marks(x, y, shade=table["layer_effect"].to_numpy(), names=names, size=4.2, opacity=0.85)
    rules = (Rule(1, label="unchanged: y = x"), Rule(0, colour=FAINT))
    across, title = "clean direct effect of the neuron (logit)", f"ablating {head}, MLP {layer}"
    panel = Panel("", across, "ablated direct effect (logit)", (marks,), rules, limits, limits)
    edges = np.linspace(*limits, 41)
    spread = histogram(x, edges, "", PALETTE[0])
    above = Panel(title, "", "share of tokens", (spread,), (Rule(None, 0.0),), limits)
    repairing = "the MLPs repair" if study.by_all else f"MLP {layer} repairs"
    which = "all of them" if len(table) == sums.tally.tokens else f"a uniform sample of {len(table):,} of them"
    caption = (
        f"Each point is a token on which {repairing} most ({which}): the neuron of MLP {layer} that repairs most "
        "there. Left of zero it erases; above the dashed line it erases less (anti-erasure). Above: the distribution "
        "of clean direct effects. Colour: the whole MLP's clean direct effect, bias included. A prompt is a window "
        f"with two or more of the tokens. {study.passing(REPAIR, [sums])}. {FIXED}."
    )
    return Exhibit(
        "figure-07-top-neuron",
        "Figure 7, section 4.2.2",
        SECTION,
        "The neuron that repairs most",
        caption,
        table,
        tuple(sums.numbers(f"{head}, MLP {layer}, {REPAIR}")),
        Picture(
            (above, panel),
            columns=1,
            shade_label="clean DE of the MLP (logit)",
            diverging=True,
            heights=(0.3, 1.0),
        ),
    )


def rank_curves(study: NeuronStudy, layer: int | None = None) -> Exhibit:
    """Share of tokens on which the r-th neuron repairs more than q of the head's direct effect (Figure 8).

    Args:
        study: the study of neurons; heads for which the MLP was studied are shown.
        layer: the MLP's layer; by default the last that was studied.

    Raises:
        SelfRepairError: the MLP was not studied.
    """
    layer, by_head = study.of(EFFECT, layer, study.heads)
    panels, rows, numbers = [], [], []
    for head, sums in by_head.items():
        shares = sums.exceeding()
        panels.append(_rank_panel(f"{head}, MLP {layer}: {sums.neurons:,} neurons", sums.shares, shares))
        numbers += sums.numbers(f"{head}, MLP {layer}, {EFFECT}")
        rows += [
            {"head": str(head), "layer": layer, "share_of_DE": share, "rank": rank, "share_of_tokens": float(value)}
            for share, values in zip(sums.shares, shares, strict=True)
            for rank, value in enumerate(values, start=1)
        ]
    caption = (
        f"Share of tokens on which the neuron of MLP {layer} with the r-th largest repair makes up for more than a "
        "given share of the head's direct effect; ranks, not neurons, are followed. "
        f"{study.passing(EFFECT, by_head.values())}. {FIXED}."
    )
    return Exhibit(
        "figure-08-rank-curves",
        "Figure 8",
        SECTION,
        "How often the neurons that repair most do so",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def _rank_panel(title: str, levels: Sequence[float], shares: np.ndarray) -> Panel:
    """Shares of tokens [level, rank] over the rank, a line for each share of the head's direct effect."""
    rank = np.arange(1, shares.shape[1] + 1, dtype=float)
    marks = tuple(
        Marks(rank, shares[row], "line", f"{100 * level:g}% of DE", PALETTE[row]) for row, level in enumerate(levels)
    )
    ends = (0.5, len(rank) + 0.5)
    return Panel(title, "rank of the neuron", "share of tokens", marks, y_range=(-0.02, 1.02), x_range=ends)


def cumulative_change(study: NeuronStudy, layer: int | None = None) -> Exhibit:
    """Cumulative absolute change by rank, coloured by the median clean direct effect (Figures 12 to 15).

    Args:
        study: the study of neurons; heads for which the MLP was studied are shown.
        layer: the MLP's layer; by default the last that was studied.

    Raises:
        SelfRepairError: the MLP was not studied.
    """
    name = COUNTED if any(filter == COUNTED for _, _, filter in study.sums) else EFFECT
    layer, by_head = study.of(name, layer, study.heads)
    panels, rows, numbers = [], [], []
    for head, sums in by_head.items():
        of = f"{head}, MLP {layer}"
        curve, medians = sums.curve(), sums.medians()
        negligible, *others = _numbers_of_change(sums, of, float(medians[0]))
        numbers += [negligible, *others]
        title = f"{of}: {negligible.value:.0%} of {sums.neurons:,} negligible"
        panels.append(_cumulative_panel(title, curve, medians))
        columns = {"rank": np.arange(1, len(curve) + 1), "cumulative_share": curve, "median_clean_DE": medians}
        rows.append(pd.DataFrame({"head": str(head), "layer": layer, **columns}))
    caption = (
        f"Neurons of MLP {layer} sorted by signed change on each token, largest repair first: share of the summed "
        "absolute change up to a rank. The right end rises because there the most negative changes lie. Negligible: "
        f"not among the largest that carry {CARRIED:.0%} of all change. Medians over a uniform sample of at most "
        f"{SORTED_TOKENS} tokens. {study.passing(name, by_head.values())}. Shares with {FIXED}."
    )
    return Exhibit(
        "figure-12-cumulative-change",
        "Figures 12–15",
        SECTION,
        "How many neurons change at all",
        caption,
        pd.concat(rows, ignore_index=True),
        tuple(numbers),
        Picture(tuple(panels), columns=2, shade_label="median clean DE (logit)", diverging=True),
    )


def _numbers_of_change(sums: NeuronSums, of: str, top: float) -> list[Number]:
    """The share of neurons with negligible change, what the top one does, and where absolute change comes from.

    Args:
        sums: sums of one head and MLP.
        of: head and MLP, for names.
        top: median clean direct effect of the top neuron, logits.
    """
    tally = sums.tally
    return [
        tally.share("negligible", f"{of}: share of neurons with negligible change"),
        Number(f"{of}: median clean DE of the top neuron", top, units="logit"),
        sums.top_ranks(f"{of}: share of the ten first ranks with negative median DE"),
        *(
            tally.share(column, f"{of}: share of absolute change {words}", "changed")
            for column, words in CHANGE.items()
        ),
    ]


def _cumulative_panel(title: str, curve: np.ndarray, medians: np.ndarray) -> Panel:
    """Cumulative change by rank; of many ranks the first ones and some hundred others are drawn."""
    ranks = len(curve)
    shown = np.unique(np.concatenate([np.arange(min(60, ranks)), np.linspace(0, ranks - 1, 400).astype(int)]))
    marks = Marks(
        (shown + 1) / ranks,
        curve[shown],
        shade=medians[shown],
        size=3.6,
        opacity=1.0,
        names=tuple(f"rank {rank + 1}" for rank in shown),
    )
    across, up = "rank by signed change / neurons", "share of all absolute change"
    return Panel(title, across, up, (marks,), y_range=(-0.02, 1.02))


def by_layer(study: NeuronStudy) -> Exhibit:
    """The same for every MLP downstream of the first head: repair, sparsity and cancellation by layer."""
    head = study.heads[0]
    layers = study.layers(head)
    quantities: dict[str, Callable[[Tally], Number]] = {
        "MLP's repair / direct effect of the head": lambda t: t.ratio("repair", "head"),
        "gross change Σ|d| / direct effect": lambda t: t.ratio("absolute", "head"),
        "effective number of neurons": lambda t: t.mean("effective"),
    }
    panels, rows = [], []
    for index, (quantity, of) in enumerate(quantities.items()):
        numbers = [of(study.sums[head, layer, EFFECT].tally) for layer in layers]
        values = np.array([number.value for number in numbers])
        error = whiskers(numbers)
        marks = Marks(np.arange(len(layers), dtype=float), values, "bars", "", PALETTE[index], y_error=error)
        panels.append(
            Panel(
                quantity, "layer of the MLP", "", (marks,), (Rule(0, colour=FAINT),), categories=tuple(map(str, layers))
            )
        )
        rows += [
            {
                "head": str(head),
                "layer": layer,
                "quantity": quantity,
                "value": number.value,
                "low": number.low,
                "high": number.high,
            }
            for layer, number in zip(layers, numbers, strict=True)
        ]
    sums = study.sums[head, layers[0], EFFECT]
    caption = f"MLPs downstream of {head}. {study.passing(EFFECT, [sums])}. Whiskers are {FIXED}."
    return Exhibit(
        "section-4-by-layer",
        "Section 4",
        SECTION,
        "Neurons of every downstream MLP",
        caption,
        pd.DataFrame(rows),
        (),
        Picture(tuple(panels), columns=3),
    )
