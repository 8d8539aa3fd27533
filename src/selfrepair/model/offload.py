"""Weights on disk: a model larger than memory runs block by block, with one or two blocks in memory at a time.

All weights lie in one scratch file that is mapped into memory. The operating system reads what is touched; whenever a
block begins, the one before is released and the next is requested. Everything else sees ordinary CPU tensors.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import SelfRepairError

_MARGIN = 1.05  # of free space on the disk
_ALIGNMENT = 64  # bytes: what vector instructions like


class Offload:
    """A memory-mapped scratch file of weights; it is gone when the process ends.

    Args:
        folder: folder of the file.
        weights: the weights that it has to hold.
        dtype: precision of the weights in the file.

    Raises:
        SelfRepairError: the disk has no room for it.
    """

    def __init__(self, folder: Path, weights: Iterable[Tensor], dtype: torch.dtype) -> None:
        size = sum(_aligned(weight.numel() * dtype.itemsize) for weight in weights)
        self._map = _scratch_file(folder, size)
        self._start = torch.frombuffer(self._map, dtype=torch.uint8).data_ptr()
        self._dtype = dtype
        self._end = 0
        self._at: range | None = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self._map)

    def keep(self, weight: Tensor) -> Tensor:
        """A weight of the same values in the file."""
        kept = torch.frombuffer(self._map, dtype=self._dtype, count=weight.numel(), offset=self._end)
        self._end += _aligned(kept.numel() * kept.itemsize)
        kept = kept.view(weight.shape)
        kept.copy_(weight)
        return kept

    def follow(self, blocks: Sequence[nn.Module]) -> None:
        """Releases a block's weights when another begins, and requests the next one's."""
        places = [self._place(block) for block in blocks]
        for block, span, following in zip(blocks, places, [*places[1:], places[0]], strict=True):
            block.register_forward_pre_hook(partial(self._enter, span, following))

    def release(self) -> None:
        """Releases everything from memory: it stays on disk, and comes back when touched."""
        self._advise(range(self.size), "MADV_DONTNEED")
        self._at = None

    def _enter(self, span: range, following: range, *_: Any) -> None:
        if span == self._at:
            return
        if self._at is not None:
            self._advise(self._at, "MADV_DONTNEED")
        self._advise(following, "MADV_WILLNEED")
        self._at = span

    def _place(self, block: nn.Module) -> range:
        starts = [weight.data_ptr() - self._start for weight in block.parameters()]
        ends = [start + weight.nbytes for start, weight in zip(starts, block.parameters(), strict=True)]
        return range(min(starts), max(ends))

    def _advise(self, span: range, advice: str) -> None:
        """Whole pages only; where the system takes no advice, it decides by itself."""
        page = mmap.PAGESIZE
        start, end = math.ceil(span.start / page) * page, min(span.stop, self.size) // page * page
        if hasattr(mmap, advice) and end > start:
            self._map.madvise(getattr(mmap, advice), start, end - start)


def onto_disk(network: Any, dtype: torch.dtype, folder: Path) -> tuple[Any, Offload]:
    """The same model with all its weights in a scratch file.

    Args:
        network: a Hugging Face model as its file has it; nothing of it has to be in memory.
        dtype: the precision it is to have.
        folder: folder of the scratch file.

    Raises:
        SelfRepairError: the disk has no room for it.
    """
    weights = dict(network.named_parameters())  # tied ones once
    offload = Offload(folder, weights.values(), dtype)
    moved = network if network.dtype == dtype else _empty(network, dtype)
    for name, weight in weights.items():
        module, _, own = name.rpartition(".")
        kept = nn.Parameter(offload.keep(weight.detach()), requires_grad=False)
        setattr(moved.get_submodule(module), own, kept)
    moved.tie_weights()
    offload.release()
    return moved.eval(), offload


def _empty(network: Any, dtype: torch.dtype) -> Any:
    """A model of that class and precision without weights; its buffers (rotary tables, scales) are whole."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        made = type(network)._from_config(network.config, dtype=dtype)
    stored = network.state_dict()
    for name, buffer in made.named_buffers():
        if name in stored:
            buffer.copy_(stored[name])
    return made


def _scratch_file(folder: Path, size: int) -> mmap.mmap:
    """A file of that size without a name, mapped: the mapping alone keeps it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _MARGIN * size:
            raise OSError(f"{shutil.disk_usage(folder).free / 1e9:.1f} GB are free")
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a disk that fills up later would end the process
            else:
                os.truncate(file.fileno(), size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise SelfRepairError(
            f"The weights take {size / 1e9:.1f} GB on disk, which {folder} has no room for: {error}.",
            "Make room there, or let SELFREPAIR_CACHE name a folder on another disk.",
        ) from error


def _aligned(size: int) -> int:
    return math.ceil(size / _ALIGNMENT) * _ALIGNMENT
