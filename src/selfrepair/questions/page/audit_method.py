"""What every number on the page is, what could not be shown, and the audit as code and claims."""

from __future__ import annotations

import html

from selfrepair.questions.page.copies import as_claims, as_python
from selfrepair.questions.page.markup import Markup, el, join_markup
from selfrepair.questions.page.shown import ShownAudit
from selfrepair.questions.tables.records import about
from selfrepair.questions.tables.table_parts import foot
from selfrepair.terminal import plain

_SYMBOLS = {
    "the circuit wrote": "direct effect of the ablated components less that of what replaced them: the readout's loss "
    "if nothing responded",
    "total effect": "change of the readout in the ablated run",
    "came back": "total effect + what the circuit wrote: self-repair. Lines of all components and norms add up to it",
    "line": "change in what a component itself writes to the readout, norms of the clean run",
    "freeze test": "repair that is gone when a component is held at its clean output in the ablated run",
    "necessity": "(clean − circuit ablated) / (clean − every head ablated)",
    "faithfulness": "(every other head ablated − every head ablated) / (clean − every head ablated); MLPs live",
    "anti-erasure, backup, breakage": "parts of a line: what is no longer written against the answer, what is written "
    "for it that was not there before, what is lost besides",
}


def method_section(shown: ShownAudit) -> Markup:
    """The end of the page."""
    found, extras = shown.found, shown.extras
    facts = about(shown.question, found.effects, extras.floor)
    prompts = facts["prompts"]
    rows = [
        ("model", f"{facts['model']['name']}, sha256 {str(facts['model']['sha256'])[:16]}"),
        (
            "prompts",
            f"{prompts['number']}, sha256 {str(facts['prompts_sha256'])[:16]}; dropped {prompts['dropped']}",
        ),
        ("read from", str(shown.question.prompts.provenance.get("file", "prompts given in Python"))),
        ("seed", str(facts["seed"])),
        ("controls", ", ".join(map(str, found.covering.controls)) or "none"),
        ("stability", f"{found.stability:.2f}: mean Jaccard index of the selected over resampled groups or prompts"),
    ]
    return el(
        "section",
        el("h2", "What the numbers are"),
        el("p", foot(shown.question, found.effects.operator, found.effects.residual, extras.floor)),
        *(el("p", note, class_="warning") for note in extras.notes),
        el("dl", *(join_markup(el("dt", name), el("dd", text)) for name, text in rows), class_="symbols"),
        el("details", el("summary", "Symbols"), el("dl", *_symbols(), class_="symbols")),
        _copies(shown),
        class_="figure",
        id="method",
    )


def _symbols() -> list[Markup]:
    return [join_markup(el("dt", name), el("dd", text)) for name, text in _SYMBOLS.items()]


def _copies(shown: ShownAudit) -> Markup:
    python, claims = (
        el("pre", Markup(html.escape(plain(text))), id=name, tabindex="0")
        for name, text in (("as-python", as_python(shown)), ("as-claims", as_claims(shown)))
    )
    return el(
        "div",
        el("h3", "As Python"),
        python,
        el("h3", "As claims, for ", el("code", "selfrepair claim claims.yaml")),
        claims,
        id="copies",
    )
