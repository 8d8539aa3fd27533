"""Hugging Face objects whose heads and neurons are set by hand, in several architectures.

All heads have the same keys (is this a source, the start, the task?) and values (content, source, answer, start), so
that heads may share them (grouped queries). They differ in what they look for, and in what they make of what they find.
Norms are made constant by an epsilon of 1e12 and a gain of 1e6, up to 1e-12; the final one may be left live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from selfrepair.bench.planted.stream_features import WIDTH, Token, embeddings, reading_vector, unembedding

Key = Literal["source", "start", "task"]
Value = Literal["content", "source", "answer", "start"]
KEYS: tuple[Key, ...] = ("source", "start", "task")
VALUES: tuple[Value, ...] = ("content", "source", "answer", "start")

HEADS, HIDDEN, POSITIONS = 8, 2, 32
_EPSILON = 1e12
_THETA = 1e30  # rotary frequencies, that of the first pair of dimensions left out, are as good as zero


class Network:
    """A network in which nothing writes anything yet.

    Attributes:
        module: the Hugging Face object, in float64.
    """

    head_dim: int
    first_key: int = 0

    def __init__(self, module: nn.Module, blocks: nn.ModuleList) -> None:
        self.module: Any = module.double().eval()
        self._blocks: Any = blocks
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            module.get_input_embeddings().weight.copy_(embeddings())  # type: ignore[operator]
            module.get_output_embeddings().weight.copy_(unembedding())  # type: ignore[operator]
            for name, part in module.named_modules():
                if "norm" in type(part).__name__.lower():
                    self._norm(name, part)

    def set_head(self, layer: int, head: int, looks: Mapping[Key, Tensor], makes: Mapping[Value, Tensor]) -> None:
        """A head's query for each key [width], and what it writes for each value that it finds [width]."""
        raise NotImplementedError

    def set_neuron(self, layer: int, neuron: int, reads: Tensor, writes: Tensor) -> None:
        """A ReLU neuron that works at TASK."""
        raise NotImplementedError

    def set_live_final_norm(self) -> None:
        """Lets the final norm divide by the stream's own size."""
        raise NotImplementedError

    def _norm(self, name: str, norm: Any) -> None:
        norm.weight.fill_(_EPSILON**0.5)

    def _queries(self, looks: Mapping[Key, Tensor]) -> dict[int, Tensor]:
        scale = self.head_dim**0.5  # attention divides by it
        return {self.first_key + KEYS.index(key): scale * query for key, query in looks.items()}


class Gpt2(Network):
    """GPT-2: LayerNorms, heads of their own keys."""

    head_dim = WIDTH // HEADS

    def __init__(self, layers: int) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=len(Token),
            n_positions=POSITIONS,
            n_embd=WIDTH,
            n_layer=layers,
            n_head=HEADS,
            n_inner=HIDDEN,
            activation_function="relu",
            layer_norm_epsilon=_EPSILON,
            tie_word_embeddings=False,
            bos_token_id=int(Token.BOS),
            eos_token_id=int(Token.UNRELATED),
        )
        module = GPT2LMHeadModel(config)
        super().__init__(module, module.transformer.h)

    def set_head(self, layer: int, head: int, looks: Mapping[Key, Tensor], makes: Mapping[Value, Tensor]) -> None:
        """See `Network`."""
        attention, start = self._blocks[layer].attn, head * self.head_dim
        with torch.no_grad():
            for place, query in self._queries(looks).items():
                attention.c_attn.weight[:, start + place] = query
            for place, key in enumerate(KEYS):
                attention.c_attn.weight[:, WIDTH + start + place] = reading_vector(**{key: 1})
            for place, value in enumerate(VALUES):
                attention.c_attn.weight[:, 2 * WIDTH + start + place] = reading_vector(**{value: 1})
                if value in makes:
                    attention.c_proj.weight[start + place] = makes[value]

    def set_neuron(self, layer: int, neuron: int, reads: Tensor, writes: Tensor) -> None:
        """See `Network`."""
        mlp = self._blocks[layer].mlp
        with torch.no_grad():
            mlp.c_fc.weight[:, neuron] = reads
            mlp.c_proj.weight[neuron] = writes

    def set_live_final_norm(self) -> None:
        """See `Network`."""
        norm = self.module.transformer.ln_f
        norm.eps = 1e-5
        with torch.no_grad():
            norm.weight.fill_(1.0)


class Llama(Network):
    """Llama: RMSNorms, rotary positions, gated MLPs, and two heads to each pair of keys and values."""

    head_dim, first_key = 8, 1
    groups = HEADS // 2

    def __init__(self, layers: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        module = LlamaForCausalLM(LlamaConfig(**self._config(layers)))
        super().__init__(module, module.model.layers)

    def _config(self, layers: int) -> dict[str, Any]:
        return {
            "vocab_size": len(Token),
            "hidden_size": WIDTH,
            "intermediate_size": HIDDEN,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": self.groups,
            "head_dim": self.head_dim,
            "max_position_embeddings": POSITIONS,
            "hidden_act": "relu",
            "rms_norm_eps": _EPSILON,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": _THETA},
            "bos_token_id": int(Token.BOS),
            "eos_token_id": int(Token.UNRELATED),
            "pad_token_id": None,
        }

    def set_head(self, layer: int, head: int, looks: Mapping[Key, Tensor], makes: Mapping[Value, Tensor]) -> None:
        """See `Network`."""
        attention, start = self._blocks[layer].self_attn, head * self.head_dim
        group = head * self.groups // HEADS * self.head_dim
        with torch.no_grad():
            for place, query in self._queries(looks).items():
                attention.q_proj.weight[start + place] = query
            for place, key in enumerate(KEYS):
                attention.k_proj.weight[group + self.first_key + place] = reading_vector(**{key: 1})
            for place, value in enumerate(VALUES):
                attention.v_proj.weight[group + place] = reading_vector(**{value: 1})
                if value in makes:
                    attention.o_proj.weight[:, start + place] = makes[value]

    def set_neuron(self, layer: int, neuron: int, reads: Tensor, writes: Tensor) -> None:
        """See `Network`."""
        mlp = self._blocks[layer].mlp
        with torch.no_grad():
            mlp.gate_proj.weight[neuron] = reads
            mlp.up_proj.weight[neuron] = reading_vector(task=1)
            mlp.down_proj.weight[:, neuron] = writes

    def set_live_final_norm(self) -> None:
        """See `Network`."""
        norm = self.module.model.norm
        norm.variance_epsilon = 1e-5
        with torch.no_grad():
            norm.weight.fill_(1.0)


class Olmo2(Llama):
    """OLMo 2: norms behind attention and MLP, and of queries and keys; heads of their own keys."""

    groups = HEADS

    def __init__(self, layers: int) -> None:
        from transformers import Olmo2Config, Olmo2ForCausalLM

        module = Olmo2ForCausalLM(Olmo2Config(**self._config(layers)))
        Network.__init__(self, module, module.model.layers)


NETWORKS: dict[str, Callable[[int], Network]] = {"gpt2": Gpt2, "llama": Llama, "olmo2": Olmo2}
