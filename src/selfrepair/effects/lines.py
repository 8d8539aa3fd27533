"""Defines the ledger's lines: ledger, statistics, files and page take their names and texts from here.

The line of a mechanism is the part of the self-repair that it accounts for; all lines of a ledger add up to it, token
by token. A new line is one entry here, and what engines book under its name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One entry of the ledger.

    Attributes:
        name: name in the ledger.
        short: its name on the page, after "repair by".
        title: long name in files.
        text: explanation, with how it is computed.
        formula: formula of a token's value, on the page.
        paper: where the paper has it.
        share_in_paper: where the paper has its share of the lost direct effect; the whole's share is explained above.
        units: units of its values.
        components: its terms, by kind (`head`, `attention`, `mlp`); nothing for norms.
        everywhere: whether every model has such a mechanism; others are shown where the line is not zero.
        linear: whether readouts that are linear in the stream have it, as those of runs over a corpus are.
    """

    name: str
    short: str
    title: str
    text: str
    formula: str
    paper: str
    share_in_paper: str = "as above"
    units: str = "logit"
    components: tuple[str, ...] = ()
    everywhere: bool = True
    linear: bool = True

    @property
    def quantity(self) -> str:
        """Name of the per-token quantity, in columns of files."""
        return f"repair_{self.name}"

    @property
    def share(self) -> str:
        """Name of its share of the lost direct effect."""
        return f"fraction_{self.name}"

    @property
    def heading(self) -> str:
        """Name of its mean on the page."""
        return f"repair by {self.short}"

    @property
    def share_heading(self) -> str:
        """Name of its share of the lost direct effect on the page."""
        return f"repaired by {self.short}, share"

    @property
    def share_formula(self) -> str:
        """How that share comes from sums over tokens."""
        return f"Σ {self.heading} / Σ L"


ALL_LINES = (
    Line(
        "heads",
        "heads",
        "self-repair by downstream heads",
        "sum over the other heads of ablated minus clean direct effect, at the clean sigma.",
        formula="Σ over other heads of (DE′ − DE)",
        paper="equation 2; section 4",
        components=("head", "attention"),
    ),
    Line(
        "mlps",
        "MLPs",
        "self-repair by MLP layers",
        "sum over the MLP layers of ablated minus clean direct effect, at the clean sigma.",
        formula="Σ over MLP layers of (DE′ − DE)",
        paper="equation 2; section 4.2",
        components=("mlp",),
    ),
    Line(
        "mixers",
        "mixers",
        "self-repair by mixers",
        "sum over the mixers (state spaces, convolutions, linear attention: no heads) of ablated minus clean direct "
        "effect, at the clean sigma; zero in models without any.",
        formula="Σ over mixers of (DE′ − DE)",
        paper="not in the paper (its models have none)",
        components=("mixer",),
        everywhere=False,
    ),
    Line(
        "post_norms",
        "post-norms",
        "self-repair by post-norms",
        "what the scales of norms after the sublayers did; zero in models without such norms.",
        formula="change of attention's write beyond its heads'",
        paper="not in the paper (its models have none)",
        everywhere=False,
    ),
    Line(
        "norm",
        "final norm",
        "self-repair by the final norm",
        "(1 - sigma' / sigma)(logit' - beta), primes marking the ablated run: what the change of the final "
        "norm's scale did.",
        formula="(1 − σ′/σ)(logit′ − β)",
        paper="equation 2 and Appendix B; Figure 6",
        share_in_paper="compare Figure 11, a mean of clipped ratios",
    ),
    Line(
        "curvature",
        "curvature",
        "what the readout's bending adds",
        "total effect less its linear part along the clean gradient: what log-probabilities change by beyond it.",
        formula="m′ − m − g·(logits′ − logits)",
        paper="not in the paper, which measures logits",
        everywhere=False,
        linear=False,
    ),
)
LINES = tuple(line for line in ALL_LINES if line.linear)

LINE_NAMES = tuple(line.name for line in ALL_LINES)
LINE_QUANTITIES = tuple(line.quantity for line in LINES)
