"""Chooses a run's engine and its settings, by short trials on the run's first windows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from selfrepair.ablation.interventions import each, ports_of
from selfrepair.ablation.sites import Site, usual_sites
from selfrepair.engine.ablation_proofs import require_differences
from selfrepair.engine.clean import clean_run, port_outputs
from selfrepair.engine.contract import Engine
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.delta.matmul import PRECISIONS
from selfrepair.engine.relative_error import RelativeError
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel

TOLERANCE = 0.01  # relative error of effects per token
MOST_BIAS = 0.1  # of means, in standard errors that the planned run will reach: next to none of what it reports
_FASTER = 1.3  # times as fast as full precision that a lower one has to be
_COMPILE_SECONDS = 60.0  # what compiling may take, on the first run on a machine
_REPAID = 5  # times as long as that a replay has to take: compiled differences gain a quarter or more on it
_CPU_ROWS, _GPU_ROWS = 1536, 65536  # tokens that pass a block together: what caches like, or a GPU
_WASTE = 0.1  # share of a last, smaller chunk that may be filling
_TRIAL_HEADS, _TRIAL_WINDOWS = 6, 4
_TRIAL_SHARE = 0.01  # of the run's work that the trial of one engine may take
_ROUNDS = 5  # of timing products, each in its turn: work beside hits all alike
_ROUNDINGS = 64  # of a logit, that its change in two engines may differ by
_TOO_LITTLE = "too little to do for compiled differences to pay"
_LITTLE = 1e12  # floating-point operations: seconds of work


@dataclass(frozen=True)
class Choice:
    """An engine with all its settings, and why this one."""

    engine: Engine
    reason: str


@dataclass(frozen=True)
class RunSize:
    """What a run is going to do.

    Attributes:
        blocks: blocks times ablated runs times windows.
        predictions: tokens whose effects are measured for each head.
        beginnings: whether windows are computed only as far as filters need (`engine.beginnings`): each batch then has
            a shape of its own, for which compiling does not pay, and replay cuts closest.
    """

    blocks: float
    predictions: float
    beginnings: bool = False


def choose(model: LanguageModel, tokens: Tensor, sites: Sequence[Site], work: RunSize) -> Choice:
    """The fastest engine whose effects are right: to `TOLERANCE` per token, and means to `MOST_BIAS` standard errors.

    Call under `model.running()`.

    Args:
        model: the model.
        tokens: the first full batch of windows, [window, position].
        sites: heads or mixers to be ablated.
        work: what the run is going to do.
    """
    if flops(model, tokens.shape[1], work.blocks) < _LITTLE and not model.offloaded:
        return Choice(_replay(model, tokens), "replay: too little to do for trials to pay")
    trial = _Trial(model, tokens, _spread(sites), work)
    try:
        error, _ = trial.full
    except NotTraceable as problem:
        return Choice(_replay(model, tokens), f"replay: {problem.problem}")
    if error.per_token > _rounding(model):
        return Choice(_replay(model, tokens), f"replay: differences were off by {error.per_token:.1e} in a trial")
    chosen = delta(model, tokens, sites, work, None, trial)
    if model.offloaded:
        return Choice(chosen.engine, f"{chosen.reason}, each block's weights read once for all ablated runs")
    if chosen.engine.settings["precision"] == "full" and not chosen.engine.settings["compiled"]:
        why = "compiling does not pay for beginnings of windows" if work.beginnings else _TOO_LITTLE
        return Choice(_replay(model, tokens), f"replay: {why}")
    return chosen


def delta(
    model: LanguageModel,
    tokens: Tensor,
    sites: Sequence[Site],
    work: RunSize,
    precision: str | None,
    trial: _Trial | None = None,
) -> Choice:
    """The delta engine, as asked for, with its settings. Call under `model.running()`.

    Args:
        model: the model.
        tokens: the first full batch of windows.
        sites: heads or mixers to be ablated.
        work: as for `choose`.
        precision: precision of its products; by default the fastest that is right, as for `choose`.
    """
    if trial is None:
        trial = _Trial(model, tokens, _spread(sites), work)
        trial.require_right()
    why = f"{precision} products as asked for"
    if precision is None:
        precision, why = _precision(model, trial)
    fold = _fold(model, len(tokens) * tokens.shape[1])
    compiled = not work.beginnings and _worth_compiling(model, trial, work.blocks)
    engine = DeltaEngine(precision, fold, compiled, len(tokens))
    return Choice(engine, f"delta: {why}, {'compiled' if engine.compiled else 'not compiled'}")


def require_right(model: LanguageModel, tokens: Tensor, sites: Sequence[Site]) -> None:
    """Refuses the delta engine where its effects of some heads are not replay's. Call under `model.running()`.

    Args:
        model: the model.
        tokens: the first full batch of windows.
        sites: heads or mixers to be ablated.

    Raises:
        RefusedModel: they differ by more than rounding.
        NotTraceable: the model's blocks cannot be followed.
    """
    _Trial(model, tokens, _spread(sites), RunSize(0.0, 0.0)).require_right()


def flops(model: LanguageModel, positions: int, work: float) -> float:
    """Floating-point operations of a sweep: two per parameter of a block and token (attention's own left out).

    Args:
        model: the model.
        positions: number of positions of a window.
        work: blocks times ablated runs times windows.
    """
    blocks = model.anatomy.blocks
    parameters = sum(p.numel() for block in blocks for p in block.module.parameters()) / len(blocks)
    return 2 * parameters * positions * work


class _Trial:
    """Effects of some heads on a few windows, computed by the replay engine, to compare others with."""

    def __init__(self, model: LanguageModel, tokens: Tensor, sites: Sequence[Site], work: RunSize) -> None:
        blocks = sum(model.anatomy.layers - site.port.layer for site in sites)
        affordable = _TRIAL_SHARE * work.blocks / max(1, blocks)
        self.model, self.sites, self.planned = model, sites, work.predictions
        self.tokens = tokens[: max(1, int(min(_TRIAL_WINDOWS, affordable)))]
        ports = ports_of(each(sites))
        self.clean = clean_run(model, self.tokens, ports=ports)
        donors = port_outputs(model, tokens.roll(-1, 0)[: len(self.tokens)], ports) if len(tokens) > 1 else None
        self._outputs = donors or {port: torch.zeros_like(self.clean.outputs_at(port)) for port in ports}
        self._truth = self._effects(ReplayEngine(fold=1))

    def error(self, engine: Engine) -> RelativeError:
        """Error of an engine's total effects, against replay."""
        return RelativeError.between(self._effects(engine), self._truth, self.planned)

    @cached_property
    def full(self) -> tuple[RelativeError, bool]:
        """Error of differences at full precision, and whether they stepped over some module as a whole."""
        engine = DeltaEngine()
        return self.error(engine), engine.steps_over_modules

    def require_right(self) -> None:
        """Refuses differences whose effects are off by more than rounding, of the effects or of the logits."""
        error, _ = self.full
        logits = _ROUNDINGS * torch.finfo(self.model.dtype).eps * float(self.clean.scaled_logit.abs().max())
        size = float(self._truth.double().square().mean().sqrt().clamp_min(1e-30))
        require_differences(self.model, error.per_token, max(_rounding(self.model), logits / size))

    def seconds_of_replay(self) -> float:
        """Seconds that one run of one window takes for one block."""
        layer, sites = list(usual_sites(self.model.anatomy).items())[-3:][0]
        engine, chosen = ReplayEngine(fold=1), each(sites[:1])
        clean = clean_run(self.model, self.tokens, ports=ports_of(chosen))
        seconds = _timed(
            lambda: list(engine.sweep(self.model, clean, chosen, clean.outputs_at, False)),
            self.model.device,
        )
        return seconds / (self.model.anatomy.layers - layer) / len(self.tokens)

    def _effects(self, engine: Engine) -> Tensor:
        """Total effects [site, token], position 0 left out."""
        chosen = each(self.sites)
        ledgers = engine.sweep(self.model, self.clean, chosen, self._outputs.__getitem__, False)
        effects = {
            intervention: ledger.total_effect[row, :, 1:].flatten()
            for ledger in ledgers
            for row, intervention in enumerate(ledger.interventions)
        }
        return torch.stack([effects[intervention] for intervention in chosen])


def _precision(model: LanguageModel, trial: _Trial) -> tuple[str, str]:
    """The fastest product that is accurate enough, and the trial's results in words."""
    if model.dtype != torch.float32:
        return "full", f"in {str(model.dtype).removeprefix('torch.')}"
    speed = _seconds_of_products(model)
    remarks = []
    for name in sorted(speed, key=speed.__getitem__):
        gain = speed["full"] / speed[name]
        if gain < _FASTER:
            break
        error = trial.error(DeltaEngine(name))
        off = f"off by {error.per_token:.1%} per token, means by {error.bias:.2g} of the run's standard errors"
        if error.per_token <= TOLERANCE and error.bias <= MOST_BIAS:
            return name, f"{name} products ({gain:.1f} times as fast, {off} in a trial)"
        remarks.append(f"{name} would be {gain:.1f} times as fast but {off}")
    return "full", "; ".join(["float32 products", *remarks])


def _seconds_of_products(model: LanguageModel) -> dict[str, float]:
    """Time of a product of the size of an MLP's at each precision: the best of several rounds."""
    best = dict.fromkeys(PRECISIONS, float("inf"))
    for _ in range(_ROUNDS):
        for name in PRECISIONS:
            best[name] = min(best[name], _seconds_of_product(model, name))
    return best


def _seconds_of_product(model: LanguageModel, name: str) -> float:
    """Time of one such product; infinite where the device has none."""
    width, device = model.anatomy.width, model.device
    precision = PRECISIONS[name]
    rows = torch.randn(1024, width, device=device)
    try:
        weight = precision.prepare(torch.randn(width, 4 * width, device=device))
        return _timed(lambda: precision.product(rows, weight), device)
    except RuntimeError:
        return float("inf")


def _timed(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _worth_compiling(model: LanguageModel, trial: _Trial, work: float) -> bool:
    """Whether a replay would take so long that compiling is repaid."""
    _, steps_over_modules = trial.full
    if steps_over_modules or not _has_compiler(model):
        return False
    return min(trial.seconds_of_replay() for _ in range(2)) * work > _REPAID * _COMPILE_SECONDS


def _has_compiler(model: LanguageModel) -> bool:
    if model.device.type == "cuda":
        return torch.utils._triton.has_triton()
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def _fold(model: LanguageModel, rows: int) -> int:
    """Runs that pass a block together: as many as caches like, without a last chunk that is mostly filling."""
    most = max(1, (_GPU_ROWS if model.device.type == "cuda" else _CPU_ROWS) // rows)
    heads = max(1, model.anatomy.heads)
    fitting = [fold for fold in range(1, most + 1) if -heads % fold <= _WASTE * heads]
    return max(fitting)


def _replay(model: LanguageModel, tokens: Tensor) -> ReplayEngine:
    engine = ReplayEngine()
    engine.fold = engine.probe(model, clean_run(model, tokens))
    return engine


def _spread(sites: Sequence[Site]) -> list[Site]:
    """A few heads or mixers of all depths, first and last among them."""
    ordered = sorted(sites, key=lambda site: (site.port.layer, site.entries or ()))
    places = torch.linspace(0, len(ordered) - 1, min(_TRIAL_HEADS, len(ordered))).round().int().tolist()
    return [ordered[rank] for rank in places]


def _rounding(model: LanguageModel) -> float:
    """The relative error of effects that rounding explains."""
    return 1e-9 if model.dtype == torch.float64 else 1e-3
