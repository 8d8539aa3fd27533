"""After the sweep: texts of tokens and close-ups, so that single tokens can be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from selfrepair.errors import SelfRepairError
from selfrepair.results import manifest, run_folder
from selfrepair.results.extras import Extras
from selfrepair.results.runs import Run
from selfrepair.run.closeups.make_closeups import COLUMNS, closeups
from selfrepair.run.closeups.token_bytes import vocabulary_table
from selfrepair.run.gathering.best_effort import never_costs_the_run
from selfrepair.run.planning.job import Job
from selfrepair.run.storage.store import RESULTS, Store
from selfrepair.run.storage.unit_file import Arrays


def attach_closeups(job: Job, surveyed: Arrays, run: Run, store: Store | None, shown: bool) -> Run:
    """Adds to a finished run what the token view needs, and writes it beside the numbers.

    What the run has already stays. A failure is reported and costs the close-ups, not the run, which is on disk.

    Args:
        job: the run.
        surveyed: the merged survey.
        run: its results.
        store: its folder; None to write nothing.
        shown: whether to show progress.
    """
    closer = run.extras.closeups
    if closer is None and job.plan["ablation"]["positions"] == "all":  # close-ups show runs ablated everywhere
        with never_costs_the_run("close-ups of single tokens"):
            closer = closeups(job, surveyed, run.token_batches(COLUMNS), shown)
    vocabulary = run.extras.vocabulary
    if vocabulary is None:
        with never_costs_the_run("texts of tokens"):
            vocabulary = vocabulary_table(job.model.tokenizer, _named(job, closer))
    extras = Extras(vocabulary, run.extras.passages, closer)
    looked = replace(run, extras=extras)
    if store is not None and (closer is not run.extras.closeups or vocabulary is not run.extras.vocabulary):
        with never_costs_the_run("files of close-ups and texts of tokens"), store.alone(RESULTS):
            run_folder.add_extras(looked, store.folder)
    return looked


def closeups_of_before(store: Store, run: Run) -> Extras:
    """The close-ups of the results that lie in a folder, if they were made from the same units; reports if not.

    Args:
        store: the folder.
        run: the results that are about to replace those.
    """
    if not (store.folder / manifest.MANIFEST).is_file():
        return Extras()
    try:
        before = run_folder.load_run(store.folder)
    except SelfRepairError as problem:
        store.tell(f"The results in {store.folder} are made again from the units: {problem.problem}")
        return Extras()
    if before.outcome.get("made_of") == run.outcome["made_of"]:
        return before.extras
    if before.extras.closeups is not None:
        store.tell(f"The close-ups in {store.folder} are not of these {run.outcome['units']} units: they are removed.")
    return Extras()


def _named(job: Job, closer: pa.Table | None) -> Iterable[int]:
    """Tokens of the text and of the close-ups."""
    ids = [np.unique(job.windows.tokens)]
    if closer is not None:
        ids += [closer[name].combine_chunks().flatten().to_numpy() for name in ("tokens_before", "tokens_after")]
    return [int(token) for token in np.unique(np.concatenate(ids))]
