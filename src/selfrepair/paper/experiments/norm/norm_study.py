"""Some heads' norm repair under several operators, from one pass over the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Head
from selfrepair.errors import SelfRepairError
from selfrepair.paper.experiments.norm.terms import NormTerms, array, walk
from selfrepair.paper.inputs.corpus import OPERATORS, CleanBatch, Corpus
from selfrepair.paper.inputs.token_sample import TokenSample
from selfrepair.paper.numbers.over_documents import Tally
from selfrepair.paper.pictures.exhibit_captions import passing
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run
from selfrepair.statistics.keep import in_sample, uniform_sample

MOST_POINTS = 4000  # tokens of the uniform sample that figures show
MOST_CHOSEN = 20_000  # of a uniform sample of the filtered tokens that figures show; all are in the numbers
SPLITS = {
    "on_existing": "amplifies what was there, k (l − β)",
    "on_damage": "rescales the damage, k ΔDE",
    "on_response": "rescales the response, k ΣΔ",
}
MOVERS = {"by_own": "the head's own write", "by_attention": "later attention", "by_mlps": "MLPs"}


@dataclass
class NormStudy:
    """Some heads' norm repair under several operators, from one pass over the corpus.

    Attributes:
        about: the model's name, for captions.
        corpus: tokens, documents, text and recipe, for captions.
        fraction: share of each head's tokens, by clean direct effect, that the filter passes.
        heads: the heads, in the order of the figures.
        chosen: per-token rows of the filter (a uniform sample of `MOST_CHOSEN` if there are more),
            `head, operator, window, position, document` and the terms.
        sample: the same rows of a uniform sample of all tokens.
        top: sums over the filter's tokens by (head, operator).
        every: the same sums over all tokens.
        closure: largest error of the closed form of Appendix B against the measured norm term, logits.
        movers: largest error of the sum of who moved the norm against the norm's line, logits.
        lengths: histograms of the final stream's length, ablated over clean, at all positions, by (head, operator).
        streams: sums of the same by document, `length` and whether it is `shorter`, by (head, operator).
        parallel: whether the last block's MLP runs parallel to attention: then only the norm can repair its heads.
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
    parallel: bool = False

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
    label = resolve_filter(run, None)
    lost = run.heads["lost_direct_effect"].sel(filter=label).values[-1]
    order = np.argsort(-np.nan_to_num(lost, nan=-np.inf), kind="stable")
    return [Head(run.heads.sizes["layer"] - 1, int(head)) for head in order[:most] if np.isfinite(lost[head])]


def choose_earlier(run: Run, most: int = 2) -> list[Head]:
    """Heads of the second half below the last layer with the largest lost direct effect: they have a downstream."""
    label = resolve_filter(run, None)
    lost = run.heads["lost_direct_effect"].sel(filter=label).values.copy()
    lost[: lost.shape[0] // 2], lost[-1] = np.nan, np.nan
    order = np.argsort(-np.nan_to_num(lost, nan=-np.inf), axis=None, kind="stable")[:most]
    heads = [Head(*map(int, np.unravel_index(index, lost.shape))) for index in order]
    return [head for head in heads if np.isfinite(lost[head])]


def study_norm(
    corpus: Corpus, heads: Sequence[tuple[int, int]], operators: Sequence[str] = OPERATORS, fraction: float = 0.02
) -> NormStudy:
    """One pass over the corpus for some heads under several operators.

    Args:
        corpus: model, text and recipe.
        heads: (layer, head) pairs.
        operators: some of `resample`, `mean`, `zero`.
        fraction: share of each head's tokens, by clean direct effect, that the filter passes.

    Raises:
        SelfRepairError: no heads.
    """
    wanted = tuple(Head(*head) for head in heads)
    if not wanted:
        raise SelfRepairError("No heads were given.", "Give (layer, head) pairs.")
    limits = dict(zip(wanted, corpus.thresholds(wanted, fraction), strict=True))
    scored = corpus.windows.scored(corpus.recipe.first)
    sampled = uniform_sample(scored, MOST_POINTS, corpus.seed)
    study = NormStudy(
        corpus.model.name, corpus.described(scored), fraction, wanted, tuple(operators), corpus.recipe.percentile
    )
    study.parallel = corpus.model.anatomy.blocks[-1].parallel
    rows: list[pd.DataFrame] = []
    kept = {(head, operator): TokenSample(MOST_CHOSEN, corpus.seed) for head in wanted for operator in operators}
    for head, operator, batch, terms in walk(corpus, wanted, operators):
        effect = terms.direct_effect.cpu().numpy().astype(np.float32)
        passing = effect > limits[head] if study.strict else effect >= limits[head]
        passing &= batch.scored
        _check(study, terms, batch.scored)
        for tallies, mask in ((study.top, passing), (study.every, batch.scored)):
            tally = tallies.setdefault((head, operator), Tally(corpus.documents, corpus.seed))
            tally.add(batch.documents[mask], _columns(terms, mask))
        chosen = in_sample(sampled, batch.windows, scored.shape[1]) & batch.scored
        rows.append(_frame(head, operator, _rows(batch, terms, chosen)))
        kept[head, operator].add(_rows(batch, terms, passing))
        _add_lengths(study, head, operator, terms, corpus, batch.windows)
    study.sample = pd.concat(rows, ignore_index=True)
    study.chosen = pd.concat([_frame(*key, sample.columns()) for key, sample in kept.items()], ignore_index=True)
    return study


def _check(study: NormStudy, terms: NormTerms, scored: np.ndarray) -> None:
    """Compares the closed form of Appendix B, `k (l - beta + D + R)`, which takes only `sigma / sigma'` from the
    ablated run's final stream, with the measured norm term; and the sum of who moved the norm, which takes only
    writes, with the norm's line."""
    closed = terms.on_existing + terms.on_damage + terms.on_response
    movers = terms.by_own + terms.by_attention + terms.by_mlps
    errors = [
        array((measured - other).abs(), scored) for measured, other in ((terms.measured, closed), (terms.norm, movers))
    ]
    study.closure, study.movers = (
        max(before, float(error.max(initial=0)))
        for before, error in zip((study.closure, study.movers), errors, strict=True)
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


def _rows(batch: CleanBatch, terms: NormTerms, mask: np.ndarray) -> dict[str, np.ndarray]:
    window, position = np.nonzero(mask)
    where = {"window": batch.windows[window], "position": position, "document": batch.documents[mask]}
    return where | {name: array(getattr(terms, name), mask).astype(np.float32) for name in COLUMNS}


def _frame(head: Head, operator: str, rows: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({"head": str(head), "operator": operator, **rows})


def _add_lengths(
    study: NormStudy, head: Head, operator: str, terms: NormTerms, corpus: Corpus, windows: np.ndarray
) -> None:
    """All positions of real tokens, as in the authors' Figure 16."""
    real = np.arange(corpus.windows.length) < corpus.windows.lengths[windows, None]
    real[:, : corpus.recipe.first] = False
    lengths = array(terms.length, real)
    counts, _ = np.histogram(lengths, LENGTH_EDGES)
    key = head, operator
    tally = study.streams.setdefault(key, Tally(corpus.documents, corpus.seed))
    tally.add(corpus.windows.documents[windows][real], {"length": lengths, "shorter": (lengths < 1).astype(np.float64)})
    study.lengths[key] = study.lengths.get(key, np.zeros(len(LENGTH_EDGES) - 1)) + counts
