"""Which of many scored edges or components a circuit takes."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from selfrepair.errors import SelfRepairError

Rank = Literal["signed", "absolute"]


def best(scores: NDArray[np.float64], top: int, rank: Rank | None, what: str) -> tuple[NDArray[np.int64], list[str]]:
    """Which have the best scores, in the order of the file; what has no score (NaN) is never among them.

    Args:
        scores: [number].
        top: how many to take.
        rank: `signed` or `absolute`.
        what: `edges` or `components`, for messages.

    Returns:
        Their places, and notes.

    Raises:
        SelfRepairError: `rank` is needed, or fewer have scores.
    """
    if rank not in get_args(Rank):
        raise rank_needed(len(scores), what) if rank is None else unknown_rank(rank)
    known = np.flatnonzero(np.isfinite(scores))
    if not 0 < top <= len(known):
        raise SelfRepairError(
            f"The best {top} {what} were asked for, and {len(known)} have scores.", f"Give top from 1 to {len(known)}."
        )
    keys = scores[known] if rank == "signed" else np.abs(scores[known])
    order = np.argsort(-keys, kind="stable")
    chosen, left = known[order[:top]], keys[order[top:]]
    tied = int((left == keys[order[top - 1]]).sum())
    notes = (
        [f"More {what} with the score of the last one taken, between which the file's order decided: {tied}."]
        if tied
        else []
    )
    if rank == "signed" and (negative := int((scores[chosen] < 0).sum())):
        notes.append(f"Of the {top} {what} taken, with negative scores: {negative}.")
    return np.sort(chosen), notes


def rank_needed(count: int, what: str) -> SelfRepairError:
    """Why there is no default."""
    return SelfRepairError(
        f"Which of {count:,} scored {what} come first depends on whether signs count, and the two ways give different "
        "circuits (in MIB's issue 19, a distance of 0.72 in place of 0.38), so there is no default.",
        "Give rank 'signed' (the most positive first) or 'absolute' (the largest first, of either sign).",
    )


def unknown_rank(rank: object) -> SelfRepairError:
    """What to say of another rank."""
    return SelfRepairError(f"There is no rank {rank!r}.", f"Give one of: {', '.join(get_args(Rank))}.")


def top_needed(count: int, what: str) -> SelfRepairError:
    """What to say of scores that nothing was chosen from."""
    return SelfRepairError(
        f"The file has scores of {count:,} {what} and does not say which are in the circuit.",
        "Give top, how many to take, and rank, 'signed' or 'absolute'.",
    )
