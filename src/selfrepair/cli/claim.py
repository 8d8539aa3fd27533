"""`selfrepair claim`: claims checked again."""

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
    judged = [judge(question, one, claims) for one in claims.claims]
    code = exit_code(judged)
    if json:
        as_json({"exit_code": code, "claims": [_record(one) for one in judged]})
    else:
        _print(Console(), judged, code, question.sampling.kind)
    raise typer.Exit(code)


def _record(one: Judged) -> dict[str, object]:
    return {"name": one.claim.name, "status": one.status, "reason": one.reason, "about_needed": one.decisive}


def _print(console: Console, judged: list[Judged], code: int, kind: str) -> None:
    widest = max(len(one.claim.name) for one in judged)
    for one in judged:
        mark, style = _MARKS[one.status]
        units = "groups" if kind == "groups" else "prompts"
        more = f" (about {one.decisive} {units} would decide)" if one.decisive else ""
        console.print(Text(mark, style), Text(f"{one.claim.name:<{widest}}  {one.reason}{more}"))
    counts = {status: sum(one.status == status for one in judged) for status in _MARKS}
    console.print(", ".join(f"{number} {status}" for status, number in counts.items() if number), f"· exit code {code}")
