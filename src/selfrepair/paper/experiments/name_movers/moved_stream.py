"""Whether the heads that cover for name movers also wake when the stream is moved, with intervals over templates."""

from __future__ import annotations

import numpy as np

from selfrepair.paper.numbers.over_documents import Array, Number, Sums, bootstrapped, quotient, tally_of


def moved_stream_numbers(
    cluster: np.ndarray, response: np.ndarray, moved: np.ndarray, above: np.ndarray, backup: np.ndarray
) -> list[Number]:
    """How heads respond when the stream of one layer is put in front of the next (section 5.3).

    Args:
        cluster: [prompt], the template, which counts as a document.
        response: change of direct effects when all movers are ablated, [prompt, head], logits.
        moved: change of direct effects when the stream is moved, [prompt, head], logits.
        above: bool [head], heads of the layers above the source that are not movers.
        backup: bool [head], backups.
    """
    numbers = []
    if (above & backup).any():
        name = "change of backups' direct effect when the stream is moved, all above together"
        numbers.append(tally_of(cluster, {"x": moved[:, above & backup].sum(1)}).mean("x", "logit", name))
    if above.sum() > 2:
        name = "correlation of waking by moving and by ablating, heads above"
        places = np.unique(cluster, return_inverse=True)[1]
        counts = np.bincount(places)
        sums = {"a": _by_cluster(response[:, above], places), "b": _by_cluster(moved[:, above], places)}
        numbers.append(bootstrapped(name, _correlation, sums, counts, scale="correlation"))
    return numbers


def raised_share(cluster: np.ndarray, moved: np.ndarray) -> Number:
    """Share of heads whose mean direct effect rises when the stream of the layer below them is moved into theirs.

    Args:
        cluster: [prompt], the template, which counts as a document.
        moved: change of direct effects of one layer's heads, [prompt, head], logits.

    Returns:
        The share; its interval comes from the signs of the means in every replicate of the templates.
    """
    name = "share of heads one layer above that wake up when the stream is moved"
    if not moved.shape[1]:
        return Number(name, float("nan"))
    places = np.unique(cluster, return_inverse=True)[1]
    sums = {"moved": _by_cluster(moved, places)}
    return bootstrapped(
        name, lambda drawn: np.asarray((drawn["moved"] > 0).mean(-1)), sums, np.bincount(places), scale="share"
    )


def _by_cluster(values: np.ndarray, places: np.ndarray) -> Array:
    sums = np.zeros((int(places.max()) + 1, values.shape[1]))
    np.add.at(sums, places, values)
    return sums


def _correlation(sums: Sums) -> Array:
    """Pearson's over heads, [...] from [..., head]: a common factor, the number of prompts, does not matter."""
    a, b = (sums_of_heads - sums_of_heads.mean(-1, keepdims=True) for sums_of_heads in (sums["a"], sums["b"]))
    return quotient((a * b).sum(-1), np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))
