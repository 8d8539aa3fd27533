"""Made-up sweeps over documents of unequal size whose tokens are correlated, booked and merged as a real run's are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from selfrepair.run.gathering.all_texts import Pool, pool_of
from selfrepair.run.gathering.one_text import MeasuredText
from selfrepair.run.planning.job import Design
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.unit.sums import UnitSums
from selfrepair.run.unit.thresholds import KEEP
from selfrepair.statistics.accumulate import TokenEffects
from selfrepair.statistics.curves import bin_edges
from selfrepair.statistics.filters import all_thresholds
from selfrepair.statistics.keep_limits import keep_thresholds
from selfrepair.text import Windows

TAILS = ("light", "heavy noise", "heavy everything")
CORRELATION, SPREAD, TOKENS = 0.2, 0.6, 100  # within documents; of the logarithm of their sizes; their mean size
REPLICATES, BINS = 200, 5
Draw = Callable[..., np.ndarray]


def noise(rng: np.random.Generator, heavy: bool) -> Draw:
    """Draws of variance 1: Student's t with 3 degrees of freedom where tails are heavy, else normal ones."""
    if heavy:
        return lambda *shape: rng.standard_t(3, shape).astype(np.float32) / np.float32(np.sqrt(3))
    return lambda *shape: rng.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Group:
    """Heads alike: the mean of their direct effects (whose standard deviation is 1), the share of lost ones that is
    repaired, and what MLPs add whatever is lost."""

    level: float
    repaired: float
    besides: float = 0.0


GROUPS = (Group(0.05, 0.3, 0.1), Group(0.25, 0.35), Group(0.5, 0.4), Group(1.0, 0.45))
SHARES = {"repair_heads": 0.2, "repair_mlps": 0.6, "repair_norm": 0.2}


def quantities(
    rng: np.random.Generator, tails: str, group: Group, heads: int, document: np.ndarray
) -> dict[str, np.ndarray]:
    """Effects of some heads on tokens of these documents, by name [head, token]; half of what a document does to its
    tokens it does for all heads."""
    documents = int(document.max()) + 1
    own, of_effect = noise(rng, tails != "light"), noise(rng, tails == "heavy everything")

    def correlated(draw: Draw) -> np.ndarray:
        level = np.sqrt(0.5) * (draw(1, documents) + draw(heads, documents))
        both = np.sqrt(CORRELATION) * level[:, document] + np.sqrt(1 - CORRELATION) * draw(heads, len(document))
        return both.astype(np.float32)

    effect = group.level + correlated(of_effect)
    ablated = 0.1 * effect + 0.1 * own(heads, len(document))
    lost = effect - ablated
    repaired = group.repaired + 0.2 * own(heads, documents)[:, document]
    found = {"direct_effect": effect, "ablated_direct_effect": ablated}
    found |= {name: np.zeros_like(effect) for name in ("repair_mixers", "repair_post_norms")}
    found |= {name: share * repaired * lost + 0.3 * correlated(own) for name, share in SHARES.items()}
    found["repair_mlps"] += group.besides
    found["self_repair"] = found["repair_heads"] + found["repair_mlps"] + found["repair_norm"]
    found["total_effect"] = found["self_repair"] - lost
    found["sigma_ratio"] = 1 + 0.1 * own(heads, len(document))
    return found


def documents_of(rng: np.random.Generator, documents: int) -> np.ndarray:
    """The document of every token of a corpus, [token]."""
    sizes = TOKENS * np.exp(SPREAD * rng.normal(size=documents) - SPREAD**2 / 2)
    return np.repeat(np.arange(documents), np.maximum(sizes.astype(int), 8))


def design_of(rng: np.random.Generator, document: np.ndarray, filters: Sequence[str], shape: tuple[int, int],
              components: str, replicates: int = REPLICATES) -> Design:  # fmt: skip
    """A run over these tokens, all in one window."""
    tokens = rng.integers(0, 50_000, (1, len(document) + 1))
    owners = np.append(document, document[-1])[None]
    windows = Windows(tokens, np.array([tokens.size]), owners, tuple(map(str, np.unique(document))), {})
    plan = {
        "heads": [(layer, head) for layer in range(shape[0]) for head in range(shape[1])],
        "interventions": None,
        "filters": list(filters),
        "components": components,
        "model": {"layers": shape[0], "heads": shape[1], "dtype": "float32"},
        "text": {"fingerprint": "", "first_position": 0, "scored_tokens": len(document)},
        "ablation": {"draws": 1, "positions": "all"},
        "until": None,
        "phases": None,
        "sample": 0,
        "seed": int(rng.integers(2**31)),
        "replicates": replicates,
        "windows_per_unit": 1,
    }
    return Design(plan, windows, np.zeros((1, 1), int))


def pool_from(design: Design, chunks: Sequence[TokenEffects], effects: np.ndarray) -> Pool:
    """What merging makes of a sweep.

    Args:
        design: the run.
        chunks: its effects.
        effects: direct effects of all heads, [layer, head, token], which the survey would find.
    """
    kept = keep_thresholds(design.filters, effects, design.documents[design.scored])
    surveyed = {
        "thresholds": all_thresholds(design.filters, effects),
        "curve_edges": bin_edges(effects, BINS),
    } | {f"{KEEP}{kind}": limits for kind, limits in kept.items()}
    book = UnitSums(design, 0, surveyed)  # type: ignore[arg-type]
    for chunk in chunks:
        book.add(chunk)
    unit = Unit(0, arrays=book.arrays())
    return pool_of(MeasuredText(design, Unit(0, arrays=surveyed), [unit], None))  # type: ignore[arg-type]


def chunk_of(layer: int, found: dict[str, np.ndarray], **lines: np.ndarray) -> TokenEffects:
    """Effects of a layer's heads, [head, token], as the sweep hands them over."""
    heads = len(found["direct_effect"])
    each = {name: values.astype(np.float32)[:, None] for name, values in found.items()}
    return TokenEffects(layer, np.arange(heads), np.zeros(1, int), each, **{n: v[:, None] for n, v in lines.items()})
