"""Who covers for some ablated sites: lines, motifs, and freeze tests beside matched controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.covering.freeze import Likeness, controls
from selfrepair.questions.covering.mechanism import split_of, with_mechanism
from selfrepair.questions.covering.motifs import MOTIFS, motifs
from selfrepair.questions.covering.table import Tested, covering_table, second_runs
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import PromptEffects, joined
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.paths.attention_split import AttentionSplit
from selfrepair.questions.question import Question
from selfrepair.statistics.estimates import Array, Estimate

_NOT_COVERING = 0.05  # one-sided p-value above which a component is not thought to cover
_NEXT_TO_NOTHING = 0.002  # of what was lost
BY_RESPONSE = 4  # candidates for freeze tests that are chosen by the size of their response alone


@dataclass(frozen=True, eq=False, kw_only=True)
class Covering(Tested):
    """Who covers for some sites, on some prompts: freeze tests, and what is known beside them.

    Attributes:
        given: what is ablated besides, in both runs that are compared; None for nothing.
        table: one row per component that can respond, those that cover most first; see `covering_table`.
        split: the tested heads' lines by attention; None where something is given, or where it cannot be had.
        note: why it cannot be had; empty otherwise.
        likeness: what controls are matched by.
        idle: components that are not thought to cover, from which controls are taken.
    """

    given: Intervention | None
    table: pd.DataFrame
    split: AttentionSplit | None
    note: str
    likeness: Likeness
    idle: tuple[Site, ...]

    def change(self, name: str) -> Array:
        """A quantity of the base run, [prompt]; less that of what is given."""
        values: Array = getattr(self.effects, name)
        row = values[self.effects.row(self.base.name)]
        change: Array = row if self.given is None else row - values[self.effects.row(self.given.name)]
        return change

    def total(self, name: str) -> Estimate:
        """The mean of a quantity of the base run over prompts."""
        return self.sampling.mean(self.change(name))

    @property
    def repaired_share(self) -> Estimate:
        """Self-repair over what the ablated sites wrote."""
        return self.sampling.ratio(self.change("self_repair"), self.change("lost"))

    def motif_sums(self) -> dict[str, Estimate]:
        """Of all components' lines together, in logits."""
        parts = motifs(self.lines, self.components.direct_effects(self.effects), self.sign)
        return {name: self.sampling.mean(part.sum(-1)) for name, part in zip(MOTIFS, parts, strict=True)}


def who(question: Question, sites: Iterable[Site], given: Iterable[Site] = ()) -> Covering:
    """Who covers for `sites` when they are ablated together.

    Args:
        question: model, prompts and settings.
        sites: what is ablated.
        given: what is ablated besides, before and after: who covers for the sites where these are gone?

    Raises:
        SelfRepairError: no sites, or prompts without answers.
    """
    base, gone = _interventions(tuple(sites), tuple(given))
    return covering(question, question.measure([base, *([gone] if gone else [])], "Ablating"), base, gone)


def covering(
    question: Question,
    first: PromptEffects,
    base: Intervention,
    given: Intervention | None,
    also: Sequence[Site] = (),
) -> Covering:
    """Who covers in a run that has been measured: chooses what to test, and tests it.

    Args:
        question: model, prompts and settings.
        first: ledgers that hold `base`, and `given` where there is one.
        base: the ablated run in question.
        given: the run it is compared with; None for the clean one.
        also: components to test besides those with the largest lines and responses.
    """
    components, sampling, settings = question.components, question.sampling, question.settings
    lines, lost = components.lines(first, first.row(base.name)), first.lost[first.row(base.name)]
    if given is not None:
        lines = lines - components.lines(first, first.row(given.name))
        lost = lost - first.lost[first.row(given.name)]
    sign = -1 if float(sampling.mean(lost).value) < 0 else 1
    responses = question.responses(base)
    downstream = components.downstream(base)
    tested = candidates(components, sampling.mean(sign * lines.T).value, responses, downstream, settings.top)
    tested += [site for site in also if site in downstream and site not in tested]
    likeness = Likeness(components, responses, np.abs(components.direct_effects(first)).mean(0))
    idle = _idle(sampling, sign * lines.T, float(sampling.mean(sign * lost).value))
    pool = [site for site in downstream if site not in tested and idle[components.index[site]]]
    chosen = controls(likeness, tested, pool, settings.controls)
    effects = joined(first, question.measure(second_runs(base, components, tested, chosen), "Freezing what may cover"))
    tests = Tested(effects, base, lines, sign, sampling, components, tuple(tested), tuple(chosen))
    split, note = (None, "") if given is not None else split_of(question, base, tested)
    return Covering(
        **{field.name: getattr(tests, field.name) for field in fields(tests)},
        given=given,
        table=with_mechanism(covering_table(tests), split),
        split=split,
        note=note,
        likeness=likeness,
        idle=tuple(pool),
    )


def _interventions(sites: tuple[Site, ...], given: tuple[Site, ...]) -> tuple[Intervention, Intervention | None]:
    """The base run, and the one that it is compared with."""
    if not sites:
        raise SelfRepairError("Nothing is to be ablated.", "Name heads or MLPs, as L9H6 or L9.mlp.")
    if not given:
        return Intervention(sites), None
    gone = Intervention(given, name=f"given {'+'.join(map(str, given))}")
    return Intervention((*sites, *given), name=f"{'+'.join(map(str, sites))} {gone.name}"), gone


def _idle(sampling: Sampling, lines: Array, lost: float) -> np.ndarray:
    """Which components may be controls, bool [component]: their lines [component, prompt] may well be zero, or are next
    to nothing of what was lost."""
    p = np.nan_to_num(sampling.p_value(lines), nan=0.0)
    return np.asarray((p > _NOT_COVERING) | (sampling.mean(lines).value < _NEXT_TO_NOTHING * lost))


def candidates(
    components: Components, lines: Array, responses: Array, downstream: Sequence[Site], top: int
) -> list[Site]:
    """What to freeze: the components with the largest lines, and some with the largest responses beside them.

    Args:
        components: of the model.
        lines: mean lines, positive where they repair, [component].
        responses: sizes of responses, [component].
        downstream: what can respond at all.
        top: how many are chosen by their lines.
    """
    index = components.index
    by_line = sorted(downstream, key=lambda site: -lines[index[site]])[:top]
    chosen = [site for site in by_line if lines[index[site]] > 0]
    by_response = sorted(downstream, key=lambda site: -responses[index[site]])
    return chosen + [site for site in by_response if site not in chosen][:BY_RESPONSE]
