"""A closer look at a bounded number of tokens per head: what was predicted before and after, who repaired, and what
the strongest repairing head attended to. A small pass of its own after the sweep, a few percent of its cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from selfrepair.ablation.interventions import ports_of
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.watched import WatchedAttention, WatchedReplay, eager_attention, log_probabilities, watched_clean
from selfrepair.model.anatomy import Anatomy
from selfrepair.progress import progress
from selfrepair.results.extras import FIRST_PART, MIXER, MLP, SCHEMAS
from selfrepair.run.planning.batch_size import tokens_of
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.unit_file import Arrays
from selfrepair.run.unit.operator_inputs import BatchSource
from selfrepair.run.unit.sweep import replacement, work

COLUMNS = ("layer", "head", "window", "position", "direct_effect", "self_repair")
PER_HEAD = 8  # tokens, a few more where they lie in one window
MOST_LIKELY = 10  # next tokens
REPAIRERS = 12
ATTENDED = 32  # positions
_POOL = 16  # tokens per head to choose from: those in windows that are replayed anyway cost less
_SHARE = 0.04  # share of the sweep's work
_LEAST = 4  # windows' worth of whole forwards, however small the sweep was

Row = dict[str, Any]


@dataclass(frozen=True)
class Closeup:
    """Tokens of one head in one window."""

    layer: int
    head: int
    window: int
    positions: tuple[int, ...]
    size: float  # size of their effects, logits


def closeups(job: Job, surveyed: Arrays, tokens: Iterable[pa.RecordBatch], shown: bool) -> pa.Table:
    """Looks closely at the kept tokens with the largest effects, as many as a few percent of the sweep's work allow.

    Args:
        job: the run.
        surveyed: the merged survey.
        tokens: kept tokens with `COLUMNS`, a batch at a time.
        shown: whether to show progress.

    Returns:
        See `results.extras.SCHEMAS["closeups"]`; with several donors, of the first.
    """
    closeups = affordable(closeup_candidates(tokens), job.model.anatomy.layers, job.operator.donors, _SHARE * work(job))
    windows: dict[int, list[Closeup]] = defaultdict(list)
    for closeup in closeups:
        windows[closeup.window].append(closeup)
    rows: list[Row] = []
    with (
        job.model.running(),
        eager_attention(job.model),
        progress("Close-ups of single tokens", len(windows) * job.windows.length, shown) as advance,
    ):
        for window, chosen in sorted(windows.items()):
            rows += _Window(job, surveyed, window, chosen).rows()
            advance(job.windows.length)
    rows.sort(key=lambda row: (row["layer"], row["head"], row["window"], row["position"]))
    return pa.Table.from_pylist(rows, schema=SCHEMAS["closeups"])


def closeup_candidates(tokens: Iterable[pa.RecordBatch]) -> list[list[Closeup]]:
    """Per head, the kept tokens with the largest effects, by window; the heads with the largest effects first.

    Args:
        tokens: kept tokens with `COLUMNS`, a batch at a time.
    """
    best = np.zeros((0, 5))
    for batch in tokens:
        columns = {name: batch.column(name).to_numpy() for name in COLUMNS}
        size = np.abs(columns["direct_effect"]) + np.abs(columns["self_repair"])
        rows = np.stack([*(columns[name].astype(np.float64) for name in COLUMNS[:4]), size], 1)
        best = _largest(np.concatenate([best, rows]))
    heads: dict[tuple[int, int], dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for row in best:
        heads[int(row[0]), int(row[1])][int(row[2])].append(row)
    closeups = [[_closeup(head, window, rows) for window, rows in windows.items()] for head, windows in heads.items()]
    return sorted(closeups, key=lambda given: -sum(closeup.size for closeup in given))


def _largest(rows: np.ndarray) -> np.ndarray:
    """The `_POOL` largest of each head; rows are layer, head, window, position, size."""
    rows = rows[np.lexsort((rows[:, 3], rows[:, 2], -rows[:, 4], rows[:, 1], rows[:, 0]))]
    begins = np.flatnonzero(np.any(np.diff(rows[:, :2], axis=0, prepend=-1), axis=1))
    rank = np.arange(len(rows)) - np.repeat(begins, np.diff([*begins, len(rows)]))
    return rows[rank < _POOL]


def _closeup(head: tuple[int, int], window: int, rows: Sequence[np.ndarray]) -> Closeup:
    positions = tuple(sorted(int(row[3]) for row in rows))
    return Closeup(*head, window, positions, float(sum(row[4] for row in rows)))


def affordable(heads: Sequence[list[Closeup]], layers: int, donors: int, budget: float) -> list[Closeup]:
    """Heads in turn take the close-up that shows most for its cost, until the budget is spent or all have enough.

    The cost of a close-up is the blocks it replays; a window's first close-up also pays for the window's clean runs.
    """
    left = max(budget, float(_LEAST * layers * (1 + donors)))
    chosen: list[Closeup] = []
    opened: set[int] = set()
    waiting = [(list(of_head), PER_HEAD) for of_head in heads]
    while waiting:
        again = []
        for of_head, room in waiting:
            prices = {
                closeup: layers - closeup.layer + (closeup.window not in opened) * layers * (1 + donors)
                for closeup in of_head
            }
            payable = [closeup for closeup in of_head if prices[closeup] <= left]
            if not payable:
                continue
            best = max(payable, key=lambda closeup: (closeup.size / prices[closeup], -closeup.window))
            left -= prices[best]
            opened.add(best.window)
            chosen.append(best)
            of_head.remove(best)
            if room > len(best.positions):
                again.append((of_head, room - len(best.positions)))
        waiting = again
    return chosen


class _Window:
    """All close-ups in one window."""

    def __init__(self, job: Job, surveyed: Arrays, window: int, closeups: Sequence[Closeup]) -> None:
        self.job, self.closeups, self.number = job, closeups, window
        self.positions = sorted({position for closeup in closeups for position in closeup.positions})
        self.attention = WatchedAttention(self.positions)
        tokens = tokens_of(job.windows, np.array([window]), job.model)
        self.clean, final = watched_clean(job.model, tokens, self.attention, ports_of(job.interventions))
        self.before = log_probabilities(job.model, final)
        self.source = BatchSource(job, surveyed, np.array([window]))

    def rows(self) -> list[Row]:
        """One row per token."""
        return [row for layer in {closeup.layer for closeup in self.closeups} for row in self._layer(layer)]

    def _layer(self, layer: int) -> Iterator[Row]:
        closeups = [closeup for closeup in self.closeups if closeup.layer == layer]
        in_place = partial(replacement, self.job.operator, self.clean, self.source, 0)
        heads = [self.job.at[layer, closeup.head] for closeup in closeups]
        replay = WatchedReplay(self.job.model, self.clean, layer, heads, in_place, self.positions)
        ledger = replay.ledger()
        for index, closeup in enumerate(closeups):
            for position in closeup.positions:
                yield self._row(closeup, index, position, replay, ledger)

    def _row(self, closeup: Closeup, index: int, position: int, replay: WatchedReplay, ledger: Ledger) -> Row:
        spot = self.positions.index(position)
        after = log_probabilities(self.job.model, replay.final[index, spot])
        before = self.before[spot]
        target = int(self.clean.tokens[0, position + 1])
        row: Row = {
            "layer": closeup.layer,
            "head": closeup.head,
            "window": self.number,
            "position": position,
            "total_effect": float(ledger.total_effect[index, 0, position]),
            "target_logprob_before": float(before[target]),
            "target_logprob_after": float(after[target]),
        }
        for when, log_probability in (("before", before), ("after", after)):
            values, tokens = log_probability.topk(min(MOST_LIKELY, len(log_probability)))
            row |= {f"tokens_{when}": tokens.tolist(), f"logprobs_{when}": values.tolist()}
        row |= _repairers(self.job.model.anatomy, ledger, index, position)
        return row | self._attended(ledger, index, position, spot, replay.attention)

    def _attended(self, ledger: Ledger, index: int, position: int, spot: int, after: WatchedAttention) -> Row:
        """What the head that repaired most attended to, before and after; empty where no head repaired."""
        assert ledger.by_head is not None
        by_head = ledger.by_head[index, 0, position]
        layer, head = divmod(int(by_head.argmax()), by_head.shape[1]) if by_head.numel() else (-1, -1)
        if layer < 0 or by_head[layer, head] <= 0 or layer not in after.weights or layer not in self.attention.weights:
            nothing: Row = {name: [] for name in ("attended_positions", "attention_before", "attention_after")}
            return nothing | {"attending_layer": None, "attending_head": None}
        reach = position + 1
        old = self.attention.weights[layer][0, head, spot, :reach]
        new = after.weights[layer][index, head, spot, :reach]
        seen = torch.maximum(old, new).topk(min(ATTENDED, reach)).indices.sort().values
        return {
            "attending_layer": layer,
            "attending_head": head,
            "attended_positions": seen.tolist(),
            "attention_before": old[seen].tolist(),
            "attention_after": new[seen].tolist(),
        }


def _named(anatomy: Anatomy) -> list[tuple[int, int]]:
    """Layer and head, or what stands for it, of every line, in the order of `_repairers`."""
    heads = [(layer, head) for layer in range(anatomy.layers) for head in range(anatomy.heads)]
    mlps = [
        (layer, MLP if len(block.mlps) == 1 else FIRST_PART - write)
        for layer, block in enumerate(anatomy.blocks)
        for write in range(anatomy.mlp_writes)
    ]
    return [*heads, *((layer, MIXER) for layer in range(anatomy.layers)), *mlps]


def _repairers(anatomy: Anatomy, ledger: Ledger, index: int, position: int) -> Row:
    """The components whose direct effect on the target changed most, in either direction."""
    assert ledger.by_head is not None and ledger.by_mlp_write is not None
    lines = (ledger.by_head, ledger.by_mixer, ledger.by_mlp_write)
    effects = torch.cat([line[index, 0, position].flatten() for line in lines])
    chosen = effects.abs().topk(min(REPAIRERS, len(effects))).indices.tolist()
    chosen = [component for component in chosen if effects[component] != 0]
    named = _named(anatomy)
    return {
        "repairer_layers": [named[component][0] for component in chosen],
        "repairer_heads": [named[component][1] for component in chosen],
        "repairer_effects": effects[chosen].tolist(),
    }
