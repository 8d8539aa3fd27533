"""Numbers behind the drawing: for each component its own, and its edges, to be pinned and followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfrepair.questions.covering.mechanism import attends
from selfrepair.questions.page.markup import Markup, el
from selfrepair.questions.page.shown import ShownAudit, effect_text, ends, html_table, share_text

_MOST = 8


def edge_lists(shown: ShownAudit, names: Sequence[str]) -> Markup:
    """One hidden block per component; the page's program shows the one that is pinned."""
    blocks = [
        el("div", el("h3", name), *_facts(shown, name), id=f"pin-{name}", class_="pin", hidden=True) for name in names
    ]
    return el("div", *blocks, id="pins", aria_live="polite")


def _facts(shown: ShownAudit, name: str) -> list[Markup]:
    lines = [*_of_member(shown, name), *_of_covering(shown, name)]
    return [el("ul", *(el("li", line) for line in lines)), *_edges(shown, name)]


def _of_member(shown: ShownAudit, name: str) -> list[str]:
    rows = shown.found.members[shown.found.members["component"] == name].to_dict("records")
    titles = {
        "direct_effect": "wrote",
        "alone": "total effect of ablating it alone",
        "given_rest": "where the rest of the circuit is gone",
    }
    return [f"{title}: {_effect(row, key)} {shown.unit}" for row in rows for key, title in titles.items() if key in row]


def _of_covering(shown: ShownAudit, name: str) -> list[str]:
    rows = shown.found.covering.table[shown.found.covering.table["component"] == name].to_dict("records")
    return [line for row in rows for line in _lines(shown, row)]


def _lines(shown: ShownAudit, row: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{row['label']}: writes {row['clean_direct_effect']:+.3f} on the intact model and "
        f"{row['ablated_direct_effect']:+.3f} without the circuit",
        f"line (positive repairs): {_effect(row, 'line')} {shown.unit}",
    ]
    if np.isfinite(row["freeze"]):
        lines.append(f"repair that is gone if it is frozen: {_effect(row, 'freeze')} {shown.unit}")
        lines.append(f"readout if it alone is ablated: {row['alone']:+.3f}; besides the circuit: {row['besides']:+.3f}")
    if shown.extras.direct is not None:
        lines.append(_direct(shown, str(row["component"])))
    return lines + _attention(shown, str(row["component"]))


def _direct(shown: ShownAudit, name: str) -> str:
    """How much of its line comes straight from the circuit's missing writes."""
    edges, covering = shown.extras.direct, shown.found.covering
    assert edges is not None
    place = next(index for site, index in edges.components.index.items() if str(site) == name)
    parts = [
        effect_text(*ends(covering.sampling.mean(covering.sign * values[:, place])))
        for values in (edges.direct, edges.mediated)
    ]
    return f"of its line, {parts[0]} comes directly from the circuit and {parts[1]} by way of other components"


def _attention(shown: ShownAudit, name: str) -> list[str]:
    split = shown.found.covering.split
    if split is None or name not in map(str, split.heads):
        return []
    row = split.table().set_index("head").loc[name]
    where = attends(split, split.heads[[str(head) for head in split.heads].index(name)])
    return [
        *([f"attention at the answer's position: {where}"] if where else []),
        f"because it attends elsewhere (QK): {row['qk']:+.3f}; because its sources hold something else (OV): "
        f"{row['ov']:+.3f}; share of QK {share_text(row['qk_share'], row['qk_share_low'], row['qk_share_high'])}",
    ]


def _edges(shown: ShownAudit, name: str) -> list[Markup]:
    """Tables of edges into a component and out of it."""
    if shown.extras.graph is None:
        return []
    table = shown.extras.graph.table()
    tables = []
    for own, other, title in (("source", "target", f"Edges from {name}"), ("target", "source", f"Edges to {name}")):
        rows = table[table[own] == name].sort_values("total", key=np.abs, ascending=False).head(_MOST)
        if len(rows):
            cells = [[_follow(row[other]), *(_effect(row, part) for part in _PARTS)] for row in rows.to_dict("records")]
            tables.append(html_table(["to" if own == "source" else "from", *_PARTS], cells, {1, 2, 3}, title))
    return tables


_PARTS = ("total", "direct", "mediated")


def _follow(name: str) -> Markup:
    """A button that pins another component, where it is drawn."""
    return el("button", name, type="button", data_follow=name)


def _effect(row: Mapping[str, Any], name: str) -> str:
    return effect_text(row[name], row[f"{name}_low"], row[f"{name}_high"])
