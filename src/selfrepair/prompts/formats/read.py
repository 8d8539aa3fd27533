"""Which format a file has, and the prompts in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from selfrepair.choices import PROMPT_FORMATS
from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content, Row, load_content
from selfrepair.prompts.prompt import Dropped, Prompt, Unusable
from selfrepair.prompts.vocabulary import Vocabulary


@dataclass(frozen=True)
class Wishes:
    """What is asked of a reader.

    Attributes:
        ids_of: the tokenizer that token ids in the file belong to, or its name.
        groups: the column that names groups.
        counterfactual: which twin.
        model_or_tokenizer: whose tokens are wanted.
        facts: what the reader found out, for the provenance.
    """

    ids_of: Any = None
    groups: str | None = None
    counterfactual: str | None = None
    model_or_tokenizer: Any = None
    facts: dict[str, object] = field(default_factory=dict)

    def vocabulary(self) -> Vocabulary:
        """Of the model."""
        return Vocabulary(self.model_or_tokenizer, "never")

    def refuse_unused(self, *used: str) -> None:
        """Refuses wishes that a format has no use for: to pass them over would be another answer than was asked for.

        Raises:
            SelfRepairError: naming the first.
        """
        for name, option in {"ids_of": "--ids-of", "counterfactual": "--counterfactual"}.items():
            if getattr(self, name) is not None and name not in used:
                raise SelfRepairError(
                    f"{name} ({option}) was given, and this format has no use for it.", "Leave it out."
                )


class PromptFormat(Protocol):
    """A kind of prompt file."""

    def detect(self, content: Content) -> bool:
        """Whether a file looks like one."""
        ...

    def read(self, content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
        """The prompts in it, and those that cannot be used."""
        ...


def prompts_in(
    path: str | os.PathLike[str], model_or_tokenizer: Any, format: str | None, wishes: Wishes
) -> tuple[list[Prompt | Dropped], dict[str, object]]:
    """The prompts of a file, and facts for the provenance.

    Raises:
        SelfRepairError: it is damaged, or of no known format.
    """
    content = load_content(Path(path))
    wishes = replace(wishes, model_or_tokenizer=model_or_tokenizer)
    name = format or _detected(content)
    prompts = list(PROMPT_FORMATS[name].read(content, wishes))
    facts: dict[str, object] = {"file": content.name, "sha256": content.sha256, "format": name}
    return prompts, facts | wishes.facts


def _detected(content: Content) -> str:
    for name in PROMPT_FORMATS:
        if PROMPT_FORMATS[name].detect(content):
            return name
    columns = ", ".join(repr(column[:40]) for column in content.columns[:12])
    raise SelfRepairError(
        f"{content.name} is of no known prompt format" + (f"; its columns are {columns}." if columns else "."),
        f"Name the format (--format {'|'.join(PROMPT_FORMATS)}), or write JSON lines with text, answers and wrong.",
    )


def each_row(content: Content, wishes: Wishes, convert: Callable[[Row], Prompt]) -> Iterator[Prompt | Dropped]:
    """Prompts of rows, named by their place unless they have names, in their groups.

    Args:
        content: the file.
        wishes: what is asked for.
        convert: makes a prompt of a row; raises `Unusable`.

    Raises:
        SelfRepairError: the column that was to name groups is not there.
    """
    require_column(content.columns, wishes.groups)
    for number, row in enumerate(content.rows, 1):
        name = str(number)
        try:
            prompt = convert(row)
        except Unusable as problem:
            yield Dropped(name, str(problem))
            continue
        group = prompt.group if wishes.groups is None else str(row.get(wishes.groups))
        yield replace(prompt, id=prompt.id or name, group=group)


def require_column(columns: tuple[str, ...], name: str | None) -> None:
    """Refuses a column that is not there.

    Raises:
        SelfRepairError: listing those that are.
    """
    if name is not None and name not in columns:
        raise SelfRepairError(
            f"There is no column {name!r} to take groups from.", f"There are: {', '.join(map(repr, columns))}."
        )


def text_of(row: Mapping[str, Any], key: str) -> str:
    """A text of a row.

    Raises:
        Unusable: there is none.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise Unusable(f"It has no text under {key!r}.")
    return value
