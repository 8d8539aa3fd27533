"""Name movers and their backups: who covers for whom when a model names the indirect object, section 5.3."""

from selfrepair.paper.experiments.name_movers.figures import logit_differences as logit_differences
from selfrepair.paper.experiments.name_movers.figures import movers_and_backups as movers_and_backups
from selfrepair.paper.experiments.name_movers.prompts import Prompts as Prompts
from selfrepair.paper.experiments.name_movers.prompts import make_prompts as make_prompts
from selfrepair.paper.experiments.name_movers.study import IoiStudy as IoiStudy
from selfrepair.paper.experiments.name_movers.study import study_ioi as study_ioi
