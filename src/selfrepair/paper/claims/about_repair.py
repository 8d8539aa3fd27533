"""Claims of Figures 1 to 3 and section 2: self-repair exists, imperfect and noisy."""

from __future__ import annotations

from selfrepair.paper.claims.paper_claim import INF, MANY, PaperClaim, nth, unjudged
from selfrepair.paper.experiments.overview import SHOWN

_FIGURE_1, _FIGURE_2, _FIGURE_3, _SHARES = ("figure-01",), ("figure-02",), ("figure-03",), ("section-2-3",)
_CORRELATION = "correlation of DE and TE"
_MANY = "a quarter or more, each shown to (false discovery rate 5%),"
_NONE, _NONE_READ = (-0.3, 0.3), "correlation within 0.3 of zero"


def _noisy(key: str, rank: int) -> PaperClaim:
    """The claim that a repaired head of Figure 3, by its rank, is noisy."""
    reading = "correlation below 0.9 in size, same head"
    stated = "It is noisy from token to token."
    return PaperClaim(key, "Figure 3", stated, _FIGURE_3, _CORRELATION, (-0.9, 0.9), reading, nth(rank))


REPAIR: tuple[PaperClaim, ...] = (
    PaperClaim(
        "C01",
        "Figure 2, section 2.2",
        "Many heads lie between y = −x and the x axis (Pythia-1B).",
        _FIGURE_2,
        f"{SHOWN}, between y = -x and the axis, x = DE",
        MANY,
        f"{_MANY} of the heads that help",
    ),
    PaperClaim(
        "X01",
        "Figure 2, our check",
        "The same with the measured change in direct effect across.",
        _FIGURE_2,
        f"{SHOWN}, between y = -x and the axis, x = DE - DE'",
        MANY,
        f"{_MANY} of the heads that help",
    ),
    PaperClaim(
        "C02",
        "Figure 1",
        "Many heads in later layers have positive mean self-repair (7 models).",
        _FIGURE_1,
        f"{SHOWN}, SR > 0, last quarter",
        MANY,
        f"{_MANY} of the last quarter's heads",
    ),
    PaperClaim(
        "X02",
        "Figure 1, our check",
        "Self-repair is imperfect: not all of what is lost comes back.",
        _FIGURE_1,
        "repaired fraction, last quarter",
        (0.0, 0.99),
        "above nothing and below everything",
    ),
    PaperClaim(
        "C03",
        "Section 2.1",
        "The resampled direct effect is near zero.",
        _FIGURE_2,
        "DE' is within a tenth of it",
        (0.5, 1),
        "within a tenth of the direct effect for most heads that have one",
    ),
    PaperClaim(
        "X03",
        "Section 2.1, our check",
        "The same of the last layer, where an unchanged direct effect looks like repair in Figure 2.",
        _FIGURE_2,
        "sum DE' / sum DE of the last layer",
        (-0.1, 0.1),
        "within a tenth of the direct effect",
    ),
    PaperClaim(
        "C04a",
        "Figure 3",
        "Pythia-410M L22H11 appears repaired on average.",
        _FIGURE_3,
        ": repaired fraction",
        (0, INF),
        "above zero over all tokens; of the heads repaired on the other half of the documents, the one that loses most "
        "stands for it",
    ),
    _noisy("C04b", 0),
    PaperClaim(
        "C05a",
        "Figure 3",
        "Pythia-410M L20H6 appears repaired on average.",
        _FIGURE_3,
        ": repaired fraction",
        (0, INF),
        "above zero over all tokens; the second of those heads stands for it",
        nth(1),
    ),
    _noisy("C05b", 1),
    PaperClaim(
        "C06",
        "Figure 3",
        "No clear correlation of direct effect and change of the logit (Pythia-410M L23H1, without direct effect).",
        _FIGURE_3,
        _CORRELATION,
        _NONE,
        f"{_NONE_READ}; the late head with the least direct effect stands for it",
        nth(2),
    ),
    PaperClaim(
        "C07a",
        "Figure 3",
        "No clear correlation although there is direct effect (Pythia-410M L20H14).",
        _FIGURE_3,
        _CORRELATION,
        _NONE,
        f"{_NONE_READ}; the head with a direct effect and, on the other half of the documents, the weakest correlation "
        "stands for it",
        nth(3),
    ),
    PaperClaim(
        "C07b",
        "Figure 3",
        "Its direct effect may be nearly fully repaired.",
        _FIGURE_3,
        ": repaired fraction",
        (0.75, 1.25),
        "75 to 125% of what is lost, same head",
        nth(3),
    ),
    PaperClaim(
        "C36",
        "Section 2.3",
        "It is false that all late heads are repaired by about the same share (such as 70%).",
        _SHARES,
        "spread of the repaired fraction",
        (0.2, INF),
        "10th and 90th percentile over 0.2 apart, noise subtracted",
    ),
    PaperClaim(
        "X04",
        "Section 2.3, our check",
        "Some tokens are over-repaired: their logit ends on the other side.",
        _SHARES,
        "over-repaired",
        (0.01, 1),
        "more than 1% of tokens",
    ),
    unjudged(
        "C32",
        "Section 2.2, footnote 1",
        "Figures use a million tokens unless stated (Pythia, GPT-2 small and medium).",
        "about the authors' runs; this run's tokens are at the top of the page",
    ),
    unjudged(
        "C33",
        "Section 2.2, footnote 2",
        "Pythia-1B is a parallel attention model.",
        "about that model's configuration, not about this run",
    ),
)
