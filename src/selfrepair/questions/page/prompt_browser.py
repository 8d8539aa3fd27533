"""Prompt by prompt: tokens and answers, readout before and after, the prompt's own lines, attention of repairers."""

from __future__ import annotations

import numpy as np

from selfrepair.questions.circuit.circuit_runs import CIRCUIT
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.questions.page import tracks
from selfrepair.questions.page.markup import Markup, el, join_markup, number
from selfrepair.questions.page.page_extras import REPAIRERS, shown_repairers
from selfrepair.questions.page.shown import ShownAudit, motif_class

PROMPTS = 120  # in the page
_LINES = 6  # of each prompt
_SOURCES = 3  # tokens that are named under a head's attention
_WIDEST = 8  # components among which heads with attention are looked for
_FAINT = 0.005  # attention that is not coloured


def prompt_browser(shown: ShownAudit) -> Markup:
    """All prompts (of long lists the first ones), one block each; the page's program filters and walks them."""
    total = len(shown.question.prompts)
    number_shown = min(total, PROMPTS)
    blocks = [_prompt(shown, place) for place in range(number_shown)]
    said = f"{total} prompts" if number_shown == total else f"The first {number_shown} of {total} prompts"
    controls = el(
        "p",
        el(
            "label",
            "Find ",
            el("input", type="search", id="find", placeholder="text, group, answer", autocomplete="off"),
        ),
        el("label", "Order ", el("select", *_orders(), id="order")),
        el("span", "[ and ] go to the prompt before and after.", class_="quiet"),
        class_="controls",
    )
    caption = (
        f"{said}. Numbers are of the run with the circuit ablated, in {shown.unit}: came back = total effect + what "
        "the circuit wrote. Lines: what each component writes more (+) or less (−) on this prompt. Attention is that "
        "of the answer's position (framed) to each token, before and after the ablation."
    )
    return el(
        "section",
        el("h2", "Prompt by prompt"),
        controls,
        el("div", *blocks, id="prompt-list"),
        el("p", caption, class_="figcaption"),
        class_="figure",
        id="prompts",
    )


def _orders() -> list[Markup]:
    orders = {"place": "as given", "total": "largest loss first", "repair": "most repaired first"}
    return [el("option", text, value=name) for name, text in orders.items()]


def _values(shown: ShownAudit) -> dict[str, Array]:
    effects = shown.found.effects
    row = effects.row(CIRCUIT)
    names = ("total_effect", "lost", "self_repair", "norm", "ablated")
    return {"clean": effects.clean, **{name: getattr(effects, name)[row] for name in names}}


def _prompt(shown: ShownAudit, place: int) -> Markup:
    prompts, extras = shown.question.prompts, shown.extras
    values = {name: float(value[place]) for name, value in _values(shown).items()}
    head = el(
        "summary",
        el("b", f"{place + 1}. {prompts.ids[place]}"),
        el("span", prompts.groups[place], class_="badge"),
        el("span", _start(extras.tokens[place]), class_="token preview"),
        el(
            "span",
            number(values["clean"], f"{values['clean']:+.2f}", "clean"),
            " → ",
            number(values["ablated"], f"{values['ablated']:+.2f}", "ablated"),
            class_="numeric",
        ),
    )
    answers = join_markup(
        "right ",
        el("span", extras.answers[place], class_="token"),
        *([" against ", el("span", extras.wrong[place], class_="token")] if extras.wrong[place] else []),
    )
    return el(
        "details",
        head,
        _tokens(shown, place),
        el("p", answers, class_="quiet"),
        _ledger(values),
        el("div", _lines(shown, place), *_attention(shown, place), class_="parts"),
        class_="prompt",
        id=f"prompt-{place + 1}",
        data_place=str(place),
        data_total=f"{values['total_effect']:.9g}",
        data_repair=f"{values['self_repair'] / abs(values['lost']) if values['lost'] else 0.0:.9g}",
    )


def _start(tokens: tuple[str, ...], most: int = 90) -> str:
    text = "".join(tokens)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _tokens(shown: ShownAudit, place: int) -> Markup:
    """The prompt's tokens; the one that predicts the answer framed, named spans with their names."""
    position = int(shown.question.prompts.positions[place])
    spans = shown.question.prompts.spans[place]
    pieces = []
    for at, text in enumerate(shown.extras.tokens[place]):
        names = [name for name, (start, end) in spans.items() if start <= at < end]
        classes = " ".join(["token", *(["answers-here"] if at == position else []), *(["spanned"] if names else [])])
        pieces.append(el("span", text, class_=classes, title=f"position {at}{f', {names}' if names else ''}"))
    return el("p", *pieces, class_="passage small")


def _ledger(values: dict[str, float]) -> Markup:
    titles = {
        "clean": "clean",
        "lost": "the circuit wrote",
        "total_effect": "total effect",
        "self_repair": "came back",
        "norm": "of it the final norm",
        "ablated": "ablated",
    }
    cells = [
        el("span", f"{title} ", number(values[name], f"{values[name]:+.3f}", name)) for name, title in titles.items()
    ]
    return el("p", *cells, class_="ledger")


def _lines(shown: ShownAudit, place: int) -> Markup:
    """This prompt's own largest lines."""
    covering = shown.found.covering
    lines = covering.lines[place]
    sites = [str(site) for site in covering.components.sites]
    order = [int(index) for index in np.argsort(-np.abs(lines), kind="stable")[:_LINES] if lines[index]]
    axis = tracks.Axis.over([lines[index] for index in order])
    rows = [
        tracks.row(
            axis,
            sites[index],
            [tracks.bar(axis, 0.0, lines[index], motif_class(shown.label(sites[index])))],
            f"{lines[index]:+.2f}",
            f"{sites[index]} writes {lines[index]:+.4f} {shown.unit}",
        )
        for index in order
    ]
    return el("div", el("h3", "Its own lines"), *rows, class_="rows compact")


def _attention(shown: ShownAudit, place: int) -> list[Markup]:
    """The strongest heads that cover, as far as their attention is known."""
    split = shown.found.covering.split
    heads = {str(head): row for row, head in enumerate(split.heads)} if split is not None else {}
    names = [name for name in map(str, shown_repairers(shown.found, _WIDEST)) if name in heads]
    return [_attends(shown, place, heads[name], name) for name in names[:REPAIRERS]]


def _attends(shown: ShownAudit, place: int, row: int, name: str) -> Markup:
    """One head's attention before and after, and the tokens that its line changed by."""
    split, tokens = shown.found.covering.split, shown.extras.tokens[place]
    assert split is not None
    length = len(tokens)
    parts = split.qk_parts[row, place, :length] + split.ov_parts[row, place, :length]
    order = np.argsort(-np.abs(parts), kind="stable")[:_SOURCES]
    named: list[Markup] = []
    for index in order:
        named += [el("span", tokens[index], class_="token source"), Markup(f" {parts[index]:+.2f} ")]
    label = shown.label(name)
    line, qk, ov = (float(values[row, place]) for values in (split.line, split.qk, split.ov))
    return el(
        "div",
        el("h3", f"{name} attends", el("span", label, class_=f"badge {motif_class(label)}")),
        _attended("before", tokens, split.before[row, place]),
        _attended("after", tokens, split.after[row, place]),
        el(
            "p",
            f"line {line:+.2f} = QK {qk:+.2f} + OV {ov:+.2f}; most by ",
            *named,
            class_="quiet",
        ),
        class_="attention",
    )


def _attended(when: str, tokens: tuple[str, ...], weights: Array) -> Markup:
    pieces = []
    for text, weight in zip(tokens, weights, strict=False):
        share = f"--a:{100 * min(max(float(weight), 0.0), 1.0):.0f}%" if weight >= _FAINT else None
        pieces.append(el("span", text, class_="token", style=share, title=f"{100 * float(weight):.1f}%"))
    return el("p", el("b", when), el("span", *pieces), class_="attended-row")
