"""A model's card: what it makes good of what its heads lose, what does it, and its profile over depth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from rich import box
from rich.table import Table
from rich.text import Text

from selfrepair.report.captions import amount, chosen_tokens, errors, fact, left_out, operator, resolve_filter
from selfrepair.report.rows import PARTS, Row, plain
from selfrepair.report.tables import DASH, UNDETERMINED, determined, percent, signed
from selfrepair.results.runs import Run
from selfrepair.statistics.card import CARD
from selfrepair.terminal import Console

_SHARES = {
    "repaired": "repaired_fraction",
    "by heads": "fraction_heads",
    "by MLPs": "fraction_mlps",
    "by post-norms": "fraction_post_norms",
    "by norm": "fraction_norm",
}


def card_table(run: Run, filter: str | None = None) -> list[Row]:
    """The card as rows for JSON or a data frame: the whole model, then its layers that were measured.

    Args:
        run: the run.
        filter: label or spelling of a filter; None for the top filter.

    Returns:
        Per row: `part` (`model` or `layer 3`), `layer` (None for the model), `filter`, and of every number of
        `statistics.card.CARD` the value, `_standard_error`, `_low` and `_high`; `repaired_fraction_unbounded`, whether
        lost direct effect may be zero, so that shares of it may be anything. None stands for not available, or for an
        interval that has no end.

    Raises:
        SelfRepairError: unknown filter.
    """
    label = resolve_filter(run, filter)
    chosen = run.heads.sel(filter=label)
    names = [name + part for name in CARD for part in PARTS]
    whole: Row = {"part": "model", "layer": None, "filter": label}
    rows = [whole | {name: plain(chosen[f"pooled_{name}"].values[()]) for name in names} | _unbounded(chosen, "pooled")]
    for layer in chosen["layer"].values[chosen["count"].values.any(-1)].tolist():
        cell = chosen.sel(layer=layer)
        row: Row = {"part": f"layer {layer}", "layer": layer, "filter": label}
        rows.append(row | {name: plain(cell[f"layer_{name}"].values[()]) for name in names} | _unbounded(cell, "layer"))
    return rows


def _unbounded(chosen: xr.Dataset, kind: str) -> Row:
    low = chosen[f"{kind}_repaired_fraction_low"].values[()]
    return {"repaired_fraction_unbounded": bool(np.isinf(low))}


def print_card(console: Console, run: Run, filter: str | None = None) -> None:
    """Print the card; arguments as `card_table`.

    Raises:
        SelfRepairError: unknown filter.
    """
    rows = card_table(run, filter)
    label = resolve_filter(run, filter)
    shares = {h: name for h, name in _SHARES.items() if name != "fraction_post_norms" or any(r[name] for r in rows)}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for heading in ("", "lost DE", *shares):
        table.add_column(Text(heading), justify="right" if heading else "left", no_wrap=True)
    narrow = console.width < 20 + 16 * len(shares)
    for row in rows:
        cells = [_share(row, name) for name in shares.values()]
        table.add_row(
            str(row["part"]),
            signed(row["lost_direct_effect"]),
            *(cell.replace(" ± ", "\n± ") if narrow else cell for cell in cells),
        )
    console.print(Text(f"{fact(run, 'model')}: the share of what heads lose that is made good", style="bold"))
    console.print(Text(operator(run)))
    console.print(Text(f"filter: {chosen_tokens(label)}; {amount(run, label)}"))
    console.print()
    console.print(table)
    console.print(Text(f"In brackets where {UNDETERMINED}. {errors(run)}; {left_out(run)}.", "dim"))


def _share(row: Row, name: str) -> str:
    cell = percent(row[name], row[f"{name}_standard_error"])
    return cell if determined(row) or cell == DASH else f"({cell})"
