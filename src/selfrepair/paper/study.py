"""`Study`, which all experiments share, and `Experiment`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from selfrepair import choices
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.paper.inputs.recipe import Recipe
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.registry import Registry
from selfrepair.results.runs import Run
from selfrepair.text import Windows

SCAN_TOKENS = 768  # tokens of the scan over all heads, which costs several forwards


@dataclass
class Study:
    """The model, text and settings that all experiments share.

    Attributes:
        model: the model.
        windows: the text.
        swept: the sweep over all heads; None if no experiment needs it, see `needs_sweep`.
        recipe: how text, donors and tokens are chosen.
        others: runs of other models, for the overview's panels.
        reference: a folder with published tables.
        seed: random seed for donors and samples.
        scan_tokens: number of tokens in the scan over all heads.
        slopes: slopes of self-repression at the intervened run's own scale, by head and scale, once measured.
        slopes_about: model, tokens and documents that the slopes were measured on.
    """

    model: LanguageModel
    windows: Windows
    swept: Run | None
    recipe: Recipe
    others: tuple[Run, ...] = ()
    reference: Path | None = None
    seed: int = 0
    scan_tokens: int = SCAN_TOKENS
    slopes: dict[tuple[str, float], Number] = field(default_factory=dict)
    slopes_about: str = ""

    @property
    def run(self) -> Run:
        """The sweep over all heads.

        Raises:
            SelfRepairError: no experiment asked for a sweep.
        """
        if self.swept is None:
            raise SelfRepairError("This experiment reads the sweep over all heads.", "Give it a run: make.sweep.")
        return self.swept

    def corpus(self, roll: int = 0) -> Corpus:
        """The corpus, with the original recipe's donors rolled as asked."""
        return Corpus(self.model, self.windows, self.recipe, self.seed, roll)


Maker = Callable[[Study], Iterator[Exhibit]]


@dataclass(frozen=True)
class Experiment:
    """One experiment; by default it reads the sweep over all heads.

    Attributes:
        heading: title of its section on the page.
        make: yields its exhibits one by one; each is saved at once.
        needs_sweep: whether it reads `Study.run`.
        needs_reference: whether it reads `Study.reference`; it is left out if there is none.
    """

    heading: str
    make: Maker
    needs_sweep: bool = True
    needs_reference: bool = False


def experiment(
    heading: str, *, needs_sweep: bool = True, needs_reference: bool = False
) -> Callable[[Maker], Experiment]:
    """Makes an experiment of the function that yields its exhibits; `choices.EXPERIMENTS` names it.

    Args:
        heading: title of its section on the page.
        needs_sweep: see `Experiment`.
        needs_reference: see `Experiment`.
    """
    return lambda make: Experiment(heading, make, needs_sweep, needs_reference)


EXPERIMENTS: Registry[Experiment] = choices.EXPERIMENTS
"""In the paper's order; those of other packages come last."""
