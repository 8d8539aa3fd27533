"""What `who`, `ablate`, `card` and `audit` share: the model, the prompts, the settings."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrepair.cli.options import options
from selfrepair.errors import SelfRepairError
from selfrepair.questions.question_settings import AuditSettings, PromptSource
from selfrepair.run.planning.setting_fields import given_settings
from selfrepair.run.planning.settings import Loading
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.model.language_model import LanguageModel
    from selfrepair.prompts import Prompt, Prompts
    from selfrepair.prompts.tokenising import Tokenising
    from selfrepair.questions.question import Question

Model = Annotated[str, typer.Argument(help="Hub id, folder with safetensors, GGUF file, or `default`.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the answer as files: netCDF, Parquet, JSON.")]

LOADING = options(Loading)
PROMPTS = options(PromptSource)
_NOT_ASKED = ("engine",)


def settings(*names: str) -> list[Any]:
    """Options from the settings of questions; all that can be given on the command line by default."""
    chosen = names or tuple(name for name in AuditSettings.__dataclass_fields__ if name not in _NOT_ASKED)
    return options(AuditSettings, *chosen)


def question(model: str, asked: Mapping[str, Any], quiet: bool) -> Question:
    """Loads the model, reads the prompts, and puts the settings together."""
    from selfrepair.cli.silence_libraries import quieten
    from selfrepair.model.load import load
    from selfrepair.questions.question import Question

    _require_prompts(asked)
    quieten()
    console = Console(stderr=True, quiet=quiet)
    console.print("Loading the model and proving its identities.")
    loaded = load(model, **given_settings(Loading, asked))
    chosen = _settings(asked)
    prompts = _prompts(loaded, asked, console)
    return Question(loaded, prompts, chosen, progress=not quiet)


def _settings(asked: Mapping[str, Any]) -> AuditSettings:
    given = {name: value for name, value in asked.items() if name in AuditSettings.__dataclass_fields__}
    if given.get("operators") is not None:
        given["operators"] = tuple(given["operators"]) or None
    return AuditSettings(**given)


def _require_prompts(asked: Mapping[str, Any]) -> None:
    """Refuses what makes no sense before the model is loaded."""
    if bool(asked["prompts"]) == bool(asked["prompt"]):
        raise SelfRepairError(
            "Prompts come from a file or from the command line; "
            + ("both were given." if asked["prompts"] else "neither was given."),
            'Give --prompts FILE, or --prompt "When Mary and John went home, John gave it to" --answer " Mary" '
            '--against " John".',
        )
    if asked["prompts"] and not Path(asked["prompts"]).is_file():
        raise SelfRepairError(
            f"There is no file '{asked['prompts']}'.", "Give --prompts the path of a file of prompts."
        )
    require_answers(asked)


def require_answers(asked: Mapping[str, Any]) -> None:
    """Refuses prompts on the command line whose answers or twins cannot be told apart; one prompt may have several."""
    counts = {name: len(asked[name] or ()) for name in ("prompt", "answer", "against", "corrupt")}
    if counts["prompt"] == 1 and counts["answer"] and counts["corrupt"] <= 1:
        return
    if asked["prompt"] and counts["answer"] != counts["prompt"]:
        raise SelfRepairError(
            f"{counts['prompt']} prompts and {counts['answer']} answers were given.",
            "Give --answer once for each --prompt.",
        )
    uneven = next((name for name in ("against", "corrupt") if counts[name] not in (0, counts["prompt"])), None)
    if asked["prompt"] and uneven:
        raise SelfRepairError(
            f"--{uneven} was given {counts[uneven]} times for {counts['prompt']} prompts.",
            "Give it for each, or for none.",
        )


def prompts_given(asked: Mapping[str, Any]) -> list[Prompt]:
    """Prompts from the command line."""
    from selfrepair.prompts import Prompt

    answers, against, corrupt = (asked[name] or () for name in ("answer", "against", "corrupt"))
    if len(asked["prompt"]) == 1:
        return [Prompt(asked["prompt"][0], tuple(answers), tuple(against), corrupt=next(iter(corrupt), None))]
    rows = zip_longest(asked["prompt"], answers, against, corrupt)
    return [
        Prompt(text, (answer,), () if wrong is None else (wrong,), corrupt=twin) for text, answer, wrong, twin in rows
    ]


def tokenising(asked: Mapping[str, Any]) -> Tokenising:
    """How prompts are tokenised."""
    return {"bos": asked["bos"], "twins": asked["twins"], "first_token": asked["first_token"], "chat": asked["chat"]}


def _prompts(model: LanguageModel, asked: Mapping[str, Any], console: Console) -> Prompts:
    from selfrepair.prompts import Prompts

    how = tokenising(asked)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if asked["prompts"]:
            selected = Prompts.read(
                asked["prompts"],
                model,
                format=asked["format"],
                ids_of=asked["ids_of"],
                groups=asked["groups"],
                counterfactual=asked["counterfactual"],
                **how,
            )
        else:
            selected = Prompts.of(prompts_given(asked), model, **how)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            console.print(f"Note: {warning.message}", style="yellow")
    return selected if asked["most"] is None else selected.select(range(min(len(selected), asked["most"])))


def as_json(content: Mapping[str, Any]) -> None:
    """Prints an answer for programs."""
    typer.echo(json.dumps(content, indent=2, default=_plain, allow_nan=True))


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict("records")
    return value.tolist() if hasattr(value, "tolist") else str(value)


def required(names: Sequence[str] | str | None, what: str) -> str:
    """Names from the command line in one text.

    Raises:
        SelfRepairError: there are none.
    """
    text = names if isinstance(names, str) else " ".join(names or ())
    if not text.strip():
        raise SelfRepairError(f"No {what} were named.", "Name heads as L9H6 or 9.6, MLPs as L9.mlp, several by commas.")
    return text
