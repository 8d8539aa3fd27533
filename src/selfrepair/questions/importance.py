"""Importance of single components, masked and unmasked: what ablating each does, and what it would do unrepaired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention, freezing
from selfrepair.ablation.sites import Attention, Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.covering.freeze import all_frozen
from selfrepair.questions.measuring.components import Components, lies_in
from selfrepair.questions.measuring.prompt_effects import Array, PromptEffects, joined
from selfrepair.questions.measuring.sampling import Sampling, smallest_detectable
from selfrepair.questions.question import Question
from selfrepair.statistics.discovery import q_values
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.labels import LabelRule, labels
from selfrepair.statistics.reaction import reaction_p_values

REPAIRERS = 3
ESTIMATES = (
    *("direct_effect", "lost", "total_effect", "self_repair", "masking", "norm_frozen", "mlps_frozen"),
    *("attention_frozen", "mixers_frozen", "all_frozen", "repairers_frozen", "given_repairers"),
    *("placebo_effect", "placebo_repair", "specific_repair"),
)


@dataclass(frozen=True, eq=False)
class ImportanceCard:
    """One row per component.

    Attributes:
        table: `component`, then each of `ESTIMATES` with `_low` and `_high`, `retention`, `repairers` (names of the
            three largest lines), `detectable` (the smallest total effect that these prompts could show, see
            `smallest_detectable`), `label` and the ranks `rank_masked` (by the size of the total effect) and
            `rank_unmasked` (by what the ablation took away).
        sampling: what intervals are over.
        effects: ledgers of all runs.
    """

    table: pd.DataFrame
    sampling: Sampling
    effects: PromptEffects


def importance_card(question: Question, sites: Iterable[Site]) -> ImportanceCard:
    """Each site's direct effect, its total effect, and what that would be with parts of the model held still.

    Total effects with the final norm's scale frozen (`norm_frozen`, the ledger's `TE` less its norm line), with all
    later MLPs, all later attention, all later mixers (where the model has any), or everything later frozen, with the
    site's own three largest repairers frozen, and `given_repairers`: its effect where these are ablated already.
    `masking` is the self-repair over what the ablation took away.

    Args:
        question: model, prompts and settings.
        sites: the components.

    Raises:
        SelfRepairError: no sites.
    """
    chosen = tuple(dict.fromkeys(sites))
    if not chosen:
        raise SelfRepairError("No component is named.", "Name heads or MLPs, as L9H6 or L9.mlp.")
    components, sampling = question.components, question.sampling
    first = question.measure([run for site in chosen for run in _first(site, components)])
    repairers = {site: _repairers(first, site, components, sampling) for site in chosen}
    second = question.measure(_second(repairers), "Freezing repairers")
    effects = joined(first, second)
    placebos = _placebos(question, chosen)
    return ImportanceCard(_table(effects, components, repairers, placebos, sampling), sampling, effects)


def _placebos(question: Question, sites: Sequence[Site]) -> dict[Site, tuple[Array, Array]]:
    """Total effect and self-repair of each site under a placebo, [prompt]; of those that have one."""
    chosen = [site for site in sites if site.port.kind != "stream"]
    if not chosen or question.placebo.base.name == "placebo":
        return {}
    effects = question.measure([Intervention((site,)) for site in chosen], "Placebos", question.placebo)
    return dict(zip(chosen, zip(effects.total_effect, effects.self_repair, strict=True), strict=True))


def _first(site: Site, components: Components) -> list[Intervention]:
    """A site ablated, with nothing, MLPs, attention, mixers and everything after it frozen."""
    alone, start = Intervention((site,)), site.port.layer
    mlps = [mlp for mlp in components.mlps if mlp.port.layer >= start and not lies_in(mlp, [site])]
    attention = [Attention(layer) for layer, number in enumerate(components.heads) if number and layer > start]
    mixers = [mixer for mixer in components.mixers if mixer.port.layer > start]
    return [
        alone,
        freezing(alone, mlps, f"{site} | MLPs frozen"),
        freezing(alone, attention, f"{site} | attention frozen"),
        *([freezing(alone, mixers, f"{site} | mixers frozen")] if components.mixers else []),
        all_frozen(alone, components),
    ]


def _repairers(effects: PromptEffects, site: Site, components: Components, sampling: Sampling) -> list[Site]:
    """The components with the largest lines that repair."""
    row = effects.row(str(site))
    downstream = components.downstream(effects.interventions[row])
    lines = components.lines(effects, row)[:, [components.index[one] for one in downstream]]
    sign = -1 if float(sampling.mean(effects.lost[row]).value) < 0 else 1
    means = sampling.mean(sign * lines.T).value
    order = np.argsort(-means, kind="stable")[:REPAIRERS]
    return [downstream[place] for place in order if means[place] > 0]


def _second(repairers: dict[Site, list[Site]]) -> list[Intervention]:
    """Repairers frozen, ablated, and ablated with the site."""
    runs: dict[str, Intervention] = {}
    for site, others in repairers.items():
        if others:
            alone = Intervention((site,))
            for run in (
                freezing(alone, others, f"{site} | repairers frozen"),
                Intervention(tuple(others)),
                Intervention((site, *others), name=f"{site} and its repairers"),
            ):
                runs.setdefault(run.name, run)
    return list(runs.values())


def _table(
    effects: PromptEffects,
    components: Components,
    repairers: dict[Site, list[Site]],
    placebos: Mapping[Site, tuple[Array, Array]],
    sampling: Sampling,
) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    judged: list[Mapping[str, Estimate]] = []
    for site, others in repairers.items():
        values = _values(effects, components, site, others)
        values |= _beside_placebo(values["self_repair"], placebos.get(site))
        estimates = {name: sampling.mean(value) for name, value in values.items()}
        estimates["masking"] = sampling.ratio(values["self_repair"], values["lost"])
        row: dict[str, object] = {"component": str(site)}
        for name in ESTIMATES:
            one = estimates[name]
            row |= {name: float(one.value), f"{name}_low": float(one.low), f"{name}_high": float(one.high)}
        direct = float(estimates["direct_effect"].value)
        row["retention"] = 1 - float(estimates["lost"].value) / direct if direct else np.nan
        row["detectable"] = smallest_detectable(float(estimates["total_effect"].standard_error))
        rows.append(row | {"repairers": ", ".join(map(str, others))})
        judged.append(estimates)
    table = pd.DataFrame(rows)
    table["label"] = _labels(judged, sampling.effective)
    table["rank_masked"] = table["total_effect"].abs().rank(ascending=False, method="min").astype(int)
    table["rank_unmasked"] = table["lost"].abs().rank(ascending=False, method="min").astype(int)
    return table


def _values(effects: PromptEffects, components: Components, site: Site, others: Sequence[Site]) -> dict[str, Array]:
    """What is known of a site on each prompt; NaN where it has no repairers."""

    def change(name: str) -> Array:
        total: Array = effects.total_effect[effects.row(name)]
        return total

    row = effects.row(str(site))
    alone = effects.interventions[row]
    direct = (
        components.direct_effects(effects)[:, components.index[site]] if site in components.index else effects.lost[row]
    )
    none = np.full(len(effects.clean), np.nan)
    return {
        "direct_effect": direct,
        "lost": effects.lost[row],
        "total_effect": effects.total_effect[row],
        "self_repair": effects.self_repair[row],
        "norm_frozen": effects.norm_frozen[row],
        "mlps_frozen": change(f"{site} | MLPs frozen"),
        "attention_frozen": change(f"{site} | attention frozen"),
        "mixers_frozen": change(f"{site} | mixers frozen") if components.mixers else none,
        "all_frozen": change(all_frozen(alone, components).name),
        "repairers_frozen": change(f"{site} | repairers frozen") if others else none,
        "given_repairers": change(f"{site} and its repairers") - change(Intervention(tuple(others)).name)
        if others
        else none,
    }


def _beside_placebo(repair: Array, placebo: tuple[Array, Array] | None) -> dict[str, Array]:
    none = np.full(len(repair), np.nan)
    total, response = (none, none) if placebo is None else placebo
    return {"placebo_effect": total, "placebo_repair": response, "specific_repair": repair - response}


def _labels(judged: Sequence[Mapping[str, Estimate]], effective: float) -> list[str]:
    """As every head of a run is labelled, by this card's intervals (`selfrepair.statistics.labels`)."""
    lost, total, repair, share = (
        _stacked([row[name] for row in judged]) for name in ("lost", "total_effect", "self_repair", "masking")
    )
    rule = LabelRule()
    p = reaction_p_values(repair, lost, effective, rule.negligible)
    found: list[str] = labels(lost, total, share, q_values(p), rule).tolist()
    return found


def _stacked(estimates: Sequence[Estimate]) -> Estimate:
    parts = ("value", "standard_error", "low", "high", "documents")
    return Estimate(*(np.array([np.asarray(getattr(one, part)) for one in estimates]) for part in parts))
