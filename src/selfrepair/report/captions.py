"""What every table and figure says about the run it shows: no number without its filter and operator."""

from __future__ import annotations

import numpy as np

from selfrepair.errors import SelfRepairError
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter

RATE = 0.05  # false discovery rate at which heads are called repaired


def resolve_filter(run: Run, wanted: str | None) -> str:
    """The label of a filter of this run.

    Args:
        run: the run.
        wanted: a label (`top 2%`), a spelling (`top:0.02`), a kind (`top`, where there is one), or None for
            the first top filter, or the first filter where there is none.

    Raises:
        SelfRepairError: no such filter, with those there are.
    """
    labels = run.filters
    if wanted is None:
        return next((label for label in labels if label.startswith("top")), labels[0])
    if wanted in labels:
        return wanted
    alike = [label for label in labels if label.split()[0] == wanted]
    if len(alike) == 1:
        return alike[0]
    try:
        label = Filter.parse(wanted).label
    except SelfRepairError:
        label = ""
    if label in labels:
        return label
    raise SelfRepairError(f"The run has no filter {wanted!r}.", f"Its filters are: {', '.join(labels)}.")


def fact(run: Run, name: str) -> str:
    """One of the run's attributes as text; `unknown` where it says nothing."""
    return str(run.heads.attrs.get(name, "unknown"))


def operator(run: Run) -> str:
    """The ablation operator with its donors."""
    donors = fact(run, "donors")
    said = f"{fact(run, 'operator')} ablation"
    return said if donors in ("unknown", "none", "", "0") else f"{said} (donors: {donors})"


def chosen_tokens(label: str) -> str:
    """A filter in words."""
    return "all tokens" if label == "all" else f"each head's {label} of tokens by clean direct effect"


def amount(run: Run, label: str) -> str:
    """Tokens per head under this filter and the documents they come from, in words."""
    part = run.heads.sel(filter=label)
    counts, documents = part["count"].values, part["documents"].values
    measured = counts > 0
    if not measured.any():
        return "no head has tokens"
    said = f"{_span(counts[measured])} tokens per head from {_span(documents[measured])} documents"
    without = int((~measured).sum())
    return f"{said}; {without} of {measured.size} heads have none" if without else said


def errors(run: Run) -> str:
    """What ± is, and whether the filter could be applied exactly in every replicate."""
    said = "± is a bootstrap standard error over documents, the filter applied anew in each replicate"
    short = run.heads.attrs.get("inexact_replicates", 0)
    if not isinstance(short, float | int) or short <= 0:
        return said
    share = f"{100 * short:.0f}%" if short >= 0.01 else "1%"
    return f"{said} (for some heads with too few kept tokens to do so exactly in up to {share} of them)"


def discoveries(run: Run, label: str) -> str:
    """How many heads are repaired under this filter at a false discovery rate of 5%, in words."""
    part = run.heads.sel(filter=label)
    q = part["q_value"].values
    tested = int(np.isfinite(q).sum())
    untested = int((part["count"].values > 0).sum()) - tested
    said = f"heads repaired at a false discovery rate of {100 * RATE:g}%: {int((q <= RATE).sum())} of {tested}"
    return f"{said} ({untested} more could not be tested)" if untested > 0 else said


def left_out(run: Run) -> str:
    """Which positions statistics leave out."""
    first = int(run.heads.attrs.get("first_position", 1))
    if first == 0:
        return "no position left out"
    return "position 0 left out" if first == 1 else f"positions 0 to {first - 1} left out"


def floor(run: Run) -> str:
    """Numerical floor and ledger residual, centred logits."""
    said = [
        f"{label} {_number(run.heads.attrs[name])}"
        for name, label in (("numerical_floor", "numerical floor"), ("ledger_residual", "ledger residual"))
        if name in run.heads.attrs
    ]
    return f"{' · '.join(said)} (logit)" if said else "numerical floor not measured"


def status(run: Run) -> str:
    """A warning where the run did not finish, else nothing."""
    said = fact(run, "status")
    return (
        "" if said in ("unknown", "complete", "finished", "done") else f"Run {said}: heads may have few tokens or none."
    )


def _span(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _number(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
