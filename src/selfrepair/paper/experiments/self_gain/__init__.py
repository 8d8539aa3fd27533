"""Iterative inference: a head's own output added back into its input, Figures 9 and 19."""

from collections.abc import Iterator

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.experiments.self_gain.chosen_head_figures import repression as repression
from selfrepair.paper.experiments.self_gain.chosen_head_figures import slopes_beside_controls as slopes_beside_controls
from selfrepair.paper.experiments.self_gain.chosen_heads import ScaleStudy as ScaleStudy
from selfrepair.paper.experiments.self_gain.chosen_heads import choose_self_responding as choose_self_responding
from selfrepair.paper.experiments.self_gain.chosen_heads import study_scales as study_scales
from selfrepair.paper.experiments.self_gain.scan_figure import self_gain_by_depth as self_gain_by_depth
from selfrepair.paper.experiments.self_gain.scan_heads import OWN as OWN
from selfrepair.paper.experiments.self_gain.scan_heads import Scan as Scan
from selfrepair.paper.experiments.self_gain.scan_heads import for_scan as for_scan
from selfrepair.paper.experiments.self_gain.scan_heads import scan as scan
from selfrepair.paper.numbers.document_halves import FIRST
from selfrepair.paper.study import Study, experiment

SCALE_TOKENS = 384


@experiment("Iterative inference", needs_sweep=False)
def exhibits(study: Study) -> Iterator[Exhibit]:
    """All its figures; the slopes at each head's own scale are left in the study, for published ones."""
    part = for_scan(study.corpus(), study.scan_tokens)
    half = study.model.anatomy.layers // 2
    layers = list(range(half, study.model.anatomy.layers)) if study.recipe.original else None
    scanned = scan(part, layers=layers)
    why = dict(choose_self_responding(scanned.in_half(FIRST)))
    if why:
        scale_study = study_scales(for_scan(study.corpus(), min(SCALE_TOKENS, study.scan_tokens)), list(why))
        study.slopes = {
            (str(head), scale): scale_study.tallies[head, OWN, scale].slope("x", "at own scale", f"{head} x {scale:g}")
            for head in scale_study.heads
            for scale in scale_study.scales
        }
        study.slopes_about = f"{scale_study.about}."
        yield repression(scale_study, why)
        yield slopes_beside_controls(scale_study)
    yield self_gain_by_depth(scanned)
