"""Trials on a run's first windows: effects of a few heads by replay, and what other engines make of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from selfrepair.ablation.interventions import each, ports_of
from selfrepair.ablation.sites import Site, usual_sites
from selfrepair.engine.ablation_proofs import require_differences
from selfrepair.engine.clean import CleanRun, clean_run, port_outputs
from selfrepair.engine.contract import Engine
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.relative_error import RelativeError
from selfrepair.engine.replay import ReplayEngine
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port

TOLERANCE = 0.01  # relative error of effects per token
MOST_BIAS = 0.1  # of means, in standard errors that the planned run will reach: next to none of what it reports
_HEADS, _WINDOWS = 6, 4
_SHARE = 0.01  # of the run's work that the trial of one engine may take
_ROUNDINGS = 64  # of a logit, that its change in two engines may differ by


@dataclass(frozen=True)
class RunSize:
    """What a run is going to do.

    Attributes:
        blocks: blocks times ablated runs times windows.
        predictions: tokens whose effects are measured for each head.
        positions: share of windows' positions that filters need, about. Below 1, replay computes windows only as far
            (`engine.beginnings`), in batches that each have a shape of their own.
        batch: windows that are computed together, if not as many as the run takes at a time.
    """

    blocks: float
    predictions: float
    positions: float = 1.0
    batch: int | None = None


@dataclass(frozen=True)
class RightFrom:
    """From where on an engine is right in a trial.

    Attributes:
        layer: the lowest layer from which on ablations come out right, 0 if all do; None where there is none.
        error: that of the ablations from there on, or of all where there is none.
    """

    layer: int | None
    error: RelativeError


class Trial:
    """Effects of some heads on a few windows, computed by the replay engine, to compare others with."""

    def __init__(self, model: LanguageModel, tokens: Tensor, sites: Sequence[Site], work: RunSize) -> None:
        """Call under `model.running()`.

        Args:
            model: the model.
            tokens: the first full batch of windows, [window, position].
            sites: heads or mixers to be ablated.
            work: what the run is going to do.
        """
        self.model, self.work = model, work
        self._all = sorted(sites, key=lambda site: (site.port.layer, site.entries or ()))
        self.sites = _spread(self._all)
        blocks = sum(model.anatomy.layers - site.port.layer for site in self.sites)
        affordable = _SHARE * work.blocks / max(1, blocks)
        count = max(1, int(min(_WINDOWS, affordable)))
        self.tokens = tokens[:count]
        self._donors = tokens.roll(-1, 0)[:count] if len(tokens) > 1 else None
        self._truth: dict[Site, Tensor] = {}
        self._made: dict[frozenset[Port], tuple[CleanRun, dict[Port, Tensor]]] = {}

    def error(self, engine: Engine) -> RelativeError:
        """Error of an engine's total effects, against replay."""
        return self._between(self._effects(engine, self.sites))

    @cached_property
    def full(self) -> tuple[RelativeError, bool]:
        """Error of differences at full precision, and whether they stepped over some module as a whole."""
        engine = DeltaEngine()
        return self.error(engine), engine.steps_over_modules

    def share_below(self, layer: int) -> float:
        """Share of the run's work that ablations take which start below a layer."""
        blocks = [(site.port.layer, self.model.anatomy.layers - site.port.layer) for site in self._all]
        return sum(number for start, number in blocks if start < layer) / max(1, sum(number for _, number in blocks))

    def right_from(self, engine: Engine, pays: Callable[[int], bool]) -> RightFrom:
        """The layer from which on an engine's effects are right: to `TOLERANCE` per token, and means to `MOST_BIAS`
        standard errors. Heads of more layers are tried until it is found.

        Args:
            engine: the engine.
            pays: whether it is worth having if right from a layer on.
        """
        found = self._effects(engine, self.sites)
        layers = sorted({site.port.layer for site in self._all})
        while True:
            tried = sorted({site.port.layer for site in found})
            errors = {layer: self._between(_starting_from(layer, found)) for layer in tried}
            right = next((layer for layer in tried if _is_right(errors[layer])), None)
            if right == tried[0]:
                return RightFrom(0, errors[right])
            if right is None:
                return RightFrom(None, errors[tried[0]])
            wrong = max(layer for layer in tried if layer < right)
            unknown = [layer for layer in layers if wrong < layer < right]
            if not pays((unknown or [right])[0]):
                return RightFrom(None, errors[tried[0]])
            if not unknown:
                return RightFrom(right, errors[right])
            middle = unknown[(len(unknown) - 1) // 2]
            found |= self._effects(engine, [next(site for site in self._all if site.port.layer == middle)])

    def require_right(self) -> None:
        """Refuses differences whose effects are off by more than rounding, of the effects or of the logits."""
        error, _ = self.full
        clean, _ = self._inputs(ports_of(each(self.sites)))
        logits = _ROUNDINGS * torch.finfo(self.model.dtype).eps * float(clean.scaled_logit.abs().max())
        truth = torch.stack([self._truth[site] for site in self.sites])
        size = float(truth.double().square().mean().sqrt().clamp_min(1e-30))
        require_differences(self.model, error.per_token, max(rounding(self.model), logits / size))

    @cached_property
    def seconds(self) -> float:
        """Seconds that a replay of the whole run would take."""
        return min(self.seconds_of_replay() for _ in range(2)) * self.work.blocks

    def seconds_of_replay(self) -> float:
        """Seconds that one run of one window takes for one block."""
        layer, sites = list(usual_sites(self.model.anatomy).items())[-3:][0]
        engine, chosen = ReplayEngine(fold=1), each(sites[:1])
        clean = clean_run(self.model, self.tokens, ports=ports_of(chosen))
        seconds = timed(
            lambda: list(engine.sweep(self.model, clean, chosen, clean.outputs_at, False)),
            self.model.device,
        )
        return seconds / (self.model.anatomy.layers - layer) / len(self.tokens)

    def _between(self, found: dict[Site, Tensor]) -> RelativeError:
        """Error of some effects against replay's, which are computed where they have not been."""
        missing = [site for site in found if site not in self._truth]
        if missing:
            self._truth |= self._effects(ReplayEngine(fold=1), missing)
        truth = torch.stack([self._truth[site] for site in found])
        return RelativeError.between(torch.stack(list(found.values())), truth, self.work.predictions)

    def _inputs(self, ports: frozenset[Port]) -> tuple[CleanRun, dict[Port, Tensor]]:
        """The clean run with these ports' outputs, and what goes in their place."""
        if ports not in self._made:
            clean = clean_run(self.model, self.tokens, ports=ports)
            if self._donors is not None:
                outputs = port_outputs(self.model, self._donors, ports)
            else:
                outputs = {port: torch.zeros_like(clean.outputs_at(port)) for port in ports}
            self._made[ports] = clean, outputs
        return self._made[ports]

    def _effects(self, engine: Engine, sites: Sequence[Site]) -> dict[Site, Tensor]:
        """Total effects of ablating some sites [token], position 0 left out."""
        chosen = each(sites)
        clean, outputs = self._inputs(ports_of(chosen))
        ledgers = engine.sweep(self.model, clean, chosen, outputs.__getitem__, False)
        effects = {
            intervention: ledger.total_effect[row, :, 1:].flatten()
            for ledger in ledgers
            for row, intervention in enumerate(ledger.interventions)
        }
        return {site: effects[intervention] for site, intervention in zip(sites, chosen, strict=True)}


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, what it started on the device included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounding(model: LanguageModel) -> float:
    """The relative error of effects that rounding explains."""
    return 1e-9 if model.dtype == torch.float64 else 1e-3


def _is_right(error: RelativeError) -> bool:
    return error.per_token <= TOLERANCE and error.bias <= MOST_BIAS


def _starting_from(layer: int, found: dict[Site, Tensor]) -> dict[Site, Tensor]:
    return {site: effects for site, effects in found.items() if site.port.layer >= layer}


def _spread(ordered: Sequence[Site]) -> list[Site]:
    """A few heads or mixers of all depths, first and last among them."""
    places = torch.linspace(0, len(ordered) - 1, min(_HEADS, len(ordered))).round().int().tolist()
    return [ordered[rank] for rank in places]
