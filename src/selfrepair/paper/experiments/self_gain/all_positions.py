"""One pass that stands for a separate run per position: in run p only position p is changed.

A change at position p of the residual stream moves nothing before p, and what it does to later positions does not
matter to the prediction made at p. So the run in which p is changed can be carried as row p of one sequence, if
attention in row p takes keys and values of positions j < p from the clean run and of p from the row itself:

    z'_p = sum_{j<p} a_j v_j + a_p v'_p,  a = softmax over (q'_p . k_j for j < p, q'_p . k'_p)

(docs/methods.md 5.3). All positions of all windows then cost one forward of the same blocks. Attention is replaced
through Hugging Face's own registry of attention functions, after position codes were applied; families that do not use
the registry are refused, and `add_vector.adder_for` compares the rest with single runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel

NAME = "selfrepair_rows"
State = tuple[Tensor, Tensor]  # keys and values [window, key head, position, width]


@dataclass
class RowAttention:
    """Clean keys and values of every attention module, and whether they are being recorded or used."""

    usual: Any
    recording: bool = True
    clean: dict[nn.Module, State] = field(default_factory=dict)
    called: int = 0

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        scaling: float | None = None,
        softcap: float | None = None,
        **given: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Takes the place of the model's attention function."""
        self.called += 1
        if self.recording:
            self.clean[module] = key, value
            extra = {} if softcap is None else {"softcap": softcap}
            attended: tuple[Tensor, Tensor | None] = self.usual(
                module, query, key, value, attention_mask, scaling=scaling, **extra, **given
            )
            return attended
        fold = query.shape[0] // self.clean[module][0].shape[0]
        keys, values = (_spread(state, fold, query.shape[1]) for state in self.clean[module])
        own_key, own_value = (_spread(state, 1, query.shape[1]) for state in (key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        scores = query @ keys.transpose(-1, -2) * scale
        own = (query * own_key).sum(-1) * scale
        if softcap is not None:
            scores, own = (softcap * torch.tanh(raw / softcap) for raw in (scores, own))
        positions = torch.arange(query.shape[2], device=query.device)
        scores = _masked(scores, attention_mask, positions)
        bias = _diagonal(attention_mask)
        scores[..., positions, positions] = own if bias is None else own + bias
        weights = scores.softmax(-1)
        on_itself = weights[..., positions, positions].unsqueeze(-1)
        output = weights @ values + on_itself * (own_value - values)
        return output.transpose(1, 2).contiguous(), None


def _spread(state: Tensor, fold: int, heads: int) -> Tensor:
    """Keys or values for every query head and every copy of the batch."""
    state = state.repeat_interleave(heads // state.shape[1], 1)
    return state if fold == 1 else state.repeat(fold, 1, 1, 1)


def _masked(scores: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
    if mask is None:  # the function itself is causal then
        return scores.masked_fill(positions[None, :] > positions[:, None], float("-inf"))
    mask = mask[..., : scores.shape[-2], : scores.shape[-1]]
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, float("-inf"))
    return scores + mask


def _diagonal(mask: Tensor | None) -> Tensor | None:
    """The mask's addition to a position's attention to itself."""
    if mask is None:
        return None
    own = mask.diagonal(dim1=-2, dim2=-1)
    return torch.where(own, 0.0, float("-inf")) if own.dtype == torch.bool else own


@contextmanager
def row_attention(model: LanguageModel) -> Iterator[RowAttention]:
    """Attention under which clean keys and values are recorded, then used, see `RowAttention`.

    Raises:
        SelfRepairError: the family's attention is not in Hugging Face's registry.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    configs = _configs(model.network)
    before = [config._attn_implementation for config in configs]
    attention = RowAttention(_Usual(before[0], ALL_ATTENTION_FUNCTIONS))
    AttentionInterface.register(NAME, attention.attend)
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield attention
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        AttentionInterface._global_mapping.pop(NAME, None)
    if not attention.called:
        raise SelfRepairError(
            f"{type(model.network).__name__} does not use Hugging Face's registry of attention functions.",
            "The scan of all heads is not possible for this family; single heads are run position by position.",
        )


@dataclass(frozen=True)
class _Usual:
    """The model's own attention function: the registered one, or the eager one beside its module."""

    name: str
    registry: Any

    def __call__(self, module: nn.Module, *args: Any, **given: Any) -> Any:
        import sys

        eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        return self.registry.get_interface(self.name, eager)(module, *args, **given)


def _configs(network: nn.Module) -> list[Any]:
    """All configurations that modules of the network look their attention up in."""
    configs: dict[int, Any] = {}
    for module in network.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            configs[id(config)] = config
    return list(configs.values())
