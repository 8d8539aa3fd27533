"""Conditional Co-Ablation (CoAx): how much an ablation's effect on the whole prediction grows once others are gone.

Our own implementation of the score that Gong et al. published (arXiv 2607.01940). With clean logits z0 and
p0 = softmax(z0) over the whole vocabulary, at the position where the answer is read:

    f_u        = sqrt(p0) (dz - E_p0[dz])            dz: change of logits when u is ablated
    E(u|0)     = mean over prompts of |f_u|^2        the marginal energy
    E(u|S)     the same with dz between "S ablated" and "S and u ablated"; the metric is still that of p0
    comp_u(S)  = E(u|S) - E(u|0)                     CoAx: growth;    ratio_u(S) = E(u|S) / E(u|0)
    couple_u   = mean |f_{u|S} - f_u|^2 = |G|^2      so that comp = |G|^2 + 2 <f_u, G>

From the same runs come the growth of the effect on the readout (minus the interaction of u and S), and freeze tests:
what of the repair is gone when u is held at its clean output. Everything is kept per prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, each, freezing
from selfrepair.ablation.operators import Operator
from selfrepair.ablation.sites import Site
from selfrepair.bench.suffix import Suffixes
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import KINDS, Port
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import batches
from selfrepair.questions.measuring.components import lies_in
from selfrepair.questions.measuring.inputs import operator_for
from selfrepair.statistics.estimates import Array

_TOKENS, _LOGITS = 4096, 2**25  # of all runs that are made together
_LEAST = 1e-12  # energy that is added below a ratio: what does nothing alone has one too


def amplification(conditional: Array, marginal: Array) -> Array:
    """CoAx's ratio of energies.

    The published code ranks last what has a marginal energy of exactly zero, as sleeping planted backups have; adding
    1e-12 ranks them by their conditional energy instead, and changes nothing on trained models.
    """
    return np.asarray(conditional / (marginal + _LEAST))


@dataclass(frozen=True, eq=False)
class CoAblation:
    """N sites u and S sets on P prompts. NaN where u is a member of the set. Energies in squared logits of p0's metric.

    Attributes:
        sites: u.
        sets: what is ablated besides.
        clean: the readout's value less its constants, [P]; all values so.
        given: with a set ablated, [S, P].
        alone: with u ablated, [N, P].
        joint: with both, [S, N, P].
        fixed_given: with a set ablated and the final norm at its clean scale, [S, P].
        fixed_alone: with u ablated, the same, [N, P].
        fixed_joint: with both, [S, N, P].
        frozen: with the set ablated and u held at its clean output, [S, N, P].
        marginal: `|f_u|^2`, [N, P].
        conditional: `|f_{u|S}|^2`, [S, N, P].
        coupling: `|f_{u|S} - f_u|^2`, [S, N, P].
    """

    sites: tuple[Site, ...]
    sets: tuple[Intervention, ...]
    clean: Array
    given: Array
    alone: Array
    joint: Array
    fixed_given: Array
    fixed_alone: Array
    fixed_joint: Array
    frozen: Array
    marginal: Array
    conditional: Array
    coupling: Array

    @property
    def growth(self) -> Array:
        """Per prompt, `|f_{u|S}|^2 - |f_u|^2` [S, N, P]; its mean over prompts is CoAx's `comp`."""
        return self.conditional - self.marginal

    @property
    def ratio(self) -> Array:
        """`E(u|S) / E(u|0)`, [S, N]; see `amplification`."""
        return amplification(self.conditional.mean(-1), self.marginal.mean(-1))

    @property
    def effect_growth(self) -> Array:
        """Minus the interaction, `[m(S) - m(S u)] - [m(0) - m(u)]` [S, N, P]: growth of what ablating u takes away."""
        return (self.given[:, None] - self.joint) - (self.clean - self.alone)

    @property
    def fixed_growth(self) -> Array:
        """The same with the final norm at its clean scale: what is left grows because components respond."""
        return (self.fixed_given[:, None] - self.fixed_joint) - (self.clean - self.fixed_alone)

    @property
    def covered(self) -> Array:
        """The freeze test `m(S) - m(S; u frozen)` [S, N, P]: what u covers, with all that others do because of it."""
        return self.given[:, None] - self.frozen

    @property
    def passes(self) -> int:
        """Forwards that the published method makes for one set: `2 + 2 N`."""
        return 2 + 2 * len(self.sites)


def co_ablation(
    model: LanguageModel,
    prompts: Prompts,
    sites: Sequence[Site],
    sets: Sequence[Intervention],
    ablation: str | Operator | None = "zero",
    *,
    seed: int = 0,
    advance: Advance = ignore,
) -> CoAblation:
    """Ablates every site alone and beside every set, and freezes it beside every set.

    Args:
        model: the model.
        prompts: with their answers.
        sites: u; of one port at a time, they share a batch.
        sets: S; one that replaces nothing reproduces the sites alone, bit for bit.
        ablation: see `prompt_effects`; of an operator that draws donors, the first draw.
        seed: of donors.
        advance: told of sites times prompts as they are done.

    Raises:
        SelfRepairError: no sites or no sets.
    """
    if not sites or not sets:
        raise SelfRepairError(
            "Co-ablation needs sites, and sets that are ablated besides.", "Give at least one of each."
        )
    operator, total = operator_for(ablation, prompts), len(prompts)
    runs, alone = (len(sets), len(sites), total), (len(sites), total)
    found = CoAblation(
        sites=tuple(sites),
        sets=tuple(sets),
        clean=np.zeros(total),
        **{name: np.zeros((len(sets), total)) for name in ("given", "fixed_given")},
        **{name: np.zeros(alone) for name in ("alone", "fixed_alone", "marginal")},
        **{name: np.full(runs, np.nan) for name in ("joint", "fixed_joint", "frozen", "conditional", "coupling")},
    )
    means: dict[Port, Tensor] = {}
    planned = [*each(sites), *sets, *(freezing(one, sites) for one in sets)]
    with model.running():
        for batch in batches(model, prompts, ()):
            suffixes = Suffixes.of(model, prompts, batch, operator, planned, means, seed)
            _Sweep(suffixes, found).run(advance)
    return found


@dataclass
class _Set:
    """A set in one batch: the stream before each layer from its first on, and its logits."""

    intervention: Intervention
    number: int
    start: int
    streams: list[Tensor] = field(repr=False)
    logits: Tensor = field(repr=False)
    value: Tensor = field(repr=False)


class _Sweep:
    """All sites and sets on one batch."""

    def __init__(self, suffixes: Suffixes, found: CoAblation) -> None:
        self.suffixes, self.found, self.top = suffixes, found, suffixes.model.anatomy.layers
        self.prompts = suffixes.batch.prompts
        final = suffixes.clean.final[None]
        self.clean = suffixes.logits(final)
        self.probability = self.clean.softmax(-1)
        found.clean[self.prompts] = _numbers(suffixes.values(final)[0])
        self.sets = sorted((self._set(number, one) for number, one in enumerate(found.sets)), key=lambda one: one.start)

    def _set(self, number: int, intervention: Intervention) -> _Set:
        start = self.top if intervention.start is None else intervention.start
        streams: list[Tensor] = []
        final = self.suffixes.clean.final[None]
        if start < self.top:
            final = self.suffixes.run(self.suffixes.start(start, 1), start, self.top, [intervention], streams)
        value = self.suffixes.values(final)
        self.found.given[number, self.prompts] = _numbers(value[0])
        self.found.fixed_given[number, self.prompts] = _numbers(self.suffixes.values(final, fixed=True)[0])
        return _Set(intervention, number, start, streams, self.suffixes.logits(final), value)

    def run(self, advance: Advance) -> None:
        """Takes the sites port by port."""
        for layer, chunk in self._chunks():
            self._ablate(layer, chunk)
            for one in self.sets:
                self._freeze(one, layer, chunk)
            advance(len(chunk) * len(self.prompts))

    def _chunks(self) -> Iterator[tuple[int, list[int]]]:
        sites = self.found.sites
        most = max(1, min(_TOKENS // self.suffixes.clean.tokens.numel(), _LOGITS // self.clean.numel()))
        order = sorted(range(len(sites)), key=lambda place: _depth(sites[place]))
        for (layer, _), group in groupby(order, key=lambda place: _depth(sites[place])):
            places = list(group)
            for start in range(0, len(places), most):
                yield layer, places[start : start + most]

    def _ablate(self, layer: int, chunk: list[int]) -> None:
        """Each of some sites of a layer alone, and beside every set; what runs share is run once."""
        alone = [Intervention((self.found.sites[place],)) for place in chunk]
        stream, at = self.suffixes.start(layer, len(chunk)), layer
        finals = []
        for one in self.sets:
            both = [Intervention((*one.intervention.replaced, *single.replaced)) for single in alone]
            if one.start >= layer:  # until the set begins, its runs are those of the sites alone
                stream, at = self.suffixes.run(stream, at, one.start, alone), one.start
                finals.append(self.suffixes.run(stream, at, self.top, both))
            else:  # until the sites' layer, they are all that of the set
                begun = one.streams[layer - one.start].expand(len(chunk), -1, -1, -1)
                finals.append(self.suffixes.run(begun, layer, self.top, both))
        stream = self.suffixes.run(stream, at, self.top, alone)
        feature = self._feature(self.suffixes.logits(stream) - self.clean)
        self._put(self.found.alone, chunk, self.suffixes.values(stream))
        self._put(self.found.fixed_alone, chunk, self.suffixes.values(stream, fixed=True))
        self._put(self.found.marginal, chunk, feature.square().sum(-1))
        for one, final in zip(self.sets, finals, strict=True):
            conditional = self._feature(self.suffixes.logits(final) - one.logits)
            self._put(self.found.joint[one.number], chunk, self.suffixes.values(final), one)
            self._put(self.found.fixed_joint[one.number], chunk, self.suffixes.values(final, fixed=True), one)
            self._put(self.found.conditional[one.number], chunk, conditional.square().sum(-1), one)
            self._put(self.found.coupling[one.number], chunk, (conditional - feature).square().sum(-1), one)

    def _freeze(self, one: _Set, layer: int, chunk: list[int]) -> None:
        """Each of some sites held at its clean output beside a set; where it cannot have moved, nothing changes."""
        value = one.value.expand(len(chunk), -1)
        sites = [self.found.sites[place] for place in chunk]
        if layer > one.start or (layer == one.start and sites[0].port.kind != "heads"):
            begun = one.streams[layer - one.start].expand(len(chunk), -1, -1, -1)
            held = [freezing(one.intervention, [site]) for site in sites]
            value = self.suffixes.values(self.suffixes.run(begun, layer, self.top, held))
        self._put(self.found.frozen[one.number], chunk, value, one)

    def _feature(self, change: Tensor) -> Tensor:
        """`sqrt(p0) (dz - E_p0[dz])`, [run, prompt, vocabulary]."""
        return self.probability.sqrt() * (change - (self.probability * change).sum(-1, keepdim=True))

    def _put(self, into: Array, chunk: list[int], values: Tensor, one: _Set | None = None) -> None:
        """Writes values [run, prompt] of some sites to their places; those of a set's members stay NaN."""
        numbers = _numbers(values)
        for row, place in enumerate(chunk):
            if one is None or not lies_in(self.found.sites[place], one.intervention.replaced):
                into[place, self.prompts] = numbers[row]


def _depth(site: Site) -> tuple[int, int]:
    return site.port.layer, KINDS.index(site.port.kind)


def _numbers(values: Tensor) -> Array:
    return np.asarray(values.to(torch.float64).cpu().numpy())
