"""Prompts as notebooks have them: parallel lists of texts, or tensors of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.prompt import Answer, Prompt


def paired(
    clean: Any,
    corrupt: Any = None,
    answers: Any = None,
    *,
    wrong: Any = None,
    lengths: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
) -> list[Prompt]:
    """Prompts from parallel lists or tensors; see `Prompts.from_pairs`.

    Raises:
        SelfRepairError: parts of different length, or of another shape.
    """
    texts = _rows(clean, "clean")
    sizes = _whole(lengths, "lengths")
    parts = {"corrupt": _rows(corrupt, "corrupt"), "wrong": _whole(wrong, "wrong"), "lengths": sizes}
    parts |= {"answers": _whole(answers, "answers"), "groups": _whole(groups, "groups")}
    for name, part in parts.items():
        if part is not None and len(part) != len(texts or ()):
            raise SelfRepairError(
                f"There are {len(texts or ())} clean prompts and {len(part)} {name}.", "Give one for each prompt."
            )
    right, other = _sides(parts["answers"], parts["wrong"])
    prompts = []
    for index, text in enumerate(texts or ()):
        twin = None if parts["corrupt"] is None else parts["corrupt"][index]
        length = None if sizes is None else int(sizes[index])
        prompts.append(
            Prompt(
                text=_cut(text, length),
                corrupt=None if twin is None else _cut(twin, length),
                answers=right[index] if right else (),
                wrong=other[index] if other else (),
                group="" if parts["groups"] is None else str(parts["groups"][index]),
            )
        )
    return prompts


def _whole(values: Any, name: str) -> list[Any] | None:
    """A list or a tensor as nested lists of Python's own values."""
    if values is None:
        return None
    if isinstance(values, str | bytes):
        raise SelfRepairError(f"{name} is a single text; a list was expected.", "Put it in a list.")
    try:
        listed = values.tolist() if hasattr(values, "tolist") else list(values)
    except TypeError:
        raise SelfRepairError(f"{name} is of type {type(values).__name__}; a list was expected.") from None
    if not isinstance(listed, list):
        raise SelfRepairError(f"{name} is a single value; a list was expected.", "Put it in a list.")
    return [value.tolist() if hasattr(value, "tolist") else value for value in listed]


def _rows(values: Any, name: str) -> list[str | tuple[int, ...]] | None:
    listed = _whole(values, name)
    return None if listed is None else [_row(value, f"{name}[{index}]") for index, value in enumerate(listed)]


def _row(value: Any, name: str) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    try:
        return tuple(_token(entry, name) for entry in value)
    except TypeError:
        raise SelfRepairError(
            f"{name} is of type {type(value).__name__}.", "Give texts, or token ids [prompt, position]."
        ) from None


def _token(value: Any, name: str) -> int:
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise SelfRepairError(f"{name} has {number!r:.40} among its token ids.", "Token ids are whole numbers.")
    return number


def _cut(text: str | tuple[int, ...], length: int | None) -> str | tuple[int, ...]:
    """The real tokens of a row."""
    if length is None:
        return text
    if isinstance(text, str) or not 0 < length <= len(text):
        raise SelfRepairError(f"{length} is not the number of real tokens of a row.", "Leave lengths out for texts.")
    return text[:length]


def _sides(
    answers: list[Any] | None, wrong: list[Any] | None
) -> tuple[list[tuple[Answer, ...]] | None, list[tuple[Answer, ...]] | None]:
    """Right and wrong answers of each prompt; pairs hold both."""
    if answers is None:
        return None, None
    pairs = wrong is None and all(isinstance(entry, list | tuple) and len(entry) == 2 for entry in answers)
    if wrong is None and not pairs and any(isinstance(entry, list | tuple) and len(entry) != 1 for entry in answers):
        raise SelfRepairError(
            "answers are expected as [prompt, 2], the right and the wrong one of each prompt.",
            "Give wrong ones as wrong= where there are several right ones.",
        )
    if pairs:
        return [(_answer(entry[0]),) for entry in answers], [(_answer(entry[1]),) for entry in answers]
    return _each(answers), None if wrong is None else _each(wrong)


def _each(side: list[Any]) -> list[tuple[Answer, ...]]:
    return [tuple(map(_answer, entry)) if isinstance(entry, list | tuple) else (_answer(entry),) for entry in side]


def _answer(value: Any) -> Answer:
    return value if isinstance(value, str) else _token(value, "answers")
