"""The one exception users meet: what was expected, what came, and the usual fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROLS = re.compile(  # all but tab and newline; what turns text around; bytes of names that are not UTF-8
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def without_controls(text: str) -> str:
    """Text that a terminal shows as it is: what other libraries' messages, names and files say may steer it.

    Colours are left out, other control characters written as Python writes them: `\\x07`.
    """
    return _CONTROLS.sub(lambda found: _written(ord(found[0])), _COLOURS.sub("", text))


def _written(code: int) -> str:
    """A character as Python writes it; a byte that Python smuggled into a name (`os.fsdecode`) as that byte."""
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{byte:04x}"


class SelfRepairError(Exception):
    """A problem that the user can fix.

    Example:
        >>> try:
        ...     load_run("no/such/folder")
        ... except SelfRepairError as error:
        ...     print(error.fix)
        Give the folder that a run wrote.

    Args:
        problem: what was expected and what came, in one sentence.
        fix: the usual way out, in one sentence.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        problem, fix = without_controls(problem), without_controls(fix)
        super().__init__(problem, fix)  # what it takes to make it again in another process
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n{self.fix}" if self.fix else self.problem


@dataclass(frozen=True)
class Proof:
    """One identity with the error it was found to hold to.

    Example:
        >>> Proof("causality", "later tokens do not matter to earlier logits", error=1e-9, tolerance=1e-4).holds
        True

    Attributes:
        identity: its name.
        statement: what it says.
        error: how far it is off, relative to the size of what is compared; no unit.
        tolerance: how far it may be off.
    """

    identity: str
    statement: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; an error that is not a number is not."""
        return self.error <= self.tolerance


class RefusedModel(SelfRepairError):
    """A model for which one of the identities does not hold.

    Example:
        >>> try:
        ...     raise RefusedModel("causality", "later tokens matter to earlier logits.")
        ... except SelfRepairError as error:
        ...     print(error)
        Identity 'causality' fails: later tokens matter to earlier logits.

    Attributes:
        identity: its name.
        reason: what was found.
        proofs: the identities that were tried, with their errors; none where the model's parts were not even found.
    """

    def __init__(self, identity: str, reason: str, fix: str = "", proofs: Sequence[Proof] = ()) -> None:
        super().__init__(f"Identity '{identity}' fails: {reason}", fix)
        self.args = (identity, reason, fix, proofs)
        self.identity, self.reason, self.proofs = identity, reason, proofs
