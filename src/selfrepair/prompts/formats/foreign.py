"""Token ids of another tokenizer: decoded by it, so that they can be tokenised again."""

from __future__ import annotations

import os
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.read import Wishes
from selfrepair.prompts.prompt import Unusable
from selfrepair.prompts.vocabulary import Vocabulary


class Foreign:
    """The tokenizer that token ids of a file belong to.

    Args:
        wishes: with `ids_of`.
        where: the columns that hold ids, for messages.

    Raises:
        SelfRepairError: it was not named: nothing in a file of token ids tells whose they are.
    """

    def __init__(self, wishes: Wishes, where: str) -> None:
        if wishes.ids_of is None:
            raise SelfRepairError(
                f"{where} has token ids, which mean something to one tokenizer only; the file does not say to which.",
                "Name it: --ids-of gpt2 (ids_of=), a folder or a hub id, or `model` for the model's own.",
            )
        own = isinstance(wishes.ids_of, str) and wishes.ids_of == "model"
        self._vocabulary = Vocabulary(wishes.model_or_tokenizer if own else _tokenizer(wishes.ids_of), "never")
        wishes.facts["ids_of"] = self._vocabulary.name

    def text(self, token: object) -> str:
        """What a token id stands for.

        Raises:
            Unusable: it is no id of this tokenizer, or the tokenizer would not write it.
        """
        number = int(token) if isinstance(token, str) and token.strip().isdecimal() else token
        if not isinstance(number, int) or isinstance(number, bool):
            raise Unusable(f"{token!r:.40} is no token id.")
        self._vocabulary.require([number])
        text = self._vocabulary.decode([number])
        if self._vocabulary.encode(text) != (number,):
            raise Unusable(f"Token id {number} stands for {text!r}, which its tokenizer would write otherwise.")
        return text


def _tokenizer(name: Any) -> Any:
    if not isinstance(name, str | os.PathLike):
        return name
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as problem:  # transformers and tokenizers have their own kinds
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise SelfRepairError(
            f"The tokenizer {os.fspath(name)} (--ids-of) cannot be loaded: {reason}",
            "Give a folder with tokenizer files, or the id of a model on the hub.",
        ) from problem
