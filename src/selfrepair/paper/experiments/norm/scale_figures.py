"""The final norm's scale under ablation: the paper's Figures 4, 5 and 16 to 18."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Head
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.norm.norm_study import LENGTH_EDGES, MOST_CHOSEN, MOST_POINTS, NormStudy
from selfrepair.paper.inputs.corpus import OPERATORS
from selfrepair.paper.numbers.document_halves import ON_HALF
from selfrepair.paper.numbers.over_documents import COUNT, Number, Sums, join_tallies, quotient
from selfrepair.paper.pictures.exhibit_captions import FIXED
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, histogram, scatter, symmetric

SECTION = "layernorm"
SHOWN = 8  # bins of stream lengths drawn as one
COLOUR = dict(zip(OPERATORS, PALETTE, strict=False))


def ratios(study: NormStudy, heads: Sequence[Head] | None = None, name: str = "figure-04-scale-ratio") -> Exhibit:
    """Clean over ablated scale of the final norm on a head's top tokens, by operator (Figures 4, 17, 18)."""
    chosen = tuple(heads) if heads is not None else study.heads
    table = study.chosen[study.chosen["head"].isin([str(head) for head in chosen])]
    panels, numbers = [], []
    for head in chosen:
        part = table[table["head"] == str(head)]
        low, high = np.quantile(part["ratio"], [0.002, 0.998]) if len(part) else (0.9, 1.1)
        margin = 0.1 * max(high - low, 1e-3)
        bins = int(np.clip(np.sqrt(len(part) / max(len(study.operators), 1)) * 2, 12, 80))
        edges = np.linspace(min(low, 1) - margin, max(high, 1) + margin, bins)
        marks = []
        for operator in study.operators:
            tally = study.top[head, operator]
            above = tally.share("above", name=f"{head}: share of scale ratios above 1, {operator}")
            numbers.append(above)
            values = part.loc[part["operator"] == operator, "ratio"].to_numpy()
            marks.append(histogram(values, edges, f"{operator}: {above.value:.1%} above 1", COLOUR[operator]))
            numbers.append(tally.mean("ratio", name=f"{head}: mean scale ratio, {operator}"))
        numbers += _zero_beside_others(study, head)
        room = 0.0, under_legend(marks)[1]
        rules = (Rule(None, 1.0, "1"),)
        panels.append(Panel(str(head), "σ clean / σ ablated", "share of tokens", tuple(marks), rules, y_range=room))
    figure = "Figure 4" if name.startswith("figure-04") else "Figures 17, 18"
    most = max(study.top[head, study.operators[0]].tokens for head in chosen)
    drawn = f"; drawn: a uniform sample of {MOST_CHOSEN:,}" if most > MOST_CHOSEN else ""
    caption = (
        "Ratio of the final norm's clean to its ablated scale on the head's top tokens; above 1 every logit is scaled "
        f"up{drawn}. {study.filtered(chosen)}. Shares with {FIXED}."
    )
    return Exhibit(
        name,
        figure,
        SECTION,
        "The final norm's scale, clean over ablated",
        caption,
        table[["head", "operator", "window", "position", "document", "direct_effect", "total", "norm", "ratio"]],
        tuple(numbers),
        Picture(tuple(panels), columns=min(3, len(panels))),
    )


def _zero_beside_others(study: NormStudy, head: Head) -> list[Number]:
    """Distance of the scale ratio from 1 under zero ablation, over that under the others (Figures 17, 18)."""
    others = [operator for operator in study.operators if operator != "zero"]
    if "zero" not in study.operators or not others:
        return []
    together = join_tallies({operator: study.top[head, operator] for operator in study.operators})

    def over(sums: Sums) -> np.ndarray:
        return quotient(sums["zero/off one"], np.maximum.reduce([sums[f"{operator}/off one"] for operator in others]))

    name = f"{head}: mean |scale ratio - 1|, zero over the larger of {' and '.join(others)}"
    halves = [
        together.in_half(half).number(f"{name}{on_half}", over, scale="size") for half, on_half in enumerate(ON_HALF)
    ]
    return [together.number(name, over, scale="size"), *halves]


def _zero_less_others(study: NormStudy, head: Head) -> list[Number]:
    """Mean length of the stream under zero ablation less the shortest under another (Figure 16)."""
    others = [operator for operator in study.operators if operator != "zero"]
    if "zero" not in study.operators or not others:
        return []
    together = join_tallies({operator: study.streams[head, operator] for operator in study.operators})

    def less(sums: Sums) -> np.ndarray:
        shortest = np.minimum.reduce([sums[f"{operator}/length"] for operator in others])
        return quotient(sums["zero/length"] - shortest, sums[COUNT])

    return [
        together.number(f"{head}: mean length, ablated / clean, zero less the shorter of {' and '.join(others)}", less)
    ]


def one_head(study: NormStudy, head: Head) -> Exhibit:
    """Direct effect against the change of the logit under each operator, for one last-layer head (Figure 5)."""
    table = study.sample[study.sample["head"] == str(head)]
    limits = symmetric([table[["direct_effect", "total"]].to_numpy()])
    panels, numbers = [], []
    for operator in study.operators:
        part = table[table["operator"] == operator]
        marks = scatter(part["direct_effect"].to_numpy(), part["total"].to_numpy(), colour=COLOUR[operator])
        rules = (Rule(-1, label="no repair: y = −x"), Rule(0, colour=FAINT))
        tally = study.every[head, operator]
        wrong = tally.share("wrong_way", f"{head}: share of helped tokens whose logit rises, {operator}", "helping")
        repaired = tally.ratio("self_repair", "lost", name=f"{head}: repaired fraction, all tokens, {operator}")
        by_norm = tally.ratio(
            "norm", "self_repair", name=f"{head}: norm's share of self-repair, all tokens, {operator}"
        )
        numbers += [wrong, repaired, replace(by_norm, exact=study.parallel)]
        title = f"{operator}: logit rises on {wrong.value:.0%} of helped tokens"
        panels.append(
            Panel(title, "direct effect, DE (logit)", "change of the logit, TE (logit)", marks, rules, limits, limits)
        )
    caption = (
        f"{head} under each operator; each point is a token, all tokens or a uniform sample of {MOST_POINTS:,}. In a "
        f"parallel model only the norm can repair a last-layer head. {study.unfiltered}. Shares with {FIXED}."
    )
    shown = table[
        ["head", "operator", "window", "position", "document", "direct_effect", "change", "total", "norm", "ratio"]
    ]
    return Exhibit(
        "figure-05-one-head",
        "Figure 5",
        SECTION,
        "One last-layer head under three ablations",
        caption,
        shown,
        tuple(numbers),
        Picture(tuple(panels), columns=3),
    )


def stream_lengths(study: NormStudy, head: Head) -> Exhibit:
    """Length of the final stream under ablation, over the clean length (Figure 16)."""
    numbers, tables = [], []
    for operator in study.operators:
        counts, tally = study.lengths[head, operator], study.streams[head, operator]
        numbers += [
            Number(f"{head}: median length, ablated / clean, {operator}", _quantile(_share(counts), 0.5)),
            tally.share("shorter", f"{head}: share of streams shorter, {operator}"),
            tally.mean("length", name=f"{head}: mean length, ablated / clean, {operator}"),
        ]
        columns = {"from": LENGTH_EDGES[:-1], "to": LENGTH_EDGES[1:], "count": counts}
        tables.append(pd.DataFrame({"head": str(head), "operator": operator, **columns}))
    numbers += _zero_less_others(study, head)
    caption = (
        "Norm of the stream after the last block under each operator, ablated over clean, at all "
        f"{int(study.lengths[head, study.operators[0]].sum()):,} positions of real tokens that count, those that "
        f"predict nothing included, unfiltered. {study.unfiltered}."
    )
    return Exhibit(
        "figure-16-stream-length",
        "Figure 16",
        SECTION,
        "The length of the residual stream under ablation",
        caption,
        pd.concat(tables, ignore_index=True),
        tuple(numbers),
        Picture((_length_panel(study, head),), columns=1),
    )


def _length_panel(study: NormStudy, head: Head) -> Panel:
    """Histograms of lengths by operator; the axis holds all but a few in a thousand."""
    marks, ends = [], [1.0]
    for operator in study.operators:
        share = _share(study.lengths[head, operator])
        heights = share[1:-1].reshape(-1, SHOWN).sum(1)
        label = f"{operator}: median {_quantile(share, 0.5):.4f}"
        marks.append(Marks(LENGTH_EDGES[1:-1:SHOWN], heights, "steps", label, COLOUR[operator]))
        ends += [_quantile(share, 0.003), _quantile(share, 0.997)]
    low, high = min(ends), max(ends)
    room = 0.05 * max(high - low, 0.01)
    return Panel(
        str(head),
        "‖final stream‖ ablated / clean",
        "share of positions",
        tuple(marks),
        (Rule(None, 1.0, "1"),),
        x_range=(low - room, high + room),
    )


def _share(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts / max(counts.sum(), 1))


def _quantile(share: np.ndarray, of: float) -> float:
    """A quantile of the lengths, interpolated within its bin."""
    cumulated = np.concatenate([[0.0], np.cumsum(share)])
    edges = np.clip(LENGTH_EDGES, 0.0, 2.0)
    return float(np.interp(of, cumulated, edges))


def under_legend(series: Sequence[Marks], *others: float) -> tuple[float, float]:
    """Limits of an axis that leave its upper quarter to the legend; zero and the others are within."""
    ends = np.array([0.0, *others])
    for marks in series:
        below, above = (0.0, 0.0) if marks.y_error is None else marks.y_error
        ends = np.concatenate([ends, marks.y - below, marks.y + above])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = (high - low) or 1.0
    return low - 0.06 * room, high + 0.4 * room
