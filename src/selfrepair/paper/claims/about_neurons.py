"""Claims of Figures 7, 8 and 12 to 15, section 4 and Appendix C: sparse neurons anti-erase."""

from __future__ import annotations

from selfrepair.paper.claims.paper_claim import INF, PaperClaim, unjudged

_TOP, _RANKS, _CHANGE = ("figure-07",), ("figure-08",), ("figure-12",)
_REPAIRED = "the head that MLPs repair most stands for it"

NEURONS: tuple[PaperClaim, ...] = (
    PaperClaim(
        "C17",
        "Section 4.1, Figure 7",
        "The top repairing neuron erases, and erases less when the head is ablated (Pythia-160M L10H11).",
        _TOP,
        "erases less",
        (0.5, 1),
        f"on most tokens; {_REPAIRED}",
    ),
    PaperClaim(
        "C18",
        "Section 4.1, Figure 7",
        "The whole MLP's direct effect is frequently positive there.",
        _TOP,
        "own DE is positive",
        (0.5, 1),
        "on most tokens, same head",
    ),
    PaperClaim(
        "C19",
        "Section 4.2.2",
        "No neuron is in the top ten of more than 16% of tokens (Pythia-160M L10H11).",
        _TOP,
        "neuron most frequent in the other half of documents",
        (0, 0.16),
        "at most 16%, of the neuron that is most frequent on the other half of the documents; same head",
    ),
    PaperClaim(
        "X08",
        "Section 4.2.2, our check",
        "Within a prompt the same neurons repair more often than across prompts.",
        _TOP,
        "overlap within less between",
        (0, INF),
        "above zero, same head",
    ),
    PaperClaim(
        "C20",
        "Section 4.2, Figure 8",
        "The top neuron repairs 10% of the direct effect on over 40% of tokens (Llama-7B L30H8).",
        _RANKS,
        "more than 10.0% of DE",
        (0.4, 1),
        f"over 40%; {_REPAIRED}",
    ),
    unjudged(
        "C21",
        "Figure 8",
        "Curves over ranks at 50, 10, 5, 2 and 1% (GPT2-small L9H11, Pythia-160M L7H8, Pythia-410M L17H4).",
        "the paper states no numbers of them; this model's curves are in Figure 8 below",
    ),
    unjudged(
        "C22",
        "Section 4.2",
        "Llama-7B, GPT2-small, Pythia-160M, Pythia-410M have 11008, 3072, 3072, 4096 neurons a layer.",
        "about those models' configurations; this model's number is in Figure 8 below",
    ),
    PaperClaim(
        "C23",
        "Section 4.2.1, Appendix C",
        "About 60% of the last layer's neurons change negligibly, 40% do not.",
        _CHANGE,
        "negligible change",
        (0.5, 0.75),
        f"50 to 75%; {_REPAIRED}",
    ),
    PaperClaim(
        "C24",
        "Appendix C, Figures 12–15",
        "The 1000 top repairing neurons (9.1%) carry about half of all absolute change (Llama-7B L30H8).",
        _CHANGE,
        "share of absolute change of the first",
        (0.4, 0.6),
        "the first 9.1% of ranks carry 40 to 60%, same head",
    ),
    PaperClaim(
        "C25",
        "Appendix C",
        "Ranks 2000 to 9000 of 11008 carry less than 15% of it (Llama-7B L30H8).",
        _CHANGE,
        "share of absolute change of ranks",
        (0, 0.15),
        "ranks from 18.2 to 81.8% carry less than 15%, same head",
    ),
    PaperClaim(
        "C26",
        "Appendix C",
        "The top repairing neurons have negative median direct effects (all but Llama-7B).",
        _CHANGE,
        "negative median DE",
        (0.5, 1),
        "most of the ten first ranks, same head",
    ),
)
