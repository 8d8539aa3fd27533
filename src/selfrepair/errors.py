"""The one exception users meet: what was expected, what came, and the usual fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfrepair.model.proofs import Proof


class SelfRepairError(Exception):
    """Something the user can mend.

    Args:
        problem: what was expected and what came, in one sentence.
        fix: the usual way out, in one sentence.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)  # what it takes to make it again in another process
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n{self.fix}" if self.fix else self.problem


class RefusedModel(SelfRepairError):
    """A model for which one of the identities does not hold.

    Attributes:
        identity: its name.
        reason: what was found.
        proofs: the identities that were tried, with their errors; none where the model's parts were not even found.
    """

    def __init__(self, identity: str, reason: str, fix: str = "", proofs: Sequence[Proof] = ()) -> None:
        super().__init__(f"Identity '{identity}' fails: {reason}", fix)
        self.args = (identity, reason, fix, proofs)
        self.identity, self.reason, self.proofs = identity, reason, proofs
