"""`selfrepair prompts`: are these prompts fit to be measured on?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from selfrepair.cli.options import options, with_settings
from selfrepair.cli.questions import prompts_given, require_answers, tokenising
from selfrepair.errors import SelfRepairError
from selfrepair.questions.question_settings import PromptSource
from selfrepair.run.planning.setting_fields import given_settings as part_of
from selfrepair.run.planning.settings import Loading
from selfrepair.terminal import Console, plain

if TYPE_CHECKING:
    from selfrepair.model.language_model import LanguageModel
    from selfrepair.prompts.checked_prompts import Check
    from selfrepair.prompts.prompt import Dropped, Prompt
    from selfrepair.prompts.prompts import Prompts
    from selfrepair.prompts.vocabulary import Vocabulary

_LEAST, _MOST = 12, 60  # characters shown of the end of a prompt
_REASONS, _ADVICE, _TOKENS = 20, 5, 4  # dropped prompts, remedies and tokens that are shown
_Prompts = list["Prompt | Dropped"]


_OPTIONS = (
    *options(PromptSource, *(name for name in PromptSource.__dataclass_fields__ if name not in ("prompts", "most"))),
    *options(Loading),
)


@with_settings(_OPTIONS)
def prompts(
    file: Annotated[Path | None, typer.Argument(help="Prompts: .jsonl, .json, .csv, .parquet, .yaml, .npz.")] = None,
    *,
    model: Annotated[str, typer.Option(help="Hub id, folder, GGUF file, or `default`.")] = "default",
    to: Annotated[Path | None, typer.Option(help="Write the prompts as JSON lines, our own format.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many prompts are shown.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")] = False,
    **asked: Any,
) -> None:
    """Check prompts on a model: accuracy, what is measured, lengths, tokens of answers, and what was dropped and why.

    Reads our own format and those of AutoCircuit, EAP-IG, MIB, CircuitKIT, CoAx, causalab and ACDC.
    """
    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.model.load import load
    from selfrepair.prompts.checked_prompts import check_prompts

    _require_one_source(file, asked)
    loaded = load(model, **part_of(Loading, asked))
    prompts_read, facts = _prompts_of(file, asked, loaded)
    checked = check_prompts(loaded, _tokenised(prompts_read, loaded, asked, facts))
    if to is not None:
        _write(to, prompts_read, checked.prompts)
    if as_json:
        typer.echo(json.dumps(_json(checked), indent=2))
    else:
        _print(Console(), checked, loaded, top)
    for warning in checked.warnings:
        Console(stderr=True).print(Text("Careful:", "bold yellow"), warning)


def _require_one_source(file: Path | None, asked: Mapping[str, Any]) -> None:
    if (file is None) == (not asked["prompt"]):
        raise SelfRepairError(
            "A file of prompts, or one with --prompt, was expected" + ("; both came." if file else "; neither came."),
            'selfrepair prompts FILE, or selfrepair prompts --prompt "…" --answer " Mary" --against " John".',
        )
    if file is not None and any(asked[name] for name in ("answer", "against", "corrupt")):
        raise SelfRepairError("--answer, --against and --corrupt belong to --prompt.", "The file has its own answers.")


def _prompts_of(
    file: Path | None, asked: Mapping[str, Any], model: LanguageModel
) -> tuple[_Prompts, dict[str, object]]:
    """Prompts as their author has them, and facts about the file."""
    from selfrepair.prompts.formats.read import Wishes, prompts_in

    wished = asked["ids_of"], asked["groups"], asked["counterfactual"]
    if file is not None:
        return prompts_in(file, model, asked["format"], Wishes(*wished))
    if asked["format"] or any(wished):
        raise SelfRepairError("--format, --ids-of, --groups and --counterfactual belong to a file.", "Leave them out.")
    require_answers(asked)
    return list(prompts_given(asked)), {"format": "given prompts"}


def _tokenised(
    prompts_read: _Prompts, model: LanguageModel, asked: Mapping[str, Any], facts: dict[str, object]
) -> Prompts:
    from selfrepair.prompts.making import fields_of
    from selfrepair.prompts.prompt import PromptsDropped
    from selfrepair.prompts.prompts import Prompts

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptsDropped)  # they are printed
        return Prompts(**fields_of(prompts_read, model, tokenising(asked), facts))  # type: ignore[arg-type]


def _write(path: Path, prompts_read: _Prompts, kept: Prompts) -> None:
    """The prompts that can be used, under the names that results give them."""
    from selfrepair.prompts.making import named
    from selfrepair.prompts.writing import json_lines
    from selfrepair.results.atomic_files import put

    usable = set(kept.ids)
    put(path, json_lines(prompt for prompt in named(prompts_read) if prompt.id in usable).encode())


def _json(checked: Check) -> dict[str, Any]:
    from selfrepair.prompts.checked_prompts import json_rows

    kept = checked.prompts
    return {
        **checked.summary(),
        "warnings": list(checked.warnings),
        "fingerprint": kept.fingerprint,
        "provenance": kept.provenance,
        "prompts_dropped": [{"id": gone.id, "reason": gone.reason} for gone in kept.dropped],
        "rows": json_rows(checked),
    }


def _print(console: Console, checked: Check, model: LanguageModel, top: int) -> None:
    kept = checked.prompts
    console.print(_rows(checked, model, top, console.width))
    if len(kept) > top:
        console.print(f"{len(kept) - top:,} more: --top {len(kept)}.", style="dim")
    console.print(_summary(checked))
    if kept.dropped:
        _print_dropped(console, kept.dropped)
    facts = {name: value for name, value in kept.provenance.items() if name not in ("kept", "dropped", "with_twin")}
    facts["sha256"] = str(facts["sha256"])[:16] if "sha256" in facts else None
    console.print("; ".join(f"{name} {value}" for name, value in facts.items() if value is not None), style="dim")


def _print_dropped(console: Console, dropped: Sequence[Dropped]) -> None:
    """What was left out and why, and each remedy once."""
    table = Table("prompt", "why", title=f"Dropped: {_counted(len(dropped), 'prompt')}", box=box.SIMPLE_HEAD)
    advice: list[str] = []
    for gone in dropped[:_REASONS]:
        reason, _, help_ = gone.reason.partition(". ")
        table.add_row(Text(gone.id), Text(reason if not help_ else f"{reason}."))
        advice += [help_] if help_ and help_ not in advice else []
    console.print(table)
    for line in advice[:_ADVICE]:
        console.print(line)
    if len(dropped) > _REASONS:
        console.print(f"{len(dropped) - _REASONS:,} more: --json lists all.", style="dim")


def _rows(checked: Check, model: LanguageModel, top: int, width: int) -> Table:
    from selfrepair.prompts.vocabulary import Vocabulary

    kept, vocabulary = checked.prompts, Vocabulary(model, "never")
    shown = range(min(top, len(kept)))
    columns = {"prompt": [kept.ids[index] for index in shown]}
    if any(kept.groups):
        columns["group"] = [kept.groups[index] for index in shown]
    columns["text"] = [kept.texts[index] for index in shown]
    columns["tokens"] = [str(kept.lengths[index]) for index in shown]
    for name, side in (("right", kept.answers), ("wrong", kept.wrong)):
        columns[name] = [_shown(side[index], vocabulary) for index in shown]
    for name, values in (("metric", checked.metric), ("twin", checked.twin_metric)):
        columns[name] = [_shown_number(values[index]) for index in shown]
    columns["rank"] = [str(checked.ranks[index]) for index in shown]
    columns = {name: [plain(cell) for cell in cells] for name, cells in columns.items()}
    others = sum(max(map(cell_len, [name, *cells])) + 3 for name, cells in columns.items() if name != "text")
    room = max(_LEAST, min(_MOST, width - others - 4))
    columns["text"] = [text if len(text) <= room else f"…{text[1 - room :]}" for text in columns["text"]]
    table = Table(title="Prompts", box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, no_wrap=name != "text")
    for index, cells in enumerate(zip(*columns.values(), strict=True)):
        style = "" if checked.right[index] or not kept.answers[index] else "red"
        table.add_row(*(Text(cell, style) for cell in cells))
    return table


def _shown(tokens: tuple[int, ...], vocabulary: Vocabulary) -> str:
    more = f" and {len(tokens) - _TOKENS} more" if len(tokens) > _TOKENS else ""
    return vocabulary.pieces(tokens[:_TOKENS]) + more


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shown_number(value: float) -> str:
    return "" if value != value else f"{value:+.3f}"


def _summary(checked: Check) -> Text:
    numbers, lengths = checked.summary(), checked.prompts.lengths
    measured = f"metric: {numbers['metric_is']}, in logits"
    lines = [
        f"{_counted(len(lengths), 'prompt')} in {_counted(len(set(checked.prompts.groups)), 'group')}, "
        f"{lengths.min()} to {lengths.max()} tokens"
    ]
    if numbers["accuracy"] is not None:
        lines.append(
            f"right answer preferred: {numbers['accuracy']:.1%} (ranked first of all tokens: "
            f"{numbers['ranked_first']:.1%})"
        )
        for name, title in (("metric", "prompts"), ("twin_metric", "twins"), ("difference", "prompts less twins")):
            if numbers[name] is not None:
                error = numbers[f"{name}_standard_error"]
                spread = "" if error is None else f" ± {error:.3f} (standard error over {numbers['over']})"
                lines.append(f"{title}: {numbers[name]:+.3f}{spread}")
    return Text("\n".join([*lines, measured]))
