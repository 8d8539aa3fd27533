"""Chooses a run's engine and its settings, by short trials on the run's first windows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from selfrepair.ablation.sites import Site
from selfrepair.engine.clean import clean_run
from selfrepair.engine.contract import Engine
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.delta.blocks import NotTraceable
from selfrepair.engine.delta.matmul import PRECISIONS
from selfrepair.engine.replay import ReplayEngine
from selfrepair.engine.trial import RunSize, Trial, rounding, timed
from selfrepair.model.language_model import LanguageModel

_FASTER = 1.3  # times as fast as full precision that a lower one has to be
_COMPILE_SECONDS = 60.0  # what compiling may take, on the first run on a machine
_REPAID = 5  # times as long as that a replay has to take: compiled differences gain a quarter or more on it
_CPU_ROWS, _GPU_ROWS = 1536, 65536  # tokens that pass a block together: what caches like, or a GPU
_WASTE = 0.1  # share of a last, smaller chunk that may be filling
_ROUNDS = 5  # of timing products, each in its turn: work beside hits all alike
_PRODUCTS, _PRODUCTS_NOT_COMPILED = 0.85, 0.65  # share of a float32 engine's time that products take
_CUTS_CLOSEST = "it alone computes windows no further than filters need"
_TOO_LITTLE = "too little to do for compiled differences to pay"
_LITTLE = 1e12  # floating-point operations: seconds of work


@dataclass(frozen=True)
class Choice:
    """An engine with all its settings, and why this one."""

    engine: Engine
    reason: str


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
    trial, gains = Trial(model, tokens, sites, work), _gains(model)
    nothing_gained = f"replay: {_TOO_LITTLE if work.positions == 1 else _CUTS_CLOSEST}"
    if not model.offloaded and not _may_pay(trial, gains):
        return Choice(_replay(model, tokens), nothing_gained)
    try:
        error, _ = trial.full
    except NotTraceable as problem:
        return Choice(_replay(model, tokens), f"replay: {problem.problem}")
    if error.per_token > rounding(model):
        return Choice(_replay(model, tokens), f"replay: differences were off by {error.per_token:.1e} in a trial")
    chosen = _delta(model, tokens, trial, gains)
    if model.offloaded:
        return Choice(chosen.engine, f"{chosen.reason}, each block's weights read once for all ablated runs")
    settings = chosen.engine.settings
    if settings["precision"] == "full" and not (settings["compiled"] and work.positions == 1):
        return Choice(_replay(model, tokens), nothing_gained)
    return chosen


def delta(model: LanguageModel, tokens: Tensor, sites: Sequence[Site], work: RunSize, precision: str | None) -> Choice:
    """The delta engine, as asked for, with its settings. Call under `model.running()`.

    Args:
        model: the model.
        tokens: the first full batch of windows.
        sites: heads or mixers to be ablated.
        work: as for `choose`.
        precision: precision of its products; by default the fastest that is right, as for `choose`.
    """
    trial = Trial(model, tokens, sites, replace(work, positions=1.0))  # it takes whole windows, whatever replay would
    trial.require_right()
    return _delta(model, tokens, trial, _gains(model) if precision is None else {}, precision)


def _delta(
    model: LanguageModel, tokens: Tensor, trial: Trial, gains: dict[str, float], precision: str | None = None
) -> Choice:
    compiled = _is_long(trial) and _can_be_compiled(model, trial)
    if precision is not None:
        products = _Products(precision, 0, f"{precision} products as asked for")
    else:
        products = _products(model, trial, gains, compiled)
    batch = trial.work.batch or len(tokens)
    fold = _fold(model, batch * tokens.shape[1])
    engine = DeltaEngine(products.precision, fold, compiled, batch, full_below=products.full_below)
    return Choice(engine, f"delta: {products.reason}, {'compiled' if engine.compiled else 'not compiled'}")


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
    Trial(model, tokens, sites, RunSize(0.0, 0.0)).require_right()


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


@dataclass(frozen=True)
class _Products:
    """Products of differences with weights, and why these.

    Attributes:
        precision: their precision.
        full_below: runs that start below this layer keep full precision.
        reason: the trial's results in words.
    """

    precision: str
    full_below: int
    reason: str


def _products(model: LanguageModel, trial: Trial, gains: dict[str, float], compiled: bool) -> _Products:
    """The fastest products that are accurate enough, but for what starts in the first layers.

    Args:
        model: the model.
        trial: effects to compare with.
        gains: how many times as fast as float32 lower precisions multiply, fastest first.
        compiled: whether differences will be compiled.
    """
    if model.dtype != torch.float32:
        return _Products("full", 0, f"in {str(model.dtype).removeprefix('torch.')}")
    remarks = []
    for name, gain in gains.items():
        if not _pays(trial, gain, compiled, 0):
            break
        found = trial.right_from(DeltaEngine(name), partial(_pays, trial, gain, compiled))
        error = found.error
        off = f"off by {error.per_token:.1%} per token, means by {error.bias:.2g} of the run's standard errors"
        if found.layer is not None:
            why = f"{name} products ({gain:.1f} times as fast, {off} in a trial)"
            below = f"; float32 for what is ablated below layer {found.layer}, where {name} is not right"
            return _Products(name, found.layer, why + (below if found.layer else ""))
        remarks.append(f"{name} would be {gain:.1f} times as fast but {off}")
    return _Products("full", 0, "; ".join(["float32 products", *remarks]))


def _pays(trial: Trial, gain: float, compiled: bool, layer: int) -> bool:
    """Whether products that are so many times as fast pay if what starts below a layer cannot have them. Differences
    are taken of whole windows; a replay that computes beginnings alone saves the rest of these."""
    share, products = trial.share_below(layer), _PRODUCTS if compiled else _PRODUCTS_NOT_COMPILED
    seconds = share + (1 - share) * (1 - products + products / gain)
    return gain >= _FASTER and seconds <= min(trial.work.positions, 1 / _FASTER)


def _may_pay(trial: Trial, gains: dict[str, float]) -> bool:
    """Whether differences may pay at all, before anything is tried."""
    long = _is_long(trial)
    in_float32 = long and trial.work.positions == 1
    return in_float32 or any(_pays(trial, gain, long, 0) for gain in gains.values())


def _gains(model: LanguageModel) -> dict[str, float]:
    """How many times as fast as float32 lower precisions make a product of the size of an MLP's, fastest first; none
    of models in another precision. The best of several rounds."""
    if model.dtype != torch.float32:
        return {}
    best = dict.fromkeys(PRECISIONS, float("inf"))
    for _ in range(_ROUNDS):
        for name in PRECISIONS:
            best[name] = min(best[name], _seconds_of_product(model, name))
    full = best.pop("full")
    return {name: full / best[name] for name in sorted(best, key=best.__getitem__)}


def _seconds_of_product(model: LanguageModel, name: str) -> float:
    """Time of one such product; infinite where the device has none."""
    width, device = model.anatomy.width, model.device
    precision = PRECISIONS[name]
    rows = torch.randn(1024, width, device=device)
    try:
        weight = precision.prepare(torch.randn(width, 4 * width, device=device))
        return timed(lambda: precision.product(rows, weight), device)
    except RuntimeError:
        return float("inf")


def _is_long(trial: Trial) -> bool:
    """Whether a replay would take so long that compiling is repaid."""
    return trial.seconds > _REPAID * _COMPILE_SECONDS


def _can_be_compiled(model: LanguageModel, trial: Trial) -> bool:
    _, steps_over_modules = trial.full
    return not steps_over_modules and _has_compiler(model)


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
