"""Chosen heads with their own output added at several scales, and controls: the paper's Figures 9 and 19."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Head
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.self_gain.chosen_heads import ScaleStudy
from selfrepair.paper.experiments.self_gain.scan_heads import KINDS, OWN, SECTION, scale_text
from selfrepair.paper.numbers.document_halves import ON_SECOND, SECOND
from selfrepair.paper.numbers.over_documents import Array, Number, Sums, join_tallies, quotient, slope_of, whiskers
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, scatter, symmetric


def repression(study: ScaleStudy, why: dict[Head, str] | None = None) -> Exhibit:
    """Clean against new direct effect with the own output added, scale by scale (Figures 9 and 19)."""
    panels, numbers = [], []
    for head in study.heads:
        part = study.points[study.points["head"] == str(head)]
        limits = symmetric([part[["x", "y"]].to_numpy()])
        for scale in study.scales:
            points = part[part["scale"] == scale]
            slope, apart = _slopes(study, head, scale)
            numbers += [slope, apart]
            ends = np.array(limits)
            tally = study.tallies[head, OWN, scale]
            middle = (tally.total("y") - slope.value * tally.total("x")) / max(tally.tokens, 1)
            line = Marks(ends, slope.value * ends + middle, "line", f"slope {slope.value:.2f}", PALETTE[1])
            title = f"{head}, own output × {scale:g}" + (f": {why[head]}" if why and scale == study.scales[0] else "")
            panels.append(
                Panel(
                    title,
                    "clean direct effect (logit)",
                    "new direct effect (logit)",
                    (*scatter(points["x"].to_numpy(), points["y"].to_numpy()), line),
                    (Rule(1, label="y = x"),),
                    limits,
                    limits,
                )
            )
    caption = (
        "A head's own output is added to its input at one position, and the head's direct effect there is measured "
        f"again, {scale_text(study.own_scale)}. Below the dashed line (right of zero) it has become smaller. Heads are "
        "chosen from the half whose direct effect varies most. One represses itself if its slope is below 1 and below "
        "that of a random direction, both beyond their intervals; it reinforces itself if both are above. They are "
        "chosen on one half of the documents; claims are judged on the other. "
        f"{study.about}."
    )
    table = study.points
    return Exhibit(
        "figure-09-self-repression",
        "Figures 9, 19",
        SECTION,
        "Heads with their own output added to their input",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=len(study.scales)),
    )


def _slopes(study: ScaleStudy, head: Head, scale: float) -> tuple[Number, Number]:
    """The slope over all documents, and over those not used to choose the head."""
    tally, name = study.tallies[head, OWN, scale], f"{head}: slope, {OWN} x {scale:g}"
    return tally.slope("x", "y", name), tally.in_half(SECOND).slope("x", "y", name + ON_SECOND)


def _over_scales(study: ScaleStudy, title: str, y_label: str, marks: Sequence[Marks]) -> Panel:
    """Lines over the scale of what is added, with a rule at 1."""
    rule = (Rule(0, 1.0, colour=FAINT),)
    return Panel(title, "scale of what is added", y_label, tuple(marks), rule, x_ticks=study.scales)


def _control_row(slope: Number, ratio: Number) -> dict[str, object]:
    """One scale's columns in the table: the slope with its interval, and the final scale over the clean one."""
    return {
        "slope": slope.value,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "final_scale_over_clean": ratio.value,
    }


def slopes_beside_controls(study: ScaleStudy) -> Exhibit:
    """Slopes over scale for the own output and the controls, and what the final scale does (not in the paper)."""
    panels, rows, numbers = [], [], []
    for head in study.heads:
        marks, scales_moved = [], []
        for index, kind in enumerate(KINDS):
            tallies = [study.tallies[head, kind, scale] for scale in study.scales]
            slopes = [
                t.slope("x", "y", f"{head}: slope, {kind} x {s:g}") for t, s in zip(tallies, study.scales, strict=True)
            ]
            moved = [
                t.mean("ratio", name=f"{head}: final scale / clean, {kind} x {s:g}")
                for t, s in zip(tallies, study.scales, strict=True)
            ]
            numbers += [*slopes, *moved]
            marks.append(_line(study.scales, slopes, kind, PALETTE[index]))
            scales_moved.append(_line(study.scales, moved, kind, PALETTE[index]))
            rows += [
                {"head": str(head), "added": kind, "scale": scale} | _control_row(slope, ratio)
                for scale, slope, ratio in zip(study.scales, slopes, moved, strict=True)
            ]
        numbers += _in_proportion(study, head)
        panels += [
            _over_scales(study, f"{head}: slope of new on clean direct effect", "slope", marks),
            _over_scales(study, f"{head}: final norm's scale", "σ′ / σ", scales_moved),
        ]
    caption = (
        "The controls that the authors ran and did not report: another head's output, and a random "
        "direction, of the same "
        "norm in the default recipe. Only the own output's effect beyond theirs is a response of the head to "
        f"itself. Right: how much the added vector moves the final norm's scale. {study.about}. "
        "Bands: 95% intervals over documents."
    )
    return Exhibit(
        "figure-19-controls",
        "Figure 19, controls",
        SECTION,
        "The head's own output beside controls",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def _in_proportion(study: ScaleStudy, head: Head) -> list[Number]:
    """Whether the slope falls with the scale in proportion, and below both controls (Appendix F)."""
    together = join_tallies({f"{kind} {s:g}": study.tallies[head, kind, s] for kind in KINDS for s in study.scales})
    least, most = min(study.scales), max(study.scales)
    middle = sorted(study.scales)[len(study.scales) // 2]

    def slope(sums: Sums, kind: str, scale: float) -> Array:
        return slope_of(sums, "x", "y", f"{kind} {scale:g}")

    def fall(sums: Sums) -> Array:
        return quotient(least * (1 - slope(sums, OWN, most)), most * (1 - slope(sums, OWN, least)))

    def beyond(sums: Sums) -> Array:
        controls = [slope(sums, kind, middle) for kind in KINDS if kind != OWN]
        return np.asarray(slope(sums, OWN, middle) - np.minimum.reduce(controls))

    name = f"{head}: fall of the slope below 1 per unit of scale, x {most:g} over x {least:g}"
    lower = f"{head}: slope less the lower control's, {OWN} x {middle:g}"
    apart = together.in_half(SECOND)
    return [
        together.number(name, fall),
        together.number(lower, beyond),
        apart.number(name + ON_SECOND, fall),
        apart.number(lower + ON_SECOND, beyond),
    ]


def _line(scales: Sequence[float], numbers: Sequence[Number], label: str, colour: str) -> Marks:
    values = np.array([number.value for number in numbers])
    error = whiskers(numbers)
    return Marks(np.array(scales), values, "line", label, colour, y_error=error)
