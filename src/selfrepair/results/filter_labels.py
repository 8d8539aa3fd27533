"""Finds the filter of a run by label, spelling or kind."""

from __future__ import annotations

from selfrepair.errors import SelfRepairError
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter, main_filter


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
        return labels[main_filter([Filter.parse(label) for label in labels])]
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
