"""Architectures that another package verifies on real weights, with their entries of the census."""

from __future__ import annotations

SOURCE = "https://github.com/decoderesearch/interp-engine/tree/2e0a41e73435c3b93caefdbc58c4710fdcb1aa03/validator"
"""Where interp-engine's list is: 'Verified numerically' in its MODELS_STATUS.md, made with transformers 5.16.1."""

VERIFIED: dict[str, tuple[str, ...]] = {
    "BloomForCausalLM": ("bloom",),
    "DeepseekV2ForCausalLM": ("deepseek_v2", "deepseek_v2@lite"),
    "GPT2LMHeadModel": ("gpt2",),
    "GPTBigCodeForCausalLM": ("gpt_bigcode",),
    "GPTNeoXForCausalLM": ("gpt_neox",),
    "Gemma2ForCausalLM": ("gemma2",),
    "Gemma3ForCausalLM": ("gemma3_text",),
    "Gemma3ForConditionalGeneration": ("gemma3",),
    "Gemma4ForConditionalGeneration": ("gemma4", "gemma4_text@26B-A4B", "gemma4_text@31B", "gemma4_text@E2B"),
    "Gemma4UnifiedForConditionalGeneration": ("gemma4_unified",),
    "GptOssForCausalLM": ("gpt_oss",),
    "GraniteForCausalLM": ("granite",),
    "GraniteMoeForCausalLM": ("granitemoe",),
    "Lfm2ForCausalLM": ("lfm2",),
    "Lfm2MoeForCausalLM": ("lfm2_moe",),
    "LlamaForCausalLM": ("llama",),
    "MistralForCausalLM": ("mistral",),
    "NemotronHForCausalLM": ("nemotron_h", "nemotron_h@attention and mlp"),
    "OPTForCausalLM": ("opt",),
    "Olmo2ForCausalLM": ("olmo2",),
    "Olmo3ForCausalLM": ("olmo3",),
    "Phi3ForCausalLM": ("phi3",),
    "PhiForCausalLM": ("phi",),
    "PhiMoEForCausalLM": ("phimoe",),
    "Qwen2ForCausalLM": ("qwen2",),
    "Qwen3ForCausalLM": ("qwen3",),
    "Qwen3MoeForCausalLM": ("qwen3_moe",),
    "Qwen3NextForCausalLM": ("qwen3_next",),
    "Qwen3_5ForConditionalGeneration": ("qwen3_5",),
    "Qwen3_5MoeForConditionalGeneration": ("qwen3_5_moe",),
    "SmolLM3ForCausalLM": ("smollm3",),
    "Starcoder2ForCausalLM": ("starcoder2",),
}
"""Entries by the class that transformers loads."""
