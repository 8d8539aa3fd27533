"""Heads that cover for name movers: backups and released suppressors, and the share of the loss they make up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from selfrepair.paper.experiments.name_movers.ioi_study import ALL_MOVERS, IoiStudy
from selfrepair.paper.numbers.document_halves import FIRST, SECOND
from selfrepair.paper.numbers.over_documents import Number, tally_of

MOVER, BACKUP, RELEASED = "mover", "backup", "suppressor released"
ON_HALVES = ", chosen on one half of the templates, measured on the other"


def responses(study: IoiStudy) -> pd.DataFrame:
    """One row per head: its clean effect, its response, its change on the moved stream, and its role."""
    rows = []
    for column, head in enumerate(study.heads):
        tally = tally_of(
            study.cluster,
            {
                "clean": study.effects[:, column],
                "response": study.change[ALL_MOVERS][:, column],
                "moved": study.moved[:, column],
            },
        )
        numbers = {name: tally.mean(name) for name in ("clean", "response", "moved")}
        row: dict[str, object] = {"name": str(head), "layer": head.layer, "head": head.head}
        row["role"] = _role(head in study.movers, numbers)
        for name, number in numbers.items():
            row |= {name: number.value, f"{name}_low": number.low, f"{name}_high": number.high}
        rows.append(row)
    return pd.DataFrame(rows)


def made_up(study: IoiStudy, role: str, name: str) -> Number:
    """Share of the direct effect lost with all movers that heads of a role make up.

    Heads chosen by their response respond more on the prompts used for the choice. So they are chosen on one half of
    the templates and measured on the other, which also gives the number its interval.

    Args:
        study: the study of name movers.
        role: `BACKUP` or `RELEASED`.
        name: the number's name.

    Returns:
        The share with Fieller's interval over the second half's templates; NaN if the first half shows no head of
        the role.
    """
    change = study.change[ALL_MOVERS]
    chosen = []
    for index, head in enumerate(study.heads):
        columns = {"clean": study.effects[:, index], "response": change[:, index]}
        half = tally_of(study.cluster, columns).in_half(FIRST)
        numbers = {column: half.mean(column) for column in columns}
        chosen.append(_role(head in study.movers, numbers) == role)
    if not any(chosen):
        return Number(name + ON_HALVES, float("nan"))
    columns = {"response": change[:, np.array(chosen)].sum(1), "lost": study.parts[ALL_MOVERS]["lost"]}
    return tally_of(study.cluster, columns).in_half(SECOND).ratio("response", "lost", name=name + ON_HALVES)


def _role(mover: bool, numbers: Mapping[str, Number]) -> str:
    """A head's role when all movers are ablated."""
    if mover or not numbers["response"].low > 0:
        return MOVER if mover else ""
    return RELEASED if numbers["clean"].high < 0 else BACKUP
