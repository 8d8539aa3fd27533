"""The norm's part of every head's repair: the paper's Figures 6, 10 and 11, and honest versions of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.overview import SHOWN
from selfrepair.paper.numbers.across_heads import HeadSums
from selfrepair.paper.numbers.over_documents import COUNT, Number, Tally, quotient, tally_of
from selfrepair.paper.pictures.exhibit_captions import FIXED, about_run, last_quarter, rows_of, sampled
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule
from selfrepair.report.panels import depth_panel
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run

SECTION = "layernorm"
_PARTS = {
    "on_existing": "amplifies what was there",
    "on_damage": "rescales the damage",
    "on_response": "rescales the response",
}


def repair_by_norm(run: Run, filter: str | None = None) -> Exhibit:
    """The norm's part of every head's self-repair, and its three parts by layer (Figure 6).

    With `k = sigma / sigma' - 1` the three parts are `k (l - beta)`, `k dDE` and `k` times the response of everything
    downstream; all follow from the kept rows: `k (l - beta) = norm - k dDE - k response`.
    """
    label = resolve_filter(run, filter)
    rows = with_split(rows_of(run, label))
    left = depth_panel(run, label, "repair_norm", "self-repair by the norm (logit)")
    by_layer = rows.groupby("layer")[[*_PARTS, "repair_norm"]].mean()
    depth = by_layer.index.to_numpy(float) / run.heads.sizes["layer"]
    marks = [Marks(depth, by_layer["repair_norm"].to_numpy(), "line", "norm, in all", "#222222", dashed=True)]
    for index, (name, part_label) in enumerate(_PARTS.items()):
        marks.append(Marks(depth, by_layer[name].to_numpy(), "line", part_label, PALETTE[index]))
    right = Panel(
        "its three parts, mean over a layer's heads", left.x_label, "logit", tuple(marks), (Rule(0, colour=FAINT),)
    )
    late = rows[rows["layer"] >= last_quarter(run.heads.sizes["layer"])]
    numbers = []
    for where, part in (("all layers", rows), ("last quarter of layers", late)):
        tally = _tally(part)
        by_head = HeadSums.of(part, {"norm": part["repair_norm"].to_numpy(np.float64)})
        numbers += [
            tally.mean("repair_norm", "logit", f"norm's self-repair, {where}"),
            tally.ratio("repair_norm", "lost", name=f"norm / lost direct effect, {where}"),
            tally.ratio("repair_norm", "direct_effect", name=f"norm / direct effect, {where}"),
            tally.ratio("repair_norm", "self_repair", name=f"norm / self-repair, {where}"),
            *(tally.ratio(name, "lost", name=f"{label} / lost, {where}") for name, label in _PARTS.items()),
            by_head.share_above(f"share of heads with norm's self-repair > 0, {where}", "norm"),
            by_head.share_shown(f"{SHOWN}, norm's self-repair > 0, {where}", lambda sums: [sums["norm"]]),
        ]
    caption = (
        "Left: the final norm's line of the ledger for every head, (1 − σ′/σ)(l′ − β). Right: its "
        "parts with k = σ/σ′ − 1: "
        "k(l − β), k ΔDE, and k times what everything downstream changed. " + about_run(run, label)
    )
    table = run.table(label, top=None).sort_values(["layer", "head"]).reset_index(drop=True)
    split = rows.groupby(["layer", "head"])[list(_PARTS)].mean().reset_index()
    return Exhibit(
        "figure-06-repair-by-norm",
        "Figure 6",
        SECTION,
        "The final norm's part of self-repair",
        caption,
        table.merge(split, on=["layer", "head"], how="left"),
        tuple(numbers),
        Picture((left, right), columns=2),
    )


def fractions(run: Run, filter: str | None = None) -> Exhibit:
    """The norm's repair as a fraction of the direct effect: the paper's two ways and two honest ones (Figures 10, 11).

    `mean(norm / DE)` over all tokens (Figure 10), `mean(clip(norm / DE, 0, 1))` over the filter (Figure 11), the ratio
    of sums `sum norm / sum (DE - DE')`, and the slope through the origin of norm on DE − DE′.
    """
    label = resolve_filter(run, filter)
    rows, every = rows_of(run, label), rows_of(run, "all")
    table = _by_head(run, rows, every, label)
    layers = run.heads.sizes["layer"]
    ways = {
        "unclipped": "Figure 10: mean of norm / DE, all tokens",
        "clipped": f"Figure 11: mean of clip(norm / DE, 0, 1), {label}",
        "ratio_of_sums": f"honest: Σ norm / Σ (DE − DE′), {label}",
        "slope": f"honest: slope of norm on DE − DE′, {label}",
    }
    panels = tuple(_way(table, name, title, layers) for name, title in ways.items())
    negative = table[table["repair_norm"] <= 0]
    tally = _tally(rows)
    numbers = (
        tally.mean("clipped", name="mean clip(norm / DE, 0, 1), all heads"),
        tally.mean("clipped, shuffled", name="the same with the sign of the norm's line flipped"),
        Number("the same, heads whose mean norm repair is not positive", _mean(negative["clipped"])),
        Number("share of heads whose mean norm repair is not positive", len(negative) / max(len(table), 1)),
        tally.ratio("repair_norm", "lost", name="ratio of sums, norm / (DE - DE')"),
        tally.share("exceeds", "share of tokens whose norm repair is at least DE"),
        _most_extreme(every),
    )
    clip_note = "Clipping cuts one side only, so that noise around zero clipped to [0, 1] averages about 0.2 to 0.3. "
    caption = (
        "The final norm's repair as a fraction of the head's direct effect, four ways; lines are means over a layer's "
        "heads. " + clip_note + about_run(run, label) + f" Figure 10's panel: {sampled(run)} {FIXED}."
    )
    return Exhibit(
        "figure-11-fraction-by-norm",
        "Figures 10, 11",
        SECTION,
        "The norm's repair as a fraction of the direct effect",
        caption,
        table,
        numbers,
        Picture(panels, columns=2),
    )


def with_split(rows: pd.DataFrame) -> pd.DataFrame:
    """Kept rows with the norm's three parts."""
    rows = rows.copy()
    k = rows["sigma_ratio"].to_numpy(np.float64) - 1
    change = (rows["ablated_direct_effect"] - rows["direct_effect"]).to_numpy(np.float64)
    response = rows[["repair_heads", "repair_mlps", "repair_post_norms"]].to_numpy(np.float64).sum(1)
    rows["on_damage"], rows["on_response"] = k * change, k * response
    rows["on_existing"] = rows["repair_norm"].to_numpy(np.float64) - rows["on_damage"] - rows["on_response"]
    return rows


def clipped(norm: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """The paper's `clip(norm / DE, 0, 1)`, NaN if DE is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.where(effect == 0, np.nan, norm / np.where(effect == 0, 1, effect)), 0, 1)


def _tally(rows: pd.DataFrame) -> Tally:
    names = ("direct_effect", "self_repair", "repair_norm", *_PARTS)
    columns = {name: rows[name].to_numpy(np.float64) for name in names if name in rows}
    effect, norm = columns["direct_effect"], columns["repair_norm"]
    columns["lost"] = effect - rows["ablated_direct_effect"].to_numpy(np.float64)
    columns["clipped"] = np.nan_to_num(clipped(norm, effect))
    columns["clipped, shuffled"] = np.nan_to_num(clipped(-norm, effect))
    columns["exceeds"] = (norm >= effect).astype(np.float64)
    return tally_of(rows["document"].cat.codes.to_numpy(), columns)


def _by_head(run: Run, rows: pd.DataFrame, every: pd.DataFrame, label: str) -> pd.DataFrame:
    part = run.heads.sel(filter=label)
    layers, heads = part["repair_norm"].shape
    grid = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"])
    table = pd.DataFrame(index=grid)
    table["name"] = [f"L{layer}H{head}" for layer, head in grid]
    table["repair_norm"] = part["repair_norm"].values.ravel()
    table["clipped"] = part["paper_clipped_mean_norm"].values.ravel()
    for end in ("", "_low", "_high"):
        table["ratio_of_sums" + end] = part["fraction_norm" + end].values.ravel()
    lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).to_numpy(np.float64)
    products = pd.DataFrame(
        {"layer": rows["layer"], "head": rows["head"], "xy": rows["repair_norm"] * lost, "xx": lost**2}
    )
    sums = products.groupby(["layer", "head"])[["xy", "xx"]].sum()
    table["slope"] = (sums["xy"] / sums["xx"]).reindex(grid)
    effect = every["direct_effect"].to_numpy(np.float64)
    ratio = np.where(effect == 0, np.nan, every["repair_norm"] / np.where(effect == 0, 1, effect))
    means = pd.DataFrame({"layer": every["layer"], "head": every["head"], "ratio": ratio}).groupby(["layer", "head"])[
        "ratio"
    ]
    table["unclipped"] = means.mean().reindex(grid)
    return table.reset_index()


def _way(table: pd.DataFrame, name: str, title: str, layers: int) -> Panel:
    heads = int(table["head"].max()) + 1
    values = table[name].to_numpy(np.float64)
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (table["layer"].to_numpy() + nudge[table["head"].to_numpy()]) / layers
    means = table.groupby("layer")[name].mean()
    error = None
    if f"{name}_low" in table:
        error = np.nan_to_num(np.stack([values - table[f"{name}_low"], table[f"{name}_high"] - values]))
    points = Marks(depth, values, names=tuple(table["name"]), y_error=error, size=4, label="a head")
    line = Marks(
        means.index.to_numpy(float) / layers, means.to_numpy(), "line", "mean of the layer's heads", PALETTE[1]
    )
    finite = values[np.isfinite(values)]
    limits: tuple[float, float] | None = (-0.03, 1.03) if name == "clipped" else None
    if name in ("ratio_of_sums", "slope") and finite.size:
        low, high = np.quantile(finite, [0.06, 0.94])
        limits = (float(min(low, 0) - 0.25), float(max(high, 0.5) + 0.25))
    return Panel(
        title,
        f"relative depth (layer / {layers})",
        "fraction",
        (points, line),
        (Rule(0, colour=FAINT),),
        y_range=limits,
    )


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _most_extreme(rows: pd.DataFrame) -> Number:
    """The largest size among heads of the mean of norm / DE, as Figure 10 shows it."""
    ratio = quotient(rows["repair_norm"].to_numpy(np.float64), rows["direct_effect"].to_numpy(np.float64))
    kept = np.isfinite(ratio)
    by_head = HeadSums.of(rows[kept], {"ratio": ratio[kept]})
    return by_head.number(
        "most extreme mean of norm / DE of a head, all tokens, in size",
        lambda sums: np.nanmax(np.abs(quotient(sums["ratio"], sums[COUNT])), axis=-1),
        scale="size",
    )
