"""One component as any tool of the field spells it: `L9H6`, `9.6`, `a9.h6`, `blocks.9.attn.hook_z[:, :, 6]`, ...

`spelled` is the only place that knows spellings; lists of them are read in `ablation.names`, edges in `ablation.edges`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfrepair.ablation.direction import refused_bare
from selfrepair.ablation.shape import FROM_0
from selfrepair.ablation.sites import At, AtSpan, Attention, Head, Mixer, Mlp, MlpPart, Neuron, Site
from selfrepair.errors import SelfRepairError

Via = Literal["q", "k", "v"]
WRITE = (
    "Write heads as L9H6 (or 9.6, a9.h6, blocks.9.attn.hook_z[:, :, 6]), MLPs as L9.mlp, the attention of a layer as "
    "L9, neurons as L11N584; positions as in L9H6@-1, L9H6@end or L9H6@S2."
)
_LONGEST = 300  # characters of one name


@dataclass(frozen=True)
class End:
    """An end of edges that is not a component.

    Example:
        >>> str(Edge(End("input"), Head(0, 1), "v"))
        'input->L0H1.v'

    Attributes:
        name: `input`, the embeddings; `logits`, what the unembedding reads.
    """

    name: Literal["input", "logits"]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Component:
    """The component that one name stands for.

    Attributes:
        site: the component; an end of the model in names of edges.
        via: the input of a head that is meant, where the name has one.
    """

    site: Site | AtSpan | End
    via: Via | None = None


_N = r"\d{1,9}"
_PATH = rf"(?:\w+\.)*?(?:h|layers|blocks|layer)(?:\.(?P<layer>{_N})|\[(?P<listed>{_N})\])"
_INDEX = r"(?:\[(?P<index>[^\[\]]*)\])?"
_FORMS: tuple[tuple[str, str], ...] = (
    ("head", rf"(?:head[_ ]?|L|a)?(?P<layer>{_N})(?:\.?h|[.:])(?P<head>{_N})"),
    ("head", rf"[\[(]\s*(?P<layer>{_N})\s*,\s*(?P<head>{_N})\s*[\])]"),
    ("head", rf"AttentionHead\(\s*Layer-(?P<layer>{_N})\s*,\s*Head-(?P<head>{_N})(?:\s*,\s*(?P<token>[^()]*))?\)"),
    ("flat", rf"flat:(?P<head>{_N})"),
    ("neuron", rf"L(?P<layer>{_N})\.?N(?P<neuron>{_N})"),
    ("mlp", rf"(?:m|mlp[_ ]?)(?P<layer>{_N})|L(?P<listed>{_N})\.mlp"),
    ("mlp part", rf"L(?P<layer>{_N})\.mlp(?P<part>{_N})"),
    ("mixer", rf"L(?P<layer>{_N})\.mixer"),
    ("attention", rf"(?:L|attn[_ ]?)(?P<layer>{_N})|L(?P<listed>{_N})\.attn"),
    ("hook", rf"blocks\.(?P<layer>{_N})\.(?P<hook>(?:attn\.|mlp\.)?hook_\w+){_INDEX}"),
    ("input", r"input|embeds?|resid(?:_| )start|hook_(?:pos_)?embed(?:\[[^\[\]]*\])?"),
    ("logits", r"logits|resid(?:_| )end"),
    ("module", rf"{_PATH}\.(?:self_attn|self_attention|attn(?:\.attention)?|attention)(?P<out>\.\w+)?{_INDEX}"),
    ("mlp module", rf"{_PATH}\.(?:mlp(?P<out>\.\w+)?|fc2){_INDEX}"),
)
_SPELLINGS = [(kind, re.compile(form, re.IGNORECASE)) for kind, form in _FORMS]
_VIA = re.compile(r"(.*[\d\])])(?:\.([qkv])|<([qkv])>)", re.IGNORECASE | re.DOTALL)
_POSITIONS = re.compile(rf"-?{_N}(?:,-?{_N})*")
_SPAN = re.compile(r"[A-Za-z_]\w*(?:-\w+)*")
_LATENT = re.compile(r"\d+_\d+_-?\d+|[\w.-]+/(\d+)-[\w.-]+/\d+", re.ASCII)
_EXPERT = re.compile(
    rf"L(?P<layer>{_N})(?:\.mlp)?(?:E|\.experts?[._]?){_N}(?:@.*)?"
    rf"|[a-z_.]*\.(?P<listed>{_N})\.(?:\w+\.)?experts[.\[]{_N}\b.*",
    re.IGNORECASE,
)
_OUTS = {".c_proj", ".o_proj", ".dense", ".out_proj", ".wo"}
_MLP_OUTS = {".c_proj", ".down_proj", ".dense_4h_to_h", ".fc_out", ".fc2", ".w2", ".out_proj"}


def spelled(text: str, heads: Sequence[int] | None = None) -> Component:
    """The component that a name stands for.

    Args:
        text: one name, in any spelling.
        heads: number of heads of each layer; only `flat:114` needs it.

    Raises:
        SelfRepairError: it names nothing, or what cannot be ablated.
    """
    name, at, where = text.strip().partition("@")
    if len(name) > _LONGEST:
        raise SelfRepairError(f"'{name[:40]}…' is too long to name a component.", WRITE)
    given = _VIA.fullmatch(name.strip())
    component = _component((given[1] if given else name).strip(), heads)
    if component is None:
        raise _refused(text)
    if given is not None:
        if not isinstance(component.site, Head) or component.via is not None:
            raise SelfRepairError(f"'{text}': only heads have inputs q, k and v.", WRITE)
        component = Component(component.site, _via(given[2] or given[3]))
    return _at(component, where.strip(), text) if at else component


def _component(name: str, heads: Sequence[int] | None) -> Component | None:
    for kind, form in _SPELLINGS:
        match = form.fullmatch(name)
        if match is not None:
            return _of_kind(kind, match.groupdict(), name, heads)
    return None


def _of_kind(kind: str, parts: dict[str, str | None], name: str, heads: Sequence[int] | None) -> Component | None:
    layer, index = int(parts.get("layer") or parts.get("listed") or 0), parts.get("index")
    number = int(parts.get("head") or parts.get("neuron") or 0)
    match kind:
        case "head":
            return _with_token(Head(layer, number), parts.get("token"), name)
        case "flat":
            return Component(_flat(number, heads))
        case "neuron":
            return Component(Neuron(layer, number))
        case "mlp":
            return Component(Mlp(layer))
        case "mlp part":
            return Component(MlpPart(layer, int(str(parts["part"]))))
        case "mixer":
            return Component(Mixer(layer))
        case "attention":
            return Component(Attention(layer))
        case "hook":
            return _hook(layer, str(parts["hook"]).lower(), index)
        case "module":
            return _module(layer, parts["out"], index)
        case "mlp module":
            return _mlp_module(layer, parts["out"], index)
    return Component(End("input" if kind == "input" else "logits"))


def _flat(number: int, heads: Sequence[int] | None) -> Head:
    """A head by its number among all, `layer * heads + head`."""
    if heads is None:
        raise SelfRepairError(
            f"flat:{number} is counted through all layers, which takes the number of heads of the model.",
            "Give the model, or write the head as L9H6.",
        )
    layer, rest = 0, number
    while layer < len(heads) and rest >= heads[layer]:
        layer, rest = layer + 1, rest - heads[layer]
    if layer == len(heads):
        raise SelfRepairError(f"There is no flat:{number}.", f"The model has {sum(heads)} heads. {FROM_0}.")
    return Head(layer, rest)


def _hook(layer: int, hook: str, index: str | None) -> Component | None:
    """The component of a hook of TransformerLens: heads and neurons are the third index, positions the second."""
    numbers = _numbers(index)
    if numbers is None:
        return None
    position, entry = numbers
    inside = re.fullmatch(r"(?:attn\.)?hook_([qkv])(?:_input)?", hook)
    site: Site | End | None = None
    if hook in ("attn.hook_z", "attn.hook_result", "hook_attn_in") or inside:
        site = Attention(layer) if entry is None else Head(layer, entry)
    elif hook == "mlp.hook_post" and entry is not None:
        site = Neuron(layer, entry)
    elif entry is None:
        site = {
            "hook_mlp_out": Mlp(layer),
            "hook_mlp_in": Mlp(layer),
            "hook_attn_out": Attention(layer),
            "hook_resid_pre": End("input") if layer == 0 else None,
            "hook_resid_post": End("logits"),
        }.get(hook)
    if site is None or (inside and not isinstance(site, Head)):
        return None
    if position is not None:
        return None if isinstance(site, End) else Component(At(site, (position,)), _via(inside and inside[1]))
    return Component(site, _via(inside and inside[1]))


def _numbers(index: str | None) -> tuple[int | None, int | None] | None:
    """Position and entry of an index `[batch, position, entry, ...]`, None for all; None if it is something else."""
    parts = [part.strip().replace("None", ":") for part in (index or ":").split(",")]
    if parts[0] == "...":  # [..., 6, :]
        parts = [":", ":", *parts[1:]]
    parts += [":"] * (3 - len(parts))
    read = [None if part == ":" else part for part in parts]
    if len(read) > 4 or read[0] is not None or any(read[3:]):
        return None
    if any(part is not None and not re.fullmatch(rf"-?{_N}", part) for part in read):
        return None
    position, entry = (None if part is None else int(part) for part in read[1:3])
    return None if entry is not None and entry < 0 else (position, entry)


def _module(layer: int, out: str | None, index: str | None) -> Component | None:
    """Attention, or one head of it, as a module of Hugging Face's: `model.layers.9.self_attn.o_proj[6]`."""
    if index is None:
        return Component(Attention(layer)) if out is None or out.lower() in _OUTS else None
    if out is None or out.lower() not in _OUTS or not re.fullmatch(_N, index.strip()):
        return None
    return Component(Head(layer, int(index)))


def _mlp_module(layer: int, out: str | None, index: str | None) -> Component | None:
    if index is None:
        return Component(Mlp(layer)) if out is None or out.lower() in _MLP_OUTS else None
    if out is None or out.lower() not in _MLP_OUTS or not re.fullmatch(_N, index.strip()):
        return None
    return Component(Neuron(layer, int(index)))


def _with_token(head: Head, token: str | None, name: str) -> Component:
    """A head of causalab's, whose name ends in where it is: `Token-last_token`, `Token-[8]`."""
    if token is None:
        return Component(head)
    where = re.sub(r"^(?:Token-|position=)", "", token.strip()).strip("[] ").replace(" ", "")
    if where in ("all", "all_tokens"):
        return Component(head)
    return _at(Component(head), "end" if where in ("last", "last_token") else where, name)


def _at(component: Component, where: str, text: str) -> Component:
    site = component.site
    where = re.sub(r"\s", "", where)
    if isinstance(site, End | At | AtSpan) or not where:
        raise SelfRepairError(f"'{text}' gives no position of a component.", WRITE)
    if _POSITIONS.fullmatch(where):
        return Component(At(site, tuple(map(int, where.split(",")))), component.via)
    if _SPAN.fullmatch(where):
        return Component(AtSpan(site, where), component.via)
    raise SelfRepairError(f"'{text}': '{where[:40]}' is neither a position nor the name of a span.", WRITE)


def _via(letter: str | None) -> Via | None:
    match (letter or "").lower():
        case "q":
            return "q"
        case "k":
            return "k"
        case "v":
            return "v"
    return None


def _refused(text: str) -> SelfRepairError:
    name = text.strip()
    direction = refused_bare(name)
    if direction is not None:
        return direction
    latent = _LATENT.fullmatch(name)
    if latent is not None:
        layer = latent[1] or name.partition("_")[0]
        return SelfRepairError(
            f"'{name}' is a latent of a transcoder or an SAE, which is not a part of the model.",
            f"Ablate the MLP it describes (L{layer}.mlp), or read its graph with Circuit.read.",
        )
    expert = _EXPERT.fullmatch(name)
    if expert is not None:
        return SelfRepairError(
            f"'{name[:80]}' is an expert of a mixture, and single experts cannot be ablated: their outputs are summed "
            "inside one module, where nothing can be replaced.",
            f"Ablate all experts of the layer together, as L{expert['layer'] or expert['listed']}.mlp.",
        )
    return SelfRepairError(f"'{name[:80]}' is not a component.", WRITE)
