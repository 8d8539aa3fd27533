"""Prompts on a model, before anything is ablated: is the right answer given, and does the twin take it away?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.engine.clean import clean_run
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.prompts.prompts import Prompts
from selfrepair.prompts.worries import worries

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating[Any]]
FEWEST_GROUPS = 8  # below, groups are too few to be a sample


@dataclass(frozen=True, eq=False)
class MeanOverPrompts:
    """A weighted mean over prompts.

    Attributes:
        value: the mean.
        error: its standard error, over groups or prompts; NaN for one prompt.
        over: what was drawn: `"groups"` or `"prompts"`.
    """

    value: float
    error: float
    over: str


@dataclass(frozen=True, eq=False)
class Check:
    """What prompts are worth on a model.

    Attributes:
        prompts: that were looked at.
        metric: what is measured on the prompts [prompt], logits; NaN without answers.
        twin_metric: on their twins [prompt]; NaN without.
        ranks: of the best right answer among all tokens [prompt], 1 for the first; 0 without answers.
        right: whether a right answer is preferred [prompt]: the metric is above 0; without wrong answers, one is
            ranked first.
        warnings: what speaks against going on, in sentences.
    """

    prompts: Prompts
    metric: Floats
    twin_metric: Floats
    ranks: NDArray[np.integer[Any]]
    right: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Weighted share of prompts whose right answer is preferred."""
        return float(np.average(self.right, weights=self.prompts.weights)) if all(self.prompts.answers) else math.nan

    def mean(self, values: Floats) -> MeanOverPrompts:
        """The weighted mean of values [prompt], with its error over groups, or over prompts where groups are few."""
        return mean(values, self.prompts)

    def table(self) -> pd.DataFrame:
        """One row per prompt: that of `Prompts.table`, with `metric, twin_metric, right, rank`."""
        columns = {"metric": self.metric, "twin_metric": self.twin_metric, "right": self.right, "rank": self.ranks}
        return self.prompts.table().assign(**columns)

    def summary(self) -> dict[str, object]:
        """The numbers over all prompts; JSON-able, None for what there is not."""
        prompts = self.prompts
        first = float(np.average(self.ranks == 1, weights=prompts.weights)) if all(prompts.answers) else math.nan
        numbers: dict[str, object] = {"prompts": len(prompts), "groups": len(set(prompts.groups))}
        numbers |= {"accuracy": _number(self.accuracy), "ranked_first": _number(first)}
        rows = {"metric": self.metric, "twin_metric": self.twin_metric, "difference": self.metric - self.twin_metric}
        for name, values in rows.items():
            average = self.mean(values)
            numbers |= {name: _number(average.value), f"{name}_standard_error": _number(average.error)}
            numbers["over"] = average.over
        return numbers | {"metric_is": metric_in_words(prompts), "dropped": len(prompts.dropped)}


def metric_in_words(prompts: Prompts) -> str:
    """What is measured."""
    if not all(prompts.answers):
        return "nothing: there are no answers"
    if any(prompts.wrong):
        return "mean logit of right answers less that of wrong ones"
    return "mean logit of right answers less the mean over the vocabulary"


def mean(values: Floats, prompts: Prompts) -> MeanOverPrompts:
    """A weighted mean with its standard error, linearised over groups where there are at least eight."""
    weights = prompts.weights
    average = float(np.average(values, weights=weights)) if len(values) else math.nan
    by_group = len(set(prompts.groups)) >= FEWEST_GROUPS
    labels = np.unique(prompts.groups, return_inverse=True)[1] if by_group else np.arange(len(values))
    sums = np.bincount(labels, weights * (values - average)) if len(values) else np.zeros(0)
    drawn = len(sums)
    error = math.sqrt(drawn / (drawn - 1) * float(sums @ sums)) / float(weights.sum()) if drawn > 1 else math.nan
    return MeanOverPrompts(average, error, "groups" if by_group else "prompts")


def check_prompts(model: LanguageModel, prompts: Prompts, batch: int = 16) -> Check:
    """Runs prompts and their twins through a model.

    Args:
        model: the model whose tokens they are.
        prompts: what to look at.
        batch: prompts at a time.

    Raises:
        SelfRepairError: the model cannot read them; some have wrong answers and some none.
    """
    size = len(prompts)
    nothing = np.full(size, np.nan)
    if not all(prompts.answers):
        checked = Check(prompts, nothing, nothing, np.zeros(size, np.int64), np.zeros(size, bool))
    else:
        metric, ranks = _measured(model, prompts, prompts.tokens, batch)
        twin = nothing if prompts.corrupt is None else _measured(model, prompts, prompts.corrupt, batch)[0]
        right = metric > 0 if any(prompts.wrong) else ranks == 1
        checked = Check(prompts, metric, twin, ranks, right)
    difference = checked.mean(checked.metric - checked.twin_metric)
    warned = worries(prompts, checked.accuracy, (difference.value, difference.error), FEWEST_GROUPS)
    return Check(prompts, checked.metric, checked.twin_metric, checked.ranks, checked.right, warned)


def _measured(model: LanguageModel, prompts: Prompts, tokens: NDArray[Any], batch: int) -> tuple[Floats, NDArray[Any]]:
    """The metric, and the rank of the best right answer, on some tokens in place of the prompts' own, [prompt]."""
    rows = list(_batches(model, prompts, tokens, batch))
    return np.concatenate([metric for metric, _ in rows]), np.concatenate([ranks for _, ranks in rows])


def _batches(
    model: LanguageModel, prompts: Prompts, tokens: NDArray[Any], batch: int
) -> Iterator[tuple[Floats, NDArray[Any]]]:
    readout = prompts.readout()
    for start in range(0, len(prompts), batch):
        chosen = range(start, min(start + batch, len(prompts)))
        longest = int(prompts.lengths[chosen.start : chosen.stop].max())
        with model.running():
            some = torch.as_tensor(tokens[chosen.start : chosen.stop, :longest], device=model.device)
            clean = clean_run(model, some, readout.reading(model.anatomy, some, chosen))
            metric = clean.logit[:, 0]
            logits = _logits(model, clean.reading.at(clean.final)[:, 0])
        if not bool(torch.isfinite(metric).all()):
            raise SelfRepairError(
                f"On {model.name} some prompts' metric is not finite.",
                "An answer may be a row of the vocabulary that the model masks; or the model overflows: take float32.",
            )
        ranks = [_rank(logits[index], prompts.answers[number]) for index, number in enumerate(chosen)]
        yield metric.double().cpu().numpy(), np.array(ranks)


def _logits(model: LanguageModel, final: Tensor) -> Tensor:
    """Logits before any cap [prompt, vocabulary], from the stream at the answers' positions."""
    readout = model.anatomy.unembedding
    normed = model.anatomy.final_norm_module(final)
    logits = readout.multiplier * torch.nn.functional.linear(normed, readout.weight, readout.bias)
    return logits if readout.masked is None else logits.masked_fill(readout.masked, -torch.inf)


def _rank(logits: Tensor, answers: tuple[int, ...]) -> int:
    """The place of the best of some answers among all tokens, from 1 on; equals count as better."""
    best = logits[list(answers)].max()
    return int((logits >= best).sum()) - int((logits[list(answers)] >= best).sum()) + 1


def json_rows(checked: Check) -> list[dict[str, object]]:
    """The table in JSON's own values, None for numbers that there are not."""
    prompts = checked.prompts
    return [
        {
            **{"id": prompts.ids[index], "group": prompts.groups[index], "text": prompts.texts[index]},
            **{"tokens": int(prompts.lengths[index]), "position": int(prompts.positions[index])},
            **{"answers": list(prompts.answers[index]), "wrong": list(prompts.wrong[index])},
            **{"metric": _number(checked.metric[index]), "twin_metric": _number(checked.twin_metric[index])},
            **{"right": bool(checked.right[index]), "rank": int(checked.ranks[index]) or None},
        }
        for index in range(len(prompts))
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
