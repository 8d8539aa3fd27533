"""Checks that what engines run, the trunk and an unembedding, is what the model itself computes.

A model may do more than its trunk does: prefix tuning, soft prompts, hooks, a subclass that scales embeddings,
stretches positions or masks padding. Effects of the trunk alone would then be those of another model, and nothing
else in a run would show it. Errors are by position, relative to the largest entry there, so that neither a huge first
position nor a huge bias of some row of the vocabulary hides one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfrepair.errors import RefusedModel
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.taps import Arguments, keeping, on_call, on_input, on_output, removing

STREAM, LOGITS = "own forward", "own logits"
_SMALLEST = 1e-6  # of the largest position's size, to which errors at a position are relative at least
_AT_ONCE = 2**24  # logits compared at a time


class _Reached(Exception):
    """Ends a forward at the final norm."""


@dataclass(frozen=True)
class OwnForward:
    """What the model itself computes.

    Attributes:
        stream: what its final norm reads, [window, position, width].
        logits: before any cap and without the constants of final norm and unembedding, which would swamp small
            deviations (see `model.constants`), [window, position, vocabulary].
    """

    stream: Tensor
    logits: Tensor


def own_forward(model: LanguageModel, tokens: Tensor) -> OwnForward:
    """The model's own full forward of `tokens` [window, position]. Call under `model.running()`.

    Raises:
        RefusedModel: it does not use the final norm, or has other positions.
    """
    seen: dict[str, Tensor] = {}
    with removing(on_input(model.anatomy.final_norm_module, keeping(seen, "stream"))):
        logits = model.logits(tokens, constants=False)
    own = OwnForward(_found(seen), logits)
    if own.stream.shape[:2] != tokens.shape:
        raise refused_stream(model, tokens, torch.inf, 0.0)
    return own


def own_stream(model: LanguageModel, tokens: Tensor) -> Tensor:
    """`own_forward(model, tokens).stream` without the product with the vocabulary, whatever its shape."""
    seen: dict[str, Tensor] = {}
    left: list[bool] = []

    def stop(value: Tensor) -> None:
        seen["stream"] = value.clone()
        if left:  # embeddings may pass the same norm (NanoChat)
            raise _Reached

    anatomy = model.anatomy
    last = on_output(anatomy.blocks[-1].module, lambda _: left.append(True))
    with removing(last, on_input(anatomy.final_norm_module, stop)), suppress(_Reached):
        model.network(tokens, use_cache=False)
    return _found(seen)


def trunk_stream(model: LanguageModel, tokens: Tensor) -> Tensor:
    """What the final norm reads in a forward of the trunk alone, [window, position, width]."""
    seen: dict[str, Tensor] = {}
    with removing(on_input(model.anatomy.final_norm_module, keeping(seen, "stream"))):
        model.run_trunk(tokens)
    return _found(seen)


def stream_errors(stream: Tensor, wanted: Tensor) -> Tensor:
    """Largest deviation at each position, relative to the wanted stream there, [window, position].

    Infinite everywhere where the streams differ in shape, and wherever something is not a number.
    """
    if stream.shape != wanted.shape:
        return stream.new_full(stream.shape[:-1], torch.inf)
    return _relative((stream - wanted).abs().amax(-1), wanted.abs().amax(-1))


def logit_errors(model: LanguageModel, stream: Tensor, logits: Tensor) -> Tensor:
    """How far the model's own logits are from those of a final stream, [window, position].

    Compared for the whole vocabulary up to a constant per position, relative to the largest centred logit there;
    rows that the model masks out are left out.

    Args:
        model: the model.
        stream: what the final norm reads, [window, position, width].
        logits: the model's own for the same texts, as those of `OwnForward`.
    """
    unembedding, norm = model.anatomy.unembedding, model.anatomy.final_norm
    own = torch.split(logits.flatten(0, -2), max(1, _AT_ONCE // logits.shape[-1]))
    if logits.shape[:-1] != stream.shape[:-1] or not len(unembedding.counted):
        return stream.new_full(stream.shape[:-1], torch.inf)
    errors = []
    for rows, at in zip(own, torch.split(stream.flatten(0, -2), len(own[0])), strict=True):
        normed = norm.gain * norm.centre(at) / norm.scale(at).unsqueeze(-1)
        ours = unembedding.multiplier * (normed @ unembedding.weight.T)
        ours, wanted = (
            _centred(values if unembedding.masked is None else values[:, unembedding.counted])
            for values in (ours, rows)
        )
        errors.append(torch.stack([(ours - wanted).abs().amax(-1), wanted.abs().amax(-1)]))
    error, size = torch.cat(errors, -1).reshape(2, *stream.shape[:-1])
    return _relative(error, size)


def require_own_stream(
    model: LanguageModel, tokens: Tensor, final: Tensor, own: Mapping[int, Tensor], real: Tensor, allowed: float
) -> None:
    """Refuses a model whose own forward does not have the final streams that its trunk has.

    Where a window deviates the whole batch goes through the model once more: kernels round otherwise for other
    numbers of windows, and that may move a token to another expert.

    Args:
        model: the model. Call under `model.running()`.
        tokens: a batch of windows, [window, position].
        final: what the final norm read in the trunk's forward of the batch, [window, position, width].
        own: the stream of the model's own forward of a window alone, [position, width], by window.
        real: bool [window, position], tokens that are not padding.
        allowed: largest relative error.

    Raises:
        RefusedModel: with the largest error.
    """
    errors = {window: stream_errors(final[window], stream)[real[window]] for window, stream in own.items()}
    if all(bool((error <= allowed).all()) for error in errors.values()):
        return
    again = stream_errors(own_stream(model, tokens), final)
    again = again[real] if again.shape == real.shape else again
    if not bool((again <= allowed).all()):
        raise refused_stream(model, tokens, float(again.max()), allowed)


def require_own_logits(model: LanguageModel, stream: Tensor, own: OwnForward, real: Tensor, allowed: float) -> None:
    """Refuses a model whose own logits are not those of the final stream.

    Args:
        model: the model.
        stream: final stream of the trunk, [window, position, width].
        own: the model's own forward of the same windows.
        real: bool [window, position], tokens that are not padding.
        allowed: largest relative error.

    Raises:
        RefusedModel: with the largest error.
    """
    errors = logit_errors(model, stream, own.logits)[real]
    if not bool((errors <= allowed).all()):
        raise RefusedModel(
            LOGITS,
            f"the logits of the model's own forward are not those of its final stream: they differ by "
            f"{float(errors.max()):.1e} of their size, {allowed:.0e} is allowed.",
            "Something is done to the logits behind the unembedding (a bias, a temperature, ids that are suppressed): "
            "take the model without it.",
        )


def special_ids(model: LanguageModel) -> list[int]:
    """Token ids that a model may treat specially: padding, begin, end and so on."""
    network = model.network
    embedding = network.get_input_embeddings()
    candidates: list[Any] = [getattr(embedding, "padding_idx", None)]
    for holder in (network.config, network.config.get_text_config(), getattr(network, "generation_config", None)):
        values = vars(holder) if holder is not None else {}
        candidates += [value for name, value in sorted(values.items()) if name.endswith(("token_id", "token_index"))]
    candidates += [0, getattr(model.tokenizer, "all_special_ids", [])]
    ids = [token for value in candidates for token in (value if isinstance(value, list | tuple) else [value])]
    rows = embedding.weight.shape[0]
    return list(dict.fromkeys(token for token in ids if isinstance(token, int) and 0 <= token < rows))


def telling_window(model: LanguageModel, tokens: Tensor) -> int:
    """The window of a batch [window, position] on which a model may do most beside its trunk's forward: the one with
    the most different special tokens, the first of them."""
    counts = torch.stack([(tokens == token).any(1) for token in special_ids(model)]).sum(0)
    return int(counts.argmax())


def refused_stream(model: LanguageModel, tokens: Tensor, error: float, allowed: float) -> RefusedModel:
    """The refusal of a model whose own forward is not its trunk's, with the likely causes."""
    seen = likely_causes(model, tokens)
    much = f"{error:.1e} of their size, {allowed:.0e} is allowed" if math.isfinite(error) else "all of their size"
    return RefusedModel(
        STREAM,
        "what the model itself computes is not what its trunk computes, by which it would be measured: the final "
        f"streams differ by {'; '.join([much, *seen])}.",
        "Prefix tuning, soft prompts, hooks, and classes that change embeddings, positions or masks cannot be "
        "measured: merge adapters into the weights (merge_and_unload), remove hooks, or load the plain model.",
    )


def likely_causes(model: LanguageModel, tokens: Tensor) -> list[str]:
    """What a model's own forward does that a forward of its trunk does not do, as phrases for a message."""
    network, trunk = model.network, model.anatomy.trunk
    calls: list[Arguments] = []
    with removing(on_call(trunk, calls.append)):
        stream = own_stream(model, tokens)
    causes = []
    for module in {network: None, trunk: None}:
        if module._forward_pre_hooks or module._forward_hooks:
            causes.append(f"hooks are registered on {type(module).__name__}")
    tuning: Any = getattr(network, "active_peft_config", None)
    if getattr(tuning, "is_prompt_learning", False):
        causes.append(f"the model is tuned by PEFT's {tuning.peft_type.value}")
    if not calls:
        causes.append(f"{type(network).__name__} does not call its trunk")
    handed = sorted({name for call in calls for name in _handed(call, tokens)})
    if handed:
        causes.append(f"{type(network).__name__} passes its trunk {', '.join(handed)}")
    if stream.shape[:2] != tokens.shape:
        causes.append(f"{stream.shape[1]} positions for {tokens.shape[1]} tokens")
    return causes


def _handed(call: Arguments, tokens: Tensor) -> list[str]:
    """Names of what the trunk gets besides the tokens: tensors, caches, tokens other than the given ones."""
    args, kwargs = call
    named: dict[str, Any] = {f"argument {number}": value for number, value in enumerate(args)} | kwargs
    names = []
    for name, value in named.items():
        if isinstance(value, Tensor) and value.dtype == tokens.dtype and torch.equal(value, tokens):
            continue
        if value is not None and not isinstance(value, bool | int | float | str):
            names.append("other tokens" if name in ("input_ids", "argument 0") else name)
    return names


def _found(seen: dict[str, Tensor]) -> Tensor:
    if "stream" not in seen:
        raise RefusedModel(
            STREAM,
            "the model's own forward does not go through the final norm that was found.",
            "It computes its logits from something else than its trunk: load the plain model.",
        )
    return seen["stream"]


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(-1, keepdim=True)


def _relative(error: Tensor, size: Tensor) -> Tensor:
    least = (_SMALLEST * size.max()).clamp_min(1e-30)
    return (error / torch.maximum(size, least)).nan_to_num(nan=torch.inf)
