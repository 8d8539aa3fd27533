"""Chosen heads with their own output added at several scales, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from torch import Tensor

from selfrepair.ablation.sites import Head
from selfrepair.paper.experiments.self_gain.add_vector import Adder, adder_for
from selfrepair.paper.experiments.self_gain.scan_heads import (
    KINDS,
    OWN,
    Scan,
    about_scan,
    chosen_values,
    head_writes,
    vector,
)
from selfrepair.paper.inputs.corpus import CleanBatch, Corpus
from selfrepair.paper.numbers.over_documents import Tally, products
from selfrepair.run.planning.batch_size import tokens_of

SCALES = (1.0, 3.0, 5.0)
MOST_POINTS = 4000


@dataclass
class ScaleStudy:
    """Chosen heads with their own output and controls added at several scales.

    Attributes:
        about: model, tokens and documents, for captions.
        heads: the chosen heads.
        scales: factors of the added vectors.
        own_scale: whether `y` is taken with the intervened run's own final scale (the original recipe).
        tallies: sums by (head, kind, scale).
        points: rows of tokens of the own output, at most `MOST_POINTS` per head and scale.
    """

    about: str
    heads: tuple[Head, ...]
    scales: tuple[float, ...]
    own_scale: bool
    tallies: dict[tuple[Head, str, float], Tally] = field(default_factory=dict)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)


def choose_self_responding(scan: Scan) -> list[tuple[Head, str]]:
    """The heads that repress and reinforce themselves most beyond a random direction, with a label for each.

    They are taken from the half of the heads whose direct effect varies most. A head represses itself if its slope lies
    below 1 and below that of a random direction, both beyond their intervals; it reinforces itself if both lie above.
    Heads are ranked by the weaker of the two. If no head qualifies, the nearest is taken and labelled so.
    """
    heads = sorted({head for head, _ in scan.tallies})
    spread = {}
    for head in heads:
        tally = scan.tallies[head, OWN]
        spread[head] = tally.total("x x") - tally.total("x") ** 2 / max(tally.tokens, 1)
    middle = float(np.median(list(spread.values())))
    excess = {head: scan.excess(head) for head in heads if spread[head] >= middle}
    excess = {head: number for head, number in excess.items() if np.isfinite(number.value)}
    if not excess:
        return []
    slopes = {head: scan.slope(head) for head in excess}
    represses = {head: excess[head].high < 0 and slopes[head].high < 1 for head in excess}
    reinforces = {head: excess[head].low > 0 and slopes[head].low > 1 for head in excess}
    both = {head: (excess[head].value, slopes[head].value - 1) for head in excess}
    lowest = min(excess, key=lambda head: (not represses[head], max(both[head])))
    highest = max(excess, key=lambda head: (reinforces[head], min(both[head])))
    chosen = [(lowest, _called("represses", "repressing", represses[lowest]))]
    if highest != lowest:
        chosen.append((highest, _called("reinforces", "reinforcing", reinforces[highest])))
    return chosen


def _called(verb: str, participle: str, does: bool) -> str:
    return f"{verb} itself most" if does else f"closest to {participle} itself: no head does, beyond its interval"


def study_scales(corpus: Corpus, heads: Sequence[tuple[int, int]], scales: Sequence[float] = SCALES) -> ScaleStudy:
    """Own output and controls at several scales, run to the end for the final scale.

    Args:
        corpus: model and text.
        heads: (layer, head) pairs.
        scales: factors of the added vectors.
    """
    wanted = tuple(Head(*head) for head in heads)
    adder = adder_for(corpus.model, tokens_of(corpus.windows, np.arange(1), corpus.model)[:, :12])
    study = ScaleStudy(about_scan(corpus), wanted, tuple(scales), corpus.recipe.own_scale)
    rows: list[pd.DataFrame] = []
    with corpus.model.running():
        for batch in corpus.batches():
            for head in wanted:
                own = head_writes(corpus, batch.clean, head.layer)
                for kind in KINDS:
                    base = vector(corpus, own, batch.windows, head, kind)
                    for scale in scales:
                        rows.append(_add_scale(study, adder, batch, corpus, head, kind, scale, base))
    points = pd.concat(rows, ignore_index=True)
    study.points = points.groupby(["head", "scale"], group_keys=False).head(MOST_POINTS).reset_index(drop=True)
    return study


def _add_scale(
    study: ScaleStudy,
    adder: Adder,
    batch: CleanBatch,
    corpus: Corpus,
    head: Head,
    kind: str,
    scale: float,
    base: Tensor,
) -> pd.DataFrame:
    clean, mask = batch.clean, batch.scored
    added = adder.add(clean, head.layer, scale * base[None], to_the_end=True)
    assert added.sigma is not None
    directions = clean.head_directions[head.layer][:, :, head.head]
    effect = (added.outputs[0, :, :-1, head.head] * directions).sum(-1)
    ratio = clean.sigma / added.sigma[0, :, :-1]
    columns = {
        "x": chosen_values(clean.direct_effects(head.layer)[..., head.head], mask),
        "at clean scale": chosen_values(effect, mask),
        "at own scale": chosen_values(effect * ratio, mask),
        "ratio": chosen_values(1 / ratio, mask),
    }
    columns["y"] = columns["at own scale" if study.own_scale else "at clean scale"]
    tally = study.tallies.setdefault((head, kind, scale), Tally(corpus.documents, corpus.seed))
    sums = columns | products("x", "y", columns)
    for name in ("at clean scale", "at own scale"):
        sums[f"x {name}"] = columns["x"] * columns[name]
    tally.add(batch.documents[mask], sums)
    if kind != OWN:
        return pd.DataFrame()
    window, position = np.nonzero(mask)
    where = {"head": str(head), "scale": scale, "window": batch.windows[window], "position": position}
    return pd.DataFrame(where | {name: values.astype(np.float32) for name, values in columns.items()})
