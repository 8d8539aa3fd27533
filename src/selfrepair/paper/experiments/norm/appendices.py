"""The final norm's term split, and what its change is worth in logits: section 3, Appendices B and G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.norm.figures import COLOUR, SECTION, under_legend
from selfrepair.paper.experiments.norm.study import MOVERS, SPLITS, NormStudy
from selfrepair.paper.numbers.over_documents import COUNT, Number, divide, quantiles_apart, whiskers
from selfrepair.paper.pictures.captions import FIXED
from selfrepair.paper.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule

FROZEN = {
    "self_repair": "norm and rest live",
    "by the norm alone": "norm live, rest frozen",
    "by the rest alone": "norm frozen, rest live",
}


def accounts(study: NormStudy, operator: str = "resample") -> Exhibit:
    """The norm term split three ways, by who moved the norm, and self-repair with parts of the model frozen: the rest
    of the downstream with the norm live, the norm with the rest live (section 3, Appendix B)."""
    groups = {
        "what the norm does": SPLITS,
        "who moved the norm": MOVERS,
        "self-repair with parts frozen": FROZEN,
    }
    names = [str(head) for head in study.heads]
    keys = [(head, operator) for head in study.heads]
    panels, numbers, rows = [], [], []
    for title, parts in groups.items():
        marks = []
        for place, (column, said) in enumerate(parts.items()):
            found = [
                study.top[key].ratio(column, "lost", name=f"{name}: {said} / lost")
                for key, name in zip(keys, names, strict=True)
            ]
            marks.append(_beside(found, place, len(parts), said, names, PALETTE[place]))
            numbers += found
            rows += [
                {
                    "split": title,
                    "part": said,
                    "head": str(key[0]),
                    "operator": key[1],
                    "fraction of lost DE": one.value,
                    "low": one.low,
                    "high": one.high,
                }
                for key, one in zip(keys, found, strict=True)
            ]
        panels.append(
            Panel(
                title,
                "",
                "Σ part / Σ (DE − DE′)",
                tuple(marks),
                (Rule(0, colour=FAINT),),
                y_range=under_legend(marks),
                categories=tuple(names),
            )
        )
    numbers += [
        Number("largest error of the closed form of Appendix B", study.closure, units="logit", exact=True),
        Number("largest error of the sum of who moved the norm", study.movers, units="logit", exact=True),
    ]
    for key, name in zip(keys, names, strict=True):
        numbers.append(
            study.top[key].share("norm exceeds", f"{name}: share of tokens whose norm repair is at least DE")
        )
    caption = (
        f"The final norm's part of self-repair as a share of what was lost, {operator} ablation. k = σ/σ′ − 1, l the "
        "clean logit. The three parts add up to the norm's line, and so do the three movers "
        "(σ′² − σ² = Σ⟨Δo_c, r + r′⟩/d). Right: self-repair of whole runs, of runs with everything downstream frozen "
        "but the norm, and of runs with the norm's scale frozen alone. The closed form, k (l − β + ΔDE + ΣΔ), misses "
        f"the norm term measured in ablated runs by at most {study.closure:.1e} logits on any token, the sum of "
        f"movers by {study.movers:.1e}. {study.filtered(study.heads)}. {FIXED}."
    )
    return Exhibit(
        "section-3-norm-accounts",
        "Section 3, Appendix B",
        SECTION,
        "The norm's term, split",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=3),
    )


def _beside(found: Sequence[Number], place: int, of: int, label: str, names: Sequence[str], colour: str) -> Marks:
    """One of several series of points with intervals, side by side at each category."""
    values = np.array([one.value for one in found])
    error = whiskers(found)
    x = np.arange(len(found)) + 0.22 * (place - (of - 1) / 2)
    return Marks(x, values, "points", label, colour, y_error=error, names=names, size=5)


def _spread_of_logits(study: NormStudy) -> list[Number]:
    """How large the first head's direct effects get, and how far apart its target's logits lie, on sampled tokens."""
    head = study.heads[0]
    part = study.sample[(study.sample["head"] == str(head)) & (study.sample["operator"] == study.operators[0])]
    if not len(part):
        return []
    effect, logit, document = (part[name].to_numpy() for name in ("direct_effect", "logit", "document"))
    found = [
        quantiles_apart(f"{head}: {100 * share:g}th percentile of DE", effect, document, (share, None), "logit")
        for share in (0.98, 0.999)
    ]
    spread = "spread of target logits, 5th to 95th percentile"
    return [*found, quantiles_apart(spread, logit, document, (0.95, 0.05), "logit")]


def significance(study: NormStudy, ratio: float = 1.02, difference: float = 10.0) -> Exhibit:
    """Appendix G: how much more the norm repairs one token than another, `(s/s' - 1)(logit_A - logit_B)`."""
    example = (ratio - 1) * difference
    rows: list[dict[str, object]] = [
        {"head": "the paper's example", "ratio": ratio, "difference of logits": difference, "repair": example}
    ]
    numbers = [
        Number(f"the paper's example: ratio {ratio:g}, {difference:g} logits", example, units="logit", exact=True)
    ]
    heads = tuple(map(str, study.heads))
    marks = []

    def difference_of(sums: Mapping[str, np.ndarray]) -> np.ndarray:
        return (divide(sums["ratio"], sums[COUNT]) - 1) * difference

    for place, operator in enumerate(study.operators):
        tallies = [study.top[head, operator] for head in study.heads]
        found = [
            tally.number(f"{head}: repair per {difference:g} logits, {operator}", difference_of, "logit")
            for head, tally in zip(heads, tallies, strict=True)
        ]
        rows += [
            {
                "head": head,
                "operator": operator,
                "ratio": tally.mean("ratio").value,
                "difference of logits": difference,
                "repair": one.value,
                "low": one.low,
                "high": one.high,
            }
            for head, tally, one in zip(heads, tallies, found, strict=True)
        ]
        marks.append(_beside(found, place, len(study.operators), operator, heads, COLOUR[operator]))
        numbers += found
    rules = (Rule(0, example, f"the paper's example, {example:.2g}"), Rule(0, colour=FAINT))
    panel = Panel(
        f"of two tokens {difference:g} logits apart",
        "",
        f"(σ/σ′ − 1) × {difference:g} (logit)",
        tuple(marks),
        rules,
        y_range=under_legend(marks, example),
        categories=heads,
    )
    numbers += _spread_of_logits(study)
    caption = (
        "How much more the norm's change under an ablation repairs a token than one whose logit is "
        f"{difference:g} lower: (σ/σ′ − 1) × {difference:g}, with each head's mean σ/σ′. The paper's example: a ratio "
        f"of {ratio:g} makes {example:.2g} logits. {study.filtered(study.heads)}. {FIXED}."
    )
    return Exhibit(
        "appendix-g-significance",
        "Appendix G",
        SECTION,
        "What a change of the norm's scale is worth in logits",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture((panel,), columns=1),
    )
