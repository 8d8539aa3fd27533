"""Refuses plans whose numbers are beyond reason or disagree with the text beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from selfrepair.ablation.interventions import Intervention
from selfrepair.errors import SelfRepairError
from selfrepair.statistics.features import FEATURES
from selfrepair.statistics.filters import Filter
from selfrepair.text import Windows

MOST_REPLICATES, MOST_SEED = 100_000, 2**63 - 1
_MOST_BYTES = 2**34  # of all heads' sums with their replicates, which a merge holds in memory
_RANGES: dict[tuple[str, ...], tuple[int, int]] = {
    ("model", "layers"): (1, 10_000),
    ("model", "heads"): (0, 10_000),
    ("text", "windows"): (1, 2**31),
    ("text", "positions"): (2, 2**24),
    ("text", "documents"): (1, 2**31),
    ("text", "scored_tokens"): (1, 2**40),
    ("text", "first_position"): (0, 2**24),
    ("ablation", "draws"): (1, 10_000),
    ("ablation", "donors"): (0, 10_000),
    ("machine", "threads"): (1, 4096),
    ("seed",): (0, MOST_SEED),
    ("sample",): (0, 10**7),
    ("replicates",): (2, MOST_REPLICATES),
    ("windows_per_batch",): (1, 2**24),
    ("windows_per_exact_batch",): (1, 2**24),
    ("windows_per_unit",): (1, 2**24),
    ("runs_held",): (1, 2**32),
}
_KINDS: dict[tuple[str, ...], type | tuple[type, ...]] = {
    ("model", "dtype"): str,
    ("model", "name"): str,
    ("model", "precision"): str,
    ("model", "weights"): str,
    ("model", "source"): (dict, type(None)),
    ("text", "fingerprint"): str,
    ("ablation", "operator"): str,
    ("ablation", "donors_fingerprint"): str,
    ("machine", "device"): str,
    ("versions",): dict,
    ("engine",): str,
    ("engine_settings",): dict,
    ("engine_reason",): str,
    ("engine_by_name",): bool,
    ("components",): str,
    ("memory_predicted",): (int, float),
    ("until",): (dict, type(None)),
    ("phases",): (dict, type(None)),
    ("budget",): (dict, type(None)),
    ("heads",): list,
    ("filters",): list,
}
_MOST_FILTERS = 32  # the page has a bit for each
_FIX = "The plan is damaged or was made up: copy the folder again, or start a new run."


def require_sane(plan: Mapping[str, Any], fix: str = _FIX) -> None:
    """Refuses a plan with numbers beyond reason, or without some entry.

    Args:
        plan: the content of `plan.json`.
        fix: the usual fix, for the message.

    Raises:
        SelfRepairError: naming the entry.
    """
    for path, kind in _KINDS.items():
        value = _entry(plan, path, fix)
        if not isinstance(value, kind):
            names = [type_.__name__ for type_ in (kind if isinstance(kind, tuple) else (kind,))]
            raise _wrong(path, value, " or ".join(names).replace("NoneType", "null"), fix)
    for path, (low, high) in _RANGES.items():
        value = _entry(plan, path, fix)
        if type(value) is not int or not low <= value <= high:
            raise _wrong(path, value, f"a whole number from {low:,} to {high:,}", fix)
    _require_heads(plan, fix)
    if not 0 < len(plan["filters"]) <= _MOST_FILTERS or not all(isinstance(label, str) for label in plan["filters"]):
        raise _wrong(("filters",), plan["filters"], f"1 to {_MOST_FILTERS} labels", fix)
    for label in plan["filters"]:
        Filter.parse(label)
    _require_until(plan["until"], fix)
    _require_phases(plan, fix)


def require_fitting(plan: Mapping[str, Any], windows: Windows, donors: np.ndarray) -> None:
    """Refuses a plan whose numbers are not those of the text that lies beside it.

    Raises:
        SelfRepairError: naming the number, in the plan and in the text.
    """
    text = plan["text"]
    pairs = {
        "windows": (text["windows"], len(windows)),
        "positions": (text["positions"], windows.length),
        "documents": (text["documents"], len(np.unique(windows.documents[windows.documents >= 0]))),
        "scored tokens": (text["scored_tokens"], int(windows.scored(text["first_position"]).sum())),
        "donors": ([text["windows"], plan["ablation"]["donors"]], list(donors.shape)),
    }
    for what, (stated, held) in pairs.items():
        if stated != held:
            raise SelfRepairError(f"The plan says {what}: {stated}; the text beside it has {held}.", _FIX)


def _require_heads(plan: Mapping[str, Any], fix: str) -> None:
    layers, heads = plan["model"]["layers"], plan["model"]["heads"]
    given = plan["interventions"]
    if given is not None:
        try:
            starts = [Intervention.parsed(text).start for text in given]
        except (TypeError, KeyError, AttributeError, ValueError):
            raise _wrong(("interventions",), given, "names of sites that are replaced and frozen", fix) from None
        if starts != [pair[0] for pair in plan["heads"]]:
            raise _wrong(("interventions",), starts, "those that start in the layers of `heads`", fix)
        heads = len(given)
    size = (plan["replicates"] + 1) * layers * heads * len(FEATURES) * 8
    if size > _MOST_BYTES:
        raise SelfRepairError(
            f"{plan['replicates']:,} replicates of {layers * heads:,} heads take {size / 1e9:,.0f} GB to add up.",
            "Ask for fewer replicates; 400 are usual.",
        )
    seen = set()
    for pair in plan["heads"]:
        whole = isinstance(pair, list | tuple) and len(pair) == 2 and all(type(index) is int for index in pair)
        if not whole or not (0 <= pair[0] < layers and 0 <= pair[1] < heads) or tuple(pair) in seen:
            raise _wrong(("heads",), pair, f"different pairs of a layer below {layers} and a head below {heads}", fix)
        seen.add(tuple(pair))
    if not seen:
        raise _wrong(("heads",), plan["heads"], "one head at least", fix)


def _require_until(until: Any, fix: str) -> None:
    if until is None:
        return
    error, of = until.get("standard_error"), until.get("of")
    if not isinstance(error, int | float) or not 0 < error < np.inf or of not in ("card", "heads"):
        raise _wrong(("until",), until, "a standard error above 0 of 'card' or 'heads'", fix)


def _require_phases(plan: Mapping[str, Any], fix: str) -> None:
    positions, phases = _entry(plan, ("ablation", "positions"), fix), plan["phases"]
    if positions not in ("all", "own"):
        raise _wrong(("ablation", "positions"), positions, "'all' or 'own'", fix)
    if phases is None:
        return
    exact, documents = phases.get("exact_documents"), phases.get("documents")
    whole = type(exact) is int and type(documents) is int
    named = all(isinstance(phases.get(name), str) for name in ("surrogate", "words", "words_of_all"))
    if not whole or not named or not 2 <= exact <= documents <= plan["text"]["documents"]:
        raise _wrong(("phases",), phases, "a surrogate, and 2 exact documents or more of those with scored tokens", fix)


def _entry(plan: Mapping[str, Any], path: tuple[str, ...], fix: str) -> Any:
    value: Any = plan
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            raise SelfRepairError(f"The plan has no entry '{'.'.join(path)}'.", fix)
        value = value[name]
    return value


def _wrong(path: tuple[str, ...], value: object, wanted: str, fix: str) -> SelfRepairError:
    return SelfRepairError(f"The plan says {'.'.join(path)} = {repr(value)[:80]}; {wanted} was expected.", fix)
