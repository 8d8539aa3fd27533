"""`selfrepair audit`: test a circuit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selfrepair.cli.options import Quiet, with_settings
from selfrepair.cli.questions import LOADING, PROMPTS, Json, Model, Out, as_json, question, required, settings
from selfrepair.cli.report import show_page
from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.questions.circuit.audit import CircuitAudit
    from selfrepair.questions.question import Question

Rank = Literal["signed", "absolute"]
_OPTIONS = (*PROMPTS, *settings(), *LOADING)


@with_settings(_OPTIONS)
def audit(
    model: Model = "default",
    *,
    circuit: Annotated[
        str, typer.Option(help="Its components: `9.9,9.6,10.0`, with roles `movers=9.9,9.6 s2=7.3`, or a circuit file.")
    ],
    top_edges: Annotated[
        int | None,
        typer.Option(min=1, help="From a file with scores, take this many edges (or components), best first."),
    ] = None,
    rank: Annotated[Rank | None, typer.Option(help="How --top-edges counts scores; there is no default.")] = None,
    out: Out = None,
    page: Annotated[bool, typer.Option(help="Write audit.html into the folder, too.")] = True,
    edges: Annotated[
        bool, typer.Option("--edges", help="For the page: edges of single members; four passes for each.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Is this circuit needed, is it enough, who covers for it, and what does it miss?

    Necessity and faithfulness with intervals; who covers when the circuit is ablated and by which motif; components
    that it misses, selected on half of the groups of prompts and confirmed on the other; members it does not need; the
    same under other ablations; and a verdict by a printed rule.
    """
    from selfrepair.circuits.circuit import Circuit
    from selfrepair.questions.circuit.audit import audit as answer
    from selfrepair.questions.saving import save_audit
    from selfrepair.questions.tables.audit_report import print_audit
    from selfrepair.questions.tables.records import audit_record

    named = required(circuit, "components")
    if (open_ or edges) and (out is None or not page):
        raise SelfRepairError("The page is written into the folder of --out.", "Give --out FOLDER, without --no-page.")
    Circuit.given(named, top_edges, rank)  # complains before the model is loaded
    asking = question(model, asked, quiet)
    tested = Circuit.given(named, top_edges, rank, asking.model)
    for note in tested.notes:
        Console(stderr=True, quiet=quiet).print(f"Note: {note}", style="yellow")
    audited = answer(asking, tested.roles)
    floor = asking.floor(audited.runs.circuit)
    if out is not None:
        save_audit(audited, asking, floor, out)
        if page:
            _write_page(asking, audited, floor, out, edges=edges, opened=open_, quiet=quiet)
    if json:
        as_json(audit_record(asking, audited, floor))
    else:
        print_audit(Console(), asking, audited, floor)


def _write_page(
    question: Question,
    found: CircuitAudit,
    floor: float,
    folder: Path,
    *,
    edges: bool,
    opened: bool,
    quiet: bool,
) -> None:
    """Writes audit.html, says where it is, and opens it where that was asked for."""
    from selfrepair.questions.page.write_audit import PAGE, write_audit_page

    path = write_audit_page(question, found, folder / PAGE, floor, edges)
    Console(stderr=True, quiet=quiet).print(f"Page: {path}", soft_wrap=True)
    if opened:
        show_page(path)
