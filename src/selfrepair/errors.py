"""The one exception users meet: what was expected, what came, and the usual fix."""


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
    """A model for which one of the identities does not hold; `identity` names it."""

    def __init__(self, identity: str, problem: str, fix: str = "") -> None:
        super().__init__(f"Identity '{identity}' fails: {problem}", fix)
        self.args = (identity, problem, fix)
        self.identity = identity
