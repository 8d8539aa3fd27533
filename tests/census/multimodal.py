"""What small models of classes that read images too need beyond generic sizes."""

from __future__ import annotations

from typing import Any

from census.families import Fields

_ROPE: Fields = {"text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1]}}}
"""Sections of rotary positions (time, height, width); their sizes are made to fit heads afterwards."""

MULTIMODAL_NEEDS: dict[str, Fields] = {
    **dict.fromkeys(
        "qwen2_vl qwen2_5_vl qwen2_5_omni_thinker glm4v glm4v_moe glm46v glm_ocr paddleocr_vl ernie4_5_vl_moe".split(),
        _ROPE,
    ),
    "chameleon": {"vocabulary_map": {"<image>": 19}},
    "emu3": {"vocabulary_map": {"<image>": 19}},
    "mistral4": {"text_config": {"num_key_value_heads": 4}},
    "mistral_large4": {"text_config": {"num_key_value_heads": 4}},
    "glm5_next": {"text_config": {"num_key_value_heads": 4}},
    "step3p7": {"text_config": {"sliding_window": 4}},
    "mllama": {"text_config": {"cross_attention_layers": [1]}},
}
