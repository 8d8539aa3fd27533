"""Prompts in a tokenizer's chat template, as what the user says; the answer is what the model says first."""

from __future__ import annotations

from dataclasses import replace

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
    text = _templated(prompt.text, vocabulary)
    ids = _ids(text, vocabulary)
    twin = None if prompt.corrupt is None else _ids(_templated(prompt.corrupt, vocabulary), vocabulary)

    def tokens_of(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
        return tuple(
            _behind(text, ids, answer, vocabulary) if isinstance(answer, str) else answer for answer in answers
        )

    within = replace(prompt, text=ids, corrupt=twin, answers=tokens_of(prompt.answers), wrong=tokens_of(prompt.wrong))
    return replace(encoded(within, vocabulary, first_token), text=prompt.text)


def _templated(text: str, vocabulary: Vocabulary) -> str:
    """A text in the template, up to where the model's turn begins."""
    vocabulary.encode(text)  # refuses special tokens, by which a text could end its turn
    messages = [{"role": "user", "content": text}]
    try:
        templated = vocabulary.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as problem:  # templates are programs of others
        raise Unusable(f"The tokenizer's chat template fails on it: {type(problem).__name__}: {problem}") from problem
    return str(templated)


def _ids(text: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Token ids of a text in the template, whose special tokens are meant."""
    try:
        return tuple(int(token) for token in vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as problem:  # whatever a tokenizer does
        raise Unusable(f"The tokenizer fails on it: {type(problem).__name__}: {problem}") from problem


def _behind(text: str, ids: tuple[int, ...], answer: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens of an answer at the beginning of the model's turn; where a line begins, without its space."""
    vocabulary.encode(answer)  # refuses special tokens
    written = answer.removeprefix(" ") if text[-1:].isspace() else answer
    whole = _ids(text + written, vocabulary)
    if whole[: len(ids)] != ids or len(whole) == len(ids):
        raise Unusable(f"The answer {answer!r} changes how the chat template before it is tokenised.")
    return whole[len(ids) :]
