"""One word on a circuit, by a rule that is printed with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfrepair.statistics.estimates import Estimate

Word = Literal["not measurable", "wrong sign", "unstable", "covered", "complete", "undecided"]
_STABLE = 0.5  # smallest Jaccard index
_UNCOVERED = 0.10  # share of what the circuit wrote that may come back from outside a complete circuit

RULE = (
    "The first line that applies. "
    "not measurable: the metric is KL, which has no direction, so that repair cannot be told from other change; or the "
    "interval of what the circuit wrote, or of what all heads contribute, holds zero. "
    "wrong sign: ablating the circuit surely moves the readout in the direction that it does not write. "
    "unstable: signs depend on the ablation, or the list of what covers comes out the same in less than half of "
    "resampled groups (mean Jaccard index). "
    "covered: at least one component is missing from the circuit. "
    "complete: nothing is missing, and the interval of the repaired share lies below 10%. "
    "undecided: nothing is missing, but the repaired share may be 10% or more."
)


@dataclass(frozen=True)
class Verdict:
    """What the audit comes to.

    Attributes:
        word: by the rule.
        reason: the number that decided.
    """

    word: Word
    reason: str


def verdict(
    lost: Estimate,
    span: Estimate,
    total_effect: Estimate,
    repaired_share: Estimate,
    missing: list[str],
    depends_on_ablation: bool,
    stability: float,
) -> Verdict:
    """The word, by `RULE`.

    Args:
        lost: what the circuit wrote that the ablation took away.
        span: what all heads contribute.
        total_effect: of ablating the circuit.
        repaired_share: self-repair over `lost`.
        missing: names of components outside the circuit that cover for it.
        depends_on_ablation: whether signs do.
        stability: mean Jaccard index of the list over resampled groups.
    """
    unmeasured = next(
        (name for name, one in (("what the circuit wrote", lost), ("what heads contribute", span)) if _zero(one)), None
    )
    if unmeasured is not None:
        return Verdict("not measurable", f"the interval of {unmeasured} holds zero, or there is none")
    if float(total_effect.low) * _sign(lost) > 0 and float(total_effect.high) * _sign(lost) > 0:
        return Verdict("wrong sign", f"the readout moved by {float(total_effect.value):+.2f}")
    if depends_on_ablation:
        return Verdict("unstable", "signs depend on the ablation")
    if stability < _STABLE:
        return Verdict("unstable", f"the list of what covers is the same in {stability:.2f} of resampled groups")
    if missing:
        return Verdict("covered", f"outside the circuit: {', '.join(missing)}")
    if float(repaired_share.high) < _UNCOVERED:
        return Verdict("complete", f"repaired share at most {100 * float(repaired_share.high):.0f}%")
    return Verdict(
        "undecided", f"repaired share up to {100 * float(repaired_share.high):.0f}%, by nothing large enough"
    )


def no_direction() -> Verdict:
    """The verdict under a metric that only says how much changed."""
    return Verdict("not measurable", "KL has no direction: it does not tell repair from other change")


def _zero(estimate: Estimate) -> bool:
    """Whether the interval (or range) holds zero or is not known."""
    return not (float(estimate.low) > 0 or float(estimate.high) < 0)


def _sign(estimate: Estimate) -> int:
    return -1 if float(estimate.value) < 0 else 1
