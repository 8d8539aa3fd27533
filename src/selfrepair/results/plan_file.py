"""`plan.json`: written with its own checksum; `windows.parquet` beside it carries a copy, so that a changed plan is
distinguished from a damaged one, and the changes are reported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from selfrepair.errors import SelfRepairError
from selfrepair.reading import open_regular, parsed_json
from selfrepair.results.atomic_files import put
from selfrepair.results.plan_changes import plan_changes
from selfrepair.results.proven import Digests

COPY = b"plan"  # in the metadata of `windows.parquet`
CHECKSUM = "checksum"
_NO_JSON_NUMBER = ("NaN", "Infinity", "-Infinity")


def write_json(content: Mapping[str, object], path: Path) -> Digests:
    """Writes JSON; what is not JSON becomes text."""
    text = json.dumps(json_content(content), indent=2, ensure_ascii=False, allow_nan=False)
    return put(path, (text + "\n").encode())


def write_plan(plan: Mapping[str, object], path: Path) -> Digests:
    """Writes a plan with its checksum."""
    return write_json(_sealed(plan), path)


def copy_of(plan: Mapping[str, object]) -> bytes:
    """A plan as the metadata of `windows.parquet` holds it."""
    return json.dumps(_sealed(plan), ensure_ascii=False).encode()


def opened_plan(content: dict[str, Any], path: Path, windows: Path) -> dict[str, Any]:
    """The plan in the content of a `plan.json`, without its checksum.

    Args:
        content: what the file holds.
        path: the file.
        windows: the `windows.parquet` beside it.

    Raises:
        SelfRepairError: it has been changed since it was written; names the changes.
    """
    given = {name: value for name, value in content.items() if name != CHECKSUM}
    copy = _copy(windows)
    changed = plan_changes(copy, given) if copy is not None else []
    if content.get(CHECKSUM) == _checksum(given) and not changed:
        plan: dict[str, Any] = with_numbers(given)
        return plan
    unknown = "what was changed is unknown" if CHECKSUM in content else "it has no checksum"
    what = "; ".join(changed) or unknown
    raise SelfRepairError(
        f"{path} is not the plan that this run was started with: {what}. Its units would not fit together.",
        "Change it back, or copy it again from where the run was started; for another plan, start a new run.",
    )


def _copy(windows: Path) -> dict[str, Any] | None:
    """The plan in the metadata of a `windows.parquet`; None where there is none to be read, or a damaged one."""
    try:
        with open_regular(windows) as file:
            copy = parsed_json((pq.read_schema(file).metadata or {})[COPY])
    except Exception:  # what is wrong with that file is reported where it is read
        return None
    if not isinstance(copy, dict) or copy.pop(CHECKSUM, None) != _checksum(copy):
        return None
    return copy


def _sealed(plan: Mapping[str, object]) -> dict[str, Any]:
    """A plan with its checksum."""
    content = json_content(plan)
    return {**content, CHECKSUM: _checksum(content)}


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def json_content(content: Mapping[str, object]) -> dict[str, Any]:
    """The content as JSON gives it back; infinities become the text "Infinity"."""
    plain: dict[str, Any] = json.loads(json.dumps(content, default=_plain), parse_constant=str)
    return plain


def with_numbers(content: Any) -> Any:
    """Turns the texts that stand for infinities and NaN back into numbers."""
    if isinstance(content, dict):
        return {key: with_numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_numbers(value) for value in content]
    return float(content) if isinstance(content, str) and content in _NO_JSON_NUMBER else content


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
