"""From an audit to one HTML file that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.questions.circuit.audit import CircuitAudit
from selfrepair.questions.page.audit_method import method_section
from selfrepair.questions.page.balance import waterfall
from selfrepair.questions.page.drawing import drawing
from selfrepair.questions.page.lists import ablations, completion, members_list, missing_list
from selfrepair.questions.page.markup import Markup, el, join_markup
from selfrepair.questions.page.page_extras import PageExtras, extras
from selfrepair.questions.page.prompt_browser import prompt_browser
from selfrepair.questions.page.shown import ShownAudit
from selfrepair.questions.page.verdict_card import verdict_card
from selfrepair.questions.question import Question
from selfrepair.report.page.script import style as report_style
from selfrepair.results.atomic_files import put

PAGE = "audit.html"
_PARTS = {
    "verdict": "Verdict",
    "balance": "Balance",
    "circuit": "Circuit",
    "missing": "Missing",
    "members": "Members",
    "completion": "Completion",
    "ablations": "Ablations",
    "prompts": "Prompts",
    "method": "Method",
}


def write_audit_page(
    question: Question, found: CircuitAudit, out: str | Path, floor: float | None = None, edges: bool = False
) -> Path:
    """Writes the page of an audit; measures what it shows besides (see `extras`).

    Args:
        question: model, prompts and settings.
        found: the audit.
        out: the HTML file; replaced if it exists.
        floor: the numerical floor, where it has been measured.
        edges: whether edges of single members and repairers are measured, too.

    Raises:
        SelfRepairError: the file cannot be written.
    """
    text = audit_page(question, found, extras(question, found, floor, edges))
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, text.encode())
    except OSError as problem:
        raise SelfRepairError(f"Cannot write {path}: {problem}.", "Give another folder with --out.") from problem
    return path


def audit_page(question: Question, found: CircuitAudit, more: PageExtras) -> str:
    """The page as text.

    Args:
        question: model, prompts and settings.
        found: the audit.
        more: what was measured for the page.
    """
    shown = ShownAudit(question, found, more)
    content = join_markup(
        verdict_card(shown),
        waterfall(shown),
        drawing(shown),
        missing_list(shown),
        members_list(shown),
        completion(shown),
        ablations(shown),
        prompt_browser(shown),
        method_section(shown),
    )
    name = str(getattr(question.model, "name", "model"))
    return f"<!doctype html>\n{el('html', _head(name), _body(name, found.effects.operator, content), lang='en')}\n"


def _head(name: str) -> Markup:
    policy = (
        f"default-src 'none'; script-src 'sha256-{_hash(_script())}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    return el(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'),
        el("title", f"{name} · circuit audit"),
        Markup('<link rel="icon" href="data:,">'),
        el("style", Markup(page_style())),
    )


def _body(name: str, operator: str, content: Markup) -> Markup:
    links = [el("a", title, href=f"#{anchor}") for anchor, title in _PARTS.items()]
    brand = el(
        "div", el("b", "Circuit audit"), el("span", f"{name}, {operator} ablation", class_="quiet"), class_="brand"
    )
    theme = el("div", el("button", "☾", type="button", id="theme", aria_label="Light or dark"), class_="choices")
    return el(
        "body",
        el("a", "Skip to the content", class_="skip", href="#view"),
        el("header", brand, el("nav", *links, aria_label="Parts"), theme, id="bar"),
        el("main", content, id="view", tabindex="-1"),
        el("div", id="said", role="status", aria_live="polite"),
        el("script", Markup(_script()), type="module"),
    )


def page_style() -> str:
    """The stylesheet: the report's, and what audits add."""
    return report_style() + _static("audit.css")


@cache
def _script() -> str:
    return _static("audit.js")


def _static(name: str) -> str:
    return files("selfrepair.questions.page").joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
