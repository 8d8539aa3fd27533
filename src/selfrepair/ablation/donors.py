"""Which other texts a window's heads are resampled from."""

from __future__ import annotations

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.text import Windows

_TRIES = 64  # random draws before all windows are looked through


def draw_donors(windows: Windows, donors: int, seed: int) -> np.ndarray:
    """Donors of every window: windows of other documents, at least as long, all different.

    Each window's draw depends on the seed and its own index alone.

    Args:
        windows: the corpus.
        donors: how many each window needs.
        seed: of the draw.

    Returns:
        int64 [window, donors], indices of windows.

    Raises:
        SelfRepairError: where some window has too few.
    """
    documents, lengths = windows.document_sets(), windows.lengths
    drawn = np.empty((len(windows), donors), dtype=np.int64)

    def fits(window: int, donor: int) -> bool:
        return bool(lengths[donor] >= lengths[window]) and not documents[donor] & documents[window]

    for window in range(len(windows)):
        generator = np.random.default_rng([seed, window])
        found = _by_trying(window, donors, len(windows), generator, fits)
        if len(found) < donors:
            eligible = [donor for donor in range(len(windows)) if fits(window, donor)]
            if len(eligible) < donors:
                raise SelfRepairError(
                    f"Window {window} needs {donors} donor windows from other documents, at least "
                    f"{lengths[window]} tokens long; there are {len(eligible)}.",
                    "Take more tokens or text of more documents, fewer --donors, or --ablation mean.",
                )
            found = [int(donor) for donor in generator.choice(eligible, donors, replace=False)]
        drawn[window] = found
    return drawn


def _by_trying(window: int, donors: int, windows: int, generator: np.random.Generator, fits) -> list[int]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    found: list[int] = []
    for donor in generator.integers(windows, size=_TRIES * donors):
        if len(found) == donors:
            break
        if int(donor) not in found and fits(window, int(donor)):
            found.append(int(donor))
    return found
