"""After the sweep: texts of tokens and close-ups, so that single tokens can be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from selfrepair.results import folder
from selfrepair.results.extras import Extras
from selfrepair.results.runs import Run
from selfrepair.run.afterwards import never_costs_the_run
from selfrepair.run.closeups import COLUMNS, closeups
from selfrepair.run.job import Job
from selfrepair.run.store import Arrays
from selfrepair.run.vocabulary import vocabulary_table


def look_closer(job: Job, surveyed: Arrays, run: Run, place: Path | None, shown: bool) -> Run:
    """Adds to a finished run what the token view needs, and writes it beside the numbers.

    What is there already stays. A failure costs what could not be made, and is said; never the run.

    Args:
        job: the run.
        surveyed: the merged survey.
        run: its results.
        place: its folder; None to write nothing.
        shown: whether to show progress.
    """
    there = Extras() if place is None else folder.read_extras(place)
    closer = there.closeups
    if closer is None:
        with never_costs_the_run("close-ups of single tokens"):
            closer = closeups(job, surveyed, run.token_batches(COLUMNS), shown)
    vocabulary = there.vocabulary
    if vocabulary is None:
        with never_costs_the_run("texts of tokens"):
            vocabulary = vocabulary_table(job.model.tokenizer, _named(job, closer))
    extras = Extras(vocabulary, run.extras.passages, closer)
    if place is not None:
        with never_costs_the_run("files of close-ups and texts of tokens"):
            folder.write_extras(extras, place)
    return replace(run, extras=extras)


def _named(job: Job, closer: pa.Table | None) -> Iterable[int]:
    """Tokens of the text and of the close-ups."""
    found = [np.unique(job.windows.tokens)]
    if closer is not None:
        found += [closer[name].combine_chunks().flatten().to_numpy() for name in ("tokens_before", "tokens_after")]
    return [int(token) for token in np.unique(np.concatenate(found))]
