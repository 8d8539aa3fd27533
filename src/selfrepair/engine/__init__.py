"""Engines: how ablated runs are computed. One contract, and a reference that the others are held equal to."""

from collections.abc import Callable
from typing import Any

from selfrepair import choices
from selfrepair.engine.contract import Engine as Engine
from selfrepair.engine.delta import DeltaEngine as DeltaEngine
from selfrepair.engine.reference import ReferenceEngine as ReferenceEngine
from selfrepair.engine.replay import ReplayEngine as ReplayEngine
from selfrepair.errors import SelfRepairError
from selfrepair.registry import Registry

ENGINES: Registry[Callable[..., Engine]] = choices.ENGINES
"""What makes each engine from its `settings`, as keywords."""


def engine_made_by_name(given: Engine) -> bool:
    """Whether its name and its settings make this engine again, in another process: it is of the very class that the
    name stands for, not another that has the same name."""
    if given.name not in ENGINES:
        return False
    own_class: object = type(given)
    return own_class is ENGINES[given.name]


def engine_named(name: str, **settings: Any) -> Engine:
    """The engine of that name.

    Args:
        name: `delta`, `replay`, `reference`, or one from another package's entry point in `selfrepair.engines`.
        settings: as in its `settings`; what is left out is at its default.

    Raises:
        SelfRepairError: for other names, or a package that fails.
    """
    maker = ENGINES[name]
    if not ENGINES.versions(name):
        return maker(**settings)
    try:
        made = maker(**settings)
        own_name = made.name
    except Exception as problem:  # whatever another package does
        raise SelfRepairError(
            f"The engine '{name}' ({ENGINES.origin(name)}) cannot be made: {type(problem).__name__}: {problem}",
            "It is called without arguments, and by `resume` and workers with its `settings` as keywords.",
        ) from problem
    if own_name != name:
        raise SelfRepairError(
            f"The engine '{name}' ({ENGINES.origin(name)}) calls itself '{own_name}'.",
            "Give its entry point and its attribute `name` the same name: workers and `resume` find it by that.",
        )
    return made
