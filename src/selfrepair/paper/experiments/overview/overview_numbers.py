"""How much heads are repaired, and what lies between no repair and full repair, with intervals over documents."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.paper.experiments.overview.runs_beside import heads_of
from selfrepair.paper.numbers.across_heads import HeadSums, share_of
from selfrepair.paper.numbers.over_documents import REPLICATES, Array, Number, Tally, tally_of
from selfrepair.paper.pictures.exhibit_captions import last_quarter, rows_of
from selfrepair.results.runs import Run
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.intervals import interval

SHOWN = "share of heads, from those shown to those not shown otherwise"
NEAR = 0.1  # of the direct effect: an ablated direct effect up to that is near zero
_COLUMNS = ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair")


def repair_numbers(run: Run, label: str) -> tuple[Number, ...]:
    """How much heads are repaired, over all layers and the last quarter of them."""
    rows = rows_of(run, label)
    late = last_quarter(run.heads.sizes["layer"])
    numbers = []
    for where, chosen in (("all layers", rows), ("last quarter of layers", rows[rows["layer"] >= late])):
        tally = _tally(chosen)
        numbers += [
            tally.ratio("self_repair", "lost", name=f"repaired fraction, {where}"),
            tally.mean("self_repair", "logit", f"self-repair, {where}"),
            tally.ratio("ablated_direct_effect", "direct_effect", name=f"sum DE' / sum DE, {where}"),
        ]
    by_head = HeadSums.of(rows, {"self_repair": rows["self_repair"].to_numpy(np.float64)})
    for where, start in (("all layers", 0), ("last quarter of layers", late)):
        heads = by_head.from_layer(start)
        numbers.append(heads.share_above(f"share of heads with SR > 0, {where}", "self_repair"))
        numbers.append(heads.share_shown(f"{SHOWN}, SR > 0, {where}", lambda sums: [sums["self_repair"]]))
    return tuple(numbers)


def between_numbers(run: Run, label: str) -> tuple[Number, ...]:
    """Heads between the no-repair line and the x axis, by DE as in the paper and by what was lost.

    Values are over all tokens, intervals and the ratios by layer from the run's uniform sample of them.
    """
    table, rows = heads_of(run, label), rows_of(run, label)
    by_head = HeadSums.of(rows, _columns(rows))
    numbers = []
    for how, x in (("DE", "direct_effect"), ("DE - DE'", "lost")):
        known = table["lost_direct_effect" if x == "lost" else x].to_numpy()
        share = float(_between(known, table["total_effect"].to_numpy()))
        numbers.append(
            by_head.share_shown(
                f"{SHOWN}, between y = -x and the axis, x = {how}",
                lambda sums, x=x: [-sums["total_effect"], sums["total_effect"] + sums[x]],  # type: ignore[misc]
                among=by_head.sums[x].sum(0) > 0,
                value=share,
            )
        )
        numbers.append(
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
        *numbers,
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

    Which heads have one is decided on the sample itself: only they count in every resampling.
    """
    effect = by_head.sums["direct_effect"]
    weights = document_weights(len(effect), REPLICATES)
    filled, effective = np.count_nonzero(by_head.sums["count"], axis=0), effective_documents(by_head.sums["count"])
    has_effect = interval(effect.sum(0), bootstrap_all(effect, weights), filled, effective).low > 0
    return by_head.number(
        "share of heads with a direct effect whose DE' is within a tenth of it",
        lambda sums: share_of(
            np.abs(sums["ablated_direct_effect"]) <= NEAR * np.abs(sums["direct_effect"]),
            np.broadcast_to(has_effect, sums["direct_effect"].shape),
        ),
    )


def _ablated_by_layer(rows: pd.DataFrame) -> list[Number]:
    """`sum DE' / sum DE` of every layer whose summed direct effect is above zero beyond its interval."""
    numbers = []
    for layer, part in rows.groupby("layer"):
        tally = _tally(part)
        if tally.mean("direct_effect").low > 0:
            name = f"sum DE' / sum DE by layer, layer {layer}"
            numbers.append(tally.ratio("ablated_direct_effect", "direct_effect", name=name))
    return numbers


def _tally(rows: pd.DataFrame) -> Tally:
    return tally_of(rows["document"].cat.codes.to_numpy(), _columns(rows))


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    columns = {name: rows[name].to_numpy(np.float64) for name in _COLUMNS}
    columns["lost"] = columns["direct_effect"] - columns["ablated_direct_effect"]
    return columns
