"""Reads and checks the tables of a reference folder, which the paper's authors published."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.reading import read_bytes

HEADS, REPRESS = "heads.csv", "self_repress/summary.csv"
# Their name, ours, the quantity, and for two runs of the authors' own script on one model the correlation over heads
# and the median distance of their values, if recorded (docs/methods.md 6.7).
COMPARED: tuple[tuple[str, str, str, float | None, float | None], ...] = (
    ("direct_effects", "direct_effect", "direct effect", 0.93, 0.077),
    ("logit_diff", "total_effect", "total effect", None, None),
    ("self_repair_total", "self_repair", "self-repair", 0.86, 0.087),
    ("self_repair_from_LN", "repair_norm", "repair by the norm", 0.77, None),
    ("self_repair_from_heads", "repair_heads", "repair by heads", None, None),
    ("self_repair_from_layers", "repair_mlps", "repair by MLPs", None, None),
    ("ablated_direct_effects", "ablated_direct_effect", "ablated direct effect", None, None),
)
_OWN = "WITH_SAME_AS_RECEIVING_HEAD"
_MOST = 2**24  # bytes of a table; the published ones have 0.2 MB
_COLUMNS = 200  # a table of few lines and many columns takes 4 kB a column in memory
_ALIASES = {"gpt2": "gpt2-small"}


def read_published_heads(folder: str | Path) -> pd.DataFrame:
    """The published per-head table of a reference folder; measured columns are text, as in the file.

    Raises:
        SelfRepairError: no such folder or table, missing columns, rows without model, set, filter, layer or head,
            or the same head of a set twice.
    """
    path = Path(folder) / HEADS
    if not path.is_file():
        raise SelfRepairError(
            f"The reference folder {folder} has no {HEADS}.", "Give a folder with the published tables."
        )
    table = _read(path, {"set", "model", "filter", "layer", "head", *(theirs for theirs, *_ in COMPARED)})
    for name in ("set", "model", "filter"):
        _refuse(path, name, (table[name].isna() | (table[name].str.strip() == "")).to_numpy(), "is empty")
    for name in ("layer", "head"):
        values = numbers_of(table[name])
        whole = np.isfinite(values) & (values >= 0) & (values == np.round(np.nan_to_num(values)))
        _refuse(path, name, ~whole, "is not a whole number from 0 on")
        table[name] = values.astype(np.int64)
    twice = table.duplicated(["set", "model", "layer", "head"]).to_numpy()
    _refuse(path, "head", twice, "stands in its set twice")
    return table


def read_self_repression(folder: str | Path) -> pd.DataFrame:
    """The published slopes of self-repression with a head's own output; an empty frame if there is no such table.

    Raises:
        SelfRepairError: the table is broken or has no column `model`, `vector_added`, `head`, `scaling` or
            `ols_slope`.
    """
    path = Path(folder) / REPRESS
    if not path.is_file():
        return pd.DataFrame(columns=["model", "head", "scaling", "ols_slope"])
    table = _read(path, {"model", "vector_added", "head", "scaling", "ols_slope"})
    own = table[table["vector_added"] == _OWN].reset_index(drop=True)
    for name in ("scaling", "ols_slope", "pearson_r", "n"):
        own[name] = numbers_of(own[name]) if name in own else np.nan
    return own


def same_model(published: str, measured: str) -> bool:
    """Whether two names mean one model: `gpt2-small`, `gpt2` and `openai-community/gpt2` do."""
    return _plain(published) == _plain(measured)


def _read(path: Path, needed: set[str]) -> pd.DataFrame:
    """A table with all its columns as text."""
    try:
        content = read_bytes(path, _MOST).decode("utf-8")
        if any(len(row) > _COLUMNS for row in csv.reader(io.StringIO(content))):
            raise ValueError(f"it has a line of more than {_COLUMNS} values")
        table = pd.read_csv(io.StringIO(content), dtype=str)
    except (ValueError, OSError, csv.Error) as problem:
        raise SelfRepairError(f"Cannot read {path}: {problem}.", "It has to be comma-separated text.") from problem
    missing = sorted(needed - set(table.columns))
    if missing:
        raise SelfRepairError(f"{path} has no column {', '.join(missing)}.", f"It needs: {', '.join(sorted(needed))}.")
    return table


def _refuse(path: Path, column: str, bad: np.ndarray, what: str) -> None:
    if bad.any():
        rows = ", ".join(str(row + 2) for row in np.nonzero(bad)[0][:3])
        more = f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else ""
        raise SelfRepairError(
            f"{path}, column {column}: what stands in line {rows}{more} {what}.", "Fix or remove these lines."
        )


def numbers_of(texts: pd.Series) -> np.ndarray:
    """[row], numbers; NaN for texts that are not finite numbers."""
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def half_last_digit(texts: Sequence[str]) -> float:
    """Half a unit of the last digit that a column has anywhere: writers leave out trailing zeros."""
    matches = [re.fullmatch(r"\s*[-+]?\d*\.?(\d*)(?:[eE]([-+]?\d+))?\s*", str(text)) for text in texts]
    units = [int(match[2] or 0) - len(match[1]) for match in matches if match]
    return 0.5 * 10.0 ** min(units, default=-300)


def _plain(name: str) -> str:
    short = name.replace("\\", "/").rstrip("/").split("/")[-1].lower()
    return _ALIASES.get(short, short)
