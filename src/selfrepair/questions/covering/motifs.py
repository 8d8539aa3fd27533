"""By which motif a component covers: a dormant backup wakes up, a suppressor lets go, or the other way round.

For a component's line x (positive where it repairs) and its clean direct effect b, counted in the same direction, per
prompt and then averaged (signs differ between prompts):

    anti-erasure = min(x, -b) if x > 0 > b     what a suppressor no longer takes away
    backup       = max(x, 0) - anti-erasure    what is written that was not there before
    breakage     = min(x, 0)                   what is lost besides

They add up to x. Labels go by the means of b, x and b + x. Where prompts differ so much that b's mean may have either
sign, they go by the prompts that the line comes from: a suppressor is what has most of its line, whatever prompts are
drawn, from prompts in which it wrote against the answer. A suppressor that crosses zero books up to -b as anti-erasure
and the rest as backup; it is one component that turned round, and is labelled so. It is labelled `re-aimed` where more
than half of that comes of attending elsewhere, which `selfrepair.questions.paths.attention_split` tells
(`refine_labels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.statistics.estimates import Array, Estimate

MOTIFS = ("anti_erasure", "backup", "breakage")
LABELS = {
    "backup": "writes the answer more than before",
    "suppressor released": "wrote against the answer, and does so less",
    "suppressor turned": "wrote against the answer, and writes for it now",
    "suppressor re-aimed": "wrote against the answer, and writes for it now because it attends elsewhere",
    "breakage": "writes the answer less than before",
    "mixed": "repairs, now where it wrote for the answer and now where it wrote against it",
    "unsure": "its line may be zero",
}
_DEAD_ZONE = 2.0  # standard errors within which a sign is not believed
_MOST = 0.5  # more than half: of QK in a head that is re-aimed, of the line that tells a suppressor
_ASLEEP = 0.25  # share of its line that the clean direct effect of a dormant backup may be


class Motifs(NamedTuple):
    """Parts of lines, each of the lines' shape."""

    anti_erasure: Array
    backup: Array
    breakage: Array


def motifs(lines: np.ndarray, clean: np.ndarray, sign: float) -> Motifs:
    """Splits lines by motif.

    Args:
        lines: changes of direct effects, [..., prompt, component].
        clean: clean direct effects, [prompt, component].
        sign: +1 where writing more of the readout repairs, -1 where writing less does.
    """
    x, b = sign * np.asarray(lines, np.float64), sign * np.asarray(clean, np.float64)
    released = np.where((x > 0) & (b < 0), np.minimum(x, -b), 0.0)
    return Motifs(released, np.maximum(x, 0) - released, np.minimum(x, 0))


def motif_labels(lines: np.ndarray, clean: np.ndarray, sign: float, sampling: Sampling) -> list[str]:
    """What each component does, by means over prompts and twice their standard errors; without errors, by means.

    Args:
        lines: [prompt, component].
        clean: clean direct effects, [prompt, component].
        sign: as in `motifs`.
        sampling: of the prompts.
    """
    x, b = sign * np.asarray(lines, np.float64), sign * np.asarray(clean, np.float64)
    means = sampling.mean(x.T), sampling.mean(b.T), sampling.mean((b + x).T)
    against = sampling.ratio(np.where(b < 0, x, 0).T, x.T)
    return [
        _label([_Mean(float(some.value[place]), _error(some, place)) for some in means], _side(against, place))
        for place in range(x.shape[1])
    ]


def refine_labels(found: Sequence[str], qk_share: Estimate) -> list[str]:
    """Labels of heads whose lines were split: suppressors that turned round by attending elsewhere are re-aimed.

    Args:
        found: labels of the heads, as `labels` has them.
        qk_share: what part of each one's line came of attending elsewhere, `AttentionSplit.qk_share` [head]; twice its
            standard error has to lie above a half.
    """
    shares = [_Mean(float(value) - _MOST, _error(qk_share, place)) for place, value in enumerate(qk_share.value)]
    return [
        "suppressor re-aimed" if label == "suppressor turned" and share.sign > 0 else label
        for label, share in zip(found, shares, strict=True)
    ]


class _Mean(NamedTuple):
    """A mean and its standard error, 0 where there is none."""

    value: float
    error: float

    @property
    def sign(self) -> int:
        """-1 or 1; 0 where it may be either."""
        sure = abs(self.value) > _DEAD_ZONE * self.error
        return int(np.sign(self.value)) if sure else 0

    @property
    def most(self) -> float:
        """How far from zero it may be."""
        return abs(self.value) + _DEAD_ZONE * self.error


def _error(estimate: Estimate, place: int) -> float:
    return float(np.nan_to_num(np.asarray(estimate.standard_error)[place]))


def _side(against: Estimate, place: int) -> int:
    """Whether most of a line comes from prompts in which the component wrote for the answer (1) or against it (-1)."""
    low, high = (float(np.asarray(end)[place]) for end in (against.low, against.high))
    return -1 if low > _MOST else int(high < _MOST)


def _label(means: Sequence[_Mean], side: int) -> str:
    """Of one component, from the means of its line, of its clean effect and of its effect in the ablated run."""
    line, before, after = means
    if line.sign <= 0:
        return "breakage" if line.sign < 0 else "unsure"
    slept = before.most <= _ASLEEP * line.value
    wrote = before.sign or (1 if slept else side)
    if wrote < 0:
        return "suppressor turned" if after.sign > 0 else "suppressor released"
    return "backup" if wrote > 0 else "mixed"
