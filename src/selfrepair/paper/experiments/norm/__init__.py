"""The final norm repairs: Figures 4 to 6, 10, 11 and 16 to 18, Appendices A, B, D and G."""

from selfrepair.paper.experiments.norm.all_heads import fractions as fractions
from selfrepair.paper.experiments.norm.all_heads import repair_by_norm as repair_by_norm
from selfrepair.paper.experiments.norm.appendices import accounts as accounts
from selfrepair.paper.experiments.norm.appendices import significance as significance
from selfrepair.paper.experiments.norm.figures import one_head as one_head
from selfrepair.paper.experiments.norm.figures import ratios as ratios
from selfrepair.paper.experiments.norm.figures import stream_lengths as stream_lengths
from selfrepair.paper.experiments.norm.study import NormStudy as NormStudy
from selfrepair.paper.experiments.norm.study import choose_earlier as choose_earlier
from selfrepair.paper.experiments.norm.study import choose_last_layer as choose_last_layer
from selfrepair.paper.experiments.norm.study import study_norm as study_norm
