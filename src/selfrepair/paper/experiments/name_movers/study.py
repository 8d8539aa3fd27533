"""Name movers and their backups: who covers for whom when a model names the indirect object (section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs, require_own_forward
from selfrepair.model.language_model import LanguageModel
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.name_movers.moved_stream import waking_numbers
from selfrepair.paper.experiments.name_movers.prompts import ORDERS, Prompts
from selfrepair.paper.inputs.recorded_replay import Replayed, Replayer
from selfrepair.paper.numbers.over_documents import Number, tally_of, whiskers
from selfrepair.paper.pictures.picture import FAINT, PALETTE, Marks, Panel, Picture, Rule
from selfrepair.run.planning.batch_size import require_known

SECTION = "ioi"
MOST_MOVERS = 5
LEAST_SHARE = 0.2  # of the largest head's direct effect, for a head to count as a name mover
BATCH = 32  # prompts
MOVER, BACKUP, RELEASED = "mover", "backup", "suppressor released"
_ROLES = (
    ("", FAINT, "other heads"),
    (MOVER, PALETTE[1], "name movers (ablated)"),
    (BACKUP, PALETTE[2], "backups: response above 0"),
    (RELEASED, PALETTE[3], "suppressors released: the same, clean effect below 0"),
)


@dataclass(frozen=True)
class IoiStudy:
    """Logit differences and direct effects on prompts whose answer is a name.

    All effects are on `logit(indirect object) - logit(subject)` at the last token, in logits.

    Attributes:
        about: for captions.
        heads: every head of the model.
        movers: name movers, the strongest first.
        difference: [prompt], clean logit difference.
        effects: clean direct effects [prompt, head].
        ablated: by what was ablated (`L9H6`, `all movers`), logit differences [prompt].
        change: by what was ablated, change of every head's direct effect [prompt, head].
        parts: by what was ablated, `lost, total, heads, mlps, norm` [prompt] each.
        moved: change of every head's direct effect when the stream that feeds the layer `source` is moved into the
            next one [prompt, head]; zero up to that layer.
        moved_difference: the logit difference then.
        source: the layer of the strongest mover that has a layer above it; the last but one where none has.
        template: [prompt]; order: [prompt].
    """

    about: str
    heads: tuple[Head, ...]
    movers: tuple[Head, ...]
    difference: np.ndarray
    effects: np.ndarray
    ablated: dict[str, np.ndarray]
    change: dict[str, np.ndarray]
    parts: dict[str, dict[str, np.ndarray]]
    moved: np.ndarray
    moved_difference: np.ndarray
    source: int
    template: np.ndarray
    order: np.ndarray

    @property
    def cluster(self) -> np.ndarray:
        """[prompt], what counts as a document: prompts of one template are not independent."""
        return self.template


@dataclass(frozen=True)
class _Reading:
    """Directions that read the logit difference at the last token of each prompt."""

    clean: CleanRun
    end: Tensor
    u: Tensor  # [prompt, width]
    beta: Tensor
    sigma: Tensor
    by_layer: tuple[Tensor, ...]  # [prompt, head, head_dim]


def study_ioi(model: LanguageModel, prompts: Prompts, most: int = MOST_MOVERS) -> IoiStudy:
    """Finds name movers by direct effect, ablates each and all of them with a corrupted twin's outputs (three fresh
    names), and moves the stream of one layer into the next.

    Args:
        model: the model.
        prompts: from `prompts.make_prompts`.
        most: how many movers at most.
    """
    for given in (prompts.tokens, prompts.corrupted):
        require_known(given, model)
    heads = tuple(sorted(all_heads(model.anatomy)))
    replayer = Replayer(model)
    groups = [np.arange(start, min(start + BATCH, len(prompts))) for start in range(0, len(prompts), BATCH)]
    with model.running():
        clean = [_measure_clean(model, prompts, group) for group in groups]
        effects = np.concatenate([_effects(reading, heads) for reading, _ in clean])
        difference = np.concatenate([_difference(model, reading, None) for reading, _ in clean])
        movers = _movers(heads, effects, prompts, most)
        ablations = {str(head): (head,) for head in movers} | {"all movers": movers}
        found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in ablations}
        moved: list[dict[str, np.ndarray]] = []
        source = _source(model, movers)
        for reading, donors in clean:
            for name, chosen in ablations.items():
                found[name].append(_ablated(model, replayer, reading, donors, chosen, heads))
            moved.append(_move(model, replayer, reading, heads, source))
    joined = {
        name: {key: np.concatenate([one[key] for one in parts]) for key in parts[0]} for name, parts in found.items()
    }
    kept = ("lost", "total", "heads", "mlps", "norm")
    return IoiStudy(
        about=f"{model.name} · {len(prompts)} prompts, {len(set(prompts.template.tolist()))} "
        "templates in both orders · "
        "ablation: outputs on the same template with three fresh names (ABC) · effects on the logit "
        "of the indirect object "
        "less that of the subject, at the last token · intervals over templates",
        heads=heads,
        movers=movers,
        difference=difference,
        effects=effects,
        ablated={name: parts["difference"] for name, parts in joined.items()},
        change={name: parts["change"] for name, parts in joined.items()},
        parts={name: {key: parts[key] for key in kept} for name, parts in joined.items()},
        moved=np.concatenate([one["change"] for one in moved]),
        moved_difference=np.concatenate([one["difference"] for one in moved]),
        source=source,
        template=prompts.template,
        order=prompts.order,
    )


def _measure_clean(model: LanguageModel, prompts: Prompts, group: np.ndarray) -> tuple[_Reading, tuple[Tensor, ...]]:
    tokens = torch.from_numpy(prompts.tokens[group]).to(model.device)
    clean = clean_run(model, tokens)
    donors = head_outputs(model, torch.from_numpy(prompts.corrupted[group]).to(model.device))
    end = torch.from_numpy(prompts.end[group]).to(model.device)
    require_own_forward(model, clean, torch.arange(tokens.shape[1], device=end.device) <= end[:, None])
    readout, norm = model.anatomy.readout, model.anatomy.final_norm
    pair = [torch.from_numpy(names[group]).to(model.device) for names in (prompts.indirect, prompts.subject)]
    rows = readout.weight[pair[0]] - readout.weight[pair[1]]
    beta = (rows * norm.bias).sum(-1)
    if readout.bias is not None:
        beta = beta + readout.bias[pair[0]] - readout.bias[pair[1]]
    u, beta = readout.multiplier * norm.fold(rows), readout.multiplier * beta
    final = _at(Replayer(model).run(clean, model.anatomy.layers - 1).final, end)
    sigma = norm.scale(final)
    by_layer = []
    for layer, block in enumerate(model.anatomy.blocks):
        inward = block.through_norm(u / sigma.unsqueeze(-1))
        if block.attention_norm is not None:
            written = block.projection(block.join_heads(clean.head_outputs[layer]))
            inward = inward / block.attention_norm.scale(_at(written, end)).unsqueeze(-1)
        by_layer.append(torch.einsum("bd,hed->bhe", inward, block.output_weight))
    return _Reading(clean, end, u, beta, sigma, tuple(by_layer)), donors


def _at(values: Tensor, end: Tensor) -> Tensor:
    """Entries at each prompt's last token, [prompt, ...] from [prompt, position, ...]."""
    return values[torch.arange(len(end), device=values.device), end]


def _heads_of(reading: _Reading, outputs: Mapping[int, Tensor], heads: Sequence[Head]) -> np.ndarray:
    """Direct effects of heads [prompt, head] from layers' outputs."""
    worth = {layer: (_at(value, reading.end) * reading.by_layer[layer]).sum(-1) for layer, value in outputs.items()}
    return torch.stack([worth[head.layer][:, head.head] for head in heads], -1).double().cpu().numpy()


def _effects(reading: _Reading, heads: Sequence[Head]) -> np.ndarray:
    return _heads_of(reading, dict(enumerate(reading.clean.head_outputs)), heads)


def _difference(model: LanguageModel, reading: _Reading, final: Tensor | None) -> np.ndarray:
    """Logit difference [prompt] from the final stream; the clean one by default."""
    return np.asarray(_scaled_difference(model, reading, final) + reading.beta.double().cpu().numpy())


def _scaled_difference(model: LanguageModel, reading: _Reading, final: Tensor | None) -> np.ndarray:
    """The same without the part that no scale divides: effects are taken from this one."""
    if final is None:
        final = Replayer(model).run(reading.clean, model.anatomy.layers - 1).final
    last = _at(final, reading.end)
    value = (reading.u * last).sum(-1) / model.anatomy.final_norm.scale(last)
    return np.asarray(value.double().cpu().numpy())


def _movers(heads: Sequence[Head], effects: np.ndarray, prompts: Prompts, most: int) -> tuple[Head, ...]:
    """Heads with the largest mean direct effect: at least a fifth of the largest, and above zero over templates."""
    means = effects.mean(0)
    order = np.argsort(-means, kind="stable")[:most]
    chosen: list[Head] = []
    for place in order:
        number = tally_of(prompts.template, {"x": effects[:, place]}).mean("x")
        if not chosen or (means[place] >= LEAST_SHARE * means[order[0]] and number.low > 0):
            chosen.append(heads[place])
    return tuple(chosen)


def _source(model: LanguageModel, movers: Sequence[Head]) -> int:
    """The layer whose stream is moved: that of the strongest mover with a layer above it, else the last but one."""
    below = [head.layer for head in movers if head.layer < model.anatomy.layers - 1]
    return below[0] if below else model.anatomy.layers - 2


def _ablated(
    model: LanguageModel,
    replayer: Replayer,
    reading: _Reading,
    donors: tuple[Tensor, ...],
    chosen: Sequence[Head],
    heads: Sequence[Head],
) -> dict[str, np.ndarray]:
    clean = reading.clean
    start = min(head.layer for head in chosen)
    above = range(start, model.anatomy.layers)
    in_place = {(head.layer, head.head): donors[head.layer][:, :, head.head] for head in chosen}
    before = replayer.run(clean, start, keep_heads=above)
    after = replayer.run(clean, start, in_place, keep_heads=above)
    change = _change(reading, before, after, heads)
    own = [list(heads).index(head) for head in chosen]
    lost = -change[:, own].sum(1)
    others = change.copy()
    others[:, own] = 0
    direction = reading.u / reading.sigma.unsqueeze(-1)
    mlps = sum((_at(after.mlp[layer] - before.mlp[layer], reading.end) * direction).sum(-1) for layer in after.mlp)
    assert isinstance(mlps, Tensor)
    scaled, was = (_scaled_difference(model, reading, run.final) for run in (after, before))
    scale = model.anatomy.final_norm.scale(_at(after.final, reading.end))
    norm = (1 - (scale / reading.sigma).double().cpu().numpy()) * scaled
    return {
        "difference": scaled + reading.beta.double().cpu().numpy(),
        "change": others,
        "lost": lost,
        "total": scaled - was,
        "heads": others.sum(1),
        "mlps": mlps.double().cpu().numpy(),
        "norm": norm,
    }


def _change(reading: _Reading, before: Replayed, after: Replayed, heads: Sequence[Head]) -> np.ndarray:
    """Change of every head's direct effect [prompt, head]; zero below the lowest block that ran."""
    found = np.zeros((len(reading.end), len(heads)))
    ran = [place for place, head in enumerate(heads) if head.layer in after.heads]
    some = [heads[place] for place in ran]
    found[:, ran] = _heads_of(reading, after.heads, some) - _heads_of(reading, before.heads, some)
    return found


def _move(
    model: LanguageModel, replayer: Replayer, reading: _Reading, heads: Sequence[Head], source: int
) -> dict[str, np.ndarray]:
    """The stream in front of `source` put in front of the next layer: that layer's writes, biases and all, are gone."""
    above = range(source + 1, model.anatomy.layers)
    before = replayer.run(reading.clean, source + 1, keep_heads=above)
    after = replayer.run(reading.clean, source + 1, stream=reading.clean.residuals[source], keep_heads=above)
    change = _change(reading, before, after, heads)
    return {"change": change, "difference": _difference(model, reading, after.final)}


# ------------------------------------------------------------------------------------------------ its figures


def movers_and_backups(study: IoiStudy) -> Exhibit:
    """Clean direct effect of every head against its response when all movers are ablated."""
    rows = []
    for place, head in enumerate(study.heads):
        tally = tally_of(
            study.cluster,
            {
                "clean": study.effects[:, place],
                "response": study.change["all movers"][:, place],
                "moved": study.moved[:, place],
            },
        )
        numbers = {name: tally.mean(name) for name in ("clean", "response", "moved")}
        row: dict[str, object] = {"name": str(head), "layer": head.layer, "head": head.head}
        row["role"] = _role(head in study.movers, numbers)
        for name, number in numbers.items():
            row |= {name: number.value, f"{name}_low": number.low, f"{name}_high": number.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    marks = []
    for role, colour, said in _ROLES:
        part = table[table["role"] == role]
        error = np.stack([part["response"] - part["response_low"], part["response_high"] - part["response"]])
        marks.append(
            Marks(
                part["clean"].to_numpy(),
                part["response"].to_numpy(),
                label=said,
                colour=colour,
                names=tuple(part["name"]),
                y_error=np.nan_to_num(error),
                size=4.5,
            )
        )
    down = (table["layer"] > study.source) & (table["role"] != MOVER)
    wake = Marks(
        table.loc[down, "response"].to_numpy(),
        table.loc[down, "moved"].to_numpy(),
        names=tuple(table.loc[down, "name"]),
    )
    best = table[table["role"].isin([BACKUP, RELEASED])].nlargest(5, "response")
    named = pd.concat([best, table[table["role"] == MOVER]])
    notes = tuple(
        (float(x), float(y), str(name))
        for x, y, name in zip(named["clean"], named["response"], named["name"], strict=True)
    )
    woken = table[down].assign(size=lambda t: t["moved"].abs()).nlargest(4, "size")
    wake_notes = tuple(
        (float(x), float(y), str(name))
        for x, y, name in zip(woken["response"], woken["moved"], woken["name"], strict=True)
    )
    panels = (
        Panel(
            "all name movers ablated",
            "clean direct effect (logit difference)",
            "change of direct effect",
            tuple(marks),
            (Rule(0, colour=FAINT), Rule(None, 0.0, colour=FAINT)),
            notes=notes,
        ),
        Panel(
            f"layer {study.source}'s input moved into layer {study.source + 1}",
            "change when all movers are ablated",
            "change when the stream is moved",
            (wake,),
            (Rule(0, colour=FAINT), Rule(1, label="y = x")),
            notes=wake_notes,
        ),
    )
    share = float(np.mean(table.loc[table["layer"] == study.source + 1, "moved"] > 0)) if down.any() else float("nan")
    found = [
        Number("name movers", float(len(study.movers)), units="heads"),
        Number(
            "backups: heads whose response is above 0 beyond its interval",
            float((table["role"] == BACKUP).sum()),
            units="heads",
        ),
        Number(
            "suppressors released: the same of heads that write against the answer",
            float((table["role"] == RELEASED).sum()),
            units="heads",
        ),
        Number("share of the movers' loss made up by backups", _made_up(study, table, BACKUP)),
        Number("share of the movers' loss made up by released suppressors", _made_up(study, table, RELEASED)),
        Number("share of heads one layer above that wake up when the stream is moved", share),
    ]
    if _does_it(study):
        backups = (table["role"] == BACKUP).to_numpy()
        found += waking_numbers(study.cluster, study.change["all movers"], study.moved, down.to_numpy(), backups)
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
        tuple(found),
        Picture(panels, columns=2),
    )


def _does_it(study: IoiStudy) -> bool:
    """Whether the model names the indirect object at all: its logit difference is above zero over templates."""
    return tally_of(study.cluster, {"x": study.difference}).mean("x").low > 0


def _whose(study: IoiStudy) -> str:
    """Why the stream of the layer `source` is the one that is moved."""
    best, last = study.movers[0], max(head.layer for head in study.heads)
    if best.layer == study.source:
        return f"that of the strongest mover, {best}"
    own = next((head for head in study.movers if head.layer < last), None)
    if own is not None:
        return f"that of {own}: above the strongest mover, {best} in layer {last}, there is no layer to move it to"
    return f"the last with a layer above it: every mover is in layer {last}, the last"


def _doubt(study: IoiStudy) -> str:
    return "" if _does_it(study) else "This model does not name the indirect object: read nothing into its movers. "


def _role(mover: bool, numbers: Mapping[str, Number]) -> str:
    """What a head does when all movers are ablated."""
    if mover or not numbers["response"].low > 0:
        return MOVER if mover else ""
    return RELEASED if numbers["clean"].high < 0 else BACKUP


def _made_up(study: IoiStudy, table: pd.DataFrame, role: str) -> float:
    """Part of the direct effect lost with all movers that heads of a role make up."""
    return float(table.loc[table["role"] == role, "response"].sum() / study.parts["all movers"]["lost"].mean())


def logit_differences(study: IoiStudy) -> Exhibit:
    """The logit difference clean, with each mover ablated, with all, and what made up for the loss."""
    names = ["clean", *study.ablated, "stream moved"]
    values = [study.difference, *study.ablated.values(), study.moved_difference]
    numbers = [
        tally_of(study.cluster, {"x": one}).mean("x", "logit", f"logit difference, {name}")
        for name, one in zip(names, values, strict=True)
    ]
    heights = np.array([one.value for one in numbers])
    error = whiskers(numbers)
    bars = Marks(np.arange(len(names), dtype=float), heights, "bars", y_error=error)
    first = Panel(
        "logit difference, right name less the other",
        "",
        "logit",
        (bars,),
        (Rule(0, colour=FAINT),),
        categories=tuple(names),
    )
    marks, extra = [], []
    lines = {"heads": "other heads", "mlps": "MLPs", "norm": "final norm"}
    for place, (key, said) in enumerate(lines.items()):
        shares = []
        for name, parts in study.parts.items():
            tally = tally_of(study.cluster, {**parts, "repair": parts["total"] + parts["lost"]})
            shares.append(tally.ratio(key, "lost", name=f"{name}: repaired by {said}"))
        marks.append(_line_of(shares, said, PALETTE[place], place))
        extra += shares
    whole = []
    for name, parts in study.parts.items():
        tally = tally_of(study.cluster, {**parts, "repair": parts["total"] + parts["lost"]})
        whole.append(tally.ratio("repair", "lost", name=f"{name}: repaired fraction"))
    marks.append(_line_of(whole, "in all", "#222222", 3))
    second = Panel(
        "who makes up for it",
        "",
        "Σ part / Σ lost direct effect",
        tuple(marks),
        (Rule(0, colour=FAINT),),
        categories=tuple(study.parts),
    )
    right = float((study.difference > 0).mean())
    accuracy = Number("share of prompts with the right name ahead, clean", right)
    orders = [
        Number(f"logit difference, clean, {name}", float(study.difference[study.order == place].mean()), units="logit")
        for place, name in enumerate(ORDERS)
    ]
    table = pd.DataFrame(
        {
            "template": study.template,
            "order": [ORDERS[one] for one in study.order],
            "clean": study.difference,
            **study.ablated,
            "stream moved": study.moved_difference,
        }
    )
    caption = _doubt(study) + (
        "Left: mean logit difference. Right: by whom the movers' lost direct effect is made up, as a share of it. "
        + study.about
        + "."
    )
    return Exhibit(
        "section-5-3-logit-differences",
        "Section 5.3",
        SECTION,
        "What ablating name movers does",
        caption,
        table,
        (*numbers, accuracy, *orders, *(whole + extra if _does_it(study) else [])),
        Picture((first, second), columns=2),
    )


def _line_of(found: Sequence[Number], said: str, colour: str, place: int) -> Marks:
    values = np.array([one.value for one in found])
    error = whiskers(found)
    x = np.arange(len(found)) + (place - 1.5) * 0.15
    return Marks(x, values, "points", said, colour, y_error=error, size=5)
