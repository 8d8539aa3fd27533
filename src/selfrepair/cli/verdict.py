"""What has to be said loudly about a run, whenever its numbers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from selfrepair.results import checks

if TYPE_CHECKING:
    from selfrepair.results.runs import Run

CHECKS_FAIL, INTERRUPTED = 3, 130  # exit codes of `selfrepair run`


def verdict(run: Run) -> int:
    """Says on standard error what is wrong with a run; returns the exit code it deserves, 0 for a good one."""
    outcome = run.outcome
    loud = Console(stderr=True)
    code = 0
    if outcome["status"] == "interrupted":
        loud.print(
            "[bold yellow]Interrupted:[/] the folder holds what had been measured until then; "
            "`selfrepair resume` goes on with it."
        )
        code = INTERRUPTED
    for said in checks.warned(outcome):
        loud.print(f"[bold yellow]Inexact:[/] {escape(said)}", highlight=False)
    if failed := checks.failed(outcome):
        title = "THE RUN FAILS ITS CHECKS" if outcome["ledger_closes"] else "THE LEDGER DOES NOT CLOSE"
        loud.print(
            f"[bold red]{title}[/]: {escape(' '.join(failed))} Do not use these numbers; "
            "`selfrepair check` tells which identity fails; --engine reference and --dtype float64 help to find "
            "out why.",
            highlight=False,
        )
        code = CHECKS_FAIL
    return code
