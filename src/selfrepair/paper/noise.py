"""How noisy is self-repair from token to token? The paper's Figure 3, and the shares behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from selfrepair.ablation.units import Head
from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number, products, tally_of
from selfrepair.paper.over_heads import HeadSums
from selfrepair.paper.overview import depth_panel
from selfrepair.paper.picture import FAINT, PALETTE, Panel, Picture, Rule, scatter, symmetric
from selfrepair.paper.words import FIXED, about, rows_of, sampled
from selfrepair.report.captions import resolve_filter
from selfrepair.results.runs import Run

SECTION = "noise"
X, Y = "direct_effect", "total_effect"
_LEAST_TOKENS = 8


def per_token(run: Run, heads: Sequence[tuple[int, int]] | None = None) -> Exhibit:
    """Per-token direct effect against the change of the logit, for chosen heads (Figure 3).

    Args:
        run: the run; its uniform sample of tokens is shown.
        heads: (layer, head) pairs; by default chosen by the data, see `choose`.

    Raises:
        SelfRepairError: the run kept no uniform sample.
    """
    rows = rows_of(run, "all")
    if not len(rows):
        raise SelfRepairError("The run kept no uniform sample of tokens.", "Measure with sample=64 or more.")
    chosen = choose(run) if heads is None else [(Head(*head), "chosen by the user") for head in heads]
    parts = {head: _of(rows, head) for head, _ in chosen}
    limits = symmetric([part[[X, Y]].to_numpy() for part in parts.values()])
    panels, numbers = [], []
    for place, (head, why) in enumerate(chosen):
        part = parts[head]
        found = _numbers(head, part)
        numbers += found
        marks = scatter(part[X].to_numpy(), part[Y].to_numpy(), colour=PALETTE[place % len(PALETTE)])
        title = f"{head}: {why}; r = {found[0].value:.2f}"
        rules = (Rule(-1, label="no repair: y = −x"), Rule(0, colour=FAINT))
        panels.append(
            Panel(title, "direct effect, DE (logit)", "change of the logit, TE (logit)", marks, rules, limits, limits)
        )
    caption = (
        "Each point is a token. On the dashed line nothing is repaired, on the x axis everything. "
        + sampled(run)
        + f" Shares and correlations with {FIXED}."
    )
    table = pd.concat([part.assign(name=str(head)) for head, part in parts.items()], ignore_index=True)
    return Exhibit(
        "figure-03-per-token",
        "Figure 3",
        SECTION,
        "Self-repair from token to token",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def shares(run: Run, filter: str | None = None) -> Exhibit:
    """The share of tokens repaired, over-repaired and made worse, over depth (section 2.3 in numbers)."""
    label = resolve_filter(run, filter)
    part = run.heads.sel(filter=label)
    layers = part.sizes["layer"]
    names = {
        "share_repaired": "repaired in part or fully",
        "share_over_repaired": "over-repaired",
        "share_worse": "made worse",
    }
    panels = []
    for name, said in names.items():
        panel = depth_panel(run, label, name, "share of tokens")
        panels.append(Panel(said, panel.x_label, panel.y_label, panel.marks, (), y_range=(-0.02, 1.02)))
    table = run.table(label, top=None)[["name", "layer", "head", "count", "documents"]].copy()
    table = table.sort_values(["layer", "head"]).reset_index(drop=True)
    for name in (*names, "r_squared", "slope_through_origin"):
        for end in ("", "_low", "_high"):
            table[name + end] = part[name + end].values.ravel()
    rows = rows_of(run, label)
    numbers = [_share(rows, name, said) for name, said in names.items()]
    fractions = part["repaired_fraction"].values[layers // 2 :]
    spread = np.nanquantile(fractions, [0.1, 0.9]) if np.isfinite(fractions).any() else (np.nan, np.nan)
    numbers.append(_spread(rows, layers // 2))
    numbers.append(Number("repaired fraction of late heads, 10th percentile", float(spread[0])))
    numbers.append(Number("repaired fraction of late heads, 90th percentile", float(spread[1])))
    caption = (
        "Shares of each head's tokens: self-repair between nothing and all of what was lost; more than all of it (the "
        "logit ends on the other side); or of the wrong sign. " + about(run, label)
    )
    return Exhibit(
        "section-2-3-shares",
        "Section 2.3",
        SECTION,
        "How many tokens are repaired, over-repaired, made worse",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=3),
    )


def choose(run: Run) -> list[tuple[Head, str]]:
    """Four heads as in the paper, by the data: two with a large direct effect that is repaired on average, one with
    hardly any direct effect, and of the half that loses most the one whose effect and direct effect go together least
    from token to token."""
    label = resolve_filter(run, None)
    part = run.heads.sel(filter=label)
    lost, repaired = part["lost_direct_effect"].values, part["repaired_fraction"].values
    count = part["count"].values
    late = np.arange(lost.shape[0])[:, None] >= lost.shape[0] // 2
    usable = (count > 0) & late & np.isfinite(lost)
    if not usable.any():
        usable = (count > 0) & np.isfinite(lost)
    correlation = correlations(run)
    repaired_well = np.where(usable & (repaired > 0.2), lost, -np.inf)
    order = [Head(*map(int, np.unravel_index(place, lost.shape))) for place in np.argsort(-repaired_well, axis=None)]
    chosen = [(head, "repaired on average") for head in order[:2]]

    def best(score: np.ndarray, why: str) -> None:
        taken = score.copy()
        for head, _ in chosen:
            taken[head] = -np.inf
        if np.isfinite(taken).any():
            chosen.append((Head(*map(int, np.unravel_index(np.argmax(taken), taken.shape))), why))

    best(np.where(usable, -np.abs(part["direct_effect"].values), -np.inf), "hardly any direct effect")
    strong = usable & np.isfinite(correlation) & (lost >= np.nanmedian(lost[usable]))
    best(np.where(strong, -np.abs(correlation), -np.inf), "direct effect, weakest correlation")
    return chosen


def correlations(run: Run) -> np.ndarray:
    """Correlation of direct effect and total effect over the uniform sample, [layer, head]; NaN with few tokens."""
    found = np.full((run.heads.sizes["layer"], run.heads.sizes["head"]), np.nan)
    for (layer, head), part in rows_of(run, "all").groupby(["layer", "head"]):
        spread = part[X].std() * part[Y].std()
        if len(part) >= _LEAST_TOKENS and spread > 0:
            found[layer, head] = np.corrcoef(part[X], part[Y])[0, 1]
    return found


def _of(rows: pd.DataFrame, head: Head) -> pd.DataFrame:
    part = rows[(rows["layer"] == head.layer) & (rows["head"] == head.head)]
    if not len(part):
        raise SelfRepairError(f"The run has no tokens of {head}.", "Choose a head that it ablated.")
    return part


def _numbers(head: Head, part: pd.DataFrame) -> list[Number]:
    columns = {name: part[name].to_numpy(np.float64) for name in (X, Y)}
    columns["self_repair"] = part["self_repair"].to_numpy(np.float64)
    columns["lost"] = columns[X] - part["ablated_direct_effect"].to_numpy(np.float64)
    tally = tally_of(part["document"].cat.codes.to_numpy(), columns | products(X, Y, columns))
    return [
        tally.correlation(X, Y, f"{head}: correlation of DE and TE"),
        tally.slope(X, Y, f"{head}: slope of TE on DE"),
        tally.ratio("self_repair", "lost", name=f"{head}: repaired fraction"),
    ]


def _spread(rows: pd.DataFrame, first: int) -> Number:
    """How far apart heads from a layer on are in what is repaired, as a share of what they lose."""
    lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).to_numpy(np.float64)
    by_head = HeadSums.of(rows, {"lost": lost, "repair": rows["self_repair"].to_numpy(np.float64)}).from_layer(first)
    name = "spread of the repaired fraction of late heads, 10th to 90th percentile, less what noise explains"
    return by_head.spread(name, "repair", "lost")


def _share(rows: pd.DataFrame, name: str, said: str) -> Number:
    lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).to_numpy(np.float64)
    countered = np.sign(lost) * rows["self_repair"].to_numpy(np.float64)
    outcome = {
        "share_repaired": (countered > 0) & (countered <= np.abs(lost)),
        "share_over_repaired": countered > np.abs(lost),
        "share_worse": countered < 0,
    }[name]
    tally = tally_of(rows["document"].cat.codes.to_numpy(), {name: outcome.astype(np.float64)})
    return tally.share(name, f"share of tokens {said}, all heads")
