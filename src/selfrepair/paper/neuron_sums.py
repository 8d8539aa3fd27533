"""What is kept of neuron arrays: sums, curves over ranks and a few tokens; never the arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from selfrepair.paper.numbers import Array, Number, Tally
from selfrepair.paper.steadiness import carried, overlap_numbers, ranks_below_zero

RANKS = 50  # of the paper's Figure 8
TOP = 10  # neurons per token, of section 4.2.2
SORTED_TOKENS = 256  # tokens whose clean direct effects by rank are kept, for medians
SHOWN_TOKENS = 5000  # tokens that scatter plots show and whose top neurons are kept
CARRIED = 0.85  # neurons beyond those that carry this share of all change are called negligible (Appendix C)


@dataclass
class NeuronSums:
    """One head's ablation seen by the neurons of one MLP, over the tokens of one filter.

    With `d_n = DE'_n - DE_n` of neuron n.

    Attributes:
        neurons: how many there are.
        shares: thresholds q of Figure 8.
        documents: of the corpus.
        seed: of the bootstrap.
        tally: sums per document of numbers of tokens.
        exceed: [share, rank], tokens with `d_(r) > q DE_head`, `d_(1) >= d_(2) >= ...`.
        cumulative: [neuron], sum over tokens of the share of `sum |d|` up to each rank, in that order.
        largest: [neuron], sum over tokens of `|d|` sorted by size, over `sum |d|`.
        ranked: clean direct effects by rank of the first tokens, [neuron] each, at most `SORTED_TOKENS`.
        points: rows of tokens: top neuron, its clean and ablated direct effects, and the layer's.
        members: [TOP], the neurons that repair most, of the same tokens.
    """

    neurons: int
    shares: tuple[float, ...]
    documents: int
    seed: int = 0
    tally: Tally = field(init=False)
    exceed: Array = field(init=False)
    cumulative: Array = field(init=False)
    largest: Array = field(init=False)
    ranked: list[np.ndarray] = field(default_factory=list)
    points: list[dict[str, float]] = field(default_factory=list)
    members: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tally = Tally(self.documents, self.seed)
        self.exceed = np.zeros((len(self.shares), min(RANKS, self.neurons)))
        self.cumulative, self.largest = np.zeros(self.neurons), np.zeros(self.neurons)

    def add(
        self,
        clean: np.ndarray,
        change: np.ndarray,
        head_effect: np.ndarray,
        layer_effect: np.ndarray,
        where: dict[str, np.ndarray],
    ) -> None:
        """Adds tokens.

        Args:
            clean: neurons' clean direct effects [token, neuron].
            change: their changes `d` [token, neuron].
            head_effect: the ablated head's clean direct effect [token].
            layer_effect: the MLP's own clean direct effect, bias included [token].
            where: `window`, `position`, `document` of each token.
        """
        if not len(clean):
            return
        order = np.argsort(-change, axis=1, kind="stable")
        ranked = np.take_along_axis(change, order, 1)
        absolute = np.abs(ranked)
        whole = absolute.sum(1, keepdims=True)
        safe = np.where(whole == 0, 1.0, whole)
        curve = np.cumsum(absolute, axis=1) / safe
        by_size = -np.sort(-absolute, axis=1) / safe
        for place, share in enumerate(self.shares):
            self.exceed[place] += (ranked[:, :RANKS] > share * head_effect[:, None]).sum(0)
        self.cumulative += curve.sum(0)
        self.largest += by_size.sum(0)
        effects = np.take_along_axis(clean, order[:, :1], 1)[:, 0]
        after = effects + ranked[:, 0]
        self.tally.add(
            where["document"], self._columns(ranked, absolute, by_size, effects, after, head_effect, layer_effect)
        )
        self._keep(clean, order, effects, after, layer_effect, head_effect, where)

    def _columns(
        self,
        ranked: np.ndarray,
        absolute: np.ndarray,
        by_size: np.ndarray,
        effects: np.ndarray,
        after: np.ndarray,
        head_effect: np.ndarray,
        layer_effect: np.ndarray,
    ) -> dict[str, np.ndarray]:
        whole, squares = absolute.sum(1), (absolute**2).sum(1)
        needed = (np.cumsum(by_size, 1) < CARRIED).sum(1) + 1
        columns = {
            "repair": ranked.sum(1),
            "absolute": whole,
            "positive": np.maximum(ranked, 0).sum(1),
            "top ten": ranked[:, :TOP].sum(1),
            "effective": whole**2 / np.where(squares == 0, 1, squares),
            "negligible": 1 - needed / self.neurons,
            "erasing": (effects < 0).astype(float),
            "erasing less": ((effects < 0) & (after > effects) & (after < 0)).astype(float),
            "layer positive": (layer_effect > 0).astype(float),
            "head": head_effect,
        } | carried(absolute)
        for share in self.shares:
            columns[f"top above {share:g}"] = (ranked[:, 0] > share * head_effect).astype(float)
        return columns

    def _keep(
        self,
        clean: np.ndarray,
        order: np.ndarray,
        effects: np.ndarray,
        after: np.ndarray,
        layer_effect: np.ndarray,
        head_effect: np.ndarray,
        where: dict[str, np.ndarray],
    ) -> None:
        for token in range(len(clean)):
            if len(self.ranked) < SORTED_TOKENS:
                self.ranked.append(clean[token, order[token]].astype(np.float32))
            if len(self.points) >= SHOWN_TOKENS:
                continue
            row = {name: int(values[token]) for name, values in where.items()}
            self.points.append(
                row
                | {
                    "neuron": int(order[token, 0]),
                    "clean": float(effects[token]),
                    "ablated": float(after[token]),
                    "layer_effect": float(layer_effect[token]),
                    "head_effect": float(head_effect[token]),
                }
            )
            self.members.append(order[token, :TOP].copy())

    # ------------------------------------------------------------------------------------------ what they say

    def exceeding(self) -> Array:
        """Share of tokens on which the r-th neuron repairs more than q of the head's direct effect, [share, rank]."""
        return self.exceed / max(self.tally.tokens, 1)

    def curve(self) -> Array:
        """Mean share of `sum |d|` up to each rank, ranks by signed change, [neuron] (Figures 12 to 15)."""
        return self.cumulative / max(self.tally.tokens, 1)

    def medians(self) -> Array:
        """Median clean direct effect of the neuron at each rank, [neuron]."""
        if not self.ranked:
            return np.full(self.neurons, np.nan)
        return np.asarray(np.median(np.stack(self.ranked).astype(np.float64), axis=0))

    def numbers(self, name: str) -> list[Number]:
        """Numbers of this head and MLP, under a name."""
        tally = self.tally
        found = [
            tally.share("erasing", f"{name}: top repairing neuron erases (clean DE < 0)"),
            tally.share("erasing less", f"{name}: it erases less when ablated (DE < DE' < 0)"),
            tally.share("layer positive", f"{name}: the MLP's own DE is positive"),
            tally.share("negligible", f"{name}: share of neurons with negligible change"),
            tally.mean("effective", name=f"{name}: effective number of neurons"),
            tally.number(f"{name}: cancellation, |sum d| / sum |d|", lambda s: np.abs(s["repair"]) / s["absolute"]),
            tally.ratio("repair", "head", name=f"{name}: MLP's repair / direct effect"),
            tally.ratio("top ten", "positive", name=f"{name}: top ten neurons' share of all positive change"),
        ]
        for share in self.shares:
            found.append(tally.share(f"top above {share:g}", f"{name}: top neuron repairs more than {share:.1%} of DE"))
        if len(self.members) < 2:
            return found
        document = np.array([row["document"] for row in self.points])
        return found + overlap_numbers(name, np.stack(self.members), document, self.neurons)

    def top_ranks(self, name: str) -> Number:
        """Share of the first ranks at which the median clean direct effect is negative (Appendix C)."""
        if not self.ranked:
            return Number(name, float("nan"))
        document = np.array([row["document"] for row in self.points[: len(self.ranked)]])
        return ranks_below_zero(name, np.stack([one[:TOP] for one in self.ranked]), document)
