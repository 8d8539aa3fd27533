"""Figures and numbers of the study of name movers (section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from selfrepair.effects.lines import LINES
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.name_movers.head_roles import BACKUP, MOVER, RELEASED, made_up, responses
from selfrepair.paper.experiments.name_movers.ioi_prompts import ORDERS
from selfrepair.paper.experiments.name_movers.ioi_study import IoiStudy
from selfrepair.paper.experiments.name_movers.moved_stream import moved_stream_numbers, raised_share
from selfrepair.paper.numbers.over_documents import Number, tally_of, whiskers
from selfrepair.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule

SECTION = "ioi"
_COVERING = ((BACKUP, "backups"), (RELEASED, "released suppressors"))
_ROLES = (
    ("", FAINT, "other heads"),
    (MOVER, PALETTE[1], "name movers (ablated)"),
    (BACKUP, PALETTE[2], "backups: response above 0"),
    (RELEASED, PALETTE[3], "suppressors released: the same, clean effect below 0"),
)


def movers_and_backups(study: IoiStudy) -> Exhibit:
    """Clean direct effect of every head against its response when all movers are ablated."""
    table = responses(study)
    down = (table["layer"] > study.source) & (table["role"] != MOVER)
    caption = _doubt(study) + (
        f"Name movers, by clean direct effect: {', '.join(map(str, study.movers))}. Left: what every "
        "other head does when all of "
        f"them are ablated. Right: the input of layer {study.source} ({_whose(study)}) put in place of the next "
        "layer's (as if attention "
        f"and MLP in between were ablated to zero, biases included). {study.about}."
    )
    return Exhibit(
        "section-5-3-movers",
        "Section 5.3",
        SECTION,
        "Name movers and their backups",
        caption,
        table,
        tuple(_numbers_of_movers(study, table, down)),
        Picture((_response_panel(table), _moved_panel(study, table, down)), columns=2),
    )


def _response_panel(table: pd.DataFrame) -> Panel:
    """Every head's response over its clean effect, by role."""
    marks = []
    for role, colour, label in _ROLES:
        part = table[table["role"] == role]
        error = np.stack([part["response"] - part["response_low"], part["response_high"] - part["response"]])
        marks.append(
            Marks(
                part["clean"].to_numpy(),
                part["response"].to_numpy(),
                label=label,
                colour=colour,
                names=tuple(part["name"]),
                y_error=np.nan_to_num(error),
                size=4.5,
            )
        )
    best = table[table["role"].isin([BACKUP, RELEASED])].nlargest(5, "response")
    return Panel(
        "all name movers ablated",
        "clean direct effect (logit difference)",
        "change of direct effect",
        tuple(marks),
        (Rule(0, colour=FAINT), Rule(None, 0.0, colour=FAINT)),
        notes=_notes(pd.concat([best, table[table["role"] == MOVER]]), "clean", "response"),
    )


def _moved_panel(study: IoiStudy, table: pd.DataFrame, down: pd.Series) -> Panel:
    """Change of the heads above the movers on the moved stream, over their response."""
    below = table[down]
    marks = Marks(below["response"].to_numpy(), below["moved"].to_numpy(), names=tuple(below["name"]))
    largest = below.assign(size=lambda t: t["moved"].abs()).nlargest(4, "size")
    return Panel(
        f"layer {study.source}'s input moved into layer {study.source + 1}",
        "change when all movers are ablated",
        "change when the stream is moved",
        (marks,),
        (Rule(0, colour=FAINT), Rule(1, label="y = x")),
        notes=_notes(largest, "response", "moved"),
    )


def _notes(heads: pd.DataFrame, x: str, y: str) -> tuple[tuple[float, float, str], ...]:
    """Names beside some heads' dots."""
    return tuple((float(a), float(b), str(name)) for a, b, name in zip(heads[x], heads[y], heads["name"], strict=True))


def _numbers_of_movers(study: IoiStudy, table: pd.DataFrame, down: pd.Series) -> list[Number]:
    """The number of heads with each role, and the share they make up."""
    backups = (table["role"] == BACKUP).to_numpy()
    next_layer = (table["layer"] == study.source + 1).to_numpy()
    numbers = [
        Number("name movers", float(len(study.movers)), units="heads"),
        Number("backups: heads whose response is above 0 beyond its interval", float(backups.sum()), units="heads"),
        Number(
            "suppressors released: the same of heads that write against the answer",
            float((table["role"] == RELEASED).sum()),
            units="heads",
        ),
        *(made_up(study, role, f"share of the movers' loss made up by {name}") for role, name in _COVERING),
        raised_share(study.cluster, study.moved[:, next_layer]),
    ]
    if _does_it(study):
        numbers += moved_stream_numbers(
            study.cluster, study.change["all movers"], study.moved, down.to_numpy(), backups
        )
    return numbers


def _does_it(study: IoiStudy) -> bool:
    """Whether the model names the indirect object at all: its logit difference is above zero over templates."""
    return tally_of(study.cluster, {"x": study.difference}).mean("x").low > 0


def _whose(study: IoiStudy) -> str:
    """Why the stream of the layer `source` is moved."""
    best, last = study.movers[0], max(head.layer for head in study.heads)
    if best.layer == study.source:
        return f"that of the strongest mover, {best}"
    own = next((head for head in study.movers if head.layer < last), None)
    if own is not None:
        return f"that of {own}: above the strongest mover, {best} in layer {last}, there is no layer to move it to"
    return f"the last with a layer above it: every mover is in layer {last}, the last"


def _doubt(study: IoiStudy) -> str:
    return "" if _does_it(study) else "This model does not name the indirect object: read nothing into its movers. "


def logit_differences(study: IoiStudy) -> Exhibit:
    """The logit difference clean, with each mover ablated and with all, and which parts made up for the loss."""
    names = ["clean", *study.ablated, "stream moved"]
    values = [study.difference, *study.ablated.values(), study.moved_difference]
    numbers = [
        tally_of(study.cluster, {"x": differences}).mean("x", "logit", f"logit difference, {name}")
        for name, differences in zip(names, values, strict=True)
    ]
    heights = np.array([number.value for number in numbers])
    bars = Marks(np.arange(len(names), dtype=float), heights, "bars", y_error=whiskers(numbers))
    rule, axis = (Rule(0, colour=FAINT),), tuple(names)
    first = Panel("logit difference, right name less the other", "", "logit", (bars,), rule, categories=axis)
    second, shares = _made_up_panel(study)
    ahead = tally_of(study.cluster, {"ahead": study.difference > 0})
    accuracy = ahead.share("ahead", "share of prompts with the right name ahead, clean")
    orders = [_in_order(study, order) for order in range(len(ORDERS))]
    table = pd.DataFrame(
        {
            "template": study.template,
            "order": [ORDERS[order] for order in study.order],
            "clean": study.difference,
            **study.ablated,
            "stream moved": study.moved_difference,
        }
    )
    caption = _doubt(study) + (
        "Left: mean logit difference. Right: which parts make up the movers' lost direct effect, as a share of it. "
        f"{study.about}."
    )
    return Exhibit(
        "section-5-3-logit-differences",
        "Section 5.3",
        SECTION,
        "What ablating name movers does",
        caption,
        table,
        (*numbers, accuracy, *orders, *(shares if _does_it(study) else [])),
        Picture((first, second), columns=2),
    )


def _in_order(study: IoiStudy, order: int) -> Number:
    """The clean logit difference of the prompts with the names in one order."""
    chosen = study.order == order
    tally = tally_of(study.cluster[chosen], {"x": study.difference[chosen]})
    return tally.mean("x", "logit", f"logit difference, clean, {ORDERS[order]}")


def _made_up_panel(study: IoiStudy) -> tuple[Panel, list[Number]]:
    """Which parts make up the lost direct effect; with the shares shown, those of all together first."""
    tallies = {
        name: tally_of(study.cluster, {**parts, "repair": parts["total"] + parts["lost"]})
        for name, parts in study.parts.items()
    }
    marks, by_part = [], []
    for row, (key, label) in enumerate(_lines_of(study).items()):
        shares = [tally.ratio(key, "lost", name=f"{name}: repaired by {label}") for name, tally in tallies.items()]
        marks.append(_line_of(shares, label, PALETTE[row], row))
        by_part += shares
    whole = [tally.ratio("repair", "lost", name=f"{name}: repaired fraction") for name, tally in tallies.items()]
    marks.append(_line_of(whole, "in all", "#222222", len(marks)))
    panel = Panel(
        "who makes up for it",
        "",
        "Σ part / Σ lost direct effect",
        tuple(marks),
        (Rule(0, colour=FAINT),),
        categories=tuple(study.parts),
    )
    return panel, whole + by_part


def _lines_of(study: IoiStudy) -> dict[str, str]:
    """The lines of a linear readout's ledger with their labels; that of post-norms if the model has any."""
    labels = {"heads": "other heads", "mlps": "MLPs", "norm": "final norm"}
    moved = {line.name for line in LINES if any(np.any(parts[line.name]) for parts in study.parts.values())}
    return {line.name: labels.get(line.name, line.short) for line in LINES if line.everywhere or line.name in moved}


def _line_of(shares: Sequence[Number], label: str, colour: str, row: int) -> Marks:
    values = np.array([share.value for share in shares])
    x = np.arange(len(shares)) + (row - 1.5) * 0.15
    return Marks(x, values, "points", label, colour, y_error=whiskers(shares), size=5)
