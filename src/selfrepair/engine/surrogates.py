"""Surrogates: cheap stand-ins for the effects of ablations, for estimates in two phases (`statistics.two_phase`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from selfrepair import choices
from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.sites import Head
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.contract import Replacement
from selfrepair.engine.delta import DeltaEngine
from selfrepair.engine.own_position.single_positions import OwnPositionEngine, require_own_positions
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.registry import Registry


class Surrogate(Protocol):
    """Estimates ledgers of ablated runs. It need not be right: only on how well it predicts does it depend how much an
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
        """See `Surrogate`."""
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
        """See `Surrogate`; all predictions are computed."""
        yield from self._engine.sweep(model, clean, interventions, replacement, per_component)


SURROGATES: Registry[Callable[[], Surrogate]] = choices.SURROGATES


def surrogate_named(name: str) -> Surrogate:
    """The surrogate of that name.

    Args:
        name: `own`, or one from another package's entry point in `selfrepair.surrogates`.

    Raises:
        SelfRepairError: for other names, or a package that fails.
    """
    made: Any = SURROGATES[name]()
    lacking = [part for part in ("name", "words", "require", "sweep") if not hasattr(made, part)]
    if lacking or made.name != name:
        raise SelfRepairError(
            f"The surrogate '{name}' ({SURROGATES.origin(name)}) "
            + (f"has no {', '.join(lacking)}." if lacking else f"calls itself '{made.name}'."),
            "Its entry point has to name a class of `selfrepair.engine.surrogates.Surrogate`, made without arguments.",
        )
    surrogate: Surrogate = made
    return surrogate
