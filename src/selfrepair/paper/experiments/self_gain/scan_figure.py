"""Self-gain of every head over depth, the figure of a scan and its numbers (not in the paper)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Head
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.self_gain.scan_heads import OWN, RANDOM, SECTION, Scan, scale_text
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.pictures.picture import FAINT, Marks, Panel, Picture, Rule


def self_gain_by_depth(scan: Scan) -> Exhibit:
    """Self-gain of every head over depth, beside that of a random direction of the same norm (not in the paper)."""
    table = pd.DataFrame([_row(scan, head) for head in sorted({head for head, _ in scan.tallies})])
    slope = f"slope, {OWN}"
    panels = [
        _depth_panel(
            f"slope of new on clean DE, own output × {scan.scale:g}",
            table,
            (slope, f"{slope}, low", f"{slope}, high"),
            Rule(0, 1.0, "no response", FAINT),
            "slope",
            scan.shape,
        )
    ]
    if RANDOM in scan.kinds:
        panels.append(
            _depth_panel(
                "the same less that of a random direction",
                table,
                ("excess", "excess_low", "excess_high"),
                Rule(0, 0.0, "as a random direction", FAINT),
                "difference of slopes",
                scan.shape,
            )
        )
    numbers = _scan_numbers(scan)
    caption = (
        "Every head's own output added to its own input at one position at a time; slope of its new "
        "direct effect on its "
        f"clean one, {scale_text(scan.own_scale)}. Below 1 a head represses itself; whether it responds "
        "to itself shows beside a "
        f"random direction of the same norm (right). {scan.about}."
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


def _row(scan: Scan, head: Head) -> dict[str, object]:
    """A head's slopes and gains, and the excess over a random direction if one was added."""
    row: dict[str, object] = {"name": str(head), "layer": head.layer, "head": head.head}
    for kind in scan.kinds:
        slope = scan.slope(head, kind)
        gain = scan.tallies[head, kind].ratio("change.write", "write.write", name="gain")
        row |= {f"slope, {kind}": slope.value, f"slope, {kind}, low": slope.low, f"slope, {kind}, high": slope.high}
        row[f"gain, {kind}"] = gain.value
    if RANDOM in scan.kinds:
        excess = scan.excess(head)
        row |= {"excess": excess.value, "excess_low": excess.low, "excess_high": excess.high}
    return row


def _depth_panel(
    title: str, table: pd.DataFrame, columns: tuple[str, str, str], neutral: Rule, y_title: str, shape: tuple[int, int]
) -> Panel:
    """One number of all heads over depth, heads of a layer side by side.

    Args:
        title: the panel's title.
        table: a row per head.
        columns: the number, its interval's lower and its upper end.
        neutral: the horizontal line of no effect.
        y_title: the number's name.
        shape: layers, and heads of the widest layer.
    """
    layers, most = shape
    values, low, high = (table[column].to_numpy() for column in columns)
    beside = (np.linspace(-0.28, 0.28, most) if most > 1 else np.zeros(1))[table["head"]]
    marks = Marks(
        ((table["layer"] + beside) / layers).to_numpy(),
        values,
        names=tuple(table["name"]),
        y_error=np.nan_to_num(np.stack([values - low, high - values])),
        size=4.2,
        label="a head, 95% interval",
    )
    finite = values[np.isfinite(values)]
    least, largest = (finite.min(), finite.max()) if finite.size else (0, 1)
    room = 0.25 * max(largest - least, 0.05)
    ends = min(least, neutral.at) - room, max(largest, neutral.at) + room
    return Panel(title, f"relative depth (layer / {layers})", y_title, (marks,), (neutral,), y_range=ends)


def _scan_numbers(scan: Scan) -> tuple[Number, ...]:
    own = "share of heads whose slope is {} 1 beyond its interval"
    numbers = [scan.share_beyond(own.format("below"), 1, -1), scan.share_beyond(own.format("above"), 1, 1)]
    if RANDOM in scan.kinds:
        beyond = "share of heads that {} themselves beyond a random direction"
        numbers.append(scan.share_beyond(beyond.format("repress"), 0, -1, RANDOM))
        numbers.append(scan.share_beyond(beyond.format("reinforce"), 0, 1, RANDOM))
    return tuple(numbers)
