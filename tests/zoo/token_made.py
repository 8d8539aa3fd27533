"""Llamas whose blocks are handed something that is made of the token ids, or of what other blocks did.

Those of the first kind are measured with arguments made for the very text; those of the second by letting the trunk run
all blocks, or refused.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import DynamicCache, LlamaModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP

from zoo import families

PAD = families.TOKENS["pad_token_id"]


class Layer(LlamaDecoderLayer):
    """A block that hands its MLP what it is given of the tokens."""

    def forward(self, hidden_states, beside=None, **kwargs):
        written, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + written
        normed = self.post_attention_layernorm(hidden_states)
        return hidden_states + (self.mlp(normed) if beside is None else self.mlp(normed, beside))


class Trunk(LlamaModel):
    """A Llama's trunk in pieces that the variants replace."""

    def forward(self, input_ids=None, use_cache=None, **_):
        hidden = self.embed_tokens(input_ids)
        positions = self.positions(input_ids)
        given = {
            "attention_mask": create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=self.mask(input_ids),
                past_key_values=None,
                position_ids=torch.arange(hidden.shape[1])[None],
            ),
            "position_embeddings": self.rotary_emb(hidden, position_ids=positions),
            **self.state(),
        }
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, beside=self.beside(number, input_ids, hidden), **given)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))

    def positions(self, ids):
        return torch.arange(ids.shape[1])[None]

    def mask(self, ids):
        return None

    def state(self):
        return {}

    def beside(self, number, ids, hidden):
        return None


class MadeOfIds(Trunk):
    def beside(self, number, ids, hidden):
        return ids


class PerLayerEmbeddings(Trunk):
    def beside(self, number, ids, hidden):
        return self.embed_tokens(ids).roll(number + 1, -1)


class MaskOfPadding(Trunk):
    def mask(self, ids):
        return (ids != PAD).long()


class PositionsOfText(Trunk):
    """Padding takes no position."""

    def positions(self, ids):
        return (ids != PAD).cumsum(1)


class WithCache(Trunk):
    """Blocks write keys and values into a cache, though nothing is to be generated."""

    def state(self):
        return {"past_key_values": DynamicCache(config=self.config)}


class Masked(nn.Module):
    """Experts chosen by token id, each of them applied to all tokens."""

    def __init__(self, config):
        super().__init__()
        self.experts = nn.ModuleList([LlamaMLP(config) for _ in range(3)])

    def forward(self, x, ids):
        chosen = [(ids % 3 == place).unsqueeze(-1).to(x.dtype) for place in range(3)]
        return sum(expert(x) * one for expert, one in zip(self.experts, chosen, strict=True))


class Indexed(Masked):
    """The same, each applied to its own tokens."""

    def forward(self, x, ids):
        found = torch.zeros_like(x)
        for place, expert in enumerate(self.experts):
            found[ids % 3 == place] = expert(x[ids % 3 == place])
        return found


class Routed(Masked):
    """A router that reads the stream and the token: a discrete step, beside something that does not move."""

    def forward(self, x, ids):
        score = x[..., :3] + 4.0 * nn.functional.one_hot(ids % 3, 3)
        chosen = nn.functional.one_hot(score.argmax(-1), 3).to(x.dtype)
        return sum(expert(x) * chosen[..., place, None] for place, expert in enumerate(self.experts))


class Gated(LlamaMLP):
    def forward(self, x, embedding):
        return super().forward(x) * torch.sigmoid(3 * embedding)


class Remembered(LlamaMLP):
    """Reads what the trunk has left there of the text."""

    def forward(self, x):
        return super().forward(x) * self.factor


class LeavesFactor(Trunk):
    def beside(self, number, ids, hidden):
        self.layers[number].mlp.factor = 1 + (ids[:, :1] % 5).unsqueeze(-1).to(hidden.dtype)


class ReadsStream(Trunk):
    """Hands blocks something made of the stream: what entered them at the position before."""

    def beside(self, number, ids, hidden):
        return torch.cat([hidden[:, :1], hidden[:, :-1]], 1)


class Shared(Trunk):
    def state(self):
        return {"shared": {}}


class SharingLayer(Layer):
    """The second block reads what the first has left for it."""

    def forward(self, hidden_states, shared=None, **kwargs):
        if self.self_attn.layer_idx == 0:
            shared["embedding"] = hidden_states
        if self.self_attn.layer_idx == 2:
            kwargs["beside"] = shared["embedding"]
        return super().forward(hidden_states, **kwargs)


class GatedWhereGiven(LlamaMLP):
    def forward(self, x, embedding=None):
        return super().forward(x) * (1 if embedding is None else torch.sigmoid(3 * embedding))


class Wearing(Layer):
    """Changes what the blocks above are given too."""

    def forward(self, hidden_states, position_embeddings=None, **kwargs):
        found = super().forward(hidden_states, position_embeddings=position_embeddings, **kwargs)
        for table in position_embeddings:
            table.mul_(0.8)
        return found


MEASURED: dict[str, tuple[type, type, type]] = {
    "experts by token id": (MadeOfIds, Layer, Masked),
    "experts by token id, indexed": (MadeOfIds, Layer, Indexed),
    "router of stream and token id": (MadeOfIds, Layer, Routed),
    "per-layer embeddings": (PerLayerEmbeddings, Layer, Gated),
    "mask of padding": (MaskOfPadding, Layer, LlamaMLP),
    "positions of text": (PositionsOfText, Layer, LlamaMLP),
}
BY_TRUNK: dict[str, tuple[type, type, type]] = {
    "something left in modules": (LeavesFactor, Layer, Remembered),
    "arguments made of the stream": (ReadsStream, Layer, Gated),
    "what another block left": (Shared, SharingLayer, GatedWhereGiven),
    "arguments that blocks change": (Trunk, Wearing, LlamaMLP),
}
REFUSED: dict[str, tuple[type, type, type]] = {
    "cache that blocks fill": (WithCache, Layer, LlamaMLP),
}


def build(trunk: type, layer: type, mlp: type):
    """A Llama of these parts with random weights, float64."""
    network = families.build("llama")
    network.model.__class__ = trunk
    for block in network.model.layers:
        block.__class__ = layer
        block.mlp = mlp(network.config)
    return families.randomise(network, mlp.__name__).double().eval()
