"""Greater-than: the right answers are all two-digit years after the one in the prompt."""

from __future__ import annotations

from dataclasses import replace

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.read import Wishes
from selfrepair.prompts.prompt import Prompt, Unusable


class Years:
    """The tokens `00` to `99`.

    Args:
        wishes: with the model.

    Raises:
        SelfRepairError: some are several tokens.
    """

    def __init__(self, wishes: Wishes) -> None:
        vocabulary = wishes.vocabulary()
        tokens = [vocabulary.encode(f"{year:02d}") for year in range(100)]
        for year, ids in enumerate(tokens):
            if len(ids) != 1:
                raise SelfRepairError(
                    f"The year {year:02d} is {len(ids)} tokens ({vocabulary.pieces(ids)}) of this tokenizer; "
                    "greater-than compares years that are one token.",
                    "Take a model whose tokenizer writes two digits as one token, as GPT-2's does.",
                )
        self._tokens = [ids[0] for ids in tokens]

    def prompt(self, prompt: Prompt, year: object) -> Prompt:
        """The prompt with its answers: years after this one; and its wrong answers: this one, and those before.

        Args:
            prompt: ends in the century, `… from the year 1732 to the year 17`.
            year: the two digits.

        Raises:
            Unusable: it is no two-digit year, or not the prompt's.
        """
        number = int(year) if isinstance(year, str) and year.strip().isdecimal() else year
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 99:
            raise Unusable(f"{year!r:.40} is no two-digit year from 00 to 98 (a year, and no token id, stands there).")
        century = str(prompt.text).split()[-1]
        if f"{century}{number:02d}" not in str(prompt.text):
            raise Unusable(f"The year {century}{number:02d} is not in its text.")
        return replace(prompt, answers=tuple(self._tokens[number + 1 :]), wrong=tuple(self._tokens[: number + 1]))
