"""Numbers beside those that the paper's authors published."""

from selfrepair.paper.experiments.published.per_head import compare as compare
from selfrepair.paper.experiments.published.reference_folder import read_heads as read_heads
from selfrepair.paper.experiments.published.reference_folder import read_self_repression as read_self_repression
from selfrepair.paper.experiments.published.slopes import compare_self_repression as compare_self_repression
