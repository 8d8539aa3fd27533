"""Registries: objects of one kind by name, the package's own and those of other packages' entry points."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import Any, Generic, TypeVar

from selfrepair.errors import SelfRepairError

T = TypeVar("T")


def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group. They are searched again only if packages have come or gone since: it takes
    milliseconds, and names are asked for often."""
    return _installed(group, tuple((folder, _changed(folder)) for folder in sys.path))


@cache
def _installed(group: str, _places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(metadata.entry_points(group=group))


def _changed(folder: str) -> int:
    """When a folder that packages are found in was last changed; 0 where there is none."""
    try:
        return os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - asked at every look-up, where a Path takes longer
    except OSError:
        return 0


def package_of(point: EntryPoint) -> str:
    """The distribution that offers an entry point."""
    return "an unnamed package" if point.dist is None else point.dist.name


class Registry(Mapping[str, T], Generic[T]):
    """Objects of one kind by name. Listing names imports nothing; only what is asked for is imported.

    Args:
        kind: name of the kind, for messages: `ablation operator`.
        group: the entry points' group, `selfrepair.operators`.
        own: the package's own, by name, as `module:attribute`.
        reserved: names that mean something else where one of these is chosen.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, str], reserved: tuple[str, ...] = ()) -> None:
        self.kind, self.group, self.reserved = kind, group, reserved
        self._own = {name: EntryPoint(name, value, group) for name, value in own.items()}

    def __getitem__(self, name: str) -> T:
        """The object of this name; it is imported now.

        Raises:
            SelfRepairError: nothing has it, two packages offer it, or the package that offers it fails.
        """
        point = self._point(name)
        if point is None:
            raise SelfRepairError(f"No {self.kind} is called '{name}'.", f"There are: {', '.join(self)}.")
        if name in self._own:
            own: T = point.load()
            return own
        try:
            value: Any = point.load()
        except Exception as problem:  # whatever another package does
            raise SelfRepairError(
                f"The {self.kind} '{name}' of the package {package_of(point)} cannot be loaded from "
                f"{point.value}: {type(problem).__name__}: {problem}",
                f"Fix or reinstall {package_of(point)}.",
            ) from problem
        loaded: T = value
        return loaded

    def origin(self, name: str) -> str:
        """The package that a name comes from, for messages."""
        return ", ".join(self.versions(name)) or "selfrepair"

    def versions(self, name: str) -> dict[str, str]:
        """The distribution and version that another package's name comes from; empty for the package's own."""
        point = None if name in self._own else self._point(name)
        return {} if point is None or point.dist is None else {point.dist.name: point.dist.version}

    def _point(self, name: str) -> EntryPoint | None:
        """The one place that a name stands for; None if there is none.

        Raises:
            SelfRepairError: packages offer different things under this name, or a name that is taken.
        """
        points = [point for point in installed(self.group) if point.name == name]
        own = self._own.get(name)
        if points and (own is not None or name in self.reserved):
            raise SelfRepairError(
                f"The package {package_of(points[0])} offers the {self.kind} '{name}', a name that selfrepair uses.",
                f"Uninstall {package_of(points[0])}, or give its {self.kind} another name.",
            )
        if len({point.value for point in points}) > 1:
            raise SelfRepairError(
                f"The {self.kind} '{name}' is offered by {' and by '.join(package_of(point) for point in points)}.",
                "Uninstall all but one of these packages.",
            )
        return own if own is not None else next(iter(points), None)

    def _others(self) -> set[str]:
        taken = {*self._own, *self.reserved}
        return {point.name for point in installed(self.group)} - taken

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *sorted(self._others())])

    def __len__(self) -> int:
        return len(self._own) + len(self._others())
