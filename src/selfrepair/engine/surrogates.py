"""Surrogates: cheap stand-ins for the effects of ablations, for estimates in two phases (`statistics.two_phase`).

Some give effects token by token, for filters that choose tokens; others sums over all tokens of a document, for the
filter `all`. A run may have one of each: `own+gradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from selfrepair import choices
from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.first_order import first_order_sums
from selfrepair.engine.own_position.single_positions import OwnPositionEngine, require_own_positions
from selfrepair.errors import RefusedModel, SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.registry import Registry


class Surrogate(Protocol):
    """Estimates effects of ablated runs. It need not be right: only on how well it predicts does it depend how much an
    estimate in two phases gains.

    Attributes:
        name: the name it is chosen by.
        words: what it does, for captions.
    """

    name: str
    words: str

    def require(self, model: LanguageModel, clean: CleanRun) -> None:
        """Refuses models that it does not work on. Called once, under `model.running()`.

        Raises:
            RefusedModel: it does not.
        """
        ...


class TokenSurrogate(Surrogate, Protocol):
    """Estimates ledgers token by token."""

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        wanted: Tensor,
    ) -> Iterator[Ledger]:
        """Ledgers as engines yield them (`selfrepair.engine.contract.Engine.sweep`), of wanted predictions.

        Args:
            model: the model.
            clean: the clean run of a batch of windows.
            interventions: single heads.
            replacement: what to put in their places.
            per_component: whether ledgers get a line for every downstream head.
            wanted: predictions whose effects are used, bool [intervention, window, P]; others may be NaN.
        """
        ...


class SumSurrogate(Surrogate, Protocol):
    """Estimates sums of effects over all tokens of a document."""

    def sums(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        groups: Tensor,
    ) -> dict[str, Tensor]:
        """Sums of total effects, and of all lines of the ledger but that of heads, which is what is left.

        Args:
            model: the model.
            clean: the clean run of a batch of windows.
            interventions: single heads.
            replacement: what to put in their places.
            groups: predictions that are added up, bool [group, window, P].

        Returns:
            `total_effect` and names of lines to [intervention, group, window], logits; lines left out are zero.
        """
        ...


class OwnPosition:
    """The effect of ablating the head at the position that predicts the token, and nowhere else."""

    name = "own"
    words = "own-position ablation"

    def require(self, model: LanguageModel, clean: CleanRun) -> None:
        """See `Surrogate`."""
        require_own_positions(model, clean)

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        wanted: Tensor,
    ) -> Iterator[Ledger]:
        """See `TokenSurrogate`."""
        engine = OwnPositionEngine()
        yield from engine.sweep(model, clean, interventions, replacement, per_component, wanted=wanted)


class LowPrecision:
    """The effect with int8 products: right even where int8 is not, because the exact part corrects it."""

    name = "low-precision"
    words = "int8 products"

    def __init__(self) -> None:
        self._engine = DeltaEngine(precision="int8")  # keeps the weights at low precision

    def require(self, model: LanguageModel, clean: CleanRun) -> None:
        """See `Surrogate`."""
        layers = model.anatomy.layers_with_heads
        top = each([Head(layers[-1], 0), Head(layers[0], 0)])
        for _ledger in self._engine.sweep(model, clean, top, clean.outputs_at, False):
            pass

    def sweep(
        self,
        model: LanguageModel,
        clean: CleanRun,
        interventions: Sequence[Intervention],
        replacement: Replacement,
        per_component: bool,
        wanted: Tensor,
    ) -> Iterator[Ledger]:
        """See `TokenSurrogate`; all predictions are computed."""
        yield from self._engine.sweep(model, clean, interventions, replacement, per_component)


class Gradient:
    """First-order effects by backward passes, of all heads at once."""

    name = "gradient"
    words = "first-order effects"
    sums = staticmethod(first_order_sums)

    def require(self, model: LanguageModel, clean: CleanRun) -> None:
        """See `Surrogate.require`.

        Raises:
            SelfRepairError: weights are on disk.
            RefusedModel: nothing can be differentiated.
        """
        if model.offloaded:
            raise SelfRepairError(
                "First-order effects need all weights in memory, and those of this model are on disk.",
                "Leave --offload out, or the surrogate 'gradient'.",
            )
        every = torch.ones(1, *clean.reading.shape, dtype=torch.bool)
        run = each([Head(model.anatomy.layers_with_heads[0], 0)])
        try:
            sums = self.sums(model, clean, run, clean.outputs_at, every)
        except RuntimeError as problem:
            raise RefusedModel(
                "first order", f"its forward cannot be differentiated ({problem}).", "Take the surrogate 'own'."
            ) from problem
        if not all(bool(value.isfinite().all()) for value in sums.values()):
            raise RefusedModel("first order", "its gradients are not finite.", "Take the surrogate 'own'.")


class Surrogates(NamedTuple):
    """What a run estimates effects by.

    Attributes:
        tokens: of tokens that filters choose; None where these come from the exact part.
        sums: of all tokens; None where these do.
    """

    tokens: TokenSurrogate | None = None
    sums: SumSurrogate | None = None

    @property
    def chosen(self) -> list[Surrogate]:
        """Those that there are."""
        return [surrogate for surrogate in self if surrogate is not None]


SURROGATES: Registry[Callable[[], Surrogate]] = choices.SURROGATES


def surrogates_named(names: str) -> Surrogates:
    """The surrogates of these names.

    Example:
        >>> surrogates_named("own+gradient").sums.words
        'first-order effects'

    Args:
        names: `own`, `low-precision`, `gradient`, one from another package's entry point in `selfrepair.surrogates`,
            or one for tokens and one for sums with a `+` between them.

    Raises:
        SelfRepairError: for other names, two of a kind, or a package that fails.
    """
    made = [_surrogate_named(name) for name in names.split("+")]
    of_tokens: list[Any] = [surrogate for surrogate in made if hasattr(surrogate, "sweep")]
    of_sums: list[Any] = [surrogate for surrogate in made if not hasattr(surrogate, "sweep")]
    if len(of_tokens) > 1 or len(of_sums) > 1:
        raise SelfRepairError(
            f"'{names}' are two surrogates for the same tokens.",
            "Give one that estimates single tokens (own, low-precision), and one of sums (gradient): own+gradient.",
        )
    return Surrogates(*(of_tokens or [None]), *(of_sums or [None]))


def _surrogate_named(name: str) -> Any:
    made: Any = SURROGATES[name]()
    ways = "sums" if hasattr(made, "sums") else "sweep"
    lacking = [part for part in ("name", "words", "require", ways) if not hasattr(made, part)]
    if lacking or made.name != name:
        raise SelfRepairError(
            f"The surrogate '{name}' ({SURROGATES.origin(name)}) "
            + (f"has no {', '.join(lacking)}." if lacking else f"calls itself '{made.name}'."),
            "Its entry point has to name a class of `selfrepair.engine.surrogates.Surrogate`, made without arguments.",
        )
    return made
