"""A small random Hugging Face model of every supported family, and of some that must be refused.

Sizes are all distinct (3 layers, 4 heads, width 40, head_dim 10 or 6, hidden layer 52, vocabulary 97), so
that mixed-up axes fail. Every parameter is random: all biases, all norm gains; every multiplier a
configuration has is set to something else than one. Nothing is downloaded.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
import transformers as hf
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

LAYERS, HEADS, KV_HEADS, WIDTH, HEAD_DIM, HIDDEN, VOCAB = 3, 4, 2, 40, 10, 52, 97
POSITIONS = 32  # longest sequence a learned position table or a mask buffer allows
LENGTH = 12  # length the tests use: longer than every sliding window below
WINDOW = 4  # sliding or local attention window

ONE_PLUS_WEIGHT = ("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm")  # gain is 1 + weight
ROUTERS = (
    "gate.weight",
    "router.weight",
)  # expert choice is discrete: wide margins keep float noise from flipping it


# --------------------------------------------------------------------------------------------- random weights


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def _fan_in(module: nn.Module, weight: torch.Tensor) -> int:
    return weight.shape[0] if isinstance(module, Conv1D) else weight.shape[-1]


def randomise(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Draw every parameter anew, deterministically, on scales that make heads and MLPs matter."""
    draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}
    unembedding = model.get_output_embeddings().weight if model.get_output_embeddings() is not None else None
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            module, shape = owners[id(parameter)], parameter.shape
            normal = torch.randn(shape, generator=draws)
            if _is_norm(module) and path.endswith("weight"):
                centre = 0.0 if type(module).__name__ in ONE_PLUS_WEIGHT else 1.0
                value = centre + 0.5 * (2 * torch.rand(shape, generator=draws) - 1)
            elif isinstance(module, nn.Embedding):
                value = 0.3 * normal
                if unembedding is not parameter and "Scaled" in type(module).__name__:
                    value /= shape[-1] ** 0.5
            elif parameter is unembedding:
                value = 2.0 * normal / shape[-1] ** 0.5
            elif path.endswith(ROUTERS):
                value = 3.0 * normal / shape[-1] ** 0.5
            elif parameter.dim() == 1 or path.endswith("bias"):
                value = 0.25 * normal
            else:
                value = normal / _fan_in(module, parameter) ** 0.5
            parameter.copy_(value)
    return model


# --------------------------------------------------------------------------------------------- configurations

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
NO_DROPOUT = {
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
}  # live in train mode only: eval must be kept
GPT = {
    "vocab_size": VOCAB,
    "n_positions": POSITIONS,
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    **TOKENS,
}
WIDE = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    **TOKENS,
}
LLAMA = {**WIDE, "intermediate_size": HIDDEN, "num_key_value_heads": KV_HEADS}
NARROW_HEADS = {"head_dim": 6}  # 4 heads of 6 are 24 wide, not 40
FALCON = {**WIDE, "ffn_hidden_size": HIDDEN, "bias": True}


def _rope(**extra: float) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, **extra}}


def _experts(**extra: object) -> dict:
    return {**LLAMA, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 28, **extra}


CONFIGS: dict[str, tuple[type, Callable[[], hf.PretrainedConfig]]] = {
    "gpt2": (hf.GPT2LMHeadModel, lambda: hf.GPT2Config(**GPT, **NO_DROPOUT)),
    "gpt2_wide": (
        hf.GPT2LMHeadModel,
        lambda: hf.GPT2Config(
            **GPT,
            n_inner=HIDDEN,
            tie_word_embeddings=False,
            scale_attn_by_inverse_layer_idx=True,
            activation_function="relu",
        ),
    ),
    "gpt_neo": (
        hf.GPTNeoForCausalLM,
        lambda: hf.GPTNeoConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            intermediate_size=HIDDEN,
            max_position_embeddings=POSITIONS,
            window_size=WINDOW,
            attention_types=[[["global", "local", "local"], 1]],
            **TOKENS,
        ),
    ),
    "gpt_neox_parallel": (
        hf.GPTNeoXForCausalLM,
        lambda: hf.GPTNeoXConfig(
            **WIDE, intermediate_size=HIDDEN, use_parallel_residual=True, **_rope(partial_rotary_factor=0.4)
        ),
    ),
    "gpt_neox_sequential": (
        hf.GPTNeoXForCausalLM,
        lambda: hf.GPTNeoXConfig(
            **WIDE, intermediate_size=HIDDEN, use_parallel_residual=False, **_rope(partial_rotary_factor=1.0)
        ),
    ),
    "gptj": (hf.GPTJForCausalLM, lambda: hf.GPTJConfig(**GPT, n_inner=HIDDEN, rotary_dim=4)),
    "codegen": (
        hf.CodeGenForCausalLM,
        lambda: hf.CodeGenConfig(**GPT, n_ctx=POSITIONS, n_inner=HIDDEN, rotary_dim=4),
    ),
    "opt": (hf.OPTForCausalLM, lambda: hf.OPTConfig(**WIDE, ffn_dim=HIDDEN, word_embed_proj_dim=WIDTH)),
    "bloom": (
        hf.BloomForCausalLM,
        lambda: hf.BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS, **TOKENS),
    ),
    "llama": (hf.LlamaForCausalLM, lambda: hf.LlamaConfig(**LLAMA, **_rope())),
    "llama_bias": (
        hf.LlamaForCausalLM,
        lambda: hf.LlamaConfig(
            **LLAMA, **NARROW_HEADS, **_rope(), attention_bias=True, mlp_bias=True, tie_word_embeddings=True
        ),
    ),
    "mistral": (
        hf.MistralForCausalLM,
        lambda: hf.MistralConfig(**LLAMA, **NARROW_HEADS, **_rope(), sliding_window=WINDOW),
    ),
    "qwen2": (
        hf.Qwen2ForCausalLM,
        lambda: hf.Qwen2Config(**LLAMA, **_rope(), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    ),
    "qwen3": (
        hf.Qwen3ForCausalLM,
        lambda: hf.Qwen3Config(**LLAMA, **NARROW_HEADS, **_rope(), attention_bias=True),
    ),
    "phi": (
        hf.PhiForCausalLM,
        lambda: hf.PhiConfig(**LLAMA, **_rope(partial_rotary_factor=0.4), qk_layernorm=True),
    ),
    "phi3": (hf.Phi3ForCausalLM, lambda: hf.Phi3Config(**LLAMA, **_rope(), sliding_window=WINDOW)),
    "stablelm": (
        hf.StableLmForCausalLM,
        lambda: hf.StableLmConfig(**LLAMA, **_rope(partial_rotary_factor=0.4), use_qkv_bias=True, qk_layernorm=True),
    ),
    "stablelm_parallel": (
        hf.StableLmForCausalLM,
        lambda: hf.StableLmConfig(
            **LLAMA, **_rope(partial_rotary_factor=0.4), use_qkv_bias=True, use_parallel_residual=True
        ),
    ),
    "falcon_7b": (
        hf.FalconForCausalLM,
        lambda: hf.FalconConfig(**FALCON, multi_query=True, parallel_attn=True),
    ),
    "falcon_40b": (
        hf.FalconForCausalLM,
        lambda: hf.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=KV_HEADS),
    ),
    "falcon_11b": (
        hf.FalconForCausalLM,
        lambda: hf.FalconConfig(
            **FALCON, new_decoder_architecture=True, num_kv_heads=KV_HEADS, num_ln_in_parallel_attn=1
        ),
    ),
    "falcon_rw": (
        hf.FalconForCausalLM,
        lambda: hf.FalconConfig(
            **FALCON, alibi=True, multi_query=False, parallel_attn=False, tie_word_embeddings=False
        ),
    ),
    "olmo": (hf.OlmoForCausalLM, lambda: hf.OlmoConfig(**LLAMA, **_rope())),
    "olmo_clip": (
        hf.OlmoForCausalLM,
        lambda: hf.OlmoConfig(**LLAMA, **_rope(), clip_qkv=0.9, attention_bias=True),
    ),
    "olmo2": (hf.Olmo2ForCausalLM, lambda: hf.Olmo2Config(**LLAMA, **_rope(), attention_bias=True)),
    "gemma": (hf.GemmaForCausalLM, lambda: hf.GemmaConfig(**LLAMA, **NARROW_HEADS, **_rope())),
    "gemma2": (
        hf.Gemma2ForCausalLM,
        lambda: hf.Gemma2Config(
            **LLAMA,
            **NARROW_HEADS,
            **_rope(),
            query_pre_attn_scalar=5,
            sliding_window=WINDOW,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=6.0,
        ),
    ),
    "gemma3": (
        hf.Gemma3ForCausalLM,
        lambda: hf.Gemma3TextConfig(
            **LLAMA,
            **NARROW_HEADS,
            query_pre_attn_scalar=5,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            attention_bias=True,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0},
            },
        ),
    ),
    "granite": (
        hf.GraniteForCausalLM,
        lambda: hf.GraniteConfig(
            **LLAMA,
            **_rope(),
            embedding_multiplier=1.7,
            residual_multiplier=0.45,
            attention_multiplier=0.5,
            logits_scaling=0.6,
            attention_bias=True,
        ),
    ),
    "cohere": (
        hf.CohereForCausalLM,
        lambda: hf.CohereConfig(**LLAMA, **_rope(), logit_scale=1.6, use_qk_norm=True, attention_bias=True),
    ),
    "mixtral": (
        hf.MixtralForCausalLM,
        lambda: hf.MixtralConfig(**LLAMA, **_rope(), num_local_experts=5, num_experts_per_tok=2, sliding_window=None),
    ),
    "qwen2_moe": (
        hf.Qwen2MoeForCausalLM,
        lambda: hf.Qwen2MoeConfig(
            **_experts(shared_expert_intermediate_size=22), **_rope(), mlp_only_layers=[1], qkv_bias=True
        ),
    ),
    "qwen3_moe": (
        hf.Qwen3MoeForCausalLM,
        lambda: hf.Qwen3MoeConfig(**_experts(head_dim=6), **_rope(), decoder_sparse_step=2, norm_topk_prob=True),
    ),
    "starcoder2": (
        hf.Starcoder2ForCausalLM,
        lambda: hf.Starcoder2Config(**LLAMA, **_rope(), sliding_window=WINDOW),
    ),
}

REFUSED_CONFIGS: dict[str, tuple[type, Callable[[], hf.PretrainedConfig]]] = {
    "opt_post_norm": (
        hf.OPTForCausalLM,
        lambda: hf.OPTConfig(**WIDE, ffn_dim=HIDDEN, word_embed_proj_dim=24, do_layer_norm_before=False),
    ),
    "opt_no_final_norm": (
        hf.OPTForCausalLM,
        lambda: hf.OPTConfig(**WIDE, ffn_dim=HIDDEN, word_embed_proj_dim=WIDTH, _remove_final_layer_norm=True),
    ),
    "bloom_post_norm": (
        hf.BloomForCausalLM,
        lambda: hf.BloomConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            apply_residual_connection_post_layernorm=True,
            **TOKENS,
        ),
    ),
}

REFUSAL: dict[str, str] = {
    "opt_post_norm": "each block normalises the residual stream itself: it is not a sum of writes",
    "opt_no_final_norm": "there is no final norm to take a scale from",
    "bloom_post_norm": "the residual path carries the normalised stream: it is not a sum of writes",
}


MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe")


def build(name: str, attention: str | None = None, experts: str = "eager") -> PreTrainedModel:
    """A fresh model of the family, in eval mode, float32.

    `attention` asks for "eager" or "sdpa" instead of the library's choice. `experts` is "eager" because the
    library's own choice, "grouped_mm", refuses float64.
    """
    model_class, config = {**CONFIGS, **REFUSED_CONFIGS}[name]
    wanted = {} if attention is None else {"attn_implementation": attention}
    if name in MIXTURES:
        wanted["experts_implementation"] = experts
    model = model_class._from_config(config(), dtype=torch.float32, **wanted)
    return randomise(model, name).eval()


def _builder(name: str) -> Callable[[], PreTrainedModel]:
    return lambda: build(name)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {name: _builder(name) for name in CONFIGS}
REFUSED: dict[str, Callable[[], PreTrainedModel]] = {name: _builder(name) for name in REFUSED_CONFIGS}


def tokens(batch: int = 2, length: int = LENGTH, seed: int = 0) -> torch.Tensor:
    """Random token ids [batch, length], without the special ids 0, 1, 2."""
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))
