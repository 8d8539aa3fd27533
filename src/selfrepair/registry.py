"""Things of one kind by name: the package's own, and those that other installed packages offer by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from selfrepair.errors import SelfRepairError

T = TypeVar("T")


def offered(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; nothing is imported.

    Raises:
        SelfRepairError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise SelfRepairError(
                f"'{point.name}' of '{group}' is offered by {package_of(other)} and by {package_of(point)}.",
                "Uninstall one of the two packages.",
            )
    return found


def names(own: tuple[str, ...], group: str) -> list[str]:
    """The package's own names, then those that other packages add, for menus: nothing is imported."""
    return [*own, *sorted({*offered(group)} - {*own})]


def package_of(point: EntryPoint) -> str:
    """The distribution that offers an entry point."""
    return "an unnamed package" if point.dist is None else point.dist.name


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name; an own name is never replaced by another package's.

    Args:
        kind: what they are, for messages: `ablation operator`.
        group: the entry points' group, `selfrepair.operators`.
        own: the package's own.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, T]) -> None:
        self.kind, self.group, self._own = kind, group, dict(own)

    def __getitem__(self, name: str) -> T:
        """What has this name; another package's is imported now.

        Raises:
            SelfRepairError: nothing has it, or the package that offers it fails.
        """
        if name in self._own:
            return self._own[name]
        point = offered(self.group).get(name)
        if point is None:
            raise SelfRepairError(f"No {self.kind} is called '{name}'.", f"There are: {', '.join(self)}.")
        return self._loaded(point)

    def _loaded(self, point: EntryPoint) -> T:
        try:
            value: Any = point.load()
        except Exception as problem:  # whatever another package does
            raise SelfRepairError(
                f"The {self.kind} '{point.name}' of the package {package_of(point)} cannot be loaded from "
                f"{point.value}: {type(problem).__name__}: {problem}",
                f"Fix or reinstall {package_of(point)}.",
            ) from problem
        loaded: T = value
        return loaded

    def versions(self, name: str) -> dict[str, str]:
        """The distribution and version that another package's name comes from; empty for the package's own."""
        point = None if name in self._own else offered(self.group).get(name)
        return {} if point is None or point.dist is None else {point.dist.name: point.dist.version}

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in offered(self.group)

    def __iter__(self) -> Iterator[str]:
        return iter(names(tuple(self._own), self.group))

    def __len__(self) -> int:
        return len(list(iter(self)))
