"""How many windows go through the model together."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from selfrepair.engine import ReplayEngine
from selfrepair.engine.clean import clean_run
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.text import Windows

_CPU_TOKENS = 1024  # more no longer makes matrix products faster on a CPU, and leaves its caches
_GPU_TOKENS = 16384


def batch_size(model: LanguageModel, length: int, per_head: bool, donors: int, memory: float | None = None) -> int:
    """Windows per batch, so that a clean run and one ablated run of it stay within memory.

    Args:
        model: the model.
        length: positions of a window.
        per_head: whether ledgers get a line for every head.
        donors: donors per window.
        memory: gigabytes to use; by default 4 on a CPU (or half of what the machine has), 60% of what a GPU
            has free.

    Raises:
        SelfRepairError: where not even a single window fits.
    """
    budget = 1e9 * memory if memory is not None else _memory(model)
    wanted = max(1, (_GPU_TOKENS if model.device.type == "cuda" else _CPU_TOKENS) // length)
    needed = window_bytes(model, length, per_head, donors)
    fitting = int(budget // needed)
    if fitting < 1:
        raise SelfRepairError(
            f"A single window of {length} tokens needs {needed / 1e9:.1f} GB "
            f"beside the model; the budget is {budget / 1e9:.1f} GB.",
            "Take a shorter --length, --components layers, or give more --memory.",
        )
    return min(wanted, fitting)


def window_bytes(model: LanguageModel, length: int, per_head: bool, donors: int) -> int:
    """Bytes that one window takes in a clean run and one ablated run of it."""
    anatomy = model.anatomy
    heads_width = anatomy.heads * max(block.head_dim for block in anatomy.blocks)
    clean = anatomy.layers * (3 * anatomy.width + (3 + donors) * heads_width)  # streams and writes; heads
    lines = anatomy.layers * (2 + (anatomy.heads if per_head else 0)) * 3
    inside_a_block = 16 * anatomy.width
    vocabulary = 3 * anatomy.readout.weight.shape[0]  # the survey's loss
    return length * (clean + lines + inside_a_block + vocabulary) * model.dtype.itemsize


def _memory(model: LanguageModel) -> float:
    if model.device.type == "cuda":
        return 0.6 * torch.cuda.mem_get_info(model.device)[0]
    return min(4e9, 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def tokens_of(windows: Windows, indices: np.ndarray, model: LanguageModel) -> Tensor:
    """Token ids [window, position] of the given windows, on the model's device."""
    return torch.from_numpy(windows.tokens[indices].astype(np.int64)).to(model.device)


def probe_fold(engine: ReplayEngine, model: LanguageModel, windows: Windows, batch: int) -> int:
    """How many heads are fastest in one batch, by a short trial on the first windows; part of the plan, because the
    shape of a batch shows in the last bits of its results."""
    with model.running():
        clean = clean_run(model, tokens_of(windows, np.arange(min(batch, len(windows))), model))
        return engine.probe(model, clean)
