"""Arrays as text inside the page: bytes by plane, deflated, in base64; the browser unpacks it when a view needs it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MISSING = -(2**31)  # stands for NaN in fixed-point arrays
_KINDS = {"float32": "<f4", "int32": "<i4", "uint16": "<u2", "uint8": "|u1"}


@dataclass(frozen=True)
class Fixed:
    """Numbers to a fixed step: small ones then take few bytes.

    Args:
        values: any shape; NaN is kept.
        step: the unit of the last digit.
    """

    values: np.ndarray
    step: float


@dataclass
class Blocks:
    """The page's data, block by block.

    Attributes:
        texts: base64 of each block.
    """

    texts: list[str] = field(default_factory=list)

    def arrays(self, given: Mapping[str, np.ndarray | Fixed]) -> dict[str, Any]:
        """Adds a block of arrays; returns what the browser needs to find them again."""
        parts, described = [], []
        for name, value in given.items():
            kind, plain, more = _plain(value)
            parts.append(np.ascontiguousarray(plain.reshape(-1, 1).view(np.uint8).T).tobytes())
            described.append({"name": name, "kind": kind, "shape": list(plain.shape), **more})
        return {"block": self._add(b"".join(parts)), "arrays": described}

    def json(self, content: object) -> dict[str, Any]:
        """Adds a block of JSON."""
        return {"block": self._add(json.dumps(content, ensure_ascii=False, allow_nan=False).encode())}

    def raw(self, content: bytes) -> dict[str, Any]:
        """Adds a block of bytes."""
        return {"block": self._add(content)}

    def _add(self, content: bytes) -> int:
        self.texts.append(base64.b64encode(zlib.compress(content, 9)).decode())
        return len(self.texts) - 1


def exact(values: np.ndarray) -> Any:
    """Numbers as nested lists for JSON, which has no infinity: `"Infinity"` for it, None for missing numbers."""
    given = np.asarray(values, float)
    plain = np.asarray(values).astype(object)
    plain[np.isnan(given)] = None
    plain[np.isposinf(given)], plain[np.isneginf(given)] = "Infinity", "-Infinity"
    return plain.tolist()


def plain_json(content: object) -> str:
    """JSON that may stand inside a script element: nothing in it ends the element or starts a comment."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: np.ndarray | Fixed) -> tuple[str, np.ndarray, dict[str, float]]:
    if isinstance(value, Fixed):
        with np.errstate(invalid="ignore"):
            whole = np.where(np.isfinite(value.values), np.round(value.values / value.step), MISSING)
        return "fixed", np.clip(whole, MISSING, 2**31 - 1).astype("<i4"), {"step": value.step}
    kind = str(value.dtype)
    return kind, value.astype(_KINDS[kind]), {}
