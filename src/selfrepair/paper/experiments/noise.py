"""How noisy self-repair is from token to token: the paper's Figure 3, and the shares behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from selfrepair.ablation.sites import Head
from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers.across_heads import HeadSums
from selfrepair.paper.numbers.document_halves import FIRST, SECOND, rows_in_half
from selfrepair.paper.numbers.over_documents import Number, products, tally_of
from selfrepair.paper.pictures.exhibit_captions import FIXED, about_run, rows_of, sampled
from selfrepair.paper.study import Study, experiment
from selfrepair.pictures.picture import FAINT, PALETTE, Panel, Picture, Rule, scatter, symmetric
from selfrepair.report.panels import depth_panel
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.runs import Run

SECTION = "noise"
X, Y = "direct_effect", "total_effect"
REPAIRED = 0.2  # of what is lost, for a head to be called repaired on average
NEGLIGIBLE = 0.1  # of the largest head's mean |DE|, for a head to have hardly any direct effect
_LEAST_TOKENS = 8


@experiment("From token to token")
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures."""
    yield effects_by_token(study.run)
    yield shares(study.run)


def effects_by_token(run: Run, heads: Sequence[tuple[int, int]] | None = None) -> Exhibit:
    """Per-token direct effect against the change of the logit, for chosen heads (Figure 3).

    Args:
        run: the run; its uniform sample of tokens is shown.
        heads: (layer, head) pairs; by default chosen by the data, see `choose_examples`.

    Raises:
        SelfRepairError: the run kept no uniform sample.
    """
    rows = rows_of(run, "all")
    if not len(rows):
        raise SelfRepairError("The run kept no uniform sample of tokens.", "Measure with sample=64 or more.")
    if heads is None:
        chosen, rows = choose_examples(run), rows_in_half(rows, SECOND)
    else:
        chosen = [ExampleHead(Head(*head), "chosen by the user") for head in heads]
    parts = {example.head: _of(rows, example.head) for example in chosen}
    limits = symmetric([part[[X, Y]].to_numpy() for part in parts.values()])
    panels, numbers = [], []
    for index, (head, part) in enumerate(parts.items()):
        head_numbers = _numbers(head, part)
        numbers += head_numbers
        marks = scatter(part[X].to_numpy(), part[Y].to_numpy(), colour=PALETTE[index % len(PALETTE)])
        title = f"{head}: {chosen[index].why}; r\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{head_numbers[0].value:.2f}"
        rules = (Rule(-1, label="no repair: y = −x"), Rule(0, colour=FAINT))
        panels.append(
            Panel(title, "direct effect, DE (logit)", "change of the logit, TE (logit)", marks, rules, limits, limits)
        )
    caption = (
        "Each point is a token. On the dashed line nothing is repaired, on the x axis everything. "
        + "".join(f"{example.note} " for example in chosen if example.note)
        + ("" if heads is not None else "Heads are chosen on one half of the documents; shown is the other. ")
        + sampled(run)
        + f" Shares and correlations with {FIXED}."
    )
    table = pd.concat([part.assign(name=str(head)) for head, part in parts.items()], ignore_index=True)
    return Exhibit(
        "figure-03-per-token",
        "Figure 3",
        SECTION,
        "Self-repair from token to token",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=2),
    )


def shares(run: Run, filter: str | None = None) -> Exhibit:
    """The share of tokens repaired, over-repaired and made worse, over depth (section 2.3 in numbers)."""
    label = resolve_filter(run, filter)
    part = run.heads.sel(filter=label)
    layers = part.sizes["layer"]
    names = {
        "share_repaired": "repaired in part or fully",
        "share_over_repaired": "over-repaired",
        "share_worse": "made worse",
    }
    panels = []
    for name, title in names.items():
        panel = depth_panel(run, label, name, "share of tokens")
        panels.append(Panel(title, panel.x_label, panel.y_label, panel.marks, (), y_range=(-0.02, 1.02)))
    table = run.table(label, top=None)[["name", "layer", "head", "count", "documents"]].copy()
    table = table.sort_values(["layer", "head"]).reset_index(drop=True)
    for name in (*names, "r_squared", "slope_through_origin"):
        for end in ("", "_low", "_high"):
            table[name + end] = part[name + end].values[table["layer"], table["head"]]
    rows = rows_of(run, label)
    numbers = [_share(rows, name, outcome) for name, outcome in names.items()]
    fractions = part["repaired_fraction"].values[layers // 2 :]
    spread = np.nanquantile(fractions, [0.1, 0.9]) if np.isfinite(fractions).any() else (np.nan, np.nan)
    numbers.append(_spread(rows, layers // 2))
    numbers.append(Number("repaired fraction of late heads, 10th percentile", float(spread[0])))
    numbers.append(Number("repaired fraction of late heads, 90th percentile", float(spread[1])))
    caption = (
        "Shares of each head's tokens: self-repair between nothing and all of what was lost; more than all of it (the "
        "logit ends on the other side); or of the wrong sign. " + about_run(run, label)
    )
    return Exhibit(
        "section-2-3-shares",
        "Section 2.3",
        SECTION,
        "How many tokens are repaired, over-repaired, made worse",
        caption,
        table,
        tuple(numbers),
        Picture(tuple(panels), columns=3),
    )


@dataclass(frozen=True)
class ExampleHead:
    """A head of Figure 3.

    Attributes:
        head: the head.
        why: what it is an example of, or how near it comes, for the panel's title.
        note: for the caption: how far it is such an example, or that no head of this model is; may be empty.
    """

    head: Head
    why: str
    note: str = ""


def choose_examples(run: Run) -> list[ExampleHead]:
    """Four heads as in the paper, by the data, of the later half of the layers.

    Two whose top tokens are repaired by more than a fifth on average, those that lose most. One with hardly any direct
    effect: the smallest mean |DE|, unfiltered, at most a tenth of the largest head's. One with direct effect but no
    correlation: of the half with the larger mean |DE|, the smallest |r| of DE and TE, unfiltered, its interval across
    zero. Where no head is such, the nearest is taken, and title and caption say so. All of that on one half of the
    documents: the figure shows the other.
    """
    label = resolve_filter(run, None)
    left = _late(run, label)
    largest = left["size"].max()
    best = left[left["repaired"] > REPAIRED].nlargest(2, "lost")
    chosen = [ExampleHead(head, "repaired on average") for head in best["name"]]
    left = left.drop(best.index)
    nearest = left.nlargest(2 - len(chosen), "repaired")
    for head in nearest["name"]:
        note = f"No other late head has more than {REPAIRED:.0%} repaired on its {label} of tokens: {head} is nearest."
        chosen.append(ExampleHead(head, "nearest to repaired on average", note))
    left = left.drop(nearest.index)
    smallest = left.nsmallest(1, "size")
    chosen += [_least_effect(row["name"], row["size"], largest) for _, row in smallest.iterrows()]
    left = left.drop(smallest.index)
    strong = left[(left["size"] >= left["size"].median()) & left["r"].notna()]
    for _, row in strong.loc[strong["r"].abs().nsmallest(1).index].iterrows():
        chosen.append(_uncorrelated(row["name"], row["r"], row["low"], row["high"]))
    return chosen


def _least_effect(head: Head, size: float, largest: float) -> ExampleHead:
    if size <= NEGLIGIBLE * largest:
        return ExampleHead(head, "hardly any direct effect")
    amount = f"mean |DE| {size:.2g} logit, {size / largest:.0%} of the largest head's"
    note = f"No late head is without direct effect: {head} has the least, {amount}."
    return ExampleHead(head, "least direct effect: no head is without", note)


def _uncorrelated(head: Head, r: float, low: float, high: float) -> ExampleHead:
    value = f"r = {r:.2f}" + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})")
    if low <= 0 <= high:
        note = f"{head} has a direct effect whose correlation cannot be distinguished from zero: {value}."
        return ExampleHead(head, "direct effect, no clear correlation", note)
    note = f"No late head with a direct effect is without correlation: {head} has the weakest, {value}."
    return ExampleHead(head, "direct effect, weakest correlation: no head is without", note)


def _late(run: Run, label: str) -> pd.DataFrame:
    """The quantities by which heads of the later half of the layers are chosen (of all layers if those have no tokens).

    Returns:
        A row per head: `name`, `lost` and `repaired` over the filter, `size` (mean |DE|), `r`, `low` and `high`
        unfiltered; of the first half of the documents.
    """
    top = {pair: _lost(rows) for pair, rows in rows_in_half(rows_of(run, label), FIRST).groupby(["layer", "head"])}
    heads = []
    for layer_head, rows in rows_in_half(rows_of(run, "all"), FIRST).groupby(["layer", "head"]):
        if len(rows) >= _LEAST_TOKENS and layer_head in top:
            head = Head(*map(int, layer_head))
            r, size = _numbers(head, rows)[0], float(rows[X].abs().mean())
            heads.append((head, *top[layer_head], size, r.value, r.low, r.high))
    table = pd.DataFrame(heads, columns=["name", "lost", "repaired", "size", "r", "low", "high"])
    late = table["name"].map(lambda head: head.layer) >= run.heads.sizes["layer"] // 2
    return table[late] if late.any() else table


def _lost(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean lost direct effect of the tokens (logit), and the share of it that is repaired."""
    lost = float((rows[X] - rows["ablated_direct_effect"]).sum())
    return lost / len(rows), float(rows["self_repair"].sum()) / lost if lost else float("nan")


def _of(rows: pd.DataFrame, head: Head) -> pd.DataFrame:
    part = rows[(rows["layer"] == head.layer) & (rows["head"] == head.head)]
    if not len(part):
        raise SelfRepairError(f"The run has no tokens of {head}.", "Choose a head that it ablated.")
    return part


def _numbers(head: Head, part: pd.DataFrame) -> list[Number]:
    columns = {name: part[name].to_numpy(np.float64) for name in (X, Y)}
    columns["self_repair"] = part["self_repair"].to_numpy(np.float64)
    columns["lost"] = columns[X] - part["ablated_direct_effect"].to_numpy(np.float64)
    tally = tally_of(part["document"].cat.codes.to_numpy(), columns | products(X, Y, columns))
    return [
        tally.correlation(X, Y, f"{head}: correlation of DE and TE"),
        tally.slope(X, Y, f"{head}: slope of TE on DE"),
        tally.ratio("self_repair", "lost", name=f"{head}: repaired fraction"),
    ]


def _spread(rows: pd.DataFrame, first: int) -> Number:
    """Spread of the repaired fraction over heads from a layer on."""
    lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).to_numpy(np.float64)
    by_head = HeadSums.of(rows, {"lost": lost, "repair": rows["self_repair"].to_numpy(np.float64)}).from_layer(first)
    name = "spread of the repaired fraction of late heads, 10th to 90th percentile, less what noise explains"
    return by_head.spread(name, "repair", "lost")


def _share(rows: pd.DataFrame, name: str, words: str) -> Number:
    lost = (rows["direct_effect"] - rows["ablated_direct_effect"]).to_numpy(np.float64)
    countered = np.sign(lost) * rows["self_repair"].to_numpy(np.float64)
    outcome = {
        "share_repaired": (countered > 0) & (countered <= np.abs(lost)),
        "share_over_repaired": countered > np.abs(lost),
        "share_worse": countered < 0,
    }[name]
    tally = tally_of(rows["document"].cat.codes.to_numpy(), {name: outcome.astype(np.float64)})
    return tally.share(name, f"share of tokens {words}, all heads")
