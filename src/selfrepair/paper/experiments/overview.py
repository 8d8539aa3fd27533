"""Does self-repair exist? The paper's Figures 1, 2 and 20 to 24, from one sweep over all heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.inputs.recipe import NextBatch
from selfrepair.paper.numbers.across_heads import HeadSums, share_of
from selfrepair.paper.numbers.over_documents import REPLICATES, Array, Number, Tally, tally_of
from selfrepair.paper.pictures.captions import about, last_quarter, rows_of
from selfrepair.paper.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule
from selfrepair.report.captions import fact, left_out, operator
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.intervals import interval

SECTION = "overview"
SHOWN = "share of heads, from those shown to those not shown otherwise"
NEAR = 0.1  # of the direct effect: an ablated direct effect up to that is near zero
_COLUMNS = ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair")


def read_beside(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Runs to be shown beside another: of other models, or of the same with another operator or text.

    Args:
        folders: finished results folders.

    Raises:
        SelfRepairError: no such folder, a run that is not complete, or one without the filter `all`.
    """
    from selfrepair.results.run_folder import load

    found = tuple(load(folder) for folder in folders)
    for folder, run in zip(folders, found, strict=True):
        if run.outcome["status"] != "complete":
            raise SelfRepairError(
                f"The run in {folder} is {run.outcome['status']}.", f"Go on with it first: selfrepair resume {folder}."
            )
        if "all" not in run.filters:
            raise SelfRepairError(
                f"The run in {folder} has no filter 'all', which Figures 2 and 20 to 24 show.",
                "Measure it with --filter all --filter top:0.02.",
            )
    return found


def repair_by_depth(runs: Sequence[Run], filter: str | None = None) -> Exhibit:
    """Self-repair of every head over relative depth, a panel for each run (Figure 1).

    Args:
        runs: of one or several models; numbers of all but the first carry the run's name.
        filter: which tokens; each run's top filter by default.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    panels = tuple(
        depth_panel(run, label, "self_repair", "self-repair (logit)", name)
        for run, label, name in zip(runs, labels, names(runs), strict=True)
    )
    caption = (
        "Mean self-repair of every head, TE − (DE′ − DE), against the head's relative depth; thin bars are 95% "
        "intervals over documents (a dot without one comes from too few), the line is the mean over a layer's heads. "
        "The frame goes by the dots: intervals longer than it are cut at its edge, and counted under the panel. "
        + about_all(runs, labels)
    )
    return Exhibit(
        "figure-01-self-repair-by-depth",
        "Figure 1",
        SECTION,
        "Self-repair of every head by depth",
        caption,
        _tables(runs, labels),
        _numbers(runs, labels, repair_numbers),
        Picture(panels, columns=min(3, len(panels))),
    )


def direct_against_total(runs: Sequence[Run], filter: str = "all") -> Exhibit:
    """Mean direct effect against mean change of the logit, with the no-repair line (Figures 2 and 20 to 22).

    The second panel of each run has the measured change in direct effect across, which the paper takes for the direct
    effect itself: a head that writes a constant lies above the line of the first panel without any repair.

    Args:
        runs: a row of panels for each.
        filter: which tokens.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    panels = [
        panel
        for run, label, name in zip(runs, labels, _prefixes(runs), strict=True)
        for panel in _effect_panels(run, label, name, _shades(run, runs))
    ]
    caption = (
        "Mean over tokens for every head; between the dashed line and the x axis a head is repaired. The paper draws "
        "the left panel and takes DE′ for zero; the right panel measures it. Bars are 95% intervals over documents, "
        "cut where they are longer than the frame. " + about_all(runs, labels)
    )
    return Exhibit(
        "figure-02-direct-against-total",
        "Figures 2, 20–22",
        SECTION,
        "Direct effect against what ablation does to the logit",
        caption,
        _tables(runs, labels),
        _numbers(runs, labels, _between_numbers),
        Picture(tuple(panels), columns=2, shade_label=_shade_label(runs)),
    )


def idealised(runs: Sequence[Run], filter: str = "all") -> Exhibit:
    """What Figure 2 would look like with perfect repair and with none (Figures 23 and 24), for these models' heads.

    Args:
        runs: a row of panels for each.
        filter: which tokens.
    """
    labels = [resolve_filter(run, filter) for run in runs]
    table = _tables(runs, labels)[["run", "model", "name", "layer", "head", "direct_effect"]].copy()
    table["perfect_repair"], table["no_repair"] = 0.0, -table["direct_effect"]
    panels = [
        panel
        for run, name, (_, part) in zip(runs, _prefixes(runs), table.groupby("run"), strict=True)
        for panel in _idealised_panels(part, name, _shades(run, runs))
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


def names(runs: Sequence[Run]) -> list[str]:
    """What runs are called in panels: the model; with the operator too where operators differ; numbered where these
    are alike."""
    several = len({fact(run, "operator") for run in runs}) > 1
    found = [fact(run, "model") + (f", {fact(run, 'operator')} ablation" if several else "") for run in runs]
    alike = len(set(found)) < len(found)
    return [f"{name}, run {place}" if alike else name for place, name in enumerate(found, 1)]


def about_all(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """Every run under its filter, for captions, and in what besides the model they differ.

    Args:
        runs: in the order of their panels.
        labels: the filter of each.
    """
    if len(runs) == 1:
        return about(runs[0], labels[0])
    said = " ".join(
        f"({place}) {about(run, label)}" for place, (run, label) in enumerate(zip(runs, labels, strict=True), 1)
    )
    kinds = {
        "the ablation operator": [_said_operator(run) for run in runs],
        "the filter": list(labels),
        "the positions counted": [left_out(run) for run in runs],
        "the text": [fact(run, "text") for run in runs],
    }
    unlike = [f"{kind} ({'; '.join(dict.fromkeys(found))})" for kind, found in kinds.items() if len(set(found)) > 1]
    if unlike:
        said += f" These runs are not alike in {', '.join(unlike)}: their panels differ by that too."
    return f"Runs, in the order of their panels: {said}"


def _said_operator(run: Run) -> str:
    return operator(run) + (" of the original recipe" if fact(run, "operator") == NextBatch(1).name else "")


def _prefixes(runs: Sequence[Run]) -> list[str]:
    """In front of panels' titles: the run's name, nothing where there is one run."""
    return [""] if len(runs) == 1 else [f"{name}: " for name in names(runs)]


def _shades(run: Run, runs: Sequence[Run]) -> np.ndarray:
    """[head], the layer; the relative depth where models of several depths share the colour scale."""
    layers, heads = run.heads.sizes["layer"], run.heads.sizes["head"]
    return np.repeat(np.arange(layers) / (1 if len(runs) == 1 else layers), heads)


def _shade_label(runs: Sequence[Run]) -> str:
    return "layer" if len(runs) == 1 else "relative depth (layer / layers)"


def _numbers(
    runs: Sequence[Run], labels: Sequence[str], of: Callable[[Run, str], tuple[Number, ...]]
) -> tuple[Number, ...]:
    """The first run's numbers, then those of the others under their names."""
    found = list(of(runs[0], labels[0]))
    for run, label, name in list(zip(runs, labels, _prefixes(runs), strict=True))[1:]:
        found += [replace(number, name=f"{name}{number.name}") for number in of(run, label)]
    return tuple(found)


def _effect_panels(run: Run, label: str, name: str, shade: np.ndarray) -> list[Panel]:
    """TE of every head against DE and against DE - DE', [2 panels]."""
    part = run.heads.sel(filter=label)
    total, heads = part["total_effect"].values.ravel(), _head_names(run)
    rules = (Rule(-1, label="no repair: y = −x"), Rule(0, label="full repair: y = 0", colour=FAINT))
    panels = []
    for column, title, across in (
        ("direct_effect", "as in the paper: against DE", "mean direct effect, DE (logit)"),
        (
            "lost_direct_effect",
            "against what was lost: DE − DE′",
            "mean lost direct effect, DE − DE′ (logit)",
        ),
    ):
        x = part[column].values.ravel()
        marks = Marks(
            x,
            total,
            label="a head",
            shade=shade,
            names=heads,
            x_error=_bars(part, column),
            y_error=_bars(part, "total_effect"),
        )
        panels.append(
            Panel(
                f"{name}{title}",
                across,
                "mean change of the logit, TE (logit)",
                (marks,),
                rules,
                x_range=_span(x),
                y_range=_span(total),
                notes=_notable(heads, x, total),
            )
        )
    return panels


def _idealised_panels(table: pd.DataFrame, name: str, shade: np.ndarray) -> list[Panel]:
    """Heads with perfect repair and with none, [2 panels]."""
    effect = table["direct_effect"].to_numpy()
    finite = np.abs(effect[np.isfinite(effect)])
    reach = 1.1 * (float(finite.max(initial=0.0)) or 1.0)
    return [
        Panel(
            f"{name}{title}",
            "mean direct effect, DE (logit)",
            "mean change of the logit (logit)",
            (Marks(effect, table[column].to_numpy(), names=tuple(table["name"]), shade=shade),),
            (Rule(-1, label="y = −x"), Rule(0, label="y = 0", colour=FAINT)),
            y_range=(-reach, reach),
        )
        for title, column in (("perfect self-repair", "perfect_repair"), ("no self-repair", "no_repair"))
    ]


def depth_panel(run: Run, label: str, name: str, y_label: str, called: str = "") -> Panel:
    """One number of every head over relative depth, with layer means; `called` instead of the model's name."""
    part = run.heads.sel(filter=label)
    values = part[name].values
    layers, heads = values.shape
    nudge = np.linspace(-0.28, 0.28, heads) if heads > 1 else np.zeros(1)
    depth = (np.arange(layers)[:, None] + nudge[None, :]) / layers
    measured = np.isfinite(values).any(1)
    means = np.array([np.nanmean(row) if some else np.nan for row, some in zip(values, measured, strict=True)])
    points = Marks(
        depth.ravel(),
        values.ravel(),
        label="a head, 95% interval",
        names=_head_names(run),
        y_error=_bars(part, name),
        size=4.2,
    )
    line = Marks(np.arange(layers)[measured] / layers, means[measured], "line", "mean of the layer's heads", PALETTE[1])
    return Panel(
        f"{called or fact(run, 'model')} ({label})",
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
    for where, start in (("all layers", 0), ("last quarter of layers", late)):
        heads = by_head.from_layer(start)
        found.append(heads.share_above(f"share of heads with SR > 0, {where}", "self_repair"))
        found.append(heads.share_shown(f"{SHOWN}, SR > 0, {where}", lambda sums: [sums["self_repair"]]))
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
        share = float(_between(known, table["total_effect"].to_numpy()))
        found.append(
            by_head.share_shown(
                f"{SHOWN}, between y = -x and the axis, x = {how}",
                lambda sums, x=x: [-sums["total_effect"], sums["total_effect"] + sums[x]],  # type: ignore[misc]
                among=by_head.sums[x].sum(0) > 0,
                value=share,
            )
        )
        found.append(
            by_head.number(
                f"share of helping heads between y = -x and the axis, x = {how}",
                lambda sums, x=x: _between(sums[x], sums["total_effect"]),  # type: ignore[misc]
                value=share,
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
        _near_zero(by_head),
        *_ablated_by_layer(rows),
    )


def _between(x: Array, total: Array) -> Array:
    """Share of the heads with `x` above zero whose total effect lies between -x and zero; x and total [..., head]."""
    return share_of((total > -x) & (total < 0), x > 0)


def _near_zero(by_head: HeadSums) -> Number:
    """Share of the heads with a direct effect whose ablated one is within a tenth of it.

    Which heads have one is settled by the sample as it is: only they count in every resampling.
    """
    effect = by_head.sums["direct_effect"]
    weights = document_weights(len(effect), REPLICATES)
    filled, effective = np.count_nonzero(by_head.sums["count"], axis=0), effective_documents(by_head.sums["count"])
    some = interval(effect.sum(0), bootstrap_all(effect, weights), filled, effective).low > 0
    return by_head.number(
        "share of heads with a direct effect whose DE' is within a tenth of it",
        lambda sums: share_of(
            np.abs(sums["ablated_direct_effect"]) <= NEAR * np.abs(sums["direct_effect"]),
            np.broadcast_to(some, sums["direct_effect"].shape),
        ),
    )


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


def _tables(runs: Sequence[Run], labels: Sequence[str]) -> pd.DataFrame:
    """Heads of all runs, with the run's number from 1."""
    tables = [_heads(run, label) for run, label in zip(runs, labels, strict=True)]
    for place, table in enumerate(tables, 1):
        table.insert(0, "run", place)
        table.insert(2, "operator", fact(runs[place - 1], "operator"))
    return pd.concat(tables, ignore_index=True)


def _head_names(run: Run) -> tuple[str, ...]:
    layers, heads = run.heads.sizes["layer"], run.heads.sizes["head"]
    return tuple(f"L{layer}H{head}" for layer in range(layers) for head in range(heads))


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


def _notable(heads: Sequence[str], x: np.ndarray, y: np.ndarray, most: int = 7) -> tuple[tuple[float, float, str], ...]:
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
    return tuple((float(x[one]), float(y[one]), heads[one]) for one in chosen)
