"""Claims of Figures 9 and 19, section 5.3 and Appendix F: iterative inference, name movers and backups."""

from __future__ import annotations

from selfrepair.paper.claims.paper_claim import INF, PaperClaim, unjudged
from selfrepair.paper.numbers.document_halves import ON_SECOND

_SLOPES, _CONTROLS, _ALL = ("figure-09",), ("figure-19",), ("section-5-3-self-gain",)
_MOVERS, _DIFFERENCES = ("section-5-3-movers",), ("section-5-3-logit",)

ITERATION: tuple[PaperClaim, ...] = (
    PaperClaim(
        "C27a",
        "Section 5.3, Figure 9",
        "A head represses itself: its new direct effect is below its clean one (GPT2-medium L21H1).",
        _SLOPES,
        f"own output x 3{ON_SECOND}",
        (-INF, 1),
        "slope below 1 at scale 3; the head that, on the other half of the documents, is most below a random direction "
        "stands for it",
    ),
    PaperClaim(
        "C27b",
        "Appendix F, Figure 19",
        "It does so in proportion to the scale of what is added.",
        _CONTROLS,
        f"fall of the slope below 1 per unit of scale, x 5 over x 1{ON_SECOND}",
        (2 / 3, 1.5),
        "the slope falls as much per unit of scale at 5 as at 1, within a factor of 1.5, same head",
    ),
    PaperClaim(
        "C27c",
        "Section 5.3, Figure 9",
        "It is its own output that it responds to.",
        _CONTROLS,
        f"slope less the lower control's, own output x 3{ON_SECOND}",
        (-INF, 0),
        "slope at scale 3 below those of another head's output and of a random direction, same head",
    ),
    PaperClaim(
        "X09",
        "Section 5.3, our check",
        "Repression is a response to the head's own output, not to any vector of its size.",
        _ALL,
        "repress themselves beyond a random direction",
        (0.05, 1),
        "more heads than the 2.5% that chance would give, 5% at least",
    ),
    PaperClaim(
        "C34",
        "Section 5.3",
        "Moving the stream of the movers' layer into the next makes backup heads move names.",
        _MOVERS,
        "change of backups' direct effect when the stream is moved",
        (0, INF),
        "above zero, backups of all layers above together; intervals over templates",
    ),
    PaperClaim(
        "X10",
        "Section 5.3, our check",
        "The heads that wake are those that answer to ablation.",
        _MOVERS,
        "correlation of waking",
        (0.5, 1),
        "correlation over heads above 0.5",
    ),
    PaperClaim(
        "X11",
        "Section 5.3, our check",
        "Ablating name movers is covered for by backups.",
        _DIFFERENCES,
        "all movers: repaired fraction",
        (0.05, INF),
        "more than 5% made up",
    ),
    unjudged(
        "C35",
        "Section 5.3",
        "Backup name movers move names on general text too (GPT-2, OpenWebText).",
        "backups are looked for on name prompts alone, and the paper gives no number",
    ),
)
