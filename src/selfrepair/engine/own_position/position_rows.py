"""Ablated runs as rows: one prediction of one window each, with what is booked of it on the way up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.effects.ledger import Ledger, norm_repair
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.partial_ledgers import ledger_of, unknown_values
from selfrepair.model.anatomy import Anatomy, Block


@dataclass(frozen=True)
class Rows:
    """R ablated runs of one window, those that start lowest first.

    Attributes:
        window: the window's place in the batch.
        runs: number of each row's intervention [row].
        starts: its layer [row].
        heads: its head in that layer [row].
        positions: the position at which it is ablated and read [row].
    """

    window: int
    runs: Tensor
    starts: Tensor
    heads: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.runs)

    def part(self, chosen: slice) -> Rows:
        """Some of the rows."""
        return Rows(self.window, self.runs[chosen], self.starts[chosen], self.heads[chosen], self.positions[chosen])

    def joined(self, layer: int) -> int:
        """How many of them start in this layer or below."""
        return int((self.starts <= layer).sum())


class RowBook:
    """What the blocks do to the rows of one window, read along the clean run's directions.

    Attributes:
        lines: lines by name, [row, layer], [row, layer, head] or [row].
    """

    def __init__(self, anatomy: Anatomy, clean: CleanRun, rows: Rows, per_component: bool) -> None:
        self.anatomy, self.clean, self.rows = anatomy, clean, rows
        zeros, number = clean.scaled_logit.new_zeros, len(rows)
        self.lines = {name: zeros(number, anatomy.layers) for name in ("by_attention", "by_mixer", "by_mlp")}
        self.lines["post_norms"] = zeros(number)
        if per_component:
            self.lines["by_head"] = zeros(number, anatomy.layers, anatomy.heads)
            self.lines["by_mlp_write"] = zeros(number, anatomy.layers, anatomy.mlp_writes)
        self.through_heads = zeros(number)  # what heads of the layer at work changed by

    def _at(self, of_windows: Tensor, rows: slice) -> Tensor:
        """Values [window, P, ...] at the rows' predictions."""
        return of_windows[self.rows.window, self.rows.positions[rows]]

    def start(self, rows: slice, lost: Tensor) -> None:
        """Rows whose head is replaced in the layer at work.

        Args:
            rows: which.
            lost: change of the head's direct effect [row].
        """
        self.through_heads[rows] = lost

    def book_heads(self, layer: int, rows: slice, outputs: Tensor) -> None:
        """Outputs of a layer's heads [row, head, size], in rows that started below."""
        if "by_head" in self.lines:
            after = (outputs * self._at(self.clean.head_directions[layer], rows)).sum(-1)
            before = self._at(self.clean.direct_effects(layer), rows)
            self.lines["by_head"][rows, layer, : outputs.shape[1]] = after - before

    def book_attention(self, layer: int, rows: slice, write: Tensor) -> None:
        """The output of a layer's projection [row, width], in rows that started below."""
        after = (write * self._at(self.clean.projection_directions[layer], rows)).sum(-1)
        change = after - self._at(self.clean.projections[layer], rows)
        self.lines["by_attention"][rows, layer] = self.through_heads[rows] = change

    def book_post_norm(self, layer: int, block: Block, rows: slice, write: Tensor) -> None:
        """Attention's write behind its norm [row, width]: what it changed by beyond its heads at the clean scale."""
        after = block.attention_multiplier * (write * self._at(self.clean.direction, rows)).sum(-1)
        self.lines["post_norms"][rows] += after - self._at(self.clean.attention[layer], rows) - self.through_heads[rows]

    def book_mixer(self, layer: int, block: Block, rows: slice, write: Tensor) -> None:
        """A mixer's write [row, width], in rows that started below."""
        after = block.mixer_multiplier * (write * self._at(self.clean.direction, rows)).sum(-1)
        self.lines["by_mixer"][rows, layer] = after - self._at(self.clean.mixers[layer], rows)

    def book_mlp(self, layer: int, block: Block, number: int, rows: slice, write: Tensor) -> None:
        """A write of an MLP [row, width], by its number among those of the layer."""
        after = block.mlps[number][1] * (write * self._at(self.clean.direction, rows)).sum(-1)
        change = after - self._at(self.clean.mlp_writes[layer][number], rows)
        self.lines["by_mlp"][rows, layer] += change
        if "by_mlp_write" in self.lines:
            self.lines["by_mlp_write"][rows, layer, number] = change

    def finish(self, final: Tensor) -> None:
        """The final stream [row, width]."""
        every, clean = slice(None), self.clean
        sigma = self.anatomy.final_norm.scale(final)
        scaled_logit = (self._at(clean.u, every) * final).sum(-1) / sigma
        ratio = self._at(clean.sigma, every) / sigma
        self.lines["sigma_ratio"] = ratio
        self.lines["total_effect"] = scaled_logit - self._at(clean.scaled_logit, every)
        self.lines["norm"] = norm_repair(ratio, scaled_logit)


class Ledgers:
    """Ledgers of some interventions over a batch, filled row by row; NaN where no row was computed.

    Args:
        anatomy: the model's parts.
        clean: the clean run.
        interventions: single heads, in the order of the rows' `runs`.
        per_component: whether ledgers get a line for every head.
    """

    def __init__(
        self, anatomy: Anatomy, clean: CleanRun, interventions: Sequence[Intervention], per_component: bool
    ) -> None:
        self.interventions = tuple(interventions)
        self.values = unknown_values(anatomy, clean, len(interventions), per_component)
        self.values["curvature"].zero_()  # next tokens have none

    def take(self, book: RowBook) -> None:
        """Adds the lines of finished rows."""
        rows = book.rows
        for name, values in book.lines.items():
            self.values[name][rows.runs, rows.window, rows.positions] = values

    def ledger(self, part: slice) -> Ledger:
        """The ledger of some of the interventions; all start in the same layer."""
        return ledger_of(self.interventions[part], {name: value[part] for name, value in self.values.items()})
