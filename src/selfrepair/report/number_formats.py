"""Numbers as tables print them: a value and its 95% interval, with no more digits than the interval supports."""

from __future__ import annotations

import math
from collections.abc import Mapping

from selfrepair.statistics.estimators import ESTIMATORS

DASH = "–"
UNBOUNDED = "unbounded"
SMALLEST = 1e-9  # smaller sizes are nothing but rounding, and are shown alike
_WIDEST = 1e5  # larger numbers are written with an exponent, so that a column stays narrow


def known(value: object) -> bool:
    """Whether a value is a number; NaN and None are not, infinity is."""
    return isinstance(value, float | int) and not math.isnan(value)


def leaves_out_zero(low: object, high: object) -> bool:
    """Whether an interval lies on one side of zero; without an interval, no."""
    return isinstance(low, float | int) and isinstance(high, float | int) and (low > 0 or high < 0)


def signed(value: object, digits: int = 3) -> str:
    """`+0.123`; a dash where there is no number."""
    if not isinstance(value, float | int) or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    rounded = round(value, digits) + 0.0  # no -0.000
    return f"{rounded:+.{digits}f}" if abs(rounded) < _WIDEST else f"{value:+.1e}"


def has_ends(low: object, high: object) -> bool:
    """Whether both ends of an interval are known and finite; a share's are not where its denominator may be zero."""
    return all(isinstance(end, float | int) and math.isfinite(end) for end in (low, high))


def percent(value: object, digits: int = 0) -> str:
    """`45%`; a dash where there is no number."""
    if not isinstance(value, float | int) or math.isnan(value):
        return DASH
    return f"{_share(value, digits)}%"


def small(value: object) -> str:
    """A size that should be near zero, such as a residual: `3.2e-06`, or `< 1e-09`."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if not abs(value) < SMALLEST else f"< {SMALLEST:.0e}"


def brief(value: float) -> str:
    """A number to three digits; 0 if it is rounding alone."""
    return "0" if abs(value) < SMALLEST else f"{value:.3g}"


def effect(value: object, low: object, high: object) -> tuple[str, str]:
    """A mean in logits and its interval, to two digits of the half-width: `+4.842` and `[+2.12, +7.31]`."""
    digits = _telling(low, high, max(2, _digits(low, high) + 1))
    return signed(value, max(3, digits - 1)), _interval(signed(low, digits), signed(high, digits), low, high)


def share(value: object, low: object, high: object) -> tuple[str, str]:
    """A share and its interval: `50%` and `[38, 63]`, decimals where the half-width is below 5 points."""
    if not isinstance(low, float | int) or not isinstance(high, float | int):
        return percent(value), _interval("", "", low, high)
    digits = _telling(100 * low, 100 * high, max(0, _digits(2 * low, 2 * high) - 1))
    return percent(value, digits), _interval(_share(low, digits), _share(high, digits), low, high)


def estimate(name: str, value: object, low: object, high: object, *, change: bool = False) -> tuple[str, str]:
    """A number by its estimator's name in the units that tables use, and its interval.

    Args:
        name: a name in `statistics.estimators.ESTIMATORS`.
        value: the number.
        low: lower end of its interval.
        high: upper end.
        change: whether it is a difference of two such numbers; those of percentages are points.
    """
    if not in_percent(name):
        return effect(value, low, high)
    text, interval = share(value, low, high)
    if not change:
        return text, interval
    return (f"{'+' if known(value) and float(str(value)) >= 0 else ''}{text.removesuffix('%')} points"), interval


def in_percent(name: str) -> bool:
    """Whether a number is a share, written in per cent: of lost direct effect, of direct effect, or of tokens."""
    return name in ESTIMATORS and ESTIMATORS[name].in_percent


def of_row(row: Mapping[str, object], name: str) -> tuple[str, str]:
    """A number of a row and its interval, in the units of `estimate`."""
    return estimate(name, row[name], row[f"{name}_low"], row[f"{name}_high"])


def units(name: str) -> str:
    """Units as headings name them."""
    return "%" if in_percent(name) else {"1": "no unit"}.get(ESTIMATORS[name].units, ESTIMATORS[name].units)


def _share(value: object, digits: int) -> str:
    if not isinstance(value, float | int) or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    rounded = round(100 * value, digits) + 0.0
    return f"{rounded:.{digits}f}" if abs(rounded) < _WIDEST else f"{100 * value:.1e}"


def _digits(low: object, high: object) -> int:
    """Decimals that show the first digit of an interval's half-width, at most 5; 0 without an interval."""
    if not (isinstance(low, float | int) and isinstance(high, float | int) and math.isfinite(high - low)):
        return 0
    half = (high - low) / 2
    return 0 if half <= 0 else min(5, -math.floor(math.log10(half)))


def _telling(low: object, high: object, digits: int) -> int:
    """Decimals at which no end that is above or below zero looks like zero, three more at most."""
    ends = [end for end in (low, high) if isinstance(end, float | int) and math.isfinite(end) and end != 0]
    enough = (more for more in range(digits, digits + 3) if all(round(end, more) != 0 for end in ends))
    return next(enough, digits)


def _interval(below: str, above: str, low: object, high: object) -> str:
    if not (isinstance(low, float | int) and isinstance(high, float | int)) or math.isnan(low) or math.isnan(high):
        return f"[{DASH}]"
    return UNBOUNDED if math.isinf(low) and math.isinf(high) else f"[{below}, {above}]"
