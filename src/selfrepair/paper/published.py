"""Per-head numbers beside those that the paper's authors published, for models whose tables a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number
from selfrepair.paper.picture import FAINT, Marks, Panel, Picture, Rule
from selfrepair.paper.words import about
from selfrepair.report.captions import fact
from selfrepair.results.runs import Run

SECTION = "published"
HEADS, REPRESS = "heads.csv", "self_repress/summary.csv"
# Theirs, ours, what it is called, and how two runs of the authors' own script on one model correlate over heads (and
# how far apart their values lie in the median, where recorded): that is the tolerance (paper-methods 4).
COMPARED: tuple[tuple[str, str, str, float | None, float | None], ...] = (
    ("direct_effects", "direct_effect", "direct effect", 0.93, 0.077),
    ("logit_diff", "total_effect", "total effect", None, None),
    ("self_repair_total", "self_repair", "self-repair", 0.86, 0.087),
    ("self_repair_from_LN", "repair_norm", "repair by the norm", 0.77, None),
    ("self_repair_from_heads", "repair_heads", "repair by heads", None, None),
    ("self_repair_from_layers", "repair_mlps", "repair by MLPs", None, None),
    ("ablated_direct_effects", "ablated_direct_effect", "ablated direct effect", None, None),
)
_ALIASES = {"gpt2": "gpt2-small"}


def read_heads(folder: str | Path) -> pd.DataFrame:
    """The published per-head table of a reference folder.

    Raises:
        SelfRepairError: no such folder or table, or columns that are missing.
    """
    path = Path(folder) / HEADS
    if not path.is_file():
        raise SelfRepairError(
            f"The reference folder {folder} has no {HEADS}.", "Give a folder with the published tables."
        )
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as problem:
        raise SelfRepairError(f"Cannot read {path}: {problem}.", "It has to be comma-separated text.") from problem
    needed = {"set", "model", "filter", "layer", "head", *(theirs for theirs, *_ in COMPARED)}
    missing = sorted(needed - set(table.columns))
    if missing:
        raise SelfRepairError(f"{path} has no column {', '.join(missing)}.", f"It needs: {', '.join(sorted(needed))}.")
    return table


def same_model(published: str, measured: str) -> bool:
    """Whether two names mean one model: `gpt2-small`, `gpt2` and `openai-community/gpt2` do."""
    return _plain(published) == _plain(measured)


def compare(run: Run, folder: str | Path) -> list[Exhibit]:
    """Every published set of the run's model beside the run; empty where the folder has none.

    A set of all tokens is compared under the filter `all`, one of the top 2% under `top 2%`.

    Raises:
        SelfRepairError: the folder's table is missing, broken, or of another shape of model.
    """
    table = read_heads(folder)
    mine = table[[same_model(str(name), fact(run, "model")) for name in table["model"]]]
    return [_compared(run, str(name), part) for name, part in mine.groupby("set", sort=False)]


def _compared(run: Run, name: str, theirs: pd.DataFrame) -> Exhibit:
    wanted = "all" if str(theirs["filter"].iloc[0]).lower().startswith("all") else "top 2%"
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
    place = theirs["layer"].to_numpy(), theirs["head"].to_numpy()
    rows = pd.DataFrame(
        {"name": [f"L{layer}H{head}" for layer, head in zip(*place, strict=True)], "layer": place[0], "head": place[1]}
    )
    panels, numbers, verdicts = [], [], []
    for column, ours, said, correlation, difference in COMPARED:
        x, y = theirs[column].to_numpy(np.float64), part[ours].values[place].astype(np.float64)
        rows[f"published {said}"], rows[f"measured {said}"] = x, y
        found = _agreement(said, x, y)
        numbers += list(found.values())
        verdicts.append(_verdict(said, found, correlation, difference))
        low, high = _interval(part, ours, place)
        error = np.nan_to_num(np.stack([y - low, high - y]))
        marks = Marks(x, y, names=tuple(rows["name"]), y_error=error, size=4, shade=place[0].astype(np.float64))
        ends = _limits(x, y)
        title = f"{said}: r = {found['pearson'].value:.2f}" + (
            f" (their own reruns {correlation:.2f})" if correlation else ""
        )
        panels.append(
            Panel(
                title,
                "published (logit)",
                "measured here (logit)",
                (marks,),
                (Rule(1, label="equal"), Rule(0, colour=FAINT)),
                ends,
                ends,
            )
        )
    caption = (
        f"Per-head means of the published set {name} ({theirs['filter'].iloc[0]}) against this run. "
        f"{about(run, wanted)} " + " ".join(verdicts) + " Tolerance: two runs of the authors' script on one model."
    )
    return Exhibit(
        f"published-{_file_name(name)}",
        "Published tables",
        SECTION,
        f"Against the authors' own numbers: {name}",
        caption,
        rows,
        tuple(numbers),
        Picture(tuple(panels[:6]), columns=3, shade_label="layer"),
    )


def compare_self_repression(folder: str | Path, model: str, slopes: Mapping[tuple[str, float], Number]) -> pd.DataFrame:
    """Published slopes of self-repression beside measured ones.

    Args:
        folder: the reference folder; without the table the frame is empty.
        model: the measured model's name.
        slopes: measured, by (head as `L21H1`, scale).
    """
    path = Path(folder) / REPRESS
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path)
    mine = np.array([same_model(str(one), model) for one in table["model"]], bool)
    own = (table["vector_added"] == "WITH_SAME_AS_RECEIVING_HEAD").to_numpy() & mine
    rows = []
    for row in table[own].to_dict("records"):
        number = slopes.get((str(row["head"]), float(row["scaling"])))
        if number is not None:
            rows.append(
                {
                    "head": row["head"],
                    "scale": row["scaling"],
                    "published": row["ols_slope"],
                    "measured": number.value,
                    "low": number.low,
                    "high": number.high,
                }
            )
    return pd.DataFrame(rows)


def _agreement(said: str, x: np.ndarray, y: np.ndarray) -> dict[str, Number]:
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    return {
        "pearson": Number(f"{said}: correlation over heads", _correlation(x, y)),
        "spearman": Number(f"{said}: rank correlation", _correlation(rankdata(x), rankdata(y))),
        "mean": Number(f"{said}: mean difference, measured - published", float((y - x).mean()), units="logit"),
        "median": Number(f"{said}: median absolute difference", float(np.median(np.abs(y - x))), units="logit"),
        "largest": Number(f"{said}: largest absolute difference", float(np.abs(y - x).max()), units="logit"),
    }


def _verdict(said: str, found: Mapping[str, Number], correlation: float | None, difference: float | None) -> str:
    words = (
        f"{said.capitalize()}: correlation {found['pearson'].value:.2f}, median difference "
        f"{found['median'].value:.3f} logits"
    )
    if correlation is None:
        return words + "."
    within = found["pearson"].value >= correlation
    close = difference is None or found["median"].value <= difference
    room = f"{correlation:.2f}" + ("" if difference is None else f" and {difference:.3f}")
    return words + f" ({'within' if within and close else 'outside'} the tolerance of {room})."


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _interval(part: object, name: str, place: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return part[f"{name}_low"].values[place], part[f"{name}_high"].values[place]  # type: ignore[index]


def _limits(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    every = np.concatenate([x, y])
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    room = 0.07 * (high - low) or 0.1
    return low - room, high + room


def _plain(name: str) -> str:
    short = name.replace("\\", "/").rstrip("/").split("/")[-1].lower()
    return _ALIASES.get(short, short)


def _file_name(name: str) -> str:
    """A set's name comes from data: only plain letters of it go into a path."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name)[:60]
