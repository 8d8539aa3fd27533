"""How heads that cover do so: by attending elsewhere, or because what they attend to says something else."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.sites import Head, Site
from selfrepair.errors import SelfRepairError
from selfrepair.questions.covering.motifs import refine_labels
from selfrepair.questions.paths.attention_split import AttentionSplit, attention_split
from selfrepair.questions.question import Question

_MOST = 2  # places whose attention is named
_LEAST = 0.05  # change of attention that is worth naming


def split_of(question: Question, base: Intervention, tested: Sequence[Site]) -> tuple[AttentionSplit | None, str]:
    """The tested heads' lines split by attention; where that cannot be had, None and the reason."""
    heads = [site for site in tested if isinstance(site, Head)]
    settings = question.settings
    if not heads:
        return None, ""
    try:
        split = attention_split(
            *(question.model, question.prompts, base, heads, settings.ablation),
            donors=settings.donors,
            seed=settings.seed,
            sides=False,
        )
    except SelfRepairError as problem:
        return None, f"Attention was not split: {problem.problem}"
    return split, ""


def with_mechanism(table: pd.DataFrame, split: AttentionSplit | None) -> pd.DataFrame:
    """The table with `qk_share`, its ends and `attends` for the heads that were split, and labels that know them."""
    table = table.assign(qk_share=float("nan"), qk_share_low=float("nan"), qk_share_high=float("nan"), attends="")
    if split is None:
        return table
    rows = {str(head): place for place, head in enumerate(split.heads)}
    here = [place for place, name in enumerate(table["component"]) if name in rows]
    order = [rows[table["component"][place]] for place in here]
    share = split.qk_share
    for column, values in (("qk_share", share.value), ("qk_share_low", share.low), ("qk_share_high", share.high)):
        table.loc[here, column] = values[order]
    labels = dict(zip((str(head) for head in split.heads), _labels(table, split), strict=True))
    table.loc[here, "label"] = [labels[table["component"][place]] for place in here]
    table.loc[here, "attends"] = [attends(split, split.heads[place]) for place in order]
    return table


def attends(split: AttentionSplit, head: Head) -> str:
    """Where a head's attention changed most: `IO .55→.12, S2 .28→.64`; empty where it hardly did."""
    shifts = split.shifts(head)
    change = (shifts["after"] - shifts["before"]).abs()
    largest = shifts.assign(change=change).nlargest(_MOST, "change")
    named = largest[largest["change"] >= _LEAST]
    return ", ".join(f"{row.place} {_short(row.before)}→{_short(row.after)}" for row in named.itertuples())


def _labels(table: pd.DataFrame, split: AttentionSplit) -> list[str]:
    by_name = dict(zip(table["component"], table["label"], strict=True))
    return refine_labels([by_name[str(head)] for head in split.heads], split.qk_share)


def _short(weight: float) -> str:
    """An attention weight to two digits: `.55`."""
    return f"{weight:.2f}".removeprefix("0")
