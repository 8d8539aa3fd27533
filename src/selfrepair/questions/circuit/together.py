"""All that a circuit misses frozen at once, beside as large sets of components like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selfrepair.ablation.sites import Site
from selfrepair.questions.covering.freeze import freeze_tests, matched_sets, rank_p
from selfrepair.questions.covering.who import Covering
from selfrepair.questions.measuring.prompt_effects import PromptEffects, joined
from selfrepair.questions.question import Question
from selfrepair.statistics.estimates import Estimate


@dataclass(frozen=True, eq=False)
class Together:
    """A freeze test of a set.

    Attributes:
        recovered: repair that is gone, in the metric's units.
        share: of what is gone if everything downstream is held.
        controls: the same, mean over prompts, of each control set.
        p: rank of `recovered` among them, `(1 + as large) / (1 + sets)`.
    """

    recovered: Estimate
    share: Estimate
    controls: tuple[float, ...]
    p: float


def frozen_together(question: Question, covering: Covering, sites: Sequence[Site]) -> tuple[Together, PromptEffects]:
    """Freezes a set, and control sets matched to it one to one in layer, response and clean direct effect.

    Args:
        question: model, prompts and settings.
        covering: who covers, with its tests.
        sites: the set.

    Returns:
        The test, and the ledgers of its runs.
    """
    sets = matched_sets(covering.likeness, sites, covering.idle, question.settings.controls, question.settings.seed)
    several = len(sites) > 1  # single components have been tested
    tests = freeze_tests(covering.base, [sites, *sets]) if several else []
    measured = question.measure(tests, "Freezing what is missing together")
    tested = replace(covering, effects=joined(covering.effects, measured))
    known, sampling = set(tested.effects.names), covering.sampling
    recovered = tested.recovered(sites)
    controls = tuple(
        float(sampling.mean(tested.recovered(chosen)).value)
        for chosen, test in zip(sets, freeze_tests(covering.base, sets), strict=True)
        if test.name in known
    )
    found = sampling.mean(recovered)
    return Together(
        found, sampling.ratio(recovered, tested.whole), controls, rank_p(float(found.value), controls)
    ), measured
