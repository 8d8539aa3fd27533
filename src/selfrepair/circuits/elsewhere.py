"""What a component is called by other tools, and code that ablates it there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from selfrepair.ablation.name_lists import Place
from selfrepair.ablation.shape import require_existing, shape_of
from selfrepair.ablation.sites import At, AtSpan, Attention, Head, Mixer, Mlp, Neuron, Site
from selfrepair.errors import SelfRepairError

if TYPE_CHECKING:
    from torch import nn

    from selfrepair.model.language_model import LanguageModel

_HEADER = """\
# Ablates {names} by zero in TransformerLens:
#     logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
# selfrepair's zero leaves out a head's constant (what its value bias writes); this sets all of the head to zero.


def zero(*index):
    def hook(value, hook):
        value[index] = 0.0
        return value

    return hook


every = slice(None)
hooks = [
"""


def elsewhere(place: Place, model: LanguageModel | None = None) -> dict[str, str]:
    """Names of a component, by tool; tools that have none for it are left out.

    Args:
        place: a component.
        model: for what needs one: modules of Hugging Face and nnsight, CoAx's numbers.

    Raises:
        SelfRepairError: the model does not have it.
    """
    names = {"selfrepair": str(place), "TransformerLens": _transformer_lens(place)}
    if isinstance(place, Site) and place.positions is None:
        names |= _of_graphs(place)
        if model is not None:
            require_existing([place], shape_of(model))
            names |= _of_model(place, model)
    return {tool: name for tool, name in names.items() if name}


def transformer_lens_hooks(places: Iterable[Place]) -> str:
    """Python code that makes `hooks`, with which TransformerLens ablates components by zero.

    Args:
        places: components.

    Raises:
        SelfRepairError: one names a span, which lies elsewhere in each prompt.
    """
    places = list(places)
    spans = [str(place) for place in places if isinstance(place, AtSpan)]
    if spans:
        raise SelfRepairError(f"{spans[0]} names a span, which lies elsewhere in each prompt.", "Give positions.")
    lines = []
    for place in places:
        hook, entry = _hook(place)
        positions = None if isinstance(place, AtSpan) else place.positions
        index = ["every", "every" if positions is None else str(list(positions)), *([] if entry is None else [entry])]
        lines.append(f'    ("{hook}", zero({", ".join(index)})),')
    return _HEADER.format(names=", ".join(map(str, places))) + "\n".join([*lines, "]", ""])


def _hook(place: Place) -> tuple[str, str | None]:
    """Where TransformerLens has what a component writes, and its entry there."""
    site = place.site if isinstance(place, At | AtSpan) else place
    layer = site.port.layer
    if isinstance(site, Head):
        return f"blocks.{layer}.attn.hook_z", str(site.head)
    if isinstance(site, Neuron):
        return f"blocks.{layer}.mlp.hook_post", str(site.neuron)
    if isinstance(site, Attention):
        return f"blocks.{layer}.attn.hook_z", None
    if isinstance(site, Mlp):
        return f"blocks.{layer}.hook_mlp_out", None
    raise SelfRepairError(f"TransformerLens has no hook for {place}.", "Give heads, MLPs, attention or neurons.")


def _transformer_lens(place: Place) -> str:
    hook, entry = _hook(place)
    positions = None if isinstance(place, AtSpan) else place.positions
    if isinstance(place, AtSpan) or (positions is not None and len(positions) != 1):
        return ""
    position = ":" if positions is None else str(positions[0])
    if entry is None and positions is None:
        return hook
    return f"{hook}[:, {position}{'' if entry is None else f', {entry}'}]"


def _of_graphs(site: Site) -> Mapping[str, str]:
    """Names in files of circuits."""
    if isinstance(site, Head):
        layer, head = site
        return {
            "EAP-IG, MIB": f"a{layer}.h{head}",
            "AutoCircuit, CircuitKIT": f"A{layer}.{head}",
            "ACDC": f"blocks.{layer}.attn.hook_result[:, :, {head}]",
            "causalab": f"AttentionHead(Layer-{layer},Head-{head},Token-all)",
        }
    if isinstance(site, Mlp):
        return {
            "EAP-IG, MIB": f"m{site.layer}",
            "AutoCircuit, CircuitKIT": f"MLP {site.layer}",
            "ACDC": f"blocks.{site.layer}.hook_mlp_out",
        }
    return {}


def _of_model(site: Site, model: LanguageModel) -> Mapping[str, str]:
    """Modules of Hugging Face as the model has them, and numbers that count its heads."""
    names = {module: name for name, module in model.network.named_modules()}
    block = model.anatomy.blocks[site.port.layer]
    if isinstance(site, Head):
        path, size = names[block.projection], block.head_dim
        before = sum(model.anatomy.heads_by_layer[: site.layer])
        return {
            "Hugging Face": f"{path}[{site.head}]",
            "nnsight": f"{_listed(path)}.input[:, :, {site.head * size}:{(site.head + 1) * size}]",
            "CoAx": f"flat:{before + site.head}",
        }
    writes: dict[type, nn.Module] = {
        Attention: block.attention_write,
        Mlp: block.mlp_write,
        Mixer: block.mixer_write,
    }
    module = writes.get(type(site))
    path = None if module is None else names.get(module)
    whole = path is not None and not (isinstance(site, Mlp) and len(block.mlps) > 1)
    return {"Hugging Face": path, "nnsight": f"{_listed(path)}.output"} if path is not None and whole else {}


def _listed(path: str) -> str:
    """A path as Python reaches it: `model.layers[9].mlp`."""
    parts = path.split(".")
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).lstrip(".")
