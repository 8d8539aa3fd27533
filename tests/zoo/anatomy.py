"""The parts of every family, written by hand from reading the modelling code: what a discovery must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .families import HEAD_DIM, HEADS, KV_HEADS

Values = Callable[
    [nn.Module, Tensor], Tensor
]  # (attention module, what it reads [..., width]) -> [..., head, head_dim]


# ------------------------------------------------------- each query head's value vectors, by weight layout


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return x @ weight.T + (0 if bias is None else bias)


def v_proj(attention: nn.Module, x: Tensor) -> Tensor:
    """A separate v_proj, each of its key-value heads shared by a group of neighbouring query heads."""
    v = _linear(attention.v_proj.weight, attention.v_proj.bias, x)
    v = v.unflatten(-1, (-1, _width(attention)))
    return v.repeat_interleave(HEADS // v.shape[-2], dim=-2)


def v_proj_clipped(attention: nn.Module, x: Tensor) -> Tensor:
    """OLMo clips queries, keys and values."""
    clip = attention.config.clip_qkv
    return v_proj(attention, x).clamp(-clip, clip)


def thirds_conv1d(attention: nn.Module, x: Tensor) -> Tensor:
    """GPT-2: one Conv1D [in, out], contiguous thirds q | k | v."""
    return (x @ attention.c_attn.weight + attention.c_attn.bias).chunk(3, dim=-1)[2].unflatten(-1, (HEADS, -1))


def per_head_qkv(attention: nn.Module, x: Tensor) -> Tensor:
    """GPT-NeoX, BLOOM, Falcon-RW: [head, (q, k, v), head_dim]."""
    qkv = _linear(attention.query_key_value.weight, attention.query_key_value.bias, x)
    return qkv.unflatten(-1, (HEADS, 3, -1))[..., 2, :]


def one_value_for_all(attention: nn.Module, x: Tensor) -> Tensor:
    """Falcon-7B: the queries of all heads, then one key, then one value."""
    qkv = _linear(attention.query_key_value.weight, attention.query_key_value.bias, x)
    return qkv.unflatten(-1, (HEADS + 2, -1))[..., -1:, :].expand(*x.shape[:-1], HEADS, HEAD_DIM)


def per_group_qkv(attention: nn.Module, x: Tensor) -> Tensor:
    """Falcon-40B: per key-value group its queries, its key, its value."""
    qkv = _linear(attention.query_key_value.weight, attention.query_key_value.bias, x)
    value = qkv.unflatten(-1, (KV_HEADS, HEADS // KV_HEADS + 2, -1))[..., -1, :]
    return value.repeat_interleave(HEADS // KV_HEADS, dim=-2)


def four_cores_qvk(attention: nn.Module, x: Tensor) -> Tensor:
    """CodeGen: four cores, in each all queries, then VALUES, then keys."""
    cores = (x @ attention.qkv_proj.weight.T).unflatten(-1, (4, 3, -1))
    return cores[..., 1, :].flatten(-2).unflatten(-1, (HEADS, -1))


def fused_rows(attention: nn.Module, x: Tensor) -> Tensor:
    """Phi-3: rows of all queries, then the grouped keys, then the grouped values."""
    value = (x @ attention.qkv_proj.weight.T)[..., -KV_HEADS * HEAD_DIM :]
    return value.unflatten(-1, (KV_HEADS, HEAD_DIM)).repeat_interleave(HEADS // KV_HEADS, dim=-2)


def _width(attention: nn.Module) -> int:
    return attention.head_dim


# ---------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Anatomy:
    """Names of the parts of a model, relative to a block unless said otherwise, and its constants.

    Attributes:
        blocks: path of the list of blocks, from the model.
        attention: the module that holds the value weights.
        o_proj: attention output projection; its input is the concatenated heads.
        mlp: module whose output is the MLP's bare write, before any post-norm, multiplier or residual.
        final_norm: path of the final norm, from the model.
        attention_norm: norm whose output attention reads; None where attention reads the residual stream.
        norm: "layer" or "rms", of the final norm (and of post-norms).
        one_plus_weight: the norms' gain is 1 + weight.
        parallel: attention and MLP read the same residual stream.
        values: each head's value vectors from what attention reads.
        post_attention_norm, post_mlp_norm: norms applied to a write before it is added.
        residual_multiplier: factor on every write before it is added.
        logit_multiplier: factor on the unembedding's output.
        soft_cap: c in logits = c tanh(logits / c), after the multiplier.
        conv1d: o_proj keeps its weight as [in, out].
        head_dim: width of one head's output.
    """

    blocks: str
    attention: str
    o_proj: str
    mlp: str
    final_norm: str
    attention_norm: str | None
    norm: str
    values: Values = v_proj
    one_plus_weight: bool = False
    parallel: bool = False
    post_attention_norm: str | None = None
    post_mlp_norm: str | None = None
    residual_multiplier: float = 1.0
    logit_multiplier: float = 1.0
    soft_cap: float | None = None
    conv1d: bool = False
    head_dim: int = HEAD_DIM
    heads: int = HEADS

    def block(self, model: PreTrainedModel, layer: int) -> nn.Module:
        return model.get_submodule(self.blocks)[layer]

    def layers(self, model: PreTrainedModel) -> int:
        return len(model.get_submodule(self.blocks))

    def part(self, model: PreTrainedModel, layer: int, name: str) -> nn.Module:
        """The module a field such as "o_proj" or "mlp" names, in one layer."""
        return self.block(model, layer).get_submodule(getattr(self, name))

    def w_o(self, model: PreTrainedModel, layer: int, head: int) -> Tensor:
        """Output weights of one head [head_dim, width]."""
        weight = self.part(model, layer, "o_proj").weight.detach()
        rows = weight if self.conv1d else weight.T
        return rows[head * self.head_dim : (head + 1) * self.head_dim]

    def gain(self, norm: nn.Module, width: int) -> Tensor:
        weight = getattr(norm, "weight", None)
        if weight is None:
            return torch.ones(width, dtype=torch.float64)
        return weight.detach().double() + (1.0 if self.one_plus_weight else 0.0)

    def norm_bias(self, norm: nn.Module, width: int) -> Tensor:
        bias = getattr(norm, "bias", None)
        return torch.zeros(width, dtype=torch.float64) if bias is None else bias.detach().double()

    @staticmethod
    def eps(norm: nn.Module) -> float:
        return next((float(getattr(norm, n)) for n in ("eps", "variance_epsilon") if hasattr(norm, n)), 1e-5)

    def scale(self, norm: nn.Module, x: Tensor) -> Tensor:
        """What the norm divides by [...], of x [..., width]."""
        spread = x.var(-1, correction=0) if self.norm == "layer" else x.pow(2).mean(-1)
        return (spread + self.eps(norm)).sqrt()

    def apply(self, norm: nn.Module, x: Tensor) -> Tensor:
        """The norm, by its formula."""
        centred = x - x.mean(-1, keepdim=True) if self.norm == "layer" else x
        return centred / self.scale(norm, x)[..., None] * self.gain(norm, x.shape[-1]) + self.norm_bias(
            norm, x.shape[-1]
        )


_GPT2 = Anatomy(
    blocks="transformer.h",
    attention="attn",
    o_proj="attn.c_proj",
    mlp="mlp",
    final_norm="transformer.ln_f",
    attention_norm="ln_1",
    norm="layer",
    values=thirds_conv1d,
    conv1d=True,
)
_GPTJ = replace(_GPT2, o_proj="attn.out_proj", values=v_proj, conv1d=False, parallel=True)
_NEOX = Anatomy(
    blocks="gpt_neox.layers",
    attention="attention",
    o_proj="attention.dense",
    mlp="mlp",
    final_norm="gpt_neox.final_layer_norm",
    attention_norm="input_layernorm",
    norm="layer",
    values=per_head_qkv,
)
_BLOOM = Anatomy(
    blocks="transformer.h",
    attention="self_attention",
    o_proj="self_attention.dense",
    mlp="mlp.dense_4h_to_h",  # the mlp module itself adds the residual
    final_norm="transformer.ln_f",
    attention_norm="input_layernorm",
    norm="layer",
    values=per_head_qkv,
)
_FALCON = replace(_BLOOM, values=one_value_for_all, parallel=True, mlp="mlp")
_LLAMA = Anatomy(
    blocks="model.layers",
    attention="self_attn",
    o_proj="self_attn.o_proj",
    mlp="mlp",
    final_norm="model.norm",
    attention_norm="input_layernorm",
    norm="rms",
)
_NARROW = replace(_LLAMA, head_dim=6)
_LAYERNORM = replace(_LLAMA, norm="layer")
_GEMMA = replace(_NARROW, one_plus_weight=True)
_SANDWICH = replace(_GEMMA, post_attention_norm="post_attention_layernorm", post_mlp_norm="post_feedforward_layernorm")

ANATOMY: dict[str, Anatomy] = {
    "gpt2": _GPT2,
    "gpt2_wide": _GPT2,
    "gpt_neo": replace(
        _GPT2, attention="attn.attention", o_proj="attn.attention.out_proj", values=v_proj, conv1d=False
    ),
    "gpt_neox_parallel": replace(_NEOX, parallel=True),
    "gpt_neox_sequential": _NEOX,
    "gptj": _GPTJ,
    "codegen": replace(_GPTJ, values=four_cores_qvk),
    "opt": Anatomy(
        blocks="model.decoder.layers",
        attention="self_attn",
        o_proj="self_attn.out_proj",
        mlp="fc2",  # no mlp module; [batch * position, width]
        final_norm="model.decoder.final_layer_norm",  # a block's final_layer_norm is its MLP's pre-norm
        attention_norm="self_attn_layer_norm",
        norm="layer",
    ),
    "bloom": _BLOOM,
    "llama": _LLAMA,
    "llama_bias": _NARROW,
    "mistral": _NARROW,
    "qwen2": _LLAMA,
    "qwen3": _NARROW,
    "phi": replace(_LAYERNORM, o_proj="self_attn.dense", final_norm="model.final_layernorm", parallel=True),
    "phi3": replace(_LLAMA, values=fused_rows),
    "stablelm": _LAYERNORM,
    "stablelm_parallel": replace(_LAYERNORM, parallel=True),
    "falcon_7b": _FALCON,
    "falcon_40b": replace(_FALCON, values=per_group_qkv, attention_norm="ln_attn"),
    "falcon_11b": replace(_FALCON, values=per_group_qkv),
    "falcon_rw": replace(_FALCON, values=per_head_qkv, parallel=False),
    "olmo": _LAYERNORM,
    "olmo_clip": replace(_LAYERNORM, values=v_proj_clipped),
    "olmo2": replace(_SANDWICH, one_plus_weight=False, attention_norm=None, head_dim=HEAD_DIM),
    "gemma": _GEMMA,
    "gemma2": replace(_SANDWICH, soft_cap=6.0),
    "gemma3": _SANDWICH,
    "granite": replace(_LLAMA, residual_multiplier=0.45, logit_multiplier=1 / 0.6),
    "cohere": replace(_LAYERNORM, parallel=True, logit_multiplier=1.6),
    "mixtral": _LLAMA,
    "qwen2_moe": _LLAMA,
    "qwen3_moe": _NARROW,
    "starcoder2": _LAYERNORM,
}


def bias_alone(model: PreTrainedModel, anatomy: Anatomy, layer: int) -> Tensor:
    """What attention reads where its pre-norm's output is its bias alone [width]; zeros without either."""
    width = anatomy.w_o(model, layer, 0).shape[-1]
    if anatomy.attention_norm is None:
        return torch.zeros(width, dtype=torch.float64)
    return anatomy.norm_bias(anatomy.part(model, layer, "attention_norm"), width)


def value_constants(model: PreTrainedModel, anatomy: Anatomy) -> Tensor:
    """What each head puts out because of biases alone, b_V + W_V beta [layer, head, head_dim]."""
    rows = []
    for layer in range(anatomy.layers(model)):
        beta = bias_alone(model, anatomy, layer)
        rows.append(anatomy.values(anatomy.part(model, layer, "attention"), beta).double())
    return torch.stack(rows).detach()
