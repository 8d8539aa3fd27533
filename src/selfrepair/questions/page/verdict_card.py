"""The verdict, the rule it follows, and the numbers it rests on."""

from __future__ import annotations

from selfrepair.questions.circuit.circuit_verdict import RULE
from selfrepair.questions.page.markup import Markup, el, join_markup, number
from selfrepair.questions.page.shown import ShownAudit, ends
from selfrepair.questions.tables.table_parts import logits, part
from selfrepair.statistics.estimates import Estimate

_SAID = {
    "covered": "Ablating this circuit understates it: components outside make up for it.",
    "complete": "What the circuit wrote does not come back when it is ablated.",
    "wrong sign": "Ablating the circuit moves the readout in the direction that it does not write.",
    "unstable": "The answer changes with the ablation or with the prompts that were drawn.",
    "not measurable": "These prompts do not show that the circuit writes anything.",
    "undecided": "Nothing outside is large enough to be called missing, and yet something may come back.",
}


def verdict_card(shown: ShownAudit, copies: bool = True) -> Markup:
    """The first thing on the page.

    Args:
        shown: the audit.
        copies: whether there are buttons that copy it as code, which need the page's script.
    """
    found, name = shown.found, getattr(shown.question.model, "name", "model")
    verdict = found.verdict
    roles = [
        el("span", el("b", role), " ", ", ".join(map(str, sites)), class_="badge")
        for role, sites in found.runs.roles.items()
    ]
    return el(
        "section",
        el("p", f"Circuit audit of {name}, {found.effects.operator} ablation", class_="over"),
        el("h1", "Verdict: ", el("b", verdict.word, class_=f"word v-{verdict.word.replace(' ', '-')}")),
        el("p", _SAID[verdict.word], " ", f"{verdict.reason[:1].upper()}{verdict.reason[1:]}.", class_="headline"),
        el("p", *roles, class_="title"),
        _tiles(shown),
        _against(shown),
        el("details", el("summary", "The rule that gives this word"), _rule(verdict.word)),
        _ways() if copies else None,
        class_="hero",
        id="verdict",
    )


def _ways() -> Markup:
    return el(
        "p",
        el("button", "Copy as Python", type="button", data_copy="as-python"),
        el("button", "Copy as claims", type="button", data_copy="as-claims"),
        el("a", "both are below", href="#copies", class_="quiet"),
        class_="ways",
    )


def _tiles(shown: ShownAudit) -> Markup:
    found, covering = shown.found, shown.found.covering
    rows: list[tuple[str, Estimate, str, str]] = [
        ("clean readout", covering.sampling.mean(covering.effects.clean), "clean", "effect"),
        ("the circuit wrote", covering.total("lost"), "lost", "effect"),
        ("total effect of ablating it", covering.total("total_effect"), "total_effect", "effect"),
        ("came back", covering.repaired_share, "repaired_share", "share"),
        ("necessity", found.faithfulness.necessity, "necessity", "share"),
        ("faithfulness alone", found.faithfulness.faithfulness, "faithfulness", "share"),
    ]
    return el("dl", *(_tile(*row) for row in rows), class_="numbers", style="--tiles:6")


def _tile(title: str, estimate: Estimate, name: str, kind: str) -> Markup:
    text = logits(estimate) if kind == "effect" else part(estimate)
    value, _, interval = text.partition(" ")
    interval = "its denominator may be zero" if value.startswith("(") else interval
    return el(
        "div",
        el("dt", title),
        el(
            "dd",
            el("span", number(ends(estimate)[0], value, name), class_="value"),
            el("span", interval, class_="quiet"),
        ),
        class_="number",
    )


def _against(shown: ShownAudit) -> Markup | None:
    """Why faithfulness may be above 1."""
    faith = shown.found.faithfulness
    if not (float(faith.faithfulness.value) > 1 and len(faith.against)):
        return None
    names = ", ".join(f"{row.component} ({row.clean_direct_effect:+.2f})" for row in faith.against.head(4).itertuples())
    return el(
        "p",
        f"The circuit alone does better than the model because heads outside work against the answer: {names}.",
        class_="note",
    )


def _rule(word: str) -> Markup:
    """The rule, line by line; the one that applied stands out."""
    first, *lines = RULE.split(". ")
    items = [
        el("li", el("b", head), ":", rest, class_="chosen" if head == word else None)
        for head, _, rest in (line.rstrip(".").partition(":") for line in lines)
    ]
    return join_markup(el("p", f"{first}:"), el("ol", *items, class_="rule"))
