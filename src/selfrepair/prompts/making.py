"""Prompts to one table of token ids; what cannot be used is left out, and said."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from selfrepair.errors import SelfRepairError, without_controls
from selfrepair.prompts.chat import in_chat
from selfrepair.prompts.in_context import Encoded, encoded
from selfrepair.prompts.prompt import Dropped, Prompt, PromptsDropped, Unusable
from selfrepair.prompts.tokenising import Options, Tokenising
from selfrepair.prompts.vocabulary import Vocabulary

_LARGEST = 2**27  # token ids of a table, padding included
_PADDING = 0

Found = Iterable[Prompt | Dropped]


def given(prompts: Iterable[Prompt | Mapping[str, Any]]) -> Iterator[Prompt | Dropped]:
    """Prompts from Python objects.

    Raises:
        SelfRepairError: something that is neither a prompt nor a mapping of a known kind.
    """
    if isinstance(prompts, Prompt | Mapping | str | bytes):
        raise SelfRepairError(
            f"A list of prompts was expected; a value of type {type(prompts).__name__} came.",
            'Put it in a list: Prompts.of([Prompt("…", (" Mary",), (" John",))], model).',
        )
    for number, prompt in enumerate(prompts, 1):
        if isinstance(prompt, Prompt):
            yield prompt
            continue
        if not isinstance(prompt, Mapping):
            raise SelfRepairError(
                f"Prompt {number} of the list is a value of type {type(prompt).__name__}.",
                'Give Prompt("…", (" Mary",), (" John",)), or mappings with the keys of a known format.',
            )
        from selfrepair.prompts.formats.mappings import prompt_of

        try:
            yield prompt_of(prompt)
        except Unusable as problem:
            yield Dropped(str(number), str(problem))


def fields_of(prompts: Found, model_or_tokenizer: Any, how: Tokenising, facts: Mapping[str, object]) -> dict[str, Any]:
    """The fields of `Prompts`.

    Args:
        prompts: as their authors have them, and what a reader left out.
        model_or_tokenizer: whose tokens are wanted.
        how: keywords of `Options`.
        facts: for the provenance.

    Raises:
        SelfRepairError: none can be used; two have one name; an unknown option.

    Warns:
        PromptsDropped: some cannot be used.
    """
    options = Options.of(how)
    vocabulary = Vocabulary(model_or_tokenizer, options.bos)
    kept, dropped = _encoded_all(prompts, vocabulary, options)
    kept, dropped = _comparable(kept, dropped, options)
    if not kept:
        raise _none(dropped)
    if dropped:
        warnings.warn(PromptsDropped(_dropped_in_words(len(kept), dropped)), stacklevel=3)
    twins = [item.corrupt for _, item in kept]
    provenance = {**facts, **options.facts(), "prefix": list(vocabulary.prefix), "tokenizer": vocabulary.name}
    provenance |= {"kept": len(kept), "dropped": len(dropped), "with_twin": sum(twin is not None for twin in twins)}
    return {
        "tokens": _padded([item.tokens for _, item in kept]),
        "lengths": np.array([len(item.tokens) for _, item in kept], np.int64),
        "corrupt": _padded([twin for twin in twins if twin is not None]) if None not in twins else None,
        "answers": tuple(item.answers for _, item in kept),
        "wrong": tuple(item.wrong for _, item in kept),
        "positions": np.array([item.position for _, item in kept], np.int64),
        "spans": tuple(item.spans for _, item in kept),
        "ids": tuple(prompt.id for prompt, _ in kept),
        "groups": tuple(prompt.group for prompt, _ in kept),
        "texts": tuple(item.text for _, item in kept),
        "weights": np.array([prompt.weight for prompt, _ in kept], np.float64),
        "dropped": tuple(dropped),
        "provenance": provenance,
    }


def _encoded_all(
    prompts: Found, vocabulary: Vocabulary, options: Options
) -> tuple[list[tuple[Prompt, Encoded]], list[Dropped]]:
    kept: list[tuple[Prompt, Encoded]] = []
    dropped: list[Dropped] = []
    names: Counter[str] = Counter()
    for prompt in _numbered(prompts):
        if isinstance(prompt, Dropped):
            dropped.append(prompt)
            continue
        names[prompt.id] += 1
        if names[prompt.id] > 1:
            raise SelfRepairError(
                f"Two prompts are called {prompt.id!r}.", "Give each prompt an id of its own, or none at all."
            )
        try:
            kept.append((prompt, _encoded(prompt, vocabulary, options)))
        except Unusable as problem:
            dropped.append(Dropped(prompt.id, str(problem)))
    return kept, dropped


def _numbered(prompts: Found) -> Iterator[Prompt | Dropped]:
    """Prompts without a name are called by their place."""
    for number, prompt in enumerate(prompts, 1):
        yield prompt if prompt.id else replace(prompt, id=str(number))


def named(prompts: Found) -> Iterator[Prompt]:
    """The prompts among what was found, under the names that results give them."""
    return (prompt for prompt in _numbered(prompts) if isinstance(prompt, Prompt))


def _encoded(prompt: Prompt, vocabulary: Vocabulary, options: Options) -> Encoded:
    """One prompt.

    Raises:
        Unusable: saying why.
    """
    if not (math.isfinite(prompt.weight) and prompt.weight > 0):
        raise Unusable(f"Its weight is {prompt.weight}; weights are positive numbers.")
    if options.twins == "none":
        prompt = replace(prompt, corrupt=None)
    if options.chat:
        item = in_chat(prompt, vocabulary, options.first_token)
    else:
        item = encoded(prompt, vocabulary, options.first_token)
    if item.unequal is not None:
        raise Unusable(
            f"Its twin has {item.unequal} tokens, the prompt {len(item.tokens)}: nothing tells which of its positions "
            'replaces which. Write a twin of equal length, or leave twins out (twins="none", --twins none) and '
            "ablate by zero, mean or resampling."
        )
    return item


def _comparable(
    kept: list[tuple[Prompt, Encoded]], dropped: list[Dropped], options: Options
) -> tuple[list[tuple[Prompt, Encoded]], list[Dropped]]:
    """Prompts without answers are of use only among themselves."""
    if not any(item.answers for _, item in kept):
        return kept, dropped
    without = [Dropped(prompt.id, "It has no answer, and others have.") for prompt, item in kept if not item.answers]
    return [(prompt, item) for prompt, item in kept if item.answers], [*dropped, *without]


def _padded(rows: Sequence[tuple[int, ...]]) -> Any:
    """Rows of token ids, padded on the right: padding on the left would move every position."""
    longest = max(map(len, rows))
    if longest * len(rows) > _LARGEST:
        raise SelfRepairError(
            f"{len(rows):,} prompts padded to the longest, {longest:,} tokens, take too much room.",
            "Leave the longest out, or measure them apart.",
        )
    table = np.full((len(rows), longest), _PADDING, np.int64)
    for row_number, row in enumerate(rows):
        table[row_number, : len(row)] = row
    return table


def _dropped_in_words(kept: int, dropped: Sequence[Dropped]) -> str:
    shown = "; ".join(f"{item.id}: {item.reason}" for item in dropped[:3])
    more = f"; and {len(dropped) - 3} more, see .dropped" if len(dropped) > 3 else ""
    return without_controls(
        f"{len(dropped)} of {kept + len(dropped)} prompts cannot be used and were dropped. {shown}{more}"
    )


def _none(dropped: Sequence[Dropped]) -> SelfRepairError:
    if not dropped:
        return SelfRepairError("There are no prompts.", "Give at least one prompt.")
    if len(dropped) == 1:
        return SelfRepairError(f"The prompt {dropped[0].id} cannot be used.", dropped[0].reason)
    first = f"{dropped[0].id}: {dropped[0].reason}"
    return SelfRepairError(f"None of the {len(dropped)} prompts can be used.", f"The first, {first}")
