"""A closer look at a bounded number of tokens per head: what was predicted before and after, who repaired, and what
the strongest repairing head attended to. A small pass of its own after the sweep, a few percent of its cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from selfrepair.effects.ledger import Ledger
from selfrepair.engine.arguments import BlockArguments
from selfrepair.engine.watched import Attention, WatchedReplay, eager_attention, log_probabilities, watched_clean
from selfrepair.progress import progress
from selfrepair.results.extras import MLP, SCHEMAS
from selfrepair.run.batches import tokens_of
from selfrepair.run.job import Job
from selfrepair.run.sources import BatchSource
from selfrepair.run.store import Arrays
from selfrepair.run.sweep import work

PER_HEAD = 8  # tokens
MOST_LIKELY = 10  # next tokens
REPAIRERS = 12
ATTENDED = 32  # positions
_SHARE = 0.03  # of the sweep's work
_LEAST = 4  # windows' worth of whole forwards, however small the sweep was

Row = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """Tokens of one head in one window."""

    layer: int
    head: int
    window: int
    positions: tuple[int, ...]
    size: float  # of their effects, logits


def closeups(job: Job, surveyed: Arrays, tokens: pa.Table, shown: bool) -> pa.Table:
    """Looks closely at the kept tokens with the largest effects, as many as a few percent of the sweep's work allow.

    Args:
        job: the run.
        surveyed: the merged survey.
        tokens: kept tokens, see `statistics.keep.TOKEN_SCHEMA`.
        shown: whether to show progress.

    Returns:
        See `results.extras.SCHEMAS["closeups"]`; with several donors, of the first.
    """
    looks = affordable(candidates(tokens), job.model.anatomy.layers, job.operator.donors, _SHARE * work(job))
    windows: dict[int, list[Look]] = defaultdict(list)
    for look in looks:
        windows[look.window].append(look)
    rows: list[Row] = []
    with (
        job.model.running(),
        eager_attention(job.model),
        progress("Close-ups of single tokens", len(windows), shown) as advance,
    ):
        arguments = BlockArguments()  # its own: the others' masks are made for another kind of attention
        for window, chosen in sorted(windows.items()):
            rows += _Window(job, surveyed, arguments, window, chosen).rows()
            advance(1)
    rows.sort(key=lambda row: (row["layer"], row["head"], row["window"], row["position"]))
    return pa.Table.from_pylist(rows, schema=SCHEMAS["closeups"])


def candidates(tokens: pa.Table) -> list[Look]:
    """Per head, the kept tokens with the largest effects, by window; the heads' best windows first."""
    columns = {name: tokens[name].to_numpy() for name in ("layer", "head", "window", "position")}
    size = np.abs(tokens["direct_effect"].to_numpy()) + np.abs(tokens["self_repair"].to_numpy())
    order = np.lexsort((-size, columns["head"], columns["layer"]))
    head_of = columns["layer"][order].astype(np.int64) * 2**20 + columns["head"][order]
    starts = np.flatnonzero(np.diff(head_of, prepend=-1))
    turns: list[tuple[int, Look]] = []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        best = order[start : min(end, start + PER_HEAD)]
        by_window: dict[int, list[int]] = defaultdict(list)
        for row in best:
            by_window[int(columns["window"][row])].append(int(row))
        ranked = sorted(by_window.items(), key=lambda item: -size[item[1]].sum())
        for turn, (window, found) in enumerate(ranked):
            positions = tuple(sorted(int(columns["position"][row]) for row in found))
            layer, head = int(columns["layer"][found[0]]), int(columns["head"][found[0]])
            turns.append((turn, Look(layer, head, window, positions, float(size[best].sum()))))
    turns.sort(key=lambda item: (item[0], -item[1].size))
    return [look for _, look in turns]


def affordable(looks: Sequence[Look], layers: int, donors: int, budget: float) -> list[Look]:
    """The first looks that fit a budget of replayed blocks; a window's first look also pays for its clean run."""
    left = max(budget, float(_LEAST * layers * (1 + donors)))
    chosen, opened = [], set()
    for look in looks:
        price = layers - look.layer + (0 if look.window in opened else layers * (1 + donors))
        if price <= left:
            left -= price
            opened.add(look.window)
            chosen.append(look)
    return chosen


class _Window:
    """All looks at one window."""

    def __init__(
        self, job: Job, surveyed: Arrays, arguments: BlockArguments, window: int, looks: Sequence[Look]
    ) -> None:
        self.job, self.arguments, self.looks, self.number = job, arguments, looks, window
        self.positions = sorted({position for look in looks for position in look.positions})
        self.attention = Attention(self.positions)
        tokens = tokens_of(job.windows, np.array([window]), job.model)
        self.clean, final = watched_clean(job.model, tokens, self.attention)
        self.before = log_probabilities(job.model, final)
        self.source = BatchSource(job, surveyed, np.array([window]))

    def rows(self) -> list[Row]:
        """One row per token looked at."""
        return [row for layer in {look.layer for look in self.looks} for row in self._layer(layer)]

    def _layer(self, layer: int) -> Iterator[Row]:
        looks = [look for look in self.looks if look.layer == layer]
        outputs = self.clean.head_outputs[layer]
        in_place = self.job.operator.replacement(layer, outputs, self.source, 0)
        heads = tuple(look.head for look in looks)
        replay = WatchedReplay(self.arguments, self.job.model, self.clean, layer, heads, in_place, self.positions)
        ledger = replay.ledger()
        for place, look in enumerate(looks):
            for position in look.positions:
                yield self._row(look, place, position, replay, ledger)

    def _row(self, look: Look, place: int, position: int, replay: WatchedReplay, ledger: Ledger) -> Row:
        spot = self.positions.index(position)
        after = log_probabilities(self.job.model, replay.final[place, spot])
        before = self.before[spot]
        target = int(self.clean.tokens[0, position + 1])
        row: Row = {
            "layer": look.layer,
            "head": look.head,
            "window": self.number,
            "position": position,
            "total_effect": float(ledger.total_effect[place, 0, position]),
            "target_logprob_before": float(before[target]),
            "target_logprob_after": float(after[target]),
        }
        for when, found in (("before", before), ("after", after)):
            values, tokens = found.topk(min(MOST_LIKELY, len(found)))
            row |= {f"tokens_{when}": tokens.tolist(), f"logprobs_{when}": values.tolist()}
        row |= _repairers(ledger, place, position)
        return row | self._attended(ledger, place, position, spot, replay.attention)

    def _attended(self, ledger: Ledger, place: int, position: int, spot: int, after: Attention) -> Row:
        """What the head that repaired most attended to, before and after; empty where no head repaired."""
        assert ledger.by_head is not None
        by_head = ledger.by_head[place, 0, position]
        layer, head = divmod(int(by_head.argmax()), by_head.shape[1])
        if by_head[layer, head] <= 0 or layer not in after.weights or layer not in self.attention.weights:
            nothing: Row = {name: [] for name in ("attended_positions", "attention_before", "attention_after")}
            return nothing | {"attending_layer": None, "attending_head": None}
        reach = position + 1
        old = self.attention.weights[layer][0, head, spot, :reach]
        new = after.weights[layer][place, head, spot, :reach]
        seen = torch.maximum(old, new).topk(min(ATTENDED, reach)).indices.sort().values
        return {
            "attending_layer": layer,
            "attending_head": head,
            "attended_positions": seen.tolist(),
            "attention_before": old[seen].tolist(),
            "attention_after": new[seen].tolist(),
        }


def _repairers(ledger: Ledger, place: int, position: int) -> Row:
    """The components whose direct effect on the target changed most, in either direction."""
    assert ledger.by_head is not None
    heads: Tensor = ledger.by_head[place, 0, position]
    mlps: Tensor = ledger.by_mlp[place, 0, position]
    effects = torch.cat([heads.flatten(), mlps])
    chosen = effects.abs().topk(min(REPAIRERS, len(effects))).indices.tolist()
    chosen = [one for one in chosen if effects[one] != 0]
    width = heads.shape[1]
    parts = [divmod(one, width) if one < heads.numel() else (one - heads.numel(), MLP) for one in chosen]
    return {
        "repairer_layers": [layer for layer, _ in parts],
        "repairer_heads": [head for _, head in parts],
        "repairer_effects": effects[chosen].tolist(),
    }
