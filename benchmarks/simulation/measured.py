"""Which intervals held the truth, number by number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from selfrepair.paper.numbers.over_documents import products, tally_of
from selfrepair.run.gathering.all_texts import Pool
from selfrepair.statistics.between_runs import difference
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.pooled import pooled_card
from selfrepair.statistics.summary import Summariser
from simulation.corpora import BINS, GROUPS, chunk_of, design_of, documents_of, pool_from, quantities
from simulation.truths import truths

FILTERS = {"all": 1.0, "top:0.02": 0.02}
LAYERS, HEADS = 3, 3  # of each group
FRACTIONS = ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm", "masking")
RATIOS = "ratios of a head"
KINDS: dict[str, tuple[str, ...]] = {
    "mean direct effect": ("direct_effect",),
    "other means": ("self_repair", "total_effect", "lost_direct_effect", "repair_mlps", "gross_self_repair"),
    RATIOS: FRACTIONS,
    "slopes": ("slope_through_origin", "slope"),
    "squared correlation": ("r_squared",),
    "shares of tokens": ("share_repaired", "share_over_repaired", "share_worse", "share_sigma_above_one"),
    "clipped means": ("paper_clipped_mean_norm", "paper_clipped_mean_self_repair"),
}


@dataclass
class Tally:
    """Hits by kind of number: one entry for each corpus, as intervals on one corpus are not independent."""

    held: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, estimate: Estimate, truth: float | np.ndarray) -> None:
        """Books the intervals of one corpus that exist."""
        there = ~np.isnan(estimate.low)
        if there.any():
            inside = (estimate.low <= truth) & (truth <= estimate.high)
            self.held[kind].append(float(inside[there].mean()))

    def share(self, kind: str, chosen: np.ndarray) -> None:
        """Books a share of one corpus."""
        self.held[kind].append(float(np.mean(chosen)))


def of_one_corpus(rng: np.random.Generator, documents: int, tails: str) -> tuple[Pool, np.ndarray, list[dict]]:
    """A sweep over all groups of heads: its merged units, the tokens' documents, and every layer's effects."""
    document = documents_of(rng, documents)
    layers = [quantities(rng, tails, group, HEADS, document) for group in GROUPS for _ in range(LAYERS)]
    design = design_of(rng, document, list(FILTERS), (len(layers), HEADS), "none")
    chunks = [chunk_of(place, found) for place, found in enumerate(layers)]
    return pool_from(design, chunks, np.stack([one["direct_effect"] for one in layers])), document, layers


def book(tally: Tally, rng: np.random.Generator, documents: int, tails: str, earlier: Replicated | None) -> Replicated:
    """Books all numbers of one corpus.

    Args:
        tally: where.
        rng: draws.
        documents: of the corpus.
        tails: see `corpora.TAILS`.
        earlier: what the last corpus gave, to compare with unpaired.

    Returns:
        Sums of the groups [filter, group].
    """
    pool, document, layers = of_one_corpus(rng, documents, tails)
    summariser, sums = Summariser(), []
    for layer in range(len(layers)):
        sums.append(pool.layer(layer))
        summariser.add(sums[-1])
    summary = summariser.summary()
    for place, share in enumerate(FILTERS.values()):
        said = "all tokens" if share == 1 else "top 2%"
        for group in range(len(GROUPS)):
            known, cells = truths(tails, group, share), np.s_[place, group * LAYERS : (group + 1) * LAYERS]
            for kind, name in names_of(share, group):
                tally.add(f"{kind}, {said}", part(summary.heads[name], cells), known[name])
            ratios, of = part(summary.heads["repaired_fraction"], cells), f"{of_heads(share, group)}, {said}"
            ends = replace(ratios, low=np.where(np.isinf(ratios.low), np.nan, ratios.low))
            tally.share(f"{of}: share without ends", np.isinf(ratios.low))
            tally.add(f"{of}: those with ends", ends, known["repaired_fraction"])
    groups = by_group(sums)
    book_pooled(tally, groups, tails)
    book_differences(tally, groups.pooled(2), earlier, tails)
    book_curves(tally, pool, tails)
    book_paper(tally, layers, document, tails)
    return groups.pooled(2)


def names_of(share: float, group: int) -> Iterator[tuple[str, str]]:
    """(kind, estimator)s; over all tokens of heads that lose next to nothing, ratios are a kind of their own."""
    for kind, names in KINDS.items():
        for name in names:
            yield of_heads(share, group) if kind == RATIOS else kind, name


def of_heads(share: float, group: int) -> str:
    """What ratios of heads are called: over all tokens those of the first group have next to nothing below the line."""
    return RATIOS if share < 1 or group else "ratios with denominators near zero"


def part(estimate: Estimate, cells: object) -> Estimate:
    """Some cells of an estimate."""
    return Estimate(
        *(getattr(estimate, name)[cells] for name in ("value", "standard_error", "low", "high", "documents"))
    )


def by_group(layers: list[Replicated]) -> Replicated:
    """Layers' sums [filter, group, layer of the group], heads pooled."""
    pooled = [one.pooled(1) for one in layers]
    shape = len(GROUPS), LAYERS

    def stacked(arrays: list[np.ndarray], axis: int) -> np.ndarray:
        found = np.stack(arrays, axis)
        return found.reshape(*found.shape[:axis], *shape, *found.shape[axis + 1 :])

    return Replicated(
        stacked([one.sums for one in pooled], 1),
        stacked([one.replicates for one in pooled], 2),
        stacked([one.documents for one in pooled], 1),
        stacked([one.effective for one in pooled], 1),
    )


def book_pooled(tally: Tally, groups: Replicated, tails: str) -> None:
    """Layers and models: all heads of a layer, or of a group's layers, together."""
    found = pooled_card(groups)
    for place, share in enumerate(FILTERS.values()):
        for group in range(1, len(GROUPS)):
            known, said = truths(tails, group, share), "all tokens" if share == 1 else "top 2%"
            for name in ("repaired_fraction", "fraction_norm"):
                tally.add(f"ratios of a layer, {said}", part(found.layers[name], np.s_[place, group]), known[name])
                tally.add(f"ratios of a model, {said}", part(found.model[name], np.s_[place, group]), known[name])
            for name in ("lost_direct_effect", "self_repair"):
                tally.add(f"means of a model, {said}", part(found.model[name], np.s_[place, group]), known[name])


def book_differences(tally: Tally, models: Replicated, earlier: Replicated | None, tails: str) -> None:
    """Differences of two models: on the same documents, and on others."""
    for place, share in enumerate(FILTERS.values()):
        one, other = pick(models, place, 1), pick(models, place, 2)
        first, second = truths(tails, 1, share), truths(tails, 2, share)
        pairs = {"paired": (one, True)} | ({} if earlier is None else {"not paired": (pick(earlier, place, 1), False)})
        for said, (beside, paired) in pairs.items():
            for kind, name in (("ratios", "repaired_fraction"), ("means", "self_repair")):
                change = difference(beside, other, name, paired=paired)
                tally.add(f"differences of {kind}, {said}", change, second[name] - first[name])


def pick(sums: Replicated, place: int, group: int) -> Replicated:
    """One cell."""
    return Replicated(
        sums.sums[place, group], sums.replicates[:, place, group], sums.documents[place, group],
        sums.effective[place, group],
    )  # fmt: skip


def book_curves(tally: Tally, pool: Pool, tails: str) -> None:
    """The curve of self-repair over direct effect."""
    curve = pool.curves.mean()
    for group in range(len(GROUPS)):
        known = truths(tails, group, 1.0)
        for place in range(BINS):
            cells = np.s_[place, group * LAYERS : (group + 1) * LAYERS]
            tally.add("curve over direct effect", part(curve, cells), known[f"curve {place}"])


def book_paper(tally: Tally, layers: list[dict], document: np.ndarray, tails: str) -> None:
    """Numbers of `selfrepair paper`: a ratio and a correlation over all tokens, of a head of each other group."""
    for group in range(1, len(GROUPS)):
        found = {name: values[0].astype(np.float64) for name, values in layers[group * LAYERS].items()}
        found["lost"] = found["direct_effect"] - found["ablated_direct_effect"]
        mine = tally_of(document, found | products("lost", "total_effect", found))
        known = truths(tails, group, 1.0)
        for kind, number, truth in (
            ("paper: ratios", mine.ratio("self_repair", "lost"), known["repaired_fraction"]),
            ("paper: correlations", mine.correlation("lost", "total_effect", "r"), -np.sqrt(known["r_squared"])),
        ):
            ends = (np.array([value]) for value in (number.value, np.nan, number.low, number.high))
            tally.add(kind, Estimate(*ends, np.array([number.documents])), truth)
