"""Forwards of unchanged prompts, made once for all the measurements of a question.

An audit measures the same prompts a dozen times, and each time starts from their clean runs and what their twins do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from selfrepair.effects.readouts import Reading
from selfrepair.engine.clean import CleanRun, PortRun, clean_run, port_outputs
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port

_MOST = 2**30  # bytes

Outputs = dict[Port, Tensor]


@dataclass
class KeptForwards:
    """Clean runs and outputs by the tokens they are of, the most recent first to stay.

    The model may not change while it is in use.

    Attributes:
        most: bytes that are kept at most.
    """

    most: int = _MOST
    _clean: dict[bytes, CleanRun] = field(default_factory=dict)
    _outputs: dict[bytes, Outputs] = field(default_factory=dict)

    @contextmanager
    def used(self) -> Iterator[None]:
        """All measurements inside take their forwards of unchanged prompts from here."""
        token = _IN_USE.set(self)
        try:
            yield
        finally:
            _IN_USE.reset(token)

    def clean(self, model: LanguageModel, tokens: Tensor, reading: Reading, ports: Collection[Port]) -> CleanRun:
        """As `clean_run`."""
        key = _key(tokens)
        kept = self._clean.pop(key, None)
        if kept is not None and _same(kept.reading, reading):
            missing = {port for port in ports if port.kind != "heads"} - kept.others.keys()
            ports = {*ports, *kept.others}
        else:
            kept, missing = None, set()
        run = kept if kept is not None and not missing else clean_run(model, tokens, reading, ports)
        self._clean[key] = run
        self._make_room()
        return run

    def outputs(self, model: LanguageModel, tokens: Tensor, ports: Collection[Port]) -> Outputs:
        """As `port_outputs`."""
        key = _key(tokens)
        kept = self._outputs.pop(key, {})
        if not kept.keys() >= set(ports):
            kept = port_outputs(model, tokens, {*ports, *kept})
        self._outputs[key] = kept
        self._make_room()
        return kept

    def _make_room(self) -> None:
        """Drops the least recent, but never the last of its kind, which is at work."""
        while self._size() > self.most and max(len(self._clean), len(self._outputs)) > 1:
            held: dict[bytes, CleanRun] | dict[bytes, Outputs]
            held = self._clean if len(self._clean) >= len(self._outputs) else self._outputs
            held.pop(next(iter(held)))

    def _size(self) -> int:
        return sum(_bytes(one) for held in (self._clean, self._outputs) for one in held.values())


_IN_USE: ContextVar[KeptForwards | None] = ContextVar("kept forwards", default=None)


def clean_of(model: LanguageModel, tokens: Tensor, reading: Reading, ports: Collection[Port] = ()) -> CleanRun:
    """`clean_run`, or the same made before. Call under `model.running()`."""
    kept = _IN_USE.get()
    return clean_run(model, tokens, reading, ports) if kept is None else kept.clean(model, tokens, reading, ports)


def outputs_of(model: LanguageModel, tokens: Tensor, ports: Collection[Port]) -> Outputs:
    """`port_outputs`, or the same made before. Call under `model.running()`."""
    kept = _IN_USE.get()
    return port_outputs(model, tokens, ports) if kept is None else kept.outputs(model, tokens, ports)


def _key(tokens: Tensor) -> bytes:
    return repr(tuple(tokens.shape)).encode() + tokens.cpu().numpy().tobytes()


def _same(kept: Reading, wanted: Reading) -> bool:
    """Whether two readings of the same tokens measure the same thing; bent ones are never the same."""
    if kept.value is not None or wanted.value is not None:
        return False
    return all(_equal(getattr(kept, one.name), getattr(wanted, one.name)) for one in fields(Reading))


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return one is other


def _bytes(value: object) -> int:
    """Of all tensors in a clean run or in outputs."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, CleanRun | PortRun):
        return sum(_bytes(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, tuple) else 0
