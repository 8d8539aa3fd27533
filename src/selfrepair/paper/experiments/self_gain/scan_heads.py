"""Iterative inference: a head's own output added back into its input, the paper's Figures 9 and 19, for all heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.sites import Head
from selfrepair.engine.clean import CleanRun
from selfrepair.errors import SelfRepairError
from selfrepair.paper.experiments.self_gain.add_vector import Adder, adder_for
from selfrepair.paper.inputs.corpus import CleanBatch, Corpus
from selfrepair.paper.numbers.across_heads import share_of
from selfrepair.paper.numbers.over_documents import Array, Number, Sums, Tally, join_tallies, products, slope_of
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.text import Windows

SECTION = "iterative"
OWN, OTHER, RANDOM = "own output", "another head's output", "random direction"
KINDS = (OWN, OTHER, RANDOM)
FOLD_TOKENS = 12_288  # most tokens that go through a block together
ORIGINAL_LENGTH, ORIGINAL_WINDOWS = 30, 50  # of the authors' prompts


@dataclass
class Scan:
    """Self-gain of every head.

    Attributes:
        about: model, tokens and documents, for captions.
        scale: factor of the added vectors.
        kinds: which vectors were added, see `KINDS`.
        own_scale: whether the new direct effect is taken with the intervened run's own final scale (the original
            recipe).
        tallies: sums by (head, kind): `x` clean and `y` new direct effect, and inner products.
        fast: whether all positions went in one pass.
        shape: (layers, heads).
    """

    about: str
    scale: float
    kinds: tuple[str, ...]
    own_scale: bool = False
    tallies: dict[tuple[Head, str], Tally] = field(default_factory=dict)
    fast: bool = True
    shape: tuple[int, int] = (0, 0)

    def slope(self, head: Head, kind: str = OWN) -> Number:
        """Least-squares slope of the new direct effect on the clean one: below 1 the head represses itself."""
        return self.tallies[head, kind].slope("x", "y", f"{head}: slope, {kind} x {self.scale:g}")

    def in_half(self, half: int) -> Scan:
        """The scan of one half of the documents, see `selfrepair.paper.numbers.document_halves`."""
        return replace(self, tallies={key: tally.in_half(half) for key, tally in self.tallies.items()})

    def excess(self, head: Head) -> Number:
        """Slope of the own output less that of a random direction of equal norm, on the same tokens."""
        own, control = self.tallies[head, OWN], self.tallies[head, RANDOM]
        joint = join_tallies({OWN: own, RANDOM: control})
        name = f"{head}: slope beyond a random direction's"
        return joint.number(name, lambda sums: slope_of(sums, "x", "y", OWN) - slope_of(sums, "x", "y", RANDOM))

    def share_beyond(self, name: str, against: float, sign: int, control: str | None = None) -> Number:
        """Share of heads whose slope of the own output lies beyond its interval on one side of a value.

        Its interval moves all heads' slopes together, the widths of their own intervals held.

        Args:
            name: the number's name.
            against: the value.
            sign: 1 for above it, -1 for below.
            control: the control whose slope is subtracted first.
        """
        heads = sorted(head for head, kind in self.tallies if kind == OWN)
        each = [self.slope(head) if control is None else self.excess(head) for head in heads]
        if not each:
            return Number(name, float("nan"))
        kinds = (OWN,) if control is None else (OWN, control)
        both = join_tallies({f"{head} {kind}": self.tallies[head, kind] for head in heads for kind in kinds})
        half = np.array([number.high - number.value for number in each])
        known = np.isfinite([number.value for number in each])

        def share(sums: Sums) -> Array:
            slopes = np.stack([slope_of(sums, "x", "y", f"{head} {OWN}") for head in heads], -1)
            if control is not None:
                slopes = slopes - np.stack([slope_of(sums, "x", "y", f"{head} {control}") for head in heads], -1)
            return share_of(sign * (slopes - against) > half, np.broadcast_to(known, slopes.shape))

        return both.number(name, share, scale="share")


def for_scan(corpus: Corpus, tokens: int) -> Corpus:
    """The part of a corpus that a scan uses.

    Under the original recipe the first 30 tokens of the first 50 documents, a beginning-of-sequence token included, in
    one batch (docs/methods.md 6.1), or of all documents that begin in the windows if they are fewer.

    Args:
        corpus: model and text.
        tokens: number of tokens, in whole windows; the original recipe ignores it.
    """
    windows, recipe = corpus.windows, corpus.recipe
    if recipe.original:
        windows = beginnings(windows, ORIGINAL_WINDOWS, min(ORIGINAL_LENGTH, windows.length))
        recipe = replace(recipe, batch=len(windows))
    else:
        windows = windows.select(np.arange(min(len(windows), max(1, -(-tokens // windows.length)))))
    return Corpus(corpus.model, windows, recipe, corpus.seed, corpus.roll)


def beginnings(windows: Windows, most: int, length: int) -> Windows:
    """A window for each document that begins in a packed text: its first tokens, padded on the right.

    Args:
        windows: rows with a beginning-of-sequence token in front, their documents one after the other.
        most: the most documents.
        length: tokens of a window, including the one in front.
    """
    real = np.arange(windows.length) < windows.lengths[:, None]
    real[:, 0] = False
    stream, owner = windows.tokens[real], windows.documents[real]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))[:most]
    ends = np.append(np.flatnonzero(np.diff(owner)) + 1, len(owner))[:most]
    lengths = np.minimum(ends - starts, length - 1) + 1
    kept = np.arange(length) < lengths[:, None]
    tokens, documents = np.zeros((len(starts), length), np.int64), np.full((len(starts), length), -1, np.int64)
    within = starts[:, None] + np.maximum(np.arange(length) - 1, 0)  # the first twice: the front token replaces it
    tokens[kept], documents[kept] = stream[within[kept]], owner[within[kept]]
    tokens[:, 0] = windows.tokens[0, 0]
    return replace(windows, tokens=tokens, lengths=lengths, documents=documents)


def scan(corpus: Corpus, scale: float = 1.0, kinds: Sequence[str] = KINDS, layers: Sequence[int] | None = None) -> Scan:
    """Adds every head's own output (and controls) to its own input, one position at a time, all positions in a pass.

    It costs, for each kind, about as much as the attention of all heads run once per head: one to three forwards. Under
    the original recipe, for the intervened runs' own final scale, blocks above run as well, once per head.

    Args:
        corpus: model and text.
        scale: factor of the added vectors.
        kinds: which vectors to add, some of `KINDS`.
        layers: all by default; the authors take the upper half.
    """
    anatomy = corpus.model.anatomy
    adder = adder_for(corpus.model, tokens_of(corpus.windows, np.arange(1), corpus.model)[:, :12])
    wanted = range(anatomy.layers) if layers is None else layers
    shape = (anatomy.layers, anatomy.heads)
    result = Scan(about_scan(corpus), scale, tuple(kinds), corpus.recipe.own_scale, fast=not adder.single, shape=shape)
    with corpus.model.running():
        for batch in corpus.batches():
            for layer in wanted:
                heads = [Head(layer, head) for head in range(anatomy.blocks[layer].heads)]
                for group in _groups(heads, batch.clean.tokens.numel()):
                    for kind in kinds:
                        _scan_group(result, corpus, adder, batch, group, kind, scale)
    return result


def _groups(heads: list[Head], tokens: int) -> Iterator[list[Head]]:
    size = max(1, FOLD_TOKENS // tokens)
    for start in range(0, len(heads), size):
        yield heads[start : start + size]


def _scan_group(
    result: Scan, corpus: Corpus, adder: Adder, batch: CleanBatch, heads: list[Head], kind: str, scale: float
) -> None:
    layer, clean = heads[0].layer, batch.clean
    own = head_writes(corpus, clean, layer)
    vectors = torch.stack([scale * vector(corpus, own, batch.windows, head, kind) for head in heads])
    added = adder.add(clean, layer, vectors, to_the_end=result.own_scale)
    effects = clean.direct_effects(layer)
    gram = corpus.model.anatomy.blocks[layer].output_weight
    mask = batch.scored
    for copy, head in enumerate(heads):
        new = added.outputs[copy, :, :, head.head]
        y = (new[:, :-1] * clean.head_directions[layer][:, :, head.head]).sum(-1)
        if added.sigma is not None:
            y = y * clean.sigma / added.sigma[copy, :, :-1]
        before = clean.head_outputs[layer][:, :, head.head]
        write, change = before @ gram[head.head], (new - before) @ gram[head.head]
        columns = {
            "x": chosen_values(effects[..., head.head], mask),
            "y": chosen_values(y, mask),
            "change.write": chosen_values((change * write).sum(-1)[:, :-1], mask),
            "write.write": scale * chosen_values(write.square().sum(-1)[:, :-1], mask),
        }
        tally = result.tallies.setdefault((head, kind), Tally(corpus.documents, corpus.seed))
        tally.add(batch.documents[mask], columns | products("x", "y", columns))


def head_writes(corpus: Corpus, clean: CleanRun, layer: int) -> Tensor:
    """The write of each head of a layer to the stream, biases left out, [head, window, position, width].

    Behind a post-norm (Gemma 2, OLMo 2) at the clean scale of that norm.
    """
    block = corpus.model.anatomy.blocks[layer]
    outputs = clean.head_outputs[layer]
    writes = torch.einsum("bphe,hed->hbpd", outputs, block.output_weight)
    norm = block.attention_norm
    if norm is not None:
        projected = block.projection(block.heads_place.join(outputs))
        writes = norm.gain * norm.centre(writes) / norm.scale(projected).unsqueeze(-1)
    added: Tensor = block.attention_multiplier * writes
    return added


def vector(corpus: Corpus, own: Tensor, windows: np.ndarray, head: Head, kind: str) -> Tensor:
    """The vector added at each position, [window, position, width].

    Args:
        corpus: model and recipe.
        own: writes of the layer's heads [head, window, position, width].
        windows: numbers of the windows.
        head: the head whose input is changed.
        kind: its own output; another head's of its layer, or a random direction, both brought to the norm of the own
            output at each position. The original recipe takes the other head's output as it is, and one random
            direction with the norm of the last output of the batch for all tokens (docs/methods.md 6.6).

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
        raise SelfRepairError(f"Nothing called '{kind}' can be added.", f"Available: {', '.join(KINDS)}.")
    if corpus.recipe.original:
        direction = torch.from_numpy(draws.standard_normal(mine.shape[-1])).to(mine)
        return torch.mul(direction, size[-1, -1] / direction.norm()).expand_as(mine)
    noise = np.stack(
        [
            np.random.default_rng([corpus.seed, head.layer, head.head, int(window)]).standard_normal(mine.shape[1:])
            for window in windows
        ]
    )
    directions = torch.from_numpy(noise).to(mine)
    return torch.mul(directions, size / directions.norm(dim=-1, keepdim=True))


def chosen_values(values: Tensor, mask: np.ndarray) -> np.ndarray:
    """Chosen predictions of a [window, P] tensor, [token] float64."""
    return np.asarray(values[torch.from_numpy(mask).to(values.device)].double().cpu().numpy())


def scale_text(own: bool) -> str:
    """The final scale at which new direct effects were taken, for captions."""
    return "with the intervened run's own final scale, as in the paper" if own else "at the clean final scale"


def about_scan(corpus: Corpus) -> str:
    """Model, tokens and documents, for captions."""
    text = corpus.described(corpus.windows.scored(corpus.recipe.first), "tokens, unfiltered,")
    return f"{corpus.model.name} · nothing ablated: vectors added at one position at a time · all {text}"
