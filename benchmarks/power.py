"""Time to a given interval width: the exact sweep against two phases, in one run; and how often intervals hold.

    python benchmarks/power.py ../shared/models/neox-9m --documents 60 --share 0.1 --share 0.2
    python benchmarks/power.py default --documents 12 --heads L0,L10,L20 --share 0.1 --corpora 0
    python benchmarks/power.py default --documents 12 --share 0.05 --unfiltered --corpora 0

Widths of intervals fall with the root of the documents, so the time to a given width is `seconds * width^2`; "gain" is
that of the exact sweep in float32 (the engine `replay`) over that of the others. Seconds are the processor's, so that a
busy machine does not decide (take one thread). The others run the engine that `--engine` names, by default what `auto`
chooses here: the same sweep first, which shows what low precision gains alone, then two phases, on documents of one
text: two phases on `--times` as many. The exact sweep is a run as it is by default, of all tokens too; two phases are
asked for the top 2% alone, by own positions, or with `--unfiltered` for all tokens, by first-order effects.

Coverage: the documents of one exact run and one at own positions are the population; corpora are drawn from it with
replacement, with a random exact part, and estimated as runs are.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
import torch
import typer

from selfrepair import LanguageModel, Run, Windows, load, measure, windows
from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.run.planning.settings import Statistics
from selfrepair.run.storage.finished_unit import Unit
from selfrepair.run.unit.whole_sums import SUMS
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.bootstrap import bootstrap_all, bootstrap_filtered, document_weights
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import INDEX, features
from selfrepair.statistics.intervals import Replicated
from selfrepair.statistics.two_phase import TwoPhaseFeatures, estimated, estimated_over_all, joined_phases

TOP, FILTERS = "top 2%", ("all", "top:0.02")
ASKED = {"own": ("top 2%", ("top:0.02",)), "gradient": ("all", ("all",))}  # label and filters, by surrogate
LENGTH, FRACTION = 64, 0.02
REPLICATES = Statistics().replicates
POPULATION_HEADS = 12  # of all depths, whose coverage is measured
NAMES_OF_ALL = ("total_effect", "self_repair", "repaired_fraction", "repair_mlps")
NAMES = ("self_repair", "repaired_fraction", "slope_through_origin", "share_repaired")

app = typer.Typer(add_completion=False)


@app.command()
def power(
    model: str,
    documents: Annotated[int, typer.Option(help="Documents of the exact run.")] = 40,
    times: Annotated[int, typer.Option(help="How many times as many documents two phases get.")] = 4,
    share: Annotated[list[float], typer.Option(help="Shares of exact documents; may be given several times.")] = [0.1],  # noqa: B006
    unfiltered: Annotated[bool, typer.Option(help="All tokens by first-order effects, not the top 2%.")] = False,
    heads: Annotated[str | None, typer.Option(help="Heads to ablate, such as L0,L10; all by default.")] = None,
    engine: Annotated[str, typer.Option(help="Engine of what is compared with the exact sweep by replay.")] = "auto",
    corpora: Annotated[int, typer.Option(help="Corpora drawn to measure coverage; 0 for none.")] = 200,
    threads: int = 2,
) -> None:
    """Prints seconds, widths and gains, then coverage."""
    torch.set_num_threads(threads)
    loaded = load(model)
    text = windows(loaded.tokenizer, "builtin", tokens=LENGTH * documents * times, length=LENGTH)
    small = windows(loaded.tokenizer, "builtin", tokens=LENGTH * documents, length=LENGTH)
    surrogate = "gradient" if unfiltered else "own"
    exact = run_on(loaded, small, engine="replay", filters=FILTERS, heads=heads)
    print(f"{loaded.name}, {surrogate}: exact on {documents} documents, {exact.seconds:.0f} s", flush=True)
    if engine != "replay":
        same = run_on(loaded, small, engine=engine, filters=FILTERS, heads=heads)
        print(f"  by {same.run.plan['engine_reason']}, {same.seconds:.0f} s: {gains(exact, same, ASKED[surrogate][0])}")
    for part in share:
        label, filters = ASKED[surrogate]
        phases = run_on(
            loaded, text, engine=engine, filters=filters, heads=heads, surrogate=surrogate, exact_share=part
        )
        facts = phases.run.plan["phases"]
        assert facts is not None
        part_of_all = f"{facts['exact_documents']} of {facts['documents']} documents exact"
        by = phases.run.plan["engine_reason"]
        print(f"  {part_of_all}, by {by}, {phases.seconds:.0f} s: {gains(exact, phases, label)}", flush=True)
    if corpora:
        for line in (coverage_over_all if unfiltered else coverage)(loaded, text, corpora):
            print(line, flush=True)


@dataclass(frozen=True)
class Timed:
    """A run, and the processor's seconds that it took."""

    run: Run
    seconds: float


def run_on(model: LanguageModel, text: Windows, **options: object) -> Timed:
    """A run, and what it took."""
    started = time.process_time()
    run = measure(model, text, progress=False, **options)  # type: ignore[arg-type]
    return Timed(run, time.process_time() - started)


# ---------------------------------------------------------------------------------------------------- gains


def gains(exact: Timed, phases: Timed, label: str) -> str:
    """One line: the gain for the card and for heads, by thirds of the depth, under a filter."""
    times = exact.seconds / phases.seconds
    both = exact.run, phases.run
    card = times * np.divide(*(pooled_width(run, label) for run in both)) ** 2
    said = []
    for name in ("self_repair", "total_effect"):
        heads = times * np.divide(*(widths(run, name, label) for run in both)) ** 2
        rows = heads[~np.isnan(heads).all(1)]
        thirds = ", ".join(f"{np.nanmedian(part):.1f}" for part in np.array_split(rows, 3))
        said.append(f"median head's {name} {np.nanmedian(heads):.1f} (thirds of the depth: {thirds})")
    decided = [int((run.heads["label"].sel(filter=label) == "repaired").sum()) for run in both]
    return (
        f"gain of the card {card:.1f}, {'; '.join(said)}; heads repaired: {decided[0]} exact by replay, {decided[1]} so"
    )


def pooled_width(run: Run, label: str) -> float:
    """Width of the interval of the model's repaired fraction."""
    high, low = (float(run.heads[f"pooled_repaired_fraction_{end}"].sel(filter=label)) for end in ("high", "low"))
    return high - low


def widths(run: Run, name: str, label: str) -> np.ndarray:
    """Widths of the intervals of a mean [layer, head]."""
    high, low = (run.heads[f"{name}_{end}"].sel(filter=label).values for end in ("high", "low"))
    return np.asarray(high - low)


# ------------------------------------------------------------------------------------------------- coverage


@dataclass(frozen=True)
class Population:
    """All tokens of some documents, for one head.

    Attributes:
        document: [token].
        effect: clean direct effects [token].
        exact: features [token, feature].
        cheap: the surrogate's.
    """

    document: np.ndarray
    effect: np.ndarray
    exact: np.ndarray
    cheap: np.ndarray


def heads_of_all_depths(model: LanguageModel) -> list[tuple[int, int]]:
    """The heads whose coverage is measured."""
    blocks = model.anatomy.heads_by_layer
    layers = np.linspace(0, len(blocks) - 1, POPULATION_HEADS).round().astype(int)
    return sorted({(int(layer), number % blocks[layer]) for number, layer in enumerate(layers)})


def populations(model: LanguageModel, text: Windows) -> Iterator[Population]:
    """Heads of all depths, each token measured everywhere and at its own position."""
    heads = heads_of_all_depths(model)
    options = {"filters": FILTERS, "heads": heads, "sample": 10**7, "components": "none", "progress": False}
    runs = [measure(model, text, positions=where, **options) for where in ("all", "own")]  # type: ignore[arg-type]
    frames = [run.tokens_frame().sort_values(["window", "position"]) for run in runs]
    for layer, head in heads:
        rows = [frame[(frame["layer"] == layer) & (frame["head"] == head)] for frame in frames]
        tables = [features({name: part[name].to_numpy() for name in QUANTITIES}) for part in rows]
        document = np.unique(rows[0]["document"].astype(str), return_inverse=True)[1]
        yield Population(document, rows[0]["direct_effect"].to_numpy(), *tables)


Head = TypeVar("Head")


def covered(
    heads: Sequence[Head],
    corpora: int,
    names: Sequence[str],
    summed: Callable[[Head], np.ndarray],
    corpus_of: Callable[[np.random.Generator, Head], Replicated],
) -> str:
    """How often intervals hold the population's numbers, in words.

    Args:
        heads: populations.
        corpora: corpora to draw, of all heads together.
        names: estimators.
        summed: sums of features over the tokens of a population that count.
        corpus_of: draws a corpus from a population, with estimated sums.
    """
    held: dict[str, list[float]] = {name: [] for name in names}
    for number, head in enumerate(heads):
        truth = {name: float(ESTIMATORS[name](summed(head))) for name in names}
        for corpus in range(-(-corpora // len(heads))):
            replicated = corpus_of(np.random.default_rng([number, corpus]), head)
            for name in names:
                estimate = replicated.estimate(name)
                if np.isfinite(estimate.low):
                    held[name].append(estimate.low <= truth[name] <= estimate.high)
    shares = ", ".join(f"{name} {np.mean(hits):.1%}" for name, hits in held.items())
    return f"{len(held['self_repair'])} corpora: {shares}"


def coverage(model: LanguageModel, text: Windows, corpora: int) -> Iterator[str]:
    """How often intervals hold the population's number, for own positions and for noise in their place."""
    chosen = list(populations(model, text))
    size = len(np.unique(chosen[0].document)) // 2
    for way in ("own", "noise"):
        said = covered(chosen, corpora, NAMES, passing_sums, partial(drawn, size=size, noise=way == "noise"))
        yield f"  coverage with {way}, {size} documents of which {exact_part(size)} exact, {said}"


def exact_part(size: int) -> int:
    """Documents of a corpus that are measured exactly."""
    return max(8, size // 8)


def passing_sums(head: Population) -> np.ndarray:
    """Sums over the filter's tokens in the whole population."""
    passing = head.effect >= np.sort(head.effect)[-max(1, int(FRACTION * len(head.effect)))]
    summed: np.ndarray = head.exact[passing].sum(0)
    return summed


def resampling(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which documents of a corpus are in a random exact part [document], and how often each counts
    [1 + replicate, document]: on the corpus itself once."""
    in_part = np.isin(np.arange(size), rng.permutation(size)[: exact_part(size)])
    weights = document_weights(size, REPLICATES, int(rng.integers(2**31)))
    return in_part, np.concatenate([np.ones((1, size), weights.dtype), weights])


def drawn(rng: np.random.Generator, head: Population, size: int, noise: bool) -> Replicated:
    """Estimated sums from documents drawn with replacement."""
    owners = rng.integers(0, head.document.max() + 1, size)
    places = [np.flatnonzero(head.document == owner) for owner in owners]
    tokens, document = np.concatenate(places), np.repeat(np.arange(size), [len(place) for place in places])
    cheap = head.cheap[rng.permutation(len(head.cheap))[: len(tokens)]] if noise else head.cheap[tokens]
    in_part, weights = resampling(rng, size)
    match = np.where(in_part[document], np.arange(len(tokens)), -1)
    table = TwoPhaseFeatures(cheap, head.exact[tokens], match)
    counted = np.bincount(document, minlength=size)
    found = estimated(bootstrap_filtered(head.effect[tokens], table, document, counted, FRACTION, weights), in_part)
    cells = np.array(found.documents), np.array(found.effective), np.array(found.effective_of_known)
    return Replicated(found.sums[0], found.sums[1:], *cells)


# -------------------------------------------------------------------------------------- coverage of all tokens


class Sums(NamedTuple):
    """Sums of features over all tokens of some documents, for one head, [document, feature].

    Attributes:
        exact: measured exactly.
        cheap: the surrogate's.
    """

    exact: np.ndarray
    cheap: np.ndarray


def document_sums(model: LanguageModel, text: Windows) -> list[Sums]:
    """Of heads of all depths."""
    heads = heads_of_all_depths(model)
    options = {"filters": ("all",), "heads": heads, "components": "none", "progress": False}
    with tempfile.TemporaryDirectory() as folder:
        measure(model, text, out=Path(folder) / "run", surrogate="gradient", exact_share=1.0, **options)  # type: ignore[arg-type]
        units = [Unit(0, path) for path in sorted(Path(folder).rglob("sweep-*.safetensors"))]
        numbers, row = np.unique(np.concatenate([unit.get("documents") for unit in units]), return_inverse=True)
        found = []
        for name in ("features", SUMS):
            parts = np.concatenate([unit.get(name) for unit in units])[:, *np.transpose(heads)]
            sums = np.zeros((len(numbers), *parts.shape[1:]))
            np.add.at(sums, row, parts)
            found.append(sums)
    return [Sums(*pair) for pair in zip(*(np.moveaxis(sums, 1, 0) for sums in found), strict=True)]


def drawn_sums(rng: np.random.Generator, head: Sums, size: int, noise: bool) -> Replicated:
    """Estimated sums over all tokens of documents drawn with replacement; as noise, effects of other documents."""
    cheap = head.cheap.copy()
    if noise:
        effects = [INDEX[name] for name in ("total_effect", "self_repair", *LINE_QUANTITIES)]
        cheap[:, effects] = cheap[rng.permutation(len(cheap))][:, effects]
    chosen = rng.integers(0, len(cheap), size)
    in_part, weights = resampling(rng, size)
    measured = np.where(in_part[:, None], head.exact[chosen], 0)
    tokens = cheap[chosen, INDEX["count"]]
    both = bootstrap_all(joined_phases(cheap[chosen], measured), weights)
    sums, effective, known = estimated_over_all(both, tokens, np.where(in_part, tokens, 0))
    return Replicated(sums[0], sums[1:], np.array(size), effective, known)


def coverage_over_all(model: LanguageModel, text: Windows, corpora: int) -> Iterator[str]:
    """The same for means over all tokens, by first-order effects and by those of other documents in their place."""
    heads = document_sums(model, text)
    size = len(heads[0].exact) // 2
    for way in ("gradient", "noise"):
        corpus_of = partial(drawn_sums, size=size, noise=way == "noise")
        said = covered(heads, corpora, NAMES_OF_ALL, lambda head: head.exact.sum(0), corpus_of)
        yield f"  coverage with {way}, {size} documents of which {exact_part(size)} exact, {said}"


if __name__ == "__main__":
    app()
