"""The final norm repairs: Figures 4 to 6, 10, 11 and 16 to 18, Appendices A, B, D and G."""

from collections.abc import Iterator

from selfrepair.errors import SelfRepairError
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.norm.all_heads import fractions as fractions
from selfrepair.paper.experiments.norm.all_heads import repair_by_norm as repair_by_norm
from selfrepair.paper.experiments.norm.appendices import accounts as accounts
from selfrepair.paper.experiments.norm.appendices import significance as significance
from selfrepair.paper.experiments.norm.norm_study import NormStudy as NormStudy
from selfrepair.paper.experiments.norm.norm_study import choose_earlier as choose_earlier
from selfrepair.paper.experiments.norm.norm_study import choose_last_layer as choose_last_layer
from selfrepair.paper.experiments.norm.norm_study import study_norm as study_norm
from selfrepair.paper.experiments.norm.scale_figures import one_head as one_head
from selfrepair.paper.experiments.norm.scale_figures import ratios as ratios
from selfrepair.paper.experiments.norm.scale_figures import stream_lengths as stream_lengths
from selfrepair.paper.study import Study, experiment


@experiment("The final norm")
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures."""
    last, earlier = choose_last_layer(study.run), choose_earlier(study.run)
    if not last:
        raise SelfRepairError("No head of the last layer has tokens.", "Take more --tokens.")
    norm_study = study_norm(study.corpus(), [*last, *earlier])
    yield ratios(norm_study, norm_study.heads[:1])
    # Figures 5 and 16 roll the donors by two rows in the original recipe
    rolled = study_norm(study.corpus(2), last[:2]) if study.recipe.original else norm_study
    second = last[min(1, len(last) - 1)]
    yield one_head(rolled, second)
    yield repair_by_norm(study.run)
    yield fractions(study.run)
    yield stream_lengths(rolled, second)
    if len(last) > 2:
        yield ratios(norm_study, norm_study.heads[2 : len(last)], "figure-17-scale-ratio")
    yield accounts(norm_study)
    yield significance(norm_study)
