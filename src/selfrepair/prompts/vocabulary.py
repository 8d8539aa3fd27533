"""A tokenizer as prompts need it: texts to ids, ids to texts, and what stands in front of every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from selfrepair.errors import SelfRepairError
from selfrepair.model.configuration import setting
from selfrepair.model.language_model import LanguageModel
from selfrepair.prompts.prompt import Unusable
from selfrepair.text.tokens import Encoder

Bos = Literal["auto", "always", "never"]
LONGEST = 2**20  # characters or tokens of a prompt


class Vocabulary:
    """The tokenizer of a model, asked with care: it is duck-typed, and texts are data.

    Attributes:
        tokenizer: as given; None where prompts are token ids.
        prefix: token ids that are put in front of every prompt.

    Args:
        model_or_tokenizer: a loaded model, a tokenizer, or None where prompts are token ids.
        bos: whether something is put in front: by the tokenizer's habit, always, or never.

    Raises:
        SelfRepairError: the tokenizer cannot be called, or has no beginning-of-sequence token and `bos` is "always".
    """

    def __init__(self, model_or_tokenizer: Any, bos: Bos = "auto") -> None:
        model = model_or_tokenizer if isinstance(model_or_tokenizer, LanguageModel) else None
        self.tokenizer = model_or_tokenizer if model is None else model.tokenizer
        self._encoder = None if self.tokenizer is None else Encoder(self.tokenizer)
        self._size = _length(self.tokenizer) if model is None else len(model.anatomy.unembedding.weight)
        most = None if model is None else setting(model.network, "max_position_embeddings")
        self._positions = most if isinstance(most, int) and most > 0 else LONGEST  # XLNet writes -1 for no limit
        self._special = [text for text in _attribute(self.tokenizer, "all_special_tokens", ()) if isinstance(text, str)]
        if bos not in ("auto", "always", "never"):
            raise SelfRepairError(f"bos is {bos!r}.", 'Give "auto", "always" or "never".')
        if self._encoder is None and bos == "always":
            raise SelfRepairError("A beginning-of-sequence token was asked for without a tokenizer.", "Give one.")
        self.prefix = () if self._encoder is None else self._encoder.prefix(bos)

    @property
    def name(self) -> str:
        """What provenance calls the tokenizer."""
        return "none" if self.tokenizer is None else f"{type(self.tokenizer).__name__} of {self._size} tokens"

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, with nothing put in front.

        Raises:
            Unusable: there is no tokenizer, it fails, or the text has a special token written out in it.
        """
        if self._encoder is None:
            raise Unusable("It is a text, and there is no tokenizer. Give the model, its tokenizer, or token ids.")
        if len(text) > LONGEST:
            raise Unusable(f"It has {len(text):,} characters; at most {LONGEST:,} are read.")
        for special in self._special:
            if special and special in text:
                raise Unusable(
                    f"It has the special token {special!r} written out in it, which would be read as plain characters. "
                    "Leave it out (what stands in front is chosen by bos), or give token ids."
                )
        try:
            return tuple(self._encoder(text, "a prompt").tolist())
        except SelfRepairError as problem:
            raise Unusable(str(problem)) from problem

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids.

        Raises:
            Unusable: there is no tokenizer, or it fails.
        """
        if self.tokenizer is None:
            raise Unusable("There is no tokenizer to tell the text of token ids. Give the model or its tokenizer.")
        try:
            text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        except Exception as problem:  # whatever a tokenizer does
            raise Unusable(f"The tokenizer cannot decode it: {type(problem).__name__}: {problem}") from problem
        if not isinstance(text, str):
            raise Unusable("The tokenizer does not decode token ids to one text.")
        return text

    def pieces(self, ids: Sequence[int]) -> str:
        """Tokens one by one, to be shown: `'the' ' end'`; their numbers where they have no text."""
        try:
            return " ".join(repr(self.decode([token])) for token in ids)
        except Unusable:
            return " ".join(map(str, ids))

    def require(self, ids: Sequence[int]) -> None:
        """Refuses what are no tokens of this vocabulary.

        Raises:
            Unusable: naming the first.
        """
        wrong = [token for token in ids if token < 0 or (self._size and token >= self._size)]
        if wrong:
            raise Unusable(f"{wrong[0]} is no token of the vocabulary of {self._size or 2**31}.")

    def require_length(self, length: int) -> None:
        """Refuses more tokens than the model has positions for.

        Raises:
            Unusable: saying how many.
        """
        if length > self._positions:
            raise Unusable(f"It has {length:,} tokens; at most {self._positions:,} are read.")

    def require_unpadded(self, ids: Sequence[int]) -> None:
        """Refuses token ids that are padded: a position too many, or all of them moved.

        Raises:
            Unusable: it ends in a padding or end token, or begins with several.
        """
        names = ("pad_token_id", "eos_token_id", "bos_token_id")
        pad, end, start = (_attribute(self.tokenizer, name, None) for name in names)
        fill = {token for token in (pad, end) if isinstance(token, int)}
        if ids and ids[-1] in fill:
            raise Unusable(
                f"Its token ids end in {ids[-1]}, padding or the end of a text, where an answer is expected. "
                "Give each prompt its real tokens, or lengths= to from_pairs."
            )
        doubled = len(ids) > 1 and ids[0] == ids[1] and ids[0] in fill | {start}
        if doubled and tuple(ids[:2]) != self.prefix[:2]:
            raise Unusable(
                f"Its token ids begin with {ids[0]} more than once: padding on the left, which moves all positions. "
                "Give each prompt its real tokens."
            )


def _attribute(tokenizer: Any, name: str, default: Any) -> Any:
    try:
        value = getattr(tokenizer, name, default)
    except Exception:
        return default
    return default if value is None else value


def _length(tokenizer: Any) -> int:
    """How many tokens it knows; 0 where it does not say."""
    try:
        return len(tokenizer)
    except Exception:
        return 0
