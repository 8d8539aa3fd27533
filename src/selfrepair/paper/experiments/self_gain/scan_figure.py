"""Self-gain of every head over depth, the figure of a scan and its numbers (not in the paper)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.self_gain.scan_heads import OWN, RANDOM, SECTION, Scan, said_scale
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.pictures.picture import FAINT, Marks, Panel, Picture, Rule


def all_heads(found: Scan) -> Exhibit:
    """Self-gain of every head over depth, beside what a random direction of the same norm does (not in the paper)."""
    layers, most = found.shape
    heads = sorted({head for head, _ in found.tallies})
    rows = []
    for head in heads:
        row: dict[str, object] = {"name": str(head), "layer": head.layer, "head": head.head}
        for kind in found.kinds:
            slope = found.slope(head, kind)
            gain = found.tallies[head, kind].ratio("change.write", "write.write", name="gain")
            row |= {f"slope, {kind}": slope.value, f"slope, {kind}, low": slope.low, f"slope, {kind}, high": slope.high}
            row[f"gain, {kind}"] = gain.value
        if RANDOM in found.kinds:
            excess = found.excess(head)
            row |= {"excess": excess.value, "excess_low": excess.low, "excess_high": excess.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    depth = (table["layer"] + (np.linspace(-0.28, 0.28, most) if most > 1 else np.zeros(1))[table["head"]]) / layers
    x, panels = depth.to_numpy(), []
    for title, column, ends in (
        (
            f"slope of new on clean DE, own output × {found.scale:g}",
            f"slope, {OWN}",
            (f"slope, {OWN}, low", f"slope, {OWN}, high"),
        ),
        ("the same less that of a random direction", "excess", ("excess_low", "excess_high")),
    ):
        if column not in table:
            continue
        values = table[column].to_numpy()
        error = np.nan_to_num(np.stack([values - table[ends[0]], table[ends[1]] - values]))
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
        room = 0.25 * max(high - low, 0.05)
        neutral = 1.0 if "slope" in column else 0.0
        marks = Marks(x, values, names=tuple(table["name"]), y_error=error, size=4.2, label="a head, 95% interval")
        label = "no response" if neutral else "as a random direction"
        panels.append(
            Panel(
                title,
                f"relative depth (layer / {layers})",
                "slope" if neutral else "difference of slopes",
                (marks,),
                (Rule(0, neutral, label, FAINT),),
                y_range=(min(low, neutral) - room, max(high, neutral) + room),
            )
        )
    numbers = _scan_numbers(found)
    caption = (
        "Every head's own output added to its own input at one position at a time; slope of its new "
        "direct effect on its "
        f"clean one, {said_scale(found.own_scale)}. Below 1 a head represses itself; whether it responds "
        "to itself shows beside a "
        f"random direction of the same norm (right). {found.about}."
    )
    return Exhibit(
        "section-5-3-self-gain",
        "Section 5.3",
        SECTION,
        "Self-gain of every head",
        caption,
        table,
        numbers,
        Picture(tuple(panels), columns=2),
    )


def _scan_numbers(found: Scan) -> tuple[Number, ...]:
    own = "share of heads whose slope is {} 1 beyond its interval"
    numbers = [found.share_beyond(own.format("below"), 1, -1), found.share_beyond(own.format("above"), 1, 1)]
    if RANDOM in found.kinds:
        beyond = "share of heads that {} themselves beyond a random direction"
        numbers.append(found.share_beyond(beyond.format("repress"), 0, -1, RANDOM))
        numbers.append(found.share_beyond(beyond.format("reinforce"), 0, 1, RANDOM))
    return tuple(numbers)
