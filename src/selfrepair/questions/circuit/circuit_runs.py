"""The ablated runs that an audit of a circuit needs, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.covering.freeze import all_frozen
from selfrepair.questions.measuring.components import Components, lies_in

CIRCUIT, KEPT, NOTHING_KEPT = "circuit", "all heads but the circuit", "all heads"


@dataclass(frozen=True)
class CircuitRuns:
    """Runs around one circuit.

    MLPs are never ablated by "all heads but the circuit": they stay live, as is usual where a circuit is one of heads.
    What is ablated there is every head of the model that the circuit does not name.

    Attributes:
        components: of the model.
        roles: the circuit's sites, by role.
    """

    components: Components
    roles: Mapping[str, tuple[Site, ...]]

    def __post_init__(self) -> None:
        if not self.members:
            raise SelfRepairError("The circuit is empty.", "Name its heads or MLPs, as 'L9H9,L9H6' or roles in a file.")

    @cached_property
    def members(self) -> tuple[Site, ...]:
        """All sites of the circuit, each once."""
        return tuple(dict.fromkeys(site for sites in self.roles.values() for site in sites))

    @property
    def circuit(self) -> Intervention:
        """All of the circuit ablated."""
        return Intervention(self.members, name=CIRCUIT)

    def with_more(self, more: Sequence[Site]) -> Intervention:
        """The circuit and some more sites ablated."""
        return Intervention((*self.members, *more), name=f"{CIRCUIT} + {'+'.join(map(str, more))}")

    def without(self, sites: Sequence[Site], name: str) -> Intervention | None:
        """The circuit but for some of its sites ablated; None where nothing would be."""
        left = tuple(site for site in self.members if site not in sites)
        return Intervention(left, name=f"{CIRCUIT} - {name}") if left else None

    def kept(self, more: Sequence[Site] = ()) -> Intervention:
        """Every head ablated that is not in the circuit, nor in `more`."""
        inside = (*self.members, *more)
        others = tuple(site for site in self.heads if not lies_in(site, inside))
        suffix = f" and {'+'.join(map(str, more))}" if more else ""
        return Intervention(others, name=KEPT + suffix)

    @property
    def nothing_kept(self) -> Intervention:
        """Every head ablated: where faithfulness is counted from."""
        return Intervention(self.heads, name=NOTHING_KEPT)

    @cached_property
    def heads(self) -> tuple[Site, ...]:
        """All heads of the model."""
        return tuple(site for site in self.components.sites if site.port.kind == "heads")

    def frozen(self) -> Intervention:
        """The circuit ablated and everything downstream frozen: only norms can repair."""
        return all_frozen(self.circuit, self.components)

    def members_alone(self) -> list[Intervention]:
        """Each member ablated alone, where there are several."""
        return [Intervention((site,)) for site in self.members] if len(self.members) > 1 else []

    def all_but_one(self) -> list[Intervention]:
        """The circuit but for one member ablated, for each member."""
        runs = [self.without([site], str(site)) for site in self.members]
        return [run for run in runs if run is not None]

    def several_roles(self) -> dict[str, tuple[Site, ...]]:
        """Roles that are a part of the circuit alone, with more than one member."""
        return {role: sites for role, sites in self.roles.items() if 1 < len(set(sites)) < len(self.members)}

    def role_runs(self) -> list[Intervention]:
        """Each role ablated, and each role but for one of its members."""
        runs = []
        for role, sites in self.several_roles().items():
            runs.append(Intervention(sites, name=role_name(role)))
            for site in sites:
                left = tuple(other for other in sites if other != site)
                runs.append(Intervention(left, name=f"{role_name(role)} - {site}"))
        return runs

    def first_look(self) -> list[Intervention]:
        """All runs that do not depend on what is found."""
        runs = [self.circuit, self.frozen(), self.kept(), self.nothing_kept]
        return [*runs, *self.members_alone(), *self.all_but_one(), *self.role_runs()]


def role_name(role: str) -> str:
    """How the run that ablates a role is called."""
    return f"role {role}"
