"""The final norm repairs: the paper's Figures 4 to 6, 10, 11 and 16 to 18, Appendices A, B and G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from selfrepair.ablation.units import Head
from selfrepair.errors import SelfRepairError
from selfrepair.paper.corpus import OPERATORS, Batch, Corpus
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.normpass import NormTerms, array, walk
from selfrepair.paper.numbers import COUNT, Number, Sums, Tally, divide, joined, quantiles_apart
from selfrepair.paper.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, histogram, scatter, symmetric
from selfrepair.paper.sample import TokenSample
from selfrepair.paper.words import FIXED, passing
from selfrepair.results.runs import Run
from selfrepair.statistics.keep import in_sample, uniform_sample

SECTION = "layernorm"
SHOWN = 8  # bins of stream lengths drawn as one
MOST_POINTS = 4000  # tokens of the uniform sample that figures show
MOST_CHOSEN = 20_000  # of a uniform sample of the filtered tokens that figures show; all are in the numbers
SPLITS = {
    "on_existing": "amplifies what was there, k (l − β)",
    "on_damage": "rescales the damage, k ΔDE",
    "on_response": "rescales the response, k ΣΔ",
}
MOVERS = {"by_own": "the head's own write", "by_attention": "later attention", "by_mlps": "MLPs"}
FROZEN = {
    "self_repair": "norm and rest live",
    "by the norm alone": "norm live, rest frozen",
    "by the rest alone": "norm frozen, rest live",
}
_COLOUR = dict(zip(OPERATORS, PALETTE, strict=False))


@dataclass
class NormStudy:
    """What a pass over the corpus says about some heads' norm repair under several operators.

    Attributes:
        about: the model, for captions.
        corpus: tokens, documents, text and recipe, for captions.
        fraction: of each head's tokens, by clean direct effect, that the filter passes.
        heads: in the order of the figures.
        chosen: per-token rows of the filter (a uniform sample of `MOST_CHOSEN` where there are more),
            `head, operator, window, position, document` and the terms.
        sample: the same of a uniform sample of all tokens.
        top: by (head, operator), sums over the filter's tokens.
        every: the same over all tokens.
        closure: largest error of the closed form of Appendix B against the measured norm term, logits.
        movers: largest error of the sum of who moved the norm against the norm's line, logits.
        lengths: by (head, operator), histogram of the final stream's length, ablated over clean, over all positions.
        streams: by (head, operator), sums of the same over documents: `length`, and whether it is `shorter`.
    """

    about: str
    corpus: str
    fraction: float
    heads: tuple[Head, ...]
    operators: tuple[str, ...]
    strict: bool
    chosen: pd.DataFrame = field(default_factory=pd.DataFrame)
    sample: pd.DataFrame = field(default_factory=pd.DataFrame)
    top: dict[tuple[Head, str], Tally] = field(default_factory=dict)
    every: dict[tuple[Head, str], Tally] = field(default_factory=dict)
    closure: float = 0.0
    movers: float = 0.0
    lengths: dict[tuple[Head, str], np.ndarray] = field(default_factory=dict)
    streams: dict[tuple[Head, str], Tally] = field(default_factory=dict)

    @property
    def unfiltered(self) -> str:
        """Model, tokens and documents, for captions of figures of all tokens."""
        return f"{self.about} · all tokens: {self.corpus}"

    def filtered(self, heads: Sequence[Head]) -> str:
        """Model, filter, tokens and documents, for captions of figures of the filter's tokens."""
        label = f"top {100 * self.fraction:g}% of a head's tokens by clean direct effect"
        return f"{self.about} · {passing(label, [self.top[head, self.operators[0]] for head in heads], self.corpus)}"


COLUMNS = ("direct_effect", "change", "total", "norm", *SPLITS, *MOVERS, "frozen_rest", "frozen_norm", "ratio", "logit")
LENGTH_EDGES = np.concatenate([[0.0], np.linspace(0.4, 1.6, 2401), [np.inf]])


def choose_last_layer(run: Run, most: int = 4) -> list[Head]:
    """Heads of the last layer with the largest lost direct effect on their top tokens, largest first."""
    label = next((one for one in run.filters if one.startswith("top")), run.filters[0])
    lost = run.heads["lost_direct_effect"].sel(filter=label).values[-1]
    order = np.argsort(-np.nan_to_num(lost, nan=-np.inf), kind="stable")
    return [Head(run.heads.sizes["layer"] - 1, int(head)) for head in order[:most] if np.isfinite(lost[head])]


def choose_earlier(run: Run, most: int = 2) -> list[Head]:
    """Heads of the second half below the last layer with the largest lost direct effect: they have a downstream."""
    label = next((one for one in run.filters if one.startswith("top")), run.filters[0])
    lost = run.heads["lost_direct_effect"].sel(filter=label).values.copy()
    lost[: lost.shape[0] // 2], lost[-1] = np.nan, np.nan
    order = np.argsort(-np.nan_to_num(lost, nan=-np.inf), axis=None, kind="stable")[:most]
    heads = [Head(*map(int, np.unravel_index(place, lost.shape))) for place in order]
    return [head for head in heads if np.isfinite(lost[head])]


def study_norm(
    corpus: Corpus, heads: Sequence[tuple[int, int]], operators: Sequence[str] = OPERATORS, fraction: float = 0.02
) -> NormStudy:
    """One pass over the corpus for some heads under several operators.

    Args:
        corpus: model, text and recipe.
        heads: (layer, head) pairs.
        operators: of `resample`, `mean`, `zero`.
        fraction: of each head's tokens, by clean direct effect, that the filter passes.

    Raises:
        SelfRepairError: no heads.
    """
    wanted = tuple(Head(*head) for head in heads)
    if not wanted:
        raise SelfRepairError("There are no heads to look at.", "Give (layer, head) pairs.")
    limits = dict(zip(wanted, corpus.thresholds(wanted, fraction), strict=True))
    scored = corpus.windows.scored(corpus.recipe.first)
    sampled = uniform_sample(scored, MOST_POINTS, corpus.seed)
    found = NormStudy(
        corpus.model.name, corpus.described(scored), fraction, wanted, tuple(operators), corpus.recipe.percentile
    )
    rows: list[pd.DataFrame] = []
    kept = {(head, operator): TokenSample(MOST_CHOSEN, corpus.seed) for head in wanted for operator in operators}
    for head, operator, batch, terms in walk(corpus, wanted, operators):
        effect = terms.direct_effect.cpu().numpy().astype(np.float32)
        passing = effect > limits[head] if found.strict else effect >= limits[head]
        passing &= batch.scored
        _check(found, terms, batch.scored)
        for tallies, mask in ((found.top, passing), (found.every, batch.scored)):
            tally = tallies.setdefault((head, operator), Tally(corpus.documents, corpus.seed))
            tally.add(batch.documents[mask], _columns(terms, mask))
        chosen = in_sample(sampled, batch.windows, scored.shape[1]) & batch.scored
        rows.append(_frame(head, operator, _rows(batch, terms, chosen)))
        kept[head, operator].add(_rows(batch, terms, passing))
        _add_lengths(found, head, operator, terms, corpus, batch.windows)
    found.sample = pd.concat(rows, ignore_index=True)
    found.chosen = pd.concat([_frame(*key, one.columns()) for key, one in kept.items()], ignore_index=True)
    return found


def _check(found: NormStudy, terms: NormTerms, scored: np.ndarray) -> None:
    """Holds the closed form of Appendix B, `k (l - beta + D + R)`, which takes no more than `sigma / sigma'` from the
    ablated run's final stream, against the measured norm term; and the sum of who moved the norm, which takes only
    writes, against what the change of that stream's scale did."""
    closed = terms.on_existing + terms.on_damage + terms.on_response
    movers = terms.by_own + terms.by_attention + terms.by_mlps
    errors = [array((one - other).abs(), scored) for one, other in ((terms.measured, closed), (terms.norm, movers))]
    found.closure, found.movers = (
        max(before, float(error.max(initial=0)))
        for before, error in zip((found.closure, found.movers), errors, strict=True)
    )


def _columns(terms: NormTerms, mask: np.ndarray) -> dict[str, np.ndarray]:
    columns = {name: array(getattr(terms, name), mask) for name in COLUMNS}
    columns["lost"] = -columns["change"]
    columns["self_repair"] = columns["total"] + columns["lost"]
    columns["above"] = (columns["ratio"] > 1).astype(np.float64)
    columns["off one"] = np.abs(columns["ratio"] - 1)
    columns["wrong_way"] = ((columns["total"] > 0) & (columns["direct_effect"] > 0)).astype(np.float64)
    columns["helping"] = (columns["direct_effect"] > 0).astype(np.float64)
    columns["norm exceeds"] = (columns["norm"] >= columns["direct_effect"]).astype(np.float64)
    columns["by the norm alone"] = columns["frozen_rest"] + columns["lost"]
    columns["by the rest alone"] = columns["frozen_norm"] + columns["lost"]
    columns["norm lost"], columns["lost lost"] = columns["norm"] * columns["lost"], columns["lost"] ** 2
    return columns


def _rows(batch: Batch, terms: NormTerms, mask: np.ndarray) -> dict[str, np.ndarray]:
    window, position = np.nonzero(mask)
    where = {"window": batch.windows[window], "position": position, "document": batch.documents[mask]}
    return where | {name: array(getattr(terms, name), mask).astype(np.float32) for name in COLUMNS}


def _frame(head: Head, operator: str, rows: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({"head": str(head), "operator": operator, **rows})


def _add_lengths(
    found: NormStudy, head: Head, operator: str, terms: NormTerms, corpus: Corpus, windows: np.ndarray
) -> None:
    """All positions of real tokens, as in the authors' Figure 16."""
    real = np.arange(corpus.windows.length) < corpus.windows.lengths[windows, None]
    real[:, : corpus.recipe.first] = False
    lengths = array(terms.length, real)
    counts, _ = np.histogram(lengths, LENGTH_EDGES)
    key = head, operator
    tally = found.streams.setdefault(key, Tally(corpus.documents, corpus.seed))
    tally.add(corpus.windows.documents[windows][real], {"length": lengths, "shorter": (lengths < 1).astype(np.float64)})
    found.lengths[key] = found.lengths.get(key, np.zeros(len(LENGTH_EDGES) - 1)) + counts


# ------------------------------------------------------------------------------------------------ its figures


def ratios(study: NormStudy, heads: Sequence[Head] | None = None, name: str = "figure-04-scale-ratio") -> Exhibit:
    """Clean over ablated scale of the final norm on a head's top tokens, by operator (Figures 4, 17, 18)."""
    chosen = tuple(heads) if heads is not None else study.heads
    table = study.chosen[study.chosen["head"].isin([str(head) for head in chosen])]
    panels, numbers = [], []
    for head in chosen:
        part = table[table["head"] == str(head)]
        low, high = np.quantile(part["ratio"], [0.002, 0.998]) if len(part) else (0.9, 1.1)
        margin = 0.1 * max(high - low, 1e-3)
        bins = int(np.clip(np.sqrt(len(part) / max(len(study.operators), 1)) * 2, 12, 80))
        edges = np.linspace(min(low, 1) - margin, max(high, 1) + margin, bins)
        marks = []
        for operator in study.operators:
            tally = study.top[head, operator]
            above = tally.share("above", name=f"{head}: share of scale ratios above 1, {operator}")
            numbers.append(above)
            values = part.loc[part["operator"] == operator, "ratio"].to_numpy()
            marks.append(histogram(values, edges, f"{operator}: {above.value:.1%} above 1", _COLOUR[operator]))
            numbers.append(tally.mean("ratio", name=f"{head}: mean scale ratio, {operator}"))
        numbers += _zero_beside_others(study, head)
        room = 0.0, _under_legend(marks)[1]
        rules = (Rule(None, 1.0, "1"),)
        panels.append(Panel(str(head), "σ clean / σ ablated", "share of tokens", tuple(marks), rules, y_range=room))
    figure = "Figure 4" if name.startswith("figure-04") else "Figures 17, 18"
    most = max(study.top[head, study.operators[0]].tokens for head in chosen)
    drawn = f"; drawn: a uniform sample of {MOST_CHOSEN:,}" if most > MOST_CHOSEN else ""
    caption = (
        "Ratio of the final norm's clean to its ablated scale on the head's top tokens; above 1 every logit is scaled "
        f"up{drawn}. {study.filtered(chosen)}. Shares with {FIXED}."
    )
    return Exhibit(
        name,
        figure,
        SECTION,
        "The norm's scale falls when a head is ablated",
        caption,
        table[["head", "operator", "window", "position", "document", "direct_effect", "total", "norm", "ratio"]],
        tuple(numbers),
        Picture(tuple(panels), columns=min(3, len(panels))),
    )


def _zero_beside_others(study: NormStudy, head: Head) -> list[Number]:
    """How far zero ablation takes the scale ratio from 1, over how far the others do (Figures 17, 18)."""
    others = [one for one in study.operators if one != "zero"]
    if "zero" not in study.operators or not others:
        return []
    together = joined({operator: study.top[head, operator] for operator in study.operators})

    def over(sums: Sums) -> np.ndarray:
        return divide(sums["zero/off one"], np.maximum.reduce([sums[f"{one}/off one"] for one in others]))

    name = f"{head}: mean |scale ratio - 1|, zero over the larger of {' and '.join(others)}"
    return [together.number(name, over, scale="size")]


def _zero_less_others(study: NormStudy, head: Head) -> list[Number]:
    """Mean length of the stream under zero ablation less the shortest under another (Figure 16)."""
    others = [one for one in study.operators if one != "zero"]
    if "zero" not in study.operators or not others:
        return []
    together = joined({operator: study.streams[head, operator] for operator in study.operators})

    def less(sums: Sums) -> np.ndarray:
        shortest = np.minimum.reduce([sums[f"{one}/length"] for one in others])
        return divide(sums["zero/length"] - shortest, sums[COUNT])

    return [
        together.number(f"{head}: mean length, ablated / clean, zero less the shorter of {' and '.join(others)}", less)
    ]


def one_head(study: NormStudy, head: Head) -> Exhibit:
    """Direct effect against the change of the logit under each operator, for one last-layer head (Figure 5)."""
    table = study.sample[study.sample["head"] == str(head)]
    limits = symmetric([table[["direct_effect", "total"]].to_numpy()])
    panels, numbers = [], []
    for operator in study.operators:
        part = table[table["operator"] == operator]
        marks = scatter(part["direct_effect"].to_numpy(), part["total"].to_numpy(), colour=_COLOUR[operator])
        rules = (Rule(-1, label="no repair: y = −x"), Rule(0, colour=FAINT))
        tally = study.every[head, operator]
        wrong = tally.share("wrong_way", f"{head}: share of helped tokens whose logit rises, {operator}", "helping")
        repaired = tally.ratio("self_repair", "lost", name=f"{head}: repaired fraction, all tokens, {operator}")
        by_norm = tally.ratio(
            "norm", "self_repair", name=f"{head}: norm's share of self-repair, all tokens, {operator}"
        )
        numbers += [wrong, repaired, by_norm]
        title = f"{operator}: logit rises on {wrong.value:.0%} of helped tokens"
        panels.append(
            Panel(title, "direct effect, DE (logit)", "change of the logit, TE (logit)", marks, rules, limits, limits)
        )
    caption = (
        f"{head} under each operator; each point is a token, all tokens or a uniform sample of {MOST_POINTS:,}. In a "
        f"parallel model nothing but the norm can repair a last-layer head. {study.unfiltered}. Shares with {FIXED}."
    )
    shown = table[
        ["head", "operator", "window", "position", "document", "direct_effect", "change", "total", "norm", "ratio"]
    ]
    return Exhibit(
        "figure-05-one-head",
        "Figure 5",
        SECTION,
        "One last-layer head under three ablations",
        caption,
        shown,
        tuple(numbers),
        Picture(tuple(panels), columns=3),
    )


def stream_lengths(study: NormStudy, head: Head) -> Exhibit:
    """How much shorter or longer ablation makes the final stream (Figure 16)."""
    marks, tables, numbers = [], [], []
    spans = []
    for operator in study.operators:
        counts = study.lengths[head, operator]
        share = counts / max(counts.sum(), 1)
        median = _quantile(share, 0.5)
        spans += [_quantile(share, 0.003), _quantile(share, 0.997)]
        numbers.append(Number(f"{head}: median length, ablated / clean, {operator}", median))
        tally = study.streams[head, operator]
        numbers.append(tally.share("shorter", f"{head}: share of streams shorter, {operator}"))
        numbers.append(tally.mean("length", name=f"{head}: mean length, ablated / clean, {operator}"))
        tables.append(
            pd.DataFrame(
                {
                    "head": str(head),
                    "operator": operator,
                    "from": LENGTH_EDGES[:-1],
                    "to": LENGTH_EDGES[1:],
                    "count": counts,
                }
            )
        )
        marks.append(
            Marks(
                LENGTH_EDGES[1:-1:SHOWN],
                share[1:-1].reshape(-1, SHOWN).sum(1),
                "steps",
                f"{operator}: median {median:.4f}",
                _COLOUR[operator],
            )
        )
    numbers += _zero_less_others(study, head)
    low, high = min(*spans, 1.0), max(*(one for one in spans if np.isfinite(one)), 1.0)
    room = 0.05 * max(high - low, 0.01)
    panel = Panel(
        str(head),
        "‖final stream‖ ablated / clean",
        "share of positions",
        tuple(marks),
        (Rule(None, 1.0, "1"),),
        x_range=(low - room, high + room),
    )
    caption = (
        "Norm of the stream after the last block under each operator, ablated over clean, at all "
        f"{int(study.lengths[head, study.operators[0]].sum()):,} positions of real tokens that count, those that "
        f"predict nothing included, unfiltered. {study.unfiltered}."
    )
    return Exhibit(
        "figure-16-stream-length",
        "Figure 16",
        SECTION,
        "The length of the residual stream under ablation",
        caption,
        pd.concat(tables, ignore_index=True),
        tuple(numbers),
        Picture((panel,), columns=1),
    )


def _quantile(share: np.ndarray, of: float) -> float:
    """A quantile of the lengths, interpolated within its bin."""
    cumulated = np.concatenate([[0.0], np.cumsum(share)])
    edges = np.clip(LENGTH_EDGES, 0.0, 2.0)
    return float(np.interp(of, cumulated, edges))


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
                y_range=_under_legend(marks),
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
    error = np.nan_to_num(np.stack([values - [one.low for one in found], [one.high for one in found] - values]))
    x = np.arange(len(found)) + 0.22 * (place - (of - 1) / 2)
    return Marks(x, values, "points", label, colour, y_error=error, names=names, size=5)


def _under_legend(series: Sequence[Marks], *others: float) -> tuple[float, float]:
    """Limits of an axis that leave its upper quarter to the legend; zero and the others are within."""
    ends = np.array([0.0, *others])
    for marks in series:
        below, above = (0.0, 0.0) if marks.y_error is None else marks.y_error
        ends = np.concatenate([ends, marks.y - below, marks.y + above])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = (high - low) or 1.0
    return low - 0.06 * room, high + 0.4 * room


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
        marks.append(_beside(found, place, len(study.operators), operator, heads, _COLOUR[operator]))
        numbers += found
    rules = (Rule(0, example, f"the paper's example, {example:.2g}"), Rule(0, colour=FAINT))
    panel = Panel(
        f"of two tokens {difference:g} logits apart",
        "",
        f"(σ/σ′ − 1) × {difference:g} (logit)",
        tuple(marks),
        rules,
        y_range=_under_legend(marks, example),
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
        "Small scale ratios matter",
        caption,
        pd.DataFrame(rows),
        (*numbers, *_sizes(study)),
        Picture((panel,), columns=1),
    )


def _sizes(study: NormStudy) -> list[Number]:
    """How large the first head's direct effects and the target's logits are, to compare with."""
    head, found = study.heads[0], []
    part = study.sample[(study.sample["head"] == str(head)) & (study.sample["operator"] == study.operators[0])]
    if len(part):
        for share in (0.98, 0.999):
            value = float(np.quantile(part["direct_effect"], share))
            found.append(Number(f"{head}: {100 * share:g}th percentile of DE", value, units="logit"))
        spread = float(np.quantile(part["logit"], 0.95) - np.quantile(part["logit"], 0.05))
        found.append(Number("spread of target logits, 5th to 95th percentile", spread, units="logit"))
    return found
