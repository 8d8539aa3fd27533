"""What small models of classes that read images too need beyond generic sizes."""

from __future__ import annotations

from census.families import Fields


def _sections(*sizes: int) -> Fields:
    """Sections of rotary positions: time, height, width. Sizes that do not fit a family's heads are made to."""
    rope: Fields = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(sizes)}
    return {"text_config": {"rope_parameters": rope}}


_AUTOENCODER: Fields = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1}

MULTIMODAL_NEEDS: dict[str, Fields] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_omni_thinker", "glm4v", "glm46v", "glm_ocr"), _sections(1, 1, 1)),
    "glm4v_moe": _sections(2, 1, 1),
    "qwen2_5_vl": _sections(2, 3, 3),
    "ernie4_5_vl_moe": _sections(2, 2, 4),
    "paddleocr_vl": _sections(4, 4, 4),
    "cosmos3_edge": _sections(4, 4, 4),
    "hunyuan_vl": _sections(3, 3, 3, 3),
    "chameleon": {"vocabulary_map": {"<image>": 19}},
    "emu3": {"vocabulary_map": {"<image>": 19}, "vq_config": _AUTOENCODER},
    "janus": {"vq_config": _AUTOENCODER},
    "mistral4": {"num_key_value_heads": 4, "head_dim": 20},
    "mistral_large4": {"text_config": {"num_key_value_heads": 4}},
    "glm5_next": {
        "text_config": {
            "num_key_value_heads": 4,
            "index_topk": 16,
            "index_kpool": 4,
            "qk_rope_head_dim": 0,
            "linear_head_dim": 16,
            "linear_num_heads": 4,
        },
        "vision_config": {"projection_intermediate_size": 88},
    },
    "step3p7": {"text_config": {"sliding_window": 4}},
    "inkling2": {"vision_config": {"text_hidden_size": 64}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [2, 1]}},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "granite4_vision": {"deepstack_layer_map": [[1, 1]], "downsample_rate": "1/2"},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse", "sparse"]}},
    "kosmos-2.5": {"text_config": {"layers": 3, "ffn_dim": 88, "attention_heads": 4}},
    "llama4": {"vision_config": {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}},
}
