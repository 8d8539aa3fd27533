"""Ledgers of interventions on prompts: what each prompt's answer lost, what came back, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import torch

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.effects.bent_readouts import BentReadout
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.ablated_outputs import ablated_final
from selfrepair.engine.clean import CleanRun, clean_run
from selfrepair.engine.contract import Engine, Replacement
from selfrepair.engine.replay import ReplayEngine
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.usual_layers import require_plain_stream
from selfrepair.progress import Advance, ignore
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import LOGIT_DIFFERENCE, Batch, batches
from selfrepair.questions.measuring.inputs import PromptInputs, operator_for, replacement_of
from selfrepair.questions.measuring.metrics import metric_named

Array = npt.NDArray[np.float64]
_CHUNK = 512  # ablated runs times prompts whose components' lines are in memory at a time


@dataclass(frozen=True, eq=False)
class PromptEffects:
    """Ledgers of R interventions on P prompts; L layers of H heads. All in logits of the readout.

    Attributes:
        prompts: the prompts.
        interventions: the ablated runs, in the order of the rows.
        operator: what replaced sites got.
        clean: the readout's value with nothing ablated, [P].
        total_effect: its change, [R, P].
        lost: what the replaced sites no longer write, `DE - DE'`, [R, P].
        heads: change in direct effect of every head that is not replaced, [R, P, L, H].
        mixers: of every mixer, [R, P, L]; zero in layers without one.
        mlps: of every MLP, by the modules that write for it, [R, P, L, write].
        post_norms: what norms behind attention did, [R, P].
        norm: what the final norm's scale did, [R, P].
        curvature: what a log-probability or KL changed by beyond its gradient, [R, P]; zero for logits.
        direct_heads: clean direct effects, [P, L, H].
        direct_mixers: [P, L].
        direct_mlps: [P, L, write].
    """

    prompts: Prompts
    interventions: tuple[Intervention, ...]
    operator: str
    clean: Array
    total_effect: Array
    lost: Array
    heads: Array
    mixers: Array
    mlps: Array
    post_norms: Array
    norm: Array
    curvature: Array
    direct_heads: Array
    direct_mixers: Array
    direct_mlps: Array

    @property
    def names(self) -> list[str]:
        """Of the interventions."""
        return [intervention.name for intervention in self.interventions]

    @property
    def self_repair(self) -> Array:
        """`TE + lost` [R, P]."""
        return self.total_effect + self.lost

    @property
    def all_heads(self) -> Array:
        """The line of heads: all heads' changes together, [R, P]."""
        return np.asarray(self.heads.sum((2, 3), dtype=np.float64))

    @property
    def all_mlps(self) -> Array:
        """The line of MLPs, [R, P]."""
        return np.asarray(self.mlps.sum((2, 3), dtype=np.float64))

    @property
    def all_mixers(self) -> Array:
        """The line of mixers, [R, P]."""
        return np.asarray(self.mixers.sum(2, dtype=np.float64))

    @property
    def ablated(self) -> Array:
        """The readout's value in each ablated run, [R, P]."""
        return self.clean + self.total_effect

    @property
    def norm_frozen(self) -> Array:
        """The total effect with the final norm's scale held at its clean value, [R, P]: `TE` less the norm's line."""
        return self.total_effect - self.norm

    @property
    def residual(self) -> float:
        """The largest self-repair that no line accounts for: rounding."""
        lines = self.all_heads + self.all_mixers + self.all_mlps + self.post_norms + self.norm + self.curvature
        return float(np.abs(self.self_repair - lines).max(initial=0))

    def row(self, name: str) -> int:
        """Which row an intervention has.

        Raises:
            SelfRepairError: there is none of that name.
        """
        if name not in self.names:
            raise SelfRepairError(f"No intervention is called '{name}'.", f"There are: {', '.join(self.names)}.")
        return self.names.index(name)

    def select(self, chosen: npt.NDArray[np.int64] | Sequence[int]) -> PromptEffects:
        """The same of some prompts."""
        some = np.asarray(chosen, np.int64)
        values = {
            name: getattr(self, name)[some] if name in _BY_PROMPT else getattr(self, name)[:, some]
            for name in (*_BY_PROMPT, *_BY_ROW)
        }
        return PromptEffects(self.prompts.select(some), self.interventions, self.operator, **values)


_BY_PROMPT = ("clean", "direct_heads", "direct_mixers", "direct_mlps")
_BY_ROW = ("total_effect", "lost", "heads", "mixers", "mlps", "post_norms", "norm", "curvature")
assert {one.name for one in fields(PromptEffects)} == {
    *_BY_PROMPT,
    *_BY_ROW,
    "prompts",
    "interventions",
    "operator",
}


def prompt_effects(
    model: LanguageModel,
    prompts: Prompts,
    interventions: Sequence[Intervention],
    ablation: str | Operator | None = None,
    *,
    donors: int = 1,
    seed: int = 0,
    engine: Engine | None = None,
    metric: str = LOGIT_DIFFERENCE,
    exact: bool = False,
    advance: Advance = ignore,
) -> PromptEffects:
    """Ledgers of some interventions on all prompts.

    Args:
        model: the model.
        prompts: with their answers.
        interventions: the ablated runs, by names that differ.
        ablation: what replaced sites get: `corrupt` (their output on the prompt's twin, the default where there are
            twins), `resample` (on another prompt; the default otherwise), `mean`, `zero`, or an operator.
        donors: other prompts that each one draws on under `resample`; effects are averaged over them.
        seed: of the donors' draw.
        engine: computes the ablated runs; replay by default.
        metric: `logit-diff`, `log-prob`, `prob-diff` or `kl`.
        exact: whether lines of a metric that is not linear go along each run's own mean gradient, which leaves no
            curvature and takes two forwards more per run; KL, whose clean gradient is zero, always does.
        advance: told of runs times prompts as they are done.

    Raises:
        SelfRepairError: interventions of one name, missing sites, or layers that share more than a plain stream.
    """
    _require_measurable(model, interventions)
    operator = operator_for(ablation, prompts, donors, model, seed)
    anatomy, number = model.anatomy, len(interventions)
    lines = (number, len(prompts))
    dtype = np.float64 if model.dtype == torch.float64 else np.float32
    effects = PromptEffects(
        prompts=prompts,
        interventions=tuple(interventions),
        operator=operator.name,
        clean=np.zeros(len(prompts)),
        **{name: np.zeros(lines) for name in ("total_effect", "lost", "post_norms", "norm", "curvature")},
        heads=np.zeros((*lines, anatomy.layers, anatomy.heads), dtype),
        mixers=np.zeros((*lines, anatomy.layers), dtype),
        mlps=np.zeros((*lines, anatomy.layers, anatomy.mlp_writes), dtype),
        direct_heads=np.zeros((len(prompts), anatomy.layers, anatomy.heads)),
        direct_mixers=np.zeros((len(prompts), anatomy.layers)),
        direct_mlps=np.zeros((len(prompts), anatomy.layers, anatomy.mlp_writes)),
    )
    measuring = _Measuring(
        model,
        prompts,
        operator,
        engine or ReplayEngine(fold=None),
        seed,
        exact or metric_named(metric).always_exact,
        effects,
        advance,
    )
    with model.running():
        for batch in batches(model, prompts, interventions, metric):
            measuring.batch(batch)
    return effects


def joined(first: PromptEffects, second: PromptEffects) -> PromptEffects:
    """Ledgers of two measurements on the same prompts."""
    rows = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _BY_ROW}
    shared = {name: getattr(first, name) for name in _BY_PROMPT}
    return PromptEffects(first.prompts, (*first.interventions, *second.interventions), first.operator, **shared, **rows)


@dataclass
class _Measuring:
    """What all batches of a measurement share."""

    model: LanguageModel
    prompts: Prompts
    operator: Operator
    engine: Engine
    seed: int
    exact: bool
    effects: PromptEffects
    advance: Advance
    means: dict[Port, torch.Tensor] = field(default_factory=dict)

    def batch(self, batch: Batch) -> None:
        """Measures one batch, and writes it to its places in `effects`."""
        ports = ports_of(batch.interventions)
        clean = batch.clean(self.model, ports)
        _write_clean(clean, batch, self.effects)
        inputs = PromptInputs(self.model, self.prompts, batch, ports, self.means, self.seed)
        most = max(1, _CHUNK // len(batch.prompts))
        alone = self.exact and isinstance(batch.readout, BentReadout)
        for draw in range(self.operator.draws):
            replacement = replacement_of(self.operator, clean, inputs, draw)
            for start in range(0, len(batch.interventions), 1 if alone else most):
                some = batch.interventions[start : start + (1 if alone else most)]
                along = self._exact(batch, clean, some[0], replacement) if alone else clean
                self._sweep(along, some, replacement, batch)

    def _sweep(self, clean: CleanRun, some: Sequence[Intervention], replacement: Replacement, batch: Batch) -> None:
        rows = {intervention: row for row, intervention in enumerate(batch.interventions)}
        for ledger in self.engine.sweep(self.model, clean, some, replacement, True):
            places = [rows[one] for one in ledger.interventions]
            _write(ledger, places, batch.prompts, self.operator.draws, self.effects)
            self.advance(len(places) * len(batch.prompts) / self.operator.draws)

    def _exact(self, batch: Batch, clean: CleanRun, intervention: Intervention, replacement: Replacement) -> CleanRun:
        """The clean run with directions along one run's mean gradient."""
        assert isinstance(batch.readout, BentReadout)
        final = ablated_final(self.model, clean, intervention, replacement)
        windows = batch.prompts.tolist()
        reading = batch.readout.exact_reading(self.model.anatomy, clean.final, final, windows)
        return clean_run(self.model, batch.tokens, reading, ports_of([intervention]))


def _write_clean(clean: CleanRun, batch: Batch, effects: PromptEffects) -> None:
    bent = clean.reading.value
    value = clean.logit if bent is None else bent(clean.reading.at(clean.final))
    effects.clean[batch.prompts] = value[:, 0].double().cpu().numpy()
    for layer, writes in enumerate(clean.mlp_writes):
        heads = clean.direct_effects(layer)[:, 0].double().cpu().numpy()
        effects.direct_heads[batch.prompts, layer, : heads.shape[1]] = heads
        effects.direct_mlps[batch.prompts, layer, : len(writes)] = writes[..., 0].T.double().cpu().numpy()
    effects.direct_mixers[batch.prompts] = clean.mixers[..., 0].T.double().cpu().numpy()


def _write(ledger: Ledger, rows: list[int], prompts: np.ndarray, draws: int, effects: PromptEffects) -> None:
    """Adds one draw's share of a chunk of ledgers."""
    assert ledger.by_head is not None and ledger.by_mlp_write is not None
    values = {
        "total_effect": ledger.total_effect,
        "lost": ledger.direct_effect - ledger.ablated_direct_effect,
        "heads": ledger.by_head,
        "mixers": ledger.by_mixer,
        "mlps": ledger.by_mlp_write,
        "post_norms": ledger.post_norms,
        "norm": ledger.norm,
        "curvature": ledger.curvature,
    }
    places = np.ix_(np.asarray(rows), prompts)
    for name, value in values.items():
        getattr(effects, name)[places] += value[:, :, 0].double().cpu().numpy() / draws


def _require_measurable(model: LanguageModel, interventions: Sequence[Intervention]) -> None:
    require_plain_stream(model.anatomy, "questions on prompts")
    _require_names(interventions)


def _require_names(interventions: Sequence[Intervention]) -> None:
    names = [intervention.name for intervention in interventions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SelfRepairError(f"Two interventions are called '{twice}'.", "Give each a name of its own: name='...'.")
