"""Name movers and their backups: who covers for whom when a model names the indirect object, section 5.3."""

from collections.abc import Iterator

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.name_movers.ioi_prompts import IoiPrompts as IoiPrompts
from selfrepair.paper.experiments.name_movers.ioi_prompts import make_prompts as make_prompts
from selfrepair.paper.experiments.name_movers.ioi_study import IoiStudy as IoiStudy
from selfrepair.paper.experiments.name_movers.ioi_study import study_ioi as study_ioi
from selfrepair.paper.experiments.name_movers.name_mover_figures import logit_differences as logit_differences
from selfrepair.paper.experiments.name_movers.name_mover_figures import movers_and_backups as movers_and_backups
from selfrepair.paper.study import Study, experiment

PROMPTS_EACH = 2


@experiment("Name movers and backups", needs_sweep=False)
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures."""
    ioi_study = study_ioi(study.model, make_prompts(study.model.tokenizer, PROMPTS_EACH, study.seed))
    yield logit_differences(ioi_study)
    yield movers_and_backups(ioi_study)
