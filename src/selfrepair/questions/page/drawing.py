"""The circuit by layer, with what covers for it: members above, components outside below, dashed by motif."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selfrepair.ablation.sites import Site
from selfrepair.questions.page.markup import Markup, el, join_markup
from selfrepair.questions.page.receivers import edge_lists
from selfrepair.questions.page.shown import ShownAudit, figure, motif_class
from selfrepair.questions.tables.covering import shown_rows

COVERING = 6  # components outside that are drawn
_COLUMN, _WIDE, _HIGH, _GAP, _TOP, _LEFT = 132, 112, 42, 12, 54, 14
_LANES = 46  # between members and what covers


@dataclass(frozen=True)
class Node:
    """A box of the drawing.

    Attributes:
        name: of the component.
        under: its second line: its role, or its line.
        look: its class.
        title: the whole.
        x: left edge.
        y: upper edge.
        first: whether no other box stands above it in its column and row of boxes.
    """

    name: str
    under: str
    look: str
    title: str
    x: float
    y: float
    first: bool = True


class Arrow(NamedTuple):
    """An edge of the drawing; weights are from 0 to 1."""

    source: str
    target: str
    weight: float
    look: str
    title: str


def drawing(shown: ShownAudit) -> Markup:
    """The drawing, and below it the edges of each component, one of which can be pinned."""
    covering = covering_names(shown)
    sites = {str(site): site for site in (*shown.found.covering.components.sites, *shown.members)}
    members = [str(site) for site in shown.members]
    layers = sorted({sites[name].port.layer for name in (*members, *covering)})
    rows = max(sum(sites[name].port.layer == layer for name in members) for layer in layers)
    depth = max([sum(sites[name].port.layer == layer for name in covering) for layer in layers], default=0)
    below = _TOP + rows * (_HIGH + _GAP) + _LANES
    nodes = [*_placed(shown, members, sites, layers, _TOP), *_placed(shown, covering, sites, layers, below)]
    wide = _LEFT * 2 + _COLUMN * len(layers)
    high = below + max(depth, 1) * (_HIGH + _GAP)
    arrows = measured_edges(shown, [*members, *covering]) or assumed(shown, members, covering, sites)
    places = {node.name: node for node in nodes}
    parts = [
        *(_layer(layer, place, high) for place, layer in enumerate(layers)),
        el("line", x1="0", x2=str(wide), y1=str(below - _LANES / 2), y2=str(below - _LANES / 2), class_="divide"),
        *(_arrow(arrow, places) for arrow in arrows),
        *(_node(node) for node in nodes),
    ]
    picture = el(
        "svg",
        *parts,
        viewBox=f"0 0 {wide} {high}",
        width=str(wide),
        height=str(high),
        role="group",
        aria_label="Circuit by layer",
        id="drawing",
    )
    content = join_markup(el("div", picture, class_="scroll drawing"), edge_lists(shown, [node.name for node in nodes]))
    return figure("The circuit, and what covers for it", content, _caption(shown), "circuit")


def covering_names(shown: ShownAudit) -> list[str]:
    """What is drawn outside the circuit: what it misses, and others whose lines repair."""
    rows = shown_rows(shown.found.covering.table, COVERING)
    return list(dict.fromkeys([*shown.missing, *(str(name) for name in rows[rows["line"] > 0]["component"])]))


def _placed(
    shown: ShownAudit, names: Sequence[str], sites: dict[str, Site], layers: list[int], top: float
) -> list[Node]:
    """Boxes in their layers' columns, from `top` on."""
    filled: dict[int, int] = {}
    nodes = []
    for name in names:
        layer = sites[name].port.layer
        place = filled[layer] = filled.get(layer, -1) + 1
        x, y = _LEFT + _COLUMN * layers.index(layer) + (_COLUMN - _WIDE) / 2, top + place * (_HIGH + _GAP)
        nodes.append(Node(name, *_words(shown, name, sites[name]), x, y, place == 0))
    return nodes


def _words(shown: ShownAudit, name: str, site: Site) -> tuple[str, str, str]:
    """Second line, class and title of a box."""
    if site in shown.members:
        roles = ", ".join(role for role, inside in shown.found.runs.roles.items() if site in inside)
        return roles, "member", f"{name}, in the circuit: {roles}"
    table = shown.found.covering.table
    row = table[table["component"] == name].iloc[0]
    missing = " missing" if name in shown.missing else ""
    title = f"{name}, outside the circuit: {row['label']}, line {row['line']:+.3f} {shown.unit}"
    return (
        f"{row['line']:+.2f} {str(row['label']).removeprefix('suppressor ')}",
        f"outside {motif_class(str(row['label']))}{missing}",
        title,
    )


def measured_edges(shown: ShownAudit, names: Sequence[str]) -> list[Arrow]:
    """Edges between the boxes that were measured one by one; without the smallest."""
    if shown.extras.graph is None:
        return []
    table = shown.extras.graph.table()
    table = table[table["source"].isin(names) & table["target"].isin(names)]
    largest = float(table["total"].abs().max()) if len(table) else 0.0
    arrows = []
    for edge in table.to_dict("records"):
        weight = abs(edge["total"]) / largest if largest else 0.0
        if weight >= 0.05:
            change = f"{edge['target']} writes {edge['total']:+.3f}, {edge['direct']:+.3f} of it directly"
            title = f"{edge['source']} ablated alone: {change}"
            arrows.append(
                Arrow(edge["source"], edge["target"], weight, motif_class(shown.label(edge["target"])), title)
            )
    return arrows


def assumed(shown: ShownAudit, members: Sequence[str], covering: Sequence[str], sites: dict[str, Site]) -> list[Arrow]:
    """From every member to what covers behind it: all of them were ablated together."""
    table = shown.found.covering.table.set_index("component")["line"]
    largest = max((abs(float(table[name])) for name in covering), default=1.0) or 1.0
    found = []
    for target in covering:
        weight, label = abs(float(table[target])) / largest, shown.label(target)
        for source in members:
            if _reads(sites[source], sites[target]):
                title = f"{target} covers for the circuit ({label}); {source} lies in front of it"
                found.append(Arrow(source, target, weight, motif_class(label), title))
    return found


def _reads(source: Site, target: Site) -> bool:
    first, second = source.port.layer, target.port.layer
    return first < second or (first == second and target.port.kind == "mlp" and source.port.kind in ("heads", "mixer"))


def _layer(layer: int, place: int, high: float) -> Markup:
    x = _LEFT + _COLUMN * place
    ground = el("rect", x=str(x + 3), y="0", width=str(_COLUMN - 6), height=f"{high:.0f}", rx="6", class_="column")
    return join_markup(
        ground, el("text", f"layer {layer}", x=f"{x + _COLUMN / 2:.0f}", y="20", text_anchor="middle", class_="tick")
    )


def _node(node: Node) -> Markup:
    box = el("rect", x=node.x, y=node.y, width=str(_WIDE), height=str(_HIGH), rx="7")
    middle = node.x + _WIDE / 2
    name = el("text", node.name, x=middle, y=node.y + 17, text_anchor="middle", class_="name")
    under = el("text", _short(node.under), x=middle, y=node.y + 33, text_anchor="middle", class_="under")
    return el(
        "g",
        el("title", node.title),
        box,
        name,
        under,
        class_=f"node {node.look}",
        tabindex="0",
        role="button",
        aria_pressed="false",
        aria_label=node.title,
        data_node=node.name,
    )


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _arrow(arrow: Arrow, places: dict[str, Node]) -> Markup | None:
    """A curve from the right side of the source to the left side of the target."""
    path = _curve(places[arrow.source], places[arrow.target])
    return el(
        "path",
        el("title", arrow.title),
        d=path,
        class_=f"edge {arrow.look}",
        stroke_width=f"{1 + 4 * math.sqrt(min(arrow.weight, 1.0)):.2f}",
        data_source=arrow.source,
        data_target=arrow.target,
    )


def _curve(start: Node, end: Node) -> str:
    """The path between two boxes: over others that stand in the same row, from lower to upper side in one column."""
    apart = end.x - start.x
    if apart < _COLUMN / 2:  # an MLP behind heads of its layer
        middle, down = start.x + _WIDE / 2, end.y > start.y
        y1, y2 = (start.y + _HIGH, end.y) if down else (start.y, end.y + _HIGH)
        return f"M{middle:.1f},{y1:.1f} L{middle:.1f},{y2:.1f}"
    if abs(end.y - start.y) < 1 and apart > _COLUMN * 1.5:
        x1, x2, top = start.x + _WIDE * 0.7, end.x + _WIDE * 0.3, start.y
        return f"M{x1:.1f},{top:.1f} C{x1 + 20:.1f},{top - 30:.1f} {x2 - 20:.1f},{top - 30:.1f} {x2:.1f},{top:.1f}"
    x1, y1, x2, y2 = start.x + _WIDE, start.y + _HIGH / 2, end.x, end.y + _HIGH / 2
    if end.first and y2 > y1 + _HIGH and apart > _COLUMN * 1.5:  # from above, past the boxes in between
        across, last = x1 + apart / 2, x2 + 30
        return f"M{x1:.1f},{y1:.1f} C{across:.1f},{y1:.1f} {last:.1f},{end.y - 60:.1f} {last:.1f},{end.y:.1f}"
    bend = max((x2 - x1) / 2, 16)
    return f"M{x1:.1f},{y1:.1f} C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"


def _caption(shown: ShownAudit) -> Markup:
    boxes = (
        "Above: the circuit's members by layer. Below, dashed: components outside whose lines repair, in the colour of "
        "their motif; those with a heavy frame are missing from the circuit. "
    )
    if shown.extras.graph is not None:
        return join_markup(
            boxes,
            "Edges are measured: what the later component writes more or less when the earlier one alone is ablated; "
            "edges below 5% of the largest are left out. Choose a box to pin its edges and follow them.",
        )
    return join_markup(
        boxes,
        "Members were ablated together: edges only show which of them lie in front, as thick as the component's line "
        "is large; ",
        el("code", "selfrepair audit --edges"),
        " measures edges of single members. Choose a box to pin it and see its numbers.",
    )
