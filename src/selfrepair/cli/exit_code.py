"""Warnings and failures of a run, printed whenever its numbers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from selfrepair.results import checks
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run

CHECKS_FAIL, INTERRUPTED = 3, 130  # exit codes of `selfrepair run`


def exit_code_of(run: Run) -> int:
    """Prints on standard error what is wrong with a run; returns its exit code, 0 for a good one."""
    outcome = run.outcome
    loud = Console(stderr=True)
    code = 0
    if outcome["status"] == "interrupted":
        loud.print(
            Text("Interrupted:", "bold yellow"),
            "the folder holds what had been measured until then; `selfrepair resume` continues it.",
        )
        code = INTERRUPTED
    elif outcome["status"] not in ("complete", checks.FAILED):
        loud.print(f"Partial ({outcome['status']}): these numbers cover what had been measured.", markup=False)
    for warning in checks.warned(outcome):
        loud.print(Text("Inexact:", "bold yellow"), warning)
    if failed := checks.failed(outcome):
        title = "THE RUN FAILS ITS CHECKS:" if outcome["ledger_closes"] else "THE LEDGER DOES NOT CLOSE:"
        loud.print(
            Text(title, "bold red"),
            f"{' '.join(failed)} Do not use these numbers; `selfrepair check` names the identity that fails; "
            "--engine reference and --dtype float64 help to find the cause.",
        )
        code = CHECKS_FAIL
    return code
