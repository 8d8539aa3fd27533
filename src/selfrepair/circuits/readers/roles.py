"""Lists of components with or without roles: text, JSON, YAML; the last resort, which reads any names."""

from __future__ import annotations

from selfrepair.ablation.name_lists import uncommented
from selfrepair.ablation.names import parse_groups
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.source import CircuitFile, CircuitFormat, Read, refused_pickle
from selfrepair.errors import SelfRepairError

_MOST_BYTES = 4 * 2**20  # of names


def _recognises(source: CircuitFile) -> bool:
    return True


def _read(source: CircuitFile, top: int | None, rank: Rank | None) -> Read:
    if source.is_torch:
        raise refused_pickle(source.path)
    if top is not None or rank is not None:
        raise SelfRepairError(f"{source.path.name} is a list without scores to choose by.", "Leave top and rank out.")
    if source.mapping("prompts") is not None:
        raise SelfRepairError(f"{source.path.name} has prompts, not a circuit.", "Give it as the prompts.")
    data = source.data
    if data is None and len(source.content) > _MOST_BYTES:
        raise source.damaged("it is too large for a list of names")
    names = uncommented(source.text) if data is None else data
    return Read(parse_groups(names, files=False))  # names in a file are never names of other files


ROLES = CircuitFormat(_recognises, _read)
