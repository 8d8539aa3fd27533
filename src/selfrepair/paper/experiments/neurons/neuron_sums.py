"""Sums, curves over ranks and a sample of tokens, kept instead of whole neuron arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from selfrepair.paper.experiments.neurons.stability import carried, overlap_numbers, ranks_below_zero
from selfrepair.paper.inputs.token_sample import TokenSample
from selfrepair.paper.numbers.over_documents import Array, Number, Tally

RANKS = 50  # of the paper's Figure 8
TOP = 10  # neurons per token, of section 4.2.2
SORTED_TOKENS = 256  # of the sample whose clean direct effects by rank are kept, for medians
SHOWN_TOKENS = 5000  # of the sample that scatter plots show and whose top neurons are kept
CARRIED = 0.85  # neurons beyond those that carry this share of all change are called negligible (Appendix C)


@dataclass
class NeuronSums:
    """Effects of one head's ablation on the neurons of one MLP, over the tokens of one filter.

    With `d_n = DE'_n - DE_n` of neuron n.

    Attributes:
        neurons: number of neurons.
        shares: the thresholds q of Figure 8.
        documents: number of documents in the corpus.
        seed: random seed for the bootstrap and the samples.
        tally: sums per document of numbers of tokens.
        exceed: [share, rank], tokens with `d_(r) > q DE_head`, `d_(1) >= d_(2) >= ...`.
        cumulative: [neuron], sum over tokens of the share of `sum |d|` up to each rank, in that order.
        ranked: clean direct effects by rank, of a uniform sample of at most `SORTED_TOKENS` tokens.
        shown: top neurons and their direct effects, of a uniform sample of at most `SHOWN_TOKENS` tokens.
    """

    neurons: int
    shares: tuple[float, ...]
    documents: int
    seed: int = 0
    tally: Tally = field(init=False)
    exceed: Array = field(init=False)
    cumulative: Array = field(init=False)
    ranked: TokenSample = field(init=False)
    shown: TokenSample = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.documents, self.seed)
        self.exceed = np.zeros((len(self.shares), min(RANKS, self.neurons)))
        self.cumulative = np.zeros(self.neurons)
        self.ranked, self.shown = TokenSample(SORTED_TOKENS, self.seed), TokenSample(SHOWN_TOKENS, self.seed)

    def add(
        self,
        clean: np.ndarray,
        change: np.ndarray,
        head_effect: np.ndarray,
        layer_effect: np.ndarray,
        where: dict[str, np.ndarray],
    ) -> None:
        """Adds tokens: all of a window that pass the filter, or none.

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
        top = order[:, :TOP]
        for row, share in enumerate(self.shares):
            self.exceed[row] += (ranked[:, :RANKS] > share * head_effect[:, None]).sum(0)
        self.cumulative += (np.cumsum(absolute, axis=1) / safe).sum(0)
        effects = np.take_along_axis(clean, order, 1)
        shown = {
            "neuron": order[:, 0],
            "clean": effects[:, 0],
            "ablated": effects[:, 0] + ranked[:, 0],
            "layer_effect": layer_effect,
            "head_effect": head_effect,
        }
        self.tally.add(
            where["document"],
            self._columns(ranked, -np.sort(-absolute, axis=1) / safe, shown)
            | within_prompts(top, where["window"], self.neurons),
        )
        self.shown.add(where | shown | {"top": top})
        self.ranked.add(where | {"clean": effects.astype(np.float32)})

    def _columns(self, ranked: np.ndarray, by_size: np.ndarray, shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        absolute = np.abs(ranked)
        whole, squares = absolute.sum(1), (absolute**2).sum(1)
        needed = np.where(whole == 0, 0, (np.cumsum(by_size, 1) < CARRIED).sum(1) + 1)
        effects, after, head_effect = shown["clean"], shown["ablated"], shown["head_effect"]
        columns = {
            "repair": ranked.sum(1),
            "absolute": whole,
            "changed": (whole > 0).astype(float),
            "positive": np.maximum(ranked, 0).sum(1),
            "top ten": ranked[:, :TOP].sum(1),
            "effective": whole**2 / np.where(squares == 0, 1, squares),
            "negligible": 1 - needed / self.neurons,
            "erasing": (effects < 0).astype(float),
            "erasing less": ((effects < 0) & (after > effects) & (after < 0)).astype(float),
            "layer positive": (shown["layer_effect"] > 0).astype(float),
            "head": head_effect,
        } | carried(absolute)
        for share in self.shares:
            columns[f"top above {share:g}"] = (ranked[:, 0] > share * head_effect).astype(float)
        return columns

    # ------------------------------------------------------------------------------------------ results

    @property
    def points(self) -> pd.DataFrame:
        """The sample's tokens, in order: where each stands, its top neuron, that neuron's clean and ablated direct
        effects, the MLP's and the head's clean ones."""
        return pd.DataFrame({name: values for name, values in self.shown.columns().items() if name != "top"})

    def exceeding(self) -> Array:
        """Share of tokens on which the r-th neuron repairs more than q of the head's direct effect, [share, rank]."""
        return self.exceed / max(self.tally.tokens, 1)

    def curve(self) -> Array:
        """Share of `sum |d|` up to each rank, ranks by signed change, mean over tokens on which some neuron changes,
        [neuron] (Figures 12 to 15)."""
        return self.cumulative / max(self.tally.total("changed"), 1)

    def medians(self) -> Array:
        """Median clean direct effect of the neuron at each rank, over the sample, [neuron]."""
        if not len(self.ranked):
            return np.full(self.neurons, np.nan)
        return np.asarray(np.median(self.ranked.columns()["clean"].astype(np.float64), axis=0))

    def numbers(self, name: str) -> list[Number]:
        """Numbers of this head and MLP, under a name."""
        tally = self.tally
        numbers = [
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
            numbers.append(
                tally.share(f"top above {share:g}", f"{name}: top neuron repairs more than {share:.1%} of DE")
            )
        return numbers + self._steadiness(name)

    def _steadiness(self, name: str) -> list[Number]:
        """Whether the same neurons repair across prompts, and within them."""
        own = f"{name}: a prompt's most frequent neuron in a token's top ten, share of tokens"
        numbers = [
            self.tally.share("prompt's favourite", own, "in company"),
            self.tally.share("others' favourite", f"{own}, chosen by the prompt's other tokens", "in company"),
        ]
        if len(self.shown) < 2:
            return numbers
        sample = self.shown.columns()
        return overlap_numbers(name, sample["top"], sample["document"], self.neurons) + numbers

    def top_ranks(self, name: str) -> Number:
        """Share of the first ranks at which the median clean direct effect is negative (Appendix C)."""
        if not len(self.ranked):
            return Number(name, float("nan"))
        sample = self.ranked.columns()
        return ranks_below_zero(name, sample["clean"][:, :TOP].astype(np.float64), sample["document"])


def within_prompts(top: np.ndarray, window: np.ndarray, neurons: int) -> dict[str, np.ndarray]:
    """Whether tokens' top neurons are those of their prompt; a prompt is a window with two or more of the tokens.

    Args:
        top: neurons that repair most, [token, TOP].
        window: [token].
        neurons: number of neurons.

    Returns:
        Columns [token]: `in company`, 1 if the token's prompt has others; `prompt's favourite`, 1 where the top
        neurons hold the one that is most frequent in the prompt, so that its mean over a prompt is
        `max_n count_n / tokens`; `others' favourite`, the same with the token itself not counted, which chance does
        not raise (a share where several are equally frequent).
    """
    columns = {name: np.zeros(len(top)) for name in ("in company", "prompt's favourite", "others' favourite")}
    for prompt in np.unique(window):
        tokens = np.flatnonzero(window == prompt)
        if len(tokens) < 2:
            continue
        counts = np.bincount(top[tokens].ravel(), minlength=neurons)
        favourite = counts.argmax()
        for token in tokens:
            others = counts.copy()
            others[top[token]] -= 1
            tied = others == others.max()
            columns["in company"][token] = 1
            columns["prompt's favourite"][token] = float(favourite in top[token])
            columns["others' favourite"][token] = tied[top[token]].sum() / tied.sum()
    return columns
