"""Exact thresholds of every filter over the whole corpus, and corpus means, from all surveyed units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.results.proven import Damaged
from selfrepair.run.planning.job import Design, Job
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_file import FIX, Arrays
from selfrepair.run.unit.survey import STAGE as SURVEY
from selfrepair.statistics.curves import bin_edges
from selfrepair.statistics.filters import Filter, all_thresholds, choosing_kinds
from selfrepair.statistics.keep_limits import keep_thresholds

STAGE = "thresholds"
KEEP = "keep/"
EXPANSION = "expansion"
CURVE_BINS = 20  # bins of the curve of self-repair over direct effect
_VALUES = 2**20  # direct effects that are in memory at once, if several heads together have fewer


def thresholds(job: Job, surveyed: Sequence[Unit]) -> Arrays:
    """Merges the survey, in the order of the units; as many heads in memory at a time as fit, one at least.

    Args:
        job: the run.
        surveyed: all units of its survey, in their order.

    Returns:
        `thresholds` [filter, layer, head]; `curve_edges` [layer, head, bin - 1], between bins of direct effect;
        `keep/KIND` [layer, head] for every kind of filter, see `keep_limits.Limits`; `loss` in nats per token;
        `readout_error`; `means/L`; `position_means/L` where surveyed; in two phases `expansion` [filter, layer, head],
        tokens of each filter over those of its exact part. NaN for heads that a layer lacks.

    Raises:
        SelfRepairError: a unit is missing.
        Damaged: one is gone, or not what was written.
    """
    require_whole(job, surveyed)
    layers, heads = job.shape
    limits = np.full((len(job.filters), layers, heads), np.nan, np.float32)
    keep = {kind: np.full((layers, heads), np.nan, np.float32) for kind in choosing_kinds(job.filters)}
    documents, counted = (
        np.concatenate([of_text[unit][job.scored[unit]] for unit in job.units])  # as surveyed
        for of_text in (job.documents, job.counted)
    )
    tokens = len(documents)
    expansion = np.full(limits.shape, np.nan)
    bins = min(CURVE_BINS, tokens)
    edges = np.full((layers, heads, bins - 1), np.nan, np.float32)
    for layer, group in _groups(job, max(1, _VALUES // tokens)):
        effects = surveyed_effects(surveyed, layer, group, tokens)[None]
        here = layer, slice(group.start, group.stop)
        limits[:, *here] = all_thresholds(job.filters, effects)[:, 0]
        kept = keep_thresholds(job.filters, effects, documents, job.spreads)
        expansion[:, *here] = _expansion(job.filters, effects[0], limits[:, *here], counted)
        edges[here] = bin_edges(effects, bins)[0]
        for kind, limit in kept.items():
            keep[kind][here] = limit[0]
    arrays = {"curve_edges": edges, "thresholds": limits} | {f"{KEEP}{kind}": limit for kind, limit in keep.items()}
    if job.plan["phases"] is not None:
        arrays[EXPANSION] = expansion
    return arrays | _means(surveyed)


def _expansion(filters: Sequence[Filter], effects: np.ndarray, limits: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Tokens of each filter over those of them that are measured exactly, [filter, head]; 0 where none are."""
    passing = np.stack(
        [filter_.passes(effects, limit[:, None]) for filter_, limit in zip(filters, limits, strict=True)]
    )
    exact = passing[..., counted].sum(-1)
    return np.asarray(np.where(exact > 0, passing.sum(-1) / np.maximum(exact, 1), 0.0))


def require_whole(job: Job, surveyed: Sequence[Unit]) -> None:
    """Refuses a survey that lacks a unit: thresholds are of the whole corpus.

    Raises:
        SelfRepairError: naming what is missing.
    """
    missing = sorted(set(range(len(job.units))) - {unit.number for unit in surveyed})
    if missing:
        raise SelfRepairError(
            f"The survey lacks {len(missing)} of {len(job.units)} units (the first is number {missing[0]}), so there "
            "are no thresholds over the whole corpus.",
            "Resume the run: `selfrepair resume` does what is missing.",
        )


def merged_unit(store: Store) -> Unit:
    """The merged survey of a run.

    Raises:
        Damaged: there is none.
    """
    merged = store.finished(STAGE).get(0)
    if merged is None:
        raise Damaged(store.units / STAGE, f"The run in {store.folder} has no thresholds over the whole corpus.", FIX)
    return merged


def require_survey(design: Design, store: Store, merged: Unit) -> None:
    """Refuses a merged survey that rests on other units than those in the folder.

    Raises:
        Damaged: it does not.
    """
    made_of, finished = merged.made_of, store.finished(SURVEY)
    others = [n for n, unit in finished.items() if n < len(made_of) and made_of[n] != unit.digest]
    if len(made_of) != len(design.units) or others:
        raise Damaged(
            merged.path or Path(),
            f"The thresholds in {merged.path} were made of other units of the survey than are in {store.units}.",
            FIX,
        )


def _groups(job: Job, size: int) -> Iterator[tuple[int, range]]:
    """(layer, cells) of every head or other intervention, this many at a time."""
    for layer in range(job.model.anatomy.layers):
        for start in range(0, job.columns(layer), size):
            yield layer, range(start, min(start + size, job.columns(layer)))


def surveyed_effects(surveyed: Sequence[Unit], layer: int, heads: range, tokens: int) -> np.ndarray:
    """Clean direct effects of some heads of a layer over the whole corpus, [head, token]; no more of the files is read.

    Args:
        surveyed: the survey's units.
        layer: the layer.
        heads: its heads.
        tokens: scored tokens of the corpus.
    """
    parts = [unit.part("direct_effects", layer, heads) for unit in surveyed]
    effects = np.concatenate(parts, axis=-1)
    if effects.shape != (len(heads), tokens):
        raise SelfRepairError(
            f"The survey has {effects.shape[-1]:,} direct effects of a head, and the corpus {tokens:,} scored tokens.",
            "Remove the units of the survey from the run's folder, and resume the run.",
        )
    return effects


def _means(surveyed: Sequence[Unit]) -> Arrays:
    """Sums of the survey over its units, as means."""
    totals: Arrays = {}
    error = np.zeros(2)
    for unit in surveyed:
        sums = unit.starting_with("", but=("direct_effects",))
        error = np.maximum(error, sums.pop("readout_error"))
        for name, value in sums.items():
            totals[name] = totals[name] + value if name in totals else value
    count = np.maximum(totals["mean_count"], 1)
    positions = np.maximum(totals.get("position_counts", np.ones(1)), 1)[:, None, None]
    means = {n: v / count for n, v in totals.items() if n.startswith("means/")}
    means |= {n: v / positions for n, v in totals.items() if n.startswith("position_means/")}
    nats, tokens = totals["loss"]
    return means | {"loss": np.array([nats / max(tokens, 1)]), "readout_error": error}
