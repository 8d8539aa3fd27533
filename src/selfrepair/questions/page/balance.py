"""The waterfall: what the circuit wrote is lost, components write more or less than before, and the rest happened."""

from __future__ import annotations

from typing import NamedTuple

from selfrepair.questions.covering.motifs import LABELS
from selfrepair.questions.page import tracks
from selfrepair.questions.page.markup import Markup, el, join_markup
from selfrepair.questions.page.shown import ShownAudit, effect_text, ends, figure, motif_class
from selfrepair.questions.tables.covering import MOTIF_TITLES, shown_rows
from selfrepair.report.number_formats import SMALLEST

_OTHERS = (
    ("other heads", "all_heads", "head"),
    ("other mixers", "all_mixers", "mixer"),
    ("other MLPs", "all_mlps", "mlp"),
)
_NAMED = 6  # components with a bar of their own, and two that break


class Step(NamedTuple):
    """A bar of the waterfall: a mean with its ends, in units of the readout."""

    title: str
    value: float
    low: float
    high: float
    look: str
    note: str = ""


def waterfall(shown: ShownAudit) -> Markup:
    """From what was lost to the total effect."""
    steps, total = steps_of(shown)
    places = [0.0]
    for step in steps:
        places.append(places[-1] + step.value)
    whiskers = [place + end for place, step in zip(places, steps, strict=False) for end in (step.low, step.high)]
    axis = tracks.Axis.over([*places, total.value], whiskers)
    rows = [_row(axis, place, step, shown.unit) for place, step in zip(places, steps, strict=False)]
    rows.append(_row(axis, 0.0, total, shown.unit))
    caption = (
        f"Mean changes of the readout in {shown.unit}, with {shown.question.sampling.in_words}. Each bar starts where "
        "the one above it ends; together they are the total effect exactly. Colours say how a component covers."
    )
    content = join_markup(
        el("div", *rows, tracks.scale(axis, shown.unit), class_="rows waterfall"), legend(shown), _motifs(shown)
    )
    return figure("What was lost, and who made up for it", content, caption, "balance")


def steps_of(shown: ShownAudit) -> tuple[list[Step], Step]:
    """The bars from the loss on, and the total effect that they add up to."""
    covering, sign = shown.found.covering, shown.found.covering.sign
    value, low, high = ends(covering.total("lost"))
    steps = [Step("lost: what the circuit wrote", -value, -high, -low, "lost")]
    named = {"head": 0.0, "mixer": 0.0, "mlp": 0.0}
    for row in shown_rows(covering.table, _NAMED).to_dict("records"):
        line, *edges = (sign * row[name] for name in ("line", "line_low", "line_high"))
        note = f"{row['label']}{', not in the circuit' if row['component'] in shown.missing else ''}"
        steps.append(Step(str(row["component"]), line, min(edges), max(edges), motif_class(str(row["label"])), note))
        named[str(row["kind"])] += line
    nan = float("nan")
    for title, name, kind in _OTHERS:
        rest = float(covering.total(name).value) - named[kind]
        if kind != "mixer" or covering.components.mixers:
            steps.append(Step(title, rest, nan, nan, "rest"))
    for title, name in (("norms behind attention", "post_norms"), ("final norm", "norm"), ("curvature", "curvature")):
        estimate = covering.total(name)
        if name == "norm" or abs(float(estimate.value)) > SMALLEST:
            steps.append(Step(title, *ends(estimate), "rest"))
    return steps, Step("total effect", *ends(covering.total("total_effect")), "total")


def _row(axis: tracks.Axis, start: float, step: Step, unit: str) -> Markup:
    text = effect_text(step.value, step.low, step.high)
    marks = [
        tracks.bar(axis, start, start + step.value, step.look),
        tracks.whisker(axis, start + step.low, start + step.high),
    ]
    title = f"{step.title}: {text} {unit}{f' ({step.note})' if step.note else ''}"
    return tracks.row(axis, step.title, marks, text, title, f"step-{step.look}")


def legend(shown: ShownAudit) -> Markup:
    """Colours of the labels that occur, with what they mean."""
    present = {str(label) for label in shown_rows(shown.found.covering.table, _NAMED)["label"]}
    items = [
        el("span", el("i", class_=motif_class(label)), label, class_="swatch", title=LABELS[label])
        for label in LABELS
        if label in present
    ]
    return el("p", *items, class_="legend")


def _motifs(shown: ShownAudit) -> Markup:
    sums = shown.found.covering.motif_sums()
    texts = [f"{MOTIF_TITLES[name]} {effect_text(*ends(estimate))}" for name, estimate in sums.items()]
    return el("p", f"By motif, all components together: {' · '.join(texts)}.", class_="note")
