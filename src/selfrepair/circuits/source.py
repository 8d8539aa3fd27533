"""A circuit file of unknown origin, opened: text and what it says as JSON or YAML; pickles are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from selfrepair.ablation.edges import Edge
from selfrepair.ablation.name_lists import Place, Written
from selfrepair.ablation.shape import Shape
from selfrepair.circuits.selection import Rank
from selfrepair.circuits.yaml_text import once_each, parsed_yaml
from selfrepair.errors import SelfRepairError
from selfrepair.reading import parsed_json, read_bytes

MOST_BYTES = 128 * 2**20
_MOST_VALUES = 2**23  # a graph of a million edges
_MOST_LAYERS, _MOST_HEADS = 1_000, 1_000  # a number in a file is not trusted
_INSTEAD = {
    ".pkl": "For ACDC, write its edges as text, one a line: receiver hook, sender hook, effect.",
    ".pt": "For CircuitKIT, give its *_scores.json or the JSON of a CircuitArtifact: circuit.pt lists what was pruned.",
}


@dataclass(frozen=True)
class Read:
    """What a reader found."""

    roles: Mapping[str, Sequence[Place]]
    edges: tuple[Edge, ...] = ()
    scores: Mapping[Place, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CircuitFile:
    """A file: its text, and its content where it is JSON or YAML.

    Attributes:
        path: the file.
        shape: of the model that the circuit has to be of; None if none was given.
        content: its bytes.
    """

    path: Path
    shape: Shape | None
    content: bytes

    @property
    def is_torch(self) -> bool:
        """Whether it is a file of `torch.save`."""
        return self.content.startswith(b"PK")

    @cached_property
    def text(self) -> str:
        """As UTF-8.

        Raises:
            SelfRepairError: it is not.
        """
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SelfRepairError(f"{self.path} is not text.", "Give text, JSON, YAML or EAP-IG's .pt.") from None

    @cached_property
    def data(self) -> Any:
        """What JSON or YAML says; None for other text. Numbers keep their digits (`Written`).

        Raises:
            SelfRepairError: it is damaged, nested beyond reason or too large.
        """
        if self.is_torch:
            return None
        if self.path.suffix.lower() in (".yaml", ".yml"):
            return self._yaml()
        if self.text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            return parsed_json(self.text, _MOST_VALUES, parse_float=Written, object_pairs_hook=once_each)
        except ValueError as problem:
            if self.path.suffix.lower() != ".json":
                return None  # `[9, 6] [9, 9]` is a list of heads
            raise self.damaged(f"it is no JSON that can be read: {problem}") from None

    def _yaml(self) -> Any:
        try:
            return parsed_yaml(self.text)
        except ValueError as problem:
            raise self.damaged(f"it is no YAML that can be read: {problem}") from None

    def mapping(self, *keys: str) -> Mapping[str, Any] | None:
        """Its content if it is a mapping that has all of these keys."""
        data = self.data
        return data if isinstance(data, dict) and all(key in data for key in keys) else None

    def damaged(self, what: str) -> SelfRepairError:
        """What to say of content that does not make sense."""
        return SelfRepairError(f"{self.path.name} cannot be used: {what}.", "Write the file again, or take it again.")

    def require_shape(self, layers: object, heads: object) -> tuple[int, int]:
        """Layers and heads of each, as the file says, held against the model.

        Raises:
            SelfRepairError: they are no sensible numbers, or those of another model.
        """
        numbers = [one for one in (layers, heads) if isinstance(one, int) and not isinstance(one, bool) and one > 0]
        if len(numbers) < 2 or numbers[0] > _MOST_LAYERS or numbers[1] > _MOST_HEADS:
            given = f"{str(layers)[:20]!r} and {str(heads)[:20]!r}"
            raise self.damaged(f"it says that its model has so many layers and heads of each: {given}")
        shape = self.shape
        if shape is not None and (numbers[0] != shape.layers or numbers[1] != max(shape.heads)):
            raise SelfRepairError(
                f"{self.path.name} is of another model: one of {numbers[0]} layers of {numbers[1]} heads; "
                f"this model has {shape.in_words}.",
                "Give the model that the circuit was found in, or a circuit of this model.",
            )
        return numbers[0], numbers[1]


class Recognises(Protocol):
    """Whether a file is of a format."""

    def __call__(self, source: CircuitFile) -> bool:
        """From what is in it."""
        ...


@dataclass(frozen=True)
class CircuitFormat:
    """How one format is recognised and read."""

    recognises: Recognises
    read: Callable[[CircuitFile, int | None, Rank | None], Read]


def open_source(path: Path, shape: Shape | None = None) -> CircuitFile:
    """Opens a file.

    Args:
        path: the file.
        shape: of the model that the circuit has to be of.

    Raises:
        SelfRepairError: it cannot be read, is too large, or is a pickle.
    """
    try:
        content = read_bytes(path, MOST_BYTES)
    except OSError as problem:
        raise SelfRepairError(f"{path} cannot be read: {problem.strerror}.", "Give a file with a circuit.") from None
    suffix = path.suffix.lower()
    if content.startswith(b"\x80") or suffix in (".pkl", ".pickle"):
        raise refused_pickle(path)
    return CircuitFile(path, shape, content)


def refused_pickle(path: Path) -> SelfRepairError:
    """What to say of pickles, which run code when they are opened."""
    suffix = {".pickle": ".pkl", ".pth": ".pt"}.get(path.suffix.lower(), path.suffix.lower())
    instead = _INSTEAD.get(suffix, " ".join(_INSTEAD.values()))
    return SelfRepairError(
        f"{path.name} is a pickle, which runs code when it is opened; none is read.",
        f"{instead} For AutoCircuit's prune scores, give the edges' names as text (A9.9->A10.0.Q), for circuit-tracer "
        "the graph's JSON.",
    )
