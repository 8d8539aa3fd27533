"""Tasks of the Mechanistic Interpretability Benchmark, whose rows hold their counterfactuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content, Row
from selfrepair.prompts.formats.read import Wishes, each_row, text_of
from selfrepair.prompts.formats.years import Years
from selfrepair.prompts.prompt import Dropped, Prompt, Unusable

_SUFFIX = "_counterfactual"
DEFAULTS = {  # the benchmark's own
    "ioi": "s2_io_flip_counterfactual",
    "multiple choice": "symbol_counterfactual",
    "arithmetic": "random_counterfactual",
}
SPACES = {"ioi": "in front of names", "ewok": "between context and target"}

Convert = Callable[[Row, str], Prompt]


def detect(content: Content) -> bool:
    """See `Format`."""
    return _task(content.columns) is not None


def _task(columns: tuple[str, ...]) -> str | None:
    names = set(columns)
    if {"Context1", "Context2", "Target1", "Target2"} <= names:
        return "ewok"
    if {"clean", "corrupted", "year"} <= names:
        return "greater-than"
    if "prompt" not in names or not any(name.endswith(_SUFFIX) for name in names):
        return None
    if "metadata" in names:
        return "ioi"
    return "multiple choice" if {"choices", "answerKey"} <= names else "arithmetic" if "label" in names else None


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`."""
    task = _task(content.columns)
    if task is None:
        raise SelfRepairError(
            f"{content.name} is no task of MIB.",
            "Its rows have a prompt and counterfactuals within them; write it as JSON lines or Parquet.",
        )
    wishes.facts["task"] = task
    twin = _counterfactual(task, content.columns, wishes)
    wishes.facts["space_put_in_front_of_answers"] = SPACES.get(task, "none, as in the benchmark")
    years = Years(wishes) if task == "greater-than" else None

    def convert(row: Row) -> Prompt:
        if years is not None:
            return years.prompt(Prompt(text_of(row, "clean"), corrupt=text_of(row, "corrupted")), str(row["year"])[-2:])
        return _CONVERT[str(task)](row, twin)

    return each_row(content, wishes, convert)


def _counterfactual(task: str, columns: tuple[str, ...], wishes: Wishes) -> str:
    """Which twin is taken; it is recorded, because results depend on it."""
    if task not in DEFAULTS:
        wishes.refuse_unused()
        wishes.facts["counterfactual"] = "Context2" if task == "ewok" else "corrupted"
        return ""
    wishes.refuse_unused("counterfactual")
    names = [name for name in columns if name.endswith(_SUFFIX)]
    asked = wishes.counterfactual or DEFAULTS[task]
    chosen = asked if asked in names else f"{asked}{_SUFFIX}"
    if chosen not in names:
        raise SelfRepairError(
            f"There is no counterfactual {asked!r} in the file.",
            f"Choose one with --counterfactual: {', '.join(names)}.",
        )
    wishes.facts.update({"counterfactual": chosen, "counterfactuals_there": names})
    return chosen


def _twin(row: Row, name: str) -> Mapping[str, Any]:
    twin = row.get(name)
    if not isinstance(twin, Mapping) or twin.get("prompt") is None:
        raise Unusable(f"It has no {name}.")
    return twin


def _ioi(row: Row, name: str) -> Prompt:
    about = row.get("metadata")
    if not isinstance(about, Mapping):
        raise Unusable("Its metadata are no object.")
    names = [f" {text_of(about, key)}" for key in ("indirect_object", "subject")]
    return Prompt(text_of(row, "prompt"), (names[0],), (names[1],), text_of(_twin(row, name), "prompt"))


def _choice(row: Mapping[str, Any]) -> str:
    """The label of the right choice."""
    choices, key = row.get("choices"), row.get("answerKey")
    labels = choices.get("label") if isinstance(choices, Mapping) else None
    if not isinstance(labels, list) or type(key) is not int or not 0 <= key < len(labels):
        raise Unusable(f"Its answerKey {key!r:.40} is no place among its choices' labels.")
    return str(labels[key])


def _multiple_choice(row: Row, name: str) -> Prompt:
    twin = _twin(row, name)
    return Prompt(text_of(row, "prompt"), (_choice(row),), (_choice(twin),), text_of(twin, "prompt"))


def _arithmetic(row: Row, name: str) -> Prompt:
    twin = _twin(row, name)
    right, wrong = row.get("label"), twin.get("label")
    if right is None or wrong is None:
        raise Unusable("It has no label.")
    group = str(row.get("operator") or "")
    return Prompt(text_of(row, "prompt"), (str(right),), (str(wrong),), text_of(twin, "prompt"), group=group)


def _ewok(row: Row, _name: str) -> Prompt:
    targets = [f" {text_of(row, name)}" for name in ("Target1", "Target2")]
    contexts = [text_of(row, name) for name in ("Context1", "Context2")]
    return Prompt(contexts[0], (targets[0],), (targets[1],), contexts[1], group=str(row.get("Domain") or ""))


_CONVERT: dict[str, Convert] = {
    "ioi": _ioi,
    "multiple choice": _multiple_choice,
    "arithmetic": _arithmetic,
    "ewok": _ewok,
}
