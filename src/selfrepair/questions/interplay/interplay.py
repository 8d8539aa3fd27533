"""Do these components act together? Interactions of pairs, Shapley values and knock-out curves in one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.interplay.curve_figure import curve_figure, curve_picture
from selfrepair.questions.interplay.interactions import interactions
from selfrepair.questions.interplay.joint_runs import JointRuns
from selfrepair.questions.interplay.knock_out import DRAWS, STEPS, has_direct_effects, knock_out_curve
from selfrepair.questions.interplay.shapley import MOST_PLAYERS, shapley
from selfrepair.questions.measuring.metrics import metric_named
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.question import Question

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 6  # sets up to which Shapley values and conditional orders are free or nearly so


@dataclass(frozen=True, eq=False)
class Interplay:
    """What some sets do together.

    Attributes:
        pairs: one row per pair, see `questions/interplay/interactions.py`.
        shapley: one row per set; None if it was not asked for.
        curves: a knock-out curve for each order, with its name in the column `order`.
        effects: ledgers of all runs.
        draws: random orders, whose mean is one curve.
        units: of the readout.
    """

    pairs: pd.DataFrame
    shapley: pd.DataFrame | None
    curves: pd.DataFrame
    effects: PromptEffects
    draws: int
    units: str

    def plot_curves(self, path: str | Path | None = None) -> Figure:
        """The knock-out curves as a figure.

        Args:
            path: also save it there, 200 dots per inch.

        Raises:
            SelfRepairError: matplotlib is missing, or the file cannot be written.
        """
        return curve_figure(curve_picture(self.curves, self.effects.operator, self.draws, self.units), path)


def interplay(
    question: Question,
    sets: Mapping[str, Sequence[Site]],
    orders: Sequence[str] | None = None,
    steps: int = STEPS,
    draws: int = DRAWS,
    values: bool | None = None,
) -> Interplay:
    """Interactions, Shapley values and knock-out curves of some sets.

    Args:
        question: model, prompts and settings.
        sets: what is ablated together, by name.
        orders: of knock-out curves, see `knock_out_curve`; by default those that the sets allow, `conditional` up to
            six sets.
        steps: how many sets a curve ablates at most.
        draws: random orders that are averaged.
        values: whether Shapley values are computed, which takes `2^n` runs; by default up to six sets.

    Raises:
        SelfRepairError: fewer than two sets, sets that share a site, or more than ten for Shapley values.
    """
    runs = JointRuns(question, sets)
    if values and len(sets) > MOST_PLAYERS:
        raise SelfRepairError(
            f"Shapley values of {len(sets)} sets were asked for.", f"Name 2 to {MOST_PLAYERS}: it takes 2^n runs."
        )
    pairs = interactions(runs)
    found = shapley(runs) if values or (values is None and len(sets) <= FEW) else None
    curves = {order: knock_out_curve(runs, order, steps, draws) for order in dict.fromkeys(orders or _orders(runs))}
    table = pd.concat([curve.assign(order=order) for order, curve in curves.items()], ignore_index=True)
    units = metric_named(question.settings.metric).units
    return Interplay(pairs, found, table, runs.effects, draws, units)


def _orders(runs: JointRuns) -> tuple[str, ...]:
    by_lines = ("direct effect", "line") if has_direct_effects(runs) else ()
    return ("own effect", *by_lines, *(("conditional",) if len(runs.names) <= FEW else ()), "random")
