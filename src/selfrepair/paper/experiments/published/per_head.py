"""Per-head numbers compared with those that the paper's authors published, for models in a reference folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.published.reference_folder import (
    COMPARED,
    HEADS,
    half_last_digit,
    numbers_of,
    read_published_heads,
    same_model,
)
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.paper.pictures.exhibit_captions import about_run
from selfrepair.pictures.picture import FAINT, Marks, Panel, Picture, Rule, square
from selfrepair.report.captions import fact, span
from selfrepair.results.runs import Run

SECTION = "published"
LEAST_INSIDE = 0.9  # share of heads within tolerance; chance alone would leave 95% inside
LEAST_HEADS = 3
_RULE = (
    "Tolerance of a head: √2 times the half-width of this run's 95% interval, since the published value, whose tokens "
    "are not recorded, is an estimate too and its sampling error is assumed to be as large as ours; plus half a unit "
    f"of the last digit published. A quantity is within tolerance if at least {100 * LEAST_INSIDE:.0f}% of heads are: "
    "chance leaves 95% inside, and heads measured on the same documents miss together."
)


def compare_per_head(run: Run, folder: str | Path) -> Iterator[Exhibit]:
    """Every published set of the run's model compared with the run; nothing if the folder has none.

    A set of all tokens is compared under the filter `all`, one of the top 2% under `top 2%`.

    Raises:
        SelfRepairError: the folder's table is missing or broken; or, after all sets that can be compared, sets of
            another shape of model, of a filter that the run lacks, or of a filter that cannot be read.
    """
    path = Path(folder) / HEADS
    table = read_published_heads(folder)
    mine = table[[same_model(name, fact(run, "model")) for name in table["model"]]]
    refused: list[SelfRepairError] = []
    for name, part in mine.groupby("set", sort=False):
        try:
            yield _compared(run, path, str(name), part)
        except SelfRepairError as problem:
            refused.append(problem)
    if refused:
        raise SelfRepairError(
            " ".join(problem.problem for problem in refused),
            " ".join(dict.fromkeys(problem.fix for problem in refused)),
        )


@dataclass(frozen=True)
class _Pair:
    """One quantity of all heads, published and measured.

    Attributes:
        quantity: its name.
        x: [head], published; NaN if not readable.
        y: [head], measured.
        half: [head], half-widths of the 95% intervals of `y`; NaN if there is none.
        rounding: half a unit of the last digit published.
        rerun: how two runs of the authors correlate and how far apart they lie in the median, where recorded.
    """

    quantity: str
    x: np.ndarray
    y: np.ndarray
    half: np.ndarray
    rounding: float
    rerun: tuple[float | None, float | None]

    @property
    def both(self) -> np.ndarray:
        """[head], whether both values are known."""
        return np.asarray(np.isfinite(self.x) & np.isfinite(self.y))

    @property
    def tolerance(self) -> np.ndarray:
        """[head], how far apart the two may lie; NaN where this run has no interval."""
        return np.asarray(np.sqrt(2.0) * self.half + self.rounding)

    @property
    def comparable(self) -> bool:
        """Whether there are enough heads to compare."""
        return int(self.both.sum()) >= LEAST_HEADS


def _compared(run: Run, path: Path, name: str, theirs: pd.DataFrame) -> Exhibit:
    wanted = _filter_of(path, name, theirs)
    if wanted not in run.filters:
        raise SelfRepairError(
            f"The published set {name} is of {wanted} tokens; the run has no such filter.", "Measure with it."
        )
    shape = int(theirs["layer"].max()) + 1, int(theirs["head"].max()) + 1
    part = run.heads.sel(filter=wanted)
    if shape != part["direct_effect"].shape:
        raise SelfRepairError(
            f"The published set {name} has {shape[0]} layers of {shape[1]} heads; the run has "
            f"{part['direct_effect'].shape[0]} of {part['direct_effect'].shape[1]}.",
            "It is of another model: rename one of them.",
        )
    cells = theirs["layer"].to_numpy(), theirs["head"].to_numpy()
    rows = pd.DataFrame(
        {"name": [f"L{layer}H{head}" for layer, head in zip(*cells, strict=True)], "layer": cells[0], "head": cells[1]}
    )
    rows["tokens"] = part["count"].values[cells].astype(np.int64)
    panels, numbers, verdicts = [], [], []
    for column, ours, quantity, *rerun in COMPARED:
        pair = _pair(part, ours, quantity, theirs[column], cells, (rerun[0], rerun[1]))
        rows[f"published {quantity}"], rows[f"measured {quantity}"] = pair.x, pair.y
        rows[f"tolerance {quantity}"] = pair.tolerance
        numbers += _agreement(pair)
        verdicts.append(_verdict(pair, rows["tokens"].to_numpy(), fact(run, "operator"), f"{path}, column {column}"))
        panels.append(_panel(pair, tuple(rows["name"]), cells[0].astype(np.float64)))
    caption = (
        f"Per-head means of the published set {name} ({theirs['filter'].iloc[0]}) against this run. "
        f"{about_run(run, wanted)} {_RULE} "
        + " ".join(verdicts)
        + " The authors resample from the next batch of the Pile "
        "and count position 0: the tolerance does not allow for that, nor for another text."
    )
    return Exhibit(
        f"published-{_file_name(name)}",
        "Published tables",
        SECTION,
        f"Against the authors' own numbers: {name}",
        caption,
        rows,
        tuple(numbers),
        Picture(tuple(panels), columns=3, shade_label="layer"),
    )


def _filter_of(path: Path, name: str, theirs: pd.DataFrame) -> str:
    """The run's filter that a published set is of."""
    filters = theirs["filter"].str.strip().str.lower().unique()
    match = re.match(r"(top|bottom)\s*(\d+(?:\.\d+)?)\s*%", filters[0])
    if len(filters) == 1 and filters[0].startswith("all"):
        return "all"
    if len(filters) == 1 and match:
        return f"{match[1]} {float(match[2]):g}%"
    raise SelfRepairError(
        f"{path}, column filter: the set {name} is of {' and '.join(map(repr, filters[:3]))}.",
        "A set needs one filter for all its rows, such as 'all tokens' or 'top 2%'.",
    )


def _pair(
    part: Any,
    ours: str,
    quantity: str,
    theirs: pd.Series,
    cells: tuple[np.ndarray, np.ndarray],
    rerun: tuple[float | None, float | None],
) -> _Pair:
    y, low, high = (part[ours + end].values[cells].astype(np.float64) for end in ("", "_low", "_high"))
    return _Pair(quantity, numbers_of(theirs), y, (high - low) / 2, half_last_digit(theirs), rerun)


def _panel(pair: _Pair, names: tuple[str, ...], layer: np.ndarray) -> Panel:
    """Measured against published, with this run's intervals."""
    error = np.nan_to_num(np.stack([pair.half, pair.half]))
    marks = Marks(pair.x, pair.y, names=names, y_error=error, size=4, shade=layer)
    ends = square(pair.x, pair.y)
    agreed = f"{int(pair.both.sum())} heads, {_correlation_text(pair)}" if pair.comparable else "not compared"
    again = f" (their own reruns {pair.rerun[0]:.2f})" if pair.rerun[0] else ""
    rules = (Rule(1, label="equal"), Rule(0, colour=FAINT))
    return Panel(
        f"{pair.quantity}: {agreed}{again}", "published (logit)", "measured here (logit)", (marks,), rules, ends, ends
    )


def _agreement(pair: _Pair) -> list[Number]:
    quantity, both = pair.quantity, pair.both
    heads = Number(f"{quantity}: heads compared", float(both.sum()), units="heads")
    if not pair.comparable:
        return [heads]
    gap = (pair.y - pair.x)[both]
    judged = both & np.isfinite(pair.tolerance)
    numbers = [
        heads,
        Number(f"{quantity}: correlation over heads", _correlation(pair)),
        Number(f"{quantity}: rank correlation", _correlation(pair, rankdata)),
        Number(f"{quantity}: mean difference, measured - published", float(gap.mean()), units="logit"),
        Number(f"{quantity}: median absolute difference", float(np.median(np.abs(gap))), units="logit"),
        Number(f"{quantity}: largest absolute difference", float(np.abs(gap).max()), units="logit"),
    ]
    if judged.any():
        numbers += [
            Number(f"{quantity}: heads within tolerance", _inside(pair, judged)),
            Number(f"{quantity}: median tolerance", float(np.median(pair.tolerance[judged])), units="logit"),
        ]
    return numbers


def _inside(pair: _Pair, judged: np.ndarray) -> float:
    """Share of the judged heads whose published and measured values lie within their tolerance."""
    return float((np.abs(pair.y - pair.x)[judged] <= pair.tolerance[judged]).mean())


def _verdict(pair: _Pair, tokens: np.ndarray, operated: str, where: str) -> str:
    """The verdict on one quantity, with its tolerance, or why there is none."""
    quantity = pair.quantity[0].upper() + pair.quantity[1:]
    if not pair.comparable:
        return (
            f"{quantity}: not compared, since {where} has a number for {int(np.isfinite(pair.x).sum())} and this run "
            f"for {int(np.isfinite(pair.y).sum())} of {len(pair.x)} heads; {LEAST_HEADS} that have both are needed."
        )
    gap = np.abs(pair.y - pair.x)[pair.both]
    words = (
        f"{quantity}, {gap.size} heads of {span(tokens[pair.both])} tokens here: {_correlation_text(pair)}, "
        f"median difference {np.median(gap):.3f} logits"
    )
    judged = pair.both & np.isfinite(pair.tolerance)
    if not operated.startswith("resample"):
        return f"{words}; no verdict, since the published numbers are of resample ablation and these of {operated}."
    if int(judged.sum()) < LEAST_HEADS:
        return f"{words}; no verdict, since too few heads of this run have an interval over documents."
    share = _inside(pair, judged)
    verdict = "within tolerance" if share >= LEAST_INSIDE else "outside tolerance"
    return (
        f"{words}; {verdict}: {round(share * judged.sum())} of {int(judged.sum())} heads lie within theirs, "
        f"±{np.median(pair.tolerance[judged]):.3f} logits in the median{_as_reruns(pair, gap)}."
    )


def _as_reruns(pair: _Pair, gap: np.ndarray) -> str:
    """Whether the two are as close as two runs of the authors' script on one model, where that is recorded."""
    correlation, difference = pair.rerun
    if correlation is None or not np.isfinite(_correlation(pair)):
        return ""
    close = _correlation(pair) >= correlation and (difference is None or np.median(gap) <= difference)
    apart = "" if difference is None else f" and {difference:.3f} logits apart"
    again = f"two runs of the authors' script on one model (correlation {correlation:.2f}{apart})"
    return f"; {'as close as' if close else 'farther apart than'} {again}"


def _correlation_text(pair: _Pair) -> str:
    correlation = _correlation(pair)
    return (
        f"correlation {correlation:.2f}"
        if np.isfinite(correlation)
        else "no correlation, since one side is the same for all"
    )


def _correlation(pair: _Pair, of: Any = np.asarray) -> float:
    """Pearson's correlation of values or of their ranks; NaN if one side is the same for all heads."""
    x, y = of(pair.x[pair.both]), of(pair.y[pair.both])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _file_name(name: str) -> str:
    """A set's name comes from data: only plain letters of it go into a path."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name)[:60]
