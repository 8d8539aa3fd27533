"""Sites by the names that they print as, in plans and files."""

from __future__ import annotations

import re

from selfrepair.ablation.sites import At, Attention, Head, Mixer, Mlp, MlpPart, Neuron, Site
from selfrepair.errors import SelfRepairError

_N = r"\d{1,9}"
_SITE = re.compile(rf"L({_N})(?:H({_N})|N({_N})|\.(attn|mixer|mlp)({_N})?)(?:@(-?{_N}(?:,-?{_N})*))?", re.IGNORECASE)


def parse_site(text: str) -> Site:
    """The site that prints as `text`.

    Raises:
        SelfRepairError: it names none.
    """
    match = _SITE.fullmatch(text.strip())
    if match is None or (match[5] is not None and match[4].lower() != "mlp"):
        raise SelfRepairError(
            f"'{text}' is not a site.",
            "Write heads as L9H6, MLPs as L9.mlp, the attention of a layer as L9.attn, mixers as L9.mixer, neurons as "
            "L9N123; positions as in L9H6@3 or L9.mlp@-2,-1.",
        )
    number, head, neuron, whole, part, positions = match.groups()
    layer = int(number)
    site: Site
    if head is not None:
        site = Head(layer, int(head))
    elif neuron is not None:
        site = Neuron(layer, int(neuron))
    elif part is not None:
        site = MlpPart(layer, int(part))
    else:
        site = {"attn": Attention, "mixer": Mixer, "mlp": Mlp}[whole.lower()](layer)
    return site if positions is None else At(site, tuple(map(int, positions.split(","))))


def site_kind(site: Site) -> str:
    """What kind of thing a site is, in files: `head`, `attention`, `mixer`, `mlp` (also one part of it), `neuron`..."""
    return "mlp" if isinstance(site, MlpPart) else type(site).__name__.lower()
