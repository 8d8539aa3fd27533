"""How many windows go through the model together."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.sites import Head
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.text import Windows

UNIT_TOKENS = 8192  # most of a unit of work
_CPU_TOKENS = 1024  # more no longer makes matrix products faster on a CPU, and leaves its caches
_GPU_TOKENS = 16384
_SLACK = 1.3  # factor on what is counted: allocators round up and free late
_CPU_WORK, _GPU_WORK = 1e13, 5e16  # operations: some minutes on a laptop's processor, or on a GPU
_UNITS = 200  # more cost disk and time to merge, and a kill no longer loses noticeably less
_FIXED = 120e6  # what libraries take as soon as they are used, whatever the model; in no budget


@dataclass(frozen=True)
class MemoryPlan:
    """Sizes of batches, and the memory they take.

    Attributes:
        windows: windows per batch.
        runs: ablated runs that are held at a time.
        predicted: bytes beside the model's weights, at most.
    """

    windows: int
    runs: int
    predicted: int


def plan_memory(
    model: LanguageModel,
    length: int,
    per_head: bool,
    donors: int,
    runs: int,
    memory: float | None = None,
    batch: int | None = None,
    most: int | None = None,
) -> MemoryPlan:
    """As many windows per batch as are useful and fit; if not even one does with all its runs, fewer runs.

    Args:
        model: the model.
        length: positions of a window.
        per_head: whether ledgers get a line for every head.
        donors: donors per window.
        runs: ablated runs of every window.
        memory: gigabytes to use; by default 4 on a CPU (or half of what the machine has), 60% of what a GPU
            has free.
        batch: windows per batch, if that is fixed.
        most: the most windows of a batch, if it is not.

    Raises:
        SelfRepairError: not even a single run of a single window fits; a budget that is not above 0.
    """
    if memory is not None and not 0 < memory < math.inf:
        raise SelfRepairError(f"A batch may take {memory} GB; a number above 0 was expected.", "Give --memory 4, say.")
    budget = 1e9 * memory if memory is not None else _memory(model)
    wanted = max(1, (_GPU_TOKENS if model.device.type == "cuda" else _CPU_TOKENS) // length)
    wanted = wanted if most is None else min(wanted, most)
    window, run = _SLACK * window_bytes(model, length, donors), _SLACK * run_bytes(model, length, per_head)
    if budget < window + run:
        raise SelfRepairError(
            f"A single window of {length} tokens needs {(window + run) / 1e9:.1f} GB "
            f"beside the model; the budget is {budget / 1e9:.1f} GB.",
            "Take a shorter --length, --components layers, or give more --memory.",
        )
    windows = batch or max(1, min(wanted, int(budget // (window + runs * run))))
    held = min(runs, max(1, int((budget / windows - window) // run)))
    return MemoryPlan(windows, held, int(_FIXED + windows * (window + held * run)))


def windows_per_unit(
    model: LanguageModel, heads: Sequence[Head], draws: int, windows: Windows, effort: float = 1.0
) -> int:
    """Windows per unit. A kill may cost a unit, so it is some minutes of work, or a small share of a long run.

    Args:
        model: the model.
        heads: the heads to ablate.
        draws: ablated runs per head.
        windows: the corpus.
        effort: work on a window, as a share of a sweep over all its tokens.
    """
    blocks = model.anatomy.blocks
    weights = [sum(value.numel() for value in block.module.parameters()) for block in blocks]
    work = 2 * draws * sum(sum(weights[head.layer :]) for head in heads)  # operations per token: the blocks above
    enough = _GPU_WORK if model.device.type == "cuda" else _CPU_WORK
    tokens = max(enough / (effort * work), len(windows) * windows.length / _UNITS)
    return max(1, int(min(UNIT_TOKENS, tokens)) // windows.length)


def window_bytes(model: LanguageModel, length: int, donors: int) -> int:
    """Bytes that a window takes once: its clean run, the survey's logits, a block at work."""
    anatomy = model.anatomy
    heads_width = anatomy.heads * max(block.head_dim for block in anatomy.blocks)
    clean = anatomy.layers * (3 * anatomy.width + (3 + donors) * heads_width)  # streams and writes; heads
    inside_blocks = 48 * anatomy.width * 4  # a tape of clean values, and a chunk of runs on their way along it
    vocabulary = 3 * anatomy.unembedding.weight.shape[0]  # the survey's loss
    return length * (clean + inside_blocks + vocabulary) * model.dtype.itemsize


def run_bytes(model: LanguageModel, length: int, per_head: bool) -> int:
    """Bytes that every ablated run of a window takes: its difference from the clean stream, its ledger twice."""
    anatomy = model.anatomy
    lines = anatomy.layers * (2 + (anatomy.heads if per_head else 0)) + 12
    return length * (anatomy.width + 2 * lines) * model.dtype.itemsize


def _memory(model: LanguageModel) -> float:
    if model.device.type == "cuda":
        return 0.6 * torch.cuda.mem_get_info(model.device)[0]
    return min(4e9, 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def tokens_of(windows: Windows, indices: np.ndarray, model: LanguageModel) -> Tensor:
    """Token ids [window, position] of the given windows, on the model's device."""
    require_known_tokens(windows.tokens[indices], model)
    return torch.from_numpy(windows.tokens[indices].astype(np.int64)).to(model.device)


def real_tokens(windows: Windows, indices: np.ndarray, model: LanguageModel) -> Tensor:
    """Which tokens of the given windows are no padding, bool [window, position], on the model's device."""
    real = np.arange(windows.length) < windows.lengths[indices, None]
    return torch.from_numpy(real).to(model.device)


def require_known_tokens(tokens: np.ndarray, model: LanguageModel) -> None:
    """Refuses token ids [window, position] that the model cannot read, or, from the second position on, not predict.

    Raises:
        SelfRepairError: names the id, and where the model's tables end.
    """
    if tokens.min(initial=0) < 0:
        raise SelfRepairError(
            f"The text holds the token id {tokens.min()}; ids begin at 0.",
            "Marks for what is left out, such as -100, are no tokens: give the text without them.",
        )
    read = model.network.get_input_embeddings().weight.shape[0]
    predicted = model.anatomy.unembedding.weight.shape[0]
    if tokens.max(initial=0) >= read:
        raise SelfRepairError(
            f"The text holds the token id {tokens.max()}; the model's vocabulary ends at {read - 1}.",
            "The tokenizer belongs to another model: take the one that came with this one.",
        )
    if tokens[:, 1:].max(initial=0) >= predicted:
        raise SelfRepairError(
            f"The text holds the token id {tokens[:, 1:].max()}, which the model reads but never predicts: its "
            f"embedding ends at {read - 1}, its unembedding at {predicted - 1}.",
            "Take a text without such tokens (mostly placeholders for images), or check that the unembedding is whole.",
        )
