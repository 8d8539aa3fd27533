"""What is missing, what the members do, the circuit made larger, and the same under other ablations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfrepair.questions.circuit.completion import ENOUGH
from selfrepair.questions.page import tracks
from selfrepair.questions.page.markup import Markup, el, join_markup
from selfrepair.questions.page.shown import ShownAudit, effect_text, ends, figure, html_table, motif_class, share_text
from selfrepair.questions.tables.table_parts import probability, signed_or_dash
from selfrepair.report.number_formats import DASH

Row = Mapping[str, Any]


def missing_list(shown: ShownAudit) -> Markup:
    """Every component that was frozen: its freeze test beside its controls; those that are missing stand out."""
    rows = shown.found.covering.table
    rows = rows[rows["freeze"].notna()]
    order = rows.assign(missing=rows["component"].isin(shown.missing)).sort_values(
        ["missing", "line"], ascending=False, kind="stable"
    )
    said = (
        f"Missing from the circuit: {', '.join(shown.missing)}."
        if shown.missing
        else "Nothing outside the circuit covers for it by these rules."
    )
    records = order.to_dict("records")
    together = _together(shown)
    values = [row[name] for row in records for name in ("freeze", "line")]
    bounds = [row[name] for row in records for name in ("freeze_low", "freeze_high", "control_low", "control_high")]
    bounds += list(together[1:]) if together else []
    axis = tracks.Axis.over([*values, *together[:1]] if together else values, bounds)
    pictured = [_tested(axis, row, shown) for row in records]
    if together:
        pictured.insert(len(shown.missing), _all_together(axis, together, shown))
    content = join_markup(
        el("p", said, class_="lead"),
        el("div", *pictured, tracks.scale(axis, shown.unit), class_="rows") if records else None,
        _missing_table(shown),
    )
    return figure("What the circuit misses", content, _missing_caption(shown), "missing")


def _missing_caption(shown: ShownAudit) -> str:
    found, settings = shown.found, shown.question.settings
    selection = found.halves.in_words
    sets = (
        f" together: all that is missing frozen at once, beside {len(found.together.controls)} sets of like components."
        if _together(shown) and found.together is not None
        else ""
    )
    return (
        "● with whisker: repair that is gone when the component is held at its clean output, with its interval. ○: its "
        "line, what it writes itself. Grey band: the same freeze test of controls, "
        f"{len(found.covering.controls)} in all, of like layer, response and direct effect (95% of those of its kind)."
        f"{sets} Missing: its line repairs at a false discovery rate of {100 * settings.rate:g}%, makes up for at "
        f"least {100 * settings.least_share:g}% of what the circuit wrote, is confirmed, and its freeze test lies "
        f"above the band. {selection[:1].upper()}{selection[1:]}."
    )


def _together(shown: ShownAudit) -> tuple[float, ...]:
    """What freezing all that is missing takes away, with its ends, and the range of the control sets; nothing where
    there are none, or where a single component is missing."""
    found = shown.found.together
    if found is None or not found.controls or len(shown.missing) < 2:
        return ()
    return (*ends(found.recovered), min(found.controls), max(found.controls))


def _all_together(axis: tracks.Axis, together: tuple[float, ...], shown: ShownAudit) -> Markup:
    value, low, high, least, most = together
    text = effect_text(value, low, high)
    marks = [tracks.band(axis, least, most), tracks.whisker(axis, low, high), tracks.point_mark(axis, value)]
    title = f"All that is missing frozen together: {text} {shown.unit}; control sets {least:+.3f} to {most:+.3f}"
    return tracks.row(axis, "together", marks, text, title)


def _tested(axis: tracks.Axis, row: Row, shown: ShownAudit) -> Markup:
    name, look = str(row["component"]), motif_class(str(row["label"]))
    text = effect_text(row["freeze"], row["freeze_low"], row["freeze_high"])
    marks = [
        tracks.band(axis, row["control_low"], row["control_high"]),
        tracks.whisker(axis, row["freeze_low"], row["freeze_high"]),
        tracks.point_mark(axis, row["line"], f"hollow {look}"),
        tracks.point_mark(axis, row["freeze"], look),
    ]
    title = (
        f"{name} ({row['label']}): freeze test {text} {shown.unit}, line {row['line']:+.3f}, "
        f"controls {signed_or_dash(row['control_low'])} to {signed_or_dash(row['control_high'])}"
    )
    return tracks.row(axis, name, marks, text, title, "is-missing" if name in shown.missing else None)


def _missing_table(shown: ShownAudit) -> Markup | None:
    headings = [
        "component",
        "line",
        "q",
        "share of repair",
        "before → after",
        "how",
        "attends",
        "alone",
        "besides",
        "selected again",
    ]
    rows = [
        [
            str(row["component"]),
            effect_text(row["line"], row["line_low"], row["line_high"]),
            probability(row["q"]),
            share_text(row["share"], row["share_low"], row["share_high"]),
            f"{row['clean_direct_effect']:+.2f} → {row['ablated_direct_effect']:+.2f}",
            str(row["label"]),
            str(row["attends"]) or DASH,
            signed_or_dash(row["alone"]),
            signed_or_dash(row["besides"]),
            f"{100 * row['stable']:.0f}%",
        ]
        for row in shown.found.missing.to_dict("records")
    ]
    caption = "before → after: what it writes; alone, besides: the readout's change if it is ablated alone, or besides"
    return html_table(headings, rows, {1, 2, 3, 4, 7, 8, 9}, caption) if rows else None


def members_list(shown: ShownAudit) -> Markup:
    """Dumbbells: what each member's ablation did, beside what it would have done unrepaired."""
    rows = shown.found.members.to_dict("records")
    pairs = [(-row["direct_effect"], row["alone"]) for row in rows]
    bounds = [row[f"alone_{end}"] for row in rows for end in ("low", "high")]
    axis = tracks.Axis.over([value for pair in pairs for value in pair], bounds)
    pictured = []
    for row, (unmasked, masked) in zip(rows, pairs, strict=True):
        marks = [
            tracks.whisker(axis, row["alone_low"], row["alone_high"]),
            tracks.link(axis, unmasked, masked),
            tracks.point_mark(axis, unmasked, "hollow"),
            tracks.point_mark(axis, masked),
        ]
        title = f"{row['component']}: unrepaired {unmasked:+.3f}, total effect {masked:+.3f} {shown.unit}"
        text = f"{unmasked:+.2f} → {masked:+.2f}"
        pictured.append(tracks.row(axis, str(row["component"]), marks, text, title))
    caption = (
        "Each member ablated alone. ○: less what it wrote, as if nothing responded (unmasked). ● with whisker: the "
        "total effect, as it was (masked by self-repair where it lies nearer to zero). superfluous: all effects of the "
        "table within two standard errors of zero."
    )
    content = join_markup(el("div", *pictured, tracks.scale(axis, shown.unit), class_="rows"), _members_table(rows))
    return figure("The members, masked and unmasked", content, caption, "members")


def _members_table(rows: list[dict[Any, Any]]) -> Markup:
    names = ("direct_effect", "alone", "given_rest", "given_role")
    present = [name for name in names if any(name in row for row in rows)]
    titles = {"direct_effect": "wrote", "alone": "ablated alone", "given_rest": "rest gone", "given_role": "role gone"}
    cells = [
        [
            str(row["component"]),
            str(row["roles"]),
            *(effect_text(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in present),
            "superfluous?" if row["superfluous"] else "",
        ]
        for row in rows
    ]
    return html_table(
        ["member", "role", *(titles[name] for name in present), ""], cells, set(range(2, 2 + len(present)))
    )


def completion(shown: ShownAudit) -> Markup:
    """How much still comes back as what is missing is added, step by step."""
    rows = shown.found.completion.to_dict("records")
    series = {"repaired_share": "comes back", "necessity": "necessity", "faithfulness": "faithfulness"}
    values = [row[name] for row in rows for name in series]
    bounds = [row[f"{name}_{end}"] for row in rows for name in series for end in ("low", "high")]
    axis = tracks.Axis.over([*values, 1.0], bounds)
    pictured: list[Markup] = []
    for name, title in series.items():
        pictured.append(el("h3", title))
        pictured += [_step(axis, row, name) for row in rows]
    caption = (
        "Shares with intervals, of the circuit and then with one component more at a time. comes back: of what the set "
        f"wrote, when all of it is ablated; below {100 * ENOUGH:.0f}% (the line) nothing more has to be added. "
        "necessity and faithfulness: 0% with every head ablated, 100% with none; MLPs live."
    )
    said = None if len(rows) > 1 else el("p", "Nothing is missing, so nothing was added.", class_="lead")
    content = join_markup(said, el("div", *pictured, tracks.scale(axis, "", percent=True), class_="rows completion"))
    return figure("The circuit with what it misses added", content, caption, "completion")


def _step(axis: tracks.Axis, row: Row, name: str) -> Markup:
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    text = share_text(value, low, high)
    threshold = tracks.bar(axis, ENOUGH, ENOUGH, "limit") if name == "repaired_share" else None
    label = f"+ {row['added']}" if row["added"] else "circuit"
    return tracks.row(
        axis,
        label,
        [threshold, tracks.whisker(axis, low, high), tracks.point_mark(axis, value)],
        text,
        f"{label}: {text}",
    )


def ablations(shown: ShownAudit) -> Markup:
    """The circuit's run under every ablation."""
    operators = shown.found.operators
    rows = [_ablation(row, operators.kendall[str(row["ablation"])]) for row in operators.table.to_dict("records")]
    headings = ["ablation", "the circuit wrote", "total effect", "comes back", "Kendall τ", "largest lines that repair"]
    caption = (
        "Kendall τ: rank correlation of all components' lines with those under the first ablation. placebo replaces "
        "what is ablated by something random of the same size: what happens to any circuit that is hit so hard."
    )
    content = join_markup(el("p", operators.in_words, class_="lead"), html_table(headings, rows, {1, 2, 3, 4}))
    return figure("Under other ablations", content, caption, "ablations")


def _ablation(row: Row, kendall: float) -> list[str]:
    effects = [effect_text(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("lost", "total_effect")]
    back = share_text(row["repaired_share"], row["repaired_share_low"], row["repaired_share_high"])
    return [str(row["ablation"]), *effects, back, signed_or_dash(kendall), str(row["covered_by"])]
