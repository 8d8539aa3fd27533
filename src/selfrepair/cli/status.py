"""`selfrepair status`: the progress of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from selfrepair.terminal import Console


def status(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")] = False,
) -> None:
    """Show the progress of a run, from its folder alone, without changing anything."""
    from selfrepair.run.scheduling.run_status import status as look

    progress = look(folder)
    text, ablation = progress.plan["text"], progress.plan["ablation"]
    facts = {
        "model": progress.plan["model"]["name"],
        "text": f"{text['source']}: {text['scored_tokens']} tokens of {text['documents']} documents",
        "ablation": f"{ablation['operator']}, donors: {ablation['donors']}",
        "surveyed": f"{progress.surveyed} of {progress.units} units",
        "swept": f"{progress.swept} of {progress.units} units" + (", which is enough" if progress.enough else ""),
        "damaged": ", ".join(progress.damaged) or "none",
        "of another plan": ", ".join(progress.foreign) or "none",
        "claimed": ", ".join(progress.claimed) or "none",
        "results": progress.results,
    }
    if as_json:
        typer.echo(json.dumps(facts | {"complete": progress.complete}, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, "bold"), value)
    Console().print(table)
    if not (progress.complete and progress.merged):
        Console().print(f"\nContinue with: selfrepair resume {folder}", soft_wrap=True)
