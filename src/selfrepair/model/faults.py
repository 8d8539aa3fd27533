"""The one place where anything that goes wrong while a model's parts are found becomes a refusal in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from selfrepair.errors import RefusedModel, SelfRepairError, without_controls

_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # what a user does
_LONGEST = 300  # characters of another library's message


@contextmanager
def finding(step: str) -> Iterator[None]:
    """Turns every exception but our own into a refusal that names the step; the exception stays as its cause.

    Args:
        step: what is being looked for, as in 'finding the blocks'.

    Raises:
        RefusedModel: whatever went wrong. What a user does (Ctrl-C, the end of the program) passes.
    """
    try:
        yield
    except SelfRepairError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        raise _refusal(step, error) from error


def is_fault(error: BaseException) -> bool:
    """Whether an exception is a library's failure, be it of Python's usual kind or not (panics of native libraries)."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(_ENDS) is None
    return not isinstance(error, _ENDS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ended, on any device."""
    said = _message(error).lower()
    known = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in known)


def in_words(error: BaseException) -> str:
    """An exception's kind and the first line of what it says, without control characters."""
    lines = [line for line in _message(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {without_controls(lines[0]).strip()[:_LONGEST]}" if lines else kind


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # one that cannot even say what it is about
        return ""


def _refusal(step: str, error: BaseException) -> RefusedModel:
    if is_out_of_memory(error):
        return RefusedModel(
            f"finding {step}",
            f"memory ended ({in_words(error)}).",
            "Keep the weights on disk: load(name, offload=True), --offload on the command line; or try --device cpu.",
        )
    return RefusedModel(
        f"finding {step}",
        f"it ended with {in_words(error)}.",
        "The model does something there that this package does not expect; it is refused rather than measured "
        "wrongly. If transformers runs it on token ids alone, please report this message and the model's name.",
    )
