"""Direct edges, as in path patching: what components put out if only the senders' own writes have changed.

One ablated run in which everything downstream is frozen has, at every block, the clean stream plus what the senders
write otherwise. What each component computes there is read before it is frozen: all receivers from one forward, with
live norms, nothing linearised.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from selfrepair.ablation.interventions import Intervention, freezing
from selfrepair.ablation.sites_of_layers import whole_sites
from selfrepair.engine.ablated_outputs import patched
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.taps import keeping, removing


def rest_frozen(anatomy: Anatomy, senders: Intervention) -> Intervention:
    """The ablated run in which no component responds to the senders.

    Raises:
        SelfRepairError: senders that are neurons, or with something frozen.
    """
    neurons = next((site for site in senders.sites if site.port.kind == "neurons"), None)
    if neurons is not None:
        raise SelfRepairError(
            f"Direct edges are measured from heads, mixers and MLPs; {neurons} is part of an MLP that receives itself.",
            "Name the whole MLP.",
        )
    if senders.frozen:
        raise SelfRepairError(
            f"'{senders.name}' freezes {len(senders.frozen)} sites; direct edges lead to components that may respond.",
            "Give an intervention that only replaces.",
        )
    layers = range(anatomy.layers if senders.start is None else senders.start, anatomy.layers)
    sites = [site for layer in layers for site in whole_sites(anatomy, layer)]
    return freezing(senders, sites, f"{senders.name}, rest frozen")


def direct_outputs(
    model: LanguageModel,
    clean: CleanRun,
    senders: Intervention,
    replacement: Replacement,
    ports: Collection[Port],
) -> dict[Port, Tensor]:
    """Outputs at some ports as the senders' own writes make them, [window, position, entry, size] each.

    Senders in a later layer read what earlier ones write; what they put out themselves is replaced. An MLP also reads
    senders among the heads, or the mixer, of its layer, where it comes after them. Call under `model.running()`.

    Args:
        model: the model.
        clean: the clean run, with the outputs of all heads, mixers and MLPs from the senders' first layer on.
        senders: the replaced sites.
        replacement: what goes in the place of replaced outputs.
        ports: ports of heads, mixers and MLPs to read.

    Raises:
        SelfRepairError: see `rest_frozen`.
    """
    places = {port: place_of(model, port) for port in ports}
    seen: dict[Port, Tensor] = {}
    taps = [place.tap(keeping(seen, port, (*clean.tokens.shape, -1))) for port, place in places.items()]
    with removing(*taps), patched(model, clean, rest_frozen(model.anatomy, senders), replacement):
        model.run_trunk(clean.tokens)  # reads come first: they are of what components compute, not of what is put there
    return {port: place.split(seen[port]) for port, place in places.items()}
