"""Parts of captions, which name model, operator, filter, tokens and documents of every figure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from selfrepair.paper.numbers.over_documents import Number, Tally
from selfrepair.report.captions import amount, chosen_tokens, fact, operator_with_donors, positions_left_out, span
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter

FIXED = "95% intervals over documents, the filter's threshold held fixed"


def about_run(run: Run, label: str) -> str:
    """A run under a filter, for captions."""
    parts = (
        fact(run, "model"),
        operator_with_donors(run),
        chosen_tokens(label),
        amount(run, label),
        positions_left_out(run),
    )
    return " · ".join((*parts, f"text: {fact(run, 'text')}")) + "."


def sampled(run: Run) -> str:
    """The run's uniform sample of tokens, for captions."""
    rows = run.tokens_frame()
    rows = rows[rows["in_sample"]]
    heads = rows.groupby(["layer", "head"]).size()
    total = int(run.heads.attrs.get("tokens", 0))
    count = int(heads.max()) if len(heads) else 0
    which = "all tokens" if count >= total else f"a uniform sample of {count:,} of {total:,} tokens"
    tokens = f"{which}, unfiltered, from {rows['document'].nunique():,} documents"
    parts = (
        fact(run, "model"),
        operator_with_donors(run),
        tokens,
        positions_left_out(run),
        f"text: {fact(run, 'text')}",
    )
    return " · ".join(parts) + "."


def passing(label: str, tallies: Iterable[Tally], corpus: str) -> str:
    """The number of tokens that pass a filter and the tokens chosen from, for captions.

    Args:
        label: the filter.
        tallies: sums over the tokens that pass it, one tally per head.
        corpus: the tokens it chose from, their documents and text.
    """
    counts = [(tally.tokens, tally.filled) for tally in tallies]
    tokens, documents = (span(np.array(numbers)) for numbers in zip(*counts, strict=True))
    return f"{label}: {tokens} tokens{' per head' if len(counts) > 1 else ''} from {documents} documents, of {corpus}"


def rows_of(run: Run, label: str) -> pd.DataFrame:
    """Kept (head, token) rows that pass a filter; for `all` the uniform sample.

    Args:
        run: the run.
        label: one of its filters.
    """
    rows, chosen_filter = run.tokens_frame(), Filter.parse(label)
    if not chosen_filter.chooses:  # the sample stands for all tokens, also of a run without that filter
        return rows[rows["in_sample"]].reset_index(drop=True)
    limits = run.heads["threshold"].sel(filter=label).values[rows["layer"], rows["head"]]
    return rows[chosen_filter.passes(rows["direct_effect"].to_numpy(np.float64), limits)].reset_index(drop=True)


def numbers_table(numbers: tuple[Number, ...]) -> pd.DataFrame:
    """Numbers as a frame."""
    return pd.DataFrame(
        {
            "number": [number.name for number in numbers],
            "value": [number.value for number in numbers],
            "low": [number.low for number in numbers],
            "high": [number.high for number in numbers],
            "documents": [number.documents for number in numbers],
            "units": [number.units for number in numbers],
        }
    )


def last_quarter(layers: int) -> int:
    """The first layer of the last quarter of them."""
    return layers - max(1, layers // 4)
