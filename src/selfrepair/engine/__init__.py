"""Engines: how ablated runs are computed. One contract, and a reference that the others are held equal to."""

from selfrepair.engine.contract import Engine as Engine
from selfrepair.engine.delta import DeltaEngine as DeltaEngine
from selfrepair.engine.reference import ReferenceEngine as ReferenceEngine
from selfrepair.engine.replay import ReplayEngine as ReplayEngine
from selfrepair.errors import SelfRepairError


def engine_named(name: str) -> Engine:
    """The engine of that name, `delta`, `replay` or `reference`.

    Raises:
        SelfRepairError: for other names.
    """
    engines: dict[str, Engine] = {"delta": DeltaEngine(), "replay": ReplayEngine(), "reference": ReferenceEngine()}
    if name not in engines:
        raise SelfRepairError(f"No engine is called '{name}'.", f"There are: {', '.join(engines)}.")
    return engines[name]
