"""Edges from several senders to every component behind them: what each receiver's write changes by, and how directly.

Each sender is ablated by itself, and one pass measures its direct edges to all receivers
(`selfrepair.questions.paths.direct_edges`). Edges are of a receiver's whole input: queries, keys and values of a head
are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.progress import progress
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.paths.direct_edges import DirectEdges, direct_edges
from selfrepair.questions.question import Question

WHOLE_INPUT = "all"
PARTS = ("total", "direct", "mediated")


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """Edges of K senders.

    Attributes:
        effects: ledgers with each sender ablated by itself, one row each.
        edges: of each sender, in the same order.
        sampling: what intervals are over.
    """

    effects: PromptEffects
    edges: tuple[DirectEdges, ...]
    sampling: Sampling

    @property
    def senders(self) -> list[str]:
        """Their names."""
        return self.effects.names

    @property
    def components(self) -> Components:
        """All components of the model."""
        return self.edges[0].components

    @property
    def residual(self) -> float:
        """The largest total that the ledger of the same ablation has otherwise, in logits: rounding."""
        rows = [self.components.lines(self.effects, row) for row in range(len(self.edges))]
        apart = [np.abs(row - found.lines).max(initial=0) for row, found in zip(rows, self.edges, strict=True)]
        return float(max(self.effects.residual, *apart))

    def table(self) -> pd.DataFrame:
        """One row per edge, by sender and then by the size of its total; means over prompts, in logits.

        Columns: `source`, `target`, `via` (`all`: the target's whole input), and `total` (the change of what the target
        writes), `direct` (its part that comes straight from the source) and `mediated` (by way of others), each with
        `_se`, `_low` and `_high`.
        """
        tables = [self._of(found) for found in self.edges]
        return pd.concat(tables, ignore_index=True)

    def _of(self, found: DirectEdges) -> pd.DataFrame:
        receivers = found.components.downstream(found.senders)
        columns = [found.components.index[site] for site in receivers]
        table: dict[str, object] = {
            "source": [found.senders.name] * len(receivers),
            "target": [str(site) for site in receivers],
            "via": [WHOLE_INPUT] * len(receivers),
        }
        for name, values in zip(PARTS, (found.lines, found.direct, found.mediated), strict=True):
            mean = self.sampling.mean(values[:, columns].T)
            table |= {name: mean.value, f"{name}_se": mean.standard_error}
            table |= {f"{name}_low": mean.low, f"{name}_high": mean.high}
        return pd.DataFrame(table).sort_values("total", key=np.abs, ascending=False, ignore_index=True, kind="stable")

    def dataset(self) -> xr.Dataset:
        """Every edge on every prompt: dimensions source, target, prompt; logits, NaN where there is no edge."""
        components, prompts = self.components, self.effects.prompts
        edge = np.zeros((len(self.edges), len(components.sites), 1), bool)
        for row, found in enumerate(self.edges):
            edge[row, [components.index[site] for site in components.downstream(found.senders)]] = True
        parts = ("lines", "direct", "mediated")
        values = {
            name: np.stack([getattr(found, part).T for found in self.edges])
            for name, part in zip(PARTS, parts, strict=True)
        }
        return xr.Dataset(
            {
                name: (("source", "target", "prompt"), np.where(edge, value, np.nan), {"units": "logit"})
                for name, value in values.items()
            },
            coords={
                "source": self.senders,
                "target": [str(site) for site in components.sites],
                "prompt": list(prompts.ids),
                "group": ("prompt", list(prompts.groups)),
            },
            attrs={"operator": self.effects.operator, "residual": self.residual},
        )


def edge_graph(question: Question, senders: Iterable[Site]) -> EdgeGraph:
    """Edges from each of some heads and MLPs to every component behind it: four passes over the prompts per sender.

    Args:
        question: model, prompts and settings; its metric has to be the logit difference.
        senders: heads and whole MLPs, each ablated by itself.

    Raises:
        SelfRepairError: no senders, neurons among them, or another metric.
    """
    settings = question.settings
    if settings.metric != "logit-diff":
        raise SelfRepairError(
            f"Edges are measured of the logit difference, not of {settings.metric}.", "Ask with metric='logit-diff'."
        )
    runs = [Intervention((site,)) for site in dict.fromkeys(senders)]
    if not runs:
        raise SelfRepairError("No sender is named.", "Name heads or MLPs, as L9H6 or L9.mlp.")
    found = []
    with question.forwards.used(), progress("Following edges", len(runs), question.progress, "senders") as meter:
        for run in runs:  # first, because this refuses senders that cannot be measured
            options = {"donors": settings.donors, "seed": settings.seed}
            found.append(direct_edges(question.model, question.prompts, run, settings.ablation, **options))
            meter(1)
    return EdgeGraph(question.measure(runs), tuple(found), question.sampling)


def strongest(question: Question, number: int) -> list[Site]:
    """The heads with the largest clean direct effects, whatever their signs, largest first.

    Args:
        question: model and prompts.
        number: how many.
    """
    components = question.components
    effects = question.measure([], "Measuring direct effects")
    sizes = np.abs(question.sampling.mean(components.direct_effects(effects).T).value)
    heads = [site for site in components.sites if site.port.kind == "heads"]
    return sorted(heads, key=lambda site: -sizes[components.index[site]])[:number]
