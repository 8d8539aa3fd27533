"""Sizes of small configurations, by the names that families give their fields."""

from __future__ import annotations

WIDTH, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, VOCAB, LAYERS, POSITIONS, WINDOW = 64, 4, 2, 24, 88, 97, 3, 64, 4
EXPERTS, CHOSEN, EXPERT_HIDDEN = 4, 2, 28

_NAMES: list[tuple[int, str]] = [
    (VOCAB, "vocab_size text_vocab_size output_vocab_size vocab_size_per_layer_input"),
    (
        WIDTH,
        "hidden_size n_embd d_model embedding_size input_embedding_size output_embedding_size emb_dim dim "
        "word_embed_proj_dim attention_hidden_size cross_attention_hidden_size embed_dim decoder_hidden_size "
        "backbone_hidden_size lru_width out_hidden_size projection_dim vision_hidden_size",
    ),
    (
        HIDDEN,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner ffn_hidden_size dim_ff d_inner "
        "feed_forward_size intermediate_size_mlp dff dense_intermediate_size",
    ),
    (
        EXPERT_HIDDEN,
        "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size "
        "shared_intermediate_size expert_ffn_hidden_size expert_intermediate_size moe_latent_size image_size",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers "
        "num_encoder_layers depth",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
        "num_decoder_attention_heads num_encoder_attention_heads linear_num_value_heads time_step_rank mamba_dt_rank "
        "num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts",
    ),
    (
        KV_HEADS,
        "num_key_value_heads num_kv_heads swa_num_key_value_heads num_global_key_value_heads n_mamba_heads "
        "linear_num_key_heads index_n_heads mamba_expand num_experts_per_tok moe_topk moe_k num_experts_per_token "
        "moe_top_k top_k_experts",
    ),
    (HEAD_DIM, "head_dim swa_head_dim global_head_dim attention_head_dim kv_channels"),
    (
        POSITIONS,
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions "
        "seq_length max_seq_length max_sequence_length",
    ),
    (
        WINDOW,
        "sliding_window attention_chunk_size window_size attention_window_size sliding_window_size local_attention",
    ),
    (
        1,
        "n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace n_group topk_group "
        "num_dense_layers mamba_n_groups mamba_ngroups n_groups",
    ),
    (
        8,
        "qk_rope_head_dim rotary_dim mamba_n_heads mamba_d_state mamba_num_heads ssm_state_size state_size chunk_size "
        "mamba_chunk_size",
    ),
    (
        16,
        "index_head_dim mamba_d_head mamba_head_dim mamba_headdim linear_key_head_dim linear_value_head_dim "
        "num_mel_bins",
    ),
    (20, "q_lora_rank qk_head_dim"),
    (18, "kv_lora_rank"),
    (12, "qk_nope_head_dim"),
    (14, "v_head_dim patch_size"),
    (5, "index_topk"),
    (10, "hidden_size_per_layer_input"),
    (6, "laurel_rank"),
    (32, "codebook_size"),
]
SIZES: dict[str, int] = {name: size for size, names in _NAMES for name in names.split()}

TOKENS: dict[str, int] = {
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "forced_eos_token_id", "sep_token_id"), 2),
    "mask_token_id": 3,
}

PLACEHOLDERS: dict[str, int] = {
    **dict.fromkeys(("image_token_id", "image_token_index", "im_token_id"), 19),
    **dict.fromkeys(("video_token_id", "video_token_index", "audio_token_id"), 53),
}
"""Tokens in place of what is not text; the texts of the census hold some."""

_OPTIONAL = (
    "sliding_window rotary_dim index_topk attention_chunk_size mamba_dt_rank q_lora_rank moe_latent_size "
    "shared_expert_intermediate_size ffn_dim shared_intermediate_size global_head_dim num_global_key_value_heads "
    "num_experts top_k_experts moe_intermediate_size first_k_dense_replace"
)
OPTIONAL = frozenset(_OPTIONAL.split())
"""Fields that stay None where that is the default: the family's usual layout has no such part."""

_SWITCHES = "num_experts num_local_experts first_k_dense_replace num_dense_layers n_shared_experts"
SWITCHES = frozenset(_SWITCHES.split())
"""Fields that stay 0 where that is the default, for the same reason."""
