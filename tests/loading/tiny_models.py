"""Tiny random models as users have them: Hugging Face folders with a tokenizer, and GGUF files."""

import os
import string
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from loading import gguf_blocks
from zoo import families

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
VOCABULARY = (*SPECIAL, *string.printable[: families.VOCAB - len(SPECIAL)])


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, `<s>` in front, as many tokens as the zoo's models know."""
    known = {token: number for number, token in enumerate(VOCABULARY)}
    assert len(known) == families.VOCAB
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def save(name: str, folder: Path) -> Path:
    """A model of the zoo, as `save_pretrained` writes it."""
    return save_network(families.build(name), folder)


def save_network(network: PreTrainedModel, folder: Path) -> Path:
    """Any model that knows the tokenizer's tokens."""
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_gguf(model: PreTrainedModel, path: Path, kind: str = "F32") -> Path:
    """A Llama without biases as a GGUF file, as llama.cpp's converter lays it out.

    Args:
        model: the Llama. With another kind than F32 its blocks' matrices become what those in the file stand for.
        path: of the file.
        kind: of numbers that the matrices of blocks are stored as.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token.replace(" ", "Ġ").replace("\n", "Ċ") for token in VOCABULARY[:-1]] + ["ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, value in model.state_dict().items():
        if kind == "F32" or value.ndim < 2 or ".layers." not in name:
            writer.add_tensor(*_gguf_tensor(name, value, config))
            continue
        blocks, dense = gguf_blocks.blocks_of(kind, *value.shape)
        short, _ = _gguf_tensor(name, value, config)
        value.copy_(_in_halves(short, torch.from_numpy(dense), config))
        writer.add_tensor(short, blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
}


def _gguf_tensor(name: str, value: torch.Tensor, config) -> tuple[str, np.ndarray]:
    for long, short in _PARTS.items():
        name = name.replace(long, short)
    heads = _rotated(name, config)
    if heads:  # llama.cpp pairs neighbouring rows where Hugging Face pairs halves
        value = value.reshape(heads, 2, -1, value.shape[-1]).transpose(1, 2).reshape(value.shape)
    return name, np.ascontiguousarray(value.numpy())


def _in_halves(name: str, value: torch.Tensor, config) -> torch.Tensor:
    """A matrix of a GGUF file as Hugging Face has it."""
    heads = _rotated(name, config)
    return value.reshape(heads, -1, 2, value.shape[-1]).transpose(1, 2).reshape(value.shape) if heads else value


def _rotated(name: str, config) -> int:
    """Heads of a matrix of queries or keys; 0 for others."""
    rotated = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return next((heads for part, heads in rotated.items() if part in name), 0)
