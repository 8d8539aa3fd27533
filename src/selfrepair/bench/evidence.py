"""What is known of each component when a set is ablated, and the scores that can be made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from selfrepair.ablation.sites import Site
from selfrepair.bench.co_ablation import CoAblation, amplification
from selfrepair.questions.covering.motifs import motif_labels, motifs
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import PromptEffects
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.statistics.estimates import Array

Drawn = np.ndarray | slice
EVERY = slice(None)


@dataclass(frozen=True, eq=False)
class Evidence:
    """N candidates on P prompts, with one set ablated that writes for the answer. All but energies in logits.

    Attributes:
        sites: the candidates: no members of the set.
        lines: change of each one's direct effect, [P, N].
        direct_effects: clean ones, [P, N].
        frozen: freeze tests, [P, N].
        effect_growth: growth of the effect on the readout, minus the interaction, [P, N].
        fixed_growth: the same with the final norm at its clean scale, [P, N].
        marginal: energy of each one's ablation alone, [P, N].
        conditional: of its ablation where the set is gone, [P, N].
    """

    sites: tuple[Site, ...]
    lines: Array
    direct_effects: Array
    frozen: Array
    effect_growth: Array
    fixed_growth: Array
    marginal: Array
    conditional: Array

    @classmethod
    def of(cls, effects: PromptEffects, components: Components, found: CoAblation, row: int) -> Evidence:
        """Of one set.

        Args:
            effects: ledgers of the sets.
            components: of the model.
            found: the co-ablation with the same sets.
            row: which set.
        """
        chosen = np.flatnonzero(~np.isnan(found.joint[row, :, 0]))
        sites = tuple(found.sites[place] for place in chosen)
        columns = [components.index[site] for site in sites]
        return cls(
            sites=sites,
            lines=components.lines(effects, row)[:, columns],
            direct_effects=components.direct_effects(effects)[:, columns],
            frozen=found.covered[row, chosen].T,
            effect_growth=found.effect_growth[row, chosen].T,
            fixed_growth=found.fixed_growth[row, chosen].T,
            marginal=found.marginal[chosen].T,
            conditional=found.conditional[row, chosen].T,
        )


class Score(NamedTuple):
    """A way to rank candidates.

    Attributes:
        name: what tables call it.
        meaning: what it is.
        passes: how many forwards it takes beside the clean one, for N candidates.
        of: its values on some prompts, [candidate].
    """

    name: str
    meaning: str
    passes: str
    of: Callable[[Evidence, Drawn], Array]


def line(evidence: Evidence, drawn: Drawn = EVERY) -> Array:
    """Mean change of direct effect, [candidate]."""
    return np.asarray(evidence.lines[drawn].mean(0))


def frozen(evidence: Evidence, drawn: Drawn = EVERY) -> Array:
    """Mean of the freeze test, [candidate]."""
    return np.asarray(evidence.frozen[drawn].mean(0))


def _backup_part(evidence: Evidence, drawn: Drawn) -> Array:
    return np.asarray(motifs(evidence.lines[drawn], evidence.direct_effects[drawn], 1.0).backup.mean(0))


def labels_of_components(evidence: Evidence, drawn: Drawn = EVERY) -> np.ndarray:
    """What the audit calls what each candidate does, over some prompts, [candidate]."""
    lines, clean = evidence.lines[drawn], evidence.direct_effects[drawn]
    sampling = Sampling(np.arange(len(lines)), np.ones(len(lines)), "prompts")
    return np.array(motif_labels(lines, clean, 1.0, sampling))


def _labelled(evidence: Evidence, drawn: Drawn) -> Array:
    return np.where(labels_of_components(evidence, drawn) == "backup", line(evidence, drawn), 0.0)


def _effect_growth(evidence: Evidence, drawn: Drawn) -> Array:
    return np.asarray(evidence.effect_growth[drawn].mean(0))


def _fixed_growth(evidence: Evidence, drawn: Drawn) -> Array:
    return np.asarray(evidence.fixed_growth[drawn].mean(0))


def _growth(evidence: Evidence, drawn: Drawn) -> Array:
    return _conditional(evidence, drawn) - _marginal(evidence, drawn)


def _ratio(evidence: Evidence, drawn: Drawn) -> Array:
    return amplification(_conditional(evidence, drawn), _marginal(evidence, drawn))


def _conditional(evidence: Evidence, drawn: Drawn) -> Array:
    return np.asarray(evidence.conditional[drawn].mean(0))


def _marginal(evidence: Evidence, drawn: Drawn) -> Array:
    return np.asarray(evidence.marginal[drawn].mean(0))


LINE = Score("line", "change of what it writes for the answer: a line of the ledger", "1", line)
BACKUP = Score("backup part", "the part of its line that was not there before: motif backup", "1", _backup_part)
LABELLED = Score("labelled backup", "its line, where its motif is labelled backup", "1", _labelled)
FREEZE = Score("freeze test", "repair that is gone when it is held at its clean output", "1 + N", frozen)
GROWTH = Score("CoAx growth", "growth of the energy of its ablation, E(u|S) - E(u|0)", "1 + 2N", _growth)
RATIO = Score("CoAx ratio", "amplification of that energy, E(u|S) / E(u|0)", "1 + 2N", _ratio)
EFFECT = Score("effect growth", "growth of its ablation's effect on the answer, -INT", "1 + 2N", _effect_growth)
FIXED = Score("growth, fixed norm", "the same with the final norm at its clean scale", "1 + 2N", _fixed_growth)
CONDITIONAL = Score("conditional energy", "energy of its ablation without the set, E(u|S)", "1 + N", _conditional)
MARGINAL = Score("single ablation", "energy of its ablation alone, E(u|0)", "N", _marginal)
SCORES = (LINE, LABELLED, BACKUP, FREEZE, EFFECT, FIXED, GROWTH, RATIO, CONDITIONAL, MARGINAL)
