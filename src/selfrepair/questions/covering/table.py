"""The table of who covers: lines, motifs, freeze tests beside controls, and effects alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.site_names import site_kind
from selfrepair.ablation.sites import Site
from selfrepair.questions.covering.freeze import all_frozen, covered, freeze_tests, rank_p
from selfrepair.questions.covering.motifs import MOTIFS, motif_labels, motifs
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate


@dataclass(frozen=True, eq=False)
class Tested:
    """Freeze tests of some components in an ablated run, beside those of controls.

    Attributes:
        effects: ledgers of the base run and of `second_runs`.
        base: the ablated run in question.
        lines: change in each component's direct effect, [prompt, component].
        sign: +1 where writing more repairs.
        sampling: of the prompts.
        components: of the model.
        tested: which were frozen.
        controls: which were frozen for comparison.
    """

    effects: PromptEffects
    base: Intervention
    lines: Array
    sign: int
    sampling: Sampling
    components: Components
    tested: tuple[Site, ...]
    controls: tuple[Site, ...]

    def recovered(self, sites: Sequence[Site]) -> Array:
        """What freezing some sites together takes away from the repair, [prompt]."""
        (test,) = freeze_tests(self.base, [sites])
        return self.sign * covered(self.effects, self.base, test)

    @property
    def whole(self) -> Array:
        """The whole repair by components, [prompt]."""
        return self.sign * covered(self.effects, self.base, all_frozen(self.base, self.components))

    @cached_property
    def by_controls(self) -> dict[str, list[float]]:
        """Mean repair that each control's freezing takes away, by kind of component."""
        found: dict[str, list[float]] = {}
        for site in self.controls:
            found.setdefault(site.port.kind, []).append(float(self.sampling.mean(self.recovered([site])).value))
        return found

    def total_effect_of(self, name: str) -> Array:
        """Total effect of a run, [prompt]."""
        total: Array = self.effects.total_effect[self.effects.row(name)]
        return total


def second_runs(
    base: Intervention, components: Components, tested: Sequence[Site], controls: Sequence[Site]
) -> list[Intervention]:
    """The runs behind the table: freeze tests of candidates and controls; candidates ablated alone, and besides."""
    tests = freeze_tests(base, [[site] for site in (*tested, *controls)])
    alone = [Intervention((site,)) for site in tested]
    return [all_frozen(base, components), *tests, *alone, *(besides(base, site) for site in tested)]


def besides(base: Intervention, site: Site) -> Intervention:
    """The base run with one more site ablated."""
    return Intervention((*base.replaced, site), name=f"{base.name} and {site}")


def covering_table(tested: Tested) -> pd.DataFrame:
    """One row per component that can respond, those that repair most first.

    Columns: `component`, `kind`; `line` (positive: repairs) with `line_low`, `line_high`, `line_se`, one-sided `p` and
    `q` over the rows; `clean_direct_effect` and `ablated_direct_effect`, as they are; `label` and the `motifs`; and of
    what was tested `freeze` and `share` (of the whole repair by components) with their ends, `control_low` and
    `control_high` (95% of the controls of its kind), `control_p`, `alone` (the readout's change if it alone is ablated)
    and `besides` (if it is ablated besides the sites in question).
    """
    sampling, components, sign = tested.sampling, tested.components, tested.sign
    downstream = components.downstream(tested.base)
    index = [components.index[site] for site in downstream]
    x, clean = tested.lines[:, index], components.direct_effects(tested.effects)[:, index]
    line, p = sampling.mean(sign * x.T), sampling.p_value(sign * x.T)
    table = pd.DataFrame(
        {
            "component": np.array([str(site) for site in downstream], object),  # also of none
            "kind": [site_kind(site) for site in downstream],
            "line": line.value,
            "line_low": line.low,
            "line_high": line.high,
            "line_se": line.standard_error,
            "p": p,
            "q": q_values(p),
            "clean_direct_effect": sampling.mean(clean.T).value,
            "ablated_direct_effect": sampling.mean((clean + x).T).value,
            "label": motif_labels(x, clean, sign, sampling),
            **{name: sampling.mean(part.T).value for name, part in zip(MOTIFS, motifs(x, clean, sign), strict=True)},
        }
    )
    with_tests = table.merge(_tests(tested), how="left", on="component")
    return with_tests.sort_values("line", ascending=False, ignore_index=True, kind="stable")


_TEST_COLUMNS = (
    *("component", "freeze", "freeze_low", "freeze_high", "share", "share_low", "share_high"),
    *("control_low", "control_high", "control_p", "alone", "besides"),
)


def _tests(tested: Tested) -> pd.DataFrame:
    """What was found of each candidate by freezing and ablating it."""
    sampling, base = tested.sampling, tested.total_effect_of(tested.base.name)
    rows = []
    for site in tested.tested:
        recovered = tested.recovered([site])
        freeze, share = sampling.mean(recovered), sampling.ratio(recovered, tested.whole)
        alone = sampling.mean(tested.total_effect_of(str(site)))
        more = sampling.mean(tested.total_effect_of(besides(tested.base, site).name) - base)
        row = (str(site), *_ends(freeze), *_ends(share), *_band(tested, site, float(freeze.value)))
        rows.append((*row, float(alone.value), float(more.value)))
    return pd.DataFrame(rows, columns=list(_TEST_COLUMNS))


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return float(estimate.value), float(estimate.low), float(estimate.high)


def _band(tested: Tested, site: Site, found: float) -> tuple[float, float, float]:
    """Where 95% of the controls of a site's kind lie, and its rank among them; NaN without controls."""
    among = tested.by_controls.get(site.port.kind, [])
    if not among:
        return np.nan, np.nan, np.nan
    low, high = np.quantile(among, [0.025, 0.975])
    return float(low), float(high), rank_p(found, among)
