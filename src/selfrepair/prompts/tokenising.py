"""How prompts are tokenised: the options that all ways in share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.vocabulary import Bos

Twins = Literal["equal", "none"]


class Tokenising(TypedDict, total=False):
    """Keywords of `Prompts.read`, `Prompts.of` and `Prompts.from_pairs`; see `Options`."""

    bos: Bos
    chat: bool
    first_token: bool
    twins: Twins


@dataclass(frozen=True)
class Options:
    """How prompts are tokenised.

    Attributes:
        bos: what stands in front: `"auto"`, what the tokenizer puts in front of a text; `"always"`, the same, or its
            `bos_token`; `"never"`. Token ids that begin with it are left as they are.
        chat: whether each text is put into the tokenizer's chat template, as what the user says.
        first_token: whether answers may have several tokens: what all of them begin with is put behind the prompt,
            and their next tokens are compared.
        twins: `"equal"`: a prompt whose corrupted twin has another number of tokens is dropped; `"none"`: twins are
            not read.
    """

    bos: Bos = "auto"
    chat: bool = False
    first_token: bool = False
    twins: Twins = "equal"

    @classmethod
    def of(cls, keywords: Tokenising) -> Options:
        """Options from keywords.

        Raises:
            SelfRepairError: one that there is not, or an unknown value.
        """
        unknown = sorted(set(keywords) - set(cls.__dataclass_fields__))
        if unknown:
            raise SelfRepairError(f"There is no option {unknown[0]!r}.", f"Options are {', '.join(cls().facts())}.")
        options = cls(**keywords)
        if options.twins not in ("equal", "none"):
            raise SelfRepairError(f"twins is {options.twins!r}.", 'Give "equal" or "none".')
        return options

    def facts(self) -> dict[str, Any]:
        """For the provenance."""
        return asdict(self)
