"""`selfrepair claim`: check claims from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from selfrepair.cli.options import Quiet
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.questions.claims.judging import Judged

_MARKS = {
    "holds": ("✓", "green"),
    "fails": ("✗", "bold red"),
    "undecided": ("?", "yellow"),
    "not measurable": ("?", "yellow"),
}


def claim(
    file: Annotated[Path, typer.Argument(help="A claims file; docs/claims.md has an example.")],
    json: Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check claims about a model: exit code 0 if all hold, 1 if one fails, 3 if one is undecided or not measurable.

    Undecided is no pass: the interval holds the bound. How many groups or prompts would decide is printed.
    """
    from selfrepair.cli.questions import as_json
    from selfrepair.cli.silence_libraries import quieten
    from selfrepair.questions.claims.asking import asked
    from selfrepair.questions.claims.claims_file import read_claims
    from selfrepair.questions.claims.judging import KINDS, exit_code, judge

    claims = read_claims(file, KINDS)
    quieten()
    question = asked(claims, progress=not quiet)
    judged = [judge(question, stated, claims) for stated in claims.claims]
    code = exit_code(judged)
    if json:
        as_json({"exit_code": code, "claims": [_record(judgement) for judgement in judged]})
    else:
        _print(Console(), judged, code, question.sampling.kind)
    raise typer.Exit(code)


def _record(judgement: Judged) -> dict[str, object]:
    return {
        "name": judgement.claim.name,
        "status": judgement.status,
        "reason": judgement.reason,
        "about_needed": judgement.decisive,
    }


def _print(console: Console, judged: list[Judged], code: int, kind: str) -> None:
    widest = max(len(judgement.claim.name) for judgement in judged)
    for judgement in judged:
        mark, style = _MARKS[judgement.status]
        units = "groups" if kind == "groups" else "prompts"
        more = f" (about {judgement.decisive} {units} would decide)" if judgement.decisive else ""
        console.print(Text(mark, style), Text(f"{judgement.claim.name:<{widest}}  {judgement.reason}{more}"))
    counts = {status: sum(judgement.status == status for judgement in judged) for status in _MARKS}
    console.print(", ".join(f"{number} {status}" for status, number in counts.items() if number), f"· exit code {code}")
