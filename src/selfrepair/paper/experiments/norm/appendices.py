"""The final norm's term, split, and its change in logits: section 3, Appendices B and G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.norm.norm_study import MOVERS, SPLITS, NormStudy
from selfrepair.paper.experiments.norm.scale_figures import COLOUR, SECTION, under_legend
from selfrepair.paper.numbers.over_documents import COUNT, Number, quantiles_apart, quotient, whiskers
from selfrepair.paper.pictures.exhibit_captions import FIXED
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule

FROZEN = {
    "self_repair": "norm and rest live",
    "by the norm alone": "norm live, rest frozen",
    "by the rest alone": "norm frozen, rest live",
}
ACCOUNTS = {"what the norm does": SPLITS, "who moved the norm": MOVERS, "self-repair with parts frozen": FROZEN}


def accounts(study: NormStudy, operator: str = "resample") -> Exhibit:
    """The norm term split three ways, by who moved the norm, and self-repair with parts of the model frozen: the rest
    of the downstream with the norm live, the norm with the rest live (section 3, Appendix B)."""
    panels, rows = [], []
    numbers: list[Number] = []
    for title, parts in ACCOUNTS.items():
        fractions = _fractions(study, operator, parts)
        panels.append(_panel_of_parts(study, title, parts, fractions))
        numbers += [number for by_head in fractions.values() for number in by_head]
        rows += [
            {"split": title, "part": parts[column], "head": str(head), "operator": operator}
            | {"fraction of lost DE": number.value, "low": number.low, "high": number.high}
            for column, by_head in fractions.items()
            for head, number in zip(study.heads, by_head, strict=True)
        ]
    numbers += [
        Number("largest error of the closed form of Appendix B", study.closure, units="logit", exact=True),
        Number("largest error of the sum of who moved the norm", study.movers, units="logit", exact=True),
    ]
    for head in study.heads:
        name = f"{head}: share of tokens whose norm repair is at least DE"
        numbers.append(study.top[head, operator].share("norm exceeds", name))
    caption = (
        f"The final norm's part of self-repair as a share of lost direct effect, {operator} ablation. k = σ/σ′ − 1, l "
        "the clean logit. The three parts add up to the norm's line, and so do the three movers "
        "(σ′² − σ² = Σ⟨Δo_c, r + r′⟩/d). Right: self-repair of whole runs, of runs with everything downstream frozen "
        "but the norm, and of runs with only the norm's scale frozen. The closed form, k (l − β + ΔDE + ΣΔ), misses "
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


def _fractions(study: NormStudy, operator: str, parts: Mapping[str, str]) -> dict[str, list[Number]]:
    """Each part of one split as a fraction of lost direct effect, by column, one number a head."""
    return {
        column: [
            study.top[head, operator].ratio(column, "lost", name=f"{head}: {words} / lost") for head in study.heads
        ]
        for column, words in parts.items()
    }


def _panel_of_parts(
    study: NormStudy, title: str, parts: Mapping[str, str], fractions: Mapping[str, Sequence[Number]]
) -> Panel:
    """One split: heads across, its parts side by side."""
    names = [str(head) for head in study.heads]
    marks = [
        _beside(fractions[column], index, len(parts), words, names, PALETTE[index])
        for index, (column, words) in enumerate(parts.items())
    ]
    return Panel(
        title,
        "",
        "Σ part / Σ (DE − DE′)",
        tuple(marks),
        (Rule(0, colour=FAINT),),
        y_range=under_legend(marks),
        categories=tuple(names),
    )


def _beside(numbers: Sequence[Number], index: int, of: int, label: str, names: Sequence[str], colour: str) -> Marks:
    """One of several series of points with intervals, side by side at each category."""
    values = np.array([number.value for number in numbers])
    error = whiskers(numbers)
    x = np.arange(len(numbers)) + 0.22 * (index - (of - 1) / 2)
    return Marks(x, values, "points", label, colour, y_error=error, names=names, size=5)


def _spread_of_logits(study: NormStudy) -> list[Number]:
    """Upper percentiles of the first head's direct effects, and the spread of target logits, on sampled tokens."""
    head = study.heads[0]
    part = study.sample[(study.sample["head"] == str(head)) & (study.sample["operator"] == study.operators[0])]
    if not len(part):
        return []
    effect, logit, document = (part[name].to_numpy() for name in ("direct_effect", "logit", "document"))
    numbers = [
        quantiles_apart(f"{head}: {100 * share:g}th percentile of DE", effect, document, (share, None), "logit")
        for share in (0.98, 0.999)
    ]
    spread = "spread of target logits, 5th to 95th percentile"
    return [*numbers, quantiles_apart(spread, logit, document, (0.95, 0.05), "logit")]


def significance(study: NormStudy, ratio: float = 1.02, difference: float = 10.0) -> Exhibit:
    """Appendix G: how much more the norm repairs one token than another, `(s/s' - 1)(logit_A - logit_B)`."""
    example = (ratio - 1) * difference
    paper = Number(f"the paper's example: ratio {ratio:g}, {difference:g} logits", example, units="logit", exact=True)
    rows: list[dict[str, object]] = [
        {"head": "the paper's example", "ratio": ratio, "difference of logits": difference, "repair": example}
    ]
    worth = {operator: _worth(study, operator, difference) for operator in study.operators}
    for operator, by_head in worth.items():
        rows += [
            {"head": str(head), "operator": operator, "ratio": study.top[head, operator].mean("ratio").value}
            | {"difference of logits": difference, "repair": number.value, "low": number.low, "high": number.high}
            for head, number in zip(study.heads, by_head, strict=True)
        ]
    numbers = [paper, *(number for by_head in worth.values() for number in by_head), *_spread_of_logits(study)]
    panel = _panel_of_worth(study, worth, difference, example)
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


def _worth(study: NormStudy, operator: str, difference: float) -> list[Number]:
    """How much more a token is repaired than one whose logit is lower by the difference, one number a head."""

    def more(sums: Mapping[str, np.ndarray]) -> np.ndarray:
        return (quotient(sums["ratio"], sums[COUNT]) - 1) * difference

    return [
        study.top[head, operator].number(f"{head}: repair per {difference:g} logits, {operator}", more, "logit")
        for head in study.heads
    ]


def _panel_of_worth(
    study: NormStudy, worth: Mapping[str, Sequence[Number]], difference: float, example: float
) -> Panel:
    """Heads across, operators side by side, with the paper's example as a line."""
    heads = tuple(map(str, study.heads))
    marks = [
        _beside(by_head, index, len(worth), operator, heads, COLOUR[operator])
        for index, (operator, by_head) in enumerate(worth.items())
    ]
    return Panel(
        f"of two tokens {difference:g} logits apart",
        "",
        f"(σ/σ′ − 1) × {difference:g} (logit)",
        tuple(marks),
        (Rule(0, example, f"the paper's example, {example:.2g}"), Rule(0, colour=FAINT)),
        y_range=under_legend(marks, example),
        categories=heads,
    )
