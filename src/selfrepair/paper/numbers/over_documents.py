"""Numbers with intervals over documents, from sums that are kept per document and never per token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from selfrepair.paper.numbers.document_halves import half_of
from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.estimator import Scale
from selfrepair.statistics.fieller import per_token, ratio_interval
from selfrepair.statistics.intervals import interval

Array = npt.NDArray[np.float64]
Sums = Mapping[str, Array]
REPLICATES = 400
COUNT = "count"


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        name: its name in tables and claims.
        value: the number; NaN if there is nothing to measure it on.
        low: lower end of its 95% interval over documents; NaN with fewer than two, -inf for a ratio whose denominator
            may be zero.
        high: upper end.
        documents: documents it comes from.
        units: `logit`, or `1` for ratios and shares.
        exact: whether it is an identity or arithmetic, which other documents would not change: it has no interval.
    """

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    documents: int = 0
    units: str = "1"
    exact: bool = False

    @classmethod
    def of(cls, name: str, estimate: Estimate, units: str = "1") -> Number:
        """A single estimate under a name."""
        value, low, high = (float(part) for part in (estimate.value, estimate.low, estimate.high))
        return cls(name, value, low, high, int(estimate.documents), units)

    def __str__(self) -> str:
        unit = "" if self.units == "1" else f" {self.units}"
        between = "" if np.isnan(self.low) else f" ({self.low:.3g} to {self.high:.3g})"
        between = " (could be anything: the denominator may be zero)" if np.isinf(self.low) else between
        return f"{self.value:.3g}{between}{unit}{', exact' if self.exact else ''}"


def bootstrapped(
    name: str,
    function: Callable[[Sums], Array],
    sums: Sums,
    counts: np.ndarray,
    *,
    units: str = "1",
    seed: int = 0,
    scale: Scale = "plain",
    value: float | None = None,
) -> Number:
    """A function of sums over documents with its interval over documents.

    Args:
        name: the number's name.
        function: maps sums by column [..., cell] to values [...]; called with all replicates at once.
        sums: sums by column, [document, cell], or [document] if there is one cell.
        counts: [document], number of tokens.
        units: its units.
        seed: random seed for the bootstrap.
        scale: scale on which the interval is symmetric, see `statistics.intervals.interval`.
        value: the number, if it is known from more tokens than are in the sums.
    """
    weights = document_weights(len(counts), REPLICATES, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = function({column: np.asarray(table).sum(0) for column, table in sums.items()})
        replicates = np.asarray(function({column: bootstrap_all(table, weights) for column, table in sums.items()}))
    return from_replicates(
        name, float(observed if value is None else value), replicates, counts, units=units, scale=scale
    )


def from_replicates(
    name: str, value: float, replicates: np.ndarray, counts: np.ndarray, *, units: str = "1", scale: Scale = "plain"
) -> Number:
    """A number with the interval that its bootstrap replicates give; arguments as those of `bootstrapped`."""
    filled, effective = int(np.count_nonzero(counts)), float(effective_documents(counts))
    estimate = interval(np.asarray(value), np.asarray(replicates), filled, effective, scale=scale)
    return Number.of(name, estimate, units)


@dataclass
class Tally:
    """Columns summed per document; estimators are functions of the sums, so their bootstrap is exact.

    Attributes:
        documents: number of documents.
        seed: random seed for the bootstrap.
    """

    documents: int
    seed: int = 0
    _sums: dict[str, Array] = field(default_factory=dict)

    def add(self, document: np.ndarray, columns: Mapping[str, np.ndarray | float]) -> None:
        """Adds tokens.

        Args:
            document: [token], the document of each.
            columns: [token] values, or one value for all, by name.
        """
        for name, values in {COUNT: 1.0, **columns}.items():
            sums = self._sums.setdefault(name, np.zeros(self.documents))
            weights = np.broadcast_to(np.asarray(values, np.float64), np.shape(document))
            sums += np.bincount(document, weights, self.documents)

    @property
    def tokens(self) -> int:
        """Tokens added so far."""
        return int(self._sums[COUNT].sum()) if self._sums else 0

    @property
    def filled(self) -> int:
        """Documents that have tokens."""
        return int(np.count_nonzero(self._sums[COUNT])) if self._sums else 0

    def in_half(self, half: int) -> Tally:
        """The tally of one half of the documents, see `selfrepair.paper.numbers.document_halves`."""
        chosen = half_of(self.documents, half)
        return Tally(
            self.documents, self.seed, {name: np.where(chosen, values, 0.0) for name, values in self._sums.items()}
        )

    def total(self, name: str) -> float:
        """A column's sum."""
        return float(self._sums[name].sum()) if name in self._sums else 0.0

    def number(
        self,
        name: str,
        function: Callable[[Sums], Array],
        units: str = "1",
        scale: Scale = "plain",
        counted: str = COUNT,
    ) -> Number:
        """A function of the columns' sums with its interval over documents.

        Args:
            name: the number's name.
            function: maps sums by column, each [...], to values [...].
            units: the number's units.
            scale: see `bootstrapped`.
            counted: the column that counts its tokens.
        """
        if not self.tokens:
            return Number(name, float("nan"), units=units)
        return bootstrapped(name, function, self._sums, self._sums[counted], units=units, seed=self.seed, scale=scale)

    def mean(self, column: str, units: str = "1", name: str = "") -> Number:
        """Mean of a column over tokens."""
        return self.ratio(column, COUNT, units, name)

    def share(self, column: str, name: str = "", below: str = COUNT) -> Number:
        """Share of tokens (or of those that `below` counts) in which a 0-or-1 column is 1, or the mean of a column
        between 0 and 1; for its interval see `statistics.intervals`."""
        return self.number(name or column, lambda sums: quotient(sums[column], sums[below]), "1", "share", below)

    def ratio(self, above: str, below: str, units: str = "1", name: str = "") -> Number:
        """Ratio of two columns' sums; its interval is Fieller's, infinite if the denominator may be zero."""
        if below == COUNT:
            return self.number(name or above, lambda sums: quotient(sums[above], sums[below]), units)
        if not self.tokens:
            return Number(name or above, float("nan"), units=units)
        weights = document_weights(self.documents, REPLICATES, self.seed)
        sums = [self._sums[column] for column in (above, below, COUNT)]
        over, under, tokens = (sums_of_column.sum() for sums_of_column in sums)
        drawn_over, drawn_under, drawn = (bootstrap_all(sums_of_column, weights) for sums_of_column in sums)
        means, replicates = per_token((over, under), tokens), per_token((drawn_over, drawn_under), drawn)
        estimate = ratio_interval(means, replicates, self.filled, float(effective_documents(sums[-1])))
        return Number.of(name or above, estimate, units)

    def slope(self, x: str, y: str, name: str) -> Number:
        """Least-squares slope with intercept of `y` on `x`; needs columns `x x` and `x y`, see `products`."""
        return self.number(name, lambda sums: slope_of(sums, x, y))

    def correlation(self, x: str, y: str, name: str) -> Number:
        """Pearson's correlation; needs columns `x x`, `x y` and `y y`, see `products`. Its interval is symmetric in
        Fisher's z, and so lies within [-1, 1]."""

        def function(sums: Sums) -> Array:
            count = sums[COUNT]
            both = count * sums[f"{x} {y}"] - sums[x] * sums[y]
            spread = (count * sums[f"{x} {x}"] - sums[x] ** 2) * (count * sums[f"{y} {y}"] - sums[y] ** 2)
            return quotient(both, np.sqrt(np.maximum(spread, 0)))

        return self.number(name, function, scale="correlation")


def join_tallies(tallies: Mapping[str, Tally]) -> Tally:
    """One tally of several over the same documents, to compare them document by document.

    Args:
        tallies: tallies by label; a label's columns are named `label/column`, and tokens are counted as in the first.
    """
    first = next(iter(tallies.values()))
    sums = {f"{label}/{name}": values for label, tally in tallies.items() for name, values in tally._sums.items()}
    return Tally(first.documents, first.seed, ({COUNT: first._sums[COUNT]} if first._sums else {}) | sums)


def slope_of(sums: Sums, x: str, y: str, label: str = "") -> Array:
    """Least-squares slope with intercept from sums; those of one label of a joined tally, if given."""
    start = f"{label}/" if label else ""
    count, xs, ys = sums[start + COUNT], sums[start + x], sums[start + y]
    return quotient(count * sums[f"{start}{x} {y}"] - xs * ys, count * sums[f"{start}{x} {x}"] - xs**2)


def whiskers(numbers: Sequence[Number]) -> Array:
    """Whiskers of 95% intervals, [2, number], below and above the values; zero without an interval.

    An infinite one, of a ratio whose denominator may be zero, is three times as long as all that is finite is high.
    """
    values, low, high = (
        np.array([getattr(number, end) for number in numbers], float) for end in ("value", "low", "high")
    )
    ends = np.concatenate([values, low, high])
    finite = ends[np.isfinite(ends)]
    far = 3 * float(np.ptp(finite)) if finite.size and np.ptp(finite) > 0 else 1.0
    return np.asarray(np.nan_to_num(np.stack([values - low, high - values]), posinf=far))


def products(x: str, y: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns that a slope of `y` on `x` and their correlation need, besides the two themselves."""
    return {f"{a} {b}": columns[a] * columns[b] for a, b in ((x, x), (x, y), (y, y))}


def quotient(above: Array, below: Array) -> Array:
    """The ratio; 0/0 and x/0 are NaN."""
    return np.asarray(above / np.where(below == 0, np.nan, below))


def tally_of(document: np.ndarray, columns: Mapping[str, np.ndarray]) -> Tally:
    """A tally of tokens held in memory; documents may be numbered in any way."""
    _, document_index = np.unique(document, return_inverse=True)
    tally = Tally(int(document_index.max(initial=-1)) + 1)
    tally.add(document_index, columns)
    return tally


def quantiles_apart(
    name: str, values: np.ndarray, document: np.ndarray, shares: tuple[float, float | None], units: str = "1"
) -> Number:
    """A quantile of tokens' values, or how far two are apart, with its interval over documents.

    Args:
        name: the number's name.
        values: [token].
        document: [token], the document of each.
        shares: the upper quantile and the lower one to take from it; None for the upper alone.
        units: its units.
    """
    if not len(values):
        return Number(name, float("nan"), units=units)
    order = np.argsort(values, kind="stable")
    ranked = np.asarray(values, np.float64)[order]
    _, document_index = np.unique(document, return_inverse=True)
    counts = np.bincount(document_index)
    weights = document_weights(len(counts), REPLICATES, 0)

    def difference(quantile: Callable[[float], Array]) -> Array:
        upper, lower = shares
        return np.asarray(quantile(upper) - (0.0 if lower is None else quantile(lower)))

    copies = np.cumsum(weights[:, document_index[order]], axis=1)

    def of_replicates(share: float) -> Array:
        below = (copies < share * copies[:, -1:]).sum(1)
        return np.asarray(ranked[np.minimum(below, len(ranked) - 1)])

    value = difference(lambda share: np.asarray(np.quantile(ranked, share)))
    return from_replicates(name, float(value), difference(of_replicates), counts, units=units)
