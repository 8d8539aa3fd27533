"""What families need beyond generic small sizes, and layouts beyond a family's default."""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]

_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_FULL = ["full_attention"] * 3
_HYBRID = ["linear_attention", "full_attention", "linear_attention"]
_FOUR = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_CONVOLUTIONS = ["conv", "full_attention", "conv"]
_GEMMA4: Fields = {
    "layer_types": _FOUR,
    "num_hidden_layers": 4,
    "global_head_dim": 16,
    "final_logit_softcapping": 6.0,
}
_GEMMA2: Fields = {"query_pre_attn_scalar": 7, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 6.0}
_GRANITE: Fields = {
    "embedding_multiplier": 1.7,
    "residual_multiplier": 0.45,
    "attention_multiplier": 0.5,
    "logits_scaling": 0.6,
}
_ZAMBA: Fields = {
    "num_hidden_layers": 4,
    "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    "num_key_value_heads": 4,
}


def _shared(names: str, fields: Fields) -> dict[str, Fields]:
    return dict.fromkeys(names.split(), fields)


_GROUPS: list[dict[str, Fields]] = [
    _shared(
        "afmoe cohere2 cohere2_moe exaone4 exaone_moe gemma3_text kolibri1 olmo3 ministral mimo_v2_flash beam cwm "
        "granite_swa granitemoe_swa modernbert-decoder",
        {"layer_types": _MIXED},
    ),
    _shared(
        "qwen3_next qwen3_5_text qwen3_5_moe_text qwen4_exp_text kimi_linear bailing_hybrid granitemoehybrid minimax "
        "olmo_hybrid",
        {"layer_types": _HYBRID},
    ),
    _shared("lfm2 lfm2_moe lfm3", {"layer_types": _CONVOLUTIONS}),
    _shared("gemma2 vaultgemma", _GEMMA2),
    _shared("gemma4_text gemma4_unified_text", _GEMMA4),
    _shared("granite granitemoe granitemoeshared granitemoehybrid granite_swa granitemoe_swa", _GRANITE),
    _shared(
        "deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa youtu minicpm3 axk1 axk2 hy_v4 kimi_linear "
        "bailing_hybrid dots3_note_text sarvam_mla",
        {"num_key_value_heads": 4},
    ),
    _shared("zamba zamba2", _ZAMBA),
    _shared("gemma4_assistant gemma4_unified_assistant", {"text_config": {"hidden_size_per_layer_input": 0}}),
]

_SINGLE: dict[str, Fields] = {
    "lfm2": {"block_auto_adjust_ff_dim": False},
    "gemma3_text": {"query_pre_attn_scalar": 7},
    "cohere": {"logit_scale": 1.6, "use_qk_norm": True},
    "cohere2": {"logit_scale": 1.6},
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
        "intermediate_size": 28,
        "intermediate_size_mlp": 88,
        "attn_temperature_tuning": True,
        "floor_scale": 3,
    },
    "gemma3n_text": {
        "layer_types": _FOUR,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "altup_num_inputs": 2,
    },
    "gpt_neo": {"attention_types": [[["global", "local", "local"], 1]]},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 3, "attn_layer_offset": 1},
    "zamba": {"attention_hidden_size": 128, "attention_head_dim": 32},
    "zamba2": {"adapter_rank": 4, "n_mamba_heads": 8, "mamba_ngroups": 1, "mamba_d_state": 8},
    "falcon_h1": {
        "mamba_d_ssm": 128,
        "attention_out_multiplier": 0.8,
        "lm_head_multiplier": 0.7,
        "key_multiplier": 0.9,
        "attention_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.9,
    },
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "nemotron_h": {"layers_block_type": ["linear_attention", "full_attention", "mlp", "moe"]},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "longcat_flash": {"num_layers": 2, "zero_expert_num": 2, "head_dim": 8, "num_key_value_heads": 4},
    "deepseek_v4": {
        "o_lora_rank": 12,
        "o_groups": 2,
        "num_key_value_heads": 1,
        "hc_mult": 2,
        "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"],
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
    },
    "deepseek_v2": {"moe_layer_freq": 1},
    "minicpm3": {"dim_model_base": 32, "scale_depth": 1.4, "scale_emb": 3},
    "kimi_linear": {"linear_head_dim": 16, "linear_num_heads": 4},
    "bailing_hybrid": {"head_dim": 16},
    "minimax": {"block_size": 4},
    "qwen4_exp_text": {
        "eos_token_id": 2,
        "hc_lowrank": 8,
        "ngram_vocab_size_base": 64,
        "split_ngram_parts": 2,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "ple_layer_ids": [1],
        "ple_embed_dim": 16,
        "head_dim": 16,
    },
    "recurrent_gemma": {
        "block_types": ["recurrent", "attention", "recurrent"],
        "attention_window_size": 4,
        "logits_soft_cap": 6.0,
    },
    "reformer": {
        "attn_layers": ["local", "lsh", "local"],
        "axial_pos_embds": False,
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
        "attention_head_size": 16,
        "num_hashes": 1,
        "num_buckets": 2,
        "is_decoder": True,
        "local_num_chunks_before": 1,
    },
    "rwkv": {"context_length": 64, "attention_hidden_size": 64},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.9, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 88, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "mpt": {"n_layers": 3, "max_seq_len": 64, "expansion_ratio": 2},
    "roc_bert": {
        "pronunciation_embed_dim": 16,
        "pronunciation_vocab_size": 97,
        "shape_embed_dim": 16,
        "shape_vocab_size": 97,
    },
    "cpmant": {
        "position_bias_num_buckets": 16,
        "position_bias_max_distance": 32,
        "prompt_length": 4,
        "segment_types": 4,
        "prompt_types": 4,
        "dim_head": 16,
    },
    "inkling_text": {"rel_extent": 16},
    "inkling2_text": {"rel_extent": 16, "unpadded_vocab_size": 90},
    "laguna": {"layer_types": _MIXED, "num_attention_heads_per_layer": [4, 4, 4]},
    "doge": {"keep_window_size": 4},
    "xlstm": {"num_heads": 4, "num_blocks": 3, "head_dim": 16},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 4},
    "helium": {"head_dim": 16},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "mllama": {"text_config": {"cross_attention_layers": [1]}},  # layers that read images, skipped without one
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "dots3_note": {
        "vision_config": {"mlp_layer_types": ["dense"] * 3, "adapter_in_dim": 64, "adapter_out_dim": 64},
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64},
    },
}

VARIANTS: dict[str, Fields] = {
    "gemma4_text@31B": {"hidden_size_per_layer_input": 0},
    "gemma4_text@26B-A4B": {
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 28,
    },
    "gemma4_text@E2B": {"num_kv_shared_layers": 2},
    "granitemoehybrid@micro": {"layer_types": _FULL, "num_local_experts": 0, "position_embedding_type": "rope"},
    "granitemoehybrid@experts": {"layer_types": _FULL},
    "qwen3_next@full attention": {"layer_types": _FULL},
    "kimi_linear@full attention": {"layer_types": _FULL},
    "nemotron_h@attention and mlp": {"layers_block_type": ["full_attention", "mlp", "full_attention", "mlp"]},
    "mimo_v2_flash@no sinks": {"add_swa_attention_sink_bias": False, "add_full_attention_sink_bias": False},
    "gemma3_text@EmbeddingGemma": {"use_bidirectional_attention": True},
    "opt@350m": {"word_embed_proj_dim": 24, "do_layer_norm_before": False},
    "deepseek_v2@lite": {"q_lora_rank": None},
    "falcon@40b": {"new_decoder_architecture": True},
    "falcon@rw": {"num_kv_heads": 4, "alibi": True, "multi_query": False, "parallel_attn": False},
    "gpt_bigcode@multi-head": {"multi_query": False},
    "gpt_neox@sequential": {"use_parallel_residual": False},
    "stablelm@parallel": {"use_parallel_residual": True, "use_qkv_bias": True, "qk_layernorm": True},
    "llama@biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
}
"""Published layouts of a class beyond its default: `model_type@name`."""


def needs(family: str) -> Fields:
    """Fields of a family, beyond the sizes that all share."""
    fields: Fields = {}
    for group in (*_GROUPS, _SINGLE):
        fields |= group.get(family, {})
    return fields
