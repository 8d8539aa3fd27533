"""Published slopes of self-repression compared with measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.published.reference_folder import read_self_repression, same_model
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.pictures.picture import Marks, Panel, Picture, Rule, square

SECTION = "published"


def compare_self_repression(
    folder: str | Path, model: str, slopes: Mapping[tuple[str, float], Number], measured_on: str = ""
) -> Exhibit | None:
    """Compares published slopes of self-repression with measured ones.

    Args:
        folder: the reference folder.
        model: the measured model's name.
        slopes: measured, by (head as `L21H1`, scale).
        measured_on: model, tokens and documents that they were measured on, for the caption.

    Returns:
        The comparison; None if the folder has no such slope of the model.

    Raises:
        SelfRepairError: as `read_self_repression`.
    """
    table = read_self_repression(folder)
    mine = table[[same_model(str(name), model) for name in table["model"]]]
    if mine.empty:
        return None
    rows = pd.DataFrame(
        [
            _slope_row(row, slopes[key])
            for row in mine.to_dict("records")
            if (key := (str(row["head"]), float(row["scaling"]))) in slopes
        ]
    )
    title = "Self-repression, published and measured"
    if rows.empty:
        known = ", ".join(dict.fromkeys(map(str, mine["head"])))
        why = "the scan chose others" if slopes else "the experiment called iterative was not made"
        caption = f"Slopes were published for {known} of {model}; none was measured here, since {why}: no comparison."
        return Exhibit("published-self-repression", "Published tables", SECTION, title, caption, _plain_slopes(mine))
    names = tuple(f"{head} × {scale:g}" for head, scale in zip(rows["head"], rows["scale"], strict=True))
    numbers = tuple(
        Number(f"{name}: slope, measured - published", float(apart))
        for name, apart in zip(names, rows["measured"] - rows["published"], strict=True)
    )
    caption = (
        f"Slopes of self-repression that the authors published, beside those measured on {model}, both at the "
        f"intervened run's own final scale. {measured_on} "
        "Tolerance: this run's 95% interval and that of the published slope, from its correlation and number of tokens "
        "(taken for independent, so rather narrow), added as squares. "
        + " ".join(map(_slope_verdict, rows.to_dict("records")))
    )
    return Exhibit(
        "published-self-repression",
        "Published tables",
        SECTION,
        title,
        caption,
        rows,
        numbers,
        Picture((_slope_panel(rows, names),), 1),
    )


def _slope_panel(rows: pd.DataFrame, names: tuple[str, ...]) -> Panel:
    """Measured slopes over published ones, with both intervals."""
    error = np.nan_to_num(np.stack([rows["measured"] - rows["low"], rows["high"] - rows["measured"]]))
    x, y = rows["published"].to_numpy(np.float64), rows["measured"].to_numpy(np.float64)
    theirs = np.nan_to_num(rows["published interval, half"].to_numpy(np.float64))
    label = "a head and scale, 95% intervals"
    marks = Marks(x, y, label=label, names=names, x_error=np.stack([theirs, theirs]), y_error=error, size=5)
    ends = square(x, y)
    return Panel(
        f"{len(rows)} slopes of {rows['head'].nunique()} heads: new on clean direct effect",
        "published slope",
        "measured here",
        (marks,),
        (Rule(1, label="equal"),),
        ends,
        ends,
        notes=tuple(zip(x.tolist(), y.tolist(), names, strict=True)),
    )


def _slope_row(row: Mapping[Any, Any], number: Number) -> dict[str, Any]:
    slope, correlation, tokens = (float(row[name]) for name in ("ols_slope", "pearson_r", "n"))
    spread = (1 / correlation**2 - 1) / (tokens - 2) if correlation and tokens > 2 else float("nan")
    theirs = 1.96 * abs(slope) * float(np.sqrt(max(spread, 0.0))) if np.isfinite(spread) else float("nan")
    return {
        "head": str(row["head"]),
        "scale": float(row["scaling"]),
        "published": slope,
        "published interval, half": theirs,
        "published tokens": tokens,
        "measured": number.value,
        "low": number.low,
        "high": number.high,
        "documents": number.documents,
        "tolerance": float(np.hypot((number.high - number.low) / 2, theirs)),
    }


def _plain_slopes(mine: pd.DataFrame) -> pd.DataFrame:
    return mine[["head", "scaling", "ols_slope"]].reset_index(drop=True)


def _slope_verdict(row: Mapping[Any, Any]) -> str:
    tokens = f" on {row['published tokens']:,.0f} tokens" if np.isfinite(row["published tokens"]) else ""
    words = (
        f"{row['head']} × {row['scale']:g}: published {row['published']:.2f}{tokens}, measured {row['measured']:.2f}"
    )
    gap = row["measured"] - row["published"]
    if not np.isfinite(gap):
        return words + " (no verdict: one of them is no number)."
    if not np.isfinite(row["tolerance"]):
        return words + " (no verdict: one of them has no interval)."
    within = "within" if abs(gap) <= row["tolerance"] else "outside"
    return f"{words} ({within} the tolerance of ±{row['tolerance']:.2f})."
