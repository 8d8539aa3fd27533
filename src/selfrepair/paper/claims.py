"""The paper's claims beside what a run measured: stated, measured with its interval, and whether it holds here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.numbers import Number

INF = math.inf
HOLDS, FAILS, OPEN, MISSING = "holds here", "does not hold here", "cannot be told here", "not measured"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        key: for reference.
        where: in the paper.
        stated: what it says, and of which model.
        exhibit: name of the exhibit, or its beginning.
        number: what the number's name contains; the first that does is taken.
        within: the range in which the claim takes the number to lie.
        reading: how words became that range.
    """

    key: str
    where: str
    stated: str
    exhibit: str
    number: str
    within: tuple[float, float]
    reading: str


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured."""

    claim: Claim
    number: Number | None

    @property
    def verdict(self) -> str:
        """Whether the whole interval lies in the claim's range, outside it, or across its edge.

        A number without an interval goes by its value.
        """
        number = self.number
        if number is None or math.isnan(number.value):
            return MISSING
        low, high = self.claim.within
        ends = (number.value, number.value) if math.isnan(number.low) else (number.low, number.high)
        if low <= ends[0] and ends[1] <= high:
            return HOLDS
        if ends[1] < low or ends[0] > high:
            return FAILS
        return OPEN


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C01",
        "Figure 2, section 2.2",
        "Many heads lie between y = −x and the x axis (Pythia-1B).",
        "figure-02",
        "x = DE",
        (0.5, 1),
        "more than half of the heads that help",
    ),
    Claim(
        "C01b",
        "Figure 2, our check",
        "The same with the measured change in direct effect across.",
        "figure-02",
        "x = DE - DE'",
        (0.5, 1),
        "more than half of the heads that help",
    ),
    Claim(
        "C02",
        "Figure 1",
        "Many heads in later layers are repaired (7 models).",
        "figure-01",
        "share of heads with SR > 0, last quarter",
        (0.5, 1),
        "more than half",
    ),
    Claim(
        "C02b",
        "Figure 1",
        "Self-repair is imperfect: not all of what is lost comes back.",
        "figure-01",
        "repaired fraction, last quarter",
        (0.0, 0.99),
        "above nothing and below everything",
    ),
    Claim(
        "C03",
        "Section 2.1",
        "The resampled direct effect is near zero.",
        "figure-01",
        "sum DE' / sum DE, all layers",
        (-0.1, 0.1),
        "within a tenth of the direct effect",
    ),
    Claim(
        "C03b",
        "Section 2.1, our check",
        "The same in the last layer, over all tokens.",
        "figure-02",
        "sum DE' / sum DE of the last layer",
        (-0.1, 0.1),
        "within a tenth of the direct effect",
    ),
    Claim(
        "C04",
        "Figure 3",
        "A head that is repaired on average is noisy from token to token (Pythia-410M L22H11, L20H6).",
        "figure-03",
        "correlation of DE and TE",
        (-0.9, 0.9),
        "correlation below 0.9 in size",
    ),
    Claim(
        "C36",
        "Section 2.3",
        "It is false that all late heads are repaired by about the same share (such as 70%).",
        "section-2-3",
        "spread of the repaired fraction",
        (0.2, INF),
        "10th and 90th percentile over 0.2 apart",
    ),
    Claim(
        "C06",
        "Section 2.3",
        "Some tokens are over-repaired: their logit ends on the other side.",
        "section-2-3",
        "over-repaired",
        (0.01, 1),
        "more than 1% of tokens",
    ),
    Claim(
        "C08",
        "Figure 4, section 3.2",
        "Clean over ablated scale above 1 on 90.66% of top tokens, resample (Pythia-160M L11H2).",
        "figure-04",
        "above 1, resample",
        (0.85, 1),
        "85% or more",
    ),
    Claim(
        "C09", "Figure 4", "The same on 98.75%, mean ablation.", "figure-04", "above 1, mean", (0.9, 1), "90% or more"
    ),
    Claim(
        "C10", "Figure 4", "The same on 100%, zero ablation.", "figure-04", "above 1, zero", (0.95, 1), "95% or more"
    ),
    Claim(
        "C11",
        "Figure 5",
        "Zero ablation can raise the logit although the direct effect is positive (Pythia-160M L11H10).",
        "figure-05",
        "logit rises, zero",
        (0.01, 1),
        "on more than 1% of helped tokens",
    ),
    Claim(
        "C12",
        "Figure 6",
        "The norm repairs in many late heads.",
        "figure-06",
        "norm's self-repair, last quarter",
        (0, INF),
        "mean above zero",
    ),
    Claim(
        "C13",
        "Section 3.2, Figure 11",
        "The norm explains about 30% of the direct effect (clipped per token).",
        "figure-11",
        "mean clip(norm / DE, 0, 1), all heads",
        (0.2, 0.4),
        "20 to 40%",
    ),
    Claim(
        "C13b",
        "Section 3.2, our check",
        "The same without clipping: ratio of sums.",
        "figure-11",
        "ratio of sums",
        (0.2, 0.4),
        "20 to 40%",
    ),
    Claim(
        "C13c",
        "Appendix A, our check",
        "That number needs the norm to repair: with its sign flipped it would be far smaller.",
        "figure-11",
        "sign of the norm's line flipped",
        (0, 0.1),
        "below 10%",
    ),
    Claim(
        "C14",
        "Section 5.2",
        "The norm explains up to about 30% of the self-repair.",
        "figure-06",
        "norm / self-repair, last quarter",
        (0, 0.4),
        "at most 40%",
    ),
    Claim(
        "C15",
        "Appendix A",
        "In 30% of cases the norm repairs more than the direct effect.",
        "figure-11",
        "at least DE",
        (0.2, 0.4),
        "20 to 40%",
    ),
    Claim(
        "C16",
        "Figure 10, Appendix A",
        "Unclipped fractions over all tokens are extreme.",
        "figure-11",
        "most extreme mean",
        (10, INF),
        "1000% or more for some head",
    ),
    Claim(
        "CB", "Appendix B", "The norm's term has a closed form.", "section-3", "closed form", (0, 1e-3), "to rounding"
    ),
    Claim(
        "C28",
        "Appendix D, Figure 16",
        "Zero ablation shortens the residual stream.",
        "figure-16",
        "shorter, zero",
        (0.5, 1),
        "on most positions",
    ),
    Claim(
        "C31",
        "Appendix G",
        "A ratio of 1.02 and 10 logits make 0.2 logits.",
        "appendix-g",
        "example",
        (0.19, 0.21),
        "arithmetic",
    ),
    Claim(
        "C17",
        "Figure 7",
        "The top repairing neuron erases, and erases less when the head is ablated (Pythia-160M L10H11).",
        "figure-07",
        "erases less",
        (0.5, 1),
        "on most tokens",
    ),
    Claim(
        "C18",
        "Figure 7",
        "The whole MLP's direct effect is mostly positive there.",
        "figure-07",
        "own DE is positive",
        (0.5, 1),
        "on most tokens",
    ),
    Claim(
        "C19",
        "Section 4.2.2",
        "No neuron is in the top ten of more than 16% of tokens.",
        "figure-07",
        "most frequent neuron",
        (0, 0.16),
        "at most 16%",
    ),
    Claim(
        "C19b",
        "Section 4.2.2",
        "Within a prompt the same neurons repair more often than across prompts.",
        "figure-07",
        "overlap within less between",
        (0, INF),
        "above zero",
    ),
    Claim(
        "C20",
        "Figure 8",
        "The top neuron repairs 10% of the direct effect on over 40% of tokens (Llama-7B L30H8).",
        "figure-08",
        "more than 10.0% of DE",
        (0.4, 1),
        "over 40%",
    ),
    Claim(
        "C23",
        "Section 4.2.1",
        "About 60% of neurons change negligibly.",
        "figure-12",
        "negligible change",
        (0.5, 0.75),
        "50 to 75%",
    ),
    Claim(
        "C26",
        "Appendix C",
        "The top repairing neurons have negative median direct effects.",
        "figure-12",
        "negative median DE",
        (0.5, 1),
        "most of the ten first",
    ),
    Claim(
        "C27",
        "Figures 9, 19",
        "Some heads repress themselves in proportion to what is added (GPT-2 medium L21H1).",
        "figure-09",
        "own output x 3",
        (-INF, 0.9),
        "slope below 0.9 at scale 3",
    ),
    Claim(
        "C27b",
        "Section 5.3, our check",
        "Repression is a response to the head's own output, not to any vector of its size.",
        "section-5-3-self-gain",
        "repress themselves beyond",
        (0.05, 1),
        "more heads than chance would give",
    ),
    Claim(
        "C34",
        "Section 5.3",
        "Moving the movers' input one layer up makes backup heads there move names.",
        "section-5-3-movers",
        "correlation of waking",
        (0.5, 1),
        "the heads that wake are those that answer to ablation",
    ),
    Claim(
        "C35",
        "Section 5.3",
        "Ablating name movers is covered for by backups.",
        "section-5-3-logit",
        "all movers: repaired fraction",
        (0.05, INF),
        "more than 5% made up",
    ),
)


def judge(exhibits: Sequence[Exhibit]) -> list[Verdict]:
    """Every claim with its number, where some exhibit has it."""
    return [Verdict(claim, _find(claim, exhibits)) for claim in CLAIMS]


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Claims as a table."""
    rows = []
    for one in verdicts:
        claim, number = one.claim, one.number
        rows.append(
            {
                "claim": claim.key,
                "where": claim.where,
                "stated": claim.stated,
                "read_as": claim.reading,
                "number": number.name if number else "",
                "value": number.value if number else float("nan"),
                "low": number.low if number else float("nan"),
                "high": number.high if number else float("nan"),
                "documents": number.documents if number else 0,
                "verdict": one.verdict,
            }
        )
    return pd.DataFrame(rows)


def _find(claim: Claim, exhibits: Sequence[Exhibit]) -> Number | None:
    for exhibit in exhibits:
        if exhibit.name.startswith(claim.exhibit):
            for number in exhibit.numbers:
                if claim.number in number.name:
                    return number
    return None
