"""Prompts in a tokenizer's chat template, as what the user says; the answer is what the model says first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selfrepair.prompts.in_context import Encoded, encoded
from selfrepair.prompts.prompt import Answer, Prompt, Unusable
from selfrepair.prompts.vocabulary import Vocabulary


def in_chat(prompt: Prompt, vocabulary: Vocabulary, first_token: bool) -> Encoded:
    """A prompt's tokens in the chat template.

    Raises:
        Unusable: there is no template; positions or spans, which cannot be found in it; token ids.
    """
    if not isinstance(prompt.text, str) or not isinstance(prompt.corrupt, str | None):
        raise Unusable("It is token ids, which no chat template takes. Give its text, or leave chat out.")
    if prompt.position != -1 or prompt.spans:
        raise Unusable("It has positions or spans, which move in a chat template. Leave them or chat out.")
    ids = _templated(prompt.text, vocabulary)
    twin = None if prompt.corrupt is None else _templated(prompt.corrupt, vocabulary)
    plain = replace(
        prompt,
        text=ids,
        corrupt=twin,
        answers=tuple(_first_said(one, vocabulary) for one in prompt.answers),
        wrong=tuple(_first_said(one, vocabulary) for one in prompt.wrong),
    )
    return replace(encoded(plain, vocabulary, first_token), text=prompt.text)


def _templated(text: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Token ids of a text in the template, up to where the model's turn begins."""
    vocabulary.encode(text)  # refuses special tokens, by which a text could end its turn
    messages = [{"role": "user", "content": text}]
    try:
        made: Any = vocabulary.tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    except Exception as problem:  # templates are programs of others
        raise Unusable(f"The tokenizer's chat template fails on it: {type(problem).__name__}: {problem}") from problem
    ids = made["input_ids"] if isinstance(made, Mapping) or hasattr(made, "input_ids") else made
    return tuple(int(one) for one in ids)


def _first_said(answer: Answer, vocabulary: Vocabulary) -> Answer:
    """An answer at the beginning of the model's turn, where no space stands in front."""
    return vocabulary.encode(answer.removeprefix(" ")) if isinstance(answer, str) else answer
