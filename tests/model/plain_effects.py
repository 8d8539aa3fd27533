"""Total effects of heads by two plain forwards, and by an engine: what tests of odd model objects compare."""

import copy
from contextlib import contextmanager, nullcontext

import torch

from selfrepair.engine.clean import clean_run
from selfrepair.model.language_model import LanguageModel
from support import TOKENS, all_heads, each, layerwise, split
from zoo import families, oracle


def llama():
    """A fresh float32 Llama of the zoo, to be changed at will."""
    return copy.deepcopy(families.build("llama"))


def rolled(outputs: torch.Tensor) -> torch.Tensor:
    """Heads' outputs one position later: needs no knowledge of value constants."""
    return outputs.roll(1, 1)


@contextmanager
def plainly(network):
    """Plain forwards, in float64 throughout where the model is."""
    with torch.no_grad(), oracle.in_float64(strict=False) if network.dtype == torch.float64 else nullcontext():
        yield


def true_effect(network, projection, head: int, head_dim: int) -> torch.Tensor:
    """Total effect [window, prediction] of a head whose output is rolled, on the projection's input, by hand."""

    def roll(_module, args):
        given = args[0].clone()
        cut = slice(head * head_dim, (head + 1) * head_dim)
        given[..., cut] = rolled(given[..., cut])
        return (given,)

    with plainly(network):
        clean = network(TOKENS, use_cache=False).logits.double()
        handle = projection.register_forward_pre_hook(roll)
        ablated = network(TOKENS, use_cache=False).logits.double()
        handle.remove()
    change = ablated - clean
    change = change - change.mean(-1, keepdim=True)
    return change[:, :-1].gather(-1, TOKENS[:, 1:, None]).squeeze(-1)


def measured_effects(model: LanguageModel, engine) -> dict[tuple[int, int], torch.Tensor]:
    """The same of every head, by an engine."""
    with model.running():
        clean = clean_run(model, TOKENS)
        in_place = [rolled(outputs) for outputs in clean.head_outputs]
        ledgers = list(engine.sweep(model, clean, each(all_heads(model.anatomy)), layerwise(in_place), True))
    assert all(float(ledger.residual.abs().max()) < 1e-4 for ledger in ledgers)
    return {head: ledger.total_effect[0] for head, ledger in split(ledgers).items()}


def largest_error(model: LanguageModel, engine, network) -> float:
    """The largest difference of any head's effect on any token, over the largest effect.

    Args:
        model: the loaded model.
        engine: what measures.
        network: the same model, untouched, for the plain forwards.
    """
    measured = measured_effects(model, engine)
    names = {module: name for name, module in model.network.named_modules()}
    gaps, sizes = [], []
    for (layer, head), effect in measured.items():
        block = model.anatomy.blocks[layer]
        truth = true_effect(network, network.get_submodule(names[block.projection]), head, block.head_dim)
        gaps.append((effect - truth).abs().max())
        sizes.append(truth.abs().max())
    return float(max(gaps) / max(sizes))
