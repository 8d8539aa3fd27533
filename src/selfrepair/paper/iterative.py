"""Iterative inference: a head's own output added back into its input, the paper's Figures 9 and 19, for all heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from selfrepair.ablation.units import Head
from selfrepair.engine.clean import CleanRun
from selfrepair.errors import SelfRepairError
from selfrepair.paper.added import Adder, adder_for
from selfrepair.paper.corpus import Batch, Corpus
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Array, Number, Tally, divide, products
from selfrepair.paper.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule, scatter, symmetric
from selfrepair.run.batches import tokens_of

SECTION = "iterative"
OWN, OTHER, RANDOM = "own output", "another head's output", "random direction"
KINDS = (OWN, OTHER, RANDOM)
SCALES = (1.0, 3.0, 5.0)
FOLD_TOKENS = 12_288  # tokens that go through a block together
MOST_POINTS = 4000
ORIGINAL_LENGTH, ORIGINAL_WINDOWS = 30, 50  # of the authors' prompts


@dataclass
class Scan:
    """Self-gain of every head.

    Attributes:
        about: for captions.
        scale: what the added vectors were multiplied with.
        kinds: what was added.
        tallies: by (head, kind): `x` clean and `y` new direct effect at the clean scale, and inner products.
        fast: whether all positions went in one pass.
        shape: (layers, heads).
    """

    about: str
    scale: float
    kinds: tuple[str, ...]
    tallies: dict[tuple[Head, str], Tally] = field(default_factory=dict)
    fast: bool = True
    shape: tuple[int, int] = (0, 0)

    def slope(self, head: Head, kind: str = OWN) -> Number:
        """Least-squares slope of the new direct effect on the clean one: below 1 the head represses itself."""
        return self.tallies[head, kind].slope("x", "y", f"{head}: slope, {kind} x {self.scale:g}")

    def excess(self, head: Head) -> Number:
        """Slope of the own output less that of a random direction of equal norm, on the same tokens."""
        own, control = self.tallies[head, OWN], self.tallies[head, RANDOM]
        joint = Tally(own.documents, own.seed)
        joint._sums = own._sums | {f"{name} c": values for name, values in control._sums.items()}

        def function(sums: Mapping[str, Array]) -> Array:
            def slope(end: str) -> Array:
                n, x, y = sums["count" + end], sums["x" + end], sums["y" + end]
                spread = n * sums["x x" + end] - x**2
                return divide(n * sums["x y" + end] - x * y, spread)

            return slope("") - slope(" c")

        return joint.number(f"{head}: slope beyond a random direction's", function)


def for_scan(corpus: Corpus, tokens: int) -> Corpus:
    """The part of a corpus that a scan uses; under the original recipe 50 windows cut to 30 tokens."""
    windows = corpus.windows
    if corpus.recipe.original:
        chosen = windows.select(np.arange(min(len(windows), ORIGINAL_WINDOWS)))
        length = min(ORIGINAL_LENGTH, windows.length)
        windows = replace(
            chosen,
            tokens=chosen.tokens[:, :length],
            documents=chosen.documents[:, :length],
            lengths=np.minimum(chosen.lengths, length),
        )
    else:
        windows = windows.select(np.arange(min(len(windows), max(1, -(-tokens // windows.length)))))
    return Corpus(corpus.model, windows, corpus.recipe, corpus.seed, corpus.roll)


def scan(corpus: Corpus, scale: float = 1.0, kinds: Sequence[str] = KINDS, layers: Sequence[int] | None = None) -> Scan:
    """Adds every head's own output (and controls) to its own input, one position at a time, all positions in a pass.

    It costs, for each kind, about as much as the attention of all heads run once per head: one to three forwards.

    Args:
        corpus: model and text.
        scale: what the vectors are multiplied with.
        kinds: of `KINDS`.
        layers: all by default; the authors take the upper half.
    """
    anatomy = corpus.model.anatomy
    adder = adder_for(corpus.model, tokens_of(corpus.windows, np.arange(1), corpus.model)[:, :12])
    wanted = range(anatomy.layers) if layers is None else layers
    found = Scan(_about(corpus), scale, tuple(kinds), fast=not adder.single, shape=(anatomy.layers, anatomy.heads))
    with corpus.model.running():
        for batch in corpus.batches():
            for layer in wanted:
                heads = [Head(layer, head) for head in range(anatomy.blocks[layer].heads)]
                for group in _groups(heads, batch.clean.tokens.numel()):
                    for kind in kinds:
                        _scan_group(found, corpus, adder, batch, group, kind, scale)
    return found


def _groups(heads: list[Head], tokens: int) -> Iterator[list[Head]]:
    size = max(1, FOLD_TOKENS // tokens)
    for start in range(0, len(heads), size):
        yield heads[start : start + size]


def _scan_group(
    found: Scan, corpus: Corpus, adder: Adder, batch: Batch, heads: list[Head], kind: str, scale: float
) -> None:
    layer, clean = heads[0].layer, batch.clean
    own = head_writes(corpus, clean, layer)
    vectors = torch.stack([scale * vector(corpus, own, batch.windows, head, kind) for head in heads])
    outputs = adder.add(clean, layer, vectors).outputs
    effects = clean.direct_effects(layer)
    gram = corpus.model.anatomy.blocks[layer].output_weight
    mask = batch.scored
    for place, head in enumerate(heads):
        new = outputs[place, :, :, head.head]
        y = (new[:, :-1] * clean.head_directions[layer][:, :, head.head]).sum(-1)
        before = clean.head_outputs[layer][:, :, head.head]
        write, change = before @ gram[head.head], (new - before) @ gram[head.head]
        columns = {
            "x": _chosen(effects[..., head.head], mask),
            "y": _chosen(y, mask),
            "change.write": _chosen((change * write).sum(-1)[:, :-1], mask),
            "write.write": scale * _chosen(write.square().sum(-1)[:, :-1], mask),
        }
        tally = found.tallies.setdefault((head, kind), Tally(corpus.documents, corpus.seed))
        tally.add(batch.documents[mask], columns | products("x", "y", columns))


def head_writes(corpus: Corpus, clean: CleanRun, layer: int) -> Tensor:
    """What each head of a layer adds to the stream, biases left out, [head, window, position, width].

    Behind a post-norm (Gemma 2, OLMo 2) at the clean scale of that norm.
    """
    block = corpus.model.anatomy.blocks[layer]
    outputs = clean.head_outputs[layer]
    writes = torch.einsum("bphe,hed->hbpd", outputs, block.output_weight)
    norm = block.attention_norm
    if norm is not None:
        projected = block.projection(block.join_heads(outputs))
        writes = norm.gain * norm.centre(writes) / norm.scale(projected).unsqueeze(-1)
    added: Tensor = block.attention_multiplier * writes
    return added


def vector(corpus: Corpus, own: Tensor, windows: np.ndarray, head: Head, kind: str) -> Tensor:
    """What is added at each position, [window, position, width].

    Args:
        corpus: model and recipe.
        own: writes of the layer's heads [head, window, position, width].
        windows: numbers of the windows.
        head: whose input is changed.
        kind: its own output; another head's of its layer, or a random direction, both brought to the norm of the own
            output at each position. The original recipe takes the other head's output as it is, and one random
            direction with the norm of the last output of the batch for all tokens (paper-methods, Figure 9).

    Raises:
        SelfRepairError: an unknown kind.
    """
    mine: Tensor = own[head.head]
    size = mine.norm(dim=-1, keepdim=True)
    if kind == OWN:
        return mine
    draws = np.random.default_rng([corpus.seed, head.layer, head.head])
    if kind == OTHER:
        if len(own) < 2:
            return torch.zeros_like(mine)
        other: Tensor = own[(head.head + 1 + int(draws.integers(len(own) - 1))) % len(own)]
        if corpus.recipe.original:
            return other
        return torch.mul(other, size / other.norm(dim=-1, keepdim=True).clamp_min(1e-30))
    if kind != RANDOM:
        raise SelfRepairError(f"Nothing called '{kind}' can be added.", f"There are: {', '.join(KINDS)}.")
    if corpus.recipe.original:
        one = torch.from_numpy(draws.standard_normal(mine.shape[-1])).to(mine)
        return torch.mul(one, size[-1, -1] / one.norm()).expand_as(mine)
    noise = np.stack(
        [
            np.random.default_rng([corpus.seed, head.layer, head.head, int(window)]).standard_normal(mine.shape[1:])
            for window in windows
        ]
    )
    directions = torch.from_numpy(noise).to(mine)
    return torch.mul(directions, size / directions.norm(dim=-1, keepdim=True))


def _chosen(values: Tensor, mask: np.ndarray) -> np.ndarray:
    return np.asarray(values[torch.from_numpy(mask).to(values.device)].double().cpu().numpy())


def _about(corpus: Corpus) -> str:
    scored = corpus.windows.scored(corpus.recipe.first)
    documents = len(np.unique(corpus.windows.documents[:, :-1][scored]))
    left = "position 0 left out" if corpus.recipe.first else "position 0 counted"
    return (
        f"{corpus.model.name} · nothing ablated: vectors added at one position at a time · all "
        f"{int(scored.sum()):,} tokens, "
        f"unfiltered, from {documents} documents · {left} · text: "
        f"{corpus.windows.provenance.get('source', 'memory')} · "
        f"recipe: {corpus.recipe.name}"
    )


# ------------------------------------------------------------------------------------------- chosen heads, dose


@dataclass
class Doses:
    """Chosen heads with their own output and controls added at several scales.

    Attributes:
        about: for captions.
        heads: which.
        scales: which.
        own_scale: whether `y` is taken with the intervened run's own final scale (the original recipe).
        tallies: by (head, kind, scale).
        points: rows of tokens of the own output, at most `MOST_POINTS` per head and scale.
    """

    about: str
    heads: tuple[Head, ...]
    scales: tuple[float, ...]
    own_scale: bool
    tallies: dict[tuple[Head, str, float], Tally] = field(default_factory=dict)
    points: pd.DataFrame = field(default_factory=pd.DataFrame)


def choose_heads(found: Scan) -> list[tuple[Head, str]]:
    """The heads that repress and reinforce themselves most beyond a random direction, among those with a direct effect
    that varies (the upper half), and beyond their interval where there are such."""
    heads = sorted({head for head, _ in found.tallies})
    spread = {}
    for head in heads:
        tally = found.tallies[head, OWN]
        spread[head] = tally.total("x x") - tally.total("x") ** 2 / max(tally.tokens, 1)
    middle = float(np.median(list(spread.values())))
    excess = {head: found.excess(head) for head in heads if spread[head] >= middle}
    excess = {head: number for head, number in excess.items() if np.isfinite(number.value)}
    if not excess:
        return []
    lowest = min(excess, key=lambda head: (not excess[head].high < 0, excess[head].value))
    highest = max(excess, key=lambda head: (excess[head].low > 0, excess[head].value))
    return [(lowest, "represses itself most"), (highest, "reinforces itself most")][: len(excess)]


def study_doses(corpus: Corpus, heads: Sequence[tuple[int, int]], scales: Sequence[float] = SCALES) -> Doses:
    """Own output and controls at several scales, run to the end for the final scale.

    Args:
        corpus: model and text.
        heads: (layer, head) pairs.
        scales: what the vectors are multiplied with.
    """
    wanted = tuple(Head(*head) for head in heads)
    adder = adder_for(corpus.model, tokens_of(corpus.windows, np.arange(1), corpus.model)[:, :12])
    found = Doses(_about(corpus), wanted, tuple(scales), corpus.recipe.own_scale)
    rows: list[pd.DataFrame] = []
    with corpus.model.running():
        for batch in corpus.batches():
            for head in wanted:
                own = head_writes(corpus, batch.clean, head.layer)
                for kind in KINDS:
                    base = vector(corpus, own, batch.windows, head, kind)
                    for scale in scales:
                        rows.append(_dose(found, adder, batch, corpus, head, kind, scale, base))
    points = pd.concat(rows, ignore_index=True)
    found.points = points.groupby(["head", "scale"], group_keys=False).head(MOST_POINTS).reset_index(drop=True)
    return found


def _dose(
    found: Doses, adder: Adder, batch: Batch, corpus: Corpus, head: Head, kind: str, scale: float, base: Tensor
) -> pd.DataFrame:
    clean, mask = batch.clean, batch.scored
    added = adder.add(clean, head.layer, scale * base[None], to_the_end=True)
    assert added.sigma is not None
    directions = clean.head_directions[head.layer][:, :, head.head]
    effect = (added.outputs[0, :, :-1, head.head] * directions).sum(-1)
    ratio = clean.sigma / added.sigma[0, :, :-1]
    columns = {
        "x": _chosen(clean.direct_effects(head.layer)[..., head.head], mask),
        "at clean scale": _chosen(effect, mask),
        "at own scale": _chosen(effect * ratio, mask),
        "ratio": _chosen(1 / ratio, mask),
    }
    columns["y"] = columns["at own scale" if found.own_scale else "at clean scale"]
    tally = found.tallies.setdefault((head, kind, scale), Tally(corpus.documents, corpus.seed))
    sums = columns | products("x", "y", columns)
    for name in ("at clean scale", "at own scale"):
        sums[f"x {name}"] = columns["x"] * columns[name]
    tally.add(batch.documents[mask], sums)
    if kind != OWN:
        return pd.DataFrame()
    window, position = np.nonzero(mask)
    where = {"head": str(head), "scale": scale, "window": batch.windows[window], "position": position}
    return pd.DataFrame(where | {name: values.astype(np.float32) for name, values in columns.items()})


# ------------------------------------------------------------------------------------------------ their figures


def repression(doses: Doses, why: dict[Head, str] | None = None) -> Exhibit:
    """Clean against new direct effect with the own output added, scale by scale (Figures 9 and 19)."""
    panels, numbers = [], []
    for head in doses.heads:
        part = doses.points[doses.points["head"] == str(head)]
        limits = symmetric([part[["x", "y"]].to_numpy()])
        for scale in doses.scales:
            one = part[part["scale"] == scale]
            slope = doses.tallies[head, OWN, scale].slope("x", "y", f"{head}: slope, {OWN} x {scale:g}")
            numbers.append(slope)
            ends = np.array(limits)
            tally = doses.tallies[head, OWN, scale]
            middle = (tally.total("y") - slope.value * tally.total("x")) / max(tally.tokens, 1)
            line = Marks(ends, slope.value * ends + middle, "line", f"slope {slope.value:.2f}", PALETTE[1])
            title = f"{head}, own output × {scale:g}" + (f": {why[head]}" if why and scale == doses.scales[0] else "")
            panels.append(
                Panel(
                    title,
                    "clean direct effect (logit)",
                    "new direct effect (logit)",
                    (*scatter(one["x"].to_numpy(), one["y"].to_numpy()), line),
                    (Rule(1, label="y = x"),),
                    limits,
                    limits,
                )
            )
    scaling = (
        "with the intervened run's own final scale, as in the paper" if doses.own_scale else "at the clean final scale"
    )
    caption = (
        "A head's own output is added to its input at one position and the head's direct effect there measured again, "
        f"{scaling}. Below the dashed line (right of zero) the head represses itself. {doses.about}."
    )
    table = doses.points
    return Exhibit(
        "figure-09-self-repression",
        "Figures 9, 19",
        SECTION,
        "Heads that respond to their own output",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=len(doses.scales)),
    )


def controls(doses: Doses) -> Exhibit:
    """Slopes over scale for the own output and the controls, and what the final scale does (not in the paper)."""
    panels, rows, numbers = [], [], []
    for head in doses.heads:
        marks, scales_moved = [], []
        for place, kind in enumerate(KINDS):
            tallies = [doses.tallies[head, kind, scale] for scale in doses.scales]
            slopes = [
                t.slope("x", "y", f"{head}: slope, {kind} x {s:g}") for t, s in zip(tallies, doses.scales, strict=True)
            ]
            moved = [
                t.mean("ratio", name=f"{head}: final scale / clean, {kind} x {s:g}")
                for t, s in zip(tallies, doses.scales, strict=True)
            ]
            numbers += [*slopes, *moved]
            marks.append(_line(doses.scales, slopes, kind, PALETTE[place]))
            scales_moved.append(_line(doses.scales, moved, kind, PALETTE[place]))
            rows += [
                {
                    "head": str(head),
                    "added": kind,
                    "scale": s,
                    "slope": a.value,
                    "slope_low": a.low,
                    "slope_high": a.high,
                    "final_scale_over_clean": b.value,
                }
                for s, a, b in zip(doses.scales, slopes, moved, strict=True)
            ]
        panels.append(
            Panel(
                f"{head}: slope of new on clean direct effect",
                "scale of what is added",
                "slope",
                tuple(marks),
                (Rule(0, 1.0, colour=FAINT),),
            )
        )
        panels.append(
            Panel(
                f"{head}: final norm's scale",
                "scale of what is added",
                "σ′ / σ",
                tuple(scales_moved),
                (Rule(0, 1.0, colour=FAINT),),
            )
        )
    caption = (
        "The controls that the authors ran and did not report: another head's output, and a random "
        "direction, of the same "
        "norm where the recipe is the default. Only what the own output does beyond them is a response of the head to "
        f"itself. Right: how much the added vector moves the final norm's scale. {doses.about}. "
        "Bands: 95% intervals over documents."
    )
    return Exhibit(
        "figure-19-controls",
        "Figure 19, controls",
        SECTION,
        "Is it the head's own output that matters?",
        caption,
        pd.DataFrame(rows),
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def _line(scales: Sequence[float], found: Sequence[Number], label: str, colour: str) -> Marks:
    values = np.array([one.value for one in found])
    error = np.nan_to_num(np.stack([values - [one.low for one in found], [one.high for one in found] - values]))
    return Marks(np.array(scales), values, "line", label, colour, y_error=error)


def all_heads(found: Scan) -> Exhibit:
    """Self-gain of every head over depth, beside what a random direction of the same norm does (not in the paper)."""
    layers, most = found.shape
    heads = sorted({head for head, _ in found.tallies})
    rows = []
    for head in heads:
        row: dict[str, object] = {"name": str(head), "layer": head.layer, "head": head.head}
        for kind in found.kinds:
            slope = found.slope(head, kind)
            gain = found.tallies[head, kind].ratio("change.write", "write.write", name="gain")
            row |= {f"slope, {kind}": slope.value, f"slope, {kind}, low": slope.low, f"slope, {kind}, high": slope.high}
            row[f"gain, {kind}"] = gain.value
        if RANDOM in found.kinds:
            excess = found.excess(head)
            row |= {"excess": excess.value, "excess_low": excess.low, "excess_high": excess.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    depth = (table["layer"] + (np.linspace(-0.28, 0.28, most) if most > 1 else np.zeros(1))[table["head"]]) / layers
    x, panels = depth.to_numpy(), []
    for title, column, ends in (
        (
            f"slope of new on clean DE, own output × {found.scale:g}",
            f"slope, {OWN}",
            (f"slope, {OWN}, low", f"slope, {OWN}, high"),
        ),
        ("the same less that of a random direction", "excess", ("excess_low", "excess_high")),
    ):
        if column not in table:
            continue
        values = table[column].to_numpy()
        error = np.nan_to_num(np.stack([values - table[ends[0]], table[ends[1]] - values]))
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
        room = 0.25 * max(high - low, 0.05)
        neutral = 1.0 if "slope" in column else 0.0
        marks = Marks(x, values, names=tuple(table["name"]), y_error=error, size=4.2, label="a head, 95% interval")
        label = "no response" if neutral else "as a random direction"
        panels.append(
            Panel(
                title,
                f"relative depth (layer / {layers})",
                "slope" if neutral else "difference of slopes",
                (marks,),
                (Rule(0, neutral, label, FAINT),),
                y_range=(min(low, neutral) - room, max(high, neutral) + room),
            )
        )
    numbers = _scan_numbers(table)
    caption = (
        "Every head's own output added to its own input at one position at a time; slope of its new "
        "direct effect on its "
        "clean one, at the clean final scale. Below 1 a head represses itself; whether it responds "
        "to itself shows beside a "
        f"random direction of the same norm (right). {found.about}."
    )
    return Exhibit(
        "section-5-3-self-gain",
        "Section 5.3",
        SECTION,
        "Self-repressing and self-reinforcing heads",
        caption,
        table,
        numbers,
        Picture(tuple(panels), columns=2),
    )


def _scan_numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    count = max(len(table), 1)
    low, high = table[f"slope, {OWN}, low"], table[f"slope, {OWN}, high"]
    found = [
        Number("share of heads whose slope is below 1 beyond its interval", float((high < 1).sum() / count)),
        Number("share of heads whose slope is above 1 beyond its interval", float((low > 1).sum() / count)),
    ]
    if "excess" in table:
        found += [
            Number(
                "share of heads that repress themselves beyond a random direction",
                float((table["excess_high"] < 0).sum() / count),
            ),
            Number(
                "share of heads that reinforce themselves beyond a random direction",
                float((table["excess_low"] > 0).sum() / count),
            ),
        ]
    return tuple(found)
