"""Edges as files: JSON for programs, dot for graphviz, GraphML for graph programs, Parquet for tables."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from selfrepair.errors import SelfRepairError
from selfrepair.questions.graph import EdgeGraph
from selfrepair.questions.graphs_elsewhere import edges_as_graphml, neuronpedia_record
from selfrepair.questions.paths.source_places import token_texts
from selfrepair.questions.question import Question
from selfrepair.questions.tables.records import Record, about, rows
from selfrepair.results.atomic_files import put

DRAWN = 8  # edges of each sender that a drawing has
_REPAIRS, _BREAKS = "#1f6fb2", "#d97b12"


def graph_record(question: Question, found: EdgeGraph, floor: float | None) -> Record:
    """Everything that was found, for programs."""
    facts = about(question, found.effects, floor) | {"ledger_residual": found.residual}
    return facts | {"senders": found.senders, "edges": rows(found.table())}


def save_graph(found: EdgeGraph, question: Question, floor: float | None, path: Path) -> None:
    """Writes `.json`, `.parquet` or `.graphml` with all edges, `.dot` with the largest of each sender, or
    `.neuronpedia.json`, an attribution graph as Neuronpedia has them.

    Args:
        found: the edges.
        question: model, prompts and settings.
        floor: the numerical floor, in logits.
        path: the file; its suffix says which kind.

    Raises:
        SelfRepairError: another suffix, or the file cannot be written.
    """
    write = writer(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, write(found, question, floor))
    except OSError as problem:
        raise SelfRepairError(f"Cannot write {path}: {problem}.", "Give another file with --out.") from problem


Writer = Callable[[EdgeGraph, Question, float | None], bytes]


def writer(path: Path) -> Writer:
    """What writes a file of that name.

    Raises:
        SelfRepairError: an unknown suffix.
    """
    found = next((write for ending, write in _WRITERS.items() if path.name.lower().endswith(ending)), None)
    if found is None:
        raise SelfRepairError(
            f"'{path.name}' does not say how edges are to be written.",
            f"Give a name that ends in {', '.join(_WRITERS)}.",
        )
    return found


def _json(found: EdgeGraph, question: Question, floor: float | None) -> bytes:
    return json.dumps(graph_record(question, found, floor), indent=1, default=str, allow_nan=False).encode()


def _parquet(found: EdgeGraph, question: Question, floor: float | None) -> bytes:
    table, stream = found.table(), io.BytesIO()
    table.attrs = {name: str(value) for name, value in about(question, found.effects, floor).items()}
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def edges_as_dot(table: pd.DataFrame, most: int = DRAWN) -> str:
    """The largest edges of each sender as a picture: blue repairs (more of the answer is written than before), orange
    breaks; dashed where most of it is mediated by others; as thick as the total is large.

    Args:
        table: see `EdgeGraph.table`.
        most: edges of each sender.
    """
    drawn = table.groupby("source", sort=False).head(most)
    largest = float(drawn["total"].abs().max()) or 1.0
    lines = ["digraph edges {", "  rankdir=BT;", '  node [shape=box, style=rounded, fontname="Helvetica"];']
    lines += [f"  {_quoted(name)} [style=filled];" for name in dict.fromkeys(drawn["source"])]
    for edge in drawn.to_dict("records"):
        width = 0.5 + 4.5 * abs(edge["total"]) / largest
        colour = _REPAIRS if edge["total"] > 0 else _BREAKS
        style = "dashed" if abs(edge["mediated"]) > abs(edge["direct"]) else "solid"
        label = f"{edge['total']:+.2f} ({edge['direct']:+.2f} direct)"
        lines.append(
            f"  {_quoted(edge['source'])} -> {_quoted(edge['target'])} "
            f'[penwidth={width:.2f}, color="{colour}", style={style}, label={_quoted(label)}];'
        )
    return "\n".join([*lines, "}", ""])


def _dot(found: EdgeGraph, question: Question, floor: float | None) -> bytes:
    return edges_as_dot(found.table()).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _graphml(found: EdgeGraph, question: Question, floor: float | None) -> bytes:
    return edges_as_graphml(found.table(), about(question, found.effects, floor)).encode()


def _neuronpedia(found: EdgeGraph, question: Question, floor: float | None) -> bytes:
    (tokens,) = token_texts(question.model.tokenizer, question.prompts.select([0]))
    record = neuronpedia_record(found, about(question, found.effects, floor), tokens)
    return json.dumps(record, indent=1, default=str, allow_nan=False).encode()


_WRITERS: dict[str, Writer] = {  # by the end of a file's name, the longer ones first
    ".neuronpedia.json": _neuronpedia,
    ".json": _json,
    ".dot": _dot,
    ".graphml": _graphml,
    ".parquet": _parquet,
}
