"""The clean half of a block, which all runs share: whether recording it put out what the clean run did."""

from __future__ import annotations

from torch import Tensor

from selfrepair.engine.clean import CleanRun
from selfrepair.engine.delta.blocks import OUTPUT
from selfrepair.engine.delta.tape import Tape
from selfrepair.errors import RefusedModel
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.own_forward import stream_errors
from selfrepair.model.proofs import tolerance


def strayed_at(clean: CleanRun, layer: int, tape: Tape) -> Tensor:
    """How far the output of a recorded block is from the stream that the block above read in the clean run."""
    following = (*clean.residuals[1:], clean.final)[layer]
    return stream_errors(tape.values[tape.marks[OUTPUT]].reshape(following.shape), following).max()


def require_clean(model: LanguageModel, strayed: float) -> None:
    """Refuses blocks that stray by more than rounding.

    Args:
        model: the model.
        strayed: the largest of `strayed_at`.

    Raises:
        RefusedModel: they do.
    """
    allowed = tolerance(model.dtype)
    if not strayed <= allowed:
        raise RefusedModel(
            "blocks replay",
            f"a block given its input and arguments again puts out a stream that differs by {strayed:.1e} of its size, "
            f"{allowed:.0e} is allowed.",
            "Blocks that need more than that (what other blocks or texts left somewhere) cannot be replayed.",
        )
