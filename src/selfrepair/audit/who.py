"""Who covers for some ablated sites: lines, motifs, and freeze tests beside matched controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.audit.components import Components
from selfrepair.audit.freeze import Likeness, all_frozen, controls, covered, freeze_tests, rank_p
from selfrepair.audit.motifs import MOTIFS, labels, motifs
from selfrepair.audit.prompt_effects import PromptEffects, joined
from selfrepair.audit.sampling import Sampling
from selfrepair.audit.settings import AuditSettings
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Array, Estimate

BY_RESPONSE = 4  # candidates for freeze tests that are chosen by the size of their response alone


@dataclass(frozen=True, eq=False)
class Covering:
    """Who covers for some sites, on some prompts.

    Attributes:
        effects: the ledgers of all runs that were made.
        base: the ablated run in question.
        given: what is ablated besides, in both runs that are compared; None for nothing.
        components: all heads and MLPs, the order of columns in `lines`.
        lines: change in each one's direct effect, [prompt, component].
        table: one row per component that can respond, those that cover most first; see `columns`.
        sampling: what intervals are over.
        sign: +1 where the ablated sites wrote for the answer, -1 where they wrote against it.
        tested: which components were frozen.
        controls: which were frozen for comparison.
    """

    effects: PromptEffects
    base: Intervention
    given: Intervention | None
    components: Components
    lines: Array
    table: pd.DataFrame
    sampling: Sampling
    sign: int
    tested: tuple[Site, ...]
    controls: tuple[Site, ...]

    def change(self, name: str) -> Array:
        """A quantity of the base run, [prompt]; less that of what is given."""
        values: Array = getattr(self.effects, name)
        row = values[self.effects.row(self.base.name)]
        change: Array = row if self.given is None else row - values[self.effects.row(self.given.name)]
        return change

    def total(self, name: str) -> Estimate:
        """The mean of a quantity of the base run over prompts."""
        return self.sampling.mean(self.change(name))

    @property
    def repaired_share(self) -> Estimate:
        """Self-repair over what the ablated sites wrote."""
        return self.sampling.ratio(self.change("self_repair"), self.change("lost"))

    def motif_sums(self) -> dict[str, Estimate]:
        """Of all components' lines together, in logits."""
        parts = motifs(self.lines, self.components.direct_effects(self.effects), self.sign)
        return {name: self.sampling.mean(part.sum(-1)) for name, part in zip(MOTIFS, parts, strict=True)}


def who(
    model: LanguageModel,
    prompts: Prompts,
    sites: Iterable[Site],
    given: Iterable[Site] = (),
    settings: AuditSettings | None = None,
    advance: Advance = ignore,
) -> Covering:
    """Who covers for `sites` when they are ablated together.

    Args:
        model: the model.
        prompts: the prompts, with their answers.
        sites: what is ablated.
        given: what is ablated besides, before and after: who covers for the sites where these are gone?
        settings: of the ablation and the tests.
        advance: told of ablated runs times prompts as they are done.

    Raises:
        SelfRepairError: no sites, or prompts without answers.
    """
    settings, components = settings or AuditSettings(), Components.of(model.anatomy)
    base, gone = _interventions(tuple(sites), tuple(given))
    first = settings.measure(model, prompts, [base, *([gone] if gone else [])], advance)
    lines = components.lines(first, 0) - (components.lines(first, 1) if gone else 0)
    lost = first.lost[0] - (first.lost[1] if gone else 0)
    sampling = Sampling.of(prompts)
    sign = -1 if float(sampling.mean(lost).value) < 0 else 1
    responses = settings.responses(model, prompts, base)
    downstream = components.downstream(base)
    tested = candidates(components, sampling.mean(sign * lines.T).value, responses, downstream, settings.top)
    likeness = Likeness(components, responses, np.abs(components.direct_effects(first)).mean(0))
    pool = [site for site in downstream if site not in tested]
    chosen = controls(likeness, tested, pool, settings.controls)
    tests = freeze_tests(base, [[site] for site in (*tested, *chosen)])
    second = settings.measure(model, prompts, [all_frozen(base, components), *tests], advance)
    effects = joined(first, second)
    table = _table(effects, base, lines, sign, sampling, components, downstream, tested, chosen)
    return Covering(effects, base, gone, components, lines, table, sampling, sign, tuple(tested), tuple(chosen))


def _interventions(sites: tuple[Site, ...], given: tuple[Site, ...]) -> tuple[Intervention, Intervention | None]:
    """The base run, and the one that it is compared with."""
    if not sites:
        raise SelfRepairError("Nothing is to be ablated.", "Name heads or MLPs, as L9H6 or L9.mlp.")
    if not given:
        return Intervention(sites), None
    gone = Intervention(given, name=f"given {'+'.join(map(str, given))}")
    return Intervention((*sites, *given), name=f"{'+'.join(map(str, sites))} {gone.name}"), gone


def candidates(
    components: Components, lines: Array, responses: Array, downstream: Sequence[Site], top: int
) -> list[Site]:
    """What to freeze: the components with the largest lines, and some with the largest responses beside them.

    Args:
        components: of the model.
        lines: mean lines, positive where they repair, [component].
        responses: sizes of responses, [component].
        downstream: what can respond at all.
        top: how many are chosen by their lines.
    """
    index = components.index
    by_line = sorted(downstream, key=lambda site: -lines[index[site]])[:top]
    chosen = [site for site in by_line if lines[index[site]] > 0]
    by_response = sorted(downstream, key=lambda site: -responses[index[site]])
    return chosen + [site for site in by_response if site not in chosen][:BY_RESPONSE]


def _table(
    effects: PromptEffects,
    base: Intervention,
    lines: Array,
    sign: int,
    sampling: Sampling,
    components: Components,
    downstream: Sequence[Site],
    tested: Sequence[Site],
    chosen: Sequence[Site],
) -> pd.DataFrame:
    """One row per component that can respond."""
    index = [components.index[site] for site in downstream]
    x, clean = lines[:, index], components.direct_effects(effects)[:, index]
    parts = motifs(x, clean, sign)
    line = sampling.mean(sign * x.T)
    table = pd.DataFrame(
        {
            "component": [str(site) for site in downstream],
            "kind": [type(site).__name__.lower() for site in downstream],
            "line": line.value,
            "line_low": line.low,
            "line_high": line.high,
            "line_se": line.standard_error,
            "p": sampling.p_value(sign * x.T),
            "clean_direct_effect": sampling.mean(clean.T).value,
            "ablated_direct_effect": sampling.mean((clean + x).T).value,
            "label": labels(x, clean, sign, sampling),
            **{name: sampling.mean(part.T).value for name, part in zip(MOTIFS, parts, strict=True)},
        }
    )
    table.insert(6, "q", q_values(table["p"].to_numpy()))
    frozen = _frozen(effects, base, sign, sampling, components, tested, chosen)
    return table.merge(frozen, how="left", on="component").sort_values("line", ascending=False, ignore_index=True)


def _frozen(
    effects: PromptEffects,
    base: Intervention,
    sign: int,
    sampling: Sampling,
    components: Components,
    tested: Sequence[Site],
    chosen: Sequence[Site],
) -> pd.DataFrame:
    """Freeze tests of the candidates beside those of the controls."""
    whole = sign * covered(effects, base, all_frozen(base, components))
    by_kind: dict[str, list[float]] = {}
    for site, test in zip(chosen, freeze_tests(base, [[site] for site in chosen]), strict=True):
        recovered = sign * covered(effects, base, test)
        by_kind.setdefault(site.port.kind, []).append(float(sampling.mean(recovered).value))
    rows = []
    for site, test in zip(tested, freeze_tests(base, [[site] for site in tested]), strict=True):
        recovered = sign * covered(effects, base, test)
        mean, share = sampling.mean(recovered), sampling.ratio(recovered, whole)
        by_controls = by_kind.get(site.port.kind, [])
        rows.append(
            {
                "component": str(site),
                "freeze": float(mean.value),
                "freeze_low": float(mean.low),
                "freeze_high": float(mean.high),
                "share": float(share.value),
                "share_low": float(share.low),
                "share_high": float(share.high),
                "control_p": rank_p(float(mean.value), by_controls) if by_controls else np.nan,
                "control_low": float(np.quantile(by_controls, 0.025)) if by_controls else np.nan,
                "control_high": float(np.quantile(by_controls, 0.975)) if by_controls else np.nan,
            }
        )
    columns = ["component", "freeze", "freeze_low", "freeze_high", "share", "share_low", "share_high"]
    return pd.DataFrame(rows, columns=[*columns, "control_p", "control_low", "control_high"])
