"""Does self-repair exist? The paper's Figures 1, 2 and 20 to 24, from one sweep over all heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Array, Number, Tally, tally_of
from selfrepair.paper.over_heads import HeadSums, share_of
from selfrepair.paper.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule
from selfrepair.paper.words import about, last_quarter, rows_of
from selfrepair.report.captions import fact, resolve_filter
from selfrepair.results.runs import Run

SECTION = "overview"
_COLUMNS = ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair")


def repair_by_depth(runs: Sequence[Run], filter: str | None = None) -> Exhibit:
    """Self-repair of every head over relative depth, a panel for each model (Figure 1).

    Args:
        runs: one per model; the caption and the numbers are about the first.
        filter: which tokens; each run's top filter by default.
    """
    tables, panels = [], []
    for run in runs:
        label = resolve_filter(run, filter)
        tables.append(_heads(run, label))
        panels.append(depth_panel(run, label, "self_repair", "self-repair (logit)"))
    label = resolve_filter(runs[0], filter)
    caption = (
        "Mean self-repair of every head, TE − (DE′ − DE), against the head's relative depth; thin bars are 95% "
        "intervals over documents, the line is the mean over a layer's heads. " + about(runs[0], label)
    )
    return Exhibit(
        "figure-01-self-repair-by-depth",
        "Figure 1",
        SECTION,
        "Self-repair of every head by depth",
        caption,
        pd.concat(tables, ignore_index=True),
        repair_numbers(runs[0], label),
        Picture(tuple(panels), columns=min(3, len(panels))),
    )


def direct_against_total(run: Run, filter: str = "all") -> Exhibit:
    """Mean direct effect against mean change of the logit, with the no-repair line (Figures 2 and 20 to 22).

    The second panel has the measured change in direct effect across, which the paper takes for the direct effect
    itself: a head that writes a constant lies above the line of the first panel without any repair.
    """
    label = resolve_filter(run, filter)
    table = _heads(run, label)
    part = run.heads.sel(filter=label)
    shade = table["layer"].to_numpy(float)
    total, y_error = table["total_effect"].to_numpy(), _bars(part, "total_effect")
    lost = part["lost_direct_effect"].values.ravel()
    x_errors = _bars(part, "direct_effect"), _bars(part, "lost_direct_effect")
    panels = []
    for x, x_error, title, across in (
        (
            table["direct_effect"].to_numpy(),
            x_errors[0],
            "as in the paper: against DE",
            "mean direct effect, DE (logit)",
        ),
        (lost, x_errors[1], "against what was lost: DE − DE′", "mean lost direct effect, DE − DE′ (logit)"),
    ):
        marks = Marks(
            x, total, shade=shade, names=tuple(table["name"]), x_error=x_error, y_error=y_error, label="a head"
        )
        rules = (Rule(-1, label="no repair: y = −x"), Rule(0, label="full repair: y = 0", colour=FAINT))
        panels.append(
            Panel(
                title,
                across,
                "mean change of the logit, TE (logit)",
                (marks,),
                rules,
                x_range=_span(x),
                y_range=_span(total),
                notes=_notable(table, x, total),
            )
        )
    caption = (
        "Mean over tokens for every head; between the dashed line and the x axis a head is repaired. The paper draws "
        "the left panel and takes DE′ for zero; the right panel measures it. " + about(run, label)
    )
    return Exhibit(
        "figure-02-direct-against-total",
        "Figures 2, 20–22",
        SECTION,
        "Direct effect against what ablation does to the logit",
        caption,
        table,
        _between_numbers(run, label),
        Picture(tuple(panels), columns=2, shade_label="layer"),
    )


def idealised(run: Run, filter: str = "all") -> Exhibit:
    """What Figure 2 would look like with perfect repair and with none (Figures 23 and 24), for this model's heads."""
    label = resolve_filter(run, filter)
    table = _heads(run, label)[["name", "layer", "head", "direct_effect"]].copy()
    table["perfect_repair"], table["no_repair"] = 0.0, -table["direct_effect"]
    effect = table["direct_effect"].to_numpy()
    reach = 1.1 * (float(np.nanmax(np.abs(effect))) or 1.0)
    panels = tuple(
        Panel(
            title,
            "mean direct effect, DE (logit)",
            "mean change of the logit (logit)",
            (
                Marks(
                    table["direct_effect"].to_numpy(),
                    table[column].to_numpy(),
                    names=tuple(table["name"]),
                    shade=table["layer"].to_numpy(float),
                ),
            ),
            (Rule(-1, label="y = −x"), Rule(0, label="y = 0", colour=FAINT)),
            y_range=(-reach, reach),
        )
        for title, column in (("perfect self-repair", "perfect_repair"), ("no self-repair", "no_repair"))
    )
    caption = (
        "Not measured: where the heads of Figure 2 would lie if every direct effect were made up for (left), and if "
        "none were (right). " + about(run, label)
    )
    return Exhibit(
        "figure-23-idealised",
        "Figures 23, 24",
        SECTION,
        "Perfect self-repair and none, idealised",
        caption,
        table,
        (),
        Picture(panels, columns=2, shade_label="layer"),
    )


def depth_panel(run: Run, label: str, name: str, y_label: str) -> Panel:
    """One number of every head over relative depth, with layer means."""
    part = run.heads.sel(filter=label)
    values = part[name].values
    layers, heads = values.shape
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (np.arange(layers)[:, None] + nudge[None, :]) / layers
    names = tuple(f"L{layer}H{head}" for layer in range(layers) for head in range(heads))
    measured = np.isfinite(values).any(1)
    means = np.array([np.nanmean(row) if some else np.nan for row, some in zip(values, measured, strict=True)])
    points = Marks(
        depth.ravel(), values.ravel(), label="a head, 95% interval", names=names, y_error=_bars(part, name), size=4.2
    )
    line = Marks(np.arange(layers)[measured] / layers, means[measured], "line", "mean of the layer's heads", PALETTE[1])
    return Panel(
        f"{fact(run, 'model')} ({label})",
        f"relative depth (layer / {layers})",
        y_label,
        (points, line),
        (Rule(0, colour=FAINT),),
        y_range=_height(values),
    )


def repair_numbers(run: Run, label: str) -> tuple[Number, ...]:
    """How much heads are repaired, over all layers and the last quarter of them."""
    rows = rows_of(run, label)
    late = last_quarter(run.heads.sizes["layer"])
    found = []
    for where, chosen in (("all layers", rows), ("last quarter of layers", rows[rows["layer"] >= late])):
        tally = _tally(chosen)
        found += [
            tally.ratio("self_repair", "lost", name=f"repaired fraction, {where}"),
            tally.mean("self_repair", "logit", f"self-repair, {where}"),
            tally.ratio("ablated_direct_effect", "direct_effect", name=f"sum DE' / sum DE, {where}"),
        ]
    by_head = HeadSums.of(rows, {"self_repair": rows["self_repair"].to_numpy(np.float64)})
    part = run.heads.sel(filter=label)
    above = (part["self_repair_low"] > 0).values
    several = (part["documents"] > 1).values
    for where, start in (("all layers", 0), ("last quarter of layers", late)):
        tested = int(several[start:].sum())
        found.append(by_head.from_layer(start).share_above(f"share of heads with SR > 0, {where}", "self_repair"))
        name = f"share of heads with SR > 0 beyond their interval, {where}"
        found.append(Number(name, float(above[start:].sum() / tested) if tested else float("nan")))
    return tuple(found)


def _between_numbers(run: Run, label: str) -> tuple[Number, ...]:
    """Heads between the no-repair line and the x axis, by DE as in the paper and by what was lost.

    Values are over all tokens, intervals and the ratios by layer from the run's uniform sample of them.
    """
    table, rows = _heads(run, label), rows_of(run, label)
    by_head = HeadSums.of(rows, _columns(rows))
    found = []
    for how, x in (("DE", "direct_effect"), ("DE - DE'", "lost")):
        known = table["lost_direct_effect" if x == "lost" else x].to_numpy()
        found.append(
            by_head.number(
                f"share of helping heads between y = -x and the axis, x = {how}",
                lambda sums, x=x: _between(sums[x], sums["total_effect"]),  # type: ignore[misc]
                value=float(_between(known, table["total_effect"].to_numpy())),
            )
        )
    tally = _tally(rows[rows["layer"] == run.heads.sizes["layer"] - 1])
    apparent = tally.number(
        "apparent self-repair of the last layer, TE + DE",
        lambda sums: (sums["total_effect"] + sums["direct_effect"]) / sums["count"],
        "logit",
    )
    true = tally.mean("self_repair", "logit", "self-repair of the last layer")
    return (
        *found,
        apparent,
        true,
        tally.ratio("ablated_direct_effect", "direct_effect", name="sum DE' / sum DE of the last layer"),
        *_ablated_by_layer(rows),
    )


def _between(x: Array, total: Array) -> Array:
    """Share of the heads with `x` above zero whose total effect lies between -x and zero; x and total [..., head]."""
    return share_of((total > -x) & (total < 0), x > 0)


def _ablated_by_layer(rows: pd.DataFrame) -> list[Number]:
    """`sum DE' / sum DE` of every layer whose summed direct effect is above zero beyond its interval."""
    found = []
    for layer, part in rows.groupby("layer"):
        tally = _tally(part)
        if tally.mean("direct_effect").low > 0:
            name = f"sum DE' / sum DE by layer, layer {layer}"
            found.append(tally.ratio("ablated_direct_effect", "direct_effect", name=name))
    return found


def _tally(rows: pd.DataFrame) -> Tally:
    return tally_of(rows["document"].cat.codes.to_numpy(), _columns(rows))


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    columns = {name: rows[name].to_numpy(np.float64) for name in _COLUMNS}
    columns["lost"] = columns["direct_effect"] - columns["ablated_direct_effect"]
    return columns


def _heads(run: Run, label: str) -> pd.DataFrame:
    """Every head as a row, with intervals."""
    table = run.table(label, top=None)
    table.insert(0, "model", fact(run, "model"))
    return table.sort_values(["layer", "head"]).reset_index(drop=True)


def _bars(part: object, name: str) -> np.ndarray:
    """Lengths of the intervals below and above, [2, head]."""
    middle, low, high = (part[name + end].values.ravel() for end in ("", "_low", "_high"))  # type: ignore[index]
    return np.asarray(np.nan_to_num(np.stack([middle - low, high - middle])))


def _height(values: np.ndarray) -> tuple[float, float] | None:
    """Limits by the dots; very long error bars are cut at the frame."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    reach = float(np.ptp(finite)) or 1.0
    return float(min(finite.min(), 0) - 0.15 * reach), float(max(finite.max(), 0) + 0.2 * reach)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Limits by the dots, zero among them: a very long error bar is cut at the frame."""
    finite = np.append(values[np.isfinite(values)], 0.0)
    room = 0.1 * float(np.ptp(finite)) or 0.1
    return float(finite.min() - room), float(finite.max() + 1.3 * room)


def _notable(table: pd.DataFrame, x: np.ndarray, y: np.ndarray, most: int = 7) -> tuple[tuple[float, float, str], ...]:
    """The heads farthest from the crowd, leaving out those whose names would overlap."""
    kept = np.isfinite(x) & np.isfinite(y)
    if not kept.any():
        return ()
    spread = [max(float(np.ptp(values[kept])), 1e-9) for values in (x, y)]
    points = np.column_stack([x / spread[0], y / spread[1]])
    far = np.where(kept, np.hypot(*(points - np.median(points[kept], axis=0)).T), -1)
    chosen: list[int] = []
    for place in np.argsort(-far):
        apart = all(
            abs(points[place, 0] - points[one, 0]) > 0.16 or abs(points[place, 1] - points[one, 1]) > 0.06
            for one in chosen
        )
        if apart and kept[place]:
            chosen.append(int(place))
        if len(chosen) == most:
            break
    return tuple((float(x[one]), float(y[one]), str(table["name"].iloc[one])) for one in chosen)
