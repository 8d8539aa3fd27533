"""What speaks against measuring on some prompts, in sentences."""

from __future__ import annotations

import math
from collections import Counter

from selfrepair.prompts.prompts import Prompts

ACCURACY = 0.9
ERRORS = 3.0  # standard errors that prompts and twins should differ by


def worries(prompts: Prompts, accuracy: float, difference: tuple[float, float], fewest: int) -> tuple[str, ...]:
    """Warnings.

    Args:
        prompts: that were looked at.
        accuracy: share of prompts whose right answer is preferred; NaN without answers.
        difference: of prompts less twins, mean and standard error; NaN where there are none.
        fewest: groups that are a sample.
    """
    warnings = []
    if accuracy < ACCURACY:
        warnings.append(
            f"The right answer is preferred on {accuracy:.0%} of the prompts, less than {ACCURACY:.0%}: on the others "
            "there is no behaviour to ablate. Leave them out, or take a model that can do the task."
        )
    warnings += _about_twins(prompts, *difference)
    groups = len(set(prompts.groups))
    if len(prompts) == 1:
        warnings.append("There is one prompt: values are shown, and no interval can be.")
    elif groups == 1:
        warnings.append("All prompts are of one group: intervals are over prompts; templates are not sampled.")
    elif groups < fewest:
        warnings.append(
            f"There are {groups} groups, fewer than {fewest}: the range over groups is shown, and no interval over "
            "them; templates are not sampled."
        )
    repeated = _repeated(prompts)
    if repeated:
        warnings.append(f"{repeated} prompts say the same as another: they are no independent samples.")
    if left_out := prompts.provenance.get("spans_left_out"):
        warnings.append(f"{left_out}; their spans are left out.")
    return tuple(warnings)


def _about_twins(prompts: Prompts, mean: float, error: float) -> list[str]:
    warnings = []
    with_twin = prompts.provenance.get("with_twin")
    if prompts.corrupt is None and isinstance(with_twin, int) and with_twin:
        warnings.append(
            f"{with_twin} of {len(prompts)} prompts have a twin: twins are used where all have one, so none is."
        )
    if prompts.corrupt is not None:
        unchanged = int((prompts.corrupt == prompts.tokens).all(1).sum())
        if unchanged:
            warnings.append(f"{unchanged} twins are the prompt itself: replacing from them changes nothing.")
    if math.isfinite(error) and not mean > ERRORS * error:
        warnings.append(
            f"Prompts and twins differ by {mean:+.2f}, less than {ERRORS:g} standard errors ({error:.2f}): the twins "
            "do not take the answer away, so that what is replaced from them is hard to see."
        )
    return warnings


def _repeated(prompts: Prompts) -> int:
    rows = zip(prompts.tokens, prompts.lengths, prompts.answers, prompts.positions, strict=True)
    counts = Counter((row[:length].tobytes(), answers, int(position)) for row, length, answers, position in rows)
    return sum(count - 1 for count in counts.values())
