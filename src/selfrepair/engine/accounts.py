"""Books the ledgers of ablated runs on their way up, for every engine that folds runs together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import AtSpan, Site
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.errors import SelfRepairError
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.places import place_of
from selfrepair.model.ports import KINDS, STREAM, Kind, Port

RunNumbers = slice | list[int]
"""Numbers of the runs that something is done for."""

Booked = dict[str, Tensor]
"""What the accounts of one run hold, by name."""

_SUMS = ("by_attention", "by_mixer", "by_mlp", "by_mlp_write", "by_head", "post_norms", "before", "after")


@dataclass(frozen=True)
class Patch:
    """Where runs replace or hold outputs at one port.

    Attributes:
        put: where the replacement goes, bool [run, 1, position, entry]; the axis of positions has length 1 where all
            are alike.
        held: where the clean output stays, of the same shape; never where `put` is.
    """

    put: Tensor
    held: Tensor

    def rows(self, rows: RunNumbers) -> Patch:
        """The patch of some of the runs."""
        return Patch(self.put[rows], self.held[rows])

    def values(self, now: Tensor, replaced: Tensor, clean: Tensor) -> Tensor:
        """A port's tensor [run, window, position, entry, size] with what belongs in its places.

        An output that is already what is put there stays as it is, bit for bit.
        """
        wanted = torch.where(self.put.unsqueeze(-1), replaced, clean)
        changed = (self.put | self.held).unsqueeze(-1) & (now != wanted)
        return torch.where(changed, wanted, now)

    def differences(self, now: Tensor, change: Tensor) -> Tensor:
        """The same for differences to the clean run.

        Args:
            now: [run, window, position, entry, size].
            change: replacement less clean output, [window, position, entry, size].
        """
        return torch.where(self.put.unsqueeze(-1), change, now.masked_fill(self.held.unsqueeze(-1), 0))


class Accounts:
    """Accounts of R interventions over B windows with P predictions each; L layers, H heads.

    Attributes:
        interventions: in the order of the rows.
        by_attention: [R, B, P, L].
        by_mlp: [R, B, P, L].
        by_mlp_write: [R, B, P, L, write], where asked for.
        by_mixer: [R, B, P, L].
        by_head: [R, B, P, L, H], where asked for.
        post_norms: [R, B, P].
        before: direct effects of replaced sites, [R, B, P].
        after: direct effects of their replacements, [R, B, P].
    """

    def __init__(
        self, anatomy: Anatomy, clean: CleanRun, interventions: Sequence[Intervention], per_component: bool
    ) -> None:
        lines = (len(interventions), *clean.reading.shape)
        zeros = clean.scaled_logit.new_zeros
        self.anatomy, self.clean, self.interventions = anatomy, clean, tuple(interventions)
        self.by_attention, self.by_mlp = zeros(*lines, anatomy.layers), zeros(*lines, anatomy.layers)
        self.by_mixer = zeros(*lines, anatomy.layers)
        self.by_head = zeros(*lines, anatomy.layers, anatomy.heads) if per_component else None
        self.by_mlp_write = zeros(*lines, anatomy.layers, anatomy.mlp_writes) if per_component else None
        self.post_norms, self.before, self.after = zeros(lines), zeros(lines), zeros(lines)
        self._touching = _rows_by_port(self.interventions)

    def touching(self, port: Port) -> list[int]:
        """Runs that replace or freeze something at a port."""
        return self._touching.get(port, [])

    def touched_ports(self, layer: int) -> list[Port]:
        """Ports of a layer at which some run replaces or freezes something, in the order of their computation."""
        order = (*KINDS, STREAM)
        ports = (port for port in self._touching if port.layer == layer)
        return sorted(ports, key=lambda port: (order.index(port.kind), port.part))

    def touching_layer(self, layer: int) -> list[int]:
        """Runs that replace or freeze something in a layer."""
        return self.touching_kinds(layer, KINDS)

    def touching_kinds(self, layer: int, kinds: Collection[Kind]) -> list[int]:
        """Runs that replace or freeze something at ports of some kinds in a layer."""
        ports = (port for port in self._touching if port.layer == layer and port.kind in kinds)
        return sorted({row for port in ports for row in self._touching[port]})

    def patch(self, port: Port, rows: Iterable[int], entries: int) -> Patch:
        """The patch of some runs at a port.

        Args:
            port: the port.
            rows: the runs.
            entries: number of entries of the port.
        """
        chosen = [self.interventions[row] for row in rows]
        replaced = [[site for site in run.replaced if site.port == port] for run in chosen]
        frozen = [[site for site in run.frozen if site.port == port] for run in chosen]
        put = _mask(replaced, entries, self.clean.tokens.shape[1], self.clean.sigma.device)
        held = _mask(frozen, entries, self.clean.tokens.shape[1], self.clean.sigma.device)
        held = held & ~put
        return Patch(
            put.expand_as(held) if held.shape[2] > 1 else put, held.expand_as(put) if put.shape[2] > 1 else held
        )

    def replace(self, port: Port, rows: RunNumbers, patch: Patch, replacement: Tensor) -> Tensor:
        """Books direct effects of what is replaced, and of what is put there.

        Args:
            port: the port.
            rows: the runs.
            patch: the runs' patch.
            replacement: replacement of the port's outputs, [window, position, entry, size].

        Returns:
            The change, [run, B, P].
        """
        put = mask_at_predictions(self.clean, patch.put)
        before, after = (
            self.clean.direct_effects_at(port, outputs).masked_fill(~put, 0).sum(-1) for outputs in (None, replacement)
        )
        self.before[rows] += before
        self.after[rows] += after
        return after - before

    def book_heads(self, layer: int, rows: RunNumbers, change: Tensor) -> None:
        """Changes in direct effects of heads that are not ablated, [run, B, P, head]."""
        if self.by_head is not None:
            self.by_head[rows, ..., layer, : change.shape[-1]] = change

    def book_attention(self, layer: int, rows: RunNumbers, change: Tensor) -> None:
        """The sum of the same over heads, [run, B, P]."""
        self.by_attention[rows, ..., layer] = change

    def book_mlp(self, layer: int, write: int, rows: RunNumbers, change: Tensor) -> None:
        """The change in the direct effect of a write of the layer's MLP, less that of its neurons that are replaced,
        [run, B, P]; added up where it writes several times."""
        self.by_mlp[rows, ..., layer] += change
        if self.by_mlp_write is not None:
            self.by_mlp_write[rows, ..., layer, write] = change

    def book_mixer(self, layer: int, rows: RunNumbers, change: Tensor) -> None:
        """The change in the mixer's direct effect, [run, B, P]."""
        self.by_mixer[rows, ..., layer] = change

    def book_post_norm(self, rows: RunNumbers, change: Tensor) -> None:
        """What attention's write changed by beyond its heads at the norm's clean scale, [run, B, P]."""
        self.post_norms[rows] += change

    def untouched(self, patch: Patch, change: Tensor) -> Tensor:
        """Changes in direct effects [run, B, P, entry] of entries that are neither replaced nor held; exactly zero
        elsewhere."""
        return change.masked_fill(mask_at_predictions(self.clean, patch.put | patch.held), 0)

    def booked(self, row: int) -> Booked:
        """A copy of what one run's accounts hold by now."""
        sums = {name: getattr(self, name) for name in _SUMS}
        return {name: value[row].clone() for name, value in sums.items() if value is not None}

    def take_over(self, row: int, booked: Booked) -> None:
        """Goes on from what the accounts of another run held."""
        for name, value in booked.items():
            getattr(self, name)[row] = value

    def ledger(self, rows: RunNumbers, effect: Tensor, norm: Tensor, sigma_ratio: Tensor, curvature: Tensor) -> Ledger:
        """The ledger of some runs, from what is read at the end, [run, B, P] each.

        Args:
            rows: the runs.
            effect: linear part of the total effect.
            norm: the final norm's line.
            sigma_ratio: clean scale over the ablated one.
            curvature: the rest of the total effect.
        """
        chosen = self.interventions[rows] if isinstance(rows, slice) else tuple(self.interventions[r] for r in rows)
        return Ledger(
            interventions=chosen,
            direct_effect=self.before[rows],
            ablated_direct_effect=self.after[rows],
            total_effect=effect + curvature,
            by_attention=self.by_attention[rows],
            by_mlp=self.by_mlp[rows],
            by_mlp_write=None if self.by_mlp_write is None else self.by_mlp_write[rows],
            by_mixer=self.by_mixer[rows],
            by_head=None if self.by_head is None else self.by_head[rows],
            post_norms=self.post_norms[rows],
            norm=norm,
            sigma_ratio=sigma_ratio,
            curvature=curvature,
        )


def require_sites(model: LanguageModel, length: int, interventions: Iterable[Intervention]) -> None:
    """Refuses sites that the model, or windows of `length` positions, do not have.

    Raises:
        SelfRepairError: naming the site.
    """
    anatomy = model.anatomy
    for site in dict.fromkeys(site for intervention in interventions for site in intervention.sites):
        layer = site.port.layer
        if isinstance(site, AtSpan):
            raise SelfRepairError(
                f"{site} is at a span, which lies elsewhere in each prompt.",
                "Measure it on prompts (selfrepair.questions), or give positions: At(site, (3, 4)).",
            )
        if not 0 <= layer < anatomy.layers:
            raise SelfRepairError(f"There is no {site}.", f"The model has layers 0 to {anatomy.layers - 1}.")
        entries = place_of(model, site.port).entries
        if any(not 0 <= entry < entries for entry in site.entries or ()):
            raise SelfRepairError(f"There is no {site}.", f"In layer {layer} they are counted from 0 to {entries - 1}.")
        for position in site.positions or ():
            if not -length <= position < length:
                raise SelfRepairError(
                    f"{site} is at position {position}, and windows have {length}.",
                    f"Positions are counted from 0 to {length - 1}, or from -1 backwards.",
                )


def direct_effects(clean: CleanRun, interventions: Sequence[Intervention]) -> Tensor:
    """Clean direct effects of the sites that interventions replace, added up, [intervention, window, P]."""
    total = clean.sigma.new_zeros(len(interventions), *clean.reading.shape)
    for port in sorted({site.port for intervention in interventions for site in intervention.replaced}):
        effects = clean.direct_effects_at(port)
        sites = [[site for site in run.replaced if site.port == port] for run in interventions]
        put = mask_at_predictions(clean, _mask(sites, effects.shape[-1], clean.tokens.shape[1], effects.device))
        total += effects.masked_fill(~put, 0).sum(-1)
    return total


def mask_at_predictions(clean: CleanRun, mask: Tensor) -> Tensor:
    """A mask [run, 1, 1 or position, entry] at the predictions: [run, 1, 1 or P, entry], or [run, B, P, entry]."""
    if mask.shape[2] == 1:
        return mask
    if clean.reading.positions is not None:
        mask = mask.expand(-1, len(clean.tokens), -1, -1)
    return clean.reading.at(mask)


def nothing_happens(
    anatomy: Anatomy, clean: CleanRun, interventions: Sequence[Intervention], per_component: bool
) -> Iterable[Ledger]:
    """The ledger of interventions that replace nothing: zero throughout. None if there are none."""
    idle = [intervention for intervention in interventions if intervention.start is None]
    if idle:
        accounts = Accounts(anatomy, clean, idle, per_component)
        zero = torch.zeros_like(accounts.before)
        yield accounts.ledger(slice(None), zero, zero.clone(), torch.ones_like(zero), zero.clone())


def _rows_by_port(interventions: Sequence[Intervention]) -> dict[Port, list[int]]:
    """Which runs do something at each port, lowest first; nothing happens below a run's start."""
    rows: dict[Port, list[int]] = {}
    for row, intervention in enumerate(interventions):
        for port in dict.fromkeys(site.port for site in intervention.sites):
            if intervention.start is not None and port.layer >= intervention.start:
                rows.setdefault(port, []).append(row)
    return rows


def _mask(sites: Sequence[Sequence[Site]], entries: int, positions: int, device: torch.device) -> Tensor:
    """Where the sites of each run lie, [run, 1, 1 or position, entry]."""
    everywhere = all(site.positions is None for run_sites in sites for site in run_sites)
    mask = torch.zeros(len(sites), 1, 1 if everywhere else positions, entries, dtype=torch.bool)
    for row, run_sites in enumerate(sites):
        for site in run_sites:
            chosen = slice(None) if site.entries is None else list(site.entries)
            places = [slice(None)] if site.positions is None else [position % positions for position in site.positions]
            for position in places:
                mask[row, 0, position, chosen] = True
    return mask.to(device)
