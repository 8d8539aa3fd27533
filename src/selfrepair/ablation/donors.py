"""Which other texts a window's heads are resampled from."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.text import Windows

_TRIES = 64  # random draws before all windows are looked through


def draw_donors(windows: Windows, donors: int, seed: int) -> np.ndarray:
    """Donors of every window: windows of other documents, at least as long, all different.

    A window's draw depends on the seed, on what the window says, and on what there is to draw from; not on the order
    or the names of windows and documents.

    Args:
        windows: the corpus.
        donors: how many each window needs.
        seed: of the draw.

    Returns:
        int64 [window, donors], indices of windows.

    Raises:
        SelfRepairError: where some window has too few.
    """
    documents, lengths, digests = windows.document_sets(), windows.lengths, _digests(windows)
    ordered = sorted(range(len(windows)), key=digests.__getitem__)
    drawn = np.empty((len(windows), donors), dtype=np.int64)

    def fits(window: int, donor: int) -> bool:
        return bool(lengths[donor] >= lengths[window]) and not documents[donor] & documents[window]

    for window in range(len(windows)):
        generator = np.random.default_rng([seed, int.from_bytes(digests[window])])
        found = _by_trying(window, donors, ordered, generator, fits)
        if len(found) < donors:
            eligible = [donor for donor in ordered if fits(window, donor)]
            if len(eligible) < donors:
                raise SelfRepairError(
                    f"Window {window} needs {donors} donor windows from other documents, at least "
                    f"{lengths[window]} tokens long; there are {len(eligible)}.",
                    "Take more tokens or text of more documents, fewer --donors, or --ablation mean.",
                )
            found = [int(donor) for donor in generator.choice(eligible, donors, replace=False)]
        drawn[window] = found
    return drawn


def _digests(windows: Windows) -> list[bytes]:
    """What every window says, as 16 bytes."""
    rows = zip(windows.tokens, windows.lengths, strict=True)
    return [blake2b(row[:length].astype("<i8").tobytes(), digest_size=16).digest() for row, length in rows]


def _by_trying(
    window: int, donors: int, ordered: list[int], generator: np.random.Generator, fits: Callable[[int, int], bool]
) -> list[int]:
    found: list[int] = []
    for place in generator.integers(len(ordered), size=_TRIES * donors):
        if len(found) == donors:
            break
        donor = ordered[place]
        if donor not in found and fits(window, donor):
            found.append(donor)
    return found
