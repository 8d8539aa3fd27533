"""Iterative inference: a head's own output added back into its input, Figures 9 and 19."""

from selfrepair.paper.experiments.self_gain.chosen_heads import Doses as Doses
from selfrepair.paper.experiments.self_gain.chosen_heads import choose_heads as choose_heads
from selfrepair.paper.experiments.self_gain.chosen_heads import study_doses as study_doses
from selfrepair.paper.experiments.self_gain.dose_figures import controls as controls
from selfrepair.paper.experiments.self_gain.dose_figures import repression as repression
from selfrepair.paper.experiments.self_gain.scan_figure import all_heads as all_heads
from selfrepair.paper.experiments.self_gain.scan_heads import OWN as OWN
from selfrepair.paper.experiments.self_gain.scan_heads import Scan as Scan
from selfrepair.paper.experiments.self_gain.scan_heads import for_scan as for_scan
from selfrepair.paper.experiments.self_gain.scan_heads import scan as scan
