"""Outputs of components in an ablated run, where the ledger's lines alone are not enough."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.engine.accounts import Accounts, Patch
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import Port
from selfrepair.model.taps import Place, keeping, on_input, removing


def ablated_outputs(
    model: LanguageModel,
    clean: CleanRun,
    intervention: Intervention,
    replacement: Replacement,
    ports: Collection[Port],
) -> dict[Port, Tensor]:
    """Outputs at some ports in one ablated run, [window, position, entry, size] each. Call under `model.running()`.

    Args:
        model: the model.
        clean: the clean run; it has the outputs at all ports of the intervention.
        intervention: the ablated run.
        replacement: what goes in the place of replaced outputs.
        ports: ports to read.
    """
    places = {port: place_of(model, port) for port in ports}
    seen: dict[Port, Tensor] = {}
    with patched(model, clean, intervention, replacement):
        taps = [places[port].tap(keeping(seen, port, (*clean.tokens.shape, -1))) for port in ports]
        with removing(*taps):
            model.run_trunk(clean.tokens)
    return {port: places[port].split(seen[port]) for port in ports}


def ablated_final(
    model: LanguageModel, clean: CleanRun, intervention: Intervention, replacement: Replacement
) -> Tensor:
    """The final stream of one ablated run [window, position, width]; see `ablated_outputs`."""
    seen: dict[str, Tensor] = {}
    with patched(model, clean, intervention, replacement):
        tap = on_input(model.anatomy.final_norm_module, keeping(seen, "final", (*clean.tokens.shape, -1)))
        with removing(tap):
            model.run_trunk(clean.tokens)
    return seen["final"]


@contextmanager
def patched(
    model: LanguageModel, clean: CleanRun, intervention: Intervention, replacement: Replacement
) -> Iterator[None]:
    """Forwards of the trunk on the clean run's windows in here are the ablated run; see `ablated_outputs`."""
    touched = ports_of([intervention])
    accounts = Accounts(model.anatomy, clean, [intervention], False)
    places = {port: place_of(model, port) for port in touched}
    patches = {port: accounts.patch(port, [0], places[port].entries) for port in touched}
    values = {port: replacement(port) if patch.put.any() else clean.outputs_at(port) for port, patch in patches.items()}
    taps = [
        places[port].tap(partial(_patched, clean, places[port], patch, values[port], clean.outputs_at(port)))
        for port, patch in patches.items()
    ]
    with removing(*taps):
        yield


def _patched(clean: CleanRun, place: Place, patch: Patch, replaced: Tensor, kept: Tensor, value: Tensor) -> Tensor:
    outputs = place.split(value.reshape(*clean.tokens.shape, -1))
    return place.changed(value, outputs, patch.values(outputs[None], replaced, kept)[0])
