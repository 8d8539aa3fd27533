"""TransformerLens 4.3: `patching.get_act_patch_attn_head_out_all_pos`, a whole run with hooks per head."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformer_lens import ActivationCache, patching, utilities
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

from race.contestants import versions
from race.task import Task
from selfrepair.ablation.sites import Head


class Peer:
    """A `TransformerBridge` around a copy of the network.

    `TransformerBridge.boot_transformers(hf_model=...)` does the same steps and then wants a tokenizer from the hub,
    so the bridge is built from the module. As there, attention is eager. The cache patched from holds the task's
    own replacements, which are what `run_with_cache` on the donors gives, to the last digits.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        network = copy.deepcopy(task.network)
        network.set_attn_implementation("eager")
        self.bridge = build_bridge_from_module(
            network, type(network).__name__, hf_config=network.config, device=task.tokens.device
        )
        outputs = {utilities.get_act_name("z", layer): value for layer, value in enumerate(task.donated)}
        self.cache = ActivationCache(outputs, self.bridge)

    @torch.inference_mode()
    def sweep(self, units: tuple[Head, ...]) -> Tensor:
        """See `race.contestants.Contestant`."""
        clean = self.task.target_logits(self.bridge(self.task.tokens))
        kept: list[Tensor] = []

        def keep(logits: Tensor) -> Tensor:
            kept.append(self.task.target_logits(logits))
            return logits.new_zeros(())  # the function wants a number; what we want is one for each token

        patching.get_act_patch_attn_head_out_all_pos(
            self.bridge,
            self.task.tokens,
            self.cache,
            keep,
            index_axis_names=None,
            index_df=pd.DataFrame(units, columns=["layer", "head"]),
        )
        return torch.stack(kept) - clean

    def facts(self) -> dict[str, Any]:
        """See `race.contestants.Contestant`."""
        return {"precision": "float32", "ledger": "no", "versions": versions("transformer_lens")}
