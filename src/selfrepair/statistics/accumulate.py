"""Component lines summed per document, filter and head, and the moments over documents that their errors need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from selfrepair.effects.lines import LINE_QUANTITIES
from selfrepair.errors import SelfRepairError
from selfrepair.statistics.filters import Filter

QUANTITIES = (
    "direct_effect",
    "ablated_direct_effect",
    "total_effect",
    "self_repair",
    *LINE_QUANTITIES,
    "sigma_ratio",
)
Components = Literal["none", "layers", "heads"]
BY_ATTENTION, BY_MLP, BY_HEAD = "repair_by_attention", "repair_by_mlp", "repair_by_head"
LIMIT_BYTES = 2 * 10**9
_ALL = slice(None)


@dataclass(frozen=True)
class TokenEffects:
    """Effects of ablating some heads of one layer, token by token, over one batch of windows.

    `position` is the prediction position: position p predicts token p + 1.

    Args:
        layer: the ablated heads' layer.
        heads: [head], which heads were ablated, one at a time.
        windows: [window], global numbers of the windows in this batch.
        quantities: name (see `QUANTITIES`) to [head, window, position]; centred logits.
        by_attention: [head, window, position, layer], change in direct effect of each layer's attention
            write, the ablated head left out; centred logits.
        by_mlp: [head, window, position, layer], the same for each MLP layer.
        by_head: [head, window, position, layer, head], the same for each downstream head.
    """

    layer: int
    heads: np.ndarray
    windows: np.ndarray
    quantities: dict[str, np.ndarray]
    by_attention: np.ndarray | None = None
    by_mlp: np.ndarray | None = None
    by_head: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Heads, windows, positions of this chunk."""
        heads, windows, positions = self.quantities["direct_effect"].shape
        return heads, windows, positions


class DocumentSums:
    """Counts and sums of component lines per (document, filter, layer, head).

    Chunks may come in any order and any cut; partial data are legal and leave heads with lower counts.

    Args:
        filters: the filters, in the order of the `filter` axis.
        thresholds: [filter, layer, head], see `filters.all_thresholds`.
        scored: [window, position], tokens that count.
        documents: [window, position], which document each prediction belongs to; looked at where scored.
        shape: layers, and heads or other interventions that start in one, at most.
        components: also sum the lines of each downstream `layers` (attention and MLP) or of all `heads` too.
        near: [filter, layer, head], direct effects from a filter's threshold to which tokens count as near it, though
            left out (see `keep_limits.near_limits`); NaN for none. They show what lines are like at the threshold,
            which would be another one on other documents.
        model: layers and heads of the model, whose lines are summed; `shape` where not given.
        every: numbers of the documents of the document axis, in their order; those with scored tokens if not given.

    Attributes:
        counts: int64 [document, filter, layer, head].
        scored_counts: int64 [document, layer, head], all scored tokens.
        edges: sums that need no documents, float64 [filter, layer, head, ...]: `inside_score`, scores
            (`Filter.score`) of the filter's tokens; `near_count`, `near_score` and by line `<name>/near`, of the tokens
            near it.
        component_sums: name to float32 [document, filter, layer, head, by_layer(, by_head)]; each chunk is
            summed in float64 and rounded once.
        document_ids: [document], the numbers in `documents` that the document axis stands for.

    Raises:
        SelfRepairError: no scored token, or sums that would not fit in 2 GB.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        thresholds: np.ndarray,
        scored: np.ndarray,
        documents: np.ndarray,
        shape: tuple[int, int],
        components: Components = "none",
        near: np.ndarray | None = None,
        model: tuple[int, int] | None = None,
        every: np.ndarray | None = None,
    ) -> None:
        model = model or shape
        if not scored.any():
            raise SelfRepairError("There are no scored tokens.", "Give more text, or longer windows.")
        if thresholds.shape != (len(filters), *shape):
            raise ValueError(f"thresholds {thresholds.shape} do not match (filter, layer, head) {len(filters), *shape}")
        self.filters, self.thresholds, self.shape = tuple(filters), thresholds, shape
        self._layers = model[0]
        self.components: Components = components
        self.scored: npt.NDArray[np.bool_] = scored.astype(bool)
        self.document_ids = np.unique(documents[self.scored]) if every is None else every
        self._places = np.full(scored.shape, -1, np.int64)
        self._places[self.scored] = np.searchsorted(self.document_ids, documents[self.scored])
        check_size(len(self.document_ids), len(filters), shape, components, model)
        cells = (len(self.document_ids), len(filters), *shape)
        self.counts = np.zeros(cells, np.int64)
        lines = component_axes(model, components)
        self.component_sums = {name: np.zeros(cells + axes, np.float32) for name, axes in lines.items()}
        self.scored_counts = np.zeros((cells[0], *shape), np.int64)
        self.near = np.full(thresholds.shape, np.nan) if near is None else near
        self.edges = {name: np.zeros(cells[1:]) for name in ("inside_score", "near_count", "near_score")}
        self.edges |= {f"{name}/near": np.zeros(cells[1:] + axes) for name, axes in lines.items()}
        self._seen = np.zeros((*shape, scored.shape[0]), bool)

    def add(self, effects: TokenEffects) -> None:
        """Add one chunk.

        Raises:
            ValueError: a (head, window) that has been added before, or component lines that are missing.
        """
        self._mark(effects)
        self._add_scored(effects)
        self._add_edges(effects)
        documents, rows, selection = self._selection(effects)
        heads, filters = len(effects.heads), len(self.filters)
        target = np.ix_(documents, np.arange(filters), np.array([effects.layer]), effects.heads)
        block = (len(documents), filters, 1, heads)
        self.counts[target] += np.bincount(rows, minlength=selection.shape[0]).reshape(block)
        for name, components in self.component_sums.items():
            lines = _lines(effects, name)
            for by_layer in range(self._layers):
                values = lines[:, :, :, by_layer].reshape(selection.shape[1], -1).astype(np.float64)
                view = components[:, :, :, :, by_layer]
                view[target] += (selection @ values).reshape(block + view.shape[4:])

    def moments(self) -> dict[str, np.ndarray]:
        """Moments of all documents, see `line_moments`, and `edges`, named `lines/...`."""
        return {f"lines/{name}": value for name, value in (line_moments(self.arrays()) | self.edges).items()}

    def arrays(self, documents: np.ndarray | slice = _ALL) -> dict[str, np.ndarray]:
        """Counts and sums of some documents: `count` and the names of the lines to [document, filter, ...], and
        `scored` [document, layer, head].

        Args:
            documents: places on the document axis.
        """
        counts = {"count": self.counts[documents], "scored": self.scored_counts[documents]}
        return counts | {name: v[documents] for name, v in self.component_sums.items()}

    def _add_scored(self, effects: TokenEffects) -> None:
        places = self._places[effects.windows]
        documents, tokens = np.unique(places[places >= 0], return_counts=True)
        self.scored_counts[np.ix_(documents, np.array([effects.layer]), effects.heads)] += tokens[:, None, None]

    def _add_edges(self, effects: TokenEffects) -> None:
        """Sums over the tokens near each filter's threshold, beyond it."""
        scored, here = self.scored[effects.windows], (slice(None), effects.layer, effects.heads)
        effect = effects.quantities["direct_effect"].astype(np.float32)
        for number, (filter_, limit, near) in enumerate(
            zip(self.filters, self.thresholds[here], self.near[here], strict=True)
        ):
            inside = filter_.mask(effect, limit, scored)
            outside, score = filter_.mask(effect, near, scored), filter_.score(effect)
            head, *token = np.nonzero(outside & ~inside)
            heads, where = effects.heads[head], (head, *token)
            np.add.at(self.edges["near_count"][number, effects.layer], heads, 1)
            np.add.at(self.edges["near_score"][number, effects.layer], heads, score[where])
            inside_score = np.where(inside, score, 0).sum((1, 2), dtype=np.float64)
            self.edges["inside_score"][number, effects.layer, effects.heads] += inside_score
            for name in self.component_sums:
                np.add.at(self.edges[f"{name}/near"][number, effects.layer], heads, _lines(effects, name)[where])

    def _mark(self, effects: TokenEffects) -> None:
        if len(np.unique(effects.heads)) < len(effects.heads) or len(np.unique(effects.windows)) < len(effects.windows):
            raise ValueError("a chunk names a head or a window twice")
        cells = np.ix_(np.array([effects.layer]), effects.heads, effects.windows)
        if self._seen[cells].any():
            raise ValueError(f"layer {effects.layer}: some of these heads and windows have been added before")
        for name in self.component_sums:
            _lines(effects, name)
        self._seen[cells] = True

    def _selection(self, effects: TokenEffects) -> tuple[np.ndarray, np.ndarray, csr_matrix]:
        """Documents present, and the matrix that sums tokens into (document, filter, head) rows.

        Sparse, not one-hot: what is left out is never multiplied, so a NaN on padding does no harm.
        """
        heads, windows, positions = effects.shape
        scored = self.scored[effects.windows]
        effect = effects.quantities["direct_effect"].astype(np.float32)  # as the survey's, which limits are from
        limits = self.thresholds[:, effects.layer, effects.heads]
        masks = np.stack(
            [filter_.mask(effect, limit, scored) for filter_, limit in zip(self.filters, limits, strict=True)]
        )
        chosen, head, window, position = np.nonzero(masks)
        documents, row = np.unique(self._places[effects.windows[window], position], return_inverse=True)
        rows = (row * len(self.filters) + chosen) * heads + head
        columns = (head * windows + window) * positions + position
        shape = (len(documents) * len(self.filters) * heads, heads * windows * positions)
        return documents, rows, csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def line_moments(documents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What means over tokens and their document-level errors need, summed over documents; adds up over sets of them.
    `component_lines` explains what each is for.

    **Each document must be whole**: moments of the parts of a document do not add up to those of the document.

    Args:
        documents: `count` [document, filter, layer, head], `scored` [document, layer, head], and by name the sums of
            each component line [document, filter, layer, head, by_layer(, by_head)], see `DocumentSums.arrays`.

    Returns:
        `count`, `count_squared`, `documents`, `scored`, `scored_squared`, `count_scored` [filter, layer, head], and for
        every component line `<name>/sum`, `<name>/squared`, `<name>/product` (with the count) and `<name>/scored`
        (with the scored tokens) [filter, layer, head, by_layer(, by_head)].
    """
    counts = documents["count"].astype(np.float64)
    scored = np.broadcast_to(documents["scored"].astype(np.float64)[:, None], counts.shape)
    moments = {"count": counts.sum(0), "count_squared": (counts**2).sum(0), "documents": (counts > 0).sum(0)}
    moments |= {"scored": scored.sum(0), "scored_squared": (scored**2).sum(0), "count_scored": (counts * scored).sum(0)}
    for name in documents.keys() - {"count", "scored"}:
        sums = documents[name]
        axes = (..., *(np.newaxis,) * (sums.ndim - counts.ndim))
        moments[f"{name}/sum"] = sums.sum(0, dtype=np.float64)
        moments[f"{name}/squared"] = np.square(sums, dtype=np.float64).sum(0)
        moments[f"{name}/product"] = (sums * counts[axes]).sum(0)
        moments[f"{name}/scored"] = (sums * scored[axes]).sum(0)
    return moments


def component_axes(shape: tuple[int, int], components: Components) -> dict[str, tuple[int, ...]]:
    """Names and axes of the component lines that are summed for a model of `shape` (layers, heads)."""
    layers, heads = shape
    axes: dict[str, tuple[int, ...]] = {}
    if components != "none":
        axes = {BY_ATTENTION: (layers,), BY_MLP: (layers,)}
    if components == "heads":
        axes[BY_HEAD] = (layers, heads)
    return axes


def check_size(
    documents: int, filters: int, shape: tuple[int, int], components: Components, model: tuple[int, int] | None = None
) -> int:
    """Bytes the sums will take.

    Raises:
        SelfRepairError: more than 2 GB, with the way out.
    """
    cells, heads = documents * filters * int(np.prod(shape)), int(np.prod(shape))
    plain = 8 * (cells + documents * heads + 3 * filters * heads)
    total = {
        kind: plain
        + (4 * cells + 8 * filters * heads)
        * sum(int(np.prod(axes)) for axes in component_axes(model or shape, kind).values())
        for kind in ("none", "layers", "heads")
    }
    if total[components] <= LIMIT_BYTES:
        return total[components]
    fits = [kind for kind in ("layers", "none") if total[kind] <= LIMIT_BYTES]
    fix = f"Use --components {fits[0]}, or fewer tokens." if fits else "Use fewer tokens, or fewer filters."
    if components == "heads" and fits == ["layers", "none"]:
        fix = "Use --components layers or --components none, or fewer tokens."
    raise SelfRepairError(
        f"The sums over {documents} documents, {filters} filters and {shape[0]} x {shape[1]} heads with "
        f"components {components!r} would take {total[components] / 1e9:.1f} GB; the limit is 2 GB.",
        fix,
    )


def _lines(effects: TokenEffects, name: str) -> np.ndarray:
    lines = {BY_ATTENTION: effects.by_attention, BY_MLP: effects.by_mlp, BY_HEAD: effects.by_head}[name]
    if lines is None:
        raise ValueError(f"{name} is to be summed, but this chunk does not bring it")
    return lines
