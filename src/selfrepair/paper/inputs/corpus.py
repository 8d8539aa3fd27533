"""The corpus as an experiment sees it: batches of clean runs, donors, means, and which tokens count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.donors import draw_donors
from selfrepair.ablation.operators import operator as operator_named
from selfrepair.ablation.sites import Head
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs, require_own_forward
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.taps import removing
from selfrepair.paper.inputs.recipe import DEFAULT, Recipe, batch_mean, next_batch_source
from selfrepair.run.planning.batch_size import plan_memory, real_tokens, tokens_of
from selfrepair.text import Windows

OPERATORS = ("resample", "mean", "zero")  # that the paper compares; `Corpus.replacement` takes every registered one


@dataclass(frozen=True)
class CleanBatch:
    """Some windows, run clean.

    Attributes:
        windows: [window], their numbers.
        clean: the clean run.
        scored: bool [window, P], predictions that count.
        documents: [window, P], the document of each.
    """

    windows: np.ndarray
    clean: CleanRun
    scored: np.ndarray
    documents: np.ndarray


@dataclass
class Corpus:
    """Windows of a model, in batches: memory does not grow with the number of tokens, except for the direct effects of
    chosen heads, four bytes a token.

    Attributes:
        model: the model.
        windows: the text.
        recipe: how donors and means are taken.
        seed: random seed for donors, as in `measure`.
        roll: rows by which the original recipe rolls donors.
    """

    model: LanguageModel
    windows: Windows
    recipe: Recipe = DEFAULT
    seed: int = 0
    roll: int = 0
    _means: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _proven: set[int] = field(default_factory=set, repr=False)

    @cached_property
    def donors(self) -> np.ndarray:
        """[window], the window each one's heads are resampled from; the sweep's first donors."""
        if self.recipe.donors == "offset":
            return next_batch_source(self.windows, self.recipe, self.roll)
        return draw_donors(self.windows, 1, self.seed)[:, 0]

    @cached_property
    def size(self) -> int:
        """Windows in a batch."""
        if self.recipe.mean == "batch":
            return self.recipe.batch
        return plan_memory(self.model, self.windows.length, False, 1, runs=1).windows

    def described(self, scored: np.ndarray, which: str = "tokens") -> str:
        """Tokens, documents, text and recipe, for captions.

        Args:
            scored: bool [window, P], predictions that count.
            which: name of the tokens.
        """
        documents = len(np.unique(self.windows.documents[:, :-1][scored]))
        left = "position 0 left out" if self.recipe.first else "position 0 counted"
        return (
            f"{int(scored.sum()):,} {which} from {documents} documents · {left} · "
            f"text: {self.windows.provenance.get('source', 'memory')} · recipe: {self.recipe.name}"
        )

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.windows.names)

    def numbers(self) -> list[np.ndarray]:
        """Windows of each batch."""
        every = np.arange(len(self.windows))
        return [every[start : start + self.size] for start in range(0, len(every), self.size)]

    def batches(self) -> Iterator[CleanBatch]:
        """Clean runs of the whole corpus, each compared with the model's own forward once. Use under `model.running()`.

        Raises:
            RefusedModel: the model's own forward gives something else.
        """
        scored = self.windows.scored(self.recipe.first)
        for number, chosen in enumerate(self.numbers()):
            clean = clean_run(self.model, tokens_of(self.windows, chosen, self.model))
            if number not in self._proven:
                require_own_forward(self.model, clean, real_tokens(self.windows, chosen, self.model))
                self._proven.add(number)
            yield CleanBatch(chosen, clean, scored[chosen], self.windows.documents[chosen, :-1])

    def replacement(self, operator: str, batch: CleanBatch, layer: int) -> Tensor:
        """An operator's replacement of a layer's head outputs, [window, position, head, head_dim].

        Raises:
            SelfRepairError: an unknown operator, or one that needs means by position.
        """
        outputs = batch.clean.head_outputs[layer]
        return operator_named(operator).replacement(Port(layer, "heads"), outputs, _Source(self, batch), 0)

    def donor_outputs(self, batch: CleanBatch) -> tuple[Tensor, ...]:
        """Every layer's head outputs on the batch's donors."""
        key = hash(batch.windows.tobytes())
        if getattr(self, "_last", (None,))[0] != key:  # one batch at a time is kept
            tokens = tokens_of(self.windows, self.donors[batch.windows], self.model)
            self._last = (key, head_outputs(self.model, tokens))
        return self._last[1]

    def mean(self, layer: int) -> Tensor:
        """Mean output of a layer's heads over the corpus, at positions that count, [head, head_dim] (float64 sums)."""
        if layer not in self._means:
            self._collect_means(layer)
        return self._means[layer]

    def _collect_means(self, layer: int) -> None:
        block = self.model.anatomy.blocks[layer]
        total = torch.zeros(block.heads, block.head_dim, dtype=torch.float64, device=self.model.device)
        count = 0
        for chosen in self.numbers():
            real = np.arange(self.windows.length) < self.windows.lengths[chosen, None]
            real[:, : self.recipe.first] = False
            mask = torch.from_numpy(real).to(self.model.device)
            tokens = tokens_of(self.windows, chosen, self.model)
            shape = (*tokens.shape, -1)

            def add(value: Tensor, mask: Tensor = mask, shape: tuple[int, ...] = shape) -> None:
                nonlocal total
                total = total + block.heads_place.split(value.reshape(shape))[mask].double().sum(0)

            with removing(block.heads_place.tap(add)):
                self.model.run_trunk(tokens)
            count += int(real.sum())
        self._means[layer] = (total / max(count, 1)).to(self.model.dtype)

    def direct_effects(self, heads: Sequence[Head]) -> np.ndarray:
        """Clean direct effects of some heads on every scored token, float32 [head, token], in the corpus' order."""
        batches: list[np.ndarray] = []
        with self.model.running():
            for batch in self.batches():
                mask = torch.from_numpy(batch.scored).to(batch.clean.sigma.device)
                kept = [batch.clean.direct_effects(head.layer)[..., head.head][mask] for head in heads]
                batches.append(torch.stack(kept).cpu().numpy().astype(np.float32))
        return np.concatenate(batches, axis=-1)

    def thresholds(self, heads: Sequence[Head], fraction: float = 0.02) -> np.ndarray:
        """The direct effect from which a token is among a head's top, [head].

        By default the k-th largest value, ties included; under the original recipe numpy's percentile, to be passed
        strictly (docs/methods.md 5.4).
        """
        effects = self.direct_effects(heads)
        if self.recipe.percentile:
            return np.asarray(np.percentile(effects, 100 * (1 - fraction), axis=1), np.float64)
        kept = max(1, int(fraction * effects.shape[1]))
        return np.asarray(np.partition(effects, effects.shape[1] - kept, axis=1)[:, -kept], np.float64)


@dataclass(frozen=True)
class _Source:
    """Means and donors for operators (`selfrepair.ablation.operators.Source`), as the recipe takes them."""

    corpus: Corpus
    batch: CleanBatch

    def mean(self, port: Port) -> Tensor:
        if self.corpus.recipe.mean == "batch":
            return batch_mean(self.batch.clean.head_outputs[port.layer])
        return self.corpus.mean(port.layer)

    def position_mean(self, port: Port) -> Tensor:
        raise SelfRepairError(
            "The paper's experiments collect no means by position.", "Take an operator that does not need them."
        )

    def donor(self, port: Port, draw: int) -> Tensor:
        return self.corpus.donor_outputs(self.batch)[port.layer]
