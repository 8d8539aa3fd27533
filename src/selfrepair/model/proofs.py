"""Identities that every number rests on, proved on the loaded model with random tokens.

Errors are magnitudes relative to the size of what is compared; a cosine could not see a scale factor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selfrepair.errors import Proof, RefusedModel
from selfrepair.model import own_forward
from selfrepair.model.arguments import block_arguments
from selfrepair.model.block_run import BlockRun
from selfrepair.model.configuration import setting
from selfrepair.model.directions import target_directions
from selfrepair.model.dissect import longest, probe_tokens
from selfrepair.model.head_count import miscounts
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import (
    logit_errors,
    own_stream,
    refused_stream,
    special_ids,
    stream_errors,
    trunk_stream,
)
from selfrepair.model.taps import keeping, main_input, on_input, removing, with_input
from selfrepair.model.watched_forward import WatchedForward, watched_forward

_WINDOWS, _SPECIAL, _POSITIONS = 2, 2, 12
_REPLAY = "blocks replay"
_ROUNDINGS = 8  # of the stream, that adding attention's and the MLP's writes may leave: two, with room


def tolerance(dtype: torch.dtype) -> float:
    """The relative error allowed: rounding of the precision with room for depth."""
    return 1e-10 if dtype == torch.float64 else 2e-4


def relative_error(computed: Tensor, wanted: Tensor, size: Tensor | None = None) -> float:
    """Largest deviation over the largest entry of `size` (of `wanted` by default); infinite where not a number."""
    scale = (wanted if size is None else size).abs().max().clamp_min(1e-12)
    error = float((computed - wanted).abs().max() / scale)
    return error if math.isfinite(error) else math.inf  # Python's `max` would drop a NaN


def prove_at_load(model: LanguageModel) -> list[Proof]:
    """The identities that one forward shows.

    Raises:
        RefusedModel: naming the first identity that fails.
    """
    tokens = random_tokens(model)
    with model.running():
        proofs = [_own_forward_proof(model, tokens), *_prove(model, tokens)]
    require(proofs)
    return proofs


def random_tokens(model: LanguageModel, seed: int = 0) -> Tensor:
    """Random windows for proofs, no longer than the model can read; in the last ones every other token is a special
    one (padding, begin, end), of which models may do something else."""
    positions, special = longest(model.network, _POSITIONS), torch.tensor(special_ids(model))
    slots = range(1, positions, 2)  # not at the start: a padding token may be embedded as zero, and nothing reads it
    rows = min(_SPECIAL, math.ceil(len(special) / max(1, len(slots))))
    tokens = probe_tokens(model.network, positions, _WINDOWS + rows, seed)
    for number in range(rows * len(slots)):
        tokens[_WINDOWS + number // len(slots), slots[number % len(slots)]] = special[number % len(special)]
    return tokens


def require(proofs: list[Proof]) -> None:
    """Raises RefusedModel for the first proof that fails."""
    for proof in proofs:
        if not proof.holds:
            raise RefusedModel(
                proof.identity,
                f"{proof.statement} holds only to {proof.error:.1e}, needed is {proof.tolerance:.0e}.",
                "Measuring this model would give wrong numbers, so it is refused.",
                proofs,
            )


def _prove(model: LanguageModel, tokens: Tensor) -> list[Proof]:
    run = watched_forward(model, tokens)
    return [
        *_proofs_of_blocks(model, tokens, run),
        *_proofs_of_logits(model, tokens, run),
        _replay_proof(model, tokens, run),
    ]


def _proofs_of_blocks(model: LanguageModel, tokens: Tensor, run: WatchedForward) -> list[Proof]:
    """Proofs about the parts of blocks."""
    allowed, layers = tolerance(model.dtype), range(model.anatomy.layers)
    read = [*(run.residuals[layer] for layer in layers[1:]), run.final]
    chain = max(relative_error(run.outputs[layer], given) for layer, given in zip(layers, read, strict=True))
    constants = _value_constant_error(model, tokens)
    return [
        Proof("blocks chain", "each block's output is the next one's input", chain, 0.0),
        Proof("residual sum", "input + attention + MLP = output of every block", _residual_error(model, run), allowed),
        Proof("heads sum", "heads' writes and a constant sum to the projection", _heads_error(model, run), allowed),
        Proof("head count", "as many heads as each layer, or the configuration, says", _head_count_error(model), 0.0),
        Proof("value constant", "at a zero stream every head puts out its value constant", constants, allowed),
        Proof("post-norms", "attention's write is its norm of the projection", _norm_error(model, run), allowed),
    ]


def _proofs_of_logits(model: LanguageModel, tokens: Tensor, run: WatchedForward) -> list[Proof]:
    """How logits follow from the final stream."""
    allowed = tolerance(model.dtype)
    error = float(logit_errors(model, run.final, run.scaled_logits).max())
    return [
        Proof(
            "read-out",
            "u . residual / sigma + beta = the model's own centred logit",
            _readout_error(model, tokens, run),
            allowed,
        ),
        Proof(own_forward.LOGITS, "the final stream gives the model's own centred logits, all of them", error, allowed),
    ]


def _replay_proof(model: LanguageModel, tokens: Tensor, run: WatchedForward) -> Proof:
    statement = "a block given its input and arguments again gives its output again, whatever ran between"
    return Proof(_REPLAY, statement, _replay_error(model, tokens, run), tolerance(model.dtype))


def _own_forward_proof(model: LanguageModel, tokens: Tensor) -> Proof:
    """Before all others: they take the model's own forward and its trunk's for one and the same."""
    allowed = tolerance(model.dtype)
    error = float(stream_errors(trunk_stream(model, tokens), own_stream(model, tokens)).max())
    if not error <= allowed:
        raise refused_stream(model, tokens, error, allowed)
    statement = "the trunk, by which everything is measured, has the final stream of the model's own forward"
    return Proof(own_forward.STREAM, statement, error, allowed)


def _replay_error(model: LanguageModel, tokens: Tensor, run: WatchedForward) -> float:
    """Error of blocks called by themselves, after another text has gone through the model: they must not remember
    anything, nor be given anything that other blocks have made or changed, so that each gets arguments of its own, and
    the last block runs first. Blocks that the trunk has to run must not remember other texts."""
    errors, layer = [], 0
    try:
        replays = [BlockRun(model, tokens) for _ in range(model.anatomy.layers)]
        model.run_trunk(tokens.flip(1))
        for layer, replay in reversed(list(enumerate(replays))):
            replayed = replay(run.residuals[layer].clone(), layer, layer + 1).reshape(run.outputs[layer].shape)
            errors.append(float(stream_errors(replayed, run.outputs[layer]).max()))
    except Exception as problem:  # blocks run their own code
        raise RefusedModel(
            _REPLAY,
            f"block {layer}, called by itself with its input and arguments, raised {type(problem).__name__}: {problem}",
            "Blocks that need more than that (what other blocks left somewhere) cannot be replayed.",
        ) from problem
    return max(errors)


def _residual_error(model: LanguageModel, run: WatchedForward) -> float:
    errors = []
    for layer, block in enumerate(model.anatomy.blocks):
        parts = [multiplier * write for multiplier, write in run.others.get(layer, [])]
        if block.heads:
            parts.insert(0, block.own_multiplier(block.attention_multiplier, "attention") * run.attention[layer])
        written = torch.stack(parts).sum(0) if len(parts) != 2 else parts[0] + parts[1]
        passed = block.stream_multiplier if block.gains is None else block.gains.stream
        total = passed * run.residuals[layer] + written / block.later_multiplier
        total = total if block.constant is None else total + block.constant
        wanted = run.outputs[layer]
        errors.append(relative_error(total, wanted, _size_of_write(written, wanted)))
    return max(errors)


def _size_of_write(written: Tensor, stream: Tensor) -> Tensor:
    """Reference size of an error in a write: the write's, and the part of the stream's that rounding explains."""
    rounding = _ROUNDINGS * torch.finfo(stream.dtype).eps / tolerance(stream.dtype)
    return written.abs().max() + rounding * stream.abs().max()


def _heads_error(model: LanguageModel, run: WatchedForward) -> float:
    errors = [0.0]
    for layer, block in enumerate(model.anatomy.blocks):
        if not block.heads:
            continue
        writes = torch.einsum(
            "bphe,hed->bpd", block.heads_place.split(run.projection_inputs[layer]), block.output_weight
        )
        constant = block.projection(block.value_constant.flatten()[None])[0]
        errors.append(relative_error(writes + constant, run.projections[layer]))
    return max(errors)


def _head_count_error(model: LanguageModel) -> float:
    """How many heads too many or too few; found by what they do and compared with what the model declares."""
    return float(max(miscounts(model.anatomy.blocks, setting(model.network, "num_attention_heads"))))


def _value_constant_error(model: LanguageModel, tokens: Tensor) -> float:
    errors = [0.0]
    blocks = model.anatomy.blocks
    for block, given in zip(blocks, block_arguments(model, tokens), strict=True):
        if not block.plain_means or not block.heads:
            continue  # nothing is left out of its heads' outputs
        seen: dict[str, Tensor] = {}
        args, kwargs = with_input(given, torch.zeros_like(main_input(given)))
        with removing(on_input(block.projection, keeping(seen, "input"))):
            block.module(*args, **kwargs)
        wanted = block.value_constant.flatten().expand_as(seen["input"])
        errors.append(relative_error(seen["input"], wanted, wanted.abs().clamp_min(1e-3)))
    return max(errors)


def _norm_error(model: LanguageModel, run: WatchedForward) -> float:
    errors = [0.0]
    for layer, block in enumerate(model.anatomy.blocks):
        if block.attention_norm is not None:
            errors.append(relative_error(block.attention_norm(run.projections[layer]), run.attention[layer]))
    return max(errors)


def _readout_error(model: LanguageModel, tokens: Tensor, run: WatchedForward) -> float:
    """Compared at every position for several tokens of the vocabulary, not only for likely ones.

    The constants that final norm and unembedding add are held to the model by themselves: they may be huge, and all
    effects lie in the rest, whose own size is what its error is measured by.
    """
    errors = [_constants_error(model, run)]
    unembedding = model.anatomy.unembedding
    rows, own = unembedding.counted, unembedding.centred(run.scaled_logits)
    sigma = model.anatomy.final_norm.scale(run.final)
    constants = unembedding.centred(unembedding.constants(model.anatomy.final_norm).double())
    for shift in (0, len(rows) // 3, len(rows) // 2):
        targets = rows[(tokens + shift) % len(rows)]
        directions = target_directions(model.anatomy, targets.unsqueeze(-1), torch.ones_like(targets).unsqueeze(-1))
        scaled_logits = (directions.u * run.final).sum(-1) / sigma
        errors.append(relative_error(scaled_logits, own.gather(-1, targets.unsqueeze(-1)).squeeze(-1), own[..., rows]))
        errors.append(relative_error(directions.beta.double(), constants[targets], _size_of_constants(model)[rows]))
    return max(errors)


def _constants_error(model: LanguageModel, run: WatchedForward) -> float:
    """The model's own logits against those without constants and the constants: equal but for rounding of each row's
    own constant."""
    unembedding = model.anatomy.unembedding
    rows, constants = unembedding.counted, unembedding.constants(model.anatomy.final_norm)
    own, computed = unembedding.capped(run.logits), unembedding.capped(run.scaled_logits + constants)
    rounding = _ROUNDINGS * torch.finfo(own.dtype).eps / tolerance(own.dtype)
    size = run.scaled_logits[..., rows].abs().max() + rounding * _size_of_constants(model)[rows]
    return relative_error((computed - own)[..., rows] / size, torch.zeros_like(own[..., rows]), torch.ones_like(size))


def _size_of_constants(model: LanguageModel) -> Tensor:
    """How large the terms are that every row's constant is a sum of, [vocabulary]: what rounding goes by."""
    unembedding, bias = model.anatomy.unembedding, model.anatomy.final_norm.bias
    # A bias may be the largest number that its own precision has.
    size = (unembedding.weight.abs() @ bias.abs()).double()
    return abs(unembedding.multiplier) * (size if unembedding.bias is None else size + unembedding.bias.double().abs())
