"""Numbers with intervals over documents, from sums that are kept per document and never per token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from selfrepair.statistics.bootstrap import bootstrap_all, document_weights, effective_documents
from selfrepair.statistics.estimates import Estimate
from selfrepair.statistics.intervals import interval

Array = npt.NDArray[np.float64]
REPLICATES = 400
COUNT = "count"


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        name: what it is called in tables and claims.
        value: the number; NaN where there is nothing to measure it on.
        low: lower end of its 95% interval over documents; NaN with fewer than two.
        high: upper end.
        documents: documents it comes from.
        units: `logit`, or `1` for ratios and shares.
    """

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    documents: int = 0
    units: str = "1"

    @classmethod
    def of(cls, name: str, estimate: Estimate, units: str = "1") -> Number:
        """A single estimate under a name."""
        value, low, high = (float(part) for part in (estimate.value, estimate.low, estimate.high))
        return cls(name, value, low, high, int(estimate.documents), units)

    def __str__(self) -> str:
        unit = "" if self.units == "1" else f" {self.units}"
        between = "" if np.isnan(self.low) else f" ({self.low:.3g} to {self.high:.3g})"
        return f"{self.value:.3g}{between}{unit}"


@dataclass
class Tally:
    """Columns summed per document; estimators are functions of the sums, so their bootstrap is exact.

    Attributes:
        documents: how many documents there are.
        seed: of the bootstrap.
    """

    documents: int
    seed: int = 0
    _sums: dict[str, Array] = field(default_factory=dict)

    def add(self, document: np.ndarray, columns: Mapping[str, np.ndarray | float]) -> None:
        """Adds tokens.

        Args:
            document: [token], the document of each.
            columns: by name, [token] values or one value for all.
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

    def total(self, name: str) -> float:
        """A column's sum."""
        return float(self._sums[name].sum()) if name in self._sums else 0.0

    def number(self, name: str, function: Callable[[Mapping[str, Array]], Array], units: str = "1") -> Number:
        """A function of the columns' sums with its interval over documents.

        Args:
            name: what to call it.
            function: from sums by column, each [...], to values [...].
            units: its units.
        """
        if not self.tokens:
            return Number(name, float("nan"), units=units)
        names = list(self._sums)
        table = np.stack([self._sums[column] for column in names], -1)
        weights = document_weights(self.documents, REPLICATES, self.seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = function(dict(zip(names, table.sum(0), strict=True)))
            replicates = function(dict(zip(names, np.moveaxis(bootstrap_all(table, weights), -1, 0), strict=True)))
        counts = self._sums[COUNT]
        estimate = interval(np.asarray(value), np.asarray(replicates), self.filled, effective_documents(counts))
        return Number.of(name, estimate, units)

    def mean(self, column: str, units: str = "1", name: str = "") -> Number:
        """Mean of a column over tokens."""
        return self.ratio(column, COUNT, units, name)

    def share(self, column: str, name: str = "", below: str = COUNT) -> Number:
        """Share of tokens (or of those that `below` counts) in which a 0-or-1 column is 1; its interval ends at 0 and
        1."""
        found = self.ratio(column, below, name=name or column)
        return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))

    def ratio(self, above: str, below: str, units: str = "1", name: str = "") -> Number:
        """Ratio of two columns' sums."""
        return self.number(name or above, lambda sums: divide(sums[above], sums[below]), units)

    def slope(self, x: str, y: str, name: str) -> Number:
        """Least-squares slope with intercept of `y` on `x`; needs columns `x x` and `x y`, see `products`."""

        def function(sums: Mapping[str, Array]) -> Array:
            count = sums[COUNT]
            return divide(count * sums[f"{x} {y}"] - sums[x] * sums[y], count * sums[f"{x} {x}"] - sums[x] ** 2)

        return self.number(name, function)

    def correlation(self, x: str, y: str, name: str) -> Number:
        """Pearson's correlation; needs columns `x x`, `x y` and `y y`, see `products`."""

        def function(sums: Mapping[str, Array]) -> Array:
            count = sums[COUNT]
            both = count * sums[f"{x} {y}"] - sums[x] * sums[y]
            spread = (count * sums[f"{x} {x}"] - sums[x] ** 2) * (count * sums[f"{y} {y}"] - sums[y] ** 2)
            return divide(both, np.sqrt(np.maximum(spread, 0)))

        return self.number(name, function)


def products(x: str, y: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns that a slope of `y` on `x` and their correlation need, besides the two themselves."""
    return {f"{a} {b}": columns[a] * columns[b] for a, b in ((x, x), (x, y), (y, y))}


def divide(above: Array, below: Array) -> Array:
    """The ratio; 0/0 and x/0 are NaN."""
    return np.asarray(above / np.where(below == 0, np.nan, below))


def tally_of(document: np.ndarray, columns: Mapping[str, np.ndarray]) -> Tally:
    """A tally of tokens that are at hand already; documents may be numbered in any way."""
    _, place = np.unique(document, return_inverse=True)
    tally = Tally(int(place.max(initial=-1)) + 1)
    tally.add(place, columns)
    return tally
