"""Circuits as our own JSON, as a picture for graphviz, and as a table."""

from __future__ import annotations

import csv as tables
import io
import json
import math

from selfrepair.ablation.shape import Shape
from selfrepair.ablation.sites import AtSpan
from selfrepair.circuits.circuit import Circuit
from selfrepair.circuits.readers.own import NAME, VERSION

_COLOURS = {"q": "#1f77b4", "k": "#2ca02c", "v": "#d62728"}


def own_json(circuit: Circuit, shape: Shape | None) -> str:
    """Everything a circuit has; `Circuit.read` gives it back."""
    return json.dumps(
        {
            "format": NAME,
            "version": VERSION,
            "roles": {role: [str(place) for place in places] for role, places in circuit.roles.items()},
            "edges": [[str(edge), edge.score] for edge in circuit.edges],
            "scores": {str(place): score for place, score in circuit.scores.items()},
            "provenance": dict(circuit.provenance),
            "notes": list(circuit.notes),
        },
        indent=2,
        ensure_ascii=False,
    )


def dot(circuit: Circuit, shape: Shape | None) -> str:
    """A picture: one cluster per role, edges as thick as their scores."""
    lines = ["digraph circuit {", "  rankdir=BT;", '  node [shape=box, style=rounded, fontname="Helvetica"];']
    for number, (role, places) in enumerate(circuit.roles.items()):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(role)};"]
        lines += [f"    {_quoted(str(place))};" for place in places] + ["  }"]
    largest = max((abs(edge.score) for edge in circuit.edges if edge.score and math.isfinite(edge.score)), default=1.0)
    for edge in circuit.edges:
        score = edge.score if edge.score is not None and math.isfinite(edge.score) else None
        width = 1.0 if score is None else 0.5 + 4.5 * abs(score) / largest
        style = ', style="dashed"' if score is not None and score < 0 else ""
        colour = _COLOURS.get(edge.via or "", "#555555")
        ends = f"{_quoted(str(edge.sender))} -> {_quoted(str(edge.receiver))}"
        lines.append(f'  {ends} [penwidth={width:.2f}, color="{colour}"{style}];')
    return "\n".join([*lines, "}", ""])


def csv(circuit: Circuit, shape: Shape | None) -> str:
    """A table of components and edges: `kind, name, role, layer, score`."""
    written = io.StringIO()
    table = tables.writer(written, lineterminator="\n")
    table.writerow(["kind", "name", "role", "layer", "score"])
    for role, places in circuit.roles.items():
        for place in places:
            bare = place.site if isinstance(place, AtSpan) else place
            score = circuit.scores.get(place, "")
            table.writerow([type(place).__name__.lower(), str(place), _cell(role), bare.port.layer, score])
    for edge in circuit.edges:
        table.writerow(["edge", str(edge), "", "", "" if edge.score is None else edge.score])
    return written.getvalue()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
