"""Intervals from bootstrap replicates, and sums that carry their replicates with them.

Interval: `value ± t(E - 1) se`, with `se = sqrt(E / (E - 1))` times the standard deviation of the replicates and E
the *effective* number of documents (`bootstrap.effective_documents`). It was chosen by simulation, on corpora whose
tokens are correlated (0.1 to 0.3) within documents of unequal size, about 100 tokens each. `docs/coverage.md` has what
it covers for every kind of number: mostly 93 to 97%, more with 5 or 10 documents, where intervals that take tokens for
independent hold the truth 27 to 70% of the time. Percentile, basic and normal intervals, and t with the plain number
of documents, fall to 84 to 92% where a filter crowds its tokens into few documents. It covers too rarely for the mean
direct effect of the very tokens chosen by it (91 to 95%), and with heavy tails: where direct effects themselves are
Student's t with 3 degrees of freedom, filtered means are held 79 to 92% of the time. Few documents decide such a mean,
and the corpus does not show whether it holds them; correcting for skewness (Hall, Johnson) did not help in
simulations. Ratios have intervals of their own (`fieller`); shares and correlations some that stay within their bounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import norm as normal
from scipy.stats import t as student

from selfrepair.statistics.estimates import LEVEL, Estimate, worth
from selfrepair.statistics.estimator import Estimator, Scale
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import FEATURES, INDEX, Array
from selfrepair.statistics.fieller import per_token, ratio_interval

_NO_SPREAD = 1e-9  # a standard error below this is rounding: all documents agree
_ALMOST_ONE = 1 - 1e-12  # a correlation of 1, where Fisher's z is infinite


def interval(
    value: np.ndarray,
    replicates: np.ndarray,
    documents: np.ndarray | int,
    effective: np.ndarray | float | None = None,
    level: float = LEVEL,
    scale: Scale = "plain",
) -> Estimate:
    """A number's document-level standard error and interval.

    Args:
        value: [...], the number on the corpus itself.
        replicates: [replicate, ...], the number in each bootstrap replicate; NaN ones (0/0) are left out, and where
            they are more than half there is no error.
        documents: [...] or one number, the documents that have tokens here.
        effective: [...] or one number, the documents they amount to; without it, `documents`.
        level: coverage of the interval.
        scale: on which it is symmetric: as it is (`plain`); Fisher's z for a `correlation`, and for the root of a
            `squared correlation`; the logarithm for a `size`, which is above zero; for a `share`, see `_wilson`.

    Returns:
        The estimate; error and interval are NaN with fewer than two documents.
    """
    value = np.asarray(value, np.float64)
    count = np.broadcast_to(np.asarray(documents, np.int64), value.shape)
    several = np.where(count > 1, worth(count, effective), np.nan)
    missing = np.isnan(replicates).mean(axis=0) > 0.5
    replicates = np.asarray(replicates, np.float64)

    def error_of(replicates: Array) -> Array:
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            spread = np.nanstd(replicates, axis=0, ddof=1)
        return np.where(missing | np.isnan(value), np.nan, spread * np.sqrt(several / (several - 1)))

    error = error_of(replicates)
    quantile = student.ppf((1 + level) / 2, several - 1)
    if scale == "share":
        low, high = _wilson(value, replicates, error, several, quantile, level)
    elif scale == "plain":
        low, high = value - error * quantile, value + error * quantile
    else:
        forward, back = _SCALES[scale]
        with np.errstate(divide="ignore", invalid="ignore"):
            half, middle = error_of(forward(replicates)) * quantile, forward(value)
            low, high = back(middle - half), back(middle + half)
    return Estimate(value, error, low, high, count)


def _wilson(
    value: Array, replicates: Array, error: Array, several: Array, quantile: Array, level: float
) -> tuple[Array, Array]:
    """Wilson's interval of a share, for tokens that come in documents; it lies within [0, 1].

    Its number of trials is what the bootstrap error amounts to, `m (1 - m) / se^2`, m the replicates' mean, and its
    quantile Student's with the effective documents E less one (Korn and Graubard, Survey Methodology 24 (1998) 193,
    with Wilson's interval for the binomial). Tokens of one document are worth no less than one of them would be: where
    it is wider than with each effective document as one trial, this takes its place. So it does where every replicate
    is the same, as at shares of 0 and 1, and resampling shows no spread: a share of 1 then lies between E / (E + 3.84)
    and 1.

    Args:
        value: the share, [...].
        replicates: [replicate, ...].
        error: its standard error, [...]; where it is NaN there is no interval.
        several: what its documents amount to, [...].
        quantile: Student's, [...].
        level: coverage of the interval.
    """
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.nanmean(replicates, axis=0)
        same = error < _NO_SPREAD
        trials = np.where(same, 0.0, middle * (1 - middle) / np.where(same, 1, error) ** 2)
        # trials over the squared quantile: all that the interval goes by
        strength = np.maximum(trials / quantile**2, several / normal.ppf((1 + level) / 2) ** 2)
        centre = (value + 0.5 / strength) / (1 + 1 / strength)
        half = np.sqrt(value * (1 - value) / strength + 0.25 / strength**2) / (1 + 1 / strength)
    unknown = np.isnan(error)
    low, high = np.where(value > 0, centre - half, 0.0), np.where(value < 1, centre + half, 1.0)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _fisher(values: Array) -> Array:
    return np.asarray(np.arctanh(np.clip(values, -_ALMOST_ONE, _ALMOST_ONE)))


def _fisher_of_root(values: Array) -> Array:
    return _fisher(np.sqrt(np.clip(values, 0, 1)))


def _square_of_tanh(values: Array) -> Array:
    return np.asarray(np.tanh(np.maximum(values, 0)) ** 2)


_SCALES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "correlation": (_fisher, np.tanh),
    "squared correlation": (_fisher_of_root, _square_of_tanh),
    "size": (np.log, np.exp),
}


@dataclass(frozen=True)
class Replicated:
    """Sums of features with their bootstrap replicates: a head's, a layer's or a model's, under one filter.

    Args:
        sums: [..., feature], on the corpus itself.
        replicates: [replicate, ..., feature]; replicate b of every cell has the same document weights.
        documents: int [...], documents that have tokens here.
        effective: [...], the documents they amount to.
        effective_of_known: [...], the documents that numbers amount to which owe nothing to the exact part
            (`Estimator.known`), if sums are estimated in two phases. Shares then vary by more than tokens that have
            something or not, so that their interval is no narrower than that of any mean, within [0, 1].
    """

    sums: Array
    replicates: Array
    documents: npt.NDArray[np.int64]
    effective: Array
    effective_of_known: Array | None = None

    def __post_init__(self) -> None:
        cells = self.sums.shape[:-1]
        shapes = (self.replicates.shape[1:], np.shape(self.documents), np.shape(self.effective))
        if self.sums.shape[-1] != len(FEATURES) or shapes != (self.sums.shape, cells, cells):
            raise ValueError(f"sums {self.sums.shape} do not match replicates, documents and effective {shapes}")

    def estimate(self, estimator: Estimator | str) -> Estimate:
        """The estimator's value, error and interval, each [...]; a ratio's interval is Fieller's."""
        chosen = ESTIMATORS[estimator] if isinstance(estimator, str) else estimator
        effective = self.effective if self.effective_of_known is None or not chosen.known else self.effective_of_known
        if chosen.parts is not None:
            means, replicates = (
                per_token(chosen.parts(sums), sums[..., INDEX["count"]]) for sums in (self.sums, self.replicates)
            )
            return ratio_interval(means, replicates, self.documents, effective)
        value, resampled = chosen(self.sums), chosen(self.replicates)
        found = interval(value, resampled, self.documents, effective, scale=chosen.scale)
        if self.effective_of_known is not None and chosen.scale == "share":
            plain = interval(value, resampled, self.documents, effective)
            low, high = np.minimum(found.low, plain.low), np.maximum(found.high, plain.high)
            return replace(found, low=np.clip(low, 0, 1), high=np.clip(high, 0, 1))
        return found

    @classmethod
    def stacked(cls, parts: Sequence[Replicated], axis: int) -> Replicated:
        """Cells of several along a new axis."""
        known = [part.effective_of_known for part in parts if part.effective_of_known is not None]
        return cls(
            np.stack([part.sums for part in parts], axis),
            np.stack([part.replicates for part in parts], axis + 1),
            np.stack([part.documents for part in parts], axis),
            np.stack([part.effective for part in parts], axis),
            np.stack(known, axis) if known else None,
        )

    def cells(self, *index: int | Array | npt.NDArray[np.int64]) -> Replicated:
        """Some of the cells, by indices of their axes."""
        return Replicated(
            self.sums[index],
            self.replicates[(slice(None), *index)],
            self.documents[index],
            self.effective[index],
            None if self.effective_of_known is None else self.effective_of_known[index],
        )

    def pooled(self, *axes: int) -> Replicated:
        """All cells along `axes` as one (all cells, if none is named): sums add up, replicate by replicate.

        The pooled cell counts as many documents as its largest, and as many effective ones as its cells have on
        average (by tokens), which errs on the wide side: different heads' tokens crowd into different documents.
        """
        places = axes or tuple(range(self.documents.ndim))
        tokens = self.sums[..., INDEX["count"]]
        below = tokens.sum(axis=places)

        def on_average(effective: Array) -> Array:
            finite = np.where(np.isnan(effective), 1.0, effective)  # a cell without an interval has next to none
            return np.asarray((finite * tokens).sum(axis=places) / np.where(below == 0, 1, below))

        return Replicated(
            self.sums.sum(axis=places),
            self.replicates.sum(axis=tuple(axis + 1 for axis in places)),
            np.asarray(self.documents.max(axis=places)),
            on_average(self.effective),
            None if self.effective_of_known is None else on_average(self.effective_of_known),
        )
