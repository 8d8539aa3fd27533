"""Judges whether two models are versions of one another, so that a head of one is *the same head* in the other.

Two models of one architecture and size that were trained apart have nothing in common but their shape: L9H6 of one is
not L9H6 of the other. Checkpoints of one training, fine-tunes and quantisations keep most of every weight. So a
few hundred entries of the heads' output weights are kept with every run, and compared by their ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from selfrepair.model.anatomy import Anatomy

ENTRIES = 512  # of the whole model: models trained apart correlate by chance to within 0.13, three standard errors
RELATED = 0.5  # correlation from which models are versions of one another


def weights_sample(anatomy: Anatomy) -> list[float]:
    """Entries of the heads' output weights, or of the mixers' largest where there are no heads, chosen by their shapes
    alone, to four digits."""
    weights = [block.output_weight for block in anatomy.blocks if block.heads] or [
        max(block.mixer_write.parameters(), key=torch.numel) for block in anatomy.blocks if block.has_mixer
    ]
    each = -(-ENTRIES // len(weights))
    share = np.random.default_rng(0).random(each)
    sample: list[float] = []
    for weight in weights:
        for number in (share * weight.numel()).astype(int):
            index = np.unravel_index(number, tuple(weight.shape))
            sample.append(float(f"{float(weight[tuple(map(int, index))].detach()):.4g}"))
    return sample


def unrelated(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Why heads of two models are not the same heads, for a sentence; empty where they are.

    Args:
        first: `plan["model"]` of a run.
        second: `plan["model"]` of another.
    """
    if first["weights"] == second["weights"]:
        return ""
    shapes = [(model["layers"], model["heads"]) for model in (first, second)]
    if shapes[0] != shapes[1]:
        return f"one has {shapes[0][0]} layers of {shapes[0][1]} heads, the other {shapes[1][0]} of {shapes[1][1]}"
    if _one_source(first.get("source"), second.get("source")):
        return ""
    samples = first["weights_sample"], second["weights_sample"]
    if len(samples[0]) != len(samples[1]):
        return "their heads have different sizes"
    correlation = float(spearmanr(*samples).statistic)
    if correlation >= RELATED:  # NaN, of constant weights, is no kinship
        return ""
    return (
        "they were trained apart, judging by their weights: the ranks of heads' output weights correlate at "
        f"{correlation:.2f}, those of checkpoints, fine-tunes and quantisations above {RELATED}"
    )


def _one_source(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> bool:
    """Whether both are revisions of one model of the hub."""
    return bool(first and second and first["model"] == second["model"] and first["revision"] != second["revision"])
