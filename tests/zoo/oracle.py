"""The oracle: plain Hugging Face forwards with hooks, float64, slow and obvious.

Definitions: u_t is the unembedding direction of target t, centred over the vocabulary, with the final
norm's gain and the logit multiplier folded in (and centred over the width for LayerNorm); sigma is the
final norm's scale; a head's write is (z - constant) @ W_O, as it is added to the residual stream. Primes
mark the ablated run.

    TE = l' - l        DE = u . write / sigma        SR = TE - (DE' - DE) = heads + MLPs + post-norms + norm
    norm = (1 - sigma' / sigma) (l' - beta)

The logits come from the model's own output; the lines come from hooks; so the sum is a real check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from .anatomy import Anatomy, value_constants


class _StayInFloat64(TorchFunctionMode):
    """Turns requests for float32 into float64; if strict, objects to float32 tensors that still appear."""

    def __init__(self, strict: bool):
        super().__init__()
        self.strict = strict

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        out = func(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})
        if self.strict and isinstance(out, Tensor) and out.dtype is torch.float32:
            raise AssertionError(f"{getattr(func, '__name__', func)} made a float32 tensor")
        return out


@contextmanager
def in_float64(strict: bool = True) -> Iterator[None]:
    """Everything inside computes in float64, also where Hugging Face code asks for float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), _StayInFloat64(strict):
            yield
    finally:
        torch.set_default_dtype(before)


def _in_double(model: PreTrainedModel) -> None:
    if next(model.parameters()).dtype is not torch.float64:
        raise TypeError("the oracle works in float64: give it model.double()")


def plain_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Logits of a plain forward in float64 [batch, position, vocabulary], as the model gives them."""
    _in_double(model)
    with in_float64():
        return model(tokens, use_cache=False).logits


def ablate_with_hook(
    model: PreTrainedModel, tokens: Tensor, o_proj: nn.Module, head: int, head_dim: int, replacement: Tensor
) -> Tensor:
    """Logits of a plain forward in which one head's slice of the output projection's input is replaced."""
    with _replacing(o_proj, head, head_dim, replacement):
        return plain_logits(model, tokens)


@contextmanager
def _replacing(o_proj: nn.Module, head: int, head_dim: int, replacement: Tensor) -> Iterator[None]:
    def swap(_module, args):
        z = args[0].clone()
        z[..., head * head_dim : (head + 1) * head_dim] = replacement
        return (z, *args[1:])

    handle = o_proj.register_forward_pre_hook(swap)
    try:
        yield
    finally:
        handle.remove()


def linear_logits(logits: Tensor, soft_cap: float | None) -> Tensor:
    """The logits before a tanh soft-cap."""
    return logits if soft_cap is None else soft_cap * torch.atanh(logits / soft_cap)


def centred_target(logits: Tensor, tokens: Tensor, soft_cap: float | None = None) -> Tensor:
    """Centred logit of each next token [batch, position - 1]; a soft-cap is undone first."""
    linear = linear_logits(logits, soft_cap)
    linear = (linear - linear.mean(-1, keepdim=True))[:, :-1]
    return linear.gather(-1, tokens[:, 1:, None])[..., 0]


def total_effect(
    model: PreTrainedModel,
    tokens: Tensor,
    o_proj: nn.Module,
    head: int,
    head_dim: int,
    replacement: Tensor,
    soft_cap: float | None = None,
) -> Tensor:
    """Ablated minus clean centred logit of the next token, from two plain forwards [batch, position - 1]."""
    ablated = ablate_with_hook(model, tokens, o_proj, head, head_dim, replacement)
    clean = plain_logits(model, tokens)
    return centred_target(ablated, tokens, soft_cap) - centred_target(clean, tokens, soft_cap)


# ------------------------------------------------------------------------------------- one run, recorded


@dataclass
class Trace:
    """One forward: z [L,B,S,H,k]; o_proj outputs, and MLP writes as added [L,B,S,d]; the last residual."""

    z: Tensor
    attention: Tensor
    mlps: Tensor
    residual: Tensor
    logits: Tensor


def trace(model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, layer=None, head=None, replacement=None) -> Trace:
    """Run once and record; `layer`, `head` and `replacement` [..., head_dim] replace that head's output."""
    layers = range(anatomy.layers(model))
    record: dict[tuple[str, int], Tensor] = {}

    def keep_input(name: str, at: int) -> Callable:
        return lambda _module, args: record.__setitem__((name, at), args[0].clone())

    def keep_output(name: str, at: int) -> Callable:
        # cloned at once: Falcon adds the attention's output to the MLP's output in place, after this hook
        return lambda _module, _args, out: record.__setitem__((name, at), out.clone())

    with ExitStack() as stack:
        if layer is not None:
            projection = anatomy.part(model, layer, "o_proj")
            stack.enter_context(_replacing(projection, head, anatomy.head_dim, replacement))
        for at in layers:
            projection = anatomy.part(model, at, "o_proj")
            mlp = anatomy.part(model, at, "post_mlp_norm" if anatomy.post_mlp_norm else "mlp")
            stack.callback(projection.register_forward_pre_hook(keep_input("z", at)).remove)
            stack.callback(projection.register_forward_hook(keep_output("attention", at)).remove)
            stack.callback(mlp.register_forward_hook(keep_output("mlp", at)).remove)
        final = model.get_submodule(anatomy.final_norm)
        stack.callback(final.register_forward_pre_hook(keep_input("residual", 0)).remove)
        logits = plain_logits(model, tokens)

    shape = (*tokens.shape, -1)
    return Trace(
        z=torch.stack([record["z", at].reshape(*shape, anatomy.head_dim) for at in layers]),
        attention=torch.stack([record["attention", at].reshape(shape) for at in layers]),
        mlps=torch.stack([record["mlp", at].reshape(shape) for at in layers]) * anatomy.residual_multiplier,
        residual=record["residual", 0],
        logits=logits,
    )


def resampled(model: PreTrainedModel, anatomy: Anatomy, donors: Tensor, layer: int, head: int) -> Tensor:
    """The head's output on donor texts [batch, position, head_dim]: the replacement for resample ablation."""
    return trace(model, anatomy, donors).z[layer, :, :, head]


def zeroed(model: PreTrainedModel, anatomy: Anatomy, layer: int, head: int) -> Tensor:
    """The replacement that makes the head's write zero [head_dim]: its constant, not the zero vector."""
    return value_constants(model, anatomy)[layer, head]


# ------------------------------------------------------------------------------------------------- directions


def directions(model: PreTrainedModel, anatomy: Anatomy, targets: Tensor) -> tuple[Tensor, Tensor]:
    """u [batch, position, width] and beta [batch, position] of the target tokens [batch, position]."""
    unembedding = model.get_output_embeddings()  # of GPT-NeoX, older transformers name it otherwise
    norm = model.get_submodule(anatomy.final_norm)
    weight = unembedding.weight.detach()
    weight = (weight - weight.mean(0)) * anatomy.logit_multiplier
    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if unembedding.bias is None else unembedding.bias.detach()
    bias = (bias - bias.mean()) * anatomy.logit_multiplier
    width = weight.shape[1]
    u = weight * anatomy.gain(norm, width)
    if anatomy.norm == "layer":
        u = u - u.mean(-1, keepdim=True)
    beta = weight @ anatomy.norm_bias(norm, width) + bias
    return u[targets], beta[targets]


# ------------------------------------------------------------------------------------------------- the ledger


@dataclass
class Ledger:
    """Per prediction [batch, position - 1], centred logits; lines: heads [L,H,...], others [L,...]."""

    direct_effect: Tensor
    ablated_direct_effect: Tensor
    total_effect: Tensor
    self_repair: Tensor
    heads: Tensor  # change of every other head's direct effect; zero in the ablated head's own place
    mlps: Tensor
    post_norms: Tensor
    norm: Tensor
    sigma_ratio: Tensor  # clean / ablated
    clean_heads: Tensor  # clean direct effect of every head
    clean_mlps: Tensor

    @property
    def residual(self) -> Tensor:
        """What the ledger does not account for; zero up to rounding."""
        booked = self.heads.sum((0, 1)) + self.mlps.sum(0) + self.post_norms.sum(0) + self.norm
        return self.self_repair - booked


def _head_lines(
    model, anatomy: Anatomy, z: Tensor, constants: Tensor, clean: Trace, u: Tensor, sigma: Tensor
) -> Tensor:
    """Direct effect of every head under the CLEAN scales, those of post-norms included [L,H,B,S]."""
    lines = torch.empty(z.shape[0], anatomy.heads, *u.shape[:2], dtype=torch.float64)
    for layer in range(z.shape[0]):
        into_stream = _into_stream(model, anatomy, layer, clean.attention[layer])
        for head in range(anatomy.heads):
            write = (z[layer, :, :, head] - constants[layer, head]) @ anatomy.w_o(model, layer, head)
            lines[layer, head] = (u * into_stream(write)).sum(-1) / sigma
    return lines


def _into_stream(model, anatomy: Anatomy, layer: int, attention: Tensor) -> Callable[[Tensor], Tensor]:
    """How part of an attention output reaches the residual stream, at the scale that `attention` sets."""
    if anatomy.post_attention_norm is None:
        return lambda write: write * anatomy.residual_multiplier
    norm = anatomy.part(model, layer, "post_attention_norm")
    gain, scale = anatomy.gain(norm, attention.shape[-1]), anatomy.scale(norm, attention)[..., None]
    return lambda write: write * gain / scale * anatomy.residual_multiplier


def ledger(
    model: PreTrainedModel, anatomy: Anatomy, tokens: Tensor, layer: int, head: int, replacement: Tensor
) -> Ledger:
    """The whole ledger of one ablation, by brute force; `replacement` is what the projection gets to read."""
    clean = trace(model, anatomy, tokens)
    ablated = trace(model, anatomy, tokens, layer, head, replacement)
    targets = torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1)  # the last position's target is a filler, cut off below
    u, beta = directions(model, anatomy, targets)
    final = model.get_submodule(anatomy.final_norm)
    sigma, sigma_ablated = anatomy.scale(final, clean.residual), anatomy.scale(final, ablated.residual)
    constants = value_constants(model, anatomy)

    before = _head_lines(model, anatomy, clean.z, constants, clean, u, sigma)
    after = _head_lines(model, anatomy, ablated.z, constants, clean, u, sigma)
    mlps_before, mlps_after = ((u * run.mlps).sum(-1) / sigma for run in (clean, ablated))
    heads = after - before
    heads[layer, head] = 0

    post_norms = torch.zeros_like(mlps_before)
    if anatomy.post_attention_norm is not None:
        for at in range(post_norms.shape[0]):
            x = ablated.attention[at]
            theirs, ours = (_into_stream(model, anatomy, at, run.attention[at])(x) for run in (ablated, clean))
            post_norms[at] = (u * (theirs - ours)).sum(-1) / sigma

    centred_clean = centred_target(clean.logits, tokens, anatomy.soft_cap)
    centred_ablated = centred_target(ablated.logits, tokens, anatomy.soft_cap)
    effect = centred_ablated - centred_clean

    def cut(x: Tensor) -> Tensor:
        return x[..., :-1]

    direct, ablated_direct = cut(before[layer, head]), cut(after[layer, head])
    return Ledger(
        direct_effect=direct,
        ablated_direct_effect=ablated_direct,
        total_effect=effect,
        self_repair=effect - (ablated_direct - direct),
        heads=cut(heads),
        mlps=cut(mlps_after - mlps_before),
        post_norms=cut(post_norms),
        norm=(1 - cut(sigma_ablated / sigma)) * (centred_ablated - cut(beta)),
        sigma_ratio=cut(sigma / sigma_ablated),
        clean_heads=cut(before),
        clean_mlps=cut(mlps_before),
    )
