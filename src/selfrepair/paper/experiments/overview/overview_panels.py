"""Panels of the overview: direct against total effects, as in the paper and as measured; idealised ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from selfrepair.pictures.picture import FAINT, Marks, Panel, Rule
from selfrepair.report.panels import effect_panel, head_names, notable
from selfrepair.results.runs import Run


def effect_panels(run: Run, label: str, name: str, shade: np.ndarray) -> list[Panel]:
    """TE of every head against DE and against DE - DE', [2 panels]."""
    panels = []
    for column, title, across in (
        ("direct_effect", "as in the paper: against DE", "mean direct effect, DE (logit)"),
        ("lost_direct_effect", "against what was lost: DE − DE′", "mean lost direct effect, DE − DE′ (logit)"),
    ):
        panel = effect_panel(run, label, column, (f"{name}{title}", across), shade)
        (marks,) = panel.marks
        panels.append(replace(panel, notes=notable(head_names(run), marks.x, marks.y)))
    return panels


def idealised_panels(table: pd.DataFrame, name: str, shade: np.ndarray) -> list[Panel]:
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
