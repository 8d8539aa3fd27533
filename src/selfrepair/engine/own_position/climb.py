"""Rows of one window on their way up: through blocks of attention as copies of positions, through mixers as windows."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.own_position.position_copies import Copies
from selfrepair.engine.own_position.position_rows import RowBook, Rows
from selfrepair.model.arguments import block_arguments
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import stream_errors
from selfrepair.model.ports import Port
from selfrepair.model.taps import first_tensor, on_input, on_output, removing, with_input

_MOST_POSITIONS = 4096  # of the windows that go through a block with a mixer together


class Layout(Protocol):
    """Where rows lie in the tensors of a block's modules."""

    def of(self, value: Tensor) -> tuple[Tensor, Any]:
        """A module's tensor as [.., width], and the index of the rows in it."""
        ...


class _AsCopies:
    """Rows behind their window, as copies of its positions."""

    def __init__(self, length: int) -> None:
        self.length = length

    def of(self, value: Tensor) -> tuple[Tensor, Any]:
        """See `Layout.of`."""
        return value.reshape(-1, value.shape[-1]), slice(self.length, None)


class _AsWindows:
    """Each row in a window of its own, at its position."""

    def __init__(self, length: int, positions: Tensor) -> None:
        self.length, self.positions = length, positions

    def of(self, value: Tensor) -> tuple[Tensor, Any]:
        """See `Layout.of`."""
        rows = torch.arange(len(self.positions), device=self.positions.device)
        return value.reshape(-1, value.shape[-1]), rows * self.length + self.positions


class Climb:
    """Some rows of one window, from the lowest layer in which one of them starts to the top.

    Args:
        model: the model. Call under `model.running()`.
        clean: the clean run of the batch.
        rows: the rows.
        replacement: what goes in the places of their heads.
        per_component: whether lines of single components are booked.
    """

    def __init__(
        self, model: LanguageModel, clean: CleanRun, rows: Rows, replacement: Replacement, per_component: bool
    ) -> None:
        self.model, self.clean, self.rows = model, clean, rows
        self._tokens = clean.tokens[rows.window : rows.window + 1]
        lowest = int(rows.starts.min()) if len(rows) else model.anatomy.layers
        self.layers = range(lowest, model.anatomy.layers)
        blocks = model.anatomy.blocks
        copied = any(not blocks[layer].has_mixer for layer in self.layers)
        self.copies = Copies(model, self._tokens, rows.positions) if copied else None
        self.book = RowBook(model.anatomy, clean, rows, per_component)
        layers = sorted(set(rows.starts.tolist()))
        self._replaced = {layer: replacement(Port(layer, "heads")) for layer in layers}  # before any hook is in place

    def run(self) -> tuple[Tensor, Tensor]:
        """The rows' streams after the last block [row, width], and how far the window's own strayed from the clean
        run, relative to its size."""
        clean, window = self.clean, self.rows.window
        stream = clean.final.new_zeros(0, clean.final.shape[-1])
        strayed = clean.sigma.new_zeros(())
        for layer in self.layers:
            old, new = self.rows.joined(layer - 1), self.rows.joined(layer)
            own = clean.residuals[layer][window]
            stream = torch.cat([stream, own[self.rows.positions[old:new]]])
            through = self._as_windows if self.model.anatomy.blocks[layer].has_mixer else self._as_copies
            stream, error = through(layer, stream, old)
            strayed = torch.maximum(strayed, error)
        return stream, strayed

    def _as_copies(self, layer: int, stream: Tensor, old: int) -> tuple[Tensor, Tensor]:
        """Takes the rows through a block behind their window, and tells how far the window's own strayed."""
        assert self.copies is not None
        own, following = self._own(layer)
        length, block = len(own), self.model.anatomy.blocks[layer]
        args, kwargs = self.copies.arguments(layer, torch.cat([own, stream])[None])
        with removing(*self._taps(layer, slice(0, len(stream)), old, _AsCopies(length))):
            put_out = first_tensor(block.module(*args, **kwargs)).reshape(length + len(stream), -1)
        return put_out[length:], stream_errors(put_out[None, :length], following[None]).max()

    def _as_windows(self, layer: int, stream: Tensor, old: int) -> tuple[Tensor, Tensor]:
        """The same with a window for each row, as many at a time as are worth it."""
        own, following = self._own(layer)
        strayed, moved, length = stream.new_zeros(()), [], len(own)
        size = max(1, _MOST_POSITIONS // length)
        for first in range(0, len(stream), size):
            part = slice(first, min(first + size, len(stream)))
            positions = self.rows.positions[part]
            places = torch.arange(len(positions), device=positions.device), positions
            windows = own.repeat(len(positions), 1, 1)
            windows[places] = stream[part]
            arguments = block_arguments(self.model, self._tokens.repeat(len(positions), 1))
            args, kwargs = with_input(arguments[layer], windows)
            with removing(*self._taps(layer, part, old, _AsWindows(length, positions))):
                put_out = first_tensor(self.model.anatomy.blocks[layer].module(*args, **kwargs)).reshape(windows.shape)
            moved.append(put_out[places])
            before = torch.arange(length, device=positions.device) < positions[:, None]
            errors = stream_errors(put_out, following.expand_as(put_out)).masked_fill(~before, 0)
            strayed = torch.maximum(strayed, errors.max())
        return torch.cat(moved) if moved else stream, strayed

    def _own(self, layer: int) -> tuple[Tensor, Tensor]:
        """The window's clean stream before and after a block, [position, width]."""
        window, clean = self.rows.window, self.clean
        return clean.residuals[layer][window], (*clean.residuals[1:], clean.final)[layer][window]

    def _taps(self, layer: int, part: slice, old: int, layout: Layout) -> list[Any]:
        """Hooks of one layer for a part of the rows, of which those from `old` on start there."""
        block, book = self.model.anatomy.blocks[layer], self.book
        starting, below = slice(max(old, part.start), part.stop), slice(part.start, min(old, part.stop))

        def rows_of(value: Tensor, rows: slice) -> Tensor:
            whole, index = layout.of(value)
            return whole[index][rows.start - part.start : rows.stop - part.start]

        handles = []
        if starting.start < starting.stop:
            handles.append(block.heads_place.tap(partial(self._replace, layer, starting, part, layout)))
        if below.start < below.stop:
            handles += [
                on_input(
                    block.projection,
                    lambda value: book.book_heads(layer, below, block.heads_place.split(rows_of(value, below))),
                ),
                on_output(block.projection, lambda value: book.book_attention(layer, below, rows_of(value, below))),
                on_output(block.mixer_write, lambda value: book.book_mixer(layer, block, below, rows_of(value, below))),
            ]
        if block.attention_norm is not None:
            handles.append(
                on_output(
                    block.attention_write, lambda value: book.book_post_norm(layer, block, part, rows_of(value, part))
                )
            )
        moved = below if block.parallel else part
        if moved.start < moved.stop:

            def book_mlp(number: int, value: Tensor) -> None:
                book.book_mlp(layer, block, number, moved, rows_of(value, moved))

            handles += [on_output(module, partial(book_mlp, number)) for number, (module, _) in enumerate(block.mlps)]
        return handles

    def _replace(self, layer: int, rows: slice, part: slice, layout: Layout, value: Tensor) -> Tensor:
        """Replaces the heads of the rows that start in a layer, and books what that takes away."""
        clean, window = self.clean, self.rows.window
        place = self.model.anatomy.blocks[layer].heads_place
        heads, positions = self.rows.heads[rows], self.rows.positions[rows]
        whole, index = layout.of(value)
        before = place.split(whole)
        numbers = torch.arange(len(whole), device=value.device)[index][rows.start - part.start : rows.stop - part.start]
        after = before.clone()
        replaced = self._replaced[layer][window, positions, heads]
        after[numbers, heads] = replaced
        directions = clean.head_directions[layer][window, positions, heads]
        outputs = clean.outputs_at(Port(layer, "heads"))[window, positions, heads]
        self.book.start(rows, ((replaced - outputs) * directions).sum(-1))
        return place.changed(value, before, after)
