"""Whether self-repair exists: the paper's Figures 1, 2 and 20 to 24, from one sweep over all heads."""

from collections.abc import Iterator

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.overview.overview_figures import direct_against_total as direct_against_total
from selfrepair.paper.experiments.overview.overview_figures import idealised as idealised
from selfrepair.paper.experiments.overview.overview_figures import repair_by_depth as repair_by_depth
from selfrepair.paper.experiments.overview.overview_numbers import SHOWN as SHOWN
from selfrepair.paper.experiments.overview.overview_numbers import repair_numbers as repair_numbers
from selfrepair.paper.experiments.overview.runs_beside import about_all as about_all
from selfrepair.paper.experiments.overview.runs_beside import names_of_runs as names_of_runs
from selfrepair.paper.experiments.overview.runs_beside import read_beside as read_beside
from selfrepair.paper.study import Study, experiment


@experiment("Is there self-repair?")
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures."""
    runs = [study.run, *study.others]
    yield repair_by_depth(runs)
    yield direct_against_total(runs)
    yield idealised(runs)
