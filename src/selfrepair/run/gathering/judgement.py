"""Judges a run by its checks: which of them fail, and what makes the numbers inexact."""

from __future__ import annotations

from dataclasses import dataclass

from selfrepair.run.unit.exactness import Accuracy

LIMIT = 0.01  # error of effects per token, of their RMS, above which a run warns
_WRONG = 0.1  # ... above which low precision does not explain it
_FAR = 3.0  # times what rounding may leave; trained models are seen to leave a twentieth of it at most
_MEASURABLE = 0.05  # of what rounding may leave: an RMS effect below that is none, and no error is a share of it


@dataclass(frozen=True)
class Judgement:
    """Failed checks and warnings, in whole sentences.

    Attributes:
        failed: checks that fail: the numbers must not be used.
        warnings: what a reader has to know before using them.
        engine_inexact: whether one of them is that the engine's effects are off by more than the limit.
    """

    failed: tuple[str, ...]
    warnings: tuple[str, ...]
    engine_inexact: bool


def judge_accuracy(accuracy: Accuracy, readout: tuple[float, float], full: bool) -> Judgement:
    """Judges a run by everything that it measured about itself.

    Args:
        accuracy: accuracy of all its units.
        readout: largest difference between the model's own centred logits and ours, and the largest ratio to
            what rounding may leave.
        full: whether the engine's products are at the model's own precision, so that nothing but rounding explains an
            error.
    """
    failed = []
    if not accuracy.closes:
        failed.append(
            f"The ledger does not close: on some token its lines miss the self-repair by {accuracy.residual:.1e} "
            "logits, more than rounding explains."
        )
    if accuracy.floor_excess is not None and accuracy.floor_excess > _FAR:
        failed.append(
            f"The numerical floor is {accuracy.floor:.1e} logits: heads ablated with their own clean output have an "
            f"effect {_times(accuracy.floor_excess)} what rounding explains."
        )
    if not readout[1] <= _FAR:
        failed.append(
            f"The read-out is off by {readout[0]:.1e} logits on this text, {_times(readout[1])} what rounding "
            "explains: the final stream does not give the model's own logits."
        )
    wrong, inexact = _engine(accuracy, full)
    return Judgement((*failed, *wrong), (*inexact, *_rounding(accuracy)), bool(wrong or inexact))


def _engine(accuracy: Accuracy, full: bool) -> tuple[list[str], list[str]]:
    """Failures and warnings from the sample against replay: the engine is wrong, or inexact."""
    error, excess = accuracy.relative_error, accuracy.error_excess
    if error is None or excess is None:
        return [], []
    if not accuracy.effect_excess > _MEASURABLE:
        return _engine_without_effects(excess)
    problem = f"The engine's effects are off by {error:.1%} of their RMS per token (a sample against replay)"
    if not error <= _WRONG or (full and not excess <= _FAR):
        return [f"{problem}, {_times(excess)} what rounding explains."], []
    return [], [f"{problem}; the limit is {LIMIT:.0%}."] if error > LIMIT else []


def _engine_without_effects(excess: float) -> tuple[list[str], list[str]]:
    """Failures where replay has next to no effects, or none that are numbers: an error is no share of them."""
    if excess <= _FAR:
        return [], []
    return [
        f"The engine's effects are off by {_times(excess)} what rounding explains where replay has next to none "
        "(a sample)."
    ], []


def _rounding(accuracy: Accuracy) -> list[str]:
    share = accuracy.relative_residual
    if not LIMIT < share < float("inf"):
        return []
    return [
        f"Rounding is large beside the effects: ledgers are off by {share:.1%} of the effects' RMS per token; the "
        f"limit is {LIMIT:.0%}. float64 has room for both."
    ]


def _times(excess: float) -> str:
    return f"{excess:.3g} times"
