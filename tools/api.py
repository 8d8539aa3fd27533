"""Writes docs/api.md from the docstrings of the public names: `python tools/api.py`; `--check` only compares."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import selfrepair
from selfrepair import paper

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
GROUPS = {
    "Measuring": ("load", "windows", "measure", "resume", "prove", "LanguageModel", "Windows", "Filter"),
    "Operators": ("Resample", "Mean", "PositionMean", "Zero", "Unchanged", "Operator", "Source"),
    "Results": ("load_run", "combine", "compare", "view", "write_report", "Run", "Comparison"),
    "Sites and interventions": (
        *("Head", "Attention", "Mixer", "Mlp", "MlpPart", "Neuron", "Direction", "At", "Site", "Port"),
        *("Intervention", "each", "together", "pairs", "freezing", "ports_of"),
    ),
    "Prompts": ("Prompts", "Prompt"),
    "Names and circuits": (*("parse_names", "resolve", "Circuit", "AtSpan", "Edge", "End"),),
    "Questions": ("who", "ablate", "card", "interact", "recruit", "graph", "audit", "write_audit"),
    "Readouts": ("NextToken", "LogitDifference", "Readout", "Reading"),
    "Engines": (
        *("clean_run", "port_outputs", "ReplayEngine", "DeltaEngine", "ReferenceEngine", "Engine"),
        *("CleanRun", "Ledger"),
    ),
    "Errors and warnings": (
        *("SelfRepairError", "RefusedModel", "Proof", "ChecksFail", "LedgerDoesNotClose", "NumbersAreInexact"),
        "PromptsDropped",
    ),
}
INTRODUCTION = """\
# Public names

Written by `python tools/api.py` from the docstrings, which have arguments, shapes, units, errors and an example that
the tests run: `help(selfrepair.measure)`. Everything is imported from `selfrepair`; what is not listed here is internal
and may change. In examples `model` is a small GPT-2 (2 layers, 2 heads), `text` its windows, `run` what `measure`
returned for them (in `runs/resample`), `tokens` two texts of 12 tokens, and `clean` and `donors` what `clean_run` and
`port_outputs` return for them.
"""


def first_sentence(shown: object) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join((inspect.getdoc(shown) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0]


def table(owner: ModuleType, names: tuple[str, ...]) -> list[str]:
    """Names with their first sentences."""
    cells = [(name, first_sentence(getattr(owner, name)).replace("|", "\\|")) for name in names]
    return ["| name | |", "|---|---|", *(f"| `{name}` | {sentence} |" for name, sentence in cells)]


def page() -> str:
    """The text of docs/api.md.

    Raises:
        ValueError: a public name that is in no group, or the other way round.
    """
    grouped = [name for names in GROUPS.values() for name in names]
    if sorted(grouped) != sorted(selfrepair.__all__):
        raise ValueError(f"in one of the two alone: {sorted({*grouped} ^ {*selfrepair.__all__})}")
    lines = [INTRODUCTION]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", *table(selfrepair, names), ""]
    lines += ["## The paper", "", "From `selfrepair.paper`; see [paper.md](paper.md).", ""]
    return "\n".join([*lines, *table(paper, tuple(paper.__all__)), ""])


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text("utf-8") != page():
        sys.exit("docs/api.md is out of date: run python tools/api.py")
