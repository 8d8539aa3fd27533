"""What has to be said loudly about a run, whenever its numbers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run

LEDGER_OPEN, INTERRUPTED = 3, 130  # exit codes of `selfrepair run`


def verdict(run: Run) -> int:
    """Says on standard error what is wrong with a run; returns the exit code it deserves, 0 for a good one."""
    outcome = run.outcome
    loud = Console(stderr=True)
    code = 0
    if outcome["status"] == "interrupted":
        loud.print(
            Text("Interrupted:", "bold yellow"),
            "the folder holds what had been measured until then; `selfrepair resume` goes on with it.",
        )
        code = INTERRUPTED
    elif outcome["status"] != "complete":
        loud.print(f"Partial ({outcome['status']}): these numbers are of what had been measured.", markup=False)
    if not outcome["ledger_closes"]:
        loud.print(
            Text("THE LEDGER DOES NOT CLOSE:", "bold red"),
            "on some token its lines miss the self-repair by "
            f"{outcome['ledger_residual']:.1e} logits, more than rounding explains. Do not use these numbers; "
            "`selfrepair check` tells which identity fails; --engine reference and --dtype float64 help to find "
            "out why.",
        )
        code = LEDGER_OPEN
    return code
