"""Engines: how ablated runs are computed. One contract, and a reference that the others are held equal to."""

from typing import Any

from selfrepair.engine.contract import Engine as Engine
from selfrepair.engine.delta import DeltaEngine as DeltaEngine
from selfrepair.engine.reference import ReferenceEngine as ReferenceEngine
from selfrepair.engine.replay import ReplayEngine as ReplayEngine
from selfrepair.errors import SelfRepairError

ENGINES: dict[str, type[DeltaEngine | ReplayEngine | ReferenceEngine]] = {
    "delta": DeltaEngine,
    "replay": ReplayEngine,
    "reference": ReferenceEngine,
}


def engine_named(name: str, **settings: Any) -> Engine:
    """The engine of that name.

    Args:
        name: `delta`, `replay` or `reference`.
        settings: as in its `settings`; what is left out is at its default.

    Raises:
        SelfRepairError: for other names.
    """
    if name not in ENGINES:
        raise SelfRepairError(f"No engine is called '{name}'.", f"There are: {', '.join(ENGINES)}.")
    return ENGINES[name](**settings)
