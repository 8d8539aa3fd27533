"""Comparison with the numbers that the paper's authors published."""

from collections.abc import Iterator

from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.published.per_head import compare_per_head as compare_per_head
from selfrepair.paper.experiments.published.reference_folder import read_published_heads as read_published_heads
from selfrepair.paper.experiments.published.reference_folder import read_self_repression as read_self_repression
from selfrepair.paper.experiments.published.slopes import compare_self_repression as compare_self_repression
from selfrepair.paper.study import Study, experiment


@experiment("Against published numbers", needs_reference=True)
def exhibits(study: Study) -> Iterator[Exhibit]:
    """Slopes and numbers per head, of the tables that the folder has."""
    assert study.reference is not None
    slopes = compare_self_repression(study.reference, study.model.name, study.slopes, study.slopes_about)
    if slopes is not None:
        yield slopes
    compared = slopes is not None
    for exhibit in compare_per_head(study.run, study.reference):
        yield exhibit
        compared = True
    if not compared:
        raise SelfRepairError(
            f"{study.reference} has no table of {study.model.name}.",
            "Its column `model` has to name the model measured.",
        )
