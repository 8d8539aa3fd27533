"""The page of coverages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from simulation.corpora import TAILS
from simulation.measured import Tally

LOW, HIGH = 0.93, 0.97
WITHOUT, FACTOR = "share without ends", "standard error at the stop, over that asked for"
INTRODUCTION = """# What the intervals cover

Every interval that the package prints is a 95% interval over documents. How often do they hold the true number? Here on
simulated corpora whose answers are known, measured by the package's own accounting, merging and statistics
(`python benchmarks/coverage.py` writes this page). Documents are of unequal size, about 100 tokens each; a fifth
of the variance of direct effects and of the noise belongs to documents, half of that shared by all heads. *Light* tails
are normal. With *heavy noise*, all that is added to self-repair and to lines, by documents and by tokens, is Student's
t with three degrees of freedom; with *heavy everything* direct effects are so too. Percentages with their simulation
error; **bold** where coverage is clearly outside 93 to 97%.

* A ratio's interval has no ends if its denominator may be zero: it is printed in brackets, and holds any truth. Of
  those whose denominator *is* next to zero, few have ends; read these with care, since they arise by chance.
* The largest repairer's interval allows for the choice among 110 components, and covers more than 95% if many are
  alike.
* Intervals at every look of a run that stops early hold jointly; at the stop its standard error is smaller than the
  one asked for, by the factor in the last row.

"""


class Coverage(NamedTuple):
    """A share of intervals that held the truth, and its simulation error."""

    share: float
    error: float

    @property
    def outside(self) -> bool:
        """Whether it lies outside 93 to 97%, by more than two simulation errors."""
        return self.share + 2 * self.error < LOW or self.share - 2 * self.error > HIGH


def coverage(tally: Tally, kind: str) -> Coverage | None:
    """Of one kind of number; None where there was none."""
    held = np.array(tally.held.get(kind, ()))
    if not len(held):
        return None
    error = held.std(ddof=1) / np.sqrt(len(held)) if len(held) > 1 else np.nan
    return Coverage(float(held.mean()), float(error))


def is_coverage(kind: str) -> bool:
    """Whether a row counts intervals that held the truth, not something else."""
    return WITHOUT not in kind and kind != FACTOR


def page(found: Mapping[tuple[int, str], Tally]) -> str:
    """The page in Markdown, a table for each kind of tail."""
    sizes = sorted({documents for documents, _ in found})
    kinds = sorted({kind for tally in found.values() for kind in tally.held})
    parts = [INTRODUCTION]
    for tails in TAILS:
        parts.append(f"## {tails[0].upper()}{tails[1:]}{' tails' if tails == 'light' else ''}\n\n")
        parts.append(f"| 95% interval of | {' | '.join(f'{size} documents' for size in sizes)} |\n")
        parts.append(f"|---|{'---:|' * len(sizes)}\n")
        for kind in kinds:
            cells = [_cell(coverage(found[size, tails], kind), kind) for size in sizes if (size, tails) in found]
            parts.append(f"| {_said(kind)} | {' | '.join(cells)} |\n")
        parts.append("\n")
    return "".join(parts) + exceptions(found)


def exceptions(found: Mapping[tuple[int, str], Tally]) -> str:
    """Which numbers cover too rarely, in a sentence for each kind of tail."""
    lines = ["## Where intervals cover less than 93%\n\n"]
    for tails in TAILS:
        low: dict[str, list[str]] = {}
        for (documents, these), tally in sorted(found.items()):
            for kind in tally.held:
                one = coverage(tally, kind)
                if these == tails and one and one.share + 2 * one.error < LOW and is_coverage(kind):
                    low.setdefault(kind, []).append(f"{100 * one.share:.0f}% at {documents}")
        said = "; ".join(f"{kind} ({', '.join(where)} documents)" for kind, where in sorted(low.items()))
        lines.append(f"* {tails}: {said or 'none'}.\n")
    return "".join(lines)


def _said(kind: str) -> str:
    return kind if is_coverage(kind) else f"*{kind}*"


def _cell(one: Coverage | None, kind: str) -> str:
    if one is None:
        return "–"
    if kind == FACTOR:
        return f"{one.share:.2f} ± {one.error:.2f}"
    said = f"{100 * one.share:.1f} ± {100 * one.error:.1f}"
    return f"**{said}**" if one.outside and is_coverage(kind) else said
