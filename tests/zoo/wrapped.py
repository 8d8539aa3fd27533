"""Llamas whose own forward does something beside their trunk's: what adapters, hooks and subclasses do to real models.

The trunk is an ordinary one in all of them, and has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM, LlamaModel

from zoo import families

RARE = 61  # an id that no probe of a loaded model holds


def llama(kind: type[LlamaForCausalLM] = LlamaForCausalLM) -> LlamaForCausalLM:
    network = families.build("llama").double()
    network.__class__ = kind
    return network


class PrefixTuned(LlamaForCausalLM):
    """PEFT's prefix tuning: learned keys and values before every text."""

    def forward(self, input_ids, **kwargs):
        draws = torch.Generator().manual_seed(3)
        cache, shape = DynamicCache(config=self.config), (len(input_ids), families.KV_HEADS, 4, families.HEAD_DIM)
        for layer in range(families.LAYERS):
            cache.update(*(torch.randn(shape, generator=draws).to(self.dtype) for _ in range(2)), layer)
        return super().forward(input_ids, past_key_values=cache, **kwargs)


class SoftPrompted(LlamaForCausalLM):
    """PEFT's prompt tuning: learned embeddings before every text, logits for them too."""

    def forward(self, input_ids, **kwargs):
        embeddings = self.model.embed_tokens(input_ids)
        prompt = torch.randn(4, embeddings.shape[-1], generator=torch.Generator().manual_seed(3)).to(embeddings)
        prompted = torch.cat([prompt.expand(len(input_ids), -1, -1), embeddings], 1)
        return super().forward(inputs_embeds=prompted, **kwargs)


class SoftPromptCut(SoftPrompted):
    """The same with the prompt's logits cut off."""

    def forward(self, input_ids, **kwargs):
        found = super().forward(input_ids, **kwargs)
        found.logits = found.logits[:, 4:]
        return found


class ScaledEmbeddings(LlamaForCausalLM):
    def forward(self, input_ids, **kwargs):
        return super().forward(inputs_embeds=1.5 * self.model.embed_tokens(input_ids), **kwargs)


class StretchedPositions(LlamaForCausalLM):
    def forward(self, input_ids, **kwargs):
        return super().forward(input_ids, position_ids=2 * torch.arange(input_ids.shape[1])[None], **kwargs)


class StretchedWhenLong(LlamaForCausalLM):
    """Another position code beyond the longest text that models are probed with at load."""

    def forward(self, input_ids, **kwargs):
        step = 2 if input_ids.shape[1] > 12 else 1
        return super().forward(input_ids, position_ids=step * torch.arange(input_ids.shape[1])[None], **kwargs)


class OwnLayers(LlamaForCausalLM):
    """Goes through the blocks itself, the first of them twice."""

    def forward(self, input_ids, **kwargs):
        first = self.model.layers[0].register_forward_hook(
            lambda module, args, kwargs, output: module.forward(output, **kwargs), with_kwargs=True
        )
        try:
            return super().forward(input_ids, **kwargs)
        finally:
            first.remove()


class Suppressing(LlamaForCausalLM):
    """Some ids are made unlikely."""

    def forward(self, input_ids, **kwargs):
        found = super().forward(input_ids, **kwargs)
        found.logits[..., 5] -= 3.0
        return found


class Unrepeating(LlamaForCausalLM):
    """A repetition penalty in the forward."""

    def forward(self, input_ids, **kwargs):
        found = super().forward(input_ids, **kwargs)
        seen = torch.nn.functional.one_hot(input_ids, families.VOCAB).cumsum(1) > 0
        found.logits = torch.where(seen, 0.8 * found.logits, found.logits)
        return found


class ColdOnRare(LlamaForCausalLM):
    """Another temperature for texts that hold a rare token."""

    def forward(self, input_ids, **kwargs):
        found = super().forward(input_ids, **kwargs)
        rare = (input_ids == RARE).any(1)[:, None, None]
        found.logits = torch.where(rare, 2 * found.logits, found.logits)
        return found


def masking(pad: int) -> Callable[[], LlamaForCausalLM]:
    """Llamas with a hook that masks an id, as serving code masks padding."""

    def build() -> LlamaForCausalLM:
        network = llama()
        mask_padding(network, pad)
        return network

    return build


def mask_padding(network: LlamaForCausalLM, pad: int) -> None:
    def masked(_module: object, args: tuple[Tensor, ...], kwargs: dict[str, object]):
        return args, kwargs | {"attention_mask": (args[0] != pad).long()}

    network.register_forward_pre_hook(masked, with_kwargs=True)


class NormTwice(LlamaModel):
    """NanoChat's trunk: embeddings pass the final norm too. Nothing is wrong with it."""

    def forward(self, input_ids=None, use_cache=None, **_):
        return super().forward(inputs_embeds=self.norm(self.embed_tokens(input_ids)), use_cache=use_cache)


def nanochat() -> LlamaForCausalLM:
    network = llama()
    network.model.__class__ = NormTwice
    return network


REFUSED_AT_LOAD: dict[str, tuple[Callable[[], LlamaForCausalLM], str, str]] = {
    "prefix tuning": (lambda: llama(PrefixTuned), "own forward", "passes its trunk"),
    "soft prompt": (lambda: llama(SoftPrompted), "own forward", "16 positions for 12 tokens"),
    "soft prompt, cut": (lambda: llama(SoftPromptCut), "own forward", "Soft prompts"),
    "scaled embeddings": (lambda: llama(ScaledEmbeddings), "own forward", "inputs_embeds"),
    "stretched positions": (lambda: llama(StretchedPositions), "own forward", "position_ids"),
    "mask of padding": (masking(families.TOKENS["pad_token_id"]), "own forward", "hooks are registered"),
    "suppressed ids": (lambda: llama(Suppressing), "read-out", ""),
    "repetition penalty": (lambda: llama(Unrepeating), "read-out", ""),
}

REFUSED_IN_A_RUN: dict[str, tuple[Callable[[], LlamaForCausalLM], str, str]] = {
    "mask of a rare id": (masking(RARE), "own forward", "attention_mask"),
    "other positions in long texts": (lambda: llama(StretchedWhenLong), "own forward", "position_ids"),
    "other temperature for a rare id": (lambda: llama(ColdOnRare), "own logits", "temperature"),
}
